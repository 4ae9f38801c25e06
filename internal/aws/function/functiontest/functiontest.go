// Package functiontest stands in for what surrounds a function: an API Gateway HTTP API, and an environment that names
// stand-ins for AWS.
package functiontest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/aws/function"
)

// Gateway returns a handler that turns each request for a route into an event, and serves the event
// with h as [function.HTTP] does.
func Gateway(route string, h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // the client went away
		}
		response, err := Serve(r.Context(), h, Event(route, r, body, "test", time.Now()))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		for name, value := range response.Headers {
			w.Header().Set(name, value)
		}
		w.WriteHeader(response.StatusCode)
		io.WriteString(w, response.Body)
	})
	return mux
}

// Serve serves an event with h as [function.HTTP] does.
func Serve(
	ctx context.Context, h http.Handler, event events.APIGatewayV2HTTPRequest,
) (response events.APIGatewayV2HTTPResponse, err error) {
	payload, err := json.Marshal(event)
	if err != nil {
		return response, err
	}
	answer, err := function.HTTP{Handler: h}.Invoke(ctx, payload)
	if err != nil {
		return response, err
	}
	return response, json.Unmarshal(answer, &response)
}

// parameter matches a path parameter in a route.
var parameter = regexp.MustCompile(`\{(\w+)\}`)

// Event returns the event (payload format 2.0) of a request for a route, such as "POST /vapi" or
// "POST /results/{token}". Path parameters come from [http.Request.PathValue].
func Event(route string, r *http.Request, body []byte, id string, at time.Time) events.APIGatewayV2HTTPRequest {
	headers := make(map[string]string, len(r.Header)+1)
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	headers["host"] = r.Host
	query := make(map[string]string)
	for name, values := range r.URL.Query() {
		query[name] = strings.Join(values, ",")
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	var parameters map[string]string // nil if the route has none, as with an HTTP API
	for _, match := range parameter.FindAllStringSubmatch(route, -1) {
		if parameters == nil {
			parameters = make(map[string]string)
		}
		parameters[match[1]] = r.PathValue(match[1])
	}
	text, encoded := string(body), false
	if !textual(r.Header.Get("Content-Type")) {
		text, encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return events.APIGatewayV2HTTPRequest{
		Version:               "2.0",
		RouteKey:              route,
		RawPath:               r.URL.EscapedPath(),
		RawQueryString:        r.URL.RawQuery,
		Headers:               headers,
		QueryStringParameters: query,
		PathParameters:        parameters,
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey:     route,
			AccountID:    "000000000000",
			Stage:        "$default",
			RequestID:    id,
			APIID:        "local",
			DomainName:   r.Host,
			DomainPrefix: "local",
			Time:         at.UTC().Format("02/Jan/2006:15:04:05 +0000"),
			TimeEpoch:    at.UnixMilli(),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method: r.Method, Path: r.URL.Path, Protocol: r.Proto, SourceIP: host, UserAgent: r.UserAgent(),
			},
		},
		Body:            text,
		IsBase64Encoded: encoded,
	}
}

// textual reports whether an HTTP API passes a body on unchanged. It encodes all others in base64.
func textual(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch kind {
	case "application/json", "application/javascript", "application/xml":
		return true
	}
	return strings.HasPrefix(kind, "text/")
}
