package httptool_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/asynctooltest"
	"github.com/ringback/ringback/internal/tooltest"
)

// works is a service whose jobs take several requests. It answers each request with the next of its answers,
// and the last one again and again.
type works struct {
	*httptest.Server
	mu      sync.Mutex
	answers []reply
	got     []string // the requests
}

type reply struct {
	status int
	header []string
	body   string
}

func newWorks(t *testing.T, answers ...reply) *works {
	w := &works{answers: answers}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		a := w.answers[min(len(w.got), len(w.answers)-1)]
		w.got = append(w.got, strings.TrimSpace(r.Method+" "+r.RequestURI+" "+r.Header.Get("X-Key")+
			" "+r.Header.Get("Content-Type")))
		for i := 0; i+1 < len(a.header); i += 2 {
			rw.Header().Set(a.header[i], strings.ReplaceAll(a.header[i+1], "${HERE}", "http://"+r.Host))
		}
		rw.WriteHeader(a.status)
		_, _ = rw.Write([]byte(strings.ReplaceAll(a.body, "${HERE}", "http://"+r.Host)))
	}))
	t.Cleanup(w.Close)
	return w
}

// play runs a tool until it is finished, through the functions that are deployed. It returns the waits in
// between.
func play(t *testing.T, tool asynctool.Definition) (result asynctooltest.Result, waits []time.Duration) {
	t.Helper()
	webhook := asynctooltest.Webhook(t, "x", `{}`)
	result = asynctooltest.Run(t, tool, webhook)
	for n := 1; result.Later != nil && n <= 20; n++ {
		waits = append(waits, result.Later.In)
		result = asynctooltest.Run(t, tool, webhook, asynctooltest.Resumed(result.Later.State, n))
	}
	return result, waits
}

func TestPolling(t *testing.T) {
	const post, get = "POST /work k3y application/json", "GET /jobs/7 k3y"
	seconds := func(n ...int) (all []time.Duration) {
		for _, s := range n {
			all = append(all, time.Duration(s)*time.Second)
		}
		return all
	}
	const byStatus = "poll: {url: '{job.url}', every: 5s, status: state, done: [done, 'true'], failed: [failed]}"
	named := `{"job":{"url":"${HERE}/jobs/7"},"state":"new"}`
	accepted := reply{202, []string{"Location", "/jobs/7"}, ""}
	busy := func(after string) reply { return reply{503, []string{"Retry-After", after}, ""} }
	for name, row := range map[string]struct {
		fields  []string
		answers []reply
		text    string
		got     []string
		waits   []time.Duration
	}{
		"by Location": {[]string{"poll: {}", "answer: a"}, []reply{accepted, {202, nil, ""}, {200, nil, `{"a":"Done."}`}},
			"Done.", []string{post, get, get}, seconds(10, 10)},
		"Location, elsewhere on the host": {[]string{"poll: {every: 1s}"},
			[]reply{{202, []string{"Location", "${HERE}/jobs/7"}, ""}, {200, nil, "Done."}},
			"Done.", []string{post, get}, seconds(1)},
		"by a field": {[]string{byStatus, "text: 'It took {n} minutes.'"},
			[]reply{{200, nil, named}, {200, nil, `{"state":"working"}`}, {200, nil, `{"state":"done","n":3}`}},
			"It took 3 minutes.", []string{post, get, get}, seconds(5, 5)},
		"a relative field": {[]string{byStatus},
			[]reply{{201, nil, `{"job":{"url":"jobs/7"},"state":"new"}`}, {200, nil, `{"state":true}`}},
			`{"state":true}`, []string{post, get}, seconds(5)},
		"by an id": {[]string{"poll: {url: '${URL}/../jobs/{id}?v={v}', status: state, done: [done]}", "text: Done."},
			[]reply{{202, nil, `{"id":"A-7","v":"1 2"}`}, {200, nil, `{"state":"done"}`}},
			"Done.", []string{post, "GET /work/../jobs/A-7?v=1+2 k3y"}, seconds(10)},
		"Retry-After": {[]string{"poll: {every: 5s}"}, []reply{
			{202, []string{"Location", "/jobs/7", "Retry-After", "600"}, ""}, {202, []string{"Retry-After", "1"}, ""},
			{202, []string{"Retry-After", "86400"}, ""}, {200, nil, "Done."},
		}, "Done.", []string{post, get, get, get}, seconds(600, 5, 3600)},
		"done at once": {[]string{byStatus, "answer: a"}, []reply{{200, nil, `{"state":"done","a":"Done."}`}},
			"Done.", []string{post}, nil},
		"done at once, by its status": {[]string{"poll: {}"}, []reply{{200, nil, "Done."}}, "Done.", []string{post}, nil},
		"failed": {[]string{byStatus, "failure_text: Sorry."}, []reply{{200, nil, named}, {200, nil, `{"state":"failed"}`}},
			"Sorry.", []string{post, get}, seconds(5)},
		"failed with a reason": {[]string{byStatus, "error_answer: why"},
			[]reply{{200, nil, named}, {200, nil, `{"state":"failed","why":"Sold out."}`}},
			"Sold out.", []string{post, get}, seconds(5)},
		"the job is gone": {[]string{byStatus, "texts: {404: It's gone.}"}, []reply{{200, nil, named}, {404, nil, ""}},
			"It's gone.", []string{post, get}, seconds(5)},
		"busy meanwhile": {[]string{"poll: {}"},
			[]reply{accepted, busy("30"), busy("1"), {202, nil, ""}, {200, nil, "Done."}},
			"Done.", []string{post, get, get, get, get}, seconds(10, 30, 10, 10)},
		"busy for too long": {[]string{"poll: {}", "failure_text: Sorry."}, []reply{accepted, busy("0")},
			"Sorry.", append([]string{post}, slices.Repeat([]string{get}, 10)...),
			slices.Repeat(seconds(10), 10)},
		"the first request fails": {[]string{"poll: {}", "failure_text: Sorry."}, []reply{busy("0")},
			"Sorry.", []string{post}, nil},
		"no status any more": {[]string{byStatus, "failure_text: Sorry."}, []reply{{200, nil, named}, {200, nil, `{}`}},
			"Sorry.", []string{post, get}, seconds(5)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorks(t, row.answers...)
			fields := append(row.fields, "headers: {X-Key: k3y}", "deadline: 24h")
			tool := declared(t, declaration(fields...), map[string]string{"URL": w.URL + "/work"})
			result, waits := play(t, tool)
			if result.Text != row.text {
				t.Errorf("text %q, want %q\n%s", result.Text, row.text, result)
			}
			if diff := cmp.Diff(row.got, w.got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(row.waits, waits); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A service must not lead the tool's header to another host, and a caller's words must not lead it to
// another path.
func TestPollingStaysAtItsHost(t *testing.T) {
	elsewhere, requests := tooltest.Counting(t)
	const byID = "poll: {url: '${URL}/jobs/{id}', status: state, done: [done]}"
	const byLink = "poll: {url: '{url}'}"
	otherHost := "it names a job at another host"
	for name, row := range map[string]struct {
		field string
		reply reply
		log   string
	}{
		"Location":         {"poll: {}", reply{202, []string{"Location", elsewhere.URL}, ""}, otherHost},
		"without a scheme": {"poll: {}", reply{202, []string{"Location", elsewhere.URL[len("http:"):]}, ""}, otherHost},
		"field":            {byLink, reply{202, nil, `{"url":"` + elsewhere.URL + `"}`}, otherHost},
		"scheme":           {byLink, reply{202, nil, `{"url":"file:///etc/passwd"}`}, otherHost},
		"not an address":   {byLink, reply{202, nil, `{"url":"http://%zz"}`}, "no address of a job in the field url"},
		"not a text":       {byLink, reply{202, nil, `{"url":7}`}, "no address of a job in the field url"},
		"no Location":      {"poll: {}", reply{202, nil, ""}, "no address of a job in the header Location"},
		"long": {"poll: {}", reply{202, []string{"Location", "/" + strings.Repeat("a", 2000)}, ""},
			"no address"},
		"id of another path": {byID, reply{202, nil, `{"id":"../../admin"}`}, "its id is not an identifier"},
		"no id":              {byID, reply{202, nil, `{}`}, "it is not JSON with the field id"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorks(t, row.reply)
			tool := declared(t, declaration(row.field), map[string]string{"URL": w.URL})
			result, err := tooltest.Call(t, t.Context(), tool, `{}`)
			want{Log: row.log}.Check(t, result, err)
			if len(w.got) != 1 {
				t.Errorf("requests: %q", w.got)
			}
		})
	}
	t.Run("stored", func(t *testing.T) {
		w := newWorks(t, reply{200, nil, "done"})
		tool := declared(t, declaration("poll: {}"), map[string]string{"URL": w.URL})
		state := fmt.Appendf(nil, `{"url":%q}`, elsewhere.URL)
		result, err := tooltest.CallWith(t, t.Context(), asynctool.Call{Resumes: 1, State: state}, tool, `{}`)
		want{Log: otherHost}.Check(t, result, err)
	})
	if n := requests.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
}

// The time of the tool ends its polls.
func TestPollingUntilTheDeadline(t *testing.T) {
	w := newWorks(t, reply{202, []string{"Location", "/jobs/7", "Retry-After", "120"}, ""})
	tool := declared(t, declaration("poll: {}", "deadline: 1m", "failure_text: It takes too long."),
		map[string]string{"URL": w.URL})
	if result, waits := play(t, tool); result.Text != "It takes too long." || len(waits) > 0 {
		t.Errorf("got %v after %s", result, waits)
	}
}

// A poll uses the access token, too.
func TestPollingWithALogin(t *testing.T) {
	o := newOffice(t)
	tool := declared(t, login(credentials)+"    poll: {}\n", map[string]string{
		"URL": o.URL + "/work", "LOGIN": o.URL + "/token", "ID": "shop:1", "SECRET": "s3cret"})
	call := asynctool.Call{Resumes: 1, State: fmt.Appendf(nil, `{"url":%q}`, o.URL+"/jobs/7")}
	result, err := tooltest.CallWith(t, t.Context(), call, tool, `{}`)
	want{Text: "done"}.Check(t, result, err)
	o.counts(t, 1, 1)
}

// A request that the service refuses is sent again although it may be sent only once. One that may have
// begun is not.
func TestForwardedNotStarted(t *testing.T) {
	for name, row := range map[string]struct {
		answers  []reply
		text     string
		requests int
		waits    []time.Duration
	}{
		"refused, then accepted": {[]reply{{429, []string{"Retry-After", "5"}, ""}, {503, nil, ""}, {200, nil, "Done."}},
			"Done.", 3, []time.Duration{5 * time.Second, 4 * time.Second}},
		"always refused": {[]reply{{503, []string{"Retry-After", "5"}, ""}}, "Sorry.", 6,
			slices.Repeat([]time.Duration{5 * time.Second}, 5)},
		"failed":               {[]reply{{500, nil, ""}}, "Sorry.", 1, nil},
		"refused, then failed": {[]reply{{429, nil, ""}, {500, nil, ""}}, "Sorry.", 2, []time.Duration{2 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorks(t, row.answers...)
			tool := declared(t, declaration("not_started: [429, 503]", "failure_text: Sorry."),
				map[string]string{"URL": w.URL})
			result := asynctooltest.Run(t, tool, asynctooltest.Webhook(t, "x", `{}`))
			if result.Text != row.text || len(w.got) != row.requests {
				t.Errorf("%d requests\n%s", len(w.got), result)
			}
			if diff := cmp.Diff(row.waits, result.Delays); diff != "" {
				t.Error(diff)
			}
		})
	}
}
