package process

import (
	"context"
	"errors"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/process/toolrun"
	"github.com/ringback/ringback/internal/queue"
)

// hold has the caller told, in a while, that the job takes longer. The message
// waits on the results queue, where it outlives this function; the callback
// function leaves it away if the job is over by then.
func (e *execution) hold(ctx context.Context) {
	if e.tool.Hold == "" || e.record.WakeUp > 0 || e.record.Attempt > 1 || e.job.Call.Chat() {
		return
	}
	// The clocks of two functions may differ.
	after := min(max(e.tool.HoldAfter-e.cfg.Now().Sub(e.job.ReceivedAt), 0), queue.MaxDelay)
	if err := e.send(e.job.ProgressOutcome(0, e.tool.Hold, false, e.record.Deadline), after); err != nil {
		e.log.WarnContext(ctx, "the caller is not told that the job takes longer", "error", err)
	}
}

// call runs the tool.
func (e *execution) call(ctx context.Context) toolrun.End {
	// The execution's own goes on while an abandoned tool still asks.
	claimed := e.record
	return toolrun.Run(ctx, toolrun.Config{
		Tool: e.tool,
		Call: asynctool.Call{
			ID: e.job.Call.ID, OrgID: e.job.Call.OrgID, Type: e.job.Call.Type, AssistantID: e.job.Call.AssistantID,
			CustomerNumber: e.job.Call.CustomerNumber, ToolCallID: e.job.ToolCallID, Attempt: claimed.Attempt,
			Resumes: claimed.WakeUp, State: claimed.ToolState,
		},
		Arguments: e.job.Arguments,
		Host:      e.cfg.Host,
		Progress: func(ctx context.Context, text string, silent bool) error {
			record, err := e.cfg.Table.Change(ctx, claimed.ID, job.AddProgress(e.cfg.Now(), text))
			if err != nil || e.job.Call.Chat() {
				// In a chat, it is there for who asks. A chat would answer to it.
				return err
			}
			line := e.job.ProgressOutcome(record.Progress.Sequence, record.Progress.Text, silent, record.Deadline)
			return e.send(line, 0)
		},
		CompletionURL: func(ctx context.Context) (string, error) { return e.completionURL(ctx, claimed) },
		Wanted:        func(ctx context.Context) error { return e.wanted(ctx, claimed) },
		Waits:         e.cfg.Waits,
		Now:           e.cfg.Now,
		Log:           e.log,
	})
}

func (e *execution) completionURL(ctx context.Context, claimed job.Record) (string, error) {
	if e.cfg.Completions == nil {
		return "", errors.New("there is no completion URL: COMPLETION_URL is not set")
	}
	if err := e.fits(); err != nil {
		return "", err
	}
	if _, err := e.cfg.Table.ChangeClaimed(ctx, claimed, job.StoreJob(e.cfg.Now(), e.job)); err != nil {
		return "", err
	}
	return e.cfg.Completions.URL(ctx, claimed.ID, claimed.Deadline)
}

var (
	errEnded     = errors.New("the job was ended by others")
	errCallEnded = errors.New("the call has ended")
)

// wanted gives an error when the job is not its own any more, or when its call
// has ended, where it wants to stop then.
func (e *execution) wanted(ctx context.Context, claimed job.Record) error {
	// What cannot be read is read the next time.
	if r, err := e.cfg.Table.Load(ctx, claimed.ID); err == nil && !r.OwnedAs(claimed) {
		return errEnded
	}
	if e.tool.StopWithCall {
		if live, err := e.cfg.CallTracker.Live(ctx, e.job.Call.ID, e.cfg.Now()); err == nil && !live {
			return errCallEnded
		}
	}
	return nil
}
