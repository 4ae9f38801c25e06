package memtable

import (
	"encoding/json"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// Saved are the records of a store that another process continues.
type Saved struct{ Jobs, Calls, Customers, Renewals, Replays []Item }

// Item is a record as the table has it.
type Item struct {
	Revision int64
	Record   json.RawMessage
}

// Snapshot returns all records.
func (s *Store) Snapshot() (saved Saved, err error) {
	if saved.Jobs, err = save(&s.records); err != nil {
		return saved, err
	}
	if saved.Calls, err = save(&s.calls); err != nil {
		return saved, err
	}
	if saved.Customers, err = save(&s.customers); err != nil {
		return saved, err
	}
	if saved.Renewals, err = save(&s.renewals); err != nil {
		return saved, err
	}
	saved.Replays, err = save(&s.replays)
	return saved, err
}

// Restore adds saved records to an empty store.
func (s *Store) Restore(saved Saved) error {
	if err := restore(&s.records, saved.Jobs); err != nil {
		return err
	}
	if err := restore(&s.calls, saved.Calls); err != nil {
		return err
	}
	if err := restore(&s.customers, saved.Customers); err != nil {
		return err
	}
	if err := restore(&s.renewals, saved.Renewals); err != nil {
		return err
	}
	return restore(&s.replays, saved.Replays)
}

func save[R jobtable.Record[R]](s *records[R]) ([]Item, error) {
	var items []Item
	for _, r := range s.Records() {
		encoded, err := job.EncodeRecord(r)
		if err != nil {
			return nil, err
		}
		items = append(items, Item{r.SavedRevision(), encoded})
	}
	return items, nil
}

func restore[R jobtable.Record[R]](s *records[R], items []Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey == nil {
		s.byKey = make(map[string]R)
	}
	for _, item := range items {
		var r R
		if err := job.DecodeRecord(item.Record, &r); err != nil {
			return err
		}
		s.byKey[r.Key()] = r.WithRevision(item.Revision)
	}
	return nil
}
