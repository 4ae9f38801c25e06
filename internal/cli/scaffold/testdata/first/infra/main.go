// Command infra is the CDK app that deploys Ringback into an AWS account. The CDK
// CLI runs it, as configured in cdk.json.
package main

import (
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"example.com/acme/voice/tools"
	"github.com/ringback/ringback/infra/ringback"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	// Grant stack.Ringback.Process, the function of the tools, what they need.
	if _, err := ringback.NewStack(app, tools.All); err != nil {
		fmt.Fprintln(os.Stderr, "infra:", err)
		os.Exit(1)
	}
	app.Synth(nil)
}
