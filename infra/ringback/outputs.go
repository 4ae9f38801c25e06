package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/deployment"
)

// outputs adds the stack's outputs, which contain what an operator needs next.
func outputs(stack awscdk.Stack, r *Ringback) {
	output := func(id, description string, value *string) {
		awscdk.NewCfnOutput(stack, jsii.String(id), &awscdk.CfnOutputProps{
			Description: jsii.String(description), Value: value,
		})
	}
	region := *stack.Region()
	output("NextCommand", "Run this to wire the tools into Vapi", jsii.String("AWS_REGION="+region+
		" go run ./cmd/ringback sync --stack "+*stack.StackName()+" --assistant <assistant id>"))
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
	output(deployment.JobsQueueURLOutput, "The queue of the jobs of short tools, and of unknown ones", r.Jobs.QueueUrl())
	if r.LongJobs != nil {
		output("LongJobsQueueUrl", "The queue of the jobs of long tools, whose timeout exceeds 60 seconds",
			r.LongJobs.QueueUrl())
	}
	output("JobsDeadLettersUrl", "The jobs whose tools failed on every attempt", r.JobsDLQ.QueueUrl())
	output(deployment.ResultsQueueURLOutput, "The queue of the results that wait for delivery", r.Results.QueueUrl())
	output("ResultsDeadLettersUrl", "The results that could be neither delivered nor published as undelivered events",
		r.ResultsDLQ.QueueUrl())
	output(deployment.JobsTableOutput, "The table with the record of each job", r.Table.TableName())
	output("EventBusName", "The event bus for results that could not be delivered", r.EventBus.EventBusName())
	output("DashboardUrl", "The dashboard, which shows whether the deployment is healthy", jsii.String(r.DashboardURL))
}
