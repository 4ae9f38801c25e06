package deployment

import "net/http"

const (
	// WebhookPath is the path to which Vapi posts its webhooks.
	WebhookPath = "/vapi"
	// CompletionPath, followed by a job's token, is the path to which an external system posts the
	// job's result.
	CompletionPath = "/results/"

	// WebhookRoute and CompletionRoute are the routes of the HTTP API.
	WebhookRoute    = "POST " + WebhookPath
	CompletionRoute = "POST " + CompletionPath + "{token}"
)

// Front returns the handler behind the HTTP API. The completions handler gets the path value "token".
// All other requests are webhooks, since the API has only the routes above, and routes that an
// operator adds for Vapi. Both handlers refuse other methods than POST.
func Front(webhooks, completions http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/", webhooks)
	mux.Handle(CompletionPath+"{token}", completions)
	return mux
}
