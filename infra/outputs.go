package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/infra/ringback"
	"github.com/ringback/ringback/internal/deployment"
)

// outputs makes the stack's outputs: what an operator needs next.
func outputs(stack awscdk.Stack, r *ringback.Ringback) {
	output := func(id, description string, value *string) {
		awscdk.NewCfnOutput(stack, jsii.String(id), &awscdk.CfnOutputProps{Description: jsii.String(description), Value: value})
	}
	output("NextCommand", "Wires the tools into Vapi", jsii.String(
		"AWS_REGION="+*stack.Region()+" go run ./cmd/ringback sync --stack "+*stack.StackName()+" --assistant <assistant id>"))
	output(deployment.WebhookURLOutput, "The server URL of the tools at Vapi", jsii.String(r.WebhookURL))
	output("CompletionURL", "Where results of jobs that wait are posted to, each with its job's token at the end", jsii.String(r.CompletionURL))
	output("CompletionSecretArn", "Signs the tokens of jobs that wait", r.CompletionSecret.SecretArn())
	if r.WebhookSecret != nil {
		output(deployment.WebhookSecretOutput, "The credential that Vapi must send", r.WebhookSecret.SecretArn())
		output("CredentialCommand", "Shows the credential that Vapi must send, for wiring by hand", jsii.String(
			"aws secretsmanager get-secret-value --region "+*stack.Region()+" --secret-id "+*r.WebhookSecret.SecretArn()+" --query SecretString --output text"))
	}
	output("JobsQueueUrl", "Tool calls that wait for their tools", r.Jobs.QueueUrl())
	output("JobsDeadLettersUrl", "Tool calls whose tools failed for good", r.JobsDLQ.QueueUrl())
	output(deployment.ResultsQueueURLOutput, "Results that wait to be told", r.Results.QueueUrl())
	output("ResultsDeadLettersUrl", "Results that could be neither told nor announced", r.ResultsDLQ.QueueUrl())
	output(deployment.JobsTableOutput, "What became of each tool call", r.Table.TableName())
	output("EventBusName", "Where undelivered results are announced", r.EventBus.EventBusName())
	output("DashboardUrl", "Is it healthy?", jsii.String(r.DashboardURL))
}
