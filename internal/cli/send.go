package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// maxCredential limits a credential that is read from the input, in bytes.
const maxCredential = 64 << 10

type sendCommand struct {
	File string `arg:"" help:"The file with the webhook. There are samples in events/vapi." predictor:"json"`

	URL    string `help:"Post the webhook to this URL." default:"http://127.0.0.1:${port}/vapi"`
	Secret string `help:"Send this secret in X-Vapi-Secret." env:"RINGBACK_SECRET" xor:"auth"`
	Bearer string `help:"Send this bearer token." env:"RINGBACK_BEARER" xor:"auth"`
	HMAC   string `help:"Sign timestamp and body with this secret (HMAC-SHA-256)." env:"RINGBACK_HMAC" xor:"auth"`
	Auth   string `help:"Sign with this credential. Default: $$WEBHOOK_AUTH." placeholder:"JSON" xor:"auth"`

	Org string `help:"Send the webhook for this organisation at Vapi." placeholder:"ID"`

	ArgumentKey string `help:"Encrypt the tools' encrypted arguments with the public key in this file. Default: that of the local run." placeholder:"FILE" type:"path"`

	Wait    bool          `help:"Wait for the results. The deployment must be on this machine."`
	Timeout time.Duration `help:"Wait at most this long." default:"3m"`
}

// Help returns the text above the flags.
func (sendCommand) Help() string {
	return `The exit code is 0 if the answer to the webhook is 200. With --wait, every accepted tool call must also have
received its result. Progress is shown, but is not a result. A text that is spoken word for word counts as a result if
one of the called tools has the delivery say. The call gets a new id and a control URL on this machine, so --wait
requires a deployment on this machine. A GPT-Live call is simulated if the webhook comes from a GPT-Live assistant.

The URL must begin with https://, except on this machine. No redirect is followed.

Other users of this machine can see the arguments of a process, and your shell stores them. So put the credential into
the environment (RINGBACK_SECRET, RINGBACK_BEARER, RINGBACK_HMAC or WEBHOOK_AUTH), or write - in its place. The command
then asks for it on a terminal, or reads it from its input.

Arguments that the tools of this checkout have as encrypted ones are encrypted, as Vapi does. The key is that of the
local run at the URL, or the one in --argument-key.

A deployment that ringback sync has bound to your organisation refuses the webhooks of others with 403. Use --org with
the id of your organisation, because the samples name another one.

Without a credential, the token of the local run (ringback dev) at the URL is used. The run must have been started by
the same user.

Examples:

  ringback send events/vapi/tool-calls.json --wait
  ringback send events/vapi/gpt-live.json --wait
  ringback send events/vapi/tool-calls.json --url https://….amazonaws.com/vapi --org … --bearer -
  aws secretsmanager get-secret-value --secret-id … --query SecretString --output text |
    ringback send events/vapi/tool-calls.json --url https://….amazonaws.com/vapi --auth -`
}

// Run runs the command.
func (c *sendCommand) Run(s *streams, tools Tools) error {
	body, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("cannot read the webhook: %w", err)
	}
	if err := checkTarget(c.URL); err != nil {
		return err
	}
	asking, _, stop := interrupted()
	err = c.readCredential(asking, os.Stdin, s.Err)
	stop()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	set, err := tools.set()
	if err != nil {
		return err
	}
	if body, err = c.encrypt(ctx, set, body); err != nil {
		return err
	}
	if c.Org != "" {
		if body, err = simcall.InOrganisation(body, c.Org); err != nil {
			return err
		}
	}
	if !c.Wait {
		_, err := c.post(ctx, s, body)
		return err
	}
	return c.wait(ctx, s, tools, body)
}

// encrypt encrypts the arguments that the tools name, as Vapi does. It leaves those that are already
// encrypted, and a body that is not a webhook.
func (c *sendCommand) encrypt(ctx context.Context, set *asynctool.Set, body []byte) ([]byte, error) {
	paths := set.Encrypted()
	var object map[string]any
	if len(paths) == 0 || json.Unmarshal(body, &object) != nil || object == nil {
		return body, nil
	}
	return simcall.Encrypt(body, paths, func() (*rsa.PublicKey, error) {
		if c.ArgumentKey != "" {
			return readArgumentKey(c.ArgumentKey)
		}
		return localArgumentKey(ctx, c.URL)
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
	response, err := http.DefaultTransport.RoundTrip(request)
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
func (c *sendCommand) readCredential(ctx context.Context, in *os.File, errOut io.Writer) error {
	if c.Secret+c.Bearer+c.HMAC+c.Auth == "" {
		c.Auth = os.Getenv("WEBHOOK_AUTH")
	}
	for _, credential := range []*string{&c.Secret, &c.Bearer, &c.HMAC, &c.Auth} {
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

// wait posts the webhook as part of a simulated call, and waits for the results.
func (c *sendCommand) wait(ctx context.Context, s *streams, tools Tools, body []byte) error {
	if u, err := url.Parse(c.URL); err != nil || !guard.IsLoopback(u.Hostname()) {
		return errors.New("--wait requires a deployment on this machine, " +
			"because another machine cannot reach the control URL; omit --wait")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot serve a control URL: %w", err)
	}
	heard := make(chan vapi.ControlMessage, 1024)
	calls := &simcall.Calls{Heard: func(_ string, m vapi.ControlMessage) { heard <- m }}
	secret := "/" + rand.Text()
	server := &http.Server{
		Handler:           guard.Guard{}.Handler(http.StripPrefix(secret, calls.Handler())),
		ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
	}
	go server.Serve(listener)
	defer server.Close()

	callID := "send-" + rand.Text()[:8]
	controlURL := "http://" + listener.Addr().String() + secret + "/" + callID + "/control"
	if body, err = simcall.Adopt(body, callID, controlURL); err != nil {
		return err
	}
	// A webhook that cannot be parsed is for the deployment to refuse.
	if m, err := vapi.ParseMessage(body); err == nil && m.Call.Architecture == vapi.ArchitectureGPTLive {
		calls.AddGPTLive(m.Call)
	}
	accepted, err := c.post(ctx, s, body)
	if err != nil {
		return err
	}
	set, err := tools.set()
	if err != nil {
		return err
	}
	for missing := len(accepted); missing > 0; {
		select {
		case m := <-heard:
			if err := show(s.Out, m); err != nil {
				return err
			}
			missing -= results(m, accepted, set)
		case <-ctx.Done():
			return fmt.Errorf("%d of %d results arrived within %s", len(accepted)-missing, len(accepted), c.Timeout)
		}
	}
	return nil
}

// acceptedCall is a tool call whose result will follow.
type acceptedCall struct{ id, tool string }

// results returns how many results a message delivers: several if they were ready
// together, and none if it is progress.
func results(m vapi.ControlMessage, accepted []acceptedCall, set *asynctool.Set) int {
	switch m := m.(type) {
	case vapi.AddMessage:
		return framed(m.Content, accepted)
	case vapi.AppendContext:
		return framed(m.Content, accepted)
	case vapi.Say:
		// A spoken result and a spoken progress line look the same.
		for _, a := range accepted {
			if tool, ok := set.Lookup(a.tool); ok && tool.Delivery == asynctool.Say {
				return 1
			}
		}
		return 0
	default:
		return 1
	}
}

// framed returns how many results a framed text has.
func framed(text string, accepted []acceptedCall) int {
	if strings.HasPrefix(text, "[async tool progress]") {
		return 0
	}
	n := 0
	for _, a := range accepted {
		if strings.Contains(text, "tool_call_id="+a.id+" status=") {
			n++
		}
	}
	return max(n, 1) // the text around the results may be customised
}

// show prints a control message for people: with < instead of \u003c.
func show(out io.Writer, m vapi.ControlMessage) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil {
		return err
	}
	return asJSON(out, members)
}

// post posts the webhook and prints the answer. It returns the accepted tool calls:
// those whose results are not in the answer.
func (c *sendCommand) post(ctx context.Context, s *streams, body []byte) ([]acceptedCall, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("--url is not a valid URL")
	}
	if err := c.sign(request, body); err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	// Without an http.Client, no redirect is followed: the credential must go to this URL only.
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, errors.New("cannot read the answer: it is incomplete")
	}
	// The status without the peer's own words.
	status := strings.TrimSpace(fmt.Sprintf("%d %s", response.StatusCode, http.StatusText(response.StatusCode)))
	fmt.Fprintf(s.Err, "%s\n", status)
	fmt.Fprintf(s.Out, "%s\n", printable(string(answer)))
	switch {
	case response.StatusCode >= 300 && response.StatusCode < 400:
		return nil, fmt.Errorf("the answer to the webhook is %s, which is not followed; "+
			"use the deployment's own address with --url", status)
	case response.StatusCode == http.StatusForbidden && c.Org == "":
		return nil, fmt.Errorf("the answer to the webhook is %s; if the deployment is bound to an organisation, "+
			"name it with --org", status)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the answer to the webhook is %s", status)
	}
	var decoded struct {
		Results []struct {
			Name, ToolCallID string
			Result           *string
		}
	}
	if err := json.Unmarshal(answer, &decoded); err != nil {
		return nil, errors.New("the answer is not the JSON of an answer to a webhook")
	}
	var accepted []acceptedCall
	for _, r := range decoded.Results {
		answered := r.Name == asynctool.TaskStatusName || r.Name == asynctool.CancelTaskName ||
			r.Result != nil && spoken.IsData(*r.Result) // of a quick tool
		if r.Result != nil && !answered {
			accepted = append(accepted, acceptedCall{r.ToolCallID, r.Name})
		}
	}
	return accepted, nil
}

// unanswered classifies the error of a request without an answer. It does not repeat the
// error, which may quote the URL, the certificate or the answer.
func unanswered(ctx context.Context, err error) error {
	const failed = "cannot post the webhook: "
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New(failed + "connection refused; " +
			"start ringback dev in another terminal, or name another deployment with --url")
	case ctx.Err() != nil:
		return fmt.Errorf(failed+"no answer in time: %w", ctx.Err())
	}
	return errors.New(failed + vapiclient.Unanswered(ctx, err) + "; check --url")
}

func (c *sendCommand) sign(request *http.Request, body []byte) error {
	plans := []vapiauth.Plan{{Type: "none"}}
	switch {
	case c.Secret != "":
		plans = []vapiauth.Plan{{Type: "secret", Secret: c.Secret}}
	case c.Bearer != "":
		plans = []vapiauth.Plan{{Type: "bearer", Token: c.Bearer}}
	case c.HMAC != "":
		plans = []vapiauth.Plan{{Type: "hmac", SecretKey: c.HMAC, Algorithm: "sha256"}}
	case c.Auth != "":
		var err error
		if plans, err = vapiauth.ParsePlans([]byte(c.Auth)); err != nil {
			return fmt.Errorf("--auth: %w", err)
		}
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
	signed := &vapiauth.Request{Method: request.Method, URL: c.URL, Header: request.Header, Body: body}
	return plans[0].Sign(signed, time.Now())
}
