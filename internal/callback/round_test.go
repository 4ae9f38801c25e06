package callback_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// sendAll sends the outcomes A, B and so on of t1, t2 and so on in one batch.
func (w *world) sendAll(deliveries ...policy.Delivery) {
	for i, d := range deliveries {
		r := job.Result{Status: job.StatusOK, Delivery: d, Content: string(rune('A' + i))}
		if d == policy.DeliveryControl {
			r = endsCall
		}
		w.send(w.finished(w.job(fmt.Sprint("t", i+1)), r))
	}
}

// TestSeveralAtOnce delivers outcomes of one call in one batch. The texts for the conversation
// share one post, and nothing waits.
func TestSeveralAtOnce(t *testing.T) {
	const respond, silent = policy.DeliveryRespond, policy.DeliverySilent
	const say, control = policy.DeliverySay, policy.DeliveryControl
	tests := map[string]struct {
		deliveries []policy.Delivery
		want       []string
	}{
		"one":                 {[]policy.Delivery{respond}, []string{"add t1=A"}},
		"two":                 {[]policy.Delivery{respond, respond}, []string{"add t1=A t2=B"}},
		"one is silent":       {[]policy.Delivery{respond, silent}, []string{"add t1=A t2=B"}},
		"the first is silent": {[]policy.Delivery{silent, silent, respond}, []string{"add t1=A t2=B t3=C"}},
		"all are silent":      {[]policy.Delivery{silent, silent}, []string{"add silently t1=A t2=B"}},
		"word for word":       {[]policy.Delivery{say, say}, []string{"say A", "say B"}},
		"with a spoken one":   {[]policy.Delivery{respond, say, respond}, []string{"add t1=A t3=C", "say B"}},
		"with a control one":  {[]policy.Delivery{control, silent, respond}, []string{"add t2=B t3=C", "vapi.EndCall"}},
		"each alone":          {[]policy.Delivery{respond, say, control}, []string{"add t1=A", "say B", "vapi.EndCall"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.sendAll(tt.deliveries...)
				w.run(time.Minute)
				got := w.posted()
				slices.Sort(got)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				w.wantStates(job.StateDelivered)
				if last := slices.Max(w.at); last != 0 {
					t.Errorf("the last one was posted after %s", last)
				}
			})
		})
	}
}

func TestCallsAreNotMixed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		urls := make(map[string]string)
		for i := range 10 {
			call := fmt.Sprint("call-", i%3)
			j := w.jobIn(call, fmt.Sprint("t", i))
			urls[j.ToolCallID+"="+call] = j.Call.ControlURL
			w.send(w.finished(j, respond(call)))
		}
		w.run(time.Minute)
		got := w.posted()
		slices.Sort(got)
		want := []string{
			"add t0=call-0 t3=call-0 t6=call-0 t9=call-0", "add t1=call-1 t4=call-1 t7=call-1",
			"add t2=call-2 t5=call-2 t8=call-2",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for i, m := range w.posts {
			for part := range strings.SplitSeq(m.(vapi.AddMessage).Content, "\n\n") {
				if urls[part] != w.urls[i] {
					t.Errorf("%s was posted to %s", part, w.urls[i])
				}
			}
		}
		w.wantStates(job.StateDelivered)
	})
}

// TestWaitForOthers delivers three outcomes of one call in a batch, and something is wrong with the
// second.
func TestWaitForOthers(t *testing.T) {
	const second = "call-1/t2"
	// The n-th claim of the second outcome does this.
	claims := func(do func(n int) error) func(*world) {
		return func(w *world) {
			n := 0
			w.before[claim] = func(_ context.Context, id string) error {
				if id != second {
					return nil
				}
				n++
				return do(n)
			}
		}
	}
	slow := func(d time.Duration) func(*world) {
		return claims(func(int) error { time.Sleep(d); return nil })
	}
	at := func(seconds ...time.Duration) []time.Duration {
		for i := range seconds {
			seconds[i] *= time.Second
		}
		return seconds
	}
	all, without, apart := []string{"add A B C"}, []string{"add A C"}, []string{"add A C", "add B"}
	tests := map[string]struct {
		wrong  func(*world)
		change func(w *world, o *job.Outcome)
		posted []string
		at     []time.Duration
		why    job.Reason // of the event of the second
	}{
		"a bit slow": {wrong: slow(time.Second), posted: all, at: at(1)},
		"slow":       {wrong: slow(5 * time.Second), posted: apart, at: at(2, 5)},
		// A claim that took too long is undone, and taken again.
		"hangs": {wrong: claims(func(n int) error {
			if n == 1 {
				time.Sleep(59 * time.Second)
			}
			return nil
		}), posted: apart, at: at(2, 60)},
		"is already delivered": {wrong: func(w *world) { w.settled(second) }, posted: without, at: at(0)},
		"is delivered elsewhere": {wrong: func(w *world) {
			w.change(second, job.ClaimDelivery(w.now(), 30*time.Second))
		}, posted: apart, at: at(0, 30)},
		"claim fails": {wrong: claims(func(n int) error {
			if n <= 2 {
				return errDown
			}
			return nil
		}), posted: apart, at: at(0, 3)},
		"claim panics": {wrong: claims(func(n int) error {
			if n == 1 {
				panic("a bug")
			}
			return nil
		}), posted: apart, at: at(0, 1)},
		"nothing to say": {change: func(_ *world, o *job.Outcome) {
			if o.JobID == second {
				o.Result.Content = "\u200b"
			}
		}, posted: without, at: at(0), why: job.ReasonUnspeakable},
		"too late": {change: func(w *world, o *job.Outcome) {
			if o.JobID == second {
				o.Deadline = w.start.Add(-time.Second)
			}
		}, posted: without, at: at(0), why: job.ReasonDeadline},
		// The wait for the others must not make an outcome late.
		"slow, and another has little time": {wrong: slow(5 * time.Second), change: func(w *world, o *job.Outcome) {
			if o.JobID == "call-1/t3" {
				o.Deadline = w.start.Add(time.Second)
			}
		}, posted: apart, at: at(1, 5)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			alone := func(cfg *callback.Config) { cfg.Text = text(t, "{marker}{content}{marker}") }
			inChangedWorld(t, alone, func(t *testing.T, w *world) {
				var outcomes []job.Outcome
				for i, content := range []string{"A", "B", "C"} {
					outcomes = append(outcomes, w.finished(w.job(fmt.Sprint("t", i+1)), respond(content)))
				}
				if tt.wrong != nil {
					tt.wrong(w)
				}
				for _, o := range outcomes {
					if tt.change != nil {
						tt.change(w, &o)
					}
					w.send(o)
				}
				w.run(2 * time.Minute)
				w.wantPosted(tt.posted...)
				if diff := cmp.Diff(tt.at, w.at); diff != "" {
					t.Error(diff)
				}
				w.wantLeft(0, reasons(tt.why)...)
				for _, r := range w.store.Records() {
					if r.State != job.StateDelivered &&
						(tt.why == "" || r.ID != second || r.State != job.StateUndelivered) {
						t.Errorf("%s is %s", r.ID, r.State)
					}
				}
			})
		})
	}
}

// TestCopyInTheSameBatch delivers a batch with an outcome, its copy and another one.
func TestCopyInTheSameBatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.sendAll(policy.DeliveryRespond, policy.DeliveryRespond)
		w.send(w.job("t1").Outcome(w.record("call-1/t1")))
		w.run(2 * time.Minute) // the copy waits for the lease
		w.wantPosted("add t1=A t2=B")
		w.wantStates(job.StateDelivered)
	})
}

// TestSharedPostFails makes the post of several outcomes fail: each of them is treated as if it had
// been posted alone.
func TestSharedPostFails(t *testing.T) {
	const all, why = "add t1=A t2=B t3=C", job.ReasonCallGone
	t.Run("once", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.answer = answers(failing, delivered)
			w.sendAll(policy.DeliveryRespond, policy.DeliverySilent, policy.DeliveryRespond)
			w.run(time.Minute)
			w.wantPosted(all, all)
			if diff := cmp.Diff([]time.Duration{0, time.Second}, w.at); diff != "" {
				t.Error(diff)
			}
			w.wantStates(job.StateDelivered)
		})
	})
	t.Run("for good", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.answer = answers(gone)
			w.sendAll(policy.DeliveryRespond, policy.DeliverySilent, policy.DeliveryRespond)
			w.run(time.Minute)
			w.wantPosted(all)
			w.wantStates(job.StateUndelivered, why, why, why)
		})
	})
	t.Run("often", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.answer = answers(failing)
			w.sendAll(policy.DeliveryRespond, policy.DeliveryRespond)
			w.run(time.Hour)
			if len(w.posts) != callback.MaxPosts {
				t.Errorf("%d posts", len(w.posts))
			}
			w.wantStates(job.StateUndelivered, job.ReasonUnreachable, job.ReasonUnreachable)
		})
	})
	t.Run("panics", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.answer = func(post int) vapiclient.Receipt {
				if post == 1 {
					panic("a bug")
				}
				return delivered
			}
			w.sendAll(policy.DeliveryRespond, policy.DeliveryRespond, policy.DeliveryRespond)
			w.run(59 * time.Second)
			// Those that waited are retried at once. The one that posted has not released its lease.
			if len(w.posts) != 2 || w.at[1] != time.Second || w.results.Len() != 1 {
				t.Errorf("posts at %v, %d messages left", w.at, w.results.Len())
			}
			w.run(10 * time.Second)
			var after []string
			for _, m := range w.posted()[1:] {
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
		inWorld(t, func(t *testing.T, w *world) {
			w.sendAll(policy.DeliveryRespond, policy.DeliveryRespond)
			w.before[settle] = func(_ context.Context, id string) error {
				if id == "call-1/t1" {
					return errDown
				}
				return nil
			}
			w.run(time.Hour)
			w.wantPosted("add t1=A t2=B")
			w.want(1, job.StateDone, "", 1) // the message that marks it
			if s := w.record("call-1/t2").State; s != job.StateDelivered {
				t.Errorf("the other one is %s", s)
			}
		})
	})
}

// TestSeveralInAMessage delivers outcomes of a call in one message, as earlier versions sent them. Each has
// its own retries.
func TestSeveralInAMessage(t *testing.T) {
	for name, tt := range map[string]struct {
		fails  func(w *world)
		posted []string
	}{
		"one is delivered elsewhere for a while": {
			func(w *world) { w.change("call-1/t3", job.ClaimDelivery(w.now(), 40*time.Second)) },
			[]string{"add t1=A t2=t2", "add t3=t3"},
		},
		// The first is delivered and cannot be marked, while the third cannot be claimed.
		"one needs a retry, and another one cannot be marked": {
			func(w *world) {
				down := func(id string) error {
					if id != "call-1/t2" && time.Since(w.start) < 50*time.Second {
						return errDown
					}
					return nil
				}
				w.before[claim] = func(_ context.Context, id string) error {
					if id == "call-1/t3" {
						return down(id)
					}
					return nil
				}
				w.before[settle] = func(_ context.Context, id string) error { return down(id) }
			},
			[]string{"add t1=A t2=t2", "add t3=t3"},
		},
		"it cannot be split at first": {
			func(w *world) {
				w.before[sendMark] = func(context.Context, string) error {
					if time.Since(w.start) < 2*time.Second {
						return errDown
					}
					return nil
				}
			},
			[]string{"add t1=A t2=t2 t3=t3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				o := w.finished(w.job("t1"), respond("A"))
				for _, id := range []string{"t2", "t3"} {
					o.With = append(o.With, w.finished(w.job(id), respond(id)))
				}
				tt.fails(w)
				w.send(o)
				w.run(10 * time.Minute)
				w.wantPosted(tt.posted...)
				w.wantStates(job.StateDelivered)
			})
		})
	}
}
