package function_test

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/deployment"
)

// load sets the environment, unsets all other variables that are read, and loads it.
func load(t *testing.T, environment deployment.AWS) (*function.AWS, error) {
	t.Helper()
	variables := deployment.Variables(environment, false)
	for _, name := range deployment.VariableNames(environment) {
		t.Setenv(name, variables[name])
	}
	return function.Load()
}

// lambda returns what Lambda sets, with changes.
func lambda(changes ...func(*deployment.AWS)) deployment.AWS {
	e := deployment.AWS{Region: "eu-central-1", AccessKeyID: "id", SecretAccessKey: "secret", SessionToken: "token"}
	for _, change := range changes {
		change(&e)
	}
	return e
}

func TestLoad(t *testing.T) {
	for name, row := range map[string]struct {
		environment deployment.AWS
		region      string
		says        string // what the error names
	}{
		"as Lambda sets it": {environment: lambda(), region: "eu-central-1"},
		"the default region": {
			environment: lambda(func(e *deployment.AWS) { e.Region, e.DefaultRegion = "", "eu-west-1" }), region: "eu-west-1",
		},
		"both regions": {
			environment: lambda(func(e *deployment.AWS) { e.DefaultRegion = "eu-west-1" }), region: "eu-central-1",
		},
		"no session": {
			environment: lambda(func(e *deployment.AWS) { e.SessionToken = "" }), region: "eu-central-1",
		},
		"nothing":       {says: "AWS_REGION"},
		"no region":     {environment: lambda(func(e *deployment.AWS) { e.Region = "" }), says: "AWS_REGION"},
		"no access key": {environment: lambda(func(e *deployment.AWS) { e.AccessKeyID = "" }), says: "AWS_ACCESS_KEY_ID"},
		"no secret access key": {
			environment: lambda(func(e *deployment.AWS) { e.SecretAccessKey = "" }), says: "AWS_SECRET_ACCESS_KEY",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cloud, err := load(t, row.environment)
			if row.says != "" {
				if err == nil || !strings.Contains(err.Error(), row.says) {
					t.Errorf("error %v, want one that names %s", err, row.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for service, config := range configs(cloud) {
				credentials, err := config.Credentials.Retrieve(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got := []string{config.Region, credentials.AccessKeyID, credentials.SecretAccessKey, credentials.SessionToken}
				want := []string{row.region, "id", "secret", row.environment.SessionToken}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("client %d: (-want +got):\n%s", service, diff)
				}
			}
		})
	}
}

// configs returns the configurations of the clients of SQS, DynamoDB, Secrets Manager, EventBridge and EventBridge
// Scheduler.
func configs(cloud *function.AWS) []aws.Config {
	return []aws.Config{cloud.SQS(), cloud.DynamoDB(), cloud.SecretsManager(), cloud.EventBridge(), cloud.Scheduler()}
}

func TestEndpoints(t *testing.T) {
	for name, row := range map[string]struct {
		environment func(*deployment.AWS)
		want        []string
	}{
		"none": {func(*deployment.AWS) {}, []string{"", "", "", "", ""}},
		"one for all": {
			func(e *deployment.AWS) { e.Endpoint = "http://all" },
			[]string{"http://all", "http://all", "http://all", "http://all", "http://all"},
		},
		"one for each": {
			func(e *deployment.AWS) {
				e.EndpointSQS, e.EndpointDynamoDB, e.EndpointSecretsManager = "http://s", "http://d", "http://m"
				e.EndpointEventBridge, e.EndpointScheduler = "http://e", "http://c"
			},
			[]string{"http://s", "http://d", "http://m", "http://e", "http://c"},
		},
		"one for all, and one for DynamoDB": {
			func(e *deployment.AWS) { e.Endpoint, e.EndpointDynamoDB = "http://all", "http://d" },
			[]string{"http://all", "http://d", "http://all", "http://all", "http://all"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cloud, err := load(t, lambda(row.environment))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, config := range configs(cloud) {
				got = append(got, aws.ToString(config.BaseEndpoint))
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

// counted returns a server, and how many connections to it were opened.
func counted(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	connections := new(atomic.Int32)
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, connections
}

// slow is how long a server takes to answer. A connection that is answered before net/http knows that the request is
// written is kept a moment later than the caller has the answer, and the next request may open another one.
const slow = 5 * time.Millisecond

// TestConnectSQS checks that the first message uses the connection that was opened before.
func TestConnectSQS(t *testing.T) {
	var mu sync.Mutex
	var requests []string
	server, connections := counted(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(slow)
		mu.Lock()
		defer mu.Unlock()
		requests = append(requests, r.Method+" "+r.Header.Get("X-Amz-Target"))
		if r.Method == http.MethodGet {
			http.Error(w, strings.Repeat("not found ", 2000), http.StatusNotFound) // any answer is good enough
			return
		}
		sum := md5.Sum([]byte("hello"))
		_, _ = fmt.Fprintf(w, `{"Successful":[{"Id":"0","MessageId":"m","MD5OfMessageBody":"%x"}]}`, sum)
	})
	cloud, err := load(t, lambda(func(e *deployment.AWS) { e.EndpointSQS = server.URL }))
	if err != nil {
		t.Fatal(err)
	}
	// Like a function, the test makes the client first: it must not bring its own connection pool.
	config := cloud.SQS()
	// In this mode, a client changes the HTTP client if it can.
	config.DefaultsMode = aws.DefaultsModeInRegion
	client := sqs.NewFromConfig(config)
	if err := cloud.ConnectSQS(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{
		QueueUrl: aws.String("https://sqs.eu-central-1.amazonaws.com/123456789012/jobs"), // its host is not used
		Entries:  []types.SendMessageBatchRequestEntry{{Id: aws.String("0"), MessageBody: aws.String("hello")}},
	}); err != nil {
		t.Fatal(err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"GET ", "POST AmazonSQS.SendMessageBatch"}, requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestConnectDynamoDB checks that the first requests use the connection that was opened before, and that it is kept.
func TestConnectDynamoDB(t *testing.T) {
	server, connections := counted(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(slow)
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "healthy")
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = io.WriteString(w, "{}")
	})
	cloud, err := load(t, lambda(func(e *deployment.AWS) { e.EndpointDynamoDB = server.URL }))
	if err != nil {
		t.Fatal(err)
	}
	client := dynamodb.NewFromConfig(cloud.DynamoDB())
	function.Connecting(cloud.ConnectDynamoDB)()
	for range 5 {
		if _, err := client.GetItem(t.Context(), &dynamodb.GetItemInput{
			TableName: aws.String("jobs"), Key: map[string]dynamodbtypes.AttributeValue{},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestConnectionsAreKept checks that a batch of ten opens ten connections at most, and the batches after it none.
func TestConnectionsAreKept(t *testing.T) {
	var together sync.WaitGroup
	server, connections := counted(t, func(w http.ResponseWriter, _ *http.Request) {
		together.Done()
		together.Wait() // so that each needs a connection of its own
		time.Sleep(slow)
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = io.WriteString(w, "{}")
	})
	cloud, err := load(t, lambda(func(e *deployment.AWS) { e.Endpoint = server.URL }))
	if err != nil {
		t.Fatal(err)
	}
	table, queue := dynamodb.NewFromConfig(cloud.DynamoDB()), sqs.NewFromConfig(cloud.SQS())
	const batch = 10
	for range 3 {
		for _, request := range []func() error{
			func() error {
				_, err := table.GetItem(t.Context(), &dynamodb.GetItemInput{
					TableName: aws.String("jobs"), Key: map[string]dynamodbtypes.AttributeValue{},
				})
				return err
			},
			func() error {
				_, err := queue.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{
					QueueUrl: aws.String(server.URL), ReceiptHandle: aws.String("m"),
				})
				return err
			},
		} {
			together.Add(batch)
			var all sync.WaitGroup
			for range batch {
				all.Go(func() {
					if err := request(); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
	}
	if n := connections.Load(); n > batch {
		t.Errorf("%d connections, want at most %d", n, batch)
	}
}

// TestLoadAuthorities checks which folders Go looks for certificates in, and that programs of tools see no change.
func TestLoadAuthorities(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), "bundle.crt")
	if err := os.WriteFile(bundle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ file, folders, bundle, want string }{
		"a bundle":             {bundle: bundle, want: bundle},
		"no bundle":            {bundle: bundle + ".none"},
		"folders of the user":  {bundle: bundle, folders: "/opt/certificates", want: "/opt/certificates"},
		"a file of the user's": {bundle: bundle, file: "/opt/authorities.pem"},
	} {
		t.Setenv("SSL_CERT_FILE", row.file)
		t.Setenv("SSL_CERT_DIR", row.folders)
		function.LoadAuthorities(row.bundle, func() {
			if got := os.Getenv("SSL_CERT_DIR"); got != row.want {
				t.Errorf("%s: certificates are loaded from %q, want %q", name, got, row.want)
			}
		})
		if got := os.Getenv("SSL_CERT_DIR"); got != row.folders {
			t.Errorf("%s: the environment has %q afterwards", name, got)
		}
	}
}

func TestConnectFails(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, url := range map[string]string{"no URL": "://", "no server": gone.URL} {
		cloud, err := load(t, lambda(func(e *deployment.AWS) { e.Endpoint = url }))
		if err != nil {
			t.Fatal(err)
		}
		if err := cloud.ConnectSQS(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot connect to sqs") {
			t.Errorf("%s: error %v", name, err)
		}
		err = cloud.ConnectDynamoDB(t.Context())
		if err == nil || !strings.Contains(err.Error(), "cannot connect to dynamodb") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	cloud, err := load(t, lambda())
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := cloud.ConnectSQS(ended); !errors.Is(err, context.Canceled) ||
		!strings.Contains(err.Error(), "https://sqs.eu-central-1.amazonaws.com") {
		t.Errorf("the context ended: error %v", err)
	}
}
