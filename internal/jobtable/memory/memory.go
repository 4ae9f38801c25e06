// Package memory keeps job records in memory, for local runs and tests.
package memory

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// Store keeps records until they expire, as a DynamoDB table with a time to
// live does. The zero value is ready.
type Store struct {
	mu      sync.Mutex
	records map[string]job.Record
	calls   map[string]job.CallRecord
	saves   int // since the last sweep
}

// Load implements [jobtable.Store].
func (s *Store) Load(ctx context.Context, id string) (job.Record, error) {
	if err := ctx.Err(); err != nil {
		return job.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[id]
	if !ok {
		return job.Record{}, jobtable.ErrNotFound
	}
	return r, nil
}

// Save implements [jobtable.Store].
func (s *Store) Save(ctx context.Context, r job.Record) (job.Record, error) {
	if err := ctx.Err(); err != nil {
		return job.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records[r.ID].Revision != r.Revision {
		return job.Record{}, jobtable.ErrChanged
	}
	if s.records == nil {
		s.records = make(map[string]job.Record)
	}
	r.Revision++
	s.records[r.ID] = r
	s.sweep(r.Updated)
	return r, nil
}

// LoadCall implements [jobtable.CallStore].
func (s *Store) LoadCall(ctx context.Context, callID string) (job.CallRecord, error) {
	if err := ctx.Err(); err != nil {
		return job.CallRecord{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.calls[callID]
	if !ok {
		return job.CallRecord{}, jobtable.ErrNotFound
	}
	return r, nil
}

// SaveCall implements [jobtable.CallStore].
func (s *Store) SaveCall(ctx context.Context, r job.CallRecord) (job.CallRecord, error) {
	if err := ctx.Err(); err != nil {
		return job.CallRecord{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[r.CallID].Revision != r.Revision {
		return job.CallRecord{}, jobtable.ErrChanged
	}
	if s.calls == nil {
		s.calls = make(map[string]job.CallRecord)
	}
	r.Revision++
	s.calls[r.CallID] = r
	s.sweep(r.Updated)
	return r, nil
}

// Records are the job records that it keeps, in no order.
func (s *Store) Records() []job.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.records))
}

// sweep forgets what has expired. It looks at all records, so not every time.
func (s *Store) sweep(now time.Time) {
	if s.saves++; 2*s.saves <= len(s.records)+len(s.calls)+100 {
		return
	}
	s.saves = 0
	maps.DeleteFunc(s.records, func(_ string, r job.Record) bool { return r.Expires().Before(now) })
	maps.DeleteFunc(s.calls, func(_ string, r job.CallRecord) bool { return r.Expires().Before(now) })
}
