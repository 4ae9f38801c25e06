package cli_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/local/dev"
)

// hostilePage attacks the listeners in targets with everything that needs no consent: forms, fetches, WebSockets and
// images. It reports when each attack has ended.
const hostilePage = `<!doctype html><body><script>
const targets = %s, webhook = %s
const attacks = []
const ended = start => attacks.push(new Promise(start))
for (const port of targets) {
  const at = "http://127.0.0.1:" + port
  for (const path of ["/vapi", "/results/x", "/jobs/cancel?id=x", "/restock", "/requests", "/x/control",
    "/ui/start/order_status", "/ui/cancel/x", "/link"]) {
    ended(end => {
      const frame = document.createElement("iframe")
      const form = document.body.appendChild(document.createElement("form"))
      const field = form.appendChild(document.createElement("input"))
      frame.name = form.target = port + path
      form.action = at + path
      form.method = "post"
      form.enctype = "text/plain" // the body is the name, = and the value: JSON
      field.name = webhook.slice(0, -1) + ',"x":"'
      field.value = '"}'
      document.body.append(frame)
      frame.onload = end
      form.submit()
    })
    for (const type of ["text/plain", "application/json"])
      attacks.push(fetch(at + path, {
        method: "POST", body: webhook, headers: {"Content-Type": type}, mode: type == "text/plain" ? "no-cors" : "cors",
      }))
    attacks.push(fetch(at + path, {method: "POST", body: new Blob([webhook]), mode: "no-cors"})) // has no Content-Type
  }
  const sources = ["/jobs", "/calls", "/orders/A-1042", "/", "/ui/changes"].map(path => at + path)
  for (const source of [...sources, "http://rebound.example:" + port + "/jobs"])
    ended(end => {
      const image = new Image()
      image.onload = image.onerror = end
      image.src = source
    })
  ended(end => {
    const socket = new WebSocket("ws://127.0.0.1:" + port + "/jobs")
    socket.onopen = socket.onerror = end
  })
}
Promise.allSettled(attacks).then(() => fetch("/ended", {method: "POST"}))
</script>`

// TestChromium opens a hostile page in a real browser, while a local run and ringback send are at work. Each of its
// requests passes through a proxy, which shows that the browser did send it, and that the listener refused it.
func TestChromium(t *testing.T) {
	browser := chromium(t)
	at, ports, sent := allListeners(t)
	var mu sync.Mutex
	kinds := make(map[string]map[string]int) // of requests, by the listener's port
	var targets []string
	for _, port := range ports {
		kinds[port] = make(map[string]int)
		proxy := &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: "127.0.0.1:" + port})
				r.Out.Host = r.In.Host
			},
			ModifyResponse: func(answer *http.Response) error {
				kind := kindOf(answer.Request)
				mu.Lock()
				defer mu.Unlock()
				kinds[port][kind]++
				if answer.StatusCode != http.StatusForbidden && answer.StatusCode != http.StatusUnsupportedMediaType {
					t.Errorf("port %s: the %s for %s was answered with %s", port, kind, answer.Request.URL.Path, answer.Status)
				}
				return nil
			},
		}
		server := httptest.NewServer(proxy)
		defer server.Close()
		targets = append(targets, server.URL[strings.LastIndexByte(server.URL, ':')+1:])
	}
	ended := make(chan struct{}, 1)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, hostilePage, asJSON(t, targets), asJSON(t, compact(t, toolCalls)))
		case "/ended":
			ended <- struct{}{}
		default:
			http.NotFound(w, r)
		}
	}))
	defer page.Close()

	open := exec.CommandContext(t.Context(), browser, "--headless", "--no-sandbox", "--disable-gpu",
		"--disable-background-networking", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-port=0",
		"--user-data-dir="+t.TempDir(), "--host-resolver-rules=MAP hostile.example "+strings.TrimPrefix(page.URL, "http://")+
			",MAP rebound.example 127.0.0.1", "http://hostile.example/")
	open.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the browser starts processes
	open.Cancel = func() error { return syscall.Kill(-open.Process.Pid, syscall.SIGKILL) }
	var said bytes.Buffer
	open.Stderr = &said
	open.WaitDelay = 10 * time.Second
	if err := open.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = open.Cancel()
		_ = open.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatalf("the page has not ended:\n%s", said.String())
	}

	mu.Lock()
	defer mu.Unlock()
	for port, seen := range kinds {
		if want := []string{"fetch", "form", "image", "preflight", "rebound image", "socket"}; !slices.Equal(
			slices.Sorted(maps.Keys(seen)), want) {
			t.Errorf("port %s received %v, want %q", port, seen, want)
		}
	}
	out, errOut := runs(t, []string{"jobs", "list", "--local", "--addr", hostOf(at)}, 0)
	if strings.Count(out, "j_") != 1 {
		t.Errorf("the jobs are not that of ringback send alone:\n%s%s", out, errOut)
	}
	select {
	case code := <-sent:
		t.Errorf("ringback send has ended with %d", code)
	default:
	}
}

// TestForgedControlMessage posts control messages to all listeners, as another program on this machine can. Those of
// the simulated calls have secret paths.
func TestForgedControlMessage(t *testing.T) {
	_, ports, _ := allListeners(t)
	for _, port := range ports {
		for _, path := range []string{"/x/control", "/x/y/control", "//x/control"} {
			response, err := http.Post("http://127.0.0.1:"+port+path, "application/json",
				strings.NewReader(`{"type":"say","content":"planted"}`))
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusNotFound {
				t.Errorf("port %s: %s was answered with %s", port, path, response.Status)
			}
		}
	}
}

// allListeners starts a local run, and ringback send --wait, whose result does not come. It returns the URL of the
// webhook, the ports of all listeners, and the exit code of ringback send.
func allListeners(t *testing.T) (at string, ports []string, sent <-chan int) {
	t.Helper()
	earlier := listening(t)
	withoutSettings(t)
	at = startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: shop.All, ShopDelay: time.Hour})
	ended := make(chan int, 1)
	go func() {
		var out, errOut syncBuffer
		const waits = "../../events/vapi/notify-when-ready.json"
		ended <- cli.Run(shop.All, []string{"send", waits, "--url", at, "--wait", "--timeout", "1h"}, &out, &errOut)
	}()
	// The gateway, the simulated calls, the shop, and the simulated call of ringback send.
	const listeners = 4
	for end := time.Now().Add(patience); len(ports) < listeners; time.Sleep(5 * time.Millisecond) {
		if ports = nil; time.Now().After(end) {
			t.Fatal("ringback send does not listen")
		}
		for port := range listening(t) {
			if !earlier[port] {
				ports = append(ports, port)
			}
		}
	}
	if len(ports) != listeners {
		t.Fatalf("%d listeners are new, want %d", len(ports), listeners)
	}
	return at, ports, ended
}

// chromium returns the path of a Chromium.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("RINGBACK_CHROMIUM") == "required" {
		t.Fatal("Chromium is not installed")
	}
	t.Skip("Chromium is not installed")
	return ""
}

// kindOf returns what made the browser send a request.
func kindOf(r *http.Request) string {
	switch {
	case strings.HasPrefix(r.Host, "rebound.example"):
		return "rebound image"
	case r.Method == http.MethodOptions:
		return "preflight"
	case r.Header.Get("Upgrade") == "websocket":
		return "socket"
	case r.Header.Get("Sec-Fetch-Dest") == "image":
		return "image"
	case r.Header.Get("Sec-Fetch-Mode") == "navigate":
		return "form"
	case r.Method == http.MethodPost:
		return "fetch"
	}
	return r.Method + " " + r.URL.Path
}

// listening returns the ports of this machine's loopback address on which this process listens.
func listening(t *testing.T) map[string]bool {
	t.Helper()
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	sockets := make(map[string]bool)
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		target, _ := os.Readlink(file) // a file may have been closed
		sockets[target] = true
	}
	ports := make(map[string]bool)
	for line := range strings.Lines(string(table)) {
		const localAddress, state, inode, listens = 1, 3, 9, "0A"
		columns := strings.Fields(line)
		if len(columns) <= inode || columns[state] != listens || !sockets["socket:["+columns[inode]+"]"] {
			continue
		}
		if port, loopback := strings.CutPrefix(columns[localAddress], "0100007F:"); loopback {
			b, err := hex.DecodeString(port)
			if err != nil {
				t.Fatal(err)
			}
			ports[fmt.Sprint(int(b[0])<<8|int(b[1]))] = true
		}
	}
	return ports
}

func hostOf(address string) string {
	u, _ := url.Parse(address)
	return u.Host
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// compact returns the JSON in a file in one line.
func compact(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		t.Fatal(err)
	}
	return line.String()
}
