package callback

import (
	"context"
	"errors"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// A claim is a lease that begins before the write that takes it. While it lasts, nothing else delivers the
// outcome. So everything that is done under it must end before it does:
//
//	claim │ gather, post, post again, ask Vapi, call          │ mark      │ margin
//	──────┴───────────────────────────────────────────────────┴───────────┴───────▶ deliveryLease
const (
	// deliveryLease is as long as the function may run. A function that dies loses no time by that: its
	// messages are hidden for longer.
	deliveryLease = time.Minute

	// progressLease is the lease on a progress line. It is shorter, since the result waits for it.
	progressLease = deliveryLease / 2

	// claimTimeout bounds a claim: one request that hangs, and its repeat.
	claimTimeout = deliveryLease / 8

	// markTime is what remains of the lease for the mark, and leaseMargin for the rest: the response of
	// the function, and clocks that differ.
	markTime    = deliveryLease / 3
	leaseMargin = deliveryLease / 20

	// No post, chat or outbound call begins unless it can take this long: the timeouts of their clients.
	postTime     = deliveryLease / 6
	chatTime     = deliveryLease / 3
	outboundTime = deliveryLease / 3

	// lastAttempt is how long before the deadline a last attempt begins, if a Retry-After asks for more.
	lastAttempt = 2 * time.Second

	sendTimeout = 4 * time.Second // of messages to the results queue
)

// errSlowClaim means that a claim took effect, and too late.
var errSlowClaim = errors.New("the claim took too long")

// noTime is the receipt of a post that was not begun.
var noTime = vapiclient.Receipt{
	Verdict: vapiclient.TryAgain, Err: errors.New("too little of the lease was left for a post"),
}

// claim claims the delivery. A claim that took too long, or whose answer did not arrive, is undone: what
// remains of its lease may be too short.
//
// The first receive begins with the record in the message. By the next one, at least the receive before has changed it.
func (d *delivery) claim(ctx context.Context) error {
	began, lease := d.cfg.Now(), job.Nameable(deliveryLease)
	d.lease = began.Add(lease)
	bounded, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	var err error
	rule := job.ClaimDeliveryIn(d.outcome.Call.ID, began, lease)
	if known, ok := d.outcome.Record(); ok && d.receives == 1 {
		d.record, err = d.cfg.Table.ChangeKnown(bounded, known, rule)
	} else {
		d.record, err = d.cfg.Table.Change(bounded, d.outcome.JobID, rule)
	}
	if err == nil && d.cfg.Now().Sub(began) > claimTimeout {
		err = errSlowClaim
	}
	var busy *job.BusyError
	switch {
	case err == nil:
		d.claimed = true
	case errors.As(err, &busy), errors.Is(err, job.ErrSettled), errors.Is(err, job.ErrNotDone),
		errors.Is(err, job.ErrOtherCall), errors.Is(err, jobtable.ErrNotFound):
	default:
		d.undo(ctx, job.UnclaimDelivery(d.cfg.Now(), d.lease))
	}
	return err
}

// undo undoes a claim.
func (d *delivery) undo(ctx context.Context, rule job.Rule) {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	if _, err := d.cfg.Table.Change(ctx, d.outcome.JobID, rule); err != nil {
		d.log.WarnContext(ctx, "cannot undo claim; the outcome may wait for the end of its lease", "error", err)
	}
}

// within returns a context for something that may take as long as needed. It ends when only the time for
// the mark is left. within returns false if it would end sooner.
func (d *delivery) within(ctx context.Context, needed time.Duration) (context.Context, context.CancelFunc, bool) {
	left := d.left(ctx) - d.reserve()
	ctx, cancel := context.WithTimeout(ctx, left)
	return ctx, cancel, left >= needed
}

// reserve returns what must remain of the lease after a post.
func (d *delivery) reserve() time.Duration {
	if d.outcome.Kind == job.KindProgress {
		return leaseMargin // a line needs no mark
	}
	return markTime
}

// left returns how long the lease lasts, and the function's time, too.
func (d *delivery) left(ctx context.Context) time.Duration {
	left := d.lease.Sub(d.cfg.Now())
	if end, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(end))
	}
	return left
}

// postControl posts a message to the call, within the lease.
func (d *delivery) postControl(ctx context.Context, m vapi.ControlMessage) vapiclient.Receipt {
	ctx, cancel, ok := d.within(ctx, postTime)
	defer cancel()
	if !ok {
		return noTime
	}
	return d.cfg.ControlClient.Post(ctx, d.outcome.Call.ControlURL, m)
}
