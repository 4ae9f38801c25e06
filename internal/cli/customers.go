package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"golang.org/x/term"

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/operator"
)

type customersCommand struct {
	Forget customersForgetCommand `cmd:"" help:"Delete what is stored under a customer's number."`
}

// Help returns the text above the flags.
func (customersCommand) Help() string {
	return `Examples:

  ringback customers forget --stack Ringback +15550100123`
}

// customers is implemented by a deployment and by the local run.
type customers interface {
	Find(ctx context.Context, number, orgID string, read func(records int)) (operator.Stored, error)
	Forget(ctx context.Context, s operator.Stored) (operator.Forgotten, error)
}

type customersForgetCommand struct {
	jobsFlags

	Number string `arg:"" help:"The customer's telephone number, like +15550100123."`
	Org    string `help:"The organisation at Vapi, for results that are parked without a number." placeholder:"ID"`
	Yes    bool   `help:"Delete without asking. Needed if the input is not a terminal."`
}

// Help returns the text above the flags.
func (customersForgetCommand) Help() string {
	return `The command shows what it found, and asks before it deletes:

- The results that are parked for the customer's next call. Each becomes an undelivered event (forgotten) without the
  result and the number.
- The number in the records of jobs that are not settled, such as suspended ones. These jobs continue. Their results
  reach the customer only in the call in which they were asked for.
- The lists of the customer's parked results.
- The arguments of the customer's jobs that are stored for replays.

The command cannot find the number in the messages of jobs that run or wait on a queue. Run it again when the
customer's calls are over. A result, argument or tool state that contains the number is counted, and stays until its
record loses it or expires. docs/security.md lists the other copies of personal data, such as backups and events.

In a deployment, the command reads the whole table, which has some kilobytes for each job of the last 30 days. AWS bills
the reads. It needs AWS permissions to read the stack and the completion secret, to scan and write the table
(dynamodb:Scan, GetItem, PutItem, DeleteItem), and to send to the results queue.

Examples:

  ringback customers forget --local +15550100123
  ringback customers forget --stack Ringback +15550100123
  ringback customers forget --stack Ringback +15550100123 --yes`
}

// Run runs the command.
func (c *customersForgetCommand) Run(s *streams) error {
	number, err := operator.Number(c.Number)
	if err != nil {
		return err
	}
	if !c.Yes && !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("nothing was deleted: there is no terminal to ask on; use --yes to delete")
	}
	ctx, _, stop := interrupted()
	defer stop()
	p := startProgress(s.Err)
	defer p.stop()
	all, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	p.set("reading the records")
	stored, err := all.Find(ctx, number, c.Org, func(n int) { p.update(fmt.Sprintf("reading the records: %d", n)) })
	if err != nil {
		return err
	}
	p.set("")
	if err := showStored(s.Out, stored); err != nil {
		return err
	}
	if empty(stored) {
		return nil
	}
	if err := c.agreed(ctx, s); err != nil {
		return err
	}
	p.set("deleting")
	f, err := all.Forget(ctx, stored)
	p.set("")
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "Deleted: %d parked results, the number in %d other records, %d lists.\n",
		f.Results, f.Numbers, f.Lists)
	if f.Copies > 0 {
		fmt.Fprintf(s.Out, "Deleted: the stored arguments of %d jobs.\n", f.Copies)
	}
	if f.Unsent > 0 {
		fmt.Fprintf(s.Err, "%d undelivered events could not be sent. The daily sweep sends them.\n", f.Unsent)
	}
	return nil
}

// agreed asks whether to delete. It returns an error if nothing must be deleted.
func (c *customersForgetCommand) agreed(ctx context.Context, s *streams) error {
	if c.Yes {
		return nil
	}
	yes, err := confirm(ctx, os.Stdin, s.Err, "Delete this?")
	switch {
	case err != nil:
		return fmt.Errorf("nothing was deleted: %w", err)
	case !yes:
		return errors.New("nothing was deleted")
	}
	return nil
}

// empty reports whether nothing is stored that can be deleted.
func empty(s operator.Stored) bool { return len(s.Parked)+len(s.Others)+s.Lists+s.Copies == 0 }

// showStored prints what is stored about a customer.
func showStored(out io.Writer, s operator.Stored) error {
	if empty(s) {
		fmt.Fprintln(out, "Nothing is stored under this number.")
	} else {
		fmt.Fprintf(out, "To delete: %d parked results, the number in %d other records, %d lists.\n",
			len(s.Parked), len(s.Others), s.Lists)
		if s.Copies > 0 {
			fmt.Fprintf(out, "To delete: the stored arguments of %d jobs.\n", s.Copies)
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, one := range s.Parked {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", "result", cell(one.ID), cell(one.Tool), clock(one.Created))
		}
		for _, one := range s.Others {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", "number", cell(one.ID), cell(one.Tool), clock(one.Created))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if s.Mentions > 0 {
		fmt.Fprintf(out, "%d other records contain the number in arguments, states or results. "+
			"They stay until they expire.\n", s.Mentions)
	}
	return nil
}

// open returns the customers of the deployment or the local run.
func (c *customersForgetCommand) open(ctx context.Context, p *progress) (customers, error) {
	if c.Local {
		return c.local()
	}
	cfg, at, err := c.deployed(ctx, p)
	if err != nil {
		return nil, err
	}
	if at.CompletionSecret == "" {
		return nil, fmt.Errorf("the stack %s has no output CompletionSecretArn: the key that names customers is unknown",
			c.Stack)
	}
	client := dynamodb.NewFromConfig(cfg)
	store := dynamotable.New(client, at.Table)
	secrets, err := secretsConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	keys := completion.NewKeys(secretsmanager.New(secrets).Secret(at.CompletionSecret), nil)
	lists := jobtable.NewCustomers(store.Customers(), keys.Customers)
	return operator.NewCustomers(operator.CustomersConfig{
		Table: jobtable.New(store),
		Lists: lists,
		Copies: operator.CustomerCopies{
			Names: lists.ReplayNames, Delete: store.Replays().Delete,
			Search: func(ctx context.Context, names []string, from string) ([]job.ReplayCopy, int, string, error) {
				return dynamotable.ReplaysOf(ctx, client, at.Table, names, from)
			},
		},
		Outcomes: sqsqueue.New(sqs.NewFromConfig(cfg), at.ResultsQueue),
		Search: func(ctx context.Context, text, from string) ([]job.Record, int, string, error) {
			return dynamotable.Search(ctx, client, at.Table, text, from)
		},
	})
}
