package cli_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/cli"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/dev"
)

// TestUI serves the page of a deployment, and reads each kind of page. It counts the kinds of requests to the table.
func TestUI(t *testing.T) {
	a, table := inAccount(t)
	now := time.Now()
	j := job.Job{
		ID: job.EarlierID("c", "a"), ToolCallID: "a", Tool: "order_status", Call: job.Call{ID: "c"}, ReceivedAt: now,
	}
	record := job.NewRecord(j, job.Policy{}, now.Add(time.Hour), "m", now, time.Minute)
	if _, err := table.Claim(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	a.targets = nil
	a.mu.Unlock()
	var out, errOut syncBuffer
	ended := make(chan int, 1)
	go func() { ended <- cli.Run(shop.All, []string{"ui", "--stack", "Ringback"}, &out, &errOut) }()
	link := ""
	for end := time.Now().Add(patience); link == ""; time.Sleep(5 * time.Millisecond) {
		if link = regexp.MustCompile(`http://127\.0\.0\.1:\d+/\?link=\w+`).FindString(out.String()); time.Now().After(end) {
			t.Fatalf("no link: %s%s", out.String(), errOut.String())
		}
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	at, _, _ := strings.Cut(link, "/?")
	for _, row := range []struct{ method, address, want string }{
		{http.MethodGet, link, "No call yet"},
		{http.MethodGet, at + "/ui/tools", "order_status"},
		{http.MethodGet, at + "/ui/calls/c", ">order_status</a>"},
		{http.MethodGet, at + "/ui/jobs/" + j.ID, "Tool started"},
		{http.MethodGet, at + "/ui/undelivered", "Everything was delivered"},
		{http.MethodPost, at + "/ui/cancel/" + j.ID, "read-only"},
	} {
		request, err := http.NewRequest(row.method, row.address, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || !strings.Contains(string(text), row.want) {
			t.Errorf("%s: %s, %v, without %q:\n%s", row.address, answer.Status, err, row.want, text)
		}
	}
	if code := status(t, link); code != http.StatusUnauthorized {
		t.Errorf("the link works twice: %d", code)
	}
	a.mu.Lock()
	used := slices.Compact(slices.Sorted(slices.Values(a.targets)))
	sent := len(a.sent)
	a.mu.Unlock()
	if want := []string{"GetItem", "Query"}; !slices.Equal(used, want) || sent > 0 {
		t.Errorf("a read-only page used %q and sent %d messages; its policy allows %q", used, sent, want)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 0 {
		t.Errorf("code %d, %s", code, errOut.String())
	}
}

// TestUILocal prints another link to the page of a local run.
func TestUILocal(t *testing.T) {
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: shop.All})
	out, _ := runs(t, []string{"ui", "--local", "--addr", hostOf(at)}, 0)
	if code := status(t, strings.TrimSpace(out)); code != http.StatusUnauthorized { // without a jar, the cookie is lost
		t.Errorf("%q: %d", out, code)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	out, _ = runs(t, []string{"ui", "--local", "--addr", hostOf(at)}, 0)
	answer, err := (&http.Client{Jar: jar}).Get(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("%q: %s", out, answer.Status)
	}
	for name, row := range map[string]struct {
		arguments []string
		code      int
		want      string
	}{
		"nothing":         {nil, 1, "no deployment is selected"},
		"no run":          {[]string{"--local", "--addr", "127.0.0.1:1"}, 1, "no local run of yours"},
		"another machine": {[]string{"--local", "--addr", "192.0.2.1:8787"}, 1, "no local run of yours"},
		"write":           {[]string{"--local", "--write"}, 1, "--write requires --stack"},
	} {
		if _, errOut := runs(t, append([]string{"ui"}, row.arguments...), row.code); !strings.Contains(errOut, row.want) {
			t.Errorf("%s: %s", name, errOut)
		}
	}
	_, _ = inAccount(t)
	_, errOut := runs(t, []string{"ui", "--stack", "Ringback", "--addr", "0.0.0.0:0"}, 1)
	if !strings.Contains(errOut, "other machines can reach 0.0.0.0:0") {
		t.Error(errOut)
	}
}

// status returns the status of the answer to a request without cookies.
func status(t *testing.T, address string) int {
	t.Helper()
	answer, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}
