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
	"github.com/ringback/ringback/vapi/vapiauth"
)

// secrets creates the completion secret unless one is given. It creates the webhook
// secret unless one is given, or API Gateway verifies tokens instead.
func (r *Ringback) secrets() {
	if r.CompletionSecret = r.props.CompletionSecret; r.CompletionSecret == nil {
		r.CompletionSecret = r.secret("CompletionSecret", `{}`, "current",
			"Signs the tokens with which external systems complete Ringback's jobs. "+
				"To rotate it, keep the old key as \"previous\" until the jobs that were suspended before are done.")
	}
	r.WebhookSecret = r.props.WebhookSecret // nil with a JWT authorizer
	if r.WebhookSecret == nil && r.props.JWT == nil {
		r.WebhookSecret = r.secret("WebhookSecret", `{"type":"bearer"}`, "token",
			"The credential of the webhooks that Vapi sends to Ringback. "+
				"Put the token into a bearer credential at Vapi.")
	}
}

// checkWebhookSecret returns an error if the webhook credential is too short. Only a secret
// that the app itself defines shows its content. ringback sync checks any other.
func (p *Props) checkWebhookSecret() error {
	if p.WebhookSecret == nil {
		return nil
	}
	defined, ok := p.WebhookSecret.Node().DefaultChild().(awssecretsmanager.CfnSecret)
	if !ok {
		return nil // it is imported
	}
	stack := awscdk.Stack_Of(p.WebhookSecret)
	if how := defined.GenerateSecretString(); how != nil {
		generated, _ := stack.Resolve(how).(map[string]any)
		// Secrets Manager generates 32 characters by default.
		if length, ok := generated["passwordLength"].(float64); ok && length < vapiauth.MinSecretLength {
			return fmt.Errorf("the webhook secret has %g generated characters; it needs at least %d", length,
				vapiauth.MinSecretLength)
		}
		return nil
	}
	if defined.SecretString() == nil {
		return nil
	}
	text, ok := stack.Resolve(defined.SecretString()).(string)
	if !ok {
		return nil // a parameter
	}
	plans, err := vapiauth.ParsePlans([]byte(text))
	for _, plan := range plans {
		err = errors.Join(err, plan.CheckLength())
	}
	return err
}

// secret creates a secret: the JSON in template, and a generated value as field.
// CloudFormation generates another value if one of these changes, which would lock
// every client out.
func (r *Ringback) secret(id, template, field, description string) awssecretsmanager.Secret {
	return awssecretsmanager.NewSecret(r.Construct, jsii.String(id), &awssecretsmanager.SecretProps{
		Description:   jsii.String(description),
		EncryptionKey: r.props.EncryptionKey,
		GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
			SecretStringTemplate: jsii.String(template),
			GenerateStringKey:    jsii.String(field),
			ExcludePunctuation:   jsii.Bool(true),
			PasswordLength:       jsii.Number(48),
		},
	})
}

// read lets a function read a secret. It does nothing if the secret is nil.
func read(f awsiam.IGrantable, s awssecretsmanager.ISecret) {
	if s == nil {
		return
	}
	arn := s.SecretFullArn()
	if arn == nil {
		// An ARN without its six random characters.
		arn = jsii.String(*s.SecretArn() + "-??????")
	}
	allow(f, *arn, "secretsmanager:GetSecretValue")
	if key := s.EncryptionKey(); key != nil {
		key.GrantDecrypt(f)
	}
}

var (
	// variableName matches the names that Lambda accepts (AWS Lambda API
	// reference, Environment).
	variableName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]+$`)
	// secretARN is checked here because CloudFormation reports only that it
	// cannot find a misspelt ARN.
	secretARN = regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^:]+$`)
)

// checkToolSettings checks the variables of the tools.
func (p *Props) checkToolSettings() error {
	var errs []error
	own := deployment.VariableNames(deployment.Process{})
	seen := map[string]bool{}
	for _, s := range p.ToolSettings {
		problem := ""
		switch {
		case !variableName.MatchString(s.Name):
			problem = "is not the name of a variable; use two or more letters, digits and _, a letter first"
		case strings.HasPrefix(s.Name, "AWS_") || strings.HasPrefix(s.Name, "LAMBDA_"):
			problem = "is a variable of Lambda; choose another name"
		case slices.Contains(own, s.Name):
			problem = "is a variable of Ringback; choose another name"
		case seen[s.Name]:
			problem = "is set twice; remove one of them"
		case s.Value != "" && s.SecretARN != "":
			problem = "has both a value and a secret; remove one of them"
		case s.SecretARN != "" && !secretARN.MatchString(s.SecretARN) && !*awscdk.Token_IsUnresolved(s.SecretARN):
			problem = fmt.Sprintf("names the secret %q; it must be the ARN of a secret in Secrets Manager, such as %s",
				s.SecretARN, secretKind.example)
		case s.SecretARN == "" && s.SecretField != "":
			problem = "names the field of a secret, and no secret"
		case strings.ContainsAny(s.SecretField, ":{} \n"):
			problem = fmt.Sprintf("names the field %q of a secret; CloudFormation reads no field whose name has a colon, "+
				"a brace or a space", s.SecretField)
		}
		if problem != "" {
			errs = append(errs, fmt.Errorf("%s %s", p.writtenSetting(s.Name), problem))
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
