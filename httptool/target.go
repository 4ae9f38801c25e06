package httptool

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/ringback/ringback/asynctool"
)

// cutVariable cuts a text of a declaration around its first ${NAME}, whose value comes from the environment. If it has
// none, before is the text.
func cutVariable(text string) (before, name, after string, found bool) {
	for begin := range len(text) {
		if rest, ok := strings.CutPrefix(text[begin:], "${"); ok {
			name, after, ok := strings.Cut(rest, "}")
			if ok && consistsOf(name, "_") && (name[0] < '0' || name[0] > '9') {
				return text[:begin], name, after, true
			}
		}
	}
	return text, "", "", false
}

const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// consistsOf reports whether a name is not empty, and has only ASCII letters, ASCII digits, and the characters in
// others.
func consistsOf(name, others string) bool {
	return name != "" && strings.Trim(name, alphanumeric+others) == ""
}

// withoutVariables returns a text without each ${NAME}.
func withoutVariables(text string) string {
	before, _, after, found := cutVariable(text)
	if !found {
		return before
	}
	return before + withoutVariables(after)
}

// environment fills ${NAME} in. It collects the names, those without a value, and what is wrong with the values.
type environment struct {
	lookup  func(name string) (value string, known bool)
	names   []string
	unknown []string
	invalid error
}

// variables reads settings from the environment. One that is blank is missing.
func variables(getenv func(string) string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value := getenv(name)
		return value, strings.TrimSpace(value) != ""
	}
}

// filled is a text with values in the places of its variables.
type filled struct {
	text   string   // without the values that are unknown
	names  []string // of the variables
	values []string // by variable; empty if it is unknown
	// upTo is the text up to each variable, and then the whole text. It ends with the first one that is unknown.
	upTo []string
}

func (f filled) complete() bool { return !slices.Contains(f.values, "") }

func (e *environment) fill(text string) (f filled) {
	for {
		before, name, after, found := cutVariable(text)
		f.text += before
		if f.complete() {
			f.upTo = append(f.upTo, f.text)
		}
		if !found {
			return f
		}
		text = after
		value, known := e.lookup(name)
		e.names = append(e.names, name)
		if !known {
			value = ""
			e.unknown = append(e.unknown, name)
		}
		// A secret from a file often ends with a line break.
		value = strings.TrimSpace(value)
		f.names, f.values = append(f.names, name), append(f.values, value)
		f.text += value
	}
}

// object collects what is wrong with values.
func (e *environment) object(reason error, names ...string) {
	e.invalid = errors.Join(e.invalid, asynctool.InvalidSetting(reason, unique(names)...))
}

// missing returns an error that names the variables without a value, or nil.
func (e *environment) missing() error {
	if len(e.unknown) == 0 {
		return nil
	}
	return errors.New("not set when the file was read: " + strings.Join(unique(e.unknown), ", "))
}

// unique returns the names, each of them once.
func unique(names []string) []string {
	var once []string
	for _, name := range names {
		if !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return once
}

// checkVariables returns an error if a text has a ${ that does not begin a ${NAME}.
func checkVariables(what, text string) error {
	if strings.Contains(withoutVariables(text), "${") {
		return fmt.Errorf("the %s has a ${ that is not a variable; write ${NAME}", what)
	}
	return nil
}

// address parses a text of a file as an address without names in it. The error is one of the file. The address is
// nil if a value is unknown or invalid.
func (e *environment) address(what, text string) (filled, *url.URL, error) {
	if err := checkVariables(what, text); err != nil {
		return filled{}, nil, err
	}
	f := e.fill(text)
	// Values that follow do not change the beginning, so its first error is that of the values in it.
	for n, text := range f.upTo {
		check := settled
		if n == len(f.names) {
			check = func(text string) string { return text }
		}
		u, err := Address(check(text))
		switch {
		case err != nil && n == 0:
			return f, nil, fmt.Errorf("the %s %w", what, err)
		case err != nil:
			e.object(fmt.Errorf("the %s %w", what, err), f.names[:n]...)
			return f, nil, nil
		case n == len(f.names):
			return f, u, nil
		}
	}
	return f, nil, nil
}

// settled returns an address with the scheme and the host that every text has which begins with this one. What the
// text leaves open, such as the host, is that of an example.
func settled(text string) string {
	const scheme, rest = "https", "://example.com/"
	end := strings.IndexAny(text, ":/?#")
	switch {
	case end < 0:
		return scheme + rest
	case text[end] != ':': // no scheme
		return text[:end+1]
	}
	if after, ok := strings.CutPrefix(text[end:], "://"); ok {
		if host := strings.IndexAny(after, "/?#"); host >= 0 {
			return text[:end+len("://")+host+1]
		}
	}
	return text[:end] + rest
}

// target is an address with {names} in its path, and in the values of its query.
type target struct {
	url         *url.URL // nil if the environment lacks it
	path, query []string // the names
}

// target parses a text of a file.
func (e *environment) target(what, text string) (*target, error) {
	f, u, err := e.address(what, text)
	if err != nil {
		return nil, err
	}
	t := &target{url: u}
	written, _, _ := strings.Cut(withoutVariables(text), "#")
	path, query, _ := strings.Cut(written, "?")
	t.path = namesIn(path)
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		if _, found, _, ok := cutName(name); ok {
			return nil, fmt.Errorf("the %s has {%s} in the name of a parameter; only values may have it", what, found)
		}
		t.query = append(t.query, namesIn(value)...)
	}
	if u == nil {
		return t, nil
	}
	for _, name := range t.path {
		if !strings.Contains(u.Path, "{"+name+"}") {
			e.object(fmt.Errorf("the %s has {%s} outside its path", what, name), f.names...)
		}
	}
	values := strings.Join(slices.Concat(slices.Collect(maps.Values(u.Query()))...), " ")
	for _, name := range t.query {
		if !strings.Contains(values, "{"+name+"}") {
			e.object(fmt.Errorf("the %s has {%s} outside its query", what, name), f.names...)
		}
	}
	return t, nil
}

// notIdentifier is the name in a path whose value is not an identifier.
type notIdentifier string

func (e notIdentifier) Error() string { return string(e) + " is not an identifier" }

// with returns the address with values in the places of their names. The values in the path must be
// identifiers, and the others are escaped. A parameter of the query with a value that is absent is left
// out. If a value in the path is no identifier, the error is a [notIdentifier].
func (t *target) with(value func(name string) (text string, present bool)) (*url.URL, error) {
	u := *t.url
	for _, name := range t.path {
		text, _ := value(name)
		id, ok := asynctool.Identifier(text)
		if !ok {
			return nil, notIdentifier(name)
		}
		// An identifier is the same with and without escapes.
		u.Path = strings.ReplaceAll(u.Path, "{"+name+"}", id)
		u.RawPath = strings.ReplaceAll(u.RawPath, "{"+name+"}", id)
	}
	if len(t.query) == 0 {
		return &u, nil
	}
	query := url.Values{}
	for name, written := range u.Query() {
		for _, text := range written {
			complete := true
			text = replaceNames(text, func(name string) string {
				if !slices.Contains(t.query, name) {
					return "{" + name + "}"
				}
				text, present := value(name)
				complete = complete && present
				return text
			})
			if complete {
				query.Add(name, text)
			}
		}
	}
	u.RawQuery = query.Encode()
	return &u, nil
}

// sameHost reports whether two addresses have the same scheme, host and port.
func sameHost(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

var errOtherHost = errors.New(malformed + ": it names a job at another host; requests must not leave the tool's own")
