package vapi

import (
	"cmp"
	"encoding/json"
	"strings"
	"unicode"
)

// Result answers one tool call. It is sent as an error if Error is not empty, else as a result.
type Result struct {
	// Name and ToolCallID are those of the [ToolCall]. They are sent unchanged.
	Name       string
	ToolCallID string
	// Result and Error are what the model sees. Vapi's documentation asks for one line, so each run
	// of control characters, and of Unicode's line and paragraph separators, becomes one space.
	Result string
	Error  string
}

// Answer returns the body that answers a tool-calls message, with the results in the given order.
// No results make an empty list.
//
// Send it with HTTP status 200 even if it holds errors. Vapi's documentation says that the body of
// any other status is ignored.
func Answer(results []Result) []byte {
	// The name is always present: Vapi's OpenAPI description requires it.
	type result struct {
		Name       string  `json:"name"`
		ToolCallID string  `json:"toolCallId"`
		Result     *string `json:"result,omitempty"`
		Error      *string `json:"error,omitempty"`
	}
	list := make([]result, len(results))
	for i, r := range results {
		list[i] = result{Name: r.Name, ToolCallID: r.ToolCallID}
		if r.Error == "" {
			list[i].Result = new(singleLine(r.Result))
			continue
		}
		list[i].Error = new(singleLine(r.Error))
		if *list[i].Error == "" {
			*list[i].Error = "unknown error" // an error must not look like an empty result
		}
	}
	data, _ := json.Marshal(map[string]any{"results": list}) // strings always encode
	return data
}

// AnswerFunctionCall returns the body that answers a function-call, for HTTP status 200. It has one
// member, the result that the model sees (older documentation of Vapi). An error is sent as the
// result, because such an answer has no member for it.
func AnswerFunctionCall(r Result) []byte {
	data, _ := json.Marshal(map[string]string{"result": singleLine(cmp.Or(r.Error, r.Result))}) // strings always encode
	return data
}

// AnswerOther returns the body that answers a server message of any other type, for HTTP status
// 200. It is {} except for assistant-request: with it Vapi asks which assistant takes a call, and
// speaks the error to the caller (Vapi's documentation).
func AnswerOther(messageType string) []byte {
	if messageType == TypeAssistantRequest {
		return []byte(`{"error":"Sorry, no assistant is set up to take this call."}`)
	}
	return []byte("{}")
}

func singleLine(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	})
	return strings.TrimSpace(strings.Join(words, " "))
}
