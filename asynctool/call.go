package asynctool

import "encoding/json"

// Call describes the call that a tool runs for, and the state of the tool call.
//
// A tool that asks another service must not pass on all of it. JobID is for that: it names
// the tool call, and reveals nothing. The comment of each field says if it is safe to pass on.
type Call struct {
	// ID is the call's id at Vapi, or the chat's. Never pass it on, and leave it out of
	// errors, which are logged: it is the only secret part of the call's control URL. If
	// the assistant has no control authentication, everyone who knows it can speak in the
	// call, transfer it and end it.
	ID string
	// OrgID is the organisation at Vapi. It may be empty. It is no secret, but no other
	// service needs it.
	OrgID string
	// Type is inboundPhoneCall, outboundPhoneCall, webCall, chat, …, and may be empty. It
	// is safe to pass on.
	Type string
	// AssistantID is empty for a transient assistant, which has no id. It is no secret,
	// but no other service needs it.
	AssistantID string
	// CustomerNumber is the caller's number in E.164. It is empty in web calls and chats.
	// It is personal data: pass it on only to a service that must know the caller.
	CustomerNumber string
	// ToolCallID is Vapi's id of this tool call. Models and gateways make it, reuse it
	// even within a call, and may put anything into it. Pass JobID on instead.
	ToolCallID string
	// JobID is Ringback's id of this tool call, and unique. It is safe to pass on: it is a
	// hash that reveals neither the call nor the arguments, and opens nothing. The
	// exception is a job that an earlier version accepted before an update. Its JobID
	// contains ID until it ends.
	JobID string
	// Attempt is 1 on the first attempt, and on the first one after each [ResumeIn]. It is
	// safe to pass on.
	Attempt int

	// Resumes is how often the tool has resumed after a [ResumeIn], 0 on the first run. It
	// is safe to pass on.
	Resumes int
	// State is the state from the previous run. Read it with [State]. It contains what the
	// tool has put into it.
	State json.RawMessage

	// Host serves the methods of Call. Nil, as in most tests, discards
	// progress and offers no completion URL.
	Host Host
}

// IdempotencyKey returns a key that is the same on every attempt of a tool call
// and differs between tool calls. It is safe to pass on, to services that accept such
// a key: it is JobID, which does not reveal the call. If JobID is empty, as in a test
// that makes its own Call, the key consists of ID and ToolCallID.
func (c Call) IdempotencyKey() string {
	if c.JobID != "" {
		return c.JobID
	}
	return c.ID + "/" + c.ToolCallID
}
