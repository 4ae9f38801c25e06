package ringback_test

import (
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/infra/ringback"
)

// This is the main of infra in a project, whose list of tools is tools.All. The tools read a table of the project.
func ExampleNewStack() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	stack, err := ringback.NewStack(app, shop.All)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	orders := awsdynamodb.Table_FromTableName(stack, jsii.String("Orders"), jsii.String("orders"))
	orders.GrantReadData(stack.Ringback.Process)
	app.Synth(nil)
}

// An app with stacks of its own adds the construct to one of them.
func ExampleNewRingback() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	stack := awscdk.NewStack(app, jsii.String("Voice"), nil)
	all, err := shop.All()
	if err == nil {
		// A new stack. In a deployed one, VendedLogs stays as it is.
		_, err = ringback.NewRingback(stack, "Ringback", ringback.Props{Tools: all, VendedLogs: true})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	app.Synth(nil)
}
