package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
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

// checked is a tool whose settings must be numbers, of which the second one is not below the first.
func checked(environment map[string]string, ran *bool) asynctool.Definition {
	number := func(lookup func(string) (string, bool), name string) (int, error) {
		value, _ := lookup(name)
		n, err := strconv.Atoi(value)
		if err != nil {
			return 0, asynctool.InvalidSetting(errors.New("it is not a number"), name)
		}
		return n, nil
	}
	return asynctool.Tool[struct{}]{
		Name: "checked", Description: "d", Settings: []string{"LEAST", "MOST"},
		Getenv: func(name string) string { return environment[name] },
		CheckSettings: func(lookup func(string) (string, bool)) error {
			least, err1 := number(lookup, "LEAST")
			most, err2 := number(lookup, "MOST")
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			if most < least {
				return errors.New("the second is below the first")
			}
			return nil
		},
		Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
			*ran = true
			return asynctool.Text("done"), nil
		},
	}
}

// A tool does not run with a value that it cannot work with. One that is missing or unknown is not invalid.
func TestInvalidSettings(t *testing.T) {
	const unknown = "unknown"
	const least, most = "LEAST cannot be used by the tool checked: ", "MOST cannot be used by the tool checked: "
	for name, row := range map[string]struct {
		least, most string
		want        []string
	}{
		"valid": {"1", "2", nil},
		"one":   {"1", "s3cret", []string{most + "it is not a number"}},
		"both":  {"a", "b", []string{least + "it is not a number", most + "it is not a number"}},
		"together": {"2", "1", []string{"LEAST and MOST cannot be used by the tool checked: " +
			"the second is below the first"}},
		"missing":          {"", "2", nil},
		"one is missing":   {" \n", "b", []string{most + "it is not a number"}},
		"unknown":          {unknown, unknown, nil},
		"one is unknown":   {"a", unknown, []string{least + "it is not a number"}},
		"one, not checked": {"1", unknown, nil},
	} {
		t.Run(name, func(t *testing.T) {
			environment := map[string]string{"LEAST": row.least, "MOST": row.most}
			ran := false
			set, err := asynctool.NewSet(withSettings("other", nil, nil, "LEAST"), checked(environment, &ran))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, wrong := range set.Invalid(func(name string) (string, bool) {
				return environment[name], environment[name] != unknown
			}) {
				got = append(got, wrong.Error())
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}

			_, err = set.Entries()[1].Run(t.Context(), asynctool.Call{}, json.RawMessage(`{}`))
			works := name == "valid"
			if ran != works || (err == nil) != works {
				t.Errorf("the tool ran: %t, %v", ran, err)
			}
			failed, ok := errors.AsType[*asynctool.Error](err)
			if !works && (!ok || failed.Retry || failed.Spoken != "I'm sorry, this service isn't available right now.") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The settings are those of the environment if there is no other source.
func TestInvalidSettingsOfTheEnvironment(t *testing.T) {
	t.Setenv("LEAST", "a")
	t.Setenv("MOST", "2")
	set, err := asynctool.NewSet(checked(nil, new(bool)))
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Invalid(nil); len(got) != 1 || got[0].Tool != "checked" || got[0].Names[0] != "LEAST" {
		t.Errorf("got %v", got)
	}
}

func ExampleSet_Invalid() {
	report := asynctool.Tool[struct{}]{
		Name: "weather_report", Description: "Fetches the weather report.",
		Settings: []string{"WEATHER_DAYS"},
		CheckSettings: func(lookup func(string) (string, bool)) error {
			value, _ := lookup("WEATHER_DAYS")
			if _, err := strconv.Atoi(value); err != nil {
				return errors.New("it is not a whole number")
			}
			return nil
		},
		Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
			return asynctool.Text("It's sunny."), nil
		},
	}
	set, err := asynctool.NewSet(report)
	if err != nil {
		panic(err)
	}
	environment := map[string]string{"WEATHER_DAYS": "three"}
	for _, wrong := range set.Invalid(func(name string) (string, bool) { return environment[name], true }) {
		fmt.Println(wrong)
	}
	// Output: WEATHER_DAYS cannot be used by the tool weather_report: it is not a whole number
}
