package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/page"
	"github.com/ringback/ringback/internal/queue"
)

type uiCommand struct {
	Stack string `help:"Show the deployment in this CloudFormation stack. ${account}" placeholder:"NAME" xor:"deployment"`
	Local bool   `help:"Print another link to the page of the local run (ringback dev)." xor:"deployment"`
	Write bool   `help:"Let the page cancel, complete, replay and redrive jobs."`
	Addr  string `help:"Listen on this loopback address, or find the local run there. Default: a free port, or ${port}." placeholder:"HOST:PORT"`
}

// Help returns the text above the flags.
func (uiCommand) Help() string {
	return `With --stack, the command serves a page with the calls and jobs of a deployment, on this machine only, until
it is interrupted. It reads with your own AWS permissions: those of the stack's output OperatorReadPolicy. Nothing is
exposed in AWS. The page is read-only unless you set --write, which also needs those of OperatorWritePolicy. It asks
before it replays or redrives a job.

The link that the command prints works once, in one browser. Telephone numbers are masked until you ask for them.

With --local, the command prints another link to the page of the local run, which serves it all the time.

Examples:

  ringback ui --stack Ringback
  ringback ui --stack Ringback --write
  ringback ui --local`
}

// Run runs the command.
func (c *uiCommand) Run(s *streams, tools Tools) error {
	ctx, _, stop := interrupted()
	defer stop()
	switch {
	case c.Local && c.Write:
		return errors.New("--write requires --stack; the page of the local run can always change jobs")
	case c.Local:
		link, err := localLink(ctx, cmp.Or(c.Addr, localAddr()))
		if err == nil {
			fmt.Fprintln(s.Out, link)
		}
		return err
	}
	set, err := tools.set()
	if err != nil {
		return err
	}
	p := startProgress(s.Err)
	cfg, err := c.open(ctx, p, set)
	p.stop()
	if err != nil {
		return err
	}
	cfg.Log = slog.New(slog.NewTextHandler(s.Err, nil))
	shown, err := page.New(cfg)
	if err != nil {
		return err
	}
	listener, err := listenHere(cmp.Or(c.Addr, "127.0.0.1:0"))
	if err != nil {
		return err
	}
	again := "For another link, start ringback ui again."
	session := page.NewSession(listener.Addr().String(), guard.NewToken(), again)
	server := &http.Server{
		Handler: guard.Guard{}.Handler(session.Handler(shown)), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.NewTextHandler(s.Err, nil), slog.LevelWarn),
	}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	fmt.Fprintf(s.Out, "http://%s%s\n", listener.Addr(), session.Link())
	fmt.Fprintln(s.Err, "Open this link in a browser. It works once. Press Ctrl-C to stop.")
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve the page: %w", err)
	}
	return nil
}

// open returns the page of the deployment.
func (c *uiCommand) open(ctx context.Context, p *progress, set *asynctool.Set) (page.Config, error) {
	at := &jobsFlags{Stack: c.Stack}
	cfg := page.Config{Tools: set, Place: c.Stack, Flags: "--stack " + c.Stack, Write: c.Write}
	jobs, err := at.opened(ctx, p)
	if err != nil {
		return cfg, err
	}
	cfg.Jobs = jobs
	_, selected, err := at.selected(ctx, p)
	if err != nil {
		return cfg, err
	}
	switch console, err := selected.Console(ctx); {
	case err != nil:
		return cfg, err
	case console != nil: // a nil *Console is not a nil interface
		cfg.Console = console
	}
	if !c.Write {
		return cfg, nil
	}
	dead, err := at.deployedDead(ctx, p)
	if err != nil {
		return cfg, err
	}
	cfg.Redrive = dead.RedriveJob
	replays, err := at.deployedReplays(ctx, p)
	switch {
	case errors.Is(err, stack.ErrNoArguments):
		return cfg, nil
	case err != nil:
		return cfg, err
	}
	cfg.Arguments = func(ctx context.Context, id string) (json.RawMessage, error) {
		original, err := replays.Original(ctx, id)
		return original.Arguments, err
	}
	cfg.Replay = func(ctx context.Context, id string) (job.Job, error) {
		original, err := replays.Original(ctx, id)
		if err != nil {
			return job.Job{}, err
		}
		again := original.Replay(time.Now(), nil).WithoutCustomer()
		long := slices.Contains(set.LongerThan(queue.LongTool), again.Tool)
		return again, replays.Start(ctx, again, long)
	}
	return cfg, nil
}

// listenHere listens on an address that only this machine reaches.
func listenHere(addr string) (net.Listener, error) {
	at, err := net.ResolveTCPAddr("tcp", addr)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	case !at.IP.IsLoopback():
		return nil, fmt.Errorf("other machines can reach %s; choose a loopback address, such as 127.0.0.1:8788", addr)
	}
	listener, err := net.ListenTCP("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return listener, nil
}

// localLink asks the local run at an address for another link to its page.
func localLink(ctx context.Context, addr string) (string, error) {
	token, err := guard.Token(addr)
	if err != nil {
		return "", err
	}
	if token == "" {
		return "", fmt.Errorf("no local run of yours is at %s; start ringback dev in another terminal, or use --addr", addr)
	}
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+dev.LinkPath, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := operator.ProvenTransport(token).RoundTrip(request)
	if errors.Is(err, operator.ErrUnproven) {
		return "", fmt.Errorf("%w; start ringback dev again", err)
	}
	if err != nil {
		return "", fmt.Errorf("the local run at %s does not answer; start ringback dev again", addr)
	}
	defer answer.Body.Close()
	link, err := io.ReadAll(io.LimitReader(answer.Body, 1024))
	if err != nil || answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the local run at %s refuses to make a link: %s", addr, answer.Status)
	}
	return "http://" + addr + string(link), nil
}
