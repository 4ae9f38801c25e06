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

// TestPoison puts messages that are no jobs and no outcomes on the queues. They delay
// no job, and end in the dead-letter queues with the reason logged.
func TestPoison(t *testing.T) {
	var log bytes.Buffer
	w := run(t, setting{scenario: everything, poison: poison, store: inMemory, log: slog.NewJSONHandler(&log, nil)})
	for _, v := range append(w.violations(), w.unexpected()...) {
		t.Error(v)
	}
	for i, body := range poison {
		dead, logged := w.DeadJobs, "cannot decode job message"
		if i%2 == 1 {
			dead, logged = w.DeadResults, "cannot decode outcome message"
		}
		if n := count(dead.Bodies(), body); n != 1 {
			t.Errorf("%.30q is in the dead-letter queue %d times", body, n)
		}
		if !strings.Contains(log.String(), logged) || !strings.Contains(log.String(), job.ErrUnreadable.Error()) {
			t.Errorf("the log does not contain %q with the reason", logged)
		}
	}
	ok := webhook{call: "several"}.job(toolCall{id: "ok", tool: "quick"})
	at, delivered := w.observed.deliveredAt[ok]
	if took := at.Sub(w.began); !delivered || took > 2*time.Second {
		t.Errorf("a result was delivered (%t) after %s: poison delayed it", delivered, took)
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

// redrive sends the dead jobs to their queue again, as new messages, as SQS does.
func (w *world) redrive() {
	for _, body := range w.DeadJobs.Bodies() {
		if err := errors.Join(w.Jobs.Send(context.Background(), []queue.Message{{Body: body}})...); err != nil {
			panic(err)
		}
	}
}

// TestRedrive redrives dead jobs long after their calls.
func TestRedrive(t *testing.T) {
	later := func(w *world) {
		time.Sleep(3 * time.Hour)
		w.redrive()
	}

	// The failure of these was delivered. No tool runs, and nothing is delivered again.
	// The failure is published once for each redrive.
	testRedrive(t, everything, 3, later)
	// A wake-up is redriven like a job.
	testRedrive(t, longWork, 1, later)

	// This one was never claimed, since the table was down until the queue gave up. It
	// is published as undelivered.
	down := outage{name: "table", ops: []string{"load", "save"}, kind: errorKind, lasts: time.Hour}
	scenario := []webhook{{call: "forgotten", calls: one("ok", "quick", "")}}
	w := run(t, setting{scenario: scenario, outages: []outage{down}, store: inMemory, after: func(w *world) {
		time.Sleep(12 * time.Hour) // as long as its call could last
		w.redrive()
	}})
	id := scenario[0].first()
	if delivered, starts := len(w.observed.delivered[id]), len(w.observed.starts[id]); delivered > 0 || starts > 0 {
		t.Errorf("delivered %d times, started %d times", delivered, starts)
	}
	if got := w.outcome(id); got != "published deadline, dead letter" {
		t.Errorf("it ended with %q", got)
	}
	if r := w.records(); len(r) != 1 || r[0].State != job.StateUndelivered {
		t.Errorf("the records: %+v", r)
	}
}

// TestRedriveSuspended redrives a suspended job whose wake-up could not be scheduled.
func TestRedriveSuspended(t *testing.T) {
	down := outage{name: "scheduler", ops: []string{"schedule"}, kind: errorKind, lasts: 15 * time.Minute}
	scenario := []webhook{{call: "abandoned", calls: one("alone", "waits", "")}}
	id := scenario[0].first()
	w := run(t, setting{scenario: scenario, outages: []outage{down}, store: inMemory, after: func(w *world) {
		if r := w.records(); len(r) != 1 || r[0].State != job.StateWaiting || len(w.DeadJobs.Bodies()) != 1 {
			t.Errorf("it is not suspended with a dead letter: %+v", r)
		}
		w.redrive()
	}})
	delivered, outcome := w.observed.delivered[id], w.outcome(id)
	if len(delivered) != 1 || outcome != "delivered error, dead letter" || w.records()[0].State != job.StateDelivered {
		t.Errorf("it ended with %q; delivered %+v", outcome, delivered)
	}
	if at := w.observed.deliveredAt[id].Sub(w.began); at < 30*time.Minute || at > 31*time.Minute {
		t.Errorf("delivered at %s", at)
	}
}

func testRedrive(t *testing.T, scenario []webhook, want int, later func(*world)) {
	type counts struct{ delivered, started, published int }
	count := func(w *world, id string) counts {
		o := w.observed
		return counts{len(o.delivered[id]), len(o.starts[id]), len(o.published[id])}
	}
	var violations []violation
	before := make(map[string]counts) // by dead job
	w := run(t, setting{scenario: scenario, store: inMemory, after: func(w *world) {
		violations = append(w.violations(), w.unexpected()...)
		for _, body := range w.DeadJobs.Bodies() {
			before[jobIn(body)] = count(w, jobIn(body))
		}
		later(w)
	}})
	for _, v := range violations {
		t.Error(v)
	}
	if len(before) != want {
		t.Errorf("the dead jobs are %v, want %d", before, want)
	}
	for id, counted := range before {
		counted.published++
		if got := count(w, id); got != counted {
			t.Errorf("%s: %+v, want %+v", id, got, counted)
		} else if last := w.observed.published[id][got.published-1]; last.Reason != job.ReasonDeadline {
			t.Errorf("%s was published for %s, want %s", id, last.Reason, job.ReasonDeadline)
		}
		for _, r := range w.records() {
			if r.ID == id && (r.State != job.StateUndelivered || r.Exhausted) {
				t.Errorf("the record is %s", show(r))
			}
		}
	}
	if w.Jobs.Len() != 0 {
		t.Errorf("%d jobs are in flight", w.Jobs.Len())
	}
}
