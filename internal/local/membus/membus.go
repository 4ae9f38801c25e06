// Package membus takes events of undelivered results and keeps them in memory, in
// place of an EventBridge event bus. It is for local runs and tests.
package membus

import (
	"context"
	"slices"
	"sync"

	"github.com/ringback/ringback/internal/job"
)

// Bus keeps events. The zero value is ready to use.
type Bus struct {
	mu   sync.Mutex
	sent []job.Undelivered
}

// SendUndelivered keeps an event.
func (b *Bus) SendUndelivered(ctx context.Context, u job.Undelivered) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, u)
	return nil
}

// Sent returns the events in the order in which they were sent.
func (b *Bus) Sent() []job.Undelivered {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent)
}
