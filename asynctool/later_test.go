package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
)

// host is what a tool can ask of whatever runs it.
type host struct {
	told []string
	err  error
}

func (h *host) Progress(_ context.Context, text string, delivery asynctool.Delivery) {
	h.told = append(h.told, string(delivery)+": "+text)
}

func (h *host) CompletionURL(context.Context) (string, error) {
	return "https://example.invalid/results/test", h.err
}

func TestLater(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	text := func(n int) string { return strings.Repeat("x", n) }
	later := func(l asynctool.Later) asynctool.Result { return asynctool.Result{Later: &l} }
	for label, row := range map[string]struct {
		result asynctool.Result
		want   string // the error; empty means the result is passed on
		later  asynctool.Later
		memory string
	}{
		"in a while":           {asynctool.ResumeIn(time.Hour, map[string]int{"page": 2}), "", asynctool.Later{In: time.Hour, State: map[string]int{"page": 2}}, `{"page":2}`},
		"at once":              {asynctool.ResumeIn(0, nil), "", asynctool.Later{}, ""},
		"before now":           {asynctool.ResumeIn(-time.Nanosecond, nil), "it goes on in -1ns", asynctool.Later{}, ""},
		"at a time":            {asynctool.ResumeAt(at, 7), "", asynctool.Later{At: at, State: 7}, "7"},
		"at a time long past":  {asynctool.ResumeAt(at.Add(-1000*time.Hour), nil), "", asynctool.Later{At: at.Add(-1000 * time.Hour)}, ""},
		"at no time":           {asynctool.ResumeAt(time.Time{}, nil), "", asynctool.Later{}, ""},
		"wait":                 {asynctool.Wait(), "", asynctool.Later{Outside: true}, ""},
		"a state of 64 KB":     {asynctool.ResumeIn(0, text(64<<10-2)), "", asynctool.Later{State: text(64<<10 - 2)}, `"` + text(64<<10-2) + `"`},
		"a state of more":      {asynctool.ResumeIn(0, text(64<<10-1)), "its state has 65537 bytes of JSON; the most is 65536", asynctool.Later{}, ""},
		"a state that swells":  {asynctool.ResumeIn(0, strings.Repeat("<", 20<<10)), "its state has 122882 bytes of JSON; the most is 65536", asynctool.Later{}, ""},
		"a state of no JSON":   {asynctool.ResumeIn(0, func() {}), "its state is no JSON: json: unsupported type: func()", asynctool.Later{}, ""},
		"a number of no JSON":  {asynctool.ResumeIn(0, math.NaN()), "its state is no JSON: json: unsupported value: NaN", asynctool.Later{}, ""},
		"with a text":          {asynctool.Result{Text: "half", Later: &asynctool.Later{}}, "it goes on later, and has a text, a delivery or an action already; say how far it is with Call.Progress", asynctool.Later{}, ""},
		"with a delivery":      {asynctool.Result{Delivery: asynctool.Say, Later: &asynctool.Later{}}, "it goes on later, and has a text, a delivery or an action already; say how far it is with Call.Progress", asynctool.Later{}, ""},
		"with an action":       {asynctool.Result{Action: asynctool.EndCall{}, Later: &asynctool.Later{}}, "it goes on later, and has a text, a delivery or an action already; say how far it is with Call.Progress", asynctool.Later{}, ""},
		"a state that is null": {later(asynctool.Later{State: (*int)(nil)}), "", asynctool.Later{State: (*int)(nil)}, "null"},
	} {
		t.Run(label, func(t *testing.T) {
			got, err := answering(t, row.result, nil).Run(t.Context(), asynctool.Call{}, json.RawMessage(`{}`))
			if row.want != "" {
				if want := "tool x: its result cannot be delivered: " + row.want; err == nil || err.Error() != want {
					t.Fatalf("got  %v\nwant %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// The tool's own delivery is for its last result.
			if diff := cmp.Diff(asynctool.Result{Later: &row.later}, got); diff != "" {
				t.Error(diff)
			}
			if memory, err := got.Later.Memory(); err != nil || string(memory) != row.memory {
				t.Errorf("the state is %.100s, %v, want %.100s", memory, err, row.memory)
			}
		})
	}
}

func TestState(t *testing.T) {
	type state struct {
		Page  int    `json:"page"`
		Order string `json:"order"`
	}
	for label, row := range map[string]struct {
		state string
		want  state
		ok    bool
	}{
		"first run":           {"", state{}, true},
		"what was left":       {`{"page":2,"order":"ä <b>"}`, state{2, "ä <b>"}, true},
		"of a newer version":  {`{"page":2,"later":true}`, state{Page: 2}, true},
		"null":                {`null`, state{}, true},
		"another type":        {`[1,2]`, state{}, false},
		"a member of another": {`{"page":"two"}`, state{}, false},
		"half":                {`{"page":`, state{}, false},
	} {
		t.Run(label, func(t *testing.T) {
			got, err := asynctool.State[state](asynctool.Call{State: json.RawMessage(row.state)})
			if row.ok {
				if err != nil || got != row.want {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			// Another attempt would find the same: it is final.
			final, ok := errors.AsType[*asynctool.Error](err)
			if !ok || final.Retry || final.Spoken != "" || !strings.HasPrefix(final.Error(), "the state of an earlier run cannot be read: ") {
				t.Errorf("%v", err)
			}
		})
	}
	// Other types than structs, and what a tool leaves is what it finds.
	memory, err := asynctool.ResumeIn(0, []time.Duration{1, math.MaxInt64}).Later.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := asynctool.State[[]time.Duration](asynctool.Call{State: memory}); err != nil || cmp.Diff([]time.Duration{1, math.MaxInt64}, got) != "" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestHost(t *testing.T) {
	h := &host{}
	call := asynctool.Call{Host: h}
	call.Progress(t.Context(), "I have found the order.")
	call.Note(t.Context(), "The order has three parts.")
	if diff := cmp.Diff([]string{"say: I have found the order.", "silent: The order has three parts."}, h.told); diff != "" {
		t.Error(diff)
	}
	if url, err := call.CompletionURL(t.Context()); err != nil || url != "https://example.invalid/results/test" {
		t.Errorf("%q, %v", url, err)
	}
	h.err = errors.New("no key")
	if _, err := call.CompletionURL(t.Context()); !errors.Is(err, h.err) {
		t.Error(err)
	}

	// A tool can be run without one.
	call = asynctool.Call{}
	call.Progress(t.Context(), "to nobody")
	call.Note(t.Context(), "to nobody")
	if url, err := call.CompletionURL(t.Context()); url != "" || !errors.Is(err, asynctool.ErrNoHost) {
		t.Errorf("%q, %v", url, err)
	}
}

func TestQuestion(t *testing.T) {
	type input struct {
		City string  `json:"city"`
		Days int     `json:"days,omitempty"`
		Rate float64 `json:"rate,omitempty"`
	}
	question := func(t *testing.T, d asynctool.Definition, arguments string) string {
		t.Helper()
		key, err := only(t, d).Question(json.RawMessage(arguments))
		if err != nil || key == "" || strings.Contains(key, "Riga") {
			t.Fatalf("%s asks %q, %v", arguments, key, err)
		}
		return key
	}
	plain := tool("x", func(x *asynctool.Tool[input]) { x.Repeat = asynctool.Join })
	city := tool("x", func(x *asynctool.Tool[input]) {
		x.Repeat, x.SameAs = asynctool.Replace, func(in input) string { return strings.ToLower(in.City) }
	})
	const arguments = `{"city":"Riga","days":3}`
	for label, row := range map[string]struct {
		tool      asynctool.Definition
		arguments string
		same      bool
	}{
		"the same":             {plain, arguments, true},
		"another order":        {plain, ` { "days" : 3, "city":"Riga"}`, true},
		"escaped":              {plain, `{"city":"\u0052iga","days":3}`, true},
		"a member twice":       {plain, `{"city":"Oslo","days":3,"city":"Riga"}`, true},
		"another value":        {plain, `{"city":"Riga","days":4}`, false},
		"one less":             {plain, `{"city":"Riga"}`, false},
		"of another tool":      {tool("y", func(x *asynctool.Tool[input]) { x.Repeat = asynctool.Join }), arguments, false},
		"SameAs":               {city, `{"city":"RIGA","days":4}`, true},
		"SameAs, another city": {city, `{"city":"Oslo","days":3}`, false},
	} {
		t.Run(label, func(t *testing.T) {
			first := arguments
			of := plain
			if strings.HasPrefix(label, "SameAs") {
				of = city
			}
			if same := question(t, of, first) == question(t, row.tool, row.arguments); same != row.same {
				t.Errorf("%s and %s ask the same: %t", first, row.arguments, same)
			}
		})
	}

	panics := tool("x", func(x *asynctool.Tool[input]) {
		x.Repeat, x.SameAs = asynctool.Join, func(input) string { panic("at the disco") }
	})
	for label, row := range map[string]struct {
		tool      asynctool.Definition
		arguments string
		want      string
	}{
		"a panic":              {panics, arguments, "tool x: its SameAs panicked: at the disco"},
		"a list":               {plain, `["Riga"]`, "the arguments are not a JSON object"},
		"null":                 {plain, `null`, "the arguments are not a JSON object"},
		"nothing":              {plain, ``, "the arguments are not a JSON object"},
		"a number too large":   {plain, `{"city":"Riga","rate":1e999}`, "the arguments hold a number that is out of range"},
		"an argument missing":  {plain, `{"days":3}`, "the arguments break the schema"},
		"an argument of a map": {city, `{"city":{"Riga":1}}`, "the arguments break the schema"},
		"one too many":         {city, `{"city":"Riga","street":"Riga"}`, "the arguments break the schema"},
		"narrower than it may": {city, `{"city":"Riga","days":4915100000001.5e7}`, "the arguments do not fit the input struct"},
	} {
		t.Run(label, func(t *testing.T) {
			if key, err := only(t, row.tool).Question(json.RawMessage(row.arguments)); err == nil || key != "" || err.Error() != row.want {
				t.Errorf("%q, %v, want %s", key, err, row.want)
			}
		})
	}
}

func TestTaskStatus(t *testing.T) {
	e := only(t, asynctool.TaskStatus())
	if asynctool.TaskStatusName != "task_status" || e.Name != asynctool.TaskStatusName || !e.Status || !e.SyncAck || e.Description == "" {
		t.Errorf("%+v", e)
	}
	schema, err := json.Marshal(e.ModelSchema())
	if err != nil || string(schema) != `{"type":"object","additionalProperties":false}` {
		t.Errorf("its arguments are %s, %v", schema, err)
	}
	// Whoever runs it all the same is told why that is wrong.
	_, err = e.Run(t.Context(), asynctool.Call{}, json.RawMessage(`{}`))
	if final, ok := errors.AsType[*asynctool.Error](err); !ok || final.Retry || !strings.Contains(final.Error(), "does not know task_status") {
		t.Error(err)
	}
	if _, err := asynctool.NewSet(asynctool.TaskStatus(), tool[empty]("task_status")); err == nil || err.Error() != "tool task_status: two tools have this name" {
		t.Error(err)
	}
}
