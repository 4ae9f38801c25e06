package secretsmanager_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssecretsmanager "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/secret"
)

const id = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:webhook-AbCdEf"

// manager returns the configuration of a function with a Secrets Manager that a handler serves.
func manager(t *testing.T, handler http.HandlerFunc) aws.Config {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	t.Setenv("AWS_SESSION_TOKEN", "session")
	return functiontest.Load(t, "SECRETS_MANAGER", server.URL).SecretsManager()
}

func TestSecret(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		answer string
		want   string // empty means an error
		says   string // what the error says
		ends   bool   // the cached value ends
	}{
		"a text": {
			answer: `{"ARN":"` + id + `","SecretString":"{\"type\":\"bearer\",\"token\":\"ü\"}"}`,
			want:   `{"type":"bearer","token":"ü"}`,
		},
		"bound to organisations": {
			answer: `{"SecretString":"{}","VersionStages":["AWSCURRENT","ringback/organisation/org-1","other/org-2",` +
				`"ringback/organisation/","ringback/organisation/org-3"]}`,
			want: secret.WithOrganisations("{}", []string{"org-1", "org-3"}),
		},
		"not bound": {answer: `{"SecretString":"{}","VersionStages":["AWSCURRENT"]}`, want: "{}"},
		"bytes":     {answer: `{"SecretBinary":"dG9rZW4="}`, says: "holds bytes"},
		"nothing":   {answer: `{}`, says: id},
		"no such secret": {
			status: http.StatusBadRequest,
			answer: `{"__type":"com.amazonaws.secretsmanager#ResourceNotFoundException:https://x/y","message":"no such secret"}`,
			says:   "ResourceNotFoundException", ends: true,
		},
		"not allowed": {
			status: http.StatusBadRequest,
			answer: `{"__type":"AccessDeniedException","Message":"not allowed"}`,
			says:   "AccessDeniedException", ends: true,
		},
		"scheduled for deletion": {
			status: http.StatusBadRequest,
			answer: `{"__type":"InvalidRequestException","Message":"it was marked for deletion"}`,
			says:   "InvalidRequestException", ends: true,
		},
		"throttled": {
			status: http.StatusBadRequest,
			answer: `{"__type":"ThrottlingException","Message":"slow down"}`,
			says:   "ThrottlingException",
		},
		"down": {
			status: http.StatusInternalServerError,
			answer: `{"__type":"InternalServiceError","Message":"down"}`,
			says:   "InternalServiceError",
		},
		"the function's own credentials have expired": {
			status: http.StatusBadRequest,
			answer: `{"__type":"ExpiredTokenException","Message":"expired"}`,
			says:   "ExpiredTokenException",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := manager(t, func(w http.ResponseWriter, r *http.Request) {
				var in struct{ SecretId string }
				body, _ := io.ReadAll(r.Body)
				target := r.Header.Get("X-Amz-Target")
				if json.Unmarshal(body, &in) != nil || in.SecretId != id || target != "secretsmanager.GetSecretValue" {
					t.Errorf("asked for %s: %s", target, body)
				}
				w.Header().Set("Content-Type", "application/x-amz-json-1.1")
				if row.status != 0 {
					w.WriteHeader(row.status)
				}
				_, _ = io.WriteString(w, row.answer)
			})
			got, err := secretsmanager.New(cloud).Secret(id).Get(t.Context())
			if got != row.want || (err == nil) != (row.want != "") || err != nil && !strings.Contains(err.Error(), row.says) {
				t.Errorf("%q and %v, want %q or an error that says %q", got, err, row.want, row.says)
			}
			if ends := errors.Is(err, secret.ErrRevoked); ends != row.ends {
				t.Errorf("%v: the cached value ends: %v, want %v", err, ends, row.ends)
			}
		})
	}
}

// sent is a request as the SDK's client would send it, too.
type sent struct{ Method, URI, Host, ContentType, Target, Token, Body, Scope string }

// TestRequest compares a request with that of the SDK's client, and checks its signature.
func TestRequest(t *testing.T) {
	var requests []sent
	cfg := manager(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		signature := r.Header.Get("Authorization")
		scope, _, _ := strings.Cut(signature, ",")
		requests = append(requests, sent{
			r.Method, r.RequestURI, r.Host, r.Header.Get("Content-Type"), r.Header.Get("X-Amz-Target"),
			r.Header.Get("X-Amz-Security-Token"), string(body), scope,
		})
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil {
			t.Error(err)
		}
		// Both sign all headers that they set, and HTTP's own are not signed.
		again := &http.Request{
			Method: r.Method, URL: r.URL, Host: r.Host, ContentLength: r.ContentLength, Header: r.Header.Clone(),
		}
		for _, name := range []string{"Authorization", "Accept-Encoding", "User-Agent"} {
			again.Header.Del(name)
		}
		hash := sha256.Sum256(body)
		err = v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{
			AccessKeyID: "id", SecretAccessKey: "secret", SessionToken: "session",
		}, again, hex.EncodeToString(hash[:]), "secretsmanager", "eu-central-1", at)
		if got := again.Header.Get("Authorization"); err != nil || got != signature {
			t.Errorf("the signature is %s, want %s, %v", signature, got, err)
		}
		_, _ = io.WriteString(w, `{"SecretString":"{}"}`)
	})
	_, err := awssecretsmanager.NewFromConfig(cfg).GetSecretValue(
		t.Context(), &awssecretsmanager.GetSecretValueInput{SecretId: aws.String(id)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := secretsmanager.New(cfg).Secret(id).Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(requests) != 2 || requests[0] != requests[1] {
		t.Errorf("requests of the SDK and of the client: %+v", requests)
	}
}

// doer is an HTTP client.
type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// TestEndpoint checks the endpoint if none is configured. internal/aws/endpoint.TestURL has the other partitions.
func TestEndpoint(t *testing.T) {
	var got string
	_, err := secretsmanager.New(aws.Config{
		Region: "cn-north-1", Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
		HTTPClient: doer(func(r *http.Request) (*http.Response, error) {
			got = r.URL.String()
			return nil, errors.New("no network")
		}),
	}).Secret(id).Get(t.Context())
	if want := "https://secretsmanager.cn-north-1.amazonaws.com.cn/"; got != want || err == nil {
		t.Errorf("the endpoint is %q, want %s; error %v", got, want, err)
	}
}

// TestRepeat checks which errors the client repeats a request after.
func TestRepeat(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		code   string
		times  int
	}{
		"throttled":           {http.StatusBadRequest, "ThrottlingException", 3},
		"a failure":           {http.StatusInternalServerError, "InternalServiceError", 3},
		"a proxy's":           {http.StatusBadGateway, "", 3},
		"a closed connection": {0, "", 3},
		"no such secret":      {http.StatusBadRequest, "com.amazonaws#ResourceNotFoundException:http://x/", 1},
		"a broken key":        {http.StatusBadRequest, "DecryptionFailure", 1},
		"wrong credential":    {http.StatusForbidden, "AccessDeniedException", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				times := 0
				client := secretsmanager.New(aws.Config{
					Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
					HTTPClient: doer(func(*http.Request) (*http.Response, error) {
						times++
						if row.status == 0 {
							return nil, &url.Error{Op: "Post", URL: "https://x", Err: io.EOF}
						}
						answer := httptest.NewRecorder()
						answer.WriteHeader(row.status)
						_, _ = io.WriteString(answer, `{"__type":"`+row.code+`"}`)
						return answer.Result(), nil
					}),
				})
				if _, err := client.Secret(id).Get(t.Context()); err == nil || times != row.times {
					t.Errorf("%d requests, want %d; error %v", times, row.times, err)
				}
				times = 0
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if _, err := client.Secret(id).Get(ctx); err == nil || times != 1 {
					t.Errorf("after the end of the caller, %d requests, want 1; error %v", times, err)
				}
			})
		})
	}
}
