package dev_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/secret"
)

// TestRefusedRequests sends what a web page and another program can send. Nothing of it may be shown.
func TestRefusedRequests(t *testing.T) {
	l := start(t, dev.Config{PublicURL: "https://tunnel.example"})
	base := strings.TrimSuffix(l.url, "/vapi")
	webhook := bytes.ReplaceAll(sample(t, "spending-report"), []byte("spending_report"), []byte("planted_name"))
	for name, row := range map[string]struct {
		host   string
		header http.Header // beside the token
		want   int
	}{
		"no token":               {header: http.Header{"Authorization": nil}, want: 401},
		"another token":          {header: http.Header{"Authorization": {"Bearer " + guard.NewToken()}}, want: 401},
		"a rebound name":         {host: "planted.example:8787", want: 403},
		"a page":                 {header: http.Header{"Origin": {"https://planted.example"}}, want: 403},
		"a page on another port": {header: http.Header{"Origin": {"http://127.0.0.1:1"}}, want: 403},
		"a page's image":         {header: http.Header{"Sec-Fetch-Site": {"cross-site"}}, want: 403},
		"a form":                 {header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, want: 415},
		"a form with a file":     {header: http.Header{"Content-Type": {"multipart/form-data; boundary=planted"}}, want: 415},
		"a form with text":       {header: http.Header{"Content-Type": {"text/plain"}}, want: 415},
		"no type":                {header: http.Header{"Content-Type": nil}, want: 415},
	} {
		for _, path := range []string{"/vapi", "/results/planted-token", "/jobs/cancel?id=planted"} {
			request, err := http.NewRequest(http.MethodPost, base+path, bytes.NewReader(webhook))
			if err != nil {
				t.Fatal(err)
			}
			request.Host = row.host
			request.Header.Set("Authorization", "Bearer "+l.token)
			request.Header.Set("Content-Type", "application/json")
			for header, values := range row.header {
				request.Header[header] = values
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != row.want {
				t.Errorf("%s, %s: %s, want %d", name, path, response.Status, row.want)
			}
		}
	}
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	if s := l.screen.String(); strings.Contains(s, "planted") || !strings.Contains(s, "request refused") {
		t.Errorf("the screen shows:\n%s", s)
	}
}

// says replaces the tool spending_report by one that returns a text.
func says(text string) func() ([]asynctool.Definition, error) {
	return stub(0, func(context.Context, asynctool.Call) (asynctool.Result, error) { return asynctool.Text(text), nil })
}

// TestControlURLOnThisMachine posts webhooks whose control URLs lead to another program on this machine. It gets a
// message only if the sender has a credential.
func TestControlURLOnThisMachine(t *testing.T) {
	for name, row := range map[string]struct {
		auth    string
		header  http.Header
		reaches bool
	}{
		"with the token":             {reaches: true},
		"unverified":                 {auth: `{"type":"none"}`, header: http.Header{"Authorization": nil}},
		"unverified, another token":  {auth: `{"type":"none"}`, header: http.Header{"Authorization": {"Bearer guessed"}}},
		"unverified, with the token": {auth: `{"type":"none"}`, reaches: true},
		"with a credential of a user": {
			auth:   `{"type":"secret","secret":"secret-of-a-local-run-at-Vapi"}`,
			header: http.Header{"X-Vapi-Secret": {"secret-of-a-local-run-at-Vapi"}}, reaches: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			reached := make(chan string, 10)
			program := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				reached <- r.URL.Path
			}))
			defer program.Close()
			webhook := regexp.MustCompile(`https://simulated-call\.vapi\.ai/`).
				ReplaceAll(sample(t, "spending-report"), []byte(program.URL+"/planted/"))
			l := start(t, dev.Config{Auth: row.auth, Tools: says("done")})
			if status, answer := l.post(t, webhook, row.header); status != http.StatusOK {
				t.Fatalf("answered with %d %s", status, answer)
			}
			l.screen.wait(t, "spending_report     delivered to the call|not delivered: the control URL must not be posted to")
			if got := len(reached) > 0; got != row.reaches {
				t.Errorf("the program got a message: %t, want %t", got, row.reaches)
			}
			// The simulated call is reached in any case.
			l.post(t, bytes.ReplaceAll(sample(t, "spending-report"), []byte("call_csv1"), []byte("another")), row.header)
			l.screen.wait(t, "│ done")
		})
	}
}

// TestControlURLOfAnEndedProgram posts a webhook whose control URL was served by a program that has ended, such as
// ringback send. Its call has ended, too, and no repeat is made.
func TestControlURLOfAnEndedProgram(t *testing.T) {
	program := httptest.NewServer(http.NotFoundHandler())
	program.Close()
	webhook := regexp.MustCompile(`https://simulated-call\.vapi\.ai/`).
		ReplaceAll(sample(t, "spending-report"), []byte(program.URL+"/"))
	l := start(t, dev.Config{Tools: says("done")})
	l.post(t, webhook, nil)
	l.screen.wait(t, "not delivered: the call has ended. It becomes an event:")
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	if s := l.screen.String(); strings.Contains(s, "Next try") || !strings.Contains(s, "│ done") {
		t.Errorf("the screen shows:\n%s", s)
	}
}

// TestTerminalObeysNothing plays texts of a model and a tool that a terminal would obey.
func TestTerminalObeysNothing(t *testing.T) {
	l := start(t, dev.Config{Tools: says("a\x1b]0;planted\a result\u009b31m\u202e")})
	const hostile = "\u009b2J\u202e\u2066\u007f"
	for name, replaced := range map[string]string{
		`"name": "spending_report"`: `"name": "planted` + hostile + `"`,
		`"csv": "`:                  `"csv": "` + hostile,
		`call_csv1`:                 `call_` + hostile,
	} {
		l.post(t, bytes.ReplaceAll(sample(t, "spending-report"), []byte(name), []byte(replaced)), nil)
	}
	l.screen.wait(t, "planted.*2J.* called")
	l.screen.wait(t, "a.*result")
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	for _, r := range l.screen.String() {
		if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069) {
			t.Errorf("the screen shows %U:\n%q", r, l.screen)
			break
		}
	}
}

// TestTokenOfARun checks the token's life, and that no terminal shows it.
func TestTokenOfARun(t *testing.T) {
	a := start(t, dev.Config{Try: "it"})
	a.screen.wait(t, "Ready.")
	if strings.Contains(a.screen.String(), a.token) {
		t.Errorf("the screen shows the token:\n%s", a.screen)
	}
	if len(a.token) < 24 {
		t.Errorf("the token has %d characters", len(a.token))
	}
	a.stop()
	if err := a.end(t); err != nil {
		t.Fatal(err)
	}
	if token, err := guard.Token(a.addr()); token != "" || err != nil {
		t.Errorf("after the end, the token is %q, %v", token, err)
	}
	if b := start(t, dev.Config{}); b.token == a.token {
		t.Error("two runs have one token")
	}
}

// TestBehindATunnel reaches the run through a reverse proxy on HTTPS, as a tunnel is one. An external system
// completes a job at the URL that the tool passed on, and an operator's requests do not get through.
func TestBehindATunnel(t *testing.T) {
	var to atomic.Pointer[url.URL]
	tunnel := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to.Load())
		r.SetXForwarded()
		r.Out.Host = r.In.Host // the name of the tunnel, as tunnels pass it on
	}})
	defer tunnel.Close()
	urls := make(chan string, 1)
	waits := func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{asynctool.Tool[map[string]any]{
			Name: "spending_report", Description: "A tool for tests.", Schema: &jsonschema.Schema{Type: "object"},
			Run: func(ctx context.Context, call asynctool.Call, _ map[string]any) (asynctool.Result, error) {
				u, err := call.CompletionURL(ctx)
				if err == nil {
					urls <- u
				}
				return asynctool.Wait(), err
			},
		}}, nil
	}
	l := start(t, dev.Config{PublicURL: tunnel.URL, Tools: waits})
	gateway, err := url.Parse("http://" + l.addr())
	if err != nil {
		t.Fatal(err)
	}
	to.Store(gateway)
	request := func(method, at, token, body string) int {
		t.Helper()
		r, err := http.NewRequest(method, at, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := tunnel.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	webhook := string(sample(t, "spending-report"))
	if status := request("POST", tunnel.URL+"/vapi", "another", webhook); status != http.StatusUnauthorized {
		t.Errorf("without the credential: %d", status)
	}
	if status := request("POST", tunnel.URL+"/vapi", l.token, webhook); status != http.StatusOK {
		t.Fatalf("the webhook was answered with %d", status)
	}
	at := <-urls
	if !strings.HasPrefix(at, tunnel.URL+"/results/") {
		t.Fatal("the completion URL is not at the tunnel")
	}
	l.screen.wait(t, "waits for an external system")
	if status := request("POST", at, "", `{"result":"Approved by a person."}`); status != http.StatusOK {
		t.Errorf("the completion was answered with %d", status)
	}
	l.screen.wait(t, "│ Approved by a person.")
	if status := request("GET", tunnel.URL+operator.ProofPath, "", ""); status != http.StatusNotFound {
		t.Errorf("the request for a proof was answered with %d", status)
	}
	if status := request("GET", tunnel.URL+"/jobs", l.token, ""); status != http.StatusNotFound {
		t.Errorf("the jobs were shown through the tunnel: %d", status)
	}
}

// TestForeignWebhooks posts what services post to the completion URL of a tool that reads it, and what a web page could
// send if it knew the URL. The token is the credential: without one of the run, only JSON is read at all.
func TestForeignWebhooks(t *testing.T) {
	urls, posts := make(chan string, 1), make(chan string, 20)
	reads := func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{asynctool.Tool[map[string]any]{
			Name: "spending_report", Description: "A tool for tests.", Schema: &jsonschema.Schema{Type: "object"},
			Run: func(ctx context.Context, call asynctool.Call, _ map[string]any) (asynctool.Result, error) {
				u, err := call.CompletionURL(ctx)
				urls <- u
				return asynctool.Wait(), err
			},
			OnPost: func(_ context.Context, _ asynctool.Call, p asynctool.Post) (asynctool.Result, error) {
				posts <- p.Header.Get("Content-Type") + " " + string(p.Body)
				if string(p.Body) == "state=done" {
					return asynctool.Text("It is done."), nil
				}
				return asynctool.Wait(), nil
			},
		}}, nil
	}
	l := start(t, dev.Config{Tools: reads})
	l.post(t, sample(t, "spending-report"), nil)
	at := <-urls
	l.screen.wait(t, "waits for an external system")
	forged := at[:len(at)-1] + map[bool]string{true: "B", false: "A"}[strings.HasSuffix(at, "A")]
	other, err := completion.NewKeys(secret.Fixed(`{"current":"0123456789abcdef0123456789abcdef"}`), nil).
		SignPosts(t.Context(), "planted", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	const form = "application/x-www-form-urlencoded"
	post := func(at, kind, body string, header ...string) int {
		t.Helper()
		request, err := http.NewRequest(http.MethodPost, at, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if kind != "" {
			request.Header.Set("Content-Type", kind)
		}
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		request.Host = request.Header.Get("Host")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	for name, row := range map[string]struct {
		at, kind string
		header   []string
		want     int
	}{
		"a page's form":               {at: at, kind: form, header: []string{"Origin", "https://evil.example"}, want: 403},
		"a page's form, no origin":    {at: at, kind: form, header: []string{"Origin", "null"}, want: 403},
		"a page's form, another site": {at: at, kind: form, header: []string{"Sec-Fetch-Site", "cross-site"}, want: 403},
		"a page's text": {
			at: at, kind: "text/plain", header: []string{"Sec-Fetch-Site", "same-site"}, want: 403,
		},
		"a page's JSON": {
			at: at, kind: "application/json", header: []string{"Origin", "https://evil.example"}, want: 403,
		},
		"a rebound name":        {at: at, kind: form, header: []string{"Host", "evil.example"}, want: 403},
		"a forged token":        {at: forged, kind: form, want: 415},
		"a forged token, JSON":  {at: forged, kind: "application/json", want: 401},
		"another run's token":   {at: strings.ReplaceAll(l.url, "/vapi", "/results/") + other, kind: form, want: 415},
		"no token":              {at: strings.ReplaceAll(l.url, "/vapi", "/results/"), kind: form, want: 415},
		"the token of webhooks": {at: strings.ReplaceAll(l.url, "/vapi", "/results/") + l.token, kind: form, want: 415},
		"a token elsewhere": {
			at: strings.ReplaceAll(at, "/results/", "/vapi/"), kind: form, want: 415,
		},
	} {
		if status := post(row.at, row.kind, "state=done", row.header...); status != row.want {
			t.Errorf("%s: %d, want %d", name, status, row.want)
		}
	}
	if len(posts) != 0 {
		t.Fatalf("the tool has read %q", <-posts)
	}
	for _, row := range []struct{ kind, body string }{
		{"text/xml", "<state>working</state>"}, {"multipart/form-data; boundary=x", "--x--"}, {"", "\x00\xff\r\n"},
		{form, "state=done"},
	} {
		if status := post(at, row.kind, row.body); status != http.StatusAccepted {
			t.Errorf("%q: %d", row.kind, status)
		}
		if got := <-posts; got != row.kind+" "+row.body {
			t.Errorf("the tool has read %q, want %q", got, row)
		}
	}
	l.screen.wait(t, "│ It is done.")
	if status := post(at, form, "state=done"); status != http.StatusAccepted { // as in a deployment
		t.Errorf("after the result: %d", status)
	}
}

// TestPublicURL sends what a tunnel sends. External systems get completion URLs at the tunnel, which only the simulated
// shop does not need.
func TestPublicURL(t *testing.T) {
	urls := make(chan string, 1)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		urls <- regexp.MustCompile(`https://tunnel\.example/results/[^"]+`).FindString(string(body))
		w.WriteHeader(http.StatusAccepted)
	}))
	defer service.Close()
	for name, answered := range map[string]bool{"the simulated shop": false, "a service": true} {
		t.Run(name, func(t *testing.T) {
			all := func() ([]asynctool.Definition, error) {
				if answered {
					t.Setenv("REQUESTS_API_URL", service.URL)
				}
				return shop.All()
			}
			l := start(t, dev.Config{PublicURL: "https://tunnel.example/", ShopDelay: time.Millisecond, Tools: all})
			post := func(path string, body []byte) {
				t.Helper()
				request, err := http.NewRequest(http.MethodPost, "http://"+l.addr()+path, bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				request.Host = "tunnel.example"
				request.Header.Set("Authorization", "Bearer "+l.token)
				request.Header.Set("Content-Type", "application/json")
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", path, response.Status)
				}
			}
			post("/vapi", sample(t, "notify-when-ready"))
			if answered {
				post(strings.TrimPrefix(<-urls, "https://tunnel.example"), []byte(`{"result":"Approved by a person."}`))
			}
			l.screen.wait(t, "│ Approved by")
		})
	}
}

// TestTerminalShowsNoCaller has calls that are not on this machine. Of them, the terminal shows neither the id, nor a
// number, nor what was said.
func TestTerminalShowsNoCaller(t *testing.T) {
	for name, verbose := range map[string]bool{"words": false, "log records": true} {
		t.Run(name, func(t *testing.T) { testTerminalShowsNoCaller(t, verbose) })
	}
}

func testTerminalShowsNoCaller(t *testing.T, verbose bool) {
	const call = "planted-call"
	l := start(t, dev.Config{
		Auth: `{"type":"bearer","token":"planted-token-of-32-characters"}`, PublicKey: "planted-key",
		Tools: says("planted result"), Verbose: verbose,
	})
	header := http.Header{"Authorization": {"Bearer planted-token-of-32-characters"}}
	post := func(controlURL string, replaced ...string) {
		t.Helper()
		body := regexp.MustCompile(`https://simulated-call\.vapi\.ai/[^"]*`).
			ReplaceAllString(string(sample(t, "spending-report")), controlURL)
		body = strings.NewReplacer(append(replaced, "11111111-2222-4333-8444-000000000003", call,
			"+15550100123", "+4915100000001", `"csv": "`, `"csv": "planted argument `)...).Replace(body)
		for _, part := range []string{`"id": "` + call, `"number": "+4915100000001"`, "planted argument"} {
			if !strings.Contains(body, part) {
				t.Fatalf("the sample has no %s: %s", part, body)
			}
		}
		if status, answer := l.post(t, []byte(body), header); status != http.StatusOK {
			t.Fatalf("answered with %d %s", status, answer)
		}
	}
	// Nothing is posted to these URLs.
	post("https://planted.example/planted-call/control")
	const undelivered = "not delivered: the control URL must not be posted to, or refuses all posts"
	l.screen.wait(t, undelivered)
	post("http://x.vapi.ai/planted-call/control", "call_csv1", "another")
	l.screen.wait(t, "(?s)"+undelivered+".*"+undelivered)
	l.post(t, []byte(`{"message":{"type":"status-update","status":"ended","call":{"id":"`+call+`"}}}`), header)
	if l.screen.wait(t, "the call has ended|call ended  call="+job.CallHash(call)); verbose {
		l.screen.inOrder(t, "call ended  call="+job.CallHash(call))
	}
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	if s := l.screen.String(); strings.Contains(s, "planted") || strings.Contains(s, "4915100000001") ||
		!strings.Contains(s, "spending_report     called\n") || !strings.Contains(s, "Vapi got its answer in ") {
		t.Errorf("the screen shows:\n%s", s)
	}
}

// TestTerminalShowsNoAnswer answers a webhook of a call that is not on this machine with a result.
func TestTerminalShowsNoAnswer(t *testing.T) {
	webhook := bytes.ReplaceAll(sample(t, "spending-report"), []byte("simulated-call.vapi.ai"), []byte("planted.vapi.ai"))
	webhook = bytes.Replace(webhook, []byte(`"async": true`), []byte(`"async": false`), 1)
	l := start(t, dev.Config{Tools: quick(says("planted result"))})
	if _, answer := l.post(t, webhook, nil); !strings.Contains(answer, "planted result") {
		t.Fatalf("the answer is %s", answer)
	}
	l.screen.wait(t, "Vapi got its answer in .*\n")
	l.stop()
	if err := l.end(t); err != nil {
		t.Fatal(err)
	}
	if s := l.screen.String(); strings.Contains(s, "planted") {
		t.Errorf("the screen shows:\n%s", s)
	}
}
