package asynctool

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Result is what a tool answers: a text, or an action, or an action with a
// text. A result with neither is an error, as there would be nothing to tell.
type Result struct {
	// Text goes into the conversation. It is cut to a few thousand
	// characters: it is meant to be spoken.
	Text string

	// Delivery says how. Empty means the tool's own.
	Delivery Delivery

	// Action, where it is not nil, is done instead of telling the text. A
	// [Transfer] and a [Handoff] say the text first; an [EndCall] says it
	// and then ends the call; the others take no text.
	Action Action

	// Later, where it is not nil, says that this is not the end yet. The
	// result must be empty apart from it.
	Later *Later
}

// Text is a result that is told the way the tool says.
func Text(text string) Result { return Result{Text: text} }

// Textf is [Text] with a format.
func Textf(format string, a ...any) Result { return Text(fmt.Sprintf(format, a...)) }

// Action is something other than a text that a result does to the call:
// [Transfer], [Handoff], [EndCall] or a [Control].
type Action interface {
	check(text string) error
}

// Transfer passes the call on to a phone number or a SIP address: exactly one
// of them.
type Transfer struct {
	Number string // E.164
	SIPURI string // sip:…
}

// Handoff passes the conversation on to another assistant.
type Handoff struct {
	// Destination is Vapi's handoff destination, for example
	// {"type":"assistant","assistantId":"…"}. It must marshal to a JSON
	// object.
	Destination any
}

// EndCall ends the call.
type EndCall struct{}

// Control switches something in the call.
type Control string

const (
	MuteAssistant   Control = "mute-assistant"
	UnmuteAssistant Control = "unmute-assistant"
	MuteCustomer    Control = "mute-customer"
	UnmuteCustomer  Control = "unmute-customer"
	SayFirstMessage Control = "say-first-message"
)

func (t Transfer) check(string) error {
	if (t.Number == "") == (t.SIPURI == "") {
		return errors.New("a transfer needs either a number or a SIP address")
	}
	return nil
}

// maxDestination keeps an outcome far below what a queue message may hold.
const maxDestination = 64 << 10

func (h Handoff) check(string) error {
	b, err := json.Marshal(h.Destination)
	if err != nil {
		return fmt.Errorf("a handoff's destination must be JSON: %w", err)
	}
	if len(b) == 0 || b[0] != '{' {
		return errors.New("a handoff's destination must be a JSON object")
	}
	if len(b) > maxDestination {
		return fmt.Errorf("a handoff's destination has %d bytes; the most is %d", len(b), maxDestination)
	}
	return nil
}

func (EndCall) check(string) error { return nil }

func (c Control) check(text string) error {
	switch c {
	case MuteAssistant, UnmuteAssistant, MuteCustomer, UnmuteCustomer, SayFirstMessage:
	default:
		return fmt.Errorf("there is no control %q", string(c))
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
	if !r.Delivery.valid() {
		return fmt.Errorf("the delivery is %q; it must be respond, silent or say", string(r.Delivery))
	}
	switch r.Action.(type) {
	case nil:
	case Transfer, Handoff, EndCall, Control:
		return r.Action.check(r.Text)
	default:
		// A pointer to one of them has its methods too.
		return fmt.Errorf("its action is a %T; it must be a Transfer, Handoff, EndCall or Control, not a pointer", r.Action)
	}
	if strings.TrimSpace(r.Text) == "" {
		return errors.New("its text is empty; say what the caller should learn")
	}
	return nil
}
