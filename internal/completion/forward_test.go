package completion_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/httpjson"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// forwarding returns a post to the URL of newJob, whose tool reads what is posted.
func (w *world) forwarding(body string, header http.Header) *http.Request {
	w.t.Helper()
	token, err := w.keys.SignPosts(w.t.Context(), id, deadline)
	if err != nil {
		w.t.Fatal(err)
	}
	r := request(token, "", body)
	if header != nil {
		r.Header = header
	}
	return r
}

// posts returns the posts that were queued since it was last called.
func (w *world) posts() []job.Post {
	w.t.Helper()
	var posts []job.Post
	for _, m := range w.jobs.Take() {
		got, err := job.DecodeMessage(m.Body)
		post, ok := got.(job.Post)
		if err != nil || !ok || m.Group != queue.Group(newJob().Call.ID) || m.Delay != 0 {
			w.t.Errorf("queued %+v: %v", m, err)
		}
		if err := m.Check(); err != nil {
			w.t.Error(err)
		}
		posts = append(posts, post)
	}
	return posts
}

// TestForward posts what is no result of Ringback's format, and what is one. All of it goes to the tool, and nothing
// of it completes the job.
func TestForward(t *testing.T) {
	for name, body := range map[string]string{
		"a format of its own": `{"type":"invoice.paid","data":{"id":1}}`,
		"a form":              "status=paid&id=1",
		"bytes":               "\x00\xff\ufffe\r\n",
		"nothing":             "",
		"a result":            `{"result":"Approved."}`,
		"the largest":         strings.Repeat("\xff", completion.MaxBody),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.waiting(newJob(), job.Policy{})
			header := http.Header{
				"X-Signature": {"a", "b"}, "Authorization": {"Bearer x"}, "Content-Type": {"x/y"},
				"Connection": {"close"}, "Transfer-Encoding": {"chunked"}, "Te": {"trailers"},
			}
			r := w.forwarding(body, header)
			received := w.now.Add(-3 * time.Second)
			r = r.WithContext(httpjson.WithReceived(r.Context(), received))
			if a := w.serve(r); a.status != http.StatusAccepted || a.text != "received" {
				t.Errorf("answered with %+v", a)
			}
			want := []job.Post{{JobID: id, Received: received, Body: []byte(body), Header: http.Header{
				"X-Signature": {"a", "b"}, "Authorization": {"Bearer x"}, "Content-Type": {"x/y"},
			}}}
			if diff := cmp.Diff(want, w.posts()); diff != "" {
				t.Errorf("queued (-want +got):\n%s", diff)
			}
			w.expectSent()
			if state := w.record(id).State; state != job.StateWaiting {
				t.Errorf("the job is %s", state)
			}
		})
	}
}

func TestForwardRefusals(t *testing.T) {
	w := newWorld(t)
	w.waiting(newJob(), job.Policy{})
	many := http.Header{}
	for n := range 100 {
		many.Set(fmt.Sprint("X-", n), strings.Repeat("x", 200))
	}
	get := w.forwarding("", nil)
	get.Method = http.MethodGet
	for name, row := range map[string]struct {
		request *http.Request
		want    int
	}{
		"GET":           {get, http.StatusMethodNotAllowed},
		"a large body":  {w.forwarding(strings.Repeat("x", completion.MaxBody+1), nil), http.StatusRequestEntityTooLarge},
		"large headers": {w.forwarding("", many), http.StatusRequestHeaderFieldsTooLarge},
	} {
		if a := w.serve(row.request); a.status != row.want {
			t.Errorf("%s: %+v, want %d", name, a, row.want)
		}
	}
	w.jobs.err = errors.New("it is down")
	if a := w.serve(w.forwarding("x", nil)); a.status != http.StatusServiceUnavailable || a.retryAfter == "" {
		t.Errorf("without a queue: %+v", a)
	}
	if len(w.posts()) > 0 {
		t.Error("something was queued")
	}
}

// TestForwardLate posts about jobs that have ended. A service that knows nothing of jobs must not repeat its post.
func TestForwardLate(t *testing.T) {
	for name, row := range map[string]struct {
		rule   func(w *world) job.Rule // nil means none
		later  time.Duration
		status int
		text   string
	}{
		"completed": {rule: func(w *world) job.Rule { return job.Complete(w.now, ok("x")) }, status: 202, text: "ignored"},
		"cancelled": {rule: func(w *world) job.Rule { return job.Replace(w.now, "x") }, status: 202, text: "ignored"},
		"too late":  {later: deadline.Sub(now) + time.Millisecond, status: 410, text: "the job's deadline has passed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.waiting(newJob(), job.Policy{})
			r := w.forwarding("x", nil)
			if row.rule != nil {
				w.must(w.table.Change(t.Context(), id, row.rule(w)))
			}
			w.now = w.now.Add(row.later)
			if a := w.serve(r); a.status != row.status || a.text != row.text {
				t.Errorf("answered with %+v", a)
			}
			if len(w.posts()) > 0 {
				t.Error("it was queued")
			}
		})
	}
	w := newWorld(t)
	if a := w.serve(w.forwarding("x", nil)); a.status != http.StatusNotFound {
		t.Errorf("an unknown job: %+v", a)
	}
}
