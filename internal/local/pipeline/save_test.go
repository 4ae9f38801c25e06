package pipeline_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/vapi"
)

// TestRestore stops a pipeline whose jobs wait, and continues with its state in another one. Every job is run and
// delivered there, once and at its time. A call that has ended stays so.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := map[string]time.Duration{
			"queued": 0, "soon": 10 * time.Minute, "later": 48 * time.Hour, "long": 50 * time.Hour, "ended": time.Hour,
		}
		var tools []asynctool.Definition
		for name, wait := range waits {
			timeout := time.Minute
			if name == "long" { // it has a queue of its own
				timeout = 5 * time.Minute
			}
			tools = append(tools, asynctool.Tool[input]{
				Name: name, Description: "A tool for tests.", Timeout: timeout, Deadline: 100 * time.Hour,
				Run: func(_ context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
					if call.Resumes == 0 && wait > 0 {
						return asynctool.ResumeIn(wait, nil), nil
					}
					return asynctool.Text(in.Text), nil
				},
			})
		}
		set, err := asynctool.NewSet(tools...)
		if err != nil {
			t.Fatal(err)
		}
		began, heard := time.Now(), make(map[string]time.Duration)
		// run runs a pipeline, and returns a function that stops it.
		run := func(p *pipeline.Pipeline) func() {
			ctx, end := context.WithCancel(t.Context())
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				p.Run(ctx)
			}()
			return func() { end(); <-stopped }
		}
		next := func() *pipeline.Pipeline {
			p, err := pipeline.New(pipeline.Config{Tools: set, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			p.Calls.Heard = func(callID string, m vapi.ControlMessage) {
				if _, again := heard[callID]; again {
					t.Errorf("%s got %+v again", callID, m)
				}
				heard[callID] = time.Since(began).Truncate(time.Minute)
			}
			return p
		}
		post := func(p *pipeline.Pipeline, body string) {
			w := httptest.NewRecorder()
			p.Front.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/vapi", strings.NewReader(body)))
			if w.Code != http.StatusOK {
				t.Error(w.Code, w.Body)
			}
		}
		a := next()
		stop := run(a)
		for name := range waits {
			if name != "queued" {
				post(a, webhook(name, "", toolCall{"t", name, `{"text":"x"}`}))
			}
		}
		synctest.Wait()
		stop()
		post(a, webhook("queued", "", toolCall{"t", "queued", `{"text":"x"}`}))
		post(a, `{"message":{"type":"status-update","status":"ended","call":{"id":"ended"}}}`)
		saved, err := a.Save()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(saved)
		if err != nil {
			t.Fatal(err)
		}
		var read pipeline.Saved
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		b := next()
		if err := b.Restore(t.Context(), read); err != nil {
			t.Fatal(err)
		}
		stop = run(b)
		defer stop()
		time.Sleep(60 * time.Hour)
		synctest.Wait()
		for name, wait := range waits {
			at, ok := heard[name]
			if name == "ended" {
				if ok || len(b.Events.Sent()) != 1 {
					t.Errorf("the call that had ended got its result: %t; %d events", ok, len(b.Events.Sent()))
				}
				continue
			}
			if !ok || at < wait || at > wait+time.Minute {
				t.Errorf("%s was delivered after %s, %t; want %s", name, at, ok, wait)
			}
		}
	})
}
