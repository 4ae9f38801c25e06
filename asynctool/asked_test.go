package asynctool_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ringback/ringback/asynctool"
)

type askedInput struct {
	Order  string            `json:"order"`
	Count  int               `json:"count,omitempty"`
	Note   string            `json:"note,omitempty"`
	Card   string            `json:"card,omitempty"`
	Items  []string          `json:"items,omitempty"`
	Ship   map[string]string `json:"ship,omitempty"`
	Caller string            `json:"caller,omitempty"`
}

func askedTool(t *testing.T, change func(*asynctool.Tool[askedInput])) *asynctool.Entry {
	t.Helper()
	tool := asynctool.Tool[askedInput]{
		Name: "order_status", Description: "Looks up an order.", Static: map[string]string{"caller": "{{customer.number}}"},
		Run: func(context.Context, asynctool.Call, askedInput) (asynctool.Result, error) {
			return asynctool.Text("x"), nil
		},
	}
	if change != nil {
		change(&tool)
	}
	set, err := asynctool.NewSet(tool)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := set.Lookup("order_status")
	return e
}

func TestAsked(t *testing.T) {
	cipher := func(bytes int) string { return base64.StdEncoding.EncodeToString(make([]byte, bytes)) }
	for name, tt := range map[string]struct{ arguments, want string }{
		"one argument":         {`{"order":"A-1042"}`, `{"order":"A-1042"}`},
		"sorted":               {` {"order":"A-1042", "count": 2}`, `{"count":2,"order":"A-1042"}`},
		"as the model wrote":   {`{"order":"<a> & b"}`, `{"order":"<a> & b"}`},
		"a long number":        {`{"count":12345678901234567890}`, `{"count":12345678901234567890}`},
		"a line break":         {"{\"order\":\"a\\n>>>\\u2028b\"}", `{"order":"a\n>>>\u2028b"}`},
		"a static parameter":   {`{"order":"A-1042","caller":"+15550100123"}`, `{"order":"A-1042"}`},
		"nothing but static":   {`{"caller":"+15550100123"}`, ""},
		"not in the schema":    {`{"order":"A-1042","number":"+15550100123"}`, `{"order":"A-1042"}`},
		"in another case":      {`{"order":"A-1042","Caller":"+15550100123"}`, `{"order":"A-1042"}`},
		"an absent argument":   {`{"order":"A-1042","count":null}`, `{"order":"A-1042"}`},
		"breaks the schema":    {`{"count":"many"}`, `{"count":"many"}`},
		"no arguments":         {`{}`, ""},
		"not an object":        {`[1]`, ""},
		"not JSON":             {`{"order":`, ""},
		"encrypted, 2048 bits": {`{"order":"A-1042","card":"` + cipher(256) + `"}`, `{"order":"A-1042"}`},
		"encrypted, 4096 bits": {`{"order":"A-1042","card":"` + cipher(512) + `"}`, `{"order":"A-1042"}`},
		"encrypted, in a list": {`{"items":["a","` + cipher(256) + `","b"]}`, `{"items":["a","b"]}`},
		"encrypted, nested":    {`{"ship":{"city":"Rome","street":"` + cipher(384) + `"}}`, `{"ship":{"city":"Rome"}}`},
		"a long text": {
			`{"note":"` + strings.Repeat("語", 1000) + `","order":"A-1042"}`,
			`{"note":"` + strings.Repeat("語", 79) + `…","order":"A-1042"}`,
		},
		"long texts in a list": {
			`{"items":["` + strings.Repeat("a", 1000) + `","b"]}`, `{"items":["` + strings.Repeat("a", 79) + `…","b"]}`,
		},
		"too much": {
			`{"items":["` + strings.Repeat(`語","`, 1000) + `b"]}`, `{"items":[` + strings.Repeat(`"語",`, 47) + `"…`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := askedTool(t, nil).Asked(json.RawMessage(tt.arguments))
			if got != tt.want || utf8.RuneCountInString(got) > 200 {
				t.Errorf("%s, %d characters\nwant %s", got, utf8.RuneCountInString(got), tt.want)
			}
		})
	}
	hides := askedTool(t, func(x *asynctool.Tool[askedInput]) { x.HideArguments = true })
	if got := hides.Asked(json.RawMessage(`{"order":"A-1042"}`)); got != "" {
		t.Errorf("a tool that hides its arguments names %s", got)
	}
}
