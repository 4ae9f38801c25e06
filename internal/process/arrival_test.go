package process_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
)

// inCall is a job of another call of the same customer.
func (w *world) inCall(call, id string) job.Job {
	j := w.job(id, "tool")
	j.ID, j.Call.ID = job.ID(call, id), call
	j.ReceivedAt, j.CallEnds = time.Now(), time.Now().Add(time.Hour)
	return j
}

// arrive says that a call has begun.
func (w *world) arrive(call string) {
	w.t.Helper()
	j := w.inCall(call, "")
	body, err := job.Arrival{Call: j.Call, CallEnds: j.CallEnds}.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.sendBody(body)
}

// keep runs a job whose result is kept.
func (w *world) keep(id string) job.Job {
	w.t.Helper()
	then, die := w.out.then, w.die
	w.die = 0
	w.answer("call-1")
	j := w.job(id, "tool")
	w.send(j)
	w.run(time.Minute)
	if r := w.record(j); r.State != job.StateParked {
		w.t.Fatalf("the result is not kept: %+v", r)
	}
	w.out.then, w.die, w.steps = then, die, nil
	w.out.sent, w.out.at = nil, nil
	return j
}

func (w *world) kept() []string {
	w.t.Helper()
	kept, err := w.customers.Parked(w.t.Context(), job.Customer(w.job("", "tool").Call))
	if err != nil {
		w.t.Error(err)
	}
	var ids []string
	for _, k := range kept {
		ids = append(ids, k.JobID)
	}
	return ids
}

func nextCall() asynctool.Definition {
	return does(tool{AfterCall: asynctool.NextCall, Attempts: 2}, gives(asynctool.Text("Done."), nil))
}

// TestArrival tells what is kept in the customer's next call.
func TestArrival(t *testing.T) {
	inWorld(t, []asynctool.Definition{nextCall()}, func(t *testing.T, w *world) {
		w.keep("t1")
		w.keep("t2")
		w.answer()
		w.arrive("call-2")
		w.run(time.Minute)
		w.wantTold(telling{"call-2", "call-1/t1", "Done."}, telling{"call-2", "call-1/t2", "Done."})
		if len(w.out.sent) != 2 || w.jobs.Len() != 0 || len(w.kept()) != 0 {
			t.Fatalf("%d sent; kept: %v; %d messages left", len(w.out.sent), w.kept(), w.jobs.Len())
		}
		for _, o := range w.out.sent {
			if !o.Earlier || o.AfterCall != job.AfterCallNextCall || !o.Deadline.Equal(w.start.Add(2*time.Minute+time.Hour)) || o.Call.ID != "call-2" {
				t.Errorf("outcome %+v", o)
			}
		}
		// Neither that call nor another one tells it again.
		w.arrive("call-2")
		w.arrive("call-3")
		w.run(time.Minute)
		w.wantTold(telling{"call-2", "call-1/t1", "Done."}, telling{"call-2", "call-1/t2", "Done."})
	})
}

// TestArrivalOfNobody is of calls in which nothing is told.
func TestArrivalOfNobody(t *testing.T) {
	for name, change := range map[string]func(*job.Job){
		"another customer":     func(j *job.Job) { j.Call.CustomerNumber = "+4915100000002" },
		"another organisation": func(j *job.Job) { j.Call.OrgID = "org-2" },
		"no number":            func(j *job.Job) { j.Call.CustomerNumber = "" },
		"no control URL":       func(j *job.Job) { j.Call.ControlURL = "" },
		"the same call":        func(j *job.Job) { j.Call.ID = "call-1" },
		"a call that is over":  func(j *job.Job) { j.CallEnds = j.ReceivedAt.Add(-time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []asynctool.Definition{nextCall()}, func(t *testing.T, w *world) {
				kept := w.keep("t1")
				w.answer()
				j := w.inCall("call-2", "t2")
				change(&j)
				j.ID = job.ID(j.Call.ID, j.ToolCallID)
				body, err := job.Arrival{Call: j.Call, CallEnds: j.CallEnds}.Encode()
				if err != nil {
					t.Fatal(err)
				}
				w.sendBody(body)
				w.run(time.Hour)
				w.wantTold()
				if r := w.record(kept); r.State != job.StateParked || len(w.kept()) != 1 || w.jobs.Len() != 0 || w.dead.Len() != 0 {
					t.Errorf("the result is %s; kept: %v; %d messages left", r.State, w.kept(), w.jobs.Len())
				}
			})
		})
	}
}

// TestArrivalByToolCall has the next call be known only by its tool call.
func TestArrivalByToolCall(t *testing.T) {
	inWorld(t, []asynctool.Definition{nextCall()}, func(t *testing.T, w *world) {
		w.keep("t1")
		w.answer()
		w.send(w.inCall("call-2", "t1"))
		w.run(10 * time.Minute)
		w.wantTold(telling{"call-2", "call-1/t1", "Done."}, telling{"call-2", "call-2/t1", "Done."})
		if len(w.kept()) != 0 || w.jobs.Len() != 0 {
			t.Errorf("kept: %v; %d messages left", w.kept(), w.jobs.Len())
		}
	})
}

// TestArrivalInACallThatIsGone has the next call end as well, before it could be
// told in it. The one after that tells it.
func TestArrivalInACallThatIsGone(t *testing.T) {
	inWorld(t, []asynctool.Definition{nextCall()}, func(t *testing.T, w *world) {
		j := w.keep("t1")
		w.takes = 2 * time.Second // so that it is known at once that the call is gone
		for _, call := range []string{"call-2", "call-3"} {
			w.answer(call)
			w.arrive(call)
			time.AfterFunc(10*time.Second, func() { w.arrive(call) }) // once more
			w.run(10 * time.Minute)
			w.wantTold()
			if n := len(w.out.sent); n != 1 {
				t.Errorf("it was sent %d times", n)
			}
			w.out.sent = nil
			if r := w.record(j); r.State != job.StateParked || r.NextCallID != call || len(w.kept()) != 1 || w.jobs.Len() != 0 {
				t.Errorf("after %s, the result is %s of %s; kept: %v", call, r.State, r.NextCallID, w.kept())
			}
		}
		w.answer()
		w.arrive("call-4")
		w.run(10 * time.Minute)
		w.wantTold(telling{"call-4", j.ID, "Done."})
		if len(w.kept()) != 0 {
			t.Errorf("kept: %v", w.kept())
		}
	})
}

// TestNotKeptYet has the next call come while the result is about to be kept.
func TestNotKeptYet(t *testing.T) {
	for name, takes := range map[string]time.Duration{"for a while": 20 * time.Second, "for the whole call": time.Hour} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []asynctool.Definition{nextCall()}, func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				w.send(j)
				w.run(time.Second)
				k := job.ParkedResult{JobID: j.ID, ToolCallID: "t1", Tool: "tool"}
				if _, err := w.customers.Park(t.Context(), job.Customer(j.Call), time.Now(), k); err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(takes, func() {
					if err := w.table.Settle(t.Context(), w.record(j), time.Now(), job.StateParked, ""); err != nil {
						t.Error(err)
					}
				})
				w.answer()
				w.arrive("call-2")
				w.run(2 * time.Hour)
				if takes == time.Hour {
					w.wantTold()
					w.arrive("call-3")
					w.run(time.Hour)
					w.wantTold(telling{"call-3", j.ID, "Done."})
				} else {
					w.wantTold(telling{"call-2", j.ID, "Done."})
				}
				if w.jobs.Len() != 0 || w.dead.Len() != 0 || len(w.kept()) != 0 {
					t.Errorf("%d messages left; kept: %v", w.jobs.Len(), w.kept())
				}
			})
		})
	}
}

// TestArrivalFails has each step fail for a while.
func TestArrivalFails(t *testing.T) {
	for _, step := range []string{"Kept", "Load", "unpark", "Outcome", "Forget"} {
		for _, times := range []int{1, 12} { // within the time that it is looked for what is kept, and beyond
			t.Run(fmt.Sprint(step, " ", times), func(t *testing.T) {
				inWorld(t, []asynctool.Definition{nextCall()}, func(t *testing.T, w *world) {
					j := w.keep("t1")
					w.answer()
					w.failingTimes(step, times)
					w.arrive("call-2")
					w.run(50 * time.Minute)
					w.fault = nil
					if step == "Kept" && times > 1 {
						w.wantTold() // it was never taken up
						w.arrive("call-3")
						w.run(time.Hour)
						w.wantTold(telling{"call-3", j.ID, "Done."})
					} else {
						w.wantTold(telling{"call-2", j.ID, "Done."})
						w.arrive("call-3")
						w.run(time.Hour)
						w.wantTold(telling{"call-2", j.ID, "Done."})
					}
					if w.jobs.Len() != 0 || w.dead.Len() != 0 || len(w.kept()) != 0 {
						t.Errorf("%d messages left; kept: %v", w.jobs.Len(), w.kept())
					}
				})
			})
		}
	}
}

// TestArrivalRedriven has the results queue be down for so long that the arrival
// goes to the dead-letter queue, with a result that was taken up for its call.
func TestArrivalRedriven(t *testing.T) {
	for name, late := range map[string]bool{"in its call": false, "after its call": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []asynctool.Definition{nextCall()}, func(t *testing.T, w *world) {
				j := w.keep("t1")
				w.answer()
				w.failing("Outcome", errors.New("throttled"))
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
				want := []telling{{"call-2", j.ID, "Done."}}
				if late { // then it is left to the next one
					w.wantTold()
					want[0].Call = "call-3"
					w.arrive("call-3")
					w.run(10 * time.Minute)
				}
				w.wantTold(want...)
				if len(w.kept()) != 0 {
					t.Errorf("kept: %v", w.kept())
				}
			})
		})
	}
}

// TestRevivedIsNotToldInItsOwnCall has an older message of a job come while its
// kept result is on its way into the next call.
func TestRevivedIsNotToldInItsOwnCall(t *testing.T) {
	inWorld(t, []asynctool.Definition{nextCall()}, func(t *testing.T, w *world) {
		j := w.keep("t1")
		w.out.then = nil // the callback function is slow
		w.arrive("call-2")
		w.send(j)
		w.run(time.Second)
		w.send(j)
		w.run(time.Second)
		if len(w.out.sent) == 0 || slices.ContainsFunc(w.out.sent, func(o job.Outcome) bool { return o.Call.ID != "call-2" }) {
			t.Errorf("sent: %+v", w.out.sent)
		}
	})
}
