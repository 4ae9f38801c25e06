// Package tools replaces the tools folder when the functions are built for the tests of
// process death.
package tools

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/ringback/ringback/asynctool"
)

type input struct {
	Text string `json:"text"`
}

// All returns the tools. Each asks a service first.
func All() ([]asynctool.Definition, error) {
	timeout, err := time.ParseDuration(os.Getenv("LAB_TOOL_TIMEOUT"))
	if err != nil {
		return nil, err
	}
	tool := func(name string, attempts int, end func() error) asynctool.Definition {
		return asynctool.Tool[input]{
			Name: name, Description: "A tool for tests.", Timeout: timeout, Attempts: attempts,
			FailureText: name + " failed",
			Run: func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				if err := askFirst(ctx, call, ""); err != nil {
					return asynctool.Result{}, err
				}
				if err := end(); err != nil {
					return asynctool.Result{}, err
				}
				return asynctool.Text("done for " + call.ID), nil
			},
		}
	}
	// These are suspended in their first run.
	type runFunc = func(ctx context.Context, call asynctool.Call) (asynctool.Result, error)
	longer := func(name string, deadline time.Duration, end runFunc) asynctool.Definition {
		return asynctool.Tool[input]{
			Name: name, Description: "A tool for tests.", Timeout: timeout, Attempts: 3, Deadline: deadline,
			FailureText: name + " failed",
			Run: func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				return end(ctx, call)
			},
		}
	}
	// inStages suspends itself a number of times, and checks its state each time.
	inStages := func(times int) runFunc {
		return func(ctx context.Context, call asynctool.Call) (asynctool.Result, error) {
			if err := askFirst(ctx, call, ""); err != nil {
				return asynctool.Result{}, err
			}
			runs, err := asynctool.State[int](call)
			if err != nil || runs != call.Resumes {
				lost := fmt.Errorf("run %d found %d, %v", call.Resumes, runs, err)
				return asynctool.Result{}, asynctool.Fail("it lost its state", lost)
			}
			if runs < times {
				return asynctool.ResumeIn(time.Millisecond, runs+1), nil
			}
			return asynctool.Text("done for " + call.ID), nil
		}
	}
	return []asynctool.Definition{
		longer("resumes", 0, inStages(2)),
		longer("row", 0, inStages(10)), // the tenth wake-up is a schedule
		longer("left", 3*time.Hour, func(ctx context.Context, call asynctool.Call) (asynctool.Result, error) {
			url, err := call.CompletionURL(ctx)
			if err == nil {
				err = askFirst(ctx, call, url)
			}
			return asynctool.Wait(), err
		}),
		tool("ask", 3, func() error { return nil }),
		tool("once", 1, func() error { return nil }),
		tool("exits", 2, func() error { os.Exit(3); return nil }),
		tool("glutton", 2, func() error {
			var all [][]byte
			for {
				all = append(all, make([]byte, 64<<20))
				if len(all) > 1<<20 {
					return fmt.Errorf("it has %d blocks", len(all))
				}
			}
		}),
	}, nil
}

// askFirst asks the service, and passes a completion URL to it.
func askFirst(ctx context.Context, call asynctool.Call, completionURL string) error {
	query := url.Values{"resumes": {strconv.Itoa(call.Resumes)}, "url": {completionURL}}
	address := fmt.Sprintf("%s/%s/%s?%s", os.Getenv("ORDERS_API_URL"), call.ID, call.ToolCallID, query.Encode())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return asynctool.TryAgain(0, "", err)
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
