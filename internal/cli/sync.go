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

	HMAC       bool     `name:"hmac" help:"Have Vapi sign webhooks: use the deployment's credential of type hmac, not its first." xor:"credential"`
	Credential string   `help:"Use this credential at Vapi as it is, by its id, and make none." placeholder:"ID" xor:"credential"`
	Assistant  []string `help:"Attach the tools to this assistant. May be repeated." placeholder:"ID"`
	DryRun     bool     `help:"Show what would be done, and do nothing."`
	Prune      bool     `help:"Remove the tools at Vapi that sync made for this URL and that are gone here."`
}

// Help is shown above the flags.
func (syncCommand) Help() string {
	return `It makes the webhook's credential and the tools at Vapi, or updates what differs, and attaches the tools to the assistants. It shows first what it will do; where nothing differs, it does nothing. When it fails half-way, run it again.

Tools are found by their names, wherever they point: a sync for another URL takes them along, so give each stage an organisation of its own at Vapi. Two of one name are reported, and not touched: the exit code is then 1, as it is where anything else could not be wired.

Vapi does not show what a credential holds, so its name says it, by a fingerprint of the secret: a secret that was changed is replaced at Vapi, too. --prune removes the function tools that have this URL and the credential that sync makes for it, and leaves those that an assistant has which is not named with --assistant.

The private key comes from VAPI_API_KEY; in a terminal it is asked for.

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
		return errors.New("which deployment? give --stack, or --url")
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
		return errors.New(`the deployment's credential is needed: give --auth (or WEBHOOK_AUTH), which may be {"type":"none"}, or the id of one at Vapi with --credential`)
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
		fmt.Fprintln(s.Out, "Nothing to do.")
	case c.DryRun:
		fmt.Fprintln(s.Out, "Nothing was written, as this is a dry run.")
	default:
		fmt.Fprintln(s.Out)
		err := wiring.Apply(ctx, cfg, changes, func(what string) {
			p.set("")
			fmt.Fprintln(s.Out, what)
		})
		if err != nil {
			return fmt.Errorf("%w; run it again, and it goes on from here", err)
		}
	}
	if n := len(changes.Conflicts); n > 0 {
		return fmt.Errorf("%d of the things to be wired need you, see above", n)
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
	case wiring.Create:
		fmt.Fprintln(out, added("+ credential "+changes.Credential.Name))
	case wiring.Update:
		fmt.Fprintln(out, changed("~ credential "+changes.Credential.Name), "replaces one that was made of another secret")
	}
	for _, t := range changes.Tools {
		switch t.Action {
		case wiring.Create:
			fmt.Fprintln(out, added("+ tool "+t.Name))
		case wiring.Update:
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
