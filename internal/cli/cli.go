// Package cli is the command line: what `ringback` takes, and what it does.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Dev  devCommand  `cmd:"" help:"Run everything on this machine, and play a call."`
	Send sendCommand `cmd:"" help:"Post a webhook to a deployment, signed, and print the answer."`

	Tools  toolsCommand  `cmd:"" help:"Print the tools as Vapi gets them."`
	Sync   syncCommand   `cmd:"" help:"Make Vapi agree with the tools: credential, tools, assistants."`
	Doctor doctorCommand `cmd:"" help:"Check the whole chain from an assistant to the webhook."`

	Jobs jobsCommand `cmd:"" help:"See how far jobs are, and cancel them."`

	Prompt     promptCommand     `cmd:"" help:"Print what the assistant has to know of the tools, for its system prompt."`
	Completion completionCommand `cmd:"" help:"Set up the completion of commands and flags in your shell."`
	Version    versionCommand    `cmd:"" help:"Print the version, the revision and the Go version of this build."`
}

// Help is shown above the flags.
func (commands) Help() string {
	return `Examples:

  ringback dev
  ringback send events/vapi/tool-calls.json --wait
  ringback sync --stack Ringback --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33
  ringback doctor --stack Ringback --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33
  ringback jobs list --stack Ringback

The exit code is 0 where a command did what it was asked, 1 where it could not, and 80 where the command line is wrong. What was asked for goes to the standard output, all else to the standard error. Colours are shown on a terminal only, and not where NO_COLOR is set.`
}

// streams is where a command writes: what was asked for to Out, everything
// else to Err.
type streams struct{ Out, Err io.Writer }

// Run runs a command line, and gives its exit code: 0 where it did what it was
// asked, 1 where it could not, 80 where the command line itself is wrong.
func Run(arguments []string, out, errOut io.Writer) int {
	exit := -1
	var c commands
	parser, err := kong.New(&c,
		kong.Name("ringback"),
		kong.Description("Tools for Vapi voice assistants that take minutes: the call goes on, and the result comes back into it."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Writers(out, errOut),
		kong.Exit(func(code int) { exit = code }),
		kong.Bind(&streams{Out: out, Err: errOut}),
		kong.Vars{"port": defaultPort},
	)
	if err != nil {
		fmt.Fprintln(errOut, "ringback:", err)
		return 1
	}
	if completeShell(parser); exit >= 0 {
		return exit
	}
	command, err := parser.Parse(arguments)
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		at := "ringback"
		if wrong, ok := errors.AsType[*kong.ParseError](err); ok && wrong.Context.Selected() != nil {
			at = wrong.Context.Selected().FullPath()
		}
		fmt.Fprintf(errOut, "ringback: %v; see %s --help\n", err, at)
		return 80
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(errOut, "ringback:", err)
		return 1
	}
	return 0
}

// interrupted gives two contexts: the first ends at the first interrupt, the
// second at the second. stop ends the listening.
func interrupted() (first, second context.Context, stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	first, endFirst := context.WithCancel(context.Background())
	second, endSecond := context.WithCancel(context.Background())
	go func() {
		if _, ok := <-signals; ok {
			endFirst()
			<-signals
			endSecond()
		}
	}()
	return first, second, func() {
		signal.Stop(signals)
		close(signals)
		endFirst()
		endSecond()
	}
}
