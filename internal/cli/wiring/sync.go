package wiring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Config is the state that Vapi must agree with.
type Config struct {
	API   *vapiclient.API // required
	Tools *asynctool.Set  // required

	// URL is the destination of the webhooks, as [ParseURL] returns it.
	// Required.
	URL string

	// Credential is the credential that Vapi sends with the webhooks.
	Credential Credential

	// Assistants are the ids of the assistants that receive the tools. Empty
	// means that no assistant changes.
	Assistants []string

	// TakeOver names the tools that are changed although sync did not set their
	// URL or credential for this URL.
	TakeOver []string

	// Prune removes the tools at Vapi that sync created for this URL and that
	// are no longer in Tools: function tools with this URL and with a
	// credential that sync uses or has created.
	Prune bool

	// Secret is the deployment's stored credential, and Stored what was read of it.
	// Nil means that the webhooks of other organisations are not refused.
	Secret Secret
	Stored Stored

	// AddOrganisation accepts the webhooks of the private key's organisation although
	// the secret is bound to others.
	AddOrganisation bool

	// Rotating finds what a new credential does not reach.
	Rotating bool

	// Missing are the settings that tools lack in the deployment, by tool. Such a tool
	// is neither created nor attached.
	Missing map[string][]string

	// Progress is called with each step. It may be nil.
	Progress func(step string)
}

func (c *Config) progress(format string, a ...any) {
	if c.Progress != nil {
		c.Progress(fmt.Sprintf(format, a...))
	}
}

// ChangeSet is a list of changes to make at Vapi. The zero value has none.
type ChangeSet struct {
	Credential CredentialChange
	Tools      []ToolChange
	Assistants []AssistantChange
	Prune      []Pruned

	// Organisation is the id of the organisation at Vapi. Empty means that
	// no object at Vapi has it. Vapi's OpenAPI description has no route that
	// returns the organisation's name.
	Organisation string

	// Bind is whether to refuse the webhooks of organisations other than
	// Organisation and Bound.
	Bind  bool
	Bound []string

	// Stranded are tools and assistants that post to the URL with a credential
	// that is not rotated. There are none without [Config.Rotating].
	Stranded []string

	// Previous are the objects at Vapi that the changes affect, before the
	// changes. Vapi does not return the secrets of a credential.
	Previous []Object

	// Conflicts are why a tool or an assistant cannot be wired without a
	// person. These tools and assistants do not change.
	Conflicts []string
	// Notes are worth knowing, but are no mistakes.
	Notes []string
}

// Object is an object at Vapi.
type Object struct {
	Resource vapiclient.Resource `json:"resource"`
	Body     json.RawMessage     `json:"body"`
}

// Changes returns the number of changes.
func (c *ChangeSet) Changes() int {
	n := len(c.Prune)
	if c.Credential.Action != "" {
		n++
	}
	if c.Bind {
		n++
	}
	for _, t := range c.Tools {
		if t.Action != "" {
			n++
		}
	}
	for _, a := range c.Assistants {
		if a.changes() {
			n++
		}
	}
	return n
}

// Action is the kind of a change. Empty means no change.
type Action string

const (
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
)

// CredentialChange is the change of the credential.
type CredentialChange struct {
	Action Action
	ID     string // empty: not created yet, or none
	Name   string // at Vapi; empty: selected by its id, or none
}

// ToolChange is the change of a tool.
type ToolChange struct {
	Action      Action
	Name        string
	ID          string          // empty: not created yet
	Differences []Difference    // of an update
	Body        vapiclient.Tool // without the id of a credential that does not exist yet

	server    target // of an update, before it
	takesOver bool   // the tool had another owner, of whose server nothing must remain
}

// differences returns the differences of a tool at Vapi.
func (c ToolChange) differences(have map[string]any) []Difference {
	found := differences(c.Body, have)
	if c.takesOver {
		found = append(found, leftovers(c.Body, have)...)
	}
	return found
}

// AssistantChange is the change of an assistant.
type AssistantChange struct {
	ID, Name string
	Attach   []string // names of tools
	Detach   []string // ids of removed tools
}

func (a AssistantChange) changes() bool { return len(a.Attach)+len(a.Detach) > 0 }

// Pruned is a tool to remove.
type Pruned struct{ ID, Name string }

// storedTool is a tool at Vapi.
type storedTool struct {
	ID, Type string
	Function struct{ Name string }
	Server   target

	raw     json.RawMessage
	members map[string]any
}

// target is where the webhooks of a tool at Vapi go, and what they carry.
type target struct{ URL, CredentialID string }

func parseTool(raw json.RawMessage) (storedTool, error) {
	var t storedTool
	members, err := decode(raw)
	if err == nil {
		// A tool of another type may not fit completely, and need not.
		_ = json.Unmarshal(raw, &t)
	}
	t.raw, t.members = raw, members
	return t, err
}

func listTools(ctx context.Context, api *vapiclient.API) ([]storedTool, error) {
	list, err := api.List(ctx, vapiclient.Tools)
	if err != nil {
		return nil, err
	}
	tools := make([]storedTool, len(list))
	for i, raw := range list {
		if tools[i], err = parseTool(raw); err != nil {
			return nil, err
		}
	}
	return tools, nil
}

// named returns the tools with a name.
func named(tools []storedTool, name string) []storedTool {
	return slices.DeleteFunc(slices.Clone(tools), func(t storedTool) bool { return t.Function.Name != name })
}

// conflict returns why the tools with a name at Vapi cannot be identified or changed.
// It is empty if there is no tool or one function tool.
func conflict(name string, stored []storedTool) string {
	var ids []string
	for _, t := range stored {
		ids = append(ids, t.ID)
	}
	switch {
	case len(stored) > 1:
		return fmt.Sprintf("%d tools at Vapi are named %s (%s): it is unknown which one is meant, so none is changed. "+
			"Delete or rename all but one.", len(stored), name, strings.Join(ids, ", "))
	case len(stored) == 1 && stored[0].Type != "function":
		return fmt.Sprintf("the tool %s at Vapi (%s) has the type %s, which cannot change. Delete or rename the tool.",
			name, ids[0], stored[0].Type)
	}
	return ""
}

// Prepare returns the changes to make. It changes nothing at Vapi.
func Prepare(ctx context.Context, cfg Config) (*ChangeSet, error) {
	if err := cfg.checkArgumentKey(); err != nil {
		return nil, err
	}
	s := &state{Config: cfg}
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	for _, name := range cfg.TakeOver {
		if _, ok := cfg.Tools.Lookup(name); !ok {
			return nil, fmt.Errorf("there is no tool %s to take over; ringback tools lists the tools", name)
		}
	}
	changes := &ChangeSet{Credential: s.credential, Organisation: s.organisation}
	if s.unprovenKey {
		changes.Notes = append(changes.Notes, fmt.Sprintf("sync does not change the credential %s, and Vapi does not "+
			"show that it has the public key of this deployment in its encryptionPlan. Without it, Vapi does not encrypt "+
			"the arguments of %s, and they are refused.", s.Credential.ID, encryptedTools(cfg.Tools)))
	}
	bodies, err := Bodies(cfg.Tools, Endpoint{URL: cfg.URL, CredentialID: s.credential.ID})
	if err != nil {
		return nil, err
	}
	ids := map[string]string{} // of the existing tools, by name
	var wired []string         // names of the tools that will exist
	for _, body := range bodies {
		name := body.Function.Name
		stored := named(s.tools, name)
		missing := strings.Join(cfg.Missing[name], " and ")
		if missing != "" && (len(stored) != 1 || s.foreign(stored[0]) != "") {
			changes.Notes = append(changes.Notes, fmt.Sprintf("the tool %s is left out, because the deployment lacks %s: "+
				"set what is missing, deploy, and run ringback sync again.", name, missing))
			continue
		}
		if why := conflict(name, stored); why != "" {
			changes.Conflicts = append(changes.Conflicts, why)
			continue
		}
		if len(stored) == 1 {
			if why := s.foreign(stored[0]); why != "" && !slices.Contains(cfg.TakeOver, name) {
				changes.Conflicts = append(changes.Conflicts, why)
				continue
			}
		}
		if missing != "" {
			changes.Notes = append(changes.Notes, fmt.Sprintf("the deployment lacks %s of the tool %s, so callers hear that "+
				"the service isn't available: set what is missing and deploy, or detach the tool. It is attached to no further "+
				"assistant.", missing, name))
		} else {
			wired = append(wired, name)
		}
		change := ToolChange{Name: name, Body: body, Action: ActionCreate}
		if len(stored) == 1 {
			change.takesOver = s.foreign(stored[0]) != ""
			change.ID, change.Action, change.server = stored[0].ID, "", stored[0].Server
			ids[name] = stored[0].ID
			change.Differences = change.differences(stored[0].members)
			if s.credential.ID == "" && s.credential.Action == ActionCreate {
				change.Differences = withNewCredential(change.Differences, stored[0], s.credential.Name)
			}
			if len(change.Differences) > 0 {
				change.Action = ActionUpdate
			}
		}
		changes.Tools = append(changes.Tools, change)
	}
	if err := s.preparePrune(ctx, changes); err != nil {
		return nil, err
	}
	for _, id := range cfg.Assistants {
		s.prepareAssistant(changes, s.assistants[id], wired, ids)
	}
	if cfg.Rotating {
		if err := s.prepareRotation(ctx, changes); err != nil {
			return nil, err
		}
	}
	if plans := cfg.Stored.Plans; !cfg.Rotating && len(plans) == 2 && plans[0].Type == "hmac" {
		changes.Notes = append(changes.Notes,
			"the secret holds two credentials, so a rotation is under way; ringback sync --rotate hmac finishes it.")
	}
	if err := s.prepareBinding(changes); err != nil {
		return nil, err
	}
	changes.Previous = s.previous(changes)
	return changes, nil
}

// checkArgumentKey returns an error if Vapi cannot encrypt the arguments of the tools.
func (c *Config) checkArgumentKey() error {
	switch names := encryptedTools(c.Tools); {
	case names == "":
		return nil
	case c.Credential.none():
		return fmt.Errorf("%s: the tool has encrypted arguments, and Vapi reads the key from a credential; "+
			"use a deployment with a credential, or --credential", names)
	case c.Credential.ID == "" && c.Credential.ArgumentKey == "":
		return fmt.Errorf("%s: the tool has encrypted arguments, and the public key is unknown; "+
			"deploy the tool first and use --stack, or use --argument-key", names)
	}
	return nil
}

// encryptedTools returns the names of the tools that have encrypted arguments.
func encryptedTools(tools *asynctool.Set) string {
	return strings.Join(slices.Sorted(maps.Keys(tools.Encrypted())), ", ")
}

// foreign returns why sync must not change a tool at Vapi unless TakeOver names it: its URL or
// its credential is not one that sync set for this URL. It is empty if sync may. A tool at this
// URL without a credential has no other owner.
func (s *state) foreign(t storedTool) string {
	var set string
	switch {
	case t.Server.URL == "":
		set = "has no URL of its own"
	case t.Server.URL != s.URL:
		set = "posts to " + shownURL(t.Server.URL)
	case t.Server.CredentialID != "" && !slices.Contains(s.credentials, t.Server.CredentialID):
		set = fmt.Sprintf("has the credential %q", t.Server.CredentialID)
	default:
		return ""
	}
	return fmt.Sprintf("the tool %s at Vapi (%s) %s, which sync did not set for this URL. It may belong to another "+
		"deployment. To change it all the same, use --take-over %[1]s.", t.Function.Name, t.ID, set)
}

// previous returns the objects that the changes affect.
func (s *state) previous(changes *ChangeSet) []Object {
	var all []Object
	add := func(r vapiclient.Resource, raw json.RawMessage) { all = append(all, Object{Resource: r, Body: raw}) }
	if changes.Credential.Action == ActionUpdate {
		add(vapiclient.Credentials, s.replaced)
	}
	affected := map[string]bool{}
	for _, t := range changes.Tools {
		affected[t.ID] = t.Action == ActionUpdate
	}
	for _, t := range changes.Prune {
		affected[t.ID] = true
	}
	for _, t := range s.tools {
		if affected[t.ID] {
			add(vapiclient.Tools, t.raw)
		}
	}
	for _, a := range changes.Assistants {
		if a.changes() {
			add(vapiclient.Assistants, s.assistants[a.ID].raw)
		}
	}
	return all
}

// withNewCredential adds the difference of a credential that does not exist yet.
func withNewCredential(found []Difference, stored storedTool, name string) []Difference {
	const path = "server.credentialId"
	found = slices.DeleteFunc(found, func(d Difference) bool { return d.Path == path })
	d := Difference{Path: path, Want: "the new credential " + name}
	if stored.Server.CredentialID != "" {
		d.Have = stored.Server.CredentialID
	}
	return append(found, d)
}

// state is the state at Vapi.
type state struct {
	Config
	credential  CredentialChange
	credentials []string        // ids of those that are in use or were created for this URL
	replaced    json.RawMessage // the credential that changes
	unprovenKey bool            // the selected credential may not have the argument key

	organisation string
	tools        []storedTool
	assistants   map[string]*assistant // those in Config
}

func (s *state) read(ctx context.Context) error {
	s.progress("asking Vapi for its credentials")
	if err := s.readCredential(ctx); err != nil {
		return err
	}
	s.progress("asking Vapi for its tools")
	var err error
	if s.tools, err = listTools(ctx, s.API); err != nil {
		return err
	}
	s.assistants = map[string]*assistant{}
	for _, id := range s.Assistants {
		s.progress("asking Vapi for the assistant %s", id)
		raw, err := s.API.Get(ctx, vapiclient.Assistants, id)
		if err != nil {
			return err
		}
		if s.assistants[id], err = parseAssistant(raw); err != nil {
			return fmt.Errorf("assistant %s: %w", id, err)
		}
		s.identify(raw)
	}
	for _, t := range s.tools {
		s.identify(t.raw)
	}
	return nil
}

// identify reads the organisation's id from one of its objects.
func (s *state) identify(raw json.RawMessage) {
	if s.organisation == "" {
		s.organisation = organisationOf(raw)
	}
}

// organisationOf returns the id of the organisation that an object at Vapi belongs to.
func organisationOf(raw json.RawMessage) string {
	var object struct{ OrgID string }
	if json.Unmarshal(raw, &object) != nil {
		return ""
	}
	return object.OrgID
}

// readCredential finds the credential by its name, or the one that it replaces.
func (s *state) readCredential(ctx context.Context) error {
	selected := s.Credential.ID != "" || s.Credential.none()
	stored, err := listCredentials(ctx, s.API)
	if err != nil && !selected {
		return err
	}
	// Without the list, a tool with a credential that sync created is a conflict.
	var own []storedCredential
	for _, c := range stored {
		s.identify(c.raw)
		if strings.HasPrefix(c.Name, namePrefix(s.URL)) {
			own = append(own, c)
			s.credentials = append(s.credentials, c.ID)
		}
	}
	if selected {
		s.unprovenKey = len(s.Tools.Encrypted()) > 0 && !slices.ContainsFunc(stored, func(c storedCredential) bool {
			yes, _ := c.encryptsWith(s.Credential.ArgumentKey)
			return yes && c.ID == s.Credential.ID
		})
		s.credential.ID = s.Credential.ID
		s.credentials = append(s.credentials, s.Credential.ID)
		return s.checkCredential(ctx)
	}
	name, err := s.Credential.name(s.URL)
	if err != nil {
		return err
	}
	s.credential = CredentialChange{Action: ActionCreate, Name: name}
	for _, c := range own {
		other := false // another client has changed the key
		if s.Credential.ArgumentKey != "" {
			yes, known := c.encryptsWith(s.Credential.ArgumentKey)
			other = known && !yes
		}
		switch {
		case c.Name == name && !other:
			s.credential.Action, s.credential.ID = "", c.ID
		case c.Name == name, s.credential.Action == ActionCreate:
			// Its secret or key has changed since. One request replaces it
			// for every tool at once.
			s.credential.Action, s.credential.ID, s.replaced = ActionUpdate, c.ID, c.raw
		}
	}
	return nil
}

// checkCredential returns an error if Vapi does not have the selected credential. A key that may not read
// credentials cannot tell.
func (s *state) checkCredential(ctx context.Context) error {
	if s.Credential.ID == "" {
		return nil
	}
	_, err := s.API.Get(ctx, vapiclient.Credentials, s.Credential.ID)
	failed, ok := errors.AsType[*vapiclient.APIError](err)
	if ok && (failed.Status == http.StatusNotFound || failed.Status == http.StatusBadRequest) {
		return fmt.Errorf("there is no credential %s at Vapi: copy its id from the dashboard, where its organisation's "+
			"credentials are", s.Credential.ID)
	}
	return nil
}

// preparePrune collects the tools that sync created and that no longer exist here. It
// keeps a tool that is attached to an assistant outside Config, because Vapi does not
// document what happens to an assistant whose tool is deleted.
func (s *state) preparePrune(ctx context.Context, changes *ChangeSet) error {
	var gone []storedTool
	for _, t := range s.tools {
		if _, ok := s.Tools.Lookup(t.Function.Name); ok || t.Type != "function" || t.Server.URL != s.URL {
			continue
		}
		what := fmt.Sprintf("the tool %s at Vapi (%s) has this URL, but does not exist here", t.Function.Name, t.ID)
		switch {
		case !slices.Contains(s.credentials, t.Server.CredentialID):
			changes.Notes = append(changes.Notes,
				what+"; its credential is not from sync, so sync did not create it and does not remove it.")
		case !s.Prune:
			changes.Notes = append(changes.Notes, what+"; use --prune to remove it.")
		default:
			gone = append(gone, t)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	s.progress("asking Vapi which assistants have the tools to remove")
	list, err := s.API.List(ctx, vapiclient.Assistants)
	if err != nil {
		return err
	}
	for _, t := range gone {
		user := ""
		for _, raw := range list {
			a, err := parseAssistant(raw)
			if err != nil {
				return fmt.Errorf("cannot determine which tools an assistant has, so none is removed: %w", err)
			}
			if !slices.Contains(s.Assistants, a.id) && a.has(t.ID) {
				user = a.String()
			}
		}
		if user != "" {
			changes.Conflicts = append(changes.Conflicts, fmt.Sprintf(
				"the tool %s (%s) is not removed, because the assistant %s has it: use --assistant for this assistant, too.",
				t.Function.Name, t.ID, user))
			continue
		}
		changes.Prune = append(changes.Prune, Pruned{ID: t.ID, Name: t.Function.Name})
	}
	return nil
}

func (s *state) prepareAssistant(changes *ChangeSet, a *assistant, wired []string, ids map[string]string) {
	change := AssistantChange{ID: a.id, Name: a.name}
	for _, name := range wired {
		id := ids[name]
		places := a.places(id)
		switch own := a.own(name); {
		case own != "":
			changes.Conflicts = append(changes.Conflicts, fmt.Sprintf("the assistant %s has its own tool %s (in "+
				"%s), so another one with this name is not attached. Remove it from the assistant.", a, name, own))
		case id != "" && a.pinned[id] != "":
			changes.Notes = append(changes.Notes, fmt.Sprintf("the assistant %s is pinned to version %s of the tool %s "+
				"(in model.toolRefs): changes of the tool do not reach it.", a, a.pinned[id], name))
		case len(places) == 0:
			change.Attach = append(change.Attach, name)
		case len(places) > 1:
			changes.Notes = append(changes.Notes, fmt.Sprintf("the assistant %s has the tool %s in several places (%s): "+
				"one of them is enough.", a, name, strings.Join(places, ", ")))
		}
	}
	for _, t := range changes.Prune {
		if len(a.places(t.ID)) > 0 {
			change.Detach = append(change.Detach, t.ID)
		}
	}
	if change.changes() && a.model == nil {
		changes.Conflicts = append(changes.Conflicts, fmt.Sprintf("the assistant %s has no model yet, "+
			"so tools cannot be attached. Choose its model in the dashboard.", a))
		return
	}
	changes.Assistants = append(changes.Assistants, change)
}
