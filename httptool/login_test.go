package httptool_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/tooltest"
)

// office is a service that accepts only the token that it has issued last.
type office struct {
	*httptest.Server
	issued, requests atomic.Int64
	answer           func(w http.ResponseWriter, r *http.Request, n int64) // to the n-th request for a token
	asked            []string                                              // the requests for tokens
}

func newOffice(t *testing.T) *office {
	o := &office{}
	var mu sync.Mutex
	o.answer = func(w http.ResponseWriter, _ *http.Request, n int64) {
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":3600}`, n)
	}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/token" {
			_ = r.ParseForm()
			id, secret, _ := r.BasicAuth()
			o.asked = append(o.asked, r.Method+" "+id+" "+secret+" "+r.PostForm.Encode())
			o.answer(w, r, o.issued.Add(1))
			return
		}
		o.requests.Add(1)
		if r.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", o.issued.Load()) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte("done"))
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *office) tool(t *testing.T, fields ...string) asynctool.Definition {
	return declared(t, login(append([]string{credentials}, fields...)...), map[string]string{
		"URL": o.URL + "/work", "LOGIN": o.URL + "/token", "ID": "shop:1", "SECRET": "s3cret&", "AUDIENCE": "stock"})
}

func (o *office) counts(t *testing.T, issued, requests int64) {
	t.Helper()
	if o.issued.Load() != issued || o.requests.Load() != requests {
		t.Errorf("%d tokens were issued, %d requests were sent; want %d and %d",
			o.issued.Load(), o.requests.Load(), issued, requests)
	}
}

func TestLoginRequest(t *testing.T) {
	for name, row := range map[string]struct {
		fields []string
		want   string
	}{
		"alone": {nil, "POST shop%3A1 s3cret%26 grant_type=client_credentials"},
		"scopes": {[]string{"scopes: [read, write]"},
			"POST shop%3A1 s3cret%26 grant_type=client_credentials&scope=read+write"},
		"in the body": {[]string{"credentials_in: body"},
			"POST   client_id=shop%3A1&client_secret=s3cret%26&grant_type=client_credentials"},
		"parameters": {[]string{"params: {audience: '${AUDIENCE}'}"},
			"POST shop%3A1 s3cret%26 audience=stock&grant_type=client_credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			result, err := tooltest.Call(t, t.Context(), o.tool(t, row.fields...), `{}`)
			want{Text: "done"}.Check(t, result, err)
			if diff := cmp.Diff([]string{row.want}, o.asked); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A token is used until it expires, and replaced once if it is rejected before.
func TestLoginTokens(t *testing.T) {
	expiring := func(seconds string) func(http.ResponseWriter, *http.Request, int64) {
		return func(w http.ResponseWriter, _ *http.Request, n int64) {
			fmt.Fprintf(w, `{"access_token":"token-%d","expires_in":%s}`, n, seconds)
		}
	}
	for name, row := range map[string]struct {
		answer   func(http.ResponseWriter, *http.Request, int64)
		revoke   bool // before the second request
		issued   int64
		requests int64
	}{
		"cached":            {nil, false, 1, 2},
		"seconds as a text": {expiring(`"3600"`), false, 1, 2},
		"without an expiry": {expiring("null"), false, 1, 2},
		"expired":           {expiring("9"), false, 2, 2},
		"revoked":           {nil, true, 3, 3}, // the revocation counts as one that was issued
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			if row.answer != nil {
				o.answer = row.answer
			}
			tool := o.tool(t)
			for n := range 2 {
				if n == 1 && row.revoke {
					o.issued.Add(1)
				}
				result, err := tooltest.Call(t, t.Context(), tool, `{}`)
				want{Text: "done"}.Check(t, result, err)
			}
			o.counts(t, row.issued, row.requests)
		})
	}
	t.Run("rejected again", func(t *testing.T) {
		o := newOffice(t)
		o.answer = func(w http.ResponseWriter, _ *http.Request, n int64) { fmt.Fprint(w, `{"access_token":"other"}`) }
		result, err := tooltest.Call(t, t.Context(), o.tool(t), `{}`)
		want{Log: "the service answered 401 Unauthorized"}.Check(t, result, err)
		o.counts(t, 2, 2)
	})
	t.Run("at the same time", func(t *testing.T) {
		o := newOffice(t)
		tool := o.tool(t)
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				result, err := tooltest.Call(t, t.Context(), tool, `{}`)
				if err != nil || result.Text != "done" {
					t.Errorf("got %q, %v", result.Text, err)
				}
			})
		}
		calls.Wait()
		o.counts(t, 1, 8)
	})
}

// The tool's own request is not sent without a token. No error has a secret, or quotes the service.
func TestLoginFails(t *testing.T) {
	elsewhere, requests := tooltest.Counting(t)
	answers := func(status int, body string, header ...string) func(http.ResponseWriter, *http.Request, int64) {
		return func(w http.ResponseWriter, r *http.Request, _ int64) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	const prefix = "no access token: "
	for name, row := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request, int64)
		want   want
	}{
		"refused":      {answers(401, planted), want{Log: prefix + "the service answered 401"}},
		"busy":         {answers(503, planted), want{Log: prefix + "the service answered 503", Retry: true}},
		"not JSON":     {answers(200, planted), want{Log: prefix + "the service's answer is malformed"}},
		"no token":     {answers(200, `{"token":"`+planted+`"}`), want{Log: "it has no access token"}},
		"a line break": {answers(200, `{"access_token":"`+planted+`\r\nX: y"}`), want{Log: "it has no access token"}},
		"another type": {answers(200, `{"access_token":"a","token_type":"`+planted+`"}`),
			want{Log: "not a bearer token"}},
		"too large": {answers(200, strings.Repeat(planted, 30_000)), want{Log: "too large"}},
		"to another host": {answers(307, "", "Location", elsewhere.URL+"/token"),
			want{Log: prefix + "the service answered 307"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.answer = row.answer
			tool := declared(t, login(credentials)+"    texts: {401: There is no such booking.}", map[string]string{
				"URL": o.URL + "/work", "LOGIN": o.URL + "/token", "ID": "shop:1", "SECRET": "s3cret"})
			result, err := tooltest.Call(t, t.Context(), tool, `{}`)
			row.want.Check(t, result, err)
			for _, private := range []string{planted, "s3cret", "shop:1", url.QueryEscape("shop:1"), "127.0.0.1"} {
				if strings.Contains(err.Error(), private) {
					t.Errorf("the error has %q: %v", private, err)
				}
			}
			if o.requests.Load() != 0 {
				t.Errorf("%d requests were sent without a token", o.requests.Load())
			}
		})
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
	t.Run("in time", func(t *testing.T) {
		o := newOffice(t)
		ctx, cancel := context.WithCancel(t.Context())
		o.answer = func(http.ResponseWriter, *http.Request, int64) { cancel() }
		_, err := tooltest.Call(t, ctx, o.tool(t), `{}`)
		if err == nil || !strings.Contains(err.Error(), "no access token") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not set", func(t *testing.T) {
		tool := declared(t, login(credentials), map[string]string{"URL": elsewhere.URL, "LOGIN": elsewhere.URL})
		result, err := tooltest.Call(t, t.Context(), tool, `{}`)
		want{Spoken: "I'm sorry, this service isn't available right now.",
			Log: "not set in the environment: ID, SECRET"}.Check(t, result, err)
	})
}
