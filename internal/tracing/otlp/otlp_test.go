package otlp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/internal/tracing"
	"github.com/ringback/ringback/internal/tracing/otlp"
)

// collector is an OpenTelemetry collector that answers with a status. 0 means never.
type collector struct {
	status   int
	redirect string

	mu       sync.Mutex
	requests []*http.Request
	spans    []string // their names
	services []string
	data     []*tracepb.TracesData
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var data tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.requests = append(c.requests, r)
	c.add(&data)
	c.mu.Unlock()
	switch {
	case c.status == 0:
		<-r.Context().Done()
	case c.redirect != "":
		http.Redirect(w, r, c.redirect, c.status)
	default:
		w.WriteHeader(c.status)
	}
}

func (c *collector) add(data *tracepb.TracesData) {
	c.data = append(c.data, data)
	for _, rs := range data.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				c.services = append(c.services, a.Value.GetStringValue())
			}
		}
		for _, scope := range rs.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, s.Name)
			}
		}
	}
}

func serve(t *testing.T, c http.Handler) string {
	t.Helper()
	s := httptest.NewServer(c)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// newProvider returns a provider, and what it logs.
func newProvider(t *testing.T, cfg otlp.Config) (*otlp.Provider, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	p, err := otlp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Shutdown(context.Background()) })
	return p, &log
}

func endpoint(url string) deployment.Tracing { return deployment.Tracing{Endpoint: url} }

// span makes a span.
func span(p *otlp.Provider, name string) {
	_, s := p.Tracer().Start(context.Background(), name)
	s.End()
}

func TestCollector(t *testing.T) {
	c := &collector{status: http.StatusOK}
	cfg := otlp.Config{Tracing: endpoint(serve(t, c) + "/otlp/"), Service: "shop-process"}
	cfg.Headers = "x-key=planted%20key, X-Team = voice,"
	p, log := newProvider(t, cfg)
	span(p, "one")
	span(p, "two")
	p.Flush(t.Context())
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) != 1 || strings.Join(c.spans, " ") != "one two" || strings.Join(c.services, " ") != "shop-process" {
		t.Fatalf("%d requests have the spans %q of %q: %s", len(c.requests), c.spans, c.services, log)
	}
	r := c.requests[0]
	if r.Method != http.MethodPost || r.URL.Path != "/otlp/v1/traces" ||
		r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("X-Key") != "planted key" ||
		r.Header.Get("X-Team") != "voice" {
		t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
	}
}

// TestResource tests that OpenTelemetry's own variables take precedence.
func TestResource(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "planted-name")
	c := &collector{status: http.StatusOK}
	p, _ := newProvider(t, otlp.Config{Tracing: endpoint(serve(t, c)), Service: "shop-process"})
	span(p, "one")
	p.Flush(t.Context())
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.Join(c.services, " ") != "planted-name" {
		t.Errorf("the service is %q", c.services)
	}
}

// TestWrongBytes tests that a string that is not valid UTF-8 loses no span of its batch, wherever it is.
func TestWrongBytes(t *testing.T) {
	const wrong, want = "á\xff.\xc3", "á\uFFFD.\uFFFD"
	attributes := []attribute.KeyValue{
		attribute.String("text", wrong), attribute.StringSlice("list", []string{"valid é", wrong}),
		attribute.String(wrong, "of a wrong key"),
	}
	checkAttributes := func(t *testing.T, got []*commonpb.KeyValue) {
		t.Helper()
		if len(got) != 3 {
			t.Fatalf("the attributes are %v", got)
		}
		list := got[1].GetValue().GetArrayValue().GetValues()
		if got[0].Key != "text" || got[0].GetValue().GetStringValue() != want || got[1].Key != "list" || len(list) != 2 ||
			list[0].GetStringValue() != "valid é" || list[1].GetStringValue() != want || got[2].Key != want ||
			got[2].GetValue().GetStringValue() != "of a wrong key" {
			t.Errorf("the attributes are %v", got)
		}
	}
	for name, row := range map[string]struct {
		resource string // in percent-encoding
		plant    func(trace.Span)
		check    func(*testing.T, *tracepb.ResourceSpans, *tracepb.Span)
	}{
		"resource": {
			"%c3%a1%ff.%c3", func(trace.Span) {},
			func(t *testing.T, r *tracepb.ResourceSpans, _ *tracepb.Span) {
				for _, a := range r.Resource.Attributes {
					if a.Key == "planted" && a.Value.GetStringValue() == want {
						return
					}
				}
				t.Errorf("the resource is %v", r.Resource)
			},
		},
		"name": {
			"", func(s trace.Span) { s.SetName(wrong) },
			func(t *testing.T, _ *tracepb.ResourceSpans, s *tracepb.Span) {
				if s.Name != want {
					t.Errorf("the name is %q", s.Name)
				}
			},
		},
		"status": {
			"", func(s trace.Span) { s.SetStatus(codes.Error, wrong) },
			func(t *testing.T, _ *tracepb.ResourceSpans, s *tracepb.Span) {
				if s.Status.Message != want || s.Status.Code != tracepb.Status_STATUS_CODE_ERROR {
					t.Errorf("the status is %v", s.Status)
				}
			},
		},
		"attributes": {
			"", func(s trace.Span) { s.SetAttributes(attributes...) },
			func(t *testing.T, _ *tracepb.ResourceSpans, s *tracepb.Span) { checkAttributes(t, s.Attributes) },
		},
		"event": {
			"", func(s trace.Span) { s.AddEvent(wrong, trace.WithAttributes(attributes...)) },
			func(t *testing.T, _ *tracepb.ResourceSpans, s *tracepb.Span) {
				if len(s.Events) != 1 || s.Events[0].Name != want {
					t.Fatalf("the events are %v", s.Events)
				}
				checkAttributes(t, s.Events[0].Attributes)
			},
		},
		"link": {
			"", func(s trace.Span) { s.AddLink(trace.Link{SpanContext: s.SpanContext(), Attributes: attributes}) },
			func(t *testing.T, _ *tracepb.ResourceSpans, s *tracepb.Span) {
				if len(s.Links) != 1 {
					t.Fatalf("the links are %v", s.Links)
				}
				checkAttributes(t, s.Links[0].Attributes)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "planted="+row.resource)
			c := &collector{status: http.StatusOK}
			p, log := newProvider(t, otlp.Config{Tracing: endpoint(serve(t, c))})
			span(p, "one")
			_, s := p.Tracer().Start(t.Context(), "planted")
			row.plant(s)
			s.End()
			span(p, "é")
			p.Flush(t.Context())
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.data) != 1 || len(c.spans) != 3 || c.spans[0] != "one" || c.spans[2] != "é" {
				t.Fatalf("%d requests have the spans %q: %s", len(c.data), c.spans, log)
			}
			spans := c.data[0].ResourceSpans[0]
			row.check(t, spans, spans.ScopeSpans[0].Spans[1])
		})
	}
}

// TestUnsampled tests that a collector gets traces that X-Ray does not sample, and X-Ray does not.
func TestUnsampled(t *testing.T) {
	c := &collector{status: http.StatusOK}
	toCollector, _ := newProvider(t, otlp.Config{Tracing: endpoint(serve(t, c))})
	toXRay, _ := newProvider(t, otlp.Config{
		Tracing: deployment.Tracing{Exporter: deployment.ExporterXRay, DaemonAddress: "127.0.0.1:1"},
	})
	const unsampled = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-00"
	for _, row := range []struct {
		p    *otlp.Provider
		want bool
	}{{toCollector, true}, {toXRay, false}} {
		_, s := tracing.Process(t.Context(), row.p.Tracer(), tracing.Message{Queue: "jobs", Traceparent: unsampled})
		if s.SpanContext().IsSampled() != row.want || s.SpanContext().TraceID().String() != unsampled[3:35] {
			t.Errorf("the span is %s, sampled: %t", s.SpanContext().TraceID(), s.SpanContext().IsSampled())
		}
		s.End()
	}
}

// slowly is a handler of a queue.
type slowly struct {
	p    *otlp.Provider
	took time.Duration
}

func (h slowly) Handle(ctx context.Context, _ events.SQSEvent) (events.SQSEventResponse, error) {
	_, s := h.p.Tracer().Start(ctx, "work")
	defer s.End()
	time.Sleep(h.took)
	return events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{{ItemIdentifier: "m"}}}, nil
}

// TestBrokenCollector tests that a collector that hangs, refuses or is gone delays a function by the bound at most,
// changes nothing of its response, and is logged without a header or the URL.
func TestBrokenCollector(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	other := &collector{status: http.StatusOK}
	for name, row := range map[string]struct {
		url, logged string
		headers     func(context.Context) (string, error)
	}{
		"hangs":   {url: serve(t, &collector{}), logged: "no answer in time"},
		"fails":   {url: serve(t, &collector{status: http.StatusInternalServerError}), logged: "answered with 500"},
		"refuses": {url: serve(t, &collector{status: http.StatusUnauthorized}), logged: "answered with 401"},
		"redirects": {
			url:    serve(t, &collector{status: http.StatusTemporaryRedirect, redirect: serve(t, other)}),
			logged: "answered with 307",
		},
		"gone": {url: gone.URL, logged: "connection refused"},
		"no secret": {
			url: gone.URL, logged: "it is not there",
			headers: func(context.Context) (string, error) { return "", errors.New("it is not there") },
		},
		"a secret that is none": {
			url: gone.URL, logged: "must look like",
			headers: func(context.Context) (string, error) { return "planted", nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := otlp.Config{Tracing: endpoint(row.url + "/planted"), StoredHeaders: row.headers}
			if row.headers == nil {
				cfg.Headers = "authorization=planted"
			}
			p, log := newProvider(t, cfg)
			f := otlp.Flushed{Handler: slowly{p: p}, Spans: p}
			for range 2 {
				began := time.Now()
				response, err := f.Handle(t.Context(), events.SQSEvent{})
				if took := time.Since(began); took > 3*otlp.Timeout {
					t.Errorf("the function took %s", took)
				}
				if err != nil || len(response.BatchItemFailures) != 1 {
					t.Errorf("the function responded with %v, %v", response, err)
				}
			}
			p.Shutdown(t.Context()) // before the log is read
			if !strings.Contains(log.String(), "cannot export spans") || !strings.Contains(log.String(), row.logged) ||
				strings.Contains(log.String(), "planted") {
				t.Errorf("logged %s", log)
			}
		})
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	if len(other.requests) > 0 {
		t.Error("a redirect was followed, with the headers")
	}
}

// TestFlushBeforeTheDeadline tests that a flush leaves time for the response.
func TestFlushBeforeTheDeadline(t *testing.T) {
	p, _ := newProvider(t, otlp.Config{Tracing: endpoint(serve(t, &collector{}))})
	span(p, "one")
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	p.Flush(ctx)
	if ctx.Err() != nil {
		t.Error("the flush took all of the function's time")
	}
}

// TestDatagram tests the form of a datagram, byte by byte but for the spans.
func TestDatagram(t *testing.T) {
	for _, form := range []string{"%", "tcp:127.0.0.1:1 udp:%", "udp:% tcp:127.0.0.1:1"} {
		listener, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		address := strings.Replace(form, "%", listener.LocalAddr().String(), 1)
		p, log := newProvider(t, otlp.Config{
			Tracing: deployment.Tracing{Exporter: deployment.ExporterXRay, DaemonAddress: address}, Service: "shop",
		})
		span(p, "one") // without a flush
		_ = listener.SetReadDeadline(time.Now().Add(10 * time.Second))
		buffer := make([]byte, 1<<16)
		n, _, err := listener.ReadFrom(buffer)
		if err != nil {
			t.Fatalf("%v: %s", err, log)
		}
		text, ok := strings.CutPrefix(string(buffer[:n]), "{\"format\":\"json\",\"version\":1}\nT1S")
		body, err := base64.StdEncoding.DecodeString(text)
		var data tracepb.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if !ok || err != nil {
			t.Fatalf("the datagram is %q: %v", buffer[:n], err)
		}
		var got collector
		if got.add(&data); strings.Join(got.spans, " ") != "one" || strings.Join(got.services, " ") != "shop" {
			t.Errorf("the datagram has the spans %q of %q", got.spans, got.services)
		}
	}
}

// TestTooLarge tests that a span that fits into no datagram is dropped.
func TestTooLarge(t *testing.T) {
	p, log := newProvider(t, otlp.Config{
		Tracing: deployment.Tracing{Exporter: deployment.ExporterXRay, DaemonAddress: "127.0.0.1:1"},
	})
	span(p, strings.Repeat("x", 1<<16))
	if !strings.Contains(log.String(), "too large") {
		t.Errorf("logged %s", log)
	}
}

func TestNothingConfigured(t *testing.T) {
	p, err := otlp.New(otlp.Config{})
	if p != nil || err != nil {
		t.Fatalf("got %v, %v", p, err)
	}
	if p.Tracer() != nil {
		t.Error("a tracer without a provider")
	}
	p.Flush(t.Context())
	p.Shutdown(t.Context())
	_, s := tracing.Process(t.Context(), tracing.Tracer(p.Tracer()), tracing.Message{Queue: "jobs"})
	if s.SpanContext().IsValid() {
		t.Error("a span is in a trace")
	}
}

func TestWrongConfiguration(t *testing.T) {
	xray := deployment.ExporterXRay
	for name, row := range map[string]struct {
		cfg  deployment.Tracing
		says string
	}{
		"unknown":            {deployment.Tracing{Exporter: "jaeger"}, `OTEL is "jaeger"; it must be xray`},
		"no daemon":          {deployment.Tracing{Exporter: xray}, "AWS_XRAY_DAEMON_ADDRESS is not set"},
		"no port":            {deployment.Tracing{Exporter: xray, DaemonAddress: "127.0.0.1"}, "must be host:port"},
		"both":               {deployment.Tracing{Exporter: xray, Endpoint: "https://c.example"}, "exclude each other"},
		"headers to nowhere": {deployment.Tracing{Headers: "a=planted"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not"},
		"a secret for nothing": {
			deployment.Tracing{HeadersSecretID: "planted"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not",
		},
		"two kinds of headers": {
			deployment.Tracing{Endpoint: "https://c.example", Headers: "a=planted", HeadersSecretID: "planted"}, "unset one",
		},
		"no URL":         {endpoint("planted"), "OTEL_EXPORTER_OTLP_ENDPOINT must be an https URL"},
		"no encryption":  {endpoint("http://c.example:4318"), "must be an https URL"},
		"a password":     {endpoint("https://u:planted@c.example"), "must be an https URL"},
		"a query":        {endpoint("https://c.example?planted"), "must be an https URL"},
		"gRPC":           {endpoint("c.example:4317"), "must be an https URL"},
		"broken headers": {deployment.Tracing{Endpoint: "https://c.example", Headers: "planted"}, "must look like"},
		"a name with a space": {
			deployment.Tracing{Endpoint: "https://c.example", Headers: "a b=planted"}, "must look like",
		},
		"a value with a line break": {
			deployment.Tracing{Endpoint: "https://c.example", Headers: "a=planted%0d%0ab: c"}, "must look like",
		},
		"broken encoding": {deployment.Tracing{Endpoint: "https://c.example", Headers: "a=%zzplanted"}, "must look like"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := otlp.New(otlp.Config{Tracing: row.cfg})
			if err == nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "planted") {
				t.Errorf("error %v, want one with %q", err, row.says)
			}
		})
	}
}

// TestForLambda tests that a function reads the stored headers, and names itself.
func TestForLambda(t *testing.T) {
	c := &collector{status: http.StatusOK}
	e := endpoint(serve(t, c))
	e.HeadersSecretID = "arn"
	p, err := otlp.ForLambda(e, func(id string) secret.Source {
		if id != "arn" {
			t.Errorf("opened %s", id)
		}
		return secret.Fixed("x-key=stored")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Shutdown(t.Context())
	_, s := p.Tracer().Start(t.Context(), "one", trace.WithNewRoot())
	s.End()
	p.Flush(t.Context())
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) != 1 || c.requests[0].Header.Get("X-Key") != "stored" {
		t.Errorf("%d requests", len(c.requests))
	}
	if p, err := otlp.ForLambda(deployment.Tracing{}, nil); p != nil || err != nil {
		t.Errorf("without a configuration: %v, %v", p, err)
	}
}

// BenchmarkOff measures what the handling of a message pays for spans that are not exported.
func BenchmarkOff(b *testing.B) {
	tracer := tracing.Tracer(nil)
	m := tracing.Message{Queue: "jobs", Traceparent: "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"}
	for b.Loop() {
		_, s := tracing.Process(b.Context(), tracer, m)
		if tracing.Traceparent(s) != m.Traceparent {
			b.Fatal("the traceparent is lost")
		}
		s.End()
	}
}
