package sqsqueue

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ringback/ringback/internal/queue"
)

// SourceClient is the part of an SQS client that a [Source] uses.
type SourceClient interface {
	ReceiveMessage(
		context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options),
	) (*sqs.ReceiveMessageOutput, error)
	DeleteMessage(
		context.Context, *sqs.DeleteMessageInput, ...func(*sqs.Options),
	) (*sqs.DeleteMessageOutput, error)
}

// Source receives the messages of one queue, as an event source mapping of AWS Lambda does.
type Source struct {
	client   SourceClient
	url, arn string
}

// NewSource returns a source of the messages of a queue. They name the queue by its ARN.
func NewSource(client SourceClient, url, arn string) *Source {
	return &Source{client: client, url: url, arn: arn}
}

const (
	// receiveWait is the longest wait of a ReceiveMessage (Amazon SQS API reference, ReceiveMessage).
	receiveWait = 20 * time.Second

	// receiveTimeout bounds the whole request.
	receiveTimeout = receiveWait + 10*time.Second
)

// Receive waits for up to 20 seconds, and returns up to most messages, 10 of them at most. The queue hides them for
// its visibility timeout.
func (s *Source) Receive(ctx context.Context, most int) ([]events.SQSMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, receiveTimeout)
	defer cancel()
	out, err := s.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:                    &s.url,
		MaxNumberOfMessages:         int32(min(most, queue.MaxBatch)),
		WaitTimeSeconds:             int32(receiveWait / time.Second),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", s.url, err)
	}
	var region string
	if parts := strings.Split(s.arn, ":"); len(parts) > 3 {
		region = parts[3]
	}
	messages := make([]events.SQSMessage, len(out.Messages))
	for i, m := range out.Messages {
		messages[i] = events.SQSMessage{
			MessageId: aws.ToString(m.MessageId), ReceiptHandle: aws.ToString(m.ReceiptHandle), Body: aws.ToString(m.Body),
			Md5OfBody: aws.ToString(m.MD5OfBody), Attributes: m.Attributes,
			EventSourceARN: s.arn, EventSource: "aws:sqs", AWSRegion: region,
		}
	}
	return messages, nil
}

// Delete deletes a received message.
func (s *Source) Delete(ctx context.Context, receipt string) error {
	_, err := s.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &s.url, ReceiptHandle: &receipt})
	if err != nil {
		return fmt.Errorf("delete a message of %s: %w", s.url, err)
	}
	return nil
}
