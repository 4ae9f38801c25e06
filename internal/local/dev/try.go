package dev

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
)

// DefaultPort is the port on which a local run listens by default, and other commands find it.
const DefaultPort = "8787"

// proposes shows what to do next.
func (r *run) proposes() {
	keys := "Press Ctrl-C to stop."
	if r.cfg.HangUp != nil {
		keys = "Press h to hang up in the simulated calls, and Ctrl-C to stop."
	}
	next := r.try()
	if next == "" {
		r.terminal.say("\nReady. %s\n", keys)
		return
	}
	r.terminal.say("\nReady. Try next:\n\n  %s\n\n%s\n", next, keys)
}

// try returns the command that calls a tool. It returns an empty string if there is no tool to propose.
func (r *run) try() string {
	for _, tool := range r.tools.Entries() {
		if tool.Name == asynctool.TaskStatusName || tool.Name == asynctool.CancelTaskName || !r.canWork(tool) {
			continue
		}
		arguments, ok := sampleArguments(tool)
		if !ok {
			continue
		}
		words := append([]string{r.cfg.Try, tool.Name}, arguments...)
		return strings.Join(append(words, r.callFlags()...), " ")
	}
	return ""
}

// canWork reports whether a tool has its settings.
func (r *run) canWork(tool *asynctool.Entry) bool {
	return r.missing[tool.Name] == nil && !slices.ContainsFunc(r.invalid, func(wrong *asynctool.SettingError) bool {
		return wrong.Tool == tool.Name
	})
}

// elsewhere reports whether other commands need the address of the run.
func (r *run) elsewhere() bool { return r.address() != net.JoinHostPort("127.0.0.1", DefaultPort) }

// callFlags are the flags with which ringback call finds the run.
func (r *run) callFlags() (flags []string) {
	if r.elsewhere() {
		flags = append(flags, "--url http://"+r.address()+"/vapi")
	}
	if r.cfg.Auth != "" && !r.unverified() {
		flags = append(flags, "--auth '…'")
	}
	return flags
}

// flags are the flags with which the other commands find the run.
func (r *run) flags() string {
	if r.elsewhere() {
		return "--local --addr " + r.address()
	}
	return "--local"
}

// sampleArguments returns arguments that a tool accepts, as a user types them in a shell. It returns false if it
// finds none.
func sampleArguments(tool *asynctool.Entry) (arguments []string, ok bool) {
	schema := tool.ModelSchema()
	object := make(map[string]any)
	required := slices.Clone(schema.Required)
	order := func(name string) int { return slices.Index(schema.PropertyOrder, name) }
	slices.SortFunc(required, func(a, b string) int { return cmp.Or(order(a)-order(b), strings.Compare(a, b)) })
	for _, name := range required {
		property := schema.Properties[name]
		if property == nil {
			return nil, false
		}
		value := sample(name, property)
		if value == nil {
			return nil, false
		}
		object[name] = value
		text, isText := value.(string)
		sign := "="
		if !isText {
			encoded, err := json.Marshal(value)
			if err != nil {
				return nil, false
			}
			text, sign = string(encoded), ":="
		}
		arguments = append(arguments, name+sign+quoted(text))
	}
	resolved, err := schema.CloneSchemas().Resolve(nil)
	if err != nil {
		return nil, false
	}
	// Values as they arrive: numbers are float64.
	encoded, err := json.Marshal(object)
	if err == nil {
		clear(object)
		err = json.Unmarshal(encoded, &object)
	}
	return arguments, err == nil && resolved.Validate(object) == nil
}

// example matches a value that a description names.
var example = regexp.MustCompile(`(?:for example|such as|e\.g\.) "?([^\s,;"]*[^\s,;".])`)

// samples are values of arguments with common names.
var samples = map[string]string{"city": "Lisbon", "name": "Ada", "email": "ada@example.com", "phone": "+15550100123"}

// sample returns a value for an argument, or nil if nothing says what a text can be. It need not fit.
func sample(name string, s *jsonschema.Schema) any {
	switch {
	case len(s.Examples) > 0:
		return s.Examples[0]
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Default != nil:
		var value any
		if json.Unmarshal(s.Default, &value) == nil {
			return value
		}
	}
	least := 1.0
	if s.Minimum != nil {
		least = *s.Minimum
	}
	switch kind := cmp.Or(s.Type, strings.Join(s.Types, " ")); {
	case strings.Contains(kind, "string"):
		if named := example.FindStringSubmatch(s.Description); named != nil {
			return named[1]
		}
		switch s.Format {
		case "date":
			return time.Now().AddDate(0, 0, 1).Format(time.DateOnly)
		case "date-time":
			return time.Now().Add(time.Hour).Truncate(time.Minute).Format(time.RFC3339)
		}
		if value, ok := samples[name]; ok {
			return value
		}
		return nil
	case strings.Contains(kind, "integer"), strings.Contains(kind, "number"):
		return least
	case strings.Contains(kind, "boolean"):
		return true
	case strings.Contains(kind, "array"):
		return []any{}
	}
	return map[string]any{}
}

// plain matches a word that no shell changes.
var plain = regexp.MustCompile(`^[\w@%+:,./-]+$`)

// quoted returns a word as a user types it in a shell.
func quoted(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return fmt.Sprintf("'%s'", strings.ReplaceAll(word, "'", `'\''`))
}
