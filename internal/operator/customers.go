package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/queue"
)

// Lists is implemented by [jobtable.Customers].
type Lists interface {
	Lists(ctx context.Context, call job.Call) ([]job.CustomerRecord, error)
	Forget(ctx context.Context, list job.CustomerRecord) error
}

// CustomersConfig selects the customers. All of it is required, except Now and Log.
type CustomersConfig struct {
	Table    Table
	Lists    Lists
	Outcomes Queue // the results queue

	// Search returns the records of jobs in one page of the table that contain a text, how many records
	// it read, and where the next page begins. The first page begins at "", and the last one has no next.
	Search func(ctx context.Context, text, from string) (found []job.Record, read int, next string, err error)

	// Copies finds and deletes the copies of jobs that are stored for replays.
	Copies CustomerCopies

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// CustomerCopies are the copies of the jobs of a customer. All of it is required.
type CustomerCopies struct {
	// Names returns the names of the customer with a number: see [jobtable.Customers.ReplayNames].
	Names func(ctx context.Context, number string) ([]string, error)
	// Search returns copies with one of the names, as CustomersConfig.Search returns records.
	Search func(ctx context.Context, names []string, from string) (
		found []job.ReplayCopy, read int, next string, err error)
	Delete func(ctx context.Context, c job.ReplayCopy) error
}

// Customers are the customers of a deployment.
type Customers struct{ cfg CustomersConfig }

// NewCustomers returns the customers of a deployment.
func NewCustomers(cfg CustomersConfig) (*Customers, error) {
	if cfg.Table == nil || cfg.Lists == nil || cfg.Outcomes == nil || cfg.Search == nil ||
		cfg.Copies.Names == nil || cfg.Copies.Search == nil || cfg.Copies.Delete == nil {
		return nil, errors.New("an operator needs the jobs table and the results queue")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Customers{cfg: cfg}, nil
}

// Stored is what is stored about a customer.
type Stored struct {
	Number string `json:"number"`          // in E.164
	OrgID  string `json:"orgId,omitempty"` // as the operator named it

	Parked []Job `json:"parked"` // their results are parked for the customer's next call
	Others []Job `json:"others"` // their records have the number
	Lists  int   `json:"lists"`  // of parked results
	Copies int   `json:"copies"` // of jobs, for replays

	// Mentions counts the records of other jobs that contain the number: in their arguments, tool state,
	// progress or result. They expire.
	Mentions int `json:"mentions"`

	lists  []job.CustomerRecord
	listed []Job // those of Parked that only a list leads to
	copies []job.ReplayCopy
}

// Number returns a telephone number without its separators, or an error if it is none that a customer can
// have: see [job.Call.CustomerPhone].
func Number(text string) (string, error) {
	number := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -.()/\u00a0", r) {
			return -1
		}
		return r
	}, text)
	if (job.Call{CustomerNumber: number}).CustomerPhone() == "" {
		return "", errors.New("the number is not the telephone number of a customer; write it like +15550100123")
	}
	return number, nil
}

// Find returns what is stored about a customer. It reads the whole table, and calls read with the number of
// records that it has read so far. The lists of parked results are found for the organisations of the jobs,
// and for the one that orgID names.
//
// A job that was never suspended has no number in its record. The messages of jobs and results are not read.
func (c *Customers) Find(ctx context.Context, number, orgID string, read func(records int)) (Stored, error) {
	number, err := Number(number)
	if err != nil {
		return Stored{}, err
	}
	s := Stored{Number: number, OrgID: orgID, Parked: []Job{}, Others: []Job{}}
	orgs := []string{"", orgID}
	total := 0
	for from := ""; ; {
		found, n, next, err := c.cfg.Search(ctx, number, from)
		if err != nil {
			return Stored{}, err
		}
		for _, r := range found {
			switch summary := listed(r.Summary()); {
			case r.Job().Call.CustomerNumber != number:
				s.Mentions++
				continue
			case r.State == job.StateParked:
				s.Parked = append(s.Parked, summary)
			default:
				s.Others = append(s.Others, summary)
			}
			orgs = append(orgs, r.Job().Call.OrgID)
		}
		if total += n; read != nil {
			read(total)
		}
		if from = next; next == "" {
			break
		}
	}
	if err := c.addCopies(ctx, &s, total, read); err != nil {
		return Stored{}, err
	}
	slices.Sort(orgs)
	for _, org := range slices.Compact(orgs) {
		lists, err := c.cfg.Lists.Lists(ctx, job.Call{OrgID: org, CustomerNumber: number})
		if err != nil {
			return Stored{}, err
		}
		s.lists = append(s.lists, lists...)
	}
	s.Lists = len(s.lists)
	return s, c.addListed(ctx, &s)
}

// addCopies adds the copies of the customer's jobs. It calls read with the number of all records read so far.
func (c *Customers) addCopies(ctx context.Context, s *Stored, total int, read func(records int)) error {
	names, err := c.cfg.Copies.Names(ctx, s.Number)
	if err != nil {
		return err
	}
	for from := ""; ; {
		found, n, next, err := c.cfg.Copies.Search(ctx, names, from)
		if err != nil {
			return err
		}
		s.copies = append(s.copies, found...)
		if total += n; read != nil && n > 0 {
			read(total)
		}
		if from = next; next == "" {
			s.Copies = len(s.copies)
			return nil
		}
	}
}

// addListed adds the jobs of the lists whose records do not have the number. Earlier versions parked such.
func (c *Customers) addListed(ctx context.Context, s *Stored) error {
	for _, list := range s.lists {
		for _, p := range list.Parked {
			if slices.ContainsFunc(s.Parked, func(j Job) bool { return j.ID == p.JobID }) {
				continue
			}
			r, err := c.cfg.Table.Load(ctx, p.JobID)
			switch {
			case errors.Is(err, jobtable.ErrNotFound):
			case err != nil:
				return err
			case r.State == job.StateParked:
				one := listed(r.Summary())
				s.Parked, s.listed = append(s.Parked, one), append(s.listed, one)
			}
		}
	}
	return nil
}

// Forgotten is what was deleted.
type Forgotten struct {
	Results int `json:"results"` // parked ones
	Numbers int `json:"numbers"` // in the records of other jobs
	Lists   int `json:"lists"`
	Copies  int `json:"copies"` // of jobs, for replays
	// Unsent counts the results whose undelivered events are sent by the next daily sweep only.
	Unsent int `json:"unsent,omitempty"`
}

// Forget deletes what was found. A parked result becomes an undelivered event without the result and the
// number.
//
// Forget can be interrupted and repeated: another search finds what is left. A record without the number is found by
// its list, so it comes before the list. A list is found by the organisation of a record with the number, so the list
// comes before these records.
func (c *Customers) Forget(ctx context.Context, s Stored) (Forgotten, error) {
	var f Forgotten
	for _, one := range s.copies {
		if err := c.cfg.Copies.Delete(ctx, one); err != nil && !errors.Is(err, jobtable.ErrChanged) { // it has expired
			return f, fmt.Errorf("%w; run the command again to continue from here", err)
		}
		f.Copies++
	}
	if err := c.forgetJobs(ctx, s.listed, &f); err != nil {
		return f, err
	}
	for _, list := range s.lists {
		switch err := c.cfg.Lists.Forget(ctx, list); {
		case errors.Is(err, jobtable.ErrChanged):
			return f, errors.New("a result was parked or delivered meanwhile; run the command again")
		case err != nil:
			return f, fmt.Errorf("%w; run the command again to continue from here", err)
		}
		f.Lists++
	}
	named := slices.DeleteFunc(slices.Clone(s.Parked), func(j Job) bool {
		return slices.ContainsFunc(s.listed, func(one Job) bool { return one.ID == j.ID })
	})
	err := c.forgetJobs(ctx, slices.Concat(named, s.Others), &f)
	return f, err
}

// forgetJobs deletes the number of jobs, and their results if they are parked. It adds them to f.
func (c *Customers) forgetJobs(ctx context.Context, jobs []Job, f *Forgotten) error {
	for _, j := range jobs {
		forgotten, sent, err := c.forgetJob(ctx, j.ID)
		switch {
		case err != nil:
			return fmt.Errorf("%w; run the command again to continue from here", err)
		case forgotten && !sent:
			f.Unsent++
			f.Results++
		case forgotten:
			f.Results++
		default:
			f.Numbers++
		}
	}
	return nil
}

// forgetJob deletes the number of a job, and its result if that is parked. sent reports whether the outcome
// was sent which becomes an event.
func (c *Customers) forgetJob(ctx context.Context, id string) (forgotten, sent bool, err error) {
	r, err := c.cfg.Table.Change(ctx, id, job.ForgetCustomer(c.cfg.Now()))
	switch {
	case errors.Is(err, jobtable.ErrNotFound):
		return false, false, nil
	case err != nil:
		return false, false, err
	case r.Forgotten.IsZero():
		return false, false, nil
	}
	body, err := r.Job().Outcome(r).Encode()
	if err == nil {
		message := queue.Message{Body: body, Group: queue.Group(r.CallID)}
		err = errors.Join(c.cfg.Outcomes.Send(ctx, []queue.Message{message})...)
	}
	if err != nil {
		c.cfg.Log.WarnContext(ctx, "cannot send the event of a deleted result; the daily sweep sends it",
			job.LogJob(id), "error", err)
		return true, false, nil
	}
	return true, true, nil
}
