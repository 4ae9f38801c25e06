package vapi

import (
	"encoding/json"
	"strings"
	"unicode"
)

// Result answers one tool call. Exactly one of Result and Error is sent: Error
// where it is not empty.
type Result struct {
	// Name and ToolCallID are those of the [ToolCall]. They are sent as they
	// are.
	Name       string
	ToolCallID string
	// Result and Error are what the model sees. Vapi wants them on one line:
	// control characters and Unicode's line and paragraph separators become
	// a space, a run of them one.
	Result string
	Error  string
}

// Answer is the body that answers a tool-calls message, with HTTP status 200
// even where there are errors: Vapi ignores the body of any other status. The
// results are in the given order; none makes an empty list.
func Answer(results []Result) []byte {
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
			line := singleLine(r.Result)
			list[i].Result = &line
			continue
		}
		line := singleLine(r.Error)
		if line == "" {
			line = "unknown error" // never let an error look like an empty result
		}
		list[i].Error = &line
	}
	return answerJSON(map[string]any{"results": list})
}

// AnswerOther is the body that answers a server message of any other type,
// with HTTP status 200. It is {}, except for assistant-request: Vapi asks with
// it which assistant is to take a call, and speaks the error to the caller.
func AnswerOther(messageType string) []byte {
	if messageType == TypeAssistantRequest {
		return answerJSON(map[string]any{"error": "Sorry, no assistant is set up to take this call."})
	}
	return []byte("{}")
}

func answerJSON(v any) []byte {
	data, _ := json.Marshal(v) // strings always encode
	return data
}

func singleLine(s string) string {
	var b strings.Builder
	gap := false
	for _, r := range s { // bytes that are not UTF-8 become U+FFFD
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			gap = true
			continue
		}
		if gap {
			b.WriteByte(' ')
			gap = false
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
