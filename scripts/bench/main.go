// Command bench measures the built functions on this machine: the start, the first call, later calls, the CPU of
// a call, and the size. It compares each function with an empty one, in alternation, because a machine is never
// quite quiet. make bench runs it.
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
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/vapi/vapiauth"
)

func main() {
	log.SetFlags(0)
	starts := flag.Int("starts", 30, "starts of each function")
	calls := flag.Int("calls", 200, "later calls of each function")
	file := flag.String("json", "", "write the ratios to this `file`")
	before := flag.String("before", "", "name the ratios that are worse than those in this `file`")
	beside := flag.String("beside", "", "compare with the functions of another version, which are in this `folder`, "+
		"as make build ARCH=x86_64 builds them, and not with an empty one")
	flag.Parse()
	if err := run(*starts, *calls, *file, *before, *beside); err != nil {
		log.Fatal(err)
	}
}

func run(starts, calls int, file, before, beside string) error {
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	for name, source := range map[string]string{
		"empty": "./scripts/bench/empty", "ack": "./functions/ack", "process": "./functions/process",
		"callback": "./functions/callback",
	} {
		build := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
			"-o", filepath.Join(folder, name), source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build %s: %w\n%s", source, err, out)
		}
	}
	b := &bench{folder: folder, beside: beside, services: &services{items: map[string]json.RawMessage{}}}
	server := httptest.NewServer(b.services)
	defer server.Close()
	b.url = server.URL

	var rows []row
	other := "empty"
	if beside != "" {
		other = "before"
	}
	fmt.Println(strings.ReplaceAll(header, "other", other))
	for _, subject := range []subject{
		{"ack", "2 KB", b.webhooks(2<<10, 1)}, {"ack", "40 KB, three tool calls", b.webhooks(40<<10, 3)},
		{"ack", "1 MB", b.webhooks(1<<20, 1)}, {"process", "one job", b.jobs}, {"callback", "one outcome", b.outcomes},
	} {
		r, err := b.measure(subject, starts, calls)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", subject.function, subject.input, err)
		}
		fmt.Println(r)
		rows = append(rows, r)
	}
	if file != "" {
		text, err := json.MarshalIndent(rows, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	if before != "" {
		return compare(before, rows)
	}
	return nil
}

const header = `| function | start | ÷ other | first call | ÷ other | later call | ÷ other ` +
	`| CPU of a call | ÷ other | size | ÷ other |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|`

// compare returns an error that names the ratios that are worse than those in a file, by more than their
// intervals.
func compare(file string, rows []row) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var earlier []row
	if err := json.Unmarshal(text, &earlier); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var worse []string
	for _, now := range rows {
		for _, then := range earlier {
			if then.Function != now.Function || then.Input != now.Input {
				continue
			}
			for name, ratio := range now.Ratios {
				// The CPU and the size have no interval.
				if past, ok := then.Ratios[name]; ok && ratio.Low < ratio.High && ratio.Low > past.High {
					worse = append(worse, fmt.Sprintf("%s, %s: the %s was %s of the other's, and is %s",
						now.Function, now.Input, name, past, ratio))
				}
			}
		}
	}
	if len(worse) > 0 {
		return fmt.Errorf("worse than in %s:\n%s", file, strings.Join(worse, "\n"))
	}
	return nil
}

// subject is a function, and what it is invoked with.
type subject struct {
	function, input string
	// event returns the next event. The function has not seen its ids before.
	event func() ([]byte, error)
}

type bench struct {
	folder, url string
	beside      string // the folder of another version's functions; "" means to compare with an empty function
	services    *services
	calls       int         // so far; each has an id of its own
	helpers     []*function // processes that make the events of others
}

const secret = "0123456789abcdef0123456789abcdef"

var plan = vapiauth.Plan{Type: "hmac", SecretKey: secret, Algorithm: "sha256"}

func (b *bench) environment() []string {
	credential, _ := json.Marshal(plan) // it always encodes
	return []string{
		"AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_ENDPOINT_URL=" + b.url,
		"JOBS_QUEUE_URL=" + b.url + "/jobs", "RESULTS_QUEUE_URL=" + b.url + "/results", "JOBS_TABLE=jobs",
		"EVENT_BUS_NAME=bus", "SCHEDULE_GROUP=group", "SCHEDULE_ROLE_ARN=arn:role", "JOBS_QUEUE_ARN=arn:jobs",
		"JOBS_DLQ_ARN=arn:dead", "COMPLETION_URL=" + b.url + "/results/", `COMPLETION_KEYS={"current":"` + secret + `"}`,
		"WEBHOOK_AUTH=" + string(credential), "ORDERS_API_URL=" + b.url,
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
	sent := len(b.services.take())
	switch {
	case s.function == "ack" && (sent == 0 || !bytes.Contains(answer, []byte(`"statusCode":200`))):
	case s.function == "process" && sent != 1:
	case s.function == "callback" && b.services.controlPosts() != posts+1:
	default:
		return nil
	}
	return fmt.Errorf("the function did not do its work: %s", answer)
}
