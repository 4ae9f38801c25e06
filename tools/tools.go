// Package tools is the list of the tools that are deployed, and the tools
// themselves, a file each. It is the folder to edit: write a tool, or declare
// one in http.yaml, and deploy.
package tools

import (
	"os"

	"github.com/ringback/ringback/asynctool"
)

// All is every tool that is deployed. Add yours here.
//
// The settings of the tools come from the environment, and only from here. A
// setting that is missing is no error of All, since deploying needs no more
// than the tools' names and limits: it is one of the tool, when it is called.
func All() ([]asynctool.Definition, error) {
	forwarded, err := forwardedFiles(os.Getenv)
	if err != nil {
		return nil, err
	}
	return append([]asynctool.Definition{
		OrderStatus(os.Getenv("ORDERS_API_URL")),
		SpendingReport(),
		NotifyWhenReady(os.Getenv("REQUESTS_API_URL"), os.Getenv("REQUESTS_API_TOKEN")),
		ScheduledReport(),
		asynctool.TaskStatus(),
	}, forwarded...), nil
}
