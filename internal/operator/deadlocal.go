package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/ringback/ringback/internal/jobtable"
)

// The routes of the dead letters of a local run.
const (
	deadListRoute    = "GET /dead"          // ?queue=…
	deadShowRoute    = "GET /dead/show"     // ?id=…&data=true
	deadRedriveRoute = "POST /dead/redrive" // ?queue=…&id=…&id=…&all=true
	deadDropRoute    = "POST /dead/drop"    // ?queue=…&id=…&id=…&all=true&unreadable=true
)

// DeadHandler serves dead letters to the same programs as [Handler].
func DeadHandler(dead *Dead, token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(deadListRoute, func(w http.ResponseWriter, r *http.Request) {
		l, err := dead.List(r.Context(), r.FormValue("queue"))
		respond(w, l, err)
	})
	mux.HandleFunc(deadShowRoute, func(w http.ResponseWriter, r *http.Request) {
		d, err := dead.Show(r.Context(), r.FormValue("id"), r.FormValue("data") == "true")
		respond(w, d, err)
	})
	mux.HandleFunc(deadRedriveRoute, func(w http.ResponseWriter, r *http.Request) {
		h, err := dead.Redrive(r.Context(), selection(r))
		respond(w, h, err)
	})
	mux.HandleFunc(deadDropRoute, func(w http.ResponseWriter, r *http.Request) {
		h, err := dead.Drop(r.Context(), selection(r))
		respond(w, h, err)
	})
	return guarded(mux, token)
}

// selection reads a selection. One that names nothing selects nothing.
func selection(r *http.Request) DeadSelection {
	q := r.URL.Query()
	s := DeadSelection{Queue: q.Get("queue"), Unreadable: q.Get("unreadable") == "true"}
	s.IDs = append([]string{}, q["id"]...)
	if q.Get("all") == "true" {
		s.IDs = nil
	}
	return s
}

func (s DeadSelection) query() url.Values {
	return url.Values{
		"queue": {s.Queue}, "id": s.IDs, "all": {fmt.Sprint(s.IDs == nil)}, "unreadable": {fmt.Sprint(s.Unreadable)},
	}
}

// LocalDead are the dead letters of a local run. It has the methods of [Dead].
type LocalDead struct{ run *Local }

// Dead returns the dead letters of the local run.
func (l *Local) Dead() *LocalDead { return &LocalDead{l} }

func (l *LocalDead) ask(ctx context.Context, method, path string, query url.Values, into any) error {
	err := l.run.ask(ctx, method, path, query, into)
	if errors.Is(err, jobtable.ErrNotFound) {
		return ErrNoDeadLetter
	}
	return err
}

// List is like [Dead.List].
func (l *LocalDead) List(ctx context.Context, name string) (list DeadList, err error) {
	err = l.ask(ctx, http.MethodGet, "/dead", url.Values{"queue": {name}}, &list)
	return list, err
}

// Show is like [Dead.Show].
func (l *LocalDead) Show(ctx context.Context, id string, data bool) (d DeadDetails, err error) {
	err = l.ask(ctx, http.MethodGet, "/dead/show", url.Values{"id": {id}, "data": {fmt.Sprint(data)}}, &d)
	return d, err
}

// Redrive is like [Dead.Redrive].
func (l *LocalDead) Redrive(ctx context.Context, s DeadSelection) (h Handled, err error) {
	err = l.ask(ctx, http.MethodPost, "/dead/redrive", s.query(), &h)
	return h, err
}

// Drop is like [Dead.Drop].
func (l *LocalDead) Drop(ctx context.Context, s DeadSelection) (h Handled, err error) {
	err = l.ask(ctx, http.MethodPost, "/dead/drop", s.query(), &h)
	return h, err
}
