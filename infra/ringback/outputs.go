package ringback

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/deployment/listen"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// outputs adds the stack's outputs, which contain what an operator needs next.
func outputs(stack awscdk.Stack, r *Ringback) error {
	output := func(id, description string, value *string) {
		awscdk.NewCfnOutput(stack, jsii.String(id), &awscdk.CfnOutputProps{
			Description: jsii.String(description), Value: value,
		})
	}
	region := *stack.Region()
	next := "AWS_REGION=" + region + " go run ./cmd/ringback sync --stack " + *stack.StackName() +
		api(r.props.VapiAPIURL) + ` --assistant "$ASSISTANT_ID"`
	about := "Set ASSISTANT_ID to the id of your assistant at Vapi, and run this to wire the tools into it"
	if r.WebhookSecret == nil {
		next += ` --credential "$CREDENTIAL_ID"`
		about = "Set ASSISTANT_ID and CREDENTIAL_ID to the ids of your assistant and of its OAuth2 credential at Vapi, and " +
			"run this to wire the tools"
	}
	output("NextCommand", about, jsii.String(next))
	output(deployment.MissingSettingsOutput, "The settings that tools lack. They cannot work, and sync leaves them out",
		awscdk.Lazy_String(&missingSettings{r}, nil))
	output(deployment.WebhookURLOutput, "The server URL of the tools at Vapi", jsii.String(r.WebhookURL))
	if r.DomainTarget != "" {
		output("DomainTarget", "The DNS record of domainName points here (CNAME, or an alias in Route 53)",
			jsii.String(r.DomainTarget))
	}
	output("CompletionURL", "External systems post results to this URL, followed by the job's completion token",
		jsii.String(r.CompletionURL))
	output(deployment.CompletionSecretOutput, "The keys that sign completion tokens", r.CompletionSecret.SecretArn())
	if secret := r.WebhookSecret; secret != nil {
		output(deployment.WebhookSecretOutput, "The credential that Vapi must send", secret.SecretArn())
		output("CredentialCommand", "Run this to show the credential that Vapi must send, to wire the tools by hand",
			jsii.String("aws secretsmanager get-secret-value --region "+region+
				" --secret-id "+*secret.SecretArn()+" --query SecretString --output text"))
	}
	if r.ArgumentKey != nil {
		output(deployment.ArgumentKeyOutput, "The key of the arguments that Vapi encrypts", r.ArgumentKey.KeyArn())
	}
	if r.ReplayKey != nil {
		output(deployment.ReplayKeyOutput, "The key of the arguments that are stored for replays", r.ReplayKey.KeyArn())
	}
	output(deployment.JobsQueueURLOutput, "The queue of the jobs of short tools, and of unknown ones", r.Jobs.QueueUrl())
	if r.LongJobs != nil {
		output(deployment.LongJobsQueueURLOutput, "The queue of the jobs of long tools, whose timeout exceeds 60 seconds",
			r.LongJobs.QueueUrl())
	}
	output(deployment.JobsDeadLettersURLOutput, "The jobs whose tools failed on every attempt", r.JobsDLQ.QueueUrl())
	output(deployment.ResultsQueueURLOutput, "The queue of the results that wait for delivery", r.Results.QueueUrl())
	output(deployment.ResultsDeadLettersURLOutput,
		"The results that could be neither delivered nor published as undelivered events", r.ResultsDLQ.QueueUrl())
	output(deployment.JobsTableOutput, "The table with the record of each job", r.Table.TableName())
	output(deployment.OperatorReadOutput, "The policy of an operator who reads calls and jobs, as with ringback ui",
		r.readPolicy(stack))
	output(deployment.OperatorWriteOutput, "What an operator needs besides to change jobs, as with ringback ui --write",
		r.writePolicy(stack))
	output("EventBusName", "The event bus for results that could not be delivered", r.EventBus.EventBusName())
	output(deployment.AckLogsOutput, "The log group of the ack function", r.ackLogs.LogGroupName())
	output(deployment.ProcessLogsOutput, "The log group of the process function", r.processLogs.LogGroupName())
	output(deployment.CallbackLogsOutput, "The log group of the callback function", r.callbackLogs.LogGroupName())
	r.setDashboardURL(consoleHostAnywhere(stack))
	output("DashboardUrl", "The dashboard, which shows whether the deployment is healthy", jsii.String(r.DashboardURL))
	if !r.props.Listen {
		return nil
	}
	stage, err := listen.Describe(r.environment, r.tools).Encode()
	output("ListenCommand", "No function runs the tools of this stack. Their jobs wait until you run this",
		jsii.String("AWS_REGION="+region+" go run ./cmd/ringback listen --stack "+*stack.StackName()))
	output(deployment.ListenOutput, "What this command must know of the stack", jsii.String(stage))
	return err
}

// api returns the flag that selects an address of Vapi's API, with a space before it. The address is empty or
// checked.
func api(address string) string {
	switch strings.TrimRight(address, "/") {
	case "", vapiclient.APIURL:
		return ""
	case vapiclient.APIURLEU:
		return " --region eu"
	}
	return " --api " + address
}
