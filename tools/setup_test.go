package tools_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
)

// call runs a tool as the process function does.
func call(t testing.TB, ctx context.Context, tool asynctool.Definition, arguments string) (asynctool.Result, error) {
	t.Helper()
	return callWith(t, ctx, asynctool.Call{}, tool, arguments)
}

// callWith is like [call], with more than the ids in the Call.
func callWith(
	t testing.TB, ctx context.Context, c asynctool.Call, tool asynctool.Definition, arguments string,
) (asynctool.Result, error) {
	t.Helper()
	c.ID, c.ToolCallID, c.Attempt = "call-1", "call_51kj", 1
	set, err := asynctool.NewSet(tool)
	if err != nil {
		t.Fatal(err)
	}
	return set.Entries()[0].Run(ctx, c, json.RawMessage(arguments))
}

// host is an [asynctool.Host] that records progress.
type host struct {
	url   string // empty: no completion URL
	notes []string
}

func (h *host) CompletionURL(context.Context) (string, error) {
	if h.url == "" {
		return "", errors.New("COMPLETION_URL is not set")
	}
	return h.url, nil
}

func (h *host) Progress(_ context.Context, text string, delivery asynctool.Delivery) {
	h.notes = append(h.notes, string(delivery)+": "+text)
}

// want is the expected outcome of a tool: a text or an error.
type want struct {
	text   string
	spoken string        // of the error
	log    string        // part of the error's text
	retry  bool          // of the error
	after  time.Duration // of the error
}

func (w want) check(t *testing.T, result asynctool.Result, err error) {
	t.Helper()
	if w.text != "" {
		if err != nil || result.Text != w.text {
			t.Fatalf("got %q, %v\nwant %q", result.Text, err, w.text)
		}
		return
	}
	e, ok := errors.AsType[*asynctool.Error](err)
	if !ok {
		t.Fatalf("got %q, %v (%T), want an *asynctool.Error", result.Text, err, err)
	}
	if e.Spoken != w.spoken {
		t.Errorf("spoken: %q\nwant:   %q", e.Spoken, w.spoken)
	}
	if w.log != "" && !strings.Contains(e.Error(), w.log) {
		t.Errorf("error: %q\nwant it to contain %q", e, w.log)
	}
	if e.Retry != w.retry || e.After != w.after {
		t.Errorf("retry %t after %s, want %t after %s", e.Retry, e.After, w.retry, w.after)
	}
}

// answering returns a service with one answer.
func answering(t testing.TB, status int, body string, header ...string) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server
}

// counting returns a service that counts requests.
func counting(t testing.TB) (server *httptest.Server, requests *atomic.Int64) {
	requests = &atomic.Int64{}
	server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	t.Cleanup(server.Close)
	return server, requests
}

// closedAddress returns an address that refuses connections.
func closedAddress(t testing.TB) string {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	return server.URL
}
