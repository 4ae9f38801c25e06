package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
)

type sendCommand struct {
	File string `arg:"" help:"The webhook, as Vapi posts it; see events/vapi." predictor:"json"`

	URL    string `help:"Where to post it." default:"http://127.0.0.1:${port}/vapi"`
	Secret string `help:"Send this in X-Vapi-Secret." env:"RINGBACK_SECRET" xor:"auth"`
	Bearer string `help:"Send this as a bearer token." env:"RINGBACK_BEARER" xor:"auth"`
	HMAC   string `help:"Sign with this secret: SHA-256 over timestamp and body." name:"hmac" env:"RINGBACK_HMAC" xor:"auth"`
	Auth   string `help:"Sign with this credential: JSON, as in WEBHOOK_AUTH." placeholder:"JSON" xor:"auth"`

	Wait    bool          `help:"Give the call a fresh id and a control URL on this machine, and wait for the results. The deployment must be on this machine too."`
	Timeout time.Duration `help:"How long to wait." default:"3m"`
}

// Help is shown above the flags.
func (sendCommand) Help() string {
	return `The exit code is 0 where the webhook was answered with 200 and, with --wait, every accepted tool call got its result. Progress is shown, and not counted; what is spoken word for word counts as a result where a tool that was called has the delivery say.

Examples:

  ringback send events/vapi/tool-calls.json --wait
  ringback send events/vapi/tool-calls.json --url https://….amazonaws.com/vapi --auth "$(aws secretsmanager get-secret-value --secret-id … --query SecretString --output text)"`
}

// Run runs the command.
func (c *sendCommand) Run(s *streams) error {
	body, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("cannot read the webhook: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	if !c.Wait {
		_, err := c.post(ctx, s, body)
		return err
	}
	return c.wait(ctx, s, body)
}

// wait posts the webhook as one of a call that is simulated here.
func (c *sendCommand) wait(ctx context.Context, s *streams, body []byte) error {
	if u, err := url.Parse(c.URL); err != nil || !loopback(u.Hostname()) {
		return errors.New("--wait needs a deployment on this machine, as another could not reach the control URL; leave it out")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot serve a control URL: %w", err)
	}
	heard := make(chan vapi.ControlMessage, 1024)
	calls := &simcall.Calls{Heard: func(_ string, m vapi.ControlMessage) { heard <- m }}
	server := &http.Server{Handler: calls.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener)
	defer server.Close()

	callID := "send-" + rand.Text()[:8]
	if body, err = simcall.Adopt(body, callID, "http://"+listener.Addr().String()+"/"+callID+"/control"); err != nil {
		return err
	}
	accepted, err := c.post(ctx, s, body)
	if err != nil {
		return err
	}
	set, err := allTools()
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
			return fmt.Errorf("%d of %d results came within %s", len(accepted)-missing, len(accepted), c.Timeout)
		}
	}
	return nil
}

// acceptedCall is a tool call whose result is to come.
type acceptedCall struct{ id, tool string }

// results is how many results of the tool calls a message tells: several, where
// they were ready together, and none, where it says how far a tool is.
func results(m vapi.ControlMessage, accepted []acceptedCall, set *asynctool.Set) int {
	switch m := m.(type) {
	case vapi.AddMessage:
		if strings.HasPrefix(m.Content, "[async tool progress]") {
			return 0
		}
		n := 0
		for _, a := range accepted {
			if strings.Contains(m.Content, "tool_call_id="+a.id+" status=") {
				n++
			}
		}
		return max(n, 1) // the text around it may be another one
	case vapi.Say:
		// Nothing tells a spoken result from a spoken line of progress.
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

// show prints a control message for people, who would rather see < than \u003c.
func show(out io.Writer, m vapi.ControlMessage) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil {
		return err
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(members)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// post posts the webhook, prints the answer, and gives the tool calls that were
// accepted: those whose results are not in the answer.
func (c *sendCommand) post(ctx context.Context, s *streams, body []byte) ([]acceptedCall, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	if err := c.sign(request, body); err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the webhook could not be posted: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("the answer could not be read: %w", err)
	}
	fmt.Fprintf(s.Err, "%s\n", response.Status)
	fmt.Fprintf(s.Out, "%s\n", answer)
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the webhook was answered with %s", response.Status)
	}
	var decoded struct {
		Results []struct {
			Name, ToolCallID string
			Result           *string
		}
	}
	if err := json.Unmarshal(answer, &decoded); err != nil {
		return nil, fmt.Errorf("the answer is not JSON: %w", err)
	}
	var accepted []acceptedCall
	for _, r := range decoded.Results {
		if r.Result != nil && r.Name != asynctool.TaskStatusName {
			accepted = append(accepted, acceptedCall{r.ToolCallID, r.Name})
		}
	}
	return accepted, nil
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
	}
	// The newest of two comes first while a credential is rotated; either
	// will do.
	return plans[0].Sign(&vapiauth.Request{Method: request.Method, URL: c.URL, Header: request.Header, Body: body}, time.Now())
}
