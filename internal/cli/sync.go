package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/vapi/vapiauth"
)

type syncCommand struct {
	deploymentFlags
	vapiFlags

	HMAC       bool    `help:"Make Vapi sign webhooks: use the first credential of type hmac." xor:"credential"`
	Credential *string `help:"Use the credential with this id at Vapi, and create none." placeholder:"ID" xor:"credential"`
	Rotate     *string `help:"Replace the stack's credential by a new one of this type, in steps: ${enum}." enum:"hmac" placeholder:"TYPE" xor:"credential"`

	Assistant       assistantIDs `help:"Attach the tools to this assistant. May be repeated." placeholder:"ID"`
	DryRun          bool         `help:"Show the changes without making them."`
	Yes             bool         `help:"Make the changes without asking."`
	TakeOver        []string     `help:"Change this tool at Vapi although it may belong to another deployment. May be repeated." placeholder:"NAME"`
	AddOrganisation bool         `help:"Also accept the webhooks of this organisation, if the stack's secret is bound to others."`
	Prune           bool         `help:"Remove the tools at Vapi that sync created for this URL and that no longer exist here."`
}

// Help returns the text above the flags.
func (syncCommand) Help() string {
	return `The command creates the webhook's credential and the tools at Vapi, or updates what differs. It attaches the
tools to the assistants. It first shows the organisation and its changes, and does nothing if nothing differs. On a
terminal, it then asks whether to make them. Elsewhere, it makes them only with --yes. It first writes the previous
bodies of what it changes to a file that only you can read, and prints its path. If it fails half-way, run it again.

Tools are found by name. A tool whose URL or credential sync did not set for this URL may belong to another deployment.
It is a conflict and is not changed, unless you name it with --take-over. Use one organisation at Vapi for each stage.
Two tools with the same name are a conflict, too. The exit code is 1 if there is a conflict.

Vapi does not show the content of a credential. The name of a credential therefore contains a fingerprint of its secret,
and a secret that has changed is replaced at Vapi, too. --prune removes function tools that have this URL and the
credential that sync creates for it. It keeps the tools of assistants that are not named with --assistant.

With --stack, a tool that lacks a setting in the deployment is left out: it is neither created nor attached.

With --stack, the command also binds the stack's secret to the organisation: the webhooks of others are then refused. A
private key of another organisation is an error, unless --add-organisation is set. Credentials with fewer than 24
characters are refused.

--rotate hmac replaces the credential. It stores a new one beside the old one, waits until the functions read it,
changes the credential at Vapi, waits until no webhook with the old one is in flight, and removes the old one. No
webhook is refused meanwhile. It takes two minutes, and longer if a tool has a long Quick. If it is interrupted, run it
again: it shows what the earlier run has done, and continues.

If tools have encrypted arguments, the credential also gets the public key with which Vapi encrypts them. It is that of
the stack, or the one in --argument-key.

The private key comes from VAPI_API_KEY. On a terminal, the command asks for it.

Examples:

  ringback sync --stack Ringback --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33 --dry-run
  ringback sync --stack Ringback --assistant 5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33
  ringback sync --stack Ringback --prune --region eu --yes
  ringback sync --stack Ringback --take-over order_status
  ringback sync --stack Ringback --rotate hmac
  WEBHOOK_AUTH='{"type":"bearer","token":"…"}' ringback sync --url https://hooks.example.com/vapi
  ringback sync --url https://hooks.example.com/vapi --credential 550e8400-e29b-41d4-a716-446655440000`
}

// Run runs the command.
func (c *syncCommand) Run(s *streams, tools Tools) error {
	ctx, _, stop := interrupted()
	defer stop()
	if c.URL == "" && c.Stack == "" {
		return errors.New("no deployment is selected; use --stack or --url")
	}
	if c.Credential != nil && strings.TrimSpace(*c.Credential) == "" {
		return errors.New("--credential is empty; use the id of a credential, which Vapi's dashboard shows")
	}
	set, err := tools.set()
	if err != nil {
		return err
	}
	p := startProgress(s.Err)
	defer p.stop()
	at, err := c.read(ctx, p)
	if err != nil {
		return err
	}
	cfg := wiring.Config{Tools: set, Assistants: c.Assistant, TakeOver: c.TakeOver, Prune: c.Prune,
		Missing: at.lacking(set), Secret: at.secret, Stored: at.stored,
		AddOrganisation: c.AddOrganisation, Rotating: c.Rotate != nil,
		Progress: p.set}
	if cfg.URL, err = wiring.ParseURL(at.url); err != nil {
		return err
	}
	rotation, err := c.choose(&cfg, at)
	if err != nil {
		return err
	}
	if cfg.Credential.ArgumentKey, err = c.argumentKey(ctx, at, set); err != nil {
		return err
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
	if rotation != nil {
		for _, step := range rotation.Steps(cfg, changes) {
			fmt.Fprintln(s.Out, changed("~ secret:"), step)
		}
		if n := len(changes.Stranded); n > 0 {
			return fmt.Errorf("nothing was changed: the webhooks of %d tools or assistants would be refused, see above", n)
		}
	}
	switch {
	case changes.Changes() == 0 && rotation == nil:
		fmt.Fprintln(s.Out, "Nothing to change.")
	case c.DryRun:
		fmt.Fprintln(s.Out, "Dry run: nothing was changed.")
	default:
		if err := c.agreed(ctx, s, changes); err != nil {
			return err
		}
		fmt.Fprintln(s.Out)
		err := keep(s.Out, changes.Previous)
		if err != nil {
			return fmt.Errorf("nothing was changed: %w", err)
		}
		done := func(what string) {
			p.set("")
			fmt.Fprintln(s.Out, printable(what))
		}
		if rotation != nil {
			err = rotation.Run(ctx, cfg, changes, done)
		} else {
			err = wiring.Apply(ctx, cfg, changes, done)
		}
		if err != nil {
			return fmt.Errorf("%w; run the command again to continue from here", err)
		}
	}
	if n := len(changes.Conflicts); n > 0 {
		return fmt.Errorf("%d conflicts need your action, see above", n)
	}
	return nil
}

// choose sets the credential for Vapi. The rotation is nil if the credential of the deployment stays.
func (c *syncCommand) choose(cfg *wiring.Config, at deployment) (rotation *wiring.Rotation, err error) {
	switch {
	case cfg.Rotating && at.stack == nil:
		return nil, errors.New("--rotate changes the secret of a stack; use --stack")
	case cfg.Rotating:
		if rotation, err = wiring.NewRotation(at.secret, at.stored); err == nil {
			cfg.Credential.Plan = rotation.New
		}
		return rotation, err
	case c.Credential != nil:
		cfg.Credential.ID = *c.Credential
	case at.plans == nil && at.stack == nil:
		return nil, errors.New("the deployment's credential is missing; use --auth (or WEBHOOK_AUTH), which may be " +
			`{"type":"none"}, or --credential with the id of a credential at Vapi`)
	default:
		if cfg.Credential.Plan, err = wiring.Choose(at.plans, c.HMAC); err != nil {
			return nil, err
		}
	}
	// During a rotation, the second one is the old one, which goes.
	used := append([]vapiauth.Plan{cfg.Credential.Plan}, at.plans[:min(1, len(at.plans))]...)
	remedy := "store a longer one, and run ringback sync again"
	if at.secret != nil {
		remedy = "ringback sync --rotate hmac replaces it without refusing a webhook"
	}
	return nil, wiring.CheckLengths(used, remedy)
}

// agreed asks whether to make the changes. It returns an error if they must not be made.
func (c *syncCommand) agreed(ctx context.Context, s *streams, changes *wiring.ChangeSet) error {
	if c.Yes {
		return nil
	}
	question := "Make these changes at Vapi?"
	if changes.Organisation != "" {
		question = "Make these changes in the organisation " + cell(changes.Organisation) + "?"
	}
	yes, err := confirm(ctx, os.Stdin, s.Err, question)
	switch {
	case errors.Is(err, errNoTerminal):
		return errors.New("nothing was changed: there is no terminal to ask on; use --yes to make the changes")
	case err != nil:
		return fmt.Errorf("nothing was changed: %w", err)
	case !yes:
		return errors.New("nothing was changed")
	}
	return nil
}

// keep writes objects to a new file, and prints its path.
func keep(out io.Writer, objects []wiring.Object) error {
	if len(objects) == 0 {
		return nil
	}
	folder, err := os.UserConfigDir()
	if err != nil { // the process has no home
		folder = os.TempDir()
	}
	folder = filepath.Join(folder, "ringback", "sync")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("cannot store the previous bodies: %w", err)
	}
	// CreateTemp makes a file that only its owner can read. A body may contain secrets.
	file, err := os.CreateTemp(folder, time.Now().UTC().Format("20060102T150405Z")+"-*.json")
	if err != nil {
		return fmt.Errorf("cannot store the previous bodies: %w", err)
	}
	if err := errors.Join(asJSON(file, objects), file.Close()); err != nil {
		return fmt.Errorf("cannot store the previous bodies: %w", err)
	}
	fmt.Fprintln(out, "The previous bodies are in "+file.Name())
	return nil
}

var (
	added   = color.New(color.FgGreen).SprintFunc()
	changed = color.New(color.FgYellow).SprintFunc()
	removed = color.New(color.FgRed).SprintFunc()
)

// showChangeSet prints the changes to make, and no more.
func showChangeSet(out io.Writer, changes *wiring.ChangeSet) {
	switch {
	case changes.Changes()+len(changes.Conflicts) == 0:
	case changes.Organisation == "":
		fmt.Fprintln(out, "Organisation at Vapi: unknown, because none of the objects at Vapi names it")
	default:
		fmt.Fprintln(out, "Organisation at Vapi:", cell(changes.Organisation), "(the API does not return its name)")
	}
	switch changes.Credential.Action {
	case wiring.ActionCreate:
		fmt.Fprintln(out, added("+ credential "+changes.Credential.Name))
	case wiring.ActionUpdate:
		fmt.Fprintln(out, changed("~ credential "+changes.Credential.Name), "replaces one with another secret or key")
	}
	for _, t := range changes.Tools {
		switch t.Action {
		case wiring.ActionCreate:
			fmt.Fprintln(out, added("+ tool "+t.Name))
		case wiring.ActionUpdate:
			fmt.Fprintln(out, changed("~ tool "+t.Name))
			for _, d := range t.Differences {
				fmt.Fprintf(out, "    %s\n", cell(d.String()))
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
		fmt.Fprintln(out, changed("~ assistant "+cell(name)))
		if len(a.Attach) > 0 {
			fmt.Fprintf(out, "    attach %s\n", cell(strings.Join(a.Attach, ", ")))
		}
		if len(a.Detach) > 0 {
			fmt.Fprintf(out, "    detach %s\n", cell(strings.Join(a.Detach, ", ")))
		}
	}
	for _, t := range changes.Prune {
		fmt.Fprintln(out, removed("- tool "+cell(t.Name)), cell(t.ID))
	}
	if changes.Bind {
		fmt.Fprintln(out, changed("~ secret:"), "refuse the webhooks of organisations other than",
			cell(strings.Join(append(changes.Bound, cmp.Or(changes.Organisation, "this one")), ", ")))
	}
	for _, text := range changes.Notes {
		fmt.Fprintln(out, "note:", cell(text))
	}
	for _, text := range slices.Concat(changes.Stranded, changes.Conflicts) {
		fmt.Fprintln(out, removed("conflict:"), cell(text))
	}
}
