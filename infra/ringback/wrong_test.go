package ringback

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

const (
	anySecret = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:s-AbCdEf"
	anyTopic  = "arn:aws:sns:eu-central-1:111122223333:t"
	anyID     = "5b7f2d94-6a0e-4a55-8d7c-4d9a2f1e6c33"
	anyACM    = "arn:aws:acm:eu-central-1:111122223333:certificate/12345678-1234-1234-1234-123456789012"
)

// notAnAddress is what a tool objects to.
const notAnAddress = "is not an address like https://shop.example.com/api"

// wrong is a wrong value of a setting.
type wrong struct {
	setting string
	value   any
	with    map[string]any // further settings
	want    string         // the whole error, in one sentence
}

// withHours are the settings that those of outbound calls need.
var withHours = map[string]any{"privateKeySecretArn": anySecret, "callBackHours": "09:00-18:00"}

// withJWT are the settings that those of OAuth2 tokens need.
var withJWT = map[string]any{"jwtIssuer": "https://issuer.example.com", "jwtAudience": "a"}

// withDomain are the settings that those of a host name need.
var withDomain = map[string]any{"domainName": "ringback.example.com", "certificateArn": anyACM}

// Each setting has at least one wrong value. To add a setting, add its wrong values.
var wrongs = []wrong{
	{"stage", "Dev_1", nil, `stage is "Dev_1"; use up to 32 lower-case letters, digits and -, a letter first`},
	{"stage", "", nil, `stage is ""; use up to 32 lower-case letters, digits and -, a letter first`},
	{"stage", []any{"dev"}, nil, `stage must be a text, a number, or true or false`},

	{"architecture", "arm", nil, `architecture is "arm"; it must be arm64 or x86_64`},
	{"binaries", "testdata/nothing", nil,
		`binaries is "testdata/nothing"; it has no file ack/bootstrap, which make build writes`},
	{"binaries", "testdata/functions/ack/bootstrap", nil,
		`binaries is "testdata/functions/ack/bootstrap"; it has no file ack/bootstrap, which make build writes`},
	{"removalPolicy", "keep", nil, `removalPolicy is "keep"; it must be retain or destroy`},
	{"logRetentionDays", "8", nil, `logRetentionDays is 8; it must be one of [1 3 5 7 14 30 60 90 180 365]`},
	{"logRetentionDays", "a month", nil, `logRetentionDays is "a month"; it must be a whole number above 0`},
	{"vendedLogs", "yes", nil, `vendedLogs is "yes"; it must be true or false`},
	{"localEndpoint", "yes", nil, `localEndpoint is "yes"; it must be true or false`},
	{"nextCallAcrossAssistants", "on", nil, `nextCallAcrossAssistants is "on"; it must be true or false`},

	{"rateLimit", "many", nil, `rateLimit is "many"; it must be a whole number above 0`},
	{"rateLimit", "10001", nil, `rateLimit is 10001; it must be above 0, and at most 10000`},
	{"rateLimit", 0.5, nil, `rateLimit is "0.5"; it must be a whole number above 0`},
	{"burstLimit", "0", nil, `burstLimit is "0"; it must be a whole number above 0`},
	{"burstLimit", "5001", nil, `burstLimit is 5001; it must be between 1 and 5000`},
	{"completionRateLimit", "-1", nil, `completionRateLimit is "-1"; it must be a whole number above 0`},
	{"completionRateLimit", 1e6, nil, `completionRateLimit is 1e+06; it must be above 0, and at most 10000`},
	{"completionBurstLimit", "5001", nil, `completionBurstLimit is 5001; it must be between 1 and 5000`},
	{"processMemory", "1", nil, `processMemory is 1; it must be between 128 and 10240`},
	{"processMemory", "512 MB", nil, `processMemory is "512 MB"; it must be a whole number above 0`},
	{"processConcurrency", "1", nil, `processConcurrency is 1; it must be between 2 and 1000`},
	{"listen", "yes", nil, `listen is "yes"; it must be true or false`},
	{"processConcurrency", "3", map[string]any{"listen": true},
		`processConcurrency is 3, and listen is true; it has no effect, because no function runs the tools`},
	{"stage", "dev", map[string]any{"dev/longProcessConcurrency": "3", "dev/listen": "true"},
		`dev/longProcessConcurrency is 3, and dev/listen is true; it has no effect, because no function runs the tools`},
	{"longProcessConcurrency", "1", nil, `longProcessConcurrency is 1; it must be between 2 and 1000`},
	{"callbackConcurrency", "1001", nil, `callbackConcurrency is 1001; it must be between 2 and 1000`},
	{"batchSize", "11", nil, `batchSize is 11; it must be between 1 and 10`},
	{"argumentRetentionDays", "31", nil, `argumentRetentionDays is 31; it must be between 1 and 30`},
	{"maxJobsPerCall", "unlimited", nil, `maxJobsPerCall is "unlimited"; it must be a whole number above 0, or none`},
	{"maxJobsPerCall", "0", nil, `maxJobsPerCall is "0"; it must be a whole number above 0, or none`},
	{"maxConcurrentJobsPerCall", "65536", nil, `maxConcurrentJobsPerCall is 65536; it must be between 1 and 65535`},
	{"maxConcurrentJobsPerCall", "5", map[string]any{"maxJobsPerCall": "4"}, "maxConcurrentJobsPerCall is 5, " +
		"and maxJobsPerCall is 4; a call cannot run more jobs at the same time than it may start"},

	{"domainName", "ringback.example.com", nil, "domainName needs certificateArn; set both, or none"},
	{"domainName", "https://ringback.example.com", withDomain,
		`domainName is "https://ringback.example.com"; it must be a host name in lower case, such as ringback.example.com`},
	{"certificateArn", anyACM, nil, "certificateArn needs domainName; set both, or none"},
	{"certificateArn", "my-certificate", withDomain,
		`certificateArn is "my-certificate"; it must be the ARN of a certificate in ACM, such as ` + anyACM},
	{"certificateArn", anySecret, withDomain,
		`certificateArn is "` + anySecret + `"; it must be the ARN of a certificate in ACM, such as ` + anyACM},
	{"keepExecuteApiEndpoint", "true", nil,
		"keepExecuteApiEndpoint needs domainName, without which that endpoint is the only one"},

	{"ackText", "  ", nil, "ackText is only white space; the model would see an empty result"},
	{"ackText", strings.Repeat("x", 4000), nil,
		"ackText has 4000 bytes; with it, the variables of the ack function exceed Lambda's 4096 bytes"},
	{"resultText", "Here it is.", nil, "resultText is invalid: the result text has {content} 0 times; write it once"},
	{"resultText", "{{.Content}}", nil, "resultText is invalid: the result text has {content} 0 times; write it once"},
	{"resultText", "{marker} {content}", nil, "resultText is invalid: the result text has {marker} on one side of " +
		"{content}; write it on both sides, or not at all"},
	{"resultText", "{content} of {customer}", nil, "resultText is invalid: the result text has the unknown placeholder " +
		"{customer}; use {tool}, {tool_call_id}, {status}, {content} or {marker}"},
	{"resultText", "{content}" + strings.Repeat("x", 4000), nil,
		"resultText has 4009 bytes; with it, the variables of the callback function exceed Lambda's 4096 bytes"},

	{"jwtIssuer", "https://issuer.example.com", nil,
		"jwtIssuer needs jwtAudience, since the issuer also makes tokens for others"},
	{"jwtIssuer", "issuer.example.com", withJWT,
		`jwtIssuer is "issuer.example.com"; it must be an https URL, such as https://issuer.example.com`},
	{"jwtIssuer", "http://issuer.example.com", withJWT,
		`jwtIssuer is "http://issuer.example.com"; it must be an https URL, such as https://issuer.example.com`},
	{"jwtAudience", "a", nil, "jwtAudience needs jwtIssuer, whose tokens API Gateway verifies"},
	{"jwtAudience", numbers(51), withJWT, "jwtAudience has 51 audiences; API Gateway accepts 50"},
	{"jwtAudience", []any{"a", "b"}, withJWT, "jwtAudience must be a text, a number, or true or false"},
	{"jwtScopes", "read", nil, "jwtScopes needs jwtIssuer and jwtAudience"},
	{"jwtScopes", numbers(11), withJWT, "jwtScopes has 11 scopes; API Gateway accepts 10"},
	{"webhookSecretArn", anySecret, withJWT,
		"jwtIssuer and webhookSecretArn exclude each other: Vapi sends one Authorization header"},

	{"webhookSecretArn", "my-secret", nil, wrongSecret("webhookSecretArn", "my-secret")},
	{"webhookSecretArn", "arn:aws:secretsmanager:eu-central-1:111122223333:secret:s", nil,
		wrongSecret("webhookSecretArn", "arn:aws:secretsmanager:eu-central-1:111122223333:secret:s")},
	{"publicKeySecretArn", anyTopic, nil, wrongSecret("publicKeySecretArn", anyTopic)},
	{"completionSecretArn", "secret:" + anySecret, nil, wrongSecret("completionSecretArn", "secret:"+anySecret)},
	{"privateKeySecretArn", anySecret + "#key", nil, wrongSecret("privateKeySecretArn", anySecret+"#key")},
	{"argumentKeyArn", "arguments", nil, wrongKey("argumentKeyArn", "arguments")},
	{"kmsKeyArn", "alias/ringback", nil, wrongKey("kmsKeyArn", "alias/ringback")},
	{"kmsKeyArn", "arn:aws:kms:eu-central-1:111122223333:alias/ringback", nil,
		wrongKey("kmsKeyArn", "arn:aws:kms:eu-central-1:111122223333:alias/ringback")},
	{"undeliveredTopicArn", "my-topic", nil, wrongTopic("undeliveredTopicArn", "my-topic")},
	{"undeliveredTopicArn", anyTopic + ".fifo", nil, wrongTopic("undeliveredTopicArn", anyTopic+".fifo")},
	{"alarmTopicArn", anyTopic + ":" + anyID, nil, wrongTopic("alarmTopicArn", anyTopic+":"+anyID)},
	{"eventBus", "my bus", nil, wrongBus("my bus")},
	{"eventBus", anyTopic, nil, wrongBus(anyTopic)},
	{"eventBus", "arn:aws:events:eu-central-1:111122223333:rule/r", nil,
		wrongBus("arn:aws:events:eu-central-1:111122223333:rule/r")},

	{"otel", "jaeger", nil, `otel is "jaeger"; it must be xray`},
	{"otel", "xray", map[string]any{"otelEndpoint": "https://collector.example.com"},
		"otel and otelEndpoint exclude each other: spans go to X-Ray, or to a collector"},
	{"otelEndpoint", "http://collector.example.com:4318", nil,
		`otelEndpoint is "http://collector.example.com:4318"; it must be an https URL, such as ` +
			`https://collector.example.com, or an http URL of this machine, such as http://localhost:4318`},
	{"otelHeadersSecretArn", anySecret, nil, "otelHeadersSecretArn needs otelEndpoint, to which the headers are sent"},
	{"otelHeadersSecretArn", "my-secret", nil, wrongSecret("otelHeadersSecretArn", "my-secret")},
	{"dev/otelEndpoint", "collector", map[string]any{"stage": "dev"},
		`dev/otelEndpoint is "collector"; it must be an https URL, such as ` +
			`https://collector.example.com, or an http URL of this machine, such as http://localhost:4318`},

	{"alarmEmail", "ops", nil, `alarmEmail is "ops"; it must be one e-mail address, such as ops@example.com`},
	{"alarmEmail", "a@example.com,b@example.com", nil,
		`alarmEmail is "a@example.com,b@example.com"; it must be one e-mail address, such as ops@example.com`},
	{"alarmEmail", map[string]any{"to": "a"}, nil,
		"alarmEmail must be a text, a number, or true or false"},
	{"dev/alarmEmail", "ops", map[string]any{"stage": "dev", "alarmEmail": "ops@example.com"},
		`dev/alarmEmail is "ops"; it must be one e-mail address, such as ops@example.com`},
	{"undeliveredEmail", "Ops <ops@example.com>", nil,
		`undeliveredEmail is "Ops <ops@example.com>"; it must be one e-mail address, such as ops@example.com`},
	{"undeliveredEmail", "ops@localhost", nil,
		`undeliveredEmail is "ops@localhost"; it must be one e-mail address, such as ops@example.com`},

	{"vapiApiUrl", "api.eu.vapi.ai", nil, wrongAPI("api.eu.vapi.ai")},
	{"vapiApiUrl", "http://api.eu.vapi.ai", nil, wrongAPI("http://api.eu.vapi.ai")},
	{"vapiApiUrl", "http://127.0.0.1:9000", nil, wrongAPI("http://127.0.0.1:9000")}, // the function refuses it
	{"callBackHours", "09:00-18:00", nil,
		"callBackHours needs privateKeySecretArn, which every request to Vapi's API needs"},
	{"callBackHours", "9-18", withHours, `callBackHours is "9-18"; it must be like 09:00-18:00`},
	{"callBackHours", "09:00-09:00", withHours, `callBackHours is "09:00-09:00"; it must be like 09:00-18:00`},
	{"callBackZone", "Berlin", withHours, `callBackZone is "Berlin"; it must be a time zone like Europe/Berlin`},
	{"callBackZone", "Local", nil, `callBackZone is "Local"; it must be a time zone like Europe/Berlin`},
	{"callBackZone", "Europe/Berlin", nil,
		"callBackZone needs callBackHours, without which there are no outbound calls"},
	{"callBackAssistantId", "Riley", withHours,
		`callBackAssistantId is "Riley"; it must be the id of an assistant at Vapi, such as ` + anyID},
	{"callBackAssistantId", anyID, nil,
		"callBackAssistantId needs callBackHours, without which there are no outbound calls"},
	{"callBackPhoneNumberId", "+4930123456", withHours,
		`callBackPhoneNumberId is "+4930123456"; it must be the id of a phone number at Vapi, such as ` + anyID},

	{"callBackPerDay", "some", withHours, `callBackPerDay is "some"; it must be a whole number above 0, or none`},
	{"callBackPerDay", "65536", withHours, `callBackPerDay is 65536; it must be between 1 and 65535`},
	{"callBackPrefixes", "49", withHours, `callBackPrefixes is invalid: "49" is not the beginning of a number; write it ` +
		`with its country, such as +49`},
	{"callBackPrefixes", "+49", nil, "callBackPrefixes needs callBackHours, without which there are no outbound calls"},

	{"controlAnyPath", "yes", nil, `controlAnyPath is "yes"; it must be true or false`},
	{"controlHosts", "https://hooks.example.com", nil,
		`controlHosts has "https://hooks.example.com"; write host or host:port, without a scheme or a path`},
	{"controlHosts", "127.0.0.1:8080, hooks.example.com/control", nil,
		`controlHosts has "hooks.example.com/control"; write host or host:port, without a scheme or a path`},

	{"ORDERS_API_URL", "https://shop.example.com/" + strings.Repeat("x", 3975), nil,
		"ORDERS_API_URL has 4000 bytes; with it, the variables of the process function exceed Lambda's 4096 bytes"},
	{"AWS_REGION", "eu-central-1", nil, "AWS_REGION is a variable of Lambda; choose another name"},
	{"JOBS_TABLE", "jobs", nil, "JOBS_TABLE is a variable of Ringback; choose another name"},
	{"X", "x", nil, "X is not the name of a variable; use two or more letters, digits and _, a letter first"},
	{"STOCK_API_TOKEN", "secret:token", nil, `STOCK_API_TOKEN names the secret "token"; it must be the ARN of a ` +
		`secret in Secrets Manager, such as arn:aws:secretsmanager:eu-central-1:111122223333:secret:name-AbCdEf`},
	{"dev/STOCK_API_TOKEN", "secret:" + anySecret + "#a:b", map[string]any{"stage": "dev"},
		`dev/STOCK_API_TOKEN names the field "a:b" of a secret; CloudFormation reads no field whose name has a colon, ` +
			`a brace or a space`},
	{"ORDERS_API_URL", "shop.example.com", nil,
		"ORDERS_API_URL cannot be used by the tool order_status: it " + notAnAddress},
	{"REQUESTS_API_URL", "https://<your shop>", nil,
		"REQUESTS_API_URL cannot be used by the tool notify_when_ready: it " + notAnAddress},
	{"dev/STOCK_API_URL", "stock.example.com:8080", map[string]any{"stage": "dev"},
		"dev/STOCK_API_URL cannot be used by the tool restock_date: the url " + notAnAddress},
	{"STOCK_API_URL", anySecret, nil, "STOCK_API_URL cannot be used by the tool restock_date: the url " + notAnAddress},
	{"STOCK_API_URL", "https://stock.example.com:80443", map[string]any{"STOCK_API_TOKEN": "secret:" + anySecret},
		"STOCK_API_URL cannot be used by the tool restock_date: the url " + notAnAddress},
	{"STOCK_API_TOKEN", "s3cret\nX-Admin: true", map[string]any{"STOCK_API_URL": "https://stock.example.com"},
		"STOCK_API_TOKEN cannot be used by the tool restock_date: the header Authorization contains a line break or " +
			"another control character"},
	{"STOCK_API_TOKEN", "secret:#token", nil, "STOCK_API_TOKEN names the field of a secret, and no secret"},
}

func wrongSecret(setting, value string) string {
	return fmt.Sprintf("%s is %q; it must be the complete ARN of a secret in Secrets Manager, such as "+
		"arn:aws:secretsmanager:eu-central-1:111122223333:secret:name-AbCdEf", setting, value)
}

func wrongKey(setting, value string) string {
	return fmt.Sprintf("%s is %q; it must be the ARN of a key in KMS, and not of an alias, such as "+
		"arn:aws:kms:eu-central-1:111122223333:key/12345678-1234-1234-1234-123456789012", setting, value)
}

func wrongTopic(setting, value string) string {
	return fmt.Sprintf("%s is %q; it must be the ARN of a standard topic in SNS, such as "+
		"arn:aws:sns:eu-central-1:111122223333:name", setting, value)
}

func wrongBus(value string) string {
	return fmt.Sprintf("eventBus is %q; it must be the name of an event bus, or its ARN, such as "+
		"arn:aws:events:eu-central-1:111122223333:event-bus/name", value)
}

func wrongAPI(value string) string {
	return fmt.Sprintf("vapiApiUrl is %q; it must be an https URL without a query, because the private key is sent to it",
		value)
}

// numbers returns a list of n numbers.
func numbers(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprint(i))
	}
	return strings.Join(list, ",")
}

// A wrong value is one sentence, which names the setting as it is written. Without it, CloudFormation refuses the
// deployment, or a function does not start and every result is lost.
func TestWrongSettings(t *testing.T) {
	if len(wrongs) < 59 {
		t.Errorf("there are only %d wrong values", len(wrongs))
	}
	for _, row := range wrongs {
		t.Run(fmt.Sprint(row.setting, " ", row.value)[:min(60, len(fmt.Sprint(row.setting, " ", row.value)))],
			func(t *testing.T) {
				context := maps.Clone(row.with)
				if context == nil {
					context = map[string]any{}
				}
				context[row.setting] = row.value
				_, err := app(t, context)
				if err == nil {
					t.Fatal("it is accepted")
				}
				if err.Error() != row.want {
					t.Errorf("\ngot  %s\nwant %s", err, row.want)
				}
			})
	}
}

// Every setting has a wrong value above.
func TestEverySettingHasAWrongValue(t *testing.T) {
	for name := range known {
		if !slices.ContainsFunc(wrongs, func(w wrong) bool { return w.setting == name }) {
			t.Errorf("%s has none", name)
		}
	}
}
