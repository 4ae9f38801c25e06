// Package tooltest runs single tools in tests, and judges their results.
package tooltest

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

// Call runs a tool as the process function does.
func Call(t testing.TB, ctx context.Context, tool asynctool.Definition, arguments string) (asynctool.Result, error) {
	t.Helper()
	return CallWith(t, ctx, asynctool.Call{}, tool, arguments)
}

// CallWith is like [Call], with more than the ids in the Call.
func CallWith(
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

// Host is an [asynctool.Host] that records progress.
type Host struct {
	URL   string   // empty: no completion URL
	Notes []string // delivery: text
}

func (h *Host) CompletionURL(context.Context) (string, error) {
	if h.URL == "" {
		return "", errors.New("COMPLETION_URL is not set")
	}
	return h.URL, nil
}

func (h *Host) Progress(_ context.Context, text string, delivery asynctool.Delivery) {
	h.Notes = append(h.Notes, string(delivery)+": "+text)
}

// Want is the expected outcome of a tool: a text or an error.
type Want struct {
	Text   string
	Spoken string        // of the error
	Log    string        // part of the error's text
	Retry  bool          // of the error
	After  time.Duration // of the error
}

// Check fails the test if the outcome is another one.
func (w Want) Check(t *testing.T, result asynctool.Result, err error) {
	t.Helper()
	if w.Text != "" {
		if err != nil || result.Text != w.Text {
			t.Fatalf("got %q, %v\nwant %q", result.Text, err, w.Text)
		}
		return
	}
	e, ok := errors.AsType[*asynctool.Error](err)
	if !ok {
		t.Fatalf("got %q, %v (%T), want an *asynctool.Error", result.Text, err, err)
	}
	if e.Spoken != w.Spoken {
		t.Errorf("spoken: %q\nwant:   %q", e.Spoken, w.Spoken)
	}
	if w.Log != "" && !strings.Contains(e.Error(), w.Log) {
		t.Errorf("error: %q\nwant it to contain %q", e, w.Log)
	}
	if e.Retry != w.Retry || e.After != w.After {
		t.Errorf("retry %t after %s, want %t after %s", e.Retry, e.After, w.Retry, w.After)
	}
}

// Answering returns a service with one answer.
func Answering(t testing.TB, status int, body string, header ...string) *httptest.Server {
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

// Counting returns a service that counts requests.
func Counting(t testing.TB) (server *httptest.Server, requests *atomic.Int64) {
	requests = &atomic.Int64{}
	server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	t.Cleanup(server.Close)
	return server, requests
}

// ClosedAddress returns an address that refuses connections.
func ClosedAddress(t testing.TB) string {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	return server.URL
}
