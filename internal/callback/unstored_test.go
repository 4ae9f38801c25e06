package callback_test

import (
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

// TestUnstored delivers an outcome that the process function sent although it could not store it.
func TestUnstored(t *testing.T) {
	minuteLater := func(w *world) time.Time { return w.now().Add(time.Minute) } // the lease is over
	for name, tt := range map[string]struct {
		meanwhile func(w *world, claimed job.Record) // what happens before the outcome arrives
		mend      time.Duration                      // when the table works; 0 means at once
		posted    []string
		state     job.State
		events    []job.Reason
	}{
		"nothing else happens": {posted: []string{"add t1=" + content}, state: job.StateDelivered},
		"its lease is over": {
			meanwhile: func(w *world, _ job.Record) { time.Sleep(time.Hour / 2) },
			posted:    []string{"add t1=" + content}, state: job.StateDelivered,
		},
		"a progress line was added": {
			meanwhile: func(w *world, r job.Record) { w.change(r.ID, job.AddProgress(w.now(), "half")) },
			posted:    []string{"add t1=" + content}, state: job.StateDelivered,
		},
		"it was stored after all": {
			meanwhile: func(w *world, r job.Record) {
				w.changeClaimed(r, job.Finish(w.now(), respond(content), false, ""))
			},
			posted: []string{"add t1=" + content}, state: job.StateDelivered,
		},
		"the table is down for a while": {
			mend: time.Minute, posted: []string{"add t1=" + content}, state: job.StateDelivered,
		},
		"the table is down for too long": {
			mend: 20 * time.Minute, state: job.StateRunning, events: []job.Reason{job.ReasonUnclaimed},
		},
		// The next attempt's result counts.
		"another attempt has the job": {
			meanwhile: func(w *world, r job.Record) { w.change(r.ID, job.Claim(minuteLater(w), "m2", time.Hour)) },
			state:     job.StateRunning,
		},
		"the same message has claimed it again": {
			meanwhile: func(w *world, r job.Record) { w.change(r.ID, job.Claim(minuteLater(w), "m1", time.Hour)) },
			state:     job.StateRunning,
		},
		// What was stored counts, and the function that was to send it has gone.
		"an operator has cancelled the job": {
			meanwhile: func(w *world, r job.Record) {
				w.change(r.ID, job.Cancel(w.now(), respond("cancelled"), "by an operator"))
			},
			posted: []string{"add t1=cancelled"}, state: job.StateDelivered,
		},
		"a later tool call has replaced the job": {
			meanwhile: func(w *world, r job.Record) { w.change(r.ID, job.Replace(w.now(), "asked again")) },
			state:     job.StateCancelled,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				j := w.job("t1")
				claimed := w.running(j, policy.AfterCallDrop)
				stored, err := job.Finish(w.now(), respond(content), true, "it failed").Apply(claimed)
				if err != nil {
					t.Fatal(err)
				}
				o := j.Outcome(stored)
				o.AfterCall = policy.AfterCallEvent
				o.Unstored = &job.Unstored{AttemptID: claimed.AttemptID(), Exhausted: true, Reason: "it failed"}
				if tt.meanwhile != nil {
					tt.meanwhile(w, claimed)
				}
				if tt.mend > 0 {
					w.fail(errDown, claim, storeResult, settle)
				}
				w.send(o)
				if tt.events == nil {
					w.send(o) // a copy
				}
				w.run(tt.mend)
				w.mend()
				w.run(time.Hour)
				w.wantPosted(tt.posted...)
				w.wantLeft(0, tt.events...)
				r := w.record(j.ID)
				if r.State != tt.state {
					t.Errorf("the record is %s, want %s", r.State, tt.state)
				}
				if tt.meanwhile == nil && tt.events == nil &&
					(!r.Exhausted || r.Reason != "it failed" || r.Policy.AfterCall != policy.AfterCallEvent) {
					t.Errorf("the record is %+v", r)
				}
			})
		})
	}
}

// TestUnstoredFails makes the write fail that stores the result. No result is delivered that is not
// stored.
func TestUnstoredFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		j := w.job("t1")
		o := w.finish(j, w.running(j, policy.AfterCallEvent), respond(content))
		o.JobID, o.ToolCallID = w.job("t2").ID, "t2"
		o.Unstored = &job.Unstored{AttemptID: w.running(w.job("t2"), policy.AfterCallEvent).AttemptID()}
		w.fail(errDown, storeResult)
		w.send(o)
		w.run(10 * time.Second)
		w.wantPosted()
		w.mend()
		w.run(time.Minute)
		w.wantPosted("add t2=" + content)
	})
}
