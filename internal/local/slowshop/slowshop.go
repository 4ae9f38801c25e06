// Package slowshop simulates a shop whose systems are slow. It serves what the
// example tools need in a local run.
package slowshop

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// orders are the shop's orders.
var orders = map[string]map[string]string{
	"A-1042": {"status": "out_for_delivery", "carrier": "Northwind Parcels", "expected_delivery": "2026-12-03"},
	"A-1043": {"status": "being_packed"},
}

// Shop is the simulated shop. It must be closed.
type Shop struct {
	delay time.Duration
	mux   *http.ServeMux

	ctx  context.Context // of the open requests; ends with Close
	stop context.CancelFunc

	public, local string // of [Shop.Post]

	mu      sync.Mutex
	open    map[string]string // the completion URLs of the open requests, by idempotency key
	working sync.WaitGroup
}

// Handler returns a shop that serves GET /orders/{id}, POST /restock and POST
// /requests. Each answer takes delay, except that a request is accepted at once.
// The shop posts progress to its completion URL after delay, and an approval after
// another delay.
func Handler(delay time.Duration) *Shop {
	s := &Shop{delay: delay, mux: http.NewServeMux(), open: make(map[string]string)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.mux.HandleFunc("GET /orders/{id}", s.slow(func(w http.ResponseWriter, r *http.Request) {
		order, ok := orders[strings.ToUpper(r.PathValue("id"))]
		if !ok {
			http.NotFound(w, r)
			return
		}
		answer(w, http.StatusOK, order)
	}))
	s.mux.HandleFunc("POST /restock", s.slow(func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, map[string]string{"message": "It's expected back in stock next Tuesday."})
	}))
	s.mux.HandleFunc("POST /requests", s.request)
	return s
}

// Post makes the shop accept only completion URLs that begin with public, and post to local instead of it. Before,
// it posts to every port of this machine. It must be called before the first request.
func (s *Shop) Post(public, local string) { s.public, s.local = public, local }

// ServeHTTP implements [http.Handler].
func (s *Shop) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Close drops the open requests. Nothing more is posted for them.
func (s *Shop) Close() {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	s.working.Wait()
}

// Open returns the open requests, for [Shop.Reopen].
func (s *Shop) Open() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.open)
}

// Reopen opens the requests of another shop again, from their beginning.
func (s *Shop) Reopen(open map[string]string) {
	for key, completionURL := range open {
		s.take(key, completionURL)
	}
}

func (s *Shop) slow(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if pause(r.Context(), s.delay) {
			serve(w, r)
		}
	}
}

// pause waits for d. It returns false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
