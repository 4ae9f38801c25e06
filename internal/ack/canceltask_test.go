package ack_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
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
				want = []string{fmt.Sprintf(`{"version":1,"kind":"withdraw","jobId":%q}`, row.cancels)}
			}
			if messages := q.TakeBodies(); !slices.Equal(messages, want) {
				t.Errorf("queued %q, want %q", messages, want)
			}
		})
	}
}
