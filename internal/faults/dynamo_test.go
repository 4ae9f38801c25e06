package faults_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	minidyn "github.com/truora/minidyn/aws-v2/client"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/job"
)

// dynamoClient is a DynamoDB client. Each of its requests is a step.
type dynamoClient struct {
	*minidyn.Client
	world  *world
	expiry *expiry // nil means that nothing expires
}

func (c *dynamoClient) GetItem(
	ctx context.Context, in *dynamodb.GetItemInput, options ...func(*dynamodb.Options),
) (out *dynamodb.GetItemOutput, err error) {
	op, id := c.operation(in.Key, "load")
	err = c.world.step(ctx, op, id, func() (err error) {
		c.expire()
		out, err = c.Client.GetItem(context.WithoutCancel(ctx), in, options...)
		return err
	})
	return out, err
}

func (c *dynamoClient) PutItem(
	ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options),
) (out *dynamodb.PutItemOutput, err error) {
	state := job.State(text(in.Item, "state"))
	op, id := c.operation(in.Item, saveOp(state))
	err = c.world.step(ctx, op, id, func() (err error) {
		c.expire()
		out, err = c.Client.PutItem(context.WithoutCancel(ctx), in, options...)
		if err == nil {
			c.expiry.save(in.Item)
			record := text(in.Item, "record")
			c.world.marked(invocationOf(ctx), id, state, strings.Contains(record, `"textAt":`),
				strings.Contains(record, `"heard":true`))
		}
		return err
	})
	return out, err
}

func (c *dynamoClient) Query(
	ctx context.Context, in *dynamodb.QueryInput, options ...func(*dynamodb.Options),
) (out *dynamodb.QueryOutput, err error) {
	err = c.world.step(ctx, "query", text(in.ExpressionAttributeValues, ":call"), func() (err error) {
		c.expire()
		out, err = c.Client.Query(context.WithoutCancel(ctx), in, options...)
		return err
	})
	return out, err
}

// Scan is what a sweep does.
func (c *dynamoClient) Scan(
	ctx context.Context, in *dynamodb.ScanInput, options ...func(*dynamodb.Options),
) (out *dynamodb.ScanOutput, err error) {
	err = c.world.step(ctx, "sweep", "", func() (err error) {
		c.expire()
		out, err = c.Client.Scan(context.WithoutCancel(ctx), in, options...)
		return err
	})
	return out, err
}

func (c *dynamoClient) makeTable(ctx context.Context) error {
	_, err := c.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName: new("jobs"), BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{{AttributeName: new("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: new("id"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: new("call"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: new("created"), AttributeType: types.ScalarAttributeTypeN},
			{AttributeName: new("shard"), AttributeType: types.ScalarAttributeTypeN},
			{AttributeName: new("first"), AttributeType: types.ScalarAttributeTypeS},
		},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName: new(dynamotable.Index), Projection: &types.Projection{ProjectionType: types.ProjectionTypeAll},
			KeySchema: []types.KeySchemaElement{
				{AttributeName: new("call"), KeyType: types.KeyTypeHash},
				{AttributeName: new("created"), KeyType: types.KeyTypeRange},
			},
		}, {
			IndexName: new(dynamotable.RecentIndex), Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
			KeySchema: []types.KeySchemaElement{
				{AttributeName: new("shard"), KeyType: types.KeyTypeHash},
				{AttributeName: new("first"), KeyType: types.KeyTypeRange},
			},
		}},
	})
	return err
}

// operation returns the name of a request for an item, and the job, call or customer
// whose item it is: all records are in the same table.
func (c *dynamoClient) operation(item map[string]types.AttributeValue, op string) (string, string) {
	id := text(item, "id")
	verb, _, _ := strings.Cut(op, " ")
	if call, ok := strings.CutPrefix(id, "call:"); ok {
		return verb + " call", call
	}
	if lease, ok := strings.CutPrefix(id, "lease:"); ok {
		if id, err := url.PathUnescape(lease); err == nil {
			lease = id
		}
		return verb + " lease", lease
	}
	if customer, ok := strings.CutPrefix(id, "customer:"); ok {
		return verb + " customer", c.world.customerOf(customer)
	}
	return op, id
}

func text(item map[string]types.AttributeValue, name string) string {
	if s, ok := item[name].(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

// records returns the records of all jobs, including those that have expired.
func (c *dynamoClient) records() []job.Record {
	out, err := c.Client.Scan(context.Background(), &dynamodb.ScanInput{TableName: new("jobs")})
	if err != nil {
		panic(err)
	}
	all := c.expiry.records()
	for _, item := range out.Items {
		if r, ok := recordIn(item); ok {
			all = append(all, r)
		}
	}
	return all
}

// recordIn returns the record in the item of a job. It returns false if the item is of a call or a customer.
func recordIn(item map[string]types.AttributeValue) (r job.Record, ok bool) {
	if text(item, "state") == "" {
		return r, false
	}
	if err := json.Unmarshal([]byte(text(item, "record")), &r); err != nil {
		panic(err)
	}
	return r, true
}
