package callback_test

import (
	"context"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

// TestReplayWithoutDelivery handles the outcome of a replay whose result is not to be delivered. Nothing is posted or
// sent, whatever follows after the calls of the tool, and the record keeps the result.
func TestReplayWithoutDelivery(t *testing.T) {
	failed := job.Result{Status: job.StatusError, Delivery: policy.DeliveryRespond, Content: content}
	for name, row := range map[string]struct {
		result job.Result
		after  policy.AfterCall
		fail   string // a step that fails for some time
	}{
		"a result":                {respond(content), policy.AfterCallEvent, ""},
		"a failure":               {failed, policy.AfterCallEvent, ""},
		"an action":               {endsCall, policy.AfterCallEvent, ""},
		"an outbound call":        {respond(content), policy.AfterCallOutboundCall, ""},
		"for the next call":       {respond(content), policy.AfterCallNextCall, ""},
		"dropped":                 {respond(content), policy.AfterCallDrop, ""},
		"it cannot be marked yet": {respond(content), policy.AfterCallEvent, settle},
		"its call cannot end":     {respond(content), policy.AfterCallEvent, endCall},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				j := w.job("t1").Replay(w.start, nil).WithoutCustomer()
				if _, err := w.tracker.Live(t.Context(), j.Call.ID, w.now()); err != nil {
					t.Fatal(err)
				}
				o := w.finish(j, w.running(j, row.after), row.result)
				if row.fail != "" {
					broken := time.Now().Add(10 * time.Minute)
					w.before[row.fail] = func(context.Context, string) error {
						if time.Now().Before(broken) {
							return errDown
						}
						return nil
					}
				}
				w.send(o)
				w.run(time.Hour)
				r := w.record(j.ID)
				steps := r.Steps()
				if r.State != job.StateReplayed || r.Result == nil || r.Result.Content != row.result.Content ||
					len(steps) == 0 || steps[len(steps)-1].Kind != job.StepReplayed {
					t.Errorf("%+v", r)
				}
				w.wantPosted()
				w.wantLeft(0)
				if len(w.calls) != 0 {
					t.Errorf("outbound calls: %+v", w.calls)
				}
				if ended, err := w.tracker.Ended(t.Context(), j.Call.ID); err != nil || ended.IsZero() && row.fail != endCall {
					t.Errorf("its call ended at %s, %v", ended, err)
				}
			})
		})
	}
}

// TestOnlyReplaysKeepResults delivers the results of jobs that ask not to, and are not replays without a call.
func TestOnlyReplaysKeepResults(t *testing.T) {
	for name, change := range map[string]func(job.Job) job.Job{
		"no replay":            func(j job.Job) job.Job { return j },
		"a replay in its call": func(j job.Job) job.Job { return j.Replay(j.ReceivedAt, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				j := change(w.job("t1"))
				j.KeepResult = true
				w.send(w.finished(j, respond(content)))
				w.run(time.Minute)
				if r := w.record(j.ID); r.State != job.StateDelivered || len(w.posts) != 1 {
					t.Errorf("%d posts, %+v", len(w.posts), r)
				}
			})
		})
	}
}
