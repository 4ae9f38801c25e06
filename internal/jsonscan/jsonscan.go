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
// A value is raw, except a string, which is decoded: the value is a quotation mark and the text. The text is in
// data's memory, over the string, unless it has invalid UTF-8.
func Object(data []byte, member func(name, value []byte) error) error {
	c := cursor{data: data}
	if c.next() != '{' {
		return c.fail("an object")
	}
	err := c.object(func(name []byte) error {
		if c.next() == '"' {
			value, err := c.decode()
			if err != nil {
				return err
			}
			return member(name, value)
		}
		start := c.pos
		if err := c.skip(); err != nil {
			return err
		}
		return member(name, data[start:c.pos])
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
	if empty, err := c.open(']'); empty || err != nil {
		return err
	}
	for {
		var err error
		if item == nil {
			err = c.skip()
		} else {
			err = item()
		}
		if err != nil {
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
// encoding/json. Nearly all of a webhook is in strings, so plainBytes checks eight bytes at a time.
func plainBytes(data []byte) int {
	i := 0
	for ; len(data)-i >= 8; i += 8 {
		if special := specialBytes(binary.LittleEndian.Uint64(data[i:])); special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	for i < len(data) && data[i] >= ' ' && data[i] != '"' && data[i] != '\\' {
		i++
	}
	return i
}

// specialBytes sets the top bit of each of eight bytes that does not stand for itself in a string. (w - ones*n)
// &^ w sets the top bit of each byte below n. A borrow can set the top bits of later bytes too, so that only the
// first one counts.
func specialBytes(w uint64) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, backslash := w^ones*'"', w^ones*'\\'
	return ((w-ones*' ')&^w | (quote-ones)&^quote | (backslash-ones)&^backslash) & tops
}

// escaped has the byte that a backslash and another byte stand for, except of \u. 0 means that there is no
// such escape.
var escaped = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// str consumes a string and returns it with its quotes and escapes.
func (c *cursor) str() ([]byte, error) {
	start := c.pos
	c.pos++
	for {
		c.pos += plainBytes(c.data[c.pos:])
		after := c.data[c.pos:]
		switch {
		case len(after) > 0 && after[0] == '"':
			c.pos++
			return c.data[start:c.pos], nil
		case len(after) == 0 || after[0] != '\\':
			return nil, c.fail("the rest of a string (control characters must be escaped)")
		case len(after) > 1 && escaped[after[1]] != 0:
			c.pos += 2
		default:
			c.pos++
			if _, err := c.hex(); err != nil {
				return nil, err
			}
		}
	}
}

// decode consumes a string, and decodes it in its own memory. It returns a quotation mark and the text. Only
// invalid UTF-8 makes a text longer, because it becomes U+FFFD, as in encoding/json. Such a text gets memory of
// its own.
func (c *cursor) decode() ([]byte, error) {
	start := c.pos
	c.pos++
	for to := c.pos; ; {
		to = c.move(to)
		after := c.data[c.pos:]
		switch {
		case len(after) > 0 && after[0] == '"':
			c.pos++
			return validUTF8(c.data[start:to]), nil
		case len(after) == 0 || after[0] != '\\':
			return nil, c.fail("the rest of a string (control characters must be escaped)")
		case len(after) > 1 && escaped[after[1]] != 0:
			c.data[to] = escaped[after[1]]
			c.pos, to = c.pos+2, to+1
		default:
			c.pos++
			r, err := c.hex()
			if err != nil {
				return nil, err
			}
			if utf16.IsSurrogate(r) {
				r = c.low(r)
			}
			to += utf8.EncodeRune(c.data[to:], r)
		}
	}
}

// move consumes the bytes of a string that stand for themselves, moves them to a place that is not after them,
// and returns where they end. A tenth of a webhook in an event is backslashes, so it moves few bytes at a time.
func (c *cursor) move(to int) int {
	data, from := c.data, c.pos
	for ; len(data)-from >= 8; from, to = from+8, to+8 {
		w := binary.LittleEndian.Uint64(data[from:])
		special := specialBytes(w)
		if special == 0 {
			binary.LittleEndian.PutUint64(data[to:], w)
			continue
		}
		n := bits.TrailingZeros64(special) / 8
		if from-to >= 8 { // what is written beyond n was read before
			binary.LittleEndian.PutUint64(data[to:], w)
		} else {
			copy(data[to:], data[from:from+n])
		}
		c.pos = from + n
		return to + n
	}
	for from < len(data) && data[from] >= ' ' && data[from] != '"' && data[from] != '\\' {
		data[to] = data[from]
		from, to = from+1, to+1
	}
	c.pos = from
	return to
}

// hex consumes the rest of an escape with hexadecimal digits, and returns their number.
func (c *cursor) hex() (rune, error) {
	after := c.data[c.pos:]
	if len(after) < 5 || after[0] != 'u' {
		return 0, c.fail("an escape")
	}
	var b [2]byte
	if _, err := hex.Decode(b[:], after[1:5]); err != nil {
		return 0, c.fail("an escape")
	}
	c.pos += 5
	return rune(binary.BigEndian.Uint16(b[:])), nil
}

// low returns the character that begins with a surrogate, and consumes the escape of its second half. Without
// one, it returns U+FFFD, as encoding/json does.
func (c *cursor) low(high rune) rune {
	rest := *c
	if !rest.accept('\\') {
		return utf8.RuneError
	}
	second, err := rest.hex()
	if err != nil {
		return utf8.RuneError
	}
	r := utf16.DecodeRune(high, second)
	if r != utf8.RuneError {
		c.pos = rest.pos
	}
	return r
}

// validUTF8 returns text, or a copy with U+FFFD in the place of each byte that is not UTF-8.
func validUTF8(text []byte) []byte {
	if utf8.Valid(text) {
		return text
	}
	var valid []byte
	for _, r := range string(text) {
		valid = utf8.AppendRune(valid, r)
	}
	return valid
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
