package vapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/vapi"
)

func TestControlMessageJSON(t *testing.T) {
	tests := map[string]struct {
		message vapi.ControlMessage
		want    string
	}{
		"add-message": {vapi.AddMessage{Role: vapi.RoleSystem, Content: "Hi\n<<<é>>>"},
			`{"type":"add-message","message":{"role":"system","content":"Hi\n<<<é>>>"},"triggerResponseEnabled":true}`},
		"add-message, silent": {vapi.AddMessage{Role: vapi.RoleUser, Content: "Hi", Silent: true},
			`{"type":"add-message","message":{"role":"user","content":"Hi"},"triggerResponseEnabled":false}`},
		"say": {vapi.Say{Content: "Hi"}, `{"type":"say","content":"Hi",
			"endCallAfterSpoken":false,"interruptionsEnabled":true,"interruptAssistantEnabled":false}`},
		"say, all members": {
			vapi.Say{Content: "Hi", EndCallAfterSpoken: true, InterruptionsDisabled: true, InterruptAssistantEnabled: true},
			`{"type":"say","content":"Hi",
			"endCallAfterSpoken":true,"interruptionsEnabled":false,"interruptAssistantEnabled":true}`,
		},
		"control":  {vapi.Control{Action: vapi.MuteAssistant}, `{"type":"control","control":"mute-assistant"}`},
		"end-call": {vapi.EndCall{}, `{"type":"end-call"}`},
		"transfer": {vapi.Transfer{Number: "+14155551234", Content: "One moment."},
			`{"type":"transfer","destination":{"type":"number","number":"+14155551234"},"content":"One moment."}`},
		"transfer, all members": {
			vapi.Transfer{Number: "+14155551234", Extension: "12", CallerID: "{{customer.number}}",
				TransferPlan: json.RawMessage(`{"mode":"blind-transfer"}`)},
			`{"type":"transfer","destination":{"type":"number","number":"+14155551234","extension":"12",
			"callerId":"{{customer.number}}","transferPlan":{"mode":"blind-transfer"}}}`,
		},
		"transfer to SIP": {vapi.Transfer{SIPURI: "sip:desk@example.com"},
			`{"type":"transfer","destination":{"type":"sip","sipUri":"sip:desk@example.com"}}`},
		"handoff": {
			vapi.Handoff{Destination: json.RawMessage(`{"type":"assistant","assistantId":"a"}`), Content: "Handing off."},
			`{"type":"handoff","destination":{"type":"assistant","assistantId":"a"},"content":"Handing off."}`,
		},
		"append-context": {vapi.AppendContext{Kind: vapi.Commentary, Content: "It ships\ntoday."},
			`{"type":"append-context","kind":"commentary","content":"It ships\ntoday."}`},
		"longest append-context": {
			vapi.AppendContext{Kind: vapi.Thinking, Content: strings.Repeat("é", vapi.MaxContext)},
			`{"type":"append-context","kind":"thinking","content":"` + strings.Repeat("é", 16_000) + `"}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(tt.message)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			back, err := vapi.ParseControlMessage(data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.message, back); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseControlMessageDefaults(t *testing.T) {
	for document, want := range map[string]vapi.ControlMessage{
		`{"type":"add-message","message":{"content":"Hi"}}`: vapi.AddMessage{Role: vapi.RoleSystem, Content: "Hi"},
		`{"type":"say","content":"Hi"}`:                     vapi.Say{Content: "Hi"},
		`{"type":"handoff", "destination": { "type" : "squad" } }`: vapi.Handoff{
			Destination: json.RawMessage(`{"type":"squad"}`)},
	} {
		got, err := vapi.ParseControlMessage([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", document, diff)
		}
	}
}

// A message that Validate refuses is neither marshalled nor parsed.
func TestMalformedControlMessages(t *testing.T) {
	messages := map[string]struct {
		message vapi.ControlMessage
		want    string
	}{
		"empty add-message": {vapi.AddMessage{}, "content is empty"},
		"unknown role":      {vapi.AddMessage{Role: "bot", Content: "x"}, "unknown role"},
		"empty say":         {vapi.Say{}, "content is empty"},
		"no kind":           {vapi.AppendContext{Content: "x"}, "unknown kind"},
		"unknown kind":      {vapi.AppendContext{Kind: "comment", Content: "x"}, "unknown kind"},
		"blank context":     {vapi.AppendContext{Kind: vapi.Thinking, Content: " \n"}, "content is blank"},
		"long context": {vapi.AppendContext{Kind: vapi.Instructions, Content: strings.Repeat("x", 16_001)},
			"at most 16000 characters"},
		"no action":              {vapi.Control{}, "unknown action"},
		"unknown action":         {vapi.Control{Action: "mute"}, "unknown action"},
		"no destination":         {vapi.Transfer{}, "either a number or a SIP URI"},
		"two destinations":       {vapi.Transfer{Number: "+1415", SIPURI: "sip:a"}, "either a number or a SIP URI"},
		"short number":           {vapi.Transfer{Number: "+1"}, "3 to 40"},
		"long number":            {vapi.Transfer{Number: strings.Repeat("1", 41)}, "3 to 40"},
		"not a SIP URI":          {vapi.Transfer{SIPURI: "https://example.com"}, "must begin"},
		"SIP URI with extension": {vapi.Transfer{SIPURI: "sip:a", Extension: "1"}, "cannot have an extension"},
		"long extension":         {vapi.Transfer{Number: "+1415", Extension: "12345678901"}, "at most 10"},
		"long caller id":         {vapi.Transfer{Number: "+1415", CallerID: strings.Repeat("1", 41)}, "at most 40"},
		"plan that is no object": {vapi.Transfer{Number: "+1415", TransferPlan: json.RawMessage(`[]`)}, "JSON object"},
		"plan that is no JSON":   {vapi.Transfer{Number: "+1415", TransferPlan: json.RawMessage(`{`)}, "JSON object"},
		"no handoff destination": {vapi.Handoff{}, "JSON object with a type"},
		"destination, no type":   {vapi.Handoff{Destination: json.RawMessage(`{"a":"b"}`)}, "JSON object with a type"},
		"destination, a string":  {vapi.Handoff{Destination: json.RawMessage(`"a"`)}, "JSON object with a type"},
	}
	for name, tt := range messages {
		t.Run(name, func(t *testing.T) {
			if err := tt.message.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Validate: %v, want %q", err, tt.want)
			}
			if data, err := json.Marshal(tt.message); err == nil {
				t.Errorf("marshalled as %s", data)
			}
		})
	}
	for document, want := range map[string]string{
		``:                                      "unexpected end",
		`[]`:                                    "cannot unmarshal",
		`{"type":"end-call"} x`:                 "invalid character",
		`{}`:                                    "unknown type",
		`{"type":"send-transport-message"}`:     "unknown type",
		`{"type":"end-call","content":"x"}`:     "unknown field",
		`{"type":"add-message"}`:                "content is empty",
		`{"type":"handoff","destination":null}`: "JSON object with a type",
		`{"type":"say","content":1}`:            "cannot unmarshal",
		`{"type":"transfer","destination":{"type":"number","number":"+1415","sipHeaders":{}}}`: "unknown field",
		`{"type":"transfer","destination":{"type":"sip","number":"+1415"}}`:                    "destination must be",
		`{"type":"transfer","destination":{"type":"fax","number":"+1415"}}`:                    "destination must be",
	} {
		m, err := vapi.ParseControlMessage([]byte(document))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %q", document, m, err, want)
		}
	}
}

func FuzzParseControlMessage(f *testing.F) {
	for _, seed := range []string{
		`{"type":"add-message","message":{"role":"system","content":"Hi"},"triggerResponseEnabled":false}`,
		`{"type":"say","content":"<\u2028&>","interruptionsEnabled":null}`,
		`{"type":"control","control":"unmute-customer"}`, `{"type":"end-call"}`,
		`{"type":"transfer","destination":{"type":"number","number":"+1415","transferPlan":{ "a" : "<" }}}`,
		`{"type":"transfer","destination":{"type":"sip","sipUri":"SIP:x"},"content":""}`,
		`{"type":"handoff","destination":{"type":"assistant","TYPE":"","x":"\ud800"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := vapi.ParseControlMessage(data)
		if err != nil {
			return
		}
		stored, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("cannot marshal the parsed message: %v", err)
		}
		back, err := vapi.ParseControlMessage(stored)
		if err != nil {
			t.Fatalf("%s: %v", stored, err)
		}
		if diff := cmp.Diff(m, back); diff != "" {
			t.Fatal(diff)
		}
	})
}
