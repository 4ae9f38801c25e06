// Package command is the command line of a project. It runs the project's tools on this machine, makes
// Vapi agree with them, and operates a deployment.
//
//	func main() { command.Run(tools.All) }
package command

import (
	"os"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli"
)

// Run runs the command line of the process with the tools that all returns. It does not return. The
// exit code is 0 on success, 1 on failure and 80 if the command line is wrong. The flag --help lists
// the commands.
func Run(all func() ([]asynctool.Definition, error)) {
	os.Exit(cli.Run(all, os.Args[1:], os.Stdout, os.Stderr))
}
