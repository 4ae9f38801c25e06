package jobtabletest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/vapi"
)

// toolCall returns a job of the call. Every other one was accepted by an earlier version. All new ones
// have the same tool call id.
func toolCall(id string) job.Job {
	if id != "" && id[0]%2 == 0 {
		return job.Job{ID: job.EarlierID("call", id), ToolCallID: id, Call: job.Call{ID: "call"}}
	}
	return job.Job{
		ID: job.ID("call", "tool-call", "weather", fmt.Appendf(nil, "[%q]", id)), ToolCallID: "tool-call",
		Call: job.Call{ID: "call"},
	}
}

// jobIDs returns the ids of each [toolCall] in a list that is separated by spaces.
func jobIDs(list string) string {
	names := strings.Fields(list)
	for i, name := range names {
		names[i] = toolCall(name).ID
	}
	return strings.Join(names, " ")
}

// inRecord returns the name of a [toolCall] in the record of its call.
func inRecord(id string) string { return strings.TrimPrefix(toolCall(id).ID, "call/") }

func testLimits(t *testing.T, open func(*testing.T) jobtable.Stores) {
	// A step admits a tool call, ends it ("-" before it), extends its slot ("+"), or lets time pass.
	type step struct {
		do   string
		pass time.Duration
		want string // "", "total" or "concurrent"
	}
	for name, row := range map[string]struct {
		limits job.CallLimits
		steps  []step
	}{
		"no limits": {job.CallLimits{}, []step{{do: "a"}, {do: "b"}, {do: "c"}}},
		"in total": {job.CallLimits{Jobs: 2}, []step{
			{do: "a"}, {do: "-a"}, {do: "b"}, {do: "c", want: "total"}, {do: "-b"}, {do: "c", want: "total"},
			{pass: 12 * time.Hour}, {do: "c", want: "total"},
		}},
		"at the same time": {job.CallLimits{Concurrent: 2}, []step{
			{do: "a"}, {do: "b"}, {do: "c", want: "concurrent"}, {do: "-a"}, {do: "c"}, {do: "d", want: "concurrent"},
			{do: "-b"}, {do: "-c"}, {do: "d"}, {do: "e"},
		}},
		"both": {job.CallLimits{Jobs: 3, Concurrent: 2}, []step{
			{do: "a"}, {do: "b"}, {do: "c", want: "concurrent"}, {do: "-a"}, {do: "c"}, {do: "-b"}, {do: "d", want: "total"},
		}},
		"the same job again does not count": {job.CallLimits{Jobs: 2, Concurrent: 2}, []step{
			{do: "a"}, {do: "a"}, {do: "a"}, {do: "b"}, {do: "a"}, {do: "c", want: "total"},
		}},
		"a job that ends twice frees one slot": {job.CallLimits{Concurrent: 2}, []step{
			{do: "a"}, {do: "b"}, {do: "-a"}, {do: "-a"}, {do: "-x"}, {do: "c"}, {do: "d", want: "concurrent"},
		}},
		"a refused job can come again": {job.CallLimits{Concurrent: 1}, []step{
			{do: "a"}, {do: "b", want: "concurrent"}, {do: "-b"}, {do: "c", want: "concurrent"}, {do: "-a"}, {do: "b"},
		}},
		"a crashed job frees its slot with its lease": {job.CallLimits{Concurrent: 1}, []step{
			{do: "a"}, {pass: lease - 1}, {do: "b", want: "concurrent"}, {pass: 1}, {do: "b"},
		}},
		"a long job keeps its slot": {job.CallLimits{Concurrent: 1}, []step{
			{do: "a"}, {pass: lease - 1}, {do: "+a"}, {pass: lease - 1}, {do: "b", want: "concurrent"}, {pass: 1}, {do: "b"},
		}},
		"a job without a slot gets none": {job.CallLimits{Jobs: 1, Concurrent: 1}, []step{
			{do: "+x"}, {do: "a"}, {do: "-a"}, {do: "+a"}, {do: "b", want: "total"},
		}},
		"its next attempt is neither refused nor counted": {job.CallLimits{Jobs: 2, Concurrent: 1}, []step{
			{do: "a"}, {pass: lease + 20*time.Minute}, {do: "b"}, {do: "a"}, {do: "c", want: "total"}, {do: "-a"},
			{do: "-b"}, {do: "c", want: "total"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, now := t.Context(), start
			admission := jobtable.NewAdmission(open(t).Calls(), row.limits)
			for i, step := range row.steps {
				if now = now.Add(step.pass); step.do == "" {
					continue
				}
				var err error
				switch step.do[0] {
				case '-':
					err = admission.Leave(ctx, toolCall(step.do[1:]), now)
				case '+':
					err = admission.Extend(ctx, toolCall(step.do[1:]), now, lease)
				default:
					_, err = admission.Admit(ctx, toolCall(step.do), now, lease, nil)
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
				other := job.Job{ID: job.ID("other", "tool-call", "weather", nil), Call: job.Call{ID: "other"}}
				_, err = admission.Admit(ctx, other, now, lease, nil)
				err = errors.Join(err, admission.Leave(ctx, other, now))
				if row.limits.Jobs == 0 && err != nil {
					t.Errorf("another call: %v", err)
				}
			}
		})
	}
}

// testSlotRace admits more jobs at the same time than there are slots.
func testSlotRace(t *testing.T, open func(*testing.T) jobtable.Stores) {
	const jobs, most = 24, 5
	ctx, s := t.Context(), open(t)
	admission := jobtable.NewAdmission(s.Calls(), job.CallLimits{Jobs: most})
	admitted := 0
	for _, err := range atOnce(jobs, func(i int) error {
		_, err := admission.Admit(ctx, toolCall(fmt.Sprint(i%(jobs/2))), start, lease, nil) // each job twice
		return err
	}) {
		var limit *job.LimitError
		switch {
		case err == nil:
			admitted++
		case !errors.As(err, &limit):
			t.Error(err)
		}
	}
	r, err := s.Calls().Load(ctx, "call")
	if err != nil {
		t.Fatal(err)
	}
	if r.Started != most || len(r.Slots) != most || admitted < most || admitted > 2*most {
		t.Errorf("%d admitted; the record has %d with %d slots, want %d", admitted, r.Started, len(r.Slots), most)
	}
}

// testAsk tests which tool call asks a question within a call.
func testAsk(t *testing.T, open func(*testing.T) jobtable.Stores) {
	newAdmission := func(s jobtable.Stores) *jobtable.Admission {
		return jobtable.NewAdmission(s.Calls(), job.CallLimits{})
	}
	ask := func(
		ctx context.Context, a *jobtable.Admission, j job.Job, key string, join bool,
		active func(context.Context, string) (bool, error),
	) (string, error) {
		earlier, err := a.Admit(ctx, j, start, lease, &jobtable.Question{Key: key, Join: join, Unfinished: active})
		return strings.Join(earlier, " "), err
	}
	// A step is a tool call that asks. The ones in over are not under way any more.
	type step struct {
		by, key string
		join    bool
		over    string
		want    string
	}
	for name, steps := range map[string][]step{
		"join": {
			{by: "a", join: true}, {by: "b", join: true, want: "a"}, {by: "c", join: true, want: "a"},
			{by: "b", join: true, want: "a"},
		},
		"the first again": {
			{by: "a", join: true}, {by: "a", join: true}, {by: "b", join: true, want: "a"}, {by: "a", join: true},
		},
		"join what is over": {
			{by: "a", join: true}, {by: "b", join: true, over: "a"}, {by: "c", join: true, over: "a", want: "b"},
		},
		"joined, then over": {
			{by: "a", join: true}, {by: "b", join: true, want: "a"}, {by: "b", join: true, over: "a"},
			{by: "c", join: true, want: "b"},
		},
		"replace": {{by: "a"}, {by: "b", want: "a"}, {by: "c", over: "a", want: "b"}},
		"replace two, as the first was not ended": {
			{by: "a"}, {by: "b", want: "a"}, {by: "c", want: "b a"}, {by: "c", want: "b a"},
			{by: "d", over: "a b", want: "c"}, {by: "e", over: "a b", want: "d c"},
		},
		"replace, repeated": {
			{by: "a"}, {by: "b", want: "a"}, {by: "b", want: "a"}, {by: "b", over: "a", want: "a"},
		},
		"replace what is over": {{by: "a"}, {by: "b", over: "a"}, {by: "b", over: "a"}, {by: "c", want: "b"}},
		"different": {
			{by: "a", key: "x"}, {by: "b", key: "y"}, {by: "c", key: "x", join: true, want: "a"},
			{by: "d", key: "y", want: "b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			admission := newAdmission(open(t))
			for i, step := range steps {
				active := func(_ context.Context, id string) (bool, error) {
					return !slices.Contains(strings.Split(jobIDs(step.over), " "), id), nil
				}
				got, err := ask(t.Context(), admission, toolCall(step.by), step.key, step.join, active)
				if err != nil || got != jobIDs(step.want) {
					t.Errorf("step %d: %s asks after %q, %v, want %q", i, step.by, got, err, step.want)
				}
			}
		})
	}

	t.Run("out of order", func(t *testing.T) {
		s := open(t)
		admission := newAdmission(s)
		active := true
		asks := func(what, id string, at time.Time, join bool, want string, wantErr error) {
			t.Helper()
			j := toolCall(id)
			j.ReceivedAt = at
			isActive := func(context.Context, string) (bool, error) { return active, nil }
			if before, err := ask(t.Context(), admission, j, "key", join, isActive); before != jobIDs(want) ||
				!errors.Is(err, wantErr) {
				t.Errorf("%s: %q, %v", what, before, err)
			}
		}
		asks("the later one", "later", start.Add(time.Second), false, "", nil)
		asks("the earlier one", "earlier", start, false, "later", job.ErrSuperseded)
		asks("the earlier one joins", "earlier", start, true, "later", nil)
		if r, err := s.Calls().Load(t.Context(), "call"); err != nil || r.Questions["key"].By != inRecord("later") {
			t.Errorf("the record is %+v, %v", r, err)
		}
		// Both are from one webhook, so that their times do not tell which is later.
		asks("another one", "another", start.Add(time.Second), false, "later", nil)
		asks("the one that it replaces", "later", start.Add(time.Second), false, "another", job.ErrSuperseded)
		active = false
		asks("the earlier one, after the later one's end", "earlier", start, false, "", nil)
	})

	t.Run("unknown", func(t *testing.T) {
		s := open(t)
		admission := newAdmission(s)
		errDown := errors.New("the table does not answer")
		broken := func(context.Context, string) (bool, error) { return true, errDown }
		if before, err := ask(t.Context(), admission, toolCall("a"), "key", true, broken); err != nil || before != "" {
			t.Errorf("the first: %q, %v", before, err)
		}
		if _, err := ask(t.Context(), admission, toolCall("b"), "key", true, broken); !errors.Is(err, errDown) {
			t.Errorf("the second, while the first is unknown: %v", err)
		}
		r, err := s.Calls().Load(t.Context(), "call")
		if err != nil || !reflect.DeepEqual(r.Questions["key"], job.Question{By: inRecord("a")}) {
			t.Errorf("the record is %+v, %v", r, err)
		}
	})

	const askers = 12
	// race returns what each tool call asked after, and the call's record.
	race := func(t *testing.T, join, takeOver bool) (map[string]string, job.CallRecord) {
		ctx, s := t.Context(), open(t)
		admission := newAdmission(s)
		if takeOver {
			if _, err := ask(ctx, admission, toolCall("over"), "key", true, nil); err != nil {
				t.Fatal(err)
			}
		}
		active := func(_ context.Context, id string) (bool, error) { return id != jobIDs("over"), nil }
		before := make([]string, askers)
		if err := errors.Join(atOnce(askers, func(i int) (err error) {
			before[i], err = ask(ctx, admission, toolCall(fmt.Sprint(i)), "key", join, active)
			return err
		})...); err != nil {
			t.Error(err)
		}
		r, err := s.Calls().Load(ctx, "call")
		if err != nil {
			t.Fatal(err)
		}
		after := make(map[string]string)
		for i, all := range before {
			before, _, _ := strings.Cut(all, " ") // the one that asked; those before it are unfinished, too
			after[inRecord(fmt.Sprint(i))] = strings.TrimPrefix(before, "call/")
		}
		return after, r
	}
	for name, takeOver := range map[string]bool{"joins at once": false, "takeovers at once": true} {
		t.Run(name, func(t *testing.T) {
			after, r := race(t, true, takeOver)
			by := r.Questions["key"].By
			for asker, before := range after {
				if asker != by && before != by || asker == by && before != "" {
					t.Errorf("%s asks after %q, and the record has %s", asker, before, by)
				}
			}
			if _, known := after[by]; !known {
				t.Errorf("the record has %q", by)
			}
		})
	}
	t.Run("replacements at once", func(t *testing.T) {
		after, r := race(t, false, false)
		// Each replaces another one, from the last to the first.
		n := 0
		for asker := r.Questions["key"].By; asker != "" && n <= askers; asker = after[asker] {
			n++
		}
		if n != askers {
			t.Errorf("%d of %d replaced each other: %v", n, askers, after)
		}
	})
}

// testLive tests the end of a call.
func testLive(t *testing.T, open func(*testing.T) jobtable.Stores) {
	ctx, s := t.Context(), open(t)
	tracker := jobtable.NewCallTracker(s.Calls())
	live := func(call string, want bool) {
		t.Helper()
		if got, err := tracker.Live(ctx, call, start); err != nil || got != want {
			t.Errorf("%s is live: %t, %v, want %t", call, got, err, want)
		}
	}
	end := func() {
		t.Helper()
		if err := tracker.End(ctx, "call", start); err != nil {
			t.Error(err)
		}
	}
	ended := func(want time.Time) {
		t.Helper()
		if got, err := tracker.Ended(ctx, "call"); err != nil || !got.Equal(want) {
			t.Errorf("ended at %s, %v, want %s", got, err, want)
		}
	}
	if r, err := tracker.Load(ctx, "call"); err != nil || r.Revision != 0 {
		t.Errorf("loaded %+v, %v", r, err)
	}
	ended(time.Time{})
	live("call", true)
	live("other", true)
	r, err := s.Calls().Load(ctx, "call")
	if err != nil || r.Revision != 1 || !r.Expires().Equal(start.Add(job.Retention)) {
		t.Errorf("the call's record is %+v, %v", r, err)
	}
	live("call", true)
	ended(time.Time{})
	end()
	end()
	ended(start)
	live("call", false)
	live("other", true)
	if r, err := s.Calls().Load(ctx, "call"); err != nil || r.Revision != 2 || !r.Ended.Equal(start) {
		t.Errorf("the call's record is %+v, %v", r, err)
	}

	// The architecture of a call with a record, and of one without.
	for _, call := range []string{"call", "third"} {
		for range 2 {
			if err := tracker.Learn(ctx, call, vapi.ArchitectureGPTLive, start); err != nil {
				t.Error(err)
			}
		}
		r, err := tracker.Load(ctx, call)
		if err != nil || r.Architecture != vapi.ArchitectureGPTLive || r.Ended.IsZero() == (call == "call") {
			t.Errorf("the record of %s is %+v, %v", call, r, err)
		}
	}
	live("third", true)

	// A job that asks about its call later finds its end.
	for range 2 {
		if err := tracker.End(ctx, "fourth", start); err != nil {
			t.Error(err)
		}
	}
	live("fourth", false)
	r, err = s.Calls().Load(ctx, "fourth")
	if err != nil || r.Revision != 1 || !r.Ended.Equal(start) || !r.Expires().Equal(start.Add(job.Retention)) {
		t.Errorf("the record of a call that no job had asked about is %+v, %v", r, err)
	}
}
