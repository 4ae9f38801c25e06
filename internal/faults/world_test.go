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
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

const (
	ackTimeout  = 10 * time.Second // of the ack function
	postTimeout = 10 * time.Second // of a post, as in the control client

	// markTime is how long the mark of a delivery must be tried at least.
	markTime        = 15 * time.Second
	webhookPause    = 2 * time.Second // before a webhook or a command is repeated
	operatorTimeout = time.Minute     // of a command

	// patience is how long a run may take until no message is in flight any more.
	// What takes longer counts as lost.
	patience = 24 * time.Hour
)

// world is one run: a pipeline, everything around it, and the planned faults.
type world struct {
	scenario []webhook
	attempts map[string]int // how often a tool may be started, by name
	plan     map[step]kind
	outages  []outage
	copies   bool
	began    time.Time
	poll     time.Duration // how often settle looks at the world
	given    setting
	twins    *twins      // nil if no message is received once more
	clocks   []functions // one for each clock; empty means one clock
	index    staleIndex
	expiry   *expiry // nil if no record expires
	limits   queue.Limits
	over     chan struct{} // closed when the run is over; releases what died

	pipeline.Queues
	pipeline *pipeline.Pipeline // nil if the functions run as processes
	outcomes pipeline.Queue     // the results queue, with its faults
	checks   pipeline.Queue     // the jobs queue, with its faults
	wakeUps  func(u job.WakeUp, scheduled bool) []time.Duration
	records  func() []job.Record

	mu       sync.Mutex
	outbound map[string]outbound // calls, by id
	urls     map[string]string   // completion URLs, by job
	schedule map[string]string   // jobs, by the names of their schedules
	sent     int                 // messages
	late     int                 // those that were delayed
	used     []int               // clocks, by invocation
	external int                 // how many external systems and operators are not done
	reached  map[step]int        // how often each step was reached; the steps have no n
	trace    []step
	hit      map[step]bool
	observed observations
}

// observations are what was seen of the jobs, by job id.
type observations struct {
	accepted    map[string]bool
	repeated    map[string]bool // the webhook was posted again, since the answer was not 200
	starts      map[string][]start
	delivered   map[string][]part
	texts       map[string]int         // how often the text of an action was delivered apart from it
	deliveredAt map[string]time.Time   // when the last delivery was sent
	ended       map[string]time.Time   // when it was delivered, published or called for first
	posted      map[string][]time.Time // delivered or not
	published   map[string][]job.Undelivered
	called      map[string][]vapiclient.NewCall // outbound calls
	answered    map[string][]string             // what the answers to the webhook gave as the result
	progress    map[string][]int                // the numbers of the delivered progress lines
	progressAt  map[string]time.Time            // when the last of them was
	lines       map[string]int                  // how many progress lines were posted, delivered or not
	heard       map[string][]int                // the progress lines that a tool knows to be delivered
	completed   map[string][]string             // the posts to the completion URL that were answered with 200
	cancelled   map[string]bool                 // by an operator
	withdrawn   map[string]bool                 // by its assistant, as the answer says
	visible     map[string]bool                 // the process function died before it had hidden the message
	queues      map[string]map[string]bool      // from which the process function received the job or a wake-up
	gone        map[string]bool                 // by call: its control URL said so
	refused     map[string]bool                 // the control URL refused the message

	// How often Ringback cannot know what happened, by job: the post was accepted
	// and its answer was lost, or the function died before it recorded what it had
	// done. Each of them excuses one repeat.
	mayRepeatDelivery, mayRepeatText, mayRepeatEvent, mayRepeatLine map[string]int
	// The same for an outbound call, which is never repeated, but published.
	mayPublishCalled map[string]bool

	wrong []violation // what was wrong when it happened
}

// invocation is one call of a function. Everything that it does goes through
// [world.step]. Once it is dead, nothing that it does has an effect.
type invocation struct {
	world    *world
	function string
	dead     chan struct{}
	dying    sync.Once

	// The jobs of this invocation that were delivered, published or called for, and
	// are not marked yet. Guarded by world.mu.
	unmarkedDeliveries, unmarkedTexts, unmarkedEvents, unmarkedCalls, unmarkedLines map[string]bool

	jobs   map[string]string // by receipt handle
	hidden map[string]bool   // jobs whose messages are hidden by the function. Guarded by world.mu.
}

type invocationKey struct{}

func invocationOf(ctx context.Context) *invocation {
	return ctx.Value(invocationKey{}).(*invocation)
}

func (w *world) begin(ctx context.Context, function string) (context.Context, *invocation) {
	inv := &invocation{
		world: w, function: function, dead: make(chan struct{}), jobs: make(map[string]string),
		hidden:             make(map[string]bool),
		unmarkedDeliveries: make(map[string]bool), unmarkedTexts: make(map[string]bool),
		unmarkedEvents: make(map[string]bool), unmarkedCalls: make(map[string]bool),
		unmarkedLines: make(map[string]bool),
	}
	return context.WithValue(ctx, invocationKey{}, inv), inv
}

// die ends the invocation's process.
func (inv *invocation) die() {
	inv.dying.Do(func() {
		close(inv.dead)
		inv.doubt()
	})
}

// doubt records that what was done and is not marked may be done again. It may be called again, since what was begun
// before the death may end after it.
func (inv *invocation) doubt() {
	w := inv.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range inv.unmarkedDeliveries {
		w.observed.mayRepeatDelivery[id]++
	}
	clear(inv.unmarkedDeliveries)
	for id := range inv.unmarkedTexts {
		w.observed.mayRepeatText[id]++
	}
	clear(inv.unmarkedTexts)
	for id := range inv.unmarkedLines {
		w.observed.mayRepeatLine[id]++
	}
	clear(inv.unmarkedLines)
	for id := range inv.unmarkedEvents {
		w.observed.mayRepeatEvent[id]++
	}
	clear(inv.unmarkedEvents)
	for _, id := range inv.jobs {
		if !inv.hidden[id] {
			w.observed.visible[id] = true
		}
	}
	for id := range inv.unmarkedCalls {
		w.observed.mayPublishCalled[id] = true
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

// block stops what a dead invocation still does, until the run is over.
func (inv *invocation) block() error {
	<-inv.world.over
	return errDied
}

var (
	errInjected = errors.New("an injected error")
	errDied     = errors.New("the process died")
)

// step does something beyond the handlers, unless a fault is planned there.
func (w *world) step(ctx context.Context, op, id string, effect func() error) error {
	inv := invocationOf(ctx)
	if inv.isDead() {
		return inv.block()
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
		return inv.block()
	case slowKind:
		select {
		case <-time.After(slow):
		case <-ctx.Done():
		}
		if inv.isDead() {
			return inv.block()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	err := effect()
	if inv.isDead() {
		inv.doubt()
		return inv.block()
	}
	switch k {
	case lostAnswer:
		return errInjected
	case lateAnswer:
		return w.hang(ctx, inv)
	case beyondKind:
		time.Sleep(beyond)
		if inv.isDead() {
			return inv.block()
		}
	case deathAfter:
		inv.die()
		return inv.block()
	case repeatedKind:
		return effect()
	}
	return err
}

// hang waits until the context ends.
func (w *world) hang(ctx context.Context, inv *invocation) error {
	<-ctx.Done()
	if inv.isDead() {
		return inv.block()
	}
	return ctx.Err()
}

// reach counts a step and returns the fault that is planned there.
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
				return errorKind // the scheduler does not die, and has no timeout
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

// wrong records a violation. w.mu is held.
func (w *world) wrong(what, id, format string, a ...any) {
	w.observed.wrong = append(w.observed.wrong, violation{what, id, fmt.Sprintf(format, a...)})
}

// end records that a job has ended for its caller. w.mu is held.
func (w *world) end(id string) {
	if w.observed.ended[id].IsZero() {
		w.observed.ended[id] = time.Now()
	}
}

// faultyQueue is a queue with its faults.
type faultyQueue struct {
	world *world
	pipeline.Queue
	name string // jobs or results
}

// Send sends the messages one by one, since each place in a batch can fail alone. If
// one hangs, or kills the process, the messages before it are sent.
func (q faultyQueue) Send(ctx context.Context, messages []queue.Message) []error {
	if ctx.Value(invocationKey{}) == nil { // the scheduler, which may fail or send twice
		ctx, _ = q.world.begin(ctx, "scheduler")
	}
	op := "send outcome"
	if q.name == "jobs" {
		op = "send wake-up"
		if invocationOf(ctx).function == "ack" {
			op = "send job"
		}
	}
	errs := make([]error, len(messages))
	for i, m := range messages {
		errs[i] = q.world.step(ctx, op, jobIn(m.Body), func() error {
			if at := q.world.wakeUpTimes(m); at != nil {
				q.sendLater(m, at)
				return nil
			}
			send := func() error { return q.Queue.Send(context.WithoutCancel(ctx), []queue.Message{q.world.delayed(m)})[0] }
			if q.world.copies && q.name == "results" {
				return errors.Join(send(), send())
			}
			return send()
		})
	}
	return errs
}

// sendLater sends a message at other times than it should be.
func (q faultyQueue) sendLater(m queue.Message, at []time.Duration) {
	for _, after := range at {
		time.AfterFunc(m.Delay+after, func() {
			if err := q.Queue.Send(context.Background(), []queue.Message{{Body: m.Body}})[0]; err != nil {
				panic(err)
			}
		})
	}
}

// wakeUpTimes returns when a message is sent instead of when it is due, each time after that. It
// returns nil if the message is no wake-up, or if this run has no such faults.
func (w *world) wakeUpTimes(sent queue.Message) []time.Duration {
	if w.wakeUps == nil {
		return nil
	}
	m, err := job.DecodeMessage(sent.Body)
	if wakeUp, ok := m.(job.WakeUp); err == nil && ok {
		return w.wakeUps(wakeUp, sent.Group == "") // those of schedules have no group
	}
	return nil
}

func (q faultyQueue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	inv := invocationOf(ctx)
	return q.world.step(ctx, "change visibility", inv.jobs[receipt], func() error {
		q.world.mu.Lock()
		inv.hidden[inv.jobs[receipt]] = true
		q.world.mu.Unlock()
		if twins := q.world.twins.queueOf(receipt); twins != nil {
			return twins.ChangeVisibility(context.WithoutCancel(ctx), receipt, d)
		}
		return q.Queue.ChangeVisibility(context.WithoutCancel(ctx), receipt, d)
	})
}

// scheduler keeps the schedules, with their faults.
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

// store is the store of the jobs table, with its faults.
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
			heard := r.Progress != nil && r.Progress.Heard
			s.world.marked(invocationOf(ctx), r.ID, r.State, !r.TextDeliveredAt.IsZero(), heard)
			s.world.index.save(saved)
		}
		return err
	})
	return saved, err
}

func (s store) OfCall(ctx context.Context, callID string) (all []job.Summary, err error) {
	err = s.world.step(ctx, "query", callID, func() (err error) {
		if old := s.world.given.conditions.stale; old > 0 {
			all = s.world.index.ofCall(callID, time.Now().Add(-old))
			return nil
		}
		all, err = s.Stores.OfCall(context.WithoutCancel(ctx), callID)
		return err
	})
	return all, err
}

func (s store) Overdue(ctx context.Context, now time.Time, from string) (jobs []job.Summary, next string, err error) {
	err = s.world.step(ctx, "sweep", "", func() (err error) {
		jobs, next, err = s.Stores.Overdue(context.WithoutCancel(ctx), now, from)
		return err
	})
	return jobs, next, err
}

func (s store) Calls() jobtable.Store[job.CallRecord] {
	return records[job.CallRecord]{s.Stores.Calls(), s.world, "call", func(callID string) string { return callID }}
}

func (s store) Renewals() jobtable.Store[job.Renewal] {
	return records[job.Renewal]{s.Stores.Renewals(), s.world, "lease", func(id string) string { return id }}
}

func (s store) Customers() jobtable.Store[job.CustomerRecord] {
	return records[job.CustomerRecord]{s.Stores.Customers(), s.world, "customer", s.world.customerOf}
}

// records keeps the records of calls, customers or leases, with their faults. The kind,
// and what name makes of a key, name the steps.
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

// marked records that a delivery, an event or an outbound call is marked in its
// record.
func (w *world) marked(inv *invocation, id string, state job.State, text, line bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if line {
		delete(inv.unmarkedLines, id)
	}
	if text {
		delete(inv.unmarkedTexts, id)
	}
	switch state {
	case job.StateDelivered:
		delete(inv.unmarkedDeliveries, id)
		delete(inv.unmarkedCalls, id)
	case job.StateUndelivered:
		delete(inv.unmarkedEvents, id)
	}
}

// SendUndelivered is the event bus.
func (w *world) SendUndelivered(ctx context.Context, u job.Undelivered) error {
	inv := invocationOf(ctx)
	times := 0
	err := w.step(ctx, "publish", u.JobID, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.observed.published[u.JobID] = append(w.observed.published[u.JobID], u)
		w.end(u.JobID)
		inv.unmarkedEvents[u.JobID] = true
		times++
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if times > 1 {
		w.observed.mayRepeatEvent[u.JobID]++
	}
	if times > 0 && err != nil {
		w.observed.mayRepeatEvent[u.JobID]++
		delete(inv.unmarkedEvents, u.JobID) // it is excused
	}
	return err
}

// function makes a handler behave as a Lambda function: at its timeout it is killed,
// and when it is dead its response is lost.
func (w *world) function(name string, handler memqueue.Handler) memqueue.Handler {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		ctx, inv := w.begin(ctx, name)
		for _, m := range event.Records {
			inv.jobs[m.ReceiptHandle] = jobIn(m.Body)
			w.observeQueue(m)
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
				if a.response, a.err = w.clock().handler(name, handler)(ctx, event); a.err == nil {
					a.err = w.whole(ctx, "respond", event)
				}
			}
			answered <- a
		}()
		select {
		case <-inv.dead:
			return events.SQSEventResponse{}, errDied
		case a := <-answered:
			inv.giveUp()
			return a.response, a.err
		}
	}
}

// giveUp records that what was delivered or published, and could not be marked for as long as a mark must be
// tried, may be done again.
func (inv *invocation) giveUp() {
	w := inv.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range inv.unmarkedDeliveries {
		if time.Since(w.observed.deliveredAt[id]) > markTime {
			w.observed.mayRepeatDelivery[id]++
			delete(inv.unmarkedDeliveries, id)
		}
	}
	for id := range inv.unmarkedEvents {
		if all := w.observed.published[id]; time.Since(all[len(all)-1].At) > markTime {
			w.observed.mayRepeatEvent[id]++
			delete(inv.unmarkedEvents, id)
		}
	}
}

// whole is a step for each message of an event.
func (w *world) whole(ctx context.Context, op string, event events.SQSEvent) error {
	for _, m := range event.Records {
		if err := w.step(ctx, op, jobIn(m.Body), func() error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// vapi posts a webhook, and posts it again if the answer is not 200, as a tool's
// backoffPlan makes Vapi do.
func (w *world) vapi(hook webhook) {
	for range 10 {
		if status, answer, ok := w.front("ack", hook.subject(), "/vapi", hook.body()); ok && status == http.StatusOK {
			w.readAnswer(hook, answer)
			w.mu.Lock()
			for _, c := range hook.calls {
				if !strings.Contains(answer, `"`+c.id+`"`) {
					w.wrong("answer", hook.job(c), "the answer does not mention it: %s", answer)
				}
				if !c.answered() {
					w.observed.accepted[hook.job(c)] = true
				}
				if c.withdraws != "" && strings.Contains(answer, "is cancelled. No result of it will arrive.") {
					w.observed.withdrawn[w.jobOf(hook, c.withdraws)] = true
				}
			}
			w.mu.Unlock()
			return
		}
		w.mu.Lock()
		for _, c := range hook.calls {
			w.observed.repeated[hook.job(c)] = true
		}
		w.mu.Unlock()
		time.Sleep(webhookPause)
	}
}

// readAnswer notes the results of quick tools in an answer.
func (w *world) readAnswer(hook webhook, answer string) {
	var parsed struct {
		Results []struct{ ToolCallID, Result, Error string }
	}
	if err := json.Unmarshal([]byte(answer), &parsed); err != nil {
		return // an answer to another message
	}
	texts := make(map[string]string) // by job
	for _, r := range parsed.Results {
		for _, c := range hook.calls {
			if c.id == r.ToolCallID {
				texts[hook.job(c)] = r.Result + r.Error
			}
		}
	}
	for _, record := range w.records() {
		id, text := record.ID, texts[record.ID]
		if record.Result == nil || !strings.Contains(text, " "+record.Result.Content+" >>>") {
			continue
		}
		w.mu.Lock()
		w.observed.answered[id] = append(w.observed.answered[id], text)
		w.end(id)
		if record.State == job.StateDone { // it could not be marked
			w.observed.mayRepeatDelivery[id]++
		}
		w.mu.Unlock()
	}
}

// front posts to the function behind the HTTP API. It returns false if the function
// died.
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
		w.clock().front(response, request)
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

// webhook returns the first webhook of a call.
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

// completionKeys are those of all functions of a run.
const completionKeys = `{"current":"the-key-of-all-functions-of-a-run-of-the-harness"}`

// customerOf returns the first call of a customer, who is named as in the table.
func (w *world) customerOf(customer string) string {
	for _, h := range w.scenario {
		if slices.Contains(customerNames(h.number()), customer) {
			return h.call
		}
	}
	return customer
}

// customers has the names of customers in the table, by their numbers.
var customers sync.Map

// customerNames returns the names of a customer in the table: the current one, and the one of earlier versions.
func customerNames(number string) []string {
	if known, ok := customers.Load(number); ok {
		return known.([]string)
	}
	keys, err := completion.NewKeys(secret.Fixed(completionKeys), nil).Customers(context.Background())
	if err != nil {
		panic(err)
	}
	c := job.Call{CustomerNumber: number}
	both := []string{job.Customer(c, keys[0]), job.Customer(c, nil)}
	customers.Store(number, both)
	return both
}

// known has what messages say, by their bodies. Each step asks, and the runs repeat their messages.
var known struct {
	mu       sync.Mutex
	messages map[string]said
}

// said is what a message says.
type said struct {
	about string // see jobIn
	job   string // the id of its job, if it is a job or a wake-up
}

// maxKnown bounds known, which is then emptied.
const maxKnown = 10_000

// saidIn returns what a message says.
func saidIn(body string) said {
	known.mu.Lock()
	defer known.mu.Unlock()
	m, ok := known.messages[body]
	if ok {
		return m
	}
	m.about = about(body)
	switch message, _ := job.DecodeMessage(body); message := message.(type) {
	case job.Job:
		m.job = message.ID
	case job.WakeUp:
		m.job = message.JobID
	}
	if len(known.messages) >= maxKnown || known.messages == nil {
		known.messages = make(map[string]said)
	}
	known.messages[body] = m
	return m
}

// jobIn returns what a message is about: the job of a job, a wake-up or an outcome, or
// the jobs of several outcomes. For an arrival it is the call, and for poison the
// beginning of the body.
func jobIn(body string) string { return saidIn(body).about }

func about(body string) string {
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

// together names a step of several jobs.
func together(ids []string) string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return strings.Join(ids, " and ")
}

// The schedules in memory log when they cannot send, which happens here on purpose.
func init() { slog.SetDefault(slog.New(slog.DiscardHandler)) }

// setting configures a run.
type setting struct {
	scenario []webhook
	poison   []string
	plan     map[step]kind
	outages  []outage
	copies   bool // SQS delivers each outcome twice
	store    func(t *testing.T, w *world, own *memtable.Store) (jobtable.Stores, func() []job.Record)
	conditions
	tools    *asynctool.Set                                  // nil means tools
	calls    job.CallLimits                                  // zero means more than the scenarios need
	next     func(now time.Time) time.Time                   // when an outbound call may be made; nil means at any time
	endings  endings                                         // without faults; nil means that latency is not judged
	log      slog.Handler                                    // nil means none
	function func(*world, memqueue.Handler) memqueue.Handler // decorates each function; nil means none
	after    func(w *world)
	wakeUps  func(u job.WakeUp, scheduled bool) []time.Duration // see wakeUpTimes; nil means no such faults
	lasts    time.Duration                                      // the run; 0 means until nothing is left, see callAgain
}

// run plays a scenario in fake time, until nothing is in flight any more. It returns
// the world at that time.
func run(t *testing.T, s setting) *world {
	var w *world
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, s)
		ctx, stop := context.WithCancel(context.Background())
		var running, posting sync.WaitGroup
		for i, body := range s.poison {
			q := []*memqueue.Queue{w.Jobs, w.Results, w.LongJobs, w.Results}[i%4]
			if err := errors.Join(q.Send(ctx, []queue.Message{{Body: body}})...); err != nil {
				t.Fatal(err)
			}
		}
		running.Go(func() { w.pipeline.Run(ctx) })
		if w.twins != nil {
			for _, twins := range w.twins.run {
				running.Go(func() { twins(ctx) })
			}
		}
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
						w.operate(hook.job(c))
					})
				}
			}
		}
		posting.Wait()
		if s.lasts > 0 {
			time.Sleep(time.Until(w.began.Add(s.lasts)))
			w.settle(patience)
		} else {
			w.settle(patience)
			w.callAgain()
		}
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

// settle waits until no message is in flight, and nothing is scheduled.
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
		external := w.external
		w.mu.Unlock()
		if external+w.pending()+w.Len()+w.twins.len() == 0 {
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
		given:    setting{tools: tools},
		poll:     5 * time.Second,
		over:     make(chan struct{}),
		attempts: make(map[string]int),
		reached:  make(map[step]int),
		hit:      make(map[step]bool),
		urls:     make(map[string]string),
		outbound: make(map[string]outbound),
		schedule: make(map[string]string),
		observed: observations{
			accepted:    make(map[string]bool),
			repeated:    make(map[string]bool),
			starts:      make(map[string][]start),
			delivered:   make(map[string][]part),
			texts:       make(map[string]int),
			deliveredAt: make(map[string]time.Time),
			ended:       make(map[string]time.Time),
			posted:      make(map[string][]time.Time),
			published:   make(map[string][]job.Undelivered),
			called:      make(map[string][]vapiclient.NewCall),
			answered:    make(map[string][]string),
			progress:    make(map[string][]int),
			progressAt:  make(map[string]time.Time),
			lines:       make(map[string]int),
			heard:       make(map[string][]int),
			completed:   make(map[string][]string),
			cancelled:   make(map[string]bool),
			withdrawn:   make(map[string]bool),
			visible:     make(map[string]bool),
			queues:      make(map[string]map[string]bool),
			gone:        make(map[string]bool),
			refused:     make(map[string]bool),

			mayRepeatLine:     make(map[string]int),
			mayRepeatDelivery: make(map[string]int),
			mayRepeatText:     make(map[string]int),
			mayRepeatEvent:    make(map[string]int),
			mayPublishCalled:  make(map[string]bool),
		},
	}
}

func newWorld(t *testing.T, s setting) *world {
	w := emptyWorld()
	w.scenario, w.plan, w.outages, w.copies, w.began = s.scenario, s.plan, s.outages, s.copies, time.Now()
	w.wakeUps = s.wakeUps
	if s.tools == nil {
		s.tools = tools
	}
	if s.calls == (job.CallLimits{}) {
		s.calls = job.CallLimits{Jobs: 100, Concurrent: 100}
	}
	if s.next == nil {
		s.next = func(now time.Time) time.Time { return now }
	}
	w.given, w.limits = s, queue.LimitsFor(s.tools.MaxTimeout(), s.tools.MaxAttempts())
	for _, tool := range s.tools.Entries() {
		w.attempts[tool.Name] = tool.Attempts
	}
	if len(s.again) > 0 {
		w.twins = newTwins(w)
	}
	cfg := pipeline.Config{
		Tools:          s.tools,
		CallLimits:     s.calls,
		CompletionURL:  completionURL,
		CompletionKeys: completionKeys,
		CallLookup:     w,
		ChatClient:     w,
		OutboundCalls: &callback.OutboundCalls{
			Client: w, Next: s.next, AssistantID: "assistant", PhoneNumberID: "number",
		},
		Log: w.log(s),
	}
	// The functions of all clocks have the same queues and the same table.
	var parts parts
	cfg.Decorators = pipeline.Decorators{
		Store: func(own jobtable.Stores) jobtable.Stores {
			parts.store, w.records = s.store(t, w, own.(*memtable.Store))
			return parts.store
		},
		Jobs: func(own pipeline.Queue) pipeline.Queue {
			q := parts.jobs.add(faultyQueue{w, own, "jobs"})
			w.checks = parts.jobs.made[0]
			return q
		},
		Results: func(own pipeline.Queue) pipeline.Queue {
			w.outcomes = faultyQueue{w, own, "results"}
			return w.outcomes
		},
		Schedules: func(own pipeline.Schedules) pipeline.Schedules { return parts.schedules.add(scheduler{w, own}) },
		Control:   func(pipeline.ControlClient) pipeline.ControlClient { return w },
		Events:    func(pipeline.EventBus) pipeline.EventBus { return w },
		Function: func(name string, handler memqueue.Handler) memqueue.Handler {
			if s.function != nil {
				handler = s.function(w, handler)
			}
			handler = w.function(name, handler)
			if w.twins == nil {
				return handler
			}
			if name == "callback" {
				w.twins.add("results", w.limits.ResultVisibility, w.limits.CallbackTimeout, w.limits.ResultMaxReceives, handler)
			} else {
				for _, q := range []string{"jobs", "long-jobs"} {
					w.twins.add(q, w.limits.JobsVisibility, w.limits.ProcessTimeout, w.limits.JobsMaxReceives, handler)
				}
			}
			return w.twins.watch(handler)
		},
	}
	p, err := pipeline.New(cfg)
	if err == nil {
		err = w.addClocks(cfg, parts)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.pipeline, w.Queues = p, p.Queues
	return w
}

// pending returns the number of schedules.
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

var (
	callInLog = regexp.MustCompile(`call":"([^"]*)"`)   // without a prefix, which takes ten times as long
	callHash  = regexp.MustCompile(`^([0-9a-f]{16})?$`) // empty: there is none
)

// leaks is a log that searches each record for what it must not contain.
type leaks struct{ w *world }

func (l leaks) Write(record []byte) (int, error) {
	for _, secret := range []string{customer, planted, completionURL} {
		if bytes.Contains(record, []byte(secret)) {
			l.w.wrong("log", "", "it contains %s: %s", secret, record)
		}
	}
	for _, call := range callInLog.FindAllSubmatch(record, -1) {
		if !callHash.Match(call[1]) {
			l.w.wrong("log", "", "it contains the id of a call, %s: %s", call[1], record)
		}
	}
	return len(record), nil
}
