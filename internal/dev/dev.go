// Package dev is the local run: the functions behind a gateway on this
// machine, on queues in memory, with a simulated call at the other end.
package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/credential"
	"github.com/ringback/ringback/internal/gateway"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/pipeline"
	"github.com/ringback/ringback/internal/simcall"
	"github.com/ringback/ringback/internal/slowshop"
	"github.com/ringback/ringback/vapi"
)

// Route is the one route of the webhook.
const Route = "POST /vapi"

// Config is what a local run is made of.
type Config struct {
	// Addr is where the gateway listens, host:port.
	Addr string

	// Auth is the webhook credential, JSON as in WEBHOOK_AUTH. Empty means
	// that webhooks are not verified.
	Auth string

	// Demo is the webhook that is played at the start. Nil means none.
	Demo []byte

	// ShopDelay is how long the simulated shop takes to answer.
	ShopDelay time.Duration

	// Tools gives the tools. It is called when the shop is there, whose
	// address is then in the environment.
	Tools func() ([]asynctool.Definition, error)

	// Try is the command that is shown for a next step. Empty means none.
	Try string

	Out  io.Writer // where the run is shown
	Live bool      // Out is a terminal on which a line may be drawn over
}

// Run serves until ctx ends. It then takes no more webhooks, and waits for
// those it has, until hurry ends.
func Run(ctx, hurry context.Context, cfg Config) error {
	r := &run{cfg: cfg, terminal: newTerminal(cfg.Out, cfg.Live)}
	r.log = slog.New(r.terminal)
	r.calls.Heard = r.heard
	defer r.close()
	if err := r.listen(); err != nil {
		return err
	}
	if err := r.assemble(); err != nil {
		return err
	}
	return r.serve(ctx, hurry)
}

// run is one local run.
type run struct {
	cfg      Config
	terminal *terminal
	log      *slog.Logger

	gateway, control, shop net.Listener
	servers                []*http.Server
	settings               []string // the variables that were set

	calls    simcall.Calls
	client   *vapi.ControlClient
	pipeline *pipeline.Pipeline
	plans    []vapi.Plan
	told     chan string // the ids of the calls that got a message; only the demonstration listens
}

func (r *run) listen() error {
	var err error
	if r.gateway, err = net.Listen("tcp", r.cfg.Addr); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is taken; stop what listens there, or choose another address with --addr", r.cfg.Addr)
		}
		return fmt.Errorf("cannot listen on %s: %w", r.cfg.Addr, err)
	}
	if r.control, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("cannot serve the simulated call: %w", err)
	}
	if r.shop, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("cannot serve the simulated shop: %w", err)
	}
	return nil
}

func (r *run) assemble() error {
	// A setting of one's own goes before the simulated shop.
	shop := "http://" + r.shop.Addr().String()
	for name, value := range map[string]string{"ORDERS_API_URL": shop, "STOCK_API_URL": shop, "STOCK_API_TOKEN": "local"} {
		if os.Getenv(name) != "" {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			return err
		}
		r.settings = append(r.settings, name)
	}
	definitions, err := r.cfg.Tools()
	if err != nil {
		return err
	}
	tools, err := asynctool.NewSet(definitions...)
	if err != nil {
		return err
	}
	auth := r.cfg.Auth
	if auth == "" {
		auth = `{"type":"none"}`
	}
	if r.plans, err = vapi.ParsePlans([]byte(auth)); err != nil {
		return fmt.Errorf("--auth: %w", err)
	}
	if r.client, err = vapi.NewControlClient(vapi.ControlConfig{AllowLoopback: true}); err != nil {
		return err
	}
	r.told = make(chan string, 16)
	r.pipeline, err = pipeline.New(pipeline.Config{
		Tools:       tools,
		Credentials: credential.New(credential.Fixed(auth), r.log),
		Calls:       calls{r},
		Announcer:   announcer{r},
		Log:         r.log,
	})
	return err
}

func (r *run) serve(ctx, hurry context.Context) error {
	r.start(r.control, r.calls.Handler())
	r.start(r.shop, slowshop.Handler(r.cfg.ShopDelay))
	r.start(r.gateway, gateway.Handler(Route, r.webhook, r.log))

	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.pipeline.Run(working)
	}()
	watching, blind := context.WithCancel(context.WithoutCancel(ctx))
	defer blind()
	go r.terminal.watch(watching, r.pipeline.Records)

	r.welcome()
	if r.cfg.Demo != nil {
		if err := r.demonstrate(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if r.cfg.Try != "" && ctx.Err() == nil {
		r.terminal.say("\nRinging. Try next:\n\n  %s\n\nCtrl-C ends it.\n", r.cfg.Try)
	}
	<-ctx.Done()
	return r.drain(hurry, stop, stopped)
}

func (r *run) welcome() {
	r.terminal.say("%s  http://%s/vapi", bold("Ringback is listening:"), r.gateway.Addr())
	if len(r.plans) == 1 && r.plans[0].Type == "none" {
		r.terminal.say("%s", warning("Webhooks are not verified here: anybody who reaches this address can run the tools. --auth sets a credential."))
	}
	r.terminal.say("")
}

// webhook is the ack function, watched.
func (r *run) webhook(ctx context.Context, request events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	if !request.IsBase64Encoded {
		// What cannot be read is refused, and that is shown too.
		message, _ := vapi.ParseMessage([]byte(request.Body))
		for _, t := range message.ToolCalls {
			r.terminal.toolCall(t)
		}
	}
	return r.pipeline.Ack.Handle(ctx, request)
}

// demonstrate plays a call, and waits until the call has got a message.
func (r *run) demonstrate(ctx context.Context) error {
	callID := "demo-" + rand.Text()[:8]
	body, err := simcall.Adopt(r.cfg.Demo, callID, "https://"+simcall.Host+"/"+callID+"/control")
	if err != nil {
		return fmt.Errorf("the demonstration cannot be played: %w", err)
	}
	address := "http://" + r.gateway.Addr().String() + "/vapi"
	signed := vapi.Request{Method: http.MethodPost, URL: "https://" + r.gateway.Addr().String() + "/vapi", Header: make(http.Header), Body: body}
	if err := r.plans[0].Sign(&signed, time.Now()); err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	request.Header = signed.Header
	request.Header.Set("Content-Type", "application/json")
	r.terminal.say("A caller asks the assistant for something slow, and Vapi posts the tool call:\n")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("the demonstration's webhook: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("the demonstration's webhook: %w", err)
	}
	r.terminal.line("answer", response.Status+"  "+faint(excerpt(string(answer))))
	if response.StatusCode != http.StatusOK {
		return errors.New("the demonstration's webhook was refused")
	}
	for {
		select {
		case id := <-r.told:
			if id == callID {
				r.terminal.say("\n%s", good("The assistant has the result, and the caller never waited."))
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drain finishes what was accepted.
func (r *run) drain(hurry context.Context, stop func(), stopped <-chan struct{}) error {
	for _, s := range r.servers {
		if s.Handler != nil && s.Addr == r.gateway.Addr().String() {
			s.Shutdown(hurry)
		}
	}
	if n := r.pipeline.Waiting(); n > 0 {
		r.terminal.say("\nNo more webhooks are taken. Waiting for %d on their way; Ctrl-C again leaves them.", n)
	}
	err := r.pipeline.Drained(hurry)
	stop()
	if err != nil {
		return fmt.Errorf("left with %d unfinished; the local queues are in memory, so they are lost", r.pipeline.Waiting())
	}
	<-stopped
	r.terminal.say("Everything that was accepted is finished.")
	return nil
}

func (r *run) start(l net.Listener, h http.Handler) {
	s := &http.Server{Addr: l.Addr().String(), Handler: h, ReadHeaderTimeout: 10 * time.Second}
	r.servers = append(r.servers, s)
	go s.Serve(l)
}

func (r *run) close() {
	for _, name := range r.settings {
		os.Unsetenv(name)
	}
	for _, s := range r.servers {
		s.Close()
	}
	for _, l := range []net.Listener{r.gateway, r.control, r.shop} {
		if l != nil {
			l.Close()
		}
	}
}

func (r *run) heard(callID string, m vapi.ControlMessage) {
	r.terminal.heard(callID, m)
	select {
	case r.told <- callID:
	default:
	}
}

// calls reaches the simulated calls where a sample webhook names one, and
// real calls as the deployed function does.
type calls struct{ run *run }

func (c calls) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapi.Receipt {
	if u, err := url.Parse(controlURL); err == nil && u.Host == simcall.Host {
		controlURL = "http://" + c.run.control.Addr().String() + u.EscapedPath()
	}
	return c.run.client.Post(ctx, controlURL, m)
}

// announcer has the terminal as its bus: the callback function logs what it
// announces.
type announcer struct{ run *run }

func (a announcer) Announce(_ context.Context, u job.Announcement) error {
	a.run.terminal.line("event", warning("undelivered")+"  "+faint(string(u.Why)+"  "+excerpt(u.Content)))
	return nil
}
