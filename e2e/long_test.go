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
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/ringback/ringback/internal/completion"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi"
)

const (
	oldKey = "the-key-that-tokens-are-first-signed-with"
	newKey = "the-key-that-tokens-are-signed-with-later"

	// What is asked of the manager, and what he says. Neither may be in a log.
	subject = "May customer Miller return the bicycle?"
	granted = "The manager gives a green light."
)

// completionKeys is the secret's text. previous may be empty.
func completionKeys(current, previous string) string {
	keys := map[string]string{"current": current}
	if previous != "" {
		keys["previous"] = previous
	}
	text, _ := json.Marshal(keys) // strings always encode
	return string(text)
}

// stored is a secret of the emulator.
func stored(d *deployment, id string) completion.Source {
	return secret.FromSecretsManager(secretsmanager.NewFromConfig(d.aws()), id)
}

// sign makes a completion token as whoever knows the key can.
func sign(t *testing.T, ctx context.Context, key, jobID string, expires time.Time) string {
	t.Helper()
	source := secret.New(func(context.Context) (string, error) { return completionKeys(key, ""), nil }, nil, nil)
	signed, err := completion.NewKeys(source, nil).Sign(ctx, jobID, expires)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// asks has a call ask the manager, and gives the URL for his answer.
func (d *deployment) asks(t *testing.T, ctx context.Context, call string) string {
	t.Helper()
	d.accept(t, ctx, "call_1", "notify_when_ready", d.webhook(t, call, "call_1", "notify_when_ready", map[string]any{"subject": subject}))
	asked := d.request(t, ctx, call)
	if !strings.HasPrefix(asked.CompletionURL, d.outputs["CompletionURL"]) || asked.Subject != subject || asked.CustomerNumber != number {
		t.Errorf("%s: the manager is asked %+v", call, asked)
	}
	eventually(t, ctx, time.Minute, call+" to wait", func() error {
		return d.is(ctx, call, job.StateWaiting)
	})
	return asked.CompletionURL
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

// schedules are the names of the group's schedules.
func (d *deployment) schedules(t *testing.T, ctx context.Context) []string {
	t.Helper()
	out, err := scheduler.NewFromConfig(d.aws()).ListSchedules(ctx, &scheduler.ListSchedulesInput{GroupName: aws.String(d.one("AWS::Scheduler::ScheduleGroup"))})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range out.Schedules {
		names = append(names, *s.Name)
	}
	return names
}

func (d *deployment) approval(t *testing.T, ctx context.Context) {
	const call = "e2e-approval"
	id := job.ID(call, "call_1")
	url := d.asks(t, ctx, call)

	// One schedule wakes it: at its deadline. It is the job's first wake.
	name, count := queue.ScheduleName(id, 1), 0
	for wake := range 20 {
		if slices.Contains(d.schedules(t, ctx), queue.ScheduleName(id, wake)) {
			count++
		}
	}
	if count != 1 {
		t.Errorf("the job has %d schedules", count)
	}
	group := aws.String(d.one("AWS::Scheduler::ScheduleGroup"))
	made, err := scheduler.NewFromConfig(d.aws()).GetSchedule(ctx, &scheduler.GetScheduleInput{Name: &name, GroupName: group})
	if err != nil {
		t.Fatal(err)
	}
	record := d.record(t, ctx, call)
	deadline := record.Deadline.Add(time.Second - 1).UTC().Format("at(2006-01-02T15:04:05)")
	if *made.ScheduleExpression != deadline || time.Until(record.Deadline).Round(time.Hour) != 48*time.Hour {
		t.Errorf("the schedule is %s, and the deadline %s", *made.ScheduleExpression, record.Deadline)
	}
	if last(*made.Target.Arn) != last(d.outputs["JobsQueueUrl"]) || last(*made.Target.RoleArn) != d.role(t, "Schedules") ||
		last(*made.Target.DeadLetterConfig.Arn) != last(d.outputs["JobsDeadLettersUrl"]) || made.ActionAfterCompletion != "DELETE" {
		t.Errorf("the schedule sends to %s as %s, or else to %s, and is then kept: %s",
			*made.Target.Arn, *made.Target.RoleArn, *made.Target.DeadLetterConfig.Arn, made.ActionAfterCompletion)
	}

	// While it waits, the assistant can ask.
	before := time.Now()
	text := d.answer(t, ctx, "call_2", "task_status", d.webhook(t, call, "call_2", "task_status", nil))
	if took := time.Since(before); took > 2*time.Second {
		t.Errorf("the status took %s", took)
	}
	if !strings.HasPrefix(text, "notify_when_ready, started ") || !strings.Contains(text, "is waiting, for 48 hours at the most") {
		t.Errorf("the status is %q", text)
	}

	d.complete(t, ctx, url, asJSON, `{"progress":"The manager is reading it."}`, 202)
	d.complete(t, ctx, url, asJSON, `{"progress":"The manager is still reading it."}`, 429)
	d.hears(t, ctx, call, `"say"`, "The manager is reading it.")
	if text := d.answer(t, ctx, "call_3", "task_status", d.webhook(t, call, "call_3", "task_status", nil)); !strings.Contains(text, "The manager is reading it.") {
		t.Errorf("the status is %q", text)
	}

	// What is no result changes nothing.
	later := time.Now().Add(time.Hour)
	base := d.outputs["CompletionURL"]
	forged := []byte(url)
	forged[len(forged)-5] ^= 1 // within the signature
	for what, wrong := range map[string]struct {
		url, contentType, body string
		status                 int
	}{
		"a forged token":           {string(forged), asJSON, `{"result":"forged"}`, 401},
		"a token of another's key": {base + sign(t, ctx, strings.Repeat("x", 48), id, later), asJSON, `{"result":"forged"}`, 401},
		"no token":                 {base + "something", asJSON, `{"result":"forged"}`, 401},
		"a job that is not there":  {base + sign(t, ctx, oldKey, job.ID("e2e-nobody", "call_1"), later), asJSON, `{"result":"x"}`, 404},
		"an expired token":         {base + sign(t, ctx, oldKey, id, time.Now().Add(-time.Hour)), asJSON, `{"result":"x"}`, 410},
		"a body that is too large": {url, asText, strings.Repeat("x", completion.MaxBody+1), 413},
		"a body without a result":  {url, asJSON, `{"outcome":"x"}`, 400},
		"a form":                   {url, "application/x-www-form-urlencoded", "result=x", 400},
	} {
		t.Log(what)
		d.complete(t, ctx, wrong.url, wrong.contentType, wrong.body, wrong.status)
	}

	// Many give the result at once. One of them does.
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
	slices.Sort(statuses)
	if !slices.Equal(statuses, []int{200, 409, 409, 409, 409}) {
		t.Errorf("the answers are %v", statuses)
	}
	if slices.Contains(d.schedules(t, ctx), name) {
		t.Error("the schedule is there still")
	}
	d.hearsNext(t, ctx, call, 2, "tool=notify_when_ready tool_call_id=call_1 status=ok", granted)

	// The other bodies: a text, as large as it may be, and a failure.
	url = d.asks(t, ctx, call+"-text")
	d.complete(t, ctx, url, asText, granted+strings.Repeat(" ", completion.MaxBody-len(granted)), 200)
	d.hears(t, ctx, call+"-text", "status=ok", granted)
	url = d.asks(t, ctx, call+"-no")
	d.complete(t, ctx, url, asJSON, `{"error":"The manager is on holiday."}`, 200)
	d.hears(t, ctx, call+"-no", "status=error", "The manager is on holiday.")
	for _, call := range []string{call, call + "-text", call + "-no"} {
		d.settled(t, ctx, call, job.StateDelivered)
	}
}

// settled waits until a call's job has come to its end.
func (d *deployment) settled(t *testing.T, ctx context.Context, call string, want job.State) job.Record {
	t.Helper()
	eventually(t, ctx, time.Minute, "the job of "+call+" to be "+string(want), func() error {
		return d.is(ctx, call, want)
	})
	return d.record(t, ctx, call)
}

// is says whether a call's job is in a state.
func (d *deployment) is(ctx context.Context, call string, want job.State) error {
	record, err := d.load(ctx, call)
	if err == nil && record.State != want {
		err = fmt.Errorf("it is %s", record.State)
	}
	return err
}

// rotate changes the key of the completion tokens.
func (d *deployment) rotate(t *testing.T, ctx context.Context, current, previous string) {
	t.Helper()
	if _, err := secretsmanager.NewFromConfig(d.aws()).PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId: aws.String(d.secrets["completion"]), SecretString: aws.String(completionKeys(current, previous)),
	}); err != nil {
		t.Fatal(err)
	}
}

// rotation completes a job whose token was signed with the key before. It waits
// for long enough for the caller to be told that it takes longer, too.
func (d *deployment) rotation(t *testing.T, ctx context.Context) {
	const call = "e2e-rotation"
	url := d.asks(t, ctx, call)
	d.hears(t, ctx, call, `"say"`, "I have passed it on")
	d.rotate(t, ctx, newKey, oldKey)
	// A token of the new key has the keys read anew: at once, unless that was
	// done in the last ten seconds. Each instance of the function has its own.
	signed := d.outputs["CompletionURL"] + sign(t, ctx, newKey, job.ID(call, "call_1"), time.Now().Add(time.Hour))
	eventually(t, ctx, time.Minute, "the new key to be good", func() error {
		status, answer, err := d.postAs(ctx, signed, asJSON, []byte(`{"progress":"The manager is back."}`))
		if err == nil && status != 202 {
			err = fmt.Errorf("the answer is %d %s", status, answer)
		}
		return err
	})
	d.hearsNext(t, ctx, call, 2, "The manager is back.")
	d.complete(t, ctx, url, asJSON, `{"result":{"approved":true,"until":"Friday"}}`, 200)
	d.hearsNext(t, ctx, call, 3, "status=ok", `{"approved":true,"until":"Friday"}`)
}

// revocation takes the old key away, once all tokens that are needed were used.
func (d *deployment) revocation(t *testing.T, ctx context.Context, quiet func()) {
	quiet()
	if ctx.Err() != nil {
		t.Fatal(ctx.Err())
	}
	old := d.outputs["CompletionURL"] + sign(t, ctx, oldKey, job.ID("e2e-approval", "call_1"), time.Now().Add(time.Hour))
	d.complete(t, ctx, old, asJSON, `{"result":"once more"}`, 409)
	d.rotate(t, ctx, newKey, "")
	unknown := d.outputs["CompletionURL"] + sign(t, ctx, strings.Repeat("y", 48), job.ID("e2e-approval", "call_1"), time.Now().Add(time.Hour))
	eventually(t, ctx, time.Minute, "the old key to be good no more", func() error {
		d.complete(t, ctx, unknown, asJSON, `{"result":"once more"}`, 401) // has the keys read anew
		status, answer, err := d.postAs(ctx, old, asJSON, []byte(`{"result":"once more"}`))
		if err == nil && status != 401 {
			err = fmt.Errorf("the answer is %d %s", status, answer)
		}
		return err
	})
}

func (d *deployment) scheduled(t *testing.T, ctx context.Context) {
	const call, ahead = "e2e-scheduled", 20 * time.Second
	due := time.Now().Add(ahead).Truncate(time.Second)
	d.accept(t, ctx, "call_1", "scheduled_report", d.webhook(t, call, "call_1", "scheduled_report", map[string]any{
		"csv": "category,amount\nrent,1000.50\nfood,20.25\n", "at": due.Format(time.RFC3339),
	}))
	d.hears(t, ctx, call, "The report is due on")
	d.hearsNext(t, ctx, call, 2, "status=ok", "This is the report that was due on", "rent")
	if late := time.Since(due); late < 0 || late > ahead {
		t.Errorf("the report came %s after it was due", late)
	}
}

func (d *deployment) callEnds(t *testing.T, ctx context.Context) {
	const call = "e2e-ended-gone"
	d.accept(t, ctx, "call_1", "stop_with_call", d.webhook(t, call, "call_1", "stop_with_call", nil))
	seen := func(what, toolCall string) func() error {
		return func() error {
			if d.tool(what, call+"-"+toolCall).IsZero() {
				return fmt.Errorf("it has not %s", what)
			}
			return nil
		}
	}
	eventually(t, ctx, time.Minute, "the tool to start", seen("started", "call_1"))
	ended := time.Now()
	if status, answer, err := d.post(ctx, d.outputs["WebhookUrl"], token, d.status(t, call, number, vapi.StatusEnded)); err != nil || status != 200 {
		t.Errorf("the webhook is answered %d %s, %v", status, answer, err)
	}
	eventually(t, ctx, time.Minute, "the tool to stop", seen("stopped", "call_1"))
	if took := d.tool("stopped", call+"-call_1").Sub(ended); took < 0 || took > 15*time.Second {
		t.Errorf("the tool stopped %s after the call", took)
	}
	if r := d.settled(t, ctx, call, job.StateUndelivered); !strings.HasPrefix(r.Reason, "dropped: call_gone") {
		t.Errorf("the reason is %q", r.Reason)
	}
	// After that it is not started any more.
	d.accept(t, ctx, "call_2", "stop_with_call", d.webhook(t, call, "call_2", "stop_with_call", nil))
	d.hearsNext(t, ctx, call, 2, "tool_call_id=call_2 status=error")
	if !d.tool("started", call+"-call_2").IsZero() {
		t.Error("the tool was started after the end of the call")
	}
}

func (d *deployment) callBack(t *testing.T, ctx context.Context) {
	const call = "e2e-back-gone"
	url := d.asks(t, ctx, call)
	d.complete(t, ctx, url, asJSON, fmt.Sprintf(`{"result":%q}`, granted), 200)
	if r := d.settled(t, ctx, call, job.StateDelivered); !strings.HasPrefix(r.Reason, "the customer was called back") {
		t.Errorf("the reason is %q", r.Reason)
	}
	d.complete(t, ctx, url, asJSON, `{"result":"once more"}`, 409)
	var made struct {
		AssistantID, PhoneNumberID string
		Customer                   struct{ Number string }
		AssistantOverrides         struct{ VariableValues map[string]string }
	}
	calls := d.organ.Calls()
	if len(calls) != 1 {
		t.Fatalf("%d calls were made", len(calls))
	}
	if err := json.Unmarshal(calls[0], &made); err != nil {
		t.Fatal(err)
	}
	variables := made.AssistantOverrides.VariableValues
	if made.AssistantID != "assistant" || made.PhoneNumberID != "line" || made.Customer.Number != number ||
		variables["ringback_result"] != granted || variables["ringback_call_id"] != call {
		t.Errorf("the call is %s", calls[0])
	}
}

func (d *deployment) nextCall(t *testing.T, ctx context.Context) {
	const first, second = "e2e-kept-gone", "e2e-next"
	d.accept(t, ctx, "call_1", "keep_for_next_call", d.message(t, first, other, toolCalls("call_1", "keep_for_next_call", nil)))
	d.settled(t, ctx, first, job.StateParked)
	for range 2 { // Vapi may say it again
		status, answer, err := d.post(ctx, d.outputs["WebhookUrl"], token, d.status(t, second, other, vapi.StatusInProgress))
		if err != nil || status != 200 {
			t.Errorf("the webhook is answered %d %s, %v", status, answer, err)
		}
	}
	d.hears(t, ctx, second, "tool=keep_for_next_call tool_call_id=call_1 status=ok", "This was kept.")
	d.settled(t, ctx, first, job.StateDelivered)
}

func (d *deployment) chat(t *testing.T, ctx context.Context) {
	members := toolCalls("call_1", "order_status", map[string]any{"order_id": "A-5"})
	members["call"] = nil
	members["chat"] = map[string]any{"id": "e2e-chat", "orgId": "org", "assistantId": "assistant", "sessionId": "session"}
	d.accept(t, ctx, "call_1", "order_status", d.message(t, "", "", members))
	d.settled(t, ctx, "e2e-chat", job.StateDelivered)
	chats := d.organ.Chats()
	if len(chats) != 1 {
		t.Fatalf("%d chats were gone on with", len(chats))
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
		t.Errorf("the chat is %s", chats[0])
	}
}

// resumes has a job go on often, and deploys other code in between, once nothing
// else runs that this would end: the emulator ends what runs, AWS does not.
func (d *deployment) resumes(t *testing.T, ctx context.Context, quiet func()) {
	const call, tenth = "e2e-resumed", 10
	d.accept(t, ctx, "call_1", "resume_often", d.webhook(t, call, "call_1", "resume_often", nil))
	waitFor := func(wake int, limit time.Duration) {
		t.Helper()
		eventually(t, ctx, limit, fmt.Sprintf("wake %d", wake), func() error {
			r, err := d.load(ctx, call)
			if err == nil && r.WakeUp < wake {
				err = fmt.Errorf("it has come to %d, and is %s", r.WakeUp, r.State)
			}
			return err
		})
	}
	waitFor(tenth, 2*time.Minute)
	scheduled := time.Now()
	// The tenth goes by a schedule, although its time has nearly come.
	name := queue.ScheduleName(job.ID(call, "call_1"), tenth)
	eventually(t, ctx, 10*time.Second, "the schedule", func() error {
		if !slices.Contains(d.schedules(t, ctx), name) {
			return fmt.Errorf("it is not there")
		}
		return nil
	})
	quiet()
	d.run(t, ctx, d.overlay(t, 2, nil), "deploy", "--require-approval", "never")
	waitFor(tenth+1, 3*time.Minute)
	if took := time.Since(scheduled); took < 50*time.Second {
		t.Errorf("the schedule came after %s", took)
	}
	record := d.settled(t, ctx, call, job.StateDelivered)
	_, list, _ := strings.Cut(d.heard(call)[0], "The versions were [")
	list, _, _ = strings.Cut(list, "]")
	versions := strings.Fields(list)
	t.Logf("the versions of the code that ran it: %v", versions)
	first := slices.Index(versions, "2")
	if len(versions) != record.WakeUp+1 || len(versions) < 13 || first < tenth || first != len(versions)-strings.Count(list, "2") {
		t.Errorf("it went on %d times, and heard was %q", record.WakeUp, list)
	}
}
