package memqueue

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/queue"
)

// Recorder is a queue that delivers nothing. It records the messages that are sent
// to it, and how long received messages are hidden. Its user passes the messages to
// a handler. The zero value is ready to use.
type Recorder struct {
	mu     sync.Mutex
	sent   []queue.Message
	hidden time.Duration
}

// Send records the messages. It returns an error for each message that SQS would
// refuse.
func (r *Recorder) Send(ctx context.Context, messages []queue.Message) []error {
	errs := make([]error, len(messages))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, m := range messages {
		if errs[i] = ctx.Err(); errs[i] == nil {
			errs[i] = m.Check()
		}
		if errs[i] == nil {
			r.sent = append(r.sent, m)
		}
	}
	return errs
}

// ChangeVisibility records d. It accepts any receipt handle.
func (r *Recorder) ChangeVisibility(_ context.Context, _ string, d time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hidden = d
	return nil
}

// Take returns the messages that were sent since the last Take.
func (r *Recorder) Take() []queue.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := slices.Clone(r.sent)
	r.sent = nil
	return taken
}

// TakeBodies is like [Recorder.Take], but returns only the bodies.
func (r *Recorder) TakeBodies() []string {
	var bodies []string
	for _, m := range r.Take() {
		bodies = append(bodies, m.Body)
	}
	return bodies
}

// Hidden returns how long a message was last hidden.
func (r *Recorder) Hidden() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hidden
}
