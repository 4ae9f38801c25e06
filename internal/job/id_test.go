package job_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/job"
)

// TestID tests which tool calls are the same. The first id must never change: a deployment recognises a
// repeated webhook by it.
func TestID(t *testing.T) {
	const want = "j_wbzzis5k5mqlhhm7b5jav65luv"
	if got := job.ID("call", "tool-call", "weather", []byte(`{"city":"Riga","days":[1,2.0]}`)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, arguments := range []string{
		`{"days":[1,2.0],"city":"Riga"}`, " {\n\"city\" : \"Ri\\u0067a\", \"days\":[ 1,2.0 ]}\t",
		`{"city":"Oslo","days":[1,2.0],"city":"Riga"}`,
	} {
		if got := job.ID("call", "tool-call", "weather", []byte(arguments)); got != want {
			t.Errorf("%s: %s, want %s", arguments, got, want)
		}
	}
	ids := map[string]string{}
	for _, c := range [][4]string{
		{"call", "tool-call", "weather", `{"city":"Riga","days":[1,2.0]}`},
		{"call", "tool-call", "weather", `{"city":"Riga"}`},
		{"call", "tool-call", "weather", `{"city":"Riga","days":[1,2]}`},
		{"call", "tool-call", "weather", `{"city":"Riga","days":[2.0,1]}`},
		{"call", "tool-call", "weather", `{}`}, {"call", "tool-call", "weather", ``}, {"call", "tool-call", "weathe", `r{}`},
		{"call", "tool-call", "", `{}`}, {"call", "tool-callw", "eather", `{}`}, {"calltool", "-call", "weather", `{}`},
		{"", "calltool-call", "weather", `{}`}, {"call/tool-call", "", "weather", `{}`},
		{"other", "tool-call", "weather", `{}`},
	} {
		id := job.ID(c[0], c[1], c[2], []byte(c[3]))
		if before := ids[id]; before != "" || !hashedID.MatchString(id) {
			t.Errorf("%q has the id %q of %s", c, id, before)
		}
		ids[id] = strings.Join(c[:], " | ")
	}
}

// FuzzID compares the ids of two tool calls with their arguments as encoding/json reads them.
func FuzzID(f *testing.F) {
	for _, pair := range [][2]string{
		{`{"a":1,"b":[{}]}`, `{"b":[{ }],"a":1}`}, {`{"a":1}`, `{"a":1.0}`}, {`{"a":"\u00e9<"}`, `{"a":"é\u003c"}`},
		{`{"a":1,"a":2}`, `{"a":2}`}, {`{"a":null}`, `{}`}, {`{"a":1e2}`, `{"a":1E2}`}, {`{"a":"1"}`, `{"a":1}`},
		{`{"a":{"c":1,"b":2}}`, `{"a":{"b":2,"c":1}}`}, {`{"a":[1,2]}`, `{"a":[2,1]}`}, {`{"a"`, `{"a":`}, {`{} {}`, `{}`},
	} {
		f.Add(pair[0], pair[1])
	}
	decode := func(text string) (any, bool) {
		var value any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		ok := json.Valid([]byte(text)) && d.Decode(&value) == nil
		return value, ok
	}
	id := func(text []byte) string { return job.ID("call", "tool-call", "weather", text) }
	f.Fuzz(func(t *testing.T, one, other string) {
		a, aOK := decode(one)
		b, bOK := decode(other)
		equal := one == other
		if aOK && bOK {
			equal = reflect.DeepEqual(a, b)
		}
		if (id([]byte(one)) == id([]byte(other))) != equal && aOK == bOK {
			t.Errorf("%q and %q: equal is %t, and the ids are %s and %s", one, other, equal, id([]byte(one)), id([]byte(other)))
		}
		if !aOK {
			return
		}
		// The same value in other words: encoded again, and with white space.
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var spaced bytes.Buffer
		if err := json.Indent(&spaced, []byte(one), " ", "\t"); err != nil {
			t.Fatal(err)
		}
		if id(again) != id([]byte(one)) || id(spaced.Bytes()) != id([]byte(one)) {
			t.Errorf("%q, %q and %q have different ids", one, again, spaced.Bytes())
		}
	})
}
