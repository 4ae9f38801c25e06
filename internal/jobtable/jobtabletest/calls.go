package jobtabletest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// RunCalls tests the stores that open makes. Each of them is new and empty.
func RunCalls(t *testing.T, open func(t *testing.T) jobtable.Stores) {
	t.Run("call store", func(t *testing.T) { testCallStore(t, open(t)) })
	t.Run("calls beside jobs", func(t *testing.T) { testCallsBesideJobs(t, open(t)) })
	t.Run("limits", func(t *testing.T) { testLimits(t, open) })
	t.Run("race for slots", func(t *testing.T) { testSlotRace(t, open(t)) })
	t.Run("ask", func(t *testing.T) { testAsk(t, open) })
	t.Run("live", func(t *testing.T) { testLive(t, open(t)) })
	t.Run("customer store", func(t *testing.T) { testCustomerStore(t, open(t)) })
	t.Run("customers", func(t *testing.T) { testCustomers(t, open(t)) })
}

func testCallStore(t *testing.T, s jobtable.Stores) {
	ctx := t.Context()
	if _, err := s.Calls().Load(ctx, "call"); !errors.Is(err, jobtable.ErrNotFound) {
		t.Errorf("load from an empty store: %v", err)
	}
	r := job.CallRecord{
		CallID: "call", Revision: 1, Started: 3, Slots: map[string]time.Time{"a": start, "b": deadline}, Updated: start,
		Questions: map[string]job.Question{"x": {By: "a"}, "y": {By: "b", Before: "a"}}, Ended: deadline,
	}
	if _, err := s.Calls().Save(ctx, r); !errors.Is(err, jobtable.ErrChanged) {
		t.Errorf("save over what is not there: %v", err)
	}
	r.Revision = 0
	for revision := int64(1); revision <= 3; revision++ {
		saved, err := s.Calls().Save(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Calls().Save(ctx, r); !errors.Is(err, jobtable.ErrChanged) {
			t.Errorf("save revision %d twice: %v", revision, err)
		}
		r.Revision = revision
		loaded, err := s.Calls().Load(ctx, "call")
		if err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string]job.CallRecord{"saved": saved, "loaded": loaded} {
			if diff := cmp.Diff(r, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Calls().Load(ended, "call"); !errors.Is(err, context.Canceled) {
		t.Errorf("load in an ended context: %v", err)
	}
	if _, err := s.Calls().Save(ended, r); !errors.Is(err, context.Canceled) {
		t.Errorf("save in an ended context: %v", err)
	}
}

// testCallsBesideJobs tests ids from outside that look like something else.
func testCallsBesideJobs(t *testing.T, s jobtable.Stores) {
	ctx := t.Context()
	ids := []string{"c", "c/t", "/c", "call:c", "call:c/t", "call:c%2Ft", "c%2Ft", "日本", strings.Repeat("é", 256)}
	for i, id := range ids {
		for _, toolCall := range []string{"t", "x/t"} {
			if _, err := s.Save(ctx, job.Record{ID: job.ID(id, toolCall), State: job.StateRunning, Tool: fmt.Sprint(i, toolCall), Updated: start}); err != nil && !errors.Is(err, jobtable.ErrChanged) {
				t.Fatal(err)
			}
		}
		if _, err := s.Calls().Save(ctx, job.CallRecord{CallID: id, Started: i + 1, Updated: start}); err != nil {
			t.Errorf("the call %q shares its record: %v", id, err)
		}
	}
	for i, id := range ids {
		if r, err := s.Calls().Load(ctx, id); err != nil || r.CallID != id || r.Started != i+1 {
			t.Errorf("call %q: %+v, %v", id, r, err)
		}
	}
}

func testLimits(t *testing.T, open func(t *testing.T) jobtable.Stores) {
	// A step is an admission, a leaving ("-a"), or time that passes.
	type step struct {
		do   string // the tool call; "-" before it: it leaves
		pass time.Duration
		want string // "", "total" or "concurrent"
	}
	for name, row := range map[string]struct {
		limits job.CallLimits
		steps  []step
	}{
		"no limits": {job.CallLimits{}, []step{{do: "a"}, {do: "b"}, {do: "c"}}},
		"so many in all": {job.CallLimits{Jobs: 2}, []step{
			{do: "a"}, {do: "-a"}, {do: "b"}, {do: "c", want: "total"}, {do: "-b"}, {do: "c", want: "total"}, {pass: 12 * time.Hour}, {do: "c", want: "total"},
		}},
		"so many at once": {job.CallLimits{Concurrent: 2}, []step{
			{do: "a"}, {do: "b"}, {do: "c", want: "concurrent"}, {do: "-a"}, {do: "c"}, {do: "d", want: "concurrent"}, {do: "-b"}, {do: "-c"}, {do: "d"}, {do: "e"},
		}},
		"both": {job.CallLimits{Jobs: 3, Concurrent: 2}, []step{
			{do: "a"}, {do: "b"}, {do: "c", want: "concurrent"}, {do: "-a"}, {do: "c"}, {do: "-b"}, {do: "d", want: "total"},
		}},
		"the same job again does not count": {job.CallLimits{Jobs: 2, Concurrent: 2}, []step{
			{do: "a"}, {do: "a"}, {do: "a"}, {do: "b"}, {do: "a"}, {do: "c", want: "total"},
		}},
		"what leaves twice frees one slot": {job.CallLimits{Concurrent: 2}, []step{
			{do: "a"}, {do: "b"}, {do: "-a"}, {do: "-a"}, {do: "-x"}, {do: "c"}, {do: "d", want: "concurrent"},
		}},
		"a refused job may come again": {job.CallLimits{Concurrent: 1}, []step{
			{do: "a"}, {do: "b", want: "concurrent"}, {do: "-b"}, {do: "c", want: "concurrent"}, {do: "-a"}, {do: "b"},
		}},
		"a crashed job frees its slot with its lease": {job.CallLimits{Concurrent: 1}, []step{
			{do: "a"}, {pass: lease - 1}, {do: "b", want: "concurrent"}, {pass: 1}, {do: "b"},
		}},
		"and its next attempt is neither refused nor counted": {job.CallLimits{Jobs: 2, Concurrent: 1}, []step{
			{do: "a"}, {pass: lease + 20*time.Minute}, {do: "b"}, {do: "a"}, {do: "c", want: "total"}, {do: "-a"}, {do: "-b"}, {do: "c", want: "total"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &clock{t: start}
			admission := jobtable.NewAdmission(open(t).Calls(), row.limits)
			for i, step := range row.steps {
				clock.pass(step.pass)
				if step.do == "" {
					continue
				}
				id, leaves := strings.CutPrefix(step.do, "-")
				j := job.Job{ID: job.ID("call", id), ToolCallID: id, Call: job.Call{ID: "call"}}
				var err error
				if leaves {
					err = admission.Leave(t.Context(), j, clock.now())
				} else {
					err = admission.Admit(t.Context(), j, clock.now(), lease)
				}
				var limit *job.LimitError
				got := ""
				switch {
				case errors.As(err, &limit) && limit.Concurrent && limit.Most == row.limits.Concurrent:
					got = "concurrent"
				case errors.As(err, &limit) && !limit.Concurrent && limit.Most == row.limits.Jobs:
					got = "total"
				case err != nil:
					t.Fatal(err)
				}
				if got != step.want {
					t.Errorf("step %d, %s: %q, want %q", i, step.do, got, step.want)
				}
				// Another call has its own limits.
				other := job.Job{ID: "other/t", ToolCallID: "t", Call: job.Call{ID: "other"}}
				if err := errors.Join(admission.Admit(t.Context(), other, clock.now(), lease), admission.Leave(t.Context(), other, clock.now())); row.limits.Jobs == 0 && err != nil {
					t.Errorf("another call: %v", err)
				}
			}
		})
	}
}

// testSlotRace has more jobs at the same instant than there are slots.
func testSlotRace(t *testing.T, s jobtable.Stores) {
	const jobs, most = 24, 5
	admission := jobtable.NewAdmission(s.Calls(), job.CallLimits{Jobs: most})
	var admitted atomic.Int32
	var racing sync.WaitGroup
	for i := range jobs {
		racing.Go(func() {
			id := fmt.Sprint(i % (jobs / 2)) // each job twice
			err := admission.Admit(t.Context(), job.Job{ID: job.ID("call", id), ToolCallID: id, Call: job.Call{ID: "call"}}, start, lease)
			var limit *job.LimitError
			switch {
			case err == nil:
				admitted.Add(1)
			case !errors.As(err, &limit):
				t.Error(err)
			}
		})
	}
	racing.Wait()
	r, err := s.Calls().Load(t.Context(), "call")
	if err != nil {
		t.Fatal(err)
	}
	if r.Started != most || len(r.Slots) != most || admitted.Load() < most || admitted.Load() > 2*most {
		t.Errorf("%d were admitted, and the record says %d with %d slots, want %d", admitted.Load(), r.Started, len(r.Slots), most)
	}
}
