// Package tools contains the deployed tools, one per file, and their list. It is
// the folder to edit: write a tool, or declare one in http.yaml, and deploy.
package tools

import (
	"embed"
	"fmt"
	"os"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/httptool"
)

// declarations are the files that declare tools without Go: http.yaml, http.yml or
// http.json. At least one of them must exist. Its list may be empty.
//
//go:embed http.*
var declarations embed.FS

// All returns every deployed tool. Add yours here, and remove those of the shop,
// which are examples. To change one of them, copy its file here: the tests of
// Ringback itself use the shop's.
//
// All is the only place that reads the settings of the tools from the environment.
// A missing setting is not an error of All, because a deployment needs only the
// names and limits of the tools. It is an error of the tool when it is called.
func All() ([]asynctool.Definition, error) {
	all, err := shop.All()
	if err != nil {
		return nil, err
	}
	forwarded, err := httptool.Tools(declarations, os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("tools: %w", err)
	}
	return append(all, forwarded...), nil
}
