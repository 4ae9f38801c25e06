package ringback

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
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
	stage   string
	values  map[string]string
	written map[string]string // the keys of the values in the context
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
	"listen":                   "true for a stage whose tools ringback listen runs, and no function",
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
	"vendedLogs":               "true for an access log below /aws/vendedlogs/, which new stacks should have",
	"argumentKeyArn":           "a key for the arguments that Vapi encrypts",
	"argumentRetentionDays":    "days for which the arguments of jobs are stored, to replay them",
	"callBackPerDay":           "outbound calls in a day, or none for no limit",
	"callBackPrefixes":         "beginnings of the numbers that may be called; separate several with commas",
	"kmsKeyArn":                "a key that encrypts stored data",
	"eventBus":                 "the name or the ARN of an event bus; default is the account's own",
	"undeliveredTopicArn":      "a topic that receives undelivered results",
	"undeliveredEmail":         "an address that receives undelivered results",
	"alarmTopicArn":            "a topic that receives alarms",
	"alarmEmail":               "an address that receives alarms",
	"otel":                     "xray sends spans to AWS X-Ray (experimental)",
	"otelEndpoint":             "the URL of an OpenTelemetry collector that receives spans",
	"otelHeadersSecretArn":     "a secret with the headers that the collector wants",
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
	s := &settings{values: map[string]string{}, written: map[string]string{}}
	if stage, ok := context["stage"]; ok {
		var err error
		if s.stage, err = plain("stage", stage); err != nil {
			return nil, err
		}
		if !stageName.MatchString(s.stage) {
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
		value, err := plain(key, context[key])
		if err != nil && (stage == "" || stage == s.stage) {
			errs = append(errs, err)
			continue
		}
		switch {
		case known[name] == "" && !toolVariable.MatchString(name), name == "stage" && stage != "":
			errs = append(errs, fmt.Errorf("there is no setting %s; use %s, or a name in capitals for a tool's variable",
				key, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
		case stage == "":
			s.values[name] = value
		case stage == s.stage:
			special[name], s.written[name] = value, key
		}
	}
	maps.Copy(s.values, special)
	return s, errors.Join(errs...)
}

// plain returns the text of a value in the context. JSON in cdk.json also has numbers and booleans.
func plain(key string, value any) (string, error) {
	switch value := value.(type) {
	case string:
		return value, nil
	case bool:
		return strconv.FormatBool(value), nil
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64), nil
	}
	return "", fmt.Errorf("%s must be a text, a number, or true or false", key)
}

// key returns a setting as it is written: with the stage if the value is for the stage only.
func (s *settings) key(name string) string { return cmp.Or(s.written[name], name) }

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

// unlike contains the properties whose names differ from their settings' in more than capitals and "Arn".
var unlike = map[string]string{
	"kmsKeyArn": "EncryptionKey", "logRetentionDays": "LogRetention",
	"jwtIssuer": "JWT.Issuer", "jwtAudience": "JWT.Audience", "jwtScopes": "JWT.Scopes",
}

// property returns the field of [Props] that a setting sets, or "" if there is none.
func property(setting string) string {
	if field := unlike[setting]; field != "" {
		return field
	}
	for field := range reflect.TypeFor[Props]().Fields() {
		if field.IsExported() &&
			(strings.EqualFold(field.Name, setting) || strings.EqualFold(field.Name+"Arn", setting)) {
			return field.Name
		}
	}
	return ""
}

// props returns the construct's properties. Resources that a setting names are
// imported into the stack. The CDK panics if an ARN is not one, so the errors of all
// settings come first.
func (s *settings) props(stack awscdk.Stack) (Props, error) {
	var errs []error
	numberOr := func(name, or string) int {
		text := s.values[name]
		if text == "" {
			return 0
		}
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 {
			errs = append(errs, fmt.Errorf("%s is %q; it must be a whole number above 0%s", s.key(name), text, or))
		}
		return n
	}
	number := func(name string) int { return numberOr(name, "") }
	limit := func(name string) int {
		if s.values[name] == "none" {
			return NoLimit
		}
		return numberOr(name, ", or none")
	}
	oneOf := func(name string, values ...string) string {
		text := s.values[name]
		if text != "" && !slices.Contains(values, text) {
			errs = append(errs, fmt.Errorf("%s is %q; it must be %s", s.key(name), text, strings.Join(values, " or ")))
		}
		return text
	}
	list := func(name string) []string {
		return strings.FieldsFunc(s.values[name], func(r rune) bool { return r == ',' || r == ' ' })
	}
	check := func(name string, kind resourceKind) {
		if err := kind.check(s.key(name), s.values[name]); err != nil {
			errs = append(errs, err)
		}
	}

	p := Props{
		settings:                 map[string]string{},
		Binaries:                 s.values["binaries"],
		ProcessMemory:            number("processMemory"),
		ProcessConcurrency:       number("processConcurrency"),
		LongProcessConcurrency:   number("longProcessConcurrency"),
		CallbackConcurrency:      number("callbackConcurrency"),
		Listen:                   oneOf("listen", "true", "false") == "true",
		BatchSize:                number("batchSize"),
		ArgumentRetentionDays:    number("argumentRetentionDays"),
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
		VendedLogs:               oneOf("vendedLogs", "true", "false") == "true",
		OTEL:                     oneOf("otel", "xray"),
		OTELEndpoint:             s.values["otelEndpoint"],
		ControlHosts:             list("controlHosts"),
		ControlAnyPath:           oneOf("controlAnyPath", "true", "false") == "true",
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
			errs = append(errs, fmt.Errorf("%s is %d; it must be one of %v",
				s.key("logRetentionDays"), days, slices.Sorted(maps.Keys(retention))))
		}
	}
	jwt := JWT{Issuer: s.values["jwtIssuer"], Audience: list("jwtAudience"), Scopes: list("jwtScopes")}
	if jwt.Issuer != "" || len(jwt.Audience) > 0 || len(jwt.Scopes) > 0 {
		p.JWT = &jwt
	}
	for name := range known {
		p.settings[property(name)] = s.key(name)
	}
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		if toolVariable.MatchString(name) {
			p.ToolSettings = append(p.ToolSettings, toolSetting(name, s.values[name]))
			p.settings[name] = s.key(name)
		}
	}
	check("certificateArn", certificateKind)
	for _, name := range []string{
		"webhookSecretArn", "publicKeySecretArn", "privateKeySecretArn", "completionSecretArn", "otelHeadersSecretArn",
	} {
		check(name, secretKind)
	}
	check("argumentKeyArn", keyKind)
	check("kmsKeyArn", keyKind)
	check("eventBus", busKind)
	check("undeliveredTopicArn", topicKind)
	check("alarmTopicArn", topicKind)
	if err := errors.Join(errs...); err != nil {
		return Props{}, err
	}

	secret := awssecretsmanager.Secret_FromSecretCompleteArn
	p.Certificate = imported(s, stack, "certificateArn", awscertificatemanager.Certificate_FromCertificateArn)
	p.WebhookSecret = imported(s, stack, "webhookSecretArn", secret)
	p.PublicKeySecret = imported(s, stack, "publicKeySecretArn", secret)
	p.PrivateKeySecret = imported(s, stack, "privateKeySecretArn", secret)
	p.CompletionSecret = imported(s, stack, "completionSecretArn", secret)
	p.OTELHeadersSecret = imported(s, stack, "otelHeadersSecretArn", secret)
	p.ArgumentKey = imported(s, stack, "argumentKeyArn", awskms.Key_FromKeyArn)
	p.EncryptionKey = imported(s, stack, "kmsKeyArn", awskms.Key_FromKeyArn)
	p.UndeliveredTopic = imported(s, stack, "undeliveredTopicArn", awssns.Topic_FromTopicArn)
	p.AlarmTopic = imported(s, stack, "alarmTopicArn", awssns.Topic_FromTopicArn)
	bus := awsevents.EventBus_FromEventBusName
	if strings.HasPrefix(s.values["eventBus"], "arn:") {
		bus = awsevents.EventBus_FromEventBusArn
	}
	p.EventBus = imported(s, stack, "eventBus", bus)
	return p, nil
}

// resourceKind is a kind of resource that a setting names.
type resourceKind struct {
	pattern *regexp.Regexp
	what    string // that the value must be
	example string
}

// check returns an error if a value is no resource of this kind. An empty value, and one that is known only
// after the deployment, are none.
func (k resourceKind) check(name, value string) error {
	if value == "" || *awscdk.Token_IsUnresolved(value) || k.pattern.MatchString(value) {
		return nil
	}
	return fmt.Errorf("%s is %q; it must be %s, such as %s", name, value, k.what, k.example)
}

// arn returns the kind of a resource with an ARN.
func arn(what, service, resource, example string) resourceKind {
	return resourceKind{
		pattern: regexp.MustCompile(`^arn:aws[a-z-]*:` + service + `:[a-z0-9-]+:[0-9]{12}:` + resource + `$`),
		what:    what, example: "arn:aws:" + service + ":eu-central-1:111122223333:" + example,
	}
}

var (
	certificateKind = arn("the ARN of a certificate in ACM", "acm", `certificate/[A-Za-z0-9-]+`,
		"certificate/12345678-1234-1234-1234-123456789012")
	// The last part consists of the random characters that Secrets Manager adds. Without them, the roles would
	// admit other secrets.
	secretKind = arn("the complete ARN of a secret in Secrets Manager", "secretsmanager",
		`secret:[A-Za-z0-9/_+=.@-]+-[A-Za-z0-9]{6}`, "secret:name-AbCdEf")
	keyKind = arn("the ARN of a key in KMS, and not of an alias", "kms", `key/(mrk-[0-9a-f]{32}|[0-9a-f-]{36})`,
		"key/12345678-1234-1234-1234-123456789012")
	// Neither EventBridge nor CloudWatch can publish to a FIFO topic, whose name ends with .fifo.
	topicKind = arn("the ARN of a standard topic in SNS", "sns", `[A-Za-z0-9_-]{1,256}`, "name")
	busKind   = busOrARN()
)

// busOrARN returns the kind of an event bus, which has a name or an ARN.
func busOrARN() resourceKind {
	const name = `[/.A-Za-z0-9_-]{1,256}`
	kind := arn("the name of an event bus, or its ARN", "events", "event-bus/"+name, "event-bus/name")
	kind.pattern = regexp.MustCompile("^" + name + "$|" + kind.pattern.String())
	return kind
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
