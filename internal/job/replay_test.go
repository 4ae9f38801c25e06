package job_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

// TestReplay replays a job with and without delivery. Its message must be read like that of any job.
func TestReplay(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	j := job.Job{
		ID: job.ID("c", "t", "tool", []byte(`{"a":1}`)), ToolCallID: "t", Tool: "tool", Arguments: json.RawMessage(`{"a":1}`),
		Call: job.Call{
			ID: "c", OrgID: "o", Type: "webCall", CustomerNumber: "+15550100100", ControlURL: "https://x.vapi.ai/c/control",
			SessionID: "s",
		},
		ReceivedAt: now.Add(-48 * time.Hour), CallEnds: now.Add(-36 * time.Hour), AnswerUntil: now.Add(-47 * time.Hour),
	}
	if job.IsReplay(j.ID) {
		t.Error("the original is a replay")
	}
	seen := map[string]bool{}
	for _, deliver := range []bool{false, true} {
		for _, arguments := range []json.RawMessage{nil, json.RawMessage(`{"a":2}`)} {
			got := j.Replay(now, arguments)
			if !deliver {
				got = got.WithoutCall()
			}
			want := j
			want.ID, want.ReceivedAt, want.CallEnds, want.AnswerUntil = got.ID, now, now.Add(12*time.Hour), time.Time{}
			if arguments != nil {
				want.Arguments = arguments
			}
			if !deliver {
				want.Call = job.Call{ID: got.Call.ID, OrgID: "o", Type: "webCall", CustomerNumber: "+15550100100"}
			}
			if diff := cmp.Diff(want, got); diff != "" || (got.Call.ID == "c") != deliver {
				t.Errorf("deliver %t: %s", deliver, diff)
			}
			if alone := got.WithoutCustomer(); alone.Call.ID == got.Call.ID || alone.Call.ControlURL != "" ||
				alone.Call.CustomerNumber != "" || string(alone.Arguments) != string(got.Arguments) {
				t.Errorf("without its customer: %+v", alone)
			}
			if !job.IsReplay(got.ID) || seen[got.ID] {
				t.Errorf("the id is %s", got.ID)
			}
			seen[got.ID] = true
			body, err := got.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if decoded, err := job.Decode(body); err != nil || decoded.ID != got.ID {
				t.Errorf("%+v, %v", decoded, err)
			}
		}
	}
}

// TestReplayWithoutDelivery ends a replay whose result is not to be delivered. No other job can end like it.
func TestReplayWithoutDelivery(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	ordinary := job.Job{
		ID: job.ID("c", "t", "tool", nil), ToolCallID: "t", Tool: "tool",
		Call: job.Call{
			ID: "c", CustomerNumber: "+15550100100", ControlURL: "https://x.vapi.ai/c/control", SessionID: "s",
		},
		ReceivedAt: now, CallEnds: now.Add(time.Hour),
	}
	kept := ordinary.Replay(now, nil).WithoutCustomer()
	if kept.Call.CustomerNumber+kept.Call.ControlURL+kept.Call.SessionID != "" || kept.Call.ID == "c" || !kept.KeepResult {
		t.Errorf("%+v", kept)
	}
	asks := ordinary
	asks.KeepResult = true
	inCall := ordinary.Replay(now, nil)
	inCall.KeepResult = true
	unreachable := asks
	unreachable.Call.ControlURL = ""
	for name, row := range map[string]struct {
		j    job.Job
		keep bool
		want string
	}{
		"without delivery":          {kept, true, "replay started failed replayed"},
		"a replay of it, delivered": {kept.Replay(now, nil), false, "replay started failed delivery"},
		"a replay in its call":      {inCall, false, "replay started failed delivery"},
		"a job that asks for it":    {asks, false, "received started failed delivery"},
		"such a job without a call": {unreachable, false, "received started failed delivery"},
		"an ordinary job":           {ordinary, false, "received started failed delivery"},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := row.j.Encode()
			if err != nil {
				t.Fatal(err)
			}
			j, err := job.Decode(body)
			if err != nil {
				t.Fatal(err)
			}
			r := job.NewRecord(j, job.Policy{}, j.CallEnds, "m", now, time.Minute)
			failed := job.Result{Status: job.StatusError, Content: "Sorry.", Delivery: policy.DeliveryRespond}
			for _, rule := range []job.Rule{job.Finish(now, failed, true, "why"), job.ClaimDelivery(now, time.Minute)} {
				if r, err = rule.Apply(r); err != nil {
					t.Fatal(err)
				}
			}
			// The message of a job that needs an operator goes to the dead-letter queue.
			if r.KeepResult != row.keep || r.Exhausted == row.keep {
				t.Errorf("%+v", r)
			}
			r, err = job.Settle(now, job.StateReplayed, "").Apply(r)
			if row.keep != (err == nil) || !row.keep && !errors.Is(err, job.ErrNotReplayed) {
				t.Errorf("settled as replayed: %v", err)
			}
			var steps []string
			for _, s := range r.Steps() {
				steps = append(steps, string(s.Kind))
			}
			if got := strings.Join(steps, " "); got != row.want {
				t.Errorf("the steps are %s, want %s", got, row.want)
			}
			if row.keep && (!r.State.Settled() || !slices.Contains(job.Ends(r.State), job.StepReplayed)) {
				t.Errorf("%+v", r)
			}
		})
	}
}
