package docs_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
)

// TestStatesOfAJob compares the drawing with the transitions that the rules of records
// allow.
func TestStatesOfAJob(t *testing.T) {
	now := time.Date(2026, 1, 5, 10, 30, 0, 0, time.UTC)
	early, late := now.Add(-time.Hour), now.Add(time.Hour) // before and after the deadline
	rules := []job.Rule{
		job.Claim(early, "m", time.Minute),
		job.Release(early, 0, false, ""),
		job.Suspend(early, job.Job{}, now, false, json.RawMessage(nil)),
		job.Finish(early, job.Result{}, false, ""),
		job.Complete(early, job.Result{}),
		job.Cancel(early, job.Result{}, ""),
		job.Replace(early, ""),
		job.Withdraw(early, ""),
		job.Settle(early, job.StateDelivered, ""),
		job.Settle(early, job.StateUndelivered, ""),
		job.Settle(early, job.StateParked, ""),
		job.Settle(early, job.StateReplayed, ""),
		job.Unpark(early, "call", now),
		job.Redrive(late, "m"),
		job.Redeliver(late, job.Job{ReceivedAt: late, CallEnds: late}, ""),
	}
	allowed := map[string]bool{}
	for _, from := range []job.State{
		job.StateRunning, job.StateWaiting, job.StateDone, job.StateParked, job.StateDelivered, job.StateUndelivered,
		job.StateCancelled, job.StateReplayed,
	} {
		for _, rule := range rules {
			r, err := rule.Apply(job.Record{
				State: from, Deadline: now, StoredJob: new(job.Job), Exhausted: true,
				Policy: job.Policy{Cancellable: true}, KeepResult: true,
			})
			if err == nil && r.State != from {
				allowed[string(from)+" to "+string(r.State)] = true
			}
		}
	}
	shown := map[string]bool{}
	arrow := regexp.MustCompile(`(?m)^    (\w+) --> (\w+): `)
	for _, edge := range arrow.FindAllStringSubmatch(read(t, "long-work.md"), -1) {
		if edge[1] != edge[2] {
			shown[edge[1]+" to "+edge[2]] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(allowed)), slices.Sorted(maps.Keys(shown))); diff != "" {
		t.Errorf("(-allowed +shown):\n%s", diff)
	}
}
