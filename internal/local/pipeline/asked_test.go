package pipeline_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/vapi/vapiclient"
)

type order struct {
	Number string `json:"number"`
	Card   string `json:"card,omitempty"`
	Key    string `json:"key,omitempty"`
}

// TestAsked tests that each result names what was asked, however it came about and wherever it is
// delivered. No text has an argument that the model did not write, or that is a secret.
func TestAsked(t *testing.T) {
	cipher := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("planted.", 32)))
	arguments := fmt.Sprintf(`{"number":"A-1042","card":%q,"key":"planted-static"}`, cipher)
	type orderTool = asynctool.Tool[order]
	type runTool = func(context.Context, asynctool.Call, order) (asynctool.Result, error)
	returns := func(r asynctool.Result, err error) runTool {
		return func(context.Context, asynctool.Call, order) (asynctool.Result, error) { return r, err }
	}
	text := returns(asynctool.Text("It ships tomorrow."), nil)
	const named, unnamed = true, false
	for name, tt := range map[string]struct {
		tool      orderTool
		run       runTool
		arguments string // empty means valid ones
		then      func(w *world, o *office)
		want      bool
	}{
		"a result":  {run: text, want: named},
		"silent":    {tool: orderTool{Delivery: asynctool.Silent}, run: text, want: named},
		"spoken":    {tool: orderTool{Delivery: asynctool.Say}, run: text, want: unnamed},
		"hidden":    {tool: orderTool{HideArguments: true}, run: text, want: unnamed},
		"a failure": {run: returns(asynctool.Result{}, asynctool.Fail("Closed.", nil)), want: named},
		"exhausted": {run: returns(asynctool.Result{}, errors.New("broken")), want: named},
		"not run": {
			run: text, arguments: `{"number":["A-1042"],"key":"planted-static","older_key":"planted-static"}`, want: named,
		},
		"of another": {tool: orderTool{Name: "other"}, run: text, want: unnamed},
		"suspended": {run: func(_ context.Context, call asynctool.Call, _ order) (asynctool.Result, error) {
			if call.Resumes == 0 {
				return asynctool.ResumeIn(time.Hour, nil), nil
			}
			return asynctool.Text("It ships tomorrow."), nil
		}, want: named},
		"a refused action": {run: returns(asynctool.Result{
			Text: "One moment.", Action: asynctool.Transfer{Number: "1555"}}, nil), want: named},
		"a silent progress line": {run: func(ctx context.Context, call asynctool.Call, _ order) (asynctool.Result, error) {
			call.Note(ctx, "Half of it.")
			return asynctool.ResumeIn(100*time.Hour, nil), nil
		}, tool: orderTool{Deadline: time.Hour * 200}, want: named},
		"completed by an external system": {then: func(w *world, o *office) {
			if status := w.complete(o.url("call/a"), `{"result":"Approved."}`); status != http.StatusOK {
				w.t.Errorf("answered with %d", status)
			}
		}, want: named},
		"cancelled by an operator": {then: func(w *world, _ *office) {
			jobs, err := operator.New(operator.Config{
				Table: w.Table, Calls: w.Records, Outcomes: w.Results, Jobs: w.Jobs,
				Active: func(context.Context, int) ([]job.Summary, bool, error) { return nil, true, nil },
			})
			if err == nil {
				_, err = jobs.Cancel(w.t.Context(), w.id("call/a"), "")
			}
			if err != nil {
				w.t.Error(err)
			}
		}, want: named},
		"in the next call": {tool: orderTool{AfterCall: asynctool.NextCall}, run: text, then: func(w *world, _ *office) {
			w.post(statusUpdate("live", "in-progress"))
		}, want: named},
		"in an outbound call": {tool: orderTool{AfterCall: asynctool.CallBack}, run: text, want: named},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o office
				tool := tt.tool
				if tool.Name == "" {
					tool.Name = "order_status"
				}
				tool.Description, tool.Timeout, tool.FailureText = "Looks up an order.", time.Minute, "It came to nothing."
				tool.Static = map[string]string{"key": "{{customer.number}}"}
				if tool.Deadline == 0 {
					tool.Deadline = 48 * time.Hour
				}
				if tool.Run = tt.run; tool.Run == nil {
					tool.Run = func(ctx context.Context, call asynctool.Call, _ order) (asynctool.Result, error) {
						at, err := call.CompletionURL(ctx)
						o.urls = map[string]string{"call/a": at}
						return asynctool.Wait(), err
					}
				}
				calls := receipts(func(controlURL string) vapiclient.Receipt {
					if controlURL == "call" {
						return gone
					}
					return delivered
				})
				var api simcall.API
				w := newWorld(t, all(outside, func(cfg *pipeline.Config) {
					if tool.AfterCall != "" {
						calls.decorate(cfg)
					}
					cfg.OutboundCalls = &callback.OutboundCalls{
						Client: &api, Next: func(now time.Time) time.Time { return now }, AssistantID: "a", PhoneNumberID: "p",
					}
				}), tool)
				if tt.arguments == "" {
					tt.arguments = arguments
				}
				w.post(webhook("call", "", toolCall{"a", "order_status", tt.arguments}))
				settle()
				if tt.then != nil {
					tt.then(w, &o)
				}
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				var texts []string
				for _, callID := range []string{"call", "live"} {
					added, said := w.heard(callID)
					texts = append(append(texts, added...), said...)
				}
				for _, c := range api.Calls() {
					texts = append(texts, c.Variables["ringback_result"])
				}
				if len(texts) == 0 {
					t.Fatal("nothing was delivered")
				}
				line := "\nasked: order_status " + `{"number":"A-1042"}` + "\n"
				if tt.arguments != arguments {
					line = "\nasked: order_status " + `{"number":["A-1042"]}` + "\n"
				}
				last := texts[len(texts)-1]
				if strings.Contains(last, line) != tt.want || strings.Contains(last, "asked:") != tt.want {
					t.Errorf("named is not %t: %q", tt.want, texts)
				}
				for _, text := range texts {
					if strings.Contains(text, "planted") || strings.Contains(text, cipher) {
						t.Errorf("a text has an argument that is not the model's, or a secret: %q", text)
					}
				}
			})
		})
	}
}
