// Package job defines what the functions share. That is the job that the ack
// function queues, the outcome that the process function queues, and the job's
// record in the jobs table with the rules that change it.
package job

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/vapi"
)

// version is written into every message. A reader that finds another version must
// not guess: the message may promise more than the reader knows of.
const version = 1

// ErrUnreadable means that this version cannot read a queue message or a record. A
// newer version may have written it, while it is being deployed or before it was
// rolled back. The function that receives it must leave it alone, and try again for
// longer than a deployment takes. What is still unreadable then belongs in the
// dead-letter queue.
var ErrUnreadable = errors.New("unreadable message or record")

// Job is one accepted tool call on its way to the process function.
type Job struct {
	Version    int             `json:"version"`
	ID         string          `json:"id"`         // see [ID]
	ToolCallID string          `json:"toolCallId"` // Vapi's, for the assistant; it need not be unique
	Tool       string          `json:"tool"`
	Arguments  json.RawMessage `json:"arguments"` // a JSON object, as received
	// Refusal says why the tool cannot be run. The job then only delivers that.
	// Empty for all other jobs.
	Refusal    string    `json:"refusal,omitempty"`
	Call       Call      `json:"call"`
	Async      bool      `json:"async,omitempty"`     // the assistant did not wait for the answer to the webhook
	ReceivedAt time.Time `json:"receivedAt,omitzero"` // when the webhook was received
	CallEnds   time.Time `json:"callEnds,omitzero"`   // the latest time at which the call can still be live
	CallBegan  time.Time `json:"callBegan,omitzero"`  // zero if the webhook does not show it; a stored job has none
	// AnswerUntil is until when the result may be the answer to the webhook. Its outcome
	// is not delivered before. Zero means that the webhook is answered without the result.
	AnswerUntil time.Time `json:"answerUntil,omitzero"`
	// Traceparent is the span that sent the job: see [TraceID]. A stored job has none, as its record has it. Earlier
	// versions neither write nor read it.
	Traceparent string `json:"traceparent,omitempty"`
	// KeepResult means that the result of a replay is not to be delivered: see [Job.WithoutCustomer]. It has no effect
	// on any other job. Earlier versions do not read it, and send an undelivered event.
	KeepResult bool `json:"keepResult,omitempty"`

	Unknown Unknown `json:"-"`
}

// Call describes the call that a tool call belongs to.
type Call struct {
	ID             string `json:"id"`
	OrgID          string `json:"orgId,omitempty"`
	Type           string `json:"type,omitempty"`
	AssistantID    string `json:"assistantId,omitempty"`
	CustomerNumber string `json:"customerNumber,omitempty"`
	// ControlURL is the key to the live call: it lets its owner speak in the call.
	// It is never logged. Empty if the call cannot be reached.
	ControlURL    string `json:"controlUrl,omitempty"`
	PhoneNumberID string `json:"phoneNumberId,omitempty"` // of Vapi's side of the call
	SessionID     string `json:"sessionId,omitempty"`     // of a chat, if it has one
	SMS           bool   `json:"sms,omitempty"`           // whether it is a chat over text messages
	// Architecture is the call's, as far as the webhook showed it.
	Architecture vapi.Architecture `json:"architecture,omitempty"`

	Unknown Unknown `json:"-"`
}

// Chat reports whether it is a chat, which has no control URL.
func (c Call) Chat() bool { return c.Type == "chat" }

// Telephone reports whether it is a telephone call, and false if its type is unknown.
func (c Call) Telephone() bool { return c.Type == "inboundPhoneCall" || c.Type == "outboundPhoneCall" }

// Encode returns the job as a queue message.
func (j Job) Encode() (string, error) {
	j.Version = version
	return encode(j)
}

// Decode reads a job from a queue message. Its error wraps [ErrUnreadable].
func Decode(message string) (Job, error) {
	var j Job
	if err := unmarshal([]byte(message), &j); err != nil {
		return Job{}, fmt.Errorf("%w: decode a job: %s", ErrUnreadable, withoutValues(err))
	}
	switch {
	case j.Version != version:
		return Job{}, fmt.Errorf("%w: a job of version %d; this program reads version %d", ErrUnreadable, j.Version, version)
	case !fits(j.ID, j.Call.ID, j.ToolCallID):
		return Job{}, fmt.Errorf("%w: the job's id does not match its call", ErrUnreadable)
	case j.Tool == "":
		return Job{}, fmt.Errorf("%w: the job names no tool", ErrUnreadable)
	case j.ReceivedAt.IsZero() || j.CallEnds.IsZero():
		return Job{}, fmt.Errorf("%w: the job lacks receivedAt or callEnds", ErrUnreadable)
	}
	return j, nil
}

// Status reports whether a tool did what it was asked.
type Status string

const (
	StatusOK    Status = "ok"
	StatusError Status = "error"
)

// Result is the result of a job, and how to deliver it.
type Result struct {
	Status   Status          `json:"status"`
	Content  string          `json:"content,omitempty"` // empty for most control messages
	Delivery policy.Delivery `json:"delivery"`
	Control  json.RawMessage `json:"control,omitempty"` // a control message in Vapi's JSON; only with policy.DeliveryControl
	// Own means that the content is the tool's own text, which may be spoken word for word. It is false
	// if the content comes from an external system, or if an earlier version stored or sent it.
	Own bool `json:"own,omitempty"`

	Unknown Unknown `json:"-"`
}

// Answers reports whether the result can be the answer to the webhook. The assistant reads
// an answer and continues in its own words. So an action cannot be one, and neither can a
// text that is spoken word for word.
func (r Result) Answers() bool {
	return r.Delivery == policy.DeliveryRespond || r.Delivery == policy.DeliverySilent
}

func (r Result) check() error {
	switch {
	case r.Status != StatusOK && r.Status != StatusError:
		return fmt.Errorf("unknown status %q", string(r.Status))
	case r.Delivery == policy.DeliveryControl && len(r.Control) == 0:
		return errors.New("no control message")
	case r.Delivery == policy.DeliveryControl:
		return nil
	case r.Delivery != policy.DeliveryRespond && r.Delivery != policy.DeliverySilent && r.Delivery != policy.DeliverySay:
		return fmt.Errorf("unknown delivery %q", string(r.Delivery))
	case r.Content == "":
		return errors.New("empty content")
	}
	return nil
}

var afterCalls = []policy.AfterCall{
	policy.AfterCallEvent, policy.AfterCallDrop, policy.AfterCallOutboundCall, policy.AfterCallNextCall,
}

// Policy is the part of a tool that a job's record contains. The functions that end
// the job without knowing the tools need it.
type Policy struct {
	Delivery  policy.Delivery  `json:"delivery,omitempty"` // of a result that has none; empty means policy.DeliveryRespond
	AfterCall policy.AfterCall `json:"afterCall,omitempty"`
	// CallBound means that the tool has no deadline of its own: the job's deadline is the end of its
	// call. What follows after the call is then bounded by [AfterCallTime].
	CallBound bool `json:"callBound,omitempty"`
	// Cancellable lets the assistant cancel the job.
	Cancellable bool `json:"cancellable,omitempty"`
	// ExternalProgress is how a progress line of an external system is delivered: policy.DeliveryRespond
	// or policy.DeliverySilent. Empty means policy.DeliverySilent.
	ExternalProgress policy.Delivery `json:"externalProgress,omitempty"`

	Unknown Unknown `json:"-"`
}

// AfterCallTime is how long after the end of its call the result of a tool without a deadline may be
// handed to an outbound call, or be parked.
const AfterCallTime = time.Hour

// FollowsUp reports whether the result is of use to the customer after the call has ended.
func (p Policy) FollowsUp() bool {
	return p.AfterCall == policy.AfterCallOutboundCall || p.AfterCall == policy.AfterCallNextCall
}

// Kind distinguishes the final outcome from the progress lines before it.
type Kind string

const (
	KindFinal    Kind = "final"    // the one outcome that ends a job
	KindProgress Kind = "progress" // says how far the job is; it may get lost
	// KindMark is a final outcome that has ended. Only its record is left to mark. A reader that does
	// not know this kind must not read the message, as it would deliver the outcome again.
	KindMark Kind = "mark"
)

// Outcome is a job's result on its way to the callback function.
type Outcome struct {
	Version    int              `json:"version"`
	JobID      string           `json:"jobId"`
	ToolCallID string           `json:"toolCallId"`
	Tool       string           `json:"tool"`
	Call       Call             `json:"call"`
	Kind       Kind             `json:"kind"`
	Result     Result           `json:"result"`
	Deadline   time.Time        `json:"deadline"` // after it, the result is no longer delivered
	AfterCall  policy.AfterCall `json:"afterCall,omitempty"`
	// Sequence counts a job's progress lines, from 1 on. A progress line with 0 is
	// the hold message.
	Sequence int `json:"sequence,omitempty"`
	// Kept means that the tool waits for its progress line, which must not get lost: see [ProgressLine].
	// Earlier versions deliver it at most once, like the others.
	Kept bool `json:"kept,omitempty"`
	// Respond makes the assistant answer a progress line of an external system. Its delivery is
	// policy.DeliverySilent all the same, because earlier versions read no other one that is not spoken.
	Respond bool `json:"respond,omitempty"`
	// Earlier means that the result belongs to an earlier call of the same
	// customer. Call is the one to deliver it in.
	Earlier bool `json:"earlier,omitempty"`
	// NoNextCall means that the result waited for its customer's next call in vain. It
	// becomes an undelivered event.
	NoNextCall bool `json:"noNextCall,omitempty"`
	// Asked is what the model asked: its own arguments, bounded. It is empty if they are unknown, or if
	// the tool hides them.
	Asked string `json:"asked,omitempty"`
	// Unstored means that the result could not be stored in the job's record. The
	// callback function stores it: see [StoreResult]. Nil means that it is stored.
	Unstored *Unstored `json:"unstored,omitempty"`
	// State is how an outcome of [KindMark] ended: [StateDelivered], [StateUndelivered] or [StateReplayed]. Reason is
	// why, for the operator. Both are empty for other kinds.
	State  State  `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Redeliveries is that of the record when the outcome was sent: see [SettleOutcome].
	Redeliveries int `json:"redeliveries,omitempty"`
	// Traceparent is the span that sent the outcome, as in [Job].
	Traceparent string `json:"traceparent,omitempty"`
	// Saved is the job's record when the outcome was sent: see [Job.SavedOutcome]. Nil means that it must be read.
	Saved *Saved `json:"saved,omitempty"`
	// With are further outcomes of the same call. Earlier versions sent outcomes together
	// that were ready at the same time. This version only reads such messages. Nil means none.
	With []Outcome `json:"with,omitempty"`
}

// Saved is a job's record in an outcome.
type Saved struct {
	Revision int64  `json:"revision"`
	Record   string `json:"record"` // as [EncodeRecord] returned it: as a string, it keeps the escapes of unknown members
}

// maxSaved is the longest record in an outcome, in bytes. The outcome already has the result, which can be long.
const maxSaved = 4 << 10

// Record returns the record in the outcome, and false if there is none that this version can use. Others may have
// changed the job's record since.
func (o Outcome) Record() (r Record, ok bool) {
	if o.Saved == nil || DecodeRecord([]byte(o.Saved.Record), &r) != nil || r.ID != o.JobID {
		return Record{}, false
	}
	return r.WithRevision(o.Saved.Revision), true
}

// Unstored is what the record of an outcome with an unstored result still lacks.
type Unstored struct {
	AttemptID        // the attempt that has the result
	Exhausted bool   `json:"exhausted,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// All returns the outcomes that the message carries.
func (o Outcome) All() []Outcome {
	with := o.With
	o.With = nil
	return append([]Outcome{o}, with...)
}

// AddsMessage reports whether the outcome adds a message to the conversation. Such
// outcomes can be delivered together.
func (o Outcome) AddsMessage() bool {
	return o.Kind == KindFinal &&
		(o.Result.Delivery == policy.DeliveryRespond || o.Result.Delivery == policy.DeliverySilent)
}

// Mark returns the message that marks an outcome which has ended.
func (o Outcome) Mark(state State, reason string) Outcome {
	o.Kind, o.State, o.Reason, o.Unstored, o.Saved = KindMark, state, cut(reason), nil, nil
	return o
}

// Outcome returns the message that delivers the job's result from its record.
func (j Job) Outcome(r Record) Outcome {
	return Outcome{
		Version: version, JobID: j.ID, ToolCallID: j.ToolCallID, Tool: j.Tool, Call: j.Call,
		Kind: KindFinal, Result: *r.Result, Deadline: r.Deadline, AfterCall: r.Policy.AfterCall, Asked: r.Asked,
		NoNextCall: r.NoNextCall, Redeliveries: r.Redeliveries,
		Traceparent: cmp.Or(j.Traceparent, r.Traceparent),
	}
}

// SavedOutcome is Outcome for a record that was just saved. It also returns how long the message waits on the results
// queue, so that the front function can answer the webhook with the result meanwhile. A message that does not wait has
// the record, unless that is longer than 4 KiB: its delivery can be claimed without a read.
func (j Job) SavedOutcome(r Record, now time.Time) (o Outcome, wait time.Duration) {
	o = j.Outcome(r)
	if r.Result.Answers() && now.Before(j.AnswerUntil) {
		return o, j.AnswerUntil.Sub(now)
	}
	if encoded, err := EncodeRecord(r); err == nil && len(encoded) <= maxSaved {
		o.Saved = &Saved{r.Revision, string(encoded)}
	}
	return o, 0
}

// ProgressOutcome returns the message that delivers a progress line of the tool, or its hold message:
// word for word, or silently. r is the job's record.
func (j Job) ProgressOutcome(sequence int, text string, silent bool, r Record) Outcome {
	result := Result{Status: StatusOK, Delivery: policy.DeliverySay, Content: text, Own: true}
	if silent {
		result.Delivery = policy.DeliverySilent
	}
	return Outcome{
		Version: version, JobID: j.ID, ToolCallID: j.ToolCallID, Tool: j.Tool, Call: j.Call,
		Kind: KindProgress, Sequence: sequence, Result: result, Deadline: r.Deadline, Asked: r.Asked,
		Traceparent: cmp.Or(j.Traceparent, r.Traceparent),
	}
}

// ExternalProgressOutcome returns the message that delivers the last progress line of the job's record,
// which an external system has posted. It is never spoken word for word.
func (j Job) ExternalProgressOutcome(silent bool, r Record) Outcome {
	o := j.ProgressOutcome(r.Progress.Sequence, r.Progress.Text, true, r)
	o.Result.Own = false
	o.Respond = !silent && r.Policy.ExternalProgress == policy.DeliveryRespond
	return o
}

// ExternalProgress reports whether the outcome is a progress line that the tool may not have written.
// Lines of earlier versions do not say who wrote them. The hold message is always the tool's.
func (o Outcome) ExternalProgress() bool {
	return o.Kind == KindProgress && o.Sequence > 0 && !o.Result.Own
}

// versionWith is the version of a message with several outcomes. A reader that only
// knows single outcomes would lose all but one.
const versionWith = 2

// Encode returns the outcome as a queue message.
func (o Outcome) Encode() (string, error) {
	o.Version = version
	if len(o.With) > 0 {
		o.Version = versionWith
	}
	return encode(o)
}

// DecodeOutcome reads an outcome from a queue message. Its error wraps
// [ErrUnreadable].
func DecodeOutcome(message string) (Outcome, error) {
	var o Outcome
	if err := json.Unmarshal([]byte(message), &o); err != nil {
		return Outcome{}, fmt.Errorf("%w: decode an outcome: %s", ErrUnreadable, withoutValues(err))
	}
	wants := version
	if len(o.With) > 0 {
		wants = versionWith
	}
	if o.Version != wants {
		return Outcome{}, fmt.Errorf(
			"%w: an outcome of version %d with %d others; this program reads versions %d and %d",
			ErrUnreadable, o.Version, len(o.With), version, versionWith,
		)
	}
	for _, one := range o.All() {
		if len(one.With) > 0 || one.Call.ID != o.Call.ID {
			return Outcome{}, fmt.Errorf("%w: outcomes of different calls", ErrUnreadable)
		}
		if err := one.check(); err != nil {
			return Outcome{}, err
		}
	}
	return o, nil
}

func (o Outcome) check() error {
	switch {
	case o.Kind != KindFinal && o.Kind != KindProgress && o.Kind != KindMark:
		return fmt.Errorf("%w: unknown kind %q of outcome", ErrUnreadable, string(o.Kind))
	case !fits(o.JobID, o.Call.ID, o.ToolCallID) && (o.JobID == "" || !o.Earlier):
		return fmt.Errorf("%w: the outcome's job id does not match its call", ErrUnreadable)
	case !slices.Contains(afterCalls, o.AfterCall):
		return fmt.Errorf("%w: unknown policy %q after the call", ErrUnreadable, string(o.AfterCall))
	case o.Sequence < 0,
		o.Kind == KindProgress && o.Result.Delivery != policy.DeliverySay && o.Result.Delivery != policy.DeliverySilent:
		return fmt.Errorf("%w: a progress line without a sequence, or with the wrong delivery", ErrUnreadable)
	case (o.Kind == KindMark) != (o.State == StateDelivered || o.State == StateUndelivered || o.State == StateReplayed),
		o.Kind != KindMark && o.State != "":
		return fmt.Errorf("%w: a mark without a state, or a state without a mark", ErrUnreadable)
	case o.Deadline.IsZero():
		return fmt.Errorf("%w: the outcome has no deadline", ErrUnreadable)
	case o.Unstored != nil && o.Kind != KindFinal:
		return fmt.Errorf("%w: a progress line has no unstored result", ErrUnreadable)
	}
	if err := o.Result.check(); err != nil {
		return fmt.Errorf("%w: result of the outcome: %w", ErrUnreadable, err)
	}
	return nil
}

// withoutValues describes what is wrong with a message without quoting it. The
// description is logged, and the message may hold a telephone number or a control
// URL.
func withoutValues(err error) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("no JSON from byte %d on", syntax.Offset)
	}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("member %q is no %s", kind.Field, kind.Type)
	}
	return fmt.Sprintf("unreadable member (%T)", err)
}

// noncharacters escapes the two characters that JSON accepts unescaped and SQS
// refuses (Amazon SQS API reference, SendMessage). A caller's words may contain
// them. JSON has none outside of strings.
var noncharacters = strings.NewReplacer("\ufffe", `\ufffe`, "\uffff", `\uffff`)

func encode(v any) (string, error) {
	b, err := marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode a queue message: %w", err)
	}
	return noncharacters.Replace(string(b)), nil
}
