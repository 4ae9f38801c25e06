package callback_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// What no log record at info level or above may hold.
const (
	controlPath = "/planted-control/control"
	controlURL  = "https://phone-call-websocket.vapi.ai" + controlPath
	number      = "+4915100000001"
	content     = "planted-content"
)

var planted = []string{"planted-control", number, content}

// table is a jobs table whose calls can fail.
type table struct {
	*jobtable.Table
	claim, release, settle error
	settles                func(ctx context.Context, try int) error // nil means that settle decides
	tries                  int

	// Nil means nothing special.
	claims      func(id string) // is called first
	claimFails  func(id string) error
	settleFails func(r job.Record) error

	claimProgress, endProgress, noteCalling, noteLost, callOff error
}

// before returns the error that a rule fails with.
func (t *table) before(id string, rule job.Rule) error {
	switch rule.Name {
	case "claim the delivery of":
		if t.claims != nil {
			t.claims(id)
		}
		if t.claim == nil && t.claimFails != nil {
			return t.claimFails(id)
		}
		return t.claim
	case "release the delivery of":
		return t.release
	case "claim the progress line of":
		return t.claimProgress
	case "end the progress line of":
		return t.endProgress
	case "record the outbound call for":
		return t.noteCalling
	case "retract the outbound call for":
		return t.callOff
	}
	return fmt.Errorf("the callback function does not %s a job", rule.Name)
}

func (t *table) Change(ctx context.Context, id string, rule job.Rule) (job.Record, error) {
	if err := t.before(id, rule); err != nil {
		return job.Record{}, err
	}
	return t.Table.Change(ctx, id, rule)
}

func (t *table) ChangeClaimed(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error) {
	if err := t.before(claimed.ID, rule); err != nil {
		return claimed, err
	}
	r, err := t.Table.ChangeClaimed(ctx, claimed, rule)
	if err == nil && t.noteLost != nil && rule.Name == "record the outbound call for" {
		return claimed, t.noteLost
	}
	return r, err
}

func (t *table) Settle(ctx context.Context, r job.Record, now time.Time, state job.State, reason string) error {
	if t.settle != nil {
		return t.settle
	}
	if t.settleFails != nil {
		if err := t.settleFails(r); err != nil {
			return err
		}
	}
	if t.settles != nil {
		t.tries++
		if err := t.settles(ctx, t.tries); err != nil {
			return err
		}
	}
	return t.Table.Settle(ctx, r, now, state, reason)
}

// announcer remembers what was announced.
type announcer struct {
	mu        sync.Mutex
	err       error
	announced []job.Undelivered
}

func (a *announcer) SendUndelivered(_ context.Context, u job.Undelivered) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	a.announced = append(a.announced, u)
	return nil
}

// calls answers posts with a function, and counts them.
type calls struct {
	mu     sync.Mutex
	posts  int
	at     []time.Duration
	told   []vapi.ControlMessage
	urls   []string
	start  time.Time
	answer func(post int) vapiclient.Receipt
}

func (c *calls) Post(_ context.Context, url string, m vapi.ControlMessage) vapiclient.Receipt {
	c.mu.Lock()
	c.posts++
	n := c.posts
	c.at = append(c.at, time.Since(c.start))
	c.told = append(c.told, m)
	c.urls = append(c.urls, url)
	c.mu.Unlock()
	if !strings.HasPrefix(url, controlURL) {
		return vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Err: errors.New("another control URL")}
	}
	return c.answer(n)
}

func always(r vapiclient.Receipt) func(int) vapiclient.Receipt {
	return func(int) vapiclient.Receipt { return r }
}

var (
	delivered = vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200}
	failing   = vapiclient.Receipt{Verdict: vapiclient.TryAgain, Status: 500, Err: errors.New("the control URL answered 500")}
	gone      = vapiclient.Receipt{Verdict: vapiclient.Gone, Status: 404, Err: errors.New("the control URL answered 404")}
)

// world is a callback function with what is around it.
type world struct {
	t         *testing.T
	store     *memtable.Store
	table     *table
	announcer *announcer
	calls     *calls
	ended     *jobtable.CallTracker
	customers *customers
	results   *memqueue.Queue // with the limits of a deployment
	dead      *memqueue.Queue
	handler   *callback.Handler
	start     time.Time
	ahead     time.Duration // of the real clock
	change    func(*job.Outcome)
}

func (w *world) now() time.Time { return time.Now().Add(w.ahead) }

// newWorld makes a world whose log is searched when the test ends. change may
// be nil.
func newWorld(t *testing.T, change func(*callback.Config)) *world {
	t.Helper()
	var mu sync.Mutex
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return logged.Write(p)
	}), nil))
	t.Cleanup(func() {
		if logged.Len() == 0 {
			t.Error("nothing was logged")
		}
		for _, value := range planted {
			if strings.Contains(logged.String(), value) {
				t.Errorf("the log has %q:\n%s", value, logged.String())
			}
		}
	})
	w := &world{t: t, store: new(memtable.Store), announcer: new(announcer), start: time.Now()}
	w.calls = &calls{start: w.start, answer: always(delivered)}
	w.table = &table{Table: jobtable.New(w.store)}
	w.ended = jobtable.NewCallTracker(w.store.Calls())
	w.customers = &customers{Customers: jobtable.NewCustomers(w.store.Customers())}
	none, err := asynctool.NewSet()
	if err != nil {
		t.Fatal(err)
	}
	l := queue.LimitsFor(none.MaxTimeout(), none.MaxAttempts())
	if w.dead, err = memqueue.New(memqueue.Config{Name: "dead", Log: log}); err != nil {
		t.Fatal(err)
	}
	if w.results, err = memqueue.New(memqueue.Config{Name: "results", VisibilityTimeout: l.ResultVisibility,
		MaxReceives: l.ResultMaxReceives, DeadLetters: w.dead, Log: log}); err != nil {
		t.Fatal(err)
	}
	cfg := callback.Config{Table: w.table, ControlClient: w.calls, Results: w.results, Events: w.announcer, CallTracker: w.ended, Customers: w.customers, Now: w.now, Log: log}
	if change != nil {
		change(&cfg)
	}
	if w.handler, err = callback.New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// inWorld runs a test in a bubble.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	inChangedWorld(t, nil, test)
}

func inChangedWorld(t *testing.T, change func(*callback.Config), test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, change)) })
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// outcome is the outcome of a job that is finished, and its record is there.
func (w *world) outcome(result job.Result) job.Outcome {
	w.t.Helper()
	return w.finished(w.job("t1"), job.Policy{}, result)
}

// job is one of call-1.
func (w *world) job(toolCallID string) job.Job {
	return job.Job{
		ID: "call-1/" + toolCallID, ToolCallID: toolCallID, Tool: "order_status", ReceivedAt: w.start, CallEnds: w.start.Add(time.Hour),
		Call: job.Call{ID: "call-1", OrgID: "org-1", AssistantID: "assistant-1", CustomerNumber: number, ControlURL: controlURL, PhoneNumberID: "phone-1"},
	}
}

// claimed has an attempt of a job run.
func (w *world) claimed(j job.Job, terms job.Policy) job.Record {
	w.t.Helper()
	r, err := w.table.Claim(w.t.Context(), job.NewRecord(j, terms, w.start.Add(time.Hour), "m1", w.now(), time.Minute))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) finished(j job.Job, terms job.Policy, result job.Result) job.Outcome {
	w.t.Helper()
	r, err := w.table.Table.ChangeClaimed(w.t.Context(), w.claimed(j, terms), job.Finish(w.now(), result, false, ""))
	if err != nil {
		w.t.Fatal(err)
	}
	return j.Outcome(r)
}

var respond = job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: content}

func (w *world) send(o job.Outcome) {
	w.t.Helper()
	body, err := o.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.sendBody(body)
}

func (w *world) sendBody(body string) {
	w.t.Helper()
	if err := errors.Join(w.results.Send(w.t.Context(), []queue.Message{{Body: body}})...); err != nil {
		w.t.Fatal(err)
	}
}

// run handles the results queue for d.
func (w *world) run(d time.Duration) {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	w.results.Run(ctx, w.handler.Handle)
}

// whys are the reasons of what was announced.
func (w *world) whys() []job.Reason {
	var whys []job.Reason
	for _, u := range w.announcer.announced {
		whys = append(whys, u.Reason)
	}
	return whys
}

func (w *world) state() job.State {
	w.t.Helper()
	return w.record("call-1/t1").State
}

func (w *world) record(id string) job.Record {
	w.t.Helper()
	r, err := w.store.Load(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// want checks how far the outcome came. why is empty where nothing was
// announced.
func (w *world) want(posts int, state job.State, why job.Reason, left int) {
	w.t.Helper()
	if w.calls.posts != posts {
		w.t.Errorf("%d posts, want %d", w.calls.posts, posts)
	}
	if s := w.state(); s != state {
		w.t.Errorf("the record is %s, want %s", s, state)
	}
	whys := w.whys()
	var want []job.Reason
	if why != "" {
		want = []job.Reason{why}
	}
	if diff := cmp.Diff(want, whys); diff != "" {
		w.t.Error(diff)
	}
	if w.results.Len() != left || w.dead.Len() != 0 {
		w.t.Errorf("%d messages on the results queue, want %d; %d on the dead-letter queue", w.results.Len(), left, w.dead.Len())
	}
}

// customers keeps results, and can fail.
type customers struct {
	*jobtable.Customers
	err, lost error // lost is given although it was kept
}

func (c *customers) Park(ctx context.Context, customer string, now time.Time, p job.ParkedResult) (bool, error) {
	if c.err != nil {
		return false, c.err
	}
	ok, err := c.Customers.Park(ctx, customer, now, p)
	if c.lost != nil {
		return false, c.lost
	}
	return ok, err
}

func TestNewNeedsItsParts(t *testing.T) {
	whole := callback.Config{
		Table: new(table), ControlClient: new(calls), Results: new(visibility), Events: new(announcer), CallTracker: new(jobtable.CallTracker), Customers: new(customers),
	}
	if _, err := callback.New(whole); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*callback.Config){
		"table": func(c *callback.Config) { c.Table = nil }, "calls": func(c *callback.Config) { c.ControlClient = nil },
		"results": func(c *callback.Config) { c.Results = nil }, "announcer": func(c *callback.Config) { c.Events = nil },
		"ends": func(c *callback.Config) { c.CallTracker = nil }, "customers": func(c *callback.Config) { c.Customers = nil },
		"who calls back": func(c *callback.Config) {
			c.OutboundCalls = &callback.OutboundCalls{Next: func(now time.Time) time.Time { return now }}
		},
		"when it is called back": func(c *callback.Config) { c.OutboundCalls = &callback.OutboundCalls{Client: new(vapiclient.Outbound)} },
	} {
		cfg := whole
		change(&cfg)
		if _, err := callback.New(cfg); err == nil {
			t.Errorf("without %s: no error", name)
		}
	}
}

// visibility remembers how long messages are hidden.
type visibility struct {
	mu     sync.Mutex
	hidden map[string]time.Duration
}

func (v *visibility) ChangeVisibility(_ context.Context, receipt string, d time.Duration) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.hidden == nil {
		v.hidden = make(map[string]time.Duration)
	}
	v.hidden[receipt] = d
	return nil
}

// TestPosted posts to a real server with the real client.
func TestPosted(t *testing.T) {
	const dropped = 0 // as a status: the connection breaks
	type answer struct {
		status     int
		retryAfter string
	}
	tests := map[string]struct {
		answers []answer // to one post each
		retries []time.Duration
		state   job.State
		why     job.Reason
	}{
		"200":                      {[]answer{{status: 200}}, nil, job.StateDelivered, ""},
		"204":                      {[]answer{{status: 204}}, nil, job.StateDelivered, ""},
		"500 twice, then 200":      {[]answer{{status: 500}, {status: 500}, {status: 200}}, []time.Duration{time.Second, 2 * time.Second}, job.StateDelivered, ""},
		"429, then 200":            {[]answer{{429, "45"}, {status: 200}}, []time.Duration{45 * time.Second}, job.StateDelivered, ""},
		"429 asking for less":      {[]answer{{status: 500}, {429, "1"}, {status: 200}}, []time.Duration{time.Second, 2 * time.Second}, job.StateDelivered, ""},
		"a broken connection":      {[]answer{{status: dropped}, {status: 200}}, []time.Duration{time.Second}, job.StateDelivered, ""},
		"503, then gone":           {[]answer{{status: 503}, {status: 404}}, []time.Duration{time.Second}, job.StateUndelivered, job.ReasonCallGone},
		"400":                      {[]answer{{status: 400}}, nil, job.StateUndelivered, job.ReasonCallGone},
		"410":                      {[]answer{{status: 410}}, nil, job.StateUndelivered, job.ReasonCallGone},
		"401":                      {[]answer{{status: 401}}, nil, job.StateUndelivered, job.ReasonMisconfigured},
		"302":                      {[]answer{{status: 302}}, nil, job.StateUndelivered, job.ReasonMisconfigured},
		"Retry-After past the end": {[]answer{{429, "3599"}, {429, "3600"}}, []time.Duration{3599 * time.Second}, job.StateUndelivered, job.ReasonUnreachable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var posts []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || r.Method != http.MethodPost || r.URL.Path != controlPath {
					t.Errorf("%s %s: %v", r.Method, r.URL, err)
				}
				posts = append(posts, string(body))
				a := answer{status: 500}
				if len(posts) <= len(tt.answers) {
					a = tt.answers[len(posts)-1]
				}
				if a.status == dropped {
					panic(http.ErrAbortHandler)
				}
				if a.retryAfter != "" {
					w.Header().Set("Retry-After", a.retryAfter)
				}
				if a.status == 302 {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(a.status)
			}))
			defer server.Close()
			client, err := vapiclient.NewControlClient(vapiclient.ControlConfig{AllowLoopback: true})
			if err != nil {
				t.Fatal(err)
			}
			hidden := new(visibility)
			w := newWorld(t, func(cfg *callback.Config) { cfg.ControlClient, cfg.Results = client, hidden })
			o := w.outcome(respond)
			o.Call.ControlURL = server.URL + controlPath
			o.Deadline = w.start.Add(3600*time.Second - time.Millisecond)
			body, err := o.Encode()
			if err != nil {
				t.Fatal(err)
			}
			var retries []time.Duration
			for n := 1; n <= callback.MaxPosts; n++ {
				receipt := "receipt-" + strconv.Itoa(n)
				response, err := w.handler.Handle(t.Context(), events.SQSEvent{Records: []events.SQSMessage{{
					MessageId: "m1", ReceiptHandle: receipt, Body: body, Attributes: map[string]string{"ApproximateReceiveCount": strconv.Itoa(n)},
				}}})
				if err != nil {
					t.Fatal(err)
				}
				if len(response.BatchItemFailures) == 0 {
					break
				}
				retries = append(retries, hidden.hidden[receipt])
				w.ahead += hidden.hidden[receipt]
			}
			if diff := cmp.Diff(tt.retries, retries); diff != "" {
				t.Error(diff)
			}
			if len(posts) != len(tt.answers) {
				t.Errorf("%d posts, want %d", len(posts), len(tt.answers))
			}
			want, err := json.Marshal(vapi.AddMessage{Content: strings.NewReplacer("{tool}", "order_status", "{tool_call_id}", "t1", "{status}", "ok", "{content}", content).Replace(spoken.DefaultText)})
			if err != nil {
				t.Fatal(err)
			}
			for _, post := range posts {
				if diff := cmp.Diff(string(want), post); diff != "" {
					t.Error(diff)
				}
			}
			if s := w.state(); s != tt.state {
				t.Errorf("the record is %s", s)
			}
			switch announced := w.announcer.announced; {
			case tt.why == "" && len(announced) > 0, tt.why != "" && (len(announced) != 1 || announced[0].Reason != tt.why):
				t.Errorf("announced %+v", announced)
			}
		})
	}
}

// TestUndelivered checks what is announced, and that a call is not bothered
// where that is of no use.
func TestUndelivered(t *testing.T) {
	tests := map[string]struct {
		result  job.Result
		change  func(*job.Outcome)
		receipt vapiclient.Receipt
		after   time.Duration // when the outcome comes
		posts   int
		want    job.Undelivered
	}{
		"gone": {receipt: gone, posts: 1, want: job.Undelivered{Reason: job.ReasonCallGone, Detail: "the control URL answered 404"}},
		"gone, without an error": {receipt: vapiclient.Receipt{Verdict: vapiclient.Gone, Status: 410}, posts: 1,
			want: job.Undelivered{Reason: job.ReasonCallGone, Detail: "the control URL answered 410"}},
		"misconfigured": {receipt: vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Err: errors.New("refused")}, posts: 1,
			want: job.Undelivered{Reason: job.ReasonMisconfigured, Detail: "refused"}},
		"an unknown verdict": {receipt: vapiclient.Receipt{Err: errors.New("what?")}, posts: 1,
			want: job.Undelivered{Reason: job.ReasonMisconfigured, Detail: "what?"}},
		"no control URL": {change: func(o *job.Outcome) { o.Call.ControlURL = "" }, receipt: delivered,
			want: job.Undelivered{Reason: job.ReasonNoControlURL, Detail: "the webhook contained no control URL"}},
		"deadline past": {after: time.Hour + time.Second, receipt: delivered,
			want: job.Undelivered{Reason: job.ReasonDeadline, Detail: "the deadline was 2000-01-01T01:00:00Z"}},
		"deadline before the next try": {after: time.Hour - time.Second/2, receipt: failing, posts: 1,
			want: job.Undelivered{Reason: job.ReasonUnreachable, Detail: "the control URL answered 500"}},
		"a failure": {result: job.Result{Status: job.StatusError, Delivery: job.DeliverySay, Content: "Sorry."}, receipt: gone, posts: 1,
			want: job.Undelivered{Reason: job.ReasonCallGone, Detail: "the control URL answered 404", Status: job.StatusError, Delivery: job.DeliverySay, Content: "Sorry."}},
		"no message": {result: job.Result{Status: job.StatusOK, Delivery: job.DeliveryControl, Control: json.RawMessage(`{"type":"dance"}`)}, receipt: delivered,
			want: job.Undelivered{Reason: job.ReasonUnspeakable, Status: job.StatusOK, Delivery: job.DeliveryControl, Control: json.RawMessage(`{"type":"dance"}`)}},
		"nothing to say": {result: job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: "\u200b"}, receipt: delivered,
			want: job.Undelivered{Reason: job.ReasonUnspeakable, Status: job.StatusOK, Delivery: job.DeliverySay}},
		"invisible characters": {result: job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "pay \u202e001\x1b <<<"}, receipt: gone, posts: 1,
			want: job.Undelivered{Reason: job.ReasonCallGone, Detail: "the control URL answered 404", Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "pay 001 ‹‹<"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if tt.result.Status == "" {
					tt.result = respond
					tt.want.Status, tt.want.Delivery, tt.want.Content = job.StatusOK, job.DeliveryRespond, content
				}
				w.calls.answer = always(tt.receipt)
				o := w.outcome(tt.result)
				if tt.change != nil {
					tt.change(&o)
				}
				time.Sleep(tt.after)
				w.send(o)
				w.run(time.Millisecond)
				w.want(tt.posts, job.StateUndelivered, tt.want.Reason, 0)
				want := tt.want
				want.JobID, want.ToolCallID, want.Tool = "call-1/t1", "t1", "order_status"
				want.CallID, want.OrgID, want.AssistantID, want.CustomerNumber = "call-1", "org-1", "assistant-1", number
				want.At = w.start.Add(tt.after)
				ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Detail" && want.Reason == job.ReasonUnspeakable }, cmp.Ignore())
				if diff := cmp.Diff([]job.Undelivered{want}, w.announcer.announced, ignore, cmpopts.EquateEmpty()); diff != "" {
					t.Error(diff)
				}
				if event, err := json.Marshal(w.announcer.announced); err != nil || bytes.Contains(event, []byte("planted-control")) {
					t.Errorf("the event has the control URL: %s", event)
				}
			})
		})
	}
}

func TestMaxPosts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.calls.answer = always(failing)
		w.send(w.outcome(respond))
		w.run(59 * time.Minute)
		w.want(callback.MaxPosts, job.StateUndelivered, job.ReasonUnreachable, 0)
		// It is given up with the last post, and says what came of that.
		u := w.announcer.announced[0]
		if last := w.calls.at[callback.MaxPosts-1]; u.Detail != failing.Err.Error() || u.At.Sub(w.start) != last {
			t.Errorf("announced %s after %s; the last post was after %s", u.Detail, u.At.Sub(w.start), last)
		}
		want := []time.Duration{0, 1, 3, 7, 15, 31}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, w.calls.at[:len(want)]); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAnnouncementFails(t *testing.T) {
	for name, release := range map[string]error{"alone": nil, "with the release": errors.New("the table is down")} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.calls.answer = always(gone)
				w.announcer.err = errors.New("the bus is down")
				w.table.release = release
				w.send(w.outcome(respond))
				w.run(40 * time.Second)
				if s := w.state(); s != job.StateDone || w.results.Len() != 1 {
					t.Fatalf("the record is %s, and %d messages are left: the loss would be silent", s, w.results.Len())
				}
				w.announcer.err, w.table.release = nil, nil
				w.run(time.Minute)
				w.want(w.calls.posts, job.StateUndelivered, job.ReasonCallGone, 0)
			})
		})
	}
	// What cannot be announced for long is in the dead-letter queue at last.
	inWorld(t, func(t *testing.T, w *world) {
		w.calls.answer = always(gone)
		w.announcer.err = errors.New("the bus is down")
		w.send(w.outcome(respond))
		w.run(24 * time.Hour)
		if w.dead.Len() != 1 || w.state() != job.StateDone || w.calls.posts > callback.MaxPosts {
			t.Errorf("%d in the dead-letter queue, the record is %s, %d posts", w.dead.Len(), w.state(), w.calls.posts)
		}
	})
}

func TestTableErrors(t *testing.T) {
	down := errors.New("the table is down")
	t.Run("claim", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			o := w.outcome(respond)
			w.table.claim = down
			w.send(o)
			w.run(10 * time.Second)
			w.want(0, job.StateDone, "", 1)
			w.table.claim = nil
			w.run(30 * time.Second)
			w.want(1, job.StateDelivered, "", 0)
		})
	})
	t.Run("claim, for good", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			o := w.outcome(respond)
			w.table.claim = down
			w.send(o)
			w.run(24 * time.Hour)
			w.want(0, job.StateDone, job.ReasonUnclaimed, 0)
		})
	})
	t.Run("no record", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			o := w.outcome(respond)
			*w.store = memtable.Store{}
			w.send(o)
			w.run(24 * time.Hour)
			if w.calls.posts != 0 || w.dead.Len() != 0 || len(w.announcer.announced) != 1 || w.announcer.announced[0].Reason != job.ReasonUnclaimed {
				t.Errorf("%d posts, %d in the dead-letter queue, announced %+v", w.calls.posts, w.dead.Len(), w.announcer.announced)
			}
		})
	})
	t.Run("release", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.calls.answer = func(post int) vapiclient.Receipt {
				if post == 1 {
					return failing
				}
				return delivered
			}
			w.table.release = down
			w.send(w.outcome(respond))
			w.run(29 * time.Second)
			w.want(1, job.StateDone, "", 1)
			w.run(2 * time.Second) // the lease ran out
			w.want(2, job.StateDelivered, "", 0)
		})
	})
	t.Run("settle after delivery", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.table.settle = down
			w.send(w.outcome(respond))
			w.run(time.Hour)
			w.want(1, job.StateDone, "", 0) // told once, though not marked
		})
	})
	t.Run("settle at first", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.table.settles = func(ctx context.Context, try int) error {
				switch try {
				case 1:
					return down
				case 2: // no answer
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			w.send(w.outcome(respond))
			w.run(10 * time.Second)
			w.want(1, job.StateDelivered, "", 0)
		})
	})
	t.Run("settle after the announcement", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.calls.answer = always(gone)
			w.table.settle = down
			w.send(w.outcome(respond))
			w.run(time.Hour)
			w.want(1, job.StateDone, job.ReasonCallGone, 0)
		})
	})
}

func TestCopies(t *testing.T) {
	tests := map[string]struct {
		second time.Duration
		answer func(post int) vapiclient.Receipt
		state  job.State
		why    job.Reason
		posts  int
	}{
		"at once":                    {0, always(delivered), job.StateDelivered, "", 1},
		"while the first is posted":  {time.Second, always(delivered), job.StateDelivered, "", 1},
		"after the first was posted": {time.Minute, always(delivered), job.StateDelivered, "", 1},
		"of a lost call":             {0, always(gone), job.StateUndelivered, job.ReasonCallGone, 1},
		"of one that needs two posts": {0, func(post int) vapiclient.Receipt {
			if post == 1 {
				return failing
			}
			return delivered
		}, job.StateDelivered, "", 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.calls.answer = func(post int) vapiclient.Receipt {
					time.Sleep(5 * time.Second)
					return tt.answer(post)
				}
				o := w.outcome(respond)
				w.send(o)
				if tt.second == 0 {
					w.send(o)
				} else {
					time.AfterFunc(tt.second, func() { w.send(o) })
				}
				w.run(10 * time.Minute)
				w.want(tt.posts, tt.state, tt.why, 0)
			})
		})
	}
}

// TestCopyWaitsToo has a call that asks to be left alone for a while: a copy of
// the outcome keeps to it as well.
func TestCopyWaitsToo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.calls.answer = func(post int) vapiclient.Receipt {
			if post == 1 {
				return vapiclient.Receipt{Verdict: vapiclient.TryAgain, Status: 429, RetryAfter: time.Minute}
			}
			return delivered
		}
		o := w.outcome(respond)
		w.send(o)
		time.AfterFunc(10*time.Second, func() { w.send(o) })
		w.run(10 * time.Minute)
		w.want(2, job.StateDelivered, "", 0)
		if got := w.calls.at[1]; got < time.Minute {
			t.Errorf("posted again after %s, want a minute at least", got)
		}
	})
}

// TestFunctionDied has an outcome that was claimed and never settled.
func TestFunctionDied(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		o := w.outcome(respond)
		if _, err := w.table.Table.Change(t.Context(), o.JobID, job.ClaimDelivery(w.now(), 30*time.Second)); err != nil {
			t.Fatal(err)
		}
		w.send(o)
		w.run(29 * time.Second)
		w.want(0, job.StateDone, "", 1)
		w.run(2 * time.Second)
		w.want(1, job.StateDelivered, "", 0)
	})
}

// poisonous is a message that is no outcome.
var poisonous = events.SQSEvent{Records: []events.SQSMessage{{MessageId: "m", Body: "?"}}}

func TestPoison(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		o := w.outcome(respond)
		body, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		poison := []string{"?", "{}", "null", strings.Replace(body, `"version":1`, `"version":2`, 1), strings.Replace(body, `"final"`, `"progress"`, 1)}
		for _, p := range poison {
			w.sendBody(p)
		}
		w.send(o)
		w.run(time.Minute)
		if w.state() != job.StateDelivered || w.calls.posts != 1 || w.results.Len() != 0 || w.dead.Len() != len(poison) {
			t.Errorf("the record is %s, %d posts, %d messages left, %d in the dead-letter queue", w.state(), w.calls.posts, w.results.Len(), w.dead.Len())
		}
	})
}

// TestSideBySide has a batch of ten slow calls.
func TestSideBySide(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.calls.answer = func(int) vapiclient.Receipt { time.Sleep(8 * time.Second); return delivered }
		for i := range 10 {
			call := fmt.Sprintf("call-2%d", i)
			w.send(w.finished(job.Job{ID: call + "/t", ToolCallID: "t", Tool: "order_status", Call: job.Call{ID: call, ControlURL: controlURL + "/" + call}}, job.Policy{}, respond))
		}
		w.run(9 * time.Second)
		for _, r := range w.store.Records() {
			if r.State != job.StateDelivered {
				t.Errorf("%s is %s", r.ID, r.State)
			}
		}
		if w.results.Len() != 0 || w.calls.posts != 10 || w.calls.at[9] != 0 {
			t.Errorf("%d messages left, %d posts at %v", w.results.Len(), w.calls.posts, w.calls.at)
		}
	})
}

func TestOwnText(t *testing.T) {
	text, err := spoken.ParseText("{tool} says: {content}")
	if err != nil {
		t.Fatal(err)
	}
	var posted vapi.ControlMessage
	w := newWorld(t, func(cfg *callback.Config) {
		cfg.Text = &text
		cfg.ControlClient = poster(func(m vapi.ControlMessage) vapiclient.Receipt { posted = m; return delivered })
	})
	body, err := w.outcome(job.Result{Status: job.StatusOK, Delivery: job.DeliverySilent, Content: "Shipped."}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if response, err := w.handler.Handle(t.Context(), events.SQSEvent{Records: []events.SQSMessage{{MessageId: "m1", Body: body}}}); err != nil || len(response.BatchItemFailures) > 0 {
		t.Fatal(response, err)
	}
	if diff := cmp.Diff(vapi.ControlMessage(vapi.AddMessage{Content: "order_status says: Shipped.", Silent: true}), posted); diff != "" {
		t.Error(diff)
	}
}

type poster func(vapi.ControlMessage) vapiclient.Receipt

func (p poster) Post(_ context.Context, _ string, m vapi.ControlMessage) vapiclient.Receipt {
	return p(m)
}
