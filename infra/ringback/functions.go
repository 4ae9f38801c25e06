package ringback

import (
	"cmp"
	"path/filepath"
	"slices"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/deployment"
)

const (
	// ackTimeout is less than the 20 seconds for which Vapi waits by default
	// (Vapi's OpenAPI: Server.timeoutSeconds).
	ackTimeout = 15 * time.Second

	// quickMargin is how much longer than its longest wait for a result the ack
	// may run. It covers the steps before and after the wait. Together with the
	// margin of the API's integration, it is below the 30 seconds for which API
	// Gateway waits (Amazon API Gateway quotas).
	quickMargin = 3 * time.Second

	// Memory in MiB. None of the functions needs much. Measured on a
	// workstation with x86_64, the ack has 9 MB resident after its start. It has
	// 14 MB with an ordinary webhook, 23 MB with a webhook of 1 MB, and 74 MB
	// with one of 6 MB, the largest possible. Process and callback have 16 MB or
	// less without what the tools need.
	//
	// But a function's share of a CPU follows from its memory: one CPU at
	// 1769 MiB (AWS Lambda developer guide, "Memory"). A caller waits for the
	// ack. An ordinary webhook takes it 0.7 ms of CPU time, and one of 1 MB takes
	// 4 ms. That is 3 and 13 ms at 512 MiB, and four times as long at 128 MiB.
	// The other two functions mostly wait for other systems, and cost by their
	// memory while they wait.
	ackMemory      = 512
	processMemory  = 256
	callbackMemory = 256
)

type function struct {
	id, name, description string
	timeout               time.Duration
	memory                int
	environment           any // one of the environments in package deployment
	toolSettings          []Setting
}

func (r *Ringback) functions() {
	completion := deployment.CompletionSecret{ID: *r.CompletionSecret.SecretArn()}
	ack := deployment.Ack{
		JobsQueueURL:    *r.Jobs.QueueUrl(),
		ResultsQueueURL: *r.Results.QueueUrl(),
		JobsTable:       *r.Table.TableName(),
		Webhook:         deployment.WebhookSecret{Inline: `{"type":"none"}`},
		Completion:      completion,
		AckText:         r.props.AckText,
		NextCall:        deployment.OnOff(r.parks()),
	}
	if quick := r.tools.Quick(); len(quick) > 0 {
		ack.QuickTools = quick
	}
	if r.LongJobs != nil {
		ack.LongJobsQueueURL, ack.LongTools = *r.LongJobs.QueueUrl(), r.longTools
	}
	if r.WebhookSecret != nil {
		ack.Webhook = deployment.WebhookSecret{ID: *r.WebhookSecret.SecretArn()}
	}
	r.Ack, r.ackLogs = r.function(function{
		id: "Ack", name: "ack", timeout: r.ackTimeout(), memory: ackMemory, environment: ack,
		description: "Verifies Vapi's webhooks, queues a job for each tool call and answers. " +
			"Accepts external completions.",
	})
	read(r.Ack, r.WebhookSecret)
	read(r.Ack, r.CompletionSecret)
	r.send(r.Ack, r.Jobs)
	r.send(r.Ack, r.LongJobs)
	r.send(r.Ack, r.Results)
	r.record(r.Ack, dynamotable.JobItems, dynamotable.EarlierJobItems, dynamotable.CallItems)
	r.list(r.Ack)

	process := deployment.Process{
		JobsQueueURL:             *r.Jobs.QueueUrl(),
		JobsQueueARN:             *r.Jobs.QueueArn(),
		JobsDLQARN:               *r.JobsDLQ.QueueArn(),
		ResultsQueueURL:          *r.Results.QueueUrl(),
		JobsTable:                *r.Table.TableName(),
		Completion:               completion,
		CompletionURL:            r.CompletionURL,
		ScheduleGroup:            *r.Schedules.ScheduleGroupName(),
		ScheduleRoleARN:          *r.scheduleRole.RoleArn(),
		MaxJobsPerCall:           limit(r.props.MaxJobsPerCall),
		MaxConcurrentJobsPerCall: limit(r.props.MaxConcurrentJobsPerCall),
		NextCallAcrossAssistants: deployment.OnOff(r.props.NextCallAcrossAssistants),
		Tracing:                  r.props.tracing(),
	}
	if r.LongJobs != nil {
		process.LongJobsQueueURL, process.LongJobsQueueARN = *r.LongJobs.QueueUrl(), *r.LongJobs.QueueArn()
	}
	if r.ArgumentKey != nil {
		process.ArgumentKeyARN = *r.ArgumentKey.KeyArn()
	}
	if r.ReplayKey != nil {
		process.ReplayKeyARN = *r.ReplayKey.KeyArn()
		process.ArgumentRetentionDays = uint16(r.props.ArgumentRetentionDays)
	}
	r.environment = process
	r.Process, r.processLogs = r.function(function{
		id: "Process", name: "process", description: "Runs the tools.",
		timeout: r.limits.ProcessTimeout, memory: r.props.ProcessMemory,
		environment: process, toolSettings: r.props.ToolSettings,
	})
	awscdk.Aspects_Of(r.Process.Node().DefaultChild()).Add(&missingSettings{r}, nil)
	r.record(r.Process, dynamotable.JobItems, dynamotable.EarlierJobItems, dynamotable.CallItems,
		dynamotable.CustomerItems, dynamotable.LeaseItems)
	r.scan(r.Process)
	read(r.Process, r.CompletionSecret)
	read(r.Process, r.props.OTELHeadersSecret)
	r.decrypt()
	r.storeCopies()
	r.send(r.Process, r.Results)
	// A wake-up that is due soon is a message to the queue of the job's tool.
	r.send(r.Process, r.Jobs)
	r.send(r.Process, r.LongJobs)
	r.schedule(r.Process)
	r.unschedule(r.Process) // the wake-up of a job that has ended
	var longMapping awslambda.EventSourceMapping
	if !r.props.Listen {
		r.consume("JobsToProcess", r.Process, r.Jobs, r.props.ProcessConcurrency)
	}
	if r.LongJobs != nil && !r.props.Listen {
		concurrency := cmp.Or(r.props.LongProcessConcurrency, r.props.ProcessConcurrency)
		longMapping = r.consume("LongJobsToProcess", r.Process, r.LongJobs, concurrency)
	}

	callback := deployment.Callback{
		ResultsQueueURL:       *r.Results.QueueUrl(),
		JobsTable:             *r.Table.TableName(),
		EventBusName:          r.eventBus(),
		ControlHosts:          r.props.ControlHosts,
		ControlAnyPath:        deployment.OnOff(r.props.ControlAnyPath),
		PublicKeySecretID:     arnOf(r.props.PublicKeySecret),
		ResultText:            r.props.ResultText,
		PrivateKeySecretID:    arnOf(r.props.PrivateKeySecret),
		APIURL:                r.props.VapiAPIURL,
		CallBackHours:         r.props.CallBackHours,
		CallBackZone:          r.props.CallBackZone,
		CallBackAssistantID:   r.props.CallBackAssistantID,
		CallBackPhoneNumberID: r.props.CallBackPhoneNumberID,
		Tracing:               r.props.tracing(),
	}
	if r.namesCustomers() {
		callback.Completion = completion
	}
	if r.props.CallBackHours != "" {
		callback.CallBackPrefixes, callback.CallBackPerDay = r.props.CallBackPrefixes, limit(r.props.CallBackPerDay)
	}
	r.Callback, r.callbackLogs = r.function(function{
		id: "Callback", name: "callback", description: "Posts results to the control URLs of their calls.",
		timeout: r.limits.CallbackTimeout, memory: callbackMemory, environment: callback,
	})
	r.record(r.Callback, dynamotable.JobItems, dynamotable.EarlierJobItems, dynamotable.CallItems,
		dynamotable.CustomerItems)
	r.publish(r.Callback)
	read(r.Callback, r.props.PublicKeySecret)
	read(r.Callback, r.props.PrivateKeySecret)
	read(r.Callback, r.props.OTELHeadersSecret)
	if r.namesCustomers() {
		read(r.Callback, r.CompletionSecret) // for the names of customers
	}
	r.send(r.Callback, r.Results) // what is left to do for a result whose message must not be repeated
	r.consume("ResultsToCallback", r.Callback, r.Results, r.props.CallbackConcurrency)

	// An update replaces the reader of a queue before its writers. An older function may not understand
	// the messages of a newer one, and then retries them for up to an hour, while a caller waits.
	after(r.Ack, r.Process)
	after(r.Process, r.Callback)
	if longMapping != nil {
		// No job is sent to a queue that nothing reads yet.
		after(r.Ack, longMapping)
	}
}

// namesCustomers reports whether the callback function lists the results of customers.
func (r *Ringback) namesCustomers() bool { return r.parks() || r.props.CallBackHours != "" }

// parks reports whether a tool parks results for its customer's next call.
func (r *Ringback) parks() bool {
	return slices.ContainsFunc(r.tools.Entries(), func(e *asynctool.Entry) bool {
		return e.AfterCall == asynctool.NextCall
	})
}

// limit returns the value of a limit's variable, in which 0 means no limit.
func limit(n int) uint16 { return uint16(max(n, 0)) }

// after makes an update change a function only once another resource has been changed.
func after(f awslambda.Function, other awscdk.Resource) {
	dependent, first := f.Node().DefaultChild().(awscdk.CfnResource), other.Node().DefaultChild().(awscdk.CfnResource)
	dependent.AddResourceDependency(first, nil)
}

// ackTimeout returns the timeout of the ack function.
func (r *Ringback) ackTimeout() time.Duration {
	timeout := ackTimeout
	for _, wait := range r.tools.Quick() {
		timeout = max(timeout, wait+quickMargin)
	}
	return timeout
}

func (r *Ringback) function(f function) (awslambda.Function, awslogs.LogGroup) {
	logs := r.logGroup(f.id+"Logs", "")
	// A role without Lambda's managed policy, which would let each function
	// write to every log group of the account.
	role := awsiam.NewRole(r.Construct, jsii.String(f.id+"Role"), &awsiam.RoleProps{
		Description: jsii.String("The role of Ringback's " + f.name + " function"),
		AssumedBy:   awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil),
	})
	logs.GrantWrite(role)
	environment := make(map[string]*string)
	for _, part := range []any{f.environment, deployment.AWS{}} {
		for name, value := range deployment.Variables(part, r.props.LocalEndpoint) {
			environment[name] = jsii.String(value)
		}
	}
	for _, s := range f.toolSettings {
		environment[s.Name] = s.value()
	}
	if err := r.props.checkEnvironment(f.name, f.environment, environment); err != nil {
		r.problems = append(r.problems, err)
	}
	props := awslambda.FunctionProps{
		Description:   jsii.String(f.description),
		Code:          awslambda.Code_FromAsset(jsii.String(filepath.Join(r.props.Binaries, f.name)), nil),
		Runtime:       awslambda.Runtime_PROVIDED_AL2023(),
		Handler:       jsii.String("bootstrap"),
		Architecture:  r.props.Architecture,
		MemorySize:    jsii.Number(f.memory),
		Timeout:       seconds(f.timeout),
		Environment:   &environment,
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

// logGroup creates a log group that is deleted with the stack. If name is empty, CloudFormation generates one.
func (r *Ringback) logGroup(id, name string) awslogs.LogGroup {
	props := &awslogs.LogGroupProps{
		Retention:     r.props.LogRetention,
		RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	}
	if name != "" {
		props.LogGroupName = jsii.String(name)
	}
	return awslogs.NewLogGroup(r.Construct, jsii.String(id), props)
}

// arnOf returns a secret's ARN, or "" if the secret is nil.
func arnOf(s awssecretsmanager.ISecret) string {
	if s == nil {
		return ""
	}
	return *s.SecretArn()
}
