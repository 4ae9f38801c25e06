package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/cli/wiring"
)

type syncCommand struct {
	deploymentFlags
	vapiFlags

	HMAC       bool   `help:"Make Vapi sign webhooks: use the first credential of type hmac." xor:"credential"`
	Credential string `help:"Use the credential with this id at Vapi, and create none." placeholder:"ID" xor:"credential"`

	Assistant []string `help:"Attach the tools to this assistant. May be repeated." placeholder:"ID"`
	DryRun    bool     `help:"Show the changes without making them."`
	Prune     bool     `help:"Remove the tools at Vapi that sync created for this URL and that no longer exist here."`
}

// Help returns the text above the flags.
func (syncCommand) Help() string {
	return `The command creates the webhook's credential and the tools at Vapi, or updates what differs. It attaches the
tools to the assistants. It first shows its changes, and does nothing if nothing differs. If it fails half-way, run it
again.

Tools are found by name, whatever their URL. A sync for another URL therefore moves them, so use one organisation at
Vapi for each stage. Two tools with the same name are a conflict and are not changed. The exit code is 1 if there is a
conflict.

Vapi does not show the content of a credential. The name of a credential therefore contains a fingerprint of its secret,
and a secret that has changed is replaced at Vapi, too. --prune removes function tools that have this URL and the
credential that sync creates for it. It keeps the tools of assistants that are not named with --assistant.

The private key comes from VAPI_API_KEY. On a terminal, the command asks for it.

Examples:

  ringback sync --stack Ringback --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33 --dry-run
  ringback sync --stack Ringback --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33
  ringback sync --stack Ringback --prune --region eu
  WEBHOOK_AUTH='{"type":"bearer","token":"…"}' ringback sync --url https://hooks.example.com/vapi
  ringback sync --url https://hooks.example.com/vapi --credential 550e8400-e29b-41d4-a716-446655440000`
}

// Run runs the command.
func (c *syncCommand) Run(s *streams) error {
	ctx, _, stop := interrupted()
	defer stop()
	if c.URL == "" && c.Stack == "" {
		return errors.New("no deployment is selected; use --stack or --url")
	}
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
	cfg := wiring.Config{Tools: set, Assistants: c.Assistant, Prune: c.Prune, Progress: p.set}
	if cfg.URL, err = wiring.ParseURL(at.url); err != nil {
		return err
	}
	switch {
	case c.Credential != "":
		cfg.Credential.ID = c.Credential
	case at.plans == nil && at.stack == nil:
		return errors.New("the deployment's credential is missing; use --auth (or WEBHOOK_AUTH), which may be " +
			`{"type":"none"}, or --credential with the id of a credential at Vapi`)
	default:
		if cfg.Credential.Plan, err = wiring.Choose(at.plans, c.HMAC); err != nil {
			return err
		}
	}
	p.set("")
	if cfg.API, err = c.client(ctx, s.Err); err != nil {
		return err
	}
	changes, err := wiring.Prepare(ctx, cfg)
	if err != nil {
		return err
	}
	p.set("")
	showChangeSet(s.Out, changes)
	switch {
	case changes.Changes() == 0:
		fmt.Fprintln(s.Out, "Nothing to change.")
	case c.DryRun:
		fmt.Fprintln(s.Out, "Dry run: nothing was changed.")
	default:
		fmt.Fprintln(s.Out)
		err := wiring.Apply(ctx, cfg, changes, func(what string) {
			p.set("")
			fmt.Fprintln(s.Out, what)
		})
		if err != nil {
			return fmt.Errorf("%w; run the command again to continue from here", err)
		}
	}
	if n := len(changes.Conflicts); n > 0 {
		return fmt.Errorf("%d conflicts need your action, see above", n)
	}
	return nil
}

var (
	added   = color.New(color.FgGreen).SprintFunc()
	changed = color.New(color.FgYellow).SprintFunc()
	removed = color.New(color.FgRed).SprintFunc()
)

// showChangeSet prints the changes to make, and no more.
func showChangeSet(out io.Writer, changes *wiring.ChangeSet) {
	switch changes.Credential.Action {
	case wiring.ActionCreate:
		fmt.Fprintln(out, added("+ credential "+changes.Credential.Name))
	case wiring.ActionUpdate:
		fmt.Fprintln(out, changed("~ credential "+changes.Credential.Name), "replaces one with another secret")
	}
	for _, t := range changes.Tools {
		switch t.Action {
		case wiring.ActionCreate:
			fmt.Fprintln(out, added("+ tool "+t.Name))
		case wiring.ActionUpdate:
			fmt.Fprintln(out, changed("~ tool "+t.Name))
			for _, d := range t.Differences {
				fmt.Fprintf(out, "    %s\n", d)
			}
		}
	}
	for _, a := range changes.Assistants {
		if len(a.Attach)+len(a.Detach) == 0 {
			continue
		}
		name := a.ID
		if a.Name != "" {
			name += fmt.Sprintf(" (%q)", a.Name)
		}
		fmt.Fprintln(out, changed("~ assistant "+name))
		if len(a.Attach) > 0 {
			fmt.Fprintf(out, "    attach %s\n", strings.Join(a.Attach, ", "))
		}
		if len(a.Detach) > 0 {
			fmt.Fprintf(out, "    detach %s\n", strings.Join(a.Detach, ", "))
		}
	}
	for _, t := range changes.Prune {
		fmt.Fprintln(out, removed("- tool "+t.Name), t.ID)
	}
	for _, text := range changes.Notes {
		fmt.Fprintln(out, "note:", text)
	}
	for _, text := range changes.Conflicts {
		fmt.Fprintln(out, removed("conflict:"), text)
	}
}
