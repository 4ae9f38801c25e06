package jobtabletest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// asker is a job of [testReplacing].
type asker struct {
	job      job.Job
	key      string
	admitted bool
	again    bool   // it was admitted more than once
	runs     bool   // its tool was started, in its last execution
	refused  bool   // by a limit
	after    string // the one that it has ended
}

// testReplacing runs jobs of one call that replace each other, within limits. Their messages are
// received in any order and more than once, and their function dies at any step.
func testReplacing(t *testing.T, open func(*testing.T) jobtable.Stores) {
	rapid.Check(t, func(rt *rapid.T) {
		limits := job.CallLimits{
			Jobs: rapid.IntRange(0, 4).Draw(rt, "jobs"), Concurrent: rapid.IntRange(0, 2).Draw(rt, "concurrent"),
		}
		r := &replacing{T: rt, ctx: t.Context(), table: newTable(open(t)), limits: limits}
		r.admission = jobtable.NewAdmission(r.stores.Calls(), limits)
		for i := range 6 {
			j := toolCall(fmt.Sprint(i))
			j.ReceivedAt = start.Add(time.Duration(i) * time.Second)
			r.askers = append(r.askers, &asker{job: j, key: fmt.Sprint(i % 2)})
		}
		dies := rapid.SampledFrom([]bool{false, false, true})
		for range 40 {
			a := rapid.SampledFrom(r.askers).Draw(rt, "job")
			if rapid.Bool().Draw(rt, "receive") {
				r.receive(a, dies.Draw(rt, "before it admits"), dies.Draw(rt, "before it replaces"))
			} else {
				r.finish(a)
			}
			r.pass(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 60}).Draw(rt, "pass")) * time.Second)
		}
		// In the end, each message is received until its job has ended.
		for range len(r.askers) {
			for _, a := range r.askers {
				r.receive(a, false, false)
				r.finish(a)
				r.pass(lease)
			}
		}
		r.check()
	})
}

// replacing is the world of [testReplacing].
type replacing struct {
	*rapid.T
	table
	ctx       context.Context
	admission *jobtable.Admission
	limits    job.CallLimits
	askers    []*asker
}

// receive does what the process function does with the message of a job, up to the step at which it
// dies. A job that ends without a run ends like one whose limit is reached.
func (r *replacing) receive(a *asker, diesBeforeAdmission, diesBeforeReplacement bool) {
	now := r.now()
	claimed, err := r.Claim(r.ctx, job.NewRecord(a.job, toolPolicy, deadline, fmt.Sprint(now), now, lease))
	var busy *job.BusyError
	if errors.As(err, &busy) || errors.Is(err, job.ErrFinished) {
		return
	}
	r.must(err)
	if a.runs = false; diesBeforeAdmission {
		return
	}
	before := r.call()
	earlier, err := r.admission.Admit(r.ctx, a.job, now, lease, &jobtable.Question{
		Key: a.key,
		Unfinished: func(ctx context.Context, jobID string) (bool, error) {
			other, err := r.Load(ctx, jobID)
			return other.State.Active(), err
		},
	})
	var limit *job.LimitError
	switch {
	case errors.As(err, &limit):
		if a.admitted {
			// Only a job that waited for longer than slots are known can be refused later.
			r.Fatalf("job %s was admitted, and then refused: %v", a.job.ID, err)
		}
		if diff := cmp.Diff(before, r.call()); diff != "" {
			r.Fatalf("refusing job %s changed the call (-want +got):\n%s", a.job.ID, diff)
		}
		a.refused = true
		_, err := r.ChangeClaimed(r.ctx, claimed, job.Finish(now, result, false, "refused"))
		r.must(err)
		return
	case errors.Is(err, job.ErrSuperseded):
		_, err := r.Change(r.ctx, a.job.ID, job.Replace(now, "superseded"))
		r.must(err)
		return
	}
	r.must(err)
	a.again, a.admitted = a.admitted, true
	if diesBeforeReplacement {
		return
	}
	for _, id := range earlier {
		_, err := r.Change(r.ctx, id, job.Replace(now, "replaced by "+a.job.ID))
		if !errors.Is(err, job.ErrFinished) {
			r.must(err)
		}
		i := slices.IndexFunc(r.askers, func(other *asker) bool { return other.job.ID == id })
		a.after, r.askers[i].runs = id, false
	}
	a.runs = true
	r.limited()
}

// finish ends a job whose tool runs, if its lease is not over.
func (r *replacing) finish(a *asker) {
	stored, err := r.Load(r.ctx, a.job.ID)
	if !a.runs || err != nil || stored.State != job.StateRunning || !r.now().Before(stored.LeaseExpiry) {
		return
	}
	a.runs = false
	_, err = r.Change(r.ctx, a.job.ID, job.Finish(r.now(), result, false, ""))
	r.must(err)
	r.must(r.admission.Leave(r.ctx, a.job, r.now()))
}

// limited checks the limits of the call. A job that is run again is not refused, so it may run beside
// one that has got its slot since.
func (r *replacing) limited() {
	admitted, running := 0, 0
	for _, a := range r.askers {
		if a.admitted {
			admitted++
		}
		if stored, err := r.Load(r.ctx, a.job.ID); a.runs && !a.again && err == nil && r.now().Before(stored.LeaseExpiry) {
			running++
		}
	}
	if r.limits == (job.CallLimits{}) {
		return
	}
	if c := r.call(); c.Started != admitted || r.limits.Jobs > 0 && admitted > r.limits.Jobs {
		r.Fatalf("%d jobs were admitted, and the call's record has %+v; the limit is %d", admitted, c, r.limits.Jobs)
	}
	if r.limits.Concurrent > 0 && running > r.limits.Concurrent {
		r.Fatalf("%d jobs run at the same time; the limit is %d", running, r.limits.Concurrent)
	}
}

// check checks how the jobs ended. Each question that a job was admitted for has a result of its tool.
func (r *replacing) check() {
	for _, key := range []string{"0", "1"} {
		admitted, done := false, false
		for _, a := range r.askers {
			if a.key != key {
				continue
			}
			stored, err := r.Load(r.ctx, a.job.ID)
			r.must(err)
			if stored.State.Active() {
				r.Fatalf("job %s never ended: %+v", a.job.ID, stored)
			}
			admitted = admitted || a.admitted
			done = done || stored.State == job.StateDone && !a.refused
			if a.refused && a.after != "" {
				r.Fatalf("job %s was refused, and has ended %s", a.job.ID, a.after)
			}
		}
		if admitted && !done {
			r.Fatalf("no job has done what question %s asks", key)
		}
	}
}

func (r *replacing) call() job.CallRecord {
	c, err := r.stores.Calls().Load(r.ctx, "call")
	if !errors.Is(err, jobtable.ErrNotFound) {
		r.must(err)
	}
	return c
}

func (r *replacing) must(err error) {
	if err != nil {
		r.Fatalf("%v", err)
	}
}
