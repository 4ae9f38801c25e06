package page

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/operator"
)

// callModel is one call.
type callModel struct {
	Call    operator.CallDetails
	State   operator.CallState
	Pending bool // nothing is known of the call yet
	Name    string
	Began   time.Time // zero if it is not known
	Took    string
	Chart   waterfall
	Heard   []heardModel
	HangUp  bool // the call is simulated here, and live
	Numbers numbers
}

type heardModel struct {
	At         time.Time
	Offset     string
	What, Text string
}

// numbers is whether numbers are shown, and how to change that.
type numbers struct {
	Shown bool
	Any   bool   // there are some
	URL   string // shows them, or hides them again
}

// numbersOf returns what a request asks for.
func numbersOf(r *http.Request) numbers {
	query := r.URL.Query()
	n := numbers{Shown: query.Get("numbers") == "shown"}
	query.Del("seen")
	query.Del("done")
	if n.Shown {
		query.Del("numbers")
	} else {
		query.Set("numbers", "shown")
	}
	n.URL = (&url.URL{Path: r.URL.Path, RawQuery: query.Encode()}).String()
	return n
}

// text returns a text with or without its numbers.
func (n *numbers) text(text string) string {
	without := masked(text)
	if without != text {
		n.Any = true
	}
	if n.Shown {
		return text
	}
	return without
}

// call serves one call.
func (p *Page) call(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("call")
	m := callModel{Name: name[strings.LastIndexByte(name, '/')+1:], Numbers: numbersOf(r)}
	d, err := p.cfg.Jobs.Call(r.Context(), name, false)
	switch {
	case errors.Is(err, jobtable.ErrNotFound) && r.URL.Query().Get("new") != "":
		m.Pending = true // its first job starts in a moment
	case err != nil:
		p.fail(w, r, err)
		return
	default:
		m.Call, m.Name, m.State = d, d.Call, d.State(p.cfg.Now())
		m.Chart = p.newWaterfall(d)
		if d.Start().Equal(d.Began) {
			m.Began = d.Began
		}
		if !d.Ended.IsZero() {
			m.Took = span(max(0, d.Ended.Sub(d.Start())))
		}
		if p.cfg.Local != nil {
			m.HangUp = p.cfg.Local.Live(d.Call)
			for _, h := range p.cfg.Local.Heard(d.Call) {
				m.Heard = append(m.Heard, heardModel{h.At, span(h.At.Sub(d.Start())), h.What, m.Numbers.text(h.Text)})
			}
		}
	}
	p.show(w, r, http.StatusOK, view{Name: "call", Title: "Call " + m.Name, Tab: "calls", Model: m})
}

// find leads to a call or a job. The id of a call is the secret part of its control URL, so it is posted, and is in no
// address.
func (p *Page) find(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	id := strings.TrimPrefix(strings.TrimSpace(r.FormValue("id")), vapiCalls)
	if strings.HasPrefix(id, "j_") {
		http.Redirect(w, r, (&url.URL{Path: "/ui/jobs/" + id}).String(), http.StatusSeeOther)
		return
	}
	d, err := p.cfg.Jobs.Call(r.Context(), id, false)
	switch {
	case errors.Is(err, jobtable.ErrNotFound) || id == "":
		p.refuse(w, r, http.StatusNotFound, "There is no call with this id or name, or its records have expired.")
	case err != nil:
		p.fail(w, r, err)
	default:
		http.Redirect(w, r, (&url.URL{Path: "/ui/calls/" + cmp.Or(d.Key, d.Call)}).String(), http.StatusSeeOther)
	}
}

// hangUp ends a simulated call.
func (p *Page) hangUp(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("call")
	if p.cfg.Local == nil {
		p.refuse(w, r, http.StatusNotFound, "There is no simulated call here.")
		return
	}
	if err := p.cfg.Local.HangUp(r.Context(), name); err != nil {
		p.refuse(w, r, http.StatusConflict, "Cannot hang up: "+err.Error()+".")
		return
	}
	http.Redirect(w, r, (&url.URL{Path: "/ui/calls/" + name}).String(), http.StatusSeeOther)
}
