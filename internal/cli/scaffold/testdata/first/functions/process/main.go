// Command process is the Lambda function that runs the tools.
package main

import (
	"example.com/acme/voice/tools"
	"github.com/ringback/ringback/run/process"
)

func main() { process.Run(tools.All) }
