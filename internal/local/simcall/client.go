package simcall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Post delivers m to the call of controlURL, without HTTP. The call parses m's JSON,
// as Vapi does. If controlURL does not end in /<call id>/control, it is the call's
// id itself.
func (c *Calls) Post(_ context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	wire, err := json.Marshal(m)
	if err == nil {
		m, err = vapi.ParseControlMessage(wire)
	}
	if err != nil {
		return vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Err: err}
	}
	id, found := strings.CutSuffix(controlURL, "/control")
	if found {
		id = id[strings.LastIndexByte(id, '/')+1:]
	}
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
	// Status returns the status of a call. Nil means that each call has ended.
	Status func(callID string) string

	mu    sync.Mutex
	calls []vapiclient.NewCall
	chats []vapiclient.NewChat
}

// CallStatus returns whether a call has ended.
func (a *API) CallStatus(_ context.Context, callID string) vapiclient.CallStatus {
	status := "ended"
	if a.Status != nil {
		status = a.Status(callID)
	}
	if status != "ended" {
		return vapiclient.CallStatus{Status: http.StatusOK, Err: fmt.Errorf("the call is %q", status)}
	}
	return vapiclient.CallStatus{Ended: true, Status: http.StatusOK}
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
