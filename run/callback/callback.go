// Package callback is the Lambda function that delivers results. It posts them to the control URLs of
// their calls.
//
//	func main() { callback.Run() }
package callback

import (
	_ "time/tzdata" // the image of a function may have no time zones

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/eventbus"
	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/callback/hours"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/internal/tracing/otlp"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Run runs the function. It does not return. The construct of infra/ringback sets its environment.
func Run() { function.Start(build) }

func build() (f otlp.Flushed, err error) {
	e, err := env.ParseAs[deployment.Callback]()
	if err == nil {
		err = e.Check()
	}
	if err != nil {
		return f, err
	}
	aws, err := function.Load()
	if err != nil {
		return f, err
	}
	// A connection takes longer than all that follows. Each event needs only this one, since the hosts of control URLs
	// are not known yet. On Lambda, a function has more CPU at its start than in its calls.
	defer function.Connecting(aws.ConnectDynamoDB)() // waits for it at the end
	text, err := spoken.ParseText(e.ResultText)
	if err != nil {
		return f, err
	}
	secrets := secretsmanager.New(aws.SecretsManager())
	stored := func(id string) secret.Source { return secrets.Secret(id) }
	control := vapiclient.ControlConfig{Hosts: e.ControlHosts}
	if e.PublicKeySecretID != "" {
		control.PublicKey = secrets.Secret(e.PublicKeySecretID).Get
	}
	client, err := vapiclient.NewControlClient(control)
	if err != nil {
		return f, err
	}
	var keys jobtable.CustomerKeys
	if e.Completion != (deployment.CompletionSecret{}) {
		source, err := e.Completion.Source(stored)
		if err != nil {
			return f, err
		}
		keys = completion.NewKeys(source, nil).Customers
	}
	store := dynamotable.New(dynamodb.NewFromConfig(aws.DynamoDB()), e.JobsTable)
	if f.Spans, err = otlp.ForLambda(e.Tracing, stored); err != nil {
		return f, err
	}
	cfg := callback.Config{
		Table:         jobtable.New(store),
		ControlClient: client,
		Results:       sqsqueue.New(sqs.NewFromConfig(aws.SQS()), e.ResultsQueueURL),
		Events:        eventbus.New(eventbridge.NewFromConfig(aws.EventBridge()), e.EventBusName),
		CallTracker:   jobtable.NewCallTracker(store.Calls()),
		Customers:     jobtable.NewCustomers(store.Customers(), keys),
		Text:          &text,
		Tracer:        f.Spans.Tracer(),

		AnyControlPath: bool(e.ControlAnyPath),
	}
	if e.PrivateKeySecretID == "" {
		f.Handler, err = callback.New(cfg)
		return f, err
	}
	outbound, err := vapiclient.NewOutbound(vapiclient.OutboundConfig{
		Key: secrets.Secret(e.PrivateKeySecretID).Get, URL: e.APIURL, AllowLoopback: len(e.ControlHosts) > 0,
	})
	if err != nil {
		return f, err
	}
	cfg.ChatClient, cfg.CallLookup = outbound, outbound
	if e.CallBackHours != "" {
		h, err := hours.Parse(e.CallBackHours, e.CallBackZone)
		if err != nil {
			return f, err
		}
		cfg.OutboundCalls = &callback.OutboundCalls{
			Client: outbound, Next: h.Next, AssistantID: e.CallBackAssistantID, PhoneNumberID: e.CallBackPhoneNumberID,
			Prefixes: e.CallBackPrefixes, PerDay: int(e.CallBackPerDay),
		}
	}
	f.Handler, err = callback.New(cfg)
	return f, err
}
