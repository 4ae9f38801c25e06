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
		dead, said := w.deadJobs, "is no job"
		if i%2 == 1 {
			dead, said = w.deadResults, "is no outcome"
		}
		if n := count(dead.Bodies(), body); n != 1 {
			t.Errorf("%.30q is in the dead-letter queue %d times", body, n)
		}
		if !strings.Contains(log.String(), said) || !strings.Contains(log.String(), job.ErrUnreadable.Error()) {
			t.Errorf("no log says that a message %s", said)
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
	for _, body := range w.deadJobs.Bodies() {
		if err := errors.Join(w.jobs.Send(context.Background(), []queue.Message{{Body: body}})...); err != nil {
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

	// Whose failure was told stays as it is: no tool runs, and nobody hears of
	// it again.
	w := run(t, setting{scenario: everything, store: inMemory, after: later})
	for _, v := range append(w.violations(), w.unexpected()...) {
		t.Error(v)
	}
	if n := w.deadJobs.Len(); n != 3 {
		t.Errorf("%d dead jobs, want 3", n)
	}

	// Who was never claimed, as the table was down until the queue gave up,
	// ends undelivered, and announced.
	down := outage{name: "table", ops: []string{"load", "save"}, kind: errorKind, lasts: time.Hour}
	scenario := []webhook{{call: "forgotten", calls: []toolCall{{id: "ok", tool: "quick", arguments: arguments}}}}
	w = run(t, setting{scenario: scenario, outages: []outage{down}, store: inMemory, after: later})
	const id = "forgotten/ok"
	if told, starts := len(w.observed.told[id]), len(w.observed.starts[id]); told > 0 || starts > 0 {
		t.Errorf("told %d times, started %d times", told, starts)
	}
	if got := w.outcome(id); got != "announced deadline, dead letter" {
		t.Errorf("it came to %q", got)
	}
	if r := w.records(); len(r) != 1 || r[0].State != job.Undelivered {
		t.Errorf("the records: %+v", r)
	}
}
