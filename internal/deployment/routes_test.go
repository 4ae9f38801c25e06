package deployment_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/deployment"
)

// TestFront serves the events of routes that an API may have.
func TestFront(t *testing.T) {
	says := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, name+r.PathValue("token"))
		})
	}
	front := deployment.Front(says("webhook "), says("completion "))
	for name, row := range map[string]struct{ key, path, token, want string }{
		"webhook":                      {deployment.WebhookRoute, "/vapi", "", "webhook "},
		"webhook at another path":      {"POST /hooks/vapi", "/hooks/vapi", "", "webhook "},
		"webhook at a stage's path":    {deployment.WebhookRoute, "/dev/vapi", "", "webhook "},
		"webhook, doubled slash":       {deployment.WebhookRoute, "//vapi", "", "webhook "},
		"webhook that names results":   {deployment.WebhookRoute, "/vapi/results/x", "", "webhook "},
		"webhook, for all paths":       {"$default", "/vapi", "", "webhook "},
		"doubled slash, for all paths": {"$default", "//vapi", "", "webhook "},
		"nothing":                      {"", "", "", "webhook "},
		"result":                       {deployment.CompletionRoute, "/results/a.b-c_d", "a.b-c_d", "completion a.b-c_d"},
		"result at a stage's path":     {deployment.CompletionRoute, "/dev/results/a.b", "a.b", "completion a.b"},
		"result, for all paths":        {"$default", "/results/a.b", "", "completion a.b"},
		"result without its parameter": {deployment.CompletionRoute, "/results/a.b", "", "completion a.b"},
		"token with a slash":           {deployment.CompletionRoute, "/results/a%2Fb", "a/b", "completion a/b"},
		"token that leads elsewhere":   {deployment.CompletionRoute, "/results/..", "..", "completion .."},
		"token of a dot":               {deployment.CompletionRoute, "/results/.", ".", "completion ."},
	} {
		event := events.APIGatewayV2HTTPRequest{
			RouteKey: row.key, RawPath: row.path, PathParameters: map[string]string{"token": row.token},
		}
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodConnect} {
			event.RequestContext.HTTP.Method = method
			got, err := functiontest.Serve(t.Context(), front, event)
			if err != nil || got.StatusCode != http.StatusOK || got.Body != row.want {
				t.Errorf("%s, %s: %d %q, %v, want %q", name, method, got.StatusCode, got.Body, err, row.want)
			}
		}
	}
	// The local run serves the same mux with net/http.
	for path, want := range map[string]string{
		"/vapi": "webhook ", "/results/a.b-c_d": "completion a.b-c_d", "/results/a%2Fb": "completion a/b",
	} {
		w := httptest.NewRecorder()
		front.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, nil))
		if w.Code != http.StatusOK || w.Body.String() != want {
			t.Errorf("%s: %d %q, want %q", path, w.Code, w.Body, want)
		}
	}
}
