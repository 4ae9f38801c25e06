package ringback

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/deployment"
)

// secrets makes the key of the completion tokens, unless one is given, and the
// webhook's credential, unless one is given or API Gateway checks tokens
// instead.
func (r *Ringback) secrets() {
	if r.CompletionSecret = r.props.CompletionSecret; r.CompletionSecret == nil {
		r.CompletionSecret = awssecretsmanager.NewSecret(r.Construct, jsii.String("CompletionSecret"), &awssecretsmanager.SecretProps{
			Description:   jsii.String("Signs the tokens by which somebody outside completes a job of Ringback. To rotate it, keep the old key as \"previous\" until the jobs that wait are done."),
			EncryptionKey: r.props.EncryptionKey,
			GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
				SecretStringTemplate: jsii.String(`{}`),
				GenerateStringKey:    jsii.String("current"),
				ExcludePunctuation:   jsii.Bool(true),
				PasswordLength:       jsii.Number(48),
			},
		})
	}
	if r.props.JWT != nil {
		return
	}
	if r.WebhookSecret = r.props.WebhookSecret; r.WebhookSecret != nil {
		return
	}
	r.WebhookSecret = awssecretsmanager.NewSecret(r.Construct, jsii.String("WebhookSecret"), &awssecretsmanager.SecretProps{
		Description:   jsii.String("The credential of the webhooks that Vapi sends to Ringback. Put the token into a bearer credential at Vapi."),
		EncryptionKey: r.props.EncryptionKey,
		GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
			SecretStringTemplate: jsii.String(`{"type":"bearer"}`),
			GenerateStringKey:    jsii.String("token"),
			ExcludePunctuation:   jsii.Bool(true),
			PasswordLength:       jsii.Number(48),
		},
	})
}

// read lets a function read a secret.
func read(f awsiam.IGrantable, s awssecretsmanager.ISecret) {
	arn := s.SecretFullArn()
	if arn == nil {
		// An ARN without its six random characters.
		arn = jsii.String(*s.SecretArn() + "-??????")
	}
	awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee:      f,
		Actions:      jsii.Strings("secretsmanager:GetSecretValue"),
		ResourceArns: &[]*string{arn},
	})
	if key := s.EncryptionKey(); key != nil {
		key.GrantDecrypt(f)
	}
}

var (
	// variableName is what Lambda takes (AWS Lambda API reference,
	// Environment).
	variableName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]+$`)
	// secretARN is checked here, as CloudFormation only says that it cannot
	// find what a misspelt one names.
	secretARN = regexp.MustCompile(`^arn:[^:]+:secretsmanager:[^:]+:[^:]+:secret:.+$`)
)

// checkSettings says which tool settings cannot be used.
func checkSettings(settings []Setting) error {
	var errs []error
	own := deployment.VariableNames(deployment.Process{})
	seen := map[string]bool{}
	for _, s := range settings {
		switch {
		case !variableName.MatchString(s.Name):
			errs = append(errs, fmt.Errorf("the tool setting %q is no variable's name: two or more letters, digits and _, and a letter first", s.Name))
		case strings.HasPrefix(s.Name, "AWS_") || strings.HasPrefix(s.Name, "LAMBDA_"):
			errs = append(errs, fmt.Errorf("the tool setting %s has a name that is Lambda's", s.Name))
		case slices.Contains(own, s.Name):
			errs = append(errs, fmt.Errorf("the tool setting %s has a name that is Ringback's", s.Name))
		case seen[s.Name]:
			errs = append(errs, fmt.Errorf("the tool setting %s is there twice", s.Name))
		case s.Value != "" && s.SecretARN != "":
			errs = append(errs, fmt.Errorf("the tool setting %s has both a value and a secret", s.Name))
		case s.SecretARN != "" && !secretARN.MatchString(s.SecretARN):
			errs = append(errs, fmt.Errorf("the tool setting %s names no secret of Secrets Manager: give its ARN", s.Name))
		case s.SecretARN == "" && s.SecretField != "":
			errs = append(errs, fmt.Errorf("the tool setting %s names a secret's field, and no secret", s.Name))
		}
		seen[s.Name] = true
	}
	return errors.Join(errs...)
}

func (s Setting) value() *string {
	if s.SecretARN == "" {
		return jsii.String(s.Value)
	}
	options := &awscdk.SecretsManagerSecretOptions{}
	if s.SecretField != "" {
		options.JsonField = jsii.String(s.SecretField)
	}
	return awscdk.SecretValue_SecretsManager(jsii.String(s.SecretARN), options).UnsafeUnwrap()
}
