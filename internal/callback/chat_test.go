package callback_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// chatJob returns a job of a chat.
func (w *world) chatJob(toolCallID string) job.Job {
	j := w.job(toolCallID)
	j.Call = job.Call{ID: "call-1", Type: "chat", OrgID: "org-1", AssistantID: "assistant-1"}
	return j
}

type chatting func(vapiclient.NewChat) vapiclient.Receipt

func (c chatting) Chat(_ context.Context, chat vapiclient.NewChat) vapiclient.Receipt { return c(chat) }

// TestChat posts to a stand-in for Vapi's API with the real client.
func TestChat(t *testing.T) {
	const (
		inChat    = `{"previousChatId":"call-1","assistantId":"assistant-1",`
		inSession = `{"sessionId":"session-1",`
		body      = `"input":[{"role":"system","content":"` + mark + `t1=` + content + mark + `"}],"stream":false}`
	)
	session := func(c *job.Call) { c.SessionID = "session-1" }
	tests := map[string]struct {
		result  job.Result // without one, it is the usual one
		change  func(*job.Call)
		failure fakevapi.Failure
		body    string // of each request; empty means that there is none
		delays  []time.Duration
		why     job.Reason // empty if it is delivered
	}{
		"a chat":    {body: inChat + body},
		"a session": {change: session, body: inSession + body},
		"word for word": {
			result: job.Result{Status: job.StatusError, Delivery: policy.DeliverySay, Content: "Sorry."}, change: session,
			body: inSession + `"input":[{"role":"system","content":"` + mark + `t1=Sorry.` + mark + `"}],"stream":false}`,
		},
		"a control message": {result: endsCall, why: job.ReasonUnspeakable},
		"text messages in a session": {
			change: func(c *job.Call) {
				c.SessionID, c.SMS, c.PhoneNumberID, c.CustomerNumber = "session-1", true, "p", number
			},
			body: inSession + `"transport":{"type":"twilio.sms"},` + body,
		},
		"text messages": {
			change: func(c *job.Call) { c.SMS, c.PhoneNumberID, c.CustomerNumber = true, "p", number },
			body: inChat + `"transport":{"type":"twilio.sms","phoneNumberId":"p","customer":{"number":"` + number + `"}},` +
				body,
		},
		"text messages to nobody": {
			change: func(c *job.Call) { c.SMS, c.PhoneNumberID, c.CustomerNumber = true, "p", "anonymous" },
			why:    job.ReasonMisconfigured,
		},
		"limited":   {failure: fakevapi.FailureLimited, body: inChat + body, delays: []time.Duration{7 * time.Second}},
		"down":      {failure: fakevapi.FailureRefusedBefore, body: inChat + body, delays: []time.Duration{time.Second}},
		"forbidden": {failure: fakevapi.FailureForbidden, body: inChat + body, why: job.ReasonMisconfigured},
		// Not a chat.
		"a call without a control URL": {change: func(c *job.Call) { c.Type = "webCall" }, why: job.ReasonNoControlURL},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			account, outbound := atVapi(t, tt.failure)
			w := newWorld(t, func(cfg *callback.Config) { cfg.ChatClient = outbound })
			if tt.result.Status == "" {
				tt.result = respond(content)
			}
			j := w.chatJob("t1")
			if tt.change != nil {
				tt.change(&j.Call)
			}
			if diff := cmp.Diff(tt.delays, w.handle(w.finished(j, tt.result))); diff != "" {
				t.Errorf("delays (-want +got):\n%s", diff)
			}
			var want []fakevapi.Request
			if tt.body != "" {
				for range len(tt.delays) + 1 {
					want = append(want, fakevapi.Request{Method: "POST", Path: "/chat", Body: tt.body})
				}
			}
			if diff := cmp.Diff(want, account.Requests()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			chats, state := 1, job.StateDelivered
			if tt.why != "" {
				chats, state = 0, job.StateUndelivered
			}
			if n := len(account.Chats()); n != chats {
				t.Errorf("%d chats", n)
			}
			w.want(0, state, tt.why, 0)
		})
	}
}

func TestChatIsNotConfigured(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.send(w.finished(w.chatJob("t1"), respond(content)))
		w.run(time.Minute)
		w.want(0, job.StateUndelivered, job.ReasonNoControlURL, 0)
	})
}

// TestChatIsGone tests a chat that is over: its customer cannot be called, and no result is
// parked.
func TestChatIsGone(t *testing.T) {
	for _, after := range []policy.AfterCall{
		policy.AfterCallEvent, policy.AfterCallOutboundCall, policy.AfterCallNextCall,
	} {
		server := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(server.Close)
		outbound, err := vapiclient.NewOutbound(vapiclient.OutboundConfig{
			URL: server.URL, AllowLoopback: true, Key: func(context.Context) (string, error) { return "k", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, func(cfg *callback.Config) { cfg.ChatClient = outbound })
		o := w.finished(w.chatJob("t1"), respond(content))
		o.AfterCall = after
		w.handle(o)
		w.wantCalls(0, job.StateUndelivered, job.ReasonCallGone)
	}
}

// TestSeveralInAChat tests two outcomes of one chat in a batch. Each of them is posted,
// because only the outcomes of a call are coalesced.
func TestSeveralInAChat(t *testing.T) {
	var mu sync.Mutex
	var posted []string
	inChangedWorld(t, func(cfg *callback.Config) {
		cfg.ChatClient = chatting(func(c vapiclient.NewChat) vapiclient.Receipt {
			mu.Lock()
			defer mu.Unlock()
			posted = append(posted, c.PreviousChatID)
			return delivered
		})
	}, func(t *testing.T, w *world) {
		w.send(w.finished(w.chatJob("t1"), respond(content)))
		w.send(w.finished(w.chatJob("t2"), respond(content)))
		w.run(time.Millisecond)
		if diff := cmp.Diff([]string{"call-1", "call-1"}, posted); diff != "" {
			t.Error(diff)
		}
		w.wantStates(job.StateDelivered)
	})
}
