package asynctool

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
)

// explain turns a validation error into what the assistant should do about
// it. The verdict is the schema library's; this only finds the arguments to
// name, as the library's own words are for developers.
func explain(tool string, s *jsonschema.Schema, arguments map[string]any, err error) string {
	var p problems
	p.object("", s, arguments)
	var said []string
	if len(p.missing) > 0 {
		said = append(said, list(p.missing)+are(len(p.missing))+"missing")
	}
	said = append(said, firstOf(p.wrong)...)
	if len(p.unknown) > 0 {
		said = append(said, list(p.unknown)+are(len(p.unknown))+"not an argument of it")
	}
	if len(said) == 0 {
		// A rule across arguments, which only the library can word.
		said = append(said, bounded(err.Error(), 500))
	}
	text := fmt.Sprintf("The tool %s was not run: %s.", tool, strings.Join(said, "; "))
	if len(p.missing) > 0 || len(p.wrong) > 0 {
		text += " Ask the caller for what you do not know, then call " + tool + " again."
	} else {
		text += " Call " + tool + " again with the arguments it has."
	}
	return text
}

// problems collects what is wrong with an object's members, by path.
type problems struct {
	missing, wrong, unknown []string
}

// most is how many problems of a kind are named: a list of a hundred thousand
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
	// Sorted, so that the same mistake is worded the same way every time.
	for _, name := range slices.Sorted(maps.Keys(object)) {
		switch property := s.Properties[name]; {
		case p.enough():
			return
		case property != nil:
			p.value(path+name, property, object[name])
		case s.AdditionalProperties == nil || len(s.PatternProperties) > 0:
			// Allowed, or subject to a rule that only the library knows.
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

// accepts says whether a part of a schema accepts a value. A part that cannot
// stand alone, as it refers to another part of the schema, accuses nobody.
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

// expected words what a schema takes, as far as one would say it aloud.
func expected(s *jsonschema.Schema) string {
	if len(s.Enum) > 0 {
		var values []string
		for _, v := range s.Enum {
			values = append(values, fmt.Sprint(v))
		}
		return "one of " + strings.Join(values, ", ")
	}
	var said string
	types := s.Types
	if s.Type != "" {
		types = []string{s.Type}
	}
	var kinds []string
	for _, t := range types {
		switch t {
		case "string":
			kinds = append(kinds, "a text")
		case "integer":
			kinds = append(kinds, "a whole number")
		case "number":
			kinds = append(kinds, "a number")
		case "boolean":
			kinds = append(kinds, "true or false")
		case "array":
			kinds = append(kinds, "a list")
		case "object":
			kinds = append(kinds, "an object")
		case "null":
			// Only says that it may be left out.
		}
	}
	if said = strings.Join(kinds, " or "); said == "" {
		said = "as its description says"
	}
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	if s.Minimum != nil {
		said += " of at least " + number(*s.Minimum)
	}
	if s.ExclusiveMinimum != nil {
		said += " above " + number(*s.ExclusiveMinimum)
	}
	if s.Maximum != nil {
		said += " of at most " + number(*s.Maximum)
	}
	if s.ExclusiveMaximum != nil {
		said += " below " + number(*s.ExclusiveMaximum)
	}
	if s.MinLength != nil {
		said += fmt.Sprintf(" of at least %d characters", *s.MinLength)
	}
	if s.MaxLength != nil {
		said += fmt.Sprintf(" of at most %d characters", *s.MaxLength)
	}
	if s.Format != "" {
		said += " in the format " + s.Format
	}
	if s.Pattern != "" {
		said += " of the form " + s.Pattern
	}
	if s.MinItems != nil {
		said += fmt.Sprintf(" with at least %d entries", *s.MinItems)
	}
	if s.MaxItems != nil {
		said += fmt.Sprintf(" with at most %d entries", *s.MaxItems)
	}
	return said
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

// maxName bounds a name that the model made up, in bytes.
const maxName = 64

// bounded cuts a text that the model had a hand in.
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
