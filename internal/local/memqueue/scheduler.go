package memqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/queue"
)

// Sender is the queue to which the schedules send.
type Sender interface {
	Send(ctx context.Context, messages []queue.Message) []error
}

// Scheduler keeps schedules until their messages are sent.
type Scheduler struct {
	queue Sender
	*schedules
}

// schedules are the schedules of one group. They can send to several queues.
type schedules struct {
	ctx context.Context // ends with Close
	end context.CancelFunc

	mu      sync.Mutex
	kept    map[string]*entry
	sending sync.WaitGroup
}

type entry struct {
	queue Sender
	body  string
	at    time.Time
	timer *time.Timer
	pause time.Duration // before the next try
}

// ErrSchedulerClosed means that the scheduler was closed.
var ErrSchedulerClosed = errors.New("the scheduler is closed")

const (
	// After firstPause, a message that cannot be sent is tried again. Each further
	// pause is twice as long, up to maxPause.
	firstPause = time.Second
	maxPause   = time.Minute
)

// NewScheduler returns a scheduler without schedules. It must be closed.
func NewScheduler(queue Sender) *Scheduler {
	ctx, end := context.WithCancel(context.Background())
	return &Scheduler{queue, &schedules{ctx: ctx, end: end, kept: make(map[string]*entry)}}
}

// To returns a scheduler that sends to another queue. Everything else is shared: a
// schedule can be cancelled with both, and closing one closes both.
func (s *Scheduler) To(queue Sender) *Scheduler { return &Scheduler{queue, s.schedules} }

// At schedules a message for a time; a time that has passed means at once. If the
// message cannot be sent, the scheduler tries again until the schedule is cancelled
// or the scheduler is closed.
//
// If a schedule with the name exists, At does nothing and returns nil. A schedule
// ends when its message is sent; its name can then be used again.
func (s *Scheduler) At(ctx context.Context, name string, at time.Time, body string) error {
	if err := queue.CheckScheduleName(name); err != nil {
		return err
	}
	if err := (queue.Message{Body: body}).Check(); err != nil {
		return fmt.Errorf("schedule %s: %w", name, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("schedule %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return fmt.Errorf("schedule %s: %w", name, ErrSchedulerClosed)
	}
	if s.kept[name] != nil {
		return nil
	}
	e := &entry{queue: s.queue, body: body, at: at, pause: firstPause}
	e.timer = time.AfterFunc(time.Until(at), func() { s.send(name, e) })
	s.kept[name] = e
	return nil
}

// Cancel deletes a schedule. It returns nil if the schedule does not exist. A
// message that is being sent may still arrive.
func (s *Scheduler) Cancel(ctx context.Context, name string) error {
	if err := queue.CheckScheduleName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cancel the schedule %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.kept[name]; e != nil {
		e.timer.Stop()
		delete(s.kept, name)
	}
	return nil
}

// Len returns the number of schedules.
func (s *Scheduler) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// Close ends the scheduler. It ends the context of the messages that are being
// sent, and waits for them. The remaining schedules send nothing.
func (s *Scheduler) Close() {
	s.mu.Lock()
	s.end()
	for _, e := range s.kept {
		e.timer.Stop()
	}
	s.mu.Unlock()
	s.sending.Wait()
}

func (s *schedules) send(name string, e *entry) {
	s.mu.Lock()
	// Its timer may have fired while it was cancelled.
	if s.ctx.Err() != nil || s.kept[name] != e {
		s.mu.Unlock()
		return
	}
	s.sending.Add(1)
	s.mu.Unlock()
	defer s.sending.Done()

	err := e.queue.Send(s.ctx, []queue.Message{{Body: e.body}})[0]

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.kept[name] != e:
	case err == nil:
		delete(s.kept, name)
	case s.ctx.Err() == nil:
		slog.Warn("cannot send scheduled message; trying again", "schedule", name, "after", e.pause, "error", err)
		e.timer.Reset(e.pause)
		e.pause = min(2*e.pause, maxPause)
	}
}
