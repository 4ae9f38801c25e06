package jobtable

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/ringback/ringback/internal/job"
)

// Together returns a context whose users share their changes of the records of calls. Changes of the same record that
// are made at the same time then cost one read and one write, and take as long as one of them. Without it, each costs
// its own, and all but one must begin again. It is for the messages of one batch.
func Together(ctx context.Context) context.Context {
	return context.WithValue(ctx, togetherKey{}, &callChanges{open: make(map[string]*callRound)})
}

type togetherKey struct{}

// callChanges are the changes of a batch, by the id of their call.
type callChanges struct {
	mu   sync.Mutex
	open map[string]*callRound // whose record is being read
}

// callRound is changes of one record that are saved together.
type callRound struct {
	changes []*callChange
	over    chan struct{} // closed when it is
	whole   bool          // it did not end because its leader did
}

// callChange is one change of a round.
type callChange struct {
	rule     callRule
	create   bool // a call without a record gets one
	err      error
	panicked error // what its rule panicked with, and where
}

// callRule is a rule of a call's record. It may note which jobs are unfinished, for the rules after it.
type callRule func(r job.CallRecord, unfinished map[string]bool) (job.CallRecord, error)

var (
	// errInterrupted means that the leader of a round panicked.
	errInterrupted = errors.New("the change was interrupted")
	// errLeft means that the context of a change ended before the round. The change may still be made, so its rule may
	// still be applied.
	errLeft = errors.New("the change was not awaited")
)

// change makes the change with those of others. The first of them leads the round: it reads the record, and the others
// join it until then. Its rules are applied one after the other, in the order in which they came. If the save fails,
// none of them counts. A rule that panics does so where its change was asked for.
func (c *callChanges) change(ctx context.Context, store Store[job.CallRecord], callID string, one callChange) error {
	for {
		c.mu.Lock()
		r, joined := c.open[callID]
		if !joined {
			r = &callRound{over: make(chan struct{})}
			c.open[callID] = r
		}
		mine := one
		r.changes = append(r.changes, &mine)
		c.mu.Unlock()
		if !joined {
			c.lead(ctx, store, callID, r)
		} else {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", errLeft, ctx.Err())
			case <-r.over:
			}
		}
		if mine.panicked != nil {
			panic(mine.panicked)
		}
		if !joined || r.whole || ctx.Err() != nil {
			return mine.err
		}
	}
}

// lead makes the changes of a round.
func (c *callChanges) lead(ctx context.Context, store Store[job.CallRecord], callID string, r *callRound) {
	var all []*callChange
	end := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if all == nil {
			all = r.changes
			delete(c.open, callID)
		}
	}
	err := errInterrupted
	defer func() {
		end() // if nothing was read
		if err != nil {
			for _, one := range all {
				one.err = err
			}
		}
		r.whole = err == nil || ctx.Err() == nil && !errors.Is(err, errInterrupted)
		close(r.over)
	}()
	_, err = change(ctx, store, callID, nil, &job.CallRecord{CallID: callID}, func(
		record job.CallRecord,
	) (job.CallRecord, error) {
		end()
		return applyAll(record, all)
	})
}

// applyAll applies changes to a record. It fails with [job.ErrUnchanged] if none of them changes it.
func applyAll(r job.CallRecord, all []*callChange) (job.CallRecord, error) {
	next, exists, changed := r, r.Revision > 0, false
	unfinished := make(map[string]bool)
	for _, one := range all {
		one.panicked = nil
		if !exists && !one.create {
			one.err = ErrNotFound
			continue
		}
		after, err := one.apply(next, unfinished)
		switch one.err = err; {
		case err == nil:
			next, exists, changed = after, true, true
		case errors.Is(err, job.ErrUnchanged):
			one.err = nil
		}
	}
	if !changed {
		return r, job.ErrUnchanged
	}
	if r.Revision == 0 {
		next.First = next.Updated
	}
	return next, nil
}

// apply applies the rule. If it panics, the change fails, and those of others go on.
func (one *callChange) apply(r job.CallRecord, unfinished map[string]bool) (_ job.CallRecord, err error) {
	defer func() {
		if p := recover(); p != nil {
			one.panicked = fmt.Errorf("%v\n%s", p, debug.Stack())
			err = one.panicked
		}
	}()
	return one.rule(r, unfinished)
}
