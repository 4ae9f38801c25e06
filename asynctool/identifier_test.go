package asynctool_test

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/ringback/ringback/asynctool"
)

func TestIdentifier(t *testing.T) {
	for text, want := range map[string]string{
		"A-1042": "A-1042", " a_1.b\n": "a_1.b", "7": "7", strings.Repeat("x", 64): strings.Repeat("x", 64),
		"550e8400-e29b-41d4-a716-446655440000": "550e8400-e29b-41d4-a716-446655440000",
	} {
		if got, ok := asynctool.Identifier(text); got != want || !ok {
			t.Errorf("%q: %q, %t", text, got, ok)
		}
	}
	for _, text := range []string{
		"", " ", ".", "..", "../admin", "..%2fadmin", "%2e%2e", "A/1", `A\1`, "A..1", "A.", ".A", "-A", "A-", "_", "A 1",
		"A\n1", "A\x001", "1?x=1", "1#y", "1;x", "1&x", "1:2", "@a", "Ä1", "A\u20241", "A\u2215B", "A\uff0fB", "\u0661",
		"A\xff", strings.Repeat("x", 65),
	} {
		if got, ok := asynctool.Identifier(text); ok || got != "" {
			t.Errorf("%q: %q, %t", text, got, ok)
		}
	}
}

// FuzzIdentifier decodes an accepted identifier three times, as a chain of proxies may.
func FuzzIdentifier(f *testing.F) {
	for _, text := range []string{"A-1042", "../admin", "%252e%252e%252fadmin", "a..b", "a/b", ".", "\u2024\u2024"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := asynctool.Identifier(text)
		if !ok {
			return
		}
		decoded := id
		for range 3 {
			var err error
			if decoded, err = url.PathUnescape(decoded); err != nil {
				t.Fatal(err)
			}
			if at := path.Join("/orders", decoded); at != "/orders/"+id || url.PathEscape(id) != id {
				t.Fatalf("%q leads to %q", text, at)
			}
		}
	})
}
