package asynctool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxState is the maximum size of a tool's state, in bytes of JSON.
const MaxState = 64 << 10

// Later suspends a tool. Make one with [ResumeIn], [ResumeAt] or [Wait].
type Later struct {
	// Outside means that an external system finishes the job: see [Wait].
	Outside bool
	// In and At are when the tool runs again. In applies if At is zero.
	In time.Duration
	At time.Time
	// State is passed to the tool's next run. It must marshal to at most
	// [MaxState] bytes of JSON. Nil means none.
	State any
}

// ResumeIn returns a result that suspends the tool and runs it again after d,
// which is seconds to days. The next run reads state with [State]. Nothing runs,
// and nothing is paid for, meanwhile. A tool may suspend itself any number of
// times until its deadline; a time after the deadline is an immediate failure.
//
// A wait of more than fifteen minutes may take a minute longer. Each tenth wait
// in a row takes at least a minute, and one or two more.
func ResumeIn(d time.Duration, state any) Result {
	return Result{Later: &Later{In: d, State: state}}
}

// ResumeAt is like [ResumeIn], with a point in time. A time that has passed means
// at once.
func ResumeAt(at time.Time, state any) Result {
	return Result{Later: &Later{At: at, State: state}}
}

// Wait returns a result that suspends the job until an external system posts its
// result to [Call.CompletionURL]. The tool does not run again. If its deadline
// passes first, its FailureText is delivered.
func Wait() Result { return Result{Later: &Later{Outside: true}} }

// State returns the state from the previous run of the tool. On the first run,
// when [Call.Resumes] is 0, it returns the zero value. It returns an error if the
// state does not fit S because an older version of the tool wrote it.
func State[S any](call Call) (S, error) {
	var s S
	if len(call.State) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(call.State, &s); err != nil {
		return s, Fail("", fmt.Errorf("cannot read the state of an earlier run: %w", err))
	}
	return s, nil
}

func (r Result) checkLater() error {
	switch {
	case r.Text != "" || r.Action != nil || r.Delivery != "" || r.External:
		return errors.New("it resumes later, so it must have no text, delivery or action; " +
			"report progress with Call.Progress")
	case r.Later.In < 0:
		return fmt.Errorf("it resumes in %s; the delay must not be negative", r.Later.In)
	}
	_, err := r.Later.Memory()
	return err
}

// Memory returns the state as JSON, or nil if there is none.
func (l Later) Memory() (json.RawMessage, error) {
	if l.State == nil {
		return nil, nil
	}
	b, err := json.Marshal(l.State)
	if err != nil {
		return nil, fmt.Errorf("its state does not marshal to JSON: %w", err)
	}
	if len(b) > MaxState {
		return nil, fmt.Errorf("its state has %d bytes of JSON; the maximum is %d", len(b), MaxState)
	}
	return b, nil
}

// Host serves the methods of [Call]. The program that runs a tool provides it.
type Host interface {
	// Progress delivers a progress line with [Say] or [Silent].
	Progress(ctx context.Context, text string, delivery Delivery)
	// CompletionURL returns the URL that takes the job's result.
	CompletionURL(ctx context.Context) (string, error)
}

// Reporter is a [Host] that keeps progress lines until the call has them.
type Reporter interface {
	Host
	// Report delivers a progress line with [Say], and returns when the call has it.
	Report(ctx context.Context, text string) error
}

// ErrNotHeard means that the call may not have a progress line of [Call.Report].
var ErrNotHeard = errors.New("the call did not confirm the progress line")

// ErrNoHost is returned by a [Call] without a [Host].
var ErrNoHost = errors.New("no completion URL: the call has no host")

// Progress tells the caller how far the tool is, word for word. At least five
// seconds pass between two lines: faster lines wait, and only the last of them is
// spoken. A line may get lost, but it never comes after a later one, nor after the
// result. [TaskStatus] reports the last line.
func (c Call) Progress(ctx context.Context, text string) { c.progress(ctx, text, Say) }

// Note is like [Call.Progress], but nothing is spoken: the assistant learns how
// far the tool is, and uses it when it fits.
func (c Call) Note(ctx context.Context, text string) { c.progress(ctx, text, Silent) }

// Report is [Call.Progress] for a line that must not get lost. It returns when the call has the line. So all
// lines arrive, in the order of their calls, at least five seconds apart, and before the result. Reports of
// several goroutines wait for each other. All of them count towards the tool's Timeout.
//
// The error is [ErrNotHeard] if the call has ended, does not confirm the line within two minutes, or cannot be
// reached, and if the job was ended by others. It is that of ctx if ctx ends first. In both cases, the line may
// still arrive. A line is repeated only if no part of Ringback can know that it arrived. In a chat, Report
// returns at once, as nothing is delivered there: [TaskStatus] reports the line.
//
// With a Host that is no [Reporter], as in a test of your own, Report is Progress.
func (c Call) Report(ctx context.Context, text string) error {
	if r, ok := c.Host.(Reporter); ok {
		return r.Report(ctx, text)
	}
	c.Progress(ctx, text)
	return nil
}

func (c Call) progress(ctx context.Context, text string, d Delivery) {
	if c.Host != nil {
		c.Host.Progress(ctx, text, d)
	}
}

// CompletionURL returns a URL to which an external system can post the job's
// result, once, until the job's deadline. Everyone who knows the URL can do so.
// Pass it on and return [Wait]; a result that is posted before that counts, too.
// The body is a text, or a JSON object with a "result", an "error" or a
// "progress". None of them is spoken word for word (see [Tool].ExternalProgress).
// If the tool has an OnPost, it reads the body instead, and the URL does not complete
// the job by itself.
// The error is [ErrNoHost] if the call has no Host.
func (c Call) CompletionURL(ctx context.Context) (string, error) {
	if c.Host == nil {
		return "", ErrNoHost
	}
	return c.Host.CompletionURL(ctx)
}
