// Command ack is the Lambda function behind the webhook's URL: it verifies a
// webhook, queues a job for each tool call in it, and answers Vapi.
package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/awsenv"
	"github.com/ringback/ringback/internal/credential"
	"github.com/ringback/ringback/internal/queue/sqsqueue"
	"github.com/ringback/ringback/internal/secret"
)

type environment struct {
	JobsQueueURL    string `env:"JOBS_QUEUE_URL,required,notEmpty"`
	WebhookSecretID string `env:"WEBHOOK_SECRET_ID"`
	WebhookAuth     string `env:"WEBHOOK_AUTH"`
	AckText         string `env:"ACK_TEXT"`
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

func build() (*ack.Handler, error) {
	e, err := env.ParseAs[environment]()
	if err != nil {
		return nil, err
	}
	aws, err := awsenv.Load()
	if err != nil {
		return nil, err
	}
	source, err := credential.Choose(e.WebhookAuth, e.WebhookSecretID, func(id string) credential.Source {
		return secret.FromSecretsManager(secretsmanager.NewFromConfig(aws.SecretsManager()), id)
	})
	if err != nil {
		return nil, err
	}
	credentials := credential.New(source, nil)
	warm(aws, credentials, e.JobsQueueURL)
	return ack.New(ack.Config{
		Queue:       sqsqueue.New(sqs.NewFromConfig(aws.SQS()), e.JobsQueueURL),
		Credentials: credentials,
		Text:        e.AckText,
	})
}

// warm does while the function starts what its first caller would otherwise
// wait for. What fails here is tried again when it is needed.
func warm(aws *awsenv.AWS, credentials *credential.Credentials, queueURL string) {
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
