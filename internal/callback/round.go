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

// gathering is how long an outcome waits at most for the others of its call in
// the batch: for as long as the table takes to give them out. It is short against
// the lease under which the outcome is told.
const gathering = 2 * time.Second

type (
	// round is the outcomes of one call that came in one batch. Those that are
	// added to the conversation are posted as one message, so that the
	// assistant answers once, and not to each of them.
	round = batch.Round[vapi.AddMessage, vapiclient.Receipt]
	// rounds are the rounds of a batch, by [member].
	rounds = map[string]*round
)

// member names an outcome of a batch: the part of a message.
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
	return batch.Rounds[vapi.AddMessage, vapiclient.Receipt](calls)
}

// merge makes one message of several. The assistant answers where one of them
// wants it to.
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
