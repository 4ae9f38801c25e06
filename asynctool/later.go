package asynctool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxState is how large a tool's state may be, in bytes of JSON.
const MaxState = 64 << 10

// Later says that a tool is not finished, and when it goes on. Make one with
// [ResumeIn], [ResumeAt] or [Wait].
type Later struct {
	// Outside says that somebody else finishes the job: see [Wait].
	Outside bool
	// In and At say when the tool is run again; In counts where At is zero.
	In time.Duration
	At time.Time
	// State is what the tool is given when it is run again. It must marshal
	// to [MaxState] bytes of JSON at most. Nil means none.
	State any
}

// ResumeIn has the tool run again after a while, seconds to days, with a state
// of its own, which it reads with [State]. It may do so as often as it likes,
// until its deadline: one that lies after the deadline is a failure at once.
// Nothing runs, and nothing is paid for, meanwhile. A while of more than
// fifteen minutes may come to be a minute longer, and each tenth one in a row
// takes a minute at least, and one or two more.
func ResumeIn(d time.Duration, state any) Result {
	return Result{Later: &Later{In: d, State: state}}
}

// ResumeAt has the tool run again at a time: see [ResumeIn]. A time that has
// passed means at once.
func ResumeAt(at time.Time, state any) Result {
	return Result{Later: &Later{At: at, State: state}}
}

// Wait has the job wait until somebody outside has posted its result to the
// URL that [Call.CompletionURL] gives. The tool is not run again. Where its
// deadline passes first, its FailureText is told.
func Wait() Result { return Result{Later: &Later{Outside: true}} }

// State reads the state that the tool left when it was last run, and gives the
// zero value on the first run: see [Call.Resumes]. Its error says that the state
// does not fit S, as it was written by an older version of the tool.
func State[S any](call Call) (S, error) {
	var s S
	if len(call.State) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(call.State, &s); err != nil {
		return s, Fail("", fmt.Errorf("the state of an earlier run cannot be read: %w", err))
	}
	return s, nil
}

func (r Result) checkLater() error {
	switch {
	case r.Text != "" || r.Action != nil || r.Delivery != "":
		return errors.New("it goes on later, and has a text, a delivery or an action already; say how far it is with Call.Progress")
	case r.Later.In < 0:
		return fmt.Errorf("it goes on in %s", r.Later.In)
	}
	_, err := r.Later.Memory()
	return err
}

// Memory is the state as JSON; nil where there is none.
func (l Later) Memory() (json.RawMessage, error) {
	if l.State == nil {
		return nil, nil
	}
	b, err := json.Marshal(l.State)
	if err != nil {
		return nil, fmt.Errorf("its state is no JSON: %w", err)
	}
	if len(b) > MaxState {
		return nil, fmt.Errorf("its state has %d bytes of JSON; the most is %d", len(b), MaxState)
	}
	return b, nil
}

// Host is what runs a tool, as far as the tool may ask something of it.
type Host interface {
	// Progress tells how far the tool is, with [Say] or [Silent].
	Progress(ctx context.Context, text string, delivery Delivery)
	// CompletionURL is where the job's result can be posted.
	CompletionURL(ctx context.Context) (string, error)
}

// ErrNoHost says that a [Call] was made without a [Host].
var ErrNoHost = errors.New("nothing runs this tool that somebody outside could reach")

// Progress has the caller told how far the tool is, word for word. Lines that
// come faster than one in five seconds are held back, and only the last of them
// is told. A line may get lost, never comes after a later one, and never after
// the result. The last line is part of what the tool task_status answers.
func (c Call) Progress(ctx context.Context, text string) { c.progress(ctx, text, Say) }

// Note is [Call.Progress] without a word: the assistant learns how far the tool
// is, and uses it when it fits.
func (c Call) Note(ctx context.Context, text string) { c.progress(ctx, text, Silent) }

func (c Call) progress(ctx context.Context, text string, d Delivery) {
	if c.Host != nil {
		c.Host.Progress(ctx, text, d)
	}
}

// CompletionURL gives a URL for somebody outside, to whom the job's result is
// left: who knows it can post that result, once, until the job's deadline. Hand
// it on, and return [Wait]. A result that is posted earlier counts, too. Posted
// is a text, or a JSON object with a "result", an "error" or a "progress".
func (c Call) CompletionURL(ctx context.Context) (string, error) {
	if c.Host == nil {
		return "", ErrNoHost
	}
	return c.Host.CompletionURL(ctx)
}
