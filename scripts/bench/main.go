// Command bench measures the built functions on this machine: the start, the first call, later calls, the CPU of
// a call, and the size. It compares each function with an empty one, and the front function also with a bare and an
// ordinary one. They take turns, because a machine is never quite quiet. make bench runs it.
//
// The functions run as processes behind a Lambda runtime API on the loopback interface. AWS, the shop's orders and
// the control URLs are there, too, and answer after a millisecond.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/vapi/vapiauth"
)

func main() {
	log.SetFlags(0)
	debug.SetGCPercent(1000) // the collector of this process takes CPU from the functions
	starts := flag.Int("starts", 60, "starts of each function")
	calls := flag.Int("calls", 600, "later calls of each function")
	file := flag.String("json", "", "write the ratios to this `file`")
	earlier := flag.String("before", "", "name the ratios that are worse than those in this `file`")
	beside := flag.String("beside", "", "compare with the functions of another version, which are in this `folder`, "+
		"as make build ARCH=x86_64 builds them, and not with an empty one")
	flag.Parse()
	if *starts < 1 || *calls < block {
		log.Fatalf("-starts is at least 1, and -calls at least %d", block)
	}
	if err := run(*starts, *calls, *file, *earlier, *beside); err != nil {
		log.Fatal(err)
	}
}

func run(starts, calls int, file, earlier, beside string) error {
	b, err := newBench(beside)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.build("./scripts/bench/empty", "./scripts/bench/bare", "./scripts/bench/ordinary", "./functions/ack",
		"./functions/process", "./functions/callback"); err != nil {
		return err
	}
	ratios, err := b.tables(starts, calls)
	if err != nil {
		return err
	}
	if file != "" {
		text, err := json.MarshalIndent(ratios, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	if earlier != "" {
		return compare(earlier, ratios)
	}
	return nil
}

// compare returns an error that names the ratios that are worse than those in a file, by more than their
// intervals.
func compare(file string, ratios map[string]ratio) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var earlier map[string]ratio
	if err := json.Unmarshal(text, &earlier); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var worse []string
	for _, name := range slices.Sorted(maps.Keys(ratios)) {
		now, then := ratios[name], earlier[name]
		worst := then.High
		if then.Low == then.High {
			worst *= 1.01 // a size has no interval, and each change of the code changes it a little
		}
		if worst > 0 && now.Low > worst {
			worse = append(worse, fmt.Sprintf("%s was %s and is %s", name, then, now))
		}
	}
	if len(worse) > 0 {
		return fmt.Errorf("worse than in %s:\n%s", file, strings.Join(worse, "\n"))
	}
	return nil
}

type bench struct {
	folder, url string
	beside      string // the folder of another version's functions; "" means to compare with an empty function
	services    *services
	servers     [2]*httptest.Server // of the services: plain, and with TLS
	calls       int                 // so far; each has an id of its own
	helpers     []*function         // processes that make the events of others
}

func newBench(beside string) (*bench, error) {
	// The folder for temporary files may be in memory, and nothing there is read from a disk.
	if err := os.MkdirAll("build", 0o755); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("build", "bench")
	if err != nil {
		return nil, err
	}
	s := &services{items: map[string]json.RawMessage{}}
	b := &bench{folder: folder, beside: beside, services: s}
	b.servers = [2]*httptest.Server{httptest.NewServer(s), httptest.NewTLSServer(s)}
	b.url = b.servers[0].URL
	return b, nil
}

func (b *bench) close() {
	for _, server := range b.servers {
		server.Close()
	}
	_ = os.RemoveAll(b.folder)
}

// build builds functions, as for Lambda.
func (b *bench) build(sources ...string) error {
	for _, source := range sources {
		tags := "lambda.norpc"
		if filepath.Base(source) == "ack" {
			tags += ",nethttpomithttp2" // as the Makefile builds it
		}
		build := exec.Command("go", "build", "-tags", tags, "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
			"-o", filepath.Join(b.folder, filepath.Base(source)), source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build %s: %w\n%s", source, err, out)
		}
	}
	return nil
}

const secret = "0123456789abcdef0123456789abcdef"

var plan = vapiauth.Plan{Type: "hmac", SecretKey: secret, Algorithm: "sha256"}

func (b *bench) environment() []string {
	credential, _ := json.Marshal(plan) // it always encodes
	return []string{
		"AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x",
		"AWS_SESSION_TOKEN=" + strings.Repeat("token", 120), "AWS_ENDPOINT_URL=" + b.url,
		"JOBS_QUEUE_URL=" + b.url + "/jobs", "RESULTS_QUEUE_URL=" + b.url + "/results", "JOBS_TABLE=jobs",
		"EVENT_BUS_NAME=bus", "SCHEDULE_GROUP=group", "SCHEDULE_ROLE_ARN=arn:role", "JOBS_QUEUE_ARN=arn:jobs",
		"JOBS_DLQ_ARN=arn:dead", "COMPLETION_URL=" + b.url + "/results/", `COMPLETION_KEYS={"current":"` + secret + `"}`,
		"WEBHOOK_AUTH=" + string(credential), "WEBHOOK_SECRET=" + secret, "ORDERS_API_URL=" + b.url,
		"CONTROL_HOSTS=" + strings.TrimPrefix(b.url, "http://"),
	}
}

// webhooks returns a function that makes events of webhooks of about this many bytes.
func (b *bench) webhooks(size, toolCalls int) func() ([]byte, error) {
	const turn = `{"role":"user","message":"Could you \"please\" look where my order is?","time":1767609000000},`
	transcript := strings.Repeat(turn, max(0, size-900)/len(turn))
	return func() ([]byte, error) {
		b.calls++
		var list []string
		for i := range toolCalls {
			list = append(list, fmt.Sprintf(`{"id":"call_%d","type":"function","function":{"name":"order_status",`+
				`"arguments":{"order_id":"A-%d"}}}`, i, i+1))
		}
		id := fmt.Sprintf("11111111-2222-4333-8444-%012d", b.calls)
		body := fmt.Sprintf(`{"message":{"timestamp":%d,"type":"tool-calls","toolCallList":[%s],`+
			`"artifact":{"messages":[%s{}]},"call":{"id":"%s","type":"inboundPhoneCall",`+
			`"monitor":{"controlUrl":"%s/%[4]s/control"}}}}`,
			time.Now().UnixMilli(), strings.Join(list, ","), transcript, id, b.url)
		signed := vapiauth.Request{Method: http.MethodPost, Body: []byte(body), Header: http.Header{}}
		if err := plan.Sign(&signed, time.Now()); err != nil {
			return nil, err
		}
		r := httptest.NewRequest(http.MethodPost, deployment.WebhookPath, strings.NewReader(body))
		r.Header = signed.Header
		r.Header.Set("Content-Type", "application/json")
		return json.Marshal(functiontest.Event(deployment.WebhookRoute, r, signed.Body, id, time.Now()))
	}
}

// jobs returns an event with the job of a webhook, which the ack function makes.
func (b *bench) jobs() ([]byte, error) { return b.messages("ack", b.webhooks(2<<10, 1)) }

// outcomes returns an event with the outcome of a job, which the process function makes.
func (b *bench) outcomes() ([]byte, error) { return b.messages("process", b.jobs) }

// messages returns an event with the messages that a function sends for another event.
func (b *bench) messages(from string, event func() ([]byte, error)) ([]byte, error) {
	in, err := event()
	if err != nil {
		return nil, err
	}
	var helper *function
	for _, f := range b.helpers {
		if filepath.Base(f.command.Path) == from {
			helper = f
		}
	}
	if helper == nil {
		if helper, _, err = start(filepath.Join(b.folder, from), b.environment()); err != nil {
			return nil, err
		}
		b.helpers = append(b.helpers, helper)
	}
	if _, _, err := helper.invoke(in); err != nil {
		return nil, err
	}
	var batch events.SQSEvent
	for _, body := range b.services.take() {
		batch.Records = append(batch.Records, events.SQSMessage{
			MessageId: fmt.Sprint("m", b.calls), ReceiptHandle: "bench", Body: body, EventSource: "aws:sqs",
			Attributes: map[string]string{
				"ApproximateReceiveCount": "1", "SentTimestamp": fmt.Sprint(time.Now().UnixMilli()),
			},
		})
	}
	if len(batch.Records) != 1 {
		return nil, fmt.Errorf("%s sent %d messages\n%s", from, len(batch.Records), &helper.log)
	}
	return json.Marshal(batch)
}

// check returns an error if a function did not do its work for one event.
func (b *bench) check(s subject, answer []byte, posts int) error {
	sent, messages := len(b.services.take()), max(s.messages, 1)
	switch {
	case s.function == "ack" && (sent == 0 || !bytes.Contains(answer, []byte(`"statusCode":200`))):
	case s.function == "process" && sent != messages:
	case s.function == "callback" && b.services.controlPosts() != posts+messages:
	default:
		return nil
	}
	return fmt.Errorf("the function did not do its work: %s", answer)
}
