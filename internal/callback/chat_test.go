package callback_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// chat is the outcome of a job that was started in a chat.
func (w *world) chat(result job.Result, change func(*job.Call)) job.Outcome {
	w.t.Helper()
	j := w.job("t1")
	j.Call = job.Call{ID: "call-1", Type: "chat", OrgID: "org-1", AssistantID: "assistant-1"}
	if change != nil {
		change(&j.Call)
	}
	return w.finished(j, job.Policy{}, result)
}

// TestChat posts to a stand-in of Vapi's API with the real client.
func TestChat(t *testing.T) {
	say := job.Result{Status: job.StatusError, Delivery: job.DeliverySay, Content: "Sorry."}
	const body = `"input":[{"role":"system","content":"t1=` + content + `"}],"stream":false}`
	tests := map[string]struct {
		result  job.Result
		change  func(*job.Call)
		failure fakevapi.Failure
		body    string // of each request; empty means that there is none
		delays  []time.Duration
		chats   int
		state   job.State
		why     job.Reason
	}{
		"a chat": {result: respond, body: `{"previousChatId":"call-1","assistantId":"assistant-1",` + body, chats: 1, state: job.StateDelivered},
		"a session": {result: respond, change: func(c *job.Call) { c.SessionID = "session-1" },
			body: `{"sessionId":"session-1",` + body, chats: 1, state: job.StateDelivered},
		"word for word": {result: say, change: func(c *job.Call) { c.SessionID = "session-1" },
			body: `{"sessionId":"session-1","input":[{"role":"system","content":"t1=Sorry."}],"stream":false}`, chats: 1, state: job.StateDelivered},
		"a control message": {result: job.Result{Status: job.StatusOK, Delivery: job.DeliveryControl, Control: json.RawMessage(`{"type":"end-call"}`)},
			state: job.StateUndelivered, why: job.ReasonUnspeakable},
		"limited": {result: respond, failure: fakevapi.Limited, body: `{"previousChatId":"call-1","assistantId":"assistant-1",` + body,
			delays: []time.Duration{7 * time.Second}, chats: 1, state: job.StateDelivered},
		"down": {result: respond, failure: fakevapi.RefusedBefore, body: `{"previousChatId":"call-1","assistantId":"assistant-1",` + body,
			delays: []time.Duration{time.Second}, chats: 1, state: job.StateDelivered},
		"forbidden": {result: respond, failure: fakevapi.Forbidden, body: `{"previousChatId":"call-1","assistantId":"assistant-1",` + body,
			state: job.StateUndelivered, why: job.ReasonMisconfigured},
		// Not a chat, whatever else it is.
		"a call without a control URL": {result: respond, change: func(c *job.Call) { c.Type = "webCall" }, state: job.StateUndelivered, why: job.ReasonNoControlURL},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			account, outbound := atVapi(t)
			if tt.failure != fakevapi.None {
				account.Fail(1, tt.failure, false)
			}
			hidden, own := new(visibility), terse(t)
			w := newWorld(t, func(cfg *callback.Config) {
				own(cfg)
				cfg.Results, cfg.ChatClient = hidden, outbound
			})
			if diff := cmp.Diff(tt.delays, w.handle(w.chat(tt.result, tt.change), hidden)); diff != "" {
				t.Error(diff)
			}
			var want []fakevapi.Request
			if tt.body != "" {
				for range len(tt.delays) + 1 {
					want = append(want, fakevapi.Request{Method: "POST", Path: "/chat", Body: tt.body})
				}
			}
			if diff := cmp.Diff(want, account.Requests()); diff != "" {
				t.Error(diff)
			}
			if n := len(account.Chats()); n != tt.chats {
				t.Errorf("%d chats", n)
			}
			w.want(0, tt.state, tt.why, 0)
		})
	}
}

func TestChatIsNotConfigured(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.send(w.chat(respond, nil))
		w.run(time.Minute)
		w.want(0, job.StateUndelivered, job.ReasonNoControlURL, 0)
	})
}

// TestChatIsGone: neither can a chat's customer be called, nor is anything kept.
func TestChatIsGone(t *testing.T) {
	for _, policy := range []job.AfterCall{job.AfterCallEvent, job.AfterCallOutboundCall, job.AfterCallNextCall} {
		server := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(server.Close)
		outbound, err := vapiclient.NewOutbound(vapiclient.OutboundConfig{URL: server.URL, AllowLoopback: true, Key: func(context.Context) (string, error) { return "k", nil }})
		if err != nil {
			t.Fatal(err)
		}
		hidden := new(visibility)
		c := &caller{answer: func(int) vapiclient.CallReceipt { return called }}
		w := newWorld(t, func(cfg *callback.Config) {
			calling(c)(cfg)
			cfg.Results, cfg.ChatClient = hidden, outbound
		})
		o := w.chat(respond, nil)
		o.AfterCall = policy
		w.handle(o, hidden)
		w.wantCalls(c, 0, job.StateUndelivered, job.ReasonCallGone)
	}
}

type chatting func(vapiclient.NewChat) vapiclient.Receipt

func (c chatting) Chat(_ context.Context, chat vapiclient.NewChat) vapiclient.Receipt { return c(chat) }

// TestSeveralInAChat has two outcomes of a chat in a batch: a chat is
// posted each of them, and they are not taken for those of a call.
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
		for _, id := range []string{"t1", "t2"} {
			j := w.job(id)
			j.Call = job.Call{ID: "call-1", Type: "chat", AssistantID: "assistant-1"}
			w.send(w.finished(j, job.Policy{}, respond))
		}
		w.run(time.Millisecond)
		if diff := cmp.Diff([]string{"call-1", "call-1"}, posted); diff != "" {
			t.Error(diff)
		}
		w.wantStates(job.StateDelivered)
	})
}

// TestProgressOfAChat: nobody could hear it.
func TestProgressOfAChat(t *testing.T) {
	inTellingWorld(t, func(cfg *callback.Config) {
		cfg.ChatClient = chatting(func(vapiclient.NewChat) vapiclient.Receipt { t.Error("the chat was told"); return delivered })
	}, func(t *testing.T, w *world, _ job.Record) {
		o := w.noted("half")
		o.Call.Type, o.Call.ControlURL = "chat", ""
		w.send(o)
		w.run(time.Minute)
		w.quiet()
		if w.calls.posts != 0 {
			t.Errorf("%d posts", w.calls.posts)
		}
		w.sendBody("?")
		w.run(time.Millisecond)
	})
}
