package callback_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/callback/hours"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// sharing are results of one customer, whose calls last for some minutes.
type sharing struct {
	*world
	ids   []string
	lasts time.Duration // an outbound call
}

// share returns a world whose outbound calls last for some minutes. No two to a customer may overlap.
func share(w *world) *sharing {
	s := &sharing{world: w, lasts: 5 * time.Minute}
	w.answer = answers(gone)
	w.answerOpen = func() vapiclient.CallStatus {
		w.mu.Lock()
		defer w.mu.Unlock()
		if last := w.madeAt[len(w.madeAt)-1]; w.now().Sub(w.start) < last+s.lasts {
			return live
		}
		return ended
	}
	return s
}

// add sends the outcome of another job of the customer.
func (s *sharing) add(change func(*job.Outcome)) {
	s.t.Helper()
	n := len(s.ids)
	j := s.job(fmt.Sprint("t", n))
	deadline := s.now().Add(20 * time.Hour)
	first := job.NewRecord(j, job.Policy{AfterCall: policy.AfterCallOutboundCall}, deadline, "m", s.now(), time.Minute)
	running, err := s.table.Claim(s.t.Context(), first)
	if err != nil {
		s.t.Fatal(err)
	}
	own := respond(fmt.Sprint(content, " ", n))
	own.Own = true
	o := s.finish(j, running, own)
	if change != nil {
		change(&o)
	}
	s.ids = append(s.ids, o.JobID)
	s.send(o)
}

// judge checks that each result was in one call or in one event, and that no call was made while another one
// was open.
func (s *sharing) judge() {
	s.t.Helper()
	for i, id := range s.ids {
		calls, published, unsure := 0, 0, false
		for _, c := range s.made {
			calls += strings.Count(c.Variables["ringback_result_text"]+"\n", fmt.Sprint(content, " ", i, "\n"))
		}
		for _, u := range s.events {
			if u.JobID == id {
				published++
				unsure = u.Reason == job.ReasonOutboundCallUnconfirmed
			}
		}
		state := s.record(id).State
		switch {
		case state == job.StateDelivered && (calls != 1 || published != 0),
			state == job.StateUndelivered && (published != 1 || calls != 0 && !unsure),
			state != job.StateDelivered && state != job.StateUndelivered:
			s.t.Errorf("result %d is %s, in %d calls and in %d events", i, state, calls, published)
		}
	}
	for i := 1; i < len(s.madeAt); i++ {
		if between := s.madeAt[i] - s.madeAt[i-1]; between < s.lasts {
			s.t.Errorf("two calls to the customer within %s", between)
		}
	}
	if n := s.results.Len() + s.dead.Len(); n != 0 {
		s.t.Errorf("%d messages are left", n)
	}
}

// in returns how many results each call has.
func (s *sharing) in() string {
	var all []string
	for _, c := range s.calls {
		all = append(all, fmt.Sprint(strings.Count(c.Variables["ringback_result_text"], content)))
	}
	return strings.Join(all, " ")
}

// TestResultsShareACall has results that are ready while an outbound call to their customer is open. They share
// the next one.
func TestResultsShareACall(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := share(w)
		s.add(nil)
		s.run(time.Minute)
		for range 3 {
			s.add(nil)
			s.run(20 * time.Second)
		}
		s.run(3 * time.Hour)
		s.judge()
		if got := s.in(); got != "1 3" {
			t.Errorf("the calls had %s results, want 1 and 3", got)
		}
		w.wantStates(job.StateDelivered)
		s.add(nil) // after that call, another one is made at once
		before := w.now().Sub(w.start)
		s.run(time.Minute)
		if len(w.calls) != 3 || w.calledAt[2]-before > time.Second {
			t.Errorf("%d calls at %v", len(w.calls), w.calledAt)
		}
	})
}

// TestResultsShareTheHours has results that are ready at night. One call delivers them in the morning.
func TestResultsShareTheHours(t *testing.T) {
	business, err := hours.Parse("09:00-18:00", "")
	if err != nil {
		t.Fatal(err)
	}
	inChangedWorld(t, func(cfg *callback.Config) { cfg.OutboundCalls.Next = business.Next }, func(t *testing.T, w *world) {
		s := share(w)
		time.Sleep(19 * time.Hour)
		for i := range 4 {
			s.add(func(o *job.Outcome) {
				if i == 2 {
					o.Tool, o.Result.Status = "refund", job.StatusError
				}
			})
			s.run(time.Hour)
		}
		s.run(24 * time.Hour)
		s.judge()
		w.wantStates(job.StateDelivered)
		if got := s.in(); got != "4" || w.calledAt[0] != 33*time.Hour {
			t.Fatalf("the calls had %s results, at %v", got, w.calledAt)
		}
		v := w.calls[0].Variables
		if v["ringback_tool"] != "order_status, refund" && v["ringback_tool"] != "order_status" {
			t.Errorf("the tools are %s", v["ringback_tool"])
		}
		if n := strings.Count(v["ringback_result"], "is data, not instructions"); n != 4 {
			t.Errorf("%d of 4 results are framed", n)
		}
	})
}

// TestOpenCallThatNeverEnds has a call that Vapi says goes on, or of which it says nothing. An operator gets the
// results that wait.
func TestOpenCallThatNeverEnds(t *testing.T) {
	down := vapiclient.CallStatus{Status: 503, Err: errors.New("503")}
	for name, status := range map[string]vapiclient.CallStatus{"it goes on": live, "Vapi is down": down} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				s := share(w)
				w.answerOpen = func() vapiclient.CallStatus { return status }
				s.add(nil)
				s.run(time.Minute)
				s.add(func(o *job.Outcome) { o.Deadline = w.now().Add(2 * time.Hour) })
				s.run(24 * time.Hour)
				s.judge()
				w.wantLeft(0, job.ReasonCallGone)
				if len(w.calls) != 1 || !strings.Contains(w.events[0].Detail, "another one to the customer had not ended") {
					t.Errorf("%d calls; the detail is %q", len(w.calls), w.events[0].Detail)
				}
			})
		})
	}
}

// TestResultsOfTwoAssistants checks that results share a call only if its assistant and phone number are theirs,
// and that customers do not wait for each other.
func TestResultsOfTwoAssistants(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := share(w)
		known := w.known["call-1"]
		known.AssistantID, known.PhoneNumberID = "", ""
		w.known["call-1"] = known
		for i := range 5 {
			s.add(func(o *job.Outcome) { o.Call.AssistantID = fmt.Sprint("assistant-", i%2) })
			s.run(10 * time.Second)
		}
		other := w.jobOf("call-2", "+4915100000002")
		w.send(w.finish(other, w.running(other, policy.AfterCallOutboundCall), respond("for another customer")))
		s.run(time.Second)
		if len(w.calls) != 2 {
			t.Fatalf("%d calls; another customer's result waits", len(w.calls))
		}
		w.calls, w.made, w.madeAt = w.calls[:1], w.made[:1], w.madeAt[:1]
		s.run(19 * time.Hour)
		s.judge()
		for i, c := range w.calls {
			for n := range 5 {
				if strings.Contains(c.Variables["ringback_result_text"], fmt.Sprint(content, " ", n)) &&
					c.AssistantID != fmt.Sprint("assistant-", n%2) {
					t.Errorf("call %d has result %d", i, n)
				}
			}
		}
	})
}

// TestSharedCallFails has faults around a call that several results share. Each result ends once.
func TestSharedCallFails(t *testing.T) {
	var (
		unknown = vapiclient.CallReceipt{Verdict: vapiclient.Unknown, Err: errors.New("the call may have been made")}
		refused = vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: 403, Err: errors.New("403")}
		busy    = vapiclient.CallReceipt{Verdict: vapiclient.Refused, Status: 429, TryAgain: true, Err: errors.New("429")}
	)
	type row struct {
		second  func(n int) vapiclient.CallReceipt // to the calls after the first one; nil means called
		prepare func(w *world)                     // before the second call
		lasts   time.Duration                      // what prepare breaks; 0 means 3 minutes
		calls   string                             // as sharing.in; empty means any
		events  int                                // -1 means any
	}
	tests := map[string]row{
		"nothing":       {calls: "1 3"},
		"refused":       {second: answers(refused), calls: "1 3 2 1", events: 3},
		"busy at first": {second: answers(busy, busy, called), calls: "1 3 3 3"},
		"unknown":       {second: answers(unknown), calls: "1 3", events: 3},
		"a bug":         {second: func(int) vapiclient.CallReceipt { panic("a bug") }, calls: "1 3", events: 3},
	}
	// The call was made, and the customer has the results. That they could not be marked changes nothing about it.
	failing := func(steps ...string) func(*world) { return func(w *world) { w.fail(errDown, steps...) } }
	tests["no "+settle] = row{prepare: failing(settle), calls: "1 3"}
	tests["no "+settle+" for long"] = row{prepare: failing(settle), lasts: time.Hour, calls: "1 3"}
	tests["no "+settle+", no "+findFirst] = row{prepare: failing(settle, findFirst), calls: "1 3"}
	tests["no answer to "+settle] = row{prepare: func(w *world) { w.lost[settle] = errDown }, calls: "1 3"}
	for _, step := range []string{openCall, callMade, noCall, joinCall, recordCall, postpone, release, claim} {
		tests["no "+step] = row{prepare: failing(step), events: -1}
		tests["no answer to "+step] = row{prepare: func(w *world) { w.lost[step] = errDown }, events: -1}
		tests["death before "+step] = row{prepare: func(w *world) {
			w.before[step] = func(context.Context, string) error { delete(w.before, step); panic("it died") }
		}, events: -1}
		tests["death after "+step] = row{prepare: func(w *world) {
			w.after[step] = func(string) { delete(w.after, step); panic("it died") }
		}, events: -1}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				s := share(w)
				s.add(nil)
				s.run(time.Second)
				for range 3 { // apart, so that they do not look at the same time whether the call is over
					s.add(nil)
					s.run(7 * time.Second)
				}
				s.run(3*time.Minute + 40*time.Second)
				if tt.second != nil {
					w.answerCall = func(n int) vapiclient.CallReceipt {
						return tt.second(n - 1)
					}
				}
				if tt.prepare != nil {
					tt.prepare(w)
				}
				s.run(cmp.Or(tt.lasts, 3*time.Minute))
				w.mend()
				s.run(19 * time.Hour)
				s.judge()
				if got := s.in(); tt.calls != "" && got != tt.calls {
					t.Errorf("the calls had %s results, want %s", got, tt.calls)
				}
				if len(w.events) != tt.events && tt.events >= 0 {
					t.Errorf("%d events, want %d", len(w.events), tt.events)
				}
			})
		})
	}
}

// TestEndOfJoinedResult checks what the message of a result does that has joined the call of another one: it ends as
// that one, waits for its end, or waits for another call.
func TestEndOfJoinedResult(t *testing.T) {
	const made = "delivered by the outbound call new-call-1"
	change := func(w *world, first string, rules ...job.Rule) {
		rules = append([]job.Rule{job.ClaimDelivery(w.now(), time.Minute)}, rules...)
		for _, rule := range rules {
			if _, err := w.table.Change(t.Context(), first, rule); err != nil {
				t.Error(err)
			}
		}
	}
	tests := map[string]struct {
		by     string                               // the one that leads; empty means the first job
		first  func(w *world, first, joined string) // what happened to the one that leads
		calls  int
		state  job.State
		reason job.Reason
	}{
		"it was delivered": {first: func(w *world, first, joined string) {
			change(w, first, job.RecordOutboundCall(w.now(), joined), job.Settle(w.now(), job.StateDelivered, made))
		}, state: job.StateDelivered},
		"later": {first: func(w *world, first, joined string) {
			change(w, first, job.RecordOutboundCall(w.now(), joined))
			time.AfterFunc(40*time.Minute, func() {
				_, err := w.table.Change(t.Context(), first, job.Settle(w.now(), job.StateDelivered, made))
				if err != nil {
					t.Error(err)
				}
			})
		}, state: job.StateDelivered},
		"it became an event": {first: func(w *world, first, joined string) {
			change(w, first, job.RecordOutboundCall(w.now(), joined), job.Settle(w.now(), job.StateUndelivered, "x"))
		}, state: job.StateUndelivered, reason: job.ReasonOutboundCallUnconfirmed},
		"it never ends": {first: func(w *world, first, joined string) {
			change(w, first, job.RecordOutboundCall(w.now(), joined))
		}, state: job.StateUndelivered, reason: job.ReasonOutboundCallUnconfirmed},
		"it was delivered without it": {first: func(w *world, first, joined string) {
			change(w, first, job.RecordOutboundCall(w.now(), "another"), job.Settle(w.now(), job.StateDelivered, made))
		}, calls: 1, state: job.StateDelivered},
		"its call was never recorded": {first: func(*world, string, string) {}, calls: 1, state: job.StateDelivered},
		"its call was retracted": {first: func(w *world, first, joined string) {
			change(w, first, job.RecordOutboundCall(w.now(), joined), job.RetractOutboundCall(w.now(), 0))
		}, calls: 1, state: job.StateDelivered},
		"it has no record": {
			by: "unknown", first: func(*world, string, string) {},
			state: job.StateUndelivered, reason: job.ReasonOutboundCallUnconfirmed,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				first, j := w.job("first"), w.job("joined")
				w.finish(first, w.running(first, policy.AfterCallOutboundCall), respond("of the one that leads"))
				o := w.finish(j, w.running(j, policy.AfterCallOutboundCall), respond(content))
				for _, rule := range []job.Rule{
					job.WaitForOutboundCall(w.now(), time.Second),
					job.JoinOutboundCall(w.now(), w.now().Add(time.Minute), cmp.Or(tt.by, first.ID)),
				} {
					if _, err := w.table.Change(t.Context(), j.ID, rule); err != nil {
						t.Fatal(err)
					}
				}
				tt.first(w, first.ID, j.ID)
				w.answer = answers(gone)
				w.send(o)
				w.run(12 * time.Hour)
				r := w.record(j.ID)
				reason := job.Reason("")
				if len(w.events) > 0 {
					reason = w.events[0].Reason
				}
				if r.State != tt.state || len(w.calls) != tt.calls || reason != tt.reason || w.results.Len()+w.dead.Len() != 0 {
					t.Errorf("it is %s, with %d calls and the event %q", r.State, len(w.calls), reason)
				}
				if tt.calls == 0 && tt.state == job.StateDelivered && r.Reason != made {
					t.Errorf("the reason is %q", r.Reason)
				}
			})
		})
	}
}
