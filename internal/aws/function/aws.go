// Package function is what the Lambda functions share: their start, the AWS configuration from their
// environment, and an adapter from an HTTP API's events to net/http.
//
// The configuration needs only the few variables that Lambda sets. It does not use the SDK's own
// loader, which looks for files, profiles and metadata services that a function does not have,
// while a caller waits.
package function

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
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
	dialers     map[string]*dialer // by the scheme of the URL
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
	standard := awshttp.NewBuildableClient()
	// Without a protocol to choose, AWS answers in HTTP/1.1.
	encrypted := tls.Dialer{NetDialer: standard.GetDialer(), Config: &tls.Config{MinVersion: tls.VersionTLS12}}
	dialers := map[string]*dialer{
		"http": {dial: standard.GetDialer().DialContext}, "https": {dial: encrypted.DialContext},
	}
	transport := standard.GetTransport()
	transport.DialContext, transport.DialTLSContext = dialers["http"].DialContext, dialers["https"].DialContext
	// The jobs of a batch call the same few hosts concurrently.
	transport.MaxIdleConnsPerHost = 32
	transport.MaxConnsPerHost = connections(lambdacontext.MemoryLimitInMB)
	transport.WriteBufferSize = 16 << 10 // a few messages
	return &AWS{environment: e, dialers: dialers, config: aws.Config{
		Region:      e.Region,
		Credentials: credentials.NewStaticCredentialsProvider(e.AccessKeyID, e.SecretAccessKey, e.SessionToken),
		HTTPClient:  client{transport},
	}}, nil
}

// client makes the requests of all AWS clients. AWS neither redirects them nor sets cookies, so it needs no
// [http.Client].
type client struct{ transport *http.Transport }

// Do makes one attempt of a request, and reads its answer.
//
// An AWS client hides from net/http that a body is in memory. net/http would send the header first, and AWS would
// receive it apart. It would also not repeat the request if AWS has closed the connection since the last one. Do shows
// the body to net/http. A client repeats every request that fails like this, so net/http may do so, too. It does not
// wait before.
func (c client) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	r = r.WithContext(ctx)
	if r.ContentLength > 0 {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, fmt.Errorf("cannot read the body of a request: %w", err)
		}
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
		r.Header["Idempotency-Key"] = nil // net/http sends no header for it, but may repeat the request
	}
	response, err := c.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer: %w", err)
	}
	response.Body = io.NopCloser(bytes.NewReader(answer))
	return response, nil
}

// connections returns how many connections to a host a function with this memory in MB opens at most. Without a memory,
// as outside of Lambda, it is 0, which means no limit.
//
// The requests of a batch of ten would otherwise open ten connections at the same time. An encrypted one takes 1 to
// 2 ms of a processor, of which a function of 256 MB has a seventh. Four are enough for it: it needs 2 ms for each
// request, and AWS answers within 5.
func connections(memory int) int {
	if memory <= 0 {
		return 0
	}
	return max(memory/64, 2)
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

// ConnectSQS opens the connection that the first request to a queue would otherwise open. Beside an encrypted one, it
// loads the system's certificates, which take longer than the connection until it needs them. It does nothing if there
// is a proxy.
func (a *AWS) ConnectSQS(ctx context.Context) error { return a.connect(ctx, "sqs", a.SQS()) }

// ConnectDynamoDB is ConnectSQS for DynamoDB.
func (a *AWS) ConnectDynamoDB(ctx context.Context) error {
	return a.connect(ctx, "dynamodb", a.DynamoDB())
}

func (a *AWS) connect(ctx context.Context, service string, config aws.Config) error {
	at, err := endpoint.URL(ctx, config, service)
	if err == nil {
		err = a.open(ctx, at)
	}
	if err != nil {
		return fmt.Errorf("cannot connect to %s: %w", service, err)
	}
	return nil
}

func (a *AWS) open(ctx context.Context, at string) error {
	request, err := http.NewRequest(http.MethodPost, at, nil)
	if err != nil {
		return err
	}
	if proxy, err := http.ProxyFromEnvironment(request); proxy != nil || err != nil {
		return err
	}
	port := request.URL.Port()
	switch {
	case request.URL.Scheme == "https":
		port = cmp.Or(port, "443")
		go authorities()
	case request.URL.Scheme == "http":
		port = cmp.Or(port, "80")
	default:
		return fmt.Errorf("%s is no URL of a service", at)
	}
	return a.dialers[request.URL.Scheme].open(ctx, net.JoinHostPort(request.URL.Hostname(), port))
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
