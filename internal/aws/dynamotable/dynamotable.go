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

// Store keeps records in a table.
type Store struct {
	client Client
	table  string
}

// New makes a store of the table with this name.
func New(client Client, table string) *Store {
	return &Store{client: client, table: table}
}

// Load implements [jobtable.Store].
func (s *Store) Load(ctx context.Context, id string) (r job.Record, err error) {
	r.Revision, err = s.load(ctx, id, &r)
	if err != nil {
		return job.Record{}, err
	}
	return r, nil
}

// Save implements [jobtable.Store].
func (s *Store) Save(ctx context.Context, r job.Record) (job.Record, error) {
	summary := r.Summary()
	beside := map[string]types.AttributeValue{
		"state":   text(string(r.State)),
		"tool":    text(r.Tool),
		"created": number(r.Created.UnixMilli()),
		"updated": number(r.Updated.UnixMilli()),
	}
	if r.CallID != "" { // a key may not be empty
		beside["call"] = text(r.CallID)
	}
	if summary.Progress != "" {
		beside["progress"] = text(summary.Progress)
	}
	if !summary.WakeAt.IsZero() {
		beside["wake"] = number(summary.WakeAt.UnixMilli())
	}
	err := s.save(ctx, r.ID, r.Revision, r.Expires(), r, beside)
	if err != nil {
		return job.Record{}, err
	}
	r.Revision++
	return r, nil
}

// callKey is where a call's record is. A job's id has a slash, and this has
// none, so that no job's record is there.
func callKey(callID string) string { return "call:" + url.PathEscape(callID) }

// LoadCall implements [jobtable.CallStore].
func (s *Store) LoadCall(ctx context.Context, callID string) (r job.CallRecord, err error) {
	r.Revision, err = s.load(ctx, callKey(callID), &r)
	if err != nil {
		return job.CallRecord{}, err
	}
	return r, nil
}

// SaveCall implements [jobtable.CallStore].
func (s *Store) SaveCall(ctx context.Context, r job.CallRecord) (job.CallRecord, error) {
	if err := s.save(ctx, callKey(r.CallID), r.Revision, r.Expires(), r, nil); err != nil {
		return job.CallRecord{}, err
	}
	r.Revision++
	return r, nil
}

// OfCall implements [jobtable.Store].
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

// customerKey is where a customer's record is; it has no slash either.
func customerKey(customer string) string { return "customer:" + customer }

// LoadCustomer implements [jobtable.CustomerStore].
func (s *Store) LoadCustomer(ctx context.Context, customer string) (r job.CustomerRecord, err error) {
	r.Revision, err = s.load(ctx, customerKey(customer), &r)
	if err != nil {
		return job.CustomerRecord{}, err
	}
	return r, nil
}

// SaveCustomer implements [jobtable.CustomerStore].
func (s *Store) SaveCustomer(ctx context.Context, r job.CustomerRecord) (job.CustomerRecord, error) {
	if err := s.save(ctx, customerKey(r.Customer), r.Revision, r.Expires(), r, nil); err != nil {
		return job.CustomerRecord{}, err
	}
	r.Revision++
	return r, nil
}

// load reads a record into what it points to, and gives its revision. It reads
// consistently: a rule must see what was saved last.
func (s *Store) load(ctx context.Context, id string, record any) (int64, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(s.table),
		Key:            map[string]types.AttributeValue{"id": text(id)},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return 0, fmt.Errorf("read table %s: %w", s.table, err)
	}
	if len(out.Item) == 0 {
		return 0, jobtable.ErrNotFound
	}
	encoded, ok := out.Item["record"].(*types.AttributeValueMemberS)
	if !ok {
		return 0, fmt.Errorf("item %s of table %s has no record", id, s.table)
	}
	if err := json.Unmarshal([]byte(encoded.Value), record); err != nil {
		return 0, fmt.Errorf("item %s of table %s: %w", id, s.table, err)
	}
	stored, ok := out.Item["revision"].(*types.AttributeValueMemberN)
	if !ok {
		return 0, fmt.Errorf("item %s of table %s has no revision", id, s.table)
	}
	revision, err := strconv.ParseInt(stored.Value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("item %s of table %s: its revision: %w", id, s.table, err)
	}
	return revision, nil
}

// save writes a record with one conditional write: the stored one must have
// the given revision still. What is in beside goes into the item as it is.
func (s *Store) save(ctx context.Context, id string, revision int64, expires time.Time, record any, beside map[string]types.AttributeValue) error {
	encoded, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode the record: %w", err)
	}
	save := rand.Text()
	in := &dynamodb.PutItemInput{
		TableName: aws.String(s.table),
		Item: map[string]types.AttributeValue{
			"id":       text(id),
			"revision": number(revision + 1),
			"expires":  number(expires.Unix()),
			"record":   text(string(encoded)),
			"save":     text(save),
		},
	}
	maps.Copy(in.Item, beside)
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
		return fmt.Errorf("write table %s: %w", s.table, err)
	}
	return nil
}

// settle tells a lost race from a lost answer. The client repeats a write whose
// answer did not come; if the first one took effect, the repeat fails its
// condition, and what it finds is what it wrote itself. To take this for
// somebody else's change would leave the job with an owner who does not know.
// The records cannot tell: two who claim at the same time write the same one.
func (s *Store) settle(ctx context.Context, id, save string) error {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(s.table),
		Key:            map[string]types.AttributeValue{"id": text(id)},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return err
	}
	if found, ok := out.Item["save"].(*types.AttributeValueMemberS); !ok || found.Value != save {
		return jobtable.ErrChanged
	}
	return nil
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}
