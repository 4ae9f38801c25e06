package simcall_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

func TestWebhook(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	request := simcall.Request{
		CallID: "call-1", ToolCallID: "call_2", ControlURL: "http://127.0.0.1/call-1/control", Number: "+15550100123",
		Tool: "book", Body: map[string]any{"async": true, "server": map[string]any{"timeoutSeconds": 30}},
		Arguments: map[string]any{"seats": 3, "from": "the model"},
		Static: map[string]string{
			"from": "replaced", "number": "{{customer.number}}", "both": "{{ call.id }} of {{call.type}}", "no": "{{call.x.y}}",
		},
	}
	for _, live := range []bool{false, true} {
		request.GPTLive = live
		body, err := simcall.Webhook(request, now)
		if err != nil {
			t.Fatal(err)
		}
		m, err := vapi.ParseMessage(body)
		if err != nil {
			t.Fatal(err)
		}
		architecture := vapi.ArchitectureClassic
		if live {
			architecture = vapi.ArchitectureGPTLive
		}
		want := vapi.Message{
			Type: vapi.TypeToolCalls, Timestamp: now, ServerTimeout: 30 * time.Second,
			ToolCalls: []vapi.ToolCall{{ID: "call_2", Name: "book", Async: true, Arguments: json.RawMessage(`{` +
				`"both":"call-1 of inboundPhoneCall","from":"the model","no":"{{call.x.y}}","number":"+15550100123","seats":3}`)}},
			Call: vapi.Call{
				ID: "call-1", Type: "inboundPhoneCall", AssistantID: m.Call.AssistantID, PhoneNumberID: m.Call.PhoneNumberID,
				CustomerNumber: "+15550100123", ControlURL: "http://127.0.0.1/call-1/control", Architecture: architecture,
				Began: now,
			},
		}
		if diff := cmp.Diff(want, m); diff != "" || m.Call.AssistantID == "" || m.Call.PhoneNumberID == "" {
			t.Errorf("GPT-Live %t: %s", live, diff)
		}
	}
}

// TestEnd hangs up: nothing reaches the call any more.
func TestEnd(t *testing.T) {
	for _, live := range []bool{false, true} {
		calls := simcall.Calls{GPTLive: func(string) bool { return live }}
		message := vapi.ControlMessage(vapi.Say{Content: "Hello."})
		if live {
			message = vapi.AppendContext{Kind: vapi.Commentary, Content: "Hello."}
		}
		if got := calls.Post(t.Context(), "a", message); got.Verdict != vapiclient.Delivered {
			t.Errorf("GPT-Live %t, before the end: %+v", live, got)
		}
		calls.End("a")
		if got := calls.Post(t.Context(), "https://x/a/control", message); got.Verdict != vapiclient.Gone || got.Status != 404 {
			t.Errorf("GPT-Live %t, after the end: %+v", live, got)
		}
		if got := calls.Post(t.Context(), "b", message); got.Verdict != vapiclient.Delivered {
			t.Errorf("GPT-Live %t, another call: %+v", live, got)
		}
		if !calls.Ended("a") || calls.Ended("b") || len(calls.Messages("a")) != 1 {
			t.Errorf("GPT-Live %t: %t, %t, %v", live, calls.Ended("a"), calls.Ended("b"), calls.Messages("a"))
		}
	}
}

func TestEnded(t *testing.T) {
	call := vapi.Call{ID: "a", Type: "webCall", CustomerNumber: "+15550100123", ControlURL: "https://x/a/control"}
	body, err := simcall.Ended(call, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m, err := vapi.ParseMessage(body)
	if diff := cmp.Diff(call, m.Call); err != nil || !m.CallEnded() || diff != "" {
		t.Errorf("%v, %+v, %s", err, m, diff)
	}
}

// TestFresh makes each sample a webhook that was never posted.
func TestFresh(t *testing.T) {
	files, err := filepath.Glob("../../../events/vapi/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		webhook, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		got, err := simcall.Fresh(webhook, func() string { n++; return fmt.Sprint("new-", n) })
		if err != nil {
			t.Fatal(err)
		}
		before, err := vapi.ParseMessage(webhook)
		if err != nil {
			t.Fatal(err)
		}
		after, err := vapi.ParseMessage(got)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if !strings.HasPrefix(after.Call.ID, "new-") || strings.Contains(string(got), before.Call.ID) {
			t.Errorf("%s: the call is %+v", name, after.Call)
		}
		ids := make(map[string]string)
		for i, call := range after.ToolCalls {
			old := before.ToolCalls[i]
			if known := ids[old.ID]; !strings.HasPrefix(call.ID, "new-") && old.ID != "" || known != "" && known != call.ID {
				t.Errorf("%s: the id of tool call %d is %q, and was %q", name, i, call.ID, old.ID)
			}
			ids[old.ID] = call.ID
			var want, arguments any
			if err := errors.Join(json.Unmarshal(old.Arguments, &want), json.Unmarshal(call.Arguments, &arguments)); err != nil {
				t.Fatal(err)
			}
			if call.Name != old.Name || !cmp.Equal(want, arguments) || call.Async != old.Async {
				t.Errorf("%s: tool call %d is %+v, and was %+v", name, i, call, old)
			}
		}
	}
	if _, err := simcall.Fresh([]byte("{nope"), func() string { return "" }); err == nil {
		t.Error("a broken webhook is accepted")
	}
}
