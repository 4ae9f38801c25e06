package deployment

import "net/http"

const (
	// WebhookPath is where Vapi posts its webhooks.
	WebhookPath = "/vapi"
	// CompletionPath, followed by a job's token, is where an external system
	// posts the job's result.
	CompletionPath = "/results/"

	// WebhookRoute and CompletionRoute are the routes of the HTTP API.
	WebhookRoute    = "POST " + WebhookPath
	CompletionRoute = "POST " + CompletionPath + "{token}"
)

// Front returns the handler behind the HTTP API. It gives completions the path
// value "token". Everything else is a webhook: the API has the routes above, and
// those that an operator adds for Vapi. Both handlers refuse other methods.
func Front(webhooks, completions http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/", webhooks)
	mux.Handle(CompletionPath+"{token}", completions)
	return mux
}
