package callback_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/callback/hours"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// caller remembers who was called.
type caller struct {
	mu     sync.Mutex
	calls  []vapiclient.NewCall
	answer func(call int) vapiclient.CallReceipt
}

func (c *caller) Call(_ context.Context, call vapiclient.NewCall) vapiclient.CallReceipt {
	c.mu.Lock()
	c.calls = append(c.calls, call)
	n := len(c.calls)
	c.mu.Unlock()
	return c.answer(n)
}

var (
	called  = vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: "call-back-1", Status: 201}
	unknown = vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Err: errors.New("it is not known whether the call was made")}
	refused = vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: 403, Err: errors.New("the call was answered 403")}
	limited = vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: 429, TryAgain: true, RetryAfter: 45 * time.Second, Err: errors.New("the call was answered 429")}
)

func atOnce(now time.Time) time.Time { return now }

// calling has customers called back by c, at any time.
func calling(c *caller) func(*callback.Config) {
	return func(cfg *callback.Config) { cfg.OutboundCalls = &callback.OutboundCalls{Client: c, Next: atOnce} }
}

// inCallingWorld has a call that is gone, and customers who can be called back.
func inCallingWorld(t *testing.T, answer func(call int) vapiclient.CallReceipt, test func(t *testing.T, w *world, c *caller)) {
	t.Helper()
	c := &caller{answer: answer}
	inChangedWorld(t, calling(c), func(t *testing.T, w *world) {
		w.calls.answer = always(gone)
		test(t, w, c)
	})
}

func (w *world) after(policy job.AfterCall) job.Outcome {
	w.t.Helper()
	return w.finished(w.job("t1"), job.Policy{AfterCall: policy}, respond)
}

// wantCalls checks how often the customer was called back, and why what was
// announced.
func (w *world) wantCalls(c *caller, n int, state job.State, whys ...job.Reason) {
	w.t.Helper()
	if len(c.calls) != n {
		w.t.Errorf("the customer was called back %d times, want %d", len(c.calls), n)
	}
	if diff := cmp.Diff(whys, w.whys()); diff != "" {
		w.t.Error(diff)
	}
	if s := w.state(); s != state || w.results.Len() != 0 || w.dead.Len() != 0 {
		w.t.Errorf("the record is %s, want %s; %d messages left, %d in the dead-letter queue", s, state, w.results.Len(), w.dead.Len())
	}
}

// TestAfterCall has every policy meet every reason why a result cannot be told.
func TestAfterCall(t *testing.T) {
	reasons := map[job.Reason]func(w *world, o *job.Outcome){
		job.ReasonCallGone:     func(w *world, _ *job.Outcome) { w.calls.answer = always(gone) },
		job.ReasonNoControlURL: func(_ *world, o *job.Outcome) { o.Call.ControlURL = "" },
		job.ReasonDeadline:     func(w *world, o *job.Outcome) { o.Deadline = w.now().Add(-time.Second) },
		job.ReasonMisconfigured: func(w *world, _ *job.Outcome) {
			w.calls.answer = always(vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Status: 401})
		},
		job.ReasonUnreachable: func(w *world, _ *job.Outcome) { w.calls.answer = always(failing) },
		job.ReasonUnspeakable: func(_ *world, o *job.Outcome) {
			o.Result = job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: "\u200b"}
		},
	}
	for why, prepare := range reasons {
		for _, policy := range []job.AfterCall{job.AfterCallEvent, job.AfterCallDrop, job.AfterCallOutboundCall, job.AfterCallNextCall} {
			t.Run(fmt.Sprintf("%s, %s", why, policy), func(t *testing.T) {
				inCallingWorld(t, func(int) vapiclient.CallReceipt { return called }, func(t *testing.T, w *world, c *caller) {
					o := w.after(policy)
					prepare(w, &o)
					w.send(o)
					w.run(time.Hour - time.Minute)
					kept, err := w.customers.Parked(t.Context(), job.Customer(o.Call))
					if err != nil {
						t.Fatal(err)
					}
					wantKept := 0
					switch {
					case policy == job.AfterCallDrop && why != job.ReasonMisconfigured && why != job.ReasonUnspeakable: // which somebody must see
						w.wantCalls(c, 0, job.StateUndelivered)
						if r := w.record(o.JobID).Reason; !strings.HasPrefix(r, "dropped: "+string(why)) {
							t.Errorf("the reason is %q", r)
						}
					case policy == job.AfterCallOutboundCall && why == job.ReasonCallGone:
						w.wantCalls(c, 1, job.StateDelivered)
					case policy == job.AfterCallNextCall && why == job.ReasonCallGone:
						w.wantCalls(c, 0, job.StateParked)
						wantKept = 1
					default:
						w.wantCalls(c, 0, job.StateUndelivered, why)
					}
					if len(kept) != wantKept {
						t.Errorf("kept: %+v", kept)
					}
				})
			})
		}
	}
}

// TestDeliveredInTime: no policy matters where the call takes the result.
func TestDeliveredInTime(t *testing.T) {
	for _, policy := range []job.AfterCall{job.AfterCallEvent, job.AfterCallDrop, job.AfterCallOutboundCall, job.AfterCallNextCall} {
		inCallingWorld(t, func(int) vapiclient.CallReceipt { return called }, func(t *testing.T, w *world, c *caller) {
			w.calls.answer = always(delivered)
			w.send(w.after(policy))
			w.run(time.Minute)
			w.wantCalls(c, 0, job.StateDelivered)
		})
	}
}

// TestEndIsNoted: a call that is gone has ended, for tools that stop with it.
func TestEndIsNoted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if live, err := w.ended.Live(t.Context(), "call-1", w.now()); err != nil || !live {
			t.Fatal(live, err)
		}
		w.calls.answer = always(gone)
		w.send(w.after(job.AfterCallEvent))
		w.run(time.Second)
		if live, err := w.ended.Live(t.Context(), "call-1", w.now()); err != nil || live {
			t.Errorf("the call is live: %v, %v", live, err)
		}
	})
}

func TestDropIsMarkedLater(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.calls.answer = always(gone)
		w.table.settle = errors.New("the table is down")
		w.send(w.after(job.AfterCallDrop))
		w.run(30 * time.Second)
		if w.state() != job.StateDone || w.results.Len() != 1 {
			t.Errorf("the record is %s, %d messages left", w.state(), w.results.Len())
		}
		w.table.settle = nil
		w.run(time.Minute)
		w.want(w.calls.posts, job.StateUndelivered, "", 0)
	})
}

func TestCallBack(t *testing.T) {
	business, err := hours.Parse("09:00-18:00", "")
	if err != nil {
		t.Fatal(err)
	}
	nine := time.Date(2000, 1, 1, 9, 0, 0, 0, time.UTC) // a bubble's time begins at midnight
	whole := func(change func(*vapiclient.NewCall)) vapiclient.NewCall {
		c := vapiclient.NewCall{
			AssistantID: "assistant-1", PhoneNumberID: "phone-1", CustomerNumber: number, Name: "Call back: order_status",
			Variables: map[string]string{"ringback_result": content, "ringback_status": "ok", "ringback_tool": "order_status", "ringback_call_id": "call-1"},
		}
		if change != nil {
			change(&c)
		}
		return c
	}
	tests := map[string]struct {
		config func(*callback.OutboundCalls)
		change func(*job.Outcome)
		at     time.Duration
		want   vapiclient.NewCall
	}{
		"at any time":      {want: whole(nil)},
		"before the hours": {config: func(c *callback.OutboundCalls) { c.Next = business.Next }, want: whole(func(c *vapiclient.NewCall) { c.EarliestAt = nine })},
		"in the hours":     {config: func(c *callback.OutboundCalls) { c.Next = business.Next }, at: 10 * time.Hour, want: whole(nil)},
		"after the hours": {config: func(c *callback.OutboundCalls) { c.Next = business.Next }, at: 19 * time.Hour,
			want: whole(func(c *vapiclient.NewCall) { c.EarliestAt = nine.AddDate(0, 0, 1) })},
		"from a number of its own": {config: func(c *callback.OutboundCalls) { c.AssistantID, c.PhoneNumberID = "assistant-2", "phone-2" },
			want: whole(func(c *vapiclient.NewCall) { c.AssistantID, c.PhoneNumberID = "assistant-2", "phone-2" })},
		"which the call had not": {config: func(c *callback.OutboundCalls) { c.AssistantID, c.PhoneNumberID = "assistant-2", "phone-2" },
			change: func(o *job.Outcome) { o.Call.AssistantID, o.Call.PhoneNumberID = "", "" },
			want:   whole(func(c *vapiclient.NewCall) { c.AssistantID, c.PhoneNumberID = "assistant-2", "phone-2" })},
		"a failure": {change: func(o *job.Outcome) {
			o.Result = job.Result{Status: job.StatusError, Delivery: job.DeliverySay, Content: "Sorry\u202e."}
		},
			want: whole(func(c *vapiclient.NewCall) {
				c.Variables["ringback_result"], c.Variables["ringback_status"] = "Sorry.", "error"
			})},
		"a long name": {change: func(o *job.Outcome) { o.Tool = strings.Repeat("long_", 12) },
			want: whole(func(c *vapiclient.NewCall) {
				c.Name, c.Variables["ringback_tool"] = "Call back: "+strings.Repeat("long_", 12)[:29], strings.Repeat("long_", 12)
			})},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := &caller{answer: func(int) vapiclient.CallReceipt { return called }}
			inChangedWorld(t, func(cfg *callback.Config) {
				calling(c)(cfg)
				if tt.config != nil {
					tt.config(cfg.OutboundCalls)
				}
			}, func(t *testing.T, w *world) {
				w.calls.answer = always(gone)
				o := w.after(job.AfterCallOutboundCall)
				o.Deadline = w.start.Add(24 * time.Hour)
				if tt.change != nil {
					tt.change(&o)
				}
				time.Sleep(tt.at)
				w.send(o)
				w.send(o)
				w.run(time.Minute)
				w.wantCalls(c, 1, job.StateDelivered)
				if diff := cmp.Diff(tt.want, c.calls[0]); diff != "" {
					t.Error(diff)
				}
				if r := w.record(o.JobID).Reason; !strings.Contains(r, "call-back-1") {
					t.Errorf("the reason does not name the call: %q", r)
				}
			})
		})
	}
}

// TestNoCallBack has results for which nobody is called.
func TestNoCallBack(t *testing.T) {
	tests := map[string]struct {
		off    bool
		change func(*job.Outcome)
		detail string
	}{
		"switched off":    {true, nil, "switched off"},
		"no assistant":    {false, func(o *job.Outcome) { o.Call.AssistantID = "" }, "unknown"},
		"no phone number": {false, func(o *job.Outcome) { o.Call.PhoneNumberID = "" }, "unknown"},
		"no customer":     {false, func(o *job.Outcome) { o.Call.CustomerNumber = "" }, "unknown"},
		"nothing to tell": {false, func(o *job.Outcome) {
			o.Result = job.Result{Status: job.StatusOK, Delivery: job.DeliveryControl, Control: json.RawMessage(`{"type":"end-call"}`)}
		}, "no text"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := &caller{answer: func(int) vapiclient.CallReceipt { return called }}
			inChangedWorld(t, func(cfg *callback.Config) {
				if !tt.off {
					calling(c)(cfg)
				}
			}, func(t *testing.T, w *world) {
				w.calls.answer = always(gone)
				o := w.after(job.AfterCallOutboundCall)
				if tt.change != nil {
					tt.change(&o)
				}
				w.send(o)
				w.run(time.Hour)
				w.wantCalls(c, 0, job.StateUndelivered, job.ReasonCallGone)
				if d := w.announcer.announced[0].Detail; !strings.Contains(d, tt.detail) || !strings.Contains(d, "answered 404") {
					t.Errorf("the detail is %q", d)
				}
			})
		})
	}
}

// TestCallBackFails: nobody is called again unless it is certain that nobody was
// called, and nothing is lost.
func TestCallBackFails(t *testing.T) {
	type script []vapiclient.CallReceipt
	down := errors.New("the table is down")
	tests := map[string]struct {
		script  script // beyond it, the customer is called
		prepare func(w *world, o *job.Outcome)
		between func(w *world) // after the first ten seconds
		calls   int
		state   job.State
		whys    []job.Reason
	}{
		"refused for good":  {script{refused}, nil, nil, 1, job.StateUndelivered, []job.Reason{job.ReasonCallGone}},
		"refused for now":   {script{limited}, nil, nil, 2, job.StateDelivered, nil},
		"refused, then not": {script{limited, limited, refused}, nil, nil, 3, job.StateUndelivered, []job.Reason{job.ReasonCallGone}},
		"refused for longer than there is time": {script{limited}, func(w *world, o *job.Outcome) { o.Deadline = w.now().Add(44 * time.Second) }, nil,
			1, job.StateUndelivered, []job.Reason{job.ReasonCallGone}},
		"not known":      {script{unknown}, nil, nil, 1, job.StateUndelivered, []job.Reason{job.ReasonOutboundCallUnconfirmed}},
		"a new verdict":  {script{{}}, nil, nil, 1, job.StateUndelivered, []job.Reason{job.ReasonOutboundCallUnconfirmed}},
		"then not known": {script{limited, unknown}, nil, nil, 2, job.StateUndelivered, []job.Reason{job.ReasonOutboundCallUnconfirmed}},
		"died after the note": {nil, func(w *world, o *job.Outcome) {
			r, err := w.table.Table.Change(w.t.Context(), o.JobID, job.ClaimDelivery(w.now(), 30*time.Second))
			if err == nil {
				_, err = w.table.Table.ChangeClaimed(w.t.Context(), r, job.RecordOutboundCall(w.now()))
			}
			if err != nil {
				w.t.Fatal(err)
			}
		}, nil, 0, job.StateUndelivered, []job.Reason{job.ReasonOutboundCallUnconfirmed}},
		"the note fails": {nil, func(w *world, _ *job.Outcome) { w.table.noteCalling = down },
			func(w *world) { w.table.noteCalling = nil }, 1, job.StateDelivered, nil},
		"the note fails for good": {nil, func(w *world, _ *job.Outcome) { w.table.noteCalling = down }, nil, 0, job.StateUndelivered, []job.Reason{job.ReasonUnreachable}},
		"the note's answer is lost": {nil, func(w *world, _ *job.Outcome) { w.table.noteLost = down },
			func(w *world) { w.table.noteLost = nil }, 0, job.StateUndelivered, []job.Reason{job.ReasonOutboundCallUnconfirmed}},
		"it cannot be called off": {script{limited}, func(w *world, _ *job.Outcome) { w.table.callOff = down }, nil,
			1, job.StateUndelivered, []job.Reason{job.ReasonOutboundCallUnconfirmed}},
		// While nobody can be told, it is tried again.
		"refused, and the bus is down": {script{refused, refused, refused, refused}, func(w *world, _ *job.Outcome) { w.announcer.err = errors.New("the bus is down") },
			func(w *world) { w.announcer.err = nil }, 5, job.StateDelivered, nil},
		"not known, and the bus is down": {script{unknown}, func(w *world, _ *job.Outcome) { w.announcer.err = errors.New("the bus is down") },
			func(w *world) { w.announcer.err = nil }, 1, job.StateUndelivered, []job.Reason{job.ReasonOutboundCallUnconfirmed}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			answer := func(n int) vapiclient.CallReceipt {
				if n <= len(tt.script) {
					return tt.script[n-1]
				}
				return called
			}
			inCallingWorld(t, answer, func(t *testing.T, w *world, c *caller) {
				o := w.after(job.AfterCallOutboundCall)
				if tt.prepare != nil {
					tt.prepare(w, &o)
				}
				w.send(o)
				w.run(10 * time.Second)
				if tt.between != nil {
					tt.between(w)
				}
				w.run(50 * time.Minute)
				w.send(o) // a late copy
				w.run(time.Hour)
				w.wantCalls(c, tt.calls, tt.state, tt.whys...)
			})
		})
	}
}

func TestCallBackIsGivenUp(t *testing.T) {
	busy := limited
	busy.RetryAfter = 0
	inCallingWorld(t, func(int) vapiclient.CallReceipt { return busy }, func(t *testing.T, w *world, c *caller) {
		w.send(w.after(job.AfterCallOutboundCall))
		w.run(59 * time.Minute)
		w.wantCalls(c, callback.MaxPosts, job.StateUndelivered, job.ReasonCallGone)
	})
}

// TestFunctionDiedCallingBack has the function die when the call was made.
func TestFunctionDiedCallingBack(t *testing.T) {
	inCallingWorld(t, func(int) vapiclient.CallReceipt { panic("a bug") }, func(t *testing.T, w *world, c *caller) {
		w.send(w.after(job.AfterCallOutboundCall))
		w.run(time.Hour)
		w.wantCalls(c, 1, job.StateUndelivered, job.ReasonOutboundCallUnconfirmed)
		if d := w.announcer.announced[0].Detail; !strings.Contains(d, "2000-01-01T00:00:00Z") {
			t.Errorf("the detail does not say when: %q", d)
		}
	})
}

// TestCallBackIsNotMarked has a call that was made, and cannot be marked.
func TestCallBackIsNotMarked(t *testing.T) {
	inCallingWorld(t, func(int) vapiclient.CallReceipt { return called }, func(t *testing.T, w *world, c *caller) {
		w.table.settle = errors.New("the table is down")
		o := w.after(job.AfterCallOutboundCall)
		w.send(o)
		w.run(time.Hour)
		w.wantCalls(c, 1, job.StateDone)
		w.table.settle = nil
		w.send(o)
		w.run(time.Hour)
		w.wantCalls(c, 1, job.StateUndelivered, job.ReasonOutboundCallUnconfirmed)
	})
}

// TestCopyDuringCallBack: however long the call and Vapi's API take, a copy of
// the outcome waits.
func TestCopyDuringCallBack(t *testing.T) {
	inCallingWorld(t, func(int) vapiclient.CallReceipt { time.Sleep(20 * time.Second); return called }, func(t *testing.T, w *world, c *caller) {
		w.calls.answer = func(int) vapiclient.Receipt { time.Sleep(10 * time.Second); return gone }
		o := w.after(job.AfterCallOutboundCall)
		other := w.finished(w.job("t2"), job.Policy{AfterCall: job.AfterCallOutboundCall}, respond)
		w.table.claims = func(id string) {
			if id == other.JobID {
				time.Sleep(5 * time.Second)
			}
		}
		w.send(o)
		w.send(other)
		time.AfterFunc(5*time.Second, func() { w.send(o) })
		w.run(10 * time.Minute)
		w.wantCalls(c, 2, job.StateDelivered)
	})
}

// TestCallBackAtVapi calls back with the real client, at a stand-in of Vapi's API.
func TestCallBackAtVapi(t *testing.T) {
	tests := map[string]struct {
		failure fakevapi.Failure
		calls   int
		state   job.State
		why     job.Reason
	}{
		"well":             {fakevapi.None, 1, job.StateDelivered, ""},
		"limited":          {fakevapi.Limited, 1, job.StateDelivered, ""},
		"forbidden":        {fakevapi.Forbidden, 0, job.StateUndelivered, job.ReasonCallGone},
		"broken, made":     {fakevapi.DroppedAfter, 1, job.StateUndelivered, job.ReasonOutboundCallUnconfirmed},
		"broken, not made": {fakevapi.DroppedBefore, 0, job.StateUndelivered, job.ReasonOutboundCallUnconfirmed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			account, outbound := atVapi(t)
			if tt.failure != fakevapi.None {
				account.Fail(1, tt.failure, false)
			}
			hidden := new(visibility)
			tomorrow := time.Date(2030, 1, 2, 9, 0, 0, 0, time.UTC)
			w := newWorld(t, func(cfg *callback.Config) {
				cfg.Results = hidden
				cfg.OutboundCalls = &callback.OutboundCalls{Client: outbound, Next: func(time.Time) time.Time { return tomorrow }}
			})
			w.calls.answer = always(gone)
			o := w.after(job.AfterCallOutboundCall)
			o.Tool = strings.Repeat("t", 64) // as long as Vapi takes tools' names
			w.handle(o, hidden)
			if made := account.Calls(); len(made) != tt.calls {
				t.Fatalf("%d calls: %s", len(made), made)
			}
			if tt.calls == 1 {
				var call struct {
					Customer           struct{ Number string }
					AssistantID        string
					AssistantOverrides struct{ VariableValues map[string]string }
					SchedulePlan       struct{ EarliestAt time.Time }
				}
				if err := json.Unmarshal(account.Calls()[0], &call); err != nil {
					t.Fatal(err)
				}
				if call.Customer.Number != number || call.AssistantID != "assistant-1" || call.AssistantOverrides.VariableValues["ringback_result"] != content || !call.SchedulePlan.EarliestAt.Equal(tomorrow) {
					t.Errorf("called %+v", call)
				}
			}
			var whys []job.Reason
			if tt.why != "" {
				whys = []job.Reason{tt.why}
			}
			if diff := cmp.Diff(whys, w.whys()); diff != "" || w.state() != tt.state {
				t.Errorf("the record is %s, announced %s", w.state(), diff)
			}
		})
	}
}

// atVapi starts a stand-in of Vapi's API.
func atVapi(t *testing.T) (*fakevapi.Account, *vapiclient.Outbound) {
	t.Helper()
	account := &fakevapi.Account{Key: "planted-key"}
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

// handle handles an outcome until its message is deleted, without waiting, and
// gives the delays between.
func (w *world) handle(o job.Outcome, hidden *visibility) []time.Duration {
	w.t.Helper()
	body, err := o.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	var delays []time.Duration
	for n := 1; n <= callback.MaxPosts+1; n++ {
		receipt := fmt.Sprint("receipt-", n)
		response, err := w.handler.Handle(w.t.Context(), events.SQSEvent{Records: []events.SQSMessage{{
			MessageId: "m1", ReceiptHandle: receipt, Body: body, Attributes: map[string]string{"ApproximateReceiveCount": fmt.Sprint(n)},
		}}})
		if err != nil {
			w.t.Fatal(err)
		}
		if len(response.BatchItemFailures) == 0 {
			return delays
		}
		delays = append(delays, hidden.hidden[receipt])
		w.ahead += hidden.hidden[receipt]
	}
	w.t.Error("its message is not deleted")
	return delays
}
