// Package toolrun runs one tool within its time.
//
// It passes on the tool's progress lines, stops the tool when its work is no longer wanted, and
// converts what the tool returns. A tool that panics has failed. A tool that ignores the end of
// its context is abandoned, and has failed too. The package knows no queue and no table: the
// caller's functions use those.
package toolrun

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
)

const (
	// overrun is how long a tool may take to notice that its context has ended.
	overrun = time.Second

	// shutdownMargin is the part of the function's time that is reserved for storing and sending
	// the outcome.
	shutdownMargin = 10 * time.Second

	// lineTimeout bounds what a progress line may take. It may get lost, and must not delay what may
	// not.
	lineTimeout = 2 * time.Second

	// watchInterval is the time between two calls of [Config.Wanted]. Each of them costs two small
	// reads.
	watchInterval = 5 * time.Second
)

// Config describes one run of a tool. All of it but Post and Breakpoints is required.
type Config struct {
	Tool      *asynctool.Entry
	Call      asynctool.Call  // without Host
	Arguments json.RawMessage // decrypted

	// Post makes Run pass a post to the tool's OnPost, instead of running the tool. Nil means that it does not.
	Post *asynctool.Post

	// Host returns the host that the tool gets instead of the package's own.
	Host func(own asynctool.Host) asynctool.Host

	// Progress records a progress line and sends it. If it returns a [*job.TooSoonError], it is
	// called again later with the tool's last line. If it returns [job.ErrFinished], it is not
	// called again. All other errors are logged.
	Progress func(ctx context.Context, text string, silent bool) error

	// Report implements [asynctool.Reporter] for one line at a time.
	Report func(ctx context.Context, text string) error

	// CompletionURL implements [asynctool.Host]. A tool that was abandoned may still call it.
	CompletionURL func(ctx context.Context) (string, error)

	// Wanted returns nil while the tool's work is wanted, and if it cannot find out. It returns
	// the cause with which the tool's context ends otherwise.
	Wanted func(ctx context.Context) error

	// Waits converts the time that a tool asks to wait to the time until it runs again.
	Waits func(time.Duration) time.Duration

	// Breakpoints is how much longer than its timeout the tool may take.
	Breakpoints time.Duration

	Now func() time.Time
	Log *slog.Logger
}

// End is how a run ended: with a suspension, with a failure or, if both are nil, with a result.
type End struct {
	Result     job.Result
	Suspension *Suspension
	Failure    *Failure

	// Stopped is why the tool's context ended before the tool and its timeout: what
	// [Config.Wanted] returned, or the cause of the caller's context. Nil means that it did not.
	Stopped error
}

// Suspension is when a tool that is not finished runs again.
type Suspension struct {
	At        time.Time
	External  bool            // an external system finishes the job instead, and At means nothing
	ToolState json.RawMessage // for the next run
}

// Failure describes the error of a tool.
type Failure struct {
	Reason   string        // for the operator, in the record, events and the log
	Detail   string        // for the log instead of Reason; empty means Reason
	Argument string        // for the assistant, if the arguments break the schema; empty otherwise
	Spoken   string        // for the caller; empty means the tool's FailureText
	External bool          // Spoken is the text of an external system
	Retry    bool          // another attempt may succeed
	Free     bool          // the attempt has not begun anything, and does not count
	Ignored  bool          // the tool refuses the post, and nothing follows from it
	After    time.Duration // to wait before that attempt; 0 means that the tool does not say
}

// Run runs a tool within its timeout, and ends it in time before the deadline of ctx.
func Run(ctx context.Context, c Config) End {
	running, stop := context.WithCancelCause(ctx)
	h := newHost(ctx, &c)
	go c.watch(running, stop)
	c.Call.Host = c.Host(h)
	end := c.call(running)
	end.Stopped = context.Cause(running)
	stop(nil)
	h.close(end.Suspension != nil)
	return end
}

// watch ends the tool's context once its work is no longer wanted. It ends with the context. The
// result does not wait for it.
func (c *Config) watch(ctx context.Context, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if cause := c.Wanted(ctx); cause != nil {
			stop(cause)
			return
		}
	}
}

// call calls the tool, and abandons it if it does not return in time.
func (c *Config) call(ctx context.Context) End {
	timeout := c.Tool.Timeout
	if c.Post != nil {
		timeout = asynctool.PostTimeout
	}
	timeout += c.Breakpoints
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)-shutdownMargin)
	}
	if timeout <= 0 {
		return End{Failure: newFailure(errors.New("the function's time was up before the tool could start"))}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the tool ran longer than %s", timeout))
	defer cancel()

	done := make(chan End, 1)
	go func() {
		end := End{Failure: newFailure(errors.New("the tool ended its goroutine"))}
		defer func() {
			if p := recover(); p != nil {
				end = End{Failure: panicked(p, debug.Stack())}
			}
			done <- end
		}()
		// The text of an error, and the JSON of a result, come from the tool's code too. A nil
		// pointer as an error is the usual way for it to panic, so both are read here.
		var result asynctool.Result
		var err error
		if c.Post == nil {
			result, err = c.Tool.Run(ctx, c.Call, c.Arguments)
		} else {
			result, err = c.Tool.ReadPost(ctx, c.Call, *c.Post)
		}
		switch {
		case err == nil && result.Later != nil:
			end.Suspension, err = c.suspension(*result.Later)
		case err == nil:
			end.Result, err = convert(result)
		}
		end.Failure = nil
		if err != nil {
			end.Failure = newFailure(err)
		}
	}()

	select {
	case end := <-done:
		return end
	case <-ctx.Done():
	}
	// Most tools return as soon as their context ends, and their error says more about the cause
	// than we can.
	select {
	case end := <-done:
		if end.Failure != nil {
			end.Failure.after(context.Cause(ctx))
		}
		return end
	case <-time.After(overrun):
		return End{Failure: newFailure(fmt.Errorf("%w and ignores the end of its context", context.Cause(ctx)))}
	}
}

// panicked returns the failure of a tool that panicked. Its value may quote what a caller said, so it stays out of the
// record, which is kept for weeks.
func panicked(value any, stack []byte) *Failure {
	f := newFailure(errors.New("the tool panicked; the log has the value and the stack"))
	f.Detail = fmt.Sprintf("the tool panicked: %v\n%s", value, stack)
	return f
}

// after notes the cause for which the tool's context had ended before.
func (f *Failure) after(cause error) {
	f.Reason = cause.Error() + ": " + f.Reason
	if f.Detail != "" {
		f.Detail = cause.Error() + ": " + f.Detail
	}
}

// Logged returns what the log says of the failure.
func (f *Failure) Logged() string { return cmp.Or(f.Detail, f.Reason) }

func newFailure(err error) *Failure {
	f := &Failure{Reason: err.Error(), Retry: true}
	var argument *asynctool.ArgumentError
	var said *asynctool.Error
	var ignored *asynctool.IgnoredError
	switch {
	case errors.As(err, &ignored):
		f.Ignored, f.Retry = true, false
	case errors.As(err, &argument):
		f.Argument = argument.Message
	case errors.As(err, &said):
		f.Spoken, f.Retry, f.After = said.Spoken, said.Retry, max(said.After, 0)
		f.External, f.Free = said.External, said.Retry && said.NotStarted
		// The reason is logged. The spoken text must not be in it, as it may repeat what the
		// caller said.
		cause := "the tool names no cause"
		if said.Cause != nil {
			cause = said.Cause.Error()
		}
		f.Reason = strings.Replace(f.Reason, said.Error(), cause, 1)
	}
	return f
}

func (c *Config) suspension(l asynctool.Later) (*Suspension, error) {
	state, err := l.Memory()
	if err != nil {
		return nil, err
	}
	now := c.Now()
	wait := l.In
	if !l.At.IsZero() {
		wait = max(l.At.Sub(now), 0)
	}
	return &Suspension{At: now.Add(c.Waits(wait)), External: l.Outside, ToolState: state}, nil
}

// convert returns a tool's result in the form that is stored and delivered.
func convert(r asynctool.Result) (job.Result, error) {
	if r.Action == nil {
		return job.Result{Status: job.StatusOK, Delivery: r.Delivery, Content: spoken.Cut(r.Text), Own: !r.External}, nil
	}
	text := spoken.Clean(r.Text)
	var message vapi.ControlMessage
	switch action := r.Action.(type) {
	case asynctool.Transfer:
		message = vapi.Transfer{Number: action.Number, SIPURI: action.SIPURI, Content: text}
	case asynctool.Handoff:
		destination, err := json.Marshal(action.Destination)
		if err != nil {
			return job.Result{}, fmt.Errorf("the handoff's destination: %w", err)
		}
		message = vapi.Handoff{Destination: destination, Content: text}
	case asynctool.EndCall:
		message = vapi.EndCall{}
		if text != "" {
			message = vapi.Say{Content: text, EndCallAfterSpoken: true}
		}
	case asynctool.Control:
		message = vapi.Control{Action: vapi.ControlAction(action)}
	default:
		return job.Result{}, fmt.Errorf("there is no action %T", action)
	}
	control, err := json.Marshal(message)
	if err != nil {
		return job.Result{}, fmt.Errorf("the result's action: %w", err)
	}
	return job.Result{
		Status: job.StatusOK, Delivery: policy.DeliveryControl, Content: spoken.Cut(r.Text), Control: control,
		Own: !r.External,
	}, nil
}

// host implements [asynctool.Host] for a running tool. It passes on the progress lines one at a
// time. If they come too fast, it passes on only the last.
type host struct {
	*Config
	ctx   context.Context // outlives the tool's, and ends with close
	end   context.CancelFunc
	lines chan line     // the last line that was not passed on yet
	turn  chan struct{} // taken by a Report
	stop  chan struct{}
	done  chan struct{}
}

type line struct {
	text   string
	silent bool
}

func newHost(ctx context.Context, c *Config) *host {
	h := &host{
		Config: c, lines: make(chan line, 1), turn: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	h.ctx, h.end = context.WithCancel(ctx)
	go h.work()
	return h
}

// Progress implements [asynctool.Host]. The tool does not wait for it.
func (h *host) Progress(_ context.Context, text string, delivery asynctool.Delivery) {
	if text != "" {
		h.replace(line{text: text, silent: delivery == asynctool.Silent})
	}
}

// replace replaces the line that waits. A line without a text stands for none.
func (h *host) replace(l line) {
	for {
		select {
		case <-h.stop: // the lines of an abandoned tool are dropped
			return
		case h.lines <- l:
			return
		default:
		}
		select {
		case <-h.lines:
		default:
		}
	}
}

// Report implements [asynctool.Reporter]. It replaces a line of Progress that waits.
func (h *host) Report(ctx context.Context, text string) error {
	if text == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)() // an abandoned tool may still wait
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.turn }()
	h.replace(line{})
	return h.Config.Report(ctx, text)
}

// CompletionURL implements [asynctool.Host].
func (h *host) CompletionURL(ctx context.Context) (string, error) { return h.Config.CompletionURL(ctx) }

func (h *host) work() {
	defer close(h.done)
	for {
		select {
		case <-h.stop:
			return
		case l := <-h.lines:
			if !h.send(l) {
				return
			}
		}
	}
}

// send passes on a line. If the line comes too soon, send waits until it is due, or until the
// tool ends. It reports whether further lines may follow.
func (h *host) send(l line) bool {
	for {
		if l.text == "" {
			return true
		}
		ctx, cancel := context.WithTimeout(h.ctx, lineTimeout)
		err := h.Config.Progress(ctx, l.text, l.silent)
		cancel()
		var soon *job.TooSoonError
		if errors.As(err, &soon) {
			select {
			case <-h.stop:
				// For close, which decides what happens to it.
				select {
				case h.lines <- l:
				default:
				}
				return false
			case l = <-h.lines:
			case <-time.After(soon.Until.Sub(h.Now())):
			}
			continue
		}
		if err != nil && h.ctx.Err() == nil {
			h.Log.WarnContext(h.ctx, "cannot send progress line", "error", err)
		}
		return !errors.Is(err, job.ErrFinished)
	}
}

// close ends the host after the tool has ended. If the tool suspended its job, close passes on
// the last line, unless that comes too soon or takes too long. Otherwise the result replaces the
// line, and does not wait for one that is on its way.
func (h *host) close(suspended bool) {
	defer h.end()
	close(h.stop)
	if !suspended {
		return
	}
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		<-h.done
		select {
		case l := <-h.lines:
			h.send(l)
		default:
		}
	}()
	select {
	case <-passed:
	case <-time.After(lineTimeout):
	}
}
