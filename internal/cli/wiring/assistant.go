package wiring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ringback/ringback/vapi"
)

// assistant is the part of an assistant that matters here.
type assistant struct {
	id, name string
	raw      json.RawMessage
	members  map[string]json.RawMessage
	model    json.RawMessage   // nil: none
	toolIDs  []string          // model.toolIds
	pinned   map[string]string // model.toolRefs: versions by a tool's id
	inline   []string          // names of the tools in model.tools

	gptLive  bool            // it is a GPT-Live assistant
	reasoner json.RawMessage // model.reasoner; nil: none
	skills   []skill         // model.reasoner.skills
}

// skill is a procedure of a GPT-Live assistant's reasoner, with tools of its own (Vapi's
// documentation, "GPT-Live settings and compatibility": reasoner skills).
type skill struct {
	place   string // for people
	raw     json.RawMessage
	toolIDs []string
	inline  []string // names
}

// String returns the assistant's id, and its name if it has one.
func (a *assistant) String() string {
	if a.name == "" {
		return a.id
	}
	return fmt.Sprintf("%s (%q)", a.id, a.name)
}

func (a *assistant) has(tool string) bool { return len(a.places(tool)) > 0 || a.pinned[tool] != "" }

// places returns where the assistant refers to a tool, except in model.toolRefs.
func (a *assistant) places(tool string) []string {
	var places []string
	for _, id := range a.toolIDs {
		if id == tool {
			places = append(places, "model.toolIds")
		}
	}
	for _, s := range a.skills {
		for _, id := range s.toolIDs {
			if id == tool {
				places = append(places, s.place)
			}
		}
	}
	return places
}

// own returns where the assistant has a tool of its own with a name, or "".
func (a *assistant) own(name string) string {
	if slices.Contains(a.inline, name) {
		return "model.tools"
	}
	for _, s := range a.skills {
		if slices.Contains(s.inline, name) {
			return s.place
		}
	}
	return ""
}

// ownNames returns the names of the assistant's own tools.
func (a *assistant) ownNames() []string {
	names := slices.Clone(a.inline)
	for _, s := range a.skills {
		names = append(names, s.inline...)
	}
	return names
}

func parseAssistant(raw json.RawMessage) (*assistant, error) {
	a := &assistant{raw: raw, pinned: map[string]string{}}
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
	a.inline = namesOf(members["tools"])
	var name string
	_ = json.Unmarshal(members["model"], &name)
	a.gptLive = vapi.IsGPTLive(name) || given(members["speaker"]) || given(members["reasoner"])
	if given(members["reasoner"]) {
		a.reasoner = members["reasoner"]
		return a, a.parseSkills()
	}
	return a, nil
}

func (a *assistant) parseSkills() error {
	var reasoner struct{ Skills []json.RawMessage }
	if err := json.Unmarshal(a.reasoner, &reasoner); err != nil {
		return errors.New("its model.reasoner.skills is not a list of skills")
	}
	for i, raw := range reasoner.Skills {
		var members struct {
			Name    string
			ToolIDs []string
			Tools   json.RawMessage
		}
		if err := json.Unmarshal(raw, &members); err != nil {
			return fmt.Errorf("its model.reasoner.skills[%d] is not a skill", i)
		}
		a.skills = append(a.skills, skill{
			place: fmt.Sprintf("model.reasoner.skills[%d] (%q)", i, members.Name), raw: raw,
			toolIDs: members.ToolIDs, inline: namesOf(members.Tools),
		})
	}
	return nil
}

// namesOf returns the names of tools that are defined in an assistant.
func namesOf(tools json.RawMessage) (names []string) {
	var inline []struct{ Function struct{ Name string } }
	_ = json.Unmarshal(tools, &inline)
	for _, t := range inline {
		names = append(names, t.Function.Name)
	}
	return names
}

// given reports whether a member is there and not null.
func given(member json.RawMessage) bool { return member != nil && string(member) != "null" }

// withTools returns the complete model with tools attached and detached. A tool that a
// skill has counts as attached. All other members are unchanged, byte for byte. It returns
// nil if that changes nothing.
func (a *assistant) withTools(attach, detach []string) (json.RawMessage, error) {
	if a.model == nil {
		return nil, errors.New("it no longer has a model")
	}
	ids := slices.DeleteFunc(slices.Clone(a.toolIDs), func(id string) bool { return slices.Contains(detach, id) })
	for _, id := range attach {
		if len(a.places(id)) == 0 {
			ids = append(ids, id)
		}
	}
	var model json.RawMessage
	if !slices.Equal(ids, a.toolIDs) {
		var err error
		if model, err = setIDs(a.model, ids); err != nil {
			return nil, err
		}
	}
	reasoner, err := a.reasonerWithout(detach)
	if err != nil || reasoner == nil {
		return model, err
	}
	if model == nil {
		model = a.model
	}
	return setMember(model, "reasoner", reasoner)
}

// reasonerWithout returns the reasoner without tools in its skills. It returns nil if no
// skill has one of them.
func (a *assistant) reasonerWithout(tools []string) (json.RawMessage, error) {
	changed := false
	skills := make([][]byte, len(a.skills))
	for i, s := range a.skills {
		skills[i] = s.raw
		ids := slices.DeleteFunc(slices.Clone(s.toolIDs), func(id string) bool { return slices.Contains(tools, id) })
		if len(ids) == len(s.toolIDs) {
			continue
		}
		changed = true
		var err error
		if skills[i], err = setIDs(s.raw, ids); err != nil {
			return nil, err
		}
	}
	if !changed {
		return nil, nil
	}
	// json.Marshal would reformat the skills.
	list := slices.Concat([]byte("["), bytes.Join(skills, []byte(",")), []byte("]"))
	return setMember(a.reasoner, "skills", list)
}

// setIDs replaces the toolIds of a model or a skill.
func setIDs(object json.RawMessage, ids []string) (json.RawMessage, error) {
	if ids == nil {
		ids = []string{}
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	return setMember(object, "toolIds", list)
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
