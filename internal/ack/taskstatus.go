package ack

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
)

const (
	// TaskStatus is the name of the tool that reports how far the other tools of its call are.
	TaskStatus = "task_status"

	// noStatus is the answer if the jobs cannot be listed.
	noStatus = "I can't check on the tools right now. Their results will still arrive. Ask again in a moment."

	// statusTimeout bounds the answer, since the caller waits for it.
	statusTimeout = 2 * time.Second

	// maxJobs is how many jobs are reported: active jobs before finished ones, newest first.
	maxJobs = 10
	// maxProgress bounds a quoted progress line, in characters.
	maxProgress = 300
)

// Jobs is what the tools need that are answered at once.
type Jobs interface {
	// OfCall lists the jobs of a call.
	OfCall(ctx context.Context, callID string) ([]job.Summary, error)
	// Load returns the record of a job.
	Load(ctx context.Context, id string) (job.Record, error)
	// Change applies a rule to the record of a job. If the rule fails, it returns the record that the
	// rule failed for.
	Change(ctx context.Context, id string, rule job.Rule) (job.Record, error)
}

// taskStatus returns the status of a call's tools, and their results if the call needs them.
func (h *Handler) taskStatus(ctx context.Context, call job.Call, within time.Duration) string {
	callID := call.ID
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	jobs, err := h.cfg.Jobs.OfCall(bounded, callID)
	if err != nil {
		h.cfg.Log.LogAttrs(ctx, slog.LevelError, "cannot list the call's jobs for task_status",
			job.LogCall(callID), slog.Any("error", err))
		return noStatus
	}
	h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "task_status answered", job.LogCall(callID))
	text := statusText(jobs, h.cfg.Now(), h.cfg.Marker)
	if results := h.resultsText(bounded, call, jobs); results != "" {
		text += " " + results
	}
	return text
}

// statusText describes a call's jobs for a model, in one line of plain English of at most some 6000
// characters. Progress lines stand between markers, as an external system may have written them.
func statusText(summaries []job.Summary, now time.Time, marker spoken.Marker) string {
	jobs := otherJobs(summaries)
	slices.SortStableFunc(jobs, func(a, b job.Summary) int {
		if a.State.Active() != b.State.Active() {
			if a.State.Active() {
				return -1
			}
			return 1
		}
		return b.Created.Compare(a.Created)
	})
	active := 0
	for active < len(jobs) && jobs[active].State.Active() {
		active++
	}
	var lines []string
	switch {
	case active > 0:
	case len(jobs) == 0:
		lines = append(lines, "No tool is running in this call.")
	default:
		lines = append(lines, "No tool is running in this call any more.")
	}
	lines = append(lines, describe(jobs[:min(len(jobs), maxJobs)], jobs, now, marker)...)
	if n := len(jobs) - maxJobs; n > 0 {
		lines = append(lines, fmt.Sprintf("There are %d more, and %d of them are still running.", n, max(0, active-maxJobs)))
	}
	return strings.Join(lines, " ")
}

// otherJobs returns the jobs of the tools that are not answered at once. If the functions were not
// deployed at the same time, the others may have jobs themselves.
func otherJobs(summaries []job.Summary) []job.Summary {
	return slices.DeleteFunc(slices.Clone(summaries), func(s job.Summary) bool {
		return s.Tool == TaskStatus || s.Tool == CancelTask
	})
}

// describe describes some of a call's jobs, in one or two sentences each. The sentence that explains
// the markers is first, if they are needed.
func describe(jobs, all []job.Summary, now time.Time, marker spoken.Marker) []string {
	described := slices.Clone(jobs)
	var quoted, lines []string
	updates := false
	for i, s := range described {
		described[i].Tool, described[i].Progress = spoken.Name(s.Tool), ""
		if s.State.Active() {
			described[i].Tool, described[i].Progress = named(s, all), spoken.Line(s.Progress, maxProgress)
		}
		updates = updates || described[i].Progress != ""
		quoted = append(quoted, described[i].Tool, described[i].Progress)
	}
	word := marker.Word(quoted...)
	if updates {
		lines = append(lines, word.Sentence())
	}
	for _, s := range described {
		lines = append(lines, line(s, now, word))
	}
	return lines
}

// named returns the name of a job's tool, with the job's number if another unfinished job of the call
// has the same tool.
func named(s job.Summary, all []job.Summary) string {
	name := spoken.Name(s.Tool)
	if slices.ContainsFunc(all, func(other job.Summary) bool {
		return other.ID != s.ID && other.Tool == s.Tool && other.State.Active()
	}) {
		name += " (number " + number(s.ID, all) + ")"
	}
	return name
}

// line describes a job, whose texts are one line each, in one or two sentences.
func line(s job.Summary, now time.Time, word spoken.Word) string {
	text := s.Tool + ", started " + span(now.Sub(s.Created)) + " ago, "
	switch s.State {
	case job.StateRunning:
		text += "is still running."
	case job.StateWaiting:
		// A job that waits for an external system wakes up then, too.
		text += "is waiting"
		if rest := s.WakeAt.Sub(now); rest > 0 {
			text += ", for at most " + span(rest)
		}
		text += "."
	case job.StateDone:
		return text + "is finished, and its result is being delivered now."
	case job.StateParked:
		return text + "is finished, and its result will be delivered in the caller's next call."
	case job.StateDelivered:
		return text + "is finished, and its result was delivered " + span(now.Sub(s.Updated)) + " ago."
	case job.StateUndelivered:
		return text + "is finished, but its result couldn't be delivered."
	case job.StateCancelled:
		return text + "was cancelled, or replaced by a later request."
	default: // of a newer version
		return text + "is in an unknown state."
	}
	if s.Progress != "" {
		text += " Latest update: " + word.Quote(s.Progress) + "."
	}
	return text
}

// span returns a duration as people say it, in its largest unit.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		unit time.Duration
		name string
		from time.Duration
	}{
		{day, "day", 2 * day}, {time.Hour, "hour", 2 * time.Hour}, {time.Minute, "minute", 2 * time.Minute},
		{time.Second, "second", 0},
	} {
		if d >= u.from {
			return count(int64(d.Round(u.unit)/u.unit), u.name)
		}
	}
	return count(0, "second") // clocks differ
}

func count(n int64, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
