package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/aws/dynamotable"
)

// maxArgumentRetention is as long as the record of a job stays.
const maxArgumentRetention = 30

// replayKey creates the key of the arguments that are stored for replays. Without the key, nothing
// can read them, so it goes with the stack, or when they are no longer stored.
func (r *Ringback) replayKey() {
	if r.props.ArgumentRetentionDays == 0 {
		return
	}
	r.ReplayKey = awskms.NewKey(r.Construct, jsii.String("ReplayKey"), &awskms.KeyProps{
		Description:       jsii.String("Encrypts the arguments of Ringback's jobs that are stored for replays"),
		EnableKeyRotation: jsii.Bool(true),
		RemovalPolicy:     awscdk.RemovalPolicy_DESTROY,
	})
}

// storeCopies lets the process function store arguments. It cannot read them again.
func (r *Ringback) storeCopies() {
	if r.ReplayKey == nil {
		return
	}
	allow(r.Process, *r.ReplayKey.KeyArn(), "kms:GenerateDataKey")
	r.record(r.Process, dynamotable.ReplayItems)
}
