package jsonscan

import "unicode/utf8"

// A Document is a JSON document that may have been checked when it was decoded. Only its Text must be set.
type Document struct {
	Text []byte
	// long has the objects, arrays and strings of minLong bytes and more, by their start. If there are any, Text is one
	// valid JSON value.
	long []extent
}

// An extent is where a value begins and ends in its document.
type extent struct{ start, end int }

// minLong is the length in bytes from which on the end of a value is found faster in a list than by reading it. A
// webhook of 1 MB can have a thousand values of 256 bytes, which no reader looks for, and a few of 1024.
const minLong = 1024

// A Value is a value that [Object] has read.
type Value struct {
	// First is the first byte of the value's JSON. It shows the type.
	First byte
	// Document is the JSON of the value. That of a string is the decoded text, whatever it is.
	Document
}

// document decodes a string that contains a JSON document, for decode. It returns the long values of the document, and
// the positions that it has read and written up to. It stops before the string's end, without values, where the
// document is not valid.
//
// A webhook in an event is such a string. Since its quotation marks are escaped, they are found when it is decoded, and
// another pass over the document would have to find them again.
func (c *cursor) document() (long []extent, from, to int) {
	data, start := c.data, c.pos+1
	from, to = start, start
	// The innermost object or array that is open is long[open]. Until its end is known, its end is the index of the
	// one around it.
	open, levels := -1, 0
	var closing byte // of the innermost
	var ok bool
	for {
		if closing == '}' {
			if from, to, ok = innerString(data, from, to); !ok {
				return nil, from, to
			}
			if !is(data, from, ':') {
				if from, to = innerSpace(data, from, to); !is(data, from, ':') {
					return nil, from, to
				}
			}
			data[to] = ':'
			from, to = from+1, to+1
		}
		if !isQuote(data, from) {
			if from, to = innerSpace(data, from, to); from == len(data) {
				return nil, from, to
			}
		}
		switch first := data[from]; first {
		case '\\':
			begin := to
			if from, to, ok = innerString(data, from, to); !ok {
				return nil, from, to
			}
			if to-begin >= minLong {
				long = append(long, extent{begin - start, to - start})
			}
		case '{', '[':
			if levels++; levels > MaxDepth {
				return nil, from, to
			}
			open, long = len(long), append(long, extent{start: to - start, end: open})
			closing = closingOf(first)
			data[to] = first
			if from, to = from+1, to+1; !isQuote(data, from) {
				from, to = innerSpace(data, from, to)
			}
			if !is(data, from, closing) {
				continue
			}
		default:
			c.pos = from
			if c.scalar(first) != nil {
				return nil, from, to
			}
			to += copy(data[to:], data[from:c.pos])
			from = c.pos
		}
		for {
			if !is(data, from, ',') && !is(data, from, closing) {
				if from, to = innerSpace(data, from, to); !is(data, from, ',') && !is(data, from, closing) {
					return nil, from, to
				}
			}
			data[to] = data[from]
			from, to = from+1, to+1
			if data[to-1] == ',' {
				break
			}
			value := &long[open]
			around := value.end
			if value.end = to - start; value.end-value.start < minLong {
				long = long[:open] // nothing in it is longer
			}
			if open, levels = around, levels-1; levels == 0 {
				if from, to = innerSpace(data, from, to); !is(data, from, '"') {
					long = nil
				}
				return long, from, to
			}
			closing = closingOf(data[start+long[open].start])
		}
	}
}

// innerSpace decodes white space of a document in a string.
func innerSpace(data []byte, from, to int) (int, int) {
	for from+1 < len(data) && (data[from] == ' ' || data[from] == '\\' && data[from+1] != '"') {
		space, length := rune(' '), 1
		if data[from] == '\\' {
			space, length = unescape(data[from:])
		}
		if space != ' ' && space != '\n' && space != '\t' && space != '\r' {
			break
		}
		data[to] = byte(space)
		from, to = from+length, to+1
	}
	return from, to
}

// is reports whether a byte of data follows. It saves the calls for white space that most documents do not have.
func is(data []byte, pos int, b byte) bool { return pos < len(data) && data[pos] == b }

// isQuote reports whether an escaped quotation mark follows, which begins or ends a string of a document in a string.
func isQuote(data []byte, pos int) bool { return is(data, pos, '\\') && is(data, pos+1, '"') }

// innerString decodes a string of a document in a string. It returns false, and how far it came, if there is none.
func innerString(data []byte, from, to int) (int, int, bool) {
	if !isQuote(data, from) {
		if from, to = innerSpace(data, from, to); !isQuote(data, from) {
			return from, to, false
		}
	}
	data[to] = '"'
	for from, to = from+2, to+1; ; {
		if from, to = plain(data, from, to); from == len(data) || data[from] != '\\' {
			return from, to, false
		}
		if is(data, from+1, '"') {
			data[to] = '"'
			return from + 2, to + 1, true
		}
		r, length := unescape(data[from:])
		if length == 0 || r < ' ' {
			return from, to, false
		}
		if r == '\\' {
			escape, rest := innerEscape(data[from+length:])
			if rest == 0 {
				return from, to, false
			}
			data[to], data[to+1] = '\\', escape
			from, to = from+length+rest, to+2
			continue
		}
		from, to = from+length, to+utf8.EncodeRune(data[to:], r)
		if r == '"' {
			return from, to, true
		}
	}
}

// innerEscape returns what follows a backslash of a document in a string, and its length there. The length is 0 if both
// are no escape.
func innerEscape(after []byte) (b byte, length int) {
	if len(after) < 2 {
		return 0, 0
	}
	switch b := after[0]; b {
	case '\\':
		if b := after[1]; b == '"' || b == '\\' || b == '/' {
			return b, 2
		}
	case 'u':
		if _, ok := hexDigits(after); ok {
			return b, 1
		}
	case '"':
	default:
		if escaped[b] != 0 {
			return b, 1
		}
	}
	return 0, 0
}
