package process_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/limits"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memschedule"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/spoken"
)

// What no log record at info level or above may hold.
const (
	controlURL    = "https://phone-call-websocket.vapi.ai/planted-control/control"
	number        = "+4915100000001"
	argument      = "planted-argument"
	remembered    = "planted-state"
	said          = "planted-progress"
	completionURL = "https://ringback.example.com/results/planted-token"
)

var planted = []string{"planted-control", number, argument, remembered, said, "planted-token"}

type input struct {
	Order string `json:"order" jsonschema:"the order's number"`
}

type (
	tool = asynctool.Tool[input]
	run  = func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error)
)

// does makes a tool that is called "tool" where it has no name.
func does(t tool, run run) asynctool.Definition {
	t.Name, t.Description, t.Run = cmp.Or(t.Name, "tool"), "Does it.", run
	return t
}

func gives(result asynctool.Result, err error) run {
	return func(context.Context, asynctool.Call, input) (asynctool.Result, error) { return result, err }
}

// world is a process function with what is around it.
type world struct {
	t         *testing.T
	set       *asynctool.Set
	store     *memtable.Store
	table     *jobtable.Table
	admission *jobtable.Admission
	tracker   *jobtable.CallTracker
	customers *jobtable.Customers
	out       *outbox
	jobs      *memqueue.Queue // with the limits of a deployment
	dead      *memqueue.Queue
	schedules *memschedule.Scheduler
	urls      process.Completions // nil: there are none
	limits    limits.Limits
	handler   *process.Handler
	log       *slog.Logger
	start     time.Time

	// fault, where it is not nil, gives the error that a step fails with: a
	// call of what is around the function, named by its method.
	fault func(step string) error
	takes time.Duration // how long a step takes

	mu    sync.Mutex
	steps []string // that were taken
	die   int      // the number of the step, from 1 on, at which the function dies; 0: none
	done  bool     // it dies only when the step is done
	wakes []wake   // that were arranged

	// What became of the outcomes: see answer.
	told, progress, announced []telling
}

// wake is when a job is woken, and how.
type wake struct {
	At        time.Duration // since the start
	Scheduled bool
}

// inWorld runs a test in a bubble, and then searches its log for what it may
// not hold.
func inWorld(t *testing.T, tools []asynctool.Definition, test func(t *testing.T, w *world)) {
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
		w := &world{t: t, set: set, log: log, store: new(memtable.Store), out: &outbox{start: time.Now()}, limits: limits.Of(set), start: time.Now()}
		w.table, w.customers = jobtable.New(w.store), jobtable.NewCustomers(w.store.Customers())
		w.tracker = jobtable.NewCallTracker(w.store.Calls())
		w.limit(job.CallLimits{})
		if w.dead, err = memqueue.New(memqueue.Config{Name: "dead", Log: log}); err != nil {
			t.Fatal(err)
		}
		if w.jobs, err = memqueue.New(memqueue.Config{Name: "jobs", VisibilityTimeout: w.limits.JobsVisibility,
			MaxReceives: w.limits.JobsMaxReceives, DeadLetters: w.dead, Log: log}); err != nil {
			t.Fatal(err)
		}
		w.schedules = memschedule.New(w.jobs)
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
				t.Errorf("the log has %q:\n%s", value, logged.String())
			}
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// deploy replaces the function by a new one, which has what is around it in
// common with the one before, and nothing else.
func (w *world) deploy() {
	w.t.Helper()
	around := around{w}
	var err error
	if w.handler, err = process.New(process.Config{Tools: w.set, Table: around, Outcomes: outcomes{w}, Jobs: jobs{w}, Schedules: around,
		Admission: calls{w}, CallTracker: calls{w}, Customers: around, Completions: w.urls, Log: w.log}); err != nil {
		w.t.Fatal(err)
	}
}

// limit gives the calls limits.
func (w *world) limit(limits job.CallLimits) {
	w.admission = jobtable.NewAdmission(w.store.Calls(), limits)
}

// job is an accepted tool call, received now in a call that can last an hour.
func (w *world) job(id, tool string) job.Job {
	return job.Job{
		ID: job.ID("call-1", id), ToolCallID: id, Tool: tool, Arguments: json.RawMessage(`{"order":"` + argument + `"}`),
		Call:       job.Call{ID: "call-1", OrgID: "org-1", Type: "webCall", AssistantID: "assistant-1", CustomerNumber: number, ControlURL: controlURL},
		ReceivedAt: w.start, CallEnds: w.start.Add(time.Hour),
	}
}

func (w *world) send(jobs ...job.Job) {
	w.t.Helper()
	for _, j := range jobs {
		body, err := j.Encode()
		if err != nil {
			w.t.Fatal(err)
		}
		w.sendBody(body)
	}
}

func (w *world) sendBody(body string) {
	w.t.Helper()
	if err := errors.Join(w.jobs.Send(w.t.Context(), []queue.Message{{Body: body}})...); err != nil {
		w.t.Fatal(err)
	}
}

// run handles the jobs queue for d, and waits until everything has come back.
func (w *world) run(d time.Duration) {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	w.jobs.Run(ctx, w.handle)
	synctest.Wait()
}

// handle calls the handler as Lambda does.
func (w *world) handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, w.limits.ProcessTimeout)
	defer cancel()
	life := new(life)
	response, err := w.handler.Handle(context.WithValue(ctx, lifeKey{}, life), event)
	if life.over() {
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

// want checks what was sent, and how many messages are left.
func (w *world) want(results []job.Result, jobs, dead int) {
	w.t.Helper()
	if diff := gocmp.Diff(results, w.out.results()); diff != "" {
		w.t.Error(diff)
	}
	if w.jobs.Len() != jobs || w.dead.Len() != dead {
		w.t.Errorf("%d messages on the jobs queue and %d on the dead-letter queue, want %d and %d", w.jobs.Len(), w.dead.Len(), jobs, dead)
	}
}

func told(status job.Status, delivery job.Delivery, content string) []job.Result {
	return []job.Result{{Status: status, Delivery: delivery, Content: content}}
}

func controlled(content, message string) []job.Result {
	return []job.Result{{Status: job.StatusOK, Delivery: job.DeliveryControl, Content: content, Control: json.RawMessage(message)}}
}

const neutral = "I'm sorry, I wasn't able to finish that."

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := process.New(process.Config{}); err == nil {
		t.Error("no error")
	}
}

type badError struct{ text *string }

func (e badError) Error() string { return *e.text }

type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { panic("no JSON") }

func TestOneAttempt(t *testing.T) {
	text := asynctool.Text("It ships tomorrow.")
	long := strings.Repeat("word ", spoken.MaxContent)
	tests := map[string]struct {
		tool      tool
		run       run
		arguments string
		want      []job.Result
		dead      bool // the job goes to the dead-letter queue
	}{
		"text":            {run: gives(text, nil), want: told(job.StatusOK, job.DeliveryRespond, "It ships tomorrow.")},
		"the tool's way":  {tool: tool{Delivery: asynctool.Say}, run: gives(text, nil), want: told(job.StatusOK, job.DeliverySay, "It ships tomorrow.")},
		"the result's":    {tool: tool{Delivery: asynctool.Say}, run: gives(asynctool.Result{Text: " Shipped.\n", Delivery: asynctool.Silent}, nil), want: told(job.StatusOK, job.DeliverySilent, "Shipped.")},
		"too long":        {run: gives(asynctool.Text(long), nil), want: told(job.StatusOK, job.DeliveryRespond, spoken.Cut(long))},
		"transfer":        {run: gives(asynctool.Result{Action: asynctool.Transfer{Number: "+14155550100"}}, nil), want: controlled("", `{"type":"transfer","destination":{"type":"number","number":"+14155550100"}}`)},
		"transfer to SIP": {run: gives(asynctool.Result{Text: "One moment.", Action: asynctool.Transfer{SIPURI: "sip:a@example.com"}}, nil), want: controlled("One moment.", `{"type":"transfer","destination":{"type":"sip","sipUri":"sip:a@example.com"},"content":"One moment."}`)},
		"handoff":         {run: gives(asynctool.Result{Text: "One moment.", Action: asynctool.Handoff{Destination: map[string]string{"type": "assistant", "assistantId": "b"}}}, nil), want: controlled("One moment.", `{"type":"handoff","destination":{"assistantId":"b","type":"assistant"},"content":"One moment."}`)},
		"end call":        {run: gives(asynctool.Result{Action: asynctool.EndCall{}}, nil), want: controlled("", `{"type":"end-call"}`)},
		"end call after a text": {run: gives(asynctool.Result{Text: "Bye.", Action: asynctool.EndCall{}}, nil),
			want: controlled("Bye.", `{"type":"say","content":"Bye.","endCallAfterSpoken":true,"interruptionsEnabled":true,"interruptAssistantEnabled":false}`)},
		"mute": {run: gives(asynctool.Result{Action: asynctool.MuteAssistant}, nil), want: controlled("", `{"type":"control","control":"mute-assistant"}`)},

		"no text":                   {run: gives(asynctool.Result{}, nil), want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"an action's pointer":       {run: gives(asynctool.Result{Action: &asynctool.EndCall{}}, nil), want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"a transfer Vapi refuses":   {run: gives(asynctool.Result{Action: asynctool.Transfer{Number: "+1"}}, nil), want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"a handoff of no type":      {run: gives(asynctool.Result{Action: asynctool.Handoff{Destination: map[string]string{}}}, nil), want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"a handoff that panics":     {run: gives(asynctool.Result{Action: asynctool.Handoff{Destination: badJSON{}}}, nil), want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"an error":                  {run: gives(text, errors.New("database down")), want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"an error, said verbatim":   {tool: tool{Delivery: asynctool.Say, FailureText: "Not today."}, run: gives(text, errors.New("database down")), want: told(job.StatusError, job.DeliverySay, "Not today."), dead: true},
		"final":                     {run: gives(text, asynctool.Fail("There is no such order.", errors.New("404"))), want: told(job.StatusError, job.DeliveryRespond, "There is no such order.")},
		"final, wrapped":            {run: gives(text, fmt.Errorf("look up: %w", asynctool.Fail("There is no such order.", nil))), want: told(job.StatusError, job.DeliveryRespond, "There is no such order.")},
		"final without a text":      {run: gives(text, asynctool.Fail("", errors.New("404"))), want: told(job.StatusError, job.DeliveryRespond, neutral)},
		"final with a blank text":   {run: gives(text, asynctool.Fail(" \n", nil)), want: told(job.StatusError, job.DeliveryRespond, neutral)},
		"blank texts":               {tool: tool{FailureText: " "}, run: gives(text, asynctool.Fail("\t", nil)), want: told(job.StatusError, job.DeliveryRespond, "I'm sorry, I wasn't able to finish that.")},
		"final with a long text":    {run: gives(text, asynctool.Fail(long, nil)), want: told(job.StatusError, job.DeliveryRespond, spoken.Cut(long))},
		"again, but no attempts":    {run: gives(text, asynctool.TryAgain(time.Second, "Try later.", nil)), want: told(job.StatusError, job.DeliveryRespond, "Try later."), dead: true},
		"panic":                     {run: func(context.Context, asynctool.Call, input) (asynctool.Result, error) { panic("index out of range") }, want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"panic with an error":       {run: func(context.Context, asynctool.Call, input) (asynctool.Result, error) { panic(badError{}) }, want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"an error that panics":      {run: gives(text, badError{}), want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"a nil pointer as an error": {run: gives(text, (*asynctool.Error)(nil)), want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"the same, wrapped":         {run: gives(text, fmt.Errorf("x: %w", (*asynctool.Error)(nil))), want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},
		"end of the goroutine": {run: func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			runtime.Goexit()
			return text, nil
		}, want: told(job.StatusError, job.DeliveryRespond, neutral), dead: true},

		"argument missing":    {arguments: `{}`, want: told(job.StatusError, job.DeliveryRespond, "The tool tool was not run: order (the order's number) is missing. Ask the caller for what you do not know, then call tool again.")},
		"argument wrong":      {arguments: `{"order":["` + argument + `"]}`, tool: tool{Delivery: asynctool.Say, Attempts: 3}, want: told(job.StatusError, job.DeliveryRespond, "The tool tool was not run: order (the order's number) must be a text. Ask the caller for what you do not know, then call tool again.")},
		"arguments no object": {arguments: `null`, want: told(job.StatusError, job.DeliveryRespond, "The tool tool was not run: its arguments are not a JSON object. Call tool again with its arguments as a JSON object.")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.run == nil {
				tt.run = func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
					t.Error("the tool was run")
					return text, nil
				}
			}
			inWorld(t, []asynctool.Definition{does(tt.tool, tt.run)}, func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				if tt.arguments != "" {
					j.Arguments = json.RawMessage(tt.arguments)
				}
				w.send(j)
				w.run(time.Second)
				left := 0
				if tt.dead {
					left = 1
				}
				w.want(tt.want, left, 0)
				if r := w.record(j); r.State != job.StateDone || r.Attempt != 1 || r.Exhausted != tt.dead {
					t.Errorf("record %+v", r)
				}
				if outcome := w.out.sent[0]; !outcome.Deadline.Equal(j.CallEnds) || outcome.Call != j.Call || outcome.JobID != j.ID || outcome.Tool != j.Tool {
					t.Errorf("outcome %+v", outcome)
				}
			})
		})
	}
}

func TestCallAndArguments(t *testing.T) {
	var calls []asynctool.Call
	var inputs []input
	def := does(tool{Attempts: 2}, func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
		if call.Host == nil {
			t.Error("the tool cannot ask anything")
		}
		call.Host = nil
		calls, inputs = append(calls, call), append(inputs, in)
		if call.Attempt == 1 {
			return asynctool.Result{}, errors.New("once more")
		}
		return asynctool.Text("Done."), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		w.send(w.job("t1", "tool"))
		w.run(time.Minute)
		w.want(told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 0)
		want := asynctool.Call{ID: "call-1", OrgID: "org-1", Type: "webCall", AssistantID: "assistant-1", CustomerNumber: number, ToolCallID: "t1", Attempt: 1}
		again := want
		again.Attempt = 2
		if diff := gocmp.Diff([]asynctool.Call{want, again}, calls); diff != "" {
			t.Error(diff)
		}
		if inputs[0].Order != argument || inputs[1].Order != argument {
			t.Errorf("inputs %v", inputs)
		}
	})
}

func TestUnknownTool(t *testing.T) {
	a, b := does(tool{Name: "order_status"}, gives(asynctool.Text("a"), nil)), does(tool{Name: "refund"}, gives(asynctool.Text("b"), nil))
	tests := map[string]struct {
		tools []asynctool.Definition
		want  string
	}{
		"some":     {[]asynctool.Definition{a, b}, "There is no tool named orderStatus. The tools are: order_status, refund. Do not tell the caller a result that you do not have."},
		"none set": {nil, "There is no tool named orderStatus."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, tt.tools, func(t *testing.T, w *world) {
				w.send(w.job("t1", "orderStatus"))
				w.run(time.Second)
				w.want(told(job.StatusError, job.DeliveryRespond, tt.want), 0, 0)
			})
		})
	}
}

// TestRetries checks when attempts start, and that a job that failed for good
// is told once and then moves to the dead-letter queue.
func TestRetries(t *testing.T) {
	plain := func(int) error { return errors.New("down") }
	tests := map[string]struct {
		tool     tool
		err      func(attempt int) error // nil: the attempt succeeds
		want     []time.Duration         // when each attempt starts
		result   []job.Result
		deadline time.Duration // of the call; 0 means an hour
		dead     int
	}{
		"the second succeeds": {tool{Attempts: 3}, func(a int) error {
			if a == 2 {
				return nil
			}
			return errors.New("down")
		}, seconds(0, 2), told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 0},
		"growing delays": {tool{Attempts: 7}, plain, seconds(0, 2, 6, 14, 30, 60, 90), told(job.StatusError, job.DeliveryRespond, neutral), 0, 1},
		"the tool's own delay": {tool{Attempts: 3}, func(a int) error {
			return asynctool.TryAgain(time.Duration(a)*20*time.Second, fmt.Sprintf("Attempt %d failed.", a), nil)
		}, seconds(0, 20, 60), told(job.StatusError, job.DeliveryRespond, "Attempt 3 failed."), 0, 1},
		"a delay of a fraction": {tool{Attempts: 2}, func(int) error { return asynctool.TryAgain(1500*time.Millisecond, "", nil) }, seconds(0, 2), told(job.StatusError, job.DeliveryRespond, neutral), 0, 1},
		"a negative delay":      {tool{Attempts: 2}, func(int) error { return &asynctool.Error{Retry: true, After: -time.Hour} }, seconds(0, 2), told(job.StatusError, job.DeliveryRespond, neutral), 0, 1},
		"a delay of days":       {tool{Attempts: 2}, func(int) error { return asynctool.TryAgain(48*time.Hour, "", nil) }, seconds(0, 900), told(job.StatusError, job.DeliveryRespond, neutral), 0, 1},
		"final at the second": {tool{Attempts: 3}, func(a int) error {
			if a == 2 {
				return asynctool.Fail("No.", nil)
			}
			return errors.New("down")
		}, seconds(0, 2), told(job.StatusError, job.DeliveryRespond, "No."), 0, 0},
		"the call ends before the next": {tool{Attempts: 5}, plain, seconds(0, 2, 6), told(job.StatusError, job.DeliveryRespond, neutral), 13 * time.Second, 1},
		"the tool's deadline":           {tool{Attempts: 5, Deadline: 5 * time.Second}, plain, seconds(0, 2), told(job.StatusError, job.DeliveryRespond, neutral), 0, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			var started []time.Duration
			def := does(tt.tool, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				started = append(started, time.Since(start))
				return asynctool.Text("Done."), tt.err(call.Attempt)
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				start = time.Now()
				j := w.job("t1", "tool")
				if tt.deadline > 0 {
					j.CallEnds = w.start.Add(tt.deadline)
				}
				w.send(j)
				// The caller is told as soon as it is clear.
				w.run(tt.want[len(tt.want)-1] + time.Second)
				w.want(tt.result, tt.dead, 0)
				// The callback function has told it meanwhile.
				r := w.record(j)
				if err := w.table.Settle(t.Context(), r, time.Now(), job.StateDelivered, ""); err != nil {
					t.Fatal(err)
				}
				w.run(time.Hour)
				w.want(tt.result, 0, tt.dead)
				if diff := gocmp.Diff(tt.want, started); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func seconds(s ...int) []time.Duration {
	var d []time.Duration
	for _, n := range s {
		d = append(d, time.Duration(n)*time.Second)
	}
	return d
}

// TestCopiesOfAFailure bounds what a job on its way to the dead-letter queue
// costs while its outcome is not told yet.
func TestCopiesOfAFailure(t *testing.T) {
	inWorld(t, []asynctool.Definition{does(tool{}, gives(asynctool.Result{}, errors.New("down")))}, func(t *testing.T, w *world) {
		w.send(w.job("t1", "tool"))
		w.run(1900 * time.Millisecond)
		if n := len(w.out.sent); n != 1 {
			t.Errorf("the outcome was sent %d times before the callback function had time for it", n)
		}
		w.run(time.Hour)
		if w.dead.Len() != 1 || len(w.out.sent) > w.limits.JobsMaxReceives {
			t.Errorf("%d in the dead-letter queue, sent %d times", w.dead.Len(), len(w.out.sent))
		}
	})
}

func TestTimeout(t *testing.T) {
	tests := map[string]struct {
		run  run
		want []job.Result
		at   time.Duration
	}{
		"notices": {func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
			<-ctx.Done()
			return asynctool.Result{}, ctx.Err()
		}, told(job.StatusError, job.DeliveryRespond, neutral), 10 * time.Second},
		"notices, with words of its own": {func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
			<-ctx.Done()
			return asynctool.Result{}, asynctool.Fail("The shop did not answer.", ctx.Err())
		}, told(job.StatusError, job.DeliveryRespond, "The shop did not answer."), 10 * time.Second},
		"has a result after all": {func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
			<-ctx.Done()
			time.Sleep(500 * time.Millisecond)
			return asynctool.Text("Some of it."), nil
		}, told(job.StatusOK, job.DeliveryRespond, "Some of it."), 10500 * time.Millisecond},
		"ignores it": {func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			time.Sleep(time.Hour)
			return asynctool.Text("Too late."), nil
		}, told(job.StatusError, job.DeliveryRespond, neutral), 11 * time.Second},
		"panics late": {func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			time.Sleep(time.Minute)
			panic("too late")
		}, told(job.StatusError, job.DeliveryRespond, neutral), 11 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []asynctool.Definition{does(tool{Timeout: 10 * time.Second}, tt.run)}, func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				w.send(j)
				w.run(11500 * time.Millisecond)
				if diff := gocmp.Diff(tt.want, w.out.results()); diff != "" {
					t.Error(diff)
				}
				if len(w.out.at) != 1 || w.out.at[0] != tt.at {
					t.Errorf("told at %v, want %s", w.out.at, tt.at)
				}
				if r := w.record(j); tt.want[0].Status == job.StatusError && !strings.Contains(r.Reason, "the tool ran longer than 10s") {
					t.Errorf("the record's reason is %q", r.Reason)
				}
				time.Sleep(2 * time.Hour) // what is abandoned ends, and changes nothing
				if diff := gocmp.Diff(tt.want, w.out.results()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestFunctionDeadline gives the function less time than the tool may take.
func TestFunctionDeadline(t *testing.T) {
	for name, tt := range map[string]struct {
		life   time.Duration
		starts bool
		at     time.Duration
	}{
		"some time":          {40 * time.Second, true, 30 * time.Second},
		"no time to start":   {10 * time.Second, false, 0},
		"nearly none at all": {time.Second, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			started := false
			def := does(tool{}, func(ctx context.Context, _ asynctool.Call, _ input) (asynctool.Result, error) {
				started = true
				<-ctx.Done()
				return asynctool.Result{}, ctx.Err()
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				w.limits.ProcessTimeout = tt.life
				w.send(w.job("t1", "tool"))
				w.run(time.Second)
				w.want(told(job.StatusError, job.DeliveryRespond, neutral), 1, 0)
				if started != tt.starts || w.out.at[0] != tt.at {
					t.Errorf("started: %v, told at %v", started, w.out.at)
				}
			})
		})
	}
}

func TestSameJobTwice(t *testing.T) {
	tests := map[string]struct {
		attempts int
		err      error
		want     []job.Result
		second   time.Duration // when the second message comes
		dead     int           // messages of the job in the dead-letter queue
	}{
		"at once":               {1, nil, told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 0},
		"while it runs":         {1, nil, told(job.StatusOK, job.DeliveryRespond, "Done."), time.Second, 0},
		"after it was told":     {1, nil, told(job.StatusOK, job.DeliveryRespond, "Done."), time.Minute, 0},
		"a failure, at once":    {2, errors.New("down"), told(job.StatusError, job.DeliveryRespond, neutral), 0, 1},
		"a failure, afterwards": {1, errors.New("down"), told(job.StatusError, job.DeliveryRespond, neutral), time.Minute, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			runs := 0
			def := does(tool{Timeout: 10 * time.Second, Attempts: tt.attempts}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
				runs++
				time.Sleep(5 * time.Second)
				return asynctool.Text("Done."), tt.err
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				w.send(j)
				if tt.second == 0 {
					w.send(j)
				} else {
					time.AfterFunc(tt.second, func() { w.send(j) })
				}
				// The callback function tells it as soon as it is done.
				time.AfterFunc(13*time.Second, func() {
					if err := w.table.Settle(t.Context(), w.record(j), time.Now(), job.StateDelivered, ""); err != nil {
						t.Error(err)
					}
				})
				w.run(time.Hour)
				if runs != tt.attempts {
					t.Errorf("the tool ran %d times", runs)
				}
				if w.jobs.Len() != 0 || w.dead.Len() != tt.dead {
					t.Errorf("%d messages left, %d in the dead-letter queue", w.jobs.Len(), w.dead.Len())
				}
				results := w.out.results()
				if len(results) == 0 {
					t.Fatal("nothing was told")
				}
				for i := range results { // copies are possible, and the callback function tells one
					if diff := gocmp.Diff(tt.want, results[i:i+1]); diff != "" {
						t.Error(diff)
					}
				}
			})
		})
	}
}

// TestSameMessageTwice is what a standard queue may do at any time.
func TestSameMessageTwice(t *testing.T) {
	runs := 0
	def := does(tool{}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		runs++
		time.Sleep(time.Second)
		return asynctool.Text("Done."), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		body, err := w.job("t1", "tool").Encode()
		if err != nil {
			t.Fatal(err)
		}
		m := events.SQSMessage{MessageId: "m1", ReceiptHandle: "r1", Body: body}
		for _, event := range [][]events.SQSMessage{{m, m}, {m}, {m}} {
			response, err := w.handler.Handle(t.Context(), events.SQSEvent{Records: event})
			if err != nil {
				t.Fatal(err)
			}
			if failed := len(response.BatchItemFailures); failed != len(event)-1 {
				t.Errorf("%d of %d failed", failed, len(event))
			}
		}
		if runs != 1 {
			t.Errorf("the tool ran %d times", runs)
		}
	})
}

// TestCrash claims attempts that never come back, as of a function that was
// killed.
func TestCrash(t *testing.T) {
	tests := map[string]struct {
		attempts, crashes int
		want              []job.Result
		runs              int // the attempt's number that runs, 0 where none does
		exhausted         bool
	}{
		"one of two":        {2, 1, told(job.StatusOK, job.DeliveryRespond, "Done."), 2, false},
		"the only one":      {1, 1, told(job.StatusError, job.DeliveryRespond, neutral), 0, true},
		"all":               {3, 3, told(job.StatusError, job.DeliveryRespond, neutral), 0, true},
		"fewer allowed now": {1, 4, told(job.StatusError, job.DeliveryRespond, neutral), 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ran := 0
			def := does(tool{Timeout: time.Minute, Attempts: tt.attempts}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				ran = call.Attempt
				return asynctool.Text("Done."), nil
			})
			inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
				j := w.job("t1", "tool")
				for range tt.crashes {
					time.Sleep(2 * time.Minute)
					if _, err := w.table.Claim(t.Context(), job.NewRecord(j, job.Policy{}, j.CallEnds, "dead function", time.Now(), 75*time.Second)); err != nil {
						t.Fatal(err)
					}
				}
				last := time.Since(w.start)
				w.send(j)
				w.run(80 * time.Second)
				if diff := gocmp.Diff(tt.want, w.out.results()[:1]); diff != "" {
					t.Error(diff)
				}
				if at := w.out.at[0]; at != last+75*time.Second {
					t.Errorf("told at %s; the lease ran out at %s", at, last+75*time.Second)
				}
				r := w.record(j)
				if ran != tt.runs || r.Exhausted != tt.exhausted {
					t.Errorf("attempt %d ran; the record is %+v", ran, r)
				}
				if tt.exhausted && !strings.Contains(r.Reason, "died") {
					t.Errorf("the reason is %q", r.Reason)
				}
			})
		})
	}
}

// TestCrashBeforeSending has a stored outcome that was never sent.
func TestCrashBeforeSending(t *testing.T) {
	def := does(tool{}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		t.Error("the tool was run again")
		return asynctool.Text("Done twice."), nil
	})
	for _, exhausted := range []bool{false, true} {
		inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
			j := w.job("t1", "tool")
			w.send(j) // becomes the message jobs-1
			r, err := w.table.Claim(t.Context(), job.NewRecord(j, job.Policy{}, j.CallEnds, "jobs-1", time.Now(), time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			want := told(job.StatusOK, job.DeliverySay, "Done.")
			if _, err = w.table.ChangeClaimed(t.Context(), r, job.Finish(time.Now(), want[0], exhausted, "it failed")); err != nil {
				t.Fatal(err)
			}
			w.run(time.Second)
			if exhausted {
				w.want(want, 1, 0)
			} else {
				w.want(want, 0, 0)
			}
		})
	}
}

// TestOutcomeReceived has an outcome that the callback function has claimed: it
// is on the results queue, whatever becomes of it there.
func TestOutcomeReceived(t *testing.T) {
	def := does(tool{}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		t.Error("the tool was run again")
		return asynctool.Text("Done twice."), nil
	})
	for _, exhausted := range []bool{false, true} {
		inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
			j := w.job("t1", "tool")
			w.send(j) // becomes the message jobs-1
			r, err := w.table.Claim(t.Context(), job.NewRecord(j, job.Policy{}, j.CallEnds, "jobs-1", time.Now(), time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = w.table.ChangeClaimed(t.Context(), r, job.Finish(time.Now(), told(job.StatusOK, job.DeliverySay, "Done.")[0], exhausted, "it failed")); err != nil {
				t.Fatal(err)
			}
			if _, err := w.table.Change(t.Context(), j.ID, job.ClaimDelivery(time.Now(), time.Minute)); err != nil {
				t.Fatal(err)
			}
			w.run(time.Hour) // long after the lease
			if exhausted {
				w.want(nil, 0, 1)
			} else {
				w.want(nil, 0, 0)
			}
		})
	}
}

func TestTableErrors(t *testing.T) {
	down := errors.New("the table is down")
	runs := 0
	counts := func(err error) asynctool.Definition {
		runs = 0
		return does(tool{Timeout: 10 * time.Second, Attempts: 2}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			runs++
			if call.Attempt == 1 {
				return asynctool.Text("Done."), err
			}
			return asynctool.Textf("Done at attempt %d.", call.Attempt), nil
		})
	}
	t.Run("claim", func(t *testing.T) {
		inWorld(t, []asynctool.Definition{counts(nil)}, func(t *testing.T, w *world) {
			w.failing("Claim", down)
			w.send(w.job("t1", "tool"))
			w.run(10 * time.Second)
			w.want(nil, 1, 0)
			if runs != 0 {
				t.Error("a job was run without a claim")
			}
			w.fault = nil
			w.run(10 * time.Second)
			w.want(told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 0)
		})
	})
	t.Run("release", func(t *testing.T) {
		inWorld(t, []asynctool.Definition{counts(errors.New("once more"))}, func(t *testing.T, w *world) {
			w.failing("release", down)
			w.send(w.job("t1", "tool"))
			w.run(24 * time.Second)
			w.want(nil, 1, 0)
			w.run(2 * time.Second) // the lease of 25 s ran out
			w.want(told(job.StatusOK, job.DeliveryRespond, "Done at attempt 2."), 0, 0)
		})
	})
	t.Run("finish", func(t *testing.T) {
		inWorld(t, []asynctool.Definition{counts(nil)}, func(t *testing.T, w *world) {
			w.failing("finish", down)
			w.send(w.job("t1", "tool"))
			w.run(20 * time.Second)
			w.want(nil, 1, 0) // what is not stored is not sent
			w.fault = nil
			w.run(10 * time.Second)
			w.want(told(job.StatusOK, job.DeliveryRespond, "Done at attempt 2."), 0, 0)
			if runs != 2 {
				t.Errorf("the tool ran %d times", runs)
			}
		})
	})
}

// TestLostLease has somebody else claim the job while its tool runs.
func TestLostLease(t *testing.T) {
	var steal func()
	def := does(tool{Attempts: 3}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		steal()
		return asynctool.Textf("Attempt %d.", call.Attempt), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		other := job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "The other's result."}
		steal = func() {
			r := w.record(j)
			r.Attempt++
			r.Owner, r.LeaseExpiry = "other", time.Now().Add(time.Minute)
			r, err := w.store.Save(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(30*time.Second, func() {
				if _, err := w.table.ChangeClaimed(t.Context(), r, job.Finish(time.Now(), other, false, "")); err != nil {
					t.Error(err)
				}
			})
		}
		w.send(j)
		w.run(29 * time.Second)
		w.want(nil, 1, 0)
		w.run(time.Minute)
		w.want([]job.Result{other}, 0, 0)
	})
}

func TestSomeOutcomesOfABatchAreNotSent(t *testing.T) {
	inWorld(t, []asynctool.Definition{does(tool{}, gives(asynctool.Text("Done."), nil))}, func(t *testing.T, w *world) {
		w.out.takes = 20 * time.Millisecond // so that they share requests
		broken := true
		w.out.fail = func(o job.Outcome) error {
			if broken && strings.Contains("t0 t1 t4", o.ToolCallID) {
				return errors.New("throttled")
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

func TestDeadlinePast(t *testing.T) {
	def := does(tool{Deadline: time.Minute, FailureText: "Too late."}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		t.Error("the tool was run for nobody")
		return asynctool.Text("Done."), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		time.Sleep(time.Minute + time.Second)
		w.send(w.job("t1", "tool"))
		w.run(time.Second)
		w.want(told(job.StatusError, job.DeliveryRespond, "Too late."), 0, 0)
		if got, want := w.out.sent[0].Deadline, w.start.Add(time.Minute); !got.Equal(want) {
			t.Errorf("deadline %s, want %s", got, want)
		}
	})
}

// TestRedriven sends an exhausted job again, as an operator does who moves it out
// of the dead-letter queue, and as a repeated webhook does.
func TestRedriven(t *testing.T) {
	started := 0
	def := does(tool{FailureText: "Sorry."}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		started++
		return asynctool.Result{}, errors.New("down")
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		settle := func() {
			if err := w.table.Settle(t.Context(), w.record(j), time.Now(), job.StateDelivered, ""); err != nil {
				t.Fatal(err)
			}
		}
		w.send(j)
		w.run(time.Second)
		settle()
		w.run(2 * time.Minute)
		once := told(job.StatusError, job.DeliveryRespond, "Sorry.")
		w.want(once, 0, 1)

		// In the call's life it is no more than a repeat.
		w.send(j)
		w.run(time.Minute)
		w.want(once, 0, 1)
		// One that was sent in the call's life, and comes late, is too.
		w.send(j)
		time.Sleep(2 * time.Hour)
		w.run(time.Minute)
		w.want(once, 0, 1)

		// A webhook that is repeated after the tool's own deadline, and while the
		// call lasts, has a job of its own age.
		again := j
		again.ReceivedAt, again.CallEnds = time.Now(), time.Now().Add(time.Hour)
		w.send(again)
		w.run(time.Minute)
		w.want(once, 0, 1)

		// The outcome goes to the callback function again, which finds its
		// deadline passed. The table fails at first.
		w.failingTimes("redrive", 3)
		w.send(j)
		w.run(time.Minute)
		twice := append(once, once...)
		w.want(twice, 0, 1)
		if last := w.out.sent[1]; !last.Deadline.Before(time.Now()) {
			t.Errorf("the deadline is %s, and it would be told", last.Deadline)
		}
		settle()
		w.send(j)
		w.run(time.Minute)
		w.want(twice, 0, 1)
		if started != 1 {
			t.Errorf("the tool was started %d times", started)
		}
	})
}

// TestRefusal is about a job that is only there to tell why its tool cannot be
// run.
func TestRefusal(t *testing.T) {
	def := does(tool{Delivery: asynctool.Say}, func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
		t.Error("the tool was run")
		return asynctool.Text("Done."), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		j := w.job("t1", "tool")
		j.Refusal = "arguments cannot be used: they are not a JSON object"
		w.send(j)
		w.run(time.Second)
		w.want(told(job.StatusError, job.DeliveryRespond, "The tool tool was not run: arguments cannot be used: they are not a JSON object. Call tool again with its arguments as a JSON object."), 0, 0)
	})
}

func TestPoison(t *testing.T) {
	inWorld(t, []asynctool.Definition{does(tool{}, gives(asynctool.Text("Done."), nil))}, func(t *testing.T, w *world) {
		good := w.job("t1", "tool")
		future := w.job("t2", "tool")
		body, err := future.Encode()
		if err != nil {
			t.Fatal(err)
		}
		for _, poison := range []string{"?", "{}", "null", strings.Replace(body, `"version":1`, `"version":2`, 1), strings.Replace(body, `"call-1/t2"`, `"call-2/t2"`, 1)} {
			w.sendBody(poison)
		}
		w.send(good)
		w.run(time.Minute)
		w.want(told(job.StatusOK, job.DeliveryRespond, "Done."), 0, 5)
	})
}

// TestBatchTogether checks that a batch runs side by side, that its outcomes
// share requests, and that none waits for a slow one.
func TestBatchTogether(t *testing.T) {
	delays := map[string]time.Duration{"slow": time.Minute}
	def := does(tool{}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		time.Sleep(cmp.Or(delays[call.ToolCallID], time.Second))
		return asynctool.Text("Done."), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		w.out.takes = 20 * time.Millisecond
		w.send(w.job("slow", "tool"))
		for i := range 9 {
			w.send(w.job(fmt.Sprint("t", i), "tool"))
		}
		w.run(time.Second)
		if len(w.out.sent) != 10 || w.jobs.Len() != 0 {
			t.Fatalf("%d sent, %d messages left", len(w.out.sent), w.jobs.Len())
		}
		// The first to be ready goes at once, the others share the next.
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

// TestBatchLargerThanARequest has more outcomes at once than a request takes.
func TestBatchLargerThanARequest(t *testing.T) {
	inWorld(t, []asynctool.Definition{does(tool{}, gives(asynctool.Text("Done."), nil))}, func(t *testing.T, w *world) {
		w.out.takes = 20 * time.Millisecond
		var event events.SQSEvent
		for i := range 35 {
			body, err := w.job(fmt.Sprint("t", i), "tool").Encode()
			if err != nil {
				t.Fatal(err)
			}
			event.Records = append(event.Records, events.SQSMessage{MessageId: fmt.Sprint("m", i), Body: body})
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

// TestReadyTogether has jobs of one call that came together be ready at times
// apart: what is ready in the same moment goes in one message.
func TestReadyTogether(t *testing.T) {
	at := map[string]time.Duration{"t1": time.Second, "t2": time.Second + 200*time.Millisecond, "t3": 10 * time.Second, "t4": time.Second, "other": time.Second}
	def := does(tool{}, func(_ context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
		time.Sleep(at[call.ToolCallID])
		if call.ToolCallID == "t4" {
			return asynctool.Result{Text: call.ToolCallID, Delivery: asynctool.Say}, nil
		}
		return asynctool.Text(call.ToolCallID), nil
	})
	inWorld(t, []asynctool.Definition{def}, func(t *testing.T, w *world) {
		var messages []queue.Message
		for _, id := range []string{"t1", "t2", "t3", "t4", "other"} {
			j := w.job(id, "tool")
			if id == "other" {
				j = w.inCall("call-2", id)
				j.Tool = "tool"
			}
			body, err := j.Encode()
			if err != nil {
				t.Fatal(err)
			}
			messages = append(messages, queue.Message{Body: body, Group: queue.Group(j.Call.ID)})
		}
		if err := errors.Join(w.jobs.Send(t.Context(), messages)...); err != nil {
			t.Fatal(err)
		}
		w.run(time.Minute)
		got := make(map[string]time.Duration)
		for i, o := range w.out.sent {
			var ids []string
			for _, one := range o.All() {
				ids = append(ids, one.ToolCallID)
			}
			slices.Sort(ids)
			got[strings.Join(ids, " ")] = w.out.at[i]
		}
		want := map[string]time.Duration{
			"t1 t2": time.Second + 250*time.Millisecond, // the third might have been ready too
			"t3":    10 * time.Second, "t4": time.Second, "other": time.Second,
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
