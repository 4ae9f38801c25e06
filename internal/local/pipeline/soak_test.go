package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// soak is a long run with faults everywhere. Its clock is that of a synctest bubble:
// it measures whether anything is lost or grows, not how fast it is.
type soak struct {
	*world

	mu     sync.Mutex
	random *rand.Rand
	faults map[string]int        // how often each happened
	jobs   map[string]*soakedJob // of this wave, by call and tool call: "call/t0"

	accepted, delivered, failed, undelivered, again, twice, lost int // of all waves
	dead, poison                                                 int // in the dead-letter queues
}

// soakedJob counts what was seen of an accepted tool call.
type soakedJob struct {
	heard, failures, published int
	// excused is how often it may be delivered again: Ringback cannot know of a
	// delivery if the control URL's answer is lost.
	excused int
}

// active reports whether a job runs or waits.
func (s *soak) active() bool {
	return slices.ContainsFunc(s.Records.Records(), func(r job.Record) bool { return r.State.Active() })
}

// hits reports whether a fault happens now: once in a hundred times.
func (s *soak) hits(fault string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.random.IntN(100) > 0 {
		return false
	}
	s.faults[fault]++
	return true
}

func (s *soak) job(id string) *soakedJob {
	if s.jobs[id] == nil {
		s.jobs[id] = new(soakedJob)
	}
	return s.jobs[id]
}

func (s *soak) note(id string, what func(*soakedJob)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what(s.job(id))
}

var errSoak = errors.New("planted fault")

// soakStore is the store of the jobs table.
type soakStore struct {
	jobtable.Stores
	s *soak
}

func (st soakStore) Load(ctx context.Context, id string) (job.Record, error) {
	if st.s.hits("table: a read fails") {
		return job.Record{}, errSoak
	}
	if st.s.hits("table: a read is slow") {
		time.Sleep(3 * time.Second)
	}
	return st.Stores.Load(ctx, id)
}

func (st soakStore) Save(ctx context.Context, r job.Record) (job.Record, error) {
	if st.s.hits("table: a write fails") {
		return job.Record{}, errSoak
	}
	if st.s.hits("table: a write is slow") {
		time.Sleep(3 * time.Second)
	}
	saved, err := st.Stores.Save(ctx, r)
	if err == nil && st.s.hits("table: a write's answer is lost") {
		return job.Record{}, errSoak
	}
	return saved, err
}

func (st soakStore) Calls() jobtable.Store[job.CallRecord] {
	return soakCallRecords{st.Stores.Calls(), st.s}
}

// soakCallRecords are the records of calls.
type soakCallRecords struct {
	jobtable.Store[job.CallRecord]
	s *soak
}

func (st soakCallRecords) Load(ctx context.Context, callID string) (job.CallRecord, error) {
	if st.s.hits("table: a read of a call fails") {
		return job.CallRecord{}, errSoak
	}
	return st.Store.Load(ctx, callID)
}

func (st soakCallRecords) Save(ctx context.Context, r job.CallRecord) (job.CallRecord, error) {
	if st.s.hits("table: a write of a call fails") {
		return job.CallRecord{}, errSoak
	}
	saved, err := st.Store.Save(ctx, r)
	if err == nil && st.s.hits("table: the answer to a write of a call is lost") {
		return job.CallRecord{}, errSoak
	}
	return saved, err
}

// soakQueue is a queue as a handler sees it.
type soakQueue struct {
	pipeline.Queue
	name string
	s    *soak
}

func (q soakQueue) Send(ctx context.Context, messages []queue.Message) []error {
	errs := make([]error, len(messages))
	for i, m := range messages {
		if q.s.hits(q.name + ": a message is not taken") {
			errs[i] = errSoak
			continue
		}
		errs[i] = q.Queue.Send(ctx, []queue.Message{m})[0]
		if q.s.hits(q.name + ": a send's answer is lost") {
			errs[i] = errSoak
		}
		if q.s.hits(q.name + ": a message comes twice") {
			_ = q.Queue.Send(ctx, []queue.Message{m})
		}
	}
	return errs
}

func (q soakQueue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	if q.s.hits(q.name + ": the visibility is not changed") {
		return errSoak
	}
	return q.Queue.ChangeVisibility(ctx, receipt, d)
}

// dies makes a function die sometimes: before it has done anything, or after
// everything, before it responds.
func (s *soak) dies(name string, h memqueue.Handler) memqueue.Handler {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		if s.hits(name + ": dies at its start") {
			return events.SQSEventResponse{}, errSoak
		}
		response, err := h(ctx, event)
		if s.hits(name + ": dies at its end") {
			return events.SQSEventResponse{}, errSoak
		}
		return response, err
	}
}

// Post serves the control URLs. Some calls are gone, or refuse, from the start.
func (s *soak) Post(_ context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	added, ok := m.(vapi.AddMessage)
	if _, appends := m.(vapi.AppendContext); appends { // to a call that is gone, as it may be a GPT-Live call
		if !strings.HasSuffix(controlURL, "gone") {
			s.t.Errorf("a context was posted to %s", controlURL)
		}
		return vapiclient.Receipt{Verdict: vapiclient.Gone, Status: 404, Err: errSoak}
	}
	if !ok { // progress
		return vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200}
	}
	content := added.Content
	again := vapiclient.Receipt{Verdict: vapiclient.TryAgain, Status: 503, Err: errSoak}
	switch {
	case strings.HasSuffix(controlURL, "gone"):
		return vapiclient.Receipt{Verdict: vapiclient.Gone, Status: 404, Err: errSoak}
	case strings.HasSuffix(controlURL, "refuses"):
		return vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Status: 401, Err: errSoak}
	case s.hits("control URL: 503"):
		return again
	case s.hits("control URL: no answer"):
		time.Sleep(10 * time.Second)
		return again
	}
	if strings.Contains(content, "this call") {
		s.t.Errorf("a job was counted twice against the limits: %s", content)
	}
	lost := s.hits("control URL: an answer is lost")
	// Results that were ready at the same time are one message.
	for _, header := range resultHeader.FindAllStringSubmatch(content, -1) {
		s.note(controlURL+"/"+header[1], func(j *soakedJob) {
			if j.heard++; header[2] == "error" {
				j.failures++
			}
			if lost {
				j.excused++
			}
		})
	}
	if lost {
		return again
	}
	return vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200}
}

// resultHeader matches the first line of a result. No tool of these tests writes one.
var resultHeader = regexp.MustCompile(`(?m)^\[async tool result\] tool=\S+ tool_call_id=(\S+) status=(\S+)$`)

// SendUndelivered is the event bus.
func (s *soak) SendUndelivered(_ context.Context, a job.Undelivered) error {
	if s.hits("event bus: fails") {
		return errSoak
	}
	s.note(a.CallID+"/"+a.ToolCallID, func(j *soakedJob) { j.published++ })
	if s.hits("event bus: an answer is lost") {
		return errSoak
	}
	return nil
}

// work is the tool. What it does is drawn for each attempt.
func (s *soak) work(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
	time.Sleep(time.Duration(len(in.Text)%7) * 300 * time.Millisecond)
	switch {
	case in.Text == "hopeless" || s.hits("tool: fails"):
		return asynctool.Result{}, errSoak
	case s.hits("tool: asks for time"):
		return asynctool.Result{}, asynctool.TryAgain(20*time.Second, "It takes longer.", errSoak)
	case s.hits("tool: fails for good"):
		return asynctool.Result{}, asynctool.Fail("There is no such thing.", errSoak)
	case s.hits("tool: panics"):
		panic("planted fault")
	case s.hits("tool: overruns"):
		time.Sleep(time.Minute)
	case s.hits("tool: waits a moment"):
		return asynctool.ResumeIn(20*time.Second, call.Resumes+1), nil
	case s.hits("tool: waits for long"):
		return asynctool.ResumeIn(17*time.Minute, call.Resumes+1), nil
	case s.hits("tool: leaves it to an external system"):
		at, err := call.CompletionURL(ctx)
		if err != nil {
			return asynctool.Result{}, err
		}
		go s.office(at)
		return asynctool.Wait(), nil
	case s.hits("tool: reports progress"):
		call.Progress(ctx, "It is under way.")
	}
	return asynctool.Text(strings.Repeat(in.Text+" ", 20)), nil
}

// office is an external system. It posts a result until the result is accepted, or
// too late.
func (s *soak) office(at string) {
	time.Sleep(10 * time.Minute)
	if s.hits("external system: does not answer") {
		return
	}
	for {
		switch status := s.complete(at, `{"result":"by an external system"}`); status {
		case http.StatusServiceUnavailable:
			time.Sleep(time.Second)
		case http.StatusOK, http.StatusConflict:
			return
		default:
			s.t.Errorf("a result of the external system was answered with %d", status)
			return
		}
	}
}

func newSoak(t *testing.T, seed uint64) *soak {
	t.Helper()
	s := &soak{
		random: rand.New(rand.NewPCG(seed, seed)),
		faults: make(map[string]int),
		jobs:   make(map[string]*soakedJob),
	}
	set, err := asynctool.NewSet(asynctool.Tool[input]{
		Name: "work", Description: "Works.", Timeout: 10 * time.Second, Attempts: 4, Run: s.work,
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.New(pipeline.Config{
		Tools: set,
		// As many as a call has: a job that counts twice is refused.
		CallLimits:    job.CallLimits{Jobs: mostPerCall, Concurrent: mostPerCall},
		CompletionURL: "http://127.0.0.1:1/results/",
		Concurrency:   50,
		Log:           slog.New(slog.DiscardHandler),
		Decorators: pipeline.Decorators{
			Store:    func(own jobtable.Stores) jobtable.Stores { return soakStore{own, s} },
			Jobs:     func(own pipeline.Queue) pipeline.Queue { return soakQueue{own, "jobs queue", s} },
			Results:  func(own pipeline.Queue) pipeline.Queue { return soakQueue{own, "results queue", s} },
			Control:  func(pipeline.ControlClient) pipeline.ControlClient { return s },
			Events:   func(pipeline.EventBus) pipeline.EventBus { return s },
			Function: s.dies,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.world = &world{Pipeline: p, t: t}
	return s
}

// run runs the pipeline and empties its dead-letter queues.
func (s *soak) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() { s.DeadJobs.Run(ctx, s.bury) })
	running.Go(func() { s.DeadResults.Run(ctx, s.bury) })
	running.Wait()
}

// bury counts and deletes the messages in a dead-letter queue.
func (s *soak) bury(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range event.Records {
		if m.Body == poison {
			s.poison++
		} else {
			s.dead++
		}
	}
	return events.SQSEventResponse{}, nil
}

const (
	poison      = "this is no job"
	mostPerCall = 3 // tool calls
)

// send posts a webhook, again and again as Vapi does with a backoffPlan, and returns
// the accepted tool calls.
func (s *soak) send(callID, body string) []string {
	for range 11 {
		status, text := s.request("/vapi", body, nil)
		if status == http.StatusServiceUnavailable {
			time.Sleep(2 * time.Second)
			continue
		}
		var answer struct {
			Results []struct{ ToolCallID, Result string }
		}
		if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK {
			s.t.Errorf("answered with %d %s", status, text)
		}
		var accepted []string
		for _, result := range answer.Results {
			if result.Result != "" {
				accepted = append(accepted, callID+"/"+result.ToolCallID)
			}
		}
		return accepted
	}
	s.t.Errorf("the webhook of %s was not accepted", callID)
	return nil
}

// drained waits until all queues are empty.
func (s *soak) drained() {
	for _, q := range []*memqueue.Queue{s.LongJobs, s.Jobs, s.Results, s.DeadJobs, s.DeadResults} {
		ctx, cancel := context.WithTimeout(context.Background(), 6*time.Hour)
		if err := q.Drained(ctx); err != nil {
			s.t.Error(err)
		}
		cancel()
	}
}

// wave sends webhooks with so many tool calls, waits until they are finished, and
// counts their outcomes.
func (s *soak) wave(number, toolCalls int) {
	var accepted []string
	var mu sync.Mutex
	var sending sync.WaitGroup
	work := make(chan int)
	for range 32 {
		sending.Go(func() {
			for n := range work {
				callID := fmt.Sprintf("%d-%d", number, n)
				for _, kind := range []string{"gone", "refuses"} {
					if s.hits("call: " + kind) {
						callID += "-" + kind
						break
					}
				}
				var calls []toolCall
				for i := range n%mostPerCall + 1 {
					c := toolCall{fmt.Sprint("t", i), "work", fmt.Sprintf(`{"text":"text %d"}`, n*n)}
					switch {
					case s.hits("call: a tool that always fails"):
						c.arguments = `{"text":"hopeless"}`
					case s.hits("call: an unknown tool"):
						c.name = "nothing"
					case s.hits("call: an argument is missing"):
						c.arguments = `{}`
					}
					calls = append(calls, c)
				}
				body := webhook(callID, "", calls...)
				if s.hits("call: no control URL") {
					body = strings.Replace(body, `"controlUrl"`, `"noUrl"`, 1)
				}
				ids := s.send(callID, body)
				if s.hits("webhook: comes twice") {
					s.send(callID, body)
				}
				mu.Lock()
				accepted = append(accepted, ids...)
				mu.Unlock()
				if s.hits("jobs queue: poison") {
					_ = s.Jobs.Send(context.Background(), []queue.Message{{Body: poison}})
				}
				if s.hits("results queue: poison") {
					_ = s.Results.Send(context.Background(), []queue.Message{{Body: poison}})
				}
				time.Sleep(time.Duration(n%5) * 100 * time.Millisecond)
			}
		})
	}
	for n, sent := 0, 0; sent < toolCalls; n++ {
		work <- n
		sent += n%mostPerCall + 1
	}
	close(work)
	sending.Wait()
	s.drained()
	for s.active() { // a job that waits may have no message
		time.Sleep(time.Minute)
		s.drained()
	}
	time.Sleep(2 * time.Minute) // until the tools that overrun return
	synctest.Wait()

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range accepted {
		j := s.job(id)
		outcomes := j.heard
		if j.published > 0 {
			outcomes++ // its event may be repeated, but must not follow a delivery
		}
		r, err := s.Records.Load(context.Background(), s.id(id))
		if err != nil {
			s.t.Errorf("job %s: %v", id, err)
		}
		s.accepted++
		switch {
		case outcomes == 0:
			s.lost++
			s.t.Errorf("job %s is lost: its record is %s, %s", id, r.State, r.Reason)
		case outcomes > 1+j.excused:
			s.twice++
			s.t.Errorf("job %s was delivered %d times and published %d times; %d repetitions are excused",
				id, j.heard, j.published, j.excused)
		case outcomes > 1:
			s.again++
		}
		switch {
		case j.failures > 0:
			s.failed++
		case j.heard > 0:
			s.delivered++
		case outcomes > 0:
			s.undelivered++
		}
	}
	clear(s.jobs)
}

// soakCalls returns the number of tool calls: RINGBACK_SOAK, or a small number.
func soakCalls(t *testing.T) int {
	text := os.Getenv("RINGBACK_SOAK")
	if text == "" {
		return 2000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1000 {
		t.Fatalf("RINGBACK_SOAK is %q; it is the number of tool calls, at least 1000", text)
	}
	return n
}

// TestSoak sends tool calls in ten waves. Each kind of fault happens in one of a
// hundred possible places. Between the waves a month passes, so that the table
// deletes expired records, as DynamoDB does.
func TestSoak(t *testing.T) {
	calls := soakCalls(t)
	seed := rand.Uint64()
	if text := os.Getenv("RINGBACK_SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	const waves = 10
	var heap []uint64 // after each wave
	var goroutines []int
	var s *soak
	var fake time.Duration
	synctest.Test(t, func(t *testing.T) {
		s = newSoak(t, seed)
		ctx, stop := context.WithCancel(context.Background())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			s.run(ctx)
		}()
		start := time.Now()
		for number := range waves {
			s.wave(number, calls/waves)
			fake = time.Since(start) - time.Duration(number)*(job.Retention+24*time.Hour)
			heap = append(heap, heapInUse())
			goroutines = append(goroutines, runtime.NumGoroutine())
			time.Sleep(job.Retention + 24*time.Hour)
		}
		stop()
		<-stopped
	})

	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		name string
		n    int
	}{
		{"accepted", s.accepted}, {"results delivered", s.delivered}, {"failures delivered", s.failed},
		{"undelivered", s.undelivered}, {"delivered again after a lost answer", s.again},
		{"twice", s.twice}, {"lost", s.lost},
		{"in the dead-letter queues", s.dead}, {"poison there", s.poison},
	} {
		fmt.Fprintf(w, "%d\t  %s\t\n", row.n, row.name)
	}
	w.Flush()
	total := 0
	kinds := make([]string, 0, len(s.faults))
	for kind, n := range s.faults {
		total += n
		kinds = append(kinds, fmt.Sprintf("%6d  %s", n, kind))
	}
	slices.SortFunc(kinds, func(a, b string) int { return strings.Compare(a[8:], b[8:]) })
	t.Logf("seed %d; %d faults of %d kinds in %s of the clock, run in %s\n%s\nfaults:\n%s\nheap after each wave: %s",
		seed, total, len(kinds), fake.Round(time.Minute), time.Since(began).Round(100*time.Millisecond),
		table.String(), strings.Join(kinds, "\n"), megabytes(heap))

	if s.twice > 0 || s.lost > 0 {
		t.Errorf("twice %d, lost %d", s.twice, s.lost)
	}
	if s.accepted < calls*9/10 || s.accepted != s.delivered+s.failed+s.undelivered+s.lost {
		t.Errorf("of %d tool calls %d were accepted; the figures do not add up", calls, s.accepted)
	}
	if len(kinds) < 30 {
		t.Errorf("only %d kinds of faults happened", len(kinds))
	}
	// The first waves allocate what is reused afterwards. The records and messages
	// of a wave take a few kilobytes for each tool call.
	if first, last := heap[2], heap[len(heap)-1]; last > first+first/4+1<<20 {
		t.Errorf("memory grows: %s", megabytes(heap))
	}
	if first, last := goroutines[2], goroutines[len(goroutines)-1]; last > first+10 {
		t.Errorf("goroutines are left behind: %v", goroutines)
	}
}

// heapInUse returns the heap after a garbage collection, in bytes.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // also empties the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func megabytes(sizes []uint64) string {
	var texts []string
	for _, n := range sizes {
		texts = append(texts, fmt.Sprintf("%.1f MB", float64(n)/(1<<20)))
	}
	return strings.Join(texts, ", ")
}
