package ringback

import (
	"fmt"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatchactions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/queue"
)

// Amazon SQS does not say whether a message's age has the delay in it that the
// message was sent with. Both of these leave room for the longest: an alarm that
// comes later is better than one that goes off for nothing.

// oldestResult is how old a result may become before an operator is told:
// posting one takes less than a second, and a few retries less than two minutes.
// The line that a tool takes longer is sent with a delay.
func oldestResult(tools *asynctool.Set) time.Duration {
	var hold time.Duration
	for _, e := range tools.Entries() {
		hold = max(hold, e.HoldAfter)
	}
	return hold + 2*time.Minute
}

// oldestJob is how long a job may take with all its attempts when nothing is
// wrong but the tool, and a minute more. What wakes a waiting job soon is sent
// with a delay, and any tool may wait.
func oldestJob(tools *asynctool.Set) time.Duration {
	var slowest time.Duration
	for _, e := range tools.Entries() {
		slowest = max(slowest, time.Duration(e.Attempts)*(e.Timeout+batch.MaxBackoff))
	}
	return queue.MaxDelay + slowest + time.Minute
}

// metrics counts what only the log tells. The namespace is the deployment's
// own: metric filters of two deployments must not add up.
func (r *Ringback) metrics() {
	namespace := jsii.String("Ringback/" + r.name)
	count := func(name, message string) awscloudwatch.Metric {
		return awslogs.NewMetricFilter(r.Construct, jsii.String(name), &awslogs.MetricFilterProps{
			LogGroup:        r.callbackLogs,
			FilterPattern:   awslogs.FilterPattern_StringValue(jsii.String("$.message"), jsii.String("="), jsii.String(message)),
			MetricNamespace: namespace,
			MetricName:      jsii.String(name),
		}).Metric(&awscloudwatch.MetricOptions{Statistic: jsii.String("Sum")})
	}
	r.deliveredRate = count("Delivered", deployment.OutcomeDelivered)
	r.lostRate = count("Undelivered", deployment.OutcomeUndelivered)
}

func (r *Ringback) alarms() {
	r.AlarmTopic = r.topic("Alarm", r.props.AlarmTopic, r.props.AlarmEmail, "Ringback's alarms", "cloudwatch.amazonaws.com")

	minute := awscdk.Duration_Minutes(jsii.Number(1))
	sum := &awscloudwatch.MetricOptions{Period: minute, Statistic: jsii.String("Sum")}
	r.alarm("JobsDeadLetters", waiting(r.JobsDLQ), 0,
		"A tool failed on every attempt. The caller was told so; the job is kept in the dead-letter queue of the jobs for 14 days. Find the cause in the process function's log, then move the job back to its queue or delete it.")
	r.alarm("ResultsDeadLetters", waiting(r.ResultsDLQ), 0,
		"A result could neither be delivered nor announced as undelivered, or could not be read. It is kept in the dead-letter queue of the results for 14 days. Find the cause in the callback function's log, then move it back to its queue.")
	r.alarm("OldestJob", age(r.Jobs), r.oldestJob.Seconds(),
		fmt.Sprintf("The oldest job has waited for longer than %s, which is more than the slowest tool may need with all its attempts, and more than a job waits in the queue to be woken. Callers are waiting: look for throttled or failing process functions, or raise the process concurrency.", r.oldestJob))
	r.alarm("OldestResult", age(r.Results), r.oldestResult.Seconds(),
		fmt.Sprintf("The oldest result has waited for longer than %s. Callers are waiting although their results are there: look into the callback function's log for what the control URLs answer.", r.oldestResult))
	r.alarm("Undelivered", r.lostRate.With(sum), 0,
		"A result could not be told in its call, mostly because the call had ended. It was announced on the event bus as undelivered; make sure that somebody tells the customer in another way.")
	r.alarm("WakesDropped", r.Schedules.MetricDropped(sum), 0,
		"EventBridge Scheduler gave up waking a job that waits. What would have woken it is in the dead-letter queue of the jobs if that could be reached; move it back to its queue. Otherwise the permissions of the schedules' role, or the key of the queues, say why not.")
	r.alarm("CallbackErrors", r.Callback.MetricErrors(sum), 0,
		"The callback function crashed or ran out of time. The results come back by themselves and are tried again; find the cause in its log.")
	r.alarm("ProcessErrors", r.Process.MetricErrors(sum), 0,
		"The process function crashed, ran out of memory or out of time while tools ran. Each of its jobs lost an attempt; find the tool in its log.")
	r.alarm("AckErrors", r.Ack.MetricErrors(sum), 0,
		"The ack function crashed or ran out of time. Vapi got no answer and the caller no result; find the cause in its log.")
	r.alarm("Webhook5xx", r.API.MetricServerError(sum), 0,
		"Vapi's webhook was answered with a server error: its tool calls are lost unless a backoffPlan has Vapi send them again. The access log and the ack function's log say why, most often an unreadable webhook secret or a queue that cannot be reached.")
	r.alarm("AckThrottles", r.Ack.MetricThrottles(sum), 0,
		"Lambda refused to start the ack function because the account's concurrent executions are used up. Webhooks are lost: have the account's limit raised, or lower the process concurrency.")
	r.alarm("ProcessThrottles", r.Process.MetricThrottles(sum), 0,
		"Lambda refused to start the process function because the account's concurrent executions are used up. Tools start late: have the account's limit raised, or lower the concurrency of what else runs in the account.")
	r.alarm("CallbackThrottles", r.Callback.MetricThrottles(sum), 0,
		"Lambda refused to start the callback function because the account's concurrent executions are used up. Results are told late: have the account's limit raised, or lower the process concurrency.")
}

// alarm makes an alarm that goes off when the metric is above the threshold.
func (r *Ringback) alarm(id string, metric awscloudwatch.IMetric, threshold float64, description string) {
	alarm := awscloudwatch.NewAlarm(r.Construct, jsii.String(id+"Alarm"), &awscloudwatch.AlarmProps{
		AlarmDescription:   jsii.String(description),
		Metric:             metric,
		Threshold:          jsii.Number(threshold),
		ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD,
		EvaluationPeriods:  jsii.Number(1),
		TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
	})
	if r.AlarmTopic != nil {
		action := awscloudwatchactions.NewSnsAction(r.AlarmTopic)
		alarm.AddAlarmAction(action)
		alarm.AddOkAction(action)
	}
	r.Alarms = append(r.Alarms, alarm)
}

func waiting(q awssqs.Queue) awscloudwatch.Metric {
	return q.MetricApproximateNumberOfMessagesVisible(&awscloudwatch.MetricOptions{
		Period: awscdk.Duration_Minutes(jsii.Number(1)), Statistic: jsii.String("Maximum"),
	})
}

func age(q awssqs.Queue) awscloudwatch.Metric {
	return q.MetricApproximateAgeOfOldestMessage(&awscloudwatch.MetricOptions{
		Period: awscdk.Duration_Minutes(jsii.Number(1)), Statistic: jsii.String("Maximum"),
	})
}
