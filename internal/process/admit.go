package process

import (
	"context"
	"errors"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/policy"
)

// gate decides whether the tool of a claimed job may start.
type gate struct {
	cfg     *Config
	wakeUps *wakeUps
}

// admit returns nil if the tool may start, and how the job ends otherwise. If admit fails, the job
// must be tried again.
func (g *gate) admit(ctx context.Context, c claimed) (*ending, error) {
	if end := g.checkJob(ctx, c); end != nil {
		return end, nil
	}
	if c.tool.StopWithCall {
		live, err := g.cfg.CallTracker.Live(ctx, c.job.Call.ID, g.cfg.Now())
		if err != nil {
			return nil, err
		}
		if !live {
			return callEnded(ctx, c, "the tool was not started"), nil
		}
	}
	if c.record.WakeUp > 0 { // a job that was suspended was admitted before
		return nil, nil
	}
	if p := c.record.Policy; p.CallBound && p.FollowsUp() && !c.tool.StopWithCall {
		// From now on, an earlier version also records the end of the call, which bounds what follows.
		if _, err := g.cfg.CallTracker.Live(ctx, c.job.Call.ID, g.cfg.Now()); err != nil {
			return nil, err
		}
	}
	return g.checkCall(ctx, c)
}

// checkJob checks the job itself.
func (g *gate) checkJob(ctx context.Context, c claimed) *ending {
	tool, record := c.tool, c.record
	switch {
	case c.job.Refusal != "":
		c.log.WarnContext(ctx, "tool call was refused", "reason", c.job.Refusal)
		return refused(refusedCall(c.job.Tool, c.job.Refusal), c.job.Refusal)
	case tool == nil:
		if known, ok := g.cfg.Tools.Similar(c.job.Tool); ok {
			c.log.WarnContext(ctx, "unknown tool; its name differs from a known one only in prefix or punctuation",
				"known", known.Name)
		} else {
			c.log.WarnContext(ctx, "unknown tool")
		}
		return refused(unknownTool(c.job.Tool, g.cfg.Tools.Entries()), "there is no such tool")
	case record.External:
		// A job that waits for an external system is woken up at its deadline only.
		c.log.WarnContext(ctx, "no external system completed the job before its deadline", "deadline", record.Deadline)
		return failed(tool, "no external system completed the job before its deadline")
	case g.cfg.Now().After(record.Deadline):
		// Nothing can be delivered any more, so the work would be wasted. The callback function
		// finds the deadline passed, and sends an undelivered event.
		c.log.WarnContext(ctx, "deadline passed before the tool could start", "deadline", record.Deadline)
		return failed(tool, "the deadline passed before the tool could start")
	case record.Counted() > tool.Attempts:
		// The last attempt never returned.
		reason := "the function died during the last attempt"
		if record.Reason != "" {
			reason += "; before: " + record.Reason
		}
		c.log.ErrorContext(ctx, "attempts are used up", "attempts", tool.Attempts, "reason", reason)
		end := failed(tool, reason)
		end.exhausted = true
		return end
	}
	return nil
}

// checkCall checks the limits of the call, and whether another tool call of the call asks the same. In
// that case, the tool decides which of the two runs. The earlier one is ended only after this one was
// admitted.
func (g *gate) checkCall(ctx context.Context, c claimed) (*ending, error) {
	question, now := g.question(ctx, c), g.cfg.Now()
	earlier, err := g.cfg.Admission.Admit(ctx, c.job, now, c.record.LeaseExpiry.Sub(now), question)
	var limit *job.LimitError
	switch {
	case errors.As(err, &limit):
		c.log.WarnContext(ctx, "call reached a limit", "concurrent", limit.Concurrent, "limit", limit.Most)
		return refused(limitReached(c.job.Tool, limit), limit.Error()), nil
	case errors.Is(err, job.ErrSuperseded):
		return g.supersede(ctx, c, earlier[0])
	case err != nil:
		return nil, err
	case len(earlier) > 0 && question.Join:
		c.log.InfoContext(ctx, "tool call joins an earlier one that asks the same", "earlier", job.ShownID(earlier[0]))
		joined := job.Result{
			Status: job.StatusOK, Delivery: policy.DeliverySilent, Content: joinedRepeat(c.tool.Name), Own: true,
		}
		return &ending{result: joined, onlyInCall: true}, nil
	}
	for _, jobID := range earlier {
		if err := g.replace(ctx, c, jobID); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// question returns what the job asks. It returns nil if the tool allows repeated requests.
func (g *gate) question(ctx context.Context, c claimed) *jobtable.Question {
	if c.tool.Repeat == asynctool.Allow {
		return nil
	}
	key, err := c.tool.Question(c.job.Arguments)
	if err != nil {
		// The check of the arguments reports what is wrong with them.
		c.log.WarnContext(ctx, "cannot decide whether the tool call repeats another one", "error", err)
		return nil
	}
	unfinished := func(ctx context.Context, jobID string) (bool, error) {
		r, err := g.cfg.Table.Load(ctx, jobID)
		if errors.Is(err, jobtable.ErrNotFound) {
			return false, nil
		}
		return r.State.Active() || r.State == job.StateDone, err
	}
	return &jobtable.Question{Key: key, Join: c.tool.Repeat == asynctool.Join, Unfinished: unfinished}
}

// replace ends the earlier job that asks the same. The later one has its slot already. If the function
// dies before, the next execution of the later one ends it.
func (g *gate) replace(ctx context.Context, c claimed, earlier string) error {
	rule := job.Replace(g.cfg.Now(), "replaced by job "+c.job.ID)
	record, err := g.cfg.Table.Change(ctx, earlier, rule)
	if err != nil && !errors.Is(err, job.ErrFinished) && !errors.Is(err, jobtable.ErrNotFound) {
		return err
	}
	if record.State == job.StateCancelled {
		g.wakeUps.discard(ctx, c.log, record)
	}
	c.log.InfoContext(ctx, "tool call replaces an earlier one", "earlier", job.ShownID(earlier))
	return nil
}

// supersede ends the job itself, as a later tool call replaced it before it could start.
func (g *gate) supersede(ctx context.Context, c claimed, later string) (*ending, error) {
	reason := "replaced by job " + later
	_, err := g.cfg.Table.Change(ctx, c.record.ID, job.Replace(g.cfg.Now(), reason))
	if err != nil && !errors.Is(err, job.ErrFinished) {
		return nil, err
	}
	c.log.InfoContext(ctx, "tool call was replaced by a later one", "later", job.ShownID(later))
	// This is never stored, as the job has ended.
	return &ending{result: failure(policy.DeliverySilent, "A later tool call replaced this one."), reason: reason}, nil
}

// callEnded returns how a job ends whose tool stops with its call.
func callEnded(ctx context.Context, c claimed, detail string) *ending {
	c.log.InfoContext(ctx, "tool stops, as its call has ended", "detail", detail)
	end := failed(c.tool, "its call has ended: "+detail)
	end.onlyInCall = true
	return end
}
