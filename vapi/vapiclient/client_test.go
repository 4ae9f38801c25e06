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
	"maps"
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

var (
	spoken    = vapi.Say{Content: "Hi"}
	delivered = vapiclient.Receipt{Verdict: vapiclient.Delivered, Status: 200}
)

func mustControlClient(t testing.TB, cfg vapiclient.ControlConfig) *vapiclient.ControlClient {
	t.Helper()
	c, err := vapiclient.NewControlClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loopbackControlURL starts a server and returns the control URL of a call there.
func loopbackControlURL(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL + "/" + callID + "/control"
}

// checkQuiet checks that there is an error exactly if a post failed, and that it shows no secret.
func checkQuiet(t *testing.T, err error, failed bool) {
	t.Helper()
	if (err != nil) != failed {
		t.Errorf("error %v, failed: %v", err, failed)
	}
	for _, secret := range []string{callID, "/control", privateKey, customerNumber[1:], "ses-1", "Your quote"} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("error shows %q: %v", secret, err)
		}
	}
}

// checkReceipt compares everything except the error's text.
func checkReceipt(t *testing.T, got, want vapiclient.Receipt) {
	t.Helper()
	checkQuiet(t, got.Err, want.Verdict != vapiclient.Delivered)
	got.Err = nil
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
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
	checkReceipt(t, c.Post(t.Context(), controlURL, vapi.AddMessage{Content: "Hi"}), delivered)
	if got.Method != "POST" || got.URL.Path != "/"+callID+"/control" {
		t.Errorf("request %s %s", got.Method, got.URL)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "ringback", "Authorization": "",
	} {
		if value := got.Header.Get(name); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
	const want = `{"type":"add-message","message":{"role":"system","content":"Hi"},"triggerResponseEnabled":true}`
	if string(body) != want {
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
		c := mustControlClient(t, vapiclient.ControlConfig{
			AllowLoopback: true,
			PublicKey: func(ctx context.Context) (string, error) {
				if _, bounded := ctx.Deadline(); !bounded {
					t.Error("no deadline for the key")
				}
				return key, err
			},
		})
		return c.Post(t.Context(), controlURL, spoken)
	}
	checkReceipt(t, post("pk", nil), delivered)
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

// verdicts are the verdicts for an answer's status.
var verdicts = map[int]vapiclient.Verdict{
	200: vapiclient.Delivered, 201: vapiclient.Delivered, 204: vapiclient.Delivered,
	301: vapiclient.Misconfigured, 302: vapiclient.Misconfigured, 307: vapiclient.Misconfigured,
	308: vapiclient.Misconfigured, 401: vapiclient.Misconfigured, 403: vapiclient.Misconfigured,
	402: vapiclient.Misconfigured, 405: vapiclient.Misconfigured, 600: vapiclient.Misconfigured,
	404: vapiclient.Gone, 410: vapiclient.Gone,
	400: vapiclient.MessageRefused, 409: vapiclient.MessageRefused, 422: vapiclient.MessageRefused,
	408: vapiclient.TryAgain, 425: vapiclient.TryAgain, 429: vapiclient.TryAgain,
	500: vapiclient.TryAgain, 502: vapiclient.TryAgain, 503: vapiclient.TryAgain, 599: vapiclient.TryAgain,
}

// checkVerdicts posts to a server for each status. The answers hold the text, ask for a wait of one
// minute, and redirect elsewhere.
func checkVerdicts(
	t *testing.T, verdicts map[int]vapiclient.Verdict, text string, post func(url string) vapiclient.Receipt,
) {
	t.Helper()
	var followed atomic.Int32
	elsewhere := loopbackControlURL(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for status, verdict := range verdicts {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "60")
			w.Header().Set("Location", elsewhere)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}))
		want := vapiclient.Receipt{Verdict: verdict, Status: status}
		if verdict == vapiclient.TryAgain {
			want.RetryAfter = time.Minute
		}
		checkReceipt(t, post(server.URL), want)
		server.Close()
	}
	if got := followed.Load(); got != 0 {
		t.Errorf("%d redirects were followed", got)
	}
}

func TestPostVerdicts(t *testing.T) {
	c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true})
	checkVerdicts(t, verdicts, callID, func(url string) vapiclient.Receipt {
		return c.Post(t.Context(), url+"/"+callID+"/control", spoken)
	})
	live := maps.Clone(verdicts)
	live[502] = vapiclient.Unconfirmed
	checkVerdicts(t, live, callID, func(url string) vapiclient.Receipt {
		return c.Post(t.Context(), url+"/"+callID+"/control", vapi.AppendContext{Kind: vapi.Commentary, Content: "x"})
	})
}

// TestReported has answers that report an error, with the status of an error or without.
func TestReported(t *testing.T) {
	const none = "an error without a message"
	const validator = `{"message":["destination.number must be E.164","x should not exist"],` +
		`"error":"Bad Request","statusCode":400}`
	const validated = "destination.number must be E.164; x should not exist"
	type row struct {
		status int
		body   string
		want   string
	}
	tests := map[string]row{
		"accepted":                {200, `{"status":"ok"}`, ""},
		"no body":                 {200, ``, ""},
		"no JSON":                 {200, `error`, ""},
		"a list":                  {200, `["error"]`, ""},
		"a message":               {200, `{"message":"accepted"}`, ""},
		"no error":                {200, `{"error":null,"errors":[],"statusCode":200,"success":true}`, ""},
		"an empty error":          {200, `{"error":"","errors":{}}`, ""},
		"false":                   {200, `{"error":false}`, ""},
		"error":                   {200, `{"error":"it is transferred"}`, "it is transferred"},
		"error with a message":    {200, `{"error":{"message":"it is transferred","code":7}}`, "it is transferred"},
		"errors":                  {200, `{"errors":["one","two"]}`, "one; two"},
		"true":                    {200, `{"error":true}`, none},
		"a number":                {200, `{"error":7}`, none},
		"no success":              {200, `{"success":false}`, none},
		"status":                  {200, `{"status":"error","message":"it is transferred"}`, "it is transferred"},
		"an error's answer":       {200, validator, validated},
		"too large to be read":    {200, `{"error":"` + strings.Repeat("x", 1<<20) + `"}`, ""},
		"400":                     {400, validator, validated},
		"400 with one message":    {400, `{"message":"property say should not exist"}`, "property say should not exist"},
		"400 without a message":   {400, `{}`, ""},
		"400 in HTML":             {400, `<html>`, ""},
		"503":                     {503, `{"message":"not now"}`, ""},
		"several lines":           {400, `{"message":"one\n\ttwo\u2028\u202ethree\u0000"}`, "one two three"},
		"long":                    {400, `{"message":"` + strings.Repeat("é", 400) + `"}`, strings.Repeat("é", 300) + "…"},
		"the control URL and key": {400, `{"message":"{url} of {key}"}`, "http://…/…/control of …"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var controlURL string
			controlURL = loopbackControlURL(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				body := strings.NewReplacer("{url}", controlURL, "{key}", privateKey).Replace(tt.body)
				_, _ = io.WriteString(w, body)
			})
			got := mustControlClient(t, vapiclient.ControlConfig{
				AllowLoopback: true, PublicKey: readKey,
			}).Post(t.Context(), controlURL, spoken)
			if got.Reported != tt.want || got.Verdict != verdicts[tt.status] {
				t.Errorf("%s, reported %q, want %q", got.Verdict, got.Reported, tt.want)
			}
			checkQuiet(t, got.Err, tt.status != 200)
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true, Now: func() time.Time { return now }})
	for value, want := range map[string]time.Duration{
		"":                      0,
		"0":                     0,
		"7":                     7 * time.Second,
		"-7":                    0,
		"86400":                 time.Hour,
		strings.Repeat("9", 30): time.Hour, // more than fits into an integer
		"soon":                  0,
		at(90 * time.Second):    90 * time.Second,
		at(-time.Hour):          0,
		at(48 * time.Hour):      time.Hour,
	} {
		controlURL := loopbackControlURL(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", value)
			w.WriteHeader(429)
		})
		got := c.Post(t.Context(), controlURL, spoken)
		if got.Verdict != vapiclient.TryAgain || got.RetryAfter != want {
			t.Errorf("%q: got %+v, want %v", value, got, want)
		}
	}
}

// rawServer handles every connection with fn, below HTTP, and returns its URL.
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
	return "http://" + listener.Addr().String()
}

// silentServer accepts connections and does nothing with them until the test ends.
func silentServer(t *testing.T) string {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	return rawServer(t, func(*net.TCPConn) { <-done })
}

// answeringServer reads each request and passes it to answer.
func answeringServer(t *testing.T, answer func(conn *net.TCPConn, request []byte)) string {
	return rawServer(t, func(conn *net.TCPConn) {
		request := make([]byte, 4096)
		n, _ := conn.Read(request)
		answer(conn, request[:n])
	})
}

// brokenServers returns the URLs of servers that answer no request.
func brokenServers(t *testing.T) map[string]string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	return map[string]string{
		"no listener":              "http://" + listener.Addr().String(),
		"silent":                   silentServer(t),
		"closed":                   rawServer(t, func(*net.TCPConn) {}),
		"closed after the request": answeringServer(t, func(*net.TCPConn, []byte) {}),
		"reset":                    answeringServer(t, func(conn *net.TCPConn, _ []byte) { _ = conn.SetLinger(0) }),
		"echo of the request":      answeringServer(t, func(conn *net.TCPConn, r []byte) { _, _ = conn.Write(r) }),
		"secrets in the status line": answeringServer(t, func(conn *net.TCPConn, _ []byte) {
			_, _ = io.WriteString(conn, "HTTP/1.1 "+callID+"/control"+privateKey+customerNumber+"\r\n\r\n")
		}),
		"endless header": answeringServer(t, func(conn *net.TCPConn, _ []byte) {
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
			for err == nil {
				_, err = io.WriteString(conn, strings.Repeat("x", 1<<10))
			}
		}),
	}
}

func TestPostWithoutAnswer(t *testing.T) {
	c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true, Timeout: 100 * time.Millisecond})
	for name, url := range brokenServers(t) {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			receipt := c.Post(t.Context(), url+"/"+callID+"/control", spoken)
			checkReceipt(t, receipt, vapiclient.Receipt{Verdict: vapiclient.TryAgain})
			// The default timeout of a post is ten seconds.
			if spent := time.Since(start); spent >= 10*time.Second {
				t.Errorf("took %v", spent)
			}
			if name == "silent" && !errors.Is(receipt.Err, context.DeadlineExceeded) {
				t.Errorf("error %v", receipt.Err)
			}
		})
	}
	t.Run("caller's deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		patient := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true})
		receipt := patient.Post(ctx, silentServer(t)+"/"+callID+"/control", spoken)
		checkReceipt(t, receipt, vapiclient.Receipt{Verdict: vapiclient.TryAgain})
		if !errors.Is(receipt.Err, context.DeadlineExceeded) {
			t.Errorf("error %v", receipt.Err)
		}
	})
}

// longer calls try with growing timeouts until it succeeds: a busy machine may
// need a longer one for what comes before the timeout under test.
func longer(timeout time.Duration, try func(timeout time.Duration, last bool) bool) {
	const most = 5 * time.Second // shorter than the default timeout of a post
	for !try(timeout, timeout == most) && timeout < most {
		timeout = min(4*timeout, most)
	}
}

func TestHandshakeThatNeverEnds(t *testing.T) {
	host := strings.TrimPrefix(silentServer(t), "http://")
	longer(50*time.Millisecond, func(timeout time.Duration, last bool) bool {
		c := mustControlClient(t, vapiclient.ControlConfig{Hosts: []string{host}, ConnectTimeout: timeout})
		receipt := c.Post(t.Context(), "https://"+host+"/"+callID+"/control", spoken)
		checkReceipt(t, receipt, vapiclient.Receipt{Verdict: vapiclient.TryAgain})
		found := receipt.Err != nil && strings.Contains(receipt.Err.Error(), "handshake")
		if last && !found {
			t.Errorf("error %v", receipt.Err)
		}
		return found
	})
}

// Only an answer's status matters, even if its body never ends.
func TestPostBodyThatNeverEnds(t *testing.T) {
	done := make(chan struct{})
	controlURL := loopbackControlURL(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-done
	})
	t.Cleanup(func() { close(done) })
	longer(100*time.Millisecond, func(timeout time.Duration, last bool) bool {
		c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true, Timeout: timeout})
		receipt := c.Post(t.Context(), controlURL, spoken)
		if last || receipt.Verdict == vapiclient.Delivered {
			checkReceipt(t, receipt, delivered)
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
	const backend = "https://phone-call-websocket.aws-us-west-2-backend-production2.vapi.ai" + path
	c := mustControlClient(t, vapiclient.ControlConfig{})
	for controlURL, want := range map[string]string{
		backend:                       backend,
		"https://vapi.ai" + path:      "https://vapi.ai" + path,
		"https://vapi.ai:443" + path:  "https://vapi.ai" + path,
		"HTTPS://X.VAPI.AI" + path:    "https://x.vapi.ai" + path,
		"https://x.vapi.ai." + path:   "https://x.vapi.ai" + path,
		"https://x.vapi.ai.:443/?a=b": "https://x.vapi.ai/?a=b",
	} {
		if got, err := c.CheckControlURL(controlURL); got != want {
			t.Errorf("%q: got %q, %v, want %q", controlURL, got, err, want)
		}
	}
	for _, controlURL := range []string{
		"",
		"http://x.vapi.ai" + path,
		"ftp://x.vapi.ai" + path,
		"wss://x.vapi.ai" + path,
		"//x.vapi.ai" + path,
		"x.vapi.ai" + path,
		"https:x.vapi.ai" + path,
		"https:///x.vapi.ai" + path,
		"https://x.vapi.ai:8443" + path,
		"https://x.vapi.ai:80" + path,
		"https://x.vapi.ai:0443" + path,
		"https://x.vapi.ai:" + path,
		"https://x.vapi.ai:https" + path,
		"https://x.vapi.ai.." + path,
		"https://.vapi.ai" + path,
		"https://x..vapi.ai" + path,
		"https://evilvapi.ai" + path,
		"https://vapi.ai.evil.com" + path,
		"https://evil.com/vapi.ai" + path,
		"https://evil.com#x.vapi.ai",
		"https://x.vapi.ai" + path + "#f",
		"https://evil.com?.vapi.ai",
		"https://user@x.vapi.ai" + path,
		"https://x.vapi.ai@evil.com" + path,
		"https://evil.com\\@x.vapi.ai" + path,
		"https://evil.com\\.vapi.ai" + path,
		"https://evil.com%2f.vapi.ai" + path,
		"https://evil.com%00.vapi.ai" + path,
		"https://x.vapi%2Eai" + path,
		"https://x.vapi\u3002ai" + path,
		"https://x.v\u0430pi.ai" + path,
		"https://x.xn--vpi-7cd.ai" + path,
		"https://x*.vapi.ai" + path,
		"https://" + strings.Repeat("x", 64) + ".vapi.ai" + path,
		"https://" + strings.Repeat("x.", 130) + "vapi.ai" + path,
		"https://x.vapi.ai/" + strings.Repeat("x", 2048),
		"https://x.vapi.ai/a b",
		" https://x.vapi.ai" + path,
		"https://x.vapi.ai" + path + "\r\nX-A: b",
		"https://127.0.0.1" + path,
		"https://[::1]" + path,
		"https://[::1].vapi.ai" + path,
		"https://[fe80::1%25.vapi.ai]" + path,
		"https://169.254.169.254/latest/meta-data",
		"http://localhost:8080" + path,
	} {
		if got, err := c.CheckControlURL(controlURL); err == nil {
			t.Errorf("%q: got %q", controlURL, got)
		}
		checkReceipt(t, c.Post(t.Context(), controlURL, spoken), vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
	}
}

func TestConfiguredHosts(t *testing.T) {
	c := mustControlClient(t, vapiclient.ControlConfig{
		Hosts: []string{"Mock.Internal", "10.0.0.7:8080", "[fd00::7]:8080", "x.vapi.ai:8443"},
	})
	allowed := []string{
		"http://mock.internal/c", "https://MOCK.internal/c", "http://mock.internal:80/c",
		"https://mock.internal:443/c", "http://mock.internal./c",
		"http://10.0.0.7:8080/c", "https://10.0.0.7:8080/c", "http://[fd00::7]:8080/c",
		"https://x.vapi.ai:8443/c", "https://y.vapi.ai/c",
	}
	refused := []string{
		"http://mock.internal:443/c", "https://mock.internal:80/c", "http://mock.internal:8080/c",
		"http://a.mock.internal/c", "http://mock.internal.evil.com/c",
		"http://10.0.0.7/c", "http://10.0.0.7:80/c", "http://user@10.0.0.7:8080/c", "ftp://10.0.0.7:8080/c",
		"https://y.vapi.ai:8443/c", "http://y.vapi.ai/c", "http://localhost:8080/c",
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
	for _, host := range []string{
		"", ":80", "host:", "http://host", "host/path", "user@host", "host?", "host#", "ho st", "h\u00f6st",
		"host:port", "::1",
	} {
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
	configured := mustControlClient(t, vapiclient.ControlConfig{Hosts: []string{host}})
	checkReceipt(t, configured.Post(t.Context(), controlURL, spoken), delivered)
	other := mustControlClient(t, vapiclient.ControlConfig{})
	checkReceipt(t, other.Post(t.Context(), controlURL, spoken), vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
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
		checkReceipt(t, c.Post(t.Context(), "http://"+host+":"+u.Port()+u.Path, spoken), delivered)
	}
	for _, refused := range []string{
		"http://10.0.0.1:8080/c", "http://127.0.0.1.example.com/c", "http://2130706433/c", "http://0x7f.1/c",
		"http://0.0.0.0:" + u.Port() + "/c", "http://evillocalhost/c",
	} {
		if _, err := c.CheckControlURL(refused); err == nil {
			t.Errorf("%s was allowed", refused)
		}
	}
	// A name can resolve to any address, so the dialled address decides.
	elsewhere := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true}.WithTestServer("192.0.2.1:80", nil))
	checkReceipt(t, elsewhere.Post(t.Context(), "http://a.localhost/c", spoken),
		vapiclient.Receipt{Verdict: vapiclient.Misconfigured})
	if got := requests.Load(); got != 3 {
		t.Errorf("%d requests", got)
	}
}

// vapiServer starts a TLS server with a certificate for *.vapi.ai. It returns the configuration
// that leads a client there, and the number of connections.
func vapiServer(t testing.TB, handler http.HandlerFunc) (vapiclient.ControlConfig, *atomic.Int32) {
	t.Helper()
	address, roots, connections := startVapiServer(t, "127.0.0.1", handler)
	return vapiclient.ControlConfig{}.WithTestServer(address.String(), roots,
		ssrf.WithPorts(address.Port()), ssrf.WithAllowedV4Prefixes(netip.PrefixFrom(address.Addr(), 32))), connections
}

// startVapiServer returns the server's address, the authority of its certificate, and the number of
// connections.
func startVapiServer(
	t testing.TB, ip string, handler http.HandlerFunc,
) (netip.AddrPort, *x509.CertPool, *atomic.Int32) {
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
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // spare connections are closed during their handshake
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	connections := countConnections(server)
	server.StartTLS()
	t.Cleanup(server.Close)
	return netip.MustParseAddrPort(listener.Addr().String()), roots, connections
}

// countConnections counts the connections of a server that is not started yet.
func countConnections(server *httptest.Server) *atomic.Int32 {
	var connections atomic.Int32
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	return &connections
}

const vapiControlURL = "https://x.vapi.ai/" + callID + "/control"

func TestPostToVapi(t *testing.T) {
	var host, protocol string
	cfg, _ := vapiServer(t, func(w http.ResponseWriter, r *http.Request) { host, protocol = r.Host, r.Proto })
	c := mustControlClient(t, cfg)
	checkReceipt(t, c.Post(t.Context(), "https://X.vapi.ai./"+callID+"/control", spoken), delivered)
	if host != "x.vapi.ai" || protocol != "HTTP/2.0" {
		t.Errorf("host %q over %s", host, protocol)
	}
	// The certificate does not match this name. The post must be repeated nevertheless.
	checkReceipt(t, c.Post(t.Context(), "https://a.b.vapi.ai/"+callID+"/control", spoken),
		vapiclient.Receipt{Verdict: vapiclient.TryAgain})
}

// Only public addresses are allowed, whatever Vapi's host name resolves to.
func TestDialGuard(t *testing.T) {
	addresses := []string{
		"0.0.0.0:443", "0.1.2.3:443", // this network
		"10.0.0.1:443", "10.255.255.255:443", "172.16.0.1:443", "172.31.255.255:443", "192.168.1.1:443", // private
		"100.64.0.1:443", "100.127.255.254:443", // shared address space of carriers
		"100.100.100.200:443",                  // Alibaba Cloud's metadata
		"127.0.0.1:443", "127.255.255.254:443", // loopback
		// link-local: metadata and credentials of EC2, ECS and EKS
		"169.254.169.254:443", "169.254.170.2:443", "169.254.170.23:443", "169.254.0.1:443",
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
			"[::ffff:0:127.0.0.1]:443", // IPv4-translated
			// NAT64
			"[64:ff9b::7f00:1]:443", "[64:ff9b::a9fe:a9fe]:443", "[64:ff9b::a00:1]:443", "[64:ff9b:1::a9fe:a9fe]:443",
			"[2002:7f00:1::]:443", "[2002:a9fe:a9fe::1]:443", // 6to4
			"[2001::1]:443", "[2001:0:a9fe:a9fe::]:443", // Teredo
			"[2001:db8::1]:443", "[3fff::1]:443", // documentation
			"[2001:2::1]:443", "[2001:10::1]:443", "[2001:20::1]:443", // benchmarks, ORCHID
			"[100::1]:443", "[5f00::1]:443", // discard, segment routing
			// unique local: metadata of EC2 and Google Cloud
			"[fc00::1]:443", "[fd00::1]:443", "[fd00:ec2::254]:443", "[fd20:ce::254]:443",
			"[fe80::1]:443", "[febf::1]:443", "[fe80::a9fe:a9fe]:443", // link-local
			"[fec0::1]:443",                  // site-local
			"[ff02::1]:443", "[ff0e::1]:443", // multicast
			"[2606:2800:220:1:248:1893:25c8:1946]:80", // public, on another port
		)
	} else {
		t.Log("IPv6 is not available: its addresses are skipped")
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

// net/http reads the proxy variables once per process, so the test runs in a process that starts
// with them.
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
	cfg, _ := vapiServer(t, func(http.ResponseWriter, *http.Request) {})
	checkReceipt(t, mustControlClient(t, cfg).Post(t.Context(), vapiControlURL, spoken), delivered)
}

const testProxy = "http://192.0.2.1:3128" // an unused address (RFC 5737)

func TestConnectionsAreKept(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 4<<10)) // as much as is read
	}
	plain := httptest.NewUnstartedServer(http.HandlerFunc(answer))
	plainConnections := countConnections(plain)
	plain.Start()
	t.Cleanup(plain.Close)
	cfg, connections := vapiServer(t, answer)
	for _, row := range []struct {
		cfg         vapiclient.ControlConfig
		controlURL  string
		connections *atomic.Int32
	}{
		{vapiclient.ControlConfig{AllowLoopback: true}, plain.URL + "/c", plainConnections}, // HTTP/1.1
		{cfg, vapiControlURL, connections},                                                  // HTTP/2
	} {
		c := mustControlClient(t, row.cfg)
		for range 20 {
			checkReceipt(t, c.Post(t.Context(), row.controlURL, spoken), delivered)
		}
		if got := row.connections.Load(); got != 1 {
			t.Errorf("%s: %d connections", row.controlURL, got)
		}
	}
}

// All posts must reach the server before it answers the first one.
func TestConcurrentPosts(t *testing.T) {
	const posts = 50
	for name, newClient := range map[string]func(http.HandlerFunc) (*vapiclient.ControlClient, string){
		"HTTP/1.1": func(handler http.HandlerFunc) (*vapiclient.ControlClient, string) {
			c := mustControlClient(t, vapiclient.ControlConfig{AllowLoopback: true})
			return c, loopbackControlURL(t, handler)
		},
		"HTTP/2": func(handler http.HandlerFunc) (*vapiclient.ControlClient, string) {
			cfg, _ := vapiServer(t, handler)
			return mustControlClient(t, cfg), vapiControlURL
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
					checkReceipt(t, c.Post(t.Context(), controlURL, spoken), delivered)
				})
			}
			wait.Wait()
		})
	}
}

func FuzzControlURL(f *testing.F) {
	for _, seed := range []string{
		vapiControlURL, "https://vapi.ai.:443/x?y", "https://evilvapi.ai/", "https://vapi.ai.evil.com/",
		"https://a@vapi.ai/", `https://evil.com\@vapi.ai/`, "https://[::1%25.vapi.ai]/", "HTTPS://X.VAPI.AI",
		"https://xn--a.vapi.ai:443", "https:vapi.ai", "https://vapi.ai:", "https://x.vapi.ai/%2f..//",
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
		if u.Host != "vapi.ai" && !strings.HasSuffix(u.Host, ".vapi.ai") || strings.ContainsAny(u.Host, "@:/\\%[]?# ") {
			t.Fatalf("%q is requested from host %q", controlURL, u.Host)
		}
		if again, err := c.CheckControlURL(requested); err != nil || again != requested {
			t.Fatalf("%q becomes %q, %v", requested, again, err)
		}
	})
}

func TestNamesCall(t *testing.T) {
	const id = "7420f27a-30fd-4f49-a995-5549ae7cc00d"
	for _, tt := range []struct {
		url, call string
		want      bool
	}{
		{"https://phone-call-websocket.vapi.ai/" + id + "/control", id, true},
		{"https://phone-call-websocket.vapi.ai/calls/" + id, id, true},
		{"https://phone-call-websocket.vapi.ai/a%2Fb/control", "a/b", true},
		{"https://phone-call-websocket.vapi.ai/other/control", id, false},
		{"https://phone-call-websocket.vapi.ai/" + id + "0/control", id, false},
		{"https://phone-call-websocket.vapi.ai/x" + id + "/control", id, false},
		{"https://phone-call-websocket.vapi.ai/other/control?call=" + id, id, false},
		{"https://phone-call-websocket.vapi.ai/other/control?x=/" + id + "/", id, false},
		{"https://phone-call-websocket.vapi.ai/other/control#/" + id + "/control", id, false},
		{"https://" + id + ".vapi.ai/other/control", id, false},
		{"https://" + id + "@phone-call-websocket.vapi.ai/other/control", id, false},
		{"https://phone-call-websocket.vapi.ai/other%2F" + id + "/control", id, false},
		{"https://phone-call-websocket.vapi.ai//control", "", false},
		{"https://phone-call-websocket.vapi.ai/../control", "..", false},
		{"https://phone-call-websocket.vapi.ai/a/b/control", "a/b", false},
		{"https://phone-call-websocket.vapi.ai/%zz/control", "%zz", false},
		{"", id, false},
	} {
		if got := vapiclient.NamesCall(tt.url, tt.call); got != tt.want {
			t.Errorf("%s names the call %q: %v", tt.url, tt.call, got)
		}
	}
}
