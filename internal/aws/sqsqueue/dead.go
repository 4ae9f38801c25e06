package sqsqueue

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ringback/ringback/internal/queue"
)

// DeadClient is the part of an SQS client that [DeadLetters] uses.
type DeadClient interface {
	Client
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessage(context.Context, *sqs.DeleteMessageInput, ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error)
	GetQueueAttributes(
		context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options),
	) (*sqs.GetQueueAttributesOutput, error)
}

// DeadLetters is a dead-letter queue. The functions neither need it nor have the permissions.
type DeadLetters struct {
	*Queue
	client DeadClient
}

// NewDeadLetters returns the dead-letter queue with a URL.
func NewDeadLetters(client DeadClient, url string) *DeadLetters {
	return &DeadLetters{Queue: New(client, url), client: client}
}

// dry is for how long a receive waits for a message, in seconds. One that waits asks all servers of the queue, so if
// it returns nothing, no message is visible (Amazon SQS developer guide, "Short and long polling").
const dry = 1

// Receive returns up to most messages, and hides them for a while. It returns none if no message is visible.
func (d *DeadLetters) Receive(ctx context.Context, most int, hide time.Duration) ([]queue.DeadLetter, error) {
	out, err := d.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:                    aws.String(d.url),
		MaxNumberOfMessages:         int32(min(most, queue.MaxBatch)),
		VisibilityTimeout:           int32((hide + time.Second - 1) / time.Second),
		WaitTimeSeconds:             dry,
		MessageAttributeNames:       []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", d.url, err)
	}
	letters := make([]queue.DeadLetter, len(out.Messages))
	for i, m := range out.Messages {
		letters[i] = queue.DeadLetter{
			ID: aws.ToString(m.MessageId), Receipt: aws.ToString(m.ReceiptHandle), Body: aws.ToString(m.Body),
			Group:  m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)],
			Source: m.Attributes[string(types.MessageSystemAttributeNameDeadLetterQueueSourceArn)],
		}
		count := m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)]
		letters[i].Receives, _ = strconv.Atoi(count)
		sent := m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)]
		if milli, err := strconv.ParseInt(sent, 10, 64); err == nil {
			letters[i].Sent = time.UnixMilli(milli).UTC()
		}
		for name, value := range m.MessageAttributes {
			if letters[i].Attributes == nil {
				letters[i].Attributes = map[string]string{}
			}
			letters[i].Attributes[name] = aws.ToString(value.StringValue)
		}
	}
	return letters, nil
}

// Delete deletes a received message.
func (d *DeadLetters) Delete(ctx context.Context, receipt string) error {
	_, err := d.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{
		QueueUrl: aws.String(d.url), ReceiptHandle: aws.String(receipt),
	})
	if err != nil {
		return fmt.Errorf("delete from %s: %w", d.url, err)
	}
	return nil
}

// Count returns about how many messages the queue has, hidden ones included.
func (d *DeadLetters) Count(ctx context.Context) (n int, err error) {
	out, err := d.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(d.url),
		AttributeNames: []types.QueueAttributeName{
			types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		},
	})
	if err != nil {
		return 0, fmt.Errorf("count the messages of %s: %w", d.url, err)
	}
	for _, text := range out.Attributes {
		one, err := strconv.Atoi(text)
		if err != nil {
			return 0, fmt.Errorf("count the messages of %s: the answer is no number", d.url)
		}
		n += one
	}
	return n, nil
}
