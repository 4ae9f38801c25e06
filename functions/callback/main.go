// Command callback is the Lambda function that delivers results. It posts them to the control URLs
// of their calls.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	awssecretsmanager "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/eventbus"
	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/callback"
	"github.com/ringback/ringback/internal/callback/hours"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi/vapiclient"
)

func main() { function.Start(build) }

func build() (*callback.Handler, error) {
	e, err := env.ParseAs[deployment.Callback]()
	if err != nil {
		return nil, err
	}
	aws, err := function.Load()
	if err != nil {
		return nil, err
	}
	text, err := spoken.ParseText(e.ResultText)
	if err != nil {
		return nil, err
	}
	control := vapiclient.ControlConfig{Hosts: e.ControlHosts}
	if e.PublicKeySecretID != "" {
		control.PublicKey = secretsmanager.New(awssecretsmanager.NewFromConfig(aws.SecretsManager()), e.PublicKeySecretID).Get
	}
	client, err := vapiclient.NewControlClient(control)
	if err != nil {
		return nil, err
	}
	store := dynamotable.New(dynamodb.NewFromConfig(aws.DynamoDB()), e.JobsTable)
	cfg := callback.Config{
		Table:         jobtable.New(store),
		ControlClient: client,
		Results:       sqsqueue.New(sqs.NewFromConfig(aws.SQS()), e.ResultsQueueURL),
		Events:        eventbus.New(eventbridge.NewFromConfig(aws.EventBridge()), e.EventBusName),
		CallTracker:   jobtable.NewCallTracker(store.Calls()),
		Customers:     jobtable.NewCustomers(store.Customers()),
		Text:          &text,
	}
	if err := outbound(aws, e, &cfg); err != nil {
		return nil, err
	}
	return callback.New(cfg)
}

// outbound sets up what needs the private key.
func outbound(aws *function.AWS, e deployment.Callback, cfg *callback.Config) error {
	if e.PrivateKeySecretID == "" {
		if e.CallBackHours != "" {
			return errors.New("CALL_BACK_HOURS is set, but VAPI_PRIVATE_KEY_SECRET_ID is not; " +
				"set it, because outbound calls need the private key")
		}
		return nil
	}
	key := secretsmanager.New(awssecretsmanager.NewFromConfig(aws.SecretsManager()), e.PrivateKeySecretID)
	outbound, err := vapiclient.NewOutbound(vapiclient.OutboundConfig{
		Key: key.Get, URL: e.APIURL, AllowLoopback: len(e.ControlHosts) > 0,
	})
	if err != nil {
		return err
	}
	cfg.ChatClient = outbound
	if e.CallBackHours == "" {
		return nil
	}
	h, err := hours.Parse(e.CallBackHours, e.CallBackZone)
	if err != nil {
		return err
	}
	cfg.OutboundCalls = &callback.OutboundCalls{
		Client: outbound, Next: h.Next, AssistantID: e.CallBackAssistantID, PhoneNumberID: e.CallBackPhoneNumberID,
	}
	return nil
}
