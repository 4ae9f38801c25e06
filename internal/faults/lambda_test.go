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

// lab runs the built functions as processes, outside Lambda. It is everything that they
// use: the Lambda runtime API, SQS, DynamoDB, EventBridge and its Scheduler, the
// control URLs, and the service that the tools use, which also posts to completion
// URLs.
type lab struct {
	*world
	t           *testing.T
	folder      string // of the built functions
	beat        time.Duration
	disruptions map[string][]*disruption
	database    *server.Server
	services    *httptest.Server // the control URLs and the tools' service

	mu      sync.Mutex              // guards the database and what follows
	waiting map[string]string       // the messages of schedules, by their names
	running map[string]*environment // by function and job
	idle    map[string][]*environment
	started []*environment
}

// disruption is something that happens to a function at a step of a job, once.
type disruption struct {
	function, op string
	after        bool           // after the step took effect
	signal       syscall.Signal // 0 means that the step hangs until the function's time is up
	done         bool
	by           *environment
}

func (d *disruption) String() string {
	when := "before"
	if d.after {
		when = "after"
	}
	if d.signal == 0 {
		return fmt.Sprintf("%s: deadline in %s", d.function, d.op)
	}
	return fmt.Sprintf("%s: %s %s %s", d.function, d.signal, when, d.op)
}

// environment is an execution environment of Lambda: a process, and the runtime API
// from which it gets its work.
type environment struct {
	lab      *lab
	function string
	server   *httptest.Server
	work     chan invocationInput
	answers  chan []byte // nil means that the function failed
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

// The lab runs in real time, which is counted in beats. A beat is a second, or longer
// on a busy machine, where everything takes longer. Otherwise timeouts would end what
// is in order.
const (
	labToolTimeout     = 2 // beats, as all of these
	labAckTimeout      = 5
	labProcessTimeout  = labToolTimeout + 12 // what the process function keeps for itself
	labVisibility      = 4
	labLeaseMargin     = 2
	labOutcomeDelay    = 3
	labWebhookTries    = 5
	labCompletionTries = 8
	labResultReceives  = 30

	// labBackTimeout is not counted in beats. It is also the lease of a delivery, as in
	// a deployment: what is done under the lease has shares of it.
	labBackTimeout = 12 * time.Second

	labBeyond = 50 * time.Millisecond

	labMemory = 4 << 20 // KiB of address space
)

// measureBeat returns the length of a beat. The timeouts allow work to take several
// times as long as on a quiet machine. A beat grows if computing takes more than ten
// times as long.
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

// processorTime returns the CPU time of this process.
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
		t.Skip("Lambda runs Linux processes, and limits their memory as Linux does")
	}
	t.Parallel()
	started := time.Now()
	l := newLab(t)
	receives := 6
	if *full {
		receives = 19
	}
	l.makeQueues(receives)
	l.scenario, l.disruptions = deaths()
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
	// Each receive of a message can take an invocation that dies, and the time that
	// the message is hidden afterwards.
	most := time.Duration(receives)*(labProcessTimeout+labVisibility)*l.beat +
		labResultReceives*(labBackTimeout+labVisibility*l.beat)
	l.settle(most)
	left := l.fireAll()
	l.settle(most)
	stop()
	running.Wait()
	l.stop()

	done, kills := 0, 0
	for id, disruptions := range l.disruptions {
		for _, d := range disruptions {
			if kills++; d.done {
				done++
			} else {
				t.Errorf("%s was never reached for %s", d, id)
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
	violations := append(l.violations(), l.unexpectedEndings()...)
	for _, v := range violations {
		t.Errorf("%.700s", v)
	}
	var repeats []string
	for id, n := range l.observed.mayRepeatDelivery {
		name, _ := names.Load(id)
		repeats = append(repeats, fmt.Sprintf("%v (%d times, %d excused)", name, len(l.observed.delivered[id]), n))
	}
	slices.Sort(repeats)
	fmt.Printf("process death: %d jobs, %d of %d planned kills, %d processes, %d violations, "+
		"%d schedules without an effect, %s with beats of %s; delivered again by the exception: %s\n",
		len(l.ids()), done, kills, len(l.started), len(violations),
		left, time.Since(started).Round(time.Second/10), l.beat, strings.Join(repeats, ", "))
}

// deaths returns the calls of the test, and what happens to each of them.
func deaths() ([]webhook, map[string][]*disruption) {
	var hooks []webhook
	disruptions := make(map[string][]*disruption)
	add := func(call, tool, want string, answers []int, d ...*disruption) {
		hook := webhook{call: call, answers: answers, calls: one("x", tool, want)}
		hooks = append(hooks, hook)
		disruptions[hook.first()] = d
	}
	killed := func(function, op string) *disruption {
		return &disruption{function: function, op: op, signal: syscall.SIGKILL}
	}
	killedAfter := func(function, op string) *disruption {
		return &disruption{function: function, op: op, after: true, signal: syscall.SIGKILL}
	}
	gone := []int{404}
	disrupt := func(d *disruption) {
		name := strings.NewReplacer(": ", "-", " ", "-").Replace(d.String())
		switch d.op {
		case "publish", "save undelivered":
			add(name, "ask", "published call_gone", gone, d)
		case "save waiting", "send wake-up":
			add(name, "resumes", "delivered ok", nil, d)
		case "schedule":
			add(name, "row", "delivered ok", nil, d)
		case "cancel schedule":
			add(name, "left", "delivered ok", nil, d)
		default:
			tool := "ask"
			if d.function == "ack" && d.op != "send job" && d.op != "respond" {
				tool = "left"
			}
			var before []*disruption
			if d.function == "callback" && d.op == "load" { // a first receive has the record
				before = append(before, killed("callback", "save done"))
			}
			add(name, tool, "delivered ok", nil, append(before, d)...)
		}
	}
	for function, ops := range map[string][]string{
		"ack": {"send job", "respond", "load", "send check", "save done", "send outcome"},
		"process": {"save running", "tool", "save done", "send outcome", "respond", "save waiting", "send wake-up",
			"schedule", "cancel schedule"},
		"callback": {"load", "save done", "post", "save delivered", "publish", "save undelivered", "respond"},
	} {
		for _, op := range ops {
			disrupt(killed(function, op))
			disrupt(killedAfter(function, op))
		}
	}
	disrupt(&disruption{function: "process", op: "tool", signal: syscall.SIGTERM})
	disrupt(&disruption{function: "callback", op: "post", after: true, signal: syscall.SIGTERM})
	disrupt(&disruption{function: "process", op: "save done"})
	disrupt(&disruption{function: "process", op: "send outcome", after: true})
	disrupt(&disruption{function: "callback", op: "save delivered"})
	add("once-0", "once", "delivered error, dead letter", nil, killed("process", "tool"))
	add("once-1", "once", "delivered error, dead letter", nil, killedAfter("process", "tool"))
	for i := range 2 {
		add(fmt.Sprintf("exits-%d", i), "exits", "delivered error, dead letter", nil)
		add(fmt.Sprintf("glutton-%d", i), "glutton", "delivered error, dead letter", nil)
		add(fmt.Sprintf("undisturbed-%d", i), "ask", "delivered ok", nil)
		add(fmt.Sprintf("undisturbed-and-gone-%d", i), "ask", "published call_gone", gone)
	}
	// Twice in a row: when a job is suspended, and when it is completed.
	for tool, second := range map[string]*disruption{
		"resumes": killed("process", "send wake-up"),
		"row":     killed("process", "schedule"),
		"left":    killed("ack", "send outcome"),
	} {
		add("undisturbed-"+tool, tool, "delivered ok", nil)
		add("unlucky-"+tool, tool, "delivered ok", nil, killed("process", "save waiting"), second)
	}
	// Both functions die twice.
	add("unlucky", "ask", "delivered ok", nil, killed("process", "tool"), killed("process", "save done"),
		killedAfter("callback", "save done"), killed("callback", "post"))
	return hooks, disruptions
}

// unexpectedEndings returns the jobs that ended in another way than planned. The kills
// change no ending.
func (l *lab) unexpectedEndings() []violation {
	var wrong []violation
	for _, h := range l.scenario {
		id := h.first()
		if got := l.outcome(id); got != h.calls[0].want {
			wrong = append(wrong, violation{"record", id, fmt.Sprintf("ended with %q, want %q", got, h.calls[0].want)})
		}
	}
	return wrong
}

// newLab builds the functions with the tools of testdata. Except in the full runs, their
// leases are a few beats, so that the test need not wait longer for those of dead
// processes.
func newLab(t *testing.T) *lab {
	beat := measureBeat(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	replaced := map[string]string{}
	users, err := filepath.Glob(filepath.Join(root, "tools", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range users {
		replaced[file] = "" // as if it were not there
	}
	replaced[filepath.Join(root, "tools/tools.go")] = filepath.Join(root, "internal/faults/testdata/tools/tools.go")
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
			t.Fatalf("%s does not contain %q once", name, old)
		}
		replaced[path] = filepath.Join(folder, strings.ReplaceAll(name, "/", "-"))
		changed := strings.Replace(string(source), old, replacement, 1)
		if err := os.WriteFile(replaced[path], []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !*full {
		in := func(name string, beats time.Duration) string {
			return fmt.Sprintf("%s = %d * time.Second", name, int(beats*beat/time.Second))
		}
		change("internal/process/lease.go", "leaseMargin = 15 * time.Second", in("leaseMargin", labLeaseMargin))
		change("internal/process/finish.go", "outcomeDelay = time.Minute", in("outcomeDelay", labOutcomeDelay))
	}
	change("internal/callback/lease.go", "deliveryLease = time.Minute",
		fmt.Sprintf("deliveryLease = %d * time.Second", labBackTimeout/time.Second))
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(folder, "overlay.json"),
		"-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", folder+string(filepath.Separator),
		"./functions/ack", "./functions/process", "./functions/callback")
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
	l.ask("CreateTable", `{
		"TableName": "jobs", "BillingMode": "PAY_PER_REQUEST",
		"KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
		"AttributeDefinitions": [
			{"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "call", "AttributeType": "S"},
			{"AttributeName": "created", "AttributeType": "N"}, {"AttributeName": "shard", "AttributeType": "N"},
			{"AttributeName": "first", "AttributeType": "S"}
		],
		"GlobalSecondaryIndexes": [{
			"IndexName": "calls",
			"KeySchema": [
				{"AttributeName": "call", "KeyType": "HASH"}, {"AttributeName": "created", "KeyType": "RANGE"}
			],
			"Projection": {
				"ProjectionType": "INCLUDE", "NonKeyAttributes": ["state", "tool", "progress", "wake", "updated"]
			}
		}, {
			"IndexName": "recent", "Projection": {"ProjectionType": "KEYS_ONLY"},
			"KeySchema": [{"AttributeName": "shard", "KeyType": "HASH"}, {"AttributeName": "first", "KeyType": "RANGE"}]
		}]
	}`)
	l.services = httptest.NewServer(http.HandlerFunc(l.serveServices))
	t.Cleanup(l.services.Close)
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
			continue // the record of a call, which is in the same table
		}
		var r job.Record
		if err := json.Unmarshal([]byte(i["record"].S), &r); err != nil {
			l.t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

// handler passes a queue's events to a process of a function.
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

// post posts a webhook to the ack function, again and again until it is accepted.
func (l *lab) post(hook webhook) {
	controlURL := `"controlUrl":"` + l.services.URL + `/control/`
	request := events.APIGatewayV2HTTPRequest{Body: strings.Replace(hook.body(), `"controlUrl":"`, controlURL, 1)}
	request.RequestContext.HTTP.Method = http.MethodPost
	id := hook.first()
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
	l.t.Errorf("the webhook of %s was never accepted", id)
}

// complete posts a job's result to its completion URL, again and again until there is
// an answer.
func (l *lab) complete(id, url string) {
	request := events.APIGatewayV2HTTPRequest{
		RouteKey: deployment.CompletionRoute, Body: result("by an external system"),
		PathParameters: map[string]string{"token": strings.TrimPrefix(url, completionURL)},
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
		if err == nil && json.Unmarshal(answer, &response) == nil &&
			response.StatusCode > 0 && response.StatusCode < 500 {
			l.world.mu.Lock()
			defer l.world.mu.Unlock()
			switch response.StatusCode {
			case http.StatusOK:
				l.observed.completed[id] = append(l.observed.completed[id], request.Body)
			case http.StatusConflict: // an earlier answer was lost
			default:
				l.t.Errorf("the result of %s was answered with %d: %s", id, response.StatusCode, response.Body)
			}
			return
		}
		time.Sleep(l.beat / 2)
	}
	l.t.Errorf("the result of %s was never accepted", id)
}

var errFunction = errors.New("the function failed")

// invoke calls a function in an idle environment, or in a new one.
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
	// The function gets a slightly later deadline, so that it never responds at the
	// moment when its time is up.
	in := invocationInput{
		id: strconv.FormatInt(time.Now().UnixNano(), 10), event: event, deadline: deadline.Add(labBeyond),
	}
	select {
	case e.work <- in:
	case <-e.exited: // killed after it had responded
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

// take returns an environment for a job: an idle one, or a new one.
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
		lab: l, function: function, log: new(bytes.Buffer),
		work: make(chan invocationInput), answers: make(chan []byte, 1), exited: make(chan struct{}),
	}
	e.server = httptest.NewServer(e)
	e.process = exec.Command("sh", "-c", `ulimit -v "$1"; exec "$0"`,
		filepath.Join(l.folder, function), strconv.Itoa(labMemory))
	e.process.Env = []string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(e.server.URL, "http://"),
		"AWS_LAMBDA_FUNCTION_NAME=" + function,
		"AWS_ENDPOINT_URL=" + e.server.URL, "AWS_REGION=eu-central-1",
		"AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x",
		"JOBS_QUEUE_URL=" + e.server.URL + "/jobs", "RESULTS_QUEUE_URL=" + e.server.URL + "/results",
		"JOBS_TABLE=jobs", "EVENT_BUS_NAME=bus",
		"SCHEDULE_GROUP=group", "SCHEDULE_ROLE_ARN=arn:role", "JOBS_QUEUE_ARN=arn:jobs", "JOBS_DLQ_ARN=arn:dead",
		"COMPLETION_URL=" + completionURL, `COMPLETION_KEYS={"current":"0123456789abcdef0123456789abcdef"}`,
		`WEBHOOK_AUTH={"type":"none"}`,
		"ORDERS_API_URL=" + l.services.URL + "/tool",
		"CONTROL_HOSTS=" + strings.TrimPrefix(l.services.URL, "http://"),
		"LAB_TOOL_TIMEOUT=" + (labToolTimeout * l.beat).String(),
		"GOTRACEBACK=none", "GOMAXPROCS=1",
	}
	e.process.Stdout, e.process.Stderr = e.log, e.log
	if err := e.process.Start(); err != nil {
		l.t.Errorf("cannot start %s: %v", function, err)
	}
	go func() {
		_ = e.process.Wait()
		close(e.exited)
		e.server.CloseClientConnections()
	}()
	return e
}

// kill ends the process, and returns when it has ended. From the start of kill, nothing
// that the process does has an effect.
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

// step performs a step, and the disruption that is planned for it. It returns false if
// the process has died: its request gets no answer. A process whose time is up counts
// as dead, since a busy machine may kill it later.
func (e *environment) step(op, id string, effect func()) bool {
	if e.inv.isDead() || time.Now().After(e.deadline) {
		return false
	}
	d := e.lab.disruption(e, op, id)
	if d != nil && !d.after {
		return e.disrupt(d)
	}
	effect()
	return d == nil || e.disrupt(d)
}

func (e *environment) disrupt(d *disruption) bool {
	if d.signal == 0 {
		e.inv.doubt()
		<-e.exited // by invoke, when the function's time is up
	} else {
		e.kill(d.signal)
	}
	return false
}

// disruption returns the disruption that is planned for a step, nil if there is none. A
// step that hangs also hangs when the client tries again.
func (l *lab) disruption(e *environment, op, id string) *disruption {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.disruptions[id] {
		if d.function == e.function && d.op == op && (!d.done || d.signal == 0 && d.by == e) {
			d.done, d.by = true, e
			return d
		}
	}
	return nil
}

// ServeHTTP serves the runtime API and AWS.
func (e *environment) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the process died while it sent the body
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
	case target == "AmazonSQS.ChangeMessageVisibilityBatch":
		e.changeVisibilities(w, body)
	case target == "AWSEvents.PutEvents":
		answered = e.putEvents(w, body)
	case strings.HasPrefix(r.URL.Path, "/schedules/"):
		answered = e.schedules(w, r, body)
	case strings.HasPrefix(target, "DynamoDB"):
		answered = e.table(w, r, body)
	case r.Method == http.MethodGet: // the ack function opens a connection
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

// job returns the job that the environment works on.
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
		op = map[string]string{"ack": "send job", "process": "send wake-up"}[e.function]
		if strings.Contains(m.MessageBody, `"kind":"check"`) {
			op, m.DelaySeconds = "send check", min(m.DelaySeconds, 3) // to keep waits short
		}
	}
	return e.step(op, jobIn(m.MessageBody), func() {
		message := queue.Message{
			Body: m.MessageBody, Group: m.MessageGroupID, Delay: time.Duration(m.DelaySeconds) * time.Second,
		}
		if err := e.queue(in.QueueURL).Send(context.Background(), []queue.Message{message})[0]; err != nil {
			e.lab.t.Error(err)
		}
		answer(w, `{"Successful":[{"Id":%q,"MessageId":"m","MD5OfMessageBody":%q}],"Failed":[]}`, m.ID, md5Hex(m.MessageBody))
	})
}

// schedules serves the API of EventBridge Scheduler. Messages for the next few minutes
// are sent at once, and later ones wait.
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

// fire sends a schedule's message and deletes the schedule.
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

// fireAll sends the messages of all schedules, and returns how many there were.
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
		timeout := time.Duration(in.VisibilityTimeout) * time.Second
		err = e.queue(in.QueueURL).ChangeVisibility(context.Background(), in.ReceiptHandle, timeout)
	}
	if err != nil {
		w.Header().Set("X-Amzn-Query-Error", "ReceiptHandleIsInvalid;Sender")
		w.WriteHeader(http.StatusBadRequest)
	}
	answer(w, `{}`)
}

func (e *environment) changeVisibilities(w http.ResponseWriter, body []byte) {
	var in struct {
		QueueURL string `json:"QueueUrl"`
		Entries  []struct {
			ID                string `json:"Id"`
			ReceiptHandle     string
			VisibilityTimeout int
		}
	}
	type entry struct {
		ID          string `json:"Id"`
		Code        string `json:",omitempty"`
		SenderFault bool   `json:",omitempty"`
	}
	out := struct{ Successful, Failed []entry }{}
	if err := json.Unmarshal(body, &in); err != nil {
		e.lab.t.Error(err)
	}
	for _, one := range in.Entries {
		timeout := time.Duration(one.VisibilityTimeout) * time.Second
		if !e.inv.isDead() && e.queue(in.QueueURL).ChangeVisibility(context.Background(), one.ReceiptHandle, timeout) != nil {
			out.Failed = append(out.Failed, entry{one.ID, "ReceiptHandleIsInvalid", true})
			continue
		}
		out.Successful = append(out.Successful, entry{ID: one.ID})
	}
	text, _ := json.Marshal(out) // it always encodes
	answer(w, "%s", text)
}

func (e *environment) putEvents(w http.ResponseWriter, body []byte) bool {
	var in struct{ Entries []struct{ Detail string } }
	var u job.Undelivered
	err := json.Unmarshal(body, &in)
	if err != nil || len(in.Entries) != 1 || json.Unmarshal([]byte(in.Entries[0].Detail), &u) != nil {
		e.lab.t.Errorf("PutEvents: %v %s", err, body)
		return false
	}
	return e.step("publish", u.JobID, func() {
		e.lab.world.mu.Lock()
		defer e.lab.world.mu.Unlock()
		e.lab.observed.published[u.JobID] = append(e.lab.observed.published[u.JobID], u)
		e.inv.unmarkedEvents[u.JobID] = true
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
			e.lab.marked(e.inv, id, state, false, false)
		}
		for name, values := range recorder.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	})
}

// serveServices serves what is outside AWS: the control URLs and the tools' service.
func (l *lab) serveServices(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	call, tool := strings.CutPrefix(r.URL.Path, "/tool/")
	function, op := "process", "tool"
	if !tool {
		call = strings.TrimPrefix(r.URL.Path, "/control/")
		function, op = "callback", "post"
	}
	id := l.webhook(strings.TrimSuffix(call, "/x")).first()
	l.mu.Lock()
	e := l.running[function+" "+id]
	l.mu.Unlock()
	if e == nil {
		return // the process has been killed
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
				l.world.external++
				go func() {
					time.Sleep(l.beat) // until then, the job usually waits
					l.complete(id, url)
					l.world.mu.Lock()
					defer l.world.mu.Unlock()
					l.world.external--
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

// hear records what was delivered to a call. l.world.mu is held.
func (l *lab) hear(e *environment, id string, body []byte) {
	m, err := vapi.ParseControlMessage(body)
	if err != nil {
		l.t.Errorf("a control message: %v", err)
	}
	l.observed.delivered[id] = append(l.observed.delivered[id], part{message: m, with: []string{id}})
	l.observed.deliveredAt[id] = time.Now()
	e.inv.unmarkedDeliveries[id] = true
}

func answer(w http.ResponseWriter, format string, a ...any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	_, _ = fmt.Fprintf(w, format, a...)
}

func md5Hex(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
