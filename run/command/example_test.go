package command_test

import (
	"os"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/refund"
	"github.com/ringback/ringback/run/command"
)

// This is the main of cmd/ringback in a project, whose list of tools is tools.All.
func Example() {
	all := func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{refund.Tool(os.Getenv), asynctool.TaskStatus()}, nil
	}
	command.Run(all)
}
