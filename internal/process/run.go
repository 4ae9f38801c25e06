package process

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/process/toolrun"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/tracing"
)

// maxDelay bounds the delay before an attempt that a tool asks for.
const maxDelay = 15 * time.Minute

var (
	errJobEnded  = errors.New("the job was ended by others")
	errCallEnded = errors.New("the call has ended")
)

// runTool runs the tool once, with decrypted arguments. Then it finishes, suspends or releases the job.
func (e *execution) runTool(ctx context.Context, arguments json.RawMessage) *batch.Retry {
	// Use a copy: the execution continues, and an abandoned tool may still use the host.
	host := &toolHost{claimed: e.claimed, cfg: &e.cfg, out: e.out, seen: &e.seen}
	e.aside(ctx, host.sendHold)
	if e.parked.used && e.record.WakeUp == 0 {
		e.aside(ctx, func(ctx context.Context) { e.parked.request(ctx, host.claimed) })
	}
	if e.cfg.Replays != nil && e.record.WakeUp == 0 && e.record.Attempt == 1 {
		e.aside(ctx, host.storeCopy)
	}
	kept, stop := e.keep(ctx)
	defer stop()
	e.log.InfoContext(ctx, "tool started",
		"attempt", e.record.Attempt, "resumes", e.record.WakeUp, "timeout", e.tool.Timeout)
	started := e.cfg.Now()
	kept, span := tracing.Tool(kept, e.cfg.Tracer, e.tool.Name, e.record.Attempt, e.record.WakeUp)
	end := toolrun.Run(kept, e.toolConfig(host, arguments))
	endTool(span, end, e.again(end))
	took := e.cfg.Now().Sub(started)
	e.log = e.log.With("attempt", e.record.Attempt, "took", took)
	if took > e.tool.Timeout && e.cfg.Breakpoints > 0 {
		e.log.WarnContext(ctx, "tool ran for longer than its timeout, after which a function stops it",
			"timeout", e.tool.Timeout)
	}
	e.ended = errors.Is(end.Stopped, errJobEnded)
	switch f := end.Failure; {
	case f != nil && errors.Is(end.Stopped, errCallEnded):
		return e.finish(ctx, callEnded(ctx, e.claimed, f.Reason))
	case f != nil && e.ended:
		e.log.InfoContext(ctx, "tool stops, as its job was ended by others", "detail", f.Logged())
		return e.release(ctx, firstDelay, false, f.Reason)
	case f != nil:
		return e.retryOrFinish(ctx, f)
	case end.Suspension != nil:
		return e.suspend(ctx, *end.Suspension)
	}
	e.log.InfoContext(ctx, deployment.ToolFinished)
	return e.finish(ctx, &ending{result: end.Result})
}

// retryOrFinish releases the job for another attempt, or finishes it with the tool's failure.
func (e *execution) retryOrFinish(ctx context.Context, f *toolrun.Failure) *batch.Retry {
	if f.Argument != "" {
		// The text quotes the schema and never a value. Still, it does not belong in the log,
		// as a caller may have said it.
		e.log.WarnContext(ctx, "arguments break the schema")
		return e.finish(ctx, refused(f.Argument, f.Reason))
	}
	next := e.next(f)
	if next.retry && next.free {
		e.log.WarnContext(ctx, "tool has not begun anything; the attempt does not count",
			"in", next.delay, "error", f.Logged())
		return e.releaseAs(ctx, next.delay, job.ReleaseNotStarted(e.cfg.Now(), next.delay, f.Reason))
	}
	e.log.ErrorContext(ctx, deployment.ToolFailed, "retry", next.retry, "error", f.Logged())
	if next.retry {
		return e.release(ctx, next.delay, false, f.Reason)
	}
	end := failedBy(e.tool, f)
	end.exhausted = f.Retry
	return e.finish(ctx, end)
}

// attempt is what follows a failure.
type attempt struct {
	retry bool          // the tool is tried again
	free  bool          // the failed attempt does not count
	delay time.Duration // before the next one
}

// next returns what follows a failure of the tool.
func (e *execution) next(f *toolrun.Failure) attempt {
	delay := f.After
	if delay == 0 {
		delay = batch.Backoff(firstDelay, e.record.Attempt)
	}
	delay = min(delay, maxDelay)
	free := f.Free && e.record.NotStarted < asynctool.MaxNotStarted
	last := e.record.Counted() >= e.tool.Attempts && !free || e.cfg.Now().Add(delay).After(e.record.Deadline)
	return attempt{retry: f.Retry && f.Argument == "" && !last, free: free, delay: delay}
}

// again reports whether the tool is tried again.
func (e *execution) again(end toolrun.End) bool {
	unwanted := errors.Is(end.Stopped, errCallEnded) || errors.Is(end.Stopped, errJobEnded)
	return end.Failure != nil && !unwanted && e.next(end.Failure).retry
}

func (e *execution) toolConfig(h *toolHost, arguments json.RawMessage) toolrun.Config {
	return toolrun.Config{
		Tool: e.tool,
		Call: asynctool.Call{
			ID: e.job.Call.ID, OrgID: e.job.Call.OrgID, Type: e.job.Call.Type,
			AssistantID: e.job.Call.AssistantID, CustomerNumber: e.job.Call.CustomerNumber,
			ToolCallID: e.job.ToolCallID, JobID: e.job.ID, Attempt: e.record.Counted(),
			Resumes: e.record.WakeUp, State: e.record.ToolState,
		},
		Arguments: arguments,
		Host:      e.cfg.Host,
		Progress:  h.progress, Report: h.report, CompletionURL: h.completionURL, Wanted: h.wanted,
		Waits: e.cfg.Waits, Breakpoints: e.cfg.Breakpoints, Now: e.cfg.Now, Log: e.log,
	}
}

// toolHost serves the requests of a running tool, and sends its hold message.
type toolHost struct {
	claimed
	cfg  *Config
	out  *outbox
	seen *seen // of the execution

	reported time.Time // when report learned that its last line was settled
}

// storeCopy stores a copy of the job. Without it, the job can only not be replayed.
func (h *toolHost) storeCopy(ctx context.Context) {
	err := checkSize(h.job)
	if err == nil {
		err = h.cfg.Replays.Keep(ctx, h.job, h.cfg.Now())
	}
	if err != nil {
		h.log.WarnContext(ctx, "cannot store arguments for a replay", "error", err)
	}
}

// sendHold sends the hold message, which is delivered after a while. It waits on the results
// queue, and so survives this function. The callback function drops it if the job has ended by
// then.
func (h *toolHost) sendHold(ctx context.Context) {
	if h.tool.Hold == "" || h.record.WakeUp > 0 || h.record.Attempt > 1 || h.job.Call.Chat() {
		return
	}
	// The clocks of two functions may differ.
	after := min(max(h.tool.HoldAfter-h.cfg.Now().Sub(h.job.ReceivedAt), 0), queue.MaxDelay)
	hold := h.job.ProgressOutcome(0, h.tool.Hold, false, h.record)
	if err := h.out.sendAlone(ctx, hold, after); err != nil {
		h.log.WarnContext(ctx, "cannot send hold message", "error", err)
	}
}

// progress records a progress line and sends it.
func (h *toolHost) progress(ctx context.Context, text string, silent bool) error {
	record, err := h.cfg.Table.Change(ctx, h.record.ID, job.AddProgress(h.cfg.Now(), text))
	if err != nil {
		return err
	}
	h.seen.note(h.record, record)
	if h.job.Call.Chat() {
		return nil // a chat would answer to it; task_status reads it from the record
	}
	line := record.Progress
	return h.out.sendAlone(ctx, h.job.ProgressOutcome(line.Sequence, line.Text, silent, record), 0)
}

// completionURL stores the job, so that an external system can complete it, and returns the URL.
func (h *toolHost) completionURL(ctx context.Context) (string, error) {
	if h.cfg.Completions == nil {
		return "", ErrNoCompletionURL
	}
	if err := checkSize(h.job); err != nil {
		return "", err
	}
	record, err := h.cfg.Table.ChangeClaimed(ctx, h.seen.newest(h.record), job.StoreJob(h.job))
	if err != nil {
		return "", err
	}
	h.seen.note(h.record, record)
	if h.tool.ReadsPosts() {
		return h.cfg.Completions.PostURL(ctx, h.record.ID, h.record.Deadline)
	}
	return h.cfg.Completions.URL(ctx, h.record.ID, h.record.Deadline)
}

// wanted returns an error once the execution has lost its claim, or once the call has ended if
// the tool stops with its call. If a read fails, the next call of wanted repeats it.
func (h *toolHost) wanted(ctx context.Context) error {
	if r, err := h.cfg.Table.Load(ctx, h.record.ID); err == nil {
		if !r.OwnedAs(h.record) {
			return errJobEnded
		}
		h.seen.note(h.record, r)
	}
	if h.tool.StopWithCall {
		if live, err := h.cfg.CallTracker.Live(ctx, h.job.Call.ID, h.cfg.Now()); err == nil && !live {
			return errCallEnded
		}
	}
	return nil
}
