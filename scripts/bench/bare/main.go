// Command bare is a Lambda function that sends the same message for each event, without reading it. make bench
// compares the front function with it: a function that queues a job cannot take less.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

type bare struct {
	client *sqs.Client
	input  *sqs.SendMessageInput
}

func (b bare) Invoke(ctx context.Context, _ []byte) ([]byte, error) {
	_, err := b.client.SendMessage(ctx, b.input)
	return []byte(`{"statusCode":200}`), err
}

// message has about the size of a job.
const message = `{"version":1,"callId":"11111111-2222-4333-8444-000000000001","toolCallId":"call_0",` +
	`"name":"order_status","arguments":{"order_id":"A-1"},` +
	`"controlUrl":"https://example.com/11111111-2222-4333-8444-000000000001/control"}`

func main() {
	lambda.Start(bare{
		client: sqs.New(sqs.Options{
			Region: os.Getenv("AWS_REGION"), BaseEndpoint: aws.String(os.Getenv("AWS_ENDPOINT_URL")),
			Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"),
				os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")),
		}),
		input: &sqs.SendMessageInput{QueueUrl: aws.String(os.Getenv("JOBS_QUEUE_URL")), MessageBody: aws.String(message)},
	})
}
