package shop

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
	"github.com/ringback/ringback/httptool"
)

type notifyInput struct {
	Subject string `json:"subject"`
}

// request is the body of the request to the other system.
type request struct {
	Subject string `json:"subject"`
	// CompletionURL takes the answer. Everyone who knows it can post an answer,
	// so it goes nowhere else.
	CompletionURL string `json:"completion_url"`
	// IdempotencyKey is the job's id, and all that names the call: with the call's id,
	// the other system could speak in the call.
	IdempotencyKey string `json:"idempotency_key"`
}

// requestsURL is the name of the setting with the address of the other system.
const requestsURL = "REQUESTS_API_URL"

// maxSubject bounds a subject, in characters, because a person has to read it.
const maxSubject = 500

// notPassedOn is delivered if the other system did not accept the request.
const notPassedOn = "I'm sorry, I couldn't pass that on."

// NotifyWhenReady returns a tool that passes a question to an external system, such
// as a manager's or a warehouse's. The caller gets the answer when it is ready. The
// tool posts the question to {REQUESTS_API_URL}/requests as JSON {"subject",
// "completion_url", "idempotency_key"}. Any 2xx accepts it. The system posts its
// answer to the completion_url within two days. The request has REQUESTS_API_TOKEN as
// its bearer token unless it is empty. getenv returns the values of both.
func NotifyWhenReady(getenv func(string) string) asynctool.Definition {
	return asynctool.Tool[notifyInput]{
		Name: "notify_when_ready",
		Description: "Passes a question on to a person or another department: an approval, or what the warehouse " +
			"has to look up. Needs what to find out or approve. Takes minutes, sometimes a day or two. The answer " +
			"follows when it is ready.",
		Refine: func(s *jsonschema.Schema) {
			subject := s.Properties["subject"]
			subject.Description = "what to find out or approve, in a sentence that a person who has not heard the call " +
				"understands: with names, numbers and articles"
			subject.MinLength, subject.MaxLength = jsonschema.Ptr(1), jsonschema.Ptr(maxSubject)
		},
		Timeout:       30 * time.Second, // to pass the question on, without the wait for its answer
		Attempts:      3,                // the idempotency key distinguishes a repetition from a second request
		Deadline:      48 * time.Hour,
		FailureText:   "I'm sorry, I haven't received an answer to that.",
		Settings:      []string{requestsURL},
		Getenv:        getenv,
		CheckSettings: httptool.CheckAddresses(requestsURL),

		// An answer can arrive within seconds. The hold message is then unnecessary.
		Hold:      "I've passed that on. I'll tell you as soon as there's an answer.",
		HoldAfter: 20 * time.Second,

		// The caller waits for a person, and likes to hear that one is looking at it. Without this line, the
		// assistant only mentions it if the caller asks.
		ExternalProgress: asynctool.Respond,

		// A caller who asks again is impatient and does not want a second
		// request. Models seldom repeat capitals and spaces exactly.
		Repeat: asynctool.Join,
		SameAs: func(in notifyInput) string { return strings.ToLower(oneLine(in.Subject)) },

		// Most answers arrive after the call, and the caller was promised one.
		// The caller therefore expects to be called, and not to have to call
		// again, as with NextCall. Without outbound calls, the answer becomes
		// an undelivered event, which a rule on the bus can send as a text
		// message.
		AfterCall: asynctool.CallBack,

		Run: func(ctx context.Context, call asynctool.Call, in notifyInput) (asynctool.Result, error) {
			base, err := httptool.Address(getenv(requestsURL))
			if err != nil {
				return asynctool.Result{}, asynctool.NotSetUp(err)
			}
			subject := oneLine(in.Subject)
			if subject == "" || utf8.RuneCountInString(subject) > maxSubject {
				return asynctool.Result{}, asynctool.Fail(
					fmt.Sprintf("I need to know what it's about, in at most %d characters.", maxSubject), nil)
			}
			completionURL, err := call.CompletionURL(ctx)
			if err != nil {
				return asynctool.Result{}, asynctool.TryAgain(0, notPassedOn, err)
			}
			var body bytes.Buffer
			e := json.NewEncoder(&body)
			e.SetEscapeHTML(false) // a person may read it unformatted
			if err := e.Encode(request{
				Subject: subject, CompletionURL: completionURL, IdempotencyKey: call.IdempotencyKey(),
			}); err != nil {
				return asynctool.Result{}, asynctool.Fail(notPassedOn, err)
			}
			r, err := httptool.NewRequest(ctx, http.MethodPost, base.JoinPath("requests"), &body)
			if err != nil {
				return asynctool.Result{}, err
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Idempotency-Key", call.IdempotencyKey())
			if token := getenv("REQUESTS_API_TOKEN"); token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			if _, err := httptool.Do(r); err != nil {
				// FailureText is for an answer that did not arrive.
				if said, ok := errors.AsType[*asynctool.Error](err); ok {
					said.Spoken = notPassedOn
				}
				return asynctool.Result{}, err
			}
			return asynctool.Wait(), nil
		},
	}
}
