package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/alecthomas/kong"
	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/cli/wiring"
)

type doctorCommand struct {
	deploymentFlags
	vapiFlags

	Assistant assistantIDs `help:"Check this assistant. May be repeated." placeholder:"ID" required:"" xor:"subject"`
	Local     bool         `help:"Check the project in this folder, and this machine." required:"" xor:"subject"`
	JSON      bool         `name:"json" help:"Print the checks as JSON."`

	Rate        float64 `help:"How many webhooks with calls of quick tools may come in a second." default:"1" placeholder:"N"`
	Concurrency int     `help:"How many executions the AWS account may run at the same time." default:"10" placeholder:"N"`
}

// Help returns the text above the flags.
func (doctorCommand) Help() string {
	return `The command checks the assistant, the tools at Vapi and the webhook. It changes nothing. It posts two harmless
messages to the webhook, one with the credential and one without it.

If Vapi splits the calls of an assistant between published versions, each version that receives calls is checked.

Without --stack and --url, the URL of the tools at Vapi is used. Without --stack and --auth, checks that need the
credential are skipped. To a URL with http://, a secret of WEBHOOK_AUTH is posted only if it is that of your local run.

The check of quick answers compares the tools' longest Quick with the account's concurrent executions. A new account
has 10 of them.

With --local, it checks what you need before a deployment instead: the tools and their settings, .env, Go, Node.js,
npm, the credentials of AWS, and that the account and region are prepared for the CDK. It needs no private key, and asks
only AWS.

The verdict of a check is ok, warning, failed, or unchecked if it cannot be determined from here. The exit code is 1 if
a check failed. The private key comes from VAPI_API_KEY. On a terminal, the command asks for it.

Examples:

  ringback doctor --local
  ringback doctor --stack Ringback --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33
  ringback doctor --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33 --json`
}

// Run runs the command.
func (c *doctorCommand) Run(s *streams, tools Tools, line *kong.Context) error {
	ctx, _, stop := interrupted()
	defer stop()
	if c.Rate <= 0 || c.Concurrency <= 0 {
		return errors.New("--rate and --concurrency must be positive")
	}
	p := startProgress(s.Err)
	defer p.stop()
	if c.Local {
		if c.Stack != "" || c.URL != "" {
			return errors.New("--local checks this machine and no deployment; omit --stack and --url")
		}
		checks := (&project{tools: tools, progress: p}).examine(ctx)
		p.set("")
		return c.print(s, checks)
	}
	set, err := tools.set()
	if err != nil {
		return err
	}
	at, err := c.read(ctx, p)
	if err != nil {
		return err
	}
	x := wiring.Examination{Tools: set, Assistants: c.Assistant, URL: at.url, Plans: at.plans, Missing: at.lacking(set),
		Rate: c.Rate, Concurrency: c.Concurrency, Progress: p.set}
	if at.secret != nil {
		x.Stored = &at.stored
	}
	if at.stack == nil && !isGiven(line, "auth") && slices.ContainsFunc(at.plans, reveals) {
		x.Transport = proven{}
	}
	if x.ArgumentKey, err = c.argumentKey(ctx, at, set); err != nil {
		return err
	}
	if at.stack != nil {
		if at.listen {
			x.Listen = listenWith(c.Stack)
		}
		p.set("reading the stack's template")
		has, err := at.stack.HasPublicKey(ctx)
		if err != nil {
			return err
		}
		x.PublicKey = &has
	}
	p.set("")
	if x.API, err = c.client(ctx, s.Err); err != nil {
		return err
	}
	checks := wiring.Examine(ctx, x)
	p.set("")
	return c.print(s, checks)
}

// print prints checks. It returns an error if one has failed.
func (c *doctorCommand) print(s *streams, checks []wiring.Check) error {
	failed := 0
	for _, check := range checks {
		if check.Verdict == wiring.VerdictFailed {
			failed++
		}
	}
	if c.JSON {
		if err := asJSON(s.Out, checks); err != nil {
			return err
		}
	} else {
		showChecks(s.Out, checks)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(checks))
	}
	return nil
}

var verdicts = map[wiring.Verdict]func(...any) string{
	wiring.VerdictOK:        color.New(color.FgGreen).SprintFunc(),
	wiring.VerdictWarning:   color.New(color.FgYellow).SprintFunc(),
	wiring.VerdictFailed:    color.New(color.FgRed).SprintFunc(),
	wiring.VerdictUnchecked: faint,
}

func showChecks(out io.Writer, checks []wiring.Check) {
	for _, check := range checks {
		name := check.Name
		if check.About != "" {
			name += " " + check.About
		}
		// Pad before colouring, because a colour adds characters.
		verdict := verdicts[check.Verdict](fmt.Sprintf("%-9s", check.Verdict))
		fmt.Fprintf(out, "%s %s: %s\n", verdict, cell(name), cell(check.Detail))
		if check.Remedy != "" {
			fmt.Fprintf(out, "%10s%s\n", "", check.Remedy)
		}
	}
}
