// Package memtable keeps records in memory, for local runs and tests.
package memtable

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// Store keeps records until they expire, as a DynamoDB table with a time to
// live does. It implements [jobtable.Stores]. The zero value is ready to use.
type Store struct {
	records[job.Record]
	calls     records[job.CallRecord]
	customers records[job.CustomerRecord]
	renewals  records[job.Renewal]
	replays   records[job.ReplayCopy]
}

// Calls implements [jobtable.Stores].
func (s *Store) Calls() jobtable.Store[job.CallRecord] { return &s.calls }

// Customers implements [jobtable.Stores].
func (s *Store) Customers() jobtable.Store[job.CustomerRecord] { return &s.customers }

// Replays implements [jobtable.Stores].
func (s *Store) Replays() jobtable.Store[job.ReplayCopy] { return &s.replays }

// ReplaysOf returns the copies of the jobs of a customer with one of these names, and how many copies there are. There
// is only one page.
func (s *Store) ReplaysOf(
	ctx context.Context, names []string, _ string,
) (found []job.ReplayCopy, read int, next string, err error) {
	all := s.replays.Records()
	for _, c := range all {
		if c.Customer != "" && slices.Contains(names, c.Customer) {
			found = append(found, c)
		}
	}
	return found, len(all), "", ctx.Err()
}

// Renewals implements [jobtable.JobStore].
func (s *Store) Renewals() jobtable.Store[job.Renewal] { return &s.renewals }

// OfCall implements [jobtable.JobStore].
func (s *Store) OfCall(ctx context.Context, callID string) ([]job.Summary, error) {
	if err := ctx.Err(); err != nil || callID == "" {
		return nil, err
	}
	var summaries []job.Summary
	for r := range s.all() {
		if r.CallID == callID {
			summaries = append(summaries, r.Summary())
		}
	}
	slices.SortFunc(summaries, func(a, b job.Summary) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return summaries[max(0, len(summaries)-jobtable.MaxOfCall):], nil
}

// RecentCalls implements [jobtable.Stores].
func (s *Store) RecentCalls(
	ctx context.Context, _ time.Time, from string, most int,
) (calls []job.ListedCall, next string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	for r := range s.calls.all() {
		if c, ok := r.Listed(); ok && (from == "" || c.Key() < from) {
			calls = append(calls, c)
		}
	}
	calls, next = job.NewestCalls(calls, min(most, jobtable.MaxRecentCalls))
	return calls, next, nil
}

// Changes returns how often the records of jobs and calls were saved.
func (s *Store) Changes() uint64 { return s.changes.Load() + s.calls.changes.Load() }

// page is how many records a page of [Store.Overdue] is found among.
const page = 100

// Overdue implements [jobtable.JobStore].
func (s *Store) Overdue(ctx context.Context, now time.Time, from string) (jobs []job.Summary, next string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	all := s.Records()
	slices.SortFunc(all, func(a, b job.Record) int { return cmp.Compare(a.ID, b.ID) })
	all = slices.DeleteFunc(all, func(r job.Record) bool { return r.ID <= from && from != "" })
	if len(all) > page {
		all = all[:page]
		next = all[page-1].ID
	}
	for _, r := range all {
		if s := r.Summary(); s.Overdue(now) {
			jobs = append(jobs, s)
		}
	}
	return jobs, next, nil
}

// Search returns the records of jobs that contain a text in their JSON, and how many records there are. There
// is only one page.
func (s *Store) Search(ctx context.Context, text, _ string) (found []job.Record, read int, next string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, "", err
	}
	all := s.Records()
	for _, r := range all {
		encoded, err := job.EncodeRecord(r)
		if err != nil {
			return nil, 0, "", err
		}
		if bytes.Contains(encoded, []byte(text)) {
			found = append(found, r)
		}
	}
	return found, len(all), "", nil
}

// records keeps the records of one kind.
type records[R jobtable.Record[R]] struct {
	mu    sync.Mutex
	byKey map[string]R
	saves int // since the last sweep

	changes atomic.Uint64 // counts the saves
}

// Load implements [jobtable.Store].
func (s *records[R]) Load(ctx context.Context, key string) (R, error) {
	var none R
	if err := ctx.Err(); err != nil {
		return none, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.byKey[key]
	if !ok {
		return none, jobtable.ErrNotFound
	}
	return r, nil
}

// Save implements [jobtable.Store].
func (s *records[R]) Save(ctx context.Context, r R) (R, error) {
	var none R
	if err := ctx.Err(); err != nil {
		return none, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[r.Key()].SavedRevision() != r.SavedRevision() {
		return none, jobtable.ErrChanged
	}
	if s.byKey == nil {
		s.byKey = make(map[string]R)
	}
	r = r.WithRevision(r.SavedRevision() + 1)
	s.byKey[r.Key()] = r
	s.changes.Add(1)
	s.sweep(r.UpdatedAt())
	return r, nil
}

// Delete implements [jobtable.Store].
func (s *records[R]) Delete(ctx context.Context, r R) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stored, ok := s.byKey[r.Key()]; !ok || stored.SavedRevision() != r.SavedRevision() {
		return jobtable.ErrChanged
	}
	delete(s.byKey, r.Key())
	return nil
}

// Records returns all records, in no order.
func (s *records[R]) Records() []R { return slices.Collect(s.all()) }

// all iterates over all records, in no order. The store is locked meanwhile.
func (s *records[R]) all() iter.Seq[R] {
	return func(yield func(R) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range s.byKey {
			if !yield(r) {
				return
			}
		}
	}
}

// sweep deletes what has expired. It looks at all records, so it only does so
// after about half as many saves.
func (s *records[R]) sweep(now time.Time) {
	if s.saves++; 2*s.saves <= len(s.byKey)+100 {
		return
	}
	s.saves = 0
	maps.DeleteFunc(s.byKey, func(_ string, r R) bool { return r.Expires().Before(now) })
}
