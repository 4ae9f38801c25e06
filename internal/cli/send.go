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
	"github.com/ringback/ringback/vapi/vapiclient"
)

type sendCommand struct {
	File string `arg:"" help:"The file with the webhook. There are samples in events/vapi." predictor:"json"`

	targetFlags

	ArgumentKey string `help:"Encrypt the tools' encrypted arguments with the public key in this file. Default: that of the stack or the local run." placeholder:"FILE" type:"path"`

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

With --stack, the URL and the credential come from the stack. If API Gateway verifies OAuth2 tokens, pass one with
--bearer.

A deployment that ringback sync has bound to your organisation refuses the webhooks of others with 403, and the samples
name another one. With --stack, the webhook gets the id of your organisation. With --url, pass the id with --org.

Other users of this machine can see the arguments of a process, and your shell stores them. So put the credential into
the environment (RINGBACK_SECRET, RINGBACK_BEARER, RINGBACK_HMAC or WEBHOOK_AUTH), or write - in its place. The command
then asks for it on a terminal, or reads it from its input.

Arguments that the tools of this checkout have as encrypted ones are encrypted, as Vapi does. The key is that of the
stack or of the local run at the URL, or the one in --argument-key.

Without a credential, the token of the local run (ringback dev) at the URL is used. The run must have been started by
the same user.

Examples:

  ringback send events/vapi/tool-calls.json --wait
  ringback send events/vapi/gpt-live.json --wait
  ringback send events/vapi/tool-calls.json --stack Ringback
  ringback send events/vapi/tool-calls.json --url https://….amazonaws.com/vapi --org … --bearer -`
}

// Run runs the command.
func (c *sendCommand) Run(s *streams, tools Tools) error {
	body, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("cannot read the webhook: %w", err)
	}
	asking, _, stop := interrupted()
	err = c.read(asking, os.Stdin, s.Err)
	stop()
	if err != nil {
		return err
	}
	if len(c.organisations) > 0 {
		if body, err = simcall.InOrganisation(body, c.organisations); err != nil {
			return err
		}
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
		if c.stack != nil {
			text, err := c.stack.ArgumentKey(ctx)
			if err != nil {
				return nil, err
			}
			return encryption.ParsePublicKey([]byte(text))
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
	case response.StatusCode == http.StatusForbidden && len(c.organisations) == 0:
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
