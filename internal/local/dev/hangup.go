package dev

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// liveCalls are the simulated calls whose tool calls the run has received, and which have not ended.
type liveCalls struct {
	mu    sync.Mutex
	calls []vapi.Call
}

// received adds the call of a webhook, or removes it if the webhook says that it has ended.
func (l *liveCalls) received(m vapi.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.IndexFunc(l.calls, func(c vapi.Call) bool { return c.ID == m.Call.ID })
	switch {
	case m.CallEnded() && at >= 0:
		l.calls = slices.Delete(l.calls, at, at+1)
	case at < 0 && len(m.ToolCalls) > 0 && m.Call.ID != "" && m.Call.Type != "chat":
		l.calls = append(l.calls, m.Call)
	}
}

func (l *liveCalls) all() []vapi.Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

// hangUps ends the simulated calls each time that it is asked to, until ctx ends.
func (r *run) hangUps(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-r.cfg.HangUp:
			if !ok {
				return
			}
		}
		if err := r.hangUp(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "cannot hang up", "error", err)
		}
	}
}

// hangUp posts what Vapi posts when the callers of the simulated calls hang up.
func (r *run) hangUp(ctx context.Context) error {
	calls := slices.DeleteFunc(r.live.all(), func(c vapi.Call) bool { return !r.calls.simulates(c.ControlURL) })
	if len(calls) == 0 {
		r.terminal.say("No simulated call is live.")
		return nil
	}
	var errs []error
	for _, call := range calls {
		errs = append(errs, r.endCall(ctx, call))
	}
	return errors.Join(errs...)
}

// endCall posts what Vapi posts when the caller of a call hangs up.
func (r *run) endCall(ctx context.Context, call vapi.Call) error {
	body, err := simcall.Ended(call, time.Now())
	if err != nil {
		return err
	}
	answer, err := r.post(ctx, body)
	if err == nil {
		answer.Body.Close()
	}
	return err
}

// post posts a webhook to the run, with its credential. The body of the answer must be closed.
func (r *run) post(ctx context.Context, body []byte) (*http.Response, error) {
	signed := vapiauth.Request{
		Method: http.MethodPost, URL: "https://" + r.address() + "/vapi", Header: make(http.Header), Body: body,
	}
	if err := r.plans[0].Sign(&signed, time.Now()); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.address()+"/vapi", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header = signed.Header
	request.Header.Set("Content-Type", "application/json")
	// At its end, the run stops listening before it stops working. Another program may then listen at the address.
	response, err := operator.ProvenTransport(r.token).RoundTrip(request)
	if err != nil {
		return nil, errors.New(vapiclient.Unanswered(ctx, err))
	}
	return response, nil
}
