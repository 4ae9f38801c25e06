package operator_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/policy"
)

// TestComplete completes jobs by hand, as an external system does.
func TestComplete(t *testing.T) {
	w := newWorld(t)
	complete := func(id, text string) error { return w.near.Complete(t.Context(), id, job.StatusOK, text) }
	w.wait(t, "c", "a")
	w.out.err = errors.New("the queue is unavailable")
	if err := complete("c/a", "Approved."); err == nil || !strings.Contains(err.Error(), "complete it again: ") {
		t.Errorf("without a queue: %v", err)
	}
	w.out.err = nil
	if _, finished := errors.AsType[*operator.FinishedError](complete("c/a", "Another text.")); !finished {
		t.Error("a second result is accepted")
	}
	for n := 1; n <= 2; n++ { // an unnecessary copy of the outcome does no harm
		if err := complete("c/a", "Approved."); err != nil || len(w.out.sent) != n {
			t.Fatalf("%v, %d messages", err, len(w.out.sent))
		}
	}
	o, err := job.DecodeOutcome(w.out.sent[0].Body)
	if err != nil || o.JobID != "c/a" || o.Result.Status != job.StatusOK || o.Result.Content != "Approved." {
		t.Errorf("%+v, %v", o, err)
	}
	// The text is none of the tool, so it is not spoken word for word.
	if o.Result.Own || o.Result.Delivery != policy.DeliveryRespond {
		t.Errorf("%+v", o.Result)
	}
	if len(w.checks.sent) != 1 {
		t.Errorf("%d checks, want the one before the result was stored", len(w.checks.sent))
	}

	_, running := w.claim(t, "c", "b")
	if err := complete("c/b", "x"); !errors.Is(err, operator.ErrNotExternal) {
		t.Errorf("a running job: %v", err)
	}
	w.finish(t, running)
	finished, ok := errors.AsType[*operator.FinishedError](complete("c/b", "Another text."))
	if !ok || finished.State != job.StateDone {
		t.Errorf("a finished job: %v", finished)
	}
	if err := complete("c/e", "x"); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("an unknown job: %v", err)
	}
	w.wait(t, "c", "f")
	w.now = w.now.Add(48 * time.Hour)
	if err := complete("c/f", "x"); !errors.Is(err, job.ErrExpired) {
		t.Errorf("after the deadline: %v", err)
	}
}
