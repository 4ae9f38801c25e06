// Package secretsmanager reads secrets from AWS Secrets Manager.
package secretsmanager

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/ringback/ringback/internal/secret"
)

// Client is the part of a Secrets Manager client that a secret needs.
type Client interface {
	GetSecretValue(
		context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options),
	) (*secretsmanager.GetSecretValueOutput, error)
}

// New returns the secret with a name or ARN. It reads nothing yet.
func New(client Client, id string) *secret.Secret {
	return secret.New(func(ctx context.Context) (string, error) {
		out, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(id)})
		if err != nil {
			return "", fmt.Errorf("cannot read secret %s: %w", id, err)
		}
		if out.SecretString == nil {
			return "", fmt.Errorf("secret %s holds bytes; store a text instead", id)
		}
		return *out.SecretString, nil
	}, nil, nil)
}
