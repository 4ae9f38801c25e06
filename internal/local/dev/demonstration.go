package dev

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi/vapiauth"
)

const (
	// look is how often the demonstration looks how far its jobs are.
	look = 20 * time.Millisecond

	// patience is how much longer than the simulated shop needs the second act
	// waits: a shop of one's own may take days.
	patience = 10 * time.Second
)

// demonstrate plays a call. In its first act a tool is slow; in the second one
// somebody has to approve something.
func (r *run) demonstrate(ctx context.Context) error {
	callID := "demo-" + rand.Text()[:8]
	r.terminal.say("A caller asks the assistant for something slow, and Vapi posts the tool call:\n")
	jobs, _, err := r.play(ctx, callID, r.cfg.Demo)
	if err != nil {
		return err
	}
	waits, err := r.watchFor(ctx, jobs, func(record job.Record) bool { return over(record) || record.State == job.StateWaiting })
	switch {
	case err != nil:
		return err
	case waits.State == job.StateWaiting:
		r.terminal.say("\n%s", good("The tool is not finished: it waits until "+moment(waits.WakeAt)+" at the latest. Nothing runs meanwhile."))
	default:
		r.terminal.say("\n%s", good("The assistant has the result, and the caller never waited."))
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
		r.terminal.say("\n%s", warning("Nobody has answered yet. The job goes on waiting, and the answer is shown when it comes."))
		return nil
	}
	return err
}

func (r *run) approval(ctx context.Context, callID string) error {
	r.terminal.say("\nIn the same call, the caller asks for something that only a person can approve:\n")
	jobs, _, err := r.play(ctx, callID, r.cfg.Approval)
	if err != nil {
		return err
	}
	waits, err := r.watchFor(ctx, jobs, func(record job.Record) bool { return over(record) || record.State == job.StateWaiting })
	if err != nil || over(waits) {
		return err
	}
	r.terminal.say("\n%s\n", good("It waits for an answer from outside, until "+moment(waits.WakeAt)+" at the latest. Nothing runs meanwhile, and the assistant talks on."))
	if _, err := r.watchFor(ctx, jobs, func(record job.Record) bool {
		return over(record) || record.ProgressDelivered > 0 && record.ProgressLeaseExpiry.IsZero()
	}); err != nil {
		return err
	}
	if r.cfg.Status != nil {
		r.terminal.say("\nThe caller asks how far it is, and Vapi posts that:\n")
		_, answers, err := r.play(ctx, callID, r.cfg.Status)
		if err != nil {
			return err
		}
		for _, text := range answers {
			r.terminal.line("answer", spoken("what the assistant knows now, at once"))
			r.terminal.quote(text)
		}
		r.terminal.say("")
	}
	if _, err := r.watchFor(ctx, jobs, over); err != nil {
		return err
	}
	r.terminal.say("\n%s", good("The answer came from outside, and the assistant has it."))
	return nil
}

// over says whether all has become of a job that ever will.
func over(r job.Record) bool { return !r.State.Active() && r.State != job.StateDone }

// watchFor waits until all the jobs are as far as that, and gives the last of
// them.
func (r *run) watchFor(ctx context.Context, ids []string, far func(job.Record) bool) (last job.Record, err error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for _, id := range ids {
		for {
			// There is no record before the job is claimed.
			if last, err = r.pipeline.Table.Load(ctx, id); err == nil && far(last) {
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

// play posts a webhook as one of the call, and gives the jobs that it makes, and
// what it answers.
func (r *run) play(ctx context.Context, callID string, webhook []byte) (jobs, answers []string, err error) {
	body, err := simcall.Adopt(webhook, callID, "https://"+simcall.Host+"/"+callID+"/control")
	if err != nil {
		return nil, nil, fmt.Errorf("the demonstration cannot be played: %w", err)
	}
	signed := vapiauth.Request{Method: http.MethodPost, URL: "https://" + r.address() + "/vapi", Header: make(http.Header), Body: body}
	if err := r.plans[0].Sign(&signed, time.Now()); err != nil {
		return nil, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.address()+"/vapi", strings.NewReader(string(body)))
	if err != nil {
		return nil, nil, err
	}
	request.Header = signed.Header
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, fmt.Errorf("the demonstration's webhook: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("the demonstration's webhook: %w", err)
	}
	r.terminal.line("answer", response.Status+"  "+faint(excerpt(string(answer))))
	var decoded struct {
		Results []struct{ Name, ToolCallID, Result string }
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, errors.New("the demonstration's webhook was refused")
	}
	if err := json.Unmarshal(answer, &decoded); err != nil {
		return nil, nil, fmt.Errorf("the demonstration's webhook was answered with no JSON: %w", err)
	}
	for _, result := range decoded.Results {
		switch {
		case result.Result == "": // it was refused, which the answer says
		case result.Name == ack.TaskStatus:
			answers = append(answers, result.Result)
		default:
			jobs = append(jobs, job.ID(callID, result.ToolCallID))
		}
	}
	if len(jobs)+len(answers) == 0 {
		return nil, nil, errors.New("none of the demonstration's tool calls was accepted")
	}
	return jobs, answers, nil
}
