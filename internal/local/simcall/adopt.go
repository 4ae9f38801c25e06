package simcall

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Adopt returns a copy of a webhook with another call id and control URL, so that
// it comes from a simulated call.
func Adopt(webhook []byte, callID, controlURL string) ([]byte, error) {
	document, message, err := decode(webhook)
	if err != nil {
		return nil, err
	}
	call, ok := message["call"].(map[string]any)
	if !ok {
		return nil, errors.New("the webhook has no call; choose one that comes from a phone or web call")
	}
	call["id"] = callID
	member(call, "monitor")["controlUrl"] = controlURL
	return json.Marshal(document)
}

// InOrganisation returns a webhook whose call or chat belongs to one of the organisations at Vapi: the first one,
// if it names another or none.
func InOrganisation(webhook []byte, organisations []string) ([]byte, error) {
	document, message, err := decode(webhook)
	if err != nil {
		return nil, err
	}
	var conversations []map[string]any
	for _, found := range []any{message["call"], message["chat"], document["call"]} {
		if conversation, ok := found.(map[string]any); ok {
			conversations = append(conversations, conversation)
		}
	}
	if len(conversations) == 0 {
		conversations = append(conversations, member(message, "call"))
	}
	changed := false
	for _, conversation := range conversations {
		if id, _ := conversation["orgId"].(string); !slices.Contains(organisations, id) {
			conversation["orgId"], changed = organisations[0], true
		}
	}
	if !changed {
		return webhook, nil
	}
	return json.Marshal(document)
}

// AsGPTLive returns a copy of a webhook that comes from a GPT-Live assistant (Vapi's documentation:
// "GPT-Live settings and compatibility").
func AsGPTLive(webhook []byte) ([]byte, error) {
	document, message, err := decode(webhook)
	if err != nil {
		return nil, err
	}
	member(message, "assistant")["model"] = map[string]any{
		"provider": "openai", "model": "gpt-live-1",
		"speaker":  map[string]any{"instructions": "You are the friendly voice of a small shop."},
		"reasoner": map[string]any{"instructions": "Look things up with the tools."},
	}
	if call, ok := message["call"].(map[string]any); ok {
		// The call can have models, too.
		for _, name := range []string{"assistant", "assistantOverrides"} {
			if assistant, ok := call[name].(map[string]any); ok {
				delete(assistant, "model")
			}
		}
	}
	return json.Marshal(document)
}

// decode returns a webhook, and the message in it.
func decode(webhook []byte) (document, message map[string]any, err error) {
	if err := json.Unmarshal(webhook, &document); err != nil {
		return nil, nil, fmt.Errorf("the webhook is not a JSON object: %w", err)
	}
	if document == nil { // it is null
		return nil, nil, errors.New("the webhook is not a JSON object")
	}
	if wrapped, ok := document["message"].(map[string]any); ok {
		return document, wrapped, nil
	}
	return document, document, nil
}

// member returns a member that is an object. If there is none, it adds an empty one.
func member(object map[string]any, name string) map[string]any {
	found, ok := object[name].(map[string]any)
	if !ok {
		found = make(map[string]any)
		object[name] = found
	}
	return found
}
