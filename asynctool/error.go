package asynctool

import "time"

// Error is a tool's error with a text for the caller. Make one with [Fail] or
// [TryAgain]. Any other error of a tool leads to another attempt while attempts
// are left. It is logged in full, and the caller hears the tool's FailureText.
type Error struct {
	// Spoken is the text for the caller. Empty means the tool's FailureText.
	Spoken string

	// Retry reports that another attempt may succeed.
	Retry bool

	// After is the delay before that attempt. 0 means a delay that grows with
	// the attempts.
	After time.Duration

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
