// Package ack is the Lambda function behind the HTTP API. It verifies webhooks, queues a job for each
// of their tool calls, and answers Vapi. It also receives the results of jobs that external systems
// complete. It needs no tool.
//
//	func main() { ack.Run() }
package ack

import (
	"context"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi"
)

// Run runs the function. It does not return. The construct of infra/ringback sets its environment.
func Run() { function.StartRaw(build) }

// build also does what the first caller would otherwise wait for.
func build() (lambda.Handler, error) {
	e, err := env.ParseAs[deployment.Ack]()
	if err == nil {
		err = e.Check()
	}
	if err != nil {
		return nil, err
	}
	aws, err := function.Load()
	if err != nil {
		return nil, err
	}
	// A connection takes longer than all that follows. On Lambda, a function has more CPU at its start than in its calls.
	defer function.Connecting(aws.ConnectSQS)() // waits for it at the end

	secrets := secretsmanager.New(aws.SecretsManager())
	stored := func(id string) secret.Source { return secrets.Secret(id) }
	credential, err := e.Webhook.Source(stored)
	if err != nil {
		return nil, err
	}
	keys, err := e.Completion.Source(stored)
	if err != nil {
		return nil, err
	}
	queues := sqs.NewFromConfig(aws.SQS())
	store := dynamotable.New(dynamodb.NewFromConfig(aws.DynamoDB()), e.JobsTable)
	table := jobtable.New(store)

	jobs := sqsqueue.New(queues, e.JobsQueueURL)
	webhooks, err := ack.New(ack.Config{
		Queue:       jobs,
		LongQueue:   sqsqueue.New(queues, e.LongJobsQueueURL), // not used without LongTools
		LongTools:   e.LongTools,
		Credential:  credential,
		Jobs:        table,
		CallTracker: jobtable.NewCallTracker(store.Calls()),
		NextCall:    bool(e.NextCall),
		Quick:       e.QuickTools,
		Table:       table,
		Text:        e.AckText,
	})
	if err != nil {
		return nil, err
	}

	defer function.Connecting(func(ctx context.Context) error {
		if err := webhooks.Warm(ctx); err != nil {
			slog.Error("cannot use the webhook credential yet", "error", err)
		}
		_, _ = vapi.ParseMessage(nil) // makes what the first webhook needs
		return nil
	})()

	completions, err := completion.New(completion.Config{
		Keys:     completion.NewKeys(keys, nil),
		Table:    table,
		Outcomes: sqsqueue.New(queues, e.ResultsQueueURL),
		Jobs:     jobs,
	})
	if err != nil {
		return nil, err
	}
	return function.HTTP{Handler: deployment.Front(webhooks, completions)}, nil
}
