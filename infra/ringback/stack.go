package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/asynctool"
)

// Stack is a stack that contains a [Ringback] and outputs for its operator.
type Stack struct {
	awscdk.Stack
	Ringback *Ringback // the construct in the stack
}

// NewStack adds a stack to the app, with the tools that all returns. The app's context has the
// settings: "context" in cdk.json, or -c name=value (docs/deploy.md lists them). The error names every
// setting that is unknown or invalid.
func NewStack(app awscdk.App, all func() ([]asynctool.Definition, error)) (*Stack, error) {
	settings, err := readSettings(app)
	if err != nil {
		return nil, err
	}
	stack := awscdk.NewStack(app, jsii.String(settings.stackName()), &awscdk.StackProps{
		Description: jsii.String("Ringback: tools that take minutes, for Vapi voice assistants"),
	})
	props, err := settings.props(stack)
	if err != nil {
		return nil, err
	}
	if props.Tools, err = all(); err != nil {
		return nil, err
	}
	r, err := NewRingback(stack, "Ringback", props)
	if err != nil {
		return nil, err
	}
	if err := outputs(stack, r); err != nil {
		return nil, err
	}
	if settings.values["vendedLogs"] == "" {
		// The app cannot know whether the stack is deployed already.
		awscdk.Annotations_Of(stack).AddInfo(jsii.String("vendedLogs is not set. Set it to true for a new stack, and to " +
			"false for a deployed one: a change of the setting replaces the access log."))
	}
	return &Stack{Stack: stack, Ringback: r}, nil
}
