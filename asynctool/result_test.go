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

// answering returns a tool with a fixed answer.
func answering(t testing.TB, result asynctool.Result, err error) *asynctool.Entry {
	return only(t, tool("x", func(x *asynctool.Tool[empty]) {
		x.Delivery = asynctool.Silent
		x.Run = func(context.Context, asynctool.Call, empty) (asynctool.Result, error) { return result, err }
	}))
}

func TestResult(t *testing.T) {
	const (
		number   = "+15550100"
		empty    = "its text is empty; write what the caller should learn"
		delivery = `the delivery is "shout"; it must be respond, silent or say`
		either   = "a transfer requires either a number or a SIP address"
		pointer  = "; it must be a Transfer, Handoff, EndCall or Control, not a pointer"
		object   = "a handoff's destination must be a JSON object"
	)
	action := func(a asynctool.Action) asynctool.Result { return asynctool.Result{Action: a} }
	handoff := func(to any) asynctool.Result { return action(asynctool.Handoff{Destination: to}) }
	for label, row := range map[string]struct {
		result asynctool.Result
		want   string // the error; empty means Run returns the result
	}{
		"text":                {asynctool.Text("done"), ""},
		"text to speak":       {asynctool.Result{Text: "done", Delivery: asynctool.Say}, ""},
		"nothing":             {asynctool.Result{}, empty},
		"white space":         {asynctool.Text(" \n\t"), empty},
		"unknown delivery":    {asynctool.Result{Text: "done", Delivery: "shout"}, delivery},
		"transfer":            {action(asynctool.Transfer{Number: number}), ""},
		"transfer with text":  {asynctool.Result{Text: "Wait.", Action: asynctool.Transfer{SIPURI: "sip:a@b.example"}}, ""},
		"transfer to nothing": {action(asynctool.Transfer{}), either},
		"transfer to two":     {action(asynctool.Transfer{Number: number, SIPURI: "sip:a@b.example"}), either},
		"transfer by pointer": {action(&asynctool.Transfer{Number: number}), "its action is a *asynctool.Transfer" + pointer},
		"nil pointer":         {action((*asynctool.EndCall)(nil)), "its action is a *asynctool.EndCall" + pointer},
		"handoff":             {handoff(map[string]any{"type": "assistant", "assistantId": "a"}), ""},
		"handoff of raw JSON": {handoff(json.RawMessage(` {"type":"assistant"}`)), ""},
		"handoff to nothing":  {handoff(nil), object},
		"handoff to a list":   {handoff([]string{"a"}), object},
		"handoff to no JSON": {handoff(func() {}),
			"a handoff's destination must marshal to JSON: json: unsupported type: func()"},
		"handoff too large": {handoff(map[string]string{"a": strings.Repeat("x", 64<<10)}),
			"a handoff's destination has 65544 bytes; the maximum is 65536"},
		"end of the call":     {asynctool.Result{Text: "Goodbye.", Action: asynctool.EndCall{}}, ""},
		"mute":                {action(asynctool.MuteAssistant), ""},
		"unmute":              {action(asynctool.UnmuteAssistant), ""},
		"mute the customer":   {action(asynctool.MuteCustomer), ""},
		"unmute the customer": {action(asynctool.UnmuteCustomer), ""},
		"first message":       {action(asynctool.SayFirstMessage), ""},
		"unknown control":     {action(asynctool.Control("mute")), `unknown control "mute"`},
		"control with a text": {asynctool.Result{Text: "hush", Action: asynctool.MuteAssistant},
			`the control "mute-assistant" takes no text`},
		"action, unknown delivery": {asynctool.Result{Action: asynctool.EndCall{}, Delivery: "shout"}, delivery},
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
		"Fail": {asynctool.Fail("It's closed.", cause),
			asynctool.Error{Spoken: "It's closed.", Cause: cause}, "It's closed.: reading: unexpected EOF"},
		"Fail without a cause": {asynctool.Fail("It's closed.", nil),
			asynctool.Error{Spoken: "It's closed."}, "It's closed."},
		"Fail without a text": {asynctool.Fail("", cause), asynctool.Error{Cause: cause}, "reading: unexpected EOF"},
		"TryAgain": {asynctool.TryAgain(time.Second, "It's busy.", cause),
			asynctool.Error{Spoken: "It's busy.", Retry: true, After: time.Second, Cause: cause},
			"It's busy.: reading: unexpected EOF"},
		"TryAgain without a delay": {asynctool.TryAgain(0, "", cause),
			asynctool.Error{Retry: true, Cause: cause}, "reading: unexpected EOF"},
		"TryAgain with a negative delay": {asynctool.TryAgain(-time.Second, "", cause),
			asynctool.Error{Retry: true, Cause: cause}, "reading: unexpected EOF"},
	} {
		t.Run(label, func(t *testing.T) {
			// A tool may wrap the error. Its result is ignored.
			e := answering(t, asynctool.Text("half"), fmt.Errorf("in the tool: %w", row.err))
			_, err := e.Run(t.Context(), asynctool.Call{}, json.RawMessage(`{}`))
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
				t.Error("it is an argument error")
			}
		})
	}
}

func TestErrorsOfOtherKindsPassThrough(t *testing.T) {
	e := answering(t, asynctool.Text("half"), io.EOF)
	result, err := e.Run(t.Context(), asynctool.Call{}, json.RawMessage(`{}`))
	if err != io.EOF || result != (asynctool.Result{}) {
		t.Errorf("%+v, %v", result, err)
	}
}
