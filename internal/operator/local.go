package operator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// The routes of a local run.
const (
	listRoute   = "GET /jobs"         // ?call=…
	showRoute   = "GET /jobs/show"    // ?id=…&data=true
	cancelRoute = "POST /jobs/cancel" // ?id=…&reason=…
	searchRoute = "GET /jobs/search"  // ?since=…&tool=…&failed=true&undelivered=true
	callsRoute  = "GET /calls"        // ?from=…&most=…&data=true
	callRoute   = "GET /calls/show"   // ?call=…&data=true

	findRoute   = "POST /customers/find"   // ?number=…&org=…
	forgetRoute = "POST /customers/forget" // ?number=…&org=…
)

// Handler serves jobs and customers to programs on this machine only, and only to those that have a
// token. It answers 404 to another machine, to a tunnel or a proxy, and to a page in a
// browser.
func Handler(jobs *Jobs, customers *Customers, token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(listRoute, func(w http.ResponseWriter, r *http.Request) {
		l, err := jobs.List(r.Context(), r.FormValue("call"))
		respond(w, l, err)
	})
	mux.HandleFunc(showRoute, func(w http.ResponseWriter, r *http.Request) {
		d, err := jobs.Show(r.Context(), r.FormValue("id"), r.FormValue("data") == "true")
		respond(w, d, err)
	})
	mux.HandleFunc(cancelRoute, func(w http.ResponseWriter, r *http.Request) {
		c, err := jobs.Cancel(r.Context(), r.URL.Query().Get("id"), r.URL.Query().Get("reason"))
		respond(w, c, err)
	})
	mux.HandleFunc(searchRoute, func(w http.ResponseWriter, r *http.Request) {
		since, err := time.Parse(time.RFC3339Nano, r.FormValue("since"))
		if r.FormValue("since") == "" {
			since, err = time.Time{}, nil
		}
		var f Found
		if err == nil {
			f, err = jobs.Search(r.Context(), Filter{
				Since: since, Tool: r.FormValue("tool"),
				Failed: r.FormValue("failed") == "true", Undelivered: r.FormValue("undelivered") == "true",
			})
		}
		respond(w, f, err)
	})
	mux.HandleFunc(callsRoute, func(w http.ResponseWriter, r *http.Request) {
		most, _ := strconv.Atoi(r.FormValue("most"))
		p, err := jobs.Calls(r.Context(), r.FormValue("from"), most, r.FormValue("data") == "true")
		respond(w, p, err)
	})
	mux.HandleFunc(callRoute, func(w http.ResponseWriter, r *http.Request) {
		d, err := jobs.Call(r.Context(), r.FormValue("call"), r.FormValue("data") == "true")
		respond(w, d, err)
	})
	mux.HandleFunc(findRoute, func(w http.ResponseWriter, r *http.Request) {
		s, err := customers.Find(r.Context(), r.URL.Query().Get("number"), r.URL.Query().Get("org"), nil)
		respond(w, s, err)
	})
	mux.HandleFunc(forgetRoute, func(w http.ResponseWriter, r *http.Request) {
		s, err := customers.Find(r.Context(), r.URL.Query().Get("number"), r.URL.Query().Get("org"), nil)
		var f Forgotten
		if err == nil {
			f, err = customers.Forget(r.Context(), s)
		}
		respond(w, f, err)
	})
	return guarded(mux, token)
}

// guarded serves requests of programs on this machine that have a token.
func guarded(mux http.Handler, token string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !fromHere(r) {
			http.NotFound(w, r)
			return
		}
		sent := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if want := sha256.Sum256([]byte("Bearer " + token)); subtle.ConstantTimeCompare(sent[:], want[:]) != 1 {
			respond(w, nil, errToken)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// fromHere reports whether a request comes from a program on this machine, and not from a browser, which says where
// its requests come from.
func fromHere(r *http.Request) bool {
	return r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" && Direct(r)
}

// Direct reports whether a request comes from this machine, and not through a tunnel or a proxy. These may connect from
// this machine, too, but have another Host, or headers that name the origin of the request.
func Direct(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	return loopback(r.RemoteAddr) && loopback(r.Host)
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// signature is a header of every answer. It distinguishes a local run from other
// programs.
const signature = "Ringback-Local"

var errToken = errors.New("the token of the run is missing or wrong")

// problem is the answer to a failed request.
type problem struct {
	Error string    `json:"error"`
	State job.State `json:"state,omitempty"` // of a finished job
}

func respond(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	var finished *FinishedError
	switch {
	case errors.As(err, &finished):
		status, v = http.StatusConflict, problem{err.Error(), finished.State}
	case errors.Is(err, errToken):
		status, v = http.StatusUnauthorized, problem{Error: err.Error()}
	case errors.Is(err, ErrNoArguments):
		status, v = http.StatusGone, problem{Error: err.Error()}
	case errors.Is(err, jobtable.ErrNotFound), errors.Is(err, ErrNoDeadLetter):
		status, v = http.StatusNotFound, problem{Error: err.Error()}
	case err != nil:
		status, v = http.StatusInternalServerError, problem{Error: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(signature, "jobs")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// Local are the jobs and customers of a local run. It has the methods of [Jobs] and [Customers].
type Local struct {
	addr   string
	token  string
	client *http.Client
}

// NewLocal returns the jobs of the local run at an address of this machine, host:port,
// which has a token. The run must prove that it has the token before each request. NewLocal does not check whether
// there is a local run.
func NewLocal(addr, token string) (*Local, error) {
	if !loopback(addr) {
		return nil, fmt.Errorf("%s is not an address of this machine; a local run shows its jobs on this machine only", addr)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: ProvenTransport(token)}
	return &Local{addr: addr, token: token, client: client}, nil
}

// List is like [Jobs.List].
func (l *Local) List(ctx context.Context, call string) (list List, err error) {
	err = l.ask(ctx, http.MethodGet, "/jobs", url.Values{"call": {call}}, &list)
	return list, err
}

// Show is like [Jobs.Show].
func (l *Local) Show(ctx context.Context, id string, data bool) (d Details, err error) {
	err = l.ask(ctx, http.MethodGet, "/jobs/show", url.Values{"id": {id}, "data": {fmt.Sprint(data)}}, &d)
	return d, err
}

// Cancel is like [Jobs.Cancel].
func (l *Local) Cancel(ctx context.Context, id, reason string) (c Cancelled, err error) {
	err = l.ask(ctx, http.MethodPost, "/jobs/cancel", url.Values{"id": {id}, "reason": {reason}}, &c)
	return c, err
}

// Search is like [Jobs.Search].
func (l *Local) Search(ctx context.Context, f Filter) (found Found, err error) {
	since := ""
	if !f.Since.IsZero() {
		since = f.Since.Format(time.RFC3339Nano)
	}
	err = l.ask(ctx, http.MethodGet, "/jobs/search", url.Values{
		"since": {since}, "tool": {f.Tool}, "failed": {fmt.Sprint(f.Failed)}, "undelivered": {fmt.Sprint(f.Undelivered)},
	}, &found)
	return found, err
}

// Calls is like [Jobs.Calls].
func (l *Local) Calls(ctx context.Context, from string, most int, data bool) (p CallPage, err error) {
	query := url.Values{"from": {from}, "most": {fmt.Sprint(most)}, "data": {fmt.Sprint(data)}}
	err = l.ask(ctx, http.MethodGet, "/calls", query, &p)
	return p, err
}

// Call is like [Jobs.Call].
func (l *Local) Call(ctx context.Context, name string, data bool) (d CallDetails, err error) {
	err = l.ask(ctx, http.MethodGet, "/calls/show", url.Values{"call": {name}, "data": {fmt.Sprint(data)}}, &d)
	return d, err
}

// Find is like [Customers.Find]. It does not call read.
func (l *Local) Find(ctx context.Context, number, orgID string, _ func(records int)) (s Stored, err error) {
	err = l.ask(ctx, http.MethodPost, "/customers/find", url.Values{"number": {number}, "org": {orgID}}, &s)
	return s, err
}

// Forget is like [Customers.Forget], after another search.
func (l *Local) Forget(ctx context.Context, s Stored) (f Forgotten, err error) {
	err = l.ask(ctx, http.MethodPost, "/customers/forget", url.Values{"number": {s.Number}, "org": {s.OrgID}}, &f)
	return f, err
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 16 << 20

func (l *Local) ask(ctx context.Context, method, path string, query url.Values, into any) error {
	return l.request(ctx, method, path, query, nil, into)
}

// send posts a value as JSON.
func (l *Local) send(ctx context.Context, path string, query url.Values, value, into any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return l.request(ctx, http.MethodPost, path, query, bytes.NewReader(body), into)
}

func (l *Local) request(
	ctx context.Context, method, path string, query url.Values, content io.Reader, into any,
) error {
	u := url.URL{Scheme: "http", Host: l.addr, Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+l.token)
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := l.client.Do(request)
	if errors.Is(err, ErrUnproven) {
		return fmt.Errorf("the program on %s has not proven that it is your local run; start ringback dev again, "+
			"use the account that started it, or check the address", l.addr)
	}
	if err != nil {
		return fmt.Errorf("cannot reach a local run on %s: %s; start it with ringback dev, or check the address",
			l.addr, vapiclient.Unanswered(ctx, err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("cannot read the answer of the local run: %s", vapiclient.Unanswered(ctx, err))
	}
	var p problem
	switch {
	case response.Header.Get(signature) == "":
		return fmt.Errorf("the program on %s is not a local run, or an older one: it answered %d",
			l.addr, response.StatusCode)
	case response.StatusCode == http.StatusOK:
		err = json.Unmarshal(body, into)
	default:
		err = json.Unmarshal(body, &p)
	}
	switch {
	case err != nil:
		return errors.New("cannot decode the answer of the local run")
	case response.StatusCode == http.StatusConflict:
		return &FinishedError{State: p.State}
	case response.StatusCode == http.StatusNotFound:
		return jobtable.ErrNotFound
	case response.StatusCode == http.StatusGone:
		return ErrNoArguments
	case response.StatusCode != http.StatusOK:
		return errors.New(p.Error)
	}
	return nil
}
