package vapiclient_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/vapi/vapiclient"
)

// TestUnanswered posts to servers that do not answer as they should. Each has a planted word in its
// answer or its certificate, and so has the URL.
func TestUnanswered(t *testing.T) {
	const planted = "planted-4711"
	quiet := func(s *httptest.Server) string {
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		t.Cleanup(s.Close)
		return s.URL
	}
	says := func(answer string) string {
		return answeringServer(t, func(conn *net.TCPConn, _ []byte) { _, _ = io.WriteString(conn, answer) })
	}
	servers := brokenServers(t)
	plain := quiet(httptest.NewServer(http.NotFoundHandler()))
	for name, row := range map[string]struct{ url, want string }{
		"refused":      {servers["no listener"], "the connection was refused"},
		"silent":       {servers["silent"], "no answer in time"},
		"closed":       {servers["closed after the request"], "the connection was closed before the answer was complete"},
		"reset":        {servers["reset"], "the connection was closed before the answer was complete"},
		"header":       {servers["endless header"], "the header of the answer is too large"},
		"not HTTP":     {says(planted + "\r\n\r\n"), "the answer is malformed"},
		"header field": {says("HTTP/1.1 200 OK\r\n" + planted + "\r\n\r\n"), "the answer is malformed"},
		"broken off": {
			says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + planted),
			"the connection was closed before the answer was complete",
		},
		"chunks": {
			says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + planted + "\r\n"),
			"the answer is malformed",
		},
		"certificate": {quiet(httptest.NewTLSServer(nil)), "the certificate is not valid for the host"},
		"no TLS":      {strings.Replace(plain, "http:", "https:", 1), "the port does not use TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// As long as it must be on a busy machine, and short where the end is waited for.
			timeout := 30 * time.Second
			if name == "silent" {
				timeout = 100 * time.Millisecond
			}
			client := &http.Client{Timeout: timeout, Transport: &http.Transport{MaxResponseHeaderBytes: 4 << 10}}
			response, err := client.Post(row.url+"/"+planted, "text/plain", nil)
			if err == nil {
				_, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			if err == nil {
				t.Fatal("there is an answer")
			}
			if got := vapiclient.Unanswered(t.Context(), err); got != row.want {
				t.Errorf("got %q, want %q for %v", got, row.want, err)
			}
		})
	}
}

// TestUnansweredErrors tests errors that need another network.
func TestUnansweredErrors(t *testing.T) {
	const planted = "planted-4711"
	ended, end := context.WithCancel(t.Context())
	end()
	for name, row := range map[string]struct {
		ctx  context.Context
		err  error
		want string
	}{
		"DNS": {t.Context(), &net.DNSError{Err: planted, Name: planted}, "the host name cannot be resolved"},
		"DNS in time": {
			t.Context(), &net.DNSError{Err: planted, Name: planted, IsTimeout: true}, "no answer in time",
		},
		"no route": {t.Context(), &net.OpError{Op: "dial", Err: errors.New(planted)}, "there is no connection to the host"},
		"certificate": {
			t.Context(), &tls.CertificateVerificationError{Err: x509.HostnameError{Host: planted}},
			"the certificate is not valid for the host",
		},
		"ended":   {ended, errors.New(planted), "no answer in time"},
		"unknown": {t.Context(), errors.New(planted), "the answer is malformed"},
	} {
		err := &url.Error{Op: "Post", URL: "https://" + planted, Err: row.err}
		if got := vapiclient.Unanswered(row.ctx, err); got != row.want {
			t.Errorf("%s: got %q, want %q", name, got, row.want)
		}
	}
}
