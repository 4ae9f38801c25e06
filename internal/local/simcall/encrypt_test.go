package simcall_test

import (
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/local/memkey"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi"
)

func TestEncrypt(t *testing.T) {
	key, err := memkey.New()
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string][]string{"pay": {"card", "payment.iban"}}
	public := func() (*rsa.PublicKey, error) { return key.Public(), nil }
	const object = `{"card":"planted-4111","payment":{"iban":"planted-DE"},"order":"A-1042"}`
	text := `"` + strings.ReplaceAll(object, `"`, `\"`) + `"`
	wrapped := func(message string) string { return `{"message":{"type":"tool-calls",` + message + `}}` }
	const config = `"function":{"name":"pay","parameters":{"type":"object"}}`
	for name, webhook := range map[string]string{
		"toolCallList":      wrapped(`"toolCallList":[{"id":"a","function":{"name":"pay","arguments":` + object + `}}]`),
		"in a text":         wrapped(`"toolCalls":[{"id":"a","function":{"name":"pay","arguments":` + text + `}}]`),
		"flat":              wrapped(`"toolCallList":[{"id":"a","name":"pay","parameters":` + object + `}]`),
		"without a wrapper": `{"type":"tool-calls","toolCallList":[{"id":"a","name":"pay","arguments":` + object + `}]}`,
		"toolWithToolCallList": wrapped(`"toolWithToolCallList":[{` + config +
			`,"toolCall":{"id":"a","function":{"name":"pay","parameters":` + object + `}}}]`),
		"functionCall": `{"type":"function-call","functionCall":{"name":"pay","parameters":` + object + `}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := simcall.Encrypt([]byte(webhook), paths, public)
			if err != nil || strings.Contains(string(got), "planted") {
				t.Fatalf("%s and %v", got, err)
			}
			message, err := vapi.ParseMessage(got)
			if err != nil || len(message.ToolCalls) != 1 {
				t.Fatalf("%+v and %v", message, err)
			}
			arguments, err := encryption.Decrypt(t.Context(), message.ToolCalls[0].Arguments, paths["pay"], false, key.Decrypt)
			if err != nil || string(arguments) != `{"card":"planted-4111","order":"A-1042","payment":{"iban":"planted-DE"}}` {
				t.Errorf("%s and %v", arguments, err)
			}
			noKey := func() (*rsa.PublicKey, error) { return nil, errors.New("a key was needed") }
			if again, err := simcall.Encrypt(got, paths, noKey); err != nil || string(again) != string(got) {
				t.Errorf("encrypted again: %s and %v", again, err)
			}
			if other, err := simcall.Encrypt([]byte(webhook), nil, noKey); err != nil || string(other) != webhook {
				t.Errorf("without such tools: %s and %v", other, err)
			}
			_, err = simcall.Encrypt([]byte(webhook), paths, noKey)
			if err == nil || !strings.Contains(err.Error(), "tool pay: ") {
				t.Errorf("without a key: %v", err)
			}
		})
	}
}
