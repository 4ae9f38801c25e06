// Package dynamotable keeps the records of jobs, calls and customers, and the renewed
// leases of jobs, in a DynamoDB table.
//
// The table's partition key is the string "id"; its time to live is the number
// "expires" (seconds since 1970). An item has the record as JSON in "record", as
// [job.EncodeRecord] returns it, and its revision in "revision", which conditions use.
// "save" is a random text that identifies the write that made the item.
//
// The item of a job also has the attributes of its [job.Summary]: "state", "tool",
// "progress", "wake", "created" and "updated" (milliseconds since 1970). The index
// "calls" projects them, with the partition key "call" and the sort key "created".
//
// The item of a call has the attributes "shard" (number) and "first" (string), the keys of
// the index "recent": see [Store.RecentCalls]. They never change, so that the index costs one
// write for each call. The other items are in no index.
package dynamotable

import (
	"context"
	"crypto/rand"
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

// Client is the part of a DynamoDB client that a store uses.
type Client interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
}

// Index is the name of the index that lists the jobs of a call.
const Index = "calls"

// Store keeps records in a table. It implements [jobtable.Stores].
type Store struct{ records[job.Record] }

// New returns the store of the table with this name.
func New(client Client, table string) *Store {
	return &Store{records[job.Record]{items{client, table}, unchanged, job.ShownID, jobAttributes}}
}

// Calls implements [jobtable.Stores].
func (s *Store) Calls() jobtable.Store[job.CallRecord] {
	return records[job.CallRecord]{s.items, callKey, job.CallHash, callAttributes}
}

// Customers implements [jobtable.Stores].
func (s *Store) Customers() jobtable.Store[job.CustomerRecord] {
	return records[job.CustomerRecord]{s.items, customerKey, unchanged, nil}
}

// Replays implements [jobtable.Stores].
func (s *Store) Replays() jobtable.Store[job.ReplayCopy] {
	return records[job.ReplayCopy]{s.items, replayKey, job.ShownID, nil}
}

// Renewals implements [jobtable.JobStore].
func (s *Store) Renewals() jobtable.Store[job.Renewal] {
	return records[job.Renewal]{s.items, renewalKey, job.ShownID, nil}
}

// Patterns of the ids of items, for the policies of the functions' roles. An asterisk stands
// for any text. The item of a call, a customer, a lease or a copy matches no other pattern than its own.
const (
	JobItems        = "j_*"
	EarlierJobItems = "*/*" // of jobs that an earlier version accepted: see [job.EarlierID]
	CallItems       = "call:*"
	CustomerItems   = "customer:*"
	LeaseItems      = "lease:*"
	ReplayItems     = replayPrefix + "*" // copies of jobs, for replays
)

const replayPrefix = "replay:"

// replayKey returns the id of the item with the copy of a job. It has no slash either.
func replayKey(jobID string) string { return replayPrefix + url.PathEscape(jobID) }

func unchanged(key string) string { return key }

// callKey returns the id of a call's item. It has no slash, unlike a job's id, so that
// it is never the id of a job's item.
func callKey(callID string) string { return "call:" + url.PathEscape(callID) }

// customerKey returns the id of a customer's item. It has no slash either.
func customerKey(customer string) string { return "customer:" + customer }

// renewalKey returns the id of the item of a job's renewed lease. It has no slash either.
func renewalKey(jobID string) string { return "lease:" + url.PathEscape(jobID) }

// jobAttributes returns the attributes of a job's item beside its record.
func jobAttributes(r job.Record) map[string]types.AttributeValue {
	summary := r.Summary()
	attributes := map[string]types.AttributeValue{
		"state":   text(string(r.State)),
		"tool":    text(r.Tool),
		"created": number(r.Created.UnixMilli()),
		"updated": number(r.Updated.UnixMilli()),
	}
	if r.CallID != "" { // DynamoDB refuses empty keys
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

// summary reads an item of the index. A missing or broken attribute becomes zero.
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
	items
	id         func(key string) string
	shown      func(key string) string                 // the key in errors, which must not quote a call's id
	attributes func(R) map[string]types.AttributeValue // beside the record; nil means none
}

// Load implements [jobtable.Store]. Its read is strongly consistent, as a rule must see
// the last save.
func (s records[R]) Load(ctx context.Context, key string) (R, error) {
	var none R
	item, err := s.get(ctx, text(s.id(key)))
	if err != nil {
		return none, fmt.Errorf("read table %s: %w", s.table, err)
	}
	if len(item) == 0 {
		return none, jobtable.ErrNotFound
	}
	r, err := decode[R](item)
	if err != nil {
		return none, fmt.Errorf("item %s of table %s: %w", s.id(s.shown(key)), s.table, err)
	}
	return r, nil
}

func decode[R jobtable.Record[R]](item map[string]types.AttributeValue) (r R, err error) {
	encoded, ok := item["record"].(*types.AttributeValueMemberS)
	if !ok {
		return r, errors.New("no record")
	}
	if err := job.DecodeRecord([]byte(encoded.Value), &r); err != nil {
		return r, err
	}
	stored, ok := item["revision"].(*types.AttributeValueMemberN)
	if !ok {
		return r, errors.New("no revision")
	}
	revision, err := strconv.ParseInt(stored.Value, 10, 64)
	if err != nil {
		return r, fmt.Errorf("revision: %w", err)
	}
	return r.WithRevision(revision), nil
}

// Save implements [jobtable.Store] with one conditional write.
func (s records[R]) Save(ctx context.Context, r R) (R, error) {
	var none R
	encoded, err := job.EncodeRecord(r)
	if err != nil {
		return none, err
	}
	item := map[string]types.AttributeValue{
		"id":      text(s.id(r.Key())),
		"expires": number(r.Expires().Unix()),
		"record":  text(string(encoded)),
	}
	if s.attributes != nil {
		maps.Copy(item, s.attributes(r))
	}
	if err := s.put(ctx, item, r.SavedRevision()); err != nil {
		return none, fmt.Errorf("write table %s: %w", s.table, err)
	}
	return r.WithRevision(r.SavedRevision() + 1), nil
}

// Delete implements [jobtable.Store].
func (s records[R]) Delete(ctx context.Context, r R) error {
	if err := s.delete(ctx, s.id(r.Key()), r.SavedRevision()); err != nil {
		return fmt.Errorf("delete from table %s: %w", s.table, err)
	}
	return nil
}

// items are the items of a table. Unlike records, they are compiled once for all kinds.
type items struct {
	client Client
	table  string
}

// put writes an item under the revision after this one, which it must have. Revision 0 means that there must be none.
func (s items) put(ctx context.Context, item map[string]types.AttributeValue, revision int64) error {
	save := rand.Text()
	item["revision"], item["save"] = number(revision+1), text(save)
	in := &dynamodb.PutItemInput{TableName: aws.String(s.table), Item: item}
	if revision == 0 {
		in.ConditionExpression = aws.String("attribute_not_exists(id)")
	} else {
		in.ConditionExpression = aws.String("revision = :revision")
		in.ExpressionAttributeValues = map[string]types.AttributeValue{":revision": number(revision)}
	}
	_, err := s.client.PutItem(ctx, in)
	if _, failed := errors.AsType[*types.ConditionalCheckFailedException](err); failed {
		return s.checkRace(ctx, item["id"], save)
	}
	return err
}

// checkRace distinguishes a lost race from a lost answer, after a write whose condition
// failed. The SDK's client repeats a write that got no answer. If the first one took
// effect, the repeat fails its condition, and the item is the one that the client wrote
// itself. If that counted as a change by others, the job would have an owner that does
// not know about its lease. The records look the same: two owners that claim a job at
// the same time may write equal ones.
func (s items) checkRace(ctx context.Context, id types.AttributeValue, save string) error {
	item, err := s.get(ctx, id)
	if err != nil {
		return err
	}
	if found, ok := item["save"].(*types.AttributeValueMemberS); !ok || found.Value != save {
		return jobtable.ErrChanged
	}
	return nil
}

// delete deletes the item with an id, which must have this revision.
func (s items) delete(ctx context.Context, id string, revision int64) error {
	_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName:                 aws.String(s.table),
		Key:                       map[string]types.AttributeValue{"id": text(id)},
		ConditionExpression:       aws.String("revision = :revision"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":revision": number(revision)},
	})
	if _, failed := errors.AsType[*types.ConditionalCheckFailedException](err); failed {
		return jobtable.ErrChanged
	}
	return err
}

// get reads the item with an id.
func (s items) get(ctx context.Context, id types.AttributeValue) (map[string]types.AttributeValue, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(s.table),
		Key:            map[string]types.AttributeValue{"id": id},
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
