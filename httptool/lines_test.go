package httptool_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
)

// TestFileErrorsNameTheTool adds lines to a file, or replaces it. Each error has the file and the line, and the tool if
// the mistake is in one.
func TestFileErrorsNameTheTool(t *testing.T) {
	const file = `tools:
  - name: a
    description: d
    url: https://a.example
    schema: {type: object, properties: {name: {type: string}}}

  # The second one.
  - description: >-
      - name: c
    name: b
    url: https://b.example
    schema:
      type: object
`
	const (
		first, second = 3, 14 // the lines where others are added
		a, b          = `tool 1, "a": `, `tool 2, "b": `
		indicator     = "did not find expected '-' indicator"
	)
	for name, row := range map[string]struct {
		after int // 0: the lines are the whole file
		lines string
		want  string
	}{
		"repeated field":        {second, "    url: x", "14: " + b + `the field "url" is set twice`},
		"repeated in the first": {first, "    name: x", "3: " + a + `the field "name" is set twice`},
		"repeated header": {second, "    headers: {X-A: b, X-A: c}",
			"14: " + b + `the field "X-A" is set twice`},
		"repeated in the schema": {second, "      type: object", "14: " + b + `the field "type" is set twice`},
		"repeated list":          {second, "tools: []", `14: the field "tools" is set twice`},
		"repeated on one line": {0, "tools: [{name: a}, {name: b, name: c}]",
			`1: tool 2, "b": the field "name" is set twice`},
		"unknown field":             {first, "    colour: red", "3: " + a + `unknown field "colour"`},
		"unknown field of a poll":   {first, "    poll:\n      colour: red", "4: " + a + `unknown field "colour"`},
		"a key that is no text":     {second, "    null: b", "14: " + b + `unknown field "null"`},
		"unknown field of the file": {second, "colour: red", `14: unknown field "colour"`},
		"wrong type": {first, "    headers: b",
			"3: " + a + "the field headers has the wrong type (string)"},
		"wrong type inside": {second, "    poll: {done: a}",
			"14: " + b + "the field poll.done has the wrong type (string)"},
		"wrong schema": {second, "      minimum: a",
			"14: " + b + "the field schema.minimum has the wrong type (string)"},
		"wrong type of a schema": {second, "      items: {type: 3}",
			"12: " + b + `schema: invalid value for "type": "3"`},
		"no object": {second, "  - [a]", `14: tool 3, "": it has the wrong type (array)`},
		"no tool": {second, "  -",
			`14: tool 3, "": the schema is missing; for a tool without arguments, ` + "write {type: object}"},
		"wrong value": {first, "    method: GOT",
			"3: " + a + `the method is "GOT"; it must be GET, POST, PUT, PATCH or DELETE`},
		"not a number": {second, "    text: .nan", "14: " + b + "unsupported value: NaN"},
		"not a number in headers": {first, "    headers:\n      X-A: a\n      X-B: .inf",
			"5: " + a + "unsupported value: +Inf"},
		"wrong tag": {first, "    text: !!int a", "3: " + a + "cannot decode !!str `a` as a !!int"},
		"wrong merge": {second, "    <<: 3",
			"8: " + b + "map merge requires map or sequence of maps as the value"},

		"a list that is open": {first, "    headers: [x", "3: " + a + "did not find expected ',' or ']'"},
		"an object that is open": {second, "    headers: {a\n  - name: c\n    url: x",
			"14: " + b + "did not find expected ',' or '}'"},
		"two colons": {first, "    text: a: b",
			"3: " + a + "mapping values are not allowed in this context"},
		"two colons at the start": {8, "  - name: c: d", `8: tool 2, "c": mapping values are not allowed in this context`},
		"too little indentation":  {second, "   text: a", "14: " + b + indicator},
		"no dash":                 {second, "  text: a", "14: " + b + indicator},
		"a brace too many":        {second, "  - {name: c}}", `14: tool 3, "c": ` + indicator},
		"outside the list":        {second, "- name: c", "14: did not find expected key"},
		"a tab": {first, "\ttext: a",
			"3: " + a + "found a tab character that violates indentation"},
		"a reserved character": {second, "    text: @a",
			"14: " + b + "found character that cannot start any token"},
		"no colon":            {first, "    text", "3: " + a + "could not find expected ':'"},
		"a quotation mark":    {second, "    text: \"a", "14: " + b + "found unexpected end of stream"},
		"a wrong escape":      {second, "    text: \"\\q\"", "14: " + b + "found unknown escape character"},
		"an unknown anchor":   {first, "    text: *nope", "3: " + a + "unknown anchor 'nope' referenced"},
		"a control character": {second, "    text: a\x01", "14: " + b + "control characters are not allowed"},
		"not UTF-8":           {first, "    text: \xff", "3: " + a + "invalid leading UTF-8 octet"},
		"before the list":     {1, "a: b: c", "1: mapping values are not allowed in this context"},
		"after the list":      {second, "a: b: c", "14: mapping values are not allowed in this context"},

		"JSON": {0, "{\"tools\": [\n  {\"name\": \"a\"},\n  {\"name\": \"b\"\n   \"url\": \"x\"}]}",
			"4: " + b + "invalid character '\"' after object key:value pair"},
		"JSON that ends": {0, "{\"tools\": [\n  {\"name\": \"a\",\n",
			"2: " + a + "the end of the file is missing"},
		"JSON without a tool": {0, "{\"tools\"\n", "2: did not find expected ',' or '}'"},
		"flow style":          {0, "tools: [{name: a}, {name: b", "1: did not find expected ',' or '}'"},
		"another root":        {0, "\n- a", "2: it has the wrong type (array)"},
		"no YAML at all":      {0, "\x00", "1: control characters are not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			content := row.lines + "\n"
			if row.after > 0 {
				lines := strings.SplitAfter(file, "\n")
				content = strings.Join(lines[:row.after-1], "") + content + strings.Join(lines[row.after-1:], "")
			}
			for _, name := range []string{"http.yaml", "http.json"} {
				folder := fstest.MapFS{name: &fstest.MapFile{Data: []byte(content)}}
				_, err := httptool.Tools(folder, func(string) string { return "" })
				if err == nil || err.Error() != name+":"+row.want {
					t.Errorf("got  %v\nwant %s:%s\n%s", err, name, row.want, content)
				}
			}
		})
	}
}

// Two tools of one name are found only when all tools are together. The error names the places of those in files.
func TestNamesThatClash(t *testing.T) {
	folder := fstest.MapFS{
		"http.yaml": &fstest.MapFile{Data: []byte("tools:\n  - description: d\n    name: a\n    url: https://a.example\n" +
			"    schema: {type: object}\n")},
		"http.json": &fstest.MapFile{Data: []byte(`{"tools": [{"name": "a", "description": "d", ` +
			`"url": "https://a.example", "schema": {"type": "object"}}]}`)},
	}
	files, err := httptool.Tools(folder, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := httptool.Parse(folder["http.yaml"].Data, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	tool := asynctool.Tool[struct{}]{
		Name: "a", Description: "d",
		Run: func(context.Context, asynctool.Call, struct{}) (asynctool.Result, error) {
			return asynctool.Text("a"), nil
		},
	}
	for want, tools := range map[string][]asynctool.Definition{
		"http.yaml:3: tool a: two tools have this name; the other one is in Go":          {tool, files[0]},
		"tool a: two tools have this name; the other one is at http.yaml:3":              {files[0], tool},
		"http.json:1: tool a: two tools have this name; the other one is at http.yaml:3": files,
		"line 3: tool a: two tools have this name; the other one is in Go":               {tool, parsed[0]},
	} {
		if _, err := asynctool.NewSet(tools...); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}
