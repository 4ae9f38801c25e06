package asynctool

import "encoding/json"

// Call says on whose behalf a tool runs.
type Call struct {
	ID             string // the call's id at Vapi, or the chat's
	OrgID          string // the organisation at Vapi; may be empty
	Type           string // inboundPhoneCall, outboundPhoneCall, webCall, chat, …; may be empty
	AssistantID    string // may be empty (transient assistants have none)
	CustomerNumber string // the caller's number in E.164; empty in web calls and chats
	ToolCallID     string // Vapi's id of this tool call; unique within the call only
	Attempt        int    // 1 on the first attempt, and again on the first one after each [ResumeIn]

	Resumes int             // how often the tool has gone on after a [ResumeIn]; 0 on the first run
	State   json.RawMessage // what it then left: see [State]

	// Host is asked by the methods. Nil, as in most tests, means that no
	// progress is told, and that there is no completion URL.
	Host Host
}

// IdempotencyKey is the same on every attempt of one tool call and differs
// between tool calls. Pass it on to services that take such a key.
func (c Call) IdempotencyKey() string { return c.ID + "/" + c.ToolCallID }
