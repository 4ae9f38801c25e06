package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/operator"
)

type callsCommand struct {
	List callsListCommand `cmd:"" help:"List the calls, newest first."`
	Show callsShowCommand `cmd:"" help:"Show a call: its jobs, and what happened to them."`
}

// Help returns the text above the flags.
func (callsCommand) Help() string {
	return `With --stack, the commands use a deployment. They need AWS permissions to read the stack and the jobs table
(dynamodb:GetItem, and Query on its indexes). With --local, they use the local run (ringback dev).

Examples:

  ringback calls list --local
  ringback calls list --stack Ringback --since 1h
  ringback calls show --stack Ringback 7420f27a-30fd-4f49-a995-5549ae7cc00d`
}

// calls is implemented by a deployment and by the local run.
type calls interface {
	Calls(ctx context.Context, from string, most int, data bool) (operator.CallPage, error)
	Call(ctx context.Context, name string, data bool) (operator.CallDetails, error)
}

type callsListCommand struct {
	jobsFlags

	Since time.Duration `help:"List only the calls that became known in this time, such as 1h." placeholder:"TIME"`
	Limit int           `help:"List at most this many calls." default:"20" placeholder:"N"`
	Data  bool          `help:"Also show the ids of the calls at Vapi."`
	JSON  bool          `name:"json" help:"Print the list as JSON."`
}

// Help returns the text above the flags.
func (callsListCommand) Help() string {
	return fmt.Sprintf(`A call becomes known when its first job starts, or else when it ends. A deployment without limits
on the jobs of a call (maxJobsPerCall and maxConcurrentJobsPerCall are "none") usually knows only calls that have ended.
Calls that began before the update to this version are not listed, and no call for longer than 30 days.

A call is live until Vapi reports its end. Without a report, "end not known" is its state an hour after its last tool
call. It ended after the time since its beginning, if a webhook has shown that, or since its first job.

A call has the name that it has in the logs. Use it with ringback calls show. There are at most %d calls in a list, and
the command reads the jobs of each.

Examples:

  ringback calls list --local
  ringback calls list --stack Ringback --since 1h --json`, operator.MaxCalls)
}

// Run runs the command.
func (c *callsListCommand) Run(s *streams) error {
	if c.Limit < 1 || c.Limit > operator.MaxCalls {
		return fmt.Errorf("--limit is %d; it must be between 1 and %d", c.Limit, operator.MaxCalls)
	}
	return c.do(s, "reading the calls", func(ctx context.Context, j jobs) error {
		page, err := j.Calls(ctx, "", c.Limit, c.Data)
		if err != nil {
			return err
		}
		list := struct {
			Calls []operator.CallDetails `json:"calls"`
			All   bool                   `json:"all"` // there are no more
		}{[]operator.CallDetails{}, page.Next == ""}
		for _, row := range page.Calls {
			if c.Since > 0 && time.Since(row.First) > c.Since {
				list.All = true
				break
			}
			d, err := j.Call(ctx, row.Key, c.Data)
			if errors.Is(err, jobtable.ErrNotFound) {
				continue // its record has expired
			}
			if err != nil {
				return err
			}
			for i := range d.Jobs {
				d.Jobs[i].Steps = nil // see calls show
			}
			list.Calls = append(list.Calls, d)
		}
		if c.JSON {
			return asJSON(s.Out, list)
		}
		if len(list.Calls) == 0 {
			fmt.Fprintln(s.Err, "There are no calls. A call is listed when its first job starts, or else when it ends.")
			return nil
		}
		w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "FIRST JOB\tCALL\tSTATE\tJOBS")
		for _, d := range list.Calls {
			name := d.Call
			if c.Data {
				name = d.ID
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", clock(d.First), cell(name), callState(d), jobCounts(d.Jobs))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if !list.All {
			fmt.Fprintln(s.Err, "There are more calls. Use --limit to list more of them.")
		}
		return nil
	})
}

// callState returns the state of a call for people.
func callState(d operator.CallDetails) string {
	state := d.State(time.Now())
	if state == operator.CallEnded {
		return "ended after " + rounded(max(0, d.Ended.Sub(d.Start())))
	}
	return string(state)
}

// jobCounts returns how many jobs are in which state.
func jobCounts(jobs []operator.Job) string {
	if len(jobs) == 0 {
		return "none"
	}
	counts := make(map[string]int)
	var order []string
	for _, x := range jobs {
		words := x.Words()
		if counts[words]++; counts[words] == 1 {
			order = append(order, words)
		}
	}
	for i, words := range order {
		order[i] = fmt.Sprintf("%d %s", counts[words], cell(words))
	}
	return strings.Join(order, "; ")
}

// rounded formats a duration for people.
func rounded(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

type callsShowCommand struct {
	jobsFlags

	Call string `arg:"" help:"The call: its name in the list, or its id at Vapi."`
	Data bool   `help:"Also show the id of the call at Vapi."`
	JSON bool   `name:"json" help:"Print the call as JSON."`
}

// Help returns the text above the flags.
func (callsShowCommand) Help() string {
	return `The command shows the jobs of the call, and what happened to all of them, in the order of time. Times are in
the time zone of this machine. Several functions record them, and their clocks may differ by some milliseconds.

A name from the list is searched for among the newest 10,000 calls. The id at Vapi is found at once.

Examples:

  ringback calls show --local 2e7d2c03a9507ae2
  ringback calls show --stack Ringback 7420f27a-30fd-4f49-a995-5549ae7cc00d --json`
}

// Run runs the command.
func (c *callsShowCommand) Run(s *streams) error {
	return c.do(s, "reading the call", func(ctx context.Context, j jobs) error {
		d, err := j.Call(ctx, c.Call, c.Data)
		switch {
		case errors.Is(err, jobtable.ErrNotFound):
			return noSuchCall(c.Call)
		case err != nil:
			return err
		case c.JSON:
			return asJSON(s.Out, d)
		}
		w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "call\t%s\n", d.Call)
		if d.ID != "" {
			fmt.Fprintf(w, "id at Vapi\t%s\n", cell(d.ID))
		}
		if !d.Began.IsZero() {
			fmt.Fprintf(w, "began\t%s\n", clock(d.Began))
		}
		fmt.Fprintf(w, "first job\t%s\n", clock(d.First))
		fmt.Fprintf(w, "state\t%s\n", callState(d))
		if err := w.Flush(); err != nil || len(d.Jobs) == 0 {
			return err
		}
		fmt.Fprintln(s.Out)
		w = tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "#\tID\tTOOL\tSTATE")
		for i, x := range d.Jobs {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", i+1, cell(x.ID), cell(x.Tool), cell(x.Words()))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(s.Out)
		if err := timeline(s.Out, timesOf(d)); err != nil {
			return err
		}
		if !d.All {
			fmt.Fprintf(s.Err, "The call has more jobs. These are the newest %d.\n", len(d.Jobs))
		}
		return nil
	})
}

// moment is a line of a timeline.
type moment struct {
	at   time.Time // zero if it is not known
	what string    // whose moment it is; empty if there is only one job
	text string
}

// timesOf returns the moments of a call, in the order of time. The steps of a job stay in the order in which they were
// recorded, although the clocks of the functions differ: one that seems earlier than the step before it has the time of
// that one. So does what was dropped, which has no time of its own.
func timesOf(d operator.CallDetails) []moment {
	var all []moment
	if start := d.Start(); start.Equal(d.Began) && !start.IsZero() {
		all = append(all, moment{start, "call", "began"})
	}
	if !d.Ended.IsZero() {
		all = append(all, moment{d.Ended, "call", "ended"})
	}
	for i, x := range d.Jobs {
		var last time.Time
		for _, m := range momentsOf(x.Steps, fmt.Sprintf("%d %s", i+1, x.Tool)) {
			if m.at.Before(last) {
				m.at = last
			}
			last = m.at
			all = append(all, m)
		}
	}
	slices.SortStableFunc(all, func(a, b moment) int { return a.at.Compare(b.at) })
	return all
}

func momentsOf(steps []job.Step, what string) []moment {
	var all []moment
	for _, step := range steps {
		all = append(all, moment{step.At, what, operator.StepWords(step)})
	}
	return all
}

// timeline writes moments, with the time since the first one.
func timeline(out io.Writer, all []moment) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var first time.Time
	for _, m := range all {
		first = cmp.Or(first, m.at)
		at, after := "", ""
		if !m.at.IsZero() {
			at, after = m.at.Local().Format(time.DateTime), "+"+rounded(max(m.at.Sub(first), 0))
		}
		if m.what != "" {
			after += "\t" + cell(m.what)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", at, after, cell(m.text))
	}
	return w.Flush()
}
