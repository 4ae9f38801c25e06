package ringback

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/ringback/ringback/internal/deployment"
)

// missing returns the settings that the tools lack, by tool. The app may add variables to the function until
// it is synthesised. A listener has its own settings.
func (r *Ringback) missing() map[string][]string {
	if r.props.Listen {
		return nil
	}
	function := r.Process.Node().DefaultChild().(awslambda.CfnFunction)
	// Environment returns a structure, whose variables the CDK fills in only later.
	properties := *function.CfnProperties()
	environment, _ := awscdk.Stack_Of(r.Process).Resolve(properties["environment"]).(map[string]any)
	variables, _ := environment["variables"].(map[string]any)
	return r.tools.Missing(func(name string) string {
		if text, ok := variables[name].(string); ok || variables[name] == nil {
			return text
		}
		return "a value of CloudFormation"
	})
}

// missingSettings names the settings that the tools lack. It is the value of an output, and warns of them when
// the app is synthesised.
type missingSettings struct{ r *Ringback }

// Produce implements [awscdk.IStableStringProducer].
func (m *missingSettings) Produce() *string {
	var names []string
	for _, missing := range m.r.missing() {
		names = append(names, missing...)
	}
	slices.Sort(names)
	value := deployment.MissingSettings(slices.Compact(names))
	return &value
}

// Visit implements [awscdk.IAspect].
func (m *missingSettings) Visit(node constructs.IConstruct) {
	missing := m.r.missing()
	if len(missing) == 0 {
		return
	}
	var lacking []string
	for _, tool := range slices.Sorted(maps.Keys(missing)) {
		lacking = append(lacking, tool+" lacks "+strings.Join(missing[tool], " and "))
	}
	id, text := "ringback:missingToolSettings", fmt.Sprintf(
		"%s. Callers hear that the service isn't available. Set each name as context, or leave the tool out.",
		strings.Join(lacking, ", "))
	awscdk.Annotations_Of(node).AddWarningV2(&id, &text, nil)
}
