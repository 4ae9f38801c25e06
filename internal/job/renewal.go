package job

import (
	"cmp"
	"errors"
	"time"
)

// ErrLeaseLost means that a lease is over, or that a later attempt has the job. It cannot be renewed.
var ErrLeaseLost = errors.New("the lease is lost")

// AttemptID identifies an attempt of a job.
type AttemptID struct {
	WakeUp  int    `json:"wake,omitempty"` // see [Record]
	Attempt int    `json:"attempt"`
	Owner   string `json:"holder"`
}

// compare orders the attempts of a job. Attempts with the same numbers have no order.
func (a AttemptID) compare(b AttemptID) int {
	return cmp.Or(cmp.Compare(a.WakeUp, b.WakeUp), cmp.Compare(a.Attempt, b.Attempt))
}

// Renewal is the entry of a renewed lease in the jobs table. A job has at most one, beside its
// [Record]. A renewal is small: a record can have hundreds of kilobytes, and is not written while a
// tool runs. Like a record, it must only be saved if the stored one still has its Revision.
//
// Only a record that says that its lease is renewable may have a renewal. Once the lease in the
// record is over, a claim reads the renewal, and fails while that is unexpired and of the attempt
// that owns the job. A renewal does not change the record, and a claim does not change the renewal.
// Still, no two attempts own a job at the same time:
//
//   - An owner renews only a lease that is not over, and counts a renewal only if its answer arrived
//     well before the end of the lease before it. The margin is longer than clocks differ. So each
//     renewal that an owner counts took effect before any claimant could think that the lease was
//     over. A claimant reads the record first and then the renewal, both consistently, and therefore
//     finds it.
//   - An owner that cannot renew its lease stops its tool by the same margin before the end. If its
//     last renewal takes effect after all, it only delays the next attempt.
//   - A claim counts the attempt and names its owner, on the condition that the record is the one
//     that it read. What an earlier owner stores then fails. Its renewal does not match any more, and
//     it cannot replace the renewal of a later attempt. A job that was suspended, resumed, redriven
//     or released has other numbers, so that an old renewal never matches again.
//
// A version that knows no renewals claims the job once the lease in the record is over. During a
// deployment, this may start one further attempt.
type Renewal struct {
	JobID    string    `json:"jobId"`
	Revision int64     `json:"-"` // counts the saves; 0 means never saved
	By       AttemptID `json:"by"`
	Expiry   time.Time `json:"lease"`
	Updated  time.Time `json:"updated"`

	Unknown Unknown `json:"-"`
}

// Renew extends the lease of the attempt that claimed the job as claimed. It fails with
// [ErrLeaseLost].
func (l Renewal) Renew(claimed Record, now time.Time, lease time.Duration) (Renewal, error) {
	by, before := claimed.AttemptID(), claimed.LeaseExpiry
	switch order := l.By.compare(by); {
	case l.By == by:
		before = l.Expiry
	case l.Revision > 0 && order >= 0:
		return l, ErrLeaseLost
	}
	if !now.Before(before) {
		return l, ErrLeaseLost
	}
	l.By, l.Expiry, l.Updated = by, now.Add(lease), now
	return l, nil
}

// Renews reports whether the lease that the record names was renewed.
func (l Renewal) Renews(r Record) bool { return r.OwnedBy(l.By) }

// Key identifies the renewal among those of its kind.
func (l Renewal) Key() string { return l.JobID }

// SavedRevision returns l.Revision.
func (l Renewal) SavedRevision() int64 { return l.Revision }

// UpdatedAt returns l.Updated.
func (l Renewal) UpdatedAt() time.Time { return l.Updated }

// WithRevision returns the renewal with another revision.
func (l Renewal) WithRevision(revision int64) Renewal {
	l.Revision = revision
	return l
}

// Expires returns when the renewal may be deleted: a day after its lease. Nothing needs it then.
func (l Renewal) Expires() time.Time { return l.Expiry.Add(24 * time.Hour) }
