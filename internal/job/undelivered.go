package job

import (
	"encoding/json"
	"time"
)

// Why says why an outcome could not be delivered.
type Reason string

const (
	ReasonCallGone      Reason = "call_gone"      // the call has ended
	ReasonNoControlURL  Reason = "no_control_url" // a chat, or a call whose control is switched off
	ReasonDeadline      Reason = "deadline"       // it came too late to be told
	ReasonMisconfigured Reason = "misconfigured"  // the control URL refused us, or may not be posted to
	ReasonUnreachable   Reason = "unreachable"    // the control URL did not take it, however often it was tried
	ReasonUnspeakable   Reason = "unspeakable"    // the outcome makes no control message
	// The customer was to be called back, and it is not known whether that
	// came about.
	ReasonOutboundCallUnconfirmed Reason = "call_back_unsure"
	ReasonUnclaimed               Reason = "unclaimed" // the jobs table did not give it out, however often it was tried
)

// Announcement is what is made known of an outcome that could not be told in
// the call. It holds no control URL, as that is of no use any more.
type Undelivered struct {
	JobID          string   `json:"jobId"`
	ToolCallID     string   `json:"toolCallId"`
	Tool           string   `json:"tool"`
	CallID         string   `json:"callId"`
	OrgID          string   `json:"orgId,omitempty"`
	AssistantID    string   `json:"assistantId,omitempty"`
	CustomerNumber string   `json:"customerNumber,omitempty"` // E.164
	Reason         Reason   `json:"why"`
	Detail         string   `json:"detail,omitempty"` // for the operator
	Status         Status   `json:"status"`
	Delivery       Delivery `json:"delivery"`
	Content        string   `json:"content,omitempty"`
	// Control is the control message that could not be posted, where the
	// delivery is "control".
	Control json.RawMessage `json:"control,omitempty"`
	At      time.Time       `json:"at"`
}
