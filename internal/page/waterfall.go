package page

import (
	"fmt"
	"slices"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/operator"
)

// waterfall shows all jobs of a call on one time axis.
type waterfall struct {
	Ticks []tick
	Lanes []lane
	Ended string // where the call ended, as percent; empty if it is not known to have ended
	Began string // where the call began; empty if that is not known
	Took  string // the time that the axis shows

	BarKeys, MarkKeys []key // explain what is in the lanes
}

// key explains a kind of bars or of marks.
type key struct{ Kind, Text string }

// The kinds of bars and marks, in the order of the legend.
var (
	barKeys = []key{
		{barQueue, "queue"}, {barRun, "attempt"}, {barFail, "failed attempt"}, {barPause, "pause before a retry"},
		{barWait, "wait"}, {barExternal, "external system"}, {barDeliver, "delivery"},
	}
	markKeys = []key{
		{"webhook", "webhook"}, {"progress", "progress"}, {"spoken", "line accepted by the call"},
		{"unheard", "line not known to be accepted"}, {"external", "external completion"}, {"post", "delivery attempt"},
		{"delivered", "delivered"}, {"lost", "not delivered"}, {"parked", "parked"}, {"cancelled", "cancelled"},
	}
)

// tick is a mark on the time axis.
type tick struct {
	At, Text string
	after    time.Duration
}

// lane is a job in a waterfall.
type lane struct {
	Job      jobRow
	Bars     []bar
	Marks    []mark
	Verdict  string // what became of it, and when
	Kind     kind
	Late     bool // the call had ended before
	Describe string
}

// bar is a stretch of time. X and Width are percent.
type bar struct {
	Kind     string // queue, run, fail, wait, external, deliver
	X, Width string
	Open     bool // it lasts
	Text     string
}

// mark is a moment. X is percent.
type mark struct{ Kind, X, Text string }

// The kinds of bars, which are classes of the style sheet.
const (
	barQueue    = "queue"
	barRun      = "run"
	barFail     = "fail"
	barPause    = "pause"
	barWait     = "wait"
	barExternal = "external"
	barDeliver  = "deliver"
)

var barWords = map[string]string{
	barQueue: "on the queue", barRun: "attempt", barFail: "failed attempt", barPause: "before the next attempt",
	barWait: "waits", barExternal: "waits for an external system", barDeliver: "delivery",
}

// stretch is a bar in time.
type stretch struct {
	kind     string
	from, to time.Time
	open     bool
}

// moment is a mark in time.
type moment struct {
	kind, text string
	at         time.Time
}

// stretches divides the time of a job. now ends what has not ended.
func stretches(j operator.Job, now time.Time) (bars []stretch, marks []moment) {
	var current *stretch
	end := func(at time.Time) {
		if current != nil {
			current.to = at
			bars = append(bars, *current)
			current = nil
		}
	}
	begin := func(kind string, at time.Time) {
		end(at)
		current = &stretch{kind: kind, from: at}
	}
	point := func(kind string, s job.Step) {
		text, _ := describe(s)
		marks = append(marks, moment{kind, text, s.At})
	}
	for _, s := range j.Steps {
		switch s.Kind {
		case job.StepReceived, job.StepReplay:
			begin(barQueue, s.At)
			point("webhook", s)
		case job.StepQueued:
			if current == nil {
				begin(barQueue, s.At)
			}
		case job.StepStarted, job.StepWoken:
			begin(barRun, s.At)
		case job.StepAttemptFailed, job.StepNotStarted:
			if current != nil && current.kind == barRun {
				current.kind = barFail
			}
			begin(barPause, s.At)
		case job.StepSuspended:
			begin(barWait, s.At)
		case job.StepExternal:
			begin(barExternal, s.At)
		case job.StepProgress:
			point("progress", s)
		case job.StepSpoken:
			if operator.Accepted(s) {
				point("spoken", s)
			} else {
				point("unheard", s)
			}
		case job.StepText:
			point("spoken", s)
		case job.StepFailed:
			if current != nil && current.kind == barRun {
				current.kind = barFail
			}
			begin(barDeliver, s.At)
		case job.StepCompleted:
			point("external", s)
			begin(barDeliver, s.At)
		case job.StepFinished, job.StepNextCall, job.StepRedriven, job.StepRepeated:
			begin(barDeliver, s.At)
		case job.StepCancelled:
			point("cancelled", s)
			if j.State == job.StateCancelled {
				end(s.At)
				continue
			}
			begin(barDeliver, s.At)
		case job.StepPostponed:
			begin(barWait, s.At)
		case job.StepOutboundCall, job.StepNoOutboundCall:
			point("post", s)
			begin(barDeliver, s.At)
		case job.StepDelivery:
			point("post", s)
		case job.StepDelivered:
			point("delivered", s)
			end(s.At)
		case job.StepUndelivered, job.StepDiscarded, job.StepForgotten:
			point("lost", s)
			end(s.At)
		case job.StepReplayed:
			end(s.At)
		case job.StepParked:
			point("parked", s)
			begin(barWait, s.At)
		}
	}
	if len(j.Steps) == 0 { // an earlier version has the record
		begin(barRun, j.Created)
		if settled(j.State) {
			end(j.Updated)
		}
	}
	if current != nil {
		current.open = true
		end(now)
		if j.State == job.StateParked || settled(j.State) {
			bars[len(bars)-1].to = j.Updated
		}
	}
	return bars, marks
}

// newWaterfall returns the waterfall of a call.
func (p *Page) newWaterfall(d operator.CallDetails) waterfall {
	now := p.cfg.Now()
	type job_ struct {
		job   operator.Job
		bars  []stretch
		marks []moment
	}
	var all []job_
	from, to := d.Start(), d.Ended
	extend := func(at time.Time) {
		if at.IsZero() {
			return
		}
		if from.IsZero() || at.Before(from) {
			from = at
		}
		if at.After(to) {
			to = at
		}
	}
	for _, j := range d.Jobs {
		one := job_{job: j}
		one.bars, one.marks = stretches(j, now)
		for _, b := range one.bars {
			extend(b.from)
			extend(b.to)
		}
		for _, m := range one.marks {
			extend(m.at)
		}
		all = append(all, one)
	}
	total := max(to.Sub(from), time.Second)
	total += total / 30 // so that the last mark is not cut off
	percent := func(d time.Duration) string { return fmt.Sprintf("%.3f%%", 100*float64(d)/float64(total)) }
	at := func(t time.Time) string { return percent(t.Sub(from)) }
	w := waterfall{Ticks: ticks(total, percent), Took: span(to.Sub(from))}
	if d.Start().Equal(d.Began) {
		w.Began = at(d.Began)
	}
	if !d.Ended.IsZero() {
		w.Ended = at(d.Ended)
		// The mark of the end has a text of its own.
		for i, t := range w.Ticks {
			if distance := (d.Ended.Sub(from) - t.after).Abs(); distance*12 < total {
				w.Ticks[i].Text = ""
			}
		}
	}
	var barKinds, markKinds []string
	for _, one := range all {
		l := lane{Job: p.jobRow(one.job)}
		for _, b := range one.bars {
			barKinds = append(barKinds, b.kind)
			l.Bars = append(l.Bars, bar{
				Kind: b.kind, X: at(b.from), Width: percent(max(0, b.to.Sub(b.from))), Open: b.open,
				Text: barWords[b.kind] + ", " + span(b.to.Sub(b.from)),
			})
		}
		for _, m := range one.marks {
			markKinds = append(markKinds, m.kind)
			l.Marks = append(l.Marks, mark{m.kind, at(m.at), m.text + ", at " + span(m.at.Sub(from))})
		}
		l.Verdict, l.Kind, l.Late = verdict(one.job, l.Job, d.Ended, from)
		w.Lanes = append(w.Lanes, l)
	}
	w.BarKeys, w.MarkKeys = keysOf(barKeys, barKinds), keysOf(markKeys, markKinds)
	return w
}

// keysOf returns the keys of the kinds that are shown.
func keysOf(keys []key, kinds []string) []key {
	return slices.DeleteFunc(slices.Clone(keys), func(k key) bool { return !slices.Contains(kinds, k.Kind) })
}

// verdict says what became of a job, and when.
func verdict(j operator.Job, row jobRow, ended, from time.Time) (text string, k kind, late bool) {
	text, k = row.Status.Word, row.Status.Kind
	var ready, at time.Time // when there was a result, and when it was delivered or given up
	for _, s := range j.Steps {
		switch s.Kind {
		case job.StepFinished, job.StepFailed, job.StepCompleted, job.StepCancelled:
			ready = s.At
		case job.StepDelivered, job.StepUndelivered, job.StepDiscarded:
			at = s.At
		}
	}
	if at.IsZero() {
		if !settled(j.State) {
			return text, k, false
		}
		at = j.Updated
	}
	after := func(t time.Time) string { return span(t.Sub(ended)) + " after the hang-up" }
	late = !ended.IsZero() && at.After(ended)
	switch {
	case late && j.State != job.StateUndelivered:
		text += " " + after(at)
	case late && ready.After(ended):
		text += ": finished " + after(ready)
	case late:
		text += ": given up " + after(at)
	default:
		text += " at " + span(at.Sub(from))
	}
	return text, k, late
}

// ticks returns up to eight marks at round times.
func ticks(total time.Duration, percent func(time.Duration) string) []tick {
	const most = 8
	steps := []time.Duration{
		100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
		5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute,
		5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour,
		24 * time.Hour, 48 * time.Hour, 7 * 24 * time.Hour,
	}
	every := steps[len(steps)-1]
	for _, d := range steps {
		if total/d < most {
			every = d
			break
		}
	}
	var all []tick
	for d := time.Duration(0); d < total-every/3 && len(all) <= most; d += every {
		all = append(all, tick{percent(d), axis(d), d})
	}
	return all
}

// axis returns a time on the axis.
func axis(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d < time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%g s", d.Seconds())
	case d < time.Hour && d%time.Minute == 0:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < time.Hour:
		return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
	return fmt.Sprintf("%g h", d.Hours())
}
