package callback

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// A customer has one open outbound call. Results that are ready meanwhile wait for its end, or for the hours of
// outbound calls, each with its own message. The first one that may call then leads: it joins those that wait,
// and delivers all of them by one call.
//
// The record of the result that leads decides. Those that it joins are leased for as long as it is. Then one write
// records the call and whose results it delivers. From then on, these results end as the one that leads does: their
// own messages find in its record how that was. If it does not name a joined result, no call delivers that one, and
// it waits for the next. The customer's record only says whom to join, and until when to wait.

const (
	// maxWait is the longest wait for the hours. SQS hides a message for 12 hours at most.
	maxWait = 11 * time.Hour

	// openCallPause is the longest time between the first questions about an open call, up to frequentQuestions
	// of them: most calls end within minutes.
	openCallPause     = 3 * time.Minute
	frequentQuestions = 15

	// joinTime is how much longer than the first result the others wait for the hours, so that it can join them.
	joinTime = time.Minute

	// joinedReceives bounds how often a joined result asks for the end of the one that leads its call. It is less
	// than how often a message is received, so that an event can still follow.
	joinedReceives = MaxPosts + 5

	// maxJoinedPause is the longest time between two of these questions. Its message may mark the one that leads
	// as late as that.
	maxJoinedPause = 2 * maxMarkDelay
)

// waitForHours makes the outcome wait until outbound calls may be made.
func (d *delivery) waitForHours(ctx context.Context, result job.WaitingResult, wait time.Duration) *batch.Retry {
	bounded, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	first, err := d.cfg.Customers.Wait(bounded, d.outcome.Call, result, d.cfg.Now())
	if err != nil {
		// Its own call delivers it then.
		d.log.WarnContext(ctx, "cannot list result as waiting for an outbound call", "error", err)
	}
	if left := d.outcome.Deadline.Sub(d.cfg.Now()); err == nil && !first && wait+2*joinTime < left {
		wait += joinTime
	}
	if wait > maxWait { // in parts, of which none but the last one ends at about the same time as those of others
		wait = min(wait/2, maxWait)
	}
	d.log.InfoContext(ctx, "outbound call waits for its hours", "in", wait)
	return d.releaseAs(ctx, job.WaitForOutboundCall(d.cfg.Now(), wait), wait)
}

// openCall opens an outbound call that the outcome leads, and returns the jobs of the results that wait. It
// returns a retry if another call to the customer is open.
func (d *delivery) openCall(ctx context.Context, detail string, result job.WaitingResult) ([]string, *batch.Retry) {
	bounded, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	waiting, open, err := d.cfg.Customers.OpenCall(bounded, d.outcome.Call, result, "", d.cfg.Now())
	var status vapiclient.CallStatus
	if err == nil && open != nil && open.CallID != "" {
		if status = d.callStatus(ctx, open.CallID); status.Ended {
			bounded, cancel := context.WithTimeout(ctx, markTimeout)
			defer cancel()
			waiting, open, err = d.cfg.Customers.OpenCall(bounded, d.outcome.Call, result, open.CallID, d.cfg.Now())
		}
	}
	switch {
	case err != nil:
		d.log.ErrorContext(ctx, "cannot open outbound call yet", "error", err)
		return nil, d.release(ctx, batch.RetryAfter(err, firstDelay, d.receives).After)
	case open == nil:
		return waiting, nil
	}
	most := maxPostponement
	if d.receives < frequentQuestions {
		most = openCallPause
	}
	delay, ok := d.postponement(status, most)
	if !ok {
		d.closeCall(ctx)
		return nil, d.sendUndelivered(ctx, job.ReasonCallGone,
			detail+"; no outbound call was made, because another one to the customer had not ended")
	}
	d.log.InfoContext(ctx, "outbound call postponed; another one to the customer is open", "in", delay)
	return nil, d.releaseAs(ctx, job.WaitForOutboundCall(d.cfg.Now(), delay), delay)
}

// join leases the results that wait until the end of the lease of the one that leads, and returns their deliveries.
// A result that does not wait any more is not joined.
func (d *delivery) join(ctx context.Context, waiting []string) []*delivery {
	var joined []*delivery
	for _, id := range waiting {
		record, err := d.cfg.Table.Change(ctx, id, job.JoinOutboundCall(d.cfg.Now(), d.lease, d.outcome.JobID))
		if err != nil {
			if !errors.Is(err, job.ErrSettled) {
				d.log.WarnContext(ctx, "cannot join result that waits for an outbound call", "other", job.ShownID(id),
					"error", err)
			}
			continue
		}
		o := record.Job().Outcome(record)
		joined = append(joined, &delivery{
			Handler: d.Handler, outcome: o, record: record, claimed: true, lease: d.lease,
			log: d.cfg.Log.With(job.LogJob(id), "tool", o.Tool, job.LogTrace(o.Traceparent)),
		})
	}
	return joined
}

// jobs returns the jobs of deliveries.
func jobs(all []*delivery) []string {
	var ids []string
	for _, d := range all {
		ids = append(ids, d.outcome.JobID)
	}
	return ids
}

// settleAll marks the outcomes that a call delivers. If that fails for a joined one, its own message does so.
func settleAll(ctx context.Context, all []*delivery, reason string) *batch.Retry {
	var others sync.WaitGroup
	for _, d := range all[1:] {
		others.Go(func() {
			if err := d.mark(ctx, job.StateDelivered, reason); err != nil && !ended(err) {
				d.log.WarnContext(ctx, "cannot mark joined outcome; its own message does so later", "error", err)
			}
		})
	}
	defer others.Wait()
	return all[0].settle(ctx, job.StateDelivered, reason)
}

// endJoined ends an outcome that the call of another one has joined, as that one ended.
func (d *delivery) endJoined(ctx context.Context) *batch.Retry {
	bounded, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	first, found, err := d.cfg.Table.Find(bounded, d.record.OutboundCallBy)
	d.log = d.log.With("joined", job.ShownID(d.record.OutboundCallBy))
	switch {
	case err == nil && found && !slices.Contains(first.OutboundCallFor, d.outcome.JobID):
		// The lease of that one is over, too, so no call with this outcome is made any more.
		d.log.InfoContext(ctx, "outcome was in no outbound call; it waits for another one")
		return d.releaseAs(ctx, job.RetractOutboundCall(d.cfg.Now(), firstDelay), firstDelay)
	case err == nil && first.State == job.StateDelivered:
		d.log.InfoContext(ctx, deployment.OutcomeDelivered)
		return d.settle(ctx, job.StateDelivered, first.Reason)
	case (err != nil || first.State == job.StateDone) && d.receives < joinedReceives:
		// For twice as long as it has waited.
		delay := min(max(d.cfg.Now().Sub(d.record.OutboundCallAt), d.backoff()), maxJoinedPause)
		d.log.InfoContext(ctx, "outcome waits for the end of the one that it joined", "in", delay, "error", err)
		return d.release(ctx, delay)
	}
	return d.sendUndelivered(ctx, job.ReasonOutboundCallUnconfirmed, "an outbound call with several results was about "+
		"to be made at "+d.record.OutboundCallAt.Format(time.RFC3339)+"; it is unknown whether it was made")
}

// part releases the outcomes that a call would have delivered, except the one that led it. They wait for another
// one.
func part(ctx context.Context, all []*delivery) {
	for _, d := range all[1:] {
		now := d.cfg.Now()
		d.releaseAs(ctx, job.RetractOutboundCall(now, d.record.WaitsUntil.Sub(now)), 0)
	}
}

// callMade records that the customer's open call was made, or may have been. If that fails, the call counts as
// open for a time.
func (d *delivery) callMade(ctx context.Context, callID string, waiting []string) {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	o := d.outcome
	err := d.cfg.Customers.CallMade(ctx, o.Call, o.JobID, callID, waiting, d.cfg.Now())
	if err != nil {
		d.log.WarnContext(ctx, "cannot record open outbound call", "error", err)
	}
}

// closeCall records that the outcome causes no outbound call.
func (d *delivery) closeCall(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	if err := d.cfg.Customers.NoCall(ctx, d.outcome.Call, d.outcome.JobID, d.cfg.Now()); err != nil {
		d.log.WarnContext(ctx, "cannot close outbound call; others wait for a time", "error", err)
	}
}

// Variables in which the assistant of an outbound call finds the results, as {{ringback_result}} and so on.
const (
	variableResult = "ringback_result"      // between markers, for the model
	variableText   = "ringback_result_text" // the tools' own texts alone, to speak word for word
	variableStatus = "ringback_status"      // "error" if one of the results is one
	variableTool   = "ringback_tool"
	variableCall   = "ringback_call_id"
)

// externalFirst replaces the text of an external system in [variableText].
const externalFirst = "I have the answer to your request."

// firstWords returns what a first message may speak word for word.
func firstWords(r job.Result) string {
	if !r.Own {
		return externalFirst
	}
	return spoken.Clean(r.Content)
}

// variables returns the variables of a call that delivers several outcomes.
func (d *delivery) variables(all []*delivery) map[string]string {
	var frames, texts, tools []string
	status := job.StatusOK
	for _, one := range all {
		o := one.outcome
		frames = append(frames, d.cfg.Text.Frame(o))
		if text := firstWords(o.Result); text != externalFirst || !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
		if tool := spoken.Name(o.Tool); !slices.Contains(tools, tool) {
			tools = append(tools, tool)
		}
		if o.Result.Status == job.StatusError {
			status = job.StatusError
		}
	}
	return map[string]string{
		variableResult: strings.Join(frames, separator), variableText: strings.Join(texts, separator),
		variableStatus: string(status), variableTool: strings.Join(tools, ", "), variableCall: d.outcome.Call.ID,
	}
}
