package dynamotable

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// RecentIndex is the name of the index that lists the calls.
const RecentIndex = "recent"

// clockSkew is how much later than now a call may seem to be known.
const clockSkew = time.Minute

// callAttributes returns the attributes of a call's item beside its record.
func callAttributes(r job.CallRecord) map[string]types.AttributeValue {
	c, ok := r.Listed()
	if !ok {
		return nil
	}
	return map[string]types.AttributeValue{
		"shard": number(int64(job.CallShard(c.First))), "first": text(c.Key()),
	}
}

// RecentCalls implements [jobtable.Stores] with two queries, of the shards of the last two hours, if these hours have
// enough calls. Otherwise it queries the other six shards, too.
func (s *Store) RecentCalls(
	ctx context.Context, now time.Time, from string, most int,
) (calls []job.ListedCall, next string, err error) {
	most = min(most, jobtable.MaxRecentCalls)
	latest := now.Add(clockSkew)
	if from != "" {
		begin, _, _ := strings.Cut(from, "/")
		if latest, err = time.Parse(time.RFC3339, begin); err != nil {
			return nil, "", errors.New("the page of calls begins at no key of the index")
		}
	}
	hour := latest.Truncate(time.Hour)
	shards := make([]int, job.CallShards)
	for i := range shards {
		shards[i] = job.CallShard(hour.Add(-time.Duration(i) * time.Hour))
	}
	calls, err = s.newest(ctx, shards[:2], from, most)
	if err != nil {
		return nil, "", err
	}
	// All calls of these hours are in these two shards, and those of earlier hours need not be.
	page, next := job.NewestCalls(calls, most)
	if last := len(page) - 1; next != "" && !page[last].First.Before(hour.Add(-time.Hour)) {
		return page, next, nil
	}
	others, err := s.newest(ctx, shards[2:], from, most)
	if err != nil {
		return nil, "", err
	}
	page, next = job.NewestCalls(append(calls, others...), most)
	return page, next, nil
}

// newest returns the newest calls of each shard, from a key on, and one more than most if there are as many.
func (s *Store) newest(ctx context.Context, shards []int, from string, most int) ([]job.ListedCall, error) {
	calls, errs := make([][]job.ListedCall, len(shards)), make([]error, len(shards))
	var queries sync.WaitGroup
	for i, shard := range shards {
		queries.Go(func() { calls[i], errs[i] = s.queryShard(ctx, shard, from, most+1) })
	}
	queries.Wait()
	var all []job.ListedCall
	for _, c := range calls {
		all = append(all, c...)
	}
	return all, errors.Join(errs...)
}

// queryShard reads one page of a shard. It has some hundred kilobytes at most, and so is a whole one.
func (s *Store) queryShard(ctx context.Context, shard int, from string, most int) ([]job.ListedCall, error) {
	in := &dynamodb.QueryInput{
		TableName:                 aws.String(s.table),
		IndexName:                 aws.String(RecentIndex),
		KeyConditionExpression:    aws.String("#shard = :shard"),
		ExpressionAttributeNames:  map[string]string{"#shard": "shard"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":shard": number(int64(shard))},
		ScanIndexForward:          aws.Bool(false),
		Limit:                     aws.Int32(int32(most)),
	}
	if from != "" {
		in.KeyConditionExpression = aws.String("#shard = :shard AND #first < :from")
		in.ExpressionAttributeNames["#first"] = "first"
		in.ExpressionAttributeValues[":from"] = text(from)
	}
	out, err := s.client.Query(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("query table %s: %w", s.table, err)
	}
	var calls []job.ListedCall
	for _, item := range out.Items {
		if c, ok := listedCall(item); ok {
			calls = append(calls, c)
		}
	}
	return calls, nil
}

// listedCall reads an item of the index.
func listedCall(item map[string]types.AttributeValue) (job.ListedCall, bool) {
	id, hasID := item["id"].(*types.AttributeValueMemberS)
	first, hasFirst := item["first"].(*types.AttributeValueMemberS)
	if !hasID || !hasFirst {
		return job.ListedCall{}, false
	}
	escaped, ok := strings.CutPrefix(id.Value, callKey(""))
	callID, err := url.PathUnescape(escaped)
	at, _, _ := strings.Cut(first.Value, "/")
	known, parseErr := time.Parse(time.RFC3339, at)
	return job.ListedCall{CallID: callID, First: known.UTC()}, ok && err == nil && parseErr == nil
}
