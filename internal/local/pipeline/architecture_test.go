package pipeline_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// withModel returns a webhook whose assistant has a model.
func withModel(t *testing.T, webhook, model string) string {
	t.Helper()
	var document map[string]map[string]any
	if err := json.Unmarshal([]byte(webhook), &document); err != nil {
		t.Fatal(err)
	}
	document["message"]["assistant"] = map[string]any{"model": json.RawMessage(model)}
	body, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

const (
	classicModel = `{"provider":"openai","model":"gpt-4o"}`
	liveModel    = `{"provider":"openai","model":"gpt-live-1","speaker":{},"reasoner":{}}`
)

// TestArchitecture tests that a simulated call has the architecture that its webhooks show.
func TestArchitecture(t *testing.T) {
	for name, row := range map[string]struct {
		model string // none if empty
		live  bool
	}{
		"unknown":  {"", false},
		"classic":  {classicModel, false},
		"GPT-Live": {liveModel, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var received []string
				w := newWorld(t, func(cfg *pipeline.Config) {
					cfg.Received = func(_ context.Context, m vapi.Message) { received = append(received, m.Call.ID) }
				}, echo)
				body := webhook("call", "")
				if row.model != "" {
					body = withModel(t, body, row.model)
				}
				w.post(body)
				if status, _ := w.request("/vapi", "not JSON", nil); status != http.StatusBadRequest {
					t.Errorf("a webhook that is not JSON was answered with %d", status)
				}
				if len(received) != 1 || received[0] != "call" {
					t.Errorf("the calls of the webhooks are %q", received)
				}
				for _, post := range []struct {
					message  vapi.ControlMessage
					accepted bool
				}{
					{vapi.AddMessage{Role: vapi.RoleSystem, Content: "x"}, !row.live},
					{vapi.Say{Content: "x"}, !row.live},
					{vapi.AppendContext{Kind: vapi.Commentary, Content: "x"}, row.live},
					{vapi.EndCall{}, true}, // after it, the call accepts nothing
				} {
					receipt := w.Calls.Post(t.Context(), "call", post.message)
					if got := receipt.Verdict == vapiclient.Delivered; got != post.accepted {
						t.Errorf("the receipt of %T is %+v, want it accepted: %t", post.message, receipt, post.accepted)
					}
				}
				receipt := w.Calls.Post(t.Context(), "another", vapi.Say{Content: "x"})
				if receipt.Verdict != vapiclient.Delivered {
					t.Errorf("the receipt of a say in another call is %+v", receipt)
				}
			})
		})
	}
}
