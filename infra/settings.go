package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/infra/ringback"
)

// settings are the app's context: -c name=value, or the context in cdk.json.
// A name in capitals is a variable for the tools. A name after a stage and a
// slash, dev/alarmEmail, holds for that stage alone and goes before the name
// without.
type settings struct {
	stage  string
	values map[string]string
}

// known are the names that are no variables, and what they mean. docs/deploy.md
// says more.
var known = map[string]string{
	"stage":                    "the stage, of which there may be several in one account",
	"architecture":             "arm64 or x86_64",
	"binaries":                 "a folder of functions that are built already",
	"removalPolicy":            "retain or destroy the jobs table with the stack",
	"logRetentionDays":         "how long logs are kept",
	"rateLimit":                "webhooks a second",
	"burstLimit":               "webhooks at once",
	"processMemory":            "MiB of the process function",
	"processConcurrency":       "batches of jobs at once",
	"callbackConcurrency":      "batches of results at once",
	"batchSize":                "jobs, or results, in a batch",
	"maxJobsPerCall":           "jobs that one call may start",
	"maxConcurrentJobsPerCall": "jobs of one call at once",
	"ackText":                  "the placeholder result",
	"resultText":               "the text around a result",
	"jwtIssuer":                "the issuer of OAuth2 tokens",
	"jwtAudience":              "their audience; several with commas between",
	"webhookSecretArn":         "a secret with the webhook's credential",
	"publicKeySecretArn":       "a secret with the organisation's public key",
	"completionSecretArn":      "a secret with the keys of completion tokens",
	"privateKeySecretArn":      "a secret with the organisation's private key, for chats and calls back",
	"vapiApiUrl":               "the address of Vapi's API, where it is not the one in the United States",
	"callBackHours":            "when customers may be called back, HH:MM-HH:MM",
	"callBackZone":             "the time zone of these hours",
	"callBackAssistantId":      "the assistant that calls back",
	"callBackPhoneNumberId":    "the number that is called from",
	"kmsKeyArn":                "a key that encrypts what is stored",
	"eventBus":                 "the name of an event bus; default is the account's own",
	"undeliveredTopicArn":      "a topic that is told of undelivered results",
	"undeliveredEmail":         "an address that is",
	"alarmTopicArn":            "a topic that is told of alarms",
	"alarmEmail":               "an address that is",
	"controlHosts":             "further hosts of control URLs, for tests; several with commas between",
	"localEndpoint":            "true for a template that the SAM CLI runs",
}

var (
	stageName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	// ours is what a name of ours looks like. The CDK's own have a colon or
	// an @ in them.
	ours         = regexp.MustCompile(`^([a-z][a-z0-9-]{0,31}/)?([A-Za-z][A-Za-z0-9_]*)$`)
	toolVariable = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
)

func readSettings(app awscdk.App) (*settings, error) {
	all, _ := app.Node().GetAllContext(nil).(map[string]any)
	return parseSettings(all)
}

// parseSettings picks the settings out of the context. A name that does not
// exist is an error: it would be a setting that does nothing.
func parseSettings(context map[string]any) (*settings, error) {
	s := &settings{values: map[string]string{}}
	if stage, ok := context["stage"]; ok {
		if s.stage = fmt.Sprint(stage); !stageName.MatchString(s.stage) {
			return nil, fmt.Errorf("the stage is %q; it must be up to 32 lower-case letters, digits and -, and a letter first", s.stage)
		}
	}
	var errs []error
	special := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(context)) {
		parts := ours.FindStringSubmatch(key)
		if parts == nil {
			continue
		}
		stage, name := strings.TrimSuffix(parts[1], "/"), parts[2]
		value := fmt.Sprint(context[key])
		switch {
		case known[name] == "" && !toolVariable.MatchString(name), name == "stage" && stage != "":
			errs = append(errs, fmt.Errorf("there is no setting %s; there are %s, and variables for the tools in capitals",
				key, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
		case stage == "":
			s.values[name] = value
		case stage == s.stage:
			special[name] = value
		}
	}
	maps.Copy(s.values, special)
	return s, errors.Join(errs...)
}

// stackName is the stack's name, and its id in the app.
func (s *settings) stackName() string {
	if s.stage == "" {
		return "Ringback"
	}
	return "Ringback-" + s.stage
}

// retention is what CloudWatch Logs takes as days (API reference,
// PutRetentionPolicy), as far as it makes sense here.
var retention = map[int]awslogs.RetentionDays{
	1: awslogs.RetentionDays_ONE_DAY, 3: awslogs.RetentionDays_THREE_DAYS, 5: awslogs.RetentionDays_FIVE_DAYS,
	7: awslogs.RetentionDays_ONE_WEEK, 14: awslogs.RetentionDays_TWO_WEEKS, 30: awslogs.RetentionDays_ONE_MONTH,
	60: awslogs.RetentionDays_TWO_MONTHS, 90: awslogs.RetentionDays_THREE_MONTHS, 180: awslogs.RetentionDays_SIX_MONTHS,
	365: awslogs.RetentionDays_ONE_YEAR,
}

// props are the construct's properties. What a setting names by its ARN is
// looked up in the stack's scope.
func (s *settings) props(stack awscdk.Stack) (ringback.Props, error) {
	var errs []error
	number := func(name string) int {
		text := s.values[name]
		if text == "" {
			return 0
		}
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 {
			errs = append(errs, fmt.Errorf("%s is %q; it must be a whole number above 0", name, text))
		}
		return n
	}
	oneOf := func(name string, values ...string) string {
		text := s.values[name]
		if text != "" && !slices.Contains(values, text) {
			errs = append(errs, fmt.Errorf("%s is %q; it must be %s", name, text, strings.Join(values, " or ")))
		}
		return text
	}
	list := func(name string) []string {
		return strings.FieldsFunc(s.values[name], func(r rune) bool { return r == ',' || r == ' ' })
	}

	p := ringback.Props{
		Binaries:                 s.values["binaries"],
		ProcessMemory:            number("processMemory"),
		ProcessConcurrency:       number("processConcurrency"),
		CallbackConcurrency:      number("callbackConcurrency"),
		BatchSize:                number("batchSize"),
		MaxJobsPerCall:           number("maxJobsPerCall"),
		MaxConcurrentJobsPerCall: number("maxConcurrentJobsPerCall"),
		AckText:                  s.values["ackText"],
		ResultText:               s.values["resultText"],
		RateLimit:                float64(number("rateLimit")),
		BurstLimit:               number("burstLimit"),
		VapiAPIURL:               s.values["vapiApiUrl"],
		CallBackHours:            s.values["callBackHours"],
		CallBackZone:             s.values["callBackZone"],
		CallBackAssistantID:      s.values["callBackAssistantId"],
		CallBackPhoneNumberID:    s.values["callBackPhoneNumberId"],
		UndeliveredEmail:         s.values["undeliveredEmail"],
		AlarmEmail:               s.values["alarmEmail"],
		ControlHosts:             list("controlHosts"),
		LocalEndpoint:            oneOf("localEndpoint", "true", "false") == "true",
	}
	if oneOf("architecture", "arm64", "x86_64") == "x86_64" {
		p.Architecture = awslambda.Architecture_X86_64()
	}
	if oneOf("removalPolicy", "retain", "destroy") == "destroy" {
		p.RemovalPolicy = awscdk.RemovalPolicy_DESTROY
	}
	if days := number("logRetentionDays"); days > 0 {
		if p.LogRetention = retention[days]; p.LogRetention == "" {
			errs = append(errs, fmt.Errorf("logRetentionDays is %d; it must be one of %v", days, slices.Sorted(maps.Keys(retention))))
		}
	}
	if issuer, audience := s.values["jwtIssuer"], list("jwtAudience"); issuer != "" || len(audience) > 0 {
		p.JWT = &ringback.JWT{Issuer: issuer, Audience: audience}
	}
	secret := func(name string) awssecretsmanager.ISecret {
		arn := s.values[name]
		if arn == "" {
			return nil
		}
		return awssecretsmanager.Secret_FromSecretCompleteArn(stack, jsii.String(name), jsii.String(arn))
	}
	p.WebhookSecret = secret("webhookSecretArn")
	p.PublicKeySecret = secret("publicKeySecretArn")
	p.PrivateKeySecret = secret("privateKeySecretArn")
	p.CompletionSecret = secret("completionSecretArn")
	if arn := s.values["kmsKeyArn"]; arn != "" {
		p.EncryptionKey = awskms.Key_FromKeyArn(stack, jsii.String("kmsKeyArn"), jsii.String(arn))
	}
	if name := s.values["eventBus"]; name != "" {
		p.EventBus = awsevents.EventBus_FromEventBusName(stack, jsii.String("eventBus"), jsii.String(name))
	}
	topic := func(name string) awssns.ITopic {
		arn := s.values[name]
		if arn == "" {
			return nil
		}
		return awssns.Topic_FromTopicArn(stack, jsii.String(name), jsii.String(arn))
	}
	p.UndeliveredTopic = topic("undeliveredTopicArn")
	p.AlarmTopic = topic("alarmTopicArn")
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		if toolVariable.MatchString(name) {
			p.ToolSettings = append(p.ToolSettings, toolSetting(name, s.values[name]))
		}
	}
	return p, errors.Join(errs...)
}

// toolSetting reads secret:<arn>, or secret:<arn>#<field>, as a secret and
// everything else as it is.
func toolSetting(name, value string) ringback.Setting {
	secret, ok := strings.CutPrefix(value, "secret:")
	if !ok {
		return ringback.Setting{Name: name, Value: value}
	}
	arn, field, _ := strings.Cut(secret, "#")
	return ringback.Setting{Name: name, SecretARN: arn, SecretField: field}
}
