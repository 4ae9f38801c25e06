//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/cli/scaffold"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi/vapiauth"
)

const (
	stack  = "Ringback-e2e"
	second = "Ringback-second"
	token  = "not-a-secret-but-long-enough-to-be-one"
)

// deployment is the deployment under test.
type deployment struct {
	*emulator
	*world
	project   string            // the folder of the generated project
	out       string            // the folder that the CDK CLI writes
	settings  []string          // -c …
	secrets   map[string]string // ARNs, by name
	outputs   map[string]string // of the stack
	resources map[string]string // physical ids by logical ids
	template  template          // as it was synthesised
}

type template struct {
	Resources map[string]resource
}

type resource struct {
	Type           string
	Properties     map[string]any
	DeletionPolicy string
}

func TestDeployment(t *testing.T) {
	// Everything ends before the time limit of `go test`, and at an interrupt, so that no process stays
	// behind.
	ctx := t.Context()
	if limit, limited := t.Deadline(); limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, limit.Add(-cleanUp))
		defer cancel()
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()

	d := &deployment{world: startWorld(t), emulator: startEmulator(t, ctx)}
	d.generate(t, ctx)
	d.out = filepath.Join(d.folder, "cdk.out")
	architecture := map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]
	d.secrets = map[string]string{}
	for name, value := range map[string]string{
		"webhook":    `{"type":"bearer","token":"` + token + `"}`,
		"completion": completionKeys(oldKey, ""),
		"private":    privateKey,
	} {
		secret, err := secretsmanager.NewFromConfig(d.aws()).CreateSecret(ctx, &secretsmanager.CreateSecretInput{
			Name: aws.String(name), SecretString: aws.String(value),
		})
		if err != nil {
			t.Fatal(err)
		}
		d.secrets[name] = *secret.ARN
	}
	d.settings = []string{
		"stage=e2e", "architecture=" + architecture, "controlHosts=" + d.host(),
		"webhookSecretArn=" + d.secrets["webhook"], "completionSecretArn=" + d.secrets["completion"],
		"privateKeySecretArn=" + d.secrets["private"], "vapiApiUrl=" + d.vapi.URL, "callBackHours=00:00-24:00",
		"ORDERS_API_URL=" + d.server.URL, "REQUESTS_API_URL=" + d.server.URL, "E2E_URL=" + d.server.URL,
		"argumentRetentionDays=1", "undeliveredEmail=someone@example.com", "alarmEmail=operator@example.com",
	}

	step := func(name string, test func(*testing.T, context.Context)) {
		if t.Failed() || ctx.Err() != nil {
			t.Fatalf("%s: skipped, because an earlier step failed", name)
		}
		t.Run(name, func(t *testing.T) { test(t, ctx) })
	}
	step("bootstrap", func(t *testing.T, ctx context.Context) {
		place := "aws://" + account + "/" + region
		printed(t, d.run(t, ctx, "bootstrap", place), "✅  Environment "+place+" bootstrapped.\n")
	})
	step("synth", func(t *testing.T, ctx context.Context) {
		printed(t, d.run(t, ctx, "synth"), "WARNING ", "restock_date lacks STOCK_API_URL and STOCK_API_TOKEN. Callers hear ")
	})
	step("deploy", d.deploy)
	step("resources", d.compare)
	step("permissions", d.permissions)
	step("calls", d.calls)
	step("list of calls", d.listed)
	step("page", d.shownInBrowser)
	step("logs", d.logs)
	step("diff", d.diff)
	step("destroy", d.destroy)
}

// generate writes a new project, as "ringback init" does. Its tools are those of testdata/tools.go.
func (d *deployment) generate(t *testing.T, ctx context.Context) {
	t.Helper()
	from, err := scaffold.SourceOf(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.project = filepath.Join(d.folder, "voice")
	if err := scaffold.Write(d.project, "example.com/acme/voice", from); err != nil {
		t.Fatal(err)
	}
	first, err := filepath.Glob(filepath.Join(d.project, "tools", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range first {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	d.change(t, nil)
	d.leaveOutQueries(t)
	run(t, ctx, d.project, os.Environ(), "go", "mod", "tidy")
}

// leaveOutQueries makes the project's app remove the saved queries of the logs, a type of resource that the emulator
// does not know.
func (d *deployment) leaveOutQueries(t *testing.T) {
	t.Helper()
	file := filepath.Join(d.project, "infra/main.go")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for old, replacement := range map[string]string{
		"if _, err := ringback.NewStack(app, tools.All); err != nil {": "stack, err := ringback.NewStack(app, tools.All)\n" +
			"\tif err != nil {",
		"app.Synth(nil)": `for _, id := range []string{"CallQuery", "JobQuery", "ToolQuery"} {
		if !*stack.Ringback.Node().TryRemoveChild(&id) {
			panic(id)
		}
	}
	app.Synth(nil)`,
	} {
		if bytes.Count(text, []byte(old)) != 1 {
			t.Fatalf("%q does not occur once in infra/main.go", old)
		}
		text = bytes.Replace(text, []byte(old), []byte(replacement), 1)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// change writes the tools of the project, with some values replaced.
func (d *deployment) change(t *testing.T, values map[string]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/tools.go")
	if err != nil {
		t.Fatal(err)
	}
	for old, replacement := range values {
		if bytes.Count(text, []byte(old)) != 1 {
			t.Fatalf("%q does not occur once", old)
		}
		text = bytes.Replace(text, []byte(old), []byte(replacement), 1)
	}
	// Another stage may be synthesised at the same time.
	file := filepath.Join(d.project, "tools", "tools.go")
	err = os.WriteFile(file+".new", text, 0o600)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// version2 is the other version of the tools.
var version2 = map[string]string{"e2eVersion = 1": "e2eVersion = 2"}

// run makes a target of the project, which installs the CDK CLI of the project first and passes the arguments on to it.
func (d *deployment) run(t *testing.T, ctx context.Context, target string, arguments ...string) string {
	t.Helper()
	arguments = append(arguments, "--output", d.out, "--no-color")
	for _, s := range d.settings {
		arguments = append(arguments, "--context", s)
	}
	return run(t, ctx, d.project, d.env, "make", target, "ARGS="+strings.Join(arguments, " "))
}

// printed checks that the CDK CLI prints what docs/deploy.md quotes.
func printed(t *testing.T, output string, quoted ...string) {
	t.Helper()
	for _, part := range quoted {
		if !strings.Contains(output, part) {
			t.Errorf("%q is not printed:\n%s", part, output)
		}
	}
}

func (d *deployment) deploy(t *testing.T, ctx context.Context) {
	printed(t, d.run(t, ctx, "deploy", "--require-approval", "never"), "✅  "+stack+"\n", "\nOutputs:\n",
		"\n"+stack+".MissingToolSettings = STOCK_API_TOKEN, STOCK_API_URL\n",
		"\n"+stack+".NextCommand = AWS_REGION="+region+" go run ./cmd/ringback sync --stack "+stack+" ")
	d.read(t, ctx, stack)
	for _, name := range slices.Sorted(maps.Keys(d.outputs)) {
		t.Logf("%s = %s", name, d.outputs[name])
	}
	d.permitEmulator(t, ctx)
}

// read reads the template of a stack, and what was deployed.
func (d *deployment) read(t *testing.T, ctx context.Context, stack string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.out, stack+".template.json"))
	if err != nil {
		t.Fatal(err)
	}
	d.template = template{}
	if err := json.Unmarshal(text, &d.template); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(d.template.Resources, func(id string, _ resource) bool { return id == "CDKMetadata" })
	d.outputs = d.stackOutputs(t, ctx, stack)
	d.resources = d.stackResources(t, ctx, stack)
}

func (d *deployment) stackOutputs(t *testing.T, ctx context.Context, stack string) map[string]string {
	t.Helper()
	client := cloudformation.NewFromConfig(d.aws())
	described, err := client.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(stack)})
	if err != nil || len(described.Stacks) != 1 {
		t.Fatalf("cannot describe the stack: %v", err)
	}
	outputs := map[string]string{}
	for _, o := range described.Stacks[0].Outputs {
		outputs[*o.OutputKey] = *o.OutputValue
	}
	return outputs
}

func (d *deployment) stackResources(t *testing.T, ctx context.Context, stack string) map[string]string {
	t.Helper()
	pages := cloudformation.NewListStackResourcesPaginator(cloudformation.NewFromConfig(d.aws()),
		&cloudformation.ListStackResourcesInput{StackName: aws.String(stack)})
	resources := map[string]string{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.StackResourceSummaries {
			if !strings.HasSuffix(string(r.ResourceStatus), "_COMPLETE") {
				t.Errorf("%s is %s", *r.LogicalResourceId, r.ResourceStatus)
			}
			resources[*r.LogicalResourceId] = aws.ToString(r.PhysicalResourceId)
		}
	}
	return resources
}

// compare compares the resources with the template. A stack that is complete does not prove that they
// exist.
func (d *deployment) compare(t *testing.T, ctx context.Context) {
	want, got := slices.Sorted(maps.Keys(d.template.Resources)), slices.Sorted(maps.Keys(d.resources))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("resources of the stack (-template +stack):\n%s", diff)
	}
	lists := d.listings()
	compared := map[string]int{}
	for id, r := range d.template.Resources {
		if list := lists[r.Type]; list != nil {
			text, err := list(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), listed(d.resources[id])) {
				t.Errorf("no %s %s:\n%s", r.Type, d.resources[id], text)
			}
			compared[r.Type]++
		}
		if r.Type == "AWS::IAM::Policy" {
			for _, ref := range r.Properties["Roles"].([]any) {
				role := d.resources[ref.(map[string]any)["Ref"].(string)]
				var live any
				if err := json.Unmarshal(d.policy(t, ctx, role, r.Properties["PolicyName"].(string)), &live); err != nil {
					t.Fatal(err)
				}
				d.subset(t, id, r.Properties["PolicyDocument"], live)
				compared[r.Type]++
			}
		}
		live, err := d.live(ctx, r.Type, d.resources[id])
		if err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if live != nil {
			d.subset(t, id, r.Properties, live)
			compared[r.Type+", its properties"]++
		}
	}
	for kind := range lists {
		if compared[kind] == 0 && kind != "AWS::SecretsManager::Secret" {
			t.Errorf("no %s was compared", kind)
		}
	}
	t.Logf("compared: %v", compared)
}

// live returns a resource as its service describes it, under CloudFormation's names. It returns nil for
// kinds whose properties are not compared.
func (d *deployment) live(ctx context.Context, kind, id string) (map[string]any, error) {
	var text []byte
	var err error
	switch kind {
	case "AWS::Lambda::Function":
		text, err = d.get(ctx, "lambda", "/2015-03-31/functions/"+id+"/configuration")
	case "AWS::Lambda::EventSourceMapping":
		text, err = d.get(ctx, "lambda", "/2015-03-31/event-source-mappings/"+id)
	case "AWS::ApiGatewayV2::Stage":
		text, err = d.get(ctx, "apigateway", "/v2/apis/"+d.one("AWS::ApiGatewayV2::Api")+"/stages/"+id)
	case "AWS::ApiGatewayV2::Route":
		text, err = d.get(ctx, "apigateway", "/v2/apis/"+d.one("AWS::ApiGatewayV2::Api")+"/routes/"+last(id))
	case "AWS::Events::Rule":
		text, err = d.target(ctx, "events", "AWSEvents.DescribeRule",
			map[string]string{"Name": last(id), "EventBusName": d.outputs["EventBusName"]})
	case "AWS::SQS::Queue":
		text, err = d.target(ctx, "sqs", "AmazonSQS.GetQueueAttributes",
			map[string]any{"QueueUrl": id, "AttributeNames": []string{"All"}})
	case "AWS::DynamoDB::Table":
		text, err = d.target(ctx, "dynamodb", "DynamoDB_20120810.DescribeTable", map[string]string{"TableName": id})
	case "AWS::Scheduler::ScheduleGroup":
		text, err = d.get(ctx, "scheduler", "/schedule-groups/"+id)
	case "AWS::IAM::Role":
		if text, err = d.trust(ctx, id); err == nil {
			text = fmt.Appendf(nil, `{"AssumeRolePolicyDocument":%s}`, text)
		}
	case "AWS::Logs::LogGroup":
		text, err = d.target(ctx, "logs", "Logs_20140328.DescribeLogGroups", map[string]any{"logGroupNamePrefix": id})
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var live map[string]any
	if err := json.Unmarshal(text, &live); err != nil {
		return nil, err
	}
	if attributes, ok := live["Attributes"].(map[string]any); ok {
		live = attributes
	}
	if table, ok := live["Table"].(map[string]any); ok {
		live = table
		if mode, ok := table["BillingModeSummary"].(map[string]any); ok {
			live["BillingMode"] = mode["BillingMode"]
		}
	}
	if groups, ok := live["logGroups"].([]any); ok && len(groups) > 0 {
		live = groups[0].(map[string]any)
	}
	return live, nil
}

func (d *deployment) one(kind string) string {
	for id, r := range d.template.Resources {
		if r.Type == kind {
			return d.resources[id]
		}
	}
	return ""
}

// elsewhere lists the properties that the service does not describe together with the resource. The
// calls show, for example, that a function's code works.
var elsewhere = []string{
	"Code", "Targets", "AccessLogSettings", "ApiId", "FunctionName", "EventBusName", "Description", "Policies",
	// The emulator's CloudFormation does not set these two.
	"TimeToLiveSpecification", "PointInTimeRecoverySpecification",
}

// subset checks that got contains everything in want, which is a part of the template. The case of names
// differs between services, and numbers may be texts.
func (d *deployment) subset(t *testing.T, where string, want, got any) {
	t.Helper()
	if text, ok := got.(string); ok {
		// Some services store an object as the text of its JSON.
		if _, structured := want.(map[string]any); structured && strings.HasPrefix(text, "{") {
			var object any
			if json.Unmarshal([]byte(text), &object) == nil {
				got = object
			}
		}
	}
	switch want := want.(type) {
	case map[string]any:
		if value, ok := d.resolve(want); ok {
			if !strings.Contains(fmt.Sprint(got), value) {
				t.Errorf("%s refers to %v, not to %s", where, got, value)
			}
			return
		}
		object, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is %v, not %v", where, got, want)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if slices.Contains(elsewhere, name) {
				continue
			}
			found := false
			for key, value := range object {
				if strings.EqualFold(key, name) {
					found = true
					d.subset(t, where+"."+name, want[name], value)
				}
			}
			if !found {
				t.Errorf("%s has no %s: %v", where, name, object)
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			t.Errorf("%s is %v, not %v", where, got, want)
			return
		}
		for i := range want {
			d.subset(t, where+"."+strconv.Itoa(i), want[i], list[i])
		}
	default:
		if fmt.Sprint(want) != fmt.Sprint(got) && fmt.Sprintf("%.0f", want) != fmt.Sprint(got) {
			t.Errorf("%s is %v, not %v", where, got, want)
		}
	}
}

// resolve returns the last part of the physical id that a reference in the template refers to. It
// reports whether the value is a reference.
func (d *deployment) resolve(v map[string]any) (string, bool) {
	var id string
	if ref, ok := v["Ref"].(string); ok {
		id = ref
	} else if get, ok := v["Fn::GetAtt"].([]any); ok {
		id = get[0].(string)
	} else if v["Fn::Join"] != nil {
		return "", true
	} else {
		return "", false
	}
	return last(d.resources[id]), true
}

// last returns the last part of a physical id, which may be a name, a URL, an ARN or several ids in one.
// The part before it can have two forms.
func last(id string) string { return id[strings.LastIndexAny(id, "/:|")+1:] }

// listed returns the form of a physical id in a listing, where the host of a queue's URL may differ.
func listed(id string) string {
	if strings.HasPrefix(id, "https://") {
		return last(id)
	}
	return id
}

// secondStage deploys the app a second time, with a generated secret and a table that is deleted with its
// stack. Then it makes the stage one for listeners.
func (d *deployment) secondStage(t *testing.T, ctx context.Context) {
	other := d.second()
	other.run(t, ctx, "deploy", "--require-approval", "never")
	outputs := other.stackOutputs(t, ctx, second)
	for name, value := range outputs {
		if value == d.outputs[name] {
			t.Errorf("both stages have the same %s: %s", name, value)
		}
	}
	secret, err := secretsmanager.NewFromConfig(d.aws()).GetSecretValue(ctx,
		&secretsmanager.GetSecretValueInput{SecretId: aws.String(outputs["WebhookSecretArn"])})
	if err != nil {
		t.Fatal(err)
	}
	plans, err := vapiauth.ParsePlans([]byte(*secret.SecretString))
	if err != nil {
		t.Fatalf("the generated secret is no credential: %v", err)
	}
	if len(plans) != 1 || plans[0].Type != "bearer" || len(plans[0].Token) < 32 {
		t.Errorf("the generated credential is %v with a token of %d characters", plans, len(plans[0].Token))
	}
	keys := completion.NewKeys(stored(d, outputs["CompletionSecretArn"]), nil)
	if _, err := keys.Sign(ctx, "job", time.Now().Add(time.Hour)); err != nil {
		t.Errorf("cannot sign a token with the generated key: %v", err)
	}
	resources := other.stackResources(t, ctx, second)
	other.listens(t, ctx, second)
	maps.Copy(resources, other.resources)
	other.run(t, ctx, "destroy", "--force")
	d.gone(t, ctx, resources, nil)
}

func (d *deployment) second() *deployment {
	other := *d
	other.out = filepath.Join(d.folder, "cdk.out-second")
	other.settings = []string{
		"stage=second", "removalPolicy=destroy", "second/" + d.settings[1], // the architecture
		"privateKeySecretArn=" + d.secrets["private"], // a tool parks results
	}
	return &other
}

// calls tests the functions. The tests run concurrently, because they mostly wait. Meanwhile, a second
// stage is deployed.
func (d *deployment) calls(t *testing.T, ctx context.Context) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the functions:\n%s", strings.Join(d.functionLogs(t, context.WithoutCancel(ctx)), "\n"))
		}
	})
	// quiet ends when no test posts any more and no slow tool runs. Then a key is revoked. revoked ends
	// after that. Then other code is deployed, which must not interrupt an answer.
	var quiet, revoked sync.WaitGroup
	t.Run("at once", func(t *testing.T) {
		quiet.Add(1)
		t.Run("results", func(t *testing.T) {
			t.Parallel()
			arrived := sync.OnceFunc(quiet.Done)
			defer arrived()
			d.everyResult(t, ctx, arrived)
		})
		t.Run("a second stage", func(t *testing.T) {
			t.Parallel()
			d.secondStage(t, ctx)
		})
		for name, test := range map[string]func(*testing.T, context.Context){
			"external completions":     d.approval,
			"key rotation":             d.rotation,
			"a scheduled report":       d.scheduled,
			"the end of the call":      d.callEnds,
			"an outbound call":         d.outboundCall,
			"the customer's next call": d.nextCall,
			"a chat":                   d.chat,
		} {
			quiet.Add(1)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				defer quiet.Done()
				test(t, ctx)
			})
		}
		revoked.Add(1)
		t.Run("key revocation", func(t *testing.T) {
			t.Parallel()
			defer revoked.Done()
			d.revocation(t, ctx, quiet.Wait)
		})
		t.Run("suspensions", func(t *testing.T) {
			t.Parallel()
			d.resumes(t, ctx, func() {
				quiet.Wait()
				revoked.Wait()
			})
		})
	})
	if !t.Failed() {
		t.Run("nothing else", func(t *testing.T) { d.nothingMore(t, ctx) })
	}
}

// accept posts a webhook that starts a tool, and checks that it is accepted.
func (d *deployment) accept(t *testing.T, ctx context.Context, toolCall, tool string, webhook []byte) {
	t.Helper()
	if text := d.answer(t, ctx, toolCall, tool, webhook); !strings.HasPrefix(text, "Started.") {
		t.Errorf("the answer to the webhook is %s", text)
	}
}

// answer posts a webhook with a tool call, and returns the tool call's result.
func (d *deployment) answer(t *testing.T, ctx context.Context, toolCall, tool string, webhook []byte) string {
	t.Helper()
	status, answer, err := d.post(ctx, d.outputs["WebhookUrl"], token, webhook)
	if err != nil {
		t.Fatal(err)
	}
	var results struct {
		Results []struct{ Name, ToolCallID, Result, Error string }
	}
	if err := json.Unmarshal([]byte(answer), &results); err != nil || status != 200 || len(results.Results) != 1 {
		t.Fatalf("the answer to the webhook is %d %s", status, answer)
	}
	r := results.Results[0]
	if r.ToolCallID != toolCall || r.Name != tool || r.Result == "" || r.Error != "" {
		t.Errorf("the answer to the webhook is %s", answer)
	}
	return r.Result
}

// everyResult posts webhooks as Vapi does, and checks what arrives in the calls. It calls arrived when all
// results have arrived.
func (d *deployment) everyResult(t *testing.T, ctx context.Context, arrived func()) {
	url := d.outputs["WebhookUrl"]
	undelivered := d.listenToBus(t, ctx)
	accept := func(call, toolCall, tool string, arguments map[string]any) {
		t.Helper()
		d.accept(t, ctx, toolCall, tool, d.webhook(t, call, toolCall, tool, arguments))
	}
	order := func(id string) map[string]any { return map[string]any{"order_id": id} }

	// Post all of them before waiting for the first one.
	accept("e2e-result", "call_1", "order_status", order("A-1"))
	accept("e2e-unknown", "call_1", "no_such_tool", nil)
	for range 3 {
		accept("e2e-twice", "call_1", "order_status", order("A-2"))
	}
	accept("e2e-broken", "call_1", "order_status", order("BROKEN"))
	accept("e2e-gone", "call_1", "order_status", order("A-3"))
	accept("e2e-live", "call_1", "order_status", order("A-9"))

	// A webhook without the credential is refused, and starts nothing.
	for _, wrong := range []string{"", "wrong", token + "x"} {
		webhook := d.webhook(t, "e2e-refused", "call_1", "order_status", order("A-4"))
		status, answer, err := d.post(ctx, url, wrong, webhook)
		if err != nil {
			t.Fatal(err)
		}
		if status != 401 {
			t.Errorf("the answer to a webhook with the token %q is %d %s", wrong, status, answer)
		}
	}
	status, answer, err := d.post(ctx, strings.TrimSuffix(url, "/vapi")+"/other", token, nil)
	if err != nil || status != 404 {
		t.Errorf("the answer at another path is %d %s, %v", status, answer, err)
	}

	d.hears(t, ctx, "e2e-result", "tool=order_status tool_call_id=call_1 status=ok",
		"The status of order A-1 is: out for delivery.")
	d.hears(t, ctx, "e2e-unknown", "status=error", "There is no tool named no_such_tool.")
	d.hears(t, ctx, "e2e-twice", "The status of order A-2 is: out for delivery.")
	d.hears(t, ctx, "e2e-live", `"type":"append-context"`, `"kind":"commentary"`,
		"The status of order A-9 is: out for delivery.")
	const attempts = 3 // of order_status
	d.hearsWithin(t, ctx, d.retriedWait(t, attempts), "e2e-broken", 1, "status=error",
		"the shop's order system isn't responding right now")
	if n := d.ordered("BROKEN"); n != attempts {
		t.Errorf("the failing tool ran %d times, not %d", n, attempts)
	}
	event := undelivered()
	if event.CallID != "e2e-gone" || event.Reason != job.ReasonCallGone ||
		!strings.Contains(event.Content, "order A-3") || event.CustomerNumber != number {
		t.Errorf("the event is %+v", event)
	}
	arrived()

	// The job that failed for good moves to the dead-letter queue, for an operator. It does so as soon as
	// it was received often enough.
	var dead job.Job
	eventually(t, ctx, d.jobs(t).deadLetter(), "the failed job in the dead-letter queue", func() error {
		messages, err := sqs.NewFromConfig(d.aws()).ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(d.outputs["JobsDeadLettersUrl"]),
		})
		if err != nil {
			return err
		}
		if len(messages.Messages) == 0 {
			return errors.New("it is empty")
		}
		dead, err = job.Decode(*messages.Messages[0].Body)
		return err
	})
	if dead.Call.ID != "e2e-broken" {
		t.Errorf("the dead letter is the job of the call %s", dead.Call.ID)
	}
	d.deadLetters(t, ctx, dead.ID)
}

// wantHeard is how many messages each call hears in total, without the hold message.
var wantHeard = map[string]int{
	"e2e-result": 1, "e2e-unknown": 1, "e2e-twice": 1, "e2e-broken": 1, "e2e-gone": 1, "e2e-refused": 0,
	"e2e-live":          1,
	"e2e-approval":      2, // progress and the answer
	"e2e-approval-text": 1,
	"e2e-approval-no":   1,
	"e2e-rotation":      2, // progress and the answer
	"e2e-resumed":       1,
	"e2e-scheduled":     2, // when the report is due, and the report
	"e2e-ended-gone":    2, // one post for each tool call, to a call that is gone
	"e2e-back-gone":     1,
	"e2e-parked-gone":   1,
	"e2e-next":          1,
	"e2e-chat":          0,
}

// nothingMore checks that nothing else was delivered or requested, and that nothing is left.
func (d *deployment) nothingMore(t *testing.T, ctx context.Context) {
	eventually(t, ctx, d.resultWait(t), "empty queues", func() error {
		for _, name := range []string{"JobsQueueUrl", "LongJobsQueueUrl", "ResultsQueueUrl", "ResultsDeadLettersUrl"} {
			visible, hidden, delayed, err := d.messages(ctx, d.outputs[name])
			if err != nil {
				return err
			}
			if visible+hidden+delayed > 0 {
				return fmt.Errorf("%s has %d visible, %d hidden and %d delayed messages", name, visible, hidden, delayed)
			}
		}
		return nil
	})
	for call, n := range wantHeard {
		if heard := d.heard(call); len(heard) < n || len(heard) > n+d.lines[call] {
			t.Errorf("%s heard %d messages, not %d: %q", call, len(heard), n, heard)
		}
	}
	// The hold message is delivered once at most, and not if the answer came first.
	for call, asked := range d.asked {
		answered, soon := d.answered[call], d.answered[call].Sub(asked) < holdAfter
		hold := d.holdMessages(call)
		if answered.IsZero() || len(hold) > 1 || len(hold) == 1 && soon || len(hold) == 0 && call == "e2e-rotation" {
			t.Errorf("%s was asked at %s and answered at %s, and heard %q", call, asked, answered, hold)
		}
	}
	if schedules := d.schedules(t, ctx); len(schedules) != 0 {
		t.Errorf("schedules are left: %v", schedules)
	}
	if n := len(d.account.Calls()); n != 1 {
		t.Errorf("%d outbound calls were made, not one", n)
	}
	if n := len(d.account.Chats()); n != 1 {
		t.Errorf("%d posts to chats, not one", n)
	}
	if n := d.ordered("A-2"); n != 1 {
		t.Errorf("the tool of a repeated webhook ran %d times", n)
	}
	if n := d.ordered("A-4") + len(d.heard("e2e-refused")); n != 0 {
		t.Error("a webhook without the credential started something")
	}
	for call, want := range map[string]job.State{
		"e2e-result": job.StateDelivered, "e2e-broken": job.StateDelivered, "e2e-gone": job.StateUndelivered,
		"e2e-chat": job.StateDelivered, "e2e-back-gone": job.StateDelivered,
	} {
		if record := d.record(t, ctx, call); record.State != want {
			t.Errorf("the record of %s is %s, not %s", call, record.State, want)
		}
	}
}

// record returns the record of a call's first job.
func (d *deployment) record(t *testing.T, ctx context.Context, call string) job.Record {
	t.Helper()
	record, err := d.load(ctx, call)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func (d *deployment) load(ctx context.Context, call string) (job.Record, error) {
	table := dynamotable.New(dynamodb.NewFromConfig(d.aws()), d.outputs["JobsTableName"])
	jobs, err := table.OfCall(ctx, call)
	if err != nil {
		return job.Record{}, err
	}
	if len(jobs) == 0 {
		return job.Record{}, fmt.Errorf("the call %s has no job", call)
	}
	return table.Load(ctx, jobs[0].ID)
}

// hears waits for a call's first message, and checks that it contains the parts.
func (d *deployment) hears(t *testing.T, ctx context.Context, call string, parts ...string) {
	t.Helper()
	d.hearsNext(t, ctx, call, 1, parts...)
}

// hearsNext waits for a call's n-th message.
func (d *deployment) hearsNext(t *testing.T, ctx context.Context, call string, n int, parts ...string) {
	t.Helper()
	d.hearsWithin(t, ctx, d.resultWait(t), call, n, parts...)
}

func (d *deployment) hearsWithin(
	t *testing.T, ctx context.Context, limit time.Duration, call string, n int, parts ...string,
) {
	t.Helper()
	var heard []string
	eventually(t, ctx, limit, fmt.Sprintf("message %d in the call %s", n, call), func() error {
		if heard = d.heard(call); len(heard) < n {
			return fmt.Errorf("%d messages", len(heard))
		}
		return nil
	})
	for _, part := range parts {
		if !strings.Contains(heard[n-1], part) {
			t.Errorf("%s heard %q, without %q", call, heard[n-1], part)
		}
	}
}

// listenToBus adds a queue to the event bus. It returns a function that waits for the first event.
func (d *deployment) listenToBus(t *testing.T, ctx context.Context) func() job.Undelivered {
	t.Helper()
	queues, events := sqs.NewFromConfig(d.aws()), eventbridge.NewFromConfig(d.aws())
	queue, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("listener")})
	if err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:sqs:" + region + ":" + account + ":listener"
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:SendMessage",` +
		`"Principal":{"Service":"events.amazonaws.com"},"Resource":"` + arn + `"}]}`
	if _, err := queues.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{
		QueueUrl: queue.QueueUrl, Attributes: map[string]string{"Policy": policy},
	}); err != nil {
		t.Fatal(err)
	}
	bus := aws.String(d.outputs["EventBusName"])
	if _, err := events.PutRule(ctx, &eventbridge.PutRuleInput{
		Name: aws.String("listener"), EventBusName: bus,
		EventPattern: aws.String(`{"source":["ringback"],"detail-type":["undelivered"]}`),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := events.PutTargets(ctx, &eventbridge.PutTargetsInput{
		Rule: aws.String("listener"), EventBusName: bus,
		Targets: []eventtypes.Target{{Id: aws.String("queue"), Arn: aws.String(arn)}},
	}); err != nil {
		t.Fatal(err)
	}
	return func() job.Undelivered {
		t.Helper()
		var event struct{ Detail job.Undelivered }
		eventually(t, ctx, d.resultWait(t), "an event on the bus", func() error {
			messages, err := queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl})
			if err != nil {
				return err
			}
			if len(messages.Messages) == 0 {
				return errors.New("there is none")
			}
			return json.Unmarshal([]byte(*messages.Messages[0].Body), &event)
		})
		// CloudFormation does not delete a bus that has rules from outside the stack.
		if _, err := events.RemoveTargets(ctx, &eventbridge.RemoveTargetsInput{
			Rule: aws.String("listener"), EventBusName: bus, Ids: []string{"queue"},
		}); err != nil {
			t.Error(err)
		}
		if _, err := events.DeleteRule(ctx, &eventbridge.DeleteRuleInput{
			Name: aws.String("listener"), EventBusName: bus,
		}); err != nil {
			t.Error(err)
		}
		return event.Detail
	}
}

func (d *deployment) functionLogs(t *testing.T, ctx context.Context) []string {
	t.Helper()
	var all []string
	for _, id := range slices.Sorted(maps.Keys(d.template.Resources)) {
		if d.template.Resources[id].Type == "AWS::Logs::LogGroup" {
			lines, err := d.logLines(ctx, d.resources[id])
			if err != nil {
				t.Error(err)
			}
			all = append(all, lines...)
		}
	}
	return all
}

// logs checks the log of the functions. It must contain what the metric filters count, and nothing
// confidential.
func (d *deployment) logs(t *testing.T, ctx context.Context) {
	all := d.functionLogs(t, ctx)
	text := strings.Join(all, "\n")
	if len(all) < 20 {
		t.Fatalf("the functions logged %d lines:\n%s", len(all), text)
	}
	for name, secret := range map[string]string{
		"the token": token, "a completion token": "eyJ", "a control URL": "/control",
		"a completion key": oldKey, "the other completion key": newKey, "the private key": privateKey,
		"the caller's number": number, "the other caller's number": other,
		"an argument": "BROKEN", "an argument of another tool": subject, "an external completion": granted,
		"a call": "e2e-gone", "a call with an outbound call": "e2e-back-gone", "a next call": "e2e-next",
	} {
		for _, line := range all {
			if strings.Contains(line, secret) {
				t.Errorf("the log contains %s: %s", name, line)
			}
		}
	}
	d.logsOfACall(t, ctx)
	d.replay(t, ctx)
	counted := regexp.MustCompile(`= "([^"]+)"`)
	for id, r := range d.template.Resources {
		if r.Type != "AWS::Logs::MetricFilter" {
			continue
		}
		message := counted.FindStringSubmatch(fmt.Sprint(r.Properties["FilterPattern"]))
		if message == nil || !strings.Contains(text, message[1]) {
			t.Errorf("%s counts messages that no function logs: %v", id, r.Properties["FilterPattern"])
		}
	}
}

// changed matches a resource that differs in the output of `cdk diff`.
var changed = regexp.MustCompile(`(?m)^\[[-+~]\] (AWS::\S+) \S+ (\S+)`)

func (d *deployment) diff(t *testing.T, ctx context.Context) {
	// Another deployment would change nothing.
	out := d.run(t, ctx, "diff")
	if changed.MatchString(out) || !strings.Contains(out, "Number of stacks with differences: 0") {
		t.Errorf("differences after the deployment:\n%s", out)
	}

	// A longer timeout of a tool changes the process function, how long its queues hide messages, and the
	// alarms of these queues. It changes nothing else.
	d.change(t, map[string]string{
		"e2eVersion = 1": "e2eVersion = 2", "e2eTimeout = 2 * time.Minute": "e2eTimeout = 800 * time.Second",
	})
	out = d.run(t, ctx, "diff")
	var got []string
	for _, match := range changed.FindAllStringSubmatch(out, -1) {
		got = append(got, match[1]+" "+match[2][:len(match[2])-8])
	}
	slices.Sort(got)
	want := []string{
		"AWS::CloudWatch::Alarm RingbackOldestJobAlarm", "AWS::CloudWatch::Alarm RingbackOldestLongJobAlarm",
		"AWS::Lambda::Function RingbackProcess", "AWS::SQS::Queue RingbackJobs", "AWS::SQS::Queue RingbackLongJobs",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%s", diff, out)
	}
}

func (d *deployment) destroy(t *testing.T, ctx context.Context) {
	d.forbidEmulator(t, ctx)
	d.run(t, ctx, "destroy", "--force")
	retained := map[string]bool{}
	for id, r := range d.template.Resources {
		if r.DeletionPolicy == "Retain" {
			retained[id] = true
		}
	}
	if len(retained) != 1 {
		t.Errorf("%d resources are retained, not only the table", len(retained))
	}
	d.gone(t, ctx, d.resources, retained)
	// The secrets existed before the stack, so it must not delete them.
	client := secretsmanager.NewFromConfig(d.aws())
	for name := range d.secrets {
		in := &secretsmanager.GetSecretValueInput{SecretId: aws.String(name)}
		if _, err := client.GetSecretValue(ctx, in); err != nil {
			t.Errorf("cannot read the secret %s: %v", name, err)
		}
	}
}

// gone checks that resources no longer exist, except those that are retained.
func (d *deployment) gone(t *testing.T, ctx context.Context, resources map[string]string, retained map[string]bool) {
	t.Helper()
	for kind, list := range d.listings() {
		text, err := list(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for id, physical := range resources {
			physical = listed(physical)
			// A short id could be a part of something else.
			if len(physical) < 8 || d.template.Resources[id].Type != kind && d.template.Resources[id].Type != "" {
				continue
			}
			if exists := strings.Contains(string(text), physical); exists != retained[id] {
				t.Errorf("%s exists: %v, want %v: %s", id, exists, retained[id], physical)
			}
		}
	}
}
