//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

func (e *emulator) aws() aws.Config {
	return aws.Config{
		Region:       region,
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
		BaseEndpoint: aws.String(e.endpoint),
		HTTPClient:   e.client,
	}
}

// ask sends a signed request to a service and returns its answer. It serves the few requests whose
// client would be a dependency for them alone.
func (e *emulator) ask(
	ctx context.Context, service, method, path string, header map[string]string, body []byte,
) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, e.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(ctx, aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, request,
		hex.EncodeToString(sum[:]), service, region, time.Now())
	if err != nil {
		return nil, err
	}
	response, err := e.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", service, path, response.Status, answer)
	}
	return answer, nil
}

// get sends a request to a service with a REST API.
func (e *emulator) get(ctx context.Context, service, path string) ([]byte, error) {
	return e.ask(ctx, service, http.MethodGet, path, nil, nil)
}

// target sends a request to a service with AWS's JSON protocol.
func (e *emulator) target(ctx context.Context, service, action string, in any) ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	return e.ask(ctx, service, http.MethodPost, "/", map[string]string{
		"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": action,
	}, body)
}

// query sends a request to a service with AWS's query protocol.
func (e *emulator) query(ctx context.Context, service, version, action string, parameters ...string) ([]byte, error) {
	form := url.Values{"Action": {action}, "Version": {version}}
	for i := 0; i+1 < len(parameters); i += 2 {
		form.Set(parameters[i], parameters[i+1])
	}
	return e.ask(ctx, service, http.MethodPost, "/", map[string]string{
		"Content-Type": "application/x-www-form-urlencoded",
	}, []byte(form.Encode()))
}

// listings returns, for each kind of resource, the request that lists the existing ones.
func (e *emulator) listings() map[string]func(context.Context) ([]byte, error) {
	get := func(service, path string) func(context.Context) ([]byte, error) {
		return func(ctx context.Context) ([]byte, error) { return e.get(ctx, service, path) }
	}
	target := func(service, action string) func(context.Context) ([]byte, error) {
		return func(ctx context.Context) ([]byte, error) { return e.target(ctx, service, action, struct{}{}) }
	}
	query := func(service, version, action string) func(context.Context) ([]byte, error) {
		return func(ctx context.Context) ([]byte, error) { return e.query(ctx, service, version, action) }
	}
	return map[string]func(context.Context) ([]byte, error){
		"AWS::ApiGatewayV2::Api":          get("apigateway", "/v2/apis"),
		"AWS::CloudWatch::Alarm":          query("monitoring", "2010-08-01", "DescribeAlarms"),
		"AWS::CloudWatch::Dashboard":      query("monitoring", "2010-08-01", "ListDashboards"),
		"AWS::DynamoDB::Table":            target("dynamodb", "DynamoDB_20120810.ListTables"),
		"AWS::Events::EventBus":           target("events", "AWSEvents.ListEventBuses"),
		"AWS::IAM::Role":                  query("iam", "2010-05-08", "ListRoles"),
		"AWS::Lambda::EventSourceMapping": get("lambda", "/2015-03-31/event-source-mappings/"),
		"AWS::Lambda::Function":           get("lambda", "/2015-03-31/functions/"),
		"AWS::Logs::LogGroup":             target("logs", "Logs_20140328.DescribeLogGroups"),
		"AWS::Scheduler::ScheduleGroup":   get("scheduler", "/schedule-groups"),
		"AWS::Logs::MetricFilter":         target("logs", "Logs_20140328.DescribeMetricFilters"),
		"AWS::SecretsManager::Secret":     target("secretsmanager", "secretsmanager.ListSecrets"),
		"AWS::SNS::Topic":                 query("sns", "2010-03-31", "ListTopics"),
		"AWS::SNS::Subscription":          query("sns", "2010-03-31", "ListSubscriptions"),
		"AWS::SQS::Queue":                 target("sqs", "AmazonSQS.ListQueues"),
	}
}

// logLines returns the lines of a log group.
func (e *emulator) logLines(ctx context.Context, group string) ([]string, error) {
	answer, err := e.target(ctx, "logs", "Logs_20140328.FilterLogEvents", map[string]any{"logGroupName": group})
	if err != nil {
		return nil, err
	}
	var out struct{ Events []struct{ Message string } }
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, err
	}
	var lines []string
	for _, event := range out.Events {
		lines = append(lines, strings.TrimSpace(event.Message))
	}
	return lines, nil
}
