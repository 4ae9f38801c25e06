package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/aws/dynamotable"
)

// permission is a statement of a policy. Its members have the names that IAM reads.
type permission struct {
	Action   []string
	Resource []string
}

// policyDocument returns the JSON of a policy.
func policyDocument(stack awscdk.Stack, all ...permission) *string {
	var statements []any
	for _, p := range all {
		statements = append(statements, map[string]any{"Effect": "Allow", "Action": p.Action, "Resource": p.Resource})
	}
	return stack.ToJsonString(map[string]any{"Version": "2012-10-17", "Statement": statements}, nil)
}

// readPolicy returns the policy of an operator who reads calls and jobs.
func (r *Ringback) readPolicy(stack awscdk.Stack) *string {
	table := *r.Table.TableArn()
	// The command names the stack, and does not know the end of its ARN.
	named := *stack.FormatArn(&awscdk.ArnComponents{
		Service: jsii.String("cloudformation"), Resource: jsii.String("stack"),
		ResourceName: jsii.String(*stack.StackName() + "/*"),
	})
	all := []permission{
		{[]string{"cloudformation:DescribeStacks"}, []string{named}},
		{[]string{"dynamodb:GetItem"}, []string{table}},
		{
			[]string{"dynamodb:Query"},
			[]string{table + "/index/" + dynamotable.Index, table + "/index/" + dynamotable.RecentIndex},
		},
	}
	r.keyed(func(key awskms.IKey) {
		all = append(all, permission{[]string{"kms:Decrypt"}, []string{*key.KeyArn()}})
	})
	return policyDocument(stack, all...)
}

// writePolicy returns what an operator who changes jobs needs besides.
func (r *Ringback) writePolicy(stack awscdk.Stack) *string {
	queues := []string{*r.Jobs.QueueArn(), *r.Results.QueueArn()}
	if r.LongJobs != nil {
		queues = append(queues, *r.LongJobs.QueueArn())
	}
	all := []permission{
		{[]string{"dynamodb:PutItem"}, []string{*r.Table.TableArn()}},
		{[]string{"sqs:SendMessage"}, queues},
		{
			[]string{"sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage"},
			[]string{*r.JobsDLQ.QueueArn(), *r.ResultsDLQ.QueueArn()},
		},
	}
	if r.ReplayKey != nil {
		all = append(all, permission{[]string{"kms:Decrypt"}, []string{*r.ReplayKey.KeyArn()}})
	}
	r.keyed(func(key awskms.IKey) {
		all = append(all, permission{[]string{"kms:Encrypt", "kms:GenerateDataKey"}, []string{*key.KeyArn()}})
	})
	return policyDocument(stack, all...)
}
