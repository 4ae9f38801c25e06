package vapi_test

import (
	"encoding/json"
	"fmt"

	"github.com/ringback/ringback/vapi"
)

// A server reads a webhook and answers it, and later tells the call the result.
func Example() {
	message, err := vapi.ParseMessage([]byte(`{"message": {
		"type": "tool-calls",
		"toolCallList": [{"id": "call_1", "function": {"name": "order_status", "arguments": {"order_id": "A-1042"}}}],
		"call": {"id": "c1", "monitor": {"controlUrl": "https://phone-call-websocket.vapi.ai/c1/control"}}
	}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	call := message.ToolCalls[0]
	fmt.Println(call.Name, string(call.Arguments))

	answer := vapi.Answer([]vapi.Result{{Name: call.Name, ToolCallID: call.ID, Result: "Started."}})
	fmt.Println(string(answer))

	result, err := json.Marshal(vapi.AddMessage{Role: vapi.RoleSystem, Content: "The order is on its way."})
	fmt.Println(string(result), err)

	// Output:
	// order_status {"order_id": "A-1042"}
	// {"results":[{"name":"order_status","toolCallId":"call_1","result":"Started."}]}
	// {"type":"add-message","message":{"role":"system","content":"The order is on its way."},"triggerResponseEnabled":true} <nil>
}
