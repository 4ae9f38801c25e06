package callback_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// terse is a text around results that is easy to take apart.
func terse(t *testing.T) func(*callback.Config) {
	t.Helper()
	text, err := spoken.ParseText("{tool_call_id}={content}")
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *callback.Config) { cfg.Text = &text }
}

// told is what the calls were told, in an order of its own: what was added as
// "add t1=… t2=…", with "silently" where the assistant does not answer.
func (w *world) told() []string {
	var told []string
	for _, m := range w.calls.told {
		switch m := m.(type) {
		case vapi.AddMessage:
			parts := strings.Split(m.Content, "\n\n")
			slices.Sort(parts)
			verb := "add "
			if m.Silent {
				verb = "add silently "
			}
			told = append(told, verb+strings.Join(parts, " "))
		case vapi.Say:
			told = append(told, "say "+m.Content)
		default:
			told = append(told, fmt.Sprintf("%T", m))
		}
	}
	return told
}

// several sends outcomes of call-1, t1 and so on, in one batch.
func (w *world) several(deliveries ...job.Delivery) {
	for i, d := range deliveries {
		r := job.Result{Status: job.StatusOK, Delivery: d, Content: string(rune('A' + i))}
		if d == job.DeliveryControl {
			r = job.Result{Status: job.StatusOK, Delivery: d, Control: []byte(`{"type":"end-call"}`)}
		}
		w.send(w.finished(w.job(fmt.Sprintf("t%d", i+1)), job.Policy{}, r))
	}
}

// wantStates checks that all outcomes came to this.
func (w *world) wantStates(state job.State) {
	w.t.Helper()
	for _, r := range w.store.Records() {
		if r.State != state {
			w.t.Errorf("%s is %s, want %s", r.ID, r.State, state)
		}
	}
	if w.results.Len() != 0 || w.dead.Len() != 0 {
		w.t.Errorf("%d messages on the results queue, %d on the dead-letter queue", w.results.Len(), w.dead.Len())
	}
}

// TestSeveralAtOnce has outcomes of one call in one batch: what is added to the
// conversation is one post, and nothing waits.
func TestSeveralAtOnce(t *testing.T) {
	const respond, silent, say, control = job.DeliveryRespond, job.DeliverySilent, job.DeliverySay, job.DeliveryControl
	tests := map[string]struct {
		deliveries []job.Delivery
		want       []string
	}{
		"one":                 {[]job.Delivery{respond}, []string{"add t1=A"}},
		"two":                 {[]job.Delivery{respond, respond}, []string{"add t1=A t2=B"}},
		"one is silent":       {[]job.Delivery{respond, silent}, []string{"add t1=A t2=B"}},
		"the first is silent": {[]job.Delivery{silent, silent, respond}, []string{"add t1=A t2=B t3=C"}},
		"all are silent":      {[]job.Delivery{silent, silent}, []string{"add silently t1=A t2=B"}},
		"word for word":       {[]job.Delivery{say, say}, []string{"say A", "say B"}},
		"with a said one":     {[]job.Delivery{respond, say, respond}, []string{"add t1=A t3=C", "say B"}},
		"with a control one":  {[]job.Delivery{control, silent, respond}, []string{"add t2=B t3=C", "vapi.EndCall"}},
		"each alone":          {[]job.Delivery{respond, say, control}, []string{"add t1=A", "say B", "vapi.EndCall"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
				w.several(tt.deliveries...)
				w.run(time.Minute)
				got := w.told()
				slices.Sort(got)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				w.wantStates(job.StateDelivered)
				if last := slices.Max(w.calls.at); last != 0 {
					t.Errorf("the last one was posted after %s", last)
				}
			})
		})
	}
}

func TestCallsAreNotMixed(t *testing.T) {
	inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
		urls := make(map[string]string)
		for i := range 10 {
			call := fmt.Sprintf("call-%d", i%3)
			j := job.Job{ID: job.ID(call, fmt.Sprint("t", i)), ToolCallID: fmt.Sprint("t", i), Tool: "order_status", Call: job.Call{ID: call, ControlURL: controlURL + "/" + call}}
			urls[j.ToolCallID+"="+call] = j.Call.ControlURL
			w.send(w.finished(j, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: call}))
		}
		w.run(time.Minute)
		got := w.told()
		slices.Sort(got)
		want := []string{"add t0=call-0 t3=call-0 t6=call-0 t9=call-0", "add t1=call-1 t4=call-1 t7=call-1", "add t2=call-2 t5=call-2 t8=call-2"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for i, m := range w.calls.told {
			for part := range strings.SplitSeq(m.(vapi.AddMessage).Content, "\n\n") {
				if urls[part] != w.calls.urls[i] {
					t.Errorf("%s was posted to %s", part, w.calls.urls[i])
				}
			}
		}
		w.wantStates(job.StateDelivered)
	})
}

// TestWhoIsWaitedFor has three outcomes of one call in a batch, and something is
// wrong with the second one.
func TestWhoIsWaitedFor(t *testing.T) {
	const second = "call-1/t2"
	slow := func(d time.Duration) func(*testing.T, *world) {
		return func(_ *testing.T, w *world) {
			w.table.claims = func(id string) {
				if id == second {
					time.Sleep(d)
				}
			}
		}
	}
	tests := map[string]struct {
		wrong func(*testing.T, *world)
		told  []string
		at    []time.Duration
		why   []job.Reason
	}{
		"a bit slow":    {slow(time.Second), []string{"add t1=A t2=B t3=C"}, []time.Duration{time.Second}, nil},
		"slow":          {slow(5 * time.Second), []string{"add t1=A t3=C", "add t2=B"}, []time.Duration{2 * time.Second, 5 * time.Second}, nil},
		"hangs":         {slow(59 * time.Second), []string{"add t1=A t3=C", "add t2=B"}, []time.Duration{2 * time.Second, 59 * time.Second}, nil},
		"told before":   {settled, []string{"add t1=A t3=C"}, []time.Duration{0}, nil},
		"is being told": {busy, []string{"add t1=A t3=C", "add t2=B"}, []time.Duration{0, 30 * time.Second}, nil},
		"claim fails": {func(_ *testing.T, w *world) {
			tries := 0
			w.table.claimFails = func(id string) error {
				if id != second {
					return nil
				}
				if tries++; tries > 2 {
					return nil
				}
				return errors.New("the table is down")
			}
		}, []string{"add t1=A t3=C", "add t2=B"}, []time.Duration{0, 3 * time.Second}, nil},
		"claim panics": {func(_ *testing.T, w *world) {
			tries := 0
			w.table.claims = func(id string) {
				if id != second {
					return
				}
				if tries++; tries == 1 {
					panic("a bug")
				}
			}
		}, []string{"add t1=A t3=C", "add t2=B"}, []time.Duration{0, time.Second}, nil},
		"nothing to say": {func(_ *testing.T, w *world) { w.change = func(o *job.Outcome) { empty(second, o) } },
			[]string{"add t1=A t3=C"}, []time.Duration{0}, []job.Reason{job.ReasonUnspeakable}},
		"too late": {func(_ *testing.T, w *world) {
			w.change = func(o *job.Outcome) {
				if o.JobID == second {
					o.Deadline = w.start.Add(-time.Second)
				}
			}
		}, []string{"add t1=A t3=C"}, []time.Duration{0}, []job.Reason{job.ReasonDeadline}},
		// To wait for the others may not make one late.
		"slow, and another has little time": {func(t *testing.T, w *world) {
			slow(5*time.Second)(t, w)
			w.change = func(o *job.Outcome) {
				if o.JobID == "call-1/t3" {
					o.Deadline = w.start.Add(time.Second)
				}
			}
		}, []string{"add t1=A t3=C", "add t2=B"}, []time.Duration{time.Second, 5 * time.Second}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text, err := spoken.ParseText("{content}")
			if err != nil {
				t.Fatal(err)
			}
			inChangedWorld(t, func(cfg *callback.Config) { cfg.Text = &text }, func(t *testing.T, w *world) {
				var outcomes []job.Outcome
				for i := range 3 {
					id := fmt.Sprint("t", i+1)
					outcomes = append(outcomes, w.finished(w.job(id), job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: id + "=" + string(rune('A'+i))}))
				}
				tt.wrong(t, w)
				for _, o := range outcomes {
					if w.change != nil {
						w.change(&o)
					}
					w.send(o)
				}
				w.run(2 * time.Minute)
				if diff := cmp.Diff(tt.told, w.told()); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(tt.at, w.calls.at); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(tt.why, w.whys()); diff != "" {
					t.Error(diff)
				}
				for _, r := range w.store.Records() {
					if r.State != job.StateDelivered && (tt.why == nil || r.ID != second || r.State != job.StateUndelivered) {
						t.Errorf("%s is %s", r.ID, r.State)
					}
				}
				if w.results.Len() != 0 {
					t.Errorf("%d messages are left", w.results.Len())
				}
			})
		})
	}
}

func settled(t *testing.T, w *world) {
	t.Helper()
	if err := w.table.Table.Settle(t.Context(), w.record("call-1/t2"), w.now(), job.StateDelivered, ""); err != nil {
		t.Fatal(err)
	}
}

func busy(t *testing.T, w *world) {
	t.Helper()
	if _, err := w.table.Table.Change(t.Context(), "call-1/t2", job.ClaimDelivery(w.now(), 30*time.Second)); err != nil {
		t.Fatal(err)
	}
}

func empty(id string, o *job.Outcome) {
	if o.JobID == id {
		o.Result.Content = "\u200b"
	}
}

// TestCopyInTheSameBatch has a batch with an outcome, its copy and another one.
func TestCopyInTheSameBatch(t *testing.T) {
	inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
		w.several(job.DeliveryRespond, job.DeliveryRespond)
		w.send(w.job("t1").Outcome(w.record("call-1/t1")))
		w.run(time.Minute)
		if diff := cmp.Diff([]string{"add t1=A t2=B"}, w.told()); diff != "" {
			t.Error(diff)
		}
		w.wantStates(job.StateDelivered)
	})
}

// TestSharedPostFails has the post of three outcomes fail: each of them is
// treated as if it had been posted alone.
func TestSharedPostFails(t *testing.T) {
	second := func(first func() vapiclient.Receipt) func(int) vapiclient.Receipt {
		return func(post int) vapiclient.Receipt {
			if post == 1 {
				return first()
			}
			return delivered
		}
	}
	all := "add t1=A t2=B t3=C"
	t.Run("once", func(t *testing.T) {
		inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
			w.calls.answer = second(func() vapiclient.Receipt { return failing })
			w.several(job.DeliveryRespond, job.DeliverySilent, job.DeliveryRespond)
			w.run(time.Minute)
			if diff := cmp.Diff([]string{all, all}, w.told()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]time.Duration{0, time.Second}, w.calls.at); diff != "" {
				t.Error(diff)
			}
			w.wantStates(job.StateDelivered)
		})
	})
	t.Run("for good", func(t *testing.T) {
		inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
			w.calls.answer = always(gone)
			w.several(job.DeliveryRespond, job.DeliverySilent, job.DeliveryRespond)
			w.run(time.Minute)
			if diff := cmp.Diff([]string{all}, w.told()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]job.Reason{job.ReasonCallGone, job.ReasonCallGone, job.ReasonCallGone}, w.whys()); diff != "" {
				t.Error(diff)
			}
			w.wantStates(job.StateUndelivered)
		})
	})
	t.Run("often", func(t *testing.T) {
		inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
			w.calls.answer = always(failing)
			w.several(job.DeliveryRespond, job.DeliveryRespond)
			w.run(time.Hour)
			if diff := cmp.Diff([]job.Reason{job.ReasonUnreachable, job.ReasonUnreachable}, w.whys()); diff != "" {
				t.Error(diff)
			}
			if w.calls.posts != callback.MaxPosts {
				t.Errorf("%d posts", w.calls.posts)
			}
			w.wantStates(job.StateUndelivered)
		})
	})
	t.Run("panics", func(t *testing.T) {
		inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
			w.calls.answer = second(func() vapiclient.Receipt { panic("a bug") })
			w.several(job.DeliveryRespond, job.DeliveryRespond, job.DeliveryRespond)
			w.run(29 * time.Second)
			// Those that waited go on at once; the one that posted has not
			// given back its lease.
			if w.calls.posts != 2 || w.calls.at[1] != time.Second || w.results.Len() != 1 {
				t.Errorf("posts at %v, %d messages left", w.calls.at, w.results.Len())
			}
			w.run(10 * time.Second)
			var after []string
			for _, m := range w.told()[1:] {
				after = append(after, strings.Fields(strings.TrimPrefix(m, "add "))...)
			}
			slices.Sort(after)
			if diff := cmp.Diff([]string{"t1=A", "t2=B", "t3=C"}, after); diff != "" {
				t.Error(diff)
			}
			w.wantStates(job.StateDelivered)
		})
	})
	// The mark of one does not depend on that of another.
	t.Run("one is not marked", func(t *testing.T) {
		inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
			w.several(job.DeliveryRespond, job.DeliveryRespond)
			w.table.settleFails = func(r job.Record) error {
				if r.ID == "call-1/t1" {
					return errors.New("the table is down")
				}
				return nil
			}
			w.run(time.Hour)
			if diff := cmp.Diff([]string{"add t1=A t2=B"}, w.told()); diff != "" {
				t.Error(diff)
			}
			if a, b := w.state(), w.record("call-1/t2").State; a != job.StateDone || b != job.StateDelivered {
				t.Errorf("they are %s and %s", a, b)
			}
		})
	})
}

// TestTogetherInAMessage has outcomes of a call come in one message. Each is told
// once, although the message comes back for one of them.
func TestTogetherInAMessage(t *testing.T) {
	inChangedWorld(t, terse(t), func(t *testing.T, w *world) {
		o := w.finished(w.job("t1"), job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "A"})
		for _, id := range []string{"t2", "t3"} {
			o.With = append(o.With, w.finished(w.job(id), job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: id}))
		}
		// The third is in other hands for a while.
		held, err := w.table.Change(t.Context(), job.ID("call-1", "t3"), job.ClaimDelivery(w.now(), 40*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		w.send(o)
		w.run(10 * time.Second)
		if diff := cmp.Diff([]string{"add t1=A t2=t2"}, w.told()); diff != "" || w.results.Len() != 1 {
			t.Errorf("%d messages left; told:\n%s", w.results.Len(), diff)
		}
		w.run(time.Minute)
		if diff := cmp.Diff([]string{"add t1=A t2=t2", "add t3=t3"}, w.told()); diff != "" || w.results.Len() != 0 {
			t.Errorf("%d messages left; told:\n%s", w.results.Len(), diff)
		}
		for _, id := range []string{"t1", "t2", "t3"} {
			if r := w.record(job.ID("call-1", id)); r.State != job.StateDelivered {
				t.Errorf("%s is %s (%d)", id, r.State, held.Revision)
			}
		}
	})
}
