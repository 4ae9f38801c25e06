package cli

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// maxCredential limits a credential that is read from the input, in bytes.
const maxCredential = 64 << 10

// targetFlags select the webhook that a command posts to, and the credential that it sends.
type targetFlags struct {
	URL    string `help:"Post the webhook to this URL. Default: the local run, on port $$PORT or ${port}." placeholder:"URL" xor:"deployment"`
	Stack  string `help:"Read the URL and the credential from this stack. ${account}" placeholder:"NAME" xor:"deployment"`
	Secret string `help:"Send this secret in X-Vapi-Secret." env:"RINGBACK_SECRET" xor:"auth"`
	Bearer string `help:"Send this bearer token." env:"RINGBACK_BEARER" xor:"auth"`
	HMAC   string `help:"Sign timestamp and body with this secret (HMAC-SHA-256)." env:"RINGBACK_HMAC" xor:"auth"`
	Auth   string `help:"Sign with this credential. Default: $$WEBHOOK_AUTH." placeholder:"JSON" xor:"auth"`

	ArgumentKey string `help:"Encrypt the tools' encrypted arguments with the public key in this file. Default: that of the stack or the local run." placeholder:"FILE" type:"path"`

	Org string `help:"Send the webhook for this organisation at Vapi. Default with --stack: one that the stack is bound to." placeholder:"ID"`

	given         bool         // the command line or the input has the credential
	stack         *stack.Stack // nil without --stack
	organisations []string     // at Vapi, one of which the webhook must belong to; nil means any
	plans         []vapiauth.Plan
}

// AfterApply implements a hook of kong.
func (f *targetFlags) AfterApply(line *kong.Context) error {
	f.given = isGiven(line, "secret", "bearer", "hmac", "auth")
	return nil
}

// isGiven reports whether the command line itself has one of the flags. The environment may have others.
func isGiven(line *kong.Context, flags ...string) bool {
	return slices.ContainsFunc(line.Path, func(p *kong.Path) bool {
		return p.Flag != nil && slices.Contains(flags, p.Flag.Name)
	})
}

// read reads the credential, and with --stack also the URL. It returns an error if the credential must not
// be sent to the URL.
func (f *targetFlags) read(ctx context.Context, in *os.File, errOut io.Writer) error {
	if f.Org != "" {
		f.organisations = []string{f.Org}
	}
	if f.Stack == "" {
		if f.URL == "" {
			f.URL = "http://" + localAddr() + "/vapi"
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

// inOrganisation returns a webhook that the deployment accepts: one of an organisation that it is bound to.
func (f *targetFlags) inOrganisation(webhook []byte) ([]byte, error) {
	if len(f.organisations) == 0 {
		return webhook, nil
	}
	return simcall.InOrganisation(webhook, f.organisations)
}

// here reports whether the webhook is on this machine.
func (f *targetFlags) here() bool {
	u, err := url.Parse(f.URL)
	return err == nil && guard.IsLoopback(u.Hostname())
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
		f.Auth, f.given = os.Getenv("WEBHOOK_AUTH"), false // a flag may be there, and empty
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
		f.given = true
	}
	return nil
}

// sign adds the credential to a request with a body. It returns the transport that may send it.
func (f *targetFlags) sign(request *http.Request, body []byte) (http.RoundTripper, error) {
	given, plans := f.given, []vapiauth.Plan{{Type: "none"}}
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
			return nil, fmt.Errorf("--auth: %w", err)
		}
	case f.plans != nil: // the stack names the URL, too
		given, plans = true, f.plans
	case request.URL.Scheme == "http":
		token, err := guard.Token(request.URL.Host)
		if err != nil {
			return nil, err
		}
		if token != "" {
			plans = []vapiauth.Plan{{Type: "bearer", Token: token}}
		}
	}
	// While a credential is rotated there are two, the newest first. Both are valid.
	signed := &vapiauth.Request{Method: request.Method, URL: f.URL, Header: request.Header, Body: body}
	if err := plans[0].Sign(signed, time.Now()); err != nil || given || !reveals(plans[0]) {
		return http.DefaultTransport, err
	}
	return proven{}, nil
}

// reveals reports whether a request that is signed with a credential contains its secret.
func reveals(p vapiauth.Plan) bool { return p.Type != "hmac" && p.Type != "none" }

// proven is a transport for requests that only the operator's own local run, or a server with a certificate, may get.
type proven struct{}

// RoundTrip implements [http.RoundTripper]. The error is [operator.ErrUnproven] if the program at the address has not
// proven that it is the local run, and nothing was sent.
func (proven) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "https" {
		return http.DefaultTransport.RoundTrip(r)
	}
	token, err := guard.Token(r.URL.Host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", operator.ErrUnproven, err)
	}
	return operator.ProvenTransport(token).RoundTrip(r)
}

// post posts a body with the credential. It returns the status, without the peer's own words, and the answer. If
// the status is not 200, it also returns an error.
func (f *targetFlags) post(ctx context.Context, body []byte) (status string, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL, bytes.NewReader(body))
	if err != nil {
		return "", nil, errors.New("--url is not a valid URL")
	}
	transport, err := f.sign(request, body)
	if err != nil {
		return "", nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	// Without an http.Client, no redirect is followed: the credential must go to this URL only.
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", nil, unanswered(ctx, err)
	}
	defer response.Body.Close()
	if answer, err = io.ReadAll(io.LimitReader(response.Body, 1<<20)); err != nil {
		return "", nil, errors.New("cannot read the answer: it is incomplete")
	}
	status = strings.TrimSpace(fmt.Sprintf("%d %s", response.StatusCode, http.StatusText(response.StatusCode)))
	switch {
	case response.StatusCode >= 300 && response.StatusCode < 400:
		err = fmt.Errorf("the answer to the webhook is %s, which is not followed; "+
			"use the deployment's own address with --url", status)
	case response.StatusCode == http.StatusForbidden && len(f.organisations) == 0:
		err = fmt.Errorf("the answer to the webhook is %s; if the deployment is bound to an organisation, "+
			"name it with --org", status)
	case response.StatusCode != http.StatusOK:
		err = fmt.Errorf("the answer to the webhook is %s", status)
	}
	return status, answer, err
}

// unanswered classifies the error of a request without an answer. It does not repeat the
// error, which may quote the URL, the certificate or the answer.
func unanswered(ctx context.Context, err error) error {
	const failed = "cannot post the webhook: "
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New(failed + "connection refused; " +
			"start ringback dev in another terminal, or name another deployment with --url")
	case errors.Is(err, operator.ErrUnproven):
		return errors.New(failed + err.Error() + ", and gets no secret; start ringback dev in another terminal, " +
			"or give the credential with a flag, such as --bearer -")
	case ctx.Err() != nil:
		return fmt.Errorf(failed+"no answer in time: %w", ctx.Err())
	}
	return errors.New(failed + vapiclient.Unanswered(ctx, err) + "; check --url")
}

// answered is what the answer to a webhook says about a tool call.
type answered struct {
	Name, ToolCallID string
	Result, Error    *string
}

// answers decodes the answer to a webhook.
func answers(answer []byte) ([]answered, error) {
	var decoded struct{ Results []answered }
	if err := json.Unmarshal(answer, &decoded); err != nil {
		return nil, errors.New("the answer is not the JSON of an answer to a webhook")
	}
	return decoded.Results, nil
}

// accepted reports whether the tool call was accepted, and its result will follow.
func (a answered) accepted() bool {
	return a.Result != nil && !a.builtIn() && !spoken.IsData(*a.Result) // of a quick tool
}

// builtIn reports whether the tool is one that the answer itself is the result of.
func (a answered) builtIn() bool {
	return a.Name == asynctool.TaskStatusName || a.Name == asynctool.CancelTaskName
}

// encrypt encrypts the arguments that the tools name, as Vapi does. It leaves those that are already
// encrypted, and a body that is not a webhook.
func (f *targetFlags) encrypt(ctx context.Context, set *asynctool.Set, body []byte) ([]byte, error) {
	paths := set.Encrypted()
	var object map[string]any
	if len(paths) == 0 || json.Unmarshal(body, &object) != nil || object == nil {
		return body, nil
	}
	return simcall.Encrypt(body, paths, func() (*rsa.PublicKey, error) {
		if f.ArgumentKey != "" {
			return readArgumentKey(f.ArgumentKey)
		}
		if f.stack != nil {
			text, err := f.stack.ArgumentKey(ctx)
			if err != nil {
				return nil, err
			}
			return encryption.ParsePublicKey([]byte(text))
		}
		return localArgumentKey(ctx, f.URL)
	})
}

// localArgumentKey asks the local run at a webhook's URL for its public key.
func localArgumentKey(ctx context.Context, webhook string) (*rsa.PublicKey, error) {
	missing := errors.New("has no public key to encrypt it with; " +
		"use --argument-key with the public key of the deployment")
	u, err := url.Parse(webhook)
	if err != nil || !guard.IsLoopback(u.Hostname()) {
		return nil, missing
	}
	u.Path, u.RawQuery = dev.ArgumentKeyPath, ""
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, missing
	}
	// A program that is not the local run could read what is encrypted with its key.
	response, err := proven{}.RoundTrip(request)
	if errors.Is(err, operator.ErrUnproven) {
		return nil, missing
	}
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxCredential))
	if err != nil || response.StatusCode != http.StatusOK {
		return nil, missing
	}
	return encryption.ParsePublicKey(text)
}
