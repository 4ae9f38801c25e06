package wiring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// assistant is the part of an assistant that matters here.
type assistant struct {
	id, name string
	members  map[string]json.RawMessage
	model    json.RawMessage   // nil: none
	toolIDs  []string          // model.toolIds
	pinned   map[string]string // model.toolRefs: versions by a tool's id
	inline   []string          // names of the tools in model.tools
}

// String returns the assistant's id, and its name if it has one.
func (a *assistant) String() string {
	if a.name == "" {
		return a.id
	}
	return fmt.Sprintf("%s (%q)", a.id, a.name)
}

func (a *assistant) has(tool string) bool {
	return slices.Contains(a.toolIDs, tool) || a.pinned[tool] != ""
}

func parseAssistant(raw json.RawMessage) (*assistant, error) {
	a := &assistant{pinned: map[string]string{}}
	if err := json.Unmarshal(raw, &a.members); err != nil || a.members == nil {
		return nil, errors.New("the Vapi API returned something other than an assistant")
	}
	_ = json.Unmarshal(a.members["name"], &a.name)
	if err := json.Unmarshal(a.members["id"], &a.id); err != nil {
		return nil, errors.New("the Vapi API returned an assistant without an id")
	}
	model := a.members["model"]
	var members map[string]json.RawMessage
	if err := json.Unmarshal(model, &members); err != nil || members == nil {
		return a, nil
	}
	a.model = model
	if ids := members["toolIds"]; ids != nil {
		if err := json.Unmarshal(ids, &a.toolIDs); err != nil {
			return nil, errors.New("its model.toolIds is not a list of ids")
		}
	}
	var refs []struct{ ToolID, Version string }
	_ = json.Unmarshal(members["toolRefs"], &refs)
	for _, ref := range refs {
		a.pinned[ref.ToolID] = ref.Version
	}
	var inline []struct{ Function struct{ Name string } }
	_ = json.Unmarshal(members["tools"], &inline)
	for _, t := range inline {
		a.inline = append(a.inline, t.Function.Name)
	}
	return a, nil
}

// withTools returns the complete model with tools attached and detached. All other
// bytes are unchanged. It returns nil if that changes nothing.
func (a *assistant) withTools(attach, detach []string) (json.RawMessage, error) {
	if a.model == nil {
		return nil, errors.New("it no longer has a model")
	}
	ids := slices.DeleteFunc(slices.Clone(a.toolIDs), func(id string) bool { return slices.Contains(detach, id) })
	for _, id := range attach {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if slices.Equal(ids, a.toolIDs) {
		return nil, nil
	}
	if ids == nil {
		ids = []string{}
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	return setMember(a.model, "toolIds", list)
}

// setMember replaces a member of a JSON object, or adds it at the end. All other bytes
// are unchanged. Of a repeated member, the last one counts, as in encoding/json.
func setMember(object json.RawMessage, name string, value []byte) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	start, end, members := -1, -1, 0
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var member json.RawMessage
		if err := d.Decode(&member); err != nil {
			return nil, err
		}
		members++
		if key == name {
			end = int(d.InputOffset())
			start = end - len(member)
		}
	}
	if start < 0 {
		if _, err := d.Token(); err != nil {
			return nil, err
		}
		start = int(d.InputOffset()) - 1
		end = start
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		value = append(append(key, ':'), value...)
		if members > 0 {
			value = append([]byte{','}, value...)
		}
	}
	changed := append(json.RawMessage{}, object[:start]...)
	changed = append(changed, value...)
	return append(changed, object[end:]...), nil
}
