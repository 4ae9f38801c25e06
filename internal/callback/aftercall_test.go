package callback_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

var policies = []policy.AfterCall{
	policy.AfterCallEvent, policy.AfterCallDrop, policy.AfterCallOutboundCall, policy.AfterCallNextCall,
}

// parked returns the jobs whose results are parked for the customer.
func (w *world) parked() []string {
	w.t.Helper()
	parked, err := w.customers.Parked(w.t.Context(), w.job("t1").Call)
	if err != nil {
		w.t.Fatal(err)
	}
	var ids []string
	for _, p := range parked {
		ids = append(ids, p.JobID)
	}
	return ids
}

// TestAfterCall combines every policy with every reason why a result cannot be delivered.
func TestAfterCall(t *testing.T) {
	whys := map[job.Reason]func(w *world, o *job.Outcome){
		job.ReasonCallGone:     func(w *world, _ *job.Outcome) { w.answer = answers(gone) },
		job.ReasonNoControlURL: func(_ *world, o *job.Outcome) { o.Call.ControlURL = "" },
		job.ReasonDeadline:     func(w *world, o *job.Outcome) { o.Deadline = w.now().Add(-time.Second) },
		job.ReasonMisconfigured: func(w *world, _ *job.Outcome) {
			w.answer = answers(vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Status: 401})
		},
		job.ReasonRefused:     func(w *world, _ *job.Outcome) { w.answer = answers(refused) },
		job.ReasonUnreachable: func(w *world, _ *job.Outcome) { w.answer = answers(failing) },
		job.ReasonUnspeakable: func(_ *world, o *job.Outcome) {
			o.Result = job.Result{Status: job.StatusOK, Delivery: policy.DeliverySay, Content: "\u200b"}
		},
	}
	for why, prepare := range whys {
		for _, after := range policies {
			test := func(t *testing.T, architecture vapi.Architecture) {
				inWorld(t, func(t *testing.T, w *world) {
					o := w.outcome(after)
					o.Call.Architecture = architecture
					w.answer = answers(gone)
					prepare(w, &o)
					w.send(o)
					w.run(time.Hour - time.Minute)
					var wantParked []string
					switch {
					// An operator must see these reasons.
					case after == policy.AfterCallDrop &&
						why != job.ReasonMisconfigured && why != job.ReasonRefused && why != job.ReasonUnspeakable:
						w.wantCalls(0, job.StateUndelivered, "")
						if r := w.record(o.JobID).Reason; !strings.HasPrefix(r, "dropped: "+string(why)) {
							t.Errorf("the reason is %q", r)
						}
					case after == policy.AfterCallOutboundCall && why == job.ReasonCallGone:
						w.wantCalls(1, job.StateDelivered, "")
					case after == policy.AfterCallNextCall && why == job.ReasonCallGone:
						w.wantCalls(0, job.StateParked, "")
						wantParked = []string{o.JobID}
					default:
						w.wantCalls(0, job.StateUndelivered, why)
					}
					if diff := cmp.Diff(wantParked, w.parked()); diff != "" {
						t.Errorf("parked (-want +got):\n%s", diff)
					}
				})
			}
			for _, a := range []vapi.Architecture{vapi.ArchitectureClassic, vapi.ArchitectureGPTLive} {
				t.Run(fmt.Sprintf("%s, %s, %s", why, after, a), func(t *testing.T) { test(t, a) })
			}
		}
	}
}

// TestDeliveredInTime tests calls that accept the result. Then no policy matters.
func TestDeliveredInTime(t *testing.T) {
	for _, after := range policies {
		inWorld(t, func(t *testing.T, w *world) {
			w.send(w.outcome(after))
			w.run(time.Minute)
			w.wantCalls(0, job.StateDelivered, "")
		})
	}
}

// TestLateAfterCall has results of tools without a deadline of their own, in calls that can last long. An
// hour after the end of the call, no policy is followed any more.
func TestLateAfterCall(t *testing.T) {
	never := time.Duration(0)
	tests := map[string]struct {
		own      bool          // the tool has a deadline of its own
		ended    time.Duration // when the end of the call is recorded
		at       time.Duration // when the result is ready
		lost     bool          // the end of the call cannot be looked up
		followed bool
	}{
		"soon after the call":          {ended: 10 * time.Minute, at: 70 * time.Minute, followed: true},
		"long after the call":          {ended: 10 * time.Minute, at: 71 * time.Minute},
		"a long call":                  {ended: 5 * time.Hour, at: 5*time.Hour + time.Minute, followed: true},
		"an end that is not known":     {ended: never, at: 59 * time.Minute, followed: true},
		"long after one not known":     {ended: never, at: 61 * time.Minute},
		"it cannot be looked up":       {ended: 5 * time.Hour, at: 5*time.Hour + time.Minute, lost: true},
		"the tool's own deadline":      {own: true, ended: 10 * time.Minute, at: 9 * time.Hour, followed: true},
		"its deadline, end is unknown": {own: true, ended: never, at: 9 * time.Hour, followed: true},
	}
	for name, tt := range tests {
		for _, after := range policies {
			t.Run(fmt.Sprintf("%s, %s", name, after), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					w.wantLive(true)
					w.answer = answers(gone)
					j := w.job("t1")
					p := job.Policy{AfterCall: after, CallBound: !tt.own}
					running, err := w.table.Claim(t.Context(),
						job.NewRecord(j, p, w.start.Add(12*time.Hour), "m1", w.now(), time.Minute))
					if err != nil {
						t.Fatal(err)
					}
					if tt.ended != never {
						time.Sleep(tt.ended)
						if err := w.tracker.End(t.Context(), "call-1", w.now()); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(tt.at - tt.ended)
					if tt.lost {
						w.fail(errDown, lookEnd)
					}
					w.send(w.finish(j, running, respond(content)))
					w.run(10 * time.Second)
					switch {
					case after == policy.AfterCallDrop:
						w.wantCalls(0, job.StateUndelivered, "")
					case after == policy.AfterCallEvent:
						w.wantCalls(0, job.StateUndelivered, job.ReasonCallGone)
					case !tt.followed:
						w.wantCalls(0, job.StateUndelivered, job.ReasonDeadline)
					case after == policy.AfterCallOutboundCall:
						w.wantCalls(1, job.StateDelivered, "")
					default:
						w.wantCalls(0, job.StateParked, "")
					}
				})
			})
		}
	}
}

// TestEndIsRecorded checks that a call that is gone is recorded as ended, for the tools that stop with it.
func TestEndIsRecorded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.wantLive(true)
		w.answer = answers(gone)
		w.send(w.outcome(policy.AfterCallEvent))
		w.run(time.Second)
		w.wantLive(false)
	})
}

// TestNextCall parks a result for the customer's next call.
func TestNextCall(t *testing.T) {
	fails := func(steps ...string) func(*world, *job.Outcome) {
		return func(w *world, _ *job.Outcome) { w.fail(errDown, steps...) }
	}
	// full parks n other results for the customer.
	full := func(n int) func(*world, *job.Outcome) {
		return func(w *world, o *job.Outcome) {
			for i := range n {
				id := fmt.Sprint("other", i)
				p := job.ParkedResult{JobID: job.EarlierID("call-0", id), ToolCallID: id, Tool: "order_status"}
				if ok, err := w.customers.Park(w.t.Context(), o.Call, w.now(), p); err != nil || !ok {
					w.t.Fatal(ok, err)
				}
			}
		}
	}
	tests := map[string]struct {
		prepare func(w *world, o *job.Outcome)
		mended  bool // after 20 seconds
		detail  string
		event   bool // it is not parked
	}{
		"parked":       {},
		"the last one": {prepare: full(19)},
		"too many":     {prepare: full(20), event: true, detail: "too many"},
		"who was it?": {prepare: func(_ *world, o *job.Outcome) { o.Call.CustomerNumber = "" },
			event: true, detail: "unknown"},
		"a withheld number": {prepare: func(_ *world, o *job.Outcome) { o.Call.CustomerNumber = "+266696687" },
			event: true, detail: "withheld"},
		"park at last":        {prepare: fails(park), mended: true},
		"never parked":        {prepare: fails(park), event: true, detail: "could not be parked"},
		"mark at last":        {prepare: fails(settle), mended: true},
		"released late":       {prepare: fails(park, release), mended: true},
		"parked, answer lost": {prepare: func(w *world, _ *job.Outcome) { w.lost[park] = errDown }, mended: true},
		"meant for this call": {prepare: func(_ *world, o *job.Outcome) { o.Result = endsCall }, event: true},
		"died before the mark": {prepare: func(w *world, _ *job.Outcome) {
			tries := 0
			w.before[settle] = func(context.Context, string) error {
				if tries++; tries == 1 {
					panic("a bug")
				}
				return nil
			}
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer = answers(gone)
				o := w.outcome(policy.AfterCallNextCall)
				if tt.prepare != nil {
					tt.prepare(w, &o)
				}
				want := w.parked()
				w.send(o)
				w.run(20 * time.Second)
				if tt.mended {
					w.mend()
				}
				w.run(20 * time.Minute)
				w.send(o)
				w.run(time.Hour)
				if tt.event {
					w.want(-1, job.StateUndelivered, job.ReasonCallGone, 0)
					if d := w.events[0].Detail; !strings.Contains(d, tt.detail) {
						t.Errorf("the detail is %q", d)
					}
				} else {
					w.want(-1, job.StateParked, "", 0)
					want = append(want, o.JobID)
				}
				if diff := cmp.Diff(want, w.parked()); diff != "" {
					t.Errorf("parked (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// unpark returns the outcome of the parked result in another call.
func (w *world) unpark(call string) job.Outcome {
	w.t.Helper()
	r := w.change("call-1/t1", job.Unpark(w.now(), call, w.now().Add(time.Hour)))
	c := w.job("t1").Call
	c.ID, c.ControlURL = call, controlURL+"/"+call
	return job.ParkedResult{JobID: r.ID, ToolCallID: "t1", Tool: "order_status"}.Outcome(r, c)
}

// TestForgotten sends the outcome of a parked result whose customer was deleted, and a copy of it from before.
// There is one event, and it has neither the result nor the number.
func TestForgotten(t *testing.T) {
	for name, early := range map[string]bool{"the outcome first": false, "a copy from before first": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer = answers(gone)
				first := w.outcome(policy.AfterCallNextCall)
				w.send(first)
				w.run(time.Minute)
				w.want(1, job.StateParked, "", 0)
				r := w.change(first.JobID, job.ForgetCustomer(w.now()))
				later := r.Job().Outcome(r)
				if early {
					first, later = later, first
				}
				w.send(later)
				w.run(time.Minute)
				w.send(first)
				w.run(time.Minute)
				w.want(1, job.StateUndelivered, job.ReasonForgotten, 0)
				u := w.events[0]
				if len(w.events) != 1 || u.CustomerNumber != "" || u.JobID != first.JobID || u.CallID != "call-1" ||
					!strings.Contains(u.Content, "was deleted") {
					t.Errorf("the events are %+v", w.events)
				}
				if text, err := json.Marshal(w.events); err != nil || bytes.Contains(text, []byte(content)) {
					t.Errorf("the event has the result: %s, %v", text, err)
				}
			})
		})
	}
}

// TestEarlier delivers a parked result in the next call.
func TestEarlier(t *testing.T) {
	const note = "This is about an earlier call of the same customer. That call ended before the work was done. " +
		"Tell the customer when it fits.\n"
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = answers(gone)
		first := w.outcome(policy.AfterCallNextCall)
		w.send(first)
		w.run(time.Minute)
		w.want(1, job.StateParked, "", 0)

		// The next call ends too soon, too.
		w.send(w.unpark("call-2"))
		w.run(time.Minute)
		w.want(2, job.StateParked, "", 0)
		if diff := cmp.Diff([]string{first.JobID}, w.parked()); diff != "" {
			t.Error(diff)
		}

		// A late copy from one of those calls does not get in the way.
		w.answer = answers(delivered)
		second := w.unpark("call-3")
		w.send(first)
		w.run(time.Millisecond)
		w.want(2, job.StateDone, "", 0)
		w.send(second)
		w.run(time.Minute)
		w.want(3, job.StateDelivered, "", 0)
		if diff := cmp.Diff([]string{controlURL, controlURL + "/call-2", controlURL + "/call-3"}, w.urls); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(vapi.ControlMessage(vapi.AddMessage{Content: note + "t1=" + content}), w.posts[2]); diff != "" {
			t.Error(diff)
		}
	})
}

// TestEarlierWithAnother tests a batch with a parked result and a result of the call itself.
func TestEarlierWithAnother(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = answers(gone, delivered)
		w.send(w.outcome(policy.AfterCallNextCall))
		w.run(time.Minute)
		earlier := w.unpark("call-2")
		w.send(w.finished(w.jobIn("call-2", "t9"), respond(content)))
		w.send(earlier)
		w.run(time.Minute)
		if len(w.posts) != 2 {
			t.Errorf("posts to %v", w.urls)
		}
		w.wantStates(job.StateDelivered)
	})
}

// TestRedrivenEarlier redrives a job long after its failure was delivered in the next call. An
// event is sent, as for every such failure.
func TestRedrivenEarlier(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answer = answers(gone, delivered)
		j := w.job("t1")
		running := w.running(j, policy.AfterCallNextCall)
		w.send(j.Outcome(w.changeClaimed(running, job.Finish(w.now(), respond(content), true, "it failed"))))
		w.run(time.Minute)
		w.send(w.unpark("call-2"))
		w.run(time.Minute)
		w.want(2, job.StateDelivered, "", 0)

		time.Sleep(2 * time.Hour)
		w.send(j.Outcome(w.changeClaimed(w.record(j.ID), job.Redrive(w.now(), "m2"))))
		w.run(time.Minute)
		w.want(2, job.StateUndelivered, job.ReasonDeadline, 0)
	})
}
