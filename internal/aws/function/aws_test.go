package function_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/function"
)

// environment sets the variables, and unsets all others that are read.
func environment(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, name := range []string{
		"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_EVENTBRIDGE",
		"AWS_ENDPOINT_URL_SCHEDULER",
	} {
		t.Setenv(name, variables[name])
	}
}

// lambda is what every function has.
func lambda(more ...string) map[string]string {
	m := map[string]string{
		"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token",
	}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func TestLoad(t *testing.T) {
	for name, row := range map[string]struct {
		variables map[string]string
		region    string
		says      string // what the error names
	}{
		"as Lambda sets it":    {variables: lambda(), region: "eu-central-1"},
		"the default region":   {variables: lambda("AWS_REGION", "", "AWS_DEFAULT_REGION", "eu-west-1"), region: "eu-west-1"},
		"both regions":         {variables: lambda("AWS_DEFAULT_REGION", "eu-west-1"), region: "eu-central-1"},
		"no session":           {variables: lambda("AWS_SESSION_TOKEN", ""), region: "eu-central-1"},
		"nothing":              {says: "AWS_REGION"},
		"no region":            {variables: lambda("AWS_REGION", ""), says: "AWS_REGION"},
		"no access key":        {variables: lambda("AWS_ACCESS_KEY_ID", ""), says: "AWS_ACCESS_KEY_ID"},
		"no secret access key": {variables: lambda("AWS_SECRET_ACCESS_KEY", ""), says: "AWS_SECRET_ACCESS_KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, row.variables)
			cloud, err := function.Load()
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
				if diff := cmp.Diff([]string{row.region, "id", "secret", row.variables["AWS_SESSION_TOKEN"]}, got); diff != "" {
					t.Errorf("%s: (-want +got):\n%s", service, diff)
				}
			}
		})
	}
}

func configs(cloud *function.AWS) map[string]aws.Config {
	return map[string]aws.Config{
		"sqs": cloud.SQS(), "dynamodb": cloud.DynamoDB(), "secretsmanager": cloud.SecretsManager(), "eventbridge": cloud.EventBridge(), "scheduler": cloud.Scheduler(),
	}
}

func TestEndpoints(t *testing.T) {
	for name, row := range map[string]struct {
		variables []string
		want      map[string]string
	}{
		"none": {want: map[string]string{"sqs": "", "dynamodb": "", "secretsmanager": "", "eventbridge": "", "scheduler": ""}},
		"one for all": {
			variables: []string{"AWS_ENDPOINT_URL", "http://all"},
			want:      map[string]string{"sqs": "http://all", "dynamodb": "http://all", "secretsmanager": "http://all", "eventbridge": "http://all", "scheduler": "http://all"},
		},
		"one of their own each": {
			variables: []string{
				"AWS_ENDPOINT_URL_SQS", "http://s", "AWS_ENDPOINT_URL_DYNAMODB", "http://d",
				"AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://m", "AWS_ENDPOINT_URL_EVENTBRIDGE", "http://e",
				"AWS_ENDPOINT_URL_SCHEDULER", "http://c",
			},
			want: map[string]string{"sqs": "http://s", "dynamodb": "http://d", "secretsmanager": "http://m", "eventbridge": "http://e", "scheduler": "http://c"},
		},
		"one of its own goes before the one for all": {
			variables: []string{"AWS_ENDPOINT_URL", "http://all", "AWS_ENDPOINT_URL_DYNAMODB", "http://d"},
			want:      map[string]string{"sqs": "http://all", "dynamodb": "http://d", "secretsmanager": "http://all", "eventbridge": "http://all", "scheduler": "http://all"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, lambda(row.variables...))
			cloud, err := function.Load()
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			for service, config := range configs(cloud) {
				got[service] = aws.ToString(config.BaseEndpoint)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

// TestConnectSQS tests that the first message goes through the connection that
// was opened before.
func TestConnectSQS(t *testing.T) {
	for _, byQueueURL := range []bool{false, true} {
		connections := new(atomic.Int32)
		var mu sync.Mutex
		var requests []string
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			requests = append(requests, r.Method+" "+r.Header.Get("X-Amz-Target"))
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusNotFound) // any answer will do
				return
			}
			sum := md5.Sum([]byte("hello"))
			_, _ = io.WriteString(w, `{"Successful":[{"Id":"0","MessageId":"m","MD5OfMessageBody":"`+hex.EncodeToString(sum[:])+`"}]}`)
		}))
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections.Add(1)
			}
		}
		server.Start()
		defer server.Close()
		queueURL := "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs"
		if byQueueURL {
			// Without an endpoint of its own, a queue is at its URL.
			queueURL = server.URL + "/123456789012/jobs"
			environment(t, lambda())
		} else {
			environment(t, lambda("AWS_ENDPOINT_URL_SQS", server.URL))
		}
		cloud, err := function.Load()
		if err != nil {
			t.Fatal(err)
		}
		// Made before, as a function does: the client may not have brought a
		// connection pool of its own.
		config := cloud.SQS()
		config.BaseEndpoint = aws.String(server.URL)
		// In this mode a client makes changes of its own to the HTTP client,
		// where it can.
		config.DefaultsMode = aws.DefaultsModeInRegion
		client := sqs.NewFromConfig(config)
		if err := cloud.ConnectSQS(t.Context(), queueURL); err != nil {
			t.Fatal(err)
		}
		if _, err := client.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{
			QueueUrl: aws.String(queueURL),
			Entries:  []types.SendMessageBatchRequestEntry{{Id: aws.String("0"), MessageBody: aws.String("hello")}},
		}); err != nil {
			t.Fatal(err)
		}
		if n := connections.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
		mu.Lock()
		if diff := cmp.Diff([]string{"HEAD ", "POST AmazonSQS.SendMessageBatch"}, requests); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		mu.Unlock()
	}
}

// TestQueueURLIsTheEndpoint tests that the host of a queue's URL is the one that
// the SDK sends to, as ConnectSQS connects to it.
func TestQueueURLIsTheEndpoint(t *testing.T) {
	endpoint, err := sqs.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(), sqs.EndpointParameters{Region: aws.String("eu-central-1")}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	if got := endpoint.URI.String(); got != "https://sqs.eu-central-1.amazonaws.com" {
		t.Errorf("the SDK sends to %s", got)
	}
}

func TestConnectSQSFails(t *testing.T) {
	environment(t, lambda())
	cloud, err := function.Load()
	if err != nil {
		t.Fatal(err)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, row := range map[string]struct {
		ctx context.Context
		url string
	}{
		"no URL":            {t.Context(), "://"},
		"nobody is there":   {t.Context(), gone.URL},
		"the context ended": {ended, gone.URL},
	} {
		if err := cloud.ConnectSQS(row.ctx, row.url); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
