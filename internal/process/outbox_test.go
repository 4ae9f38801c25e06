package process_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

func TestSomeOutcomesOfABatchAreNotSent(t *testing.T) {
	inWorld(t, does(tool{}, returns(asynctool.Text("Done."), nil)), func(t *testing.T, w *world) {
		w.out.takes = 20 * time.Millisecond // so that they share requests
		broken := true
		w.out.fail = func(o job.Outcome) error {
			if broken && strings.Contains("t0 t1 t4", o.ToolCallID) {
				return errDown
			}
			return nil
		}
		var all []string
		for i := range 10 {
			all = append(all, fmt.Sprint("t", i))
			w.send(w.job(all[i], "tool"))
		}
		w.run(time.Second)
		if len(w.out.sent) != 7 || w.jobs.Len() != 3 {
			t.Fatalf("%d sent, %d messages left", len(w.out.sent), w.jobs.Len())
		}
		broken = false
		w.run(5 * time.Second)
		var sent []string
		for _, o := range w.out.sent {
			sent = append(sent, o.ToolCallID)
		}
		slices.Sort(sent)
		if diff := gocmp.Diff(all, sent); diff != "" || w.jobs.Len() != 0 {
			t.Errorf("%d messages left; sent:\n%s", w.jobs.Len(), diff)
		}
		if r := w.record(w.job("t1", "tool")); r.Attempt != 1 {
			t.Errorf("%d attempts", r.Attempt)
		}
	})
}

// TestBatchTogether checks that a batch runs concurrently, that its outcomes share requests, and
// that none waits for a slow one.
func TestBatchTogether(t *testing.T) {
	delays := map[string]time.Duration{"slow": time.Minute}
	def := does(tool{}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		time.Sleep(cmp.Or(delays[call.ToolCallID], time.Second))
		return asynctool.Text("Done."), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		w.out.takes = 20 * time.Millisecond
		w.send(w.job("slow", "tool"))
		for i := range 9 {
			w.send(w.job(fmt.Sprint("t", i), "tool"))
		}
		w.run(time.Second)
		if len(w.out.sent) != 10 || w.jobs.Len() != 0 {
			t.Fatalf("%d sent, %d messages left", len(w.out.sent), w.jobs.Len())
		}
		// The first to be ready goes at once, the others share the next request.
		if w.out.sends > 3 {
			t.Errorf("%d requests", w.out.sends)
		}
		if fast := w.out.at[:9]; slices.Max(fast) > 1040*time.Millisecond {
			t.Errorf("the fast ones were sent at %v", fast)
		}
		if w.out.at[9] != time.Minute+20*time.Millisecond || w.out.sent[9].ToolCallID != "slow" {
			t.Errorf("the slow one was sent at %s", w.out.at[9])
		}
	})
}

// TestBatchLargerThanARequest sends more outcomes at once than one request takes.
func TestBatchLargerThanARequest(t *testing.T) {
	inWorld(t, does(tool{}, returns(asynctool.Text("Done."), nil)), func(t *testing.T, w *world) {
		w.out.takes = 20 * time.Millisecond
		var event events.SQSEvent
		for i := range 35 {
			event.Records = append(event.Records, events.SQSMessage{
				MessageId: fmt.Sprint("m", i), Body: w.encode(w.job(fmt.Sprint("t", i), "tool")),
			})
		}
		response, err := w.handle(t.Context(), event)
		if err != nil || len(response.BatchItemFailures) > 0 || len(w.out.sent) != 35 {
			t.Errorf("%d sent, response %v, error %v", len(w.out.sent), response, err)
		}
		if w.out.sends > 5 {
			t.Errorf("%d requests", w.out.sends)
		}
	})
}

// gatherTime is how long the outcome of a job waits for those of others that still run.
const gatherTime = time.Millisecond

// TestReadyTogether finishes jobs of one call at different times. Each outcome has a message of its own, so that no
// decision about one of them can affect another. Those that are ready at the same time share a request, and none waits
// for the tool of another one.
func TestReadyTogether(t *testing.T) {
	at := map[string]time.Duration{
		"t1": time.Second, "t2": time.Second, "t3": 1200 * time.Millisecond, "t4": 10 * time.Second,
	}
	def := does(tool{}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		time.Sleep(at[call.ToolCallID])
		return asynctool.Text(call.ToolCallID), nil
	})
	inWorld(t, def, func(t *testing.T, w *world) {
		var messages []queue.Message
		for id := range at {
			j := w.job(id, "tool")
			messages = append(messages, queue.Message{Body: w.encode(j), Group: queue.Group(j.Call.ID)})
		}
		if err := errors.Join(w.jobs.Send(t.Context(), messages)...); err != nil {
			t.Fatal(err)
		}
		w.run(time.Minute)
		got := make(map[string]time.Duration)
		for i, o := range w.out.sent {
			if len(o.With) > 0 {
				t.Errorf("the message of %s carries other outcomes", o.ToolCallID)
			}
			got[o.ToolCallID] = w.out.at[i]
		}
		want := make(map[string]time.Duration)
		for id, ready := range at {
			want[id] = ready + gatherTime
		}
		want["t4"] = at["t4"] // the last one
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if w.out.sends != 3 {
			t.Errorf("%d requests", w.out.sends)
		}
	})
}

// TestOutcomesWaitForTheAnswer tests that an outcome waits, alone, if the answer to its webhook may hold its
// result. Otherwise it is sent at once.
func TestOutcomesWaitForTheAnswer(t *testing.T) {
	def := does(tool{}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		time.Sleep(time.Second)
		if call.ToolCallID == "word for word" {
			return asynctool.Result{Text: "Done.", Delivery: asynctool.Say}, nil
		}
		return asynctool.Text("Done."), nil
	})
	want := map[string]time.Duration{
		"quick": 5 * time.Second, "quick, too": 5 * time.Second, "too slow": 0, "word for word": 0, "ordinary": 0,
	}
	inWorld(t, def, func(t *testing.T, w *world) {
		for _, id := range slices.Sorted(maps.Keys(want)) {
			j := w.job(id, "tool")
			switch id {
			case "ordinary":
			case "too slow":
				j.AnswerUntil = w.start.Add(500 * time.Millisecond)
			default:
				j.AnswerUntil = w.start.Add(6 * time.Second)
			}
			w.send(j)
		}
		w.run(time.Second)
		got := make(map[string]time.Duration)
		for i, o := range w.out.sent {
			for _, one := range o.All() {
				got[one.ToolCallID] = w.out.delays[i].Round(time.Second)
			}
			if len(o.With) > 0 && want[o.ToolCallID] > 0 {
				t.Errorf("%s is sent together with %d others", o.ToolCallID, len(o.With))
			}
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
