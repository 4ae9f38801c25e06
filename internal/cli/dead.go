package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"golang.org/x/term"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/operator"
)

type deadCommand struct {
	List    deadListCommand    `cmd:"" help:"List the messages in the dead-letter queues."`
	Show    deadShowCommand    `cmd:"" help:"Show a message in a dead-letter queue."`
	Redrive deadRedriveCommand `cmd:"" help:"Send messages back to their queues."`
	Drop    deadDropCommand    `cmd:"" help:"Delete messages. No job ends in silence."`
}

// Help returns the text above the flags.
func (deadCommand) Help() string {
	return `A message that was received too often moves to a dead-letter queue: one for jobs, and one for results. A job
whose attempts are used up is there, too, although its failure was delivered, so that you can find the cause. SQS
deletes the message 14 days after it was first sent.

With --stack, the commands use a deployment. They need AWS permissions to read the stack and the jobs table
(dynamodb:GetItem), and on the dead-letter queues sqs:ReceiveMessage, ChangeMessageVisibility and GetQueueAttributes.
redrive and drop also need sqs:DeleteMessage there and sqs:SendMessage on the other queues. drop needs dynamodb:PutItem.
With --local, the commands use the local run (ringback dev).

Examples:

  ringback dead list --stack Ringback
  ringback dead show --stack Ringback j_wbzzis5k5mqlhhm7b5jav65luv
  ringback dead redrive --stack Ringback --all
  ringback dead drop --stack Ringback j_wbzzis5k5mqlhhm7b5jav65luv --yes`
}

// dead is implemented by a deployment and by the local run.
type dead interface {
	List(ctx context.Context, queue string) (operator.DeadList, error)
	Show(ctx context.Context, id string, data bool) (operator.DeadDetails, error)
	Redrive(ctx context.Context, s operator.DeadSelection) (operator.Handled, error)
	Drop(ctx context.Context, s operator.DeadSelection) (operator.Handled, error)
}

// openDead returns the dead letters that the flags select.
func (f *jobsFlags) openDead(ctx context.Context, p *progress) (dead, error) {
	if f.Local {
		l, err := f.local()
		if err != nil {
			return nil, err
		}
		return l.Dead(), nil
	}
	return f.deployedDead(ctx, p)
}

// deployedDead returns the dead letters of the deployment.
func (f *jobsFlags) deployedDead(ctx context.Context, p *progress) (*operator.Dead, error) {
	cfg, selected, err := f.selected(ctx, p)
	if err != nil {
		return nil, err
	}
	at, err := selected.DeadLetters(ctx)
	if err != nil {
		return nil, err
	}
	client := sqs.NewFromConfig(cfg)
	d := operator.DeadConfig{
		Table:    jobtable.New(dynamotable.New(dynamodb.NewFromConfig(cfg), at.Table)),
		DeadJobs: sqsqueue.NewDeadLetters(client, at.DeadJobs), DeadResults: sqsqueue.NewDeadLetters(client, at.DeadResults),
		Jobs: sqsqueue.New(client, at.JobsQueue), Results: sqsqueue.New(client, at.ResultsQueue),
	}
	if at.LongJobsQueue != "" {
		d.LongJobs, d.LongJobsName = sqsqueue.New(client, at.LongJobsQueue), operator.QueueName(at.LongJobsQueue)
	}
	return operator.NewDead(d)
}

// doDead calls a function with the dead letters that the flags select. It shows step as progress.
func (f *jobsFlags) doDead(s *streams, step string, do func(ctx context.Context, d dead, p *progress) error) error {
	ctx, _, stop := interrupted()
	defer stop()
	p := startProgress(s.Err)
	defer p.stop()
	d, err := f.openDead(ctx, p)
	if err != nil {
		return err
	}
	p.set(step)
	return do(ctx, d, p)
}

type deadListCommand struct {
	jobsFlags

	Queue string `help:"List one queue only: jobs or results." enum:"jobs,results," default:"" placeholder:"NAME"`
	JSON  bool   `name:"json" help:"Print the list as JSON."`
}

// Help returns the text above the flags.
func (deadListCommand) Help() string {
	return fmt.Sprintf(`The oldest message is first. There are at most %d. To list messages, the command must receive
them: it hides them for a moment, and increases their number of receives. Two lists at the same time may miss what the
other one has.

IF DROPPED is what ringback dead drop would lose:

  nothing   the job has ended, or something else does the same
  job       the job ends. The caller hears of it, or an undelivered event follows
  delivery  the result becomes an undelivered event
  line      a line of progress
  post      what an external system has posted. The job waits on
  unknown   this version cannot read the message
  refused   the message cannot be dropped now

Examples:

  ringback dead list --local
  ringback dead list --stack Ringback --queue results --json`, operator.MaxDead)
}

// Run runs the command.
func (c *deadListCommand) Run(s *streams) error {
	return c.doDead(s, "receiving the messages", func(ctx context.Context, d dead, p *progress) error {
		list, err := d.List(ctx, c.Queue)
		if err != nil {
			return err
		}
		p.set("")
		if c.JSON {
			return asJSON(s.Out, list)
		}
		if len(list.Letters) == 0 {
			fmt.Fprintln(s.Err, "There are no dead letters.")
			return nil
		}
		if err := showDead(s.Out, list.Letters); err != nil {
			return err
		}
		if !list.All {
			fmt.Fprintf(s.Err, "There are about %d messages. This list has %d of them.\n", list.Count, len(list.Letters))
		}
		return nil
	})
}

// showDead prints dead letters as a table.
func showDead(out io.Writer, letters []operator.DeadLetter) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MESSAGE\tQUEUE\tKIND\tAGE\tJOB\tTOOL\tSTATE\tIF DROPPED\tWHY")
	for _, l := range letters {
		state := "no record"
		switch {
		case l.State != "":
			state = shownState(l.State)
		case l.Job == "":
			state = ""
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cell(l.ID), l.Queue, l.Kind, ageSince(l.Sent), cell(l.Job),
			cell(l.Tool), state, l.Loss, shortReason(cell(l.Why)))
	}
	return w.Flush()
}

// maxWhy bounds a reason in a table, in characters.
const maxWhy = 80

func shortReason(text string) string {
	if r := []rune(text); len(r) > maxWhy {
		return string(r[:maxWhy-1]) + "…"
	}
	return text
}

// ageSince returns how long ago a time was, in its largest unit.
func ageSince(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

type deadShowCommand struct {
	jobsFlags

	ID   string `arg:"" help:"The id of the message or of its job, as in the list."`
	Data bool   `help:"Also show the content: arguments, or the result, and the id of the call at Vapi."`
	JSON bool   `name:"json" help:"Print the message as JSON."`
}

// Help returns the text above the flags.
func (deadShowCommand) Help() string {
	return `The control URL and the customer's number are not shown. The id of the call is shown only with --data, as by
ringback jobs show. The command looks at up to 1000 messages of each queue.

Examples:

  ringback dead show --local j_2e3fewggk5quojhw4hyicz4mxm
  ringback dead show --stack Ringback j_wbzzis5k5mqlhhm7b5jav65luv --data`
}

// Run runs the command.
func (c *deadShowCommand) Run(s *streams) error {
	return c.doDead(s, "receiving the messages", func(ctx context.Context, d dead, p *progress) error {
		l, err := d.Show(ctx, c.ID, c.Data)
		switch {
		case errors.Is(err, operator.ErrNoDeadLetter):
			return noDeadLetter(c.ID)
		case err != nil:
			return err
		}
		p.set("")
		if c.JSON {
			return asJSON(s.Out, l)
		}
		w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
		line := func(name, value string) {
			if value != "" {
				fmt.Fprintf(w, "%s\t%s\n", name, cell(value))
			}
		}
		line("message", l.ID)
		line("queue", l.Queue)
		line("from", l.Source)
		line("kind", l.Kind)
		line("job", l.Job)
		line("tool", l.Tool)
		line("call", l.Call)
		line("state of the job", shownState(l.State))
		line("first sent", clock(l.Sent))
		line("deleted by SQS", clock(l.Sent.Add(operator.DeadRetention)))
		line("why", l.Why)
		line("if dropped", string(l.Loss))
		for _, name := range slices.Sorted(maps.Keys(l.Attributes)) {
			line(name, l.Attributes[name])
		}
		if l.Data != nil {
			line("id of the call", l.CallID)
			line("arguments", string(l.Data.Arguments))
			line("text of the result", l.Data.Result)
			line("control message", string(l.Data.Control))
			line("post", l.Data.Post)
		}
		return w.Flush()
	})
}

func noDeadLetter(id string) error {
	return fmt.Errorf("there is no dead letter %q; see ringback dead list for the ids", id)
}

// deadSelection selects messages.
type deadSelection struct {
	IDs   []string `arg:"" optional:"" name:"id" help:"The ids of messages or of jobs, as in the list."`
	All   bool     `help:"Select all messages."`
	Queue string   `help:"Select messages of one queue only: jobs or results." enum:"jobs,results," default:"" placeholder:"NAME"`
	JSON  bool     `name:"json" help:"Print what was done as JSON."`
}

func (c *deadSelection) read() (operator.DeadSelection, error) {
	switch {
	case c.All && len(c.IDs) > 0:
		return operator.DeadSelection{}, errors.New("use ids or --all, and not both")
	case !c.All && len(c.IDs) == 0:
		return operator.DeadSelection{}, errors.New("no message is selected; use ids, or --all")
	case c.All:
		return operator.DeadSelection{Queue: c.Queue}, nil
	}
	return operator.DeadSelection{Queue: c.Queue, IDs: c.IDs}, nil
}

// show prints what was done. It returns an error if something was not.
func (c *deadSelection) show(s *streams, h operator.Handled, done string) error {
	if c.JSON {
		if err := asJSON(s.Out, h); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(s.Out, "%s: %d messages.\n", done, len(h.Done))
	}
	for _, f := range h.Failed {
		fmt.Fprintf(s.Err, "%s stays: %s\n", cell(f.ID), printable(f.Error))
	}
	if h.More {
		fmt.Fprintln(s.Err, "There may be more messages. Run the command again.")
	}
	if len(h.Failed) > 0 {
		return fmt.Errorf("%d messages stay in the dead-letter queues", len(h.Failed))
	}
	return nil
}

type deadRedriveCommand struct {
	jobsFlags
	deadSelection
}

// Help returns the text above the flags.
func (deadRedriveCommand) Help() string {
	return `Each message is sent to the queue that it comes from, and then deleted. That includes wake-ups that EventBridge
Scheduler could not send, which SQS's own redrive does not move. Correct the cause first.

No tool runs again whose attempts are used up, and nothing is delivered twice. If the deadline of such a job has passed,
its failure becomes an undelivered event. A job that never ran runs now, or becomes an undelivered event after its
deadline. If the command is interrupted, run it again. A message that was already sent does no harm.

Examples:

  ringback dead redrive --local --all
  ringback dead redrive --stack Ringback --all --queue results
  ringback dead redrive --stack Ringback j_wbzzis5k5mqlhhm7b5jav65luv`
}

// Run runs the command.
func (c *deadRedriveCommand) Run(s *streams) error {
	selected, err := c.read()
	if err != nil {
		return err
	}
	return c.doDead(s, "sending the messages", func(ctx context.Context, d dead, p *progress) error {
		h, err := d.Redrive(ctx, selected)
		if p.set(""); errors.Is(err, operator.ErrNoDeadLetter) {
			return noDeadLetter(c.IDs[0])
		}
		return errors.Join(c.show(s, h, "Redriven"), err)
	})
}

type deadDropCommand struct {
	jobsFlags
	deadSelection

	Unreadable bool `help:"Also drop messages that this version cannot read. What they carry is lost."`
	Yes        bool `help:"Drop without asking. Needed if the input is not a terminal."`
}

// Help returns the text above the flags.
func (deadDropCommand) Help() string {
	return `The command shows what would be lost, and asks. See ringback dead list --help for its words.

No job ends in silence. The caller of a job that has not ended hears that it was cancelled, as with ringback jobs
cancel, or an undelivered event follows. A result that is not delivered becomes an undelivered event. The message is
deleted after that, so an interrupted command can be run again.

Examples:

  ringback dead drop --local j_2e3fewggk5quojhw4hyicz4mxm
  ringback dead drop --stack Ringback --all --queue jobs --yes`
}

// Run runs the command.
func (c *deadDropCommand) Run(s *streams) error {
	selected, err := c.read()
	if err != nil {
		return err
	}
	if !c.Yes && !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("nothing was dropped: there is no terminal to ask on; use --yes to drop")
	}
	selected.Unreadable = c.Unreadable
	return c.doDead(s, "receiving the messages", func(ctx context.Context, d dead, p *progress) error {
		if !c.Yes {
			if err := c.ask(ctx, s, d, p, &selected); err != nil {
				return err
			}
		}
		p.set("dropping the messages")
		h, err := d.Drop(ctx, selected)
		if p.set(""); errors.Is(err, operator.ErrNoDeadLetter) && len(c.IDs) > 0 {
			return noDeadLetter(c.IDs[0])
		}
		return errors.Join(c.show(s, h, "Dropped"), err)
	})
}

// ask shows what would be dropped, and asks. It selects exactly these messages.
func (c *deadDropCommand) ask(
	ctx context.Context, s *streams, d dead, p *progress, selected *operator.DeadSelection,
) error {
	list, err := d.List(ctx, c.Queue)
	if err != nil {
		return err
	}
	p.set("")
	letters := slices.DeleteFunc(list.Letters, func(l operator.DeadLetter) bool {
		return !c.All && !slices.Contains(c.IDs, l.ID) && !slices.Contains(c.IDs, l.Job)
	})
	if len(letters) == 0 {
		if c.All {
			return errors.New("nothing was dropped: there are no dead letters")
		}
		return noDeadLetter(c.IDs[0])
	}
	if err := showDead(s.Err, letters); err != nil {
		return err
	}
	switch yes, err := confirm(ctx, os.Stdin, s.Err, "Drop this?"); {
	case err != nil:
		return fmt.Errorf("nothing was dropped: %w", err)
	case !yes:
		return errors.New("nothing was dropped")
	}
	selected.IDs = make([]string, len(letters))
	for i, l := range letters {
		selected.IDs[i] = l.ID
	}
	return nil
}
