// Package page serves what an operator sees in a browser: calls, jobs, tools and what was not delivered. It is rendered
// here, and needs no other server. A program that serves it must admit the operator only: see [Session].
package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/operator"
)

// Paths are the patterns of the paths that [Page] serves, for an [http.ServeMux].
var Paths = []string{"/{$}", "/ui/"}

// Jobs is implemented by [operator.Jobs].
type Jobs interface {
	Calls(ctx context.Context, from string, most int, data bool) (operator.CallPage, error)
	Call(ctx context.Context, name string, data bool) (operator.CallDetails, error)
	Search(ctx context.Context, f operator.Filter) (operator.Found, error)
	Show(ctx context.Context, id string, data bool) (operator.Details, error)
	Cancel(ctx context.Context, id, reason string) (operator.Cancelled, error)
	Complete(ctx context.Context, id string, status job.Status, text string) error
}

// Config configures a [Page]. Jobs and Tools are required.
type Config struct {
	Jobs  Jobs
	Tools *asynctool.Set

	Place string // what is shown, such as the name of a stack
	Flags string // those of other commands for the same place, such as --local
	Write bool   // the page can change jobs

	// Replay calls the tool of a job again with the stored arguments, and returns the new job. Its customer does not hear
	// of it. Nil means that no arguments are stored, and [jobtable.ErrNotFound] that those of this job are not.
	Replay func(ctx context.Context, jobID string) (job.Job, error)

	// Arguments returns the stored arguments of a job, or [jobtable.ErrNotFound]. Nil means that the page cannot read
	// them.
	Arguments func(ctx context.Context, jobID string) (json.RawMessage, error)

	// Redrive sends the messages of a job that are in a dead-letter queue again. It returns [operator.ErrNoDeadLetter] if
	// there is none. Nil means that the page cannot.
	Redrive func(ctx context.Context, jobID string) (int, error)

	// Console is where a person finds more about a job of a deployment. Nil means nowhere.
	Console Console

	// Local is what only a local run knows. Nil means that this is a deployment.
	Local *Local

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Local is what only a local run knows. All of it is required.
type Local struct {
	// Start calls a tool in a new simulated call, and returns the call's id. Its error is for the operator.
	Start func(ctx context.Context, tool string, arguments map[string]any) (callID string, err error)

	// Live reports whether a call is simulated and has not ended, by its name in logs.
	Live func(call string) bool

	// HangUp ends a simulated call, by its name in logs. Its error is for the operator.
	HangUp func(ctx context.Context, call string) error

	// Changes returns a number that is another one after each change of a job or a call.
	Changes func() uint64

	// Undelivered returns the events so far.
	Undelivered func() []job.Undelivered

	// ToolCall returns what is known about the tool call of a job, if it was made here.
	ToolCall func(jobID string) (ToolCall, bool)

	// Heard returns the messages that reached a simulated call, by the call's name in logs.
	Heard func(call string) []Heard

	Missing map[string][]string // the settings that tools lack
	Command string              // which calls a tool, without its name, such as: ringback call
}

// Console returns addresses of the console of the cloud, which a browser opens if the operator follows a link.
type Console interface {
	Logs(id string, from, to time.Time) string // the log lines of a job in a time
	Trace(id string) string                    // a trace with a W3C id
}

// ToolCall is a tool call in a local run.
type ToolCall struct {
	Arguments json.RawMessage // as Vapi sent them
	Number    string          // of the customer
}

// Heard is a message that reached a call.
type Heard struct {
	At         time.Time
	What, Text string
}

// Page serves the page.
type Page struct {
	cfg   Config
	mux   *http.ServeMux
	views *template.Template
	rows  rows
	asked tickets // the questions that were not answered: see [Page.agreed]

	closing   chan struct{}
	closeOnce sync.Once
}

//go:embed assets
var assets embed.FS

//go:embed templates
var templates embed.FS

// New returns a page.
func New(cfg Config) (*Page, error) {
	if cfg.Jobs == nil || cfg.Tools == nil {
		return nil, errors.New("the page needs jobs and tools")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	p := &Page{cfg: cfg, mux: http.NewServeMux(), closing: make(chan struct{})}
	var err error
	if p.views, err = template.New("").Funcs(p.functions()).ParseFS(templates, "templates/*.html"); err != nil {
		return nil, err
	}
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		return nil, err
	}
	p.mux.Handle("GET /ui/assets/", http.StripPrefix("/ui/assets/", http.FileServerFS(files)))
	p.mux.HandleFunc("GET /{$}", p.calls)
	p.mux.HandleFunc("GET /ui/row/{key...}", p.row)
	p.mux.HandleFunc("GET /ui/calls/{call...}", p.call)
	p.mux.HandleFunc("GET /ui/jobs/{id...}", p.job)
	p.mux.HandleFunc("GET /ui/at-vapi/{id...}", p.atVapi)
	p.mux.HandleFunc("GET /ui/at-aws/{what}/{id...}", p.atAWS)
	p.mux.HandleFunc("POST /ui/find", p.find)
	p.mux.HandleFunc("GET /ui/tools", p.tools)
	p.mux.HandleFunc("GET /ui/tools/{tool}", p.tool)
	p.mux.HandleFunc("GET /ui/undelivered", p.undelivered)
	p.mux.HandleFunc("GET /ui/changes", p.changes)
	p.mux.HandleFunc("POST /ui/cancel/{id...}", p.writes(p.cancel))
	p.mux.HandleFunc("POST /ui/complete/{id...}", p.writes(p.complete))
	p.mux.HandleFunc("POST /ui/replay/{id...}", p.writes(p.replay))
	p.mux.HandleFunc("POST /ui/redrive/{id...}", p.writes(p.redrive))
	p.mux.HandleFunc("POST /ui/hang-up/{call}", p.writes(p.hangUp))
	p.mux.HandleFunc("POST /ui/start/{tool}", p.writes(p.start))
	p.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.refuse(w, r, http.StatusNotFound, "There is no such page.")
	})
	return p, nil
}

// ServeHTTP serves a request of an operator.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	for name, value := range map[string]string{
		"Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; " +
			"frame-ancestors 'none'",
		"Cache-Control":                "no-store",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Referrer-Policy":              "same-origin", // with no-referrer, a form has no Origin
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
	} {
		header.Set(name, value)
	}
	http.NewCrossOriginProtection().Handler(p.mux).ServeHTTP(w, r)
}

// Close ends the connections that are open for changes. They would delay the end of the server.
func (p *Page) Close() { p.closeOnce.Do(func() { close(p.closing) }) }

// view is what every page shows.
type view struct {
	Name  string // of its template
	Title string
	Tab   string // the selected one
	Still bool   // the page is not refreshed

	Config  Config
	Problem string // what went wrong; empty means nothing
	Done    string // what was done; empty means nothing

	Refresh string        // the URL of the content
	Content template.HTML // rendered by a template
	Model   any
}

// show answers with a page. If it is refreshed, the answer is its content alone, or none if the browser has it.
func (p *Page) show(w http.ResponseWriter, r *http.Request, status int, v view) {
	v.Config = p.cfg
	var content, whole bytes.Buffer
	if err := p.views.ExecuteTemplate(&content, v.Name+".html", v); err != nil {
		p.fail(w, r, err)
		return
	}
	sum := sha256.Sum256(content.Bytes())
	seen := hex.EncodeToString(sum[:8])
	query := r.URL.Query()
	if refresh := r.Header.Get("HX-Request") != ""; refresh && query.Get("seen") == seen {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	query.Set("seen", seen)
	query.Del("done")
	v.Refresh = (&url.URL{Path: r.URL.Path, RawQuery: query.Encode()}).String()
	v.Content = template.HTML(content.String())
	name := "layout.html"
	if r.Header.Get("HX-Request") != "" {
		name = "live.html"
	}
	if err := p.views.ExecuteTemplate(&whole, name, v); err != nil {
		p.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(whole.Bytes())
}

// refuse answers with a page that has only a text.
func (p *Page) refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	p.show(w, r, status, view{Name: "problem", Title: http.StatusText(status), Problem: text, Still: true})
}

// fail answers a request that failed.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, err error) {
	var finished *operator.FinishedError
	var answered interface{ ErrorCode() string } // by AWS
	switch {
	case r.Context().Err() != nil: // the browser has gone
	case errors.Is(err, jobtable.ErrNotFound):
		p.refuse(w, r, http.StatusNotFound, "There is no such call or job. Records are deleted 30 days after their last "+
			"change.")
	case errors.As(err, &finished):
		p.refuse(w, r, http.StatusConflict, "The job has already finished: "+operator.StateWords(finished.State, "")+".")
	case errors.Is(err, operator.ErrNotExternal), errors.Is(err, job.ErrExpired):
		p.refuse(w, r, http.StatusConflict, "This is not possible any more: "+err.Error()+".")
	case errors.Is(err, operator.ErrNoDeadLetter):
		p.refuse(w, r, http.StatusConflict, "No message of the job is in a dead-letter queue.")
	case errors.As(err, &answered) && strings.HasPrefix(answered.ErrorCode(), "AccessDenied"):
		p.refuse(w, r, http.StatusForbidden, "AWS does not permit this with your credentials. The stack's outputs "+
			"OperatorReadPolicy and OperatorWritePolicy are the policies that the page needs. "+masked(err.Error()))
	default:
		p.cfg.Log.WarnContext(r.Context(), "cannot show page", "error", err)
		p.refuse(w, r, http.StatusInternalServerError, masked(err.Error()))
	}
}

// writes refuses a request that changes something if the page is read-only.
func (p *Page) writes(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !p.cfg.Write {
			p.refuse(w, r, http.StatusForbidden, "This page is read-only. Start it with --write to change jobs.")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next(w, r)
	}
}

// maxForm bounds a form, in bytes. A webhook has 1 MB at most.
const maxForm = 1 << 20
