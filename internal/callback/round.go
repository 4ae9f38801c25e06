package callback

import (
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// coalesce is how long an outcome waits at most for the others of its call in the batch: the time
// that their claims need. It is short compared with the lease of a delivery.
const coalesce = 2 * time.Second

type (
	// round is the outcomes of one call in one batch that are added to the conversation. They are
	// posted as one message, so that the assistant answers once, and not to each of them.
	round = batch.Round[vapi.AddMessage, sharedReceipt]
	// rounds are the rounds of a batch, by [member].
	rounds = map[string]*round
)

// sharedReceipt is the receipt of a post that contains one or more outcomes.
type sharedReceipt struct {
	vapiclient.Receipt
	outcomes int
}

// member returns the name of an outcome in a batch: its message, and its part of that message.
func member(message events.SQSMessage, part int) string {
	return message.MessageId + "#" + strconv.Itoa(part)
}

func roundsOf(event events.SQSEvent) rounds {
	calls := make(map[string]string)
	for _, m := range event.Records {
		o, err := job.DecodeOutcome(m.Body)
		if err != nil {
			continue
		}
		for part, o := range o.All() {
			if o.AddsMessage() {
				calls[member(m, part)] = o.Call.ControlURL
			}
		}
	}
	return batch.Rounds[vapi.AddMessage, sharedReceipt](calls)
}

// merge merges several messages into one. The assistant answers if one of them asks for it.
func merge(messages []vapi.AddMessage) vapi.AddMessage {
	all := messages[0]
	contents := make([]string, len(messages))
	for i, m := range messages {
		contents[i] = m.Content
		all.Silent = all.Silent && m.Silent
	}
	all.Content = strings.Join(contents, "\n\n")
	return all
}
