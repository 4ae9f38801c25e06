package faults_test

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	minidyn "github.com/truora/minidyn/aws-v2/client"

	"github.com/ringback/ringback/internal/job"
)

// dynamoClient is a DynamoDB client whose every request is a step.
type dynamoClient struct {
	*minidyn.Client
	world *world
}

func (c *dynamoClient) GetItem(ctx context.Context, in *dynamodb.GetItemInput, options ...func(*dynamodb.Options)) (out *dynamodb.GetItemOutput, err error) {
	op, id := operation(in.Key, "load")
	err = c.world.step(ctx, op, id, func() (err error) {
		out, err = c.Client.GetItem(context.WithoutCancel(ctx), in, options...)
		return err
	})
	return out, err
}

func (c *dynamoClient) PutItem(ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options)) (out *dynamodb.PutItemOutput, err error) {
	state := job.State(text(in.Item, "state"))
	op, id := operation(in.Item, saveOp(state))
	err = c.world.step(ctx, op, id, func() (err error) {
		out, err = c.Client.PutItem(context.WithoutCancel(ctx), in, options...)
		if err == nil {
			c.world.marked(invocationOf(ctx), id, state)
		}
		return err
	})
	return out, err
}

// operation is what is done to an item, and of which job or call: the record of
// a call is kept in the same table.
func operation(item map[string]types.AttributeValue, op string) (string, string) {
	id := text(item, "id")
	if call, ok := strings.CutPrefix(id, "call:"); ok {
		verb, _, _ := strings.Cut(op, " ")
		return verb + " call", call
	}
	return op, id
}

func text(item map[string]types.AttributeValue, name string) string {
	if s, ok := item[name].(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

func (c *dynamoClient) records() []job.Record {
	out, err := c.Client.Scan(context.Background(), &dynamodb.ScanInput{TableName: new("jobs")})
	if err != nil {
		panic(err)
	}
	var all []job.Record
	for _, item := range out.Items {
		if strings.HasPrefix(text(item, "id"), "call:") {
			continue
		}
		var r job.Record
		if err := json.Unmarshal([]byte(text(item, "record")), &r); err != nil {
			panic(err)
		}
		all = append(all, r)
	}
	return all
}
