package process_test

import (
	"context"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/run/process"
)

// This is the main of functions/process in a project, whose list of tools is tools.All.
func Example() {
	all := func() ([]asynctool.Definition, error) {
		return []asynctool.Definition{asynctool.Tool[struct{}]{
			Name:        "opening_hours",
			Description: "Looks up when the shop is open. Takes some seconds.",
			Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
				return asynctool.Text("The shop is open until eight."), nil
			},
		}}, nil
	}
	process.Run(all)
}
