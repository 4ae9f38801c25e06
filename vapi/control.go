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

// ControlMessage is a message for a call's control URL: [AddMessage], [Say], [Control], [EndCall],
// [Transfer], [Handoff] or [AppendContext]. It marshals to the JSON that Vapi accepts (Vapi's OpenAPI:
// ClientInboundMessage). MarshalJSON returns an error if Validate does.
//
// A GPT-Live call accepts only AppendContext, EndCall and Transfer, and a classic call all others (Vapi's
// documentation: "GPT-Live settings and compatibility").
type ControlMessage interface {
	json.Marshaler
	// Validate returns an error if Vapi would certainly refuse the message.
	Validate() error
	wire() any
}

// Role is the speaker of an [AddMessage].
type Role string

// The roles that Vapi accepts (Vapi's OpenAPI: OpenAIMessage.role).
const (
	RoleSystem    Role = "system"
	RoleUser      Role = "user"
	RoleAssistant Role = "assistant"
	RoleTool      Role = "tool"
	RoleFunction  Role = "function"
)

// AddMessage adds a message to the conversation's history (Vapi's OpenAPI:
// ClientInboundMessageAddMessage).
type AddMessage struct {
	// Role is the speaker. Empty means RoleSystem.
	Role Role
	// Content is the message's text. Required.
	Content string
	// Silent makes the model wait for the next turn before it reacts. If false, the model answers
	// at once, which is Vapi's default. Silent is sent as the opposite, triggerResponseEnabled.
	Silent bool
}

// Say makes the assistant speak a text word for word (Vapi's OpenAPI: ClientInboundMessageSay).
type Say struct {
	// Content is the text. Required.
	Content string
	// EndCallAfterSpoken hangs up after the text.
	EndCallAfterSpoken bool
	// InterruptionsDisabled prevents the caller from interrupting the text. It is sent as the
	// opposite, interruptionsEnabled. That member is always present, because Vapi does not document
	// its default.
	InterruptionsDisabled bool
	// InterruptAssistantEnabled makes the text replace what the assistant is saying. If false,
	// which is Vapi's default, the text follows it.
	InterruptAssistantEnabled bool
}

// ControlAction is the effect of a [Control] message.
type ControlAction string

// The actions that Vapi accepts (Vapi's OpenAPI: ClientInboundMessageControl.control).
const (
	MuteAssistant   ControlAction = "mute-assistant"
	UnmuteAssistant ControlAction = "unmute-assistant"
	MuteCustomer    ControlAction = "mute-customer"
	UnmuteCustomer  ControlAction = "unmute-customer"
	SayFirstMessage ControlAction = "say-first-message"
)

// Control mutes or unmutes one side, or makes the assistant say its first message.
type Control struct {
	// Action is required.
	Action ControlAction
}

// EndCall hangs up.
type EndCall struct{}

// Transfer connects the caller to a phone number or a SIP address. Exactly one of Number and SIPURI
// is required. Limits and defaults are those of Vapi's OpenAPI: TransferDestinationNumber and
// TransferDestinationSip.
type Transfer struct {
	// Number is a phone number of 3 to 40 characters. Vapi checks that it is E.164.
	Number string
	// Extension is dialled after Number. It has at most 10 characters. Empty means none.
	Extension string
	// SIPURI is an address such as "sip:support@example.com".
	SIPURI string
	// CallerID is the number that the destination sees. It has at most 40 characters. Empty means
	// Vapi's default, the number that the call comes from.
	CallerID string
	// TransferPlan is Vapi's TransferPlan, a JSON object, for example for a warm transfer. Empty
	// means Vapi's default, a blind transfer.
	TransferPlan json.RawMessage
	// Content is spoken before the transfer. If empty, Vapi decides what to say.
	Content string
}

// Handoff passes the call to another assistant or squad. Vapi's documentation describes it ("Live
// call control"), its OpenAPI description does not.
type Handoff struct {
	// Destination is one of Vapi's HandoffDestination objects, with its type. Required.
	Destination json.RawMessage
	// Content is spoken before the handoff. If empty, Vapi decides what to say.
	Content string
}

// ContextKind is the purpose of an [AppendContext].
type ContextKind string

// The kinds that Vapi accepts (Vapi's documentation: "GPT-Live settings and compatibility").
const (
	// Commentary is information that the speaker conveys in its own words.
	Commentary ContextKind = "commentary"
	// Thinking is context that prompts no speech. The speaker may repeat it later.
	Thinking ContextKind = "thinking"
	// Instructions guide the speaker, and may ask it to say something.
	Instructions ContextKind = "instructions"
)

// MaxContext is the largest content of an [AppendContext], in characters (Vapi's documentation: "GPT-Live
// settings and compatibility").
const MaxContext = 16_000

// AppendContext adds context to a GPT-Live call. It reaches the speaker, and neither the reasoner nor the
// transcript (Vapi's documentation: "GPT-Live settings and compatibility").
type AppendContext struct {
	// Kind is required.
	Kind ContextKind
	// Content is the text. It is required, not blank, and has at most [MaxContext] characters.
	Content string
}

// The JSON of each message, for marshalling and for parsing.
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
	appendContextWire struct {
		Type    string      `json:"type"`
		Kind    ContextKind `json:"kind"`
		Content string      `json:"content"`
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
	d := transferDestination{kind, m.Number, m.Extension, m.SIPURI, m.CallerID, m.TransferPlan}
	return transferWire{"transfer", d, m.Content}
}

func (m Handoff) wire() any { return handoffWire{"handoff", m.Destination, m.Content} }

func (m AppendContext) wire() any { return appendContextWire{"append-context", m.Kind, m.Content} }

// MarshalJSON implements [ControlMessage].
func (m AddMessage) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON implements [ControlMessage].
func (m Say) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON implements [ControlMessage].
func (m Control) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON implements [ControlMessage].
func (m EndCall) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON implements [ControlMessage].
func (m Transfer) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON implements [ControlMessage].
func (m Handoff) MarshalJSON() ([]byte, error) { return marshalControl(m) }

// MarshalJSON implements [ControlMessage].
func (m AppendContext) MarshalJSON() ([]byte, error) { return marshalControl(m) }

func marshalControl(m ControlMessage) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(m.wire())
}

func (m AddMessage) role() Role { return cmp.Or(m.Role, RoleSystem) }

// Validate returns an error if the role is unknown or the content is empty.
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

// Validate returns an error if the content is empty.
func (m Say) Validate() error {
	if m.Content == "" {
		return errors.New("say: content is empty")
	}
	return nil
}

// Validate returns an error if the action is unknown.
func (m Control) Validate() error {
	switch m.Action {
	case MuteAssistant, UnmuteAssistant, MuteCustomer, UnmuteCustomer, SayFirstMessage:
		return nil
	}
	return errors.New("control: unknown action: use mute-assistant, unmute-assistant, mute-customer, " +
		"unmute-customer or say-first-message")
}

// Validate returns nil.
func (m EndCall) Validate() error { return nil }

// Validate returns an error if the destination is missing or ambiguous, or if a field exceeds
// Vapi's limits.
func (m Transfer) Validate() error {
	number := utf8.RuneCountInString(m.Number)
	switch {
	case (m.Number == "") == (m.SIPURI == ""):
		return errors.New("transfer: set either a number or a SIP URI")
	case m.Number != "" && (number < 3 || number > 40):
		return errors.New("transfer: the number must have 3 to 40 characters")
	case m.SIPURI != "" && !hasSIPScheme(m.SIPURI):
		return errors.New(`transfer: the SIP URI must begin with "sip:" or "sips:"`)
	case m.SIPURI != "" && m.Extension != "":
		return errors.New("transfer: a SIP URI cannot have an extension")
	case utf8.RuneCountInString(m.Extension) > 10:
		return errors.New("transfer: the extension must have at most 10 characters")
	case utf8.RuneCountInString(m.CallerID) > 40:
		return errors.New("transfer: the caller ID must have at most 40 characters")
	case len(m.TransferPlan) > 0 && !isJSONObject(m.TransferPlan):
		return errors.New("transfer: the transfer plan must be a JSON object")
	}
	return nil
}

// Validate returns an error if the destination is not a JSON object with a type.
func (m Handoff) Validate() error {
	var destination struct {
		Type string `json:"type"`
	}
	if !isJSONObject(m.Destination) || json.Unmarshal(m.Destination, &destination) != nil || destination.Type == "" {
		return errors.New("handoff: the destination must be a JSON object with a type, " +
			`like {"type":"assistant","assistantId":"..."}`)
	}
	return nil
}

// Validate returns an error if the kind is unknown, or if the content is blank or too long.
func (m AppendContext) Validate() error {
	switch m.Kind {
	case Commentary, Thinking, Instructions:
	default:
		return errors.New("append-context: unknown kind: use commentary, thinking or instructions")
	}
	if strings.TrimSpace(m.Content) == "" {
		return errors.New("append-context: content is blank")
	}
	if utf8.RuneCountInString(m.Content) > MaxContext {
		return fmt.Errorf("append-context: the content must have at most %d characters", MaxContext)
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

// ParseControlMessage reads a control message from its JSON, such as one that was stored until it
// could be posted. A missing member has the meaning of the zero value in [AddMessage] and [Say].
//
// It returns an error if Validate does, or if the message has a member that its type does not
// define. So no message is posted with a part missing.
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
			err = errors.New("transfer: the destination must be " +
				`{"type":"number","number":"..."} or {"type":"sip","sipUri":"..."}`)
		}
		m = Transfer{d.Number, d.Extension, d.SIPURI, d.CallerID, compactJSON(d.TransferPlan), w.Content}
	case "handoff":
		var w handoffWire
		err = decodeControlWire(data, &w)
		m = Handoff{compactJSON(w.Destination), w.Content}
	case "append-context":
		var w appendContextWire
		err = decodeControlWire(data, &w)
		m = AppendContext{w.Kind, w.Content}
	default:
		err = errors.New("unknown type: use add-message, say, control, end-call, transfer, handoff or append-context")
	}
	if err == nil {
		err = m.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	return m, nil
}

// decodeControlWire decodes JSON that is known to be valid. It returns an error for unknown
// members.
func decodeControlWire(data []byte, w any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(w)
}

// compactJSON returns JSON as encoding/json writes it, so that a message compares equal after it
// was stored.
func compactJSON(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return nil
	}
	// Marshalling fails for invalid JSON only, and the decoder has refused that before.
	compact, _ := json.Marshal(raw)
	return compact
}
