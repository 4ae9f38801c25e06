package jobtabletest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// claimRenewable claims the table's job with a lease that can be renewed.
func (t table) claimRenewable(ctx context.Context, owner string) (job.Record, error) {
	first := job.NewRecord(t.job, toolPolicy, deadline, owner, t.now(), lease)
	first.Renewable = true
	return t.Claim(ctx, first)
}

// testRenewals tests who may claim a job whose lease was renewed, and who may renew it.
func testRenewals(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	busy := func(what string, until time.Time) {
		t.Helper()
		var busy *job.BusyError
		if _, err := table.claimRenewable(ctx, "other"); !errors.As(err, &busy) || !busy.Until.Equal(until) {
			t.Errorf("%s: claim: %v, want busy until %s", what, err, until)
		}
	}
	renew := func(claimed job.Record) (time.Time, error) { return table.Renew(ctx, claimed, table.now(), lease) }
	first := must(t)(table.claimRenewable(ctx, "m"))
	if !first.Renewable {
		t.Error("the record does not say that its lease is renewable")
	}
	busy("not renewed yet", first.LeaseExpiry)
	until := first.LeaseExpiry
	for range 3 { // far beyond the first lease
		table.pass(until.Sub(table.now()) - 1)
		var err error
		until, err = renew(first)
		if want := table.now().Add(lease); err != nil || !until.Equal(want) {
			t.Fatalf("renew: %s, %v; want %s", until, err, want)
		}
		table.pass(1)
		busy("renewed", until)
	}
	r := must(t)(table.Load(ctx, first.ID))
	if r.Revision != 1 {
		t.Errorf("the record was saved %d times", r.Revision)
	}
	if got, err := table.LeaseExpiry(ctx, r); err != nil || !got.Equal(until) {
		t.Errorf("the lease is over at %s, %v; want %s", got, err, until)
	}

	// Its renewals fail. The next attempt gets the job.
	table.pass(until.Sub(table.now()))
	_, err := renew(first)
	fails(t, "renew a lease that is over", err, job.ErrLeaseLost)
	second := must(t)(table.claimRenewable(ctx, "m"))
	if second.Attempt != 2 {
		t.Errorf("attempt %d", second.Attempt)
	}
	_, err = renew(first)
	fails(t, "renew a lost lease", err, job.ErrLeaseLost)
	// The first attempt's renewal does not make the second one's lease longer.
	if got, err := table.LeaseExpiry(ctx, second); err != nil || !got.Equal(second.LeaseExpiry) {
		t.Errorf("the lease is over at %s, %v; want %s", got, err, second.LeaseExpiry)
	}
	if _, err := renew(second); err != nil {
		t.Errorf("renew the second attempt's lease: %v", err)
	}
	_, err = renew(first)
	fails(t, "renew a lost lease after the next was renewed", err, job.ErrLeaseLost)

	// A suspended job is not busy, and neither is a released one, whatever was renewed before.
	must(t)(table.ChangeClaimed(ctx, second, job.Suspend(table.now(), table.job, table.now(), false, nil)))
	third := must(t)(table.claimRenewable(ctx, "m"))
	if third.WakeUp != 1 || third.Attempt != 1 {
		t.Errorf("attempt %d after wake-up %d", third.Attempt, third.WakeUp)
	}
	if _, err := renew(third); err != nil {
		t.Errorf("renew the lease after a wake-up: %v", err)
	}
	must(t)(table.ChangeClaimed(ctx, third, job.Release(table.now(), 0, false, "")))
	fourth := must(t)(table.claim(ctx, "m"))
	if fourth.Renewable {
		t.Error("a lease that is not renewable says that it is")
	}
	// No claim reads a renewal of a lease that is not renewable.
	if _, err := renew(fourth); err != nil {
		t.Fatal(err)
	}
	table.pass(lease)
	must(t)(table.claim(ctx, "m"))
}

// testUnclaim undoes claims that took effect, and claims that did not.
func testUnclaim(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, table := t.Context(), newTable(open(t))
	claim := func(owner string) job.Record {
		return job.NewRecord(table.job, toolPolicy, deadline, owner, table.now(), lease)
	}
	unclaim := func(first job.Record) {
		t.Helper()
		if err := table.Unclaim(ctx, first, table.now(), time.Second, "too late"); err != nil {
			t.Errorf("unclaim: %v", err)
		}
	}
	first := claim("m")
	must(t)(table.Claim(ctx, first))
	unclaim(claim("other")) // another one's
	r := must(t)(table.Load(ctx, first.ID))
	if r.Owner != "m" || r.Revision != 1 {
		t.Errorf("the owner is %q at revision %d", r.Owner, r.Revision)
	}
	unclaim(first)
	unclaim(first) // its answer was lost
	_, err := table.Claim(ctx, claim("m"))
	if busy := new(job.BusyError); !errors.As(err, &busy) || !busy.Until.Equal(start.Add(time.Second)) {
		t.Errorf("claim before the delay is over: %v", err)
	}
	table.pass(time.Second)
	if r := must(t)(table.Claim(ctx, claim("m"))); r.Attempt != 1 || r.Reason != "too late" {
		t.Errorf("attempt %d after %q", r.Attempt, r.Reason)
	}
	r = must(t)(table.ChangeClaimed(ctx, must(t)(table.Load(ctx, first.ID)), job.Finish(table.now(), result, false, "")))
	unclaim(first)
	same(t, "a finished job", r, must(t)(table.Load(ctx, first.ID)))
}

// testLateClaim tests that the write of a claim that was undone has no effect, if it arrives later.
func testLateClaim(t *testing.T, open func(*testing.T) jobtable.Stores) {
	for name, prepare := range map[string]func(context.Context, table){
		"first": func(context.Context, table) {},
		"after a lease": func(ctx context.Context, table table) {
			must(t)(table.claim(ctx, "before"))
			table.pass(lease)
		},
		"after a wait": func(ctx context.Context, table table) {
			r := must(t)(table.claim(ctx, "before"))
			must(t)(table.ChangeClaimed(ctx, r, job.Suspend(start, table.job, start, false, nil)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, table := t.Context(), newTable(open(t))
			prepare(ctx, table)
			first := job.NewRecord(table.job, toolPolicy, deadline, "m", table.now(), lease)
			late := first // the record that the claim writes
			if r, err := table.Load(ctx, first.ID); err == nil {
				if late, err = job.Claim(table.now(), "m", lease).Apply(r); err != nil {
					t.Fatal(err)
				}
			}
			if err := table.Unclaim(ctx, first, table.now(), 0, ""); err != nil {
				t.Fatal(err)
			}
			if _, err := table.stores.Save(ctx, late); !errors.Is(err, jobtable.ErrChanged) {
				t.Errorf("the late claim: %v", err)
			}
			attempts := late.Attempt
			if r := must(t)(table.claim(ctx, "m")); r.Attempt != attempts {
				t.Errorf("attempt %d, want %d", r.Attempt, attempts)
			}
		})
	}
}
