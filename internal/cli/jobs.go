package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/operator"
)

type jobsCommand struct {
	List   jobsListCommand   `cmd:"" help:"List the jobs that are not over, or those of a call."`
	Show   jobsShowCommand   `cmd:"" help:"Show what is known of a job."`
	Cancel jobsCancelCommand `cmd:"" help:"Cancel a job that is not over; the caller is told."`
}

// Help is shown above the flags.
func (jobsCommand) Help() string {
	return `With --stack it works on a deployment, with your own permissions in AWS: reading the stack and the jobs table, and for cancel also writing the table and sending to the results queue. With --local it works on the local run (ringback dev).

Examples:

  ringback jobs list --local
  ringback jobs list --stack Ringback --call 7420f27a-30fd-4f49-a995-5549ae7cc00d
  ringback jobs show --stack Ringback 7420f27a-30fd-4f49-a995-5549ae7cc00d/call_51kj
  ringback jobs cancel --stack Ringback 7420f27a-30fd-4f49-a995-5549ae7cc00d/call_51kj --reason "asked by mistake"`
}

// jobs are what an operator works on.
type jobs interface {
	List(ctx context.Context, callID string) (operator.List, error)
	Show(ctx context.Context, id string, data bool) (operator.Details, error)
	Cancel(ctx context.Context, id, reason string) (operator.Cancelled, error)
}

// jobsFlags say whose jobs are meant.
type jobsFlags struct {
	Stack string `help:"The CloudFormation stack. AWS_PROFILE and AWS_REGION say where." placeholder:"NAME" xor:"deployment"`
	Local bool   `help:"The local run on this machine." xor:"deployment"`
	Addr  string `help:"Where the local run listens, host:port. Default: 127.0.0.1 and $$PORT, or ${port}." placeholder:"HOST:PORT"`
}

func (f *jobsFlags) open(ctx context.Context, p *progress) (jobs, error) {
	switch {
	case f.Local:
		addr := f.Addr
		if addr == "" {
			addr = localAddr()
		}
		return operator.NewLocal(addr)
	case f.Addr != "":
		return nil, errors.New("--addr goes with --local")
	case f.Stack == "":
		return nil, errors.New("whose jobs? give --stack, or --local")
	}
	p.set("reading the stack " + f.Stack)
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("the AWS configuration cannot be read: %w", err)
	}
	table, results, err := stack.New(cfg, f.Stack).Jobs(ctx)
	if err != nil {
		return nil, err
	}
	client := dynamodb.NewFromConfig(cfg)
	return operator.New(operator.Config{
		Table:    jobtable.New(dynamotable.New(client, table)),
		Outcomes: sqsqueue.New(sqs.NewFromConfig(cfg), results),
		Active: func(ctx context.Context, most int) ([]job.Summary, bool, error) {
			return dynamotable.Active(ctx, client, table, most)
		},
	})
}

// do does something with the jobs that the flags mean.
func (f *jobsFlags) do(s *streams, what string, do func(ctx context.Context, j jobs) error) error {
	ctx, _, stop := interrupted()
	defer stop()
	p := startProgress(s.Err)
	defer p.stop()
	j, err := f.open(ctx, p)
	if err != nil {
		return err
	}
	p.set(what)
	return do(ctx, j)
}

type jobsListCommand struct {
	jobsFlags

	Call string `help:"All jobs of this call, those that are over as well." placeholder:"ID"`
	JSON bool   `name:"json" help:"Print the list as JSON."`
}

// Help is shown above the flags.
func (jobsListCommand) Help() string {
	return fmt.Sprintf(`The oldest job comes first. Since when it is there and until when it waits, at the latest, are told by the clock of this machine.

Without --call, the jobs that run or wait are listed, %d at most. In a deployment this reads the table's whole index, in which each job of the last 30 days has some hundred bytes: it takes a while where there are millions, and AWS bills the reading.

Examples:

  ringback jobs list --local
  ringback jobs list --stack Ringback
  ringback jobs list --stack Ringback --call 7420f27a-30fd-4f49-a995-5549ae7cc00d --json`, operator.MaxListed)
}

// Run runs the command.
func (c *jobsListCommand) Run(s *streams) error {
	return c.do(s, "reading the jobs", func(ctx context.Context, j jobs) error {
		list, err := j.List(ctx, c.Call)
		if err != nil {
			return err
		}
		if c.JSON {
			return asJSON(s.Out, list)
		}
		if len(list.Jobs) == 0 {
			fmt.Fprintln(s.Err, "There are none.")
			return nil
		}
		w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tTOOL\tSTATE\tSINCE\tWAITS UNTIL\tPROGRESS")
		for _, job := range list.Jobs {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", cell(job.ID), cell(job.Tool), cell(string(job.State)), clock(job.Created), clock(job.WakeAt), cell(job.Progress))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if !list.All {
			fmt.Fprintln(s.Err, "There are more. Those of a call are listed with --call.")
		}
		return nil
	})
}

type jobsShowCommand struct {
	jobsFlags

	ID   string `arg:"" help:"The job's id, as the list shows it: the call's id, a slash, the tool call's."`
	Data bool   `help:"Show also what was said: the arguments, where the record holds them, the state that the tool keeps, and the result."`
	JSON bool   `name:"json" help:"Print it as JSON."`
}

// Help is shown above the flags.
func (jobsShowCommand) Help() string {
	return `The call's control URL and the customer's number are not shown.

Examples:

  ringback jobs show --local demo-XKQ2WZ7A/call_A1042
  ringback jobs show --stack Ringback 7420f27a-30fd-4f49-a995-5549ae7cc00d/call_51kj --data --json`
}

// Run runs the command.
func (c *jobsShowCommand) Run(s *streams) error {
	return c.do(s, "reading the job", func(ctx context.Context, j jobs) error {
		d, err := j.Show(ctx, c.ID, c.Data)
		switch {
		case errors.Is(err, jobtable.ErrNotFound):
			return noSuchJob(c.ID)
		case err != nil:
			return err
		case c.JSON:
			return asJSON(s.Out, d)
		}
		w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
		line := func(name, value string) {
			if value != "" {
				fmt.Fprintf(w, "%s\t%s\n", name, cell(value))
			}
		}
		flag := func(name string, set bool) {
			if set {
				line(name, "yes")
			}
		}
		line("id", d.ID)
		line("tool", d.Tool)
		line("state", string(d.State))
		line("since", clock(d.Created))
		line("last change", clock(d.Updated))
		line("deadline", clock(d.Deadline))
		line("attempt", fmt.Sprint(d.Attempt))
		line("held until", clock(d.HeldUntil))
		line("waits until", clock(d.WakeAt))
		flag("waits for somebody outside", d.Outside)
		if d.Wakes > 0 {
			line("put to wait", fmt.Sprintf("%d times", d.Wakes))
		}
		line("progress", d.Progress)
		line("result", string(d.Status))
		flag("its attempts are used up", d.Exhausted)
		line("reason", d.Reason)
		line("after the call", d.AfterCall)
		line("told in the call", d.RevivedIn)
		if d.Data != nil {
			line("arguments", string(d.Data.Arguments))
			line("the tool's state", string(d.Data.State))
			line("result's text", d.Data.Result)
			line("control message", string(d.Data.Control))
		}
		return w.Flush()
	})
}

type jobsCancelCommand struct {
	jobsFlags

	ID     string `arg:"" help:"The job's id, as the list shows it."`
	Reason string `help:"Why, for whoever looks at the job later. The caller is not told." placeholder:"TEXT"`
}

// Help is shown above the flags.
func (jobsCancelCommand) Help() string {
	return `The caller is told that it was cancelled, as of any failure. A tool that runs has its context end within seconds, and what it comes to is not used; what it has done by then, it has done. Who posts the result of a job that waited for it is answered that the job is finished.

The exit code is 1 where the job was over already.

Examples:

  ringback jobs cancel --local demo-XKQ2WZ7A/call_A1042
  ringback jobs cancel --stack Ringback 7420f27a-30fd-4f49-a995-5549ae7cc00d/call_51kj --reason "asked by mistake"`
}

// Run runs the command.
func (c *jobsCancelCommand) Run(s *streams) error {
	return c.do(s, "cancelling the job", func(ctx context.Context, j jobs) error {
		done, err := j.Cancel(ctx, c.ID, c.Reason)
		finished, over := errors.AsType[*operator.FinishedError](err)
		switch {
		case errors.Is(err, jobtable.ErrNotFound):
			return noSuchJob(c.ID)
		case over:
			return fmt.Errorf("nothing was cancelled: the job is over already, its state is %s", finished.State)
		case err != nil:
			return err
		case done.ByFunction:
			fmt.Fprintln(s.Out, "Cancelled. Its tool is stopped within seconds, and the caller is told then.")
		default:
			fmt.Fprintln(s.Out, "Cancelled. The caller is told now.")
		}
		return nil
	})
}

func noSuchJob(id string) error {
	hint := "ringback jobs list shows the ids"
	if !strings.Contains(id, "/") {
		hint = "a job's id is the call's, a slash, and the tool call's"
	}
	return fmt.Errorf("there is no job %q, or it was forgotten; %s", id, hint)
}

func asJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// clock is a time by the clock on the wall; empty where there is none.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

// cell is a text on one line, and without what a terminal would obey: tools and
// models have a hand in it.
func cell(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)), " ")
}
