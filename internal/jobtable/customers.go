package jobtable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// CustomerKeys returns the keys that name customers in the table (see [job.Customer]): the current one, and
// the ones before it, as long as they are stored.
type CustomerKeys func(ctx context.Context) ([][]byte, error)

// Customers keeps the lists of the results that are parked for customers' next calls. The customer of a call
// has several names: that of the current key, those of the keys before it, and the one without a key that
// earlier versions used. A list is stored under the first name, and looked for under all of them. So a list
// is found as long as its record exists, which is 30 days after an update or a rotation of the key, if the
// previous one is stored for as long.
type Customers struct {
	store Store[job.CustomerRecord]
	keys  CustomerKeys
}

// NewCustomers returns the customers of a store. Nil keys make every use of a list fail.
func NewCustomers(store Store[job.CustomerRecord], keys CustomerKeys) *Customers {
	return &Customers{store: store, keys: keys}
}

var errNoKeys = errors.New("there is no key that names customers; set COMPLETION_SECRET_ID or COMPLETION_KEYS")

// names returns the names of the customer of a call, the current one first. It returns none if the customer
// is unknown.
func (c *Customers) names(ctx context.Context, call job.Call) ([]string, error) {
	if call.CustomerPhone() == "" {
		return nil, nil
	}
	if c.keys == nil {
		return nil, errNoKeys
	}
	keys, err := c.keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("name a customer: %w", err)
	}
	var names []string
	for _, key := range append(slices.Clip(keys), nil) {
		names = append(names, job.Customer(call, key))
	}
	return names, nil
}

// Lists returns the records of the customer of a call, in the order of the names.
func (c *Customers) Lists(ctx context.Context, call job.Call) ([]job.CustomerRecord, error) {
	names, err := c.names(ctx, call)
	if err != nil {
		return nil, err
	}
	var lists []job.CustomerRecord
	for _, name := range names {
		r, err := c.store.Load(ctx, name)
		switch {
		case err == nil:
			lists = append(lists, r)
		case !errors.Is(err, ErrNotFound):
			return nil, fmt.Errorf("load customer %s: %w", name, err)
		}
	}
	return lists, nil
}

// Parked returns the results that are parked for the customer of a call.
func (c *Customers) Parked(ctx context.Context, call job.Call) ([]job.ParkedResult, error) {
	lists, err := c.Lists(ctx, call)
	var parked []job.ParkedResult
	for _, list := range lists {
		for _, p := range list.Parked {
			if !slices.ContainsFunc(parked, func(other job.ParkedResult) bool { return other.JobID == p.JobID }) {
				parked = append(parked, p)
			}
		}
	}
	return parked, err
}

// Park adds a result to the list of the customer of a call. It reports false if the list is full, or if the
// customer is unknown. An entry of the same job under an earlier name moves to the current one.
func (c *Customers) Park(ctx context.Context, call job.Call, now time.Time, p job.ParkedResult) (bool, error) {
	names, err := c.names(ctx, call)
	if err != nil || len(names) == 0 {
		return false, err
	}
	lists, err := c.Lists(ctx, call)
	if err != nil {
		return false, err
	}
	for _, list := range lists {
		if earlier, found := list.Find(p.JobID); found {
			p = p.ScopedAs(earlier)
		}
	}
	parked := false
	absent := &job.CustomerRecord{Customer: names[0]}
	err = c.change(ctx, names[0], absent, func(r job.CustomerRecord) (job.CustomerRecord, error) {
		r, parked = r.Add(p, now)
		return r, nil
	})
	for _, list := range lists {
		if earlier, found := list.Find(p.JobID); found && err == nil && parked && list.Customer != names[0] {
			err = c.remove(ctx, list.Customer, now, earlier)
		}
	}
	return parked, err
}

// Unpark removes a result from the lists of the customer of a call.
func (c *Customers) Unpark(ctx context.Context, call job.Call, now time.Time, p job.ParkedResult) error {
	names, err := c.names(ctx, call)
	for _, name := range names {
		err = errors.Join(err, c.remove(ctx, name, now, p))
	}
	return err
}

// Wait adds a result to those that wait for an outbound call: see [job.CustomerRecord.Wait].
func (c *Customers) Wait(
	ctx context.Context, call job.Call, result job.WaitingResult, now time.Time,
) (first bool, err error) {
	err = c.current(ctx, call, func(r job.CustomerRecord) job.CustomerRecord {
		r, first = r.Wait(result, now)
		return r
	})
	return first, err
}

// OpenCall opens an outbound call to the customer of a call: see [job.CustomerRecord.OpenCall]. If another one is
// open, it returns that one.
func (c *Customers) OpenCall(
	ctx context.Context, call job.Call, result job.WaitingResult, ended string, now time.Time,
) (others []string, open *job.OpenCall, err error) {
	err = c.current(ctx, call, func(r job.CustomerRecord) job.CustomerRecord {
		var opened bool
		if r, others, opened = r.OpenCall(result, ended, now); opened {
			open = nil
		} else {
			open = r.Open
		}
		return r
	})
	return others, open, err
}

// CallMade records that an outbound call was made, or may have been: see [job.CustomerRecord.CallMade].
func (c *Customers) CallMade(
	ctx context.Context, call job.Call, jobID, callID string, others []string, now time.Time,
) error {
	return c.current(ctx, call, func(r job.CustomerRecord) job.CustomerRecord {
		return r.CallMade(jobID, callID, others, now)
	})
}

// NoCall closes an outbound call that was not made: see [job.CustomerRecord.NoCall].
func (c *Customers) NoCall(ctx context.Context, call job.Call, jobID string, now time.Time) error {
	return c.current(ctx, call, func(r job.CustomerRecord) job.CustomerRecord { return r.NoCall(jobID, now) })
}

// current changes the record of the customer of a call under the current name. An open outbound call is not
// looked for under earlier names: it is open for a short time.
func (c *Customers) current(
	ctx context.Context, call job.Call, rule func(job.CustomerRecord) job.CustomerRecord,
) error {
	names, err := c.names(ctx, call)
	if err != nil || len(names) == 0 {
		return err
	}
	return c.change(ctx, names[0], &job.CustomerRecord{Customer: names[0]},
		func(r job.CustomerRecord) (job.CustomerRecord, error) { return rule(r), nil })
}

// CountCall counts an outbound call of the day. It reports false if the day has as many as allowed.
func (c *Customers) CountCall(ctx context.Context, now time.Time, most int) (bool, error) {
	counted := false
	err := c.ofDay(ctx, now, func(r job.CustomerRecord) (job.CustomerRecord, error) {
		r, counted = r.CountCall(most, now)
		return r, nil
	})
	return counted, err
}

// UncountCall undoes a CountCall with the same now. It is certain that no call was made.
func (c *Customers) UncountCall(ctx context.Context, now time.Time) error {
	return c.ofDay(ctx, now, func(r job.CustomerRecord) (job.CustomerRecord, error) { return r.UncountCall(now), nil })
}

func (c *Customers) ofDay(
	ctx context.Context, now time.Time, rule func(job.CustomerRecord) (job.CustomerRecord, error),
) error {
	day := job.CallsOfDay(now)
	return c.change(ctx, day, &job.CustomerRecord{Customer: day}, rule)
}

// Forget deletes a list as it was loaded. It fails with [ErrChanged] if others have changed it since.
func (c *Customers) Forget(ctx context.Context, list job.CustomerRecord) error {
	if err := c.store.Delete(ctx, list); err != nil {
		return fmt.Errorf("delete customer %s: %w", list.Customer, err)
	}
	return nil
}

func (c *Customers) remove(ctx context.Context, name string, now time.Time, p job.ParkedResult) error {
	err := c.change(ctx, name, nil, func(r job.CustomerRecord) (job.CustomerRecord, error) { return r.Remove(p, now) })
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (c *Customers) change(
	ctx context.Context, name string, absent *job.CustomerRecord,
	rule func(job.CustomerRecord) (job.CustomerRecord, error),
) error {
	if _, err := change(ctx, c.store, name, nil, absent, rule); err != nil {
		return fmt.Errorf("change customer %s: %w", name, err)
	}
	return nil
}
