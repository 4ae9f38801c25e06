package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"golang.org/x/term"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/tools"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// vapiFlags say where Vapi's API is. The private key is no flag: the arguments
// of a process can be seen by others, and stay in the shell's history.
type vapiFlags struct {
	Region string `help:"Where your organisation is at Vapi: ${enum}." enum:"us,eu" default:"us"`
	API    string `name:"api" help:"Another address of Vapi's API, such as a stand-in's." env:"VAPI_API_URL" placeholder:"URL"`
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
	return vapiclient.NewAPI(vapiclient.APIConfig{Key: key, URL: address})
}

// privateKey reads the key from the environment, or asks for it without
// showing it.
func privateKey(ctx context.Context, in *os.File, errOut io.Writer) (string, error) {
	if key := strings.TrimSpace(os.Getenv("VAPI_API_KEY")); key != "" {
		return key, nil
	}
	terminal := int(in.Fd())
	state, err := term.GetState(terminal)
	if err != nil { // no terminal
		return "", errors.New("the private key of your organisation at Vapi is needed: set VAPI_API_KEY to it, or run this in a terminal, which asks for it")
	}
	fmt.Fprint(errOut, "Vapi's private key (not shown): ")
	defer fmt.Fprintln(errOut)
	type entered struct {
		key []byte
		err error
	}
	done := make(chan entered, 1)
	go func() {
		key, err := term.ReadPassword(terminal)
		done <- entered{key, err}
	}()
	select {
	case e := <-done:
		if e.err != nil {
			return "", fmt.Errorf("the private key cannot be read: %w", e.err)
		}
		return strings.TrimSpace(string(e.key)), nil
	case <-ctx.Done():
		// The terminal must not stay silent.
		_ = term.Restore(terminal, state)
		return "", errors.New("interrupted")
	}
}

// deploymentFlags say which deployment is meant.
type deploymentFlags struct {
	URL   string `help:"The webhook's URL." placeholder:"URL" xor:"deployment"`
	Stack string `help:"The CloudFormation stack, whose outputs give the URL and the credential. AWS_PROFILE and AWS_REGION say where." placeholder:"NAME" xor:"deployment"`
	Auth  string `help:"The deployment's webhook credential, where there is no --stack: JSON, as in WEBHOOK_AUTH." env:"WEBHOOK_AUTH" placeholder:"JSON"`
}

// deployment is what the flags mean. Plans are nil where none are known.
type deployment struct {
	url   string
	plans []vapiauth.Plan
	stack *stack.Stack // nil without --stack
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
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return deployment{}, fmt.Errorf("the AWS configuration cannot be read: %w", err)
	}
	d := deployment{stack: stack.New(cfg, f.Stack)}
	d.url, d.plans, err = d.stack.Webhook(ctx)
	return d, err
}

// allTools are the tools of this checkout.
func allTools() (*asynctool.Set, error) {
	definitions, err := tools.All()
	if err != nil {
		return nil, err
	}
	return asynctool.NewSet(definitions...)
}
