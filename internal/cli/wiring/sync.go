package wiring

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Config says what Vapi is to agree with.
type Config struct {
	API   *vapiclient.API // required
	Tools *asynctool.Set  // required

	// URL is where Vapi posts the webhooks, as [ParseURL] gives it. Required.
	URL string

	// Credential is what Vapi sends with them.
	Credential Credential

	// Assistants are the ids of the assistants that get the tools. Empty:
	// none is touched.
	Assistants []string

	// Prune removes the tools at Vapi that sync made for this URL and that
	// are no longer among Tools: function tools with this URL and with the
	// credential that sync uses or has made.
	Prune bool

	// Progress is told what is being done. Nil: nobody is.
	Progress func(what string)
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

	// Conflicts are what keeps a tool or an assistant from being wired, and
	// needs a person. What they are about is not touched.
	Conflicts []string
	// Notes are worth knowing, and no mistakes.
	Notes []string
}

// Changes is how many things are to be written.
func (c *ChangeSet) Changes() int {
	n := len(c.Prune)
	if c.Credential.Action != "" {
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

// Action is what is done to a thing. Empty: nothing.
type Action string

const (
	Create Action = "create"
	Update Action = "update"
)

// CredentialChange is about the credential.
type CredentialChange struct {
	Action Action
	ID     string // empty: is to be created, or there is none
	Name   string // at Vapi; empty: it was given by its id, or there is none
}

// ToolChange is about a tool.
type ToolChange struct {
	Action      Action
	Name        string
	ID          string          // empty: is to be created
	Differences []Difference    // of an update
	Body        vapiclient.Tool // without the id of a credential that is yet to be created
}

// AssistantChange is about an assistant.
type AssistantChange struct {
	ID, Name string
	Attach   []string // names of tools
	Detach   []string // ids of tools that are pruned
}

func (a AssistantChange) changes() bool { return len(a.Attach)+len(a.Detach) > 0 }

// Pruned is a tool that is removed.
type Pruned struct{ ID, Name string }

// storedTool is a tool as Vapi keeps it.
type storedTool struct {
	ID, Type string
	Function struct{ Name string }
	Server   struct{ URL, CredentialID string }

	members map[string]any
}

func parseTool(raw json.RawMessage) (storedTool, error) {
	var t storedTool
	members, err := decode(raw)
	if err == nil {
		// Of a tool of another type nothing is needed but what fits.
		_ = json.Unmarshal(raw, &t)
	}
	t.members = members
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

// named gives the tools of a name.
func named(tools []storedTool, name string) []storedTool {
	return slices.DeleteFunc(slices.Clone(tools), func(t storedTool) bool { return t.Function.Name != name })
}

// conflict says why the tools of a name at Vapi cannot be told apart or
// changed; empty where there is none of them or one.
func conflict(name string, stored []storedTool) string {
	var ids []string
	for _, t := range stored {
		ids = append(ids, t.ID)
	}
	switch {
	case len(stored) > 1:
		return fmt.Sprintf("%d tools at Vapi are named %s (%s): which one is meant cannot be known, so none is touched. Delete or rename all but one.", len(stored), name, strings.Join(ids, ", "))
	case len(stored) == 1 && stored[0].Type != "function":
		return fmt.Sprintf("the tool %s at Vapi (%s) is of type %s, which cannot be changed, so it is not touched. Delete or rename it.", name, ids[0], stored[0].Type)
	}
	return ""
}

// Prepare finds out what is to be done. It writes nothing.
func Prepare(ctx context.Context, cfg Config) (*ChangeSet, error) {
	s := &state{Config: cfg}
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	changes := &ChangeSet{Credential: s.credential}
	bodies, err := Bodies(cfg.Tools, Endpoint{URL: cfg.URL, CredentialID: s.credential.ID})
	if err != nil {
		return nil, err
	}
	ids := map[string]string{} // of the tools that are there, by name
	var wired []string         // names of the tools that are there in the end
	for _, body := range bodies {
		name := body.Function.Name
		stored := named(s.tools, name)
		if why := conflict(name, stored); why != "" {
			changes.Conflicts = append(changes.Conflicts, why)
			continue
		}
		wired = append(wired, name)
		change := ToolChange{Name: name, Body: body, Action: Create}
		if len(stored) == 1 {
			change.ID, change.Action = stored[0].ID, ""
			ids[name] = stored[0].ID
			change.Differences = differences(body, stored[0].members)
			if s.credential.ID == "" && s.credential.Action == Create {
				change.Differences = withNewCredential(change.Differences, stored[0], s.credential.Name)
			}
			if len(change.Differences) > 0 {
				change.Action = Update
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
	return changes, nil
}

// withNewCredential shows the credential that is yet to be created.
func withNewCredential(found []Difference, stored storedTool, name string) []Difference {
	const path = "server.credentialId"
	found = slices.DeleteFunc(found, func(d Difference) bool { return d.Path == path })
	d := Difference{Path: path, Want: "the new credential " + name}
	if stored.Server.CredentialID != "" {
		d.Have = stored.Server.CredentialID
	}
	return append(found, d)
}

// state is what is at Vapi.
type state struct {
	Config
	credential  CredentialChange
	credentials []string // ids of those that are in use or were made for this URL
	tools       []storedTool
	assistants  map[string]*assistant // those of the configuration
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
	}
	return nil
}

// readCredential finds the credential by its name, or the one it replaces.
func (s *state) readCredential(ctx context.Context) error {
	if s.Credential.ID != "" {
		s.credential = CredentialChange{ID: s.Credential.ID}
		s.credentials = []string{s.Credential.ID}
		return nil
	}
	if s.Credential.none() {
		s.credentials = []string{""}
		return nil
	}
	name, err := s.Credential.name(s.URL)
	if err != nil {
		return err
	}
	stored, err := listCredentials(ctx, s.API)
	if err != nil {
		return err
	}
	s.credential = CredentialChange{Action: Create, Name: name}
	for _, c := range stored {
		if !strings.HasPrefix(c.Name, namePrefix(s.URL)) {
			continue
		}
		s.credentials = append(s.credentials, c.ID)
		switch {
		case c.Name == name:
			s.credential.Action, s.credential.ID = "", c.ID
		case s.credential.Action == Create:
			// Made of a secret that has changed since. Replaced in one
			// write, it is so for every tool at once.
			s.credential.Action, s.credential.ID = Update, c.ID
		}
	}
	return nil
}

// preparePrune collects the tools that sync made and that are gone here. One
// that is still attached to an assistant which is not synced is left: what
// Vapi makes of an assistant whose tool is deleted is not documented.
func (s *state) preparePrune(ctx context.Context, changes *ChangeSet) error {
	var gone []storedTool
	for _, t := range s.tools {
		if _, ok := s.Tools.Lookup(t.Function.Name); ok || t.Type != "function" || t.Server.URL != s.URL {
			continue
		}
		what := fmt.Sprintf("the tool %s at Vapi (%s) points to this URL, and there is no such tool here", t.Function.Name, t.ID)
		switch {
		case !slices.Contains(s.credentials, t.Server.CredentialID):
			changes.Notes = append(changes.Notes, what+"; it has another credential than sync gives, so sync did not make it, and will not remove it.")
		case !s.Prune:
			changes.Notes = append(changes.Notes, what+"; --prune removes it.")
		default:
			gone = append(gone, t)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	s.progress("asking Vapi which assistants have the tools that are removed")
	list, err := s.API.List(ctx, vapiclient.Assistants)
	if err != nil {
		return err
	}
	for _, t := range gone {
		keptBy := ""
		for _, raw := range list {
			a, err := parseAssistant(raw)
			if err == nil && !slices.Contains(s.Assistants, a.id) && a.has(t.ID) {
				keptBy = a.String()
			}
		}
		if keptBy != "" {
			changes.Conflicts = append(changes.Conflicts, fmt.Sprintf("the tool %s (%s) is not removed, as the assistant %s has it: name the assistant with --assistant, too.", t.Function.Name, t.ID, keptBy))
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
		switch {
		case slices.Contains(a.inline, name):
			changes.Conflicts = append(changes.Conflicts, fmt.Sprintf("the assistant %s has a tool %s of its own (in model.tools), beside which another of this name is not attached. Remove it from the assistant.", a, name))
		case id != "" && a.pinned[id] != "":
			changes.Notes = append(changes.Notes, fmt.Sprintf("the assistant %s is pinned to version %s of the tool %s (in model.toolRefs): changes of the tool do not reach it.", a, a.pinned[id], name))
		case id == "" || !slices.Contains(a.toolIDs, id):
			change.Attach = append(change.Attach, name)
		}
	}
	for _, t := range changes.Prune {
		if slices.Contains(a.toolIDs, t.ID) {
			change.Detach = append(change.Detach, t.ID)
		}
	}
	if change.changes() && a.model == nil {
		changes.Conflicts = append(changes.Conflicts, fmt.Sprintf("the assistant %s has no model yet, so tools cannot be attached. Choose its model in the dashboard.", a))
		return
	}
	changes.Assistants = append(changes.Assistants, change)
}
