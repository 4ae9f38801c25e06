package vapi_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ringback/ringback/vapi"
)

func TestAnswer(t *testing.T) {
	for _, row := range []struct {
		name    string
		results []vapi.Result
		want    string
	}{
		{"none", nil, `{"results":[]}`},
		{"result", []vapi.Result{{Name: "x", ToolCallID: "1", Result: "Started."}}, `{"results":[{"name":"x","toolCallId":"1","result":"Started."}]}`},
		{"empty result", []vapi.Result{{Name: "x", ToolCallID: "1"}}, `{"results":[{"name":"x","toolCallId":"1","result":""}]}`},
		{"error wins", []vapi.Result{{Name: "x", ToolCallID: "1", Result: "r", Error: "no such tool"}}, `{"results":[{"name":"x","toolCallId":"1","error":"no such tool"}]}`},
		{"blank error", []vapi.Result{{Name: "x", ToolCallID: "1", Result: "r", Error: "\n"}}, `{"results":[{"name":"x","toolCallId":"1","error":"unknown error"}]}`},
		{"no name, no id", []vapi.Result{{Error: "e"}}, `{"results":[{"name":"","toolCallId":"","error":"e"}]}`},
		{"order", []vapi.Result{{Name: "b", ToolCallID: "2"}, {Name: "a", ToolCallID: "1"}}, `{"results":[{"name":"b","toolCallId":"2","result":""},{"name":"a","toolCallId":"1","result":""}]}`},
		{"one line", []vapi.Result{{Name: "x", ToolCallID: "1", Result: "\r\n a\r\n\tb\u2028\u2029c\u0085d  e\x00\x7f\n"}}, `{"results":[{"name":"x","toolCallId":"1","result":"a b c d  e"}]}`},
		{"error on one line", []vapi.Result{{Name: "x", ToolCallID: "1", Error: "a\nb"}}, `{"results":[{"name":"x","toolCallId":"1","error":"a b"}]}`},
		{"not UTF-8", []vapi.Result{{Name: "x", ToolCallID: "1", Result: "a\xffb"}}, `{"results":[{"name":"x","toolCallId":"1","result":"a` + "\uFFFD" + `b"}]}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(decodeAnswer(t, []byte(row.want)), decodeAnswer(t, vapi.Answer(row.results))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func decodeAnswer(t interface{ Fatal(...any) }, answer []byte) (decoded any) {
	if err := json.Unmarshal(answer, &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}

func TestAnswerProperty(t *testing.T) {
	str := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.StringOf(rapid.SampledFrom([]rune("a b\r\n\t\u0085\u2028\u2029\x00\uFFFD"))))
	result := rapid.Custom(func(t *rapid.T) vapi.Result {
		return vapi.Result{Name: str.Draw(t, "name"), ToolCallID: str.Draw(t, "id"), Result: str.Draw(t, "result"), Error: str.Draw(t, "error")}
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
			if !ok || line != strings.TrimSpace(line) || strings.ContainsFunc(line, unicode.IsControl) || strings.ContainsAny(line, "\u2028\u2029") {
				t.Fatalf("%s of result %d is %q", key, i, line)
			}
			if words := sayable(text); sayable(line) != words && (key != "error" || words != "") {
				t.Fatalf("%s of result %d lost something: %q of %q", key, i, line, text)
			}
		}
	})
}

// asUTF8 is what becomes of s in JSON.
func asUTF8(s string) string { return string([]rune(s)) }

// sayable is s without what separates.
func sayable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}

func TestAnswerOther(t *testing.T) {
	for _, messageType := range []string{"status-update", "end-of-call-report", "hang", "conversation-update", "transcript", "speech-update", "transfer-destination-request", ""} {
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
