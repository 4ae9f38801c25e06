package job

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/ringback/ringback/internal/policy"
)

// Reason says why an outcome could not be delivered.
type Reason string

const (
	ReasonCallGone      Reason = "call_gone"      // the call has ended
	ReasonNoControlURL  Reason = "no_control_url" // a chat, or a call whose control is switched off
	ReasonDeadline      Reason = "deadline"       // it was too late to deliver it
	ReasonMisconfigured Reason = "misconfigured"  // the control URL refuses all posts, or must not be posted to
	ReasonRefused       Reason = "refused"        // the call does not accept this message; the call may go on
	ReasonUnreachable   Reason = "unreachable"    // the control URL did not accept it in any try
	ReasonUnspeakable   Reason = "unspeakable"    // there is no control message for the outcome
	ReasonUnconfirmed   Reason = "unconfirmed"    // Vapi does not know whether the call got it
	ReasonUnsupported   Reason = "unsupported"    // its action does not exist in a GPT-Live call
	// The outbound call may or may not have been made.
	ReasonOutboundCallUnconfirmed Reason = "call_back_unsure"
	ReasonUnclaimed               Reason = "unclaimed"    // the jobs table did not answer in any try
	ReasonNoNextCall              Reason = "no_next_call" // its customer did not call: see [ParkedTime]
	ReasonForgotten               Reason = "forgotten"    // an operator deleted it: see [ForgetCustomer]
)

// reasons are all of them.
var reasons = []Reason{
	ReasonCallGone, ReasonNoControlURL, ReasonDeadline, ReasonMisconfigured, ReasonRefused, ReasonUnreachable,
	ReasonUnspeakable, ReasonUnconfirmed, ReasonUnsupported, ReasonOutboundCallUnconfirmed, ReasonUnclaimed,
	ReasonNoNextCall, ReasonForgotten,
}

// Reasons returns all reasons of this version.
func Reasons() []Reason { return slices.Clone(reasons) }

// Undelivered is the content of the event for an outcome that could not be delivered
// in its call. It has no control URL, as that is of no further use.
type Undelivered struct {
	JobID          string          `json:"jobId"`
	ToolCallID     string          `json:"toolCallId"`
	Tool           string          `json:"tool"`
	CallID         string          `json:"callId"`
	OrgID          string          `json:"orgId,omitempty"`
	AssistantID    string          `json:"assistantId,omitempty"`
	CustomerNumber string          `json:"customerNumber,omitempty"` // E.164
	Reason         Reason          `json:"why"`
	Detail         string          `json:"detail,omitempty"` // for the operator
	Status         Status          `json:"status"`
	Delivery       policy.Delivery `json:"delivery"`
	Content        string          `json:"content,omitempty"`
	// Control is the control message that could not be posted, if the delivery is
	// "control".
	Control json.RawMessage `json:"control,omitempty"`
	At      time.Time       `json:"at"`
}
