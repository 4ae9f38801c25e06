package page

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/operator"
)

// jobModel is one job.
type jobModel struct {
	Job      operator.Details
	Status   status
	Duration string
	Steps    []stepModel
	Notices  []notice
	Progress string
	Numbers  numbers

	Arguments, State, Result, Control string
	Number                            string // of the customer; empty if it is not known

	Commands []command
	AtVapi   string // leads to the call at Vapi; empty if there is none
	AtLogs   string // leads to the log lines in the console of AWS; empty if there is no console
	AtTrace  string // the same of the trace
	Stored   string // shows the stored arguments; empty if they cannot be shown

	Cancellable, Completable, Replayable, Redrivable bool
}

type stepModel struct {
	At     time.Time
	Offset string // since the first one
	Text   string
	Kind   kind
}

// notice says what became of a job.
type notice struct {
	Kind       kind
	Head, Text string
}

// command is a command line that does what the page does not.
type command struct {
	What, Line string
	Masked     bool // numbers are masked in it, so that it cannot be copied
}

var done = map[string]string{
	"cancelled": "The job is cancelled. The caller hears of it.",
	"completed": "The result is stored, and on its way to the call.",
	"redriven":  "The message of the job is on its queue again.",
}

// job serves one job.
func (p *Page) job(w http.ResponseWriter, r *http.Request) {
	d, err := p.cfg.Jobs.Show(r.Context(), r.PathValue("id"), true)
	switch {
	case errors.Is(err, jobtable.ErrNotFound) && r.URL.Query().Get("new") != "" && job.IsReplay(r.PathValue("id")):
		p.pending(w, r)
		return
	case err != nil:
		p.fail(w, r, err)
		return
	}
	v := view{Name: "job", Title: masked(d.Tool), Tab: "calls", Done: done[r.URL.Query().Get("done")]}
	if p.cfg.Arguments != nil && r.URL.Query().Get("arguments") == "stored" {
		arguments, err := p.cfg.Arguments(r.Context(), d.ID)
		switch {
		case errors.Is(err, jobtable.ErrNotFound):
			p.refuse(w, r, http.StatusNotFound, notStored)
			return
		case err != nil:
			p.fail(w, r, err)
			return
		}
		d.Data.Arguments = arguments
		v.Still = true // each decryption is recorded, and costs
	}
	v.Model = p.jobModel(r, d)
	p.show(w, r, http.StatusOK, v)
}

// notStored says why a job cannot be replayed.
const notStored = "The arguments of the job are not stored, or no longer."

// pending serves a replay that has not begun yet.
func (p *Page) pending(w http.ResponseWriter, r *http.Request) {
	p.show(w, r, http.StatusOK, view{Name: "pending", Title: "Replay", Tab: "calls", Model: r.PathValue("id")})
}

func (p *Page) jobModel(r *http.Request, d operator.Details) jobModel {
	tool := d.Tool
	d.Tool = masked(tool)
	m := jobModel{Job: d, Numbers: numbersOf(r)}
	row := p.jobRow(d.Job)
	m.Status, m.Duration = row.Status, row.Duration
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
	m.Notices, m.Progress = notices(d, &m.Numbers), m.Numbers.text(d.Progress)
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
	if p.cfg.Console != nil {
		m.AtLogs = "/ui/at-aws/logs/" + d.ID
		if d.Trace != "" {
			m.AtTrace = "/ui/at-aws/trace/" + d.ID
		}
	}
	if p.cfg.Arguments != nil && arguments == nil {
		m.Stored = (&url.URL{Path: "/ui/jobs/" + d.ID, RawQuery: "arguments=stored"}).String()
	}
	m.Arguments = m.Numbers.text(indented(arguments))
	m.Cancellable = p.cfg.Write && d.State.Active()
	m.Completable = p.cfg.Write && d.External
	_, known := p.cfg.Tools.Lookup(tool)
	m.Replayable = p.cfg.Write && p.cfg.Replay != nil && known && !d.State.Active()
	m.Redrivable = p.cfg.Write && p.cfg.Redrive != nil && p.mayBeDead(d)
	m.Commands = p.commands(d, tool, arguments, &m.Numbers)
	return m
}

// notices say why the result of a job was not delivered, who cancelled it, or why it failed.
func notices(d operator.Details, n *numbers) []notice {
	var all []notice
	reason := d.Reason
	if d.CancelledBy != "" {
		text, byOperator := strings.CutPrefix(reason, operator.CancelledByOperator)
		if !byOperator {
			text = ""
		}
		if byOperator || d.State == job.StateCancelled {
			reason = ""
		}
		head, _ := describe(job.Step{Kind: job.StepCancelled, Detail: d.CancelledBy})
		all = append(all, notice{kindQuiet, head, n.text(strings.TrimPrefix(text, ": "))})
	}
	if d.State == job.StateUndelivered {
		text := operator.ReasonWords(d.Why)
		if code, detail, _ := strings.Cut(strings.TrimPrefix(reason, "dropped: "), ":"); code == d.Why {
			if reason = ""; detail != "" {
				text += " (" + strings.TrimSpace(detail) + ")"
			}
		}
		all = append(all, notice{kindUneasy, "Not delivered", n.text(text)})
	}
	if reason != "" {
		all = append(all, notice{kindBad, "Last failure", n.text(reason)})
	}
	return all
}

// stuck is how long a result is on its way, or a wake-up is overdue, before its message may be in a dead-letter queue.
const stuck = time.Minute

// mayBeDead reports whether a message of a job may be in a dead-letter queue. Only a search of the queues would tell.
func (p *Page) mayBeDead(d operator.Details) bool {
	now := p.cfg.Now()
	switch d.State {
	case job.StateRunning:
		return now.After(d.LeaseExpiry.Add(stuck))
	case job.StateWaiting:
		return !d.WakeAt.IsZero() && now.After(d.WakeAt.Add(stuck))
	case job.StateDone:
		return d.Exhausted || now.After(d.Updated.Add(stuck))
	}
	return d.Exhausted
}

// commands returns what an operator may type next.
func (p *Page) commands(d operator.Details, name string, arguments json.RawMessage, n *numbers) []command {
	var all []command
	add := func(what, line string) {
		shown := n.text(line)
		all = append(all, command{what, shown, shown != line})
	}
	id := quoted(d.ID)
	add("Show it in a terminal", "ringback jobs show "+p.cfg.Flags+" "+id)
	if p.cfg.Local == nil {
		add("Print its log lines", "ringback logs "+p.cfg.Flags+" --job "+id)
	}
	if !p.cfg.Write {
		if d.State.Active() {
			add("Cancel it", "ringback jobs cancel "+p.cfg.Flags+" "+id)
		} else {
			add("Replay it", "ringback jobs replay "+p.cfg.Flags+" "+id)
		}
		if p.mayBeDead(d) {
			add("Redrive its message", "ringback dead redrive "+p.cfg.Flags+" "+id)
		}
	}
	tool, known := p.cfg.Tools.Lookup(name)
	if !known || tool.Status {
		return all
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(arguments, &object) == nil && object != nil {
		add("Call it again", p.callCommand(tool, object))
	} else {
		add("Call its tool, with arguments of your own", p.callCommand(tool, nil))
	}
	return all
}

// callCommand returns the command that calls a tool. Without arguments, it has a word for each that is required.
func (p *Page) callCommand(tool *asynctool.Entry, arguments map[string]json.RawMessage) string {
	words := []string{"ringback call", tool.Name}
	if p.cfg.Local != nil {
		words[0] = p.cfg.Local.Command
	}
	for _, f := range fields(tool, nil) {
		raw, ok := arguments[f.Label]
		var text string
		switch isText := json.Unmarshal(raw, &text) == nil; {
		case ok && isText:
			words = append(words, f.Label+"="+quoted(text))
		case ok:
			words = append(words, f.Label+":="+quoted(string(raw)))
		case arguments == nil && f.Required && (f.Kind == fieldText || f.Kind == fieldDate):
			words = append(words, f.Label+"="+strings.ToUpper(f.Label))
		case arguments == nil && f.Required:
			words = append(words, f.Label+":="+strings.ToUpper(f.Label))
		}
	}
	if p.cfg.Local == nil {
		words = append(words, p.cfg.Flags)
	}
	return strings.Join(words, " ")
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

// atAWS leads to the console of AWS. No page contains its addresses, since a template would change their escapes.
func (p *Page) atAWS(w http.ResponseWriter, r *http.Request) {
	d, err := p.cfg.Jobs.Show(r.Context(), r.PathValue("id"), false)
	what, at := r.PathValue("what"), ""
	switch {
	case err != nil:
		p.fail(w, r, err)
		return
	case p.cfg.Console == nil:
	case what == "logs":
		end := p.cfg.Now()
		if settled(d.State) {
			end = d.Updated
		}
		at = p.cfg.Console.Logs(job.ShownID(d.ID), d.Created.Add(-logsMargin), end.Add(logsMargin))
	case what == "trace" && d.Trace != "":
		at = p.cfg.Console.Trace(d.Trace)
	}
	if at == "" {
		p.refuse(w, r, http.StatusNotFound, "There is no such page in the console of AWS.")
		return
	}
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, at, http.StatusSeeOther)
}

// logsMargin is how long before a job, and after it, its log lines are searched: its webhook was received before, and a
// message that returns is logged after.
const logsMargin = 15 * time.Minute

// replay runs the tool of a job again. It asks before it does so in a deployment, and before a tool runs that must not
// run twice.
func (p *Page) replay(w http.ResponseWriter, r *http.Request) {
	d, err := p.cfg.Jobs.Show(r.Context(), r.PathValue("id"), false)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	tool, known := p.cfg.Tools.Lookup(d.Tool)
	switch {
	case p.cfg.Replay == nil:
		p.refuse(w, r, http.StatusConflict, "This deployment stores no arguments, so its jobs cannot be replayed. Set "+
			"argumentRetentionDays and deploy, for the jobs after that.")
		return
	case !known:
		p.refuse(w, r, http.StatusConflict, "There is no such tool in this program.")
		return
	case d.State.Active():
		p.refuse(w, r, http.StatusConflict, "The job has not finished.")
		return
	}
	q := question{ID: d.ID, Tool: d.Tool, Title: "Replay this job?", Yes: "Replay it", Once: tool.Attempts == 1}
	if p.cfg.Local == nil {
		q.Facts = []string{
			"The tool runs again in the deployment, with the arguments that are stored. It has a new idempotency key, so its " +
				"service takes it for a new request.",
			"The customer does not hear of it. The tool does not get the number, and the result stays in the record of the " +
				"replay.",
		}
	} else {
		q.Facts = []string{"The tool runs again, with the stored arguments. Its result goes to a new simulated call."}
	}
	if (p.cfg.Local == nil || q.Once) && !p.agreed(w, r, q) {
		return
	}
	again, err := p.cfg.Replay(r.Context(), d.ID)
	at := url.URL{Path: "/ui/jobs/" + again.ID, RawQuery: "new=true"}
	if p.cfg.Local != nil {
		at.Path = "/ui/calls/" + job.CallHash(again.Call.ID)
	}
	switch {
	case errors.Is(err, jobtable.ErrNotFound):
		p.refuse(w, r, http.StatusConflict, notStored)
	case err != nil:
		p.fail(w, r, err)
	default:
		http.Redirect(w, r, at.String(), http.StatusSeeOther)
	}
}

// redrive sends the messages of a job that are in a dead-letter queue again. It asks before it does so in a deployment.
func (p *Page) redrive(w http.ResponseWriter, r *http.Request) {
	d, err := p.cfg.Jobs.Show(r.Context(), r.PathValue("id"), false)
	switch {
	case err != nil:
		p.fail(w, r, err)
		return
	case p.cfg.Redrive == nil:
		p.refuse(w, r, http.StatusNotFound, "This page cannot redrive messages.")
		return
	}
	q := question{
		ID: d.ID, Tool: d.Tool, Title: "Redrive the message of this job?", Yes: "Redrive it",
		Facts: []string{"Its message goes from the dead-letter queue back to its own queue. Correct the cause first."},
	}
	switch {
	case settled(d.State):
		q.Facts = append(q.Facts, "The job is settled, so the tool does not run, and nothing is delivered again.")
	case d.Exhausted:
		q.Facts = append(q.Facts, "Its attempts are used up, so the tool does not run again. "+delivers(d))
	default:
		q.Facts = append(q.Facts, "The tool may run again. "+delivers(d))
	}
	if p.cfg.Local == nil && !p.agreed(w, r, q) {
		return
	}
	_, err = p.cfg.Redrive(r.Context(), d.ID)
	p.did(w, r, d.ID, "redriven", err)
}

// delivers says what a redriven job may do to the customer.
func delivers(d operator.Details) string {
	return "Its result is delivered. If the call has ended, this follows: " + afterCallWord(d.AfterCall) + "."
}

// question is what the page asks before something that repeats or rings.
type question struct {
	ID, Tool   string // of the job
	Title, Yes string
	Facts      []string
	Once       bool // the tool must not run twice

	Action string // the path to which the answer is posted
	Ticket string // the answer, which works once
}

// agreed reports whether a request is the answer to a question that the page has asked. Each answer works once, so a
// form that is submitted twice repeats nothing. Without an answer, agreed asks.
func (p *Page) agreed(w http.ResponseWriter, r *http.Request, q question) bool {
	q.Action = (&url.URL{Path: r.URL.Path}).String()
	if ticket := r.PostFormValue("agreed"); ticket != "" {
		if p.asked.use(q.Action + " " + ticket) {
			return true
		}
		p.refuse(w, r, http.StatusConflict, "This was answered before, or too long ago. Nothing was done again.")
		return false
	}
	q.Tool, q.Ticket = masked(q.Tool), rand.Text()
	p.asked.admit(q.Action + " " + q.Ticket)
	p.show(w, r, http.StatusOK, view{Name: "question", Title: q.Title, Tab: "calls", Model: q, Still: true})
	return false
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
