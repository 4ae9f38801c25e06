package cli_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/asynctooltest"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/operator/operatortest"
)

// planted is the secret of a credential.
const planted = "planted-4f1d0c6be27a95c3e8"

// pretends answers to each request what a local run could answer to a webhook.
func pretends(conn net.Conn, in io.Reader) {
	const answer = "HTTP/1.1 200 OK\r\nRingback-Local: jobs\r\nContent-Length: 14\r\n\r\n" + `{"results":[]}`
	for requests := bufio.NewReader(in); ; {
		r, err := http.ReadRequest(requests)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(conn, answer)
	}
}

// relaysTo passes everything on to an address.
func relaysTo(addr string) func(conn net.Conn, in io.Reader) {
	return func(conn net.Conn, in io.Reader) {
		run, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer run.Close()
		go func() {
			io.Copy(conn, run)
			conn.Close()
		}()
		io.Copy(run, in)
	}
}

// TestSecretsReachTheOwnRunOnly runs every command that sends a secret to a local run. Another program listens there.
func TestSecretsReachTheOwnRunOnly(t *testing.T) {
	withoutSettings(t)
	account := atVapi(t)
	account.Add("assistant", `{"id":"a-1","model":{"provider":"openai"}}`)
	const bearerPlan = `{"type":"bearer","token":"` + planted + `"}`
	webhook := filepath.Join(t.TempDir(), "webhook.json")
	if err := os.WriteFile(webhook, asynctooltest.Webhook(t, "pay", `{"card":"`+planted+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	toolCallsFile, err := filepath.Abs(toolCalls)
	if err != nil {
		t.Fatal(err)
	}
	const says = "the program at this address has not proven that it is your local run, and gets no secret; " +
		"start ringback dev in another terminal, or give the credential with a flag"
	type row struct {
		tools     cli.Tools
		env       []string
		file      string // of the environment
		arguments func(addr string) []string
		err       string
	}
	send := func(more ...string) func(string) []string {
		return func(addr string) []string {
			return append([]string{"send", toolCallsFile, "--url", "http://" + addr + "/vapi"}, more...)
		}
	}
	local := func(arguments ...string) func(string) []string {
		return func(addr string) []string { return append(arguments, "--local", "--addr", addr) }
	}
	rows := map[string]row{
		"send, a bearer token": {env: []string{"WEBHOOK_AUTH", bearerPlan}, arguments: send(), err: says},
		"send, a secret": {env: []string{"WEBHOOK_AUTH", `{"type":"secret","secret":"` + planted + `"}`},
			arguments: send(), err: says},
		"send, a token in another header": {env: []string{"WEBHOOK_AUTH",
			`{"type":"bearer","token":"` + planted + `","headerName":"X-Key","bearerPrefixEnabled":false}`},
			arguments: send(), err: says},
		"send, two credentials": {env: []string{"WEBHOOK_AUTH",
			"[" + bearerPlan + `,{"type":"hmac","secretKey":"k3y","algorithm":"sha256"}]`}, arguments: send(), err: says},
		"send, RINGBACK_BEARER": {env: []string{"RINGBACK_BEARER", planted}, arguments: send(), err: says},
		"send, RINGBACK_SECRET": {env: []string{"RINGBACK_SECRET", planted}, arguments: send(), err: says},
		"send, .env":            {file: "WEBHOOK_AUTH=" + bearerPlan + "\n", arguments: send(), err: says},
		"send, an empty flag": {env: []string{"WEBHOOK_AUTH", bearerPlan}, arguments: send("--bearer", ""),
			err: says},
		"send, by name": {env: []string{"WEBHOOK_AUTH", bearerPlan}, arguments: func(addr string) []string {
			return send()(strings.Replace(addr, "127.0.0.1", "localhost", 1))
		}, err: says},
		"send, an encrypted argument": {tools: payments, arguments: func(addr string) []string {
			return []string{"send", webhook, "--url", "http://" + addr + "/vapi"}
		}, err: "has no public key to encrypt it with"},
		"call": {env: []string{"WEBHOOK_AUTH", bearerPlan}, arguments: func(addr string) []string {
			return []string{"call", "order_status", "order_id=A-1042", "--url", "http://" + addr + "/vapi"}
		}, err: says},
		"call, an encrypted argument": {tools: payments, arguments: func(addr string) []string {
			return []string{"call", "pay", "card=" + planted, "--url", "http://" + addr + "/vapi"}
		}, err: "has no public key to encrypt it with"},
		"doctor": {env: []string{"WEBHOOK_AUTH", bearerPlan}, arguments: func(addr string) []string {
			return []string{"doctor", "--url", "http://" + addr + "/vapi", "--assistant", "a-1"}
		}, err: "does not answer: the program at this address has not proven that it is your local run"},
		"jobs":      {arguments: local("jobs", "list"), err: "has not proven that it is your local run"},
		"calls":     {arguments: local("calls", "list"), err: "has not proven that it is your local run"},
		"dead":      {arguments: local("dead", "list"), err: "has not proven that it is your local run"},
		"replay":    {arguments: local("jobs", "replay", "j_"+planted), err: "has not proven that it is your local run"},
		"customers": {arguments: local("customers", "forget", "+15550100123", "--yes"), err: "has not proven"},
		"ui":        {arguments: local("ui"), err: "local run"},
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		t.Run(name, func(t *testing.T) {
			row := rows[name]
			if row.tools == nil {
				row.tools = shop.All
			}
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			t.Chdir(t.TempDir())
			if err := os.WriteFile(".env", []byte(row.file), 0o600); err != nil {
				t.Fatal(err)
			}
			s := operatortest.Listen(t, "127.0.0.1:0", pretends)
			// A run that was killed leaves its token.
			for _, token := range []string{"", guard.NewToken()} {
				if token != "" {
					if _, err := guard.Store(s.Addr, token); err != nil {
						t.Fatal(err)
					}
				}
				code, out, errOut := runWith(t, row.tools, row.env, row.arguments(s.Addr)...)
				if code != 1 || !strings.Contains(out+errOut, row.err) {
					t.Errorf("code %d, out %q, err %q", code, out, errOut)
				}
				got := s.Received()
				for _, secret := range []string{planted, token, "15550100123", "order_id"} {
					if secret != "" && strings.Contains(got, secret) {
						t.Errorf("the program received %q in\n%s", secret, got)
					}
				}
				if token != "" && !strings.Contains(got, operator.ProofPath) {
					t.Errorf("the program was not asked for a proof; it received %q", got)
				}
			}
		})
	}
}

// TestSecretsWithTheTokenOfOthers finds a token that others may have read, so that a proof would prove nothing.
func TestSecretsWithTheTokenOfOthers(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	token := guard.NewToken()
	proof := operator.ProofHandler(token)
	var requests []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, fmt.Sprint(r.URL, r.Header))
		proof.ServeHTTP(w, r)
	}))
	defer server.Close()
	if _, err := guard.Store(server.Listener.Addr().String(), token); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(cache, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return os.Chmod(name, 0o644)
	}); err != nil {
		t.Fatal(err)
	}
	for _, env := range [][]string{nil, {"WEBHOOK_AUTH", `{"type":"bearer","token":"` + planted + `"}`}} {
		code, _, errOut := runIn(t, env, "send", toolCalls, "--url", server.URL+"/vapi")
		if code != 1 || !strings.Contains(errOut, "another user may have written or read "+cache) || len(requests) > 0 {
			t.Errorf("code %d, err %q, the program received %q", code, errOut, requests)
		}
	}
}

// TestSecretsThroughARelay passes on what the commands and the run of the same user say, at another address.
func TestSecretsThroughARelay(t *testing.T) {
	const credential = `{"type":"bearer","token":"` + planted + `"}`
	for name, at := range map[string]string{"another port": "127.0.0.1:0", "another address": "[::1]"} {
		t.Run(name, func(t *testing.T) {
			url := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: shop.All, Auth: credential})
			host := hostOf(url)
			_, port, _ := strings.Cut(host, ":")
			token, err := guard.Token(host)
			if err != nil || token == "" {
				t.Fatal(err)
			}
			if at == "[::1]" {
				at += ":" + port
			}
			s := operatortest.Listen(t, at, relaysTo(host))
			targets := []string{s.Addr}
			if name == "another address" {
				targets = append(targets, "localhost:"+port)
			}
			// The relay would even know the name of a file with the token of the run.
			if _, err := guard.Store(s.Addr, token); err != nil {
				t.Fatal(err)
			}
			for _, target := range targets {
				runIn(t, []string{"WEBHOOK_AUTH", credential}, "send", toolCalls, "--url", "http://"+target+"/vapi")
				run(t, "send", toolCalls, "--url", "http://"+target+"/vapi")
				run(t, "jobs", "list", "--local", "--addr", target)
				run(t, "ui", "--local", "--addr", target)
			}
			got := s.Received()
			if !strings.Contains(got, operator.ProofPath) || strings.Contains(got, planted) || strings.Contains(got, token) {
				t.Errorf("the relay received\n%s", got)
			}
		})
	}
}

// TestCredentialOfTheEnvironment uses one credential for the run and for the commands, as .env has it.
func TestCredentialOfTheEnvironment(t *testing.T) {
	withoutSettings(t)
	for name, credential := range map[string]string{
		"bearer": `{"type":"bearer","token":"` + planted + `"}`,
		"secret": `{"type":"secret","secret":"` + planted + `"}`,
		"hmac":   `{"type":"hmac","secretKey":"` + planted + `","algorithm":"sha256"}`,
		"none":   `{"type":"none"}`,
	} {
		t.Run(name, func(t *testing.T) {
			url := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: shop.All, Auth: credential})
			file, err := filepath.Abs("../../events/vapi/hang.json")
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			if err := os.WriteFile(".env", []byte("WEBHOOK_AUTH="+credential+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, at := range []string{url, strings.Replace(url, "127.0.0.1", "localhost", 1)} {
				if code, out, errOut := run(t, "send", file, "--url", at); code != 0 {
					t.Errorf("send: code %d, out %q, err %q", code, out, errOut)
				}
			}
			if name == "none" { // such a run posts to no simulated call
				return
			}
			code, out, errOut := run(t, "call", "order_status", "order_id=A-1042", "--url", url)
			if code != 0 || !strings.Contains(out, "result ") {
				t.Errorf("call: code %d, out %q, err %q", code, out, errOut)
			}
		})
	}
}

// TestCredentialForAnotherProgram sends a credential that the user has given for it, and a signature.
func TestCredentialForAnotherProgram(t *testing.T) {
	const signs = `{"type":"hmac","secretKey":"` + planted + `","algorithm":"sha256"}`
	for name, row := range map[string]struct {
		env       []string
		arguments []string
		want      string
	}{
		"a flag":        {nil, []string{"--bearer", planted}, planted},
		"a plan":        {nil, []string{"--auth", `{"type":"secret","secret":"` + planted + `"}`}, planted},
		"a signature":   {[]string{"WEBHOOK_AUTH", signs}, nil, ""},
		"RINGBACK_HMAC": {[]string{"RINGBACK_HMAC", planted}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			s := operatortest.Listen(t, "127.0.0.1:0", pretends)
			if _, err := guard.Store(s.Addr, guard.NewToken()); err != nil {
				t.Fatal(err)
			}
			arguments := append([]string{"send", toolCalls, "--url", "http://" + s.Addr + "/vapi"}, row.arguments...)
			if code, out, errOut := runIn(t, row.env, arguments...); code != 0 {
				t.Errorf("code %d, out %q, err %q", code, out, errOut)
			}
			got := s.Received()
			if !strings.Contains(got, "order_id") || strings.Contains(got, planted) != (row.want != "") {
				t.Errorf("the program received\n%s", got)
			}
		})
	}
	account := atVapi(t)
	account.Add("assistant", `{"id":"a-1","model":{"provider":"openai"}}`)
	s := operatortest.Listen(t, "127.0.0.1:0", pretends)
	run(t, "doctor", "--url", "http://"+s.Addr+"/vapi", "--assistant", "a-1", "--auth",
		`{"type":"bearer","token":"`+planted+`"}`)
	if got := s.Received(); !strings.Contains(got, planted) {
		t.Errorf("the program received from doctor\n%s", got)
	}
}
