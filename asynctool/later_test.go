package asynctool_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
)

// host is an [asynctool.Host] that records progress.
type host struct {
	progress []string
	err      error
}

func (h *host) Progress(_ context.Context, text string, delivery asynctool.Delivery) {
	h.progress = append(h.progress, string(delivery)+": "+text)
}

func (h *host) CompletionURL(context.Context) (string, error) {
	return "https://example.invalid/results/test", h.err
}

func TestLater(t *testing.T) {
	const (
		notAlone = "it resumes later, so it must have no text, delivery or action; report progress with Call.Progress"
		max      = 64 << 10
	)
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	past := at.Add(-1000 * time.Hour)
	text := func(n int) string { return strings.Repeat("x", n) }
	for label, row := range map[string]struct {
		result asynctool.Result
		want   string // the error; empty means Run returns the result
		later  asynctool.Later
		memory string
	}{
		"after a delay": {
			result: asynctool.ResumeIn(time.Hour, map[string]int{"page": 2}),
			later:  asynctool.Later{In: time.Hour, State: map[string]int{"page": 2}}, memory: `{"page":2}`,
		},
		"at once": {result: asynctool.ResumeIn(0, nil)},
		"after a negative delay": {
			result: asynctool.ResumeIn(-time.Nanosecond, nil), want: "it resumes in -1ns; the delay must not be negative",
		},
		"at a time":      {result: asynctool.ResumeAt(at, 7), later: asynctool.Later{At: at, State: 7}, memory: "7"},
		"at a past time": {result: asynctool.ResumeAt(past, nil), later: asynctool.Later{At: past}},
		"at no time":     {result: asynctool.ResumeAt(time.Time{}, nil)},
		"wait":           {result: asynctool.Wait(), later: asynctool.Later{Outside: true}},
		"largest state": {
			result: asynctool.ResumeIn(0, text(max-2)),
			later:  asynctool.Later{State: text(max - 2)}, memory: `"` + text(max-2) + `"`,
		},
		"state too large": {
			result: asynctool.ResumeIn(0, text(max-1)), want: "its state has 65537 bytes of JSON; the maximum is 65536",
		},
		"state too large when escaped": {
			result: asynctool.ResumeIn(0, strings.Repeat("<", 20<<10)),
			want:   "its state has 122882 bytes of JSON; the maximum is 65536",
		},
		"state that is no JSON": {
			result: asynctool.ResumeIn(0, func() {}),
			want:   "its state does not marshal to JSON: json: unsupported type: func()",
		},
		"number that is no JSON": {
			result: asynctool.ResumeIn(0, math.NaN()),
			want:   "its state does not marshal to JSON: json: unsupported value: NaN",
		},
		"with a text":     {result: asynctool.Result{Text: "half", Later: &asynctool.Later{}}, want: notAlone},
		"with a delivery": {result: asynctool.Result{Delivery: asynctool.Say, Later: &asynctool.Later{}}, want: notAlone},
		"with an action":  {result: asynctool.Result{Action: asynctool.EndCall{}, Later: &asynctool.Later{}}, want: notAlone},
		"null state": {
			result: asynctool.Result{Later: &asynctool.Later{State: (*int)(nil)}},
			later:  asynctool.Later{State: (*int)(nil)}, memory: "null",
		},
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
			// The tool's Delivery applies to its final result only.
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
		"first run":                {"", state{}, true},
		"as stored":                {`{"page":2,"order":"ä <b>"}`, state{2, "ä <b>"}, true},
		"of a newer version":       {`{"page":2,"later":true}`, state{Page: 2}, true},
		"null":                     {`null`, state{}, true},
		"another type":             {`[1,2]`, state{}, false},
		"a member of another type": {`{"page":"two"}`, state{}, false},
		"truncated":                {`{"page":`, state{}, false},
	} {
		t.Run(label, func(t *testing.T) {
			got, err := asynctool.State[state](asynctool.Call{State: json.RawMessage(row.state)})
			if row.ok {
				if err != nil || got != row.want {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			// It is final: another attempt would read the same state.
			final, ok := errors.AsType[*asynctool.Error](err)
			if !ok || final.Retry || final.Spoken != "" ||
				!strings.HasPrefix(final.Error(), "cannot read the state of an earlier run: ") {
				t.Errorf("%v", err)
			}
		})
	}
	// A state need not be a struct. It is read as it was written.
	want := []time.Duration{1, math.MaxInt64}
	memory, err := asynctool.ResumeIn(0, want).Later.Memory()
	if err != nil {
		t.Fatal(err)
	}
	got, err := asynctool.State[[]time.Duration](asynctool.Call{State: memory})
	if err != nil || !slices.Equal(want, got) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestHost(t *testing.T) {
	h := &host{}
	call := asynctool.Call{Host: h}
	call.Progress(t.Context(), "I've found the order.")
	call.Note(t.Context(), "The order has three parts.")
	want := []string{"say: I've found the order.", "silent: The order has three parts."}
	if !slices.Equal(want, h.progress) {
		t.Errorf("%q, want %q", h.progress, want)
	}
	if url, err := call.CompletionURL(t.Context()); err != nil || url != "https://example.invalid/results/test" {
		t.Errorf("%q, %v", url, err)
	}
	h.err = errors.New("no key")
	if _, err := call.CompletionURL(t.Context()); !errors.Is(err, h.err) {
		t.Error(err)
	}

	// A tool can run without a host.
	call = asynctool.Call{}
	call.Progress(t.Context(), "discarded")
	call.Note(t.Context(), "discarded")
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
			t.Fatalf("%s: %q, %v", arguments, key, err)
		}
		return key
	}
	plain := tool("x", func(x *asynctool.Tool[input]) { x.Repeat = asynctool.Join })
	city := tool("x", func(x *asynctool.Tool[input]) {
		x.Repeat, x.SameAs = asynctool.Replace, func(in input) string { return strings.ToLower(in.City) }
	})
	const arguments = `{"city":"Riga","days":3}`
	otherTool := tool("y", func(x *asynctool.Tool[input]) { x.Repeat = asynctool.Join })
	for label, row := range map[string]struct {
		first, tool asynctool.Definition
		arguments   string
		same        bool
	}{
		"the same":             {plain, plain, arguments, true},
		"another order":        {plain, plain, ` { "days" : 3, "city":"Riga"}`, true},
		"escaped":              {plain, plain, `{"city":"\u0052iga","days":3}`, true},
		"a repeated member":    {plain, plain, `{"city":"Oslo","days":3,"city":"Riga"}`, true},
		"another value":        {plain, plain, `{"city":"Riga","days":4}`, false},
		"one less":             {plain, plain, `{"city":"Riga"}`, false},
		"another tool":         {plain, otherTool, arguments, false},
		"SameAs":               {city, city, `{"city":"RIGA","days":4}`, true},
		"SameAs, another city": {city, city, `{"city":"Oslo","days":3}`, false},
	} {
		t.Run(label, func(t *testing.T) {
			if same := question(t, row.first, arguments) == question(t, row.tool, row.arguments); same != row.same {
				t.Errorf("%s and %s ask for the same: %t", arguments, row.arguments, same)
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
		"a panic":              {panics, arguments, "tool x: its SameAs function panicked: at the disco"},
		"a list":               {plain, `["Riga"]`, "the arguments are not a JSON object"},
		"null":                 {plain, `null`, "the arguments are not a JSON object"},
		"empty":                {plain, ``, "the arguments are not a JSON object"},
		"a number too large":   {plain, `{"city":"Riga","rate":1e999}`, "the arguments hold a number that is out of range"},
		"an argument missing":  {plain, `{"days":3}`, "the arguments violate the schema"},
		"an argument too deep": {city, `{"city":{"Riga":1}}`, "the arguments violate the schema"},
		"one too many":         {city, `{"city":"Riga","street":"Riga"}`, "the arguments violate the schema"},
		"beyond the Go type": {city, `{"city":"Riga","days":4915100000001.5e7}`,
			"the arguments do not fit the input struct"},
	} {
		t.Run(label, func(t *testing.T) {
			key, err := only(t, row.tool).Question(json.RawMessage(row.arguments))
			if err == nil || key != "" || err.Error() != row.want {
				t.Errorf("%q, %v, want %s", key, err, row.want)
			}
		})
	}
}

func TestTaskStatus(t *testing.T) {
	e := only(t, asynctool.TaskStatus())
	if asynctool.TaskStatusName != "task_status" || e.Name != asynctool.TaskStatusName || !e.Status || !e.SyncAck ||
		e.Description == "" {
		t.Errorf("%+v", e)
	}
	schema, err := json.Marshal(e.ModelSchema())
	if err != nil || string(schema) != `{"type":"object","additionalProperties":false}` {
		t.Errorf("its arguments are %s, %v", schema, err)
	}
	// An older function may run it all the same. The error explains that.
	_, err = e.Run(t.Context(), asynctool.Call{}, json.RawMessage(`{}`))
	final, ok := errors.AsType[*asynctool.Error](err)
	if !ok || final.Retry || !strings.Contains(final.Error(), "does not know task_status") {
		t.Error(err)
	}
	_, err = asynctool.NewSet(asynctool.TaskStatus(), tool[empty]("task_status"))
	if err == nil || err.Error() != "tool task_status: two tools have this name" {
		t.Error(err)
	}
}

// TestCancelTask tests that a set with cancellable tools has the tool that cancels them.
func TestCancelTask(t *testing.T) {
	cancellable := func(name string) asynctool.Definition {
		d := tool[empty](name)
		d.Cancellable = true
		return d
	}
	set, err := asynctool.NewSet(cancellable("a"), tool[empty]("b"), cancellable("c"))
	if err != nil {
		t.Fatal(err)
	}
	entries := set.Entries()
	e, ok := set.Lookup(asynctool.CancelTaskName)
	if !ok || len(entries) != 4 || entries[3] != e || e.Name != "cancel_task" || !e.Status || !e.SyncAck || e.Cancellable {
		t.Fatalf("%d tools; the last one is %+v", len(entries), entries[len(entries)-1])
	}
	if !entries[0].Cancellable || entries[1].Cancellable {
		t.Error("the entries do not say what can be cancelled")
	}
	shown := e.ModelSchema()
	if !slices.Equal(shown.Properties["tool"].Enum, []any{"a", "c"}) || len(shown.Required) > 0 {
		t.Errorf("its arguments are %+v", shown)
	}
	if e.Timeout > time.Second {
		t.Errorf("it makes the function's timeout at least %s", e.Timeout)
	}
	// An older function may run it all the same. The error explains that.
	_, err = e.Run(t.Context(), asynctool.Call{}, json.RawMessage(`{"tool":"a"}`))
	final, ok := errors.AsType[*asynctool.Error](err)
	if !ok || final.Retry || !strings.Contains(final.Error(), "does not know cancel_task") {
		t.Error(err)
	}

	set, err = asynctool.NewSet(tool[empty]("b"))
	if err != nil || len(set.Entries()) != 1 {
		t.Errorf("a set without cancellable tools: %d tools, %v", len(set.Entries()), err)
	}
	_, err = asynctool.NewSet(tool[empty]("cancel_task"))
	if err == nil || err.Error() !=
		"tool cancel_task: the name is reserved for the tool that cancels others; choose another name" {
		t.Error(err)
	}
}
