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

// statusOf returns how a job is shown.
func statusOf(x operator.Job) status {
	s := status{x.StateWords(), kindQuiet}
	switch {
	case x.CountsAsFailed() && x.State != job.StateCancelled:
		s.Kind = kindBad
	case x.State == job.StateRunning, x.State == job.StateDone:
		s.Kind = kindBusy
	case x.State == job.StateWaiting, x.State == job.StateParked:
		s.Kind = kindWait
	case x.State == job.StateUndelivered:
		s.Kind = kindUneasy
	case x.State == job.StateDelivered && x.CancelledBy == "":
		s.Kind = kindGood
	}
	return s
}

// fits reports whether a filter selects a job. Several filters select a job that failed and was not delivered.
func fits(filter string, x operator.Job) bool {
	switch filter {
	case filterRunning:
		return x.State == job.StateRunning || x.State == job.StateDone
	case filterWaiting:
		return x.State == job.StateWaiting
	case filterDelivered:
		return x.State == job.StateDelivered && x.Status != job.StatusError
	case filterFailed:
		return operator.Filter{Failed: true}.Selects(x)
	case filterUndelivered:
		return operator.Filter{Undelivered: true}.Selects(x)
	case filterParked:
		return x.State == job.StateParked
	case filterCancelled:
		return x.State == job.StateCancelled || x.CancelledBy != ""
	}
	return true
}

// stepKinds are how steps are painted. Those that are missing are quiet.
var stepKinds = map[job.StepKind]kind{
	job.StepStarted: kindBusy, job.StepWoken: kindBusy, job.StepAttemptFailed: kindUneasy, job.StepNotStarted: kindUneasy,
	job.StepSuspended: kindWait, job.StepExternal: kindWait, job.StepFinished: kindGood,
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
	switch {
	case s.Detail == string(job.StatusError):
		k = kindBad
	case operator.Accepted(s):
		k = kindGood
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
	switch {
	case t.Year() != now.Year():
		return t.Format("2 Jan 2006")
	case t.YearDay() != now.YearDay():
		return t.Format("2 Jan")
	}
	return ""
}
