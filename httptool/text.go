package httptool

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// placeholder matches a {name}.
var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// textTemplate is a text with {fields} of an answer.
type textTemplate struct {
	text   string
	fields []string
}

func parseText(text string) (*textTemplate, error) {
	t := &textTemplate{text: text}
	for _, match := range placeholder.FindAllStringSubmatch(text, -1) {
		if err := checkField(match[1]); err != nil {
			return nil, fmt.Errorf("the text has {%s}, which %w", match[1], err)
		}
		t.fields = append(t.fields, match[1])
	}
	if strings.ContainsAny(placeholder.ReplaceAllString(text, ""), "{}") {
		return nil, errors.New("the text has a brace without its counterpart; write fields as {name}")
	}
	return t, nil
}

// of returns the text with the fields of an answer. Each of them must have a value.
func (t *textTemplate) of(answer []byte) (string, error) {
	var err error
	text := placeholder.ReplaceAllStringFunc(t.text, func(name string) string {
		value, missing := field(answer, name[1:len(name)-1])
		if value = clean(value); missing == nil && value == "" {
			missing = fmt.Errorf("%s: its field %s is empty", malformed, name[1:len(name)-1])
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
