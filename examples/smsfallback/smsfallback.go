// Package smsfallback is an example of how to handle undelivered results: it sends
// them to the caller's telephone as text messages.
//
// Copy it into your CDK app, next to the Ringback construct:
//
//	r, err := ringback.NewRingback(stack, "Ringback", ringback.Props{})
//	...
//	smsfallback.New(stack, "TextMessages", r.EventBus)
package smsfallback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// maxMessage bounds the text that is sent, in characters: about ten text messages.
// SNS accepts up to 1600 (Amazon SNS API reference, Publish).
const maxMessage = "1400"

// New returns a construct that sends a text message for each undelivered event on
// the bus. It skips events of tools that failed, results that were not meant to be
// heard, and callers without a number.
//
// A rule cannot send to a number from the event. It therefore starts a state
// machine, which can. If an event arrives twice, so does the message. To reach any
// number, move your account out of the SMS sandbox (Amazon SNS developer guide, "SMS
// sandbox").
func New(scope constructs.Construct, id string, bus awsevents.IEventBus) constructs.Construct {
	made := constructs.NewConstruct(scope, jsii.String(id))
	send := awsstepfunctions.NewCustomState(made, jsii.String("Send"), &awsstepfunctions.CustomStateProps{
		StateJson: &map[string]any{
			"Type":          "Task",
			"QueryLanguage": "JSONata",
			"Resource":      "arn:" + *awscdk.Aws_PARTITION() + ":states:::sns:publish",
			"Arguments": map[string]any{
				"PhoneNumber": "{% $states.input.detail.customerNumber %}",
				"Message":     "{% $substring($states.input.detail.content, 0, " + maxMessage + ") %}",
				"MessageAttributes": map[string]any{
					"AWS.SNS.SMS.SMSType": map[string]any{"DataType": "String", "StringValue": "Transactional"},
				},
			},
			"Retry": []any{map[string]any{
				"ErrorEquals": []any{"States.ALL"}, "IntervalSeconds": 2, "MaxAttempts": 4, "BackoffRate": 2,
			}},
		},
	})
	machine := awsstepfunctions.NewStateMachine(made, jsii.String("Machine"), &awsstepfunctions.StateMachineProps{
		DefinitionBody: awsstepfunctions.DefinitionBody_FromChainable(send),
		// Unlike a standard state machine, it stores no history of numbers and results.
		StateMachineType: awsstepfunctions.StateMachineType_EXPRESS,
		Timeout:          awscdk.Duration_Minutes(jsii.Number(1)),
	})
	// Telephone numbers have no ARN. Topics have one, and are excluded.
	machine.AddToRolePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions:      jsii.Strings("sns:Publish"),
		NotResources: jsii.Strings("arn:*:sns:*:*:*"),
	}))
	awsevents.NewRule(made, jsii.String("Rule"), &awsevents.RuleProps{
		Description: jsii.String("Sends an undelivered result to the caller as a text message."),
		EventBus:    bus,
		EventPattern: &awsevents.EventPattern{
			Source:     jsii.Strings("ringback"),
			DetailType: jsii.Strings("undelivered"),
			Detail: &map[string]any{
				"customerNumber": awsevents.Match_Prefix(jsii.String("+")),
				"content":        awsevents.Match_Exists(),
				"status":         jsii.Strings("ok"),
				"delivery":       jsii.Strings("respond", "say"),
				// Not "unclaimed": the result may have been delivered.
				"why": jsii.Strings("call_gone", "deadline", "no_control_url", "misconfigured", "refused", "unreachable"),
			},
		},
		Targets: &[]awsevents.IRuleTarget{awseventstargets.NewSfnStateMachine(machine, nil)},
	})
	return made
}
