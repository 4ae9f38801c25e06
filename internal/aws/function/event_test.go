package function_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/httpjson"
)

// readRequest is what a handler reads of a request.
type readRequest struct {
	Method, Host, RequestURI, Path string
	Header                         map[string][]string
	Received                       time.Time
	Body                           string
	BodyErr                        bool
}

// hostileEvents have what API Gateway does not send.
var hostileEvents = []string{
	``, ` `, `null`, ` null `, `nul`, `[]`, `"x"`, `{}`, `{} {}`, `{"body":"x"}}`, `{"body":"\`, `{"requestContext":null}`,
	`{"body":null,"headers":null,"isBase64Encoded":null}`, `{"BODY":"x","isbase64encoded":false}`,
	`{"body":"a","body":null}`, `{"body":"a","Body":"b"}`, `{"Body":"b","body":"a"}`, `{"body":"a","body":"b"}`,
	`{"body":5}`, `{"body":{}}`, `{"isBase64Encoded":"true"}`, `{"isBase64Encoded":1}`, `{"version":2.0}`,
	`{"requeſtContext":{"http":{"method":"PUT"}},"body":"x"}`, `{"headers":{"\u212aey":"x"}}`,
	`{"headers":{"a":"1","A":"2","a":"3"}}`, `{"headers":{"a":"1"},"headers":{"b":"2"}}`, `{"headers":{"a":null,"b":""}}`,
	`{"headers":{"a":"1"},"headers":null,"headers":{"c":"3"}}`, `{"headers":{"a":["1"]}}`, `{"headers":["a"]}`,
	`{"headers":{"a":"1"},"headers":{"a":null}}`, `{"headers":{"":"x","a b":"y","é":"z"}}`,
	"{\"headers\":{\"a\xff\":\"\xff\xfe\"},\"body\":\"\xff\\u00e9\"}",
	"{\"headers\":{\"a\xff\":\"1\",\"a\\ufffd\":\"2\"}}",
	`{"requestContext":{"timeEpoch":1.5}}`, `{"requestContext":{"timeEpoch":"1"}}`, `{"requestContext":{"timeEpoch":1e3}}`,
	`{"requestContext":{"timeEpoch":9223372036854775808}}`, `{"requestContext":{"timeEpoch":-5}}`, `{"requestContext":[]}`,
	`{"requestContext":{"timeEpoch":9223372036854775807}}`, `{"requestContext":{"http":"x"}}`, `{"cookies":"a"}`,
	`{"requestContext":{"http":{"method":"A"}},"requestContext":{"http":{"path":"/"}}}`, `{"cookies":["a",null]}`,
	`{"requestContext":{"authorizer":{"lambda":{"a":1e999}}}}`, `{"requestContext":{"authorizer":{"jwt":{"scopes":"x"}}}}`,
	`{"requestContext":{"authorizer":null,"authentication":{"clientCert":{"validity":{"notAfter":1}}}}}`,
	`{"stageVariables":{"a":1}}`, `{"queryStringParameters":{"a":"1"}}`, `{"queryStringParameters":[]}`,
	`{"requestContext":{"stage":1}}`,
	`{"routeKey":"POST /a/{x}/{y}","rawPath":"/a//b","rawQueryString":"q=1","pathParameters":{"x":"1","x":"..","y":"é/"}}`,
	`{"body":"\ud83d\ude00 \ud83d \ude00\ud83d\u0041\ud83d\ud83d\ude00\ud83dx\ud83d"}`,
	`{"body":"\u0000\"\\\/\b\f\n\r\t\u20ac 12345678\"12345678\\"}`, `{"body":"e30=","isBase64Encoded":true}`,
	`{"body":"e3\n0=\r","isBase64Encoded":true}`, `{"body":"e30","isBase64Encoded":true}`, `{"isBase64Encoded":true}`,
	"{\"body\":\"e30=\xff\",\"isBase64Encoded\":true}",
	`{"x":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`,
	`{"x":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`,
}

// FuzzEvent compares the requests of events with what encoding/json reads of them.
func FuzzEvent(f *testing.F) {
	samples, err := filepath.Glob("../../../events/ack/*.json")
	if err != nil || len(samples) == 0 {
		f.Fatalf("there are no samples: %v", err)
	}
	for _, sample := range samples {
		payload, err := os.ReadFile(sample)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	for _, payload := range hostileEvents {
		f.Add([]byte(payload))
		if rest, ok := strings.CutPrefix(payload, "{"); ok && !strings.HasPrefix(rest, "}") {
			f.Add([]byte(`{"requestContext":{"http":{"method":"POST"}},` + rest)) // else it is refused as foreign
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var event events.APIGatewayV2HTTPRequest
		wantErr := json.Unmarshal(payload, &event)
		at := time.UnixMilli(event.RequestContext.TimeEpoch)
		got, answer, err := invoke(bytes.Clone(payload), at)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err != nil {
			return
		}
		want := wantRequest(event)
		if want == nil {
			if got != nil || !bytes.Contains(answer, []byte(`"statusCode":500`)) {
				t.Fatalf("a foreign event was answered with %s", answer)
			}
			return
		}
		// The path depends on the route, and is that of the event as encoding/json writes it again.
		again, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		if same, _, err := invoke(again, at); err != nil || same == nil {
			t.Fatal(err)
		} else {
			want.Path = same.Path
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// invoke returns the request that an event makes one second after a time, and the answer. The request is nil if
// the event was refused.
func invoke(payload []byte, at time.Time) (r *readRequest, answer []byte, err error) {
	answer, err = function.HTTP{Handler: http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			body = nil
		}
		for _, values := range request.Header {
			slices.Sort(values)
		}
		r = &readRequest{
			Method: request.Method, Host: request.Host, RequestURI: request.RequestURI, Path: request.URL.EscapedPath(),
			Header: request.Header, Received: httpjson.Received(request.Context(), at.Add(time.Second)),
			Body: string(body), BodyErr: err != nil,
		}
	})}.Invoke(context.Background(), payload)
	return r, answer, err
}

// wantRequest returns the request of an event, without its path. It is nil if the event must be refused.
func wantRequest(event events.APIGatewayV2HTTPRequest) *readRequest {
	r := &readRequest{
		Method: event.RequestContext.HTTP.Method, Host: event.RequestContext.DomainName,
		RequestURI: event.RawPath, Header: map[string][]string{}, Body: event.Body,
		Received: time.UnixMilli(event.RequestContext.TimeEpoch),
	}
	if r.Method == "" {
		return nil
	}
	if event.RequestContext.TimeEpoch <= 0 { // it is unknown
		r.Received = r.Received.Add(time.Second)
	}
	if event.RawQueryString != "" {
		r.RequestURI += "?" + event.RawQueryString
	}
	for name, value := range event.Headers {
		http.Header(r.Header).Add(name, value)
	}
	for _, values := range r.Header {
		slices.Sort(values)
	}
	if event.IsBase64Encoded {
		body, err := base64.StdEncoding.DecodeString(event.Body)
		if err != nil {
			body = nil
		}
		r.Body, r.BodyErr = string(body), err != nil
	}
	return r
}
