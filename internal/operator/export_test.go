package operator

import (
	"net/http"
	"net/http/httptest"
)

// ServeInProcess makes a local run's handler answer without a network, for tests with simulated time.
func ServeInProcess(l *Local, handler http.Handler) {
	l.client = &http.Client{Transport: inProcess{handler}}
}

type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	served := r.Clone(r.Context())
	served.RemoteAddr, served.Host = "127.0.0.1:9", r.URL.Host
	answer := httptest.NewRecorder()
	p.handler.ServeHTTP(answer, served)
	return answer.Result(), nil
}

// The parts of a proof, for tests that forge one.
var (
	Proof   = proof
	Machine = machine
)
