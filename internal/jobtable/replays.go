package jobtable

import (
	"context"
	"errors"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// Sealer encrypts texts, each for a name.
type Sealer interface {
	Seal(ctx context.Context, name string, plaintext []byte) ([]byte, error)
}

// Opener decrypts what a [Sealer] returned for a name.
type Opener interface {
	Open(ctx context.Context, name string, sealed []byte) ([]byte, error)
}

// Replays stores encrypted copies of jobs, with which an operator can replay them.
type Replays struct {
	store     Store[job.ReplayCopy]
	sealer    Sealer
	retention time.Duration
	customers *Customers
}

// NewReplays returns a store of copies that are kept for a time. It names customers by the keys of customers.
func NewReplays(
	store Store[job.ReplayCopy], sealer Sealer, retention time.Duration, customers *Customers,
) *Replays {
	return &Replays{store: store, sealer: sealer, retention: retention, customers: customers}
}

// Keep stores a copy of a job, unless there is one.
func (r *Replays) Keep(ctx context.Context, j job.Job, now time.Time) error {
	// A copy that could not be found again must not be stored.
	names, err := r.customers.ReplayNames(ctx, j.Call.CustomerPhone())
	if err != nil {
		return err
	}
	body, err := j.Encode()
	if err != nil {
		return err
	}
	c := job.ReplayCopy{JobID: j.ID, Stored: now, Until: now.Add(r.retention)}
	if len(names) > 0 {
		c.Customer = names[0]
	}
	if c.Sealed, err = r.sealer.Seal(ctx, j.ID, []byte(body)); err != nil {
		return err
	}
	_, err = r.store.Save(ctx, c)
	if errors.Is(err, ErrChanged) {
		return nil
	}
	return wrap("store a copy of", j.ID, err)
}

// OpenReplay returns the job of a copy. It returns [ErrNotFound] if there is none, or if it is too old.
func OpenReplay(
	ctx context.Context, store Store[job.ReplayCopy], opener Opener, id string, now time.Time,
) (job.Job, error) {
	c, err := store.Load(ctx, id)
	if err == nil && now.After(c.Until) {
		err = ErrNotFound
	}
	if err != nil {
		return job.Job{}, wrap("load the copy of", id, err)
	}
	body, err := opener.Open(ctx, id, c.Sealed)
	if err != nil {
		return job.Job{}, wrap("decrypt the copy of", id, err)
	}
	return job.Decode(string(body))
}

// ReplayNames returns the names under which copies of a customer's jobs are stored, in any organisation, the current
// one first. It returns none for an empty number.
func (c *Customers) ReplayNames(ctx context.Context, number string) ([]string, error) {
	return c.names(ctx, job.Call{CustomerNumber: number})
}
