package operator

import (
	"context"
	"errors"
	"fmt"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/queue"
)

// ErrNotExternal means that a job does not wait for an external system.
var ErrNotExternal = errors.New("the job does not wait for an external system")

// Complete ends a job that waits for an external system with a result, as that system does. The text is delivered as
// one of an external system: never word for word. Complete can be repeated with the same result. It returns a
// [*FinishedError] if the job has finished, and [jobtable.ErrNotFound] if there is no such job.
func (j *Jobs) Complete(ctx context.Context, id string, status job.Status, text string) error {
	r, err := j.cfg.Table.Load(ctx, id)
	switch {
	case err != nil:
		return err
	case r.State.Active() && (!r.External || r.StoredJob == nil):
		return ErrNotExternal
	case r.State.Active():
		j.check(ctx, r)
	}
	delivery := policy.DeliveryRespond
	if r.Policy.Delivery == policy.DeliverySilent {
		delivery = policy.DeliverySilent
	}
	bounded, stop := context.WithTimeout(ctx, storeTimeout)
	defer stop()
	r, err = j.cfg.Table.Change(bounded, id, job.Complete(j.cfg.Now(), job.Result{
		Status: status, Delivery: delivery, Content: text,
	}))
	switch {
	case errors.Is(err, job.ErrFinished) && r.State == job.StateDone &&
		r.Result.Status == status && r.Result.Content == text:
		// It was completed before, but its outcome may not have been sent.
	case errors.Is(err, job.ErrFinished):
		return &FinishedError{State: r.State}
	case err != nil:
		return err
	}
	if r.StoredJob == nil || !r.OutcomePending() {
		return nil
	}
	body, err := r.StoredJob.Outcome(r).Encode()
	if err == nil {
		err = errors.Join(j.cfg.Outcomes.Send(ctx, []queue.Message{{Body: body, Group: queue.Group(r.CallID)}})...)
	}
	if err != nil {
		return fmt.Errorf("the job is completed, but its outcome was not sent; complete it again: %w", err)
	}
	return nil
}
