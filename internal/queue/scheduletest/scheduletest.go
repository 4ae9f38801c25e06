// Package scheduletest is the contract of the schedulers that handlers use. Every
// scheduler passes it.
package scheduletest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/queue"
)

// Scheduler is the part of a scheduler that handlers use.
type Scheduler interface {
	At(ctx context.Context, name string, at time.Time, body string) error
	Cancel(ctx context.Context, name string) error
}

// Arrival is a message that arrived on the queue.
type Arrival struct {
	Body string
	At   time.Time
}

// Subject is a scheduler under test, and the queue that it sends to.
type Subject struct {
	Scheduler Scheduler
	// Now returns the time of the scheduler's clock.
	Now func() time.Time
	// Pass lets d pass and returns the messages that arrived meanwhile, in order.
	Pass func(d time.Duration) []Arrival
}

// With calls test with a new scheduler that has no schedules.
type With func(t *testing.T, test func(t *testing.T, s Subject))

// precision is how long after its time a message may arrive.
const precision = time.Minute

// Run tests the schedulers that with passes to its tests.
func Run(t *testing.T, with With) {
	t.Run("arrives at its time", func(t *testing.T) { testAt(t, with) })
	t.Run("time has passed", func(t *testing.T) { testPassed(t, with) })
	t.Run("refuses", func(t *testing.T) { testRefuses(t, with) })

	for name, row := range map[string]struct {
		do   func(t *testing.T, s Subject, at time.Time)
		want []string
	}{
		"several": {
			do: func(t *testing.T, s Subject, at time.Time) {
				schedule(t, s, "c", at.Add(2*time.Hour), "third")
				schedule(t, s, "a", at, "first")
				schedule(t, s, "b", at.Add(time.Hour), "second")
			},
			want: []string{"first", "second", "third"},
		},
		"the same twice": {
			do: func(t *testing.T, s Subject, at time.Time) {
				schedule(t, s, "a", at, "once")
				schedule(t, s, "a", at, "once")
			},
			want: []string{"once"},
		},
		"the first of a name stays": {
			do: func(t *testing.T, s Subject, at time.Time) {
				schedule(t, s, "a", at, "first")
				schedule(t, s, "a", at.Add(-time.Minute), "second")
				schedule(t, s, "a", at.Add(time.Minute), "third")
			},
			want: []string{"first"},
		},
		"names differ by their letters": {
			do: func(t *testing.T, s Subject, at time.Time) {
				schedule(t, s, "a", at, "small")
				schedule(t, s, "A", at.Add(time.Hour), "large")
			},
			want: []string{"small", "large"},
		},
		"concurrently": {
			do: func(t *testing.T, s Subject, at time.Time) {
				var making sync.WaitGroup
				for range 8 {
					making.Go(func() {
						if err := s.Scheduler.At(t.Context(), "a", at, "once"); err != nil {
							t.Error(err)
						}
					})
				}
				making.Wait()
			},
			want: []string{"once"},
		},
		"cancelled": {
			do: func(t *testing.T, s Subject, at time.Time) {
				schedule(t, s, "a", at, "cancelled")
				schedule(t, s, "b", at, "not cancelled")
				cancel(t, s, "a")
				cancel(t, s, "a") // does not exist any more
			},
			want: []string{"not cancelled"},
		},
		"cancelled before it exists": {
			do: func(t *testing.T, s Subject, at time.Time) {
				cancel(t, s, "a")
				schedule(t, s, "a", at, "scheduled later")
			},
			want: []string{"scheduled later"},
		},
		"cancelled and scheduled again": {
			do: func(t *testing.T, s Subject, at time.Time) {
				schedule(t, s, "a", at, "first")
				cancel(t, s, "a")
				schedule(t, s, "a", at, "second")
			},
			want: []string{"second"},
		},
		"cancelled too late": {
			do: func(t *testing.T, s Subject, at time.Time) {
				schedule(t, s, "a", at, "arrived before")
				arrived(t, s, at.Sub(s.Now())+precision, "arrived before")
				cancel(t, s, "a")
			},
		},
		"a name is free after its message has arrived": {
			do: func(t *testing.T, s Subject, at time.Time) {
				schedule(t, s, "a", at, "first")
				arrived(t, s, at.Sub(s.Now())+precision, "first")
				schedule(t, s, "a", at.Add(time.Hour), "second")
			},
			want: []string{"second"},
		},
		"with an ended context": {
			do: func(t *testing.T, s Subject, at time.Time) {
				schedule(t, s, "b", at, "not cancelled")
				ctx, end := context.WithCancel(t.Context())
				end()
				if err := s.Scheduler.At(ctx, "a", at, "x"); err == nil {
					t.Error("At: no error")
				}
				if err := s.Scheduler.Cancel(ctx, "b"); err == nil {
					t.Error("Cancel: no error")
				}
			},
			want: []string{"not cancelled"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			with(t, func(t *testing.T, s Subject) {
				row.do(t, s, s.Now().Add(3*time.Hour))
				arrived(t, s, 24*time.Hour, row.want...)
			})
		})
	}
}

// testAt tests that a message arrives unchanged, not before its time, and not much later.
func testAt(t *testing.T, with With) {
	bodies := []string{
		`{"version":1,"kind":"wake","jobId":"019a","wake":3}`,
		"Grüße, 日本語, 😀, <&>\n\"quoted\" \\",
		strings.Repeat("x", 200<<10),
	}
	for i, row := range []struct {
		ahead time.Duration
		zone  *time.Location
	}{
		{ahead: 2 * time.Minute},
		{ahead: 15*time.Minute + 1},
		{ahead: 90*time.Minute + 499*time.Millisecond},
		{ahead: 26 * time.Hour, zone: time.FixedZone("east", 14*60*60)},
		{ahead: 26 * time.Hour, zone: time.FixedZone("west", -10*60*60)},
		{ahead: 300 * 24 * time.Hour},
	} {
		t.Run(fmt.Sprint(row.ahead, row.zone), func(t *testing.T) {
			with(t, func(t *testing.T, s Subject) {
				at, body := s.Now().Add(row.ahead), bodies[i%len(bodies)]
				given := at
				if row.zone != nil {
					given = at.In(row.zone)
				}
				schedule(t, s, "a", given, body)
				got := s.Pass(row.ahead + 24*time.Hour)
				if len(got) != 1 {
					t.Fatalf("%d messages arrived, want 1", len(got))
				}
				if diff := cmp.Diff(body, got[0].Body); diff != "" {
					t.Errorf("body (-want +got):\n%s", diff)
				}
				if late := got[0].At.Sub(at); late < 0 || late > precision {
					t.Errorf("it arrived %s after its time, want 0 to %s", late, precision)
				}
			})
		})
	}
}

// testPassed tests that a message arrives soon if its time has passed, or is near.
func testPassed(t *testing.T, with With) {
	for _, ahead := range []time.Duration{
		0, 1, time.Second, 30 * time.Second, time.Minute, -1, -time.Hour, -100 * 365 * 24 * time.Hour,
	} {
		t.Run(ahead.String(), func(t *testing.T) {
			with(t, func(t *testing.T, s Subject) {
				at := s.Now().Add(ahead)
				schedule(t, s, "a", at, "soon")
				got := s.Pass(2*time.Minute + precision)
				if len(got) != 1 {
					t.Fatalf("%d messages arrived, want 1", len(got))
				}
				if got[0].At.Before(at) {
					t.Errorf("it arrived %s before its time", at.Sub(got[0].At))
				}
			})
		})
	}
	with(t, func(t *testing.T, s Subject) {
		schedule(t, s, "zero", time.Time{}, "soon")
		arrived(t, s, 2*time.Minute+precision, "soon")
	})
}

func testRefuses(t *testing.T, with With) {
	long := strings.Repeat("x", 65)
	for name, row := range map[string]struct{ name, body string }{
		"no name":                         {"", "x"},
		"a long name":                     {long, "x"},
		"a name with a slash":             {"a/b", "x"},
		"a name with a space":             {"a b", "x"},
		"no body":                         {"a", ""},
		"a large body":                    {"a", strings.Repeat("x", queue.MaxMessage+1)},
		"a body that is not UTF-8":        {"a", "\xff"},
		"a body with a control character": {"a", "\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			with(t, func(t *testing.T, s Subject) {
				if err := s.Scheduler.At(t.Context(), row.name, s.Now().Add(time.Hour), row.body); err == nil {
					t.Error("no error")
				}
				arrived(t, s, 24*time.Hour)
			})
		})
	}
	for _, name := range []string{"", long, "a/b"} {
		with(t, func(t *testing.T, s Subject) {
			if err := s.Scheduler.Cancel(t.Context(), name); err == nil {
				t.Errorf("cancel %q: no error", name)
			}
		})
	}
}

func schedule(t *testing.T, s Subject, name string, at time.Time, body string) {
	t.Helper()
	if err := s.Scheduler.At(t.Context(), name, at, body); err != nil {
		t.Fatal(err)
	}
}

func cancel(t *testing.T, s Subject, name string) {
	t.Helper()
	if err := s.Scheduler.Cancel(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

// arrived lets d pass and checks the messages that arrived meanwhile.
func arrived(t *testing.T, s Subject, d time.Duration, want ...string) {
	t.Helper()
	var got []string
	for _, a := range s.Pass(d) {
		got = append(got, a.Body)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}
