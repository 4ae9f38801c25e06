package ack

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
)

const (
	// TaskStatus is the name of the tool that is answered at once: how far the
	// tools of its call are.
	TaskStatus = "task_status"

	// noStatus is the answer where that cannot be told.
	noStatus = "How far the tools are cannot be told right now. Their results will come all the same. Ask again in a moment."

	// statusTimeout bounds the answer, as the caller waits.
	statusTimeout = 2 * time.Second

	// maxJobs is how many jobs are told of, those that go on before those that
	// are finished, and the newest first.
	maxJobs = 10
	// maxName and maxProgress bound what is quoted, in characters.
	maxName     = 64
	maxProgress = 300
)

// Jobs lists the jobs of a call.
type Jobs interface {
	OfCall(ctx context.Context, callID string) ([]job.Summary, error)
}

// taskStatus says how far a call's tools are.
func (h *Handler) taskStatus(ctx context.Context, callID string) string {
	bounded, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	jobs, err := h.cfg.Jobs.OfCall(bounded, callID)
	if err != nil {
		h.cfg.Log.LogAttrs(ctx, slog.LevelError, "the status cannot be told", slog.String("call", callID), slog.Any("error", err))
		return noStatus
	}
	h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "status told", slog.String("call", callID))
	return statusText(jobs, h.cfg.Now())
}

// statusText is one line of plain English, for a model, about a call's jobs. It has
// some 6000 characters at most.
func statusText(summaries []job.Summary, now time.Time) string {
	jobs := slices.Clone(summaries)
	// Where the functions were not deployed at the same time, there may be
	// jobs of this tool itself.
	jobs = slices.DeleteFunc(jobs, func(s job.Summary) bool { return s.Tool == TaskStatus })
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
		lines = append(lines, "No tool of this call is running.")
	default:
		lines = append(lines, "No tool of this call is running any more.")
	}
	for _, s := range jobs[:min(len(jobs), maxJobs)] {
		lines = append(lines, line(s, now))
	}
	if n := len(jobs) - maxJobs; n > 0 {
		lines = append(lines, fmt.Sprintf("There are %d more, %d of which are still going on.", n, max(0, active-maxJobs)))
	}
	return strings.Join(lines, " ")
}

// line is a sentence about a job, or two.
func line(s job.Summary, now time.Time) string {
	text := quotable(s.Tool, maxName) + ", started " + span(now.Sub(s.Created)) + " ago, "
	switch s.State {
	case job.StateRunning:
		text += "is still running."
	case job.StateWaiting:
		// Whether it waits for a time or for somebody, it does not wait
		// longer than this.
		text += "is waiting"
		if rest := s.WakeAt.Sub(now); rest > 0 {
			text += ", for " + span(rest) + " at the most"
		}
		text += "."
	case job.StateDone:
		return text + "is finished, and its result is being told now."
	case job.StateParked:
		return text + "is finished, and its result will be told in the caller's next call."
	case job.StateDelivered:
		return text + "is finished, and its result was told " + span(now.Sub(s.Updated)) + " ago."
	case job.StateUndelivered:
		return text + "is finished, but its result could not be told."
	case job.StateCancelled:
		return text + "was given up, as a later request took its place."
	default: // a newer version's
		return text + "is in a state that is not known here."
	}
	if progress := quotable(s.Progress, maxProgress); progress != "" {
		text += ` Latest update: "` + progress + `".`
	}
	return text
}

// quotable is a text that anybody may have written, on one line, and without
// what could end a quotation.
func quotable(text string, most int) string {
	text = strings.Join(strings.Fields(strings.ReplaceAll(spoken.Clean(text), `"`, "'")), " ")
	if utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most-1]) + "…"
	}
	return text
}

// span is a duration as people say it, in its largest unit.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		unit time.Duration
		name string
		from time.Duration
	}{{day, "day", 2 * day}, {time.Hour, "hour", 2 * time.Hour}, {time.Minute, "minute", 2 * time.Minute}, {time.Second, "second", 0}} {
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
