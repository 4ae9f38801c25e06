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
	members map[string]*Fields
}

// NewFields returns the set of the members at the given paths. A path consists of the names from
// the document's root, joined by dots.
func NewFields(paths ...string) *Fields {
	root := &Fields{members: map[string]*Fields{}}
	for _, path := range paths {
		f := root
		for name := range strings.SplitSeq(path, ".") {
			if f.members == nil {
				f.members = map[string]*Fields{}
			}
			if f.members[name] == nil {
				f.members[name] = &Fields{path: strings.TrimPrefix(f.path+"."+name, ".")}
			}
			f = f.members[name]
		}
	}
	return root
}

// Read returns the raw values of the members in f, by path. The values share data's memory. The
// result also holds the objects that enclose these members.
//
// The last of several members with the same name counts, and replaces everything read from the
// earlier ones, as in encoding/json. Names match by exact case.
//
// Read returns an error if data is not exactly one JSON object. The error quotes nothing of data.
func (f *Fields) Read(data []byte) (map[string][]byte, error) {
	c := cursor{data: data}
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
	return c.members(member)
}

// Object is like [Members], for data that need not be valid JSON. It returns an error if data is not
// exactly one JSON object. It may have called member before.
func Object(data []byte, member func(name, value []byte) error) error {
	c := cursor{data: data}
	if c.next() != '{' {
		return c.fail("an object")
	}
	if err := c.members(member); err != nil {
		return err
	}
	return c.end()
}

// members consumes an object. It calls member with each unescaped name and each raw value.
func (c *cursor) members(member func(name, value []byte) error) error {
	return c.object(func(name []byte) error {
		c.next()
		start := c.pos
		if err := c.skip(); err != nil {
			return err
		}
		return member(name, c.data[start:c.pos])
	})
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

// Unescape decodes the JSON string in data in its own memory, and returns the text. It writes over data.
// Only invalid UTF-8 makes a text longer, because it becomes U+FFFD, as in encoding/json. Such a text gets
// memory of its own. Unescape returns nil if data is not a JSON string. The caller must pass valid JSON.
func Unescape(data []byte) []byte {
	if len(data) < 2 || data[0] != '"' {
		return nil
	}
	text := data[1 : len(data)-1]
	if !utf8.Valid(text) {
		return []byte(String(data))
	}
	to := bytes.IndexByte(text, '\\')
	if to < 0 {
		return text
	}
	for from := to; from < len(text); {
		from, to = movePlain(text, from, to)
		if from == len(text) {
			break
		}
		escape := text[from+1]
		from += 2
		switch escape {
		case 'b':
			escape = '\b'
		case 'f':
			escape = '\f'
		case 'n':
			escape = '\n'
		case 'r':
			escape = '\r'
		case 't':
			escape = '\t'
		case 'u':
			r := hexRune(text[from:])
			from += 4
			if utf16.IsSurrogate(r) {
				if bytes.HasPrefix(text[from:], []byte(`\u`)) {
					r = utf16.DecodeRune(r, hexRune(text[from+2:]))
				} else {
					r = utf8.RuneError
				}
				if r != utf8.RuneError {
					from += len(`\u0000`)
				}
			}
			to += utf8.EncodeRune(text[to:], r)
			continue
		}
		text[to] = escape
		to++
	}
	return text[:to]
}

// movePlain moves the bytes before the next backslash to a place that is not after them, and returns where
// they ended and end now. Half of a webhook may be quotes with a backslash, so it moves few bytes at a time.
func movePlain(text []byte, from, to int) (int, int) {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; len(text)-from >= 8; from, to = from+8, to+8 {
		w := binary.LittleEndian.Uint64(text[from:])
		if backslash := w ^ ones*'\\'; (backslash-ones)&^backslash&tops != 0 {
			break
		}
		binary.LittleEndian.PutUint64(text[to:], w)
	}
	for from < len(text) && text[from] != '\\' {
		text[to] = text[from]
		from, to = from+1, to+1
	}
	return from, to
}

// hexRune decodes the first four hexadecimal digits of text.
func hexRune(text []byte) rune {
	var b [2]byte
	_, _ = hex.Decode(b[:], text[:4]) // the JSON is valid
	return rune(binary.BigEndian.Uint16(b[:]))
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
}

func (c *cursor) fail(expected string) error {
	if c.pos >= len(c.data) {
		return fmt.Errorf("unexpected end at byte %d: want %s", c.pos, expected)
	}
	return fmt.Errorf("unexpected character at byte %d: want %s", c.pos, expected)
}

// next skips white space and returns the following byte without consuming it. At the end it returns
// 0, which starts nothing in JSON.
func (c *cursor) next() byte {
	for ; c.pos < len(c.data); c.pos++ {
		switch b := c.data[c.pos]; b {
		case ' ', '\n', '\t', '\r':
		default:
			return b
		}
	}
	return 0
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
			if m := f.members[string(key)]; m != nil {
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

// skip consumes a value of any type.
func (c *cursor) skip() error {
	switch c.next() {
	case '{':
		return c.object(nil)
	case '[':
		return c.array(nil)
	case '"':
		_, err := c.str()
		return err
	case 't':
		return c.literal("true")
	case 'f':
		return c.literal("false")
	case 'n':
		return c.literal("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return c.number()
	}
	return c.fail("a value")
}

// object consumes an object. It calls member with each unescaped name; member must consume the
// value. If member is nil, object skips all values.
func (c *cursor) object(member func(key []byte) error) error {
	if empty, err := c.open('}'); empty || err != nil {
		return err
	}
	for {
		if c.next() != '"' {
			return c.fail("a member name")
		}
		key, err := c.str()
		if err != nil {
			return err
		}
		if c.next() != ':' {
			return c.fail("a colon")
		}
		c.pos++
		if member == nil {
			err = c.skip()
		} else if bytes.IndexByte(key, '\\') < 0 && utf8.Valid(key) {
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

// array consumes an array. It calls item for each item; item must consume the value. If item is
// nil, array skips all items.
func (c *cursor) array(item func() error) error {
	if item == nil {
		item = c.skip
	}
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
		return false, c.fail(fmt.Sprintf("at most %d levels of nesting", MaxDepth))
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

// plainBytes counts the bytes at the start of data that stand for themselves in a string: all
// except quotes, backslashes and control characters. Invalid UTF-8 counts as plain, as in
// encoding/json.
//
// Nearly all of a webhook is in strings, so plainBytes checks eight bytes at a time. (w - ones*n)
// &^ w sets the top bit of each byte below n. A borrow can set the top bits of later bytes too, but
// only the first one matters.
func plainBytes(data []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(data)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(data[i:])
		quote, backslash := w^ones*'"', w^ones*'\\'
		special := ((w-ones*' ')&^w | (quote-ones)&^quote | (backslash-ones)&^backslash) & tops
		if special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	for i < len(data) && data[i] >= ' ' && data[i] != '"' && data[i] != '\\' {
		i++
	}
	return i
}

// str consumes a string and returns it with its quotes and escapes.
func (c *cursor) str() ([]byte, error) {
	start := c.pos
	c.pos++
	for {
		c.pos += plainBytes(c.data[c.pos:])
		if c.accept('"') {
			return c.data[start:c.pos], nil
		}
		if !c.accept('\\') {
			return nil, c.fail("the rest of a string (control characters must be escaped)")
		}
		if err := c.escape(); err != nil {
			return nil, err
		}
	}
}

// escape consumes what follows a backslash.
func (c *cursor) escape() error {
	after := c.data[c.pos:]
	if len(after) == 0 {
		return c.fail("an escape")
	}
	switch after[0] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		c.pos++
		return nil
	case 'u':
		if len(after) >= 5 {
			if _, err := hex.Decode(make([]byte, 2), after[1:5]); err == nil {
				c.pos += 5
				return nil
			}
		}
	}
	return c.fail("an escape")
}

// number consumes a number. It stops after a leading zero, so a digit that follows is an error of
// the caller's.
func (c *cursor) number() error {
	c.accept('-')
	if !c.accept('0') && !c.digits() {
		return c.fail("a digit")
	}
	if c.accept('.') && !c.digits() {
		return c.fail("a digit")
	}
	if c.accept('e') || c.accept('E') {
		if !c.accept('+') {
			c.accept('-')
		}
		if !c.digits() {
			return c.fail("a digit")
		}
	}
	return nil
}

func (c *cursor) digits() bool {
	start := c.pos
	for c.pos < len(c.data) && '0' <= c.data[c.pos] && c.data[c.pos] <= '9' {
		c.pos++
	}
	return c.pos > start
}

// accept consumes the next byte if it is b.
func (c *cursor) accept(b byte) bool {
	if c.pos == len(c.data) || c.data[c.pos] != b {
		return false
	}
	c.pos++
	return true
}

func (c *cursor) literal(word string) error {
	if !bytes.HasPrefix(c.data[c.pos:], []byte(word)) {
		return c.fail(word)
	}
	c.pos += len(word)
	return nil
}
