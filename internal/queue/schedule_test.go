package queue_test

import (
	"math"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/queue"
)

func FuzzScheduleName(f *testing.F) {
	for _, id := range []string{"", "job", "1 job", "job 1", "ä\x00/?", strings.Repeat("x", 1000)} {
		f.Add(id, 1, "job", 11)
	}
	f.Add("1 job", 1, "job", 1)
	f.Add("job", math.MinInt, "job", math.MaxInt)
	f.Fuzz(func(t *testing.T, id string, wakeUp int, otherID string, otherWakeUp int) {
		name := queue.ScheduleName(id, wakeUp)
		if err := queue.CheckScheduleName(name); err != nil {
			t.Error(err)
		}
		if queue.ScheduleName(id, wakeUp) != name {
			t.Error("the name differs from call to call")
		}
		same := id == otherID && wakeUp == otherWakeUp
		if (queue.ScheduleName(otherID, otherWakeUp) == name) != same {
			t.Errorf("wake-up %d of %q and %d of %q have the same name: %t", wakeUp, id, otherWakeUp, otherID, !same)
		}
	})
}

// TestScheduleNameStays tests that a new version can cancel the schedules of an earlier
// one, because their names stay the same.
func TestScheduleNameStays(t *testing.T) {
	const want = "8c821b21af2f7cd72f1b26ea642e8030c0916bd14e3be5b38a3ae2f2c684cc2e"
	if got := queue.ScheduleName("019a2c41-job", 12); got != want {
		t.Errorf("name %s, want %s", got, want)
	}
}

func TestCheckScheduleName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a":                     true,
		"A-b_c.9":               true,
		".":                     true,
		strings.Repeat("x", 64): true,
		strings.Repeat("x", 65): false,
		"":                      false,
		"a/b":                   false,
		"a b":                   false,
		"a\n":                   false,
		"ä":                     false,
		"a%2fb":                 false,
		"a?groupName=b":         false,
	} {
		if err := queue.CheckScheduleName(name); (err == nil) != ok {
			t.Errorf("%q: error %v, want an error: %t", name, err, !ok)
		}
	}
}
