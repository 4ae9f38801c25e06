package faults_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var mutants = flag.Bool("faults.mutants", false,
	"put bugs into copies, and check that the tests find them; writes the table in docs/faults.md")

// mutant is a deliberate bug.
type mutant struct {
	bug   string
	edits []edit
	tests []string // arguments of go test; nil means the shortened fault harness
}

// edit replaces a text that a file contains once.
type edit struct{ file, old, new string }

var (
	inProcess   = []string{"./internal/process"}
	ofParked    = []string{"./internal/local/pipeline", "-run", "^TestParkedResultEnds$"}
	lateWakeUps = []string{"./internal/faults", "-run", "^TestWakeUps$"}
	withWakeUps = []string{"./internal/process", "-run", "^TestWakeUpOfAnUnknownJob$"}
)

var harness = []string{"./internal/faults", "-run", "^(TestWithoutFaults|TestFaults)$"}

// leases are the tests of what is done under a lease.
var leases = []string{"./internal/process"}

// conditional are the tests of what AWS may do although nothing fails.
var conditional = []string{"./internal/faults", "-run", "^TestConditions$", "-args", "-faults.seed=1"}

// localRun are the tests of what the local run refuses.
var localRun = []string{"./internal/local/guard", "./internal/local/dev", "./internal/local/slowshop"}

var twoVersions = []string{"./internal/faults", "-run", "^TestTwoVersions$"}

// deliveries are the tests of what is done under the lease of a delivery.
var deliveries = []string{"./internal/callback", "-run", "^(TestLateAnswers|TestNoTimeFor.*|TestSlowProgress.*|" +
	"TestUnclaimedIsNotDelivered|TestOutageInABatch|TestCalledAfterTheDeadline|TestCallStillLive|TestPosted|" +
	"TestSeveralInAMessage)$"}

var floods = []string{"./infra/ringback", "-run", "^(TestThrottles|TestFloodAlarms|TestCustomDomain)$"}

var bugs = []mutant{
	{bug: "the claim without its condition", edits: []edit{
		{"internal/local/memtable/memtable.go", "if s.byKey[r.Key()].SavedRevision() != r.SavedRevision() {",
			"if false {"},
		{"internal/aws/dynamotable/dynamotable.go", "if revision == 0 {", "if true {\n\t} else if revision == 0 {"},
	}},
	{bug: "the mark before the post", edits: []edit{
		{"internal/callback/callback.go", "receipt, err := d.postResult(",
			"_ = d.mark(ctx, job.StateDelivered, \"\")\n\treceipt, err := d.postResult("},
	}},
	{bug: "the outcome sent before it is stored", edits: []edit{
		{"internal/process/finish.go", "retry := e.send(ctx)\n\te.leave(ctx)\n\tif e.wakeUp != record.WakeUp {",
			"e.leave(ctx)\n\tif e.wakeUp != record.WakeUp {"},
		{"internal/process/finish.go", "rule := job.Finish(", "claimed := e.record\n" +
			"\te.record.State, e.record.Result, e.record.Exhausted = job.StateDone, &end.result, end.exhausted\n" +
			"\te.record.LeaseExpiry = time.Time{}\n" +
			"\tretry := e.send(ctx)\n\te.record = claimed\n\trule := job.Finish("},
	}},
	{bug: "a swallowed send error", edits: []edit{
		{"internal/process/finish.go", "e.out.send(e.job.Outcome(e.record), wait); err != nil {",
			"e.out.send(e.job.Outcome(e.record), wait); err != nil && false {"},
	}},
	{bug: "a failed message missing in the partial batch response", edits: []edit{
		{"internal/batch/batch.go", "if retry != nil {", "if retry != nil && i > 0 {"},
	}},
	{bug: "no backoff cap", edits: []edit{
		{"internal/batch/batch.go", "return growing(first, MaxBackoff, n)", "return growing(first, 1<<30*time.Second, n)"},
	}},
	{bug: "the lease ignored", edits: []edit{
		{"internal/job/rule.go", "case r.State == StateRunning && now.Before(r.LeaseExpiry):", "case false:"},
		{"internal/jobtable/table.go", "case r.State == job.StateRunning && now.Before(until):", "case false:"},
	}},
	{bug: "the lease ignored by a copy of the message that has it", tests: conditional, edits: []edit{
		{"internal/job/rule.go", "case r.State == StateRunning && now.Before(r.LeaseExpiry):",
			"case r.State == StateRunning && now.Before(r.LeaseExpiry) && r.Owner != owner:"},
		{"internal/jobtable/table.go", "case r.State == job.StateRunning && now.Before(until):",
			"case r.State == job.StateRunning && now.Before(until) && r.Owner != first.Owner:"},
	}},
	{bug: "a wake-up dropped that is early by another clock", tests: conditional, edits: []edit{
		{"internal/process/suspend.go", "return e.retryAt(until)", "return nil"},
	}},
	{bug: "attempts counted by the receives of the message", tests: conditional, edits: []edit{
		{"internal/process/run.go", "last := e.record.Attempt >= e.tool.Attempts ||",
			"last := batch.Receives(e.message) >= e.tool.Attempts ||"},
	}},
	{bug: "the deadline ignored", edits: []edit{
		{"internal/callback/callback.go", "case d.cfg.Now().After(o.Deadline):", "case false:"},
	}},
	{bug: "the signature compared over the decoded body", tests: []string{"./vapi/vapiauth"}, edits: []edit{
		{"vapi/vapiauth/auth.go", "mac.Write(r.Body)", "var decoded any\n\t\t\t_ = json.Unmarshal(r.Body, &decoded)\n" +
			"\t\t\tencoded, _ := json.Marshal(decoded)\n\t\t\tmac.Write(encoded)"},
	}},
	{bug: "a redirect followed", tests: []string{"./vapi/vapiclient"}, edits: []edit{
		{"vapi/vapiclient/receipt.go", "transport.RoundTrip(request)",
			"(&http.Client{Transport: transport}).Do(request)"},
	}},
	{bug: "a suspended job is not resumed", edits: []edit{
		{"internal/process/suspend.go", "e.leave(ctx)\n\treturn e.scheduleWakeUp(ctx)", "e.leave(ctx)\n\treturn nil"},
	}},
	{bug: "a wake-up not scheduled after a death", edits: []edit{
		{"internal/process/suspend.go",
			"case e.record.Owner == e.message.MessageId || e.sentAt().After(e.record.Suspended):", "case false:"},
	}},
	{bug: "a redriven job taken as scheduled once its record has changed", tests: inProcess, edits: []edit{
		{"internal/process/suspend.go", "e.sentAt().After(e.record.Suspended):", "e.sentAt().After(e.record.Updated):"},
	}},
	{bug: "a late copy of a wake-up taken for a redrive", tests: inProcess, edits: []edit{
		{"internal/process/finish.go", "scheduled(e.record) && !sent.After(e.record.WakeAt.Add(lateWakeUps))", "false"},
	}},
	{bug: "a late copy of an earlier wake-up taken for a redrive", tests: inProcess, edits: []edit{
		{"internal/process/finish.go", "e.wakeUp != e.record.WakeUp ||\n", "false ||\n"},
	}},
	{bug: "a dead wake-up that was late taken for a redrive", tests: lateWakeUps, edits: []edit{
		{"internal/process/finish.go", "if e.record.Owner == e.message.MessageId {\n\t\treturn false",
			"if false {\n\t\treturn false"},
	}},
	{bug: "an alarm for a wake-up whose record has expired", tests: inProcess, edits: []edit{
		{"internal/process/process.go", "if errors.Is(err, jobtable.ErrNotFound) {",
			"if false && errors.Is(err, jobtable.ErrNotFound) {"},
	}},
	{bug: "a wake-up dropped if its record cannot be read", tests: withWakeUps, edits: []edit{
		{"internal/process/process.go", "if errors.Is(err, jobtable.ErrNotFound) {",
			"if err != nil || errors.Is(err, jobtable.ErrNotFound) {"},
	}},
	{bug: "the schedule of a replaced job is left", tests: inProcess, edits: []edit{
		{"internal/process/admit.go", "if record.State == job.StateCancelled {", "if false {"},
	}},
	{bug: "the schedule of a job that another message woke up is left", tests: inProcess, edits: []edit{
		{"internal/process/finish.go", "if e.wakeUp != record.WakeUp {", "if false {"},
	}},
	{bug: "a completion without a check", tests: []string{"./internal/completion"}, edits: []edit{
		{"internal/completion/completion.go", "\t\th.check(ctx, record)\n", ""},
	}},
	{bug: "an operator's cancellation without a check", tests: []string{"./internal/operator"}, edits: []edit{
		{"internal/operator/operator.go", "\t\tj.check(ctx, r)\n", ""},
	}},
	{bug: "a check that sends no stored result", tests: inProcess, edits: []edit{
		{"internal/process/check.go", "retry = e.send(ctx)", "_ = e"},
	}},
	{bug: "a check that leaves the schedule", tests: inProcess, edits: []edit{
		{"internal/process/check.go", "if err := h.wakeUps.cancel(ctx, record); err != nil {",
			"if err := error(nil); err != nil {"},
	}},
	{bug: "a check that resumes a job before its time", tests: inProcess, edits: []edit{
		{"internal/process/check.go", "case record.State.Active() && !record.Summary().Overdue(h.cfg.Now()):",
			"case record.State == job.StateRunning:"},
	}},
	{bug: "a sweep that does not continue", tests: inProcess, edits: []edit{
		{"internal/process/check.go", "if err == nil && next != \"\" {", "if false {"},
	}},
	{bug: "a sweep that leaves overdue wake-ups", tests: inProcess, edits: []edit{
		{"internal/job/record.go", "return s.State == StateWaiting && now.After(s.WakeAt.Add(overdue)) ||",
			"return false ||"},
	}},
	{bug: "a sweep that leaves unsent results", tests: inProcess, edits: []edit{
		{"internal/job/record.go", "s.State == StateDone && now.After(s.Updated.Add(overdue))", "false"},
	}},
	{bug: "a parked result delivered in a third call", tests: ofParked, edits: []edit{
		{"internal/job/rule.go", "now.After(r.Deadline) && r.OutcomePending():",
			"now.After(r.Deadline) && !now.Before(r.LeaseExpiry):"},
	}},
	{bug: "a parked result forgotten in silence", tests: ofParked, edits: []edit{
		{"internal/job/record.go", "s.State == StateParked && !now.Before(s.Updated.Add(ParkedTime))", "false"},
	}},
	{bug: "a parked result that no call got forgotten in silence", tests: ofParked, edits: []edit{
		{"internal/process/check.go",
			"if record.State == job.StateParked || record.OutcomePending() && record.NextCallID != \"\" {",
			"if record.State == job.StateParked {"},
	}},
	{bug: "the event of a parked result without the customer", tests: ofParked, edits: []edit{
		{"internal/callback/aftercall.go", "d.record.StoredJob = &j", "_ = &j"},
	}},
	{bug: "a copy from before the parking claims the result", tests: []string{"./internal/callback"}, edits: []edit{
		{"internal/callback/lease.go", "job.ClaimDeliveryIn(d.outcome.Call.ID, began, lease)",
			"job.ClaimDelivery(began, lease)"},
	}},
	{bug: "a record that expires before the sweep looks for its result", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job/record.go", "\t\tlast = last.Add(unsettledTime)\n", ""},
	}},
	{bug: "no daily sweep", tests: []string{"./internal/local/pipeline", "-run", "^TestDailySweep$"}, edits: []edit{
		{"internal/local/pipeline/pipeline.go", "running.Go(func() { p.sweep(ctx) })", ""},
	}},
	{bug: "an external result for a finished job", edits: []edit{
		{"internal/job/rule.go",
			"case !r.State.Active():\n\t\t\treturn r, ErrFinished\n\t\tcase now.After(r.Deadline) || r.StoredJob == nil:",
			"case now.After(r.Deadline) || r.StoredJob == nil:"},
	}},
	{bug: "a tool's own result in place of the external one", edits: []edit{
		{"internal/job/rule.go",
			"if r.State != StateRunning {\n\t\t\treturn r, ErrFinished\n\t\t}\n\t\tif r.WakeUp > 0", "if r.WakeUp > 0"},
		{"internal/jobtable/table.go", "case r.Revision == claimed.Revision || r.OwnedAs(claimed):", "case true:"},
	}},
	{bug: "a result delivered while a progress line is", edits: []edit{
		{"internal/job/rule.go", "case now.Before(r.ProgressLeaseExpiry):\n" +
			"\t\t\treturn r, &BusyError{Until: r.ProgressLeaseExpiry}\n\t\t}\n\t\tr.LeaseExpiry, r.Answered",
			"}\n\t\tr.LeaseExpiry, r.Answered"},
	}},
	{bug: "progress lines delivered in any order", edits: []edit{
		{"internal/job/rule.go", "sequence < last ||\n\t\t\tsequence > 0 && sequence <= r.ProgressDelivered ||",
			"sequence < last && false ||"},
	}},
	{bug: "of results delivered together, only the first", edits: []edit{
		{"internal/callback/round.go", "strings.Join(contents, separator)", "strings.Join(contents[:1], \"\")"},
	}},
	{bug: "the text of an action spoken again with the action", edits: []edit{
		{"internal/callback/action.go", "case !textDelivered && spoken", "case spoken"},
	}},
	{bug: "an action forgotten after its text", edits: []edit{
		{"internal/callback/action.go", "return &batch.Retry{After: delay}\n}\n\n// dropAction",
			"return d.conclude(ctx, receipt)\n}\n\n// dropAction"},
	}},
	{bug: "a GPT-Live call that refuses a classic message is over", edits: []edit{
		{"internal/callback/dialect.go", "return 400 <= r.Status", "return false && 400 <= r.Status"},
	}},
	{bug: "a result in the answer that is not marked", edits: []edit{
		{"internal/ack/quick.go", "err := q.cfg.Table.Settle(ctx, claimed, q.cfg.Now(), job.StateDelivered, reason)",
			"err := error(nil)\n\t\t_ = reason"},
	}},
	{bug: "an outbound call recorded after it was made", edits: []edit{
		{"internal/callback/outboundcall.go", "receipt := c.Client.Call(calling, call)\n", "_ = calling\n"},
		{"internal/callback/outboundcall.go", "record, err := d.cfg.Table.ChangeClaimed(",
			"receipt := c.Client.Call(ctx, call)\n\trecord, err := d.cfg.Table.ChangeClaimed("},
	}},
	{bug: "a result marked as parked before it is", edits: []edit{
		{"internal/callback/aftercall.go", "parked, err := d.cfg.Customers.Park(",
			"_ = d.mark(ctx, job.StateParked, \"\")\n\tparked, err := d.cfg.Customers.Park("},
	}},
	{bug: "a parked result removed before it is sent", edits: []edit{
		{"internal/process/parked.go", "if err := out.send(k.Outcome(record, a.Call), 0)",
			"_ = p.cfg.Customers.Unpark(ctx, customer, p.cfg.Now(), k)\n\tif err := out.send(k.Outcome(record, a.Call), 0)"},
	}},
	{bug: "a task that is called cancelled although it has ended", edits: []edit{
		{"internal/ack/canceltask.go", "case errors.Is(err, job.ErrFinished):\n\t\tlog.", "case false:\n\t\tlog."},
		{"internal/ack/canceltask.go", "case err != nil:\n\t\tlog.", "case false:\n\t\tlog."},
	}},
	{bug: "a task said to be cancelled that the list calls unfinished", tests: conditional, edits: []edit{
		{"internal/ack/canceltask.go", "ended = append(ended, s)", "cancelled = append(cancelled, s)"},
	}},
	{bug: "an operator's cancellation neither repeated nor checked if its outcome was not sent",
		tests: []string{"./internal/faults", "-run", "^TestFaults$/^singly,_long_work", "-args", "-faults.seed=1"},
		edits: []edit{
			{"internal/operator/operator.go", "case errors.Is(err, job.ErrFinished) && r.State == job.StateDone &&",
				"case false && r.State == job.StateDone &&"},
			{"internal/operator/operator.go", "\t\tj.check(ctx, r)\n", ""},
		}},
	{bug: "a long tool's job on the queue of the others", tests: []string{"./internal/local/pipeline", "-run", "Wait"},
		edits: []edit{{"internal/ack/ack.go", "h.long[t.Name] &&", "h.long[\"\"] &&"}}},
	{bug: "a long tool woken up on the queue of the others", tests: []string{"./internal/local/pipeline", "-run", "Wait"},
		edits: []edit{{"internal/process/suspend.go", "entry.Timeout > queue.LongTool", "entry.Timeout < 0"}}},
	{bug: "a long job retried with the other queue's visibility", tests: []string{"./internal/process"},
		edits: []edit{{"internal/process/process.go", "EventSourceARN == long.ARN", "EventSourceARN == \"\""}}},
	{bug: "a job visible while its function runs", tests: []string{"./internal/queue"},
		edits: []edit{{"internal/queue/queue.go", "l.JobsVisibility = l.ProcessTimeout + visibilityMargin",
			"l.JobsVisibility = l.ProcessTimeout"}}},
	{bug: "an alarm on one busy minute", tests: []string{"./infra/ringback", "-run", "TestWaitingJobs"},
		edits: []edit{{"infra/ringback/alarms.go", "r.alarmAfter(2, prefix", "r.alarmAfter(1, prefix"}}},
	// A caller's words, a service's answer, and the command line.
	{bug: "a path with dots accepted as an identifier", tests: []string{"./asynctool", "-run", "Identifier"},
		edits: []edit{{"asynctool/identifier.go", `strings.Contains(id, "..")`, "false"}}},
	{bug: "a caller's words in a path", tests: []string{"./tools", "-run", "OrderStatus"}, edits: []edit{
		{"tools/order_status.go", "asynctool.Identifier(in.OrderID)", "in.OrderID, true"},
	}},
	{bug: "a caller's words in a declared path", tests: []string{"./tools", "-run", "Forwarded"}, edits: []edit{
		{"tools/forward.go", "asynctool.Identifier(text)", "text, true"},
	}},
	{bug: "a header without a bound", tests: []string{"./tools", "-run", "Errors"}, edits: []edit{
		{"tools/request.go", "t.MaxResponseHeaderBytes = maxHeader", "t.MaxResponseHeaderBytes = 10 << 20"},
	}},
	{bug: "an error that quotes the service", tests: []string{"./tools", "-run", "Errors"}, edits: []edit{
		{"tools/request.go", "errors.New(\"the service's answer is malformed: it is incomplete, or not HTTP\")", "err"},
	}},
	{bug: "another deployment's tool moved", tests: []string{"./internal/cli/wiring", "-run", "TestSync"}, edits: []edit{
		{"internal/cli/wiring/sync.go", "case t.Server.URL != s.URL:", "case false:"},
	}},
	{bug: "another owner's credential replaced", tests: []string{"./internal/cli/wiring", "-run", "TestSync"},
		edits: []edit{
			{"internal/cli/wiring/sync.go", `case t.Server.CredentialID != "" && !slices`, "case false && !slices"},
		}},
	{bug: "a tool moved that another client has taken", tests: []string{"./internal/cli/wiring", "-run", "TestSync"},
		edits: []edit{{"internal/cli/wiring/apply.go", `if change.ID != "" && !change.unmoved(raw) {`, "if false {"}}},
	{bug: "changes without the organisation", tests: []string{"./internal/cli", "-run", "TestSync"}, edits: []edit{
		{"internal/cli/wiring/sync.go", "s.organisation = object.OrgID", "_ = object.OrgID"},
	}},
	{bug: "changes without a yes", tests: []string{"./internal/cli", "-run", "TestSync"}, edits: []edit{
		{"internal/cli/sync.go", "if c.Yes {", "if true {"},
	}},
	{bug: "changes whose previous bodies are not stored", tests: []string{"./internal/cli", "-run", "TestSync"},
		edits: []edit{{"internal/cli/sync.go", "err := keep(s.Out, changes.Previous)", "err := error(nil)"}}},
	{bug: "a redirect of send followed", tests: []string{"./internal/cli", "-run", "TestSend"}, edits: []edit{
		{"internal/cli/send.go", "http.DefaultTransport.RoundTrip(request)", "http.DefaultClient.Do(request)"},
	}},
	{bug: "a credential sent without encryption", tests: []string{"./internal/cli", "-run", "TestCommandLine"},
		edits: []edit{{"internal/cli/send.go", `(u.Scheme != "http" || !guard.IsLoopback(u.Hostname()))`,
			`u.Scheme != "http"`}}},
	{bug: "a credential that is not asked for", tests: []string{"./internal/cli", "-run", "TestSendReads"}, edits: []edit{
		{"internal/cli/send.go", `if *credential != "-" {`, "if true {"},
	}},
	{bug: "an error that quotes the deployment", tests: []string{"./internal/cli", "-run", "TestSend"}, edits: []edit{
		{"internal/cli/send.go", `errors.New(failed + "no answer, or one that is not HTTP")`, "err"},
	}},
	{bug: "a secret in an error of Vapi's API", tests: []string{"./vapi/vapiclient", "-run", "TestAPI"}, edits: []edit{
		{"vapi/vapiclient/api.go", "value = without(value, concealing(secrets))", "_ = secrets"},
	}},
	{bug: "an escaped secret in an error of Vapi's API", tests: []string{"./vapi/vapiclient", "-run", "TestAPI"},
		edits: []edit{{"vapi/vapiclient/api.go", "forms = append(forms,\n",
			"forms = append(forms[:len(forms):len(forms)], secret)\n\t\t_ = append(forms,\n"}}},
	// The lease, and what is done under it.
	{bug: "a claim without a limit", tests: leases, edits: []edit{
		{"internal/process/process.go",
			"ctx, cancel := context.WithTimeout(ctx, claimTimeout)\n\tdefer cancel()\n\tif e.wakeUp > 0 {", "if e.wakeUp > 0 {"},
	}},
	{bug: "a claim without an answer not undone", tests: leases, edits: []edit{
		{"internal/process/process.go", "e.unclaim(ctx, first, retry.After)", ""},
	}},
	{bug: "two claims of one message that look the same", tests: leases, edits: []edit{
		{"internal/process/process.go", "nameable(lease)", "lease"},
	}},
	{bug: "a claim that takes effect after it was undone", tests: []string{"./internal/local/memtable"}, edits: []edit{
		{"internal/job/rule.go", "return r, ErrUnchanged\n\t\t}\n\t\treturn r, nil\n\t}}\n}\n\n// Release ends",
			"return r, ErrUnchanged\n\t\t}\n\t\treturn r, ErrUnchanged\n\t}}\n}\n\n// Release ends"},
	}},
	{bug: "a tool started with too little of its lease left", tests: leases, edits: []edit{
		{"internal/process/process.go", "case e.cfg.Now().After(startBy):", "case false:"},
	}},
	{bug: "an admission without a limit", tests: leases, edits: []edit{
		{"internal/process/process.go",
			"ctx, cancel := context.WithTimeout(ctx, startBy.Sub(e.cfg.Now()))\n\tdefer cancel()", ""},
	}},
	{bug: "a result thrown away for one failed write", tests: leases, edits: []edit{
		{"internal/process/lease.go", "if e.storeTime(ctx) <= delay {", "if delay > 0 {"},
	}},
	{bug: "a result stored for longer than the lease", tests: leases, edits: []edit{
		{"internal/process/lease.go", "left := e.lease.until().Sub(e.cfg.Now())\n\tif deadline",
			"left := time.Hour\n\tif deadline"},
	}},
	{bug: "a result stored for longer than the function's time", tests: leases, edits: []edit{
		{"internal/process/lease.go", "left = min(left, time.Until(deadline))",
			"left = min(left, left+time.Until(deadline))"},
	}},
	{bug: "a result taken for that of others, as its write was answered late", tests: leases, edits: []edit{
		{"internal/process/lease.go", "record.Updated.Equal(at) {", "record.Updated.Equal(at.Add(1)) {"},
		{"internal/process/finish.go", "return e.endedByOthers(ctx, record)\n\tcase", "return e.retry()\n\tcase"},
	}},
	{bug: "an unstored outcome not sent", tests: leases, edits: []edit{
		{"internal/process/finish.go", "return e.sendUnstored(ctx, rule)", "return e.retry()"},
	}},
	{bug: "an unstored outcome not stored", tests: []string{"./internal/callback"}, edits: []edit{
		{"internal/callback/callback.go", "if o.Unstored != nil && errors.Is(err, job.ErrNotDone) {", "if false {"},
	}},
	{bug: "an unstored outcome of an attempt that lost the job", tests: []string{"./internal/callback"}, edits: []edit{
		{"internal/job/rule.go", "case o.Unstored == nil || !r.OwnedBy(o.Unstored.AttemptID):", "case o.Unstored == nil:"},
	}},
	{bug: "an unstored outcome delivered in place of a stored one", tests: []string{"./internal/callback"}, edits: []edit{
		{"internal/callback/callback.go",
			"d.outcome.Result, d.outcome.Deadline = *d.record.Result, d.record.Deadline", ""},
	}},
	{bug: "a message hidden for the slowest tool", tests: leases, edits: []edit{
		{"internal/process/lease.go", "d := e.lease.until().Sub(e.cfg.Now()) +", "d := time.Hour +"},
	}},
	{bug: "the message of a dead function hidden for ten minutes", edits: []edit{
		{"internal/process/lease.go", "d := e.lease.until().Sub(e.cfg.Now()) +", "d := 10*time.Minute +"},
	}},
	{bug: "a finished message received again before its batch ends", tests: leases, edits: []edit{
		{"internal/process/process.go", "if left.Add(-1) > 0 && retry == nil {", "if false {"},
	}},
	{bug: "a lease as long as the longest tool", tests: leases, edits: []edit{
		{"internal/process/lease.go", "return min(lease, maxLease), lease > maxLease", "return lease, false"},
	}},
	{bug: "a long lease not renewed", tests: leases, edits: []edit{
		{"internal/process/lease.go", "e.lease.extend(until)", "_ = until"},
	}},
	{bug: "a renewal that a claim does not see", tests: leases, edits: []edit{
		{"internal/jobtable/table.go", "case l.Renews(r) && l.Expiry.After(r.LeaseExpiry):", "case false:"},
	}},
	{bug: "a tool that runs on after its lease", tests: leases, edits: []edit{
		{"internal/process/lease.go", "lose(errLeaseLost)\n\t})", "})"},
	}},
	{bug: "a renewal that counts although its answer was too late", tests: leases, edits: []edit{
		{"internal/process/lease.go", "case !end.Stop():\n\t\t\treturn", "case !end.Stop() && false:\n\t\t\treturn"},
		{"internal/process/lease.go", "lose(errLeaseLost)\n\t})",
			"if e.toolTime() <= 0 {\n\t\t\ttime.Sleep(renewInterval)\n\t\t}\n\t})"},
	}},
	{bug: "a lease renewed after its end", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job/renewal.go", "if !now.Before(before) {", "if now.Before(before) && false {"},
	}},
	{bug: "a renewal of an earlier attempt in place of a later one's", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job/renewal.go", "case l.Revision > 0 && order >= 0:", "case l.Revision > 0 && order > 9:"},
	}},
	{bug: "a slot that ends with the first lease", tests: leases, edits: []edit{
		{"internal/process/lease.go", "e.cfg.Admission.Extend(ctx, c.job, e.cfg.Now(), maxLease)", "ctx.Err()"},
	}},
	{bug: "a message that returns while its lease is renewed", tests: leases, edits: []edit{
		{"internal/process/lease.go",
			"e.aside(context.WithoutCancel(ctx), func(ctx context.Context) { e.hide(ctx, c.log) })", ""},
	}},
	{bug: "a result that waits for a progress line", tests: leases, edits: []edit{
		{"internal/process/toolrun/toolrun.go", "if !suspended {\n\t\treturn\n\t}\n\tpassed",
			"if !suspended {\n\t\t<-h.done\n\t\treturn\n\t}\n\tpassed"},
	}},
	{bug: "a suspension that waits for a progress line", tests: leases, edits: []edit{
		{"internal/process/toolrun/toolrun.go", "case <-passed:\n\tcase <-time.After(lineTimeout):", "case <-passed:"},
	}},
	{bug: "a progress line sent after the result", tests: leases, edits: []edit{
		{"internal/process/toolrun/toolrun.go", "defer h.end()\n\tclose(h.stop)", "close(h.stop)"},
		{"internal/process/toolrun/toolrun.go", "ctx, cancel := context.WithTimeout(h.ctx, lineTimeout)",
			"ctx, cancel := context.WithCancel(h.ctx)"},
	}},
	{bug: "a tool that waits for its hold message", tests: leases, edits: []edit{
		{"internal/process/run.go", "e.aside(ctx, host.sendHold)", "host.sendHold(ctx)"},
	}},
	{bug: "a tool that waits for the search for parked results", tests: leases, edits: []edit{
		{"internal/process/run.go", "e.aside(ctx, func(ctx context.Context) { e.parked.request(ctx, host.claimed) })",
			"e.parked.request(ctx, host.claimed)"},
	}},
	// The lease of a delivery, and what is done under it.
	{bug: "a delivery under a claim that took too long", tests: deliveries, edits: []edit{
		{"internal/callback/lease.go", "d.cfg.Now().Sub(began) > claimTimeout {", "d.cfg.Now().Sub(began) > time.Hour {"},
	}},
	{bug: "a claim of a delivery without a limit", tests: deliveries, edits: []edit{
		{"internal/callback/lease.go", "context.WithTimeout(ctx, claimTimeout)", "context.WithCancel(ctx)"},
	}},
	{bug: "a claim of a delivery without an answer not undone", tests: deliveries, edits: []edit{
		{"internal/callback/lease.go", "d.undo(ctx, job.UnclaimDelivery(d.cfg.Now(), d.lease))", ""},
	}},
	{bug: "a claim of a delivery that takes effect after it was undone", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job/rule.go", "case r.State != StateDone || now.Before(r.LeaseExpiry):", "default:"},
	}},
	{bug: "a progress line under a claim that took too long", tests: deliveries, edits: []edit{
		{"internal/callback/progress.go", "d.cfg.Now().Sub(began) > claimTimeout {", "d.cfg.Now().Sub(began) > time.Hour {"},
	}},
	{bug: "a claim of a progress line not undone", tests: deliveries, edits: []edit{
		{"internal/callback/progress.go", "d.undo(ctx, job.EndProgress(", "_ = d.undo; _ = (job.EndProgress("},
	}},
	{bug: "a post that may outlive its lease", tests: deliveries, edits: []edit{
		{"internal/callback/lease.go", "left := d.left(ctx) - d.reserve()", "left := d.left(ctx) + time.Hour"},
	}},
	{bug: "a post that begins with too little of its lease left", tests: deliveries, edits: []edit{
		{"internal/callback/lease.go", "return ctx, cancel, left >= needed", "return ctx, cancel, true"},
	}},
	{bug: "an outbound call that begins with too little of its lease left", tests: deliveries, edits: []edit{
		{"internal/callback/outboundcall.go", "if d.left(ctx)-markTime < outboundTime {", "if d.left(ctx) < 0 {"},
	}},
	{bug: "the mark given up before the lease is over", tests: deliveries, edits: []edit{
		{"internal/callback/mark.go", "d.write(ctx, d.left(ctx)-leaseMargin, func", "d.write(ctx, 0, func"},
		{"internal/callback/mark.go", "if err := d.send(ctx, d.outcome.Mark(state, reason)); err != nil {",
			"if err != nil {"},
	}},
	{bug: "a result that is never marked if it cannot be marked in time", tests: deliveries, edits: []edit{
		{"internal/callback/mark.go", "if err := d.send(ctx, d.outcome.Mark(state, reason)); err != nil {",
			"if err != nil {"},
	}},
	{bug: "a mark that delivers its result again", tests: deliveries, edits: []edit{
		{"internal/callback/callback.go", "case o.Kind == job.KindMark:", "case false:"},
	}},
	{bug: "a message of several outcomes not split", tests: deliveries, edits: []edit{
		{"internal/callback/callback.go", "case len(o.With) > 0:", "case false:"},
	}},
	{bug: "an unclaimed result not marked after its event", tests: deliveries, edits: []edit{
		{"internal/callback/mark.go", "if d.claimed {\n\t\treturn d.cfg.Table.Settle",
			"if true {\n\t\treturn d.cfg.Table.Settle"},
	}},
	{bug: "an outbound call after the deadline", tests: deliveries, edits: []edit{
		{"internal/callback/outboundcall.go", "if next := c.Next(d.cfg.Now()); next.After(o.Deadline) {",
			"if next := c.Next(d.cfg.Now()); false && next.After(o.Deadline) {"},
		{"internal/callback/outboundcall.go", "case next.After(o.Deadline): // which", "case false: // which"},
	}},
	{bug: "the deadline forgotten while Vapi is asked", tests: deliveries, edits: []edit{
		{"internal/callback/outboundcall.go", "case next.After(o.Deadline): // which", "case false: // which"},
	}},
	{bug: "a Retry-After beyond the deadline ends the retries", tests: deliveries, edits: []edit{
		{"internal/callback/callback.go",
			"return max(backoff, min(retryAfter, (left-lastAttempt).Truncate(time.Second))), backoff <= left",
			"return max(backoff, retryAfter), max(backoff, retryAfter) <= left"},
	}},
	{bug: "a post before each question whether the call has ended", tests: deliveries, edits: []edit{
		{"internal/callback/callback.go", "case !d.record.OutboundCallPostponedAt.IsZero() &&", "case false &&"},
	}},
	// The harness found these when it was new.
	{bug: "the mark tried only once", edits: []edit{
		{"internal/callback/mark.go", "if err == nil || ended(err) || errors", "if n > 0 || ended(err) || errors"},
		{"internal/callback/mark.go", "if err := d.send(ctx, d.outcome.Mark(state, reason)); err != nil {",
			"if err != nil {"},
	}},
	{bug: "a copy of the outcome for every receive of an exhausted job", edits: []edit{
		{"internal/process/finish.go", "if e.record.OutcomePending() && e.record.NextCallID == \"\" {",
			"if e.record.State == job.StateDone {"},
	}},
	{bug: "the earlier of two tool calls replaces the later", edits: []edit{
		{"internal/jobtable/calls.go", "case at.After(j.ReceivedAt) || slices.Contains(replaced, j.ID):",
			"case false && at.After(j.ReceivedAt) || slices.Contains(replaced, j.ID):"},
	}},
	{bug: "a job replaced by one that must not start", tests: []string{"./internal/process"}, edits: []edit{
		{"internal/process/admit.go", "case errors.As(err, &limit):\n",
			"case errors.As(err, &limit):\n\t\tfor _, id := range earlier {\n\t\t\t_ = g.replace(ctx, c, id)\n\t\t}\n"},
	}},
	{bug: "a question that stays with a job that must not start", tests: []string{"./internal/local/memtable"},
		edits: []edit{
			{"internal/jobtable/calls.go", "return next.Admit(j.ID, earlier, now, lease, a.limits)",
				"if admitted, err := next.Admit(j.ID, earlier, now, lease, a.limits); err == nil {\n" +
					"\t\t\t\treturn admitted, nil\n\t\t\t}"},
		}},
	{bug: "a replacing job needs a slot of its own", tests: []string{"./internal/process"}, edits: []edit{
		{"internal/job/admission.go", "delete(next.Slots, nameInCall(r.CallID, other))", "_ = other"},
	}},
	{bug: "a job goes on if the function died before it was replaced", tests: []string{"./internal/local/memtable"},
		edits: []edit{{"internal/jobtable/calls.go", "return r, replaced, job.ErrUnchanged",
			"return r, nil, job.ErrUnchanged"}}},
	{bug: "a job goes on if another function died before it was replaced", tests: []string{"./internal/local/memtable"},
		edits: []edit{{"internal/jobtable/calls.go", "if unfinished {\n\t\t\t\t\tearlier =",
			"if unfinished && false {\n\t\t\t\t\tearlier ="}}},
	{bug: "any host accepted by the local run", tests: localRun, edits: []edit{
		{"internal/local/guard/guard.go", "if !public && !isOwn(r) {", "if false {"},
	}},
	{bug: "any origin accepted by the local run", tests: localRun, edits: []edit{
		{"internal/local/guard/guard.go", `if origin != "http://"+r.Host && !(public`, "if false && !(public"},
	}},
	{bug: "images of other sites served by the local run", tests: localRun, edits: []edit{
		{"internal/local/guard/guard.go", `if site != "same-origin" && site != "none" {`,
			`if site == "" {`},
	}},
	{bug: "forms accepted by the local run", tests: localRun, edits: []edit{
		{"internal/local/guard/guard.go", "if r.ContentLength != 0 {", "if false {"},
	}},
	{bug: "a listener of the local run without its guard", tests: localRun, edits: []edit{
		{"internal/local/dev/dev.go", "Handler: g.Handler(h),", "Handler: h,"},
	}},
	{bug: "the listener of a command without its guard", tests: []string{"./internal/cli", "-run", "^TestChromium$"},
		edits: []edit{{"internal/cli/send.go", "guard.Guard{}.Handler(http.StripPrefix(secret, calls.Handler()))",
			"http.StripPrefix(secret, calls.Handler())"}}},
	{bug: "the local run serves without a credential", tests: localRun, edits: []edit{
		{"internal/local/dev/dev.go", "cmp.Or(r.cfg.Auth, fmt", "cmp.Or(r.cfg.Auth, `{\"type\":\"none\"}`, fmt"},
	}},
	{bug: "other machines reach an unverified local run", tests: localRun, edits: []edit{
		{"internal/local/dev/dev.go", "!addr.IP.IsLoopback() && (", "false && ("},
	}},
	{bug: "a control URL on this machine without a credential", tests: localRun, edits: []edit{
		{"internal/local/dev/dev.go", "if !r.unverified() || ctx", "if true || ctx"},
	}},
	{bug: "a forged webhook shown", tests: []string{"./internal/local/dev", "-run", "^TestRefused"}, edits: []edit{
		{"internal/ack/ack.go", "\tif err := verify((*vapiauth.Verifier).CheckHeader); err != nil {",
			"\tif body, err := httpjson.Body(r, MaxBody); err == nil && h.cfg.Received != nil {\n" +
				"\t\tm, _ := vapi.ParseMessage(body)\n\t\th.cfg.Received(r.Context(), m)\n\t}\n" +
				"\tif err := verify((*vapiauth.Verifier).CheckHeader); err != nil {"},
	}},
	{bug: "control characters on the terminal", tests: localRun, edits: []edit{
		{"internal/local/dev/terminal.go", "if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {",
			"if unicode.In(r) {"},
	}},
	{bug: "control characters in the answer that is printed", tests: []string{"./internal/cli", "-run", "^TestSend"},
		edits: []edit{{"internal/cli/send.go", `"%s\n", printable(string(answer)))`, `"%s\n", answer)`}}},
	{bug: "the jobs of a local run without its token", tests: []string{"./internal/operator"}, edits: []edit{
		{"internal/operator/local.go", "subtle.ConstantTimeCompare(sent[:], want[:]) != 1 {",
			"subtle.ConstantTimeCompare(sent[:], want[:]) > 1 {"},
	}},
	{bug: "a token that outlives its run", tests: localRun, edits: []edit{
		{"internal/local/dev/dev.go", "\t\tr.forget()\n", "\t\t_ = r.forget\n"},
	}},
	{bug: "a token that other accounts can read", tests: localRun, edits: []edit{
		{"internal/local/guard/token.go", "err = errors.Join(err, f.Close())",
			"err = errors.Join(err, f.Chmod(0o644), f.Close())"},
	}},
	{bug: "the simulated shop posts to any port of this machine", tests: localRun, edits: []edit{
		{"internal/local/slowshop/requests.go", "case !strings.HasPrefix(asked.CompletionURL, s.public), s.public ==",
			"case s.public =="},
	}},
	{bug: "a simulated call at a known address", tests: []string{"./internal/cli", "-run", "^TestForged"}, edits: []edit{
		{"internal/local/dev/dev.go", `http.StripPrefix("/"+r.token, r.pipeline.Calls.Handler())`,
			"r.pipeline.Calls.Handler()"},
		{"internal/local/dev/dev.go", `r.control.Addr().String() + "/" + r.token)`, "r.control.Addr().String())"},
	}},
	{bug: "an unreadable message given up at once", tests: twoVersions,
		edits: []edit{{"internal/batch/batch.go", "return &Retry{After: growing(firstUnreadable, maxUnreadable, receives)}",
			"return &Retry{After: growing(0, 0, receives)}"}}},
	{bug: "a record of a newer version changed", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job/unknown.go", "case version > recordVersion:", "case false:"},
	}},
	{bug: "the members of a newer version dropped", tests: twoVersions,
		edits: []edit{{"internal/job/unknown.go", "err == nil && hasUnknown(value)", "false && hasUnknown(value)"}}},
	{bug: "the end of a call forgotten if no tool has asked yet", tests: []string{"./internal/process"}, edits: []edit{
		{"internal/jobtable/calls.go", `"record the end of", callID, true,`, `"record the end of", callID, false,`},
	}},
	{bug: "a copy of the outcome for each simultaneous post of a result", edits: []edit{
		{"internal/completion/completion.go", "if h.unsent(record, p) {",
			"if record.OutcomePending() && record.StoredJob != nil {"},
	}},
	{bug: "a cached secret used for ever", tests: []string{"./internal/secret", "./internal/ack"}, edits: []edit{
		{"internal/secret/secret.go", "if now.Sub(s.readAt) >= MaxStale {", "if false {"},
	}},
	{bug: "a revoked secret used for an hour", tests: []string{"./internal/secret", "./internal/ack"}, edits: []edit{
		{"internal/secret/secret.go", "case errors.Is(err, ErrRevoked):", "case false:"},
	}},
	{bug: "a deleted secret taken for an outage", tests: []string{"./internal/aws/secretsmanager"}, edits: []edit{
		{"internal/aws/secretsmanager/secretsmanager.go", `"AccessDeniedException", "ResourceNotFoundException",`,
			`"AccessDeniedException",`},
	}},
	{bug: "a leaked secret used for as long as a broken one is stored", tests: []string{"./internal/secret"},
		edits: []edit{
			{"internal/secret/parsed.go", "case now.Sub(p.usable) >= MaxStale:", "case false:"},
		}},
	{bug: "a revoked secret used again when a broken one is stored", tests: []string{"./internal/secret"}, edits: []edit{
		{"internal/secret/parsed.go", `p.text, p.err, p.parsed = "", nil, nil`, `p.text, p.err = "", nil`},
	}},
	{bug: "a timestamp that is claimed and not signed", tests: []string{"./vapi/vapiauth"}, edits: []edit{
		{"vapi/vapiauth/auth.go", "if claimed && !c.timestamped {", "if claimed && false {"},
	}},
	{bug: "the body decoded before the header is checked", tests: []string{"./internal/ack", "-run", "Flood"},
		edits: []edit{
			{"internal/ack/ack.go", "if err := verify((*vapiauth.Verifier).CheckHeader); err != nil {", "if err != nil {"},
		}},
	{bug: "a malformed signature compared with that of the body", tests: []string{"./vapi/vapiauth", "./internal/ack"},
		edits: []edit{{"vapi/vapiauth/auth.go", "hex.DecodeString(signature); err == nil && len(decoded) == size {",
			"hex.DecodeString(signature); (err == nil || true) && (len(decoded) == size || len(signature) == 2*size) {"}}},
	{bug: "each refusal logged", tests: []string{"./internal/ack", "./internal/completion", "-run", "Flood"},
		edits: []edit{
			{"internal/httpjson/httpjson.go", "if n%10 != 0 {", "if false {"},
		}},
	{bug: "refusals of one status hide those of another", tests: []string{"./internal/ack", "-run", "Flood"},
		edits: []edit{
			{"internal/httpjson/httpjson.go", "return l.counts[status]\n", "l.counts[0]++\n\treturn l.counts[0]\n"},
		}},
	{bug: "no alarm on wrong credentials", tests: floods, edits: []edit{
		{"infra/ringback/alarms.go", `is("status", "=", "401")`, `is("status", "=", "403")`},
	}},
	{bug: "an alarm on progress that is posted too often", tests: floods, edits: []edit{
		{"infra/ringback/alarms.go", `is("integrationStatus", "!=", "200")`, `is("route", "!=", "200")`},
	}},
	{bug: "one limit for both routes", tests: floods, edits: []edit{
		{"infra/ringback/api.go", "limits(r.props.CompletionRateLimit, r.props.CompletionBurstLimit)",
			"limits(r.props.RateLimit, r.props.BurstLimit)"},
	}},
	{bug: "the generated address open beside a host name", tests: floods, edits: []edit{
		{"infra/ringback/api.go", "if custom && !r.props.KeepExecuteAPIEndpoint {", "if false {"},
	}},
}

var (
	brokenPromise = regexp.MustCompile(`(?m)^.*?((?:lost|twice|record|started|late|order|state|dead letters|answer): .*)$`)
	failedTest    = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)
)

// TestMutants puts each bug into copies of its files. The tests must find it.
func TestMutants(t *testing.T) {
	if !*mutants {
		t.Skip("run it with make faults-mutants")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string) // by bug
	for _, m := range bugs {
		t.Run(m.bug, func(t *testing.T) {
			tests := m.tests
			if tests == nil {
				tests = harness
			}
			overlay := plant(t, root, m.edits)
			build := goCommand(root, "build", "-overlay", overlay, "./internal/...", "./vapi/...")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("the copy does not compile, which proves nothing: %s", out)
			}
			arguments := append([]string{"test", "-overlay", overlay, "-count=1", "-vet=off", "-timeout=30m"}, tests...)
			if m.tests == nil {
				arguments = append(arguments, "-args", "-faults.seed=1")
			}
			out, err := goCommand(root, arguments...).CombinedOutput()
			if err == nil {
				t.Fatal("no test found it")
			}
			var first, by string
			for _, failed := range failedTest.FindAllStringSubmatch(string(out), -1) {
				by = strings.TrimPrefix(by+", `"+failed[1]+"`", ", ")
			}
			if promise := brokenPromise.FindStringSubmatch(string(out)); m.tests == nil && promise != nil {
				first, _, _ = strings.Cut(promise[1], "{") // without the record
				first = "`" + strings.TrimRight(strings.ReplaceAll(first, "|", `\|`), " ") + "`"
			}
			if by == "" || first == "" && m.tests == nil {
				t.Fatalf("it failed, but not by a broken promise: %.2000s", out)
			}
			rows[m.bug] = fmt.Sprintf("| %s | %s | %s |", m.bug, by, first)
			fmt.Println(rows[m.bug])
		})
	}
	writeTable(t, filepath.Join(root, "docs/faults.md"), rows)
}

// TestMutantsCanBePlanted finds the bugs that no longer fit the code: their old text is
// gone, or their new text does not compile.
func TestMutantsCanBePlanted(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range bugs {
		if _, err := edited(root, m.edits); err != nil {
			t.Errorf("%s: %v", m.bug, err)
		}
	}
	if t.Failed() || testing.Short() {
		return
	}
	// Many bugs at once compile faster than one by one. Bugs that change the same text
	// do not fit together.
	for rest := bugs; len(rest) > 0; {
		var edits []edit
		var left []mutant
		for _, m := range rest {
			both := slices.Concat(edits, m.edits)
			if _, err := edited(root, both); err != nil {
				left = append(left, m)
				continue
			}
			edits = both
		}
		rest = left
		build := []string{"build", "-overlay", plant(t, root, edits)}
		for _, e := range edits {
			if folder := "./" + filepath.Dir(e.file); !slices.Contains(build, folder) {
				build = append(build, folder)
			}
		}
		if out, err := goCommand(root, build...).CombinedOutput(); err != nil {
			t.Errorf("a bug's new text does not compile: %s", out)
		}
	}
}

// edited returns the contents of the files that the edits change.
func edited(root string, edits []edit) (map[string]string, error) {
	files := make(map[string]string)
	for _, e := range edits {
		text, known := files[e.file]
		if !known {
			source, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			text = string(source)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s contains %q %d times, want once; adapt the bug to the code", e.file, e.old, n)
		}
		files[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return files, nil
}

// plant makes copies of the files with the edits, and returns an overlay that replaces
// the files with them.
func plant(t *testing.T, root string, edits []edit) string {
	t.Helper()
	files, err := edited(root, edits)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	copies := make(map[string]string)
	for name, text := range files {
		at := filepath.Join(folder, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		copies[filepath.Join(root, name)] = at
	}
	overlay, err := json.Marshal(map[string]any{"Replace": copies})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func goCommand(root string, arguments ...string) *exec.Cmd {
	command := exec.Command("go", arguments...)
	command.Dir = root
	return command
}

// writeTable writes the rows of the bugs that were found. It leaves those of all others as they are.
func writeTable(t *testing.T, name string, rows map[string]string) {
	const begin, end = "<!-- mutants: written by make faults-mutants -->\n", "\n<!-- end of mutants -->"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	before += begin
	old, after, found := strings.Cut(rest, end)
	if !ok || !found {
		t.Fatalf("%s has no markers for the table", name)
	}
	table := strings.SplitN(old, "\n", 3)[:2]
	for _, m := range bugs {
		row, ran := rows[m.bug]
		if at := strings.Index(old, "\n| "+m.bug+" | "); !ran && at >= 0 {
			row, _, _ = strings.Cut(old[at+1:], "\n")
		}
		if row != "" {
			table = append(table, row)
		}
	}
	text = []byte(before + strings.Join(table, "\n") + end + after)
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
