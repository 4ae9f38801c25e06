package httptool_test

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

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
