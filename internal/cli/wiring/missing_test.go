package wiring_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli/wiring"
)

// needy returns a tool that cannot work without settings.
func needy(name string, settings ...string) asynctool.Definition {
	return tool(name, func(x *asynctool.Tool[empty]) { x.Settings = settings })
}

// TestSyncLeavesOut syncs a tool that lacks a setting in the deployment, at first as a new one.
func TestSyncLeavesOut(t *testing.T) {
	o := newOrg(t)
	id := o.Add("assistant", plainAssistant)
	cfg := o.config(t, id)
	cfg.Tools = set(t, tool[empty]("one"), needy("needy", "A", "B"))
	cfg.Missing = map[string][]string{"needy": {"A", "B"}}
	changes, _ := mustSync(t, cfg)
	const note = "the tool needy is left out, because the deployment lacks A and B: " +
		"set what is missing, deploy, and run ringback sync again."
	if !slices.Contains(changes.Notes, note) {
		t.Errorf("the notes are %q", changes.Notes)
	}
	if o.byName(t, "tool", "needy") != nil || o.byName(t, "tool", "one") == nil {
		t.Errorf("the tools are %s", o.Objects("tool"))
	}
	o.settled(t, cfg)

	// With its settings, it is created and attached.
	cfg.Missing = map[string][]string{}
	if changes, _ = mustSync(t, cfg); len(changes.Notes) > 0 {
		t.Errorf("the notes are %q", changes.Notes)
	}
	needy, attached := o.byName(t, "tool", "needy"), string(o.Objects("assistant")[0])
	if needy == nil || !strings.Contains(attached, needy["id"].(string)) {
		t.Errorf("the assistant is %s", attached)
	}

	// If it loses them, it stays: callers hear why, and another assistant does not get it.
	other := o.Add("assistant", plainAssistant)
	cfg.Missing, cfg.Assistants = map[string][]string{"needy": {"A"}}, []string{id, other}
	changes, _ = mustSync(t, cfg)
	const hear = "the deployment lacks A of the tool needy, so callers hear"
	if len(changes.Notes) != 1 || !strings.HasPrefix(changes.Notes[0], hear) {
		t.Errorf("the notes are %q", changes.Notes)
	}
	if o.byName(t, "tool", "needy") == nil || strings.Contains(string(o.Objects("assistant")[1]), needy["id"].(string)) {
		t.Errorf("the assistants are %s", o.Objects("assistant"))
	}
	o.settled(t, cfg)
}

// TestDoctorNamesSettings examines a tool that lacks a setting, before and after sync has created it.
func TestDoctorNamesSettings(t *testing.T) {
	for name, row := range map[string]struct {
		missing map[string][]string
		synced  bool
		want    []string
	}{
		"unknown": {nil, true, []string{"settings : unchecked: not checked: it is unknown whether"}},
		"none":    {map[string][]string{}, true, nil},
		"not at Vapi": {map[string][]string{"needy": {"A"}}, false, []string{
			"settings needy: warning: the deployment lacks A, so sync leaves the tool out"}},
		"at Vapi": {map[string][]string{"needy": {"A"}}, true, []string{
			"settings needy: failed: the deployment lacks A, so callers hear that the service isn't available"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, x := healthy(t)
			o.Change("assistant", "a-1", "model",
				`{"provider":"openai","messages":[{"role":"system","content":"Use slow_one."}]}`)
			x.Tools = set(t, tool[empty]("slow_one"), needy("needy", "A"))
			if row.synced {
				o.Change("assistant", "a-1", "model",
					`{"provider":"openai","messages":[{"role":"system","content":"Use slow_one, and needy."}]}`)
			}
			cfg := wiring.Config{API: o.api, Tools: x.Tools, URL: x.URL, Assistants: x.Assistants,
				Credential: wiring.Credential{Plan: x.Plans[0]}}
			if !row.synced {
				cfg.Missing = row.missing
			}
			mustSync(t, cfg)
			x.Missing = row.missing
			expect(t, row.want, wiring.Examine(t.Context(), x))
		})
	}
}

// TestDoctorNamesListener examines a deployment whose tools no function runs. Its tools have the settings of the
// listener.
func TestDoctorNamesListener(t *testing.T) {
	o, x := healthy(t)
	o.Change("assistant", "a-1", "model",
		`{"provider":"openai","messages":[{"role":"system","content":"Use slow_one, and needy."}]}`)
	x.Tools = set(t, tool[empty]("slow_one"), needy("needy", "A"))
	mustSync(t, wiring.Config{API: o.api, Tools: x.Tools, URL: x.URL, Assistants: x.Assistants,
		Credential: wiring.Credential{Plan: x.Plans[0]}})
	x.Listen = "ringback listen --stack Ringback-dev"
	expect(t, []string{
		"listener : warning: no function runs the tools of the deployment; their jobs wait for a listener",
	}, wiring.Examine(t.Context(), x))
}

// TestUnknownCredential selects a credential that Vapi does not have.
func TestUnknownCredential(t *testing.T) {
	o := newOrg(t)
	cfg := o.config(t)
	cfg.Credential = wiring.Credential{ID: "c-9"}
	if _, _, err := sync(t, cfg); err == nil || !strings.Contains(err.Error(), "there is no credential c-9 at Vapi") {
		t.Errorf("got %v", err)
	}
	if len(o.Objects("tool")) > 0 {
		t.Error("it created a tool")
	}
}

// TestVapiRefusesAdditionalProperties syncs with an API that is as strict as its OpenAPI description.
func TestVapiRefusesAdditionalProperties(t *testing.T) {
	type input struct {
		City   string         `json:"city"`
		Counts map[string]int `json:"counts"`
		Stops  []struct {
			Name string `json:"name"`
		} `json:"stops"`
	}
	o := newOrg(t)
	o.Strict = true
	cfg := o.config(t)
	cfg.Tools = set(t, tool[input]("route"))
	mustSync(t, cfg)
	parameters := func() string {
		text, err := json.Marshal(o.byName(t, "tool", "route")["function"])
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := parameters(); !strings.Contains(got, `"city"`) || strings.Contains(got, "additionalProperties") ||
		strings.Contains(got, `"strict":true`) {
		t.Errorf("the tool is %s", got)
	}
	o.settled(t, cfg)

	// An update is refused and sent again, too.
	cfg.Tools = set(t, tool("route", func(x *asynctool.Tool[input]) { x.Description = "Plans another route." }))
	mustSync(t, cfg)
	if got := parameters(); !strings.Contains(got, "another route") || strings.Contains(got, "additionalProperties") {
		t.Errorf("the tool is %s", got)
	}
	o.settled(t, cfg)
}
