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

// queues creates the queues. Long tools have a queue of their own only if there are
// long tools: its event source mapping would poll an empty queue day and night. To
// add or remove it replaces nothing.
//
// The two jobs queues share their dead-letter queue. An operator looks in one place,
// and the dead jobs stay there if the last long tool is removed.
func (r *Ringback) queues() {
	r.JobsDLQ = r.deadLetters("Jobs")
	r.Jobs = r.queue("Jobs", r.JobsDLQ, r.limits.JobsVisibility, r.limits.JobsMaxReceives)
	if len(r.longTools) > 0 || r.props.LongProcessConcurrency > 0 {
		r.LongJobs = r.queue("LongJobs", r.JobsDLQ, r.limits.JobsVisibility, r.limits.JobsMaxReceives)
	}
	r.ResultsDLQ = r.deadLetters("Results")
	r.Results = r.queue("Results", r.ResultsDLQ, r.limits.ResultVisibility, r.limits.ResultMaxReceives)
}

// deadLetters creates the dead-letter queue of a queue.
func (r *Ringback) deadLetters(id string) awssqs.Queue {
	props := r.queueProps()
	// A message keeps its age in the dead-letter queue, which must therefore
	// retain it for longer than the queue that it came from.
	props.RetentionPeriod = awscdk.Duration_Days(jsii.Number(14))
	return awssqs.NewQueue(r.Construct, jsii.String(id+"DeadLetters"), props)
}

// queue creates a standard queue.
func (r *Ringback) queue(id string, dead awssqs.Queue, visibility time.Duration, maxReceives int) awssqs.Queue {
	props := r.queueProps()
	props.RetentionPeriod = awscdk.Duration_Days(jsii.Number(4))
	props.VisibilityTimeout = seconds(visibility)
	props.DeadLetterQueue = &awssqs.DeadLetterQueue{Queue: dead, MaxReceiveCount: jsii.Number(maxReceives)}
	return awssqs.NewQueue(r.Construct, jsii.String(id), props)
}

// queueProps returns what all queues have in common.
func (r *Ringback) queueProps() *awssqs.QueueProps {
	props := &awssqs.QueueProps{
		Encryption:          awssqs.QueueEncryption_SQS_MANAGED,
		EnforceSSL:          jsii.Bool(true),
		MaxMessageSizeBytes: jsii.Number(queue.MaxMessage),
	}
	r.keyed(func(key awskms.IKey) {
		props.Encryption, props.EncryptionMasterKey = awssqs.QueueEncryption_KMS, key
	})
	return props
}

// consume makes a queue invoke a function.
func (r *Ringback) consume(
	id string, f awslambda.Function, q awssqs.Queue, concurrency int,
) awslambda.EventSourceMapping {
	// The function itself changes visibility timeouts, for its backoff. The
	// event source mapping needs the other actions.
	q.Grant(f, jsii.String("sqs:ReceiveMessage"), jsii.String("sqs:DeleteMessage"),
		jsii.String("sqs:GetQueueAttributes"), jsii.String("sqs:ChangeMessageVisibility"))
	r.keyed(func(key awskms.IKey) { key.GrantDecrypt(f) })
	// No batching window, because a caller waits. With any window, Lambda may
	// wait for up to 20 seconds on a quiet queue (AWS Lambda developer guide,
	// "Using Lambda with Amazon SQS"). Results that are ready together are
	// therefore only coalesced if Lambda receives them together.
	return awslambda.NewEventSourceMapping(r.Construct, jsii.String(id), &awslambda.EventSourceMappingProps{
		Target:                  f,
		EventSourceArn:          q.QueueArn(),
		BatchSize:               jsii.Number(r.props.BatchSize),
		ReportBatchItemFailures: jsii.Bool(true),
		MaxConcurrency:          jsii.Number(concurrency),
	})
}

// send lets a function send to a queue. It does nothing if the queue is nil.
func (r *Ringback) send(f awsiam.IGrantable, q awssqs.Queue) {
	if q == nil {
		return
	}
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
