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

// toolSettings returns the value of a setting of the tools, and whether it is known before the deployment. A setting
// that is missing is known, and empty. The app may add variables to the function until it is synthesised.
func (r *Ringback) toolSettings() func(name string) (value string, known bool) {
	function := r.Process.Node().DefaultChild().(awslambda.CfnFunction)
	// Environment returns a structure, whose variables the CDK fills in only later.
	properties := *function.CfnProperties()
	environment, _ := awscdk.Stack_Of(r.Process).Resolve(properties["environment"]).(map[string]any)
	variables, _ := environment["variables"].(map[string]any)
	return func(name string) (string, bool) {
		text, ok := variables[name].(string)
		// CloudFormation reads secrets, and refers to other resources.
		return text, variables[name] == nil || ok && !strings.Contains(text, "{{resolve:")
	}
}

// missing returns the settings that the tools lack, by tool. A listener has its own settings.
func (r *Ringback) missing() map[string][]string {
	if r.props.Listen {
		return nil
	}
	lookup := r.toolSettings()
	return r.tools.Missing(func(name string) string {
		if text, known := lookup(name); known {
			return text
		}
		return "a value of CloudFormation"
	})
}

// invalid returns an error for each setting that a tool cannot work with.
func (r *Ringback) invalid() (errs []error) {
	if r.props.Listen {
		return nil
	}
	for _, wrong := range r.tools.Invalid(r.toolSettings()) {
		written := *wrong
		written.Names = nil
		for _, name := range wrong.Names {
			written.Names = append(written.Names, r.props.writtenSetting(name))
		}
		errs = append(errs, &written)
	}
	return errs
}

// missingSettings names the settings that the tools lack. It is the value of an output, and warns of them when
// the app is synthesised. Variables that the app has added, and that a tool cannot work with, are errors then.
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
	for _, err := range m.r.invalid() {
		text := err.Error() + "."
		awscdk.Annotations_Of(node).AddError(&text)
	}
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
