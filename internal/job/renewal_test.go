package job_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/job"
)

// TestRenew renews the lease of the second attempt after a job's first wake-up, at the start.
func TestRenew(t *testing.T) {
	by := func(wakeUp, attempt int, owner string) job.AttemptID {
		return job.AttemptID{WakeUp: wakeUp, Attempt: attempt, Owner: owner}
	}
	later, past := start.Add(time.Second), start.Add(-time.Hour)
	own := by(1, 2, "owner")
	renewal := func(by job.AttemptID, expiry time.Time) job.Renewal {
		return job.Renewal{JobID: "c/t", Revision: 7, By: by, Expiry: expiry, Updated: past}
	}
	for name, tt := range map[string]struct {
		before job.Renewal
		lease  time.Time // in the record
		fails  bool
	}{
		"the first":                        {job.Renewal{JobID: "c/t"}, later, false},
		"the first, too late":              {job.Renewal{JobID: "c/t"}, start, true},
		"again":                            {renewal(own, later), past, false},
		"again, too late":                  {renewal(own, start), past, true},
		"after an earlier attempt":         {renewal(by(1, 1, "owner"), later), later, false},
		"after an earlier wake-up":         {renewal(by(0, 5, "other"), later), later, false},
		"after an earlier one, too late":   {renewal(by(1, 1, "owner"), later), start, true},
		"a later attempt has the job":      {renewal(by(1, 3, "owner"), past), later, true},
		"it was resumed again":             {renewal(by(2, 1, "owner"), past), later, true},
		"another owner of the same number": {renewal(by(1, 2, "other"), past), later, true},
	} {
		t.Run(name, func(t *testing.T) {
			claimed := job.Record{
				ID: "c/t", State: job.StateRunning, WakeUp: 1, Attempt: 2, Owner: "owner", LeaseExpiry: tt.lease,
			}
			want := tt.before
			if !tt.fails {
				want.By, want.Expiry, want.Updated = own, start.Add(time.Minute), start
			}
			got, err := tt.before.Renew(claimed, start, time.Minute)
			if diff := cmp.Diff(want, got); diff != "" || errors.Is(err, job.ErrLeaseLost) != tt.fails {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if got.Renews(claimed) != (got.By == own) {
				t.Errorf("it renews the lease of the record: %t", got.Renews(claimed))
			}
			if claimed.State = job.StateWaiting; got.Renews(claimed) {
				t.Error("it renews the lease of a job that waits")
			}
		})
	}
}
