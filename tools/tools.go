// Package tools contains the deployed tools, one per file, and their list. It is
// the folder to edit: write a tool, or declare one in http.yaml, and deploy.
package tools

import (
	"os"

	"github.com/ringback/ringback/asynctool"
)

// All returns every deployed tool. Add yours here.
//
// All is the only place that reads the settings of the tools from the environment.
// A missing setting is not an error of All, because a deployment needs only the
// names and limits of the tools. It is an error of the tool when it is called.
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
