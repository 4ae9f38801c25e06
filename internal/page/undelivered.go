package page

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/operator"
)

// maxEvents bounds the events on the page, and maxRead those whose records are read for it.
const (
	maxEvents = 100
	maxRead   = 25
)

// undeliveredModel is the list of results that were not delivered.
type undeliveredModel struct {
	Events   []eventModel
	Searched string
	More     bool // there are more
	Numbers  numbers
}

// eventModel is a result that was not delivered.
type eventModel struct {
	JobID, Tool, Call string
	At                time.Time
	Day               string
	Why, Detail       string
	What              string // a result, a failure or a cancellation
	Kind              kind
	Text              string // what should have been said
	Control           string // what should have been done
	Number            string // of the customer; empty if it is not known
}

// undelivered serves what was not delivered.
func (p *Page) undelivered(w http.ResponseWriter, r *http.Request) {
	m := undeliveredModel{Numbers: numbersOf(r)}
	if p.cfg.Local != nil {
		p.localEvents(r, &m)
	} else if err := p.deployedEvents(r, &m); err != nil {
		p.fail(w, r, err)
		return
	}
	p.show(w, r, http.StatusOK, view{Name: "undelivered", Title: "Undelivered", Tab: "undelivered", Model: m})
}

// localEvents adds the events of a local run, newest first.
func (p *Page) localEvents(r *http.Request, m *undeliveredModel) {
	events := p.cfg.Local.Undelivered()
	m.More = len(events) > maxEvents
	events = events[max(0, len(events)-maxEvents):]
	for _, u := range slices.Backward(events) {
		j := operator.Job{Status: u.Status}
		if d, err := p.cfg.Jobs.Show(r.Context(), u.JobID, false); err == nil { // an event does not say who cancelled its job
			j.CancelledBy = d.CancelledBy
		}
		what, kind := undeliveredWords(j)
		m.Events = append(m.Events, eventModel{
			JobID: u.JobID, Tool: masked(u.Tool), Call: job.CallHash(u.CallID), At: u.At, Day: day(u.At, p.cfg.Now()),
			Why: masked(operator.ReasonWords(string(u.Reason))), Detail: m.Numbers.text(u.Detail),
			What: what, Kind: kind, Text: m.Numbers.text(u.Content), Control: m.Numbers.text(indented(u.Control)),
			Number: m.Numbers.text(u.CustomerNumber),
		})
	}
}

// deployedEvents adds the jobs of a deployment whose results were not delivered. Their records still have them.
func (p *Page) deployedEvents(r *http.Request, m *undeliveredModel) error {
	found, err := p.cfg.Jobs.Search(r.Context(), operator.Filter{Undelivered: true})
	if err != nil {
		return err
	}
	m.Searched = searched(found, p.cfg.Now())
	m.More = len(found.Jobs) > maxRead
	for _, j := range found.Jobs[:min(maxRead, len(found.Jobs))] {
		d, err := p.cfg.Jobs.Show(r.Context(), j.ID, true)
		if err != nil {
			return err
		}
		what, kind := undeliveredWords(j)
		e := eventModel{
			JobID: j.ID, Tool: masked(j.Tool), Call: cmp.Or(d.Call, j.Call), At: j.Updated, Day: day(j.Updated, p.cfg.Now()),
			Why: operator.ReasonWords(j.Why), What: what, Kind: kind,
		}
		if d.Data != nil {
			e.Text, e.Control = m.Numbers.text(d.Data.Result), m.Numbers.text(indented(d.Data.Control))
		}
		m.Events = append(m.Events, e)
	}
	return nil
}

// undeliveredWords returns what of a job was not delivered, and how it is painted.
func undeliveredWords(j operator.Job) (string, kind) {
	switch {
	case j.CancelledBy != "":
		return "a cancellation", kindQuiet
	case j.CountsAsFailed():
		return "a failure", kindBad
	}
	return "a result", kindUneasy
}
