// Package front is the function behind the HTTP API: it gives each request to
// the handler of its route.
package front

import (
	"context"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/completion"
)

// Function answers the requests of a route.
type Function func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// Handler answers all requests. Neither of its parts may be nil.
type Handler struct {
	Webhooks   Function // every route but the one below
	Completion Function // [completion.Route]
}

// Handle answers a request.
func (h Handler) Handle(ctx context.Context, request events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	if completes(request) {
		return h.Completion(ctx, request)
	}
	return h.Webhooks(ctx, request)
}

// completes says whether a request is one of [completion.Route]. The route key
// says so; where it is one for all paths, the path does.
func completes(request events.APIGatewayV2HTTPRequest) bool {
	_, path, _ := strings.Cut(completion.Route, " ")
	path, _, _ = strings.Cut(path, "{")
	return request.RouteKey == completion.Route || strings.HasPrefix(request.RawPath, path)
}
