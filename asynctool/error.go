package asynctool

import "time"

// Error is an error that says more than that something failed. Make one with
// [Fail] or [TryAgain]. Any other error of a tool is repeated while attempts
// are left, logged whole, and told to the caller as the tool's FailureText.
type Error struct {
	// Spoken is fit to be told to the caller. Empty means the tool's
	// FailureText.
	Spoken string

	// Retry says that another attempt may succeed.
	Retry bool

	// After is how long to wait before that attempt. 0 means a delay that
	// grows with the attempts.
	After time.Duration

	// Cause is for the log, never for the caller. May be nil.
	Cause error
}

// Fail is a final failure: no further attempt is made, and spoken is told to
// the caller. cause is logged; it may be nil.
func Fail(spoken string, cause error) error {
	return &Error{Spoken: spoken, Cause: cause}
}

// TryAgain asks for another attempt after a while, if the tool has one left;
// 0 means a delay that grows with the attempts. Where none is left, spoken is
// told to the caller. cause is logged; it may be nil.
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

// ArgumentError says that a tool was not run because its arguments break its
// schema. Message is written for the assistant: which argument is missing or
// wrong, and what to ask the caller for. It may quote an argument, so it does
// not belong in a log.
type ArgumentError struct{ Message string }

func (e *ArgumentError) Error() string { return e.Message }
