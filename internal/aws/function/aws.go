// Package function is what the Lambda functions share: their start, the AWS configuration from their
// environment, and an adapter from an HTTP API's events to net/http.
//
// The configuration needs only the few variables that Lambda sets. It does not use the SDK's own
// loader, which looks for files, profiles and metadata services that a function does not have,
// while a caller waits.
package function

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/internal/aws/endpoint"
	"github.com/ringback/ringback/internal/deployment"
)

// requestTimeout bounds one attempt of a request. AWS answers the functions' requests within
// milliseconds, so it is better to repeat a request that hangs.
const requestTimeout = 5 * time.Second

// AWS returns the configurations of AWS clients.
type AWS struct {
	environment deployment.AWS
	config      aws.Config
}

// Load reads the environment. It returns an error if the region or the credentials are missing.
func Load() (*AWS, error) {
	e, err := env.ParseAs[deployment.AWS]()
	if err != nil {
		return nil, fmt.Errorf("cannot read the environment: %w", err)
	}
	if e.Region == "" {
		e.Region = e.DefaultRegion
	}
	if e.Region == "" {
		return nil, errors.New("AWS_REGION is not set; Lambda sets it, elsewhere set it yourself")
	}
	if e.AccessKeyID == "" || e.SecretAccessKey == "" {
		return nil, errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set; " +
			"Lambda sets them, elsewhere set them yourself (an emulator accepts any value)")
	}
	return &AWS{environment: e, config: aws.Config{
		Region:      e.Region,
		Credentials: credentials.NewStaticCredentialsProvider(e.AccessKeyID, e.SecretAccessKey, e.SessionToken),
		HTTPClient: awshttp.NewBuildableClient().WithTimeout(requestTimeout).WithTransportOptions(func(t *http.Transport) {
			// The jobs of a batch call the same few hosts concurrently.
			t.MaxIdleConnsPerHost = 32
			// Frozen, because a client could otherwise make a copy with its own connections.
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

// SQS returns the configuration of an SQS client.
func (a *AWS) SQS() aws.Config { return a.with(a.environment.EndpointSQS) }

// DynamoDB returns the configuration of a DynamoDB client. It repeats a request more often than the
// others, since a result that cannot be stored is work lost.
func (a *AWS) DynamoDB() aws.Config {
	config := a.with(a.environment.EndpointDynamoDB)
	config.RetryMaxAttempts = 6
	return config
}

// SecretsManager returns the configuration of a Secrets Manager client.
func (a *AWS) SecretsManager() aws.Config { return a.with(a.environment.EndpointSecretsManager) }

// EventBridge returns the configuration of an EventBridge client.
func (a *AWS) EventBridge() aws.Config { return a.with(a.environment.EndpointEventBridge) }

// KMS returns the configuration of a KMS client.
func (a *AWS) KMS() aws.Config { return a.with(a.environment.EndpointKMS) }

// Scheduler returns the configuration of an EventBridge Scheduler client.
func (a *AWS) Scheduler() aws.Config { return a.with(a.environment.EndpointScheduler) }

// ConnectSQS opens the connection that the first request to a queue would otherwise open, with the
// HTTP client that will send that request. Any answer is good enough. Beside it, it loads the system's
// certificates, which take longer than the connection until it needs them.
func (a *AWS) ConnectSQS(ctx context.Context) error { return a.connect(ctx, "sqs", a.SQS()) }

// ConnectDynamoDB is ConnectSQS for DynamoDB.
func (a *AWS) ConnectDynamoDB(ctx context.Context) error {
	return a.connect(ctx, "dynamodb", a.DynamoDB())
}

func (a *AWS) connect(ctx context.Context, service string, config aws.Config) error {
	at, err := endpoint.URL(ctx, config, service)
	if err == nil {
		if strings.HasPrefix(at, "https:") {
			go authorities()
		}
		err = greet(ctx, a.config.HTTPClient, at)
	}
	if err != nil {
		return fmt.Errorf("cannot connect to %s: %w", service, err)
	}
	return nil
}

// authorities loads the certificates that a handshake needs. The handshake has its error.
var authorities = sync.OnceFunc(func() { loadAuthorities(amazonLinux, func() { _, _ = x509.SystemCertPool() }) })

// amazonLinux is the file with the certificates of all authorities on Amazon Linux 2023, and so on Lambda.
const amazonLinux = "/etc/pki/tls/certs/ca-bundle.crt"

// loadAuthorities loads the certificates of the system's authorities. If there is a bundle, it loads no others, unless
// the environment says where they are: Go would also read each of them from a file of its own, which takes a start four
// times as long (golang/go issue 79018).
func loadAuthorities(bundle string, load func()) {
	const folders = "SSL_CERT_DIR"
	if _, err := os.Stat(bundle); err == nil && os.Getenv(folders) == "" && os.Getenv("SSL_CERT_FILE") == "" {
		_ = os.Setenv(folders, bundle) // a file, in which there are no others
		defer os.Unsetenv(folders)     // for the programs of a tool
	}
	load()
}

// maxGreeting bounds what is read of an answer that no one needs, in bytes.
const maxGreeting = 64 << 10

func greet(ctx context.Context, client aws.HTTPClient, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	// A connection is used again only after its answer was read.
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxGreeting))
	return errors.Join(err, response.Body.Close())
}

// connectTime bounds what a start waits for connections.
const connectTime = 3 * time.Second

// Connecting opens connections at the same time, and returns a function that waits for them. What fails is logged, and
// tried again by the first request.
func Connecting(connect ...func(context.Context) error) (wait func()) {
	ctx, cancel := context.WithTimeout(context.Background(), connectTime)
	var all sync.WaitGroup
	for _, c := range connect {
		all.Go(func() {
			if err := c(ctx); err != nil {
				slog.Warn("cannot connect yet", "error", err)
			}
		})
	}
	return func() {
		all.Wait()
		cancel()
	}
}
