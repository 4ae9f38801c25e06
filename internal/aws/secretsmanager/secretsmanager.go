// Package secretsmanager reads secrets from AWS Secrets Manager.
package secretsmanager

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/secret"
)

// Client is the part of a Secrets Manager client that a secret needs.
type Client interface {
	GetSecretValue(
		context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options),
	) (*secretsmanager.GetSecretValueOutput, error)
}

// New returns the secret with a name or ARN. It reads nothing yet. If the secret is bound to organisations,
// its text is that of [secret.WithOrganisations].
func New(client Client, id string) *secret.Secret {
	return secret.New(func(ctx context.Context) (string, error) {
		out, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(id)})
		if revoked(err) {
			return "", fmt.Errorf("cannot read secret %s: %w: %w", id, secret.ErrRevoked, err)
		}
		if err != nil {
			return "", fmt.Errorf("cannot read secret %s: %w", id, err)
		}
		if out.SecretString == nil {
			return "", fmt.Errorf("secret %s holds bytes; store a text instead", id)
		}
		// GetSecretValue returns all labels of the version, so they cost no request of their own.
		return secret.WithOrganisations(*out.SecretString, deployment.Organisations(out.VersionStages)), nil
	}, nil, nil)
}

// revoked reports whether the secret is gone, or must no longer be read. To read a secret that is
// scheduled for deletion is an InvalidRequestException (AWS Secrets Manager API reference,
// GetSecretValue).
func revoked(err error) bool {
	failure, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	switch failure.ErrorCode() {
	case "AccessDeniedException", "ResourceNotFoundException", "InvalidRequestException":
		return true
	}
	return false
}
