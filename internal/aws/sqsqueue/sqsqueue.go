// Package sqsqueue sends messages to an Amazon SQS standard queue and changes the
// visibility of received ones.
package sqsqueue

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ringback/ringback/internal/queue"
)

// Client is the part of an SQS client that a queue uses.
type Client interface {
	SendMessageBatch(
		context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options),
	) (*sqs.SendMessageBatchOutput, error)
	ChangeMessageVisibility(
		context.Context, *sqs.ChangeMessageVisibilityInput, ...func(*sqs.Options),
	) (*sqs.ChangeMessageVisibilityOutput, error)
	ChangeMessageVisibilityBatch(
		context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options),
	) (*sqs.ChangeMessageVisibilityBatchOutput, error)
}

// Queue is one queue.
type Queue struct {
	client Client
	url    string

	mu      sync.Mutex
	waiting []*visibility
}

// New returns the queue with a URL.
func New(client Client, url string) *Queue {
	return &Queue{client: client, url: url}
}

// sendRounds is how often a message is sent if its batch succeeds without it. The SDK's
// client repeats requests, but not parts of them.
const sendRounds = 3

// Send queues messages with as few requests as possible. It returns an error for each
// message, which is nil if the message was queued.
func (q *Queue) Send(ctx context.Context, messages []queue.Message) []error {
	errs := make([]error, len(messages))
	var pending []int
	for i, m := range messages {
		if err := m.Check(); err != nil {
			errs[i] = fmt.Errorf("send to %s: %w", q.url, err)
			continue
		}
		pending = append(pending, i)
	}
	for round := 0; len(pending) > 0 && round < sendRounds; round++ {
		var again []int
		for _, batch := range batches(messages, pending) {
			again = append(again, q.sendBatch(ctx, messages, batch, errs)...)
		}
		pending = again
	}
	return errs
}

// batches splits the pending messages into requests that SQS accepts.
func batches(messages []queue.Message, pending []int) [][]int {
	var all [][]int
	var batch []int
	size := 0
	for _, i := range pending {
		if len(batch) == queue.MaxBatch || size+len(messages[i].Body) > queue.MaxMessage && len(batch) > 0 {
			all = append(all, batch)
			batch, size = nil, 0
		}
		batch = append(batch, i)
		size += len(messages[i].Body)
	}
	return append(all, batch)
}

// sendBatch sends one batch, stores its errors in errs, and returns the messages that
// are worth another try.
func (q *Queue) sendBatch(ctx context.Context, messages []queue.Message, batch []int, errs []error) (again []int) {
	in := &sqs.SendMessageBatchInput{QueueUrl: aws.String(q.url)}
	for _, i := range batch {
		entry := types.SendMessageBatchRequestEntry{
			Id:          aws.String(strconv.Itoa(i)),
			MessageBody: aws.String(messages[i].Body),
			// 0 means the queue's own delay, which is 0.
			DelaySeconds: messages[i].DelaySeconds(),
		}
		if messages[i].Group != "" {
			entry.MessageGroupId = aws.String(messages[i].Group)
		}
		in.Entries = append(in.Entries, entry)
	}
	out, err := q.client.SendMessageBatch(ctx, in)
	if err != nil {
		// The client has already repeated the request as often as its configuration
		// allows.
		for _, i := range batch {
			errs[i] = fmt.Errorf("send to %s: %w", q.url, err)
		}
		return nil
	}
	// A message that the answer does not mention does not count as queued.
	for _, i := range batch {
		errs[i] = fmt.Errorf("send to %s: the answer does not mention the message", q.url)
	}
	for _, s := range out.Successful {
		if i, ok := index(s.Id, batch); ok {
			errs[i] = nil
		}
	}
	for _, f := range out.Failed {
		i, ok := index(f.Id, batch)
		if !ok {
			continue
		}
		errs[i] = fmt.Errorf("send to %s: %s: %s", q.url, aws.ToString(f.Code), aws.ToString(f.Message))
		if !f.SenderFault {
			again = append(again, i)
		}
	}
	return again
}

func index(id *string, batch []int) (int, bool) {
	i, err := strconv.Atoi(aws.ToString(id))
	if err != nil {
		return 0, false
	}
	for _, b := range batch {
		if b == i {
			return i, true
		}
	}
	return 0, false
}
