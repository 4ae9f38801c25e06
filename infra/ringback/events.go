package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssnssubscriptions"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/aws/eventbus"
)

// events makes the bus that undelivered results are announced on, and tells a
// topic of them. Further rules are the user's, on the same bus.
func (r *Ringback) events() {
	if r.EventBus = r.props.EventBus; r.EventBus == nil {
		r.EventBus = awsevents.NewEventBus(r.Construct, jsii.String("Events"), &awsevents.EventBusProps{
			EventBusName: jsii.String(r.name), // CloudFormation makes none by itself
			Description:  jsii.String("Results that Ringback could not deliver into their calls."),
		})
	}
	r.UndeliveredTopic = r.topic("Undelivered", r.props.UndeliveredTopic, r.props.UndeliveredEmail,
		"Results that could not be told in their calls", "events.amazonaws.com")
	if r.UndeliveredTopic == nil {
		return
	}
	r.undelivered = awsevents.NewRule(r.Construct, jsii.String("UndeliveredRule"), &awsevents.RuleProps{
		Description:  jsii.String("A result could not be told in its call, so it must be told in another way."),
		EventBus:     r.EventBus,
		EventPattern: &awsevents.EventPattern{Source: jsii.Strings(eventbus.Source), DetailType: jsii.Strings(eventbus.Undelivered)},
		Targets:      &[]awsevents.IRuleTarget{awseventstargets.NewSnsTopic(r.UndeliveredTopic, nil)},
	})
}

// topic gives the topic that is told, which service may publish to, or nil
// where nobody is told.
func (r *Ringback) topic(id string, given awssns.ITopic, email, displayName, service string) awssns.ITopic {
	if given == nil && email == "" {
		return nil
	}
	topic := given
	if topic == nil {
		topic = awssns.NewTopic(r.Construct, jsii.String(id+"Topic"), &awssns.TopicProps{
			DisplayName: jsii.String(displayName),
			EnforceSSL:  jsii.Bool(true),
			MasterKey:   r.props.EncryptionKey,
		})
		// A policy replaces the one that a topic has by itself and that
		// lets the services of its account publish.
		principal := awsiam.NewServicePrincipal(jsii.String(service), nil)
		topic.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Principals: &[]awsiam.IPrincipal{principal},
			Actions:    jsii.Strings("sns:Publish"),
			Resources:  &[]*string{topic.TopicArn()},
			Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID()}},
		}))
		r.keyed(func(key awskms.IKey) {
			key.Grant(principal, jsii.String("kms:Decrypt"), jsii.String("kms:GenerateDataKey*"))
		})
	}
	if email != "" {
		topic.AddSubscription(awssnssubscriptions.NewEmailSubscription(jsii.String(email), nil))
	}
	return topic
}
