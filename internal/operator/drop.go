package operator

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
)

// decodeDead reads a message of a dead-letter queue. It returns what [job.DecodeMessage] or [job.DecodeOutcome]
// returns, and the body that its queue takes. EventBridge Scheduler leaves the input of its target here, or the request
// that it made of it.
func decodeDead(name string, r queue.DeadLetter) (content any, body string, err error) {
	if name == ResultsQueue {
		o, err := job.DecodeOutcome(r.Body)
		if err != nil {
			return nil, r.Body, err
		}
		return o, r.Body, nil
	}
	content, err = job.DecodeMessage(r.Body)
	if err == nil {
		return content, r.Body, nil
	}
	var request struct{ MessageBody string }
	if _, scheduled := r.Scheduled(); scheduled && json.Unmarshal([]byte(r.Body), &request) == nil {
		if content, inner := job.DecodeMessage(request.MessageBody); inner == nil {
			return content, request.MessageBody, nil
		}
	}
	return nil, r.Body, err
}

// claimLease is the lease of a job that is ended here.
const claimLease = time.Minute

const (
	// byDrop is the reason in the record of a job that ended with its dead letter.
	byDrop = "an operator dropped its message from the dead-letter queue"
	// dropOwner claims a job that no function has claimed.
	dropOwner = "ringback dead drop"
)

// Drop deletes the selected messages. No job ends in silence: the caller of an unfinished job hears that it was
// cancelled, and a result that is not delivered becomes an undelivered event. So does the failure, if the call has
// ended. See [Loss] for what is lost otherwise. If this program ends in between, the message is still there.
func (d *Dead) Drop(ctx context.Context, s DeadSelection) (Handled, error) {
	return d.handle(ctx, s, func(ctx context.Context, l *letter) error {
		switch l.shown.Loss {
		case LossUnknown:
			if !s.Unreadable {
				return errors.New("this version cannot read it, so it is unknown what would be lost; " +
					"redrive it once a version runs that can")
			}
		case LossRefused:
			if l.shown.Kind == string(job.KindMark) {
				return errors.New("without it, a result may be delivered twice; redrive it")
			}
			return errors.New("its job is running; try again when it has ended")
		case LossJob:
			return d.endJob(ctx, l)
		case LossDelivery:
			o := l.content.(job.Outcome)
			// It is too late to deliver it, and nothing follows after the call.
			o.Deadline = d.cfg.Now().Add(-time.Second)
			if o.AfterCall != policy.AfterCallDrop {
				o.AfterCall = policy.AfterCallEvent
			}
			return d.send(ctx, o)
		}
		return nil
	})
}

// endJob ends the job of a message as a cancellation does, and sends its outcome.
func (d *Dead) endJob(ctx context.Context, l *letter) error {
	j, isJob := l.content.(job.Job)
	r, now := l.record, d.cfg.Now()
	if !l.found {
		// As for an unknown tool, the failure is of use in the call only.
		first := job.NewRecord(j, job.Policy{CallBound: true}, j.CallEnds, dropOwner, now, claimLease)
		var err error
		if r, err = d.cfg.Table.Claim(ctx, first); err != nil {
			return err
		}
	}
	if r.State.Active() {
		delivery := r.Policy.Delivery
		if delivery == "" {
			delivery = policy.DeliveryRespond
		}
		var err error
		r, err = d.cfg.Table.Change(ctx, r.ID, job.Cancel(now, job.Result{
			Status: job.StatusError, Delivery: delivery, Content: cancelled, Own: true,
		}, byDrop))
		if err != nil && !errors.Is(err, job.ErrFinished) {
			return err
		}
	}
	if !isJob {
		j = r.Job()
	}
	if r.StoredJob != nil {
		j = *r.StoredJob
	}
	if !r.OutcomePending() {
		return nil
	}
	return d.send(ctx, j.Outcome(r))
}

func (d *Dead) send(ctx context.Context, o job.Outcome) error {
	body, err := o.Encode()
	if err != nil {
		return err
	}
	return errors.Join(d.cfg.Results.Send(ctx, []queue.Message{{Body: body, Group: queue.Group(o.Call.ID)}})...)
}
