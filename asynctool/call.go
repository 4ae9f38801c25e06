package asynctool

import "encoding/json"

// Call describes the call that a tool runs for, and the state of the tool call.
type Call struct {
	ID             string // the call's id at Vapi, or the chat's
	OrgID          string // the organisation at Vapi; may be empty
	Type           string // inboundPhoneCall, outboundPhoneCall, webCall, chat, …; may be empty
	AssistantID    string // empty for a transient assistant, which has no id
	CustomerNumber string // the caller's number in E.164; empty in web calls and chats
	ToolCallID     string // Vapi's id of this tool call; models reuse it, even within a call
	JobID          string // Ringback's id of this tool call; unique
	Attempt        int    // 1 on the first attempt, and on the first one after each [ResumeIn]

	Resumes int             // how often the tool has resumed after a [ResumeIn]; 0 on the first run
	State   json.RawMessage // the state from the previous run; read it with [State]

	// Host serves the methods of Call. Nil, as in most tests, discards
	// progress and offers no completion URL.
	Host Host
}

// IdempotencyKey returns a key that is the same on every attempt of a tool call
// and differs between tool calls. Pass it to services that accept such a key. It
// is JobID, which does not reveal the call. If JobID is empty, as in a test that
// makes its own Call, the key consists of ID and ToolCallID.
func (c Call) IdempotencyKey() string {
	if c.JobID != "" {
		return c.JobID
	}
	return c.ID + "/" + c.ToolCallID
}
