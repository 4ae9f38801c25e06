package jobtable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// Customers keeps the lists of the results that are parked for customers' next
// calls. A customer is named as by [job.Customer].
type Customers struct{ store Store[job.CustomerRecord] }

// NewCustomers returns the customers of a store.
func NewCustomers(store Store[job.CustomerRecord]) *Customers { return &Customers{store: store} }

// Parked returns the results that are parked for a customer.
func (c *Customers) Parked(ctx context.Context, customer string) ([]job.ParkedResult, error) {
	r, err := c.store.Load(ctx, customer)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load customer %s: %w", customer, err)
	}
	return r.Parked, nil
}

// Park adds a result to the list. It reports false if the list is full.
func (c *Customers) Park(ctx context.Context, customer string, now time.Time, p job.ParkedResult) (bool, error) {
	parked := false
	err := c.change(ctx, customer, func(r job.CustomerRecord) job.CustomerRecord {
		r, parked = r.Add(p, now)
		return r
	})
	return parked, err
}

// Unpark removes a result from the list.
func (c *Customers) Unpark(ctx context.Context, customer string, now time.Time, p job.ParkedResult) error {
	return c.change(ctx, customer, func(r job.CustomerRecord) job.CustomerRecord { return r.Remove(p, now) })
}

func (c *Customers) change(
	ctx context.Context, customer string, rule func(job.CustomerRecord) job.CustomerRecord,
) error {
	absent := &job.CustomerRecord{Customer: customer}
	_, err := change(ctx, c.store, customer, nil, absent, func(r job.CustomerRecord) (job.CustomerRecord, error) {
		return rule(r), nil
	})
	if err != nil {
		return fmt.Errorf("change customer %s: %w", customer, err)
	}
	return nil
}
