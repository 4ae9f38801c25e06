package job

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// ListedCall is a call in the list of all calls.
type ListedCall struct {
	CallID string
	First  time.Time // when the call became known: see [CallRecord.First]
}

// Listed returns the call as it is listed, and false if it is not.
func (r CallRecord) Listed() (ListedCall, bool) {
	return ListedCall{CallID: r.CallID, First: r.First.UTC().Truncate(time.Millisecond)}, !r.First.IsZero()
}

// Key returns the place of the call in the list, as a text: a later call has a greater one. It does not contain the
// call's id.
func (c ListedCall) Key() string {
	return c.First.UTC().Format("2006-01-02T15:04:05.000Z") + "/" + CallHash(c.CallID)
}

// CallShards is the number of shards of the list of calls.
const CallShards = 8

// CallShard returns the shard of the calls that become known in the hour of a time, by UTC. The hours take turns. So
// the newest calls are in the shards of two hours, and all calls are in eight.
func CallShard(at time.Time) int { return int(at.Unix() / 3600 % CallShards) }

// NewestCalls returns the first most of the calls, newest first, and where the next page begins: at the key of the
// last one, or at "" if there are no more.
func NewestCalls(calls []ListedCall, most int) (page []ListedCall, next string) {
	keys := make(map[ListedCall]string, len(calls)) // each is a hash
	for _, c := range calls {
		keys[c] = c.Key()
	}
	slices.SortFunc(calls, func(a, b ListedCall) int {
		return cmp.Or(b.First.Compare(a.First), strings.Compare(keys[b], keys[a]))
	})
	if len(calls) <= most || most < 1 {
		return calls, ""
	}
	return calls[:most], calls[most-1].Key()
}
