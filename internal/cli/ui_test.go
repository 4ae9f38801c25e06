package cli_test

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/policy"
)

// ui starts ringback ui for the stack, and returns a client that has opened its link, the address of the page, and
// what ends it.
func ui(t *testing.T, flags ...string) (client *http.Client, at string, end func()) {
	t.Helper()
	link, end := startUI(t, flags...)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client = &http.Client{Jar: jar}
	at, _, _ = strings.Cut(link, "/?")
	asks(t, client, http.MethodGet, link, "No call yet")
	if code := status(t, link); code != http.StatusUnauthorized {
		t.Errorf("the link works twice: %d", code)
	}
	return client, at, end
}

// startUI starts ringback ui for the stack, and returns its link, and what ends it.
func startUI(t *testing.T, flags ...string) (link string, end func()) {
	t.Helper()
	c := start(t, shop.All, append([]string{"ui", "--stack", "Ringback"}, flags...)...)
	return c.shows(`http://127\.0\.0\.1:\d+/\?link=\w+`)[0], func() {
		t.Helper()
		c.end(syscall.SIGTERM)
	}
}

// asks sends a request to the page, submits the answer if the page asks, and returns what it shows in the end, which
// must contain a text.
func asks(t *testing.T, client *http.Client, method, address, want string, values ...string) string {
	t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(values); i += 2 {
		form.Set(values[i], values[i+1])
	}
	request, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", "http://"+request.URL.Host) // as a browser does
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if ticket := regexp.MustCompile(`name="agreed" value="(\w+)"`).FindSubmatch(text); ticket != nil && len(values) == 0 {
		return asks(t, client, method, address, want, "agreed", string(ticket[1]))
	}
	if !strings.Contains(string(text), want) {
		t.Errorf("%s: %s, without %q:\n%s", address, answer.Status, want, text)
	}
	return string(text)
}

// operatorPolicy returns the requests that the documentation says a policy of operators is for.
func operatorPolicy(t *testing.T, policy string) map[string]bool {
	t.Helper()
	resources := map[string][]string{
		"the stack": {"stack"}, "the jobs table": {"jobs"}, "the queues": {"jobs", "long-jobs", "results"},
		"the indexes of the jobs table": {"jobs/index/" + dynamotable.Index, "jobs/index/" + dynamotable.RecentIndex},
		"the dead-letter queues":        {"dead-jobs", "dead-results"}, "the key of the stored arguments": {"arn:key"},
	}
	text, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	documented := regexp.MustCompile("(?m)^\\| `" + policy + "` \\| (.*?) \\| (.*?) \\|")
	for _, row := range documented.FindAllStringSubmatch(string(text), -1) {
		if resources[row[2]] == nil {
			t.Errorf("%s: %q is unknown", policy, row[2])
		}
		for _, resource := range resources[row[2]] {
			for action := range strings.SplitSeq(row[1], ", ") {
				all[strings.Trim(action, "`")+" "+resource] = true
			}
		}
	}
	return all
}

// TestUI serves the page of a deployment, and reads each kind of page. Its requests are exactly those for which the
// read policy is.
func TestUI(t *testing.T) {
	a, table := inAccount(t)
	waiting(t, table, "c", "a")
	const id = "c/a"
	a.asked = nil
	client, at, end := ui(t)
	asks(t, client, http.MethodGet, at+"/ui/tools", "order_status")
	asks(t, client, http.MethodGet, at+"/ui/calls/c", ">approval</a>")
	asks(t, client, http.MethodGet, at+"/ui/jobs/"+id, "Tool started")
	asks(t, client, http.MethodGet, at+"/ui/undelivered", "Everything was delivered")
	for _, what := range []string{"cancel", "complete", "replay", "redrive"} {
		asks(t, client, http.MethodPost, at+"/ui/"+what+"/"+id, "read-only")
	}
	end()
	if diff := cmp.Diff(operatorPolicy(t, "OperatorReadPolicy"), set(a.asked)); diff != "" || len(a.sent) > 0 {
		t.Errorf("the requests (-policy +page), %d messages:\n%s", len(a.sent), diff)
	}
}

func set(texts []string) map[string]bool {
	all := make(map[string]bool)
	for _, text := range texts {
		all[text] = true
	}
	return all
}

// TestUIWrites changes jobs of a deployment in the page. Its requests are exactly those for which both policies are.
func TestUIWrites(t *testing.T) {
	a, table := inAccount(t)
	waiting(t, table, "c", "cancelled")
	waiting(t, table, "c", "completed")
	j, message, outcome := a.failedForGood(t, table)
	a.asked, a.sent = nil, nil
	client, at, end := ui(t, "--write")
	asks(t, client, http.MethodGet, at+"/ui/calls/c", ">approval</a>")
	asks(t, client, http.MethodPost, at+"/ui/cancel/c/cancelled", "The job is cancelled", "reason", "by mistake")
	asks(t, client, http.MethodPost, at+"/ui/complete/c/completed", "on its way to the call", "text", "Approved.")
	page := asks(t, client, http.MethodGet, at+"/ui/jobs/"+j.ID, "Redrive its message")
	if strings.Contains(page, "A-1042") {
		t.Error("the page has decrypted arguments")
	}
	asks(t, client, http.MethodGet, at+"/ui/jobs/"+j.ID+"?arguments=stored", "ringback call order_status order_id=A-1042")
	asks(t, client, http.MethodPost, at+"/ui/redrive/"+j.ID, "on its queue again")
	asks(t, client, http.MethodPost, at+"/ui/redrive/"+j.ID, "No message of the job is in a dead-letter queue")
	page = asks(t, client, http.MethodPost, at+"/ui/replay/"+j.ID, "The replay is queued")
	end()
	want := operatorPolicy(t, "OperatorReadPolicy")
	maps.Copy(want, operatorPolicy(t, "OperatorWritePolicy"))
	if diff := cmp.Diff(want, set(a.asked)); diff != "" {
		t.Errorf("the requests (-policies +page):\n%s", diff)
	}
	if want := []string{"long-jobs " + message, "results " + outcome}; !slices.Equal(a.sent[4:6], want) {
		t.Errorf("redriven: %q, want %q", a.sent[4:6], want)
	}
	if want := []string{"dead-jobs-1", "dead-results-1"}; !slices.Equal(a.deleted, want) {
		t.Errorf("deleted: %q, want %q", a.deleted, want)
	}
	// The replay reaches no customer, and its result becomes no event.
	sent, _ := strings.CutPrefix(a.sent[6], "long-jobs ")
	if again, err := job.Decode(sent); err != nil || len(a.sent) != 7 || !job.IsReplay(again.ID) ||
		!strings.Contains(page, again.ID) || string(again.Arguments) != string(j.Arguments) || again.Call.ID == j.Call.ID ||
		again.Call.ControlURL+again.Call.CustomerNumber != "" || !again.KeepResult {
		t.Errorf("replayed: %q, %v", a.sent, err)
	}
}

// failedForGood stores a job whose attempts are used up, with its arguments. It returns the job, and its messages in
// the dead-letter queues.
func (a *account) failedForGood(t *testing.T, table *jobtable.Table) (j job.Job, message, outcome string) {
	t.Helper()
	base := strings.TrimSuffix(a.outputs["JobsQueueUrl"], "jobs")
	for output, name := range map[string]string{
		"LongJobsQueueUrl": "long-jobs", "JobsDeadLettersUrl": "dead-jobs", "ResultsDeadLettersUrl": "dead-results",
	} {
		a.outputs[output] = base + name
	}
	a.outputs["ReplayKeyArn"] = "arn:key"
	now := time.Now()
	j = job.Job{
		ID: job.ID("failed", "t", "order_status", nil), ToolCallID: "t", Tool: "order_status",
		Arguments: json.RawMessage(`{"order_id":"A-1042"}`), ReceivedAt: now, CallEnds: now.Add(time.Hour),
		Call: job.Call{ID: "failed", CustomerNumber: "+15550100100", ControlURL: "https://x.vapi.ai/failed/control"},
	}
	dataKey := []byte("0123456789abcdef0123456789abcdef")
	store := dynamotable.New(a.client, "jobs")
	lists := jobtable.NewCustomers(store.Customers(), func(context.Context) ([][]byte, error) {
		return [][]byte{[]byte("key")}, nil
	})
	copies := jobtable.NewReplays(store.Replays(), fixedKey(dataKey), time.Hour, lists)
	if err := copies.Keep(t.Context(), j, now); err != nil {
		t.Fatal(err)
	}
	r, err := table.Claim(t.Context(), job.NewRecord(j, job.Policy{}, now.Add(time.Hour), "m", now, time.Minute))
	if err == nil {
		r, err = table.ChangeClaimed(t.Context(), r, job.Finish(now, job.Result{
			Status: job.StatusError, Content: "x", Delivery: policy.DeliveryRespond,
		}, true, "the shop answered 503"))
	}
	if err == nil {
		message, err = j.Encode()
	}
	if err == nil {
		outcome, err = j.Outcome(r).Encode()
	}
	if err != nil {
		t.Fatal(err)
	}
	other := `{"version":1,"kind":"check","jobId":"c/other"}`
	a.more = map[string]func([]byte) any{
		"TrentService.Decrypt": func([]byte) any {
			return map[string]string{"Plaintext": base64.StdEncoding.EncodeToString(dataKey)}
		},
		"AmazonSQS.ReceiveMessage": dead(map[string][]string{
			"dead-jobs": {other, message}, "dead-results": {"unreadable", outcome},
		}),
	}
	return j, message, outcome
}

// dead returns the answers to requests for the messages of dead-letter queues. Each message is received once. It is of
// the queue of long tools.
func dead(queues map[string][]string) func(body []byte) any {
	return func(body []byte) any {
		var in struct{ QueueUrl string }
		_ = json.Unmarshal(body, &in)
		name := path.Base(in.QueueUrl)
		var all []any
		for i, text := range queues[name] {
			sum := md5.Sum([]byte(text))
			all = append(all, map[string]any{
				"MessageId": fmt.Sprintf("m-%s-%d", name, i), "ReceiptHandle": fmt.Sprintf("%s-%d", name, i), "Body": text,
				"MD5OfBody": hex.EncodeToString(sum[:]), "Attributes": map[string]string{
					"ApproximateReceiveCount": "5", "DeadLetterQueueSourceArn": "arn:aws:sqs:eu-central-1:111122223333:long-jobs",
				},
			})
		}
		delete(queues, name)
		return map[string]any{"Messages": all}
	}
}

// TestUILocal prints another link to the page of a local run.
func TestUILocal(t *testing.T) {
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: shop.All})
	out, _ := runs(t, []string{"ui", "--local", "--addr", hostOf(at)}, 0)
	if code := status(t, strings.TrimSpace(out)); code != http.StatusUnauthorized { // without a jar, the cookie is lost
		t.Errorf("%q: %d", out, code)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	out, _ = runs(t, []string{"ui", "--local", "--addr", hostOf(at)}, 0)
	answer, err := (&http.Client{Jar: jar}).Get(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("%q: %s", out, answer.Status)
	}
	for name, row := range map[string]struct {
		arguments []string
		code      int
		want      string
	}{
		"nothing":         {nil, 1, "no deployment is selected"},
		"no run":          {[]string{"--local", "--addr", "127.0.0.1:1"}, 1, "no local run of yours"},
		"another machine": {[]string{"--local", "--addr", "192.0.2.1:8787"}, 1, "no local run of yours"},
		"write":           {[]string{"--local", "--write"}, 1, "--write requires --stack"},
	} {
		if _, errOut := runs(t, append([]string{"ui"}, row.arguments...), row.code); !strings.Contains(errOut, row.want) {
			t.Errorf("%s: %s", name, errOut)
		}
	}
	_, _ = inAccount(t)
	_, errOut := runs(t, []string{"ui", "--stack", "Ringback", "--addr", "0.0.0.0:0"}, 1)
	if !strings.Contains(errOut, "other machines can reach 0.0.0.0:0") {
		t.Error(errOut)
	}
}

// TestUILocalCommands reads the commands on the page of a local run that has another address than the default.
func TestUILocalCommands(t *testing.T) {
	withoutSettings(t)
	tools := new(replayed)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: tools.tools})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	shows := func(address string, want ...string) {
		t.Helper()
		answer, err := client.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		for _, part := range want {
			if err != nil || !strings.Contains(string(text), part) {
				t.Errorf("%s: %v, without %q:\n%s", address, err, part, text)
			}
		}
	}
	root := "http://" + hostOf(at)
	shows(root, "use ringback ui --local --addr "+hostOf(at)+".")
	link, _ := runs(t, []string{"ui", "--local", "--addr", hostOf(at)}, 0)
	shows(strings.TrimSpace(link), "ringback call --url "+at+" NAME ARGUMENT=VALUE")
	id := eventsOf(t, tools.tools, new(syncBuffer), "lookup", "order=A-1", "--url", at)[0].JobID
	shows(root+"/ui/jobs/"+id, "jobs show --local --addr "+hostOf(at)+" "+id,
		"ringback call --url "+at+" lookup order=A-1")
}

// status returns the status of the answer to a request without cookies.
func status(t *testing.T, address string) int {
	t.Helper()
	answer, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}
