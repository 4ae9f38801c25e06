// Command infra is the CDK app that deploys Ringback into an AWS account. The CDK
// CLI runs it, as configured in cdk.json.
package main

import (
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/infra/ringback"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	if err := newStack(app); err != nil {
		fmt.Fprintln(os.Stderr, "infra:", err)
		os.Exit(1)
	}
	app.Synth(nil)
}

// newStack adds the stack that the app's context describes.
func newStack(app awscdk.App) error {
	settings, err := readSettings(app)
	if err != nil {
		return err
	}
	stack := awscdk.NewStack(app, jsii.String(settings.stackName()), &awscdk.StackProps{
		Description: jsii.String("Ringback: tools that take minutes, for Vapi voice assistants"),
	})
	props, err := settings.props(stack)
	if err != nil {
		return err
	}
	r, err := ringback.NewRingback(stack, "Ringback", props)
	if err != nil {
		return err
	}
	outputs(stack, r)
	return nil
}
