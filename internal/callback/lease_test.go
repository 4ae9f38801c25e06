package callback_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// once returns a function that takes a time when it is called first.
func once(takes time.Duration) func(string) {
	first := true
	return func(string) {
		if first {
			first = false
			time.Sleep(takes)
		}
	}
}

// TestLateAnswers makes steps answer late, while there is a copy of the outcome. Nothing fails, dies or gets
// lost, so the outcome is delivered once.
func TestLateAnswers(t *testing.T) {
	late := func(step string, takes time.Duration) func(*world) {
		return func(w *world) { w.after[step] = once(takes) }
	}
	hangs := func(step string, until time.Duration) func(*world) {
		return func(w *world) {
			w.before[step] = func(ctx context.Context, _ string) error {
				if time.Since(w.start) >= until {
					return nil
				}
				select {
				case <-ctx.Done():
				case <-time.After(until - time.Since(w.start)):
				}
				return ctx.Err()
			}
		}
	}
	tests := map[string]struct {
		fault func(*world)
		took  time.Duration // of each post
		most  time.Duration // until the post
		least time.Duration
	}{
		"nothing": {func(*world) {}, 0, 0, 0},
		"a claim": {late(claim, 5*time.Second), 8 * time.Second, 5 * time.Second, 0},
		"a claim, by most of its lease": {
			late(claim, 24*time.Second), 8 * time.Second, 30 * time.Second, 25 * time.Second,
		},
		"a claim, by more than its lease":   {late(claim, 70*time.Second), 8 * time.Second, 75 * time.Second, 0},
		"a claim without an answer in time": {hangs(claim, 20*time.Second), 8 * time.Second, 40 * time.Second, 0},
		"a claim whose answer is lost": {func(w *world) {
			w.lost[claim] = errDown
			w.after[unclaim] = func(string) { delete(w.lost, claim) }
		}, 8 * time.Second, 3 * time.Second, 0},
		"claims that hang": {func(w *world) {
			w.before[claim] = func(ctx context.Context, _ string) error {
				if time.Since(w.start) > 2*time.Second {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}
		}, 8 * time.Second, 10 * time.Second, 0},
		"a claim and a post":                     {late(claim, 7*time.Second), 10 * time.Second, 7 * time.Second, 0},
		"a mark":                                 {late(settle, 50*time.Second), 10 * time.Second, 0, 0},
		"a mark that hangs":                      {hangs(settle, 34*time.Second), 10 * time.Second, 0, 0},
		"a mark that hangs until nearly the end": {hangs(settle, 55*time.Second), 10 * time.Second, 0, 0},
		// The mark is tried although the lease is over, and before the copy is received again.
		"a post that does not end in time": {func(*world) {}, 58 * time.Second, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				tt.fault(w)
				w.answer = func(int) vapiclient.Receipt { time.Sleep(tt.took); return delivered }
				o := w.outcome(policy.AfterCallEvent)
				w.send(o)
				time.AfterFunc(time.Second, func() { w.send(o) })
				w.run(20 * time.Minute)
				w.want(1, job.StateDelivered, "", 0)
				if len(w.at) > 0 && (w.at[0] > tt.most || w.at[0] < tt.least) {
					t.Errorf("posted after %s, want %s to %s", w.at[0], tt.least, tt.most)
				}
			})
		})
	}
}

// TestNoTimeForAnotherPost tests that no further post begins that could outlive the lease. The outcome is
// claimed again for it.
func TestNoTimeForAnotherPost(t *testing.T) {
	transfer := job.Result{
		Status: job.StatusOK, Delivery: policy.DeliveryControl, Content: "One moment.",
		Control: []byte(`{"type":"transfer","destination":{"type":"number","number":"12345"},"content":"One moment."}`),
	}
	for _, took := range []time.Duration{time.Second, 29 * time.Second, 31 * time.Second} {
		t.Run(took.String(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answer = func(post int) vapiclient.Receipt {
					if post == 1 {
						time.Sleep(took)
						return refused
					}
					return delivered
				}
				w.send(w.finished(w.job("t1"), transfer))
				w.run(10 * time.Minute)
				w.want(2, job.StateDelivered, "", 0)
				again := took > 30*time.Second
				if (w.at[1] > took) != again {
					t.Errorf("posts at %v", w.at)
				}
			})
		})
	}
}

// TestNoTimeForAnOutboundCall tests that no outbound call begins that could outlive the lease.
func TestNoTimeForAnOutboundCall(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.after[claim] = once(7 * time.Second)
		w.answer = func(int) vapiclient.Receipt { time.Sleep(10 * time.Second); return gone }
		w.answerAsk = func(ask int) vapiclient.CallStatus {
			if ask == 1 {
				time.Sleep(10 * time.Second)
			}
			return ended
		}
		w.answerCall = func(int) vapiclient.CallReceipt { time.Sleep(20 * time.Second); return called }
		o := w.outcome(policy.AfterCallOutboundCall)
		w.send(o)
		w.send(o)
		w.run(10 * time.Minute)
		w.wantCalls(1, job.StateDelivered, "")
		if len(w.posts) != 1 || len(w.asks) != 2 {
			t.Errorf("%d posts, asked at %v", len(w.posts), w.asks)
		}
	})
}

// TestSlowProgress makes the claim of a progress line answer late. The line must not follow the result.
func TestSlowProgress(t *testing.T) {
	for _, takes := range []time.Duration{5 * time.Second, 8 * time.Second, 24 * time.Second, 45 * time.Second} {
		t.Run(takes.String(), func(t *testing.T) {
			inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
				w.after[claimProgress] = once(takes)
				w.answer = func(int) vapiclient.Receipt { time.Sleep(8 * time.Second); return delivered }
				w.send(w.added("half"))
				time.AfterFunc(time.Second, func() { w.send(done()) })
				w.run(10 * time.Minute)
				want := []string{"say half", "add t1=done"}
				if takes > 7*time.Second {
					want = want[1:]
				}
				w.wantPosted(want...)
				// The result does not wait for longer than the line was leased.
				if at := w.at[len(w.at)-1]; at > 36*time.Second {
					t.Errorf("the result was posted after %s", at)
				}
				w.want(len(want), job.StateDelivered, "", 0)
			})
		})
	}
}

// TestSlowProgressClaimIsUndone tests that the result does not wait for a line that was given up.
func TestSlowProgressClaimIsUndone(t *testing.T) {
	inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
		w.after[claimProgress] = once(8 * time.Second)
		w.send(w.added("half"))
		w.run(8100 * time.Millisecond)
		w.send(done())
		w.run(time.Millisecond)
		w.wantPosted("add t1=done")
	})
}

// TestUnclaimedIsNotDelivered tests an outcome that became an event because it could not be claimed. Nothing
// delivers it once the table works again.
func TestUnclaimedIsNotDelivered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fail(errDown, claim, unclaim, settle)
		o := w.outcome(policy.AfterCallEvent)
		o.Deadline = w.start.Add(24 * time.Hour)
		w.send(o)
		w.run(30 * time.Minute)
		w.want(0, job.StateDone, job.ReasonUnclaimed, 1)
		w.mend()
		w.run(20 * time.Minute)
		w.want(0, job.StateUndelivered, job.ReasonUnclaimed, 0)
		w.send(o)
		w.run(time.Minute)
		w.want(0, job.StateUndelivered, job.ReasonUnclaimed, 0)
	})
}

// TestMarkOfAnEarlierDelivery has a copy of the message that marks a delivery arrive after the result was made
// deliverable again. The copy must not end the second delivery.
func TestMarkOfAnEarlierDelivery(t *testing.T) {
	const later = 10 * time.Minute
	inWorld(t, func(t *testing.T, w *world) {
		o := w.outcome(policy.AfterCallEvent)
		w.send(o)
		w.run(later)
		w.want(1, job.StateDelivered, "", 0)
		now := w.now()
		again := w.change(o.JobID, job.Redeliver(now, job.Job{ReceivedAt: now, CallEnds: now.Add(time.Hour)}, ""))
		w.send(o.Mark(job.StateDelivered, ""))
		w.run(time.Minute)
		w.want(1, job.StateDone, "", 0)
		w.send(w.job("t1").Outcome(again))
		w.run(time.Minute)
		w.want(2, job.StateDelivered, "", 0)
	})
}

// TestCalledAfterTheDeadline tests results whose deadline passes before an outbound call may be made.
func TestCalledAfterTheDeadline(t *testing.T) {
	for name, tt := range map[string]struct {
		opens, left time.Duration // the hours open after, and the deadline is
		asking      time.Duration // how long Vapi takes to say that the call has ended
		calls       int
		at          time.Duration // of the event
	}{
		"in the hours":                     {0, time.Hour, 0, 1, 0},
		"before the hours":                 {10 * time.Minute, time.Hour, 0, 1, 0},
		"they open after the deadline":     {12 * time.Hour, time.Hour, 0, 0, 0},
		"they open at the deadline":        {time.Hour, time.Hour, 0, 1, 0},
		"the deadline passes while asking": {0, 4 * time.Second, 5 * time.Second, 0, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inChangedWorld(t, func(cfg *callback.Config) {
				opens := time.Now().Add(tt.opens)
				cfg.OutboundCalls.Next = func(now time.Time) time.Time {
					if now.Before(opens) {
						return opens
					}
					return now
				}
			}, func(t *testing.T, w *world) {
				w.answer = answers(gone)
				w.answerAsk = func(int) vapiclient.CallStatus { time.Sleep(tt.asking); return ended }
				o := w.outcome(policy.AfterCallOutboundCall)
				o.Deadline = w.start.Add(tt.left)
				w.send(o)
				w.run(24 * time.Hour)
				state, why := job.StateDelivered, job.Reason("")
				if tt.calls == 0 {
					state, why = job.StateUndelivered, job.ReasonCallGone
				}
				w.wantCalls(tt.calls, state, why)
				for _, u := range w.events {
					if at := u.At.Sub(w.start); at != tt.at {
						t.Errorf("the event was sent after %s", at)
					}
				}
			})
		})
	}
}

// TestOutageInABatch makes the table fail for one outcome of a batch between two steps of another one, while
// there are copies of both.
func TestOutageInABatch(t *testing.T) {
	for _, lasts := range []time.Duration{time.Second, 20 * time.Second, 50 * time.Second} {
		for _, copies := range []bool{false, true} {
			name := lasts.String()
			if copies {
				name += ", and copies"
			}
			t.Run(name, func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					down := func() error {
						if time.Since(w.start) < lasts {
							return errDown
						}
						return nil
					}
					w.before[claim] = func(_ context.Context, id string) error {
						if id == "call-1/t2" {
							return down()
						}
						return nil
					}
					w.before[settle] = func(context.Context, string) error { return down() }
					w.sendAll(policy.DeliveryRespond, policy.DeliveryRespond)
					if copies {
						for _, id := range []string{"t1", "t2"} {
							w.send(w.job(id).Outcome(w.record("call-1/" + id)))
						}
					}
					w.run(20 * time.Minute)
					got := w.posted()
					slices.Sort(got)
					if diff := cmp.Diff([]string{"add t1=A", "add t2=B"}, got); diff != "" {
						t.Error(diff)
					}
					w.wantStates(job.StateDelivered)
				})
			})
		}
	}
}
