package callback

import (
	"context"
	"errors"
	"time"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

const (
	markTimeout    = 4 * time.Second // of one try; a write that hangs is cancelled and repeated
	firstMarkDelay = 200 * time.Millisecond

	// maxMarkDelay is the longest delay between two receives of a message that marks an outcome. Nothing
	// waits for it.
	maxMarkDelay = 15 * time.Minute
)

// settle marks an outcome that was delivered, or sent as an event. Its message is not needed any more: a
// retry would deliver it a second time. If the mark fails until the end of the lease, another message
// marks the outcome later. It has its own retries, and delivers nothing.
func (d *delivery) settle(ctx context.Context, state job.State, reason string) *batch.Retry {
	err := d.mark(ctx, state, reason)
	if err == nil || ended(err) {
		return nil
	}
	d.log.ErrorContext(ctx, "cannot mark outcome yet", "state", state, "error", err)
	if err := d.send(ctx, d.outcome.Mark(state, reason)); err != nil {
		d.log.ErrorContext(ctx, "cannot send mark; the record of the outcome continues to say that it has not ended",
			"state", state, "error", err)
	}
	return nil
}

// markLater handles a message that marks an outcome.
func (d *delivery) markLater(ctx context.Context) *batch.Retry {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	if err := d.tryMark(ctx, d.outcome.State, d.outcome.Reason); err != nil && !ended(err) {
		d.log.ErrorContext(ctx, "cannot mark outcome yet", "state", d.outcome.State, "error", err)
		return &batch.Retry{After: min(time.Second<<min(d.receives-1, 30), maxMarkDelay)}
	}
	d.log.InfoContext(ctx, "outcome marked", "state", d.outcome.State)
	return nil
}

// mark records how the outcome ended. It tries until the lease is nearly over.
func (d *delivery) mark(ctx context.Context, state job.State, reason string) error {
	noteState(ctx, state)
	return d.write(ctx, d.left(ctx)-leaseMargin, func(ctx context.Context) error {
		return d.tryMark(ctx, state, reason)
	})
}

func (d *delivery) tryMark(ctx context.Context, state job.State, reason string) error {
	if d.claimed {
		return d.cfg.Table.Settle(ctx, d.record, d.cfg.Now(), state, reason)
	}
	_, err := d.cfg.Table.Change(ctx, d.outcome.JobID, job.SettleOutcome(d.cfg.Now(), d.outcome, state, reason))
	return err
}

// ended reports whether a mark failed because there is nothing left to mark.
func ended(err error) bool {
	return errors.Is(err, job.ErrSettled) || errors.Is(err, jobtable.ErrNotFound)
}

// write tries a write for a time: for one try at least, even if the lease is over, as what happened counts.
func (d *delivery) write(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, max(limit, markTimeout))
	defer cancel()
	for n := 1; ; n++ {
		bounded, cancel := context.WithTimeout(ctx, markTimeout)
		err := try(bounded)
		cancel()
		if err == nil || ended(err) || errors.Is(err, jobtable.ErrChanged) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(batch.Backoff(firstMarkDelay, n), markTimeout)):
		}
	}
}
