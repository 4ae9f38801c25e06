package cli_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/policy"
)

// replayed are tools that record the idempotency keys and arguments of their calls.
type replayed struct {
	keys, orders []string
	slow         chan struct{} // ends the tool for a slow order
}

func (r *replayed) tools() ([]asynctool.Definition, error) {
	type in struct {
		Order string `json:"order"`
	}
	tool := func(name string, attempts int) asynctool.Definition {
		return asynctool.Tool[in]{
			Name: name, Description: "x", Attempts: attempts,
			Run: func(ctx context.Context, c asynctool.Call, args in) (asynctool.Result, error) {
				r.keys, r.orders = append(r.keys, c.IdempotencyKey()), append(r.orders, args.Order)
				if args.Order == "slow" {
					<-r.slow
				}
				if args.Order == "external" {
					_, err := c.CompletionURL(ctx)
					return asynctool.Result{}, asynctool.Fail("Sorry.", fmt.Errorf("no URL for the shop: %t", err != nil))
				}
				if args.Order == "broken" {
					return asynctool.Result{}, asynctool.Fail("Sorry.", errors.New("broken"))
				}
				return asynctool.Text("The order " + args.Order + " is on its way."), nil
			},
		}
	}
	return []asynctool.Definition{tool("lookup", 3), tool("refund", 1)}, nil
}

// runTools is like run, with other tools.
func runTools(
	t *testing.T, tools cli.Tools, arguments ...string,
) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Run(tools, arguments, &o, &e)
	return code, o.String(), e.String()
}

// TestReplayOfALocalRun replays the jobs of a local run.
func TestReplayOfALocalRun(t *testing.T) {
	withoutSettings(t)
	there, here := &replayed{slow: make(chan struct{})}, new(replayed)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: there.tools})
	addr := strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/vapi")
	ids := map[string]string{}
	for _, tool := range []string{"lookup", "refund"} {
		ids[tool] = eventsOf(t, there.tools, new(syncBuffer), tool, "order=A-1", "--url", at)[0].JobID
	}
	replay := func(code int, more ...string) (out, errOut string) {
		t.Helper()
		more = append(append([]string{"jobs", "replay"}, more...), "--local", "--addr", addr)
		got, out, errOut := runTools(t, here.tools, more...)
		if got != code || strings.Contains(out+errOut, "5550100123") || strings.Contains(out+errOut, "/control") {
			t.Errorf("%q: code %d, %s%s", more, got, out, errOut)
		}
		return out, errOut
	}
	if out, errOut := replay(0, ids["lookup"]); !strings.Contains(out, "The order A-1 is on its way.") {
		t.Errorf("%s%s", out, errOut)
	}
	if len(here.keys) != 1 || !strings.HasPrefix(here.keys[0], "j_replay") || len(there.keys) != 2 {
		t.Errorf("here: %q, there: %q", here.keys, there.keys)
	}
	if replay(0, ids["lookup"], "--same-key"); here.keys[1] != ids["lookup"] {
		t.Errorf("the keys are %q", here.keys)
	}
	if _, errOut := replay(1, ids["refund"]); len(here.keys) != 2 ||
		!strings.Contains(errOut, "nothing was run: refund has one attempt, so it must not run twice; use --yes") {
		t.Errorf("it ran without consent: %q, %s", here.keys, errOut)
	}
	if out, _ := replay(0, ids["refund"], "--yes", "--json"); len(here.keys) != 3 ||
		!strings.Contains(out, `"event":"result"`) {
		t.Errorf("%q, %s", here.keys, out)
	}

	editor := filepath.Join(t.TempDir(), "an editor")
	edit := func(script string) {
		t.Helper()
		if err := os.WriteFile(editor, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("EDITOR", "'"+editor+"' --flag")
	edit(`sed s/A-1/B-2/ "$2" >"$2.new" && mv "$2.new" "$2"`)
	if out, _ := replay(0, ids["lookup"], "--edit"); here.orders[3] != "B-2" || !strings.Contains(out, "The order B-2") {
		t.Errorf("%q, %s", here.orders, out)
	}
	for script, want := range map[string]string{
		`exit 1`:                "nothing was run: the editor",
		`echo "[1]" > "$2"`:     "nothing was run: the edited arguments are not a JSON object",
		`echo "planted" > "$2"`: "nothing was run: the edited arguments are not a JSON object",
	} {
		edit(script)
		if _, errOut := replay(1, ids["lookup"], "--edit"); len(here.keys) != 4 || !strings.Contains(errOut, want) {
			t.Errorf("%s: %s", script, errOut)
		}
	}
	edit(`sed s/A-1/broken/ "$2" >"$2.new" && mv "$2.new" "$2"`)
	_, failed := replay(1, ids["lookup"], "--edit", "--deliver")
	if !strings.Contains(failed, "the tool failed: broken\n") {
		t.Error(failed)
	}
	if out, _ := replay(1, ids["lookup"], "--edit", "--json"); !strings.Contains(out,
		`"state":"delivered","status":"error","failed":true,"reason":"broken"}`) {
		t.Error(out)
	}
	edit(`sed s/A-1/external/ "$2" >"$2.new" && mv "$2.new" "$2"`)
	if _, errOut := replay(1, ids["lookup"], "--edit"); !strings.Contains(errOut, "the tool failed: no URL for the "+
		"shop: true; a tool that leaves its job to an external system needs --there\n") {
		t.Error(errOut)
	}
	edit(`sed s/A-1/broken/ "$2" >"$2.new" && mv "$2.new" "$2"`)

	// The call of the original is over, so its result becomes an event. There, the tool runs once more.
	if _, errOut := replay(0, ids["lookup"], "--deliver"); !strings.Contains(errOut, "as that of the job j_replay") {
		t.Error(errOut)
	}
	starts := len(there.keys)
	jobID := regexp.MustCompile(`j_replay\w+`)
	show := func(id string) string {
		t.Helper()
		code, out, errOut := runTools(t, here.tools, "jobs", "show", id, "--local", "--addr", addr)
		if code != 0 {
			t.Errorf("code %d, %s%s", code, out, errOut)
		}
		return out
	}
	out, _ := replay(0, ids["lookup"], "--there")
	id := jobID.FindString(out)
	if len(there.keys) != starts+1 || there.keys[starts] != id || !strings.Contains(out, "The order A-1 is on its way.") ||
		!strings.Contains(out, "The result is in the record of the replay, and is not delivered.") {
		t.Errorf("there: %q, %s", there.keys, out)
	}
	history := regexp.MustCompile(`(?s)state +replayed\n.*replay started\n.*tool finished\n.*result kept`)
	if got := show(id); !history.MatchString(got) || strings.Contains(got, "webhook") {
		t.Error(got)
	}
	out, errOut := replay(1, ids["lookup"], "--there", "--edit", "--json")
	id = jobID.FindString(out)
	hint := " jobs show --local --addr " + addr + " " + id + "\n"
	if !strings.Contains(out, `"state":"replayed","status":"error","failed":true,"reason":"broken"}`) ||
		!strings.Contains(errOut, "the tool failed: broken; see ") || !strings.HasSuffix(errOut, hint) {
		t.Errorf("%s%s", out, errOut)
	}
	if got := show(id); !strings.Contains(got, "failed, replayed\n") {
		t.Error(got)
	}
	edit(`sed s/A-1/slow/ "$2" >"$2.new" && mv "$2.new" "$2"`)
	out, errOut = replay(1, ids["lookup"], "--there", "--edit", "--wait", "200ms")
	if !strings.Contains(errOut, "no result within 200ms; the replay goes on; see ") ||
		!strings.HasSuffix(errOut, " "+jobID.FindString(out)+"\n") {
		t.Errorf("%s%s", out, errOut)
	}
	close(there.slow)
	if out, _ = replay(0, ids["lookup"], "--there", "--deliver"); !strings.Contains(out, "an undelivered event") {
		t.Error(out)
	}
	// Without --deliver, no result becomes an event.
	listed, _ := runs(t, []string{"jobs", "list", "--undelivered", "--local", "--addr", addr}, 0)
	if n := len(jobID.FindAllString(listed, -1)); n != 2 {
		t.Errorf("%d replays were not delivered:\n%s", n, listed)
	}
	for want, arguments := range map[string][]string{
		`there is no job "j_unknown", or its record has expired`: {"j_unknown"},
		"--wait must be positive, and is for --there":            {ids["lookup"], "--wait", "1m"},
		"--same-key is not for --there":                          {ids["lookup"], "--same-key", "--there"},
		"is not for --there":                                     {ids["lookup"], "--timeout", "1h", "--there"},
	} {
		if _, errOut := replay(1, arguments...); !strings.Contains(errOut, want) {
			t.Errorf("%q: %s", arguments, errOut)
		}
	}
}

// TestReplayOfADeployment replays a job of a deployment here.
func TestReplayOfADeployment(t *testing.T) {
	a, table := inAccount(t)
	client := dynamodb.NewFromConfig(aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String(strings.TrimSuffix(a.outputs["JobsQueueUrl"], "/111122223333/jobs")),
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
	store := dynamotable.New(client, "jobs")
	j := job.Job{
		ID: job.ID("planted-call", "t", "lookup", nil), ToolCallID: "t", Tool: "lookup",
		Arguments: json.RawMessage(`{"order":"A-1"}`),
		Call: job.Call{
			ID: "planted-call", CustomerNumber: "+15550100100", ControlURL: "https://x.vapi.ai/planted-call/control",
		},
		ReceivedAt: time.Now(), CallEnds: time.Now().Add(time.Hour),
	}
	dataKey := []byte("0123456789abcdef0123456789abcdef")
	lists := jobtable.NewCustomers(store.Customers(), func(context.Context) ([][]byte, error) {
		return [][]byte{[]byte("key")}, nil
	})
	copies := jobtable.NewReplays(store.Replays(), fixedKey(dataKey), time.Hour, lists)
	if err := copies.Keep(t.Context(), j, time.Now()); err != nil {
		t.Fatal(err)
	}
	a.more = map[string]func([]byte) any{"TrentService.Decrypt": func(body []byte) any {
		var in struct {
			KeyId             string
			CiphertextBlob    []byte
			EncryptionContext map[string]string
		}
		if json.Unmarshal(body, &in) != nil || in.KeyId != "arn:key" || string(in.CiphertextBlob) != "encrypted" ||
			in.EncryptionContext["ringback:job"] != j.ID {
			t.Errorf("asked %s", body)
		}
		return map[string]string{"Plaintext": base64.StdEncoding.EncodeToString(dataKey)}
	}}
	tools := new(replayed)
	code, out, errOut := runTools(t, tools.tools, "jobs", "replay", j.ID, "--stack", "Ringback")
	if code != 1 || !strings.Contains(errOut, "the stack Ringback stores no arguments, so its jobs cannot be replayed; "+
		"set argumentRetentionDays and deploy, for the jobs after that") {
		t.Errorf("code %d, %s%s", code, out, errOut)
	}
	a.outputs["ReplayKeyArn"] = "arn:key"
	code, out, errOut = runTools(t, tools.tools, "jobs", "replay", j.ID, "--stack", "Ringback")
	if code != 0 || !strings.Contains(out, "The order A-1 is on its way.") || len(a.sent) != 0 {
		t.Errorf("code %d, %s%s, sent %q", code, out, errOut, a.sent)
	}
	code, out, errOut = runTools(t, tools.tools, "jobs", "replay", j.ID, "--stack", "Ringback", "--deliver")
	if code != 0 || len(a.sent) != 1 {
		t.Fatalf("code %d, %s%s, sent %q", code, out, errOut, a.sent)
	}
	sent, _ := strings.CutPrefix(a.sent[0], "results ")
	if o, err := job.DecodeOutcome(sent); err != nil || o.Call != j.Call || !job.IsReplay(o.JobID) ||
		o.Result.Content != "The order A-1 is on its way." {
		t.Errorf("%+v, %v", o, err)
	}
	a.sent = nil
	code, out, errOut = runTools(t, tools.tools, "jobs", "replay", j.ID, "--stack", "Ringback", "--there", "--wait", "1ms")
	sent, _ = strings.CutPrefix(a.sent[0], "jobs ")
	queued, err := job.Decode(sent)
	if err != nil || code != 1 || !strings.Contains(out, "job "+queued.ID+", call replay-") ||
		queued.Call.CustomerNumber+queued.Call.ControlURL != "" || string(queued.Arguments) != string(j.Arguments) ||
		!strings.Contains(errOut, "no result within 1ms; the replay goes on; see ") ||
		!strings.HasSuffix(errOut, " jobs show --stack Ringback "+queued.ID+"\n") {
		t.Errorf("%+v, %v, code %d, %s%s", queued, err, code, out, errOut)
	}
	// The function ends the next one, while the command waits.
	a.sent = nil
	ended := make(chan error, 1)
	go func() {
		var queued job.Job
		for end := time.Now().Add(patience); queued.ID == "" && time.Now().Before(end); time.Sleep(time.Millisecond) {
			a.mu.Lock()
			if len(a.sent) > 0 {
				queued, _ = job.Decode(strings.TrimPrefix(a.sent[0], "jobs "))
			}
			a.mu.Unlock()
		}
		ended <- end(t.Context(), table, queued)
	}()
	code, out, errOut = runTools(t, tools.tools, "jobs", "replay", j.ID, "--stack", "Ringback", "--there")
	if err := <-ended; err != nil || code != 0 || !strings.Contains(out, "result     planted result\n") {
		t.Errorf("%v, code %d, %s%s", err, code, out, errOut)
	}
	for id, want := range map[string]string{
		"j_unknown": `there is no job "j_unknown", or its record has expired`,
		queuedAgo(t, table): "are not stored: they have expired, or its tool did not start, " +
			"or argumentRetentionDays was not set then",
	} {
		code, out, errOut := runTools(t, tools.tools, "jobs", "replay", id, "--stack", "Ringback")
		if code != 1 || !strings.Contains(errOut, want) {
			t.Errorf("%s: code %d, %s%s", id, code, out, errOut)
		}
	}
}

// end ends a replay, as the functions do.
func end(ctx context.Context, table *jobtable.Table, j job.Job) error {
	now := time.Now()
	if _, err := table.Claim(ctx, job.NewRecord(j, job.Policy{}, j.CallEnds, "m", now, time.Minute)); err != nil {
		return err
	}
	result := job.Result{Status: job.StatusOK, Content: "planted result", Delivery: policy.DeliveryRespond}
	for _, rule := range []job.Rule{job.Finish(now, result, false, ""), job.Settle(now, job.StateReplayed, "")} {
		if _, err := table.Change(ctx, j.ID, rule); err != nil {
			return err
		}
	}
	return nil
}

// queuedAgo stores a job without a copy of its arguments, and returns its id.
func queuedAgo(t *testing.T, table *jobtable.Table) string {
	t.Helper()
	return ends(t, table, "planted-call", "t2", job.StatusOK, job.StateDelivered)
}

// TestReplayWithSettings replays jobs of the shipped tools in a program without their settings. A local run hands over
// those that its tools have, to programs with its token only.
func TestReplayWithSettings(t *testing.T) {
	withoutSettings(t)
	const secret = "planted-secret"
	t.Setenv("STOCK_API_TOKEN", secret)
	// The project of the command does not have the tools of the demonstration.
	none := func() ([]asynctool.Definition, error) { return nil, nil }
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: shop.All, ShopDelay: time.Millisecond})
	addr := strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/vapi")
	id := eventsOf(t, shop.All, new(syncBuffer), "order_status", "order_id=A-1042", "--url", at)[0].JobID
	asks := eventsOf(t, shop.All, new(syncBuffer), "notify_when_ready", "subject=x", "--url", at)[0].JobID
	for _, name := range []string{"ORDERS_API_URL", "STOCK_API_URL", "STOCK_API_TOKEN", "REQUESTS_API_URL"} {
		os.Unsetenv(name) // the run is another program
	}
	for _, tools := range []cli.Tools{none, shop.All} {
		os.Unsetenv("ORDERS_API_URL")
		code, out, errOut := runTools(t, tools, "jobs", "replay", id, "--local", "--addr", addr)
		if code != 0 || !strings.Contains(out, "A-1042") || errOut != "ORDERS_API_URL is that of the local run.\n" ||
			strings.Contains(out+errOut, secret) {
			t.Errorf("code %d, %s%s", code, out, errOut)
		}
	}
	if got := os.Getenv("STOCK_API_TOKEN"); got != secret {
		t.Errorf("the token that a tool needs is %q", got)
	}
	code, out, errOut := runTools(t, none, "jobs", "replay", asks, "--local", "--addr", addr)
	if code != 1 || !strings.Contains(errOut, "COMPLETION_URL is not set; a tool that leaves its job to an external "+
		"system needs --there\n") {
		t.Errorf("code %d, %s%s", code, out, errOut)
	}
	// What is set here counts.
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	t.Setenv("ORDERS_API_URL", other.URL)
	code, out, errOut = runTools(t, shop.All, "jobs", "replay", id, "--local", "--addr", addr)
	if code != 1 || !strings.Contains(errOut, "the tool failed: ") || strings.Contains(errOut, "of the local run") {
		t.Errorf("code %d, %s%s", code, out, errOut)
	}
	for _, header := range []string{"", "Bearer wrong"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/replays/settings", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", header)
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusUnauthorized || strings.Contains(string(body), secret) {
			t.Errorf("%q: %s, %s, %v", header, answer.Status, body, err)
		}
	}
}

// TestReplayWithoutSettings replays a job whose tool lacks a setting, here and in the local run.
func TestReplayWithoutSettings(t *testing.T) {
	withoutSettings(t)
	tools := func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{asynctool.Tool[struct{}]{
			Name: "lookup", Description: "x", Attempts: 3, Settings: []string{"PLANTED_URL", "PLANTED_KEY"},
			Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
				return asynctool.Text("Done."), nil
			},
		}}, nil
	}
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: tools})
	addr := strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/vapi")
	_, out, _ := runTools(t, tools, "call", "lookup", "--url", at, "--json")
	id := regexp.MustCompile(`"jobId":"(j_[^"]+)"`).FindStringSubmatch(out)
	if id == nil {
		t.Fatal(out)
	}
	t.Setenv("EDITOR", "false") // it is not asked for
	for _, flag := range []string{"--yes", "--edit", "--deliver"} {
		code, out, errOut := runTools(t, tools, "jobs", "replay", id[1], flag, "--local", "--addr", addr)
		if code != 1 || out != "" || !strings.Contains(errOut, "nothing was run: lookup needs PLANTED_URL and PLANTED_KEY, "+
			"which this environment lacks; set it here or in .env, or use --there") {
			t.Errorf("%s: code %d, %s%s", flag, code, out, errOut)
		}
	}
	code, out, errOut := runTools(t, tools, "jobs", "replay", id[1], "--there", "--local", "--addr", addr)
	if code != 1 ||
		!strings.Contains(errOut, "the tool failed: not set in the environment: PLANTED_URL, PLANTED_KEY; see ") {
		t.Errorf("code %d, %s%s", code, out, errOut)
	}
}

// fixedKey encrypts with one data key.
type fixedKey []byte

func (k fixedKey) Seal(_ context.Context, name string, plaintext []byte) ([]byte, error) {
	return encryption.Seal(k, []byte("encrypted"), plaintext, name)
}
