package jsonscan_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/jsonscan"
)

// long is long enough for a value to be in a document's list.
var long = strings.Repeat("long ", 250)

// quotations write a text as a JSON string in different ways.
var quotations = map[string]func(string) string{
	"as encoding/json does": func(text string) string {
		quoted, err := json.Marshal(text)
		if err != nil {
			panic(err)
		}
		return string(quoted)
	},
	"with as few escapes as possible": func(text string) string {
		escapes := []string{`"`, `\"`, `\`, `\\`}
		for control := range ' ' {
			escapes = append(escapes, string(control), fmt.Sprintf(`\u%04x`, control))
		}
		return `"` + strings.NewReplacer(append(escapes, "\n", `\n`)...).Replace(text) + `"`
	},
	"with numbers": func(text string) string {
		quoted := []byte(`"`)
		for _, b := range []byte(text) {
			if b == '{' || b > '~' {
				quoted = append(quoted, b)
			} else {
				quoted = fmt.Appendf(quoted, `\u%04x`, b)
			}
		}
		return string(append(quoted, '"'))
	},
}

// embedded returns the document that a text is read as, if it is in a member of an object.
func embedded(t *testing.T, quoted string) (document jsonscan.Document) {
	t.Helper()
	data := []byte(`{"":` + quoted + `}`)
	if err := jsonscan.Object(data, func(_ []byte, value jsonscan.Value) error {
		document = value.Document
		return nil
	}); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return document
}

// checkDocument compares what is read of a document with what is read of its text.
func checkDocument(t *testing.T, document jsonscan.Document) {
	t.Helper()
	fields := jsonscan.NewFields("a", "o.a", "o.o.a")
	want, wantErr := fields.Read(document.Text)
	got, err := fields.ReadDocument(document)
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("%q: error %v, want %v", document.Text, err, wantErr)
	}
	if diff := cmp.Diff(want, got); diff != "" && err == nil {
		t.Fatalf("%q: -want +got:\n%s", document.Text, diff)
	}
}

// FuzzDocument reads documents in strings that contain a value.
func FuzzDocument(f *testing.F) {
	for _, document := range append(hostileDocuments,
		`{"a":"`+long+`"}`, `{"o":{"a":["`+long+`",{}],"x":["`+long+`"]},"a":"\"`+long+`\\"}`, `["`+long+`"`,
		"{ \"o\" : \n\t[ {\r} , [ ] , \"\\u00e9\\n\\\"\" , -1.5e3 , true , null ] , \"a\" : \"é\\/\" }",
		`{"a":"`+long+`","a":{"x":["`+long+`"]},"o":"`+long+`","o":{"o":{"a":["`+long+`"]}}}`,
		`["`+long+`\"`, `["`+long+`\\"]`, `["`+long+`"]]`, `{"o":{"a":"`+long+`"}}}`, `{"o":[{"a":"`+long+`"}}]`,
	) {
		f.Add(document)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, document := range []string{
			`{"x":["` + long + `",` + value + `],"a":1}`,
			`{"a":` + value + `,"o":{"x":{"x":` + value + `,"y":"` + long + `"}}}`,
			value,
		} {
			for _, quote := range quotations {
				checkDocument(t, embedded(t, quote(document)))
			}
		}
	})
}

// TestDocumentIsCheckedOnce breaks documents after they were decoded. A reader does not see it, since they were valid.
func TestDocumentIsCheckedOnce(t *testing.T) {
	for _, document := range []string{
		`{"a":1,"x":"` + long + `"}`, `{"x":["` + long + `"],"a":1}`, `{"x":{"y":[{"z":"` + long + `"}]},"a":1}`,
		"{\n\t\"x\": [\"\\\"\\\\\\/\\u00e9é" + long + "\", -1.5e3, true, null, {}],\r\n\t\"a\": 1\n}\n",
	} {
		for _, how := range []string{"as encoding/json does", "with as few escapes as possible"} {
			text := embedded(t, quotations[how](document))
			if string(text.Text) != document {
				t.Fatalf("%s: got %s", document, text.Text)
			}
			text.Text[strings.Index(document, long)] = 0
			if _, err := jsonscan.NewFields("a").Read(text.Text); err == nil {
				t.Errorf("%s: the broken document is read", document)
			}
			got, err := jsonscan.NewFields("a").ReadDocument(text)
			if err != nil || string(got["a"]) != "1" {
				t.Errorf("%s, %s: got %q, %v", document, how, got, err)
			}
		}
	}
}
