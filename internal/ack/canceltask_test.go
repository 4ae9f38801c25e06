package ack_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memtable"
	"github.com/ringback/ringback/internal/policy"
)

func TestCancelTaskName(t *testing.T) {
	if ack.CancelTask != asynctool.CancelTaskName {
		t.Errorf("the tool is named %q here, and %q in asynctool", ack.CancelTask, asynctool.CancelTaskName)
	}
}

// jobsTable is a table of jobs that can fail.
type jobsTable struct {
	*jobtable.Table
	t      *testing.T
	before func()                  // runs just before a change
	fail   func(step string) error // before the step
	after  func(step string) error // after the step
}

func newJobsTable(t *testing.T) *jobsTable {
	return &jobsTable{Table: jobtable.New(new(memtable.Store)), t: t}
}

func (j *jobsTable) set(cfg *ack.Config) { cfg.Jobs = j }

func (j *jobsTable) step(step string) error {
	if j.fail == nil {
		return nil
	}
	return j.fail(step)
}

func (j *jobsTable) OfCall(ctx context.Context, callID string) ([]job.Summary, error) {
	if err := j.step("list"); err != nil {
		return nil, err
	}
	return j.Table.OfCall(ctx, callID)
}

func (j *jobsTable) Load(ctx context.Context, id string) (job.Record, error) {
	if err := j.step("load"); err != nil {
		return job.Record{}, err
	}
	return j.Table.Load(ctx, id)
}

func (j *jobsTable) Change(ctx context.Context, id string, rule job.Rule) (job.Record, error) {
	if j.before != nil {
		j.before()
	}
	if err := j.step("change"); err != nil {
		return job.Record{}, err
	}
	r, err := j.Table.Change(ctx, id, rule)
	if j.after != nil {
		return r, errors.Join(err, j.after("change"))
	}
	return r, err
}

// add adds a job that was started before a time. The rules then change it.
func (j *jobsTable) add(call, id, tool string, cancellable bool, ago time.Duration, rules ...job.Rule) {
	j.t.Helper()
	p := job.Policy{Delivery: policy.DeliveryRespond, Cancellable: cancellable}
	first := job.Job{ID: call + "/" + id, ToolCallID: id, Tool: tool, Call: job.Call{ID: call}}
	_, err := j.Claim(j.t.Context(), job.NewRecord(first, p, now.Add(time.Hour), "m", now.Add(-ago), 2*time.Hour))
	for _, rule := range rules {
		if err == nil {
			_, err = j.Table.Change(j.t.Context(), first.ID, rule)
		}
	}
	if err != nil {
		j.t.Fatal(err)
	}
}

func (j *jobsTable) state(id string) job.State {
	j.t.Helper()
	r, err := j.Table.Load(j.t.Context(), id)
	if err != nil {
		j.t.Fatal(err)
	}
	return r.State
}

// cancelled returns the ids of the cancelled jobs of some calls.
func (j *jobsTable) cancelled(calls ...string) (ids []string) {
	j.t.Helper()
	for _, call := range calls {
		all, err := j.Table.OfCall(j.t.Context(), call)
		if err != nil {
			j.t.Fatal(err)
		}
		for _, s := range all {
			if s.State == job.StateCancelled {
				ids = append(ids, s.ID)
			}
		}
	}
	return ids
}

var (
	waits = job.Suspend(now.Add(-time.Second), job.Job{Call: job.Call{ID: "call-1"}}, now.Add(time.Hour), false, nil)
	ends  = job.Finish(now.Add(-time.Second), job.Result{Status: job.StatusOK, Content: "Done."}, false, "")
	gives = job.Settle(now.Add(-time.Second), job.StateDelivered, "")
)

const (
	ofReport = "report, started 90 seconds ago, "
	unclear  = "Nothing was cancelled: the arguments can't be used"
	which    = "Nothing was cancelled, because several tasks are running. Find out which one the caller means, and " +
		`call cancel_task again with its "tool", and with its "number" if it has one.`
	isGone  = "is cancelled. No result of it will arrive. What it had already done is not undone."
	nothing = "Nothing was cancelled: no such task is running in this call. If it was started a moment ago, it can't " +
		"be cancelled yet: call cancel_task again in a few seconds."
)

// TestCancelTask tests what one tool call cancels, and what it answers.
func TestCancelTask(t *testing.T) {
	report := func(j *jobsTable) { j.add("call-1", "r", "report", true, 90*time.Second) }
	refund := func(j *jobsTable) { j.add("call-1", "f", "refund", false, time.Minute) }
	both := func(j *jobsTable) { report(j); refund(j) }
	reports := func(j *jobsTable) { report(j); j.add("call-1", "r2", "report", true, 10*time.Second, waits) }
	second := ack.Number("call-1/r2", nil)
	for name, row := range map[string]struct {
		jobs      func(*jobsTable) // nil means none
		arguments string
		cancels   string // the id of the job; empty means none
		want      string // the beginning of the answer, or all of it if it ends with a full stop
		withdraws bool   // a message is queued
	}{
		"no job":       {want: nothing},
		"the only job": {jobs: report, cancels: "call-1/r", want: ofReport + isGone},
		"the only job, by name": {
			jobs: report, arguments: `{"tool":"report"}`, cancels: "call-1/r", want: ofReport + isGone,
		},
		"the only one that it can be": {jobs: both, cancels: "call-1/r", want: ofReport + isGone},
		"a waiting job": {
			jobs:    func(j *jobsTable) { j.add("call-1", "r", "report", true, 90*time.Second, waits) },
			cancels: "call-1/r", want: ofReport + isGone, withdraws: true,
		},
		"null and blank arguments": {
			jobs: report, arguments: `{"tool":null,"number":" "}`, cancels: "call-1/r", want: ofReport + isGone,
		},
		"a job that can't be cancelled": {
			jobs: both, arguments: `{"tool":"refund"}`,
			want: "Nothing was cancelled: this can't be cancelled, and its result will still arrive. " +
				"refund, started 60 seconds ago, is still running.",
		},
		"another tool": {
			jobs: report, arguments: `{"tool":"reports"}`, want: nothing + " " + ofReport + "is still running.",
		},
		"a result that is being delivered": {
			jobs: func(j *jobsTable) { j.add("call-1", "r", "report", true, 90*time.Second, ends) },
			want: nothing + " " + ofReport + "is finished, and its result is being delivered now.",
		},
		"a result that was delivered": {
			jobs: func(j *jobsTable) { j.add("call-1", "r", "report", true, 90*time.Second, ends, gives) },
			want: nothing + " " + ofReport + "is finished, and its result was delivered 1 second ago.",
		},
		"a job that was replaced": {
			jobs: func(j *jobsTable) {
				j.add("call-1", "r", "report", true, 90*time.Second, job.Replace(now, "replaced by tool call x"))
			},
			want: nothing + " " + ofReport + "was cancelled, or replaced by a later request.",
		},
		"a job of another call": {
			jobs: func(j *jobsTable) { j.add("call-2", "r", "report", true, 90*time.Second) }, want: nothing,
		},
		"several tools": {
			jobs: func(j *jobsTable) { report(j); j.add("call-1", "e", "export", true, time.Minute) },
			want: which + " export, started 60 seconds ago, is still running. " + ofReport + "is still running.",
		},
		"one of several tools": {
			jobs:      func(j *jobsTable) { report(j); j.add("call-1", "e", "export", true, time.Minute) },
			arguments: `{"tool":"export"}`, cancels: "call-1/e", want: "export, started 60 seconds ago, " + isGone,
		},
		"several jobs of a tool": {
			jobs: reports, arguments: `{"tool":"report"}`,
			want: which + " report (number " + second + "), started 10 seconds ago",
		},
		"one of several jobs": {
			jobs: reports, arguments: `{"tool":"report","number":"` + second + `"}`, cancels: "call-1/r2",
			want: "report (number " + second + "), started 10 seconds ago, " + isGone, withdraws: true,
		},
		"a number that is a number": {
			jobs: reports, arguments: `{"number":` + second + `}`, cancels: "call-1/r2",
			want: "report (number " + second + "), started 10 seconds ago, " + isGone, withdraws: true,
		},
		"a number with words": {
			jobs: reports, arguments: `{"number":"number ` + second + `."}`, cancels: "call-1/r2",
			want: "report (number " + second + "), started 10 seconds ago, " + isGone, withdraws: true,
		},
		"an unknown number": {
			jobs: reports, arguments: `{"number":"12345678"}`, want: nothing + " report (number " + second + "), ",
		},
		"a number that is too short": {jobs: report, arguments: `{"number":"51"}`, want: unclear},
		"a number of words":          {jobs: report, arguments: `{"number":"first"}`, want: unclear},
		"a list as a number":         {jobs: report, arguments: `{"number":[1234]}`, want: unclear},
		"a tool that is no text":     {jobs: report, arguments: `{"tool":1}`, want: unclear},
		"an unknown argument":        {jobs: report, arguments: `{"id":"r"}`, want: unclear},
		"no object":                  {jobs: report, arguments: `[1]`, want: unclear},
		"itself, of an older function": {
			jobs: func(j *jobsTable) { j.add("call-1", "c", "cancel_task", true, time.Minute) }, want: nothing,
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJobsTable(t)
			if row.jobs != nil {
				row.jobs(j)
			}
			if row.arguments == "" {
				row.arguments = "{}"
			}
			response, q := receive(t, webhook(call, toolCall("t1", "cancel_task", row.arguments)), j.set)
			got := results(t, response.Code, response.Body.String())
			if len(got) != 1 || got[0].Error != "" || got[0].ToolCallID != "t1" || !strings.HasPrefix(got[0].Result, row.want) ||
				strings.HasSuffix(row.want, ".") && got[0].Result != row.want {
				t.Errorf("answered with %+v\nwant %s", got, row.want)
			}
			var want []string
			if row.cancels != "" {
				want = []string{row.cancels}
			}
			if ids := j.cancelled("call-1", "call-2"); row.cancels != "" && !slices.Equal(ids, want) ||
				row.cancels == "" && len(ids) > 0 && name != "a job that was replaced" {
				t.Errorf("cancelled %q, want %q", ids, want)
			}
			if want = nil; row.withdraws {
				want = []string{fmt.Sprintf(`{"version":1,"kind":"check","jobId":%q}`, row.cancels)}
			}
			if messages := q.TakeBodies(); !slices.Equal(messages, want) {
				t.Errorf("queued %q, want %q", messages, want)
			}
		})
	}
}

// TestCancelTaskFails tests that an answer does not promise what is not certain.
func TestCancelTaskFails(t *testing.T) {
	const reached = "Nothing was cancelled: I can't reach the tools right now. Ask again in a moment."
	throttled := errors.New("throttled")
	down := func(step string) func(string) error {
		return func(s string) error {
			if s == step {
				return throttled
			}
			return nil
		}
	}
	unsure := "I can't tell whether report was cancelled. Call cancel_task again in a moment, with its \"tool\" and the " +
		"\"number\" " + ack.Number("call-1/r", nil) + "."
	for name, row := range map[string]struct {
		change func(*jobsTable)
		queue  func(i int) error
		want   string
		state  job.State
	}{
		"to list":               {func(j *jobsTable) { j.fail = down("list") }, nil, reached, job.StateWaiting},
		"to load":               {func(j *jobsTable) { j.fail = down("load") }, nil, reached, job.StateWaiting},
		"to write":              {func(j *jobsTable) { j.fail = down("change") }, nil, unsure, job.StateWaiting},
		"to hear that it wrote": {func(j *jobsTable) { j.after = down("change") }, nil, unsure, job.StateCancelled},
		"to queue the check":    {nil, func(int) error { return throttled }, ofReport + isGone, job.StateCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJobsTable(t)
			j.add("call-1", "r", "report", true, 90*time.Second, waits)
			if row.change != nil {
				row.change(j)
			}
			body := webhook(call, toolCall("t1", "cancel_task", "{}"))
			response, _ := receive(t, body, j.set, failing(row.queue))
			checkResults(t, response, []result{{Name: "cancel_task", ToolCallID: "t1", Result: row.want}})
			if state := j.state("call-1/r"); state != row.state {
				t.Errorf("the job is %s, want %s", state, row.state)
			}
		})
	}
	t.Run("to answer in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j := newJobsTable(t)
			j.add("call-1", "r", "report", true, 90*time.Second, waits)
			hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			began := time.Now()
			response, _ := receive(t, webhook(call, toolCall("t1", "cancel_task", "{}")), func(cfg *ack.Config) {
				cfg.Jobs = hanging{j, hang}
			})
			checkResults(t, response, []result{{Name: "cancel_task", ToolCallID: "t1", Result: unsure}})
			if took := time.Since(began); took != 3*time.Second {
				t.Errorf("the caller waited %s", took)
			}
		})
	})
	t.Run("not if the jobs cannot be queued", func(t *testing.T) {
		j := newJobsTable(t)
		j.add("call-1", "r", "report", true, 90*time.Second)
		body := webhook(call, toolCall("t1", "cancel_task", "{}"), toolCall("t2", "a", "{}"))
		response, _ := receive(t, body, j.set, failing(func(int) error { return throttled }))
		if state := j.state("call-1/r"); response.Code != 503 || state != job.StateRunning {
			t.Errorf("status %d; the job is %s", response.Code, state)
		}
	})
}

// hanging is a table whose changes hang.
type hanging struct {
	*jobsTable
	hang func(context.Context) error
}

func (h hanging) Change(ctx context.Context, _ string, _ job.Rule) (job.Record, error) {
	return job.Record{}, h.hang(ctx)
}

// TestCancelTaskTooLate ends the job between the look at it and the change.
func TestCancelTaskTooLate(t *testing.T) {
	for name, row := range map[string]struct {
		rule job.Rule
		want string
	}{
		"its result": {ends, "Nothing was cancelled: the task has just ended. " + ofReport +
			"is finished, and its result is being delivered now."},
		"a later tool call": {job.Replace(now, "replaced by tool call x"), "Nothing was cancelled: the task has just " +
			"ended. " + ofReport + "was cancelled, or replaced by a later request."},
		"another cancellation": {job.Withdraw(now, "cancelled by tool call x"), ofReport + isGone},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJobsTable(t)
			j.add("call-1", "r", "report", true, 90*time.Second)
			j.before = func() {
				if _, err := j.Table.Change(t.Context(), "call-1/r", row.rule); err != nil {
					t.Error(err)
				}
			}
			response, q := receive(t, webhook(call, toolCall("t1", "cancel_task", "{}")), j.set)
			checkResults(t, response, []result{{Name: "cancel_task", ToolCallID: "t1", Result: row.want}})
			checkJobs(t, q)
		})
	}
}

// TestCancelTaskTwice tests that a repeated webhook does not cancel another job, and that a second tool
// call learns that its job is cancelled.
func TestCancelTaskTwice(t *testing.T) {
	j := newJobsTable(t)
	at := now
	h, _ := newHandler(t, j.set, func(cfg *ack.Config) { cfg.Now = func() time.Time { return at } })
	ask := func(id, arguments, want string) {
		t.Helper()
		response := serve(t, h, post(webhook(call, toolCall(id, "cancel_task", arguments))))
		if got := results(t, response.Code, response.Body.String()); !strings.HasPrefix(got[0].Result, want) {
			t.Errorf("answered with %s\nwant %s", got[0].Result, want)
		}
	}
	j.add("call-1", "r", "report", true, 90*time.Second)
	ask("t1", "{}", ofReport+isGone)
	j.add("call-1", "e", "export", true, 0)
	ask("t1", "{}", ofReport+isGone) // the same webhook
	ask("t2", `{"tool":"report"}`, ofReport+isGone)
	if state := j.state("call-1/e"); state != job.StateRunning {
		t.Errorf("the other job is %s", state)
	}
	at = at.Add(time.Minute)
	ask("t3", "{}", "export, started 60 seconds ago, "+isGone)
	j.add("call-1", "f", "forecast", true, 0)
	ask("t3", `{"tool":"forecast"}`, "forecast, started 60 seconds ago, "+isGone) // the model reuses the id
	long := strings.Repeat("i", 4000)
	j.add("call-1", "g", "gallery", true, 0)
	ask(long, "{}", "gallery, started 60 seconds ago, "+isGone)
	j.add("call-1", "h", "harvest", true, 0)
	ask(long, "{}", "gallery, started 60 seconds ago, "+isGone) // the same webhook
	at = at.Add(time.Hour)
	ask("t4", `{"tool":"report"}`, nothing+" report, started 63 minutes ago, was cancelled, or replaced")
}

// TestCancelTaskAmongOthers tests a webhook with other tool calls: the status is the one afterwards.
func TestCancelTaskAmongOthers(t *testing.T) {
	j := newJobsTable(t)
	j.add("call-1", "r", "report", true, 90*time.Second)
	response, q := receive(t, webhook(call, toolCall("t1", "task_status", "{}"), toolCall("t2", "a", "{}"),
		toolCall("t3", "cancel_task", "{}"), toolCall("t4", "cancel_task", `{"tool":"a"}`)), j.set)
	checkResults(t, response, []result{
		{Name: "task_status", ToolCallID: "t1", Result: "No tool is running in this call any more. " + ofReport +
			"was cancelled, or replaced by a later request."},
		started("a", "t2"),
		{Name: "cancel_task", ToolCallID: "t3", Result: ofReport + isGone},
		{Name: "cancel_task", ToolCallID: "t4", Result: nothing + " " + ofReport +
			"was cancelled, or replaced by a later request."},
	})
	checkJobs(t, q, "call-1/t2")

	response, q = receive(t, webhook(call, toolCall("t1", "cancel_task", "{}"))) // without a table
	checkResults(t, response, []result{started("cancel_task", "t1")})
	checkJobs(t, q, "call-1/t1")
}

// TestNumbers tests that the numbers of a call's jobs are short, unique, and the same for task_status.
func TestNumbers(t *testing.T) {
	var jobs []job.Summary
	for i := range jobtable.MaxOfCall {
		jobs = append(jobs, job.Summary{ID: fmt.Sprint("call-1/", i), Tool: "a", State: job.StateRunning, Created: now})
	}
	seen := make(map[string]bool)
	short := regexp.MustCompile(`^[1-9][0-9]{3,6}$`)
	for _, s := range jobs {
		n := ack.Number(s.ID, jobs)
		if !short.MatchString(n) || seen[n] || !strings.HasPrefix(n, ack.Number(s.ID, nil)) {
			t.Errorf("job %s has the number %s", s.ID, n)
		}
		seen[n] = true
	}
	text := ack.StatusText(jobs[:2], now, nil)
	want := fmt.Sprintf("a (number %s), started 0 seconds ago, is still running. a (number %s), started",
		ack.Number(jobs[0].ID, nil), ack.Number(jobs[1].ID, nil))
	if !strings.HasPrefix(text, want) {
		t.Errorf("the status is %s\nwant %s", text, want)
	}
	jobs[1].State = job.StateDelivered
	if text := ack.StatusText(jobs[:2], now, nil); strings.Contains(text, "number") {
		t.Errorf("the status is %s, and one job is left", text)
	}
}
