package process_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

type onPost = func(context.Context, asynctool.Call, asynctool.Post) (asynctool.Result, error)

// readsText returns an OnPost that takes each body for a result. It counts its calls in n, which may be nil.
func readsText(n *atomic.Int32) onPost {
	return func(_ context.Context, _ asynctool.Call, post asynctool.Post) (asynctool.Result, error) {
		if n != nil {
			n.Add(1)
		}
		return asynctool.Text(string(post.Body)), nil
	}
}

// reader is a tool that waits until its OnPost ends its job.
func reader(on onPost, change func(*tool)) asynctool.Definition {
	t := tool{Deadline: 2 * days, FailureText: "Sorry.", OnPost: on}
	if change != nil {
		change(&t)
	}
	return does(t, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		at, err := call.CompletionURL(ctx)
		if err == nil && at != completionURL+"/posts" {
			err = fmt.Errorf("the URL is %s", at)
		}
		result := asynctool.Wait()
		result.Later.State = remembered
		return result, err
	})
}

// postTo returns the message with a post to a job.
func (w *world) postTo(id, body string) job.Post {
	return job.Post{
		JobID: w.job(id, "tool").ID, Header: http.Header{"X-Signature": {"x"}}, Body: []byte(body), Received: time.Now(),
	}
}

// inWaiting runs a test in which the job t1 of a tool waits for a post.
func inWaiting(t *testing.T, def asynctool.Definition, test func(t *testing.T, w *world)) {
	t.Helper()
	inWorld(t, def, func(t *testing.T, w *world) {
		w.withURLs(urls(nil))
		w.send(w.job("t1", "tool"))
		w.run(time.Second)
		if state := w.record(w.job("t1", "tool")).State; state != job.StateWaiting {
			t.Fatalf("the job is %s", state)
		}
		test(t, w)
	})
}

// TestPost tests what a tool gets, and that its results have the policy of the tool.
func TestPost(t *testing.T) {
	var got []any
	on := func(_ context.Context, call asynctool.Call, post asynctool.Post) (asynctool.Result, error) {
		state, err := asynctool.State[string](call)
		got = append(got, call.JobID, state, post.Header, string(post.Body), post.Received.UTC())
		return asynctool.Text("Done."), err
	}
	inWaiting(t, reader(on, func(t *tool) { t.Delivery = asynctool.Say }), func(t *testing.T, w *world) {
		m := w.postTo("t1", "\xff\x00")
		m.Received = m.Received.Add(-time.Minute).UTC()
		w.send(m)
		w.run(time.Second)
		w.want(result(job.StatusOK, policy.DeliverySay, "Done."), 0, 0)
		want := []any{m.JobID, remembered, http.Header{"X-Signature": {"x"}}, "\xff\x00", m.Received}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("the tool got (-want +got):\n%s", diff)
		}
		if r := w.record(w.job("t1", "tool")); r.State != job.StateDone {
			t.Errorf("the job is %s", r.State)
		}
		w.run(3 * days) // its wake-up is gone
		w.want(result(job.StatusOK, policy.DeliverySay, "Done."), 0, 0)
	})
}

// TestPostEnds tests what follows from what OnPost returns, or does.
func TestPostEnds(t *testing.T) {
	signature := fmt.Errorf("x: %w", asynctool.ErrSignature)
	for name, row := range map[string]struct {
		on    func(n int32) (asynctool.Result, error) // of the n-th call
		want  []job.Result                            // after an hour; nil means that the job waits on
		calls int32
		dead  int
	}{
		"ignored":           {func(int32) (asynctool.Result, error) { return asynctool.Wait(), nil }, nil, 1, 0},
		"a wrong signature": {func(int32) (asynctool.Result, error) { return asynctool.Text("x"), signature }, nil, 1, 0},
		"signature, failed": {func(int32) (asynctool.Result, error) {
			return asynctool.Result{}, asynctool.Fail("It failed.", signature)
		}, nil, 1, 0},
		"no JSON": {func(int32) (asynctool.Result, error) { return asynctool.Text("x"), errDown }, nil, 1, 0},
		"a failure": {func(int32) (asynctool.Result, error) {
			return asynctool.Result{}, asynctool.Fail("It failed.", errDown)
		}, fails("It failed."), 1, 0},
		"a failure without a text": {func(int32) (asynctool.Result, error) {
			return asynctool.Result{}, asynctool.Fail("", errDown)
		}, fails("Sorry."), 1, 0},
		"another try": {func(n int32) (asynctool.Result, error) {
			if n < 3 {
				return asynctool.Result{}, asynctool.TryAgain(time.Minute, "", errDown)
			}
			return asynctool.Text("Done."), nil
		}, done, 3, 0},
		"a panic": {func(n int32) (asynctool.Result, error) {
			if n == 1 {
				panic("oh")
			}
			return asynctool.Text("Done."), nil
		}, done, 2, 0},
		"no time": {func(n int32) (asynctool.Result, error) {
			if n == 1 {
				time.Sleep(time.Hour)
			}
			return asynctool.Text("Done."), nil
		}, done, 2, 0},
		"an unusable result": {func(int32) (asynctool.Result, error) { return asynctool.Text(" "), nil }, nil, 17, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			on := func(context.Context, asynctool.Call, asynctool.Post) (asynctool.Result, error) {
				return row.on(n.Add(1))
			}
			inWaiting(t, reader(on, nil), func(t *testing.T, w *world) {
				w.send(w.postTo("t1", "x"))
				w.run(90 * time.Minute)
				w.want(row.want, 0, row.dead)
				if n.Load() != row.calls {
					t.Errorf("OnPost was called %d times, want %d", n.Load(), row.calls)
				}
				want := job.StateDone
				if row.want == nil {
					want = job.StateWaiting
				}
				if state := w.record(w.job("t1", "tool")).State; state != want {
					t.Errorf("the job is %s", state)
				}
			})
		})
	}
}

// TestFivePosts tests that the first result of several posts at the same time counts.
func TestFivePosts(t *testing.T) {
	var n atomic.Int32
	inWaiting(t, reader(readsText(&n), nil), func(t *testing.T, w *world) {
		w.takes = time.Millisecond
		w.deliver()
		for i := range 5 {
			w.send(w.postTo("t1", fmt.Sprint(i)))
		}
		w.run(time.Hour)
		if len(w.delivered) != 1 || len(w.undelivered) > 0 {
			t.Errorf("delivered: %v, undelivered: %v", w.delivered, w.undelivered)
		}
		w.send(w.postTo("t1", "late"))
		before := n.Load()
		w.run(time.Hour)
		if n.Load() != before || len(w.delivered) != 1 {
			t.Errorf("OnPost was called after the result; delivered: %v", w.delivered)
		}
		w.wantLeft(0, 0)
	})
}

// TestPostToOthers posts to jobs that take no post, or no longer.
func TestPostToOthers(t *testing.T) {
	for name, row := range map[string]struct {
		acts func(w *world)
		want []job.Result
		dead int
	}{
		"cancelled": {acts: func(w *world) { w.change(w.job("t1", "tool"), job.Replace(time.Now(), "x")) }},
		"late":      {acts: func(w *world) { time.Sleep(3 * days) }, want: fails("Sorry.")},
		"no OnPost": {acts: func(w *world) { w.withTools(does(tool{}, notRun(w.t))) }, dead: 1},
		"no tool":   {acts: func(w *world) { w.withTools(does(tool{Name: "other"}, notRun(w.t))) }, dead: 1},
		"another OnPost": {acts: func(w *world) {
			w.withTools(reader(func(context.Context, asynctool.Call, asynctool.Post) (asynctool.Result, error) {
				return asynctool.Wait(), nil
			}, nil))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inWaiting(t, reader(readsText(nil), nil), func(t *testing.T, w *world) {
				row.acts(w)
				w.send(w.postTo("t1", "x"))
				w.run(time.Hour)
				w.want(row.want, 0, row.dead)
			})
		})
	}
	inWorld(t, reader(readsText(nil), nil), func(t *testing.T, w *world) {
		w.send(w.postTo("t1", "x")) // its record has expired
		w.run(time.Hour)
		w.want(nil, 0, 0)
	})
}

// TestPostProgress tests that OnPost can report progress, and gets no completion URL.
func TestPostProgress(t *testing.T) {
	on := func(ctx context.Context, call asynctool.Call, post asynctool.Post) (asynctool.Result, error) {
		if at, err := call.CompletionURL(ctx); err == nil {
			return asynctool.Textf("The URL is %s.", at), nil
		}
		call.Note(ctx, said)
		return asynctool.Wait(), nil
	}
	inWaiting(t, reader(on, nil), func(t *testing.T, w *world) {
		w.deliver()
		w.send(w.postTo("t1", "x"))
		w.run(time.Minute)
		want := []delivery{{"call-1", "call-1/t1", said}}
		if diff := gocmp.Diff(want, w.progress); diff != "" || len(w.delivered) > 0 {
			t.Errorf("progress (-want +got):\n%s\ndelivered: %v", diff, w.delivered)
		}
	})
}

// TestPostStoring tests that a result of a post is stored and sent although the table, or the queue, fails.
func TestPostStoring(t *testing.T) {
	for _, step := range []string{"load", "complete", "outcomes"} {
		t.Run(step, func(t *testing.T) {
			inWaiting(t, reader(readsText(nil), nil), func(t *testing.T, w *world) {
				w.deliver()
				if step == "outcomes" {
					n := 0
					w.out.fail = func(job.Outcome) error {
						if n++; n > 3 {
							return nil
						}
						return errDown
					}
				} else {
					w.failingTimes(step, 3)
				}
				w.send(w.postTo("t1", "It is signed."))
				w.run(time.Hour)
				w.wantDelivered(delivery{"call-1", "call-1/t1", "It is signed."})
				w.wantLeft(0, 0)
			})
		})
	}
}

// withTools deploys a function with other tools.
func (w *world) withTools(tools ...asynctool.Definition) {
	w.t.Helper()
	var err error
	if w.set, err = asynctool.NewSet(tools...); err != nil {
		w.t.Fatal(err)
	}
	w.deploy()
}
