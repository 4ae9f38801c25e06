package vapiclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ringback/ringback/vapi"
)

// maxCallAnswer bounds what is read of the answer to a call. It repeats the assistant, prompts included.
const maxCallAnswer = 4 << 20

const maxCallIDBytes = 2048

// OutboundConfig configures an [Outbound].
type OutboundConfig struct {
	// Key gives the organisation's private key. It is asked for each post, so that a new key is used at once. Required.
	Key func(ctx context.Context) (string, error)
	// URL is the API's address, https. Empty means [APIURL].
	URL string
	// AllowLoopback allows an http URL on this machine's loopback addresses. For local runs only.
	AllowLoopback bool
	// Timeout bounds a whole post, Key included. 0 means 20 s: a model answers a chat before Vapi does.
	Timeout time.Duration
	// Now is the clock for a Retry-After that is a date. Nil means time.Now.
	Now func() time.Time
}

// Outbound begins conversations by Vapi's API: it calls customers, and goes on with chats. It is safe for concurrent use.
// Proxies from the environment are not used and redirects are not followed.
type Outbound struct {
	key           func(ctx context.Context) (string, error)
	url           string
	timeout       time.Duration
	calls, chats  *http.Transport
	called, wrote answerReader
}

// NewOutbound returns an error for a missing Key, a negative timeout and an address that would give the key away.
func NewOutbound(cfg OutboundConfig) (*Outbound, error) {
	if cfg.Key == nil {
		return nil, errors.New("outbound: the private key is missing")
	}
	if cfg.Timeout < 0 {
		return nil, errors.New("outbound: the timeout is negative: use 0 for the default")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 20 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	u, err := apiURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	var guard dialGuard
	if u.Scheme == "http" {
		if !cfg.AllowLoopback {
			return nil, errors.New("outbound: the address of Vapi's API must be https, as it is sent the private key")
		}
		guard = loopbackOnly
	}
	const forbidden = "is it the private key, and of this region and organisation?"
	o := &Outbound{
		key: cfg.Key, url: u.String(), timeout: cfg.Timeout,
		called: answerReader{
			from: "Vapi's POST /call", now: cfg.Now, forbidden: forbidden,
			gone: "check the ids of the assistant and the phone number, the customer's number and the organisation's limits",
		},
		wrote: answerReader{
			from: "Vapi's POST /chat", now: cfg.Now, forbidden: forbidden,
			gone: "the chat or session is over, or was never there",
		},
	}
	o.chats = newTransport(3*time.Second, guard)
	// A connection for each call and HTTP/1.1 alone: net/http repeats a request only on a connection that was used before
	// or on HTTP/2, and a connection that cannot be made means that no call was.
	o.calls = newTransport(3*time.Second, guard)
	o.calls.DisableKeepAlives = true
	o.calls.Protocols = new(http.Protocols)
	o.calls.Protocols.SetHTTP1(true)
	return o, nil
}

// NewCall is a call to a customer (Vapi's OpenAPI: CreateOutboundCallDTO).
type NewCall struct {
	// AssistantID is the assistant that speaks. Required.
	AssistantID string
	// PhoneNumberID is Vapi's id of the organisation's number that the call goes out from. Required.
	PhoneNumberID string
	// CustomerNumber is the number to call; Vapi takes E.164 alone. Required.
	CustomerNumber string
	// Variables replace the template variables ({{name}}) of the assistant's texts. Empty: none.
	Variables map[string]string
	// Name is the call's name in Vapi's dashboard; Vapi takes 40 characters at most. Empty: none.
	Name string
	// EarliestAt is when Vapi is to call. Zero means at once.
	EarliestAt time.Time
}

// CallVerdict is what became of a [NewCall].
type CallVerdict int

const (
	// Called means that Vapi made the call, or will at its time, and gave its id. It does not mean that somebody answered.
	Called CallVerdict = iota + 1
	// Refused means that certainly no call was made: it is incomplete, no connection could be made, or Vapi answered 4xx.
	Refused
	// Unknown means that the call may have been made, so that it must not be made again: there was no answer in time, the
	// connection broke, or the answer is neither 2xx with the call's id nor 4xx.
	Unknown
)

// String is the verdict in a word, for logs.
func (v CallVerdict) String() string {
	switch v {
	case Called:
		return "called"
	case Refused:
		return "refused"
	case Unknown:
		return "unknown"
	}
	return "verdict " + strconv.Itoa(int(v))
}

// CallReceipt is the outcome of a [NewCall].
type CallReceipt struct {
	Verdict CallVerdict
	// CallID is Vapi's id of the call that was made; "" unless Called.
	CallID string
	// TryAgain says of a Refused that the same call may be taken later: 408, 425, 429, no connection, or a key that could not
	// be read. False where somebody has to correct something first.
	TryAgain bool
	// RetryAfter is how long the Retry-After of such a refusal asks to wait, at most an hour; 0 where it does not say.
	RetryAfter time.Duration
	// Status is the HTTP status, 0 where there was none.
	Status int
	// Err says why there is no call, or why it is not known, for the operator's log: without the key, the number or anything
	// else of the call or the answer. Nil for Called.
	Err error
}

type callWire struct {
	AssistantID   string `json:"assistantId"`
	PhoneNumberID string `json:"phoneNumberId"`
	Customer      struct {
		Number string `json:"number"`
	} `json:"customer"`
	AssistantOverrides *assistantOverrides `json:"assistantOverrides,omitempty"`
	Name               string              `json:"name,omitempty"`
	SchedulePlan       *schedulePlan       `json:"schedulePlan,omitempty"`
}

type assistantOverrides struct {
	VariableValues map[string]string `json:"variableValues"`
}

type schedulePlan struct {
	EarliestAt string `json:"earliestAt"`
}

// Call makes a call. The request is sent once at most: the client never repeats it.
func (o *Outbound) Call(ctx context.Context, call NewCall) CallReceipt {
	if call.AssistantID == "" || call.PhoneNumberID == "" || call.CustomerNumber == "" {
		return CallReceipt{Verdict: Refused, Err: errors.New("a call needs an assistant id, a phone number id and the customer's number")}
	}
	body := callWire{AssistantID: call.AssistantID, PhoneNumberID: call.PhoneNumberID, Name: call.Name}
	body.Customer.Number = call.CustomerNumber
	if len(call.Variables) > 0 {
		body.AssistantOverrides = &assistantOverrides{call.Variables}
	}
	if !call.EarliestAt.IsZero() {
		body.SchedulePlan = &schedulePlan{call.EarliestAt.UTC().Format("2006-01-02T15:04:05.000Z")}
	}

	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	request, failed := o.request(ctx, "/call", body)
	if failed.Err != nil {
		return refused(failed)
	}
	response, err := o.calls.RoundTrip(request)
	if err != nil {
		failed := o.called.failedReceipt(ctx, err)
		if !connected.Load() {
			return refused(failed)
		}
		return CallReceipt{Verdict: Unknown, Err: fmt.Errorf("it is not known whether the call was made: %w", failed.Err)}
	}
	defer response.Body.Close()
	switch status := response.StatusCode; {
	case status >= 400 && status <= 499:
		return refused(o.called.answeredReceipt(response))
	case status < 200 || status > 299:
		return CallReceipt{Verdict: Unknown, Status: status, Err: fmt.Errorf("it is not known whether the call was made: %s answered %d", o.called.from, status)}
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxCallAnswer))
	var made struct {
		ID string `json:"id"`
	}
	if err != nil || json.Unmarshal(answer, &made) != nil || made.ID == "" || len(made.ID) > maxCallIDBytes {
		return CallReceipt{Verdict: Unknown, Status: response.StatusCode,
			Err: fmt.Errorf("it is not known whether the call was made: %s answered %d without the id of a call", o.called.from, response.StatusCode)}
	}
	return CallReceipt{Verdict: Called, CallID: made.ID, Status: response.StatusCode}
}

func refused(r Receipt) CallReceipt {
	return CallReceipt{Verdict: Refused, TryAgain: r.Verdict == TryAgain, RetryAfter: r.RetryAfter, Status: r.Status, Err: r.Err}
}

// NewChat is a message to the model in a chat that is there (Vapi's OpenAPI: CreateChatDTO), as a system message.
type NewChat struct {
	// SessionID is the session to go on in. Empty: there is none, and the other two count.
	SessionID string
	// PreviousChatID is the chat whose messages this one follows. Vapi takes it only without a session.
	PreviousChatID string
	// AssistantID is the assistant that answers without a session. Empty leaves it to Vapi where there is a previous chat.
	AssistantID string
	// Content is the message's text. Required.
	Content string
}

type chatWire struct {
	SessionID      string        `json:"sessionId,omitempty"`
	PreviousChatID string        `json:"previousChatId,omitempty"`
	AssistantID    string        `json:"assistantId,omitempty"`
	Input          []chatMessage `json:"input"`
	// Always false, so that the status comes when the model has answered. Not every version of Vapi's description had that as
	// the default.
	Stream bool `json:"stream"`
}

type chatMessage struct {
	Role    vapi.Role `json:"role"`
	Content string    `json:"content"`
}

// Chat posts a message to a chat once and waits until the model has answered it. What it answers is in the chat's history at
// Vapi and is not read. TryAgain may mean that the message arrived all the same. A Gone is a chat or session that Vapi does
// not know, or a message that it does not take.
func (o *Outbound) Chat(ctx context.Context, chat NewChat) Receipt {
	body := chatWire{SessionID: chat.SessionID, Input: []chatMessage{{vapi.RoleSystem, chat.Content}}}
	if chat.SessionID == "" {
		body.PreviousChatID, body.AssistantID = chat.PreviousChatID, chat.AssistantID
	}
	switch {
	case body.SessionID == "" && body.PreviousChatID == "" && body.AssistantID == "":
		return Receipt{Verdict: Misconfigured, Err: errors.New("a chat needs a session, a previous chat or an assistant")}
	case chat.Content == "":
		return Receipt{Verdict: Misconfigured, Err: errors.New("a chat needs a message")}
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	request, failed := o.request(ctx, "/chat", body)
	if failed.Err != nil {
		return failed
	}
	return o.wrote.roundTrip(o.chats, request)
}

// request makes a post. Where that fails, the receipt has an Err.
func (o *Outbound) request(ctx context.Context, path string, body any) (*http.Request, Receipt) {
	sent, err := json.Marshal(body)
	if err != nil {
		return nil, Receipt{Verdict: Misconfigured, Err: fmt.Errorf("malformed body for Vapi's POST %s (%T)", path, err)}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+path, bytes.NewReader(sent))
	if err != nil {
		return nil, Receipt{Verdict: Misconfigured, Err: fmt.Errorf("cannot request Vapi's POST %s: is the API's address right?", path)}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "ringback")
	return request, authorize(request, "private", o.key)
}
