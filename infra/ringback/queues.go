package ringback

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/queue"
)

func (r *Ringback) queues() {
	r.Jobs, r.JobsDLQ = r.queue("Jobs", r.limits.JobsVisibility, r.limits.JobsMaxReceives)
	r.Results, r.ResultsDLQ = r.queue("Results", r.limits.ResultVisibility, r.limits.ResultMaxReceives)
}

// queue creates a standard queue and its dead-letter queue.
func (r *Ringback) queue(id string, visibility time.Duration, maxReceives int) (awssqs.Queue, awssqs.Queue) {
	props := awssqs.QueueProps{
		Encryption:          awssqs.QueueEncryption_SQS_MANAGED,
		EnforceSSL:          jsii.Bool(true),
		MaxMessageSizeBytes: jsii.Number(queue.MaxMessage),
		// A message keeps its age in the dead-letter queue, which must therefore
		// retain it for longer than the queue that it came from.
		RetentionPeriod: awscdk.Duration_Days(jsii.Number(14)),
	}
	r.keyed(func(key awskms.IKey) {
		props.Encryption, props.EncryptionMasterKey = awssqs.QueueEncryption_KMS, key
	})
	dead := awssqs.NewQueue(r.Construct, jsii.String(id+"DeadLetters"), &props)
	props.RetentionPeriod = awscdk.Duration_Days(jsii.Number(4))
	props.VisibilityTimeout = seconds(visibility)
	props.DeadLetterQueue = &awssqs.DeadLetterQueue{Queue: dead, MaxReceiveCount: jsii.Number(maxReceives)}
	return awssqs.NewQueue(r.Construct, jsii.String(id), &props), dead
}

// consume makes a queue invoke a function.
func (r *Ringback) consume(id string, f awslambda.Function, q awssqs.Queue, concurrency int) {
	// The function itself changes visibility timeouts, for its backoff. The
	// event source mapping needs the other actions.
	q.Grant(f, jsii.String("sqs:ReceiveMessage"), jsii.String("sqs:DeleteMessage"),
		jsii.String("sqs:GetQueueAttributes"), jsii.String("sqs:ChangeMessageVisibility"))
	r.keyed(func(key awskms.IKey) { key.GrantDecrypt(f) })
	// No batching window, because a caller waits. With any window, Lambda may
	// wait for up to 20 seconds on a quiet queue (AWS Lambda developer guide,
	// "Using Lambda with Amazon SQS").
	awslambda.NewEventSourceMapping(r.Construct, jsii.String(id), &awslambda.EventSourceMappingProps{
		Target:                  f,
		EventSourceArn:          q.QueueArn(),
		BatchSize:               jsii.Number(r.props.BatchSize),
		ReportBatchItemFailures: jsii.Bool(true),
		MaxConcurrency:          jsii.Number(concurrency),
	})
}

// send lets a function send to a queue.
func (r *Ringback) send(f awsiam.IGrantable, q awssqs.Queue) {
	q.Grant(f, jsii.String("sqs:SendMessage"))
	// To send, SQS also decrypts the data key that it has stored (Amazon SQS
	// developer guide, "Key management").
	r.keyed(func(key awskms.IKey) {
		key.Grant(f, jsii.String("kms:GenerateDataKey"), jsii.String("kms:Decrypt"))
	})
}

// seconds rounds up, because a slightly longer limit does no harm.
func seconds(d time.Duration) awscdk.Duration {
	return awscdk.Duration_Seconds(jsii.Number((d + time.Second - 1) / time.Second))
}
