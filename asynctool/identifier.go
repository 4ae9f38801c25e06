package asynctool

import "strings"

// maxIdentifier bounds an identifier, in bytes.
const maxIdentifier = 64

// Identifier returns an identifier that a caller has said, such as an order number, without
// the white space around it. It reports whether the text can be a segment of a URL's path,
// or a part of one, without escaping: 1 to 64 letters and digits of ASCII, and -, _ and .
// between them, but no two dots in a row.
//
// Do not escape other texts instead. A proxy may decode %2F and %2e before it reads the
// path, so that an escaped ../admin leads out of the folder.
func Identifier(text string) (id string, ok bool) {
	id = strings.TrimSpace(text)
	if id == "" || len(id) > maxIdentifier || strings.Contains(id, "..") ||
		!isAlphanumeric(id[0]) || !isAlphanumeric(id[len(id)-1]) {
		return "", false
	}
	for i := range len(id) {
		if !isAlphanumeric(id[i]) && !strings.ContainsRune("-_.", rune(id[i])) {
			return "", false
		}
	}
	return id, true
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
