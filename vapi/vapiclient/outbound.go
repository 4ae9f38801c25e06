package vapiclient

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ringback/ringback/vapi"
)

const (
	// maxCallAnswer limits the answer to a call. It repeats the assistant including its prompts.
	maxCallAnswer  = 4 << 20
	maxCallIDBytes = 2048

	// maxStatusAnswer limits the answer about a call. It contains the call's transcript, several times.
	maxStatusAnswer = 16 << 20
	// statusTimeout limits the question about a call, including Key.
	statusTimeout = 10 * time.Second
)

// OutboundConfig configures an [Outbound].
type OutboundConfig struct {
	// Key returns the organisation's private key. Required. It is called for each post, so that a
	// new key is used at once.
	Key func(ctx context.Context) (string, error)
	// URL is the API's address, with https. Empty means [APIURL].
	URL string
	// AllowLoopback allows a URL with http and a loopback address of this machine. For local runs
	// only.
	AllowLoopback bool
	// Timeout limits a whole post, including Key. 0 means 20 s, because the answer to a chat waits
	// for the model.
	Timeout time.Duration
	// Now is the clock for a Retry-After that is a date. Nil means time.Now.
	Now func() time.Time
}

// Outbound makes phone calls and continues chats through Vapi's API. It is safe for concurrent use.
// Proxies from the environment are not used, and redirects are not followed.
type Outbound struct {
	key                                     func(ctx context.Context) (string, error)
	url                                     string
	timeout                                 time.Duration
	calls, chats                            *http.Transport
	callAnswers, chatAnswers, statusAnswers answerReader
}

// NewOutbound returns an error if Key is missing, the timeout is negative, or the address would
// expose the key.
func NewOutbound(cfg OutboundConfig) (*Outbound, error) {
	if cfg.Key == nil {
		return nil, errors.New("outbound: the private key is missing")
	}
	if cfg.Timeout < 0 {
		return nil, errors.New("outbound: the timeout is negative: use 0 for the default")
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
			return nil, errors.New("outbound: the address of Vapi's API must be https, " +
				"because the private key is sent to it")
		}
		guard = loopbackOnly
	}
	const forbidden = "check that the key is the private key of this region and organisation"
	const checkCall = "check the IDs of the assistant and the phone number, the customer's number and " +
		"the organisation's limits"
	o := &Outbound{
		key: cfg.Key, url: u.String(), timeout: cmp.Or(cfg.Timeout, 20*time.Second),
		callAnswers: answerReader{
			from: "Vapi's POST /call", now: cfg.Now, forbidden: forbidden, gone: checkCall, refused: checkCall,
		},
		chatAnswers: answerReader{
			from: "Vapi's POST /chat", now: cfg.Now, forbidden: forbidden,
			gone:    "the chat or session is over or never existed",
			refused: "this message was refused, which does not mean that the chat is over",
		},
		statusAnswers: answerReader{
			from: "Vapi's GET /call", now: cfg.Now, forbidden: forbidden,
			gone:    "it does not know the call: " + forbidden,
			refused: "it does not accept the call's ID",
		},
	}
	o.chats = newTransport(defaultConnectTimeout, guard)
	// Use one connection per call, with HTTP/1.1 only: net/http repeats a request only on HTTP/2, or
	// on a connection that was used before. And a failed connection proves that no call was made.
	o.calls = newTransport(defaultConnectTimeout, guard)
	o.calls.DisableKeepAlives = true
	o.calls.Protocols = new(http.Protocols)
	o.calls.Protocols.SetHTTP1(true)
	return o, nil
}

// NewCall is a call to a customer (Vapi's OpenAPI: CreateOutboundCallDTO).
type NewCall struct {
	// AssistantID is the assistant that speaks. Required.
	AssistantID string
	// PhoneNumberID is Vapi's ID of the organisation's phone number that calls. Required.
	PhoneNumberID string
	// CustomerNumber is the number to call. Vapi accepts E.164 only. Required.
	CustomerNumber string
	// Variables replace the template variables ({{name}}) in the assistant's texts. Empty means
	// none.
	Variables map[string]string
	// Name is the call's name in Vapi's dashboard. Vapi accepts at most 40 characters. Empty means
	// none.
	Name string
	// EarliestAt is the time from which Vapi calls. Zero means at once.
	EarliestAt time.Time
}

// CallVerdict is the outcome of a [NewCall], in one word for logs.
type CallVerdict string

const (
	// Called means that Vapi made the call, or will make it at its time, and returned its ID. It
	// does not mean that the customer answered.
	Called CallVerdict = "called"
	// Refused means that certainly no call was made: NewCall is incomplete, the key is unusable, no
	// connection could be made, or Vapi answered 4xx.
	Refused CallVerdict = "refused"
	// Unknown means that the call may have been made, so that it must not be made again. There was
	// no answer in time, the connection broke, or the answer was neither 4xx nor 2xx with the
	// call's ID.
	Unknown CallVerdict = "unknown"
)

// CallReceipt is the outcome of a [NewCall] with its details.
type CallReceipt struct {
	// Verdict is never empty.
	Verdict CallVerdict
	// CallID is Vapi's ID of the call. It is "" unless the verdict is Called.
	CallID string
	// TryAgain means that Vapi may accept the same call later: after 408, 425, 429, a failed
	// connection or an unreadable key. Only Refused can have it. If it is false, an operator must
	// correct something first.
	TryAgain bool
	// RetryAfter is the wait that the Retry-After of such a refusal asks for, at most one hour. 0
	// means that it asks for none.
	RetryAfter time.Duration
	// Status is the HTTP status. 0 means that there was no answer.
	Status int
	// Err is the reason, for the operator's log. It is nil for Called. It does not hold the key,
	// the number or any other part of the call or the answer.
	Err error
}

type callWire struct {
	AssistantID        string              `json:"assistantId"`
	PhoneNumberID      string              `json:"phoneNumberId"`
	Customer           customer            `json:"customer"`
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

// Call makes a phone call. It sends the request at most once.
func (o *Outbound) Call(ctx context.Context, call NewCall) CallReceipt {
	if call.AssistantID == "" || call.PhoneNumberID == "" || call.CustomerNumber == "" {
		return CallReceipt{Verdict: Refused,
			Err: errors.New("a call needs an assistant ID, a phone number ID and the customer's number")}
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
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	request, failed := o.request(ctx, http.MethodPost, "/call", body)
	if failed.Err != nil {
		return refused(failed)
	}
	response, err := o.calls.RoundTrip(request)
	if err != nil {
		failed := o.callAnswers.failedReceipt(ctx, err)
		if !connected.Load() {
			return refused(failed)
		}
		return unknown(0, failed.Err)
	}
	defer response.Body.Close()
	switch status := response.StatusCode; {
	case status >= 400 && status <= 499:
		return refused(o.callAnswers.answeredReceipt(response))
	case status < 200 || status > 299:
		return unknown(status, fmt.Errorf("%s answered %d", o.callAnswers.from, status))
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxCallAnswer))
	var made struct {
		ID string `json:"id"`
	}
	if err != nil || json.Unmarshal(answer, &made) != nil || made.ID == "" || len(made.ID) > maxCallIDBytes {
		return unknown(response.StatusCode,
			fmt.Errorf("%s answered %d without the ID of a call", o.callAnswers.from, response.StatusCode))
	}
	return CallReceipt{Verdict: Called, CallID: made.ID, Status: response.StatusCode}
}

func refused(r Receipt) CallReceipt {
	return CallReceipt{
		Verdict: Refused, TryAgain: r.Verdict == TryAgain,
		RetryAfter: r.RetryAfter, Status: r.Status, Err: r.Err,
	}
}

func unknown(status int, err error) CallReceipt {
	return CallReceipt{Verdict: Unknown, Status: status,
		Err: fmt.Errorf("it is not known whether the call was made: %w", err)}
}

// CallStatus is what Vapi says about a call.
type CallStatus struct {
	// Ended means that the call has certainly ended.
	Ended bool
	// Call is the call as Vapi knows it. Its ID is empty if Vapi did not answer with the call.
	Call KnownCall
	// RetryAfter is the wait that a Retry-After asks for, at most one hour. 0 means that it asks for
	// none.
	RetryAfter time.Duration
	// Status is the HTTP status. 0 means that there was no answer.
	Status int
	// Err is the reason why the call is not known to have ended, for the operator's log. It is nil if
	// Ended. It does not hold the key or the call's ID.
	Err error
}

// KnownCall is a call of the organisation (Vapi's OpenAPI: Call). Fields are empty that Vapi does not answer with.
type KnownCall struct {
	ID             string
	Type           string // "inboundPhoneCall" and others
	CustomerNumber string // in E.164
	AssistantID    string // empty for a transient assistant, too
	PhoneNumberID  string // of the organisation's number
}

// CallStatus asks Vapi for a call, and whether it has ended (Vapi's OpenAPI: GET /call/{id}, Call.status). It sends
// the request once.
func (o *Outbound) CallStatus(ctx context.Context, callID string) CallStatus {
	ctx, cancel := context.WithTimeout(ctx, min(o.timeout, statusTimeout))
	defer cancel()
	if callID == "" {
		return CallStatus{Err: errors.New("the call has no ID")}
	}
	request, failed := o.request(ctx, http.MethodGet, "/call/"+url.PathEscape(callID), nil)
	if failed.Err != nil {
		return CallStatus{Err: failed.Err}
	}
	response, err := o.chats.RoundTrip(request)
	if err != nil {
		return CallStatus{Err: o.statusAnswers.failedReceipt(ctx, err).Err}
	}
	defer response.Body.Close()
	receipt := o.statusAnswers.answeredReceipt(response)
	status := CallStatus{Status: receipt.Status, RetryAfter: receipt.RetryAfter, Err: receipt.Err}
	if receipt.Verdict != Delivered {
		return status
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxStatusAnswer))
	var call struct {
		ID            string   `json:"id"`
		Type          string   `json:"type"`
		Status        string   `json:"status"`
		Customer      customer `json:"customer"`
		AssistantID   string   `json:"assistantId"`
		PhoneNumberID string   `json:"phoneNumberId"`
	}
	if err != nil || json.Unmarshal(answer, &call) != nil || call.ID != callID {
		status.Err = fmt.Errorf("%s answered %d without the call", o.statusAnswers.from, status.Status)
		return status
	}
	status.Call = KnownCall{
		ID: call.ID, Type: call.Type, CustomerNumber: call.Customer.Number,
		AssistantID: call.AssistantID, PhoneNumberID: call.PhoneNumberID,
	}
	switch {
	case call.Status != "ended":
		status.Err = fmt.Errorf("%s says that the call is %q", o.statusAnswers.from, oneLine(call.Status, 40))
	default:
		status.Ended = true
	}
	return status
}

// NewChat is a system message to the model in an existing chat (Vapi's OpenAPI: CreateChatDTO).
type NewChat struct {
	// SessionID is the session of the chat. Empty means that there is none. If it is set,
	// PreviousChatID and AssistantID are not sent.
	SessionID string
	// PreviousChatID is the chat whose messages this one follows. Vapi accepts it only without a
	// session.
	PreviousChatID string
	// AssistantID is the assistant that answers if there is no session. If it is empty and there is
	// a previous chat, Vapi chooses.
	AssistantID string
	// Content is the message's text. Required.
	Content string
	// SMS makes Vapi send the model's reply as a text message. A session knows both numbers. Without
	// one, PhoneNumberID and CustomerNumber are required, and Vapi begins a session.
	SMS bool
	// PhoneNumberID is the organisation's phone number that the reply comes from.
	PhoneNumberID string
	// CustomerNumber receives the reply.
	CustomerNumber string
}

// transport is how a reply is sent. Vapi refuses a number in a session (Vapi's OpenAPI:
// CreateChatDTO.transport).
type transport struct {
	Type          string    `json:"type"`
	PhoneNumberID string    `json:"phoneNumberId,omitempty"`
	Customer      *customer `json:"customer,omitempty"`
}

type customer struct {
	Number string `json:"number"`
}

// overSMS is the only transport (Vapi's OpenAPI: TwilioSMSChatTransport.type).
const overSMS = "twilio.sms"

type chatWire struct {
	SessionID      string        `json:"sessionId,omitempty"`
	PreviousChatID string        `json:"previousChatId,omitempty"`
	AssistantID    string        `json:"assistantId,omitempty"`
	Transport      *transport    `json:"transport,omitempty"`
	Input          []chatMessage `json:"input"`
	// Stream is always false, so that the status arrives after the model has answered. It is sent
	// because not every version of Vapi's OpenAPI description has this default.
	Stream bool `json:"stream"`
}

type chatMessage struct {
	Role    vapi.Role `json:"role"`
	Content string    `json:"content"`
}

// Chat posts a message to a chat once and waits until the model has answered it. It does not read
// the answer, which is in the chat's history at Vapi.
//
// TryAgain can mean that the message arrived nevertheless. Gone means that Vapi does not know the
// chat or session.
func (o *Outbound) Chat(ctx context.Context, chat NewChat) Receipt {
	body := chatWire{SessionID: chat.SessionID, Input: []chatMessage{{vapi.RoleSystem, chat.Content}}}
	if chat.SessionID == "" {
		body.PreviousChatID, body.AssistantID = chat.PreviousChatID, chat.AssistantID
	}
	if chat.SMS {
		body.Transport = &transport{Type: overSMS}
		if chat.SessionID == "" {
			body.Transport.PhoneNumberID, body.Transport.Customer = chat.PhoneNumberID, &customer{chat.CustomerNumber}
		}
	}
	switch {
	case chat.SMS && chat.SessionID == "" && (chat.PhoneNumberID == "" || chat.CustomerNumber == ""):
		return Receipt{Verdict: Misconfigured,
			Err: errors.New("a text message needs a session, or a phone number ID and the customer's number")}
	case body.SessionID == "" && body.PreviousChatID == "" && body.AssistantID == "":
		return Receipt{Verdict: Misconfigured, Err: errors.New("a chat needs a session, a previous chat or an assistant")}
	case chat.Content == "":
		return Receipt{Verdict: Misconfigured, Err: errors.New("a chat needs a message")}
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	request, failed := o.request(ctx, http.MethodPost, "/chat", body)
	if failed.Err != nil {
		return failed
	}
	return o.chatAnswers.roundTrip(o.chats, request)
}

// request returns a request. A nil body means that it has none. If that fails, the receipt has an Err.
func (o *Outbound) request(ctx context.Context, method, path string, body any) (*http.Request, Receipt) {
	resource, _, _ := strings.Cut(path[1:], "/") // an error must not quote an ID
	var sent []byte
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return nil, Receipt{Verdict: Misconfigured,
				Err: fmt.Errorf("malformed body for Vapi's %s /%s (%T)", method, resource, err)}
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, o.url+path, bytes.NewReader(sent))
	if err != nil {
		return nil, Receipt{Verdict: Misconfigured,
			Err: fmt.Errorf("cannot request Vapi's %s /%s: check the API's address", method, resource)}
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("User-Agent", "ringback")
	return request, authorize(request, "private", o.key)
}
