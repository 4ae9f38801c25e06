// Package awsenv makes the AWS configuration of a Lambda function from its
// environment. It knows the few variables that Lambda sets, and does without
// the SDK's own loader, which looks for files, profiles and metadata services
// that a function does not have, while a caller waits.
package function

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/internal/deployment"
)

// requestTimeout bounds one try of a request. All that the functions ask of
// AWS is answered within milliseconds; a request that hangs is better repeated.
const requestTimeout = 5 * time.Second

// AWS makes the clients' configurations.
type AWS struct {
	environment deployment.AWS
	config      aws.Config
}

// Load reads the environment. It fails where the region or the credentials
// are missing.
func Load() (*AWS, error) {
	e, err := env.ParseAs[deployment.AWS]()
	if err != nil {
		return nil, fmt.Errorf("read the environment: %w", err)
	}
	if e.Region == "" {
		e.Region = e.DefaultRegion
	}
	if e.Region == "" {
		return nil, errors.New("AWS_REGION is not set; Lambda sets it, elsewhere name the region yourself")
	}
	if e.AccessKeyID == "" || e.SecretAccessKey == "" {
		return nil, errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set; Lambda sets them, elsewhere export them (an emulator takes any)")
	}
	return &AWS{environment: e, config: aws.Config{
		Region:      e.Region,
		Credentials: credentials.NewStaticCredentialsProvider(e.AccessKeyID, e.SecretAccessKey, e.SessionToken),
		HTTPClient: awshttp.NewBuildableClient().WithTimeout(requestTimeout).WithTransportOptions(func(t *http.Transport) {
			// A batch's jobs talk to the same few hosts side by side.
			t.MaxIdleConnsPerHost = 32
			// Frozen, as a client could otherwise make itself a copy, with
			// connections of its own.
		}).Freeze(),
	}}, nil
}

func (a *AWS) with(endpoint string) aws.Config {
	config := a.config.Copy()
	if endpoint == "" {
		endpoint = a.environment.Endpoint
	}
	if endpoint != "" {
		config.BaseEndpoint = aws.String(endpoint)
	}
	return config
}

// SQS is the configuration of an SQS client.
func (a *AWS) SQS() aws.Config { return a.with(a.environment.EndpointSQS) }

// DynamoDB is the configuration of a DynamoDB client. It repeats a request more
// often than others do: a result that cannot be stored is work done in vain.
func (a *AWS) DynamoDB() aws.Config {
	config := a.with(a.environment.EndpointDynamoDB)
	config.RetryMaxAttempts = 6
	return config
}

// SecretsManager is the configuration of a Secrets Manager client.
func (a *AWS) SecretsManager() aws.Config { return a.with(a.environment.EndpointSecretsManager) }

// EventBridge is the configuration of an EventBridge client.
func (a *AWS) EventBridge() aws.Config { return a.with(a.environment.EndpointEventBridge) }

// Scheduler is the configuration of an EventBridge Scheduler client.
func (a *AWS) Scheduler() aws.Config { return a.with(a.environment.EndpointScheduler) }

// ConnectSQS opens the connection that the first request to a queue would have
// to open, with the HTTP client that will send it. Any answer will do.
func (a *AWS) ConnectSQS(ctx context.Context, queueURL string) error {
	if endpoint := a.SQS().BaseEndpoint; endpoint != nil {
		queueURL = *endpoint
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, queueURL, nil)
	if err != nil {
		return fmt.Errorf("connect to SQS: %w", err)
	}
	response, err := a.config.HTTPClient.Do(request)
	if err != nil {
		return fmt.Errorf("connect to SQS: %w", err)
	}
	return response.Body.Close()
}
