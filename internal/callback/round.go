package callback

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// coalesce is how long an outcome waits at most for the others of its call in the batch: the time
// that their claims need. It is short compared with the lease of a delivery.
const coalesce = 2 * time.Second

type (
	// round is the outcomes of one call in one batch that are added to the conversation. They are
	// posted as one message, so that the assistant answers once, and not to each of them.
	round = batch.Round[contribution, map[string]sharedReceipt]
	// rounds are the rounds of a batch, by [member].
	rounds = map[string]*round
)

// contribution is the part of one outcome in a shared post.
type contribution struct {
	member string
	message
	lease time.Time         // when the lease of the outcome expires
	span  trace.SpanContext // of the delivery of the outcome
}

// sharedReceipt is the receipt of a post that contains one or more outcomes.
type sharedReceipt struct {
	vapiclient.Receipt
	outcomes     int               // 0 means that the outcome did not fit, so that it was not posted
	architecture vapi.Architecture // of the call, as far as it is known after the post
}

func roundsOf(event events.SQSEvent, all map[string]decoded) rounds {
	calls := make(map[string]string)
	for _, m := range event.Records {
		d := all[m.Body]
		if o := d.outcome; d.err == nil && o.AddsMessage() && len(o.With) == 0 {
			calls[m.MessageId] = o.Call.ControlURL + " " + string(o.Call.Architecture)
		}
	}
	return batch.Rounds[contribution, map[string]sharedReceipt](calls)
}

// separator is between the contents of merged messages.
const separator = "\n\n"

// merge merges several outcomes into one message. The assistant answers if one of them asks for it. fit
// is how many of them fit into the context.
func merge(all []contribution) (m message, fit int) {
	added, contents := vapi.AddMessage{Silent: true}, make([]string, len(all))
	context, characters := vapi.AppendContext{Kind: vapi.Thinking}, -len(separator)
	var contexts []string
	for i, c := range all {
		if classic, ok := c.classic.(vapi.AddMessage); ok {
			contents[i] = classic.Content
			added.Role, added.Silent = classic.Role, added.Silent && classic.Silent
		}
		characters += len(separator) + utf8.RuneCountInString(c.context.Content)
		if fit < i || c.context.Content == "" || characters > vapi.MaxContext {
			continue
		}
		fit++
		contexts = append(contexts, c.context.Content)
		if c.context.Kind != vapi.Thinking {
			context.Kind = c.context.Kind
		}
	}
	added.Content, context.Content = strings.Join(contents, separator), strings.Join(contexts, separator)
	return message{added, context}, fit
}

// postTogether posts several outcomes as one message, and returns the receipt of each. The first lease that
// expires bounds the post.
func (d *delivery) postTogether(ctx context.Context, all []contribution) map[string]sharedReceipt {
	m, fit := merge(all)
	shared := *d
	for _, c := range all {
		if c.lease.Before(shared.lease) {
			shared.lease = c.lease
		}
	}
	receipt, appended := shared.post(withLinks(ctx, all), m)
	d.outcome.Call.Architecture = shared.outcome.Call.Architecture
	receipts := make(map[string]sharedReceipt)
	for i, c := range all {
		shared := sharedReceipt{receipt, len(all), d.outcome.Call.Architecture}
		switch {
		case appended && i < fit:
			shared.outcomes = fit
		case appended:
			shared.outcomes = 0
		}
		receipts[c.member] = shared
	}
	return receipts
}
