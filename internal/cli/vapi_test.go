package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/cli/stack/stacktest"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/local/dev"
)

const (
	privateKey = "private-key"
	hookToken  = "t0ken-of-the-webhook-at-Vapi"
	bearer     = `{"type":"bearer","token":"` + hookToken + `"}`
	hmac       = `{"type":"hmac","secretKey":"k3y-of-the-webhook-at-Vapi","algorithm":"sha256"}`
	hook       = "https://abc123.execute-api.eu-central-1.amazonaws.com/vapi"
)

// atVapi makes the command line use a simulated account at Vapi.
func atVapi(t *testing.T) *fakevapi.Account {
	t.Helper()
	account := &fakevapi.Account{Key: privateKey}
	server := httptest.NewServer(account)
	t.Cleanup(server.Close)
	t.Setenv("VAPI_API_KEY", privateKey)
	t.Setenv("VAPI_API_URL", server.URL)
	// The previous bodies are stored there.
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	return account
}

// useAWS makes the command line send its requests for AWS to a server.
func useAWS(t *testing.T, h http.Handler) (url string) {
	t.Helper()
	url, env := newAWS(t, h)
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	return url
}

// newAWS serves AWS. It returns its URL, and the environment of a program that uses it.
func newAWS(t *testing.T, h http.Handler) (url string, env []string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL, []string{
		"AWS_ENDPOINT_URL=" + server.URL, "AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret",
		"AWS_PROFILE=", "AWS_CONFIG_FILE=/nowhere", "AWS_SHARED_CREDENTIALS_FILE=/nowhere",
	}
}

// writeStack answers DescribeStacks.
func writeStack(w http.ResponseWriter, outputs map[string]string) {
	w.Header().Set("Content-Type", "text/xml")
	io.WriteString(w, "<DescribeStacksResponse><DescribeStacksResult><Stacks><member>"+
		"<StackId>arn:aws:cloudformation:eu-central-1:111122223333:stack/Ringback/1</StackId><Outputs>")
	for key, value := range outputs {
		fmt.Fprintf(w, "<member><OutputKey>%s</OutputKey><OutputValue>%s</OutputValue></member>", key, value)
	}
	io.WriteString(w, "</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>")
}

// deployed makes the command line use an AWS account with the stack Ringback, and returns its secret. More are the
// names and values of further outputs.
func deployed(t *testing.T, text string, more ...string) *stacktest.Secret {
	t.Helper()
	secret := stacktest.NewSecret(text)
	outputs := map[string]string{"WebhookUrl": hook, "WebhookSecretArn": "arn"}
	for i := 0; i+1 < len(more); i += 2 {
		outputs[more[i]] = more[i+1]
	}
	useAWS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stacktest.Serves(r) {
			secret.ServeHTTP(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		switch {
		case form.Get("Action") == "DescribeStacks" && form.Get("StackName") == "Ringback":
			writeStack(w, outputs)
		case form.Get("Action") == "GetTemplate":
			w.Header().Set("Content-Type", "text/xml")
			io.WriteString(w, "<GetTemplateResponse><GetTemplateResult><TemplateBody>{}</TemplateBody>"+
				"</GetTemplateResult></GetTemplateResponse>")
		default:
			w.WriteHeader(400)
			io.WriteString(w, "<ErrorResponse><Error><Code>ValidationError</Code>"+
				"<Message>Stack does not exist</Message></Error></ErrorResponse>")
		}
	}))
	return secret
}

// toolNames returns the names of the existing tools, so that adding a tool requires no
// change of these tests.
func toolNames(t *testing.T) []string {
	t.Helper()
	definitions, err := shop.All()
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

// runs runs a command line and checks its exit code and parts of its output.
func runs(t *testing.T, arguments []string, code int, parts ...string) (out, errOut string) {
	t.Helper()
	got, out, errOut := run(t, arguments...)
	if got != code {
		t.Errorf("code %d, want %d\n%s%s", got, code, out, errOut)
	}
	for _, part := range parts {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s%s", part, out, errOut)
		}
	}
	return out, errOut
}

// TestSyncLeavesToolsOut syncs with a stack whose tools lack settings. doctor names them.
func TestSyncLeavesToolsOut(t *testing.T) {
	account := atVapi(t)
	deployed(t, bearer, "MissingToolSettings", "ORDERS_API_URL, STOCK_API_TOKEN")
	id := account.Add("assistant", `{"name":"Shop","model":{"provider":"openai","messages":[]}}`)
	out, _ := runs(t, []string{"sync", "--stack", "Ringback", "--assistant", id, "--yes"}, 0,
		"note: the tool order_status is left out, because the deployment lacks ORDERS_API_URL:",
		"note: the tool restock_date is left out, because the deployment lacks STOCK_API_TOKEN:",
		"+ tool notify_when_ready")
	if strings.Contains(out, "+ tool order_status") || strings.Contains(out, "attach order_status") {
		t.Errorf("a tool that cannot work is at Vapi:\n%s", out)
	}
	runs(t, []string{"doctor", "--stack", "Ringback", "--assistant", id}, 1,
		"warning   settings order_status: the deployment lacks ORDERS_API_URL, so sync leaves the tool out")

	deployed(t, bearer, "MissingToolSettings", "none")
	other := account.Add("assistant", `{"name":"Other","model":{"provider":"openai","messages":[]}}`)
	runs(t, []string{"sync", "--stack", "Ringback", "--assistant", id, "--assistant", other, "--yes"}, 0,
		"+ tool order_status", `~ assistant `+id+` ("Shop")`, `~ assistant `+other+` ("Other")`)
}

// TestEmptyIDs passes the variables of NextCommand that are not set. Nothing is asked of Vapi.
func TestEmptyIDs(t *testing.T) {
	account := atVapi(t)
	deployed(t, bearer)
	for _, row := range []struct {
		arguments []string
		code      int
		want      string
	}{
		{[]string{"sync", "--assistant", ""}, 80, "--assistant: it is empty; use the id of an assistant"},
		{[]string{"sync", "--assistant", "a", "--assistant", " "}, 80, "--assistant: it is empty"},
		{[]string{"sync", "--assistant", "a,"}, 80, "--assistant: it is empty"},
		{[]string{"sync", "--credential", ""}, 1, "--credential is empty; use the id of a credential"},
		{[]string{"doctor", "--assistant", ""}, 80, "--assistant: it is empty; use the id of an assistant"},
	} {
		if _, errOut := runs(t, append(row.arguments, "--stack", "Ringback"), row.code); !strings.Contains(errOut, row.want) {
			t.Errorf("%q: %s", row.arguments, errOut)
		}
	}
	if requests := account.Requests(); len(requests) > 0 {
		t.Errorf("it asked Vapi: %v", requests)
	}
	_, errOut := runs(t, []string{"sync", "--credential", "c-9", "--stack", "Ringback"}, 1)
	if !strings.Contains(errOut, "there is no credential c-9 at Vapi") {
		t.Error(errOut)
	}
}

func TestTools(t *testing.T) {
	runs(t, []string{"tools"}, 0, "order_status  async, strict, up to 2m30s for each of 3 attempts",
		"    - order_id (string): the order number", "- quantity (integer, optional): how many")
	code, out, errOut := run(t, "tools", "--json", "--url", hook, "--credential", "c-1")
	var bodies []json.RawMessage
	if err := json.Unmarshal([]byte(out), &bodies); err != nil || code != 0 || len(bodies) != len(toolNames(t)) {
		t.Fatalf("code %d, %v, %s%s", code, err, out, errOut)
	}
	for _, body := range bodies {
		if err := fakevapi.Check("CreateFunctionToolDTO", body); err != nil ||
			!strings.Contains(string(body), hook) || !strings.Contains(string(body), "c-1") {
			t.Errorf("%v: %s", err, body)
		}
	}
}

func TestSyncCommand(t *testing.T) {
	account := atVapi(t)
	deployed(t, "["+bearer+","+hmac+"]")
	id := account.Add("assistant", `{"name":"Shop","model":{"provider":"openai"}}`)
	attached := strings.Join(toolNames(t), ", ")
	sync := func(code int, flag string, parts ...string) (out, errOut string) {
		t.Helper()
		arguments := []string{"sync", "--stack", "Ringback", "--assistant", id, "--yes"}
		if flag != "" {
			arguments = append(arguments, flag)
		}
		out, errOut = runs(t, arguments, code, parts...)
		for _, secret := range []string{privateKey, "t0ken", "k3y"} {
			if strings.Contains(out+errOut, secret) {
				t.Errorf("the output contains %s:\n%s%s", secret, out, errOut)
			}
		}
		return out, errOut
	}

	sync(0, "--dry-run", "+ credential ringback ", "+ tool order_status\n",
		"~ assistant "+id+" (\"Shop\")\n    attach "+attached+"\n", "nothing was changed")
	if writes := fakevapi.Writes(account.Requests()); len(writes) > 0 {
		t.Errorf("the dry run wrote %v", writes)
	}

	sync(0, "", "created the credential ringback ", "created the tool restock_date\n",
		"attached "+attached+" to the assistant "+id)
	account.Requests()

	if out, errOut := sync(0, ""); out != "Nothing to change.\n" || strings.Contains(errOut, "ringback:") {
		t.Errorf("%q, %q", out, errOut)
	}
	if writes := fakevapi.Writes(account.Requests()); len(writes) > 0 {
		t.Errorf("the second sync wrote %v", writes)
	}

	sync(0, "--hmac", "~ credential ringback ")
	if credential := string(account.Objects("credential")[0]); !strings.Contains(credential, `"type":"hmac"`) {
		t.Error(credential)
	}

	account.Add("tool", `{"type":"function","function":{"name":"order_status"}}`)
	_, errOut := sync(1, "--hmac", "conflict: 2 tools at Vapi are named order_status")
	if !strings.Contains(errOut, "1 conflicts need your action") {
		t.Error(errOut)
	}
}

func TestSyncCommandRefuses(t *testing.T) {
	account := atVapi(t)
	for name, row := range map[string]struct {
		arguments []string
		code      int
		err       string
	}{
		"nothing":           {nil, 1, "no deployment is selected; use --stack or --url"},
		"both":              {[]string{"--url", hook, "--stack", "Ringback"}, 80, "can't be used together"},
		"no credential":     {[]string{"--url", hook}, 1, "the deployment's credential is missing"},
		"broken credential": {[]string{"--url", hook, "--auth", "t0ken"}, 1, "--auth: webhook credential: not JSON"},
		"a short token": {[]string{"--url", hook, "--auth", `{"type":"bearer","token":"t0ken"}`}, 1,
			"token has fewer than 24 characters"},
		"a short first token": {[]string{"--url", hook, "--auth", `[{"type":"secret","secret":"t0ken"},` + bearer + "]",
			"--credential", "c-1"}, 1, "secret has fewer than 24 characters"},
		"a short hmac key": {[]string{"--url", hook, "--hmac", "--auth", "[" + bearer +
			`,{"type":"hmac","secretKey":"k3y","algorithm":"sha256"}]`}, 1, "secretKey has fewer than 24 characters"},
		"rotated without a stack": {[]string{"--url", hook, "--auth", bearer, "--rotate", "hmac"}, 1, "use --stack"},
		"rotated to another type": {[]string{"--stack", "Ringback", "--rotate", "bearer"}, 80, "--rotate must be one of"},
		"rotated and chosen":      {[]string{"--stack", "Ringback", "--rotate", "hmac", "--hmac"}, 80, "can't be used"},
		"not hmac":                {[]string{"--url", hook, "--auth", bearer, "--hmac"}, 1, "is not of type hmac"},
		"hmac and credential":     {[]string{"--url", hook, "--hmac", "--credential", "x"}, 80, "can't be used together"},
		"plain http":              {[]string{"--url", "http://a.example/vapi", "--auth", bearer}, 1, "must begin with https://"},
		"unknown assistant":       {[]string{"--url", hook, "--auth", bearer, "--assistant", "a-0"}, 1, "a-0 does not exist"},
		"another region":          {[]string{"--url", hook, "--auth", bearer, "--region", "moon"}, 80, "--region"},
		"a key as an argument":    {[]string{"--url", hook, "--key", privateKey}, 80, "unknown flag --key"},
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
	// A short old credential goes with the rotation.
	runs(t, []string{"sync", "--url", hook, "--dry-run",
		"--auth", "[" + bearer + `,{"type":"secret","secret":"t0ken"}]`}, 0, "Dry run: nothing was changed.")
	// After a failure half-way, the command continues.
	account.Fail(5, fakevapi.FailureForbidden, false)
	arguments := []string{"sync", "--url", hook, "--auth", bearer, "--yes"}
	_, errOut := runs(t, arguments, 1, "created the tool order_status")
	if !strings.Contains(errOut, "run the command again to continue from here") {
		t.Error(errOut)
	}
	if out, errOut := runs(t, arguments, 0, "created the tool spending_report"); strings.Contains(out, "order_status") {
		t.Errorf("%s%s", out, errOut)
	}
	t.Setenv("VAPI_API_KEY", "")
	if _, errOut := runs(t, arguments, 1); !strings.Contains(errOut, "VAPI_API_KEY") {
		t.Error(errOut)
	}
}

// TestSyncCommandNeedsConsent runs without a terminal, which cannot be asked.
func TestSyncCommandNeedsConsent(t *testing.T) {
	account := atVapi(t)
	arguments := []string{"sync", "--url", hook, "--auth", bearer}
	out, errOut := runs(t, arguments, 1, "Organisation at Vapi: unknown", "+ tool order_status\n")
	if !strings.Contains(errOut, "nothing was changed: there is no terminal to ask on; use --yes") {
		t.Errorf("%s%s", out, errOut)
	}
	if writes := fakevapi.Writes(account.Requests()); len(writes) > 0 {
		t.Errorf("wrote %v", writes)
	}
	out, _ = runs(t, append(arguments, "--yes"), 0, "created the tool order_status")
	if strings.Contains(out, "The previous bodies") {
		t.Errorf("nothing was there before:\n%s", out)
	}
	// Nothing to change, so nothing to ask.
	runs(t, arguments, 0, "Nothing to change.")
}

// TestSyncCommandTakesOver meets a tool of another deployment, whose id and server have
// control characters and secrets, and forge a line.
func TestSyncCommandTakesOver(t *testing.T) {
	account := atVapi(t)
	account.Add("tool", `{"id":"t\u001b[2J\n+ tool forged","type":"function",`+
		`"function":{"name":"order_status","description":"theirs"},`+
		`"server":{"url":"https://u:s3cret@a.example/vapi?k=s3cret","headers":{"X-Key":"s3cret"},"credentialId":"c"}}`)
	before := string(account.Objects("tool")[0])
	arguments := []string{"sync", "--url", hook, "--auth", bearer, "--yes"}
	out, errOut := runs(t, arguments, 1, "Organisation at Vapi: "+fakevapi.OrgID+" (the API does not return its name)\n",
		"posts to https://a.example/vapi?…, which sync", "use --take-over order_status.")
	if now := string(account.Objects("tool")[0]); now != before || strings.ContainsAny(out+errOut, "\x1b\x07") ||
		strings.Contains(out+errOut, "s3cret") || strings.Contains(out, "\n+ tool forged") {
		t.Errorf("%s%s\n%s", out, errOut, now)
	}
	out, _ = runs(t, append(arguments, "--take-over", "order_status"), 0, "updated the tool order_status")
	if strings.ContainsAny(out, "\x1b\x07") || strings.Contains(out, "s3cret") {
		t.Errorf("%q", out)
	}
	path := regexp.MustCompile(`The previous bodies are in (\S+\.json)\n`).FindStringSubmatch(out)
	if path == nil {
		t.Fatal(out)
	}
	info, err := os.Stat(path[1])
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	text, err := os.ReadFile(path[1])
	if err != nil {
		t.Fatal(err)
	}
	var kept []struct {
		Resource string
		Body     any
	}
	var want any
	if err := errors.Join(json.Unmarshal(text, &kept), json.Unmarshal([]byte(before), &want)); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 || kept[0].Resource != "tool" || !reflect.DeepEqual(kept[0].Body, want) {
		t.Errorf("%s", text)
	}
	_, errOut = runs(t, append(arguments, "--take-over", "orderstatus"), 1)
	if !strings.Contains(errOut, "no tool orderstatus to take over") {
		t.Error(errOut)
	}
	// Without a place for them, nothing changes.
	account.Requests()
	t.Setenv("HOME", "/dev/null")
	t.Setenv("XDG_CONFIG_HOME", "/dev/null/x")
	_, errOut = runs(t, append(arguments, "--hmac", "--auth", hmac), 1)
	if writes := fakevapi.Writes(account.Requests()); len(writes) > 0 ||
		!strings.Contains(errOut, "nothing was changed: cannot store the previous bodies") {
		t.Errorf("%s, wrote %v", errOut, writes)
	}
}

// TestDoctorObeysNothing has objects at Vapi whose ids a terminal would obey, and which forge a line.
func TestDoctorObeysNothing(t *testing.T) {
	account := atVapi(t)
	const hostile = `x\u001b[2J\u202e\u009b\nok        forged: by an id`
	account.Add("tool", `{"id":"`+hostile+`","type":"function","function":{"name":"Order-Status"}}`)
	account.Add("tool", `{"type":"function","function":{"name":"order_status"},"server":{"url":"`+hook+`",`+
		`"credentialId":"`+hostile+`"}}`)
	id := account.Add("assistant", `{"name":"Shop","model":{"provider":"openai"}}`)
	out, errOut := runs(t, []string{"doctor", "--assistant", id, "--auth", bearer}, 1, "forged: by an id")
	if strings.ContainsAny(out+errOut, "\x1b\u202e\u009b") || strings.Contains(out, "\nok        forged") {
		t.Errorf("%q", out+errOut)
	}
}

func TestDoctorCommand(t *testing.T) {
	account := atVapi(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+hookToken {
			w.WriteHeader(401)
		}
	}))
	defer server.Close()
	id := account.Add("assistant",
		`{"name":"Shop","monitorPlan":{"controlEnabled":false},"model":{"provider":"openai"}}`)
	arguments := []string{"doctor", "--assistant", id, "--url", server.URL, "--auth", bearer}
	_, errOut := runs(t, arguments, 1,
		"failed    tool order_status: Vapi has no tool with this name\n          Run ringback sync.\n",
		"failed    control "+id+": live control is off",
		"ok        webhook, unsigned: refused with 401\n",
		"ok        webhook, signed: accepted with 200\n")
	if !strings.Contains(errOut, "checks failed") {
		t.Errorf("%q", errOut)
	}

	out, _ := runs(t, append(arguments, "--json"), 1)
	var checks []struct{ Check, Verdict, Detail, Remedy string }
	if err := json.Unmarshal([]byte(out), &checks); err != nil || len(checks) < 10 ||
		checks[0].Check != "tool" || checks[0].Verdict != "failed" {
		t.Errorf("%v, %s", err, out)
	}

	// A missing stack is reported before the first request to Vapi.
	deployed(t, bearer)
	account.Requests()
	_, errOut = runs(t, []string{"doctor", "--assistant", id, "--stack", "Ringbacks"}, 1)
	if !strings.Contains(errOut, "cannot read the stack Ringbacks: ValidationError") || len(account.Requests()) > 0 {
		t.Error(errOut)
	}
	for _, flag := range []string{"--rate=0", "--concurrency=-1"} {
		_, errOut := runs(t, []string{"doctor", "--assistant", id, flag}, 1)
		if !strings.Contains(errOut, "must be positive") {
			t.Error(errOut)
		}
	}
	if _, errOut := runs(t, []string{"doctor"}, 80); !strings.Contains(errOut, "--assistant") {
		t.Error(errOut)
	}
}

// TestDoctorOfALocalRun checks what sync created, with the prompts that the command prints,
// and a real local run. No check fails.
func TestDoctorOfALocalRun(t *testing.T) {
	quoted := func(text string) string {
		quoted, _ := json.Marshal(text)
		return string(quoted)
	}
	_, prompt, _ := run(t, "prompt")
	_, both, _ := run(t, "prompt", "--gpt-live")
	speaker, reasoner, _ := strings.Cut(both, "# Reasoner: ")
	for name, row := range map[string]struct{ model, check string }{
		"classic": {`{"provider":"openai","messages":[{"role":"system","content":` + quoted(prompt) + `}]}`,
			"the system prompt mentions every tool by name"},
		"GPT-Live": {`{"provider":"openai","model":"gpt-live-1","speaker":{"instructions":` + quoted(speaker) +
			`},"reasoner":{"instructions":` + quoted(reasoner) + `}}`, "can fetch the real one with task_status"},
	} {
		t.Run(name, func(t *testing.T) {
			account := atVapi(t)
			at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Auth: bearer, Tools: shop.All})
			id := account.Add("assistant", `{"silenceTimeoutSeconds":600,"monitorPlan":`+
				`{"controlAuthenticationEnabled":true},"model":`+row.model+`}`)
			// Vapi would reach the local run by a tunnel.
			runs(t, []string{"sync", "--url", hook, "--auth", bearer, "--assistant", id, "--yes"}, 0)
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
			out, errOut := runs(t, []string{"doctor", "--assistant", id, "--auth", bearer}, 0,
				"ok        webhook, signed: accepted with 200", row.check)
			if strings.Contains(out, "failed") {
				t.Errorf("%s%s", out, errOut)
			}
		})
	}
}

// withoutSettings removes the settings of the tools from the environment.
func withoutSettings(t *testing.T) {
	for _, name := range []string{"ORDERS_API_URL", "STOCK_API_URL", "STOCK_API_TOKEN", "REQUESTS_API_URL"} {
		t.Setenv(name, "")
	}
}

// startDev starts a local run and returns the URL of its webhook. The run must end
// without an error.
func startDev(t *testing.T, cfg dev.Config) string {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var screen syncBuffer
	cfg.Out = &screen
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx, context.Background(), cfg) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
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
