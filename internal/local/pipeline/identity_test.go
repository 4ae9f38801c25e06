package pipeline_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// asyncWebhook returns a webhook with a call of an async tool. Its parts are JSON.
func asyncWebhook(call, toolCall string) string {
	return fmt.Sprintf(`{"message":{"type":"tool-calls","timestamp":1767609000000,"toolCallList":[%s],`+
		`"toolWithToolCallList":[{"type":"function","async":true,"toolCall":%s}],"call":%s}}`, toolCall, toolCall, call)
}

// TestReusedIDs has tool calls whose id is unique in one turn of the model only.
func TestReusedIDs(t *testing.T) {
	slow := tool("slow", 1, func(_ context.Context, _ asynctool.Call, in input) (asynctool.Result, error) {
		time.Sleep(time.Second)
		return asynctool.Text("slow " + in.Text), nil
	})
	first := toolCall{"echo:0", "echo", `{"text":"first"}`}
	for name, c := range map[string]struct {
		first, second toolCall
		wait          time.Duration // between them
		want          []string
	}{
		"in the next turn": {first, toolCall{"echo:0", "echo", `{"text":"second"}`}, time.Minute,
			[]string{"echo first", "echo second"}},
		"while the first runs": {
			toolCall{"slow:0", "slow", `{"text":"first"}`}, toolCall{"slow:0", "slow", `{"text":"second"}`},
			100 * time.Millisecond, []string{"slow first", "slow second"},
		},
		"of another tool": {first, toolCall{"echo:0", "slow", `{"text":"first"}`}, time.Minute,
			[]string{"echo first", "slow first"}},
		"a repeated webhook": {first, first, time.Minute, []string{"echo first"}},
		"a repeated webhook, with its arguments as text": {
			first, toolCall{"echo:0", "echo", `"{\"text\": \"first\"}"`}, time.Minute, []string{"echo first"},
		},
		"a repeat after more than five minutes": {first, first, 6 * time.Minute, []string{"echo first", "echo first"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, echo, slow)
				w.post(webhook("call", "", c.first))
				time.Sleep(c.wait)
				w.post(webhook("call", "", c.second))
				w.drained()
				heard := w.messages("call")
				if len(heard) != len(c.want) {
					t.Fatalf("heard %q, want %q", heard, c.want)
				}
				for i, want := range c.want {
					if !strings.Contains(heard[i], "\n"+want+"\n") {
						t.Errorf("heard %q, want %q", heard[i], want)
					}
				}
			})
		})
	}
}

// TestOddIDs has ids that gateways of models have made. Vapi ignores the answer to an async tool, so its
// tool call must run, or its refusal must be delivered.
func TestOddIDs(t *testing.T) {
	const signature = "call_0123456789abcdef__thought__"
	for name, c := range map[string]struct{ id, want string }{
		"usual":             {`"call_` + strings.Repeat("a", 24) + `"`, "echo ready"},
		"257 bytes":         {`"` + strings.Repeat("a", 257) + `"`, "echo ready"},
		"a signature":       {`"` + signature + strings.Repeat("Ab9+/", 400) + `"`, "echo ready"},
		"a long signature":  {`"` + signature + strings.Repeat("Ab9+/", 1000) + `"`, "id is longer than 4096 bytes"},
		"dots and slashes":  {`"functions.echo:0/a b"`, "echo ready"},
		"other characters":  {`"日本\n\u0000\\"`, "echo ready"},
		"none":              {`null`, "echo ready"},
		"empty":             {`""`, "echo ready"},
		"not even a string": {`{"id":1}`, "echo ready"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, echo)
				body := asyncWebhook(call("call", "call"),
					`{"id":`+c.id+`,"function":{"name":"echo","arguments":{"text":"ready"}}}`)
				for range 2 {
					w.post(body)
				}
				w.drained()
				one(t, w.messages("call"), c.want)
				if heard := w.messages("call")[0]; len(heard) > 2000 {
					t.Errorf("heard %d bytes: %.200s", len(heard), heard)
				}
			})
		})
	}
}

// TestRefusalsArrive has calls of an async tool that are refused. The assistant hears of each, or an
// operator does.
func TestRefusalsArrive(t *testing.T) {
	good := `{"id":"a","function":{"name":"echo","arguments":{"text":"ready"}}}`
	const noCall = "the webhook names no call, so no result could be delivered"
	for name, c := range map[string]struct {
		call, toolCall string
		text           string
		why            job.Reason // of an event; empty if the assistant hears the text
	}{
		"no name": {call("call", "call"), `{"id":"a","function":{"arguments":{}}}`, "tool call has no function name", ""},
		"a long name": {
			call("call", "call"), `{"id":"a","name":"` + strings.Repeat("n", 5000) + `"}`, "name is longer than 128 bytes", "",
		},
		"arguments": {call("call", "call"), `{"id":"a","name":"echo","arguments":[1]}`, "they are not a JSON object", ""},
		"no object": {call("call", "call"), `"echo"`, "tool call is not an object", ""},
		// No control URL contains these ids.
		"a call without an id": {`{"monitor":{"controlUrl":"call"}}`, good, noCall, job.ReasonMisconfigured},
		"a call's long id": {
			call(strings.Repeat("c", 513), "call"), good, "the call's id is longer than 512 bytes", job.ReasonMisconfigured,
		},
		"no call": {`null`, good, noCall, job.ReasonNoControlURL},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, echo)
				if status, answer := w.request("/vapi", asyncWebhook(c.call, c.toolCall), nil); status != http.StatusOK {
					t.Fatalf("answered with %d %s", status, answer)
				}
				w.drained()
				if c.why == "" {
					one(t, w.messages("call"), c.text)
				}
				events := w.Events.Sent()
				if (len(events) == 1) != (c.why != "") {
					t.Fatalf("the events are %+v", events)
				}
				for _, u := range events {
					if u.Reason != c.why || u.Tool != "echo" || !strings.Contains(u.Content, c.text) {
						t.Errorf("the event is %+v", u)
					}
				}
				if n := w.DeadJobs.Len() + w.DeadResults.Len(); n != 0 {
					t.Errorf("%d messages are in dead-letter queues", n)
				}
			})
		})
	}
}

// TestJobOfAnEarlierVersion has a job that a version queued whose ids named the call and the tool call. It
// keeps its id, also as its idempotency key and in its completion token, while it waits.
func TestJobOfAnEarlierVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var key, at string
		waits := changed("waits", func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			if call.Resumes == 0 {
				return asynctool.ResumeIn(time.Hour, "waited"), nil
			}
			key = call.IdempotencyKey()
			var err error
			at, err = call.CompletionURL(ctx)
			return asynctool.Wait(), err
		}, func(t *asynctool.Tool[input]) { t.Deadline, t.Repeat = 24*time.Hour, asynctool.Join })
		w := newWorld(t, outside, waits)
		now := time.Now().UTC()
		body := fmt.Sprintf(`{"version":1,"id":"call/a","toolCallId":"a","tool":"waits","arguments":{"text":"x"},`+
			`"call":%s,"async":true,"receivedAt":%q,"callEnds":%q}`,
			`{"id":"call","controlUrl":"call"}`, now.Format(time.RFC3339), now.Add(2*time.Hour).Format(time.RFC3339))
		w.names.Store("call/a", "call/a")
		for range 2 {
			if err := w.Jobs.Send(t.Context(), []queue.Message{{Body: body}})[0]; err != nil {
				t.Fatal(err)
			}
		}
		settle()
		w.post(webhook("call", "", toolCall{"b", "waits", `{"text":"x"}`})) // by the new version
		time.Sleep(time.Hour)
		settle()
		one(t, w.messages("call"), "asks the same as an earlier one")
		if status := w.complete(at, `{"result":"The result."}`); status != http.StatusOK {
			t.Errorf("the completion was answered with %d", status)
		}
		w.drained()
		heard := w.messages("call")
		one(t, heard[1:], "tool_call_id=a status=ok")
		if r := w.record("call/a"); key != "call/a" || r.State != job.StateDelivered || r.WakeUp != 2 {
			t.Errorf("the key is %q, and the record is %s after %d wake-ups", key, r.State, r.WakeUp)
		}
		if r := w.record("call/b"); r.ID == "call/b" || r.State != job.StateDelivered {
			t.Errorf("the record of the new job is %s, %s", r.ID, r.State)
		}
	})
}

// TestControlURLOfAnotherCall has a webhook with the id of one call and the control URL of another one. The
// other call hears nothing, and an operator gets the result.
func TestControlURLOfAnotherCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, echo)
		for _, id := range []string{"mine", "other-call", "the", ""} {
			w.post(webhook(id, "https://x.vapi.ai/other/control", toolCall{"t", "echo", `{"text":"x"}`}))
		}
		w.post(webhook("other", "https://x.vapi.ai/other/control", toolCall{"t", "echo", `{"text":"mine"}`}))
		w.drained()
		one(t, w.messages("other"), "echo mine")
		for _, u := range w.Events.Sent() {
			if u.Reason != job.ReasonMisconfigured {
				t.Errorf("an event for %s", u.Reason)
			}
		}
		if n := len(w.Events.Sent()); n != 3 { // the webhook without a call is refused
			t.Errorf("%d events, want 3", n)
		}
	})
}
