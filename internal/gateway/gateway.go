// Package gateway is an Amazon API Gateway HTTP API on this machine: it turns
// a request into the event that a Lambda function is called with (payload
// format 2.0), and the function's answer into a response.
package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// maxBody is the largest body that an HTTP API takes: 10 MB (Amazon API
// Gateway quotas).
const maxBody = 10 << 20

// Function is a Lambda function behind an HTTP API.
type Function func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// Handler serves routes, such as "POST /vapi" and "POST /results/{token}", with
// one function; every other request gets the 404 that an HTTP API gives.
func Handler(function Function, log *slog.Logger, routes ...string) http.Handler {
	mux := http.NewServeMux()
	var serial atomic.Int64
	for _, route := range routes {
		mux.Handle(route, serve(route, function, log, &serial))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		respond(w, http.StatusNotFound, nil, `{"message":"Not Found"}`)
	})
	return mux
}

func serve(route string, function Function, log *slog.Logger, serial *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			respond(w, http.StatusRequestEntityTooLarge, nil, `{"message":"Request Entity Too Large"}`)
			return
		case err != nil:
			return // the client went away
		}
		request := Request(route, r, body, "local-"+strconv.FormatInt(serial.Add(1), 10), time.Now())
		response, err := function(r.Context(), request)
		if err != nil {
			log.Error("the function failed", "error", err)
			respond(w, http.StatusInternalServerError, nil, `{"message":"Internal Server Error"}`)
			return
		}
		text := response.Body
		if response.IsBase64Encoded {
			decoded, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				log.Error("the function's body is not base64", "error", err)
				respond(w, http.StatusInternalServerError, nil, `{"message":"Internal Server Error"}`)
				return
			}
			text = string(decoded)
		}
		respond(w, response.StatusCode, response.Headers, text)
	})
}

// parameter is a part of a route's path that can be anything.
var parameter = regexp.MustCompile(`\{(\w+)\}`)

// Request is the event for a request to a route. What the path's parameters
// are comes from [http.Request.PathValue].
func Request(route string, r *http.Request, body []byte, id string, at time.Time) events.APIGatewayV2HTTPRequest {
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
	var parameters map[string]string // nil where the route has none, as with an HTTP API
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

// textual says which bodies an HTTP API passes on as they are; it encodes all
// others in base64.
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

func respond(w http.ResponseWriter, status int, headers map[string]string, body string) {
	w.Header().Set("Content-Type", "application/json")
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(status)
	io.WriteString(w, body)
}
