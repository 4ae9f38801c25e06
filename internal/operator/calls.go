package operator

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// What follows is what the command line and other programs of an operator read. [Jobs] reads the table of a
// deployment, and [Local] asks a local run. Both have these methods, and each of them is bounded:
//
//	Calls    a page of the calls, newest first          2 queries, 10 at most
//	Call     a call, with its jobs and their steps      3 reads, and one for each job
//	Search   the jobs of the calls since a time         as Calls, and a query for each call and a read for each job
//	List     the jobs of a call, or all unsettled ones  a query, or a scan of the index
//	Show     a job with its steps                       1 read, or 2
//
// A read of a settled job is kept, so that a list that is read again costs only its queries.

// CallStore is implemented by [jobtable.Stores].
type CallStore interface {
	CallList
	Calls() jobtable.Store[job.CallRecord]
}

const (
	// MaxCalls bounds a page of calls.
	MaxCalls = jobtable.MaxRecentCalls

	// maxNamed is how many of the newest calls are searched for a name in logs.
	maxNamed = 10 * MaxCalls

	searchPage  = 100 // calls
	callsAtOnce = 8   // queries
	jobsAtOnce  = 16  // reads
	maxKnown    = 10_000
)

// CallPage is a page of calls, newest first.
type CallPage struct {
	Calls []CallRow `json:"calls"`
	Next  string    `json:"next,omitempty"` // where the next page begins; empty if there is none
}

// CallRow is a call in a list.
type CallRow struct {
	Key   string    `json:"key,omitempty"` // names the call for [Jobs.Call], and does not contain its id
	Call  string    `json:"call"`          // the name of the call in logs
	First time.Time `json:"first"`         // when its first job started, or else when the call became known
	ID    string    `json:"id,omitempty"`  // at Vapi; empty unless it was asked for: see [Details]
}

func callRow(c job.ListedCall, data bool) CallRow {
	row := CallRow{Key: c.Key(), Call: job.CallHash(c.CallID), First: c.First}
	if data {
		row.ID = c.CallID
	}
	return row
}

// CallDetails are a call and its jobs, oldest first.
type CallDetails struct {
	CallRow
	Began time.Time `json:"began,omitzero"` // as Vapi says; zero if no webhook has shown it
	Ended time.Time `json:"ended,omitzero"` // when its end became known; zero if it is not known to have ended
	Jobs  []Job     `json:"jobs"`
	All   bool      `json:"all"` // these are all jobs of the call
}

// CallState is whether a call lasts.
type CallState string

const (
	CallLive        CallState = "live"
	CallEnded       CallState = "ended"
	CallEndNotKnown CallState = "end not known" // Vapi has not reported it, and it is long ago
)

// maxLive is how long after its last tool call a call counts as live, if Vapi does not report its end.
const maxLive = time.Hour

// State returns whether the call lasts.
func (d CallDetails) State(now time.Time) CallState {
	last := d.First
	for _, x := range d.Jobs {
		if x.Created.After(last) {
			last = x.Created
		}
	}
	switch {
	case !d.Ended.IsZero():
		return CallEnded
	case now.Sub(last) < maxLive:
		return CallLive
	}
	return CallEndNotKnown
}

// Start returns when the call began, as far as that is known: otherwise, when its first job did. The clocks of Vapi and
// of the functions differ.
func (d CallDetails) Start() time.Time {
	if !d.Began.IsZero() && d.Began.Before(d.First) {
		return d.Began
	}
	return d.First
}

// Calls returns a page of at most most calls, from a page's Next on, or from the newest one. data adds their ids.
// Calls that became known to an earlier version are missing. So are those of a deployment without limits on the
// jobs of a call, until they end.
func (j *Jobs) Calls(ctx context.Context, from string, most int, data bool) (CallPage, error) {
	calls, next, err := j.cfg.Calls.RecentCalls(ctx, j.cfg.Now(), from, min(max(most, 1), MaxCalls))
	page := CallPage{Calls: []CallRow{}, Next: next}
	for _, c := range calls {
		page.Calls = append(page.Calls, callRow(c, data))
	}
	return page, err
}

var (
	hashFormat = regexp.MustCompile(`^[0-9a-f]{16}$`)
	keyFormat  = regexp.MustCompile(`^\d{4}-\d\d-\d\dT[0-9:.]+Z/[0-9a-f]{16}$`)
)

// Call returns a call by its id at Vapi, by its key, or by its name in logs, which is searched for among the newest
// calls. It returns [jobtable.ErrNotFound] if there is no such call.
func (j *Jobs) Call(ctx context.Context, name string, data bool) (CallDetails, error) {
	callID, err := j.callID(ctx, name)
	if err != nil {
		return CallDetails{}, err
	}
	record, err := j.cfg.Calls.Calls().Load(ctx, callID)
	if err != nil && !errors.Is(err, jobtable.ErrNotFound) {
		return CallDetails{}, err
	}
	found, err := j.cfg.Table.OfCall(ctx, callID)
	switch {
	case err != nil:
		return CallDetails{}, err
	case len(found) == 0 && record.Revision == 0:
		return CallDetails{}, jobtable.ErrNotFound
	}
	d := CallDetails{
		CallRow: CallRow{Call: job.CallHash(callID)}, Began: record.Began, Ended: record.Ended,
		All: len(found) < jobtable.MaxOfCall,
	}
	if c, ok := record.Listed(); ok {
		d.CallRow = callRow(c, data)
	}
	if len(found) > 0 && (d.First.IsZero() || found[0].Created.Before(d.First)) { // it became known when it ended
		d.First = found[0].Created
	}
	if data {
		d.ID = callID
	}
	d.Jobs, err = j.complete(ctx, found, true)
	return d, err
}

// callID returns the id of a call: see [callIDOf].
func (j *Jobs) callID(ctx context.Context, name string) (string, error) {
	return callIDOf(ctx, j.cfg.Calls, j.cfg.Now(), name)
}

// CallList is the part of a [CallStore] that lists calls.
type CallList interface {
	RecentCalls(ctx context.Context, now time.Time, from string, most int) ([]job.ListedCall, string, error)
}

// callIDOf returns the id of a call by its key or by its name in logs. Any other name is an id itself. It returns
// [jobtable.ErrNotFound] if there is no such call among the newest ones.
func callIDOf(ctx context.Context, list CallList, now time.Time, name string) (string, error) {
	switch {
	case keyFormat.MatchString(name):
		calls, _, err := list.RecentCalls(ctx, now, name+"~", 1)
		if err == nil && (len(calls) == 0 || calls[0].Key() != name) {
			err = jobtable.ErrNotFound
		}
		if err != nil {
			return "", err
		}
		return calls[0].CallID, nil
	case !hashFormat.MatchString(name):
		return name, nil
	}
	from := ""
	for searched := 0; searched < maxNamed; {
		calls, next, err := list.RecentCalls(ctx, now, from, MaxCalls)
		if err != nil {
			return "", err
		}
		for _, c := range calls {
			if job.CallHash(c.CallID) == name {
				return c.CallID, nil
			}
		}
		if searched, from = searched+len(calls), next; next == "" {
			break
		}
	}
	return "", jobtable.ErrNotFound
}

// Filter selects jobs.
type Filter struct {
	Since       time.Time // when their call became known, at the earliest
	Tool        string    // empty means any
	Failed      bool      // only those that failed, and were not cancelled
	Undelivered bool      // only those whose result was not delivered; with Failed, both
}

// Selects reports whether the filter selects a job. It does not look at Since.
func (f Filter) Selects(x Job) bool {
	switch {
	case f.Tool != "" && x.Tool != f.Tool:
		return false
	case f.Failed && x.CountsAsFailed():
		return true
	case f.Undelivered && x.State == job.StateUndelivered:
		return true
	}
	return !f.Failed && !f.Undelivered
}

// Found are the jobs that a [Filter] selects, the newest first.
type Found struct {
	Jobs   []Job     `json:"jobs"`
	Loaded int       `json:"loaded"`         // how many jobs were searched, at most [MaxListed]
	Since  time.Time `json:"since,omitzero"` // all jobs of calls since then were searched
	All    bool      `json:"all"`            // Since is that of the filter
}

// Search returns the jobs that a filter selects, from at most [MaxListed] jobs of the newest calls.
func (j *Jobs) Search(ctx context.Context, f Filter) (Found, error) {
	found := Found{Jobs: []Job{}, Since: f.Since, All: true}
	var all []job.Summary
	var reached time.Time // all jobs of calls since then are loaded
	for from, more := "", true; more && found.All; {
		calls, next, err := j.cfg.Calls.RecentCalls(ctx, j.cfg.Now(), from, searchPage)
		if err != nil {
			return Found{}, err
		}
		if i := slices.IndexFunc(calls, func(c job.ListedCall) bool { return c.First.Before(f.Since) }); i >= 0 {
			calls, next = calls[:i], ""
		}
		ofCalls, err := each(calls, callsAtOnce, func(c job.ListedCall) ([]job.Summary, error) {
			return j.cfg.Table.OfCall(ctx, c.CallID)
		})
		if err != nil {
			return Found{}, err
		}
		for i, jobs := range ofCalls {
			if len(all)+len(jobs) > MaxListed {
				found.All = false
				break
			}
			all, reached = append(all, jobs...), calls[i].First
		}
		from, more = next, next != ""
	}
	if !found.All {
		found.Since = reached
	}
	found.Loaded = len(all)
	slices.SortStableFunc(all, func(a, b job.Summary) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	all = slices.DeleteFunc(all, func(s job.Summary) bool {
		may := f
		may.Failed, may.Undelivered = false, f.Undelivered && !f.Failed
		return !may.Selects(listed(s))
	})
	jobs, err := j.complete(ctx, all, false)
	for _, x := range jobs {
		if f.Selects(x) {
			found.Jobs = append(found.Jobs, x)
		}
	}
	return found, err
}

// known are the settled jobs that were read, by their ids. They change rarely, and say so in their Updated.
type known struct {
	mu   sync.Mutex
	jobs map[string]Job
}

func (k *known) get(s job.Summary) (Job, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	x, ok := k.jobs[s.ID]
	return x, ok && x.State == s.State && x.Updated.UnixMilli() == s.Updated.UnixMilli()
}

func (k *known) put(x Job) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.jobs == nil || len(k.jobs) >= maxKnown {
		k.jobs = make(map[string]Job)
	}
	k.jobs[x.ID] = x
}

// complete reads the records of jobs, as the index does not say which of them failed. With steps, it reads them all;
// otherwise, only those of jobs that have a result.
func (j *Jobs) complete(ctx context.Context, found []job.Summary, steps bool) ([]Job, error) {
	jobs, err := each(found, jobsAtOnce, func(s job.Summary) (Job, error) {
		if x, ok := j.known.get(s); ok {
			return x, nil
		}
		if s.State.Active() && !steps {
			return listed(s), nil
		}
		r, err := j.cfg.Table.Load(ctx, s.ID)
		switch {
		case errors.Is(err, jobtable.ErrNotFound):
			return listed(s), nil // it has expired a moment ago
		case err != nil:
			return Job{}, err
		}
		x := described(r)
		if r.State.Settled() {
			j.known.put(x)
		}
		return x, nil
	})
	if !steps {
		for i := range jobs {
			jobs[i].Steps = nil
		}
	}
	return jobs, err
}

// each calls a function for each item, some of them at the same time, and returns the results in order.
func each[T, R any](items []T, atOnce int, do func(T) (R, error)) ([]R, error) {
	results, errs := make([]R, len(items)), make([]error, len(items))
	slots := make(chan struct{}, atOnce)
	var running sync.WaitGroup
	for i, item := range items {
		slots <- struct{}{}
		running.Go(func() {
			results[i], errs[i] = do(item)
			<-slots
		})
	}
	running.Wait()
	return results, errors.Join(errs...)
}
