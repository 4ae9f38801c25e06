package job_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
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
