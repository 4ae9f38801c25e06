package cli_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/cli"
)

// amazon simulates STS and CloudFormation.
type amazon struct {
	expired, unprepared, denied bool
}

func (a amazon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	fail := func(code, message string) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "<ErrorResponse><Error><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", code, message)
	}
	switch action := form.Get("Action"); {
	case action == "GetCallerIdentity" && a.expired:
		fail("ExpiredToken", "the token has expired")
	case action == "GetCallerIdentity":
		io.WriteString(w, "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>111122223333</Account>"+
			"</GetCallerIdentityResult></GetCallerIdentityResponse>")
	case form.Get("StackName") != "CDKToolkit":
		fail("ValidationError", "unexpected stack")
	case a.unprepared:
		fail("ValidationError", "Stack with id CDKToolkit does not exist")
	case a.denied:
		fail("AccessDenied", "no such permission")
	default:
		io.WriteString(w, "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>CDKToolkit</StackName>"+
			"</member></Stacks></DescribeStacksResult></DescribeStacksResponse>")
	}
}

func orderStatus() ([]asynctool.Definition, error) {
	return []asynctool.Definition{shop.OrderStatus(os.Getenv)}, nil
}

// TestDoctorLocal checks projects in which one thing each is wrong.
func TestDoctorLocal(t *testing.T) {
	type world struct {
		tools    cli.Tools
		programs map[string]string // what they print; empty: they fail
		files    map[string]string
		env      map[string]string
		amazon   amazon
	}
	for name, row := range map[string]struct {
		change func(w *world)
		want   map[string]string // verdicts that are not "ok", with a part of the remedy or of the detail
	}{
		"all is well": {func(*world) {}, nil},
		"an invalid tool": {func(w *world) {
			w.tools = func() ([]asynctool.Definition, error) { return nil, errors.New("tool refund: no schema") }
		}, map[string]string{"tools": "failed tool refund: no schema"}},
		"no tools": {func(w *world) { w.tools = func() ([]asynctool.Definition, error) { return nil, nil } },
			map[string]string{"tools": "warning Add a tool"}},
		"a missing setting": {func(w *world) { w.tools, w.env["ORDERS_API_URL"] = orderStatus, "" }, map[string]string{
			"settings": "warning order_status cannot work on this machine: the environment lacks ORDERS_API_URL"}},
		"a wrong setting": {func(w *world) { w.tools, w.env["ORDERS_API_URL"] = orderStatus, "s3cret.example.com" },
			map[string]string{"settings": "failed ORDERS_API_URL cannot be used by the tool order_status: it is not an"}},
		"a tool that works": {func(w *world) { w.tools = orderStatus }, nil},
		"an old Go": {func(w *world) { w.programs["go"] = "go1.25.9" },
			map[string]string{"Go": "failed it is go1.25.9, and go.mod requires go1.26.0"}},
		"no Go": {func(w *world) { delete(w.programs, "go") },
			map[string]string{"Go": "failed it is not in the PATH"}},
		"another folder": {func(w *world) { delete(w.files, "go.mod") },
			map[string]string{"Go": "failed in the folder of"}},
		"an old Node.js": {func(w *world) { w.programs["node"] = "v9.11.2" },
			map[string]string{"Node.js": "failed it is v9.11.2"}},
		"no Node.js": {func(w *world) { delete(w.programs, "node") },
			map[string]string{"Node.js": "failed Install Node.js 22"}},
		"another node": {func(w *world) { w.programs["node"] = "hello" }, map[string]string{"Node.js": "unchecked"}},
		"a broken npm": {func(w *world) { w.programs["npm"] = "" }, map[string]string{"npm": "failed exit status 1"}},
		"a committed key": {func(w *world) { w.files[".env"], w.programs["git"] = "K=v", ".env" },
			map[string]string{".env": "failed git rm --cached .env"}},
		"an own key": {func(w *world) { w.files[".env"] = "K=v" }, nil},
		"settings to fill in": {func(w *world) { w.files[".env.example"] = "K=" },
			map[string]string{".env": "warning cp .env.example .env"}},
		"no region": {func(w *world) { w.env["AWS_REGION"] = "" }, map[string]string{
			"AWS credentials": "failed no region is selected", "CDK bootstrap": "unchecked"}},
		"no credentials": {func(w *world) { w.env["AWS_ACCESS_KEY_ID"] = "" }, map[string]string{
			"AWS credentials": "failed aws configure", "CDK bootstrap": "unchecked"}},
		"an expired session": {func(w *world) { w.amazon.expired = true }, map[string]string{
			"AWS credentials": "failed ExpiredToken: the token has expired", "CDK bootstrap": "unchecked"}},
		"no network": {func(w *world) { w.env["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1" }, map[string]string{
			"AWS credentials": "unchecked AWS cannot be reached", "CDK bootstrap": "unchecked"}},
		"no bootstrap": {func(w *world) { w.amazon.unprepared = true },
			map[string]string{"CDK bootstrap": "failed make bootstrap"}},
		"no right to look": {func(w *world) { w.amazon.denied = true },
			map[string]string{"CDK bootstrap": "unchecked AccessDenied"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := world{
				tools:    shop.All,
				programs: map[string]string{"go": "go1.26.3", "node": "v22.1.0", "npm": "10.9.0", "git": ""},
				files:    map[string]string{"go.mod": "module example.com/voice\n\ngo 1.26.0\n"},
				env: map[string]string{
					"ORDERS_API_URL": "https://example.com", "REQUESTS_API_URL": "https://example.com", "STOCK_API_TOKEN": "token",
					"STOCK_API_URL": "https://example.com", "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "id",
					"AWS_SECRET_ACCESS_KEY": "key", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_DEFAULT_REGION": "",
					"AWS_CONFIG_FILE": os.DevNull, "AWS_MAX_ATTEMPTS": "1", "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
					"AWS_EC2_METADATA_DISABLED": "true",
				},
			}
			row.change(&w)
			server := httptest.NewServer(w.amazon)
			defer server.Close()
			t.Setenv("AWS_ENDPOINT_URL", server.URL)
			for name, value := range w.env {
				t.Setenv(name, value)
			}
			t.Chdir(t.TempDir())
			for name, text := range w.files {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			bin := t.TempDir()
			for name, prints := range w.programs {
				script := "#!/bin/sh\n" + map[bool]string{true: "exit 1", false: "echo " + prints}[prints == ""] + "\n"
				if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", bin)

			var out, errOut strings.Builder
			code := cli.Run(w.tools, []string{"doctor", "--local", "--json"}, &out, &errOut)
			var checks []struct{ Check, Verdict, Detail, Remedy string }
			if err := json.Unmarshal([]byte(out.String()), &checks); err != nil {
				t.Fatalf("code %d, %v: %s%s", code, err, &out, &errOut)
			}
			failed := false
			for _, c := range checks {
				verdict, part, _ := strings.Cut(row.want[c.Check], " ")
				if row.want[c.Check] == "" {
					verdict = "ok"
				}
				if c.Verdict != verdict || !strings.Contains(c.Detail+" "+c.Remedy, part) ||
					c.Verdict == "failed" && c.Remedy == "" {
					t.Errorf("%+v, want %s %s", c, verdict, part)
				}
				failed = failed || verdict == "failed"
			}
			all := 8
			if row.want["tools"] != "" { // there are no settings
				all--
			}
			if len(checks) != all || (code == 1) != failed {
				t.Errorf("%d checks, code %d, err %q", len(checks), code, &errOut)
			}
		})
	}
}
