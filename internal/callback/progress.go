package callback

import (
	"context"
	"errors"
	"time"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// maxProgressClaims is how often a message tries to claim its progress line at most.
const maxProgressClaims = 3

// deliverProgress posts a progress line at most once: a late line is worse than none. A kept line is posted
// until the call has it.
func (d *delivery) deliverProgress(ctx context.Context) *batch.Retry {
	o := d.outcome
	if o.Call.ControlURL == "" || d.cfg.Now().After(o.Deadline) {
		d.settleReport(ctx, job.Record{}, false)
		return nil
	}
	if !d.controlsCall() {
		d.log.ErrorContext(ctx, "control URL not allowed; it does not contain the call's id. Dropping progress line")
		return nil
	}
	m, err := d.message()
	if err != nil {
		d.log.WarnContext(ctx, "cannot make a message of progress line; dropping it", "error", err)
		d.settleReport(ctx, job.Record{}, false)
		return nil
	}
	claims := maxProgressClaims
	if o.Kept {
		claims = MaxPosts
	}
	record, err := d.claimProgress(ctx)
	var busy *job.BusyError
	switch {
	case errors.Is(err, job.ErrStale):
		d.log.DebugContext(ctx, "progress line is too late; dropping it", "sequence", o.Sequence)
		return nil
	case errors.As(err, &busy):
		return d.retryAfterProgress(busy)
	case errors.Is(err, errSlowClaim) && !o.Kept:
		d.log.WarnContext(ctx, "claim of progress line took too long; dropping it", "sequence", o.Sequence)
		return nil
	case err != nil && d.receives < claims:
		return &batch.Retry{After: d.backoff()}
	case err != nil:
		d.log.WarnContext(ctx, "cannot claim progress line; dropping it", "error", err)
		d.settleReport(ctx, job.Record{}, false)
		return nil
	}
	d.warnOfHiddenText(ctx)
	receipt, _ := d.post(ctx, m)
	d.log.InfoContext(ctx, "progress line posted", "sequence", o.Sequence,
		"verdict", receipt.Verdict, "status", receipt.Status, "error", receipt.Err)
	if receipt.Verdict == vapiclient.Gone {
		d.recordEnd(ctx)
	}
	d.noteReported(ctx, receipt)
	record = record.Posted(answerOf(receipt))
	if !o.Kept {
		d.endProgress(ctx, record)
		return nil
	}
	delay, inTime := d.delay(d.backoff(), receipt.RetryAfter)
	if receipt.Verdict == vapiclient.TryAgain && d.receives < MaxPosts && inTime {
		d.endProgress(ctx, record)
		return &batch.Retry{After: delay}
	}
	d.settleReport(ctx, record, receipt.Verdict == vapiclient.Delivered)
	return nil
}

// endProgress ends the lease of a line, so that the result need not wait.
func (d *delivery) endProgress(ctx context.Context, record job.Record) {
	// This must not delay the rest of the batch.
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	if _, err := d.cfg.Table.Change(ctx, record.ID, job.EndProgress(record)); err != nil {
		d.log.WarnContext(ctx, "cannot end progress line; the result may wait for the end of its lease", "error", err)
	}
}

// settleReport records whether the call has a kept line, which its tool waits for. It does nothing for other
// lines. If it fails, the tool waits in vain, and learns that the line is not confirmed.
func (d *delivery) settleReport(ctx context.Context, claimed job.Record, heard bool) {
	if !d.outcome.Kept {
		return
	}
	err := d.write(ctx, d.left(ctx)-leaseMargin, func(ctx context.Context) error {
		rule := job.SettleReport(d.cfg.Now(), claimed, d.outcome.Sequence, heard)
		_, err := d.cfg.Table.Change(ctx, d.outcome.JobID, rule)
		return err
	})
	if err != nil {
		d.log.ErrorContext(ctx, "cannot settle progress line; its tool waits in vain", "heard", heard, "error", err)
	}
}

// claimProgress claims the progress line, as claim does. A line that follows its result is worse than none.
func (d *delivery) claimProgress(ctx context.Context) (job.Record, error) {
	began, lease := d.cfg.Now(), job.Nameable(progressLease)
	d.lease = began.Add(lease)
	bounded, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	record, err := d.cfg.Table.Change(bounded, d.outcome.JobID, job.ClaimProgress(began, d.outcome.Sequence, lease))
	if err == nil && d.cfg.Now().Sub(began) > claimTimeout {
		err = errSlowClaim
	}
	var busy *job.BusyError
	if err != nil && !errors.Is(err, job.ErrStale) && !errors.As(err, &busy) && !errors.Is(err, jobtable.ErrNotFound) {
		d.undo(ctx, job.EndProgress(job.Record{ProgressLeaseExpiry: d.lease}))
	}
	return record, err
}

// retryAfterProgress retries once the job's progress line is posted. That takes a moment; it takes as
// long as the lease only if the function died.
func (d *delivery) retryAfterProgress(busy *job.BusyError) *batch.Retry {
	wait := min(busy.Until.Sub(d.cfg.Now()), d.backoff())
	return &batch.Retry{After: max(wait, time.Second)}
}
