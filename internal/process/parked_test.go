package process_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

// inCall returns a job of another call of the same customer.
func (w *world) inCall(call, id string) job.Job {
	j := w.job(id, "tool")
	j.ID, j.Call.ID = job.EarlierID(call, id), call
	j.ReceivedAt, j.CallEnds = time.Now(), time.Now().Add(time.Hour)
	return j
}

// arrive sends the arrival of a call.
func (w *world) arrive(call string) {
	w.t.Helper()
	j := w.inCall(call, "")
	w.send(job.Arrival{Call: j.Call, CallEnds: j.CallEnds})
}

// park runs a job whose result is parked.
func (w *world) park(id string) job.Job {
	w.t.Helper()
	then, die := w.out.then, w.die
	w.die = 0
	w.deliver("call-1")
	j := w.job(id, "tool")
	w.send(j)
	w.run(time.Minute)
	if r := w.record(j); r.State != job.StateParked {
		w.t.Fatalf("the result is not parked: %+v", r)
	}
	w.out.then, w.die, w.steps = then, die, nil
	w.out.sent, w.out.at = nil, nil
	return j
}

// wantParked checks how many results are parked for the customer.
func (w *world) wantParked(want int) {
	w.t.Helper()
	parked, err := w.customers.Parked(w.t.Context(), w.job("", "tool").Call)
	if err != nil || len(parked) != want {
		w.t.Errorf("parked: %v, %v; want %d", parked, err, want)
	}
}

// parks returns a tool whose results are parked.
func parks() asynctool.Definition {
	return does(tool{AfterCall: asynctool.NextCall, Attempts: 2}, returns(asynctool.Text("Done."), nil))
}

// TestArrival delivers parked results in the customer's next call.
func TestArrival(t *testing.T) {
	inWorld(t, parks(), func(t *testing.T, w *world) {
		w.park("t1")
		w.park("t2")
		w.deliver()
		w.arrive("call-2")
		w.run(time.Minute)
		want := []delivery{{"call-2", "call-1/t1", "Done."}, {"call-2", "call-1/t2", "Done."}}
		w.wantDelivered(want...)
		w.wantParked(0)
		w.wantLeft(0, 0)
		if len(w.out.sent) != 2 {
			t.Fatalf("%d sent", len(w.out.sent))
		}
		deadline := w.start.Add(2*time.Minute + time.Hour)
		for _, o := range w.out.sent {
			if !o.Earlier || o.AfterCall != policy.AfterCallNextCall || !o.Deadline.Equal(deadline) || o.Call.ID != "call-2" {
				t.Errorf("outcome %+v", o)
			}
		}
		// Neither that call nor another one gets them again.
		w.arrive("call-2")
		w.arrive("call-3")
		w.run(time.Minute)
		w.wantDelivered(want...)
	})
}

// TestCallHasARecord checks for which tools their call has a record before its end: for those of which
// something follows after the call, unless they have a deadline of their own. The ack function of an
// earlier version records the end only of calls that have one.
func TestCallHasARecord(t *testing.T) {
	for name, tt := range map[string]struct {
		after    asynctool.AfterCall
		deadline time.Duration
		want     bool
	}{
		"parked":               {after: asynctool.NextCall, want: true},
		"an outbound call":     {after: asynctool.CallBack, want: true},
		"an event":             {after: asynctool.Announce},
		"a deadline":           {after: asynctool.NextCall, deadline: 2 * time.Hour},
		"an outbound deadline": {after: asynctool.CallBack, deadline: 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			definition := does(tool{AfterCall: tt.after, Deadline: tt.deadline}, returns(asynctool.Text("Done."), nil))
			inWorld(t, definition, func(t *testing.T, w *world) {
				w.deliver()
				j := w.job("t1", "tool")
				w.send(j)
				w.run(time.Minute)
				if _, err := w.store.Calls().Load(t.Context(), "call-1"); (err == nil) != tt.want {
					t.Errorf("the call's record: %v", err)
				}
				if bound := w.record(j).Policy.CallBound; bound != (tt.deadline == 0) {
					t.Errorf("bound by its call: %t", bound)
				}
			})
		})
	}
}

// TestArrivalWithoutDelivery tests calls in which nothing is delivered.
func TestArrivalWithoutDelivery(t *testing.T) {
	for name, change := range map[string]func(*job.Arrival){
		"another customer":      func(a *job.Arrival) { a.Call.CustomerNumber = "+4915100000002" },
		"another organisation":  func(a *job.Arrival) { a.Call.OrgID = "org-2" },
		"no number":             func(a *job.Arrival) { a.Call.CustomerNumber = "" },
		"a withheld number":     func(a *job.Arrival) { a.Call.CustomerNumber = "+266696687" },
		"no control URL":        func(a *job.Arrival) { a.Call.ControlURL = "" },
		"the same call":         func(a *job.Arrival) { a.Call.ID = "call-1" },
		"a call that has ended": func(a *job.Arrival) { a.CallEnds = time.Now().Add(-time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, parks(), func(t *testing.T, w *world) {
				parked := w.park("t1")
				w.deliver()
				j := w.inCall("call-2", "t2")
				arrival := job.Arrival{Call: j.Call, CallEnds: j.CallEnds}
				change(&arrival)
				w.send(arrival)
				w.run(time.Hour)
				w.wantDelivered()
				w.wantParked(1)
				w.wantLeft(0, 0)
				if r := w.record(parked); r.State != job.StateParked {
					t.Errorf("the result is %s", r.State)
				}
			})
		})
	}
}

// TestArrivalElsewhere has the customer call another assistant, which the same organisation runs.
func TestArrivalElsewhere(t *testing.T) {
	for name, tt := range map[string]struct {
		across    bool // the setting admits all calls of the organisation
		old       bool // an earlier version parked the result
		assistant string
		delivered bool
	}{
		"the same assistant":           {assistant: "assistant-1", delivered: true},
		"another assistant":            {assistant: "assistant-2"},
		"no assistant":                 {assistant: ""},
		"another assistant, admitted":  {across: true, assistant: "assistant-2", delivered: true},
		"parked by an earlier version": {old: true, assistant: "assistant-2", delivered: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, parks(), func(t *testing.T, w *world) {
				w.acrossAssistants = tt.across
				w.deploy()
				j := w.park("t1")
				if tt.old {
					k := job.ParkedResult{JobID: j.ID, ToolCallID: "t1", Tool: "tool"}
					now, err := w.customers.Parked(t.Context(), j.Call)
					if err != nil || len(now) != 1 || w.customers.Unpark(t.Context(), j.Call, time.Now(), now[0]) != nil {
						t.Fatal(now, err)
					}
					if _, err := w.customers.Park(t.Context(), j.Call, time.Now(), k); err != nil {
						t.Fatal(err)
					}
				}
				w.deliver()
				next := w.inCall("call-2", "")
				next.Call.AssistantID = tt.assistant
				w.send(job.Arrival{Call: next.Call, CallEnds: next.CallEnds})
				w.run(time.Hour)
				if tt.delivered {
					w.wantDelivered(delivery{"call-2", j.ID, "Done."})
					w.wantParked(0)
				} else {
					w.wantDelivered()
					w.wantParked(1)
				}
			})
		})
	}
}

// TestArrivalByToolCall tests that a tool call is enough to discover the next call.
func TestArrivalByToolCall(t *testing.T) {
	inWorld(t, parks(), func(t *testing.T, w *world) {
		w.park("t1")
		w.deliver()
		w.send(w.inCall("call-2", "t1"))
		w.run(10 * time.Minute)
		w.wantDelivered(delivery{"call-2", "call-1/t1", "Done."}, delivery{"call-2", "call-2/t1", "Done."})
		w.wantParked(0)
		w.wantLeft(0, 0)
	})
}

// TestArrivalInACallThatIsGone ends the next call, too, before the result is delivered. The call
// after that one gets it.
func TestArrivalInACallThatIsGone(t *testing.T) {
	inWorld(t, parks(), func(t *testing.T, w *world) {
		j := w.park("t1")
		w.takes = 2 * time.Second // so that it is known at once that the call is gone
		for _, call := range []string{"call-2", "call-3"} {
			w.deliver(call)
			w.arrive(call)
			time.AfterFunc(10*time.Second, func() { w.arrive(call) }) // once more
			w.run(10 * time.Minute)
			w.wantDelivered()
			w.wantParked(1)
			if n := len(w.out.sent); n != 1 {
				t.Errorf("it was sent %d times", n)
			}
			w.out.sent = nil
			if r := w.record(j); r.State != job.StateParked || r.NextCallID != call || w.jobs.Len() != 0 {
				t.Errorf("after %s, the result is %s of %s; %d messages left", call, r.State, r.NextCallID, w.jobs.Len())
			}
		}
		w.deliver()
		w.arrive("call-4")
		w.run(10 * time.Minute)
		w.wantDelivered(delivery{"call-4", j.ID, "Done."})
		w.wantParked(0)
	})
}

// TestNotParkedYet begins the next call while the result is about to be parked.
func TestNotParkedYet(t *testing.T) {
	for name, takes := range map[string]time.Duration{"for a while": 20 * time.Second, "for the whole call": time.Hour} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, parks(), func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				w.send(j)
				w.run(time.Second)
				k := job.ParkedResult{JobID: j.ID, ToolCallID: "t1", Tool: "tool"}
				if _, err := w.customers.Park(t.Context(), j.Call, time.Now(), k); err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(takes, func() {
					if err := w.table.Settle(t.Context(), w.record(j), time.Now(), job.StateParked, ""); err != nil {
						t.Error(err)
					}
				})
				w.deliver()
				w.arrive("call-2")
				w.run(2 * time.Hour)
				call := "call-2"
				if takes == time.Hour {
					w.wantDelivered()
					call = "call-3"
					w.arrive(call)
					w.run(time.Hour)
				}
				w.wantDelivered(delivery{call, j.ID, "Done."})
				w.wantParked(0)
				w.wantLeft(0, 0)
			})
		})
	}
}

// TestArrivalFails makes each step fail for a while.
func TestArrivalFails(t *testing.T) {
	for _, step := range []string{"parked", "load", "unpark", "send outcome", "remove"} {
		for _, times := range []int{1, 12} { // fewer and more than the receives that look for parked results
			t.Run(fmt.Sprint(step, " ", times), func(t *testing.T) {
				inWorld(t, parks(), func(t *testing.T, w *world) {
					j := w.park("t1")
					w.deliver()
					w.failingTimes(step, times)
					w.arrive("call-2")
					w.run(50 * time.Minute)
					w.fault = nil
					call := "call-2"
					if step == "parked" && times > 1 {
						w.wantDelivered() // it was never unparked
						call = "call-3"
					} else {
						w.wantDelivered(delivery{call, j.ID, "Done."})
					}
					w.arrive("call-3")
					w.run(time.Hour)
					w.wantDelivered(delivery{call, j.ID, "Done."})
					w.wantParked(0)
					w.wantLeft(0, 0)
				})
			})
		}
	}
}

// TestArrivalRedriven makes the results queue fail for so long that the arrival moves to the
// dead-letter queue, after a result was unparked for its call.
func TestArrivalRedriven(t *testing.T) {
	for name, late := range map[string]bool{"in its call": false, "after its call": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, parks(), func(t *testing.T, w *world) {
				j := w.park("t1")
				w.deliver()
				w.failing("send outcome", errors.New("throttled"))
				w.arrive("call-2")
				w.run(30 * time.Minute)
				if w.dead.Len() != 1 || w.record(j).State != job.StateDone {
					t.Fatalf("%d messages in the dead-letter queue; the result is %s", w.dead.Len(), w.record(j).State)
				}
				w.fault = nil
				if late {
					time.Sleep(time.Hour)
				}
				w.sendBody(w.dead.Bodies()[0])
				w.run(10 * time.Minute)
				call := "call-2"
				if late { // then the next one gets it
					w.wantDelivered()
					call = "call-3"
					w.arrive(call)
					w.run(10 * time.Minute)
				}
				w.wantDelivered(delivery{call, j.ID, "Done."})
				w.wantParked(0)
			})
		})
	}
}

// TestUnparkedIsNotSentToItsOwnCall sends an older message of a job while its parked result is on
// the way to the next call.
func TestUnparkedIsNotSentToItsOwnCall(t *testing.T) {
	inWorld(t, parks(), func(t *testing.T, w *world) {
		j := w.park("t1")
		w.out.then = nil // the callback function is slow
		w.arrive("call-2")
		w.send(j)
		w.run(time.Second)
		w.send(j)
		w.run(time.Second)
		elsewhere := func(o job.Outcome) bool { return o.Call.ID != "call-2" }
		if len(w.out.sent) == 0 || slices.ContainsFunc(w.out.sent, elsewhere) {
			t.Errorf("sent: %+v", w.out.sent)
		}
	})
}
