package callback_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/callback/hours"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi/vapiclient"
)

func TestCallBack(t *testing.T) {
	const asked = "asked: order_status {\"order\":\"A-1\"}\n"
	business, err := hours.Parse("09:00-18:00", "")
	if err != nil {
		t.Fatal(err)
	}
	inHours := func(c *callback.OutboundCalls) { c.Next = business.Next }
	own := func(c *callback.OutboundCalls) { c.AssistantID, c.PhoneNumberID = "assistant-2", "phone-2" }
	wantOwn := func(c *vapiclient.NewCall) { c.AssistantID, c.PhoneNumberID = "assistant-2", "phone-2" }
	long := strings.Repeat("long_", 12)
	tests := map[string]struct {
		config func(*callback.OutboundCalls)
		change func(*job.Outcome)
		at     time.Duration
		waits  time.Duration             // for the hours; a bubble's time begins at midnight
		want   func(*vapiclient.NewCall) // changes the usual call
	}{
		"at any time":              {},
		"before the hours":         {config: inHours, waits: 9 * time.Hour},
		"in the hours":             {config: inHours, at: 10 * time.Hour},
		"of a prefix":              {config: func(c *callback.OutboundCalls) { c.Prefixes = []string{"+1", "+49"} }},
		"after another one":        {change: func(o *job.Outcome) { o.Call.Type = "outboundPhoneCall" }},
		"after the hours":          {config: inHours, at: 19 * time.Hour, waits: 14 * time.Hour},
		"from a number of its own": {config: own, want: wantOwn},
		"which the call had not": {config: own, want: wantOwn,
			change: func(o *job.Outcome) { o.Call.AssistantID, o.Call.PhoneNumberID = "", "" }},
		"a failure": {change: func(o *job.Outcome) {
			o.Result = job.Result{
				Status: job.StatusError, Delivery: policy.DeliverySay, Content: "Sorry\u202e.", Own: true,
			}
		}, want: func(c *vapiclient.NewCall) {
			c.Variables["ringback_result"], c.Variables["ringback_status"] = framed(asked+"Sorry."), "error"
			c.Variables["ringback_result_text"] = "Sorry."
		}},
		// Its words must not be the first that the assistant speaks.
		"of an external system": {change: func(o *job.Outcome) { o.Result.Own = false },
			want: func(c *vapiclient.NewCall) {
				c.Variables["ringback_result_text"] = "I have the answer to your request."
			}},
		"a long name": {change: func(o *job.Outcome) { o.Tool = long }, want: func(c *vapiclient.NewCall) {
			c.Name, c.Variables["ringback_tool"] = "Call back: "+long[:29], long
			c.Variables["ringback_result"] = framed("asked: " + long + " {\"order\":\"A-1\"}\n" + content)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inChangedWorld(t, func(cfg *callback.Config) {
				if tt.config != nil {
					tt.config(cfg.OutboundCalls)
				}
			}, func(t *testing.T, w *world) {
				w.answer = answers(gone)
				o := w.outcome(policy.AfterCallOutboundCall)
				o.Deadline, o.Asked, o.Result.Own = w.start.Add(48*time.Hour), `{"order":"A-1"}`, true
				if tt.change != nil {
					tt.change(&o)
				}
				known := w.known["call-1"]
				if o.Call.Type != "" {
					known.Type = o.Call.Type
				}
				w.known["call-1"] = known
				time.Sleep(tt.at)
				w.send(o)
				w.send(o)
				w.run(tt.waits + 2*time.Minute) // the copy waits for the lease
				w.wantCalls(1, job.StateDelivered, "")
				if waited := w.calledAt[0] - tt.at; waited < tt.waits || waited > tt.waits+time.Minute {
					t.Errorf("called after %s, want %s", waited, tt.waits)
				}
				want := vapiclient.NewCall{
					AssistantID: "assistant-1", PhoneNumberID: "phone-1", CustomerNumber: number, Name: "Call back: order_status",
					Variables: map[string]string{
						"ringback_result":      framed(asked + content),
						"ringback_result_text": content, "ringback_status": "ok", "ringback_tool": "order_status",
						"ringback_call_id": "call-1",
					},
				}
				if tt.want != nil {
					tt.want(&want)
				}
				if diff := cmp.Diff(want, w.calls[0]); diff != "" {
					t.Error(diff)
				}
				if r := w.record(o.JobID).Reason; r != "delivered by the outbound call "+job.CallHash(called.CallID) {
					t.Errorf("the reason is %q", r)
				}
			})
		})
	}
}

// TestNoCallBack tests results that cause no outbound call.
func TestNoCallBack(t *testing.T) {
	tests := map[string]struct {
		off    bool
		allow  []string // prefixes
		change func(*job.Outcome)
		detail string
	}{
		"switched off": {off: true, detail: "switched off"},
		"a web call":   {change: func(o *job.Outcome) { o.Call.Type = "webCall" }, detail: "no telephone call"},
		"a websocket": {
			change: func(o *job.Outcome) { o.Call.Type = "vapi.websocketCall" }, detail: "no telephone call",
		},
		"another kind":     {change: func(o *job.Outcome) { o.Call.Type = "PhoneCall" }, detail: "no telephone call"},
		"a foreign prefix": {allow: []string{"+1", "+491512"}, detail: "allowed prefixes"},
		"no assistant":     {change: func(o *job.Outcome) { o.Call.AssistantID = "" }, detail: "unknown"},
		"no phone number":  {change: func(o *job.Outcome) { o.Call.PhoneNumberID = "" }, detail: "unknown"},
		"no customer":      {change: func(o *job.Outcome) { o.Call.CustomerNumber = "" }, detail: "unknown"},
		"anonymous":        {change: func(o *job.Outcome) { o.Call.CustomerNumber = "anonymous" }, detail: "withheld"},
		"a placeholder":    {change: func(o *job.Outcome) { o.Call.CustomerNumber = "+266696687" }, detail: "withheld"},
		"nothing to say":   {change: func(o *job.Outcome) { o.Result = endsCall }, detail: "no text"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inChangedWorld(t, func(cfg *callback.Config) {
				cfg.OutboundCalls.Prefixes = tt.allow
				if tt.off {
					cfg.OutboundCalls = nil
				}
			}, func(t *testing.T, w *world) {
				w.answer = answers(gone)
				o := w.outcome(policy.AfterCallOutboundCall)
				if tt.change != nil {
					tt.change(&o)
				}
				w.send(o)
				w.run(time.Hour)
				w.wantCalls(0, job.StateUndelivered, job.ReasonCallGone)
				if len(w.events) == 0 {
					return
				}
				if d := w.events[0].Detail; !strings.Contains(d, tt.detail) || !strings.Contains(d, "answered 404") {
					t.Errorf("the detail is %q", d)
				}
			})
		})
	}
}

// TestCallsPerDay counts the outbound calls of a day. Calls that were certainly not made do not count.
func TestCallsPerDay(t *testing.T) {
	refused := vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: 403, Err: errors.New("POST /call: 403")}
	unknown := vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Err: errors.New("the call may have been made")}
	type script = []vapiclient.CallReceipt
	tests := map[string]struct {
		most     int
		script   script
		fails    []string // for ten seconds
		tomorrow int      // how many of the five results are ready on the next day
		calls    int      // requested
		states   string   // of the five results: d for delivered, u for undelivered
	}{
		"no limit":             {0, script{called}, nil, 0, 5, "ddddd"},
		"a limit":              {3, script{called}, nil, 0, 3, "ddduu"},
		"on two days":          {3, script{called}, nil, 2, 5, "ddddd"},
		"refused":              {2, script{refused, refused, called}, nil, 0, 4, "uuddu"},
		"unknown":              {2, script{unknown, called}, nil, 0, 2, "uduuu"},
		"the count fails":      {5, script{called}, []string{countCall}, 0, 5, "ddddd"},
		"nor can it be undone": {5, script{refused, called}, []string{uncountCall}, 0, 5, "udddd"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inChangedWorld(t, func(cfg *callback.Config) { cfg.OutboundCalls.PerDay = tt.most }, func(t *testing.T, w *world) {
				w.answer, w.answerCall = answers(gone), answers(tt.script...)
				w.fail(errDown, tt.fails...)
				var ids []string
				for i := range 5 {
					if i == 5-tt.tomorrow {
						w.run(24 * time.Hour)
					}
					j := w.jobOf(fmt.Sprint("call-", i+1), fmt.Sprint("+491510000000", i))
					o := w.finish(j, w.running(j, policy.AfterCallOutboundCall), respond(content))
					o.Deadline = w.now().Add(time.Hour)
					ids = append(ids, o.JobID)
					w.send(o)
					w.run(10 * time.Second)
					w.mend()
				}
				w.run(time.Hour)
				var states string
				for _, id := range ids {
					states += string(w.record(id).State[:1])
				}
				if states != tt.states {
					t.Errorf("the states are %s, want %s", states, tt.states)
				}
				if len(w.calls) != tt.calls {
					t.Errorf("%d calls were requested, want %d", len(w.calls), tt.calls)
				}
			})
		})
	}
}

// TestCallBackFails checks that no second call is made unless it is certain that none was made, and that
// nothing is lost.
func TestCallBackFails(t *testing.T) {
	var (
		unknown = vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Err: errors.New("the call may have been made")}
		refused = vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: 403, Err: errors.New("POST /call: 403")}
		busy    = vapiclient.CallReceipt{
			Verdict: vapiclient.Refused, Status: 429, TryAgain: true, Err: errors.New("POST /call: 429"),
		}
		limited = busy
	)
	limited.RetryAfter = 45 * time.Second
	const done, undelivered = job.StateDelivered, job.StateUndelivered
	const callGone, unconfirmed = job.ReasonCallGone, job.ReasonOutboundCallUnconfirmed
	type script []vapiclient.CallReceipt // the last one is repeated
	fails := func(steps ...string) func(*world, *job.Outcome) {
		return func(w *world, _ *job.Outcome) { w.fail(errDown, steps...) }
	}
	tests := map[string]struct {
		script  script
		prepare func(w *world, o *job.Outcome)
		mended  bool // after ten seconds
		calls   int
		state   job.State
		why     job.Reason
	}{
		"refused for good":  {script{refused}, nil, false, 1, undelivered, callGone},
		"refused for now":   {script{limited, called}, nil, false, 2, done, ""},
		"refused, then not": {script{limited, limited, refused}, nil, false, 3, undelivered, callGone},
		"refused often":     {script{busy}, nil, false, callback.MaxPosts, undelivered, callGone},
		"refused for longer than there is time": {script{limited}, func(w *world, o *job.Outcome) {
			o.Deadline = w.now().Add(44 * time.Second)
		}, false, 3, undelivered, callGone}, // the last one at the deadline
		"unknown":       {script{unknown}, nil, false, 1, undelivered, unconfirmed},
		"a new verdict": {script{{}}, nil, false, 1, undelivered, unconfirmed},
		"then unknown":  {script{limited, unknown}, nil, false, 2, undelivered, unconfirmed},
		"died after the record": {script{called}, func(w *world, o *job.Outcome) {
			claimed := w.change(o.JobID, job.ClaimDelivery(w.now(), 30*time.Second))
			w.changeClaimed(claimed, job.RecordOutboundCall(w.now()))
		}, false, 0, undelivered, unconfirmed},
		"the record fails":          {script{called}, fails(recordCall), true, 1, done, ""},
		"the record fails for good": {script{called}, fails(recordCall), false, 0, undelivered, job.ReasonUnreachable},
		"the record's answer is lost": {script{called}, func(w *world, _ *job.Outcome) {
			w.lost[recordCall] = errDown
		}, true, 0, undelivered, unconfirmed},
		"the record cannot be retracted": {script{limited, called}, fails(retractCall), false, 1, undelivered, unconfirmed},
		// As long as no event can be sent, the call is tried again.
		"refused, and no event can be sent": {script{refused, refused, refused, refused, called}, fails(sendEvent), true,
			5, done, ""},
		"unknown, and no event can be sent": {script{unknown}, fails(sendEvent), true, 1, undelivered, unconfirmed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer, w.answerCall = answers(gone), answers(tt.script...)
				o := w.outcome(policy.AfterCallOutboundCall)
				if tt.prepare != nil {
					tt.prepare(w, &o)
				}
				w.send(o)
				w.run(10 * time.Second)
				if tt.mended {
					w.mend()
				}
				w.run(50 * time.Minute)
				w.send(o) // a late copy
				w.run(time.Hour)
				w.wantCalls(tt.calls, tt.state, tt.why)
			})
		})
	}
}

// TestCallStillLive has calls of which Vapi says at first, or always, that they go on. The control URL
// says that they are over. No outbound call is made before Vapi agrees.
func TestCallStillLive(t *testing.T) {
	unknown := vapiclient.CallStatus{Status: 404, Err: errors.New("Vapi's GET /call answered 404")}
	limited := vapiclient.CallStatus{Status: 429, RetryAfter: 45 * time.Second, Err: errors.New("429")}
	seconds := func(seconds ...time.Duration) []time.Duration {
		for i := range seconds {
			seconds[i] *= time.Second
		}
		return seconds
	}
	tests := map[string]struct {
		script  []vapiclient.CallStatus // the last one is repeated
		left    time.Duration           // until the deadline
		asks    []time.Duration
		calls   int
		state   job.State
		why     job.Reason
		details []string
	}{
		"ended": {[]vapiclient.CallStatus{ended}, time.Hour, seconds(0), 1, job.StateDelivered, "", nil},
		"ends": {[]vapiclient.CallStatus{live, live, ended}, time.Hour, seconds(0, 1, 3), 1, job.StateDelivered,
			"", nil},
		"limited": {[]vapiclient.CallStatus{limited, ended}, time.Hour, seconds(0, 45), 1, job.StateDelivered, "", nil},
		"limited until after the deadline": {[]vapiclient.CallStatus{limited, ended}, 30 * time.Second, seconds(0, 28), 1,
			job.StateDelivered, "", nil},
		"no error":   {[]vapiclient.CallStatus{{}, ended}, time.Hour, seconds(0, 1), 1, job.StateDelivered, "", nil},
		"known late": {[]vapiclient.CallStatus{unknown, ended}, time.Hour, seconds(0, 1), 1, job.StateDelivered, "", nil},
		"never": {[]vapiclient.CallStatus{live}, 10 * time.Second, seconds(0, 1, 3, 7), 0, job.StateUndelivered,
			job.ReasonCallGone, []string{"answered at", "not certain", "in progress"}},
		"never known": {[]vapiclient.CallStatus{unknown}, 2 * time.Second, seconds(0, 1), 0, job.StateUndelivered,
			job.ReasonCallGone, []string{"answered at", "not certain", "GET /call answered 404"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer, w.answerAsk = answers(gone), answers(tt.script...)
				o := w.outcome(policy.AfterCallOutboundCall)
				o.Deadline = w.start.Add(tt.left)
				w.send(o)
				w.run(2 * time.Hour)
				w.wantCalls(tt.calls, tt.state, tt.why)
				if len(w.posts) != 1 {
					t.Errorf("%d posts to a control URL that says that the call is over", len(w.posts))
				}
				if diff := cmp.Diff(tt.asks, w.asks); diff != "" {
					t.Errorf("asked (-want +got):\n%s", diff)
				}
				for _, want := range tt.details {
					if len(w.events) == 0 {
						break
					}
					if d := w.events[0].Detail; !strings.Contains(d, want) {
						t.Errorf("the detail is %q, want %q in it", d, want)
					}
				}
				if !w.record(o.JobID).OutboundCallAt.IsZero() != (tt.calls > 0) {
					t.Error("an outbound call is recorded that was not made, or the other way round")
				}
			})
		})
	}
}

// TestAskedUntilTheDeadline has calls of which Vapi never says that they have ended. It is asked until
// shortly before the deadline.
func TestAskedUntilTheDeadline(t *testing.T) {
	for _, left := range []time.Duration{10 * time.Minute, time.Hour, 8 * time.Hour} {
		t.Run(left.String(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer, w.answerAsk = answers(gone), answers(live)
				o := w.outcome(policy.AfterCallOutboundCall)
				o.Deadline = w.start.Add(left)
				w.send(o)
				w.run(24 * time.Hour)
				w.wantCalls(0, job.StateUndelivered, job.ReasonCallGone)
				last := w.asks[len(w.asks)-1]
				if last > left || last < left*8/10 || len(w.asks) > callback.MaxPosts {
					t.Errorf("asked %d times, for the last time after %s of %s", len(w.asks), last, left)
				}
				if w.asks[5] > time.Minute {
					t.Errorf("asked after %v, which is too slow for a customer who waits", w.asks)
				}
			})
		})
	}
}

// TestFunctionDiedCallingBack makes the function die after the call was made.
func TestFunctionDiedCallingBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer, w.answerCall = answers(gone), func(int) vapiclient.CallReceipt { panic("a bug") }
		w.send(w.outcome(policy.AfterCallOutboundCall))
		w.run(time.Hour)
		w.wantCalls(1, job.StateUndelivered, job.ReasonOutboundCallUnconfirmed)
		if d := w.events[0].Detail; !strings.Contains(d, "2000-01-01T00:00:00Z") {
			t.Errorf("the detail does not contain the time of the call: %q", d)
		}
	})
}

// TestCallBackIsNotMarked tests a call that was made, and cannot be marked: it is marked later.
func TestCallBackIsNotMarked(t *testing.T) {
	for name, tt := range map[string]struct {
		fails []string
		state job.State
		why   job.Reason
	}{
		"for a while":            {[]string{settle}, job.StateDelivered, ""},
		"nor can a mark be sent": {[]string{settle, sendMark}, job.StateUndelivered, job.ReasonOutboundCallUnconfirmed},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer = answers(gone)
				w.fail(errDown, tt.fails...)
				o := w.outcome(policy.AfterCallOutboundCall)
				w.send(o)
				w.run(10 * time.Minute)
				w.mend()
				w.run(time.Hour)
				w.send(o)
				w.run(time.Hour)
				w.wantCalls(1, tt.state, tt.why)
			})
		})
	}
}

// TestCopyDuringCallBack tests that a copy waits for the call, even if Vapi is slow.
func TestCopyDuringCallBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = func(int) vapiclient.Receipt { time.Sleep(10 * time.Second); return gone }
		w.answerCall = func(int) vapiclient.CallReceipt { time.Sleep(20 * time.Second); return called }
		o, second := w.outcome(policy.AfterCallOutboundCall), w.job("t2")
		other := w.finish(second, w.running(second, policy.AfterCallOutboundCall), respond(content))
		w.before[claim] = func(_ context.Context, id string) error {
			if id == other.JobID {
				time.Sleep(5 * time.Second)
			}
			return nil
		}
		w.send(o)
		w.send(other)
		time.AfterFunc(5*time.Second, func() { w.send(o) })
		w.run(10 * time.Minute)
		w.wantCalls(2, job.StateDelivered, "")
	})
}

// TestCallBackAtVapi uses the real client, and a stand-in for Vapi's API.
func TestCallBackAtVapi(t *testing.T) {
	tests := map[string]struct {
		failure fakevapi.Failure
		calls   int
		why     job.Reason // empty if it is delivered
	}{
		"no failure":       {fakevapi.FailureNone, 1, ""},
		"limited":          {fakevapi.FailureLimited, 1, ""},
		"forbidden":        {fakevapi.FailureForbidden, 0, job.ReasonCallGone},
		"broken, made":     {fakevapi.FailureDroppedAfter, 1, job.ReasonOutboundCallUnconfirmed},
		"broken, not made": {fakevapi.FailureDroppedBefore, 0, job.ReasonOutboundCallUnconfirmed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			account, outbound := atVapi(t, fakevapi.FailureNone)
			account.SetCall("call-1", "ended", number)
			if tt.failure != fakevapi.FailureNone {
				account.Fail(2, tt.failure, false) // the first request asks for the status of the call
			}
			tomorrow := time.Now().Add(10 * time.Hour)
			w := newWorld(t, func(cfg *callback.Config) {
				next := func(now time.Time) time.Time {
					if now.Before(tomorrow) {
						return tomorrow
					}
					return now
				}
				cfg.OutboundCalls, cfg.CallLookup = &callback.OutboundCalls{Client: outbound, Next: next}, outbound
			})
			w.answer = answers(gone)
			o := w.outcome(policy.AfterCallOutboundCall)
			o.Tool = strings.Repeat("t", 64) // Vapi's limit of tools' names
			o.Deadline = tomorrow.AddDate(0, 0, 1)
			w.handle(o)
			if made := account.Calls(); len(made) != tt.calls {
				t.Fatalf("%d calls: %s", len(made), made)
			}
			if tt.calls == 1 {
				var call struct {
					Customer           struct{ Number string }
					AssistantID        string
					AssistantOverrides struct{ VariableValues map[string]string }
				}
				if err := json.Unmarshal(account.Calls()[0], &call); err != nil {
					t.Fatal(err)
				}
				if call.Customer.Number != number || call.AssistantID != "assistant-1" ||
					call.AssistantOverrides.VariableValues["ringback_result"] != framed(content) {
					t.Errorf("called %+v", call)
				}
			}
			state := job.StateDelivered
			if tt.why != "" {
				state = job.StateUndelivered
			}
			w.want(-1, state, tt.why, 0)
		})
	}
}

// atVapi starts a stand-in for Vapi's API that fails its first answer, and returns a client of it.
func atVapi(t *testing.T, failure fakevapi.Failure) (*fakevapi.Account, *vapiclient.Outbound) {
	t.Helper()
	account := &fakevapi.Account{Key: "planted-key"}
	if failure != fakevapi.FailureNone {
		account.Fail(1, failure, false)
	}
	server := httptest.NewServer(account)
	t.Cleanup(server.Close)
	outbound, err := vapiclient.NewOutbound(vapiclient.OutboundConfig{
		URL: server.URL, AllowLoopback: true, Key: func(context.Context) (string, error) { return account.Key, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return account, outbound
}
