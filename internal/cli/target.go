package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// maxCredential limits a credential that is read from the input, in bytes.
const maxCredential = 64 << 10

// targetFlags select the webhook that a command posts to, and the credential that it sends.
type targetFlags struct {
	URL    string `help:"Post the webhook to this URL. Default: http://127.0.0.1:${port}/vapi." placeholder:"URL" xor:"deployment"`
	Stack  string `help:"Read the URL and the credential from this stack. ${account}" placeholder:"NAME" xor:"deployment"`
	Secret string `help:"Send this secret in X-Vapi-Secret." env:"RINGBACK_SECRET" xor:"auth"`
	Bearer string `help:"Send this bearer token." env:"RINGBACK_BEARER" xor:"auth"`
	HMAC   string `help:"Sign timestamp and body with this secret (HMAC-SHA-256)." env:"RINGBACK_HMAC" xor:"auth"`
	Auth   string `help:"Sign with this credential. Default: $$WEBHOOK_AUTH." placeholder:"JSON" xor:"auth"`

	Org string `help:"Send the webhook for this organisation at Vapi. Default with --stack: one that the stack is bound to." placeholder:"ID"`

	stack         *stack.Stack // nil without --stack
	organisations []string     // at Vapi, one of which the webhook must belong to; nil means any
	plans         []vapiauth.Plan
}

// read reads the credential, and with --stack also the URL. It returns an error if the credential must not
// be sent to the URL.
func (f *targetFlags) read(ctx context.Context, in *os.File, errOut io.Writer) error {
	if f.Org != "" {
		f.organisations = []string{f.Org}
	}
	if f.Stack == "" {
		if f.URL == "" {
			f.URL = "http://127.0.0.1:" + defaultPort + "/vapi"
		}
		if err := checkTarget(f.URL); err != nil {
			return err
		}
	}
	if err := f.readCredential(ctx, in, errOut); err != nil || f.Stack == "" {
		return err
	}
	p := startProgress(errOut)
	defer p.stop()
	at, err := (&deploymentFlags{Stack: f.Stack}).read(ctx, p)
	if err != nil {
		return err
	}
	f.stack, f.URL, f.plans = at.stack, at.url, at.plans
	if f.Org == "" {
		f.organisations = at.stored.Organisations
	}
	if at.secret == nil && f.Secret+f.Bearer+f.HMAC+f.Auth == "" {
		return fmt.Errorf("the stack %s has no credential, because API Gateway verifies OAuth2 tokens: use --bearer with "+
			"a token of the issuer", f.Stack)
	}
	if checkTarget(f.URL) != nil {
		return fmt.Errorf("the webhook of the stack %s has no URL with https://, and the credential is sent to it", f.Stack)
	}
	return nil
}

// checkTarget returns an error if the credential must not be sent to a URL.
func checkTarget(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil ||
		u.Scheme != "https" && (u.Scheme != "http" || !guard.IsLoopback(u.Hostname())) {
		return errors.New("--url must begin with https://, because the credential is sent to it, and have no user " +
			"information; http:// is for this machine only")
	}
	return nil
}

// readCredential replaces a credential that is given as -, and reads the default one.
func (f *targetFlags) readCredential(ctx context.Context, in *os.File, errOut io.Writer) error {
	if f.Secret+f.Bearer+f.HMAC+f.Auth+f.Stack == "" {
		f.Auth = os.Getenv("WEBHOOK_AUTH")
	}
	for _, credential := range []*string{&f.Secret, &f.Bearer, &f.HMAC, &f.Auth} {
		if *credential != "-" {
			continue
		}
		text, err := askSecret(ctx, in, errOut, "The webhook's credential")
		if errors.Is(err, errNoTerminal) {
			text, err = untilInterrupted(ctx, func() (string, error) {
				text, err := io.ReadAll(io.LimitReader(in, maxCredential))
				return strings.TrimSpace(string(text)), err
			})
		}
		if err != nil {
			return err
		}
		if *credential = text; text == "" {
			return errors.New("the credential is empty")
		}
	}
	return nil
}

// sign adds the credential to a request with a body.
func (f *targetFlags) sign(request *http.Request, body []byte) error {
	plans := []vapiauth.Plan{{Type: "none"}}
	switch {
	case f.Secret != "":
		plans = []vapiauth.Plan{{Type: "secret", Secret: f.Secret}}
	case f.Bearer != "":
		plans = []vapiauth.Plan{{Type: "bearer", Token: f.Bearer}}
	case f.HMAC != "":
		plans = []vapiauth.Plan{{Type: "hmac", SecretKey: f.HMAC, Algorithm: "sha256"}}
	case f.Auth != "":
		var err error
		if plans, err = vapiauth.ParsePlans([]byte(f.Auth)); err != nil {
			return fmt.Errorf("--auth: %w", err)
		}
	case f.plans != nil:
		plans = f.plans
	case request.URL.Scheme == "http":
		token, err := guard.Token(request.URL.Host)
		if err != nil {
			return err
		}
		if token != "" {
			plans = []vapiauth.Plan{{Type: "bearer", Token: token}}
		}
	}
	// While a credential is rotated there are two, the newest first. Both are valid.
	signed := &vapiauth.Request{Method: request.Method, URL: f.URL, Header: request.Header, Body: body}
	return plans[0].Sign(signed, time.Now())
}
