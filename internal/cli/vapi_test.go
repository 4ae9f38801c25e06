package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/tools"
)

const (
	privateKey = "private-key"
	bearer     = `{"type":"bearer","token":"t0ken"}`
	hook       = "https://abc123.execute-api.eu-central-1.amazonaws.com/vapi"
)

// atVapi is an organisation at Vapi that the command line is pointed to.
func atVapi(t *testing.T) *fakevapi.Account {
	t.Helper()
	account := &fakevapi.Account{Key: privateKey}
	server := httptest.NewServer(account)
	t.Cleanup(server.Close)
	t.Setenv("VAPI_API_KEY", privateKey)
	t.Setenv("VAPI_API_URL", server.URL)
	return account
}

// deployed is an AWS account with the stack Ringback in it.
func deployed(t *testing.T, secret string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		switch {
		case r.Header.Get("X-Amz-Target") == "secretsmanager.GetSecretValue":
			_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": secret})
		case form.Get("Action") == "DescribeStacks" && form.Get("StackName") == "Ringback":
			w.Header().Set("Content-Type", "text/xml")
			fmt.Fprintf(w, `<DescribeStacksResponse><DescribeStacksResult><Stacks><member><Outputs>`+
				`<member><OutputKey>WebhookUrl</OutputKey><OutputValue>%s</OutputValue></member><member><OutputKey>WebhookSecretArn</OutputKey><OutputValue>arn</OutputValue></member>`+
				`</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>`, hook)
		case form.Get("Action") == "GetTemplate":
			w.Header().Set("Content-Type", "text/xml")
			io.WriteString(w, `<GetTemplateResponse><GetTemplateResult><TemplateBody>{}</TemplateBody></GetTemplateResult></GetTemplateResponse>`)
		default:
			w.WriteHeader(400)
			io.WriteString(w, `<ErrorResponse><Error><Code>ValidationError</Code><Message>Stack does not exist</Message></Error></ErrorResponse>`)
		}
	}))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_PROFILE": "", "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
	} {
		t.Setenv(name, value)
	}
}

// toolNames are the names of the tools that there are: whoever adds one need not
// change these tests.
func toolNames(t *testing.T) []string {
	t.Helper()
	definitions, err := tools.All()
	if err != nil {
		t.Fatal(err)
	}
	set, err := asynctool.NewSet(definitions...)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range set.Entries() {
		names = append(names, e.Name)
	}
	return names
}

func TestTools(t *testing.T) {
	code, out, errOut := run(t, "tools")
	for _, part := range []string{"order_status  async, strict, up to 2m30s for each of 3 attempts", "    - order_id (string): the order number", "- quantity (integer, optional): how many"} {
		if code != 0 || !strings.Contains(out, part) {
			t.Errorf("code %d, no %q in\n%s%s", code, part, out, errOut)
		}
	}
	code, out, errOut = run(t, "tools", "--json", "--url", hook, "--credential", "c-1")
	var bodies []json.RawMessage
	if err := json.Unmarshal([]byte(out), &bodies); err != nil || code != 0 || len(bodies) != len(toolNames(t)) {
		t.Fatalf("code %d, %v, %s%s", code, err, out, errOut)
	}
	for _, body := range bodies {
		if err := fakevapi.Check("CreateFunctionToolDTO", body); err != nil || !strings.Contains(string(body), hook) || !strings.Contains(string(body), "c-1") {
			t.Errorf("%v: %s", err, body)
		}
	}
}

func TestSyncCommand(t *testing.T) {
	account := atVapi(t)
	deployed(t, `[{"type":"bearer","token":"t0ken"},{"type":"hmac","secretKey":"k3y","algorithm":"sha256"}]`)
	id := account.Add("assistant", `{"name":"Shop","model":{"provider":"openai"}}`)
	sync := func(more ...string) (int, string, string) {
		t.Helper()
		code, out, errOut := run(t, append([]string{"sync", "--stack", "Ringback", "--assistant", id}, more...)...)
		for _, secret := range []string{privateKey, "t0ken", "k3y"} {
			if strings.Contains(out+errOut, secret) {
				t.Errorf("%s is told:\n%s%s", secret, out, errOut)
			}
		}
		return code, out, errOut
	}

	code, out, errOut := sync("--dry-run")
	for _, part := range []string{"+ credential ringback ", "+ tool order_status\n", "~ assistant " + id + " (\"Shop\")\n    attach " + strings.Join(toolNames(t), ", ") + "\n", "Nothing was written"} {
		if code != 0 || !strings.Contains(out, part) {
			t.Errorf("code %d, no %q in\n%s%s", code, part, out, errOut)
		}
	}
	if writes := fakevapi.Writes(account.Requests()); len(writes) > 0 {
		t.Errorf("the dry run wrote %v", writes)
	}

	code, out, errOut = sync()
	for _, part := range []string{"created the credential ringback ", "created the tool restock_date\n", "attached " + strings.Join(toolNames(t), ", ") + " to the assistant " + id} {
		if code != 0 || !strings.Contains(out, part) {
			t.Errorf("code %d, no %q in\n%s%s", code, part, out, errOut)
		}
	}
	account.Requests()

	if code, out, errOut = sync(); code != 0 || out != "Nothing to do.\n" || strings.Contains(errOut, "ringback:") {
		t.Errorf("code %d, %q, %q", code, out, errOut)
	}
	if writes := fakevapi.Writes(account.Requests()); len(writes) > 0 {
		t.Errorf("the second sync wrote %v", writes)
	}

	if code, out, _ = sync("--hmac"); code != 0 || !strings.Contains(out, "~ credential ringback ") || !strings.Contains(string(account.Objects("credential")[0]), `"type":"hmac"`) {
		t.Errorf("code %d, %s", code, out)
	}

	account.Add("tool", `{"type":"function","function":{"name":"order_status"}}`)
	if code, out, errOut = sync("--hmac"); code != 1 || !strings.Contains(out, "conflict: 2 tools at Vapi are named order_status") || !strings.Contains(errOut, "need you") {
		t.Errorf("code %d, %s%s", code, out, errOut)
	}
}

func TestSyncCommandRefuses(t *testing.T) {
	account := atVapi(t)
	for name, row := range map[string]struct {
		arguments []string
		code      int
		err       string
	}{
		"nothing":                {nil, 1, "which deployment? give --stack, or --url"},
		"both":                   {[]string{"--url", hook, "--stack", "Ringback"}, 80, "can't be used together"},
		"no credential":          {[]string{"--url", hook}, 1, "the deployment's credential is needed"},
		"broken credential":      {[]string{"--url", hook, "--auth", "t0ken"}, 1, "--auth: webhook credential: not JSON"},
		"not hmac":               {[]string{"--url", hook, "--auth", bearer, "--hmac"}, 1, "is not of type hmac"},
		"hmac and a credential":  {[]string{"--url", hook, "--hmac", "--credential", "x"}, 80, "can't be used together"},
		"plain http":             {[]string{"--url", "http://example.com/vapi", "--auth", bearer}, 1, "must begin with https://"},
		"no such assistant":      {[]string{"--url", hook, "--auth", bearer, "--assistant", "nobody"}, 1, "nobody does not exist"},
		"another region":         {[]string{"--url", hook, "--auth", bearer, "--region", "moon"}, 80, "--region"},
		"a key on the arguments": {[]string{"--url", hook, "--key", privateKey}, 80, "unknown flag --key"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errOut := run(t, append([]string{"sync"}, row.arguments...)...)
			if code != row.code || !strings.Contains(errOut, row.err) || out != "" {
				t.Errorf("code %d, %q, %q", code, out, errOut)
			}
		})
	}
	if writes := fakevapi.Writes(account.Requests()); len(writes) > 0 {
		t.Errorf("wrote %v", writes)
	}
	// A failure half-way says how to go on, and going on works.
	account.Fail(5, fakevapi.Forbidden, false)
	code, out, errOut := run(t, "sync", "--url", hook, "--auth", bearer)
	if code != 1 || !strings.Contains(out, "created the tool order_status") || !strings.Contains(errOut, "run it again, and it goes on from here") {
		t.Errorf("code %d, %s%s", code, out, errOut)
	}
	code, out, errOut = run(t, "sync", "--url", hook, "--auth", bearer)
	if code != 0 || strings.Contains(out, "order_status") || !strings.Contains(out, "created the tool spending_report") {
		t.Errorf("code %d, %s%s", code, out, errOut)
	}
	t.Setenv("VAPI_API_KEY", "")
	if code, _, errOut := run(t, "sync", "--url", hook, "--auth", bearer); code != 1 || !strings.Contains(errOut, "VAPI_API_KEY") {
		t.Errorf("code %d, %s", code, errOut)
	}
}

func TestDoctorCommand(t *testing.T) {
	account := atVapi(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			w.WriteHeader(401)
		}
	}))
	defer server.Close()
	id := account.Add("assistant", `{"name":"Shop","monitorPlan":{"controlEnabled":false},"model":{"provider":"openai"}}`)
	code, out, errOut := run(t, "doctor", "--assistant", id, "--url", server.URL, "--auth", bearer)
	for _, part := range []string{
		"failed    tool order_status: Vapi has no tool of this name\n          Run ringback sync.\n",
		"failed    control " + id + ": live control is off",
		"ok        webhook, unsigned: refused with 401\n", "ok        webhook, signed: taken with 200\n",
	} {
		if code != 1 || !strings.Contains(out, part) {
			t.Errorf("code %d, no %q in\n%s%s", code, part, out, errOut)
		}
	}
	if !strings.Contains(errOut, "checks failed") {
		t.Errorf("%q", errOut)
	}

	code, out, _ = run(t, "doctor", "--assistant", id, "--url", server.URL, "--auth", bearer, "--json")
	var checks []struct{ Check, Verdict, Detail, Remedy string }
	if err := json.Unmarshal([]byte(out), &checks); err != nil || code != 1 || len(checks) < 10 || checks[0].Check != "tool" || checks[0].Verdict != "failed" {
		t.Errorf("code %d, %v, %s", code, err, out)
	}

	// A stack that is not there is said before Vapi is asked.
	deployed(t, bearer)
	account.Requests()
	if code, _, errOut := run(t, "doctor", "--assistant", id, "--stack", "Ringbacks"); code != 1 || !strings.Contains(errOut, "the stack Ringbacks cannot be read: ValidationError") || len(account.Requests()) > 0 {
		t.Errorf("code %d, %s", code, errOut)
	}
	if code, _, errOut := run(t, "doctor"); code != 80 || !strings.Contains(errOut, "--assistant") {
		t.Errorf("code %d, %s", code, errOut)
	}
}

// TestDoctorOfALocalRun examines what sync made, and the real run on this
// machine: all is well, and the exit code says so.
func TestDoctorOfALocalRun(t *testing.T) {
	account := atVapi(t)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Auth: bearer, Tools: tools.All})
	id := account.Add("assistant", `{"silenceTimeoutSeconds":600,"model":{"provider":"openai","messages":[{"role":"system","content":"`+strings.Join(toolNames(t), ", ")+`"}]}}`)
	// Vapi would be told of a tunnel to it.
	if code, out, errOut := run(t, "sync", "--url", hook, "--auth", bearer, "--assistant", id); code != 0 {
		t.Fatalf("%s%s", out, errOut)
	}
	for _, raw := range account.Objects("tool") {
		var tool struct {
			ID     string
			Server map[string]any
		}
		if err := json.Unmarshal(raw, &tool); err != nil {
			t.Fatal(err)
		}
		tool.Server["url"] = at
		server, _ := json.Marshal(tool.Server)
		account.Change("tool", tool.ID, "server", string(server))
	}
	code, out, errOut := run(t, "doctor", "--assistant", id, "--auth", bearer)
	if code != 0 || strings.Contains(out, "failed") || !strings.Contains(out, "ok        webhook, signed: taken with 200") {
		t.Errorf("code %d\n%s%s", code, out, errOut)
	}
}

// startDev starts the local run and gives its webhook's URL.
func startDev(t *testing.T, cfg dev.Config) string {
	t.Helper()
	var screen syncBuffer
	cfg.Out = &screen
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx, ctx, cfg) }()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	for {
		if url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/vapi`).FindString(screen.String()); url != "" {
			return url
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the local run ended: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
