package ringback

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscertificatemanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// settings are the settings in the app's context: -c name=value, or "context" in
// cdk.json. A name in capitals is a variable for the tools. A name after a stage and a
// slash, such as dev/alarmEmail, applies to that stage only, and takes precedence.
type settings struct {
	stage  string
	values map[string]string
}

// known describes the settings that are not variables. docs/deploy.md has the
// details.
var known = map[string]string{
	"stage":                    "distinguishes several deployments in one account",
	"architecture":             "arm64 or x86_64",
	"binaries":                 "a folder of functions that are already built",
	"removalPolicy":            "retain or destroy: the jobs table, when the stack is deleted",
	"logRetentionDays":         "how long logs are stored",
	"rateLimit":                "webhooks per second",
	"burstLimit":               "webhooks at once",
	"completionRateLimit":      "external completions per second",
	"completionBurstLimit":     "external completions at once",
	"domainName":               "a host name of yours for the API, whose generated address is then switched off",
	"certificateArn":           "the certificate of domainName",
	"keepExecuteApiEndpoint":   "true to keep the generated address beside domainName",
	"processMemory":            "memory of the process function in MiB",
	"processConcurrency":       "batches of jobs of short tools at the same time",
	"longProcessConcurrency":   "batches of jobs of long tools at the same time",
	"callbackConcurrency":      "batches of results at the same time",
	"batchSize":                "jobs, or results, in a batch",
	"maxJobsPerCall":           "jobs that one call may start, or none for no limit",
	"maxConcurrentJobsPerCall": "jobs of one call at the same time, or none for no limit",
	"nextCallAcrossAssistants": "true for parked results that other assistants may deliver, too",
	"ackText":                  "the placeholder result",
	"resultText":               "the text around a result",
	"jwtIssuer":                "the issuer of OAuth2 tokens",
	"jwtAudience":              "their audience; separate several with commas",
	"jwtScopes":                "scopes of which they must have one; separate several with commas",
	"webhookSecretArn":         "a secret with the webhook credential",
	"publicKeySecretArn":       "a secret with the organisation's public key",
	"completionSecretArn":      "a secret with the keys of completion tokens",
	"privateKeySecretArn":      "a secret with the organisation's private key, for chats and outbound calls",
	"vapiApiUrl":               "the address of Vapi's API, for organisations outside the United States",
	"callBackHours":            "when outbound calls may be made, as HH:MM-HH:MM",
	"callBackZone":             "the time zone of these hours",
	"callBackAssistantId":      "the assistant that speaks in outbound calls",
	"callBackPhoneNumberId":    "the number that outbound calls come from",
	"argumentKeyArn":           "a key for the arguments that Vapi encrypts",
	"callBackPerDay":           "outbound calls in a day, or none for no limit",
	"callBackPrefixes":         "beginnings of the numbers that may be called; separate several with commas",
	"kmsKeyArn":                "a key that encrypts stored data",
	"eventBus":                 "the name of an event bus; default is the account's own",
	"undeliveredTopicArn":      "a topic that receives undelivered results",
	"undeliveredEmail":         "an address that receives undelivered results",
	"alarmTopicArn":            "a topic that receives alarms",
	"alarmEmail":               "an address that receives alarms",
	"controlHosts":             "further hosts of control URLs, for tests; separate several with commas",
	"controlAnyPath":           "true for control URLs that need not contain the call's id",
	"localEndpoint":            "true for a template that the SAM CLI runs",
}

var (
	stageName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	// ours matches Ringback's settings. The names of the CDK's own settings
	// contain a colon or an @.
	ours         = regexp.MustCompile(`^([a-z][a-z0-9-]{0,31}/)?([A-Za-z][A-Za-z0-9_]*)$`)
	toolVariable = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
)

func readSettings(app awscdk.App) (*settings, error) {
	all, _ := app.Node().GetAllContext(nil).(map[string]any)
	return parseSettings(all)
}

// parseSettings reads the settings from the context. An unknown name is an error,
// because it would be a setting that does nothing.
func parseSettings(context map[string]any) (*settings, error) {
	s := &settings{values: map[string]string{}}
	if stage, ok := context["stage"]; ok {
		if s.stage = fmt.Sprint(stage); !stageName.MatchString(s.stage) {
			return nil, fmt.Errorf("stage is %q; use up to 32 lower-case letters, digits and -, a letter first", s.stage)
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
			errs = append(errs, fmt.Errorf("there is no setting %s; use %s, or a name in capitals for a tool's variable",
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

// stackName returns the name of the stack, which is also its id in the app.
func (s *settings) stackName() string {
	if s.stage == "" {
		return "Ringback"
	}
	return "Ringback-" + s.stage
}

// retention maps days to CDK's constants. CloudWatch Logs accepts only certain
// numbers (API reference, PutRetentionPolicy); these are the useful ones.
var retention = map[int]awslogs.RetentionDays{
	1: awslogs.RetentionDays_ONE_DAY, 3: awslogs.RetentionDays_THREE_DAYS, 5: awslogs.RetentionDays_FIVE_DAYS,
	7: awslogs.RetentionDays_ONE_WEEK, 14: awslogs.RetentionDays_TWO_WEEKS, 30: awslogs.RetentionDays_ONE_MONTH,
	60: awslogs.RetentionDays_TWO_MONTHS, 90: awslogs.RetentionDays_THREE_MONTHS, 180: awslogs.RetentionDays_SIX_MONTHS,
	365: awslogs.RetentionDays_ONE_YEAR,
}

// props returns the construct's properties. Resources that a setting names are
// imported into the stack.
func (s *settings) props(stack awscdk.Stack) (Props, error) {
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
	limit := func(name string) int {
		if s.values[name] == "none" {
			return NoLimit
		}
		return number(name)
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

	secret := awssecretsmanager.Secret_FromSecretCompleteArn
	p := Props{
		Binaries:                 s.values["binaries"],
		ProcessMemory:            number("processMemory"),
		ProcessConcurrency:       number("processConcurrency"),
		LongProcessConcurrency:   number("longProcessConcurrency"),
		CallbackConcurrency:      number("callbackConcurrency"),
		BatchSize:                number("batchSize"),
		MaxJobsPerCall:           limit("maxJobsPerCall"),
		MaxConcurrentJobsPerCall: limit("maxConcurrentJobsPerCall"),
		NextCallAcrossAssistants: oneOf("nextCallAcrossAssistants", "true", "false") == "true",
		AckText:                  s.values["ackText"],
		ResultText:               s.values["resultText"],
		RateLimit:                float64(number("rateLimit")),
		BurstLimit:               number("burstLimit"),
		CompletionRateLimit:      float64(number("completionRateLimit")),
		CompletionBurstLimit:     number("completionBurstLimit"),
		DomainName:               s.values["domainName"],
		Certificate:              imported(s, stack, "certificateArn", awscertificatemanager.Certificate_FromCertificateArn),
		KeepExecuteAPIEndpoint:   oneOf("keepExecuteApiEndpoint", "true", "false") == "true",
		VapiAPIURL:               s.values["vapiApiUrl"],
		CallBackHours:            s.values["callBackHours"],
		CallBackZone:             s.values["callBackZone"],
		CallBackAssistantID:      s.values["callBackAssistantId"],
		CallBackPhoneNumberID:    s.values["callBackPhoneNumberId"],
		CallBackPerDay:           limit("callBackPerDay"),
		CallBackPrefixes:         list("callBackPrefixes"),
		UndeliveredEmail:         s.values["undeliveredEmail"],
		AlarmEmail:               s.values["alarmEmail"],
		ControlHosts:             list("controlHosts"),
		ControlAnyPath:           oneOf("controlAnyPath", "true", "false") == "true",
		LocalEndpoint:            oneOf("localEndpoint", "true", "false") == "true",
		WebhookSecret:            imported(s, stack, "webhookSecretArn", secret),
		PublicKeySecret:          imported(s, stack, "publicKeySecretArn", secret),
		PrivateKeySecret:         imported(s, stack, "privateKeySecretArn", secret),
		CompletionSecret:         imported(s, stack, "completionSecretArn", secret),
		ArgumentKey:              imported(s, stack, "argumentKeyArn", awskms.Key_FromKeyArn),
		EncryptionKey:            imported(s, stack, "kmsKeyArn", awskms.Key_FromKeyArn),
		EventBus:                 imported(s, stack, "eventBus", awsevents.EventBus_FromEventBusName),
		UndeliveredTopic:         imported(s, stack, "undeliveredTopicArn", awssns.Topic_FromTopicArn),
		AlarmTopic:               imported(s, stack, "alarmTopicArn", awssns.Topic_FromTopicArn),
	}
	if oneOf("architecture", "arm64", "x86_64") == "x86_64" {
		p.Architecture = awslambda.Architecture_X86_64()
	}
	if oneOf("removalPolicy", "retain", "destroy") == "destroy" {
		p.RemovalPolicy = awscdk.RemovalPolicy_DESTROY
	}
	if days := number("logRetentionDays"); days > 0 {
		if p.LogRetention = retention[days]; p.LogRetention == "" {
			errs = append(errs, fmt.Errorf("logRetentionDays is %d; it must be one of %v",
				days, slices.Sorted(maps.Keys(retention))))
		}
	}
	jwt := JWT{Issuer: s.values["jwtIssuer"], Audience: list("jwtAudience"), Scopes: list("jwtScopes")}
	if jwt.Issuer != "" || len(jwt.Audience) > 0 || len(jwt.Scopes) > 0 {
		p.JWT = &jwt
	}
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		if toolVariable.MatchString(name) {
			p.ToolSettings = append(p.ToolSettings, toolSetting(name, s.values[name]))
		}
	}
	return p, errors.Join(errs...)
}

// imported returns the resource that a setting names by its ARN or its name, or nil
// if the setting is empty.
func imported[T any](
	s *settings, stack awscdk.Stack, name string, from func(constructs.Construct, *string, *string) T,
) (resource T) {
	if value := s.values[name]; value != "" {
		resource = from(stack, jsii.String(name), jsii.String(value))
	}
	return resource
}

// toolSetting returns the setting for a tool's variable. A value of the form
// secret:<arn> or secret:<arn>#<field> names a secret.
func toolSetting(name, value string) Setting {
	secret, ok := strings.CutPrefix(value, "secret:")
	if !ok {
		return Setting{Name: name, Value: value}
	}
	arn, field, _ := strings.Cut(secret, "#")
	return Setting{Name: name, SecretARN: arn, SecretField: field}
}
