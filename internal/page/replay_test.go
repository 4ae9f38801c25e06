package page_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/policy"
)

// TestReplayedJob shows a replay that has failed, and was not to be delivered. It looks neither like a delivered job
// nor like a loss, and does not count in the success rate of its tool.
func TestReplayedJob(t *testing.T) {
	w := newWorld(t, sleeps("lookup", 0))
	now := time.Now()
	original := job.Job{
		ID: job.ID("c", "t", "lookup", nil), ToolCallID: "t", Tool: "lookup", Call: job.Call{ID: "c"},
		ReceivedAt: now, CallEnds: now.Add(time.Hour),
	}
	replay := original.Replay(now, nil).WithoutCustomer()
	for _, j := range []job.Job{original, replay} {
		state, status := job.StateDelivered, job.StatusOK
		if j.ID == replay.ID {
			state, status = job.StateReplayed, job.StatusError
		}
		if _, err := jobtable.NewCallTracker(w.records.Calls()).Live(t.Context(), j.Call.ID, now); err != nil {
			t.Fatal(err)
		}
		r := job.NewRecord(j, job.Policy{}, j.CallEnds, "m", now, time.Minute)
		if _, err := w.pipeline.Table.Claim(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		result := job.Result{Status: status, Content: "The result.", Delivery: policy.DeliveryRespond}
		for _, rule := range []job.Rule{job.Finish(now, result, true, "why"), job.Settle(now, state, "")} {
			if _, err := w.pipeline.Table.Change(t.Context(), j.ID, rule); err != nil {
				t.Fatal(err)
			}
		}
	}
	contains(t, get(t, w.deployed, "/ui/tools"), "100 %")
	contains(t, get(t, w.deployed, "/ui/undelivered"), "Everything was delivered")
	contains(t, get(t, w.deployed, "/ui/jobs/"+replay.ID), "failed, replayed", "Replay started", "Result kept",
		"The result.")
	contains(t, get(t, w.deployed, "/?state=failed"), replay.ID)
	if body := get(t, w.deployed, "/?state=undelivered"); strings.Contains(body, replay.ID) {
		t.Error(body)
	}
}
