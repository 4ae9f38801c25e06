package ringback_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/infra/ringback"
)

var released = flag.String("released", "", "rewrite the fixture of the released template from this template")

// releasedFile contains what replacing keeps of the released template.
const releasedFile = "testdata/released.json"

// removed contains the logical ids of released resources that the stack no longer has
// on purpose. It is empty after a release. Resources in stateful are never removed.
var removed = []string{}

// stateful contains the types of resources that have data, or an address that is
// stored outside the stack.
var stateful = []string{
	"AWS::ApiGatewayV2::Api", "AWS::DynamoDB::Table", "AWS::Events::EventBus", "AWS::Logs::LogGroup",
	"AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::Scheduler::ScheduleGroup", "AWS::SecretsManager::Secret",
}

// replacing contains the properties of each type of resource whose change makes
// CloudFormation replace the resource: "Update requires: Replacement" in the
// CloudFormation Template Reference. Others are explained.
var replacing = map[string][]string{
	"AWS::ApiGatewayV2::Api":         {"ProtocolType"},
	"AWS::ApiGatewayV2::Authorizer":  {"ApiId"},
	"AWS::ApiGatewayV2::Integration": {"ApiId"},
	"AWS::ApiGatewayV2::Route":       {"ApiId"},
	"AWS::ApiGatewayV2::Stage":       {"ApiId", "StageName"},
	"AWS::CloudWatch::Alarm":         {"AlarmName"},
	"AWS::CloudWatch::Dashboard":     {"DashboardName"},
	// A change of LocalSecondaryIndexes is refused. See attributes and indexes for the
	// other lists.
	"AWS::DynamoDB::Table": {
		"ImportSourceSpecification", "KeySchema", "LocalSecondaryIndexes", "TableName",
	},
	"AWS::Events::EventBus": {"EventSourceName", "Name"},
	"AWS::Events::Rule":     {"EventBusName", "Name"},
	"AWS::IAM::Policy":      {},
	"AWS::IAM::Role":        {"Path", "RoleName"},
	"AWS::Lambda::EventSourceMapping": {
		"AmazonManagedKafkaEventSourceConfig", "EventSourceArn", "SelfManagedEventSource",
		"SelfManagedKafkaEventSourceConfig", "StartingPosition", "StartingPositionTimestamp",
	},
	"AWS::Lambda::Function": {"FunctionName", "PackageType", "TenancyConfig"},
	"AWS::Lambda::Permission": {
		"Action", "EventSourceToken", "FunctionName", "FunctionUrlAuthType", "InvokedViaFunctionUrl", "Principal",
		"PrincipalOrgID", "SourceAccount", "SourceArn",
	},
	"AWS::Logs::LogGroup":           {"LogGroupName"},
	"AWS::Logs::MetricFilter":       {"FilterName", "LogGroupName"},
	"AWS::Logs::QueryDefinition":    {},
	"AWS::SNS::Subscription":        {"Endpoint", "Protocol", "TopicArn"},
	"AWS::SNS::Topic":               {"FifoTopic", "TopicName"},
	"AWS::SNS::TopicPolicy":         {},
	"AWS::SQS::Queue":               {"FifoQueue", "QueueName"},
	"AWS::SQS::QueuePolicy":         {},
	"AWS::Scheduler::Schedule":      {"Name"},
	"AWS::Scheduler::ScheduleGroup": {"Name"},
	// A change of the last two creates a new version of the secret. A generated value
	// is then a new one, which locks Vapi out.
	"AWS::SecretsManager::Secret": {"Name", "GenerateSecretString", "SecretString"},
}

// An updated stack keeps its data, its addresses and its secrets, and CloudFormation
// accepts the update. The fixture is the template of the last release. Before the first
// release, it is the template from before the changes that the changelog lists under
// "Fixed". To rewrite the fixture at a release, run
//
//	go test ./infra/ringback -run TestUpdateReplacesNothing -released testdata/template.json
//
// and empty removed. For an earlier version, pass the golden template of its commit.
func TestUpdateReplacesNothing(t *testing.T) {
	if *released != "" {
		writeReleased(t, readTemplate(t, *released))
	}
	parks := asynctool.Tool[words]{
		Name: "parks", Description: "A tool for tests.", AfterCall: asynctool.NextCall,
		Run: func(context.Context, asynctool.Call, words) (asynctool.Result, error) {
			return asynctool.Text("done"), nil
		},
	}
	jwt := &ringback.JWT{
		Issuer: "https://issuer.example.com", Audience: []string{"ringback"}, Scopes: []string{"vapi/post"},
	}
	tests := []struct {
		name   string
		props  ringback.Props
		key    bool             // with Vapi's private key, which parking needs
		before func(m template) // changes the released template to that of these settings
	}{
		{name: "the default settings"},
		{name: "a tool that parks results is new", props: ringback.Props{Tools: []asynctool.Definition{parks}}, key: true},
		{name: "a tool with encrypted arguments is new", props: ringback.Props{Tools: payments()}},
		{name: "API Gateway verifies tokens", props: ringback.Props{JWT: jwt}, before: func(m template) {
			// The released version created no secret either, but this authorizer.
			delete(m.Resources, m.id(t, "AWS::SecretsManager::Secret", "RingbackWebhookSecret"))
			m.Resources["RingbackApiJwt56129E34"] = resource{
				Type: "AWS::ApiGatewayV2::Authorizer",
				Properties: map[string]any{
					"ApiId": map[string]any{"Ref": m.id(t, "AWS::ApiGatewayV2::Api", "RingbackApi")},
				},
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			released := readTemplate(t, releasedFile)
			if test.before != nil {
				test.before(released)
			}
			test.props.UndeliveredEmail, test.props.AlarmEmail = "someone@example.com", "operator@example.com"
			stack := newStack(t, "Ringback")
			if test.key {
				test.props.PrivateKeySecret = givenSecret(stack, secretARN("private"))
			}
			for _, problem := range updateProblems(released, synthesiseIn(t, stack, test.props), removed) {
				t.Error(problem)
			}
		})
	}
}

func TestUpdateProblems(t *testing.T) {
	table := func(m template) map[string]any {
		return m.only(t, "AWS::DynamoDB::Table", "RingbackJobsTable").Properties
	}
	addIndex := func(m template, name string) {
		indexes := table(m)["GlobalSecondaryIndexes"].([]any)
		table(m)["GlobalSecondaryIndexes"] = append(indexes, map[string]any{"IndexName": name})
	}
	change := func(m template, kind, name string, change func(*resource)) {
		id := m.id(t, kind, name)
		r := m.Resources[id]
		change(&r)
		m.Resources[id] = r
	}
	tests := []struct {
		name    string
		change  func(m template)
		removed []string // without the hash
		want    string   // in the only problem; empty if there is none
	}{
		{name: "nothing", change: func(template) {}},
		{name: "a resource is new", change: func(m template) { m.Resources["New"] = resource{Type: "AWS::SQS::Queue"} }},
		{
			name:   "a property changes that replaces nothing",
			change: func(m template) { m.function(t, "RingbackAck")["Timeout"] = 29 },
		},
		{
			name:   "a queue gets a name",
			change: func(m template) { m.only(t, "AWS::SQS::Queue", "RingbackJobs").Properties["QueueName"] = "jobs" },
			want:   "its QueueName changes",
		},
		{
			name: "a function has another type",
			change: func(m template) {
				change(m, "AWS::Lambda::Function", "RingbackAck", func(r *resource) { r.Type = "AWS::Lambda::Alias" })
			},
			want: "its type is AWS::Lambda::Alias, not AWS::Lambda::Function",
		},
		{
			name:   "a queue is missing",
			change: func(m template) { delete(m.Resources, m.id(t, "AWS::SQS::Queue", "RingbackJobs")) },
			want:   "it is missing",
		},
		{
			name:    "a queue is removed on purpose",
			change:  func(m template) { delete(m.Resources, m.id(t, "AWS::SQS::Queue", "RingbackJobs")) },
			removed: []string{"RingbackJobs"},
			want:    "it is missing",
		},
		{
			name:   "an alarm is missing",
			change: func(m template) { delete(m.Resources, m.id(t, "AWS::CloudWatch::Alarm", "RingbackAckErrorsAlarm")) },
			want:   "it is missing",
		},
		{
			name:    "an alarm is removed on purpose",
			change:  func(m template) { delete(m.Resources, m.id(t, "AWS::CloudWatch::Alarm", "RingbackAckErrorsAlarm")) },
			removed: []string{"RingbackAckErrorsAlarm"},
		},
		{
			name:   "an alarm is said to be removed",
			change: func(template) {}, removed: []string{"RingbackAckErrorsAlarm"},
			want: "it is in removed, but the stack has it",
		},
		{
			name: "the table is deleted with the stack",
			change: func(m template) {
				change(m, "AWS::DynamoDB::Table", "RingbackJobsTable", func(r *resource) { r.DeletionPolicy = "Delete" })
			},
			want: "its DeletionPolicy is Delete, not Retain",
		},
		{
			name: "the table is deleted when it is replaced",
			change: func(m template) {
				change(m, "AWS::DynamoDB::Table", "RingbackJobsTable", func(r *resource) { r.UpdateReplacePolicy = "Delete" })
			},
			want: "its UpdateReplacePolicy is Delete, not Retain",
		},
		{
			name: "a secret is generated in another way",
			change: func(m template) {
				secret := m.only(t, "AWS::SecretsManager::Secret", "RingbackWebhookSecret").Properties
				secret["GenerateSecretString"].(map[string]any)["PasswordLength"] = 64.0
			},
			want: "its GenerateSecretString changes",
		},
		{
			name: "the table has another key",
			change: func(m template) {
				table(m)["KeySchema"].([]any)[0].(map[string]any)["AttributeName"] = "call"
			},
			want: "its KeySchema changes",
		},
		{
			name: "an attribute has another type",
			change: func(m template) {
				table(m)["AttributeDefinitions"].([]any)[0].(map[string]any)["AttributeType"] = "N"
			},
			want: "the type of the attribute",
		},
		{name: "an index is added", change: func(m template) { addIndex(m, "customers") }},
		{name: "an index is removed", change: func(m template) {
			table(m)["GlobalSecondaryIndexes"] = table(m)["GlobalSecondaryIndexes"].([]any)[:1]
		}},
		{
			name: "an index is replaced",
			change: func(m template) {
				table(m)["GlobalSecondaryIndexes"] = table(m)["GlobalSecondaryIndexes"].([]any)[:1]
				addIndex(m, "customers")
			},
			want: "2 indexes are added or removed",
		},
		{
			name:   "two indexes are added",
			change: func(m template) { addIndex(m, "customers"); addIndex(m, "assistants") },
			want:   "2 indexes are added or removed",
		},
		{
			name: "an index contains something else",
			change: func(m template) {
				index := table(m)["GlobalSecondaryIndexes"].([]any)[0].(map[string]any)
				index["Projection"] = map[string]any{"ProjectionType": "ALL"}
			},
			want: "the index calls changes",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before, after := readTemplate(t, "testdata/template.json"), readTemplate(t, "testdata/template.json")
			test.change(after)
			var listed []string
			for id := range before.Resources {
				if slices.Contains(test.removed, withoutHash(id)) {
					listed = append(listed, id)
				}
			}
			problems := updateProblems(before.released(t), after, listed)
			if test.want == "" && len(problems) == 0 {
				return
			}
			if test.want == "" || len(problems) != 1 || !strings.Contains(problems[0], test.want) {
				t.Errorf("the problems are %q; the only one should contain %q", problems, test.want)
			}
		})
	}
}

// updateProblems returns what an update of a stack would lose, and why CloudFormation
// would refuse it. The released template needs only what the fixture contains.
func updateProblems(released, made template, removed []string) []string {
	var problems []string
	for _, id := range slices.Sorted(maps.Keys(released.Resources)) {
		before := released.Resources[id]
		after, ok := made.Resources[id]
		problem := func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf("%s, %s: ", before.Type, id)+fmt.Sprintf(format, args...))
		}
		listed := slices.Contains(removed, id)
		switch {
		case ok && listed:
			problem("it is in removed, but the stack has it")
		case !ok && (!listed || slices.Contains(stateful, before.Type)):
			problem("it is missing, so the update deletes it; list it in removed if it has no state")
		}
		if !ok {
			continue
		}
		if after.Type != before.Type {
			problem("its type is %s, not %s, so CloudFormation refuses the update", after.Type, before.Type)
			continue
		}
		for _, property := range replacing[before.Type] {
			if diff := cmp.Diff(before.Properties[property], after.Properties[property]); diff != "" {
				problem("its %s changes, so the update replaces it or its value:\n%s", property, diff)
			}
		}
		if after.DeletionPolicy != before.DeletionPolicy {
			problem("its DeletionPolicy is %s, not %s", after.DeletionPolicy, before.DeletionPolicy)
		}
		if after.UpdateReplacePolicy != before.UpdateReplacePolicy {
			problem("its UpdateReplacePolicy is %s, not %s", after.UpdateReplacePolicy, before.UpdateReplacePolicy)
		}
		// "Replacement if you edit an existing AttributeDefinition" (CloudFormation
		// Template Reference, AWS::DynamoDB::Table). Indexes bring new ones.
		types := attributes(after)
		for name, kind := range attributes(before) {
			if now, ok := types[name]; ok && now != kind {
				problem("the type of the attribute %s is %s, not %s, so the update replaces the table", name, now, kind)
			}
		}
		// An update adds or removes one index, and changes none (same page).
		was, is := indexes(before), indexes(after)
		changes := 0
		for name := range was {
			if _, ok := is[name]; !ok {
				changes++
			} else if diff := cmp.Diff(was[name], is[name]); diff != "" {
				problem("the index %s changes, so CloudFormation refuses the update:\n%s", name, diff)
			}
		}
		for name := range is {
			if _, ok := was[name]; !ok {
				changes++
			}
		}
		if changes > 1 {
			problem("%d indexes are added or removed, so CloudFormation refuses the update", changes)
		}
	}
	return problems
}

// attributes returns the types of a table's key attributes by their names.
func attributes(table resource) map[string]string {
	types := map[string]string{}
	definitions, _ := table.Properties["AttributeDefinitions"].([]any)
	for _, d := range definitions {
		attribute := d.(map[string]any)
		types[attribute["AttributeName"].(string)] = attribute["AttributeType"].(string)
	}
	return types
}

// indexes returns a table's global secondary indexes by their names.
func indexes(table resource) map[string]any {
	named := map[string]any{}
	all, _ := table.Properties["GlobalSecondaryIndexes"].([]any)
	for _, index := range all {
		named[index.(map[string]any)["IndexName"].(string)] = index
	}
	return named
}

// released returns what updateProblems compares.
func (m template) released(t *testing.T) template {
	t.Helper()
	kept := template{Resources: map[string]resource{}}
	for id, r := range m.Resources {
		names, ok := replacing[r.Type]
		if !ok {
			t.Fatalf("%s: replacing has no properties of %s; look them up in the CloudFormation Template Reference", id, r.Type)
		}
		if r.Type == "AWS::DynamoDB::Table" {
			names = slices.Concat(names, []string{"AttributeDefinitions", "GlobalSecondaryIndexes"})
		}
		properties := maps.Clone(r.Properties)
		maps.DeleteFunc(properties, func(name string, _ any) bool { return !slices.Contains(names, name) })
		r.Properties = properties
		kept.Resources[id] = r
	}
	return kept
}

// writeReleased writes the fixture, one line for each resource.
func writeReleased(t *testing.T, m template) {
	t.Helper()
	kept := m.released(t)
	var lines []string
	for _, id := range slices.Sorted(maps.Keys(kept.Resources)) {
		line, err := json.Marshal(kept.Resources[id])
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%q: %s", id, line))
	}
	text := "{\"Resources\": {\n" + strings.Join(lines, ",\n") + "\n}}\n"
	if err := os.WriteFile(releasedFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readTemplate(t *testing.T, path string) template {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m template
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
