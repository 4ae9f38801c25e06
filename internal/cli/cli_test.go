package cli_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/tools"
	"github.com/ringback/ringback/vapi/vapiauth"
)

func run(t *testing.T, arguments ...string) (code int, out, errOut string) {
	t.Helper()
	for _, name := range []string{"WEBHOOK_AUTH", "RINGBACK_SECRET", "RINGBACK_BEARER", "RINGBACK_HMAC"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	var o, e bytes.Buffer
	code = cli.Run(arguments, &o, &e)
	return code, o.String(), e.String()
}

func TestCommandLine(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte("{nope"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		arguments []string
		code      int
		out, err  string
	}{
		{"help", []string{"--help"}, 0, "Run everything on this machine", ""},
		{"help of dev", []string{"dev", "--help"}, 0, "ringback dev --no-demo", ""},
		{"help of send", []string{"send", "--help"}, 0, "--wait", ""},
		{"nothing", nil, 80, "", "expected one of"},
		{"unknown command", []string{"frobnicate"}, 80, "", "unexpected argument frobnicate; see ringback --help\n"},
		{"misspelt command", []string{"sendd"}, 80, "", "did you mean \"send\"?"},
		{"unknown flag", []string{"dev", "--frob"}, 80, "", "ringback: unknown flag --frob; see ringback dev --help\n"},
		{"no file", []string{"send"}, 80, "", "ringback: expected \"<file>\"; see ringback send --help\n"},
		{"bad duration", []string{"dev", "--shop-delay", "soon"}, 80, "", "--shop-delay"},
		{"no speed", []string{"dev", "--speed", "0"}, 1, "", "--speed is 0; it is a whole number from 1 on"},
		{"help of jobs", []string{"jobs", "list", "--help"}, 0, "1000 at most", ""},
		{"broken demo", []string{"dev", "--demo", broken}, 1, "", "broken.json is not a webhook"},
		{"demo without a tool call", []string{"dev", "--demo", "../../events/vapi/hang.json"}, 1, "", "hang.json holds no tool call; name another file with --demo"},
		{"missing demo", []string{"dev", "--demo", "nowhere.json"}, 1, "", "cannot read the webhook"},
		{"missing webhook", []string{"send", "nowhere.json"}, 1, "", "cannot read the webhook"},
		{"two credentials", []string{"send", "x.json", "--secret", "a", "--hmac", "b"}, 80, "", "can't be used together"},
		{"waiting for another machine", []string{"send", "../../events/vapi/tool-calls.json", "--wait", "--url", "https://example.com/vapi"}, 1, "", "--wait needs a deployment on this machine"},
		{"nobody there", []string{"send", "../../events/vapi/tool-calls.json", "--url", "http://127.0.0.1:1/vapi"}, 1, "", "the webhook could not be posted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errOut := run(t, c.arguments...)
			if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errOut, c.err) {
				t.Errorf("code %d, out %q, err %q; want %d, %q, %q", code, out, errOut, c.code, c.out, c.err)
			}
		})
	}
}

// TestSendSigns posts to a server that verifies what it gets.
func TestSendSigns(t *testing.T) {
	for _, c := range []struct {
		name      string
		plan      string
		arguments []string
	}{
		{"secret", `{"type":"secret","secret":"s3cret"}`, []string{"--secret", "s3cret"}},
		{"bearer", `{"type":"bearer","token":"t0ken"}`, []string{"--bearer", "t0ken"}},
		{"hmac", `{"type":"hmac","secretKey":"k3y","algorithm":"sha256"}`, []string{"--hmac", "k3y"}},
		{"any", `{"type":"hmac","secretKey":"k3y","algorithm":"sha512","payloadFormat":"{body}","signatureEncoding":"base64"}`,
			[]string{"--auth", `{"type":"hmac","secretKey":"k3y","algorithm":"sha512","payloadFormat":"{body}","signatureEncoding":"base64"}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			plans, err := vapiauth.ParsePlans([]byte(c.plan))
			if err != nil {
				t.Fatal(err)
			}
			verifier, err := vapiauth.NewVerifier(plans...)
			if err != nil {
				t.Fatal(err)
			}
			file := "../../events/vapi/tool-calls.json"
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || !bytes.Equal(body, raw) {
					t.Errorf("the webhook was changed on its way (%v)", err)
				}
				if err := verifier.Verify(vapiauth.Request{Method: r.Method, URL: "http://" + r.Host + r.URL.Path, Header: r.Header, Body: body}, time.Now()); err != nil {
					http.Error(w, `{"error":"no"}`, http.StatusUnauthorized)
					return
				}
				w.Write([]byte(`{"results":[]}`))
			}))
			defer server.Close()
			code, out, errOut := run(t, append([]string{"send", file, "--url", server.URL + "/vapi"}, c.arguments...)...)
			if code != 0 || !strings.Contains(out, `{"results":[]}`) {
				t.Errorf("code %d, out %q, err %q", code, out, errOut)
			}
			if code, _, errOut := run(t, "send", file, "--url", server.URL+"/vapi"); code != 1 || !strings.Contains(errOut, "401") {
				t.Errorf("unsigned: code %d, err %q", code, errOut)
			}
		})
	}
}

// patience is the limit for what takes a moment on a quiet machine: only what
// hangs reaches it.
const patience = 5 * time.Minute

func TestSendWaits(t *testing.T) {
	var screen syncBuffer
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- dev.Run(ctx, context.Background(), dev.Config{Addr: "127.0.0.1:0", Tools: tools.All, Out: &screen})
	}()
	url := ""
	for end := time.Now().Add(patience); url == "" && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		url = regexp.MustCompile(`http://127\.0\.0\.1:\d+/vapi`).FindString(screen.String())
	}
	// Twice: a call that waits is a new one each time.
	for range 2 {
		code, out, errOut := run(t, "send", "../../events/vapi/three-tool-calls.json", "--url", url, "--wait", "--timeout", patience.String())
		if code != 0 {
			t.Fatalf("code %d, err %q", code, errOut)
		}
		for _, part := range []string{"call_3a status=ok", "call_3b status=error", "call_3c status=error"} {
			if strings.Count(out, part) != 1 {
				t.Errorf("%q is not there once:\n%s", part, out)
			}
		}
	}
	// A line of progress is no result, and what was answered at once is not waited
	// for.
	code, out, errOut := run(t, "send", "../../events/vapi/notify-when-ready.json", "--url", url, "--wait", "--timeout", patience.String())
	if code != 0 || strings.Count(out, "Approved by the shop's manager.") != 1 {
		t.Errorf("code %d, err %q\n%s", code, errOut, out)
	}
	code, out, errOut = run(t, "send", "../../events/vapi/task-status.json", "--url", url, "--wait", "--timeout", patience.String())
	if code != 0 || !strings.Contains(out, "No tool of this call is running.") {
		t.Errorf("code %d, err %q\n%s", code, errOut, out)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestDevDrainsOnSIGTERM ends a local run as a process manager would, while a tool
// is at work.
func TestDevDrainsOnSIGTERM(t *testing.T) {
	for _, name := range []string{"WEBHOOK_AUTH", "ORDERS_API_URL", "STOCK_API_URL", "STOCK_API_TOKEN", "REQUESTS_API_URL"} {
		t.Setenv(name, "")
	}
	var out, errOut syncBuffer
	code := make(chan int, 1)
	go func() {
		code <- cli.Run([]string{"dev", "--addr", "127.0.0.1:0", "--shop-delay", "300ms", "--demo", "../../events/vapi/tool-calls.json"}, &out, &errOut)
	}()
	for end := time.Now().Add(patience); !strings.Contains(out.String(), "tool started") && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	if !strings.Contains(out.String(), "tool started") {
		t.Fatalf("no tool was started:\n%s%s", out.String(), errOut.String())
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-code:
		if s := out.String(); c != 0 || !strings.Contains(s, "outcome delivered") || !strings.Contains(s, "Everything that was accepted is finished.") {
			t.Errorf("code %d:\n%s%s", c, s, errOut.String())
		}
	case <-time.After(patience):
		t.Fatalf("the run does not end:\n%s", out.String())
	}
}

func TestSendWaitsInVain(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`{"results":[{"name":"x","toolCallId":"y","result":"Started."}]}`))
	}))
	defer server.Close()
	code, _, errOut := run(t, "send", "../../events/vapi/tool-calls.json", "--url", server.URL, "--wait", "--timeout", "1s")
	if code != 1 || !strings.Contains(errOut, "0 of 1 results came within 1s") {
		t.Errorf("code %d, err %q", code, errOut)
	}
}
