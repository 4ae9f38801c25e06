package stack_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/local/memkey"
)

const (
	hook   = "https://abc.execute-api.eu-central-1.amazonaws.com/vapi"
	keyARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

	arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:s-AbCdEf"
)

// account simulates CloudFormation and Secrets Manager with one stack.
type account struct {
	outputs  map[string]string
	id       string // the ARN of the stack
	secret   string // empty: access denied
	template string
	key      []byte // the public key; nil: access denied
}

func (a account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if target := r.Header.Get("X-Amz-Target"); target == "secretsmanager.GetSecretValue" {
		var in struct{ SecretId string }
		_ = json.Unmarshal(body, &in)
		if a.secret == "" || in.SecretId != arn {
			w.WriteHeader(400)
			io.WriteString(w, `{"__type":"AccessDeniedException","Message":"no such permission"}`)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": a.secret})
		return
	}
	if target := r.Header.Get("X-Amz-Target"); target == "TrentService.GetPublicKey" {
		var in struct{ KeyId string }
		_ = json.Unmarshal(body, &in)
		if a.key == nil || in.KeyId != keyARN {
			w.WriteHeader(400)
			io.WriteString(w, `{"__type":"AccessDeniedException","message":"no such permission"}`)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"KeyId": keyARN, "PublicKey": a.key})
		return
	}
	form, _ := url.ParseQuery(string(body))
	w.Header().Set("Content-Type", "text/xml")
	if form.Get("StackName") != "Ringback" {
		w.WriteHeader(400)
		fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code>"+
			"<Message>Stack with id %s does not exist</Message></Error></ErrorResponse>", form.Get("StackName"))
		return
	}
	switch form.Get("Action") {
	case "DescribeStacks":
		io.WriteString(w, "<DescribeStacksResponse><DescribeStacksResult><Stacks><member>"+
			"<StackName>Ringback</StackName><StackId>"+a.id+"</StackId><Outputs>")
		for key, value := range a.outputs {
			fmt.Fprintf(w, "<member><OutputKey>%s</OutputKey><OutputValue>%s</OutputValue></member>", key, value)
		}
		io.WriteString(w, "</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>")
	case "GetTemplate":
		fmt.Fprintf(w, "<GetTemplateResponse><GetTemplateResult><TemplateBody>%s</TemplateBody></GetTemplateResult>"+
			"</GetTemplateResponse>", a.template)
	}
}

func open(t *testing.T, a account, name string) *stack.Stack {
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return stack.New(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	}, name)
}

func TestWebhook(t *testing.T) {
	both := map[string]string{"WebhookUrl": hook, "WebhookSecretArn": arn, "JobsTableName": "t"}
	for name, row := range map[string]struct {
		account account
		stack   string
		plans   string // their types
		err     string
	}{
		"bearer": {account{outputs: both, secret: `{"type":"bearer","token":"t0ken"}`}, "Ringback", "bearer", ""},
		"rotation": {account{outputs: both, secret: `[{"type":"hmac","secretKey":"k","algorithm":"sha256"},` +
			`{"type":"bearer","token":"t0ken"}]`}, "Ringback", "hmac bearer", ""},
		"a JWT": {account{outputs: map[string]string{"WebhookUrl": hook}}, "Ringback", "", ""},
		"no such stack": {account{}, "Ringbacks", "", "cannot read the stack Ringbacks: ValidationError: " +
			"Stack with id Ringbacks does not exist (check its name"},
		"another program's": {account{outputs: map[string]string{"Url": hook}}, "Ringback", "",
			"has no output WebhookUrl"},
		"not permitted": {account{outputs: both}, "Ringback", "", "cannot read the credential of the stack Ringback: " +
			"AccessDeniedException: no such permission"},
		"broken":         {account{outputs: both, secret: `t0ken`}, "Ringback", "", "webhook credential: not JSON"},
		"without a type": {account{outputs: both, secret: `{"token":"t0ken"}`}, "Ringback", "", "the member type is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			url, secret, err := open(t, row.account, row.stack).Webhook(t.Context())
			var stored wiring.Stored
			if secret != nil {
				stored, err = secret.Read(t.Context())
			}
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) || strings.Contains(err.Error(), "t0ken") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || url != hook {
				t.Errorf("%q, %v", url, err)
			}
			var types []string
			for _, p := range stored.Plans {
				types = append(types, p.Type)
			}
			if got := strings.Join(types, " "); got != row.plans {
				t.Errorf("plans %q", got)
			}
		})
	}
}

func TestArgumentKey(t *testing.T) {
	key, err := memkey.New()
	if err != nil {
		t.Fatal(err)
	}
	want, err := encryption.FormatPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(want))
	outputs := map[string]string{"WebhookUrl": hook, "ArgumentKeyArn": keyARN}
	for name, row := range map[string]struct {
		account account
		err     string
	}{
		"there":         {account{outputs: outputs, key: block.Bytes}, ""},
		"not deployed":  {account{outputs: map[string]string{"WebhookUrl": hook}}, "deploy the tools first"},
		"not permitted": {account{outputs: outputs}, "AccessDeniedException: no such permission"},
		"not RSA":       {account{outputs: outputs, key: []byte("key")}, keyARN + " of the stack Ringback: this is not"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := open(t, row.account, "Ringback").ArgumentKey(t.Context())
			switch {
			case row.err == "" && (err != nil || got != want):
				t.Errorf("%s and %v", got, err)
			case row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)):
				t.Errorf("%v, want %s", err, row.err)
			}
		})
	}
}

func TestJobs(t *testing.T) {
	const queues = "https://sqs.eu-central-1.amazonaws.com/111122223333/"
	want := stack.Jobs{Table: "jobs", JobsQueue: queues + "jobs", ResultsQueue: queues + "results"}
	outputs := func(without string) map[string]string {
		all := map[string]string{
			"JobsTableName": "jobs", "JobsQueueUrl": want.JobsQueue, "ResultsQueueUrl": want.ResultsQueue,
		}
		delete(all, without)
		return all
	}
	for name, row := range map[string]struct {
		outputs map[string]string
		stack   string
		err     string
	}{
		"there":            {outputs(""), "Ringback", ""},
		"no table":         {outputs("JobsTableName"), "Ringback", "has no output JobsTableName"},
		"no results queue": {outputs("ResultsQueueUrl"), "Ringback", "has no output ResultsQueueUrl"},
		"no jobs queue":    {outputs("JobsQueueUrl"), "Ringback", "has no output JobsQueueUrl"},
		"no such stack":    {nil, "Ringbacks", "cannot read the stack Ringbacks: ValidationError"},
	} {
		t.Run(name, func(t *testing.T) {
			jobs, err := open(t, account{outputs: row.outputs}, row.stack).Jobs(t.Context())
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("%v", err)
				}
				return
			}
			if jobs != want || err != nil {
				t.Errorf("%+v, %v", jobs, err)
			}
		})
	}
}

func TestHasPublicKey(t *testing.T) {
	for template, want := range map[string]bool{
		`{"Resources":{}}`: false, `{"VAPI_PUBLIC_KEY_SECRET_ID":"arn"}`: true,
	} {
		if got, err := open(t, account{template: template}, "Ringback").HasPublicKey(t.Context()); got != want || err != nil {
			t.Errorf("%s: %t, %v", template, got, err)
		}
	}
	if _, err := open(t, account{}, "Other").HasPublicKey(t.Context()); err == nil {
		t.Error("an unknown stack has a template")
	}
}
