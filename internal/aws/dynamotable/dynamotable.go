// Package dynamo keeps job records in a DynamoDB table.
//
// The table's partition key is the string "id"; its time to live is the number
// "expires". An item holds the record as JSON in "record", and beside it what
// conditions and people look at: "revision", "state" and "tool". "save" names
// the write that made it, by a random text. The index "calls" has the jobs of a
// call, by the attributes "call" and "created" (milliseconds), with what their
// summaries need. A call, and a customer for whom results are kept, can have an
// item too, without "state" and "tool", and in no index.
package dynamotable

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// Client is what a store needs of a DynamoDB client.
type Client interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
}

// Index is the name of the index of calls' jobs.
const Index = "calls"

// Store keeps records in a table. It implements [jobtable.Stores].
type Store struct {
	records[job.Record]
	calls     records[job.CallRecord]
	customers records[job.CustomerRecord]
}

// New returns the store of the table with this name.
func New(client Client, table string) *Store {
	return &Store{
		records:   records[job.Record]{client, table, func(id string) string { return id }, jobAttributes},
		calls:     records[job.CallRecord]{client, table, callKey, nil},
		customers: records[job.CustomerRecord]{client, table, customerKey, nil},
	}
}

// Calls implements [jobtable.Stores].
func (s *Store) Calls() jobtable.Store[job.CallRecord] { return s.calls }

// Customers implements [jobtable.Stores].
func (s *Store) Customers() jobtable.Store[job.CustomerRecord] { return s.customers }

// callKey is where a call's record is. A job's id has a slash, and this has
// none, so that no job's record is there.
func callKey(callID string) string { return "call:" + url.PathEscape(callID) }

// customerKey is where a customer's record is; it has no slash either.
func customerKey(customer string) string { return "customer:" + customer }

// jobAttributes are the attributes of a job's item beside its record.
func jobAttributes(r job.Record) map[string]types.AttributeValue {
	summary := r.Summary()
	attributes := map[string]types.AttributeValue{
		"state":   text(string(r.State)),
		"tool":    text(r.Tool),
		"created": number(r.Created.UnixMilli()),
		"updated": number(r.Updated.UnixMilli()),
	}
	if r.CallID != "" { // a key may not be empty
		attributes["call"] = text(r.CallID)
	}
	if summary.Progress != "" {
		attributes["progress"] = text(summary.Progress)
	}
	if !summary.WakeAt.IsZero() {
		attributes["wake"] = number(summary.WakeAt.UnixMilli())
	}
	return attributes
}

// OfCall implements [jobtable.JobStore].
func (s *Store) OfCall(ctx context.Context, callID string) ([]job.Summary, error) {
	if callID == "" {
		return nil, nil
	}
	out, err := s.client.Query(ctx, &dynamodb.QueryInput{
		TableName:                 aws.String(s.table),
		IndexName:                 aws.String(Index),
		KeyConditionExpression:    aws.String("#call = :call"),
		ExpressionAttributeNames:  map[string]string{"#call": "call"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":call": text(callID)},
		ScanIndexForward:          aws.Bool(false),
		Limit:                     aws.Int32(jobtable.MaxOfCall),
	})
	if err != nil {
		return nil, fmt.Errorf("query table %s: %w", s.table, err)
	}
	summaries := make([]job.Summary, 0, len(out.Items))
	for _, item := range slices.Backward(out.Items) {
		summaries = append(summaries, summary(item))
	}
	return summaries, nil
}

// summary reads an item of the index. What is missing or broken is zero.
func summary(item map[string]types.AttributeValue) job.Summary {
	read := func(name string) string {
		v, _ := item[name].(*types.AttributeValueMemberS)
		if v == nil {
			return ""
		}
		return v.Value
	}
	at := func(name string) time.Time {
		v, _ := item[name].(*types.AttributeValueMemberN)
		if v == nil {
			return time.Time{}
		}
		ms, err := strconv.ParseInt(v.Value, 10, 64)
		if err != nil {
			return time.Time{}
		}
		return time.UnixMilli(ms).UTC()
	}
	return job.Summary{
		ID: read("id"), Tool: read("tool"), State: job.State(read("state")), Progress: read("progress"),
		WakeAt: at("wake"), Created: at("created"), Updated: at("updated"),
	}
}

// records keeps the records of one kind.
type records[R jobtable.Record[R]] struct {
	client     Client
	table      string
	id         func(key string) string
	attributes func(R) map[string]types.AttributeValue // beside the record; nil means none
}

// Load implements [jobtable.Store]. It reads consistently: a rule must see what
// was saved last.
func (s records[R]) Load(ctx context.Context, key string) (R, error) {
	var none R
	item, err := s.get(ctx, s.id(key))
	if err != nil {
		return none, fmt.Errorf("read table %s: %w", s.table, err)
	}
	if len(item) == 0 {
		return none, jobtable.ErrNotFound
	}
	r, err := decode[R](item)
	if err != nil {
		return none, fmt.Errorf("item %s of table %s: %w", s.id(key), s.table, err)
	}
	return r, nil
}

func decode[R jobtable.Record[R]](item map[string]types.AttributeValue) (r R, err error) {
	encoded, ok := item["record"].(*types.AttributeValueMemberS)
	if !ok {
		return r, errors.New("it has no record")
	}
	if err := json.Unmarshal([]byte(encoded.Value), &r); err != nil {
		return r, err
	}
	stored, ok := item["revision"].(*types.AttributeValueMemberN)
	if !ok {
		return r, errors.New("it has no revision")
	}
	revision, err := strconv.ParseInt(stored.Value, 10, 64)
	if err != nil {
		return r, fmt.Errorf("its revision: %w", err)
	}
	return r.WithRevision(revision), nil
}

// Save implements [jobtable.Store] with one conditional write.
func (s records[R]) Save(ctx context.Context, r R) (R, error) {
	var none R
	encoded, err := json.Marshal(r)
	if err != nil {
		return none, fmt.Errorf("encode the record: %w", err)
	}
	id, save, revision := s.id(r.Key()), rand.Text(), r.SavedRevision()
	in := &dynamodb.PutItemInput{
		TableName: aws.String(s.table),
		Item: map[string]types.AttributeValue{
			"id":       text(id),
			"revision": number(revision + 1),
			"expires":  number(r.Expires().Unix()),
			"record":   text(string(encoded)),
			"save":     text(save),
		},
	}
	if s.attributes != nil {
		maps.Copy(in.Item, s.attributes(r))
	}
	if revision == 0 {
		in.ConditionExpression = aws.String("attribute_not_exists(id)")
	} else {
		in.ConditionExpression = aws.String("revision = :revision")
		in.ExpressionAttributeValues = map[string]types.AttributeValue{":revision": number(revision)}
	}
	_, err = s.client.PutItem(ctx, in)
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		err = s.settle(ctx, id, save)
	}
	if err != nil {
		return none, fmt.Errorf("write table %s: %w", s.table, err)
	}
	return r.WithRevision(revision + 1), nil
}

// settle tells a lost race from a lost answer. The client repeats a write whose
// answer did not come; if the first one took effect, the repeat fails its
// condition, and what it finds is what it wrote itself. To take this for
// somebody else's change would leave the job with an owner who does not know.
// The records cannot tell: two who claim at the same time write the same one.
func (s records[R]) settle(ctx context.Context, id, save string) error {
	item, err := s.get(ctx, id)
	if err != nil {
		return err
	}
	if found, ok := item["save"].(*types.AttributeValueMemberS); !ok || found.Value != save {
		return jobtable.ErrChanged
	}
	return nil
}

func (s records[R]) get(ctx context.Context, id string) (map[string]types.AttributeValue, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(s.table),
		Key:            map[string]types.AttributeValue{"id": text(id)},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}
