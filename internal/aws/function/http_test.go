package function_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/httpjson"
	"github.com/ringback/ringback/internal/jsonscan"
)

// served returns the request that an event makes, with its body, and the answer.
func served(
	t *testing.T, event events.APIGatewayV2HTTPRequest, serve http.HandlerFunc,
) (r *http.Request, body string, answer events.APIGatewayV2HTTPResponse) {
	t.Helper()
	if event.RequestContext.HTTP.Method == "" {
		event.RequestContext.HTTP.Method = "POST"
	}
	answer, err := functiontest.Serve(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r = request
		read, err := io.ReadAll(request.Body)
		if err != nil {
			t.Error(err)
		}
		body = string(read)
		serve(w, request)
	}), event)
	if err != nil {
		t.Fatal(err)
	}
	return r, body, answer
}

func nothing(http.ResponseWriter, *http.Request) {}

// TestSamples serves the sample events.
func TestSamples(t *testing.T) {
	names, err := filepath.Glob("../../../events/ack/*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("there are no samples: %v", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var event events.APIGatewayV2HTTPRequest
		if err := json.Unmarshal(text, &event); err != nil {
			t.Fatal(err)
		}
		r, body, _ := served(t, event, nothing)
		got := []string{r.Method, r.Host, r.URL.Path, r.RequestURI, r.Header.Get("Content-Type"), body}
		want := []string{
			"POST", "sample.execute-api.us-east-1.amazonaws.com", event.RawPath, event.RawPath, "application/json", event.Body,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestReceived tests that a handler knows when API Gateway received the request.
func TestReceived(t *testing.T) {
	now := time.Now()
	event := events.APIGatewayV2HTTPRequest{}
	event.RequestContext.TimeEpoch = now.Add(-3 * time.Second).UnixMilli()
	r, _, _ := served(t, event, nothing)
	if got := now.Sub(httpjson.Received(r.Context(), now)).Round(time.Second); got != 3*time.Second {
		t.Errorf("received %s ago, want 3s", got)
	}
}

func TestRequest(t *testing.T) {
	event := events.APIGatewayV2HTTPRequest{
		RouteKey: "POST /a/{x}/b/{y}", RawPath: "/stage//a/1/b/2", RawQueryString: "q=x%20y",
		PathParameters: map[string]string{"x": "../é", "y": "2"},
		Headers:        map[string]string{"x-LOWER": "1", "X-UPPER": "2", "twice": "a,b", "Twice": "c"},
	}
	event.RequestContext.HTTP.Method = "PUT"
	event.RequestContext.DomainName = "example.com"
	mux := http.NewServeMux()
	mux.HandleFunc("/a/{one}/b/{two}", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode([]string{r.PathValue("one"), r.PathValue("two"), r.URL.Query().Get("q")})
	})
	r, _, answer := served(t, event, mux.ServeHTTP)
	if answer.Body != `["../é","2","x y"]`+"\n" {
		t.Errorf("the mux found %d %s", answer.StatusCode, answer.Body)
	}
	if r.Method != "PUT" || r.Host != "example.com" || r.RequestURI != "/stage//a/1/b/2?q=x%20y" {
		t.Errorf("the request is %s %s %s", r.Method, r.Host, r.RequestURI)
	}
	if r.Header.Get("X-Lower") != "1" || r.Header.Get("x-upper") != "2" || len(r.Header.Values("twice")) != 2 {
		t.Errorf("the headers are %v", r.Header)
	}
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "of Lambda")
	_, _ = functiontest.Serve(ctx, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Context().Value(key{}) != "of Lambda" {
			t.Error("the context is lost")
		}
	}), event)
}

func TestBody(t *testing.T) {
	for _, want := range []string{"", "x", "xx", "xxx", "xxxx", "\x00\xff\r\n", strings.Repeat("é", 5000)} {
		for _, event := range []events.APIGatewayV2HTTPRequest{
			{Body: want}, {Body: base64.StdEncoding.EncodeToString([]byte(want)), IsBase64Encoded: true},
		} {
			want := want
			if !event.IsBase64Encoded {
				want = strings.ToValidUTF8(want, "\ufffd") // JSON has no other bytes
			}
			r, body, _ := served(t, event, nothing)
			if body != want || r.ContentLength != int64(len(want)) {
				t.Errorf("the body is %q of %d bytes, want %q", body, r.ContentLength, want)
			}
			whole, err := r.Body.(interface {
				Document() (jsonscan.Document, error)
			}).Document()
			if string(whole.Text) != want || err != nil {
				t.Errorf("the whole body is %q, %v, want %q", whole.Text, err, want)
			}
		}
	}
	for _, broken := range []string{"%%%", "e30_", "e3"} {
		event := events.APIGatewayV2HTTPRequest{Body: broken, IsBase64Encoded: true}
		event.RequestContext.HTTP.Method = "POST"
		_, _ = functiontest.Serve(t.Context(), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			for range 2 {
				_, err := r.Body.Read(make([]byte, 1))
				if _, ok := errors.AsType[base64.CorruptInputError](err); !ok {
					t.Errorf("%s: %v", broken, err)
				}
			}
		}), event)
	}
}

func TestResponse(t *testing.T) {
	for name, row := range map[string]struct {
		serve http.HandlerFunc
		want  events.APIGatewayV2HTTPResponse
	}{
		"nothing": {nothing, events.APIGatewayV2HTTPResponse{StatusCode: 200, Headers: map[string]string{}}},
		"a body": {
			func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "short and stout") },
			events.APIGatewayV2HTTPResponse{StatusCode: 200, Headers: map[string]string{}, Body: "short and stout"},
		},
		"everything": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("retry-after", "7")
				w.Header().Add("X", "a")
				w.Header().Add("X", "b")
				w.WriteHeader(418)
				w.WriteHeader(200)
				io.WriteString(w, "short ")
				io.WriteString(w, "and stout")
			},
			events.APIGatewayV2HTTPResponse{
				StatusCode: 418, Headers: map[string]string{"Retry-After": "7", "X": "a,b"}, Body: "short and stout",
			},
		},
		"bytes": {
			func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("\xff")) },
			events.APIGatewayV2HTTPResponse{StatusCode: 200, Headers: map[string]string{}, Body: "/w==", IsBase64Encoded: true},
		},
	} {
		if _, _, got := served(t, events.APIGatewayV2HTTPRequest{}, row.serve); !cmp.Equal(row.want, got) {
			t.Errorf("%s: %s", name, cmp.Diff(row.want, got))
		}
	}
}

// TestForeignEvents sends events of other senders, as AWS documents them.
func TestForeignEvents(t *testing.T) {
	const anythingElse = "the event is not one of API Gateway's payload format 2.0: invoke this function by an " +
		"HTTP API or a function URL, as a REST API and a load balancer send other events"
	for name, row := range map[string]struct{ event, want string }{
		"payload format 1.0": {
			`{"version":"1.0","resource":"/vapi","path":"/vapi","httpMethod":"POST","headers":{"Content-Type":"a/b"},
				"multiValueHeaders":{"Content-Type":["a/b"]},"queryStringParameters":null,
				"requestContext":{"accountId":"1","httpMethod":"POST","path":"/vapi","protocol":"HTTP/1.1",
				"requestTime":"12/Mar/2026:19:03:58 +0000","requestTimeEpoch":1583348638390},"body":"{}","isBase64Encoded":false}`,
			"the event has API Gateway's payload format 1.0: set the payload format version of the integration to 2.0",
		},
		"REST API": {
			`{"resource":"/vapi","path":"/vapi","httpMethod":"POST","headers":{},"requestContext":{"httpMethod":"POST"},
				"body":"{}","isBase64Encoded":false}`, anythingElse,
		},
		"load balancer": {
			`{"requestContext":{"elb":{"targetGroupArn":"arn"}},"httpMethod":"POST","path":"/vapi",
				"queryStringParameters":{},"headers":{"host":"h"},"body":"e30=","isBase64Encoded":true}`, anythingElse,
		},
		"queue": {`{"Records":[{"messageId":"1","body":"{}","eventSource":"aws:sqs"}]}`, anythingElse},
		"none":  {`{}`, anythingElse},
	} {
		t.Run(name, func(t *testing.T) {
			var logged strings.Builder
			before := slog.Default()
			slog.SetDefault(slog.New(slog.NewJSONHandler(&logged, nil)))
			defer slog.SetDefault(before)
			whole, err := function.HTTP{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				t.Error("the event was served")
			})}.Invoke(t.Context(), []byte(row.event))
			if err != nil {
				t.Fatal(err)
			}
			var answer events.APIGatewayV2HTTPResponse
			if err := json.Unmarshal(whole, &answer); err != nil {
				t.Fatal(err)
			}
			want, _ := json.Marshal(map[string]string{"error": row.want})
			if answer.StatusCode != 500 || answer.Body != string(want) {
				t.Errorf("answered %d %s, want %s", answer.StatusCode, answer.Body, want)
			}
			if !strings.Contains(logged.String(), row.want) {
				t.Errorf("logged %s", logged.String())
			}
		})
	}
}
