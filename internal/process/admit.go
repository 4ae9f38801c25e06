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
type gate struct{ cfg *Config }

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
	if end, err := g.checkRepeat(ctx, c); end != nil || err != nil {
		return end, err
	}
	return g.checkLimits(ctx, c)
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
	case record.Attempt > tool.Attempts:
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

// checkRepeat checks whether another tool call of the call asks the same. The tool decides which of
// the two runs.
func (g *gate) checkRepeat(ctx context.Context, c claimed) (*ending, error) {
	if c.tool.Repeat == asynctool.Allow {
		return nil, nil
	}
	key, err := c.tool.Question(c.job.Arguments)
	if err != nil {
		// The check of the arguments reports what is wrong with them.
		c.log.WarnContext(ctx, "cannot decide whether the tool call repeats another one", "error", err)
		return nil, nil
	}
	join := c.tool.Repeat == asynctool.Join
	earlier, err := g.cfg.Admission.Ask(ctx, c.job, g.cfg.Now(), key, join,
		func(ctx context.Context, jobID string) (bool, error) {
			r, err := g.cfg.Table.Load(ctx, jobID)
			if errors.Is(err, jobtable.ErrNotFound) {
				return false, nil
			}
			return r.State.Active() || r.State == job.StateDone, err
		})
	switch {
	case errors.Is(err, job.ErrSuperseded):
		return g.supersede(ctx, c, earlier)
	case err != nil:
		return nil, err
	case earlier == "":
		return nil, nil
	case join:
		c.log.InfoContext(ctx, "tool call joins an earlier one that asks the same", "earlier", earlier)
		joined := job.Result{
			Status: job.StatusOK, Delivery: policy.DeliverySilent, Content: joinedRepeat(c.tool.Name), Own: true,
		}
		return &ending{result: joined, onlyInCall: true}, nil
	}
	return nil, g.replace(ctx, c, earlier)
}

// replace ends the earlier job that asks the same.
func (g *gate) replace(ctx context.Context, c claimed, earlier string) error {
	rule := job.Replace(g.cfg.Now(), "replaced by job "+c.job.ID)
	_, err := g.cfg.Table.Change(ctx, earlier, rule)
	if err != nil && !errors.Is(err, job.ErrFinished) && !errors.Is(err, jobtable.ErrNotFound) {
		return err
	}
	c.log.InfoContext(ctx, "tool call replaces an earlier one", "earlier", earlier)
	// The slot of the earlier one must be free, too. Otherwise a call that may run only one job at
	// a time could never replace a job.
	replaced := job.Job{ID: earlier, Call: c.job.Call}
	if err := g.cfg.Admission.Leave(ctx, replaced, g.cfg.Now()); err != nil {
		c.log.WarnContext(ctx, "cannot free the slot of the replaced job; it ends with the job", "error", err)
	}
	return nil
}

// supersede ends the job itself, as a later tool call replaced it before it could start.
func (g *gate) supersede(ctx context.Context, c claimed, later string) (*ending, error) {
	reason := "replaced by job " + later
	_, err := g.cfg.Table.Change(ctx, c.record.ID, job.Replace(g.cfg.Now(), reason))
	if err != nil && !errors.Is(err, job.ErrFinished) {
		return nil, err
	}
	c.log.InfoContext(ctx, "tool call was replaced by a later one", "later", later)
	// This is never stored, as the job has ended.
	return &ending{result: failure(policy.DeliverySilent, "A later tool call replaced this one."), reason: reason}, nil
}

// checkLimits checks the limits of the call.
func (g *gate) checkLimits(ctx context.Context, c claimed) (*ending, error) {
	now := g.cfg.Now()
	err := g.cfg.Admission.Admit(ctx, c.job, now, c.record.LeaseExpiry.Sub(now))
	var limit *job.LimitError
	if !errors.As(err, &limit) {
		return nil, err
	}
	c.log.WarnContext(ctx, "call reached a limit", "concurrent", limit.Concurrent, "limit", limit.Most)
	return refused(limitReached(c.job.Tool, limit), limit.Error()), nil
}

// callEnded returns how a job ends whose tool stops with its call.
func callEnded(ctx context.Context, c claimed, detail string) *ending {
	c.log.InfoContext(ctx, "tool stops, as its call has ended", "detail", detail)
	end := failed(c.tool, "its call has ended: "+detail)
	end.onlyInCall = true
	return end
}
