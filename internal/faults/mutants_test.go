package faults_test

import (
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

var shard = flag.String("faults.shard", "1/1", "the `part` of the bugs to put, as 2/6")

// mutant is a deliberate bug.
type mutant struct {
	bug   string
	edits []edit
	tests []string // arguments of go test; nil means the shortened fault harness
}

var (
	inProcess         = []string{"./internal/process"}
	ofParked          = []string{"./internal/local/pipeline", "-run", "^TestParkedResultEnds$"}
	ofMonths          = []string{"./internal/faults", "-run", "^TestThirtyDays$"}
	ofExternalSystems = []string{
		"./internal/local/pipeline", "-run", "^(TestExternalSystemDoesNotSpeak|TestMuchExternalProgress)$",
	}
	signatures = []string{"./asynctool", "-run", "^(TestSignatures|TestReadPost)$"}
	forgeries  = []string{
		"./internal/spoken", "./internal/local/pipeline", "-run", "^(FuzzForgedMarkers|TestLanguagesArriveAsWritten)$",
	}
	lateWakeUps = []string{"./internal/faults", "-run", "^TestWakeUps$"}
	withWakeUps = []string{"./internal/process", "-run", "^TestWakeUpOfAnUnknownJob$"}
)

var (
	ofTable     = []string{"./internal/local/memtable"}
	ofRepeats   = []string{"./internal/process", "-run", "^TestToolCallAgain$"}
	ofForgotten = []string{"./internal/operator", "./internal/local/pipeline", "-run", "Forget"}
)

// callRounds are the tests of changes that share a read and a write of their call's record.
var callRounds = []string{"./internal/jobtable", "-run", "^TestTogether"}

var harness = []string{"./internal/faults", "-run", "^(TestWithoutFaults|TestFaults)$"}

// leases are the tests of what is done under a lease.
var leases = []string{"./internal/process"}

// listeners are the tests of what runs the tools of a deployed stage.
var listeners = []string{"./internal/local/dev", "-run", "^(TestListen.*|TestTwoListeners)$"}

// conditional are the tests of what AWS may do although nothing fails.
var conditional = []string{"./internal/faults", "-run", "^TestConditions$", "-args", "-faults.seed=1"}

// deadLetters are the tests of what operators do with dead letters, and with the copies for replays.
var deadLetters = []string{"./internal/operator", "-run", "Dead|Drop|Redrive|Copies"}

// questions are the tests of what the page asks.
var questions = []string{"./internal/page", "-run", "^(TestReplayAndRedrive|TestNothingToRepeat)$"}

// proofs are the tests of what a program gets that has not proven that it is the local run.
var proofs = []string{"./internal/operator", "./internal/cli", "-run",
	"Proof|^TestSecrets|^TestCredential|^TestSendReads"}

// localRun are the tests of what the local run refuses.
var localRun = []string{"./internal/local/guard", "./internal/local/dev", "./internal/local/slowshop"}

var twoVersions = []string{"./internal/faults", "-run", "^TestTwoVersions$"}

// deliveries are the tests of what is done under the lease of a delivery.
var deliveries = []string{"./internal/callback", "-run", "^(TestLateAnswers|TestNoTimeFor.*|TestSlowProgress.*|" +
	"TestUnclaimedIsNotDelivered|TestOutageInABatch|TestCalledAfterTheDeadline|TestCallStillLive|TestPosted|" +
	"TestSeveralInAMessage)$"}

// policies are the tests of the roles' policies, and of the topics'.
var policies = []string{"./infra/ringback", "-run", "^(TestLeastPrivilege|TestPermissionsFitTheCode|" +
	"TestForbiddenRequests|TestResourcePolicies|TestSchedules|TestJWT)$"}

// sharedCalls are the tests of results that share an outbound call.
var sharedCalls = []string{"./internal/callback", "./internal/job", "-run",
	"^(TestResults.*|TestOpenCall.*|TestSharedCallFails|TestJoinOutboundCall|TestEndOfJoinedResult)$"}

// confirmed are the tests of calls that Vapi's API must confirm.
var confirmed = []string{"./internal/callback", "-run", "^(TestForged.*|TestVapiIsDown|TestWithoutThePrivateKey)$"}

// outboundLimits are the tests of which outbound calls are made.
var outboundLimits = []string{"./internal/callback", "-run", "^(TestNoCallBack|TestCallsPerDay)$"}

var floods = []string{"./infra/ringback", "-run", "^(TestThrottles|TestFloodAlarms|TestCustomDomain)$"}

// organisations and rotations are the tests of what a leaked credential is good for.
var (
	organisations = []string{"./internal/ack", "-run", "^TestOrganisation"}
	rotations     = []string{"./internal/cli/wiring", "-run", "^TestRotation"}
)

var bugs = []mutant{
	{bug: "a link to the page that works twice", tests: []string{"./internal/page", "-run", "^TestSession$"},
		edits: []edit{{"internal/page.(*tickets).use", "t.all = slices.Delete(t.all, at, at+1)", "_ = at"}}},
	{bug: "a start that compiles a regular expression", tests: []string{"./functions", "-run", "^TestStart$"},
		edits: []edit{{"httptool.Tools", "var all []asynctool.Definition", "keyToCall()\n\tvar all []asynctool.Definition"}}},
	{bug: "a batch that opens a connection for each job",
		tests: []string{"./internal/aws/function", "-run", "^TestConnectionLimit$"},
		edits: []edit{{"internal/aws/function.connections", "max(memory/64, 2)", "0"}}},
	{bug: "a heap that may grow beyond the function's memory",
		tests: []string{"./internal/aws/function", "-run", "^TestRuntime$"},
		edits: []edit{{"internal/aws/function.Start", "int64(memory) << 20 / 4 * 3", "int64(memory) << 30"}}},
	{bug: "messages of a batch that are hidden one by one",
		tests: []string{"./internal/aws/sqsqueue", "-run", "^TestVisibilitiesTogether$"},
		edits: []edit{{"internal/aws/sqsqueue.(*Queue).changeAll", "queue.MaxBatch", "queue.MaxBatch/10"}}},
	{bug: "a message that is not hidden although the others of its batch are",
		tests: []string{"./internal/aws/sqsqueue", "-run", "^TestVisibilitiesTogether$"},
		edits: []edit{{"internal/aws/sqsqueue.(*Queue).changeBatch", "if f.SenderFault {", "if true {"}}},
	{bug: "a page with numbers", tests: []string{"./internal/page", "-run", "^(FuzzNumbers|TestShowNumbers)$"},
		edits: []edit{{"internal/page.(*numbers).text", "return without", "return text"}}},
	{bug: "a read-only page that writes", tests: []string{"./internal/page", "-run", "^TestCompleteAndCancel$"},
		edits: []edit{{"internal/page.(*Page).writes", "if !p.cfg.Write {", "if false {"}}},
	{bug: "a question of the page that is answered twice", tests: questions,
		edits: []edit{{"internal/page.(*Page).agreed", "return true",
			`p.asked.admit(q.Action + " " + ticket); return true`}}},
	{bug: "an answer to another question of the page", tests: questions,
		edits: []edit{
			{"internal/page.(*Page).agreed", `p.asked.use(q.Action + " " + ticket)`, "p.asked.use(ticket)"},
			{"internal/page.(*Page).agreed", `p.asked.admit(q.Action + " " + q.Ticket)`, "p.asked.admit(q.Ticket)"},
		}},
	{bug: "a replay in a deployment without a question", tests: questions,
		edits: []edit{{"internal/page.(*Page).replay", "(p.cfg.Local == nil || q.Once) &&", "q.Once &&"}}},
	{bug: "a tool that runs twice in a local run without a question", tests: questions,
		edits: []edit{{"internal/page.(*Page).replay", "(p.cfg.Local == nil || q.Once) &&", "p.cfg.Local == nil &&"}}},
	{bug: "a replay that knows its customer", tests: []string{"./internal/job", "-run", "^TestReplay$"},
		edits: []edit{{"internal/job.Job.WithoutCustomer", `j.Call.CustomerNumber = ""`, ""}}},
	{bug: "stored arguments that are decrypted unasked", tests: []string{"./internal/page", "-run", "^TestCommands$"},
		edits: []edit{{"internal/page.(*Page).job", `r.URL.Query().Get("arguments") == "stored"`, "true"}}},
	{bug: "a message that AWS does not redrive taken for none", tests: deadLetters,
		edits: []edit{{"internal/operator.(*Dead).RedriveJob", "err = errors.Join(err, f.cause)", "_ = f.cause"}}},
	{bug: "operators who may do more than the page",
		tests: []string{"./infra/ringback", "-run", "^TestPermissionsOfOperators$"},
		edits: []edit{{"infra/ringback.(*Ringback).writePolicy", `"sqs:DeleteMessage"`, `"sqs:DeleteMessage", "sqs:*"`}}},
	{bug: "a log group in a link to the console without its escapes",
		tests: []string{"./internal/cli/stack", "-run", "^TestConsole$"},
		edits: []edit{{"internal/cli/stack.escaped", `"_-."`, `"_-./"`}}},
	{bug: "the console of another partition", tests: []string{"./internal/cli/stack", "-run", "^TestConsole$"},
		edits: []edit{{"internal/cli/stack.(*Stack).Console", "+ host,", `+ deployment.ConsoleHost("aws"),`}}},
	{bug: "the page behind a tunnel", tests: []string{"./internal/page", "-run", "^TestSession$"},
		edits: []edit{{"internal/page.(*Session).Handler", "if !operator.Direct(r) {", "if !operator.Direct(r) && false {"}}},
	{bug: "a masked command of the page that can be copied", tests: []string{"./internal/page", "-run", "^TestCallAgain$"},
		edits: []edit{{"internal/page.(*Page).commands", "shown != line", "false"}}},
	{bug: "the id of a call in an address of the page", tests: []string{"./internal/page", "-run", "^TestFind$"},
		edits: []edit{{"internal/page.(*Page).find", "cmp.Or(d.Key, d.Call)", "cmp.Or(id, d.Key)"}}},
	{bug: "a call without jobs under way that is read for ever",
		tests: []string{"./internal/page", "-run", "^TestEndNotKnown$"},
		edits: []edit{{"internal/page.(*Page).rowOf", "case final:", "case final && false:"}}},
	{bug: "a failed job that its filter hides if it was not delivered",
		tests: []string{"./internal/page", "-run", "^TestFilters$"},
		edits: []edit{{"internal/page.fits", "return operator.Filter{Failed: true}.Selects(x)",
			"return operator.Filter{Failed: true}.Selects(x) && x.State != job.StateUndelivered"}}},
	{bug: "a cancelled job among the failed ones", tests: []string{"./internal/operator", "-run", "^TestCancelled$"},
		edits: []edit{{"internal/operator.Job.CountsAsFailed", `x.CancelledBy == ""`, "true"}}},
	{bug: "a cancelled job that its call reports as failed",
		tests: []string{"./internal/cli", "-run", "^TestCallCancelled$"}, edits: []edit{
			{"internal/cli.(*trial).end", "Status: string(d.Status), CancelledBy: d.CancelledBy}", "Status: string(d.Status)}"},
		}},
	{bug: "a cancellation shown as a failure that was not delivered",
		tests: []string{"./internal/page", "-run", "^TestUndelivered$"},
		edits: []edit{{"internal/page.undeliveredWords", `j.CancelledBy != ""`, `j.CancelledBy != "" && false`}}},
	{bug: "another attempt announced of a job that was ended while its tool ran",
		tests: []string{"./internal/process", "-run", "^TestEndedWhileItRuns$"},
		edits: []edit{{"internal/process.(*execution).runTool", "errors.Is(end.Stopped, errJobEnded)",
			"errors.Is(end.Stopped, errJobEnded) && false"}}},
	{bug: "the name of an argument proposed as its text", tests: []string{"./internal/local/dev", "-run", "^TestTry$"},
		edits: []edit{{"internal/local/dev.sample", "return nil\n", "return name\n"}}},
	{bug: "a call that is live for ever if its end is not reported",
		tests: []string{"./internal/operator", "-run", "^TestCallState$"},
		edits: []edit{{"internal/operator.CallDetails.State", "now.Sub(last) < maxLive", "true"}}},
	{bug: "a progress line that the call refused, shown as accepted",
		tests: []string{"./internal/operator", "-run", "^TestLineWords$"},
		edits: []edit{{"internal/operator.Accepted", "answer[0] == '2'", "true"}}},
	{bug: "an answer to a progress line that is not recorded",
		tests: []string{"./internal/callback", "-run", "^TestProgressAnswer$"},
		edits: []edit{{"internal/job.EndProgress", "r.answeredLine(claimed)", "r"}}},
	{bug: "a call that began days before its webhook", tests: []string{"./internal/local/memtable"},
		edits: []edit{{"internal/job.CallRecord.Begin", "received.Sub(began) < maxCall", "true"}}},
	{bug: "forms without an origin", tests: []string{"./internal/local/guard"},
		edits: []edit{{"internal/local/guard.Guard.check", "len(origins) == 0 && ", "len(origins) > 0 && "}}},
	{bug: "a history that ends with an event, whatever the job ended with", edits: []edit{
		{"internal/job.Record.settled", "return r.add(now, StepDelivered, how)", "return r.add(now, StepUndelivered, how)"},
	}, tests: []string{"./internal/faults", "-run", "^TestWithoutFaults$"}},
	{bug: "a history with the text of an error", edits: []edit{
		{"internal/job.classOf", `return "error"`, "return reason"},
	}, tests: []string{"./internal/job", "./internal/local/pipeline", "-run", "^(TestSteps|TestNothingLeaks)$"}},
	{bug: "a history that never drops a step", edits: []edit{
		{"internal/job.encodeHistory", "len(all) <= MaxSteps && len(out) <= maxHistory ||", "true ||"},
	}, tests: []string{"./internal/job", "-run", "^TestHistoryIsBounded$"}},
	{bug: "a list of calls that reads the shard of this hour only", edits: []edit{
		{"internal/aws/dynamotable.(*Store).RecentCalls", "others, err := s.newest(ctx, shards[2:], from, most)",
			"others, err := s.newest(ctx, nil, from, most)"},
	}, tests: []string{"./internal/aws/dynamotable"}},
	{bug: "the claim without its condition", edits: []edit{
		{"internal/local/memtable.(*records).Save", "if s.byKey[r.Key()].SavedRevision() != r.SavedRevision() {",
			"if false {"},
		{"internal/aws/dynamotable.items.put", "if revision == 0 {", "if true {\n\t} else if revision == 0 {"},
	}},
	{bug: "the mark before the post", edits: []edit{
		{"internal/callback.(*delivery).deliver", "receipt, err := d.postResult(",
			"_ = d.mark(ctx, job.StateDelivered, \"\")\n\treceipt, err := d.postResult("},
	}},
	{bug: "the outcome sent before it is stored", edits: []edit{
		{"internal/process.(*execution).finish",
			"retry := e.send(ctx)\n\te.leave(ctx)\n\tif e.wakeUp != record.WakeUp {",
			"e.leave(ctx)\n\tif e.wakeUp != record.WakeUp {"},
		{"internal/process.(*execution).finish", "rule := job.Finish(", "claimed := e.record\n" +
			"\te.record.State, e.record.Result, e.record.Exhausted = job.StateDone, &end.result, end.exhausted\n" +
			"\te.record.LeaseExpiry = time.Time{}\n" +
			"\tretry := e.send(ctx)\n\te.record = claimed\n\trule := job.Finish("},
	}},
	{bug: "a swallowed send error", edits: []edit{
		{"internal/process.(*execution).send", "e.out.send(e.job.SavedOutcome(e.record, e.cfg.Now())); err != nil {",
			"e.out.send(e.job.SavedOutcome(e.record, e.cfg.Now())); err != nil && false {"},
	}},
	{bug: "a failed message missing in the partial batch response", edits: []edit{
		{"internal/batch.Handle", "if retry != nil {", "if retry != nil && i > 0 {"},
	}},
	{bug: "no backoff cap", edits: []edit{
		{"internal/batch.Backoff", "return growing(first, MaxBackoff, n)", "return growing(first, 1<<30*time.Second, n)"},
	}},
	{bug: "the lease ignored", edits: []edit{
		{"internal/job.Claim", "case r.State == StateRunning && now.Before(r.LeaseExpiry):", "case false:"},
		{"internal/jobtable.(*Table).ClaimAgain", "case r.State == job.StateRunning && now.Before(until):",
			"case false:"},
	}},
	{bug: "the lease ignored by a copy of the message that has it", tests: conditional, edits: []edit{
		{"internal/job.Claim", "case r.State == StateRunning && now.Before(r.LeaseExpiry):",
			"case r.State == StateRunning && now.Before(r.LeaseExpiry) && r.Owner != owner:"},
		{"internal/jobtable.(*Table).ClaimAgain", "case r.State == job.StateRunning && now.Before(until):",
			"case r.State == job.StateRunning && now.Before(until) && r.Owner != first.Owner:"},
	}},
	{bug: "a wake-up dropped that is early by another clock", tests: conditional, edits: []edit{
		{"internal/process.(*execution).stillSuspended", "return e.retryAt(until)", "return nil"},
	}},
	{bug: "attempts counted by the receives of the message", tests: conditional, edits: []edit{
		{"internal/process.(*execution).next", "last := e.record.Counted() >= e.tool.Attempts && !free ||",
			"last := batch.Receives(e.message) >= e.tool.Attempts ||"},
	}},
	{bug: "an attempt that failed does not count", tests: inProcess, edits: []edit{
		{"internal/process.(*execution).next", "free := f.Free &&", "free := f.Retry &&"},
	}},
	{bug: "a tool that begins nothing tried again and again", tests: inProcess, edits: []edit{
		{"internal/process.(*execution).next", "e.record.NotStarted < asynctool.MaxNotStarted", "true"},
	}},
	{bug: "no start counted after one that does not count", tests: inProcess, edits: []edit{
		{"internal/job.Record.Counted", "return r.Attempt - r.NotStarted",
			"if r.NotStarted > 0 {\n\t\treturn 1\n\t}\n\treturn r.Attempt"},
	}},
	{bug: "the deadline ignored", edits: []edit{
		{"internal/callback.(*delivery).deliver", "case d.cfg.Now().After(o.Deadline):", "case false:"},
	}},
	{bug: "the signature compared over the decoded body", tests: []string{"./vapi/vapiauth"}, edits: []edit{
		{"vapi/vapiauth.(*hmacCredential).signature", "mac.Write(r.Body)",
			"var decoded any\n\t\t\t_ = json.Unmarshal(r.Body, &decoded)\n" +
				"\t\t\tencoded, _ := json.Marshal(decoded)\n\t\t\tmac.Write(encoded)"},
	}},
	{bug: "a redirect followed", tests: []string{"./vapi/vapiclient"}, edits: []edit{
		{"vapi/vapiclient.answerReader.roundTrip", "transport.RoundTrip(request)",
			"(&http.Client{Transport: transport}).Do(request)"},
	}},
	{bug: "a suspended job is not resumed", edits: []edit{
		{"internal/process.(*execution).suspend", "e.leave(ctx)\n\treturn e.scheduleWakeUp(ctx)",
			"e.leave(ctx)\n\treturn nil"},
	}},
	{bug: "a wake-up not scheduled after a death", edits: []edit{
		{"internal/process.(*execution).stillSuspended",
			"case e.record.Owner == e.message.MessageId || e.sentAt().After(e.record.Suspended):", "case false:"},
	}},
	{bug: "a redriven job taken as scheduled once its record has changed", tests: inProcess, edits: []edit{
		{"internal/process.(*execution).stillSuspended", "e.sentAt().After(e.record.Suspended):",
			"e.sentAt().After(e.record.Updated):"},
	}},
	{bug: "a late copy of a wake-up taken for a redrive", tests: inProcess, edits: []edit{
		{"internal/process.(*execution).mayBeRedriven",
			"scheduled(e.record) && !sent.After(e.record.WakeAt.Add(lateWakeUps))", "false"},
	}},
	{bug: "a late copy of an earlier wake-up taken for a redrive", tests: inProcess, edits: []edit{
		{"internal/process.(*execution).mayBeRedriven", "e.wakeUp != e.record.WakeUp ||", "false ||"},
	}},
	{bug: "a dead wake-up that was late taken for a redrive", tests: lateWakeUps, edits: []edit{
		{"internal/process.(*execution).mayBeRedriven", "if e.record.Owner == e.message.MessageId {\n\t\treturn false",
			"if false {\n\t\treturn false"},
	}},
	{bug: "an alarm for a wake-up whose record has expired", tests: inProcess, edits: []edit{
		{"internal/process.(*Handler).handle", "if errors.Is(err, jobtable.ErrNotFound) {",
			"if false && errors.Is(err, jobtable.ErrNotFound) {"},
	}},
	{bug: "a wake-up dropped if its record cannot be read", tests: withWakeUps, edits: []edit{
		{"internal/process.(*Handler).handle", "if errors.Is(err, jobtable.ErrNotFound) {",
			"if err != nil || errors.Is(err, jobtable.ErrNotFound) {"},
	}},
	{bug: "the schedule of a replaced job is left", tests: inProcess, edits: []edit{
		{"internal/process.(*gate).replace", "if record.State == job.StateCancelled {", "if false {"},
	}},
	{bug: "the schedule of a job that another message woke up is left", tests: inProcess, edits: []edit{
		{"internal/process.(*execution).finish", "if e.wakeUp != record.WakeUp {", "if false {"},
	}},
	{bug: "a completion without a check", tests: []string{"./internal/completion"}, edits: []edit{
		{"internal/completion.(*Handler).complete", "h.check(ctx, record)", ""},
	}},
	{bug: "an operator's cancellation without a check", tests: []string{"./internal/operator"}, edits: []edit{
		{"internal/operator.(*Jobs).Cancel", "j.check(ctx, r)", ""},
	}},
	{bug: "a check that sends no stored result", tests: inProcess, edits: []edit{
		{"internal/process.(*Handler).check", "retry = e.send(ctx)", "_ = e"},
	}},
	{bug: "a check that leaves the schedule", tests: inProcess, edits: []edit{
		{"internal/process.(*Handler).check", "if err := h.wakeUps.cancel(ctx, record); err != nil {",
			"if err := error(nil); err != nil {"},
	}},
	{bug: "a check that resumes a job before its time", tests: inProcess, edits: []edit{
		{"internal/process.(*Handler).check", "case record.State.Active() && !record.Summary().Overdue(h.cfg.Now()):",
			"case record.State == job.StateRunning:"},
	}},
	{bug: "a sweep that does not continue", tests: inProcess, edits: []edit{
		{"internal/process.(*Handler).sweep", "if err == nil && next != \"\" {", "if false {"},
	}},
	{bug: "a sweep that leaves overdue wake-ups", tests: inProcess, edits: []edit{
		{"internal/job.Summary.Overdue", "return s.State == StateWaiting && now.After(s.WakeAt.Add(overdue)) ||",
			"return false ||"},
	}},
	{bug: "a sweep that leaves unsent results", tests: inProcess, edits: []edit{
		{"internal/job.Summary.Overdue", "s.State == StateDone && now.After(s.Updated.Add(overdue))", "false"},
	}},
	{bug: "a parked result delivered in a third call", tests: ofParked, edits: []edit{
		{"internal/job.Unpark", "now.After(r.Deadline) && r.OutcomePending():",
			"now.After(r.Deadline) && !now.Before(r.LeaseExpiry):"},
	}},
	{bug: "a parked result forgotten in silence", tests: ofParked, edits: []edit{
		{"internal/job.Summary.Overdue", "s.State == StateParked && !now.Before(s.Updated.Add(ParkedTime))", "false"},
	}},
	{bug: "a parked result that no call got forgotten in silence", tests: ofParked, edits: []edit{
		{"internal/process.(*Handler).check",
			"if record.State == job.StateParked || record.OutcomePending() && record.NextCallID != \"\" {",
			"if record.State == job.StateParked {"},
	}},
	{bug: "a parked result's record that expires before its event", tests: ofMonths, edits: []edit{
		{"internal/job.Record.Expires", "if r.State == StateDone || r.State == StateParked {", "if r.State == StateDone {"},
	}},
	{bug: "a suspended job's record that expires before its wake-up", tests: ofMonths, edits: []edit{
		{"internal/job.Record.Expires", "if r.State.Active() && r.Deadline.After(last) {", "if false {"},
	}},
	{bug: "a parked result given up after 20 days", tests: ofMonths, edits: []edit{
		{"internal/job/record.go", "ParkedTime = 30 * 24 * time.Hour", "ParkedTime = 20 * 24 * time.Hour"},
	}},
	{bug: "the event of a parked result without the customer", tests: ofParked, edits: []edit{
		{"internal/callback.(*delivery).park", "d.record.StoredJob = &j", "_ = &j"},
	}},
	{bug: "a settled record with everything in it", tests: ofTable, edits: []edit{
		{"internal/jobtable.(*Table).change", "return next.Forget(), nil", "return next, nil"},
	}},
	{bug: "a settled record with what was asked", tests: ofTable, edits: []edit{
		{"internal/job.Record.Forget", "if settled {\n\t\tr.Asked = \"\"\n\t}", ""},
	}},
	{bug: "a settled record with the arguments", tests: ofTable, edits: []edit{
		{"internal/job.Record.Forget", "j.Arguments, j.Call.ControlURL = nil, \"\"", "j.Call.ControlURL = \"\""},
	}},
	{bug: "a settled record with the control URL", tests: ofTable, edits: []edit{
		{"internal/job.Record.Forget", "j.Arguments, j.Call.ControlURL = nil, \"\"", "j.Arguments = nil"},
	}},
	{bug: "a settled record with the number", tests: ofTable, edits: []edit{
		{"internal/job.Record.Forget", "j.Call.CustomerNumber = \"\"", ""},
	}},
	{bug: "a settled record with the tool state", tests: ofTable, edits: []edit{
		{"internal/job.Record.Forget", "r.ToolState, r.Progress = nil, nil", "r.Progress = nil"},
	}},
	{bug: "a settled record with the progress", tests: ofTable, edits: []edit{
		{"internal/job.Record.Forget", "r.ToolState, r.Progress = nil, nil", "r.ToolState = nil"},
	}},
	{bug: "a parked result without the number", tests: ofParked, edits: []edit{
		{"internal/job.Record.Forget", "if settled {\n\t\t\tj.Call.CustomerNumber", "if true {\n\t\t\tj.Call.CustomerNumber"},
	}},
	{bug: "a repeated result that does not name what was asked", tests: ofRepeats, edits: []edit{
		{"internal/job.Redeliver", "r.Asked = asked", "_ = asked"},
	}},
	{bug: "a repeated result that a check cannot deliver", tests: ofRepeats, edits: []edit{
		{"internal/job.Redeliver", "r.StoredJob = j.stored()", ""},
	}},
	{bug: "the name of a customer without a key", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job.Customer", "if len(key) > 0 {", "if false {"},
	}},
	{bug: "a parked result lost by an update", tests: ofTable, edits: []edit{
		{"internal/jobtable.(*Customers).names", "append(slices.Clip(keys), nil)", "keys"},
	}},
	{bug: "a parked result lost by a rotation of the key", tests: ofTable, edits: []edit{
		{"internal/jobtable.(*Customers).names", "append(slices.Clip(keys), nil)", "append(slices.Clip(keys[:1]), nil)"},
	}},
	{bug: "a result parked again under a new name, for another assistant", tests: ofTable, edits: []edit{
		{"internal/jobtable.(*Customers).Park", "p = p.ScopedAs(earlier)", "_ = earlier"},
	}},
	{bug: "completion keys for a callback function that parks nothing",
		tests: []string{"./infra/ringback", "-run", "^TestNextCall$"}, edits: []edit{
			{"infra/ringback.(*Ringback).functions", "if r.namesCustomers() {\n\t\tread(r.Callback, r.CompletionSecret)",
				"if true {\n\t\tread(r.Callback, r.CompletionSecret)"},
		}},
	{bug: "a forgotten customer whose result stays", tests: ofForgotten, edits: []edit{
		{"internal/job.ForgetCustomer",
			"r.Result = &Result{Status: StatusError, Content: forgottenText, Delivery: policy.DeliveryRespond, Own: true}", ""},
	}},
	{bug: "a forgotten customer whose number stays", tests: ofForgotten, edits: []edit{
		{"internal/job.ForgetCustomer", "j.Call.CustomerNumber = \"\"", ""},
	}},
	{bug: "a forgotten customer whose list stays", tests: ofForgotten, edits: []edit{
		{"internal/operator.(*Customers).Forget", "err := c.cfg.Lists.Forget(ctx, list)", "_, err := list, error(nil)"},
	}},
	{bug: "a forgotten result that ends in silence", tests: ofForgotten, edits: []edit{
		{"internal/job.ForgetCustomer", `return r.deliverable(now).add(now, StepForgotten, ""), nil`,
			"r.State = StateUndelivered\n\t\treturn r, nil"},
	}},
	{bug: "the event of a forgotten result with the result",
		tests: []string{"./internal/callback", "-run", "^TestForgotten$"},
		edits: []edit{
			{"internal/callback.(*delivery).deliver",
				"d.outcome.Result, d.outcome.Call.CustomerNumber = *d.record.Result, \"\"", ""},
		}},
	{bug: "a customer forgotten without consent",
		tests: []string{"./internal/cli", "-run", "^TestForgetAsksOnATerminal$"}, edits: []edit{
			{"internal/cli.(*customersForgetCommand).agreed", "case !yes:", "case !yes && false:"},
		}},
	{bug: "a copy from before the parking claims the result", tests: []string{"./internal/callback"}, edits: []edit{
		{"internal/callback.(*delivery).claim", "job.ClaimDeliveryIn(d.outcome.Call.ID, began, lease)",
			"job.ClaimDelivery(began, lease)"},
	}},
	{bug: "a record that expires before the sweep looks for its result", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job.Record.Expires", "last = last.Add(unsettledTime)", ""},
	}},
	{bug: "no daily sweep", tests: []string{"./internal/local/pipeline", "-run", "^TestDailySweep$"}, edits: []edit{
		{"internal/local/pipeline.(*Pipeline).Run", "running.Go(func() { p.sweep(ctx) })", ""},
	}},
	{bug: "no daily sweep in the stack", tests: []string{"./infra/ringback", "-run", "^TestSchedules$"}, edits: []edit{
		{"infra/ringback.NewRingback", "r.sweep()", ""},
	}},
	{bug: "an external result for a finished job", edits: []edit{
		{"internal/job.Complete",
			"case !r.State.Active():\n\t\t\treturn r, ErrFinished\n\t\tcase now.After(r.Deadline) || r.StoredJob == nil:",
			"case now.After(r.Deadline) || r.StoredJob == nil:"},
	}},
	{bug: "a tool's own result in place of the external one", edits: []edit{
		{"internal/job.Finish", "if r.State != StateRunning {\n\t\t\treturn r, ErrFinished\n\t\t}\n\t\tif r.WakeUp > 0",
			"if r.WakeUp > 0"},
		{"internal/jobtable.ofClaim", "case r.Revision == claimed.Revision || r.OwnedAs(claimed):",
			"case true:"},
	}},
	{bug: "an external system decides that the assistant speaks", edits: []edit{
		{"internal/job.Job.ExternalProgressOutcome",
			"!silent && r.Policy.ExternalProgress == policy.DeliveryRespond", "!silent"},
	}},
	{bug: "a line of an external system sent as the tool's own", edits: []edit{
		{"internal/job.Job.ExternalProgressOutcome", "r.Progress.Text, true, r)\n\to.Result.Own = false",
			"r.Progress.Text, silent, r)"},
	}},
	{bug: "the words of an unknown author spoken", tests: []string{"./internal/callback", "-run", "^TestDialects$"},
		edits: []edit{
			{"internal/spoken.Text.Message", " && !o.Earlier && !o.ExternalProgress():", " && !o.Earlier:"},
		}},
	{bug: "the result of an external system spoken word for word", tests: ofExternalSystems, edits: []edit{
		{"internal/completion.delivery", "return policy.DeliveryRespond", "return p.Delivery"},
	}},
	{bug: "the words of an external system first in an outbound call",
		tests: []string{"./internal/callback", "-run", "^TestCallBack$"}, edits: []edit{
			{"internal/callback.firstWords", "if !r.Own {", "if false {"},
		}},
	{bug: "any number of lines of an external system", tests: ofExternalSystems, edits: []edit{
		{"internal/job.AddExternalProgress", "r.ExternalLines >= MaxExternalLines", "false"},
	}},
	{bug: "a result to a tool that reads its posts, believed without a signature",
		tests: []string{"./internal/completion", "-run", "^TestForward$"}, edits: []edit{
			{"internal/completion.(*Handler).receive", "if token.Posts {", "if false {"},
		}},
	{bug: "a token of such a tool that the version before believes",
		tests: []string{"./internal/completion", "-run", "^TestPostsToken$"}, edits: []edit{
			{"internal/completion.(*Keys).SignPosts", "k.sign(ctx, postsAudience,", "k.sign(ctx, audience,"},
		}},
	{bug: "a refused post that ends its job", tests: []string{"./internal/process", "-run", "^TestPostEnds$"},
		edits: []edit{{"internal/process.(*Handler).post", "case f.Ignored:", "case false:"}}},
	{bug: "a wrong signature that ends the job as a failure", tests: signatures, edits: []edit{
		{"asynctool.(*Entry).ReadPost", "case errors.Is(err, ErrSignature):", "case false:"},
	}},
	{bug: "the result of a post lost with its function",
		tests: []string{"./internal/process", "-run", "^TestDeath$"}, edits: []edit{
			{"internal/process.(*Handler).post", "batch.Receives(message) > 1 && record.OutcomePending()", "false"},
		}},
	{bug: "any age of a signature", tests: signatures, edits: []edit{
		{"asynctool.checkTimestamp", "age > tolerance || age < -tolerance", "age == 0 && tolerance < 0"},
	}},
	{bug: "an empty secret for a signature", tests: signatures, edits: []edit{
		{"asynctool.HMAC.Verify", "case h.Secret == \"\":", "case false:"},
		{"asynctool.StandardWebhooks.Verify", "err != nil || len(secret) == 0", "err != nil"},
	}},
	{bug: "a signature of parts that are divided in another way", tests: signatures, edits: []edit{
		{"asynctool.StandardWebhooks.Verify", "id == \"\" || strings.Contains(id, \".\")", "id == \"\""},
	}},
	{bug: "one word for the markers of all messages", tests: forgeries, edits: []edit{
		{"internal/spoken.Marker.Word", "strings.ToLower(rand.Text()[:10])", "rand.Text()[:0] + \"k7w2q5tz4m\""},
		// Otherwise it would look for another word for ever.
		{"internal/spoken.Marker.Word", "!strings.Contains(shown, word)", "len(shown) >= 0"},
	}},
	{bug: "progress without markers in the answer of task_status", tests: forgeries, edits: []edit{
		{"internal/ack.line", "word.Quote(s.Progress)", "s.Progress"},
	}},
	{bug: "a result without markers in the answer of task_status", tests: forgeries, edits: []edit{
		{"internal/ack.(*Handler).resultsText", "part+word.Quote(text)", "part+text"},
	}},
	{bug: "a quick answer without markers", tests: forgeries, edits: []edit{
		{"internal/ack.(*Handler).setResult", `text = word.Sentence() + " " + word.Quote(text)`,
			`text = word.Sentence() + " " + text`},
	}},
	{bug: "the variable of an outbound call without markers", tests: forgeries, edits: []edit{
		{"internal/callback.(*delivery).variables", "d.cfg.Text.Frame(o)", "spoken.Clean(o.Result.Content)"},
	}},
	{bug: "what was asked before the markers", tests: forgeries, edits: []edit{
		{"internal/spoken.Text.render", "word.frame(asked(o) + content)", "asked(o) + word.frame(content)"},
	}},
	{bug: "marks that scripts need removed", tests: forgeries, edits: []edit{
		{"internal/spoken.isMark", "return true", "return false"},
	}},
	{bug: "a result delivered while a progress line is", edits: []edit{
		{"internal/job.ClaimDelivery", "case now.Before(r.ProgressLeaseExpiry):\n" +
			"\t\t\treturn r, &BusyError{Until: r.ProgressLeaseExpiry}\n\t\t}\n\t\tr.LeaseExpiry, r.Answered",
			"}\n\t\tr.LeaseExpiry, r.Answered"},
	}},
	{bug: "progress lines delivered in any order", edits: []edit{
		{"internal/job.ClaimProgress",
			"sequence < last ||\n\t\t\tsequence > 0 && sequence <= r.ProgressDelivered && !pending ||",
			"sequence < last && false || pending && false ||"},
	}},
	{bug: "of results delivered together, only the first", edits: []edit{
		{"internal/callback.merge", "strings.Join(contents, separator)", "strings.Join(contents[:1], \"\")"},
	}},
	{bug: "the text of an action spoken again with the action", edits: []edit{
		{"internal/callback.(*delivery).deliverInSteps", "case !textDelivered && spoken", "case spoken"},
	}},
	{bug: "an action forgotten after its text", edits: []edit{
		{"internal/callback.(*delivery).awaitSpeech", "return &batch.Retry{After: delay}\n}",
			"return d.conclude(ctx, receipt)\n}"},
	}},
	{bug: "a GPT-Live call that refuses a classic message is over", edits: []edit{
		{"internal/callback.(*delivery).mayBeGPTLive", "return 400 <= r.Status", "return false && 400 <= r.Status"},
	}},
	{bug: "a result in the answer that is not marked", edits: []edit{
		{"internal/ack.(*quickAnswer).settle",
			"err := q.cfg.Table.Settle(ctx, claimed, q.cfg.Now(), job.StateDelivered, reason)",
			"err := error(nil)\n\t\t_ = reason"},
	}},
	{bug: "an outbound call recorded after it was made", edits: []edit{
		{"internal/callback.(*delivery).makeOutboundCall", "receipt := c.Client.Call(calling, call)", "_ = calling"},
		{"internal/callback.(*delivery).makeOutboundCall", "record, err := d.cfg.Table.ChangeClaimed(",
			"call.Variables = d.variables([]*delivery{d})\n" +
				"\treceipt := c.Client.Call(ctx, call)\n\trecord, err := d.cfg.Table.ChangeClaimed("},
	}},
	{bug: "a result marked as parked before it is", edits: []edit{
		{"internal/callback.(*delivery).park", "parked, err := d.cfg.Customers.Park(",
			"_ = d.mark(ctx, job.StateParked, \"\")\n\tparked, err := d.cfg.Customers.Park("},
	}},
	{bug: "a parked result removed before it is sent", edits: []edit{
		{"internal/process.(*parkedResults).sendOne", "if err := out.send(k.Outcome(record, a.Call), 0)",
			"_ = p.cfg.Customers.Unpark(ctx, a.Call, p.cfg.Now(), k)\n\tif err := out.send(k.Outcome(record, a.Call), 0)"},
	}},
	{bug: "a task that is called cancelled although it has ended", edits: []edit{
		{"internal/ack.(*cancellation).withdraw", "case errors.Is(err, job.ErrFinished):\n\t\tlog.",
			"case false:\n\t\tlog."},
		{"internal/ack.(*cancellation).withdraw", "case err != nil:\n\t\tlog.", "case false:\n\t\tlog."},
	}},
	{bug: "a task said to be cancelled that the list calls unfinished", tests: conditional, edits: []edit{
		{"internal/ack.(*cancellation).choose", "ended = append(ended, s)", "cancelled = append(cancelled, s)"},
	}},
	{bug: "an operator's cancellation neither repeated nor checked if its outcome was not sent",
		tests: []string{"./internal/faults", "-run", "^TestFaults$/^singly,_long_work", "-args", "-faults.seed=1"},
		edits: []edit{
			{"internal/operator.(*Jobs).Cancel", "case errors.Is(err, job.ErrFinished) && r.State == job.StateDone &&",
				"case false && r.State == job.StateDone &&"},
			{"internal/operator.(*Jobs).Cancel", "j.check(ctx, r)", ""},
		}},
	{bug: "a long tool's job on the queue of the others", tests: []string{"./internal/local/pipeline", "-run", "Wait"},
		edits: []edit{{"internal/ack.(*Handler).toolCalls", "h.long[t.Name] &&", "h.long[\"\"] &&"}}},
	{bug: "a long tool woken up on the queue of the others", tests: []string{"./internal/local/pipeline", "-run", "Wait"},
		edits: []edit{{"internal/process.(*wakeUps).queueOf", "entry.Timeout > queue.LongTool", "entry.Timeout < 0"}}},
	{bug: "a long job retried with the other queue's visibility", tests: []string{"./internal/process"},
		edits: []edit{{"internal/process.(*Handler).source", "EventSourceARN == long.ARN", "EventSourceARN == \"\""}}},
	{bug: "a job visible while its function runs", tests: []string{"./internal/queue"},
		edits: []edit{{"internal/queue.LimitsFor", "l.JobsVisibility = l.ProcessTimeout + visibilityMargin",
			"l.JobsVisibility = l.ProcessTimeout"}}},
	{bug: "an alarm on one busy minute", tests: []string{"./infra/ringback", "-run", "TestWaitingJobs"},
		edits: []edit{{"infra/ringback.(*Ringback).jobAlarms", "r.alarmAfter(2, prefix", "r.alarmAfter(1, prefix"}}},
	// A caller's words, a service's answer, and the command line.
	{bug: "a path with dots accepted as an identifier", tests: []string{"./asynctool", "-run", "Identifier"},
		edits: []edit{{"asynctool.Identifier", `strings.Contains(id, "..")`, "false"}}},
	{bug: "a caller's words in a path", tests: []string{"./examples/shop", "-run", "OrderStatus"}, edits: []edit{
		{"examples/shop.OrderStatus", "asynctool.Identifier(in.OrderID)", "in.OrderID, true"},
	}},
	{bug: "a caller's words in a declared path", tests: []string{"./httptool", "-run", "Forwarded"}, edits: []edit{
		{"httptool.(*target).with", "asynctool.Identifier(text)", "text, asynctool.MaxNotStarted > 0"},
	}},
	{bug: "a caller's words unescaped in a declared query", tests: []string{"./httptool", "-run", "Forwarded"},
		edits: []edit{{"httptool.(*target).with", "u.RawQuery = query.Encode()",
			"u.RawQuery, _ = url.QueryUnescape(query.Encode())"}}},
	{bug: "a service's words taken for the tool's own", tests: []string{"./httptool", "-run", "ForwardedTexts"},
		edits: []edit{
			{"httptool.(*forwarded).result", "external = len(f.text.fields) > 0", "external = false"},
			{"httptool.(*forwarded).worded", "said.External = said.Spoken != \"\"", "said.External = false"},
		}},
	{bug: "a job polled at another host", tests: []string{"./httptool", "-run", "Polling"}, edits: []edit{
		{"httptool.sameHost", "return a.Scheme == b.Scheme && a.Host == b.Host", "return true"},
	}},
	{bug: "a request repeated by the client on its own", tests: []string{"./httptool", "-run", "TestSentOnce"},
		edits: []edit{{"httptool.transport", "t.DisableKeepAlives = true", ""}}},
	{bug: "a service that has begun taken for one that has not", tests: []string{"./httptool", "-run", "NotStarted"},
		edits: []edit{
			{"httptool.NotStarted", "!isType[redirected](err)", "true"},
			{"httptool.NotStarted", "said.Retry && isType[notSent](err)", "said.Retry"},
		}},
	{bug: "a rejected access token kept", tests: []string{"./httptool", "-run", "Login"}, edits: []edit{
		{"httptool.(*session).token", "t.valid() && t.text != rejected", "t.valid()"},
	}},
	{bug: "an error that quotes a service of tokens", tests: []string{"./httptool", "-run", "Login"}, edits: []edit{
		{"httptool.(*session).ask", "errors.New(\"the access token is not a bearer token\")",
			"errors.New(\"the access token is a \" + answer.Type)"},
	}},
	{bug: "a header without a bound", tests: []string{"./httptool", "-run", "Errors"}, edits: []edit{
		{"httptool.transport", "t.MaxResponseHeaderBytes = maxHeader", "t.MaxResponseHeaderBytes = 10 << 20"},
	}},
	{bug: "an error that quotes the service", tests: []string{"./httptool", "-run", "Errors"}, edits: []edit{
		{"httptool.classify", "errors.New(malformed + \": it is incomplete, or not HTTP\")", "err"},
	}},
	{bug: "another deployment's tool moved", tests: []string{"./internal/cli/wiring", "-run", "TestSync"}, edits: []edit{
		{"internal/cli/wiring.(*state).foreign", "case t.Server.URL != s.URL:", "case false:"},
	}},
	{bug: "another owner's credential replaced", tests: []string{"./internal/cli/wiring", "-run", "TestSync"},
		edits: []edit{
			{"internal/cli/wiring.(*state).foreign", `case t.Server.CredentialID != "" && !slices`, "case false && !slices"},
		}},
	{bug: "a tool moved that another client has taken", tests: []string{"./internal/cli/wiring", "-run", "TestSync"},
		edits: []edit{{"internal/cli/wiring.(*applying).updateTool", `if change.ID != "" && !change.unmoved(raw) {`,
			"if false {"}}},
	{bug: "changes without the organisation", tests: []string{"./internal/cli", "-run", "TestSync"}, edits: []edit{
		{"internal/cli/wiring.(*state).identify", "s.organisation = organisationOf(raw)", "_ = organisationOf(raw)"},
	}},
	{bug: "changes without a yes", tests: []string{"./internal/cli", "-run", "TestSync"}, edits: []edit{
		{"internal/cli.(*syncCommand).agreed", "if c.Yes {", "if true {"},
	}},
	{bug: "changes whose previous bodies are not stored", tests: []string{"./internal/cli", "-run", "TestSync"},
		edits: []edit{{"internal/cli.(*syncCommand).Run", "err := keep(s.Out, changes.Previous)", "err := error(nil)"}}},
	{bug: "a redirect of send followed", tests: []string{"./internal/cli", "-run", "TestSend"}, edits: []edit{
		{"internal/cli.(*targetFlags).post", "transport.RoundTrip(request)",
			"(&http.Client{Transport: transport}).Do(request)"},
	}},
	{bug: "a credential sent without encryption", tests: []string{"./internal/cli", "-run", "TestCommandLine"},
		edits: []edit{{"internal/cli.checkTarget", `(u.Scheme != "http" || !guard.IsLoopback(u.Hostname()))`,
			`u.Scheme != "http"`}}},
	{bug: "a credential that is not asked for", tests: []string{"./internal/cli", "-run", "TestSendReads"}, edits: []edit{
		{"internal/cli.(*targetFlags).readCredential", `if *credential != "-" {`, "if true {"},
	}},
	{bug: "an error that quotes the deployment", tests: []string{"./internal/cli", "-run", "TestSend"}, edits: []edit{
		{"internal/cli.unanswered", `errors.New(failed + vapiclient.Unanswered(ctx, err) + "; check --url")`,
			"errors.New(failed + err.Error() + vapiclient.Unanswered(ctx, err))"},
	}},
	{bug: "a secret in an error of Vapi's API", tests: []string{"./vapi/vapiclient", "-run", "TestAPI"}, edits: []edit{
		{"vapi/vapiclient.quotable", "value = without(value, concealing(secrets))", "_ = secrets"},
	}},
	{bug: "an escaped secret in an error of Vapi's API", tests: []string{"./vapi/vapiclient", "-run", "TestAPI"},
		edits: []edit{{"vapi/vapiclient.concealing", "forms = append(forms,",
			"forms = append(forms[:len(forms):len(forms)], secret)\n\t\t_ = append(forms,"}}},
	// The lease, and what is done under it.
	{bug: "a claim without a limit", tests: leases, edits: []edit{
		{"internal/process.(*execution).claim",
			"ctx, cancel := context.WithTimeout(ctx, claimTimeout)\n\tdefer cancel()\n\tif e.wakeUp > 0 {",
			"if e.wakeUp > 0 {"},
	}},
	{bug: "a claim without an answer not undone", tests: leases, edits: []edit{
		{"internal/process.(*execution).run", "e.unclaim(ctx, first, retry.After)", ""},
	}},
	{bug: "two claims of one message that look the same", tests: leases, edits: []edit{
		{"internal/process.(*execution).firstRecord", "job.Nameable(lease)", "lease"},
	}},
	{bug: "a claim that takes effect after it was undone", tests: []string{"./internal/local/memtable"}, edits: []edit{
		{"internal/job.Unclaim", "return r, ErrUnchanged\n\t\t}\n\t\treturn r, nil\n\t}}\n}",
			"return r, ErrUnchanged\n\t\t}\n\t\treturn r, ErrUnchanged\n\t}}\n}"},
	}},
	{bug: "a tool started with too little of its lease left", tests: leases, edits: []edit{
		{"internal/process.(*execution).run", "case e.cfg.Now().After(startBy):", "case false:"},
	}},
	{bug: "an admission without a limit", tests: leases, edits: []edit{
		{"internal/process.(*execution).admit",
			"ctx, cancel := context.WithTimeout(ctx, startBy.Sub(e.cfg.Now()))\n\tdefer cancel()", ""},
	}},
	{bug: "a result thrown away for one failed write", tests: leases, edits: []edit{
		{"internal/process.(*execution).store", "if e.storeTime(ctx) <= delay {", "if delay > 0 {"},
	}},
	{bug: "a result stored for longer than the lease", tests: leases, edits: []edit{
		{"internal/process.(*execution).storeTime", "left := e.lease.until().Sub(e.cfg.Now())\n\tif deadline",
			"left := time.Hour\n\tif deadline"},
	}},
	{bug: "a result stored for longer than the function's time", tests: leases, edits: []edit{
		{"internal/process.(*execution).storeTime", "left = min(left, time.Until(deadline))",
			"left = min(left, left+time.Until(deadline))"},
	}},
	{bug: "a result taken for that of others, as its write was answered late", tests: leases, edits: []edit{
		{"internal/process.(*execution).store", "record.Updated.Equal(at) {", "record.Updated.Equal(at.Add(1)) {"},
		{"internal/process.(*execution).finish", "return e.endedByOthers(ctx, record)\n\tcase",
			"return e.retry()\n\tcase"},
	}},
	{bug: "an unstored outcome not sent", tests: leases, edits: []edit{
		{"internal/process.(*execution).finish", "return e.sendUnstored(ctx, rule)", "return e.retry()"},
	}},
	{bug: "an unstored outcome not stored", tests: []string{"./internal/callback"}, edits: []edit{
		{"internal/callback.(*delivery).deliver", "if o.Unstored != nil && errors.Is(err, job.ErrNotDone) {",
			"if false {"},
	}},
	{bug: "an unstored outcome of an attempt that lost the job", tests: []string{"./internal/callback"}, edits: []edit{
		{"internal/job.StoreResult", "case o.Unstored == nil || !r.OwnedBy(o.Unstored.AttemptID):",
			"case o.Unstored == nil:"},
	}},
	{bug: "an unstored outcome delivered in place of a stored one", tests: []string{"./internal/callback"}, edits: []edit{
		{"internal/callback.(*delivery).deliver",
			"d.outcome.Result, d.outcome.Deadline = *d.record.Result, d.record.Deadline", ""},
	}},
	{bug: "a message hidden for the slowest tool", tests: leases, edits: []edit{
		{"internal/process.(*execution).hide", "d := e.lease.until().Sub(e.cfg.Now()) +", "d := time.Hour +"},
	}},
	{bug: "the message of a dead function hidden for ten minutes", edits: []edit{
		{"internal/process.(*execution).hide", "d := e.lease.until().Sub(e.cfg.Now()) +", "d := 10*time.Minute +"},
	}},
	{bug: "a finished message received again before its batch ends", tests: leases, edits: []edit{
		{"internal/process.(*Handler).Handle", "} else if retry == nil {", "} else if false {"},
	}},
	{bug: "a finished message hidden too late", tests: leases, edits: []edit{
		{"internal/process.(*Handler).hideFinished", "time.After(finishedMargin)", "time.After(time.Minute)"},
	}},
	{bug: "a lease as long as the longest tool", tests: leases, edits: []edit{
		{"internal/process.(*Handler).leaseFor", "return min(lease, maxLease) + h.cfg.Breakpoints, lease > maxLease",
			"return lease, false"},
	}},
	{bug: "a breakpoint that outlasts its lease", tests: leases, edits: []edit{
		{"internal/process.(*Handler).leaseFor", "return min(lease, maxLease) + h.cfg.Breakpoints,",
			"return min(lease, maxLease),"},
	}},
	{bug: "a long tool's breakpoint that outlasts its renewed lease", tests: leases, edits: []edit{
		{"internal/process.(*execution).renew", "lease := maxLease + e.cfg.Breakpoints", "lease := maxLease"},
	}},
	{bug: "a listener that deletes failed messages", tests: listeners, edits: []edit{
		{"internal/local/dev.(*listener).begin", "case len(response.BatchItemFailures) == 0:",
			"case len(response.BatchItemFailures) >= 0:"},
	}},
	{bug: "a listener that deletes a job before its tool has ended", tests: listeners, edits: []edit{
		{"internal/local/dev.(*listener).begin", "response, err := l.handle(",
			"l.delete(ctx, s, m)\n\t\tresponse, err := l.handle("},
	}},
	{bug: "a listener that stops running tools when it is interrupted", tests: listeners, edits: []edit{
		{"internal/local/dev.(*listener).begin", "context.WithTimeout(context.WithoutCancel(ctx), l.cfg.Timeout)",
			"context.WithTimeout(ctx, l.cfg.Timeout)"},
	}},
	{bug: "a listener that shows the id of a call", tests: listeners, edits: []edit{
		{"internal/local/dev.(*listener).handling", "job.CallHash(m.Call.ID)", "m.Call.ID"},
	}},
	{bug: "a failure of use only in its call, parked after a lost write", tests: leases, edits: []edit{
		{"internal/process.(*execution).finish", "rule = job.OnlyInCall(rule)",
			"if e.record.Policy.AfterCall != policy.AfterCallDrop {\n" +
				"\t\t\te.record.Policy.AfterCall = policy.AfterCallEvent\n\t\t}"},
	}},
	{bug: "a write that begins with the record as it was claimed", tests: leases, edits: []edit{
		{"internal/process.(*execution).tryStore", "newest := e.seen.newest(e.record)", "newest := e.record"},
	}},
	{bug: "a message that returns and claims its job as if it were new", tests: leases, edits: []edit{
		{"internal/process.(*execution).claim", "if batch.Receives(e.message) > 1 {",
			"if batch.Receives(e.message) > 1000 {"},
	}},
	{bug: "a write that is lost beside a progress line", tests: leases, edits: []edit{
		{"internal/process.(*execution).tryStore", "(e.ended || e.lineDue(newest))", "e.ended"},
	}},
	{bug: "a long lease not renewed", tests: leases, edits: []edit{
		{"internal/process.(*execution).renew", "e.lease.extend(until)", "_ = until"},
	}},
	{bug: "a renewal that writes the record, too", tests: leases, edits: []edit{
		{"internal/jobtable.(*Table).Renew", "absent := &job.Renewal{JobID: claimed.ID}",
			"_, _ = t.store.Save(ctx, claimed)\n\tabsent := &job.Renewal{JobID: claimed.ID}"},
	}},
	{bug: "a renewal that a claim does not see", tests: leases, edits: []edit{
		{"internal/jobtable.(*Table).LeaseExpiry", "case l.Renews(r) && l.Expiry.After(r.LeaseExpiry):", "case false:"},
	}},
	{bug: "a tool that runs on after its lease", tests: leases, edits: []edit{
		{"internal/process.(*execution).keep", "lose(errLeaseLost)\n\t})", "})"},
	}},
	{bug: "a renewal that counts although its answer was too late", tests: leases, edits: []edit{
		{"internal/process.(*execution).renew", "case !end.Stop():\n\t\t\treturn",
			"case !end.Stop() && false:\n\t\t\treturn"},
		{"internal/process.(*execution).keep", "lose(errLeaseLost)\n\t})",
			"if e.toolTime() <= 0 {\n\t\t\ttime.Sleep(renewInterval)\n\t\t}\n\t})"},
	}},
	{bug: "a lease renewed after its end", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job.Renewal.Renew", "if !now.Before(before) {", "if now.Before(before) && false {"},
	}},
	{bug: "a renewal of an earlier attempt in place of a later one's", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job.Renewal.Renew", "case l.Revision > 0 && order >= 0:", "case l.Revision > 0 && order > 9:"},
	}},
	{bug: "a slot that ends with the first lease", tests: leases, edits: []edit{
		{"internal/process.(*execution).renew", "e.cfg.Admission.Extend(ctx, c.job, e.cfg.Now(), lease)", "ctx.Err()"},
	}},
	{bug: "a message that returns while its lease is renewed", tests: leases, edits: []edit{
		{"internal/process.(*execution).renew",
			"e.aside(context.WithoutCancel(ctx), func(ctx context.Context) { e.hide(ctx, c.log) })", ""},
	}},
	{bug: "a result that waits for a progress line", tests: leases, edits: []edit{
		{"internal/process/toolrun.(*host).close", "if !suspended {\n\t\treturn\n\t}\n\tpassed",
			"if !suspended {\n\t\t<-h.done\n\t\treturn\n\t}\n\tpassed"},
	}},
	{bug: "a suspension that waits for a progress line", tests: leases, edits: []edit{
		{"internal/process/toolrun.(*host).close", "case <-passed:\n\tcase <-time.After(lineTimeout):", "case <-passed:"},
	}},
	{bug: "a progress line sent after the result", tests: leases, edits: []edit{
		{"internal/process/toolrun.(*host).close", "defer h.end()\n\tclose(h.stop)", "close(h.stop)"},
		{"internal/process/toolrun.(*host).send", "ctx, cancel := context.WithTimeout(h.ctx, lineTimeout)",
			"ctx, cancel := context.WithCancel(h.ctx)"},
	}},
	{bug: "half a minute for what may be lost", tests: leases, edits: []edit{
		{"internal/process/lease.go", "asideTimeout = 2 * time.Second", "asideTimeout = 30 * time.Second"},
	}},
	{bug: "a tool that waits for its hold message", tests: leases, edits: []edit{
		{"internal/process.(*execution).runTool", "e.aside(ctx, host.sendHold)", "host.sendHold(ctx)"},
	}},
	{bug: "a tool that waits for the search for parked results", tests: leases, edits: []edit{
		{"internal/process.(*execution).runTool",
			"e.aside(ctx, func(ctx context.Context) { e.parked.request(ctx, host.claimed) })",
			"e.parked.request(ctx, host.claimed)"},
	}},
	// The lease of a delivery, and what is done under it.
	{bug: "a delivery under a claim that took too long", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).claim", "d.cfg.Now().Sub(began) > claimTimeout {",
			"d.cfg.Now().Sub(began) > time.Hour {"},
	}},
	{bug: "an old record in a message decides", tests: []string{"./internal/local/memtable"}, edits: []edit{
		{"internal/jobtable.(*Table).ChangeKnown", "return t.Change(ctx, known.ID, rule)", "return known, err"},
	}},
	{bug: "the record of another job in a message", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job.Outcome.Record", "|| r.ID != o.JobID", ""},
	}},
	{bug: "a record in a message that was not saved",
		tests: []string{"./internal/process", "-run", "^TestRetries$"}, edits: []edit{
			{"internal/process.(*execution).finish", "e.record = record\n", "record.Reason += \"!\"\n\te.record = record\n"},
		}},
	{bug: "a repeated delivery claimed with the record of its message",
		tests: []string{"./internal/callback", "-run", "^TestKnownRecord$"}, edits: []edit{
			{"internal/callback.(*delivery).claim", "ok && d.receives == 1", "ok"},
		}},
	{bug: "a claim of a delivery without a limit", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).claim", "context.WithTimeout(ctx, claimTimeout)", "context.WithCancel(ctx)"},
	}},
	{bug: "a claim of a delivery without an answer not undone", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).claim", "d.undo(ctx, job.UnclaimDelivery(d.cfg.Now(), d.lease))", ""},
	}},
	{bug: "a claim of a delivery that takes effect after it was undone", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job.UnclaimDelivery", "case r.State != StateDone || now.Before(r.LeaseExpiry):", "default:"},
	}},
	{bug: "a progress line under a claim that took too long", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).claimProgress", "d.cfg.Now().Sub(began) > claimTimeout {",
			"d.cfg.Now().Sub(began) > time.Hour {"},
	}},
	{bug: "a claim of a progress line not undone", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).claimProgress", "d.undo(ctx, job.EndProgress(",
			"_ = d.undo; _ = (job.EndProgress("},
	}},
	{bug: "a post that may outlive its lease", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).within", "left := d.left(ctx) - d.reserve()", "left := d.left(ctx) + time.Hour"},
	}},
	{bug: "a post that begins with too little of its lease left", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).within", "return ctx, cancel, left >= needed", "return ctx, cancel, true"},
	}},
	{bug: "an outbound call that begins with too little of its lease left", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).makeOutboundCall", "if d.left(ctx)-markTime < outboundTime {",
			"if d.left(ctx) < 0 {"},
	}},
	{bug: "the mark given up before the lease is over", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).mark", "d.write(ctx, d.left(ctx)-leaseMargin, func", "d.write(ctx, 0, func"},
		{"internal/callback.(*delivery).settle", "if err := d.send(ctx, d.outcome.Mark(state, reason)); err != nil {",
			"if err != nil {"},
	}},
	{bug: "a result that is never marked if it cannot be marked in time", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).settle", "if err := d.send(ctx, d.outcome.Mark(state, reason)); err != nil {",
			"if err != nil {"},
	}},
	{bug: "a mark that delivers its result again", tests: deliveries, edits: []edit{
		{"internal/callback.(*Handler).handle", "case o.Kind == job.KindMark:", "case false:"},
	}},
	{bug: "a message of several outcomes not split", tests: deliveries, edits: []edit{
		{"internal/callback.(*Handler).handle", "case len(o.With) > 0:", "case false:"},
	}},
	{bug: "an unclaimed result not marked after its event", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).tryMark", "if d.claimed {\n\t\treturn d.cfg.Table.Settle",
			"if true {\n\t\treturn d.cfg.Table.Settle"},
	}},
	{bug: "an outbound call after the deadline", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).makeOutboundCall", "if next := c.Next(d.cfg.Now()); next.After(o.Deadline) {",
			"if next := c.Next(d.cfg.Now()); false && next.After(o.Deadline) {"},
		{"internal/callback.(*delivery).makeOutboundCall", "case c.Next(now).After(o.Deadline):", "case false:"},
	}},
	{bug: "the deadline forgotten while Vapi is asked", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).makeOutboundCall", "case c.Next(now).After(o.Deadline):", "case false:"},
	}},
	{bug: "a Retry-After beyond the deadline ends the retries", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).delay",
			"return max(backoff, min(retryAfter, (left-lastAttempt).Truncate(time.Second))), backoff <= left",
			"return max(backoff, retryAfter), max(backoff, retryAfter) <= left"},
	}},
	{bug: "a post before each question whether the call has ended", tests: deliveries, edits: []edit{
		{"internal/callback.(*delivery).deliver", "case !d.record.OutboundCallPostponedAt.IsZero() &&", "case false &&"},
	}},
	// The harness found these when it was new.
	{bug: "the mark tried only once", edits: []edit{
		{"internal/callback.(*delivery).write", "if err == nil || ended(err) || errors",
			"if n > 0 || ended(err) || errors"},
		{"internal/callback.(*delivery).settle", "if err := d.send(ctx, d.outcome.Mark(state, reason)); err != nil {",
			"if err != nil {"},
	}},
	{bug: "a copy of the outcome for every receive of an exhausted job", edits: []edit{
		{"internal/process.(*execution).send", "if e.record.OutcomePending() && e.record.NextCallID == \"\" {",
			"if e.record.State == job.StateDone {"},
	}},
	{bug: "the earlier of two tool calls replaces the later", edits: []edit{
		{"internal/jobtable.(*Question).ask", "case at.After(j.ReceivedAt) || slices.Contains(replaced, j.ID):",
			"case false && at.After(j.ReceivedAt) || slices.Contains(replaced, j.ID):"},
	}},
	{bug: "a job replaced by one that must not start", tests: []string{"./internal/process"}, edits: []edit{
		{"internal/process.(*gate).checkCall", "case errors.As(err, &limit):", "case errors.As(err, &limit):\n" +
			"\t\tfor _, id := range earlier {\n" +
			"\t\t\t_ = g.replace(ctx, c, id)\n" +
			"\t\t}"},
	}},
	{bug: "a question that stays with a job that must not start", tests: []string{"./internal/local/memtable"},
		edits: []edit{
			{"internal/jobtable.(*Admission).Admit", "return next.Admit(j.ID, earlier, now, lease, a.limits)",
				"if admitted, err := next.Admit(j.ID, earlier, now, lease, a.limits); err == nil {\n" +
					"\t\t\t\treturn admitted, nil\n\t\t\t}"},
		}},
	{bug: "a failed save counts", tests: callRounds, edits: []edit{
		{"internal/jobtable.(*callChanges).lead", "if err != nil {", "if err != nil && false {"},
	}},
	{bug: "a left round is not repeated", tests: callRounds, edits: []edit{
		{"internal/jobtable.(*callChanges).change", "if !joined || r.whole ||", "if true || r.whole ||"},
	}},
	{bug: "a panic of one job ends the changes of others", tests: callRounds, edits: []edit{
		{"internal/jobtable.(*callChange).apply", "p := recover(); p != nil", "p := any(nil); p != nil"},
	}},
	{bug: "a panic of a job's rule in silence", tests: callRounds, edits: []edit{
		{"internal/jobtable.(*callChanges).change", "panic(mine.panicked)", "return nil"},
	}},
	{bug: "each of those that replace each other asks about all others", edits: []edit{
		{"internal/jobtable.(*Question).unfinished", "known[jobID] = unfinished", "_ = known"},
	}, tests: []string{"./internal/local/pipeline", "-run", "^TestBatchOfTen$"}},
	{bug: "a replacing job needs a slot of its own", tests: []string{"./internal/process"}, edits: []edit{
		{"internal/job.CallRecord.Admit", "delete(next.Slots, nameInCall(r.CallID, other))", "_ = other"},
	}},
	{bug: "a job goes on if the function died before it was replaced", tests: []string{"./internal/local/memtable"},
		edits: []edit{{"internal/jobtable.(*Question).ask", "return r, replaced, job.ErrUnchanged",
			"return r, nil, job.ErrUnchanged"}}},
	{bug: "a job goes on if another function died before it was replaced", tests: []string{"./internal/local/memtable"},
		edits: []edit{{"internal/jobtable.(*Question).ask", "if unfinished {\n\t\t\t\t\tearlier =",
			"if unfinished && false {\n\t\t\t\t\tearlier ="}}},
	{bug: "any host accepted by the local run", tests: localRun, edits: []edit{
		{"internal/local/guard.Guard.check", "if !public && !isOwn(r) {", "if false {"},
	}},
	{bug: "any origin accepted by the local run", tests: localRun, edits: []edit{
		{"internal/local/guard.Guard.check", `if origin != "http://"+r.Host && !(public`, "if false && !(public"},
	}},
	{bug: "images of other sites served by the local run", tests: localRun, edits: []edit{
		{"internal/local/guard.Guard.check", `if site != "same-origin" && site != "none" {`, `if site == "" {`},
	}},
	{bug: "forms accepted by the local run", tests: localRun, edits: []edit{
		{"internal/local/guard.Guard.check", "if r.ContentLength != 0 &&", "if false &&"},
	}},
	{bug: "forms accepted by the local run with any token in their URL", tests: localRun, edits: []edit{
		{"internal/local/dev.(*run).isCompletion", "return ok && r.pipeline", "return ok || r.pipeline"},
	}},
	{bug: "a page's form accepted by the local run if it knows the token", tests: localRun, edits: []edit{
		{"internal/local/guard.Guard.check", "if !public && !isOwn(r) {",
			"if g.AnyType != nil && g.AnyType(r) {\nreturn nil\n}\nif !public && !isOwn(r) {"},
	}},
	{bug: "a listener of the local run without its guard", tests: localRun, edits: []edit{
		{"internal/local/dev.(*run).start", "Handler: g.Handler(h),", "Handler: h,"},
	}},
	{bug: "the listener of a command without its guard", tests: []string{"./internal/cli", "-run", "^TestChromium$"},
		edits: []edit{{"internal/cli.simulate",
			"guard.Guard{}.Handler(http.StripPrefix(secret, c.calls.Handler()))",
			"append([]http.Handler{http.StripPrefix(secret, c.calls.Handler())}, guard.Guard{}.Handler(nil))[0]"}}},
	{bug: "the local run serves without a credential", tests: localRun, edits: []edit{
		{"internal/local/dev.(*run).authenticate", "cmp.Or(r.cfg.Auth, fmt",
			"cmp.Or(r.cfg.Auth, `{\"type\":\"none\"}`, fmt"},
	}},
	{bug: "other machines reach an unverified local run", tests: localRun, edits: []edit{
		{"internal/local/dev.(*run).listen", "!addr.IP.IsLoopback() && (", "false && ("},
	}},
	{bug: "a control URL on this machine without a credential", tests: localRun, edits: []edit{
		{"internal/local/dev.(*run).received", "if !r.unverified() || ctx", "if true || ctx"},
	}},
	{bug: "a forged webhook shown", tests: []string{"./internal/local/dev", "-run", "^TestRefused"}, edits: []edit{
		{"internal/ack.(*Handler).read", "if err := verify((*vapiauth.Verifier).CheckHeader); err != nil {",
			"if body, err := httpjson.Body(r, MaxBody); err == nil && h.cfg.Received != nil {\n" +
				"\t\tm, _ := vapi.ParseDocument(body)\n" +
				"\t\th.cfg.Received(r.Context(), m)\n" +
				"\t}\n" +
				"\tif err := verify((*vapiauth.Verifier).CheckHeader); err != nil {"},
	}},
	{bug: "control characters on the terminal", tests: localRun, edits: []edit{
		{"internal/console.Clean", "unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control)",
			"unicode.In(r)"},
	}},
	{bug: "control characters in the answer that is printed", tests: []string{"./internal/cli", "-run", "^TestSend"},
		edits: []edit{{"internal/cli.(*sendCommand).sendAndShow", `"%s\n", printable(string(answer)))`, `"%s\n", answer)`}}},
	{bug: "the jobs of a local run without its token", tests: []string{"./internal/operator"}, edits: []edit{
		{"internal/operator.guarded", "subtle.ConstantTimeCompare(sent[:], want[:]) != 1 {",
			"subtle.ConstantTimeCompare(sent[:], want[:]) > 1 {"},
	}},
	{bug: "a dead letter that is deleted before it is sent", tests: deadLetters, edits: []edit{
		{"internal/operator.(*Dead).handle", "err := do(ctx, l)", "err := q.Delete(ctx, l.Receipt); _ = do(ctx, l)"},
	}},
	{bug: "a dropped message whose job ends in silence", tests: deadLetters, edits: []edit{
		{"internal/operator.(*Dead).endJob", "return d.send(ctx, j.Outcome(r))", "return nil"},
	}},
	{bug: "a dropped result without its event", tests: deadLetters, edits: []edit{
		{"internal/operator.(*Dead).loss", "return LossDelivery, nil", "return LossNothing, nil"},
	}},
	{bug: "a copy for replays that does not expire", tests: deadLetters, edits: []edit{
		{"internal/jobtable.OpenReplay", "now.After(c.Until)", "now.IsZero()"},
	}},
	{bug: "the copies of a forgotten customer stay", tests: deadLetters, edits: []edit{
		{"internal/operator.(*Customers).Forget", "c.cfg.Copies.Delete(ctx, one)",
			"func(job.ReplayCopy) error { return nil }(one)"},
	}},
	{bug: "a replay with the idempotency key of its original", tests: []string{"./internal/job", "-run", "^TestReplay$"},
		edits: []edit{{"internal/job.Job.Replay", "j.ID = idPrefix + replayMark +", "_ = idPrefix + replayMark +"}}},
	{bug: "a tool that must not run twice, replayed without consent",
		tests: []string{"./internal/cli", "-run", "^TestReplayOfALocalRun$"}, edits: []edit{
			{"internal/cli.(*jobsReplayCommand).agreed", "tool.Attempts > 1 || c.Yes", "tool.Attempts > 0 || c.Yes"},
		}},
	{bug: "a replay without delivery that becomes an event",
		tests: []string{"./internal/callback", "-run", "^TestReplayWithoutDelivery$"}, edits: []edit{
			{"internal/callback.(*delivery).deliver", "if d.record.KeepResult {", "if false {"},
		}},
	{bug: "a failed replay in the dead-letter queue", tests: []string{"./internal/operator", "-run", "^TestFailedReplay$"},
		edits: []edit{{"internal/job.Finish", "exhausted && !r.KeepResult", "exhausted"}}},
	{bug: "a tool call that ends like a replay without delivery", edits: []edit{
		{"internal/job.Job.keepsResult", "return j.KeepResult && IsReplay(j.ID) && j.Call.ControlURL == \"\"",
			"return j.Call.ControlURL != \"\""},
	}},
	{bug: "a replay without the settings of the local run",
		tests: []string{"./internal/cli", "-run", "^TestReplayWithSettings$"}, edits: []edit{
			{"internal/cli.(*jobsReplayCommand).Run", "ok && !c.There", "ok && c.There"},
		}},
	{bug: "a list that hides dead letters", tests: deadLetters, edits: []edit{
		{"internal/operator.(*Dead).scan", "q.ChangeVisibility(ctx, receipt, 0)", "q.ChangeVisibility(ctx, receipt, hide)"},
	}},
	{bug: "control characters in the events of a call", tests: []string{"./internal/cli", "-run", "^TestCallInVain$"},
		edits: []edit{{"internal/cli.(*report).show", `strings.Split(printable(text), "\n")`, `strings.Split(text, "\n")`}}},
	{bug: "a secret of .env in an error", tests: []string{"./internal/cli", "-run", "^TestEnvironmentFile$"},
		edits: []edit{{"internal/cli.readEnvironment",
			`errors.New("cannot read " + environmentFile + ": a line is not of the form NAME=value")`, "err"}}},
	{bug: "a result that reaches a simulated call that has ended", tests: []string{"./internal/local/simcall"},
		edits: []edit{{"internal/local/simcall.(*Calls).refusal", "if c.Ended(callID) {", "if false {"}}},
	{bug: "a restart that does not wait for a running tool", tests: localRun, edits: []edit{
		{"internal/local/dev.(*run).handOver", "case <-stopped:", "case <-time.After(0):"},
	}},
	{bug: "a restart that other accounts can read", tests: localRun, edits: []edit{
		{"internal/local/dev.(*run).handOver", "text, 0o600)", "text, 0o644)"},
	}},
	{bug: "a token that outlives its run", tests: localRun, edits: []edit{
		{"internal/local/dev.(*run).close", "r.forget()", "_ = r.forget"},
	}},
	{bug: "a token that other accounts can read", tests: localRun, edits: []edit{
		{"internal/local/guard.Store", "err = errors.Join(err, f.Close())",
			"err = errors.Join(err, f.Chmod(0o644), f.Close())"},
	}},
	{bug: "a token of another user's file", tests: localRun, edits: []edit{
		{"internal/local/guard.isPrivate", "owner(file) == user() && ", ""},
	}},
	{bug: "a token that others have read", tests: localRun, edits: []edit{
		{"internal/local/guard.read", "!isPrivate(info, 0o077)", "!isPrivate(info, 0)"},
	}},
	{bug: "a token in a folder that others can change", tests: localRun, edits: []edit{
		{"internal/local/guard.read", "!isPrivate(folder, 0o022)", "!isPrivate(folder, 0)"},
	}},
	{bug: "a folder of tokens that stays open to others", tests: localRun, edits: []edit{
		{"internal/local/guard.Store", "os.Chmod(filepath.Dir(name), 0o700)", "error(nil)"},
	}},
	{bug: "a secret of the environment sent to any program", tests: proofs, edits: []edit{
		{"internal/cli.(*targetFlags).sign", "err != nil || given ||", "true || given ||"},
	}},
	{bug: "a secret of WEBHOOK_AUTH sent for a flag that is empty", tests: proofs, edits: []edit{
		{"internal/cli.(*targetFlags).readCredential", "f.Auth, f.given = os.Getenv(\"WEBHOOK_AUTH\"), false",
			"f.Auth = os.Getenv(\"WEBHOOK_AUTH\")"},
	}},
	{bug: "a secret of the environment taken for one of the command line", tests: proofs, edits: []edit{
		{"internal/cli.(*targetFlags).AfterApply", `isGiven(line, "secret", "bearer", "hmac", "auth")`,
			`isGiven(line, "secret") || f.Secret+f.Bearer != ""`},
	}},
	{bug: "a credential of the command line that needs a proof", tests: proofs, edits: []edit{
		{"internal/cli.(*targetFlags).sign", "|| given ||", "|| given && false ||"},
	}},
	{bug: "a credential of the input that needs a proof", tests: proofs, edits: []edit{
		{"internal/cli.(*targetFlags).readCredential", "f.given = true", "f.given = f.given && true"},
	}},
	{bug: "a signature that needs a proof", tests: proofs, edits: []edit{
		{"internal/cli.reveals", `p.Type != "hmac" && `, ""},
	}},
	{bug: "an argument encrypted with the key of any program", tests: proofs, edits: []edit{
		{"internal/cli.localArgumentKey", "proven{}.RoundTrip(request)", "http.DefaultTransport.RoundTrip(request)"},
	}},
	{bug: "a secret of the environment that doctor sends to any program", tests: proofs, edits: []edit{
		{"internal/cli.(*doctorCommand).Run", "x.Transport = proven{}", "_ = proven{}"},
	}},
	{bug: "the token of a local run sent to any program, for a link", tests: proofs, edits: []edit{
		{"internal/cli.localLink", "operator.ProvenTransport(token).RoundTrip(request)",
			"http.DefaultTransport.RoundTrip(request)"},
	}},
	{bug: "the token of a local run sent to any program, with a request", tests: proofs, edits: []edit{
		{"internal/operator.NewLocal", "Transport: ProvenTransport(token)", "Transport: nil"},
	}},
	{bug: "a credential that a run sends to another one at its address", tests: localRun, edits: []edit{
		{"internal/local/dev.(*run).post", "operator.ProvenTransport(r.token).RoundTrip(request)",
			"append([]http.RoundTripper{http.DefaultTransport}, operator.ProvenTransport(r.token))[0].RoundTrip(request)"},
	}},
	{bug: "a proof that any answer is", tests: proofs, edits: []edit{
		{"internal/operator.proves", "hmac.Equal(answer, []byte(proof(token, machine(), at, nonce))) &&",
			"hmac.Equal(answer, answer) && at != nonce &&"},
	}},
	{bug: "a proof without a token", tests: proofs, edits: []edit{
		{"internal/operator.proves", `|| token == ""`, ""},
	}},
	{bug: "a proof that can be used again", tests: proofs, edits: []edit{
		{"internal/operator.proof", "at, nonce}", "at}"},
	}},
	{bug: "a nonce that is known before", tests: proofs, edits: []edit{
		{"internal/operator.proves", "rand.Text()", "strings.Repeat(rand.Text()[:0]+\"x\", 26)"},
	}},
	{bug: "a proof that another address can pass on", tests: proofs, edits: []edit{
		{"internal/operator.proof", "machine, at, nonce}", "machine, nonce}"},
	}},
	{bug: "a proof for the address that the request names", tests: proofs, edits: []edit{
		{"internal/operator.ProofHandler", "at.String()", "map[bool]string{true: r.Host, false: at.String()}[true]"},
	}},
	{bug: "a proof that another machine can pass on", tests: proofs, edits: []edit{
		{"internal/operator.proof", "machine, at, nonce}", "at, nonce}"},
	}},
	{bug: "a proof on one connection, and the request on another", tests: proofs, edits: []edit{
		{"internal/operator.ProvenTransport", "return conn, nil",
			"conn.Close(); return new(net.Dialer).DialContext(ctx, network, addr)"},
	}},
	{bug: "an answer that comes before its request", tests: proofs, edits: []edit{
		{"internal/operator.proves", "|| answers.Buffered() > 0", ""},
	}},
	{bug: "a proof of any length", tests: proofs, edits: []edit{
		{"internal/operator.proves", "io.LimitReader(conn, maxProof)", "io.LimitReader(conn, maxProof<<20)"},
	}},
	{bug: "a proof through a tunnel", tests: proofs, edits: []edit{
		{"internal/operator.ProofHandler", "|| !fromHere(r)", ""},
	}},
	{bug: "the simulated shop posts to any port of this machine", tests: localRun, edits: []edit{
		{"internal/local/slowshop.(*Shop).request",
			"case !strings.HasPrefix(asked.CompletionURL, s.public), s.public ==", "case s.public =="},
	}},
	{bug: "a simulated call at a known address", tests: []string{"./internal/cli", "-run", "^TestForged"}, edits: []edit{
		{"internal/local/dev.(*run).serve", `http.StripPrefix("/"+r.token, r.pipeline.Calls.Handler())`,
			"r.pipeline.Calls.Handler()"},
		{"internal/local/dev.(*run).assemble", `r.control.Addr().String() + "/" + r.token,`,
			"r.control.Addr().String(),"},
	}},
	{bug: "an unreadable message given up at once", tests: twoVersions,
		edits: []edit{{"internal/batch.RetryAfter",
			"return &Retry{After: growing(firstUnreadable, maxUnreadable, receives)}",
			"return &Retry{After: growing(0, 0, receives)}"}}},
	{bug: "a record of a newer version changed", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job.DecodeRecord", "case version > recordVersion:", "case false:"},
	}},
	{bug: "messages in a form that the version before does not read", tests: []string{"./internal/job"}, edits: []edit{
		{"internal/job/job.go", "const version = 1", "const version = 2"},
	}},
	{bug: "the members of a newer version dropped", tests: twoVersions,
		edits: []edit{{"internal/job.marshal", "err == nil && hasUnknown(value)", "false && hasUnknown(value)"}}},
	{bug: "the end of a call forgotten if no tool has asked yet", tests: []string{"./internal/process"}, edits: []edit{
		{"internal/jobtable.(*CallTracker).End", `"record the end of", callID, true,`,
			`"record the end of", callID, false,`},
	}},
	{
		bug:   "a copy of the outcome for each simultaneous post of a result",
		tests: []string{"./internal/completion"},
		edits: []edit{
			{"internal/completion.(*Handler).complete", "if h.unsent(record, *p) {",
				"if record.OutcomePending() && record.StoredJob != nil {"},
		},
	},
	{bug: "a cached secret used for ever", tests: []string{"./internal/secret", "./internal/ack"}, edits: []edit{
		{"internal/secret.(*Secret).get", "if now.Sub(s.readAt) >= MaxStale {", "if false {"},
	}},
	{bug: "a revoked secret used for an hour", tests: []string{"./internal/secret", "./internal/ack"}, edits: []edit{
		{"internal/secret.(*Secret).get", "case errors.Is(err, ErrRevoked):", "case false:"},
	}},
	{bug: "a list forgotten before results that only it leads to", tests: []string{"./internal/operator"}, edits: []edit{
		{"internal/operator.(*Customers).Forget", "c.forgetJobs(ctx, s.listed, &f); err", "error(nil); err"},
		{"internal/operator.(*Customers).Forget", "return one.ID == j.ID", "return false"},
	}},
	{bug: "records without their number before the list that they lead to", tests: []string{"./internal/operator"},
		edits: []edit{{"internal/operator.(*Customers).Forget", "c.forgetJobs(ctx, s.listed, &f)",
			"c.forgetJobs(ctx, slices.Concat(s.Parked, s.Others), &f)"}}},
	{bug: "the value of a panic in the record", tests: []string{"./internal/process"}, edits: []edit{
		{"internal/process/toolrun.panicked", "return f", "f.Reason = f.Detail\n\treturn f"},
	}},
	{bug: "a span of a cancelled tool that says it is tried again", tests: []string{"./internal/local/pipeline", "-run",
		"^TestRetriesInSpans$"}, edits: []edit{
		{"internal/process.(*execution).again", "!unwanted &&", "(unwanted || !unwanted) &&"},
	}},
	{bug: "a deleted secret taken for an outage", tests: []string{"./internal/aws/secretsmanager"}, edits: []edit{
		{"internal/aws/secretsmanager.revoked", `"AccessDeniedException", "ResourceNotFoundException",`,
			`"AccessDeniedException",`},
	}},
	{bug: "a leaked secret used for as long as a broken one is stored", tests: []string{"./internal/secret"},
		edits: []edit{
			{"internal/secret.(*Parsed).of", "case now.Sub(p.usable) >= MaxStale:", "case false:"},
		}},
	{bug: "a revoked secret used again when a broken one is stored", tests: []string{"./internal/secret"}, edits: []edit{
		{"internal/secret.(*Parsed).of", `p.text, p.err, p.parsed = "", nil, nil`, `p.text, p.err = "", nil`},
	}},
	{bug: "a timestamp that is claimed and not signed", tests: []string{"./vapi/vapiauth"}, edits: []edit{
		{"vapi/vapiauth.newHMACCredential", "if claimed && !c.timestamped {", "if claimed && false {"},
	}},
	{bug: "a short credential that no log reports", tests: []string{"./internal/ack", "-run", "^TestShortCredential$"},
		edits: []edit{{"internal/ack.(*Handler).parseCredential", "err := p.CheckLength(); err != nil {",
			"err := p.CheckLength(); err != nil && false {"}}},
	{bug: "a short credential synchronised", tests: []string{"./internal/cli", "-run", "^TestSyncCommandRefuses$"},
		edits: []edit{{"internal/cli.(*syncCommand).choose", "return nil, wiring.CheckLengths(used, remedy)",
			"_, _ = used, remedy\n\treturn nil, nil"}}},
	{bug: "a short credential deployed", tests: []string{"./infra/ringback", "-run", "^TestShortWebhookSecret$"},
		edits: []edit{{"infra/ringback.(*Props).checkWebhookSecret", "err = errors.Join(err, plan.CheckLength())",
			"_ = plan.CheckLength()"}}},
	{bug: "another organisation's webhook accepted", tests: organisations, edits: []edit{
		{"internal/ack.(*credential).admits", "slices.Contains(c.organisations, organisation)",
			"slices.Contains(c.organisations, c.organisations[0])"},
	}},
	{bug: "an organisation that was added refused until the secret is read again", tests: organisations, edits: []edit{
		{"internal/ack.(*Handler).accept", "!h.credential.Newer(ctx, by).admits(id)", "!by.admits(id)"},
	}},
	{bug: "sync with the private key of another organisation",
		tests: []string{"./internal/cli", "-run", "^TestSyncBinds$"}, edits: []edit{
			{"internal/cli/wiring.(*state).prepareBinding", "case len(bound) > 0 && !s.AddOrganisation:", "case false:"},
		}},
	{bug: "a rotation that unbinds the secret", tests: []string{"./internal/cli/stack"}, edits: []edit{
		{"internal/cli/stack.(*Secret).Replace", "labels = append(labels, deployment.OrganisationLabel(id))", "_ = id"},
	}},
	{bug: "two rotations at once", tests: []string{"./internal/cli/stack"}, edits: []edit{
		{"internal/cli/stack.(*Secret).Replace", `"ringback "+old.Version`, `text`},
	}},
	{bug: "a rotation that stores the new credential alone", tests: rotations, edits: []edit{
		{"internal/cli/wiring.(*Rotation).Run", "[]vapiauth.Plan{r.New, r.Stored.Plans[0]}", "[]vapiauth.Plan{r.New}"},
	}},
	{bug: "a rotation that does not wait for the functions", tests: rotations, edits: []edit{
		{"internal/cli/wiring.(*Rotation).Run", "cfg.API.Sleep(ctx, ReadAgain)", "cfg.API.Sleep(ctx, 0)"},
	}},
	{bug: "a rotation that does not wait for the webhooks in flight", tests: rotations, edits: []edit{
		{"internal/cli/wiring.(*Rotation).Run", "cfg.API.Sleep(ctx, InFlight(cfg.Tools))", "cfg.API.Sleep(ctx, 0)"},
	}},
	{bug: "a rotation that keeps the old credential", tests: rotations, edits: []edit{
		{"internal/cli/wiring.(*Rotation).Run", "r.replace(ctx, stored, []vapiauth.Plan{r.New})",
			"r.replace(ctx, stored, stored.Plans)"},
	}},
	{bug: "an interrupted rotation begun anew", tests: rotations, edits: []edit{
		{"internal/cli/wiring.NewRotation", "r.New, r.Resumed = stored.Plans[0], true", "r.New = newHMAC()"},
	}},
	{bug: "a rotation that strands a tool", tests: []string{"./internal/cli", "-run", "^TestRotateCommandStrands$"},
		edits: []edit{{"internal/cli.(*syncCommand).Run", "n := len(changes.Stranded); n > 0 {",
			"n := len(changes.Stranded); n > 0 && false {"}}},
	{bug: "the body decoded before the header is checked", tests: []string{"./internal/ack", "-run", "Flood"},
		edits: []edit{
			{"internal/ack.(*Handler).read", "if err := verify((*vapiauth.Verifier).CheckHeader); err != nil {",
				"if err != nil {"},
		}},
	{bug: "control characters in a webhook's strings", tests: []string{"./internal/jsonscan", "-run", "Document"},
		edits: []edit{{"internal/jsonscan.innerString", "length == 0 || r < ' '", "length == 0"}}},
	{bug: "a wrong escape in a webhook", tests: []string{"./internal/jsonscan", "-run", "Document"},
		edits: []edit{{"internal/jsonscan.innerEscape", "escaped[b] != 0", "true"}}},
	{bug: "brackets of a webhook that do not match", tests: []string{"./internal/jsonscan", "-run", "Document"},
		edits: []edit{{"internal/jsonscan.(*cursor).document",
			"!is(data, from, ',') && !is(data, from, closing) {\n\t\t\t\tif",
			"!is(data, from, ',') && !is(data, from, '}') && !is(data, from, ']') {\n\t\t\t\tif"}}},
	{bug: "a webhook checked twice", tests: []string{"./internal/jsonscan", "-run", "Document"},
		edits: []edit{{"internal/jsonscan.(*cursor).known", "len(c.long) == 0 ||", "len(c.long) >= 0 ||"}}},
	{bug: "a malformed signature compared with that of the body", tests: []string{"./vapi/vapiauth", "./internal/ack"},
		edits: []edit{{"vapi/vapiauth.(*hmacCredential).candidates",
			"hex.DecodeString(signature); err == nil && len(decoded) == size {",
			"hex.DecodeString(signature); (err == nil || true) && (len(decoded) == size || len(signature) == 2*size) {"}}},
	{bug: "each refusal logged", tests: []string{"./internal/ack", "./internal/completion", "-run", "Flood"},
		edits: []edit{
			{"internal/httpjson.(*RefusalLog).Log", "if n%10 != 0 {", "if false {"},
		}},
	{bug: "refusals of one status hide those of another", tests: []string{"./internal/ack", "-run", "Flood"},
		edits: []edit{
			{"internal/httpjson.(*RefusalLog).count", "return l.counts[status]", "l.counts[0]++\n\treturn l.counts[0]"},
		}},
	{bug: "no alarm on wrong credentials", tests: floods, edits: []edit{
		{"infra/ringback.(*Ringback).metrics", `is("status", "=", "401")`, `is("status", "=", "403")`},
	}},
	{bug: "a kept line not posted again", tests: []string{"./internal/callback", "-run", "^TestKeptLine$"}, edits: []edit{
		{"internal/job.ClaimProgress", "sequence <= r.ProgressDelivered && !pending ||",
			"sequence <= r.ProgressDelivered && !(pending && false) ||"},
	}},
	{bug: "a line accepted before the kept one is settled", tests: []string{"./internal/job", "-run", "^TestKeptLine$"},
		edits: []edit{{"internal/job.addProgress", "case p.Pending() && !p.Abandoned(now):", "case false:"}}},
	{bug: "a line that is not heard reported as heard", tests: []string{"./internal/process", "-run", "^TestReport$"},
		edits: []edit{{"internal/process.(*toolHost).report", "case p.Heard:", "case p.Heard || !p.SettledAt.IsZero():"}}},
	{bug: "a kept line settled before it is posted", tests: []string{"./internal/faults", "-run", "^TestWithoutFaults$"},
		edits: []edit{{"internal/callback.(*delivery).deliverProgress", "receipt, _ := d.post(",
			"d.settleReport(ctx, record, true)\n\treceipt, _ := d.post("}}},
	{bug: "an alarm on progress that is posted too often", tests: floods, edits: []edit{
		{"infra/ringback.(*Ringback).metrics", `is("integrationStatus", "!=", "200")`, `is("route", "!=", "200")`},
	}},
	{bug: "one limit for both routes", tests: floods, edits: []edit{
		{"infra/ringback.(*Ringback).routes", "limits(r.props.CompletionRateLimit, r.props.CompletionBurstLimit)",
			"limits(r.props.RateLimit, r.props.BurstLimit)"},
	}},
	{bug: "the generated address open beside a host name", tests: floods, edits: []edit{
		{"infra/ringback.(*Ringback).api", "if custom && !r.props.KeepExecuteAPIEndpoint {", "if false {"},
	}},
	// What each role may do, and on whose behalf.
	{bug: "a front function that reads customers", tests: policies, edits: []edit{
		{"infra/ringback.(*Ringback).functions", "r.record(r.Ack, dynamotable.JobItems,",
			"r.record(r.Ack, dynamotable.CustomerItems, dynamotable.JobItems,"},
	}},
	{bug: "a front function that cannot complete the jobs of an earlier version", tests: policies, edits: []edit{
		{"infra/ringback.(*Ringback).functions", "r.record(r.Ack, dynamotable.JobItems, dynamotable.EarlierJobItems,",
			"r.record(r.Ack, dynamotable.JobItems,"},
	}},
	{bug: "a front function that makes schedules", tests: policies, edits: []edit{
		{"infra/ringback.(*Ringback).functions", "r.list(r.Ack)", "r.list(r.Ack)\n\tr.schedule(r.Ack)"},
	}},
	{bug: "a callback function that renews leases", tests: policies, edits: []edit{
		{"infra/ringback.(*Ringback).functions", "r.record(r.Callback, dynamotable.JobItems,",
			"r.record(r.Callback, dynamotable.LeaseItems, dynamotable.JobItems,"},
	}},
	{bug: "events of any source", tests: policies, edits: []edit{
		{"infra/ringback.(*Ringback).publish", `"events:source": eventbus.Source, `, ""},
	}},
	{bug: "a kind of item that no policy knows", tests: policies, edits: []edit{
		{"internal/aws/dynamotable.customerKey", `"customer:" + customer`, `"customers:" + customer`},
	}},
	{bug: "a topic that services may publish to for other accounts", tests: policies, edits: []edit{
		{"infra/ringback.(*Ringback).mayPublish", `"StringEquals": map`, `"StringNotEquals": map`},
	}},
	{bug: "the role of the schedules assumed for another group", tests: policies, edits: []edit{
		{"infra/ringback.(*Ringback).schedules", `"aws:SourceArn":     r.Schedules.ScheduleGroupArn(),`, ""},
	}},
	{bug: "scopes that are not required", tests: policies, edits: []edit{
		{"infra/ringback.(*Ringback).routes", "if len(jwt.Scopes) > 0 {", "if false {"},
	}},
	{bug: "a schedule that stays", tests: []string{"./internal/aws/scheduler"}, edits: []edit{
		{"internal/aws/scheduler.(*Scheduler).At", "types.ActionAfterCompletionDelete", "types.ActionAfterCompletionNone"},
	}},
	{bug: "a schedule that recurs", tests: []string{"./internal/aws/scheduler"}, edits: []edit{
		{"internal/aws/scheduler.(*Scheduler).At", `"at(" + at.Format("2006-01-02T15:04:05") + ")"`,
			`"cron(" + at.Format("4 15 2 1") + " ? *)"`},
	}},
	{bug: "the HTTP client's text in the error of a request", tests: []string{"./vapi/vapiclient"}, edits: []edit{
		{"vapi/vapiclient.answerReader.failedReceipt", "why := Unanswered(ctx, err)", "why := err.Error()"},
	}},
	{bug: "an unknown error of a request quoted", tests: []string{"./vapi/vapiclient", "-run", "Unanswered"},
		edits: []edit{
			{"vapi/vapiclient.Unanswered", `return "the answer is malformed"`, "return err.Error()"},
		}},
	{bug: "a probe's error that quotes the webhook", tests: []string{"./internal/cli/wiring", "-run", "Doctor"},
		edits: []edit{
			{"internal/cli/wiring.(*examination).probe", "errors.New(vapiclient.Unanswered(ctx, err))", "err"},
		}},
	{bug: "the headers of a former owner kept", tests: []string{"./internal/cli/wiring", "-run", "TestSync"},
		edits: []edit{
			{"internal/cli/wiring.ToolChange.patch", `|| field == "server" && c.takesOver {`, "{"},
		}},
	{bug: "the timeout of the slowest tool for each tool", tests: otherSettings, edits: []edit{
		{"internal/process.(*execution).toolConfig", "return toolrun.Config{\n\t\tTool: e.tool,",
			"slow := *e.tool\n\tslow.Timeout = e.cfg.Tools.MaxTimeout()\n\treturn toolrun.Config{\n\t\tTool: &slow,"},
	}},
	{bug: "one tool call more at the same time than a call may have", tests: otherSettings, edits: []edit{
		{"internal/job.CallRecord.Admit", "running >= limits.Concurrent:", "running > limits.Concurrent:"},
	}},
	{bug: "an outbound call at once, although its hours are closed", tests: otherSettings, edits: []edit{
		{"internal/callback.(*delivery).makeOutboundCall", "case c.Next(now).After(now):", "case false:"},
	}},
	{bug: "an outbound call promised for after the deadline", tests: otherSettings, edits: []edit{
		{"internal/callback.(*delivery).makeOutboundCall", "if next := c.Next(d.cfg.Now()); next.After(o.Deadline) {",
			"if next := c.Next(d.cfg.Now()); d.cfg.Now().After(o.Deadline) {"},
		{"internal/callback.(*delivery).makeOutboundCall", "case c.Next(now).After(o.Deadline):",
			"case now.After(o.Deadline):"},
	}},
	{bug: "a mark that ends a later delivery", tests: []string{"./internal/callback"}, edits: []edit{
		{"internal/job.SettleOutcome", "r.Redeliveries != o.Redeliveries", "false"},
	}},
	{bug: "a job that a check resumed not tried again", tests: []string{"./internal/process"}, edits: []edit{
		{"internal/process.(*Handler).check", "case resumedBy(message, record):", "case false:"},
	}},
	{bug: "the next wake-up of a job that a check resumed not scheduled", tests: []string{"./internal/process"},
		edits: []edit{{"internal/process.(*Handler).check", "record.Owner == message.MessageId &&", "false &&"}}},
	{bug: "a sweep that resumes long jobs on the short queue", tests: []string{"./internal/process"}, edits: []edit{
		{"internal/process.(*Handler).sendChecks", "q == h.cfg.LongJobs", "false && q == h.cfg.LongJobs"},
	}},
	{bug: "the id of a call in the log", tests: leakTests, edits: []edit{
		{"internal/job.LogCall", "CallHash(callID)", "callID"},
	}},
	{bug: "the id of a call in an error", tests: leakTests, edits: []edit{
		{"internal/jobtable.changeTogether", "job.CallHash(callID)", "callID"},
	}},
	{bug: "the id of an outbound call in the log", tests: leakTests, edits: []edit{
		{"internal/callback.(*delivery).makeOutboundCall", `"new_call", job.CallHash(receipt.CallID)`,
			`"new_call", receipt.CallID`},
	}},
	{bug: "the id of an earlier job in the log", tests: leakTests, edits: []edit{
		{"internal/job.LogJob", "ShownID(jobID)", "jobID"},
	}},
	{bug: "the id of a call sent to a third party", tests: leakTests, edits: []edit{
		{"internal/process.(*execution).toolConfig", "JobID: e.job.ID", "JobID: e.job.Call.ID"},
	}},
	{bug: "the caller's number sent to a third party", tests: leakTests, edits: []edit{
		{"examples/shop.NotifyWhenReady", "IdempotencyKey: call.IdempotencyKey(),",
			"IdempotencyKey: call.IdempotencyKey() + call.CustomerNumber,"},
	}},
	{bug: "a key to the call for a forwarded tool's service", tests: []string{"./httptool", "-run", "Forwarded"},
		edits: []edit{{"httptool.(*forwarded).prepare", "keyToCall().MatchString(f.Static[name])", "false"}}},
	{bug: "the id of a call shown to an operator who does not ask for it",
		tests: []string{"./internal/cli", "./internal/operator", "-run", "TestOperatorSeesNoCallID|TestShow"},
		edits: []edit{{"internal/operator.(*Jobs).Show", "if data {", "d.CallID = r.CallID\n\tif data {"}}},
	{bug: "a caller's words on the terminal", tests: shownCallers,
		edits: []edit{{"internal/local/dev.(*screen).called", `given != "" && local {`, `given != "" {`}}},
	{bug: "an answer to a call at Vapi on the terminal", tests: shownCallers,
		edits: []edit{{"internal/local/dev.(*screen).answered", "!local && len(results) > 0", "false"}}},
	{bug: "an undelivered result on the terminal", tests: shownCallers,
		edits: []edit{{"internal/local/dev.bus.SendUndelivered", "b.calls.known(u.CallID)", "true"}}},
	{bug: "a missing control authentication that doctor accepts",
		tests: []string{"./internal/cli/wiring", "-run", "Doctor"},
		edits: []edit{{"internal/cli/wiring.(*examination).control",
			`e.add(name, id, VerdictFailed, remedy,`, `e.add(name, id, VerdictWarning, remedy,`}}},
	{bug: "a squad that switches control authentication off, and that doctor accepts",
		tests: []string{"./internal/cli/wiring", "-run", "Doctor"}, edits: []edit{
			{"internal/cli/wiring.monitored.switchesOff", "m.MonitorPlan != nil &&", "false &&"},
		}},
	{bug: "no limit on the jobs of a call by default",
		tests: []string{"./infra/ringback", "./internal/local/dev", "-run", "^TestLimitsPerCall$"}, edits: []edit{
			{"internal/deployment/environment.go", "MaxJobsPerCall           = 50", "MaxJobsPerCall           = -1"},
			{"internal/deployment/environment.go", "MaxConcurrentJobsPerCall = 10", "MaxConcurrentJobsPerCall = -1"},
		}},
	{bug: "a control URL that does not contain the call's id",
		tests: []string{"./internal/callback", "-run", "^TestControlURLOfAnotherCall$"}, edits: []edit{
			{"internal/callback.(*delivery).deliver", `case o.Call.ControlURL != "" && !d.controlsCall():`, "case false:"},
		}},
	{bug: "a progress line for the control URL of another call",
		tests: []string{"./internal/callback", "-run", "^TestControlURLOfAnotherCall$"}, edits: []edit{
			{"internal/callback.(*delivery).deliverProgress", "if !d.controlsCall() {", "if false {"},
		}},
	{bug: "the call's id anywhere in its control URL", tests: []string{"./vapi/vapiclient"}, edits: []edit{
		{"vapi/vapiclient.NamesCall", "err == nil && id == callID", "err == nil && strings.Contains(id, callID)"},
	}},
	{bug: "an outbound call after a web call", tests: outboundLimits, edits: []edit{
		{"internal/callback.(*OutboundCalls).forbids", `case call.Type != "" && !call.Telephone():`, "case false:"},
	}},
	{bug: "an outbound call to a number that is not allowed", tests: outboundLimits, edits: []edit{
		{"internal/callback.(*OutboundCalls).forbids", "case len(c.Prefixes) > 0 &&", "case false &&"},
	}},
	{bug: "more outbound calls than a day may have", tests: outboundLimits, edits: []edit{
		{"internal/job.CustomerRecord.CountCall", "if r.Made >= most {", "if r.Made > most {"},
	}},
	{bug: "an outbound call counted that was not made", tests: outboundLimits, edits: []edit{
		{"internal/callback.(*delivery).makeOutboundCall", "d.noCall = true\n\t\td.uncount(ctx, now)", "d.noCall = true"},
	}},
	{bug: "an outbound call while another one is open", tests: sharedCalls, edits: []edit{
		{"internal/job.CustomerRecord.OpenCall", "o != nil && o.JobID != result.JobID &&", "o != nil && false &&"},
	}},
	{bug: "a joined result that its own message delivers, too", tests: sharedCalls, edits: []edit{
		{"internal/callback.(*delivery).join", "job.JoinOutboundCall(d.cfg.Now(), d.lease, d.outcome.JobID)",
			`job.Rule{Name: "join the outbound call for", Apply: func(r job.Record) (job.Record, error) { return r, nil }}`},
	}},
	{bug: "a result joined that another function has", tests: sharedCalls, edits: []edit{
		{"internal/job.JoinOutboundCall", "!r.WaitsUntil.Equal(r.LeaseExpiry) ||", "false ||"},
	}},
	{bug: "joined results kept from another call after a refused one", tests: sharedCalls, edits: []edit{
		{"internal/callback.(*delivery).makeOutboundCall", "d.uncount(ctx, now)\n\t\tpart(ctx, all)", "d.uncount(ctx, now)"},
	}},
	{bug: "a joined result that its own message publishes", edits: []edit{
		{"internal/callback.(*delivery).deliver", `case d.record.OutboundCallBy != "":`, "case false:"},
	}},
	{bug: "a joined result that does not wait for the end of the one that leads", tests: sharedCalls, edits: []edit{
		{"internal/callback.(*delivery).endJoined", "(err != nil || first.State == job.StateDone) &&", "false &&"},
	}},
	{bug: "a joined result that waits for ever", tests: sharedCalls, edits: []edit{
		{"internal/callback.(*delivery).endJoined", "&& d.receives < joinedReceives", ""},
	}},
	{bug: "a joined result marked as delivered that the call does not have", tests: sharedCalls, edits: []edit{
		{"internal/callback.(*delivery).endJoined", "!slices.Contains(first.OutboundCallFor, d.outcome.JobID)", "false"},
	}},
	{bug: "a call recorded without the results that joined it", tests: sharedCalls, edits: []edit{
		{"internal/callback.(*delivery).makeOutboundCall", "jobs(all[1:])...", "jobs(nil)..."},
	}},
	{bug: "a call that was not made, and still has the results of others", tests: sharedCalls, edits: []edit{
		{"internal/job.RetractOutboundCall", `time.Time{}, "", nil`, `time.Time{}, "", r.OutboundCallFor`},
	}},
	{bug: "a redriven failure that ends as the one that led its call", tests: sharedCalls, edits: []edit{
		{"internal/job.Record.deliverable", `r.OutboundCallBy = ""`, ""},
	}},
	{bug: "results that wait for the hours in calls of their own", tests: sharedCalls, edits: []edit{
		{"internal/callback.(*delivery).waitForHours", "job.WaitForOutboundCall(", "job.PostponeOutboundCall("},
	}},
	{bug: "results of two assistants in one call", tests: sharedCalls, edits: []edit{
		{"internal/job.WaitingResult.with", "w.AssistantID == other.AssistantID &&", "true &&"},
	}},
	{bug: "a parked result in a call that Vapi does not confirm",
		tests: []string{"./internal/faults", "-run", "^TestWithoutFaults$"}, edits: []edit{
			{"internal/callback.(*delivery).deliver", "if o.Earlier {", "if false {"},
		}},
	{bug: "a result parked for a call that Vapi does not confirm", tests: confirmed, edits: []edit{
		{"internal/callback.(*delivery).park", "if !d.outcome.Earlier { switch why, retry", "if false { switch why, retry"},
	}},
	{bug: "an outbound call to another customer than the call's", tests: confirmed, edits: []edit{
		{"internal/callback.(*delivery).awaitEndOfCall", "why := difference(d.outcome.Call, status.Call)", `why := ""`},
	}},
	{bug: "any call of the customer's assistant confirmed", tests: confirmed, edits: []edit{
		{"internal/callback.difference", `case known.CustomerNumber == "" || claimed.CustomerNumber != known.CustomerNumber:`,
			"case false:"},
	}},
	{bug: "a call confirmed without an answer", tests: confirmed, edits: []edit{
		{"internal/callback.(*delivery).confirmCall",
			`return "Vapi's API does not confirm the call: " + describeStatus(status), nil`, `return "", nil`},
	}},
	{bug: "another call's answer believed", tests: []string{"./vapi/vapiclient"}, edits: []edit{
		{"vapi/vapiclient.(*Outbound).CallStatus", "|| call.ID != callID {", "{"},
	}},
	{bug: "a message hidden on the other queue", tests: []string{"./internal/process"}, edits: []edit{
		{"internal/process.(*execution).hide", "e.source(e.message).ChangeVisibility", "e.cfg.Jobs.ChangeVisibility"},
	}},
	{bug: "a plain argument accepted in the place of an encrypted one", tests: decryption, edits: []edit{
		{"internal/encryption.Decrypt", "if allowPlain {", "if true {"},
	}},
	{bug: "an object that a model wrote as a text taken as encrypted", tests: decryption, edits: []edit{
		{"internal/encryption.replaceOne", "_, err = by(nil)", "err = nil"},
	}},
	{bug: "decrypted arguments in the job", tests: withKey, edits: []edit{
		{"internal/process.(*execution).run", "return e.runTool(ctx, arguments)",
			"e.job.Arguments = arguments\n\treturn e.runTool(ctx, arguments)"},
	}},
	{bug: "decrypted arguments in the frame", tests: withKey, edits: []edit{
		{"internal/process.(*execution).run", "return e.runTool(ctx, arguments)",
			"e.record.Asked = string(arguments)\n\treturn e.runTool(ctx, arguments)"},
	}},
	{bug: "an outage of the key that costs an attempt", tests: withKey, edits: []edit{
		{"internal/process.(*execution).run", `e.log.ErrorContext(ctx, "cannot decrypt arguments", "error", err)`,
			"return e.retryOrFinish(ctx, &toolrun.Failure{Reason: err.Error(), Retry: true})"},
	}},
	{bug: "a key that may take as long as it likes", tests: withKey, edits: []edit{
		{"internal/process.(*execution).decrypt", "startBy.Sub(e.cfg.Now())", "24*startBy.Sub(e.cfg.Now())"},
	}},
	{bug: "an argument of another key tried again and again", tests: withKey, edits: []edit{
		{"internal/process.(*execution).run", ", errors.Is(err, encryption.ErrUndecryptable):", ":"},
	}},
	{bug: "a plain value in the frame, although its argument is an encrypted one", tests: ofEncrypted, edits: []edit{
		{"asynctool.(*Entry).Asked", "delete(object, name)\n\t}\n\tif readable", "_ = name\n\t}\n\tif readable"},
	}},
	{bug: "a decrypted value in a text for the model", tests: ofEncrypted, edits: []edit{
		{"asynctool.explain", "case len(e.Encrypted) > 0:", "case false:"},
		{"asynctool.narrower", "if secret {", "if false {"},
	}},
	{bug: "a damaged value taken for an outage of KMS", tests: inKMS, edits: []edit{
		{"internal/aws/kmskey.(*Key).Decrypt", "if invalid(err) {", "if false && invalid(err) {"},
	}},
	{bug: "another algorithm than Vapi's", tests: inKMS, edits: []edit{
		{"internal/aws/kmskey.(*Key).Decrypt", "EncryptionAlgorithmSpecRsaesOaepSha256",
			"EncryptionAlgorithmSpecRsaesOaepSha1"},
	}},
	{bug: "encrypted arguments in an address",
		tests: []string{"./httptool", "-run", "TestForwardedEncrypted"}, edits: []edit{
			{"httptool.(*forwarded).checkEncrypted", "if len(f.Encrypted) == 0 {", "if true {"},
		}},
	{bug: "paths that a tool no longer encrypts left at Vapi", tests: wiringOfKeys, edits: []edit{
		{"internal/cli/wiring.ToolChange.patch", "return slices.Contains(optional, name)", `return name == "credentialId"`},
	}},
	{bug: "a credential without the deployment's key", tests: wiringOfKeys, edits: []edit{
		{"internal/cli/wiring.Credential.body", `if c.ArgumentKey != "" {`, "if false {"},
	}},
	{bug: "a new key of the deployment that sync overlooks", tests: wiringOfKeys, edits: []edit{
		{"internal/cli/wiring.Credential.name", "string(content)+c.ArgumentKey", "string(content)"},
		{"internal/cli/wiring.(*state).readCredential", "other = known && !yes", "other = known && !yes && false"},
	}},
	{bug: "another key at Vapi that the doctor overlooks", tests: wiringOfKeys, edits: []edit{
		{"internal/cli/wiring.(*examination).encryption", "case same:", "case same || known:"},
	}},
	{bug: "a key with which everyone in the account may decrypt",
		tests: []string{"./infra/ringback", "-run", "^TestArgumentKey$"}, edits: []edit{
			{"infra/ringback.(*Ringback).decrypt", "awsiam.Effect_DENY", "awsiam.Effect_ALLOW"},
		}},
	{bug: "a key whose values everyone in the account may encrypt again, with a key of their own",
		tests: []string{"./infra/ringback", "-run", "^TestArgumentKey$"}, edits: []edit{
			{"infra/ringback.(*Ringback).decrypt", `"kms:Decrypt", "kms:ReEncryptFrom"`, `"kms:Decrypt"`},
		}},
	{bug: "a process function that must not use the key of arguments", tests: policies, edits: []edit{
		{"infra/ringback.(*Ringback).functions", "\tr.decrypt()\n", ""},
	}},
	{bug: "a key that is used with another algorithm than the policy allows", tests: policies, edits: []edit{
		{"infra/ringback.(*Ringback).decrypt", `"RSAES_OAEP_SHA_256"`, `"RSAES_OAEP_SHA_1"`},
	}},
	{bug: "a sample that a bound deployment refuses",
		tests: []string{"./internal/cli", "-run", "^TestSendForAnOrganisation$"}, edits: []edit{
			{"internal/local/simcall.InOrganisation", `message["chat"]`, `nil`},
		}},
	{bug: "a line of the doctor that an object at Vapi forges",
		tests: []string{"./internal/cli", "-run", "^TestDoctorObeysNothing$"}, edits: []edit{
			{"internal/cli.showChecks", "cell(name), cell(check.Detail)", "printable(name), printable(check.Detail)"},
		}},
	{bug: "a line of sync that an object at Vapi forges",
		tests: []string{"./internal/cli", "-run", "^TestSyncCommandTakesOver$"}, edits: []edit{
			{"internal/cli.showChangeSet", `removed("conflict:"), cell(text)`, `removed("conflict:"), printable(text)`},
		}},
	{bug: "a key that costs money without a need",
		tests: []string{"./infra/ringback", "-run", "^TestNoArgumentKey$"}, edits: []edit{
			{"infra/ringback.(*Ringback).argumentKey", "|| len(r.tools.Encrypted()) == 0", "|| false"},
		}},

	{bug: "a text deployed with which no result can be delivered", tests: wrongSettings, edits: []edit{
		{"infra/ringback.(*Props).checkTexts", "spoken.ParseText(p.ResultText); err != nil {",
			"spoken.ParseText(p.ResultText); false && err != nil {"},
	}},
	{bug: "an address deployed that the callback function refuses", tests: wrongSettings, edits: []edit{
		{"infra/ringback.(*Props).checkOutbound", "AllowLoopback: len(p.ControlHosts) > 0", "AllowLoopback: true"},
	}},
	{bug: "an environment deployed that Lambda refuses", tests: wrongSettings, edits: []edit{
		{"infra/ringback.(*Props).checkEnvironment", "if size > maxEnvironment {", "if size < 0 {"},
	}},
	{bug: "a role for secrets whose names begin alike", tests: wrongSettings, edits: []edit{
		{"infra/ringback.(*settings).props", "check(name, secretKind)", "_ = name"},
	}},
	{bug: "a command printed that asks another region", tests: printed, edits: []edit{
		{"infra/ringback.api", `return " --region eu"`, `return ""`},
	}},
	{bug: "a command printed without the credential that it needs", tests: printed, edits: []edit{
		{"infra/ringback.outputs", "if r.WebhookSecret == nil {", "if false {"},
	}},
	{bug: "a stack that does not ask for the name of its access log", tests: []string{"./infra/ringback", "-run",
		"^TestVendedLogs$"}, edits: []edit{
		{"infra/ringback.NewStack", `settings.values["vendedLogs"] == ""`, `false`},
	}},
	{bug: "an access log replaced by an update",
		tests: []string{"./infra/ringback", "-run", "^TestUpdateReplacesNothing$"}, edits: []edit{
			{"infra/ringback.(*Ringback).api", "if r.props.VendedLogs {", "if true {"},
		}},
	{bug: "a tool that runs without its settings", tests: []string{"./asynctool", "-run", "Settings"}, edits: []edit{
		{"asynctool.(*Entry).checkSettings", "len(missing) > 0 {", "false && len(missing) > 0 {"},
	}},
	{bug: "a tool that runs with a setting that it cannot use",
		tests: []string{"./asynctool", "-run", "Settings"}, edits: []edit{
			{"asynctool.(*Entry).checkSettings", "len(wrong) > 0 {", "false && len(wrong) > 0 {"},
		}},
	{bug: "a setting deployed that a tool cannot use", tests: wrongSettings, edits: []edit{
		{"infra/ringback.NewRingback", "r.problems = append(r.problems, r.invalid()...)", "_ = r.invalid()"},
	}},
	{bug: "a secret refused that only the deployment knows",
		tests: []string{"./infra/ringback", "-run", "^TestValuesOfTheDeployment$"}, edits: []edit{
			{"infra/ringback.(*Ringback).toolSettings", `!strings.Contains(text, "{{resolve:")`, "true"},
		}},
	{bug: "an address deployed that lacks its scheme, before a secret",
		tests: []string{"./httptool", "-run", "^TestInvalidSettings$"}, edits: []edit{
			{"httptool.settled", "return text[:end+1]", "return scheme + rest"},
		}},
	{bug: "a tool wired that cannot work", tests: []string{"./internal/cli/wiring", "-run", "^TestSyncLeavesOut$"},
		edits: []edit{
			{"internal/cli/wiring.Prepare", `if missing != "" && (len(stored)`, `if false && (len(stored)`},
		}},
	{bug: "a stack's credential sent without encryption",
		tests: []string{"./internal/cli", "-run", "^TestSendToAStack$"}, edits: []edit{
			{"internal/cli.(*targetFlags).read", "if checkTarget(f.URL) != nil {", "if false {"},
		}},
}

// printed are the tests of the command in the stack's outputs.
var printed = []string{"./infra/ringback", "-run", "^TestNextCommand$"}

// wrongSettings are the tests of the settings' values.
var wrongSettings = []string{"./infra/ringback", "-run", "^TestWrongSettings$"}

var shownCallers = []string{"./internal/local/dev", "-run", "TestTerminalShowsNo"}

// leakTests look for values that must stay inside.
var leakTests = []string{"./internal/local/pipeline", "-run", "^(TestNothingLeaks|TestLogOfAWholeRun)$"}

// These are the tests of encrypted arguments.
var (
	decryption  = []string{"./internal/encryption", "-run", "Decrypt"}
	withKey     = []string{"./internal/process", "-run", "Encrypted|Refused|Outage"}
	ofEncrypted = []string{"./asynctool", "-run", "Encrypted"}
	inKMS       = []string{"./internal/aws/kmskey"}
)

// wiringOfKeys are the tests of the keys at Vapi.
var wiringOfKeys = []string{"./internal/cli/wiring", "-run", "Encrypted|ArgumentKey"}

// otherSettings are the scenarios with other tools, limits and hours.
var otherSettings = []string{"./internal/faults", "-run", "^TestSettings$", "-args", "-faults.seed=1"}

var (
	brokenPromise = regexp.MustCompile(`(?m)^.*?((?:lost|twice|record|started|late|order|state|dead letters|answer|` +
		`limit|hours|queue|speaker|forged): .*)$`)
	failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)
)

// TestMutants puts each bug into copies of its files. The tests must find it.
func TestMutants(t *testing.T) {
	if !*mutants {
		t.Skip("run it with make faults-mutants")
	}
	var part, parts int
	if _, err := fmt.Sscanf(*shard, "%d/%d", &part, &parts); err != nil || part < 1 || part > parts {
		t.Fatalf("-faults.shard is %q, want a part and the number of parts, as 2/6", *shard)
	}
	s := newSources(t)
	rows := make(map[string]string) // by bug
	for i, m := range bugs {
		if i%parts != part-1 {
			continue
		}
		t.Run(m.bug, func(t *testing.T) {
			tests := m.tests
			if tests == nil {
				tests = harness
			}
			copies, err := s.edited(nil, m.edits)
			if err != nil {
				t.Fatal(err)
			}
			overlay := s.plant(t, copies)
			build := goCommand(s.root, "build", "-overlay", overlay, "./internal/...", "./vapi/...")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("the copy does not compile, which proves nothing: %s", out)
			}
			arguments := append([]string{"test", "-overlay", overlay, "-count=1", "-vet=off", "-timeout=30m"}, tests...)
			if m.tests == nil {
				arguments = append(arguments, "-args", "-faults.seed=1")
			}
			out, err := goCommand(s.root, arguments...).CombinedOutput()
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
	writeTable(t, filepath.Join(s.root, "docs/faults.md"), rows)
}

// TestMutantsCanBePlanted finds the bugs that no longer fit the code: their old text is
// gone, or their new text does not compile.
func TestMutantsCanBePlanted(t *testing.T) {
	s := newSources(t)
	for _, m := range bugs {
		if _, err := s.edited(nil, m.edits); err != nil {
			t.Errorf("%s: %v", m.bug, err)
		}
	}
	if t.Failed() || testing.Short() {
		return
	}
	// Many bugs at once compile faster than one by one. Bugs that change the same text
	// do not fit together.
	for rest := bugs; len(rest) > 0; {
		var copies map[string]string
		var left []mutant
		for _, m := range rest {
			if both, err := s.edited(copies, m.edits); err != nil {
				left = append(left, m)
			} else {
				copies = both
			}
		}
		rest = left
		build := []string{"build", "-overlay", s.plant(t, copies)}
		for file := range copies {
			if folder := "./" + filepath.Dir(file); !slices.Contains(build, folder) {
				build = append(build, folder)
			}
		}
		if out, err := goCommand(s.root, build...).CombinedOutput(); err != nil {
			t.Errorf("a bug's new text does not compile: %s", out)
		}
	}
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
