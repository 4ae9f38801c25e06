// Package memory keeps job records in memory, for local runs and tests.
package memtable

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
	mu        sync.Mutex
	records   map[string]job.Record
	ofCall    map[string][]string // the ids of each call's records, the oldest first
	calls     map[string]job.CallRecord
	customers map[string]job.CustomerRecord
	saves     int // since the last sweep
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
		s.ofCall = make(map[string][]string)
	}
	if r.Revision == 0 {
		s.ofCall[r.CallID] = append(s.ofCall[r.CallID], r.ID)
	}
	r.Revision++
	s.records[r.ID] = r
	s.sweep(r.Updated)
	return r, nil
}

// OfCall implements [jobtable.Store].
func (s *Store) OfCall(ctx context.Context, callID string) ([]job.Summary, error) {
	if err := ctx.Err(); err != nil || callID == "" {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.ofCall[callID]
	ids = ids[max(0, len(ids)-jobtable.MaxOfCall):]
	summaries := make([]job.Summary, 0, len(ids))
	for _, id := range ids {
		summaries = append(summaries, s.records[id].Summary())
	}
	return summaries, nil
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

// LoadCustomer implements [jobtable.CustomerStore].
func (s *Store) LoadCustomer(ctx context.Context, customer string) (job.CustomerRecord, error) {
	if err := ctx.Err(); err != nil {
		return job.CustomerRecord{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.customers[customer]
	if !ok {
		return job.CustomerRecord{}, jobtable.ErrNotFound
	}
	return r, nil
}

// SaveCustomer implements [jobtable.CustomerStore].
func (s *Store) SaveCustomer(ctx context.Context, r job.CustomerRecord) (job.CustomerRecord, error) {
	if err := ctx.Err(); err != nil {
		return job.CustomerRecord{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.customers[r.Customer].Revision != r.Revision {
		return job.CustomerRecord{}, jobtable.ErrChanged
	}
	if s.customers == nil {
		s.customers = make(map[string]job.CustomerRecord)
	}
	r.Revision++
	s.customers[r.Customer] = r
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
	if s.saves++; 2*s.saves <= len(s.records)+len(s.calls)+len(s.customers)+100 {
		return
	}
	s.saves = 0
	for id, r := range s.records {
		if !r.Expires().Before(now) {
			continue
		}
		delete(s.records, id)
		s.ofCall[r.CallID] = slices.DeleteFunc(s.ofCall[r.CallID], func(other string) bool { return other == id })
		if len(s.ofCall[r.CallID]) == 0 {
			delete(s.ofCall, r.CallID)
		}
	}
	maps.DeleteFunc(s.customers, func(_ string, r job.CustomerRecord) bool { return r.Expires().Before(now) })
	maps.DeleteFunc(s.calls, func(_ string, r job.CallRecord) bool { return r.Expires().Before(now) })
}
