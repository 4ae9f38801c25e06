package vapi_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/ringback/ringback/vapi"
)

func TestAnswer(t *testing.T) {
	for name, row := range map[string]struct {
		result vapi.Result // of the tool call "1" of x
		want   string
	}{
		"result":           {vapi.Result{Result: "Started."}, `"result":"Started."`},
		"empty result":     {vapi.Result{}, `"result":""`},
		"error wins":       {vapi.Result{Result: "r", Error: "no such tool"}, `"error":"no such tool"`},
		"blank error":      {vapi.Result{Result: "r", Error: "\n"}, `"error":"unknown error"`},
		"result, one line": {vapi.Result{Result: "\r\n a\r\n\tb\u2028\u2029c\u0085d  e\x00\x7f\n"}, `"result":"a b c d  e"`},
		"error, one line":  {vapi.Result{Error: "a\nb"}, `"error":"a b"`},
		"not UTF-8":        {vapi.Result{Result: "a\xffb"}, `"result":"a\ufffdb"`},
	} {
		t.Run(name, func(t *testing.T) {
			row.result.Name, row.result.ToolCallID = "x", "1"
			want := `{"results":[{"name":"x","toolCallId":"1",` + row.want + `}]}`
			if got := string(vapi.Answer([]vapi.Result{row.result})); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	if got := string(vapi.Answer(nil)); got != `{"results":[]}` {
		t.Errorf("no results: got %s", got)
	}
	want := `{"results":[{"name":"","toolCallId":"","error":"e"},{"name":"a","toolCallId":"1","result":""}]}`
	if got := string(vapi.Answer([]vapi.Result{{Error: "e"}, {Name: "a", ToolCallID: "1"}})); got != want {
		t.Errorf("two results: got %s, want %s", got, want)
	}
}

func TestAnswerProperty(t *testing.T) {
	str := rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.StringOf(rapid.SampledFrom([]rune("a b\r\n\t\u0085\u2028\u2029\x00\uFFFD"))),
	)
	result := rapid.Custom(func(t *rapid.T) vapi.Result {
		return vapi.Result{
			Name: str.Draw(t, "name"), ToolCallID: str.Draw(t, "id"),
			Result: str.Draw(t, "result"), Error: str.Draw(t, "error"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		given := rapid.SliceOf(result).Draw(t, "results")
		answer := vapi.Answer(given)
		if !utf8.Valid(answer) || bytes.ContainsAny(answer, "\r\n") {
			t.Fatalf("%q is not one line of UTF-8", answer)
		}
		var got struct {
			Results []map[string]string `json:"results"`
		}
		if err := json.Unmarshal(answer, &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Results) != len(given) {
			t.Fatalf("%d results for %d", len(got.Results), len(given))
		}
		for i, g := range got.Results {
			if len(g) != 3 || g["name"] != asUTF8(given[i].Name) || g["toolCallId"] != asUTF8(given[i].ToolCallID) {
				t.Fatalf("result %d is %q for %q", i, g, given[i])
			}
			key, text := "result", given[i].Result
			if given[i].Error != "" {
				key, text = "error", given[i].Error
			}
			line, ok := g[key]
			if !ok || line != strings.TrimSpace(line) || strings.ContainsFunc(line, unicode.IsControl) ||
				strings.ContainsAny(line, "\u2028\u2029") {
				t.Fatalf("%s of result %d is %q", key, i, line)
			}
			if words := visible(text); visible(line) != words && (key != "error" || words != "") {
				t.Fatalf("%s of result %d is %q and lacks a part of %q", key, i, line, text)
			}
		}
	})
}

// asUTF8 returns s after encoding to JSON and decoding.
func asUTF8(s string) string { return string([]rune(s)) }

// visible returns s without separators.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}

func TestAnswerFunctionCall(t *testing.T) {
	for want, result := range map[string]vapi.Result{
		`{"result":"It is done."}`:       {Name: "x", ToolCallID: "1", Result: "It is\ndone.\n"},
		`{"result":"cannot be used"}`:    {Error: "cannot be used"},
		`{"result":"\u003cb\u003e \"é"}`: {Result: "<b> \"é"},
		`{"result":""}`:                  {},
	} {
		if got := string(vapi.AnswerFunctionCall(result)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestAnswerOther(t *testing.T) {
	for _, messageType := range []string{
		"status-update", "end-of-call-report", "hang", "conversation-update", "transcript", "speech-update",
		"transfer-destination-request", "",
	} {
		if got := string(vapi.AnswerOther(messageType)); got != "{}" {
			t.Errorf("%s: got %s", messageType, got)
		}
	}
	var got map[string]string
	if err := json.Unmarshal(vapi.AnswerOther("assistant-request"), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got["error"] == "" {
		t.Errorf("assistant-request: got %q", got)
	}
}
