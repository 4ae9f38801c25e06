package callback_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// line returns a progress line of t1, which is spoken.
func (w *world) line(sequence int, text string) job.Outcome {
	return w.job("t1").ProgressOutcome(sequence, text, false, job.Record{Deadline: w.start.Add(time.Hour)})
}

// added returns a progress line that its tool has added to the record.
func (w *world) added(text string) job.Outcome {
	w.t.Helper()
	return w.line(w.change("call-1/t1", job.AddProgress(w.now(), text)).Progress.Sequence, text)
}

// inRunningWorld runs a test while the tool of t1 runs. done returns its outcome, once it is done.
func inRunningWorld(t *testing.T, test func(t *testing.T, w *world, done func() job.Outcome)) {
	t.Helper()
	inWorld(t, func(t *testing.T, w *world) {
		running := w.running(w.job("t1"), policy.AfterCallEvent)
		test(t, w, func() job.Outcome { return w.finish(w.job("t1"), running, respond("done")) })
	})
}

func TestProgress(t *testing.T) {
	const silent = "[async tool progress] tool=order_status tool_call_id=t1\nThis is not the result yet.\n"
	tests := map[string]struct {
		silent bool
		want   vapi.ControlMessage
	}{
		"spoken":   {false, vapi.Say{Content: "half of it"}},
		"silently": {true, vapi.AddMessage{Silent: true, Content: silent + framed("half of it")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
				o := w.added("half of it")
				o = w.job("t1").ProgressOutcome(o.Sequence, "half of it", tt.silent, job.Record{Deadline: o.Deadline})
				w.send(o)
				w.send(o)
				time.AfterFunc(time.Minute, func() { w.send(o) })
				w.run(5 * time.Minute)
				if diff := cmp.Diff([]vapi.ControlMessage{tt.want}, w.posts); diff != "" {
					t.Error(diff)
				}
				w.want(1, job.StateRunning, "", 0)
				w.send(done())
				w.run(time.Minute)
				w.want(2, job.StateDelivered, "", 0)
			})
		})
	}
}

// TestProgressAnswer tests that the history has the answer to a line, so that a line after the end of the call does not
// look like one that was heard.
func TestProgressAnswer(t *testing.T) {
	for want, receipt := range map[string]vapiclient.Receipt{
		"1/200": delivered, "1/404": gone, "1/no answer": {Verdict: vapiclient.TryAgain, Err: errDown},
	} {
		for _, line := range []func(w *world, text string) job.Outcome{(*world).added, (*world).kept} {
			inRunningWorld(t, func(t *testing.T, w *world, _ func() job.Outcome) {
				w.answer = answers(receipt)
				o := line(w, "half")
				w.send(o)
				w.run(20 * time.Minute)
				steps := w.record(o.JobID).Steps()
				if last := steps[len(steps)-1]; last.Kind != job.StepSpoken || last.Detail != want {
					t.Errorf("kept: %t: the last step is %+v, want %s", o.Kept, last, want)
				}
			})
		}
	}
}

// TestProgressIsDropped tests lines that are not worth a post.
func TestProgressIsDropped(t *testing.T) {
	const noRecord, tableDown = "no record", "the table is down"
	tests := map[string]func(w *world, o *job.Outcome, done func() job.Outcome){
		"after the result": func(_ *world, _ *job.Outcome, done func() job.Outcome) { done() },
		"after the result was delivered": func(w *world, o *job.Outcome, done func() job.Outcome) {
			done()
			w.settled(o.JobID)
		},
		"after a later one": func(w *world, _ *job.Outcome, _ func() job.Outcome) {
			time.Sleep(job.ProgressPause)
			w.added("three quarters")
		},
		"already posted": func(w *world, o *job.Outcome, _ func() job.Outcome) {
			r := w.change(o.JobID, job.ClaimProgress(w.now(), o.Sequence, time.Minute))
			w.change(r.ID, job.EndProgress(r))
		},
		"the hold message, after a line": func(w *world, o *job.Outcome, _ func() job.Outcome) {
			*o = w.line(0, "It takes longer.")
		},
		"after the deadline": func(w *world, o *job.Outcome, _ func() job.Outcome) {
			o.Deadline = w.now().Add(-time.Second)
		},
		"no control URL": func(_ *world, o *job.Outcome, _ func() job.Outcome) { o.Call.ControlURL = "" },
		"nothing to say": func(w *world, o *job.Outcome, _ func() job.Outcome) { *o = w.line(1, "\u200b") },
		noRecord:         func(w *world, _ *job.Outcome, _ func() job.Outcome) { *w.store = memtable.Store{} },
		tableDown:        func(w *world, _ *job.Outcome, _ func() job.Outcome) { w.fail(errDown, claimProgress) },
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
				o := w.added("half")
				prepare(w, &o, done)
				w.send(o)
				w.run(time.Millisecond)
				if left := w.results.Len(); left > 0 && name != noRecord && name != tableDown {
					t.Errorf("it is retried: %d messages left", left)
				}
				w.run(10 * time.Minute)
				w.wantPosted()
				w.wantLeft(0)
				// Not all of this is logged, and the world expects that something is.
				if _, err := w.handler.Handle(t.Context(), poisonous); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestHoldMessage posts the hold message once, and only before any other line.
func TestHoldMessage(t *testing.T) {
	inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
		hold := w.line(0, "It takes longer.")
		w.send(hold)
		w.run(10 * time.Second)
		w.send(hold)
		w.run(time.Second)
		w.send(w.added("half"))
		w.run(10 * time.Second)
		w.send(hold)
		w.run(10 * time.Second)
		w.send(done())
		w.run(time.Second)
		w.send(hold)
		w.run(time.Minute)
		w.wantPosted("say It takes longer.", "say half", "add t1=done")
		w.wantLeft(0)
	})
}

// TestProgressIsNotRepeated tests lines that the call does not accept.
func TestProgressIsNotRepeated(t *testing.T) {
	for name, receipt := range map[string]vapiclient.Receipt{
		"try again":     failing,
		"try later":     {Verdict: vapiclient.TryAgain, Status: 429, RetryAfter: time.Minute},
		"misconfigured": {Verdict: vapiclient.Misconfigured, Status: 401},
		"gone":          gone,
		"refused":       refused,
	} {
		t.Run(name, func(t *testing.T) {
			inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
				w.answer = answers(receipt, delivered)
				w.wantLive(true)
				w.send(w.added("half"))
				w.run(10 * time.Minute)
				w.wantPosted("say half")
				w.wantLeft(0)
				w.wantLive(receipt.Verdict != vapiclient.Gone)
				// The result comes at once.
				w.send(done())
				w.run(time.Millisecond)
				w.want(2, job.StateDelivered, "", 0)
			})
		})
	}
}

// kept adds a kept line to the record, and returns it.
func (w *world) kept(text string) job.Outcome {
	w.t.Helper()
	o := w.line(w.change("call-1/t1", job.AddReport(w.now(), text, text)).Progress.Sequence, text)
	o.Kept = true
	return o
}

// TestKeptLine tests that a kept line is posted until the call has it, and that its tool learns of it.
func TestKeptLine(t *testing.T) {
	half := func(n int) []string { return slices.Repeat([]string{"say half"}, n) }
	for name, tt := range map[string]struct {
		prepare func(w *world, o *job.Outcome) // may be nil
		answer  func(post int) vapiclient.Receipt
		posted  []string
		heard   bool
	}{
		"at once": {nil, answers(delivered), half(1), true},
		"copies": {func(w *world, o *job.Outcome) {
			w.send(*o)
			time.AfterFunc(time.Minute, func() { w.send(*o) })
		}, answers(delivered), half(1), true},
		"after some time": {nil, answers(failing, failing, delivered), half(3), true},
		"never":           {nil, answers(failing), half(callback.MaxPosts), false},
		"refused":         {nil, answers(refused), half(1), false},
		"gone":            {nil, answers(gone), half(1), false},
		"unconfirmed":     {nil, answers(vapiclient.Receipt{Verdict: vapiclient.Unconfirmed}), half(1), false},
		"no control URL":  {func(_ *world, o *job.Outcome) { o.Call.ControlURL = "" }, nil, nil, false},
		"nothing to say":  {func(_ *world, o *job.Outcome) { o.Result.Content = "\u200b" }, nil, nil, false},
		"too late":        {func(w *world, o *job.Outcome) { o.Deadline = w.now().Add(-time.Second) }, nil, nil, false},
		"claim fails at first": {func(w *world, _ *job.Outcome) {
			w.fail(errDown, claimProgress)
			time.AfterFunc(20*time.Second, w.mend)
		}, answers(delivered), half(1), true},
		"died after its claim": {func(w *world, o *job.Outcome) {
			w.change(o.JobID, job.ClaimProgress(w.now(), o.Sequence, 30*time.Second))
		}, answers(delivered), half(1), true},
	} {
		t.Run(name, func(t *testing.T) {
			inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
				if tt.answer != nil {
					w.answer = tt.answer
				}
				o := w.kept("half")
				if tt.prepare != nil {
					tt.prepare(w, &o)
				}
				w.send(o)
				w.run(20 * time.Minute)
				w.wantPosted(tt.posted...)
				w.wantLeft(0)
				if p := w.record(o.JobID).Progress; p.SettledAt.IsZero() || p.Heard != tt.heard {
					t.Errorf("the line is %+v", p)
				}
				// The result comes at once.
				w.answer = answers(delivered)
				w.send(done())
				w.run(time.Millisecond)
				w.want(len(tt.posted)+1, job.StateDelivered, "", 0)
			})
		})
	}
}

// TestResultWaitsForProgress tests a result that arrives while a progress line is posted.
func TestResultWaitsForProgress(t *testing.T) {
	for name, took := range map[string]time.Duration{"quick": time.Second / 2, "slow": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
				w.answer = func(post int) vapiclient.Receipt {
					if post == 1 {
						time.Sleep(took)
					}
					return delivered
				}
				w.send(w.added("half"))
				time.AfterFunc(took/10, func() { w.send(done()) })
				w.run(time.Minute)
				w.wantPosted("say half", "add t1=done")
				w.want(2, job.StateDelivered, "", 0)
				// The caller waits, so it must not take as long as the lease.
				if at := w.at[1]; at < took || at > took+6*time.Second {
					t.Errorf("the progress line took %s, and the result was posted after %s", took, at)
				}
			})
		})
	}
}

// TestNextLineWaitsForProgress tests a line that arrives while another one is posted.
func TestNextLineWaitsForProgress(t *testing.T) {
	inRunningWorld(t, func(t *testing.T, w *world, _ func() job.Outcome) {
		w.answer = func(int) vapiclient.Receipt { time.Sleep(8 * time.Second); return delivered }
		w.send(w.added("half"))
		time.AfterFunc(job.ProgressPause, func() { w.send(w.added("most")) })
		w.run(time.Minute)
		w.wantPosted("say half", "say most")
		if at := w.at[1]; at < 8*time.Second || at > 12*time.Second {
			t.Errorf("the second line was posted after %s", at)
		}
		w.wantLeft(0)
	})
}

// TestProgressDied tests a progress line whose end was not recorded. The result waits for the end
// of its lease, and no longer.
func TestProgressDied(t *testing.T) {
	for name, tt := range map[string]struct {
		post   func(w *world)
		posted []string
	}{
		"before the post": {func(w *world) {
			o := w.added("half")
			w.change(o.JobID, job.ClaimProgress(w.now(), o.Sequence, 30*time.Second))
			w.send(o)
		}, []string{"add t1=done"}},
		"in the post": {func(w *world) {
			w.answer = func(post int) vapiclient.Receipt {
				if post == 1 {
					panic("a bug")
				}
				return delivered
			}
			w.send(w.added("half"))
			w.run(time.Millisecond)
		}, []string{"say half", "add t1=done"}},
		"after the post": {func(w *world) {
			w.fail(errDown, endProgress)
			w.send(w.added("half"))
			w.run(time.Millisecond)
		}, []string{"say half", "add t1=done"}},
	} {
		t.Run(name, func(t *testing.T) {
			inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
				tt.post(w)
				w.send(done())
				w.run(29 * time.Second)
				if len(w.posts) != len(tt.posted)-1 {
					t.Errorf("posted %v before the end of the lease", w.posted())
				}
				w.run(3 * time.Second)
				w.wantPosted(tt.posted...)
				w.want(len(tt.posted), job.StateDelivered, "", 0)
			})
		})
	}
}

func TestProgressIsClaimedAtTheSecondTry(t *testing.T) {
	inRunningWorld(t, func(t *testing.T, w *world, _ func() job.Outcome) {
		w.fail(errDown, claimProgress)
		w.send(w.added("half"))
		w.run(500 * time.Millisecond)
		w.mend()
		w.run(time.Minute)
		w.wantPosted("say half")
		w.wantLeft(0)
	})
}

// TestWithItsOwnProgress delivers a line and the result in one batch. Either may arrive first, but
// the line is not posted after the result.
func TestWithItsOwnProgress(t *testing.T) {
	inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
		w.send(w.added("half"))
		w.send(done())
		w.run(time.Minute)
		got := w.posted()
		if !slices.Equal(got, []string{"add t1=done"}) && !slices.Equal(got, []string{"say half", "add t1=done"}) {
			t.Error(got)
		}
		w.wantLeft(0)
	})
}

// TestNoRoundWithProgress delivers a silent line and the result of another job in one batch. The
// result does not wait for the line.
func TestNoRoundWithProgress(t *testing.T) {
	inRunningWorld(t, func(t *testing.T, w *world, _ func() job.Outcome) {
		o := w.added("half")
		w.send(w.job("t1").ProgressOutcome(o.Sequence, "half", true, job.Record{Deadline: o.Deadline}))
		w.send(w.finished(w.job("t2"), respond(content)))
		w.run(time.Minute)
		if diff := cmp.Diff([]time.Duration{0, 0}, w.at); diff != "" {
			t.Error(diff)
		}
		w.wantLeft(0)
	})
}

// TestRecordingTheEndHangs tests that the outcome does not wait if recording the call's end hangs.
func TestRecordingTheEndHangs(t *testing.T) {
	inRunningWorld(t, func(t *testing.T, w *world, done func() job.Outcome) {
		w.before[endCall] = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}
		w.answer = answers(gone)
		w.send(w.added("half"))
		w.run(10 * time.Second)
		w.wantLeft(0)
		w.send(done())
		w.run(10 * time.Second)
		w.want(2, job.StateUndelivered, job.ReasonCallGone, 0)
	})
}

// TestProgressOfAChat tests a line that a chat cannot hear.
func TestProgressOfAChat(t *testing.T) {
	inChangedWorld(t, func(cfg *callback.Config) {
		cfg.ChatClient = chatting(func(vapiclient.NewChat) vapiclient.Receipt {
			t.Error("it was posted to the chat")
			return delivered
		})
	}, func(t *testing.T, w *world) {
		w.running(w.job("t1"), policy.AfterCallEvent)
		o := w.added("half")
		o.Call.Type, o.Call.ControlURL = "chat", ""
		w.send(o)
		w.run(time.Minute)
		w.wantLeft(0)
		w.wantPosted()
		w.sendBody("?") // so that something is logged
		w.run(time.Millisecond)
	})
}
