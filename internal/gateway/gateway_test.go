package gateway_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/gateway"
)

func serve(t *testing.T, function gateway.Function) string {
	t.Helper()
	server := httptest.NewServer(gateway.Handler(function, slog.New(slog.DiscardHandler), "POST /vapi", "POST /results/{token}"))
	t.Cleanup(server.Close)
	return server.URL
}

func do(t *testing.T, method, url, contentType, body string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Add("X-Twice", "a")
	request.Header.Add("X-Twice", "b")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(answer)
}

func TestEvent(t *testing.T) {
	var got events.APIGatewayV2HTTPRequest
	url := serve(t, func(_ context.Context, r events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		got = r
		return events.APIGatewayV2HTTPResponse{StatusCode: 418, Headers: map[string]string{"Retry-After": "7"}, Body: "short and stout"}, nil
	})
	response, answer := do(t, http.MethodPost, url+"/vapi?a=1&a=2&b=x%20y", "application/json; charset=utf-8", `{"é":1}`)
	if response.StatusCode != 418 || response.Header.Get("Retry-After") != "7" || answer != "short and stout" {
		t.Errorf("answered with %d %v %q", response.StatusCode, response.Header, answer)
	}
	if got.Version != "2.0" || got.RouteKey != "POST /vapi" || got.RawPath != "/vapi" || got.RawQueryString != "a=1&a=2&b=x%20y" ||
		got.Body != `{"é":1}` || got.IsBase64Encoded || got.RequestContext.HTTP.Method != http.MethodPost ||
		got.RequestContext.HTTP.SourceIP != "127.0.0.1" || got.RequestContext.DomainName != strings.TrimPrefix(url, "http://") {
		t.Errorf("the event is %+v", got)
	}
	if got.Headers["x-twice"] != "a,b" || got.Headers["X-Twice"] != "" || got.QueryStringParameters["a"] != "1,2" || got.QueryStringParameters["b"] != "x y" {
		t.Errorf("headers %v, query %v", got.Headers, got.QueryStringParameters)
	}
}

func TestRoutes(t *testing.T) {
	url := serve(t, func(_ context.Context, r events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		body, err := json.Marshal([]any{r.RouteKey, r.RequestContext.RouteKey, r.RawPath, r.PathParameters})
		return events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: string(body)}, err
	})
	for path, want := range map[string]string{
		"/vapi":            `["POST /vapi","POST /vapi","/vapi",null]`,
		"/results/a.b-c_d": `["POST /results/{token}","POST /results/{token}","/results/a.b-c_d",{"token":"a.b-c_d"}]`,
		"/results/a%2Fb":   `["POST /results/{token}","POST /results/{token}","/results/a%2Fb",{"token":"a/b"}]`,
	} {
		if response, answer := do(t, http.MethodPost, url+path, "text/plain", "x"); response.StatusCode != http.StatusOK || answer != want {
			t.Errorf("%s was answered with %d %s, want %s", path, response.StatusCode, answer, want)
		}
	}
}

func TestBodies(t *testing.T) {
	for contentType, encoded := range map[string]bool{
		"application/json": false, "text/plain": false, "application/xml": false,
		"application/octet-stream": true, "application/gzip": true, "": true, "not a type;;": true,
	} {
		t.Run(contentType, func(t *testing.T) {
			url := serve(t, func(_ context.Context, r events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
				body := r.Body
				if r.IsBase64Encoded != encoded {
					t.Errorf("encoded: %t, want %t", r.IsBase64Encoded, encoded)
				}
				if r.IsBase64Encoded {
					b, err := base64.StdEncoding.DecodeString(body)
					if err != nil {
						t.Error(err)
					}
					body = string(b)
				}
				if body != "\x00\xffbody" {
					t.Errorf("the body is %q", body)
				}
				// And back, in the same way.
				return events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: base64.StdEncoding.EncodeToString([]byte(body)), IsBase64Encoded: true}, nil
			})
			if _, answer := do(t, http.MethodPost, url+"/vapi", contentType, "\x00\xffbody"); answer != "\x00\xffbody" {
				t.Errorf("the answer is %q", answer)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	url := serve(t, func(_ context.Context, r events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		if r.Body == "broken" {
			return events.APIGatewayV2HTTPResponse{StatusCode: 200, Body: "%", IsBase64Encoded: true}, nil
		}
		return events.APIGatewayV2HTTPResponse{}, errors.New("planted failure")
	})
	for _, c := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"other path", http.MethodPost, "/other", "", http.StatusNotFound},
		{"path below", http.MethodPost, "/vapi/x", "", http.StatusNotFound},
		{"no parameter", http.MethodPost, "/results/", "", http.StatusNotFound},
		{"path below a parameter", http.MethodPost, "/results/x/y", "", http.StatusNotFound},
		{"other method", http.MethodGet, "/vapi", "", http.StatusNotFound},
		{"too large", http.MethodPost, "/vapi", strings.Repeat("x", 10<<20+1), http.StatusRequestEntityTooLarge},
		{"the function fails", http.MethodPost, "/vapi", "x", http.StatusInternalServerError},
		{"the function's answer is broken", http.MethodPost, "/vapi", "broken", http.StatusInternalServerError},
	} {
		t.Run(c.name, func(t *testing.T) {
			response, answer := do(t, c.method, url+c.path, "text/plain", c.body)
			if response.StatusCode != c.status || strings.Contains(answer, "planted") {
				t.Errorf("answered with %d %s, want %d", response.StatusCode, answer, c.status)
			}
		})
	}
}
