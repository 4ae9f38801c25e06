package ack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
)

// asker lists a job of every call, and counts how often it is asked.
type asker struct {
	err   error
	hang  bool // until the context ends
	calls []string
}

func (a *asker) OfCall(ctx context.Context, callID string) ([]job.Summary, error) {
	a.calls = append(a.calls, callID)
	if a.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return []job.Summary{{Tool: "a", State: job.StateRunning, Created: now}}, a.err
}

func (a *asker) set(cfg *ack.Config) { cfg.Jobs = a }

func TestTaskStatusName(t *testing.T) {
	if ack.TaskStatus != asynctool.TaskStatusName {
		t.Errorf("the tool is named %q here, and %q in asynctool", ack.TaskStatus, asynctool.TaskStatusName)
	}
}

func TestTaskStatus(t *testing.T) {
	const text = "a, started 0 seconds ago, is still running."
	async := func(id, name string) string {
		return `{"type":"function","async":true,"function":{"name":"` + name + `"},"toolCall":` + toolCall(id, name, "{}") + `}`
	}
	asyncHook := func(calls ...string) string {
		return `{"message":{"type":"tool-calls","toolWithToolCallList":[` + strings.Join(calls, ",") + `],` + call + `}}`
	}
	for name, row := range map[string]struct {
		body  string
		want  []result // an error is compared by what it contains
		jobs  []string
		asked []string
	}{
		"alone": {
			webhook(call, toolCall("t1", "task_status", "{}")),
			[]result{{Name: "task_status", ToolCallID: "t1", Result: text}}, nil, []string{"call-1"},
		},
		"among others": {
			webhook(call, toolCall("t1", "a", "{}"), toolCall("t2", "task_status", "{}"), toolCall("t3", "b", "{}")),
			[]result{{Name: "a", ToolCallID: "t1", Result: "Started."}, {Name: "task_status", ToolCallID: "t2", Result: text}, {Name: "b", ToolCallID: "t3", Result: "Started."}},
			[]string{"call-1/t1", "call-1/t3"}, []string{"call-1"},
		},
		"several times": {
			webhook(call, toolCall("t1", "task_status", "{}"), toolCall("t2", "task_status", `"{}"`)),
			[]result{{Name: "task_status", ToolCallID: "t1", Result: text}, {Name: "task_status", ToolCallID: "t2", Result: text}}, nil, []string{"call-1"},
		},
		"with arguments": {
			webhook(call, toolCall("t1", "task_status", arguments)),
			[]result{{Name: "task_status", ToolCallID: "t1", Result: text}}, nil, []string{"call-1"},
		},
		"with arguments that cannot be used": {
			webhook(call, toolCall("t1", "task_status", `[1]`)),
			[]result{{Name: "task_status", ToolCallID: "t1", Result: text}}, nil, []string{"call-1"},
		},
		"async at Vapi": {
			asyncHook(async("t1", "task_status"), async("t2", "a")),
			[]result{{Name: "task_status", ToolCallID: "t1", Result: text}, {Name: "a", ToolCallID: "t2", Result: "Started."}},
			[]string{"call-1/t2"}, []string{"call-1"},
		},
		"in a chat": {
			webhook(`"chat":{"id":"chat-1"}`, toolCall("t1", "task_status", "{}")),
			[]result{{Name: "task_status", ToolCallID: "t1", Result: text}}, nil, []string{"chat-1"},
		},
		"without an id": {
			webhook(call, toolCall("", "task_status", "{}")),
			[]result{{Name: "task_status", Error: "no id"}}, nil, nil,
		},
		"without a call": {
			webhook(`"call":{}`, toolCall("t1", "task_status", "{}")),
			[]result{{Name: "task_status", ToolCallID: "t1", Error: "names no call"}}, nil, nil,
		},
		"another name": {
			webhook(call, toolCall("t1", "Task_Status", "{}"), toolCall("t2", "task_status2", "{}")),
			[]result{{Name: "Task_Status", ToolCallID: "t1", Result: "Started."}, {Name: "task_status2", ToolCallID: "t2", Result: "Started."}},
			[]string{"call-1/t1", "call-1/t2"}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			q, a := new(recorder), new(asker)
			got := results(t, handle(t, newHandler(t, q, secret.Fixed(secretPlan), a.set), post(row.body)))
			for i := range min(len(got), len(row.want)) {
				if row.want[i].Error != "" && strings.Contains(got[i].Error, row.want[i].Error) {
					got[i].Error = row.want[i].Error
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
			var ids []string
			for _, j := range q.jobs(t) {
				ids = append(ids, j.ID)
			}
			if !slices.Equal(ids, row.jobs) || !slices.Equal(a.calls, row.asked) {
				t.Errorf("jobs %q, asked for %q; want %q and %q", ids, a.calls, row.jobs, row.asked)
			}
		})
	}
	t.Run("without a status it is a tool like others", func(t *testing.T) {
		q := new(recorder)
		got := results(t, handle(t, newHandler(t, q, secret.Fixed(secretPlan)), post(webhook(call, toolCall("t1", "task_status", "{}")))))
		if got[0].Result != "Started." || len(q.taken) != 1 {
			t.Errorf("answered with %+v, and %d jobs", got, len(q.taken))
		}
	})
}

func TestTaskStatusFails(t *testing.T) {
	body := webhook(call, toolCall("t1", "a", "{}"), toolCall("t2", "task_status", "{}"))
	check := func(t *testing.T, set func(*ack.Config)) {
		t.Helper()
		q := new(recorder)
		got := results(t, handle(t, newHandler(t, q, secret.Fixed(secretPlan), set), post(body)))
		if len(got) != 2 || got[0].Result != "Started." || !strings.Contains(got[1].Result, "cannot be told right now") || len(q.taken) != 1 {
			t.Errorf("answered with %+v, and %d jobs", got, len(q.taken))
		}
	}
	t.Run("with an error", func(t *testing.T) { check(t, (&asker{err: errors.New("throttled")}).set) })
	t.Run("after a while", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			check(t, (&asker{hang: true}).set)
			if took := time.Since(began); took != 2*time.Second {
				t.Errorf("the caller waited %s", took)
			}
		})
	})
	t.Run("not at all where the jobs cannot be queued", func(t *testing.T) {
		q, a := &recorder{fail: func(int) error { return errors.New("down") }}, new(asker)
		if response := handle(t, newHandler(t, q, secret.Fixed(secretPlan), a.set), post(body)); response.Code != 503 || len(a.calls) != 0 {
			t.Errorf("status %d, asked for %q", response.Code, a.calls)
		}
	})
}

// ends remembers which calls have ended.
type ends struct {
	err   error
	hang  bool // until the context ends
	calls []string
}

func (e *ends) End(ctx context.Context, callID string, _ time.Time) error {
	e.calls = append(e.calls, callID)
	if e.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return e.err
}

func (e *ends) set(cfg *ack.Config) { cfg.CallTracker = e }

// message is a server message without tool calls.
func message(kind, status, call string) string {
	return fmt.Sprintf(`{"message":{"type":%q,"status":%q,%s}}`, kind, status, call)
}

func TestCallEnds(t *testing.T) {
	for name, row := range map[string]struct {
		body string
		want []string
	}{
		"ended":             {message("status-update", "ended", call), []string{"call-1"}},
		"a report":          {message("end-of-call-report", "", call), []string{"call-1"}},
		"not ended":         {message("status-update", "forwarding", call), nil},
		"begun":             {message("status-update", "in-progress", call), nil},
		"another message":   {message("hang", "ended", call), nil},
		"no call":           {message("end-of-call-report", "", `"x":1`), nil},
		"an id of 512":      {message("status-update", "ended", `"call":{"id":"`+strings.Repeat("x", 512)+`"}`), []string{strings.Repeat("x", 512)}},
		"an id that is 513": {message("status-update", "ended", `"call":{"id":"`+strings.Repeat("x", 513)+`"}`), nil},
		"tool calls":        {webhook(call+`,"status":"ended"`, toolCall("t1", "a", "{}")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, e := range []*ends{{}, {err: errors.New("throttled")}} {
				q := new(recorder)
				response := handle(t, newHandler(t, q, secret.Fixed(secretPlan), e.set), post(row.body))
				if response.Code != http.StatusOK || !slices.Equal(e.calls, row.want) {
					t.Errorf("status %d, and %q ended, want %q", response.Code, e.calls, row.want)
				}
				if name != "tool calls" && (response.Body.String() != "{}" || q.sends != 0) {
					t.Errorf("answered with %s, after %d sends", response.Body, q.sends)
				}
			}
		})
	}
	t.Run("from a stranger", func(t *testing.T) {
		e := new(ends)
		r := post(message("status-update", "ended", call))
		r.Header = nil
		if response := handle(t, newHandler(t, new(recorder), secret.Fixed(secretPlan), e.set), r); response.Code != 401 || len(e.calls) != 0 {
			t.Errorf("status %d, and %q ended", response.Code, e.calls)
		}
	})
	t.Run("in a table that hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			response := handle(t, newHandler(t, new(recorder), secret.Fixed(secretPlan), (&ends{hang: true}).set), post(message("status-update", "ended", call)))
			if took := time.Since(began); response.Code != http.StatusOK || took > 10*time.Second {
				t.Errorf("status %d after %s", response.Code, took)
			}
		})
	})
}

func TestArrival(t *testing.T) {
	on := func(cfg *ack.Config) { cfg.NextCall = true }
	withLife := call + `,"assistant":{"maxDurationSeconds":1800},"phoneNumber":{"id":"number-1"}`
	q := new(recorder)
	response := handle(t, newHandler(t, q, secret.Fixed(secretPlan), on), post(message("status-update", "in-progress", withLife)))
	if response.Code != http.StatusOK || response.Body.String() != "{}" || len(q.taken) != 1 || q.taken[0].Group != "call-1" {
		t.Fatalf("status %d: %s; queued %d", response.Code, response.Body, len(q.taken))
	}
	got, err := job.DecodeMessage(q.taken[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	want := job.Arrival{
		Call: job.Call{ID: "call-1", OrgID: "org-1", Type: "inboundPhoneCall", AssistantID: "assistant-1",
			CustomerNumber: number, ControlURL: controlURL, PhoneNumberID: "number-1"},
		CallEnds: now.Add(30 * time.Minute),
	}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Error(diff)
	}

	t.Run("not queued", func(t *testing.T) {
		q := &recorder{fail: func(int) error { return errors.New("down") }}
		response := handle(t, newHandler(t, q, secret.Fixed(secretPlan), on), post(message("status-update", "in-progress", call)))
		if response.Code != http.StatusServiceUnavailable || response.Header().Get("Retry-After") != "1" {
			t.Errorf("status %d with Retry-After %q", response.Code, response.Header().Get("Retry-After"))
		}
	})
	without := func(part string) string { return strings.Replace(call, part, "", 1) }
	for name, row := range map[string]struct {
		body string
		on   func(*ack.Config)
	}{
		"nobody keeps anything":   {message("status-update", "in-progress", call), func(*ack.Config) {}},
		"the call has ended":      {message("status-update", "ended", call), on},
		"another status":          {message("status-update", "ringing", call), on},
		"another message":         {message("speech-update", "in-progress", call), on},
		"nobody calls":            {message("status-update", "in-progress", without(`"customer":{"number":"`+number+`"},`)), on},
		"it cannot be reached":    {message("status-update", "in-progress", without(`,"monitor":{"controlUrl":"`+controlURL+`"}`)), on},
		"it has no id":            {message("status-update", "in-progress", without(`"id":"call-1",`)), on},
		"it has an impossible id": {message("status-update", "in-progress", strings.Replace(call, "call-1", strings.Repeat("x", 513), 1)), on},
	} {
		t.Run(name, func(t *testing.T) {
			q := new(recorder)
			response := handle(t, newHandler(t, q, secret.Fixed(secretPlan), row.on), post(row.body))
			if response.Code != http.StatusOK || response.Body.String() != "{}" || q.sends != 0 {
				t.Errorf("status %d: %s; %d sends", response.Code, response.Body, q.sends)
			}
		})
	}
}

// TestLife is about how long a job's call is taken to go on, and what else the
// job knows of it.
func TestLife(t *testing.T) {
	for name, row := range map[string]struct {
		call string
		want job.Job
	}{
		"a call": {
			call, job.Job{CallEnds: now.Add(time.Hour), Call: job.Call{ID: "call-1", OrgID: "org-1", Type: "inboundPhoneCall",
				AssistantID: "assistant-1", CustomerNumber: number, ControlURL: controlURL}},
		},
		"a call to a number": {
			`"call":{"id":"call-1","phoneNumberId":"number-1"},"assistant":{"maxDurationSeconds":60}`,
			job.Job{CallEnds: now.Add(time.Minute), Call: job.Call{ID: "call-1", PhoneNumberID: "number-1"}},
		},
		"a chat": {
			`"chat":{"id":"chat-1","orgId":"org-1","sessionId":"session-1"},"assistant":{"maxDurationSeconds":60}`,
			job.Job{CallEnds: now.Add(24 * time.Hour), Call: job.Call{ID: "chat-1", OrgID: "org-1", Type: "chat", SessionID: "session-1"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := new(recorder)
			handle(t, newHandler(t, q, secret.Fixed(secretPlan)), post(webhook(row.call, toolCall("t1", "a", "{}"))))
			want := row.want
			want.Version, want.ID, want.ToolCallID, want.Tool, want.ReceivedAt = 1, job.ID(want.Call.ID, "t1"), "t1", "a", now
			want.Arguments = json.RawMessage("{}")
			if diff := cmp.Diff([]job.Job{want}, q.jobs(t)); diff != "" {
				t.Error(diff)
			}
			if got := q.taken[0].Group; got != queue.Group(want.Call.ID) {
				t.Errorf("group %q", got)
			}
		})
	}
}
