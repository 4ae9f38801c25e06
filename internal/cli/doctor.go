package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/cli/wiring"
)

type doctorCommand struct {
	deploymentFlags
	vapiFlags

	Assistant []string `help:"Check this assistant. May be repeated." placeholder:"ID" required:""`
	JSON      bool     `name:"json" help:"Print the checks as JSON."`
}

// Help is shown above the flags.
func (doctorCommand) Help() string {
	return `It checks the assistant, the tools at Vapi and the webhook, and writes nothing. The webhook is sent two harmless messages, one without a credential and one with it.

Without --stack and --url, the URL is the one that the tools at Vapi have; without --stack and --auth, what needs the credential is not checked.

A check is ok, a warning, failed, or unchecked, where it cannot be known from here. The exit code is 1 where a check failed. The private key comes from VAPI_API_KEY; in a terminal it is asked for.

Examples:

  ringback doctor --stack Ringback --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33
  ringback doctor --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33 --json`
}

// Run runs the command.
func (c *doctorCommand) Run(s *streams) error {
	ctx, _, stop := interrupted()
	defer stop()
	set, err := allTools()
	if err != nil {
		return err
	}
	p := startProgress(s.Err)
	defer p.stop()
	at, err := c.read(ctx, p)
	if err != nil {
		return err
	}
	x := wiring.Examination{Tools: set, Assistants: c.Assistant, URL: at.url, Plans: at.plans, Progress: p.set}
	if at.stack != nil {
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
	failed := 0
	for _, check := range checks {
		if check.Verdict == wiring.Failed {
			failed++
		}
	}
	if c.JSON {
		e := json.NewEncoder(s.Out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(checks); err != nil {
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
	wiring.OK:        color.New(color.FgGreen).SprintFunc(),
	wiring.Warning:   color.New(color.FgYellow).SprintFunc(),
	wiring.Failed:    color.New(color.FgRed).SprintFunc(),
	wiring.Unchecked: faint,
}

func showChecks(out io.Writer, checks []wiring.Check) {
	for _, check := range checks {
		name := check.Name
		if check.About != "" {
			name += " " + check.About
		}
		// Padded before it is painted: a colour has characters of its own.
		fmt.Fprintf(out, "%s %s: %s\n", verdicts[check.Verdict](fmt.Sprintf("%-9s", check.Verdict)), name, check.Detail)
		if check.Remedy != "" {
			fmt.Fprintf(out, "%10s%s\n", "", check.Remedy)
		}
	}
}
