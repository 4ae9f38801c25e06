// Package functions_test checks what the Lambda functions and the command line are linked with.
package functions_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTimeZones checks which functions contain the time zones. AWS's images may have none. The ack
// function needs none, and a caller waits for its start.
func TestTimeZones(t *testing.T) {
	for name, want := range map[string]bool{"ack": false, "process": true, "callback": true} {
		if slices.Contains(links(t, "./"+name), "time/tzdata") != want {
			t.Errorf("%s: contains the time zones: %t, want %t", name, !want, want)
		}
	}
}

// Each pattern matches the import paths that one of the packages in run must not link. The tools are the user's, and
// may import anything.
var (
	cdk   = `github\.com/aws/(aws-cdk-go|constructs-go|jsii-runtime-go)(/.*)?|RINGBACK/infra/.*`
	tests = `testing(/.*)?|net/http/httptest|RINGBACK/(asynctooltest|internal/(fakevapi|tooltest))`
	// local is what runs on a developer's machine only.
	local = `RINGBACK/(examples|internal/(cli|console|local|operator|page))(/.*)?|github\.com/alecthomas/kong|` +
		`github\.com/aws/aws-sdk-go-v2/(config|service/(cloudformation|cloudwatchlogs|sso|ssooidc|sts))`
	// theTools is what tools are written with.
	theTools = `RINGBACK/(asynctool|httptool|tools)|github\.com/google/jsonschema-go/.*|sigs\.k8s\.io/yaml|` +
		`go\.yaml\.in/.*|golang\.org/x/text/.*`
	// In schemas, newer clients of the SDK describe every operation of their service, at each start. That took the ack
	// function a quarter of its start, so go.mod has older clients.
	schemas = `github\.com/aws/aws-sdk-go-v2/service/[a-z]+/schemas`
)

// TestLinks checks that no function links what only another one, the stack or the command line needs, and that
// the command line does not link the CDK. The CDK takes longer
// to compile than everything else in a user's command line.
func TestLinks(t *testing.T) {
	for name, row := range map[string]struct {
		forbidden []string
		planted   []string // further packages, each of which one of the patterns matches
	}{
		"ack": {
			[]string{cdk, tests, local, theTools, schemas, `go\.opentelemetry\.io/.*`, `google\.golang\.org/protobuf/.*`,
				`RINGBACK/(internal/(batch|callback|process|tracing)|vapi/vapiclient)(/.*)?`,
				`github\.com/aws/aws-sdk-go-v2/service/(eventbridge|kms|scheduler|secretsmanager)`},
			[]string{"net/http/httptest", "RINGBACK/internal/page", "RINGBACK/asynctool",
				"go.opentelemetry.io/otel", "RINGBACK/vapi/vapiclient", "github.com/aws/aws-sdk-go-v2/service/kms",
				"github.com/aws/aws-sdk-go-v2/service/secretsmanager",
				"github.com/aws/aws-sdk-go-v2/service/cloudformation/schemas"},
		},
		"process": {
			[]string{cdk, tests, local, schemas, `RINGBACK/(httptool|tools|vapi/vapiauth)|sigs\.k8s\.io/yaml`,
				`RINGBACK/(internal/(ack|callback)|vapi/vapiclient)(/.*)?`, `code\.dny\.dev/ssrf`,
				`github\.com/aws/aws-sdk-go-v2/service/(eventbridge|secretsmanager)`},
			[]string{"testing", "RINGBACK/internal/local/memqueue", "RINGBACK/httptool",
				"RINGBACK/internal/callback/hours", "RINGBACK/vapi/vapiauth",
				"github.com/aws/aws-sdk-go-v2/service/eventbridge", "github.com/aws/aws-sdk-go-v2/service/secretsmanager",
				"github.com/aws/aws-sdk-go-v2/service/cloudformation/schemas"},
		},
		"callback": {
			[]string{cdk, tests, local, theTools, schemas, `RINGBACK/(internal/(ack|encryption|process)|vapi/vapiauth)(/.*)?`,
				`github\.com/aws/aws-sdk-go-v2/service/(kms|scheduler|secretsmanager)`},
			[]string{"RINGBACK/examples/shop", "RINGBACK/internal/console", "RINGBACK/httptool",
				"RINGBACK/internal/process/toolrun", "github.com/aws/aws-sdk-go-v2/service/scheduler",
				"github.com/aws/aws-sdk-go-v2/service/secretsmanager",
				"github.com/aws/aws-sdk-go-v2/service/cloudformation/schemas"},
		},
		"command": {
			[]string{cdk, tests,
				`RINGBACK/(internal/aws/function|run/(ack|callback|process))|github\.com/aws/aws-lambda-go/lambda`,
				`github\.com/aws/aws-sdk-go-v2/service/eventbridge`},
			[]string{"RINGBACK/asynctooltest", "RINGBACK/run/ack",
				"github.com/aws/aws-sdk-go-v2/service/eventbridge"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			forbidden := regexp.MustCompile("^(" + path(strings.Join(row.forbidden, "|")) + ")$")
			if got := matching(forbidden, links(t, "../run/"+name)); len(got) > 0 {
				t.Errorf("run/%s links %q", name, got)
			}
			planted := append(row.planted, "RINGBACK/infra/ringback", "github.com/aws/jsii-runtime-go")
			got := matching(forbidden, links(t, "../run/"+name, planted...))
			for _, p := range planted {
				if !slices.Contains(got, path(p)) {
					t.Errorf("run/%s could link %s", name, p)
				}
			}
		})
	}
}

func path(short string) string {
	return strings.ReplaceAll(short, "RINGBACK", "github.com/ringback/ringback")
}

func matching(pattern *regexp.Regexp, packages []string) []string {
	return slices.DeleteFunc(packages, func(p string) bool { return !pattern.MatchString(p) })
}

// links returns the packages that the package in a folder is linked with as a Lambda function, if it also had a file
// with these imports.
func links(t *testing.T, folder string, imports ...string) []string {
	t.Helper()
	arguments := []string{"list", "-deps", "-tags", "lambda.norpc"}
	if len(imports) > 0 {
		name := filepath.Join(t.TempDir(), "planted.go")
		code := "package " + filepath.Base(folder) + "\n"
		for _, i := range imports {
			code += "import _ \"" + path(i) + "\"\n"
		}
		if err := os.WriteFile(name, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		planted, err := filepath.Abs(filepath.Join(folder, "planted.go"))
		if err != nil {
			t.Fatal(err)
		}
		overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{planted: name}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "overlay.json")
		if err := os.WriteFile(file, overlay, 0o600); err != nil {
			t.Fatal(err)
		}
		arguments = append(arguments, "-overlay", file)
	}
	list := exec.CommandContext(t.Context(), "go", append(arguments, folder)...)
	list.Env = append(list.Environ(), "GOOS=linux")
	packages, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(packages))
}
