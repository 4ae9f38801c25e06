// Package processing puts the process handler on AWS: on the queues, the table, the schedules and the keys that its
// environment names. The process function uses it, and so does a listener for a deployed stage.
package processing

import (
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	awsscheduler "github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/kmskey"
	"github.com/ringback/ringback/internal/aws/scheduler"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/secret"
)

// Clients are the configurations of the clients for AWS.
type Clients struct{ SQS, DynamoDB, SecretsManager, Scheduler, KMS aws.Config }

// Config returns the configuration of the process handler in an environment. log may be nil, which means
// slog.Default(). It makes no request.
func Config(e deployment.Process, tools *asynctool.Set, c Clients, log *slog.Logger) (process.Config, error) {
	queues := sqs.NewFromConfig(c.SQS)
	store := dynamotable.New(dynamodb.NewFromConfig(c.DynamoDB), e.JobsTable)
	group := scheduler.Config{
		Client: awsscheduler.NewFromConfig(c.Scheduler), Group: e.ScheduleGroup, RoleARN: e.ScheduleRoleARN,
		QueueARN: e.JobsQueueARN, DeadLetterARN: e.JobsDLQARN,
	}
	schedules, err := scheduler.New(group)
	if err != nil {
		return process.Config{}, err
	}
	var long *process.LongJobs
	if e.LongJobsQueueURL != "" {
		long = &process.LongJobs{Jobs: sqsqueue.New(queues, e.LongJobsQueueURL), ARN: e.LongJobsQueueARN}
		group.QueueARN = e.LongJobsQueueARN
		if long.Schedules, err = scheduler.New(group); err != nil {
			return process.Config{}, err
		}
	}
	keys, err := e.Completion.Source(func(id string) secret.Source {
		return secretsmanager.New(c.SecretsManager).Secret(id)
	})
	if err != nil {
		return process.Config{}, err
	}
	parsed := completion.NewKeys(keys, log)
	urls, err := completion.NewURLs(parsed, e.CompletionURL)
	if err != nil {
		return process.Config{}, err
	}
	var decrypter process.Decrypter
	if e.ArgumentKeyARN != "" {
		decrypter = kmskey.New(kms.NewFromConfig(c.KMS), e.ArgumentKeyARN)
	}
	customers := jobtable.NewCustomers(store.Customers(), parsed.Customers)
	var replays process.Replays
	if e.ReplayKeyARN != "" {
		envelope := kmskey.NewEnvelope(kms.NewFromConfig(c.KMS), e.ReplayKeyARN)
		retention := time.Duration(e.ArgumentRetentionDays) * 24 * time.Hour
		replays = jobtable.NewReplays(store.Replays(), envelope, retention, customers)
	}
	perCall := job.CallLimits{Jobs: int(e.MaxJobsPerCall), Concurrent: int(e.MaxConcurrentJobsPerCall)}
	return process.Config{
		Tools:       tools,
		Table:       jobtable.New(store),
		Outcomes:    sqsqueue.New(queues, e.ResultsQueueURL),
		Jobs:        sqsqueue.New(queues, e.JobsQueueURL),
		Schedules:   schedules,
		LongJobs:    long,
		Admission:   jobtable.NewAdmission(store.Calls(), perCall),
		CallTracker: jobtable.NewCallTracker(store.Calls()),
		Customers:   customers,
		Completions: urls,
		Decrypter:   decrypter,
		Replays:     replays,

		AcrossAssistants: bool(e.NextCallAcrossAssistants),
		Log:              log,
	}, nil
}
