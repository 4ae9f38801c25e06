package ringback

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/jsii-runtime-go"
)

const (
	// ackTimeout is less than the 20 seconds that Vapi waits for an answer
	// unless it is told otherwise (Vapi's OpenAPI: Server.timeoutSeconds).
	ackTimeout = 15 * time.Second

	// Memory in MiB. None of the functions needs much: measured on a
	// workstation with x86_64, the ack has 9 MB resident after its start, 14
	// with an ordinary webhook, 23 with one of 1 MB and 74 with one of 6 MB,
	// the largest there is; process and callback have 16 or less without what
	// the tools take. But a function's share of a CPU follows from its
	// memory, one at 1769 MiB (AWS Lambda developer guide, "Memory"), and a
	// caller waits for the ack: an ordinary webhook takes it 1 ms of CPU time
	// and one of 1 MB takes it 14, which is 3 and 50 ms at 512 MiB and four
	// times that at 128. The other two mostly wait for somebody else, and are
	// paid by the memory they have while they do.
	ackMemory      = 512
	processMemory  = 256
	callbackMemory = 256
)

type function struct {
	id, name, description string
	timeout               time.Duration
	memory                int
	environment           map[string]*string
}

func (r *Ringback) functions() {
	ack := map[string]*string{
		"JOBS_QUEUE_URL":       r.Jobs.QueueUrl(),
		"RESULTS_QUEUE_URL":    r.Results.QueueUrl(),
		"JOBS_TABLE":           r.Table.TableName(),
		"COMPLETION_SECRET_ID": r.CompletionSecret.SecretArn(),
		"SCHEDULE_GROUP":       r.Schedules.ScheduleGroupName(),
	}
	if r.WebhookSecret != nil {
		ack["WEBHOOK_SECRET_ID"] = r.WebhookSecret.SecretArn()
	} else {
		ack["WEBHOOK_AUTH"] = jsii.String(`{"type":"none"}`)
	}
	if r.props.LocalEndpoint {
		ack["COMPLETION_KEYS"] = jsii.String("")
		if ack["WEBHOOK_AUTH"] == nil {
			ack["WEBHOOK_AUTH"] = jsii.String("")
		}
	}
	if r.nextCall {
		ack["NEXT_CALL"] = jsii.String("on")
	}
	if r.props.AckText != "" {
		ack["ACK_TEXT"] = jsii.String(r.props.AckText)
	}
	r.Ack, r.ackLogs = r.function(function{
		id: "Ack", name: "ack", description: "Verifies Vapi's webhooks, queues a job for each tool call, answers; takes the results of jobs that wait.",
		timeout: ackTimeout, memory: ackMemory, environment: ack,
	})
	if r.WebhookSecret != nil {
		read(r.Ack, r.WebhookSecret)
	}
	read(r.Ack, r.CompletionSecret)
	r.send(r.Ack, r.Jobs)
	r.send(r.Ack, r.Results)
	r.record(r.Ack)
	r.list(r.Ack)
	r.unschedule(r.Ack)

	process := map[string]*string{
		"JOBS_QUEUE_URL":       r.Jobs.QueueUrl(),
		"JOBS_QUEUE_ARN":       r.Jobs.QueueArn(),
		"JOBS_DLQ_ARN":         r.JobsDLQ.QueueArn(),
		"RESULTS_QUEUE_URL":    r.Results.QueueUrl(),
		"JOBS_TABLE":           r.Table.TableName(),
		"COMPLETION_SECRET_ID": r.CompletionSecret.SecretArn(),
		"COMPLETION_URL":       jsii.String(r.CompletionURL),
		"SCHEDULE_GROUP":       r.Schedules.ScheduleGroupName(),
		"SCHEDULE_ROLE_ARN":    r.scheduleRole.RoleArn(),
	}
	if r.props.LocalEndpoint {
		process["COMPLETION_KEYS"] = jsii.String("")
	}
	if n := r.props.MaxJobsPerCall; n > 0 {
		process["MAX_JOBS_PER_CALL"] = jsii.String(strconv.Itoa(n))
	}
	if n := r.props.MaxConcurrentJobsPerCall; n > 0 {
		process["MAX_CONCURRENT_JOBS_PER_CALL"] = jsii.String(strconv.Itoa(n))
	}
	for _, s := range r.props.ToolSettings {
		process[s.Name] = s.value()
	}
	r.Process, r.processLogs = r.function(function{
		id: "Process", name: "process", description: "Runs the tools.",
		timeout: r.limits.ProcessTimeout, memory: r.props.ProcessMemory, environment: process,
	})
	r.record(r.Process)
	read(r.Process, r.CompletionSecret)
	r.send(r.Process, r.Results)
	// What wakes a job soon is a message to the queue that it came from.
	r.send(r.Process, r.Jobs)
	r.schedule(r.Process)
	r.consume("JobsToProcess", r.Process, r.Jobs, r.props.ProcessConcurrency)

	callback := map[string]*string{
		"RESULTS_QUEUE_URL": r.Results.QueueUrl(),
		"JOBS_TABLE":        r.Table.TableName(),
		"EVENT_BUS_NAME":    r.EventBus.EventBusName(),
	}
	if r.props.PublicKeySecret != nil {
		callback["VAPI_PUBLIC_KEY_SECRET_ID"] = r.props.PublicKeySecret.SecretArn()
	}
	r.outbound(callback)
	if r.props.ResultText != "" {
		callback["RESULT_TEXT"] = jsii.String(r.props.ResultText)
	}
	if len(r.props.ControlHosts) > 0 {
		callback["CONTROL_HOSTS"] = jsii.String(strings.Join(r.props.ControlHosts, ","))
	}
	r.Callback, r.callbackLogs = r.function(function{
		id: "Callback", name: "callback", description: "Posts results to the control URLs of their calls.",
		timeout: r.limits.CallbackTimeout, memory: callbackMemory, environment: callback,
	})
	r.record(r.Callback)
	r.EventBus.GrantPutEventsTo(r.Callback, nil)
	if r.props.PublicKeySecret != nil {
		read(r.Callback, r.props.PublicKeySecret)
	}
	if r.props.PrivateKeySecret != nil {
		read(r.Callback, r.props.PrivateKeySecret)
	}
	r.consume("ResultsToCallback", r.Callback, r.Results, r.props.CallbackConcurrency)
}

func (r *Ringback) function(f function) (awslambda.Function, awslogs.LogGroup) {
	logs := r.logGroup(f.id + "Logs")
	// A role without Lambda's managed policy, which would let each function
	// write every log group of the account.
	role := awsiam.NewRole(r.Construct, jsii.String(f.id+"Role"), &awsiam.RoleProps{
		Description: jsii.String("Ringback's function " + f.name),
		AssumedBy:   awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil),
	})
	logs.GrantWrite(role)
	if r.props.LocalEndpoint {
		f.environment["AWS_ENDPOINT_URL"] = jsii.String("")
	}
	props := awslambda.FunctionProps{
		Description:   jsii.String(f.description),
		Code:          awslambda.Code_FromAsset(jsii.String(filepath.Join(r.binaries, f.name)), nil),
		Runtime:       awslambda.Runtime_PROVIDED_AL2023(),
		Handler:       jsii.String("bootstrap"),
		Architecture:  r.props.Architecture,
		MemorySize:    jsii.Number(f.memory),
		Timeout:       seconds(f.timeout),
		Environment:   &f.environment,
		Role:          role,
		LogGroup:      logs,
		LoggingFormat: awslambda.LoggingFormat_JSON,
		Tracing:       awslambda.Tracing_ACTIVE,
	}
	r.keyed(func(key awskms.IKey) { props.EnvironmentEncryption = key })
	made := awslambda.NewFunction(r.Construct, jsii.String(f.id), &props)
	r.keyed(func(key awskms.IKey) { key.GrantDecrypt(made) })
	return made, logs
}

// logGroup makes a log group that goes when the stack does.
func (r *Ringback) logGroup(id string) awslogs.LogGroup {
	return awslogs.NewLogGroup(r.Construct, jsii.String(id), &awslogs.LogGroupProps{
		Retention:     r.props.LogRetention,
		RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	})
}
