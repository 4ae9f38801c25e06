// Package eventbus announces what could not be delivered on an Amazon
// EventBridge bus, where rules turn it into a text, an e-mail or a call back.
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
	// Undelivered is the detail type of an outcome that could not be
	// delivered; the detail is a [job.Announcement].
	Undelivered = "undelivered"
)

// Client is what is needed of an EventBridge client.
type Client interface {
	PutEvents(context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error)
}

// Bus is an event bus.
type Bus struct {
	client Client
	name   string
}

// New makes the bus of a bus name or ARN.
func New(client Client, name string) *Bus { return &Bus{client: client, name: name} }

// maxDetail is how large a detail may be, in bytes. An entry is refused beyond
// 256 KB (Amazon EventBridge user guide, "Calculating PutEvents event entry
// size"), and so is a message to SNS.
const maxDetail = 240 << 10

// Announce makes an outcome known that could not be delivered. A control
// message that is too large for an event is left out.
func (b *Bus) SendUndelivered(ctx context.Context, u job.Undelivered) error {
	detail, err := json.Marshal(u)
	if err == nil && len(detail) > maxDetail && u.Control != nil {
		u.Detail += fmt.Sprintf(" (its control message, of %d bytes, is too large for an event)", len(u.Control))
		u.Control = nil
		detail, err = json.Marshal(u)
	}
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	out, err := b.client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{
		EventBusName: aws.String(b.name),
		Source:       aws.String(Source),
		DetailType:   aws.String(Undelivered),
		Time:         aws.Time(u.At),
		Detail:       aws.String(string(detail)),
	}}})
	if err != nil {
		return fmt.Errorf("put an event on bus %s: %w", b.name, err)
	}
	// The request can succeed although its entry did not.
	for _, entry := range out.Entries {
		if entry.ErrorCode != nil {
			return fmt.Errorf("put an event on bus %s: %s: %s", b.name, *entry.ErrorCode, aws.ToString(entry.ErrorMessage))
		}
	}
	if out.FailedEntryCount > 0 {
		return fmt.Errorf("put an event on bus %s: it was refused without a reason", b.name)
	}
	return nil
}
