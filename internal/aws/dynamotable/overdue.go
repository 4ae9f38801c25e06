package dynamotable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ringback/ringback/internal/job"
)

// Overdue implements [jobtable.JobStore] with one page of the index, which has 1 MB at most (Amazon
// DynamoDB developer guide, "Scanning tables"): thousands of jobs. Only the process function has the
// permission.
func (s *Store) Overdue(ctx context.Context, now time.Time, from string) (jobs []job.Summary, next string, err error) {
	start, err := decodeKey(from)
	if err != nil {
		return nil, "", fmt.Errorf("scan table %s: %w", s.table, err)
	}
	out, err := s.client.Scan(ctx, &dynamodb.ScanInput{
		TableName:                aws.String(s.table),
		IndexName:                aws.String(Index),
		ExclusiveStartKey:        start,
		FilterExpression:         aws.String("#state IN (:waiting, :done, :kept)"),
		ExpressionAttributeNames: map[string]string{"#state": "state"},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":waiting": text(string(job.StateWaiting)), ":done": text(string(job.StateDone)),
			":kept": text(string(job.StateParked)),
		},
	})
	if err != nil {
		return nil, "", fmt.Errorf("scan table %s: %w", s.table, err)
	}
	for _, item := range out.Items {
		if s := summary(item); s.Overdue(now) {
			jobs = append(jobs, s)
		}
	}
	if next, err = encodeKey(out.LastEvaluatedKey); err != nil {
		return nil, "", fmt.Errorf("scan table %s: %w", s.table, err)
	}
	return jobs, next, nil
}

// indexKey is the key of an item of the index: the keys of the table and of the index.
type indexKey struct {
	ID      string `json:"id"`
	Call    string `json:"call"`
	Created string `json:"created"` // a number
}

func encodeKey(key map[string]types.AttributeValue) (string, error) {
	if len(key) == 0 {
		return "", nil
	}
	id, hasID := key["id"].(*types.AttributeValueMemberS)
	call, hasCall := key["call"].(*types.AttributeValueMemberS)
	created, hasCreated := key["created"].(*types.AttributeValueMemberN)
	if !hasID || !hasCall || !hasCreated {
		return "", errors.New("the last key of the page is not one of the index")
	}
	encoded, err := json.Marshal(indexKey{ID: id.Value, Call: call.Value, Created: created.Value})
	return string(encoded), err
}

func decodeKey(from string) (map[string]types.AttributeValue, error) {
	if from == "" {
		return nil, nil
	}
	var key indexKey
	if err := json.Unmarshal([]byte(from), &key); err != nil {
		return nil, errors.New("the page begins at no key of the index")
	}
	return map[string]types.AttributeValue{
		"id": text(key.ID), "call": text(key.Call), "created": &types.AttributeValueMemberN{Value: key.Created},
	}, nil
}
