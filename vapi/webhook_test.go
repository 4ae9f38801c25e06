package vapi_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ringback/ringback/vapi"
)

const recordedToolCall = `{"id":"call_51kj","type":"function",
"function":{"name":"quote","arguments":{"zip":"10001","n":[1,2.5e3]}}}`

// recordedWebhook has the members of a recorded webhook, with made-up values.
const recordedWebhook = `{"message":{"timestamp":1715000000123,"type":"tool-calls",
"toolCalls":[` + recordedToolCall + `],
"toolCallList":[` + recordedToolCall + `],
"toolWithToolCallList":[{"type":"function","async":true,
"function":{"name":"quote","parameters":{"type":"object"}},
"server":{"url":"https://x.example/vapi","secret":"s"},
"toolCall":` + recordedToolCall + `}],
"artifact":{"messages":[{"role":"system","message":"You \"quote\".\n","time":1714999990000.5}]},
"call":{"id":"c-1","orgId":"o-1","type":"inboundPhoneCall","status":"queued","assistantId":"a-1","squadId":null,
"monitor":{"listenUrl":"wss://h.vapi.ai/c-1/listen","controlUrl":"https://h.vapi.ai/c-1/control"},
"customer":{"number":"+15550001111"},"phoneNumberId":"p-1"},
"phoneNumber":{"id":"p-1"},"customer":{"number":"+15550001111"},
"assistant":{"id":"a-1","name":"A","maxDurationSeconds":1800,"model":{"toolIds":["t-1"]}}}}`

// sameMessage compares messages: arguments except for white space, and errors by whether there is
// one.
var sameMessage = gocmp.Options{
	gocmp.Comparer(func(a, b json.RawMessage) bool {
		var x, y bytes.Buffer
		return len(a)+len(b) == 0 ||
			json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
	}),
	gocmp.FilterPath(func(p gocmp.Path) bool { return p.Last().String() == ".Err" },
		gocmp.Comparer(func(a, b error) bool { return (a == nil) == (b == nil) })),
}

func mustParse(t *testing.T, body string) vapi.Message {
	t.Helper()
	m, err := vapi.ParseMessage([]byte(body))
	if err != nil {
		t.Fatalf("%.200s: %v", body, err)
	}
	return m
}

func TestParseMessageRecorded(t *testing.T) {
	body := []byte(recordedWebhook)
	got, err := vapi.ParseMessage(body)
	if err != nil {
		t.Fatal(err)
	}
	clear(body) // with which the message shares no memory
	want := vapi.Message{
		Type:      "tool-calls",
		Timestamp: time.UnixMilli(1715000000123).UTC(),
		ToolCalls: []vapi.ToolCall{{
			ID: "call_51kj", Name: "quote", Async: true,
			Arguments: json.RawMessage(`{"zip":"10001","n":[1,2.5e3]}`),
		}},
		Call: vapi.Call{
			ID: "c-1", OrgID: "o-1", Type: "inboundPhoneCall", AssistantID: "a-1",
			PhoneNumberID: "p-1", CustomerNumber: "+15550001111", ControlURL: "https://h.vapi.ai/c-1/control",
			MaxDuration: 30 * time.Minute,
		},
	}
	if diff := gocmp.Diff(want, got, sameMessage); diff != "" {
		t.Error(diff)
	}
}

func TestParseMessageToolCallShapes(t *testing.T) {
	const call = `{"id":"1","name":"x","arguments":{"a":1}}`
	list := func(item string) string { return `{"message":{"toolCallList":[` + item + `]}}` }
	function := func(members string) string { return list(`{"id":"1","function":{"name":"x"` + members + `}}`) }
	flat := func(members string) string { return list(`{"id":"1","name":"x"` + members + `}`) }
	calls := func(items string) string { return `{"toolCalls":[` + items + `]}` }
	tools := func(items string) string { return `{"message":{"toolWithToolCallList":[` + items + `]}}` }
	for _, row := range []struct {
		name, body string
		arguments  string
		async      bool
	}{
		{"object arguments", function(`,"arguments":{"a":1}`), `{"a":1}`, false},
		{"string arguments", function(`,"arguments":"{\"a\":\"\\u00e9\"}"`), `{"a":"\u00e9"}`, false},
		{"string arguments with white space", function(`,"arguments":" \n{ }\t"`), `{}`, false},
		{"empty string arguments", function(`,"arguments":""`), `{}`, false},
		{"null arguments", function(`,"arguments":null`), `{}`, false},
		{"blank string arguments", function(`,"arguments":" \n"`), `{}`, false},
		{"empty list as arguments", function(`,"arguments":[ ]`), `{}`, false},
		{"string of an empty list", function(`,"arguments":"[\n]"`), `{}`, false},
		{"string of null", function(`,"arguments":"null"`), `{}`, false},
		{"string of undefined", flat(`,"arguments":" undefined "`), `{}`, false},
		{"empty list encoded twice", flat(`,"arguments":"\"[]\""`), `{}`, false},
		{"blank string encoded twice", flat(`,"arguments":"\"\""`), `{}`, false},
		{"arguments encoded twice", function(`,"arguments":"\"{\\\"a\\\":1}\""`), `{"a":1}`, false},
		{"empty list, then parameters", function(`,"arguments":[],"parameters":{"b":1}`), `{"b":1}`, false},
		{"undefined, then parameters", flat(`,"arguments":"undefined","parameters":{"b":1}`), `{"b":1}`, false},
		{"no arguments", function(``), `{}`, false},
		{"function.parameters", function(`,"parameters":{"a":1}`), `{"a":1}`, false},
		{"arguments before parameters", function(`,"parameters":{"b":1},"arguments":{"a":1}`), `{"a":1}`, false},
		{"null arguments, then parameters", function(`,"arguments":null,"parameters":{"b":1}`), `{"b":1}`, false},
		{"flat parameters", flat(`,"parameters":{"a":1}`), `{"a":1}`, false},
		{"flat arguments", flat(`,"arguments":{"a":1}`), `{"a":1}`, false},
		{"flat string arguments", flat(`,"arguments":"{\"a\":1}"`), `{"a":1}`, false},
		{"function is not an object", list(`{"id":"1","function":"f","name":"x"}`), `{}`, false},
		{"no wrapper", `{"type":"tool-calls","toolCallList":[` + call + `]}`, `{"a":1}`, false},
		{"message is not an object", `{"message":"hi","toolCallList":[` + call + `]}`, `{"a":1}`, false},
		{"wrapper before the rest",
			`{"toolCallList":[{"id":"2","name":"y"}],"message":` + calls(call) + `}`, `{"a":1}`, false},
		{"toolCalls only", calls(call), `{"a":1}`, false},
		{"empty toolCallList", `{"message":{"toolCallList":[ ],"toolCalls":[` + call + `]}}`, `{"a":1}`, false},
		{"toolCallList is a string", `{"message":{"toolCallList":"[]","toolCalls":[` + call + `]}}`, `{"a":1}`, false},
		{"toolWithToolCallList only", tools(`{"toolCall":` + call + `}`), `{"a":1}`, false},
		{"async", tools(`{"toolCall":` + call + `,"async":true}`), `{"a":1}`, true},
		{"async is not a boolean", tools(`{"async":"true","toolCall":` + call + `}`), `{"a":1}`, false},
		{"async of the first of the same",
			tools(`{"async":true,"toolCall":` + call + `},{"async":false,"toolCall":` + call + `}`), `{"a":1}`, true},
		{"async of another id",
			`{"toolWithToolCallList":[{"async":true,"toolCall":{"id":"2"}}],"toolCalls":[` + call + `]}`, `{"a":1}`, false},
		{"escaped names", `{"m\u0065ssage":{"toolCallL\u0069st":` +
			`[{"\u0069d":"\u0031","n\u0061me":"\u0078","argument\u0073":{"a":1}}]}}`, `{"a":1}`, false},
		{"names differ in case", `{"Message":{},"message":{"ToolCallList":[],"toolCallList":` +
			`[{"ID":"2","id":"1","name":"x","Arguments":{},"arguments":{"a":1}}]}}`, `{"a":1}`, false},
		{"the same twice", calls(call + `,{"id":"1","function":{"name":"x","arguments":"{ \"a\":1}"}}`), `{"a":1}`, false},
		{"repeated member",
			calls(`{"id":"2","id":"1","name":"y","name":"x","arguments":{"b":1},"arguments":{"a":1}}`), `{"a":1}`, false},
		{"repeated function", calls(`{"id":"1","function":{"name":"y","arguments":{"b":1}},` +
			`"function":{"name":"x","parameters":{"a":1}}}`), `{"a":1}`, false},
		{"repeated message", `{"message":{"toolCallList":[{"id":"2","name":"y"}],"type":"y"},` +
			`"message":` + calls(call) + `}`, `{"a":1}`, false},
		{"message is replaced", `{"message":{"type":"y"},"message":null,"toolCalls":[` + call + `]}`, `{"a":1}`, false},
		{"byte order mark", "\uFEFF" + calls(call), `{"a":1}`, false},
		{"type tool_calls", `{"message":{"type":"tool_calls","toolCalls":[` + call + `]}}`, `{"a":1}`, false},
		{"role tool_calls", `{"message":{"role":"tool_calls","toolCalls":[` + call + `]}}`, `{"a":1}`, false},
		{"functionCall of another type",
			`{"functionCall":{"id":"2","name":"y"},"toolCalls":[` + call + `]}`, `{"a":1}`, false},
		{"not UTF-8", flat(`,"arguments":{"a":"` + "\xff" + `"}`), `{"a":"` + "\uFFFD" + `"}`, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			want := vapi.Message{Type: "tool-calls", ToolCalls: []vapi.ToolCall{
				{ID: "1", Name: "x", Arguments: json.RawMessage(row.arguments), Async: row.async}}}
			if diff := gocmp.Diff(want, mustParse(t, row.body), sameMessage); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestParseMessageFunctionCall reads the message that tool-calls has replaced.
func TestParseMessageFunctionCall(t *testing.T) {
	webhook := func(members string) string {
		return `{"message":{"type":"function-call",` + members + `,"call":{"id":"c"}}}`
	}
	only := func(body string) vapi.ToolCall {
		t.Helper()
		m := mustParse(t, body)
		if m.Type != vapi.TypeFunctionCall || m.Call.ID != "c" || len(m.ToolCalls) != 1 {
			t.Fatalf("%s: got %+v", body, m)
		}
		return m.ToolCalls[0]
	}
	for _, row := range []struct{ members, arguments string }{
		{`"functionCall":{"name":"x","parameters":{"a":1}}`, `{"a":1}`},
		{`"functionCall":{"name":"x","parameters":"{\"a\":1}"}`, `{"a":1}`},
		{`"functionCall":{"name":"x","arguments":{"a":1}}`, `{"a":1}`},
		{`"functionCall":{"name":"x","parameters":null}`, `{}`},
		{`"functionCall":{"name":"x"},"toolCalls":[{"id":"1","name":"y"}]`, `{}`},
	} {
		got := only(webhook(row.members))
		want := vapi.ToolCall{ID: got.ID, Name: "x", Arguments: json.RawMessage(row.arguments)}
		if diff := gocmp.Diff(want, got, sameMessage); diff != "" || len(got.ID) < 20 {
			t.Errorf("%s: id %q\n%s", row.members, got.ID, diff)
		}
	}

	const first = `"timestamp":1715000000123,"functionCall":{"name":"x","parameters":{"a":1}}`
	id := only(webhook(first)).ID
	if again := only(webhook(first)).ID; again != id {
		t.Errorf("the id of the repeated webhook is %q, not %q", again, id)
	}
	for _, other := range []string{
		`"timestamp":1715000000124,"functionCall":{"name":"x","parameters":{"a":1}}`,
		`"timestamp":1715000000123,"functionCall":{"name":"y","parameters":{"a":1}}`,
		`"timestamp":1715000000123,"functionCall":{"name":"x","parameters":{"a":2}}`,
	} {
		if only(webhook(other)).ID == id {
			t.Errorf("%s has the same id", other)
		}
	}
	if given := only(webhook(`"functionCall":{"id":"f","name":"x"}`)).ID; given != "f" {
		t.Errorf("id %q, want the one of the message", given)
	}

	for members, problem := range map[string]string{
		`"functionCall":{"parameters":{}}`:             "no function name",
		`"functionCall":{"name":"x","parameters":[1]}`: "not a JSON object",
		`"functionCall":"x"`:                           "not an object",
		`"x":1`:                                        "not an object",
	} {
		if err := only(webhook(members)).Err; err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: error %v, want %q", members, err, problem)
		}
	}
}

// Some senders put the call beside the message.
func TestParseMessageCallBesideTheMessage(t *testing.T) {
	for _, row := range []struct {
		body string
		want vapi.Call
	}{
		{`{"message":{"type":"t"},"call":{"id":"c","monitor":{"controlUrl":"https://x"}},"customer":{"number":"+1"}}`,
			vapi.Call{ID: "c", ControlURL: "https://x", CustomerNumber: "+1"}},
		{`{"message":{"type":"t","customer":{"number":"+1"}},"call":{"id":"c"},"customer":{"number":"+2"},
			"assistant":{"id":"a"}}`, vapi.Call{ID: "c", CustomerNumber: "+1", AssistantID: "a"}},
		{`{"message":{"type":"t","call":{"id":"c"}},"call":{"id":"d","orgId":"o"},"customer":{"number":"+2"}}`,
			vapi.Call{ID: "c"}},
		{`{"message":{"type":"t","call":null},"call":{"id":"d"}}`, vapi.Call{}},
		{`{"message":{"type":"t","assistant":{"maxDurationSeconds":10}},"call":{"id":"c",
			"squad":{"members":[{"assistant":{"maxDurationSeconds":60}}]}}}`, vapi.Call{ID: "c", MaxDuration: time.Minute}},
		{`{"message":{"type":"t","assistant":{"maxDurationSeconds":10}},"call":{"id":"c","squadId":"s"}}`,
			vapi.Call{ID: "c"}},
		{`{"message":{"type":"t","chat":{"id":"h"}},"call":{"id":"d"}}`, vapi.Call{ID: "h", Type: "chat"}},
		{`{"message":{"type":"t","customer":{"number":"+1"}},"chat":{"id":"h"}}`, vapi.Call{CustomerNumber: "+1"}},
	} {
		if diff := gocmp.Diff(vapi.Message{Type: "t", Call: row.want}, mustParse(t, row.body)); diff != "" {
			t.Errorf("%s\n%s", row.body, diff)
		}
	}
}

func TestParseMessageUnusableToolCalls(t *testing.T) {
	long := strings.Repeat("i", 4097)
	large := `{"a":"` + strings.Repeat("v", 256<<10) + `"}`
	deep := strings.Repeat(`{"a":`, 9901) + `1` + strings.Repeat(`}`, 9901)
	unnamed := vapi.ToolCall{ID: "1"}
	unusable := func(raw string) vapi.ToolCall {
		return vapi.ToolCall{ID: "1", Name: "x", Unusable: json.RawMessage(raw)}
	}
	arguments := func(raw string) string { return `{"id":"1","name":"x","arguments":` + raw + `}` }
	for _, row := range []struct {
		name, item string
		want       vapi.ToolCall // without Arguments and Err
		problem    string
	}{
		{"number", `7`, vapi.ToolCall{}, "not an object"},
		{"null", `null`, vapi.ToolCall{}, "not an object"},
		{"empty object", `{}`, vapi.ToolCall{}, "no function name"},
		{"long id", `{"id":"` + long + `","name":"x"}`, vapi.ToolCall{ID: long, Name: "x"}, "longer than 4096 bytes"},
		{"no name", `{"id":"1"}`, unnamed, "no function name"},
		{"null as name", `{"id":"1","function":{"name":null}}`, unnamed, "no function name"},
		{"long name", `{"id":"1","name":"` + long[:129] + `"}`,
			vapi.ToolCall{ID: "1", Name: long[:129]}, "longer than 128 bytes"},
		{"list as arguments", arguments(`[1]`), unusable(`[1]`), "not a JSON object"},
		{"false as arguments", arguments(`false`), unusable(`false`), "not a JSON object"},
		{"string of a list", arguments(`"[1]"`), unusable(`"[1]"`), "not a JSON object"},
		{"string of a list of nothing", arguments(`"[null]"`), unusable(`"[null]"`), "not a JSON object"},
		{"string of a string", arguments(`"\"secret\""`), unusable(`"\"secret\""`), "exactly one JSON object"},
		{"object encoded three times", arguments(`"\"\\\"{}\\\"\""`), unusable(`"\"\\\"{}\\\"\""`), "not a JSON object"},
		{"string of two objects", arguments(`"{}{}"`), unusable(`"{}{}"`), "exactly one JSON object"},
		{"string with garbage", arguments(`"{} x"`), unusable(`"{} x"`), "exactly one JSON object"},
		{"string of half an object", arguments(`"{\"secret\":"`), unusable(`"{\"secret\":"`), "exactly one JSON object"},
		{"undefined, with more", arguments(`"undefined {}"`), unusable(`"undefined {}"`), "exactly one JSON object"},
		{"deep string", arguments(string(mustMarshal(deep))), unusable(string(mustMarshal(deep))), "exactly one JSON object"},
		{"large arguments", arguments(large), unusable(large), "larger than 256 KiB"},
		{"large string arguments", arguments(string(mustMarshal(large))), unusable(string(mustMarshal(large))),
			"larger than 256 KiB"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := mustParse(t, `{"toolCallList":[{"id":"ok1","name":"x"},`+row.item+`,{"id":"ok2","name":"x"}]}`)
			row.want.Arguments = json.RawMessage(`{}`)
			row.want.Err = errors.New(row.problem)
			want := []vapi.ToolCall{
				{ID: "ok1", Name: "x", Arguments: json.RawMessage(`{}`)},
				row.want,
				{ID: "ok2", Name: "x", Arguments: json.RawMessage(`{}`)},
			}
			if diff := gocmp.Diff(want, got.ToolCalls, sameMessage); diff != "" {
				t.Fatal(diff)
			}
			text := got.ToolCalls[1].Err.Error()
			if !strings.Contains(text, row.problem) || strings.Contains(text, "secret") {
				t.Errorf("error %q, want %q", text, row.problem)
			}
		})
	}
}

func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

func TestParseMessageAtTheLimits(t *testing.T) {
	arguments := `{"a":"` + strings.Repeat("v", 256<<10-8) + `"}`
	deep := strings.Repeat(`{"a":`, 9900) + `1` + strings.Repeat(`}`, 9900)
	id, name := strings.Repeat("i", 4096), strings.Repeat("n", 128)
	for _, given := range []string{arguments, string(mustMarshal(arguments)), string(mustMarshal(deep))} {
		got := mustParse(t, `{"toolCalls":[{"id":"`+id+`","name":"`+name+`","arguments":`+given+`}]}`)
		if c := got.ToolCalls[0]; c.Err != nil || c.ID != id || c.Name != name {
			t.Errorf("id of %d bytes, name of %d, error %v", len(c.ID), len(c.Name), c.Err)
		}
	}
}

func TestParseMessageManyToolCalls(t *testing.T) {
	var items []string
	for i := range 2000 {
		items = append(items, fmt.Sprintf(`{"id":"%d","name":"x"}`, i))
	}
	for _, row := range []struct{ items, calls, usable int }{
		{127, 127, 127}, {128, 128, 128}, {129, 129, 128}, {1024, 1024, 128}, {1025, 1025, 128}, {2000, 1025, 128},
	} {
		for _, list := range []string{
			`"toolCallList":[` + strings.Join(items[:row.items], ",") + `]`,
			`"toolWithToolCallList":[{"toolCall":` + strings.Join(items[:row.items], `},{"toolCall":`) + `}]`,
		} {
			got := mustParse(t, `{"message":{`+list+`}}`)
			usable := 0
			for i, c := range got.ToolCalls {
				rest := i == 1024
				if !rest && c.ID != fmt.Sprint(i) || c.Err != nil && i < 128 || c.Async != rest {
					t.Fatalf("tool call %d is %+v", i, c)
				}
				if c.Err == nil {
					usable++
				}
			}
			if len(got.ToolCalls) != row.calls || usable != row.usable {
				t.Errorf("%+v: got %d tool calls, %d usable", row, len(got.ToolCalls), usable)
			}
		}
	}
}

// TestParseMessageRepeatedIDs has ids that a model uses for several tool calls, or leaves out.
func TestParseMessageRepeatedIDs(t *testing.T) {
	call := func(id, name, arguments string) string {
		return fmt.Sprintf(`{"id":%q,"type":"function","function":{"name":%q,"arguments":%s}}`, id, name, arguments)
	}
	tool := func(async bool, toolCall string) string {
		return fmt.Sprintf(`{"async":%t,"toolCall":%s}`, async, toolCall)
	}
	first, second, other := call("0", "x", `{"a":1,"b":2}`), call("0", "x", `{"a":2}`), call("0", "y", `{}`)
	for name, row := range map[string]struct {
		calls, tools []string // no calls means that only the tools have them
		want         string   // of each tool call: the id, the name, the arguments, and * if it is async
	}{
		"other arguments": {[]string{first, second}, nil, `0 x {"a":1,"b":2}, 0 x {"a":2}`},
		"another name":    {[]string{first, other}, nil, `0 x {"a":1,"b":2}, 0 y {}`},
		"the same, in another form": {
			[]string{first, second, call("0", "x", `{"b":2,"a":1}`), call("0", "x", `"{\"a\":2}"`)}, nil,
			`0 x {"a":1,"b":2}, 0 x {"a":2}`,
		},
		"unusable arguments": {
			[]string{call("0", "x", `[1]`), call("0", "x", `[2]`), call("0", "x", `[1]`), call("0", "x", `{}`)}, nil,
			`0 x {}, 0 x {}, 0 x {}`,
		},
		"no id": {
			[]string{call("", "x", `{}`), call("", "x", `{}`), `{"id":7,"name":"x"}`}, nil, ` x {},  x {},  x {}`,
		},
		"one of them is async": {
			[]string{first, second, other}, []string{tool(false, other), tool(true, second), tool(false, first)},
			`0 x {"a":1,"b":2}, 0 x {"a":2}*, 0 y {}`,
		},
		"one of them is async, in another form": {
			[]string{first, other}, []string{tool(false, other), tool(true, call("0", "x", `"{\"b\":2,\"a\":1}"`))},
			`0 x {"a":1,"b":2}*, 0 y {}`,
		},
		"async by position": {
			[]string{first, other}, []string{tool(false, call("0", "", "{}")), tool(true, call("0", "", "{}"))},
			`0 x {"a":1,"b":2}, 0 y {}*`,
		},
		"async of the only tool": {
			[]string{first, second}, []string{tool(true, `{"id":"0"}`)}, `0 x {"a":1,"b":2}*, 0 x {"a":2}*`,
		},
		"async without ids": {
			[]string{call("", "x", `{}`), call("", "y", `{}`)},
			[]string{tool(true, call("", "y", `{}`)), tool(false, call("", "x", `{}`))},
			` x {},  y {}*`,
		},
		"async of something else": {
			[]string{`7`, first}, []string{tool(true, `7`), tool(false, first)}, `  {}*, 0 x {"a":1,"b":2}`,
		},
		"only tools": {
			nil, []string{tool(true, first), tool(false, other), tool(true, `7`)}, `0 x {"a":1,"b":2}*, 0 y {},   {}*`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := mustParse(t, fmt.Sprintf(`{"message":{"toolCallList":[%s],"toolWithToolCallList":[%s]}}`,
				strings.Join(row.calls, ","), strings.Join(row.tools, ",")))
			var got []string
			for _, c := range m.ToolCalls {
				async := map[bool]string{true: "*"}[c.Async]
				got = append(got, fmt.Sprintf("%s %s %s%s", c.ID, c.Name, c.Arguments, async))
			}
			if strings.Join(got, ", ") != row.want {
				t.Errorf("%s, want %s", strings.Join(got, ", "), row.want)
			}
		})
	}
}

func TestParseMessageSeveralToolCalls(t *testing.T) {
	got := mustParse(t, `{"message":{"type":"tool-calls",
		"toolWithToolCallList":[{"toolCall":{"id":"b"},"async":true},7,{"toolCall":"b"},{"async":true},
			{"toolCall":{"id":"c"},"async":false}],
		"toolCallList":[{"id":"a","name":"x"},{"id":"b","name":"y"},{"id":"a","name":"z"},{"id":"c","name":"x"}]}}`)
	none := json.RawMessage(`{}`)
	want := []vapi.ToolCall{
		{ID: "a", Name: "x", Arguments: none},
		{ID: "b", Name: "y", Arguments: none, Async: true},
		{ID: "a", Name: "z", Arguments: none},
		{ID: "c", Name: "x", Arguments: none},
	}
	if diff := gocmp.Diff(want, got.ToolCalls, sameMessage); diff != "" {
		t.Error(diff)
	}
}

func TestParseMessageServerTimeout(t *testing.T) {
	for tools, want := range map[string]time.Duration{
		``:                                 0,
		`{}`:                               0,
		`7,{}`:                             0,
		`{"server":{"timeoutSeconds":45}}`: 45 * time.Second,
		`{"server":{"timeoutSeconds":7.5}},{"server":{}}`:                    7500 * time.Millisecond,
		`{"server":{"timeoutSeconds":45}},{"server":{}}`:                     vapi.DefaultServerTimeout,
		`{"server":{"timeoutSeconds":45}},{"server":{"timeoutSeconds":30}}`:  30 * time.Second,
		`{"server":{"timeoutSeconds":3000}}`:                                 300 * time.Second,
		`{"server":{"timeoutSeconds":-1}},{"server":{"timeoutSeconds":"9"}}`: 0,
	} {
		got := mustParse(t, `{"message":{"type":"tool-calls","toolWithToolCallList":[`+tools+`]}}`)
		if got.ServerTimeout != want {
			t.Errorf("[%s]: %s, want %s", tools, got.ServerTimeout, want)
		}
	}
}

func TestParseMessageCall(t *testing.T) {
	long := strings.Repeat("u", 2049)
	for _, row := range []struct {
		name, members string
		want          vapi.Call
	}{
		{"no call", `"x":1`, vapi.Call{}},
		{"null", `"call":null,"customer":null,"assistant":null,"chat":null`, vapi.Call{}},
		{"wrong types", `"call":{"id":1,"orgId":[],"type":{},"assistantId":true,"customer":"+1",
			"monitor":{"controlUrl":7}},"assistant":[{"id":"a"}]`, vapi.Call{}},
		{"call is a list", `"call":[{"id":"c"}]`, vapi.Call{}},
		{"assistant in the call", `"call":{"id":"c","assistant":{"id":"a","maxDurationSeconds":60}}`,
			vapi.Call{ID: "c", AssistantID: "a", MaxDuration: time.Minute}},
		{"assistant in the message", `"call":{"id":"c"},"assistant":{"id":"a","maxDurationSeconds":90.5}`,
			vapi.Call{ID: "c", AssistantID: "a", MaxDuration: 90500 * time.Millisecond}},
		{"the call's assistant id first", `"assistant":{"id":"3","maxDurationSeconds":1},
			"call":{"id":"c","assistant":{"id":"2","maxDurationSeconds":2},"assistantId":"1"}`,
			vapi.Call{ID: "c", AssistantID: "1", MaxDuration: 2 * time.Second}},
		{"unusable duration", `"assistant":{"maxDurationSeconds":-1},
			"call":{"id":"c","assistant":{"maxDurationSeconds":1e300}}`, vapi.Call{ID: "c"}},
		{"duration is a string", `"assistant":{"maxDurationSeconds":"60"},
			"call":{"id":"c","assistant":{"maxDurationSeconds":1e999}}`, vapi.Call{ID: "c"}},
		{"customer in the message", `"customer":{"number":"+1"},"call":{"id":"c"}`,
			vapi.Call{ID: "c", CustomerNumber: "+1"}},
		{"customer in the call first", `"customer":{"number":"+1"},"call":{"id":"c","customer":{"number":"+2"}}`,
			vapi.Call{ID: "c", CustomerNumber: "+2"}},
		{"phone number of the call", `"call":{"id":"c","phoneNumberId":"p"}`,
			vapi.Call{ID: "c", PhoneNumberID: "p"}},
		{"phone number of the message", `"call":{"id":"c","phoneNumberId":""},"phoneNumber":{"id":"p"}`,
			vapi.Call{ID: "c", PhoneNumberID: "p"}},
		{"the call's phone number first", `"phoneNumber":{"id":"q"},"call":{"id":"c","phoneNumberId":"p"}`,
			vapi.Call{ID: "c", PhoneNumberID: "p"}},
		{"phone numbers of the wrong types", `"phoneNumber":"q","call":{"id":"c","phoneNumberId":["p"]}`,
			vapi.Call{ID: "c"}},
		{"a session of a call", `"call":{"id":"c","sessionId":"s"},"chat":{"sessionId":"s"}`, vapi.Call{ID: "c"}},
		{"control is off", `"call":{"id":"c","monitor":{"listenUrl":"wss://x"}}`, vapi.Call{ID: "c"}},
		{"long control URL", `"call":{"id":"c","monitor":{"controlUrl":"` + long + `"}}`, vapi.Call{ID: "c"}},
		{"control URL at the limit", `"call":{"id":"c","monitor":{"controlUrl":"` + long[1:] + `"}}`,
			vapi.Call{ID: "c", ControlURL: long[1:]}},
		{"chat", `"chat":{"id":"h","orgId":"o","assistantId":"a"},"customer":{"number":"+1"},
			"assistant":{"id":"b","maxDurationSeconds":60}`,
			vapi.Call{ID: "h", OrgID: "o", Type: "chat", AssistantID: "a", CustomerNumber: "+1"}},
		{"chat in a session", `"chat":{"id":"h","sessionId":"s","assistantId":"a"},"phoneNumber":{"id":"p"}`,
			vapi.Call{ID: "h", Type: "chat", AssistantID: "a", SessionID: "s", PhoneNumberID: "p", SMS: true}},
		{"chat to a phone number without an id", `"chat":{"id":"h"},"phoneNumber":{"number":"+1"}`,
			vapi.Call{ID: "h", Type: "chat", SMS: true}},
		{"chat without a phone number", `"chat":{"id":"h"},"phoneNumber":null`, vapi.Call{ID: "h", Type: "chat"}},
		{"long session id", `"chat":{"id":"h","sessionId":"` + long + `"}`, vapi.Call{ID: "h", Type: "chat"}},
		{"chat of an inline assistant", `"call":null,"chat":{"id":"h"},"assistant":{"id":"b"}`,
			vapi.Call{ID: "h", Type: "chat", AssistantID: "b"}},
		{"call before chat", `"call":{"id":"c","type":"webCall"},"chat":{"id":"h"}`,
			vapi.Call{ID: "c", Type: "webCall"}},
		{"repeated call", `"call":{"id":"c","orgId":"o","monitor":{"controlUrl":"https://x"}},
			"call":{"type":"webCall","id":"d"}`, vapi.Call{ID: "d", Type: "webCall"}},
		{"call is replaced by a number", `"call":{"id":"c","orgId":"o"},"call":0`, vapi.Call{}},
		{"members with dots", `"call.id":"c","call":{"monitor.controlUrl":"x"}`, vapi.Call{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, body := range []string{`{"message":{"type":"t",` + row.members + `}}`, `{"type":"t",` + row.members + `}`} {
				if diff := gocmp.Diff(vapi.Message{Type: "t", Call: row.want}, mustParse(t, body)); diff != "" {
					t.Errorf("%s\n%s", body, diff)
				}
			}
		})
	}
}

// TestParseMessageMaxDuration tests how long a call can last, if the message shows several bounds.
func TestParseMessageMaxDuration(t *testing.T) {
	const greeter = `{"assistant":{"maxDurationSeconds":10}}`
	for name, row := range map[string]struct {
		call string // beside an assistant with 10 seconds
		want time.Duration
	}{
		"the assistant alone":        {`"assistantId":"a"`, 10 * time.Second},
		"overrides of the call":      {`"assistantOverrides":{"maxDurationSeconds":3600}`, time.Hour},
		"overrides that are shorter": {`"assistantOverrides":{"maxDurationSeconds":5}`, 10 * time.Second},
		"the call itself":            {`"maxDurationSeconds":3600`, time.Hour},
		"a workflow":                 {`"workflow":{"maxDurationSeconds":3600}`, time.Hour},
		"overrides of a workflow":    {`"workflowOverrides":{"maxDurationSeconds":3600}`, time.Hour},
		"a member of the squad": {
			`"squad":{"members":[` + greeter + `,{"assistant":{"maxDurationSeconds":3600}}]}`,
			time.Hour,
		},
		"a member's overrides": {
			`"squad":{"members":[` + greeter + `,{"assistantOverrides":{"maxDurationSeconds":3600}}]}`,
			time.Hour,
		},
		"a member that shows none":   {`"squad":{"members":[` + greeter + `,{"assistantId":"b"}]}`, 0},
		"a member of the wrong type": {`"squad":{"members":[` + greeter + `,"b"]}`, 0},
		"overrides of all members": {
			`"squad":{"members":[{"assistantId":"b"}],"membersOverrides":{"maxDurationSeconds":60}}`,
			time.Minute,
		},
		"overrides of the squad": {
			`"squad":{"members":[{"assistantId":"b"}]},"squadOverrides":{"maxDurationSeconds":60}`,
			time.Minute,
		},
		"a squad by its id":           {`"squadId":"s"`, 0},
		"a squad by its id, shown":    {`"squadId":"s","squad":{"members":[` + greeter + `]}`, 10 * time.Second},
		"a squad by its id, bounded":  {`"squadId":"s","squadOverrides":{"maxDurationSeconds":60}`, time.Minute},
		"a squad without members":     {`"squad":{"members":[]}`, 10 * time.Second},
		"no squad":                    {`"squadId":"","squad":null`, 10 * time.Second},
		"a call that was transferred": {`"destination":{"maxDurationSeconds":3600}`, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			for _, body := range []string{`{"message":{%s}}`, `{%s}`} {
				body = fmt.Sprintf(body, `"type":"t","assistant":{"maxDurationSeconds":10},"call":{"id":"c",`+row.call+`}`)
				if got := mustParse(t, body).Call.MaxDuration; got != row.want {
					t.Errorf("%s: %s, want %s", body, got, row.want)
				}
				checkAgainstMaps(t, []byte(body))
			}
		})
	}
}

// TestParseMessageArchitecture tests what a message shows of its call's architecture.
func TestParseMessageArchitecture(t *testing.T) {
	const (
		unknown = vapi.ArchitectureUnknown
		classic = vapi.ArchitectureClassic
		live    = vapi.ArchitectureGPTLive
	)
	for name, row := range map[string]struct {
		model string
		want  vapi.Architecture
	}{
		"no model":              {`null`, unknown},
		"an empty model":        {`{}`, unknown},
		"a model without names": {`{"messages":[{"role":"system","content":"gpt-live"}],"toolIds":["t"]}`, unknown},
		"a model of one name":   {`{"model":"gpt-4.1","provider":"openai"}`, classic},
		"a provider alone":      {`{"provider":"custom-llm","url":"https://llm.example.com"}`, classic},
		"GPT-Live":              {`{"model":"gpt-live-1","provider":"openai"}`, live},
		"a later GPT-Live":      {`{"provider":"openai","model":"GPT-Live-2.5-mini"}`, live},
		"a name that has it":    {`{"model":"not-gpt-live"}`, classic},
		"a speaker":             {`{"model":"next","speaker":{"instructions":"Be kind."}}`, live},
		"a reasoner":            {`{"reasoner":{"skills":[]},"provider":"openai"}`, live},
		"a speaker of no type":  {`{"model":"gpt-4.1","speaker":null,"reasoner":"x"}`, classic},
		"a name of no type":     {`{"model":7}`, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			for _, body := range []string{
				`"assistant":{"model":%s},"call":{"id":"c"}`,
				`"call":{"id":"c","assistant":{"model":%s}}`,
				`"assistant":{"model":{"messages":[]}},"call":{"id":"c","assistant":{"model":%s}}`,
				`"assistant":{"model":{}},"call":{"id":"c","assistantOverrides":{"model":%s}}`,
			} {
				for _, wrapper := range []string{`{"message":{"type":"t",%s}}`, `{"type":"t",%s}`} {
					document := fmt.Sprintf(wrapper, fmt.Sprintf(body, row.model))
					if got := mustParse(t, document).Call.Architecture; got != row.want {
						t.Errorf("%s: %q, want %q", document, got, row.want)
					}
					checkAgainstMaps(t, []byte(document))
				}
			}
		})
	}
}

func TestParseMessageStatus(t *testing.T) {
	for _, row := range []struct {
		members      string
		status       string
		began, ended bool
	}{
		{`"type":"status-update","status":"in-progress"`, vapi.StatusInProgress, true, false},
		{`"type":"status-update","status":"ended","endedReason":"customer-ended-call"`, vapi.StatusEnded, false, true},
		{`"type":"status-update","status":"forwarding"`, "forwarding", false, false},
		{`"type":"status-update","status":"queued","call":{"id":"c","status":"ended"}`, "queued", false, false},
		{`"type":"status-update","call":{"id":"c","status":"ended"}`, "", false, false},
		{`"type":"status-update","status":["ended"]`, "", false, false},
		{`"type":"status-update","status":"` + strings.Repeat("s", 2049) + `"`, "", false, false},
		{`"type":"end-of-call-report","endedReason":"hangup"`, "", false, true},
		{`"type":"speech-update","status":"ended"`, "", false, false},
		{`"type":"conversation-update","status":"in-progress"`, "", false, false},
		{`"status":"ended","toolCalls":[{"id":"1","name":"x"}]`, "", false, false},
	} {
		for _, body := range []string{`{"message":{` + row.members + `}}`, `{` + row.members + `}`} {
			got := mustParse(t, body)
			if got.Status != row.status || got.CallBegan() != row.began || got.CallEnded() != row.ended {
				t.Errorf("%.80s: status %q, began %v, ended %v", body, got.Status, got.CallBegan(), got.CallEnded())
			}
		}
	}
}

func TestParseMessageTimestamp(t *testing.T) {
	at := time.Date(2024, 5, 6, 12, 53, 20, 0, time.UTC)
	for _, row := range []struct {
		raw  string
		want time.Time
	}{
		{`1715000000000`, at},
		{`1.715e12`, at},
		{`1715000000000.9`, at},
		{`0`, time.UnixMilli(0)},
		{`"2024-05-06T12:53:20.000Z"`, at},
		{`"2024-05-06T14:53:20+02:00"`, at},
		{`253402300799999`, time.UnixMilli(253402300799999)},
		{`253402300800000`, time.Time{}},
		{`"9999-12-31T23:59:59-01:00"`, time.Time{}},
		{`"0001-01-01T00:00:00+01:00"`, time.Time{}},
		{`-1`, time.Time{}},
		{`1e400`, time.Time{}},
		{`null`, time.Time{}},
		{`"soon"`, time.Time{}},
		{`{"$date":1}`, time.Time{}},
	} {
		got := mustParse(t, `{"message":{"type":"hang","timestamp":`+row.raw+`}}`)
		if !got.Timestamp.Equal(row.want) {
			t.Errorf("%s: got %v, want %v", row.raw, got.Timestamp, row.want)
		}
		if _, err := json.Marshal(got.Timestamp); err != nil {
			t.Errorf("%s: %v", row.raw, err)
		}
	}
}

// TestParseMessageBegan reads when the call began.
func TestParseMessageBegan(t *testing.T) {
	const created, started = `"createdAt":"2024-05-06T12:53:20.000Z"`, `"startedAt":"2024-05-06T14:53:21.500+02:00"`
	at := time.Date(2024, 5, 6, 12, 53, 20, 0, time.UTC)
	for call, want := range map[string]time.Time{
		`"type":"inboundPhoneCall",` + created: at,
		`"type":"webCall",` + created:          at,
		created + "," + started:                at.Add(1500 * time.Millisecond),
		// It was created when it was scheduled, and began later.
		`"type":"outboundPhoneCall",` + created:                 {},
		`"type":"outboundPhoneCall",` + created + "," + started: at.Add(1500 * time.Millisecond),
		`"createdAt":"yesterday"`:                               {},
		`"createdAt":{}`:                                        {},
		`"type":"webCall"`:                                      {},
	} {
		if got := mustParse(t, `{"message":{"type":"tool-calls","call":{`+call+`}}}`).Call.Began; !got.Equal(want) {
			t.Errorf("%s: %v, want %v", call, got, want)
		}
	}
}

func TestParseMessageErrors(t *testing.T) {
	deep := func(n int) string {
		return `{"type":"t","x":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`
	}
	for _, row := range []struct {
		name, body string
		want       error
	}{
		{"empty", ``, vapi.ErrNotJSON},
		{"blank", " \n", vapi.ErrNotJSON},
		{"list", `[{"type":"t"}]`, vapi.ErrNotJSON},
		{"null", `null`, vapi.ErrNotJSON},
		{"form", `type=t`, vapi.ErrNotJSON},
		{"byte order mark", "\uFEFF" + `{"type":"t"}`, nil},
		{"byte order mark alone", "\uFEFF", vapi.ErrNotJSON},
		{"two byte order marks", "\uFEFF\uFEFF" + `{"type":"t"}`, vapi.ErrNotJSON},
		{"byte order mark after a space", " \uFEFF" + `{"type":"t"}`, vapi.ErrNotJSON},
		{"half a byte order mark", "\xef\xbb" + `{"type":"t"}`, vapi.ErrNotJSON},
		{"garbage after it", `{"type":"t"} x`, vapi.ErrNotJSON},
		{"NUL after it", `{"type":"t"}` + "\x00", vapi.ErrNotJSON},
		{"two documents", `{"type":"t"}{}`, vapi.ErrNotJSON},
		{"cut off", `{"type":"t","x":"`, vapi.ErrNotJSON},
		{"broken in a skipped part", `{"type":"t","artifact":{"messages":[1,]}}`, vapi.ErrNotJSON},
		{"too deep", deep(10001), vapi.ErrNotJSON},
		{"deep", deep(10000), nil},
		{"empty object", `{}`, vapi.ErrNoMessage},
		{"empty message", `{"message":{}}`, vapi.ErrNoMessage},
		{"type outside of the message", `{"type":"t","message":{}}`, vapi.ErrNoMessage},
		{"type is a number", `{"message":{"type":7}}`, vapi.ErrNoMessage},
		{"no tool calls", `{"message":{"toolCallList":[],"toolCalls":{}}}`, vapi.ErrNoMessage},
		{"type without tool calls", `{"message":{"type":"tool-calls"}}`, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := vapi.ParseMessage([]byte(row.body))
			if !errors.Is(err, row.want) {
				t.Fatalf("got error %v, want %v", err, row.want)
			}
			if err != nil {
				if err.Error() == row.want.Error() {
					t.Errorf("error %q does not name the cause", err)
				}
				if diff := gocmp.Diff(vapi.Message{}, got); diff != "" {
					t.Errorf("a message with an error:\n%s", diff)
				}
			}
		})
	}
}

// ParseMessage must not build the transcript in memory.
func TestParseMessageMemory(t *testing.T) {
	body := webhookOfSize(1 << 20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := vapi.ParseMessage(body)
	runtime.ReadMemStats(&after)
	if err != nil || len(m.ToolCalls) != 1 || m.ToolCalls[0].Err != nil || m.Call.ControlURL == "" {
		t.Fatalf("error %v, message %+v", err, m)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<10 {
		t.Errorf("parsing %d bytes allocated %d", len(body), took)
	}
}

// parseByMaps parses a webhook by the rules of ParseMessage in the simplest way: it decodes
// everything into maps.
func parseByMaps(body []byte) (vapi.Message, error) {
	object := func(raw json.RawMessage) map[string]json.RawMessage {
		var m map[string]json.RawMessage
		if json.Unmarshal(raw, &m) != nil {
			return nil
		}
		return m
	}
	more := false // than 1024 tool calls
	list := func(raw json.RawMessage) []json.RawMessage {
		var l []json.RawMessage
		if json.Unmarshal(raw, &l) != nil {
			return nil
		}
		more = len(l) > 1024
		return l[:min(len(l), 1024)]
	}
	str := func(raw json.RawMessage) string {
		var v any
		_ = json.Unmarshal(raw, &v)
		s, _ := v.(string)
		return s
	}
	text := func(raw json.RawMessage) string {
		if s := str(raw); len(s) <= 2048 {
			return s
		}
		return ""
	}
	number := func(raw json.RawMessage) (float64, bool) {
		var v any
		_ = json.Unmarshal(raw, &v)
		f, ok := v.(float64)
		return f, ok
	}

	top := object(bytes.TrimPrefix(body, []byte("\uFEFF")))
	if top == nil {
		return vapi.Message{}, vapi.ErrNotJSON
	}
	msg := object(top["message"])
	if msg == nil {
		msg = top
	}
	at := func(raw json.RawMessage) time.Time {
		if ms, ok := number(raw); ok && ms >= 0 && ms < 253402300800000 {
			return time.UnixMilli(int64(ms))
		}
		at, err := time.Parse(time.RFC3339, str(raw))
		if err != nil || at.Unix() < 0 || at.UTC().Year() >= 10000 {
			return time.Time{}
		}
		return at
	}
	m := vapi.Message{Type: text(msg["type"]), Timestamp: at(msg["timestamp"])}

	withTools := list(msg["toolWithToolCallList"])
	moreTools := more
	calls := list(msg["toolCallList"])
	if len(calls) == 0 {
		calls = list(msg["toolCalls"])
	}
	fromTools := len(calls) == 0
	if fromTools {
		more = moreTools
		for _, item := range withTools {
			calls = append(calls, object(item)["toolCall"])
		}
	}
	old := m.Type == "function-call"
	if old {
		calls, withTools, fromTools, more = []json.RawMessage{msg["functionCall"]}, nil, false, false
	}
	shortest, shown := 300*time.Second, false
	for _, tool := range withTools {
		timeout, seconds := 20*time.Second, 0.0
		err := json.Unmarshal(object(object(tool)["server"])["timeoutSeconds"], &seconds)
		if err == nil && seconds > 0 && seconds <= 31*86400 {
			timeout, shown = time.Duration(seconds*float64(time.Second)), true
		}
		shortest = min(shortest, timeout)
	}
	if shown {
		m.ServerTimeout = shortest
	}
	parse := func(raw json.RawMessage) vapi.ToolCall {
		item := object(raw)
		function := object(item["function"])
		c := vapi.ToolCall{
			ID:        str(item["id"]),
			Name:      cmp.Or(str(function["name"]), str(item["name"])),
			Arguments: json.RawMessage("{}"),
		}
		// decoded is the value, without the encodings around it. It is nil if there are no arguments.
		decode := func(raw json.RawMessage) (decoded json.RawMessage, encoded int) {
			for ; encoded < 2 && bytes.HasPrefix(raw, []byte(`"`)); encoded++ {
				raw = json.RawMessage(strings.Trim(str(raw), " \t\r\n"))
			}
			var empty []any
			if json.Unmarshal(raw, &empty) == nil && len(empty) == 0 || encoded > 0 && len(raw) == 0 ||
				encoded > 0 && string(raw) == "undefined" {
				return nil, 0
			}
			return raw, encoded
		}
		for _, raw := range []json.RawMessage{
			function["arguments"], function["parameters"], item["arguments"], item["parameters"],
		} {
			given, encoded := decode(raw)
			if raw == nil || given == nil {
				continue
			}
			switch {
			case object(given) != nil && len(given) <= 256<<10 && (encoded == 0 ||
				json.Valid([]byte(strings.Repeat("[", 100)+string(given)+strings.Repeat("]", 100)))):
				c.Arguments = json.RawMessage(strings.ToValidUTF8(string(given), "\uFFFD"))
			default:
				c.Unusable, c.Err = raw, errors.New("arguments")
			}
			break
		}
		if old && item != nil && c.ID == "" {
			sum := sha256.Sum256([]byte(string(msg["timestamp"]) + " " + strconv.Quote(c.Name) + " " + string(c.Arguments)))
			c.ID = "function-call-" + hex.EncodeToString(sum[:8])
		}
		if len(c.ID) > 4096 || c.Name == "" || len(c.Name) > 128 {
			c.Err = errors.New("id or name")
		}
		return c
	}
	equal := func(a, b vapi.ToolCall) bool {
		value := func(c vapi.ToolCall) (v any) {
			given := c.Arguments
			if c.Unusable != nil {
				given = c.Unusable
			}
			d := json.NewDecoder(bytes.NewReader(given))
			d.UseNumber()
			_ = d.Decode(&v)
			return v
		}
		return a.ID == b.ID && a.Name == b.Name && reflect.DeepEqual(value(a), value(b))
	}
	async := func(i int, c vapi.ToolCall) bool {
		is := func(tool json.RawMessage) bool { return string(object(tool)["async"]) == "true" }
		if fromTools {
			return is(withTools[i])
		}
		var same []json.RawMessage
		for _, tool := range withTools {
			if str(object(object(tool)["toolCall"])["id"]) == c.ID {
				same = append(same, tool)
			}
		}
		switch {
		case len(same) == 0:
			return false
		case len(same) == 1 && c.ID != "":
			return is(same[0])
		}
		for _, tool := range same {
			if c.Name != "" && equal(c, parse(object(tool)["toolCall"])) {
				return is(tool)
			}
		}
		if i < len(withTools) && str(object(object(withTools[i])["toolCall"])["id"]) == c.ID {
			return is(withTools[i])
		}
		return c.ID != "" && is(same[0])
	}
	for i, raw := range calls {
		c := parse(raw)
		c.Async = async(i, c)
		if c.ID == "" || !slices.ContainsFunc(m.ToolCalls, func(earlier vapi.ToolCall) bool { return equal(earlier, c) }) {
			m.ToolCalls = append(m.ToolCalls, c)
		}
	}
	for i := 128; i < len(m.ToolCalls); i++ {
		m.ToolCalls[i].Err = errors.New("number")
	}
	if more {
		m.ToolCalls = append(m.ToolCalls, vapi.ToolCall{
			Arguments: json.RawMessage("{}"), Async: true, Err: errors.New("number"),
		})
	}
	if m.Type == "" {
		if m.ToolCalls == nil {
			return vapi.Message{}, vapi.ErrNoMessage
		}
		m.Type = "tool-calls"
	}
	if m.Type == "tool_calls" {
		m.Type = "tool-calls"
	}
	if m.Type == "status-update" {
		m.Status = text(msg["status"])
	}

	phone := msg["phoneNumber"]
	if msg["call"] == nil && msg["chat"] == nil && top["call"] != nil {
		if phone == nil {
			phone = top["phoneNumber"]
		}
		for _, name := range []string{"call", "chat", "phoneNumber", "customer", "assistant"} {
			msg[name] = mergeMembers(object, msg[name], top[name])
		}
	}
	call, chat, assistant := object(msg["call"]), object(msg["chat"]), object(msg["assistant"])
	if id := text(chat["id"]); id != "" && text(call["id"]) == "" {
		m.Call = vapi.Call{
			ID: id, OrgID: text(chat["orgId"]), Type: "chat",
			AssistantID: cmp.Or(text(chat["assistantId"]), text(object(chat["assistant"])["id"]),
				text(assistant["id"])),
			SessionID:      text(chat["sessionId"]),
			SMS:            object(phone) != nil,
			PhoneNumberID:  text(object(msg["phoneNumber"])["id"]),
			CustomerNumber: text(object(msg["customer"])["number"]),
		}
		return m, nil
	}
	m.Call = vapi.Call{
		ID: text(call["id"]), OrgID: text(call["orgId"]), Type: text(call["type"]),
		AssistantID:    cmp.Or(text(call["assistantId"]), text(object(call["assistant"])["id"]), text(assistant["id"])),
		PhoneNumberID:  cmp.Or(text(call["phoneNumberId"]), text(object(msg["phoneNumber"])["id"])),
		CustomerNumber: cmp.Or(text(object(call["customer"])["number"]), text(object(msg["customer"])["number"])),
		ControlURL:     text(object(call["monitor"])["controlUrl"]),
	}
	m.Call.Began = at(call["startedAt"])
	if m.Call.Began.IsZero() && m.Call.Type != "outboundPhoneCall" {
		m.Call.Began = at(call["createdAt"])
	}
	overrides, inCall := object(call["assistantOverrides"]), object(call["assistant"])
	for _, of := range []map[string]json.RawMessage{overrides, assistant, inCall} {
		model := object(of["model"])
		name := str(model["model"])
		switch {
		case m.Call.Architecture != "":
		case object(model["speaker"]) != nil, object(model["reasoner"]) != nil,
			strings.HasPrefix(strings.ToLower(name), "gpt-live"):
			m.Call.Architecture = vapi.ArchitectureGPTLive
		case name != "", str(model["provider"]) != "":
			m.Call.Architecture = vapi.ArchitectureClassic
		}
	}
	longest := func(bounded ...map[string]json.RawMessage) (d time.Duration) {
		for _, b := range bounded {
			if s, ok := number(b["maxDurationSeconds"]); ok && s > 0 && s <= 31*24*3600 {
				d = max(d, time.Duration(s*1e9))
			}
		}
		return d
	}
	squad := object(call["squad"])
	ofMembers := longest(object(squad["membersOverrides"]), object(call["squadOverrides"]))
	d := max(ofMembers, longest(assistant, call, inCall, overrides,
		object(call["workflow"]), object(call["workflowOverrides"])))
	unknown := str(call["squadId"]) != "" && len(list(squad["members"])) == 0
	for _, raw := range list(squad["members"]) {
		member := object(raw)
		own := longest(object(member["assistant"]), object(member["assistantOverrides"]))
		d, unknown = max(d, own), unknown || own == 0
	}
	if ofMembers > 0 || !unknown {
		m.Call.MaxDuration = d
	}
	return m, nil
}

// mergeMembers returns the object with the members of both values that are objects. Those of the
// first count. A value that is no object has no members.
func mergeMembers(
	object func(json.RawMessage) map[string]json.RawMessage, first, second json.RawMessage,
) json.RawMessage {
	merged := map[string]json.RawMessage{}
	for _, raw := range []json.RawMessage{second, first} {
		for name, value := range object(raw) {
			merged[name] = value
		}
	}
	return mustMarshal(merged)
}

func checkAgainstMaps(t interface {
	Helper()
	Fatalf(string, ...any)
}, body []byte) {
	t.Helper()
	got, err := vapi.ParseMessage(body)
	want, wantErr := parseByMaps(body)
	if wantErr != nil {
		if !errors.Is(err, wantErr) {
			t.Fatalf("%.500q\ngot error %v, want %v", body, err, wantErr)
		}
		return
	}
	if err != nil {
		t.Fatalf("%.500q\ngot error %v", body, err)
	}
	if diff := gocmp.Diff(want, got, sameMessage); diff != "" {
		t.Fatalf("%.500q\n%s", body, diff)
	}
}

func TestParseMessageGeneratedBodies(t *testing.T) {
	for _, size := range []int{2 << 10, 40 << 10, 1 << 20} {
		checkAgainstMaps(t, webhookOfSize(size))
	}
}

// TestParseMessageProperty draws documents from the names and values that ParseMessage reads, in
// the right places and in wrong ones.
func TestParseMessageProperty(t *testing.T) {
	names := rapid.SampledFrom([]string{
		`"message"`, `"message"`, `"m\u0065ssage"`, `"type"`, `"timestamp"`, `"toolCallList"`, `"toolCalls"`,
		`"toolWithToolCallList"`, `"toolCall"`, `"async"`, `"id"`, `"\u0069d"`, `"name"`, `"function"`,
		`"arguments"`, `"parameters"`, `"call"`, `"chat"`, `"orgId"`, `"assistantId"`, `"assistant"`,
		`"customer"`, `"number"`, `"monitor"`, `"controlUrl"`, `"maxDurationSeconds"`, `"status"`,
		`"phoneNumber"`, `"phoneNumberId"`, `"sessionId"`, `"squad"`, `"squadId"`, `"squadOverrides"`, `"members"`,
		`"membersOverrides"`, `"assistantOverrides"`, `"workflow"`, `"workflowOverrides"`, `"functionCall"`,
		`"createdAt"`, `"startedAt"`,
		`"ID"`, `""`, `"x"`,
	})
	leaves := rapid.SampledFrom([]string{
		`null`, `true`, `false`, `0`, `-1`, `60`, `1715000000000`, `1e999`, `""`, `"a"`, `"b"`, `"\u0061"`,
		`"{\"a\":1}"`, `"{} x"`, `"[]"`, `" {}"`, `" "`, `"null"`, `"undefined"`,
		`"\"{}\""`, `"\"\\\"{}\\\"\""`, `"2024-05-06T12:53:20Z"`, `"status-update"`, `"ended"`,
		`"function-call"`, `"tool_calls"`, `"outboundPhoneCall"`, "\"\xff\"", `"\ud800"`, `{}`, `[]`,
	})
	spaces := rapid.SampledFrom([]string{"", "", "", " ", "\n\t\r"})
	// The members of a real message, so that values deep inside are reached.
	inside := map[string][]string{
		`""`:             {`"message"`, `"message"`, `"type"`, `"call"`, `"customer"`, `"assistant"`, `"functionCall"`},
		`"functionCall"`: {`"id"`, `"name"`, `"arguments"`, `"parameters"`},
		`"message"`: {`"type"`, `"toolCallList"`, `"functionCall"`, `"toolCalls"`, `"toolWithToolCallList"`,
			`"call"`, `"chat"`, `"assistant"`, `"customer"`, `"timestamp"`, `"status"`, `"phoneNumber"`},
		`"toolCallList"`:         {`"id"`, `"name"`, `"function"`, `"arguments"`, `"parameters"`},
		`"toolCalls"`:            {`"id"`, `"name"`, `"function"`, `"arguments"`},
		`"toolWithToolCallList"`: {`"async"`, `"toolCall"`},
		`"toolCall"`:             {`"id"`, `"name"`, `"function"`},
		`"function"`:             {`"name"`, `"arguments"`, `"parameters"`},
		`"call"`: {`"id"`, `"orgId"`, `"type"`, `"assistantId"`, `"assistant"`, `"customer"`, `"monitor"`,
			`"phoneNumberId"`, `"maxDurationSeconds"`, `"squad"`, `"squadId"`, `"squadOverrides"`,
			`"assistantOverrides"`, `"workflow"`, `"workflowOverrides"`},
		`"squad"`:              {`"members"`, `"members"`, `"membersOverrides"`},
		`"members"`:            {`"assistant"`, `"assistantOverrides"`},
		`"squadOverrides"`:     {`"maxDurationSeconds"`},
		`"membersOverrides"`:   {`"maxDurationSeconds"`},
		`"assistantOverrides"`: {`"maxDurationSeconds"`},
		`"workflow"`:           {`"maxDurationSeconds"`},
		`"workflowOverrides"`:  {`"maxDurationSeconds"`},
		`"chat"`:               {`"id"`, `"orgId"`, `"assistantId"`, `"assistant"`, `"sessionId"`},
		`"assistant"`:          {`"id"`, `"maxDurationSeconds"`},
		`"customer"`:           {`"number"`},
		`"phoneNumber"`:        {`"id"`},
		`"monitor"`:            {`"controlUrl"`},
	}
	inside[`"m\u0065ssage"`] = inside[`"message"`]
	var value func(t *rapid.T, name string, depth int) string
	object := func(t *rapid.T, name string, depth int) string {
		var b strings.Builder
		b.WriteString("{")
		for i := range rapid.IntRange(0, 7).Draw(t, "members") {
			if i > 0 {
				b.WriteString(",")
			}
			member := names.Draw(t, "name")
			if likely := inside[name]; likely != nil && rapid.IntRange(0, 4).Draw(t, "likely") > 0 {
				member = rapid.SampledFrom(likely).Draw(t, "name")
			}
			b.WriteString(spaces.Draw(t, "space") + member + spaces.Draw(t, "space") + ":" + value(t, member, depth-1))
		}
		b.WriteString(spaces.Draw(t, "space") + "}")
		return b.String()
	}
	value = func(t *rapid.T, name string, depth int) string {
		v := leaves.Draw(t, "value")
		if depth > 0 && inside[name] != nil && rapid.IntRange(0, 9).Draw(t, "object") > 0 {
			v = object(t, name, depth)
			if strings.HasPrefix(name, `"tool`) && name != `"toolCall"` || name == `"members"` {
				v = "[" + v + "," + value(t, name, 0) + "," + object(t, name, depth) + "]"
			}
		}
		return spaces.Draw(t, "space") + v + spaces.Draw(t, "space")
	}
	rapid.Check(t, func(t *rapid.T) {
		body := object(t, rapid.SampledFrom([]string{`"message"`, `""`}).Draw(t, "top"), 6)
		checkAgainstMaps(t, []byte(body))
	})
}

// FuzzParseMessage compares ParseMessage with a simple parser that uses encoding/json.
func FuzzParseMessage(f *testing.F) {
	for _, body := range []string{
		``, `[]`, `{} `, `{}x`,
		strings.Repeat(`{"message":`, 10000) + `1` + strings.Repeat(`}`, 10000),
		`{"toolCalls":[{"id":"1","name":"x","arguments":"{\"a\":` +
			strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}"}]}`,
		recordedWebhook,
		`{"message":{"type":"a"},"call":{},"chat":{"id":"h"}}`,
		`{"message":{"toolCallList":[{"id":"1","function":{"name":"x","arguments":"{\"a\":1}"}}]}}`,
		`{"message":{"toolCallList":[{"id":"1","function":{"name":"x","parameters":{"a":1}}},
			{"id":"1"},7,null,{"id":2}]}}`,
		`{"toolCallList":[{"id":"1","name":"x","parameters":{"a":1}},
			{"id":"2","name":"y","arguments":" {} "},{"id":"3","name":"z","arguments":"{}{}"}]}`,
		`{"type":"tool-calls","toolCallList":[],"toolCalls":[{"id":"1","name":"x","arguments":null}]}`,
		`{"message":{"toolWithToolCallList":[{"async":true,"toolCall":{"id":"1","name":"x"}},
			{"async":false},3,{"toolCall":{"id":"1","name":"y"}}]}}`,
		`{"message":{"type":"status-update","timestamp":"2024-05-06T12:53:20.000Z","status":"ended",
			"call":{"id":"c","assistant":{"id":"a","maxDurationSeconds":60}}}}`,
		`{"message":{"type":"tool-calls","chat":{"id":"h","orgId":"o","assistantId":"a","sessionId":"s"},
			"customer":{"number":"+1"},"phoneNumber":{"id":"p"}}}`,
		`{"message":{"type":"a"},"message":{"type":"b","call":{"id":"c","id":"d"},"call":{"id":7}},
			"message":null,"type":"t"}`,
		`{"m\u0065ssage":{"\u0074ype":"\ud800","call":{"monitor":{"controlUrl":5}}}}`,
		`{"toolCalls":[{"id":"1","name":"x","arguments":"[]"},{"id":"2","name":"x","arguments":"\"{}\""},
			{"id":"3","name":"x","arguments":" undefined","parameters":"null"}]}`,
		"\uFEFF" + `{"message":{"type":"function-call","timestamp":1,"functionCall":{"name":"x","parameters":{"a":1}}},
			"call":{"id":"c"},"customer":{"number":"+1"}}`,
		`{"toolCalls":[` + strings.Repeat(`0,`, 1100) + `{}]}`,
		`{"toolCalls":[` + strings.Repeat(`{"id":"1"},`, 1030) + `{"id":"2"}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) { checkAgainstMaps(t, body) })
}

// webhookOfSize returns a tool-calls webhook of about size bytes: the members that a call has from
// its start, and as much transcript as fits.
func webhookOfSize(size int) []byte {
	const call = `{"id":"call_9f3KxQ","type":"function","function":{"name":"check_inventory",
"arguments":{"sku":"SKU-00871","city":"Zürich","quantity":3}}}`
	const prompt = `You are a voice assistant for a parts shop.\nBe brief, say \"one moment\" before you use a tool.\n`
	turns := []string{
		`Hi, I am calling because the alternator that I ordered last Tuesday still has not arrived, ` +
			`and the tracking page has said \"label created\" for four days now.`,
		`I am sorry to hear that. Could you read me the order number? It starts with two letters, ` +
			`and you find it at the top of the e\u2011mail that we sent.`,
		`Sure, one second … it is KD, 4 4 7, 9 0 1. My name is Zoë Müller, by the way, ` +
			`and the parcel should go to the workshop and not to my home.`,
		`Thank you. I see the order, and I am checking with the warehouse whether it can still go out today. ` +
			`That takes a moment, so feel free to ask me something else meanwhile.`,
	}
	prompts := strings.Repeat(prompt, max(1, min(40, size/2000)))
	var messages, formatted, transcript strings.Builder
	for i := 0; 2300+2*len(prompts)+messages.Len()+formatted.Len()+transcript.Len() < size; i++ {
		role, text := []string{"user", "bot"}[i%2], turns[i%len(turns)]
		if i > 0 {
			messages.WriteByte(',')
			formatted.WriteByte(',')
		}
		fmt.Fprintf(&messages, `{"role":%q,"message":"%s","time":%d,"endTime":%d,"secondsFromStart":%.3f,
"duration":%d,"metadata":{"wordLevelConfidence":[{"word":"the","start":%.2f,"confidence":0.99902344}]}}`,
			role, text, 1715000000000+i*4000, 1715000003500+i*4000, float64(i)*4.127, 3500+i%700, float64(i)*4.1)
		fmt.Fprintf(&formatted, `{"role":%q,"content":"%s"}`, role, text)
		fmt.Fprintf(&transcript, `%s: %s\n`, role, text)
	}
	return []byte(`{"message":{"timestamp":1715000000123,"type":"tool-calls",
"toolCalls":[` + call + `],"toolCallList":[` + call + `],
"toolWithToolCallList":[{"type":"function","async":true,"function":{"name":"check_inventory",
"description":"Checks the stock.","parameters":{"type":"object","properties":{"sku":{"type":"string"}}}},
"server":{"url":"https://tools.example/vapi"},"toolCall":` + call + `}],
"artifact":{"messages":[` + messages.String() + `],"messagesOpenAIFormatted":[` + formatted.String() + `],
"transcript":"` + transcript.String() + `"},
"call":{"id":"7420f27a-30fd-4f49-a995-5549ae7cc00d","orgId":"eb166faa-7145-46ef-8044-589b47ae3b56",
"createdAt":"2024-05-06T12:53:20.000Z","type":"inboundPhoneCall","status":"queued",
"assistantId":"83f6a5a2-5ea2-4b33-8d6e-8c3b6a9d4f51",
"monitor":{"listenUrl":"wss://phone-call-websocket.example.vapi.ai/7420f27a/listen",
"controlUrl":"https://phone-call-websocket.example.vapi.ai/7420f27a/control"},
"transport":{"provider":"twilio","callSid":"CA0"},"customer":{"number":"+15550001111"}},
"customer":{"number":"+15550001111"},
"assistant":{"id":"83f6a5a2-5ea2-4b33-8d6e-8c3b6a9d4f51","maxDurationSeconds":1800,
"model":{"provider":"openai","temperature":0.3,"messages":[{"role":"system","content":"` + prompts + `"}]},
"voice":{"provider":"vapi"}}}}`)
}

func BenchmarkParseMessage(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"2KB", 2 << 10}, {"40KB", 40 << 10}, {"1MB", 1 << 20}} {
		body := webhookOfSize(size.bytes)
		b.Run(size.name+"/ringback", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if m, err := vapi.ParseMessage(body); err != nil || m.Call.ControlURL == "" {
					b.Fatal(err)
				}
			}
		})
		b.Run(size.name+"/encoding-json", func(b *testing.B) {
			type toolCall struct {
				ID       string
				Function struct {
					Name      string
					Arguments json.RawMessage
				}
			}
			type message struct {
				Type                 string
				Timestamp            float64
				ToolCallList         []toolCall
				ToolWithToolCallList []struct {
					Async    bool
					ToolCall struct{ ID string }
				}
				Call struct {
					ID, OrgID, Type, AssistantID string
					Monitor                      struct{ ControlURL string }
					Customer                     struct{ Number string }
				}
				Customer  struct{ Number string }
				Assistant struct {
					ID                 string
					MaxDurationSeconds float64
				}
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				var m struct{ Message message }
				if err := json.Unmarshal(body, &m); err != nil || m.Message.Call.Monitor.ControlURL == "" {
					b.Fatal(err)
				}
			}
		})
	}
}
