package wiring_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

const hook = "https://abc123.execute-api.eu-central-1.amazonaws.com/vapi"

type empty struct{}

// tool returns a valid tool.
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

func set(t testing.TB, tools ...asynctool.Definition) *asynctool.Set {
	t.Helper()
	s, err := asynctool.NewSet(tools...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type address struct {
	Street string `json:"street" jsonschema:"with the house number"`
	Zip    string `json:"zip,omitempty"`
}

type rich struct {
	From    string         `json:"from"`
	Name    string         `json:"name" jsonschema:"the caller's full name"`
	Size    string         `json:"size" jsonschema:"which size"`
	Floor   int            `json:"floor,omitempty" jsonschema:"which floor"`
	When    *time.Time     `json:"when,omitempty"`
	Link    string         `json:"link,omitempty"`
	Address address        `json:"address"`
	Parts   []address      `json:"parts,omitempty"`
	Counts  map[string]int `json:"counts,omitempty"`
	Express *bool          `json:"express,omitempty"`
}

func richTool() asynctool.Definition {
	return tool("rich", func(x *asynctool.Tool[rich]) {
		x.Static = map[string]string{"from": "{{customer.number}}"}
		x.Refine = func(s *jsonschema.Schema) {
			s.Properties["size"].Enum = []any{"S", "M"}
			s.Properties["floor"].Enum = []any{0, 1, 2}
			s.Properties["when"].Format = "date-time"
			s.Properties["link"].Format = "uri"
			s.Properties["name"].MaxLength = jsonschema.Ptr(100)
		}
	})
}

const wantAddress = `"type": "object",
	"properties": {
		"street": {"type": "string", "description": "with the house number"},
		"zip": {"type": "string"}
	},
	"required": ["street"],
	"additionalProperties": false`

const wantRich = `{
	"type": "function",
	"async": true,
	"function": {
		"name": "rich",
		"description": "does something",
		"parameters": {
			"type": "object",
			"properties": {
				"name": {"type": "string", "description": "the caller's full name", "maxLength": 100},
				"size": {"type": "string", "description": "which size", "enum": ["S", "M"]},
				"floor": {"type": "integer", "description": "which floor. One of 0, 1, 2."},
				"when": {"type": "string", "format": "date-time"},
				"link": {"type": "string", "description": "In the format uri."},
				"address": {` + wantAddress + `},
				"parts": {"type": "array", "items": {` + wantAddress + `}},
				"counts": {"type": "object", "additionalProperties": {"type": "integer"}},
				"express": {"type": "boolean"}
			},
			"required": ["name", "size", "address"],
			"additionalProperties": false
		},
		"strict": false
	},
	"server": {
		"url": "` + hook + `",
		"credentialId": "cred-1",
		"timeoutSeconds": 20,
		"backoffPlan": {
			"type": "exponential",
			"maxRetries": 3,
			"baseDelaySeconds": 1,
			"excludedStatusCodes": [
				400, 401, 402, 403, 404, 405, 406, 407, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424,
				426, 428, 431, 451
			]
		}
	},
	"messages": [{"type": "request-complete", "role": "system", "content": "CONTENT"}],
	"parameters": [{"key": "from", "value": "{{customer.number}}"}]
}`

// TestTimeout tests that Vapi waits for longer than an answer waits for a result.
func TestTimeout(t *testing.T) {
	for quick, want := range map[time.Duration]int{
		0: 20, time.Second: 20, 15 * time.Second: 20, 15*time.Second + 1: 21, asynctool.MaxQuick: 30,
	} {
		tools := set(t, tool("one", func(x *asynctool.Tool[empty]) { x.Quick = quick }))
		bodies, err := wiring.Bodies(tools, wiring.Endpoint{})
		if err != nil {
			t.Fatal(err)
		}
		if got := bodies[0].Server.TimeoutSeconds; got != want {
			t.Errorf("%s: %d s, want %d s", quick, got, want)
		}
	}
}

func TestBody(t *testing.T) {
	bodies, err := wiring.Bodies(set(t, richTool()), wiring.Endpoint{URL: hook, CredentialID: "cred-1"})
	if err != nil {
		t.Fatal(err)
	}
	content := bodies[0].Messages[0].Content
	for _, part := range []string{"rich has only started", "[async tool result]", "Do not guess"} {
		if !strings.Contains(content, part) {
			t.Errorf("the message does not contain %q: %s", part, content)
		}
	}
	bodies[0].Messages[0].Content = "CONTENT"
	got, err := json.MarshalIndent(bodies[0], "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var want vapiclient.Tool
	if err := json.Unmarshal([]byte(wantRich), &want); err != nil {
		t.Fatal(err)
	}
	wanted, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	// Compare text, because the model reads the arguments in their order.
	if diff := cmp.Diff(string(wanted), string(got)); diff != "" {
		t.Error(diff)
	}
}

// TestBodiesAreValid checks every kind of tool, including those in tools/, against
// Vapi's OpenAPI description.
func TestBodiesAreValid(t *testing.T) {
	all, err := shop.All()
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, richTool(), tool[empty](strings.Repeat("n", 64)),
		tool("sync_acked", func(x *asynctool.Tool[empty]) { x.SyncAck = true }))
	for _, at := range []wiring.Endpoint{{}, {URL: hook, CredentialID: "550e8400-e29b-41d4-a716-446655440000"}} {
		tools := set(t, all...)
		bodies, err := wiring.Bodies(tools, at)
		if err != nil {
			t.Fatal(err)
		}
		if len(bodies) != len(tools.Entries()) || bodies[len(bodies)-1].Function.Name != asynctool.CancelTaskName {
			t.Fatalf("%d bodies of %d tools", len(bodies), len(tools.Entries()))
		}
		for _, body := range bodies {
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			if err := fakevapi.Check("CreateFunctionToolDTO", text); err != nil {
				t.Errorf("%s: %v\n%s", body.Function.Name, err, text)
			}
			wantAsync := !slices.Contains(
				[]string{"sync_acked", asynctool.TaskStatusName, asynctool.CancelTaskName}, body.Function.Name)
			if body.Async != wantAsync || len(body.Messages) > 0 != wantAsync {
				t.Errorf("%s: async %t with %d messages", body.Function.Name, body.Async, len(body.Messages))
			}
		}
	}
}

// TestSchemaRefuses verifies that the test above can fail.
func TestSchemaRefuses(t *testing.T) {
	member := func(member string) string { return `{"type":"function",` + member + `}` }
	parameters := func(schema string) string { return member(`"function":{"name":"x","parameters":` + schema + `}`) }
	argument := func(schema string) string { return parameters(`{"type":"object","properties":{"a":` + schema + `}}`) }
	for name, body := range map[string]string{
		"no type":         `{"async":true}`,
		"unknown member":  member(`"strict":true`),
		"name too long":   member(`"function":{"name":"` + strings.Repeat("n", 65) + `"}`),
		"long message":    member(`"messages":[{"type":"request-complete","content":"` + strings.Repeat("n", 1001) + `"}]`),
		"two types":       argument(`{"type":["null","array"]}`),
		"enum of numbers": argument(`{"type":"object","properties":{"b":{"type":"integer","enum":[1]}}}`),
		"unknown format":  argument(`{"type":"string","format":"uri"}`),
		"no properties":   parameters(`{"type":"object"}`),
		"list of what?":   argument(`{"type":"array"}`),
		"too many retries": member(
			`"server":{"backoffPlan":{"type":"fixed","maxRetries":11,"baseDelaySeconds":1}}`),
		"timeout too long": member(`"server":{"timeoutSeconds":301}`),
	} {
		if fakevapi.Check("CreateFunctionToolDTO", []byte(body)) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestToolsThatVapiDoesNotAccept(t *testing.T) {
	schema := func(text string) asynctool.Definition {
		var s jsonschema.Schema
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		return tool("x", func(x *asynctool.Tool[empty]) { x.Schema = &s })
	}
	for name, row := range map[string]struct {
		tool asynctool.Definition
		want string
	}{
		"any type": {tool[struct{ A any }]("x"), "tool x: the argument A has no type; Vapi requires one"},
		"nested":   {tool[struct{ A struct{ B []any } }]("x"), "tool x: the argument A.B[] has no type; Vapi requires one"},
		"several types": {schema(`{"type":"object","properties":{"a":{"type":["string","integer","null"]}}}`),
			"tool x: the argument a may have several types (string, integer); Vapi accepts one"},
		"references": {
			schema(`{"type":"object","$defs":{"a":{"type":"string"}},"properties":{"a":{"$ref":"#/$defs/a"}}}`),
			"tool x: its schema has references, which Vapi does not accept; replace each by its definition"},
		"bare list": {schema(`{"type":"object","properties":{"a":{"type":"array"}}}`),
			"tool x: the argument a is a list whose items have no type; Vapi requires one"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := wiring.Bodies(set(t, row.tool), wiring.Endpoint{})
			if err == nil || err.Error() != row.want {
				t.Errorf("%v, want %s", err, row.want)
			}
		})
	}
}

// TestStrict checks what OpenAI accepts in strict mode. Any other schema fails every
// call of the assistant.
func TestStrict(t *testing.T) {
	// object returns the schema of an object with required arguments.
	object := func(properties string, required ...string) string {
		list, _ := json.Marshal(required)
		return `{"type":"object","properties":{` + properties + `},"required":` + string(list) +
			`,"additionalProperties":false}`
	}
	const optional = `{"type":"object","properties":{"b":{"type":"boolean"}},"additionalProperties":false}`
	deep := `{"type":"string"}`
	for range 6 {
		deep = object(`"a":`+deep, "a")
	}
	for name, row := range map[string]struct {
		schema string
		want   bool
	}{
		"all required":      {object(`"a":{"type":"string","description":"x"}`, "a"), true},
		"bounds of numbers": {object(`"a":{"type":"integer","minimum":1,"maximum":9}`, "a"), true},
		"an enum and a pattern": {
			object(`"a":{"type":"string","enum":["x"]},"b":{"type":"string","pattern":"^A"}`, "b", "a"), true},
		"a list": {
			object(`"a":{"type":"array","minItems":1,"items":{"type":"string","format":"date"}}`, "a"), true},
		"nested":             {object(`"a":`+object(`"b":{"type":"boolean"}`, "b"), "a"), true},
		"one optional":       {object(`"a":{"type":"string"},"b":{"type":"string"}`, "a"), false},
		"nested optional":    {object(`"a":`+optional, "a"), false},
		"optional in a list": {object(`"a":{"type":"array","items":`+optional+`}`, "a"), false},
		"others allowed":     {`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`, false},
		"a map":              {object(`"a":{"type":"object","additionalProperties":{"type":"string"}}`, "a"), false},
		"a text's length":    {object(`"a":{"type":"string","maxLength":9}`, "a"), false},
		"a default":          {object(`"a":{"type":"string","default":"x"}`, "a"), false},
		"one of":             {object(`"a":{"type":"string","oneOf":[{"const":"x"}]}`, "a"), false},
		"no arguments":       {`{"type":"object","additionalProperties":false}`, false},
		"too deep":           {deep, false},
	} {
		t.Run(name, func(t *testing.T) {
			var s jsonschema.Schema
			if err := json.Unmarshal([]byte(row.schema), &s); err != nil {
				t.Fatal(err)
			}
			x := tool("x", func(x *asynctool.Tool[empty]) { x.Schema = &s })
			bodies, err := wiring.Bodies(set(t, x), wiring.Endpoint{})
			if err != nil {
				t.Fatal(err)
			}
			if bodies[0].Function.Strict != row.want {
				t.Errorf("strict is %t for %s", bodies[0].Function.Strict, bodies[0].Function.Parameters)
			}
		})
	}
}

// Vapi fills in a static parameter, so an optional one does not prevent strict mode.
func TestStrictWithoutStatic(t *testing.T) {
	bodies, err := wiring.Bodies(set(t, tool("x", func(x *asynctool.Tool[struct {
		From string `json:"from,omitempty"`
		City string `json:"city"`
	}]) {
		x.Static = map[string]string{"from": "{{customer.number}}"}
	})), wiring.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	if !bodies[0].Function.Strict {
		t.Errorf("not strict: %s", bodies[0].Function.Parameters)
	}
}

func TestParseURL(t *testing.T) {
	for text, ok := range map[string]bool{
		hook: true, "https://hooks.example.com:8443/vapi?stage=dev": true,
		"": false, "http://example.com/vapi": false, "http://127.0.0.1:8787/vapi": false, "example.com/vapi": false,
		"https:///vapi": false, "https://user:secret@example.com/vapi": false, "https://example.com/vapi#x": false,
		"https://exa mple.com/": false,
	} {
		got, err := wiring.ParseURL(text)
		if (err == nil) != ok || ok && got != text {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error contains a password: %v", err)
		}
	}
}
