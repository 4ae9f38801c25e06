package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
)

func Example() {
	type input struct {
		City string `json:"city" jsonschema:"the city the caller asks about"`
	}
	weather := asynctool.Tool[input]{
		Name:        "weather_report",
		Description: "Fetches a detailed weather report. Takes about a minute.",
		Run: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
			return asynctool.Text("It's sunny in " + in.City + "."), nil
		},
	}

	// Ringback does the rest: it checks the tool, finds it by its name, and
	// runs it with the arguments from the assistant.
	set, err := asynctool.NewSet(weather)
	if err != nil {
		fmt.Println(err)
		return
	}
	tool, _ := set.Lookup("weather_report")
	result, err := tool.Run(context.Background(), asynctool.Call{Attempt: 1}, json.RawMessage(`{"city":"Lisbon"}`))
	fmt.Println(result.Text, err)
	_, err = tool.Run(context.Background(), asynctool.Call{Attempt: 1}, json.RawMessage(`{}`))
	fmt.Println(strings.ReplaceAll(err.Error(), ". ", ".\n"))
	// Output:
	// It's sunny in Lisbon. <nil>
	// The tool weather_report was not run: city (the city the caller asks about) is missing.
	// Ask the caller for what you do not know, then call weather_report again.
}

// A tool that must not run twice, and may be tried again if nothing has begun.
func ExampleNotStarted() {
	busy := true // what the service says
	refund := asynctool.Tool[struct{}]{
		Name:        "refund",
		Description: "Refunds the last order.",
		Attempts:    1,
		Run: func(ctx context.Context, call asynctool.Call, _ struct{}) (asynctool.Result, error) {
			if busy {
				return asynctool.Result{}, asynctool.NotStarted(5*time.Second, "", errors.New("the service is busy"))
			}
			return asynctool.Text("The refund is on its way."), nil
		},
	}
	set, err := asynctool.NewSet(refund)
	if err != nil {
		fmt.Println(err)
		return
	}
	tool, _ := set.Lookup("refund")
	_, err = tool.Run(context.Background(), asynctool.Call{Attempt: 1}, json.RawMessage(`{}`))
	if said, ok := errors.AsType[*asynctool.Error](err); ok {
		fmt.Println(said.NotStarted, said.After, err)
	}
	// Output: true 5s the service is busy
}
