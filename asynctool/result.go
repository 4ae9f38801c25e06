package asynctool

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Result is the outcome of a tool: a text, an action, or both. A result with
// neither is an error, because there is nothing to deliver.
type Result struct {
	// Text goes into the conversation. It is meant to be spoken, and is cut to
	// a few thousand characters.
	Text string

	// Delivery is how Text reaches the conversation. Empty means the tool's
	// Delivery.
	Delivery Delivery

	// External means that Text is the answer of another system, and not the
	// tool's own words. A GPT-Live call is then never instructed to say it word
	// for word, since the text could instruct the assistant to do other things.
	External bool

	// Action, if not nil, is carried out instead of delivering the text.
	// [Transfer], [Handoff] and [EndCall] speak the text first. The others
	// take no text.
	Action Action

	// Later, if not nil, means that the tool is not finished. The other fields
	// must then be empty.
	Later *Later
}

// Text returns a result with a text and the tool's Delivery.
func Text(text string) Result { return Result{Text: text} }

// Textf is like [Text], with the text formatted as by [fmt.Sprintf].
func Textf(format string, a ...any) Result { return Text(fmt.Sprintf(format, a...)) }

// Action is the effect of a result on the call: a [Transfer], [Handoff],
// [EndCall] or [Control].
type Action interface {
	check(text string) error
}

// Transfer transfers the call to a phone number or a SIP address. Exactly one of
// them must be set.
type Transfer struct {
	Number string // E.164
	SIPURI string // sip:…
}

// Handoff hands the conversation to another assistant.
type Handoff struct {
	// Destination is Vapi's handoff destination, for example
	// {"type":"assistant","assistantId":"…"}. It must marshal to a JSON
	// object of at most 64 KiB.
	Destination any
}

// EndCall ends the call.
type EndCall struct{}

// Control changes the state of the call.
type Control string

// The controls that Vapi knows.
const (
	MuteAssistant   Control = "mute-assistant"
	UnmuteAssistant Control = "unmute-assistant"
	MuteCustomer    Control = "mute-customer"
	UnmuteCustomer  Control = "unmute-customer"
	SayFirstMessage Control = "say-first-message"
)

func (t Transfer) check(string) error {
	if (t.Number == "") == (t.SIPURI == "") {
		return errors.New("a transfer requires either a number or a SIP address")
	}
	return nil
}

// maxDestination keeps an outcome far below the size limit of a queue message.
const maxDestination = 64 << 10

func (h Handoff) check(string) error {
	b, err := json.Marshal(h.Destination)
	if err != nil {
		return fmt.Errorf("a handoff's destination must marshal to JSON: %w", err)
	}
	if len(b) == 0 || b[0] != '{' {
		return errors.New("a handoff's destination must be a JSON object")
	}
	if len(b) > maxDestination {
		return fmt.Errorf("a handoff's destination has %d bytes; the maximum is %d", len(b), maxDestination)
	}
	return nil
}

func (EndCall) check(string) error { return nil }

func (c Control) check(text string) error {
	switch c {
	case MuteAssistant, UnmuteAssistant, MuteCustomer, UnmuteCustomer, SayFirstMessage:
	default:
		return fmt.Errorf("unknown control %q", string(c))
	}
	if text != "" {
		return fmt.Errorf("the control %q takes no text", string(c))
	}
	return nil
}

func (r Result) check() error {
	if r.Later != nil {
		return r.checkLater()
	}
	if !validDelivery(r.Delivery) {
		return fmt.Errorf("the delivery is %q; it must be respond, silent or say", string(r.Delivery))
	}
	switch r.Action.(type) {
	case nil:
	case Transfer, Handoff, EndCall, Control:
		return r.Action.check(r.Text)
	default:
		// A pointer to one of them is an Action, too.
		return fmt.Errorf(
			"its action is a %T; it must be a Transfer, Handoff, EndCall or Control, not a pointer", r.Action)
	}
	if strings.TrimSpace(r.Text) == "" {
		return errors.New("its text is empty; write what the caller should learn")
	}
	return nil
}
