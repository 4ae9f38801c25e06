package vapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/jsonscan"
)

// The types of the messages that Ringback knows. Vapi expects more than an
// empty answer to the first two.
const (
	TypeToolCalls        = "tool-calls"
	TypeAssistantRequest = "assistant-request"
	TypeStatusUpdate     = "status-update"
	TypeEndOfCallReport  = "end-of-call-report"
)

// Statuses of a call in a status-update (Vapi's OpenAPI:
// ServerMessageStatusUpdate.status, which has others, too).
const (
	StatusInProgress = "in-progress"
	StatusEnded      = "ended"
)

// Errors of ParseMessage. They come wrapped with what is wrong, and never hold
// a value of the message.
var (
	// ErrNotJSON is a body that is not one JSON object.
	ErrNotJSON = errors.New("webhook is not a JSON object")
	// ErrNoMessage is a JSON object that is no server message of Vapi's.
	ErrNoMessage = errors.New("webhook holds no Vapi server message")
)

// ErrArguments is wrapped by the Err of a tool call of which only the arguments
// cannot be used.
var ErrArguments = errors.New("arguments cannot be used")

// Message is what Ringback takes from a server message. Everything else in it
// is skipped.
type Message struct {
	// Type is the message's type; "tool-calls" where the message has tool
	// calls but no type.
	Type string
	// Status is what a status-update says of the call, such as StatusEnded; ""
	// in every other message. It is not call.status, which recorded webhooks
	// show to be stale.
	Status string
	// Timestamp is when Vapi sent the message, in UTC: milliseconds, or an
	// RFC 3339 string in older traffic. Zero where it is absent, unreadable or
	// outside the years 1970 to 9999.
	Timestamp time.Time
	// ToolCalls are in Vapi's order, each id once: of calls with the same id
	// the first one counts.
	ToolCalls []ToolCall
	Call      Call
}

// CallBegan reports whether the message says that the two sides can speak: a
// status-update with "in-progress". Vapi may send it again, after a transfer
// for one.
func (m Message) CallBegan() bool {
	return m.Type == TypeStatusUpdate && m.Status == StatusInProgress
}

// CallEnded reports whether the message says that the call is over: a
// status-update with "ended", or an end-of-call-report. Both come for a call
// whose assistant asks for both.
func (m Message) CallEnded() bool {
	return m.Type == TypeStatusUpdate && m.Status == StatusEnded || m.Type == TypeEndOfCallReport
}

// ToolCall is one use of a tool that the model asks for.
type ToolCall struct {
	// ID names the tool call within its call; it is not globally unique.
	ID string
	// Name is the function's name.
	Name string
	// Arguments is always a JSON object, with the white space that it came
	// with; "{}" where none were given.
	Arguments json.RawMessage
	// Async is toolWithToolCallList[].async for this id. False, which is
	// Vapi's default, where the message does not say.
	Async bool
	// Err is why this tool call cannot be used; nil means that it can. ID, Name
	// and Arguments are then what could be read of them. Its text is fit to
	// be the error of a [Result] and holds no argument value.
	Err error
}

// Call is the call, or the chat, that a message belongs to. A field is zero
// where the message does not say, or says it in another JSON type; so is a
// string of more than 2048 bytes.
type Call struct {
	// ID is call.id; in chats, which have no call, chat.id.
	ID string
	// OrgID is the Vapi organisation's id.
	OrgID string
	// Type is inboundPhoneCall, outboundPhoneCall, webCall or
	// vapi.websocketCall (Vapi's OpenAPI: Call.type); "chat" for chats.
	Type string
	// AssistantID is that of the call, else that of the message's assistant.
	AssistantID string
	// SessionID is chat.sessionId, the session that further chats go on in
	// (Vapi's OpenAPI: Chat.sessionId). "" in calls, and in chats that follow a
	// previous chat instead.
	SessionID string
	// PhoneNumberID is Vapi's id of the organisation's own number that the call
	// came in on or went out from: call.phoneNumberId, else that of the message's
	// phoneNumber.
	PhoneNumberID string
	// CustomerNumber is the caller's phone number.
	CustomerNumber string
	// ControlURL is call.monitor.controlUrl, the key to the call: whoever has
	// it can speak in it. "" in chats, or where control is switched off.
	ControlURL string
	// MaxDuration is the assistant's maxDurationSeconds, after which Vapi ends
	// the call. Zero, too, where it is not between 0 and 31 days.
	MaxDuration time.Duration
}

const (
	maxToolCalls     = 128
	maxToolCallItems = 1024 // items of a list that are looked at; those from maxToolCalls on only to be answered
	maxToolCallID    = 256
	maxToolCallName  = 128
	maxArguments     = 256 << 10
	maxCallText      = 2048
	maxCallDuration  = 31 * 24 * time.Hour
	// Arguments that come as a string are nested anew when they are sent on;
	// this many levels of what encoding/json reads are kept free for that.
	argumentsDepthReserve = 100
)

// Members of a message, with and without the wrapper that some senders omit.
var webhookFields = func() *jsonscan.Fields {
	paths := []string{
		"type", "status", "timestamp", "toolCallList", "toolCalls", "toolWithToolCallList",
		"call.id", "call.orgId", "call.type", "call.assistantId", "call.phoneNumberId", "call.customer.number", "call.monitor.controlUrl",
		"call.assistant.id", "call.assistant.maxDurationSeconds",
		"chat.id", "chat.orgId", "chat.assistantId", "chat.assistant.id", "chat.sessionId",
		"phoneNumber.id", "customer.number", "assistant.id", "assistant.maxDurationSeconds",
	}
	for _, path := range paths {
		paths = append(paths, "message."+path)
	}
	return jsonscan.NewFields(paths...)
}()

var (
	toolCallFields = jsonscan.NewFields("id", "name", "arguments", "parameters",
		"function.name", "function.arguments", "function.parameters")
	toolWithToolCallFields = jsonscan.NewFields("async", "toolCall.id")
)

// ParseMessage reads the body of a webhook. It accepts the shapes in which
// Vapi's documentation, its OpenAPI description and recorded webhooks show it:
//
//   - The message is the member "message" where that is an object, else the
//     body itself.
//   - The tool calls are the first of toolCallList, toolCalls and
//     toolWithToolCallList[].toolCall that has any.
//   - A name is function.name, else name. Arguments are the first of
//     function.arguments, function.parameters, arguments and parameters that
//     is there and is neither null nor "": an object, or a string that holds
//     exactly one.
//
// Of members with the same name the last one counts, as in encoding/json; names
// are matched by exact case. A list or field of another JSON type than expected
// counts as absent.
//
// A tool call that cannot be used does not spoil the others: it is there with
// its Err set. That is so for a missing id or name, an id over 256 bytes, a
// name over 128 bytes, arguments that are no object or are over 256 KiB, and
// those after the 128th of a message. Items of a list after the 1024th are
// left out.
//
// The error wraps ErrNotJSON where the body is anything but one JSON object as
// encoding/json reads it, and ErrNoMessage where that object has neither a type
// nor tool calls. The Message shares no memory with body.
func ParseMessage(body []byte) (Message, error) {
	values, err := webhookFields.Read(body)
	if err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	prefix := ""
	if bytes.HasPrefix(values["message"], []byte("{")) {
		prefix = "message."
	}
	field := func(path string) []byte { return values[prefix+path] }
	text := func(path string) string {
		if s := jsonscan.String(field(path)); len(s) <= maxCallText {
			return s
		}
		return ""
	}

	m := Message{Type: text("type"), Timestamp: webhookTime(field("timestamp"))}
	m.ToolCalls = webhookToolCalls(field("toolCallList"), field("toolCalls"), field("toolWithToolCallList"))
	if m.Type == "" {
		if len(m.ToolCalls) == 0 {
			return Message{}, fmt.Errorf("%w: it has neither a type nor tool calls", ErrNoMessage)
		}
		m.Type = TypeToolCalls
	}
	if m.Type == TypeStatusUpdate {
		m.Status = text("status")
	}
	m.Call = Call{
		ID:             text("call.id"),
		OrgID:          text("call.orgId"),
		Type:           text("call.type"),
		AssistantID:    cmp.Or(text("call.assistantId"), text("call.assistant.id"), text("assistant.id")),
		PhoneNumberID:  cmp.Or(text("call.phoneNumberId"), text("phoneNumber.id")),
		CustomerNumber: cmp.Or(text("call.customer.number"), text("customer.number")),
		ControlURL:     text("call.monitor.controlUrl"),
		MaxDuration: cmp.Or(webhookSeconds(field("assistant.maxDurationSeconds")),
			webhookSeconds(field("call.assistant.maxDurationSeconds"))),
	}
	if m.Call.ID == "" && text("chat.id") != "" {
		m.Call = Call{
			ID:             text("chat.id"),
			OrgID:          text("chat.orgId"),
			Type:           "chat",
			AssistantID:    cmp.Or(text("chat.assistantId"), text("chat.assistant.id"), text("assistant.id")),
			SessionID:      text("chat.sessionId"),
			PhoneNumberID:  text("phoneNumber.id"),
			CustomerNumber: text("customer.number"),
		}
	}
	return m, nil
}

// webhookToolCalls reads the first list that has items. The lists are parts of
// a body that was checked, so that they can be read again without an error.
func webhookToolCalls(toolCallList, toolCalls, toolWithToolCallList []byte) []ToolCall {
	items := jsonscan.Items(toolCallList, maxToolCallItems)
	if len(items) == 0 {
		items = jsonscan.Items(toolCalls, maxToolCallItems)
	}
	fromTools := len(items) == 0
	async := map[string]bool{}
	for _, tool := range jsonscan.Items(toolWithToolCallList, maxToolCallItems) {
		values, _ := toolWithToolCallFields.Read(tool)
		if id := jsonscan.String(values["toolCall.id"]); id != "" {
			if _, repeated := async[id]; !repeated {
				async[id] = string(values["async"]) == "true"
			}
		}
		if fromTools {
			items = append(items, values["toolCall"])
		}
	}

	var calls []ToolCall
	seen := map[string]bool{}
	for _, item := range items {
		call := webhookToolCall(item)
		if call.ID != "" {
			if seen[call.ID] {
				continue
			}
			seen[call.ID] = true
		}
		if len(calls) >= maxToolCalls {
			call.Err = fmt.Errorf("more than %d tool calls in one message", maxToolCalls)
		}
		call.Async = async[call.ID]
		calls = append(calls, call)
	}
	return calls
}

func webhookToolCall(item []byte) ToolCall {
	call := ToolCall{Arguments: json.RawMessage("{}")}
	if !bytes.HasPrefix(item, []byte("{")) {
		call.Err = errors.New("tool call is not an object")
		return call
	}
	values, _ := toolCallFields.Read(item)
	call.ID = jsonscan.String(values["id"])
	call.Name = cmp.Or(jsonscan.String(values["function.name"]), jsonscan.String(values["name"]))
	for _, path := range []string{"function.arguments", "function.parameters", "arguments", "parameters"} {
		if given := string(values[path]); given != "" && given != "null" && given != `""` {
			call.Arguments, call.Err = webhookArguments(values[path])
			break
		}
	}
	switch {
	case call.ID == "":
		call.Err = errors.New("tool call has no id")
	case len(call.ID) > maxToolCallID:
		call.Err = fmt.Errorf("tool call id is longer than %d bytes", maxToolCallID)
	case call.Name == "":
		call.Err = errors.New("tool call has no function name")
	case len(call.Name) > maxToolCallName:
		call.Err = fmt.Errorf("function name is longer than %d bytes", maxToolCallName)
	}
	return call
}

// webhookArguments returns a copy of an object, or the object that a string
// holds; "{}" with an error.
func webhookArguments(raw []byte) (json.RawMessage, error) {
	none := json.RawMessage("{}")
	if raw[0] == '"' {
		raw = []byte(strings.Trim(jsonscan.String(raw), " \t\r\n"))
		if !jsonscan.Valid(raw, jsonscan.MaxDepth-argumentsDepthReserve) {
			return none, fmt.Errorf("%w: they are a string that does not hold exactly one JSON object", ErrArguments)
		}
	}
	if raw[0] != '{' {
		return none, fmt.Errorf("%w: they are not a JSON object", ErrArguments)
	}
	if len(raw) > maxArguments {
		return none, fmt.Errorf("%w: they are larger than %d KiB", ErrArguments, maxArguments>>10)
	}
	// What encoding/json does to strings that are not UTF-8; it copies, too.
	return bytes.ToValidUTF8(raw, []byte("\uFFFD")), nil
}

func webhookSeconds(raw []byte) time.Duration {
	var s float64
	if json.Unmarshal(raw, &s) != nil || s <= 0 || s > maxCallDuration.Seconds() {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}

func webhookTime(raw []byte) time.Time {
	// Outside of this a time.Time cannot be written as JSON again.
	const end = 253402300800000 // the year 10000
	var ms float64
	if json.Unmarshal(raw, &ms) == nil {
		if ms < 0 || ms >= end || string(raw) == "null" {
			return time.Time{}
		}
		return time.UnixMilli(int64(ms)).UTC()
	}
	t, err := time.Parse(time.RFC3339, jsonscan.String(raw))
	if err != nil || t.UnixMilli() < 0 || t.UnixMilli() >= end {
		return time.Time{}
	}
	return t.UTC()
}
