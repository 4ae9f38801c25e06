package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"

	"github.com/ringback/ringback/internal/cli/scaffold"
)

type initCommand struct {
	Folder string `arg:"" help:"The folder of the project. It must not exist, or be empty." placeholder:"DIR" type:"path"`
	Module string `help:"The module path of the project, such as example.com/acme/voice." placeholder:"PATH" required:""`
}

// Help returns the text above the flags.
func (initCommand) Help() string {
	return `The project is a Go module that imports Ringback. It contains one tool with its test, the mains of the
functions, a CDK app and a Makefile. It requires the version of this command. A development build requires its own
checkout, with a replace directive in go.mod.

The command runs "go mod tidy" in the project.

Examples:

  ringback init voice --module example.com/acme/voice`
}

// Run runs the command.
func (c *initCommand) Run(s *streams) error {
	build, _ := debug.ReadBuildInfo()
	from, err := scaffold.SourceOf(build)
	if err != nil {
		return err
	}
	if err := scaffold.Write(c.Folder, c.Module, from); err != nil {
		return err
	}
	if from.Checkout != "" {
		fmt.Fprintf(s.Err, "This is a development build, so go.mod replaces Ringback by %s.\n", from.Checkout)
	}
	tidy := exec.Command("go", "mod", "tidy")
	tidy.Dir, tidy.Stdout, tidy.Stderr = c.Folder, s.Err, s.Err
	if err := tidy.Run(); err != nil {
		return fmt.Errorf("the project is written, but \"go mod tidy\" failed in it: %w", err)
	}
	folder := c.Folder
	if here, err := os.Getwd(); err == nil {
		folder = relative(here, folder)
	}
	fmt.Fprintf(s.Out, `The project is in %[1]s. Next:

  cd %[1]s
  make run

While it runs, call the tool of the project in a second terminal:

  go run ./cmd/ringback call weather_report city=Lisbon
`, folder)
	return nil
}

// relative returns a shorter path to the same folder, if there is one.
func relative(here, folder string) string {
	if short, err := filepath.Rel(here, folder); err == nil && len(short) < len(folder) {
		return short
	}
	return folder
}
