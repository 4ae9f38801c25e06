package sqsqueue

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ringback/ringback/internal/queue"
)

const (
	// maxVisibility is a little less than the longest visibility timeout, which is 12 hours
	// after the message was received (Amazon SQS quotas): that was a while ago.
	maxVisibility = 11 * time.Hour

	// visibilityTimeout bounds a change whose context has no deadline.
	visibilityTimeout = 10 * time.Second
)

// visibility is a change of the visibility timeout of one message.
type visibility struct {
	receipt string
	seconds int32
	until   time.Time // its deadline
	changed chan error
}

// gather lets others change visibilities before the first of them makes a request.
var gather = runtime.Gosched

// ChangeVisibility hides a received message for d from now on, rounded up to whole
// seconds. With 0 or less, it can be received again at once. Changes that are made at the
// same time share a request, since the jobs of a batch start together.
func (q *Queue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	if receipt == "" {
		return errors.New("empty receipt handle")
	}
	d = min(max(d, 0), maxVisibility)
	v := &visibility{receipt: receipt, seconds: int32((d + time.Second - 1) / time.Second), changed: make(chan error, 1)}
	var bounded bool
	if v.until, bounded = ctx.Deadline(); !bounded {
		v.until = time.Now().Add(visibilityTimeout)
	}
	q.mu.Lock()
	q.waiting = append(q.waiting, v)
	first := len(q.waiting) == 1
	q.mu.Unlock()
	if first {
		gather()
		q.mu.Lock()
		all := q.waiting
		q.waiting = nil
		q.mu.Unlock()
		q.changeAll(ctx, all)
	}
	var err error
	select {
	case err = <-v.changed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("change visibility of a message of %s: %w", q.url, err)
	}
	return nil
}

// changeAll makes changes with as few requests as possible. It makes several of them beside its caller, whose context
// may end before those of the others.
func (q *Queue) changeAll(ctx context.Context, all []*visibility) {
	if len(all) == 1 {
		_, err := q.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
			QueueUrl: aws.String(q.url), ReceiptHandle: aws.String(all[0].receipt), VisibilityTimeout: all[0].seconds,
		})
		all[0].changed <- err
		return
	}
	for batch := range slices.Chunk(all, queue.MaxBatch) {
		last := slices.MaxFunc(batch, func(a, b *visibility) int { return a.until.Compare(b.until) })
		go func() {
			ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), last.until)
			defer cancel()
			q.changeBatch(ctx, batch)
		}()
	}
}

// changeBatch makes several changes with one request. It repeats those that SQS fails to make.
func (q *Queue) changeBatch(ctx context.Context, batch []*visibility) {
	left := make(map[string]*visibility) // by the id of the entry
	for i, v := range batch {
		left[strconv.Itoa(i)] = v
	}
	end := func(id *string, err error) {
		if v := left[aws.ToString(id)]; v != nil {
			v.changed <- err
			delete(left, *id)
		}
	}
	why := errors.New("the answer does not mention the message")
	for round := 0; len(left) > 0 && round < sendRounds; round++ {
		in := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: aws.String(q.url)}
		for id, v := range left {
			in.Entries = append(in.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
				Id: aws.String(id), ReceiptHandle: aws.String(v.receipt), VisibilityTimeout: v.seconds,
			})
		}
		out, err := q.client.ChangeMessageVisibilityBatch(ctx, in)
		if err != nil {
			why = err
			break
		}
		for _, s := range out.Successful {
			end(s.Id, nil)
		}
		for _, f := range out.Failed {
			why = fmt.Errorf("%s: %s", aws.ToString(f.Code), aws.ToString(f.Message))
			if f.SenderFault {
				end(f.Id, why)
			}
		}
	}
	for _, v := range left {
		v.changed <- why
	}
}
