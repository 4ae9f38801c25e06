package page

import (
	"bytes"
	"encoding/json"
	"regexp"
	"unicode"
)

// number matches what may be a telephone number, and times, which are none and may look like one.
var number = regexp.MustCompile(
	`\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?(?:Z|\b)` +
		`|\+?\(?\p{Nd}(?:[\s\p{Z}\p{Pd}\p{Cf}()./+]{0,4}\p{Nd}){6,}`)

// isTime matches the first alternative of number.
var isTime = regexp.MustCompile(`^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?Z?$`)

// mask is what stands for a number, before its last two digits.
const mask = "•••••"

// masked returns a text in which numbers of seven digits and more are masked, except their last two digits.
func masked(text string) string {
	return number.ReplaceAllStringFunc(text, func(found string) string {
		if isTime.MatchString(found) {
			return found
		}
		var digits []rune
		for _, c := range found {
			if unicode.IsDigit(c) {
				digits = append(digits, c)
			}
		}
		return mask + string(digits[len(digits)-2:])
	})
}

// indented returns JSON as people read it. Each character of a text is itself, and no escape.
func indented(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var value any
	if d.Decode(&value) != nil {
		return string(raw)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if e.Encode(value) != nil {
		return string(raw)
	}
	return string(bytes.TrimSpace(out.Bytes()))
}
