package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/ringback/ringback/internal/job"
)

// The routes of the replays of a local run.
const (
	originalRoute = "POST /replays/original" // ?id=…
	startRoute    = "POST /replays/start"    // ?long=true, with a job
	deliverRoute  = "POST /replays/deliver"  // with a delivery
	settingsRoute = "POST /replays/settings"
)

// replayed is a job with its record where it ran.
type replayed struct {
	Job    job.Job    `json:"job"`
	Record job.Record `json:"record"`
}

// maxReplay bounds a request with a job, in bytes.
const maxReplay = 4 << 20

// ReplayHandler serves replays to the same programs as [Handler]. settings are the environment variables that the tools
// of the run read. They may be secrets, and only a program with the token gets them.
func ReplayHandler(replays *Replays, settings map[string]string, token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(settingsRoute, func(w http.ResponseWriter, _ *http.Request) { respond(w, settings, nil) })
	mux.HandleFunc(originalRoute, func(w http.ResponseWriter, r *http.Request) {
		j, err := replays.Original(r.Context(), r.URL.Query().Get("id"))
		respond(w, j, err)
	})
	mux.HandleFunc(startRoute, func(w http.ResponseWriter, r *http.Request) {
		var j job.Job
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReplay)).Decode(&j)
		if err == nil {
			err = replays.Start(r.Context(), j, r.URL.Query().Get("long") == "true")
		}
		respond(w, struct{}{}, err)
	})
	mux.HandleFunc(deliverRoute, func(w http.ResponseWriter, r *http.Request) {
		var d replayed
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReplay)).Decode(&d)
		if err == nil {
			err = replays.Deliver(r.Context(), d.Job, d.Record)
		}
		respond(w, struct{}{}, err)
	})
	return guarded(mux, token)
}

// LocalReplays are the replays of a local run. It has the methods of [Replays].
type LocalReplays struct{ run *Local }

// Replays returns the replays of the local run.
func (l *Local) Replays() *LocalReplays { return &LocalReplays{l} }

// Original is like [Replays.Original].
func (l *LocalReplays) Original(ctx context.Context, id string) (j job.Job, err error) {
	err = l.run.ask(ctx, http.MethodPost, "/replays/original", url.Values{"id": {id}}, &j)
	return j, err
}

// Settings returns the environment variables that the tools of the run read, by their names.
func (l *LocalReplays) Settings(ctx context.Context) (settings map[string]string, err error) {
	err = l.run.ask(ctx, http.MethodPost, "/replays/settings", nil, &settings)
	return settings, err
}

// Start is like [Replays.Start].
func (l *LocalReplays) Start(ctx context.Context, j job.Job, long bool) error {
	return l.run.send(ctx, "/replays/start", url.Values{"long": {fmt.Sprint(long)}}, j, new(struct{}))
}

// Deliver is like [Replays.Deliver].
func (l *LocalReplays) Deliver(ctx context.Context, j job.Job, done job.Record) error {
	return l.run.send(ctx, "/replays/deliver", nil, replayed{j, done}, new(struct{}))
}
