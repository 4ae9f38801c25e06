package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
)

// answering is a tool with a fixed answer.
func answering(t testing.TB, result asynctool.Result, err error) *asynctool.Entry {
	return only(t, tool("x", func(x *asynctool.Tool[empty]) {
		x.Delivery = asynctool.Silent
		x.Run = func(context.Context, asynctool.Call, empty) (asynctool.Result, error) { return result, err }
	}))
}

func TestResult(t *testing.T) {
	const number = "+15550100"
	handoff := map[string]any{"type": "assistant", "assistantId": "a"}
	for label, row := range map[string]struct {
		result asynctool.Result
		want   string // the error; empty means the result is passed on
	}{
		"text":                 {asynctool.Text("done"), ""},
		"text said":            {asynctool.Result{Text: "done", Delivery: asynctool.Say}, ""},
		"nothing":              {asynctool.Result{}, "its text is empty; say what the caller should learn"},
		"white space":          {asynctool.Text(" \n\t"), "its text is empty; say what the caller should learn"},
		"unknown delivery":     {asynctool.Result{Text: "done", Delivery: "shout"}, `the delivery is "shout"; it must be respond, silent or say`},
		"transfer":             {asynctool.Result{Action: asynctool.Transfer{Number: number}}, ""},
		"transfer with text":   {asynctool.Result{Text: "One moment.", Action: asynctool.Transfer{SIPURI: "sip:a@b.example"}}, ""},
		"transfer to nobody":   {asynctool.Result{Action: asynctool.Transfer{}}, "a transfer needs either a number or a SIP address"},
		"transfer to two":      {asynctool.Result{Action: asynctool.Transfer{Number: number, SIPURI: "sip:a@b.example"}}, "a transfer needs either a number or a SIP address"},
		"transfer by pointer":  {asynctool.Result{Action: &asynctool.Transfer{Number: number}}, "its action is a *asynctool.Transfer; it must be a Transfer, Handoff, EndCall or Control, not a pointer"},
		"nil pointer":          {asynctool.Result{Action: (*asynctool.EndCall)(nil)}, "its action is a *asynctool.EndCall; it must be a Transfer, Handoff, EndCall or Control, not a pointer"},
		"handoff":              {asynctool.Result{Action: asynctool.Handoff{Destination: handoff}}, ""},
		"handoff raw":          {asynctool.Result{Action: asynctool.Handoff{Destination: json.RawMessage(` {"type":"assistant"}`)}}, ""},
		"handoff to nobody":    {asynctool.Result{Action: asynctool.Handoff{}}, "a handoff's destination must be a JSON object"},
		"handoff to a list":    {asynctool.Result{Action: asynctool.Handoff{Destination: []string{"a"}}}, "a handoff's destination must be a JSON object"},
		"handoff to no JSON":   {asynctool.Result{Action: asynctool.Handoff{Destination: func() {}}}, "a handoff's destination must be JSON: json: unsupported type: func()"},
		"handoff too large":    {asynctool.Result{Action: asynctool.Handoff{Destination: map[string]string{"a": strings.Repeat("x", 64<<10)}}}, "a handoff's destination has 65544 bytes; the most is 65536"},
		"end of the call":      {asynctool.Result{Text: "Goodbye.", Action: asynctool.EndCall{}}, ""},
		"mute":                 {asynctool.Result{Action: asynctool.MuteAssistant}, ""},
		"unmute":               {asynctool.Result{Action: asynctool.UnmuteAssistant}, ""},
		"mute the customer":    {asynctool.Result{Action: asynctool.MuteCustomer}, ""},
		"unmute the customer":  {asynctool.Result{Action: asynctool.UnmuteCustomer}, ""},
		"first message":        {asynctool.Result{Action: asynctool.SayFirstMessage}, ""},
		"unknown control":      {asynctool.Result{Action: asynctool.Control("mute")}, `there is no control "mute"`},
		"control with a text":  {asynctool.Result{Text: "hush", Action: asynctool.MuteAssistant}, `the control "mute-assistant" takes no text`},
		"action, bad delivery": {asynctool.Result{Action: asynctool.EndCall{}, Delivery: "shout"}, `the delivery is "shout"; it must be respond, silent or say`},
	} {
		t.Run(label, func(t *testing.T) {
			got, err := answering(t, row.result, nil).Run(t.Context(), asynctool.Call{}, json.RawMessage(`{}`))
			if row.want != "" {
				if want := "tool x: its result cannot be delivered: " + row.want; err == nil || err.Error() != want {
					t.Fatalf("got  %v\nwant %s", err, want)
				}
				if diff := cmp.Diff(asynctool.Result{}, got); diff != "" {
					t.Error(diff)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := row.result
			if want.Delivery == "" {
				want.Delivery = asynctool.Silent // the tool's own
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	cause := fmt.Errorf("reading: %w", io.ErrUnexpectedEOF)
	for label, row := range map[string]struct {
		err  error
		want asynctool.Error
		text string
	}{
		"Fail":                     {asynctool.Fail("It is closed.", cause), asynctool.Error{Spoken: "It is closed.", Cause: cause}, "It is closed.: reading: unexpected EOF"},
		"Fail without a cause":     {asynctool.Fail("It is closed.", nil), asynctool.Error{Spoken: "It is closed."}, "It is closed."},
		"Fail without a text":      {asynctool.Fail("", cause), asynctool.Error{Cause: cause}, "reading: unexpected EOF"},
		"TryAgain":                 {asynctool.TryAgain(time.Second, "It is busy.", cause), asynctool.Error{Spoken: "It is busy.", Retry: true, After: time.Second, Cause: cause}, "It is busy.: reading: unexpected EOF"},
		"TryAgain at any time":     {asynctool.TryAgain(0, "", cause), asynctool.Error{Retry: true, Cause: cause}, "reading: unexpected EOF"},
		"TryAgain before it began": {asynctool.TryAgain(-time.Second, "", cause), asynctool.Error{Retry: true, Cause: cause}, "reading: unexpected EOF"},
	} {
		t.Run(label, func(t *testing.T) {
			// A tool may wrap it further, and its result is not looked at.
			_, err := answering(t, asynctool.Text("half"), fmt.Errorf("in the tool: %w", row.err)).Run(t.Context(), asynctool.Call{}, json.RawMessage(`{}`))
			var got *asynctool.Error
			if !errors.As(err, &got) || got == nil || *got != row.want {
				t.Fatalf("got %+v\nwant %+v", got, row.want)
			}
			if row.err.Error() != row.text {
				t.Errorf("got %q, want %q", row.err, row.text)
			}
			if errors.Is(err, io.ErrUnexpectedEOF) != (row.want.Cause != nil) {
				t.Errorf("the cause is lost: %v", err)
			}
			if _, ok := errors.AsType[*asynctool.ArgumentError](err); ok {
				t.Error("it is taken for an argument error")
			}
		})
	}
}

func TestErrorsOfOtherKindsPassThrough(t *testing.T) {
	result, err := answering(t, asynctool.Text("half"), io.EOF).Run(t.Context(), asynctool.Call{}, json.RawMessage(`{}`))
	if err != io.EOF || result != (asynctool.Result{}) {
		t.Errorf("%+v, %v", result, err)
	}
}
