package ringback_test

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	awsscheduler "github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"
	minidyn "github.com/truora/minidyn/aws-v2/client"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/infra/ringback"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/aws/eventbus"
	"github.com/ringback/ringback/internal/aws/kmskey"
	"github.com/ringback/ringback/internal/aws/scheduler"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/local/pipeline"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// request is a request to AWS, as IAM sees it. Resources have the names that [texts]
// returns.
type request struct {
	role, action, resource string
	leadingKey             string // of DynamoDB: the id of the item
	source, detailType     string // of EventBridge: the event's
	service                string // of IAM: to which a role is passed
	algorithm              string // of KMS: the algorithm of a ciphertext
}

// conditionKeys returns the values of the condition keys. A key without a value is not
// in the request.
func (r request) conditionKeys() map[string]string {
	return map[string]string{
		"dynamodb:LeadingKeys": r.leadingKey, "events:source": r.source, "events:detail-type": r.detailType,
		"iam:PassedToService": r.service, "kms:EncryptionAlgorithm": r.algorithm,
	}
}

// grant is what a role may do: one action on one resource. With a condition on the ids
// of items, it is for one of their patterns.
type grant struct {
	action, resource, items string
	conditions              map[string][]string // the other keys, of which all must match
}

// grants returns what a role may do.
func (m template) grants(t *testing.T, role string) []grant {
	t.Helper()
	var all []grant
	document := m.only(t, "AWS::IAM::Policy", role+"RoleDefaultPolicy").Properties["PolicyDocument"]
	for _, s := range at(t, document, "Statement").([]any) {
		items, conditions := []string{""}, map[string][]string{}
		operators, _ := at(t, s, "Condition").(map[string]any)
		for operator, keys := range operators {
			for key, values := range keys.(map[string]any) {
				switch operator + " " + key {
				case "ForAllValues:StringLike dynamodb:LeadingKeys":
					items = texts(values)
				case "ForAllValues:StringEquals events:source", "ForAllValues:StringEquals events:detail-type",
					"StringEquals iam:PassedToService", "StringEquals kms:EncryptionAlgorithm":
					conditions[key] = texts(values)
				default:
					t.Fatalf("%s: unknown condition %s %s", role, operator, key)
				}
			}
		}
		for _, action := range texts(at(t, s, "Action")) {
			for _, resource := range texts(at(t, s, "Resource")) {
				for _, pattern := range items {
					all = append(all, grant{action, resource, pattern, conditions})
				}
			}
		}
	}
	return all
}

// allows reports whether a grant allows a request.
func (g grant) allows(r request) bool {
	keys := r.conditionKeys()
	for key, values := range g.conditions {
		if !slices.Contains(values, keys[key]) {
			return false
		}
	}
	return g.action == r.action && like(g.resource, r.resource) && (g.items == "" || like(g.items, r.leadingKey))
}

// like reports whether a text matches a pattern of IAM.
func like(pattern, text string) bool {
	expression := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`)
	return regexp.MustCompile(`(?s)^` + expression + `$`).MatchString(text)
}

const (
	jobsTable = "RingbackJobsTable"
	jobsIndex = jobsTable + "/index/" + dynamotable.Index
)

// TestPermissionsFitTheCode runs the functions' handlers on AWS's clients. Each of their
// requests is allowed by the policy of the function's role, and each permission is used.
func TestPermissionsFitTheCode(t *testing.T) {
	catalogue := catalogueForPermissions()
	stack := newStack(t, "Ringback")
	made := synthesiseIn(t, stack, ringback.Props{
		Tools:           catalogue,
		PublicKeySecret: givenSecret(stack, secretARN("public")),
		OTELEndpoint:    "https://collector.example.com",
		OTELHeadersSecret: awssecretsmanager.Secret_FromSecretCompleteArn(
			stack, jsii.String("headers"), jsii.String(secretARN("headers"))),
		PrivateKeySecret: awssecretsmanager.Secret_FromSecretCompleteArn(
			stack, jsii.String("private"), jsii.String(secretARN("private"))),
	})
	used := &requests{seen: map[request]bool{}}
	synctest.Test(t, func(t *testing.T) { used.run(t, catalogue) })
	group := made.only(t, "AWS::Scheduler::ScheduleGroup", "RingbackSchedules").Properties["Name"].(string)
	prefix := "arn:AWS::Partition:scheduler:AWS::Region:AWS::AccountId:schedule/" + group + "/"
	for r := range maps.Clone(used.seen) {
		if name, ok := strings.CutPrefix(r.resource, "schedule "); ok {
			delete(used.seen, r)
			r.resource = prefix + name
			used.seen[r] = true
		}
	}
	roles := []string{"RingbackAck", "RingbackProcess", "RingbackCallback", "RingbackSchedules"}
	for _, role := range roles[:3] {
		for variable, value := range made.variables(t, role) {
			if strings.HasSuffix(variable, "_SECRET_ID") {
				used.seen[request{role: role, action: "secretsmanager:GetSecretValue", resource: texts(value)[0]}] = true
			}
		}
	}
	granted := map[string][]grant{}
	for _, role := range roles {
		granted[role] = made.grants(t, role)
	}
	for r := range used.seen {
		if !slices.ContainsFunc(granted[r.role], func(g grant) bool { return g.allows(r) }) {
			t.Errorf("the policy of %s forbids what its function does: %+v", r.role, r)
		}
	}
	for _, role := range roles {
		for _, g := range granted[role] {
			switch service, _, _ := strings.Cut(g.action, ":"); {
			case service == "logs", service == "xray": // Lambda's requests
			case role == "RingbackSchedules" && g.resource == "RingbackJobsDeadLetters": // what Scheduler gives up on
			case !slices.ContainsFunc(slices.Collect(maps.Keys(used.seen)), func(r request) bool {
				return r.role == role && g.allows(r)
			}):
				t.Errorf("no function uses the permission of %s: %+v", role, g)
			}
		}
	}
}

// TestPermissionsOfAListener compares what the documentation lets a developer do who runs the tools of a stage with
// what the process function may do. Its event source mappings also read the attributes of the queues.
func TestPermissionsOfAListener(t *testing.T) {
	want := map[string]bool{"cloudformation:DescribeStacks": true}
	for _, g := range synthesise(t, ringback.Props{Tools: payments()}).grants(t, "RingbackProcess") {
		if service, _, _ := strings.Cut(g.action, ":"); service != "logs" && service != "xray" {
			want[g.action] = true
		}
	}
	delete(want, "sqs:GetQueueAttributes")
	page, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "| action | on |\n")
	section, _, _ = strings.Cut(section, "\n\n")
	got := make(map[string]bool)
	for _, m := range regexp.MustCompile("`([a-z]+:[A-Z][A-Za-z]+)`").FindAllStringSubmatch(section, -1) {
		got[m[1]] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the permissions (-function +documentation):\n%s", diff)
	}
}

// TestForbiddenRequests tests what an attacker who took a function over could want.
func TestForbiddenRequests(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	const ack, process, callback = "RingbackAck", "RingbackProcess", "RingbackCallback"
	item := func(role, action, id string) request {
		return request{role: role, action: "dynamodb:" + action, resource: jobsTable, leadingKey: id}
	}
	event := func(source, detailType string) request {
		return request{
			role: callback, action: "events:PutEvents", resource: "RingbackEvents", source: source, detailType: detailType,
		}
	}
	forbidden := []request{
		item(ack, "GetItem", "customer:0123"), item(ack, "PutItem", "customer:0123"),
		item(ack, "GetItem", "lease:j_x"), item(ack, "PutItem", "lease:j_x"), item(callback, "PutItem", "lease:j_x"),
		item(process, "PutItem", "another"), item(callback, "GetItem", "another"),
		event("aws.health", "undelivered"), event("ringback", "another"), event("another", "undelivered"),
		{role: process, action: "iam:PassRole", resource: "RingbackSchedulesRole", service: "lambda.amazonaws.com"},
		{role: process, action: "iam:PassRole", resource: "RingbackProcessRole", service: "scheduler.amazonaws.com"},
	}
	group := made.only(t, "AWS::Scheduler::ScheduleGroup", "RingbackSchedules").Properties["Name"].(string)
	for _, role := range []string{ack, process, callback} {
		for _, action := range []string{"DeleteItem", "UpdateItem", "Scan", "Query", "BatchWriteItem", "PartiQLUpdate"} {
			forbidden = append(forbidden, item(role, action, "j_x"))
		}
		for _, action := range []string{"Create", "Update", "Delete", "Get"} {
			schedule := "arn:AWS::Partition:scheduler:AWS::Region:AWS::AccountId:schedule/"
			r := request{role: role, action: "scheduler:" + action + "Schedule", resource: schedule + "default/x"}
			forbidden = append(forbidden, r)
			if r.resource = schedule + group + "/x"; role != process || action == "Update" || action == "Get" {
				forbidden = append(forbidden, r)
			}
		}
	}
	granted := map[string][]grant{ack: made.grants(t, ack), process: made.grants(t, process)}
	granted[callback] = made.grants(t, callback)
	allowed := func(r request) bool {
		return slices.ContainsFunc(granted[r.role], func(g grant) bool { return g.allows(r) })
	}
	for _, r := range forbidden {
		if allowed(r) {
			t.Errorf("allowed: %+v", r)
		}
	}
	for _, r := range []request{
		item(ack, "GetItem", "j_x"), item(ack, "PutItem", "call/x"), item(ack, "PutItem", "call:x"),
		event("ringback", "undelivered"),
	} {
		if !allowed(r) {
			t.Errorf("forbidden: %+v", r)
		}
	}
}

// requests records what is requested, by whom.
type requests struct {
	mu       sync.Mutex
	seen     map[request]bool
	problems []string
}

type roleKey struct{}

// add records a request of the function that ctx belongs to. Without one, EventBridge
// Scheduler makes it, with the role of the schedules.
func (r *requests) add(ctx context.Context, made request) {
	made.role = "RingbackSchedules"
	if role, ok := ctx.Value(roleKey{}).(string); ok {
		made.role = role
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[made] = true
}

func (r *requests) problem(format string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, fmt.Sprintf(format, a...))
}

// tableClient is the client of DynamoDB.
type tableClient struct {
	*minidyn.Client
	*requests
	unmarkable func(role string, in *dynamodb.PutItemInput) bool
}

func id(item map[string]types.AttributeValue) string {
	v, _ := item["id"].(*types.AttributeValueMemberS)
	if v == nil {
		return ""
	}
	return v.Value
}

func (c *tableClient) GetItem(
	ctx context.Context, in *dynamodb.GetItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.GetItemOutput, error) {
	c.add(ctx, request{action: "dynamodb:GetItem", resource: jobsTable, leadingKey: id(in.Key)})
	return c.Client.GetItem(ctx, in, options...)
}

func (c *tableClient) PutItem(
	ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options),
) (*dynamodb.PutItemOutput, error) {
	c.add(ctx, request{action: "dynamodb:PutItem", resource: jobsTable, leadingKey: id(in.Item)})
	if role, _ := ctx.Value(roleKey{}).(string); c.unmarkable(role, in) {
		return nil, errors.New("throttled")
	}
	return c.Client.PutItem(ctx, in, options...)
}

func (c *tableClient) Query(
	ctx context.Context, in *dynamodb.QueryInput, options ...func(*dynamodb.Options),
) (*dynamodb.QueryOutput, error) {
	c.add(ctx, request{action: "dynamodb:Query", resource: jobsTable + "/index/" + aws.ToString(in.IndexName)})
	return c.Client.Query(ctx, in, options...)
}

func (c *tableClient) Scan(
	ctx context.Context, in *dynamodb.ScanInput, options ...func(*dynamodb.Options),
) (*dynamodb.ScanOutput, error) {
	c.add(ctx, request{action: "dynamodb:Scan", resource: jobsTable + "/index/" + aws.ToString(in.IndexName)})
	return c.Client.Scan(ctx, in, options...)
}

// queueClient is the client of SQS. The URL of a queue is its name in the template.
type queueClient struct {
	*requests
	queue pipeline.Queue
}

func (c queueClient) SendMessageBatch(
	ctx context.Context, in *sqs.SendMessageBatchInput, _ ...func(*sqs.Options),
) (*sqs.SendMessageBatchOutput, error) {
	c.add(ctx, request{action: "sqs:SendMessage", resource: *in.QueueUrl})
	var out sqs.SendMessageBatchOutput
	for _, m := range in.Entries {
		if err := c.queue.Send(ctx, []queue.Message{{
			Body: *m.MessageBody, Group: aws.ToString(m.MessageGroupId),
			Delay: time.Duration(m.DelaySeconds) * time.Second,
		}})[0]; err != nil {
			return nil, err
		}
		out.Successful = append(out.Successful, sqstypes.SendMessageBatchResultEntry{Id: m.Id})
	}
	return &out, nil
}

func (c queueClient) ChangeMessageVisibility(
	ctx context.Context, in *sqs.ChangeMessageVisibilityInput, _ ...func(*sqs.Options),
) (*sqs.ChangeMessageVisibilityOutput, error) {
	c.add(ctx, request{action: "sqs:ChangeMessageVisibility", resource: *in.QueueUrl})
	return new(sqs.ChangeMessageVisibilityOutput), c.queue.ChangeVisibility(
		ctx, *in.ReceiptHandle, time.Duration(in.VisibilityTimeout)*time.Second)
}

func (c queueClient) ChangeMessageVisibilityBatch(
	ctx context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options),
) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	var out sqs.ChangeMessageVisibilityBatchOutput
	for _, e := range in.Entries {
		_, err := c.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
			QueueUrl: in.QueueUrl, ReceiptHandle: e.ReceiptHandle, VisibilityTimeout: e.VisibilityTimeout,
		})
		if err != nil {
			return nil, err
		}
		out.Successful = append(out.Successful, sqstypes.ChangeMessageVisibilityBatchResultEntry{Id: e.Id})
	}
	return &out, nil
}

// scheduleClient is the client of EventBridge Scheduler. It checks that schedules are
// one-off, which no policy can.
type scheduleClient struct {
	*requests
	schedules pipeline.Schedules
	queue     string
}

func (c scheduleClient) CreateSchedule(
	ctx context.Context, in *awsscheduler.CreateScheduleInput, _ ...func(*awsscheduler.Options),
) (*awsscheduler.CreateScheduleOutput, error) {
	c.add(ctx, request{action: "scheduler:CreateSchedule", resource: "schedule " + *in.Name})
	c.add(ctx, request{action: "iam:PassRole", resource: *in.Target.RoleArn, service: "scheduler.amazonaws.com"})
	when, err := time.Parse("at(2006-01-02T15:04:05)", *in.ScheduleExpression)
	if err != nil || in.ActionAfterCompletion != schedulertypes.ActionAfterCompletionDelete ||
		*in.ScheduleExpressionTimezone != "UTC" || *in.Target.Arn != c.queue || *in.GroupName != "group" {
		c.problem("a schedule is not one-off: %+v", *in)
	}
	return new(awsscheduler.CreateScheduleOutput), c.schedules.At(ctx, *in.Name, when, *in.Target.Input)
}

func (c scheduleClient) DeleteSchedule(
	ctx context.Context, in *awsscheduler.DeleteScheduleInput, _ ...func(*awsscheduler.Options),
) (*awsscheduler.DeleteScheduleOutput, error) {
	c.add(ctx, request{action: "scheduler:DeleteSchedule", resource: "schedule " + *in.Name})
	return new(awsscheduler.DeleteScheduleOutput), c.schedules.Cancel(ctx, *in.Name)
}

// busClient is the client of EventBridge.
type busClient struct {
	*requests
	bus pipeline.EventBus
}

func (c busClient) PutEvents(
	ctx context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options),
) (*eventbridge.PutEventsOutput, error) {
	for _, e := range in.Entries {
		c.add(ctx, request{
			action: "events:PutEvents", resource: *e.EventBusName, source: *e.Source, detailType: *e.DetailType,
		})
		var u job.Undelivered
		if err := json.Unmarshal([]byte(*e.Detail), &u); err != nil {
			return nil, err
		}
		if err := c.bus.SendUndelivered(ctx, u); err != nil {
			return nil, err
		}
	}
	return new(eventbridge.PutEventsOutput), nil
}

// keyClient is the client of KMS.
type keyClient struct {
	*requests
	key process.Decrypter
}

func (c keyClient) Decrypt(
	ctx context.Context, in *kms.DecryptInput, _ ...func(*kms.Options),
) (*kms.DecryptOutput, error) {
	c.add(ctx, request{action: "kms:Decrypt", resource: *in.KeyId, algorithm: string(in.EncryptionAlgorithm)})
	plain, err := c.key.Decrypt(ctx, in.CiphertextBlob)
	return &kms.DecryptOutput{Plaintext: plain}, err
}

// control answers for the calls: "gone" are over, and "busy" are so at every other try.
type control struct {
	calls pipeline.ControlClient
	mu    sync.Mutex
	busy  map[string]int // tries, by call
}

func (c *control) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) vapiclient.Receipt {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(controlURL, "gone") {
		return vapiclient.Receipt{Verdict: vapiclient.Gone, Status: http.StatusNotFound, Err: errors.New("it is over")}
	}
	if c.busy[controlURL]++; strings.HasPrefix(controlURL, "busy") && c.busy[controlURL]%2 == 1 {
		return vapiclient.Receipt{Verdict: vapiclient.TryAgain, Err: errors.New("it is busy")}
	}
	return c.calls.Post(ctx, controlURL, m)
}

// words are the tools' arguments.
type words struct {
	Text string `json:"text,omitempty" jsonschema:"anything"`
}

// completionURLs gets the completion URLs of jobs, by tool call.
var completionURLs sync.Map

// catalogueForPermissions returns tools that together need all permissions.
func catalogueForPermissions() []asynctool.Definition {
	tool := func(name string, run func(context.Context, asynctool.Call) (asynctool.Result, error),
		change func(*asynctool.Tool[words]),
	) asynctool.Definition {
		made := asynctool.Tool[words]{
			Name: name, Description: "A tool for tests.", Timeout: 30 * time.Second,
			Run: func(ctx context.Context, call asynctool.Call, _ words) (asynctool.Result, error) {
				return run(ctx, call)
			},
		}
		if change != nil {
			change(&made)
		}
		return made
	}
	works := func(context.Context, asynctool.Call) (asynctool.Result, error) { return asynctool.Text("done"), nil }
	resumes := func(after time.Duration) func(context.Context, asynctool.Call) (asynctool.Result, error) {
		return func(_ context.Context, call asynctool.Call) (asynctool.Result, error) {
			if call.Resumes == 0 {
				return asynctool.ResumeIn(after, nil), nil
			}
			return asynctool.Text("done"), nil
		}
	}
	flaky := func(_ context.Context, call asynctool.Call) (asynctool.Result, error) {
		if call.Attempt == 1 {
			return asynctool.Result{}, errors.New("it is closed")
		}
		return asynctool.Text("done"), nil
	}
	waits := func(ctx context.Context, call asynctool.Call) (asynctool.Result, error) {
		at, err := call.CompletionURL(ctx)
		if err != nil {
			return asynctool.Result{}, err
		}
		completionURLs.Store(call.ToolCallID, at)
		return asynctool.Wait(), nil
	}
	runs := func(ctx context.Context, _ asynctool.Call) (asynctool.Result, error) {
		time.Sleep(8 * time.Minute) // longer than a lease that is not renewed
		return asynctool.Text("done"), nil
	}
	long := func(t *asynctool.Tool[words]) { t.Timeout, t.Attempts = 10*time.Minute, 2 }
	return []asynctool.Definition{
		tool("works", works, nil),
		tool("quick", works, func(t *asynctool.Tool[words]) { t.Quick = 5 * time.Second }),
		tool("parked", works, func(t *asynctool.Tool[words]) { t.AfterCall = asynctool.NextCall }),
		tool("secret", works, func(t *asynctool.Tool[words]) { t.Encrypted = []string{"text"} }),
		tool("flaky", flaky, func(t *asynctool.Tool[words]) { t.Attempts = 2 }),
		tool("soon", resumes(time.Minute), nil),
		tool("later", resumes(time.Hour), nil),
		tool("waits", waits, func(t *asynctool.Tool[words]) { t.Deadline, t.Cancellable = 48*time.Hour, true }),
		tool("long_runs", runs, long),
		tool("long_flaky", flaky, long),
		tool("long_soon", resumes(time.Minute), long),
		tool("long_later", resumes(time.Hour), long),
	}
}

// run makes everything happen for which a function needs a permission.
func (r *requests) run(t *testing.T, catalogue []asynctool.Definition) {
	const callbackRole = "RingbackCallback"
	set, err := asynctool.NewSet(catalogue...)
	if err != nil {
		t.Fatal(err)
	}
	var unmarkable sync.Map // jobs whose delivery cannot be marked, with the time until then
	table := &tableClient{Client: minidyn.NewClient(), requests: r,
		unmarkable: func(role string, in *dynamodb.PutItemInput) bool {
			until, ok := unmarkable.Load(id(in.Item))
			state, _ := in.Item["state"].(*types.AttributeValueMemberS)
			return ok && role == callbackRole && state != nil && state.Value == string(job.StateDelivered) &&
				time.Now().Before(until.(time.Time))
		},
	}
	makeJobsTable(t, table.Client)
	sends := func(name string) func(pipeline.Queue) pipeline.Queue {
		return func(q pipeline.Queue) pipeline.Queue {
			if m, ok := q.(*memqueue.Queue); ok && strings.HasSuffix(m.ARN(), ":long-jobs") {
				name = "RingbackLongJobs"
			}
			return sqsqueue.New(queueClient{r, q}, name)
		}
	}
	queues := []string{"RingbackJobs", "RingbackLongJobs"} // in the order of the decorators
	function := func(name string, handler memqueue.Handler) memqueue.Handler {
		role := map[string]string{"process": "RingbackProcess", "callback": callbackRole}[name]
		return func(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
			arn := e.Records[0].EventSourceARN
			source := map[string]string{
				"jobs": "RingbackJobs", "long-jobs": "RingbackLongJobs", "results": "RingbackResults",
			}[arn[strings.LastIndex(arn, ":")+1:]]
			ctx = context.WithValue(ctx, roleKey{}, role)
			// Lambda receives with the role of the function.
			for _, action := range []string{"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"} {
				r.add(ctx, request{action: "sqs:" + action, resource: source})
			}
			return handler(ctx, e)
		}
	}
	p, err := pipeline.New(pipeline.Config{
		Tools: set, CompletionURL: "https://ringback.example.com/results/", Log: slog.New(slog.DiscardHandler),
		Decorators: pipeline.Decorators{
			Store:   func(jobtable.Stores) jobtable.Stores { return dynamotable.New(table, "jobs") },
			Jobs:    sends("RingbackJobs"),
			Results: sends("RingbackResults"),
			Schedules: func(s pipeline.Schedules) pipeline.Schedules {
				target := queues[0]
				queues = queues[1:]
				made, err := scheduler.New(scheduler.Config{
					Client: scheduleClient{r, s, target}, Group: "group", RoleARN: "RingbackSchedulesRole",
					QueueARN: target, DeadLetterARN: "RingbackJobsDeadLetters",
				})
				if err != nil {
					t.Fatal(err)
				}
				return made
			},
			Decrypter: func(key process.Decrypter) process.Decrypter {
				return kmskey.New(keyClient{r, key}, "RingbackArgumentKey")
			},
			Control: func(calls pipeline.ControlClient) pipeline.ControlClient {
				return &control{calls: calls, busy: map[string]int{}}
			},
			Events: func(bus pipeline.EventBus) pipeline.EventBus {
				return eventbus.New(busClient{r, bus}, "RingbackEvents")
			},
			Function: function,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	defer running.Wait()
	defer stop()

	post := func(path, body string) {
		t.Helper()
		recorder := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		p.Front.ServeHTTP(recorder, request.WithContext(context.WithValue(ctx, roleKey{}, "RingbackAck")))
		if recorder.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, recorder.Code, recorder.Body)
		}
	}
	webhook := func(call, message string) {
		t.Helper()
		post("/vapi", fmt.Sprintf(`{"message":{%s,"call":{"id":%q,"customer":{"number":"+4915100000001"},`+
			`"assistantId":"assistant","monitor":{"controlUrl":%q}}}}`, message, call, call))
	}
	askWith := func(call, toolCall, tool string, arguments []byte) {
		t.Helper()
		webhook(call, fmt.Sprintf(`"type":"tool-calls","toolCallList":[{"id":%q,"type":"function",`+
			`"function":{"name":%q,"arguments":%s}}]`, toolCall, tool, arguments))
	}
	ask := func(call, toolCall, tool string) {
		t.Helper()
		askWith(call, toolCall, tool, []byte(`{}`))
	}
	complete := func(toolCall string) {
		t.Helper()
		address, _ := completionURLs.Load(toolCall)
		u, err := url.Parse(fmt.Sprint(address))
		if err != nil {
			t.Fatal(err)
		}
		post(u.Path, `{"result":"done"}`)
	}
	unmarkable.Store(job.ID("call", "unmarkable", "works", []byte(`{}`)), time.Now().Add(2*time.Minute))
	for i, tool := range []string{
		"works", "quick", "flaky", "soon", "later", "long_runs", "long_flaky", "long_soon", "long_later",
	} {
		ask("call", fmt.Sprint(i), tool)
	}
	encrypted, err := encryption.Encrypt([]byte(`{"text":"a secret"}`), []string{"text"},
		func() (*rsa.PublicKey, error) { return p.ArgumentKey.Public(), nil })
	if err != nil {
		t.Fatal(err)
	}
	askWith("call", "secret", "secret", encrypted)
	ask("call", "unmarkable", "works")
	ask("call", "external", "waits")
	ask("call", "withdrawn", "waits")
	ask("busy", "busy", "works")
	ask("gone", "gone", "works")
	ask("gone for now", "parked", "parked")
	// A job that an earlier version accepted. Its result needs a second try, which reads its record.
	earlier := job.Job{
		ID: job.EarlierID("busy", "earlier"), ToolCallID: "earlier", Tool: "waits", Arguments: []byte(`{}`), Async: true,
		Call: job.Call{ID: "busy", ControlURL: "busy"}, ReceivedAt: time.Now(), CallEnds: time.Now().Add(12 * time.Hour),
	}
	message, err := earlier.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Jobs.Send(ctx, []queue.Message{{Body: message}})[0]; err != nil {
		t.Fatal(err)
	}
	time.Sleep(7 * time.Minute)
	ask("call", "5", "long_runs") // the same tool call again, while it runs
	time.Sleep(10 * time.Minute)
	complete("external")
	complete("earlier")
	ask("call", "status", "task_status")
	ask("call", "cancel", "cancel_task")
	webhook("next", `"type":"status-update","status":"in-progress"`)
	webhook("call", `"type":"status-update","status":"ended"`)
	time.Sleep(50 * time.Hour) // two sweeps
	for _, problem := range r.problems {
		t.Error(problem)
	}
	for toolCall, dead := range map[string]int{"jobs": p.DeadJobs.Len(), "results": p.DeadResults.Len()} {
		if dead > 0 {
			t.Errorf("%d messages are in the dead-letter queue of the %s", dead, toolCall)
		}
	}
}

func makeJobsTable(t *testing.T, client *minidyn.Client) {
	t.Helper()
	_, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("jobs"), BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("call"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("created"), AttributeType: types.ScalarAttributeTypeN},
			{AttributeName: aws.String("shard"), AttributeType: types.ScalarAttributeTypeN},
			{AttributeName: aws.String("first"), AttributeType: types.ScalarAttributeTypeS},
		},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName: aws.String(dynamotable.Index), Projection: &types.Projection{ProjectionType: types.ProjectionTypeAll},
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String("call"), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String("created"), KeyType: types.KeyTypeRange},
			},
		}, {
			IndexName:  aws.String(dynamotable.RecentIndex),
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String("shard"), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String("first"), KeyType: types.KeyTypeRange},
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
}
