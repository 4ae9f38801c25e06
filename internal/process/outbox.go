package process

import (
	"context"

	"github.com/ringback/ringback/internal/queue"
)

// outbox sends the outcomes of a batch. An outcome never waits for one that
// is not ready; those that become ready while a request is under way share
// the next one.
type outbox struct {
	ctx   context.Context
	queue Queue
	ready chan letter
}

type letter struct {
	message queue.Message
	sent    chan<- error
}

func newOutbox(ctx context.Context, q Queue) *outbox {
	o := &outbox{ctx: ctx, queue: q, ready: make(chan letter, queue.MaxBatch)}
	go o.work()
	return o
}

// close ends the outbox. No send may follow.
func (o *outbox) close() { close(o.ready) }

// send queues a message and waits until it is queued.
func (o *outbox) send(m queue.Message) error {
	sent := make(chan error, 1)
	o.ready <- letter{message: m, sent: sent}
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
