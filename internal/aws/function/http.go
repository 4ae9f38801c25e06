package function

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/httpjson"
)

// HTTP is the Lambda function behind an API Gateway HTTP API (payload format 2.0). It serves requests
// with an [http.Handler], without a server.
//
// The handler's request has the path of the route that API Gateway chose, without a stage or
// doubled slashes. Path parameters replace the parts in braces. So a mux neither redirects nor
// misses a request that API Gateway accepted. If the route has no path, such as $default, the
// request has its own path, cleaned.
//
// Its context shows when API Gateway received it (httpjson.Received). RequestURI is the path and query
// as API Gateway received them. The body is the one that the
// client sent: base64 is decoded.
type HTTP struct{ http.Handler }

// Handle serves one request. It never returns an error. It refuses an event of another shape with
// status 500, and says what to change.
func (h HTTP) Handle(
	ctx context.Context, event events.APIGatewayV2HTTPRequest,
) (events.APIGatewayV2HTTPResponse, error) {
	var w response
	if why := foreign(event); why != "" {
		slog.ErrorContext(ctx, "event refused", "error", why)
		httpjson.Write(&w, http.StatusInternalServerError, httpjson.Object("error", why))
		return w.event(), nil
	}
	h.ServeHTTP(&w, request(ctx, event))
	return w.event(), nil
}

// foreign returns what to change if an event is not one of an HTTP API with payload format 2.0, and
// "" otherwise. The events of other senders have their method elsewhere (AWS's documentation of API
// Gateway's payload formats, and of load balancers with Lambda targets).
func foreign(event events.APIGatewayV2HTTPRequest) string {
	switch {
	case event.RequestContext.HTTP.Method != "":
		return ""
	case event.Version == "1.0":
		return "the event has API Gateway's payload format 1.0: set the payload format version of the integration to 2.0"
	}
	return "the event is not one of API Gateway's payload format 2.0: invoke this function by an HTTP API or a " +
		"function URL, as a REST API and a load balancer send other events"
}

func request(ctx context.Context, event events.APIGatewayV2HTTPRequest) *http.Request {
	r := &http.Request{
		Method:     event.RequestContext.HTTP.Method,
		URL:        route(event),
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     make(http.Header, len(event.Headers)),
		Host:       event.RequestContext.DomainName,
		RequestURI: event.RawPath,
		Body:       &body{text: event.Body, encoded: event.IsBase64Encoded},
	}
	if event.RawQueryString != "" {
		r.RequestURI += "?" + event.RawQueryString
	}
	for name, value := range event.Headers {
		r.Header.Add(name, value)
	}
	r.ContentLength = int64(len(event.Body))
	if event.IsBase64Encoded {
		padding := len(event.Body) - len(strings.TrimRight(event.Body, "="))
		r.ContentLength = int64(base64.StdEncoding.DecodedLen(len(event.Body)) - padding)
	}
	if received := event.RequestContext.TimeEpoch; received > 0 {
		ctx = httpjson.WithReceived(ctx, time.UnixMilli(received))
	}
	return r.WithContext(ctx)
}

// route returns the path and query of the route that API Gateway chose.
func route(event events.APIGatewayV2HTTPRequest) *url.URL {
	own := &url.URL{Path: path.Clean("/" + event.RawPath), RawQuery: event.RawQueryString}
	_, pattern, ok := strings.Cut(event.RouteKey, " ")
	if !ok {
		return own
	}
	if !strings.Contains(pattern, "{") {
		own.Path = pattern
		return own
	}
	var plain, escaped strings.Builder
	for segment := range strings.SplitSeq(strings.TrimPrefix(pattern, "/"), "/") {
		value := segment
		if strings.HasPrefix(segment, "{") { // {name}, or {name+}, which is several segments
			value = event.PathParameters[strings.Trim(segment, "{}")]
		}
		if value == "" {
			return own
		}
		plain.WriteString("/" + value)
		// Without escapes, a mux would see two parts in a parameter with a slash, and another route
		// in "..".
		escaped.WriteString("/" + strings.ReplaceAll(url.PathEscape(value), ".", "%2E"))
	}
	return &url.URL{Path: plain.String(), RawPath: escaped.String(), RawQuery: event.RawQueryString}
}

// body is the body of an event. It is decoded when it is read, since some requests are refused before.
type body struct {
	text    string
	encoded bool // in base64
	reader  *bytes.Reader
}

// Bytes returns the whole body. It saves a reader of all of it a copy.
func (b *body) Bytes() ([]byte, error) {
	if b.encoded {
		return base64.StdEncoding.DecodeString(b.text)
	}
	return []byte(b.text), nil
}

func (b *body) Read(p []byte) (int, error) {
	if b.reader == nil {
		whole, err := b.Bytes()
		if err != nil {
			return 0, err
		}
		b.reader = bytes.NewReader(whole)
	}
	return b.reader.Read(p)
}

func (b *body) Close() error { return nil }

// response is an [http.ResponseWriter].
type response struct {
	status int // 0 means that nothing was written
	header http.Header
	body   bytes.Buffer
}

func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *response) event() events.APIGatewayV2HTTPResponse {
	w.WriteHeader(http.StatusOK)
	event := events.APIGatewayV2HTTPResponse{StatusCode: w.status, Headers: make(map[string]string, len(w.header))}
	for name, values := range w.header {
		event.Headers[name] = strings.Join(values, ",")
	}
	if b := w.body.Bytes(); utf8.Valid(b) {
		event.Body = string(b)
	} else {
		event.Body, event.IsBase64Encoded = base64.StdEncoding.EncodeToString(b), true
	}
	return event
}
