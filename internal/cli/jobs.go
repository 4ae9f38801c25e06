package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/operator"
)

type jobsCommand struct {
	List   jobsListCommand   `cmd:"" help:"List jobs: unfinished ones, those of a call, or those that failed."`
	Show   jobsShowCommand   `cmd:"" help:"Show a job, and what happened to it."`
	Cancel jobsCancelCommand `cmd:"" help:"Cancel an unfinished job. The caller learns of it."`
	Replay jobsReplayCommand `cmd:"" help:"Run the tool of a job again."`
}

// Help returns the text above the flags.
func (jobsCommand) Help() string {
	return `With --stack, the commands use a deployment. They need AWS permissions to read the stack and the jobs table,
and for cancel also to write to the table and to send to the jobs and results queues. With --local, they use the local
run (ringback dev).

Examples:

  ringback jobs list --local
  ringback jobs list --stack Ringback --failed --undelivered --since 1h
  ringback jobs show --stack Ringback j_wbzzis5k5mqlhhm7b5jav65luv
  ringback jobs cancel --stack Ringback j_wbzzis5k5mqlhhm7b5jav65luv --reason "asked by mistake"`
}

// jobs is implemented by a deployment and by the local run.
type jobs interface {
	calls
	List(ctx context.Context, call string) (operator.List, error)
	Search(ctx context.Context, f operator.Filter) (operator.Found, error)
	Show(ctx context.Context, id string, data bool) (operator.Details, error)
	Cancel(ctx context.Context, id, reason string) (operator.Cancelled, error)
}

// jobsFlags select a deployment or the local run.
type jobsFlags struct {
	Stack string `help:"Use the deployment in this CloudFormation stack. ${account}" placeholder:"NAME" xor:"deployment"`
	Local bool   `help:"Use the local run on this machine." xor:"deployment"`
	Addr  string `help:"The address of the local run. Default: 127.0.0.1, and $$PORT or ${port}." placeholder:"HOST:PORT"`

	listen bool // the jobs of the deployment wait for a listener
}

// place returns the flags, as a user types them for another command.
func (f *jobsFlags) place() string {
	if f.Local {
		return localPlace(f.address())
	}
	return "--stack " + f.Stack
}

// localPlace returns the flags that select the local run at an address.
func localPlace(addr string) string {
	if addr == localAddr() {
		return "--local"
	}
	return "--local --addr " + addr
}

// address returns the address of the local run.
func (f *jobsFlags) address() string { return cmp.Or(f.Addr, localAddr()) }

func (f *jobsFlags) open(ctx context.Context, p *progress) (jobs, error) {
	if f.Local {
		return f.local()
	}
	return f.opened(ctx, p)
}

// opened returns the jobs of the deployment.
func (f *jobsFlags) opened(ctx context.Context, p *progress) (*operator.Jobs, error) {
	cfg, at, err := f.deployed(ctx, p)
	if err != nil {
		return nil, err
	}
	f.listen = at.Listen
	client, queues := dynamodb.NewFromConfig(cfg), sqs.NewFromConfig(cfg)
	store := dynamotable.New(client, at.Table)
	return operator.New(operator.Config{
		Table:    jobtable.New(store),
		Calls:    store,
		Outcomes: sqsqueue.New(queues, at.ResultsQueue),
		Jobs:     sqsqueue.New(queues, at.JobsQueue),
		Active: func(ctx context.Context, most int) ([]job.Summary, bool, error) {
			return dynamotable.Active(ctx, client, at.Table, most)
		},
	})
}

// local returns the local run.
func (f *jobsFlags) local() (*operator.Local, error) {
	addr := f.address()
	token, err := guard.Token(addr)
	if err != nil {
		return nil, err
	}
	return operator.NewLocal(addr, token)
}

// deployed returns the places of the deployment.
func (f *jobsFlags) deployed(ctx context.Context, p *progress) (aws.Config, stack.Jobs, error) {
	cfg, selected, err := f.selected(ctx, p)
	if err != nil {
		return cfg, stack.Jobs{}, err
	}
	at, err := selected.Jobs(ctx)
	return cfg, at, err
}

// selected returns the stack that the flags select, and the account to read it with.
func (f *jobsFlags) selected(ctx context.Context, p *progress) (aws.Config, *stack.Stack, error) {
	if err := f.check(); err != nil {
		return aws.Config{}, nil, err
	}
	p.set("reading the stack " + f.Stack)
	cfg, err := awsConfig(ctx)
	return cfg, stack.New(cfg, f.Stack), err
}

// check returns an error if the flags select no deployment.
func (f *jobsFlags) check() error {
	switch {
	case f.Addr != "":
		return errors.New("--addr requires --local")
	case f.Stack == "":
		return errors.New("no deployment is selected; use --stack or --local")
	}
	return nil
}

// do calls a function with the jobs that the flags select. It shows step as progress.
func (f *jobsFlags) do(s *streams, step string, do func(ctx context.Context, j jobs) error) error {
	ctx, _, stop := interrupted()
	defer stop()
	p := startProgress(s.Err)
	defer p.stop()
	j, err := f.open(ctx, p)
	if err != nil {
		return err
	}
	p.set(step)
	return do(ctx, j)
}

type jobsListCommand struct {
	jobsFlags

	Call        string        `help:"List all jobs of this call, including the finished ones. Its name in ringback calls list, or its id at Vapi." placeholder:"CALL"`
	Since       time.Duration `help:"List the jobs of the calls of this time, such as 1h." placeholder:"TIME"`
	Tool        string        `help:"List only the jobs of this tool." placeholder:"NAME"`
	Failed      bool          `help:"List only the jobs that failed, and were not cancelled."`
	Undelivered bool          `help:"List only the jobs whose result was not delivered. With --failed, list both."`
	Follow      bool          `help:"Print each change of these jobs, until it is interrupted."`
	JSON        bool          `name:"json" help:"Print the list as JSON. With --follow, each line is a job."`
}

// Help returns the text above the flags.
func (jobsListCommand) Help() string {
	return fmt.Sprintf(`Times are in the time zone of this machine. A job waits no longer than until the time in the list.

Without a filter, the command lists the jobs that run or wait, and those whose result is not delivered yet: it is on its
way, or waits for the customer's next call. There are at most %[1]d, the oldest first. In a deployment, this reads the
whole index of the table, which has some hundred bytes for each job of the last 30 days. With millions of jobs, the
command takes a while, and AWS bills the reads.

With --call, it lists the jobs of a call, the oldest first, and says how the logs name the call. They do not contain its
id. The name is also that in ringback calls list, and is searched for among the newest 10,000 calls.

With --since, --tool, --failed or --undelivered, it lists jobs that have ended, too, the newest first. It searches the
jobs of the calls since then, or in the last 24 hours: at most %[1]d jobs of the newest calls. It says how many it has
searched. A call is found from its first job on: see ringback calls list.

With --follow, it repeats the search every few seconds, of the calls in the last hour unless --since says more, and
prints the jobs that have changed.

Examples:

  ringback jobs list --local
  ringback jobs list --stack Ringback --failed --undelivered --since 1h
  ringback jobs list --stack Ringback --call 2e7d2c03a9507ae2
  ringback jobs list --stack Ringback --call 7420f27a-30fd-4f49-a995-5549ae7cc00d --json
  ringback jobs list --local --follow`, operator.MaxListed)
}

// Run runs the command.
func (c *jobsListCommand) Run(s *streams) error {
	if c.Since < 0 {
		return errors.New("--since is negative; use a time such as 1h")
	}
	if c.Follow {
		return c.follow(s)
	}
	return c.do(s, "reading the jobs", func(ctx context.Context, j jobs) error {
		if c.Call == "" && (c.Since > 0 || c.Tool != "" || c.Failed || c.Undelivered) {
			return c.search(ctx, s, j)
		}
		list, err := j.List(ctx, c.Call)
		if errors.Is(err, jobtable.ErrNotFound) {
			return noSuchCall(c.Call)
		}
		if err != nil {
			return err
		}
		list.Jobs = slices.DeleteFunc(list.Jobs, func(x operator.Job) bool { return !c.filter(time.Time{}).Selects(x) })
		if c.JSON {
			return asJSON(s.Out, list)
		}
		if list.Call != "" {
			fmt.Fprintf(s.Err, "In the logs, this call is call=%s.\n", cell(list.Call))
		}
		c.mentionListener(s)
		if err := showJobs(s, list.Jobs); err != nil {
			return err
		}
		if !list.All {
			text := "There are more jobs. Use --call to list those of a call."
			if c.Call != "" {
				text = c.more()
			}
			fmt.Fprintln(s.Err, text)
		}
		return nil
	})
}

func (c *jobsListCommand) filter(since time.Time) operator.Filter {
	return operator.Filter{Since: since, Tool: c.Tool, Failed: c.Failed, Undelivered: c.Undelivered}
}

// mentionListener says why a job of the stack may be missing.
func (c *jobsListCommand) mentionListener(s *streams) {
	if c.listen {
		fmt.Fprintf(s.Err, "No function runs the tools of this stack. A job is listed once %s has received it.\n",
			listenWith(c.Stack))
	}
}

// search lists the jobs of a time.
func (c *jobsListCommand) search(ctx context.Context, s *streams, j jobs) error {
	found, err := j.Search(ctx, c.filter(time.Now().Add(-cmp.Or(c.Since, 24*time.Hour))))
	if err != nil {
		return err
	}
	if c.JSON {
		return asJSON(s.Out, found)
	}
	c.mentionListener(s)
	if err := showJobs(s, found.Jobs); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "Searched: %d jobs of the calls since %s.\n", found.Loaded, clock(found.Since))
	if !found.All {
		fmt.Fprintln(s.Err, c.more())
	}
	return nil
}

// more says that jobs are missing.
func (c *jobsListCommand) more() string {
	if c.Call != "" {
		return fmt.Sprintf("The call has more jobs. The command reads the newest %d.", jobtable.MaxOfCall)
	}
	return fmt.Sprintf("There are more jobs. The command searches the newest %d. Use a shorter --since.",
		operator.MaxListed)
}

// followPause is the time between two searches. A search of a deployment costs a query for each call.
const followPause = 3 * time.Second

// follow prints the jobs that change, until it is interrupted.
func (c *jobsListCommand) follow(s *streams) error {
	ctx, _, stop := interrupted()
	defer stop()
	p := startProgress(s.Err)
	j, err := c.open(ctx, p)
	p.stop()
	if err != nil {
		return err
	}
	printed := make(map[string]string) // by id
	told := false                      // that jobs are missing
	for {
		jobs, all, err := c.following(ctx, j)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil && !all && !told {
			told = true
			fmt.Fprintln(s.Err, c.more())
		}
		for _, x := range slices.Backward(jobs) {
			line := fmt.Sprintf("%s  %s  %s", cell(x.ID), cell(x.Tool), cell(x.Words()))
			if x.Progress != "" {
				line += "  " + cell(x.Progress)
			}
			if printed[x.ID] == line {
				continue
			}
			printed[x.ID] = line
			if !c.JSON {
				fmt.Fprintf(s.Out, "%s  %s\n", clock(x.Updated), line)
				continue
			}
			text, err := json.Marshal(x)
			if err != nil {
				return err
			}
			fmt.Fprintln(s.Out, escape(string(text)))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPause):
		}
	}
}

// following returns the jobs to follow, the newest first, and whether these are all.
func (c *jobsListCommand) following(ctx context.Context, j jobs) (jobs []operator.Job, all bool, err error) {
	if c.Call == "" {
		found, err := j.Search(ctx, c.filter(time.Now().Add(-cmp.Or(c.Since, time.Hour))))
		return found.Jobs, found.All, err
	}
	list, err := j.List(ctx, c.Call)
	if errors.Is(err, jobtable.ErrNotFound) {
		err = noSuchCall(c.Call)
	}
	slices.Reverse(list.Jobs)
	unselected := func(x operator.Job) bool { return !c.filter(time.Time{}).Selects(x) }
	return slices.DeleteFunc(list.Jobs, unselected), list.All, err
}

// showJobs writes a table of jobs.
func showJobs(s *streams, jobs []operator.Job) error {
	if len(jobs) == 0 {
		fmt.Fprintln(s.Err, "There are no jobs.")
		return nil
	}
	w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tTOOL\tSTATE\tSINCE\tWAITS UNTIL\tPROGRESS")
	for _, x := range jobs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", cell(x.ID), cell(x.Tool), cell(x.Words()),
			clock(x.Created), clock(x.WakeAt), cell(x.Progress))
	}
	return w.Flush()
}

type jobsShowCommand struct {
	jobsFlags

	ID   string `arg:"" help:"The id of the job, as in the list."`
	Data bool   `help:"Also show the ids of the calls at Vapi, and the content: tool state, result and stored arguments."`
	JSON bool   `name:"json" help:"Print the job as JSON."`
}

// Help returns the text above the flags.
func (jobsShowCommand) Help() string {
	return `Below what the job's record contains, the command shows what happened to the job. Times are in the time zone of
this machine. A history has at most 40 steps: steps in the middle of a longer one are only counted.

A call is shown as in the logs: by the first 16 digits of the SHA-256 of its id. The id itself is the secret
part of the call's control URL, and is shown only with --data. The control URL and the customer's number are not shown.

Examples:

  ringback jobs show --local j_2e3fewggk5quojhw4hyicz4mxm
  ringback jobs show --stack Ringback j_wbzzis5k5mqlhhm7b5jav65luv --data --json`
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
		line("state", d.Words())
		line("since", clock(d.Created))
		line("last change", clock(d.Updated))
		line("deadline", clock(d.Deadline))
		line("attempt", fmt.Sprint(d.Attempt))
		line("lease expires", clock(d.LeaseExpiry))
		line("waits until", clock(d.WakeAt))
		flag("waits for an external completion", d.External)
		if d.WakeUps > 0 {
			line("suspended", fmt.Sprintf("%d times", d.WakeUps))
		}
		line("progress", d.Progress)
		line("result", string(d.Status))
		flag("attempts used up", d.Exhausted)
		line("reason", d.Reason)
		line("after the call", d.AfterCall)
		line("call", d.Call)
		line("delivered in call", d.NextCall)
		line("trace", d.Trace)
		if d.Data != nil {
			line("id of the call", d.CallID)
			line("id of the call it was delivered in", d.RevivedIn)
			line("arguments", string(d.Data.Arguments))
			line("tool state", string(d.Data.State))
			line("text of the result", d.Data.Result)
			line("control message", string(d.Data.Control))
		}
		if err := w.Flush(); err != nil || len(d.Steps) == 0 { // an earlier version recorded no steps
			return err
		}
		fmt.Fprintln(s.Out)
		return timeline(s.Out, momentsOf(d.Steps, ""))
	})
}

type jobsCancelCommand struct {
	jobsFlags

	ID     string `arg:"" help:"The id of the job, as in the list."`
	Reason string `help:"Record this reason in the job. The caller does not hear it." placeholder:"TEXT"`
}

// Help returns the text above the flags.
func (jobsCancelCommand) Help() string {
	return `The caller hears that the request was cancelled, as after any failure. If the tool is running, its context ends
within seconds and its result is discarded. Its effects so far remain. An external system that posts the result of a
cancelled job is answered that the job is finished.

The exit code is 1 if the job had already finished.

Examples:

  ringback jobs cancel --local j_2e3fewggk5quojhw4hyicz4mxm
  ringback jobs cancel --stack Ringback j_wbzzis5k5mqlhhm7b5jav65luv --reason "asked by mistake"`
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
			return fmt.Errorf("cannot cancel the job: it has already finished: %s", operator.StateWords(finished.State, ""))
		case err != nil:
			return err
		case done.ByFunction:
			fmt.Fprintln(s.Out, "Cancelled. The tool stops within seconds. The caller then hears of it.")
		default:
			fmt.Fprintln(s.Out, "Cancelled. The caller hears of it now.")
		}
		return nil
	})
}

// shownState returns a state for people, if nothing else is known of the job.
func shownState(s job.State) string { return cell(operator.StateWords(s, "")) }

func noSuchCall(name string) error {
	return fmt.Errorf("there is no call %q with jobs, or its records have expired; see ringback calls list", name)
}

func noSuchJob(id string) error {
	return fmt.Errorf("there is no job %q, or its record has expired; see ringback jobs list for the ids", id)
}

func asJSON(out io.Writer, v any) error {
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(out, escape(text.String()))
	return err
}

// escape escapes in a JSON text what printable would replace. The value remains the same.
func escape(text string) string {
	var escaped strings.Builder
	for _, r := range text {
		if shown := string(r); printable(shown) != shown {
			fmt.Fprintf(&escaped, `\u%04x`, r)
			continue
		}
		escaped.WriteRune(r)
	}
	return escaped.String()
}

// clock formats a time in the local time zone. The zero time is empty.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

// cell returns a text on one line and without control characters. Tools and models
// write these texts, and a terminal must not obey them.
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
