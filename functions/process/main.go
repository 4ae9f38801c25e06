// Command process is the Lambda function that runs the tools.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awsscheduler "github.com/aws/aws-sdk-go-v2/service/scheduler"
	awssecretsmanager "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/aws/scheduler"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/tools"
)

type environment struct {
	JobsQueueURL    string `env:"JOBS_QUEUE_URL,required,notEmpty"`
	ResultsQueueURL string `env:"RESULTS_QUEUE_URL,required,notEmpty"`
	JobsTable       string `env:"JOBS_TABLE,required,notEmpty"`

	// Jobs that wait are woken by schedules of this group, which send to the
	// queue by this role.
	ScheduleGroup   string `env:"SCHEDULE_GROUP,required,notEmpty"`
	ScheduleRoleARN string `env:"SCHEDULE_ROLE_ARN,required,notEmpty"`
	JobsQueueARN    string `env:"JOBS_QUEUE_ARN,required,notEmpty"`
	JobsDLQARN      string `env:"JOBS_DLQ_ARN,required,notEmpty"`

	// Jobs that are left to somebody outside are completed at this URL, by
	// tokens that are signed with these keys.
	CompletionURL      string `env:"COMPLETION_URL,required,notEmpty"`
	CompletionSecretID string `env:"COMPLETION_SECRET_ID"`
	CompletionKeys     string `env:"COMPLETION_KEYS"`

	// 0, which unset means, is no limit.
	MaxJobsPerCall           uint16 `env:"MAX_JOBS_PER_CALL"`
	MaxConcurrentJobsPerCall uint16 `env:"MAX_CONCURRENT_JOBS_PER_CALL"`
}

func main() { function.Start(build) }

func build() (*process.Handler, error) {
	e, err := env.ParseAs[environment]()
	if err != nil {
		return nil, err
	}
	aws, err := function.Load()
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
	store := dynamotable.New(dynamodb.NewFromConfig(aws.DynamoDB()), e.JobsTable)
	schedules, err := scheduler.New(scheduler.Config{
		Client: awsscheduler.NewFromConfig(aws.Scheduler()), Group: e.ScheduleGroup, RoleARN: e.ScheduleRoleARN,
		QueueARN: e.JobsQueueARN, DeadLetterARN: e.JobsDLQARN,
	})
	if err != nil {
		return nil, err
	}
	keys, err := completion.Choose(e.CompletionKeys, e.CompletionSecretID, func(id string) completion.Source {
		return secretsmanager.New(awssecretsmanager.NewFromConfig(aws.SecretsManager()), id)
	})
	if err != nil {
		return nil, err
	}
	urls, err := completion.NewURLs(completion.NewKeys(keys, nil), e.CompletionURL)
	if err != nil {
		return nil, err
	}
	return process.New(process.Config{
		Tools:       set,
		Table:       jobtable.New(store),
		Outcomes:    sqsqueue.New(queues, e.ResultsQueueURL),
		Jobs:        sqsqueue.New(queues, e.JobsQueueURL),
		Schedules:   schedules,
		Admission:   jobtable.NewAdmission(store.Calls(), job.CallLimits{Jobs: int(e.MaxJobsPerCall), Concurrent: int(e.MaxConcurrentJobsPerCall)}),
		CallTracker: jobtable.NewCallTracker(store.Calls()),
		Customers:   jobtable.NewCustomers(store.Customers()),
		Completions: urls,
	})
}
