package job

import (
	"fmt"
	"maps"
	"time"

	"github.com/ringback/ringback/vapi"
)

// CallLimits limits the jobs of one call, as each run costs money.
type CallLimits struct {
	Jobs       int // in the whole call; 0 means no limit
	Concurrent int // at the same time; 0 means no limit
}

// LimitError means that a call must not start another job, or not now.
type LimitError struct {
	Concurrent bool // whether it is the limit on jobs at the same time
	Most       int  // the limit
}

func (e *LimitError) Error() string {
	if e.Concurrent {
		return fmt.Sprintf("the call has reached its limit of %d jobs at the same time", e.Most)
	}
	return fmt.Sprintf("the call has reached its limit of %d jobs", e.Most)
}

// slotMemory is how long an expired slot is kept. It is longer than a job can wait
// for its next attempt, which must not count as another job.
const slotMemory = time.Hour

// CallRecord is the entry of one call in the jobs table. It contains how many jobs
// the call has started and which of them run, its questions, and its end. Like a
// [Record], it must only be saved if the stored record still has its Revision.
type CallRecord struct {
	CallID   string `json:"callId"`
	Revision int64  `json:"-"`       // counts the saves; 0 means never saved
	Started  int    `json:"started"` // how many jobs were admitted
	// Slots are the admitted jobs that are not finished, with the time until which
	// each counts as running. A job that crashed frees its slot at that time, and is
	// still known. The key is the job's id, or the tool call's id if the job has an
	// [EarlierID].
	Slots map[string]time.Time `json:"slots,omitempty"`
	// Questions are the questions that were asked in the call, by their keys.
	Questions map[string]Question `json:"questions,omitempty"`
	Ended     time.Time           `json:"ended,omitzero"` // when the call's end became known; zero means not ended
	// Architecture is the call's, if its webhooks did not show it and its control URL did.
	Architecture vapi.Architecture `json:"architecture,omitempty"`
	// First is when the record was saved first. It never changes, and is what calls are listed by: see
	// [CallRecord.Listed]. It is zero if an earlier version saved it first. Such a call is not listed.
	First time.Time `json:"first,omitzero"`
	// Began is when the call began at Vapi. It is zero if no webhook has shown it.
	Began   time.Time `json:"began,omitzero"`
	Updated time.Time `json:"updated"`

	Unknown Unknown `json:"-"`
}

// Question says which job asks a question within a call. Jobs are named as in the slots of
// [CallRecord].
type Question struct {
	By     string    `json:"by"`               // the job that asked it last
	Before string    `json:"before,omitempty"` // the one that By replaced; empty means none
	At     time.Time `json:"at,omitzero"`      // when By was received
	// Also are further ones that By replaced: those that Before had replaced and not yet ended. Nil
	// means none.
	Also []string `json:"also,omitempty"`

	Unknown Unknown `json:"-"`
}

// Asked returns the job that asks a question, and those that it replaced, by their ids. Each of these
// may still have to be ended. by is empty if there is none.
func (r CallRecord) Asked(key string) (by string, replaced []string) {
	q := r.Questions[key]
	if q.By != "" {
		by = idOfName(r.CallID, q.By)
	}
	if q.Before != "" {
		for _, name := range append([]string{q.Before}, q.Also...) {
			replaced = append(replaced, idOfName(r.CallID, name))
		}
	}
	return by, replaced
}

// Ask records which job asks a question from now on, and which ones it replaces, by their ids. It can
// be repeated.
func (r CallRecord) Ask(key, by string, replaced []string, at, now time.Time) CallRecord {
	questions := maps.Clone(r.Questions)
	if questions == nil {
		questions = make(map[string]Question)
	}
	q := Question{By: nameInCall(r.CallID, by), At: at}
	for i, id := range replaced {
		if name := nameInCall(r.CallID, id); i == 0 {
			q.Before = name
		} else {
			q.Also = append(q.Also, name)
		}
	}
	questions[key] = q
	r.Questions, r.Updated = questions, now
	return r
}

// maxCall is longer than a call can last at Vapi, which is 12 hours.
const maxCall = 24 * time.Hour

// Begin returns the record with the beginning of the call, unless it is known already, or cannot be that of a call
// whose webhook was received at a time.
func (r CallRecord) Begin(began, received time.Time) CallRecord {
	if r.Began.IsZero() && !began.After(received) && received.Sub(began) < maxCall {
		r.Began = began.UTC().Truncate(time.Millisecond)
	}
	return r
}

// End records the end of the call. It fails with [ErrUnchanged] if that is
// recorded already.
func (r CallRecord) End(now time.Time) (CallRecord, error) {
	if !r.Ended.IsZero() {
		return r, ErrUnchanged
	}
	r.Ended, r.Updated = now, now
	return r, nil
}

// Learn records the call's architecture. It fails with [ErrUnchanged] if that is recorded already.
func (r CallRecord) Learn(a vapi.Architecture, now time.Time) (CallRecord, error) {
	if r.Architecture == a {
		return r, ErrUnchanged
	}
	r.Architecture, r.Updated = a, now
	return r, nil
}

// Admit takes a slot for a job, for as long as its lease. The slots of the jobs that it replaces become
// free. It fails with a [*LimitError]. A job that has or had a slot is not counted again and never
// refused: its run has been promised.
func (r CallRecord) Admit(
	jobID string, replaced []string, now time.Time, lease time.Duration, limits CallLimits,
) (CallRecord, error) {
	name, next := nameInCall(r.CallID, jobID), r.pruned(now)
	for _, other := range replaced {
		delete(next.Slots, nameInCall(r.CallID, other))
	}
	if _, known := r.Slots[name]; !known {
		running := 0
		for _, until := range next.Slots {
			if now.Before(until) {
				running++
			}
		}
		switch {
		case limits.Jobs > 0 && r.Started >= limits.Jobs:
			return r, &LimitError{Most: limits.Jobs}
		case limits.Concurrent > 0 && running >= limits.Concurrent:
			return r, &LimitError{Concurrent: true, Most: limits.Concurrent}
		}
		next.Started++
	}
	next.Slots[name] = now.Add(lease)
	return next, nil
}

// Extend keeps the slot of a job for another lease. It fails with [ErrUnchanged] if the
// job has none.
func (r CallRecord) Extend(jobID string, now time.Time, lease time.Duration) (CallRecord, error) {
	name := nameInCall(r.CallID, jobID)
	if _, known := r.Slots[name]; !known {
		return r, ErrUnchanged
	}
	r = r.pruned(now)
	r.Slots[name] = now.Add(lease)
	return r, nil
}

// Leave frees the slot of a finished job. It fails with [ErrUnchanged] if the
// job has none.
func (r CallRecord) Leave(jobID string, now time.Time) (CallRecord, error) {
	name := nameInCall(r.CallID, jobID)
	if _, known := r.Slots[name]; !known {
		return r, ErrUnchanged
	}
	r = r.pruned(now)
	delete(r.Slots, name)
	return r, nil
}

// pruned returns the record with a copy of its slots, without those that expired long
// ago, updated now.
func (r CallRecord) pruned(now time.Time) CallRecord {
	slots := maps.Clone(r.Slots)
	if slots == nil {
		slots = make(map[string]time.Time)
	}
	maps.DeleteFunc(slots, func(_ string, until time.Time) bool { return now.Sub(until) > slotMemory })
	r.Slots, r.Updated = slots, now
	return r
}

// Key identifies the record among those of its kind.
func (r CallRecord) Key() string { return r.CallID }

// SavedRevision returns r.Revision.
func (r CallRecord) SavedRevision() int64 { return r.Revision }

// UpdatedAt returns r.Updated.
func (r CallRecord) UpdatedAt() time.Time { return r.Updated }

// WithRevision returns the record with another revision.
func (r CallRecord) WithRevision(revision int64) CallRecord {
	r.Revision = revision
	return r
}

// Expires returns when the record may be deleted.
func (r CallRecord) Expires() time.Time { return r.Updated.Add(Retention) }
