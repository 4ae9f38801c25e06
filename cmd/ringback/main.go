// Command ringback runs Ringback on this machine and operates a deployment.
package main

import (
	"github.com/ringback/ringback/run/command"
	"github.com/ringback/ringback/tools"
)

func main() { command.Run(tools.All) }
