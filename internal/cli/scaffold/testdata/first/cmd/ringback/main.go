// Command ringback runs Ringback on this machine and operates a deployment.
package main

import (
	"example.com/acme/voice/tools"
	"github.com/ringback/ringback/run/command"
)

func main() { command.Run(tools.All) }
