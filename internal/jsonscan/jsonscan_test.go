package jsonscan_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ringback/ringback/internal/jsonscan"
)

// hostileDocuments are at the edges of JSON's grammar.
var hostileDocuments = []string{
	``, ` `, `{`, `}`, `{}`, `[]`, `null`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":1 "b":2}`, `{a:1}`, `{'a':1}`,
	`{"a":[1,]}`, `{"a":[,]}`, `{"a":[1 2]}`, `{"a":01}`, `{"a":-}`, `{"a":-01}`, `{"a":1.}`, `{"a":.5}`, `{"a":+1}`,
	`{"a":1e}`, `{"a":1e+}`, `{"a":-0.0E-0}`, `{"a":1e5.5}`, `{"a":0x1}`, `{"a":NaN}`, `{"a":--1}`, `{"a":tru}`,
	`{"a":truex}`, `{"a":True}`, `{"a":nul`, `{"a":falsefalse}`, `{"a":""""}`, `{"a":"\x"}`, `{"a":"\u12"}`,
	`{"a":"\u12G4"}`, `{"a":"\uD83D\uDE00"}`, `{"a":"\`, `{"a":"\u`, `{"a":"\"}`, `{"a":"\/\b\f\n\r\t\\\""}`, `{"\`,
	"{\"a\":\"\n\"}", "{\"a\":\"\x00\"}", "{\"a\":\"\x1f\"}", "{\"a\":\"\x7f\x80\xff\"}", "{\"\xff\":1}",
	"{\"a\":1}\x00", "{\x0b}", "{\u00a0}", "\uFEFF{}",
	`{"a":1}{}`, `{"a":1}]`, `{"a":[}`, `{"a":{]}`, `{}x`, `{} `, "\x00{}",
	`{"a":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`,
	`{"a":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`,
	strings.Repeat(`{"o":`, 10000) + `1` + strings.Repeat(`}`, 10000),
	strings.Repeat(`{"o":`, 10001) + `1` + strings.Repeat(`}`, 10001),
	`{"a":[` + strings.Repeat("[],", 10001) + `{}]}`,
}

// readByMaps returns what [jsonscan.Fields.Read] must return for the paths "a", "o.a" and "o.o.a".
func readByMaps(data []byte) map[string][]byte {
	values := map[string][]byte{"": bytes.Trim(data, " \t\r\n")}
	prefix := ""
	for range 3 {
		var members map[string]json.RawMessage
		if json.Unmarshal(data, &members) != nil || members == nil {
			break
		}
		if a, ok := members["a"]; ok {
			values[prefix+"a"] = a
		}
		o, ok := members["o"]
		if !ok || prefix == "o.o." {
			break
		}
		values[prefix+"o"] = o
		data, prefix = o, prefix+"o."
	}
	return values
}

// checkParts compares the members and items of a valid document with those of encoding/json.
func checkParts(t *testing.T, data []byte) {
	t.Helper()
	var wantMembers map[string]json.RawMessage
	if json.Unmarshal(data, &wantMembers) != nil || len(wantMembers) == 0 {
		wantMembers = map[string]json.RawMessage{}
	}
	members := map[string]json.RawMessage{}
	err := jsonscan.Members(data, func(name, value []byte) error {
		members[string(name)] = value
		return nil
	})
	if diff := cmp.Diff(wantMembers, members); diff != "" || err != nil {
		t.Fatalf("members: %v, -want +got:\n%s", err, diff)
	}
	var wantItems []json.RawMessage
	if json.Unmarshal(data, &wantItems) != nil {
		wantItems = nil
	}
	for _, limit := range []int{2, len(data)} {
		var items []json.RawMessage
		for _, item := range jsonscan.Items(data, limit) {
			items = append(items, item)
		}
		want := wantItems[:min(limit, len(wantItems))]
		if diff := cmp.Diff(want, items, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("the first %d items, -want +got:\n%s", limit, diff)
		}
	}
}

// FuzzRead compares the package with encoding/json.
func FuzzRead(f *testing.F) {
	for _, document := range append(hostileDocuments,
		`{"a":1,"o":{"a":"2","o":{"a":[3],"o":{"a":4}}}}`,
		`{"a":1,"o":{"a":2},"a":{"x":"y"},"o":{"o":5}}`,
		`{"o":{"a":1,"o":{"a":2}},"o":null,"o.a":3,"A":4,"":5}`,
		` { "\u0061" : 1 , "\u006f" : { "a" : [ 1 , {"a":2} ] } } `,
		`[1, "a", [], {"a":[1]}, null]`,
	) {
		f.Add([]byte(document))
	}
	fields := jsonscan.NewFields("a", "o.a", "o.o.a")
	f.Fuzz(func(t *testing.T, data []byte) {
		valid := json.Valid(data)
		if got := jsonscan.Valid(data, jsonscan.MaxDepth); got != valid {
			t.Fatalf("valid: %v, want %v", got, valid)
		}
		nested := append(append(bytes.Repeat([]byte("["), 100), data...), bytes.Repeat([]byte("]"), 100)...)
		if got := jsonscan.Valid(data, jsonscan.MaxDepth-100); valid && got != json.Valid(nested) {
			t.Fatalf("valid within %d levels: %v", jsonscan.MaxDepth-100, got)
		}
		if valid {
			checkParts(t, data)
		}
		got, err := fields.Read(data)
		if object := valid && bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")); !object {
			if err == nil {
				t.Fatalf("read %q", got)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(readByMaps(data), got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestNumbers has each byte at each place of a number, since eight digits are read at a time.
func TestNumbers(t *testing.T) {
	for before := range 18 {
		for b := range 256 {
			for _, after := range []string{"", "0123456789"} {
				data := append([]byte("["+strings.Repeat("1", before)), byte(b))
				data = append(data, after+"]"...)
				if got, want := jsonscan.Valid(data, jsonscan.MaxDepth), json.Valid(data); got != want {
					t.Errorf("%q is valid: %v, want %v", data, got, want)
				}
			}
		}
	}
}

// FuzzObject compares the package with encoding/json. Object writes over its input.
func FuzzObject(f *testing.F) {
	for _, document := range append(hostileDocuments, `{"a":"b","a":1,"c":[ "d\"" ],"\u00e9":{"e":"\n"}}`, ` { } `) {
		f.Add([]byte(document))
	}
	for _, text := range []string{
		``, `a`, `\"`, `\\`, `\b\f\n\r\t\/`, `\u0000\u007f\u0080\u07ff\u0800\uffff`, `1234567\"12345678\"123456789\"1`,
		`\ud83d\ude00`, `\uD83D\uDE00\ud83d`, `\ud83d\u0041`, `\ude00\ud83d`, `\ud83d\ud83d\ude00`, `\ud83d\n`, `\ud83dx`,
		"\xff\\n", "\xe2\x82", "\xe2\x82\\u20ac\xac", "é\\u00e9é12345678", `\ud83d\u12`, `\ud83d\`, `\ud83d`,
		strings.Repeat(`\"a`, 20), strings.Repeat(`a\u00e9`, 20) + "é", strings.Repeat(`\n123456789`, 9),
	} {
		f.Add([]byte(`{"a":"` + text + `","b":[]}`))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want map[string]json.RawMessage
		wantErr := json.Unmarshal(data, &want) != nil || want == nil
		got := map[string]json.RawMessage{}
		err := jsonscan.Object(bytes.Clone(data), func(name []byte, value jsonscan.Value) error {
			got[string(name)] = value.Text
			if value.First == '"' {
				got[string(name)] = json.RawMessage(`"` + string(value.Text))
				checkDocument(t, value.Document)
			}
			return nil
		})
		if (err != nil) != wantErr {
			t.Fatalf("error %v, want one: %v", err, wantErr)
		}
		if err != nil {
			return
		}
		for name, value := range want {
			if value[0] == '"' {
				var text string
				if err := json.Unmarshal(value, &text); err != nil {
					t.Fatal(err)
				}
				want[name] = json.RawMessage(`"` + text)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}

// TestObjectCopiesNoText tests that a text is in the memory of its string, unless it is longer.
func TestObjectCopiesNoText(t *testing.T) {
	for text, want := range map[string]bool{`plain`: false, `\u00e9\n\"`: false, "\xff": true} {
		data := []byte(`{"":"` + text + `"}`)
		if err := jsonscan.Object(data, func(_ []byte, value jsonscan.Value) error {
			if copied := &value.Text[0] != &data[len(`{"":"`)]; copied != want {
				t.Errorf("%s: copied: %v", text, copied)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}

func TestReadError(t *testing.T) {
	for _, row := range []struct{ document, want string }{
		{``, "unexpected end at byte 0: want an object"},
		{` ["secret"]`, "unexpected character at byte 1: want an object"},
		{`{"secret" 1}`, "unexpected character at byte 10: want a colon"},
		{`{"a":1`, `unexpected end at byte 6: want a comma or '}'`},
		{`{} {}`, "unexpected character at byte 3: want the end"},
	} {
		if _, err := jsonscan.NewFields("a").Read([]byte(row.document)); err == nil || err.Error() != row.want {
			t.Errorf("%s: got %v, want %s", row.document, err, row.want)
		}
	}
}

func TestItems(t *testing.T) {
	for _, row := range []struct {
		array string
		want  []string
	}{
		{`[]`, nil},
		{`{"a":1}`, nil},
		{`"[1]"`, nil},
		{``, nil},
		{`[ 1 , "a,]" ]`, []string{`1`, `"a,]"`}},
		{`[{"a":[1]},[],null,4]`, []string{`{"a":[1]}`, `[]`, `null`}},
	} {
		var got []string
		for _, item := range jsonscan.Items([]byte(row.array), 3) {
			got = append(got, string(item))
		}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s: %s", row.array, diff)
		}
	}
}

func TestString(t *testing.T) {
	for data, want := range map[string]string{
		`"\u00e9\n"`: "é\n", "\"\xff\"": "\uFFFD", `7`: "", `null`: "", ``: "", `"a`: "", `"`: "",
		`""`: "", `"plain"`: "plain", ` "plain" `: "plain",
	} {
		if got := jsonscan.String([]byte(data)); got != want {
			t.Errorf("%s: got %q", data, got)
		}
	}
	for b := range 256 { // alone, and in a plain string
		for _, data := range []string{"\"%s\"", "\"a%sb\"", "%s"} {
			data = fmt.Sprintf(data, []byte{byte(b)})
			var want string
			if json.Unmarshal([]byte(data), &want) != nil {
				want = ""
			}
			if got := jsonscan.String([]byte(data)); got != want {
				t.Errorf("%q: got %q, want %q", data, got, want)
			}
		}
	}
}

// TestStringBytes puts every byte at every place of a string, before bytes that end the string or
// break it.
func TestStringBytes(t *testing.T) {
	for place := range 20 {
		for b := range 256 {
			for _, after := range []string{"plain text", "!#[]^ ", "\"", "\\", "\x1f", "\x80\xff"} {
				data := []byte(`{"a":"` + strings.Repeat("a", place) + string([]byte{byte(b)}) + after + `"}`)
				if got := jsonscan.Valid(data, jsonscan.MaxDepth); got != json.Valid(data) {
					t.Fatalf("%q: valid: %v", data, got)
				}
			}
		}
	}
}
