package dev

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/console"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/vapi"
)

// terminal shows what happens. It is a [slog.Handler], so that it also shows what the functions log.
type terminal struct {
	*screen
	function string
	attrs    []slog.Attr
}

// screen is the state that all handlers of one terminal share.
type screen struct {
	*console.Console
	started time.Time
	verbose bool // what the functions log is shown as they log it

	records func() []job.Record // of all jobs; set before the first message

	listener bool // the tool calls are not from webhooks; each is added when a function names it

	mu        sync.Mutex
	toolCalls map[string]*toolCall // by the id of the job
	named     map[string]int       // how many tool calls a tool has had
	failed    map[string]bool      // the jobs that are known to have failed for good
}

// toolCall is a tool call as it is shown.
type toolCall struct {
	callID, id string
	label      string
	colour     int // of colours
	paint      *color.Color
	simulated  bool // its results reach a simulated call, which is shown

	// listener marks a tool call that a listener received. Its call is known by its hash only.
	listener bool
	callHash string // empty if it is unknown
}

func newTerminal(cfg console.Config, verbose bool) *terminal {
	return &terminal{screen: &screen{
		Console: console.New(cfg), started: time.Now(), verbose: verbose,
		toolCalls: make(map[string]*toolCall), named: make(map[string]int), failed: make(map[string]bool),
	}}
}

var (
	faint   = color.New(color.Faint)
	bold    = color.New(color.Bold)
	good    = color.New(color.FgGreen)
	warning = color.New(color.FgYellow)
	failure = color.New(color.FgRed)
)

// colours tell tool calls apart. A tool call without a free colour shares one, and still has its own label.
var colours = []*color.Color{
	color.New(color.FgCyan), color.New(color.FgMagenta), color.New(color.FgBlue),
	color.New(color.FgHiCyan), color.New(color.FgHiMagenta), color.New(color.FgHiBlue),
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
	attrs := slices.Clone(t.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	e := newEntry(r, attrs)
	if r.Message == failedForGood && t.knownFailure(e.text("job")) {
		return nil // the message of the job is received several times before it moves
	}
	if t.verbose {
		t.logLine(r, attrs)
		return nil
	}
	if id, tool := e.text("job"), e.text("tool"); t.listener && id != "" && tool != "" {
		t.received(id, tool, "")
	}
	of := t.toolCallOf(e.text("job"), e.text("tool"))
	if text := e.words(of); text != "" {
		t.line(of, console.Text{Text: text, Paint: paintOf(r.Level)})
	}
	return nil
}

func paintOf(level slog.Level) *color.Color {
	switch {
	case level >= slog.LevelError:
		return failure
	case level >= slog.LevelWarn:
		return warning
	}
	return nil
}

// logLine shows a log record with its attributes.
func (t *terminal) logLine(r slog.Record, attrs []slog.Attr) {
	var shown []string
	for _, a := range attrs {
		if text := attribute(a); text != "" {
			shown = append(shown, text)
		}
	}
	t.line(&toolCall{label: t.function}, console.Text{Text: r.Message, Paint: cmp.Or(paintOf(r.Level), bold)},
		console.Text{Text: "  " + strings.Join(shown, "  "), Paint: faint})
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

// knownFailure reports whether a job was known to have failed for good. From now on, it is.
func (s *screen) knownFailure(jobID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.failed[jobID]
	s.failed[jobID] = true
	return known
}

// add adds a tool call of a webhook. A repeated one is the same again. The second tool call of a tool is labelled
// with its number, and so on.
func (s *screen) add(m vapi.Message, position int, simulated bool) *toolCall {
	t := m.ToolCalls[position]
	jobID := ack.JobID(m.Call.ID, t, position)
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.toolCalls[jobID]; known != nil {
		return known
	}
	return s.label(jobID, t.Name, &toolCall{callID: m.Call.ID, id: t.ID, simulated: simulated})
}

// received adds the tool call of a job that a listener has received. jobID is as in the logs. A repeated one is the
// same again.
func (s *screen) received(jobID, tool, callHash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.toolCalls[jobID] == nil {
		s.label(jobID, tool, &toolCall{listener: true, callHash: callHash})
	}
}

// label adds a tool call with a label and a colour. The caller has locked s.mu.
func (s *screen) label(jobID, tool string, added *toolCall) *toolCall {
	added.label, added.colour = tool, len(s.toolCalls)%len(colours)
	added.paint = colours[added.colour]
	if s.named[tool]++; s.named[tool] > 1 {
		added.label += fmt.Sprintf(" %d", s.named[tool])
	}
	s.toolCalls[jobID] = added
	return added
}

// toolCallOf returns the tool call of a job. One that is unknown has only the name of its tool.
func (s *screen) toolCallOf(jobID, tool string) *toolCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.toolCalls[jobID]; known != nil {
		return known
	}
	return &toolCall{label: tool}
}

// inCall returns the tool call with an id in a call. It is empty if there is none.
func (s *screen) inCall(callID, id string) *toolCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.toolCalls {
		if t.callID == callID && t.id == id {
			return t
		}
	}
	return new(toolCall)
}

// onlyOne returns the tool call whose result a call still expects. It is empty if there are several.
func (s *screen) onlyOne(callID string) *toolCall {
	of := new(toolCall)
	for _, r := range s.records() {
		switch {
		case r.CallID != callID || settled(r):
		case of.label != "":
			return new(toolCall)
		default:
			of = s.toolCallOf(r.ID, r.Tool)
		}
	}
	return of
}

// The widths of a terminal from which on it has room for columns, and for whole times.
const (
	columnsWidth = 80
	timesWidth   = 60
)

// line shows what happens to a tool call.
func (s *screen) line(of *toolCall, texts ...console.Text) {
	width := s.Width()
	at := fmt.Sprintf("%7.2fs  ", time.Since(s.started).Seconds())
	if width > 0 && width < timesWidth {
		at = fmt.Sprintf("%5.1fs ", time.Since(s.started).Seconds())
	}
	label := console.Text{Text: of.label, Paint: of.paint}
	first := []console.Text{{Text: at, Paint: faint}}
	hang := len(at) + 2
	switch {
	case width == 0 || width >= columnsWidth:
		const column = 18
		first = append(first, label, console.Plain(strings.Repeat(" ", max(0, column-console.Cells(of.label))+2)))
		hang += column
	case of.label != "":
		first = append(first, label, console.Plain(": "))
	}
	s.Print(first, []console.Text{console.Plain(strings.Repeat(" ", hang))}, texts...)
}

// say shows a text of the run itself. An indented line is a command, which must remain in one line.
func (s *screen) say(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	for line := range strings.Lines(text + "\n") {
		if strings.HasPrefix(line, "  ") {
			fmt.Fprint(s, line)
			continue
		}
		s.Print(nil, nil, console.Plain(strings.TrimSuffix(line, "\n")))
	}
}

// tell shows a painted text of the run itself, behind an empty line.
func (s *screen) tell(paint *color.Color, text string) {
	s.Print(nil, nil, console.Plain("\n"), console.Text{Text: text, Paint: paint})
}

// quote shows the text of a message in a frame.
func (s *screen) quote(of *toolCall, content string) {
	indent := strings.Repeat(" ", 12)
	if width := s.Width(); width > 0 && width < columnsWidth {
		indent = "  "
	}
	frame := []console.Text{console.Plain(indent), {Text: "│ ", Paint: cmp.Or(of.paint, faint)}}
	s.Print(frame, frame, framed(content)...)
}

// called shows a tool call of a webhook. It shows the arguments only if the call is on this machine: those of a call
// at Vapi are a caller's own words.
func (s *screen) called(of *toolCall, t vapi.ToolCall, local bool) {
	text := "called"
	if given := arguments(t.Arguments); given != "" && local {
		text += " with "
		s.line(of, console.Plain(text), console.Text{Text: given, Paint: bold})
		return
	}
	s.line(of, console.Plain(text))
}

// answered shows the answer to a webhook. It shows the texts only if the call is on this machine: they may be about a
// caller.
func (s *screen) answered(m vapi.Message, local bool, took time.Duration, answer []byte) {
	results := resultsOf(answer)
	first := "Vapi got its answer in " + span(took)
	if !local && len(results) > 0 {
		s.line(new(toolCall), console.Plain(first))
		return
	}
	differs := func(r result) bool { return r.data() || r.text() != results[0].text() }
	if len(results) > 1 && !slices.ContainsFunc(results, differs) {
		text := fmt.Sprintf("%s, for all %d tool calls: %s", first, len(results), results[0].excerpt())
		s.line(new(toolCall), console.Plain(text))
		return
	}
	for _, r := range results {
		of := s.inCall(m.Call.ID, r.ToolCallID)
		if !r.data() {
			s.line(of, console.Plain(first+": "+r.excerpt()))
			continue
		}
		s.line(of, console.Plain(first+", and the assistant reads:"))
		s.quote(of, r.text())
	}
}

// heard shows a control message that reached a simulated call.
func (s *screen) heard(callID string, m vapi.ControlMessage) {
	what, content := describe(m)
	of := new(toolCall)
	switch ids := framedIDs(content); len(ids) {
	case 0:
		of = s.onlyOne(callID)
	case 1:
		of = s.inCall(callID, ids[0])
	}
	s.line(of, console.Text{Text: what, Paint: good})
	if content != "" {
		s.quote(of, content)
	}
}

// delivered begins the description of a control message.
const delivered = "delivered to the call; "

// describe describes a control message for a person. The content is empty if there is nothing to read.
func describe(m vapi.ControlMessage) (what, content string) {
	switch m := m.(type) {
	case vapi.AddMessage:
		if m.Silent {
			return delivered + "the assistant reads it, and stays silent:", m.Content
		}
		return delivered + "the assistant reads it, and responds:", m.Content
	case vapi.Say:
		return delivered + "the assistant says:", m.Content
	case vapi.AppendContext:
		switch m.Kind {
		case vapi.Thinking:
			return delivered + "the speaker knows this, and stays silent:", m.Content
		case vapi.Instructions:
			return delivered + "the speaker is asked to say something:", m.Content
		}
		return delivered + "the speaker has this to convey, in its own words:", m.Content
	case vapi.EndCall:
		return delivered + "the call is ended", ""
	case vapi.Transfer:
		return delivered + "the call is transferred to " + cmp.Or(m.Number, m.SIPURI), m.Content
	}
	body, err := json.Marshal(m)
	if err != nil {
		return "an invalid control message:", err.Error()
	}
	return delivered + "a control message:", string(body)
}

// undelivered shows the event for a result that could not be delivered. It shows the result only if the call is on this
// machine.
func (s *screen) undelivered(u job.Undelivered, local bool) {
	of := s.toolCallOf(u.JobID, u.Tool)
	text := "not delivered: " + operator.ReasonWords(string(u.Reason))
	if s.verbose {
		text += " (" + string(u.Reason) + ")"
	}
	if !local {
		s.line(of, console.Text{Text: text + ". It becomes an event", Paint: warning})
		return
	}
	s.line(of, console.Text{Text: text + ". It becomes an event:", Paint: warning})
	s.quote(of, cmp.Or(u.Content, string(u.Control)))
}

// watch shows how long the tools have been running, and until when jobs wait, until ctx ends.
func (s *screen) watch(ctx context.Context, records func() []job.Record) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for s.Live() {
		select {
		case <-ctx.Done():
			s.Status(console.Text{})
			return
		case <-tick.C:
		}
		s.Status(console.Text{Text: s.underWay(records(), s.Width()-1), Paint: faint})
	}
}

// underWay describes the jobs that run or wait, within so many cells. A job that has been running for less than a
// second is not worth a line.
func (s *screen) underWay(records []job.Record, cells int) string {
	var long, brief []string
	for _, r := range inOrder(records) {
		label := s.toolCallOf(r.ID, r.Tool).label
		switch running := time.Since(r.Updated); {
		case r.State == job.StateWaiting:
			until := moment(r.WakeAt)
			long = append(long, label+" waits until "+until)
			brief = append(brief, label+" until "+until)
		case r.State == job.StateRunning && r.Owner != "" && running >= time.Second:
			long = append(long, label+" has been running for "+span(running.Truncate(time.Second)))
			brief = append(brief, label+" "+span(running.Truncate(time.Second)))
		}
	}
	if len(long) == 0 {
		return ""
	}
	const begin = "… "
	if text := begin + strings.Join(long, ", "); console.Cells(text) <= cells {
		return text
	}
	for shown := len(brief); shown > 0; shown-- {
		text := begin + strings.Join(brief[:shown], " · ")
		if more := len(brief) - shown; more > 0 {
			text += fmt.Sprintf(" · %d more", more)
		}
		if console.Cells(text) <= cells {
			return text
		}
	}
	return begin + fmt.Sprintf("%d tool calls", len(brief))
}

// inOrder returns records in the order of their creation.
func inOrder(records []job.Record) []job.Record {
	return slices.SortedFunc(slices.Values(records), func(a, b job.Record) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
}
