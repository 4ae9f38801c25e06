// Package simcall simulates the calls at Vapi's end: it serves their control
// URLs and keeps what is posted there.
package simcall

import (
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/ringback/ringback/vapi"
)

// Host is the host of the control URLs in the sample webhooks. It has the form
// of Vapi's own and does not exist; the local run answers for it.
const Host = "simulated-call.vapi.ai"

// maxMessage bounds one control message.
const maxMessage = 1 << 20

// Calls is a number of live calls, each by its id. The zero value is ready.
type Calls struct {
	// Heard is called for each message, in the order of their arrival. Nil
	// means nobody listens.
	Heard func(callID string, m vapi.ControlMessage)

	mu       sync.Mutex
	messages map[string][]vapi.ControlMessage
}

// Messages are the messages that a call has got so far.
func (c *Calls) Messages(callID string) []vapi.ControlMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.messages[callID])
}

// Handler serves POST /<call id>/control, the path that Vapi's control URLs
// have.
func (c *Calls) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{call}/control", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
		if err != nil {
			http.Error(w, "the message is too large", http.StatusRequestEntityTooLarge)
			return
		}
		m, err := vapi.ParseControlMessage(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.take(r.PathValue("call"), m)
		w.WriteHeader(http.StatusOK)
	})
	return mux
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
