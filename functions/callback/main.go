// Command callback is the Lambda function that tells results: it posts them
// to the control URLs of the calls that wait for them.
package main

import (
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/internal/awsenv"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/eventbus"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/jobtable/dynamo"
	"github.com/ringback/ringback/internal/queue/sqsqueue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
)

type environment struct {
	ResultsQueueURL   string   `env:"RESULTS_QUEUE_URL,required,notEmpty"`
	JobsTable         string   `env:"JOBS_TABLE,required,notEmpty"`
	EventBusName      string   `env:"EVENT_BUS_NAME,required,notEmpty"`
	ControlHosts      []string `env:"CONTROL_HOSTS"`
	PublicKeySecretID string   `env:"VAPI_PUBLIC_KEY_SECRET_ID"`
	ResultText        string   `env:"RESULT_TEXT"`
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	handler, err := build()
	if err != nil {
		slog.Error("the function cannot start", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler.Handle)
}

func build() (*callback.Handler, error) {
	e, err := env.ParseAs[environment]()
	if err != nil {
		return nil, err
	}
	aws, err := awsenv.Load()
	if err != nil {
		return nil, err
	}
	text, err := spoken.ParseText(e.ResultText)
	if err != nil {
		return nil, err
	}
	control := vapi.ControlConfig{Hosts: e.ControlHosts}
	if e.PublicKeySecretID != "" {
		control.PublicKey = secret.FromSecretsManager(secretsmanager.NewFromConfig(aws.SecretsManager()), e.PublicKeySecretID).Get
	}
	calls, err := vapi.NewControlClient(control)
	if err != nil {
		return nil, err
	}
	return callback.New(callback.Config{
		Table:     jobtable.New(dynamo.New(dynamodb.NewFromConfig(aws.DynamoDB()), e.JobsTable), nil),
		Calls:     calls,
		Results:   sqsqueue.New(sqs.NewFromConfig(aws.SQS()), e.ResultsQueueURL),
		Announcer: eventbus.New(eventbridge.NewFromConfig(aws.EventBridge()), e.EventBusName),
		Text:      &text,
	})
}
