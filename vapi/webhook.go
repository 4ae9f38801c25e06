package vapi

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/jsonscan"
)

// Types of server messages. Vapi expects more than an empty answer to the first three.
const (
	TypeToolCalls = "tool-calls"
	// TypeFunctionCall is the predecessor of tool-calls (older documentation of Vapi: "Function
	// calling"). Older assistants still have functions instead of tools.
	TypeFunctionCall     = "function-call"
	TypeAssistantRequest = "assistant-request"
	TypeStatusUpdate     = "status-update"
	TypeEndOfCallReport  = "end-of-call-report"
)

// Statuses of a call in a status-update. Vapi has others too (Vapi's OpenAPI:
// ServerMessageStatusUpdate.status).
const (
	StatusInProgress = "in-progress"
	StatusEnded      = "ended"
)

// ParseMessage wraps these errors with the cause. The text never holds a value of the message.
var (
	// ErrNotJSON means that the body is not exactly one JSON object.
	ErrNotJSON = errors.New("webhook is not a JSON object")
	// ErrNoMessage means that the JSON object is not one of Vapi's server messages.
	ErrNoMessage = errors.New("webhook holds no Vapi server message")
)

// ErrArguments is wrapped by [ToolCall.Err] if only the arguments of the tool call cannot be used.
var ErrArguments = errors.New("arguments cannot be used")

// Message holds the parts of a server message that Ringback needs.
type Message struct {
	// Type is the message's type. It is TypeToolCalls if the message has tool calls but no type, or
	// the type "tool_calls".
	Type string
	// Status is the call's status in a status-update, such as StatusEnded. It is "" in all other
	// messages. It is not call.status, which is stale in recorded webhooks.
	Status string
	// Timestamp is the time when Vapi sent the message, in UTC. Vapi sends milliseconds; older
	// recorded webhooks have an RFC 3339 string. Timestamp is zero if it is absent, unreadable or
	// outside the years 1970 to 9999.
	Timestamp time.Time
	// ToolCalls are in Vapi's order. Models reuse IDs, so tool calls with the same ID differ in their
	// names or arguments; of equal ones, only the first counts. A function-call has exactly one. Its
	// ID is that of the message if it has one, else it is made of the timestamp, the name and the
	// arguments.
	ToolCalls []ToolCall
	// Call is the call or the chat that the message is about. It is empty if the message names none.
	Call Call
	// ServerTimeout is how long Vapi waits for the answer to the tool calls: the shortest
	// server.timeoutSeconds in toolWithToolCallList. Of a tool that does not show it, it is
	// [DefaultServerTimeout]. It is zero if no tool shows it.
	ServerTimeout time.Duration
}

// DefaultServerTimeout is how long Vapi waits for an answer by default, and maxServerTimeout how long it
// waits at most (Vapi's OpenAPI: Server.timeoutSeconds).
const (
	DefaultServerTimeout = 20 * time.Second
	maxServerTimeout     = 300 * time.Second
)

// CallBegan reports whether the message says that the two sides can speak: a status-update with
// "in-progress". Vapi may send it more than once per call, for example after a transfer.
func (m Message) CallBegan() bool {
	return m.Type == TypeStatusUpdate && m.Status == StatusInProgress
}

// CallEnded reports whether the message says that the call is over: a status-update with "ended",
// or an end-of-call-report. Vapi sends both if the assistant's serverMessages lists both, and may
// repeat the report (Vapi's documentation).
func (m Message) CallEnded() bool {
	return m.Type == TypeStatusUpdate && m.Status == StatusEnded || m.Type == TypeEndOfCallReport
}

// ToolCall is the model's request to run a tool.
type ToolCall struct {
	// ID is the tool call's id as received, which the answer must repeat. It may be empty, and a model
	// may use it for several tool calls.
	ID string
	// Name is the function's name.
	Name string
	// Arguments is always a JSON object, with the white space of the webhook. It is "{}" if the
	// tool call has no arguments.
	Arguments json.RawMessage
	// Unusable is what came as arguments, if Err is about them. It distinguishes such tool calls. It is
	// JSON, but not an object, or too large.
	Unusable json.RawMessage
	// Async is toolWithToolCallList[].async for this tool call. It is false, Vapi's default, if the
	// message does not have it.
	Async bool
	// Err says why this tool call cannot be used. Nil means that it can. If Err is not nil, ID,
	// Name and Arguments hold what could be read. The text is fit to be the Error of a [Result] and
	// holds no argument value.
	Err error
}

// Architecture is the voice architecture of a call. It decides which control messages the call accepts.
type Architecture string

const (
	ArchitectureUnknown Architecture = ""         // the message does not show the assistant's model
	ArchitectureClassic Architecture = "classic"  // one model, between a transcriber and a voice
	ArchitectureGPTLive Architecture = "gpt-live" // a speaker and a reasoner
)

// IsGPTLive reports whether the name of an assistant's model is that of a GPT-Live model. A later model has
// another suffix (Vapi's documentation: "GPT-Live settings and compatibility").
func IsGPTLive(model string) bool { return strings.HasPrefix(strings.ToLower(model), "gpt-live") }

// Call is the call, or the chat, that a message belongs to. A field is zero if the message does not
// have it or has it with another JSON type. A string of more than 2048 bytes counts as absent.
type Call struct {
	// ID is call.id. A chat has no call, so ID is chat.id there.
	ID string
	// OrgID is the ID of the Vapi organisation.
	OrgID string
	// Type is inboundPhoneCall, outboundPhoneCall, webCall or vapi.websocketCall (Vapi's OpenAPI:
	// Call.type), or "chat" for a chat.
	Type string
	// AssistantID is the assistant of the call, else that of the message.
	AssistantID string
	// SessionID is chat.sessionId, the session in which further chats continue (Vapi's OpenAPI:
	// Chat.sessionId). It is "" in a call, and in a chat that follows a previous chat instead.
	SessionID string
	// SMS is true for a chat over text messages: the message has the organisation's phone number that
	// they go to. A chat on a web site has none.
	SMS bool
	// PhoneNumberID is Vapi's ID of the organisation's phone number that the call came in on or
	// went out from: call.phoneNumberId, else the message's phoneNumber.id.
	PhoneNumberID string
	// CustomerNumber is the caller's phone number.
	CustomerNumber string
	// ControlURL is call.monitor.controlUrl. It is a secret: everyone who has it can speak in the
	// call. It is "" in chats, and if the assistant's monitorPlan.controlEnabled is false. Vapi
	// sends it after the call has ended too, so it does not show that the call is live.
	ControlURL string
	// Architecture is that of the assistant's model, as far as the message shows it.
	Architecture Architecture
	// Began is call.startedAt, else call.createdAt, in UTC. An outbound call can be created long before it
	// begins, so its createdAt does not count.
	Began time.Time
	// MaxDuration is the longest time that the call can last by the maxDurationSeconds in the
	// message: those of the call, its assistants, its workflow and all their overrides. The largest
	// counts, as a squad hands the call from one assistant to another. It is zero if there is none,
	// and if a member of the squad does not show its own. A value beyond 31 days counts as absent.
	MaxDuration time.Duration
}

const (
	maxToolCalls     = 128
	maxToolCallItems = 1024    // items of a list that are read; those after maxToolCalls only get an error
	maxToolCallID    = 4 << 10 // models' gateways put a signature of some kilobytes into it
	maxToolCallName  = 128
	maxArguments     = 256 << 10
	maxCallText      = 2048
	maxSquadMembers  = 1024 // members of a squad that are read
	maxCallDuration  = 31 * 24 * time.Hour
	// Arguments that come as a string are nested in other JSON when they are sent on. They must
	// leave this many of the levels that encoding/json reads.
	argumentsDepthReserve = 100
)

// messageFields are read both inside and outside the wrapper "message", which some senders omit. Like the other sets of
// fields, they are made by the first message, since functions that read no message link this package, too.
var messageFields = sync.OnceValue(func() *jsonscan.Fields {
	paths := []string{
		"type", "status", "timestamp", "toolCallList", "toolCalls", "toolWithToolCallList", "functionCall",
		"call.id", "call.orgId", "call.type", "call.assistantId", "call.phoneNumberId",
		"call.customer.number", "call.monitor.controlUrl",
		"call.assistant.id", "call.startedAt", "call.createdAt",
		"chat.id", "chat.orgId", "chat.assistantId", "chat.assistant.id", "chat.sessionId",
		"phoneNumber.id", "customer.number", "assistant.id",
	}
	paths = append(paths, durationPaths...)
	paths = append(paths, modelPaths...)
	for _, path := range paths {
		paths = append(paths, "message."+path)
	}
	return jsonscan.NewFields(paths...)
})

// modelPaths are the members of a message that show the assistant's model. Those of overrides come first.
var modelPaths = []string{
	"call.assistantOverrides.model.speaker", "call.assistantOverrides.model.reasoner",
	"call.assistantOverrides.model.model", "call.assistantOverrides.model.provider",
	"assistant.model.speaker", "assistant.model.reasoner", "assistant.model.model", "assistant.model.provider",
	"call.assistant.model.speaker", "call.assistant.model.reasoner",
	"call.assistant.model.model", "call.assistant.model.provider",
}

// durationPaths are the members of a message that bound the call (Vapi's OpenAPI: Call). The first ones
// apply to every member of a squad.
var durationPaths = []string{
	"call.squad.membersOverrides.maxDurationSeconds", "call.squadOverrides.maxDurationSeconds",
	"assistant.maxDurationSeconds", "call.maxDurationSeconds", "call.assistant.maxDurationSeconds",
	"call.assistantOverrides.maxDurationSeconds", "call.workflow.maxDurationSeconds",
	"call.workflowOverrides.maxDurationSeconds",
	"call.squadId", "call.squad.members",
}

// Indexes of durationPaths.
const (
	squadOverrides = 2 // how many apply to every member
	squadID        = 8
	squadMembers   = 9
)

var (
	toolCallFields = sync.OnceValue(func() *jsonscan.Fields {
		return jsonscan.NewFields("id", "name", "arguments", "parameters",
			"function.name", "function.arguments", "function.parameters")
	})
	squadMemberFields = sync.OnceValue(func() *jsonscan.Fields {
		return jsonscan.NewFields("assistant.maxDurationSeconds", "assistantOverrides.maxDurationSeconds")
	})
	toolWithToolCallFields = sync.OnceValue(func() *jsonscan.Fields {
		return jsonscan.NewFields("async", "server.timeoutSeconds", "toolCall.id")
	})
)

// ParseMessage parses the body of a webhook. It accepts every shape that Vapi's documentation, its
// OpenAPI description and recorded webhooks have:
//
//   - A byte order mark at the start is skipped.
//   - The message is the member "message" if that is an object, else the body itself. If the message
//     has neither a call nor a chat, the call may be beside it, and what belongs to it too.
//   - The tool calls are the first non-empty list of toolCallList, toolCalls and
//     toolWithToolCallList[].toolCall. The tool call of a function-call is its functionCall.
//   - A name is function.name, else name. Arguments are the first of function.arguments,
//     function.parameters, arguments and parameters that has any. They are an object, or a string
//     that holds exactly one, also if it was encoded twice. What models and gateways send for no
//     arguments is none: null, [], or a string that is blank or holds null, [] or undefined.
//
// Of members with the same name the last one counts, as in encoding/json. Names match by exact
// case. A list or field with an unexpected JSON type counts as absent.
//
// A tool call that cannot be used does not affect the others: its Err is set. That happens if the
// name is missing, or if the ID exceeds 4 KiB, the name 128 bytes or the arguments 256 KiB. It also
// happens if the arguments are not an object, or if 128 other tool calls precede it. Items after the
// first 1024 of a list are not read: one last tool call stands for them. It has only an Err, and
// counts as async, because an error must reach the call if one of them is.
//
// The error wraps ErrNotJSON if body is not exactly one JSON object as encoding/json reads it. It
// wraps ErrNoMessage if that object has neither a type nor tool calls. The Message shares no memory
// with body.
func ParseMessage(body []byte) (Message, error) {
	return ParseDocument(jsonscan.Document{Text: body})
}

// ParseDocument is ParseMessage for a body that may have been checked when it was decoded. It is for Ringback's own
// functions.
func ParseDocument(body jsonscan.Document) (Message, error) {
	body.Text = bytes.TrimPrefix(body.Text, []byte("\uFEFF")) // such a body was not checked
	values, err := messageFields().ReadDocument(body)
	if err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	prefix := ""
	if bytes.HasPrefix(values["message"], []byte("{")) {
		prefix = "message."
	}
	beside := false   // some senders put the call beside the message
	var name [64]byte // long enough, so that no path needs memory of its own
	field := func(path string) []byte {
		if value := values[string(append(append(name[:0], prefix...), path...))]; value != nil || !beside {
			return value
		}
		return values[path]
	}
	// text returns the first of the fields that is a string, not empty and not too long.
	text := func(paths ...string) string {
		for _, path := range paths {
			if s := jsonscan.String(field(path)); s != "" && len(s) <= maxCallText {
				return s
			}
		}
		return ""
	}

	m := Message{Type: text("type"), Timestamp: parseTimestamp(field("timestamp"))}
	if m.Type == TypeFunctionCall {
		m.ToolCalls = []ToolCall{parseFunctionCall(field("functionCall"), field("timestamp"))}
	} else {
		m.ToolCalls, m.ServerTimeout = parseToolCalls(
			field("toolCallList"), field("toolCalls"), field("toolWithToolCallList"))
	}
	switch m.Type {
	case "":
		if len(m.ToolCalls) == 0 {
			return Message{}, fmt.Errorf("%w: it has neither a type nor tool calls", ErrNoMessage)
		}
		m.Type = TypeToolCalls
	case "tool_calls": // the role of a tool call in the transcript, which some senders take for the type
		m.Type = TypeToolCalls
	}
	if m.Type == TypeStatusUpdate {
		m.Status = text("status")
	}
	beside = field("call") == nil && field("chat") == nil && values["call"] != nil
	if id := text("chat.id"); id != "" && text("call.id") == "" {
		m.Call = Call{
			ID:             id,
			OrgID:          text("chat.orgId"),
			Type:           "chat",
			AssistantID:    text("chat.assistantId", "chat.assistant.id", "assistant.id"),
			SessionID:      text("chat.sessionId"),
			SMS:            bytes.HasPrefix(field("phoneNumber"), []byte("{")),
			PhoneNumberID:  text("phoneNumber.id"),
			CustomerNumber: text("customer.number"),
		}
		return m, nil
	}
	m.Call = Call{
		ID:             text("call.id"),
		OrgID:          text("call.orgId"),
		Type:           text("call.type"),
		AssistantID:    text("call.assistantId", "call.assistant.id", "assistant.id"),
		PhoneNumberID:  text("call.phoneNumberId", "phoneNumber.id"),
		CustomerNumber: text("call.customer.number", "customer.number"),
		ControlURL:     text("call.monitor.controlUrl"),
		MaxDuration:    maxDuration(field),
	}
	m.Call.Began = parseTimestamp(field("call.startedAt"))
	if m.Call.Began.IsZero() && m.Call.Type != "outboundPhoneCall" {
		m.Call.Began = parseTimestamp(field("call.createdAt"))
	}
	for _, path := range modelPaths {
		if m.Call.Architecture = architecture(path, field(path)); m.Call.Architecture != ArchitectureUnknown {
			break
		}
	}
	return m, nil
}

// architecture returns the architecture that one of modelPaths shows. A GPT-Live model has a name of its
// own, a speaker and a reasoner.
func architecture(path string, value []byte) Architecture {
	if strings.HasSuffix(path, ".speaker") || strings.HasSuffix(path, ".reasoner") {
		if bytes.HasPrefix(value, []byte("{")) {
			return ArchitectureGPTLive
		}
		return ArchitectureUnknown
	}
	switch name := jsonscan.String(value); {
	case IsGPTLive(name):
		return ArchitectureGPTLive
	case name != "":
		return ArchitectureClassic
	}
	return ArchitectureUnknown
}

// maxDuration returns [Call.MaxDuration] of a message with these fields.
func maxDuration(field func(path string) []byte) time.Duration {
	longest, overrides := time.Duration(0), time.Duration(0)
	for i, path := range durationPaths[:squadID] {
		longest = max(longest, parseSeconds(field(path)))
		if i < squadOverrides {
			overrides = longest
		}
	}
	members := jsonscan.Items(field(durationPaths[squadMembers]), maxSquadMembers)
	if len(members) == 0 && overrides == 0 && jsonscan.String(field(durationPaths[squadID])) != "" {
		return 0 // the message does not show the squad
	}
	for _, member := range members {
		shown, _ := squadMemberFields().Read(member)
		own := max(parseSeconds(shown["assistant.maxDurationSeconds"]),
			parseSeconds(shown["assistantOverrides.maxDurationSeconds"]))
		if own == 0 && overrides == 0 {
			return 0
		}
		longest = max(longest, own)
	}
	return longest
}

// parseToolCalls reads the first list that has items, and [Message.ServerTimeout]. The lists come from a
// validated body, so reading them again returns no errors.
func parseToolCalls(toolCallList, toolCalls, toolWithToolCallList []byte) ([]ToolCall, time.Duration) {
	items := jsonscan.Items(toolCallList, maxToolCallItems+1)
	if len(items) == 0 {
		items = jsonscan.Items(toolCalls, maxToolCallItems+1)
	}
	tools := jsonscan.Items(toolWithToolCallList, maxToolCallItems+1)
	var async func(position int, call ToolCall) bool
	var timeout serverTimeout
	if len(items) == 0 {
		flags := make([]bool, 0, len(tools))
		for _, tool := range tools {
			values, _ := toolWithToolCallFields().Read(tool)
			timeout.add(values)
			items = append(items, values["toolCall"])
			flags = append(flags, string(values["async"]) == "true")
		}
		async = func(position int, _ ToolCall) bool { return flags[position] }
	} else {
		async = asyncFlags(tools[:min(len(tools), maxToolCallItems)], &timeout)
	}

	var calls []ToolCall
	for i, item := range items[:min(len(items), maxToolCallItems)] {
		call := parseToolCall(item, nil)
		call.Async = async(i, call)
		calls = append(calls, call)
	}
	calls = withoutRepeats(calls)
	for i := maxToolCalls; i < len(calls); i++ {
		calls[i].Err = fmt.Errorf("more than %d tool calls in one message", maxToolCalls)
	}
	if len(items) > maxToolCallItems {
		err := fmt.Errorf("more than %d tool calls in one message; the rest were not read", maxToolCallItems)
		calls = append(calls, ToolCall{Arguments: json.RawMessage("{}"), Async: true, Err: err})
	}
	return calls, timeout.shortest()
}

// serverTimeout finds [Message.ServerTimeout].
type serverTimeout struct {
	shown   time.Duration // the shortest
	unshown bool          // a tool shows none
}

// add adds the fields of an item of toolWithToolCallList.
func (s *serverTimeout) add(values map[string][]byte) {
	one := min(parseSeconds(values["server.timeoutSeconds"]), maxServerTimeout)
	switch {
	case one == 0:
		s.unshown = true
	case s.shown == 0 || one < s.shown:
		s.shown = one
	}
}

func (s *serverTimeout) shortest() time.Duration {
	if s.unshown {
		return min(s.shown, DefaultServerTimeout)
	}
	return s.shown
}

// asyncFlags returns a function that finds [ToolCall.Async] in toolWithToolCallList. It finds it by the
// ID. If several tools have that ID, or if it is missing, it also compares the names and arguments, and
// then the positions. It also adds the tools to timeout.
func asyncFlags(tools [][]byte, timeout *serverTimeout) func(position int, call ToolCall) bool {
	type tool struct {
		id       string
		async    bool
		toolCall []byte
	}
	list := make([]tool, len(tools))
	for i, raw := range tools {
		values, _ := toolWithToolCallFields().Read(raw)
		timeout.add(values)
		list[i] = tool{jsonscan.String(values["toolCall.id"]), string(values["async"]) == "true", values["toolCall"]}
	}
	var equal map[toolCallKey]bool // made if an ID is not enough
	return func(position int, call ToolCall) bool {
		first, several := -1, false
		for i, t := range list {
			if t.id == call.ID {
				if several = first >= 0; several {
					break
				}
				first = i
			}
		}
		switch {
		case first < 0:
			return false
		case !several && call.ID != "":
			return list[first].async
		}
		if equal == nil {
			equal = make(map[toolCallKey]bool, len(list))
			for _, t := range list {
				key := keyOf(parseToolCall(t.toolCall, nil))
				if _, repeated := equal[key]; !repeated {
					equal[key] = t.async
				}
			}
		}
		if async, found := equal[keyOf(call)]; found && call.Name != "" {
			return async
		}
		if position < len(list) && list[position].id == call.ID {
			return list[position].async
		}
		return call.ID != "" && list[first].async
	}
}

// toolCallKey is the same for equal tool calls.
type toolCallKey struct{ id, name, arguments string }

func keyOf(c ToolCall) toolCallKey {
	arguments := c.Arguments
	if c.Unusable != nil {
		arguments = c.Unusable
	}
	return toolCallKey{c.ID, c.Name, string(jsonscan.Canonical(arguments))}
}

// withoutRepeats removes each tool call that equals an earlier one. A tool call without an ID equals no
// other one.
func withoutRepeats(calls []ToolCall) []ToolCall {
	if len(calls) < 2 {
		return calls
	}
	const several = -1
	first := make(map[string]int, len(calls)) // the index of the only tool call with an ID, or several
	seen := map[toolCallKey]bool{}            // the tool calls whose IDs are repeated
	kept := calls[:0]
	for _, call := range calls {
		if i, repeated := first[call.ID]; repeated {
			if i != several {
				seen[keyOf(kept[i])], first[call.ID] = true, several
			}
			key := keyOf(call)
			if seen[key] {
				continue
			}
			seen[key] = true
		} else if call.ID != "" {
			first[call.ID] = len(kept)
		}
		kept = append(kept, call)
	}
	return kept
}

// parseFunctionCall reads the only tool call of a function-call. If it has no ID, it gets one that is
// the same when the webhook is repeated, and another one for the next function-call.
func parseFunctionCall(functionCall, timestamp []byte) ToolCall {
	return parseToolCall(functionCall, func(c ToolCall) string {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %s", timestamp, c.Name, c.Arguments))
		return fmt.Sprintf("%s-%x", TypeFunctionCall, sum[:8])
	})
}

// parseToolCall reads a tool call. If it has no ID, it gets that of newID, unless newID is nil.
func parseToolCall(item []byte, newID func(ToolCall) string) ToolCall {
	call := ToolCall{Arguments: json.RawMessage("{}")}
	if !bytes.HasPrefix(item, []byte("{")) {
		call.Err = errors.New("tool call is not an object")
		return call
	}
	values, _ := toolCallFields().Read(item)
	call.ID = jsonscan.String(values["id"])
	call.Name = cmp.Or(jsonscan.String(values["function.name"]), jsonscan.String(values["name"]))
	for _, path := range []string{"function.arguments", "function.parameters", "arguments", "parameters"} {
		if values[path] == nil {
			continue
		}
		if arguments, err := parseArguments(values[path]); err != nil {
			call.Err, call.Unusable = err, bytes.Clone(values[path])
			break
		} else if arguments != nil {
			call.Arguments = arguments
			break
		}
	}
	if call.ID == "" && newID != nil {
		call.ID = newID(call)
	}
	switch {
	case len(call.ID) > maxToolCallID:
		call.Err = fmt.Errorf("tool call id is longer than %d bytes", maxToolCallID)
	case call.Name == "":
		call.Err = errors.New("tool call has no function name")
	case len(call.Name) > maxToolCallName:
		call.Err = fmt.Errorf("function name is longer than %d bytes", maxToolCallName)
	}
	return call
}

// parseArguments returns a copy of the object in raw, or of the object in the string in raw. Some
// senders encode it twice. It returns nil if raw says that there are no arguments.
func parseArguments(raw []byte) (json.RawMessage, error) {
	const space = " \t\r\n"
	for encoded := 0; raw[0] == '"' && encoded < 2; encoded++ {
		raw = []byte(strings.Trim(jsonscan.String(raw), space))
		if len(raw) == 0 || string(raw) == "undefined" {
			return nil, nil
		}
		if !jsonscan.Valid(raw, jsonscan.MaxDepth-argumentsDepthReserve) {
			return nil, fmt.Errorf("%w: they are a string that does not hold exactly one JSON object", ErrArguments)
		}
	}
	switch {
	case string(raw) == "null", raw[0] == '[' && len(bytes.Trim(raw[1:len(raw)-1], space)) == 0:
		return nil, nil
	case raw[0] != '{':
		return nil, fmt.Errorf("%w: they are not a JSON object", ErrArguments)
	case len(raw) > maxArguments:
		return nil, fmt.Errorf("%w: they are larger than %d KiB", ErrArguments, maxArguments>>10)
	}
	// This replaces invalid UTF-8 as encoding/json does. It also copies.
	return bytes.ToValidUTF8(raw, []byte("\uFFFD")), nil
}

func parseSeconds(raw []byte) time.Duration {
	var s float64
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil || s <= 0 || s > maxCallDuration.Seconds() {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}

func parseTimestamp(raw []byte) time.Time {
	const end = 253402300800000 // the year 10000, which time.Time cannot marshal as JSON
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
