// Package jobtable keeps the records of jobs, of calls and of customers. It applies
// the rules of package job to a store, so that the rules are in one place for all
// stores: see [Stores].
package jobtable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ringback/ringback/internal/job"
)

var (
	// ErrNotFound means that there is no record with the key.
	ErrNotFound = errors.New("record not found")
	// ErrChanged means that others have changed the record since it was loaded.
	ErrChanged = errors.New("record changed since it was loaded")
)

// Record is the constraint that all kinds of records satisfy. R is the kind itself.
type Record[R any] interface {
	Key() string          // unique among the records of its kind
	SavedRevision() int64 // how often it was saved; 0 means never
	WithRevision(revision int64) R
	UpdatedAt() time.Time // when it was changed last
	Expires() time.Time   // when it may be deleted
}

// Store keeps the records of one kind.
type Store[R Record[R]] interface {
	// Load returns a record as it was last saved. It fails with [ErrNotFound], and
	// with [job.ErrUnreadable] if a newer version saved it.
	Load(ctx context.Context, key string) (R, error)

	// Save stores a record under the next revision and returns it with that
	// revision. It fails with [ErrChanged] unless the stored record still has
	// r's revision; revision 0 means that no record must be stored yet.
	Save(ctx context.Context, r R) (R, error)
	// Delete deletes a record that was loaded. It fails with [ErrChanged] unless the stored record
	// still has r's revision. The functions neither need it nor have the permission.
	Delete(ctx context.Context, r R) error
}

// JobStore keeps the records of jobs.
type JobStore interface {
	Store[job.Record]

	// OfCall returns summaries of a call's jobs, oldest first: the newest
	// [MaxOfCall] if there are more. It may miss what was saved a moment ago.
	OfCall(ctx context.Context, callID string) ([]job.Summary, error)

	// Renewals keeps the renewed leases of jobs.
	Renewals() Store[job.Renewal]

	// Overdue returns one page of the jobs that are overdue, in no order, and where the next
	// page begins: see [job.Summary.Overdue]. The first page begins at "", and the last one
	// has no next. A page can be empty. It may miss what was saved a moment ago.
	Overdue(ctx context.Context, now time.Time, from string) (jobs []job.Summary, next string, err error)
}

// Stores keeps all kinds of records.
type Stores interface {
	JobStore
	Calls() Store[job.CallRecord]
	Customers() Store[job.CustomerRecord]
	Replays() Store[job.ReplayCopy]

	// RecentCalls returns one page of at most most calls, newest first, and where the next page begins: see
	// [job.ListedCall]. The first page begins at "", and the last one has no next. now is the time at which the
	// newest calls begin. It may miss what was saved a moment ago. The functions neither need it nor have the
	// permission.
	RecentCalls(ctx context.Context, now time.Time, from string, most int) (calls []job.ListedCall, next string, err error)
}

// MaxRecentCalls is the maximum number of calls in a page of [Stores.RecentCalls].
const MaxRecentCalls = 1000

// MaxOfCall is the maximum number of jobs that [JobStore.OfCall] returns.
const MaxOfCall = 100

// Table is the jobs table.
type Table struct{ store JobStore }

// New returns the table of a store.
func New(store JobStore) *Table { return &Table{store: store} }

// Claim stores the first record of a job: see [job.NewRecord]. If the job has a record,
// Claim claims it again: see [Table.ClaimAgain]. The first claim is one conditional write.
func (t *Table) Claim(ctx context.Context, first job.Record) (job.Record, error) {
	r, err := t.store.Save(ctx, first)
	if err == nil || !errors.Is(err, ErrChanged) {
		return r, wrap("claim", first.ID, err)
	}
	return t.ClaimAgain(ctx, first)
}

// ClaimAgain claims a job that has a record, on behalf of the owner of first, and for the
// same lease: see [job.Claim]. It also fails with a [*job.BusyError] while the lease is
// renewed: see [job.Renewal].
func (t *Table) ClaimAgain(ctx context.Context, first job.Record) (job.Record, error) {
	now := first.Created
	rule := job.Claim(now, first.Owner, first.LeaseExpiry.Sub(now))
	return t.Change(ctx, first.ID, job.Rule{Name: rule.Name, Apply: func(r job.Record) (job.Record, error) {
		next, err := rule.Apply(r)
		if err != nil {
			return r, err
		}
		switch until, err := t.LeaseExpiry(ctx, r); {
		case err != nil:
			return r, err
		case r.State == job.StateRunning && now.Before(until):
			return r, &job.BusyError{Until: until}
		}
		next.Renewable = first.Renewable
		return next, nil
	}})
}

// Unclaim undoes the claim of first, which failed in an unknown way: see [job.Unclaim]. It
// returns nil if that claim has no effect, now or later.
func (t *Table) Unclaim(
	ctx context.Context, first job.Record, now time.Time, delay time.Duration, reason string,
) error {
	rule := job.Unclaim(now, first, delay, reason)
	_, err := change(ctx, t.store, first.ID, nil, &first, rule.Apply)
	return wrap(rule.Name, first.ID, err)
}

// Renew renews the lease of a job that the caller has claimed, and returns when it is over.
// It fails with [job.ErrLeaseLost]. The caller must only rely on it if it returned well
// before the end of the lease before: see [job.Renewal].
func (t *Table) Renew(ctx context.Context, claimed job.Record, now time.Time, lease time.Duration) (time.Time, error) {
	absent := &job.Renewal{JobID: claimed.ID}
	l, err := change(ctx, t.store.Renewals(), claimed.ID, nil, absent, func(l job.Renewal) (job.Renewal, error) {
		return l.Renew(claimed, now, lease)
	})
	return l.Expiry, wrap("renew the lease of", claimed.ID, err)
}

// LeaseExpiry returns when the lease in a record is over, with its renewal. It reads only
// the renewal of a running job, and only if the record says that there may be one.
func (t *Table) LeaseExpiry(ctx context.Context, r job.Record) (time.Time, error) {
	if r.State != job.StateRunning || !r.Renewable {
		return r.LeaseExpiry, nil
	}
	l, err := t.store.Renewals().Load(ctx, r.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		return r.LeaseExpiry, nil
	case err != nil:
		return time.Time{}, wrap("load the lease of", r.ID, err)
	case l.Renews(r) && l.Expiry.After(r.LeaseExpiry):
		return l.Expiry, nil
	}
	return r.LeaseExpiry, nil
}

// Load returns a job's record. It fails with [ErrNotFound].
func (t *Table) Load(ctx context.Context, id string) (job.Record, error) {
	r, err := t.store.Load(ctx, id)
	return r, wrap("load", id, err)
}

// Find returns a job's record, and false if there is none.
func (t *Table) Find(ctx context.Context, id string) (job.Record, bool, error) {
	r, err := t.Load(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return r, false, nil
	}
	return r, err == nil, err
}

// OfCall returns summaries of a call's jobs: see [JobStore].
func (t *Table) OfCall(ctx context.Context, callID string) ([]job.Summary, error) {
	return t.store.OfCall(ctx, callID)
}

// Overdue returns one page of the jobs that are overdue: see [JobStore].
func (t *Table) Overdue(ctx context.Context, now time.Time, from string) ([]job.Summary, string, error) {
	return t.store.Overdue(ctx, now, from)
}

// Change applies a rule to a job's record and returns the changed record. It
// fails with [ErrNotFound], with the rule's errors and the store's. If the rule
// fails, Change returns the record that it failed for.
func (t *Table) Change(ctx context.Context, id string, rule job.Rule) (job.Record, error) {
	return t.change(ctx, id, nil, rule)
}

// ChangeKnown is [Table.Change] for a record that the caller knows as it was saved. It only reads the record if others
// have changed it since, or if the rule fails for what the caller knows.
func (t *Table) ChangeKnown(ctx context.Context, known job.Record, rule job.Rule) (job.Record, error) {
	if _, err := rule.Apply(known); err != nil {
		return t.Change(ctx, known.ID, rule)
	}
	return t.change(ctx, known.ID, &known, rule)
}

// ChangeClaimed applies a rule to a record that the caller has claimed. It only reads
// the record if others have changed it since.
//
// While the job is running, others may change its progress, and record which of its
// lines were delivered. ChangeClaimed fails with [job.ErrFinished] if others have
// ended the job, and with [ErrChanged] if the claim was lost in another way. It
// returns the record that it failed for.
//
// In any other state, every change by others makes it fail with [ErrChanged].
func (t *Table) ChangeClaimed(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error) {
	return t.change(ctx, claimed.ID, &claimed, ofClaim(claimed, rule))
}

// ChangeLatest is [Table.ChangeClaimed] for a record that others have probably changed since. It reads the record
// first: a write that is lost costs more than the read, and two reads follow it.
func (t *Table) ChangeLatest(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error) {
	return t.change(ctx, claimed.ID, nil, ofClaim(claimed, rule))
}

// ofClaim is a rule that only applies to what claimed became without a loss of the claim.
func ofClaim(claimed job.Record, rule job.Rule) job.Rule {
	return job.Rule{Name: rule.Name, Apply: func(r job.Record) (job.Record, error) {
		switch {
		case r.Revision == claimed.Revision || r.OwnedAs(claimed):
			return rule.Apply(r)
		case claimed.State == job.StateRunning && !r.State.Active():
			return r, job.ErrFinished
		}
		return r, ErrChanged
	}}
}

// Settle applies [job.Settle] to a record whose delivery the caller has claimed. It
// does so even if others have claimed the delivery since, as what happened counts. Only
// parking needs the claim, since the result may have been unparked for a next call
// already: without it, Settle fails with [ErrChanged].
//
// If the record has no stored job, Settle stores that of claimed: what an undelivered event
// needs if a parked result is never delivered.
//
// Settle can be repeated. It fails with [job.ErrSettled] if the result was settled in
// another way.
func (t *Table) Settle(ctx context.Context, claimed job.Record, now time.Time, state job.State, reason string) error {
	rule := job.Settle(now, state, reason)
	_, err := t.change(ctx, claimed.ID, &claimed, job.Rule{Name: rule.Name, Apply: func(r job.Record) (job.Record, error) {
		switch {
		case r.Revision == claimed.Revision:
		case r.State == state:
			return r, job.ErrUnchanged
		case state == job.StateParked && r.State == job.StateDone && !r.LeaseExpiry.Equal(claimed.LeaseExpiry):
			return r, ErrChanged
		}
		if r.StoredJob == nil {
			r.StoredJob = claimed.StoredJob
		}
		return rule.Apply(r)
	}})
	return err
}

func (t *Table) change(ctx context.Context, id string, known *job.Record, rule job.Rule) (job.Record, error) {
	r, err := change(ctx, t.store, id, known, nil, func(r job.Record) (job.Record, error) {
		next, err := rule.Apply(r)
		if err != nil {
			return r, err
		}
		return next.Forget(), nil
	})
	return r, wrap(rule.Name, id, err)
}

func wrap(what, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s job %s: %w", what, job.ShownID(id), err)
}

// maxTries is how often a change is tried. Each failed try means that a change by
// others succeeded, so this many are rarely needed.
const maxTries = 50

// change loads a record, applies a rule and saves the result. If others change the
// record in between, it starts again, and the rule sees what they saved. If the rule
// or the save fails, change returns the record that the rule was applied to. If the
// rule fails with [job.ErrUnchanged], change saves nothing and succeeds.
//
// Unless known is nil, the first try starts from known and loads nothing. If there is
// no record, change starts from absent, or fails with [ErrNotFound] if absent is nil.
func change[R Record[R]](
	ctx context.Context, store Store[R], key string, known, absent *R, rule func(R) (R, error),
) (R, error) {
	for try := 1; ; try++ {
		var r R
		var err error
		if try == 1 && known != nil {
			r = *known
		} else if r, err = store.Load(ctx, key); errors.Is(err, ErrNotFound) && absent != nil {
			r, err = *absent, nil
		}
		if err != nil {
			return r, err
		}
		next, err := rule(r)
		if errors.Is(err, job.ErrUnchanged) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		saved, err := store.Save(ctx, next)
		if err == nil {
			return saved, nil
		}
		if !errors.Is(err, ErrChanged) || try == maxTries {
			return r, err
		}
		if try == 1 && known != nil {
			continue
		}
		// The jobs of one webhook change their call's record at the same
		// time. After different pauses, all of them succeed sooner.
		select {
		case <-ctx.Done():
			return r, err
		case <-time.After(rand.N(time.Duration(min(try, 10)) * 5 * time.Millisecond)):
		}
	}
}
