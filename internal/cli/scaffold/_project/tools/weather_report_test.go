package tools

import (
	"testing"
	"testing/synctest"

	"github.com/ringback/ringback/asynctooltest"
)

// In a bubble, the time that the tool takes costs nothing.
func TestWeatherReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := asynctooltest.Run(t, weatherReport, asynctooltest.Webhook(t, "weather_report", `{"city":"Lisbon"}`))
		if want := "It will be sunny in Lisbon until Friday."; got.Text != want {
			t.Errorf("got %q, want %q\n%s", got.Text, want, got)
		}
	})
}
