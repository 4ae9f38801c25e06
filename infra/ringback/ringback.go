// Package ringback is Ringback as one CDK construct. Put it into a stack of
// your own, or deploy the app of the folder above.
package ringback

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
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
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/tools"
)

// Props are the properties of a Ringback. The zero value of each is usable, so
// that Props{} is a complete deployment.
type Props struct {
	// Tools are the tools whose timeouts and attempts the queues and the
	// process function are cut to. They must be those that the process
	// function is built with. Nil means those of the package tools.
	Tools []asynctool.Definition

	// Binaries is a folder with ack/bootstrap, process/bootstrap and
	// callback/bootstrap, built for the architecture. Empty means that they
	// are built now, by the Go compiler, for which the module must be the
	// current directory's or one that it requires.
	Binaries string

	// Architecture is what the functions run on. Nil means arm64.
	Architecture awslambda.Architecture

	// ToolSettings go into the environment of the process function, where
	// tools read their settings. Nil means none.
	ToolSettings []Setting

	// ProcessMemory is the process function's memory in MiB, from which its
	// share of a CPU follows. 0 means 256; give more if your tools need it.
	ProcessMemory int

	// ProcessConcurrency is how many batches of jobs run at the same time at
	// most: 2 to 1000. 0 means 50.
	ProcessConcurrency int

	// CallbackConcurrency is the same for batches of results: 2 to 1000. 0
	// means 20.
	CallbackConcurrency int

	// BatchSize is how many jobs, or results, one invocation is given at
	// most: 1 to 10. 0 means 10. They run side by side; 1 keeps a tool that
	// crashes its process from costing other jobs an attempt.
	BatchSize int

	// MaxJobsPerCall is how many jobs one call may start. 0 means no limit.
	MaxJobsPerCall int

	// MaxConcurrentJobsPerCall is how many jobs of one call may run at the
	// same time. 0 means no limit.
	MaxConcurrentJobsPerCall int

	// AckText is the placeholder that the model sees as the tool's result
	// until the real one arrives. Empty means the built-in text.
	AckText string

	// ResultText surrounds the results that are told. Empty means the
	// built-in text.
	ResultText string

	// RateLimit is how many webhooks a second are let in, averaged over
	// time. 0 means 50.
	RateLimit float64

	// BurstLimit is how many webhooks are let in at once. 0 means 100.
	BurstLimit int

	// JWT has API Gateway check an OAuth2 access token. The webhook secret
	// is then neither created nor checked. Nil means no JWT authorizer.
	JWT *JWT

	// WebhookSecret holds the webhook's credential. Nil means that one is
	// made, with a generated bearer token.
	WebhookSecret awssecretsmanager.ISecret

	// PublicKeySecret holds the public key of the Vapi organisation, a plain
	// string, for assistants with controlAuthenticationEnabled. Nil means
	// none.
	PublicKeySecret awssecretsmanager.ISecret

	// PrivateKeySecret holds the private key of the Vapi organisation, a plain
	// string, with which chats are gone on with and customers are called back.
	// Nil means none: neither is done.
	PrivateKeySecret awssecretsmanager.ISecret

	// VapiAPIURL is the address of Vapi's API, for organisations elsewhere
	// than in the United States, such as https://api.eu.vapi.ai. It needs
	// PrivateKeySecret. Empty means https://api.vapi.ai.
	VapiAPIURL string

	// CallBackHours are when customers may be called back, as HH:MM-HH:MM on
	// one day, such as 09:00-18:00. It needs PrivateKeySecret. Empty means
	// that nobody is called back.
	CallBackHours string

	// CallBackZone is the time zone of CallBackHours, by its name in the IANA
	// database, such as Europe/Berlin. Empty means UTC.
	CallBackZone string

	// CallBackAssistantID is the assistant that calls back. Empty means the
	// one of the call that the result belongs to.
	CallBackAssistantID string

	// CallBackPhoneNumberID is the id at Vapi of the number that is called
	// from. Empty means the one of the call that the result belongs to.
	CallBackPhoneNumberID string

	// CompletionSecret holds the keys of the completion tokens, as JSON:
	// {"current":"…","previous":"…"}, the latter only while they are rotated.
	// Nil means that one is made, with a generated key.
	CompletionSecret awssecretsmanager.ISecret

	// EncryptionKey encrypts queues, table, made secrets, made topics and the
	// functions' environments. Nil means keys that AWS keeps. The key must
	// be of this app, or its policy must let the services use it.
	EncryptionKey awskms.IKey

	// RemovalPolicy is what becomes of the jobs table when the stack is
	// deleted. Empty means RETAIN.
	RemovalPolicy awscdk.RemovalPolicy

	// LogRetention is how long logs are kept. Empty means a month.
	LogRetention awslogs.RetentionDays

	// EventBus takes the events of results that could not be delivered. Nil
	// means that a bus is made.
	EventBus awsevents.IEventBus

	// UndeliveredTopic is told of every such event. Nil means nobody, unless
	// UndeliveredEmail is set: then a topic is made.
	UndeliveredTopic awssns.ITopic

	// UndeliveredEmail is an address that is subscribed to the topic; the
	// mails hold the result and the customer's number. Empty means none.
	UndeliveredEmail string

	// AlarmTopic is told of every alarm, and of its end. Nil means nobody,
	// unless AlarmEmail is set: then a topic is made.
	AlarmTopic awssns.ITopic

	// AlarmEmail is an address that is subscribed to the topic. Empty means
	// none.
	AlarmEmail string

	// ControlHosts are hosts, as host or host:port, that results may be
	// posted to beside Vapi's own, over http too. For tests only. Nil means
	// none.
	ControlHosts []string

	// LocalEndpoint declares an empty AWS_ENDPOINT_URL for the functions, an
	// empty COMPLETION_KEYS for ack and process, and an empty WEBHOOK_AUTH for
	// the ack, for a local runner such as the SAM CLI, which can only set what
	// is declared. False means not, and is right for deploying.
	LocalEndpoint bool
}

// JWT names the tokens that are let in.
type JWT struct {
	// Issuer is the tokens' iss, an https URL from which API Gateway reads
	// their keys. Required.
	Issuer string
	// Audience is what the tokens' aud, or client_id, may be. At least one.
	Audience []string
}

// Setting is one variable of the process function's environment.
type Setting struct {
	// Name is the variable's. Required.
	Name string
	// Value is what it holds. It is readable in the template; leave it empty
	// and name a secret for anything that must not be.
	Value string
	// SecretARN is a secret of Secrets Manager, which CloudFormation reads
	// when it deploys: the template has the ARN alone, and a rotated secret
	// needs another deployment. Empty means that Value is used.
	SecretARN string
	// SecretField is the field of the secret's JSON. Empty means the whole
	// secret.
	SecretField string
}

// Ringback is what was made. Its fields are for the rest of your app: to let
// Process read a table of yours, write table.GrantReadData(r.Process).
type Ringback struct {
	constructs.Construct

	API              awsapigatewayv2.HttpApi
	WebhookURL       string // a token, known after deploying
	CompletionURL    string // a token; a job's own goes after it
	Ack              awslambda.Function
	Process          awslambda.Function
	Callback         awslambda.Function
	Jobs             awssqs.Queue
	JobsDLQ          awssqs.Queue
	Results          awssqs.Queue
	ResultsDLQ       awssqs.Queue
	Table            awsdynamodb.Table
	Schedules        awsscheduler.ScheduleGroup
	EventBus         awsevents.IEventBus
	WebhookSecret    awssecretsmanager.ISecret // nil with a JWT authorizer
	CompletionSecret awssecretsmanager.ISecret
	Alarms           []awscloudwatch.Alarm
	Dashboard        awscloudwatch.Dashboard
	DashboardURL     string // a token
	// UndeliveredTopic and AlarmTopic are nil where nobody is told.
	UndeliveredTopic awssns.ITopic
	AlarmTopic       awssns.ITopic

	name          string // unique in its account and region
	props         Props
	nextCall      bool          // some tool keeps results for the customer's next call
	oldestJob     time.Duration // may be in its queue before an operator is told
	oldestResult  time.Duration // the same
	limits        queue.Limits
	binaries      string
	scheduleRole  awsiam.Role
	undelivered   awsevents.Rule
	ackLogs       awslogs.LogGroup
	processLogs   awslogs.LogGroup
	callbackLogs  awslogs.LogGroup
	deliveredRate awscloudwatch.Metric
	lostRate      awscloudwatch.Metric
}

// NewRingback makes a Ringback in scope. It fails where the tools or the
// settings cannot be used, and where the functions cannot be built.
func NewRingback(scope constructs.Construct, id string, props Props) (*Ringback, error) {
	if err := props.complete(); err != nil {
		return nil, err
	}
	set, err := asynctool.NewSet(props.Tools...)
	if err != nil {
		return nil, err
	}
	r := &Ringback{
		Construct: constructs.NewConstruct(scope, jsii.String(id)),
		props:     props,
		limits:    queue.LimitsFor(set.MaxTimeout(), set.MaxAttempts()),
		nextCall: slices.ContainsFunc(set.Entries(), func(e *asynctool.Entry) bool {
			return e.AfterCall == asynctool.NextCall
		}),
		oldestJob:    oldestJob(set),
		oldestResult: oldestResult(set),
		binaries:     props.Binaries,
	}
	r.name = *awscdk.Names_UniqueResourceName(r.Construct, &awscdk.UniqueResourceNameOptions{
		MaxLength: jsii.Number(200), Separator: jsii.String("-"),
	})
	if r.binaries == "" {
		if r.binaries, err = build(r); err != nil {
			return nil, err
		}
	}
	for _, name := range functionNames {
		if _, err := os.Stat(filepath.Join(r.binaries, name, "bootstrap")); err != nil {
			return nil, fmt.Errorf("the function %s is not built: %w", name, err)
		}
	}
	r.queues()
	r.table()
	r.schedules()
	r.secrets()
	r.events()
	r.api()
	r.functions()
	r.routes()
	r.metrics()
	r.alarms()
	r.dashboard()
	return r, nil
}

// complete puts the defaults in, and says what cannot be used.
func (p *Props) complete() error {
	if p.Tools == nil {
		all, err := tools.All()
		if err != nil {
			return err
		}
		p.Tools = all
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
	if p.RateLimit == 0 {
		p.RateLimit = 50
	}
	for _, n := range []struct {
		name                   string
		value                  *int
		otherwise, least, most int
	}{
		{"ProcessMemory", &p.ProcessMemory, processMemory, 128, 10240},
		{"ProcessConcurrency", &p.ProcessConcurrency, 50, 2, 1000},
		{"CallbackConcurrency", &p.CallbackConcurrency, 20, 2, 1000},
		{"BatchSize", &p.BatchSize, 10, 1, 10},
		{"BurstLimit", &p.BurstLimit, 100, 1, 5000},
	} {
		if *n.value == 0 {
			*n.value = n.otherwise
		}
		if *n.value < n.least || *n.value > n.most {
			return fmt.Errorf("%s is %d; it must be between %d and %d", n.name, *n.value, n.least, n.most)
		}
	}
	switch {
	case p.MaxJobsPerCall < 0 || p.MaxJobsPerCall > math.MaxUint16:
		return fmt.Errorf("MaxJobsPerCall is %d; it must be between 0 and %d", p.MaxJobsPerCall, math.MaxUint16)
	case p.MaxConcurrentJobsPerCall < 0 || p.MaxConcurrentJobsPerCall > math.MaxUint16:
		return fmt.Errorf("MaxConcurrentJobsPerCall is %d; it must be between 0 and %d", p.MaxConcurrentJobsPerCall, math.MaxUint16)
	case p.RateLimit < 0:
		return fmt.Errorf("RateLimit is %g; it must not be negative", p.RateLimit)
	case p.JWT != nil && (p.JWT.Issuer == "" || len(p.JWT.Audience) == 0):
		return fmt.Errorf("a JWT authorizer needs an issuer and at least one audience")
	case p.JWT != nil && p.WebhookSecret != nil:
		return fmt.Errorf("a JWT authorizer and a webhook secret exclude each other: Vapi sends one Authorization header")
	}
	return errors.Join(p.checkOutbound(), checkSettings(p.ToolSettings))
}

// keyed calls grant with the customer's key, if there is one.
func (r *Ringback) keyed(grant func(awskms.IKey)) {
	if r.props.EncryptionKey != nil {
		grant(r.props.EncryptionKey)
	}
}
