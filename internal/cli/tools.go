package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fatih/color"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli/wiring"
)

type toolsCommand struct {
	JSON       bool   `name:"json" help:"Print the request bodies for Vapi's API (POST /tool)."`
	URL        string `help:"The URL of the webhook, for the bodies. Default: none." placeholder:"URL"`
	Credential string `help:"The id of the credential at Vapi, for the bodies. Default: none." placeholder:"ID"`
}

// Help returns the text above the flags.
func (toolsCommand) Help() string {
	return `The schema, messages and server settings of a tool are derived from its Go value in tools/. ringback sync sends
them to Vapi.

Examples:

  ringback tools
  ringback tools --json
  ringback tools --json --url https://….amazonaws.com/vapi | jq '.[0]'`
}

// Run runs the command.
func (c *toolsCommand) Run(s *streams, tools Tools) error {
	set, err := tools.set()
	if err != nil {
		return err
	}
	at := wiring.Endpoint{CredentialID: c.Credential}
	if c.URL != "" {
		if at.URL, err = wiring.ParseURL(c.URL); err != nil {
			return err
		}
	}
	bodies, err := wiring.Bodies(set, at)
	if err != nil {
		return err
	}
	if c.JSON {
		return asJSON(s.Out, bodies)
	}
	for i, entry := range set.Entries() {
		if i > 0 {
			fmt.Fprintln(s.Out)
		}
		mode := "async"
		if entry.SyncAck {
			mode = "sync-acked"
		}
		if bodies[i].Function.Strict {
			mode += ", strict"
		}
		times := ""
		if entry.Attempts > 1 {
			times = fmt.Sprintf(" for each of %d attempts", entry.Attempts)
		}
		name := color.New(color.Bold).Sprint(entry.Name)
		fmt.Fprintf(s.Out, "%s  %s, up to %s%s\n    %s\n", name, mode, entry.Timeout, times, entry.Description)
		for _, line := range arguments(entry) {
			fmt.Fprintf(s.Out, "    %s\n", line)
		}
		if len(entry.Encrypted) > 0 {
			fmt.Fprintf(s.Out, "    Vapi encrypts %s\n", strings.Join(entry.Encrypted, ", "))
		}
	}
	return nil
}

// argumentNames returns the names of a tool's arguments, in the order of its schema.
func argumentNames(entry *asynctool.Entry) []string {
	schema := entry.Schema
	names := slices.DeleteFunc(slices.Clone(schema.PropertyOrder), func(name string) bool {
		return schema.Properties[name] == nil
	})
	var rest []string
	for name, property := range schema.Properties {
		if property != nil && !slices.Contains(names, name) {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	return append(names, rest...)
}

// arguments describes a tool's arguments, one per line.
func arguments(entry *asynctool.Entry) []string {
	schema := entry.Schema
	var lines []string
	for _, name := range argumentNames(entry) {
		property := schema.Properties[name]
		line := fmt.Sprintf("- %s (%s", name, kind(property))
		if !slices.Contains(schema.Required, name) {
			line += ", optional"
		}
		line += ")"
		if value, ok := entry.Static[name]; ok {
			line += " is " + value + ", filled in by Vapi"
		} else if property.Description != "" {
			line += ": " + property.Description
		}
		lines = append(lines, line)
	}
	return lines
}

func kind(s *jsonschema.Schema) string {
	if s.Type != "" {
		return s.Type
	}
	return strings.Join(slices.DeleteFunc(slices.Clone(s.Types), func(t string) bool { return t == "null" }), " or ")
}
