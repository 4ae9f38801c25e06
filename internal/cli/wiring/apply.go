package wiring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ringback/ringback/vapi/vapiclient"
)

// Apply makes the changes of a change set: the credential, the tools, the assistants,
// the removals, and finally the secret's organisation. In this order, every step is
// useful without the next.
// Apply calls done for each change that it has made. done may be nil.
//
// After an error, nothing must be undone: the next [Prepare] finds the remaining
// changes.
func Apply(ctx context.Context, cfg Config, changes *ChangeSet, done func(what string)) error {
	s := &applying{Config: cfg, done: done, ids: map[string]string{}}
	if s.done == nil {
		s.done = func(string) {}
	}
	credential, err := s.applyCredential(ctx, changes.Credential)
	if err != nil {
		return err
	}
	for _, change := range changes.Tools {
		change.Body.Server.CredentialID = credential
		if err := s.applyTool(ctx, change); err != nil {
			return err
		}
	}
	for _, change := range changes.Assistants {
		if change.changes() {
			if err := s.applyAssistant(ctx, change); err != nil {
				return err
			}
		}
	}
	for _, t := range changes.Prune {
		s.progress("removing the tool %s", t.Name)
		if err := s.API.Delete(ctx, vapiclient.Tools, t.ID); err != nil {
			return err
		}
		s.done("removed the tool " + t.Name)
	}
	if changes.Bind {
		return s.bind(ctx, changes)
	}
	return nil
}

type applying struct {
	Config
	done func(string)
	ids  map[string]string // of the tools, by name

	organisation string // of what was created
}

func (s *applying) applyCredential(ctx context.Context, change CredentialChange) (id string, err error) {
	switch change.Action {
	case ActionCreate:
		s.progress("creating the credential")
		raw, err := s.create(ctx, vapiclient.Credentials, s.Credential.body(change.Name), func() (json.RawMessage, error) {
			stored, err := listCredentials(ctx, s.API)
			for _, c := range stored {
				if c.Name == change.Name {
					return c.raw, nil
				}
			}
			return nil, err
		})
		if err != nil {
			return "", err
		}
		s.done("created the credential " + change.Name)
		return idOf(raw)
	case ActionUpdate:
		s.progress("replacing the credential")
		body := s.Credential.body(change.Name)
		body.Provider = ""
		if _, err := s.API.Update(ctx, vapiclient.Credentials, change.ID, body); err != nil {
			return "", err
		}
		s.done("replaced the credential, which is now " + change.Name)
	}
	return change.ID, nil
}

func (s *applying) applyTool(ctx context.Context, change ToolChange) error {
	s.ids[change.Name] = change.ID
	var raw json.RawMessage
	var err error
	switch change.Action {
	case ActionCreate:
		s.progress("creating the tool %s", change.Name)
		find := func() (json.RawMessage, error) { return s.findTool(ctx, change) }
		raw, err = s.create(ctx, vapiclient.Tools, change.Body, find)
		if refusesClosed(err) {
			change.Body = open(change.Body)
			raw, err = s.create(ctx, vapiclient.Tools, change.Body, find)
		}
		if err != nil {
			return err
		}
		if s.ids[change.Name], err = idOf(raw); err != nil {
			return err
		}
		s.done("created the tool " + change.Name)
	case ActionUpdate:
		if raw, err = s.API.Get(ctx, vapiclient.Tools, change.ID); err != nil {
			return err
		}
	default:
		return nil
	}
	return s.updateTool(ctx, change, raw)
}

// updateAttempts is how often an update is tried that another client's change prevents.
const updateAttempts = 3

// updateTool corrects a tool that was just read or created. Vapi refuses an update
// with 409 if another client has changed the tool in between (Vapi's documentation:
// tool_write_conflict). The update then starts from the changed tool, so it keeps
// that client's members.
func (s *applying) updateTool(ctx context.Context, change ToolChange, raw json.RawMessage) error {
	id := s.ids[change.Name]
	for attempt := 1; ; attempt++ {
		have, err := decode(raw)
		if err != nil {
			return err
		}
		if change.ID != "" && !change.unmoved(raw) {
			return fmt.Errorf("another client has changed the URL or the credential of the tool %s in the meantime, "+
				"so it was not changed; run ringback sync again", change.Name)
		}
		// A new tool normally has no differences.
		found := change.differences(have)
		if len(found) == 0 {
			return nil
		}
		s.progress("updating the tool %s", change.Name)
		raw, err = s.API.Update(ctx, vapiclient.Tools, id, change.patch(have, found))
		if refusesClosed(err) {
			change.Body = open(change.Body)
			raw, err = s.API.Update(ctx, vapiclient.Tools, id, change.patch(have, found))
		}
		if err == nil {
			break
		}
		failed, ok := errors.AsType[*vapiclient.APIError](err)
		if !ok || failed.Status != http.StatusConflict {
			return err
		}
		if attempt == updateAttempts {
			return fmt.Errorf("another client keeps changing the tool %s: %w; run ringback sync again", change.Name, err)
		}
		if err := s.API.Sleep(ctx, time.Second<<(attempt-1)); err != nil {
			return err
		}
		if raw, err = s.API.Get(ctx, vapiclient.Tools, id); err != nil {
			return err
		}
	}
	s.done("updated the tool " + change.Name)
	have, err := decode(raw)
	if err != nil {
		return err
	}
	s.notKept(change.Name, change.differences(have))
	return nil
}

// refusesClosed reports whether Vapi refused a tool because its schema says which other arguments it allows.
func refusesClosed(err error) bool {
	failed, ok := errors.AsType[*vapiclient.APIError](err)
	return ok && failed.Status == http.StatusBadRequest && strings.Contains(failed.Message, "additionalProperties")
}

// unmoved reports whether the webhooks of a tool at Vapi still have the target that they
// had when the change was prepared, or have the wanted one already.
func (c ToolChange) unmoved(raw json.RawMessage) bool {
	t, err := parseTool(raw)
	return err == nil && (t.Server == c.server || t.Server == target{c.Body.Server.URL, c.Body.Server.CredentialID})
}

// findTool returns the tool that a lost answer created, or nil if there is none.
func (s *applying) findTool(ctx context.Context, change ToolChange) (json.RawMessage, error) {
	stored, err := listTools(ctx, s.API)
	if err != nil {
		return nil, err
	}
	stored = named(stored, change.Name)
	if why := conflict(change.Name, stored); why != "" {
		return nil, errors.New(why)
	}
	if len(stored) == 0 {
		return nil, nil
	}
	if !change.unmoved(stored[0].raw) {
		return nil, fmt.Errorf("another client has created a tool %s in the meantime; run ringback sync again", change.Name)
	}
	return stored[0].raw, nil
}

// notKept reports what Vapi returned differently from what it received. The next sync
// will find the differences again, and nothing here can change that.
func (s *applying) notKept(name string, found []Difference) {
	for _, d := range found {
		s.done(fmt.Sprintf("Vapi did not store this change of the tool %s: %s", name, d))
	}
}

// createAttempts is how often a create is tried whose answer is lost.
const createAttempts = 3

// create creates an object exactly once. It must not repeat a request blindly: if the
// answer is lost, find looks for the new object and returns nil if there is none.
func (s *applying) create(
	ctx context.Context, r vapiclient.Resource, body any, find func() (json.RawMessage, error),
) (json.RawMessage, error) {
	for attempt := 1; ; attempt++ {
		raw, err := s.API.Create(ctx, r, body)
		if err == nil {
			s.organisation = organisationOf(raw)
		}
		failed, ok := errors.AsType[*vapiclient.APIError](err)
		if !ok || !failed.Lost() {
			return raw, err
		}
		// A list may not contain a new object at once.
		if err := s.API.Sleep(ctx, 2*time.Second<<(attempt-1)); err != nil {
			return nil, err
		}
		found, findErr := find()
		switch {
		case findErr != nil:
			return nil, errors.Join(err, findErr)
		case found != nil:
			s.organisation = organisationOf(found)
			return found, nil
		case attempt == createAttempts:
			return nil, err
		}
	}
}

func (s *applying) applyAssistant(ctx context.Context, change AssistantChange) error {
	s.progress("attaching tools to the assistant %s", change.ID)
	// Vapi replaces the model as a whole. Read it again immediately before, so that
	// a concurrent change is lost only within a few milliseconds.
	raw, err := s.API.Get(ctx, vapiclient.Assistants, change.ID)
	if err != nil {
		return err
	}
	a, err := parseAssistant(raw)
	if err != nil {
		return fmt.Errorf("assistant %s: %w", change.ID, err)
	}
	var attach []string
	for _, name := range change.Attach {
		attach = append(attach, s.ids[name])
	}
	model, err := a.withTools(attach, change.Detach)
	if err != nil {
		return fmt.Errorf("assistant %s: %w", change.ID, err)
	}
	if model == nil {
		return nil
	}
	body := append(append(json.RawMessage(`{"model":`), model...), '}')
	if _, err := s.API.Update(ctx, vapiclient.Assistants, change.ID, body); err != nil {
		return err
	}
	var said []string
	if len(change.Attach) > 0 {
		said = append(said, "attached "+strings.Join(change.Attach, ", ")+" to")
	}
	if len(change.Detach) > 0 {
		said = append(said, fmt.Sprintf("detached %d from", len(change.Detach)))
	}
	s.done(strings.Join(said, ", and ") + " the assistant " + a.String())
	return nil
}

func idOf(raw json.RawMessage) (string, error) {
	var object struct{ ID string }
	if err := json.Unmarshal(raw, &object); err != nil || object.ID == "" {
		return "", errors.New("the answer of the Vapi API has no id; run ringback sync again")
	}
	return object.ID, nil
}
