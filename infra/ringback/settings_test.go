package ringback

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/examples/shop"
)

func TestParseSettings(t *testing.T) {
	tests := []struct {
		name    string
		context map[string]any
		stack   string
		values  map[string]string
		err     string
	}{
		{name: "nothing", stack: "Ringback"},
		{
			name: "the CDK's own settings are ignored",
			context: map[string]any{
				"@aws-cdk/core:x": true, "aws:cdk:enable-path-metadata": true, "cli-telemetry": false,
			},
			stack: "Ringback",
		},
		{
			name:    "a stage, and a number from cdk.json",
			context: map[string]any{"stage": "dev", "rateLimit": 5.0},
			stack:   "Ringback-dev",
			values:  map[string]string{"stage": "dev", "rateLimit": "5"},
		},
		{
			name: "a stage's own value takes precedence",
			context: map[string]any{
				"stage": "dev", "alarmEmail": "all@example.com", "dev/alarmEmail": "dev@example.com",
				"prod/alarmEmail": "prod@example.com", "dev/ORDERS_API_URL": "https://orders.dev.example.com",
				"prod/ORDERS_API_URL": "https://orders.example.com",
			},
			stack: "Ringback-dev",
			values: map[string]string{
				"stage": "dev", "alarmEmail": "dev@example.com", "ORDERS_API_URL": "https://orders.dev.example.com",
			},
		},
		{name: "a misspelt name", context: map[string]any{"alarmMail": "x"}, err: "there is no setting alarmMail"},
		{
			name:    "a misspelt name of another stage",
			context: map[string]any{"prod/alarmMail": "x"}, err: "there is no setting prod/alarmMail",
		},
		{name: "a stage of a stage", context: map[string]any{"dev/stage": "x"}, err: "there is no setting dev/stage"},
		{name: "an invalid stage", context: map[string]any{"stage": "Dev_1"}, err: `stage is "Dev_1"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := parseSettings(test.context)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("the error is %v; it should contain %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.stackName() != test.stack {
				t.Errorf("the stack is %s, not %s", s.stackName(), test.stack)
			}
			if test.values == nil {
				test.values = map[string]string{}
			}
			if diff := cmp.Diff(test.values, s.values); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestToolSetting(t *testing.T) {
	tests := map[string]Setting{
		"https://orders.example.com/#top": {Name: "N", Value: "https://orders.example.com/#top"},
		"secret:arn:aws:x":                {Name: "N", SecretARN: "arn:aws:x"},
		"secret:arn:aws:x#field":          {Name: "N", SecretARN: "arn:aws:x", SecretField: "field"},
		"arn:aws:x":                       {Name: "N", Value: "arn:aws:x"},
	}
	for value, want := range tests {
		if diff := cmp.Diff(want, toolSetting("N", value)); diff != "" {
			t.Errorf("%s: %s", value, diff)
		}
	}
}

// app creates an app with a context, and the stack that the context describes.
func app(t *testing.T, context map[string]any) (awscdk.Stack, error) {
	t.Helper()
	if context["binaries"] == nil {
		context["binaries"] = "testdata/functions"
	}
	app := awscdk.NewApp(&awscdk.AppProps{
		Context: &context, Outdir: jsii.String(t.TempDir()), AnalyticsReporting: jsii.Bool(false),
	})
	stack, err := NewStack(app, shop.All)
	if err != nil {
		return nil, err
	}
	return stack.Stack, nil
}

// Each setting must change the template. Otherwise it would be a setting that does
// nothing.
func TestEverySettingDoesSomething(t *testing.T) {
	const (
		secret = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:s-AbCdEf"
		topic  = "arn:aws:sns:eu-central-1:111122223333:t"
		vapiID = "5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33"
		acm    = "arn:aws:acm:eu-central-1:111122223333:certificate/12345678-1234-1234-1234-123456789012"
	)
	values := map[string]string{
		"architecture": "x86_64", "removalPolicy": "destroy", "logRetentionDays": "7", "rateLimit": "3",
		"burstLimit": "4", "completionRateLimit": "3", "completionBurstLimit": "4", "keepExecuteApiEndpoint": "true",
		"processMemory": "1024", "processConcurrency": "3",
		"longProcessConcurrency": "4", "callbackConcurrency": "3",
		"batchSize": "1", "argumentRetentionDays": "7",
		"maxJobsPerCall": "20", "maxConcurrentJobsPerCall": "3", "nextCallAcrossAssistants": "true",
		"ackText":    "One moment.",
		"resultText": "Result: {content}", "webhookSecretArn": secret, "publicKeySecretArn": secret,
		"completionSecretArn": secret, "privateKeySecretArn": secret, "vapiApiUrl": "https://api.eu.vapi.ai",
		"callBackHours": "09:00-18:00", "callBackZone": "Europe/Berlin", "callBackAssistantId": vapiID,
		"callBackPhoneNumberId": vapiID, "callBackPerDay": "7", "callBackPrefixes": "+49, +1",
		"kmsKeyArn":      "arn:aws:kms:eu-central-1:111122223333:key/12345678-1234-1234-1234-123456789012",
		"argumentKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"eventBus":       "default", "vendedLogs": "true", "undeliveredTopicArn": topic,
		"undeliveredEmail": "a@example.com",
		"alarmTopicArn":    topic, "alarmEmail": "a@example.com", "controlHosts": "127.0.0.1:8080",
		"controlAnyPath": "true", "listen": "true",
		"otel": "xray", "otelEndpoint": "https://collector.example.com", "otelHeadersSecretArn": secret,
		"localEndpoint": "true", "ORDERS_API_URL": "https://orders.example.com",
	}
	// Some settings need others.
	key := map[string]any{"privateKeySecretArn": secret}
	hours := map[string]any{"privateKeySecretArn": secret, "callBackHours": "09:00-18:00"}
	needs := map[string]map[string]any{
		"keepExecuteApiEndpoint": {"domainName": "ringback.example.com", "certificateArn": acm},
		"callBackHours":          key,
		"otelHeadersSecretArn":   {"otelEndpoint": "https://collector.example.com"},
		"callBackZone":           hours, "callBackAssistantId": hours, "callBackPhoneNumberId": hours,
		"callBackPerDay": hours, "callBackPrefixes": hours,
	}
	template := func(context map[string]any) string {
		stack, err := app(t, context)
		if err != nil {
			t.Fatalf("%v: %v", context, err)
		}
		text, err := json.Marshal(assertions.Template_FromStack(stack, nil).ToJSON())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	plain := template(map[string]any{})
	for _, name := range []string{"maxJobsPerCall", "maxConcurrentJobsPerCall"} {
		if template(map[string]any{name: "none"}) == plain {
			t.Errorf("%s cannot be switched off", name)
		}
	}
	for name, value := range values {
		without, context := plain, map[string]any{}
		if needs[name] != nil {
			without = template(maps.Clone(needs[name]))
			maps.Copy(context, needs[name])
		}
		context[name] = value
		if template(context) == without {
			t.Errorf("%s changes nothing", name)
		}
	}
	if template(map[string]any{"jwtIssuer": "https://issuer.example.com", "jwtAudience": "a,b"}) == plain {
		t.Error("the JWT settings change nothing")
	}
	jwt := map[string]any{"jwtIssuer": "https://issuer.example.com", "jwtAudience": "a", "jwtScopes": "b,c"}
	if !strings.Contains(template(jwt), `"AuthorizationScopes":["b","c"]`) {
		t.Error("jwtScopes changes nothing")
	}
	if template(map[string]any{"domainName": "ringback.example.com", "certificateArn": acm}) == plain {
		t.Error("the settings of the domain change nothing")
	}
	// TestParseSettings tests stage, and every test here uses binaries.
	tested := []string{"stage", "binaries", "jwtIssuer", "jwtAudience", "jwtScopes", "domainName", "certificateArn"}
	for name := range known {
		if property(name) == "" && name != "stage" {
			t.Errorf("no field of Props is named like %s", name)
		}
		if _, ok := values[name]; !ok && !slices.Contains(tested, name) {
			t.Errorf("%s is not tested", name)
		}
	}
}

// An operator continues with the outputs only.
func TestOutputs(t *testing.T) {
	stack, err := app(t, map[string]any{"stage": "dev"})
	if err != nil {
		t.Fatal(err)
	}
	if name := *stack.StackName(); name != "Ringback-dev" {
		t.Errorf("the stack is %s", name)
	}
	outputs := *assertions.Template_FromStack(stack, nil).FindOutputs(jsii.String("*"), nil)
	for _, name := range []string{
		"WebhookUrl", "WebhookSecretArn", "NextCommand", "CredentialCommand", "JobsQueueUrl", "LongJobsQueueUrl",
		"JobsDeadLettersUrl",
		"ResultsQueueUrl", "ResultsDeadLettersUrl", "JobsTableName", "EventBusName", "DashboardUrl", "CompletionURL",
		"CompletionSecretArn", "OperatorReadPolicy", "OperatorWritePolicy",
	} {
		if outputs[name] == nil {
			t.Errorf("there is no output %s", name)
		}
	}
}

// The outputs follow the domain, and say what its DNS record points to.
func TestOutputsOfADomain(t *testing.T) {
	stack, err := app(t, map[string]any{
		"domainName":     "ringback.example.com",
		"certificateArn": "arn:aws:acm:eu-central-1:111122223333:certificate/12345678-1234-1234-1234-123456789012",
	})
	if err != nil {
		t.Fatal(err)
	}
	outputs := *assertions.Template_FromStack(stack, nil).FindOutputs(jsii.String("*"), nil)
	for name, want := range map[string]string{
		"WebhookUrl": "https://ringback.example.com/vapi", "CompletionURL": "https://ringback.example.com/results/",
	} {
		if got := (*outputs[name])["Value"]; got != want {
			t.Errorf("%s is %v, want %s", name, got, want)
		}
	}
	target := outputs["DomainTarget"]
	if target == nil || !strings.Contains(fmt.Sprint(*target), "RegionalDomainName") {
		t.Errorf("DomainTarget is %v", target)
	}
}
