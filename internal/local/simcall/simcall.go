// Package simcall simulates calls at Vapi: it serves their control URLs and keeps
// the control messages.
package simcall

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Host is the host of the control URLs in the sample webhooks. It looks like
// Vapi's own hosts, and does not exist: in a local run, [Client] replaces it.
const Host = "simulated-call.vapi.ai"

// maxMessage is the maximum size of a control message, in bytes.
const maxMessage = 1 << 20

// Calls holds the simulated calls. A call exists as soon as a message is posted to
// it. The zero value is ready to use.
type Calls struct {
	// Heard is called for each message, in the order of their arrival. It may be
	// nil.
	Heard func(callID string, m vapi.ControlMessage)

	// GPTLive reports whether a call has the GPT-Live architecture, and accepts only the control messages
	// of such a call. Nil means that all calls are classic.
	GPTLive func(callID string) bool

	mu       sync.Mutex
	messages map[string][]vapi.ControlMessage
	live     map[string]vapi.Call // the added GPT-Live calls
	known    map[string]vapiclient.KnownCall
	ended    map[string]bool
}

// End ends a call, as a caller does who hangs up. Its control URL then answers 404.
func (c *Calls) End(callID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = make(map[string]bool)
	}
	c.ended[callID] = true
}

// Ended reports whether a call was ended with End.
func (c *Calls) Ended(callID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended[callID]
}

// AddGPTLive adds a call that has the GPT-Live architecture, as GPTLive does. If its type is known and not
// that of a phone call, it also refuses transfers.
func (c *Calls) AddGPTLive(call vapi.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		c.live = make(map[string]vapi.Call)
	}
	c.live[call.ID] = call
}

// gptLive returns a call, and whether it has the GPT-Live architecture.
func (c *Calls) gptLive(callID string) (call vapi.Call, live bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if call, live = c.live[callID]; !live {
		live = c.GPTLive != nil && c.GPTLive(callID)
	}
	return call, live
}

// Messages returns the messages of a call so far.
func (c *Calls) Messages(callID string) []vapi.ControlMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.messages[callID])
}

// Handler serves POST /<call id>/control, which is the path of Vapi's control URLs.
func (c *Calls) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{call}/control", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
		if err != nil {
			http.Error(w, "the message is too large", http.StatusRequestEntityTooLarge)
			return
		}
		m, err := vapi.ParseControlMessage(body)
		if err == nil {
			err = c.refusal(r.PathValue("call"), m)
		}
		if err != nil {
			http.Error(w, err.Error(), statusOf(err))
			return
		}
		c.take(r.PathValue("call"), m)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"status":"ok"}`)
	})
	return mux
}

// e164 matches the numbers that Vapi transfers to by default (Vapi's OpenAPI:
// TransferDestinationNumber.numberE164CheckEnabled).
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{1,14}$`)

// errNotActive means that the call was ended or transferred before.
var errNotActive = errors.New("the call is not active")

// statusOf returns the status that a refused message is answered with. Vapi does not document that of an
// ended call.
func statusOf(refused error) int {
	if errors.Is(refused, errNotActive) {
		return http.StatusNotFound
	}
	return http.StatusBadRequest
}

// active returns an error if the assistant of a GPT-Live call has ended or transferred it.
func (c *Calls) active(callID string) error {
	if slices.ContainsFunc(c.Messages(callID), func(m vapi.ControlMessage) bool {
		switch m.(type) {
		case vapi.EndCall, vapi.Transfer:
			return true
		}
		return false
	}) {
		return errNotActive
	}
	return nil
}

// refusal returns an error if Vapi would refuse a message that is well-formed. For GPT-Live calls, it
// follows Vapi's documentation ("GPT-Live settings and compatibility").
func (c *Calls) refusal(callID string, m vapi.ControlMessage) error {
	if c.Ended(callID) {
		return errNotActive
	}
	call, live := c.gptLive(callID)
	switch m := m.(type) {
	case vapi.EndCall:
	case vapi.AppendContext:
		if !live {
			return unsupported(m)
		}
	case vapi.Transfer:
		switch {
		case m.Number != "" && !e164.MatchString(m.Number):
			return errors.New("destination.number must be a valid phone number in the E.164 format")
		case live && m.Content != "":
			return errors.New("property content should not exist")
		case live && !isBlind(m.TransferPlan):
			return errors.New("destination.transferPlan.mode must be blind-transfer")
		case live && call.Type != "" && !strings.HasSuffix(call.Type, "PhoneCall"):
			return errors.New("only phone calls can be transferred")
		}
	default:
		if live {
			return unsupported(m)
		}
	}
	if live {
		return c.active(callID)
	}
	return nil
}

func unsupported(m vapi.ControlMessage) error {
	return fmt.Errorf("this call does not support the message %T", m)
}

// isBlind reports whether a transfer plan is that of a blind transfer, which is the default.
func isBlind(plan json.RawMessage) bool {
	if len(plan) == 0 {
		return true
	}
	var p struct {
		Mode string `json:"mode"`
	}
	return json.Unmarshal(plan, &p) == nil && p.Mode == "blind-transfer"
}

func (c *Calls) take(id string, m vapi.ControlMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.messages == nil {
		c.messages = make(map[string][]vapi.ControlMessage)
	}
	c.messages[id] = append(c.messages[id], m)
	if c.Heard != nil {
		c.Heard(id, m)
	}
}
