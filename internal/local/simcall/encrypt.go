package simcall

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"

	"github.com/ringback/ringback/internal/encryption"
)

// Encrypt returns a copy of a webhook in which the arguments of tools are encrypted, as Vapi does. paths
// are those of each tool that has some, by its name. key is called only if an argument is not encrypted
// yet. If there is none, Encrypt returns the webhook itself.
func Encrypt(
	webhook []byte, paths map[string][]string, key func() (*rsa.PublicKey, error),
) ([]byte, error) {
	document, message, err := decode(webhook)
	if err != nil {
		return nil, err
	}
	used := false
	counted := func() (*rsa.PublicKey, error) {
		used = true
		return key()
	}
	for _, toolCall := range toolCalls(message) {
		name, _ := toolCall["name"].(string)
		if len(paths[name]) == 0 {
			continue
		}
		for _, member := range []string{"arguments", "parameters"} {
			if err := encryptMember(toolCall, member, paths[name], counted); err != nil {
				return nil, fmt.Errorf("tool %s: %w", name, err)
			}
		}
	}
	if !used {
		return webhook, nil
	}
	return json.Marshal(document)
}

// toolCalls returns the parts of a message that have the name and the arguments of a tool call.
func toolCalls(message map[string]any) (found []map[string]any) {
	add := func(value any) {
		toolCall, ok := value.(map[string]any)
		if !ok {
			return
		}
		if function, ok := toolCall["function"].(map[string]any); ok {
			toolCall = function
		}
		found = append(found, toolCall)
	}
	for _, name := range []string{"toolCallList", "toolCalls", "toolWithToolCallList"} {
		list, _ := message[name].([]any)
		for _, item := range list {
			if name == "toolWithToolCallList" {
				with, _ := item.(map[string]any)
				item = with["toolCall"]
			}
			add(item)
		}
	}
	add(message["functionCall"])
	return found
}

// encryptMember encrypts arguments, which are an object or its JSON in a text.
func encryptMember(
	toolCall map[string]any, member string, paths []string, key func() (*rsa.PublicKey, error),
) error {
	text, isText := toolCall[member].(string)
	arguments := json.RawMessage(text)
	if !isText {
		var err error
		if arguments, err = json.Marshal(toolCall[member]); err != nil {
			return err
		}
	}
	encrypted, err := encryption.Encrypt(arguments, paths, key)
	switch {
	case err != nil:
		return err
	case isText:
		toolCall[member] = string(encrypted)
	case toolCall[member] != nil:
		toolCall[member] = encrypted
	}
	return nil
}
