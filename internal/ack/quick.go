package ack

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/httpjson"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
)

// The answer to a webhook can hold the results of quick tools. It waits for them, and claims each
// result in the job's record, as the callback function does. So a result is delivered either in the
// answer or as a message.
//
// An answer has no receipt. A result is settled as delivered before the answer is written, because the
// function can do nothing after that. If the function dies in between, Vapi gets no answer: it repeats
// the webhook, and gets the stored result then, or tells the model that the tool failed. If the
// function dies before, its lease ends, and the callback function delivers the result.

const (
	// firstPoll and maxPoll are the shortest and the longest pause between two looks at a record.
	firstPoll = 100 * time.Millisecond
	maxPoll   = 500 * time.Millisecond

	// readTimeout bounds one look at a record.
	readTimeout = time.Second

	// answerMargin is how long before the end of Vapi's patience no result is claimed any more. It
	// covers claimTimeout, settleTimeout, and the way back.
	answerMargin  = 2 * time.Second
	claimTimeout  = time.Second
	settleTimeout = 750 * time.Millisecond
	claimPause    = 50 * time.Millisecond // between two tries

	// answerLease is the lease on a result that is claimed for the answer. It exceeds the time in
	// which the result is settled.
	answerLease = 5 * time.Second

	// outcomeMargin is how much longer an outcome waits than the answer waits for it: until the
	// result is claimed.
	outcomeMargin = time.Second
)

// Answers of tool calls whose results are not in the answer, and do not follow either.
const (
	deliveredText = "Finished. This is not the result: the result has just been delivered as a message of its own. " +
		"Do not guess it, and do not call the tool again for it."
	undeliveredText = "Finished, but the result couldn't be delivered in this call."
	cancelledText   = "Cancelled. There is no result, and none follows."
)

// inAnswer is the reason in the record of a result that is delivered in the answer.
const inAnswer = "in the answer to the webhook"

// Table is the jobs table, as quick answers need it.
type Table interface {
	// Find returns false if there is no record.
	Find(ctx context.Context, id string) (job.Record, bool, error)
	ChangeClaimed(ctx context.Context, claimed job.Record, rule job.Rule) (job.Record, error)
	Settle(ctx context.Context, claimed job.Record, now time.Time, state job.State, reason string) error
}

// quickAnswer is the answer to a webhook that waits for results. A nil *quickAnswer waits for none.
type quickAnswer struct {
	*Handler
	call  job.Call
	until time.Time // it waits until then
	limit time.Time // no result is claimed from then on
	calls []quickCall
	blind bool // the table does not answer
}

// quickCall is a tool call whose result the answer waits for.
type quickCall struct {
	index int // in the answer
	jobID string
	async bool // at Vapi
}

// isQuick reports whether the result of a tool call may be in the answer. Vapi ignores the answer to an
// async tool, except in a GPT-Live call.
func (h *Handler) isQuick(call job.Call, t vapi.ToolCall) bool {
	return t.Err == nil && h.cfg.Quick[t.Name] > 0 &&
		(!t.Async || call.Architecture == vapi.ArchitectureGPTLive)
}

// newQuickAnswer returns nil if the message has no tool call of a quick tool, or if there is no time to
// wait for it.
func (h *Handler) newQuickAnswer(
	ctx context.Context, call job.Call, message vapi.Message, now time.Time,
) *quickAnswer {
	if len(h.cfg.Quick) == 0 || !usableID(call.ID) {
		return nil
	}
	var longest time.Duration
	for _, t := range message.ToolCalls {
		if h.isQuick(call, t) {
			longest = max(longest, h.cfg.Quick[t.Name])
		}
	}
	if longest == 0 {
		return nil
	}
	received := httpjson.Received(ctx, now)
	limit := received.Add(cmp.Or(message.ServerTimeout, vapi.DefaultServerTimeout) - answerMargin)
	if end, ok := ctx.Deadline(); ok { // of the function
		if last := now.Add(time.Until(end) - answerMargin); last.Before(limit) {
			limit = last
		}
	}
	until := received.Add(longest)
	if limit.Before(until) {
		until = limit
	}
	if !now.Before(until) {
		return nil
	}
	return &quickAnswer{Handler: h, call: call, until: until, limit: limit}
}

// stored returns the result of a job that was settled before the webhook arrived: the webhook is a
// repeat. Nothing needs to be queued for it.
func (q *quickAnswer) stored(ctx context.Context, jobID string) (job.Record, bool) {
	if q.blind {
		return job.Record{}, false
	}
	r, found, err := q.find(ctx, jobID)
	q.blind = err != nil
	if !found || r.State != job.StateDelivered && r.State != job.StateUndelivered || !answers(r) {
		return job.Record{}, false
	}
	q.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "tool call repeated; answering with its stored result",
		job.LogJob(jobID), slog.String("tool", r.Tool), job.LogTrace(r.Traceparent))
	return r, true
}

// fill waits for the results, and writes those that are ready in time into the answer.
func (q *quickAnswer) fill(ctx context.Context, results []vapi.Result) {
	if q == nil || len(q.calls) == 0 || !q.live(ctx) {
		return
	}
	q.wait(ctx)
	// The results are claimed together, so that none of them is lost with an answer that still waits.
	ctx, cancel := context.WithTimeout(ctx, claimTimeout+settleTimeout)
	defer cancel()
	var claiming sync.WaitGroup
	for _, c := range q.calls {
		claiming.Go(func() { q.claim(ctx, c, &results[c.index]) })
	}
	claiming.Wait()
}

// statusTimeout bounds the look at the call's jobs that follows the wait.
func (q *quickAnswer) statusTimeout() time.Duration {
	if q == nil {
		return statusTimeout
	}
	return min(statusTimeout, q.limit.Add(answerMargin/2).Sub(q.cfg.Now()))
}

// wait returns when no result is expected any more, or when the time is over.
func (q *quickAnswer) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, q.until.Sub(q.cfg.Now()))
	defer cancel()
	var waiting sync.WaitGroup
	for _, c := range q.calls {
		waiting.Go(func() {
			for pause := firstPoll; sleep(ctx, pause); pause = min(pause*3/2, maxPoll) {
				r, found, err := q.find(ctx, c.jobID)
				if err == nil && found && !q.mayFinish(r) {
					return
				}
			}
		})
	}
	waiting.Wait()
}

// mayFinish reports whether a job may get its result while the answer waits. If another answer to the
// same webhook has claimed the result, it may be released meanwhile.
func (q *quickAnswer) mayFinish(r job.Record) bool {
	switch r.State {
	case job.StateRunning:
		return true
	case job.StateWaiting:
		return r.External || r.WakeAt.Before(q.until)
	}
	return r.State == job.StateDone && r.Answered && q.cfg.Now().Before(r.LeaseExpiry)
}

// claim claims the result of a tool call for the answer, and writes it there. It writes another text if
// the result neither is in the answer nor follows.
func (q *quickAnswer) claim(ctx context.Context, c quickCall, answer *vapi.Result) {
	settling := ctx
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	for first := true; first || sleep(ctx, claimPause); first = false {
		r, found, err := q.find(ctx, c.jobID)
		switch {
		case err != nil:
			continue
		case !found || r.State.Active() || r.State == job.StateParked:
			return
		case r.State == job.StateDelivered && r.Answered:
			q.setResult(answer, r, c.async) // in the answer to the same webhook, which was repeated
			return
		case r.State == job.StateDelivered:
			answer.Result = deliveredText
			return
		case r.State == job.StateUndelivered:
			answer.Result = undeliveredText
			return
		case r.State == job.StateCancelled:
			answer.Result = cancelledText
			return
		}
		now := q.cfg.Now()
		if !answers(r) || !now.Before(q.limit) || !q.live(ctx) {
			return
		}
		switch r, err = q.cfg.Table.ChangeClaimed(ctx, r, job.ClaimAnswer(now, answerLease)); {
		case err == nil:
			if q.settle(settling, r) {
				q.setResult(answer, r, c.async)
			}
			return
		case errors.Is(err, job.ErrNoAnswer), errors.Is(err, job.ErrSettled), errors.Is(err, job.ErrExpired):
			return
		}
		// The record was changed by others, who may deliver the result in this moment.
	}
}

// settle marks a claimed result as delivered. It returns false if the result was settled in another way.
// If the table does not answer in time, the result is in the answer all the same: it may be marked, and
// would be lost otherwise.
func (q *quickAnswer) settle(ctx context.Context, claimed job.Record) bool {
	log := q.cfg.Log.With(job.LogJob(claimed.ID), "tool", claimed.Tool, job.LogTrace(claimed.Traceparent))
	reason := inAnswer
	if claimed.Reason != "" {
		reason = "" // the record keeps why the tool failed
	}
	for {
		err := q.cfg.Table.Settle(ctx, claimed, q.cfg.Now(), job.StateDelivered, reason)
		switch {
		case err == nil:
			log.InfoContext(ctx, "result is in the answer", "status", claimed.Result.Status)
			return true
		case errors.Is(err, job.ErrSettled):
			log.ErrorContext(ctx, "result was settled in another way", "error", err)
			return false
		}
		if !sleep(ctx, claimPause) {
			log.ErrorContext(ctx, "cannot mark the result in the answer as delivered; it may be delivered again", "error", err)
			return true
		}
	}
}

// setResult writes a result into the answer, on one line. An external system may have written it, so it
// stands between markers like everything that the model reads. The rest of the frame is missing, because
// it explains a message that comes on its own: an answer belongs to its tool call. If the tool is async,
// the assistant has gone on meanwhile, so the answer names what was asked.
func (h *Handler) setResult(answer *vapi.Result, r job.Record, async bool) {
	question := ""
	if async {
		question = r.Asked
	}
	text := spoken.Answer(question, r.Result.Content, spoken.MaxContent)
	word := h.cfg.Marker.Word(text)
	text = word.Sentence() + " " + word.Quote(text)
	if r.Result.Status == job.StatusError {
		answer.Result, answer.Error = "", text
		return
	}
	answer.Result = text
}

// answers reports whether the result of a finished job can be in an answer.
func answers(r job.Record) bool {
	return r.Result.Answers() && spoken.Line(r.Result.Content, spoken.MaxContent) != ""
}

// live reports whether the call is not known to have ended. It makes sure that the end will be recorded.
// If that cannot be determined, it returns false.
func (q *quickAnswer) live(ctx context.Context) bool {
	if q.cfg.CallTracker == nil || q.call.Chat() { // nothing reports the end of a chat
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	live, err := q.cfg.CallTracker.Live(ctx, q.call.ID, q.cfg.Now())
	if err != nil {
		q.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "cannot look up the call; its results are delivered as messages",
			job.LogCall(q.call.ID), slog.Any("error", err))
	}
	return live && err == nil
}

// find looks at a job's record.
func (q *quickAnswer) find(ctx context.Context, jobID string) (job.Record, bool, error) {
	bounded, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	r, found, err := q.cfg.Table.Find(bounded, jobID)
	if err != nil && ctx.Err() == nil {
		q.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "cannot look at the job; its result may be delivered as a message",
			job.LogJob(jobID), slog.Any("error", err))
	}
	return r, found, err
}

// sleep returns false if the context ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
