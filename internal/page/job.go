package page

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/operator"
)

// jobModel is one job.
type jobModel struct {
	Job      operator.Details
	Status   status
	Day      string
	Duration string
	Steps    []stepModel
	Reason   string
	Why      string
	Progress string
	Numbers  numbers

	Arguments, State, Result, Control string
	Number                            string // of the customer; empty if it is not known

	Commands []command
	AtVapi   string // leads to the call at Vapi; empty if there is none

	Cancellable, Completable, Replayable, Redrivable bool
}

type stepModel struct {
	At     time.Time
	Offset string // since the first one
	Text   string
	Kind   kind
}

// command is a command line that does what the page does not.
type command struct{ What, Line string }

var done = map[string]string{
	"cancelled": "The job is cancelled. The caller hears of it.",
	"completed": "The result is stored, and on its way to the call.",
	"redriven":  "The message of the job is on its queue again.",
}

// job serves one job.
func (p *Page) job(w http.ResponseWriter, r *http.Request) {
	d, err := p.cfg.Jobs.Show(r.Context(), r.PathValue("id"), true)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	m := p.jobModel(r, d)
	p.show(w, r, http.StatusOK, view{
		Name: "job", Title: masked(d.Tool), Tab: "calls", Model: m, Done: done[r.URL.Query().Get("done")],
	})
}

func (p *Page) jobModel(r *http.Request, d operator.Details) jobModel {
	tool := d.Tool
	d.Tool = masked(tool)
	m := jobModel{Job: d, Day: day(d.Created, p.cfg.Now()), Numbers: numbersOf(r)}
	row := p.jobRow(d.Job)
	m.Status, m.Duration = row.Status, row.Duration
	m.Why = row.Why
	var from time.Time
	for _, s := range d.Steps {
		if from.IsZero() {
			from = s.At
		}
		text, k := describe(s)
		step := stepModel{At: s.At, Text: text, Kind: k}
		if !s.At.IsZero() {
			step.Offset = span(s.At.Sub(from))
		}
		m.Steps = append(m.Steps, step)
	}
	m.Reason, m.Progress = m.Numbers.text(d.Reason), m.Numbers.text(d.Progress)
	var arguments json.RawMessage
	if data := d.Data; data != nil {
		arguments = data.Arguments
		m.State = m.Numbers.text(indented(data.State))
		m.Result = m.Numbers.text(data.Result)
		m.Control = m.Numbers.text(indented(data.Control))
	}
	if p.cfg.Local != nil {
		if t, ok := p.cfg.Local.ToolCall(d.ID); ok {
			arguments = t.Arguments
			m.Number = m.Numbers.text(t.Number)
		}
	} else if d.CallID != "" {
		m.AtVapi = "/ui/at-vapi/" + d.ID
	}
	m.Arguments = m.Numbers.text(indented(arguments))
	m.Commands = p.commands(d.ID, tool, arguments, &m.Numbers)
	m.Cancellable = p.cfg.Write && d.State.Active()
	m.Completable = p.cfg.Write && d.External
	_, known := p.cfg.Tools.Lookup(tool)
	m.Replayable = p.cfg.Write && p.cfg.Local != nil && known && !d.State.Active()
	m.Redrivable = p.cfg.Write && p.cfg.Local != nil && d.Exhausted && !d.State.Active()
	return m
}

// commands returns what an operator may type next.
func (p *Page) commands(id, name string, arguments json.RawMessage, n *numbers) []command {
	all := []command{{"Show it in a terminal", "ringback jobs show " + p.cfg.Flags + " " + quoted(id)}}
	if p.cfg.Local == nil {
		all = append(all, command{"Print its log lines", "ringback logs " + p.cfg.Flags + " --job " + quoted(id)})
	}
	var object map[string]json.RawMessage
	tool, known := p.cfg.Tools.Lookup(name)
	if !known || json.Unmarshal(arguments, &object) != nil {
		return all
	}
	line := "ringback call"
	if p.cfg.Local != nil {
		line = p.cfg.Local.Command
	}
	words := []string{line, name}
	schema := tool.ModelSchema()
	for _, name := range propertyNames(schema) {
		raw, ok := object[name]
		if !ok {
			continue
		}
		var text string
		if json.Unmarshal(raw, &text) == nil {
			words = append(words, name+"="+quoted(text))
		} else {
			words = append(words, name+":="+quoted(string(raw)))
		}
	}
	if p.cfg.Local == nil {
		words = append(words, p.cfg.Flags)
	}
	return append(all, command{"Call it again", n.text(strings.Join(words, " "))})
}

// quoted returns a word as a user types it in a shell.
func quoted(word string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_@%+:,./-", c)
	}
	if word != "" && strings.IndexFunc(word, func(c rune) bool { return !plain(c) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// vapiCalls is where Vapi's dashboard shows a call.
const vapiCalls = "https://dashboard.vapi.ai/calls/"

// atVapi leads to the call at Vapi. Its id is the secret part of its control URL, so no page contains it.
func (p *Page) atVapi(w http.ResponseWriter, r *http.Request) {
	d, err := p.cfg.Jobs.Show(r.Context(), r.PathValue("id"), true)
	switch {
	case err != nil:
		p.fail(w, r, err)
	case d.CallID == "" || p.cfg.Local != nil:
		p.refuse(w, r, http.StatusNotFound, "The call of this job is not known at Vapi.")
	default:
		w.Header().Set("Referrer-Policy", "no-referrer")
		http.Redirect(w, r, vapiCalls+url.PathEscape(d.CallID), http.StatusSeeOther)
	}
}

// cancel cancels a job.
func (p *Page) cancel(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	_, err := p.cfg.Jobs.Cancel(r.Context(), id, strings.TrimSpace(r.FormValue("reason")))
	p.did(w, r, id, "cancelled", err)
}

// complete completes a job that waits for an external system.
func (p *Page) complete(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	text := strings.TrimSpace(r.FormValue("text"))
	if text == "" {
		p.refuse(w, r, http.StatusBadRequest, "The result has no text.")
		return
	}
	outcome := job.StatusOK
	if r.FormValue("failed") != "" {
		outcome = job.StatusError
	}
	p.did(w, r, id, "completed", p.cfg.Jobs.Complete(r.Context(), id, outcome, text))
}

// replay calls the tool of a job again.
func (p *Page) replay(w http.ResponseWriter, r *http.Request) {
	if p.cfg.Local == nil {
		p.refuse(w, r, http.StatusNotFound, "The page replays jobs of a local run only.")
		return
	}
	callID, err := p.cfg.Local.Replay(r.Context(), r.PathValue("id"))
	if err != nil {
		p.refuse(w, r, http.StatusConflict, "Cannot replay the job: "+masked(err.Error())+".")
		return
	}
	http.Redirect(w, r, "/ui/calls/"+job.CallHash(callID)+"?new=true", http.StatusSeeOther)
}

// redrive sends the messages of a job that are in a dead-letter queue again.
func (p *Page) redrive(w http.ResponseWriter, r *http.Request) {
	if p.cfg.Local == nil {
		p.refuse(w, r, http.StatusNotFound, "The page redrives jobs of a local run only.")
		return
	}
	id := r.PathValue("id")
	n, err := p.cfg.Local.Redrive(r.Context(), id)
	if err == nil && n == 0 {
		p.refuse(w, r, http.StatusConflict, "No message of the job is in a dead-letter queue.")
		return
	}
	p.did(w, r, id, "redriven", err)
}

// did shows a job to which something was done.
func (p *Page) did(w http.ResponseWriter, r *http.Request, id, what string, err error) {
	if err != nil {
		p.fail(w, r, err)
		return
	}
	http.Redirect(w, r, (&url.URL{Path: "/ui/jobs/" + id, RawQuery: "done=" + what}).String(), http.StatusSeeOther)
}

// afterCallWord says what follows after the call.
func afterCallWord(policy string) string {
	switch policy {
	case "drop":
		return "drop the result"
	case "call_back":
		return "call the customer"
	case "next_call":
		return "wait for the customer's next call"
	}
	return "undelivered event"
}

func shortID(id string) string { return cmp.Or(id[strings.LastIndexByte(id, '/')+1:], id) }
