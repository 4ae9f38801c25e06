// Package jsonscan reads a few members out of a large JSON document in one pass.
//
// A Vapi webhook repeats the whole transcript and grows past a megabyte, and the caller waits while it is read.
// encoding/json reads every byte twice and takes seven times the CPU of this package on a webhook of 1 MB. The
// encoding/json/jsontext package took one and a half times its CPU there and missed the performance limits.
//
// The package accepts exactly the documents that encoding/json accepts. A fuzz test compares the two.
package jsonscan

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"
	"strings"
)

// MaxDepth is the deepest nesting of objects and arrays that encoding/json accepts.
const MaxDepth = 10000

// Fields is a set of members to read from a document. Build one with [NewFields]. It is safe for concurrent use.
type Fields struct {
	path    string // names joined by dots; "" is the document itself
	members map[string]*Fields
}

// NewFields returns the set of the members at the given paths. A path is the names from the document's root, joined by
// dots.
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

func (f *Fields) forget(values map[string][]byte) {
	delete(values, f.path)
	for _, m := range f.members {
		m.forget(values)
	}
}

// Read checks that data is one JSON object and returns the raw values of its members in f, by path. The values share
// data's memory. The objects on the way to a member are there too. Of members with the same name the last one counts,
// wholly, as in encoding/json; names are matched by exact case. The error says where data stops being an object, and
// quotes nothing of it.
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

// Valid reports whether data is one JSON value that nests at most maxDepth levels.
func Valid(data []byte, maxDepth int) bool {
	c := cursor{data: data, depth: MaxDepth - maxDepth}
	return c.skip() == nil && c.end() == nil
}

// Items returns the first raw items of the JSON array in data, at most limit. Data must be valid JSON, such as a value
// that [Fields.Read] returned. Anything but an array has no items.
func Items(data []byte, limit int) [][]byte {
	if !bytes.HasPrefix(data, []byte("[")) {
		return nil
	}
	var items [][]byte
	c := cursor{data: data}
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

// String decodes the JSON string in data. It returns "" for anything else.
func String(data []byte) string {
	var s string
	if json.Unmarshal(data, &s) != nil {
		return ""
	}
	return s
}

// cursor goes over a JSON document once. Its methods pass white space and
// then one value, and return an error where there is none.
type cursor struct {
	data  []byte
	pos   int
	depth int
}

func (c *cursor) fail(expected string) error {
	if c.pos >= len(c.data) {
		return fmt.Errorf("it ends at byte %d where %s is expected", c.pos, expected)
	}
	return fmt.Errorf("%s is expected at byte %d", expected, c.pos)
}

// next passes white space and returns the byte that follows without passing
// it; 0, which starts nothing in JSON, at the end.
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

// keep passes a value and stores of it what f names.
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

// skip passes any value.
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

// object passes an object. It calls member with each name, its escapes undone,
// for it to pass the value; nil skips all of them.
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
		} else if bytes.IndexByte(key, '\\') < 0 {
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

// array passes an array. It calls item for each item, for it to pass the
// value; nil skips all of them.
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

// open enters an object or array, and leaves it again where it is empty.
func (c *cursor) open(closing byte) (empty bool, err error) {
	if c.depth++; c.depth > MaxDepth {
		return false, c.fail(fmt.Sprintf("nesting of at most %d levels", MaxDepth))
	}
	c.pos++
	if c.next() != closing {
		return false, nil
	}
	return c.more(closing)
}

// more passes what follows a member or item: a comma or the end.
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

// plainBytes counts the bytes at the start of data that stand for themselves in
// a string: all but quotes, backslashes and control characters. Bytes that are
// not UTF-8 are among them, as in encoding/json. Nearly all of a webhook is in
// strings, so it looks at eight bytes at a time: (w - ones*n) &^ w has the top
// bit of each byte below n set. A borrow can set others too, but only further
// on than the first, and the first is all that counts.
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

// str passes a string and returns it as it stands.
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

// escape passes what follows a backslash.
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

// number passes a number; a digit after a leading zero is left for the caller
// to stumble over.
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

// accept passes the byte that follows where it is b.
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
