package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/kmskey"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
)

type jobsReplayCommand struct {
	jobsFlags

	ID      string        `arg:"" help:"The id of the job, as in the list."`
	Edit    bool          `help:"Edit the arguments first, in $$EDITOR."`
	There   bool          `help:"Run the tool in the deployment or the local run, and not in this program."`
	Deliver bool          `help:"Deliver the result in the real call. Without it, the customer does not hear of the replay."`
	SameKey bool          `help:"Give the tool the idempotency key of the original. Not with --there."`
	Timeout time.Duration `help:"How long the tool may run in this program. Default: its own timeout." placeholder:"DURATION"`
	Wait    time.Duration `help:"With --there, wait at most this long for the result. Default: 3m, or longer for a long tool." placeholder:"DURATION"`
	Yes     bool          `help:"Run a tool that must not run twice without asking."`
	JSON    bool          `name:"json" help:"Print each event as a line of JSON."`
}

// Help returns the text above the flags.
func (jobsReplayCommand) Help() string {
	return `The command runs the tool of a job again, with the arguments that the assistant sent, and prints the result.
The tool runs in this program, with the settings of this environment. So it can run under a debugger, with a long
--timeout. With --local, what is not set here comes from the local run. --there runs the tool where the job ran. The
tool gets a new idempotency key, which begins with j_replay, unless --same-key is set. Its service takes the replay for
a new request then.

In this program, the result goes to a simulated call, whose control messages are printed. With --there, it stays in the
record of the replay, and the tool does not get the customer's number. With --deliver, the result is delivered in the
real call. If that has ended, the tool's after-call policy decides.

With --there, the command waits for the result. If it does not come within --wait, or you press Ctrl-C, the replay goes
on, and ringback jobs show prints what happened to it.

A tool with one attempt must not run twice. The command asks before it runs such a tool, or needs --yes.

The arguments must be stored. A local run stores them for a day. A deployment does with the setting
argumentRetentionDays. It needs AWS permissions to read the stack and the table (dynamodb:GetItem), and kms:Decrypt on
the key ReplayKeyArn in the outputs. --there also needs sqs:SendMessage on the jobs queues, and --deliver
dynamodb:PutItem, and sqs:SendMessage on the results queue.

The exit code is 1 if the tool failed, or if there is no result in time.

Examples:

  ringback jobs replay --local j_2e3fewggk5quojhw4hyicz4mxm
  ringback jobs replay --stack Ringback j_wbzzis5k5mqlhhm7b5jav65luv --edit
  ringback jobs replay --stack Ringback j_wbzzis5k5mqlhhm7b5jav65luv --there --deliver`
}

// replays is implemented by a deployment and by the local run.
type replays interface {
	Original(ctx context.Context, id string) (job.Job, error)
	Start(ctx context.Context, j job.Job, long bool) error
	Deliver(ctx context.Context, j job.Job, done job.Record) error
}

// Run runs the command.
func (c *jobsReplayCommand) Run(s *streams, tools Tools) error {
	switch {
	case c.Timeout < 0 || c.Timeout > 0 && c.There:
		return errors.New("--timeout must be positive, and is not for --there")
	case c.Wait < 0 || c.Wait > 0 && !c.There:
		return errors.New("--wait must be positive, and is for --there")
	case c.SameKey && c.There:
		return errors.New("--same-key is not for --there: the deployment has a record of the original")
	}
	ctx, _, stop := interrupted()
	defer stop()
	p := startProgress(s.Err)
	defer p.stop()
	from, err := c.openReplays(ctx, p)
	if err != nil {
		return err
	}
	var adopted []string
	if run, ok := from.(*operator.LocalReplays); ok && !c.There {
		if adopted, err = adopt(ctx, run); err != nil {
			return err
		}
	}
	if c.Local {
		tools = (&devCommand{}).tools(tools) // the job may be of the demonstration
	}
	set, err := tools.set()
	if err != nil {
		return err
	}
	p.set("reading the arguments")
	original, err := from.Original(ctx, c.ID)
	p.set("")
	switch {
	case errors.Is(err, operator.ErrNoArguments) && c.Local:
		return fmt.Errorf("the arguments of the job %q are not stored: its tool did not start, or did so more than a day ago",
			c.ID)
	case errors.Is(err, operator.ErrNoArguments):
		return fmt.Errorf("the arguments of the job %q are not stored: they have expired, or its tool did not start, "+
			"or argumentRetentionDays was not set then", c.ID)
	case errors.Is(err, jobtable.ErrNotFound):
		return noSuchJob(c.ID)
	case err != nil:
		return err
	}
	tool, ok := set.Lookup(original.Tool)
	if !ok {
		return fmt.Errorf("there is no tool %q in this program; the tools are %s", original.Tool, names(set))
	}
	arguments := original.Arguments
	if len(tool.Encrypted) > 0 && !c.There && !c.Edit {
		return fmt.Errorf("arguments of %s are encrypted, and only the process function can decrypt them; "+
			"use --there, or write them with --edit", tool.Name)
	}
	if missing := set.Missing(nil)[tool.Name]; len(missing) > 0 && !c.There {
		return fmt.Errorf("nothing was run: %s needs %s, which this environment lacks; "+
			"set it here or in .env, or use --there", tool.Name, strings.Join(missing, " and "))
	}
	for _, name := range tool.Settings {
		if slices.Contains(adopted, name) {
			fmt.Fprintf(s.Err, "%s is that of the local run.\n", name)
		}
	}
	if c.Edit {
		if arguments, err = edit(ctx, arguments); err != nil {
			return err
		}
	}
	if err := c.agreed(ctx, s, tool); err != nil {
		return err
	}
	next := original.Replay(time.Now(), arguments)
	if c.There {
		return c.start(ctx, s, p, from, next, tool)
	}
	done, err := c.here(ctx, s, set, tool, original, next)
	if err != nil || !c.Deliver {
		return err
	}
	if err := from.Deliver(ctx, next, done); err != nil {
		return fmt.Errorf("cannot deliver the result: %w", err)
	}
	fmt.Fprintf(s.Err, "The result is delivered as that of the job %s.\n", next.ID)
	return nil
}

// adopt sets the settings of a local run that this environment lacks, and returns their names.
func adopt(ctx context.Context, run *operator.LocalReplays) (adopted []string, err error) {
	settings, err := run.Settings(ctx)
	for name, value := range settings {
		if strings.TrimSpace(os.Getenv(name)) == "" {
			err = errors.Join(err, os.Setenv(name, value))
			adopted = append(adopted, name)
		}
	}
	return adopted, err
}

// openReplays returns the replays of the deployment or the local run.
func (f *jobsFlags) openReplays(ctx context.Context, p *progress) (replays, error) {
	if f.Local {
		l, err := f.local()
		if err != nil {
			return nil, err
		}
		return l.Replays(), nil
	}
	return f.deployedReplays(ctx, p)
}

// deployedReplays returns the replays of the deployment.
func (f *jobsFlags) deployedReplays(ctx context.Context, p *progress) (*operator.Replays, error) {
	cfg, selected, err := f.selected(ctx, p)
	if err != nil {
		return nil, err
	}
	at, err := selected.Replays(ctx)
	if err != nil {
		return nil, err
	}
	store := dynamotable.New(dynamodb.NewFromConfig(cfg), at.Table)
	queues := sqs.NewFromConfig(cfg)
	r := operator.ReplaysConfig{
		Copies: store.Replays(), Opener: kmskey.NewEnvelope(kms.NewFromConfig(cfg), at.Key), Table: jobtable.New(store),
		Jobs: sqsqueue.New(queues, at.JobsQueue), Results: sqsqueue.New(queues, at.ResultsQueue),
	}
	if at.LongJobsQueue != "" {
		r.LongJobs = sqsqueue.New(queues, at.LongJobsQueue)
	}
	return operator.NewReplays(r)
}

// agreed asks before a tool runs that must not run twice. It returns an error if it must not run.
func (c *jobsReplayCommand) agreed(ctx context.Context, s *streams, tool *asynctool.Entry) error {
	if tool.Attempts > 1 || c.Yes {
		return nil
	}
	question := tool.Name + " has one attempt, so it must not run twice. Run it again?"
	yes, err := confirm(ctx, os.Stdin, s.Err, question)
	switch {
	case errors.Is(err, errNoTerminal):
		return fmt.Errorf("nothing was run: %s has one attempt, so it must not run twice; use --yes to run it", tool.Name)
	case err != nil:
		return fmt.Errorf("nothing was run: %w", err)
	case !yes:
		return errors.New("nothing was run")
	}
	return nil
}

// start runs the tool where the job ran, and prints what happens.
func (c *jobsReplayCommand) start(
	ctx context.Context, s *streams, p *progress, from replays, next job.Job, tool *asynctool.Entry,
) error {
	shown := job.CallHash(next.Call.ID)
	if !c.Deliver {
		next = next.WithoutCustomer()
		shown = next.Call.ID
	}
	there, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	p.set("")
	t := &trial{
		tool: tool, call: new(simulated), jobs: there, every: everyDeployed, place: c.place(),
		jobID: next.ID, toolCallID: next.ToolCallID, report: report{out: s.Out, json: c.JSON},
	}
	if c.Local {
		t.every = everyLocal
	}
	if err := from.Start(ctx, next, tool.Timeout > queue.LongTool); err != nil {
		return err
	}
	t.report.show(event{
		Event: "call", CallID: shown, ToolCallID: next.ToolCallID, JobID: next.ID, Tool: next.Tool,
		Arguments: next.Arguments,
	})
	t.report.began = time.Now()
	patience := cmp.Or(c.Wait, patienceFor(tool))
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err = t.watch(bounded, nil); bounded.Err() != nil {
		what := "interrupted"
		if ctx.Err() == nil {
			what = "no result within " + patience.String()
		}
		return errors.New(what + "; the replay goes on" + t.hint())
	}
	return err
}

// here runs the tool in this program, in a simulated call, and prints what happens. It returns the record of the job.
func (c *jobsReplayCommand) here(
	ctx context.Context, s *streams, set *asynctool.Set, tool *asynctool.Entry, original, next job.Job,
) (job.Record, error) {
	if c.Timeout > 0 {
		tool.Timeout = c.Timeout
	}
	run := next.WithoutCall()
	run.Call.ControlURL = "https://simulated.invalid/" + run.Call.ID + "/control"
	run.CallEnds = run.ReceivedAt.Add(max(run.CallEnds.Sub(run.ReceivedAt), 24*time.Hour))
	if c.SameKey {
		run.ID = original.ID
	}
	body, err := run.Encode()
	if err == nil {
		_, err = job.Decode(body) // an earlier version's id does not fit another call
	}
	if err != nil {
		return job.Record{}, err
	}
	// What the functions log is of no interest here.
	var refused atomic.Bool // a completion URL
	p, err := pipeline.New(pipeline.Config{
		Tools: set, PlainArguments: true, Log: slog.New(slog.DiscardHandler),
		Decorators: pipeline.Decorators{Host: func(own asynctool.Host) asynctool.Host {
			return replayHost{own.(asynctool.Reporter), &refused}
		}},
	})
	if err != nil {
		return job.Record{}, err
	}
	heard := make(chan vapi.ControlMessage, 1024)
	p.Calls.Heard = func(_ string, m vapi.ControlMessage) { heard <- m }
	p.Calls.Begin(vapi.Call{ID: run.Call.ID, ControlURL: run.Call.ControlURL, Type: run.Call.Type})
	near, err := operator.New(operator.Config{
		Table: p.Table, Calls: p.Records, Outcomes: p.Results, Jobs: p.Jobs,
		Active: func(context.Context, int) ([]job.Summary, bool, error) { return nil, true, nil },
	})
	if err == nil {
		err = errors.Join(p.Jobs.Send(ctx, []queue.Message{{Body: body}})...)
	}
	if err != nil {
		return job.Record{}, err
	}
	t := &trial{
		tool: tool, call: &simulated{id: run.Call.ID, calls: p.Calls, heard: heard}, reachable: true, jobs: near,
		every: 20 * time.Millisecond, jobID: run.ID, toolCallID: run.ToolCallID, report: report{out: s.Out, json: c.JSON},
	}
	t.report.show(event{
		Event: "call", CallID: run.Call.ID, ToolCallID: run.ToolCallID, JobID: run.ID, Tool: run.Tool,
		Arguments: run.Arguments,
	})
	t.report.began = time.Now()
	working, stop := context.WithCancel(ctx)
	defer stop()
	go p.Run(working)
	if err := t.watch(ctx, nil); err != nil {
		switch {
		case ctx.Err() != nil:
			err = errors.New("interrupted; the tool may have done a part of its work")
		case refused.Load():
			err = fmt.Errorf("%w; a tool that leaves its job to an external system needs --there", err)
		}
		return job.Record{}, err
	}
	return p.Table.Load(ctx, run.ID)
}

// replayHost notes that a tool asked for a completion URL and got none. The process function's own host is an
// [asynctool.Reporter].
type replayHost struct {
	asynctool.Reporter
	refused *atomic.Bool
}

// CompletionURL implements [asynctool.Host].
func (h replayHost) CompletionURL(ctx context.Context) (string, error) {
	url, err := h.Reporter.CompletionURL(ctx)
	if errors.Is(err, process.ErrNoCompletionURL) {
		h.refused.Store(true)
	}
	return url, err
}

// edit lets the user edit arguments, and returns them.
func edit(ctx context.Context, arguments json.RawMessage) (json.RawMessage, error) {
	folder, err := os.MkdirTemp("", "ringback-")
	if err != nil {
		return nil, fmt.Errorf("cannot write the arguments to a file: %w", err)
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "arguments.json")
	var text bytes.Buffer
	if err := json.Indent(&text, arguments, "", "  "); err != nil {
		return nil, errors.New("the stored arguments are not JSON")
	}
	text.WriteByte('\n')
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the arguments to a file: %w", err)
	}
	editor := os.Getenv("EDITOR")
	if editor == "" {
		editor = "vi"
	}
	// EDITOR may have arguments of its own.
	command := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", file)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("nothing was run: the editor %s failed: %w", editor, err)
	}
	edited, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the edited arguments: %w", err)
	}
	var object map[string]any
	if err := json.Unmarshal(edited, &object); err != nil || object == nil {
		return nil, errors.New("nothing was run: the edited arguments are not a JSON object")
	}
	return json.RawMessage(compact(edited)), nil
}
