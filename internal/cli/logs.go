package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/fatih/color"

	"github.com/ringback/ringback/internal/aws/cloudlogs"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/cli/stack"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/operator"
)

// followEvery is how often the logs are read with --follow. CloudWatch Logs accepts a few requests a second, and there
// is one for each function.
const followEvery = 3 * time.Second

type logsCommand struct {
	Stack  string        `required:"" help:"Read the logs of the deployment in this CloudFormation stack. ${account}" placeholder:"NAME"`
	Call   string        `help:"Print the lines of this call and its jobs. Its name in ringback calls list, or its id at Vapi." placeholder:"CALL" xor:"of" required:""`
	Job    string        `help:"Print the lines of this job." placeholder:"ID" xor:"of" required:""`
	Since  time.Duration `help:"Begin this long ago. Default: with the job, or 24h ago if it is unknown." placeholder:"DURATION"`
	Follow bool          `help:"Print new lines until the command is interrupted."`
	JSON   bool          `name:"json" help:"Print the lines as they were logged."`
}

// Help returns the text above the flags.
func (logsCommand) Help() string {
	return fmt.Sprintf(`The command reads the log groups of the three functions, and prints the lines in the order of
their times. The logs do not contain the ids of calls. The command finds a call by the hash of its id, which is its
name in ringback calls list, and by the jobs in its records.

There are at most %d lines. A line may take some seconds until it can be read. A search through a large log takes a
while: use --since.

The command needs AWS permissions to read the stack and the jobs table (dynamodb:GetItem, and Query on its indexes),
and logs:FilterLogEvents on the three log groups.

Examples:

  ringback logs --stack Ringback --call 2e7d2c03a9507ae2
  ringback logs --stack Ringback --call 7420f27a-30fd-4f49-a995-5549ae7cc00d
  ringback logs --stack Ringback --job j_wbzzis5k5mqlhhm7b5jav65luv --follow
  ringback logs --stack Ringback --job j_wbzzis5k5mqlhhm7b5jav65luv --since 1h --json`, operator.MaxLogLines)
}

// Run runs the command.
func (c *logsCommand) Run(s *streams) error {
	if c.Since < 0 {
		return errors.New("--since must be positive")
	}
	ctx, _, stop := interrupted()
	defer stop()
	p := startProgress(s.Err)
	defer p.stop()
	logs, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	query := operator.LogQuery{Call: c.Call, JobID: c.Job}
	if c.Since > 0 {
		query.Since = time.Now().Add(-c.Since)
	}
	p.set("reading the logs")
	show := func(lines []operator.LogLine, all bool) error {
		p.set("")
		for _, line := range lines {
			if err := c.show(s.Out, line); err != nil {
				return err
			}
		}
		if !all {
			fmt.Fprintln(s.Err, "There is more. Use --since to select less.")
		}
		return nil
	}
	if c.Follow {
		err := logs.Follow(ctx, query, followEvery, show)
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	lines, all, err := logs.Read(ctx, query)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		fmt.Fprintln(s.Err, "There are no such lines.")
	}
	return show(lines, all)
}

func (c *logsCommand) open(ctx context.Context, p *progress) (*operator.Logs, error) {
	p.set("reading the stack " + c.Stack)
	cfg, err := awsConfig(ctx)
	if err != nil {
		return nil, err
	}
	at, err := stack.New(cfg, c.Stack).Logs(ctx)
	if err != nil {
		return nil, err
	}
	store := dynamotable.New(dynamodb.NewFromConfig(cfg), at.Table)
	return operator.NewLogs(operator.LogsConfig{
		Table:  jobtable.New(store),
		Calls:  store,
		Source: cloudlogs.New(cloudwatchlogs.NewFromConfig(cfg)),
		Groups: []operator.LogGroup{
			{Function: "ack", Name: at.Ack}, {Function: "process", Name: at.Process},
			{Function: "callback", Name: at.Callback},
		},
	})
}

// Colours of a line by its level.
var levelColours = map[string]*color.Color{"WARN": color.New(color.FgYellow), "ERROR": color.New(color.FgRed)}

// show prints a line.
func (c *logsCommand) show(out io.Writer, line operator.LogLine) error {
	if c.JSON {
		_, err := fmt.Fprintln(out, escape(strings.TrimSpace(line.Text)))
		return err
	}
	level, message, fields := line.Parse()
	message = cell(message)
	if paint := levelColours[level]; paint != nil {
		message = paint.Sprint(message)
	} else {
		message = bold(message)
	}
	var shown []string
	for _, f := range fields {
		shown = append(shown, cell(f.Name+"="+f.Value))
	}
	text := fmt.Sprintf("%s  %-8s  %s", faint(line.At.Local().Format("2006-01-02 15:04:05.000")), line.Function, message)
	if len(shown) > 0 {
		text += "  " + faint(strings.Join(shown, "  "))
	}
	_, err := fmt.Fprintln(out, text)
	return err
}
