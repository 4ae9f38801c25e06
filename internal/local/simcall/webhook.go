package simcall

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/ringback/ringback/vapi"
)

// The assistant and the phone number of the calls that [Webhook] makes.
const (
	assistantID   = "5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33"
	phoneNumberID = "8a0c3a52-0e37-4c27-9d8e-2f3f0a6d2b10"
)

// Request is a tool call in a simulated phone call.
type Request struct {
	CallID, ToolCallID string
	ControlURL         string // empty means that the call has none
	Number             string // of the customer
	GPTLive            bool   // the assistant is a GPT-Live assistant

	// Tool is the name of the tool, and Body is the tool as Vapi has it, a JSON object.
	Tool string
	Body any

	// Arguments are those of the model. Static are the texts and Liquid templates of the arguments that
	// Vapi fills in. A template that the call has no value for stays as it is.
	Arguments map[string]any
	Static    map[string]string
}

// Webhook returns the webhook that Vapi posts for a tool call at a time.
func Webhook(r Request, now time.Time) ([]byte, error) {
	assistant := map[string]any{
		"id": assistantID, "name": "Simulated assistant",
		"model": map[string]any{"provider": "openai", "model": "gpt-4o"},
	}
	call := map[string]any{
		"id": r.CallID, "type": "inboundPhoneCall", "status": "in-progress", "createdAt": now.UTC(),
		"assistantId": assistantID, "phoneNumberId": phoneNumberID, "customer": map[string]any{"number": r.Number},
	}
	if r.ControlURL != "" {
		call["monitor"] = map[string]any{"controlUrl": r.ControlURL}
	}
	message := map[string]any{
		"type": vapi.TypeToolCalls, "timestamp": now.UnixMilli(),
		"call": call, "customer": call["customer"], "assistant": assistant,
		"phoneNumber": map[string]any{"id": phoneNumberID, "number": "+15550100199", "provider": "twilio"},
	}
	arguments := make(map[string]any)
	for name, text := range r.Static {
		arguments[name] = filled(text, message)
	}
	for name, value := range r.Arguments {
		arguments[name] = value
	}
	toolCall := map[string]any{
		"id": r.ToolCallID, "type": "function",
		"function": map[string]any{"name": r.Tool, "arguments": arguments},
	}
	body, err := json.Marshal(r.Body)
	if err != nil {
		return nil, err
	}
	tool := make(map[string]any)
	if err := json.Unmarshal(body, &tool); err != nil {
		return nil, fmt.Errorf("the tool is not a JSON object: %w", err)
	}
	tool["toolCall"] = toolCall
	message["toolCallList"], message["toolCalls"] = []any{toolCall}, []any{toolCall}
	message["toolWithToolCallList"] = []any{tool}
	webhook, err := json.Marshal(map[string]any{"message": message})
	if err != nil || !r.GPTLive {
		return webhook, err
	}
	return AsGPTLive(webhook)
}

// template matches a variable in a Liquid template.
var template = regexp.MustCompile(`\{\{\s*([\w.]+)\s*\}\}`)

// filled replaces the variables of a Liquid template by the members of a message.
func filled(text string, message map[string]any) string {
	return template.ReplaceAllStringFunc(text, func(variable string) string {
		var found any = message
		for name := range strings.SplitSeq(template.FindStringSubmatch(variable)[1], ".") {
			object, _ := found.(map[string]any)
			found = object[name]
		}
		if value, ok := found.(string); ok {
			return value
		}
		return variable
	})
}

// Ended returns the webhook that Vapi posts when a caller has hung up.
func Ended(call vapi.Call, now time.Time) ([]byte, error) {
	return json.Marshal(map[string]any{"message": map[string]any{
		"type": vapi.TypeStatusUpdate, "status": vapi.StatusEnded, "endedReason": "customer-ended-call",
		"timestamp": now.UnixMilli(),
		"call": map[string]any{
			"id": call.ID, "orgId": call.OrgID, "type": call.Type, "assistantId": call.AssistantID,
			"phoneNumberId": call.PhoneNumberID, "customer": map[string]any{"number": call.CustomerNumber},
			"monitor": map[string]any{"controlUrl": call.ControlURL},
		},
	}})
}

// Fresh returns a copy of a webhook in which newID has replaced the ids of the call, the chat and the tool
// calls, so that it is not a repetition. Ids that are equal stay equal.
func Fresh(webhook []byte, newID func() string) ([]byte, error) {
	document, message, err := decode(webhook)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]string)
	replace := func(id string) string {
		if ids[id] == "" {
			ids[id] = newID()
		}
		return ids[id]
	}
	within := make(map[string]string) // ids that are parts of URLs, too
	for _, name := range []string{"call", "chat"} {
		for _, object := range []map[string]any{message, document} { // some senders put it beside the message
			of, _ := object[name].(map[string]any)
			if id, ok := of["id"].(string); ok && id != "" {
				within[id] = replace(id)
			}
		}
	}
	for _, name := range []string{"toolCallList", "toolCalls", "toolWithToolCallList"} {
		items, _ := message[name].([]any)
		for _, item := range items {
			object, _ := item.(map[string]any)
			if nested, ok := object["toolCall"].(map[string]any); ok {
				object = nested
			}
			if id, ok := object["id"].(string); ok && id != "" {
				replace(id)
			}
		}
	}
	var walk func(name string, v any) any
	walk = func(name string, v any) any {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				v[name] = walk(name, member)
			}
		case []any:
			for i, item := range v {
				v[i] = walk(name, item)
			}
		case string:
			switch name {
			case "id", "toolCallId", "tool_call_id", "callId", "chatId":
				if ids[v] != "" {
					return ids[v]
				}
			case "controlUrl", "listenUrl":
				for old, id := range within {
					v = strings.ReplaceAll(v, old, id)
				}
				return v
			}
		}
		return v
	}
	walk("", document)
	return json.Marshal(document)
}
