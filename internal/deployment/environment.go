// Package deployment names what the functions, the stack that deploys them, and the command line must
// agree on: environment variables, routes, log messages that the stack counts, and outputs of the
// stack.
package deployment

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/secret"
)

// Ack is the environment of the ack function.
type Ack struct {
	JobsQueueURL    string `env:"JOBS_QUEUE_URL,required,notEmpty"`
	ResultsQueueURL string `env:"RESULTS_QUEUE_URL,required,notEmpty"`
	JobsTable       string `env:"JOBS_TABLE,required,notEmpty"`
	Webhook         WebhookSecret
	Completion      CompletionSecret
	AckText         string `env:"ACK_TEXT"`  // empty means the built-in text
	NextCall        OnOff  `env:"NEXT_CALL"` // on if a tool parks results for the customer's next call

	// The tools whose results the answer waits for. Empty means none.
	QuickTools QuickTools `env:"QUICK_TOOLS"`

	// The jobs of the long tools have a queue of their own. Empty means that no tool is long.
	LongJobsQueueURL string   `env:"LONG_JOBS_QUEUE_URL"`
	LongTools        []string `env:"LONG_TOOLS"`
}

// Check returns an error if the variables contradict each other.
func (e Ack) Check() error {
	if len(e.LongTools) > 0 && e.LongJobsQueueURL == "" {
		return fmt.Errorf("%s is set, and %s is not: the jobs of long tools need their queue",
			VariableName(e, "LongTools"), VariableName(e, "LongJobsQueueURL"))
	}
	return nil
}

// Limits on the jobs of one call, which the stack and the local run set by default. A caller hardly needs so
// many, and a model in a loop does.
const (
	MaxJobsPerCall           = 50
	MaxConcurrentJobsPerCall = 10
)

// CallBackPerDay is how many outbound calls a day may have if the stack sets no other limit.
const CallBackPerDay = 100

// Process is the environment of the process function.
type Process struct {
	JobsQueueURL    string `env:"JOBS_QUEUE_URL,required,notEmpty"`
	ResultsQueueURL string `env:"RESULTS_QUEUE_URL,required,notEmpty"`
	JobsTable       string `env:"JOBS_TABLE,required,notEmpty"`

	// The queue of the jobs of long tools. Empty means that there is none.
	LongJobsQueueURL string `env:"LONG_JOBS_QUEUE_URL"`
	LongJobsQueueARN string `env:"LONG_JOBS_QUEUE_ARN"`

	// Schedules of this group wake up suspended jobs. They send to the jobs queues with this role.
	ScheduleGroup   string `env:"SCHEDULE_GROUP,required,notEmpty"`
	ScheduleRoleARN string `env:"SCHEDULE_ROLE_ARN,required,notEmpty"`
	JobsQueueARN    string `env:"JOBS_QUEUE_ARN,required,notEmpty"`
	JobsDLQARN      string `env:"JOBS_DLQ_ARN,required,notEmpty"`

	// An external system posts a job's result to this URL, followed by a token.
	CompletionURL string `env:"COMPLETION_URL,required,notEmpty"`
	Completion    CompletionSecret

	// The KMS key of the arguments that Vapi encrypts. Empty means that no tool has such arguments.
	ArgumentKeyARN string `env:"ARGUMENT_KEY_ARN"`

	// For how many days the arguments of jobs are stored for replays, and the KMS key that encrypts them. 0 and empty
	// mean that none are stored.
	ArgumentRetentionDays uint16 `env:"ARGUMENT_RETENTION_DAYS"`
	ReplayKeyARN          string `env:"REPLAY_KEY_ARN"`

	// 0, the value of an unset variable, means no limit. The stack sets limits by default.
	MaxJobsPerCall           uint16 `env:"MAX_JOBS_PER_CALL"`
	MaxConcurrentJobsPerCall uint16 `env:"MAX_CONCURRENT_JOBS_PER_CALL"`

	// On if a parked result may be delivered in a call of another assistant.
	NextCallAcrossAssistants OnOff `env:"NEXT_CALL_ACROSS_ASSISTANTS"`

	Tracing Tracing
}

// Check returns an error if the variables contradict each other.
func (e Process) Check() error {
	if (e.LongJobsQueueURL == "") != (e.LongJobsQueueARN == "") {
		return fmt.Errorf("of %s and %s, only one is set: set both, or none",
			VariableName(e, "LongJobsQueueURL"), VariableName(e, "LongJobsQueueARN"))
	}
	if (e.ArgumentRetentionDays == 0) != (e.ReplayKeyARN == "") {
		return fmt.Errorf("of %s and %s, only one is set: set both, or none",
			VariableName(e, "ArgumentRetentionDays"), VariableName(e, "ReplayKeyARN"))
	}
	return e.Tracing.Check()
}

// Callback is the environment of the callback function.
type Callback struct {
	ResultsQueueURL   string   `env:"RESULTS_QUEUE_URL,required,notEmpty"`
	JobsTable         string   `env:"JOBS_TABLE,required,notEmpty"`
	EventBusName      string   `env:"EVENT_BUS_NAME,required,notEmpty"`
	ControlHosts      []string `env:"CONTROL_HOSTS"`
	ControlAnyPath    OnOff    `env:"CONTROL_ANY_PATH"` // on if control URLs need not contain the call's id
	PublicKeySecretID string   `env:"VAPI_PUBLIC_KEY_SECRET_ID"`
	ResultText        string   `env:"RESULT_TEXT"` // empty means the built-in text

	// The names of customers in the table are made with a key that is derived from the completion keys.
	// Empty means that no tool parks results, that none can be parked, and that there are no outbound calls.
	Completion CompletionSecret

	// With the private key, the function delivers into chats, and makes outbound calls within the
	// hours. Without it, it does neither.
	PrivateKeySecretID    string `env:"VAPI_PRIVATE_KEY_SECRET_ID"`
	APIURL                string `env:"VAPI_API_URL"`
	CallBackHours         string `env:"CALL_BACK_HOURS"`
	CallBackZone          string `env:"CALL_BACK_ZONE"`
	CallBackAssistantID   string `env:"CALL_BACK_ASSISTANT_ID"`
	CallBackPhoneNumberID string `env:"CALL_BACK_PHONE_NUMBER_ID"`

	CallBackPrefixes []string `env:"CALL_BACK_PREFIXES"` // of the numbers that may be called; empty means all
	CallBackPerDay   uint16   `env:"CALL_BACK_PER_DAY"`  // 0, the value of an unset variable, means no limit

	Tracing Tracing
}

// Check returns an error if the variables contradict each other.
func (e Callback) Check() error {
	if e.CallBackHours != "" && e.PrivateKeySecretID == "" {
		return fmt.Errorf("%s is set, and %s is not: outbound calls need the private key",
			VariableName(e, "CallBackHours"), VariableName(e, "PrivateKeySecretID"))
	}
	if e.CallBackHours != "" && e.Completion == (CompletionSecret{}) {
		return fmt.Errorf("%s is set, and the completion keys are not: outbound calls need them, to name customers",
			VariableName(e, "CallBackHours"))
	}
	if err := CheckPrefixes(e.CallBackPrefixes); err != nil {
		return fmt.Errorf("%s: %w", VariableName(e, "CallBackPrefixes"), err)
	}
	return e.Tracing.Check()
}

// CheckPrefixes returns an error if one of the prefixes is not the beginning of a number of E.164.
func CheckPrefixes(prefixes []string) error {
	for _, p := range prefixes {
		digits, ok := strings.CutPrefix(p, "+")
		if !ok || digits == "" || digits[0] == '0' || strings.Trim(digits, "0123456789") != "" {
			return fmt.Errorf("%q is not the beginning of a number; write it with its country, such as +49", p)
		}
	}
	return nil
}

// AWS is the part of each function's environment that configures access to AWS. The AWS SDKs use
// the same names. Lambda sets all but the endpoints.
type AWS struct {
	Region          string `env:"AWS_REGION"`
	DefaultRegion   string `env:"AWS_DEFAULT_REGION"` // used if AWS_REGION is empty
	AccessKeyID     string `env:"AWS_ACCESS_KEY_ID"`
	SecretAccessKey string `env:"AWS_SECRET_ACCESS_KEY"`
	SessionToken    string `env:"AWS_SESSION_TOKEN"`

	// Endpoint replaces the endpoints of all services, for emulators. The endpoint of one service
	// takes precedence.
	Endpoint               string `env:"AWS_ENDPOINT_URL" local:"true"`
	EndpointSQS            string `env:"AWS_ENDPOINT_URL_SQS"`
	EndpointDynamoDB       string `env:"AWS_ENDPOINT_URL_DYNAMODB"`
	EndpointSecretsManager string `env:"AWS_ENDPOINT_URL_SECRETS_MANAGER"`
	EndpointEventBridge    string `env:"AWS_ENDPOINT_URL_EVENTBRIDGE"`
	EndpointScheduler      string `env:"AWS_ENDPOINT_URL_SCHEDULER"`
	EndpointKMS            string `env:"AWS_ENDPOINT_URL_KMS"`
}

// WebhookSecret is the credential of Vapi's webhooks: JSON in a variable, or the name or ARN of a
// stored secret. Exactly one of them must be set.
type WebhookSecret struct {
	Inline string `env:"WEBHOOK_AUTH" local:"true"`
	ID     string `env:"WEBHOOK_SECRET_ID"`
}

// Source returns the source of the credential. stored opens a stored secret.
func (s WebhookSecret) Source(stored func(id string) secret.Source) (secret.Source, error) {
	return source(s, s.Inline, s.ID, `{"type":"none"} switches verification off`, stored)
}

// CompletionSecret is the keys of completion tokens: JSON in a variable, or the name or ARN of a
// stored secret. Exactly one of them must be set.
type CompletionSecret struct {
	Inline string `env:"COMPLETION_KEYS" local:"true"`
	ID     string `env:"COMPLETION_SECRET_ID"`
}

// Source returns the source of the keys. stored opens a stored secret.
func (s CompletionSecret) Source(stored func(id string) secret.Source) (secret.Source, error) {
	return source(s, s.Inline, s.ID, `keys look like {"current":"32 random characters or more"}`, stored)
}

func source(variables any, inline, id, hint string, stored func(string) secret.Source) (secret.Source, error) {
	inlineName, idName := VariableName(variables, "Inline"), VariableName(variables, "ID")
	switch {
	case inline != "" && id != "":
		return nil, fmt.Errorf("both %s and %s are set; unset one of them", inlineName, idName)
	case inline != "":
		return secret.Fixed(inline), nil
	case id != "":
		return stored(id), nil
	default:
		return nil, fmt.Errorf("neither %s nor %s is set; set one of them (%s)", idName, inlineName, hint)
	}
}

// OnOff is a variable that is "on" or "off".
type OnOff bool

// UnmarshalText implements [encoding.TextUnmarshaler].
func (o *OnOff) UnmarshalText(text []byte) error {
	if s := string(text); s != "on" && s != "off" {
		return errors.New("must be on or off")
	}
	*o = string(text) == "on"
	return nil
}

// String returns the variable's value.
func (o OnOff) String() string {
	if o {
		return "on"
	}
	return "off"
}

// QuickTools is a variable that holds how long the answer to a webhook waits for the result of a tool, by the
// tool's name: "order_status=6s,stock=2.5s".
type QuickTools map[string]time.Duration

// UnmarshalText implements [encoding.TextUnmarshaler].
func (q *QuickTools) UnmarshalText(text []byte) error {
	tools := make(QuickTools)
	for one := range strings.SplitSeq(string(text), ",") {
		name, wait, _ := strings.Cut(one, "=")
		d, err := time.ParseDuration(wait)
		if err != nil || name == "" || d <= 0 {
			return errors.New("must look like order_status=6s,stock=2.5s")
		}
		tools[name] = d
	}
	*q = tools
	return nil
}

// String returns the variable's value. It does not depend on the order of the tools.
func (q QuickTools) String() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(q)) {
		all = append(all, name+"="+q[name].String())
	}
	return strings.Join(all, ",")
}

// VariableName returns the name of the variable of an environment's field.
func VariableName(environment any, field string) string {
	f, ok := reflect.TypeOf(environment).FieldByName(field)
	if !ok {
		panic(fmt.Sprintf("%T has no field %s", environment, field))
	}
	name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
	return name
}

// Variables returns the variables of an environment. It omits fields with zero values. With
// declareLocal, it also declares the variables that a local runner sets, with empty values,
// because the SAM CLI sets only declared variables.
func Variables(environment any, declareLocal bool) map[string]string {
	variables := make(map[string]string)
	fields(reflect.ValueOf(environment), func(name string, local bool, value reflect.Value) {
		switch list, isList := value.Interface().([]string); {
		case value.IsZero():
			if local && declareLocal {
				variables[name] = ""
			}
		case isList:
			variables[name] = strings.Join(list, ",")
		default:
			variables[name] = fmt.Sprint(value.Interface())
		}
	})
	return variables
}

// VariableNames returns the names of all variables of an environment.
func VariableNames(environment any) []string {
	var names []string
	fields(reflect.ValueOf(environment), func(name string, _ bool, _ reflect.Value) { names = append(names, name) })
	return names
}

// fields calls do for each variable of an environment.
func fields(environment reflect.Value, do func(name string, local bool, value reflect.Value)) {
	for field, value := range environment.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("env"), ","); name != "" {
			do(name, field.Tag.Get("local") == "true", value)
		} else {
			fields(value, do)
		}
	}
}
