package simcall

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Adopt returns a copy of a webhook with another call id and control URL, so that
// it comes from a simulated call.
func Adopt(webhook []byte, callID, controlURL string) ([]byte, error) {
	var document map[string]any
	if err := json.Unmarshal(webhook, &document); err != nil {
		return nil, fmt.Errorf("the webhook is not a JSON object: %w", err)
	}
	message := document
	if wrapped, ok := document["message"].(map[string]any); ok {
		message = wrapped
	}
	call, ok := message["call"].(map[string]any)
	if !ok {
		return nil, errors.New("the webhook has no call; choose one that comes from a phone or web call")
	}
	call["id"] = callID
	monitor, ok := call["monitor"].(map[string]any)
	if !ok {
		monitor = make(map[string]any)
		call["monitor"] = monitor
	}
	monitor["controlUrl"] = controlURL
	return json.Marshal(document)
}
