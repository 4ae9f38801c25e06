package simcall_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

func TestCalls(t *testing.T) {
	var heard []string
	calls := simcall.Calls{Heard: func(id string, m vapi.ControlMessage) { heard = append(heard, id) }}
	server := httptest.NewServer(calls.Handler())
	defer server.Close()
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/a/control", `{"type":"say","content":"one"}`, http.StatusOK},
		{"/b/control", `{"type":"end-call"}`, http.StatusOK},
		{"/a/control", `{"type":"say","content":"two"}`, http.StatusOK},
		{"/a/control", `{"type":"dance"}`, http.StatusBadRequest},
		{"/a/control", `{"type":"transfer","destination":{"type":"number","number":"030 123"}}`, http.StatusBadRequest},
		{"/a/control", strings.Repeat(" ", 1<<20+1), http.StatusRequestEntityTooLarge},
		{"/a/listen", `{"type":"end-call"}`, http.StatusNotFound},
	} {
		response, err := http.Post(server.URL+c.path, "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.status {
			t.Errorf("%s %.40s was answered with %d, want %d", c.path, c.body, response.StatusCode, c.status)
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "a"}, heard); diff != "" {
		t.Error(diff)
	}
	want := []vapi.ControlMessage{vapi.Say{Content: "one"}, vapi.Say{Content: "two"}}
	if diff := cmp.Diff(want, calls.Messages("a")); diff != "" {
		t.Error(diff)
	}
	if len(calls.Messages("b")) != 1 || len(calls.Messages("c")) != 0 {
		t.Errorf("b got %v, c got %v", calls.Messages("b"), calls.Messages("c"))
	}
}

// TestArchitectures tests what each kind of call accepts.
func TestArchitectures(t *testing.T) {
	calls := simcall.Calls{GPTLive: func(id string) bool { return strings.HasPrefix(id, "live") }}
	server := httptest.NewServer(calls.Handler())
	defer server.Close()
	for i, row := range []struct {
		body          string
		classic, live bool
	}{
		{`{"type":"add-message","message":{"role":"system","content":"x"}}`, true, false},
		{`{"type":"say","content":"x"}`, true, false},
		{`{"type":"control","control":"mute-assistant"}`, true, false},
		{`{"type":"control","control":"say-first-message"}`, true, false},
		{`{"type":"handoff","destination":{"type":"assistant","assistantId":"a"}}`, true, false},
		{`{"type":"end-call"}`, true, true},
		{`{"type":"append-context","kind":"commentary","content":"x"}`, false, true},
		{`{"type":"append-context","kind":"thinking","content":"x"}`, false, true},
		{`{"type":"append-context","kind":"instructions","content":"x"}`, false, true},
		{`{"type":"append-context","kind":"remark","content":"x"}`, false, false},
		{`{"type":"append-context","kind":"commentary","content":" "}`, false, false},
		{`{"type":"append-context","kind":"commentary","content":"` + strings.Repeat("x", 16_001) + `"}`, false, false},
		{`{"type":"transfer","destination":{"type":"number","number":"+15550100"}}`, true, true},
		{`{"type":"transfer","destination":{"type":"number","number":"+15550100"},"content":"x"}`, true, false},
		{`{"type":"transfer","destination":{"type":"sip","sipUri":"sip:desk@example.com"}}`, true, true},
		{`{"type":"transfer","destination":{"type":"number","number":"+15550100",` +
			`"transferPlan":{"mode":"blind-transfer"}}}`, true, true},
		{`{"type":"transfer","destination":{"type":"number","number":"+15550100",` +
			`"transferPlan":{"mode":"warm-transfer-with-summary"}}}`, true, false},
	} {
		for call, accepted := range map[string]bool{"classic": row.classic, "live": row.live} {
			call += fmt.Sprint(i) // no other message has ended it
			want := http.StatusBadRequest
			if accepted {
				want = http.StatusOK
			}
			response, err := http.Post(server.URL+"/"+call+"/control", "application/json", strings.NewReader(row.body))
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("a %s call answers %d to %.80s, want %d", call, response.StatusCode, row.body, want)
			}
		}
	}
}

// TestEndOfLiveCalls tests that a GPT-Live call accepts nothing once it was ended or transferred.
func TestEndOfLiveCalls(t *testing.T) {
	for _, last := range []vapi.ControlMessage{vapi.EndCall{}, vapi.Transfer{Number: "+15550100"}} {
		for _, m := range []vapi.ControlMessage{
			vapi.AppendContext{Kind: vapi.Commentary, Content: "x"}, vapi.EndCall{}, vapi.Transfer{Number: "+15550100"},
		} {
			calls := &simcall.Calls{GPTLive: func(string) bool { return true }}
			before := calls.Post(t.Context(), "a", vapi.AppendContext{Kind: vapi.Commentary, Content: "x"})
			end := calls.Post(t.Context(), "a", last)
			if before.Verdict != vapiclient.Delivered || end.Verdict != vapiclient.Delivered {
				t.Errorf("the receipts before %T are %+v, %+v", last, before, end)
			}
			if got := calls.Post(t.Context(), "a", m); got.Verdict != vapiclient.Gone || got.Status != http.StatusNotFound {
				t.Errorf("the receipt of %T after %T is %+v", m, last, got)
			}
			if got := calls.Post(t.Context(), "another", m); got.Verdict != vapiclient.Delivered {
				t.Errorf("the receipt of %T in another call is %+v", m, got)
			}
		}
	}
}

// TestTransferOfLiveCalls tests that only phone calls can be transferred.
func TestTransferOfLiveCalls(t *testing.T) {
	calls := new(simcall.Calls)
	for kind, want := range map[string]vapiclient.Verdict{
		"inboundPhoneCall":   vapiclient.Delivered,
		"outboundPhoneCall":  vapiclient.Delivered,
		"":                   vapiclient.Delivered,
		"webCall":            vapiclient.MessageRefused,
		"vapi.websocketCall": vapiclient.MessageRefused,
	} {
		id := "a-" + kind
		calls.AddGPTLive(vapi.Call{ID: id, Type: kind})
		if receipt := calls.Post(t.Context(), id, vapi.Transfer{Number: "+15550100"}); receipt.Verdict != want {
			t.Errorf("the receipt of a transfer in a call of the type %q is %+v, want %s", kind, receipt, want)
		}
		if receipt := calls.Post(t.Context(), id, vapi.Say{Content: "x"}); receipt.Verdict != vapiclient.MessageRefused {
			t.Errorf("the receipt of a say in a call of the type %q is %+v", kind, receipt)
		}
	}
	if receipt := calls.Post(t.Context(), "other", vapi.Say{Content: "x"}); receipt.Verdict != vapiclient.Delivered {
		t.Errorf("the receipt of a say in a classic call is %+v", receipt)
	}
}

// TestAdopt tests what the parser finds in an adopted webhook: the new call and the
// old tool calls.
func TestAdopt(t *testing.T) {
	for _, name := range []string{"tool-calls", "no-wrapper", "control-disabled", "three-tool-calls"} {
		t.Run(name, func(t *testing.T) {
			webhook, err := os.ReadFile("../../../events/vapi/" + name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			before, err := vapi.ParseMessage(webhook)
			if err != nil {
				t.Fatal(err)
			}
			adopted, err := simcall.Adopt(webhook, "mine", "http://127.0.0.1:1/mine/control")
			if err != nil {
				t.Fatal(err)
			}
			after, err := vapi.ParseMessage(adopted)
			if err != nil {
				t.Fatal(err)
			}
			before.Call.ID, before.Call.ControlURL = "mine", "http://127.0.0.1:1/mine/control"
			for i := range before.ToolCalls { // order and white space of the arguments are not kept
				before.ToolCalls[i].Arguments, after.ToolCalls[i].Arguments = nil, nil
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("(-before +after)\n%s", diff)
			}
		})
	}
	for _, bad := range []string{
		"", "[]", `"x"`, "null", "{}", `{"message":{"type":"tool-calls"}}`, `{"message":{"call":"x"}}`,
	} {
		if _, err := simcall.Adopt([]byte(bad), "mine", "url"); err == nil {
			t.Errorf("%s was adopted", bad)
		}
	}
}

// TestAsGPTLive tests what the parser finds in a webhook that was changed: another architecture, and everything
// else as before.
func TestAsGPTLive(t *testing.T) {
	webhooks := map[string][]byte{
		"overrides": []byte(`{"message":{"type":"tool-calls","call":{"id":"a","assistantOverrides":` +
			`{"maxDurationSeconds":60,"model":{"model":"gpt-4o"}}}}}`),
		"neither call nor assistant": []byte(`{"message":{"type":"tool-calls"}}`),
	}
	for _, name := range []string{"tool-calls", "no-wrapper", "transient-assistant", "web-call"} {
		webhook, err := os.ReadFile("../../../events/vapi/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		webhooks[name] = webhook
	}
	for name, webhook := range webhooks {
		t.Run(name, func(t *testing.T) {
			before, err := vapi.ParseMessage(webhook)
			if err != nil {
				t.Fatal(err)
			}
			changed, err := simcall.AsGPTLive(webhook)
			if err != nil {
				t.Fatal(err)
			}
			after, err := vapi.ParseMessage(changed)
			if err != nil {
				t.Fatal(err)
			}
			before.Call.Architecture = vapi.ArchitectureGPTLive
			for i := range before.ToolCalls { // order and white space of the arguments are not kept
				before.ToolCalls[i].Arguments, after.ToolCalls[i].Arguments = nil, nil
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("(-before +after)\n%s", diff)
			}
		})
	}
	for _, bad := range []string{"", "[]", `"x"`, "null"} {
		if _, err := simcall.AsGPTLive([]byte(bad)); err == nil {
			t.Errorf("%s was changed", bad)
		}
	}
}

func TestPost(t *testing.T) {
	calls := new(simcall.Calls)
	server := httptest.NewServer(calls.Handler())
	defer server.Close()
	control, err := vapiclient.NewControlClient(vapiclient.ControlConfig{AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	client := simcall.Client{Control: control, URL: server.URL}
	for text, post := range map[string]func() vapiclient.Receipt{
		"without HTTP": func() vapiclient.Receipt {
			return calls.Post(t.Context(), "https://x.vapi.ai/without HTTP/control", vapi.Say{Content: "without HTTP"})
		},
		"an id alone": func() vapiclient.Receipt {
			return calls.Post(t.Context(), "an id alone", vapi.Say{Content: "an id alone"})
		},
		"simulated": func() vapiclient.Receipt {
			return client.Post(t.Context(), "https://"+simcall.Host+"/simulated/control", vapi.Say{Content: "simulated"})
		},
		"elsewhere": func() vapiclient.Receipt {
			return client.Post(t.Context(), server.URL+"/elsewhere/control", vapi.Say{Content: "elsewhere"})
		},
	} {
		if receipt := post(); receipt.Verdict != vapiclient.Delivered {
			t.Errorf("%s: %+v", text, receipt)
		}
		if diff := cmp.Diff([]vapi.ControlMessage{vapi.Say{Content: text}}, calls.Messages(text)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for _, bad := range []vapi.ControlMessage{vapi.Say{}, vapi.Transfer{}} {
		if receipt := calls.Post(t.Context(), "bad", bad); receipt.Verdict != vapiclient.Misconfigured || receipt.Err == nil {
			t.Errorf("%T: %+v", bad, receipt)
		}
	}
	for _, m := range []vapi.Transfer{{Number: "030 123456"}, {Number: "1555"}, {Number: "+0555"}} {
		receipt := calls.Post(t.Context(), "bad", m)
		if receipt.Verdict != vapiclient.MessageRefused || receipt.Err == nil || receipt.Reported == "" {
			t.Errorf("%s: %+v", m.Number, receipt)
		}
	}
	if got := calls.Messages("bad"); len(got) != 0 {
		t.Errorf("bad messages were taken: %v", got)
	}
}
