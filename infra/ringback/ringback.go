// Package ringback is Ringback as one CDK construct. Add it to a stack of your
// own, or deploy the app in the parent folder.
package ringback

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscertificatemanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/queue"
)

// Props are the properties of a [Ringback]. Only Tools is required.
type Props struct {
	// Tools are the tools that the process function is built with. The queues
	// and the process function follow from their timeouts and attempts. There
	// must be one.
	Tools []asynctool.Definition

	// Functions is the import path of the folder with the functions, which
	// NewRingback builds with the Go compiler: the commands ack, process and
	// callback, whose mains call the packages in run. Empty means the folder
	// functions of the main module.
	Functions string

	// Binaries is a folder with ack/bootstrap, process/bootstrap and
	// callback/bootstrap, built for Architecture. If it is set, NewRingback
	// builds nothing. Empty means that it builds Functions.
	Binaries string

	// Architecture is the functions' instruction set. Nil means arm64.
	Architecture awslambda.Architecture

	// ToolSettings are added to the environment of the process function, where
	// tools read their settings. Nil means none.
	ToolSettings []Setting

	// ProcessMemory is the memory of the process function in MiB: 128 to 10240.
	// The function's share of a CPU follows from it. 0 means 256; give more if
	// your tools need it.
	ProcessMemory int

	// ProcessConcurrency is how many batches of jobs of short tools may run at the
	// same time: 2 to 1000. 0 means 50. A tool is short if its timeout is at most
	// 60 seconds. Callers arrive one at a time, so a batch is mostly one job, and
	// this is how many tools run at once.
	ProcessConcurrency int

	// LongProcessConcurrency is the same for the jobs of long tools, which have a
	// queue of their own: 2 to 1000. 0 means ProcessConcurrency. The stack has that
	// queue if a tool is long, or if this is set.
	LongProcessConcurrency int

	// Listen makes a stage for development: no function runs the tools. The jobs wait on their queues until "ringback
	// listen" runs the tools on the machine of a developer. ProcessConcurrency and LongProcessConcurrency must be 0.
	// The stack has no alarms on jobs that wait, and needs no settings of the tools. The listener uses the credentials of
	// the developer, so the policy of a new argument key does not keep other principals of the account from decrypting.
	Listen bool

	// CallbackConcurrency is how many batches of results may be delivered at
	// the same time: 2 to 1000. 0 means 20.
	CallbackConcurrency int

	// BatchSize is how many jobs, or results, one invocation may receive: 1 to
	// 10. 0 means 10. They run concurrently. With 1, a tool that crashes its
	// process costs no other job an attempt.
	BatchSize int

	// MaxJobsPerCall is how many jobs one call may start: up to 65535. 0 means
	// 50, and NoLimit means no limit.
	MaxJobsPerCall int

	// MaxConcurrentJobsPerCall is how many jobs of one call may run at the same
	// time: up to 65535. 0 means 10, and NoLimit means no limit.
	MaxConcurrentJobsPerCall int

	// NextCallAcrossAssistants delivers a parked result in the customer's next call
	// in the organisation. If it is false, that call must be of the same assistant,
	// or with the same phone number.
	NextCallAcrossAssistants bool

	// AckText is the placeholder that the model sees as the tool's result until
	// the real one arrives. Empty means the built-in text.
	AckText string

	// ResultText is the text around a delivered result. Empty means the
	// built-in text.
	ResultText string

	// RateLimit is how many webhooks a second the API accepts, averaged over
	// time: up to 10000. 0 means 50.
	RateLimit float64

	// BurstLimit is how many webhooks the API accepts at once: 1 to 5000. 0
	// means 200: each of 100 calls can send two at the same time.
	BurstLimit int

	// CompletionRateLimit and CompletionBurstLimit are the same for external
	// completions, so that a flood of one does not stop the other. 0 means
	// RateLimit and BurstLimit.
	CompletionRateLimit  float64
	CompletionBurstLimit int

	// DomainName is a host name of yours that the API gets as its address, such as
	// ringback.example.com. The address that API Gateway generates is then switched
	// off. DomainName needs Certificate, and a DNS record that points to DomainTarget.
	// Empty means the generated address.
	DomainName string

	// Certificate is the certificate of DomainName, in the stack's region. Nil means
	// none.
	Certificate awscertificatemanager.ICertificate

	// KeepExecuteAPIEndpoint keeps the generated address beside DomainName, while
	// senders move to the new one.
	KeepExecuteAPIEndpoint bool

	// JWT makes API Gateway verify an OAuth2 access token. The webhook secret
	// is then neither created nor verified. Nil means no JWT authorizer.
	JWT *JWT

	// WebhookSecret holds the webhook credential. Nil means a new secret with a
	// generated bearer token. A secret of this app whose credential has fewer than
	// 24 characters is an error.
	WebhookSecret awssecretsmanager.ISecret

	// PublicKeySecret holds the public key of the Vapi organisation, a plain
	// string, for assistants with controlAuthenticationEnabled. Nil means none.
	PublicKeySecret awssecretsmanager.ISecret

	// PrivateKeySecret holds the private key of the Vapi organisation, a plain
	// string. It is needed to continue chats, to make outbound calls, and for tools
	// whose results are parked for the next call. Nil means that Ringback does none
	// of these.
	PrivateKeySecret awssecretsmanager.ISecret

	// VapiAPIURL is the address of Vapi's API for organisations outside the
	// United States, such as https://api.eu.vapi.ai. The callback function uses it
	// with PrivateKeySecret, and so do the commands in the outputs. Empty means
	// https://api.vapi.ai.
	VapiAPIURL string

	// CallBackHours are the hours in which outbound calls may be made, as
	// HH:MM-HH:MM, such as 09:00-18:00. 20:00-02:00 continues past midnight. It
	// needs PrivateKeySecret. Empty means no outbound calls.
	CallBackHours string

	// CallBackZone is the time zone of CallBackHours, by its name in the IANA
	// database, such as Europe/Berlin. Empty means UTC.
	CallBackZone string

	// CallBackAssistantID is the assistant that speaks in outbound calls. Empty
	// means the assistant of the call that the result belongs to.
	CallBackAssistantID string

	// CallBackPhoneNumberID is the phone number that outbound calls come from,
	// by its id at Vapi. Empty means the number of the call that the result
	// belongs to.
	CallBackPhoneNumberID string

	// CallBackPerDay is how many outbound calls a day may have, by UTC: up to
	// 65535. 0 means 100, and NoLimit means no limit. The results of further calls
	// become undelivered events.
	CallBackPerDay int

	// CallBackPrefixes are the beginnings of the numbers that outbound calls may
	// be made to, such as +49. Nil means that all numbers may be called.
	CallBackPrefixes []string

	// CompletionSecret holds the keys of the completion tokens, as JSON:
	// {"current":"…","previous":"…"}. The previous key is needed only during a
	// rotation. Nil means a new secret with a generated key.
	CompletionSecret awssecretsmanager.ISecret

	// ArgumentKey decrypts the arguments that Vapi encrypts. It must be an RSA key
	// for encryption. The process function may use it, and its own policy decides
	// who else may. Nil means a new key of 2048 bits that only the process function
	// may use, or none if no tool has such arguments.
	ArgumentKey awskms.IKey

	// ArgumentRetentionDays is for how many days the arguments of jobs are stored, so
	// that "ringback jobs replay" can run them again: up to 30. A key of the stack
	// encrypts them. 0 means that they are not stored.
	ArgumentRetentionDays int

	// EncryptionKey encrypts the queues, the table, the secrets and topics that
	// NewRingback creates, and the functions' environments. Nil means keys that
	// AWS manages. The key must belong to this app, or its policy must let the
	// services use it.
	EncryptionKey awskms.IKey

	// RemovalPolicy applies to the jobs table when the stack is deleted. Empty
	// means RETAIN.
	RemovalPolicy awscdk.RemovalPolicy

	// LogRetention is how long logs are stored. Empty means one month.
	LogRetention awslogs.RetentionDays

	// VendedLogs puts the access log into a log group below /aws/vendedlogs/. API
	// Gateway delivers there without an entry in the account's resource policy for
	// logs, which has room for few (Amazon CloudWatch Logs user guide, "Enabling
	// logging from AWS services"). Set it in new stacks. In an existing stack, an
	// update replaces the log group, and deletes the access log so far.
	VendedLogs bool

	// EventBus receives the events of results that could not be delivered. Nil
	// means a new bus.
	EventBus awsevents.IEventBus

	// UndeliveredTopic receives every such event. Nil means no topic, or a new
	// one if UndeliveredEmail is set.
	UndeliveredTopic awssns.ITopic

	// UndeliveredEmail is an address that is subscribed to the topic. The mails
	// contain the result and the customer's number. Empty means none.
	UndeliveredEmail string

	// AlarmTopic is notified when an alarm starts and when it ends. Nil means
	// no topic, or a new one if AlarmEmail is set.
	AlarmTopic awssns.ITopic

	// AlarmEmail is an address that is subscribed to the topic. Empty means
	// none.
	AlarmEmail string

	// OTEL is where the functions send OpenTelemetry spans, other than to a collector: "xray". It is
	// experimental, since it is tested only against a UDP listener. Empty means nowhere.
	OTEL string

	// OTELEndpoint is the URL of an OpenTelemetry collector that receives the functions' spans, over
	// OTLP/HTTP, such as https://collector.example.com. Empty means none.
	OTELEndpoint string

	// OTELHeadersSecret holds the headers that the collector wants in a request, such as a key, as a plain
	// string: name=value, separated by commas, with values in percent-encoding. Nil means none.
	OTELHeadersSecret awssecretsmanager.ISecret

	// ControlHosts are hosts besides Vapi's own that may receive results, as
	// host or host:port. They may use http. For tests only. Nil means none.
	ControlHosts []string

	// ControlAnyPath admits control URLs whose path does not contain the call's
	// id. Vapi's control URLs contain it. If it is false, others are not used, and
	// their results become undelivered events.
	ControlAnyPath bool

	// LocalEndpoint declares the variables AWS_ENDPOINT_URL, COMPLETION_KEYS
	// and WEBHOOK_AUTH, empty, for each function that reads them. A local
	// runner such as the SAM CLI sets only variables that are declared. False
	// is right for deployments.
	LocalEndpoint bool

	settings map[string]string // how the properties are written in the app's context, by field
}

// NoLimit switches a limit off whose zero value means a default.
const NoLimit = -1

// JWT describes the OAuth2 access tokens that API Gateway accepts.
type JWT struct {
	// Issuer is the tokens' iss, an https URL. API Gateway reads their keys from
	// it. Required.
	Issuer string
	// Audience lists the accepted values of the tokens' aud, or client_id. At
	// least one is required.
	Audience []string
	// Scopes lists scopes of which a token must have at least one. Nil means that
	// none is required.
	Scopes []string
}

// Setting is one variable in the environment of the process function.
type Setting struct {
	// Name is the name of the variable. Required.
	Name string
	// Value is the value of the variable. Anyone who can read the template can
	// read it. Use SecretARN for a secret.
	Value string
	// SecretARN is a secret of Secrets Manager, which CloudFormation reads when
	// it deploys. The template contains only the ARN. A rotated secret needs
	// another deployment. Empty means that Value is used.
	SecretARN string
	// SecretField is the field of the secret's JSON. Empty means the whole
	// secret.
	SecretField string
}

// Ringback contains the resources of a deployment. Its fields are for the rest of
// your app: to let Process read a table of yours, call
// table.GrantReadData(r.Process).
type Ringback struct {
	constructs.Construct

	API              awsapigatewayv2.HttpApi
	WebhookURL       string // a CDK token without a DomainName: its value is known after the deployment
	CompletionURL    string // likewise; a job's completion token follows the URL
	DomainTarget     string // a CDK token: what a DNS record of DomainName points to; "" without one
	Ack              awslambda.Function
	Process          awslambda.Function
	Callback         awslambda.Function
	Jobs             awssqs.Queue // of short tools, and of unknown ones
	LongJobs         awssqs.Queue // of long tools; nil if there is none
	JobsDLQ          awssqs.Queue // of both
	Results          awssqs.Queue // of all jobs
	ResultsDLQ       awssqs.Queue
	Table            awsdynamodb.Table          // the jobs table
	Schedules        awsscheduler.ScheduleGroup // the wake-ups of more than 15 minutes
	EventBus         awsevents.IEventBus        // takes the undelivered events
	WebhookSecret    awssecretsmanager.ISecret  // nil with a JWT authorizer
	CompletionSecret awssecretsmanager.ISecret  // signs completion URLs, and names customers in the table
	ReplayKey        awskms.Key                 // nil without ArgumentRetentionDays
	ArgumentKey      awskms.IKey                // nil if none is given and no tool has encrypted arguments
	Alarms           []awscloudwatch.Alarm
	Dashboard        awscloudwatch.Dashboard
	// DashboardURL is a CDK token. If the stack is for any region and is not one of NewStack, it is for partition aws,
	// since CloudFormation can choose the host only by conditions of the stack.
	DashboardURL string
	// UndeliveredTopic and AlarmTopic are nil if Props has neither a topic nor
	// an address.
	UndeliveredTopic awssns.ITopic
	AlarmTopic       awssns.ITopic

	name          string  // unique in the account and region
	problems      []error // of the functions' variables
	props         Props
	tools         *asynctool.Set
	environment   deployment.Process // of the process function, without the settings of the tools
	longTools     []string           // their names
	limits        queue.Limits
	stage         awsapigatewayv2.HttpStage
	scheduleRole  awsiam.Role
	accessLogs    awslogs.LogGroup
	ackLogs       awslogs.LogGroup
	processLogs   awslogs.LogGroup
	callbackLogs  awslogs.LogGroup
	deliveredRate awscloudwatch.Metric
	lostRate      awscloudwatch.Metric
	refusedRate   awscloudwatch.Metric // 401
	throttledRate awscloudwatch.Metric // 429 of API Gateway
}

// NewRingback adds a Ringback to scope. It returns an error if the tools or the
// properties are invalid, or if the functions cannot be built.
func NewRingback(scope constructs.Construct, id string, props Props) (*Ringback, error) {
	if err := props.complete(); err != nil {
		return nil, err
	}
	set, err := asynctool.NewSet(props.Tools...)
	if err != nil {
		return nil, err
	}
	if err := props.checkNextCall(set); err != nil {
		return nil, err
	}
	r := &Ringback{
		Construct: constructs.NewConstruct(scope, jsii.String(id)),
		props:     props,
		tools:     set,
		longTools: set.LongerThan(queue.LongTool),
		limits:    queue.LimitsFor(set.MaxTimeout(), set.MaxAttempts()),
	}
	r.name = *awscdk.Names_UniqueResourceName(r.Construct, &awscdk.UniqueResourceNameOptions{
		MaxLength: jsii.Number(200), Separator: jsii.String("-"),
	})
	if props.Binaries == "" {
		if r.props.Binaries, err = r.build(); err != nil {
			return nil, err
		}
	}
	if err := r.props.checkBinaries(); err != nil {
		return nil, err
	}
	r.queues()
	r.table()
	r.schedules()
	r.sweep()
	r.secrets()
	r.argumentKey()
	r.replayKey()
	r.events()
	r.api()
	r.functions()
	r.routes()
	r.metrics()
	r.alarms()
	r.dashboard()
	r.queries()
	r.problems = append(r.problems, r.invalid()...)
	return r, errors.Join(r.problems...)
}

// complete sets the defaults, and returns an error for each property that is invalid.
func (p *Props) complete() error {
	if len(p.Tools) == 0 {
		return errors.New("there are no tools; the limits of the queues and of the process function follow from them")
	}
	if p.Architecture == nil {
		p.Architecture = awslambda.Architecture_ARM_64()
	}
	if p.RemovalPolicy == "" {
		p.RemovalPolicy = awscdk.RemovalPolicy_RETAIN
	}
	if p.LogRetention == "" {
		p.LogRetention = awslogs.RetentionDays_ONE_MONTH
	}
	err := errors.Join(p.checkListen(), p.checkNumbers(), p.checkJWT(), p.checkDomain(), p.checkOutbound(), p.checkTexts(),
		p.checkRecipients(), p.checkTracing(), p.checkWebhookSecret(), p.checkToolSettings())
	p.CompletionRateLimit = cmp.Or(p.CompletionRateLimit, p.RateLimit)
	p.CompletionBurstLimit = cmp.Or(p.CompletionBurstLimit, p.BurstLimit)
	return err
}

// checkListen returns an error for each property that has no effect if a listener runs the tools.
func (p *Props) checkListen() error {
	var errs []error
	for _, n := range []struct {
		field string
		value int
	}{{"ProcessConcurrency", p.ProcessConcurrency}, {"LongProcessConcurrency", p.LongProcessConcurrency}} {
		if p.Listen && n.value != 0 {
			errs = append(errs, fmt.Errorf("%s is %d, and %s is true; it has no effect, because no function runs the tools",
				p.written(n.field), n.value, p.written("Listen")))
		}
	}
	return errors.Join(errs...)
}

// checkNumbers sets the defaults of numbers, and checks their ranges.
func (p *Props) checkNumbers() error {
	var errs []error
	standardConcurrent := p.MaxConcurrentJobsPerCall == 0
	for _, n := range []struct {
		name               string
		value              *int
		standard, low, top int
	}{
		{"ProcessMemory", &p.ProcessMemory, processMemory, 128, 10240},
		{"ProcessConcurrency", &p.ProcessConcurrency, 50, 2, 1000},
		// 0 stays, because any other value creates the queue.
		{"LongProcessConcurrency", &p.LongProcessConcurrency, 0, 2, 1000},
		{"CallbackConcurrency", &p.CallbackConcurrency, 20, 2, 1000},
		{"ArgumentRetentionDays", &p.ArgumentRetentionDays, 0, 1, maxArgumentRetention},
		{"BatchSize", &p.BatchSize, 10, 1, 10},
		{"BurstLimit", &p.BurstLimit, 200, 1, 5000},
		{"CompletionBurstLimit", &p.CompletionBurstLimit, 0, 1, 5000},
		{"MaxJobsPerCall", &p.MaxJobsPerCall, deployment.MaxJobsPerCall, NoLimit, math.MaxUint16},
		{
			"MaxConcurrentJobsPerCall", &p.MaxConcurrentJobsPerCall, deployment.MaxConcurrentJobsPerCall,
			NoLimit, math.MaxUint16,
		},
		{"CallBackPerDay", &p.CallBackPerDay, deployment.CallBackPerDay, NoLimit, math.MaxUint16},
	} {
		if *n.value == 0 {
			*n.value = n.standard
			continue
		}
		if *n.value < n.low || *n.value > n.top {
			errs = append(errs, fmt.Errorf("%s is %d; it must be between %d and %d",
				p.written(n.name), *n.value, max(n.low, 1), n.top))
		}
	}
	p.RateLimit = cmp.Or(p.RateLimit, 50)
	for _, n := range []struct {
		name  string
		value float64
	}{{"RateLimit", p.RateLimit}, {"CompletionRateLimit", cmp.Or(p.CompletionRateLimit, 1)}} {
		// NaN is not within the range.
		if !(n.value > 0 && n.value <= maxRate) {
			errs = append(errs, fmt.Errorf("%s is %g; it must be above 0, and at most %d", p.written(n.name), n.value, maxRate))
		}
	}
	if p.MaxJobsPerCall > 0 && standardConcurrent {
		p.MaxConcurrentJobsPerCall = min(p.MaxConcurrentJobsPerCall, p.MaxJobsPerCall)
	}
	if p.MaxJobsPerCall > 0 && p.MaxConcurrentJobsPerCall <= math.MaxUint16 &&
		p.MaxConcurrentJobsPerCall > p.MaxJobsPerCall {
		errs = append(errs, fmt.Errorf("%s is %d, and %s is %d; a call cannot run more jobs at the same time than it may "+
			"start", p.written("MaxConcurrentJobsPerCall"), p.MaxConcurrentJobsPerCall, p.written("MaxJobsPerCall"),
			p.MaxJobsPerCall))
	}
	return errors.Join(errs...)
}

// keyed calls use with the customer's key if there is one.
func (r *Ringback) keyed(use func(awskms.IKey)) {
	if r.props.EncryptionKey != nil {
		use(r.props.EncryptionKey)
	}
}

// allow grants actions on a resource.
func allow(f awsiam.IGrantable, resource string, actions ...string) {
	awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee: f, Actions: jsii.Strings(actions...), ResourceArns: jsii.Strings(resource),
	})
}

// allowIf grants actions on a resource if the values of all keys are as the operator
// requires. A value is a text, or a list of texts.
func allowIf(f awsiam.IGrantable, resource, operator string, keys map[string]any, actions ...string) {
	awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee: f, Actions: jsii.Strings(actions...), ResourceArns: jsii.Strings(resource),
		Conditions: &map[string]*map[string]any{operator: &keys},
	})
}
