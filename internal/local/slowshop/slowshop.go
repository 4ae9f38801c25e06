// Package slowshop is a shop whose systems take their time: the services that
// the example tools ask, for the local run.
package slowshop

import (
	"context"
	"encoding/json"
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

// Shop is the shop. It is to be closed.
type Shop struct {
	delay time.Duration
	mux   *http.ServeMux

	ctx  context.Context // of the requests that are worked on; ends with Close
	stop context.CancelFunc

	mu      sync.Mutex
	open    map[string]bool // the requests that are worked on, by their idempotency keys
	working sync.WaitGroup
}

// Handler makes a shop that serves GET /orders/{id}, POST /restock and POST
// /requests. Each answer takes delay, but for a request's: that is accepted at
// once, and somebody looks at it after delay, and approves it after another.
func Handler(delay time.Duration) *Shop {
	s := &Shop{delay: delay, mux: http.NewServeMux(), open: make(map[string]bool)}
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

// ServeHTTP implements [http.Handler].
func (s *Shop) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Close has nobody work on requests any more. What they have not posted is not
// posted.
func (s *Shop) Close() {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	s.working.Wait()
}

func (s *Shop) slow(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if pause(r.Context(), s.delay) {
			serve(w, r)
		}
	}
}

// pause waits, and says whether the context has lasted that long.
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
