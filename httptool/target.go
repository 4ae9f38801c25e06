package httptool

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/ringback/ringback/asynctool"
)

// variable matches a part of a declaration that comes from the environment.
var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// environment fills ${NAME} in. It collects the names, and what is wrong with the values.
type environment struct {
	getenv  func(string) string
	names   []string
	invalid error
}

func (e *environment) fill(text string) string {
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		name := variable.FindStringSubmatch(v)[1]
		e.names = append(e.names, name)
		// A secret from a file often ends with a line break.
		return strings.TrimSpace(e.getenv(name))
	})
}

// checkVariables returns an error if a text has a ${ that does not begin a ${NAME}.
func checkVariables(what, text string) error {
	if strings.Contains(variable.ReplaceAllString(text, ""), "${") {
		return fmt.Errorf("the %s has a ${ that is not a variable; write ${NAME}", what)
	}
	return nil
}

// address parses a text of a file as an address without names in it.
func (e *environment) address(what, text string) (*url.URL, error) {
	if err := checkVariables(what, text); err != nil {
		return nil, err
	}
	u, err := Address(e.fill(text))
	switch {
	case err != nil && !variable.MatchString(text):
		return nil, fmt.Errorf("the %s %w", what, err)
	case err != nil:
		e.invalid = fmt.Errorf("the %s, filled in from the environment, %w", what, err)
	}
	return u, nil
}

// target is an address with {names} in its path, and in the values of its query.
type target struct {
	url         *url.URL // nil if the environment lacks it
	path, query []string // the names
}

// target parses a text of a file.
func (e *environment) target(what, text string) (*target, error) {
	u, err := e.address(what, text)
	if err != nil {
		return nil, err
	}
	t := &target{url: u}
	written, _, _ := strings.Cut(variable.ReplaceAllString(text, ""), "#")
	path, query, _ := strings.Cut(written, "?")
	for _, match := range placeholder.FindAllStringSubmatch(path, -1) {
		t.path = append(t.path, match[1])
	}
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		if found := placeholder.FindString(name); found != "" {
			return nil, fmt.Errorf("the %s has %s in the name of a parameter; only values may have it", what, found)
		}
		for _, match := range placeholder.FindAllStringSubmatch(value, -1) {
			t.query = append(t.query, match[1])
		}
	}
	if u == nil {
		return t, nil
	}
	for _, name := range t.path {
		if !strings.Contains(u.Path, "{"+name+"}") {
			e.invalid = fmt.Errorf("the %s, filled in from the environment, has {%s} outside its path", what, name)
		}
	}
	values := strings.Join(slices.Concat(slices.Collect(maps.Values(u.Query()))...), " ")
	for _, name := range t.query {
		if !strings.Contains(values, "{"+name+"}") {
			e.invalid = fmt.Errorf("the %s, filled in from the environment, has {%s} outside its query", what, name)
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
			text = placeholder.ReplaceAllStringFunc(text, func(found string) string {
				if !slices.Contains(t.query, found[1:len(found)-1]) {
					return found
				}
				text, present := value(found[1 : len(found)-1])
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
