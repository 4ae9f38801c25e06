package pipeline_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/tracing"
	"github.com/ringback/ringback/internal/tracing/otlp"
)

// received is what a collector, or the daemon of X-Ray, has received.
type received struct {
	mu    sync.Mutex
	raw   [][]byte
	spans []*tracepb.Span
	err   error
}

func (r *received) add(body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var data tracepb.TracesData
	if err := proto.Unmarshal(body, &data); err != nil {
		r.err = err
		return
	}
	r.raw = append(r.raw, body)
	for _, resource := range data.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			if scope.Scope.Name == tracing.Scope {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
	}
}

func (r *received) ServeHTTP(_ http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	r.add(body)
}

// listen receives datagrams until the connection is closed.
func (r *received) listen(connection net.PacketConn) {
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := connection.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, text, _ := strings.Cut(string(buffer[:n]), "\nT1S")
		body, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			body = []byte("no base64")
		}
		r.add(body)
	}
}

// await waits for a number of spans.
func (r *received) await(t *testing.T, n int) []*tracepb.Span {
	t.Helper()
	for range 1000 {
		r.mu.Lock()
		spans, err := slices.Clone(r.spans), r.err
		r.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if len(spans) >= n {
			return spans
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%d spans arrived, want %d", len(r.spans), n)
	return nil
}

// TestExportedSpans decodes the spans of a whole tool call with a wait in it, as a collector and as the daemon of X-Ray
// receive them.
func TestExportedSpans(t *testing.T) {
	for name, configure := range map[string]func(*testing.T, *received) deployment.Tracing{
		"collector": func(t *testing.T, r *received) deployment.Tracing {
			server := httptest.NewServer(r)
			t.Cleanup(server.Close)
			return deployment.Tracing{Endpoint: server.URL}
		},
		"X-Ray": func(t *testing.T, r *received) deployment.Tracing {
			connection, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { connection.Close() })
			go r.listen(connection)
			return deployment.Tracing{Exporter: deployment.ExporterXRay, DaemonAddress: connection.LocalAddr().String()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := new(received)
			provider, err := otlp.New(otlp.Config{
				Tracing: configure(t, r), Service: "test", Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer provider.Shutdown(context.Background())
			tools := changed("slow", func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
				if call.Resumes == 0 {
					return asynctool.ResumeIn(time.Minute, "planted state"), nil
				}
				return asynctool.Text("planted result of " + in.Text), nil
			}, func(t *asynctool.Tool[input]) { t.Deadline = time.Hour })
			w := newWorld(t, func(cfg *pipeline.Config) {
				cfg.Tracer = provider.Tracer()
				cfg.Waits = func(d time.Duration) time.Duration { return d / 600 } // the deadline stays 6 s away
			}, tools)
			w.post(webhook("call", "", toolCall{"a", "slow", `{"text":"planted argument"}`}))
			w.drained()
			one(t, w.messages("call"), "planted result")
			provider.Flush(t.Context())

			first := w.record("call/a").Traceparent
			ids := map[string]string{strings.Split(first, "-")[2]: "webhook"}
			count := make(map[string]int)
			spans := r.await(t, 6)
			slices.SortFunc(spans, func(a, b *tracepb.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
			for _, s := range spans {
				if id := hex.EncodeToString(s.TraceId); id != job.TraceID(first) {
					t.Errorf("%s is in the trace %s, and the job in %s", s.Name, id, first)
				}
				count[s.Name]++
				ids[hex.EncodeToString(s.SpanId)] = s.Name + strings.Repeat(" again", count[s.Name]-1)
			}
			var got []string
			for _, s := range spans {
				line := ids[hex.EncodeToString(s.SpanId)] + " < " + ids[hex.EncodeToString(s.ParentSpanId)]
				for _, link := range s.Links {
					line += ", linked to " + ids[hex.EncodeToString(link.SpanId)]
				}
				got = append(got, s.Kind.String()+" "+line)
			}
			want := []string{
				"SPAN_KIND_CONSUMER process jobs < webhook",
				"SPAN_KIND_INTERNAL execute_tool slow < process jobs",
				"SPAN_KIND_CONSUMER process jobs again < webhook, linked to process jobs",
				"SPAN_KIND_INTERNAL execute_tool slow again < process jobs again",
				"SPAN_KIND_CONSUMER process results < process jobs again",
				"SPAN_KIND_CLIENT POST control < process results",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
			for _, raw := range r.raw {
				for _, value := range planted {
					if bytes.Contains(raw, []byte(value)) {
						t.Errorf("%q is in what was exported", value)
					}
				}
			}
		})
	}
}
