package ringback_test

import (
	"context"
	"debug/elf"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscertificatemanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/infra/ringback"
)

var update = flag.Bool("update", false, "rewrite the golden template")

func TestMain(m *testing.M) {
	flag.Parse()
	if _, err := exec.LookPath("node"); err != nil {
		fmt.Fprintln(os.Stderr, "cannot test the infrastructure: the CDK needs Node.js; install version 22 or later")
		os.Exit(1)
	}
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// template is a synthesised CloudFormation template.
type template struct {
	Resources map[string]resource
}

type resource struct {
	Type                string
	Properties          map[string]any `json:",omitempty"`
	DeletionPolicy      string         `json:",omitempty"`
	UpdateReplacePolicy string         `json:",omitempty"`
	DependsOn           any            `json:",omitempty"` // a logical id, or several
}

// newStack creates a stack in an app that is configured by cdk.json.
func newStack(t *testing.T, id string) awscdk.Stack {
	t.Helper()
	return newStackIn(t, id, nil)
}

// newStackIn is like newStack, for an account and a region.
func newStackIn(t *testing.T, id string, env *awscdk.Environment) awscdk.Stack {
	t.Helper()
	file, err := os.ReadFile("../../cdk.json")
	if err != nil {
		t.Fatal(err)
	}
	var config struct{ Context map[string]any }
	if err := json.Unmarshal(file, &config); err != nil {
		t.Fatal(err)
	}
	app := awscdk.NewApp(&awscdk.AppProps{
		Context: &config.Context, Outdir: jsii.String(t.TempDir()), AnalyticsReporting: jsii.Bool(false),
	})
	return awscdk.NewStack(app, jsii.String(id), &awscdk.StackProps{Env: env})
}

// newRingback adds a Ringback with placeholders instead of built functions.
func newRingback(t *testing.T, stack awscdk.Stack, props ringback.Props) *ringback.Ringback {
	t.Helper()
	props.Binaries = "testdata/functions"
	r, err := ringback.NewRingback(stack, "Ringback", withTools(t, props))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// withTools adds the shop's tools if there are none.
func withTools(t *testing.T, props ringback.Props) ringback.Props {
	t.Helper()
	if props.Tools == nil {
		all, err := shop.All()
		if err != nil {
			t.Fatal(err)
		}
		props.Tools = all
	}
	return props
}

func synth(t *testing.T, stack awscdk.Stack) (template, []byte) {
	t.Helper()
	text, err := json.MarshalIndent(assertions.Template_FromStack(stack, nil).ToJSON(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var made template
	if err := json.Unmarshal(text, &made); err != nil {
		t.Fatal(err)
	}
	return made, append(text, '\n')
}

func synthesise(t *testing.T, props ringback.Props) template {
	t.Helper()
	return synthesiseIn(t, newStack(t, "Ringback"), props)
}

func synthesiseIn(t *testing.T, stack awscdk.Stack, props ringback.Props) template {
	t.Helper()
	newRingback(t, stack, props)
	made, _ := synth(t, stack)
	return made
}

// only returns the one resource of a type whose logical id begins with the prefix.
func (m template) only(t *testing.T, kind, prefix string) resource {
	t.Helper()
	return m.Resources[m.id(t, kind, prefix)]
}

// id returns the logical id of that resource.
func (m template) id(t *testing.T, kind, prefix string) string {
	t.Helper()
	var found []string
	for id, r := range m.Resources {
		if r.Type == kind && withoutHash(id) == prefix {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the template has %d resources %s called %s: %v", len(found), kind, prefix, found)
	}
	return found[0]
}

// withoutHash returns a logical id without the eight hexadecimal digits at its end.
func withoutHash(id string) string {
	return id[:max(len(id)-8, 0)]
}

// function returns the properties of a function.
func (m template) function(t *testing.T, prefix string) map[string]any {
	t.Helper()
	return m.only(t, "AWS::Lambda::Function", prefix).Properties
}

// variables returns the environment of a function.
func (m template) variables(t *testing.T, prefix string) map[string]any {
	t.Helper()
	return at(t, m.function(t, prefix), "Environment", "Variables").(map[string]any)
}

// role returns the statements that allow a function, or the schedules, something.
func (m template) role(t *testing.T, prefix string) []string {
	t.Helper()
	return m.statements(t, prefix+"RoleDefaultPolicy")
}

func (m template) all(kind string) map[string]resource {
	all := map[string]resource{}
	for id, r := range m.Resources {
		if r.Type == kind {
			all[id] = r
		}
	}
	return all
}

// at returns the value at a path of decoded JSON: names of members, and indexes in
// decimal digits.
func at(t *testing.T, v any, path ...string) any {
	t.Helper()
	for i, step := range path {
		switch node := v.(type) {
		case map[string]any:
			v = node[step]
		case []any:
			var index int
			if _, err := fmt.Sscan(step, &index); err != nil || index >= len(node) {
				t.Fatalf("there is no element %s at %v", step, path[:i])
			}
			v = node[index]
		default:
			t.Fatalf("there is nothing at %v", path[:i+1])
		}
	}
	return v
}

func TestGoldenTemplate(t *testing.T) {
	stack := newStack(t, "Ringback")
	newRingback(t, stack, ringback.Props{UndeliveredEmail: "someone@example.com", AlarmEmail: "operator@example.com"})
	_, got := synth(t, stack)
	const golden = "testdata/template.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("the template changed; if this is intended, run:"+
			" go test ./infra/ringback -run TestGoldenTemplate -update\n%s", diff)
	}
}

// TestDashboardURL evaluates the address of the dashboard in each partition: the output of a stack for any region, and
// the address in a stack whose region is known.
func TestDashboardURL(t *testing.T) {
	anywhere := awscdk.NewApp(&awscdk.AppProps{
		Context: &map[string]any{"binaries": "testdata/functions"}, Outdir: jsii.String(t.TempDir()),
		AnalyticsReporting: jsii.Bool(false),
	})
	stack, err := ringback.NewStack(anywhere, shop.All)
	if err != nil {
		t.Fatal(err)
	}
	template := *assertions.Template_FromStack(stack.Stack, nil).ToJSON()
	output := template["Outputs"].(map[string]any)["DashboardUrl"].(map[string]any)["Value"]
	for region, row := range map[string]struct{ partition, host string }{
		"eu-central-1":  {"aws", "console.aws.amazon.com"},
		"cn-north-1":    {"aws-cn", "console.amazonaws.cn"},
		"us-gov-west-1": {"aws-us-gov", "console.amazonaws-us-gov.com"},
		"us-iso-east-1": {"aws-iso", "console.aws.amazon.com"}, // its own is unknown
	} {
		known := newStackIn(t, "Ringback", &awscdk.Environment{Region: &region})
		made := newRingback(t, known, ringback.Props{})
		values := map[string]string{"AWS::Partition": row.partition, "AWS::Region": region}
		conditions := template["Conditions"].(map[string]any)
		for name, url := range map[string]string{
			"any region":   evaluated(output, conditions, values),
			"known region": evaluated(known.Resolve(made.DashboardURL), nil, values),
		} {
			before, dashboard, _ := strings.Cut(url, "#dashboards/dashboard/")
			if want := "https://" + region + "." + row.host + "/cloudwatch/home"; before != want || dashboard == "" {
				t.Errorf("%s, %s: the address is %s, want %s", region, name, url, want)
			}
		}
	}
}

// evaluated returns a value of a template as CloudFormation would.
func evaluated(value any, conditions map[string]any, values map[string]string) string {
	of := func(v any) string { return evaluated(v, conditions, values) }
	m, ok := value.(map[string]any)
	if !ok {
		return fmt.Sprint(value)
	}
	if name, ok := m["Ref"].(string); ok && values[name] != "" {
		return values[name]
	}
	if join, ok := m["Fn::Join"].([]any); ok {
		var parts []string
		for _, part := range join[1].([]any) {
			parts = append(parts, of(part))
		}
		return strings.Join(parts, of(join[0]))
	}
	if either, ok := m["Fn::If"].([]any); ok {
		sides := conditions[either[0].(string)].(map[string]any)["Fn::Equals"].([]any)
		if of(sides[0]) == of(sides[1]) {
			return of(either[1])
		}
		return of(either[2])
	}
	return fmt.Sprint(value)
}

// A difference between two runs would be deployed again and again.
func TestSynthesisIsReproducible(t *testing.T) {
	props := ringback.Props{
		ToolSettings: []ringback.Setting{{Name: "TB", Value: "2"}, {Name: "TA", Value: "1"}, {Name: "TC", Value: "3"}},
		AlarmEmail:   "operator@example.com", UndeliveredEmail: "someone@example.com",
	}
	var texts []string
	for range 2 {
		stack := newStack(t, "Ringback")
		newRingback(t, stack, props)
		_, text := synth(t, stack)
		texts = append(texts, string(text))
	}
	if diff := cmp.Diff(texts[0], texts[1]); diff != "" {
		t.Error(diff)
	}
}

// Each role allows what its function does and nothing more: an attacker who takes
// a function over must not reach anything else.
func TestLeastPrivilege(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	consume := "sqs:ChangeMessageVisibility sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage"
	// X-Ray has no resources that a policy could name (Service Authorization
	// Reference, AWS X-Ray).
	trace := "xray:PutTelemetryRecords xray:PutTraceSegments on *"
	group := made.only(t, "AWS::Scheduler::ScheduleGroup", "RingbackSchedules").Properties["Name"].(string)
	schedules := "arn:AWS::Partition:scheduler:AWS::Region:AWS::AccountId:schedule/" + group + "/*"
	// The front function touches neither customers nor leases.
	items := func(patterns string) string {
		return "dynamodb:GetItem dynamodb:PutItem on RingbackJobsTable where ForAllValues:StringLike " +
			"dynamodb:LeadingKeys=" + patterns
	}
	want := map[string][]string{
		"RingbackAck": {
			items("*/* call:* j_*"),
			"dynamodb:Query on RingbackJobsTable/index/calls",
			"logs:CreateLogStream logs:PutLogEvents on RingbackAckLogs",
			"secretsmanager:GetSecretValue on RingbackCompletionSecret RingbackWebhookSecret",
			"sqs:SendMessage on RingbackJobs RingbackLongJobs RingbackResults",
			trace,
		},
		"RingbackProcess": {
			items("*/* call:* customer:* j_* lease:*"),
			"dynamodb:Scan on RingbackJobsTable/index/calls",
			"iam:PassRole on RingbackSchedulesRole where StringEquals iam:PassedToService=scheduler.amazonaws.com",
			"logs:CreateLogStream logs:PutLogEvents on RingbackProcessLogs",
			"scheduler:CreateSchedule scheduler:DeleteSchedule on " + schedules,
			"secretsmanager:GetSecretValue on RingbackCompletionSecret",
			consume + " on RingbackJobs RingbackLongJobs",
			"sqs:SendMessage on RingbackJobs RingbackLongJobs RingbackResults",
			trace,
		},
		// Wake-ups, and wake-ups that Scheduler gave up on.
		"RingbackSchedules": {"sqs:SendMessage on RingbackJobs RingbackJobsDeadLetters RingbackLongJobs"},
		"RingbackCallback": {
			items("*/* call:* customer:* j_*"),
			"events:PutEvents on RingbackEvents where ForAllValues:StringEquals " +
				"events:detail-type=undelivered events:source=ringback",
			"logs:CreateLogStream logs:PutLogEvents on RingbackCallbackLogs",
			consume + " sqs:SendMessage on RingbackResults",
			trace,
		},
	}
	got := map[string][]string{}
	for name := range want {
		got[name] = made.role(t, name)
		if managed := made.only(t, "AWS::IAM::Role", name+"Role").Properties["ManagedPolicyArns"]; managed != nil {
			t.Errorf("%s has managed policies, which allow more than the resources of one deployment: %v", name, managed)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(made.all("AWS::IAM::Policy")); n != len(want) {
		t.Errorf("there are %d policies; only the functions and the schedules have one each", n)
	}
}

// The policy of each topic admits one service, on behalf of this account only. Those of the
// queues admit none: the functions and the schedules send with their roles.
func TestResourcePolicies(t *testing.T) {
	made := synthesise(t, ringback.Props{UndeliveredEmail: "someone@example.com", AlarmEmail: "operator@example.com"})
	want := map[string][]string{
		"RingbackAlarmTopicPolicy":       {topicStatement("RingbackAlarmTopic", "cloudwatch.amazonaws.com")},
		"RingbackUndeliveredTopicPolicy": {topicStatement("RingbackUndeliveredTopic", "events.amazonaws.com")},
		"RingbackJobsPolicy":             nil, "RingbackJobsDeadLettersPolicy": nil, "RingbackLongJobsPolicy": nil,
		"RingbackResultsPolicy": nil, "RingbackResultsDeadLettersPolicy": nil,
	}
	if diff := cmp.Diff(want, made.admitted(t)); diff != "" {
		t.Error(diff)
	}
	// A topic of the same app gets no more.
	stack := newStack(t, "Ringback")
	topic := awssns.NewTopic(stack, jsii.String("Topic"), nil)
	made = synthesiseIn(t, stack, ringback.Props{UndeliveredTopic: topic})
	want = map[string][]string{"TopicPolicy": {topicStatement("Topic", "events.amazonaws.com")}}
	got := made.admitted(t)
	maps.DeleteFunc(got, func(_ string, statements []string) bool { return len(statements) == 0 })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func topicStatement(topic, service string) string {
	return service + " may sns:Publish on " + topic +
		" where map[StringEquals:map[aws:SourceAccount:map[Ref:AWS::AccountId]]]"
}

// admitted returns what the policies of topics and queues allow, by policy.
func (m template) admitted(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, kind := range []string{"AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy"} {
		for id, policy := range m.all(kind) {
			name := withoutHash(id)
			all[name] = nil
			for _, s := range at(t, policy.Properties, "PolicyDocument", "Statement").([]any) {
				if at(t, s, "Effect") != "Allow" {
					continue
				}
				principal := fmt.Sprint(at(t, s, "Principal"))
				if service, ok := at(t, s, "Principal").(map[string]any)["Service"].(string); ok {
					principal = service
				}
				all[name] = append(all[name], fmt.Sprintf("%s may %s on %s where %v", principal,
					strings.Join(texts(at(t, s, "Action")), " "), strings.Join(texts(at(t, s, "Resource")), " "),
					at(t, s, "Condition")))
			}
		}
	}
	return all
}

// statements returns the statements of a policy, as "actions on resources". A
// condition follows as "where operator key=value".
func (m template) statements(t *testing.T, policy string) []string {
	t.Helper()
	var statements []string
	document := m.only(t, "AWS::IAM::Policy", policy).Properties["PolicyDocument"]
	for _, s := range at(t, document, "Statement").([]any) {
		if effect := at(t, s, "Effect"); effect != "Allow" {
			t.Errorf("%s: the effect is %v", policy, effect)
		}
		statement := strings.Join(texts(at(t, s, "Action")), " ") + " on " + strings.Join(texts(at(t, s, "Resource")), " ")
		conditions, _ := at(t, s, "Condition").(map[string]any)
		for _, operator := range slices.Sorted(maps.Keys(conditions)) {
			statement += " where " + operator
			keys := conditions[operator].(map[string]any)
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				statement += " " + key + "=" + strings.Join(texts(keys[key]), " ")
			}
		}
		statements = append(statements, statement)
	}
	slices.Sort(statements)
	return statements
}

// texts returns a string, or the strings of an array. A reference becomes the name
// of its resource, and a join becomes one string.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, texts(e)...)
		}
		slices.Sort(all)
		return all
	case map[string]any:
		if join, ok := v["Fn::Join"].([]any); ok {
			var parts []string
			for _, part := range join[1].([]any) {
				parts = append(parts, texts(part)...)
			}
			return []string{strings.Join(parts, join[0].(string))}
		}
		id, _ := v["Ref"].(string)
		if strings.HasPrefix(id, "AWS::") {
			return []string{id}
		}
		if get, ok := v["Fn::GetAtt"].([]any); ok {
			id = get[0].(string)
		}
		if len(id) > 8 {
			return []string{withoutHash(id)}
		}
	}
	return []string{fmt.Sprint(v)}
}

// A message that reappeared while its function still runs would waste a receive. AWS
// refuses an event source mapping whose queue hides messages for a shorter time than
// its function may run.
func TestVisibilityOutlastsTheFunction(t *testing.T) {
	for name, row := range map[string]struct {
		tools []asynctool.Definition
		want  []string // the mappings
	}{
		"the module's tools": {
			nil, []string{"RingbackJobsToProcess", "RingbackLongJobsToProcess", "RingbackResultsToCallback"},
		},
		"no long tool": {tools(time.Second), []string{"RingbackJobsToProcess", "RingbackResultsToCallback"}},
		"the longest tool": {
			tools(asynctool.MaxTimeout),
			[]string{"RingbackJobsToProcess", "RingbackLongJobsToProcess", "RingbackResultsToCallback"},
		},
	} {
		made := synthesise(t, ringback.Props{Tools: row.tools})
		var mappings []string
		for id, mapping := range made.all("AWS::Lambda::EventSourceMapping") {
			mappings = append(mappings, withoutHash(id))
			queue := made.Resources[at(t, mapping.Properties, "EventSourceArn", "Fn::GetAtt", "0").(string)]
			function := made.Resources[at(t, mapping.Properties, "FunctionName", "Ref").(string)]
			visibility, timeout := queue.Properties["VisibilityTimeout"].(float64), function.Properties["Timeout"].(float64)
			if visibility < timeout+30 || visibility > timeout+60 {
				t.Errorf("%s: the queue of %s hides messages for %v s, and its function runs for up to %v s; "+
					"the margin must be 30 to 60 s", name, id, visibility, timeout)
			}
			if timeout > 900 {
				t.Errorf("%s: the function of %s has a timeout of %v s; Lambda allows 900", name, id, timeout)
			}
		}
		slices.Sort(mappings)
		if diff := cmp.Diff(row.want, mappings); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Only what follows from the tools' limits changes with them.
func TestToolLimitsReachTheTemplate(t *testing.T) {
	short := synthesise(t, ringback.Props{Tools: tools(2 * time.Minute)})
	long := synthesise(t, ringback.Props{Tools: tools(10 * time.Minute)})
	var changed []string
	for _, id := range slices.Sorted(maps.Keys(short.Resources)) {
		if diff := cmp.Diff(short.Resources[id], long.Resources[id]); diff != "" {
			changed = append(changed, withoutHash(id))
		}
	}
	want := []string{
		"RingbackJobs", "RingbackLongJobs", "RingbackOldestJobAlarm", "RingbackOldestLongJobAlarm", "RingbackProcess",
	}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Error(diff)
	}
	tool := tools(time.Minute)[0].(asynctool.Tool[struct{}])
	tool.Hold, tool.HoldAfter = "One moment.", time.Minute
	held := synthesise(t, ringback.Props{Tools: []asynctool.Definition{tool}})
	for m, want := range map[*template]float64{&short: 120, &held: 180} {
		if got := m.only(t, "AWS::CloudWatch::Alarm", "RingbackOldestResultAlarm").Properties["Threshold"]; got != want {
			t.Errorf("a result may be %v s old, not %v: a hold message waits in the queue", got, want)
		}
	}
	if got := long.function(t, "RingbackProcess")["Timeout"].(float64); got < 600 {
		t.Errorf("the process function may run for %v s, and a tool for 600 s", got)
	}
}

// tools returns one tool with a timeout.
func tools(timeout time.Duration) []asynctool.Definition {
	return []asynctool.Definition{asynctool.Tool[struct{}]{
		Name: "slow", Description: "Takes its time.", Timeout: timeout,
		Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
			return asynctool.Text("done"), nil
		},
	}}
}

// A long tool has a queue of its own. The first one adds the queue to a stack, and
// replaces nothing. Without one, there is no queue that does nothing.
func TestLongTools(t *testing.T) {
	one := func(name string, timeout time.Duration) asynctool.Definition {
		tool := tools(timeout)[0].(asynctool.Tool[struct{}])
		tool.Name = name
		return tool
	}
	for name, row := range map[string]struct {
		props       ringback.Props
		long        any // the variable with their names
		queue       bool
		concurrency float64
	}{
		"none": {props: ringback.Props{Tools: tools(time.Minute)}},
		"none, but the queue": {
			props: ringback.Props{Tools: tools(time.Minute), LongProcessConcurrency: 9}, queue: true, concurrency: 9,
		},
		"two": {
			props: ringback.Props{Tools: []asynctool.Definition{
				one("b", 61*time.Second), one("short", time.Minute), one("a", asynctool.MaxTimeout), one("fast", time.Second),
			}},
			long: "b,a", queue: true, concurrency: 50,
		},
		"the default timeout": {
			props: ringback.Props{Tools: tools(0), ProcessConcurrency: 7}, long: "slow", queue: true, concurrency: 7,
		},
		"a concurrency": {
			props: ringback.Props{Tools: tools(0), ProcessConcurrency: 7, LongProcessConcurrency: 3},
			long:  "slow", queue: true, concurrency: 3,
		},
	} {
		made := synthesise(t, row.props)
		if got := made.variables(t, "RingbackAck")["LONG_TOOLS"]; got != row.long {
			t.Errorf("%s: the ack function gets %v, want %v", name, got, row.long)
		}
		var about []string // resources about the queue
		for id := range made.Resources {
			if strings.Contains(id, "Long") {
				about = append(about, withoutHash(id))
			}
		}
		slices.Sort(about)
		var want []string
		if row.queue {
			want = []string{
				"RingbackLongJobs", "RingbackLongJobsPolicy", "RingbackLongJobsToProcess", "RingbackLongJobsWaitingAlarm",
				"RingbackOldestLongJobAlarm",
			}
			mapping := made.only(t, "AWS::Lambda::EventSourceMapping", "RingbackLongJobsToProcess").Properties
			if got := at(t, mapping, "ScalingConfig", "MaximumConcurrency"); got != row.concurrency {
				t.Errorf("%s: the concurrency is %v, want %v", name, got, row.concurrency)
			}
		}
		if diff := cmp.Diff(want, about); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if text := fmt.Sprint(made); strings.Contains(text, "LONG_") != row.queue {
			t.Errorf("%s: variables name a long queue: %t", name, !row.queue)
		}
	}
	without := synthesise(t, ringback.Props{Tools: tools(time.Minute)})
	for _, problem := range updateProblems(without.released(t), synthesise(t, ringback.Props{Tools: tools(0)}), nil) {
		t.Error(problem)
	}
}

func TestQueues(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	queues := made.all("AWS::SQS::Queue")
	if len(queues) != 5 {
		t.Errorf("there are %d queues, not three and two dead-letter queues", len(queues))
	}
	for name, deadLetters := range map[string]string{
		"RingbackJobs": "RingbackJobsDeadLetters", "RingbackLongJobs": "RingbackJobsDeadLetters",
		"RingbackResults": "RingbackResultsDeadLetters",
	} {
		queue := made.only(t, "AWS::SQS::Queue", name).Properties
		dead := made.only(t, "AWS::SQS::Queue", deadLetters).Properties
		target := texts(at(t, queue, "RedrivePolicy", "deadLetterTargetArn"))
		if diff := cmp.Diff([]string{deadLetters}, target); diff != "" {
			t.Error(diff)
		}
		// A message keeps its age in the dead-letter queue.
		days := func(q map[string]any) float64 { return q["MessageRetentionPeriod"].(float64) / 24 / 3600 }
		if days(dead) != 14 || days(queue) >= days(dead) {
			t.Errorf("%s retains messages for %v days, its dead-letter queue for %v days", name, days(queue), days(dead))
		}
		for _, q := range []map[string]any{queue, dead} {
			if q["SqsManagedSseEnabled"] != true {
				t.Errorf("%s is not encrypted", name)
			}
			// The ack and the queue must agree on the largest message.
			if q["MaximumMessageSize"] != float64(1<<20) {
				t.Errorf("%s accepts messages of %v bytes", name, q["MaximumMessageSize"])
			}
			if q["FifoQueue"] != nil {
				t.Errorf("%s is a FIFO queue", name)
			}
		}
	}
	policies := made.all("AWS::SQS::QueuePolicy")
	if len(policies) != len(queues) {
		t.Errorf("there are %d queue policies for %d queues", len(policies), len(queues))
	}
	for id, p := range policies {
		s := at(t, p.Properties, "PolicyDocument", "Statement", "0")
		if at(t, s, "Effect") != "Deny" || at(t, s, "Condition", "Bool", "aws:SecureTransport") != "false" {
			t.Errorf("%s accepts unencrypted requests", id)
		}
	}
}

func TestEventSourceMappings(t *testing.T) {
	made := synthesise(t, ringback.Props{
		ProcessConcurrency: 7, LongProcessConcurrency: 9, CallbackConcurrency: 8, BatchSize: 3,
	})
	for name, concurrency := range map[string]float64{
		"RingbackJobsToProcess": 7, "RingbackLongJobsToProcess": 9, "RingbackResultsToCallback": 8,
	} {
		p := made.only(t, "AWS::Lambda::EventSourceMapping", name).Properties
		// Without it, one failed job would return its whole batch to the queue.
		if diff := cmp.Diff([]any{"ReportBatchItemFailures"}, p["FunctionResponseTypes"]); diff != "" {
			t.Error(diff)
		}
		if got := at(t, p, "ScalingConfig", "MaximumConcurrency"); got != concurrency {
			t.Errorf("%s: the maximum concurrency is %v", name, got)
		}
		if p["BatchSize"] != 3.0 {
			t.Errorf("%s: the batch size is %v", name, p["BatchSize"])
		}
		if got, ok := p["MaximumBatchingWindowInSeconds"]; ok {
			t.Errorf("%s waits for more messages for %v s, and a caller waits with it", name, got)
		}
	}
}

func TestFunctions(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	if n := len(made.all("AWS::Lambda::Function")); n != 3 {
		t.Errorf("there are %d functions; there should be three and no helpers", n)
	}
	roles := map[string]bool{}
	for id, f := range made.all("AWS::Lambda::Function") {
		want := map[string]any{
			"Runtime": "provided.al2023", "Architectures": []any{"arm64"},
			"TracingConfig": map[string]any{"Mode": "Active"},
		}
		for name, value := range want {
			if diff := cmp.Diff(value, f.Properties[name]); diff != "" {
				t.Errorf("%s: %s\n%s", id, name, diff)
			}
		}
		if at(t, f.Properties, "LoggingConfig", "LogFormat") != "JSON" {
			t.Errorf("%s does not log as JSON", id)
		}
		// Otherwise Lambda creates a group that never deletes logs.
		if at(t, f.Properties, "LoggingConfig", "LogGroup", "Ref") == nil {
			t.Errorf("%s has no log group", id)
		}
		roles[texts(f.Properties["Role"])[0]] = true
	}
	if len(roles) != 3 {
		t.Errorf("the functions have %d roles", len(roles))
	}
	for id, g := range made.all("AWS::Logs::LogGroup") {
		if g.Properties["RetentionInDays"] != 30.0 {
			t.Errorf("%s retains logs for %v days", id, g.Properties["RetentionInDays"])
		}
		if g.DeletionPolicy != "Delete" {
			t.Errorf("%s is not deleted with the stack", id)
		}
	}
	// By default, Vapi waits for an answer for 20 seconds.
	if got := made.function(t, "RingbackAck")["Timeout"].(float64); got >= 20 {
		t.Errorf("the ack function may run for %v s", got)
	}
}

// TestOrderOfAnUpdate tests that the reader of a queue is updated before its writers.
func TestOrderOfAnUpdate(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	function := func(name string) string { return made.id(t, "AWS::Lambda::Function", "Ringback"+name) }
	mapping := made.id(t, "AWS::Lambda::EventSourceMapping", "RingbackLongJobsToProcess")
	if after := fmt.Sprint(made.Resources[function("Ack")].DependsOn); !strings.Contains(after, mapping) {
		t.Errorf("Ack may send to a queue before it is read: it is updated after %s only", after)
	}
	for writer, reader := range map[string]string{"Ack": "Process", "Process": "Callback"} {
		if after := fmt.Sprint(made.Resources[function(writer)].DependsOn); !strings.Contains(after, function(reader)) {
			t.Errorf("%s is updated after %s only", writer, after)
		}
	}
}

// TestQuickTools tests that the ack function learns which answers wait, and may run for long enough.
func TestQuickTools(t *testing.T) {
	tool := func(name string, quick time.Duration) asynctool.Definition {
		tool := tools(time.Minute)[0].(asynctool.Tool[struct{}])
		tool.Name, tool.Quick, tool.SyncAck = name, quick, true
		return tool
	}
	for _, row := range []struct {
		tools                []asynctool.Definition
		variable             any
		timeout, integration float64
	}{
		{[]asynctool.Definition{tool("slow", 0)}, nil, 15, 16},
		{[]asynctool.Definition{tool("slow", 0), tool("stock", 6*time.Second)}, "stock=6s", 15, 16},
		{
			[]asynctool.Definition{tool("stock", 2500*time.Millisecond), tool("order", asynctool.MaxQuick)},
			"order=25s,stock=2.5s", 28, 29,
		},
	} {
		made := synthesise(t, ringback.Props{Tools: row.tools})
		if got := made.variables(t, "RingbackAck")["QUICK_TOOLS"]; got != row.variable {
			t.Errorf("the quick tools are %v, want %v", got, row.variable)
		}
		if got := made.function(t, "RingbackAck")["Timeout"]; got != row.timeout {
			t.Errorf("%v: the ack function may run for %v s, want %v", row.variable, got, row.timeout)
		}
		for id, i := range made.all("AWS::ApiGatewayV2::Integration") {
			if got := i.Properties["TimeoutInMillis"]; got != 1000*row.integration {
				t.Errorf("%v: API Gateway waits %v ms for %s, want %v s", row.variable, got, id, row.integration)
			}
		}
	}
}

func TestAPI(t *testing.T) {
	made := synthesise(t, ringback.Props{RateLimit: 2.5, BurstLimit: 9})
	var keys []any
	for _, r := range made.all("AWS::ApiGatewayV2::Route") {
		keys = append(keys, r.Properties["RouteKey"])
	}
	slices.SortFunc(keys, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	if diff := cmp.Diff([]any{"POST /results/{token}", "POST /vapi"}, keys); diff != "" {
		t.Error(diff)
	}
	// Both routes lead to the ack function.
	for id, i := range made.all("AWS::ApiGatewayV2::Integration") {
		if got := texts(i.Properties["IntegrationUri"]); got[0] != "RingbackAck" {
			t.Errorf("%s leads to %v", id, got)
		}
	}
	url := texts(made.variables(t, "RingbackProcess")["COMPLETION_URL"])
	if diff := cmp.Diff([]string{"RingbackApi/results/"}, url); diff != "" {
		t.Error(diff)
	}
	stage := made.only(t, "AWS::ApiGatewayV2::Stage", "RingbackStage").Properties
	if got := at(t, stage, "DefaultRouteSettings", "ThrottlingRateLimit"); got != 2.5 {
		t.Errorf("the rate limit is %v", got)
	}
	if got := at(t, stage, "DefaultRouteSettings", "ThrottlingBurstLimit"); got != 9.0 {
		t.Errorf("the burst limit is %v", got)
	}
	var format map[string]string
	if err := json.Unmarshal([]byte(at(t, stage, "AccessLogSettings", "Format").(string)), &format); err != nil {
		t.Fatalf("the access log is not JSON: %v", err)
	}
	for name, variable := range format {
		// Headers contain the credential. A path or a query can contain one.
		for _, secret := range []string{"header", "querystring", ".path", "rawPath", "authorizer.claims"} {
			if strings.Contains(variable, secret) {
				t.Errorf("the access log contains %s: %s", name, variable)
			}
		}
	}
}

// Each route has limits of its own, so that a flood of completions cannot stop the webhooks. The burst of webhooks
// has room for 100 calls at once.
func TestThrottles(t *testing.T) {
	limits := func(rate, burst float64) map[string]any {
		return map[string]any{"ThrottlingRateLimit": rate, "ThrottlingBurstLimit": burst, "DetailedMetricsEnabled": true}
	}
	for name, row := range map[string]struct {
		props                ringback.Props
		webhook, completions map[string]any
	}{
		"defaults": {ringback.Props{}, limits(50, 200), limits(50, 200)},
		"settings of before": {
			ringback.Props{RateLimit: 400, BurstLimit: 1000}, limits(400, 1000), limits(400, 1000),
		},
		"one for each": {
			ringback.Props{RateLimit: 400, BurstLimit: 1000, CompletionRateLimit: 2.5, CompletionBurstLimit: 3},
			limits(400, 1000), limits(2.5, 3),
		},
	} {
		made := synthesise(t, row.props)
		stage := made.only(t, "AWS::ApiGatewayV2::Stage", "RingbackStage")
		want := map[string]any{"POST /vapi": row.webhook, "POST /results/{token}": row.completions}
		if diff := cmp.Diff(want, stage.Properties["RouteSettings"]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		// API Gateway refuses the settings of a route that does not exist yet.
		for id := range made.all("AWS::ApiGatewayV2::Route") {
			if after := fmt.Sprint(stage.DependsOn); !strings.Contains(after, id) {
				t.Errorf("%s: the stage is made after %s only", name, after)
			}
		}
	}
}

// The alarms count lines of the access log, which has one for each request. They tell the refusals of a flood from
// other ones.
func TestFloodAlarms(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	accessLogs := made.id(t, "AWS::Logs::LogGroup", "RingbackAccessLogs")
	for name, want := range map[string]struct {
		pattern   string
		threshold float64
	}{
		"Refused":   {`{ $.status = "401" }`, 10},
		"Throttled": {`{ ($.status = "429") && ($.integrationStatus != "200") }`, 0},
	} {
		filter := made.only(t, "AWS::Logs::MetricFilter", "Ringback"+name).Properties
		got := []any{at(t, filter, "LogGroupName", "Ref"), filter["FilterPattern"]}
		if diff := cmp.Diff([]any{accessLogs, want.pattern}, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		alarm := made.only(t, "AWS::CloudWatch::Alarm", "Ringback"+name+"Alarm").Properties
		got = []any{
			alarm["Namespace"], alarm["MetricName"], alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"],
			alarm["Threshold"],
		}
		metric := at(t, filter, "MetricTransformations", "0")
		counts := []any{
			at(t, metric, "MetricNamespace"), at(t, metric, "MetricName"), "Sum", 60.0, 1.0, want.threshold,
		}
		if diff := cmp.Diff(counts, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if value := at(t, metric, "MetricValue"); value != "1" {
			t.Errorf("%s: a line counts as %v", name, value)
		}
	}
	// The patterns compare texts.
	stage := made.only(t, "AWS::ApiGatewayV2::Stage", "RingbackStage").Properties
	format := at(t, stage, "AccessLogSettings", "Format").(string)
	for _, member := range []string{`"status":"$context.status"`, `"integrationStatus":"$context.integrationStatus"`} {
		if !strings.Contains(format, member) {
			t.Errorf("the access log has no %s: %s", member, format)
		}
	}
}

func TestCustomDomain(t *testing.T) {
	const (
		host = "ringback.example.com"
		arn  = "arn:aws:acm:eu-central-1:111122223333:certificate/12345678-1234-1234-1234-123456789012"
	)
	for _, keep := range []bool{false, true} {
		stack := newStack(t, "Ringback")
		r := newRingback(t, stack, ringback.Props{
			DomainName: host, KeepExecuteAPIEndpoint: keep,
			Certificate: awscertificatemanager.Certificate_FromCertificateArn(stack, jsii.String("c"), jsii.String(arn)),
		})
		if r.WebhookURL != "https://"+host+"/vapi" || r.CompletionURL != "https://"+host+"/results/" {
			t.Errorf("the URLs are %s and %s", r.WebhookURL, r.CompletionURL)
		}
		made, _ := synth(t, stack)
		api := made.only(t, "AWS::ApiGatewayV2::Api", "RingbackApi").Properties
		if off := api["DisableExecuteApiEndpoint"] == true; off == keep {
			t.Errorf("the generated address is switched off: %v, although it is kept: %v", off, keep)
		}
		domain := made.only(t, "AWS::ApiGatewayV2::DomainName", "RingbackDomain").Properties
		if domain["DomainName"] != host {
			t.Errorf("the domain is %v", domain["DomainName"])
		}
		got := at(t, domain, "DomainNameConfigurations", "0").(map[string]any)
		if got["CertificateArn"] != arn || got["SecurityPolicy"] != "TLS_1_2" || got["EndpointType"] != "REGIONAL" {
			t.Errorf("the domain is %v", got)
		}
		mapping := made.only(t, "AWS::ApiGatewayV2::ApiMapping", "RingbackDomainMapping")
		leads := slices.Concat(texts(mapping.Properties["ApiId"]), texts(mapping.Properties["Stage"]))
		if diff := cmp.Diff([]string{"RingbackApi", "$default"}, leads); diff != "" {
			t.Error(diff)
		}
		stage := made.id(t, "AWS::ApiGatewayV2::Stage", "RingbackStage")
		if after := fmt.Sprint(mapping.DependsOn); !strings.Contains(after, stage) {
			t.Errorf("the mapping needs the stage, and is made after %s", after)
		}
		if got := made.variables(t, "RingbackProcess")["COMPLETION_URL"]; got != "https://"+host+"/results/" {
			t.Errorf("external systems post to %v", got)
		}
	}
	api := synthesise(t, ringback.Props{}).only(t, "AWS::ApiGatewayV2::Api", "RingbackApi").Properties
	if api["DisableExecuteApiEndpoint"] != nil {
		t.Error("without a domain, the API has no address")
	}
}

func TestTable(t *testing.T) {
	for policy, want := range map[awscdk.RemovalPolicy]string{"": "Retain", awscdk.RemovalPolicy_DESTROY: "Delete"} {
		table := synthesise(t, ringback.Props{RemovalPolicy: policy}).only(t, "AWS::DynamoDB::Table", "RingbackJobsTable")
		if table.DeletionPolicy != want {
			t.Errorf("with %q, the table's deletion policy is %s", policy, table.DeletionPolicy)
		}
		p := table.Properties
		got := []any{
			p["BillingMode"], at(t, p, "KeySchema", "0", "AttributeName"),
			at(t, p, "AttributeDefinitions", "0", "AttributeType"),
			at(t, p, "TimeToLiveSpecification", "AttributeName"), at(t, p, "TimeToLiveSpecification", "Enabled"),
			at(t, p, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"),
		}
		if diff := cmp.Diff([]any{"PAY_PER_REQUEST", "id", "S", "expires", true, true}, got); diff != "" {
			t.Error(diff)
		}
		index := []any{map[string]any{
			"IndexName": "calls",
			"KeySchema": []any{
				map[string]any{"AttributeName": "call", "KeyType": "HASH"},
				map[string]any{"AttributeName": "created", "KeyType": "RANGE"},
			},
			"Projection": map[string]any{
				"ProjectionType": "INCLUDE", "NonKeyAttributes": []any{"state", "tool", "progress", "wake", "updated"},
			},
		}, map[string]any{
			"IndexName": "recent",
			"KeySchema": []any{
				map[string]any{"AttributeName": "shard", "KeyType": "HASH"},
				map[string]any{"AttributeName": "first", "KeyType": "RANGE"},
			},
			"Projection": map[string]any{"ProjectionType": "KEYS_ONLY"},
		}}
		if diff := cmp.Diff(index, p["GlobalSecondaryIndexes"]); diff != "" {
			t.Error(diff)
		}
		types := map[string]any{}
		for _, a := range p["AttributeDefinitions"].([]any) {
			types[at(t, a, "AttributeName").(string)] = at(t, a, "AttributeType")
		}
		keys := map[string]any{"id": "S", "call": "S", "created": "N", "shard": "N", "first": "S"}
		if diff := cmp.Diff(keys, types); diff != "" {
			t.Error(diff)
		}
	}
}

// secretARN returns the complete ARN of a secret.
func secretARN(name string) string {
	return "arn:aws:secretsmanager:eu-central-1:111122223333:secret:" + name + "-AbCdEf"
}

// givenSecret returns a secret that exists outside the stack.
func givenSecret(stack awscdk.Stack, arn string) awssecretsmanager.ISecret {
	return awssecretsmanager.Secret_FromSecretCompleteArn(stack, jsii.String("given"), jsii.String(arn))
}

func TestWebhookSecret(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	secret := made.only(t, "AWS::SecretsManager::Secret", "RingbackWebhookSecret").Properties
	if got := at(t, secret, "GenerateSecretString", "SecretStringTemplate"); got != `{"type":"bearer"}` {
		t.Errorf("the template of the secret is %v", got)
	}
	if got := at(t, secret, "GenerateSecretString", "GenerateStringKey"); got != "token" {
		t.Errorf("the generated field is %v", got)
	}

	arn := secretARN("vapi")
	stack := newStack(t, "Ringback")
	made = synthesiseIn(t, stack, ringback.Props{WebhookSecret: givenSecret(stack, arn)})
	made.onlySecret(t, "RingbackCompletionSecret")
	if got := made.variables(t, "RingbackAck")["WEBHOOK_SECRET_ID"]; got != arn {
		t.Errorf("the ack function reads %v", got)
	}
	const reads = "secretsmanager:GetSecretValue on RingbackCompletionSecret "
	if !slices.Contains(made.role(t, "RingbackAck"), reads+arn) {
		t.Error("the ack function may not read the given secret")
	}

	// A partial ARN lacks the random characters of the real one.
	partial := strings.TrimSuffix(arn, "-AbCdEf")
	stack = newStack(t, "Ringback")
	made = synthesiseIn(t, stack, ringback.Props{WebhookSecret: awssecretsmanager.Secret_FromSecretPartialArn(
		stack, jsii.String("given"), jsii.String(partial))})
	if !slices.Contains(made.role(t, "RingbackAck"), reads+partial+"-??????") {
		t.Error("the ack function may not read the secret with the given partial ARN")
	}
}

// TestShortWebhookSecret passes secrets to the construct that the app defines itself.
func TestShortWebhookSecret(t *testing.T) {
	const long = "24-characters-of-a-token"
	text := func(value string) *awssecretsmanager.SecretProps {
		return &awssecretsmanager.SecretProps{SecretStringValue: awscdk.SecretValue_UnsafePlainText(&value)}
	}
	generated := func(length *float64) *awssecretsmanager.SecretProps {
		return &awssecretsmanager.SecretProps{GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
			SecretStringTemplate: jsii.String(`{"type":"bearer"}`), GenerateStringKey: jsii.String("token"),
			PasswordLength: length,
		}}
	}
	for name, row := range map[string]struct {
		props *awssecretsmanager.SecretProps
		err   string
	}{
		"long":        {text(`{"type":"bearer","token":"` + long + `"}`), ""},
		"short":       {text(`{"type":"bearer","token":"` + long[1:] + `"}`), "token has fewer than 24 characters"},
		"a short key": {text(`{"type":"hmac","algorithm":"sha256","secretKey":"k"}`), "secretKey has fewer"},
		"short, second": {text(`[{"type":"secret","secret":"` + long + `"},{"type":"secret","secret":"s"}]`),
			"secret has fewer"},
		"not a plan":      {text(long), "webhook credential: not JSON"},
		"generated":       {generated(jsii.Number(24)), ""},
		"by default":      {generated(nil), ""},
		"short generated": {generated(jsii.Number(23)), "has 23 generated characters; it needs at least 24"},
	} {
		t.Run(name, func(t *testing.T) {
			stack := newStack(t, "Ringback")
			_, err := ringback.NewRingback(stack, "Ringback", withTools(t, ringback.Props{Binaries: "testdata/functions",
				WebhookSecret: awssecretsmanager.NewSecret(stack, jsii.String("Given"), row.props)}))
			if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("%v, want %q", err, row.err)
			}
			if err != nil && strings.Contains(err.Error(), long[1:]) {
				t.Errorf("the error quotes the secret: %v", err)
			}
		})
	}
}

// onlySecret checks that the stack creates only this secret.
func (m template) onlySecret(t *testing.T, name string) {
	t.Helper()
	m.only(t, "AWS::SecretsManager::Secret", name)
	if n := len(m.all("AWS::SecretsManager::Secret")); n != 1 {
		t.Errorf("the stack creates %d secrets; want only %s", n, name)
	}
}

// Process signs completion tokens, and ack verifies them.
func TestCompletionSecret(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	want := map[string]any{
		"SecretStringTemplate": "{}", "GenerateStringKey": "current", "PasswordLength": 48.0, "ExcludePunctuation": true,
	}
	secret := made.only(t, "AWS::SecretsManager::Secret", "RingbackCompletionSecret").Properties
	if diff := cmp.Diff(want, secret["GenerateSecretString"]); diff != "" {
		t.Error(diff)
	}

	arn := secretARN("tokens")
	stack := newStack(t, "Ringback")
	r := newRingback(t, stack, ringback.Props{CompletionSecret: givenSecret(stack, arn)})
	if got := *r.CompletionSecret.SecretArn(); got != arn {
		t.Errorf("the completion secret is %s", got)
	}
	made, _ = synth(t, stack)
	made.onlySecret(t, "RingbackWebhookSecret")
	for name, want := range map[string]any{"RingbackAck": arn, "RingbackProcess": arn, "RingbackCallback": nil} {
		if got := made.variables(t, name)["COMPLETION_SECRET_ID"]; got != want {
			t.Errorf("%s reads %v", name, got)
		}
		reads := slices.ContainsFunc(made.role(t, name), func(s string) bool {
			return strings.HasPrefix(s, "secretsmanager:GetSecretValue on ") && strings.Contains(s, arn)
		})
		if reads != (want != nil) {
			t.Errorf("%s may read the given secret: %v", name, reads)
		}
	}
}

// The environment of the process function has what schedules need. EventBridge
// Scheduler can assume the role for schedules of the group only.
func TestSchedules(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	group := made.only(t, "AWS::Scheduler::ScheduleGroup", "RingbackSchedules")
	if group.DeletionPolicy != "Delete" {
		t.Errorf("the schedules are not deleted with the queue that they send to: %s", group.DeletionPolicy)
	}
	role := made.only(t, "AWS::IAM::Role", "RingbackSchedulesRole").Properties
	groupID := made.id(t, "AWS::Scheduler::ScheduleGroup", "RingbackSchedules")
	want := []any{map[string]any{
		"Action": "sts:AssumeRole", "Effect": "Allow", "Principal": map[string]any{"Service": "scheduler.amazonaws.com"},
		"Condition": map[string]any{"StringEquals": map[string]any{
			"aws:SourceAccount": map[string]any{"Ref": "AWS::AccountId"},
			"aws:SourceArn":     map[string]any{"Fn::GetAtt": []any{groupID, "Arn"}},
		}},
	}}
	if diff := cmp.Diff(want, at(t, role, "AssumeRolePolicyDocument", "Statement")); diff != "" {
		t.Error(diff)
	}
	name := group.Properties["Name"].(string)
	for function, want := range map[string]map[string]string{
		"RingbackAck": {
			"JOBS_TABLE": "RingbackJobsTable", "RESULTS_QUEUE_URL": "RingbackResults",
			"LONG_JOBS_QUEUE_URL": "RingbackLongJobs",
		},
		"RingbackProcess": {
			"SCHEDULE_GROUP": name, "SCHEDULE_ROLE_ARN": "RingbackSchedulesRole",
			"JOBS_QUEUE_ARN": "RingbackJobs", "JOBS_DLQ_ARN": "RingbackJobsDeadLetters",
			"LONG_JOBS_QUEUE_ARN": "RingbackLongJobs", "LONG_JOBS_QUEUE_URL": "RingbackLongJobs",
		},
	} {
		got := map[string]string{}
		for variable := range want {
			got[variable] = texts(made.variables(t, function)[variable])[0]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", function, diff)
		}
	}
	// The daily sweep.
	daily := made.only(t, "AWS::Scheduler::Schedule", "RingbackSweep").Properties
	target := daily["Target"].(map[string]any)
	if daily["ScheduleExpression"] != "rate(1 day)" || daily["GroupName"] != name ||
		target["Input"] != `{"version":1,"kind":"sweep"}` {
		t.Errorf("the sweep is %v", daily)
	}
	if diff := cmp.Diff([]string{"RingbackJobs", "RingbackSchedulesRole", "RingbackJobsDeadLetters"}, []string{
		texts(target["Arn"])[0], texts(target["RoleArn"])[0], texts(at(t, target, "DeadLetterConfig", "Arn"))[0],
	}); diff != "" {
		t.Error(diff)
	}
	alarm := made.only(t, "AWS::CloudWatch::Alarm", "RingbackWakesDroppedAlarm").Properties
	dimensions := []any{map[string]any{"Name": "ScheduleGroup", "Value": name}}
	if diff := cmp.Diff([]any{"AWS/Scheduler", "InvocationDroppedCount", dimensions},
		[]any{alarm["Namespace"], alarm["MetricName"], alarm["Dimensions"]}); diff != "" {
		t.Error(diff)
	}
}

// reads reports whether a function may read a secret.
func (m template) reads(t *testing.T, function, secret string) bool {
	t.Helper()
	return slices.ContainsFunc(m.role(t, function), func(statement string) bool {
		return strings.HasPrefix(statement, "secretsmanager:GetSecretValue on ") && strings.Contains(statement, secret)
	})
}

// If no tool parks results, the ack must not look for parked results in each call, and the callback function
// must not read the key that names customers.
func TestNextCall(t *testing.T) {
	for afterCall, want := range map[asynctool.AfterCall]any{
		asynctool.Announce: nil, asynctool.CallBack: nil, asynctool.NextCall: "on",
	} {
		tool := tools(time.Minute)[0].(asynctool.Tool[struct{}])
		other := tool
		other.Name, other.AfterCall = "other", afterCall
		props := ringback.Props{Tools: []asynctool.Definition{tool, other}}
		stack := newStack(t, "Ringback")
		if afterCall == asynctool.NextCall {
			_, err := ringback.NewRingback(newStack(t, "WithoutKey"), "Ringback", props)
			if err == nil || !strings.Contains(err.Error(), "set PrivateKeySecret") || !strings.Contains(err.Error(), "other") {
				t.Errorf("without the private key, the error is %v", err)
			}
			props.PrivateKeySecret = givenSecret(stack, secretARN("private"))
		}
		made := synthesiseIn(t, stack, props)
		if got := made.variables(t, "RingbackAck")["NEXT_CALL"]; got != want {
			t.Errorf("with %s, NEXT_CALL is %v", afterCall, got)
		}
		_, named := made.variables(t, "RingbackCallback")["COMPLETION_SECRET_ID"]
		granted := made.reads(t, "RingbackCallback", "RingbackCompletionSecret")
		if parks := want != nil; named != parks || granted != parks {
			t.Errorf("with %s, the callback function knows the secret: %t, and may read it: %t", afterCall, named, granted)
		}
	}
}

// TestLimitsPerCall checks the limits on the jobs of one call, which are there by default.
func TestLimitsPerCall(t *testing.T) {
	for name, test := range map[string]struct {
		props            ringback.Props
		most, concurrent any // the values of the variables
	}{
		"by default": {ringback.Props{}, "50", "10"},
		"explicit":   {ringback.Props{MaxJobsPerCall: 100, MaxConcurrentJobsPerCall: 20}, "100", "20"},
		"none": {
			ringback.Props{MaxJobsPerCall: ringback.NoLimit, MaxConcurrentJobsPerCall: ringback.NoLimit}, nil, nil,
		},
	} {
		variables := synthesise(t, test.props).variables(t, "RingbackProcess")
		most, concurrent := variables["MAX_JOBS_PER_CALL"], variables["MAX_CONCURRENT_JOBS_PER_CALL"]
		if most != test.most || concurrent != test.concurrent {
			t.Errorf("%s: the limits are %v and %v, want %v and %v", name, most, concurrent, test.most, test.concurrent)
		}
	}
}

// Only the callback function gets the private key, for chats and outbound calls.
func TestOutbound(t *testing.T) {
	arn := secretARN("private")
	names := []string{
		"VAPI_PRIVATE_KEY_SECRET_ID", "VAPI_API_URL", "CALL_BACK_HOURS", "CALL_BACK_ZONE",
		"CALL_BACK_ASSISTANT_ID", "CALL_BACK_PHONE_NUMBER_ID", "CALL_BACK_PER_DAY", "CALL_BACK_PREFIXES",
	}
	for name, test := range map[string]struct {
		props ringback.Props
		key   bool
		want  map[string]any
	}{
		"nothing": {},
		"chats":   {key: true, want: map[string]any{"VAPI_PRIVATE_KEY_SECRET_ID": arn}},
		"outbound calls": {ringback.Props{CallBackHours: "09:00-18:00"}, true, map[string]any{
			"VAPI_PRIVATE_KEY_SECRET_ID": arn, "CALL_BACK_HOURS": "09:00-18:00",
			"CALL_BACK_PER_DAY": "100",
		}},
		"without a limit": {
			ringback.Props{CallBackHours: "09:00-18:00", CallBackPerDay: ringback.NoLimit}, true,
			map[string]any{"VAPI_PRIVATE_KEY_SECRET_ID": arn, "CALL_BACK_HOURS": "09:00-18:00"},
		},
		"everything": {
			ringback.Props{
				VapiAPIURL: "https://api.eu.vapi.ai", CallBackHours: "00:00-23:59", CallBackZone: "Europe/Berlin",
				CallBackAssistantID: vapiID, CallBackPhoneNumberID: vapiID,
				CallBackPerDay: 7, CallBackPrefixes: []string{"+49", "+1"},
			},
			true,
			map[string]any{
				"VAPI_PRIVATE_KEY_SECRET_ID": arn, "VAPI_API_URL": "https://api.eu.vapi.ai", "CALL_BACK_HOURS": "00:00-23:59",
				"CALL_BACK_ZONE": "Europe/Berlin", "CALL_BACK_ASSISTANT_ID": vapiID, "CALL_BACK_PHONE_NUMBER_ID": vapiID,
				"CALL_BACK_PER_DAY": "7", "CALL_BACK_PREFIXES": "+49,+1",
			},
		},
	} {
		stack := newStack(t, "Ringback")
		if test.key {
			test.props.PrivateKeySecret = givenSecret(stack, arn)
		}
		made := synthesiseIn(t, stack, test.props)
		for _, function := range []string{"RingbackAck", "RingbackProcess", "RingbackCallback"} {
			got, want := made.variables(t, function), map[string]any{}
			maps.DeleteFunc(got, func(name string, _ any) bool { return !slices.Contains(names, name) })
			if function == "RingbackCallback" && test.want != nil {
				want = test.want
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s: %s", name, function, diff)
			}
			reads := made.reads(t, function, arn)
			if reads != (test.key && function == "RingbackCallback") {
				t.Errorf("%s: %s may read the private key: %v", name, function, reads)
			}
		}
	}
}

// Vapi sends an OAuth2 token in the header of a bearer token, so only one of the two
// can be verified.
func TestJWT(t *testing.T) {
	jwt := &ringback.JWT{Issuer: "https://issuer.example.com", Audience: []string{"ringback"}}
	made := synthesise(t, ringback.Props{JWT: jwt})
	var authorizers []map[string]any
	for _, a := range made.all("AWS::ApiGatewayV2::Authorizer") {
		authorizers = append(authorizers, a.Properties)
	}
	if len(authorizers) != 1 {
		t.Fatalf("there are %d authorizers", len(authorizers))
	}
	want := map[string]any{"Issuer": "https://issuer.example.com", "Audience": []any{"ringback"}}
	if diff := cmp.Diff(want, authorizers[0]["JwtConfiguration"]); diff != "" {
		t.Error(diff)
	}
	got := map[any]any{}
	for _, route := range made.all("AWS::ApiGatewayV2::Route") {
		got[route.Properties["RouteKey"]] = route.Properties["AuthorizationType"]
	}
	// An external completion has no token of the issuer, only the job's.
	if diff := cmp.Diff(map[any]any{"POST /vapi": "JWT", "POST /results/{token}": "NONE"}, got); diff != "" {
		t.Error(diff)
	}
	scopes := func(m template) map[any]any {
		scopes := map[any]any{}
		for _, route := range m.all("AWS::ApiGatewayV2::Route") {
			scopes[route.Properties["RouteKey"]] = route.Properties["AuthorizationScopes"]
		}
		return scopes
	}
	if diff := cmp.Diff(map[any]any{"POST /vapi": nil, "POST /results/{token}": nil}, scopes(made)); diff != "" {
		t.Error(diff)
	}
	jwt.Scopes = []string{"ringback/webhook", "admin"}
	want = map[string]any{"POST /vapi": []any{"ringback/webhook", "admin"}, "POST /results/{token}": nil}
	for route, scopes := range scopes(synthesise(t, ringback.Props{JWT: jwt})) {
		if diff := cmp.Diff(want[route.(string)], scopes); diff != "" {
			t.Errorf("%s: %s", route, diff)
		}
	}
	if got := made.variables(t, "RingbackAck")["WEBHOOK_AUTH"]; got != `{"type":"none"}` {
		t.Errorf("the ack function verifies %v", got)
	}
	made.onlySecret(t, "RingbackCompletionSecret")
}

func TestToolSettings(t *testing.T) {
	made := synthesise(t, ringback.Props{ToolSettings: []ringback.Setting{
		{Name: "ORDERS_API_URL", Value: "https://orders.example.com"},
		{Name: "STOCK_API_TOKEN", SecretARN: secretARN("stock"), SecretField: "token"},
	}})
	for _, name := range []string{"RingbackAck", "RingbackCallback"} {
		if made.variables(t, name)["STOCK_API_TOKEN"] != nil {
			t.Errorf("%s gets a tool's settings", name)
		}
	}
	variables := made.variables(t, "RingbackProcess")
	if got := at(t, variables, "ORDERS_API_URL"); got != "https://orders.example.com" {
		t.Errorf("ORDERS_API_URL is %v", got)
	}
	// A dynamic reference: the template never contains the secret itself.
	want := "{{resolve:secretsmanager:" + secretARN("stock") + ":SecretString:token::}}"
	if got := at(t, variables, "STOCK_API_TOKEN"); got != want {
		t.Errorf("STOCK_API_TOKEN is %v", got)
	}
	// CloudFormation reads the secret, so the function needs no permission to.
	for _, s := range made.role(t, "RingbackProcess") {
		if strings.Contains(s, "secretsmanager") && s != "secretsmanager:GetSecretValue on RingbackCompletionSecret" {
			t.Errorf("the process function may read secrets: %s", s)
		}
	}
}

// A local runner sets only variables that are declared. In a deployment, they must
// have no effect.
func TestLocalEndpoint(t *testing.T) {
	deployed, local := synthesise(t, ringback.Props{}), synthesise(t, ringback.Props{LocalEndpoint: true})
	for name, want := range map[string][]string{
		"RingbackAck":      {"AWS_ENDPOINT_URL", "COMPLETION_KEYS", "WEBHOOK_AUTH"},
		"RingbackProcess":  {"AWS_ENDPOINT_URL", "COMPLETION_KEYS"},
		"RingbackCallback": {"AWS_ENDPOINT_URL", "COMPLETION_KEYS"},
	} {
		plain := deployed.variables(t, name)
		var added []string
		for variable, value := range local.variables(t, name) {
			if _, ok := plain[variable]; !ok {
				added = append(added, variable)
				if value != "" {
					t.Errorf("%s: %s is %v", name, variable, value)
				}
			}
		}
		slices.Sort(added)
		if diff := cmp.Diff(want, added); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The Makefile contains the logical ids of the functions, and infra/sam.json contains
// their variables.
func TestSAM(t *testing.T) {
	made := synthesise(t, ringback.Props{LocalEndpoint: true})
	targets, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	for id, f := range made.all("AWS::Lambda::Function") {
		if !strings.Contains(string(targets), "local invoke "+id+" ") {
			t.Errorf("the Makefile does not invoke %s", id)
		}
		for variable := range at(t, f.Properties, "Environment", "Variables").(map[string]any) {
			declared[variable] = true
		}
	}
	file, err := os.ReadFile("../sam.json")
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Parameters map[string]string }
	if err := json.Unmarshal(file, &set); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(declared)), slices.Sorted(maps.Keys(set.Parameters))); diff != "" {
		t.Errorf("the variables in infra/sam.json are not those of the functions:\n%s", diff)
	}
	if long := made.variables(t, "RingbackAck")["LONG_TOOLS"]; long != set.Parameters["LONG_TOOLS"] {
		t.Errorf("the long tools in infra/sam.json are not %v", long)
	}
}

func TestEncryptionKey(t *testing.T) {
	stack := newStack(t, "Ringback")
	key := awskms.NewKey(stack, jsii.String("Key"), nil)
	made := synthesiseIn(t, stack, ringback.Props{
		EncryptionKey: key, UndeliveredEmail: "a@example.com", AlarmEmail: "b@example.com",
	})
	properties := map[string]string{
		"AWS::SQS::Queue": "KmsMasterKeyId", "AWS::SecretsManager::Secret": "KmsKeyId",
		"AWS::SNS::Topic": "KmsMasterKeyId", "AWS::Lambda::Function": "KmsKeyArn",
	}
	for kind, name := range properties {
		for id, r := range made.all(kind) {
			if got := texts(r.Properties[name]); got[0] != "Key" {
				t.Errorf("%s is encrypted with %v", id, got)
			}
		}
	}
	table := made.only(t, "AWS::DynamoDB::Table", "RingbackJobsTable").Properties
	if got := texts(at(t, table, "SSESpecification", "KMSMasterKeyId")); got[0] != "Key" {
		t.Errorf("the table is encrypted with %v", got)
	}
	for _, name := range []string{"Ack", "Process", "Callback"} {
		if !slices.ContainsFunc(made.role(t, "Ringback"+name), func(s string) bool {
			return strings.Contains(s, "kms:Decrypt") && strings.HasSuffix(s, " on Key")
		}) {
			t.Errorf("the function %s cannot use the key", name)
		}
	}
	if !slices.Contains(made.role(t, "RingbackSchedules"), "kms:Decrypt kms:GenerateDataKey on Key") {
		t.Error("the schedules cannot send to the encrypted queue")
	}
	// A service publishes to an encrypted topic only if the key's own policy
	// admits it.
	policy := fmt.Sprint(made.only(t, "AWS::KMS::Key", "Key").Properties["KeyPolicy"])
	for _, service := range []string{"events.amazonaws.com", "cloudwatch.amazonaws.com"} {
		if !strings.Contains(policy, service) {
			t.Errorf("the key's policy does not admit %s, whose messages would be lost", service)
		}
	}
}

func TestUndelivered(t *testing.T) {
	stack := newStack(t, "Ringback")
	made := synthesiseIn(t, stack, ringback.Props{
		EventBus:         awsevents.EventBus_FromEventBusName(stack, jsii.String("bus"), jsii.String("default")),
		UndeliveredEmail: "someone@example.com",
	})
	if n := len(made.all("AWS::Events::EventBus")); n != 0 {
		t.Errorf("the stack creates %d buses although one is given", n)
	}
	rule := made.only(t, "AWS::Events::Rule", "RingbackUndeliveredRule").Properties
	want := map[string]any{"source": []any{"ringback"}, "detail-type": []any{"undelivered"}}
	if diff := cmp.Diff(want, rule["EventPattern"]); diff != "" {
		t.Error(diff)
	}
	if rule["EventBusName"] != "default" {
		t.Errorf("the rule is on %v", rule["EventBusName"])
	}
	if got := texts(at(t, rule, "Targets", "0", "Arn")); got[0] != "RingbackUndeliveredTopic" {
		t.Errorf("the rule sends to %v", got)
	}
	if got := made.variables(t, "RingbackCallback")["EVENT_BUS_NAME"]; got != "default" {
		t.Errorf("the callback function publishes on %v", got)
	}
}

// An operator who did not write an alarm reads it at night.
func TestAlarms(t *testing.T) {
	made := synthesise(t, ringback.Props{AlarmEmail: "operator@example.com"})
	var names []string
	for id, a := range made.all("AWS::CloudWatch::Alarm") {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(withoutHash(id), "Ringback"), "Alarm"))
		description, _ := a.Properties["AlarmDescription"].(string)
		if len(description) < 80 || !strings.HasSuffix(description, ".") {
			t.Errorf("%s must describe what happened and what to do: %q", id, description)
		}
		for _, actions := range []string{"AlarmActions", "OKActions"} {
			if got := texts(a.Properties[actions]); len(got) != 1 || got[0] != "RingbackAlarmTopic" {
				t.Errorf("%s notifies %v", id, got)
			}
		}
		if a.Properties["TreatMissingData"] != "notBreaching" {
			t.Errorf("%s starts when there are no calls", id)
		}
	}
	slices.Sort(names)
	want := []string{
		"AckErrors", "AckThrottles", "CallbackErrors", "CallbackThrottles", "JobsDeadLetters", "JobsWaiting",
		"LongJobsWaiting", "OldestJob", "OldestLongJob", "OldestResult", "ProcessErrors", "ProcessThrottles",
		"Refused", "ResultsDeadLetters", "Throttled", "Undelivered", "WakesDropped", "Webhook5xx",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	// The policy replaces a topic's default, which would admit CloudWatch.
	policy := fmt.Sprint(made.only(t, "AWS::SNS::TopicPolicy", "RingbackAlarmTopicPolicy").Properties)
	if !strings.Contains(policy, "cloudwatch.amazonaws.com") {
		t.Error("CloudWatch may not publish to the alarms' topic")
	}
	// The policy of a given topic is its owner's.
	stack := newStack(t, "Ringback")
	const arn = "arn:aws:sns:eu-central-1:111122223333:operators"
	made = synthesiseIn(t, stack, ringback.Props{
		AlarmTopic: awssns.Topic_FromTopicArn(stack, jsii.String("topic"), jsii.String(arn)),
	})
	for id, a := range made.all("AWS::CloudWatch::Alarm") {
		if got := at(t, a.Properties, "AlarmActions", "0"); got != arn {
			t.Errorf("%s notifies %v", id, got)
		}
	}
}

// Jobs that wait raise an alarm within minutes. Wake-ups that are not due are delayed
// messages: they are not visible, and the age of a message may include its delay.
func TestWaitingJobs(t *testing.T) {
	made := synthesise(t, ringback.Props{Tools: append(tools(2*time.Minute), asynctool.Tool[struct{}]{
		Name: "again", Description: "Tries again.", Timeout: 10 * time.Second, Attempts: 3,
		Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
			return asynctool.Text("done"), nil
		},
	})})
	alarm := func(name string) (properties map[string]any, queue string) {
		properties = made.only(t, "AWS::CloudWatch::Alarm", name).Properties
		return properties, texts(at(t, properties, "Dimensions", "0", "Value"))[0]
	}
	for prefix, queue := range map[string]string{"": "RingbackJobs", "Long": "RingbackLongJobs"} {
		p, of := alarm("Ringback" + prefix + "JobsWaitingAlarm")
		got := []any{
			of, p["MetricName"], p["Statistic"], p["Period"], p["EvaluationPeriods"], p["DatapointsToAlarm"],
			p["ComparisonOperator"], p["Threshold"],
		}
		want := []any{
			queue, "ApproximateNumberOfMessagesVisible", "Minimum", 60.0, 2.0, nil,
			"GreaterThanThreshold", 1.0,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%sJobsWaiting: %s", prefix, diff)
		}
		p, of = alarm("RingbackOldest" + prefix + "JobAlarm")
		// A delay of 15 minutes, and then the slowest tool with its pauses.
		got = []any{of, p["MetricName"], p["Threshold"]}
		want = []any{queue, "ApproximateAgeOfOldestMessage", 15*60 + 150 + 60.0}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Oldest%sJob: %s", prefix, diff)
		}
	}
}

func TestTwoStagesShareNoNames(t *testing.T) {
	names := map[string]string{}
	for _, id := range []string{"Ringback", "Ringback-dev"} {
		for _, r := range synthesiseIn(t, newStack(t, id), ringback.Props{}).Resources {
			for _, property := range []string{
				"Name", "QueueName", "TableName", "FunctionName", "RoleName", "LogGroupName", "AlarmName", "DashboardName",
			} {
				name, ok := r.Properties[property].(string)
				if !ok {
					continue
				}
				key := r.Type + " " + name
				if other := names[key]; other != "" && other != id {
					t.Errorf("%s and %s both have a %s", other, id, key)
				}
				names[key] = id
			}
		}
	}
	if len(names) == 0 {
		t.Error("no name was checked")
	}
}

const vapiID = "5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33"

func TestInvalidProps(t *testing.T) {
	setting := func(s ...ringback.Setting) ringback.Props { return ringback.Props{ToolSettings: s} }
	stack := newStack(t, "Ringback")
	key := awssecretsmanager.Secret_FromSecretNameV2(stack, jsii.String("s"), jsii.String("s"))
	hours := func(hours, zone string) ringback.Props {
		return ringback.Props{CallBackHours: hours, CallBackZone: zone, PrivateKeySecret: key}
	}
	certificate := func(arn string) awscertificatemanager.ICertificate {
		return awscertificatemanager.Certificate_FromCertificateArn(stack, jsii.String("c"+arn), jsii.String(arn))
	}
	valid := certificate("arn:aws:acm:eu-central-1:111122223333:certificate/12345678-1234-1234-1234-123456789012")
	domain := func(name string) ringback.Props {
		return ringback.Props{DomainName: name, Certificate: valid}
	}
	tests := []struct {
		props ringback.Props
		want  string
	}{
		{ringback.Props{DomainName: "ringback.example.com"}, "DomainName needs Certificate; set both, or none"},
		{ringback.Props{Certificate: valid}, "Certificate needs DomainName; set both, or none"},
		{ringback.Props{KeepExecuteAPIEndpoint: true}, "KeepExecuteAPIEndpoint needs DomainName"},
		{domain("https://ringback.example.com"), `DomainName is "https://ringback.example.com"; it must be a host name`},
		{domain("ringback.example.com/vapi"), "it must be a host name"},
		{domain("Ringback.example.com"), "it must be a host name in lower case"},
		{domain("ringback"), "it must be a host name"},
		{domain("*.example.com"), "it must be a host name"},
		{domain("ringback.example.com."), "it must be a host name"},
		{domain("192.0.2.1"), "it must be a host name"},
		{
			ringback.Props{DomainName: "ringback.example.com", Certificate: certificate("my-certificate")},
			`Certificate is "my-certificate"; it must be the ARN of a certificate in ACM`,
		},
		{ringback.Props{CompletionBurstLimit: 5001}, "CompletionBurstLimit is 5001"},
		{ringback.Props{CompletionRateLimit: -1}, "CompletionRateLimit is -1"},
		{ringback.Props{BatchSize: 11}, "BatchSize is 11"},
		{ringback.Props{ArgumentRetentionDays: 31}, "ArgumentRetentionDays is 31"},
		{ringback.Props{ProcessConcurrency: 1}, "ProcessConcurrency is 1"},
		{ringback.Props{LongProcessConcurrency: 1}, "LongProcessConcurrency is 1"},
		{ringback.Props{LongProcessConcurrency: -1}, "LongProcessConcurrency is -1"},
		{ringback.Props{LongProcessConcurrency: 1001}, "LongProcessConcurrency is 1001"},
		{ringback.Props{CallbackConcurrency: 1001}, "CallbackConcurrency is 1001"},
		{ringback.Props{ProcessMemory: 64}, "ProcessMemory is 64"},
		{ringback.Props{BurstLimit: -1}, "BurstLimit is -1"},
		{ringback.Props{MaxJobsPerCall: -2}, "MaxJobsPerCall is -2"},
		{ringback.Props{MaxConcurrentJobsPerCall: 65536}, "MaxConcurrentJobsPerCall is 65536"},
		{ringback.Props{RateLimit: -1}, "RateLimit is -1"},
		{ringback.Props{RateLimit: math.NaN()}, "RateLimit is NaN"},
		{
			ringback.Props{MaxJobsPerCall: 1, MaxConcurrentJobsPerCall: 2},
			"MaxConcurrentJobsPerCall is 2, and MaxJobsPerCall is 1",
		},
		{ringback.Props{ResultText: "{text}"}, "ResultText is invalid: the result text has {content} 0 times"},
		{ringback.Props{AlarmEmail: "ops"}, `AlarmEmail is "ops"`},
		{ringback.Props{ControlHosts: []string{"a/b"}}, `ControlHosts has "a/b"`},
		{ringback.Props{JWT: &ringback.JWT{Issuer: "https://issuer.example.com"}}, "JWT.Issuer needs JWT.Audience"},
		{ringback.Props{JWT: &ringback.JWT{Scopes: []string{"ringback"}}}, "JWT.Scopes needs JWT.Issuer and JWT.Audience"},
		{ringback.Props{VapiAPIURL: "http://api.vapi.ai", PrivateKeySecret: key}, "must be an https URL"},
		{ringback.Props{CallBackHours: "09:00-18:00"}, "CallBackHours needs PrivateKeySecret"},
		{hours("9-18", ""), `CallBackHours is "9-18"; it must be like 09:00-18:00`},
		{hours("09:60-18:00", ""), "it must be like 09:00-18:00"},
		{hours("09:00-18:00\n", ""), "it must be like 09:00-18:00"},
		{hours("09:00-09:00", ""), "it must be like 09:00-18:00"},
		{hours("09:00-18:00", "Berlin"), `CallBackZone is "Berlin"; it must be a time zone like Europe/Berlin`},
		{hours("09:00-18:00", "Local"), `CallBackZone is "Local"; it must be`},
		{ringback.Props{CallBackZone: "Europe/Berlin", PrivateKeySecret: key}, "CallBackZone needs CallBackHours"},
		{ringback.Props{CallBackAssistantID: vapiID, PrivateKeySecret: key}, "CallBackAssistantID needs CallBackHours"},
		{ringback.Props{CallBackPhoneNumberID: vapiID, PrivateKeySecret: key}, "CallBackPhoneNumberID needs CallBackHours"},
		{setting(ringback.Setting{Name: "no name"}), "the tool setting no name is not the name of a variable"},
		{setting(ringback.Setting{Name: "X"}), "the tool setting X is not the name"},
		{setting(ringback.Setting{Name: "AWS_REGION", Value: "x"}), "is a variable of Lambda"},
		{setting(ringback.Setting{Name: "JOBS_TABLE", Value: "x"}), "is a variable of Ringback"},
		{setting(ringback.Setting{Name: "COMPLETION_KEYS", Value: "x"}), "is a variable of Ringback"},
		{setting(ringback.Setting{Name: "TA", Value: "x"}, ringback.Setting{Name: "TA", Value: "y"}), "twice"},
		{setting(ringback.Setting{Name: "TA", Value: "x", SecretARN: "arn:aws:secretsmanager:r:1:secret:s"}), "both"},
		{setting(ringback.Setting{Name: "TA", SecretARN: "my-secret"}), "ARN"},
		{setting(ringback.Setting{Name: "TA", SecretField: "f"}), "no secret"},
		{ringback.Props{Binaries: "testdata/nothing"}, "ack/bootstrap"},
		{ringback.Props{Tools: []asynctool.Definition{}}, "there are no tools"},
		{ringback.Props{JWT: &ringback.JWT{Issuer: "i", Audience: []string{"a"}}, WebhookSecret: key}, "exclude"},
	}
	for i, test := range tests {
		_, err := ringback.NewRingback(stack, fmt.Sprint("R", i), withTools(t, test.props))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: the error is %v; it should contain %q", test.props, err, test.want)
		}
	}
}

// A fresh clone contains only the source.
func TestFunctionsAreBuilt(t *testing.T) {
	for architecture, want := range map[awslambda.Architecture]elf.Machine{
		nil: elf.EM_AARCH64, awslambda.Architecture_X86_64(): elf.EM_X86_64,
	} {
		stack := newStack(t, "Ringback")
		props := ringback.Props{Architecture: architecture, LogRetention: awslogs.RetentionDays_ONE_DAY}
		if _, err := ringback.NewRingback(stack, "Ringback", withTools(t, props)); err != nil {
			t.Fatal(err)
		}
		out := *awscdk.Stage_Of(stack).Outdir()
		binaries, err := filepath.Glob(filepath.Join(out, "asset.*", "bootstrap"))
		if err != nil || len(binaries) != 3 {
			t.Fatalf("the assembly has the functions %v, %v", binaries, err)
		}
		for _, path := range binaries {
			f, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if f.Machine != want {
				t.Errorf("%s is for %v, not %v", path, f.Machine, want)
			}
			// Lambda's image may lack the build machine's C library.
			if libraries, err := f.ImportedLibraries(); err == nil && len(libraries) > 0 {
				t.Errorf("%s needs %v", path, libraries)
			}
			f.Close()
		}
	}
}

// Every finding of cdk-nag's AwsSolutions is fixed, or suppressed here with a reason.
func TestNag(t *testing.T) {
	stack := newStack(t, "Ringback")
	r := newRingback(t, stack, ringback.Props{
		UndeliveredEmail: "someone@example.com", AlarmEmail: "operator@example.com",
		ToolSettings: []ringback.Setting{ // otherwise a warning names them
			{Name: "ORDERS_API_URL", Value: "https://x.example"}, {Name: "REQUESTS_API_URL", Value: "https://x.example"},
			{Name: "STOCK_API_URL", Value: "https://x.example"}, {Name: "STOCK_API_TOKEN", Value: "x"},
		},
	})
	suppress := func(path, rule, reason string, appliesTo ...any) {
		s := &cdknag.NagPackSuppression{Id: jsii.String(rule), Reason: jsii.String(reason)}
		if len(appliesTo) > 0 {
			s.AppliesTo = &appliesTo
		}
		cdknag.NagSuppressions_AddResourceSuppressionsByPath(stack,
			jsii.String("/Ringback/Ringback/"+path+"/Resource"), &[]*cdknag.NagPackSuppression{s}, nil)
	}
	for _, name := range []string{"Ack", "Process", "Callback"} {
		suppress(name+"Role/DefaultPolicy", "AwsSolutions-IAM5",
			"X-Ray has no resources that a policy could name. The policy names everything else.", "Resource::*")
	}
	schedules := "arn:<AWS::Partition>:scheduler:<AWS::Region>:<AWS::AccountId>:schedule/" +
		*r.Schedules.ScheduleGroupName() + "/*"
	suppress("ProcessRole/DefaultPolicy", "AwsSolutions-IAM5",
		"The name of a schedule is derived from its job's at run time. The policy names the schedule's group.",
		"Resource::"+schedules)
	suppress("Api/POST--results--{token}", "AwsSolutions-APIG4",
		"The ack function verifies the token in the path, which the process function signed for one job. "+
			"A JWT authorizer reads headers, and an external completion has none.")
	suppress("CompletionSecret", "AwsSolutions-SMG4",
		"Tokens are valid for as long as their jobs may be suspended, up to a year. Only an operator knows "+
			"when the last token of the old key is gone. Until then, both keys are valid.")
	suppress("Api/POST--vapi", "AwsSolutions-APIG4",
		"The ack function verifies the webhook itself, because Vapi signs it or sends a secret. "+
			"The property JWT adds a JWT authorizer.")
	suppress("WebhookSecret", "AwsSolutions-SMG4",
		"The other end of the secret is a credential at Vapi, which no rotation function can change. "+
			"A manual rotation is safe because two credentials can be valid at once.")
	awscdk.Aspects_Of(stack).Add(cdknag.NewAwsSolutionsChecks(nil), nil)
	annotations := assertions.Annotations_FromStack(stack)
	for _, m := range append(*annotations.FindError(jsii.String("*"), assertions.Match_AnyValue()),
		*annotations.FindWarning(jsii.String("*"), assertions.Match_AnyValue())...) {
		text, err := json.Marshal(m)
		t.Errorf("%s %v", text, err)
	}
}
