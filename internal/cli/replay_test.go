package cli_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
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
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/dev"
)

// replayed are tools that record the idempotency keys and arguments of their calls.
type replayed struct{ keys, orders []string }

func (r *replayed) tools() ([]asynctool.Definition, error) {
	type in struct {
		Order string `json:"order"`
	}
	tool := func(name string, attempts int) asynctool.Definition {
		return asynctool.Tool[in]{
			Name: name, Description: "x", Attempts: attempts,
			Run: func(_ context.Context, c asynctool.Call, args in) (asynctool.Result, error) {
				r.keys, r.orders = append(r.keys, c.IdempotencyKey()), append(r.orders, args.Order)
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
	there, here := new(replayed), new(replayed)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: there.tools})
	addr := strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/vapi")
	ids := map[string]string{}
	for _, tool := range []string{"lookup", "refund"} {
		code, out, errOut := runTools(t, there.tools, "call", tool, "order=A-1", "--url", at, "--json")
		id := regexp.MustCompile(`"jobId":"(j_[^"]+)"`).FindStringSubmatch(out)
		if code != 0 || id == nil {
			t.Fatalf("code %d, %s%s", code, out, errOut)
		}
		ids[tool] = id[1]
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
	if _, errOut := replay(1, ids["lookup"], "--edit", "--deliver"); !strings.Contains(errOut, "the tool failed") {
		t.Error(errOut)
	}

	// The call of the original is over, so its result becomes an event. There, the tool runs once more.
	if _, errOut := replay(0, ids["lookup"], "--deliver"); !strings.Contains(errOut, "as that of the job j_replay") {
		t.Error(errOut)
	}
	out, _ := replay(0, ids["lookup"], "--there")
	id := strings.TrimSpace(out)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		code, out, errOut := runTools(t, here.tools, "jobs", "show", id, "--local", "--addr", addr)
		if code == 0 && strings.Contains(out, "undelivered") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s%s", out, errOut)
		}
	}
	if len(there.keys) != 3 || there.keys[2] != id {
		t.Errorf("there: %q", there.keys)
	}
	for want, arguments := range map[string][]string{
		`the arguments of the job "j_unknown" are not stored`: {"j_unknown"},
		"--same-key is not for --there":                       {ids["lookup"], "--same-key", "--there"},
		"is not for --there":                                  {ids["lookup"], "--timeout", "1h", "--there"},
	} {
		if _, errOut := replay(1, arguments...); !strings.Contains(errOut, want) {
			t.Errorf("%q: %s", arguments, errOut)
		}
	}
}

// TestReplayOfADeployment replays a job of a deployment here.
func TestReplayOfADeployment(t *testing.T) {
	a, _ := inAccount(t)
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
	if code, out, errOut = runTools(t, tools.tools, "jobs", "replay", j.ID, "--stack", "Ringback", "--there"); code != 0 {
		t.Fatalf("code %d, %s%s", code, out, errOut)
	}
	sent, _ = strings.CutPrefix(a.sent[0], "jobs ")
	if queued, err := job.Decode(sent); err != nil || queued.ID != strings.TrimSpace(out) ||
		queued.Call.CustomerNumber+queued.Call.ControlURL != "" || string(queued.Arguments) != string(j.Arguments) {
		t.Errorf("%+v, %v", queued, err)
	}
}

// fixedKey encrypts with one data key.
type fixedKey []byte

func (k fixedKey) Seal(_ context.Context, name string, plaintext []byte) ([]byte, error) {
	return encryption.Seal(k, []byte("encrypted"), plaintext, name)
}
