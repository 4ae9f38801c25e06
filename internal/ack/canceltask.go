package ack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
)

const (
	// CancelTask is the name of the tool that cancels a job of its call.
	CancelTask = "cancel_task"

	// cancelTimeout bounds the answer, since the caller waits for it. checkTimeout bounds the clean-up
	// that follows.
	cancelTimeout = 3 * time.Second
	checkTimeout  = 2 * time.Second

	// repeatTime is how long a repeat of the tool call gets the answer of the first one. A repeated
	// webhook must not cancel another job.
	repeatTime = 5 * time.Minute

	// cancelledBy is the prefix of the reason in the record of a cancelled job.
	cancelledBy = "cancelled by tool call "

	// minDigits is the length of a job's number. It is longer if two jobs of the call would share it.
	minDigits = 4
)

// The answers are for a model.
const (
	unclearTask = `Nothing was cancelled: the arguments can't be used. Call cancel_task again with nothing but "tool", ` +
		`the name of the tool, and "number", if the task has one.`
	noCancel = "Nothing was cancelled: I can't reach the tools right now. Ask again in a moment."
	// A job has no record until its first claim.
	noTask = "Nothing was cancelled: no such task is running in this call. If it was started a moment ago, it can't be " +
		"cancelled yet: call cancel_task again in a few seconds."
	tooLate   = "Nothing was cancelled: the task has just ended."
	fixedTask = "Nothing was cancelled: this can't be cancelled, and its result will still arrive."
	whichTask = "Nothing was cancelled, because several tasks are running. Find out which one the caller means, and " +
		`call cancel_task again with its "tool", and with its "number" if it has one.`
)

// cancelTask cancels a job of the call, and returns the answer. It says that a job is cancelled only
// if no result of it will be delivered.
func (h *Handler) cancelTask(ctx context.Context, callID string, t vapi.ToolCall) string {
	wanted, err := parseWanted(t)
	if err != nil {
		h.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "cancel_task refused", job.LogCall(callID), slog.Any("error", err))
		return unclearTask
	}
	// Models reuse the ids of tool calls, so the id alone does not recognise a repeat.
	reason := fmt.Sprintf("%s%s (%s)", cancelledBy, cut(t.ID, maxRefusedName), JobID(callID, t, 0))
	c := cancellation{Handler: h, callID: callID, now: h.cfg.Now(), reason: reason}
	bounded, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	r, answer, err := c.choose(bounded, wanted)
	if err != nil {
		h.cfg.Log.LogAttrs(ctx, slog.LevelError, "cannot read the call's jobs for cancel_task",
			job.LogCall(callID), slog.Any("error", err))
		return noCancel
	}
	if answer != "" {
		h.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "cancel_task changed no job", job.LogCall(callID))
		return answer
	}
	return c.withdraw(ctx, bounded, r)
}

// wantedTask is what the arguments of a tool call select. An empty field selects every job.
type wantedTask struct{ tool, number string }

func (w wantedTask) selects(s job.Summary) bool {
	return (w.tool == "" || w.tool == s.Tool) && (w.number == "" || strings.HasPrefix(digits(s.ID), w.number))
}

// parseWanted reads the arguments. To be on the safe side, it accepts nothing that it does not know.
func parseWanted(t vapi.ToolCall) (w wantedTask, err error) {
	if t.Err != nil {
		return w, t.Err
	}
	var arguments struct {
		Tool   string `json:"tool"`
		Number any    `json:"number"`
	}
	d := json.NewDecoder(bytes.NewReader(t.Arguments))
	d.DisallowUnknownFields()
	if d.Decode(&arguments) != nil { // its error may quote an argument
		return w, errors.New("the arguments do not fit the schema")
	}
	w.tool = strings.TrimSpace(arguments.Tool)
	switch n := arguments.Number.(type) {
	case nil:
	case float64:
		w.number = strconv.FormatFloat(n, 'f', -1, 64)
	case string:
		w.number = strings.TrimSpace(n)
	default:
		return w, errors.New("the number is neither a text nor a number")
	}
	if w.number == "" {
		return w, nil
	}
	w.number = strings.Map(func(r rune) rune { // "number 4711"
		if r < '0' || '9' < r {
			return -1
		}
		return r
	}, w.number)
	if len(w.number) < minDigits {
		return w, fmt.Errorf("the number does not have %d digits", minDigits)
	}
	return w, nil
}

// cancellation is one tool call of cancel_task.
type cancellation struct {
	*Handler
	callID string
	now    time.Time
	reason string // in the record of the cancelled job

	jobs []job.Summary // of the call
}

// choose returns the only job that the tool call can mean. If there is none, it returns the answer.
func (c *cancellation) choose(ctx context.Context, wanted wantedTask) (r job.Record, answer string, err error) {
	all, err := c.cfg.Jobs.OfCall(ctx, c.callID)
	if err != nil {
		return r, "", err
	}
	c.jobs = otherJobs(all)
	selected := slices.DeleteFunc(slices.Clone(c.jobs), func(s job.Summary) bool { return !wanted.selects(s) })
	// The list may be older than the records, and does not say what can be cancelled.
	records, err := c.load(ctx, slices.DeleteFunc(slices.Clone(selected), func(s job.Summary) bool {
		recent := s.State == job.StateCancelled && c.now.Sub(s.Updated) < repeatTime
		return !s.State.Active() && !recent
	}))
	if err != nil {
		return r, "", err
	}
	var open, fixed, cancelled, ended []job.Summary
	for _, loaded := range records {
		switch s := loaded.Summary(); {
		case byAssistant(loaded) && loaded.Reason == c.reason:
			return r, c.cancelled(s), nil // the webhook is repeated
		case byAssistant(loaded):
			cancelled = append(cancelled, s)
		case !s.State.Active():
			ended = append(ended, s)
		case loaded.Policy.Cancellable:
			open, r = append(open, s), loaded
		default:
			fixed = append(fixed, s)
		}
	}
	switch {
	case len(open) == 1:
		return r, "", nil
	case len(open) > 1:
		return r, c.list(whichTask, open), nil
	case len(fixed) > 0:
		return r, c.list(fixedTask, fixed), nil
	case len(cancelled) == 1:
		return r, c.cancelled(cancelled[0]), nil
	case len(ended) > 0:
		return r, c.list(noTask, ended), nil
	case len(selected) > 0:
		return r, c.list(noTask, selected), nil
	}
	return r, c.list(noTask, c.jobs), nil
}

// byAssistant reports whether the assistant has cancelled a job.
func byAssistant(r job.Record) bool {
	return r.State == job.StateCancelled && strings.HasPrefix(r.Reason, cancelledBy)
}

// load returns the records of jobs.
func (c *cancellation) load(ctx context.Context, jobs []job.Summary) ([]job.Record, error) {
	records, errs := make([]job.Record, len(jobs)), make([]error, len(jobs))
	var loading sync.WaitGroup
	for i, s := range jobs {
		loading.Go(func() { records[i], errs[i] = c.cfg.Jobs.Load(ctx, s.ID) })
	}
	loading.Wait()
	return records, errors.Join(errs...)
}

// withdraw cancels a job, and queues the clean-up. Bounded is the context of the answer.
func (c *cancellation) withdraw(ctx, bounded context.Context, r job.Record) string {
	log := c.cfg.Log.With(job.LogCall(c.callID), job.LogJob(r.ID), "tool", r.Tool, job.LogTrace(r.Traceparent))
	changed, err := c.cfg.Jobs.Change(bounded, r.ID, job.Withdraw(c.now, c.reason))
	s := changed.Summary()
	switch {
	case errors.Is(err, job.ErrFinished) && byAssistant(changed):
		// Another webhook did it at the same time.
	case errors.Is(err, job.ErrFinished):
		log.LogAttrs(ctx, slog.LevelInfo, "cancel_task came too late", slog.String("state", string(s.State)))
		return c.list(tooLate, []job.Summary{s})
	case err != nil:
		log.LogAttrs(ctx, slog.LevelError, "cannot cancel job; the write may still succeed", slog.Any("error", err))
		return fmt.Sprintf(`I can't tell whether %s was cancelled. Call cancel_task again in a moment, with its "tool" `+
			`and the "number" %s.`, spoken.Name(r.Tool), number(r.ID, c.jobs))
	default:
		log.LogAttrs(ctx, slog.LevelInfo, "job cancelled by its assistant")
		c.sendCheck(ctx, changed)
	}
	return c.cancelled(s)
}

// sendCheck makes the process function delete the job's schedule, if it can have one. Without it, the
// job's wake-up finds the job finished. After its delay, a function that
// has just suspended the job has also made the schedule.
func (c *cancellation) sendCheck(ctx context.Context, r job.Record) {
	if r.WakeUp == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	body, err := job.Check{JobID: r.ID}.Encode()
	if err == nil {
		err = c.send(ctx, queue.Message{Body: body, Group: queue.Group(c.callID), Delay: job.CheckDelay})
	}
	if err != nil {
		c.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "cannot queue the check of the job; it is cancelled, and its schedule stays",
			job.LogJob(r.ID), job.LogTrace(r.Traceparent), slog.Any("error", err))
	}
}

func (c *cancellation) cancelled(s job.Summary) string {
	return named(s, c.jobs) + ", started " + span(c.now.Sub(s.Created)) + " ago, is cancelled. " +
		"No result of it will arrive. What it had already done is not undone."
}

// list appends the descriptions of jobs, newest first.
func (c *cancellation) list(text string, jobs []job.Summary) string {
	jobs = slices.Clone(jobs)
	slices.SortStableFunc(jobs, func(a, b job.Summary) int { return b.Created.Compare(a.Created) })
	described := describe(jobs[:min(len(jobs), maxJobs)], c.jobs, c.now, c.cfg.Marker)
	text = strings.Join(append([]string{text}, described...), " ")
	if n := len(jobs) - maxJobs; n > 0 {
		text += fmt.Sprintf(" There are %d more.", n)
	}
	return text
}

// number returns a short number that distinguishes a job from the others of its call. It depends on
// the job's id, and says nothing about it.
func number(id string, jobs []job.Summary) string {
	all, n := digits(id), minDigits
	for _, other := range jobs {
		for other.ID != id && n < len(all) && strings.HasPrefix(digits(other.ID), all[:n]) {
			n++
		}
	}
	return all[:n]
}

// digits returns the digits that the numbers of a job are the beginning of. The first is not 0.
func digits(id string) string {
	sum := sha256.Sum256([]byte(id))
	const least = 1_000_000_000_000_000_000
	return strconv.FormatUint(least+binary.BigEndian.Uint64(sum[:])%(math.MaxInt64-least), 10)
}
