package faults_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/truora/minidyn/server"

	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
)

// lab runs the built functions as processes, outside of Lambda, and is all that
// they talk to: the Lambda runtime API, SQS, DynamoDB, EventBridge and its
// Scheduler, the control URLs, the service that the tools ask, and those who
// post to completion URLs.
type lab struct {
	*world
	t        *testing.T
	folder   string // of the built functions
	beat     time.Duration
	blows    map[string][]*blow
	database *server.Server
	outside  *httptest.Server // control URLs and the tools' service

	mu      sync.Mutex              // guards the database and what follows
	waiting map[string]string       // the messages of schedules, by their names
	running map[string]*environment // by function and job
	idle    map[string][]*environment
	started []*environment
}

// blow is what befalls a function at a step of a job, once.
type blow struct {
	function, op string
	after        bool           // the step took effect
	signal       syscall.Signal // 0: the step does not come back, until the function's time is up
	dealt        bool
	by           *environment
}

func (b *blow) String() string {
	when := "before"
	if b.after {
		when = "after"
	}
	if b.signal == 0 {
		return fmt.Sprintf("%s: deadline in %s", b.function, b.op)
	}
	return fmt.Sprintf("%s: %s %s %s", b.function, b.signal, when, b.op)
}

// environment is an execution environment of Lambda: a process, and the runtime
// API that it asks for work.
type environment struct {
	lab      *lab
	function string
	server   *httptest.Server
	work     chan invocationInput
	answers  chan []byte // nil where the function failed
	process  *exec.Cmd
	exited   chan struct{}
	inv      *invocation
	deadline time.Time // of the invocation
	log      *bytes.Buffer
}

type invocationInput struct {
	id       string
	event    []byte
	deadline time.Time
}

// The lab's time passes for real, in beats. A beat is a second, and longer on a
// busy machine, where everything takes longer: else timeouts end what is in
// order.
const (
	labToolTimeout     = 2 // beats, as all of these
	labAckTimeout      = 5
	labProcessTimeout  = labToolTimeout + 12 // what the process function keeps for itself
	labVisibility      = 4
	labLeaseMargin     = 2
	labOutcomeDelay    = 3
	labDeliveryLease   = 5
	labWebhookTries    = 5
	labCompletionTries = 8
	labResultReceives  = 30

	// labBackTimeout is no number of beats. The callback function must reach it
	// before it gives a mark up, for which it tries to write for as many seconds
	// on every machine. To reach it otherwise costs one more invocation.
	labBackTimeout = 12 * time.Second

	labBeyond = 50 * time.Millisecond

	labMemory = 4 << 20 // KiB of address space
)

// measureBeat returns the length of a beat. The timeouts leave room for work
// that takes several times as long as on a quiet machine: a beat grows when
// computing takes more than ten times as long.
func measureBeat(t *testing.T) time.Duration {
	const most = 10
	threads := runtime.GOMAXPROCS(0)
	began, used := time.Now(), processorTime(t)
	var spinning sync.WaitGroup
	for range threads {
		spinning.Go(func() {
			for time.Since(began) < time.Second {
			}
		})
	}
	spinning.Wait()
	wanted, got := time.Since(began)*time.Duration(threads), processorTime(t)-used
	slowness := float64(wanted) / float64(max(got, 1))
	return time.Duration(min(max(1, slowness/10), most) * float64(time.Second)).Round(time.Second)
}

// processorTime is what this process has used.
func processorTime(t *testing.T) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestProcessDeath kills the built functions while messages flow.
func TestProcessDeath(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the functions")
	}
	if runtime.GOOS != "linux" {
		t.Skip("what runs in Lambda is a Linux process, and so is its memory limit")
	}
	started := time.Now()
	l := newLab(t)
	receives := 6
	if *full {
		receives = 19
	}
	l.makeQueues(receives)
	l.scenario, l.blows = deaths()
	ctx, stop := context.WithCancel(context.Background())
	var running, posting sync.WaitGroup
	running.Go(func() { l.Jobs.Run(ctx, l.handler("process", labProcessTimeout*l.beat)) })
	running.Go(func() { l.Results.Run(ctx, l.handler("callback", labBackTimeout)) })
	slots := make(chan struct{}, 8)
	for _, hook := range l.scenario {
		posting.Go(func() {
			slots <- struct{}{}
			l.post(hook)
			<-slots
		})
	}
	posting.Wait()
	// Each receive of a message can take an invocation that dies, and the time
	// that the message is hidden afterwards.
	most := time.Duration(receives)*(labProcessTimeout+labVisibility)*l.beat + labResultReceives*(labBackTimeout+labVisibility*l.beat)
	l.settle(most)
	left := l.fireAll()
	l.settle(most)
	stop()
	running.Wait()
	l.stop()

	dealt, kills := 0, 0
	for id, blows := range l.blows {
		for _, b := range blows {
			if kills++; b.dealt {
				dealt++
			} else {
				t.Errorf("%s was never reached for %s", b, id)
			}
		}
	}
	starved := 0
	for _, e := range l.started {
		if strings.Contains(e.log.String(), "out of memory") {
			starved++
		}
	}
	if starved < 4 { // two jobs, two attempts each
		t.Errorf("%d processes ran out of memory", starved)
	}
	violations := append(l.violations(), l.differ()...)
	for _, v := range violations {
		t.Errorf("%.700s", v)
	}
	var repeats []string
	for id := range l.observed.mayRepeatTold {
		repeats = append(repeats, fmt.Sprintf("%s (%d times)", id, len(l.observed.told[id])))
	}
	slices.Sort(repeats)
	fmt.Printf("process death: %d jobs, %d of %d planned kills, %d processes, %d violations, %d schedules left to come in vain, %s with beats of %s; told again by the exception: %s\n",
		len(l.ids()), dealt, kills, len(l.started), len(violations), left, time.Since(started).Round(time.Second/10), l.beat, strings.Join(repeats, ", "))
}

// deaths are the calls of the test, and what befalls each of them.
func deaths() ([]webhook, map[string][]*blow) {
	var hooks []webhook
	blows := make(map[string][]*blow)
	add := func(call, tool, want string, answers []int, b ...*blow) {
		hooks = append(hooks, webhook{call: call, answers: answers, calls: []toolCall{{id: "x", tool: tool, arguments: arguments, want: want}}})
		blows[job.ID(call, "x")] = b
	}
	gone := []int{404}
	kill := func(function, op string, after bool, signal syscall.Signal) {
		b := &blow{function: function, op: op, after: after, signal: signal}
		name := strings.NewReplacer(": ", "-", " ", "-").Replace(b.String())
		switch op {
		case "announce", "save undelivered":
			add(name, "ask", "announced call_gone", gone, b)
		case "save waiting", "send wake":
			add(name, "resumes", "told ok", nil, b)
		case "schedule":
			add(name, "row", "told ok", nil, b)
		default:
			tool := "ask"
			if function == "ack" && op != "send job" && op != "respond" {
				tool = "left"
			}
			add(name, tool, "told ok", nil, b)
		}
	}
	for function, ops := range map[string][]string{
		"ack":      {"send job", "respond", "load", "save done", "send outcome", "cancel schedule"},
		"process":  {"save running", "tool", "save done", "send outcome", "respond", "save waiting", "send wake", "schedule"},
		"callback": {"load", "save done", "post", "save delivered", "announce", "save undelivered", "respond"},
	} {
		for _, op := range ops {
			kill(function, op, false, syscall.SIGKILL)
			kill(function, op, true, syscall.SIGKILL)
		}
	}
	kill("process", "tool", false, syscall.SIGTERM)
	kill("callback", "post", true, syscall.SIGTERM)
	kill("process", "save done", false, 0)
	kill("process", "send outcome", true, 0)
	kill("callback", "save delivered", false, 0)
	for i := range 2 {
		add(fmt.Sprintf("once-%d", i), "once", "told error, dead letter", nil, &blow{function: "process", op: "tool", after: i == 1, signal: syscall.SIGKILL})
		add(fmt.Sprintf("exits-%d", i), "exits", "told error, dead letter", nil)
		add(fmt.Sprintf("glutton-%d", i), "glutton", "told error, dead letter", nil)
		add(fmt.Sprintf("undisturbed-%d", i), "ask", "told ok", nil)
		add(fmt.Sprintf("undisturbed-and-gone-%d", i), "ask", "announced call_gone", gone)
	}
	// Twice in a row, where a job is put to wait, and where it is completed.
	for tool, second := range map[string]*blow{
		"resumes": {function: "process", op: "send wake", signal: syscall.SIGKILL},
		"row":     {function: "process", op: "schedule", signal: syscall.SIGKILL},
		"left":    {function: "ack", op: "send outcome", signal: syscall.SIGKILL},
	} {
		add("undisturbed-"+tool, tool, "told ok", nil)
		add("unlucky-"+tool, tool, "told ok", nil, &blow{function: "process", op: "save waiting", signal: syscall.SIGKILL}, second)
	}
	// The process dies twice, and so does the callback function.
	add("unlucky", "ask", "told ok", nil,
		&blow{function: "process", op: "tool", signal: syscall.SIGKILL}, &blow{function: "process", op: "save done", signal: syscall.SIGKILL},
		&blow{function: "callback", op: "save done", after: true, signal: syscall.SIGKILL}, &blow{function: "callback", op: "post", signal: syscall.SIGKILL})
	return hooks, blows
}

// differ says what came out otherwise than it must, whoever was killed.
func (l *lab) differ() []violation {
	var wrong []violation
	for _, h := range l.scenario {
		id := job.ID(h.call, h.calls[0].id)
		if got := l.outcome(id); got != h.calls[0].want {
			wrong = append(wrong, violation{"record", id, fmt.Sprintf("came to %q, want %q", got, h.calls[0].want)})
		}
	}
	return wrong
}

// newLab builds the functions, with the tools of testdata in the tools folder.
// But for the full runs, what is held by a dead process is held for a few beats
// only, so that the test does not have to wait for longer.
func newLab(t *testing.T) *lab {
	beat := measureBeat(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	replaced := map[string]string{filepath.Join(root, "tools/tools.go"): filepath.Join(root, "internal/faults/testdata/tools/tools.go")}
	change := func(name, old, replacement string) {
		path := filepath.Join(root, name)
		from := path
		if replaced[path] != "" {
			from = replaced[path]
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(source), old) != 1 {
			t.Fatalf("%s does not hold %q once", name, old)
		}
		replaced[path] = filepath.Join(folder, filepath.Base(name))
		if err := os.WriteFile(replaced[path], []byte(strings.Replace(string(source), old, replacement, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !*full {
		in := func(name string, beats time.Duration) string {
			return fmt.Sprintf("%s = %d * time.Second", name, int(beats*beat/time.Second))
		}
		change("internal/process/process.go", "leaseMargin = 15 * time.Second", in("leaseMargin", labLeaseMargin))
		change("internal/process/finish.go", "outcomeDelay = time.Minute", in("outcomeDelay", labOutcomeDelay))
		change("internal/callback/callback.go", "deliveryLease = 30 * time.Second", in("deliveryLease", labDeliveryLease))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(folder, "overlay.json"), "-tags", "lambda.norpc", "-ldflags", "-s -w",
		"-o", folder+string(filepath.Separator), "./functions/ack", "./functions/process", "./functions/callback")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	l := &lab{
		t: t, world: emptyWorld(), folder: folder, beat: beat, database: server.NewServer(),
		running: make(map[string]*environment), idle: make(map[string][]*environment), waiting: make(map[string]string),
	}
	l.attempts = map[string]int{"ask": 3, "once": 1, "exits": 2, "glutton": 2, "resumes": 3, "row": 3, "left": 3}
	l.records, l.poll = l.scan, 200*time.Millisecond
	l.ask("CreateTable", `{"TableName":"jobs","BillingMode":"PAY_PER_REQUEST","KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],
		"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"},{"AttributeName":"call","AttributeType":"S"},{"AttributeName":"created","AttributeType":"N"}],
		"GlobalSecondaryIndexes":[{"IndexName":"calls","KeySchema":[{"AttributeName":"call","KeyType":"HASH"},{"AttributeName":"created","KeyType":"RANGE"}],
			"Projection":{"ProjectionType":"INCLUDE","NonKeyAttributes":["state","tool","progress","wake","updated"]}}]}`)
	l.outside = httptest.NewServer(http.HandlerFunc(l.serveOutside))
	t.Cleanup(l.outside.Close)
	return l
}

func (l *lab) makeQueues(receives int) {
	var err error
	l.Queues, err = pipeline.NewQueues(queue.Limits{
		ProcessTimeout: labProcessTimeout * l.beat, JobsVisibility: labVisibility * l.beat, JobsMaxReceives: receives,
		CallbackTimeout: labBackTimeout, ResultVisibility: labVisibility * l.beat, ResultMaxReceives: labResultReceives,
	}, memqueue.Config{BatchSize: 1, Concurrency: 8, Log: l.log(setting{})})
	if err != nil {
		l.t.Fatal(err)
	}
}

// ask sends a request to the database.
func (l *lab) ask(operation, body string) []byte {
	request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	request.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	recorder := httptest.NewRecorder()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.database.ServeHTTP(recorder, request)
	if recorder.Code != http.StatusOK {
		l.t.Errorf("%s: %d %s", operation, recorder.Code, recorder.Body)
	}
	return recorder.Body.Bytes()
}

type item map[string]struct{ S, N string }

func (l *lab) scan() []job.Record {
	var out struct{ Items []item }
	if err := json.Unmarshal(l.ask("Scan", `{"TableName":"jobs"}`), &out); err != nil {
		l.t.Fatal(err)
	}
	var records []job.Record
	for _, i := range out.Items {
		if i["state"].S == "" {
			continue // the record of a call, which is kept in the same table
		}
		var r job.Record
		if err := json.Unmarshal([]byte(i["record"].S), &r); err != nil {
			l.t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

// handler gives a queue's events to a process of a function.
func (l *lab) handler(function string, timeout time.Duration) memqueue.Handler {
	return func(_ context.Context, event events.SQSEvent) (response events.SQSEventResponse, err error) {
		body, err := json.Marshal(event)
		if err != nil {
			return response, err
		}
		answer, err := l.invoke(function, jobIn(event.Records[0].Body), body, timeout)
		if err != nil {
			return response, err
		}
		return response, json.Unmarshal(answer, &response)
	}
}

// post posts a webhook to the ack function, again and again until it takes it.
func (l *lab) post(hook webhook) {
	request := events.APIGatewayV2HTTPRequest{Body: strings.Replace(hook.body(), `"controlUrl":"`, `"controlUrl":"`+l.outside.URL+`/control/`, 1)}
	request.RequestContext.HTTP.Method = http.MethodPost
	id := job.ID(hook.call, hook.calls[0].id)
	body, err := json.Marshal(request)
	if err != nil {
		l.t.Error(err)
		return
	}
	for try := range labWebhookTries {
		if try > 0 {
			l.world.mu.Lock()
			l.observed.repeated[id] = true
			l.world.mu.Unlock()
		}
		var response events.APIGatewayV2HTTPResponse
		answer, err := l.invoke("ack", id, body, labAckTimeout*l.beat)
		if err == nil && json.Unmarshal(answer, &response) == nil && response.StatusCode == http.StatusOK {
			l.world.mu.Lock()
			l.observed.accepted[id] = true
			l.world.mu.Unlock()
			return
		}
		time.Sleep(l.beat / 10)
	}
	l.t.Errorf("the webhook of %s was never taken", id)
}

// complete posts a job's result to its completion URL, again and again until
// there is an answer.
func (l *lab) complete(id, url string) {
	request := events.APIGatewayV2HTTPRequest{
		RouteKey: deployment.CompletionRoute, Body: result("from outside"), PathParameters: map[string]string{"token": strings.TrimPrefix(url, completionURL)},
	}
	request.RequestContext.HTTP.Method = http.MethodPost
	body, err := json.Marshal(request)
	if err != nil {
		l.t.Error(err)
		return
	}
	for range labCompletionTries {
		var response events.APIGatewayV2HTTPResponse
		answer, err := l.invoke("ack", id, body, labAckTimeout*l.beat)
		if err == nil && json.Unmarshal(answer, &response) == nil && response.StatusCode > 0 && response.StatusCode < 500 {
			l.world.mu.Lock()
			defer l.world.mu.Unlock()
			switch response.StatusCode {
			case http.StatusOK:
				l.observed.completed[id] = append(l.observed.completed[id], request.Body)
			case http.StatusConflict: // the answer before was lost
			default:
				l.t.Errorf("the result of %s was answered with %d: %s", id, response.StatusCode, response.Body)
			}
			return
		}
		time.Sleep(l.beat / 2)
	}
	l.t.Errorf("the result of %s was never taken", id)
}

var errFunction = errors.New("the function failed")

// invoke calls a function in an environment that is idle, or in a new one.
func (l *lab) invoke(function, id string, event []byte, timeout time.Duration) ([]byte, error) {
	e := l.take(function, id)
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.running[function+" "+id] == e {
			delete(l.running, function+" "+id)
		}
		select {
		case <-e.exited:
		default:
			l.idle[function] = append(l.idle[function], e)
		}
	}()

	deadline := time.Now().Add(timeout)
	e.deadline = deadline
	select {
	// The function is told that it has a little longer. So it never answers in
	// the moment in which its time is up.
	case e.work <- invocationInput{id: strconv.FormatInt(time.Now().UnixNano(), 10), event: event, deadline: deadline.Add(labBeyond)}:
	case <-e.exited: // killed after it had answered
		return nil, errDied
	}
	select {
	case answer := <-e.answers:
		if answer == nil {
			return nil, errFunction
		}
		return answer, nil
	case <-e.exited:
		e.inv.die()
		return nil, errDied
	case <-time.After(time.Until(deadline)):
		e.kill(syscall.SIGKILL)
		return nil, errors.New("the function's time was up")
	}
}

// take takes an environment for a job: one that is idle, or a new one.
func (l *lab) take(function, id string) *environment {
	l.mu.Lock()
	defer l.mu.Unlock()
	var e *environment
	for e == nil && len(l.idle[function]) > 0 {
		last := len(l.idle[function]) - 1
		e, l.idle[function] = l.idle[function][last], l.idle[function][:last]
		select {
		case <-e.exited:
			e = nil
		default:
		}
	}
	if e == nil {
		e = l.newEnvironment(function)
		l.started = append(l.started, e)
	}
	_, e.inv = l.begin(context.Background(), function)
	l.running[function+" "+id] = e
	return e
}

// newEnvironment starts a process. l.mu is held.
func (l *lab) newEnvironment(function string) *environment {
	e := &environment{
		lab: l, function: function, work: make(chan invocationInput), answers: make(chan []byte, 1), exited: make(chan struct{}), log: new(bytes.Buffer),
	}
	e.server = httptest.NewServer(e)
	e.process = exec.Command("sh", "-c", `ulimit -v "$1"; exec "$0"`, filepath.Join(l.folder, function), strconv.Itoa(labMemory))
	e.process.Env = []string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(e.server.URL, "http://"), "AWS_LAMBDA_FUNCTION_NAME=" + function,
		"AWS_ENDPOINT_URL=" + e.server.URL, "AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x",
		"JOBS_QUEUE_URL=" + e.server.URL + "/jobs", "RESULTS_QUEUE_URL=" + e.server.URL + "/results", "JOBS_TABLE=jobs", "EVENT_BUS_NAME=bus",
		"SCHEDULE_GROUP=group", "SCHEDULE_ROLE_ARN=arn:role", "JOBS_QUEUE_ARN=arn:jobs", "JOBS_DLQ_ARN=arn:dead",
		"COMPLETION_URL=" + completionURL, `COMPLETION_KEYS={"current":"0123456789abcdef0123456789abcdef"}`,
		`WEBHOOK_AUTH={"type":"none"}`, "ORDERS_API_URL=" + l.outside.URL + "/tool", "CONTROL_HOSTS=" + strings.TrimPrefix(l.outside.URL, "http://"),
		"LAB_TOOL_TIMEOUT=" + (labToolTimeout * l.beat).String(), "GOTRACEBACK=none", "GOMAXPROCS=1",
	}
	e.process.Stdout, e.process.Stderr = e.log, e.log
	if err := e.process.Start(); err != nil {
		l.t.Errorf("start %s: %v", function, err)
	}
	go func() {
		_ = e.process.Wait()
		close(e.exited)
		e.server.CloseClientConnections()
	}()
	return e
}

// kill ends the process, and comes back when it has ended. From the moment on
// that it is called, nothing that the process still does has an effect.
func (e *environment) kill(signal syscall.Signal) {
	e.inv.die()
	_ = e.process.Process.Signal(signal)
	<-e.exited
}

func (l *lab) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, environments := range l.idle {
		for _, e := range environments {
			_ = e.process.Process.Signal(syscall.SIGTERM)
			<-e.exited
			e.server.Close()
		}
	}
}

// step takes the blow that is planned for a step, if there is one. It gives
// false where the process has died, and its request has no answer. One whose
// time is up is as good as dead: on a busy machine it may be killed later.
func (e *environment) step(op, id string, effect func()) bool {
	if e.inv.isDead() || time.Now().After(e.deadline) {
		return false
	}
	b := e.lab.blow(e, op, id)
	if b != nil && !b.after {
		return e.take(b)
	}
	effect()
	return b == nil || e.take(b)
}

func (e *environment) take(b *blow) bool {
	if b.signal == 0 {
		e.inv.doubt()
		<-e.exited // by invoke, when the function's time is up
	} else {
		e.kill(b.signal)
	}
	return false
}

// blow finds what is planned. What does not come back does not come back when
// the client asks again, either.
func (l *lab) blow(e *environment, op, id string) *blow {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.blows[id] {
		if b.function == e.function && b.op == op && (!b.dealt || b.signal == 0 && b.by == e) {
			b.dealt, b.by = true, e
			return b
		}
	}
	return nil
}

// ServeHTTP is the runtime API, and AWS.
func (e *environment) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the process died while it sent
	}
	answered := true
	path, isRuntime := strings.CutPrefix(r.URL.Path, "/2018-06-01/runtime/invocation/")
	switch target := r.Header.Get("X-Amz-Target"); {
	case isRuntime && path == "next":
		e.next(w, r)
	case isRuntime && strings.HasSuffix(path, "/response"):
		answered = e.respond(w, body)
	case isRuntime && strings.HasSuffix(path, "/error"):
		e.answers <- nil
		w.WriteHeader(http.StatusAccepted)
	case target == "AmazonSQS.SendMessageBatch":
		answered = e.send(w, body)
	case target == "AmazonSQS.ChangeMessageVisibility":
		e.changeVisibility(w, body)
	case target == "AWSEvents.PutEvents":
		answered = e.putEvents(w, body)
	case strings.HasPrefix(r.URL.Path, "/schedules/"):
		answered = e.schedules(w, r, body)
	case strings.HasPrefix(target, "DynamoDB"):
		answered = e.table(w, r, body)
	case r.Method == http.MethodHead: // the ack function opens a connection
	default:
		e.lab.t.Errorf("%s asked for %s %s %s", e.function, r.Method, r.URL.Path, target)
		w.WriteHeader(http.StatusNotFound)
	}
	if !answered {
		panic(http.ErrAbortHandler)
	}
}

func (e *environment) next(w http.ResponseWriter, r *http.Request) {
	select {
	case in := <-e.work:
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", in.id)
		w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(in.deadline.UnixMilli(), 10))
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:000000000000:function:"+e.function)
		_, _ = w.Write(in.event)
	case <-r.Context().Done():
	case <-e.exited:
	}
}

// job is the job that the environment works on.
func (e *environment) job() string {
	e.lab.mu.Lock()
	defer e.lab.mu.Unlock()
	for key, other := range e.lab.running {
		if other == e {
			_, id, _ := strings.Cut(key, " ")
			return id
		}
	}
	return ""
}

func (e *environment) respond(w http.ResponseWriter, body []byte) bool {
	return e.step("respond", e.job(), func() {
		e.answers <- body
		w.WriteHeader(http.StatusAccepted)
	})
}

func (e *environment) queue(url string) *memqueue.Queue {
	if strings.HasSuffix(url, "/jobs") {
		return e.lab.Jobs
	}
	return e.lab.Results
}

func (e *environment) send(w http.ResponseWriter, body []byte) bool {
	var in struct {
		QueueURL string `json:"QueueUrl"`
		Entries  []struct {
			ID, MessageBody, MessageGroupID string
			DelaySeconds                    int
		}
	}
	if err := json.Unmarshal(body, &in); err != nil || len(in.Entries) != 1 {
		e.lab.t.Errorf("SendMessageBatch: %v, %d entries", err, len(in.Entries))
		return false
	}
	m := in.Entries[0]
	op := "send outcome"
	if e.queue(in.QueueURL) == e.lab.Jobs {
		op = map[string]string{"ack": "send job", "process": "send wake"}[e.function]
	}
	return e.step(op, jobIn(m.MessageBody), func() {
		message := queue.Message{Body: m.MessageBody, Group: m.MessageGroupID, Delay: time.Duration(m.DelaySeconds) * time.Second}
		if err := e.queue(in.QueueURL).Send(context.Background(), []queue.Message{message})[0]; err != nil {
			e.lab.t.Error(err)
		}
		answer(w, `{"Successful":[{"Id":%q,"MessageId":"m","MD5OfMessageBody":%q}],"Failed":[]}`, m.ID, md5Hex(m.MessageBody))
	})
}

// schedules is EventBridge Scheduler's API. What is to come in a few minutes
// comes at once; what is to come later waits.
func (e *environment) schedules(w http.ResponseWriter, r *http.Request, body []byte) bool {
	l, name := e.lab, strings.TrimPrefix(r.URL.Path, "/schedules/")
	if r.Method == http.MethodDelete {
		return e.step("cancel schedule", e.job(), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.waiting, name)
			answer(w, `{}`)
		})
	}
	var in struct {
		ScheduleExpression string
		Target             struct{ Input string }
	}
	err := json.Unmarshal(body, &in)
	at, atErr := time.Parse("at(2006-01-02T15:04:05)", in.ScheduleExpression)
	if err := errors.Join(err, atErr); err != nil {
		l.t.Errorf("CreateSchedule: %v: %s", err, body)
		return false
	}
	return e.step("schedule", jobIn(in.Target.Input), func() {
		l.mu.Lock()
		_, there := l.waiting[name]
		l.waiting[name] = in.Target.Input
		l.mu.Unlock()
		switch {
		case there:
			w.Header().Set("X-Amzn-ErrorType", "ConflictException")
			w.WriteHeader(http.StatusConflict)
		case time.Until(at) < 5*time.Minute:
			l.beyond(func() {
				time.Sleep(l.beat / 2)
				l.fire(name)
			})
		}
		answer(w, `{"ScheduleArn":"arn:schedule"}`)
	})
}

// fire sends a schedule's message, and forgets the schedule.
func (l *lab) fire(name string) {
	l.mu.Lock()
	message, there := l.waiting[name]
	delete(l.waiting, name)
	l.mu.Unlock()
	if !there {
		return
	}
	if err := l.Jobs.Send(context.Background(), []queue.Message{{Body: message}})[0]; err != nil {
		l.t.Error(err)
	}
}

// fireAll has the time pass that schedules wait for, and says how many there
// were.
func (l *lab) fireAll() int {
	l.mu.Lock()
	names := slices.Collect(maps.Keys(l.waiting))
	l.mu.Unlock()
	for _, name := range names {
		l.fire(name)
	}
	return len(names)
}

func (e *environment) changeVisibility(w http.ResponseWriter, body []byte) {
	var in struct {
		QueueURL          string `json:"QueueUrl"`
		ReceiptHandle     string
		VisibilityTimeout int
	}
	err := json.Unmarshal(body, &in)
	if err == nil && !e.inv.isDead() {
		err = e.queue(in.QueueURL).ChangeVisibility(context.Background(), in.ReceiptHandle, time.Duration(in.VisibilityTimeout)*time.Second)
	}
	if err != nil {
		w.Header().Set("X-Amzn-Query-Error", "ReceiptHandleIsInvalid;Sender")
		w.WriteHeader(http.StatusBadRequest)
	}
	answer(w, `{}`)
}

func (e *environment) putEvents(w http.ResponseWriter, body []byte) bool {
	var in struct{ Entries []struct{ Detail string } }
	var u job.Undelivered
	if err := json.Unmarshal(body, &in); err != nil || len(in.Entries) != 1 || json.Unmarshal([]byte(in.Entries[0].Detail), &u) != nil {
		e.lab.t.Errorf("PutEvents: %v %s", err, body)
		return false
	}
	return e.step("announce", u.JobID, func() {
		e.lab.world.mu.Lock()
		defer e.lab.world.mu.Unlock()
		e.lab.observed.announced[u.JobID] = append(e.lab.observed.announced[u.JobID], u)
		e.inv.unmarkedAnnounced[u.JobID] = true
		answer(w, `{"FailedEntryCount":0,"Entries":[{"EventId":"e"}]}`)
	})
}

func (e *environment) table(w http.ResponseWriter, r *http.Request, body []byte) bool {
	var in struct{ Item, Key item }
	if err := json.Unmarshal(body, &in); err != nil {
		e.lab.t.Errorf("DynamoDB: %v", err)
		return false
	}
	op, id, state := "load", in.Key["id"].S, job.State(in.Item["state"].S)
	if in.Item != nil {
		op, id = saveOp(state), in.Item["id"].S
	}
	if call, ok := strings.CutPrefix(id, "call:"); ok {
		op, id = "a call's record", call
	}
	if id == "" {
		op, id = "query", e.job()
	}
	return e.step(op, id, func() {
		r.Body = io.NopCloser(bytes.NewReader(body))
		recorder := httptest.NewRecorder()
		e.lab.mu.Lock()
		e.lab.database.ServeHTTP(recorder, r)
		e.lab.mu.Unlock()
		if recorder.Code == http.StatusOK && in.Item != nil {
			e.lab.marked(e.inv, id, state)
		}
		for name, values := range recorder.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	})
}

// serveOutside is what lies outside of AWS: the calls, and the tools' service.
func (l *lab) serveOutside(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	call, tool := strings.CutPrefix(r.URL.Path, "/tool/")
	function, op, id := "process", "tool", call
	if !tool {
		call = strings.TrimPrefix(r.URL.Path, "/control/")
		function, op, id = "callback", "post", job.ID(call, "x")
	}
	l.mu.Lock()
	e := l.running[function+" "+id]
	l.mu.Unlock()
	if e == nil {
		return // its process has been killed
	}
	answered := e.step(op, id, func() {
		l.world.mu.Lock()
		defer l.world.mu.Unlock()
		if tool {
			ctx, ended := context.WithCancel(context.Background())
			ended()
			resumes, err := strconv.Atoi(r.URL.Query().Get("resumes"))
			if err != nil {
				l.t.Errorf("a tool asked for %s", r.URL)
			}
			l.observed.starts[id] = append(l.observed.starts[id], start{ctx, resumes})
			if url := r.URL.Query().Get("url"); url != "" && l.urls[id] == "" {
				l.urls[id] = url
				l.world.outside++
				go func() {
					time.Sleep(l.beat) // the job waits by then, as a rule
					l.complete(id, url)
					l.world.mu.Lock()
					defer l.world.mu.Unlock()
					l.world.outside--
				}()
			}
			return
		}
		status := http.StatusOK
		if hook := l.webhook(call); len(hook.answers) > 0 {
			status = hook.answers[0]
			l.observed.gone[call] = status == http.StatusNotFound
		} else {
			l.hear(e, id, body)
		}
		w.WriteHeader(status)
	})
	if !answered {
		panic(http.ErrAbortHandler)
	}
}

// hear notes what a call was told. l.world.mu is held.
func (l *lab) hear(e *environment, id string, body []byte) {
	m, err := vapi.ParseControlMessage(body)
	if err != nil {
		l.t.Errorf("a control message: %v", err)
	}
	l.observed.told[id] = append(l.observed.told[id], part{message: m, with: []string{id}})
	l.observed.toldAt[id] = time.Now()
	e.inv.unmarkedTold[id] = true
}

func answer(w http.ResponseWriter, format string, a ...any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	_, _ = fmt.Fprintf(w, format, a...)
}

func md5Hex(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
