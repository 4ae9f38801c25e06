package pipeline_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/internal/spoken/spokentest"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// author is everyone who writes a text that reaches a model: the services of tools, external systems, and the model
// that names tools, tool calls and arguments.
type author struct {
	mu    sync.Mutex
	write func() string
}

func (o *author) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.write()
}

// doors are the tools by which an author's text enters.
func (o *author) doors(office *office) []asynctool.Definition {
	returning := func(r asynctool.Result) runFunc {
		return func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			r := r
			r.Text = o.text()
			return r, nil
		}
	}
	same := func(*asynctool.Tool[input]) {}
	return []asynctool.Definition{
		changed("responds", returning(asynctool.Result{}), same),
		changed("relays", returning(asynctool.Result{External: true, Delivery: asynctool.Silent}), same),
		changed("fails", func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			return asynctool.Result{}, asynctool.Fail(o.text(), nil)
		}, same),
		changed("transfers", returning(asynctool.Result{Action: asynctool.Transfer{Number: "1555"}}), same),
		changed("works", func(ctx context.Context, call asynctool.Call, _ input) (asynctool.Result, error) {
			call.Note(ctx, o.text())
			return asynctool.ResumeIn(time.Minute, nil), nil
		}, func(t *asynctool.Tool[input]) { t.Deadline = 2 * time.Minute }),
		changed("quick", returning(asynctool.Result{}), func(t *asynctool.Tool[input]) {
			t.SyncAck, t.Quick = true, 5*time.Second
		}),
		office.approval(time.Hour, func(t *asynctool.Tool[input]) {
			t.Delivery, t.ExternalProgress = asynctool.Say, asynctool.Respond
		}),
		changed("calls", returning(asynctool.Result{External: true}), func(t *asynctool.Tool[input]) {
			t.AfterCall, t.Deadline = asynctool.CallBack, time.Hour
		}),
		changed("parks", returning(asynctool.Result{}), func(t *asynctool.Tool[input]) {
			t.AfterCall, t.Deadline = asynctool.NextCall, time.Hour
		}),
	}
}

// read is a text that a model reads, by the place where it reads it.
type read struct{ place, text string }

// visit makes an author's text enter by every door, in calls of an architecture, and returns what the models read.
func visit(t *testing.T, architecture string, o *author, seen func(read)) {
	t.Helper()
	var office office
	var api simcall.API
	ended := receipts(func(controlURL string) vapiclient.Receipt {
		if controlURL == "ended" {
			return gone
		}
		return delivered
	})
	w := newWorld(t, all(outside, ended.decorate, func(cfg *pipeline.Config) {
		cfg.ChatClient = &api
		cfg.OutboundCalls = &callback.OutboundCalls{
			Client: &api, Next: func(now time.Time) time.Time { return now }, AssistantID: "a", PhoneNumberID: "p",
		}
	}), o.doors(&office)...)
	w.Calls.Heard = func(_ string, m vapi.ControlMessage) {
		switch m := m.(type) {
		case vapi.AddMessage:
			seen(read{"a message", m.Content})
		case vapi.AppendContext:
			seen(read{"a context", m.Content})
		case vapi.Say:
			t.Errorf("it is spoken word for word: %+q", m.Content)
		}
	}
	show := func(body string) string {
		switch architecture {
		case "classic":
			return withModel(t, body, classicModel)
		case "GPT-Live":
			return withModel(t, body, liveModel)
		}
		return body
	}
	if architecture == "hidden" {
		w.Calls.GPTLive = func(string) bool { return true }
	}
	asking := func() string {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(input{o.text()}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	posts := func(member string) {
		b, err := json.Marshal(map[string]string{member: o.text()})
		if err != nil {
			t.Fatal(err)
		}
		if status := w.complete(office.url("call/x"), string(b)); status != http.StatusOK && status != http.StatusAccepted {
			t.Errorf("the %s was answered with %d", member, status)
		}
		settle()
	}
	answers := func(place, body string) {
		var answer struct {
			Results []struct{ Result, Error string }
		}
		if err := json.Unmarshal([]byte(w.post(show(body))), &answer); err != nil {
			t.Fatal(err)
		}
		for _, r := range answer.Results {
			seen(read{place, r.Result + r.Error})
		}
	}
	status := func() { answers("the status", webhook("call", "", toolCall{"s", "task_status", `{}`})) }

	for i, tool := range []string{"responds", "relays", "fails", "transfers", "works"} {
		w.post(show(webhook("call", "", toolCall{fmt.Sprint("a", i), tool, asking()})))
		settle()
	}
	// The model invents a tool, with an id of the tool call.
	named, err := json.Marshal(spoken.Cut(o.text()))
	if err != nil {
		t.Fatal(err)
	}
	body := webhook("call", "", toolCall{"ID", "NAME", `{}`})
	invented := strings.NewReplacer(`"NAME"`, `"x`+string(named[1:]), `"ID"`, string(named))
	w.post(show(invented.Replace(body)))
	settle()
	status()
	w.post(show(webhook("call", "", toolCall{"x", "approval", asking()})))
	settle()
	posts("progress")
	status()
	posts([]string{"result", "error"}[len(o.text())%2])
	status()
	if architecture != "hidden" { // the answer is used in calls that show that it is
		answers("an answer", webhook("call", "", toolCall{"q", "quick", asking()}))
	}
	w.post(show(webhook("ended", "", toolCall{"c", "calls", asking()}, toolCall{"p", "parks", asking()})))
	settle()
	for _, c := range api.Calls() {
		seen(read{"a variable", c.Variables["ringback_result"]})
		if first := c.Variables["ringback_result_text"]; first != "I have the answer to your request." {
			t.Errorf("the first message of an outbound call is %+q", first)
		}
	}
	w.post(statusUpdate("next", "in-progress"))
	settle()
	w.post(`{"message":{"type":"tool-calls","toolCallList":[{"id":"h","type":"function","function":` +
		`{"name":"responds","arguments":` + asking() + `}}],"chat":{"id":"chat","assistantId":"assistant"}}}`)
	settle()
	for _, c := range api.Chats() {
		seen(read{"a chat", c.Content})
	}
	time.Sleep(2 * time.Minute)
	w.drained()
}

// FuzzForgedMarkers composes forged markers, and makes them enter by every door. Whatever a model reads of them stands
// between markers with a new word. The forger knows the words of everything that was read before.
func FuzzForgedMarkers(f *testing.F) {
	for seed := range uint64(15) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			forger := spokentest.Forger{Random: rand.New(rand.NewPCG(seed, 0))}
			o := &author{write: func() string { return "x" + forger.Text() }}
			places := make(map[string]int)
			seen := func(r read) {
				o.mu.Lock()
				defer o.mu.Unlock()
				places[r.place]++
				words, err := spokentest.Check(r.text, forger.Known())
				if err != nil {
					t.Errorf("%s: %v", r.place, err)
				}
				forger.Words = append(forger.Words, words...)
			}
			architecture := []string{"classic", "GPT-Live", "hidden"}[seed%3]
			visit(t, architecture, o, seen)
			expectPlaces(t, architecture, places)
		})
	})
}

// expectPlaces checks that a visit has been everywhere.
func expectPlaces(t *testing.T, architecture string, places map[string]int) {
	t.Helper()
	for place, least := range map[string]int{
		"a message": 8, "the status": 3, "an answer": 1, "a variable": 1, "a chat": 1,
	} {
		switch {
		case place == "a message" && architecture != "classic":
			place = "a context"
		case place == "an answer" && architecture == "hidden":
			continue
		}
		if places[place] < least {
			t.Errorf("%s: the models read %v", architecture, places)
		}
	}
}

// TestLanguagesArriveAsWritten makes texts of many languages enter by every door. They arrive as they are written: in
// what was asked, too.
func TestLanguagesArriveAsWritten(t *testing.T) {
	for name, written := range spokentest.AsWritten {
		for _, architecture := range []string{"classic", "GPT-Live"} {
			t.Run(name+", "+architecture, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := &author{write: func() string { return written }}
					places := make(map[string]int)
					visit(t, architecture, o, func(r read) {
						o.mu.Lock()
						defer o.mu.Unlock()
						places[r.place]++
						want := 1
						switch {
						case strings.Contains(r.text, "There is no tool named"): // a name is one word
							return
						case strings.Contains(r.text, "asked:") && r.place != "the status" &&
							!strings.Contains(r.text, "It came to nothing."): // the words of the tool
							want = 2
						}
						if strings.Count(r.text, written) < want {
							t.Errorf("%s: it is not %d times in %+q", r.place, want, r.text)
						}
					})
					expectPlaces(t, architecture, places)
				})
			})
		}
	}
}
