// Package eventbus sends undelivered events to an Amazon EventBridge bus. Rules on the bus
// can turn them into text messages, e-mails or phone calls.
package eventbus

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/ringback/ringback/internal/job"
)

const (
	// Source is the source of every event.
	Source = "ringback"
	// Undelivered is the detail type of an outcome that could not be delivered. The
	// detail is a [job.Undelivered].
	Undelivered = "undelivered"
)

// Client is the part of an EventBridge client that a [Bus] uses.
type Client interface {
	PutEvents(
		context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options),
	) (*eventbridge.PutEventsOutput, error)
}

// Bus is an event bus.
type Bus struct {
	client Client
	name   string
}

// New returns the bus with a name or ARN.
func New(client Client, name string) *Bus { return &Bus{client: client, name: name} }

// maxDetail is the largest detail in bytes. EventBridge refuses entries of more than
// 256 KB (Amazon EventBridge user guide, "Calculating PutEvents event entry size"), and so
// does SNS with messages.
const maxDetail = 240 << 10

// SendUndelivered sends the event of an outcome that could not be delivered. It drops a
// control message that is too large for an event, and says so in the detail.
func (b *Bus) SendUndelivered(ctx context.Context, u job.Undelivered) error {
	detail, err := json.Marshal(u)
	if err == nil && len(detail) > maxDetail && u.Control != nil {
		u.Detail += fmt.Sprintf(" (its control message of %d bytes is too large for an event)", len(u.Control))
		u.Control = nil
		detail, err = json.Marshal(u)
	}
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	out, err := b.client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{
		EventBusName: aws.String(b.name),
		Source:       aws.String(Source),
		DetailType:   aws.String(Undelivered),
		Time:         aws.Time(u.At),
		Detail:       aws.String(string(detail)),
	}}})
	if err != nil {
		return fmt.Errorf("put event on bus %s: %w", b.name, err)
	}
	// The request can succeed although its entry fails.
	for _, entry := range out.Entries {
		if entry.ErrorCode != nil {
			return fmt.Errorf("put event on bus %s: %s: %s", b.name, *entry.ErrorCode, aws.ToString(entry.ErrorMessage))
		}
	}
	if out.FailedEntryCount > 0 {
		return fmt.Errorf("put event on bus %s: refused without a reason", b.name)
	}
	return nil
}
