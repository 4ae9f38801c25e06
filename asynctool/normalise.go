package asynctool

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// normaliser corrects how a model writes arguments, if the schema leaves no doubt
// about what they mean. It never decides whether a value is valid: the schema is
// checked afterwards.
type normaliser struct{ root *jsonschema.Schema }

// object corrects the members of an object that s describes, except for those
// named in skip.
//
// It removes a member that says "no value" and is not required: a null, a blank
// text, or for anything but a text also "null" and "undefined". It does so only if
// the schema does not accept the member as it is.
func (n normaliser) object(s *jsonschema.Schema, object map[string]any, skip map[string]string) {
	s = n.target(s)
	if s == nil {
		return
	}
	for name, value := range object {
		if _, skipped := skip[name]; skipped {
			continue
		}
		property, declared := s.Properties[name]
		if !declared && len(s.PatternProperties) == 0 {
			property = s.AdditionalProperties
		}
		if property == nil {
			continue
		}
		if declared && !slices.Contains(s.Required, name) && n.absent(property, value) {
			delete(object, name)
			continue
		}
		object[name] = n.value(property, value)
	}
}

// value returns a value as the schema s wants it. It returns the value itself if
// there is nothing to correct, or if there is a doubt.
func (n normaliser) value(s *jsonschema.Schema, value any) any {
	switch v := value.(type) {
	case map[string]any:
		n.object(s, v, nil)
	case []any:
		if target := n.target(s); target != nil && target.Items != nil {
			for i := range v {
				v[i] = n.value(target.Items, v[i])
			}
		}
	case json.Number:
		switch n.kind(s) {
		case "integer":
			if digits, ok := wholeNumber(string(v)); ok {
				return json.Number(digits)
			}
		case "string":
			if plainNumber(string(v)) {
				return string(v)
			}
		}
	case string:
		text := strings.TrimSpace(v)
		switch kind := n.kind(s); kind {
		case "boolean":
			if strings.EqualFold(text, "true") || strings.EqualFold(text, "false") {
				return strings.EqualFold(text, "true")
			}
		case "integer", "number":
			if !isNumber(text) {
				break
			}
			if digits, ok := wholeNumber(text); ok && kind == "integer" {
				return json.Number(digits)
			}
			if kind == "number" {
				return json.Number(text)
			}
		}
	}
	return value
}

// absent reports whether the value of an optional argument says that there is none.
func (n normaliser) absent(s *jsonschema.Schema, value any) bool {
	text, isText := value.(string)
	if value != nil && !isText {
		return false
	}
	types := n.types(s, maxReferences)
	if value == nil {
		if len(types) > 0 {
			return !slices.Contains(types, "null")
		}
		return !n.accepts(s, nil)
	}
	switch text = strings.TrimSpace(text); {
	case len(types) == 0 || slices.Contains(types, "string"):
		return text == "" && !n.accepts(s, value)
	default:
		return text == "" || text == "null" || text == "undefined"
	}
}

// accepts is accepts, for a schema that may refer to another part of the tool's.
func (n normaliser) accepts(s *jsonschema.Schema, value any) bool {
	target := n.target(s)
	return target == nil || accepts(target, value)
}

// kind returns the only type besides null that a schema allows, or "" if it allows
// several, or does not say.
func (n normaliser) kind(s *jsonschema.Schema) string {
	kind := ""
	for _, t := range n.types(s, maxReferences) {
		if t == "null" || t == kind {
			continue
		}
		if kind != "" {
			return ""
		}
		kind = t
	}
	return kind
}

// types returns the types that a schema allows, by itself or by its alternatives.
// It returns nil if the schema does not name them all.
func (n normaliser) types(s *jsonschema.Schema, depth int) []string {
	s = n.target(s)
	switch {
	case s == nil || depth == 0:
		return nil
	case s.Type != "":
		return []string{s.Type}
	case len(s.Types) > 0:
		return s.Types
	}
	alternatives := s.AnyOf
	if len(alternatives) == 0 {
		alternatives = s.OneOf
	}
	var all []string
	for _, a := range alternatives {
		types := n.types(a, depth-1)
		if types == nil {
			return nil
		}
		all = append(all, types...)
	}
	return all
}

// maxReferences bounds a chain of references, which may be circular.
const maxReferences = 8

// target follows references to the definitions of the tool's schema. It returns nil
// for another reference.
func (n normaliser) target(s *jsonschema.Schema) *jsonschema.Schema {
	for range maxReferences {
		if s == nil || s.Ref == "" {
			return s
		}
		if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
			s = n.root.Defs[name]
		} else if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
			s = n.root.Definitions[name]
		} else {
			return nil
		}
	}
	return nil
}

// maxExact is the largest integer up to which a program with double-precision
// numbers only, such as one in JavaScript, keeps all digits.
const maxExact = 1<<53 - 1

// isNumber reports whether a text is a number as JSON writes it, and not too large.
func isNumber(text string) bool {
	if text == "" || text[0] != '-' && (text[0] < '0' || text[0] > '9') || !json.Valid([]byte(text)) {
		return false
	}
	_, err := strconv.ParseFloat(text, 64)
	return err == nil
}

// wholeNumber returns the digits of a number without a fraction, such as 3.0 or
// 2e3. It reports whether the number is one.
func wholeNumber(number string) (string, bool) {
	if strings.ContainsAny(number, "eE") {
		f, err := strconv.ParseFloat(number, 64)
		if err != nil || math.Abs(f) > maxExact || f != math.Trunc(f) {
			return "", false
		}
		return strconv.FormatInt(int64(f), 10), true
	}
	digits, fraction, _ := strings.Cut(number, ".")
	if strings.Trim(fraction, "0") != "" {
		return "", false
	}
	if digits == "-0" {
		digits = "0"
	}
	return digits, true
}

// plainNumber reports whether the digits of a number are those that the model
// wrote, for an argument that is a text. A number with an exponent was written by a
// program, and a program may have changed the last digits of a long one.
func plainNumber(number string) bool {
	const maxLength = 17 // the digits of maxExact, and a sign or a point
	f, err := strconv.ParseFloat(number, 64)
	return err == nil && math.Abs(f) <= maxExact && len(number) <= maxLength && !strings.ContainsAny(number, "eE")
}
