package operator_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/operator"
)

// TestStateWords tests that no two states of jobs have the same words, and that those of a failed job say so.
func TestStateWords(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range []job.State{
		job.StateRunning, job.StateWaiting, job.StateDone, job.StateParked, job.StateDelivered, job.StateUndelivered,
	} {
		words := operator.StateWords(s, job.StatusOK)
		failed := operator.StateWords(s, job.StatusError)
		if words == "" || seen[words] || failed != "failed, "+words {
			t.Errorf("%s: %q and %q", s, words, failed)
		}
		seen[words] = true
	}
	if got := operator.StateWords(job.StateCancelled, job.StatusError); got != "cancelled" {
		t.Errorf("cancelled: %q", got)
	}
}

// TestCancelled tests that a job that was cancelled has not failed, although its result is a failure.
func TestCancelled(t *testing.T) {
	failed := operator.Job{State: job.StateDelivered, Status: job.StatusError}
	cancelled := failed
	cancelled.CancelledBy = "operator"
	for x, want := range map[*operator.Job]string{&failed: "failed, delivered", &cancelled: "cancelled, delivered"} {
		selected := operator.Filter{Failed: true}.Selects(*x)
		if got := x.Words(); got != want || selected != (x == &failed) || x.CountsAsFailed() != selected {
			t.Errorf("%q, want %q; it is among the failed ones: %t", got, want, selected)
		}
	}
}

// TestLineWords tests that only a progress line that the call accepted looks like one.
func TestLineWords(t *testing.T) {
	for detail, want := range map[string]string{
		"1/200":       "progress line 1 accepted by the call",
		"hold/200":    "hold message accepted by the call",
		"1/404":       "progress line 1 not accepted by the call: 404",
		"2/no answer": "progress line 2 not accepted by the call: no answer",
		"12":          "progress line 12 sent to the call",
		"hold":        "hold message sent to the call",
		"":            "progress sent to the call",
	} {
		step := job.Step{Kind: job.StepSpoken, Detail: detail}
		got, accepted := operator.StepWords(step), operator.Accepted(step)
		if got != want || accepted != strings.HasSuffix(detail, "/200") {
			t.Errorf("%q: %q, want %q; accepted: %t", detail, got, want, accepted)
		}
	}
	if operator.Accepted(job.Step{Kind: job.StepDelivery, Detail: "1/200"}) {
		t.Error("a delivery is no progress line")
	}
}

// TestReasonWords tests that each reason has words of its own, in the list and in the history.
func TestReasonWords(t *testing.T) {
	code := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := make(map[string]bool)
	for _, reason := range job.Reasons() {
		words := operator.ReasonWords(string(reason))
		step := operator.StepWords(job.Step{Kind: job.StepUndelivered, Detail: string(reason)})
		listed := operator.Job{State: job.StateUndelivered, Why: string(reason)}.Words()
		if code.MatchString(words) || seen[words] {
			t.Errorf("%s: %q", reason, words)
		}
		for _, text := range []string{step, listed} {
			if !strings.HasSuffix(text, " ("+words+")") {
				t.Errorf("%s: %q", reason, text)
			}
		}
		seen[words] = true
	}
	if got := operator.ReasonWords("a newer version's"); got != "a newer version's" {
		t.Errorf("an unknown reason: %q", got)
	}
}
