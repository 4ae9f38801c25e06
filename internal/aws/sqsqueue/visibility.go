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

	// visibilityTimeout bounds a change.
	visibilityTimeout = 10 * time.Second
)

// visibility is a change of the visibility timeout of one message.
type visibility struct {
	ctx     context.Context // its caller's, with a deadline
	receipt string
	seconds int32
	changed chan error
}

// until returns the deadline of a change. It is in the past if its caller does not wait any longer.
func (v *visibility) until() time.Time {
	if v.ctx.Err() != nil {
		return time.Time{}
	}
	deadline, _ := v.ctx.Deadline()
	return deadline
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
	ctx, cancel := context.WithTimeout(ctx, visibilityTimeout)
	defer cancel()
	d = min(max(d, 0), maxVisibility)
	v := &visibility{
		ctx: ctx, receipt: receipt, seconds: int32((d + time.Second - 1) / time.Second), changed: make(chan error, 1),
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
		go q.changeBatch(context.WithoutCancel(ctx), batch)
	}
}

// changeBatch makes several changes with one request. It repeats those that SQS fails to make. A request ends with the
// first deadline of its changes, and is repeated for the others: a change that is made after its caller gave up could
// undo a later one.
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
	for round := 0; len(left) > 0 && round < sendRounds; {
		in := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: aws.String(q.url)}
		now := time.Now()
		first := now.Add(visibilityTimeout)
		for id, v := range left {
			until := v.until()
			if !until.After(now) {
				end(&id, context.DeadlineExceeded)
				continue
			}
			if until.Before(first) {
				first = until
			}
			in.Entries = append(in.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
				Id: aws.String(id), ReceiptHandle: aws.String(v.receipt), VisibilityTimeout: v.seconds,
			})
		}
		if len(in.Entries) == 0 {
			return
		}
		request, cancel := context.WithDeadline(ctx, first)
		out, err := q.client.ChangeMessageVisibilityBatch(request, in)
		ended := request.Err() != nil
		cancel()
		if err != nil && ended {
			continue
		} else if err != nil {
			why = err
			break
		}
		round++
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
