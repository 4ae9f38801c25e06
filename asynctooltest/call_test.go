package asynctooltest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/asynctooltest"
	"github.com/ringback/ringback/httptool"
	"github.com/ringback/ringback/vapi"
)

type refundInput struct {
	Amount int `json:"amount" jsonschema:"the refund in euros"`
}

// approval is a tool that waits for a manager's decision.
func approval(change ...func(*asynctool.Tool[refundInput])) asynctool.Definition {
	t := asynctool.Tool[refundInput]{
		Name: "approve_refund", Description: "Asks a manager to approve a refund.", Deadline: 8 * time.Hour,
		FailureText: "There's no decision yet.",
		Run: func(ctx context.Context, call asynctool.Call, _ refundInput) (asynctool.Result, error) {
			_, err := call.CompletionURL(ctx)
			return asynctool.Wait(), err
		},
	}
	for _, c := range change {
		c(&t)
	}
	return t
}

// heard checks how many messages a call has got, and that the last one contains a text.
func heard(t *testing.T, call *asynctooltest.Call, n int, last string) {
	t.Helper()
	got := call.Heard()
	if len(got) != n || n > 0 && !strings.Contains(got[n-1], last) {
		t.Errorf("heard %d messages, want %d, the last with %q\n%s", len(got), n, last, call)
	}
}

func TestCallPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, approval())
		if answer := call.Ask("approve_refund", `{"amount":40}`); answer == "" {
			t.Error("no answer")
		}
		call.Wait(2 * time.Hour)
		heard(t, call, 0, "")
		if status := call.Post(nil, `{"progress":"It is being looked at."}`); status != http.StatusAccepted {
			t.Errorf("progress: %d", status)
		}
		heard(t, call, 1, "It is being looked at.")
		header := http.Header{"Content-Type": {"text/plain"}}
		for _, want := range []int{http.StatusOK, http.StatusConflict} {
			if status := call.Post(header, "It is approved."); status != want {
				t.Errorf("result: %d, want %d", status, want)
			}
		}
		heard(t, call, 2, "\nIt is approved.\n")
		if m, ok := call.Messages()[0].(vapi.AddMessage); !ok || !m.Silent {
			t.Error(call)
		}
		if status := call.PostTo("https://example.invalid/results/x", nil, "{}"); status != http.StatusUnauthorized {
			t.Errorf("another URL: %d", status)
		}
	})
}

func TestCallOnPost(t *testing.T) {
	onPost := func(t *asynctool.Tool[refundInput]) {
		t.OnPost = func(_ context.Context, _ asynctool.Call, post asynctool.Post) (asynctool.Result, error) {
			service := asynctool.HMAC{Secret: "x", Header: "X-Signature"}
			if err := service.Verify(post); err != nil && post.Header.Get("X-Test") == "" {
				return asynctool.Result{}, err
			}
			return asynctool.Text("It says " + string(post.Body) + "."), nil
		}
	}
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, approval(onPost))
		call.Ask("approve_refund", `{"amount":40}`)
		if status := call.Post(nil, "forged"); status != http.StatusAccepted {
			t.Errorf("status %d", status)
		}
		heard(t, call, 0, "")
		if !strings.Contains(call.String(), "tool refused the post") {
			t.Error(call)
		}
		call.Post(http.Header{"X-Test": {"x"}}, "yes=1")
		heard(t, call, 1, "\nIt says yes=1.\n")
	})
}

func TestCallDeadlineAndHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, approval(func(t *asynctool.Tool[refundInput]) {
			t.Hold, t.HoldAfter, t.Deadline = "One moment.", 10*time.Second, 5*time.Minute
		}))
		call.Ask("approve_refund", `{"amount":40}`)
		call.Wait(9 * time.Second)
		heard(t, call, 0, "")
		call.Wait(2 * time.Second)
		heard(t, call, 1, "One moment.")
		if _, ok := call.Messages()[0].(vapi.Say); !ok {
			t.Error(call)
		}
		call.Wait(5 * time.Minute)
		heard(t, call, 2, "There's no decision yet.")
		if status := call.Post(nil, `{"result":"late"}`); status != http.StatusGone {
			t.Errorf("status %d", status)
		}
	})
}

func TestCallHangUp(t *testing.T) {
	for after, want := range map[asynctool.AfterCall][]string{
		asynctool.Announce: {"call_gone: It is approved."}, asynctool.Drop: nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			call := asynctooltest.NewCall(t, approval(func(t *asynctool.Tool[refundInput]) { t.AfterCall = after }))
			call.Ask("approve_refund", `{"amount":40}`)
			call.HangUp()
			call.Post(nil, `{"result":"It is approved."}`)
			call.Wait(time.Minute)
			heard(t, call, 0, "")
			if diff := cmp.Diff(want, call.Undelivered()); diff != "" {
				t.Errorf("%s: (-want +got)\n%s\n%s", after, diff, call)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		stopped := false
		run := func(ctx context.Context, _ asynctool.Call, _ orderInput) (asynctool.Result, error) {
			<-ctx.Done()
			stopped = true
			return asynctool.Result{}, ctx.Err()
		}
		call := asynctooltest.NewCall(t, order(run, func(t *asynctool.Tool[orderInput]) { t.StopWithCall = true }))
		call.Ask("order_status", `{"order_id":"A-1"}`)
		call.HangUp()
		call.Wait(10 * time.Second)
		if !stopped {
			t.Errorf("the tool runs on\n%s", call)
		}
	})
}

// TestCallAgain parks a result, which is delivered when the customer calls again.
func TestCallAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, approval(func(t *asynctool.Tool[refundInput]) {
			t.AfterCall = asynctool.NextCall
		}))
		call.Ask("approve_refund", `{"amount":40}`)
		call.Ask("approve_refund", `{"amount":50}`)
		urls := call.CompletionURLs()
		call.PostTo(urls[0], nil, `{"result":"Forty is approved."}`)
		heard(t, call, 1, "\nForty is approved.\n")
		call.HangUp()
		call.Wait(time.Hour)
		call.PostTo(urls[1], nil, `{"result":"Fifty is approved."}`)
		call.Wait(24 * time.Hour)
		if got := call.Undelivered(); len(got) != 0 {
			t.Errorf("undelivered %q\n%s", got, call)
		}
		second := call.CallAgain()
		second.Wait(time.Minute)
		heard(t, call, 1, "")
		heard(t, second, 1, "\nFifty is approved.\n")
		if text := second.Heard()[0]; !strings.Contains(text, "earlier call") {
			t.Errorf("nothing says that it is the result of an earlier call: %s", text)
		}
		// The second call is like the first one.
		second.Ask("approve_refund", `{"amount":60}`)
		second.Post(nil, `{"result":"Sixty is approved."}`)
		heard(t, second, 2, "\nSixty is approved.\n")
		second.Ask("approve_refund", `{"amount":70}`)
		second.HangUp()
		second.Post(nil, `{"result":"Seventy is approved."}`)
		second.Wait(time.Minute)
		third := second.CallAgain()
		third.Wait(time.Minute)
		heard(t, second, 2, "")
		heard(t, third, 1, "\nSeventy is approved.\n")
	})
}

// TestCallNobodyCalls parks a result of a customer who does not call again.
func TestCallNobodyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, approval(func(t *asynctool.Tool[refundInput]) {
			t.AfterCall = asynctool.NextCall
		}))
		call.Ask("approve_refund", `{"amount":40}`)
		call.HangUp()
		call.Post(nil, `{"result":"It is approved."}`)
		call.Wait(32 * 24 * time.Hour)
		if diff := cmp.Diff([]string{"no_next_call: It is approved."}, call.Undelivered()); diff != "" {
			t.Errorf("(-want +got)\n%s\n%s", diff, call)
		}
	})
}

// TestCallBack makes an outbound call for each result that is ready after the call.
func TestCallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, approval(func(t *asynctool.Tool[refundInput]) {
			t.AfterCall = asynctool.CallBack
		}), order(says(asynctool.Text("It is here."), nil), func(t *asynctool.Tool[orderInput]) {
			t.AfterCall = asynctool.CallBack
		}))
		call.Ask("approve_refund", `{"amount":40}`)
		call.Ask("order_status", `{"order_id":"A-1"}`)
		call.Wait(time.Minute)
		heard(t, call, 1, "\nIt is here.\n")
		if got := call.OutboundCalls(); len(got) != 0 {
			t.Errorf("%v although the caller is in the call", got)
		}
		call.Ask("approve_refund", `{"amount":50}`)
		call.HangUp()
		for i, at := range call.CompletionURLs() {
			call.PostTo(at, nil, fmt.Sprintf(`{"result":"Number %d is approved."}`, i+1))
			call.Wait(5 * time.Minute)
			got := call.OutboundCalls()
			if len(got) != i+1 {
				t.Fatalf("%d outbound calls\n%s", len(got), call)
			}
			text := fmt.Sprintf("Number %d is approved.", i+1)
			variables := got[i].Variables
			if got[i].CustomerNumber != "+15550100123" || variables["ringback_tool"] != "approve_refund" ||
				!strings.Contains(variables["ringback_result"], "\n"+text+"\n") || !strings.Contains(call.String(), "outbound") {
				t.Errorf("%+v\n%s", got[i], call)
			}
		}
		if got := call.Undelivered(); len(got) != 0 {
			t.Error(call)
		}
	})
}

// TestCallReport reports lines that must all be heard.
func TestCallReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := func(ctx context.Context, call asynctool.Call, _ orderInput) (asynctool.Result, error) {
			for _, line := range []string{"One.", "Two.", "Three."} {
				if err := call.Report(ctx, line); err != nil {
					return asynctool.Result{}, err
				}
			}
			return asynctool.Text("It is here."), nil
		}
		call := asynctooltest.NewCall(t, order(run))
		call.Ask("order_status", `{"order_id":"A-1"}`)
		call.Wait(time.Minute)
		got := call.Heard()
		if len(got) != 4 || !slices.Equal(got[:3], []string{"One.", "Two.", "Three."}) {
			t.Error(call)
		}
	})
}

func TestCallRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		run := func(context.Context, asynctool.Call, orderInput) (asynctool.Result, error) {
			runs++
			time.Sleep(time.Minute)
			return asynctool.Text("It is here."), nil
		}
		call := asynctooltest.NewCall(t, order(run, func(t *asynctool.Tool[orderInput]) { t.Repeat = asynctool.Join }))
		call.Ask("order_status", `{"order_id":"A-1"}`)
		call.Repeat() // the same tool call
		call.Ask("order_status", `{"order_id":"A-1"}`)
		call.Wait(2 * time.Minute)
		all := strings.Join(call.Heard(), "\n")
		if runs != 1 || len(call.Heard()) != 2 ||
			!strings.Contains(all, "It is here.") || !strings.Contains(all, "asks the same") {
			t.Errorf("%d runs\n%s", runs, call)
		}
	})
}

// TestCallAnswers tests that Ask returns what is answered at once, and that a recorded webhook can be sent.
func TestCallAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, approval(func(t *asynctool.Tool[refundInput]) { t.Cancellable = true }),
			order(says(asynctool.Text("It is here."), nil)))
		call.Ask("approve_refund", `{"amount":40}`)
		call.Wait(time.Second)
		const want = "approve_refund, started 1 second ago, is cancelled"
		if answer := call.Ask("cancel_task", `{}`); !strings.Contains(answer, want) {
			t.Error(answer)
		}
		if status := call.Post(nil, `{"result":"x"}`); status != http.StatusConflict {
			t.Errorf("status %d", status)
		}
		call.Send(asynctooltest.ReadWebhook(t, "../events/vapi/tool-calls.json"))
		call.Wait(time.Second)
		heard(t, call, 1, "It is here.")
	})
}

// TestNamed runs a tool that a file declares.
func TestNamed(t *testing.T) {
	plates := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "The plate is known.")
	}))
	defer plates.Close()
	all := func() ([]asynctool.Definition, error) {
		declared, err := httptool.Tools(fstest.MapFS{"http.yaml": {Data: []byte(
			"tools:\n- name: plate_status\n  description: Looks up a plate.\n  url: " + plates.URL +
				"\n  schema: {type: object}\n",
		)}}, func(string) string { return "" })
		return append([]asynctool.Definition{approval()}, declared...), err
	}
	tool := asynctooltest.Named(t, all, "plate_status")
	got := asynctooltest.Run(t, tool, asynctooltest.Webhook(t, "plate_status", `{}`))
	if got.Text != "The plate is known." {
		t.Error(got)
	}
	synctest.Test(t, func(t *testing.T) {
		call := asynctooltest.NewCall(t, asynctooltest.Named(t, all, "approve_refund"))
		call.Ask("approve_refund", `{"amount":40}`)
		call.Post(nil, `{"result":"It is approved."}`)
		heard(t, call, 1, "It is approved.")
	})
}
