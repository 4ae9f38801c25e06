// Package simcall simulates calls at Vapi: it serves their control URLs and keeps
// the control messages.
package simcall

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"sync"

	"github.com/ringback/ringback/vapi"
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

	mu       sync.Mutex
	messages map[string][]vapi.ControlMessage
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
			err = refusal(m)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.take(r.PathValue("call"), m)
		w.WriteHeader(http.StatusOK)
	})
	return mux
}

// e164 matches the numbers that Vapi transfers to by default (Vapi's OpenAPI:
// TransferDestinationNumber.numberE164CheckEnabled).
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{1,14}$`)

// refusal returns an error if Vapi would refuse a message that is well-formed.
func refusal(m vapi.ControlMessage) error {
	if transfer, ok := m.(vapi.Transfer); ok && transfer.Number != "" && !e164.MatchString(transfer.Number) {
		return errors.New("destination.number must be a valid phone number in the E.164 format")
	}
	return nil
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
