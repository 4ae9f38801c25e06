// Package batch handles the messages of an SQS event concurrently. Each message
// succeeds or fails on its own. A failed one is in the partial batch response, and is
// received again after its own delay.
package batch

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/job"
)

// Queue is the queue that the messages come from.
type Queue interface {
	// ChangeVisibility hides a received message for d, counted from now.
	ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error
}

// Retry means that a message must be received again.
type Retry struct{ After time.Duration } // 0 means at once

// Handle calls handle for every message of the event concurrently, and returns the
// response. The queue deletes a message for which handle returns nil. If handle panics,
// only its own message is retried. source returns the queue that a message came from.
func Handle(
	ctx context.Context, event events.SQSEvent, source func(events.SQSMessage) Queue, log *slog.Logger,
	handle func(context.Context, events.SQSMessage) *Retry,
) events.SQSEventResponse {
	retries := make([]*Retry, len(event.Records))
	var running sync.WaitGroup
	for i, message := range event.Records {
		running.Go(func() {
			if retries[i] = guard(ctx, log, message, handle); retries[i] == nil {
				return
			}
			// Otherwise the message returns after the queue's own visibility
			// timeout, which is later but correct.
			err := source(message).ChangeVisibility(ctx, message.ReceiptHandle, retries[i].After)
			if err != nil {
				log.WarnContext(
					ctx, "cannot set the retry delay; the queue's visibility timeout applies", "message_id", message.MessageId,
					"error", err,
				)
			}
		})
	}
	running.Wait()
	// An empty list instead of null: Lambda accepts both, but some emulators do not.
	response := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for i, retry := range retries {
		if retry != nil {
			response.BatchItemFailures = append(response.BatchItemFailures,
				events.SQSBatchItemFailure{ItemIdentifier: event.Records[i].MessageId})
		}
	}
	return response
}

// guard calls handle and turns a panic into a retry.
func guard(
	ctx context.Context, log *slog.Logger, message events.SQSMessage,
	handle func(context.Context, events.SQSMessage) *Retry,
) (retry *Retry) {
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(ctx, "message handler panicked",
				"message_id", message.MessageId, "panic", p, "stack", string(debug.Stack()))
			retry = &Retry{After: Backoff(time.Second, Receives(message))}
		}
	}()
	return handle(ctx, message)
}

// Receives returns how often a message has been received, this time included.
func Receives(message events.SQSMessage) int {
	n, err := strconv.Atoi(message.Attributes["ApproximateReceiveCount"])
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// MaxBackoff is the longest backoff. A caller does not wait longer.
const MaxBackoff = 30 * time.Second

// Backoff returns how long to wait after the n-th failure, counted from 1: first, then
// twice as long each time, up to [MaxBackoff].
func Backoff(first time.Duration, n int) time.Duration { return growing(first, MaxBackoff, n) }

func growing(first, most time.Duration, n int) time.Duration {
	delay := min(first, most)
	for i := 1; i < n && delay < most; i++ {
		delay = min(2*delay, most)
	}
	return delay
}

const (
	// firstUnreadable is the delay before the second receive of an unreadable message.
	// maxUnreadable bounds the delays, which grow: an update is not noticed later. In the
	// fewest receives that a queue allows (17: see queue.LimitsFor), they add up to 55
	// minutes. A deployment takes some minutes, and a rollback as long again.
	firstUnreadable = 5 * time.Second
	maxUnreadable   = 5 * time.Minute
)

// RetryAfter returns the retry of a message that failed with an error: see [Backoff]. If
// the message or its record is unreadable, a newer version may be on its way, and the
// retries outlast its deployment: see [job.ErrUnreadable].
func RetryAfter(err error, first time.Duration, receives int) *Retry {
	if !errors.Is(err, job.ErrUnreadable) {
		return &Retry{After: Backoff(first, receives)}
	}
	return &Retry{After: growing(firstUnreadable, maxUnreadable, receives)}
}
