package operator_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/operator/operatortest"
)

// listen starts a hostile program at an address. answer returns its answer to the request for a proof.
func listen(t *testing.T, addr string, answer func(r *http.Request) string) *operatortest.Spy {
	t.Helper()
	return operatortest.Listen(t, addr, func(conn net.Conn, in io.Reader) {
		r, err := http.ReadRequest(bufio.NewReader(in))
		if err != nil {
			return
		}
		if text := answer(r); text != "" {
			io.WriteString(conn, text)
		}
		in.Read(make([]byte, 64<<10)) // all of the next request, which a client sends at once
	})
}

// ok is an answer with a text.
func ok(text string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
}

// serveProof serves the proofs of a run at an address.
func serveProof(t *testing.T, addr, token string) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(operator.ProofHandler(token))
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// ask asks the run at an address for the proof of a nonce, in the name of a host.
func ask(t *testing.T, addr, host, nonce string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://"+addr+operator.ProofPath+"?nonce="+nonce, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	r.Host = host
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Error(answer.Status, err)
	}
	return string(text)
}

// TestProof sends a credential to programs that are not the run with the token. None gets it.
func TestProof(t *testing.T) {
	run := serveProof(t, "127.0.0.1:0", token)
	nonce := func(r *http.Request) string { return r.URL.Query().Get("nonce") }
	forged := func(key, machine string) func(r *http.Request) string {
		return func(r *http.Request) string { return ok(operator.Proof(key, machine, r.Host, nonce(r))) }
	}
	right := forged(token, operator.Machine())
	for name, row := range map[string]struct {
		token  string
		answer func(r *http.Request) string
	}{
		"no answer":       {token, func(*http.Request) string { return "" }},
		"not HTTP":        {token, func(*http.Request) string { return "planted\r\n\r\n" }},
		"an echo":         {token, func(r *http.Request) string { return ok(nonce(r)) }},
		"nothing":         {token, func(*http.Request) string { return ok("") }},
		"another token":   {token, forged("another", operator.Machine())},
		"another machine": {token, forged(token, "another")},
		"no token":        {"", forged("", operator.Machine())},
		"an earlier answer": {token, func(r *http.Request) string {
			return ok(operator.Proof(token, operator.Machine(), r.Host, "earlier"))
		}},
		"the answer of the run": {token, func(r *http.Request) string {
			return ok(ask(t, run.Listener.Addr().String(), "", nonce(r)))
		}},
		"the answer of the run to the same request": {token, func(r *http.Request) string {
			return ok(ask(t, run.Listener.Addr().String(), r.Host, nonce(r)))
		}},
		"a redirect to the run": {token, func(r *http.Request) string {
			return "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + run.URL + r.URL.String() + "\r\n\r\n"
		}},
		"an error": {token, func(r *http.Request) string { return strings.Replace(right(r), "200 OK", "500 No", 1) }},
		"the answer to what follows": {token, func(r *http.Request) string {
			return right(r) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
		}},
		"a long header": {token, func(r *http.Request) string {
			return strings.Replace(right(r), "OK\r\n", "OK\r\nX: "+strings.Repeat("x", 8<<10)+"\r\n", 1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := listen(t, "127.0.0.1:0", row.answer)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if name == "no answer" {
				time.AfterFunc(100*time.Millisecond, stop)
			}
			_, err := operator.ProvenTransport(row.token).RoundTrip(to(t, ctx, h))
			if !errors.Is(err, operator.ErrUnproven) && ctx.Err() == nil || err == nil {
				t.Errorf("%v", err)
			}
			if got := h.Received(); strings.Contains(got, credential) || strings.Contains(got, token) {
				t.Errorf("the program received %q", got)
			}
		})
	}
	// The program whose answer is right gets the request. So each refusal above is for the reason that its name says.
	h := listen(t, "127.0.0.1:0", right)
	_, err := operator.ProvenTransport(token).RoundTrip(to(t, t.Context(), h))
	if got := h.Received(); errors.Is(err, operator.ErrUnproven) || !strings.Contains(got, credential) {
		t.Errorf("the run received %q, %v", got, err)
	}
}

// credential is what only the run may receive.
const credential = "planted-secret"

// to returns a request with the credential to a program.
func to(t *testing.T, ctx context.Context, h *operatortest.Spy) *http.Request {
	t.Helper()
	url := "http://" + h.Addr + "/vapi"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(credential))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+credential)
	return r
}

// TestRecordedProof asks a run for proofs, and uses them when the run has ended and its address is free. The nonces of
// requests never repeat.
func TestRecordedProof(t *testing.T) {
	run := serveProof(t, "127.0.0.1:0", token)
	addr := run.Listener.Addr().String()
	recorded := ask(t, addr, "", "recorded")
	run.Close()
	seen := make(map[string]bool)
	h := listen(t, addr, func(r *http.Request) string {
		seen[r.URL.Query().Get("nonce")] = true
		return ok(recorded)
	})
	for range 3 {
		l, err := operator.NewLocal(addr, token)
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.Show(t.Context(), "planted", true)
		if err == nil || !strings.Contains(err.Error(), "the program on "+addr+" has not proven that it is your local run") {
			t.Errorf("%v", err)
		}
	}
	for nonce := range seen {
		if len(nonce) < 20 || len(seen) != 3 {
			t.Errorf("the nonces are %v", seen)
		}
	}
	if got := h.Received(); strings.Contains(got, "planted") || strings.Contains(got, token) {
		t.Errorf("the program received %q", got)
	}
}

// TestProofAndRequestShareAConnection: no other program can take the address in between.
func TestProofAndRequestShareAConnection(t *testing.T) {
	var requests []string
	prove := operator.ProofHandler(token)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.RemoteAddr+" "+r.URL.Path)
		prove.ServeHTTP(w, r)
	}))
	defer server.Close()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	for range 2 {
		requests = nil
		r, err := http.NewRequest(http.MethodPost, server.URL+"/vapi", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := operator.ProvenTransport(token).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if len(requests) != 2 {
			t.Fatal(requests)
		}
		at, path, _ := strings.Cut(requests[0], " ")
		if path != operator.ProofPath || requests[1] != at+" /vapi" {
			t.Errorf("the requests are %q", requests)
		}
	}
}

// TestProofFromHere: only programs on this machine get a proof, and no page of a browser.
func TestProofFromHere(t *testing.T) {
	run := serveProof(t, "127.0.0.1:0", token)
	for name, row := range map[string]struct{ host, header string }{
		"a tunnel": {"tunnel.example", ""}, "a proxy": {"", "X-Forwarded-For"}, "a page": {"", "Origin"},
	} {
		r, err := http.NewRequest(http.MethodGet, run.URL+operator.ProofPath+"?nonce=x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Host = row.host; row.header != "" {
			r.Header.Set(row.header, "https://tunnel.example")
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", name, answer.Status)
		}
	}
}
