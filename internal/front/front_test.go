package front_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/front"
	"github.com/ringback/ringback/internal/gateway"
)

// saying is a handler that answers with its name, and a token where it has one.
func saying(name string) front.Function {
	return func(_ context.Context, r events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		return events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: name + r.PathParameters["token"]}, nil
	}
}

var handler = front.Handler{Webhooks: saying("webhooks "), Completion: saying("completion ")}

func TestHandle(t *testing.T) {
	for name, row := range map[string]struct{ key, path, want string }{
		"webhook":                      {"POST /vapi", "/vapi", "webhooks "},
		"webhook at another path":      {"POST /hooks/vapi", "/hooks/vapi", "webhooks "},
		"result":                       {completion.Route, "/results/a.b.c", "completion "},
		"result at a stage's path":     {completion.Route, "/dev/results/a.b.c", "completion "},
		"result, for all paths":        {"$default", "/results/a.b.c", "completion "},
		"webhook, for all paths":       {"$default", "/vapi", "webhooks "},
		"nothing":                      {"", "", "webhooks "},
		"a webhook that names results": {"POST /vapi", "/vapi/results/x", "webhooks "},
	} {
		got, err := handler.Handle(t.Context(), events.APIGatewayV2HTTPRequest{RouteKey: row.key, RawPath: row.path})
		if err != nil || got.Body != row.want {
			t.Errorf("%s: %q, %v, want %q", name, got.Body, err, row.want)
		}
	}
}

// TestGateway goes through the local gateway, as requests do in a local run.
func TestGateway(t *testing.T) {
	server := httptest.NewServer(gateway.Handler(handler.Handle, slog.New(slog.DiscardHandler), "POST /vapi", completion.Route))
	defer server.Close()
	for path, want := range map[string]string{"/vapi": "webhooks ", "/results/a.b-c_d": "completion a.b-c_d"} {
		response, err := http.Post(server.URL+path, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		n, _ := response.Body.Read(got)
		response.Body.Close()
		if string(got[:n]) != want {
			t.Errorf("%s: %q, want %q", path, got[:n], want)
		}
	}
}
