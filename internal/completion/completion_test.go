package completion_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/spoken"
)

const content = "planted-content"

// world is a handler on a real table, and what it talks to.
type world struct {
	t     testing.TB
	now   time.Time
	store *memtable.Store
	table *jobtable.Table
	keys  *completion.Keys

	outcomes  recorder
	schedules canceller
	handler   *completion.Handler
}

// recorder is a queue that remembers what it took.
type recorder struct {
	mu    sync.Mutex
	err   error // of every message
	taken []queue.Message
}

func (r *recorder) Send(_ context.Context, messages []queue.Message) []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	errs := make([]error, len(messages))
	for i, m := range messages {
		if errs[i] = r.err; r.err == nil {
			r.taken = append(r.taken, m)
		}
	}
	return errs
}

// canceller are schedules that remember which of them were cancelled.
type canceller struct {
	mu        sync.Mutex
	err       error
	hang      bool // until the context ends
	cancelled []string
}

func (c *canceller) Cancel(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancelled = append(c.cancelled, name)
	if c.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return c.err
}

// newWorld makes a world whose log is searched for planted values when the
// test ends.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: now, store: new(memtable.Store), keys: completion.NewKeys(stored(keyA), nil)}
	clock := func() time.Time { return w.now }
	w.table = jobtable.New(w.store)
	var logged lockedBuffer
	log := slog.New(slog.NewJSONHandler(&logged, nil))
	var err error
	if w.handler, err = completion.New(completion.Config{
		Keys: w.keys, Table: w.table, Outcomes: &w.outcomes, Schedules: &w.schedules, Now: clock, Log: log,
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		text := logged.String()
		for _, planted := range []string{"planted", "eyJ"} { // contents, numbers and control URLs; and each part of a token
			if strings.Contains(text, planted) {
				t.Errorf("the log has %s:\n%s", planted, text)
			}
		}
	})
	return w
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func newJob() job.Job {
	return job.Job{
		ID: "call-1/tool-1", ToolCallID: "tool-1", Tool: "approve_refund", Arguments: json.RawMessage(`{"amount":"planted-argument"}`),
		Call: job.Call{ID: "call-1", Type: "inboundPhoneCall", CustomerNumber: "planted-number", ControlURL: "https://example.com/planted-control"},
		// The call is long over when the job is.
		ReceivedAt: now, CallEnds: now.Add(10 * time.Minute),
	}
}

// running puts a job into the table that runs and was made ready to be
// completed.
func (w *world) running(j job.Job, terms job.Policy) job.Record {
	w.t.Helper()
	r, err := w.table.Claim(w.t.Context(), job.NewRecord(j, terms, deadline, "message", w.now, time.Minute))
	if err == nil {
		r, err = w.table.ChangeClaimed(w.t.Context(), r, job.StoreJob(w.now, j))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// waiting puts a job into the table that waits for somebody outside.
func (w *world) waiting(j job.Job, terms job.Policy) job.Record {
	w.t.Helper()
	r, err := w.table.ChangeClaimed(w.t.Context(), w.running(j, terms), job.Suspend(w.now, j, time.Time{}, true, nil))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) record(id string) job.Record {
	w.t.Helper()
	r, err := w.table.Load(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// told are the outcomes that were sent.
func (w *world) told() []job.Outcome {
	w.t.Helper()
	var outcomes []job.Outcome
	for _, m := range w.outcomes.taken {
		o, err := job.DecodeOutcome(m.Body)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := m.Check(); err != nil || m.Group != queue.Group(o.Call.ID) {
			w.t.Errorf("a message of the group %q: %v", m.Group, err)
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

// request is a post to the URL of a token, which may be empty.
func request(token, contentType, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/results/"+url.PathEscape(token), strings.NewReader(body))
	r.SetPathValue("token", token)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// answer is what the handler said.
type answer struct {
	Status     int
	RetryAfter string
	Text       string // of the member status, or error
}

func (w *world) handle(r *http.Request) answer {
	w.t.Helper()
	response := httptest.NewRecorder()
	w.handler.ServeHTTP(response, r)
	var body struct{ Status, Error string }
	if json.Unmarshal(response.Body.Bytes(), &body) != nil || response.Header().Get("Content-Type") != "application/json" ||
		(body.Status == "") != (response.Code >= 300) || (body.Error == "") == (response.Code >= 300) {
		w.t.Errorf("the answer with status %d says %s", response.Code, response.Body)
	}
	if strings.Contains(response.Body.String(), "planted") {
		w.t.Errorf("the answer has what it should not: %s", response.Body)
	}
	return answer{response.Code, response.Header().Get("Retry-After"), body.Status + body.Error}
}

// post posts to the job's URL.
func (w *world) post(id, contentType, body string) answer {
	w.t.Helper()
	return w.handle(request(sign(w.t, w.keys, id, deadline), contentType, body))
}

// wants fails where an answer has another status, or a Retry-After that does
// not belong there.
func (w *world) wants(what string, a answer, status int, retryAfter string) {
	w.t.Helper()
	if a.Status != status || a.RetryAfter != retryAfter {
		w.t.Errorf("%s: status %d with Retry-After %q (%s), want %d with %q", what, a.Status, a.RetryAfter, a.Text, status, retryAfter)
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	w := newWorld(t)
	for name, cfg := range map[string]completion.Config{
		"nothing":     {},
		"no tokens":   {Table: w.table, Outcomes: &w.outcomes},
		"no table":    {Keys: w.keys, Outcomes: &w.outcomes},
		"no outcomes": {Keys: w.keys, Table: w.table},
	} {
		if _, err := completion.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestResult(t *testing.T) {
	const object, text = "application/json", "text/plain; charset=utf-8"
	long := strings.Repeat("word ", 2000)
	for name, row := range map[string]struct {
		contentType, body string
		terms             job.Policy
		want              job.Result
	}{
		"text":                     {text, "It is approved.", job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "It is approved."}},
		"untyped text":             {"", " It is\napproved. ", job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "It is\napproved."}},
		"text like JSON":           {text, `{"result": it is`, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: `{"result": it is`}},
		"JSON string as text":      {text, `"approved"`, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: `"approved"`}},
		"string":                   {object, `{"result":"It is \"approved\"."}`, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: `It is "approved".`}},
		"object":                   {object, "{\"result\": {\"b\": [1, 2.50],\n \"a\": \"<x>\"}}", job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: `{"b":[1,2.50],"a":"<x>"}`}},
		"number":                   {object, `{"result":12345678901234567890}`, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "12345678901234567890"}},
		"false":                    {object, `{"result":false}`, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "false"}},
		"nulls":                    {object, `{"result":"x","error":null,"progress":null,"silent":null}`, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "x"}},
		"error":                    {object, `{"error":"The manager said no."}`, job.Policy{}, job.Result{Status: job.StatusError, Delivery: job.DeliveryRespond, Content: "The manager said no."}},
		"delivery":                 {object, `{"result":"x"}`, job.Policy{Delivery: job.DeliverySay}, job.Result{Status: job.StatusOK, Delivery: job.DeliverySay, Content: "x"}},
		"error's delivery":         {object, `{"error":"x"}`, job.Policy{Delivery: job.DeliverySilent}, job.Result{Status: job.StatusError, Delivery: job.DeliverySilent, Content: "x"}},
		"after the call":           {text, "x", job.Policy{AfterCall: job.AfterCallOutboundCall}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "x"}},
		"JSON without a type":      {"", ` {"result":"x"}`, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "x"}},
		"JSON of curl's own type":  {"application/x-www-form-urlencoded", `{"result":"x"}`, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "x"}},
		"a JSON type of one's own": {"application/vnd.example.v1+json", `{"result":"x"}`, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "x"}},
		"byte order mark":          {object, "\ufeff" + `{"result":"x"}`, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "x"}},
		"too long to tell":         {text, long, job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: spoken.Cut(long)}},
		"what SQS refuses":         {text, "a\x00\x1b\uffff", job.Policy{}, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "a\x00\x1b\uffff"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			j := newJob()
			r := w.waiting(j, row.terms)
			w.wants("the result", w.post(j.ID, row.contentType, row.body), http.StatusOK, "")
			want := []job.Outcome{{
				Version: 1, JobID: j.ID, ToolCallID: j.ToolCallID, Tool: j.Tool, Call: j.Call, Kind: job.KindFinal,
				Result: row.want, Deadline: deadline, AfterCall: row.terms.AfterCall,
			}}
			if diff := cmp.Diff(want, w.told()); diff != "" {
				t.Error(diff)
			}
			if got := w.record(j.ID); got.State != job.StateDone || !cmp.Equal(got.Result, &row.want) {
				t.Errorf("the record is %s with %+v", got.State, got.Result)
			}
			if want := []string{queue.ScheduleName(j.ID, r.WakeUp)}; !slices.Equal(w.schedules.cancelled, want) {
				t.Errorf("cancelled %q, want %q", w.schedules.cancelled, want)
			}
		})
	}
}

func TestUnusableBodies(t *testing.T) {
	const object, text = "application/json", "text/plain"
	for name, row := range map[string]struct{ contentType, body, says string }{
		"empty":                {text, "", "empty"},
		"nothing at all":       {"", "", "empty"},
		"white space":          {text, " \n\t\u00a0", "empty"},
		"nothing to be seen":   {text, "\u200b\u202e \u2060", "empty"},
		"an empty result":      {object, `{"result":""}`, "empty"},
		"an invisible result":  {object, `{"result":"\u200b"}`, "empty"},
		"an empty error":       {object, `{"error":" "}`, "empty"},
		"an empty progress":    {object, `{"progress":""}`, "empty"},
		"not UTF-8":            {text, content + "\xff", "not UTF-8"},
		"JSON not UTF-8":       {object, "{\"result\":\"" + content + "\xe4\"}", "not UTF-8"},
		"no members":           {object, `{}`, "exactly one"},
		"null":                 {object, `{"result":null}`, "exactly one"},
		"silence alone":        {object, `{"silent":true}`, "exactly one"},
		"result and error":     {object, `{"result":"` + content + `","error":"no"}`, "exactly one"},
		"result and progress":  {object, `{"result":"x","progress":"y"}`, "exactly one"},
		"a silent result":      {object, `{"result":"x","silent":true}`, "progress only"},
		"a result, not silent": {object, `{"result":"x","silent":false}`, "progress only"},
		"silent as a text":     {object, `{"progress":"x","silent":"true"}`, "neither true nor false"},
		"an error object":      {object, `{"error":{"message":"` + content + `"}}`, "error is not a string"},
		"progress in numbers":  {object, `{"progress":50}`, "progress is not a string"},
		"a typo":               {object, `{"resutl":"` + content + `"}`, "another member"},
		"a typo beside it":     {object, `{"progress":"x","slient":true}`, "another member"},
		"in another case":      {object, `{"Result":"x"}`, "another member"},
		"a planted member":     {object, `{"result":"x","planted-member":1}`, "another member"},
		"twice":                {object, `{"result":"x","result":"y"}`, "twice"},
		"twice, once null":     {object, `{"result":null,"result":"y"}`, "twice"},
		"no JSON":              {object, content, "not a JSON object"},
		"empty JSON":           {object, "", "not a JSON object"},
		"cut JSON":             {object, `{"result":"` + content, "not a JSON object"},
		"two objects":          {object, `{"result":"x"}{"result":"y"}`, "not a JSON object"},
		"a JSON string":        {object, `"` + content + `"`, "not a JSON object"},
		"a JSON list":          {object, `[{"result":"x"}]`, "not a JSON object"},
		"nested too deeply":    {object, `{"result":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, "not a JSON object"},
		"a form":               {"application/x-www-form-urlencoded", "result=" + content, "Content-Type"},
		"a page":               {"text/html", "<h1>" + content + "</h1>", "Content-Type"},
		"a broken type":        {"text/plain; charset", content, "Content-Type"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.waiting(newJob(), job.Policy{})
			a := w.post("call-1/tool-1", row.contentType, row.body)
			w.wants("an unusable body", a, http.StatusBadRequest, "")
			if !strings.Contains(a.Text, row.says) {
				t.Errorf("the answer is %q, want one that says %q", a.Text, row.says)
			}
			// It can be put right.
			w.wants("a usable one after it", w.post("call-1/tool-1", text, "x"), http.StatusOK, "")
		})
	}
}

func TestSize(t *testing.T) {
	for _, over := range []int{0, 1} {
		body := `{"result":"` + strings.Repeat("x", completion.MaxBody+over-len(`{"result":""}`)) + `"}`
		if over == 0 && len(body) != 256*1024 {
			t.Fatalf("the test's body has %d bytes", len(body))
		}
		w := newWorld(t)
		w.waiting(newJob(), job.Policy{})
		want := []int{http.StatusOK, http.StatusRequestEntityTooLarge}[over]
		w.wants(fmt.Sprintf("%d bytes", len(body)), w.post("call-1/tool-1", "application/json", body), want, "")
		if len(w.outcomes.taken) != 1-over {
			t.Errorf("%d outcomes", len(w.outcomes.taken))
		}
	}
}

func TestRefusals(t *testing.T) {
	const id = "call-1/tool-1"
	w := newWorld(t)
	w.waiting(newJob(), job.Policy{})
	good := sign(t, w.keys, id, deadline)
	with := func(change func(*http.Request)) *http.Request {
		r := request(good, "text/plain", content)
		change(r)
		return r
	}
	body := func(err error) func(*http.Request) {
		return func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(err)) }
	}
	for name, row := range map[string]struct {
		request *http.Request
		want    int
	}{
		"GET":                          {with(func(r *http.Request) { r.Method = "GET" }), 405},
		"no method":                    {with(func(r *http.Request) { r.Method = "" }), 405},
		"broken base64":                {with(body(base64.CorruptInputError(1))), 400},
		"a broken connection":          {with(body(io.ErrUnexpectedEOF)), 400},
		"no token":                     {request("", "text/plain", content), 401},
		"token in the query":           {with(func(r *http.Request) { r.SetPathValue("token", ""); r.URL.RawQuery = "token=" + good }), 401},
		"wrong token":                  {request(good[:len(good)-1]+"A", "text/plain", content), 401},
		"another's key":                {request(sign(t, completion.NewKeys(stored(keyB), nil), id, deadline), "text/plain", content), 401},
		"a wrong token of no job":      {request(sign(t, completion.NewKeys(stored(keyB), nil), "no/job", deadline), "text/plain", content), 401},
		"wrong token and a large body": {request("x", "text/plain", strings.Repeat("x", 300<<10)), 401},
		"expired token":                {request(sign(t, w.keys, id, now.Add(-time.Second)), "text/plain", content), 410},
		"unknown job":                  {request(sign(t, w.keys, "call-1/tool-2", deadline), "text/plain", content), 404},
		"progress of an unknown job":   {request(sign(t, w.keys, "call-1/tool-2", deadline), "", `{"progress":"x"}`), 404},
	} {
		w.wants(name, w.handle(row.request), row.want, "")
	}
	if len(w.outcomes.taken) > 0 || w.record(id).State != job.StateWaiting {
		t.Errorf("%d outcomes of a job that is %s", len(w.outcomes.taken), w.record(id).State)
	}

	w.wants("a good one", w.post(id, "text/plain", content), 200, "")
	w.wants("a second time", w.post(id, "text/plain", content), 409, "")
	w.wants("progress of a finished job", w.post(id, "", `{"progress":"x"}`), 409, "")
	if len(w.schedules.cancelled) != 1 {
		t.Errorf("cancelled %q", w.schedules.cancelled)
	}
}

// TestNotPrepared is about a job that was claimed, and whose URL nobody was
// given.
func TestNotPrepared(t *testing.T) {
	w := newWorld(t)
	if _, err := w.table.Claim(t.Context(), job.NewRecord(newJob(), job.Policy{}, deadline, "message", w.now, time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.wants("a result", w.post("call-1/tool-1", "", "x"), 410, "")
	w.wants("progress", w.post("call-1/tool-1", "", `{"progress":"x"}`), 410, "")
	if len(w.outcomes.taken) != 0 {
		t.Errorf("%d outcomes", len(w.outcomes.taken))
	}
}

// TestRunning is about a job whose tool still runs when its result comes from
// outside: the tool's own does not count then.
func TestRunning(t *testing.T) {
	w := newWorld(t)
	r := w.running(newJob(), job.Policy{})
	w.wants("a result", w.post(r.ID, "", "from outside"), 200, "")
	if len(w.schedules.cancelled) != 0 {
		t.Errorf("cancelled %q, and the job never waited", w.schedules.cancelled)
	}
	if _, err := w.table.ChangeClaimed(t.Context(), r, job.Finish(w.now, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "from inside"}, false, "")); !errors.Is(err, job.ErrFinished) {
		t.Errorf("the tool's own result: %v", err)
	}
	if got := w.record(r.ID).Result.Content; got != "from outside" {
		t.Errorf("the result is %q", got)
	}
}

func TestRotatedKeys(t *testing.T) {
	for name, row := range map[string]struct {
		signed []string // by whom
		source *source  // who verifies
		want   int
	}{
		"rotated since it was signed":   {[]string{keyA}, stored(keyB, keyA), 200},
		"rotated since it was read":     {[]string{keyB, keyA}, &source{old: keysOf(keyA), new: keysOf(keyB, keyA)}, 200},
		"rotated twice":                 {[]string{keyA}, stored(keyC, keyB), 401},
		"the keys cannot be read":       {[]string{keyA}, &source{err: errors.New("access denied")}, 503},
		"the keys are too short to use": {[]string{keyA}, &source{old: keysOf("planted")}, 503},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.waiting(newJob(), job.Policy{})
			h, err := completion.New(completion.Config{
				Keys: completion.NewKeys(row.source, nil), Table: w.table, Outcomes: &w.outcomes,
				Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			w.handler = h
			a := w.handle(request(sign(t, completion.NewKeys(stored(row.signed...), nil), "call-1/tool-1", deadline), "", "x"))
			w.wants("a result", a, row.want, map[int]string{503: "1"}[row.want])
		})
	}
}

func TestProgress(t *testing.T) {
	w := newWorld(t)
	j := newJob()
	w.waiting(j, job.Policy{Delivery: job.DeliverySilent})
	line := func(sequence int, text string, delivery job.Delivery) job.Outcome {
		return job.Outcome{
			Version: 1, JobID: j.ID, ToolCallID: j.ToolCallID, Tool: j.Tool, Call: j.Call, Kind: job.KindProgress, Sequence: sequence,
			Result: job.Result{Status: job.StatusOK, Delivery: delivery, Content: text}, Deadline: deadline,
		}
	}
	w.wants("the first", w.post(j.ID, "application/json", `{"progress":" The manager has it. "}`), 202, "")
	w.wants("at once", w.post(j.ID, "", `{"progress":"x"}`), 429, "5")
	w.now = w.now.Add(1500 * time.Millisecond)
	w.wants("soon", w.post(j.ID, "", `{"progress":"x"}`), 429, "4")
	w.now = w.now.Add(3499 * time.Millisecond)
	w.wants("nearly", w.post(j.ID, "", `{"progress":"x"}`), 429, "1")
	w.now = w.now.Add(time.Millisecond)
	w.wants("in time", w.post(j.ID, "", `{"progress":"She looks at it.","silent":true}`), 202, "")
	w.now = w.now.Add(job.ProgressPause)
	w.wants("spoken", w.post(j.ID, "", `{"progress":"She thinks.","silent":false}`), 202, "")
	want := []job.Outcome{
		line(1, "The manager has it.", job.DeliverySay), line(2, "She looks at it.", job.DeliverySilent), line(3, "She thinks.", job.DeliverySay),
	}
	if diff := cmp.Diff(want, w.told()); diff != "" {
		t.Error(diff)
	}
	if r := w.record(j.ID); r.State != job.StateWaiting || r.Progress.Text != "She thinks." || len(w.schedules.cancelled) != 0 {
		t.Errorf("the job is %s with %+v; cancelled: %q", r.State, r.Progress, w.schedules.cancelled)
	}

	w.now = w.now.Add(job.ProgressPause)
	w.outcomes.err = errors.New("down")
	w.wants("the queue fails", w.post(j.ID, "", `{"progress":"x"}`), 503, "1")
}

func TestProgressOfAChat(t *testing.T) {
	w := newWorld(t)
	j := newJob()
	j.Call = job.Call{ID: "call-1", Type: "chat"}
	w.waiting(j, job.Policy{})
	w.wants("progress", w.post(j.ID, "", `{"progress":"half"}`), 202, "")
	if r := w.record(j.ID); len(w.outcomes.taken) != 0 || r.Progress == nil || r.Progress.Text != "half" {
		t.Errorf("%d lines were sent, and %+v noted", len(w.outcomes.taken), r.Progress)
	}
}

// TestFive posts five results at once: one of them wins.
func TestFive(t *testing.T) {
	w := newWorld(t)
	for round := range 50 {
		w.outcomes.taken = nil
		j := newJob()
		j.ToolCallID = fmt.Sprint("tool-", round)
		j.ID = job.ID(j.Call.ID, j.ToolCallID)
		w.waiting(j, job.Policy{})
		token := sign(t, w.keys, j.ID, deadline)
		answers := make([]answer, 5)
		start := make(chan struct{})
		var posting sync.WaitGroup
		for i := range answers {
			posting.Go(func() {
				<-start
				answers[i] = w.handle(request(token, "", fmt.Sprint("result ", i)))
			})
		}
		close(start)
		posting.Wait()
		won := -1
		for i, a := range answers {
			switch {
			case a.Status == http.StatusOK && won < 0:
				won = i
			case a.Status != http.StatusConflict:
				t.Fatalf("answers %+v, want one 200 and four 409", answers)
			}
		}
		if won < 0 {
			t.Fatalf("answers %+v, want one 200", answers)
		}
		told := w.told()
		if len(told) == 0 {
			t.Fatal("nothing was told")
		}
		for _, o := range told {
			if o.Result.Content != fmt.Sprint("result ", won) || !cmp.Equal(o, told[0]) {
				t.Fatalf("result %d won, and %q is told", won, o.Result.Content)
			}
		}
	}
}

// TestDeadline posts a result in the very moment of the deadline, which is also
// when the job is woken in order to be given up.
func TestDeadline(t *testing.T) {
	for name, row := range map[string]struct {
		at   time.Time
		want int
	}{
		"before": {deadline.Add(-1), 200},
		"at":     {deadline, 200},
		"after":  {deadline.Add(1), 410}, // says the record
		"later":  {deadline.Add(time.Second), 410},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.waiting(newJob(), job.Policy{})
			w.now = row.at
			w.wants("a result", w.post("call-1/tool-1", "", "x"), row.want, "")
			if n := len(w.outcomes.taken); (n == 1) != (row.want == 200) {
				t.Errorf("%d outcomes", n)
			}
		})
	}
	t.Run("with the wake", func(t *testing.T) {
		posted, woken := 0, 0
		w := newWorld(t)
		for round := range 200 {
			w.outcomes.taken, w.now = nil, now
			j := newJob()
			j.ToolCallID = fmt.Sprint("tool-", round)
			j.ID = job.ID(j.Call.ID, j.ToolCallID)
			w.waiting(j, job.Policy{})
			token := sign(t, w.keys, j.ID, deadline)
			w.now = deadline
			var a answer
			gaveUp := false
			start := make(chan struct{})
			var both sync.WaitGroup
			both.Go(func() {
				<-start
				a = w.handle(request(token, "", "posted"))
			})
			both.Go(func() {
				<-start
				r, err := w.table.Change(context.Background(), j.ID, job.Claim(w.now, "wake", time.Minute))
				if err == nil {
					_, err = w.table.ChangeClaimed(context.Background(), r, job.Finish(w.now, job.Result{Status: job.StatusError, Delivery: job.DeliveryRespond, Content: "given up"}, false, ""))
				}
				if gaveUp = err == nil; err != nil && !errors.Is(err, job.ErrFinished) {
					t.Errorf("the wake: %v", err)
				}
			})
			close(start)
			both.Wait()
			result := w.record(j.ID).Result.Content
			switch {
			case a.Status == 200 && !gaveUp && result == "posted":
				posted++
			case a.Status == 409 && gaveUp && result == "given up":
				woken++
			default:
				t.Fatalf("status %d, given up: %t, the result: %q", a.Status, gaveUp, result)
			}
			for _, o := range w.told() {
				if o.Result.Content != result {
					t.Fatalf("%q is told instead of %q", o.Result.Content, result)
				}
			}
		}
		t.Logf("the result was faster %d times, the wake %d times", posted, woken)
	})
}

// TestNotSent is about a result that was stored, and that could not be sent on.
func TestNotSent(t *testing.T) {
	w := newWorld(t)
	w.waiting(newJob(), job.Policy{})
	const id = "call-1/tool-1"
	w.outcomes.err = errors.New("down")
	w.wants("the first", w.post(id, "", "first"), 503, "1")
	w.wants("again, in vain", w.post(id, "", "first"), 503, "1")
	if len(w.schedules.cancelled) != 0 {
		t.Error("the wake was cancelled that would save the result")
	}
	w.outcomes.err = nil
	// Others may post at the same moment. That is no reason for copies.
	w.wants("another one", w.post(id, "", "second"), 409, "")
	if told := w.told(); len(told) != 0 {
		t.Errorf("told for another one: %+v", told)
	}
	w.wants("again", w.post(id, "", "first"), 409, "")
	w.now = w.now.Add(time.Minute)
	w.wants("another one, when the first one must have given up", w.post(id, "", "third"), 409, "")
	told := w.told()
	if len(told) != 2 || told[0].Result.Content != "first" || told[1].Result.Content != "first" {
		t.Errorf("told: %+v", told)
	}
	// Once the callback function has it, no copy is needed.
	if _, err := w.table.Change(t.Context(), id, job.ClaimDelivery(w.now, time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.wants("while it is told", w.post(id, "", "fourth"), 409, "")
	if n := len(w.outcomes.taken); n != 2 {
		t.Errorf("%d outcomes", n)
	}
}

// TestEnded is about results that come for jobs that ended in other ways.
func TestEnded(t *testing.T) {
	ctx := t.Context()
	must := func(_ job.Record, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, row := range map[string]struct {
		end  func(w *world, r job.Record)
		told int
	}{
		"replaced": {func(w *world, r job.Record) { must(w.table.Change(ctx, r.ID, job.Replace(w.now, "a later question"))) }, 0},
		"cancelled, and not told yet": {func(w *world, r job.Record) {
			must(w.table.Change(ctx, r.ID, job.Cancel(w.now, job.Result{Status: job.StatusError, Delivery: job.DeliveryRespond, Content: "x"}, "the call ended")))
		}, 1},
		"told in another call": {func(w *world, r job.Record) {
			must(w.table.Change(ctx, r.ID, job.Complete(w.now, job.Result{Status: job.StatusOK, Delivery: job.DeliveryRespond, Content: "x"})))
			claimed, err := w.table.Change(ctx, r.ID, job.ClaimDelivery(w.now, time.Minute))
			must(claimed, err)
			must(claimed, w.table.Settle(ctx, claimed, w.now, job.StateParked, ""))
			must(w.table.Change(ctx, r.ID, job.Unpark(w.now, "call-2", deadline)))
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			row.end(w, w.waiting(newJob(), job.Policy{}))
			w.now = w.now.Add(time.Minute)
			w.wants("a result", w.post("call-1/tool-1", "", "late"), 409, "")
			if n := len(w.outcomes.taken); n != row.told {
				t.Errorf("%d outcomes, want %d", n, row.told)
			}
		})
	}
}

// TestCancelFails is about a wake that stays: nobody has to know.
func TestCancelFails(t *testing.T) {
	w := newWorld(t)
	w.waiting(newJob(), job.Policy{})
	w.schedules.err = errors.New("throttled")
	w.wants("a result", w.post("call-1/tool-1", "", "x"), 200, "")
	if len(w.schedules.cancelled) != 1 {
		t.Error("it was not even tried")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.waiting(newJob(), job.Policy{})
		w.schedules.hang = true
		began := time.Now()
		w.wants("a result", w.post("call-1/tool-1", "", "x"), 200, "")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the sender waited %s", took)
		}
	})
}

// broken is a table that does not answer.
type broken struct{ completion.Table }

func (broken) Load(context.Context, string) (job.Record, error) {
	return job.Record{}, errors.New("read table jobs: timeout")
}

func (broken) Change(context.Context, string, job.Rule) (job.Record, error) {
	return job.Record{}, errors.New("read table jobs: timeout")
}

func TestTableFails(t *testing.T) {
	w := newWorld(t)
	h, err := completion.New(completion.Config{
		Keys: w.keys, Table: broken{}, Outcomes: &w.outcomes, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.handler = h
	w.wants("a result", w.post("call-1/tool-1", "", "x"), 503, "1")
	w.wants("progress", w.post("call-1/tool-1", "", `{"progress":"x"}`), 503, "1")
	if len(w.outcomes.taken) != 0 {
		t.Errorf("%d outcomes", len(w.outcomes.taken))
	}
}

// FuzzPost looks for bodies that are neither told nor refused, and for
// outcomes that the callback function could not read.
func FuzzPost(f *testing.F) {
	for _, body := range []string{
		"", "x", "{", `{"result":"x"}`, `{"result":{"a":[1,null]}}`, `{"error":"x"}`, `{"progress":"x","silent":true}`, `{"result":null}`,
		`{"result":"x","result":1}`, `{"progress":"\ud800"}`, "\ufeff{}", "\xff", `{"error":"\u0000"}`, `{"result":"\u200b"}`, "a\uffffb", `{"":0}`,
	} {
		f.Add("application/json", []byte(body), false)
		f.Add("text/plain", []byte(base64.StdEncoding.EncodeToString([]byte(body))), true)
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte, encoded bool) {
		w := newWorld(t)
		w.waiting(newJob(), job.Policy{})
		token := sign(t, w.keys, "call-1/tool-1", deadline)
		event := events.APIGatewayV2HTTPRequest{
			RouteKey: deployment.CompletionRoute, PathParameters: map[string]string{"token": token},
			Headers: map[string]string{"content-type": contentType}, Body: string(body), IsBase64Encoded: encoded,
		}
		event.RequestContext.HTTP.Method = http.MethodPost
		response, err := function.HTTP{Handler: deployment.Front(http.NotFoundHandler(), w.handler)}.Handle(t.Context(), event)
		if err != nil || !json.Valid([]byte(response.Body)) {
			t.Fatalf("%s, %v", response.Body, err)
		}
		told, record := w.told(), w.record("call-1/tool-1")
		switch response.StatusCode {
		case http.StatusOK:
			if len(told) != 1 || told[0].Kind != job.KindFinal || record.State != job.StateDone {
				t.Fatalf("a result, and the job is %s with %+v", record.State, told)
			}
		case http.StatusAccepted:
			if len(told) != 1 || told[0].Kind != job.KindProgress || record.State != job.StateWaiting {
				t.Fatalf("progress, and the job is %s with %+v", record.State, told)
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			if len(told) != 0 || record.State != job.StateWaiting || record.Progress != nil {
				t.Fatalf("refused, and the job is %s with %+v", record.State, told)
			}
			return
		default:
			t.Fatalf("status %d", response.StatusCode)
		}
		text, err := spoken.ParseText("")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := text.Message(told[0]); err != nil {
			t.Fatalf("%q cannot be told: %v", told[0].Result.Content, err)
		}
	})
}
