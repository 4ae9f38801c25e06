package dev

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

const (
	// look is how often the demonstration looks at its jobs.
	look = 20 * time.Millisecond

	// patience is how long the second act waits beyond the simulated shop's own
	// delay. A real shop may take days.
	patience = 10 * time.Second
)

// demonstrate plays a call. In its first act, a tool is slow. In its second act, a
// request needs an approval.
func (r *run) demonstrate(ctx context.Context) error {
	callID := "demo-" + rand.Text()[:8]
	r.terminal.say("A caller asks the assistant for something slow, and Vapi posts the tool call:\n")
	jobs, err := r.play(ctx, callID, r.cfg.Demo)
	if err != nil {
		return err
	}
	waits, err := r.watchFor(ctx, jobs, settledOrWaiting)
	switch {
	case err != nil:
		return err
	case waits.State == job.StateWaiting:
		r.terminal.tell(good, "The job waits until "+moment(waits.WakeAt)+" at the latest. Nothing runs meanwhile.")
	case waits.Answered:
		r.praise(waits, "The assistant has the result, in the answer to its tool call.")
	default:
		r.praise(waits, "The assistant has the result, and the caller never waited.")
	}
	if r.cfg.Approval == nil {
		return nil
	}
	return r.approve(ctx, callID)
}

// approve is the second act.
func (r *run) approve(ctx context.Context, callID string) error {
	bounded, cancel := context.WithTimeout(ctx, 2*r.cfg.ShopDelay+patience)
	defer cancel()
	err := r.approval(bounded, callID)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		r.terminal.tell(warning, "There is no answer yet. The job keeps waiting; its result appears here later.")
		return nil
	}
	return err
}

func (r *run) approval(ctx context.Context, callID string) error {
	r.terminal.say("\nIn the same call, the caller asks for something that only a person can approve:\n")
	jobs, err := r.play(ctx, callID, r.cfg.Approval)
	if err != nil {
		return err
	}
	waits, err := r.watchFor(ctx, jobs, settledOrWaiting)
	if err != nil || settled(waits) {
		return err
	}
	r.terminal.tell(good, "The job waits for an external system, until "+moment(waits.WakeAt)+" at the latest. "+
		"Nothing runs meanwhile, and the assistant keeps talking.")
	r.terminal.say("")
	if _, err := r.watchFor(ctx, jobs, func(record job.Record) bool {
		return settled(record) || record.ProgressDelivered > 0 && record.ProgressLeaseExpiry.IsZero()
	}); err != nil {
		return err
	}
	if r.cfg.Status != nil {
		r.terminal.say("\nThe caller asks how far it is, and Vapi posts the question:\n")
		if _, err := r.play(ctx, callID, r.cfg.Status); err != nil {
			return err
		}
		r.terminal.say("")
	}
	done, err := r.watchFor(ctx, jobs, settled)
	if err != nil {
		return err
	}
	r.praise(done, "The external system has answered, and the assistant has the result.")
	return nil
}

// praise ends an act with the text, unless the tool failed or its result was not delivered.
func (r *run) praise(record job.Record, text string) {
	switch {
	case record.State == job.StateUndelivered:
		r.terminal.tell(warning, "The result could not be delivered. It became an undelivered event.")
	case record.Result != nil && record.Result.Status == job.StatusError:
		r.terminal.tell(warning, "The tool failed. The assistant knows what it may tell the caller.")
	default:
		r.terminal.tell(good, text)
	}
}

// settled reports whether a job is finished and its outcome settled.
func settled(r job.Record) bool { return !r.State.Active() && r.State != job.StateDone }

func settledOrWaiting(r job.Record) bool { return settled(r) || r.State == job.StateWaiting }

// watchFor waits until reached is true for all of the jobs. It returns the record of
// the last one.
func (r *run) watchFor(ctx context.Context, ids []string, reached func(job.Record) bool) (last job.Record, err error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for _, id := range ids {
		for {
			// There is no record before the job is claimed.
			if last, err = r.pipeline.Table.Load(ctx, id); err == nil && reached(last) {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return last, ctx.Err()
			}
		}
	}
	return last, nil
}

// play posts a webhook as part of the call. It returns the ids of the jobs that the
// webhook starts.
func (r *run) play(ctx context.Context, callID string, webhook []byte) (jobs []string, err error) {
	webhook, err = simcall.Encrypt(webhook, r.encrypted, func() (*rsa.PublicKey, error) {
		return r.pipeline.ArgumentKey.Public(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot play the demonstration: %w", err)
	}
	body, err := simcall.Adopt(webhook, callID, "https://"+simcall.Host+"/"+callID+"/control")
	if err != nil {
		return nil, fmt.Errorf("cannot play the demonstration: %w", err)
	}
	response, err := r.post(ctx, body)
	if err != nil {
		return nil, fmt.Errorf("cannot post the demonstration's webhook: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer to the demonstration's webhook: %s",
			vapiclient.Unanswered(ctx, err))
	}
	var decoded struct{ Results []result }
	if response.StatusCode != http.StatusOK {
		return nil, errors.New("the demonstration's webhook was refused")
	}
	if err := json.Unmarshal(answer, &decoded); err != nil {
		return nil, fmt.Errorf("the answer to the demonstration's webhook is not JSON: %w", err)
	}
	message, err := vapi.ParseMessage(body)
	if err != nil {
		return nil, err
	}
	accepted := false
	for i, r := range decoded.Results {
		switch {
		case r.Result == "" && !r.data(): // refused, as the answer shows
			continue
		case r.Name == ack.TaskStatus, r.Name == ack.CancelTask:
		default:
			jobs = append(jobs, ack.JobID(callID, message.ToolCalls[i], i))
		}
		accepted = true
	}
	if !accepted {
		return nil, errors.New("none of the demonstration's tool calls was accepted")
	}
	return jobs, nil
}
