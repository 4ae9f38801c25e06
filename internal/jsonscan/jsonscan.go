// Package jsonscan reads a few members of a large JSON document in one pass.
//
// A Vapi webhook repeats the whole transcript and grows past a megabyte, and the caller waits while
// it is read. encoding/json reads every byte twice and needs seven times the CPU of this package
// for a webhook of 1 MB. encoding/json/jsontext needed one and a half times its CPU and missed the
// performance limits.
//
// The package accepts exactly the documents that encoding/json accepts. A fuzz test compares the
// two.
package jsonscan

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is the deepest nesting of objects and arrays that encoding/json accepts.
const MaxDepth = 10000

// Fields is a set of members to read from a document. Build one with [NewFields]. It is safe for
// concurrent use.
type Fields struct {
	path    string // names joined by dots; "" is the document itself
	name    string // the last part of the path
	members []*Fields
}

// NewFields returns the set of the members at the given paths. A path consists of the names from
// the document's root, joined by dots.
func NewFields(paths ...string) *Fields {
	root := &Fields{}
	for _, path := range paths {
		f, end := root, -1
		for name := range strings.SplitSeq(path, ".") {
			end += len(".") + len(name)
			m := f.member([]byte(name))
			if m == nil {
				m = &Fields{path: path[:end], name: name}
				f.members = append(f.members, m)
			}
			f = m
		}
	}
	return root
}

// member returns the member of f with a name, or nil. A search of so few takes no longer than one by a hash, and a
// slice is made faster.
func (f *Fields) member(name []byte) *Fields {
	for _, m := range f.members {
		if m.name == string(name) {
			return m
		}
	}
	return nil
}

// Read returns the raw values of the members in f, by path. The values share data's memory. The
// result also holds the objects that enclose these members.
//
// The last of several members with the same name counts, and replaces everything read from the
// earlier ones, as in encoding/json. Names match by exact case.
//
// Read returns an error if data is not exactly one JSON object. The error quotes nothing of data.
func (f *Fields) Read(data []byte) (map[string][]byte, error) {
	return f.ReadDocument(Document{Text: data})
}

// ReadDocument is Read for a document. It does not check again what [Object] has checked.
func (f *Fields) ReadDocument(d Document) (map[string][]byte, error) {
	c := cursor{data: d.Text, long: d.long}
	if c.next() != '{' {
		return nil, c.fail("an object")
	}
	values := map[string][]byte{}
	if err := c.keep(f, values); err != nil {
		return nil, err
	}
	return values, c.end()
}

// forget removes f and its members from values.
func (f *Fields) forget(values map[string][]byte) {
	delete(values, f.path)
	for _, m := range f.members {
		m.forget(values)
	}
}

// Valid reports whether data is exactly one JSON value, nested at most maxDepth levels deep.
func Valid(data []byte, maxDepth int) bool {
	c := cursor{data: data, depth: MaxDepth - maxDepth}
	return c.skip() == nil && c.end() == nil
}

// Items returns the raw items of the JSON array in data, at most the first limit items. It returns
// nil if data is not an array. The caller must pass valid JSON, such as a value from [Fields.Read].
func Items(data []byte, limit int) [][]byte {
	c := cursor{data: data}
	if c.next() != '[' {
		return nil
	}
	var items [][]byte
	_ = c.array(func() error {
		c.next()
		start := c.pos
		err := c.skip()
		if len(items) < limit {
			items = append(items, data[start:c.pos])
		}
		return err
	})
	return items
}

// Members calls member with each unescaped name and each raw value of the JSON object in data. It returns
// member's error. It does nothing if data is not an object. The caller must pass valid JSON.
func Members(data []byte, member func(name, value []byte) error) error {
	c := cursor{data: data}
	if c.next() != '{' {
		return nil
	}
	return c.object(func(name []byte) error {
		c.next()
		start := c.pos
		if err := c.skip(); err != nil {
			return err
		}
		return member(name, data[start:c.pos])
	})
}

// Object calls member with each unescaped name and each value of the JSON object in data, and returns
// member's error. It returns an error if data is not exactly one JSON object. It may have called member before.
//
// Object writes over data. A value and its text are in data's memory, except a text with invalid UTF-8.
func Object(data []byte, member func(name []byte, value Value) error) error {
	c := cursor{data: data}
	if c.next() != '{' {
		return c.fail("an object")
	}
	err := c.object(func(name []byte) error {
		first := c.next()
		start := c.pos
		if first == '"' {
			text, err := c.decode()
			if err != nil {
				return err
			}
			return member(name, Value{first, text})
		}
		if err := c.skip(); err != nil {
			return err
		}
		return member(name, Value{first, Document{Text: data[start:c.pos]}})
	})
	if err != nil {
		return err
	}
	return c.end()
}

// String decodes the JSON string in data. It returns "" if data is not a JSON string.
func String(data []byte) string {
	if len(data) == 0 {
		return ""
	}
	if text, plain := plainString(data); plain {
		return text
	}
	var s string
	if json.Unmarshal(data, &s) != nil {
		return ""
	}
	return s
}

// plainString decodes a JSON string that stands for itself, as most do. It returns false for any other
// value.
func plainString(data []byte) (string, bool) {
	last := len(data) - 1
	if last < 1 || data[0] != '"' || data[last] != '"' {
		return "", false
	}
	for _, b := range data[1:last] {
		if b < ' ' || b == '"' || b == '\\' || b >= utf8.RuneSelf {
			return "", false
		}
	}
	return string(data[1:last]), true
}

// Canonical returns a form of the JSON value in data that equal values share: without white space, the
// members of objects sorted by name, and strings with the same escapes. Of members with the same name
// the last one counts. A number keeps its spelling, so 1 and 1.0 differ. Canonical returns data itself if
// that is not valid JSON.
func Canonical(data []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil || decoder.InputOffset() < int64(len(bytes.TrimRight(data, " \t\r\n"))) {
		return data
	}
	canonical, err := json.Marshal(value)
	if err != nil {
		return data
	}
	return canonical
}

// cursor reads a JSON document once, from start to end. Its methods skip white space and then
// consume one value. They return an error if no such value follows.
type cursor struct {
	data  []byte
	pos   int
	depth int
	long  []extent // values that are known to be valid, from pos on
}

// What a document lacks.
const (
	value      = "a value"
	memberName = "a member name"
	colon      = "a colon"
	depth      = "at most 10000 levels of nesting"
	stringRest = "the rest of a string (control characters must be escaped)"
)

func (c *cursor) fail(expected string) error { return c.failAt(c.pos, expected) }

func (c *cursor) failAt(pos int, expected string) error {
	if pos >= len(c.data) {
		return fmt.Errorf("unexpected end at byte %d: want %s", pos, expected)
	}
	return fmt.Errorf("unexpected character at byte %d: want %s", pos, expected)
}

// next skips white space and returns the following byte without consuming it. At the end it returns
// 0, which starts nothing in JSON.
func (c *cursor) next() byte {
	if c.pos = afterSpace(c.data, c.pos); c.pos == len(c.data) {
		return 0
	}
	return c.data[c.pos]
}

func (c *cursor) end() error {
	if c.next(); c.pos < len(c.data) {
		return c.fail("the end")
	}
	return nil
}

// keep consumes a value and stores f and its members in values.
func (c *cursor) keep(f *Fields, values map[string][]byte) error {
	if _, repeated := values[f.path]; repeated {
		f.forget(values)
	}
	var err error
	first := c.next()
	start := c.pos
	if first == '{' && f.members != nil {
		err = c.object(func(key []byte) error {
			if m := f.member(key); m != nil {
				return c.keep(m, values)
			}
			return c.skip()
		})
	} else {
		err = c.skip()
	}
	values[f.path] = c.data[start:c.pos]
	return err
}

// skip consumes a value of any type. Nearly all of a webhook is skipped, so skip keeps its position in a variable of
// its own, and does not call itself for nested values.
func (c *cursor) skip() error {
	if c.next(); c.known() {
		return nil
	}
	var few [32]byte
	closings := few[:0] // of the objects and arrays that are open
	data, pos := c.data, c.pos
	for {
		if len(closings) > 0 && closings[len(closings)-1] == '}' {
			if pos = afterSpace(data, pos); pos == len(data) || data[pos] != '"' {
				return c.failAt(pos, memberName)
			}
			var ends bool
			if pos, ends = stringEnd(data, pos); !ends {
				return c.failAt(pos, stringRest)
			}
			if pos = afterSpace(data, pos); pos == len(data) || data[pos] != ':' {
				return c.failAt(pos, colon)
			}
			pos++
		}
		if pos = afterSpace(data, pos); pos == len(data) {
			return c.failAt(pos, value)
		}
		switch first := data[pos]; first {
		case '"':
			var ends bool
			if pos, ends = stringEnd(data, pos); !ends {
				return c.failAt(pos, stringRest)
			}
		case '{', '[':
			if c.depth+len(closings) >= MaxDepth {
				return c.failAt(pos, depth)
			}
			closing := closingOf(first)
			closings = append(closings, closing)
			if pos = afterSpace(data, pos+1); pos == len(data) || data[pos] != closing {
				continue
			}
		default:
			c.pos = pos
			if err := c.scalar(first); err != nil {
				return err
			}
			pos = c.pos
		}
		for {
			if len(closings) == 0 {
				c.pos = pos
				return nil
			}
			closing := closings[len(closings)-1]
			if pos = afterSpace(data, pos); pos == len(data) || data[pos] != ',' && data[pos] != closing {
				return c.failAt(pos, fmt.Sprintf("a comma or %q", closing))
			}
			pos++
			if data[pos-1] == ',' {
				break
			}
			closings = closings[:len(closings)-1]
		}
	}
}

// known consumes a value that is known to be valid.
func (c *cursor) known() bool {
	for len(c.long) > 0 && c.long[0].start < c.pos {
		c.long = c.long[1:]
	}
	if len(c.long) == 0 || c.long[0].start > c.pos {
		return false
	}
	c.pos = c.long[0].end
	return true
}

// closingOf returns the end of an object or array that begins with a byte.
func closingOf(opening byte) byte { return opening + ('}' - '{') } // in ASCII, it is as far from [ to ]

// afterSpace returns the position of the first byte from pos on that is not white space.
func afterSpace(data []byte, pos int) int {
	for pos < len(data) && (data[pos] == ' ' || data[pos] == '\n' || data[pos] == '\t' || data[pos] == '\r') {
		pos++
	}
	return pos
}

// scalar consumes a value that begins with a byte and is neither a string nor an object nor an array.
func (c *cursor) scalar(first byte) error {
	switch first {
	case 't':
		return c.literal("true")
	case 'f':
		return c.literal("false")
	case 'n':
		return c.literal("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return c.number()
	}
	return c.fail(value)
}

// object consumes an object. It calls member with each unescaped name; member must consume the
// value.
func (c *cursor) object(member func(key []byte) error) error {
	if empty, err := c.open('}'); empty || err != nil {
		return err
	}
	for {
		if c.next() != '"' {
			return c.fail(memberName)
		}
		key, err := c.str()
		if err != nil {
			return err
		}
		if c.next() != ':' {
			return c.fail(colon)
		}
		c.pos++
		if bytes.IndexByte(key, '\\') < 0 && utf8.Valid(key) {
			err = member(key[1 : len(key)-1])
		} else {
			err = member([]byte(String(key)))
		}
		if err != nil {
			return err
		}
		if last, err := c.more('}'); last || err != nil {
			return err
		}
	}
}

// array consumes an array. It calls item for each item; item must consume it.
func (c *cursor) array(item func() error) error {
	if empty, err := c.open(']'); empty || err != nil {
		return err
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if last, err := c.more(']'); last || err != nil {
			return err
		}
	}
}

// open enters an object or array. If it is empty, open also passes its end.
func (c *cursor) open(closing byte) (empty bool, err error) {
	if c.depth++; c.depth > MaxDepth {
		return false, c.fail(depth)
	}
	c.pos++
	if c.next() != closing {
		return false, nil
	}
	return c.more(closing)
}

// more consumes what follows a member or item: a comma, or the closing bracket.
func (c *cursor) more(closing byte) (last bool, err error) {
	switch c.next() {
	case ',':
		c.pos++
		return false, nil
	case closing:
		c.pos++
		c.depth--
		return true, nil
	}
	return false, c.fail(fmt.Sprintf("a comma or %q", closing))
}

// ones and tops have the lowest and the highest bit of each of eight bytes.
const (
	ones = 0x0101010101010101
	tops = 0x8080808080808080
)

// specialBytes sets the top bit of each of eight bytes that does not stand for itself in a string: quotes,
// backslashes and control characters. Invalid UTF-8 stands for itself, as in encoding/json. (w - ones*n) &^ w sets the
// top bit of each byte below n. A borrow can set the top bits of later bytes too, so that only the first one counts.
// The calling loops compare positions in such a way that the compiler leaves out its own checks.
func specialBytes(w uint64) uint64 {
	// With this bit changed, a quote is the one byte below '!' that is not a control character.
	controls, backslash := w^ones*('"'^' '), w^ones*'\\'
	return ((controls - ones*'!') | (backslash - ones)) & (tops &^ w)
}

// escaped has the byte that a backslash and another byte stand for, except of \u. 0 means that there is no
// such escape.
var escaped = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// str consumes a string and returns it with its quotes and escapes.
func (c *cursor) str() ([]byte, error) {
	end, ends := stringEnd(c.data, c.pos)
	if !ends {
		return nil, c.failAt(end, stringRest)
	}
	text := c.data[c.pos:end]
	c.pos = end
	return text, nil
}

// stringEnd returns the position after the string that begins at pos. It returns false and the position of the error
// if the string is wrong or does not end. Nearly all of a webhook is in strings, so it checks eight bytes at a time.
func stringEnd(data []byte, pos int) (int, bool) {
	for pos++; ; {
		if 0 <= pos && pos <= len(data)-8 {
			special := specialBytes(binary.LittleEndian.Uint64(data[pos : pos+8]))
			if special == 0 {
				pos += 8
				continue
			}
			pos += bits.TrailingZeros64(special) / 8
		} else {
			for pos < len(data) && data[pos] >= ' ' && data[pos] != '"' && data[pos] != '\\' {
				pos++
			}
		}
		switch {
		case pos == len(data) || data[pos] < ' ':
			return pos, false
		case data[pos] == '"':
			return pos + 1, true
		case pos+1 < len(data) && escaped[data[pos+1]] != 0:
			pos += 2
		default:
			if _, ok := hexDigits(data[pos+1:]); !ok {
				return pos, false
			}
			pos += len(`\u0000`)
		}
	}
}

// decode consumes a string, and decodes it in its own memory. Only invalid UTF-8 makes a text longer, because it
// becomes U+FFFD, as in encoding/json. Such a text gets memory of its own.
func (c *cursor) decode() (text Document, err error) {
	data, start := c.data, c.pos+1
	from, to := start, start
	if is(data, from, '{') {
		text.long, from, to = c.document()
	}
	for {
		from, to = plain(data, from, to)
		if is(data, from, '"') {
			c.pos, text.Text = from+1, data[start:to]
			if !utf8.Valid(text.Text) {
				return Document{Text: validUTF8(text.Text)}, nil
			}
			return text, nil
		}
		r, length := rune(0), 0
		if is(data, from, '\\') {
			r, length = unescape(data[from:])
		}
		if length == 0 {
			return text, c.failAt(from, stringRest)
		}
		from, to = from+length, to+utf8.EncodeRune(data[to:], r)
	}
}

// plain moves the bytes that stand for themselves in a string. A tenth of a webhook in an event is backslashes, so it
// moves few bytes at a time.
func plain(data []byte, from, to int) (int, int) {
	for 0 <= to && to <= from && from <= len(data)-8 {
		w := binary.LittleEndian.Uint64(data[from : from+8])
		special := specialBytes(w)
		if special == 0 {
			binary.LittleEndian.PutUint64(data[to:to+8], w)
			from, to = from+8, to+8
			continue
		}
		n := bits.TrailingZeros64(special) / 8
		if from-to >= 8 { // what is written beyond n was read before
			binary.LittleEndian.PutUint64(data[to:to+8], w)
		} else {
			copy(data[to:], data[from:from+n])
		}
		return from + n, to + n
	}
	for from < len(data) && data[from] >= ' ' && data[from] != '"' && data[from] != '\\' {
		data[to] = data[from]
		from, to = from+1, to+1
	}
	return from, to
}

// unescape returns the character that an escape at the start of data stands for, and the length of the escape. The
// length is 0 if it is wrong.
func unescape(data []byte) (r rune, length int) {
	if len(data) < 2 {
		return 0, 0
	}
	if b := escaped[data[1]]; b != 0 {
		return rune(b), 2
	}
	r, ok := hexDigits(data[1:])
	if !ok {
		return 0, 0
	}
	length = len(`\u0000`)
	if utf16.IsSurrogate(r) {
		var low int
		r, low = surrogates(r, data[length:])
		length += low
	}
	return r, length
}

// hexDigits returns the number of an escape with hexadecimal digits. after is what follows its backslash.
func hexDigits(after []byte) (rune, bool) {
	if len(after) < 5 || after[0] != 'u' {
		return 0, false
	}
	var b [2]byte
	if _, err := hex.Decode(b[:], after[1:5]); err != nil {
		return 0, false
	}
	return rune(binary.BigEndian.Uint16(b[:])), true
}

// surrogates returns the character that begins with a surrogate, and the length of the escape of its second half.
// Without one, it returns U+FFFD and 0, as encoding/json does.
func surrogates(high rune, after []byte) (r rune, length int) {
	if len(after) > 0 && after[0] == '\\' {
		if low, ok := hexDigits(after[1:]); ok {
			r = utf16.DecodeRune(high, low)
			if r != utf8.RuneError {
				return r, len(`\u0000`)
			}
		}
	}
	return utf8.RuneError, 0
}

// validUTF8 returns a copy of text with U+FFFD in the place of each byte that is not UTF-8.
func validUTF8(text []byte) (valid []byte) {
	for _, r := range string(text) {
		valid = utf8.AppendRune(valid, r)
	}
	return valid
}

// number consumes a number. It stops after a leading zero, so a digit that follows is an error of
// the caller's.
func (c *cursor) number() error {
	data, pos := c.data, c.pos
	if data[pos] == '-' {
		pos++
	}
	after := pos + 1 // a zero
	if pos == len(data) || data[pos] != '0' {
		after = afterDigits(data, pos)
	}
	if after > pos && after < len(data) && data[after] == '.' {
		pos = after + 1
		after = afterDigits(data, pos)
	}
	if after > pos && after < len(data) && (data[after] == 'e' || data[after] == 'E') {
		pos = after + 1
		if pos < len(data) && (data[pos] == '+' || data[pos] == '-') {
			pos++
		}
		after = afterDigits(data, pos)
	}
	if c.pos = after; after == pos {
		return c.fail("a digit")
	}
	return nil
}

// afterDigits returns the position of the first byte from pos on that is not a digit.
func afterDigits(data []byte, pos int) int {
	for 0 <= pos && pos <= len(data)-8 {
		// The top bit of a byte that is not a digit is set, as in specialBytes.
		w := binary.LittleEndian.Uint64(data[pos:pos+8]) ^ ones*'0'
		if others := (w + ones*(0x80-10) | w) & tops; others != 0 {
			return pos + bits.TrailingZeros64(others)/8
		}
		pos += 8
	}
	for pos < len(data) && '0' <= data[pos] && data[pos] <= '9' {
		pos++
	}
	return pos
}

func (c *cursor) literal(word string) error {
	if !bytes.HasPrefix(c.data[c.pos:], []byte(word)) {
		return c.fail(word)
	}
	c.pos += len(word)
	return nil
}
