package function

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/httpjson"
	"github.com/ringback/ringback/internal/jsonscan"
)

// HTTP is the Lambda function behind an API Gateway HTTP API (payload format 2.0). It serves requests
// with an [http.Handler], without a server. It is a lambda.Handler and reads the event itself, because
// encoding/json needs more CPU for an event with a long body than everything else.
//
// The handler's request has the path of the route that API Gateway chose, without a stage or
// doubled slashes. Path parameters replace the parts in braces. So a mux neither redirects nor
// misses a request that API Gateway accepted. If the route has no path, such as $default, the
// request has its own path, cleaned.
//
// Its context shows when API Gateway received it (httpjson.Received). RequestURI is the path and query
// as API Gateway received them. The body is the one that the client sent, base64 decoded. It is in the
// memory of the event, which Lambda's client uses again for the next one, so the handler must not keep it.
type HTTP struct{ http.Handler }

// Invoke serves the request of one event, and writes over the event. It refuses an event of another shape
// with status 500, and says what to change. It returns an error if the event is not JSON, or if a member
// has another type.
func (h HTTP) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	e, err := parseEvent(payload)
	if err != nil {
		return nil, err
	}
	var w response
	if why := foreign(e); why != "" {
		slog.ErrorContext(ctx, "event refused", "error", why)
		httpjson.Write(&w, http.StatusInternalServerError, httpjson.Object("error", why))
	} else {
		h.ServeHTTP(&w, request(ctx, e))
	}
	return w.json()
}

// foreign returns what to change if an event is not one of an HTTP API with payload format 2.0, and
// "" otherwise. The events of other senders have their method elsewhere (AWS's documentation of API
// Gateway's payload formats, and of load balancers with Lambda targets).
func foreign(e *event) string {
	switch {
	case e.method != "":
		return ""
	case e.version == "1.0":
		return "the event has API Gateway's payload format 1.0: set the payload format version of the integration to 2.0"
	}
	return "the event is not one of API Gateway's payload format 2.0: invoke this function by an HTTP API or a " +
		"function URL, as a REST API and a load balancer send other events"
}

func request(ctx context.Context, e *event) *http.Request {
	r := &http.Request{
		Method:        e.method,
		URL:           route(e),
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        e.headers.header(),
		Host:          e.domain,
		RequestURI:    e.rawPath,
		Body:          &body{whole: e.body, encoded: e.encoded},
		ContentLength: int64(len(e.body.Text)),
	}
	if e.encoded {
		padding := len(e.body.Text) - len(bytes.TrimRight(e.body.Text, "="))
		r.ContentLength = int64(base64.StdEncoding.DecodedLen(len(e.body.Text)) - padding)
	}
	if e.rawQuery != "" {
		r.RequestURI += "?" + e.rawQuery
	}
	if e.received > 0 {
		ctx = httpjson.WithReceived(ctx, time.UnixMilli(e.received))
	}
	return r.WithContext(ctx)
}

// route returns the path and query of the route that API Gateway chose.
func route(e *event) *url.URL {
	own := &url.URL{Path: path.Clean("/" + e.rawPath), RawQuery: e.rawQuery}
	_, pattern, ok := strings.Cut(e.routeKey, " ")
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
			value = e.parameters.get(strings.Trim(segment, "{}"))
		}
		if value == "" {
			return own
		}
		plain.WriteString("/" + value)
		// Without escapes, a mux would see two parts in a parameter with a slash, and another route
		// in "..".
		escaped.WriteString("/" + strings.ReplaceAll(url.PathEscape(value), ".", "%2E"))
	}
	return &url.URL{Path: plain.String(), RawPath: escaped.String(), RawQuery: e.rawQuery}
}

// body is the body of an event. Base64 is decoded when it is read, since some requests are refused before.
type body struct {
	whole   jsonscan.Document
	encoded bool // whole is in base64
	err     error
	reader  *bytes.Reader
}

// Document returns the whole body. It saves a reader of all of it a copy, and a reader of its JSON a check.
func (b *body) Document() (jsonscan.Document, error) {
	if b.encoded {
		b.encoded = false
		// The decoder writes three bytes after it has read four.
		var n int
		n, b.err = base64.StdEncoding.Decode(b.whole.Text, b.whole.Text)
		b.whole = jsonscan.Document{Text: b.whole.Text[:n]}
	}
	return b.whole, b.err
}

func (b *body) Read(p []byte) (int, error) {
	if b.reader == nil {
		whole, err := b.Document()
		if err != nil {
			return 0, err
		}
		b.reader = bytes.NewReader(whole.Text)
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

// json returns the answer as API Gateway reads it.
func (w *response) json() ([]byte, error) {
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
	var answer bytes.Buffer
	encoder := json.NewEncoder(&answer)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(event)
	return answer.Bytes(), err
}
