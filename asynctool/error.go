package asynctool

import "time"

// MaxNotStarted is how many errors of [NotStarted] do not count as attempts, for one job
// and between two suspensions.
const MaxNotStarted = 5

// Error is a tool's error with a text for the caller. Make one with [Fail], [TryAgain] or
// [NotStarted]. Any other error of a tool leads to another attempt while attempts
// are left. It is logged in full, and the caller hears the tool's FailureText.
type Error struct {
	// Spoken is the text for the caller. Empty means the tool's FailureText.
	Spoken string

	// External means that Spoken is the text of another system: see [Result].External.
	External bool

	// Retry reports that another attempt may succeed.
	Retry bool

	// After is the delay before that attempt. 0 means a delay that grows with
	// the attempts.
	After time.Duration

	// NotStarted means that the attempt has not begun anything, so it does not count: see
	// [NotStarted]. It requires Retry.
	NotStarted bool

	// Cause is logged and never reaches the caller. It may be nil.
	Cause error
}

// Fail returns a final failure: no further attempt follows, and spoken is
// delivered to the caller. cause is logged; it may be nil.
func Fail(spoken string, cause error) error {
	return &Error{Spoken: spoken, Cause: cause}
}

// TryAgain returns an error that asks for another attempt after a delay. A delay
// of 0 grows with the attempts. If no attempt is left, spoken is delivered to the
// caller. cause is logged; it may be nil.
func TryAgain(after time.Duration, spoken string, cause error) error {
	return &Error{Spoken: spoken, Retry: true, After: max(after, 0), Cause: cause}
}

// NotStarted is like [TryAgain], for a tool that is certain that it has not begun anything: it
// asked a service, and the service refused the request because it is busy. Such an attempt does
// not count, so that a tool that must not run twice, with one attempt, may be tried again.
//
// That happens [MaxNotStarted] times at most, and only until the tool's deadline. Further
// attempts count. Never return it if you do not know whether the work has begun, such as after a
// timeout.
func NotStarted(after time.Duration, spoken string, cause error) error {
	return &Error{Spoken: spoken, Retry: true, NotStarted: true, After: max(after, 0), Cause: cause}
}

func (e *Error) Error() string {
	switch {
	case e.Cause != nil && e.Spoken != "":
		return e.Spoken + ": " + e.Cause.Error()
	case e.Cause != nil:
		return e.Cause.Error()
	default:
		return e.Spoken
	}
}

func (e *Error) Unwrap() error { return e.Cause }

// ArgumentError means that a tool was not run because its arguments violate its
// schema. Message is for the assistant: it names what is missing or wrong, and
// what to ask the caller for. It may quote an argument, so do not log it.
type ArgumentError struct{ Message string }

func (e *ArgumentError) Error() string { return e.Message }
