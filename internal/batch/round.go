package batch

import (
	"sync"
	"time"
)

// Round coalesces the last step of messages that are handled concurrently: the values
// that are ready at the same time are handled as one. A nil *Round is valid and
// coalesces nothing.
type Round[T, R any] struct {
	mu      sync.Mutex
	missing map[string]bool // the members that may still contribute
	whole   chan struct{}   // closed when no member is missing
	items   []*item[T, R]
}

type item[T, R any] struct {
	value  T
	taken  bool
	result chan R
}

// Rounds makes a round for each group of two or more members, and returns it by
// member. groups has the group of each member; a member without a group is in no round.
func Rounds[T, R any](groups map[string]string) map[string]*Round[T, R] {
	members := make(map[string][]string)
	for member, group := range groups {
		members[group] = append(members[group], member)
	}
	rounds := make(map[string]*Round[T, R])
	for group, all := range members {
		if group == "" || len(all) < 2 {
			continue
		}
		r := &Round[T, R]{missing: make(map[string]bool), whole: make(chan struct{})}
		for _, member := range all {
			r.missing[member] = true
			rounds[member] = r
		}
	}
	return rounds
}

// Leave removes a member that contributes no value, or already has. It can be repeated.
func (r *Round[T, R]) Leave(member string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone(member)
}

// gone removes a member from the missing ones. r.mu must be locked.
func (r *Round[T, R]) gone(member string) {
	if !r.missing[member] {
		return
	}
	delete(r.missing, member)
	if len(r.missing) == 0 {
		close(r.whole)
	}
}

// Together calls do with the member's value and those that other members contribute
// before wait is over. It is called once for all of them, and each gets its result, or
// otherwise if it panics.
func (r *Round[T, R]) Together(member string, value T, wait time.Duration, do func([]T) R, otherwise R) R {
	if r == nil {
		return do([]T{value})
	}
	mine := &item[T, R]{value: value, result: make(chan R, 1)}
	r.mu.Lock()
	r.items = append(r.items, mine)
	r.gone(member)
	r.mu.Unlock()
	select {
	case <-r.whole:
	case <-time.After(wait):
	}

	r.mu.Lock()
	if mine.taken {
		r.mu.Unlock()
		return <-mine.result
	}
	together := r.items
	r.items = nil
	for _, i := range together {
		i.taken = true
	}
	r.mu.Unlock()

	// Even if do panics, no member may be left waiting.
	result := otherwise
	defer func() {
		for _, i := range together {
			i.result <- result
		}
	}()
	values := make([]T, len(together))
	for i, t := range together {
		values[i] = t.value
	}
	result = do(values)
	return result
}
