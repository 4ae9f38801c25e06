package process_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memkey"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/queue"
)

// No log record at info level or above may contain one of these.
const (
	controlURL    = "https://phone-call-websocket.vapi.ai/planted-control/control"
	number        = "+4915100000001"
	argument      = "planted-argument"
	remembered    = "planted-state"
	said          = "planted-progress"
	completionURL = "https://ringback.example.com/results/planted-token"
)

var planted = []string{"planted-control", number, argument, remembered, said, "planted-token"}

const days = 24 * time.Hour

type input struct {
	Order string `json:"order" jsonschema:"the order's number"`
}

type (
	tool = asynctool.Tool[input]
	run  = func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error)
)

// does returns a tool, which is named "tool" if it has no name.
func does(t tool, run run) asynctool.Definition {
	t.Name, t.Description, t.Run = cmp.Or(t.Name, "tool"), "Does it.", run
	return t
}

func returns(result asynctool.Result, err error) run {
	return func(context.Context, asynctool.Call, input) (asynctool.Result, error) { return result, err }
}

// notRun fails the test if the tool runs.
func notRun(t *testing.T) run {
	return func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		t.Error("the tool was run")
		return asynctool.Text("Done."), nil
	}
}

var errDown = errors.New("it is down")

// world is a process function and everything around it.
type world struct {
	t         *testing.T
	set       *asynctool.Set
	store     *memtable.Store
	table     *jobtable.Table
	admission *jobtable.Admission
	tracker   *jobtable.CallTracker
	customers *jobtable.Customers
	out       *results
	jobs      *memqueue.Queue // with the limits of a deployment
	long      *memqueue.Queue // the jobs of long tools
	dead      *memqueue.Queue // of both
	schedules *memqueue.Scheduler
	urls      process.Completions // nil: there are none
	key       *memkey.Key         // nil if no tool has encrypted arguments
	plain     bool                // see [process.Config], from deploy on
	limits    queue.Limits
	handler   *process.Handler
	log       *slog.Logger
	start     time.Time

	// fault returns the error that a step fails with, if it is not nil. A step is one call of
	// something around the function.
	fault func(step string) error
	takes time.Duration // how long a step takes
	// slow returns how long a step takes before its effect, and how long its answer takes then, unless
	// its context ends. stuck returns how long its answer takes even if its context ends. Nil: no time.
	slow  func(step string) (before, after time.Duration)
	stuck func(step string) time.Duration

	mu               sync.Mutex
	steps            []string // that were taken
	acrossAssistants bool     // see [process.Config], from deploy on
	breakpoints      time.Duration

	die     int      // the number of the step, from 1 on, at which the function dies; 0: none
	after   bool     // it dies after that step, not before
	wakeUps []wakeUp // that were scheduled

	// What happened to the outcomes: see deliver.
	delivered, progress, undelivered []delivery
}

// wakeUp is when a job is woken up, and how.
type wakeUp struct {
	At        time.Duration // since the start
	Scheduled bool
}

// inWorld runs a test of a tool: see inWorldOf.
func inWorld(t *testing.T, tool asynctool.Definition, test func(t *testing.T, w *world)) {
	t.Helper()
	inWorldOf(t, []asynctool.Definition{tool}, test)
}

// inWorldOf runs a test in a bubble. Then it checks that the log contains nothing that was planted.
func inWorldOf(t *testing.T, tools []asynctool.Definition, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		set, err := asynctool.NewSet(tools...)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var logged bytes.Buffer
		log := slog.New(slog.NewJSONHandler(writer(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return logged.Write(p)
		}), nil))
		w := &world{
			t: t, set: set, log: log, store: new(memtable.Store), out: &results{start: time.Now()},
			limits: queue.LimitsFor(set.MaxTimeout(), set.MaxAttempts()), start: time.Now(),
		}
		w.table, w.tracker = jobtable.New(w.store), jobtable.NewCallTracker(w.store.Calls())
		w.customers = jobtable.NewCustomers(w.store.Customers(), customerKeys)
		w.limit(job.CallLimits{})
		if w.dead, err = memqueue.New(memqueue.Config{Name: "dead", Log: log}); err != nil {
			t.Fatal(err)
		}
		for name, q := range map[string]**memqueue.Queue{"jobs": &w.jobs, "long-jobs": &w.long} {
			if *q, err = memqueue.New(memqueue.Config{Name: name, VisibilityTimeout: w.limits.JobsVisibility,
				MaxReceives: w.limits.JobsMaxReceives, DeadLetters: w.dead, Log: log}); err != nil {
				t.Fatal(err)
			}
		}
		if len(set.Encrypted()) > 0 {
			if w.key, err = memkey.New(); err != nil {
				t.Fatal(err)
			}
		}
		w.schedules = memqueue.NewScheduler(w.jobs)
		defer w.schedules.Close()
		w.deploy()
		test(t, w)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if logged.Len() == 0 {
			t.Error("nothing was logged")
		}
		for _, value := range planted {
			if strings.Contains(logged.String(), value) {
				t.Errorf("the log contains %q:\n%s", value, logged.String())
			}
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// deploy replaces the function by a new one. The two share only their surroundings.
func (w *world) deploy() {
	w.t.Helper()
	around := around{w}
	long := &process.LongJobs{Jobs: jobs{w, w.long}, Schedules: longSchedules{around}, ARN: w.long.ARN()}
	var err error
	if w.handler, err = process.New(process.Config{
		Tools: w.set, Table: around, Outcomes: outcomes{w}, Jobs: jobs{w, w.jobs}, Schedules: around, LongJobs: long,
		Admission: around, CallTracker: around, Customers: around, Completions: w.urls, Log: w.log,
		Decrypter: around, PlainArguments: w.plain, AcrossAssistants: w.acrossAssistants, Breakpoints: w.breakpoints,
	}); err != nil {
		w.t.Fatal(err)
	}
}

// limit sets the limits of the calls.
func (w *world) limit(limits job.CallLimits) {
	w.admission = jobtable.NewAdmission(w.store.Calls(), limits)
}

// job returns an accepted tool call, received at the start in a call that can last an hour.
func (w *world) job(id, tool string) job.Job {
	return job.Job{
		ID: job.EarlierID("call-1", id), ToolCallID: id, Tool: tool,
		Arguments: json.RawMessage(`{"order":"` + argument + `"}`),
		Call: job.Call{
			ID: "call-1", OrgID: "org-1", Type: "webCall", AssistantID: "assistant-1",
			CustomerNumber: number, ControlURL: controlURL,
		},
		ReceivedAt: w.start, CallEnds: w.start.Add(time.Hour),
	}
}

// encode returns a message's body.
func (w *world) encode(m interface{ Encode() (string, error) }) string {
	w.t.Helper()
	body, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return body
}

// send sends jobs, or wake-ups and arrivals, to the jobs queue.
func (w *world) send(messages ...interface{ Encode() (string, error) }) {
	w.t.Helper()
	for _, m := range messages {
		w.sendBody(w.encode(m))
	}
}

func (w *world) sendBody(body string) {
	w.t.Helper()
	if err := errors.Join(w.jobs.Send(w.t.Context(), []queue.Message{{Body: body}})...); err != nil {
		w.t.Fatal(err)
	}
}

// run handles the jobs queues for d, and waits until every handler has returned.
func (w *world) run(d time.Duration) {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { w.jobs.Run(ctx, w.handle) })
	running.Go(func() { w.long.Run(ctx, w.handle) })
	running.Wait()
	synctest.Wait()
}

// handle calls the handler as Lambda does.
func (w *world) handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, w.limits.ProcessTimeout+w.breakpoints)
	defer cancel()
	dead := new(atomic.Bool)
	response, err := w.handler.Handle(context.WithValue(ctx, deadKey{}, dead), event)
	if dead.Load() {
		return events.SQSEventResponse{}, errDied
	}
	return response, err
}

func (w *world) record(j job.Job) job.Record {
	w.t.Helper()
	r, err := w.store.Load(w.t.Context(), j.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// change applies a rule to the record of a job.
func (w *world) change(j job.Job, rule job.Rule) job.Record {
	w.t.Helper()
	r, err := w.table.Change(w.t.Context(), j.ID, rule)
	if err != nil {
		w.t.Error(err)
	}
	return r
}

// claim claims a job for an owner.
func (w *world) claim(j job.Job, owner string, lease time.Duration) job.Record {
	w.t.Helper()
	r, err := w.table.Claim(w.t.Context(), job.NewRecord(j, job.Policy{}, j.CallEnds, owner, time.Now(), lease))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// settle marks the result of a job as delivered.
func (w *world) settle(j job.Job) {
	w.t.Helper()
	if err := w.table.Settle(w.t.Context(), w.record(j), time.Now(), job.StateDelivered, ""); err != nil {
		w.t.Error(err)
	}
}

// want checks what was sent, and how many messages are left.
func (w *world) want(results []job.Result, jobs, dead int) {
	w.t.Helper()
	if diff := gocmp.Diff(results, w.out.results()); diff != "" {
		w.t.Errorf("results (-want +got):\n%s", diff)
	}
	w.wantLeft(jobs, dead)
}

// wantLeft checks how many messages are left on the jobs queues and on their dead-letter queue.
func (w *world) wantLeft(jobs, dead int) {
	w.t.Helper()
	if n := w.jobs.Len() + w.long.Len(); n != jobs || w.dead.Len() != dead {
		w.t.Errorf("%d messages on the jobs queues and %d on the dead-letter queue, want %d and %d",
			n, w.dead.Len(), jobs, dead)
	}
}

// wantDelivered checks what was delivered, in any order of the jobs, and that nothing is undelivered.
func (w *world) wantDelivered(want ...delivery) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	byJob := cmpopts.SortSlices(func(a, b delivery) bool { return a.Job < b.Job })
	if diff := gocmp.Diff(want, w.delivered, byJob, cmpopts.EquateEmpty()); diff != "" {
		w.t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if len(w.undelivered) > 0 {
		w.t.Errorf("undelivered: %v", w.undelivered)
	}
}

func result(status job.Status, delivery policy.Delivery, content string) []job.Result {
	return []job.Result{{Status: status, Delivery: delivery, Content: content, Own: true}}
}

// responds and fails are results that the assistant responds to.
func responds(content string) []job.Result {
	return result(job.StatusOK, policy.DeliveryRespond, content)
}
func fails(content string) []job.Result {
	return result(job.StatusError, policy.DeliveryRespond, content)
}

var (
	done     = responds("Done.")
	approved = result(job.StatusOK, policy.DeliverySay, "It is approved.") // by an external system
)

// neutral is the FailureText of a tool that names none.
const neutral = "I'm sorry, I wasn't able to finish that."

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := process.New(process.Config{}); err == nil {
		t.Error("no error")
	}
}

var errDied = errors.New("the function died")

// deadKey is the key of an *atomic.Bool in the context of an invocation: whether the function has died.
type deadKey struct{}

// step is one call of something around the function. A function that has died takes no further one.
func step[T any](ctx context.Context, w *world, name string, do func() (T, error)) (T, error) {
	var none T
	dead, _ := ctx.Value(deadKey{}).(*atomic.Bool)
	if dead != nil && dead.Load() {
		return none, errDied
	}
	w.mu.Lock()
	var err error
	if w.fault != nil {
		err = w.fault(name)
	}
	w.steps = append(w.steps, name)
	dies := len(w.steps) == w.die && dead != nil
	var before, after, stuck time.Duration
	if w.slow != nil {
		before, after = w.slow(name)
	}
	if w.stuck != nil {
		stuck = w.stuck(name)
	}
	w.mu.Unlock()
	if err != nil {
		return none, err
	}
	time.Sleep(w.takes)
	if err := wait(ctx, before); err != nil {
		return none, err
	}
	if dies && !w.after {
		dead.Store(true)
		return none, errDied
	}
	v, err := do()
	time.Sleep(stuck)
	if err := wait(ctx, after); err != nil {
		return none, err
	}
	if dies {
		dead.Store(true)
		return none, errDied
	}
	return v, err
}

// wait waits for d, or until the context ends.
func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// forSome makes a step take d, the first n times.
func forSome(step string, n int, d time.Duration) func(string) time.Duration {
	return func(s string) time.Duration {
		if s != step || n == 0 {
			return 0
		}
		n--
		return d
	}
}

func stepErr(ctx context.Context, w *world, name string, do func() error) error {
	_, err := step(ctx, w, name, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// failing makes a step fail from now on.
func (w *world) failing(step string, err error) {
	w.fault = func(s string) error {
		if s == step {
			return err
		}
		return nil
	}
}

// failingTimes makes a step fail n times.
func (w *world) failingTimes(step string, n int) {
	w.fault = func(s string) error {
		if s != step || n == 0 {
			return nil
		}
		n--
		return fmt.Errorf("%s is throttled", step)
	}
}

// around implements the surroundings of the function, except the queues. A change of a record is a
// step with the name of its rule.
type around struct{ *world }

func (w around) Claim(ctx context.Context, first job.Record) (job.Record, error) {
	return step(ctx, w.world, "first claim", func() (job.Record, error) { return w.table.Claim(ctx, first) })
}

func (w around) ClaimAgain(ctx context.Context, first job.Record) (job.Record, error) {
	return step(ctx, w.world, "claim", func() (job.Record, error) { return w.table.ClaimAgain(ctx, first) })
}

func (w around) Unclaim(
	ctx context.Context, first job.Record, now time.Time, delay time.Duration, reason string,
) error {
	return stepErr(ctx, w.world, "unclaim", func() error { return w.table.Unclaim(ctx, first, now, delay, reason) })
}

func (w around) Renew(
	ctx context.Context, claimed job.Record, now time.Time, lease time.Duration,
) (time.Time, error) {
	return step(ctx, w.world, "renew", func() (time.Time, error) { return w.table.Renew(ctx, claimed, now, lease) })
}

func (w around) Extend(ctx context.Context, j job.Job, now time.Time, lease time.Duration) error {
	return stepErr(ctx, w.world, "extend", func() error { return w.admission.Extend(ctx, j, now, lease) })
}

func (w around) Load(ctx context.Context, id string) (job.Record, error) {
	return step(ctx, w.world, "load", func() (job.Record, error) { return w.table.Load(ctx, id) })
}

func (w around) Change(ctx context.Context, id string, rule job.Rule) (job.Record, error) {
	return step(ctx, w.world, rule.Name, func() (job.Record, error) { return w.table.Change(ctx, id, rule) })
}

func (w around) ChangeClaimed(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error) {
	return step(ctx, w.world, rule.Name, func() (job.Record, error) {
		return w.table.ChangeClaimed(ctx, claimed, rule)
	})
}

func (w around) ChangeLatest(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error) {
	return step(ctx, w.world, rule.Name, func() (job.Record, error) {
		return w.table.ChangeLatest(ctx, claimed, rule)
	})
}

func (w around) Overdue(ctx context.Context, now time.Time, from string) ([]job.Summary, string, error) {
	type page struct {
		jobs []job.Summary
		next string
	}
	p, err := step(ctx, w.world, "overdue", func() (page, error) {
		jobs, next, err := w.table.Overdue(ctx, now, from)
		return page{jobs, next}, err
	})
	return p.jobs, p.next, err
}

func (w around) Admit(
	ctx context.Context, j job.Job, now time.Time, lease time.Duration, q *jobtable.Question,
) ([]string, error) {
	return step(ctx, w.world, "admit", func() ([]string, error) { return w.admission.Admit(ctx, j, now, lease, q) })
}

func (w around) Leave(ctx context.Context, j job.Job, now time.Time) error {
	return stepErr(ctx, w.world, "leave", func() error { return w.admission.Leave(ctx, j, now) })
}

func (w around) Live(ctx context.Context, callID string, now time.Time) (bool, error) {
	return step(ctx, w.world, "live", func() (bool, error) { return w.tracker.Live(ctx, callID, now) })
}

func (w around) Parked(ctx context.Context, c job.Call) ([]job.ParkedResult, error) {
	return step(ctx, w.world, "parked", func() ([]job.ParkedResult, error) { return w.customers.Parked(ctx, c) })
}

func (w around) Unpark(ctx context.Context, c job.Call, now time.Time, k job.ParkedResult) error {
	return stepErr(ctx, w.world, "remove", func() error { return w.customers.Unpark(ctx, c, now, k) })
}

func (w around) At(ctx context.Context, name string, at time.Time, body string) error {
	return stepErr(ctx, w.world, "schedule", func() error {
		w.noteWakeUp(wakeUp{At: at.Sub(w.start), Scheduled: true})
		return w.schedules.At(ctx, name, at, body)
	})
}

func (w around) Cancel(ctx context.Context, name string) error {
	return stepErr(ctx, w.world, "unschedule", func() error { return w.schedules.Cancel(ctx, name) })
}

// longSchedules send to the queue of the jobs of long tools.
func (w around) Decrypt(ctx context.Context, ciphertext []byte) ([]byte, error) {
	return step(ctx, w.world, "decrypt", func() ([]byte, error) { return w.key.Decrypt(ctx, ciphertext) })
}

type longSchedules struct{ around }

func (w longSchedules) At(ctx context.Context, name string, at time.Time, body string) error {
	return stepErr(ctx, w.world, "schedule", func() error {
		w.noteWakeUp(wakeUp{At: at.Sub(w.start), Scheduled: true})
		return w.schedules.To(w.long).At(ctx, name, at, body)
	})
}

func (w *world) noteWakeUp(u wakeUp) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakeUps = append(w.wakeUps, u)
}

// jobs is one of the world's jobs queues.
type jobs struct {
	*world
	queue *memqueue.Queue
}

func (w jobs) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	return stepErr(ctx, w.world, "hide", func() error { return w.queue.ChangeVisibility(ctx, receipt, d) })
}

func (w jobs) Send(ctx context.Context, messages []queue.Message) []error {
	errs, err := step(ctx, w.world, "send job", func() ([]error, error) {
		for _, m := range messages {
			if message, err := job.DecodeMessage(m.Body); err == nil {
				if _, ok := message.(job.WakeUp); ok {
					w.noteWakeUp(wakeUp{At: time.Since(w.start) + m.Delay})
				}
			}
		}
		return w.queue.Send(ctx, messages), nil
	})
	return forAll(messages, errs, err)
}

// outcomes is the world's results queue.
type outcomes struct{ *world }

func (w outcomes) Send(ctx context.Context, messages []queue.Message) []error {
	name := "send outcome"
	if o, err := job.DecodeOutcome(messages[0].Body); err == nil && o.Kind == job.KindProgress {
		name = "send line"
	}
	for _, m := range messages {
		w.checkRecord(m)
	}
	errs, err := step(ctx, w.world, name, func() ([]error, error) { return w.out.Send(ctx, messages), nil })
	return forAll(messages, errs, err)
}

// checkRecord checks that a result comes with the record of its job as it was saved, since the callback function saves
// it again.
func (w outcomes) checkRecord(m queue.Message) {
	o, err := job.DecodeOutcome(m.Body)
	if err != nil || o.Kind != job.KindFinal || o.Unstored != nil || o.Earlier || m.Delay > 0 {
		return
	}
	saved, err := w.table.Load(context.Background(), o.JobID)
	if err != nil {
		return
	}
	want, err := job.EncodeRecord(saved)
	if err != nil {
		w.t.Error(err)
	}
	switch r, ok := o.Record(); {
	case !ok && len(want) <= 4<<10:
		w.t.Error("the outcome has no record")
	case ok && saved.Revision == r.Revision && o.Saved.Record != string(want):
		w.t.Errorf("the outcome has the record %s, want %s", o.Saved.Record, want)
	}
}

// forAll returns the errors of a request, or the request's own error for all messages.
func forAll(messages []queue.Message, errs []error, err error) []error {
	if err == nil {
		return errs
	}
	return slices.Repeat([]error{err}, len(messages))
}

// results is a results queue that remembers its messages.
type results struct {
	takes  time.Duration           // how long a request takes
	fail   func(job.Outcome) error // nil: nothing fails
	then   func(job.Outcome)       // receives each message a second later; may be nil
	mu     sync.Mutex
	sent   []job.Outcome
	at     []time.Duration // when each was sent, since the start
	delays []time.Duration
	sends  int
	start  time.Time
}

func (o *results) Send(ctx context.Context, messages []queue.Message) []error {
	time.Sleep(o.takes)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sends++
	errs := make([]error, len(messages))
	for i, m := range messages {
		outcome, err := job.DecodeOutcome(m.Body)
		if err == nil && m.Group != outcome.Call.ID {
			err = fmt.Errorf("group %q", m.Group)
		}
		if err == nil {
			err = m.Check()
		}
		if err == nil && o.fail != nil {
			err = o.fail(outcome)
		}
		if err == nil {
			err = ctx.Err()
		}
		if errs[i] = err; err == nil {
			o.sent = append(o.sent, outcome)
			o.at = append(o.at, time.Since(o.start))
			o.delays = append(o.delays, m.Delay)
			if o.then != nil {
				then := o.then
				time.AfterFunc(m.Delay+time.Second, func() { then(outcome) })
			}
		}
	}
	return errs
}

// results returns the final results.
func (o *results) results() []job.Result {
	o.mu.Lock()
	defer o.mu.Unlock()
	var results []job.Result
	for _, s := range o.sent {
		if s.Kind == job.KindFinal {
			results = append(results, s.Result)
		}
	}
	return results
}

// delivery is a text that reached a call.
type delivery struct{ Call, Job, Text string }

// deliver delivers what is sent, as the callback function does. Calls that are gone accept nothing.
// Results are then parked if their tools ask for it.
func (w *world) deliver(gone ...string) {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	w.out.then = func(o job.Outcome) { w.callback(o, gone) }
}

func (w *world) callback(o job.Outcome, gone []string) {
	ctx, now := context.Background(), time.Now()
	note := func(to *[]delivery) {
		w.mu.Lock()
		defer w.mu.Unlock()
		*to = append(*to, delivery{Call: o.Call.ID, Job: o.JobID, Text: o.Result.Content})
	}
	check := func(err error) {
		if err != nil {
			w.t.Error(err)
		}
	}
	retryAt := func(until time.Time) { time.AfterFunc(time.Until(until), func() { w.callback(o, gone) }) }
	var busy *job.BusyError
	if o.Kind == job.KindProgress {
		record, err := w.table.Change(ctx, o.JobID, job.ClaimProgress(now, o.Sequence, 10*time.Second))
		switch {
		case errors.As(err, &busy):
			retryAt(busy.Until)
		case err == nil:
			note(&w.progress)
			_, err := w.table.Change(ctx, o.JobID, job.EndProgress(record))
			check(err)
		case !errors.Is(err, job.ErrStale):
			check(err)
		}
		return
	}
	if o.Unstored != nil {
		_, err := w.table.Change(ctx, o.JobID, job.StoreResult(now, o))
		if errors.Is(err, job.ErrNotDone) {
			return // another attempt has the job
		}
		if !errors.Is(err, job.ErrFinished) {
			check(err)
		}
	}
	record, err := w.table.Change(ctx, o.JobID, job.ClaimDelivery(now, 10*time.Second))
	switch {
	case errors.Is(err, job.ErrSettled):
	case errors.As(err, &busy):
		retryAt(busy.Until)
	case err != nil:
		check(err)
	case now.After(o.Deadline):
		note(&w.undelivered)
		check(w.table.Settle(ctx, record, now, job.StateUndelivered, "too late"))
	case slices.Contains(gone, o.Call.ID) && o.AfterCall == policy.AfterCallNextCall:
		_, err := w.customers.Park(ctx, o.Call, now,
			job.ParkedResult{
				JobID: o.JobID, ToolCallID: o.ToolCallID, Tool: o.Tool, Revision: record.Revision,
				Scoped: true, AssistantID: o.Call.AssistantID, PhoneNumberID: o.Call.PhoneNumberID,
			})
		check(err)
		check(w.table.Settle(ctx, record, now, job.StateParked, ""))
	case slices.Contains(gone, o.Call.ID):
		note(&w.undelivered)
		check(w.table.Settle(ctx, record, now, job.StateUndelivered, "gone"))
	default:
		note(&w.delivered)
		check(w.table.Settle(ctx, record, now, job.StateDelivered, ""))
	}
}

// customerKeys are the keys that name customers.
func customerKeys(context.Context) ([][]byte, error) { return [][]byte{[]byte("key")}, nil }
