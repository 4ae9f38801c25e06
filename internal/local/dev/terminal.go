package dev

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/vapi"
)

// terminal shows what happens, a line each. It is a [slog.Handler], so that it shows
// what the functions log.
type terminal struct {
	*screen
	function string
	attrs    []slog.Attr
}

// screen is the state that all handlers of one terminal share.
type screen struct {
	started time.Time
	live    bool // lines can be overwritten

	mu    sync.Mutex
	out   io.Writer
	drawn bool // the last line must be overwritten
}

func newTerminal(out io.Writer, live bool) *terminal {
	return &terminal{screen: &screen{out: out, live: live, started: time.Now()}}
}

var (
	faint   = painted(color.Faint)
	bold    = painted(color.Bold)
	spoken  = painted(color.FgCyan)
	good    = painted(color.FgGreen)
	warning = painted(color.FgYellow)
	failure = painted(color.FgRed)
)

// painted returns a function that paints a text. Callers, models and tools write such texts, and a terminal must not
// obey them, so it also removes control characters and bidirectional overrides. All texts but the run's own are
// painted.
func painted(attribute color.Attribute) func(text string) string {
	paint := color.New(attribute).SprintFunc()
	return func(text string) string {
		return paint(strings.Map(func(r rune) rune {
			if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
				return -1
			}
			return r
		}, text))
	}
}

// Enabled implements [slog.Handler].
func (t *terminal) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// WithGroup implements [slog.Handler]. The functions use no groups.
func (t *terminal) WithGroup(string) slog.Handler { return t }

// WithAttrs implements [slog.Handler].
func (t *terminal) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &terminal{screen: t.screen, function: t.function}
	next.attrs = append(next.attrs, t.attrs...)
	for _, a := range attrs {
		if a.Key == "function" {
			next.function = a.Value.String()
			continue
		}
		next.attrs = append(next.attrs, a)
	}
	return next
}

// Handle implements [slog.Handler].
func (t *terminal) Handle(_ context.Context, r slog.Record) error {
	var shown []string
	add := func(a slog.Attr) bool {
		if text := attribute(a); text != "" {
			shown = append(shown, text)
		}
		return true
	}
	for _, a := range t.attrs {
		add(a)
	}
	r.Attrs(add)
	paint := bold
	switch {
	case r.Level >= slog.LevelError:
		paint = failure
	case r.Level >= slog.LevelWarn:
		paint = warning
	}
	t.line(t.function, paint(r.Message)+"  "+faint(strings.Join(shown, "  ")))
	return nil
}

func attribute(a slog.Attr) string {
	value := a.Value.Resolve()
	switch {
	case value.Kind() == slog.KindAny && value.Any() == nil: // no error
		return ""
	case a.Key == "job":
		// The id of the tool call is enough. The call's id is long, and mostly
		// the same.
		_, id, _ := strings.Cut(value.String(), "/")
		return id
	case a.Key == "tool":
		return value.String()
	case value.Kind() == slog.KindDuration:
		return a.Key + "=" + short(value.Duration())
	case value.Kind() == slog.KindTime:
		return a.Key + "=" + moment(value.Time())
	}
	return a.Key + "=" + value.String()
}

// moment formats a local time, with its date if it is not near.
func moment(t time.Time) string {
	layout := time.TimeOnly
	if d := time.Until(t).Abs(); d > 12*time.Hour {
		layout = time.DateTime
	}
	return t.Local().Format(layout)
}

func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond / 10).String()
	default:
		return d.Round(time.Second / 10).String()
	}
}

// line shows one line.
func (s *screen) line(who, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	fmt.Fprintf(s.out, "%s  %-8s  %s\n", faint(fmt.Sprintf("%7.2fs", time.Since(s.started).Seconds())), who, text)
}

// say shows a text unchanged.
func (s *screen) say(format string, a ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	fmt.Fprintf(s.out, format+"\n", a...)
}

// draw shows a line that the next one overwrites.
func (s *screen) draw(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	if text != "" {
		fmt.Fprint(s.out, text)
		s.drawn = true
	}
}

func (s *screen) erase() {
	if s.drawn {
		fmt.Fprint(s.out, "\r\x1b[K")
		s.drawn = false
	}
}

// toolCall shows a tool call of a webhook. It shows the arguments only if the call is
// simulated: those of a call at Vapi are a caller's own words.
func (s *screen) toolCall(t vapi.ToolCall, simulated bool) {
	text := bold(t.Name)
	if simulated {
		text += "  " + faint(excerpt(string(t.Arguments)))
	}
	s.line("webhook", text)
}

func excerpt(text string) string {
	const most = 100
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// heard shows a control message that reached a call.
func (s *screen) heard(_ string, m vapi.ControlMessage) {
	what, content := describe(m)
	s.line("call", spoken(what))
	s.quote(content)
}

// quote shows the text of a message.
func (s *screen) quote(content string) {
	for line := range strings.Lines(content) {
		s.say("%s%s", strings.Repeat(" ", 12)+faint("│ "), spoken(strings.TrimRight(line, "\n")))
	}
}

func describe(m vapi.ControlMessage) (what, content string) {
	switch m := m.(type) {
	case vapi.AddMessage:
		what = "a system message is in the conversation, and the assistant responds to it"
		if m.Silent {
			what = "a system message is in the conversation, and the assistant stays silent"
		}
		return what, m.Content
	case vapi.Say:
		return "the assistant says", m.Content
	case vapi.AppendContext:
		switch m.Kind {
		case vapi.Commentary:
			what = "the speaker has this to convey, in its own words"
		case vapi.Thinking:
			what = "the speaker knows this, and stays silent"
		case vapi.Instructions:
			what = "the speaker is asked to say something"
		}
		return what, m.Content
	default:
		body, err := json.Marshal(m)
		if err != nil {
			return "an invalid control message", err.Error()
		}
		return "a control message", string(body)
	}
}

// watch shows how long the tools have been running, until ctx ends. On a terminal it
// also shows until when jobs wait.
func (s *screen) watch(ctx context.Context, records *memtable.Store) {
	every := 2 * time.Second
	if s.live {
		every = 100 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.draw("")
			return
		case <-tick.C:
		}
		text := underWay(records.Records(), min(every, time.Second), s.live)
		switch {
		case s.live:
			if text != "" {
				text = strings.Repeat(" ", 20) + faint("… "+text)
			}
			s.draw(text)
		case text != "":
			s.line("", faint("… "+text))
		}
	}
}

// underWay describes the jobs that run, and with waits also those that wait, in one
// line. It names only a few.
func underWay(records []job.Record, precision time.Duration, waits bool) string {
	var found []job.Record
	for _, r := range records {
		running := r.State == job.StateRunning && r.Owner != "" && time.Since(r.Updated) >= precision
		if running || waits && r.State == job.StateWaiting {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b job.Record) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	const most = 2
	var texts []string
	for _, r := range found[:min(len(found), most)] {
		if r.State == job.StateWaiting {
			texts = append(texts, fmt.Sprintf("%s waits until %s", r.Tool, moment(r.WakeAt)))
			continue
		}
		texts = append(texts, fmt.Sprintf("%s has been running for %s", r.Tool, time.Since(r.Updated).Truncate(precision)))
	}
	if n := len(found) - most; n > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(texts, ", ")
}
