//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	awssecretsmanager "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi"
)

const (
	oldKey = "the-key-that-tokens-are-first-signed-with"
	newKey = "the-key-that-tokens-are-signed-with-later"

	// The request to the manager, and the answer. Neither may be in a log.
	subject = "May customer Miller return the bicycle?"
	granted = "The manager gives a green light."
)

// completionKeys returns the text of the secret. previous may be empty.
func completionKeys(current, previous string) string {
	keys := map[string]string{"current": current}
	if previous != "" {
		keys["previous"] = previous
	}
	text, _ := json.Marshal(keys) // no error, because strings can always be encoded
	return string(text)
}

// stored returns a secret of the emulator.
func stored(d *deployment, id string) secret.Source {
	return secretsmanager.New(d.aws()).Secret(id)
}

// sign returns a completion token, as anyone with the key can make it.
func sign(t *testing.T, ctx context.Context, key, jobID string, expires time.Time) string {
	t.Helper()
	signed, err := completion.NewKeys(secret.Fixed(completionKeys(key, "")), nil).Sign(ctx, jobID, expires)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// askManager sends a request to the manager in a call, and returns the URL for the answer.
func (d *deployment) askManager(t *testing.T, ctx context.Context, call string) string {
	t.Helper()
	d.mu.Lock()
	d.asked[call] = time.Now()
	d.mu.Unlock()
	d.accept(t, ctx, "call_1", "notify_when_ready",
		d.webhook(t, call, "call_1", "notify_when_ready", map[string]any{"subject": subject}))
	asked := d.request(t, ctx, call)
	if !strings.HasPrefix(asked.CompletionURL, d.outputs["CompletionURL"]) || asked.Subject != subject {
		t.Errorf("%s: the request to the manager is %+v", call, asked)
	}
	eventually(t, ctx, d.jobs(t).once(), "the job of "+call+" to be suspended", func() error {
		return d.is(ctx, call, job.StateWaiting)
	})
	return asked.CompletionURL
}

// noteAnswer notes when the result of a call's job was accepted.
func (d *deployment) noteAnswer(call string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answered[call] = time.Now()
}

// complete posts to a completion URL, and checks the status of the answer.
func (d *deployment) complete(t *testing.T, ctx context.Context, url, contentType, body string, want int) {
	t.Helper()
	status, answer, err := d.postAs(ctx, url, contentType, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if status != want {
		t.Errorf("the answer is %d %s, not %d", status, answer, want)
	}
}

const (
	asJSON = "application/json"
	asText = "text/plain; charset=utf-8"
)

// schedules returns the names of the group's schedules.
func (d *deployment) schedules(t *testing.T, ctx context.Context) []string {
	t.Helper()
	out, err := scheduler.NewFromConfig(d.aws()).ListSchedules(ctx,
		&scheduler.ListSchedulesInput{GroupName: aws.String(d.one("AWS::Scheduler::ScheduleGroup"))})
	if err != nil {
		t.Fatal(err)
	}
	daily := d.one("AWS::Scheduler::Schedule") // the sweep's
	var names []string
	for _, s := range out.Schedules {
		if *s.Name != daily {
			names = append(names, *s.Name)
		}
	}
	return names
}

// approval completes jobs from outside, after everything that is no result.
func (d *deployment) approval(t *testing.T, ctx context.Context) {
	const call = "e2e-approval"
	url := d.askManager(t, ctx, call)
	id := d.record(t, ctx, call).ID

	// One schedule wakes the job up, at its deadline. It is the job's first wake-up.
	name, count := queue.ScheduleName(id, 1), 0
	for wakeUp := range 20 {
		if slices.Contains(d.schedules(t, ctx), queue.ScheduleName(id, wakeUp)) {
			count++
		}
	}
	if count != 1 {
		t.Errorf("the job has %d schedules", count)
	}
	group := aws.String(d.one("AWS::Scheduler::ScheduleGroup"))
	in := &scheduler.GetScheduleInput{Name: &name, GroupName: group}
	made, err := scheduler.NewFromConfig(d.aws()).GetSchedule(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	record := d.record(t, ctx, call)
	deadline := record.Deadline.Add(time.Second - 1).UTC().Format("at(2006-01-02T15:04:05)")
	if *made.ScheduleExpression != deadline || time.Until(record.Deadline).Round(time.Hour) != 48*time.Hour {
		t.Errorf("the schedule is %s, and the deadline %s", *made.ScheduleExpression, record.Deadline)
	}
	target, after := made.Target, made.ActionAfterCompletion
	if last(*target.Arn) != last(d.outputs["JobsQueueUrl"]) || last(*target.RoleArn) != d.role(t, "Schedules") ||
		last(*target.DeadLetterConfig.Arn) != last(d.outputs["JobsDeadLettersUrl"]) || after != "DELETE" {
		t.Errorf("the schedule sends to %s with the role %s, its dead-letter queue is %s, and its end is %s",
			*target.Arn, *target.RoleArn, *target.DeadLetterConfig.Arn, after)
	}

	// Meanwhile, the assistant can ask for the status. The caller waits for the answer, so it comes within
	// two seconds, or on a busy machine within the time of a few invocations. The best of several tries
	// counts, because a try may start an instance of the function.
	status := func(toolCall, part string) {
		t.Helper()
		var text string
		var took, limit time.Duration
		for range 5 {
			limit = max(2*time.Second, 5*d.refusal(t, ctx))
			before := time.Now()
			text = d.answer(t, ctx, toolCall, "task_status", d.webhook(t, call, toolCall, "task_status", nil))
			if took = time.Since(before); took <= limit && strings.Contains(text, part) {
				break
			}
		}
		if took > limit {
			t.Errorf("the status took %s, more than %s", took, limit)
		}
		if !strings.Contains(text, "notify_when_ready, started ") || !strings.Contains(text, part) {
			t.Errorf("the status is %q", text)
		}
	}
	status("call_2", "is waiting, for at most 48 hours")

	d.postProgress(t, ctx, call, url)
	if heard := d.heardPart(t, ctx, call, "The manager is reading it."); strings.Contains(heard, `"say"`) ||
		!strings.Contains(heard, "[async tool progress]") {
		t.Errorf("the progress line is delivered as %s", heard)
	}
	status("call_3", "The manager is reading it.")

	// A refused request changes nothing.
	const result = `{"result":"refused"}`
	base, later := d.outputs["CompletionURL"], time.Now().Add(time.Hour)
	unknown := job.ID("e2e-unknown-call", "call_1", "tool", nil)
	forged := []byte(url)
	forged[len(forged)-5] ^= 1 // within the signature
	for what, wrong := range map[string]struct {
		url, contentType, body string
		status                 int
	}{
		"a forged token":           {string(forged), asJSON, result, 401},
		"a token of another's key": {base + sign(t, ctx, strings.Repeat("x", 48), id, later), asJSON, result, 401},
		"no token":                 {base + "something", asJSON, result, 401},
		"an unknown job":           {base + sign(t, ctx, oldKey, unknown, later), asJSON, result, 404},
		"an expired token":         {base + sign(t, ctx, oldKey, id, later.Add(-2*time.Hour)), asJSON, result, 410},
		"a body that is too large": {url, asText, strings.Repeat("x", completion.MaxBody+1), 413},
		"a body without a result":  {url, asJSON, `{"outcome":"x"}`, 400},
		"a form":                   {url, "application/x-www-form-urlencoded", "result=x", 400},
	} {
		t.Log(what)
		d.complete(t, ctx, wrong.url, wrong.contentType, wrong.body, wrong.status)
	}

	// Several results are posted at once. One of them is accepted.
	statuses := make([]int, 5)
	var posting sync.WaitGroup
	for i := range statuses {
		posting.Go(func() {
			var err error
			if statuses[i], _, err = d.postAs(ctx, url, asJSON, fmt.Appendf(nil, `{"result":%q}`, granted)); err != nil {
				t.Error(err)
			}
		})
	}
	posting.Wait()
	d.noteAnswer(call)
	slices.Sort(statuses)
	if !slices.Equal(statuses, []int{200, 409, 409, 409, 409}) {
		t.Errorf("the answers are %v", statuses)
	}
	heard := d.heardPart(t, ctx, call, "tool=notify_when_ready tool_call_id=call_1 status=ok")
	if !strings.Contains(heard, granted) {
		t.Errorf("%s heard %q, without %q", call, heard, granted)
	}
	// The check of the job deletes its schedule.
	deleted := time.Now().Add(job.CheckDelay + time.Minute)
	for slices.Contains(d.schedules(t, ctx), name) {
		if time.Now().After(deleted) {
			t.Fatal("the schedule still exists")
		}
		time.Sleep(time.Second)
	}

	// Other bodies: a text of the largest size, and a failure.
	url = d.askManager(t, ctx, call+"-text")
	d.complete(t, ctx, url, asText, granted+strings.Repeat(" ", completion.MaxBody-len(granted)), 200)
	d.noteAnswer(call + "-text")
	d.hears(t, ctx, call+"-text", "status=ok", granted)
	url = d.askManager(t, ctx, call+"-no")
	d.complete(t, ctx, url, asJSON, `{"error":"The manager is on holiday."}`, 200)
	d.noteAnswer(call + "-no")
	d.hears(t, ctx, call+"-no", "status=error", "The manager is on holiday.")
	for _, call := range []string{call, call + "-text", call + "-no"} {
		d.settled(t, ctx, call, job.StateDelivered)
	}
	if heard := d.heard(call); !strings.Contains(heard[len(heard)-1], "status=ok") {
		t.Errorf("%s heard something after the result: %q", call, heard)
	}
}

// postProgress posts two progress lines, the second one too soon after the first. On a busy machine, it
// may come late enough to be accepted. Then postProgress tries again.
func (d *deployment) postProgress(t *testing.T, ctx context.Context, call, url string) {
	t.Helper()
	for {
		posted := time.Now()
		d.complete(t, ctx, url, asJSON, `{"progress":"The manager is reading it."}`, 202)
		status, answer, err := d.postAs(ctx, url, asJSON, []byte(`{"progress":"The manager is still reading it."}`))
		took := time.Since(posted)
		if err == nil && status == 429 {
			return
		}
		if err != nil || status != 202 || took < job.ProgressPause || t.Failed() {
			t.Fatalf("the answer after %s is %d %s, %v; want 429", took, status, answer, err)
		}
		d.mu.Lock()
		d.lines[call] += 2
		d.mu.Unlock()
		time.Sleep(job.ProgressPause)
	}
}

// heardPart waits for a message that contains a text, and returns the message.
func (d *deployment) heardPart(t *testing.T, ctx context.Context, call, part string) string {
	t.Helper()
	var found string
	eventually(t, ctx, d.resultWait(t), fmt.Sprintf("%q in the call %s", part, call), func() error {
		heard := d.heard(call)
		i := slices.IndexFunc(heard, func(text string) bool { return strings.Contains(text, part) })
		if i < 0 {
			return fmt.Errorf("it heard %q", heard)
		}
		found = heard[i]
		return nil
	})
	return found
}

// settled waits until a call's job is in its last state.
func (d *deployment) settled(t *testing.T, ctx context.Context, call string, want job.State) job.Record {
	t.Helper()
	return d.settledWithin(t, ctx, d.resultWait(t), call, want)
}

func (d *deployment) settledWithin(
	t *testing.T, ctx context.Context, limit time.Duration, call string, want job.State,
) job.Record {
	t.Helper()
	eventually(t, ctx, limit, "the job of "+call+" to be "+string(want), func() error {
		return d.is(ctx, call, want)
	})
	return d.record(t, ctx, call)
}

// is returns an error unless a call's job is in a state.
func (d *deployment) is(ctx context.Context, call string, want job.State) error {
	record, err := d.load(ctx, call)
	if err == nil && record.State != want {
		err = fmt.Errorf("it is %s", record.State)
	}
	return err
}

// rotate replaces the keys of the completion tokens.
func (d *deployment) rotate(t *testing.T, ctx context.Context, current, previous string) {
	t.Helper()
	client := awssecretsmanager.NewFromConfig(d.aws())
	if _, err := client.PutSecretValue(ctx, &awssecretsmanager.PutSecretValueInput{
		SecretId: aws.String(d.secrets["completion"]), SecretString: aws.String(completionKeys(current, previous)),
	}); err != nil {
		t.Fatal(err)
	}
}

// rotation completes a job whose token was signed with the previous key. It also waits until the hold
// message is delivered.
func (d *deployment) rotation(t *testing.T, ctx context.Context) {
	const call = "e2e-rotation"
	url := d.askManager(t, ctx, call)
	eventually(t, ctx, holdAfter+d.resultWait(t), "the hold message", func() error {
		if hold := d.holdMessages(call); len(hold) != 1 || !strings.Contains(hold[0], `"say"`) {
			return fmt.Errorf("there is %q", hold)
		}
		return nil
	})
	d.rotate(t, ctx, newKey, oldKey)
	// A token of the new key makes a function read the keys again, unless it did so in the last ten
	// seconds. Each instance of the function has its own keys.
	signed := d.outputs["CompletionURL"] + sign(t, ctx, newKey, d.record(t, ctx, call).ID, time.Now().Add(time.Hour))
	eventually(t, ctx, secret.MaxAge+unbounded, "the new key to be accepted", func() error {
		status, answer, err := d.postAs(ctx, signed, asJSON, []byte(`{"progress":"The manager is back."}`))
		if err == nil && status != 202 {
			err = fmt.Errorf("the answer is %d %s", status, answer)
		}
		return err
	})
	d.hears(t, ctx, call, "The manager is back.")
	d.complete(t, ctx, url, asJSON, `{"result":{"approved":true,"until":"Friday"}}`, 200)
	d.noteAnswer(call)
	d.hearsNext(t, ctx, call, 2, "status=ok", `{"approved":true,"until":"Friday"}`)
}

// revocation revokes the old key, once all tokens that the tests need were used.
func (d *deployment) revocation(t *testing.T, ctx context.Context, quiet func()) {
	quiet()
	if ctx.Err() != nil {
		t.Fatal(ctx.Err())
	}
	const again = `{"result":"once more"}`
	url := func(key string) string {
		id := d.record(t, ctx, "e2e-approval").ID
		return d.outputs["CompletionURL"] + sign(t, ctx, key, id, time.Now().Add(time.Hour))
	}
	old, unknown := url(oldKey), url(strings.Repeat("y", 48))
	d.complete(t, ctx, old, asJSON, again, 409)
	d.rotate(t, ctx, newKey, "")
	eventually(t, ctx, secret.MaxAge+unbounded, "the old key to be refused", func() error {
		d.complete(t, ctx, unknown, asJSON, again, 401) // makes the function read the keys again
		status, answer, err := d.postAs(ctx, old, asJSON, []byte(again))
		if err == nil && status != 401 {
			err = fmt.Errorf("the answer is %d %s", status, answer)
		}
		return err
	})
}

// scheduled starts a tool that suspends its job until a time.
func (d *deployment) scheduled(t *testing.T, ctx context.Context) {
	const call = "e2e-scheduled"
	// The report must not be due yet when its tool runs, even on a busy machine.
	ahead := max(20*time.Second, 20*d.refusal(t, ctx))
	posted := time.Now()
	due := posted.Add(ahead).Truncate(time.Second)
	d.accept(t, ctx, "call_1", "scheduled_report", d.webhook(t, call, "call_1", "scheduled_report", map[string]any{
		"csv": "category,amount\nrent,1000.50\nfood,20.25\n", "at": due.Format(time.RFC3339),
	}))
	d.hears(t, ctx, call, "The report is due on")
	line := time.Since(posted) // a progress line takes the same path
	d.hearsWithin(t, ctx, ahead+d.resultWait(t), call, 2, "status=ok", "This is the report that was due on", "rent")
	if late, limit := time.Since(due), max(20*time.Second, 3*line); late < 0 || late > limit {
		t.Errorf("the report came %s after it was due; the limit is %s", late, limit)
	}
}

// callEnds ends a call while a tool runs that stops with it.
func (d *deployment) callEnds(t *testing.T, ctx context.Context) {
	const call = "e2e-ended-gone"
	posted := time.Now()
	d.accept(t, ctx, "call_1", "stop_with_call", d.webhook(t, call, "call_1", "stop_with_call", nil))
	seen := func(what, toolCall string) func() error {
		return func() error {
			if d.tool(what, call+"-"+toolCall).IsZero() {
				return fmt.Errorf("it has not %s yet", what)
			}
			return nil
		}
	}
	eventually(t, ctx, d.jobs(t).once(), "the tool to start", seen("started", "call_1"))
	started := d.tool("started", call+"-call_1").Sub(posted)
	ended := time.Now()
	status, answer, err := d.post(ctx, d.outputs["WebhookUrl"], token, d.status(t, call, number, vapi.StatusEnded))
	if err != nil || status != 200 {
		t.Errorf("the answer to the webhook is %d %s, %v", status, answer, err)
	}
	eventually(t, ctx, d.jobs(t).once(), "the tool to stop", seen("stopped", "call_1"))
	// The end of the call takes an invocation, like the start of the tool.
	took, limit := d.tool("stopped", call+"-call_1").Sub(ended), max(3*watchEvery, watchEvery+3*started)
	if took < 0 || took > limit {
		t.Errorf("the tool stopped %s after the call; the limit is %s", took, limit)
	}
	if r := d.settled(t, ctx, call, job.StateUndelivered); !strings.HasPrefix(r.Reason, "dropped: call_gone") {
		t.Errorf("the reason is %q", r.Reason)
	}
	// From then on, it does not start.
	d.accept(t, ctx, "call_2", "stop_with_call", d.webhook(t, call, "call_2", "stop_with_call", nil))
	d.hearsNext(t, ctx, call, 2, "tool_call_id=call_2 status=error")
	if !d.tool("started", call+"-call_2").IsZero() {
		t.Error("the tool started after the end of the call")
	}
}

// outboundCall delivers the result of a call that is gone by an outbound call.
func (d *deployment) outboundCall(t *testing.T, ctx context.Context) {
	const call = "e2e-back-gone"
	d.account.SetCall(call, "ended", number)
	url := d.askManager(t, ctx, call)
	d.complete(t, ctx, url, asJSON, fmt.Sprintf(`{"result":%q}`, granted), 200)
	d.noteAnswer(call)
	if r := d.settled(t, ctx, call, job.StateDelivered); !strings.HasPrefix(r.Reason, "delivered by the outbound call ") {
		t.Errorf("the reason is %q", r.Reason)
	}
	d.complete(t, ctx, url, asJSON, `{"result":"once more"}`, 409)
	var made struct {
		AssistantID, PhoneNumberID string
		Customer                   struct{ Number string }
		AssistantOverrides         struct{ VariableValues map[string]string }
	}
	calls := d.account.Calls()
	if len(calls) != 1 {
		t.Fatalf("%d calls were made", len(calls))
	}
	if err := json.Unmarshal(calls[0], &made); err != nil {
		t.Fatal(err)
	}
	variables := made.AssistantOverrides.VariableValues
	if made.AssistantID != "assistant" || made.PhoneNumberID != "line" || made.Customer.Number != number ||
		variables["ringback_result_text"] != "I have the answer to your request." || // not in an external system's words
		!strings.Contains(variables["ringback_result"], "\n"+granted+"\n>>>") || variables["ringback_call_id"] != call {
		t.Errorf("the call is %s", calls[0])
	}
}

// nextCall delivers a parked result in the customer's next call.
func (d *deployment) nextCall(t *testing.T, ctx context.Context) {
	const first, second = "e2e-parked-gone", "e2e-next"
	d.account.SetCall(first, "ended", other)
	d.account.SetCall(second, "in-progress", other)
	d.accept(t, ctx, "call_1", "keep_for_next_call",
		d.message(t, first, other, toolCalls("call_1", "keep_for_next_call", nil)))
	d.settled(t, ctx, first, job.StateParked)
	for range 2 { // Vapi may repeat the webhook
		status, answer, err := d.post(ctx, d.outputs["WebhookUrl"], token, d.status(t, second, other, vapi.StatusInProgress))
		if err != nil || status != 200 {
			t.Errorf("the answer to the webhook is %d %s, %v", status, answer, err)
		}
	}
	d.hears(t, ctx, second, "tool=keep_for_next_call tool_call_id=call_1 status=ok", "This was kept.")
	d.settled(t, ctx, first, job.StateDelivered)
}

// chat delivers a result to a chat.
func (d *deployment) chat(t *testing.T, ctx context.Context) {
	members := toolCalls("call_1", "order_status", map[string]any{"order_id": "A-5"})
	members["call"] = nil
	members["chat"] = map[string]any{"id": "e2e-chat", "orgId": "org", "assistantId": "assistant", "sessionId": "session"}
	d.accept(t, ctx, "call_1", "order_status", d.message(t, "", "", members))
	d.settled(t, ctx, "e2e-chat", job.StateDelivered)
	chats := d.account.Chats()
	if len(chats) != 1 {
		t.Fatalf("%d posts to chats", len(chats))
	}
	var posted struct {
		SessionID string
		Input     []struct{ Role, Content string }
	}
	if err := json.Unmarshal(chats[0], &posted); err != nil {
		t.Fatal(err)
	}
	if posted.SessionID != "session" || len(posted.Input) != 1 || posted.Input[0].Role != "system" ||
		!strings.Contains(posted.Input[0].Content, "The status of order A-5 is: out for delivery.") {
		t.Errorf("the post is %s", chats[0])
	}
}

// resumes runs a job that is suspended many times, and deploys other code in between. The emulator ends
// the running functions of the old code, which AWS does not. So the functions are paused first, once the
// other tests need no more answers.
func (d *deployment) resumes(t *testing.T, ctx context.Context, quiet func()) {
	const call, tenth = "e2e-resumed", 10
	d.accept(t, ctx, "call_1", "resume_often", d.webhook(t, call, "call_1", "resume_often", nil))
	// Every tenth wake-up uses a schedule, although it is due soon.
	var wakeUp int
	var due time.Time
	eventually(t, ctx, 2*d.jobs(t).once(), "a wake-up with a schedule", func() error {
		r, err := d.load(ctx, call)
		if err != nil {
			return err
		}
		wakeUp = r.WakeUp
		if wakeUp == 0 || wakeUp%tenth != 0 {
			return fmt.Errorf("wake-up %d, and the job is %s", wakeUp, r.State)
		}
		due, err = d.scheduledAt(ctx, queue.ScheduleName(r.ID, wakeUp))
		if err == nil && due.Sub(r.Updated) < 50*time.Second {
			t.Errorf("the schedule of wake-up %d, created at %s, is due at %s", wakeUp, r.Updated, due)
		}
		return err
	})
	quiet()
	resume := d.pause(t, ctx)
	d.change(t, version2)
	d.run(t, ctx, "deploy", "--require-approval", "never")
	resume()
	eventually(t, ctx, scheduleWait+d.jobs(t).once(), fmt.Sprintf("wake-up %d", wakeUp+1), func() error {
		r, err := d.load(ctx, call)
		if err == nil && r.WakeUp <= wakeUp && r.State != job.StateDelivered {
			err = fmt.Errorf("wake-up %d, and the job is %s", r.WakeUp, r.State)
		}
		return err
	})
	if early := time.Until(due); early > 0 {
		t.Errorf("the message of the schedule came %s early", early)
	}
	record := d.settledWithin(t, ctx, scheduleWait+d.resultWait(t), call, job.StateDelivered)
	_, list, _ := strings.Cut(d.heard(call)[0], "The versions were [")
	list, _, _ = strings.Cut(list, "]")
	versions := strings.Fields(list)
	t.Logf("versions of the code that ran it: %v", versions)
	first := slices.Index(versions, "2")
	if len(versions) != record.WakeUp+1 || len(versions) < 13 ||
		first < tenth || first != len(versions)-strings.Count(list, "2") {
		t.Errorf("it was resumed %d times, with the versions %q", record.WakeUp, list)
	}
}

// scheduledAt returns the time of a schedule.
func (d *deployment) scheduledAt(ctx context.Context, name string) (time.Time, error) {
	made, err := scheduler.NewFromConfig(d.aws()).GetSchedule(ctx, &scheduler.GetScheduleInput{
		Name: &name, GroupName: aws.String(d.one("AWS::Scheduler::ScheduleGroup")),
	})
	if err != nil {
		return time.Time{}, err
	}
	return time.Parse("at(2006-01-02T15:04:05)", *made.ScheduleExpression)
}
