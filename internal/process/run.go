package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
)

// overrun is how long a tool may take to notice that its time is up.
const overrun = time.Second

// failure is what a tool's error says.
type failure struct {
	reason   string        // for the operator
	argument string        // what the assistant is told of arguments that break the schema; empty where they do not
	spoken   string        // what the caller is told; empty means the tool's FailureText
	retry    bool          // another attempt may succeed
	after    time.Duration // how long to wait before it; 0 means that the tool does not say
}

func newFailure(err error) *failure {
	f := &failure{reason: err.Error(), retry: true}
	var argument *asynctool.ArgumentError
	var said *asynctool.Error
	switch {
	case errors.As(err, &argument):
		f.argument = argument.Message
	case errors.As(err, &said):
		f.spoken, f.retry, f.after = said.Spoken, said.Retry, max(said.After, 0)
		// The reason is logged, and what is told may repeat what the caller
		// said.
		cause := "the tool gives no cause"
		if said.Cause != nil {
			cause = said.Cause.Error()
		}
		f.reason = strings.Replace(f.reason, said.Error(), cause, 1)
	}
	return f
}

// ended is how a tool ended: with what is to be told, with when it goes on, or
// with why there is neither.
type ended struct {
	result  job.Result
	later   *later
	failure *failure
}

// call runs the tool within its timeout and the function's own, and says how it
// ended. A tool that does not come back in time is abandoned; one that panics
// has failed.
func (e *execution) call(ctx context.Context, call asynctool.Call) ended {
	tool, arguments := e.tool, e.job.Arguments
	timeout := tool.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)-shutdownMargin)
	}
	if timeout <= 0 {
		return ended{failure: newFailure(errors.New("the function's time was up before the tool could start"))}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the tool ran longer than %s", timeout))
	defer cancel()

	done := make(chan ended, 1)
	go func() {
		end := ended{failure: newFailure(errors.New("the tool ended its goroutine"))}
		defer func() {
			if p := recover(); p != nil {
				end = ended{failure: newFailure(fmt.Errorf("the tool panicked: %v\n%s", p, debug.Stack()))}
			}
			done <- end
		}()
		// What an error says, and what a result marshals to, is the tool's
		// code too. A nil pointer in an error is the usual way for it to
		// panic, so both are read here.
		result, err := tool.Run(ctx, call, arguments)
		switch {
		case err == nil && result.Later != nil:
			end.later, err = e.later(*result.Later)
		case err == nil:
			end.result, err = outcome(result)
		}
		end.failure = nil
		if err != nil {
			end.failure = newFailure(err)
		}
	}()

	select {
	case end := <-done:
		return end
	case <-ctx.Done():
	}
	// Most tools return as soon as their context ends, and know better than
	// we do what went wrong.
	select {
	case end := <-done:
		if end.failure != nil {
			end.failure.reason = context.Cause(ctx).Error() + ": " + end.failure.reason
		}
		return end
	case <-time.After(overrun):
		return ended{failure: newFailure(fmt.Errorf("%w and does not notice that its context ended", context.Cause(ctx)))}
	}
}

// later is when a tool that is not finished goes on.
func (e *execution) later(l asynctool.Later) (*later, error) {
	memory, err := l.Memory()
	if err != nil {
		return nil, err
	}
	now := e.cfg.Now()
	wait := l.In
	if !l.At.IsZero() {
		wait = max(l.At.Sub(now), 0)
	}
	return &later{at: now.Add(e.cfg.Waits(wait)), outside: l.Outside, memory: memory}, nil
}

// outcome is a tool's result as it is stored and told.
func outcome(r asynctool.Result) (job.Result, error) {
	if r.Action == nil {
		return job.Result{Status: job.StatusOK, Delivery: job.Delivery(r.Delivery), Content: spoken.Cut(r.Text)}, nil
	}
	text := spoken.Clean(r.Text)
	var message vapi.ControlMessage
	switch action := r.Action.(type) {
	case asynctool.Transfer:
		message = vapi.Transfer{Number: action.Number, SIPURI: action.SIPURI, Content: text}
	case asynctool.Handoff:
		destination, err := json.Marshal(action.Destination)
		if err != nil {
			return job.Result{}, fmt.Errorf("the handoff's destination: %w", err)
		}
		message = vapi.Handoff{Destination: destination, Content: text}
	case asynctool.EndCall:
		message = vapi.EndCall{}
		if text != "" {
			message = vapi.Say{Content: text, EndCallAfterSpoken: true}
		}
	case asynctool.Control:
		message = vapi.Control{Action: vapi.ControlAction(action)}
	default:
		return job.Result{}, fmt.Errorf("there is no action %T", action)
	}
	control, err := json.Marshal(message)
	if err != nil {
		return job.Result{}, fmt.Errorf("the result's action: %w", err)
	}
	return job.Result{Status: job.StatusOK, Delivery: job.DeliveryControl, Content: text, Control: control}, nil
}
