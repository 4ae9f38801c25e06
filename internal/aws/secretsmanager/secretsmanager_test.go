package secretsmanager_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssecretsmanager "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/secret"
)

func TestNew(t *testing.T) {
	const id = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:webhook-AbCdEf"
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
			answer: `{"__type":"ResourceNotFoundException","Message":"no such secret"}`,
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
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
			}))
			defer server.Close()
			t.Setenv("AWS_REGION", "eu-central-1")
			t.Setenv("AWS_ACCESS_KEY_ID", "id")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.URL)
			cloud, err := function.Load()
			if err != nil {
				t.Fatal(err)
			}
			client := awssecretsmanager.NewFromConfig(cloud.SecretsManager(), func(o *awssecretsmanager.Options) {
				o.Retryer = aws.NopRetryer{}
			})
			got, err := secretsmanager.New(client, id).Get(t.Context())
			if got != row.want || (err == nil) != (row.want != "") || err != nil && !strings.Contains(err.Error(), row.says) {
				t.Errorf("%q and %v, want %q or an error that says %q", got, err, row.want, row.says)
			}
			if ends := errors.Is(err, secret.ErrRevoked); ends != row.ends {
				t.Errorf("%v: the cached value ends: %v, want %v", err, ends, row.ends)
			}
		})
	}
}
