package ringback

import (
	"cmp"
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/aws-cdk-go/awscdk/v2/interfaces/interfacesawscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/regioninfo"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/deployment"
)

// dashboard creates the dashboard. Each row answers one question.
func (r *Ringback) dashboard() {
	alarms := make([]interfacesawscloudwatch.IAlarmRef, len(r.Alarms))
	for i, a := range r.Alarms {
		alarms[i] = a
	}
	latency := func(percentile string) awscloudwatch.IMetric {
		return named(r.API.MetricLatency(statistic(percentile)), percentile)
	}
	messages := []awscloudwatch.IMetric{
		named(waiting(r.Jobs), "jobs waiting"), named(inFlight(r.Jobs), "jobs running"),
		named(waiting(r.Results), "results waiting"), named(inFlight(r.Results), "results being delivered"),
	}
	ages := []awscloudwatch.IMetric{named(age(r.Jobs), "job"), named(age(r.Results), "result")}
	if r.LongJobs != nil {
		messages = append(messages, named(waiting(r.LongJobs), "long jobs waiting"),
			named(inFlight(r.LongJobs), "long jobs running"))
		ages = append(ages, named(age(r.LongJobs), "long job"))
	}
	undelivered := fmt.Sprintf(`filter message = %q`, deployment.OutcomeUndelivered)
	ended := fmt.Sprintf(`filter message in [%q, %q]`, deployment.ToolFinished, deployment.ToolFailed)
	const times = `stats count(*) as runs, avg(took_ms) as mean, pct(took_ms, 95) as p95, max(took_ms) as longest` +
		` by tool, message`
	r.Dashboard = awscloudwatch.NewDashboard(r.Construct, jsii.String("Dashboard"), &awscloudwatch.DashboardProps{
		DefaultInterval: awscdk.Duration_Hours(jsii.Number(3)),
		Widgets: &[]*[]awscloudwatch.IWidget{
			{heading("Is it healthy?")},
			{
				awscloudwatch.NewAlarmStatusWidget(&awscloudwatch.AlarmStatusWidgetProps{
					Title: jsii.String("Alarms"), Alarms: &alarms, Width: jsii.Number(12), Height: jsii.Number(6),
				}),
				graph("Webhooks", 12,
					named(r.API.MetricCount(total()), "webhooks"),
					named(r.API.MetricClientError(total()), "refused (4xx)"),
					named(r.refusedRate.With(total()), "wrong credential (401)"),
					named(r.throttledRate.With(total()), "over the limit (429)"),
					named(r.API.MetricServerError(total()), "failed (5xx)")),
			},
			{heading("Where does the time go?")},
			{
				graph("Until Vapi has its answer, ms", 8, latency("p50"), latency("p95"), latency("p99")),
				graph("In the functions, ms (p95)", 8, r.each(awslambda.Function.MetricDuration, "p95", "")...),
				query("Time of each tool, ms", 8, r.processLogs.LogGroupName(), ended, times, `sort longest desc`),
			},
			{heading("What is waiting?")},
			{
				graph("Messages", 8, messages...),
				graph("Age of the oldest, s", 8, ages...),
				graph("Running functions", 8, r.each(concurrency, "Maximum", "")...),
			},
			{heading("What was lost?")},
			{
				graph("Results", 8, named(r.deliveredRate, "delivered"), named(r.lostRate, "undelivered")),
				graph("Dead letters and dropped wake-ups", 8,
					named(waiting(r.JobsDLQ), "jobs"), named(waiting(r.ResultsDLQ), "results"),
					named(r.Schedules.MetricDropped(total()), "wake-ups")),
				graph("Crashes and throttles", 8, append(
					r.each(awslambda.Function.MetricErrors, "Sum", " crashed"),
					r.each(awslambda.Function.MetricThrottles, "Sum", " throttled")...)...),
			},
			{
				query("Latest undelivered results", 12, r.callbackLogs.LogGroupName(),
					`fields @timestamp, tool, why, detail, job`, undelivered, `sort @timestamp desc`, `limit 20`),
				query("Latest failures of tools", 12, r.processLogs.LogGroupName(),
					`fields @timestamp, tool, attempt, error, job`,
					`filter level = "ERROR"`, `sort @timestamp desc`, `limit 20`),
			},
		},
	})
	r.setDashboardURL(consoleHost(awscdk.Stack_Of(r.Construct).Region()))
}

// setDashboardURL sets the address of the dashboard on a host of the AWS console, which begins after the region.
func (r *Ringback) setDashboardURL(host string) {
	r.DashboardURL = "https://" + *awscdk.Stack_Of(r.Construct).Region() + "." + host +
		"/cloudwatch/home#dashboards/dashboard/" + *r.Dashboard.DashboardName()
}

// consoleHost returns the host of the console for a region, and that of partition aws if the region, or its console, is
// unknown.
func consoleHost(region *string) string {
	host := ""
	if !*awscdk.Token_IsUnresolved(region) {
		if partition := regioninfo.RegionInfo_Get(region).Partition(); partition != nil {
			host = deployment.ConsoleHost(*partition)
		}
	}
	return cmp.Or(host, deployment.ConsoleHost("aws"))
}

// consoleHostAnywhere is consoleHost for the region in which a stack is deployed.
func consoleHostAnywhere(stack awscdk.Stack) string {
	host := consoleHost(stack.Region())
	if !*awscdk.Token_IsUnresolved(stack.Region()) {
		return host
	}
	for _, other := range []struct{ id, partition string }{{"China", "aws-cn"}, {"GovCloud", "aws-us-gov"}} {
		there := awscdk.NewCfnCondition(stack, &other.id, &awscdk.CfnConditionProps{
			Expression: awscdk.Fn_ConditionEquals(awscdk.Aws_PARTITION(), other.partition),
		})
		host = *awscdk.Fn_ConditionIf(there.LogicalId(), deployment.ConsoleHost(other.partition), host).ToString()
	}
	return host
}

// functionMetric returns a metric of a function.
type functionMetric func(awslambda.Function, *awscloudwatch.MetricOptions) awscloudwatch.Metric

// each returns a metric of each function, labelled with the function's name and suffix.
func (r *Ringback) each(metric functionMetric, stat, suffix string) []awscloudwatch.IMetric {
	return []awscloudwatch.IMetric{
		named(metric(r.Ack, statistic(stat)), "ack"+suffix),
		named(metric(r.Process, statistic(stat)), "process"+suffix),
		named(metric(r.Callback, statistic(stat)), "callback"+suffix),
	}
}

func concurrency(f awslambda.Function, options *awscloudwatch.MetricOptions) awscloudwatch.Metric {
	return f.Metric(jsii.String("ConcurrentExecutions"), options)
}

func heading(text string) awscloudwatch.IWidget {
	return awscloudwatch.NewTextWidget(&awscloudwatch.TextWidgetProps{
		Markdown: jsii.String("## " + text), Width: jsii.Number(24), Height: jsii.Number(1),
	})
}

func graph(title string, width float64, metrics ...awscloudwatch.IMetric) awscloudwatch.IWidget {
	return awscloudwatch.NewGraphWidget(&awscloudwatch.GraphWidgetProps{
		Title: jsii.String(title), Width: jsii.Number(width), Left: &metrics,
		LeftYAxis: &awscloudwatch.YAxisProps{Min: jsii.Number(0), ShowUnits: jsii.Bool(false)},
	})
}

func query(title string, width float64, logGroup *string, lines ...string) awscloudwatch.IWidget {
	return awscloudwatch.NewLogQueryWidget(&awscloudwatch.LogQueryWidgetProps{
		Title: jsii.String(title), Width: jsii.Number(width), LogGroupNames: &[]*string{logGroup},
		View: awscloudwatch.LogQueryVisualizationType_TABLE, QueryLines: jsii.Strings(lines...),
	})
}

func named(m awscloudwatch.Metric, label string) awscloudwatch.IMetric {
	return m.With(&awscloudwatch.MetricOptions{Label: jsii.String(label)})
}

// total sums a metric over each minute.
func total() *awscloudwatch.MetricOptions { return statistic("Sum") }

// statistic takes a statistic of a metric over each minute.
func statistic(name string) *awscloudwatch.MetricOptions {
	return &awscloudwatch.MetricOptions{Statistic: jsii.String(name), Period: awscdk.Duration_Minutes(jsii.Number(1))}
}

func inFlight(q awssqs.Queue) awscloudwatch.Metric {
	return q.MetricApproximateNumberOfMessagesNotVisible(statistic("Maximum"))
}
