package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/operator"
)

// kind is how a state is painted.
type kind string

const (
	kindGood   kind = "good"
	kindBad    kind = "bad"
	kindBusy   kind = "busy"
	kindWait   kind = "wait"
	kindQuiet  kind = "quiet"
	kindUneasy kind = "uneasy"
)

// status is the state of a job as it is shown: a failed job never looks like a delivered one.
type status struct {
	Word string
	Kind kind
}

// The states by which jobs are filtered.
const (
	filterRunning     = "running"
	filterWaiting     = "waiting"
	filterDelivered   = "delivered"
	filterFailed      = "failed"
	filterUndelivered = "undelivered"
	filterParked      = "parked"
	filterCancelled   = "cancelled"
)

func stateWord(s job.State) string {
	switch s {
	case job.StateDone:
		return "finished"
	case job.StateParked:
		return "parked"
	case job.StateUndelivered:
		return "not delivered"
	}
	return string(s)
}

// statusOf returns how a job is shown, and the filter that selects it.
func statusOf(state job.State, result job.Status) (s status, filter string) {
	failed := result == job.StatusError
	switch state {
	case job.StateRunning:
		return status{"running", kindBusy}, filterRunning
	case job.StateWaiting:
		return status{"waiting", kindWait}, filterWaiting
	case job.StateDone:
		if failed {
			return status{"failed, on its way", kindBad}, filterFailed
		}
		return status{"on its way", kindBusy}, filterRunning
	case job.StateParked:
		return status{"parked", kindWait}, filterParked
	case job.StateUndelivered:
		if failed {
			return status{"failed, not delivered", kindBad}, filterUndelivered
		}
		return status{"not delivered", kindUneasy}, filterUndelivered
	case job.StateCancelled:
		return status{"cancelled", kindQuiet}, filterCancelled
	case job.StateDelivered:
		if failed {
			return status{"failed", kindBad}, filterFailed
		}
		return status{"delivered", kindGood}, filterDelivered
	}
	return status{stateWord(state), kindQuiet}, ""
}

// reasons explain why a result was not delivered.
var reasons = map[string]string{
	string(job.ReasonCallGone):                "the call had ended",
	string(job.ReasonNoControlURL):            "the call has no control URL",
	string(job.ReasonDeadline):                "it was too late",
	string(job.ReasonMisconfigured):           "the control URL refuses all posts",
	string(job.ReasonRefused):                 "the call refused the message",
	string(job.ReasonUnreachable):             "the call could not be reached",
	string(job.ReasonUnspeakable):             "there is no message for it",
	string(job.ReasonUnconfirmed):             "Vapi does not know whether the call got it",
	string(job.ReasonUnsupported):             "the call does not support its action",
	string(job.ReasonOutboundCallUnconfirmed): "the outbound call may or may not have been made",
	string(job.ReasonUnclaimed):               "the jobs table did not answer",
	string(job.ReasonNoNextCall):              "the customer did not call again",
	string(job.ReasonForgotten):               "an operator deleted it",
}

func reasonWord(why string) string {
	if text := reasons[why]; text != "" {
		return text
	}
	return why
}

// stepKinds are how steps are painted. Those that are missing are quiet.
var stepKinds = map[job.StepKind]kind{
	job.StepStarted: kindBusy, job.StepWoken: kindBusy, job.StepAttemptFailed: kindUneasy, job.StepNotStarted: kindUneasy,
	job.StepSpoken: kindGood, job.StepSuspended: kindWait, job.StepExternal: kindWait, job.StepFinished: kindGood,
	job.StepCompleted: kindGood, job.StepFailed: kindBad, job.StepText: kindGood, job.StepPostponed: kindWait,
	job.StepOutboundCall: kindBusy, job.StepNoOutboundCall: kindUneasy, job.StepParked: kindWait,
	job.StepNextCall: kindBusy, job.StepNoNextCall: kindUneasy, job.StepForgotten: kindUneasy,
	job.StepRedriven: kindUneasy, job.StepDelivered: kindGood, job.StepUndelivered: kindUneasy,
}

// describe describes what happened to a job.
func describe(s job.Step) (text string, k kind) {
	k = stepKinds[s.Kind]
	if k == "" {
		k = kindQuiet
	}
	if s.Kind == job.StepCancelled && s.Detail == "operator" || s.Detail == string(job.StatusError) {
		k = kindBad
	}
	text = operator.StepWords(s)
	return strings.ToUpper(text[:1]) + text[1:], k
}

// span returns a duration as people read it.
func span(d time.Duration) string {
	switch {
	case d < -10*time.Millisecond:
		return "−" + span(-d)
	case d < 0: // the clocks of functions differ
		return "0 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return strings.TrimSuffix(fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60), " 0 s")
	case d < 48*time.Hour:
		return strings.TrimSuffix(fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60), " 0 min")
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// clock returns a time of the day.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("15:04:05")
}

// day returns a date, if it is not that of now.
func day(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return ""
	}
	return t.Format("2 Jan")
}
