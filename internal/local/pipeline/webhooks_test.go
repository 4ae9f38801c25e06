package pipeline_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
)

// TestShapes posts webhooks in shapes that senders and recorded traffic have.
func TestShapes(t *testing.T) {
	const (
		ofCall = `"call":{"id":"call","monitor":{"controlUrl":"call"}}`
		item   = `{"id":"a","type":"function","function":{"name":"echo","arguments":{"text":"hello"}}}`
		list   = `"toolCallList":[` + item + `]`
	)
	for name, body := range map[string]string{
		"role tool_calls, no type":    `{"message":{"role":"tool_calls","toolCalls":[` + item + `],` + ofCall + `}}`,
		"type tool_calls":             `{"message":{"type":"tool_calls",` + list + `,` + ofCall + `}}`,
		"the call beside the message": `{"message":{"type":"tool-calls",` + list + `},` + ofCall + `}`,
		"function-call": `{"message":{"type":"function-call",` +
			`"functionCall":{"name":"echo","parameters":{"text":"hello"}},` + ofCall + `}}`,
		"function-call, parameters as text": `{"message":{"type":"function-call",` +
			`"functionCall":{"name":"echo","parameters":"{\"text\":\"hello\"}"},` + ofCall + `}}`,
		"a tool of the type make": `{"message":{"type":"tool-calls",` + list + `,` +
			`"toolWithToolCallList":[{"type":"make","async":true,"toolCall":` + item + `}],` + ofCall + `}}`,
		"the server beside its tool": `{"message":{"type":"tool-calls",` + list + `,` +
			`"toolWithToolCallList":[{"type":"function","async":true},` +
			`{"server":{"url":"https://example.com"},"toolCall":` + item + `}],` + ofCall + `}}`,
		"arguments encoded twice": `{"message":{"type":"tool-calls","toolCallList":[{"id":"a","function":` +
			`{"name":"echo","arguments":"\"{\\\"text\\\":\\\"hello\\\"}\""}}],` + ofCall + `}}`,
		"a byte order mark": "\ufeff" + `{"message":{"type":"tool-calls",` + list + `,` + ofCall + `}}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, echo)
				w.post(body)
				w.drained()
				one(t, w.messages("call"), "\necho hello\n")
			})
		})
	}
}

// TestLooseArguments passes arguments as models write them to a tool with optional arguments.
func TestLooseArguments(t *testing.T) {
	type loose struct {
		Text   string  `json:"text,omitempty"`
		Pieces int     `json:"pieces,omitempty"`
		Gift   bool    `json:"gift,omitempty"`
		Price  float64 `json:"price,omitempty"`
	}
	order := asynctool.Tool[loose]{
		Name: "order", Description: "A tool for tests.",
		Run: func(_ context.Context, _ asynctool.Call, in loose) (asynctool.Result, error) {
			return asynctool.Textf("got %+v", in), nil
		},
	}
	for arguments, want := range map[string]string{
		`{"text":"a","pieces":null,"gift":null,"price":null}`: "got {Text:a Pieces:0 Gift:false Price:0}",
		`{"text":null,"pieces":2}`:                            "got {Text: Pieces:2 Gift:false Price:0}",
		`{"pieces":"3"}`:                                      "got {Text: Pieces:3 Gift:false Price:0}",
		`{"pieces":3.0}`:                                      "got {Text: Pieces:3 Gift:false Price:0}",
		`{"gift":"true"}`:                                     "got {Text: Pieces:0 Gift:true Price:0}",
		`{"text":90210}`:                                      "got {Text:90210 Pieces:0 Gift:false Price:0}",
		`{"pieces":""}`:                                       "got {Text: Pieces:0 Gift:false Price:0}",
	} {
		t.Run(arguments, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, order)
				w.post(webhook("call", "", toolCall{"a", "order", arguments}))
				w.drained()
				one(t, w.messages("call"), want)
			})
		})
	}
}

// TestHostileArguments passes characters to a tool that queues and tables refuse.
func TestHostileArguments(t *testing.T) {
	for name, text := range map[string]string{
		"a lone high surrogate": `cut \ud83d`,
		"a lone low surrogate":  `\ude00 cut`,
		"NUL":                   `a\u0000b`,
		"noncharacters":         `a\uffffb\ufffe`,
		"a byte order mark":     `a\ufeffb`,
		"an escape":             `a\u001b[31mb`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, echo)
				w.post(webhook("call", "", toolCall{"a", "echo", `{"text":"` + text + `"}`}))
				w.drained()
				heard := w.messages("call")
				one(t, heard, "\necho ")
				if strings.ContainsAny(strings.Join(heard, ""), "\x00\x1b") {
					t.Errorf("heard %q", heard)
				}
			})
		})
	}
}

// TestCallOutlivesItsAssistant runs a tool for longer than the assistant of the webhook may speak.
func TestCallOutlivesItsAssistant(t *testing.T) {
	const member = `{"assistant":{"name":"greeter","maxDurationSeconds":10}}`
	for name, row := range map[string]struct {
		call string // members of the call
		why  job.Reason
	}{
		"the assistant alone":       {`"assistantId":"greeter"`, job.ReasonDeadline},
		"overrides of the call":     {`"assistantOverrides":{"maxDurationSeconds":3600}`, ""},
		"the call's own":            {`"maxDurationSeconds":3600`, ""},
		"a squad by its id":         {`"squadId":"squad"`, ""},
		"another member of a squad": {`"squad":{"members":[` + member + `,{"assistant":{"maxDurationSeconds":3600}}]}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, changed("slow", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
					time.Sleep(11 * time.Second)
					return asynctool.Text("the slow result"), nil
				}, func(*asynctool.Tool[input]) {}))
				body := webhook("call", "", toolCall{"a", "slow", `{"text":"x"}`})
				w.post(strings.NewReplacer(
					`"message":{`, `"message":{"assistant":{"maxDurationSeconds":10},`,
					`"call":{`, fmt.Sprintf(`"call":{%s,`, row.call),
				).Replace(body))
				w.drained()
				if got := w.why("call/a"); got != row.why {
					t.Errorf("undelivered because of %q, want %q", got, row.why)
				}
				if heard := w.messages("call"); (len(heard) == 1) != (row.why == "") {
					t.Errorf("heard %q", heard)
				}
			})
		})
	}
}
