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

// outbox sends the outcomes of a batch. An outcome never waits for one that
// is not ready, but for those of its own call, and for those only a moment;
// those that become ready while a request is under way share the next one.
type outbox struct {
	ctx    context.Context
	queue  Queue
	ready  chan letter
	rounds map[string]*batch.Round[job.Outcome, error] // by message id
}

type letter struct {
	message queue.Message
	sent    chan<- error
}

// gathering is how long an outcome waits for others of its call in the batch, so
// that the assistant hears of them together and answers once. Nobody notices it
// after a work of minutes.
const gathering = 250 * time.Millisecond

func newOutbox(ctx context.Context, q Queue, event events.SQSEvent) *outbox {
	calls := make(map[string]string)
	for _, m := range event.Records {
		calls[m.MessageId] = m.Attributes["MessageGroupId"] // see [queue.Group]
	}
	o := &outbox{ctx: ctx, queue: q, ready: make(chan letter, queue.MaxBatch), rounds: batch.Rounds[job.Outcome, error](calls)}
	go o.work()
	return o
}

// close ends the outbox. No send may follow.
func (o *outbox) close() { close(o.ready) }

// leave says that a message's job has no outcome to send any more.
func (o *outbox) leave(m events.SQSMessage) { o.rounds[m.MessageId].Leave(m.MessageId) }

// tell sends the outcome of a message's job, together with those of the same
// call that are ready too.
func (o *outbox) tell(m events.SQSMessage, outcome job.Outcome) error {
	if !outcome.AddsMessage() {
		return o.send(outcome, 0)
	}
	return o.rounds[m.MessageId].Together(m.MessageId, outcome, gathering, func(all []job.Outcome) error {
		one := all[0]
		one.With = all[1:]
		return o.send(one, 0)
	}, errBrokenOff)
}

var errBrokenOff = errors.New("the sending was broken off")

// send queues an outcome, and waits until it is queued.
func (o *outbox) send(outcome job.Outcome, delay time.Duration) error {
	body, err := outcome.Encode()
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	o.ready <- letter{message: queue.Message{Body: body, Group: queue.Group(outcome.Call.ID), Delay: delay}, sent: sent}
	return <-sent
}

func (o *outbox) work() {
	for first := range o.ready {
		letters := []letter{first}
		for more := true; more && len(letters) < queue.MaxBatch; {
			select {
			case l, ok := <-o.ready:
				if more = ok; ok {
					letters = append(letters, l)
				}
			default:
				more = false
			}
		}
		messages := make([]queue.Message, len(letters))
		for i, l := range letters {
			messages[i] = l.message
		}
		for i, err := range o.queue.Send(o.ctx, messages) {
			letters[i].sent <- err
		}
	}
}
