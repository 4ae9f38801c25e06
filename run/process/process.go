// Package process is the Lambda function that runs the tools. It takes jobs from the jobs queues, and
// sends their outcomes to the results queue.
//
//	func main() { process.Run(tools.All) }
package process

import (
	_ "time/tzdata" // the image of a function may have no time zones

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	awsscheduler "github.com/aws/aws-sdk-go-v2/service/scheduler"
	awssecretsmanager "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/function"
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

// Run runs the function with the tools that all returns. It does not return. The construct of
// infra/ringback sets its environment, with the settings of the tools. If all fails, the function does
// not start, and the log has the reason.
func Run(all func() ([]asynctool.Definition, error)) {
	function.Start(func() (*process.Handler, error) { return build(all) })
}

func build(all func() ([]asynctool.Definition, error)) (*process.Handler, error) {
	e, err := env.ParseAs[deployment.Process]()
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
	definitions, err := all()
	if err != nil {
		return nil, err
	}
	set, err := asynctool.NewSet(definitions...)
	if err != nil {
		return nil, err
	}
	queues := sqs.NewFromConfig(aws.SQS())
	store := dynamotable.New(dynamodb.NewFromConfig(aws.DynamoDB()), e.JobsTable)
	group := scheduler.Config{
		Client: awsscheduler.NewFromConfig(aws.Scheduler()), Group: e.ScheduleGroup, RoleARN: e.ScheduleRoleARN,
		QueueARN: e.JobsQueueARN, DeadLetterARN: e.JobsDLQARN,
	}
	schedules, err := scheduler.New(group)
	if err != nil {
		return nil, err
	}
	var long *process.LongJobs
	if e.LongJobsQueueURL != "" {
		long = &process.LongJobs{Jobs: sqsqueue.New(queues, e.LongJobsQueueURL), ARN: e.LongJobsQueueARN}
		group.QueueARN = e.LongJobsQueueARN
		if long.Schedules, err = scheduler.New(group); err != nil {
			return nil, err
		}
	}
	keys, err := e.Completion.Source(func(id string) secret.Source {
		return secretsmanager.New(awssecretsmanager.NewFromConfig(aws.SecretsManager()), id)
	})
	if err != nil {
		return nil, err
	}
	parsed := completion.NewKeys(keys, nil)
	urls, err := completion.NewURLs(parsed, e.CompletionURL)
	if err != nil {
		return nil, err
	}
	var decrypter process.Decrypter
	if e.ArgumentKeyARN != "" {
		decrypter = kmskey.New(kms.NewFromConfig(aws.KMS()), e.ArgumentKeyARN)
	}
	perCall := job.CallLimits{Jobs: int(e.MaxJobsPerCall), Concurrent: int(e.MaxConcurrentJobsPerCall)}
	return process.New(process.Config{
		Tools:       set,
		Table:       jobtable.New(store),
		Outcomes:    sqsqueue.New(queues, e.ResultsQueueURL),
		Jobs:        sqsqueue.New(queues, e.JobsQueueURL),
		Schedules:   schedules,
		LongJobs:    long,
		Admission:   jobtable.NewAdmission(store.Calls(), perCall),
		CallTracker: jobtable.NewCallTracker(store.Calls()),
		Customers:   jobtable.NewCustomers(store.Customers(), parsed.Customers),
		Completions: urls,
		Decrypter:   decrypter,

		AcrossAssistants: bool(e.NextCallAcrossAssistants),
	})
}
