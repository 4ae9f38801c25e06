package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/guard"
	"github.com/ringback/ringback/internal/local/simcall"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/vapi"
)

type callCommand struct {
	Tool      string   `arg:"" help:"The name of the tool."`
	Arguments []string `arg:"" optional:"" help:"The arguments: name=text, or name:=JSON." placeholder:"NAME=VALUE"`

	targetFlags

	Number      string        `help:"The number of the customer." default:"+15550100123" placeholder:"NUMBER"`
	HangUpAfter time.Duration `help:"End the call after this time." placeholder:"DURATION"`
	GPTLive     bool          `help:"Call the tool in a call of a GPT-Live assistant."`
	Timeout     time.Duration `help:"Wait at most this long. Default: 3m, or longer for a long tool." placeholder:"DURATION"`
	JSON        bool          `name:"json" help:"Print each event as a line of JSON."`
}

// Help returns the text above the flags.
func (callCommand) Help() string {
	return `The command calls a tool in a new simulated call, as an assistant does. It prints the answer to the
webhook, the progress and the result, with the seconds since the webhook was posted. name=text is a text, name:=JSON
is any JSON. The names must be arguments of the tool, and the required ones must be there. Arguments that Vapi fills
in are filled in, and those that Vapi encrypts are encrypted.

The default is the local run (ringback dev), whose token the command finds. --url, --org, the credential and the
environment are those of ringback send.

With --hang-up-after, the caller hangs up while the tool is running. The tool's AfterCall then decides about its
result, and a tool with StopWithCall stops. A result for the next call is delivered if you call a tool again, with
the same number.

With --stack, the tool runs in a deployment. AWS cannot reach a call that is simulated on this machine, so the call
has no control URL. The command reads the result from the job's record. The deployment acts as after a call: the
result also becomes an undelivered event, unless the tool drops it.

With --json, the events are call (the ids and the arguments), answer, waits, progress, action (a control message),
result, earlier (the result of an earlier call), hang-up, and end with the state of the job and the status of its
result. If the job has failed, failed is true, and reason says why; otherwise failed is missing. If it was cancelled,
it has not failed, and cancelledBy says who did it. The member seconds is the time since the webhook was posted.

The exit code is 1 if the webhook or the tool failed, if the job was cancelled, or if the result did not reach the
call. After a hang-up, it is 0 whatever the result is. With --stack, the result need not reach the call.

Examples:

  ringback call order_status order_id=A-1042
  ringback call book_table name=Ada seats:=4 --number +15550100777 --json
  ringback call order_status order_id=A-1042 --hang-up-after 2s
  ringback call order_status order_id=A-1042 --stack Ringback`
}

// Run runs the command.
func (c *callCommand) Run(s *streams, tools Tools) error {
	set, err := tools.set()
	if err != nil {
		return err
	}
	tool, ok := set.Lookup(c.Tool)
	if !ok {
		return fmt.Errorf("there is no tool %q; the tools are %s", c.Tool, names(set))
	}
	arguments, err := readArguments(tool, c.Arguments)
	if err != nil {
		return err
	}
	if c.HangUpAfter < 0 || c.Timeout < 0 {
		return errors.New("--hang-up-after and --timeout must be positive")
	}
	ctx, _, stop := interrupted()
	defer stop()
	if err := c.read(ctx, os.Stdin, s.Err); err != nil {
		return err
	}
	t := &trial{tool: tool, to: &c.targetFlags, hangUpAfter: c.HangUpAfter, report: report{out: s.Out, json: c.JSON}}
	if err := t.connect(ctx, c, s); err != nil {
		return err
	}
	defer t.close()
	body, err := t.webhook(ctx, c, set, arguments)
	if err != nil {
		return err
	}
	patience := cmp.Or(c.Timeout, patienceFor(tool))
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err = t.run(bounded, body); bounded.Err() != nil {
		what := "interrupted"
		if ctx.Err() == nil {
			what = "no result within " + patience.String()
		}
		return errors.New(what + t.hint())
	}
	return err
}

// patienceFor returns how long a command waits for the result of a tool.
func patienceFor(tool *asynctool.Entry) time.Duration {
	return max(3*time.Minute, time.Duration(tool.Attempts)*tool.Timeout+time.Minute)
}

// names lists the names of the tools.
func names(set *asynctool.Set) string {
	var all []string
	for _, e := range set.Entries() {
		all = append(all, e.Name)
	}
	return strings.Join(all, ", ")
}

// readArguments reads the arguments of a tool, as people write them. It checks their names.
func readArguments(tool *asynctool.Entry, texts []string) (map[string]any, error) {
	arguments := make(map[string]any)
	known := argumentNames(tool)
	// A schema that names no arguments allows any, and so does one that says what others are like.
	others := tool.Schema.AdditionalProperties
	anyName := len(known) == 0 || others != nil && others.Not == nil
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		name, isJSON := strings.CutSuffix(name, ":")
		switch {
		case !ok || name == "":
			return nil, fmt.Errorf("%q is not an argument; write name=text or name:=JSON", text)
		case !anyName && !slices.Contains(known, name):
			return nil, fmt.Errorf("%s has no argument %s; its arguments are %s", tool.Name, name, strings.Join(known, ", "))
		case !isJSON:
			arguments[name] = value
			continue
		}
		var decoded any
		if err := json.Unmarshal([]byte(value), &decoded); err != nil {
			return nil, fmt.Errorf("the value of %s is not JSON; write %s=text for a text", name, name)
		}
		arguments[name] = decoded
	}
	var missing []string
	for _, name := range tool.ModelSchema().Required {
		if _, ok := arguments[name]; !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s needs %s; see ringback tools", tool.Name, strings.Join(missing, ", "))
	}
	return arguments, nil
}

// How often the record of a job is read.
const (
	everyLocal    = 50 * time.Millisecond
	everyDeployed = time.Second
)

// trial is one call of a tool.
type trial struct {
	tool        *asynctool.Entry
	to          *targetFlags
	call        *simulated
	reachable   bool          // the deployment reaches the call's control URL
	jobs        jobs          // nil means that the records of the deployment cannot be read
	every       time.Duration // how often the record is read
	place       string        // the flags of ringback jobs that select the deployment; empty without jobs
	hangUpAfter time.Duration

	jobID, toolCallID string
	vapiCall          vapi.Call
	heardResult, over bool // the result has reached the call; the call has ended
	waits             time.Time
	report            report
}

// connect makes the call, and opens the records of the deployment.
func (t *trial) connect(ctx context.Context, c *callCommand, s *streams) (err error) {
	if t.call, err = simulate("call-" + rand.Text()[:8]); err != nil {
		return err
	}
	t.reachable = c.Stack == "" && t.to.here()
	switch {
	case c.Stack != "":
		p := startProgress(s.Err)
		defer p.stop()
		flags := jobsFlags{Stack: c.Stack}
		t.every, t.place = everyDeployed, flags.place()
		t.jobs, err = flags.open(ctx, p)
	case t.reachable:
		u, err := url.Parse(t.to.URL)
		if err != nil {
			return err
		}
		token, err := guard.Token(u.Host)
		if err != nil || token == "" { // not a local run
			return err
		}
		t.every, t.place = everyLocal, localPlace(u.Host)
		t.jobs, err = operator.NewLocal(u.Host, token)
		if err != nil {
			return err
		}
	}
	if err != nil {
		t.call.close()
	}
	return err
}

// webhook returns the webhook of the tool call, with new ids.
func (t *trial) webhook(
	ctx context.Context, c *callCommand, set *asynctool.Set, arguments map[string]any,
) ([]byte, error) {
	bodies, err := wiring.Bodies(set, wiring.Endpoint{URL: t.to.URL})
	if err != nil {
		return nil, err
	}
	t.toolCallID = "call_" + rand.Text()[:8]
	request := simcall.Request{
		CallID: t.call.id, ToolCallID: t.toolCallID, Number: c.Number, GPTLive: c.GPTLive,
		Tool: t.tool.Name, Body: bodies[slices.Index(set.Entries(), t.tool)], Arguments: arguments, Static: t.tool.Static,
	}
	if t.reachable {
		request.ControlURL = t.call.controlURL
	}
	body, err := simcall.Webhook(request, time.Now())
	if err != nil {
		return nil, err
	}
	if body, err = c.inOrganisation(body); err != nil {
		return nil, err
	}
	plain, err := vapi.ParseMessage(body)
	if err != nil {
		return nil, err
	}
	if body, err = c.encrypt(ctx, set, body); err != nil {
		return nil, err
	}
	message, err := vapi.ParseMessage(body)
	if err != nil {
		return nil, err
	}
	if t.vapiCall = message.Call; c.GPTLive {
		t.call.calls.AddGPTLive(message.Call)
	}
	t.jobID = ack.JobID(t.call.id, message.ToolCalls[0], 0)
	t.report.show(event{
		Event: "call", CallID: t.call.id, ToolCallID: t.toolCallID, JobID: t.jobID, Tool: t.tool.Name,
		Arguments: plain.ToolCalls[0].Arguments,
	})
	return body, nil
}

// hint returns how to look at the job.
func (t *trial) hint() string {
	if t.place == "" {
		return ""
	}
	return fmt.Sprintf("; see %s jobs show %s %s", program(), t.place, t.jobID)
}

// run posts the webhook, and shows what happens until the result has reached the call.
func (t *trial) run(ctx context.Context, body []byte) error {
	t.report.began = time.Now()
	var hangUp <-chan time.Time
	if t.hangUpAfter > 0 {
		hangUp = time.After(t.hangUpAfter)
	}
	final, err := t.post(ctx, body)
	if final || err != nil {
		return err
	}
	return t.watch(ctx, hangUp)
}

// watch shows what happens until the result has reached the call. It hangs up when hangUp says so, which may be nil.
func (t *trial) watch(ctx context.Context, hangUp <-chan time.Time) error {
	var look <-chan time.Time
	if t.jobs != nil {
		tick := time.NewTicker(t.every)
		defer tick.Stop()
		look = tick.C
	}
	var failing time.Time // since when the record cannot be read
	for {
		select {
		case m := <-t.call.heard:
			if t.hear(ctx, m); t.heardResult && t.jobs == nil {
				return t.end(operator.Details{})
			}
		case <-hangUp:
			if err := t.hangUp(ctx); err != nil || t.jobs == nil {
				return err
			}
		case <-look:
			d, err := t.jobs.Show(ctx, t.jobID, true)
			switch {
			case errors.Is(err, jobtable.ErrNotFound): // the job is still on the queue
				continue
			case err != nil && (failing.IsZero() || time.Since(failing) < restartTime):
				if failing.IsZero() {
					failing = time.Now()
				}
				continue
			case err != nil:
				return fmt.Errorf("cannot read the job: %w", err)
			}
			failing = time.Time{}
			if !d.State.Active() && d.State != job.StateDone {
				return t.end(d)
			}
			if d.State == job.StateWaiting && !d.WakeAt.Equal(t.waits) {
				t.waits = d.WakeAt
				t.report.show(event{Event: "waits", Text: "until " + clock(d.WakeAt) + " at the latest"})
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const (
	// restartTime is how long a local run may take to restart.
	restartTime = 15 * time.Second

	// closeTimeout bounds what a user waits for in vain.
	closeTimeout = 2 * time.Second
)

// post posts the webhook, and shows the answer. It reports whether that is all.
func (t *trial) post(ctx context.Context, body []byte) (final bool, err error) {
	_, answer, err := t.to.post(ctx, body)
	if err != nil {
		if len(answer) > 0 {
			t.report.show(event{Event: "answer", Text: strings.TrimSpace(string(answer))})
		}
		return true, err
	}
	results, err := answers(answer)
	if err == nil && len(results) != 1 {
		err = errors.New("the answer has no result of the tool call")
	}
	if err != nil {
		return true, err
	}
	a := results[0]
	switch {
	case a.Result == nil:
		t.report.show(event{Event: "answer", Status: "error", Text: text(a.Error)})
		return true, errors.New("the tool call was refused")
	case a.builtIn():
		t.report.show(event{Event: "answer", Status: "ok", Text: *a.Result})
		return true, nil
	case !a.accepted(): // a quick tool
		content, _ := spoken.Content(*a.Result)
		t.report.show(event{Event: "answer", Text: content})
		if t.heardResult = true; t.jobs == nil {
			return true, nil
		}
		return false, nil
	}
	t.report.show(event{Event: "answer", Text: *a.Result})
	if !t.reachable && t.jobs == nil {
		return true, errors.New("the deployment is on another machine, which cannot reach the simulated call; " +
			"use --stack to read the result from the job's record")
	}
	return false, nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// hear shows a control message.
func (t *trial) hear(ctx context.Context, m vapi.ControlMessage) {
	var content string
	switch m := m.(type) {
	case vapi.AddMessage:
		content = m.Content
	case vapi.AppendContext:
		content = m.Content
	case vapi.Say:
		e := event{Event: "progress", Text: m.Content}
		if t.hasResult(ctx) {
			e.Event, t.heardResult = "result", true
		}
		t.report.show(e)
		return
	default:
		t.heardResult = true
		t.report.show(event{Event: "action", Control: m})
		return
	}
	for _, frame := range spoken.Frames(content) {
		e := event{Event: "result", Text: frame}
		if inner, ok := spoken.Content(frame); ok {
			e.Text = inner
		}
		_, after, own := strings.Cut(frame, " tool_call_id="+t.toolCallID+" status=")
		switch {
		case strings.HasPrefix(frame, progressHead):
			e.Event = "progress"
		case own:
			e.Status, _, _ = strings.Cut(after, "\n")
			e.CancelledBy = t.cancelledBy(ctx, e.Status)
			t.heardResult = true
		case strings.Contains(frame, " tool_call_id="):
			e.Event = "earlier" // the parked result of an earlier call
		default: // the text around results is customised
			t.heardResult = true
		}
		t.report.show(e)
	}
}

// close ends the call, whose control URL goes with this program. The deployment is not to try it in vain.
func (t *trial) close() {
	if t.reachable && !t.over && !t.report.began.IsZero() {
		ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
		defer stop()
		if body, err := simcall.Ended(t.vapiCall, time.Now()); err == nil {
			_, _, _ = t.to.post(ctx, body)
		}
	}
	t.call.close()
}

// hasResult reports whether the tool has a result. A spoken result and a spoken progress line look the same, but no
// progress follows a result. Without the record, the first spoken text of a tool whose results are spoken counts.
func (t *trial) hasResult(ctx context.Context) bool {
	if t.jobs == nil {
		return t.tool.Delivery == asynctool.Say
	}
	d, err := t.jobs.Show(ctx, t.jobID, false)
	return err == nil && d.Status != ""
}

// cancelledBy returns who cancelled the job, if its result is a failure. It is empty if that is not known.
func (t *trial) cancelledBy(ctx context.Context, status string) string {
	if t.jobs == nil || status != string(job.StatusError) {
		return ""
	}
	d, err := t.jobs.Show(ctx, t.jobID, false)
	if err != nil {
		return ""
	}
	return d.CancelledBy
}

// hangUp ends the call, and posts what Vapi then posts.
func (t *trial) hangUp(ctx context.Context) error {
	t.call.calls.End(t.call.id)
	t.over = true
	body, err := simcall.Ended(t.vapiCall, time.Now())
	if err != nil {
		return err
	}
	if _, _, err = t.to.post(ctx, body); err == nil {
		t.report.show(event{Event: "hang-up", Text: "The caller hangs up."})
	}
	return err
}

// end shows the end of the job. It returns an error if the result is a failure, or did not reach the call.
func (t *trial) end(d operator.Details) error {
	for {
		select {
		case m := <-t.call.heard: // posted before the record says that it was delivered
			t.hear(context.Background(), m)
			continue
		default:
		}
		break
	}
	if d.Data != nil && d.Data.Result != "" && !t.heardResult {
		t.report.show(event{
			Event: "result", Status: string(d.Status), CancelledBy: d.CancelledBy, Text: d.Data.Result,
		})
	}
	dropped := d.State == job.StateUndelivered && d.AfterCall == string(asynctool.Drop)
	reason := ""
	if d.State != job.StateUndelivered { // otherwise it says why the result was not delivered
		reason = d.Reason
	}
	e := event{Event: "end", State: string(d.State), Status: string(d.Status), CancelledBy: d.CancelledBy}
	if d.Status == job.StatusError || d.CancelledBy != "" {
		e.Reason = reason
	}
	t.report.end(e, t.ending(d, dropped))
	switch {
	case t.over:
		return nil
	case d.CancelledBy != "":
		return errors.New(cancellation(d.CancelledBy, reason) + t.hint())
	case d.Status == job.StatusError && reason != "":
		return errors.New("the tool failed: " + reason + t.hint())
	case d.Status == job.StatusError:
		return errors.New("the tool failed" + t.hint())
	case d.State == job.StateDelivered, d.State == "", !t.reachable:
		return nil
	}
	return errors.New("the result did not reach the call" + t.hint())
}

// cancellation says who cancelled a job, and why if the reason says so.
func cancellation(by, reason string) string {
	if detail, ok := strings.CutPrefix(reason, operator.CancelledByOperator+": "); ok {
		return "the job was cancelled by an operator: " + detail
	}
	switch by {
	case "operator":
		return "the job was cancelled by an operator"
	case "assistant":
		return "the job was cancelled by its assistant"
	case "replaced":
		return "the job was cancelled, as a later tool call replaced it"
	}
	return "the job was cancelled"
}

// ending describes the state of a job to a person.
func (t *trial) ending(d operator.Details, dropped bool) string {
	text := ""
	switch {
	case d.State == job.StateParked:
		text = "The result waits for the customer's next call."
	case dropped:
		text = "The result was dropped, as the tool asks."
	case d.State == job.StateUndelivered && !t.reachable:
		return "The result is in the job's record, and in an undelivered event."
	case d.State == job.StateUndelivered:
		text = "The result became an undelivered event."
	case d.State == job.StateReplayed:
		return "The result is in the record of the replay, and is not delivered."
	case d.State == job.StateCancelled:
		return "The job was cancelled. It has no result."
	}
	if t.over && text != "" {
		return "The call was over. " + text
	}
	return text
}
