package process

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/process/toolrun"
	"github.com/ringback/ringback/internal/spoken"
)

// end is how an attempt ended: for good, with the job to go on later, or with
// another attempt to come.
type end struct {
	final bool
	// Of a final end: what is told, and whether it is the failure after the
	// last attempt.
	result    job.Result
	exhausted bool
	// Whether it only means something to the assistant of the call: it is not
	// worth calling anybody for, or keeping, when that has ended.
	passing bool

	later *toolrun.Suspension

	// Of one that is neither: how long to wait before the next attempt, and
	// whether this one does not count, as the tool was not started.
	delay     time.Duration
	unstarted bool

	reason string // for the operator; empty where nothing failed
}

// attempt runs the tool, if it may still run, and says how that ended.
func (e *execution) attempt(ctx context.Context) end {
	tool, j, record := e.tool, e.job, e.record
	switch {
	case tool == nil:
		e.log.WarnContext(ctx, "there is no such tool")
		return failed(job.DeliveryRespond, e.noSuchTool(j.Tool), "there is no such tool").inPassing()
	case j.Refusal != "":
		e.log.WarnContext(ctx, "the tool call was refused", "reason", j.Refusal)
		return failed(job.DeliveryRespond, fmt.Sprintf("The tool %s was not run: %s. Call %s again with its arguments as a JSON object.", j.Tool, j.Refusal, j.Tool), j.Refusal).inPassing()
	case record.External:
		// Only its deadline wakes what waits for somebody outside.
		e.log.WarnContext(ctx, "nobody completed the job before its deadline", "deadline", record.Deadline)
		return failed(job.Delivery(tool.Delivery), tool.FailureText, "nobody completed it before its deadline")
	case e.cfg.Now().After(record.Deadline):
		// The work would be for nobody. The callback function finds the
		// deadline passed, and announces it.
		e.log.WarnContext(ctx, "the job's deadline passed before it could start", "deadline", record.Deadline)
		return failed(job.Delivery(tool.Delivery), tool.FailureText, "the deadline passed before the job could start")
	case record.Attempt > tool.Attempts:
		// No attempt came back to say what became of it.
		reason := "the function died during the last attempt"
		if record.Reason != "" {
			reason += "; before: " + record.Reason
		}
		e.log.ErrorContext(ctx, "the tool's attempts are used up", "attempts", tool.Attempts, "reason", reason)
		end := failed(job.Delivery(tool.Delivery), tool.FailureText, reason)
		end.exhausted = true
		return end
	}
	if end, ok := e.admitted(ctx); !ok {
		return end
	}
	e.hold(ctx)

	e.log.InfoContext(ctx, "tool started", "attempt", record.Attempt, "resumes", record.WakeUp, "timeout", tool.Timeout)
	started := e.cfg.Now()
	ended := e.call(ctx)
	e.log = e.log.With("attempt", record.Attempt, "took", e.cfg.Now().Sub(started))
	switch f, later := ended.Failure, ended.Suspension; {
	case f != nil && errors.Is(ended.Stopped, errCallEnded):
		return e.callEnded(ctx, f.Reason)
	case f != nil:
		return e.failure(ctx, f)
	case later != nil && !later.At.Before(record.Deadline) && !later.External:
		reason := fmt.Sprintf("it would go on at %s, after its deadline, %s", later.At.Format(time.RFC3339), record.Deadline.Format(time.RFC3339))
		e.log.ErrorContext(ctx, "tool failed", "error", reason)
		return failed(job.Delivery(tool.Delivery), tool.FailureText, reason)
	case later != nil:
		return end{later: later}
	}
	e.log.InfoContext(ctx, "tool finished")
	return end{final: true, result: ended.Result}
}

// admitted asks whether the tool may start, as far as the call is concerned. It
// gives the end of a job that may not. Who has waited was admitted before.
func (e *execution) admitted(ctx context.Context) (end, bool) {
	if e.tool.StopWithCall {
		live, err := e.cfg.CallTracker.Live(ctx, e.job.Call.ID, e.cfg.Now())
		if err != nil {
			return e.unstarted(ctx, err), false
		}
		if !live {
			return e.callEnded(ctx, "it was not started"), false
		}
	}
	if e.record.WakeUp > 0 {
		return end{}, true
	}
	if end, ok := e.asked(ctx); !ok {
		return end, false
	}
	if err := e.cfg.Admission.Admit(ctx, e.job, e.cfg.Now(), e.lease); err != nil {
		return e.refused(ctx, err), false
	}
	if e.nextCall {
		e.arrived(ctx)
	}
	return end{}, true
}

// asked settles what becomes of a tool call that asks the same as another one.
func (e *execution) asked(ctx context.Context) (end, bool) {
	if e.tool.Repeat == asynctool.Allow {
		return end{}, true
	}
	key, err := e.tool.Question(e.job.Arguments)
	if err != nil {
		// The tool itself finds out what is wrong with them.
		e.log.WarnContext(ctx, "it cannot be told whether the tool call repeats another one", "error", err)
		return end{}, true
	}
	join := e.tool.Repeat == asynctool.Join
	before, err := e.cfg.Admission.Ask(ctx, e.job, e.cfg.Now(), key, join, func(ctx context.Context, toolCallID string) (bool, error) {
		r, err := e.cfg.Table.Load(ctx, job.ID(e.job.Call.ID, toolCallID))
		if errors.Is(err, jobtable.ErrNotFound) {
			return false, nil
		}
		return r.State.Active() || r.State == job.StateDone, err
	})
	switch {
	case errors.Is(err, job.ErrSuperseded):
		return e.superseded(ctx, before), false
	case err != nil:
		return e.unstarted(ctx, err), false
	case before == "":
		return end{}, true
	case join:
		e.log.InfoContext(ctx, "the tool call asks the same as an earlier one, and joins it", "earlier", before)
		return end{final: true, passing: true, result: job.Result{Status: job.StatusOK, Delivery: job.DeliverySilent, Content: fmt.Sprintf(
			"This tool call asks the same as the earlier tool call %s, which is still under way. It was not started again: the result of the earlier one answers both, and follows. Do not call %s again for it.", before, e.tool.Name)}}, false
	}
	_, err = e.cfg.Table.Change(ctx, job.ID(e.job.Call.ID, before), job.Replace(e.cfg.Now(), "replaced by tool call "+e.job.ToolCallID))
	if err != nil && !errors.Is(err, job.ErrFinished) && !errors.Is(err, jobtable.ErrNotFound) {
		return e.unstarted(ctx, err), false
	}
	e.log.InfoContext(ctx, "the tool call takes the place of an earlier one", "earlier", before)
	// Its slot, too: a call that may run one job at a time could replace none
	// otherwise.
	if err := e.cfg.Admission.Leave(ctx, job.Job{ToolCallID: before, Call: e.job.Call}, e.cfg.Now()); err != nil {
		e.log.WarnContext(ctx, "the earlier one counts as running until it has ended", "error", err)
	}
	return end{}, true
}

// superseded is the end of a job whose place was taken before it could start.
func (e *execution) superseded(ctx context.Context, later string) end {
	_, err := e.cfg.Table.Change(ctx, e.record.ID, job.Replace(e.cfg.Now(), "replaced by tool call "+later))
	if err != nil && !errors.Is(err, job.ErrFinished) {
		return e.unstarted(ctx, err)
	}
	e.log.InfoContext(ctx, "a later tool call has taken the place of this one", "later", later)
	// It cannot be stored, as the job is over.
	return failed(job.DeliverySilent, "A later tool call asks the same.", "replaced by tool call "+later)
}

// unstarted is the end of an attempt that could not be made.
func (e *execution) unstarted(ctx context.Context, err error) end {
	e.log.ErrorContext(ctx, "it cannot be told whether the tool may start; it is tried again", "error", err)
	return end{delay: batch.Backoff(firstDelay, batch.Receives(e.message)), unstarted: true, reason: err.Error()}
}

// refused is the end of a job that was not admitted.
func (e *execution) refused(ctx context.Context, err error) end {
	var limit *job.LimitError
	if !errors.As(err, &limit) {
		return e.unstarted(ctx, err)
	}
	e.log.WarnContext(ctx, "the call has reached a limit; the tool is not run", "concurrent", limit.Concurrent, "limit", limit.Most)
	text := fmt.Sprintf("The tool %s was not run: this call has used a tool %d times, and may not do so again. Tell the caller that you cannot do more in this call.", e.job.Tool, limit.Most)
	if limit.Concurrent {
		text = fmt.Sprintf("The tool %s was not run: %d tool calls of this call are still running, and no more may run at the same time. Wait for one of their results before you call it again.", e.job.Tool, limit.Most)
	}
	return failed(job.DeliveryRespond, text, limit.Error()).inPassing()
}

// callEnded is the end of a job whose tool stops with its call.
func (e *execution) callEnded(ctx context.Context, detail string) end {
	e.log.InfoContext(ctx, "the call has ended, and the tool with it", "detail", detail)
	return failed(job.Delivery(e.tool.Delivery), e.tool.FailureText, "its call has ended: "+detail).inPassing()
}

// failure says what follows from a tool's failure: another attempt, or what
// the caller is told.
func (e *execution) failure(ctx context.Context, f *toolrun.Failure) end {
	if f.Argument != "" {
		// What is told quotes the schema and never a value, yet the log
		// is no place for what a caller said.
		e.log.WarnContext(ctx, "the tool call's arguments break the schema")
		return failed(job.DeliveryRespond, f.Argument, f.Reason).inPassing()
	}
	delay := f.After
	if delay == 0 {
		delay = batch.Backoff(firstDelay, e.record.Attempt)
	}
	delay = min(delay, maxDelay)
	last := e.record.Attempt >= e.tool.Attempts || e.cfg.Now().Add(delay).After(e.record.Deadline)
	retry := f.Retry && !last
	e.log.ErrorContext(ctx, "tool failed", "retry", retry, "error", f.Reason)
	if retry {
		return end{delay: delay, reason: f.Reason}
	}
	text := f.Spoken
	if strings.TrimSpace(text) == "" {
		text = e.tool.FailureText
	}
	end := failed(job.Delivery(e.tool.Delivery), text, f.Reason)
	end.exhausted = f.Retry
	return end
}

// failed is the end that tells a failure.
func failed(delivery job.Delivery, text, reason string) end {
	return end{
		final:  true,
		result: job.Result{Status: job.StatusError, Delivery: delivery, Content: spoken.Cut(text)},
		reason: reason,
	}
}

// inPassing is the same end, where it only means something in the call.
func (e end) inPassing() end {
	e.passing = true
	return e
}

func (h *Handler) noSuchTool(name string) string {
	text := fmt.Sprintf("There is no such tool: %s.", name)
	entries := h.cfg.Tools.Entries()
	if len(entries) == 0 {
		return text
	}
	text += " There are:"
	for i, e := range entries {
		if i > 0 {
			text += ","
		}
		text += " " + e.Name
	}
	return text + ". Do not tell the caller a result that you do not have."
}
