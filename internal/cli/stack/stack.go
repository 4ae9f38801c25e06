// Package stack reads from a deployed CloudFormation stack what Vapi has to be
// told of it, the webhook's URL and its credential, and where its jobs are.
package stack

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"github.com/ringback/ringback/vapi/vapiauth"
)

// The stack's outputs, as infra names them.
const (
	urlOutput     = "WebhookUrl"
	secretOutput  = "WebhookSecretArn"
	tableOutput   = "JobsTableName"
	resultsOutput = "ResultsQueueUrl"
)

// publicKeyVariable is the callback's, and stands in the template of a stack
// that has Vapi's public key.
const publicKeyVariable = "VAPI_PUBLIC_KEY_SECRET_ID"

// Stack is a deployed stack.
type Stack struct {
	name    string
	stacks  *cloudformation.Client
	secrets *secretsmanager.Client
}

// New gives the stack of a name. Whether it is there is seen when it is read.
func New(cfg aws.Config, name string) *Stack {
	return &Stack{name: name, stacks: cloudformation.NewFromConfig(cfg), secrets: secretsmanager.NewFromConfig(cfg)}
}

// Webhook gives the webhook's URL and its credential: one plan, or two while
// it is rotated. There are no plans where API Gateway checks tokens itself.
func (s *Stack) Webhook(ctx context.Context) (url string, plans []vapiauth.Plan, err error) {
	outputs, err := s.outputs(ctx, urlOutput)
	if err != nil {
		return "", nil, err
	}
	url = outputs[urlOutput]
	arn := outputs[secretOutput]
	if arn == "" {
		return url, nil, nil
	}
	secret, err := s.secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &arn})
	if err != nil {
		return "", nil, s.explain("has a credential that cannot be read", err)
	}
	if plans, err = vapiauth.ParsePlans([]byte(aws.ToString(secret.SecretString))); err != nil {
		return "", nil, fmt.Errorf("the secret %s of the stack %s: %w", arn, s.name, err)
	}
	return url, plans, nil
}

// Jobs gives the name of the jobs table, and the URL of the results queue.
func (s *Stack) Jobs(ctx context.Context) (table, resultsQueue string, err error) {
	outputs, err := s.outputs(ctx, tableOutput, resultsOutput)
	return outputs[tableOutput], outputs[resultsOutput], err
}

// outputs gives the stack's outputs, of which some must be there.
func (s *Stack) outputs(ctx context.Context, required ...string) (map[string]string, error) {
	described, err := s.stacks.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &s.name})
	if err != nil {
		return nil, s.explain("cannot be read", err)
	}
	if len(described.Stacks) == 0 {
		return nil, fmt.Errorf("the stack %s is not there; deploy it first", s.name)
	}
	outputs := map[string]string{}
	for _, o := range described.Stacks[0].Outputs {
		outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	for _, name := range required {
		if outputs[name] == "" {
			return nil, fmt.Errorf("the stack %s has no output %s, so it is not Ringback's, or its deployment is not finished", s.name, name)
		}
	}
	return outputs, nil
}

// HasPublicKey reports whether the stack was deployed with Vapi's public key.
func (s *Stack) HasPublicKey(ctx context.Context) (bool, error) {
	template, err := s.stacks.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: &s.name})
	if err != nil {
		return false, s.explain("does not show its template", err)
	}
	return strings.Contains(aws.ToString(template.TemplateBody), publicKeyVariable), nil
}

// explain says what to do about an error of AWS.
func (s *Stack) explain(what string, err error) error {
	said := err.Error()
	var answered smithy.APIError
	if errors.As(err, &answered) {
		said = answered.ErrorCode() + ": " + answered.ErrorMessage()
	}
	return fmt.Errorf("the stack %s %s: %s (is its name right, and are AWS_PROFILE and AWS_REGION those of its account?)", s.name, what, said)
}
