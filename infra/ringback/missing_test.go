package ringback

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/deployment"
)

// outputOf returns the value of an output, as JSON if it is not a text.
func outputOf(t *testing.T, stack awscdk.Stack, name string) string {
	t.Helper()
	outputs := *assertions.Template_FromStack(stack, nil).FindOutputs(jsii.String(name), nil)
	if outputs[name] == nil {
		t.Fatalf("there is no output %s", name)
	}
	value := (*outputs[name])["Value"]
	if text, ok := value.(string); ok {
		return text
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMissingToolSettings names what the tools of the shop lack: in an output, and in a warning while the app is
// synthesised. The app may add variables to the function until then.
func TestMissingToolSettings(t *testing.T) {
	all := map[string]any{
		"ORDERS_API_URL": "https://orders.example.com", "REQUESTS_API_URL": "https://requests.example.com",
		"STOCK_API_URL": "https://stock.example.com", "STOCK_API_TOKEN": "secret:" + anySecret,
	}
	without := func(name string) map[string]any {
		some := maps.Clone(all)
		delete(some, name)
		return some
	}
	empty := maps.Clone(all)
	empty["STOCK_API_URL"] = ""
	for name, row := range map[string]struct {
		context map[string]any
		add     string // a variable that the app adds
		output  string
		warning string
	}{
		"all are missing": {
			context: map[string]any{}, output: "ORDERS_API_URL, REQUESTS_API_URL, STOCK_API_TOKEN, STOCK_API_URL",
			warning: "notify_when_ready lacks REQUESTS_API_URL, order_status lacks ORDERS_API_URL, restock_date lacks " +
				"STOCK_API_URL and STOCK_API_TOKEN. Callers hear that the service isn't available.",
		},
		"one is missing": {
			context: without("ORDERS_API_URL"), output: "ORDERS_API_URL", warning: "order_status lacks ORDERS_API_URL.",
		},
		"a secret is missing": {
			context: without("STOCK_API_TOKEN"), output: "STOCK_API_TOKEN", warning: "restock_date lacks STOCK_API_TOKEN.",
		},
		"one is empty":          {context: empty, output: "STOCK_API_URL", warning: "restock_date lacks STOCK_API_URL."},
		"none is missing":       {context: all, output: "none"},
		"the app adds the last": {context: without("ORDERS_API_URL"), add: "ORDERS_API_URL", output: "none"},
	} {
		t.Run(name, func(t *testing.T) {
			context := maps.Clone(row.context)
			context["binaries"] = "testdata/functions"
			app := awscdk.NewApp(&awscdk.AppProps{
				Context: &context, Outdir: jsii.String(t.TempDir()), AnalyticsReporting: jsii.Bool(false),
			})
			stack, err := NewStack(app, shop.All)
			if err != nil {
				t.Fatal(err)
			}
			if row.add != "" {
				stack.Ringback.Process.AddEnvironment(&row.add, stack.Ringback.Table.TableName(), nil)
			}
			if got := outputOf(t, stack.Stack, deployment.MissingSettingsOutput); got != row.output {
				t.Errorf("the output is %s, want %s", got, row.output)
			}
			annotations := assertions.Annotations_FromStack(stack.Stack)
			warnings := func(text string) int {
				pattern := assertions.Match_StringLikeRegexp(jsii.String(regexp.QuoteMeta(text)))
				return len(*annotations.FindWarning(jsii.String("*"), pattern))
			}
			if all, wanted := warnings(" lacks "), warnings(row.warning); row.warning == "" && all != 0 ||
				row.warning != "" && (all != 1 || wanted != 1) {
				t.Errorf("there are %d warnings, %d of them %q", all, wanted, row.warning)
			}
		})
	}
}

// TestValuesOfTheDeployment refuses no value that only the deployment knows, and names those that the app has added
// and that a tool cannot work with.
func TestValuesOfTheDeployment(t *testing.T) {
	for name, row := range map[string]struct {
		context map[string]any
		add     func(*Stack) *string // the value of STOCK_API_URL that the app adds
		want    string               // an error of the synthesis
	}{
		"a secret": {map[string]any{"STOCK_API_URL": "secret:" + anySecret + "#url"}, nil, ""},
		"a token":  {map[string]any{}, func(s *Stack) *string { return s.Ringback.Table.TableName() }, ""},
		"a mixture": {map[string]any{}, func(s *Stack) *string {
			return jsii.String("https://" + *s.Ringback.Table.TableName() + ".example.com")
		}, ""},
		"a parameter": {map[string]any{}, func(*Stack) *string { return jsii.String("{{resolve:ssm:/stock/url}}") }, ""},
		"a listener":  {map[string]any{"listen": "true", "STOCK_API_URL": "stock.example.com"}, nil, ""},
		"a text":      {map[string]any{}, func(*Stack) *string { return jsii.String("https://stock.example.com") }, ""},
		"a wrong text": {map[string]any{}, func(*Stack) *string { return jsii.String("stock.example.com") },
			"the tool setting STOCK_API_URL cannot be used by the tool restock_date: the url " + notAnAddress + "."},
	} {
		t.Run(name, func(t *testing.T) {
			context := row.context
			context["binaries"] = "testdata/functions"
			app := awscdk.NewApp(&awscdk.AppProps{
				Context: &context, Outdir: jsii.String(t.TempDir()), AnalyticsReporting: jsii.Bool(false),
			})
			stack, err := NewStack(app, shop.All)
			if err != nil {
				t.Fatal(err)
			}
			if row.add != nil {
				stack.Ringback.Process.AddEnvironment(jsii.String("STOCK_API_URL"), row.add(stack), nil)
			}
			errors := func(pattern string) int {
				matcher := assertions.Match_StringLikeRegexp(&pattern)
				return len(*assertions.Annotations_FromStack(stack.Stack).FindError(jsii.String("*"), matcher))
			}
			wanted := 0
			if row.want != "" {
				wanted = 1
			}
			if all, named := errors(""), errors("^"+regexp.QuoteMeta(row.want)+"$"); all != wanted || named != wanted {
				t.Errorf("there are %d errors, %d of them %q", all, named, row.want)
			}
		})
	}
}

// TestVendedLogs names the log group only if the setting is on, because a name replaces the group of an existing
// stack. Without the setting, the synthesis asks for it.
func TestVendedLogs(t *testing.T) {
	names := func(context map[string]any) []string {
		stack, err := app(t, context)
		if err != nil {
			t.Fatal(err)
		}
		asks := len(*assertions.Annotations_FromStack(stack).FindInfo(jsii.String("/"+*stack.StackName()),
			assertions.Match_StringLikeRegexp(jsii.String("vendedLogs is not set")))) == 1
		if asks != (context["vendedLogs"] == nil) {
			t.Errorf("%v: the synthesis asks for vendedLogs: %t", context, asks)
		}
		var names []string
		for _, group := range *assertions.Template_FromStack(stack, nil).FindResources(
			jsii.String("AWS::Logs::LogGroup"), nil) {
			if name := (*group)["Properties"].(map[string]any)["LogGroupName"]; name != nil {
				names = append(names, fmt.Sprint(name))
			}
		}
		return names
	}
	for _, context := range []map[string]any{{}, {"stage": "dev"}, {"vendedLogs": false}} {
		if got := names(context); len(got) > 0 {
			t.Errorf("%v: log groups are named: %q", context, got)
		}
	}
	plain := names(map[string]any{"vendedLogs": true})
	stage := names(map[string]any{"vendedLogs": "true", "stage": "dev"})
	for _, got := range [][]string{plain, stage} {
		if len(got) != 1 || !strings.HasPrefix(got[0], "/aws/vendedlogs/Ringback") || !strings.HasSuffix(got[0], "/access") {
			t.Errorf("got %q", got)
		}
	}
	if slices.Equal(plain, stage) {
		t.Errorf("both stages have the log group %q", plain)
	}
}

// TestEventBusARN passes the ARN of a bus on to the callback function, since a name means a bus of its account.
func TestEventBusARN(t *testing.T) {
	const arn = "arn:aws:events:eu-central-1:444455556666:event-bus/operations"
	for value, want := range map[string]string{"operations": "operations", arn: arn} {
		stack, err := app(t, map[string]any{"eventBus": value})
		if err != nil {
			t.Fatal(err)
		}
		functions := *assertions.Template_FromStack(stack, nil).FindResources(jsii.String("AWS::Lambda::Function"), nil)
		var got []any
		for _, f := range functions {
			environment := (*f)["Properties"].(map[string]any)["Environment"].(map[string]any)
			if name := environment["Variables"].(map[string]any)["EVENT_BUS_NAME"]; name != nil {
				got = append(got, name)
			}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s: EVENT_BUS_NAME is %v", value, got)
		}
		policies, err := json.Marshal(*assertions.Template_FromStack(stack, nil).FindResources(
			jsii.String("AWS::IAM::Policy"), nil))
		if err != nil || !strings.Contains(string(policies), "event-bus/operations") {
			t.Errorf("%s: the function may not publish to it: %v", value, err)
		}
	}
}

// TestBinariesOfAnotherArchitecture passes binaries that Lambda cannot run.
func TestBinariesOfAnotherArchitecture(t *testing.T) {
	folder := t.TempDir()
	for _, name := range functionNames {
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
		// The header of an ELF file without sections.
		header := slices.Concat([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57))
		header[16], header[18], header[20], header[52], header[58] = 2, byte(elf.EM_X86_64), 1, 64, 64
		if err := os.WriteFile(filepath.Join(folder, name, "bootstrap"), header, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for architecture, want := range map[awslambda.Architecture]string{
		awslambda.Architecture_X86_64(): "",
		awslambda.Architecture_ARM_64(): fmt.Sprintf("Binaries is %q; its ack/bootstrap is built for EM_X86_64, and "+
			"Architecture is arm64", folder),
	} {
		err := (&Props{Binaries: folder, Architecture: architecture}).checkBinaries()
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: %v", *architecture.Name(), err)
		}
	}
}
