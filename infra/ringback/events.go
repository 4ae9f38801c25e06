package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssnssubscriptions"
	"github.com/aws/aws-cdk-go/awscdk/v2/interfaces/interfacesawsevents"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/aws/eventbus"
)

// events creates the bus for undelivered events, and a rule that sends them to a
// topic. Users can add rules of their own to the bus.
func (r *Ringback) events() {
	if r.EventBus = r.props.EventBus; r.EventBus == nil {
		r.EventBus = awsevents.NewEventBus(r.Construct, jsii.String("Events"), &awsevents.EventBusProps{
			EventBusName: jsii.String(r.name), // CloudFormation does not generate a name
			Description:  jsii.String("Results that Ringback could not deliver in their calls."),
		})
	}
	r.UndeliveredTopic = r.topic("Undelivered", r.props.UndeliveredTopic, r.props.UndeliveredEmail,
		"Results that could not be delivered in their calls", "events.amazonaws.com")
	if r.UndeliveredTopic == nil {
		return
	}
	awsevents.NewRule(r.Construct, jsii.String("UndeliveredRule"), &awsevents.RuleProps{
		Description: jsii.String("A result could not be delivered in its call. The customer must get it in another way."),
		EventBus:    r.EventBus,
		EventPattern: &awsevents.EventPattern{
			Source: jsii.Strings(eventbus.Source), DetailType: jsii.Strings(eventbus.Undelivered),
		},
		Targets: &[]awsevents.IRuleTarget{&topicTarget{r.UndeliveredTopic}},
	})
	if r.props.UndeliveredTopic != nil {
		// This does nothing if the topic is not part of the app.
		r.mayPublish(r.UndeliveredTopic, "events.amazonaws.com")
	}
}

// eventBus returns the name of the bus. It is the ARN if that is given, because a bus of another account has only
// that.
func (r *Ringback) eventBus() string {
	if arn := *r.EventBus.EventBusArn(); !*awscdk.Token_IsUnresolved(arn) {
		return arn
	}
	return *r.EventBus.EventBusName()
}

// topicTarget is a topic as the target of a rule. The target of the CDK would let
// EventBridge publish on behalf of any account.
type topicTarget struct{ topic awssns.ITopic }

// Bind implements [awsevents.IRuleTarget].
func (t *topicTarget) Bind(interfacesawsevents.IRuleRef, *string) *awsevents.RuleTargetConfig {
	return &awsevents.RuleTargetConfig{Arn: t.topic.TopicArn()}
}

// publish lets a function publish undelivered events, and no other events, which rules on
// the bus could take for those of another program.
func (r *Ringback) publish(f awsiam.IGrantable) {
	allowIf(f, *r.EventBus.EventBusArn(), "ForAllValues:StringEquals",
		map[string]any{"events:source": eventbus.Source, "events:detail-type": eventbus.Undelivered}, "events:PutEvents")
}

// topic returns the given topic, or a new one that service may publish to, and
// subscribes email. It returns nil if there is neither a topic nor an address.
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
		principal := r.mayPublish(topic, service)
		r.keyed(func(key awskms.IKey) {
			key.Grant(principal, jsii.String("kms:Decrypt"), jsii.String("kms:GenerateDataKey*"))
		})
	}
	if email != "" {
		topic.AddSubscription(awssnssubscriptions.NewEmailSubscription(jsii.String(email), nil))
	}
	return topic
}

// mayPublish lets a service publish to a topic on behalf of this account. Any policy
// replaces the topic's default policy, which lets the services of the account publish.
// Both services name the source account (Amazon EventBridge user guide, "Using IAM policy
// conditions"; Amazon SNS developer guide, "Example cases for access control").
func (r *Ringback) mayPublish(topic awssns.ITopic, service string) awsiam.IPrincipal {
	principal := awsiam.NewServicePrincipal(jsii.String(service), nil)
	topic.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{principal},
		Actions:    jsii.Strings("sns:Publish"),
		Resources:  &[]*string{topic.TopicArn()},
		Conditions: &map[string]any{
			"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID()},
		},
	}))
	return principal
}
