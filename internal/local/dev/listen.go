package dev

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/console"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// Source is a queue of a deployment's jobs.
type Source interface {
	// Receive waits for some seconds, and returns up to most messages.
	Receive(ctx context.Context, most int) ([]events.SQSMessage, error)
	// Delete deletes a received message.
	Delete(ctx context.Context, receipt string) error
}

// Handle handles the messages of a queue, as a function does.
type Handle func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)

// ListenConfig configures a listener. Drain, Live, Width and Notes are optional.
type ListenConfig struct {
	Stack   string   // the name of the stack whose jobs are handled
	Sources []Source // its jobs queues
	Notes   []string // what the user should know at the start

	// Handler returns the handler of the messages, which logs to log. It also returns how long after the death of the
	// process the jobs of running tools have returned to their queues.
	Handler func(log *slog.Logger) (handle Handle, recovery time.Duration, err error)

	// Timeout bounds the handling of one message, as a function's timeout does.
	Timeout time.Duration

	// Breakpoints is how long a tool may stand in a breakpoint.
	Breakpoints time.Duration

	// Verbose shows what the handler logs as it logs it.
	Verbose bool

	// Drain is how long an interrupted listener finishes what it has received. 0 means 30 s.
	Drain time.Duration

	Out   io.Writer  // where the listener is shown
	Live  bool       // Out is a terminal, on which lines can be overwritten
	Width func() int // of the terminal, in cells; nil means unknown
}

const (
	// mostHandled is how many messages of one queue are handled at the same time.
	mostHandled = 10

	// A message that was handled is deleted with some tries. If it returns, its job has ended.
	deleteTries   = 3
	deleteTimeout = 10 * time.Second // of one try

	firstReceiveDelay = time.Second // after a receive that failed
	maxReceiveDelay   = 30 * time.Second
)

// Listen handles the jobs of a deployment until ctx ends: it receives from the jobs queues and deletes what was
// handled, as Lambda's event source mapping does. Then it receives no more jobs, and finishes those that it has
// received, until hurry ends. What is not finished by then returns to its queue. If the first receive from a queue
// fails, Listen returns the error.
func Listen(ctx, hurry context.Context, cfg ListenConfig) error {
	screen := console.Config{Out: cfg.Out, Live: cfg.Live, Width: cfg.Width}
	l := &listener{cfg: cfg, terminal: newTerminal(screen, cfg.Verbose), running: make(map[*handling]bool)}
	l.terminal.listener = true
	l.log = slog.New(l.terminal)
	var err error
	if l.handle, l.recovery, err = cfg.Handler(l.log.With("function", "process")); err != nil {
		return err
	}
	l.welcome()
	watching, blind := context.WithCancel(context.WithoutCancel(ctx))
	defer blind()
	go l.terminal.watch(watching, l.records)

	receiving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var sources sync.WaitGroup
	for _, s := range cfg.Sources {
		sources.Go(func() {
			if err := l.receive(receiving, s); err != nil {
				stop(err)
			}
		})
	}
	sources.Wait()
	l.drain(hurry, ctx.Err() != nil)
	if err := context.Cause(receiving); ctx.Err() == nil {
		return err
	}
	return nil
}

// listener handles the jobs of a deployment.
type listener struct {
	cfg      ListenConfig
	terminal *terminal
	log      *slog.Logger
	handle   Handle
	recovery time.Duration

	handled sync.WaitGroup
	mu      sync.Mutex
	running map[*handling]bool
}

// handling is a message that is being handled.
type handling struct {
	jobID string // as in the logs; empty if the message is about no job
	tool  string // empty if it is unknown
	began time.Time
}

func (l *listener) welcome() {
	l.terminal.Print(nil, nil, console.Text{Text: "The tools of this project run the jobs of the stack:", Paint: bold},
		console.Plain("  "+l.cfg.Stack))
	text := fmt.Sprintf("If this process is killed, running tools start again within %s.", span(l.recovery))
	if l.cfg.Breakpoints > 0 {
		text = fmt.Sprintf("A tool may stand in a breakpoint for %s. ", span(l.cfg.Breakpoints)) + text
	}
	l.terminal.say("%s", text)
	for _, note := range l.cfg.Notes {
		l.terminal.Print(nil, nil, console.Text{Text: note, Paint: warning})
	}
	l.terminal.say("Press Ctrl-C to stop.\n")
}

// receive receives messages of a queue and handles them, until ctx ends. Its error is that of the first receive. Later
// errors are shown, and receive tries again: credentials expire, and a machine loses its network.
func (l *listener) receive(ctx context.Context, s Source) error {
	slots := make(chan struct{}, mostHandled)
	began, shown := false, ""
	for delay := firstReceiveDelay; ; {
		free := take(ctx, slots, queue.MaxBatch)
		if free == 0 {
			return nil
		}
		messages, err := s.Receive(ctx, free)
		for range free - len(messages) {
			<-slots
		}
		for _, m := range messages {
			l.begin(ctx, s, m, func() { <-slots })
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if shown != "" {
				l.log.WarnContext(ctx, "jobs are received again")
			}
			began, shown, delay = true, "", firstReceiveDelay
			continue
		case !began:
			return err
		case err.Error() != shown:
			shown = err.Error()
			l.log.ErrorContext(ctx, "cannot receive jobs; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, maxReceiveDelay)
	}
}

// take takes up to most free slots, and waits for the first one. It returns how many it took, 0 if ctx ended before.
func take(ctx context.Context, slots chan struct{}, most int) (n int) {
	select {
	case slots <- struct{}{}:
		n++
	case <-ctx.Done():
		return 0
	}
	for n < most {
		select {
		case slots <- struct{}{}:
			n++
		default:
			return n
		}
	}
	return n
}

// begin begins to handle a message, and calls end when that has ended. Messages do not wait for each other, so each is
// an event of its own.
func (l *listener) begin(ctx context.Context, s Source, m events.SQSMessage, end func()) {
	h := l.handling(m)
	l.mu.Lock()
	l.running[h] = true
	l.mu.Unlock()
	l.handled.Go(func() {
		defer end()
		defer func() {
			l.mu.Lock()
			delete(l.running, h)
			l.mu.Unlock()
		}()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.Timeout)
		defer cancel()
		response, err := l.handle(ctx, events.SQSEvent{Records: []events.SQSMessage{m}})
		switch {
		case err != nil:
			l.log.ErrorContext(ctx, "cannot handle message; it returns", "message_id", m.MessageId, "error", err)
		case len(response.BatchItemFailures) == 0:
			l.delete(context.WithoutCancel(ctx), s, m)
		}
	})
}

// handling describes a message. The terminal then knows the tool call of a job.
func (l *listener) handling(m events.SQSMessage) *handling {
	h := &handling{began: time.Now()}
	decoded, _ := job.DecodeMessage(m.Body) // the handler reports a message that cannot be read
	switch m := decoded.(type) {
	case job.Job:
		h.jobID, h.tool = job.ShownID(m.ID), m.Tool
		l.terminal.received(h.jobID, m.Tool, job.CallHash(m.Call.ID))
	case job.WakeUp:
		h.jobID = job.ShownID(m.JobID)
	case job.Post:
		h.jobID = job.ShownID(m.JobID)
	}
	return h
}

func (l *listener) delete(ctx context.Context, s Source, m events.SQSMessage) {
	for n := 1; ; n++ {
		ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
		err := s.Delete(ctx, m.ReceiptHandle)
		cancel()
		if err == nil {
			return
		}
		if n == deleteTries {
			l.log.WarnContext(ctx, "cannot delete message; it returns, and nothing follows from it",
				"message_id", m.MessageId, "error", err)
			return
		}
	}
}

// records returns the jobs whose tools run, as the terminal shows them.
func (l *listener) records() (records []job.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for h := range l.running {
		if l.terminal.toolCallOf(h.jobID, h.tool).label != "" {
			records = append(records, job.Record{
				ID: h.jobID, Tool: h.tool, State: job.StateRunning, Owner: "listener", Created: h.began, Updated: h.began,
			})
		}
	}
	return records
}

// drain finishes what was received. If the listener was interrupted, it says so.
func (l *listener) drain(hurry context.Context, interrupted bool) {
	most := cmp.Or(l.cfg.Drain, maxDrain)
	bounded, cancel := context.WithTimeout(hurry, most)
	defer cancel()
	finished := make(chan struct{})
	go func() {
		l.handled.Wait()
		close(finished)
	}()
	if pending := l.pending(); pending != nil {
		l.terminal.say("\nNo more jobs are received. Waiting at most %s for:", span(most))
		for _, p := range pending {
			l.terminal.say("- %s", p)
		}
		l.terminal.say("Press Ctrl-C again to stop now.\n")
	}
	select {
	case <-finished:
		if interrupted {
			l.terminal.say("Everything that was received is finished.")
		}
		return
	case <-bounded.Done():
	}
	l.terminal.say("Stopped. Nothing is lost: these jobs return to their queue, and run again within %s: %s.",
		span(l.recovery), strings.Join(l.pending(), "; "))
}

// pending describes what is being handled, a few tool calls at most. Nil means that there is nothing.
func (l *listener) pending() (texts []string) {
	for _, r := range inOrder(l.records()) {
		texts = append(texts, l.terminal.toolCallOf(r.ID, r.Tool).label+runningFor(r))
	}
	l.mu.Lock()
	others := len(l.running) - len(texts)
	l.mu.Unlock()
	if more := len(texts) - maxPending; more > 0 {
		texts = append(texts[:maxPending], fmt.Sprintf("%d more", more))
	}
	if others > 0 {
		texts = append(texts, count(others, "message", "messages"))
	}
	return texts
}
