package httptool_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
	"github.com/ringback/ringback/internal/tooltest"
)

// planted is what a service writes into every part of its answer. No error may repeat it.
const planted = "planted-4711"

// raw returns the address of a service that answers with these bytes.
func raw(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				reader := bufio.NewReader(conn)
				length := 0
				for line := ""; line != "\r\n"; {
					if line, err = reader.ReadString('\n'); err != nil {
						return
					}
					if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Content-Length") {
						length, _ = strconv.Atoi(strings.TrimSpace(value))
					}
				}
				_, _ = io.CopyN(io.Discard, reader, int64(length))
				_, _ = io.WriteString(conn, answer)
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// TestErrorsDoNotQuoteTheService classifies what a service answers, and what keeps it from
// answering.
func TestErrorsDoNotQuoteTheService(t *testing.T) {
	const (
		noResponse = "the service did not respond: "
		malformed  = "the service's answer is malformed: "
		incomplete = malformed + "it is incomplete, or not HTTP"
		tooLarge   = "the service's answer is too large: "
		status     = "HTTP/1.1 200 OK\r\n"
	)
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	for name, row := range map[string]struct {
		address, want string
		retry         bool
	}{
		"refused": {tooltest.ClosedAddress(t), noResponse + "it refused the connection", true},
		// This name has an empty part, so no server is asked for it.
		"unknown host": {"http://" + planted + "..invalid", noResponse + "its host name cannot be resolved", true},
		"certificate":  {untrusted.URL, noResponse + "its certificate is not valid for its address", true},
		"closed":       {raw(t, ""), noResponse + "there is no connection to it, or it closed the connection", true},
		"not HTTP":     {raw(t, planted+"\r\n\r\n"), incomplete, true},
		"TLS for HTTP": {strings.Replace(tooltest.Answering(t, 200, planted).URL, "http:", "https:", 1),
			noResponse + "there is no connection", true},
		"status":       {raw(t, "HTTP/1.1 "+planted+"\r\n\r\n"), incomplete, true},
		"reason":       {raw(t, "HTTP/1.1 403 "+planted+"\r\n\r\n"), "the service answered 403 Forbidden", false},
		"unknown code": {raw(t, "HTTP/1.1 499 "+planted+"\r\n\r\n"), "the service answered 499 ", false},
		"header":       {raw(t, status+planted+"\r\n\r\n"), incomplete, true},
		"length":       {raw(t, status+"Content-Length: "+planted+"\r\n\r\n"), incomplete, true},
		"transfer":     {raw(t, status+"Transfer-Encoding: "+planted+"\r\n\r\n"), incomplete, true},
		"chunk":        {raw(t, status+"Transfer-Encoding: chunked\r\n\r\n"+planted+"\r\n"), incomplete, true},
		"broken off":   {raw(t, status+"Content-Length: 100\r\n\r\n"+planted), incomplete, true},
		"location":     {raw(t, "HTTP/1.1 302 F\r\nLocation: http://%"+planted+"\r\n\r\n"), incomplete, true},
		"long header":  {raw(t, status+"X-A: "+strings.Repeat(planted, 6000)+"\r\n\r\nx"), tooLarge + "its header", false},
		"many headers": {raw(t, status+strings.Repeat("X-A: "+planted+"\r\n", 4000)+"\r\nx"),
			tooLarge + "its header", false},
		"long body":     {raw(t, status+"\r\n"+strings.Repeat(planted, 30_000)), tooLarge + "it is longer", false},
		"other charset": {raw(t, status+"Content-Type: text/plain; charset="+planted+"\r\n\r\n\xff"), malformed, false},
		"other JSON":    {raw(t, status+"\r\n{\"status\":{\""+planted+"\":1}}"), "is malformed: it is not", false},
	} {
		t.Run(name, func(t *testing.T) {
			forwarded := declared(t, declaration("answer: a"), map[string]string{"URL": row.address})
			result, err := tooltest.Call(t, t.Context(), forwarded, `{"order_id":"A-1"}`)
			want{Log: row.want, Retry: row.retry}.Check(t, result, err)
			for _, quoted := range []string{planted, "127.0.0.1", "http:", "http2", "tcp", "x509", "EOF", "charset="} {
				if strings.Contains(err.Error(), quoted) {
					t.Errorf("the error has %q: %v", quoted, err)
				}
			}
		})
	}
	t.Run("timeout", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		forwarded := declared(t, declaration(), map[string]string{"URL": tooltest.ClosedAddress(t)})
		_, err := tooltest.Call(t, ctx, forwarded, `{"order_id":"A-1"}`)
		if want := noResponse[:len(noResponse)-2] + " in time: context canceled"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

// A connection that breaks must not make net/http send a request again: a service that ignores the
// Idempotency-Key would begin twice.
func TestSentOnce(t *testing.T) {
	var requests atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) > 1 {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
			return
		}
		_, _ = w.Write([]byte("done"))
	}))
	defer service.Close()
	tool := declared(t, declaration(), map[string]string{"URL": service.URL})
	result, err := tooltest.Call(t, t.Context(), tool, `{}`)
	want{Text: "done"}.Check(t, result, err)
	result, err = tooltest.Call(t, t.Context(), tool, `{}`)
	want{Log: "it closed the connection", Retry: true}.Check(t, result, err)
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests were sent for two", n)
	}
}

// TestNotStarted tests which errors say that nothing has begun.
func TestNotStarted(t *testing.T) {
	// A service that begins, and then redirects to an address of its own that is busy.
	begins := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/busy" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, "/busy", http.StatusSeeOther)
	}))
	defer begins.Close()
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	answering := func(status int) string { return tooltest.Answering(t, status, "", "Retry-After", "7").URL }
	for name, row := range map[string]struct {
		address    string
		retry      bool
		notStarted bool
		after      time.Duration
	}{
		"429":                  {answering(429), true, true, 7 * time.Second},
		"423":                  {answering(423), true, true, 0}, // named, although Do takes it for final
		"503, not named":       {answering(503), true, false, 7 * time.Second},
		"404, not named":       {answering(404), false, false, 0},
		"refused connection":   {tooltest.ClosedAddress(t), true, true, 0},
		"unknown host":         {"http://a..invalid", true, true, 0},
		"untrusted":            {untrusted.URL, true, true, 0},
		"no answer":            {raw(t, ""), true, false, 0},
		"not HTTP":             {raw(t, "hello\r\n\r\n"), true, false, 0},
		"busy, after it began": {begins.URL, true, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := httptool.Address(row.address)
			if err != nil {
				t.Fatal(err)
			}
			r, err := httptool.NewJSONRequest(t.Context(), http.MethodPost, u, map[string]int{"amount": 3})
			if err != nil {
				t.Fatal(err)
			}
			refusals := []httptool.Status{http.StatusTooManyRequests, http.StatusLocked}
			if row.address == begins.URL {
				refusals = []httptool.Status{http.StatusServiceUnavailable}
			}
			_, plain := httptool.Do(r)
			before, _ := errors.AsType[*asynctool.Error](plain)
			if before == nil || before.NotStarted {
				t.Fatalf("Do: %+v", plain)
			}
			said, _ := errors.AsType[*asynctool.Error](httptool.NotStarted(plain, refusals...))
			if said.Retry != row.retry || said.NotStarted != row.notStarted || said.After != row.after {
				t.Errorf("got %+v", said)
			}
			if before.NotStarted || said.Error() != before.Error() {
				t.Errorf("the error changed from %v to %v", before, said)
			}
		})
	}
	if err := httptool.NotStarted(nil, 429); err != nil {
		t.Errorf("no error became %v", err)
	}
	if err := httptool.NotStarted(io.EOF, 429); err != io.EOF {
		t.Errorf("another error became %v", err)
	}
}

func TestJSON(t *testing.T) {
	type order struct{ Status string }
	for name, row := range map[string]struct {
		status    int
		body, log string
		want      order
	}{
		"JSON":       {200, `{"status":"sent","other":1}`, "", order{"sent"}},
		"not JSON":   {200, planted, "the service's answer is malformed", order{}},
		"other JSON": {200, `{"status":{"` + planted + `":1}}`, "the service's answer is malformed", order{}},
		"an error":   {404, `{"status":"sent"}`, "the service answered 404", order{}},
	} {
		t.Run(name, func(t *testing.T) {
			u, _ := url.Parse(tooltest.Answering(t, row.status, row.body).URL)
			r, err := httptool.NewRequest(t.Context(), http.MethodGet, u, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := httptool.JSON[order](r)
			if row.log == "" && (err != nil || got != row.want) {
				t.Errorf("got %+v, %v", got, err)
			}
			if row.log != "" && (err == nil || !strings.Contains(err.Error(), row.log) ||
				strings.Contains(err.Error(), planted)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNewJSONRequest(t *testing.T) {
	u, _ := url.Parse("https://shop.example.com")
	r, err := httptool.NewJSONRequest(t.Context(), http.MethodPost, u, map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	if string(body) != `{"a":"b"}` || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("body %s, %v", body, r.Header)
	}
	if _, err := httptool.NewJSONRequest(t.Context(), http.MethodPost, u, func() {}); err == nil {
		t.Error("a function became JSON")
	}
}
