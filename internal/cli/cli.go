// Package cli implements the command line of ringback.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/ringback/ringback/asynctool"
)

type commands struct {
	Init initCommand `cmd:"" help:"Write a new project, with a tool of its own."`
	Dev  devCommand  `cmd:"" help:"Run everything on this machine and play a call."`
	Call callCommand `cmd:"" help:"Call a tool, and print its answer, progress and result."`
	Send sendCommand `cmd:"" help:"Post a signed webhook to a deployment and print the answer."`

	Listen listenCommand `cmd:"" help:"Run the tools of a deployed stage on this machine."`

	Tools  toolsCommand  `cmd:"" help:"Print the tools as Vapi receives them."`
	Sync   syncCommand   `cmd:"" help:"Make Vapi agree with the tools: credential, tools, assistants."`
	Doctor doctorCommand `cmd:"" help:"Check the whole chain from an assistant to the webhook."`

	Calls     callsCommand     `cmd:"" help:"List and show calls."`
	Jobs      jobsCommand      `cmd:"" help:"List, show and cancel jobs."`
	UI        uiCommand        `cmd:"" name:"ui" help:"Show calls, jobs and tools in a browser."`
	Customers customersCommand `cmd:"" help:"Delete what is stored about a customer."`
	Dead      deadCommand      `cmd:"" help:"List, show, redrive and drop what the queues gave up."`
	Logs      logsCommand      `cmd:"" help:"Print what the functions have logged about a call or a job."`

	Prompt     promptCommand     `cmd:"" help:"Print what the assistant must know about its tools, for the system prompt."`
	Completion completionCommand `cmd:"" help:"Print the command that sets up completion in your shell."`
	HelpOf     helpCommand       `cmd:"" name:"help" help:"Print the help of a command, as its --help does."`
	Version    versionCommand    `cmd:"" help:"Print the version, the revision and the Go version of this build."`
}

// helpCommand is replaced by the flag --help of the command that its arguments name.
type helpCommand struct {
	Command []string `arg:"" optional:"" help:"The command, such as: jobs list."`
}

// Help returns the text above the flags.
func (helpCommand) Help() string {
	return `Examples:

  ringback help
  ringback help jobs list`
}

// withHelp returns a command line in which the flag --help replaces the command help, and no command at all.
func withHelp(arguments []string) []string {
	flag := func(argument string) bool { return strings.HasPrefix(argument, "-") }
	switch {
	case len(arguments) == 0:
		return []string{"--help"}
	case arguments[0] == "help" && !slices.ContainsFunc(arguments, flag):
		return append(slices.Clone(arguments[1:]), "--help")
	}
	return arguments
}

// Help returns the text above the flags.
func (commands) Help() string {
	return `Examples:

  ringback dev
  ringback call order_status order_id=A-1042
  ringback send events/vapi/tool-calls.json --wait
  ringback listen --stack Ringback-dev
  ringback sync --stack Ringback --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33
  ringback doctor --stack Ringback --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33
  ringback jobs list --stack Ringback

A file .env in the current folder adds to the environment, a line NAME=value for each variable. Variables that are set
already take precedence.

The exit code is 0 on success, 1 on failure and 80 if the command line is wrong. Results go to the standard output,
everything else to the standard error. Colours appear only on a terminal, unless NO_COLOR is set.`
}

// streams are the outputs of a command: results go to Out, everything else to Err.
type streams struct{ Out, Err io.Writer }

// commandLine are the arguments of the program.
type commandLine []string

// Tools returns the tools of a project. It may read their settings from the environment.
type Tools func() ([]asynctool.Definition, error)

// set returns the tools, or the reason why they cannot be deployed.
func (t Tools) set() (*asynctool.Set, error) {
	definitions, err := t()
	if err != nil {
		return nil, err
	}
	return asynctool.NewSet(definitions...)
}

// Run runs a command line with the tools of a project. It returns the exit code: 0 on
// success, 1 on failure, 80 if the command line is wrong.
func Run(tools Tools, arguments []string, out, errOut io.Writer) int {
	exit := -1
	if err := readEnvironment(); err != nil {
		fmt.Fprintln(errOut, "ringback:", err)
		return 1
	}
	var c commands
	parser, err := kong.New(&c,
		kong.Name("ringback"),
		kong.Description("Slow tools for Vapi voice calls. The call continues while a tool works, "+
			"and its result is delivered into the call."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Writers(out, errOut),
		kong.Exit(func(code int) { exit = code }),
		kong.Bind(&streams{Out: out, Err: errOut}, tools, commandLine(arguments)),
		kong.Vars{
			"port":    defaultPort,
			"account": "AWS_PROFILE and AWS_REGION select the account and region.",
		},
	)
	if err != nil {
		fmt.Fprintln(errOut, "ringback:", err)
		return 1
	}
	if completeShell(parser); exit >= 0 {
		return exit
	}
	command, err := parser.Parse(withHelp(arguments))
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
		fmt.Fprintln(errOut, "ringback:", printable(err.Error()))
		return 1
	}
	return 0
}

// interrupted returns two contexts. The first ends at the first interrupt, the second
// at the second. stop releases the signals.
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
