// Command process is the Lambda function that runs the tools.
package main

import (
	"github.com/ringback/ringback/run/process"
	"github.com/ringback/ringback/tools"
)

func main() { process.Run(tools.All) }
