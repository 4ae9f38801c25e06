package vapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ControlMessage is a message for a call's control URL: [AddMessage], [Say], [Control], [EndCall], [Transfer] or
// [Handoff]. It marshals to the JSON that Vapi takes (Vapi's OpenAPI: ClientInboundMessage).
type ControlMessage interface {
	json.Marshaler
	// Validate says what Vapi would certainly refuse, or nil.
	Validate() error
	wire() any
}

// Role says who speaks in an [AddMessage].
type Role string

// The roles that Vapi takes (Vapi's OpenAPI: OpenAIMessage.role).
const (
	RoleSystem    Role = "system"
	RoleUser      Role = "user"
	RoleAssistant Role = "assistant"
	RoleTool      Role = "tool"
	RoleFunction  Role = "function"
)

// AddMessage adds a message to the conversation's history.
type AddMessage struct {
	// Role is who speaks. Empty means RoleSystem.
	Role Role
	// Content is the message's text. Required.
	Content string
	// Silent leaves the model unasked until the next turn. False makes it answer now, which is Vapi's default too.
	// It is the opposite of Vapi's triggerResponseEnabled, which is always written out.
	Silent bool
}

// Say makes the assistant speak a text word for word.
type Say struct {
	// Content is the text. Required.
	Content string
	// EndCallAfterSpoken hangs up after the text.
	EndCallAfterSpoken bool
	// InterruptionsDisabled keeps the caller from interrupting the text. It is the opposite of Vapi's
	// interruptionsEnabled, which is always written out since its default is not documented.
	InterruptionsDisabled bool
	// InterruptAssistantEnabled lets the text replace what the assistant is saying. False, Vapi's default, puts it after.
	InterruptAssistantEnabled bool
}

// ControlAction is what a [Control] message does.
type ControlAction string

// The actions that Vapi takes (Vapi's OpenAPI: ClientInboundMessageControl.control).
const (
	MuteAssistant   ControlAction = "mute-assistant"
	UnmuteAssistant ControlAction = "unmute-assistant"
	MuteCustomer    ControlAction = "mute-customer"
	UnmuteCustomer  ControlAction = "unmute-customer"
	SayFirstMessage ControlAction = "say-first-message"
)

// Control mutes or unmutes one side, or has the first message said.
type Control struct {
	// Action is required.
	Action ControlAction
}

// EndCall hangs up.
type EndCall struct{}

// Transfer connects the caller to a phone number or a SIP address. Exactly one of Number and SIPURI is required.
type Transfer struct {
	// Number is a phone number, 3 to 40 characters; Vapi checks that it is E.164.
	Number string
	// Extension is dialled after Number, up to 10 characters. Empty means none.
	Extension string
	// SIPURI is an address such as "sip:support@example.com".
	SIPURI string
	// CallerID is what the destination sees, up to 40 characters. Empty means Vapi's default: the caller's own number.
	CallerID string
	// TransferPlan is Vapi's TransferPlan, a JSON object, e.g. for a warm transfer. Empty means Vapi's default, a blind transfer.
	TransferPlan json.RawMessage
	// Content is spoken before. Empty leaves it to Vapi.
	Content string
}

// Handoff passes the call to another assistant or squad. It stands in Vapi's documentation ("Live call control") and not
// in its OpenAPI description.
type Handoff struct {
	// Destination is one of Vapi's HandoffDestination… objects, with its type. Required.
	Destination json.RawMessage
	// Content is spoken before. Empty leaves it to Vapi.
	Content string
}

// The JSON of each message, for both ways.
type (
	addMessageWire struct {
		Type                   string       `json:"type"`
		Message                addedMessage `json:"message"`
		TriggerResponseEnabled bool         `json:"triggerResponseEnabled"`
	}
	addedMessage struct {
		Role    Role   `json:"role"`
		Content string `json:"content"`
	}
	sayWire struct {
		Type                      string `json:"type"`
		Content                   string `json:"content"`
		EndCallAfterSpoken        bool   `json:"endCallAfterSpoken"`
		InterruptionsEnabled      bool   `json:"interruptionsEnabled"`
		InterruptAssistantEnabled bool   `json:"interruptAssistantEnabled"`
	}
	controlWire struct {
		Type    string        `json:"type"`
		Control ControlAction `json:"control"`
	}
	endCallWire struct {
		Type string `json:"type"`
	}
	transferWire struct {
		Type        string              `json:"type"`
		Destination transferDestination `json:"destination"`
		Content     string              `json:"content,omitempty"`
	}
	transferDestination struct {
		Type         string          `json:"type"`
		Number       string          `json:"number,omitempty"`
		Extension    string          `json:"extension,omitempty"`
		SIPURI       string          `json:"sipUri,omitempty"`
		CallerID     string          `json:"callerId,omitempty"`
		TransferPlan json.RawMessage `json:"transferPlan,omitempty"`
	}
	handoffWire struct {
		Type        string          `json:"type"`
		Destination json.RawMessage `json:"destination"`
		Content     string          `json:"content,omitempty"`
	}
)

func (m AddMessage) wire() any {
	return addMessageWire{"add-message", addedMessage{m.role(), m.Content}, !m.Silent}
}

func (m Say) wire() any {
	return sayWire{"say", m.Content, m.EndCallAfterSpoken, !m.InterruptionsDisabled, m.InterruptAssistantEnabled}
}

func (m Control) wire() any { return controlWire{"control", m.Action} }

func (m EndCall) wire() any { return endCallWire{"end-call"} }

func (m Transfer) wire() any {
	kind := "number"
	if m.SIPURI != "" {
		kind = "sip"
	}
	return transferWire{"transfer", transferDestination{kind, m.Number, m.Extension, m.SIPURI, m.CallerID, m.TransferPlan}, m.Content}
}

func (m Handoff) wire() any { return handoffWire{"handoff", m.Destination, m.Content} }

// MarshalJSON gives Vapi's JSON. It refuses what Validate refuses, as do the others.
func (m AddMessage) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON gives Vapi's JSON.
func (m Say) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON gives Vapi's JSON.
func (m Control) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON gives Vapi's JSON.
func (m EndCall) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON gives Vapi's JSON.
func (m Transfer) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON gives Vapi's JSON.
func (m Handoff) MarshalJSON() ([]byte, error) { return marshalControl(m) }

func marshalControl(m ControlMessage) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(m.wire())
}

func (m AddMessage) role() Role { return cmp.Or(m.Role, RoleSystem) }

// Validate refuses an unknown role and an empty content.
func (m AddMessage) Validate() error {
	switch m.role() {
	case RoleSystem, RoleUser, RoleAssistant, RoleTool, RoleFunction:
	default:
		return errors.New("add-message: unknown role: use system, user, assistant, tool or function")
	}
	if m.Content == "" {
		return errors.New("add-message: content is empty")
	}
	return nil
}

// Validate refuses an empty content.
func (m Say) Validate() error {
	if m.Content == "" {
		return errors.New("say: content is empty")
	}
	return nil
}

// Validate refuses an unknown action.
func (m Control) Validate() error {
	switch m.Action {
	case MuteAssistant, UnmuteAssistant, MuteCustomer, UnmuteCustomer, SayFirstMessage:
		return nil
	}
	return errors.New("control: unknown action: use mute-assistant, unmute-assistant, mute-customer, unmute-customer or say-first-message")
}

// Validate returns nil.
func (m EndCall) Validate() error { return nil }

// Validate refuses a missing or ambiguous destination and what goes beyond Vapi's limits of length.
func (m Transfer) Validate() error {
	switch {
	case (m.Number == "") == (m.SIPURI == ""):
		return errors.New("transfer: give either a number or a SIP URI")
	case m.Number != "" && (utf8.RuneCountInString(m.Number) < 3 || utf8.RuneCountInString(m.Number) > 40):
		return errors.New("transfer: the number must have 3 to 40 characters")
	case m.SIPURI != "" && !hasSIPScheme(m.SIPURI):
		return errors.New(`transfer: the SIP URI must begin with "sip:" or "sips:"`)
	case m.SIPURI != "" && m.Extension != "":
		return errors.New("transfer: an extension belongs to a number, not to a SIP URI")
	case utf8.RuneCountInString(m.Extension) > 10:
		return errors.New("transfer: the extension must have at most 10 characters")
	case utf8.RuneCountInString(m.CallerID) > 40:
		return errors.New("transfer: the caller id must have at most 40 characters")
	case len(m.TransferPlan) > 0 && !isJSONObject(m.TransferPlan):
		return errors.New("transfer: the transfer plan must be a JSON object")
	}
	return nil
}

// Validate refuses a destination that is not a JSON object with a type.
func (m Handoff) Validate() error {
	var destination struct {
		Type string `json:"type"`
	}
	if !isJSONObject(m.Destination) || json.Unmarshal(m.Destination, &destination) != nil || destination.Type == "" {
		return errors.New(`handoff: the destination must be a JSON object with a type, like {"type":"assistant","assistantId":"..."}`)
	}
	return nil
}

func hasSIPScheme(uri string) bool {
	scheme, rest, found := strings.Cut(uri, ":")
	return found && rest != "" && (strings.EqualFold(scheme, "sip") || strings.EqualFold(scheme, "sips"))
}

func isJSONObject(raw json.RawMessage) bool {
	return json.Valid(raw) && bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{"))
}

// ParseControlMessage reads a control message back from its JSON, e.g. one that was stored until it could be posted.
// Left-out members have the values that the zero values of [AddMessage] and [Say] stand for. It refuses what Validate
// refuses, and members that the message's type does not have here, so that nothing is posted with a part lost.
func ParseControlMessage(data []byte) (ControlMessage, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	var m ControlMessage
	var err error
	switch kind.Type {
	case "add-message":
		w := addMessageWire{TriggerResponseEnabled: true}
		err = decodeControlWire(data, &w)
		m = AddMessage{cmp.Or(w.Message.Role, RoleSystem), w.Message.Content, !w.TriggerResponseEnabled}
	case "say":
		w := sayWire{InterruptionsEnabled: true}
		err = decodeControlWire(data, &w)
		m = Say{w.Content, w.EndCallAfterSpoken, !w.InterruptionsEnabled, w.InterruptAssistantEnabled}
	case "control":
		var w controlWire
		err = decodeControlWire(data, &w)
		m = Control{w.Control}
	case "end-call":
		err = decodeControlWire(data, new(endCallWire))
		m = EndCall{}
	case "transfer":
		var w transferWire
		err = decodeControlWire(data, &w)
		d := w.Destination
		if err == nil && !(d.Type == "number" && d.SIPURI == "" || d.Type == "sip" && d.Number == "") {
			err = errors.New(`transfer: the destination must be {"type":"number","number":"..."} or {"type":"sip","sipUri":"..."}`)
		}
		m = Transfer{d.Number, d.Extension, d.SIPURI, d.CallerID, compactJSON(d.TransferPlan), w.Content}
	case "handoff":
		var w handoffWire
		err = decodeControlWire(data, &w)
		m = Handoff{compactJSON(w.Destination), w.Content}
	default:
		err = errors.New("unknown type: use add-message, say, control, end-call, transfer or handoff")
	}
	if err == nil {
		err = m.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	return m, nil
}

// decodeControlWire decodes valid JSON and refuses unknown members.
func decodeControlWire(data []byte, w any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(w)
}

// compactJSON is valid JSON as encoding/json writes it, so that a message compares equal after it was stored.
func compactJSON(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return nil
	}
	// Marshalling fails for invalid JSON alone, which the decoder has refused before.
	compact, _ := json.Marshal(raw)
	return compact
}
