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
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/spoken"
)

const (
	id      = "call-1/tool-1" // of newJob
	content = "planted-content"
)

// world is a handler on a real table, and its surroundings.
type world struct {
	t     testing.TB
	now   time.Time
	table *jobtable.Table
	keys  *completion.Keys

	outcomes, jobs recorder
	handler        *completion.Handler
}

// recorder is a queue that can fail.
type recorder struct {
	memqueue.Recorder
	err    error  // of every message
	hang   bool   // until the context ends
	before func() // is called before a message is sent; may be nil
}

func (r *recorder) Send(ctx context.Context, messages []queue.Message) []error {
	if r.before != nil {
		r.before()
	}
	if r.hang {
		<-ctx.Done()
	}
	if r.err != nil {
		return slices.Repeat([]error{r.err}, len(messages))
	}
	return r.Recorder.Send(ctx, messages)
}

// newWorld returns a world. When the test ends, it searches the log for planted values.
func newWorld(t testing.TB, changes ...func(*completion.Config)) *world {
	t.Helper()
	w := &world{t: t, now: now, table: jobtable.New(new(memtable.Store)), keys: completion.NewKeys(stored(keyA), nil)}
	var logged lockedBuffer
	cfg := completion.Config{
		Keys: w.keys, Table: w.table, Outcomes: &w.outcomes, Jobs: &w.jobs,
		Now: func() time.Time { return w.now }, Log: slog.New(slog.NewJSONHandler(&logged, nil)),
	}
	for _, change := range changes {
		change(&cfg)
	}
	var err error
	if w.handler, err = completion.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Contents, numbers and control URLs have "planted"; each part of a token begins with "eyJ".
		for _, planted := range []string{"planted", "eyJ"} {
			if text := logged.String(); strings.Contains(text, planted) {
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
		ID: id, ToolCallID: "tool-1", Tool: "approve_refund", Arguments: json.RawMessage(`{"amount":"planted-argument"}`),
		Call: job.Call{
			ID: "call-1", Type: "inboundPhoneCall", CustomerNumber: "planted-number",
			ControlURL: "https://example.com/planted-control",
		},
		// The call ends long before the job's deadline.
		ReceivedAt: now, CallEnds: now.Add(10 * time.Minute),
	}
}

func ok(content string) job.Result {
	return job.Result{Status: job.StatusOK, Delivery: policy.DeliveryRespond, Content: content}
}

func failure(content string) job.Result {
	return job.Result{Status: job.StatusError, Delivery: policy.DeliveryRespond, Content: content}
}

// must returns the result of a change of the table, which must not fail.
func (w *world) must(r job.Record, err error) job.Record {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) claimed(j job.Job, p job.Policy) job.Record {
	w.t.Helper()
	return w.must(w.table.Claim(w.t.Context(), job.NewRecord(j, p, deadline, "message", w.now, time.Minute)))
}

// running adds a running job that has a completion URL to the table.
func (w *world) running(j job.Job, p job.Policy) job.Record {
	w.t.Helper()
	return w.must(w.table.ChangeClaimed(w.t.Context(), w.claimed(j, p), job.StoreJob(j)))
}

// waiting adds a job that waits for an external system to the table.
func (w *world) waiting(j job.Job, p job.Policy) job.Record {
	w.t.Helper()
	r := w.running(j, p)
	return w.must(w.table.ChangeClaimed(w.t.Context(), r, job.Suspend(w.now, j, time.Time{}, true, nil)))
}

// numbered returns a job of its own for each number.
func numbered(n int) job.Job {
	j := newJob()
	j.ToolCallID = fmt.Sprint("tool-", n)
	j.ID = job.EarlierID(j.Call.ID, j.ToolCallID)
	return j
}

func (w *world) record(id string) job.Record {
	w.t.Helper()
	return w.must(w.table.Load(w.t.Context(), id))
}

// sent returns the outcomes that were sent since it was last called.
func (w *world) sent() []job.Outcome {
	w.t.Helper()
	var outcomes []job.Outcome
	for _, m := range w.outcomes.Take() {
		o, err := job.DecodeOutcome(m.Body)
		if err != nil {
			w.t.Fatal(err)
		}
		if m.Group != queue.Group(o.Call.ID) {
			w.t.Errorf("a message of the group %q", m.Group)
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

// checks returns how many checks of the job were sent since it was last called.
func (w *world) checks() int {
	w.t.Helper()
	sent := w.jobs.Take()
	want := queue.Message{
		Body: `{"version":1,"kind":"check","jobId":"` + id + `"}`, Group: "call-1", Delay: 30 * time.Second,
	}
	for _, m := range sent {
		if m != want {
			w.t.Errorf("the message %+v, want %+v", m, want)
		}
	}
	return len(sent)
}

// request returns a post to the URL of a token, which can be empty.
func request(token, contentType, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/results/"+url.PathEscape(token), strings.NewReader(body))
	r.SetPathValue("token", token)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// answer is an answer of the handler.
type answer struct {
	status     int
	retryAfter string
	text       string // of the member status, or error
}

func (w *world) serve(r *http.Request) answer {
	w.t.Helper()
	response := httptest.NewRecorder()
	w.handler.ServeHTTP(response, r)
	var body struct{ Status, Error string }
	failed := response.Code >= 300
	if json.Unmarshal(response.Body.Bytes(), &body) != nil ||
		response.Header().Get("Content-Type") != "application/json" ||
		(body.Status == "") != failed || (body.Error == "") == failed {
		w.t.Errorf("the answer with status %d says %s", response.Code, response.Body)
	}
	if strings.Contains(response.Body.String(), "planted") {
		w.t.Errorf("the answer has what it should not: %s", response.Body)
	}
	return answer{response.Code, response.Header().Get("Retry-After"), body.Status + body.Error}
}

func (w *world) post(id, contentType, body string) answer {
	w.t.Helper()
	return w.serve(request(sign(w.t, w.keys, id, deadline), contentType, body))
}

// expect posts a body to the URL of newJob, and expects an answer.
func (w *world) expect(body string, status int, retryAfter string) {
	w.t.Helper()
	if a := w.post(id, "", body); a.status != status || a.retryAfter != retryAfter {
		w.t.Errorf("%.80s: status %d with Retry-After %q (%s), want %d with %q",
			body, a.status, a.retryAfter, a.text, status, retryAfter)
	}
}

// expectSent checks what was sent. A result that is not too long comes with the record of its job.
func (w *world) expectSent(want ...job.Outcome) {
	w.t.Helper()
	sent := w.sent()
	if diff := cmp.Diff(want, sent, cmpopts.IgnoreFields(job.Outcome{}, "Saved")); diff != "" {
		w.t.Errorf("sent (-want +got):\n%s", diff)
	}
	for _, o := range sent {
		short := o.Kind == job.KindFinal && len(o.Result.Content) < 1<<10
		if r, ok := o.Record(); ok != short || ok && !cmp.Equal(r, w.record(o.JobID)) {
			w.t.Errorf("sent the record %+v, want %+v", r, w.record(o.JobID))
		}
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	w := newWorld(t)
	for name, cfg := range map[string]completion.Config{
		"nothing":     {},
		"no keys":     {Table: w.table, Outcomes: &w.outcomes},
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
	silent := failure("x")
	silent.Delivery = policy.DeliverySilent
	for name, row := range map[string]struct {
		contentType, body string
		want              job.Result
		policy            job.Policy
	}{
		"text":                {contentType: text, body: "It is approved.", want: ok("It is approved.")},
		"untyped text":        {body: " It is\napproved. ", want: ok("It is\napproved.")},
		"text like JSON":      {contentType: text, body: `{"result": it is`, want: ok(`{"result": it is`)},
		"JSON string as text": {contentType: text, body: `"approved"`, want: ok(`"approved"`)},
		"string": {
			contentType: object, body: `{"result":"It is \"approved\"."}`, want: ok(`It is "approved".`),
		},
		"object": {
			contentType: object, body: "{\"result\": {\"b\": [1, 2.50],\n \"a\": \"<x>\"}}",
			want: ok(`{"b":[1,2.50],"a":"<x>"}`),
		},
		"number": {contentType: object, body: `{"result":12345678901234567890}`, want: ok("12345678901234567890")},
		"false":  {contentType: object, body: `{"result":false}`, want: ok("false")},
		"nulls":  {contentType: object, body: `{"result":"x","error":null,"progress":null,"silent":null}`, want: ok("x")},
		"error":  {contentType: object, body: `{"error":"The manager said no."}`, want: failure("The manager said no.")},
		"never word for word": {
			contentType: object, body: `{"result":"x"}`, policy: job.Policy{Delivery: policy.DeliverySay}, want: ok("x"),
		},
		"error's delivery": {
			contentType: object, body: `{"error":"x"}`, policy: job.Policy{Delivery: policy.DeliverySilent}, want: silent,
		},
		"after the call": {
			contentType: text, body: "x", policy: job.Policy{AfterCall: policy.AfterCallOutboundCall}, want: ok("x"),
		},
		"untyped JSON":          {body: ` {"result":"x"}`, want: ok("x")},
		"JSON with curl's type": {contentType: "application/x-www-form-urlencoded", body: `{"result":"x"}`, want: ok("x")},
		"a custom JSON type":    {contentType: "application/vnd.example.v1+json", body: `{"result":"x"}`, want: ok("x")},
		"byte order mark":       {contentType: object, body: "\ufeff" + `{"result":"x"}`, want: ok("x")},
		"too long":              {contentType: text, body: long, want: ok(spoken.Cut(long))},
		"what SQS refuses":      {contentType: text, body: "a\x00\x1b\uffff", want: ok("a\x00\x1b\uffff")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			j := newJob()
			w.waiting(j, row.policy)
			if a := w.post(id, row.contentType, row.body); a.status != http.StatusOK {
				t.Errorf("answered with %+v", a)
			}
			w.expectSent(job.Outcome{
				Version: 1, JobID: j.ID, ToolCallID: j.ToolCallID, Tool: j.Tool, Call: j.Call, Kind: job.KindFinal,
				Result: row.want, Deadline: deadline, AfterCall: row.policy.AfterCall,
			})
			if got := w.record(id); got.State != job.StateDone || !cmp.Equal(got.Result, &row.want) {
				t.Errorf("the record is %s with %+v", got.State, got.Result)
			}
			if n := w.checks(); n != 1 {
				t.Errorf("%d checks", n)
			}
		})
	}
}

// TestResultMayBeAnswer tests that the outcome of a quick tool waits while the answer to its webhook may hold
// the result.
func TestResultMayBeAnswer(t *testing.T) {
	for _, wait := range []time.Duration{5 * time.Second, 0} {
		w := newWorld(t)
		j := newJob()
		j.AnswerUntil = w.now.Add(wait)
		w.waiting(j, job.Policy{})
		w.post(id, "text/plain", "It is approved.")
		if sent := w.outcomes.Take(); len(sent) != 1 || sent[0].Delay != wait {
			t.Errorf("sent %+v, want one with a delay of %s", sent, wait)
		}
	}
}

func TestUnusableBodies(t *testing.T) {
	const object, text = "application/json", "text/plain"
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
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
		"a typo":               {object, `{"resutl":"` + content + `"}`, "a member other than"},
		"a typo beside it":     {object, `{"progress":"x","slient":true}`, "a member other than"},
		"in another case":      {object, `{"Result":"x"}`, "a member other than"},
		"a planted member":     {object, `{"result":"x","planted-member":1}`, "a member other than"},
		"twice":                {object, `{"result":"x","result":"y"}`, "one member twice"},
		"twice, once null":     {object, `{"result":null,"result":"y"}`, "one member twice"},
		"no JSON":              {object, content, "not a JSON object"},
		"empty JSON":           {object, "", "not a JSON object"},
		"cut JSON":             {object, `{"result":"` + content, "not a JSON object"},
		"two objects":          {object, `{"result":"x"}{"result":"y"}`, "not a JSON object"},
		"a JSON string":        {object, `"` + content + `"`, "not a JSON object"},
		"a JSON list":          {object, `[{"result":"x"}]`, "not a JSON object"},
		"nested too deeply":    {object, `{"result":` + deep + `}`, "not a JSON object"},
		"a form":               {"application/x-www-form-urlencoded", "result=" + content, "Content-Type"},
		"a page":               {"text/html", "<h1>" + content + "</h1>", "Content-Type"},
		"a broken type":        {"text/plain; charset", content, "Content-Type"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.waiting(newJob(), job.Policy{})
			a := w.post(id, row.contentType, row.body)
			if a.status != http.StatusBadRequest || !strings.Contains(a.text, row.says) {
				t.Errorf("the answer is %+v, want 400 with %q", a, row.says)
			}
			// The sender can correct it.
			w.expect("x", http.StatusOK, "")
		})
	}
}

func TestSize(t *testing.T) {
	for over, status := range []int{http.StatusOK, http.StatusRequestEntityTooLarge} {
		body := `{"result":"` + strings.Repeat("x", completion.MaxBody+over-len(`{"result":""}`)) + `"}`
		if len(body) != 256<<10+over {
			t.Fatalf("the test's body has %d bytes", len(body))
		}
		w := newWorld(t)
		w.waiting(newJob(), job.Policy{})
		w.expect(body, status, "")
		if n := len(w.sent()); n != 1-over {
			t.Errorf("%d outcomes", n)
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.waiting(newJob(), job.Policy{})
	good := sign(t, w.keys, id, deadline)
	unknown := sign(t, w.keys, "call-1/tool-2", deadline)
	others := completion.NewKeys(stored(keyB), nil)
	post := func(token string) *http.Request { return request(token, "text/plain", content) }
	with := func(change func(*http.Request)) *http.Request {
		r := post(good)
		change(r)
		return r
	}
	broken := func(err error) *http.Request {
		return with(func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(err)) })
	}
	for name, row := range map[string]struct {
		request *http.Request
		want    int
	}{
		"GET":                 {with(func(r *http.Request) { r.Method = "GET" }), 405},
		"no method":           {with(func(r *http.Request) { r.Method = "" }), 405},
		"broken base64":       {broken(base64.CorruptInputError(1)), 400},
		"a broken connection": {broken(io.ErrUnexpectedEOF), 400},
		"no token":            {post(""), 401},
		"token in the query": {with(func(r *http.Request) {
			r.SetPathValue("token", "")
			r.URL.RawQuery = "token=" + good
		}), 401},
		"wrong token":                   {post(good[:len(good)-1] + "A"), 401},
		"another key":                   {post(sign(t, others, id, deadline)), 401},
		"another key, and no job":       {post(sign(t, others, "no/job", deadline)), 401},
		"wrong token, and a large body": {request("x", "text/plain", strings.Repeat("x", 300<<10)), 401},
		"expired token":                 {post(sign(t, w.keys, id, now.Add(-time.Second))), 410},
		"unknown job":                   {post(unknown), 404},
		"progress of an unknown job":    {request(unknown, "", `{"progress":"x"}`), 404},
	} {
		if a := w.serve(row.request); a.status != row.want || a.retryAfter != "" {
			t.Errorf("%s: %+v, want %d", name, a, row.want)
		}
	}
	w.expectSent()
	if state := w.record(id).State; state != job.StateWaiting {
		t.Errorf("the job is %s", state)
	}

	w.expect(content, 200, "")
	w.expect(content, 409, "")
	w.expect(`{"progress":"x"}`, 409, "")
	if n := w.checks(); n != 1 {
		t.Errorf("%d checks", n)
	}
}

// TestWithdrawn covers a job that its assistant cancelled: the sender learns that nothing waits for its result.
func TestWithdrawn(t *testing.T) {
	w := newWorld(t)
	w.waiting(newJob(), job.Policy{Cancellable: true})
	if _, err := w.table.Change(t.Context(), id, job.Withdraw(w.now, "cancelled")); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{content, `{"progress":"x"}`} {
		a := w.post(id, "", body)
		if a.status != 409 || !strings.Contains(a.text, "the job was cancelled or replaced") {
			t.Errorf("%s: %+v", body, a)
		}
	}
	w.expectSent()
	if r := w.record(id); r.State != job.StateCancelled || r.Progress != nil {
		t.Errorf("the record is %+v", r)
	}
}

// TestNoURL covers a job that was claimed, and whose tool never asked for a completion URL.
func TestNoURL(t *testing.T) {
	w := newWorld(t)
	w.claimed(newJob(), job.Policy{})
	w.expect("x", 410, "")
	w.expect(`{"progress":"x"}`, 410, "")
	w.expectSent()
	if n := w.checks(); n != 0 {
		t.Errorf("%d checks of a job that cannot be completed", n)
	}
}

// TestRunning covers a job whose tool is still running when the external result arrives: the tool's own result is
// dropped.
func TestRunning(t *testing.T) {
	w := newWorld(t)
	r := w.running(newJob(), job.Policy{})
	w.expect("external", 200, "")
	_, err := w.table.ChangeClaimed(t.Context(), r, job.Finish(w.now, ok("own"), false, ""))
	if !errors.Is(err, job.ErrFinished) {
		t.Errorf("the tool's own result: %v", err)
	}
	if got := w.record(id).Result.Content; got != "external" {
		t.Errorf("the result is %q", got)
	}
}

func TestRotatedKeys(t *testing.T) {
	for name, row := range map[string]struct {
		signer   []string
		verifier *source
		want     int
	}{
		"rotated since it was signed": {[]string{keyA}, stored(keyB, keyA), 200},
		"rotated since it was read":   {[]string{keyB, keyA}, &source{old: keysOf(keyA), new: keysOf(keyB, keyA)}, 200},
		"rotated twice":               {[]string{keyA}, stored(keyC, keyB), 401},
		"unreadable keys":             {[]string{keyA}, &source{err: errors.New("access denied")}, 503},
		"short keys":                  {[]string{keyA}, &source{old: keysOf("planted")}, 503},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(cfg *completion.Config) { cfg.Keys = completion.NewKeys(row.verifier, nil) })
			w.waiting(newJob(), job.Policy{})
			w.keys = completion.NewKeys(stored(row.signer...), nil)
			w.expect("x", row.want, map[int]string{503: "1"}[row.want])
		})
	}
}

func TestProgress(t *testing.T) {
	w := newWorld(t)
	j := newJob()
	// The delivery of the tool's results is none of progress.
	w.waiting(j, job.Policy{Delivery: policy.DeliverySay, ExternalProgress: policy.DeliveryRespond})
	for _, row := range []struct {
		after      time.Duration
		body       string
		status     int
		retryAfter string
	}{
		{0, `{"progress":" The manager has it. "}`, 202, ""},
		{0, `{"progress":"x"}`, 429, "5"},
		{1500 * time.Millisecond, `{"progress":"x"}`, 429, "4"},
		{3499 * time.Millisecond, `{"progress":"x"}`, 429, "1"},
		{time.Millisecond, `{"progress":"She looks at it.","silent":true}`, 202, ""},
		{job.ProgressPause, `{"progress":"She thinks.","silent":false}`, 202, ""},
	} {
		w.now = w.now.Add(row.after)
		w.expect(row.body, row.status, row.retryAfter)
	}
	w.expectSent(
		progressOf(j, 1, "The manager has it.", true),
		progressOf(j, 2, "She looks at it.", false),
		progressOf(j, 3, "She thinks.", true),
	)
	r := w.record(id)
	if r.State != job.StateWaiting || r.Progress.Text != "She thinks." || w.checks() != 0 {
		t.Errorf("the job is %s with %+v, and is checked", r.State, r.Progress)
	}

	w.now = w.now.Add(job.ProgressPause)
	w.outcomes.err = errors.New("down")
	w.expect(`{"progress":"x"}`, 503, "1")
}

// progressOf returns the message of an external system's progress line. It never asks for the exact words.
func progressOf(j job.Job, sequence int, text string, respond bool) job.Outcome {
	return job.Outcome{
		Version: 1, JobID: j.ID, ToolCallID: j.ToolCallID, Tool: j.Tool, Call: j.Call, Deadline: deadline,
		Kind: job.KindProgress, Sequence: sequence, Respond: respond,
		Result: job.Result{Status: job.StatusOK, Delivery: policy.DeliverySilent, Content: text},
	}
}

// TestProgressIsSilent posts progress to jobs whose tools do not allow more, and to one of the version before.
func TestProgressIsSilent(t *testing.T) {
	for name, p := range map[string]job.Policy{
		"of the version before": {Delivery: policy.DeliverySay},
		"silent":                {ExternalProgress: policy.DeliverySilent},
		"of a later version":    {ExternalProgress: policy.DeliverySay},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			j := newJob()
			w.waiting(j, p)
			w.expect(`{"progress":"half","silent":false}`, 202, "")
			w.expectSent(progressOf(j, 1, "half", false))
		})
	}
}

// TestManyLines posts more progress than a job accepts. The status is none that HTTP clients repeat by themselves, nor
// that of a job which has ended: its result is still accepted.
func TestManyLines(t *testing.T) {
	w := newWorld(t)
	w.waiting(newJob(), job.Policy{})
	for range job.MaxExternalLines {
		w.expect(`{"progress":"x"}`, 202, "")
		w.now = w.now.Add(job.ProgressPause)
	}
	last := w.record(id).Progress
	for range 3 {
		w.expect(`{"progress":"one more"}`, 403, "")
		w.expect(`{"progress":"one more","silent":true}`, 403, "")
		w.now = w.now.Add(10 * time.Minute)
	}
	if n := len(w.sent()); n != job.MaxExternalLines {
		t.Errorf("%d lines were sent", n)
	}
	if got := w.record(id).Progress; !cmp.Equal(got, last) {
		t.Errorf("the last line is %+v, want %+v", got, last)
	}
	if a := w.post(id, "application/json", `{"progress":"x"}`); !strings.Contains(a.text, "no more progress") {
		t.Errorf("the answer is %+v", a)
	}
	w.expect(`{"result":"done"}`, 200, "")
	w.expect(`{"progress":"x"}`, 409, "")
}

func TestProgressOfAChat(t *testing.T) {
	w := newWorld(t)
	j := newJob()
	j.Call = job.Call{ID: "call-1", Type: "chat"}
	w.waiting(j, job.Policy{})
	w.expect(`{"progress":"half"}`, 202, "")
	w.expectSent()
	if r := w.record(id); r.Progress == nil || r.Progress.Text != "half" {
		t.Errorf("stored %+v", r.Progress)
	}
}

// TestFive posts five results at the same time: one of them is accepted.
func TestFive(t *testing.T) {
	w := newWorld(t)
	for round := range 50 {
		j := numbered(round)
		w.waiting(j, job.Policy{})
		token := sign(t, w.keys, j.ID, deadline)
		answers := make([]answer, 5)
		start := make(chan struct{})
		var posting sync.WaitGroup
		for i := range answers {
			posting.Go(func() {
				<-start
				answers[i] = w.serve(request(token, "", fmt.Sprint("result ", i)))
			})
		}
		close(start)
		posting.Wait()
		accepted := slices.IndexFunc(answers, func(a answer) bool { return a.status == http.StatusOK })
		for i, a := range answers {
			if a.status != http.StatusConflict && i != accepted {
				t.Fatalf("answers %+v, want one 200 and four 409", answers)
			}
		}
		sent := w.sent()
		if accepted < 0 || len(sent) == 0 {
			t.Fatalf("answers %+v; sent %+v", answers, sent)
		}
		for _, o := range sent {
			if o.Result.Content != fmt.Sprint("result ", accepted) || !cmp.Equal(o, sent[0]) {
				t.Fatalf("result %d was accepted, and %q sent", accepted, o.Result.Content)
			}
		}
	}
}

// TestDeadline posts a result around the deadline.
func TestDeadline(t *testing.T) {
	for name, row := range map[string]struct {
		at   time.Time
		want int
	}{
		"before": {deadline.Add(-1), 200},
		"at":     {deadline, 200},
		"after":  {deadline.Add(1), 410}, // by the record
		"later":  {deadline.Add(time.Second), 410},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.waiting(newJob(), job.Policy{})
			w.now = row.at
			w.expect("x", row.want, "")
			if n := len(w.sent()); (n == 1) != (row.want == 200) {
				t.Errorf("%d outcomes", n)
			}
		})
	}
}

// TestDeadlineRace posts a result at the moment when the job's wake-up ends it.
func TestDeadlineRace(t *testing.T) {
	posted, wokenUp := 0, 0
	w := newWorld(t)
	for round := range 200 {
		w.now = now
		j := numbered(round)
		w.waiting(j, job.Policy{})
		token := sign(t, w.keys, j.ID, deadline)
		w.now = deadline
		var a answer
		gaveUp := false
		start := make(chan struct{})
		var both sync.WaitGroup
		both.Go(func() {
			<-start
			a = w.serve(request(token, "", "posted"))
		})
		both.Go(func() {
			<-start
			r, err := w.table.Change(t.Context(), j.ID, job.Claim(w.now, "wake-up", time.Minute))
			if err == nil {
				_, err = w.table.ChangeClaimed(t.Context(), r, job.Finish(w.now, failure("given up"), false, ""))
			}
			if gaveUp = err == nil; err != nil && !errors.Is(err, job.ErrFinished) {
				t.Errorf("the wake-up: %v", err)
			}
		})
		close(start)
		both.Wait()
		result := w.record(j.ID).Result.Content
		switch {
		case a.status == 200 && !gaveUp && result == "posted":
			posted++
		case a.status == 409 && gaveUp && result == "given up":
			wokenUp++
		default:
			t.Fatalf("status %d, given up: %t, the result: %q", a.status, gaveUp, result)
		}
		for _, o := range w.sent() {
			if o.Result.Content != result {
				t.Fatalf("sent %q instead of %q", o.Result.Content, result)
			}
		}
	}
	t.Logf("the result was faster %d times, the wake-up %d times", posted, wokenUp)
}

// TestNotSent covers a result that was stored and could not be sent.
func TestNotSent(t *testing.T) {
	w := newWorld(t)
	w.waiting(newJob(), job.Policy{})
	w.outcomes.err = errors.New("down")
	w.expect("first", 503, "1")
	w.expect("first", 503, "1")
	if n := w.checks(); n != 1 {
		t.Errorf("%d checks to save the result", n)
	}
	w.outcomes.err = nil
	// Other senders can post at the same moment. That is no reason for copies.
	w.expect("second", 409, "")
	w.expectSent()
	w.expect("first", 409, "")
	w.now = w.now.Add(time.Minute) // the function of the first sender must have ended
	w.expect("third", 409, "")
	if sent := w.sent(); len(sent) != 2 || sent[0].Result.Content != "first" || sent[1].Result.Content != "first" {
		t.Errorf("sent: %+v", sent)
	}
	// Once the callback function delivers it, no copy is needed.
	w.must(w.table.Change(t.Context(), id, job.ClaimDelivery(w.now, time.Minute)))
	w.expect("fourth", 409, "")
	w.expectSent()
}

// TestEnded posts results of jobs that ended in other ways.
func TestEnded(t *testing.T) {
	for name, row := range map[string]struct {
		end  func(w *world, change func(job.Rule) job.Record)
		sent int
	}{
		"replaced": {func(w *world, change func(job.Rule) job.Record) { change(job.Replace(w.now, "a later question")) }, 0},
		"cancelled, and not delivered yet": {func(w *world, change func(job.Rule) job.Record) {
			change(job.Cancel(w.now, failure("x"), "the call ended"))
		}, 1},
		"delivered in another call": {func(w *world, change func(job.Rule) job.Record) {
			change(job.Complete(w.now, ok("x")))
			claimed := change(job.ClaimDelivery(w.now, time.Minute))
			w.must(claimed, w.table.Settle(t.Context(), claimed, w.now, job.StateParked, ""))
			change(job.Unpark(w.now, "call-2", deadline))
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.waiting(newJob(), job.Policy{})
			row.end(w, func(rule job.Rule) job.Record { return w.must(w.table.Change(t.Context(), id, rule)) })
			w.now = w.now.Add(time.Minute)
			w.expect("late", 409, "")
			if n := len(w.sent()); n != row.sent {
				t.Errorf("%d outcomes, want %d", n, row.sent)
			}
		})
	}
}

// TestChecks covers the check that makes sure that a stored result is sent: it comes before the result is stored, and
// only then. The sender does not see that it fails.
func TestChecks(t *testing.T) {
	w := newWorld(t)
	w.waiting(newJob(), job.Policy{})
	w.jobs.before = func() {
		if state := w.record(id).State; state != job.StateWaiting {
			t.Errorf("the check is sent when the job is %s", state)
		}
	}
	w.expect("x", 200, "")
	if n := w.checks(); n != 1 {
		t.Errorf("%d checks", n)
	}
	w.expect("x", 409, "")
	if n := w.checks(); n != 0 {
		t.Errorf("%d checks of a job that has ended", n)
	}

	w = newWorld(t)
	w.waiting(newJob(), job.Policy{})
	w.jobs.err = errors.New("throttled")
	w.expect("x", 200, "")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.waiting(newJob(), job.Policy{})
		w.jobs.hang = true
		began := time.Now()
		w.expect("x", 200, "")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the sender waited %s", took)
		}
	})
}

// down is a table that cannot be reached.
type down struct{}

func (down) Load(context.Context, string) (job.Record, error) {
	return job.Record{}, errors.New("read table jobs: timeout")
}

func (down) Change(context.Context, string, job.Rule) (job.Record, error) {
	return job.Record{}, errors.New("read table jobs: timeout")
}

func TestTableFails(t *testing.T) {
	w := newWorld(t, func(cfg *completion.Config) { cfg.Table = down{} })
	w.expect("x", 503, "1")
	w.expect(`{"progress":"x"}`, 503, "1")
	w.expectSent()
}

// FuzzPost looks for bodies that are neither accepted nor refused, and for outcomes that the callback function could
// not deliver.
func FuzzPost(f *testing.F) {
	for _, body := range []string{
		"", "x", "{", `{"result":"x"}`, `{"result":{"a":[1,null]}}`, `{"error":"x"}`, `{"progress":"x","silent":true}`,
		`{"result":null}`, `{"result":"x","result":1}`, `{"progress":"\ud800"}`, "\ufeff{}", "\xff", `{"error":"\u0000"}`,
		`{"result":"\u200b"}`, "a\uffffb", `{"":0}`,
	} {
		f.Add("application/json", []byte(body), false)
		f.Add("text/plain", []byte(base64.StdEncoding.EncodeToString([]byte(body))), true)
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte, encoded bool) {
		w := newWorld(t)
		w.waiting(newJob(), job.Policy{})
		token := sign(t, w.keys, id, deadline)
		event := events.APIGatewayV2HTTPRequest{
			RouteKey: deployment.CompletionRoute, PathParameters: map[string]string{"token": token},
			Headers: map[string]string{"content-type": contentType}, Body: string(body), IsBase64Encoded: encoded,
		}
		event.RequestContext.HTTP.Method = http.MethodPost
		front := deployment.Front(http.NotFoundHandler(), w.handler)
		response, err := functiontest.Serve(t.Context(), front, event)
		if err != nil || !json.Valid([]byte(response.Body)) {
			t.Fatalf("%s, %v", response.Body, err)
		}
		sent, record := w.sent(), w.record(id)
		switch response.StatusCode {
		case http.StatusOK:
			if len(sent) != 1 || sent[0].Kind != job.KindFinal || record.State != job.StateDone {
				t.Fatalf("a result, and the job is %s with %+v", record.State, sent)
			}
		case http.StatusAccepted:
			if len(sent) != 1 || sent[0].Kind != job.KindProgress || record.State != job.StateWaiting {
				t.Fatalf("progress, and the job is %s with %+v", record.State, sent)
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			if len(sent) != 0 || record.State != job.StateWaiting || record.Progress != nil {
				t.Fatalf("refused, and the job is %s with %+v", record.State, sent)
			}
			return
		default:
			t.Fatalf("status %d", response.StatusCode)
		}
		text, err := spoken.ParseText("")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := text.Message(sent[0]); err != nil {
			t.Fatalf("%q cannot be delivered: %v", sent[0].Result.Content, err)
		}
	})
}

// TestFloodLogsSamples posts to made-up completion URLs. The log gets a sample, and still every other refusal.
func TestFloodLogsSamples(t *testing.T) {
	var logged bytes.Buffer
	w := newWorld(t, func(cfg *completion.Config) { cfg.Log = slog.New(slog.NewJSONHandler(&logged, nil)) })
	for range 300 {
		w.serve(request("made.up.token", "", `{"result":"planted"}`))
	}
	w.post(id, "", `{"result":"planted"}`) // there is no such job
	var got []string
	for line := range strings.Lines(logged.String()) {
		var l struct {
			Msg           string
			Status, Count int
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s: %d, %d", l.Msg, l.Status, l.Count))
	}
	want := []string{
		"completion refused: 401, 1", "completion refused: 401, 10", "completion refused: 401, 100",
		"completion refused: 404, 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
