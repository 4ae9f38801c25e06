// Package job is what passes between the functions: the job that the ack
// queues, the outcome that the process function queues, and the record that
// remembers how far a job has come.
package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// version is written into every message. A reader that finds another one must
// not guess: the message may promise more than the reader knows of.
const version = 1

// ErrUnreadable says that a queue message is no job, or no outcome, that this
// version understands. Trying it again does not help, so such a message
// belongs in the dead-letter queue.
var ErrUnreadable = errors.New("the message cannot be read")

// Job is one accepted tool call on its way to the process function.
type Job struct {
	Version    int             `json:"version"`
	ID         string          `json:"id"`         // see [ID]
	ToolCallID string          `json:"toolCallId"` // Vapi's, unique within the call
	Tool       string          `json:"tool"`
	Arguments  json.RawMessage `json:"arguments"` // a JSON object, as it came
	// Refusal says why the tool cannot be run, where that is so: the job is
	// then only there to tell it. Empty for all other jobs.
	Refusal    string    `json:"refusal,omitempty"`
	Call       Call      `json:"call"`
	Async      bool      `json:"async"`      // the assistant did not wait for the webhook's answer
	ReceivedAt time.Time `json:"receivedAt"` // when the webhook came in
	CallEnds   time.Time `json:"callEnds"`   // the latest moment at which the call can still be live
}

// Call is what is known of the call that a tool call came from.
type Call struct {
	ID             string `json:"id"`
	OrgID          string `json:"orgId,omitempty"`
	Type           string `json:"type,omitempty"`
	AssistantID    string `json:"assistantId,omitempty"`
	CustomerNumber string `json:"customerNumber,omitempty"`
	// ControlURL is the key to the live call: whoever knows it can speak in
	// it. It is never logged. Empty where the call cannot be reached.
	ControlURL    string `json:"controlUrl,omitempty"`
	PhoneNumberID string `json:"phoneNumberId,omitempty"` // of Vapi's side of the call
	SessionID     string `json:"sessionId,omitempty"`     // of chats, where they have one
}

// Chat says whether it is a chat: there is no control URL then.
func (c Call) Chat() bool { return c.Type == "chat" }

// ID names a job. Tool call ids are unique within a call only.
func ID(callID, toolCallID string) string { return callID + "/" + toolCallID }

// Encode is the job as a queue message.
func (j Job) Encode() (string, error) {
	j.Version = version
	return encode(j)
}

// Decode reads a queue message. Its error wraps [ErrUnreadable].
func Decode(message string) (Job, error) {
	var j Job
	if err := json.Unmarshal([]byte(message), &j); err != nil {
		return Job{}, fmt.Errorf("%w as a job: %s", ErrUnreadable, withoutValues(err))
	}
	switch {
	case j.Version != version:
		return Job{}, fmt.Errorf("%w: a job of version %d, and this program reads version %d", ErrUnreadable, j.Version, version)
	case j.ID == "" || j.ID != ID(j.Call.ID, j.ToolCallID):
		return Job{}, fmt.Errorf("%w: the job's id does not fit its call", ErrUnreadable)
	case j.Tool == "":
		return Job{}, fmt.Errorf("%w: the job names no tool", ErrUnreadable)
	case j.ReceivedAt.IsZero() || j.CallEnds.IsZero():
		return Job{}, fmt.Errorf("%w: the job has no times", ErrUnreadable)
	}
	return j, nil
}

// Status says whether a tool did what it was asked.
type Status string

const (
	StatusOK    Status = "ok"
	StatusError Status = "error"
)

// Delivery says how an outcome reaches the call.
type Delivery string

const (
	DeliveryRespond Delivery = "respond" // into the conversation, and the assistant answers
	DeliverySilent  Delivery = "silent"  // into the conversation, and the assistant stays silent
	DeliverySay     Delivery = "say"     // spoken word for word
	DeliveryControl Delivery = "control" // the control message in Result.Control, as it is
)

// Result is what a job came to, and how it is to be told.
type Result struct {
	Status   Status          `json:"status"`
	Content  string          `json:"content,omitempty"` // empty for most control messages
	Delivery Delivery        `json:"delivery"`
	Control  json.RawMessage `json:"control,omitempty"` // a control message in Vapi's JSON; only with Control
}

func (r Result) check() error {
	switch {
	case r.Status != StatusOK && r.Status != StatusError:
		return fmt.Errorf("there is no status %q", string(r.Status))
	case r.Delivery == DeliveryControl && len(r.Control) == 0:
		return errors.New("the control message is missing")
	case r.Delivery == DeliveryControl:
		return nil
	case r.Delivery != DeliveryRespond && r.Delivery != DeliverySilent && r.Delivery != DeliverySay:
		return fmt.Errorf("there is no delivery %q", string(r.Delivery))
	case r.Content == "":
		return errors.New("the content is empty")
	}
	return nil
}

// AfterCall says what becomes of a result whose call has ended.
type AfterCall string

const (
	AfterCallEvent        AfterCall = ""          // it is announced as undelivered
	AfterCallDrop         AfterCall = "drop"      // nobody is told
	AfterCallOutboundCall AfterCall = "call_back" // the customer is called, and announced where that cannot be
	AfterCallNextCall     AfterCall = "next_call" // it is kept, and told in the customer's next call
)

func (a AfterCall) valid() bool {
	return a == AfterCallEvent || a == AfterCallDrop || a == AfterCallOutboundCall || a == AfterCallNextCall
}

// Terms are what the record of a job must know of its tool, for those who end
// the job without knowing tools.
type Policy struct {
	Delivery  Delivery  `json:"delivery,omitempty"` // of a result that does not say; empty means Respond
	AfterCall AfterCall `json:"afterCall,omitempty"`
}

// Kind tells a final outcome from what may come before it.
type Kind string

const (
	KindFinal    Kind = "final"    // the one outcome that ends a job
	KindProgress Kind = "progress" // a line that says how far it is; it may get lost
)

// Outcome is a job's result on its way to the callback function.
type Outcome struct {
	Version    int       `json:"version"`
	JobID      string    `json:"jobId"`
	ToolCallID string    `json:"toolCallId"`
	Tool       string    `json:"tool"`
	Call       Call      `json:"call"`
	Kind       Kind      `json:"kind"`
	Result     Result    `json:"result"`
	Deadline   time.Time `json:"deadline"` // after it, the result is not told any more
	AfterCall  AfterCall `json:"afterCall,omitempty"`
	// Sequence orders a job's progress lines, from 1 on. 0, of a progress line,
	// is the one that says that the job takes longer.
	Sequence int `json:"sequence,omitempty"`
	// Earlier says that the result is one of an earlier call of the same
	// customer, and Call the one to tell it in.
	Earlier bool `json:"earlier,omitempty"`
	// With are further outcomes of the same call, which were ready at the same
	// time and are told together with this one. Nil means none.
	With []Outcome `json:"with,omitempty"`
}

// All are the outcomes that the message carries.
func (o Outcome) All() []Outcome {
	with := o.With
	o.With = nil
	return append([]Outcome{o}, with...)
}

// Added says whether the outcome is a message that is added to the
// conversation, and so can be told together with others.
func (o Outcome) AddsMessage() bool {
	return o.Kind == KindFinal && (o.Result.Delivery == DeliveryRespond || o.Result.Delivery == DeliverySilent)
}

// Outcome is the message that tells this job's result, as its record has it.
func (j Job) Outcome(r Record) Outcome {
	return Outcome{
		Version: version, JobID: j.ID, ToolCallID: j.ToolCallID, Tool: j.Tool, Call: j.Call,
		Kind: KindFinal, Result: *r.Result, Deadline: r.Deadline, AfterCall: r.Policy.AfterCall,
	}
}

// Line is the message that tells how far this job is: word for word, or
// silently.
func (j Job) ProgressOutcome(sequence int, text string, silent bool, deadline time.Time) Outcome {
	r := Result{Status: StatusOK, Delivery: DeliverySay, Content: text}
	if silent {
		r.Delivery = DeliverySilent
	}
	return Outcome{
		Version: version, JobID: j.ID, ToolCallID: j.ToolCallID, Tool: j.Tool, Call: j.Call,
		Kind: KindProgress, Sequence: sequence, Result: r, Deadline: deadline,
	}
}

// versionWith is the version of a message with several outcomes. A reader of
// single ones would lose all but one.
const versionWith = 2

// Encode is the outcome as a queue message.
func (o Outcome) Encode() (string, error) {
	o.Version = version
	if len(o.With) > 0 {
		o.Version = versionWith
	}
	return encode(o)
}

// DecodeOutcome reads a queue message. Its error wraps [ErrUnreadable].
func DecodeOutcome(message string) (Outcome, error) {
	var o Outcome
	if err := json.Unmarshal([]byte(message), &o); err != nil {
		return Outcome{}, fmt.Errorf("%w as an outcome: %s", ErrUnreadable, withoutValues(err))
	}
	if o.Version != version && (o.Version != versionWith || len(o.With) == 0) || o.Version == version && len(o.With) > 0 {
		return Outcome{}, fmt.Errorf("%w: an outcome of version %d with %d others, and this program reads versions %d and %d", ErrUnreadable, o.Version, len(o.With), version, versionWith)
	}
	for _, one := range o.All() {
		if len(one.With) > 0 || one.Call.ID != o.Call.ID {
			return Outcome{}, fmt.Errorf("%w: outcomes that are not of one call", ErrUnreadable)
		}
		if err := one.check(); err != nil {
			return Outcome{}, err
		}
	}
	return o, nil
}

func (o Outcome) check() error {
	switch {
	case o.Kind != KindFinal && o.Kind != KindProgress:
		return fmt.Errorf("%w: an outcome of kind %q", ErrUnreadable, string(o.Kind))
	case o.JobID == "" || !o.Earlier && o.JobID != ID(o.Call.ID, o.ToolCallID):
		return fmt.Errorf("%w: the outcome's job id does not fit its call", ErrUnreadable)
	case !o.AfterCall.valid():
		return fmt.Errorf("%w: the outcome is to be treated as %q after its call", ErrUnreadable, string(o.AfterCall))
	case o.Sequence < 0 || o.Kind == KindProgress && o.Result.Delivery != DeliverySay && o.Result.Delivery != DeliverySilent:
		return fmt.Errorf("%w: the progress line cannot be told", ErrUnreadable)
	case o.Deadline.IsZero():
		return fmt.Errorf("%w: the outcome has no deadline", ErrUnreadable)
	}
	if err := o.Result.check(); err != nil {
		return fmt.Errorf("%w: the outcome's result: %w", ErrUnreadable, err)
	}
	return nil
}

// withoutValues says what is wrong with a message, which is logged, without
// quoting it: it may hold a telephone number or a control URL.
func withoutValues(err error) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("it is not JSON from byte %d on", syntax.Offset)
	}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("its member %q has another type than %s", kind.Field, kind.Type)
	}
	return fmt.Sprintf("a member cannot be read (%T)", err)
}

// noncharacters escapes the two characters that JSON takes as they are and
// SQS refuses (Amazon SQS API reference, SendMessage). A caller's words may
// hold them. Outside of strings JSON has none.
var noncharacters = strings.NewReplacer("\ufffe", `\ufffe`, "\uffff", `\uffff`)

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode a queue message: %w", err)
	}
	return noncharacters.Replace(string(b)), nil
}
