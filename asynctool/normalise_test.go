package asynctool_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
)

// received returns the arguments that a tool with this schema runs with, and the
// error if it does not run.
func received(t *testing.T, schema, arguments string) (string, error) {
	t.Helper()
	var s jsonschema.Schema
	if err := json.Unmarshal([]byte(schema), &s); err != nil {
		t.Fatal(err)
	}
	var got string
	e := only(t, tool("x", func(x *asynctool.Tool[json.RawMessage]) {
		x.Schema = &s
		x.Run = func(_ context.Context, _ asynctool.Call, in json.RawMessage) (asynctool.Result, error) {
			got = string(in)
			return asynctool.Text("done"), nil
		}
	}))
	_, err := e.Run(t.Context(), asynctool.Call{}, json.RawMessage(arguments))
	return got, err
}

// Models write arguments that mean something else than their JSON says.
func TestArgumentsAreNormalised(t *testing.T) {
	const properties = `"text":{"type":"string"},"size":{"enum":["s","m"]},"name":{"type":"string","minLength":1},
		"pieces":{"type":"integer","maximum":9},"price":{"type":"number"},"gift":{"type":"boolean"},
		"note":{"type":["null","string"]},"count":{"type":["null","integer"]},
		"list":{"type":"array","items":{"type":"integer"}},"map":{"type":"object","additionalProperties":{"type":"boolean"}},
		"any":{},"either":{"type":["integer","string"]},"maybe":{"anyOf":[{"type":"number"},{"type":"null"}]},
		"other":{"$ref":"#/$defs/whole"},"inner":{"$ref":"#/$defs/inner"}`
	const optional = `{"type":"object","properties":{` + properties + `},"additionalProperties":false,
		"$defs":{"whole":{"type":"integer"},
			"inner":{"type":"object","properties":{"n":{"type":"integer"},"inner":{"$ref":"#/$defs/inner"}}}}}`
	for name, row := range map[string]struct{ arguments, want string }{
		"nothing to correct": {`{"gift":true,"list":[1],"pieces":3,"price":1.50,"text":"3"}`,
			`{"gift":true,"list":[1],"pieces":3,"price":1.50,"text":"3"}`},

		"null":                        {`{"gift":null,"list":null,"map":null,"pieces":null,"text":null}`, `{}`},
		"null that is not in an enum": {`{"size":null}`, `{}`},
		"null for a reference":        {`{"inner":null,"other":null}`, `{}`},
		"null that the schema allows": {`{"any":null,"count":null,"maybe":null,"note":null}`,
			`{"any":null,"count":null,"maybe":null,"note":null}`},
		"null in an inner object": {`{"inner":{"inner":{"n":null},"n":null}}`, `{"inner":{"inner":{}}}`},

		"blank text":                          {`{"count":"","gift":" ","list":"","maybe":"","pieces":"\n"}`, `{}`},
		"blank text that a rule refuses":      {`{"name":"","size":" "}`, `{}`},
		"blank text for a text":               {`{"any":"","either":"","text":" "}`, `{"any":"","either":"","text":" "}`},
		"words for nothing":                   {`{"gift":"undefined","pieces":"null"}`, `{}`},
		"words for nothing, but it is a text": {`{"name":"null","text":" "}`, `{"name":"null","text":" "}`},

		"whole number as text":         {`{"count":"-3","pieces":" 3 "}`, `{"count":-3,"pieces":3}`},
		"whole number with a fraction": {`{"count":-0.0,"other":"12.00"}`, `{"count":0,"other":12}`},
		"exponent":                     {`{"count":12e2,"pieces":0.4e1}`, `{"count":1200,"pieces":4}`},
		"long digits":                  {`{"count":"12345678901234567890"}`, `{"count":12345678901234567890}`},
		"number as text":               {`{"maybe":"-0.5","price":"1.50"}`, `{"maybe":-0.5,"price":1.50}`},
		"boolean as text":              {`{"gift":"True","map":{"a":"false"}}`, `{"gift":true,"map":{"a":false}}`},
		"number for a text":            {`{"note":1.50,"text":90210}`, `{"note":"1.50","text":"90210"}`},
		"in a list":                    {`{"list":["1",2.0,3]}`, `{"list":[1,2,3]}`},
		"either type":                  {`{"either":"3"}`, `{"either":"3"}`},
		"in an inner object":           {`{"inner":{"inner":{"n":"2"},"n":1.0}}`, `{"inner":{"inner":{"n":2},"n":1}}`},

		"word for a boolean":     {`{"gift":"yes"}`, ``},
		"number for a boolean":   {`{"gift":1}`, ``},
		"boolean for a number":   {`{"pieces":true}`, ``},
		"boolean for a text":     {`{"text":false}`, ``},
		"fraction":               {`{"pieces":"3.5"}`, ``},
		"hexadecimal":            {`{"pieces":"0x3"}`, ``},
		"plus sign":              {`{"pieces":"+3"}`, ``},
		"not a number":           {`{"price":"NaN"}`, ``},
		"breaks a bound":         {`{"pieces":"10"}`, ``},
		"number not in the enum": {`{"size":1}`, ``},
		"null in a list":         {`{"list":[null]}`, ``},
		"unknown, and null":      {`{"colour":null}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := received(t, optional, row.arguments)
			_, refused := err.(*asynctool.ArgumentError)
			if got != row.want || refused != (row.want == "") {
				t.Errorf("the tool got %s, error %v, want %s", got, err, row.want)
			}
		})
	}
	t.Run("required", func(t *testing.T) {
		for _, value := range []string{`null`, `""`, `"null"`} {
			const required = `{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`
			got, err := received(t, required, `{"n":`+value+`}`)
			if _, refused := err.(*asynctool.ArgumentError); !refused {
				t.Errorf("%s: the tool got %s, error %v", value, got, err)
			}
		}
	})
	t.Run("circular reference", func(t *testing.T) {
		const circular = `{"type":"object","properties":{"a":{"$ref":"#/$defs/a"},"b":{"$ref":"#/properties/c"},
			"c":{"type":"integer"}},"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"type":"integer"}]}}}`
		if got, err := received(t, circular, `{"b":1,"c":"2"}`); got != `{"b":1,"c":2}` {
			t.Errorf("the tool got %s, error %v", got, err)
		}
	})
}

// Tool calls that differ only in how the model wrote them ask for the same.
func TestQuestionOfNormalisedArguments(t *testing.T) {
	type input struct {
		Article string `json:"article"`
		Pieces  int    `json:"pieces,omitempty"`
	}
	e := only(t, tool[input]("x"))
	question := func(arguments string) string {
		key, err := e.Question(json.RawMessage(arguments))
		if err != nil {
			t.Errorf("%s: %v", arguments, err)
		}
		return key
	}
	for _, same := range [][2]string{
		{`{"article":"7","pieces":3}`, `{"pieces":"3","article":7}`},
		{`{"article":"a"}`, `{"article":"a","pieces":null}`},
		{`{"article":"a","pieces":3}`, `{"article":"a","pieces":3.0}`},
	} {
		if question(same[0]) != question(same[1]) {
			t.Errorf("%s and %s ask for something else", same[0], same[1])
		}
	}
	if question(`{"article":"a","pieces":3}`) == question(`{"article":"a"}`) {
		t.Error("two different tool calls ask for the same")
	}
}
