package smsfallback_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/examples/smsfallback"
	"github.com/ringback/ringback/internal/aws/eventbus"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

func TestMain(m *testing.M) {
	if _, err := exec.LookPath("node"); err != nil {
		fmt.Fprintln(os.Stderr, "The CDK runs on Node.js, but node is not in the PATH. Install Node.js 20 or later.")
		os.Exit(1)
	}
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

type resource struct {
	Type       string
	Properties map[string]any
}

func synthesise(t *testing.T) map[string]resource {
	t.Helper()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir()), AnalyticsReporting: jsii.Bool(false)})
	stack := awscdk.NewStack(app, jsii.String("Stack"), nil)
	bus := awsevents.EventBus_FromEventBusName(stack, jsii.String("Bus"), jsii.String("bus"))
	smsfallback.New(stack, "TextMessages", bus)
	text, err := json.Marshal(assertions.Template_FromStack(stack, nil).ToJSON())
	if err != nil {
		t.Fatal(err)
	}
	var template struct{ Resources map[string]resource }
	if err := json.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	return template.Resources
}

func find(t *testing.T, resources map[string]resource, kind string) map[string]any {
	t.Helper()
	var found []map[string]any
	for _, r := range resources {
		if r.Type == kind {
			found = append(found, r.Properties)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d resources are a %s", len(found), kind)
	}
	return found[0]
}

// matches reports whether an event matches a pattern. It knows the operators that
// this pattern uses (Amazon EventBridge user guide, "Comparison operators").
func matches(t *testing.T, pattern, event map[string]any) bool {
	t.Helper()
	for name, want := range pattern {
		value, there := event[name]
		if inner, ok := want.(map[string]any); ok {
			object, _ := value.(map[string]any)
			if !matches(t, inner, object) {
				return false
			}
			continue
		}
		if !slices.ContainsFunc(want.([]any), func(alternative any) bool {
			operator, ok := alternative.(map[string]any)
			if !ok {
				return there && value == alternative
			}
			if exists, ok := operator["exists"]; ok {
				return there == exists
			}
			if prefix, ok := operator["prefix"]; ok {
				text, _ := value.(string)
				return strings.HasPrefix(text, prefix.(string))
			}
			t.Fatalf("unknown operator %v", operator)
			return false
		}) {
			return false
		}
	}
	return true
}

func TestTextMessages(t *testing.T) {
	resources := synthesise(t)

	rule := find(t, resources, "AWS::Events::Rule")
	if rule["EventBusName"] != "bus" {
		t.Errorf("the rule is on the bus %v", rule["EventBusName"])
	}
	base := job.Undelivered{
		JobID: "call/t", ToolCallID: "t", Tool: "report", CallID: "call", CustomerNumber: "+4930123456",
		Reason: job.ReasonCallGone, Status: job.StatusOK, Delivery: policy.DeliveryRespond, Content: "It's ready.",
		At: time.Now(),
	}
	for name, row := range map[string]struct {
		change func(*job.Undelivered)
		sent   bool
	}{
		"the call has ended": {func(*job.Undelivered) {}, true},
		"after the deadline": {func(u *job.Undelivered) { u.Reason = job.ReasonDeadline }, true},
		"word for word":      {func(u *job.Undelivered) { u.Delivery = policy.DeliverySay }, true},
		"no number":          {func(u *job.Undelivered) { u.CustomerNumber = "" }, false},
		"a withheld number":  {func(u *job.Undelivered) { u.CustomerNumber = "anonymous" }, false},
		"a failure":          {func(u *job.Undelivered) { u.Status = job.StatusError }, false},
		"silent":             {func(u *job.Undelivered) { u.Delivery = policy.DeliverySilent }, false},
		"an action":          {func(u *job.Undelivered) { u.Delivery = policy.DeliveryControl }, false},
		"perhaps delivered":  {func(u *job.Undelivered) { u.Reason = job.ReasonUnclaimed }, false},
	} {
		t.Run(name, func(t *testing.T) {
			undelivered := base
			row.change(&undelivered)
			detail, err := json.Marshal(undelivered)
			if err != nil {
				t.Fatal(err)
			}
			var event map[string]any
			envelope := fmt.Sprintf(
				`{"source":%q,"detail-type":%q,"detail":%s}`, eventbus.Source, eventbus.Undelivered, detail)
			if err := json.Unmarshal([]byte(envelope), &event); err != nil {
				t.Fatal(err)
			}
			if got := matches(t, rule["EventPattern"].(map[string]any), event); got != row.sent {
				t.Errorf("sent: %t, want %t", got, row.sent)
			}
		})
	}

	// The state machine uses only fields that an event has.
	schemaText, err := os.ReadFile("../../internal/aws/eventbus/undelivered.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(schemaText, &schema); err != nil {
		t.Fatal(err)
	}
	machine := find(t, resources, "AWS::StepFunctions::StateMachine")
	definition := fmt.Sprint(machine["DefinitionString"])
	used := regexp.MustCompile(`\$states\.input\.detail\.(\w+)`).FindAllStringSubmatch(definition, -1)
	for _, field := range used {
		if schema.Properties[field[1]] == nil {
			t.Errorf("the state machine uses the unknown field %s", field[1])
		}
	}
	if len(used) != 2 || !strings.Contains(definition, ":states:::sns:publish") ||
		!strings.Contains(definition, `"PhoneNumber":`) {
		t.Errorf("the state machine is %s", definition)
	}
	if machine["StateMachineType"] != "EXPRESS" {
		t.Errorf("the state machine stores a history: %v", machine["StateMachineType"])
	}

	// It may publish to numbers, but not to topics.
	var policies []string
	for _, r := range resources {
		if r.Type == "AWS::IAM::Policy" {
			text, err := json.Marshal(r.Properties["PolicyDocument"])
			if err != nil {
				t.Fatal(err)
			}
			policies = append(policies, string(text))
		}
	}
	publish := `{"Action":"sns:Publish","Effect":"Allow","NotResource":"arn:*:sns:*:*:*"}`
	if !slices.ContainsFunc(policies, func(p string) bool { return strings.Contains(p, publish) }) {
		t.Errorf("the policies are %v", policies)
	}
}
