package dev_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
)

// TestHandover restarts the run while one tool is running, one waits for an external system, one for a time that its
// queue holds, and one for a schedule. A job that arrives meanwhile runs in the next run. Nothing is lost or repeated.
func TestHandover(t *testing.T) {
	began, release, urls := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	tools := func(version string) func() ([]asynctool.Definition, error) {
		tool := func(name string, timeout time.Duration,
			run func(context.Context, asynctool.Call) (asynctool.Result, error)) asynctool.Definition {
			return asynctool.Tool[map[string]any]{
				Name: name, Description: "A tool for tests.", Schema: &jsonschema.Schema{Type: "object"},
				Timeout: timeout, Deadline: 100 * time.Hour,
				Run: func(ctx context.Context, call asynctool.Call, _ map[string]any) (asynctool.Result, error) {
					return run(ctx, call)
				},
			}
		}
		resumes := func(d time.Duration) func(context.Context, asynctool.Call) (asynctool.Result, error) {
			return func(_ context.Context, call asynctool.Call) (asynctool.Result, error) {
				if call.Resumes == 0 {
					return asynctool.ResumeIn(d, nil), nil
				}
				return asynctool.Text("resumed after " + d.String() + " by " + version), nil
			}
		}
		return func() ([]asynctool.Definition, error) {
			return []asynctool.Definition{
				tool("runs", 0, func(context.Context, asynctool.Call) (asynctool.Result, error) {
					if version == "the old code" {
						close(began)
						<-release
					}
					return asynctool.Text("finished by " + version), nil
				}),
				tool("waits", 0, func(ctx context.Context, call asynctool.Call) (asynctool.Result, error) {
					u, err := call.CompletionURL(ctx)
					urls <- u
					return asynctool.Wait(), err
				}),
				tool("soon", 0, resumes(10*time.Minute)), tool("later", 0, resumes(48*time.Hour)),
				// Its queue is the long one.
				tool("long", 5*time.Minute, resumes(47*time.Hour)),
			}, nil
		}
	}
	file := filepath.Join(t.TempDir(), "state")
	webhook := func(tool string) []byte {
		body, err := simcall.Fresh(bytes.ReplaceAll(sample(t, "spending-report"), []byte("spending_report"), []byte(tool)),
			func() string { return tool + "-1" })
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	handOver := make(chan struct{})
	a := start(t, dev.Config{Tools: tools("the old code"), Handover: dev.Handover{File: file, Requested: handOver}})
	for _, tool := range []string{"runs", "waits", "soon", "later", "long"} {
		if status, answer := a.post(t, webhook(tool), nil); status != http.StatusOK {
			t.Fatal(status, answer)
		}
	}
	a.screen.wait(t, `(?s)(waits (until|for an external system).*){4}`)
	<-began
	close(handOver)
	a.screen.wait(t, "The run restarts when this tool has finished: runs.")
	another := bytes.ReplaceAll(webhook("runs"), []byte("runs-1"), []byte("runs-2"))
	if status, answer := a.post(t, another, nil); status != http.StatusOK {
		t.Fatal(status, answer)
	}
	close(release)
	if err := a.end(t); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}

	b := start(t, dev.Config{
		Tools: tools("the new code"), Handover: dev.Handover{File: file}, Demo: sample(t, "spending-report"),
		Speed: 48 * 3600,
	})
	if a.addr() != b.addr() || a.token != b.token {
		t.Errorf("the run is at %s, and was at %s; the tokens are equal: %t", b.addr(), a.addr(), a.token == b.token)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the state is still there")
	}
	b.screen.wait(t, "│ finished by the old code")
	b.screen.wait(t, "│ finished by the new code")
	request, err := http.NewRequest(http.MethodPost, <-urls, strings.NewReader(`{"result":"Approved by a person."}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("the completion was answered with %+v, %v", answer, err)
	}
	answer.Body.Close()
	b.screen.wait(t, "│ Approved by a person.")
	// The other jobs still wait.
	jobs, err := operator.NewLocal(b.addr(), b.token)
	if err != nil {
		t.Fatal(err)
	}
	list, err := jobs.List(t.Context(), "")
	for end := time.Now().Add(patience); err == nil && len(list.Jobs) > 3 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond) // the mark follows the post
		list, err = jobs.List(t.Context(), "")
	}
	if err != nil || len(list.Jobs) != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	shown := b.screen.String()
	if strings.Contains(shown, "A caller asks") || strings.Count(shown, "finished by the old code") != 1 {
		t.Errorf("the screen shows:\n%s", b.screen)
	}
	// The simulated call shows what it gets, and nothing else does. The label is that of the first run.
	if strings.Contains(shown, "delivered to the call\n") || !strings.Contains(shown, "runs 2  ") {
		t.Errorf("the screen shows:\n%s", b.screen)
	}
}
