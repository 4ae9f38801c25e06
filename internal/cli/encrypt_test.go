package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/asynctooltest"
	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/memkey"
	"github.com/ringback/ringback/vapi"
)

type card struct {
	Card string `json:"card"`
}

// payments are tools with an encrypted argument.
func payments() ([]asynctool.Definition, error) {
	return []asynctool.Definition{asynctool.Tool[card]{
		Name: "pay", Description: "Pays.", Encrypted: []string{"card"},
		Run: func(context.Context, asynctool.Call, card) (asynctool.Result, error) {
			return asynctool.Text("Paid."), nil
		},
	}}, nil
}

// runPayments runs a command with these tools.
func runPayments(arguments ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = cli.Run(payments, arguments, &o, &e)
	return code, o.String(), e.String()
}

// newKey returns a key, its public key in PEM, and a file with that.
func newKey(t *testing.T) (key *memkey.Key, pem, file string) {
	t.Helper()
	key, err := memkey.New()
	if err != nil {
		t.Fatal(err)
	}
	if pem, err = encryption.FormatPublicKey(key.Public()); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, []byte(pem), 0o600); err != nil {
		t.Fatal(err)
	}
	return key, pem, file
}

// TestSendEncrypts: send encrypts arguments as Vapi does, with the key of the deployment.
func TestSendEncrypts(t *testing.T) {
	key, pem, file := newKey(t)
	t.Setenv("WEBHOOK_AUTH", `{"type":"none"}`)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	webhook := filepath.Join(t.TempDir(), "webhook.json")
	body := asynctooltest.Webhook(t, "pay", `{"card":"planted-4111"}`)
	if err := os.WriteFile(webhook, body, 0o600); err != nil {
		t.Fatal(err)
	}
	const unknown = "has no public key to encrypt it with"
	var posted []byte
	accept := func(w http.ResponseWriter, r *http.Request) {
		posted, _ = io.ReadAll(r.Body)
		io.WriteString(w, `{"results":[]}`)
	}
	serve := func(h http.HandlerFunc) string {
		mux := http.NewServeMux()
		mux.HandleFunc("POST /vapi", accept)
		mux.HandleFunc("GET "+dev.ArgumentKeyPath, h)
		return serveOwn(t, mux)
	}
	local := serve(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, pem) })
	other := serve(http.NotFound)
	redirect := serve(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, local+dev.ArgumentKeyPath, http.StatusFound)
	})
	for name, row := range map[string]struct {
		url, file string
		err       string // empty: the webhook is posted
	}{
		"the local run":             {local + "/vapi?x=y", "", ""},
		"a file":                    {other + "/vapi", file, ""},
		"a deployment without file": {"https://hooks.example.com/vapi", "", unknown},
		"no local run":              {other + "/vapi", "", unknown},
		"a redirect":                {redirect + "/vapi", "", unknown},
		"nothing listens":           {"http://127.0.0.1:1/vapi", "", "connection refused"},
		"no such file":              {local + "/vapi", file + ".no", "--argument-key: open"},
		"a file without a key":      {local + "/vapi", webhook, "--argument-key: this is not the public key"},
	} {
		t.Run(name, func(t *testing.T) {
			posted = nil
			arguments := []string{"send", webhook, "--url", row.url}
			if row.file != "" {
				arguments = append(arguments, "--argument-key", row.file)
			}
			code, out, errOut := runPayments(arguments...)
			if strings.Contains(out+errOut, "planted") || bytes.Contains(posted, []byte("planted")) {
				t.Errorf("the value is shown or posted: %s%s%s", out, errOut, posted)
			}
			if row.err != "" {
				if code != 1 || !strings.Contains(errOut, row.err) || posted != nil {
					t.Errorf("%d, %s, want %s; posted %s", code, errOut, row.err, posted)
				}
				return
			}
			m, err := vapi.ParseMessage(posted)
			if code != 0 || err != nil {
				t.Fatalf("%d, %s, %v", code, errOut, err)
			}
			plain, err := encryption.Decrypt(t.Context(), m.ToolCalls[0].Arguments, []string{"card"}, false, key.Decrypt)
			if err != nil || string(plain) != `{"card":"planted-4111"}` {
				t.Errorf("%s and %v", plain, err)
			}
		})
	}
	for _, body := range []string{"", "null", "[]", "junk", `{"message":{"type":"hang"}}`} {
		if err := os.WriteFile(webhook, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		posted = nil
		if code, _, errOut := runPayments("send", webhook, "--url", other+"/vapi"); code != 0 || string(posted) != body {
			t.Errorf("%q: %d, %s, posted %q", body, code, errOut, posted)
		}
	}
}

// TestSyncWithArgumentKey: sync and doctor take the public key from a file if there is no stack.
func TestSyncWithArgumentKey(t *testing.T) {
	account := atVapi(t)
	t.Setenv("WEBHOOK_AUTH", bearer)
	_, pem, file := newKey(t)
	code, _, errOut := runPayments("sync", "--url", hook, "--yes")
	if code != 1 || !strings.Contains(errOut, "--argument-key") {
		t.Errorf("without a key: %d, %s", code, errOut)
	}
	if code, out, errOut := runPayments("sync", "--url", hook, "--argument-key", file, "--yes"); code != 0 {
		t.Fatalf("%d, %s, %s", code, out, errOut)
	}
	var credential struct {
		EncryptionPlan struct {
			PublicKey struct{ PEM string }
		}
	}
	if err := json.Unmarshal(account.Objects("credential")[0], &credential); err != nil {
		t.Fatal(err)
	}
	if got := credential.EncryptionPlan.PublicKey.PEM; got != pem {
		t.Errorf("the key at Vapi is %q", got)
	}
	account.Add("assistant", `{"id":"a-1","model":{"provider":"openai"}}`)
	_, out, _ := runPayments("doctor", "--url", "https://127.0.0.1:1/vapi", "--argument-key", file, "--assistant", "a-1")
	if !strings.Contains(out, "Vapi encrypts with the public key of the deployment") {
		t.Errorf("doctor: %s", out)
	}
	if _, out, _ := runPayments("tools"); !strings.Contains(out, "Vapi encrypts card\n") {
		t.Errorf("tools: %s", out)
	}
	if _, out, _ := runPayments("tools", "--json"); !strings.Contains(out, `"encryptedPaths"`) {
		t.Errorf("tools --json: %s", out)
	}
}

// TestCallEncrypts: call encrypts arguments as Vapi does, and shows them as they were typed.
func TestCallEncrypts(t *testing.T) {
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: payments})
	for _, name := range []string{"WEBHOOK_AUTH", "RINGBACK_SECRET", "RINGBACK_BEARER", "RINGBACK_HMAC"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	code, out, errOut := runPayments("call", "pay", "card=4111", "--url", at)
	if code != 0 || !strings.Contains(out, `pay {"card":"4111"}`) || !strings.Contains(out, "result     Paid.") {
		t.Errorf("code %d, %s%s", code, out, errOut)
	}
	_, _, file := newKey(t)
	code, out, errOut = runPayments("call", "pay", "card=4111", "--url", at, "--argument-key", file)
	if code != 1 || strings.Contains(out, "Paid.") {
		t.Errorf("with another key: code %d, %s%s", code, out, errOut)
	}
}
