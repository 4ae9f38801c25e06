package faults_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// TestPoison puts messages that are no jobs and no outcomes on the queues: they
// hold up nobody, and end in the dead-letter queues with the reason logged.
func TestPoison(t *testing.T) {
	var log bytes.Buffer
	w := run(t, setting{scenario: everything, poison: poison, store: inMemory, log: slog.NewJSONHandler(&log, nil)})
	for _, v := range append(w.violations(), w.unexpected()...) {
		t.Error(v)
	}
	for i, body := range poison {
		dead, said := w.DeadJobs, "cannot decode job message"
		if i%2 == 1 {
			dead, said = w.DeadResults, "cannot decode outcome message"
		}
		if n := count(dead.Bodies(), body); n != 1 {
			t.Errorf("%.30q is in the dead-letter queue %d times", body, n)
		}
		if !strings.Contains(log.String(), said) || !strings.Contains(log.String(), job.ErrUnreadable.Error()) {
			t.Errorf("the log does not contain %q with the reason", said)
		}
	}
	if told := w.observed.toldAt["several/ok"].Sub(w.began); told > 2*time.Second {
		t.Errorf("a result was told after %s: poison was in its way", told)
	}
}

func count(texts []string, text string) int {
	n := 0
	for _, t := range texts {
		if t == text {
			n++
		}
	}
	return n
}

// redrive sends the dead jobs to their queue again, as SQS does: as new
// messages.
func (w *world) redrive() {
	for _, body := range w.DeadJobs.Bodies() {
		if err := errors.Join(w.Jobs.Send(context.Background(), []queue.Message{{Body: body}})...); err != nil {
			panic(err)
		}
	}
}

// TestRedrive redrives dead jobs when their calls are long gone.
func TestRedrive(t *testing.T) {
	later := func(w *world) {
		time.Sleep(3 * time.Hour)
		w.redrive()
	}

	// Whose failure was told: no tool runs and nobody hears of it in a call,
	// but it is announced, once for each time that it is redriven.
	testRedrive(t, everything, 3, later)
	// A wake is redriven as a job is.
	testRedrive(t, longWork, 1, later)

	// Who was never claimed, as the table was down until the queue gave up,
	// ends undelivered, and announced.
	down := outage{name: "table", ops: []string{"load", "save"}, kind: errorKind, lasts: time.Hour}
	scenario := []webhook{{call: "forgotten", calls: []toolCall{{id: "ok", tool: "quick", arguments: arguments}}}}
	w := run(t, setting{scenario: scenario, outages: []outage{down}, store: inMemory, after: later})
	const id = "forgotten/ok"
	if told, starts := len(w.observed.told[id]), len(w.observed.starts[id]); told > 0 || starts > 0 {
		t.Errorf("told %d times, started %d times", told, starts)
	}
	if got := w.outcome(id); got != "announced deadline, dead letter" {
		t.Errorf("it came to %q", got)
	}
	if r := w.records(); len(r) != 1 || r[0].State != job.StateUndelivered {
		t.Errorf("the records: %+v", r)
	}
}

// TestRedriveSleeper redrives a job that waits, and whose wake could not be
// arranged.
func TestRedriveSleeper(t *testing.T) {
	down := outage{name: "scheduler", ops: []string{"schedule"}, kind: errorKind, lasts: 15 * time.Minute}
	scenario := []webhook{{call: "abandoned", calls: []toolCall{{id: "alone", tool: "waits", arguments: arguments}}}}
	const id = "abandoned/alone"
	w := run(t, setting{scenario: scenario, outages: []outage{down}, store: inMemory, after: func(w *world) {
		if r := w.records(); len(r) != 1 || r[0].State != job.StateWaiting || len(w.DeadJobs.Bodies()) != 1 {
			t.Errorf("it is not asleep and dead: %+v", r)
		}
		w.redrive()
	}})
	if told := w.observed.told[id]; len(told) != 1 || w.outcome(id) != "told error, dead letter" || w.records()[0].State != job.StateDelivered {
		t.Errorf("it came to %q; told %+v", w.outcome(id), told)
	}
	if at := w.observed.toldAt[id].Sub(w.began); at < 30*time.Minute || at > 31*time.Minute {
		t.Errorf("told at %s", at)
	}
}

func testRedrive(t *testing.T, scenario []webhook, want int, later func(*world)) {
	var before []violation
	var dead []string
	told, starts, announced := make(map[string]int), make(map[string]int), make(map[string]int)
	w := run(t, setting{scenario: scenario, store: inMemory, after: func(w *world) {
		before = append(w.violations(), w.unexpected()...)
		for _, body := range w.DeadJobs.Bodies() {
			id := jobIn(body)
			dead = append(dead, id)
			told[id], starts[id], announced[id] = len(w.observed.told[id]), len(w.observed.starts[id]), len(w.observed.announced[id])
		}
		later(w)
	}})
	for _, v := range before {
		t.Error(v)
	}
	if len(dead) != want {
		t.Errorf("the dead jobs are %q, want %d", dead, want)
	}
	for _, id := range dead {
		o := w.observed
		if len(o.told[id]) != told[id] || len(o.starts[id]) != starts[id] {
			t.Errorf("%s was told %d times and started %d times, before %d and %d", id, len(o.told[id]), len(o.starts[id]), told[id], starts[id])
		}
		if len(o.announced[id]) != announced[id]+1 || o.announced[id][announced[id]].Reason != job.ReasonDeadline {
			t.Errorf("%s was announced %d times, before %d: %+v", id, len(o.announced[id]), announced[id], o.announced[id])
		}
		for _, r := range w.records() {
			if r.ID == id && (r.State != job.StateUndelivered || r.Exhausted) {
				t.Errorf("the record says: %s", show(r))
			}
		}
	}
	if w.Jobs.Len() != 0 {
		t.Errorf("%d jobs are on their way", w.Jobs.Len())
	}
}
