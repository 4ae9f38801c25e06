package scaffold_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// examples are the folders of examples that a project can copy with their tests.
var examples = []string{"refund", "contract", "suppliers"}

const signingSecret = "the-secret-of-the-webhooks"

// playsExamples copies the examples into the project, runs their tests there, and calls each tool in a local run, with
// services on this machine.
func (p project) playsExamples() {
	p.t.Helper()
	file := filepath.Join(p.folder, "tools/tools.go")
	before, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	imports, list := "", ""
	for _, name := range examples {
		err := os.CopyFS(filepath.Join(p.folder, "tools", name), os.DirFS("../../../examples/"+name))
		if err != nil {
			p.t.Fatal(err)
		}
		imports += fmt.Sprintf("\t\"example.com/acme/voice/tools/%s\"\n", name)
		list += fmt.Sprintf("\t\t%s.Tool(os.Getenv),\n", name)
	}
	after := strings.Replace(string(before), "\t\"os\"\n", "\t\"os\"\n\n"+imports, 1)
	p.write("tools/tools.go", strings.Replace(after, "\t\tweatherReport,\n", "\t\tweatherReport,\n"+list, 1))
	tested := p.run("make", "test")
	for _, name := range examples {
		if !regexp.MustCompile(`(?m)^ok\s+example\.com/acme/voice/tools/` + name + `\s`).MatchString(tested) {
			p.t.Errorf("the tests of %s did not run in the project:\n%s", name, tested)
		}
	}
	p.callsExamples()
	p.write("tools/tools.go", string(before))
}

func (p project) callsExamples() {
	p.t.Helper()
	shop, signing, suppliers := busyShop(p.t), signingService(p.t), twoSuppliers(p.t)
	p.run("go", "build", "-o", "build/ringback", "./cmd/ringback")
	ctx, stop := context.WithTimeout(p.t.Context(), 5*time.Minute)
	defer stop()
	environment := append(os.Environ(), "XDG_CACHE_HOME="+p.t.TempDir(), "REFUNDS_API_URL="+shop,
		"SIGNING_API_URL="+signing, "SIGNING_WEBHOOK_SECRET="+signingSecret, "SUPPLIERS="+suppliers)
	ringback := func(arguments ...string) *exec.Cmd {
		c := exec.CommandContext(ctx, filepath.Join(p.folder, "build/ringback"), arguments...)
		c.Dir, c.Env = p.folder, environment
		return c
	}
	dev := ringback("dev", "--no-demo", "--addr", "127.0.0.1:0")
	dev.Cancel = func() error { return dev.Process.Signal(os.Interrupt) }
	shown := &address{found: make(chan string, 1)}
	dev.Stdout, dev.Stderr = shown, shown
	if err := dev.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- dev.Wait() }()
	defer func() {
		stop()
		<-ended
	}()
	var at string
	select {
	case at = <-shown.found:
	case err := <-ended:
		ended <- err
		p.t.Fatalf("the local run ended: %v\n%s", err, shown)
	}
	for _, row := range []struct {
		call []string
		want []string // what is spoken, the result at last
	}{
		{[]string{"refund_order", "order_id=A-1042", "cents:=1250"}, []string{
			"The refund of 12.50 euros for order A-1042 is on its way.",
		}},
		{[]string{"sign_contract", "contract=C-17"}, []string{"The contract is signed."}},
		{[]string{"supplier_prices", "article=K-200"}, []string{
			"Ada's Parts wants 12.50 euros.", "Bell and Sons wants 11.90 euros.",
			"2 of 2 suppliers have a price for K-200. The best one: Bell and Sons wants 11.90 euros.",
		}},
	} {
		out, err := ringback(append([]string{"call", "--url", at, "--json"}, row.call...)...).CombinedOutput()
		if err != nil {
			p.t.Errorf("%s: %v\n%s\n%s", row.call[0], err, out, shown)
			continue
		}
		var spoken []string
		for line := range bytes.Lines(out) {
			var event struct{ Event, Text string }
			if json.Unmarshal(line, &event) == nil && (event.Event == "progress" || event.Event == "result") {
				spoken = append(spoken, event.Text)
			}
		}
		ok := len(spoken) == len(row.want) && strings.Contains(spoken[len(spoken)-1], row.want[len(row.want)-1])
		for _, want := range row.want {
			ok = ok && strings.Contains(strings.Join(spoken, "\n"), want)
		}
		if !ok {
			p.t.Errorf("%s: spoken are %q, want %q", row.call[0], spoken, row.want)
		}
	}
}

// address collects what the local run shows, and finds the URL of its webhooks there.
type address struct {
	mu    sync.Mutex
	text  strings.Builder
	found chan string
	once  sync.Once
}

var webhookURL = regexp.MustCompile(`http://127\.0\.0\.1:\d+/vapi`)

func (a *address) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.Write(b)
	if at := webhookURL.FindString(a.text.String()); at != "" {
		a.once.Do(func() { a.found <- at })
	}
	return len(b), nil
}

func (a *address) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text.String()
}

// busyShop makes refunds. It refuses the first request, and fails if a refund is requested twice.
func busyShop(t *testing.T) string {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch requests++; requests {
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.WriteHeader(http.StatusCreated)
		default:
			t.Error("the refund was requested again after it was made")
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// signingService has each document signed, and posts a webhook about that: a signed form.
func signingService(t *testing.T) string {
	var signing sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var document struct {
			Reference  string `json:"reference"`
			WebhookURL string `json:"webhook_url"`
		}
		if err := json.NewDecoder(r.Body).Decode(&document); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusAccepted)
		signing.Go(func() {
			body := url.Values{"event": {"signed"}, "reference": {document.Reference}}.Encode()
			timestamp := fmt.Sprint(time.Now().Unix())
			mac := hmac.New(sha256.New, []byte(signingSecret))
			fmt.Fprintf(mac, "%s.%s", timestamp, body)
			post, err := http.NewRequest(http.MethodPost, document.WebhookURL, strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			post.Header.Set("X-Timestamp", timestamp)
			post.Header.Set("X-Signature", hex.EncodeToString(mac.Sum(nil)))
			answer, err := http.DefaultClient.Do(post)
			if err != nil {
				t.Error(err)
				return
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusAccepted {
				t.Errorf("the webhook was answered with %s", answer.Status)
			}
		})
	}))
	t.Cleanup(signing.Wait)
	t.Cleanup(server.Close)
	return server.URL
}

// twoSuppliers returns the setting with two suppliers.
func twoSuppliers(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cents := 1190
		if strings.HasPrefix(r.URL.Path, "/ada/") {
			cents = 1250
		}
		fmt.Fprintf(w, `{"cents": %d}`, cents)
	}))
	t.Cleanup(server.Close)
	const two = `[{"name":"Ada's Parts","url":"%[1]s/ada"},{"name":"Bell and Sons","url":"%[1]s/bell"}]`
	return fmt.Sprintf(two, server.URL)
}
