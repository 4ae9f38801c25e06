// Package dev runs Ringback on this machine: the functions behind an HTTP server, on
// queues in memory, with simulated calls and a simulated shop.
package dev

import (
	"bytes"
	"cmp"
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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/console"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/local/memkey"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/local/slowshop"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/page"
	"github.com/ringback/ringback/internal/tracing/otlp"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// ArgumentKeyPath is the path at which a local run serves the public key of the arguments that Vapi encrypts,
// in PEM. It does so if a tool has such arguments.
const ArgumentKeyPath = "/argument-key"

// Config configures a local run.
type Config struct {
	// Addr is the address to listen on, host:port. If it is not a loopback address,
	// Auth is required.
	Addr string

	// PublicURL is the URL at which a tunnel serves Addr. Empty means none.
	PublicURL string

	// Auth is the webhook credential, JSON as in WEBHOOK_AUTH. Empty means the
	// random token of the run, as a bearer token.
	Auth string

	// Demo is the webhook that the demonstration plays. Nil means that there is no
	// demonstration.
	Demo []byte

	// Approval and Status are webhooks that the demonstration plays afterwards, in
	// the same call: a request that the simulated shop must approve, and the
	// question how far it is. Nil means that neither is played.
	Approval, Status []byte

	// ShopDelay is how long the simulated shop takes to answer.
	ShopDelay time.Duration

	// PublicKey is the organisation's public key at Vapi, for calls with control
	// authentication. Empty means none.
	PublicKey string

	// Speed divides the waits and deadlines that tools ask for. 0 means 1.
	Speed int

	// Tools returns the tools. When it is called, the simulated shop's address is in
	// the environment.
	Tools func() ([]asynctool.Definition, error)

	// Try is the command that calls a tool, as a user types it in front of the tool's
	// name. The next step that is shown is to call a tool with it. Empty means none.
	Try string

	// HangUp ends the simulated calls, each time that it gets a value. It may be nil.
	HangUp <-chan struct{}

	// Handover makes the run continue an earlier one, and another one continue it. The zero
	// value does neither.
	Handover Handover

	// Verbose shows what the functions log as they log it.
	Verbose bool

	// Drain is how long an interrupted run finishes what it has accepted. 0 means 30 s.
	Drain time.Duration

	Out   io.Writer  // where the run is shown
	Live  bool       // Out is a terminal, on which lines can be overwritten
	Width func() int // of the terminal, in cells; nil means unknown
}

// Run serves until ctx ends. It then accepts no more webhooks and finishes those that
// it has accepted, until hurry ends.
func Run(ctx, hurry context.Context, cfg Config) error {
	screen := console.Config{Out: cfg.Out, Live: cfg.Live, Width: cfg.Width}
	r := &run{cfg: cfg, terminal: newTerminal(screen, cfg.Verbose)}
	r.log = slog.New(r.terminal)
	defer r.close()
	if err := r.load(); err != nil {
		return err
	}
	if err := r.authenticate(); err != nil {
		return err
	}
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
	settings               []string // the environment variables that were set

	token      string             // random, for this run
	own        *vapiauth.Verifier // of the token
	forget     func()             // removes the stored token; nil means that it is not stored
	credential string             // of webhooks, as in WEBHOOK_AUTH
	public     *url.URL           // nil means none

	pipeline  *pipeline.Pipeline
	replayKey *memkey.Envelope
	plans     []vapiauth.Plan
	encrypted map[string][]string // the arguments that Vapi would encrypt, by tool
	calls     *controlClient
	seller    *slowshop.Shop
	tools     *asynctool.Set
	missing   map[string][]string       // the settings that tools lack
	invalid   []*asynctool.SettingError // the settings that tools cannot work with

	toolSettings map[string]string // those that tools have, by name; some are secrets
	spans        *otlp.Provider    // nil means that they are not exported
	live         liveCalls
	keys         string // of completion tokens, as in COMPLETION_KEYS
	before       *saved // what the run before has left; nil means none

	memory  memory
	page    *page.Page
	session *page.Session
}

// authenticate prepares the credentials of the run.
func (r *run) authenticate() (err error) {
	r.token, r.keys = guard.NewToken(), fmt.Sprintf(`{"current":%q}`, rand.Text()+rand.Text())
	if r.before != nil {
		r.token, r.keys = r.before.Token, r.before.CompletionKeys
	}
	if r.own, err = vapiauth.NewVerifier(vapiauth.Plan{Type: "bearer", Token: r.token}); err != nil {
		return err
	}
	r.credential = cmp.Or(r.cfg.Auth, fmt.Sprintf(`{"type":"bearer","token":%q}`, r.token))
	if r.plans, err = vapiauth.ParsePlans([]byte(r.credential)); err != nil {
		return fmt.Errorf("--auth: %w", err)
	}
	for _, p := range r.plans {
		if err := p.CheckLength(); err != nil {
			return fmt.Errorf("--auth: %w", err)
		}
	}
	if r.cfg.PublicURL != "" {
		r.public, err = url.Parse(strings.TrimSuffix(r.cfg.PublicURL, "/"))
		if err != nil || r.public.Scheme != "https" && r.public.Scheme != "http" || r.public.Host == "" ||
			r.public.User != nil || r.public.Path != "" || r.public.RawQuery != "" || r.public.Fragment != "" {
			return errors.New("--public-url must have the form https://host")
		}
		if r.unverified() {
			return errors.New("anyone could run the tools at --public-url; set a credential with --auth")
		}
	}
	return nil
}

// unverified reports whether the user has switched the verification of webhooks off.
func (r *run) unverified() bool { return r.plans[0].Type == "none" }

func (r *run) listen() error {
	addr, err := net.ResolveTCPAddr("tcp", r.cfg.Addr)
	if err == nil && !addr.IP.IsLoopback() && (r.cfg.Auth == "" || r.unverified()) {
		return fmt.Errorf("other machines can reach %s; set a credential with --auth, "+
			"or choose a loopback address with --addr", r.cfg.Addr)
	}
	if err == nil {
		r.gateway, err = net.ListenTCP("tcp", addr)
	}
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is in use; stop the program that listens there, or choose another address with --addr",
				r.cfg.Addr)
		}
		return fmt.Errorf("cannot listen on %s: %w", r.cfg.Addr, err)
	}
	if r.control, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("cannot serve the simulated call: %w", err)
	}
	if r.shop, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("cannot serve the simulated shop: %w", err)
	}
	if r.forget, err = guard.Store(r.address(), r.token); err != nil {
		r.log.Warn("other commands cannot find this run", "error", err)
	}
	return nil
}

func (r *run) assemble() error {
	// Variables that are set already take precedence over the simulated shop.
	shop := "http://" + r.shop.Addr().String()
	r.seller = slowshop.Handler(r.cfg.ShopDelay)
	for name, value := range map[string]string{
		"ORDERS_API_URL": shop, "STOCK_API_URL": shop, "STOCK_API_TOKEN": "local", "REQUESTS_API_URL": shop,
	} {
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
	if r.tools, err = asynctool.NewSet(definitions...); err != nil {
		return err
	}
	r.encrypted, r.missing, r.invalid = r.tools.Encrypted(), r.tools.Missing(nil), r.tools.Invalid(nil)
	r.toolSettings = make(map[string]string)
	for _, tool := range r.tools.Entries() {
		for _, name := range tool.Settings {
			if value := os.Getenv(name); value != "" {
				r.toolSettings[name] = value
			}
		}
	}
	ended := func(callID string) bool { return r.pipeline.Calls.Ended(callID) }
	client, err := newControl("http://"+r.control.Addr().String()+"/"+r.token, r.cfg.PublicKey, ended)
	if err != nil {
		return err
	}
	r.calls = client
	results := "http://" + r.address() + deployment.CompletionPath
	public := results
	if r.public != nil {
		public = r.public.String() + deployment.CompletionPath
	}
	r.seller.Post(public, results)
	cfg := pipeline.Config{
		Tools:         r.tools,
		Credential:    r.credential,
		CompletionURL: public, CompletionKeys: r.keys,
		// A webhook that a person writes by hand is not encrypted.
		PlainArguments: true,
		CallLimits:     job.CallLimits{Jobs: deployment.MaxJobsPerCall, Concurrent: deployment.MaxConcurrentJobsPerCall},
		Received:       r.received,
		Log:            r.log,
		Decorators: pipeline.Decorators{
			Control: func(pipeline.ControlClient) pipeline.ControlClient { return client },
			Events:  func(pipeline.EventBus) pipeline.EventBus { return bus{r.terminal, client, &r.memory} },
		},
	}
	if r.spans, err = Spans(r.log); err != nil {
		return err
	}
	cfg.Tracer = r.spans.Tracer()
	if speed := time.Duration(r.cfg.Speed); speed > 1 {
		cfg.Waits = func(d time.Duration) time.Duration { return d / speed }
	}
	if cfg.ArgumentKey, err = r.argumentKey(); err != nil {
		return err
	}
	if r.replayKey, err = r.newReplayKey(); err != nil {
		return err
	}
	cfg.ReplayKey = r.replayKey
	if r.pipeline, err = pipeline.New(cfg); err != nil {
		return err
	}
	r.terminal.records = r.pipeline.Records.Records
	r.pipeline.Calls.Heard = func(callID string, m vapi.ControlMessage) {
		r.memory.heard(callID, m)
		r.terminal.heard(callID, m)
	}
	return nil
}

// Spans returns the provider of the spans of a program on this machine. It is nil if the environment does not say where
// they go.
func Spans(log *slog.Logger) (*otlp.Provider, error) {
	traces, err := env.ParseAs[deployment.Tracing]()
	if err != nil {
		return nil, fmt.Errorf("cannot export spans: %w", err)
	}
	spans, err := otlp.New(otlp.Config{Tracing: traces, Service: "ringback", Log: log})
	if err != nil {
		return nil, fmt.Errorf("cannot export spans: %w", err)
	}
	return spans, nil
}

// address returns the address at which this machine reaches the gateway.
func (r *run) address() string {
	at := r.gateway.Addr().(*net.TCPAddr)
	if at.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(at.Port))
	}
	return at.String()
}

func (r *run) serve(ctx, hurry context.Context) error {
	if err := r.restore(ctx); err != nil {
		return err
	}
	jobs, err := operator.New(operator.Config{
		Table: r.pipeline.Table, Calls: r.pipeline.Records, Outcomes: r.pipeline.Results, Jobs: r.pipeline.Jobs,
		Active: r.active, Log: r.log,
	})
	if err != nil {
		return err
	}
	customers, err := operator.NewCustomers(operator.CustomersConfig{
		Table: r.pipeline.Table, Lists: r.pipeline.Customers, Outcomes: r.pipeline.Results,
		Search: r.pipeline.Records.Search, Log: r.log,
		Copies: operator.CustomerCopies{
			Names: r.pipeline.Customers.ReplayNames, Search: r.pipeline.Records.ReplaysOf,
			Delete: r.pipeline.Records.Replays().Delete,
		},
	})
	if err != nil {
		return err
	}
	dead, err := operator.NewDead(operator.DeadConfig{
		Table:    r.pipeline.Table,
		DeadJobs: r.pipeline.DeadJobs.DeadLetters(), DeadResults: r.pipeline.DeadResults.DeadLetters(),
		Jobs: r.pipeline.Jobs, Results: r.pipeline.Results,
		LongJobs: r.pipeline.LongJobs, LongJobsName: r.pipeline.LongJobs.Name(), Log: r.log,
	})
	if err != nil {
		return err
	}
	replays, err := operator.NewReplays(operator.ReplaysConfig{
		Copies: r.pipeline.Records.Replays(), Opener: r.replayKey, Table: r.pipeline.Table,
		Jobs: r.pipeline.Jobs, LongJobs: r.pipeline.LongJobs, Results: r.pipeline.Results,
	})
	if err != nil {
		return err
	}
	front := http.NewServeMux()
	front.Handle("/replays/", operator.ReplayHandler(replays, r.toolSettings, r.token))
	for _, path := range []string{"/jobs", "/jobs/", "/calls", "/calls/", "/customers/"} {
		front.Handle(path, operator.Handler(jobs, customers, r.token))
	}
	for _, path := range []string{"/dead", "/dead/"} {
		front.Handle(path, operator.DeadHandler(dead, r.token))
	}
	front.Handle("GET "+operator.ProofPath, operator.ProofHandler(r.token))
	if err := r.servePage(front, jobs, replays, dead); err != nil {
		return err
	}
	if key := r.pipeline.ArgumentKey; key != nil {
		text, err := encryption.FormatPublicKey(key.Public())
		if err != nil {
			return err
		}
		front.HandleFunc("GET "+ArgumentKeyPath, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
	}
	front.Handle("/", r.identified(r.answered(r.pipeline.Front)))
	r.start("call", r.control, http.StripPrefix("/"+r.token, r.pipeline.Calls.Handler()))
	r.start("shop", r.shop, r.seller)
	r.start("gateway", r.gateway, front)

	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.pipeline.Run(working)
	}()
	watching, blind := context.WithCancel(context.WithoutCancel(ctx))
	defer blind()
	go r.terminal.watch(watching, r.pipeline.Records.Records)

	go r.hangUps(watching)

	r.welcome()
	r.lacking()
	// The demonstration ends at once if the run is to be handed over.
	playing, end := context.WithCancel(ctx)
	defer end()
	go func() {
		select {
		case <-r.cfg.Handover.Requested:
			end()
		case <-playing.Done():
		}
	}()
	if r.cfg.Demo != nil {
		if err := r.demonstrate(playing); err != nil && playing.Err() == nil {
			return err
		}
	}
	if r.cfg.Try != "" && r.before == nil && playing.Err() == nil {
		r.proposes()
	}
	select {
	case <-ctx.Done():
		return r.drain(hurry, stop, stopped)
	case <-r.cfg.Handover.Requested:
		return r.handOver(ctx, stop, stopped)
	}
}

func (r *run) welcome() {
	began := "Ringback is listening:"
	if r.before != nil {
		began = "Restarted, with all jobs and calls:"
	}
	r.terminal.Print(nil, nil, console.Text{Text: began, Paint: bold},
		console.Plain(fmt.Sprintf("  http://%s/vapi", r.gateway.Addr())))
	if r.before == nil && guard.IsLoopback(r.address()[:strings.LastIndexByte(r.address(), ':')]) {
		r.terminal.Print(nil, nil, console.Text{Text: "See calls and jobs in a browser:", Paint: bold},
			console.Plain(fmt.Sprintf("  http://%s%s", r.address(), r.session.Link())))
	}
	switch {
	case r.before != nil: // what follows has not changed
		r.terminal.say("")
		return
	case r.unverified():
		r.terminal.Print(nil, nil, console.Text{
			Text: "Webhooks are not verified: anyone who reaches this address can run the tools.", Paint: warning,
		})
	case r.cfg.Auth == "" && r.forget != nil:
		r.terminal.say("Webhooks need the token of this run, which ringback call and send find by themselves.")
	}
	if len(r.encrypted) > 0 {
		r.terminal.say("ringback call and send encrypt arguments as Vapi does. The key is at http://%s%s. Plain ones are accepted, too.",
			r.gateway.Addr(), ArgumentKeyPath)
	}
	r.terminal.say("")
}

// lacking shows the tools that cannot work, because their settings are missing or invalid.
func (r *run) lacking() {
	for _, wrong := range r.invalid {
		r.terminal.Print(nil, nil, console.Text{Paint: warning, Text: fmt.Sprintf("%v. Correct it in the environment, or in "+
			"the file .env.", wrong)}, console.Plain("\n"))
	}
	for _, tool := range r.tools.Entries() {
		if names := r.missing[tool.Name]; names != nil {
			r.terminal.Print(nil, nil, console.Text{Paint: warning, Text: fmt.Sprintf("%s cannot work: the environment lacks "+
				"%s. Set it there, or in the file .env.", tool.Name, strings.Join(names, " and "))}, console.Plain("\n"))
		}
	}
}

// received shows the tool calls of a verified webhook, and admits its control URL.
func (r *run) received(ctx context.Context, m vapi.Message) {
	if !r.unverified() || ctx.Value(identifiedKey{}) != nil {
		r.calls.admit(m.Call.ControlURL)
	}
	r.live.received(m)
	simulated, _ := located(m.Call.ControlURL)
	local := r.calls.onThisMachine(m.Call)
	for i, t := range m.ToolCalls {
		r.terminal.called(r.terminal.add(m, i, simulated), t, local)
		if local {
			r.memory.called(ack.JobID(m.Call.ID, t, i), page.ToolCall{Arguments: t.Arguments, Number: m.Call.CustomerNumber})
		}
	}
	if e, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		e.message, e.local = m, local
	}
}

type exchangeKey struct{}

// exchange is a webhook with its answer. It records the answer.
type exchange struct {
	http.ResponseWriter
	message vapi.Message
	local   bool // the call is on this machine
	answer  bytes.Buffer
}

func (e *exchange) Write(p []byte) (int, error) {
	e.answer.Write(p)
	return e.ResponseWriter.Write(p)
}

// answered shows the answers to webhooks.
func (r *run) answered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		began, e := time.Now(), &exchange{ResponseWriter: w}
		next.ServeHTTP(e, request.WithContext(context.WithValue(request.Context(), exchangeKey{}, e)))
		r.terminal.answered(e.message, e.local, time.Since(began), e.answer.Bytes())
	})
}

// active returns the jobs that run or wait.
func (r *run) active(_ context.Context, most int) (jobs []job.Summary, all bool, err error) {
	for _, record := range r.pipeline.Records.Records() {
		switch {
		case !slices.Contains(job.Unsettled(), record.State):
		case len(jobs) == most:
			return jobs, false, nil
		default:
			jobs = append(jobs, record.Summary())
		}
	}
	return jobs, true, nil
}

// start serves h behind the guard.
func (r *run) start(name string, l net.Listener, h http.Handler) {
	g := guard.Guard{Refused: func(request *http.Request, reason error) {
		r.log.WarnContext(request.Context(), "request refused", "listener", name, "error", reason)
	}}
	if l == r.gateway {
		g.Public, g.AnyType = r.public, r.isCompletion
	}
	s := &http.Server{
		Addr: l.Addr().String(), Handler: g.Handler(h), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(r.terminal, slog.LevelWarn),
	}
	r.servers = append(r.servers, s)
	go s.Serve(l)
}

// isCompletion reports whether a request is to a completion URL of the run. Services post forms there, and XML. A web
// page cannot send such a request, since it does not know the token.
func (r *run) isCompletion(request *http.Request) bool {
	token, ok := strings.CutPrefix(request.URL.Path, deployment.CompletionPath)
	return ok && r.pipeline.IsCompletion(request.Context(), token)
}

func (r *run) close() {
	for _, name := range r.settings {
		os.Unsetenv(name)
	}
	if r.forget != nil {
		r.forget()
	}
	for _, s := range r.servers {
		s.Close()
	}
	if r.seller != nil {
		r.seller.Close()
	}
	r.spans.Shutdown(context.Background())
	for _, l := range []net.Listener{r.gateway, r.control, r.shop} {
		if l != nil {
			l.Close()
		}
	}
}

// bus shows events of undelivered results on the terminal.
type bus struct {
	terminal *terminal
	calls    *controlClient
	memory   *memory
}

func (b bus) SendUndelivered(_ context.Context, u job.Undelivered) error {
	b.memory.undelivered(u)
	b.terminal.undelivered(u, b.calls.known(u.CallID))
	return nil
}
