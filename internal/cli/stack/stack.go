// Package stack reads the outputs of a deployed CloudFormation stack: the URL and the
// credential of its webhook, its public key, its jobs table and its results queue.
package stack

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/deployment/listen"
	"github.com/ringback/ringback/internal/encryption"
)

// publicKeyVariable is an environment variable of the callback function. The template
// of a stack contains it if the stack has Vapi's public key.
var publicKeyVariable = deployment.VariableName(deployment.Callback{}, "PublicKeySecretID")

// Stack is a deployed stack.
type Stack struct {
	name    string
	stacks  *cloudformation.Client
	secrets *secretsmanager.Client
	keys    *kms.Client
}

// New returns the stack with a name. It does not check whether the stack exists.
func New(cfg aws.Config, name string) *Stack {
	return &Stack{
		name: name, stacks: cloudformation.NewFromConfig(cfg), secrets: secretsmanager.NewFromConfig(cfg),
		keys: kms.NewFromConfig(cfg),
	}
}

// Jobs are the places of a deployment in which its jobs are.
type Jobs struct {
	Table                   string // the name of the jobs table
	JobsQueue, ResultsQueue string // URLs
	CompletionSecret        string // the ARN; empty if the stack has no such output
	Listen                  bool   // the jobs wait for a listener
}

// DeadLetters are the places of a deployment in which its dead letters are, and to which they belong.
type DeadLetters struct {
	Jobs
	LongJobsQueue         string // the URL; empty if there is no such queue
	DeadJobs, DeadResults string // URLs
}

// Jobs returns the places in which the jobs of the stack are.
func (s *Stack) Jobs(ctx context.Context) (Jobs, error) {
	o, err := s.outputs(ctx, deployment.JobsTableOutput, deployment.JobsQueueURLOutput, deployment.ResultsQueueURLOutput)
	_, waits := o[deployment.ListenOutput]
	return Jobs{
		Listen:    waits,
		Table:     o[deployment.JobsTableOutput],
		JobsQueue: o[deployment.JobsQueueURLOutput], ResultsQueue: o[deployment.ResultsQueueURLOutput],
		CompletionSecret: o[deployment.CompletionSecretOutput],
	}, err
}

// DeadLetters returns the places in which the dead letters of the stack are.
func (s *Stack) DeadLetters(ctx context.Context) (DeadLetters, error) {
	jobs, err := s.Jobs(ctx)
	if err != nil {
		return DeadLetters{}, err
	}
	o, err := s.outputs(ctx, deployment.JobsDeadLettersURLOutput, deployment.ResultsDeadLettersURLOutput)
	return DeadLetters{
		Jobs: jobs, LongJobsQueue: o[deployment.LongJobsQueueURLOutput],
		DeadJobs: o[deployment.JobsDeadLettersURLOutput], DeadResults: o[deployment.ResultsDeadLettersURLOutput],
	}, err
}

// ErrNoArguments means that a stack stores no arguments.
var ErrNoArguments = errors.New("stores no arguments")

// Replays are the places of a deployment in which the arguments of its jobs are stored.
type Replays struct {
	Jobs
	LongJobsQueue string // the URL; empty if there is no such queue
	Key           string // the ARN of the key that decrypts the arguments
}

// Replays returns the places in which the stack stores arguments. It returns an error if it stores none.
func (s *Stack) Replays(ctx context.Context) (Replays, error) {
	jobs, err := s.Jobs(ctx)
	if err != nil {
		return Replays{}, err
	}
	o, err := s.outputs(ctx)
	if err == nil && o[deployment.ReplayKeyOutput] == "" {
		err = fmt.Errorf("the stack %s %w, so its jobs cannot be replayed; "+
			"set argumentRetentionDays and deploy, for the jobs after that", s.name, ErrNoArguments)
	}
	return Replays{
		Jobs: jobs, LongJobsQueue: o[deployment.LongJobsQueueURLOutput], Key: o[deployment.ReplayKeyOutput],
	}, err
}

// Logs are the places of a deployment in which its functions log.
type Logs struct {
	Jobs
	Ack, Process, Callback string // the names of the log groups
}

// Logs returns the places in which the functions of the stack log.
func (s *Stack) Logs(ctx context.Context) (Logs, error) {
	jobs, err := s.Jobs(ctx)
	if err != nil {
		return Logs{}, err
	}
	o, err := s.outputs(ctx, deployment.AckLogsOutput, deployment.ProcessLogsOutput, deployment.CallbackLogsOutput)
	return Logs{
		Jobs: jobs, Ack: o[deployment.AckLogsOutput], Process: o[deployment.ProcessLogsOutput],
		Callback: o[deployment.CallbackLogsOutput],
	}, err
}

// ArgumentKey returns the public key of the arguments that Vapi encrypts, in PEM.
func (s *Stack) ArgumentKey(ctx context.Context) (string, error) {
	outputs, err := s.outputs(ctx)
	if err != nil {
		return "", err
	}
	arn := outputs[deployment.ArgumentKeyOutput]
	if arn == "" {
		return "", fmt.Errorf("the stack %s has no key for the encrypted arguments of the tools; deploy the tools first",
			s.name)
	}
	key, err := s.keys.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &arn})
	if err != nil {
		return "", s.explain("cannot read the public key of", err)
	}
	parsed, err := encryption.ParsePublicKey([]byte(base64.StdEncoding.EncodeToString(key.PublicKey)))
	if err != nil {
		return "", fmt.Errorf("the key %s of the stack %s: %w", arn, s.name, err)
	}
	return encryption.FormatPublicKey(parsed)
}

// MissingSettings returns the settings that the tools of the stack lack. It is nil if the stack does not say so,
// as those of earlier versions, and not nil if no setting is missing.
func (s *Stack) MissingSettings(ctx context.Context) ([]string, error) {
	outputs, err := s.outputs(ctx)
	output, ok := outputs[deployment.MissingSettingsOutput]
	if err != nil || !ok {
		return nil, err
	}
	return append([]string{}, deployment.ParseMissingSettings(output)...), nil
}

// Listen returns what a listener must know of the stack. ok is false if the stack's tools run in a function.
func (s *Stack) Listen(ctx context.Context) (stage listen.Stage, ok bool, err error) {
	outputs, err := s.outputs(ctx)
	if err != nil {
		return listen.Stage{}, false, err
	}
	output, ok := outputs[deployment.ListenOutput]
	if !ok {
		return listen.Stage{}, false, nil
	}
	if stage, err = listen.Parse(output); err != nil {
		return listen.Stage{}, false, fmt.Errorf("the output %s of the stack %s: %w", deployment.ListenOutput, s.name, err)
	}
	return stage, true, nil
}

// outputs returns the outputs of the stack. It returns an error if a required one is
// missing.
func (s *Stack) outputs(ctx context.Context, required ...string) (map[string]string, error) {
	_, outputs, err := s.describe(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range required {
		if outputs[name] == "" {
			return nil, fmt.Errorf("the stack %s has no output %s: it is another program's stack, or not completely deployed",
				s.name, name)
		}
	}
	return outputs, nil
}

// describe returns the ARN of the stack, and its outputs.
func (s *Stack) describe(ctx context.Context) (id string, outputs map[string]string, err error) {
	described, err := s.stacks.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &s.name})
	if err != nil {
		return "", nil, s.explain("cannot read", err)
	}
	if len(described.Stacks) == 0 {
		return "", nil, fmt.Errorf("the stack %s does not exist; deploy it first", s.name)
	}
	outputs = map[string]string{}
	for _, o := range described.Stacks[0].Outputs {
		outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	return aws.ToString(described.Stacks[0].StackId), outputs, nil
}

// HasPublicKey reports whether the stack was deployed with Vapi's public key.
func (s *Stack) HasPublicKey(ctx context.Context) (bool, error) {
	template, err := s.stacks.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: &s.name})
	if err != nil {
		return false, s.explain("cannot read the template of", err)
	}
	return strings.Contains(aws.ToString(template.TemplateBody), publicKeyVariable), nil
}

// explain adds to an AWS error what to check.
func (s *Stack) explain(action string, err error) error {
	text := err.Error()
	var answered smithy.APIError
	if errors.As(err, &answered) {
		text = answered.ErrorCode() + ": " + answered.ErrorMessage()
	}
	return fmt.Errorf("%s the stack %s: %s (check its name, AWS_PROFILE and AWS_REGION)", action, s.name, text)
}
