package jobtabletest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// testRecentCalls lists calls, newest first, which became known through every kind of first write.
func testRecentCalls(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, stores := t.Context(), open(t)
	tracker := jobtable.NewCallTracker(stores.Calls())
	admission := jobtable.NewAdmission(stores.Calls(), job.CallLimits{Jobs: 9})
	list := func(now time.Time, page int) (ids []string, pages int) {
		t.Helper()
		for from, more := "", true; more; pages++ {
			calls, next, err := stores.RecentCalls(ctx, now, from, page)
			if err != nil || len(calls) > page || len(calls) == 0 && next != "" {
				t.Fatalf("%d calls from %q, next %q, %v", len(calls), from, next, err)
			}
			for _, c := range calls {
				ids = append(ids, c.CallID)
			}
			from, more = next, next != ""
		}
		return ids, pages
	}
	if ids, pages := list(start, 10); len(ids) != 0 || pages != 1 {
		t.Errorf("an empty table: %v", ids)
	}

	// Gaps of minutes, hours and days, calls in the same millisecond, and an id that needs escaping.
	var want []string
	at := start
	for i, gap := range []time.Duration{
		0, time.Microsecond, time.Millisecond, time.Minute, 50 * time.Minute, time.Hour, 3 * time.Hour, 8 * time.Hour,
		16 * time.Hour, 29 * time.Hour, 10 * 24 * time.Hour, 20 * time.Minute, time.Second, time.Second,
	} {
		at = at.Add(gap)
		id := fmt.Sprintf("call %d/é", i)
		var err error
		switch i % 4 {
		case 0:
			_, err = tracker.Live(ctx, id, at)
		case 1:
			err = tracker.End(ctx, id, at)
		case 2:
			j := newJob(id)
			_, err = admission.Admit(ctx, j, at, lease, nil)
		case 3:
			err = tracker.Learn(ctx, id, "gpt-live", at)
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, id)
	}
	// A call of an earlier version has a record, and is not listed, whatever changes in it.
	if _, err := stores.Calls().Save(ctx, job.CallRecord{CallID: "earlier", Updated: at}); err != nil {
		t.Fatal(err)
	}
	for _, id := range append(slices.Clone(want), "earlier") {
		if err := tracker.End(ctx, id, at.Add(time.Minute)); err != nil { // which changes no place in the list
			t.Fatal(err)
		}
	}
	// Only a time that can be the beginning of the call is recorded, once.
	at = at.Truncate(time.Millisecond)
	for _, begin := range []struct{ began, want time.Time }{
		{at.Add(time.Second), time.Time{}}, {at.Add(-48 * time.Hour), time.Time{}}, {time.Time{}, time.Time{}},
		{at.Add(-time.Minute), at.Add(-time.Minute)}, {at.Add(-time.Second), at.Add(-time.Minute)},
	} {
		j := newJob(fmt.Sprint("began at ", begin.began))
		j.Call.ID, j.ReceivedAt, j.CallBegan = want[2], at, begin.began
		if _, err := admission.Admit(ctx, j, at, lease, nil); err != nil {
			t.Fatal(err)
		}
		if r, err := stores.Calls().Load(ctx, want[2]); err != nil || !r.Began.Equal(begin.want) {
			t.Errorf("%v: the call began at %v, want %v, %v", begin.began, r.Began, begin.want, err)
		}
	}
	now := at.Add(time.Second)
	firstTwo := []string{want[0], want[1]} // of the same millisecond, so in any order
	slices.Reverse(want)
	for _, page := range []int{1, 2, 3, 5, 13, 14, 15, jobtable.MaxRecentCalls + 1} {
		got, pages := list(now, page)
		if n := len(got); n == len(want) {
			if slices.Sort(got[n-2:]); !slices.Equal(got[n-2:], firstTwo) {
				t.Errorf("the oldest calls are %v", got[n-2:])
			}
			slices.Reverse(got[n-2:])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in pages of %d (-want +got):\n%s", page, diff)
		}
		if least := (len(want) + page - 1) / page; pages != least {
			t.Errorf("%d pages of %d calls, want %d", pages, page, least)
		}
	}
	// A month later, the same calls are listed.
	if got, _ := list(now.Add(30*24*time.Hour), 20); len(got) != len(want) {
		t.Errorf("later: %v", got)
	}
	calls, _, err := stores.RecentCalls(ctx, now, "", 1)
	if err != nil || !calls[0].First.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("%+v, %v; want %s", calls, err, at)
	}
}
