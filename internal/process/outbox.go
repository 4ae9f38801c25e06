package process

import (
	"context"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// sendTimeout bounds a request to the results queue. An outcome that may not have been sent is sent
// again by the next receive of its job.
const sendTimeout = 10 * time.Second

// gatherTime is how long an outcome waits for those of its batch that become ready at the same time. Otherwise, the
// first of them would be sent alone, and the others would wait for its request.
const gatherTime = time.Millisecond

// outbox sends the outcomes of a batch, each in a message of its own. None waits for the tool of another one: those
// that become ready at the same time, or during a request, share the next request. The callback function coalesces
// them.
type outbox struct {
	ctx     context.Context
	queue   Queue
	others  func() bool // reports whether more than one message of the batch is being handled
	pending chan pendingMessage
}

type pendingMessage struct {
	message queue.Message
	sent    chan<- error
}

func newOutbox(ctx context.Context, q Queue, others func() bool) *outbox {
	o := &outbox{ctx: ctx, queue: q, others: others, pending: make(chan pendingMessage, queue.MaxBatch)}
	go o.work()
	return o
}

// close ends the outbox. Nothing must be sent after it.
func (o *outbox) close() { close(o.pending) }

// send queues a final outcome, and returns when it is queued.
func (o *outbox) send(outcome job.Outcome, delay time.Duration) error {
	message, err := messageOf(outcome, delay)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	o.pending <- pendingMessage{message: message, sent: sent}
	return <-sent
}

// sendAlone queues a progress line. No outcome waits for its request.
func (o *outbox) sendAlone(ctx context.Context, line job.Outcome, delay time.Duration) error {
	message, err := messageOf(line, delay)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return o.queue.Send(ctx, []queue.Message{message})[0]
}

func messageOf(outcome job.Outcome, delay time.Duration) (queue.Message, error) {
	body, err := outcome.Encode()
	return queue.Message{Body: body, Group: queue.Group(outcome.Call.ID), Delay: delay}, err
}

func (o *outbox) work() {
	for first := range o.pending {
		if o.others() {
			time.Sleep(gatherTime)
		}
		ready := []pendingMessage{first}
		for more := true; more && len(ready) < queue.MaxBatch; {
			select {
			case p, ok := <-o.pending:
				if more = ok; ok {
					ready = append(ready, p)
				}
			default:
				more = false
			}
		}
		messages := make([]queue.Message, len(ready))
		for i, p := range ready {
			messages[i] = p.message
		}
		ctx, cancel := context.WithTimeout(o.ctx, sendTimeout)
		for i, err := range o.queue.Send(ctx, messages) {
			ready[i].sent <- err
		}
		cancel()
	}
}
