package ack_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
)

// TestLongTools tests which queue takes which message.
func TestLongTools(t *testing.T) {
	arrival := fmt.Sprintf(`{"message":{"type":"status-update","status":"in-progress",%s}}`, call)
	tools := func(names ...string) string {
		var calls []string
		for i, name := range names {
			calls = append(calls, toolCall(fmt.Sprint("t", i), name, arguments))
		}
		return webhook(call, calls...)
	}
	for name, row := range map[string]struct {
		body                string
		queueDown, longDown bool
		queue, long         []string // the tools of the jobs
		refused             bool
	}{
		"a short one":    {body: tools("short"), queue: []string{"short"}},
		"a long one":     {body: tools("slow"), long: []string{"slow"}},
		"an unknown one": {body: tools("slowest"), queue: []string{"slowest"}},
		"both": {
			body: tools("slow", "short", "report"), queue: []string{"short"}, long: []string{"slow", "report"},
		},
		"the beginning":       {body: arrival, queue: []string{"arrival"}},
		"with unusable JSON":  {body: asyncWebhook(call, asyncCall("t0", "slow", `"{"`)), queue: []string{"slow"}},
		"short, without long": {body: tools("short"), longDown: true, queue: []string{"short"}},
		"long, without short": {body: tools("slow"), queueDown: true, long: []string{"slow"}},
		"both, without short": {body: tools("slow", "short"), queueDown: true, long: []string{"slow"}, refused: true},
		"both, without long":  {body: tools("slow", "short"), longDown: true, queue: []string{"short", "slow"}},
		"both, with neither":  {body: tools("slow", "short"), queueDown: true, longDown: true, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			long := new(recorder)
			h, q := newHandler(t, func(cfg *ack.Config) {
				cfg.LongQueue, cfg.LongTools, cfg.NextCall = long, []string{"slow", "report"}, true
			})
			if row.queueDown {
				q.fail = down
			}
			if row.longDown {
				long.fail = down
			}
			want := http.StatusOK
			if row.refused {
				want = http.StatusServiceUnavailable
			}
			if response := serve(t, h, post(row.body)); response.Code != want {
				t.Errorf("status %d, want %d: %s", response.Code, want, response.Body)
			}
			for of, queued := range map[string][2][]string{
				"queue": {row.queue, jobTools(t, q)}, "long queue": {row.long, jobTools(t, long)},
			} {
				if diff := cmp.Diff(queued[0], queued[1]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", of, diff)
				}
			}
		})
	}
	_, err := ack.New(ack.Config{Queue: new(recorder), Credential: secret.Fixed(secretPlan), LongTools: []string{"slow"}})
	if err == nil || !strings.Contains(err.Error(), "long queue") {
		t.Errorf("without a long queue: %v", err)
	}
}

// jobTools returns the tools of the jobs on a queue, and "arrival" for an arrival.
func jobTools(t *testing.T, q *recorder) (tools []string) {
	t.Helper()
	for _, m := range q.Take() {
		decoded, err := job.DecodeMessage(m.Body)
		switch message := decoded.(type) {
		case job.Job:
			tools = append(tools, message.Tool)
			if m.Group != queue.Group(message.Call.ID) {
				err = errors.New("the job is in the group " + m.Group)
			}
		case job.Arrival:
			tools = append(tools, "arrival")
		}
		if err != nil {
			t.Error(err)
		}
	}
	return tools
}
