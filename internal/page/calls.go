package page

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/operator"
)

// callsPerPage is how many calls are on the screen. The jobs of each are read when the browser shows it.
const callsPerPage = 25

// callsModel is the list of calls, or of the jobs that a filter selects.
type callsModel struct {
	Filter filter
	Rows   []rowModel
	Older  string // the URL of the next page; empty if there is none
	First  bool   // this is the first page

	Jobs     []jobRow
	Searched string // what the filter searched; empty without one
	Tools    []string
	States   []choice
	Times    []choice
}

type choice struct{ Value, Text string }

// filter selects jobs, as the query of the URL has it.
type filter struct{ Tool, State, Since string }

var states = []choice{
	{"", "any state"}, {filterRunning, "running"}, {filterWaiting, "waiting"}, {filterDelivered, "delivered"},
	{filterFailed, "failed"}, {filterUndelivered, "not delivered"}, {filterParked, "parked"},
	{filterCancelled, "cancelled"},
}

var times = []choice{{"", "any time"}, {"15m", "last 15 minutes"}, {"1h", "last hour"}, {"24h", "last day"},
	{"168h", "last week"}}

// known returns the value of a query if it is one of the choices.
func known(choices []choice, value string) string {
	if slices.ContainsFunc(choices, func(c choice) bool { return c.Value == value }) {
		return value
	}
	return ""
}

func (p *Page) filter(query url.Values) filter {
	f := filter{Tool: query.Get("tool"), State: known(states, query.Get("state")), Since: known(times, query.Get("since"))}
	if len(f.Tool) > 64 {
		f.Tool = ""
	}
	return f
}

// query returns the jobs that the filter may select.
func (f filter) query(now time.Time) operator.Filter {
	q := operator.Filter{
		Tool: f.Tool, Failed: f.State == filterFailed, Undelivered: f.State == filterUndelivered,
	}
	if d, err := time.ParseDuration(f.Since); err == nil {
		q.Since = now.Add(-d)
	}
	return q
}

// calls serves the list of calls.
func (p *Page) calls(w http.ResponseWriter, r *http.Request) {
	m := callsModel{Filter: p.filter(r.URL.Query()), States: states, Times: times}
	for _, tool := range p.cfg.Tools.Entries() {
		if !tool.Status {
			m.Tools = append(m.Tools, tool.Name)
		}
	}
	if m.Filter.Tool != "" && !slices.Contains(m.Tools, m.Filter.Tool) {
		m.Tools = append(m.Tools, m.Filter.Tool) // an earlier version had it
	}
	var err error
	if m.Filter == (filter{}) {
		err = p.listCalls(r, &m)
	} else {
		err = p.search(r, &m)
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.show(w, r, http.StatusOK, view{Name: "calls", Title: "Calls", Tab: "calls", Model: m})
}

func (p *Page) listCalls(r *http.Request, m *callsModel) error {
	from := r.URL.Query().Get("from")
	found, err := p.cfg.Jobs.Calls(r.Context(), from, callsPerPage, false)
	if err != nil {
		return err
	}
	m.First = from == ""
	for _, c := range found.Calls {
		m.Rows = append(m.Rows, p.rows.get(c, p.cfg.Now()))
	}
	if found.Next != "" {
		m.Older = "/?from=" + url.QueryEscape(found.Next)
	}
	return nil
}

func (p *Page) search(r *http.Request, m *callsModel) error {
	q := m.Filter.query(p.cfg.Now())
	found, err := p.cfg.Jobs.Search(r.Context(), q)
	if err != nil {
		return err
	}
	for _, j := range found.Jobs {
		if fits(m.Filter.State, j) {
			m.Jobs = append(m.Jobs, p.jobRow(j))
		}
	}
	m.Searched = searched(found, p.cfg.Now())
	return nil
}

// searched says what was searched.
func searched(f operator.Found, now time.Time) string {
	text := fmt.Sprintf("%d jobs searched", f.Loaded)
	if f.Loaded == 1 {
		text = "1 job searched"
	}
	if f.Since.IsZero() {
		return text + "."
	}
	text += ": those of the calls since " + strings.TrimSpace(day(f.Since, now)+" "+clock(f.Since))
	if !f.All {
		return text + fmt.Sprintf(". A search reads at most %d jobs, so older ones are missing.", operator.MaxListed)
	}
	return text + "."
}

// jobRow is a job in a list.
type jobRow struct {
	Job      operator.Job
	Status   status
	Began    time.Time
	Duration string
	Why      string
}

func (p *Page) jobRow(j operator.Job) jobRow {
	j.Tool = masked(j.Tool) // an unknown one can have any name
	row := jobRow{Job: j, Began: j.Created, Why: operator.ReasonWords(j.Why)}
	row.Status = statusOf(j)
	end := p.cfg.Now()
	if settled(j.State) {
		end = j.Updated
	}
	row.Duration = span(max(0, end.Sub(j.Created)))
	return row
}

func settled(s job.State) bool {
	return !slices.Contains(job.Unsettled(), s)
}

// rowModel is a call in the list.
type rowModel struct {
	Call  operator.CallRow
	Day   string
	Read  bool   // the jobs were read, so that what follows is known
	Again string // when the browser reads it again, for htmx; empty if it will not change

	State    operator.CallState
	Duration string
	Tools    []string
	Counts   []count
	Lost     bool   // something was not delivered
	Failed   bool   // something failed
	More     bool   // the call has more jobs
	Seen     string // identifies what is shown
}

// count is how many jobs of a call have a status.
type count struct {
	Status status
	N      int
}

// row serves a call of the list with the states of its jobs, or nothing if it is as the browser has it.
func (p *Page) row(w http.ResponseWriter, r *http.Request) {
	d, err := p.cfg.Jobs.Call(r.Context(), r.PathValue("key"), false)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	d.Key = cmp.Or(d.Key, r.PathValue("key"))
	m := p.rowOf(d)
	p.rows.put(m)
	if r.URL.Query().Get("seen") == m.Seen {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := p.views.ExecuteTemplate(w, "row.html", m); err != nil {
		p.cfg.Log.WarnContext(r.Context(), "cannot show call", "error", err)
	}
}

func (p *Page) rowOf(d operator.CallDetails) rowModel {
	now := p.cfg.Now()
	m := rowModel{
		Call: d.CallRow, Day: day(d.First, now), Read: true, State: d.State(now), More: !d.All,
	}
	final := m.State != operator.CallLive
	for _, j := range d.Jobs {
		s := statusOf(j)
		final = final && settled(j.State)
		m.Lost = m.Lost || j.State == job.StateUndelivered
		m.Failed = m.Failed || s.Kind == kindBad
		if tool := masked(j.Tool); !slices.Contains(m.Tools, tool) {
			m.Tools = append(m.Tools, tool)
		}
		at := slices.IndexFunc(m.Counts, func(c count) bool { return c.Status == s })
		if at < 0 {
			at, m.Counts = len(m.Counts), append(m.Counts, count{Status: s})
		}
		m.Counts[at].N++
	}
	if !d.Ended.IsZero() {
		m.Duration = span(max(0, d.Ended.Sub(d.Start())))
	}
	switch {
	case final:
	case m.State != operator.CallLive && p.cfg.Local == nil: // a job may wait for days
		m.Again = "refresh-row throttle:60s"
	default:
		m.Again = "refresh-row"
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", m))
	m.Seen = hex.EncodeToString(sum[:8])
	return m
}

// rows are the calls whose jobs were read, so that a refreshed list has them at once. Those that can change are read
// again.
type rows struct {
	mu    sync.Mutex
	known map[string]rowModel
}

// maxRows bounds the calls that are kept.
const maxRows = 1000

func (r *rows) get(c operator.CallRow, now time.Time) rowModel {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.known[c.Key]; ok {
		return m
	}
	return rowModel{Call: c, Day: day(c.First, now), Again: "intersect once"}
}

func (r *rows) put(m rowModel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= maxRows {
		r.known = make(map[string]rowModel)
	}
	r.known[m.Call.Key] = m
}

// callable returns the tools that can be called.
func (p *Page) callable() []*asynctool.Entry {
	return slices.DeleteFunc(slices.Clone(p.cfg.Tools.Entries()), func(e *asynctool.Entry) bool { return e.Status })
}
