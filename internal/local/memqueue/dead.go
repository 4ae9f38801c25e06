package memqueue

import (
	"container/heap"
	"context"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/queue"
)

// DeadLetters is a dead-letter queue as operators see it.
type DeadLetters struct{ *Queue }

// DeadLetters returns the queue as operators see it.
func (q *Queue) DeadLetters() *DeadLetters { return &DeadLetters{q} }

// Receive returns up to most visible messages, and hides them for a while. It returns none if no message is visible.
func (q *DeadLetters) Receive(ctx context.Context, most int, hide time.Duration) ([]queue.DeadLetter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	var event events.SQSEvent
	q.take(&event, most, now)
	letters := make([]queue.DeadLetter, len(event.Records))
	for i, r := range event.Records {
		m := q.inFlight[r.ReceiptHandle]
		m.visible = now.Add(hide)
		heap.Fix(m.in, m.index)
		letters[i] = queue.DeadLetter{
			ID: m.id, Receipt: m.receipt, Body: m.body, Group: m.group, Sent: m.sent, Receives: m.receives, Source: m.source,
		}
	}
	q.signal()
	return letters, nil
}

// Count returns the number of messages on the queue, hidden ones included.
func (q *DeadLetters) Count(ctx context.Context) (int, error) { return q.Len(), ctx.Err() }
