package jobtable

import (
	"context"
	"errors"
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

// Record is what all kinds of records have in common. R is the kind itself.
type Record[R any] interface {
	Key() string          // unique among the records of its kind
	SavedRevision() int64 // how often it was saved; 0 means never
	WithRevision(revision int64) R
	UpdatedAt() time.Time // when it was changed last
	Expires() time.Time   // when it may be deleted
}

// Store keeps the records of one kind.
type Store[R Record[R]] interface {
	// Load returns a record as it was last saved. It fails with [ErrNotFound].
	Load(ctx context.Context, key string) (R, error)

	// Save stores a record under the next revision and returns it with that
	// revision. It fails with [ErrChanged] unless the stored record still has
	// r's revision; revision 0 means that no record must be stored yet.
	Save(ctx context.Context, r R) (R, error)
}

// JobStore keeps the records of jobs.
type JobStore interface {
	Store[job.Record]

	// OfCall returns summaries of a call's jobs, oldest first: the newest
	// [MaxOfCall] if there are more. It may miss what was saved a moment ago.
	OfCall(ctx context.Context, callID string) ([]job.Summary, error)
}

// Stores keeps all kinds of records.
type Stores interface {
	JobStore
	Calls() Store[job.CallRecord]
	Customers() Store[job.CustomerRecord]
}

// MaxOfCall is the maximum number of jobs that [JobStore.OfCall] returns.
const MaxOfCall = 100

// maxTries is how often a change is tried. Each failed try means that a change by
// others succeeded, so this many are hardly ever needed.
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
