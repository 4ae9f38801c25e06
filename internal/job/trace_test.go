package job_test

import (
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/internal/job"
)

const traceparent = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"

// traceparents are texts with the trace id that they have. Some are examples of W3C's Trace Context.
var traceparents = map[string]string{
	traceparent: "5759e988bd862e3fe1be46a994272793",
	"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00": "0af7651916cd43dd8448eb211c80319c",
	"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03": "0af7651916cd43dd8448eb211c80319c",
	"": "",
	"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331":      "",
	"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-":     "",
	"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-04":   "",
	"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x": "",
	"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":   "",
	"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":   "",
	"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01":   "",
	"00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01":   "",
	"00-00000000000000000000000000000000-b7ad6b7169203331-01":   "",
	"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01":   "",
	"00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01":    "",
	"00-0af7651916cd43dd8448eb211c80319cc-b7ad6b7169203331-01":  "",
	"00-0af7651916cd43dd8448eb211c8031+c-b7ad6b7169203331-01":   "",
	" 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":  "",
	"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n": "",
	"00--0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":  "",
	"00-+4915100000001-b7ad6b7169203331-01":                     "",
	strings.Repeat("0", 1<<20):                                  "",
}

func TestTraceID(t *testing.T) {
	for text, want := range traceparents {
		if got := job.TraceID(text); got != want {
			t.Errorf("TraceID(%.80q) = %q, want %q", text, got, want)
		}
		if got := job.LogTrace(text); got.Value.String() != want && want != "" || (got.Key == "trace_id") != (want != "") {
			t.Errorf("LogTrace(%.80q) = %v", text, got)
		}
	}
}

// FuzzTraceID tests that a trace id that is logged is the one that OpenTelemetry reads.
func FuzzTraceID(f *testing.F) {
	for text := range traceparents {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := job.TraceID(text)
		ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": text})
		read := trace.SpanContextFromContext(ctx)
		switch {
		case strings.HasPrefix(text, "00") && (got != "") != read.IsValid():
			t.Errorf("TraceID(%q) = %q, and OpenTelemetry reads it: %t", text, got, read.IsValid())
		case got != "" && got != read.TraceID().String():
			t.Errorf("TraceID(%q) = %q, and OpenTelemetry reads %s", text, got, read.TraceID())
		}
	})
}

// TestTraceparentTravels tests that whatever follows from a job has its traceparent.
func TestTraceparentTravels(t *testing.T) {
	now := time.Date(2026, 11, 26, 2, 0, 0, 0, time.UTC)
	j := job.Job{
		ID: job.EarlierID("c", "t"), ToolCallID: "t", Tool: "x", Call: job.Call{ID: "c"}, Traceparent: traceparent,
		ReceivedAt: now, CallEnds: now.Add(time.Hour),
	}
	message, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := job.Decode(message)
	if err != nil {
		t.Fatal(err)
	}
	r := job.NewRecord(decoded, job.Policy{}, j.CallEnds, "owner", now, time.Minute)
	r.Result = &job.Result{Status: job.StatusOK, Delivery: "respond", Content: "x"}
	r.Progress = &job.ProgressLine{Sequence: 1, Text: "x"}
	body, err := job.EncodeRecord(r)
	if err != nil {
		t.Fatal(err)
	}
	var stored job.Record
	if err := job.DecodeRecord(body, &stored); err != nil {
		t.Fatal(err)
	}
	outcome, err := decoded.Outcome(stored).Encode()
	if err != nil {
		t.Fatal(err)
	}
	sent, err := job.DecodeOutcome(outcome)
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]string{
		"message": decoded.Traceparent, "record": stored.Traceparent, "job of the record": stored.Job().Traceparent,
		"outcome":       sent.Traceparent,
		"hold message":  decoded.ProgressOutcome(0, "x", false, stored).Traceparent,
		"external line": decoded.ExternalProgressOutcome(false, stored).Traceparent,
		"parked result": job.ParkedResult{JobID: j.ID}.Outcome(stored, job.Call{ID: "d"}).Traceparent,
		"mark":          sent.Mark(job.StateDelivered, "").Traceparent,
	} {
		if got != traceparent {
			t.Errorf("the %s has the traceparent %q", what, got)
		}
	}
}

// TestSuspendedSpan tests that the record of a suspended job knows the span that suspended it, and has the trace once.
func TestSuspendedSpan(t *testing.T) {
	now := time.Date(2026, 11, 26, 2, 0, 0, 0, time.UTC)
	const other = "00-5759e988bd862e3fe1be46a994272793-00f067aa0ba902b7-01"
	for name, row := range map[string]struct{ first, suspends, want string }{
		"another span":                {traceparent, other, other},
		"no spans are made":           {traceparent, traceparent, ""},
		"another trace":               {traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ""},
		"an unreadable one":           {traceparent, "00-5759e988bd862e3fe1be46a994272793-+491510000-01", ""},
		"a record of another version": {"", other, ""},
		"a job of another version":    {"", "", ""},
	} {
		j := job.Job{ID: job.EarlierID("c", "t"), Call: job.Call{ID: "c"}, Traceparent: row.first}
		r := job.NewRecord(j, job.Policy{}, now.Add(time.Hour), "owner", now, time.Minute)
		j.Traceparent = row.suspends
		r, err := job.Suspend(now, j, now.Add(time.Minute), false, nil).Apply(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.SuspendedSpan(); got != row.want {
			t.Errorf("%s: the span is %q, want %q", name, got, row.want)
		}
		if r.StoredJob.Traceparent != "" || r.Job().Traceparent != row.first {
			t.Errorf("%s: the stored job has %q, and its record %q", name, r.StoredJob.Traceparent, r.Job().Traceparent)
		}
	}
}
