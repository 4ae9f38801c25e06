package dev_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/local/dev"
)

// TestSpans tests that a local run sends its spans to a collector, the last ones when it ends.
func TestSpans(t *testing.T) {
	var mu sync.Mutex
	var received strings.Builder
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		received.WriteString(r.URL.Path + " " + r.Header.Get("X-Key") + " ")
		received.Write(body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=the-key")
	l := start(t, dev.Config{})
	if status, answer := l.post(t, sample(t, "tool-calls"), nil); status != http.StatusOK {
		t.Fatalf("answered with %d %s", status, answer)
	}
	l.screen.wait(t, "delivered to the call")
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{
		"/v1/traces the-key ", "ringback", "process jobs", "execute_tool order_status", "process results", "POST control",
	} {
		if !strings.Contains(received.String(), want) {
			t.Errorf("the collector has not received %q", want)
		}
	}
	if strings.Contains(received.String(), "A-1042") {
		t.Error("the collector has received an argument")
	}
}

// TestSpansToNowhere tests that a run does not start if its spans have no place to go.
func TestSpansToNowhere(t *testing.T) {
	for name, row := range map[string]struct{ variable, value, want string }{
		"another exporter": {"OTEL", "jaeger", `OTEL is "jaeger"; it must be xray`},
		"no daemon":        {"OTEL", "xray", "AWS_XRAY_DAEMON_ADDRESS is not set"},
		"no URL":           {"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "must be an https URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_XRAY_DAEMON_ADDRESS", "")
			t.Setenv(row.variable, row.value)
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			err := dev.Run(context.Background(), context.Background(), dev.Config{
				Addr: "127.0.0.1:0", Tools: shop.All, Out: io.Discard,
			})
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
}
