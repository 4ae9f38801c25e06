package cli

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/fatih/color"
	"github.com/mattn/go-isatty"

	"github.com/ringback/ringback/internal/dev"
	"github.com/ringback/ringback/tools"
	"github.com/ringback/ringback/vapi"
)

const defaultPort = "8787"

type devCommand struct {
	Addr      string        `help:"Where to listen, host:port. Default: 127.0.0.1 and $$PORT, or ${port}." placeholder:"HOST:PORT"`
	NoDemo    bool          `help:"Only serve; play no call."`
	Demo      string        `help:"The webhook that is played." default:"events/vapi/tool-calls.json" type:"path" predictor:"json"`
	Auth      string        `help:"Verify webhooks with this credential: JSON, as in WEBHOOK_AUTH. Default: none." env:"WEBHOOK_AUTH" placeholder:"JSON"`
	ShopDelay time.Duration `help:"How long the simulated shop takes." default:"5s"`
}

// Help is shown above the flags.
func (devCommand) Help() string {
	return `Examples:

  ringback dev
  ringback dev --no-demo --addr 127.0.0.1:9000
  ringback dev --auth '{"type":"bearer","token":"secret"}'`
}

// Run runs the command.
func (c *devCommand) Run(s *streams) error {
	addr := c.Addr
	if addr == "" {
		port := os.Getenv("PORT")
		if port == "" {
			port = defaultPort
		}
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	cfg := dev.Config{
		Addr: addr, Auth: c.Auth, ShopDelay: c.ShopDelay, Tools: tools.All, Out: s.Out,
		Try: fmt.Sprintf("curl -s http://%s/vapi -H 'Content-Type: application/json' -d @events/vapi/spending-report.json", addr),
	}
	if f, ok := s.Out.(*os.File); ok {
		cfg.Live = isatty.IsTerminal(f.Fd()) && !color.NoColor
	}
	if !c.NoDemo {
		var err error
		if cfg.Demo, err = readWebhook(c.Demo); err != nil {
			return fmt.Errorf("%w; name another file with --demo, or leave the call out with --no-demo", err)
		}
	}
	first, second, stop := interrupted()
	defer stop()
	return dev.Run(first, second, cfg)
}

// readWebhook reads a file that must hold a webhook with a tool call.
func readWebhook(name string) ([]byte, error) {
	body, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the webhook (its name is taken from where you cloned Ringback): %w", err)
	}
	message, err := vapi.ParseMessage(body)
	if err != nil {
		return nil, fmt.Errorf("%s is not a webhook: %w", name, err)
	}
	if len(message.ToolCalls) == 0 {
		return nil, fmt.Errorf("%s holds no tool call", name)
	}
	return body, nil
}
