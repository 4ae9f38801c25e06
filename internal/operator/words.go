package operator

import (
	"fmt"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// Words returns the state of the job for people, and why its result was not delivered, or who cancelled the job.
func (x Job) Words() string {
	words := x.StateWords()
	if x.Why != "" {
		words += " (" + ReasonWords(x.Why) + ")"
	}
	return words
}

// StateWords returns the state of the job for people. A job that an operator has cancelled has not failed.
func (x Job) StateWords() string {
	if x.CancelledBy != "" && x.State != job.StateCancelled {
		return "cancelled, " + StateWords(x.State, "")
	}
	return StateWords(x.State, x.Status)
}

// CountsAsFailed reports whether the job has failed. One that was cancelled has not, although its result is a failure.
func (x Job) CountsAsFailed() bool { return x.Status == job.StatusError && x.CancelledBy == "" }

// StateWords returns the state of a job for people. result is the status of its result, and empty if that is not known.
// A failed job has other words than a job that is delivered, even if the caller has heard of the failure.
func StateWords(s job.State, result job.Status) string {
	words := string(s)
	switch s {
	case job.StateDone:
		words = "on its way"
	case job.StateParked:
		words = "parked"
	case job.StateUndelivered:
		words = "not delivered"
	}
	if result == job.StatusError && s != job.StateCancelled {
		words = "failed, " + words
	}
	return words
}

// reasons are the words for why a result was not delivered.
var reasons = map[job.Reason]string{
	job.ReasonCallGone:                "the call has ended",
	job.ReasonNoControlURL:            "the call has no control URL",
	job.ReasonDeadline:                "it was too late",
	job.ReasonMisconfigured:           "the control URL must not be posted to, or refuses all posts",
	job.ReasonRefused:                 "the call did not accept the message",
	job.ReasonUnreachable:             "the call could not be reached",
	job.ReasonUnspeakable:             "there is no control message for it",
	job.ReasonUnconfirmed:             "Vapi does not know whether the call got it",
	job.ReasonUnsupported:             "the call does not support its action",
	job.ReasonOutboundCallUnconfirmed: "the outbound call may or may not have been made",
	job.ReasonUnclaimed:               "the jobs table did not answer",
	job.ReasonNoNextCall:              "the customer did not call again",
	job.ReasonForgotten:               "an operator deleted it",
}

// ReasonWords returns a [job.Reason] for people. It returns any other text as it is.
func ReasonWords(why string) string {
	if words := reasons[job.Reason(why)]; words != "" {
		return words
	}
	return why
}

// steps are the words for the kinds of steps.
var steps = map[job.StepKind]string{
	job.StepReplay: "replay started", job.StepReplayed: "result kept, not to be delivered",
	job.StepReceived: "webhook received", job.StepQueued: "queued", job.StepStarted: "tool started",
	job.StepAttemptFailed: "attempt failed", job.StepNotStarted: "not started", job.StepProgress: "progress",
	job.StepSpoken: "progress sent to the call", job.StepSuspended: "suspended",
	job.StepExternal: "waits for an external completion", job.StepWoken: "woken up, tool started",
	job.StepCompleted: "completed by an external system", job.StepFinished: "tool finished", job.StepFailed: "failed",
	job.StepCancelled: "cancelled", job.StepDelivery: "delivery attempt", job.StepText: "text delivered, action follows",
	job.StepPostponed: "outbound call postponed", job.StepOutboundCall: "outbound call",
	job.StepNoOutboundCall: "outbound call not made", job.StepParked: "parked for the customer's next call",
	job.StepNextCall: "customer calls again", job.StepNoNextCall: "customer has not called again",
	job.StepForgotten: "deleted with its customer", job.StepRedriven: "redriven from the dead-letter queue",
	job.StepRepeated: "tool call repeated, result delivered again", job.StepDelivered: "delivered",
	job.StepUndelivered: "not delivered: undelivered event", job.StepDiscarded: "not delivered: dropped, as the tool asks",
	job.StepUnknown: "step of a newer version",
}

// StepWords returns a step for people, without its time.
func StepWords(s job.Step) string {
	if s.Kind == job.StepDropped {
		return "… " + s.Detail + " steps are not in the history"
	}
	words := steps[s.Kind]
	switch {
	case s.Kind == job.StepStarted && s.Detail != "":
		return words + ", attempt " + s.Detail
	case s.Kind == job.StepWoken && s.Detail != "":
		return words + ", attempt " + s.Detail
	case s.Kind == job.StepProgress && s.Detail != "" && s.Detail[0] <= '9':
		return words + ", line " + s.Detail
	case s.Kind == job.StepSpoken && s.Detail != "":
		return lineWords(s)
	case s.Kind == job.StepCancelled && s.Detail == "replaced":
		return "replaced by a later tool call"
	case s.Kind == job.StepCancelled:
		return words + " by the " + s.Detail
	case s.Kind == job.StepDelivery && s.Detail == "answer":
		return "delivery in the answer to the webhook"
	case s.Kind == job.StepDelivered && s.Detail == "answer":
		return words + " in the answer to the webhook"
	case s.Kind == job.StepDelivered && s.Detail == "outbound call":
		return words + " by an outbound call"
	case s.Kind == job.StepDelivered && s.Detail == "next call":
		return words + " in the customer's next call"
	case s.Kind == job.StepOutboundCall && s.Detail == "joined":
		return words + " of another job joined"
	case !s.Until.IsZero():
		return words + ", until " + s.Until.Local().Format(time.DateTime)
	case s.Kind == job.StepDelivery && s.Detail != "":
		return words + ": " + s.Detail
	case (s.Kind == job.StepUndelivered || s.Kind == job.StepDiscarded) && s.Detail != "":
		return words + " (" + ReasonWords(s.Detail) + ")"
	case s.Detail != "":
		return fmt.Sprintf("%s (%s)", words, s.Detail)
	}
	return words
}

// lineWords returns the step of a progress line for people. That the call accepted a line does not say that the caller
// has heard it.
func lineWords(s job.Step) string {
	line, answer := s.Line()
	words := "progress line " + line
	if line == "hold" {
		words = "hold message"
	}
	switch {
	case Accepted(s):
		return words + " accepted by the call"
	case answer != "":
		return words + " not accepted by the call: " + answer
	}
	return words + " sent to the call"
}

// Accepted reports whether the call accepted the progress line of a step.
func Accepted(s job.Step) bool {
	_, answer := s.Line()
	return s.Kind == job.StepSpoken && len(answer) == len("200") && answer[0] == '2'
}
