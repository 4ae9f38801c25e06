package cli_test

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/dev"
)

// deadLetter is a message in a dead-letter queue of an account.
type deadLetter struct {
	queue, body string // the last part of the queue's URL
	attributes  map[string]string
	hidden      bool
}

// withDeadLetters adds dead-letter queues to an account.
func withDeadLetters(a *account) (letters *[]*deadLetter) {
	letters = new([]*deadLetter)
	read := func(body []byte) (in struct {
		QueueUrl, ReceiptHandle string
		VisibilityTimeout       int
	}) {
		_ = json.Unmarshal(body, &in)
		in.QueueUrl = path.Base(in.QueueUrl)
		return in
	}
	find := func(receipt string) *deadLetter {
		for _, l := range *letters {
			if fmt.Sprintf("receipt of %p", l) == receipt {
				return l
			}
		}
		return new(deadLetter)
	}
	base := strings.TrimSuffix(a.outputs["JobsQueueUrl"], "jobs")
	a.outputs["JobsDeadLettersUrl"], a.outputs["ResultsDeadLettersUrl"] = base+"dead-jobs", base+"dead-results"
	a.outputs["LongJobsQueueUrl"] = base + "long-jobs"
	a.more = map[string]func([]byte) any{
		"AmazonSQS.GetQueueAttributes": func(body []byte) any {
			n := 0
			for _, l := range *letters {
				if l.queue == read(body).QueueUrl {
					n++
				}
			}
			return map[string]any{"Attributes": map[string]string{"ApproximateNumberOfMessages": fmt.Sprint(n)}}
		},
		"AmazonSQS.ReceiveMessage": func(body []byte) any {
			var found []map[string]any
			for i, l := range *letters {
				if l.hidden || l.queue != read(body).QueueUrl {
					continue
				}
				l.hidden = true
				sum := md5.Sum([]byte(l.body))
				attributes := map[string]any{}
				for name, value := range l.attributes {
					attributes[name] = map[string]string{"DataType": "String", "StringValue": value}
				}
				found = append(found, map[string]any{
					"MessageId": fmt.Sprintf("message-%d", i), "ReceiptHandle": fmt.Sprintf("receipt of %p", l), "Body": l.body,
					"MD5OfBody": hex.EncodeToString(sum[:]), "MessageAttributes": attributes,
					"Attributes": map[string]string{
						"SentTimestamp":           fmt.Sprint(time.Now().Add(-3 * time.Hour).UnixMilli()),
						"ApproximateReceiveCount": "18",
					},
				})
			}
			return map[string]any{"Messages": found}
		},
		"AmazonSQS.ChangeMessageVisibility": func(body []byte) any {
			find(read(body).ReceiptHandle).hidden = read(body).VisibilityTimeout > 0
			return struct{}{}
		},
		"AmazonSQS.DeleteMessage": func(body []byte) any {
			gone := find(read(body).ReceiptHandle)
			*letters = slices.DeleteFunc(*letters, func(l *deadLetter) bool { return l == gone })
			return struct{}{}
		},
	}
	return letters
}

func TestDeadLettersOfADeployment(t *testing.T) {
	a, table := inAccount(t)
	letters := withDeadLetters(a)
	dead := func(code int, more ...string) (out, errOut string) {
		t.Helper()
		out, errOut = runs(t, append(append([]string{"dead"}, more...), "--stack", "Ringback"), code)
		for _, never := range []string{"/control", "5550100", "planted-call", "\x1b"} {
			if strings.Contains(out+errOut, never) && !slices.Contains(more, "--data") {
				t.Errorf("the output contains %q:\n%s%s", never, out, errOut)
			}
		}
		return out, errOut
	}
	if out, errOut := dead(0, "list"); out != "" || !strings.Contains(errOut, "There are no dead letters.") {
		t.Errorf("%q, %q", out, errOut)
	}
	const call = "planted-call"
	j := job.Job{
		ID: job.ID(call, "t", "approval", nil), ToolCallID: "t", Tool: "approval",
		Arguments:  json.RawMessage(`{"subject":"planted argument"}`),
		Call:       job.Call{ID: call, CustomerNumber: "+15550100100", ControlURL: "https://x.vapi.ai/planted/control"},
		ReceivedAt: time.Now(), CallEnds: time.Now().Add(time.Hour),
	}
	body, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	waits := job.ID(call, "w", "approval", nil)
	waitingAs(t, table, waits, call, "w")
	wakeUp, err := job.WakeUp{JobID: waits, Number: 1}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	scheduled := map[string]string{
		"SCHEDULE_ARN": "arn:schedule", "TARGET_ARN": "arn:aws:sqs:eu-central-1:111122223333:long-jobs",
		"ERROR_CODE": "AccessDenied",
	}
	*letters = []*deadLetter{
		{queue: "dead-jobs", body: body}, {queue: "dead-jobs", body: wakeUp, attributes: scheduled},
		{queue: "dead-results", body: "\x1b[31m"},
	}
	out, errOut := dead(0, "list")
	for _, want := range []string{
		"message-0  jobs     job         3h   " + j.ID + "  approval  no record  job         received 18 times",
		"message-1  jobs     wake-up     3h   " + waits + "  approval  waiting    nothing     " +
			"EventBridge Scheduler could not send it: AccessDenied",
		"message-2  results  unreadable  3h",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not contain %q:\n%s%s", want, out, errOut)
		}
	}
	out, _ = dead(0, "list", "--queue", "results", "--json")
	var list struct {
		Letters []struct{ ID, Kind, Loss string }
		All     bool
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Letters) != 1 || !list.All ||
		list.Letters[0].Loss != "unknown" {
		t.Errorf("%v, %s", err, out)
	}
	for _, data := range []bool{false, true} {
		more := []string{"show", j.ID}
		if data {
			more = append(more, "--data")
		}
		out, _ := dead(0, more...)
		if strings.Contains(out, "planted argument") != data || !strings.Contains(out, job.CallHash(call)) ||
			strings.Contains(out, call) != data || strings.Contains(out, "/control") {
			t.Error(out)
		}
	}
	if out, _ := dead(0, "show", "message-1"); !strings.Contains(out, "ERROR_CODE") ||
		!strings.Contains(out, "long-jobs\n") {
		t.Error(out)
	}

	out, errOut = dead(0, "redrive", waits)
	if out != "Redriven: 1 messages.\n" || !slices.Equal(a.sent, []string{"long-jobs " + wakeUp}) || len(*letters) != 2 {
		t.Errorf("%q, %s, sent %q", out, errOut, a.sent)
	}
	for name, row := range map[string]struct {
		arguments []string
		code      int
		err       string
	}{
		"no terminal":  {[]string{"drop", j.ID}, 1, "nothing was dropped: there is no terminal to ask on; use --yes to drop"},
		"unknown":      {[]string{"drop", "j_unknown", "--yes"}, 1, `there is no dead letter "j_unknown"`},
		"not shown":    {[]string{"show", "j_unknown"}, 1, `there is no dead letter "j_unknown"; see ringback dead list`},
		"not redriven": {[]string{"redrive", "j_unknown"}, 1, `there is no dead letter "j_unknown"`},
		"no selection": {[]string{"redrive"}, 1, "no message is selected; use ids, or --all"},
		"both":         {[]string{"redrive", "x", "--all"}, 1, "use ids or --all, and not both"},
		"another":      {[]string{"list", "--queue", "other"}, 80, "--queue must be one of"},
		"unreadable": {[]string{"drop", "--all", "--queue", "results", "--yes"}, 1,
			"message-1 stays: this version cannot read it"},
	} {
		if _, errOut := dead(row.code, row.arguments...); !strings.Contains(errOut, row.err) || len(*letters) != 2 {
			t.Errorf("%s: %s, %d messages", name, errOut, len(*letters))
		}
	}
	a.sent = nil
	out, errOut = dead(0, "drop", "--all", "--unreadable", "--yes")
	if out != "Dropped: 2 messages.\n" || len(*letters) != 0 {
		t.Errorf("%q, %s", out, errOut)
	}
	sent, _ := strings.CutPrefix(strings.Join(a.sent, "\n"), "results ")
	if o, err := job.DecodeOutcome(sent); err != nil || o.JobID != j.ID || o.Result.Status != job.StatusError ||
		o.Call != j.Call {
		t.Errorf("%v, sent %q", err, a.sent)
	}
	delete(a.outputs, "JobsDeadLettersUrl")
	if _, errOut := dead(1, "list"); !strings.Contains(errOut, "has no output JobsDeadLettersUrl") {
		t.Error(errOut)
	}
}

// TestDeadLettersOfALocalRun lists them.
func TestDeadLettersOfALocalRun(t *testing.T) {
	withoutSettings(t)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: shop.All, ShopDelay: time.Hour})
	addr := strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/vapi")
	local := func(code int, more ...string) (out, errOut string) {
		t.Helper()
		return runs(t, append(append([]string{"dead"}, more...), "--local", "--addr", addr), code)
	}
	if out, errOut := local(0, "list"); out != "" || !strings.Contains(errOut, "There are no dead letters.") {
		t.Errorf("%q, %q", out, errOut)
	}
	if out, errOut := local(0, "redrive", "--all"); out != "Redriven: 0 messages.\n" {
		t.Errorf("%q, %q", out, errOut)
	}
	if _, errOut := local(1, "show", "x"); !strings.Contains(errOut, "no dead letter") {
		t.Error(errOut)
	}
}
