package faults_test

import (
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// TestWakeUps makes the wake-ups of suspended jobs come late, twice and never. The daily sweep is all
// that is left for a job whose wake-up is lost.
func TestWakeUps(t *testing.T) {
	lost := make(map[string]bool) // one wake-up of each job
	for name, row := range map[string]struct {
		wakeUps func(u job.WakeUp, scheduled bool) []time.Duration
		ends    bool // as it would without faults
	}{
		"late":  {wakeUps: func(job.WakeUp, bool) []time.Duration { return []time.Duration{3 * time.Hour} }},
		"twice": {wakeUps: func(job.WakeUp, bool) []time.Duration { return []time.Duration{0, 0} }, ends: true},
		"again, a day later": {
			wakeUps: func(_ job.WakeUp, scheduled bool) []time.Duration {
				if scheduled {
					return []time.Duration{0, 23 * time.Hour}
				}
				return nil
			}, ends: true,
		},
		"never": {wakeUps: func(u job.WakeUp, _ bool) []time.Duration {
			if !lost[u.JobID] {
				lost[u.JobID] = true
				return []time.Duration{}
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := run(t, setting{scenario: longWork, store: inMemory, wakeUps: row.wakeUps, after: func(*world) {
				time.Sleep(60 * time.Hour)
			}})
			violations := w.violations()
			if row.ends {
				violations = append(violations, w.unexpected()...)
			}
			for _, v := range violations {
				t.Error(v)
			}
			if name == "never" && len(lost) == 0 {
				t.Error("no wake-up was lost")
			}
		})
	}
}
