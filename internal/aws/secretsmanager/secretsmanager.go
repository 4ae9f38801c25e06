// Package secretsmanager reads secrets from AWS Secrets Manager.
//
// It sends the only request that Ringback needs. The SDK's client of the service prepares for all others, too, and a
// caller waits while the front function starts.
package secretsmanager

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ringback/ringback/internal/aws/endpoint"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/secret"
)

// Client asks AWS Secrets Manager.
type Client struct {
	config  aws.Config
	signer  *v4.Signer
	retries *retry.Standard
}

// New returns a client with the region and the credentials of a configuration, and with its BaseEndpoint and
// HTTPClient, if they are set.
func New(config aws.Config) *Client {
	if config.HTTPClient == nil {
		config.HTTPClient = awshttp.NewBuildableClient()
	}
	return &Client{config: config, signer: v4.NewSigner(), retries: retry.NewStandard()}
}

// Secret returns the secret with a name or ARN. It reads nothing yet. If the secret is bound to organisations,
// its text is that of [secret.WithOrganisations].
func (c *Client) Secret(id string) *secret.Secret {
	return secret.New(func(ctx context.Context) (string, error) {
		v, err := c.read(ctx, id)
		if revoked(err) {
			return "", fmt.Errorf("cannot read secret %s: %w: %w", id, secret.ErrRevoked, err)
		}
		if err != nil {
			return "", fmt.Errorf("cannot read secret %s: %w", id, err)
		}
		if v.SecretString == nil {
			return "", fmt.Errorf("secret %s holds bytes; store a text instead", id)
		}
		// GetSecretValue returns all labels of the version, so they cost no request of their own.
		return secret.WithOrganisations(*v.SecretString, deployment.Organisations(v.VersionStages)), nil
	}, nil, nil)
}

// value is the part of an answer that Ringback needs (AWS Secrets Manager API reference, GetSecretValue).
type value struct {
	SecretString  *string
	VersionStages []string
}

// read sends GetSecretValue. It repeats the request after the errors after which the SDK's clients do, and as often.
func (c *Client) read(ctx context.Context, id string) (v value, err error) {
	question, err := json.Marshal(map[string]string{"SecretId": id})
	if err != nil {
		return v, err
	}
	for attempt := 1; ; attempt++ {
		answer, err := c.ask(ctx, question)
		if err == nil {
			err = json.Unmarshal(answer, &v)
			return v, err
		}
		if attempt >= c.retries.MaxAttempts() || !c.retries.IsErrorRetryable(err) {
			return v, err
		}
		delay, tired := c.retries.RetryDelay(attempt, err)
		if tired != nil {
			return v, err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return v, err
		}
	}
}

// maxAnswer bounds an answer, in bytes. A secret has up to 65,536 (AWS Secrets Manager user guide, "Quotas").
const maxAnswer = 1 << 20

// ask sends one request in AWS's JSON 1.1 protocol.
func (c *Client) ask(ctx context.Context, question []byte) ([]byte, error) {
	at, err := endpoint.URL(ctx, c.config, "secretsmanager")
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at+"/", bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
	credentials, err := c.config.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(question)
	hash := hex.EncodeToString(sum[:])
	if err := c.signer.SignHTTP(ctx, credentials, r, hash, "secretsmanager", c.config.Region, time.Now()); err != nil {
		return nil, err
	}
	response, err := c.config.HTTPClient.Do(r)
	if err != nil { // such as that of a connection that the server has closed
		return nil, &smithyhttp.RequestSendError{Err: err}
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, newFailure(response, answer)
	}
	return answer, nil
}

// failure is an answer with an error. The SDK's retries know from it whether to repeat the request.
type failure struct {
	smithy.GenericAPIError
	status int
}

// HTTPStatusCode returns the status of the answer.
func (f *failure) HTTPStatusCode() int { return f.status }

func newFailure(response *http.Response, answer []byte) *failure {
	var said struct {
		Type    string `json:"__type"`
		Message string // or message
	}
	_ = json.Unmarshal(answer, &said) // a proxy's answer is not JSON
	// The code may have a name space before it, and a colon after it (AWS JSON 1.1 protocol, "Operation error
	// serialization").
	code := cmp.Or(response.Header.Get("X-Amzn-ErrorType"), said.Type)
	code, _, _ = strings.Cut(code[strings.LastIndexByte(code, '#')+1:], ":")
	return &failure{
		smithy.GenericAPIError{Code: cmp.Or(code, http.StatusText(response.StatusCode)), Message: said.Message},
		response.StatusCode,
	}
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
