package process

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// hold has the caller told, in a while, that the job takes longer. The message
// waits on the results queue, where it outlives this function; the callback
// function leaves it away if the job is over by then.
func (e *execution) hold(ctx context.Context) {
	if e.tool.Hold == "" || e.record.WakeUp > 0 || e.record.Attempt > 1 || e.job.Call.Chat() {
		return
	}
	// The clocks of two functions may differ.
	after := min(max(e.tool.HoldAfter-e.cfg.Now().Sub(e.job.ReceivedAt), 0), queue.MaxDelay)
	if err := e.send(e.job.ProgressOutcome(0, e.tool.Hold, false, e.record.Deadline), after); err != nil {
		e.log.WarnContext(ctx, "the caller is not told that the job takes longer", "error", err)
	}
}

// host is what a running tool can ask of the function. It implements
// [asynctool.Host].
type host struct {
	execution *execution
	record    job.Record      // the errand's own goes on while an abandoned tool still asks
	ctx       context.Context // of the invocation, which outlives the tool's
	lines     chan line       // the last line that is not told yet
	stop      chan struct{}
	done      chan struct{}
}

type line struct {
	text   string
	silent bool
}

func newHost(ctx context.Context, e *execution) *host {
	h := &host{execution: e, record: e.record, ctx: ctx, lines: make(chan line, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go h.work()
	return h
}

// Progress implements [asynctool.Host]. The tool does not wait for it.
func (h *host) Progress(_ context.Context, text string, delivery asynctool.Delivery) {
	if text == "" {
		return
	}
	l := line{text: text, silent: delivery == asynctool.Silent}
	for {
		select {
		case <-h.stop: // an abandoned tool has nothing to say any more
			return
		case h.lines <- l:
			return
		default:
		}
		select {
		case <-h.lines:
		default:
		}
	}
}

// CompletionURL implements [asynctool.Host].
func (h *host) CompletionURL(ctx context.Context) (string, error) {
	e := h.execution
	if e.cfg.Completions == nil {
		return "", errors.New("there is no completion URL: COMPLETION_URL is not set")
	}
	if err := e.fits(); err != nil {
		return "", err
	}
	if _, err := e.cfg.Table.ChangeClaimed(ctx, h.record, job.StoreJob(e.cfg.Now(), e.job)); err != nil {
		return "", err
	}
	return e.cfg.Completions.URL(ctx, h.record.ID, h.record.Deadline)
}

// work tells one line after the other, not too fast.
func (h *host) work() {
	defer close(h.done)
	for {
		select {
		case <-h.stop:
			return
		case l := <-h.lines:
			if !h.tell(l) {
				return
			}
		}
	}
}

// tell notes a line, and sends it on its way. It waits where it would come too
// soon, unless the tool ends meanwhile. It gives false where nothing more is to
// be told.
func (h *host) tell(l line) bool {
	e := h.execution
	for {
		record, err := e.cfg.Table.Change(h.ctx, e.record.ID, job.AddProgress(e.cfg.Now(), l.text))
		var soon *job.TooSoonError
		switch {
		case errors.As(err, &soon):
			select {
			case <-h.stop:
				// For whoever ends the host to see.
				select {
				case h.lines <- l:
				default:
				}
				return false
			case next := <-h.lines:
				l = next
				continue
			case <-time.After(soon.Until.Sub(e.cfg.Now())):
				continue
			}
		case err == nil && e.job.Call.Chat():
			// It is there for who asks. A chat would answer to it.
		case err == nil:
			err = e.send(e.job.ProgressOutcome(record.Progress.Sequence, record.Progress.Text, l.silent, record.Deadline), 0)
		}
		if err != nil {
			e.log.LogAttrs(h.ctx, slog.LevelWarn, "a progress line is not told", slog.Any("error", err))
		}
		return !errors.Is(err, job.ErrFinished)
	}
}

// close ends the host, when the tool has ended. A line that was not told yet
// is told where the job goes on, unless it came too soon; the result makes up
// for it otherwise.
func (h *host) close(goesOn bool) {
	close(h.stop)
	<-h.done
	if !goesOn {
		return
	}
	select {
	case l := <-h.lines:
		h.tell(l)
	default:
	}
}

// watchEvery is how often it is looked whether a running tool's work is still
// wanted. Two small reads each time are what it costs.
const watchEvery = 5 * time.Second

var (
	errEnded     = errors.New("the job was ended by others")
	errCallEnded = errors.New("the call has ended")
)

// watch ends the tool's context when the job is not its own any more, or when
// its call has ended, where it wants to stop then. What it gives is closed when
// it has ended itself, which it does with the context.
func (e *execution) watch(ctx context.Context, stop context.CancelCauseFunc) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			// What cannot be read is read the next time.
			if r, err := e.cfg.Table.Load(ctx, e.record.ID); err == nil && !r.OwnedAs(e.record) {
				stop(errEnded)
			}
			if e.tool.StopWithCall {
				if live, err := e.cfg.CallTracker.Live(ctx, e.job.Call.ID, e.cfg.Now()); err == nil && !live {
					stop(errCallEnded)
				}
			}
		}
	}()
	return done
}
