// Command ack is the Lambda function behind the HTTP API: it verifies
// webhooks, queues a job for each tool call in them, and answers Vapi; and it
// takes the results of jobs that somebody outside completes.
package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awsscheduler "github.com/aws/aws-sdk-go-v2/service/scheduler"
	awssecretsmanager "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/aws/scheduler"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/credential"
	"github.com/ringback/ringback/internal/front"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/status"
)

type environment struct {
	JobsQueueURL       string `env:"JOBS_QUEUE_URL,required,notEmpty"`
	ResultsQueueURL    string `env:"RESULTS_QUEUE_URL,required,notEmpty"`
	JobsTable          string `env:"JOBS_TABLE,required,notEmpty"`
	WebhookSecretID    string `env:"WEBHOOK_SECRET_ID"`
	WebhookAuth        string `env:"WEBHOOK_AUTH"`
	CompletionSecretID string `env:"COMPLETION_SECRET_ID"`
	CompletionKeys     string `env:"COMPLETION_KEYS"`
	ScheduleGroup      string `env:"SCHEDULE_GROUP"` // empty means that no schedule is cancelled
	AckText            string `env:"ACK_TEXT"`
	NextCall           onOff  `env:"NEXT_CALL"` // "on" where a tool keeps results for the next call
}

type onOff bool

func (o *onOff) UnmarshalText(text []byte) error {
	if s := string(text); s != "on" && s != "off" {
		return errors.New("it is neither on nor off")
	}
	*o = string(text) == "on"
	return nil
}

func main() { function.Start(build) }

func build() (front.Handler, error) {
	e, err := env.ParseAs[environment]()
	if err != nil {
		return front.Handler{}, err
	}
	aws, err := function.Load()
	if err != nil {
		return front.Handler{}, err
	}
	secrets := awssecretsmanager.NewFromConfig(aws.SecretsManager())
	credentialSource, err := credential.Choose(e.WebhookAuth, e.WebhookSecretID, func(id string) credential.Source {
		return secretsmanager.New(secrets, id)
	})
	if err != nil {
		return front.Handler{}, err
	}
	keySource, err := completion.Choose(e.CompletionKeys, e.CompletionSecretID, func(id string) completion.Source {
		return secretsmanager.New(secrets, id)
	})
	if err != nil {
		return front.Handler{}, err
	}
	queues := sqs.NewFromConfig(aws.SQS())
	store := dynamotable.New(dynamodb.NewFromConfig(aws.DynamoDB()), e.JobsTable)
	table := jobtable.New(store)

	results := completion.Config{
		Tokens: completion.NewKeys(keySource, nil), Table: table, Outcomes: sqsqueue.New(queues, e.ResultsQueueURL),
	}
	if e.ScheduleGroup != "" {
		if results.Schedules, err = scheduler.New(scheduler.Config{Client: awsscheduler.NewFromConfig(aws.Scheduler()), Group: e.ScheduleGroup}); err != nil {
			return front.Handler{}, err
		}
	}
	completed, err := completion.New(results)
	if err != nil {
		return front.Handler{}, err
	}

	credentials := credential.New(credentialSource, nil)
	webhooks, err := ack.New(ack.Config{
		Queue: sqsqueue.New(queues, e.JobsQueueURL), Credentials: credentials, Text: e.AckText,
		Status: status.Of(table), CallTracker: jobtable.NewCallTracker(store.Calls()), NextCall: bool(e.NextCall),
	})
	if err != nil {
		return front.Handler{}, err
	}
	warm(aws, credentials, e.JobsQueueURL)
	return front.Handler{Webhooks: webhooks.Handle, Completion: completed.Handle}, nil
}

// warm does while the function starts what its first caller would otherwise
// wait for. What fails here is tried again when it is needed.
func warm(aws *function.AWS, credentials *credential.Credentials, queueURL string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var warming sync.WaitGroup
	warming.Go(func() {
		if err := aws.ConnectSQS(ctx, queueURL); err != nil {
			slog.Warn("no connection to SQS yet", "error", err)
		}
	})
	warming.Go(func() {
		if _, err := credentials.Verifier(ctx); err != nil {
			slog.Error("the webhook credential cannot be used yet", "error", err)
		}
	})
	warming.Wait()
}
