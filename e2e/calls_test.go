//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/ringback/ringback/vapi"
)

// number is the caller's, which must not be in any log.
const number = "+15550100123"

// world is what lies outside of AWS: the calls' control URLs, and the shop
// that the tool order_status asks. The order BROKEN always fails there; the
// call that is called gone has ended.
type world struct {
	server *httptest.Server

	mu       sync.Mutex
	messages map[string][]vapi.ControlMessage // by call
	orders   map[string]int                   // how often each was asked for
}

func startWorld(t *testing.T) *world {
	w := &world{messages: map[string][]vapi.ControlMessage{}, orders: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{call}/control", func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		m, err := vapi.ParseControlMessage(body)
		if err != nil {
			t.Errorf("a control message that Vapi would not take: %v: %s", err, body)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		call := r.PathValue("call")
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
	w.server = httptest.NewServer(mux)
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) host() string { return strings.TrimPrefix(w.server.URL, "http://") }

// heard are the texts that were put into a call.
func (w *world) heard(call string) []string {
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

func (w *world) asked(order string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.orders[order]
}

func (w *world) controlURL(call string) string { return w.server.URL + "/" + call + "/control" }

// webhook is what Vapi posts when an assistant calls a tool.
func (w *world) webhook(t *testing.T, call, toolCall, tool string, arguments map[string]any) []byte {
	t.Helper()
	one := map[string]any{"id": toolCall, "type": "function", "function": map[string]any{"name": tool, "arguments": arguments}}
	body, err := json.Marshal(map[string]any{"message": map[string]any{
		"type": "tool-calls", "timestamp": 1767609000000,
		"toolCallList": []any{one}, "toolCalls": []any{one},
		"toolWithToolCallList": []any{map[string]any{"type": "function", "async": true, "toolCall": one}},
		"call": map[string]any{
			"id": call, "orgId": "org", "type": "inboundPhoneCall", "assistantId": "assistant",
			"customer": map[string]any{"number": number},
			"monitor":  map[string]any{"controlUrl": w.controlURL(call)},
		},
		"assistant": map[string]any{"maxDurationSeconds": 1800},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return body
}
