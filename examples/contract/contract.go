// Package contract contains a tool that waits for hours: a service has a document signed, and reports that with
// webhooks of its own format. List [Tool] in the tools of a project, or copy the folder.
package contract

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
)

// The settings: the address of the service, and the secret that it signs its webhooks with.
const (
	serviceURL = "SIGNING_API_URL"
	secret     = "SIGNING_WEBHOOK_SECRET"
)

const notSent = "I'm sorry, I couldn't send the contract."

type input struct {
	Contract string `json:"contract" jsonschema:"the number of the contract as the caller says it, for example C-17"`
}

// request is the body of the request to the service.
type request struct {
	Contract string `json:"contract"`
	// Reference is in each webhook about this document. It names the job, and reveals nothing of the call.
	Reference string `json:"reference"`
	// WebhookURL takes the webhooks. It is a secret.
	WebhookURL string `json:"webhook_url"`
}

// Tool returns a tool that sends a contract to be signed. It posts JSON {"contract", "reference", "webhook_url"}
// to {SIGNING_API_URL}/documents, and 2xx accepts it. Within eight hours, the service posts webhooks to the
// webhook_url: forms with the fields event ("opened", "signed" or "declined") and reference. The header
// X-Signature has the HMAC-SHA256 of the timestamp in X-Timestamp, a dot and the body, in hexadecimal, with the
// key SIGNING_WEBHOOK_SECRET. getenv returns the values of both settings.
func Tool(getenv func(string) string) asynctool.Definition {
	return asynctool.Tool[input]{
		Name: "sign_contract",
		Description: "Sends a contract to the customer by email, to be signed. Needs the number of the contract. Takes " +
			"minutes to hours. The answer follows when it is signed.",
		Timeout:       30 * time.Second, // to send the contract, without the wait
		Attempts:      3,                // the service knows the document by its reference
		Deadline:      8 * time.Hour,
		FailureText:   "The contract wasn't signed in time.",
		Settings:      []string{serviceURL, secret},
		Getenv:        getenv,
		CheckSettings: httptool.CheckAddresses(serviceURL),

		// Customers who have their mail at hand sign within a minute.
		Hold:      "You should have an email with the contract now. I'll tell you when I see your signature.",
		HoldAfter: 30 * time.Second,

		Repeat:      asynctool.Join,
		SameAs:      func(in input) string { return strings.ToUpper(strings.TrimSpace(in.Contract)) },
		Cancellable: true, // a later signature gets no answer in the call

		// Most customers sign after the call, and know that they have. They need no call for that.
		AfterCall: asynctool.NextCall,

		Run: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
			base, err := httptool.Address(getenv(serviceURL))
			if err != nil {
				return asynctool.Result{}, asynctool.NotSetUp(err)
			}
			contract, ok := asynctool.Identifier(in.Contract)
			if !ok {
				return asynctool.Result{}, asynctool.Fail("That doesn't look like the number of a contract. Please check it.", nil)
			}
			webhookURL, err := call.CompletionURL(ctx)
			if err != nil {
				return asynctool.Result{}, asynctool.TryAgain(0, notSent, err)
			}
			body := request{Contract: contract, Reference: call.IdempotencyKey(), WebhookURL: webhookURL}
			r, err := httptool.NewJSONRequest(ctx, http.MethodPost, base.JoinPath("documents"), body)
			if err != nil {
				return asynctool.Result{}, err
			}
			if _, err := httptool.Do(r); err != nil {
				if said, ok := errors.AsType[*asynctool.Error](err); ok {
					said.Spoken = notSent // FailureText is for a signature that did not arrive
				}
				return asynctool.Result{}, err
			}
			return asynctool.Wait(), nil
		},

		OnPost: func(ctx context.Context, call asynctool.Call, post asynctool.Post) (asynctool.Result, error) {
			service := asynctool.HMAC{Secret: getenv(secret), Header: "X-Signature", TimestampHeader: "X-Timestamp"}
			if err := service.Verify(post); err != nil {
				return asynctool.Result{}, err
			}
			form, err := url.ParseQuery(string(post.Body))
			switch {
			case err != nil:
				return asynctool.Result{}, errors.New("the webhook is not a form")
			case form.Get("reference") != call.IdempotencyKey():
				// Its signature is right. Yet another document must not complete this job.
				return asynctool.Result{}, errors.New("the webhook is about another document")
			}
			switch form.Get("event") {
			case "signed":
				return asynctool.Text("The contract is signed."), nil
			case "declined":
				return asynctool.Result{}, asynctool.Fail("The contract was declined.", nil)
			case "opened":
				call.Note(ctx, "The customer has opened the contract.")
			}
			return asynctool.Wait(), nil
		},
	}
}
