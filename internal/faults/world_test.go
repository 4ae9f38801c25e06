package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

const (
	ackTimeout  = 10 * time.Second // of the ack function
	postTimeout = 10 * time.Second // of a post, as the control client's own

	// patience is how long a run may take until nothing is on its way any
	// more. Whatever takes longer counts as lost.
	patience = 24 * time.Hour
)

// world is one run: the three handlers between queues and a table in memory,
// what surrounds them, and the faults that are planned.
type world struct {
	scenario []webhook
	attempts map[string]int // by tool: how often it may be started
	plan     map[step]kind
	outages  []outage
	judged   []outage // the outages, when they are over
	began    time.Time
	poll     time.Duration // how often it is looked whether all is done
	over     chan struct{} // closed when the run is over; lets go of what died

	pipeline.Queues
	pipeline *pipeline.Pipeline // nil where the functions run as processes
	outcomes pipeline.Queue     // the results queue, with its faults
	records  func() []job.Record

	mu       sync.Mutex
	urls     map[string]string // completion URLs, by job
	schedule map[string]string // jobs, by the names of their schedules
	outside  int               // how many of those outside have something to do still
	reached  map[step]int      // by the step without its n: how often
	trace    []step
	hit      map[step]bool
	observed observations
}

// observations are what the world saw, by job id.
type observations struct {
	accepted  map[string]bool
	repeated  map[string]bool // its webhook was, as it was not answered well
	starts    map[string][]start
	told      map[string][]part
	toldAt    map[string]time.Time   // the last time, by when it was sent
	posted    map[string][]time.Time // told or not
	announced map[string][]job.Undelivered
	called    map[string][]vapiclient.NewCall // back
	lines     map[string][]int                // the progress lines that were told, by their numbers
	completed map[string][]string             // what was posted to the completion URL, and answered with 200
	cancelled map[string]bool                 // by an operator
	gone      map[string]bool                 // by call: it said so

	// Where a repeat is beyond what anybody can know: the message was taken
	// and the answer was lost, or the function died before it could write
	// down what it had done.
	mayRepeatTold, mayRepeatAnnounced map[string]bool
	// The same of a call back, which is never repeated, but announced.
	mayAnnounceCalled map[string]bool

	wrong []violation // what was seen to be wrong at once
}

// invocation is one call of a function. What it does goes through
// [world.step]; once it is dead, nothing that it does has an effect.
type invocation struct {
	world    *world
	function string
	dead     chan struct{}
	dying    sync.Once

	// Of this invocation's jobs, those that were told or announced and not
	// marked so yet. Guarded by world.mu.
	unmarkedTold, unmarkedAnnounced, unmarkedCalled map[string]bool
	jobs                                            map[string]string // by receipt handle
}

type invocationKey struct{}

func invocationOf(ctx context.Context) *invocation {
	return ctx.Value(invocationKey{}).(*invocation)
}

func (w *world) begin(ctx context.Context, function string) (context.Context, *invocation) {
	inv := &invocation{
		world: w, function: function, dead: make(chan struct{}),
		unmarkedTold: make(map[string]bool), unmarkedAnnounced: make(map[string]bool), unmarkedCalled: make(map[string]bool), jobs: make(map[string]string),
	}
	return context.WithValue(ctx, invocationKey{}, inv), inv
}

// die ends the invocation's process.
func (inv *invocation) die() {
	inv.dying.Do(func() {
		inv.doubt()
		close(inv.dead)
	})
}

// doubt notes that what was done and not marked may be done again.
func (inv *invocation) doubt() {
	w := inv.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range inv.unmarkedTold {
		w.observed.mayRepeatTold[id] = true
	}
	for id := range inv.unmarkedAnnounced {
		w.observed.mayRepeatAnnounced[id] = true
	}
	for id := range inv.unmarkedCalled {
		w.observed.mayAnnounceCalled[id] = true
	}
}

func (inv *invocation) isDead() bool {
	select {
	case <-inv.dead:
		return true
	default:
		return false
	}
}

// lies is where the dead do what they still do: wait, until the run is over.
func (inv *invocation) lies() error {
	<-inv.world.over
	return errDied
}

var (
	errInjected = errors.New("an injected error")
	errDied     = errors.New("the process died")
)

// step does something that talks to the outside, unless a fault is planned
// there.
func (w *world) step(ctx context.Context, op, id string, effect func() error) error {
	inv := invocationOf(ctx)
	if inv.isDead() {
		return inv.lies()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	k := w.reach(inv, op, id)
	switch k {
	case errorKind:
		return errInjected
	case timeoutKind:
		return w.hang(ctx, inv)
	case deathBefore:
		inv.die()
		return inv.lies()
	case slowKind:
		select {
		case <-time.After(slow):
		case <-ctx.Done():
		}
		if inv.isDead() {
			return inv.lies()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	err := effect()
	switch k {
	case lostAnswer:
		return errInjected
	case lateAnswer:
		return w.hang(ctx, inv)
	case deathAfter:
		inv.die()
		return inv.lies()
	case repeatedKind:
		return effect()
	}
	return err
}

// hang does nothing until the time is up.
func (w *world) hang(ctx context.Context, inv *invocation) error {
	<-ctx.Done()
	if inv.isDead() {
		return inv.lies()
	}
	return ctx.Err()
}

// reach counts a step and gives the fault that is planned there.
func (w *world) reach(inv *invocation, op, id string) kind {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := step{function: inv.function, op: op, job: id}
	w.reached[s]++
	s.n = w.reached[s]
	w.trace = append(w.trace, s)
	for _, o := range w.outages {
		if at := time.Since(w.began); o.hits(s) && at >= o.from && at < o.from+o.lasts {
			if inv.function == "scheduler" {
				return errorKind // it does not die, and has all the time
			}
			return o.kind
		}
	}
	k, planned := w.plan[s]
	if planned {
		w.hit[s] = true
	}
	return k
}

// wrong notes what must not have happened. w.mu is held.
func (w *world) wrong(what, id, format string, a ...any) {
	w.observed.wrong = append(w.observed.wrong, violation{what, id, fmt.Sprintf(format, a...)})
}

// faultyQueue is a queue as the functions see it.
type faultyQueue struct {
	world *world
	pipeline.Queue
	name string // jobs or results
}

// Send sends each message on its own, as each place in a batch can fail alone.
// What hangs or kills stops the whole request, with those before it sent.
func (q faultyQueue) Send(ctx context.Context, messages []queue.Message) []error {
	if ctx.Value(invocationKey{}) == nil { // the scheduler, which may fail, or send a message twice
		ctx, _ = q.world.begin(ctx, "scheduler")
	}
	op := "send outcome"
	if q.name == "jobs" {
		op = "send wake"
		if invocationOf(ctx).function == "ack" {
			op = "send job"
		}
	}
	errs := make([]error, len(messages))
	for i, m := range messages {
		errs[i] = q.world.step(ctx, op, jobIn(m.Body), func() error {
			return q.Queue.Send(context.WithoutCancel(ctx), messages[i:i+1])[0]
		})
	}
	return errs
}

func (q faultyQueue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	return q.world.step(ctx, "change visibility", invocationOf(ctx).jobs[receipt], func() error {
		return q.Queue.ChangeVisibility(context.WithoutCancel(ctx), receipt, d)
	})
}

// scheduler keeps the schedules.
type scheduler struct {
	world *world
	pipeline.Schedules
}

func (s scheduler) At(ctx context.Context, name string, at time.Time, body string) error {
	return s.world.step(ctx, "schedule", jobIn(body), func() error {
		s.world.mu.Lock()
		s.world.schedule[name] = jobIn(body)
		s.world.mu.Unlock()
		return s.Schedules.At(context.WithoutCancel(ctx), name, at, body)
	})
}

func (s scheduler) Cancel(ctx context.Context, name string) error {
	s.world.mu.Lock()
	id := s.world.schedule[name]
	s.world.mu.Unlock()
	return s.world.step(ctx, "cancel schedule", id, func() error {
		return s.Schedules.Cancel(context.WithoutCancel(ctx), name)
	})
}

// store is the jobs table's store.
type store struct {
	jobtable.Stores
	world *world
}

func (s store) Load(ctx context.Context, id string) (r job.Record, err error) {
	err = s.world.step(ctx, "load", id, func() (err error) {
		r, err = s.Stores.Load(context.WithoutCancel(ctx), id)
		return err
	})
	return r, err
}

func (s store) Save(ctx context.Context, r job.Record) (saved job.Record, err error) {
	err = s.world.step(ctx, saveOp(r.State), r.ID, func() (err error) {
		saved, err = s.Stores.Save(context.WithoutCancel(ctx), r)
		if err == nil {
			s.world.marked(invocationOf(ctx), r.ID, r.State)
		}
		return err
	})
	return saved, err
}

func (s store) OfCall(ctx context.Context, callID string) (all []job.Summary, err error) {
	err = s.world.step(ctx, "query", callID, func() (err error) {
		all, err = s.Stores.OfCall(context.WithoutCancel(ctx), callID)
		return err
	})
	return all, err
}

func (s store) Calls() jobtable.Store[job.CallRecord] {
	return records[job.CallRecord]{s.Stores.Calls(), s.world, "call", func(callID string) string { return callID }}
}

func (s store) Customers() jobtable.Store[job.CustomerRecord] {
	return records[job.CustomerRecord]{s.Stores.Customers(), s.world, "customer", s.world.customerOf}
}

// records are the records of calls, or of customers. Their steps are named by
// the kind, and by what name makes of their keys.
type records[R jobtable.Record[R]] struct {
	jobtable.Store[R]
	world *world
	kind  string
	name  func(key string) string
}

func (s records[R]) Load(ctx context.Context, key string) (r R, err error) {
	err = s.world.step(ctx, "load "+s.kind, s.name(key), func() (err error) {
		r, err = s.Store.Load(context.WithoutCancel(ctx), key)
		return err
	})
	return r, err
}

func (s records[R]) Save(ctx context.Context, r R) (saved R, err error) {
	err = s.world.step(ctx, "save "+s.kind, s.name(r.Key()), func() (err error) {
		saved, err = s.Store.Save(context.WithoutCancel(ctx), r)
		return err
	})
	return saved, err
}

func saveOp(state job.State) string { return "save " + string(state) }

// marked notes that what was told or announced is written down now.
func (w *world) marked(inv *invocation, id string, state job.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch state {
	case job.StateDelivered:
		delete(inv.unmarkedTold, id)
		delete(inv.unmarkedCalled, id)
	case job.StateUndelivered:
		delete(inv.unmarkedAnnounced, id)
	}
}

// Announce makes the world its own event bus.
func (w *world) SendUndelivered(ctx context.Context, u job.Undelivered) error {
	inv := invocationOf(ctx)
	times := 0
	err := w.step(ctx, "announce", u.JobID, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.observed.announced[u.JobID] = append(w.observed.announced[u.JobID], u)
		inv.unmarkedAnnounced[u.JobID] = true
		times++
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if times > 1 || times == 1 && err != nil {
		w.observed.mayRepeatAnnounced[u.JobID] = true
	}
	return err
}

// function makes a Lambda function of a handler: what is left at its timeout
// is killed, and what died answers nothing.
func (w *world) function(name string, handler memqueue.Handler) memqueue.Handler {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		ctx, inv := w.begin(ctx, name)
		for _, m := range event.Records {
			inv.jobs[m.ReceiptHandle] = jobIn(m.Body)
		}
		stop := context.AfterFunc(ctx, inv.die)
		defer stop()
		type answer struct {
			response events.SQSEventResponse
			err      error
		}
		answered := make(chan answer, 1)
		go func() {
			var a answer
			if a.err = w.whole(ctx, "receive", event); a.err == nil {
				if a.response, a.err = handler(ctx, event); a.err == nil {
					a.err = w.whole(ctx, "respond", event)
				}
			}
			answered <- a
		}()
		select {
		case <-inv.dead:
			return events.SQSEventResponse{}, errDied
		case a := <-answered:
			return a.response, a.err
		}
	}
}

// whole is a step of all messages of an event.
func (w *world) whole(ctx context.Context, op string, event events.SQSEvent) error {
	for _, m := range event.Records {
		if err := w.step(ctx, op, jobIn(m.Body), func() error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// vapi posts a webhook, and posts it again where the answer is not 2xx, as a
// tool's backoffPlan makes Vapi do.
func (w *world) vapi(hook webhook) {
	for range 10 {
		if status, answer, ok := w.front("ack", hook.subject(), "/vapi", hook.body()); ok && status == http.StatusOK {
			w.mu.Lock()
			for _, c := range hook.calls {
				if !strings.Contains(answer, `"`+c.id+`"`) {
					w.wrong("answer", job.ID(hook.call, c.id), "the answer does not mention it: %s", answer)
				}
				if !c.answered() {
					w.observed.accepted[job.ID(hook.call, c.id)] = true
				}
			}
			w.mu.Unlock()
			return
		}
		w.mu.Lock()
		for _, c := range hook.calls {
			w.observed.repeated[job.ID(hook.call, c.id)] = true
		}
		w.mu.Unlock()
		time.Sleep(2 * time.Second)
	}
}

// front posts to the function behind the HTTP API. It gives false where the
// function died.
func (w *world) front(function, subject, path, body string) (status int, answer string, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	ctx, inv := w.begin(ctx, function)
	stop := context.AfterFunc(ctx, inv.die)
	defer stop()
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		response := httptest.NewRecorder()
		w.pipeline.Front.ServeHTTP(response, request)
		if err := w.step(ctx, "respond", subject, func() error { return nil }); err != nil {
			response.Code = http.StatusInternalServerError
		}
		answered <- response
	}()
	select {
	case <-inv.dead:
		return 0, "", false
	case r := <-answered:
		return r.Code, r.Body.String(), true
	}
}

// webhook is the first one of a call.
func (w *world) webhook(callID string) webhook {
	for _, h := range w.scenario {
		if h.call == callID {
			return h
		}
	}
	if first, ok := strings.CutPrefix(callID, afterwards); ok {
		return webhook{call: callID, customer: w.webhook(first).whose(), status: vapi.StatusInProgress}
	}
	panic("a post to a call that is not in the scenario: " + callID)
}

// customerOf is the first call of a customer, by what the table calls the
// customer.
func (w *world) customerOf(customer string) string {
	for _, h := range w.scenario {
		if job.Customer(job.Call{CustomerNumber: h.number()}) == customer {
			return h.call
		}
	}
	return customer
}

// jobIn is the job id of a job, of its wake or of an outcome, or the ids of
// several outcomes; of an arrival, the call; of poison, what it begins with.
func jobIn(body string) string {
	var m struct {
		ID    string `json:"id"`
		JobID string `json:"jobId"`
		Kind  string `json:"kind"`
		Call  struct {
			ID string `json:"id"`
		} `json:"call"`
		With []struct {
			JobID string `json:"jobId"`
		} `json:"with"`
	}
	err := json.Unmarshal([]byte(body), &m)
	switch {
	case err == nil && m.Kind == "arrival":
		return m.Kind + " " + m.Call.ID
	case err != nil || m.ID+m.JobID == "":
		return fmt.Sprintf("poison %.12s", body)
	}
	ids := []string{m.ID + m.JobID}
	for _, other := range m.With {
		ids = append(ids, other.JobID)
	}
	return together(ids)
}

// together names what several jobs go through as one.
func together(ids []string) string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return strings.Join(ids, " and ")
}

// What the schedules in memory log when they cannot send says nothing here: it
// was meant to fail.
func init() { slog.SetDefault(slog.New(slog.DiscardHandler)) }

// setting is how a world is made.
type setting struct {
	scenario []webhook
	poison   []string
	plan     map[step]kind
	outages  []outage
	store    func(t *testing.T, w *world, own *memtable.Store) (jobtable.Stores, func() []job.Record)
	log      slog.Handler // nil means none
	after    func(w *world)
}

// run plays a scenario in fake time, until nothing is on its way any more, and
// gives the world as it then is.
func run(t *testing.T, s setting) *world {
	var w *world
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, s)
		ctx, stop := context.WithCancel(context.Background())
		var running, posting sync.WaitGroup
		for i, body := range s.poison {
			q := []*memqueue.Queue{w.Jobs, w.Results}[i%2]
			if err := errors.Join(q.Send(ctx, []queue.Message{{Body: body}})...); err != nil {
				t.Fatal(err)
			}
		}
		running.Go(func() { w.pipeline.Run(ctx) })
		for _, hook := range s.scenario {
			for _, at := range hook.posted() {
				posting.Go(func() {
					time.Sleep(at)
					w.vapi(hook)
				})
			}
			for _, c := range hook.calls {
				if c.cancelled > 0 {
					posting.Go(func() {
						time.Sleep(c.cancelled)
						w.operate(job.ID(hook.call, c.id))
					})
				}
			}
		}
		posting.Wait()
		w.settle(patience)
		w.callAgain()
		if s.after != nil {
			s.after(w)
			w.settle(patience)
		}
		stop()
		running.Wait()
		close(w.over)
		time.Sleep(time.Hour) // for tools that ignore their context
	})
	return w
}

// settle waits until nothing is on its way, and nothing waits for its time.
func (w *world) settle(most time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	for {
		if err := w.Drained(ctx); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.wrong("lost", "", "after %s: %v", most, err)
			return
		}
		w.mu.Lock()
		outside := w.outside
		w.mu.Unlock()
		if outside+w.pending()+w.Jobs.Len()+w.Results.Len() == 0 {
			return
		}
		if ctx.Err() != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.wrong("lost", "", "after %s there are %d schedules", most, w.pending())
			return
		}
		time.Sleep(w.poll)
	}
}

func emptyWorld() *world {
	return &world{
		poll: 5 * time.Second, over: make(chan struct{}), attempts: make(map[string]int), reached: make(map[step]int), hit: make(map[step]bool),
		urls: make(map[string]string), schedule: make(map[string]string),
		observed: observations{
			accepted: make(map[string]bool), repeated: make(map[string]bool), starts: make(map[string][]start),
			told: make(map[string][]part), toldAt: make(map[string]time.Time), posted: make(map[string][]time.Time),
			announced: make(map[string][]job.Undelivered), called: make(map[string][]vapiclient.NewCall), lines: make(map[string][]int),
			completed: make(map[string][]string), cancelled: make(map[string]bool), gone: make(map[string]bool),
			mayRepeatTold: make(map[string]bool), mayRepeatAnnounced: make(map[string]bool), mayAnnounceCalled: make(map[string]bool),
		},
	}
}

func newWorld(t *testing.T, s setting) *world {
	w := emptyWorld()
	w.scenario, w.plan, w.outages, w.judged, w.began = s.scenario, s.plan, s.outages, s.outages, time.Now()
	for _, tool := range tools.Entries() {
		w.attempts[tool.Name] = tool.Attempts
	}
	p, err := pipeline.New(pipeline.Config{
		Tools: tools,
		// More than the scenarios need: who is refused is not what breaks here.
		CallLimits:    job.CallLimits{Jobs: 100, Concurrent: 100},
		CompletionURL: completionURL,
		ChatClient:    w,
		OutboundCalls: &callback.OutboundCalls{
			Client: w, Next: func(now time.Time) time.Time { return now }, AssistantID: "assistant", PhoneNumberID: "number",
		},
		Log: w.log(s),
		Decorators: pipeline.Decorators{
			Store: func(own jobtable.Stores) jobtable.Stores {
				var store jobtable.Stores
				store, w.records = s.store(t, w, own.(*memtable.Store))
				return store
			},
			Jobs: func(own pipeline.Queue) pipeline.Queue { return faultyQueue{w, own, "jobs"} },
			Results: func(own pipeline.Queue) pipeline.Queue {
				w.outcomes = faultyQueue{w, own, "results"}
				return w.outcomes
			},
			Schedules: func(own pipeline.Schedules) pipeline.Schedules { return scheduler{w, own} },
			Control:   func(pipeline.ControlClient) pipeline.ControlClient { return w },
			Events:    func(pipeline.EventBus) pipeline.EventBus { return w },
			Function:  w.function,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.pipeline, w.Queues = p, p.Queues
	return w
}

// pending is how many schedules there are.
func (w *world) pending() int {
	if w.pipeline == nil {
		return 0
	}
	return w.pipeline.Schedules.Len()
}

func (w *world) log(s setting) *slog.Logger {
	if s.log != nil {
		return slog.New(s.log)
	}
	return slog.New(slog.NewJSONHandler(leaks{w}, nil))
}

// leaks is a log that is looked through, each record on its own, for what it
// may not hold.
type leaks struct{ w *world }

func (l leaks) Write(record []byte) (int, error) {
	for _, secret := range []string{customer, planted, completionURL} {
		if bytes.Contains(record, []byte(secret)) {
			l.w.wrong("log", "", "it holds %s: %s", secret, record)
		}
	}
	return len(record), nil
}
