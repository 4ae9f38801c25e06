// Package membus keeps events of undelivered results in memory, as an EventBridge event bus would take them: for local
// runs and tests.
package membus

import (
	"context"
	"slices"
	"sync"

	"github.com/ringback/ringback/internal/job"
)

// Bus takes events. The zero value is ready.
type Bus struct {
	mu   sync.Mutex
	sent []job.Undelivered
}

// SendUndelivered takes an event.
func (b *Bus) SendUndelivered(ctx context.Context, u job.Undelivered) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, u)
	return nil
}

// Sent returns the events so far, in their order.
func (b *Bus) Sent() []job.Undelivered {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent)
}
