package function_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
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

// TestRequests checks that a request arrives in one piece, and that an attempt of which no answer comes ends.
func TestRequests(t *testing.T) {
	cloud, err := load(t, lambda(func(e *deployment.AWS) { e.Endpoint = "http://sqs" }))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		const answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 2\r\n\r\n{}"
		answers := []string{"", answer[:20], answer[:len(answer)-1], answer, answer}
		requests := 0
		closeKept := cloud.Dial(func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				piece := make([]byte, 64<<10)
				for {
					n, err := theirs.Read(piece)
					if err != nil {
						return
					}
					r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(piece[:n])))
					if err != nil {
						t.Errorf("the piece %q is no request: %v", piece[:n], err)
						return
					}
					if body, err := io.ReadAll(r.Body); err != nil || !json.Valid(body) {
						t.Errorf("the body of the request %q is not in the same piece: %v", piece[:n], err)
					}
					requests++
					_, _ = io.WriteString(theirs, answers[requests-1])
				}
			}()
			return ours, nil
		})
		defer closeKept()
		client := sqs.NewFromConfig(cloud.SQS(), func(o *sqs.Options) { o.RetryMaxAttempts = 4 })
		start := time.Now()
		for range 2 {
			_, err := client.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{
				QueueUrl: aws.String("https://sqs/1/jobs"), ReceiptHandle: aws.String(strings.Repeat("m", 8<<10)),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		// Three attempts have no answer, and end after 5 s each. The client waits before the next ones.
		if took := time.Since(start); requests != len(answers) || took < 15*time.Second || took > 20*time.Second {
			t.Errorf("%d requests in %v", requests, took)
		}
	})
}

// TestClosedConnection makes a request after AWS has closed the connection of the one before. It does not wait for the
// client's next attempt.
func TestClosedConnection(t *testing.T) {
	cloud, err := load(t, lambda(func(e *deployment.AWS) { e.Endpoint = "http://sqs" }))
	if err != nil {
		t.Fatal(err)
	}
	for name, seen := range map[string]bool{"seen when the request is sent": true, "seen afterwards": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connections, requests := 0, 0
				closeKept := cloud.Dial(func(context.Context, string, string) (net.Conn, error) {
					connections++
					first := connections == 1
					ours, theirs := net.Pipe()
					go func() {
						defer theirs.Close()
						for in := bufio.NewReader(theirs); ; {
							r, err := http.ReadRequest(in)
							if err != nil {
								return
							}
							if r.Header.Get("Idempotency-Key") != "" {
								t.Errorf("the header is %v", r.Header)
							}
							_, _ = io.Copy(io.Discard, r.Body)
							if requests++; first && requests == 2 {
								return
							}
							_, _ = io.WriteString(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
						}
					}()
					return closing{ours, func() bool { return seen && first && requests == 1 }}, nil
				})
				defer closeKept()
				client, start := sqs.NewFromConfig(cloud.SQS()), time.Now()
				for range 2 {
					_, err := client.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{
						QueueUrl: aws.String("https://sqs/1/jobs"), ReceiptHandle: aws.String("m"),
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(start); connections != 2 || took > 0 {
					t.Errorf("%d connections, and requests that take %v", connections, took)
				}
			})
		})
	}
}

// closing is a connection that may be closed, unseen until something is sent.
type closing struct {
	net.Conn
	closed func() bool
}

func (c closing) Write(p []byte) (int, error) {
	if c.closed() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// slow is how long a server takes to answer. A connection that is answered before net/http knows that the request is
// written is kept a moment later than the caller has the answer, and the next request may open another one.
const slow = 5 * time.Millisecond

// counted returns the AWS of a slow server, its URL, and how many connections to it were opened. The server calls
// before for each request.
func counted(t *testing.T, encrypted bool, before func()) (cloud *function.AWS, url string, connections *atomic.Int32) {
	t.Helper()
	connections = new(atomic.Int32)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		before()
		time.Sleep(slow)
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = io.WriteString(w, "{}")
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	if encrypted {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	cloud, err := load(t, lambda(func(e *deployment.AWS) { e.Endpoint = server.URL }))
	if err != nil {
		t.Fatal(err)
	}
	return cloud, server.URL, connections
}

// attempts returns how many connections an attempt opens. It makes a few attempts until that is what the test wants: if
// the end of a request takes longer than 50 ms on a busy machine, net/http closes its connection instead of keeping it.
func attempts(want int32, attempt func() *atomic.Int32) (opened int32) {
	for range 5 {
		if opened = attempt().Load(); opened == want {
			break
		}
	}
	return opened
}

// TestConnect checks that the first request uses the connection that was opened before, and that it is kept.
func TestConnect(t *testing.T) {
	sends := func(cloud *function.AWS) (connect, request func(context.Context) error) {
		config := cloud.SQS()
		// In this mode, a client changes the HTTP client if it can. It must not bring a connection pool of its own.
		config.DefaultsMode = aws.DefaultsModeInRegion
		client := sqs.NewFromConfig(config)
		return cloud.ConnectSQS, func(ctx context.Context) error {
			_, err := client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
				QueueUrl:      aws.String("https://sqs.eu-central-1.amazonaws.com/123456789012/jobs"), // its host is not used
				ReceiptHandle: aws.String("m"),
			})
			return err
		}
	}
	reads := func(cloud *function.AWS) (connect, request func(context.Context) error) {
		client := dynamodb.NewFromConfig(cloud.DynamoDB())
		return cloud.ConnectDynamoDB, func(ctx context.Context) error {
			_, err := client.GetItem(ctx, &dynamodb.GetItemInput{
				TableName: aws.String("jobs"), Key: map[string]dynamodbtypes.AttributeValue{},
			})
			return err
		}
	}
	for name, test := range map[string]struct {
		service   func(*function.AWS) (connect, request func(context.Context) error)
		encrypted bool
	}{
		"SQS": {sends, false}, "SQS, encrypted": {sends, true},
		"DynamoDB": {reads, false}, "DynamoDB, encrypted": {reads, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := attempts(1, func() *atomic.Int32 {
				var requests atomic.Int32
				cloud, _, connections := counted(t, test.encrypted, func() { requests.Add(1) })
				connect, request := test.service(cloud)
				function.Connecting(connect)()
				if n := requests.Load(); n != 0 {
					t.Errorf("%d requests before the first one", n)
				}
				for range 5 {
					if err := request(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				return connections
			})
			if n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// TestConnectionIsTooOld checks that a connection that waited for long is not used: the server may have closed it.
func TestConnectionIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened, closed := 0, 0
		d := function.NewDialer(func(context.Context, string, string) (net.Conn, error) {
			opened++
			return &connection{closed: &closed}, nil
		})
		for i, wait := range []time.Duration{0, time.Second, 5 * time.Second, time.Hour} {
			if err := d.Open(t.Context(), "sqs:443"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(wait)
			before := opened
			if _, err := d.DialContext(t.Context(), "tcp", "sqs:443"); err != nil {
				t.Fatal(err)
			}
			if old := i > 1; (opened > before) != old || (closed > 0) != old {
				t.Errorf("after %s: %d more were opened, and %d closed", wait, opened-before, closed)
			}
			closed = 0
		}
		if _, err := d.DialContext(t.Context(), "tcp", "sqs:443"); err != nil || opened != 7 {
			t.Errorf("%d were opened, the last one with %v: a connection was used twice", opened, err)
		}
	})
}

type connection struct {
	net.Conn
	closed *int
}

func (c *connection) Close() error {
	*c.closed++
	return nil
}

// TestConnectThroughAProxy checks that nothing is connected to if requests go through a proxy.
func TestConnectThroughAProxy(t *testing.T) {
	connect := exec.CommandContext(t.Context(), os.Args[0])
	connect.Env = []string{
		"BE_A_FUNCTION=that only connects", "HTTPS_PROXY=http://192.0.2.1:3128", "AWS_ENDPOINT_URL=https://192.0.2.1:1",
		"AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret",
	}
	if out, err := connect.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestConnectionsAreKept checks that a batch of ten opens ten connections at most, and the batches after it none.
func TestConnectionsAreKept(t *testing.T) {
	const batch = 10
	n := attempts(batch, func() *atomic.Int32 {
		var together sync.WaitGroup
		cloud, url, connections := counted(t, false, func() {
			together.Done()
			together.Wait() // so that each needs a connection of its own
		})
		table, queue := dynamodb.NewFromConfig(cloud.DynamoDB()), sqs.NewFromConfig(cloud.SQS())
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
						QueueUrl: aws.String(url), ReceiptHandle: aws.String("m"),
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
		return connections
	})
	if n != batch {
		t.Errorf("%d connections, want %d", n, batch)
	}
}

// TestConnectionLimit checks how many connections the requests of a batch open at the same time.
func TestConnectionLimit(t *testing.T) {
	for memory, want := range map[int]int32{0: 10, 128: 2, 256: 4, 512: 8, 1769: 10} {
		t.Run(fmt.Sprint(memory), func(t *testing.T) {
			lambdacontext.MemoryLimitInMB = memory
			defer func() { lambdacontext.MemoryLimitInMB = 0 }()
			n := attempts(want, func() *atomic.Int32 {
				var waiting atomic.Int32
				full := make(chan struct{})
				cloud, _, connections := counted(t, false, func() {
					if waiting.Add(1) == want {
						close(full)
					}
					<-full // so that no connection is used again before all are open
				})
				table := dynamodb.NewFromConfig(cloud.DynamoDB())
				var all sync.WaitGroup
				for range 10 {
					all.Go(func() {
						_, err := table.GetItem(t.Context(), &dynamodb.GetItemInput{
							TableName: aws.String("jobs"), Key: map[string]dynamodbtypes.AttributeValue{},
						})
						if err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				return connections
			})
			if n != want {
				t.Errorf("%d connections, want %d", n, want)
			}
		})
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
		!strings.Contains(err.Error(), "sqs.eu-central-1.amazonaws.com") {
		t.Errorf("the context ended: error %v", err)
	}
}
