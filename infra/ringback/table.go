package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"
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
}

// record lets a function read and write the jobs' records.
func (r *Ringback) record(f awsiam.IGrantable) {
	r.Table.Grant(f, jsii.String("dynamodb:GetItem"), jsii.String("dynamodb:PutItem"))
	r.keyed(func(key awskms.IKey) { key.GrantEncryptDecrypt(f) })
}
