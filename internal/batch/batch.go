// Package batch handles the messages of an SQS event side by side. Each of
// them succeeds or fails alone: what failed is in the partial batch response,
// and comes back after a delay of its own.
package batch

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// Queue is the queue that the messages come from.
type Queue interface {
	// ChangeVisibility hides a received message for d from now on.
	ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error
}

// Retry says that a message must be received again, after a delay. 0 means at
// once.
type Retry struct{ After time.Duration }

// Handle calls handle for every message of the event, at the same time, and
// gives the response. A message for which handle gives nil is deleted. One for
// which it panics is retried, so that it does not take the others with it.
func Handle(ctx context.Context, event events.SQSEvent, queue Queue, log *slog.Logger, handle func(context.Context, events.SQSMessage) *Retry) events.SQSEventResponse {
	retries := make([]*Retry, len(event.Records))
	var running sync.WaitGroup
	for i, message := range event.Records {
		running.Go(func() {
			if retries[i] = guard(ctx, log, message, handle); retries[i] == nil {
				return
			}
			// A message whose visibility cannot be changed comes back by the
			// queue's own timeout, which is later but not wrong.
			if err := queue.ChangeVisibility(ctx, message.ReceiptHandle, retries[i].After); err != nil {
				log.WarnContext(ctx, "the retry comes late", "message_id", message.MessageId, "error", err)
			}
		})
	}
	running.Wait()
	// An empty list, not null: Lambda takes both, but not every emulator does.
	response := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for i, retry := range retries {
		if retry != nil {
			response.BatchItemFailures = append(response.BatchItemFailures,
				events.SQSBatchItemFailure{ItemIdentifier: event.Records[i].MessageId})
		}
	}
	return response
}

func guard(ctx context.Context, log *slog.Logger, message events.SQSMessage, handle func(context.Context, events.SQSMessage) *Retry) (retry *Retry) {
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(ctx, "a message's handler panicked", "message_id", message.MessageId, "panic", p, "stack", string(debug.Stack()))
			retry = &Retry{After: Backoff(time.Second, Receives(message))}
		}
	}()
	return handle(ctx, message)
}

// Receives is how often a message has been received, this time included.
func Receives(message events.SQSMessage) int {
	n, err := strconv.Atoi(message.Attributes["ApproximateReceiveCount"])
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// MaxBackoff is the longest backoff: a caller does not wait for longer.
const MaxBackoff = 30 * time.Second

// Backoff is how long to wait after the n-th failure, counted from 1: first,
// then twice as long each time, up to [MaxBackoff].
func Backoff(first time.Duration, n int) time.Duration {
	delay := min(first, MaxBackoff)
	for i := 1; i < n && delay < MaxBackoff; i++ {
		delay = min(2*delay, MaxBackoff)
	}
	return delay
}
