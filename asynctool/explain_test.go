package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
)

type part struct {
	Article string `json:"article" jsonschema:"the article's number"`
	Pieces  int8   `json:"pieces,omitempty"`
}

type orderInput struct {
	Name   string            `json:"name" jsonschema:"the caller's full name"`
	Age    int               `json:"age" jsonschema:"in years"`
	Parts  []part            `json:"parts,omitempty"`
	Main   part              `json:"main,omitzero"`
	Labels map[string]string `json:"labels,omitempty"`
	When   *time.Time        `json:"when,omitempty"`
}

// runOrder runs a tool that takes an orderInput, and returns what it received.
func runOrder(t testing.TB, arguments string) (*orderInput, error) {
	var got *orderInput
	e := only(t, tool("order", func(x *asynctool.Tool[orderInput]) {
		x.Run = func(_ context.Context, _ asynctool.Call, in orderInput) (asynctool.Result, error) {
			got = &in
			return asynctool.Text("done"), nil
		}
	}))
	_, err := e.Run(t.Context(), asynctool.Call{}, json.RawMessage(arguments))
	return got, err
}

// order returns arguments with a name, an age and more members.
func order(more string) string { return `{"name":"Ada","age":3` + more + `}` }

// eight joins a text for each number from 0 to 7.
func eight(format, separator string) string {
	var texts []string
	for i := range 8 {
		texts = append(texts, fmt.Sprintf(format, i))
	}
	return strings.Join(texts, separator)
}

func TestArgumentErrors(t *testing.T) {
	const (
		ask      = " Ask the caller for what you do not know, then call order again."
		again    = " Call order again with valid arguments."
		noObject = "its arguments are not a JSON object. Call order again with its arguments as a JSON object."
		check    = " Check it with the caller, then call order again."
		limits   = "age must be a whole number within its limits, in digits only." + check
		name     = "name (the caller's full name)"
		age      = "age (in years)"
	)
	var unknown strings.Builder
	for i := range 20_000 {
		unknown.WriteString(`,"u` + string(rune('a'+i%26)) + strings.Repeat("x", i%7) + strings.Repeat("y", i/1000) + `":1`)
	}
	for label, row := range map[string]struct{ arguments, want string }{
		"one missing":     {`{"name":"Ada"}`, age + " is missing." + ask},
		"several missing": {`{}`, name + ", " + age + " are missing." + ask},
		"wrong type":      {`{"name":true,"age":36}`, name + " must be a text." + ask},
		"null":            {`{"name":null,"age":36}`, name + " must be a text." + ask},
		"fraction":        {`{"name":"Ada","age":3.5}`, age + " must be a whole number." + ask},
		"out of bounds": {order(`,"main":{"article":"a","pieces":200}`),
			"main.pieces must be a whole number from -128 to 127." + ask},
		"nested missing": {order(`,"main":{}`), "main.article (the article's number) is missing." + ask},
		"nested unknown": {order(`,"main":{"article":"a","colour":"red"}`),
			"main.colour is not among its arguments." + again},
		"list item": {order(`,"parts":[{"article":"a"},{"article":[2]}]`),
			"parts[1].article (the article's number) must be a text." + ask},
		"list item of another type": {order(`,"parts":[5]`), "parts[0] must be an object." + ask},
		"not a list":                {order(`,"parts":"two"`), "parts must be a list." + ask},
		"value of a map":            {order(`,"labels":{"a":"b","c":false}`), "labels.c must be a text." + ask},
		"unknown":                   {order(`,"colour":"red"`), "colour is not among its arguments." + again},
		"several unknown":           {order(`,"x":1,"colour":"red"`), "colour, x are not among its arguments." + again},
		"name in another case": {`{"Name":"Ada","age":3}`,
			name + " is missing; Name is not among its arguments." + ask},
		"all kinds": {`{"age":"old","x":1}`,
			name + " is missing; " + age + " must be a whole number; x is not among its arguments." + ask},
		"hostile name": {order(`,"` + strings.Repeat("é", 100_000) + `":1`),
			strings.Repeat("é", 32) + "… is not among its arguments." + again},
		"hostile map name": {order(`,"labels":{"` + strings.Repeat("k", 100_000) + `":{}}`),
			"labels." + strings.Repeat("k", 64) + "… must be a text." + ask},
		"hostile list": {order(`,"parts":[` + strings.Repeat(`1,`, 100_000) + `1]`),
			eight("parts[%d] must be an object", "; ") + "; others." + ask},
		"hostile list of empty objects": {order(`,"parts":[{}` + strings.Repeat(`,{}`, 100_000) + `]`),
			eight("parts[%d].article (the article's number)", ", ") + ", others are missing." + ask},
		"empty":       {``, noObject},
		"null alone":  {`null`, noObject},
		"a list":      {`[]`, noObject},
		"a text":      {`"{}"`, noObject},
		"truncated":   {`{"name":"Ada"`, noObject},
		"two objects": {order("") + `{}`, noObject},
		"not JSON":    {`name=Ada`, noObject},
		"very deep":   {strings.Repeat(`{"a":`, 100_000), noObject},
		"number too large": {`{"name":"Ada","age":1e999}`, "its arguments hold a number that is out of range. " +
			"Call order again with its arguments as a JSON object."},
		"integer too large":             {`{"name":"Ada","age":9223372036854775808}`, limits},
		"long integer with an exponent": {`{"name":"Ada","age":1e17}`, limits},
		"text with a unit":              {`{"name":"Ada","age":"36 years"}`, age + " must be a whole number." + ask},
		"number in words":               {`{"name":"Ada","age":"three"}`, age + " must be a whole number." + ask},
		"text of a fraction":            {`{"name":"Ada","age":"3.5"}`, age + " must be a whole number." + ask},
		"text with a separator":         {`{"name":"Ada","age":"1,000"}`, age + " must be a whole number." + ask},
		"text with leading zeros":       {`{"name":"Ada","age":"007"}`, age + " must be a whole number." + ask},
		"text of a huge number":         {`{"name":"Ada","age":"1e999"}`, age + " must be a whole number." + ask},
		"text out of bounds": {order(`,"main":{"article":"a","pieces":"200"}`),
			"main.pieces must be a whole number from -128 to 127." + ask},
		"blank text, required":               {`{"name":"Ada","age":""}`, age + " must be a whole number." + ask},
		"number with an exponent for a text": {`{"name":1e3,"age":36}`, name + " must be a text." + ask},
		"number for a text, too long to be exact": {`{"name":9007199254740993,"age":36}`,
			name + " must be a text." + ask},
		"type with its own rules": {order(`,"when":"soon"`), `its arguments cannot be used (parsing time "soon" as ` +
			`"2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006").` + check},
	} {
		t.Run(label, func(t *testing.T) {
			got, err := runOrder(t, row.arguments)
			if got != nil {
				t.Fatalf("the tool ran with %+v", *got)
			}
			e, ok := errors.AsType[*asynctool.ArgumentError](err)
			if !ok {
				t.Fatalf("%v (%T) is not an argument error", err, err)
			}
			if want := "The tool order was not run: " + row.want; e.Message != want || e.Error() != want {
				t.Errorf("got  %.2000s\nwant %s", e.Message, want)
			}
		})
	}
	t.Run("hostile number of names", func(t *testing.T) {
		_, err := runOrder(t, order(unknown.String()))
		if err == nil || len(err.Error()) > 2000 || !strings.Contains(err.Error(), "others are not among its arguments") {
			t.Errorf("got %.3000v", err)
		}
	})
}

// The library checks a hundred thousand entries at once, but explain checks each
// by itself, which would take seconds. The test counts allocations because time
// varies.
func TestExplainingAHostileListIsCheap(t *testing.T) {
	const entries = 20_000
	arguments := order(`,"parts":[1` + strings.Repeat(`,1`, entries-1) + `]`)
	allocated := testing.AllocsPerRun(1, func() {
		if _, err := runOrder(t, arguments); err == nil {
			t.Error("the list was accepted")
		}
	})
	if perEntry := allocated / entries; perEntry > 20 {
		t.Errorf("%.0f allocations for each entry", perEntry)
	}
}

func TestArgumentsReachTheTool(t *testing.T) {
	when := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for label, row := range map[string]struct {
		arguments string
		want      func(orderInput) bool
	}{
		"all of them": {
			`{"name":"Ada","age":36,"parts":[{"article":"a","pieces":2}],"labels":{"k":"v"},"when":"2026-03-04T05:06:07Z"}`,
			func(in orderInput) bool {
				return in.Name == "Ada" && in.Age == 36 && slices.Equal(in.Parts, []part{{"a", 2}}) &&
					in.Labels["k"] == "v" && in.When.Equal(when)
			}},
		"white space": {" {\n\t\"name\": \"Ada\", \"age\": 36}\n",
			func(in orderInput) bool { return in.Name == "Ada" && in.Age == 36 }},
		"long integer": {`{"name":"Ada","age":9007199254740993}`,
			func(in orderInput) bool { return in.Age == 9007199254740993 }},
		"largest integer": {`{"name":"Ada","age":9223372036854775807}`,
			func(in orderInput) bool { return in.Age == math.MaxInt64 }},
		"null for a list": {order(`,"parts":null,"when":null`),
			func(in orderInput) bool { return in.Parts == nil && in.When == nil }},
		"angle brackets": {`{"name":"<&>\u2028","age":1}`, func(in orderInput) bool { return in.Name == "<&>\u2028" }},
		// Repeated members are legal JSON. Only the last one counts: a value
		// that was not checked against the schema must not reach the tool.
		"repeated member": {`{"name":7,"name":"Ada","age":1}`, func(in orderInput) bool { return in.Name == "Ada" }},
		"repeated nested member": {order(`,"main":{"article":"a","pieces":100},"main":{"article":"b"}`),
			func(in orderInput) bool { return in.Main == part{Article: "b"} }},
	} {
		t.Run(label, func(t *testing.T) {
			got, err := runOrder(t, row.arguments)
			if err != nil {
				t.Fatal(err)
			}
			if !row.want(*got) {
				t.Errorf("the tool got %+v", *got)
			}
		})
	}
}

// A tool may have its own schema, with rules that no Go type expresses.
func TestGivenSchema(t *testing.T) {
	a := func(schema string) string { return `{"type":"object","properties":{"a":` + schema + `}}` }
	for label, row := range map[string]struct{ schema, arguments, want string }{
		"enum": {a(`{"enum":["s","m"],"description":"the size"}`), `{"a":"xl"}`,
			"a (the size) must be one of s, m. Ask"},
		"length": {a(`{"type":"string","minLength":2,"maxLength":3}`), `{"a":"x"}`,
			"a must be a text, from 2 to 3 characters. Ask"},
		"pattern": {a(`{"type":"string","pattern":"^[0-9]+$"}`), `{"a":"x"}`, "a must be a text, matching ^[0-9]+$. Ask"},
		"format":  {a(`{"type":"string","format":"date"}`), `{"a":[1]}`, "a must be a text, in the format date. Ask"},
		"exclusive bounds": {a(`{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1.5}`), `{"a":0}`,
			"a must be a number, above 0, below 1.5. Ask"},
		"number of entries": {a(`{"type":"array","minItems":1,"maxItems":2}`), `{"a":[]}`,
			"a must be a list, from 1 to 2 entries. Ask"},
		"either type": {a(`{"type":["boolean","string","null"]}`), `{"a":1}`,
			"a must be true or false or a text. Ask"},
		"no type":              {a(`{"const":1}`), `{"a":2}`, "a must be as its description says. Ask"},
		"required, undeclared": {`{"type":"object","required":["a"]}`, `{}`, "a is missing. Ask"},
		"rule across": {
			`{"type":"object","properties":{"a":{},"b":{}},"anyOf":[{"required":["a"]},{"required":["b"]}]}`, `{}`,
			"validating root: anyOf: did not validate"},
		"rule across, bounded": {`{"type":"object","not":{"required":["a"]},"propertyNames":{"maxLength":3}}`,
			`{"` + strings.Repeat("x", 10_000) + `":1}`, "validating root: "},
		// The schema of a is elsewhere, so only b is named.
		"reference": {
			`{"type":"object","$defs":{"n":{"type":"integer"}},"properties":{"a":{"$ref":"#/$defs/n"},"b":{"type":"string"}}}`,
			`{"a":false,"b":[2]}`, "b must be a text. Ask"},
		"allowed though undeclared": {
			`{"type":"object","properties":{"b":{"type":"string"}},"additionalProperties":{"not":{"type":"string"}}}`,
			`{"x":1,"b":[2]}`, "b must be a text. Ask"},
		"named by a pattern": {`{"type":"object","properties":{"b":{"type":"string"}},"patternProperties":{"^x-":{}},` +
			`"additionalProperties":false}`, `{"x-a":1,"b":[2]}`, "b must be a text. Ask"},
	} {
		t.Run(label, func(t *testing.T) {
			var schema jsonschema.Schema
			if err := json.Unmarshal([]byte(row.schema), &schema); err != nil {
				t.Fatal(err)
			}
			e := only(t, tool("x", func(x *asynctool.Tool[map[string]any]) { x.Schema = &schema }))
			_, err := e.Run(t.Context(), asynctool.Call{}, json.RawMessage(row.arguments))
			if _, ok := errors.AsType[*asynctool.ArgumentError](err); !ok {
				t.Fatalf("%v (%T) is not an argument error", err, err)
			}
			if want := "The tool x was not run: " + row.want; !strings.HasPrefix(err.Error(), want) || len(err.Error()) > 1000 {
				t.Errorf("got  %.2000v\nwant %s…", err, want)
			}
		})
	}
}

// Raw input is for tools that forward their arguments.
func TestRawInput(t *testing.T) {
	var got string
	e := only(t, tool("x", func(x *asynctool.Tool[json.RawMessage]) {
		x.Schema = &jsonschema.Schema{Type: "object"}
		x.Run = func(_ context.Context, _ asynctool.Call, in json.RawMessage) (asynctool.Result, error) {
			got = string(in)
			return asynctool.Text("done"), nil
		}
	}))
	arguments := json.RawMessage(`{"b":1.50, "a":[12345678901234567890], "b":2.50}`)
	if _, err := e.Run(t.Context(), asynctool.Call{}, arguments); err != nil {
		t.Fatal(err)
	}
	if want := `{"a":[12345678901234567890],"b":2.50}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzRun runs a tool whose rules a few lines can check without a schema: size is
// s or m, and required; n is a number from 1 to 9; nothing else is allowed.
func FuzzRun(f *testing.F) {
	for _, seed := range []string{
		`{"size":"s"}`, `{"size":"m","n":9}`, `{"size":"m","n":9.5}`, `{"size":"x"}`, `{"n":1}`,
		`{"size":"s","n":1e0}`, `{"size":"s","size":"x"}`, `{"size":"x","size":"s"}`, `{"Size":"s"}`,
		`{"size":"s","N":100}`, `{"size":"s","n":null}`, `{"\u0073ize":"s"}`, `{"size":"s"}x`, `null`, `[]`, ``,
		`{"size":"s","n":1e999}`, `{"size":"s","n":"4.5"}`, `{"size":"s","n":" 10 "}`, `{"size":"s","n":""}`,
		`{"size":"s","n":"undefined"}`, `{"size":"s","n":"1e999"}`, `{"size":1,"n":true}`,
		"{\"size\":\"\xff\"}", `{"size":["s"],"o":{"a":[{}]}}`,
	} {
		f.Add([]byte(seed))
	}
	type input struct {
		Size string   `json:"size"`
		N    *float64 `json:"n,omitempty"`
	}
	least, most := 1.0, 9.0
	var ran *input
	e := only(f, tool("x", func(x *asynctool.Tool[input]) {
		x.Schema = &jsonschema.Schema{
			Type: "object",
			Properties: map[string]*jsonschema.Schema{
				"size": {Type: "string", Enum: []any{"s", "m"}},
				"n":    {Type: "number", Minimum: &least, Maximum: &most},
			},
			Required:             []string{"size"},
			AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}},
		}
		x.Run = func(_ context.Context, _ asynctool.Call, in input) (asynctool.Result, error) {
			ran = &in
			return asynctool.Text("done"), nil
		}
	}))
	allowed := func(arguments []byte) bool {
		var members map[string]any
		if json.Unmarshal(arguments, &members) != nil || members == nil {
			return false
		}
		for name, value := range members {
			n, isNumber := value.(float64)
			text, isText := value.(string)
			switch text = strings.TrimSpace(text); {
			case name == "size" && (value == "s" || value == "m"):
			case name == "n" && isNumber && n >= 1 && n <= 9:
			// What means the same, or nothing.
			case name == "n" && value == nil:
			case name == "n" && isText && slices.Contains([]string{"", "null", "undefined"}, text):
			case name == "n" && isText && json.Unmarshal([]byte(text), &n) == nil && n >= 1 && n <= 9:
			default:
				return false
			}
		}
		return members["size"] != nil
	}
	f.Fuzz(func(t *testing.T, arguments []byte) {
		ran = nil
		_, err := e.Run(t.Context(), asynctool.Call{}, arguments)
		if ok := allowed(arguments); ok != (ran != nil) || ok != (err == nil) {
			t.Fatalf("allowed: %t, ran: %t, error: %v", ok, ran != nil, err)
		}
		if ran != nil {
			// What reached the tool follows the rules, too.
			if ran.Size != "s" && ran.Size != "m" || ran.N != nil && (*ran.N < 1 || *ran.N > 9) {
				t.Fatalf("the tool got %+v", *ran)
			}
			return
		}
		e, ok := errors.AsType[*asynctool.ArgumentError](err)
		if !ok || len(e.Message) > 4000 || !strings.HasPrefix(e.Message, "The tool x was not run: ") {
			t.Fatalf("%v (%T)", err, err)
		}
	})
}
