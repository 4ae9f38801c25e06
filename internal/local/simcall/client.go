package simcall

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Post delivers m to the call of controlURL, without HTTP: see [CallID]. The call parses
// m's JSON, as Vapi does.
func (c *Calls) Post(_ context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	wire, err := json.Marshal(m)
	if err == nil {
		m, err = vapi.ParseControlMessage(wire)
	}
	if err != nil {
		return vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Err: err}
	}
	id := CallID(controlURL)
	if err := c.refusal(id, m); err != nil {
		verdict := vapiclient.MessageRefused
		if errors.Is(err, errNotActive) {
			verdict = vapiclient.Gone
		}
		return vapiclient.Receipt{
			Verdict: verdict, Status: statusOf(err), Reported: err.Error(),
			Err: errors.New("the simulated call refuses the message"),
		}
	}
	c.take(id, m)
	return vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: http.StatusOK}
}

// Begin makes the call of a webhook known to [Calls.CallStatus]. The first webhook of a call counts.
func (c *Calls) Begin(call vapi.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(map[string]vapiclient.KnownCall)
	}
	if _, begun := c.known[call.ID]; begun || call.ID == "" {
		return
	}
	c.known[call.ID] = vapiclient.KnownCall{
		ID: call.ID, Type: cmp.Or(call.Type, "inboundPhoneCall"), CustomerNumber: call.CustomerNumber,
		AssistantID: call.AssistantID, PhoneNumberID: call.PhoneNumberID,
	}
}

// CallStatus returns a call as Vapi's API does. It is asked only when there is no other sign of life of a call,
// which has then ended.
func (c *Calls) CallStatus(_ context.Context, callID string) vapiclient.CallStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	call, known := c.known[callID]
	if !known {
		return vapiclient.CallStatus{Status: http.StatusNotFound, Err: errors.New("there is no such simulated call")}
	}
	return vapiclient.CallStatus{Ended: true, Call: call, Status: http.StatusOK}
}

// CallID returns the id of the call that a control URL belongs to. If controlURL does not end in
// /<call id>/control, it is the call's id itself.
func CallID(controlURL string) string {
	id, found := strings.CutSuffix(controlURL, "/control")
	if !found {
		return controlURL
	}
	return id[strings.LastIndexByte(id, '/')+1:]
}

// Client posts control messages with a real control client: those for [Host] to the
// simulated calls, and all others to their control URLs.
type Client struct {
	Control *vapiclient.ControlClient
	URL     string // where [Calls.Handler] is served, without a slash at the end
}

// Post posts m to controlURL.
func (c Client) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	if u, err := url.Parse(controlURL); err == nil && u.Host == Host {
		controlURL = c.URL + u.EscapedPath()
	}
	return c.Control.Post(ctx, controlURL, m)
}

// API simulates the part of Vapi's API that starts outbound calls and continues
// chats. It accepts and records everything. The zero value is ready to use.
type API struct {
	mu    sync.Mutex
	calls []vapiclient.NewCall
	chats []vapiclient.NewChat
}

// Call records an outbound call.
func (a *API) Call(_ context.Context, call vapiclient.NewCall) vapiclient.CallReceipt {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, call)
	return vapiclient.CallReceipt{Verdict: vapiclient.Called, CallID: "new", Status: http.StatusCreated}
}

// Chat records a message in a chat.
func (a *API) Chat(_ context.Context, chat vapiclient.NewChat) vapiclient.Receipt {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.chats = append(a.chats, chat)
	return vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: http.StatusCreated}
}

// Calls returns the outbound calls so far.
func (a *API) Calls() []vapiclient.NewCall {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

// Chats returns the messages in chats so far.
func (a *API) Chats() []vapiclient.NewChat {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.chats)
}
