package tools

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
)

type notifyInput struct {
	Subject string `json:"subject" jsonschema:"what is to be found out or approved, in a sentence that somebody understands who has not heard the call: with names, numbers and articles"`
}

// request is what the other system is told.
type request struct {
	Subject string `json:"subject"`
	// CompletionURL is where the answer is to be posted. Whoever knows it can
	// give that answer, so it goes nowhere else.
	CompletionURL  string `json:"completion_url"`
	IdempotencyKey string `json:"idempotency_key"`
	// CallID and CustomerNumber say on whose behalf it is asked, by Vapi's
	// word and not by the model's.
	CallID         string `json:"call_id"`
	CustomerNumber string `json:"customer_number,omitempty"`
}

// maxSubject bounds a subject, in characters: somebody has to read it.
const maxSubject = 500

// notPassedOn is told where the other system did not take a request.
const notPassedOn = "I am sorry, I could not pass that on."

// NotifyWhenReady leaves a question to somebody outside, a manager who approves
// or a warehouse that looks, and tells the caller the answer when it is there.
// The question is posted to {requestsURL}/requests as JSON {"subject",
// "completion_url", "idempotency_key", "call_id", "customer_number"}, and any 2xx
// takes it. The answer is posted to the completion_url, within two days. token
// goes along as a bearer token, where it is not empty. An empty requestsURL makes
// a tool that says that it is not available.
func NotifyWhenReady(requestsURL, token string) asynctool.Definition {
	return asynctool.Tool[notifyInput]{
		Name: "notify_when_ready",
		Description: "Passes a question on to a person or another department: an approval, or what the warehouse has to look up. " +
			"Needs what is to be found out or approved. Takes minutes, at times a day or two; the answer is told when it is there.",
		Refine: func(s *jsonschema.Schema) {
			s.Properties["subject"].MinLength = jsonschema.Ptr(1)
			s.Properties["subject"].MaxLength = jsonschema.Ptr(maxSubject)
		},
		Timeout:     30 * time.Second, // of passing it on; waiting for the answer has no part in it
		Attempts:    3,                // the idempotency key tells a repetition from a second request
		Deadline:    48 * time.Hour,
		FailureText: "I am sorry, nobody has answered that.",

		// An answer can come within seconds, and then needs no announcement.
		Hold:      "I have passed it on, and will tell you as soon as there is an answer.",
		HoldAfter: 20 * time.Second,

		// Who asks again is impatient, and does not mean a second request. A
		// model seldom uses the same capitals and spaces twice.
		Repeat: asynctool.Join,
		SameAs: func(in notifyInput) string { return strings.ToLower(oneLine(in.Subject)) },

		// Most answers come after the call, and the caller was promised to be
		// told. To be called is what somebody expects who has heard that, and
		// not to have to call again, as with NextCall. Where calling back is
		// not switched on, the answer is announced, and a rule on the bus can
		// send it as a text message.
		AfterCall: asynctool.CallBack,

		Run: func(ctx context.Context, call asynctool.Call, in notifyInput) (asynctool.Result, error) {
			if requestsURL == "" {
				return asynctool.Result{}, notSetUp(errors.New("the environment variable REQUESTS_API_URL is not set"))
			}
			base, err := webAddress(requestsURL)
			if err != nil {
				return asynctool.Result{}, notSetUp(fmt.Errorf("the environment variable REQUESTS_API_URL %w", err))
			}
			subject := oneLine(in.Subject)
			if subject == "" || utf8.RuneCountInString(subject) > maxSubject {
				return asynctool.Result{}, asynctool.Fail(fmt.Sprintf("I need to know what it is about, in at most %d characters.", maxSubject), nil)
			}
			completionURL, err := call.CompletionURL(ctx)
			if err != nil {
				return asynctool.Result{}, asynctool.TryAgain(0, notPassedOn, fmt.Errorf("there is nowhere to post the answer to: %w", err))
			}
			var body bytes.Buffer
			e := json.NewEncoder(&body)
			e.SetEscapeHTML(false) // a person may read it as it is
			if err := e.Encode(request{
				Subject: subject, CompletionURL: completionURL, IdempotencyKey: call.IdempotencyKey(),
				CallID: call.ID, CustomerNumber: call.CustomerNumber,
			}); err != nil {
				return asynctool.Result{}, asynctool.Fail(notPassedOn, err)
			}
			r, err := newRequest(ctx, http.MethodPost, base.JoinPath("requests"), &body)
			if err != nil {
				return asynctool.Result{}, err
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Idempotency-Key", call.IdempotencyKey())
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			if _, err := ask(r); err != nil {
				// FailureText is about an answer that did not come.
				if said, ok := errors.AsType[*asynctool.Error](err); ok {
					said.Spoken = notPassedOn
				}
				return asynctool.Result{}, err
			}
			return asynctool.Wait(), nil
		},
	}
}
