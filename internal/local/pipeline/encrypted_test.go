package pipeline_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/queue"
)

// traffic records the bodies of all messages that are sent to a queue.
type traffic struct {
	pipeline.Queue
	mu     *sync.Mutex
	bodies *bytes.Buffer
}

func (q traffic) Send(ctx context.Context, messages []queue.Message) []error {
	q.mu.Lock()
	for _, m := range messages {
		q.bodies.WriteString(m.Body)
	}
	q.mu.Unlock()
	return q.Queue.Send(ctx, messages)
}

// TestEncryptedArguments sends tool calls with an encrypted argument through everything that can happen to them.
// The tools get the plain value. No log at any level, message, record, event or control message has it.
func TestEncryptedArguments(t *testing.T) {
	const card = "planted-card-4111"
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		got := map[string][]string{}
		type ends = func(asynctool.Call) (asynctool.Result, error)
		tool := func(name string, change func(*asynctool.Tool[order]), end ends) asynctool.Definition {
			tool := asynctool.Tool[order]{
				Name: name, Description: "Pays.", Encrypted: []string{"card"}, Timeout: 5 * time.Second,
				Run: func(_ context.Context, call asynctool.Call, in order) (asynctool.Result, error) {
					mu.Lock()
					got[name] = append(got[name], in.Card)
					mu.Unlock()
					return end(call)
				},
			}
			if change != nil {
				change(&tool)
			}
			return tool
		}
		paid, closed := asynctool.Text("It is paid."), errors.New("the bank is closed")
		var logged, bodies bytes.Buffer
		w := newWorld(t, func(cfg *pipeline.Config) {
			cfg.CompletionURL = "https://ringback.example/results/"
			debug := slog.NewJSONHandler(writer(func(line []byte) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				return logged.Write(line)
			}), &slog.HandlerOptions{Level: slog.LevelDebug})
			cfg.Log = slog.New(slog.NewMultiHandler(cfg.Log.Handler(), debug))
			recorded := func(q pipeline.Queue) pipeline.Queue { return traffic{q, &mu, &bodies} }
			cfg.Decorators.Jobs, cfg.Decorators.Results = recorded, recorded
		},
			tool("works", nil, func(asynctool.Call) (asynctool.Result, error) { return paid, nil }),
			tool("quick", func(t *asynctool.Tool[order]) { t.SyncAck, t.Quick = true, 5*time.Second },
				func(asynctool.Call) (asynctool.Result, error) { return paid, nil }),
			tool("fails", func(t *asynctool.Tool[order]) { t.Attempts = 2 },
				func(asynctool.Call) (asynctool.Result, error) { return asynctool.Result{}, closed }),
			tool("panics", nil, func(asynctool.Call) (asynctool.Result, error) { panic(closed) }),
			tool("waits", nil, func(call asynctool.Call) (asynctool.Result, error) {
				if call.Resumes > 0 {
					return paid, nil
				}
				return asynctool.ResumeIn(time.Minute/2, nil), nil
			}),
			tool("leaves", func(t *asynctool.Tool[order]) { t.Deadline = time.Hour },
				func(call asynctool.Call) (asynctool.Result, error) {
					_, err := call.CompletionURL(t.Context())
					return asynctool.Wait(), err
				}),
			tool("replaced", func(t *asynctool.Tool[order]) {
				t.Repeat, t.SameAs = asynctool.Replace, func(o order) string { return o.Number }
			}, func(asynctool.Call) (asynctool.Result, error) { time.Sleep(time.Second); return paid, nil }),
		)
		var list []toolCall
		for i, name := range []string{"works", "quick", "fails", "panics", "waits", "leaves", "replaced", "replaced"} {
			arguments, err := encryption.Encrypt(fmt.Appendf(nil, `{"number":"A-1042","card":%q}`, card),
				[]string{"card"}, func() (*rsa.PublicKey, error) { return w.ArgumentKey.Public(), nil })
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, toolCall{fmt.Sprint(name, i), name, string(arguments)})
		}
		body := webhook("call", "", list...)
		for range 2 { // Vapi repeats it
			w.post(body)
		}
		w.post(strings.Replace(webhook("gone", "", list[0]), "controlUrl", "noUrl", 1))
		time.Sleep(2 * time.Minute)
		status, answer := w.request("/vapi", webhook("call", "", toolCall{"s", "task_status", `{}`}), nil)
		if status != http.StatusOK || !strings.Contains(answer, "leaves") || strings.Contains(answer, card) {
			t.Errorf("task_status: %d %s", status, answer)
		}
		time.Sleep(3 * time.Hour)

		events, err := json.Marshal(w.Events.Sent())
		if err != nil {
			t.Fatal(err)
		}
		records, err := json.Marshal(w.Records.Records())
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		want := map[string][]string{
			"works": {card, card}, "quick": {card}, "fails": {card, card}, "panics": {card}, "waits": {card, card},
			"leaves": {card}, "replaced": {card, card},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the tools got other values (-want +got):\n%s", diff)
		}
		for name, text := range map[string]string{
			"the log": logged.String(), "the queues": bodies.String(), "the table": string(records),
			"the event bus": string(events), "the call": strings.Join(w.messages("call"), "\n"),
		} {
			if len(text) < 100 || strings.Contains(text, card) {
				t.Errorf("%s: %s", name, text)
			}
		}
		if strings.Contains(logged.String(), "A-1042") {
			t.Errorf("an argument is in the log: %s", logged.String())
		}
	})
}
