package cli

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/ringback/ringback"
	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/console"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/vapi"
)

const defaultPort = dev.DefaultPort

type devCommand struct {
	Addr string `help:"Listen on this address. Default: 127.0.0.1, and $$PORT or ${port}." placeholder:"HOST:PORT"`

	PublicURL string `help:"Also serve requests for this URL, as a tunnel sends them." placeholder:"URL"`

	NoDemo bool   `help:"Serve only, without a simulated call." xor:"call"`
	Demo   string `help:"Play this webhook. Default: a call in two acts." placeholder:"FILE" type:"path" predictor:"json"`
	Auth   string `help:"Verify webhooks with this credential. Default: a random token." env:"WEBHOOK_AUTH" placeholder:"JSON"`

	PublicKey string `help:"Your organisation's public key at Vapi, for control authentication." env:"VAPI_PUBLIC_KEY" placeholder:"KEY"`

	GPTLive bool `help:"Play the call as one of a GPT-Live assistant." xor:"call"`

	Watch bool `help:"Build and start again after each change of the code, and keep jobs and calls."`

	ShopDelay time.Duration `help:"The delay of the simulated shop." default:"5s"`
	Speed     int           `help:"Speed up waits and deadlines by this factor (3600: one day takes 24 s)." default:"1"`

	Verbose bool `help:"Show what the functions log, with all attributes."`
}

// The call in two acts: a slow tool, then an approval and a question about its
// progress.
const (
	demoSlow     = "events/vapi/tool-calls.json"
	demoApproval = "events/vapi/notify-when-ready.json"
	demoStatus   = "events/vapi/task-status.json"
)

// Help returns the text above the flags.
func (devCommand) Help() string {
	return `Examples:

  ringback dev
  ringback dev --no-demo --addr 127.0.0.1:9000
  ringback dev --gpt-live
  ringback dev --speed 3600
  ringback dev --auth "{\"type\":\"bearer\",\"token\":\"$(openssl rand -hex 24)\"}"
  ringback dev --no-demo --public-url https://example.ngrok.app
  go run ./cmd/ringback dev --watch

Each run has a random token, which ringback send and ringback jobs find by themselves. It is also the bearer token of
webhooks, unless --auth is set. Requests for another host, and those of web pages, are refused. If other machines can
reach --addr, --auth is required.

With --watch, the command builds the program of the current project again when a file of Go or YAML changes, or .env. If
that succeeds, the run restarts with the new code, and keeps its jobs, calls and token. Tools that are running finish
first. Webhooks that arrive meanwhile wait for the new code. If the code cannot be compiled, or its tools are not valid,
the run goes on with the code before. The simulated shop begins open requests again.

Press h in the terminal of the run to hang up in the simulated calls.

Arguments and results are shown if the call is simulated. Of a call at Vapi, only the names of tools are shown. If its
assistant has control authentication, set VAPI_PUBLIC_KEY.

A webhook from a GPT-Live assistant always comes from a simulated GPT-Live call, also without --gpt-live.

If OTEL_EXPORTER_OTLP_ENDPOINT is set, the run sends spans to that OpenTelemetry collector, for example
http://localhost:4318.

To see the jobs of a local run, use ringback jobs list --local.`
}

// Run runs the command.
func (c *devCommand) Run(s *streams, tools Tools, line commandLine) error {
	if c.Watch {
		return watch(s, line)
	}
	if c.Speed < 1 {
		return fmt.Errorf("--speed is %d; it must be at least 1", c.Speed)
	}
	addr, try := cmp.Or(c.Addr, localAddr()), program()+" call"
	if c.GPTLive {
		try += " --gpt-live"
	}
	on := console.On(s.Out)
	cfg := dev.Config{
		Addr: addr, PublicURL: c.PublicURL, Auth: c.Auth, ShopDelay: c.ShopDelay, Speed: c.Speed,
		Tools: c.tools(tools), Try: try, PublicKey: strings.TrimSpace(c.PublicKey), Verbose: c.Verbose,
		Out: s.Out, Live: on.Live, Width: on.Width,
	}
	if err := c.read(&cfg); err != nil {
		return fmt.Errorf("%w; choose another file with --demo, or omit the call with --no-demo", err)
	}
	var first, second context.Context
	var stop func()
	if state := os.Getenv(stateVariable); state == "" {
		first, second, stop = interrupted()
	} else {
		cfg.Handover.File = state
		cfg.Handover.Requested, first, second, stop = beingWatched()
	}
	defer stop()
	var restore func()
	cfg.HangUp, restore = hangUps(os.Stdin)
	defer restore()
	return dev.Run(first, second, cfg)
}

// read reads the webhooks of the simulated call.
func (c *devCommand) read(cfg *dev.Config) (err error) {
	switch {
	case c.NoDemo:
		return nil
	case c.Demo != "":
		cfg.Demo, err = c.act(os.ReadFile, c.Demo)
		return err
	}
	for _, act := range []struct {
		name string
		into *[]byte
	}{{demoSlow, &cfg.Demo}, {demoApproval, &cfg.Approval}, {demoStatus, &cfg.Status}} {
		if *act.into, err = c.act(ringback.Files.ReadFile, act.name); err != nil {
			return err
		}
	}
	return nil
}

// tools adds the tools of the call in two acts, unless the project has tools of these names, or
// another call is played.
func (c *devCommand) tools(own Tools) Tools {
	if c.NoDemo || c.Demo != "" {
		return own
	}
	return func() ([]asynctool.Definition, error) {
		all, err := own()
		if err != nil {
			return nil, err
		}
		set, err := asynctool.NewSet(all...)
		if err != nil {
			return nil, err
		}
		demonstrated := []asynctool.Definition{
			shop.OrderStatus(os.Getenv),
			shop.NotifyWhenReady(os.Getenv),
			asynctool.TaskStatus(),
		}
		for i, name := range []string{"order_status", "notify_when_ready", asynctool.TaskStatusName} {
			if _, ok := set.Lookup(name); !ok {
				all = append(all, demonstrated[i])
			}
		}
		return all, nil
	}
}

// act reads a webhook of the simulated call.
func (c *devCommand) act(read func(string) ([]byte, error), name string) ([]byte, error) {
	webhook, err := readWebhook(read, name)
	if err != nil || !c.GPTLive {
		return webhook, err
	}
	return simcall.AsGPTLive(webhook)
}

// localAddr returns the default address of the local run.
func localAddr() string { return net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("PORT"), defaultPort)) }

// readWebhook reads a file that must contain a webhook with a tool call.
func readWebhook(read func(string) ([]byte, error), name string) ([]byte, error) {
	body, err := read(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the webhook: %w", err)
	}
	message, err := vapi.ParseMessage(body)
	if err != nil {
		return nil, fmt.Errorf("%s is not a webhook: %w", name, err)
	}
	if len(message.ToolCalls) == 0 {
		return nil, fmt.Errorf("%s contains no tool call", name)
	}
	return body, nil
}
