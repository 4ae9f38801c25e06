package callback_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi"
)

// kept are the jobs whose results are kept for the customer.
func (w *world) kept() []string {
	w.t.Helper()
	kept, err := w.customers.Parked(w.t.Context(), job.Customer(w.job("t1").Call))
	if err != nil {
		w.t.Fatal(err)
	}
	var ids []string
	for _, k := range kept {
		ids = append(ids, k.JobID)
	}
	return ids
}

// fill keeps so many other results for the customer.
func (w *world) fill(n int) {
	w.t.Helper()
	for i := range n {
		id := fmt.Sprint("other", i)
		if ok, err := w.customers.Customers.Park(w.t.Context(), job.Customer(w.job("t1").Call), w.now(), job.ParkedResult{JobID: "call-0/" + id, ToolCallID: id, Tool: "order_status"}); err != nil || !ok {
			w.t.Fatal(ok, err)
		}
	}
}

// TestNextCall keeps a result for the customer's next call.
func TestNextCall(t *testing.T) {
	down := errors.New("the table is down")
	tests := map[string]struct {
		prepare func(w *world, o *job.Outcome)
		between func(w *world) // after the first 20 seconds
		state   job.State
		why     job.Reason
		detail  string
		kept    bool
	}{
		"well":         {state: job.StateParked, kept: true},
		"the last one": {prepare: func(w *world, _ *job.Outcome) { w.fill(19) }, state: job.StateParked, kept: true},
		"too many":     {prepare: func(w *world, _ *job.Outcome) { w.fill(20) }, state: job.StateUndelivered, why: job.ReasonCallGone, detail: "too many"},
		"who was it?":  {prepare: func(_ *world, o *job.Outcome) { o.Call.CustomerNumber = "" }, state: job.StateUndelivered, why: job.ReasonCallGone, detail: "unknown"},
		"meant for this call": {prepare: func(_ *world, o *job.Outcome) {
			o.Result = job.Result{Status: job.StatusOK, Delivery: job.DeliveryControl, Control: []byte(`{"type":"end-call"}`)}
		}, state: job.StateUndelivered, why: job.ReasonCallGone},
		"kept at last":      {prepare: func(w *world, _ *job.Outcome) { w.customers.err = down }, between: func(w *world) { w.customers.err = nil }, state: job.StateParked, kept: true},
		"never kept":        {prepare: func(w *world, _ *job.Outcome) { w.customers.err = down }, state: job.StateUndelivered, why: job.ReasonCallGone, detail: "could not be parked"},
		"kept, answer lost": {prepare: func(w *world, _ *job.Outcome) { w.customers.lost = down }, between: func(w *world) { w.customers.lost = nil }, state: job.StateParked, kept: true},
		"marked at last":    {prepare: func(w *world, _ *job.Outcome) { w.table.settle = down }, between: func(w *world) { w.table.settle = nil }, state: job.StateParked, kept: true},
		"released late": {prepare: func(w *world, _ *job.Outcome) { w.customers.err, w.table.release = down, down },
			between: func(w *world) { w.customers.err, w.table.release = nil, nil }, state: job.StateParked, kept: true},
		"died before the mark": {prepare: func(w *world, _ *job.Outcome) {
			tries := 0
			w.table.settles = func(context.Context, int) error {
				if tries++; tries == 1 {
					panic("a bug")
				}
				return nil
			}
		}, state: job.StateParked, kept: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.calls.answer = always(gone)
				o := w.after(job.AfterCallNextCall)
				if tt.prepare != nil {
					tt.prepare(w, &o)
				}
				before := w.kept()
				w.send(o)
				w.run(20 * time.Second)
				if tt.between != nil {
					tt.between(w)
				}
				w.run(20 * time.Minute)
				w.send(o)
				w.run(time.Hour)
				w.want(w.calls.posts, tt.state, tt.why, 0)
				if tt.why != "" && !strings.Contains(w.announcer.announced[0].Detail, tt.detail) {
					t.Errorf("the detail is %q", w.announcer.announced[0].Detail)
				}
				want := before
				if tt.kept {
					want = append(want, o.JobID)
				}
				if diff := cmp.Diff(want, w.kept()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestKeptIsNotMarked has a result that is kept, and cannot be marked as such
// for as long as it is tried: it is told in one way at least.
func TestKeptIsNotMarked(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.calls.answer = always(gone)
		w.table.settle = errors.New("the table is down")
		w.send(w.after(job.AfterCallNextCall))
		w.run(59 * time.Minute)
		w.want(callback.MaxPosts, job.StateDone, job.ReasonUnreachable, 0)
	})
}

// revived takes up the kept result in a call.
func (w *world) revived(call string) job.Outcome {
	w.t.Helper()
	r, err := w.table.Table.Change(w.t.Context(), "call-1/t1", job.Unpark(w.now(), call, w.now().Add(time.Hour)))
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.job("t1").Call
	c.ID, c.ControlURL = call, controlURL+"/"+call
	return job.ParkedResult{JobID: "call-1/t1", ToolCallID: "t1", Tool: "order_status"}.Outcome(r, c)
}

// TestEarlier tells a kept result in the next call.
func TestEarlier(t *testing.T) {
	const note = "This is about an earlier call of the same customer. That call ended before the work was done. Tell the customer when it fits.\n"
	inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
		w.calls.answer = always(gone)
		first := w.after(job.AfterCallNextCall)
		w.send(first)
		w.run(time.Minute)
		w.want(1, job.StateParked, "", 0)

		// The next call ends too soon, too.
		w.send(w.revived("call-2"))
		w.run(time.Minute)
		w.want(2, job.StateParked, "", 0)
		if diff := cmp.Diff([]string{first.JobID}, w.kept()); diff != "" {
			t.Error(diff)
		}

		// A late copy from one of those calls does not get in the way.
		w.calls.answer = always(delivered)
		second := w.revived("call-3")
		w.send(first)
		w.run(time.Millisecond)
		w.want(2, job.StateDone, "", 0)
		w.send(second)
		w.run(time.Minute)
		w.want(3, job.StateDelivered, "", 0)
		if diff := cmp.Diff([]string{controlURL, controlURL + "/call-2", controlURL + "/call-3"}, w.calls.urls); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(vapi.ControlMessage(vapi.AddMessage{Content: note + "t1=" + content}), w.calls.told[2]); diff != "" {
			t.Error(diff)
		}
	})
}

// TestEarlierWithAnother has a kept result and one of the call in a batch.
func TestEarlierWithAnother(t *testing.T) {
	inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
		w.calls.answer = always(gone)
		w.send(w.after(job.AfterCallNextCall))
		w.run(time.Minute)
		w.calls.answer = always(delivered)
		earlier := w.revived("call-2")
		own := job.Job{ID: "call-2/t9", ToolCallID: "t9", Tool: "order_status", Call: earlier.Call}
		w.send(w.finished(own, job.Policy{}, respond))
		w.send(earlier)
		w.run(time.Minute)
		if w.calls.posts != 2 {
			t.Errorf("posts to %v", w.calls.urls)
		}
		w.wantStates(job.StateDelivered)
	})
}

// TestRedrivenEarlier has a failure that was told in the next call, and whose
// job is redriven long after: it is announced, as every such failure is.
func TestRedrivenEarlier(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.calls.answer = always(gone)
		j := w.job("t1")
		r, err := w.table.Table.ChangeClaimed(t.Context(), w.claimed(j, job.Policy{AfterCall: job.AfterCallNextCall}), job.Finish(w.now(), respond, true, "it failed"))
		if err != nil {
			t.Fatal(err)
		}
		w.send(j.Outcome(r))
		w.run(time.Minute)
		w.calls.answer = always(delivered)
		w.send(w.revived("call-2"))
		w.run(time.Minute)
		w.want(2, job.StateDelivered, "", 0)

		time.Sleep(2 * time.Hour)
		if r, err = w.table.Table.ChangeClaimed(t.Context(), w.record(j.ID), job.Redrive(w.now(), "m2")); err != nil {
			t.Fatal(err)
		}
		w.send(j.Outcome(r))
		w.run(time.Minute)
		w.want(2, job.StateUndelivered, job.ReasonDeadline, 0)
	})
}
