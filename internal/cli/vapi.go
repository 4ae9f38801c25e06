package cli

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go/logging"
	"golang.org/x/term"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// vapiFlags select Vapi's API. The private key is not a flag, because other users can
// see the arguments of a process, and the shell stores them in its history.
type vapiFlags struct {
	Region string `help:"The region of your organisation at Vapi: ${enum}." enum:"us,eu" default:"us"`
	API    string `help:"Use this address of Vapi's API, such as a simulator's." env:"VAPI_API_URL" placeholder:"URL"`
}

func (f *vapiFlags) client(ctx context.Context, errOut io.Writer) (*vapiclient.API, error) {
	key, err := privateKey(ctx, os.Stdin, errOut)
	if err != nil {
		return nil, err
	}
	address := f.API
	if address == "" && f.Region == "eu" {
		address = vapiclient.APIURLEU
	}
	return vapiclient.NewAPI(vapiclient.APIConfig{Key: key, URL: address, Sleep: sleep})
}

// sleep waits between requests to Vapi's API, and between the steps of a rotation. Nil
// means real time. Tests replace it.
var sleep func(context.Context, time.Duration) error

// privateKey reads the key from the environment. On a terminal, it asks for the key
// without echo if the environment has none.
func privateKey(ctx context.Context, in *os.File, errOut io.Writer) (string, error) {
	if key := strings.TrimSpace(os.Getenv("VAPI_API_KEY")); key != "" {
		return key, nil
	}
	if !term.IsTerminal(int(in.Fd())) {
		return "", errors.New("there is no private key for Vapi's API: " +
			"set VAPI_API_KEY to your organisation's key, or run this on a terminal, which asks for the key")
	}
	return askSecret(ctx, in, errOut, "Vapi's private key")
}

// awsConfig loads the AWS configuration. The SDK logs nothing: its warnings are for developers, and an error says what
// a user must know.
func awsConfig(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return cfg, fmt.Errorf("cannot load the AWS configuration: %w", err)
	}
	return cfg, nil
}

// secretsConfig returns the configuration for Ringback's own client of Secrets Manager, which reads no settings of its
// endpoint: profiles, AWS_ENDPOINT_URL_SECRETS_MANAGER, FIPS and dual stack. The SDK's client does.
func secretsConfig(ctx context.Context, cfg aws.Config) (aws.Config, error) {
	o := secretsmanager.NewFromConfig(cfg).Options()
	at, err := o.EndpointResolverV2.ResolveEndpoint(ctx, secretsmanager.EndpointParameters{
		Region: &o.Region, Endpoint: o.BaseEndpoint,
		UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
		UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
	})
	if err != nil {
		return cfg, fmt.Errorf("cannot find the endpoint of Secrets Manager: %w", err)
	}
	cfg = cfg.Copy()
	cfg.BaseEndpoint = aws.String(at.URI.String())
	return cfg, nil
}

// deploymentFlags select a deployment.
type deploymentFlags struct {
	URL         string `help:"The URL of the webhook." placeholder:"URL" xor:"deployment"`
	Stack       string `help:"Read the URL and the credential from this stack. ${account}" placeholder:"NAME" xor:"deployment"`
	ArgumentKey string `help:"The file with the public key of encrypted arguments, if there is no --stack." placeholder:"FILE" type:"path"`

	Auth string `help:"The webhook credential, if there is no --stack." env:"WEBHOOK_AUTH" placeholder:"JSON"`
}

// deployment is a deployment that the flags selected.
type deployment struct {
	url   string
	plans []vapiauth.Plan // nil if unknown
	stack *stack.Stack    // nil without --stack

	secret wiring.Secret // of the stack; nil if there is none
	stored wiring.Stored // what was read of secret

	// missing are the settings that the stack's tools lack. It is nil if that is unknown.
	missing []string

	listen bool // a listener runs the tools
}

// lacking returns the settings that tools lack in the deployment, by tool, or nil if that is unknown.
func (d *deployment) lacking(tools *asynctool.Set) map[string][]string {
	if d.missing == nil {
		return nil
	}
	return tools.Missing(func(name string) string {
		if slices.Contains(d.missing, name) {
			return ""
		}
		return "set"
	})
}

// assistantIDs are the ids of assistants at Vapi. An empty one is an error, such as that of a variable that is not
// set.
type assistantIDs []string

// Decode implements kong's MapperValue.
func (a *assistantIDs) Decode(c *kong.DecodeContext) error {
	var text string
	if err := c.Scan.PopValueInto("id", &text); err != nil {
		return err
	}
	for id := range strings.SplitSeq(text, ",") {
		if id = strings.TrimSpace(id); id == "" {
			return errors.New("it is empty; use the id of an assistant, which Vapi's dashboard shows")
		}
		*a = append(*a, id)
	}
	return nil
}

func (f *deploymentFlags) read(ctx context.Context, p *progress) (deployment, error) {
	if f.Stack == "" {
		d := deployment{url: f.URL}
		var err error
		if f.Auth != "" {
			if d.plans, err = vapiauth.ParsePlans([]byte(f.Auth)); err != nil {
				err = fmt.Errorf("--auth: %w", err)
			}
		}
		return d, err
	}
	p.set("reading the stack " + f.Stack)
	cfg, err := awsConfig(ctx)
	if err != nil {
		return deployment{}, err
	}
	d := deployment{stack: stack.New(cfg, f.Stack)}
	if d.missing, err = d.stack.MissingSettings(ctx); err != nil {
		return d, err
	}
	if _, d.listen, err = d.stack.Listen(ctx); err != nil {
		return d, err
	}
	var secret *stack.Secret
	if d.url, secret, err = d.stack.Webhook(ctx); err != nil || secret == nil {
		return d, err
	}
	d.secret = secret
	d.stored, err = secret.Read(ctx)
	d.plans = d.stored.Plans
	return d, err
}

// argumentKey returns the public key of the arguments that Vapi encrypts, in PEM. It returns
// an empty string if no tool has such arguments, or if the key is unknown.
func (f *deploymentFlags) argumentKey(ctx context.Context, at deployment, set *asynctool.Set) (string, error) {
	switch {
	case len(set.Encrypted()) == 0:
		return "", nil
	case f.ArgumentKey != "":
		key, err := readArgumentKey(f.ArgumentKey)
		if err != nil {
			return "", err
		}
		return encryption.FormatPublicKey(key)
	case at.stack != nil:
		return at.stack.ArgumentKey(ctx)
	}
	return "", nil
}

// readArgumentKey reads the public key of --argument-key.
func readArgumentKey(file string) (*rsa.PublicKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--argument-key: %w", err)
	}
	key, err := encryption.ParsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("--argument-key: %w", err)
	}
	return key, nil
}
