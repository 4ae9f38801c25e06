// Package tools takes the place of the tools folder where the functions are
// built for the tests of process death.
package tools

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/ringback/ringback/asynctool"
)

type input struct {
	Text string `json:"text"`
}

// All is every tool. Each asks a service first.
func All() ([]asynctool.Definition, error) {
	tool := func(name string, attempts int, end func() error) asynctool.Definition {
		return asynctool.Tool[input]{
			Name: name, Description: "A tool for tests.", Timeout: 2 * time.Second, Attempts: attempts, FailureText: name + " failed",
			Run: func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
				if err := askFirst(ctx, call); err != nil {
					return asynctool.Result{}, err
				}
				if err := end(); err != nil {
					return asynctool.Result{}, err
				}
				return asynctool.Text("done for " + call.ID), nil
			},
		}
	}
	return []asynctool.Definition{
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

func askFirst(ctx context.Context, call asynctool.Call) error {
	url := fmt.Sprintf("%s/%s/%s", os.Getenv("ORDERS_API_URL"), call.ID, call.ToolCallID)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
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
