package ack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/job"
)

// checkIgnored fails if a message was not answered with {}, or something was queued for it.
func checkIgnored(t *testing.T, response *httptest.ResponseRecorder, q *recorder) {
	t.Helper()
	if response.Code != http.StatusOK || response.Body.String() != "{}" || q.sends != 0 {
		t.Errorf("status %d: %s; %d sends", response.Code, response.Body, q.sends)
	}
}

func TestOtherMessages(t *testing.T) {
	for _, kind := range []string{"status-update", "end-of-call-report", "hang", "speech-update", "something-new"} {
		t.Run(kind, func(t *testing.T) {
			response, q := receive(t, fmt.Sprintf(`{"message":{"type":%q,%s,"toolCallList":[%s]}}`,
				kind, call, toolCall("tool-1", "a", "{}")))
			checkIgnored(t, response, q)
		})
	}
	response, _ := receive(t, `{"message":{"type":"assistant-request"}}`)
	var answer struct{ Error string }
	if err := json.Unmarshal(response.Body.Bytes(), &answer); err != nil || answer.Error == "" || response.Code != 200 {
		t.Errorf("assistant-request: status %d: %s", response.Code, response.Body)
	}
}

// A function-call is the older form of a tool call. Its answer has another shape.
func TestFunctionCall(t *testing.T) {
	body := func(functionCall string) string {
		return fmt.Sprintf(`{"message":{"type":"function-call","timestamp":1,"functionCall":%s,%s}}`, functionCall, call)
	}
	response, q := receive(t, body(`{"name":"a","parameters":"{\"x\":1}"}`))
	messages := q.Take()
	if response.Code != http.StatusOK || response.Body.String() != `{"result":"Started."}` || len(messages) != 1 {
		t.Fatalf("status %d: %s; queued %d", response.Code, response.Body, len(messages))
	}
	decoded, err := job.DecodeMessage(messages[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	j := decoded.(job.Job)
	if j.Tool != "a" || string(j.Arguments) != `{"x":1}` || j.Call.ControlURL != controlURL || j.ToolCallID == "" {
		t.Errorf("queued %+v", j)
	}
	response, q = receive(t, body(`{"name":"a","parameters":7}`))
	want := `{"result":"arguments cannot be used: they are not a JSON object"}`
	if response.Code != http.StatusOK || response.Body.String() != want || q.sends != 0 {
		t.Errorf("status %d: %s; %d sends", response.Code, response.Body, q.sends)
	}
}

// tracker records which calls ended.
type tracker struct {
	err   error
	hang  bool // until the context ends
	ended []string
}

func (e *tracker) End(ctx context.Context, callID string, _ time.Time) error {
	e.ended = append(e.ended, callID)
	if e.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return e.err
}

func (e *tracker) Live(context.Context, string, time.Time) (bool, error) {
	return len(e.ended) == 0, e.err
}

func (e *tracker) set(cfg *ack.Config) { cfg.CallTracker = e }

// message is a server message without tool calls.
func message(kind, status, call string) string {
	return fmt.Sprintf(`{"message":{"type":%q,"status":%q,%s}}`, kind, status, call)
}

func TestCallEnds(t *testing.T) {
	longest := strings.Repeat("x", 512)
	ended := message("status-update", "ended", call)
	for name, row := range map[string]struct {
		body string
		want []string
	}{
		"ended":              {ended, []string{"call-1"}},
		"a report":           {message("end-of-call-report", "", call), []string{"call-1"}},
		"not ended":          {message("status-update", "forwarding", call), nil},
		"begun":              {message("status-update", "in-progress", call), nil},
		"another message":    {message("hang", "ended", call), nil},
		"no call":            {message("end-of-call-report", "", `"x":1`), nil},
		"the longest id":     {message("status-update", "ended", `"call":{"id":"`+longest+`"}`), []string{longest}},
		"an id that is long": {message("status-update", "ended", `"call":{"id":"x`+longest+`"}`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, e := range []*tracker{{}, {err: errors.New("throttled")}} {
				response, q := receive(t, row.body, e.set)
				checkIgnored(t, response, q)
				if !slices.Equal(e.ended, row.want) {
					t.Errorf("%q ended, want %q", e.ended, row.want)
				}
			}
		})
	}
	t.Run("tool calls", func(t *testing.T) {
		e := new(tracker)
		receive(t, webhook(call+`,"status":"ended"`, toolCall("t1", "a", "{}")), e.set)
		if len(e.ended) != 0 {
			t.Errorf("%q ended", e.ended)
		}
	})
	t.Run("unauthenticated", func(t *testing.T) {
		e := new(tracker)
		h, _ := newHandler(t, e.set)
		r := post(ended)
		r.Header = nil
		if response := serve(t, h, r); response.Code != 401 || len(e.ended) != 0 {
			t.Errorf("status %d, and %q ended", response.Code, e.ended)
		}
	})
	t.Run("the table does not answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			response, q := receive(t, ended, (&tracker{hang: true}).set)
			checkIgnored(t, response, q)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("answered after %s", took)
			}
		})
	})
}

func TestArrival(t *testing.T) {
	on := func(cfg *ack.Config) { cfg.NextCall = true }
	response, q := receive(t, message("status-update", "in-progress",
		call+`,"assistant":{"maxDurationSeconds":1800},"phoneNumber":{"id":"number-1"}`), on)
	messages := q.Take()
	if response.Code != http.StatusOK || response.Body.String() != "{}" ||
		len(messages) != 1 || messages[0].Group != "call-1" {
		t.Fatalf("status %d: %s; queued %+v", response.Code, response.Body, messages)
	}
	got, err := job.DecodeMessage(messages[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	want := job.Arrival{
		Call: job.Call{
			ID: "call-1", OrgID: "org-1", Type: "inboundPhoneCall", AssistantID: "assistant-1",
			CustomerNumber: number, ControlURL: controlURL, PhoneNumberID: "number-1",
		},
		CallEnds: now.Add(30 * time.Minute),
	}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Error(diff)
	}

	response, _ = receive(t, message("status-update", "in-progress", call), on, failing(down))
	if response.Code != http.StatusServiceUnavailable || response.Header().Get("Retry-After") != "1" {
		t.Errorf("not queued: status %d with Retry-After %q", response.Code, response.Header().Get("Retry-After"))
	}

	begins := func(old, new string) string {
		return message("status-update", "in-progress", strings.Replace(call, old, new, 1))
	}
	for name, row := range map[string]struct {
		body string
		set  func(*ack.Config)
	}{
		"no tool parks results": {begins("", ""), func(*ack.Config) {}},
		"the call has ended":    {message("status-update", "ended", call), on},
		"another status":        {message("status-update", "ringing", call), on},
		"another message":       {message("speech-update", "in-progress", call), on},
		"no customer number":    {begins(`"customer":{"number":"`+number+`"},`, ""), on},
		"a withheld number":     {begins(number, "anonymous"), on},
		"a placeholder":         {begins(number, "+266696687"), on},
		"no control URL":        {begins(`,"monitor":{"controlUrl":"`+controlURL+`"}`, ""), on},
		"no call id":            {begins(`"id":"call-1",`, ""), on},
		"a long call id":        {begins("call-1", strings.Repeat("x", 513)), on},
	} {
		t.Run(name, func(t *testing.T) {
			response, q := receive(t, row.body, row.set)
			checkIgnored(t, response, q)
		})
	}
}

// TestCallOfAJob covers what a job knows of its call, and how long the call can last.
func TestCallOfAJob(t *testing.T) {
	for name, row := range map[string]struct {
		call string
		life time.Duration
		want job.Call
	}{
		"a call": {call, 12 * time.Hour, job.Call{
			ID: "call-1", OrgID: "org-1", Type: "inboundPhoneCall", AssistantID: "assistant-1",
			CustomerNumber: number, ControlURL: controlURL,
		}},
		"a call to a number": {
			`"call":{"id":"call-1","phoneNumberId":"number-1"},"assistant":{"maxDurationSeconds":60}`,
			time.Minute, job.Call{ID: "call-1", PhoneNumberID: "number-1"},
		},
		"a call that is handed to another assistant": {
			`"call":{"id":"call-1","squad":{"members":[{"assistant":{"maxDurationSeconds":60}},` +
				`{"assistant":{"maxDurationSeconds":3600}}]}},"assistant":{"maxDurationSeconds":60}`,
			time.Hour, job.Call{ID: "call-1"},
		},
		"a chat": {
			`"chat":{"id":"chat-1","orgId":"org-1","sessionId":"session-1"},"assistant":{"maxDurationSeconds":60}`,
			24 * time.Hour, job.Call{ID: "chat-1", OrgID: "org-1", Type: "chat", SessionID: "session-1"},
		},
		"a chat over text messages": {
			`"chat":{"id":"chat-1","sessionId":"session-1"},"phoneNumber":{"id":"number-1"},` +
				`"customer":{"number":"+15550100123"}`,
			24 * time.Hour, job.Call{
				ID: "chat-1", Type: "chat", SessionID: "session-1", SMS: true, PhoneNumberID: "number-1",
				CustomerNumber: "+15550100123",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, q := receive(t, webhook(row.call, toolCall("t1", "a", "{}")))
			want := []job.Job{{
				Version: 1, ID: job.ID(row.want.ID, "t1", "a", []byte("{}")), ToolCallID: "t1", Tool: "a",
				Arguments: json.RawMessage("{}"),
				Call:      row.want, ReceivedAt: now, CallEnds: now.Add(row.life),
			}}
			if diff := cmp.Diff(want, q.jobs(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
