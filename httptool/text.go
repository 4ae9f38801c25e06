package httptool

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// cutName cuts a text around its first {name}. If it has none, before is the text.
func cutName(text string) (before, name, after string, found bool) {
	begin := -1
	for i := range len(text) {
		switch {
		case text[i] == '{':
			begin = i
		case text[i] == '}' && begin >= 0:
			return text[:begin], text[begin+1 : i], text[i+1:], true
		}
	}
	return text, "", "", false
}

// replaceNames returns a text with the result of value in place of each {name}.
func replaceNames(text string, value func(name string) string) string {
	var replaced strings.Builder
	for {
		before, name, after, found := cutName(text)
		replaced.WriteString(before)
		if !found {
			return replaced.String()
		}
		replaced.WriteString(value(name))
		text = after
	}
}

// namesIn returns each {name} of a text, without its braces.
func namesIn(text string) (names []string) {
	replaceNames(text, func(name string) string {
		names = append(names, name)
		return ""
	})
	return names
}

// textTemplate is a text with {fields} of an answer.
type textTemplate struct {
	text   string
	fields []string
}

func parseText(text string) (*textTemplate, error) {
	t := &textTemplate{text: text}
	rest := replaceNames(text, func(name string) string {
		t.fields = append(t.fields, name)
		return ""
	})
	for _, name := range t.fields {
		if err := checkField(name); err != nil {
			return nil, fmt.Errorf("the text has {%s}, which %w", name, err)
		}
	}
	if strings.ContainsAny(rest, "{}") {
		return nil, errors.New("the text has a brace without its counterpart; write fields as {name}")
	}
	return t, nil
}

// of returns the text with the fields of an answer. Each of them must have a value.
func (t *textTemplate) of(answer []byte) (string, error) {
	var err error
	text := replaceNames(t.text, func(name string) string {
		value, missing := field(answer, name)
		if value = clean(value); missing == nil && value == "" {
			missing = fmt.Errorf("%s: its field %s is empty", malformed, name)
		}
		err = errors.Join(err, missing)
		return value
	})
	return text, err
}

// clean returns a text of a service without what cannot be delivered.
func clean(text string) string { return strings.TrimSpace(strings.ToValidUTF8(text, "")) }

// checkField checks the path of a field.
func checkField(path string) error {
	if slices.Contains(strings.Split(path, "."), "") {
		return errors.New("must be a field's name, or names with dots between them")
	}
	return nil
}

// field returns a field of a JSON answer. The path consists of the names of fields and
// the positions in lists, counted from 0, with dots between them. It returns a text
// unchanged, and everything else as JSON.
func field(answer []byte, path string) (string, error) {
	value := json.RawMessage(answer)
	for part := range strings.SplitSeq(path, ".") {
		if value = member(value, part); value == nil {
			return "", fmt.Errorf("%s: it is not JSON with the field %s", malformed, path)
		}
	}
	var text *string
	switch err := json.Unmarshal(value, &text); {
	case err != nil:
		return string(value), nil
	case text == nil:
		return "", fmt.Errorf("%s: it has null in the field %s", malformed, path)
	default:
		return *text, nil
	}
}

// textIn returns a field of a JSON answer if it is a text, and an empty text otherwise.
func textIn(answer []byte, path string) string {
	value := json.RawMessage(answer)
	for part := range strings.SplitSeq(path, ".") {
		if value = member(value, part); value == nil {
			return ""
		}
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return ""
	}
	return clean(text)
}

// member returns the field of an object, or the item of a list. It returns nil if there
// is none.
func member(value json.RawMessage, part string) json.RawMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(value, &object) == nil {
		return object[part]
	}
	var list []json.RawMessage
	position, err := strconv.ParseUint(part, 10, 31)
	if err != nil || json.Unmarshal(value, &list) != nil || position >= uint64(len(list)) {
		return nil
	}
	return list[position]
}
