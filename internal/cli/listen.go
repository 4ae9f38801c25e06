package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/processing"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/internal/console"
	"github.com/ringback/ringback/internal/deployment/listen"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/tracing/otlp"
)

type listenCommand struct {
	Stack string `help:"Run the tools of this stack, which was deployed with listen=true. ${account}" placeholder:"NAME" required:""`

	Breakpoints time.Duration `help:"Let a tool stand in a breakpoint for this long. A killed listener's jobs return as much later." default:"10m" placeholder:"DURATION"`

	Watch   bool `help:"Build and start again after each change of the code."`
	Verbose bool `help:"Show what the process function would log, with all attributes."`
}

// Help returns the text above the flags.
func (listenCommand) Help() string {
	return `Examples:

  ringback listen --stack Ringback-dev
  ringback listen --stack Ringback-dev --breakpoints 0s
  go run ./cmd/ringback listen --stack Ringback-dev --watch
  dlv debug ./cmd/ringback -- listen --stack Ringback-dev

A stage that was deployed with the setting listen=true has no function that runs tools. Its jobs wait on their queues,
for at most four days, until this command receives them. It runs the tools of the current project, with this machine's
environment and .env, and your AWS credentials. Everything else is deployed: webhooks, queues, table, schedules and
delivery. Other stacks are refused, and never changed.

Several listeners share the jobs. A tool that fails is tried again as in a deployment.

A debugger stops the whole process, so nothing renews a lease while a tool stands in a breakpoint. Leases and timeouts
are therefore longer by --breakpoints. After that time the attempt has failed, and another listener may begin the next
one. If the listener is killed, its jobs return after their leases. With 0s, leases and timeouts are those of the
function.

Ctrl-C waits for running tools, for 30 seconds at most. What is not finished then returns to its queue.

OTEL_EXPORTER_OTLP_ENDPOINT sends the spans of the tools to a collector. The environment or .env has it.

The help of the setting, and the permissions that you need, are in docs/deploy.md.`
}

// Run runs the command.
func (c *listenCommand) Run(s *streams, tools Tools, line commandLine) error {
	if c.Breakpoints < 0 || c.Breakpoints > maxBreakpoints {
		return fmt.Errorf("--breakpoints is %s; it must be between 0s and %s", c.Breakpoints, maxBreakpoints)
	}
	if c.Watch {
		return watch(s, line)
	}
	set, err := tools.set()
	if err != nil {
		return err
	}
	first, second, stop := c.interrupts()
	defer stop()
	account, stage, err := c.read(first, s)
	if err != nil {
		return err
	}
	e, err := stage.Process()
	if err != nil {
		return fmt.Errorf("the stack %s was deployed by another version, and lacks something: %w", c.Stack, err)
	}
	if len(set.Encrypted()) > 0 && e.ArgumentKeyARN == "" {
		return fmt.Errorf("the stack %s has no key for the encrypted arguments of the tools; deploy the tools first",
			c.Stack)
	}
	table := account.Copy()
	table.RetryMaxAttempts = 6 // as the function: a result that cannot be stored is work lost
	secrets, err := secretsConfig(first, account)
	if err != nil {
		return err
	}
	clients := processing.Clients{SQS: account, DynamoDB: table, SecretsManager: secrets, Scheduler: account, KMS: account}
	var spans *otlp.Provider
	defer func() { spans.Shutdown(context.Background()) }()
	handler := func(log *slog.Logger) (dev.Handle, time.Duration, error) {
		if spans, err = dev.Spans(log); err != nil {
			return nil, 0, err
		}
		cfg, err := processing.Config(e, set, clients, log)
		if err != nil {
			return nil, 0, err
		}
		cfg.Breakpoints, cfg.Tracer = c.Breakpoints, spans.Tracer()
		h, err := process.New(cfg)
		if err != nil {
			return nil, 0, err
		}
		return h.Handle, h.Recovery(), nil
	}
	queues := sqs.NewFromConfig(account)
	sources := []dev.Source{source{sqsqueue.NewSource(queues, e.JobsQueueURL, e.JobsQueueARN)}}
	if e.LongJobsQueueURL != "" {
		sources = append(sources, source{sqsqueue.NewSource(queues, e.LongJobsQueueURL, e.LongJobsQueueARN)})
	}
	on := console.On(s.Out)
	return dev.Listen(first, second, dev.ListenConfig{
		Stack: c.Stack, Sources: sources, Notes: notes(stage, set), Handler: handler, Breakpoints: c.Breakpoints,
		Timeout: queue.LimitsFor(set.MaxTimeout(), set.MaxAttempts()).ProcessTimeout + c.Breakpoints,
		Verbose: c.Verbose, Out: s.Out, Live: on.Live, Width: on.Width,
	})
}

// read reads what the stack says to listeners. It returns an error if a function runs the tools.
func (c *listenCommand) read(ctx context.Context, s *streams) (aws.Config, listen.Stage, error) {
	p := startProgress(s.Err)
	defer p.stop()
	p.set("reading the stack " + c.Stack)
	account, err := awsConfig(ctx)
	if err != nil {
		return account, listen.Stage{}, err
	}
	deployed := stack.New(account, c.Stack)
	stage, ok, err := deployed.Listen(ctx)
	if err != nil || ok {
		return account, stage, err
	}
	if _, err := deployed.Jobs(ctx); err != nil { // another program's stack
		return account, stage, err
	}
	return account, stage, fmt.Errorf("a function runs the tools of the stack %s; listen is for a stage that was "+
		"deployed with listen=true", c.Stack)
}

// listenWith returns the command that runs the tools of a stack.
func listenWith(stack string) string { return program() + " listen --stack " + stack }

// maxBreakpoints is far below the 12 hours for which SQS hides a message at most.
const maxBreakpoints = 8 * time.Hour

// interrupts returns two contexts: see [interrupted]. A listener that is being watched also ends its work if it is to
// be replaced: the next one receives the jobs.
func (c *listenCommand) interrupts() (first, second context.Context, stop func()) {
	if os.Getenv(stateVariable) == "" {
		return interrupted()
	}
	requested, first, second, stop := beingWatched()
	first, end := context.WithCancel(first)
	go func() {
		select {
		case <-requested:
			end()
		case <-first.Done():
		}
	}()
	return first, second, stop
}

// notes returns what a developer should know before the first job: how the tools differ from those that were deployed,
// and the settings that they lack here, or cannot use.
func notes(stage listen.Stage, set *asynctool.Set) (texts []string) {
	if differences := stage.Differences(set); len(differences) > 0 {
		texts = append(texts, "The stage was deployed with other tools: "+strings.Join(differences, "; ")+
			". Here they run as they are now. How long answers wait, which queue a job takes and how often it is received "+
			"follow from the deployed ones until you deploy again.")
	}
	missing := set.Missing(nil)
	for _, tool := range set.Entries() {
		if names := missing[tool.Name]; names != nil {
			texts = append(texts, fmt.Sprintf("%s cannot work: the environment lacks %s. Set it there, or in the file .env.",
				tool.Name, strings.Join(names, " and ")))
		}
	}
	for _, wrong := range set.Invalid(nil) {
		texts = append(texts, fmt.Sprintf("%v. Correct it in the environment, or in the file .env.", wrong))
	}
	return texts
}

// source is a source whose errors are for a person.
type source struct{ *sqsqueue.Source }

// Receive implements [dev.Source].
func (s source) Receive(ctx context.Context, most int) ([]events.SQSMessage, error) {
	messages, err := s.Source.Receive(ctx, most)
	if answered, ok := errors.AsType[smithy.APIError](err); ok {
		err = fmt.Errorf("cannot receive jobs: %s: %s (check AWS_PROFILE and AWS_REGION, and your permissions)",
			answered.ErrorCode(), answered.ErrorMessage())
	}
	return messages, err
}
