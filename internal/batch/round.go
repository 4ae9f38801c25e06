package batch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// Each handles the n parts of one message at the same time, as [Handle] does
// with the messages of an event. It gives the retry that comes first, and nil
// where no part needs one.
func Each(ctx context.Context, log *slog.Logger, message events.SQSMessage, n int, handle func(ctx context.Context, part int) *Retry) *Retry {
	retries := make([]*Retry, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			retries[i] = guard(ctx, log, message, func(ctx context.Context, _ events.SQSMessage) *Retry { return handle(ctx, i) })
		})
	}
	running.Wait()
	var first *Retry
	for _, r := range retries {
		if r != nil && (first == nil || r.After < first.After) {
			first = r
		}
	}
	return first
}

// Round lets those who are handled side by side do their last step together:
// whatever of it is ready at the same time is done as one. A nil Round is that
// of somebody who is alone.
type Round[T, R any] struct {
	mu      sync.Mutex
	missing map[string]bool // who may still come
	whole   chan struct{}   // closed when nobody is missing
	items   []*item[T, R]
}

type item[T, R any] struct {
	value  T
	taken  bool
	result chan R
}

// Rounds makes a round for each group of two or more, and gives it to each of
// its members. groups are the members' groups; whose is empty is alone.
func Rounds[T, R any](groups map[string]string) map[string]*Round[T, R] {
	members := make(map[string][]string)
	for member, group := range groups {
		members[group] = append(members[group], member)
	}
	rounds := make(map[string]*Round[T, R])
	for group, all := range members {
		if group == "" || len(all) < 2 {
			continue
		}
		r := &Round[T, R]{missing: make(map[string]bool), whole: make(chan struct{})}
		for _, member := range all {
			r.missing[member] = true
			rounds[member] = r
		}
	}
	return rounds
}

// Leave says that a member has nothing to do with the others, or has done it.
// It can be repeated.
func (r *Round[T, R]) Leave(member string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone(member)
}

// gone takes a member off the missing. r.mu is held.
func (r *Round[T, R]) gone(member string) {
	if !r.missing[member] {
		return
	}
	delete(r.missing, member)
	if len(r.missing) == 0 {
		close(r.whole)
	}
}

// Together does something with a value, and with those of the other members
// that come before wait is over. One of them does it, and all get what it
// gives; or otherwise, where it panics.
func (r *Round[T, R]) Together(member string, value T, wait time.Duration, do func([]T) R, otherwise R) R {
	if r == nil {
		return do([]T{value})
	}
	mine := &item[T, R]{value: value, result: make(chan R, 1)}
	r.mu.Lock()
	r.items = append(r.items, mine)
	r.gone(member)
	r.mu.Unlock()
	select {
	case <-r.whole:
	case <-time.After(wait):
	}

	r.mu.Lock()
	if mine.taken {
		r.mu.Unlock()
		return <-mine.result
	}
	together := r.items
	r.items = nil
	for _, i := range together {
		i.taken = true
	}
	r.mu.Unlock()

	// Whatever becomes of it, nobody may be left waiting.
	result := otherwise
	defer func() {
		for _, i := range together {
			i.result <- result
		}
	}()
	values := make([]T, len(together))
	for i, t := range together {
		values[i] = t.value
	}
	result = do(values)
	return result
}
