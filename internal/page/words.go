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

// statusOf returns how a job is shown, and the filter that selects it.
func statusOf(state job.State, result job.Status) (s status, filter string) {
	s = status{operator.StateWords(state, result), kindQuiet}
	switch state {
	case job.StateRunning:
		s.Kind, filter = kindBusy, filterRunning
	case job.StateWaiting:
		s.Kind, filter = kindWait, filterWaiting
	case job.StateDone:
		s.Kind, filter = kindBusy, filterRunning
	case job.StateParked:
		s.Kind, filter = kindWait, filterParked
	case job.StateUndelivered:
		s.Kind, filter = kindUneasy, filterUndelivered
	case job.StateDelivered:
		s.Kind, filter = kindGood, filterDelivered
	case job.StateCancelled:
		return s, filterCancelled
	}
	if result == job.StatusError {
		s.Kind = kindBad
		if state == job.StateDone || state == job.StateDelivered || state == job.StateReplayed {
			filter = filterFailed
		}
	}
	return s, filter
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
