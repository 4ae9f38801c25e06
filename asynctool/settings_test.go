package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
)

// withSettings returns a tool that cannot work without some settings.
func withSettings(name string, ran *bool, getenv func(string) string, settings ...string) asynctool.Definition {
	return asynctool.Tool[struct {
		City string `json:"city"`
	}]{
		Name: name, Description: "d", Settings: settings, Getenv: getenv,
		Run: func(context.Context, asynctool.Call, struct {
			City string `json:"city"`
		}) (asynctool.Result, error) {
			if ran != nil {
				*ran = true
			}
			return asynctool.Text("done"), nil
		},
	}
}

// A tool that lacks a setting does not run. That counts before the arguments do: the caller must not be asked
// to correct them in vain.
func TestToolLacksSettings(t *testing.T) {
	for name, row := range map[string]struct {
		environment map[string]string
		lacks       string
	}{
		"all":           {nil, "URL, TOKEN"},
		"one":           {map[string]string{"URL": "https://example.com"}, "TOKEN"},
		"only a space":  {map[string]string{"URL": "https://example.com", "TOKEN": " \n"}, "TOKEN"},
		"nothing":       {map[string]string{"URL": "https://example.com", "TOKEN": "t"}, ""},
		"another value": {map[string]string{"token": "t", "URL": "u"}, "TOKEN"},
	} {
		for _, arguments := range []string{`{"city":"Lisbon"}`, `{}`} {
			if arguments == "{}" && row.lacks == "" {
				continue
			}
			t.Run(name+arguments, func(t *testing.T) {
				ran := false
				set, err := asynctool.NewSet(withSettings("weather", &ran,
					func(name string) string { return row.environment[name] }, "URL", "TOKEN", "URL"))
				if err != nil {
					t.Fatal(err)
				}
				_, err = set.Entries()[0].Run(t.Context(), asynctool.Call{}, json.RawMessage(arguments))
				if ran != (row.lacks == "") {
					t.Errorf("the tool ran: %t", ran)
				}
				if row.lacks == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				failed, ok := errors.AsType[*asynctool.Error](err)
				if !ok || failed.Retry || failed.Spoken != "I'm sorry, this service isn't available right now." ||
					!strings.HasSuffix(failed.Error(), "not set in the environment: "+row.lacks) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// Without Getenv, a tool reads the environment of the process, at each run.
func TestToolReadsItsEnvironment(t *testing.T) {
	set, err := asynctool.NewSet(withSettings("weather", nil, nil, "RINGBACK_TEST_SETTING"))
	if err != nil {
		t.Fatal(err)
	}
	run := func() error {
		_, err := set.Entries()[0].Run(t.Context(), asynctool.Call{}, json.RawMessage(`{"city":"Lisbon"}`))
		return err
	}
	if run() == nil {
		t.Error("the tool runs without its setting")
	}
	t.Setenv("RINGBACK_TEST_SETTING", "value")
	if err := run(); err != nil {
		t.Error(err)
	}
}

func TestMissing(t *testing.T) {
	set, err := asynctool.NewSet(
		withSettings("none", nil, nil), withSettings("one", nil, nil, "A"), withSettings("two", nil, nil, "B", "C"))
	if err != nil {
		t.Fatal(err)
	}
	got := set.Missing(func(name string) string { return map[string]string{"A": "a", "B": "b", "C": " "}[name] })
	if diff := cmp.Diff(map[string][]string{"two": {"C"}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestInvalidSettingNames(t *testing.T) {
	for _, name := range []string{"", "1A", "A-B", "A B", "${A}", "Ä"} {
		if _, err := asynctool.NewSet(withSettings("weather", nil, nil, name)); err == nil ||
			!strings.Contains(err.Error(), "is not the name of an environment variable") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func ExampleSet_Missing() {
	weather := asynctool.Tool[struct{}]{
		Name: "weather_report", Description: "Fetches the weather report.",
		Settings: []string{"WEATHER_API_URL", "WEATHER_API_KEY"},
		Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
			return asynctool.Text("It's sunny."), nil
		},
	}
	set, err := asynctool.NewSet(weather)
	if err != nil {
		panic(err)
	}
	environment := map[string]string{"WEATHER_API_URL": "https://weather.example.com"}
	missing := set.Missing(func(name string) string { return environment[name] })
	for _, tool := range slices.Sorted(maps.Keys(missing)) {
		fmt.Println(tool, "lacks", strings.Join(missing[tool], ", "))
	}
	// Output: weather_report lacks WEATHER_API_KEY
}
