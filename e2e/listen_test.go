//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// listens makes a stage one whose tools a listener runs, and kills a listener in the middle of a tool. The next one
// runs the tool again, and the result is delivered once. The listener has the permissions that the documentation names.
func (d *deployment) listens(t *testing.T, ctx context.Context, stack string) {
	program := filepath.Join(d.folder, "ringback")
	run(t, ctx, d.project, os.Environ(), "go", "build", "-o", program, "./cmd/ringback")
	listener := func(stack string) *exec.Cmd {
		c := exec.CommandContext(ctx, program, "listen", "--stack", stack, "--breakpoints", "0s")
		c.Dir = d.folder
		c.Env = append(slices.Clone(d.env), d.developer(t, ctx, stack)...)
		c.Env = append(c.Env, "ORDERS_API_URL="+d.server.URL, "REQUESTS_API_URL="+d.server.URL, "E2E_URL="+d.server.URL)
		return c
	}

	// Other stacks are refused, and their functions go on.
	refusal := "ringback: a function runs the tools of the stack " + stack +
		"; listen is for a stage that was deployed with listen=true\n"
	if out, err := listener(stack).CombinedOutput(); err == nil || string(out) != refusal {
		t.Fatalf("a stack with a function: %v, %s", err, out)
	}

	d.settings = append(d.settings, "second/listen=true", "controlHosts="+d.host(), "vapiApiUrl="+d.vapi.URL,
		"webhookSecretArn="+d.secrets["webhook"], "completionSecretArn="+d.secrets["completion"])
	d.run(t, ctx, "deploy", "--require-approval", "never")
	d.read(t, ctx, stack)
	d.permitEmulator(t, ctx)
	if !strings.HasSuffix(d.outputs["ListenCommand"], "listen --stack "+stack) {
		t.Errorf("ListenCommand is %s", d.outputs["ListenCommand"])
	}

	// Nothing receives the job before a listener does.
	const call = "e2e-listen"
	d.accept(t, ctx, "call_1", "killed", d.webhook(t, call, "call_1", "killed", nil))
	time.Sleep(watchEvery)
	if visible, hidden, delayed, err := d.messages(ctx, d.outputs["JobsQueueUrl"]); visible != 1 || hidden+delayed > 0 {
		t.Errorf("the jobs queue has %d visible, %d hidden and %d delayed messages, %v", visible, hidden, delayed, err)
	}

	screens := []*os.File{d.screen(t, "first"), d.screen(t, "second")}
	first := listener(stack)
	first.Stdout, first.Stderr = screens[0], screens[0]
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Process.Kill() }() // it has ended already, unless the test fails
	eventually(t, ctx, d.results(t).once(), "the tool to start", func() error {
		if d.tool("started", call+"-call_1").IsZero() {
			return fmt.Errorf("it has not; the listener shows %s", shown(t, screens[0]))
		}
		return nil
	})
	killedAt := time.Now()
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	err := first.Wait()
	if status, ok := first.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the listener ended with %v", err)
	}

	second := listener(stack)
	second.Stdout, second.Stderr = screens[1], screens[1]
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Process.Kill() }()
	defer func() {
		if t.Failed() {
			t.Logf("the listeners show\n%s\n%s", shown(t, screens[0]), shown(t, screens[1]))
		}
	}()
	d.hearsWithin(t, ctx, killedLease+d.results(t).once()+d.results(t).once(), call, 1,
		"tool=killed tool_call_id=call_1 status=ok", "This is attempt 2.")
	if took := time.Since(killedAt); took < killedTimeout {
		t.Errorf("the tool began again %s after its first start; its lease was longer", took)
	}
	d.accept(t, ctx, "call_2", "order_status", d.webhook(t, call+"-order", "call_2", "order_status",
		map[string]any{"order_id": "A-L1"}))
	d.hearsWithin(t, ctx, d.results(t).once()+d.results(t).once(), call+"-order", 1, "The status of order A-L1 is:")
	eventually(t, ctx, d.results(t).once(), "empty queues", func() error {
		for _, name := range []string{"JobsQueueUrl", "LongJobsQueueUrl", "ResultsQueueUrl", "JobsDeadLettersUrl"} {
			visible, hidden, delayed, err := d.messages(ctx, d.outputs[name])
			if err != nil || visible+hidden+delayed > 0 {
				return errors.Join(err, fmt.Errorf("%s has messages", name))
			}
		}
		return nil
	})
	if err := second.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("the listener ended with %v", err)
	}
	for _, c := range []string{call, call + "-order"} {
		if heard := d.heard(c); len(heard) != 1 {
			t.Errorf("%s heard %q", c, heard)
		}
		if record := d.record(t, ctx, c); record.State != job.StateDelivered {
			t.Errorf("the record of %s is %s", c, record.State)
		}
	}
	text := shown(t, screens[0]) + shown(t, screens[1])
	for _, want := range []string{
		"killed              runs for the call " + job.CallHash(call), "killed              runs again, attempt 2",
		"Everything that was received is finished.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the listeners do not show %q:\n%s", want, text)
		}
	}
	for _, never := range []string{call, number, "A-L1", token, "/control"} {
		if strings.Contains(text, never) {
			t.Errorf("the listeners show %q:\n%s", never, text)
		}
	}
	d.developerMayNot(t, ctx)
	d.forbidEmulator(t, ctx)
}

// The timeout of the tool "killed", and when its job has returned to its queue after the death of its process.
const (
	killedTimeout = 20 * time.Second
	killedLease   = killedTimeout + 20*time.Second + 20*time.Second // the margins of the lease, and one long poll
)

func (d *deployment) screen(t *testing.T, name string) *os.File {
	t.Helper()
	file, err := os.Create(filepath.Join(d.folder, name+".screen"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func shown(t *testing.T, screen *os.File) string {
	t.Helper()
	text, err := os.ReadFile(screen.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// developerName is the name of a user who has the permissions of the documentation.
const developerName = "developer"

// developer returns the credentials of a user with the permissions that docs/deploy.md names for a stack.
func (d *deployment) developer(t *testing.T, ctx context.Context, stack string) []string {
	t.Helper()
	return d.user(t, ctx, developerName, d.documented(t, stack))
}

// documented returns the policy of the table in docs/deploy.md. Before the stack has the setting listen, it allows
// only to read the stack.
func (d *deployment) documented(t *testing.T, stack string) string {
	t.Helper()
	arn := func(service, resource string) string {
		return "arn:aws:" + service + ":" + region + ":" + account + ":" + resource
	}
	resources := map[string][]string{"the stack": {arn("cloudformation", "stack/"+stack+"/*")}}
	if d.outputs["Listen"] != "" {
		var stage struct{ Environment map[string]string }
		if err := json.Unmarshal([]byte(d.outputs["Listen"]), &stage); err != nil {
			t.Fatal(err)
		}
		table := arn("dynamodb", "table/"+d.outputs["JobsTableName"])
		maps.Copy(resources, map[string][]string{
			"`JobsQueueUrl`":        {arn("sqs", last(d.outputs["JobsQueueUrl"]))},
			"`LongJobsQueueUrl`":    {arn("sqs", last(d.outputs["LongJobsQueueUrl"]))},
			"`ResultsQueueUrl`":     {arn("sqs", last(d.outputs["ResultsQueueUrl"]))},
			"`JobsTableName`":       {table},
			"index `calls`":         {table + "/index/calls"},
			"`CompletionSecretArn`": {d.outputs["CompletionSecretArn"]},
			// The emulator takes each schedule for one of the group "default".
			"`SCHEDULE_GROUP`": {
				arn("scheduler", "schedule/"+stage.Environment["SCHEDULE_GROUP"]+"/*"), arn("scheduler", "schedule/default/*"),
			},
			"`SCHEDULE_ROLE_ARN`": {stage.Environment["SCHEDULE_ROLE_ARN"]},
		})
	}
	page, err := os.ReadFile("../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "| action | on |\n|---|---|\n")
	section, _, _ = strings.Cut(section, "\n\n")
	actions := regexp.MustCompile("`([a-z]+:[A-Za-z]+)`")
	var statements []statement
	for row := range strings.Lines(section) {
		cells := strings.Split(row, "|")
		if len(cells) != 4 {
			t.Fatalf("the table has the row %q", row)
		}
		s := statement{Effect: "Allow"}
		for _, m := range actions.FindAllStringSubmatch(cells[1], -1) {
			s.Action = append(s.Action, m[1])
		}
		for name, arns := range resources {
			if strings.Contains(cells[2], name) {
				s.Resource = append(s.Resource, arns...)
			}
		}
		if len(s.Resource) > 0 {
			statements = append(statements, s)
		}
	}
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		t.Fatal(err)
	}
	return string(policy)
}

// developerMayNot checks what the documented permissions must not include, and what the emulator does not check when a
// listener runs.
func (d *deployment) developerMayNot(t *testing.T, ctx context.Context) {
	t.Helper()
	queue := func(output string) string {
		return "arn:aws:sqs:" + region + ":" + account + ":" + last(d.outputs[output])
	}
	schedule := "arn:aws:scheduler:" + region + ":" + account + ":schedule/" + d.one("AWS::Scheduler::ScheduleGroup") +
		"/some"
	for _, row := range []struct {
		action, resource string
		may              bool
	}{
		{"sqs:ReceiveMessage", queue("JobsQueueUrl"), true},
		{"sqs:ReceiveMessage", queue("ResultsQueueUrl"), false},
		{"sqs:ReceiveMessage", queue("JobsDeadLettersUrl"), false},
		{"scheduler:CreateSchedule", schedule, true},
		{"scheduler:DeleteSchedule", schedule, true},
		{"secretsmanager:GetSecretValue", d.secrets["completion"], true},
		{"secretsmanager:GetSecretValue", d.secrets["webhook"], false},
		{"secretsmanager:GetSecretValue", d.secrets["private"], false},
	} {
		answer, err := d.query(ctx, "iam", iamVersion, "SimulatePrincipalPolicy",
			"PolicySourceArn", "arn:aws:iam::"+account+":user/"+developerName,
			"ActionNames.member.1", row.action, "ResourceArns.member.1", row.resource)
		if err != nil {
			t.Fatal(err)
		}
		if may := decision(t, answer) == "allowed"; may != row.may {
			t.Errorf("a developer may %s on %s: %v, want %v", row.action, row.resource, may, row.may)
		}
	}
}
