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

// soak is a long run with faults all over. Its clock is that of a synctest
// bubble: what it measures is whether anything is lost or grows, not how fast
// it is.
type soak struct {
	*world

	mu     sync.Mutex
	random *rand.Rand
	faults map[string]int        // by name, how often each happened
	jobs   map[string]*soakedJob // of this wave, by id

	accepted, delivered, failed, undelivered, again, twice, lost int // of all waves
	dead, poison                                                 int
}

// soakedJob is what the world saw of an accepted tool call.
type soakedJob struct {
	heard, failures, announced int
	// excused is how often it may have been told once more, as nobody could
	// know that it had been: the control URL's answer was lost.
	excused int
}

// active says whether a job still runs or waits.
func (s *soak) active() bool {
	return slices.ContainsFunc(s.Records.Records(), func(r job.Record) bool { return r.State.Active() })
}

// hits says, once in a hundred times, that a fault happens now.
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

// soakStore is the jobs table.
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

// dies is a function that sometimes dies: before it has done anything, or
// after all of it, before it could say so.
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

// Post is the control URL. Some calls are gone, or refuse, for all their life.
func (s *soak) Post(_ context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	added, ok := m.(vapi.AddMessage)
	if !ok { // a line of progress
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
		s.t.Errorf("a job was counted twice: %s", content)
	}
	lost := s.hits("control URL: an answer is lost")
	// Results that were ready together are one message.
	for _, header := range resultHeader.FindAllStringSubmatch(content, -1) {
		s.note(job.ID(controlURL, header[1]), func(j *soakedJob) {
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

// resultHeader is the first line of a result. No tool of these tests writes one.
var resultHeader = regexp.MustCompile(`(?m)^\[async tool result\] tool=\S+ tool_call_id=(\S+) status=(\S+)$`)

// Announce is the event bus.
func (s *soak) SendUndelivered(_ context.Context, a job.Undelivered) error {
	if s.hits("event bus: fails") {
		return errSoak
	}
	s.note(a.JobID, func(j *soakedJob) { j.announced++ })
	if s.hits("event bus: an answer is lost") {
		return errSoak
	}
	return nil
}

// work is the tool: what it does is drawn for each attempt.
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
	case s.hits("tool: goes on in a moment"):
		return asynctool.ResumeIn(20*time.Second, call.Resumes+1), nil
	case s.hits("tool: goes on later"):
		return asynctool.ResumeIn(17*time.Minute, call.Resumes+1), nil
	case s.hits("tool: leaves it to somebody outside"):
		at, err := call.CompletionURL(ctx)
		if err != nil {
			return asynctool.Result{}, err
		}
		go s.office(at)
		return asynctool.Wait(), nil
	case s.hits("tool: says how far it is"):
		call.Progress(ctx, "It is under way.")
	}
	return asynctool.Text(strings.Repeat(in.Text+" ", 20)), nil
}

// office is somebody outside, who posts a result until it is taken, or too
// late.
func (s *soak) office(at string) {
	time.Sleep(10 * time.Minute)
	if s.hits("outside: nobody answers") {
		return
	}
	for {
		switch status := s.complete(at, `{"result":"from outside"}`); status {
		case http.StatusServiceUnavailable:
			time.Sleep(time.Second)
		case http.StatusOK, http.StatusConflict:
			return
		default:
			s.t.Errorf("a result from outside was answered with %d", status)
			return
		}
	}
}

func newSoak(t *testing.T, seed uint64) *soak {
	t.Helper()
	s := &soak{random: rand.New(rand.NewPCG(seed, seed)), faults: make(map[string]int), jobs: make(map[string]*soakedJob)}
	set, err := asynctool.NewSet(asynctool.Tool[input]{Name: "work", Description: "Works.", Timeout: 10 * time.Second, Attempts: 4, Run: s.work})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.New(pipeline.Config{
		Tools: set,
		// As many as a call has. Whatever counts twice is refused.
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

// run runs the pipeline, and somebody who looks after its dead-letter queues.
func (s *soak) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() { s.DeadJobs.Run(ctx, s.bury) })
	running.Go(func() { s.DeadResults.Run(ctx, s.bury) })
	running.Wait()
}

// bury takes a message out of a dead-letter queue.
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

// post sends a webhook as Vapi does with a backoffPlan, and gives the tool
// calls that were accepted.
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
				accepted = append(accepted, job.ID(callID, result.ToolCallID))
			}
		}
		return accepted
	}
	s.t.Errorf("the webhook of %s was not taken", callID)
	return nil
}

// drained waits until the queues are empty.
func (s *soak) drained() {
	for _, q := range []*memqueue.Queue{s.Jobs, s.Results, s.DeadJobs, s.DeadResults} {
		ctx, cancel := context.WithTimeout(context.Background(), 6*time.Hour)
		if err := q.Drained(ctx); err != nil {
			s.t.Error(err)
		}
		cancel()
	}
}

// wave sends webhooks until so many tool calls are accepted, waits until all
// of it is over, and says what became of them.
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
	for s.active() { // waiting, for which there need be no message
		time.Sleep(time.Minute)
		s.drained()
	}
	time.Sleep(2 * time.Minute) // tools that overrun
	synctest.Wait()

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range accepted {
		j := s.job(id)
		told := j.heard
		if j.announced > 0 {
			told++ // it can be announced again, but not told as well
		}
		r, err := s.Records.Load(context.Background(), id)
		if err != nil {
			s.t.Errorf("job %s: %v", id, err)
		}
		s.accepted++
		switch {
		case told == 0:
			s.lost++
			s.t.Errorf("job %s is lost: its record says %s, %s", id, r.State, r.Reason)
		case told > 1+j.excused:
			s.twice++
			s.t.Errorf("job %s was told %d times and announced %d times, of which %d can be excused", id, j.heard, j.announced, j.excused)
		case told > 1:
			s.again++
		}
		switch {
		case j.failures > 0:
			s.failed++
		case j.heard > 0:
			s.delivered++
		case told > 0:
			s.undelivered++
		}
	}
	clear(s.jobs)
}

// soakCalls is how many tool calls there are: RINGBACK_SOAK, or few.
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

// TestSoak sends tool calls in ten waves, with each kind of fault in one of a
// hundred places where it can happen. Between the waves a month passes, so
// that the table forgets, as DynamoDB does.
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
		{"accepted", s.accepted}, {"delivered", s.delivered}, {"failed, and told so", s.failed}, {"undelivered", s.undelivered},
		{"told again, as the control URL's answer was lost", s.again}, {"twice", s.twice}, {"lost", s.lost},
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
		seed, total, len(kinds), fake.Round(time.Minute), time.Since(began).Round(100*time.Millisecond), table.String(), strings.Join(kinds, "\n"), megabytes(heap))

	if s.twice > 0 || s.lost > 0 {
		t.Errorf("twice %d, lost %d", s.twice, s.lost)
	}
	if s.accepted < calls*9/10 || s.accepted != s.delivered+s.failed+s.undelivered+s.lost {
		t.Errorf("of %d tool calls %d were accepted; the figures do not add up", calls, s.accepted)
	}
	if len(kinds) < 30 {
		t.Errorf("only %d kinds of faults happened", len(kinds))
	}
	// The first waves fill what is then used again. One wave's records and
	// messages are some kilobytes a tool call.
	if first, last := heap[2], heap[len(heap)-1]; last > first+first/4+1<<20 {
		t.Errorf("the memory grows: %s", megabytes(heap))
	}
	if first, last := goroutines[2], goroutines[len(goroutines)-1]; last > first+10 {
		t.Errorf("goroutines are left behind: %v", goroutines)
	}
}

// heapInUse is what is left after a garbage collection, in bytes.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what pools kept
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
