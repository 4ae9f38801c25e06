package httptool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/ringback/ringback/asynctool"
)

const (
	// defaultEvery is the time between two polls, and minEvery the shortest one.
	defaultEvery = 10 * time.Second
	minEvery     = time.Second

	// maxPollWait bounds the time until the next poll, if a service asks for more.
	maxPollWait = time.Hour

	// maxFailedPolls is how many polls in a row may fail.
	maxFailedPolls = 10

	// maxJobAddress bounds the address of a job, in bytes.
	maxJobAddress = 2000
)

// poll describes how a tool waits for a job of its service. docs/tools.md explains the fields.
type poll struct {
	URL    string   `json:"url"`
	Every  string   `json:"every"`
	Status string   `json:"status"`
	Done   []string `json:"done"`
	Failed []string `json:"failed"`

	every time.Duration
	link  string // the field that has the address of the job; empty: URL does, or else the header Location
}

// polled is the state of a tool that waits for a job.
type polled struct {
	URL    string `json:"url"`
	Failed int    `json:"failed,omitempty"` // how many polls in a row have failed
}

// prepare checks the declaration, without its address.
func (p *poll) prepare() error {
	var err error
	if p.every, err = duration("poll.every", p.Every, "10s"); err != nil {
		return at(err, "every")
	}
	if p.every == 0 {
		p.every = defaultEvery
	}
	if p.every < minEvery || p.every > maxPollWait {
		return at(fmt.Errorf("poll.every is %s; it must be between %s and %s", p.Every, minEvery, maxPollWait), "every")
	}
	switch {
	case p.Status == "" && (len(p.Done) > 0 || len(p.Failed) > 0):
		return errors.New("poll: done and failed are values of the field status, which is missing")
	case p.Status != "" && len(p.Done) == 0:
		return at(errors.New("poll: the values of status that mean done are missing"), "status")
	}
	if p.Status != "" {
		if err := checkField(p.Status); err != nil {
			return at(fmt.Errorf("poll.status is %q; it %w", p.Status, err), "status")
		}
	}
	for _, value := range p.Done {
		if slices.Contains(p.Failed, value) {
			return at(fmt.Errorf("poll: %q means both done and failed", value), "failed")
		}
	}
	if before, name, after, found := cutName(p.URL); found && before+after == "" {
		p.link = name
		if err := checkField(p.link); err != nil {
			return at(fmt.Errorf("the poll.url has {%s}, which %w", p.link, err), "url")
		}
	}
	return nil
}

// fill returns the address of the job with the environment filled in. It is nil if the answer has the address.
func (p *poll) fill(e *environment) (*target, error) {
	if p.URL == "" || p.link != "" {
		return nil, nil
	}
	job, err := e.target("poll.url", p.URL)
	if err != nil {
		return nil, at(err, "url")
	}
	fields := slices.Concat(job.path, job.query)
	if len(fields) == 0 {
		return nil, at(errors.New("the poll.url has no {field} of the answer, which identifies the job"), "url")
	}
	for _, name := range fields {
		if err := checkField(name); err != nil {
			return nil, at(fmt.Errorf("the poll.url has {%s}, which %w", name, err), "url")
		}
	}
	return job, nil
}

// jobAddress returns the address of the job that an answer names.
func (f *forwarded) jobAddress(a answer) (*url.URL, error) {
	own := f.target.url
	if f.job != nil {
		var missing error
		u, err := f.job.with(func(name string) (string, bool) {
			text, err := field(a.body, name)
			missing = errors.Join(missing, err)
			return text, err == nil
		})
		switch _, bad := errors.AsType[notIdentifier](err); {
		case missing != nil:
			return nil, missing
		case bad:
			return nil, fmt.Errorf("%s: its %w", malformed, err)
		}
		return u, err
	}
	address, where := a.header.Get("Location"), "the header Location"
	if link := f.Poll.link; link != "" {
		address, where = textIn(a.body, link), "the field "+link
	}
	u, err := a.from.Parse(address)
	if address == "" || err != nil || len(address) > maxJobAddress {
		return nil, fmt.Errorf("%s: it has no address of a job in %s", malformed, where)
	}
	if !sameHost(u, own) {
		return nil, errOtherHost
	}
	u.User = own.User
	return u, nil
}

// state is how far a job is.
type state string

const (
	stateWorking state = "working"
	stateDone    state = "done"
	stateFailed  state = "failed"
)

// state returns how far an answer says that the job is.
func (p *poll) state(a answer) (state, error) {
	if p.Status == "" {
		if a.status == http.StatusAccepted {
			return stateWorking, nil
		}
		return stateDone, nil
	}
	value, err := field(a.body, p.Status)
	switch {
	case err != nil && a.status == http.StatusAccepted:
		return stateWorking, nil
	case err != nil:
		return "", err
	case slices.Contains(p.Done, value):
		return stateDone, nil
	case slices.Contains(p.Failed, value):
		return stateFailed, nil
	default:
		return stateWorking, nil
	}
}

// follow returns the result of an answer that may name a job, or say how far it is. last is the address
// at which the job was polled, and empty after the first request.
func (f *forwarded) follow(a answer, last string) (asynctool.Result, error) {
	now, err := f.Poll.state(a)
	switch {
	case err != nil:
		return asynctool.Result{}, asynctool.Fail("", err)
	case now == stateDone:
		return f.result(a)
	case now == stateFailed:
		return asynctool.Result{}, f.worded(asynctool.Fail("", errors.New("the service says that its job has failed")), a)
	}
	if last == "" {
		u, err := f.jobAddress(a)
		if err != nil {
			return asynctool.Result{}, asynctool.Fail("", err)
		}
		last = u.String()
	}
	return asynctool.ResumeIn(max(f.Poll.every, retryAfter(a.header, maxPollWait)), polled{URL: last}), nil
}

// resume polls the job. A poll that fails harms nothing, so that the next one follows.
func (f *forwarded) resume(ctx context.Context, s polled) (asynctool.Result, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return asynctool.Result{}, asynctool.Fail("", errors.New("the stored address of the job is not valid"))
	}
	// The settings may have changed since.
	if !sameHost(u, f.target.url) && (f.job == nil || !sameHost(u, f.job.url)) {
		return asynctool.Result{}, asynctool.Fail("", errOtherHost)
	}
	a, err := f.ask(ctx, request{method: http.MethodGet, url: u})
	if err == nil {
		err = f.failure(a)
	}
	if said, ok := errors.AsType[*asynctool.Error](err); ok && said.Retry && s.Failed+1 < maxFailedPolls {
		s.Failed++
		return asynctool.ResumeIn(max(f.Poll.every, said.After), s), nil
	}
	if err != nil {
		return asynctool.Result{}, err
	}
	return f.follow(a, s.URL)
}
