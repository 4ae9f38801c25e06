package wiring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ringback/ringback/vapi/vapiclient"
)

// squad is what matters of a squad (Vapi's OpenAPI: Squad).
type squad struct {
	ID               string
	Members          []member
	MembersOverrides monitored
}

type member struct {
	AssistantID        string
	Assistant          *monitored // without an id; nil means that there is an AssistantID
	AssistantOverrides monitored
}

// monitored is an assistant, or overrides of one. A nil MonitorPlan overrides nothing. Vapi
// replaces nested objects as a whole, so a plan that does not mention the member sets it to its default.
type monitored struct {
	MonitorPlan *struct{ ControlAuthenticationEnabled bool }
}

func (m monitored) switchesOff() bool {
	return m.MonitorPlan != nil && !m.MonitorPlan.ControlAuthenticationEnabled
}

// squads checks the control authentication in the squads of the assistants. Each member has its own, and
// overrides apply to calls of the squad only.
func (e *examination) squads(ctx context.Context) {
	if len(e.Assistants) == 0 {
		return
	}
	e.progress("asking Vapi for its squads")
	stored, err := e.API.List(ctx, vapiclient.Squads)
	failed, ok := errors.AsType[*vapiclient.APIError](err)
	switch {
	case ok && (failed.Status == http.StatusUnauthorized || failed.Status == http.StatusNotFound):
		return // the check of the tools reports a wrong key, and an API without squads has none
	case err != nil:
		e.add("squads", "", VerdictUnchecked, "Look at the assistant's squads in the dashboard.",
			"not checked: cannot list the squads: %v", err)
		return
	}
	for _, raw := range stored {
		var s squad
		if err := json.Unmarshal(raw, &s); err != nil {
			e.add("squads", s.ID, VerdictUnchecked, "Look at the squad in the dashboard.",
				"not checked: a setting has an unexpected type: %v", err)
			continue
		}
		if slices.ContainsFunc(s.Members, func(m member) bool { return slices.Contains(e.Assistants, m.AssistantID) }) {
			e.squad(s)
		}
	}
}

func (e *examination) squad(s squad) {
	const name = "control authentication of the squad"
	var off, unnamed []string
	if s.MembersOverrides.switchesOff() {
		off = append(off, "membersOverrides")
	}
	for i, m := range s.Members {
		at := fmt.Sprintf("members[%d].", i)
		if m.Assistant != nil && (m.Assistant.MonitorPlan == nil || m.Assistant.switchesOff()) {
			off = append(off, at+"assistant")
		}
		if m.AssistantOverrides.switchesOff() {
			off = append(off, at+"assistantOverrides")
		}
		if m.AssistantID != "" && !slices.Contains(e.Assistants, m.AssistantID) {
			unnamed = append(unnamed, m.AssistantID)
		}
	}
	switch {
	case len(off) > 0:
		e.add(name, s.ID, VerdictFailed,
			"Set monitorPlan.controlAuthenticationEnabled to true there, or remove the monitorPlan of overrides.",
			"off in its %s", strings.Join(off, ", "))
	case len(unnamed) > 0:
		e.add(name, s.ID, VerdictUnchecked, "Check these members, too, with --assistant.",
			"not checked for its members %s", strings.Join(unnamed, ", "))
	default:
		e.add(name, s.ID, VerdictOK, "", "on for all members")
	}
}
