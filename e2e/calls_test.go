//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// The callers' numbers, which must not be in any log. The other caller calls twice and must make no
// further call: a result that is parked for the next call would be delivered there.
const (
	number = "+15550100123"
	other  = "+15550100199"
)

// privateKey is the organisation's private key at Vapi.
const privateKey = "not-a-secret-either-but-a-private-key"

// world is everything outside AWS: the calls' control URLs, Vapi's API, the shop that the tool
// order_status asks, and the manager that notify_when_ready asks. The order BROKEN always fails. A call
// whose name ends with "-gone" has ended, and one whose name ends with "-live" is a GPT-Live call.
type world struct {
	server  *httptest.Server
	vapi    *httptest.Server
	account *fakevapi.Account // the organisation's account at Vapi
	calls   *simcall.Calls    // refuse what Vapi refuses

	mu       sync.Mutex
	messages map[string][]vapi.ControlMessage // by call
	asked    map[string]time.Time             // by call: when the webhook with the manager's request was posted
	answered map[string]time.Time             // by call: when the manager's answer was accepted
	lines    map[string]int                   // by call: the progress lines that were accepted only on a busy machine
	orders   map[string]int                   // how often each order was requested
	requests map[string][]request             // to the manager, by job
	tools    map[string]time.Time             // when a tool of testdata/tools.go did something, by what and the call
}

// request is the body that notify_when_ready posts.
type request struct {
	Subject        string `json:"subject"`
	CompletionURL  string `json:"completion_url"`
	IdempotencyKey string `json:"idempotency_key"`
}

func startWorld(t *testing.T) *world {
	w := &world{
		account: &fakevapi.Account{Key: privateKey}, calls: &simcall.Calls{GPTLive: gptLive},
		messages: map[string][]vapi.ControlMessage{}, requests: map[string][]request{},
		orders: map[string]int{}, lines: map[string]int{},
		asked: map[string]time.Time{}, answered: map[string]time.Time{}, tools: map[string]time.Time{},
	}
	w.vapi = httptest.NewServer(w.account)
	t.Cleanup(w.vapi.Close)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{call}/control", func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		m, err := vapi.ParseControlMessage(body)
		if err != nil {
			t.Errorf("a control message that Vapi would not accept: %v: %s", err, body)
		}
		call := r.PathValue("call")
		if _, probe := m.(vapi.AppendContext); probe && strings.HasSuffix(call, "-gone") {
			// Its webhook did not show the architecture, so the classic message's refusal had two meanings.
			http.Error(rw, "the call has ended", http.StatusNotFound)
			return
		}
		if receipt := w.calls.Post(r.Context(), call, m); receipt.Verdict != vapiclient.Delivered {
			t.Errorf("the call %s refuses a control message: %s: %s", call, receipt.Reported, body)
			http.Error(rw, receipt.Reported, http.StatusBadRequest)
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.messages[call] = append(w.messages[call], m)
		if strings.HasSuffix(call, "-gone") {
			http.Error(rw, "the call has ended", http.StatusNotFound)
		}
	})
	mux.HandleFunc("GET /orders/{id}", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		id := r.PathValue("id")
		w.orders[id]++
		if id == "BROKEN" {
			http.Error(rw, "out of order", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(rw, `{"status":"out_for_delivery","carrier":"Parcel Express","expected_delivery":"2026-03-04"}`)
	})
	mux.HandleFunc("POST /requests", func(rw http.ResponseWriter, r *http.Request) {
		var asked request
		body := json.NewDecoder(r.Body)
		body.DisallowUnknownFields() // such as the call's id or the customer's number
		if err := body.Decode(&asked); err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.requests[asked.IdempotencyKey] = append(w.requests[asked.IdempotencyKey], asked)
		rw.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("POST /tools/{what}/{call}", func(_ http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tools[r.PathValue("what")+" "+r.PathValue("call")] = time.Now()
	})
	w.server = httptest.NewServer(mux)
	t.Cleanup(w.server.Close)
	return w
}

// gptLive reports whether a call is a GPT-Live call.
func gptLive(call string) bool { return strings.HasSuffix(call, "-live") }

func (w *world) host() string { return strings.TrimPrefix(w.server.URL, "http://") }

// holdMessage is a part of the hold message of notify_when_ready. Whether the message is delivered depends
// on how busy the machine is.
const holdMessage = "I've passed that on"

// heard returns the texts that were delivered to a call, without the hold message.
func (w *world) heard(call string) []string {
	return slices.DeleteFunc(w.all(call), func(text string) bool { return strings.Contains(text, holdMessage) })
}

// holdMessages returns the hold messages that were delivered to a call.
func (w *world) holdMessages(call string) []string {
	return slices.DeleteFunc(w.all(call), func(text string) bool { return !strings.Contains(text, holdMessage) })
}

func (w *world) all(call string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var texts []string
	for _, m := range w.messages[call] {
		b, err := json.Marshal(m)
		if err != nil {
			b = []byte(err.Error())
		}
		var added struct{ Message struct{ Content string } }
		if json.Unmarshal(b, &added) == nil && added.Message.Content != "" {
			b = []byte(added.Message.Content)
		}
		texts = append(texts, string(b))
	}
	return texts
}

func (w *world) ordered(order string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.orders[order]
}

func (w *world) controlURL(call string) string { return w.server.URL + "/" + call + "/control" }

// request waits for the request to the manager in a call, and returns it.
func (d *deployment) request(t *testing.T, ctx context.Context, call string) request {
	t.Helper()
	w := d.world
	var asked request
	jobID := job.ID(call, "call_1", "notify_when_ready", []byte(`{"subject":"`+subject+`"}`))
	eventually(t, ctx, d.jobs(t).once(), "a request in the call "+call, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.requests[jobID]) != 1 {
			return fmt.Errorf("%d requests", len(w.requests[jobID]))
		}
		asked = w.requests[jobID][0]
		return nil
	})
	return asked
}

// tool returns when a tool did something in a call. Zero means not yet.
func (w *world) tool(what, call string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tools[what+" "+call]
}

// message returns a webhook of a call.
func (w *world) message(t *testing.T, call, customer string, members map[string]any) []byte {
	t.Helper()
	// A job's deadline is the end of its call. A busy machine must not reach it.
	assistant := map[string]any{"maxDurationSeconds": 6 * 60 * 60}
	if gptLive(call) {
		assistant["model"] = map[string]any{"provider": "openai", "model": "gpt-live-1"}
	}
	message := map[string]any{
		"timestamp": 1767609000000,
		"call": map[string]any{
			"id": call, "orgId": "org", "type": "inboundPhoneCall", "assistantId": "assistant", "phoneNumberId": "line",
			"customer": map[string]any{"number": customer},
			"monitor":  map[string]any{"controlUrl": w.controlURL(call)},
		},
		"assistant": assistant,
	}
	maps.Copy(message, members)
	body, err := json.Marshal(map[string]any{"message": message})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// webhook returns the webhook of a tool call.
func (w *world) webhook(t *testing.T, call, toolCall, tool string, arguments map[string]any) []byte {
	t.Helper()
	return w.message(t, call, number, toolCalls(toolCall, tool, arguments))
}

// toolCalls returns the members of a webhook with a tool call.
func toolCalls(toolCall, tool string, arguments map[string]any) map[string]any {
	function := map[string]any{"name": tool, "arguments": arguments}
	one := map[string]any{"id": toolCall, "type": "function", "function": function}
	return map[string]any{
		"type": "tool-calls", "toolCallList": []any{one}, "toolCalls": []any{one},
		"toolWithToolCallList": []any{map[string]any{"type": "function", "async": true, "toolCall": one}},
	}
}

// status returns the webhook that Vapi posts when a call begins or ends.
func (w *world) status(t *testing.T, call, customer, status string) []byte {
	t.Helper()
	return w.message(t, call, customer, map[string]any{"type": vapi.TypeStatusUpdate, "status": status})
}

// listed checks that the calls are listed, newest first, in pages. Each of those in which order_status ran is among
// them.
func (d *deployment) listed(t *testing.T, ctx context.Context) {
	store := dynamotable.New(dynamodb.NewFromConfig(d.aws()), d.outputs["JobsTableName"])
	first := make(map[string]time.Time)
	var last job.ListedCall
	for from, more := "", true; more; {
		calls, next, err := store.RecentCalls(ctx, time.Now(), from, 3)
		if err != nil || len(calls) > 3 || len(calls) == 0 && next != "" {
			t.Fatalf("%d calls in the page from %q, next %q, %v", len(calls), from, next, err)
		}
		for _, c := range calls {
			if last.CallID != "" && c.Key() >= last.Key() {
				t.Errorf("%s is listed behind %s", c.Key(), last.Key())
			}
			first[c.CallID], last = c.First, c
		}
		from, more = next, next != ""
	}
	d.world.mu.Lock()
	named := slices.Collect(maps.Keys(d.world.messages))
	d.world.mu.Unlock()
	ran := 0
	for _, call := range named {
		jobs, err := store.OfCall(ctx, call)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(jobs, func(s job.Summary) bool { return s.Tool == "order_status" }) {
			continue
		}
		if ran++; first[call].IsZero() || time.Since(first[call]) > time.Hour {
			t.Errorf("the call %s is listed at %s", call, first[call])
		}
	}
	if ran == 0 {
		t.Errorf("order_status ran in none of the calls %q", named)
	}
}
