package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"
)

// argumentKey creates the key of the arguments that Vapi encrypts, if a tool has such
// arguments and no key is given. The example in Vapi's documentation has this size.
func (r *Ringback) argumentKey() {
	r.ArgumentKey = r.props.ArgumentKey
	if r.ArgumentKey != nil || len(r.tools.Encrypted()) == 0 {
		return
	}
	r.ArgumentKey = awskms.NewKey(r.Construct, jsii.String("ArgumentKey"), &awskms.KeyProps{
		Description:   jsii.String("Decrypts the arguments of Ringback's tools that Vapi encrypts"),
		KeySpec:       awskms.KeySpec_RSA_2048,
		KeyUsage:      awskms.KeyUsage_ENCRYPT_DECRYPT,
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
	})
}

// decrypt lets only the process function decrypt arguments, unless a listener runs the tools. Other principals of the
// account may have kms:Decrypt on every key.
func (r *Ringback) decrypt() {
	if r.ArgumentKey == nil {
		return
	}
	r.Process.AddToRolePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions:   jsii.Strings("kms:Decrypt"),
		Resources: &[]*string{r.ArgumentKey.KeyArn()},
		Conditions: &map[string]any{
			"StringEquals": map[string]string{"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_256"},
		},
	}))
	if r.props.Listen {
		return // the developers who listen decrypt with their own permissions
	}
	// ReEncrypt would decrypt for another key, which the caller may use. This does nothing for a key that
	// is imported.
	r.ArgumentKey.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid:        jsii.String("OnlyProcessDecrypts"),
		Effect:     awsiam.Effect_DENY,
		Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()},
		Actions:    jsii.Strings("kms:Decrypt", "kms:ReEncryptFrom"),
		Resources:  jsii.Strings("*"),
		Conditions: &map[string]any{
			"ArnNotEquals": map[string]any{"aws:PrincipalArn": r.Process.Role().RoleArn()},
		},
	}), nil)
}
