package memtable_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/jobtable/jobtabletest"
	"github.com/ringback/ringback/internal/local/memtable"
)

func TestContract(t *testing.T) {
	jobtabletest.Run(t, func(*testing.T) jobtable.Stores { return new(memtable.Store) })
}

// TestExpiry tests that a store does not grow for ever.
func TestExpiry(t *testing.T) {
	var s memtable.Store
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for range 100 {
		for i := range 50 {
			id := fmt.Sprint(now.Unix(), "/", i)
			if _, err := s.Save(t.Context(), job.Record{ID: id, CallID: "call", Updated: now}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Customers().Save(t.Context(), job.CustomerRecord{Customer: id, Updated: now}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Calls().Save(t.Context(), job.CallRecord{CallID: id, Updated: now}); err != nil {
				t.Fatal(err)
			}
			// No record is deleted early.
			if _, err := s.Load(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(job.Retention / 2)
	}
	// Two halves of the retention remain, and as much again until the next sweep.
	if n := len(s.Records()); n < 100 || n > 400 {
		t.Errorf("%d records remain", n)
	}
	// The jobs of a call are the ones that still have a record.
	summaries, err := s.OfCall(t.Context(), "call")
	if err != nil || len(summaries) != jobtable.MaxOfCall {
		t.Errorf("%d jobs of the call, %v", len(summaries), err)
	}
	for _, summary := range summaries {
		if _, err := s.Load(t.Context(), summary.ID); err != nil {
			t.Error(err)
		}
	}
}

func TestRecords(t *testing.T) {
	var s memtable.Store
	if got := s.Records(); len(got) != 0 {
		t.Errorf("an empty store has %v", got)
	}
	for _, id := range []string{"a/1", "a/2"} {
		if _, err := s.Save(t.Context(), job.Record{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	ids := make(map[string]int64)
	for _, r := range s.Records() {
		ids[r.ID] = r.Revision
	}
	if len(ids) != 2 || ids["a/1"] != 1 || ids["a/2"] != 1 {
		t.Errorf("records by id, with their revision: %v", ids)
	}
}
