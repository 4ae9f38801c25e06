package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
)

// only returns the only tool of a set.
func only(t testing.TB, d asynctool.Definition) *asynctool.Entry {
	t.Helper()
	set, err := asynctool.NewSet(d)
	if err != nil {
		t.Fatal(err)
	}
	return set.Entries()[0]
}

// tool returns a valid tool that answers with a text.
func tool[In any](name string, change ...func(*asynctool.Tool[In])) asynctool.Tool[In] {
	t := asynctool.Tool[In]{
		Name:        name,
		Description: "does something",
		Run: func(context.Context, asynctool.Call, In) (asynctool.Result, error) {
			return asynctool.Text("done"), nil
		},
	}
	for _, c := range change {
		c(&t)
	}
	return t
}

type empty struct{}

func TestDefinitionErrors(t *testing.T) {
	type x = *asynctool.Tool[empty]
	const (
		name    = "the name must be 1 to 64 letters, digits, _ or -"
		one     = "tool x: only one of Hold and HoldAfter is set; set both or neither"
		sameAs  = "tool x: SameAs has no effect if Repeat is allow; set Repeat to join or replace"
		input   = "tool x: the input must be a struct, or a schema of type object"
		invalid = "tool x: the JSON schema is not valid: "
	)
	for label, row := range map[string]struct {
		tool asynctool.Definition
		want string
	}{
		"no name":                  {tool[empty](""), `tool "": ` + name},
		"name with a space":        {tool[empty]("a b"), `tool "a b": ` + name},
		"name with a line break":   {tool[empty]("a\n"), `tool "a\n": ` + name},
		"name with another letter": {tool[empty]("wetter_für"), `tool "wetter_für": ` + name},
		"name of 65": {tool[empty](strings.Repeat("a", 65)),
			`tool "` + strings.Repeat("a", 65) + `": ` + name},
		"name with a digit first": {tool[empty]("2fa_code"), "tool 2fa_code: the name starts with a digit, " +
			"which some models refuse; start it with a letter"},
		"name is a digit": {tool[empty]("7"), "tool 7: the name starts with a digit, " +
			"which some models refuse; start it with a letter"},
		"no description": {tool("x", func(x x) { x.Description = " \n" }),
			"tool x: the description is empty; say what the tool does and when to call it"},
		"no Run": {tool("x", func(x x) { x.Run = nil }), "tool x: the Run function is missing"},
		"negative timeout": {tool("x", func(x x) { x.Timeout = -1 }),
			"tool x: the timeout is -1ns; it must be from 0 to 14m0s"},
		"timeout too long": {tool("x", func(x x) { x.Timeout = asynctool.MaxTimeout + 1 }),
			"tool x: the timeout is 14m0.000000001s; it must be from 0 to 14m0s"},
		"negative attempts": {tool("x", func(x x) { x.Attempts = -1 }),
			"tool x: the number of attempts is -1; it must be from 0 to 10"},
		"too many attempts": {tool("x", func(x x) { x.Attempts = 11 }),
			"tool x: the number of attempts is 11; it must be from 0 to 10"},
		"negative deadline": {tool("x", func(x x) { x.Deadline = -time.Second }),
			"tool x: the deadline is -1s; it must be from 0 to 8760h0m0s"},
		"deadline too long": {tool("x", func(x x) { x.Deadline = asynctool.MaxDeadline + time.Second }),
			"tool x: the deadline is 8760h0m1s; it must be from 0 to 8760h0m0s"},
		"Hold without HoldAfter": {tool("x", func(x x) { x.Hold = "One moment." }), one},
		"HoldAfter without Hold": {tool("x", func(x x) { x.Hold, x.HoldAfter = " \n", time.Minute }), one},
		"HoldAfter too short": {tool("x", func(x x) { x.Hold, x.HoldAfter = "One moment.", time.Second-1 }),
			"tool x: HoldAfter is 999.999999ms; it must be from 1s to 15m0s"},
		"Quick below zero": {tool("x", func(x x) { x.Quick = -1 }), "tool x: Quick is -1ns; it must be from 0 to 25s"},
		"Quick too long": {tool("x", func(x x) { x.Quick = 25*time.Second + 1 }),
			"tool x: Quick is 25.000000001s; it must be from 0 to 25s"},
		"Quick and Say": {tool("x", func(x x) { x.Quick, x.Delivery = time.Second, asynctool.Say }),
			"tool x: Quick has no effect if the delivery is say, because an answer is not spoken word for word; " +
				"remove one of them"},
		"HoldAfter too long": {tool("x", func(x x) { x.Hold, x.HoldAfter = "One moment.", 15*time.Minute+1 }),
			"tool x: HoldAfter is 15m0.000000001s; it must be from 1s to 15m0s"},
		"negative HoldAfter": {tool("x", func(x x) { x.Hold, x.HoldAfter = "One moment.", -time.Minute }),
			"tool x: HoldAfter is -1m0s; it must be from 1s to 15m0s"},
		"unknown Repeat": {tool("x", func(x x) { x.Repeat = "always" }),
			`tool x: the repeat policy is "always"; it must be allow, join or replace`},
		"SameAs without Repeat": {tool("x", func(x x) { x.SameAs = func(empty) string { return "" } }), sameAs},
		"SameAs with Allow": {tool("x", func(x x) {
			x.Repeat, x.SameAs = asynctool.Allow, func(empty) string { return "" }
		}), sameAs},
		"unknown AfterCall": {tool("x", func(x x) { x.AfterCall = "forget" }),
			`tool x: the after-call policy is "forget"; it must be announce, drop, call_back or next_call`},
		"unknown delivery": {tool("x", func(x x) { x.Delivery = "shout" }),
			`tool x: the delivery is "shout"; it must be respond, silent or say`},
		"ExternalProgress word for word": {tool("x", func(x x) { x.ExternalProgress = asynctool.Say }),
			`tool x: ExternalProgress is "say"; it must be silent or respond, because an external system must not ` +
				"speak for the assistant"},
		"unknown ExternalProgress": {tool("x", func(x x) { x.ExternalProgress = "loud" }),
			`tool x: ExternalProgress is "loud"; it must be silent or respond, because an external system must not ` +
				"speak for the assistant"},
		"input is no struct": {tool[string]("x"), input},
		"input is a pointer": {tool[*empty]("x"), input},
		"input holds a func": {tool[struct{ F func() }]("x"), "tool x: cannot infer a JSON schema from its input: " +
			"For[struct { F func() }](): type func() is unsupported by jsonschema"},
		"schema of another type": {tool("x", func(x x) { x.Schema = &jsonschema.Schema{Type: "array"} }), input},
		"Schema and Refine": {tool("x", func(x x) {
			x.Schema, x.Refine = &jsonschema.Schema{Type: "object"}, func(*jsonschema.Schema) {}
		}), "tool x: both Schema and Refine are set; change the Schema itself"},
		"Refine of an unknown argument": {tool("x", func(x x) {
			x.Refine = func(s *jsonschema.Schema) { s.Properties["size"].Pattern = "x" }
		}), "tool x: its Refine function panicked: runtime error: invalid memory address or nil pointer dereference; " +
			"does it name an argument that does not exist?"},
		"Refine breaks the schema": {tool("x", func(x x) {
			x.Refine = func(s *jsonschema.Schema) { s.Pattern = "(" }
		}), invalid},
		"schema refers nowhere": {tool("x", func(x x) {
			x.Schema = &jsonschema.Schema{Type: "object", Ref: "#/$defs/none"}
		}), invalid},
		"unknown static parameter": {tool("x", func(x x) { x.Static = map[string]string{"from": "{{customer.number}}"} }),
			"tool x: the static parameter from is not an argument of the tool; add it to the input struct"},
		"static parameter that is a number": {
			tool("x", func(x *asynctool.Tool[struct{ N int }]) { x.Static = map[string]string{"N": "1"} }),
			"tool x: the static parameter N must be a string in the input struct"},
	} {
		t.Run(label, func(t *testing.T) {
			set, err := asynctool.NewSet(row.tool)
			if set != nil || err == nil || !strings.HasPrefix(err.Error(), row.want) ||
				row.want != invalid && err.Error() != row.want {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}

func TestNewSetListsEveryMistake(t *testing.T) {
	_, err := asynctool.NewSet(
		tool[empty]("a"),
		tool[empty](""),
		tool[empty]("a"),
		tool("b", func(x *asynctool.Tool[empty]) { x.Run = nil }),
	)
	const want = `tool "": the name must be 1 to 64 letters, digits, _ or -
tool a: two tools have this name
tool b: the Run function is missing`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// inFile is a tool that a file declares.
type inFile struct {
	asynctool.Definition
	source string
}

func (f inFile) Source() string { return f.source }

// An error about a tool of a file begins with its place there.
func TestNewSetNamesTheSource(t *testing.T) {
	_, err := asynctool.NewSet(
		tool[empty]("a"),
		inFile{tool[empty]("a"), "http.yaml:2"},
		inFile{tool[empty]("b"), "http.yaml:8"},
		inFile{tool[empty]("b"), "http.json:1"},
		tool[empty]("b"),
		inFile{tool[empty]("cancel_task"), "http.json:4"},
		inFile{tool[empty]("1"), "http.json:9"},
		inFile{tool[empty]("a"), ""},
	)
	const want = `http.yaml:2: tool a: two tools have this name; the other one is in Go
http.json:1: tool b: two tools have this name; the other one is at http.yaml:8
tool b: two tools have this name; the other one is at http.yaml:8
http.json:4: tool cancel_task: the name is reserved for the tool that cancels others; choose another name
http.json:9: tool 1: the name starts with a digit, which some models refuse; start it with a letter
tool a: two tools have this name`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestEntryDefaults(t *testing.T) {
	const neutral = "I'm sorry, I wasn't able to finish that."
	for label, row := range map[string]struct {
		tool asynctool.Definition
		want []any
	}{
		"zero": {tool[empty]("x"), []any{
			"x", "does something", 2 * time.Minute, 1, asynctool.Respond, time.Duration(0), neutral,
			"", time.Duration(0), asynctool.Allow, false, asynctool.Announce, false}},
		"set": {tool(strings.Repeat("y", 64), func(x *asynctool.Tool[empty]) {
			x.Description, x.Timeout, x.Attempts = "\n two words ", asynctool.MaxTimeout, asynctool.MaxAttempts
			x.Delivery, x.Deadline, x.FailureText = asynctool.Silent, asynctool.MaxDeadline, "Sorry."
			x.Hold, x.HoldAfter, x.Repeat = " One moment.\n", time.Second, asynctool.Join
			x.StopWithCall, x.AfterCall = true, asynctool.CallBack
		}), []any{
			strings.Repeat("y", 64), "two words", 14 * time.Minute, 10, asynctool.Silent, 365 * 24 * time.Hour, "Sorry.",
			"One moment.", time.Second, asynctool.Join, true, asynctool.CallBack, false}},
		"other policies": {tool("x", func(x *asynctool.Tool[empty]) {
			x.Hold, x.HoldAfter, x.Repeat = "One moment.", 15*time.Minute, asynctool.Replace
			x.AfterCall, x.SameAs = asynctool.NextCall, func(empty) string { return "" }
		}), []any{
			"x", "does something", 2 * time.Minute, 1, asynctool.Respond, time.Duration(0), neutral,
			"One moment.", 15 * time.Minute, asynctool.Replace, false, asynctool.NextCall, false}},
	} {
		t.Run(label, func(t *testing.T) {
			e := only(t, row.tool)
			got := []any{e.Name, e.Description, e.Timeout, e.Attempts, e.Delivery, e.Deadline, e.FailureText,
				e.Hold, e.HoldAfter, e.Repeat, e.StopWithCall, e.AfterCall, e.Status}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInferredSchema(t *testing.T) {
	type address struct {
		Street string `json:"street" jsonschema:"with the house number"`
		Zip    string `json:"zip,omitempty"`
	}
	type input struct {
		Name     string            `json:"name" jsonschema:"the full name, as it is spelt"`
		Copies   int               `json:"copies,omitempty"`
		Price    float64           `json:"price,omitzero"`
		Express  bool              `json:"express"`
		Address  address           `json:"address"`
		Tags     []string          `json:"tags,omitempty" jsonschema:"any number of words"`
		Labels   map[string]string `json:"labels,omitempty"`
		Untagged uint8
		Hidden   string `json:"-"`
		private  string
	}
	_ = input{}.private
	const want = `{
		"type": "object",
		"properties": {
			"name": {"type": "string", "description": "the full name, as it is spelt"},
			"copies": {"type": "integer"},
			"price": {"type": "number"},
			"express": {"type": "boolean"},
			"address": {
				"type": "object",
				"properties": {
					"street": {"type": "string", "description": "with the house number"},
					"zip": {"type": "string"}
				},
				"required": ["street"],
				"additionalProperties": false
			},
			"tags": {"type": ["null", "array"], "items": {"type": "string"}, "description": "any number of words"},
			"labels": {"type": "object", "additionalProperties": {"type": "string"}},
			"Untagged": {"type": "integer", "minimum": 0, "maximum": 255}
		},
		"required": ["name", "express", "address", "Untagged"],
		"additionalProperties": false
	}`
	schema, err := json.Marshal(only(t, tool[input]("x")).Schema)
	if err != nil {
		t.Fatal(err)
	}
	var got, wanted any
	if err := json.Unmarshal(schema, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Error(diff)
	}
	// The model reads the arguments in the order of the fields.
	i, j := strings.Index(string(schema), `"name":`), strings.Index(string(schema), `"copies":`)
	if i < 0 || j < i {
		t.Errorf("not in the order of the fields: %s", schema)
	}
}

func TestSet(t *testing.T) {
	none, err := asynctool.NewSet()
	if err != nil || len(none.Entries()) != 0 || none.MaxTimeout() != 0 || none.MaxAttempts() != 0 {
		t.Errorf("empty set: %d tools, %s, %d, %v", len(none.Entries()), none.MaxTimeout(), none.MaxAttempts(), err)
	}
	set, err := asynctool.NewSet(
		tool("z", func(x *asynctool.Tool[empty]) { x.Timeout = time.Second }),
		tool("a", func(x *asynctool.Tool[empty]) { x.Timeout, x.Attempts = 3*time.Minute, 2 }),
		tool[struct{ N int }]("m"),
	)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range set.Entries() {
		names = append(names, e.Name)
		if found, ok := set.Lookup(e.Name); !ok || found != e {
			t.Errorf("%s is not found", e.Name)
		}
	}
	if diff := cmp.Diff([]string{"z", "a", "m"}, names); diff != "" {
		t.Error(diff)
	}
	if set.MaxTimeout() != 3*time.Minute || set.MaxAttempts() != 2 {
		t.Errorf("timeout %s, attempts %d", set.MaxTimeout(), set.MaxAttempts())
	}
	for d, want := range map[time.Duration][]string{
		0: {"z", "a", "m"}, time.Second: {"a", "m"}, 2*time.Minute - 1: {"a", "m"}, 2 * time.Minute: {"a"}, time.Hour: nil,
	} {
		if diff := cmp.Diff(want, set.LongerThan(d)); diff != "" {
			t.Errorf("longer than %s: %s", d, diff)
		}
	}
	if _, ok := set.Lookup("Z"); ok {
		t.Error("a name was found in another case")
	}
	set.Entries()[0] = nil
	if set.Entries()[0] == nil {
		t.Error("a caller can change the set")
	}
}

// A name is not similar to itself, but may be to that of another tool.
func TestSimilar(t *testing.T) {
	set, err := asynctool.NewSet(tool[struct{}]("order_status"), tool[struct{}]("status"), tool[struct{}]("refund"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"OrderStatus": "order_status", "order_status": "status", "status": "order_status", "my.refund": "refund",
		"refund": "", "refunds": "", "": "",
	} {
		got := ""
		if e, ok := set.Similar(name); ok {
			got = e.Name
		}
		if got != want {
			t.Errorf("%q means %q, want %q", name, got, want)
		}
	}
}

func TestRunPassesCall(t *testing.T) {
	type key struct{}
	want := asynctool.Call{
		ID: "c", OrgID: "o", Type: "webCall", AssistantID: "a", CustomerNumber: "+1", ToolCallID: "t",
		Attempt: 2, Resumes: 3, State: json.RawMessage(`{"page":4}`), Host: &host{},
	}
	e := only(t, tool("x", func(x *asynctool.Tool[empty]) {
		x.Run = func(ctx context.Context, call asynctool.Call, _ empty) (asynctool.Result, error) {
			if ctx.Value(key{}) != "value" {
				t.Error("the tool got another context")
			}
			if !reflect.DeepEqual(want, call) {
				t.Errorf("%+v, want %+v", call, want)
			}
			return asynctool.Textf("%d of %d", 1, 2), nil
		}
	}))
	result, err := e.Run(context.WithValue(t.Context(), key{}, "value"), want, json.RawMessage(`{}`))
	if err != nil || result.Text != "1 of 2" {
		t.Errorf("%q, %v", result.Text, err)
	}
}

func TestIdempotencyKey(t *testing.T) {
	for _, row := range []struct {
		call asynctool.Call
		want string
	}{
		{asynctool.Call{ID: "c", ToolCallID: "t", Attempt: 1}, "c/t"},
		{asynctool.Call{ID: "c", ToolCallID: "t", Attempt: 2}, "c/t"},
		{asynctool.Call{ID: "c", ToolCallID: "u", Attempt: 1}, "c/u"},
	} {
		if got := row.call.IdempotencyKey(); got != row.want {
			t.Errorf("%q, want %q", got, row.want)
		}
	}
}

type callerInput struct {
	From  string `json:"from" jsonschema:"the caller's number"`
	Size  string `json:"size" jsonschema:"which size"`
	Until string `json:"until,omitempty"`
	Extra string `json:"extra,omitempty"`
}

func callerTool(got *callerInput) asynctool.Tool[callerInput] {
	return asynctool.Tool[callerInput]{
		Name: "x", Description: "does something",
		Refine: func(s *jsonschema.Schema) {
			s.Properties["size"].Enum = []any{"S", "M"}
			s.Properties["from"].Pattern = `^\+`
			s.Properties["until"].Format = "date"
		},
		Static: map[string]string{"from": "{{customer.number}}", "extra": "fixed"},
		Run: func(_ context.Context, _ asynctool.Call, in callerInput) (asynctool.Result, error) {
			*got = in
			return asynctool.Text("done"), nil
		},
	}
}

func TestModelSchemaHidesStaticParameters(t *testing.T) {
	const both = `"size":{"type":"string","description":"which size","enum":["S","M"]},` +
		`"until":{"type":"string","format":"date"}`
	e := only(t, callerTool(new(callerInput)))
	for name, row := range map[string]struct {
		schema *jsonschema.Schema
		want   string
	}{
		"model": {e.ModelSchema(), `{"type":"object","properties":{` + both + `},` +
			`"required":["size"],"additionalProperties":false}`},
		"checked": {e.Schema, `{"type":"object","properties":{` +
			`"from":{"type":"string","description":"the caller's number","pattern":"^\\+"},` + both +
			`,"extra":{"type":"string"}},"required":["from","size"],"additionalProperties":false}`},
	} {
		got, err := json.Marshal(row.schema)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(row.want, string(got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The model never learns of a static parameter, whatever is wrong with it.
func TestStaticParameters(t *testing.T) {
	const (
		missing  = "the static parameter from is missing: the tool at Vapi differs from this one; run ringback sync"
		remedy   = "; correct its template, or make the field optional"
		noValue  = "the static parameter from is empty: Vapi has no value for it in this call" + remedy
		template = "the static parameter from still has its template: Vapi did not fill it in" + remedy
	)
	for name, row := range map[string]struct {
		arguments string
		want      callerInput
		argument  bool   // the model can correct it
		err       string // final, for the operator
	}{
		"all": {
			arguments: `{"size":"S","from":"+15550100","extra":"fixed"}`,
			want:      callerInput{From: "+15550100", Size: "S", Extra: "fixed"},
		},
		"optional left out": {
			arguments: `{"size":"S","from":"+15550100"}`, want: callerInput{From: "+15550100", Size: "S"},
		},
		"missing":           {arguments: `{"size":"S"}`, err: missing},
		"missing with more": {arguments: `{}`, err: missing},
		"violates its pattern": {
			arguments: `{"size":"S","from":"anonymous"}`, err: "the static parameter from violates its schema",
		},
		"of another type": {
			arguments: `{"size":"S","from":"+1","extra":7}`, err: "the static parameter extra violates its schema",
		},
		"empty":              {arguments: `{"size":"S","from":""}`, err: noValue},
		"blank":              {arguments: `{"size":"S","from":" \n"}`, err: noValue},
		"null":               {arguments: `{"size":"S","from":null}`, err: noValue},
		"empty with more":    {arguments: `{"from":"","size":"XL"}`, err: noValue},
		"with its template":  {arguments: `{"size":"S","from":"{{customer.number}}"}`, err: template},
		"partly filled in":   {arguments: `{"size":"S","from":"+1 {{ customer.number | slice: 2 }}"}`, err: template},
		"braces in the text": {arguments: `{"size":"S","from":"+{1}"}`, want: callerInput{From: "+{1}", Size: "S"}},
		"optional, and empty": {
			arguments: `{"size":"S","from":"+1","extra":""}`, want: callerInput{From: "+1", Size: "S"},
		},
		"optional, and null": {
			arguments: `{"size":"S","from":"+1","extra":null}`, want: callerInput{From: "+1", Size: "S"},
		},
		"optional, with a template": {
			arguments: `{"size":"S","from":"+1","extra":"{{x}}"}`, want: callerInput{From: "+1", Size: "S"},
		},
		"argument missing": {arguments: `{"from":"+15550100"}`, argument: true},
		"not in the enum":  {arguments: `{"from":"+15550100","size":"XL"}`, argument: true},
	} {
		t.Run(name, func(t *testing.T) {
			var got callerInput
			_, err := only(t, callerTool(&got)).Run(t.Context(), asynctool.Call{}, json.RawMessage(row.arguments))
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
			if _, ok := errors.AsType[*asynctool.ArgumentError](err); ok != row.argument {
				t.Errorf("%v", err)
			} else if ok && strings.Contains(err.Error(), "from") {
				t.Errorf("the model learns of a static parameter: %v", err)
			}
			final, ok := errors.AsType[*asynctool.Error](err)
			if ok != (row.err != "") || ok && (final.Retry || final.Spoken != "" || final.Error() != row.err) {
				t.Errorf("%v, want %q", err, row.err)
			}
		})
	}
}

// A tool may ask for an empty static parameter itself.
func TestEmptyStaticParameter(t *testing.T) {
	type input struct {
		Tenant string `json:"tenant"`
	}
	ran := false
	e := only(t, tool("x", func(x *asynctool.Tool[input]) {
		x.Static = map[string]string{"tenant": ""}
		x.Run = func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			ran = true
			return asynctool.Text("done"), nil
		}
	}))
	if _, err := e.Run(t.Context(), asynctool.Call{}, json.RawMessage(`{"tenant":""}`)); err != nil || !ran {
		t.Errorf("ran: %t, error: %v", ran, err)
	}
}

// A tool call that will not run asks for nothing.
func TestQuestionWithoutStaticParameter(t *testing.T) {
	e := only(t, callerTool(new(callerInput)))
	for arguments, want := range map[string]bool{
		`{"size":"S","from":"+1"}`:                     true,
		`{"size":"S","from":"+1","extra":""}`:          true,
		`{"size":"S","from":""}`:                       false,
		`{"size":"S","from":"{{customer.number}}"}`:    false,
		`{"size":"S","extra":"fixed"}`:                 false,
		`{"size":"S","from":"anonymous","extra":"{{"}`: false,
	} {
		if _, err := e.Question(json.RawMessage(arguments)); (err == nil) != want {
			t.Errorf("%s: %v", arguments, err)
		}
	}
}
