// Package listen is what a listener knows of a stage that was deployed for it: where its jobs are, and the tools that
// it was deployed with. The stack writes it to an output, and the command line reads it.
package listen

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/deployment"
)

// Stage is a stage whose jobs wait for a listener.
type Stage struct {
	// Environment contains the variables of the process function that are not a tool's.
	Environment map[string]string `json:"environment"`

	// Tools contains the settings that the stage depends on, by the name of the tool.
	Tools map[string]map[string]string `json:"tools"`
}

// Describe describes a stage.
func Describe(e deployment.Process, tools *asynctool.Set) Stage {
	return Stage{Environment: deployment.Variables(e, false), Tools: settings(tools)}
}

// settings returns the settings of tools that the ack function, the queues and their limits follow from. They have the
// names of the fields of [asynctool.Tool].
func settings(tools *asynctool.Set) map[string]map[string]string {
	all := make(map[string]map[string]string)
	for _, e := range tools.Entries() {
		if e.Status {
			continue // the ack function answers it
		}
		s := map[string]string{"Timeout": e.Timeout.String(), "Attempts": strconv.Itoa(e.Attempts)}
		if e.Quick > 0 {
			s["Quick"] = e.Quick.String()
		}
		if e.AfterCall == asynctool.NextCall {
			s["AfterCall"] = string(e.AfterCall)
		}
		if len(e.Encrypted) > 0 {
			s["Encrypted"] = strings.Join(e.Encrypted, " ")
		}
		all[e.Name] = s
	}
	return all
}

// Encode returns the value of [deployment.ListenOutput].
func (s Stage) Encode() (string, error) {
	text, err := json.Marshal(s)
	return string(text), err
}

// Parse parses the value of [deployment.ListenOutput].
func Parse(output string) (Stage, error) {
	var s Stage
	if err := json.Unmarshal([]byte(output), &s); err != nil {
		return Stage{}, errors.New("it is not the JSON of a stage")
	}
	return s, nil
}

// Process returns the environment of the process function.
func (s Stage) Process() (deployment.Process, error) {
	var e deployment.Process
	if err := env.ParseWithOptions(&e, env.Options{Environment: s.Environment}); err != nil {
		return e, err
	}
	return e, e.Check()
}

// Differences describes the tools whose settings differ from those that the stage was deployed with.
func (s Stage) Differences(tools *asynctool.Set) (texts []string) {
	here := settings(tools)
	for _, name := range slices.Sorted(maps.Keys(here)) {
		there, ok := s.Tools[name]
		if !ok {
			texts = append(texts, name+" is new")
			continue
		}
		names := maps.Clone(here[name])
		maps.Copy(names, there)
		for _, setting := range slices.Sorted(maps.Keys(names)) {
			if now, then := here[name][setting], there[setting]; now != then {
				texts = append(texts, fmt.Sprintf("%s of %s was %s, and is %s", setting, name, shown(then), shown(now)))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Tools)) {
		if _, ok := here[name]; !ok {
			texts = append(texts, name+" is gone")
		}
	}
	return texts
}

func shown(value string) string {
	if value == "" {
		return "not set"
	}
	return value
}
