package operator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
)

// dead is implemented by [operator.Dead] and [operator.LocalDead].
type dead interface {
	List(ctx context.Context, name string) (operator.DeadList, error)
	Show(ctx context.Context, id string, data bool) (operator.DeadDetails, error)
	Redrive(ctx context.Context, s operator.DeadSelection) (operator.Handled, error)
	Drop(ctx context.Context, s operator.DeadSelection) (operator.Handled, error)
}

// deadQueue is a dead-letter queue with messages of EventBridge Scheduler, which fails to delete.
type deadQueue struct {
	*memqueue.DeadLetters
	attributes map[string]map[string]string // by body
	broken     bool                         // Delete fails, as if the program had ended before
	hidden     time.Duration                // for how long the last message was hidden
}

func (q *deadQueue) Receive(ctx context.Context, most int, hide time.Duration) ([]queue.DeadLetter, error) {
	q.hidden = hide
	letters, err := q.DeadLetters.Receive(ctx, most, hide)
	for i, l := range letters {
		letters[i].Attributes = q.attributes[l.Body]
	}
	return letters, err
}

func (q *deadQueue) Delete(ctx context.Context, receipt string) error {
	if q.broken {
		return errors.New("interrupted")
	}
	return q.DeadLetters.Delete(ctx, receipt)
}

// deadWorld is Ringback in one process, with its dead letters.
type deadWorld struct {
	*pipeline.Pipeline
	dead, far     dead
	near          *operator.Dead // is dead
	jobs, results *deadQueue
	up            atomic.Bool // the tools and the bus work

	mu    sync.Mutex
	tools map[string]int // how many times each was started
}

// starts returns how many times a tool was started.
func (w *deadWorld) starts(tool string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tools[tool]
}

// bus takes events only while the world is up.
type bus struct {
	pipeline.EventBus
	w *deadWorld
}

func (b bus) SendUndelivered(ctx context.Context, u job.Undelivered) error {
	if !b.w.up.Load() {
		return errors.New("the bus is down")
	}
	return b.EventBus.SendUndelivered(ctx, u)
}

// inDeadWorld runs a test with simulated time, near to the queues and through a local run's HTTP routes.
func inDeadWorld(t *testing.T, test func(t *testing.T, w *deadWorld, d dead)) {
	for _, far := range []bool{false, true} {
		t.Run(map[bool]string{false: "deployment", true: "local"}[far], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newDeadWorld(t)
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); w.Run(ctx) }()
				defer func() { stop(); <-done }()
				d := w.dead
				if far {
					d = w.far
				}
				test(t, w, d)
			})
		})
	}
}

func newDeadWorld(t *testing.T) *deadWorld {
	t.Helper()
	w := &deadWorld{tools: map[string]int{}}
	type in struct {
		Planted string `json:"planted"`
	}
	tool := func(name string, timeout time.Duration) asynctool.Definition {
		return asynctool.Tool[in]{
			Name: name, Description: "x", Timeout: timeout,
			Run: func(context.Context, asynctool.Call, in) (asynctool.Result, error) {
				w.mu.Lock()
				w.tools[name]++
				w.mu.Unlock()
				if !w.up.Load() {
					return asynctool.Result{}, asynctool.TryAgain(0, "Sorry.", errors.New("planted cause"))
				}
				return asynctool.Text("Done."), nil
			},
		}
	}
	set, err := asynctool.NewSet(tool("short", time.Second), tool("long", 10*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	w.Pipeline, err = pipeline.New(pipeline.Config{Tools: set, Decorators: pipeline.Decorators{
		Events: func(b pipeline.EventBus) pipeline.EventBus { return bus{b, w} },
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.jobs = &deadQueue{DeadLetters: w.DeadJobs.DeadLetters(), attributes: map[string]map[string]string{}}
	w.results = &deadQueue{DeadLetters: w.DeadResults.DeadLetters()}
	near, err := operator.NewDead(operator.DeadConfig{
		Table: w.Table, DeadJobs: w.jobs, DeadResults: w.results, Jobs: w.Jobs, Results: w.Results,
		LongJobs: w.LongJobs, LongJobsName: w.LongJobs.Name(),
	})
	if err != nil {
		t.Fatal(err)
	}
	local, err := operator.NewLocal("127.0.0.1:1", token)
	if err != nil {
		t.Fatal(err)
	}
	operator.ServeInProcess(local, operator.DeadHandler(near, token))
	w.dead, w.near, w.far = near, near, local.Dead()
	return w
}

// post posts the webhook of a tool call, and returns the id of its job.
func (w *deadWorld) post(t *testing.T, call, tool string) string {
	t.Helper()
	body, err := simcall.Webhook(simcall.Request{
		CallID: call, ToolCallID: "t", Tool: tool, Body: map[string]any{"async": true}, Number: number,
		ControlURL: "https://x.vapi.ai/" + call + "/control", Arguments: map[string]any{"planted": "argument"},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	w.Front.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/vapi", strings.NewReader(string(body))))
	if answer.Code != http.StatusOK {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	return job.ID(call, "t", tool, []byte(`{"planted":"argument"}`))
}

// list lists the dead letters, and checks that they are visible again.
func (w *deadWorld) list(t *testing.T, d dead) []operator.DeadLetter {
	t.Helper()
	var last []operator.DeadLetter
	for range 2 {
		l, err := d.List(t.Context(), "")
		if err != nil || !l.All || l.Count != len(l.Letters) {
			t.Fatalf("%+v, %v", l, err)
		}
		if last != nil && len(l.Letters) != len(last) {
			t.Errorf("the list hides messages: %d, then %d", len(last), len(l.Letters))
		}
		last = l.Letters
	}
	return last
}

// TestDeadJobs lists, shows, redrives and drops jobs whose attempts are used up.
func TestDeadJobs(t *testing.T) {
	inDeadWorld(t, func(t *testing.T, w *deadWorld, d dead) {
		if l, err := d.List(t.Context(), ""); err != nil || len(l.Letters) != 0 || !l.All {
			t.Errorf("%+v, %v", l, err)
		}
		id, long := w.post(t, "c1", "short"), w.post(t, "c2", "long")
		time.Sleep(2 * time.Hour)
		letters := w.list(t, d)
		if len(letters) != 2 {
			t.Fatalf("%+v", letters)
		}
		for _, l := range letters {
			if l.Queue != operator.JobsQueue || l.Kind != "job" || l.Job != id && l.Job != long ||
				l.State != job.StateDelivered || l.Loss != operator.LossNothing || l.Receives < 17 ||
				!strings.HasSuffix(l.Why, ": planted cause") || time.Since(l.Sent) < time.Hour {
				t.Errorf("%+v", l)
			}
		}
		for _, data := range []bool{false, true} {
			s, err := d.Show(t.Context(), long, data)
			text, _ := json.Marshal(s)
			if err != nil || s.Job != long || s.Source != "long-jobs" || s.Call != job.CallHash("c2") ||
				strings.Contains(string(text), "argument") != data || (s.CallID != "") != data {
				t.Errorf("%s, %v", text, err)
			}
			for _, never := range []string{"5550100", "/control"} {
				if strings.Contains(string(text), never) {
					t.Errorf("it contains %s: %s", never, text)
				}
			}
		}
		if _, err := d.Show(t.Context(), "j_unknown", false); !errors.Is(err, operator.ErrNoDeadLetter) {
			t.Errorf("%v", err)
		}
		unknown := operator.DeadSelection{IDs: []string{"j_unknown"}}
		if _, err := d.Redrive(t.Context(), unknown); !errors.Is(err, operator.ErrNoDeadLetter) {
			t.Errorf("%v", err)
		}
		if h, err := d.Drop(t.Context(), operator.DeadSelection{IDs: []string{}}); err == nil || len(h.Done) != 0 {
			t.Errorf("without a selection: %+v, %v", h, err)
		}

		starts := w.starts("short")
		w.up.Store(true)
		h, err := d.Redrive(t.Context(), operator.DeadSelection{IDs: []string{id}})
		if err != nil || len(h.Done) != 1 || h.Done[0].Job != id || len(h.Failed) != 0 || w.DeadJobs.Len() != 1 {
			t.Errorf("%+v, %v", h, err)
		}
		if h, err = d.Drop(t.Context(), operator.DeadSelection{IDs: []string{long}}); err != nil || len(h.Done) != 1 {
			t.Errorf("%+v, %v", h, err)
		}
		time.Sleep(time.Hour)
		if w.starts("short") != starts || w.Len() != 0 || len(w.list(t, d)) != 0 {
			t.Errorf("started %d times, %d messages", w.starts("short"), w.Len())
		}
		for _, call := range []string{"c1", "c2"} {
			if n := len(w.Calls.Messages(call)); n != 1 {
				t.Errorf("%d messages were delivered in %s", n, call)
			}
		}
		// It is an hour after the tool call.
		if sent := w.Events.Sent(); len(sent) != 1 || sent[0].JobID != id {
			t.Errorf("events: %+v", sent)
		}
	})
}

// unclaimed puts a job on the dead-letter queue that was never claimed.
func (w *deadWorld) unclaimed(t *testing.T, call string) string {
	t.Helper()
	j := job.Job{
		ID: job.ID(call, "t", "short", []byte(`{}`)), ToolCallID: "t", Tool: "short",
		Arguments: json.RawMessage(`{"planted":"argument"}`),
		Call:      job.Call{ID: call, ControlURL: "https://x.vapi.ai/" + call + "/control"}, ReceivedAt: time.Now(),
		CallEnds: time.Now().Add(time.Hour),
	}
	body, err := j.Encode()
	if err == nil {
		err = w.DeadJobs.Send(t.Context(), []queue.Message{{Body: body, Group: call}})[0]
	}
	if err != nil {
		t.Fatal(err)
	}
	return j.ID
}

// TestRedriveIsInterrupted sends messages and cannot delete them. They are redriven once more.
func TestRedriveIsInterrupted(t *testing.T) {
	inDeadWorld(t, func(t *testing.T, w *deadWorld, d dead) {
		w.up.Store(true)
		w.Calls.Begin(callOf("c1"))
		id := w.unclaimed(t, "c1")
		w.jobs.broken = true
		h, err := d.Redrive(t.Context(), operator.DeadSelection{})
		if err != nil || len(h.Done) != 0 || len(h.Failed) != 1 || h.Failed[0].Job != id || w.DeadJobs.Len() != 1 {
			t.Fatalf("%+v, %v", h, err)
		}
		time.Sleep(time.Minute)
		w.jobs.broken = false
		h, err = d.Redrive(t.Context(), operator.DeadSelection{Queue: operator.JobsQueue})
		if err != nil || len(h.Done) != 1 || len(h.Failed) != 0 || w.DeadJobs.Len() != 0 {
			t.Errorf("%+v, %v", h, err)
		}
		time.Sleep(time.Hour)
		if w.starts("short") != 1 || len(w.Calls.Messages("c1")) != 1 || len(w.Events.Sent()) != 0 || w.Len() != 0 {
			t.Errorf("started %d times, delivered %v, events %v", w.starts("short"), w.Calls.Messages("c1"), w.Events.Sent())
		}
	})
}

// TestRedriveJob redrives the messages of one job, and no others. What cannot be redriven is no missing message.
func TestRedriveJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDeadWorld(t)
		w.up.Store(true)
		id, other := w.unclaimed(t, "c1"), w.unclaimed(t, "c2")
		w.jobs.broken = true
		if n, err := w.near.RedriveJob(t.Context(), id); n != 0 || err == nil || errors.Is(err, operator.ErrNoDeadLetter) ||
			!strings.Contains(err.Error(), "interrupted") {
			t.Errorf("interrupted: %d, %v", n, err)
		}
		w.jobs.broken = false
		if n, err := w.near.RedriveJob(t.Context(), id); n != 1 || err != nil || w.DeadJobs.Len() != 1 {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := w.near.RedriveJob(t.Context(), id); n != 0 || !errors.Is(err, operator.ErrNoDeadLetter) {
			t.Errorf("again: %d, %v", n, err)
		}
		if letters := w.list(t, w.dead); len(letters) != 1 || letters[0].Job != other {
			t.Errorf("left: %+v", letters)
		}
	})
}

// TestRedriveScheduled redrives wake-ups that EventBridge Scheduler could not send, in both forms of their body.
func TestRedriveScheduled(t *testing.T) {
	inDeadWorld(t, func(t *testing.T, w *deadWorld, d dead) {
		wakeUp, err := job.WakeUp{JobID: "j_aaaaaaaaaaaaaaaaaaaaaaaaaa", Number: 3}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		request, err := json.Marshal(map[string]string{"MessageBody": wakeUp, "QueueUrl": "https://sqs/long-jobs"})
		if err != nil {
			t.Fatal(err)
		}
		sent := map[*memqueue.Queue][]string{}
		for body, target := range map[string]string{wakeUp: "jobs", string(request): "long-jobs", "cut": "jobs"} {
			w.jobs.attributes[body] = map[string]string{
				"SCHEDULE_ARN": "arn:aws:scheduler:eu-central-1:111122223333:schedule/group/x", "ERROR_CODE": "AccessDenied",
				"TARGET_ARN":           "arn:aws:sqs:eu-central-1:111122223333:" + target,
				"IS_PAYLOAD_TRUNCATED": fmt.Sprint(body == "cut"),
			}
			if err := w.DeadJobs.Send(t.Context(), []queue.Message{{Body: body}})[0]; err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range w.list(t, d) {
			scheduled := l.Why == "EventBridge Scheduler could not send it: AccessDenied"
			if (l.Kind == "wake-up") != scheduled || (l.Kind == "unreadable") == scheduled {
				t.Errorf("%+v", l)
			}
		}
		queues := []*memqueue.Queue{w.Jobs, w.LongJobs}
		near, err := operator.NewDead(operator.DeadConfig{
			Table: w.Table, DeadJobs: w.jobs, DeadResults: w.results, Results: w.Results,
			Jobs: record{sent, queues[0]}, LongJobs: record{sent, queues[1]}, LongJobsName: "long-jobs",
		})
		if err != nil {
			t.Fatal(err)
		}
		h, err := near.Redrive(t.Context(), operator.DeadSelection{})
		if err != nil || len(h.Done) != 2 || len(h.Failed) != 1 || !strings.Contains(h.Failed[0].Error, "drop it") {
			t.Errorf("%+v, %v", h, err)
		}
		for _, q := range queues {
			if !slices.Equal(sent[q], []string{wakeUp}) {
				t.Errorf("%s got %q", q.Name(), sent[q])
			}
		}
	})
}

// record is a queue that records what is sent to it.
type record struct {
	sent map[*memqueue.Queue][]string
	to   *memqueue.Queue
}

func (r record) Send(_ context.Context, messages []queue.Message) []error {
	for _, m := range messages {
		r.sent[r.to] = append(r.sent[r.to], m.Body)
	}
	return make([]error, len(messages))
}

// TestDeadResults has results that could be neither delivered nor published.
func TestDeadResults(t *testing.T) {
	for _, drop := range []bool{false, true} {
		t.Run(map[bool]string{false: "redrive", true: "drop"}[drop], func(t *testing.T) {
			inDeadWorld(t, func(t *testing.T, w *deadWorld, d dead) {
				w.Calls.End("c1")
				id := w.post(t, "c1", "short") // fails, and the call is over
				time.Sleep(3 * time.Hour)
				letters := slices.DeleteFunc(w.list(t, d), func(l operator.DeadLetter) bool {
					return l.Queue == operator.JobsQueue
				})
				if len(letters) != 1 || letters[0].Kind != "result" || letters[0].Job != id ||
					letters[0].State != job.StateDone || letters[0].Loss != operator.LossDelivery {
					t.Fatalf("%+v", letters)
				}
				s, err := d.Show(t.Context(), letters[0].ID, true)
				if err != nil || s.Data.Result != "Sorry." || s.Source != "results" {
					t.Errorf("%+v, %v", s, err)
				}
				w.up.Store(true)
				do := d.Redrive
				if drop {
					do = d.Drop
				}
				h, err := do(t.Context(), operator.DeadSelection{Queue: operator.ResultsQueue})
				if err != nil || len(h.Done) != 1 {
					t.Errorf("%+v, %v", h, err)
				}
				time.Sleep(time.Hour)
				if sent := w.Events.Sent(); len(sent) != 1 || sent[0].JobID != id || sent[0].Content != "Sorry." {
					t.Errorf("events: %+v", sent)
				}
				if r, err := w.Table.Load(t.Context(), id); err != nil || r.State != job.StateUndelivered {
					t.Errorf("%+v, %v", r, err)
				}
				if w.DeadResults.Len() != 0 {
					t.Error("the message is still there")
				}
			})
		})
	}
}

// TestDropUnfinished drops the only message of a job. The caller hears of it.
func TestDropUnfinished(t *testing.T) {
	inDeadWorld(t, func(t *testing.T, w *deadWorld, d dead) {
		w.up.Store(true)
		for _, call := range []string{"c1", "c2"} {
			w.Calls.Begin(callOf(call))
		}
		w.Calls.End("c2")
		ids := []string{w.unclaimed(t, "c1"), w.unclaimed(t, "c2")}
		for _, l := range w.list(t, d) {
			if l.Loss != operator.LossJob || l.State != "" {
				t.Errorf("%+v", l)
			}
		}
		w.jobs.broken = true
		h, err := d.Drop(t.Context(), operator.DeadSelection{IDs: ids})
		if err != nil || len(h.Failed) != 2 {
			t.Errorf("%+v, %v", h, err)
		}
		w.jobs.broken = false
		h, err = d.Drop(t.Context(), operator.DeadSelection{IDs: ids})
		if err != nil || len(h.Done) != 2 || w.DeadJobs.Len() != 0 {
			t.Errorf("%+v, %v", h, err)
		}
		time.Sleep(time.Hour)
		if got := w.Calls.Messages("c1"); len(got) != 1 || !strings.Contains(fmt.Sprint(got), "cancelled") {
			t.Errorf("delivered %v", got)
		}
		if sent := w.Events.Sent(); len(sent) != 1 || sent[0].JobID != ids[1] || w.starts("short") != 0 {
			t.Errorf("events %+v, started %d times", sent, w.starts("short"))
		}
		if r, err := w.Table.Load(t.Context(), ids[0]); err != nil || !strings.Contains(r.Reason, "an operator dropped") {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestDrop drops messages of every other kind.
func TestDrop(t *testing.T) {
	inDeadWorld(t, func(t *testing.T, w *deadWorld, d dead) {
		now := time.Now()
		claim := func(call string, rules ...job.Rule) job.Job {
			t.Helper()
			j := job.Job{
				ID: job.ID(call, "t", "short", nil), ToolCallID: "t", Tool: "short", Arguments: json.RawMessage(`{}`),
				Call: job.Call{ID: call}, ReceivedAt: now, CallEnds: now.Add(time.Hour),
			}
			r, err := w.Table.Claim(t.Context(), job.NewRecord(j, job.Policy{}, j.CallEnds, "m", now, time.Minute))
			for _, rule := range append([]job.Rule{job.StoreJob(j)}, rules...) {
				if err == nil {
					r, err = w.Table.Change(t.Context(), r.ID, rule)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			return j
		}
		result := job.Result{Status: job.StatusOK, Content: "x", Delivery: policy.DeliveryRespond}
		running := claim("running")
		waiting := claim("waiting", job.Suspend(now, running, now.Add(time.Hour), false, nil))
		done := claim("done", job.Finish(now, result, false, ""))
		outcome := func(o job.Outcome, err error) string {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			body, err := o.Encode()
			if err != nil {
				t.Fatal(err)
			}
			return body
		}
		r, err := w.Table.Load(t.Context(), done.ID)
		if err != nil {
			t.Fatal(err)
		}
		mark := outcome(done.Outcome(r).Mark(job.StateDelivered, ""), nil)
		line := outcome(running.ProgressOutcome(1, "half way", false, r), nil)
		type encoder interface{ Encode() (string, error) }
		for _, row := range []struct {
			message encoder // nil means body
			body    string
			results bool
			kind    string
			loss    operator.Loss
			refused string
		}{
			{message: running, kind: "job", loss: operator.LossRefused, refused: "its job is running"},
			{message: job.WakeUp{JobID: waiting.ID, Number: 1}, kind: "wake-up", loss: operator.LossNothing},
			{message: job.Check{JobID: waiting.ID}, kind: "check", loss: operator.LossNothing},
			{message: job.Sweep{}, kind: "sweep", loss: operator.LossNothing},
			{message: job.Arrival{Call: job.Call{ID: "c"}, CallEnds: now}, kind: "arrival", loss: operator.LossNothing},
			{message: job.Post{JobID: waiting.ID, Received: now}, kind: "post", loss: operator.LossPost},
			{message: job.Post{JobID: done.ID, Received: now}, kind: "post", loss: operator.LossNothing},
			{body: line, results: true, kind: "progress", loss: operator.LossLine},
			{body: mark, results: true, kind: "mark", loss: operator.LossRefused, refused: "redrive it"},
			{body: "{}", kind: "unreadable", loss: operator.LossUnknown, refused: "cannot read it"},
			{body: "{}", results: true, kind: "unreadable", loss: operator.LossUnknown, refused: "cannot read it"},
		} {
			body := row.body
			if row.message != nil {
				if body, err = row.message.Encode(); err != nil {
					t.Fatal(err)
				}
			}
			q, name := w.jobs, operator.JobsQueue
			if row.results {
				q, name = w.results, operator.ResultsQueue
			}
			if err := q.Send(t.Context(), []queue.Message{{Body: body}})[0]; err != nil {
				t.Fatal(err)
			}
			letters := w.list(t, d)
			if len(letters) != 1 || letters[0].Kind != row.kind || letters[0].Loss != row.loss || letters[0].Queue != name {
				t.Errorf("%s: %+v", row.kind, letters)
			}
			h, err := d.Drop(t.Context(), operator.DeadSelection{})
			if err != nil || (len(h.Failed) == 1) != (row.refused != "") || len(h.Failed)+len(h.Done) != 1 {
				t.Errorf("%s: %+v, %v", row.kind, h, err)
			}
			if row.refused != "" {
				if !strings.Contains(h.Failed[0].Error, row.refused) {
					t.Errorf("%s: %+v", row.kind, h)
				}
				h, err = d.Drop(t.Context(), operator.DeadSelection{Unreadable: true})
				if err != nil || len(h.Done) != map[bool]int{true: 1}[row.kind == "unreadable"] {
					t.Errorf("%s: %+v, %v", row.kind, h, err)
				}
				for range h.Failed {
					letters, err := q.DeadLetters.Receive(t.Context(), 1, time.Minute)
					if err == nil {
						err = q.DeadLetters.Delete(t.Context(), letters[0].Receipt)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

// TestDeadListIsBounded lists more messages than a list may have.
func TestDeadListIsBounded(t *testing.T) {
	inDeadWorld(t, func(t *testing.T, w *deadWorld, d dead) {
		for i := range operator.MaxDead + 5 {
			if err := w.jobs.Send(t.Context(), []queue.Message{{Body: fmt.Sprint(i)}})[0]; err != nil {
				t.Fatal(err)
			}
		}
		l, err := d.List(t.Context(), "")
		if err != nil || len(l.Letters) != operator.MaxDead || l.All || l.Count != operator.MaxDead+5 {
			t.Errorf("%d of %d, all: %t, %v", len(l.Letters), l.Count, l.All, err)
		}
		if w.jobs.hidden > 30*time.Second {
			t.Errorf("a list that ends too early hides messages for %s", w.jobs.hidden)
		}
		if _, err := d.List(t.Context(), "other"); err == nil {
			t.Error("there is no such queue")
		}
	})
}

// callOf returns a call that can be controlled.
func callOf(id string) vapi.Call {
	return vapi.Call{ID: id, ControlURL: "https://x.vapi.ai/" + id + "/control"}
}
