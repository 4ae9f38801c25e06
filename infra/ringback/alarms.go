package ringback

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatchactions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/queue"
)

// AWS does not document whether the age of an SQS message includes the delay that
// it was sent with. Both ages below include the longest delay, because a late alarm
// is better than a false one.

// oldestResult returns the age of a result that raises an alarm. Posting a result
// takes less than a second, and a few retries take less than two minutes. A hold
// message is sent with a delay.
func oldestResult(tools *asynctool.Set) time.Duration {
	var hold time.Duration
	for _, e := range tools.Entries() {
		hold = max(hold, e.HoldAfter)
	}
	return hold + 2*time.Minute
}

// oldestJob returns the age of a job that raises an alarm: a minute more than the
// slowest tool needs with all its attempts. Any tool may suspend its job, and a
// wake-up that is due soon is sent with a delay.
func oldestJob(tools *asynctool.Set) time.Duration {
	var slowest time.Duration
	for _, e := range tools.Entries() {
		slowest = max(slowest, time.Duration(e.Attempts)*(e.Timeout+batch.MaxBackoff))
	}
	return queue.MaxDelay + slowest + time.Minute
}

// metrics counts what only the log contains. The namespace belongs to this
// deployment, so that the metric filters of two deployments do not add up.
func (r *Ringback) metrics() {
	count := func(name string, logs awslogs.LogGroup, pattern awslogs.IFilterPattern) awscloudwatch.Metric {
		return awslogs.NewMetricFilter(r.Construct, jsii.String(name), &awslogs.MetricFilterProps{
			LogGroup:        logs,
			FilterPattern:   pattern,
			MetricNamespace: jsii.String("Ringback/" + r.name),
			MetricName:      jsii.String(name),
		}).Metric(&awscloudwatch.MetricOptions{Statistic: jsii.String("Sum")})
	}
	is := func(member, operator, value string) awslogs.JsonPattern {
		return awslogs.FilterPattern_StringValue(jsii.String("$."+member), jsii.String(operator), jsii.String(value))
	}
	r.deliveredRate = count("Delivered", r.callbackLogs, is("message", "=", deployment.OutcomeDelivered))
	r.lostRate = count("Undelivered", r.callbackLogs, is("message", "=", deployment.OutcomeUndelivered))
	// The functions log refusals by sample, and API Gateway's metrics do not tell one
	// 4xx from another. The access log has a line for each request.
	r.refusedRate = count("Refused", r.accessLogs, is("status", "=", "401"))
	// The ack function answers 429 to progress that is posted too often. That is no
	// flood, and Lambda's own status, 200, tells it from a throttle.
	r.throttledRate = count("Throttled", r.accessLogs, awslogs.FilterPattern_All(
		is("status", "=", "429"), is("integrationStatus", "!=", "200")))
}

// refusedPerMinute is how many requests with a wrong credential in a minute are
// normal. A rotation causes a few.
const refusedPerMinute = 10

func (r *Ringback) alarms() {
	r.AlarmTopic = r.topic("Alarm", r.props.AlarmTopic, r.props.AlarmEmail,
		"Ringback's alarms", "cloudwatch.amazonaws.com")

	r.alarm("JobsDeadLetters", waiting(r.JobsDLQ), 0,
		"A tool failed on every attempt, and the caller heard so.",
		"The job stays in the dead-letter queue of the jobs for 14 days.",
		"Find the cause in the process function's log, then move the job back to its queue or delete it.")
	r.alarm("ResultsDeadLetters", waiting(r.ResultsDLQ), 0,
		"A result could not be read, or could be neither delivered nor published as an undelivered event.",
		"It stays in the dead-letter queue of the results for 14 days.",
		"Find the cause in the callback function's log, then move the result back to its queue.")
	if !r.props.Listen { // otherwise jobs wait while no listener runs
		r.jobAlarms("", "job", r.Jobs, "processConcurrency")
	}
	if r.LongJobs != nil && !r.props.Listen {
		r.jobAlarms("Long", "job of a long tool", r.LongJobs, "longProcessConcurrency")
	}
	oldest := oldestResult(r.tools)
	r.alarm("OldestResult", age(r.Results), oldest.Seconds(),
		fmt.Sprintf("The oldest result has waited for longer than %s.", oldest),
		"Callers are waiting although their results are ready.",
		"Look in the callback function's log for the answers of the control URLs.")
	r.alarm("Undelivered", r.lostRate.With(total()), 0,
		"A result could not be delivered in its call, in most cases because the call had ended.",
		"It was published on the event bus as an undelivered event.",
		"Make sure that the customer gets it in another way.")
	r.alarm("WakesDropped", r.Schedules.MetricDropped(total()), 0,
		"EventBridge Scheduler gave up on waking a suspended job.",
		"If the wake-up is in the dead-letter queue of the jobs, move it to the queue of the jobs.",
		"Otherwise Scheduler could not reach that queue either:",
		"check the permissions of the schedules' role and the key of the queues.")
	r.alarm("CallbackErrors", r.Callback.MetricErrors(total()), 0,
		"The callback function crashed or timed out.",
		"Its results return to their queue and are tried again. Find the cause in the function's log.")
	r.alarm("ProcessErrors", r.Process.MetricErrors(total()), 0,
		"The process function crashed, ran out of memory or timed out while tools ran.",
		"Each of its jobs lost an attempt. Find the tool in the function's log.")
	r.alarm("AckErrors", r.Ack.MetricErrors(total()), 0,
		"The ack function crashed or timed out. Vapi got no answer, and the caller got no result.",
		"Find the cause in the function's log.")
	r.alarm("Webhook5xx", r.API.MetricServerError(total()), 0,
		"Vapi's webhook was answered with a server error.",
		"Its tool calls are lost unless a backoffPlan makes Vapi send them again.",
		"Find the cause in the access log and in the ack function's log.",
		"The most frequent causes are an unreadable webhook secret and an unreachable queue.")
	r.alarm("Refused", r.refusedRate.With(total()), refusedPerMinute,
		fmt.Sprintf("More than %d requests in a minute were refused with 401.", refusedPerMinute),
		"Either Vapi sends another credential than the stored one, and callers get no results,",
		"or someone guesses credentials or completion tokens.",
		"The access log shows the sources and the routes. If they are Vapi's, compare the credentials.")
	r.alarm("Throttled", r.throttledRate.With(total()), 0,
		"API Gateway refused requests with 429, because there were more than a route's limit.",
		"If the route is the webhook's, tool calls are lost unless a backoffPlan makes Vapi send them again.",
		"Find the route and the sources in the access log. If they are genuine, raise the settings rateLimit and",
		"burstLimit, or completionRateLimit and completionBurstLimit.")
	throttles := func(id, name string, f awslambda.Function, whatToDo string) {
		r.alarm(id+"Throttles", f.MetricThrottles(total()), 0, "Lambda refused to start the "+name+" function",
			"because the account's concurrent executions are used up.", whatToDo)
	}
	throttles("Ack", "ack", r.Ack,
		"Webhooks are lost. Request a higher limit for the account, or lower the process concurrency.")
	throttles("Process", "process", r.Process, "Tools start late. Request a higher limit for the account, "+
		"or lower the concurrency of the account's other functions.")
	throttles("Callback", "callback", r.Callback,
		"Results are delivered late. Request a higher limit for the account, or lower the process concurrency.")
}

// waitingJobs is how many visible jobs in each of two minutes are normal. A visible
// job is one that no function has received yet. Lambda receives a job within
// milliseconds, so even a busy queue seldom shows one, and hardly ever two of them
// twice in a row unless jobs wait. A job that waits alone raises the alarm on the age
// of the oldest.
const waitingJobs = 1

// jobAlarms creates the alarms on the jobs that wait in a queue. The first one starts
// within minutes. Delayed messages are not visible (Amazon SQS developer guide,
// "Available CloudWatch metrics"), so wake-ups that are not due do not raise it.
func (r *Ringback) jobAlarms(prefix, job string, q awssqs.Queue, setting string) {
	whatToDo := "Look for throttled or failing process functions, or raise the setting " + setting + "."
	r.alarmAfter(2, prefix+"JobsWaiting", q.MetricApproximateNumberOfMessagesVisible(statistic("Minimum")), waitingJobs,
		"More than one "+job+" waited for a process function for two minutes.",
		"As many run as may run at the same time, or none can start. Callers are waiting.", whatToDo)
	oldest := oldestJob(r.tools)
	r.alarm("Oldest"+prefix+"Job", age(q), oldest.Seconds(),
		fmt.Sprintf("The oldest %s has waited for longer than %s.", job, oldest),
		"The slowest tool with all its attempts takes less, and so does the longest delay of a wake-up.",
		"Callers are waiting.", whatToDo)
}

// alarm creates an alarm that starts when a metric is above the threshold.
func (r *Ringback) alarm(id string, metric awscloudwatch.IMetric, threshold float64, description ...string) {
	r.alarmAfter(1, id, metric, threshold, description...)
}

// alarmAfter creates an alarm that starts when a metric is above the threshold for
// several of its periods in a row.
func (r *Ringback) alarmAfter(
	periods int, id string, metric awscloudwatch.IMetric, threshold float64, description ...string,
) {
	alarm := awscloudwatch.NewAlarm(r.Construct, jsii.String(id+"Alarm"), &awscloudwatch.AlarmProps{
		AlarmDescription:   jsii.String(strings.Join(description, " ")),
		Metric:             metric,
		Threshold:          jsii.Number(threshold),
		ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD,
		EvaluationPeriods:  jsii.Number(periods),
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
	return q.MetricApproximateNumberOfMessagesVisible(statistic("Maximum"))
}

func age(q awssqs.Queue) awscloudwatch.Metric {
	return q.MetricApproximateAgeOfOldestMessage(statistic("Maximum"))
}
