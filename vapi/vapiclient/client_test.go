package vapiclient_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"

	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

const callID = "7420f27a-30fd-4f49-a995-5549ae7cc00d"

var spoken = vapi.Say{Content: "Hi"}

func mustControlClient(t testing.TB, cfg vapiclient.ControlConfig) *vapiclient.ControlClient {
	t.Helper()
	c, err := vapiclient.NewControlClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loopbackControlURL starts a server and gives the control URL of a call there.
func loopbackControlURL(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL + "/" + callID + "/control"
}

// checkReceipt compares all but Err's text, of which it checks that it is there where it must be and keeps quiet.
func checkReceipt(t *testing.T, got, want vapiclient.Receipt) {
	t.Helper()
	if got.Verdict != want.Verdict || got.Status != want.Status || got.RetryAfter != want.RetryAfter {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if (got.Err == nil) != (want.Verdict == vapiclient.Delivered) {
		t.Errorf("error %v with verdict %v", got.Err, got.Verdict)
	}
	if got.Err != nil && (strings.Contains(got.Err.Error(), callID) || strings.Contains(got.Err.Error(), "/control")) {
		t.Errorf("error shows the control URL: %v", got.Err)
	}
}

func TestPostRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	controlURL := loopbackControlURL(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	})
	c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true})
	checkReceipt(t, c.Post(t.Context(), controlURL, vapi.AddMessage{Content: "Hi"}), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
	if got.Method != "POST" || got.URL.Path != "/"+callID+"/control" {
		t.Errorf("request %s %s", got.Method, got.URL)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "User-Agent": "ringback", "Authorization": ""} {
		if value := got.Header.Get(name); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
	if want := `{"type":"add-message","message":{"role":"system","content":"Hi"},"triggerResponseEnabled":true}`; string(body) != want {
		t.Errorf("body %s", body)
	}
}

func TestPublicKey(t *testing.T) {
	var authorization atomic.Value
	var requests atomic.Int32
	controlURL := loopbackControlURL(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		authorization.Store(r.Header.Get("Authorization"))
	})
	post := func(key string, err error) vapiclient.Receipt {
		c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true, PublicKey: func(ctx context.Context) (string, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("no deadline for the key")
			}
			return key, err
		}})
		return c.Post(t.Context(), controlURL, spoken)
	}
	checkReceipt(t, post("pk", nil), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
	if got := authorization.Load(); got != "Bearer pk" {
		t.Errorf("Authorization: %v", got)
	}
	checkReceipt(t, post("", errors.New("throttled")), vapiclient.Receipt{Verdict: vapiclient.TryAgain})
	checkReceipt(t, post("", nil), vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
	bad := post("pk\n", nil)
	checkReceipt(t, bad, vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
	if strings.Contains(bad.Err.Error(), "pk") {
		t.Errorf("error shows the key: %v", bad.Err)
	}
	if got := requests.Load(); got != 1 {
		t.Errorf("%d requests", got)
	}
}

func TestPostVerdicts(t *testing.T) {
	now := time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)
	var followed atomic.Int32
	elsewhere := loopbackControlURL(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	tests := map[string]struct {
		status     int
		retryAfter string
		want       vapiclient.Receipt
	}{
		"200":                       {200, "", vapiclient.Receipt{Verdict: vapiclient.Delivered}},
		"201":                       {201, "", vapiclient.Receipt{Verdict: vapiclient.Delivered}},
		"204":                       {204, "5", vapiclient.Receipt{Verdict: vapiclient.Delivered}},
		"301":                       {301, "", vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		"302":                       {302, "", vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		"307":                       {307, "", vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		"308":                       {308, "", vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		"400":                       {400, "", vapiclient.Receipt{Verdict: vapiclient.Gone}},
		"401":                       {401, "", vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		"403":                       {403, "", vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		"404":                       {404, "5", vapiclient.Receipt{Verdict: vapiclient.Gone}},
		"405":                       {405, "", vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		"408":                       {408, "", vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"409":                       {409, "", vapiclient.Receipt{Verdict: vapiclient.Gone}},
		"410":                       {410, "", vapiclient.Receipt{Verdict: vapiclient.Gone}},
		"422":                       {422, "", vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
		"425":                       {425, "", vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"429":                       {429, "", vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"429, seconds":              {429, "7", vapiclient.Receipt{Verdict: vapiclient.TryAgain, RetryAfter: 7 * time.Second}},
		"429, no seconds":           {429, "0", vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"429, negative":             {429, "-7", vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"429, too many seconds":     {429, "86400", vapiclient.Receipt{Verdict: vapiclient.TryAgain, RetryAfter: time.Hour}},
		"429, more than fit":        {429, strings.Repeat("9", 30), vapiclient.Receipt{Verdict: vapiclient.TryAgain, RetryAfter: time.Hour}},
		"429, date":                 {429, now.Add(90 * time.Second).Format(http.TimeFormat), vapiclient.Receipt{Verdict: vapiclient.TryAgain, RetryAfter: 90 * time.Second}},
		"429, date that is past":    {429, now.Add(-time.Hour).Format(http.TimeFormat), vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"429, date that is far off": {429, now.Add(48 * time.Hour).Format(http.TimeFormat), vapiclient.Receipt{Verdict: vapiclient.TryAgain, RetryAfter: time.Hour}},
		"429, neither":              {429, "soon", vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"500":                       {500, "", vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"503":                       {503, "3", vapiclient.Receipt{Verdict: vapiclient.TryAgain, RetryAfter: 3 * time.Second}},
		"599":                       {599, "", vapiclient.Receipt{Verdict: vapiclient.TryAgain}},
		"600":                       {600, "", vapiclient.Receipt{Verdict: vapiclient.Misconfigured}},
	}
	c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true, Now: func() time.Time { return now }})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			controlURL := loopbackControlURL(t, func(w http.ResponseWriter, r *http.Request) {
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				if tt.status/100 == 3 {
					w.Header().Set("Location", elsewhere)
				}
				w.WriteHeader(tt.status)
				if tt.status != 204 {
					io.WriteString(w, callID)
				}
			})
			tt.want.Status = tt.status
			checkReceipt(t, c.Post(t.Context(), controlURL, spoken), tt.want)
		})
	}
	if got := followed.Load(); got != 0 {
		t.Errorf("%d redirects were followed", got)
	}
}

// rawServer answers every connection with fn, below HTTP.
func rawServer(t *testing.T, fn func(*net.TCPConn)) string {
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
				fn(conn.(*net.TCPConn))
			}()
		}
	}()
	return "http://" + listener.Addr().String() + "/" + callID + "/control"
}

func TestPostWithoutAnswer(t *testing.T) {
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	readRequest := func(conn *net.TCPConn) []byte {
		buffer := make([]byte, 4096)
		n, _ := conn.Read(buffer)
		return buffer[:n]
	}
	closed := rawServer(t, func(*net.TCPConn) {})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String() + "/" + callID + "/control"
	listener.Close()

	tests := map[string]struct {
		controlURL string
		deadline   bool // whether the caller's context ends it
	}{
		"hang":         {rawServer(t, func(conn *net.TCPConn) { <-silent }), false},
		"hang, caller": {rawServer(t, func(conn *net.TCPConn) { <-silent }), true},
		"closed":       {closed, false},
		"closed after the request": {rawServer(t, func(conn *net.TCPConn) {
			readRequest(conn)
		}), false},
		"reset": {rawServer(t, func(conn *net.TCPConn) {
			readRequest(conn)
			conn.SetLinger(0)
		}), false},
		"echo of the request": {rawServer(t, func(conn *net.TCPConn) {
			conn.Write(readRequest(conn))
		}), false},
		"status line with the path": {rawServer(t, func(conn *net.TCPConn) {
			readRequest(conn)
			io.WriteString(conn, "HTTP/1.1 "+callID+"/control\r\n\r\n")
		}), false},
		"endless header": {rawServer(t, func(conn *net.TCPConn) {
			readRequest(conn)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
			for {
				if _, err := io.WriteString(conn, strings.Repeat("x", 1<<10)); err != nil {
					return
				}
			}
		}), false},
		"nobody listens": {nobody, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, timeout := t.Context(), 100*time.Millisecond
			if tt.deadline {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
				timeout = 0
			}
			c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true, Timeout: timeout})
			start := time.Now()
			receipt := c.Post(ctx, tt.controlURL, spoken)
			checkReceipt(t, receipt, vapiclient.Receipt{Verdict: vapiclient.TryAgain})
			// Without a limit of its own a post has ten seconds.
			if spent := time.Since(start); spent >= 10*time.Second {
				t.Errorf("took %v", spent)
			}
			if strings.HasPrefix(name, "hang") && !errors.Is(receipt.Err, context.DeadlineExceeded) {
				t.Errorf("error %v", receipt.Err)
			}
		})
	}
}

// longer tries with a timeout that ends the test, and with longer ones while a
// busy machine needs them for what comes before.
func longer(timeout time.Duration, try func(timeout time.Duration, last bool) bool) {
	const most = 5 * time.Second // shorter than a post's own ten seconds
	for !try(timeout, timeout == most) && timeout < most {
		timeout = min(4*timeout, most)
	}
}

func TestHandshakeThatNeverEnds(t *testing.T) {
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	controlURL := strings.Replace(rawServer(t, func(*net.TCPConn) { <-silent }), "http://", "https://", 1)
	longer(50*time.Millisecond, func(timeout time.Duration, last bool) bool {
		c := mustControlClient(t, vapiclient.ControlConfig{Hosts: []string{strings.Split(controlURL, "/")[2]}, ConnectTimeout: timeout})
		receipt := c.Post(t.Context(), controlURL, spoken)
		checkReceipt(t, receipt, vapiclient.Receipt{Verdict: vapiclient.TryAgain})
		found := receipt.Err != nil && strings.Contains(receipt.Err.Error(), "handshake")
		if last && !found {
			t.Errorf("error %v", receipt.Err)
		}
		return found
	})
}

// An answer's status counts, however its body ends.
func TestPostBodyThatNeverEnds(t *testing.T) {
	done := make(chan struct{})
	controlURL := loopbackControlURL(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-done
	})
	t.Cleanup(func() { close(done) })
	longer(100*time.Millisecond, func(timeout time.Duration, last bool) bool {
		receipt := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true, Timeout: timeout}).Post(t.Context(), controlURL, spoken)
		if last || receipt.Verdict == vapiclient.Delivered {
			checkReceipt(t, receipt, vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
		}
		return receipt.Verdict == vapiclient.Delivered
	})
}

func TestPostMalformedMessage(t *testing.T) {
	controlURL := loopbackControlURL(t, func(http.ResponseWriter, *http.Request) { t.Error("posted") })
	c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true})
	for _, m := range []vapi.ControlMessage{nil, (*vapi.Say)(nil), vapi.Say{}, vapi.Control{Action: "dance"}} {
		checkReceipt(t, c.Post(t.Context(), controlURL, m), vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
	}
}

func TestControlURLRules(t *testing.T) {
	const path = "/" + callID + "/control"
	tests := []struct {
		url  string
		want string // the URL requested; "" for refused
	}{
		{"https://phone-call-websocket.aws-us-west-2-backend-production2.vapi.ai" + path, "https://phone-call-websocket.aws-us-west-2-backend-production2.vapi.ai" + path},
		{"https://vapi.ai" + path, "https://vapi.ai" + path},
		{"https://vapi.ai:443" + path, "https://vapi.ai" + path},
		{"HTTPS://X.VAPI.AI" + path, "https://x.vapi.ai" + path},
		{"https://x.vapi.ai." + path, "https://x.vapi.ai" + path},
		{"https://x.vapi.ai.:443" + path + "?a=b", "https://x.vapi.ai" + path + "?a=b"},
		{"", ""},
		{"http://x.vapi.ai" + path, ""},
		{"ftp://x.vapi.ai" + path, ""},
		{"wss://x.vapi.ai" + path, ""},
		{"//x.vapi.ai" + path, ""},
		{"x.vapi.ai" + path, ""},
		{"https:x.vapi.ai" + path, ""},
		{"https:///x.vapi.ai" + path, ""},
		{"https://x.vapi.ai:8443" + path, ""},
		{"https://x.vapi.ai:80" + path, ""},
		{"https://x.vapi.ai:0443" + path, ""},
		{"https://x.vapi.ai:" + path, ""},
		{"https://x.vapi.ai:https" + path, ""},
		{"https://x.vapi.ai.." + path, ""},
		{"https://.vapi.ai" + path, ""},
		{"https://x..vapi.ai" + path, ""},
		{"https://evilvapi.ai" + path, ""},
		{"https://vapi.ai.evil.com" + path, ""},
		{"https://evil.com/vapi.ai" + path, ""},
		{"https://evil.com#x.vapi.ai", ""},
		{"https://x.vapi.ai" + path + "#f", ""},
		{"https://evil.com?.vapi.ai", ""},
		{"https://user@x.vapi.ai" + path, ""},
		{"https://x.vapi.ai@evil.com" + path, ""},
		{"https://evil.com\\@x.vapi.ai" + path, ""},
		{"https://evil.com\\.vapi.ai" + path, ""},
		{"https://evil.com%2f.vapi.ai" + path, ""},
		{"https://evil.com%00.vapi.ai" + path, ""},
		{"https://x.vapi%2Eai" + path, ""},
		{"https://x.vapi\u3002ai" + path, ""},
		{"https://x.v\u0430pi.ai" + path, ""},
		{"https://x.xn--vpi-7cd.ai" + path, ""},
		{"https://x*.vapi.ai" + path, ""},
		{"https://" + strings.Repeat("x", 64) + ".vapi.ai" + path, ""},
		{"https://" + strings.Repeat("x.", 130) + "vapi.ai" + path, ""},
		{"https://x.vapi.ai/" + strings.Repeat("x", 2048), ""},
		{"https://x.vapi.ai/a b", ""},
		{" https://x.vapi.ai" + path, ""},
		{"https://x.vapi.ai" + path + "\r\nX-A: b", ""},
		{"https://127.0.0.1" + path, ""},
		{"https://[::1]" + path, ""},
		{"https://[::1].vapi.ai" + path, ""},
		{"https://[fe80::1%25.vapi.ai]" + path, ""},
		{"https://169.254.169.254/latest/meta-data", ""},
		{"http://localhost:8080" + path, ""},
	}
	c := mustControlClient(t, vapiclient.ControlConfig{})
	for _, tt := range tests {
		got, err := c.CheckControlURL(tt.url)
		if got != tt.want {
			t.Errorf("%q: got %q, %v, want %q", tt.url, got, err, tt.want)
		}
		if tt.want == "" {
			checkReceipt(t, c.Post(t.Context(), tt.url, spoken), vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
		}
	}
}

func TestConfiguredHosts(t *testing.T) {
	c := mustControlClient(t, vapiclient.ControlConfig{Hosts: []string{"Mock.Internal", "10.0.0.7:8080", "[fd00::7]:8080", "x.vapi.ai:8443"}})
	allowed := []string{
		"http://mock.internal/c", "https://MOCK.internal/c", "http://mock.internal:80/c", "https://mock.internal:443/c", "http://mock.internal./c",
		"http://10.0.0.7:8080/c", "https://10.0.0.7:8080/c", "http://[fd00::7]:8080/c", "https://x.vapi.ai:8443/c", "https://y.vapi.ai/c",
	}
	refused := []string{
		"http://mock.internal:443/c", "https://mock.internal:80/c", "http://mock.internal:8080/c", "http://a.mock.internal/c", "http://mock.internal.evil.com/c",
		"http://10.0.0.7/c", "http://10.0.0.7:80/c", "http://user@10.0.0.7:8080/c", "ftp://10.0.0.7:8080/c", "https://y.vapi.ai:8443/c", "http://y.vapi.ai/c", "http://localhost:8080/c",
	}
	for _, u := range allowed {
		if _, err := c.CheckControlURL(u); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	for _, u := range refused {
		if _, err := c.CheckControlURL(u); err == nil {
			t.Errorf("%s was allowed", u)
		}
	}
	for _, host := range []string{"", ":80", "host:", "http://host", "host/path", "user@host", "host?", "host#", "ho st", "h\u00f6st", "host:port", "::1"} {
		if _, err := vapiclient.NewControlClient(vapiclient.ControlConfig{Hosts: []string{host}}); err == nil {
			t.Errorf("host %q was accepted", host)
		}
	}
	for _, cfg := range []vapiclient.ControlConfig{{Timeout: -1}, {ConnectTimeout: -1}} {
		if _, err := vapiclient.NewControlClient(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestConfiguredHostIsReached(t *testing.T) {
	var requests atomic.Int32
	controlURL := loopbackControlURL(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	host := strings.Split(controlURL, "/")[2]
	checkReceipt(t, mustControlClient(t, vapiclient.ControlConfig{Hosts: []string{host}}).Post(t.Context(), controlURL, spoken), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
	checkReceipt(t, mustControlClient(t, vapiclient.ControlConfig{}).Post(t.Context(), controlURL, spoken), vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
	if got := requests.Load(); got != 1 {
		t.Errorf("%d requests", got)
	}
}

func TestLoopback(t *testing.T) {
	var requests atomic.Int32
	controlURL := loopbackControlURL(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	u, err := url.Parse(controlURL)
	if err != nil {
		t.Fatal(err)
	}
	c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true})
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST."} {
		checkReceipt(t, c.Post(t.Context(), "http://"+host+":"+u.Port()+u.Path, spoken), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
	}
	for _, refused := range []string{"http://10.0.0.1:8080/c", "http://127.0.0.1.example.com/c", "http://2130706433/c", "http://0x7f.1/c", "http://0.0.0.0:" + u.Port() + "/c", "http://evillocalhost/c"} {
		if _, err := c.CheckControlURL(refused); err == nil {
			t.Errorf("%s was allowed", refused)
		}
	}
	// A resolver may say anything of a name; the address that is dialled decides.
	elsewhere := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true}.WithTestServer("192.0.2.1:80", nil))
	checkReceipt(t, elsewhere.Post(t.Context(), "http://a.localhost/c", spoken), vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
	if got := requests.Load(); got != 3 {
		t.Errorf("%d requests", got)
	}
}

// vapiServer is a TLS server with a certificate for *.vapi.ai, and the configuration that takes a client there.
func vapiServer(t testing.TB, handler http.HandlerFunc, started func(net.Conn)) vapiclient.ControlConfig {
	t.Helper()
	address, roots := startVapiServer(t, "127.0.0.1", handler, started)
	return vapiclient.ControlConfig{}.WithTestServer(address.String(), roots,
		ssrf.WithPorts(address.Port()), ssrf.WithAllowedV4Prefixes(netip.PrefixFrom(address.Addr(), 32)))
}

// startVapiServer gives the server's address, and the authority of its certificate.
func startVapiServer(t testing.TB, ip string, handler http.HandlerFunc, started func(net.Conn)) (netip.AddrPort, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"*.vapi.ai"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	listener, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener = listener
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // spare connections are closed in the middle of their handshake
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateNew && started != nil {
			started(conn)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return netip.MustParseAddrPort(listener.Addr().String()), roots
}

const vapiControlURL = "https://x.vapi.ai/" + callID + "/control"

func TestPostToVapi(t *testing.T) {
	var host, protocol string
	cfg := vapiServer(t, func(w http.ResponseWriter, r *http.Request) { host, protocol = r.Host, r.Proto }, nil)
	c := mustControlClient(t, cfg)
	checkReceipt(t, c.Post(t.Context(), "https://X.vapi.ai./"+callID+"/control", spoken), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
	if host != "x.vapi.ai" || protocol != "HTTP/2.0" {
		t.Errorf("host %q over %s", host, protocol)
	}
	// The certificate does not fit this name, and no repeat may be lost for it.
	checkReceipt(t, c.Post(t.Context(), "https://a.b.vapi.ai/"+callID+"/control", spoken), vapiclient.Receipt{Verdict: vapiclient.TryAgain})
}

// Whatever a name of Vapi's resolves to, only public addresses are connected to.
func TestDialGuard(t *testing.T) {
	addresses := []string{
		"0.0.0.0:443", "0.1.2.3:443", // this network
		"10.0.0.1:443", "10.255.255.255:443", "172.16.0.1:443", "172.31.255.255:443", "192.168.1.1:443", // private
		"100.64.0.1:443", "100.127.255.254:443", // carriers' own
		"100.100.100.200:443",                  // Alibaba Cloud's metadata
		"127.0.0.1:443", "127.255.255.254:443", // loopback
		"169.254.169.254:443", "169.254.170.2:443", "169.254.170.23:443", "169.254.0.1:443", // link-local: metadata and credentials of EC2, ECS, EKS
		"168.63.129.16:80",                 // Azure's, a public address on another port
		"192.0.0.1:443", "192.0.0.192:443", // protocol assignments, among them Oracle Cloud's metadata
		"192.0.2.1:443", "198.51.100.1:443", "203.0.113.1:443", // documentation
		"192.88.99.1:443",                      // 6to4 relays
		"198.18.0.1:443", "198.19.255.255:443", // benchmarks
		"224.0.0.1:443", "239.255.255.250:443", // multicast
		"240.0.0.1:443", "255.255.255.255:443", // reserved, broadcast
		"[::ffff:127.0.0.1]:443", "[::ffff:10.0.0.1]:443", "[::ffff:169.254.169.254]:443", // IPv4-mapped
		"93.184.216.34:80", "93.184.216.34:22", "93.184.216.34:8443", "93.184.216.34:0", // public, on another port
	}
	if probe, err := net.ListenPacket("udp6", "[::]:0"); err == nil {
		probe.Close()
		addresses = append(addresses,
			"[::]:443", "[::1]:443", // unspecified, loopback
			"[::127.0.0.1]:443", "[::a9fe:a9fe]:443", // IPv4-compatible
			"[::ffff:0:127.0.0.1]:443",                                                                                // IPv4-translated
			"[64:ff9b::7f00:1]:443", "[64:ff9b::a9fe:a9fe]:443", "[64:ff9b::a00:1]:443", "[64:ff9b:1::a9fe:a9fe]:443", // NAT64
			"[2002:7f00:1::]:443", "[2002:a9fe:a9fe::1]:443", // 6to4
			"[2001::1]:443", "[2001:0:a9fe:a9fe::]:443", // Teredo
			"[2001:db8::1]:443", "[3fff::1]:443", // documentation
			"[2001:2::1]:443", "[2001:10::1]:443", "[2001:20::1]:443", // benchmarks, ORCHID
			"[100::1]:443", "[5f00::1]:443", // discard, segment routing
			"[fc00::1]:443", "[fd00::1]:443", "[fd00:ec2::254]:443", "[fd20:ce::254]:443", // unique local: EC2's and Google Cloud's metadata
			"[fe80::1]:443", "[febf::1]:443", "[fe80::a9fe:a9fe]:443", // link-local
			"[fec0::1]:443",                  // site-local
			"[ff02::1]:443", "[ff0e::1]:443", // multicast
			"[2606:2800:220:1:248:1893:25c8:1946]:80", // public, on another port
		)
	} else {
		t.Log("no IPv6 here: its addresses are left out")
	}
	for _, address := range addresses {
		t.Run(address, func(t *testing.T) {
			c := mustControlClient(t, vapiclient.ControlConfig{}.WithTestServer(address, nil))
			receipt := c.Post(t.Context(), vapiControlURL, spoken)
			checkReceipt(t, receipt, vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
			if receipt.Err == nil || !strings.Contains(receipt.Err.Error(), "not allowed") {
				t.Errorf("error %v", receipt.Err)
			}
		})
	}
}

// net/http reads the proxy variables once in a process, so the test runs in one of its own that has them from the start.
func TestProxyOfTheEnvironmentIsIgnored(t *testing.T) {
	if os.Getenv("HTTPS_PROXY") != testProxy {
		program, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v")
		command.Env = append(os.Environ(), "HTTPS_PROXY="+testProxy, "https_proxy="+testProxy, "NO_PROXY=", "no_proxy=")
		output, err := command.CombinedOutput()
		if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
			t.Fatalf("%v\n%s", err, output)
		}
		return
	}
	cfg := vapiServer(t, func(http.ResponseWriter, *http.Request) {}, nil)
	checkReceipt(t, mustControlClient(t, cfg).Post(t.Context(), vapiControlURL, spoken), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
}

const testProxy = "http://192.0.2.1:3128" // an address for documentation: nobody is there

func TestConnectionsAreKept(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", 4<<10)) // as much as is read
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true})
	for range 20 {
		checkReceipt(t, c.Post(t.Context(), server.URL+"/c", spoken), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("%d connections for HTTP/1.1", got)
	}

	connections.Store(0)
	c = mustControlClient(t, vapiServer(t, func(http.ResponseWriter, *http.Request) {}, func(net.Conn) { connections.Add(1) }))
	for range 20 {
		checkReceipt(t, c.Post(t.Context(), vapiControlURL, spoken), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("%d connections for HTTP/2", got)
	}
}

// No post waits for another: all of them are in the server before the first is answered.
func TestPostsSideBySide(t *testing.T) {
	const posts = 50
	for name, newClient := range map[string]func(http.HandlerFunc) (*vapiclient.ControlClient, string){
		"HTTP/1.1": func(handler http.HandlerFunc) (*vapiclient.ControlClient, string) {
			return mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true}), loopbackControlURL(t, handler)
		},
		"HTTP/2": func(handler http.HandlerFunc) (*vapiclient.ControlClient, string) {
			return mustControlClient(t, vapiServer(t, handler, nil)), vapiControlURL
		},
	} {
		t.Run(name, func(t *testing.T) {
			var arrived sync.WaitGroup
			arrived.Add(posts)
			c, controlURL := newClient(func(http.ResponseWriter, *http.Request) {
				arrived.Done()
				arrived.Wait()
			})
			var wait sync.WaitGroup
			for range posts {
				wait.Go(func() {
					checkReceipt(t, c.Post(t.Context(), controlURL, spoken), vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200})
				})
			}
			wait.Wait()
		})
	}
}

func TestVerdictString(t *testing.T) {
	for verdict, want := range map[vapiclient.Verdict]string{
		vapiclient.Delivered: "delivered", vapiclient.Gone: "gone", vapiclient.Misconfigured: "misconfigured", vapiclient.TryAgain: "try again", 0: "verdict 0",
	} {
		if got := verdict.String(); got != want {
			t.Errorf("%d: %q", verdict, got)
		}
	}
}

func FuzzControlURL(f *testing.F) {
	for _, seed := range []string{
		vapiControlURL, "https://vapi.ai.:443/x?y", "https://evilvapi.ai/", "https://vapi.ai.evil.com/", "https://a@vapi.ai/", `https://evil.com\@vapi.ai/`,
		"https://[::1%25.vapi.ai]/", "HTTPS://X.VAPI.AI", "https://xn--a.vapi.ai:443", "https:vapi.ai", "https://vapi.ai:", "https://x.vapi.ai/%2f..//",
	} {
		f.Add(seed)
	}
	c := mustControlClient(f, vapiclient.ControlConfig{})
	f.Fuzz(func(t *testing.T, controlURL string) {
		requested, err := c.CheckControlURL(controlURL)
		if err != nil {
			if len(controlURL) > 20 && strings.Contains(err.Error(), controlURL) {
				t.Fatalf("error quotes the URL: %v", err)
			}
			return
		}
		u, err := url.Parse(requested)
		if err != nil {
			t.Fatal(err)
		}
		if u.Scheme != "https" || u.User != nil || u.Opaque != "" || u.Fragment != "" || u.Port() != "" {
			t.Fatalf("%q is requested as %q", controlURL, requested)
		}
		if host := u.Host; host != "vapi.ai" && !strings.HasSuffix(host, ".vapi.ai") || strings.ContainsAny(host, "@:/\\%[]?# ") {
			t.Fatalf("%q is requested from host %q", controlURL, host)
		}
		if again, err := c.CheckControlURL(requested); err != nil || again != requested {
			t.Fatalf("%q becomes %q, %v", requested, again, err)
		}
	})
}
