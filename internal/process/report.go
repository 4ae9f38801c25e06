package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

const (
	// firstLook and maxLook are the delays between two looks at a line that is on its way. Each of them reads
	// the record.
	firstLook = 250 * time.Millisecond
	maxLook   = 2 * time.Second
)

// report adds a progress line that must not get lost, sends it, and waits until the callback function has
// settled it. If a step fails, report repeats it until ctx ends: no step can deliver the line twice.
func (h *toolHost) report(ctx context.Context, text string) error {
	// The record has the time by the clock of the callback function, which may differ.
	if err := pause(ctx, h.reported.Add(job.ProgressPause).Sub(h.cfg.Now())); err != nil {
		return err
	}
	id := fmt.Sprintf("%d-%d-%d", h.record.WakeUp, h.record.Attempt, h.cfg.Now().UnixNano())
	record, err := h.addReport(ctx, id, text)
	switch {
	case err != nil:
		return err
	case h.job.Call.Chat():
		return nil // task_status reads it from the record
	}
	line := *record.Progress
	outcome := h.job.ProgressOutcome(line.Sequence, line.Text, false, record)
	outcome.Kept = true
	for n := 1; ; n++ {
		err := h.out.sendAlone(ctx, outcome, 0)
		if err == nil {
			break
		}
		h.log.WarnContext(ctx, "cannot send progress line yet", "error", err)
		if err := pause(ctx, batch.Backoff(time.Second, n)); err != nil {
			return err
		}
	}
	for n := 1; ; n++ {
		if err := pause(ctx, min(batch.Backoff(firstLook, n), maxLook)); err != nil {
			return err
		}
		record, err := h.cfg.Table.Load(ctx, h.record.ID)
		if err == nil {
			h.seen.note(h.record, record)
		}
		switch p := record.Progress; {
		case err != nil:
			continue
		case p == nil || p.Kept != id:
			return fmt.Errorf("%w: another line followed", asynctool.ErrNotHeard)
		case p.Heard:
			h.reported = h.cfg.Now()
			return nil
		case !p.SettledAt.IsZero():
			h.reported = h.cfg.Now()
			return asynctool.ErrNotHeard
		case !record.OwnedAs(h.record):
			return fmt.Errorf("%w: %w", asynctool.ErrNotHeard, errJobEnded)
		case p.Abandoned(h.cfg.Now()):
			return fmt.Errorf("%w in time", asynctool.ErrNotHeard)
		}
	}
}

// addReport adds a line to the record as soon as the line before it allows that. In a chat, which gets no
// lines, the line is not kept.
func (h *toolHost) addReport(ctx context.Context, id, text string) (job.Record, error) {
	for n := 1; ; n++ {
		rule := job.AddReport(h.cfg.Now(), id, text)
		if h.job.Call.Chat() {
			rule = job.AddProgress(h.cfg.Now(), text)
		}
		newest, change := h.seen.newest(h.record), h.cfg.Table.ChangeClaimed
		if n > 1 || newest.Progress != nil && newest.Progress.Pending() {
			change = h.cfg.Table.ChangeLatest // the callback function changes it
		}
		record, err := change(ctx, newest, rule)
		wait := batch.Backoff(time.Second, n)
		var soon *job.TooSoonError
		switch {
		case err == nil:
			h.seen.note(h.record, record)
			return record, nil
		case errors.Is(err, job.ErrFinished), errors.Is(err, jobtable.ErrChanged), errors.Is(err, jobtable.ErrNotFound):
			return record, fmt.Errorf("%w: %w", asynctool.ErrNotHeard, errJobEnded)
		case errors.As(err, &soon):
			wait = soon.Until.Sub(h.cfg.Now())
		default:
			h.log.WarnContext(ctx, "cannot add progress line yet", "error", err)
		}
		if err := pause(ctx, wait); err != nil {
			return record, err
		}
	}
}

// pause waits, and returns an error if ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
