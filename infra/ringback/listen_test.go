package ringback

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/deployment/listen"
)

// stageTemplate is a template as far as the tests here read it.
type stageTemplate struct {
	Resources map[string]struct {
		Type       string
		Properties map[string]any
	}
	Outputs map[string]struct{ Value any }
}

func templateOf(t *testing.T, stack awscdk.Stack) (made stageTemplate) {
	t.Helper()
	text, err := json.Marshal(assertions.Template_FromStack(stack, nil).ToJSON())
	if err == nil {
		err = json.Unmarshal(text, &made)
	}
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// resolved returns a value of a template as a text. References become names.
func resolved(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case map[string]any:
		if join, ok := v["Fn::Join"].([]any); ok {
			var parts []string
			for _, part := range join[1].([]any) {
				parts = append(parts, resolved(part))
			}
			return strings.Join(parts, resolved(join[0]))
		}
	}
	return strings.NewReplacer("[", "(", "]", ")", " ", "_", "\"", "").Replace(fmt.Sprint(value))
}

// TestListen compares a stage whose tools a listener runs with the same stage without one.
func TestListen(t *testing.T) {
	plainStack, err := app(t, map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	stack, err := app(t, map[string]any{"listen": "true"})
	if err != nil {
		t.Fatal(err)
	}
	plain, made := templateOf(t, plainStack), templateOf(t, stack)
	var gone []string
	for id, r := range plain.Resources {
		if _, ok := made.Resources[id]; !ok {
			gone = append(gone, r.Type+" "+id[:len(id)-8])
		}
	}
	slices.Sort(gone)
	want := []string{
		"AWS::CloudWatch::Alarm RingbackJobsWaitingAlarm", "AWS::CloudWatch::Alarm RingbackLongJobsWaitingAlarm",
		"AWS::CloudWatch::Alarm RingbackOldestJobAlarm", "AWS::CloudWatch::Alarm RingbackOldestLongJobAlarm",
		"AWS::Lambda::EventSourceMapping RingbackJobsToProcess", "AWS::Lambda::EventSourceMapping RingbackLongJobsToProcess",
	}
	if diff := cmp.Diff(want, gone); diff != "" {
		t.Errorf("the resources that a listener's stage lacks (-want +got):\n%s", diff)
	}
	for id := range made.Resources {
		if _, ok := plain.Resources[id]; !ok {
			t.Errorf("a listener's stage has %s", id)
		}
	}
	if _, ok := plain.Outputs[deployment.ListenOutput]; ok {
		t.Error("another stack has the output of a listener's stage")
	}
	if got := resolved(made.Outputs[deployment.MissingSettingsOutput].Value); got != deployment.NoMissingSettings {
		t.Errorf("the stage lacks %s, and its tools run elsewhere", got)
	}
	command := resolved(made.Outputs["ListenCommand"].Value)
	if !strings.HasSuffix(command, " go run ./cmd/ringback listen --stack Ringback") {
		t.Errorf("the command is %s", command)
	}

	// The listener has the environment of the function.
	stage, err := listen.Parse(resolved(made.Outputs[deployment.ListenOutput].Value))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stage.Process(); err != nil {
		t.Error(err)
	}
	variables := make(map[string]string)
	for id, r := range made.Resources {
		if r.Type == "AWS::Lambda::Function" && strings.HasPrefix(id, "RingbackProcess") {
			for name, value := range r.Properties["Environment"].(map[string]any)["Variables"].(map[string]any) {
				variables[name] = resolved(value)
			}
		}
	}
	if diff := cmp.Diff(variables, stage.Environment); diff != "" {
		t.Errorf("the environment (-function +listener):\n%s", diff)
	}
	all, err := shop.All()
	if err != nil {
		t.Fatal(err)
	}
	set, err := asynctool.NewSet(all...)
	if err != nil {
		t.Fatal(err)
	}
	if texts := stage.Differences(set); len(texts) > 0 {
		t.Errorf("the tools differ: %q", texts)
	}
}
