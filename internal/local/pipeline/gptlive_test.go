package pipeline_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/vapi"
)

// kinds returns the kinds of a call's messages, in the order of their arrival.
func (w *world) kinds(callID string) []string {
	var kinds []string
	for _, m := range w.Calls.Messages(callID) {
		switch m := m.(type) {
		case vapi.AddMessage:
			kinds = append(kinds, map[bool]string{true: "add silently", false: "add"}[m.Silent])
		case vapi.Say:
			kinds = append(kinds, map[bool]string{true: "say and end", false: "say"}[m.EndCallAfterSpoken])
		case vapi.AppendContext:
			kinds = append(kinds, string(m.Kind))
		case vapi.EndCall:
			kinds = append(kinds, "end")
		default:
			w.t.Errorf("call %s got %T", callID, m)
		}
	}
	return kinds
}

// TestToolsInBothArchitectures runs the same tools in a classic call, and in GPT-Live calls that show their
// architecture or hide it. Then the model asks for the status.
func TestToolsInBothArchitectures(t *testing.T) {
	says := func(tool *asynctool.Tool[input]) { tool.Delivery = asynctool.Say }
	returning := func(r asynctool.Result) runFunc {
		return func(context.Context, asynctool.Call, input) (asynctool.Result, error) { return r, nil }
	}
	var o office
	tools := []asynctool.Definition{
		echo,
		changed("speaks", returning(asynctool.Text("Spoken.")), says),
		changed("relays", returning(asynctool.Result{Text: "Relayed.", External: true}), says),
		changed("quiet", returning(asynctool.Result{Text: "Known.", Delivery: asynctool.Silent}),
			func(*asynctool.Tool[input]) {}),
		changed("works", func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			call.Progress(ctx, "Half.")
			time.Sleep(6 * time.Second)
			call.Note(ctx, "Nearly.")
			time.Sleep(6 * time.Second)
			return asynctool.Text("Done."), nil
		}, func(*asynctool.Tool[input]) {}),
		changed("slow", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			time.Sleep(5 * time.Second)
			return asynctool.Text("Done."), nil
		}, func(t *asynctool.Tool[input]) { t.Hold, t.HoldAfter = "One moment.", 2*time.Second }),
		changed("goodbye", returning(asynctool.Result{Text: "Bye.", Action: asynctool.EndCall{}}),
			func(*asynctool.Tool[input]) {}),
		o.approval(time.Hour),
	}
	const add, commentary, thinking = "add", "commentary", "thinking"
	for name, tt := range map[string]struct{ classic, live []string }{
		"echo":     {[]string{add}, []string{commentary}},
		"speaks":   {[]string{"say"}, []string{"instructions"}},
		"relays":   {[]string{"say"}, []string{commentary}},
		"quiet":    {[]string{"add silently"}, []string{thinking}},
		"works":    {[]string{"say", "add silently", add}, []string{commentary, thinking, commentary}},
		"slow":     {[]string{"say", add}, []string{commentary, commentary}},
		"goodbye":  {[]string{"say and end"}, []string{commentary, "end"}},
		"approval": {[]string{add}, []string{commentary}},
	} {
		for _, kind := range []string{"classic", "GPT-Live", "hidden"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, outside, tools...)
					show := func(body string) string {
						switch kind {
						case "classic":
							return withModel(t, body, classicModel)
						case "GPT-Live":
							return withModel(t, body, liveModel)
						}
						return body
					}
					if kind == "hidden" {
						w.Calls.GPTLive = func(string) bool { return true }
					}
					w.post(show(webhook("call", "", toolCall{"a", name, `{"text":"x"}`})))
					settle()
					if name == "approval" {
						if status := w.complete(o.url("call/a"), `{"result":"Approved."}`); status != http.StatusOK {
							t.Errorf("the result was answered with %d", status)
						}
					}
					w.drained()
					want := tt.live
					if kind == "classic" {
						want = tt.classic
					}
					if diff := cmp.Diff(want, w.kinds("call")); diff != "" {
						t.Errorf("kinds of messages (-want +got):\n%s", diff)
					}
					if why := w.why("call/a"); why != "" {
						t.Errorf("undelivered because of %s", why)
					}
					status := w.post(show(webhook("call", "", toolCall{"s", "task_status", `{}`})))
					result := w.record("call/a").Result.Content
					if got := strings.Contains(status, result); got != (kind != "classic") {
						t.Errorf("the status contains the result: %t; it is %s", got, status)
					}
				})
			})
		}
	}
}
