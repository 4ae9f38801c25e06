package asynctool

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxAsked bounds the arguments that a result names, in characters of JSON.
	maxAsked = 200
	// maxAskedText bounds each text in them, in characters.
	maxAskedText = 80
)

// Asked returns the model's own arguments of a tool call, as JSON of at most 200
// characters. What is cut ends in "…". It omits static parameters, arguments that
// the schema does not name, those that Encrypted names a part of, and texts that Vapi
// encrypted. It returns "" if there are none, if the arguments are not a JSON object, or if the tool hides them.
func (e *Entry) Asked(arguments json.RawMessage) string {
	if e.HideArguments {
		return ""
	}
	_, once, err := e.decode(arguments)
	if err != nil {
		return ""
	}
	var object map[string]any
	d := json.NewDecoder(bytes.NewReader(once))
	d.UseNumber()
	if d.Decode(&object) != nil {
		return ""
	}
	for name := range object {
		_, static := e.Static[name]
		if e.Schema.Properties[name] == nil || static {
			delete(object, name)
		}
	}
	// They may have arrived as plain text. An object with such a part may have it in
	// another place.
	for _, path := range e.Encrypted {
		name, _, _ := strings.Cut(path, ".")
		delete(object, name)
	}
	if readable(object); len(object) == 0 {
		return ""
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(object) != nil {
		return ""
	}
	return cut(strings.TrimSpace(text.String()), maxAsked)
}

// readable removes encrypted texts from a value, and cuts long ones. It reports
// false if the value itself is an encrypted text.
func readable(value any) (any, bool) {
	switch v := value.(type) {
	case string:
		return cut(v, maxAskedText), !encrypted(v)
	case map[string]any:
		for name := range v {
			var ok bool
			if v[name], ok = readable(v[name]); !ok {
				delete(v, name)
			}
		}
	case []any:
		kept := slices.DeleteFunc(v, func(item any) bool {
			_, ok := readable(item)
			return !ok
		})
		for i := range kept {
			kept[i], _ = readable(kept[i])
		}
		return kept, true
	}
	return value, true
}

// encrypted reports whether a text looks like an argument that Vapi encrypted
// (server.encryptedPaths): RSA-OAEP in base64, for keys of 2048 to 4096 bits.
func encrypted(text string) bool {
	cipher, err := base64.StdEncoding.DecodeString(text)
	return err == nil && slices.Contains([]int{256, 384, 512}, len(cipher))
}

// cut cuts a text to at most so many characters.
func cut(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}
