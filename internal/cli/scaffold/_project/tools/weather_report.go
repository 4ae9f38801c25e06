package tools

import (
	"context"
	"time"

	"github.com/ringback/ringback/asynctool"
)

type weatherInput struct {
	City string `json:"city" jsonschema:"the city that the caller asks about"`
}

var weatherReport = asynctool.Tool[weatherInput]{
	Name:        "weather_report",
	Description: "Makes a detailed weather report for a city. Takes about a minute.",
	Timeout:     2 * time.Minute,
	Run: func(ctx context.Context, call asynctool.Call, in weatherInput) (asynctool.Result, error) {
		select {
		case <-time.After(3 * time.Second): // your slow work
		case <-ctx.Done():
			return asynctool.Result{}, ctx.Err()
		}
		return asynctool.Textf("It will be sunny in %s until Friday.", in.City), nil
	},
}
