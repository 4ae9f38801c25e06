package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi"
)

type sendCommand struct {
	File string `arg:"" help:"The file with the webhook. There are samples in events/vapi." predictor:"json"`

	targetFlags

	Fresh   bool          `help:"Replace the ids of the call and of the tool calls, so that nothing is repeated."`
	Wait    bool          `help:"Wait for the results. The deployment must be on this machine."`
	Timeout time.Duration `help:"Wait at most this long." default:"3m"`
}

// Help returns the text above the flags.
func (sendCommand) Help() string {
	return `The exit code is 0 if the answer to the webhook is 200. With --wait, every accepted tool call must also
have received its result. Progress is shown, but is not a result. A text that is spoken word for word counts as a
result if one of the called tools has the delivery say. The call gets a new id and a control URL on this machine, so
--wait requires a deployment on this machine. A GPT-Live call is simulated if the webhook comes from a GPT-Live
assistant.

A webhook that is posted twice is the same tool call, whose result was delivered already. --fresh makes it another
one.

The URL must begin with https://, except on this machine. No redirect is followed.

With --stack, the URL and the credential come from the stack. If API Gateway verifies OAuth2 tokens, pass one with
--bearer.

A deployment that ringback sync has bound to your organisation refuses the webhooks of others with 403, and the samples
name another one. With --stack, the webhook gets the id of your organisation. With --url, pass the id with --org.

Other users of this machine can see the arguments of a process, and your shell stores them. So put the credential
into the environment (RINGBACK_SECRET, RINGBACK_BEARER, RINGBACK_HMAC or WEBHOOK_AUTH), or write - in its place. The
command then asks for it on a terminal, or reads it from its input.

Arguments that the tools of this checkout have as encrypted ones are encrypted, as Vapi does. The key is that of the
stack or of the local run at the URL, or the one in --argument-key.

Without a credential, the token of the local run (ringback dev) at the URL is used. The run must have been started
by the same user.

Over http://, a bearer token or a secret of the environment or of .env is sent only to such a run, which must first
prove that it has its token. To send it to another program on this machine, pass the credential with a flag, or write
- in its place. A signature (HMAC) reveals no secret, and needs no proof.

Examples:

  ringback send events/vapi/tool-calls.json --wait
  ringback send events/vapi/gpt-live.json --wait
  ringback send events/vapi/tool-calls.json --fresh --stack Ringback
  ringback send events/vapi/tool-calls.json --url https://….amazonaws.com/vapi --org … --bearer -`
}

// Run runs the command.
func (c *sendCommand) Run(s *streams, tools Tools) error {
	body, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("cannot read the webhook: %w", err)
	}
	if c.Fresh {
		if body, err = simcall.Fresh(body, rand.Text); err != nil {
			return err
		}
	}
	asking, _, stop := interrupted()
	err = c.read(asking, os.Stdin, s.Err)
	stop()
	if err != nil {
		return err
	}
	if body, err = c.inOrganisation(body); err != nil {
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
	if !c.Wait {
		_, err := c.sendAndShow(ctx, s, body)
		return err
	}
	return c.wait(ctx, s, tools, body)
}

// wait posts the webhook as part of a simulated call, and waits for the results.
func (c *sendCommand) wait(ctx context.Context, s *streams, tools Tools, body []byte) error {
	if !c.here() {
		return errors.New("--wait requires a deployment on this machine, " +
			"because another machine cannot reach the control URL; omit --wait")
	}
	call, err := simulate("send-" + rand.Text()[:8])
	if err != nil {
		return err
	}
	defer call.close()
	if body, err = simcall.Adopt(body, call.id, call.controlURL); err != nil {
		return err
	}
	// A webhook that cannot be parsed is for the deployment to refuse.
	if m, err := vapi.ParseMessage(body); err == nil && m.Call.Architecture == vapi.ArchitectureGPTLive {
		call.calls.AddGPTLive(m.Call)
	}
	accepted, err := c.sendAndShow(ctx, s, body)
	if err != nil {
		return err
	}
	set, err := tools.set()
	if err != nil {
		return err
	}
	for missing := len(accepted); missing > 0; {
		select {
		case m := <-call.heard:
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

// progressHead begins a progress line that is no result.
const progressHead = "[async tool progress]"

// framed returns how many results a framed text has.
func framed(text string, accepted []acceptedCall) int {
	if strings.HasPrefix(text, progressHead) {
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

// sendAndShow posts a webhook and prints the answer. It returns the accepted tool calls:
// those whose results are not in the answer.
func (c *sendCommand) sendAndShow(ctx context.Context, s *streams, body []byte) ([]acceptedCall, error) {
	status, answer, err := c.post(ctx, body)
	if status != "" {
		fmt.Fprintf(s.Err, "%s\n", status)
		fmt.Fprintf(s.Out, "%s\n", printable(string(answer)))
	}
	if err != nil {
		return nil, err
	}
	results, err := answers(answer)
	if err != nil {
		return nil, err
	}
	var accepted []acceptedCall
	for _, r := range results {
		if r.accepted() {
			accepted = append(accepted, acceptedCall{r.ToolCallID, r.Name})
		}
	}
	return accepted, nil
}

// simulated is a call that this command simulates.
type simulated struct {
	id         string
	controlURL string
	calls      *simcall.Calls
	heard      chan vapi.ControlMessage
	server     *http.Server
}

// simulate serves the control URL of a call on this machine. It must be closed.
func simulate(callID string) (*simulated, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot serve a control URL: %w", err)
	}
	heard := make(chan vapi.ControlMessage, 1024)
	secret := "/" + rand.Text()
	c := &simulated{
		id: callID, controlURL: "http://" + listener.Addr().String() + secret + "/" + callID + "/control", heard: heard,
		calls: &simcall.Calls{Heard: func(_ string, m vapi.ControlMessage) { heard <- m }},
	}
	c.server = &http.Server{
		Handler:           guard.Guard{}.Handler(http.StripPrefix(secret, c.calls.Handler())),
		ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
	}
	go c.server.Serve(listener)
	return c, nil
}

// close stops serving. The post of the last result waits for its answer. Without one, the deployment would repeat it.
func (c *simulated) close() {
	answering, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = c.server.Shutdown(answering)
	c.server.Close()
}
