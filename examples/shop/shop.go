// Package shop contains the tools of an imaginary shop, to use or to copy. The demonstration plays them.
package shop

import (
	"embed"
	"fmt"
	"os"
	"strings"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
)

//go:embed http.yaml
var declarations embed.FS

// All returns every tool of this package. The tools read their settings from the environment. A missing
// setting is not an error of All, because a deployment needs only the names and limits of the tools.
func All() ([]asynctool.Definition, error) {
	forwarded, err := httptool.Tools(declarations, os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("examples/shop: %w", err)
	}
	return append([]asynctool.Definition{
		OrderStatus(os.Getenv),
		SpendingReport(),
		NotifyWhenReady(os.Getenv),
		ScheduledReport(),
		asynctool.TaskStatus(),
	}, forwarded...), nil
}

// oneLine replaces every run of white space with one space.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
