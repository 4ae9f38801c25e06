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

	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/vapi"
)

// terminal shows what happens, a line each, to somebody who watches. It is a
// [slog.Handler], so that it shows just what the functions log.
type terminal struct {
	*screen
	function string
	attrs    []slog.Attr
}

// screen is what all handlers made of one terminal share.
type screen struct {
	started time.Time
	live    bool // a line may be drawn over

	mu    sync.Mutex
	out   io.Writer
	drawn bool // the last line is to be drawn over
}

func newTerminal(out io.Writer, live bool) *terminal {
	return &terminal{screen: &screen{out: out, live: live, started: time.Now()}}
}

var (
	faint   = color.New(color.Faint).SprintFunc()
	bold    = color.New(color.Bold).SprintFunc()
	spoken  = color.New(color.FgCyan).SprintFunc()
	good    = color.New(color.FgGreen).SprintFunc()
	warning = color.New(color.FgYellow).SprintFunc()
	failure = color.New(color.FgRed).SprintFunc()
)

// Enabled implements [slog.Handler].
func (t *terminal) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// WithGroup implements [slog.Handler]; nothing here has groups.
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
	var said []string
	add := func(a slog.Attr) bool {
		if text := attribute(a); text != "" {
			said = append(said, text)
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
	t.line(t.function, paint(r.Message)+"  "+faint(strings.Join(said, "  ")))
	return nil
}

func attribute(a slog.Attr) string {
	value := a.Value.Resolve()
	switch {
	case value.Kind() == slog.KindAny && value.Any() == nil: // an error that did not happen
		return ""
	case a.Key == "job":
		// The tool call's id tells jobs apart; the call's is long and the
		// same.
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

// moment is a time by the clock on the wall, with its date where it is not near.
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

// say shows text as it is.
func (s *screen) say(format string, a ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	fmt.Fprintf(s.out, format+"\n", a...)
}

// draw shows a line that the next one is drawn over.
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

// toolCall shows what came in with the webhook.
func (s *screen) toolCall(t vapi.ToolCall) {
	s.line("webhook", bold(t.Name)+"  "+faint(excerpt(string(t.Arguments))))
}

func excerpt(text string) string {
	const most = 100
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// heard shows a message that reached a call.
func (s *screen) heard(_ string, m vapi.ControlMessage) {
	what, content := describe(m)
	s.line("call", spoken(what))
	s.quote(content)
}

// quote shows what was said.
func (s *screen) quote(content string) {
	for line := range strings.Lines(content) {
		s.say("%s%s", strings.Repeat(" ", 12)+faint("│ "), spoken(strings.TrimRight(line, "\n")))
	}
}

func describe(m vapi.ControlMessage) (what, content string) {
	switch m := m.(type) {
	case vapi.AddMessage:
		what = "a system message is in the conversation, and the assistant answers to it"
		if m.Silent {
			what = "a system message is in the conversation; the assistant knows, and stays silent"
		}
		return what, m.Content
	case vapi.Say:
		return "the assistant says", m.Content
	default:
		body, err := json.Marshal(m)
		if err != nil {
			return "a control message that is not valid", err.Error()
		}
		return "a control message", string(body)
	}
}

// watch shows how long each tool has been running, and on a terminal also until
// when jobs wait, until ctx ends.
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

// underWay says what runs, and what waits where that is wanted. It is a line for
// a terminal, so it names a few.
func underWay(records []job.Record, precision time.Duration, waits bool) string {
	var found []job.Record
	for _, r := range records {
		running := r.State == job.StateRunning && r.Owner != "" && time.Since(r.Updated) >= precision
		if running || waits && r.State == job.StateWaiting {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b job.Record) int { return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID)) })
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
