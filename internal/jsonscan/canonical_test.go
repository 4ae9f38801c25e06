package jsonscan_test

import (
	"testing"

	"github.com/ringback/ringback/internal/jsonscan"
)

// TestCanonical has values that are equal, and values that are not. FuzzID of package job compares more of them.
func TestCanonical(t *testing.T) {
	for value, want := range map[string]string{
		" { \"b\" : [ 1.50, 2e3 ],\n\"a\":null } ": `{"a":null,"b":[1.50,2e3]}`,
		`{"b":{"d":1,"c":2},"a":"\u0061\/"}`:       `{"a":"a/","b":{"c":2,"d":1}}`,
		`{"a":1,"a":{}}`:                           `{"a":{}}`,
		`12345678901234567890`:                     `12345678901234567890`,
		`"<"`:                                      `"\u003c"`,
		`{"a":1} {"a":1}`:                          `{"a":1} {"a":1}`,
		`{"a":`:                                    `{"a":`,
		``:                                         ``,
	} {
		if got := string(jsonscan.Canonical([]byte(value))); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
}
