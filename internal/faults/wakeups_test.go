package faults_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// TestWakeUps makes the wake-ups of suspended jobs come late, twice and never. The daily sweep is all
// that is left for a job whose wake-up is lost.
func TestWakeUps(t *testing.T) {
	never, lost := loseOne()
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
		"never": {wakeUps: never},
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
			if name == "never" && lost() == 0 {
				t.Error("no wake-up was lost")
			}
		})
	}
}

// loseOne returns what loses the first wake-up of each job, and how many are lost so far.
func loseOne() (wakeUps func(job.WakeUp, bool) []time.Duration, n func() int) {
	var mu sync.Mutex
	lost := make(map[string]bool)
	return func(u job.WakeUp, _ bool) []time.Duration {
			mu.Lock()
			defer mu.Unlock()
			if lost[u.JobID] {
				return nil
			}
			lost[u.JobID] = true
			return []time.Duration{}
		}, func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(lost)
		}
}
