package callback

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi"
)

// gathering is how long an outcome waits at most for the others of its call in
// the batch: for as long as the table takes to give them out. It is short against
// the lease under which the outcome is told.
const gathering = 2 * time.Second

// round is the outcomes of one call that came in one batch. Those that are added
// to the conversation are posted as one message, so that the assistant answers
// once, and not to each of them.
type round struct {
	mu      sync.Mutex
	missing map[string]bool // by message id: who may still come
	whole   chan struct{}   // closed when nobody is missing
	letters []*letter
}

type letter struct {
	message vapi.AddMessage
	taken   bool
	receipt chan vapi.Receipt
}

// rounds are the rounds of a batch, by message id. Who is alone has none.
type rounds map[string]*round

func (h *Handler) rounds(event events.SQSEvent) rounds {
	ofCall := make(map[string][]string)
	for _, m := range event.Records {
		o, err := job.DecodeOutcome(m.Body)
		if err == nil && o.Kind == job.Final && (o.Result.Delivery == job.Respond || o.Result.Delivery == job.Silent) {
			ofCall[o.Call.ControlURL] = append(ofCall[o.Call.ControlURL], m.MessageId)
		}
	}
	all := make(rounds)
	for url, ids := range ofCall {
		if len(ids) < 2 || url == "" {
			continue
		}
		r := &round{missing: make(map[string]bool), whole: make(chan struct{})}
		for _, id := range ids {
			r.missing[id] = true
			all[id] = r
		}
	}
	return all
}

// leave says that a message has nothing to post, or has posted it. It is safe to
// call on nil, and more than once.
func (r *round) leave(id string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone(id)
}

// gone takes a message off the missing. r.mu is held.
func (r *round) gone(id string) {
	if !r.missing[id] {
		return
	}
	delete(r.missing, id)
	if len(r.missing) == 0 {
		close(r.whole)
	}
}

// post posts a message together with the others of the round, for which it
// waits no longer than it is told, and gives the receipt of all of them. One of
// those who wait posts for all.
func (r *round) post(ctx context.Context, calls Calls, id, controlURL string, m vapi.AddMessage, wait time.Duration) vapi.Receipt {
	mine := &letter{message: m, receipt: make(chan vapi.Receipt, 1)}
	r.mu.Lock()
	r.letters = append(r.letters, mine)
	r.gone(id)
	r.mu.Unlock()
	select {
	case <-r.whole:
	case <-time.After(wait):
	}

	r.mu.Lock()
	if mine.taken {
		r.mu.Unlock()
		return <-mine.receipt
	}
	together := r.letters
	r.letters = nil
	for _, l := range together {
		l.taken = true
	}
	r.mu.Unlock()

	receipt := vapi.Receipt{Verdict: vapi.TryAgain, Err: errors.New("the post was broken off")}
	// Whatever becomes of the post, nobody may be left waiting.
	defer func() {
		for _, l := range together {
			l.receipt <- receipt
		}
	}()
	receipt = calls.Post(ctx, controlURL, merge(together))
	return receipt
}

// merge makes one message of several. The assistant answers where one of them
// wants it to.
func merge(letters []*letter) vapi.AddMessage {
	all := letters[0].message
	contents := make([]string, len(letters))
	for i, l := range letters {
		contents[i] = l.message.Content
		all.Silent = all.Silent && l.message.Silent
	}
	all.Content = strings.Join(contents, "\n\n")
	return all
}
