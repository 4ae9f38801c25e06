package stack

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// Webhook returns the URL of the webhook and its stored credential. The secret is nil if API Gateway
// verifies tokens itself.
func (s *Stack) Webhook(ctx context.Context) (url string, secret *Secret, err error) {
	outputs, err := s.outputs(ctx, deployment.WebhookURLOutput)
	if err != nil {
		return "", nil, err
	}
	url = outputs[deployment.WebhookURLOutput]
	arn := outputs[deployment.WebhookSecretOutput]
	if arn == "" {
		return url, nil, nil
	}
	secret = &Secret{stack: s, arn: arn}
	return url, secret, nil
}

// Secret is the stored credential of a stack's webhook. It is a [wiring.Secret].
type Secret struct {
	stack *Stack
	arn   string
}

// Read returns the current version of the secret.
func (s *Secret) Read(ctx context.Context) (wiring.Stored, error) {
	secret, err := s.stack.secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.arn})
	if err != nil {
		return wiring.Stored{}, s.stack.explain("cannot read the credential of", err)
	}
	plans, err := vapiauth.ParsePlans([]byte(aws.ToString(secret.SecretString)))
	if err != nil {
		return wiring.Stored{}, fmt.Errorf("cannot parse the secret %s of the stack %s: %w", s.arn, s.stack.name, err)
	}
	return wiring.Stored{
		Plans: plans, Organisations: deployment.Organisations(secret.VersionStages), Version: aws.ToString(secret.VersionId),
	}, nil
}

// current is the label of the version that functions read.
const current = "AWSCURRENT"

// Replace stores other plans in a new version, for the same organisations. It returns an error that wraps
// [wiring.ErrChanged] if the current version is no longer old.
func (s *Secret) Replace(ctx context.Context, old wiring.Stored, plans []vapiauth.Plan) error {
	now, err := s.Read(ctx)
	if err != nil {
		return err
	}
	if now.Version != old.Version {
		return wiring.ErrChanged
	}
	var content any = plans
	if len(plans) == 1 {
		content = plans[0]
	}
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	labels := []string{current}
	for _, id := range now.Organisations {
		labels = append(labels, deployment.OrganisationLabel(id))
	}
	// Secrets Manager refuses a token that has stored another value. So of two runs that replace the same
	// version, one fails.
	token := fmt.Sprintf("%x", sha256.Sum256([]byte("ringback "+old.Version)))
	_, err = s.stack.secrets.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId: &s.arn, SecretString: aws.String(string(text)), VersionStages: labels, ClientRequestToken: &token,
	})
	if _, exists := errors.AsType[*types.ResourceExistsException](err); exists {
		return wiring.ErrChanged
	}
	if err != nil {
		return s.stack.explain("cannot store the credential of", err)
	}
	return nil
}

// Bind adds the label of an organisation to a version. It does not write the secret's value. A label can
// belong to one version only, so Bind takes it from another one, which an operator has replaced by hand.
func (s *Secret) Bind(ctx context.Context, to wiring.Stored, organisation string) error {
	const action = "cannot bind the credential to an organisation in"
	label := deployment.OrganisationLabel(organisation)
	described, err := s.stack.secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &s.arn})
	if err != nil {
		return s.stack.explain(action, err)
	}
	in := &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: &s.arn, VersionStage: &label, MoveToVersionId: &to.Version,
	}
	for version, labels := range described.VersionIdsToStages {
		if version != to.Version && slices.Contains(labels, label) {
			in.RemoveFromVersionId = aws.String(version)
		}
	}
	if _, err := s.stack.secrets.UpdateSecretVersionStage(ctx, in); err != nil {
		return s.stack.explain(action, err)
	}
	return nil
}
