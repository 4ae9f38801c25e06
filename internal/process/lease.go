package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// A lease bounds everything that is done under it. It begins before the write that takes it, and
// ends on its own:
//
//	claim ≤ claimTimeout │ admission │ tool ≤ its timeout │ storing │ sending unstored │ end
//	├──── startMargin, then the tool must have started ───┤           ├── sendMargin ──┤
//
// A tool never gets less than its timeout because something before it was slow: the job is released
// instead, and tried again. So the tool ends at least storeMargin before the lease.
const (
	// leaseMargin is how much longer than a tool's timeout the lease on its job is.
	leaseMargin = 15 * time.Second

	// claimTimeout bounds a claim. A claim without an answer is undone then.
	claimTimeout = leaseMargin / 3

	// startMargin is the time from the beginning of the claim in which the tool must start. The job is
	// released otherwise.
	startMargin = 2 * leaseMargin / 3

	// storeMargin is the least time between the end of a tool and the end of its lease. It is longer
	// than the clocks of two functions differ.
	storeMargin = leaseMargin - startMargin

	// sendMargin is the time that is left to send a result that could not be stored.
	sendMargin = leaseMargin / 5

	// visibilityMargin is how much longer than its lease a message is hidden, times the number of its
	// receives. A job whose function died is received again then. If function after function dies, the
	// receives outlast it for some minutes.
	visibilityMargin = leaseMargin / 3

	// finishedMargin is how long a finished message may wait for the rest of its batch until it is hidden for longer. It
	// was hidden until visibilityMargin after its lease, and its job ended within the lease.
	finishedMargin = visibilityMargin / 2

	// maxLease is the longest lease. A tool with a longer timeout renews it while it runs.
	maxLease = 6 * time.Minute

	// renewInterval is the time between two renewals. It leaves five minutes in which renewals may
	// fail, whenever they begin to.
	renewInterval = 45 * time.Second
	renewTimeout  = 5 * time.Second // of one try
	renewDelay    = 5 * time.Second // before the next try

	// A result that cannot be repeated is stored for as long as the lease and the function's time
	// allow. A write that hangs is cancelled and repeated.
	storeTimeout    = 4 * time.Second // of one try
	firstStoreDelay = 200 * time.Millisecond
	maxStoreDelay   = 5 * time.Second

	// asideTimeout bounds what may be lost. It runs beside the tool, and never before what may not.
	asideTimeout = 2 * time.Second
)

var errLeaseLost = errors.New("the lease on the job could not be renewed")

// leaseFor returns the lease of a tool with a timeout, and whether it must be renewed.
func (h *Handler) leaseFor(timeout time.Duration) (lease time.Duration, renewable bool) {
	lease = timeout + leaseMargin
	return min(lease, maxLease) + h.cfg.Breakpoints, lease > maxLease
}

// Recovery returns how long after the death of the process the jobs of its running tools are received again, if they
// were received for the first time.
func (h *Handler) Recovery() time.Duration {
	lease, _ := h.leaseFor(h.cfg.Tools.MaxTimeout())
	return lease + visibilityMargin
}

// aside does something that may be lost, beside everything else, so it must not use what the execution
// changes. [execution.run] waits for it before it returns, as Lambda stops the function then.
func (e *execution) aside(ctx context.Context, do func(ctx context.Context)) {
	e.beside.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, asideTimeout)
		defer cancel()
		do(ctx)
	})
}

// unclaim makes sure that a claim that failed does not hold the job: its write may have taken effect.
func (e *execution) unclaim(ctx context.Context, first job.Record, delay time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	err := e.cfg.Table.Unclaim(ctx, first, e.cfg.Now(), delay, "the claim got no answer in time")
	if err != nil {
		e.log.WarnContext(ctx, "cannot undo claim; the job may wait for the end of its lease", "error", err)
	}
}

// lease is the lease of an execution, as it was renewed last.
type lease struct {
	mu     sync.Mutex
	expiry time.Time
}

func (l *lease) until() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expiry
}

func (l *lease) extend(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expiry = until
}

// hide hides the message until the lease is over, instead of for the queue's visibility timeout, which
// is that of the slowest tool. It runs beside the claim, so that it is done before a tool that ends its
// process at once.
func (e *execution) hide(ctx context.Context, log *slog.Logger) {
	d := e.lease.until().Sub(e.cfg.Now()) + visibilityMargin*time.Duration(batch.Receives(e.message))
	if err := e.source(e.message).ChangeVisibility(ctx, e.message.ReceiptHandle, d); err != nil {
		log.WarnContext(ctx, "cannot hide message for its lease; the visibility timeout before applies", "error", err)
	}
}

// keep renews the lease until stop is called, if it must be renewed. The context that it returns ends
// with [errLeaseLost], in time before the lease.
func (e *execution) keep(ctx context.Context) (kept context.Context, stop func()) {
	if !e.record.Renewable {
		return ctx, func() {}
	}
	c := e.claimed
	kept, lose := context.WithCancelCause(ctx)
	// A renewal that hangs does not keep the tool running.
	end := time.AfterFunc(e.toolTime(), func() {
		c.log.ErrorContext(ctx, "lease was not renewed in time; stopping the tool")
		lose(errLeaseLost)
	})
	renewing, cancel := context.WithCancel(ctx)
	var renewer sync.WaitGroup
	renewer.Go(func() { e.renew(renewing, c, end, lose) })
	return kept, func() {
		end.Stop()
		cancel()
		renewer.Wait()
		lose(nil)
	}
}

// toolTime returns how long a tool may still run under the lease.
func (e *execution) toolTime() time.Duration { return e.lease.until().Sub(e.cfg.Now()) - storeMargin }

// renew renews the lease until the context ends, or the lease is lost. end ends the tool in time
// before the lease.
func (e *execution) renew(ctx context.Context, c claimed, end *time.Timer, lose context.CancelCauseFunc) {
	lease := maxLease + e.cfg.Breakpoints
	for wait := renewInterval; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		try, cancel := context.WithTimeout(ctx, renewTimeout)
		until, err := e.cfg.Table.Renew(try, c.record, e.cfg.Now(), lease)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, job.ErrLeaseLost):
			c.log.ErrorContext(ctx, "lease is lost; stopping the tool", "error", err)
			lose(errLeaseLost)
			return
		case err != nil:
			c.log.WarnContext(ctx, "cannot renew lease yet", "until", e.lease.until(), "error", err)
			wait = renewDelay
			continue
		case !end.Stop():
			return // the answer was too late: see [job.Renewal]
		}
		e.lease.extend(until)
		end.Reset(e.toolTime())
		wait = renewInterval
		// Not cancelled with the renewals: a change of the visibility that arrives later than that of a
		// retry would delay the retry.
		e.aside(context.WithoutCancel(ctx), func(ctx context.Context) { e.hide(ctx, c.log) })
		e.aside(ctx, func(ctx context.Context) {
			if err := e.cfg.Admission.Extend(ctx, c.job, e.cfg.Now(), lease); err != nil {
				c.log.WarnContext(ctx, "cannot extend the job's slot; it may be free too early", "error", err)
			}
		})
	}
}

// store applies a rule that ends the attempt. As the tool's work cannot be repeated, it does so again
// and again until the lease or the function's time is nearly over. rule must have been made at the
// time at, by which store recognizes what an earlier try of its own has stored.
func (e *execution) store(ctx context.Context, rule job.Rule, at time.Time) (job.Record, error) {
	want, err := rule.Apply(e.record)
	if err != nil {
		return e.record, err
	}
	for n := 1; ; n++ {
		record, err := e.tryStore(ctx, rule)
		switch {
		case err == nil:
			return record, nil
		case errors.Is(err, job.ErrFinished), errors.Is(err, jobtable.ErrChanged):
			if record.State == want.State && record.AttemptID() == want.AttemptID() && record.Updated.Equal(at) {
				return record, nil // the answer to an earlier try was lost
			}
			return record, err
		}
		delay := min(batch.Backoff(firstStoreDelay, n), maxStoreDelay)
		if e.storeTime(ctx) <= delay {
			return record, fmt.Errorf("%w; tried %d times", err, n)
		}
		e.log.WarnContext(ctx, "cannot store how the attempt ended yet", "in", delay, "error", err)
		select {
		case <-ctx.Done():
			return record, err
		case <-time.After(delay):
		}
	}
}

func (e *execution) tryStore(ctx context.Context, rule job.Rule) (job.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, min(max(e.storeTime(ctx), time.Second), storeTimeout))
	defer cancel()
	newest := e.seen.newest(e.record)
	if !e.read && (e.ended || e.lineDue(newest)) {
		e.read = true // once: the write must not fail because reads do
		return e.cfg.Table.ChangeLatest(ctx, newest, rule)
	}
	return e.cfg.Table.ChangeClaimed(ctx, newest, rule)
}

// lineDue reports whether a line of the job is to be delivered by now, and r does not say so yet.
func (e *execution) lineDue(r job.Record) bool {
	if e.job.Call.Chat() || e.tool == nil {
		return false
	}
	sent := r.Progress != nil && r.Progress.Sequence > r.ProgressDelivered
	held := e.tool.Hold != "" && !e.cfg.Now().Before(e.job.ReceivedAt.Add(e.tool.HoldAfter)) &&
		!r.HoldDelivered && r.ProgressDelivered == 0 && r.WakeUp == 0 && r.Attempt == 1
	return sent || held || !r.ProgressLeaseExpiry.IsZero()
}

// seen is the newest record that an execution knows of its job. Its tool changes the record, too, and an abandoned
// tool may do so at any time.
type seen struct {
	mu     sync.Mutex
	record job.Record
}

// note notes a record that was read or saved, if the attempt that claimed the job still owns it.
func (s *seen) note(claimed, r job.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.OwnedAs(claimed) && r.Revision > s.record.Revision {
		s.record = r
	}
}

// newest returns the record that was noted, or claimed if that is newer.
func (s *seen) newest(claimed job.Record) job.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record.OwnedAs(claimed) && s.record.Revision > claimed.Revision {
		return s.record
	}
	return claimed
}

// storeTime returns how long a result may still be stored.
func (e *execution) storeTime(ctx context.Context) time.Duration {
	left := e.lease.until().Sub(e.cfg.Now())
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	return left - sendMargin
}
