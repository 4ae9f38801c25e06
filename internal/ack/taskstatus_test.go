package ack_test

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/job"
)

func TestStatusText(t *testing.T) {
	// of makes a job that was started and last changed some time ago.
	of := func(tool string, state job.State, started, updated time.Duration, progress string) job.Summary {
		return job.Summary{ID: "call/" + tool, Tool: tool, State: state, Created: now.Add(-started), Updated: now.Add(-updated), Progress: progress}
	}
	waiting := func(tool string, started, rest time.Duration, progress string) job.Summary {
		s := of(tool, job.StateWaiting, started, started, progress)
		s.WakeAt = now.Add(rest)
		return s
	}
	for name, row := range map[string]struct {
		jobs []job.Summary
		want string
	}{
		"none":    {nil, "No tool of this call is running."},
		"itself":  {[]job.Summary{of("task_status", job.StateRunning, 0, 0, "")}, "No tool of this call is running."},
		"running": {[]job.Summary{of("order_status", job.StateRunning, 90*time.Second, 0, "")}, "order_status, started 90 seconds ago, is still running."},
		"progress": {
			[]job.Summary{of("order_status", job.StateRunning, time.Second, 0, "Asking the \"warehouse\".\n>>>\u202e")},
			"order_status, started 1 second ago, is still running. Latest update: \"Asking the 'warehouse'. ››>\".",
		},
		"waiting": {
			[]job.Summary{waiting("refund", 3*time.Hour, 47*time.Hour, "")},
			"refund, started 3 hours ago, is waiting, for 47 hours at the most.",
		},
		"waiting, with progress": {
			[]job.Summary{waiting("refund", 5*time.Minute, 3*24*time.Hour, "The manager has it.")},
			`refund, started 5 minutes ago, is waiting, for 3 days at the most. Latest update: "The manager has it.".`,
		},
		"due":       {[]job.Summary{waiting("refund", time.Minute, 0, "")}, "refund, started 60 seconds ago, is waiting."},
		"done":      {[]job.Summary{of("a", job.StateDone, time.Minute, 0, "half")}, "No tool of this call is running any more. a, started 60 seconds ago, is finished, and its result is being told now."},
		"told":      {[]job.Summary{of("a", job.StateDelivered, time.Hour, 2*time.Minute, "")}, "No tool of this call is running any more. a, started 60 minutes ago, is finished, and its result was told 2 minutes ago."},
		"not told":  {[]job.Summary{of("a", job.StateUndelivered, time.Hour, 0, "")}, "No tool of this call is running any more. a, started 60 minutes ago, is finished, but its result could not be told."},
		"kept":      {[]job.Summary{of("a", job.StateParked, time.Hour, 0, "")}, "No tool of this call is running any more. a, started 60 minutes ago, is finished, and its result will be told in the caller's next call."},
		"replaced":  {[]job.Summary{of("a", job.StateCancelled, time.Hour, 0, "")}, "No tool of this call is running any more. a, started 60 minutes ago, was given up, as a later request took its place."},
		"unknown":   {[]job.Summary{of("a", "frozen", time.Hour, 0, "")}, "No tool of this call is running any more. a, started 60 minutes ago, is in a state that is not known here."},
		"in future": {[]job.Summary{of("a", job.StateRunning, -time.Minute, 0, "")}, "a, started 0 seconds ago, is still running."},
		"those that go on first, then the newest": {
			[]job.Summary{
				of("told", job.StateDelivered, 40*time.Second, time.Second, ""), of("old", job.StateRunning, 30*time.Second, 0, ""),
				of("newest", job.StateDone, 10*time.Second, 0, ""), of("new", job.StateRunning, 20*time.Second, 0, ""),
			},
			"new, started 20 seconds ago, is still running. old, started 30 seconds ago, is still running. " +
				"newest, started 10 seconds ago, is finished, and its result is being told now. told, started 40 seconds ago, is finished, and its result was told 1 second ago.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ack.StatusText(row.jobs, now); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

func TestStatusOfManyJobs(t *testing.T) {
	jobs := make([]job.Summary, 100)
	for i := range jobs {
		jobs[i] = job.Summary{Tool: "a", State: job.StateRunning, Created: now}
		if i < 88 {
			jobs[i].State = job.StateDelivered
		}
	}
	text := ack.StatusText(jobs, now)
	if strings.Count(text, "still running") != 10 || strings.Contains(text, "was told") || !strings.HasSuffix(text, "There are 90 more, 2 of which are still going on.") {
		t.Error(text)
	}
}

// TestProperties tests texts of jobs whose names and progress lines are what
// anybody may have written.
func TestStatusProperties(t *testing.T) {
	word := rapid.OneOf(
		rapid.SampledFrom([]string{"", "task_status", "a", `"`, "\n", "\u2028", "\x00", "\u202e", "<<<\n>>>", "\xff", "語", strings.Repeat("long ", 500), strings.Repeat("語", 5000)}),
		rapid.String(),
	)
	at := rapid.Custom(func(t *rapid.T) time.Time { return now.Add(time.Duration(rapid.Int64().Draw(t, "nanoseconds"))) })
	summary := rapid.Custom(func(t *rapid.T) job.Summary {
		state := rapid.SampledFrom([]job.State{job.StateRunning, job.StateWaiting, job.StateDone, job.StateParked, job.StateDelivered, job.StateUndelivered, job.StateCancelled, ""})
		return job.Summary{
			Tool: word.Draw(t, "tool"), Progress: word.Draw(t, "progress"), State: state.Draw(t, "state"),
			Created: at.Draw(t, "created"), Updated: at.Draw(t, "updated"), WakeAt: at.Draw(t, "wake"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		jobs := rapid.SliceOfN(summary, 0, 30).Draw(t, "jobs")
		text := ack.StatusText(jobs, now)
		if n := utf8.RuneCountInString(text); n == 0 || n > 6000 || !utf8.ValidString(text) {
			t.Fatalf("%d characters", n)
		}
		if i := strings.IndexFunc(text, func(r rune) bool {
			return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
		}); i >= 0 {
			t.Fatalf("it is not one line of what can be seen: %q", text[i:])
		}
		if strings.Count(text, `"`) != 2*strings.Count(text, ` Latest update: "`) {
			t.Fatalf("a quotation does not end where it should: %s", text)
		}
	})
}
