package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/aws/dynamotable"
)

func (r *Ringback) table() {
	props := awsdynamodb.TableProps{
		PartitionKey:        &awsdynamodb.Attribute{Name: jsii.String("id"), Type: awsdynamodb.AttributeType_STRING},
		BillingMode:         awsdynamodb.BillingMode_PAY_PER_REQUEST,
		TimeToLiveAttribute: jsii.String("expires"),
		PointInTimeRecoverySpecification: &awsdynamodb.PointInTimeRecoverySpecification{
			PointInTimeRecoveryEnabled: jsii.Bool(true),
		},
		RemovalPolicy: r.props.RemovalPolicy,
	}
	r.keyed(func(key awskms.IKey) {
		props.Encryption, props.EncryptionKey = awsdynamodb.TableEncryption_CUSTOMER_MANAGED, key
	})
	r.Table = awsdynamodb.NewTable(r.Construct, jsii.String("JobsTable"), &props)
	// The jobs of a call, in the order of their creation.
	r.Table.AddGlobalSecondaryIndex(&awsdynamodb.GlobalSecondaryIndexProps{
		IndexName:    jsii.String(dynamotable.Index),
		PartitionKey: &awsdynamodb.Attribute{Name: jsii.String("call"), Type: awsdynamodb.AttributeType_STRING},
		SortKey:      &awsdynamodb.Attribute{Name: jsii.String("created"), Type: awsdynamodb.AttributeType_NUMBER},
		// Only what a job's status needs: a write of a job is paid for a second
		// time if it changes an attribute in the index.
		ProjectionType:   awsdynamodb.ProjectionType_INCLUDE,
		NonKeyAttributes: jsii.Strings("state", "tool", "progress", "wake", "updated"),
	})
	// The calls, in the order in which they became known. No function has access to it. Its attributes never change,
	// so that it costs one write for each call.
	r.Table.AddGlobalSecondaryIndex(&awsdynamodb.GlobalSecondaryIndexProps{
		IndexName:      jsii.String(dynamotable.RecentIndex),
		PartitionKey:   &awsdynamodb.Attribute{Name: jsii.String("shard"), Type: awsdynamodb.AttributeType_NUMBER},
		SortKey:        &awsdynamodb.Attribute{Name: jsii.String("first"), Type: awsdynamodb.AttributeType_STRING},
		ProjectionType: awsdynamodb.ProjectionType_KEYS_ONLY,
	})
}

// record lets a function read and write the items whose ids match the patterns. The two
// actions always have an id (Amazon DynamoDB developer guide, "Using IAM policy conditions
// for fine-grained access control"), so that "for all" is never true for want of one.
func (r *Ringback) record(f awsiam.IGrantable, items ...string) {
	// Table.Grant would include every index.
	allowIf(f, *r.Table.TableArn(), "ForAllValues:StringLike", map[string]any{"dynamodb:LeadingKeys": items},
		"dynamodb:GetItem", "dynamodb:PutItem")
	r.keyed(func(key awskms.IKey) { key.GrantEncryptDecrypt(f) })
}

// list lets a function find the jobs of a call. The index has no other items.
func (r *Ringback) list(f awsiam.IGrantable) {
	allow(f, *r.Table.TableArn()+"/index/"+dynamotable.Index, "dynamodb:Query")
}

// scan lets a function find the jobs that wait in vain.
func (r *Ringback) scan(f awsiam.IGrantable) {
	allow(f, *r.Table.TableArn()+"/index/"+dynamotable.Index, "dynamodb:Scan")
}
