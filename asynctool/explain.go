package asynctool

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
)

// explain turns a validation error into instructions for the assistant. The
// schema library has made the decision. explain only finds the arguments to name,
// because the library's own messages are for developers.
func explain(e *Entry, arguments map[string]any, err error) string {
	tool := e.Name
	var p problems
	p.object("", e.Schema, arguments)
	var said []string
	if len(p.missing) > 0 {
		said = append(said, list(p.missing)+are(len(p.missing))+"missing")
	}
	said = append(said, firstOf(p.wrong)...)
	if len(p.unknown) > 0 {
		said = append(said, list(p.unknown)+are(len(p.unknown))+"not among its arguments")
	}
	switch {
	case len(said) > 0:
	case len(e.Encrypted) > 0: // the library's message may quote one of them
		said = append(said, "its arguments do not fit together")
	default:
		// A rule across arguments, which only the library can describe.
		said = append(said, bounded(err.Error(), 500))
	}
	text := fmt.Sprintf("The tool %s was not run: %s.", tool, strings.Join(said, "; "))
	if len(p.missing) > 0 || len(p.wrong) > 0 {
		text += " Ask the caller for what you do not know, then call " + tool + " again."
	} else {
		text += " Call " + tool + " again with valid arguments."
	}
	return text
}

// problems collects the invalid members of an object, by path.
type problems struct {
	missing, wrong, unknown []string
}

// most bounds the problems of a kind that are named. A list of a hundred thousand
// wrong entries is one mistake, and each entry costs time to check.
const most = 8

func (p *problems) enough() bool {
	return max(len(p.missing), len(p.wrong), len(p.unknown)) > most
}

func (p *problems) object(path string, s *jsonschema.Schema, object map[string]any) {
	for _, name := range s.Required {
		if _, ok := object[name]; !ok {
			p.missing = append(p.missing, named(path+name, s.Properties[name]))
		}
	}
	// Sorted, so that the same mistake has the same text every time.
	for _, name := range slices.Sorted(maps.Keys(object)) {
		switch property := s.Properties[name]; {
		case p.enough():
			return
		case property != nil:
			p.value(path+name, property, object[name])
		case s.AdditionalProperties == nil || len(s.PatternProperties) > 0:
			// Allowed, or subject to a rule that only the library evaluates.
		case accepts(s.AdditionalProperties, object[name]):
		case s.AdditionalProperties.Not != nil:
			p.unknown = append(p.unknown, path+bounded(name, maxName))
		default:
			p.value(path+bounded(name, maxName), s.AdditionalProperties, object[name])
		}
	}
}

func (p *problems) value(path string, s *jsonschema.Schema, value any) {
	if accepts(s, value) {
		return
	}
	before := len(p.missing) + len(p.wrong) + len(p.unknown)
	switch v := value.(type) {
	case map[string]any:
		p.object(path+".", s, v)
	case []any:
		if s.Items != nil {
			for i, item := range v {
				if p.enough() {
					return
				}
				p.value(path+"["+strconv.Itoa(i)+"]", s.Items, item)
			}
		}
	}
	if len(p.missing)+len(p.wrong)+len(p.unknown) == before {
		p.wrong = append(p.wrong, named(path, s)+" must be "+expected(s))
	}
}

// accepts reports whether a part of a schema accepts a value. It accepts any
// value if the part does not resolve alone, because it refers to another part.
func accepts(s *jsonschema.Schema, value any) bool {
	r, err := s.CloneSchemas().Resolve(nil)
	return err != nil || r.Validate(value) == nil
}

func named(path string, s *jsonschema.Schema) string {
	if s == nil || s.Description == "" {
		return path
	}
	return path + " (" + s.Description + ")"
}

// kindOf returns the words for a JSON Schema type in a sentence.
func kindOf(schemaType string) string {
	switch schemaType {
	case "string":
		return "a text"
	case "integer":
		return "a whole number"
	case "number":
		return "a number"
	case "boolean":
		return "true or false"
	case "array":
		return "a list"
	case "object":
		return "an object"
	}
	return "" // null only means that the argument may be left out
}

// expected describes in words what a schema accepts.
func expected(s *jsonschema.Schema) string {
	if len(s.Enum) > 0 {
		var values []string
		for _, v := range s.Enum {
			values = append(values, fmt.Sprint(v))
		}
		return "one of " + strings.Join(values, ", ")
	}
	types := s.Types
	if s.Type != "" {
		types = []string{s.Type}
	}
	var kinds []string
	for _, t := range types {
		if kind := kindOf(t); kind != "" {
			kinds = append(kinds, kind)
		}
	}
	text := cmp.Or(strings.Join(kinds, " or "), "as its description says")
	number := func(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
	if s.Minimum != nil && s.Maximum != nil {
		text += " from " + number(*s.Minimum) + " to " + number(*s.Maximum)
	}
	for _, bound := range []struct {
		words        string
		value, other *float64
	}{
		{"at least", s.Minimum, s.Maximum}, {"above", s.ExclusiveMinimum, nil},
		{"at most", s.Maximum, s.Minimum}, {"below", s.ExclusiveMaximum, nil},
	} {
		if bound.value != nil && bound.other == nil {
			text += ", " + bound.words + " " + number(*bound.value)
		}
	}
	for _, size := range []struct {
		least, most *int
		unit        string
	}{{s.MinLength, s.MaxLength, "characters"}, {s.MinItems, s.MaxItems, "entries"}} {
		switch {
		case size.least != nil && size.most != nil:
			text += fmt.Sprintf(", from %d to %d %s", *size.least, *size.most, size.unit)
		case size.least != nil:
			text += fmt.Sprintf(", at least %d %s", *size.least, size.unit)
		case size.most != nil:
			text += fmt.Sprintf(", at most %d %s", *size.most, size.unit)
		}
	}
	if s.Format != "" {
		text += ", in the format " + s.Format
	}
	if s.Pattern != "" {
		text += ", matching " + s.Pattern
	}
	return text
}

func list(names []string) string { return strings.Join(firstOf(names), ", ") }

func firstOf(problems []string) []string {
	if len(problems) > most {
		return append(slices.Clone(problems[:most]), "others")
	}
	return problems
}

func are(n int) string {
	if n == 1 {
		return " is "
	}
	return " are "
}

// maxName bounds a name that the model invented, in bytes.
const maxName = 64

// bounded cuts a text that the model influenced to at most so many bytes.
func bounded(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
