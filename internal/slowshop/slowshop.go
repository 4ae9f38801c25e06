// Package slowshop is a shop whose systems take their time: the services that
// the example tools ask, for the local run.
package slowshop

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// orders are the shop's orders.
var orders = map[string]map[string]string{
	"A-1042": {"status": "out_for_delivery", "carrier": "Northwind Parcels", "expected_delivery": "2026-12-03"},
	"A-1043": {"status": "being_packed"},
}

// Handler serves GET /orders/{id} and POST /restock. Each answer takes delay.
func Handler(delay time.Duration) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		order, ok := orders[strings.ToUpper(r.PathValue("id"))]
		if !ok {
			http.NotFound(w, r)
			return
		}
		answer(w, order)
	})
	mux.HandleFunc("POST /restock", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]string{"message": "It is expected back in stock next Tuesday."})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(delay):
			mux.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
