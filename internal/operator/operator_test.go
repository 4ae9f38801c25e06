package operator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
)

// outbox is a queue.
type outbox struct {
	err    error
	before func() // is called before a message is sent; may be nil
	sent   []queue.Message
}

func (o *outbox) Send(_ context.Context, messages []queue.Message) []error {
	if o.before != nil {
		o.before()
	}
	if o.err == nil {
		o.sent = append(o.sent, messages...)
	}
	errs := make([]error, len(messages))
	for i := range errs {
		errs[i] = o.err
	}
	return errs
}

// jobs is implemented by [operator.Jobs] and [operator.Local].
type jobs interface {
	List(ctx context.Context, callID string) (operator.List, error)
	Show(ctx context.Context, id string, data bool) (operator.Details, error)
	Cancel(ctx context.Context, id, reason string) (operator.Cancelled, error)
	Search(ctx context.Context, f operator.Filter) (operator.Found, error)
	Calls(ctx context.Context, from string, most int, data bool) (operator.CallPage, error)
	Call(ctx context.Context, name string, data bool) (operator.CallDetails, error)
}

type world struct {
	store     *memtable.Store
	table     *jobtable.Table
	out       *outbox
	checks    *outbox // the jobs queue
	near      *operator.Jobs
	lists     *jobtable.Customers
	customers *operator.Customers
	far       *operator.Local
	url       string
	now       time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{out: new(outbox), checks: new(outbox), now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
	store := new(memtable.Store)
	w.store, w.table = store, jobtable.New(store)
	var err error
	active := func(context.Context, int) ([]job.Summary, bool, error) {
		var all []job.Summary
		for _, r := range store.Records() {
			if r.State.Active() {
				all = append(all, r.Summary())
			}
		}
		return all, true, nil
	}
	w.near, err = operator.New(operator.Config{
		Table: w.table, Calls: store, Outcomes: w.out, Jobs: w.checks, Active: active, Now: func() time.Time { return w.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.lists = jobtable.NewCustomers(store.Customers(), func(context.Context) ([][]byte, error) {
		return [][]byte{[]byte("key")}, nil
	})
	w.customers, err = operator.NewCustomers(operator.CustomersConfig{
		Table: w.table, Lists: w.lists, Outcomes: w.out, Search: store.Search, Now: func() time.Time { return w.now },
		Copies: operator.CustomerCopies{
			Names: w.lists.ReplayNames, Search: store.ReplaysOf, Delete: store.Replays().Delete,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run := http.NewServeMux()
	run.Handle(operator.ProofPath, operator.ProofHandler(token))
	run.Handle("/", operator.Handler(w.near, w.customers, token))
	server := httptest.NewServer(run)
	t.Cleanup(server.Close)
	w.url = server.URL
	if w.far, err = operator.NewLocal(strings.TrimPrefix(server.URL, "http://"), token); err != nil {
		t.Fatal(err)
	}
	return w
}

// claim stores a running job.
func (w *world) claim(t *testing.T, callID, toolCallID string) (job.Job, job.Record) {
	t.Helper()
	j := job.Job{
		ID: job.EarlierID(callID, toolCallID), ToolCallID: toolCallID, Tool: "tool",
		Arguments:  json.RawMessage(`{"a":"planted argument"}`),
		Call:       job.Call{ID: callID, CustomerNumber: "+15550100100", ControlURL: "https://x.vapi.ai/planted/control"},
		ReceivedAt: w.now, CallEnds: w.now.Add(time.Hour),
	}
	p := job.Policy{Delivery: policy.DeliverySay, AfterCall: policy.AfterCallNextCall}
	r, err := w.table.Claim(t.Context(), job.NewRecord(j, p, j.CallEnds, "m1", w.now, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Second)
	return j, r
}

// wait stores a job that waits for an external completion.
func (w *world) wait(t *testing.T, callID, toolCallID string) {
	t.Helper()
	j, r := w.claim(t, callID, toolCallID)
	rule := job.Suspend(w.now, j, time.Time{}, true, json.RawMessage(`{"s":"planted state"}`))
	if _, err := w.table.ChangeClaimed(t.Context(), r, rule); err != nil {
		t.Fatal(err)
	}
}

// finish stores the result of a running job.
func (w *world) finish(t *testing.T, r job.Record) {
	t.Helper()
	result := job.Result{Status: job.StatusOK, Content: "x", Delivery: policy.DeliveryRespond}
	if _, err := w.table.ChangeClaimed(t.Context(), r, job.Finish(w.now, result, false, "")); err != nil {
		t.Fatal(err)
	}
}

// both runs a test with the jobs of a deployment and of a local run.
func both(t *testing.T, test func(t *testing.T, w *world, j jobs)) {
	t.Run("deployment", func(t *testing.T) {
		w := newWorld(t)
		test(t, w, w.near)
	})
	t.Run("local", func(t *testing.T) {
		w := newWorld(t)
		test(t, w, w.far)
	})
}

func TestList(t *testing.T) {
	both(t, func(t *testing.T, w *world, j jobs) {
		if l, err := j.List(t.Context(), ""); err != nil || len(l.Jobs) != 0 || !l.All {
			t.Errorf("%+v, %v", l, err)
		}
		w.claim(t, "c1", "a")
		w.wait(t, "c2", "b")
		_, r := w.claim(t, "c2", "c")
		if _, err := w.table.Change(t.Context(), "c2/b", job.AddProgress(w.now, "half way")); err != nil {
			t.Fatal(err)
		}
		w.finish(t, r)
		names := func(callID string) string {
			l, err := j.List(t.Context(), callID)
			if err != nil || !l.All {
				t.Errorf("%+v, %v", l, err)
			}
			var texts []string
			for _, x := range l.Jobs {
				text := x.ID + " " + string(x.State) + " " + x.Progress
				if !x.WakeAt.IsZero() {
					text += " " + x.WakeAt.Format(time.TimeOnly)
				}
				texts = append(texts, text)
			}
			return strings.Join(texts, "; ")
		}
		if got, want := names(""), "c1/a running ; c2/b waiting half way 13:00:01"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got, want := names("c2"), "c2/b waiting half way 13:00:01; c2/c done "; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := names("c3"); got != "" {
			t.Errorf("%q", got)
		}
		// A call also has its name in logs, and its key.
		w.live(t, "c2")
		p, err := j.Calls(t.Context(), "", 1, false)
		if err != nil || len(p.Calls) != 1 {
			t.Fatalf("%+v, %v", p, err)
		}
		for _, name := range []string{job.CallHash("c2"), p.Calls[0].Key} {
			l, err := j.List(t.Context(), name)
			if err != nil || len(l.Jobs) != 2 || l.Call != job.CallHash("c2") {
				t.Errorf("%s: %+v, %v", name, l, err)
			}
		}
		if l, err := j.List(t.Context(), job.CallHash("c1")); !errors.Is(err, jobtable.ErrNotFound) {
			t.Errorf("%+v, %v", l, err)
		}
	})
}

func TestShow(t *testing.T) {
	both(t, func(t *testing.T, w *world, j jobs) {
		w.wait(t, "c", "a")
		for _, data := range []bool{false, true} {
			d, err := j.Show(t.Context(), "c/a", data)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if d.State != job.StateWaiting || !d.External || d.Tool != "tool" || d.WakeUps != 1 || d.AfterCall != "next_call" ||
				d.Call != job.CallHash("c") || d.CallID != map[bool]string{true: "c"}[data] {
				t.Errorf("%s", text)
			}
			for _, never := range []string{"5550100", "/control"} {
				if strings.Contains(string(text), never) {
					t.Errorf("it contains %s: %s", never, text)
				}
			}
			for _, content := range []string{"planted argument", "planted state"} {
				if strings.Contains(string(text), content) != data {
					t.Errorf("with data %t: %s", data, text)
				}
			}
		}
		if _, err := j.Show(t.Context(), "c/b", false); !errors.Is(err, jobtable.ErrNotFound) {
			t.Errorf("%v", err)
		}
	})
}

// TestShowLease shows the lease of a long execution, which is in no record once it is renewed.
func TestShowLease(t *testing.T) {
	both(t, func(t *testing.T, w *world, j jobs) {
		call := job.Job{ID: job.ID("c", "a", "tool", nil), ToolCallID: "a", Tool: "tool", Call: job.Call{ID: "c"}}
		first := job.NewRecord(call, job.Policy{}, w.now.Add(time.Hour), "m1", w.now, time.Minute)
		first.Renewable = true
		r, err := w.table.Claim(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		want := r.LeaseExpiry
		for range 2 {
			d, err := j.Show(t.Context(), r.ID, false)
			if err != nil || !d.LeaseExpiry.Equal(want) {
				t.Errorf("the lease is over at %s, want %s; %v", d.LeaseExpiry, want, err)
			}
			if want, err = w.table.Renew(t.Context(), r, w.now.Add(30*time.Second), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCancel(t *testing.T) {
	both(t, func(t *testing.T, w *world, j jobs) {
		w.wait(t, "c", "a")
		w.checks.before = func() {
			if r, err := w.table.Load(t.Context(), "c/a"); err != nil || r.State != job.StateWaiting {
				t.Errorf("the check is sent when the job is %s, %v", r.State, err)
			}
		}
		w.out.err = errors.New("the queue is unavailable")
		_, err := j.Cancel(t.Context(), "c/a", "why not")
		if err == nil || !strings.Contains(err.Error(), "cancel it again: ") {
			t.Errorf("without a queue: %v", err)
		}
		w.out.err = nil
		c, err := j.Cancel(t.Context(), "c/a", "why not")
		if err != nil || c.ByFunction || len(w.out.sent) != 1 {
			t.Fatalf("%+v, %v, %d messages", c, err, len(w.out.sent))
		}
		o, err := job.DecodeOutcome(w.out.sent[0].Body)
		if err != nil || o.JobID != "c/a" || o.Result.Status != job.StatusError ||
			o.Result.Delivery != policy.DeliverySay || o.Result.Content == "" || strings.Contains(o.Result.Content, "why not") {
			t.Errorf("%+v, %v", o, err)
		}
		r, err := w.table.Load(t.Context(), "c/a")
		if err != nil || r.State != job.StateDone || r.Reason != "cancelled by an operator: why not" {
			t.Errorf("%+v, %v", r, err)
		}

		// If this program had ended after it stored the cancellation, the check would send it.
		check := queue.Message{Body: `{"version":1,"kind":"check","jobId":"c/a"}`, Group: "c", Delay: 30 * time.Second}
		if len(w.checks.sent) != 1 || w.checks.sent[0] != check {
			t.Errorf("checks: %+v", w.checks.sent)
		}

		// The function that runs a job delivers its cancellation if the record has
		// no stored job.
		w.claim(t, "c", "b")
		if c, err := j.Cancel(t.Context(), "c/b", ""); err != nil || !c.ByFunction || len(w.out.sent) != 1 {
			t.Errorf("%+v, %v", c, err)
		}

		// A finished job does not change.
		_, running := w.claim(t, "c", "d")
		w.finish(t, running)
		_, err = j.Cancel(t.Context(), "c/d", "")
		finished, ok := errors.AsType[*operator.FinishedError](err)
		if !ok || finished.State != job.StateDone || len(w.out.sent) != 1 {
			t.Errorf("%v", err)
		}
		if _, err := j.Cancel(t.Context(), "c/e", ""); !errors.Is(err, jobtable.ErrNotFound) {
			t.Errorf("%v", err)
		}
		if len(w.checks.sent) != 1 {
			t.Errorf("checks: %+v", w.checks.sent)
		}

		// A job is cancelled even if it cannot be checked.
		w.wait(t, "c", "f")
		w.checks.err, w.checks.before = errors.New("access denied"), nil
		if _, err := j.Cancel(t.Context(), "c/f", ""); err != nil || len(w.out.sent) != 2 {
			t.Errorf("%v, %d messages", err, len(w.out.sent))
		}
	})
}

// token is that of the local run.
const token = "planted-token-of-a-local-run"

// TestFromHere tests which clients may see the jobs of a local run.
func TestFromHere(t *testing.T) {
	w := newWorld(t)
	w.wait(t, "c", "a")
	for name, row := range map[string]struct {
		host   string // empty: the server's
		header string
		value  string
		status int
	}{
		"a program here": {status: http.StatusOK},
		"no token":       {header: "Authorization", status: http.StatusUnauthorized},
		"another token":  {header: "Authorization", value: "Bearer another-token", status: http.StatusUnauthorized},
		"by name":        {host: "localhost:8787", status: http.StatusOK},
		"a tunnel":       {host: "x.example.com", status: http.StatusNotFound},
		"another tunnel": {header: "X-Forwarded-For", value: "203.0.113.7", status: http.StatusNotFound},
		"a proxy":        {header: "Via", value: "1.1 proxy", status: http.StatusNotFound},
		"a page":         {header: "Origin", value: "https://example.com", status: http.StatusNotFound},
		"a link":         {header: "Sec-Fetch-Site", value: "cross-site", status: http.StatusNotFound},
		"a rebound name": {host: "rebind.example.com:8787", status: http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/jobs", "/jobs/search", "/calls"} {
				r, err := http.NewRequest(http.MethodGet, w.url+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Host = row.host
				r.Header.Set("Authorization", "Bearer "+token)
				if row.header != "" {
					r.Header.Set(row.header, row.value)
				}
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != row.status {
					t.Errorf("%s: status %d, want %d", path, response.StatusCode, row.status)
				}
			}
		})
	}
	away := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8787/jobs", nil)
	away.RemoteAddr = "192.0.2.1:1234"
	answer := httptest.NewRecorder()
	operator.Handler(w.near, w.customers, token).ServeHTTP(answer, away)
	if answer.Code != http.StatusNotFound {
		t.Errorf("another machine got %d", answer.Code)
	}
	stranger, err := operator.NewLocal(strings.TrimPrefix(w.url, "http://"), "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = stranger.List(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "use the account that started it") {
		t.Errorf("without the token: %v", err)
	}
}

func TestNoLocalRun(t *testing.T) {
	if _, err := operator.NewLocal("192.0.2.1:8787", token); err == nil {
		t.Error("an address of another machine was accepted")
	}
	for name, row := range map[string]struct {
		body   string
		proves bool
		want   string
	}{
		"a page":                   {"<html>", false, "has not proven that it is your local run"},
		"an API":                   {`{"message":"Not Found"}`, false, "has not proven that it is your local run"},
		"a run of another version": {"<html>", true, "is not a local run, or an older one"},
	} {
		for _, status := range []int{200, 404} {
			t.Run(fmt.Sprint(name, status), func(t *testing.T) {
				mux := http.NewServeMux()
				mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(status)
					fmt.Fprint(w, row.body)
				})
				if row.proves {
					mux.Handle(operator.ProofPath, operator.ProofHandler(token))
				}
				server := httptest.NewServer(mux)
				defer server.Close()
				l, err := operator.NewLocal(strings.TrimPrefix(server.URL, "http://"), token)
				if err != nil {
					t.Fatal(err)
				}
				_, err = l.Show(t.Context(), "c/a", false)
				if err == nil || errors.Is(err, jobtable.ErrNotFound) || !strings.Contains(err.Error(), row.want) {
					t.Errorf("%v", err)
				}
			})
		}
	}
	l, err := operator.NewLocal("127.0.0.1:1", token)
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.List(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "cannot reach a local run on 127.0.0.1:1") {
		t.Errorf("%v", err)
	}
}
