// Package tools contains the tools that the assistant can call, one per file, and their list.
package tools

import (
	"embed"
	"os"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
)

// declarations are the files that declare tools without Go. One of them must exist.
//
//go:embed http.*
var declarations embed.FS

// All returns every tool. Add yours here.
//
// Settings of tools are in the environment. A missing one is not an error here, because a deployment
// needs only the names and limits of the tools. It is an error of the tool when it is called.
func All() ([]asynctool.Definition, error) {
	forwarded, err := httptool.Tools(declarations, os.Getenv)
	if err != nil {
		return nil, err
	}
	return append([]asynctool.Definition{
		weatherReport,
		asynctool.TaskStatus(), // reports how far the others are
	}, forwarded...), nil
}
