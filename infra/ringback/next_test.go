package ringback

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/cli/stack/stacktest"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/fakevapi"
)

// TestNextCommand runs the command as it is printed, with its variables set. It wires the tools into the assistant, at
// the API of the organisation's region, with the credential that the stack has or the one of the variable.
func TestNextCommand(t *testing.T) {
	const oauth2 = ` --credential "$CREDENTIAL_ID"`
	europe := maps.Clone(withJWT)
	europe["vapiApiUrl"] = "https://api.eu.vapi.ai"
	for name, row := range map[string]struct {
		context map[string]any
		want    string // after the name of the stack
		api     string // the host that sync asks
	}{
		"plain":            {map[string]any{}, ` --assistant "$ASSISTANT_ID"`, "api.vapi.ai"},
		"a stage":          {map[string]any{"stage": "dev"}, `-dev --assistant "$ASSISTANT_ID"`, "api.vapi.ai"},
		"OAuth2":           {maps.Clone(withJWT), ` --assistant "$ASSISTANT_ID"` + oauth2, "api.vapi.ai"},
		"OAuth2 in Europe": {europe, ` --region eu --assistant "$ASSISTANT_ID"` + oauth2, "api.eu.vapi.ai"},
		"Europe": {map[string]any{"vapiApiUrl": "https://api.eu.vapi.ai/"},
			` --region eu --assistant "$ASSISTANT_ID"`, "api.eu.vapi.ai"},
		"another API": {map[string]any{"vapiApiUrl": "https://vapi.example.com"},
			` --api https://vapi.example.com --assistant "$ASSISTANT_ID"`, "vapi.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			stack, err := app(t, row.context)
			if err != nil {
				t.Fatal(err)
			}
			printed := inRegion(t, outputOf(t, stack, "NextCommand"))
			want := "AWS_REGION=eu-central-1 go run ./cmd/ringback sync --stack Ringback" + row.want
			if printed != want {
				t.Fatalf("got %s\nwant %s", printed, want)
			}
			asWritten := strings.HasSuffix(row.want, oauth2)
			deployed(t, stack)
			account := &fakevapi.Account{Key: "private-key"}
			hosts := atVapi(t, account)
			assistant := account.Add("assistant", `{"name":"Shop","model":{"provider":"openai"}}`)
			credential := account.Add("credential", `{"provider":"webhook","name":"OAuth2"}`)
			t.Setenv("ASSISTANT_ID", assistant)
			t.Setenv("CREDENTIAL_ID", credential)
			arguments := words(t, printed)
			if got := arguments[:3]; !slices.Equal(got, []string{"AWS_REGION=eu-central-1", "run", "./cmd/ringback"}) {
				t.Fatalf("the shell runs go with %q", got)
			}

			var out bytes.Buffer
			if code := cli.Run(shop.All, append(arguments[3:], "--yes"), &out, &out); code != 0 {
				t.Fatalf("code %d\n%s", code, out.String())
			}
			if got := slices.Sorted(maps.Keys(hosts)); !slices.Equal(got, []string{row.api}) {
				t.Errorf("it asked %q", got)
			}
			tools := account.Objects("tool")
			for _, tool := range tools {
				if used := strings.Contains(string(tool), credential); used != asWritten ||
					!strings.Contains(string(tool), hook) {
					t.Errorf("a tool uses the credential of the variable: %t\n%s", used, tool)
				}
			}
			if made := len(account.Objects("credential")) - 1; made != 0 && asWritten || made != 1 && !asWritten {
				t.Errorf("%d credentials were created", made)
			}
			if attached := string(account.Objects("assistant")[0]); len(tools) == 0 || !strings.Contains(attached, "toolIds") {
				t.Errorf("%d tools; the assistant is %s", len(tools), attached)
			}
		})
	}
}

const hook = "https://abc123.execute-api.eu-central-1.amazonaws.com/vapi"

// inRegion returns the text of an output that depends on nothing but the region.
func inRegion(t *testing.T, value string) string {
	t.Helper()
	var joined map[string][]any
	if err := json.Unmarshal([]byte(value), &joined); err != nil || len(joined["Fn::Join"]) != 2 {
		t.Fatalf("%v: %s", err, value)
	}
	text := ""
	for _, part := range joined["Fn::Join"][1].([]any) {
		if of, ok := part.(map[string]any); ok {
			if of["Ref"] != "AWS::Region" {
				t.Fatalf("%s depends on %v", value, of)
			}
			part = "eu-central-1"
		}
		text += part.(string)
	}
	return text
}

// words returns the region and the arguments that a shell passes to the go command.
func words(t *testing.T, line string) []string {
	t.Helper()
	const program = `go() { printf 'AWS_REGION=%s\n' "$AWS_REGION"; printf '%s\n' "$@"; }; `
	out, err := exec.CommandContext(t.Context(), "sh", "-c", program+line).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// deployed makes the command line use an AWS account that has the stack, with its outputs.
func deployed(t *testing.T, stack awscdk.Stack) {
	t.Helper()
	answer := "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><Outputs>"
	for name, output := range *assertions.Template_FromStack(stack, nil).FindOutputs(jsii.String("*"), nil) {
		value := "of-the-deployment"
		if text, ok := (*output)["Value"].(string); ok {
			value = text
		}
		if name == deployment.WebhookURLOutput {
			value = hook
		}
		answer += fmt.Sprintf("<member><OutputKey>%s</OutputKey><OutputValue>%s</OutputValue></member>", name, value)
	}
	answer += "</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
	secret := stacktest.NewSecret(`{"type":"bearer","token":"t0ken-of-the-webhook-at-Vapi"}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stacktest.Serves(r) {
			secret.ServeHTTP(w, r)
			return
		}
		if name := r.FormValue("StackName"); name != *stack.StackName() {
			t.Errorf("the command asks for the stack %q", name)
		}
		w.Header().Set("Content-Type", "text/xml")
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_REGION": "eu-central-1",
		"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
	} {
		t.Setenv(name, value)
	}
}

// atVapi makes the command line use a simulated account, at whichever address, and returns the hosts it asked.
func atVapi(t *testing.T, account *fakevapi.Account) (hosts map[string]bool) {
	t.Helper()
	t.Setenv("VAPI_API_KEY", account.Key)
	t.Setenv("VAPI_API_URL", "")
	home := t.TempDir() // for the previous bodies of what sync changes
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	hosts = map[string]bool{}
	before := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = before })
	http.DefaultTransport = roundTrip(func(r *http.Request) (*http.Response, error) {
		hosts[r.URL.Host] = true
		answer := httptest.NewRecorder()
		account.ServeHTTP(answer, r)
		return answer.Result(), nil
	})
	return hosts
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
