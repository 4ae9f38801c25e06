package process

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// coalesce is how long an outcome waits for others of its call in the batch, so that the assistant
// gets them together and answers once. A caller does not notice this delay after minutes of work.
const coalesce = 250 * time.Millisecond

// sendTimeout bounds a request to the results queue. An outcome that may not have been sent is sent
// again by the next receive of its job.
const sendTimeout = 10 * time.Second

// outbox sends the outcomes of a batch. An outcome waits only a moment, and only for outcomes of
// the same call. The outcomes that become ready during a request share the next one.
type outbox struct {
	ctx     context.Context
	queue   Queue
	pending chan pendingMessage
	rounds  map[string]*batch.Round[job.Outcome, error] // by message id
}

type pendingMessage struct {
	message queue.Message
	sent    chan<- error
}

func newOutbox(ctx context.Context, q Queue, event events.SQSEvent) *outbox {
	calls := make(map[string]string)
	for _, m := range event.Records {
		if group := m.Attributes["MessageGroupId"]; group != sweepGroup { // see [queue.Group]
			calls[m.MessageId] = group
		}
	}
	o := &outbox{
		ctx: ctx, queue: q, pending: make(chan pendingMessage, queue.MaxBatch),
		rounds: batch.Rounds[job.Outcome, error](calls),
	}
	go o.work()
	return o
}

// close ends the outbox. Nothing must be sent after it.
func (o *outbox) close() { close(o.pending) }

// done records that no outcome of a message's job will follow.
func (o *outbox) done(m events.SQSMessage) { o.rounds[m.MessageId].Leave(m.MessageId) }

var errSendPanicked = errors.New("sending the outcomes panicked")

// sendTogether sends the outcome of a message's job. Outcomes of the same call that are ready at
// the same time share its message. An outcome with a delay may become the answer to the webhook
// meanwhile, so it shares none.
func (o *outbox) sendTogether(m events.SQSMessage, outcome job.Outcome, delay time.Duration) error {
	if delay > 0 || !outcome.AddsMessage() {
		return o.send(outcome, delay)
	}
	return o.rounds[m.MessageId].Together(m.MessageId, outcome, coalesce, func(all []job.Outcome) error {
		one := all[0]
		one.With = all[1:]
		return o.send(one, 0)
	}, errSendPanicked)
}

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
