package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/operator"
)

// event is something that happens in a call of a tool, as --json shows it.
type event struct {
	Event   string  `json:"event"`
	Seconds float64 `json:"seconds"`

	CallID     string          `json:"callId,omitempty"`
	ToolCallID string          `json:"toolCallId,omitempty"`
	JobID      string          `json:"jobId,omitempty"`
	Tool       string          `json:"tool,omitempty"`
	Arguments  json.RawMessage `json:"arguments,omitempty"`

	State       string `json:"state,omitempty"`
	Status      string `json:"status,omitempty"`
	Failed      bool   `json:"failed,omitempty"`      // the status is that of a failure, and no one cancelled the job
	CancelledBy string `json:"cancelledBy,omitempty"` // who cancelled the job, as in [operator.Job]
	Reason      string `json:"reason,omitempty"`      // of a failure or a cancellation, for the operator
	Text        string `json:"text,omitempty"`
	Control     any    `json:"control,omitempty"` // a control message
}

// report shows events, each with the time since the webhook was posted.
type report struct {
	out   io.Writer
	json  bool
	began time.Time // zero before the webhook is posted

	answered, finished time.Duration
}

var bold = color.New(color.Bold).SprintFunc()

// show shows an event.
func (r *report) show(e event) {
	if !r.began.IsZero() {
		took := time.Since(r.began)
		e.Seconds = float64(took.Round(time.Microsecond)) / float64(time.Second)
		switch e.Event {
		case "answer":
			r.answered = took
		case "result":
			r.finished = took
		}
	}
	if r.json {
		r.line(e)
		return
	}
	if e.Event == "call" {
		fmt.Fprintf(r.out, "%s %s\n", bold(e.Tool), printable(compact(e.Arguments)))
		fmt.Fprintf(r.out, "%s\n\n", faint("job "+e.JobID+", call "+e.CallID))
		return
	}
	text := e.Text
	if e.Control != nil {
		control, err := json.Marshal(e.Control)
		if err != nil {
			control = []byte(err.Error())
		}
		text = string(control)
	}
	if e.Status == "error" {
		text = strings.TrimSpace("(error) " + text)
	}
	paint := fmt.Sprint
	if e.Event == "result" {
		paint = bold
	}
	for i, line := range strings.Split(printable(text), "\n") {
		if i == 0 {
			fmt.Fprintf(r.out, "%s  %-9s  %s\n", faint(fmt.Sprintf("%8.3fs", e.Seconds)), e.Event, paint(line))
			continue
		}
		fmt.Fprintf(r.out, "%22s%s\n", "", paint(line))
	}
}

// end shows the last event. A person reads a text and the times instead.
func (r *report) end(e event, text string) {
	if r.json {
		e.Seconds = time.Since(r.began).Round(time.Microsecond).Seconds()
		r.line(e)
		return
	}
	switch {
	case text == "" && r.finished > 0 && r.answered == 0: // there was no webhook to answer
		text = fmt.Sprintf("The result came after %s.", short(r.finished))
	case text == "" && r.finished > 0:
		text = fmt.Sprintf("The caller waited %s for the answer. The result came after %s.",
			short(r.answered), short(r.finished))
	}
	if text != "" {
		fmt.Fprintf(r.out, "\n%s\n", text)
	}
}

// line writes an event as one line of JSON.
func (r *report) line(e event) {
	e.Failed = operator.Job{Status: job.Status(e.Status), CancelledBy: e.CancelledBy}.CountsAsFailed()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e); err != nil {
		fmt.Fprintf(r.out, "{\"event\":%q,\"error\":\"cannot encode the event\"}\n", e.Event)
		return
	}
	_, _ = io.WriteString(r.out, escape(text.String()))
}

// short formats a duration with few digits.
func short(d time.Duration) string {
	precision := time.Second / 100
	if d < time.Second {
		precision = time.Millisecond
	}
	return cmp.Or(d.Round(precision), precision).String()
}

// compact returns JSON on one line.
func compact(text json.RawMessage) string {
	var line bytes.Buffer
	if json.Compact(&line, text) != nil {
		return string(text)
	}
	return line.String()
}

// program returns the command that starts this program, as a user types it in the project's folder.
func program() string {
	if _, err := os.Stat("cmd/ringback/main.go"); err == nil {
		return "go run ./cmd/ringback"
	}
	return "ringback"
}
