package ack_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/job"
)

// traced is the context of a Lambda invocation with a trace header of X-Ray.
func traced(header string) context.Context {
	return context.WithValue(context.Background(), "x-amzn-trace-id", header) //nolint:staticcheck // aws-lambda-go's key
}

// TestTrace tests in which trace the jobs of a webhook are, and that the log names it.
func TestTrace(t *testing.T) {
	const own = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-"
	for name, row := range map[string]struct {
		header string
		want   string // "" is any new trace
	}{
		"sampled": {"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1", own + "01"},
		"with a lineage": {
			"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:a87bd80c:0", own + "01",
		},
		"not sampled": {"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0", own + "00"},
		"undecided":   {"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=?", own + "00"},
		"another order": {
			"Sampled=1; Parent=53995c3f42cd8ad8; Root=1-5759e988-bd862e3fe1be46a994272793", own + "01",
		},
		"none":              {},
		"no parent":         {header: "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"},
		"another version":   {header: "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"},
		"one part":          {header: "Root=1-5759e988bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"},
		"other parts":       {header: "Root=1-5759e988b-d862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"},
		"no digits":         {header: "Root=1-5759e988-" + number + ";Parent=53995c3f42cd8ad8;Sampled=1"},
		"zero":              {header: "Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8;Sampled=1"},
		"more than a trace": {header: strings.Repeat("Root=", 1<<16)},
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			h, q := newHandler(t, func(cfg *ack.Config) {
				cfg.Log = slog.New(slog.NewMultiHandler(cfg.Log.Handler(), slog.NewJSONHandler(&logged, nil)))
			})
			body := webhook(call, toolCall("tool-1", "order_status", arguments), toolCall("tool-2", "order_status", arguments))
			seen := make(map[string]bool)
			for range 2 {
				r := post(body)
				if row.header != "" {
					r = r.WithContext(traced(row.header))
				}
				if answer := serve(t, h, r); answer.Code != http.StatusOK {
					t.Fatal(answer.Code)
				}
				var traces []string
				for _, m := range q.Take() {
					j, err := job.Decode(m.Body)
					if err != nil {
						t.Fatal(err)
					}
					traces = append(traces, j.Traceparent)
				}
				if len(traces) != 2 || traces[0] != traces[1] {
					t.Fatalf("the jobs of a webhook are in the traces %q", traces)
				}
				id := job.TraceID(traces[0])
				if id == "" || row.want != "" && traces[0] != row.want {
					t.Errorf("the traceparent is %q, want %q", traces[0], row.want)
				}
				if row.want == "" && (seen[id] || !strings.HasSuffix(traces[0], "-01")) {
					t.Errorf("%s is no new trace that is recorded", traces[0])
				}
				seen[id] = true
				if strings.Count(logged.String(), `"trace_id":"`+id+`"`) < 2 {
					t.Errorf("the log does not name the trace %s:\n%s", id, logged.String())
				}
			}
		})
	}
}
