// Command process is the Lambda function that runs the tools.
package main

import (
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/awsenv"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/jobtable/dynamo"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/queue/sqsqueue"
	"github.com/ringback/ringback/tools"
)

type environment struct {
	JobsQueueURL    string `env:"JOBS_QUEUE_URL,required,notEmpty"`
	ResultsQueueURL string `env:"RESULTS_QUEUE_URL,required,notEmpty"`
	JobsTable       string `env:"JOBS_TABLE,required,notEmpty"`

	// 0, which unset means, is no limit.
	MaxJobsPerCall           uint16 `env:"MAX_JOBS_PER_CALL"`
	MaxConcurrentJobsPerCall uint16 `env:"MAX_CONCURRENT_JOBS_PER_CALL"`
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

func build() (*process.Handler, error) {
	e, err := env.ParseAs[environment]()
	if err != nil {
		return nil, err
	}
	aws, err := awsenv.Load()
	if err != nil {
		return nil, err
	}
	all, err := tools.All()
	if err != nil {
		return nil, err
	}
	set, err := asynctool.NewSet(all...)
	if err != nil {
		return nil, err
	}
	queues := sqs.NewFromConfig(aws.SQS())
	store := dynamo.New(dynamodb.NewFromConfig(aws.DynamoDB()), e.JobsTable)
	cfg := process.Config{
		Tools:    set,
		Table:    jobtable.New(store, nil),
		Outcomes: sqsqueue.New(queues, e.ResultsQueueURL),
		Jobs:     sqsqueue.New(queues, e.JobsQueueURL),
	}
	if limits := (job.PerCall{Jobs: int(e.MaxJobsPerCall), Concurrent: int(e.MaxConcurrentJobsPerCall)}); limits != (job.PerCall{}) {
		cfg.Admission = jobtable.NewCalls(store, limits, nil)
	}
	return process.New(cfg)
}
