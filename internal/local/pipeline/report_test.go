package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// TestReport tests lines that must all be heard, in a call that does not take the first posts of each. They are
// spoken in order, five seconds apart, and before the result.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		posts := 0
		var takenAt []time.Time
		calls := receipts(func(string) vapiclient.Receipt {
			if posts++; posts%3 != 0 {
				return vapiclient.Receipt{Verdict: vapiclient.TryAgain, Status: 503, Err: errors.New("not now")}
			}
			takenAt = append(takenAt, time.Now())
			return delivered
		})
		suppliers := asynctool.Tool[input]{
			Name: "suppliers", Description: "Asks suppliers.", Timeout: 5 * time.Minute, Delivery: asynctool.Say,
			Run: func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				for n := range 5 {
					if err := call.Report(ctx, fmt.Sprintf("Supplier %d has answered.", n)); err != nil {
						return asynctool.Result{}, err
					}
				}
				return asynctool.Text("All have answered."), nil
			},
		}
		w := newWorld(t, calls.decorate, suppliers)
		w.post(webhook("call", "", toolCall{"a", "suppliers", `{"text":"x"}`}))
		w.drained()
		want := []string{
			"Supplier 0 has answered.", "Supplier 1 has answered.", "Supplier 2 has answered.", "Supplier 3 has answered.",
			"Supplier 4 has answered.", "All have answered.",
		}
		if diff := cmp.Diff(want, w.spoken("call")); diff != "" {
			t.Error(diff)
		}
		for i := 1; i < len(want)-1; i++ {
			if pause := takenAt[i].Sub(takenAt[i-1]); pause < 5*time.Second || pause > 15*time.Second {
				t.Errorf("line %d came %s after the one before", i, pause)
			}
		}
	})
}

// TestReportInACallThatHasEnded tests that a tool learns that its line was not heard.
func TestReportInACallThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported error
		tool := tool("tool", 1, func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			reported = call.Report(ctx, "half")
			return asynctool.Text("done"), nil
		})
		w := newWorld(t, receipts(func(string) vapiclient.Receipt { return gone }).decorate, tool)
		w.post(webhook("call", "", toolCall{"a", "tool", `{"text":"x"}`}))
		w.drained()
		if !errors.Is(reported, asynctool.ErrNotHeard) {
			t.Errorf("got %v", reported)
		}
	})
}
