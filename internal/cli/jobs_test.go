package cli_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	minidyn "github.com/truora/minidyn/server"

	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/cli/stack/stacktest"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/internal/policy"
)

// completionKeys are those of the stack.
const completionKeys = `{"current":"planted-key-planted-key-planted-key"}`

// account is an AWS account with a stack, its table and its results queue.
type account struct {
	table   *minidyn.Server
	outputs map[string]string
	secret  *stacktest.Secret // nil means none
	client  *dynamodb.Client

	// more answers further requests by their X-Amz-Target. It may be nil.
	more map[string]func(body []byte) any

	mu      sync.Mutex
	sent    []string // the name of the queue and the body of each message
	waiting []string // the bodies of the messages on the jobs queue
	deleted []string // the receipt handles of deleted messages
	asked   []string // the requests, as IAM sees them: an action and a resource
}

// ask records a request.
func (a *account) ask(target string, body []byte) {
	var in struct{ TableName, IndexName, QueueUrl, KeyId, SecretId string }
	_ = json.Unmarshal(body, &in)
	service, action, _ := strings.Cut(target, ".")
	service, _, _ = strings.Cut(service, "_")
	service = map[string]string{"DynamoDB": "dynamodb", "AmazonSQS": "sqs", "TrentService": "kms"}[service]
	resource := in.TableName + in.KeyId + in.SecretId
	switch {
	case target == "":
		service, action, resource = "cloudformation", "DescribeStacks", "stack"
	case in.IndexName != "":
		resource += "/index/" + in.IndexName
	case in.QueueUrl != "":
		resource = path.Base(in.QueueUrl)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, service+":"+strings.TrimSuffix(action, "Batch")+" "+resource)
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := r.Header.Get("X-Amz-Target")
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	a.ask(target, body)
	if strings.HasPrefix(target, "DynamoDB_") {
		// Drop the checksum, which the server does not compute.
		answer := httptest.NewRecorder()
		a.table.ServeHTTP(answer, r)
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
		return
	}
	if a.secret != nil && stacktest.Serves(r) {
		a.secret.ServeHTTP(w, r)
		return
	}
	switch {
	case a.more[target] != nil:
		a.mu.Lock()
		defer a.mu.Unlock()
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_ = json.NewEncoder(w).Encode(a.more[target](body))
	case target == "AmazonSQS.SendMessageBatch":
		var in struct {
			QueueUrl string
			Entries  []struct{ Id, MessageBody string }
		}
		_ = json.Unmarshal(body, &in)
		var successful []map[string]string
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, e := range in.Entries {
			a.sent = append(a.sent, path.Base(in.QueueUrl)+" "+e.MessageBody)
			sum := md5.Sum([]byte(e.MessageBody))
			successful = append(successful, map[string]string{
				"Id": e.Id, "MessageId": e.Id, "MD5OfMessageBody": hex.EncodeToString(sum[:]),
			})
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_ = json.NewEncoder(w).Encode(map[string]any{"Successful": successful})
	case target == "AmazonSQS.ReceiveMessage", target == "AmazonSQS.DeleteMessage",
		target == "AmazonSQS.ChangeMessageVisibility":
		a.receive(w, target, body)
	case target == "secretsmanager.GetSecretValue":
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(map[string]any{"SecretString": completionKeys})
	case bytes.Contains(body, []byte("Action=DescribeStacks")):
		writeStack(w, a.outputs)
	default:
		w.WriteHeader(http.StatusBadRequest)
	}
}

// receive serves the receiver of the jobs queue.
func (a *account) receive(w http.ResponseWriter, target string, body []byte) {
	var in struct{ QueueUrl, ReceiptHandle string }
	_ = json.Unmarshal(body, &in)
	out := map[string]any{}
	a.mu.Lock()
	switch {
	case target == "AmazonSQS.DeleteMessage":
		a.deleted = append(a.deleted, in.ReceiptHandle)
	case target == "AmazonSQS.ReceiveMessage" && path.Base(in.QueueUrl) == "jobs" && len(a.waiting) > 0:
		sum := md5.Sum([]byte(a.waiting[0]))
		out["Messages"] = []any{map[string]any{
			"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": a.waiting[0], "MD5OfBody": hex.EncodeToString(sum[:]),
			"Attributes": map[string]string{"ApproximateReceiveCount": "1"},
		}}
		a.waiting = a.waiting[1:]
	}
	a.mu.Unlock()
	if target == "AmazonSQS.ReceiveMessage" && len(out) == 0 {
		time.Sleep(20 * time.Millisecond)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	_ = json.NewEncoder(w).Encode(out)
}

// inAccount makes the command line use an account, and returns its table.
func inAccount(t *testing.T) (*account, *jobtable.Table) {
	t.Helper()
	a := &account{table: minidyn.NewServer()}
	return a, a.create(t, useAWS(t, a))
}

// create creates the stack and the table of an account at a URL.
func (a *account) create(t *testing.T, url string) *jobtable.Table {
	t.Helper()
	a.outputs = map[string]string{
		"JobsTableName":       "jobs",
		"CompletionSecretArn": "arn:aws:secretsmanager:eu-central-1:111122223333:secret:completion",
		"JobsQueueUrl":        url + "/111122223333/jobs", "ResultsQueueUrl": url + "/111122223333/results",
	}
	client := dynamodb.NewFromConfig(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &url,
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
	if _, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
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
			IndexName: aws.String(dynamotable.Index),
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String("call"), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String("created"), KeyType: types.KeyTypeRange},
			},
			Projection: &types.Projection{
				ProjectionType:   types.ProjectionTypeInclude,
				NonKeyAttributes: []string{"state", "tool", "progress", "wake", "updated"},
			},
		}, {
			IndexName:  aws.String(dynamotable.RecentIndex),
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String("shard"), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String("first"), KeyType: types.KeyTypeRange},
			},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	a.client = client
	return jobtable.New(dynamotable.New(client, "jobs"))
}

// calls returns the records of calls.
func (a *account) calls(t *testing.T) jobtable.Store[job.CallRecord] {
	t.Helper()
	return dynamotable.New(a.client, "jobs").Calls()
}

// waiting stores a job of an earlier version that waits for an external completion.
func waiting(t *testing.T, table *jobtable.Table, callID, toolCallID string) {
	t.Helper()
	waitingAs(t, table, job.EarlierID(callID, toolCallID), callID, toolCallID)
}

// waitingAs stores a job with an id that waits for an external completion.
func waitingAs(t *testing.T, table *jobtable.Table, id, callID, toolCallID string) {
	t.Helper()
	j := job.Job{
		ID: id, ToolCallID: toolCallID, Tool: "approval",
		Arguments:  json.RawMessage(`{"subject":"planted argument"}`),
		Call:       job.Call{ID: callID, CustomerNumber: "+15550100100", ControlURL: "https://x.vapi.ai/planted/control"},
		ReceivedAt: time.Now(), CallEnds: time.Now().Add(time.Hour),
	}
	record := job.NewRecord(j, job.Policy{}, time.Now().Add(48*time.Hour), "m", time.Now(), time.Minute)
	r, err := table.Claim(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = table.ChangeClaimed(t.Context(), r, job.Suspend(time.Now(), j, time.Time{}, true, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Change(t.Context(), r.ID, job.AddProgress(time.Now(), "half \x1b[31mway\nthere")); err != nil {
		t.Fatal(err)
	}
}

func TestJobsOfADeployment(t *testing.T) {
	a, table := inAccount(t)
	jobs := func(code int, more ...string) (out, errOut string) {
		t.Helper()
		out, errOut = runs(t, append(append([]string{"jobs"}, more...), "--stack", "Ringback"), code)
		for _, never := range []string{"/control", "5550100", "\x1b"} {
			if strings.Contains(out+errOut, never) {
				t.Errorf("the output contains %q:\n%s%s", never, out, errOut)
			}
		}
		return out, errOut
	}
	fails := func(want string, more ...string) {
		t.Helper()
		if out, errOut := jobs(1, more...); out != "" || !strings.Contains(errOut, want) {
			t.Errorf("%q, %q, want %q", out, errOut, want)
		}
	}
	if out, errOut := jobs(0, "list"); out != "" || !strings.Contains(errOut, "There are no jobs.") {
		t.Errorf("%q, %q", out, errOut)
	}
	waiting(t, table, "c1", "a")
	waiting(t, table, "c2", "b")

	out, errOut := jobs(0, "list")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "ID ") ||
		!strings.HasPrefix(lines[1], "c1/a  approval  waiting  2") || !strings.HasSuffix(lines[1], "half [31mway there") {
		t.Errorf("%s%s", out, errOut)
	}
	out, _ = jobs(0, "list", "--call", "c2", "--json")
	var list struct {
		Jobs []struct{ ID, State string }
		All  bool
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Jobs) != 1 ||
		list.Jobs[0].ID != "c2/b" || list.Jobs[0].State != "waiting" || !list.All {
		t.Errorf("%v, %s", err, out)
	}

	for _, data := range []bool{false, true} {
		more := []string{"show", "c1/a"}
		if data {
			more = append(more, "--data")
		}
		out, errOut := jobs(0, more...)
		if !strings.Contains(out, "waits for an external completion  yes\n") ||
			strings.Contains(out, "planted argument") != data {
			t.Errorf("%s%s", out, errOut)
		}
	}
	fails(`there is no job "c1", or its record has expired; see ringback jobs list for the ids`, "show", "c1")

	out, errOut = jobs(0, "cancel", "c1/a", "--reason", "asked by mistake")
	if out != "Cancelled. The caller hears of it now.\n" {
		t.Errorf("%q, %s", out, errOut)
	}
	if len(a.sent) != 2 || a.sent[0] != `jobs {"version":1,"kind":"check","jobId":"c1/a"}` {
		t.Fatalf("sent %q", a.sent)
	}
	sent, _ := strings.CutPrefix(a.sent[1], "results ")
	if o, err := job.DecodeOutcome(sent); err != nil || o.JobID != "c1/a" ||
		o.Result.Status != job.StatusError || o.Call.ControlURL == "" {
		t.Errorf("%+v, %v", o, err)
	}
	if out, _ := jobs(0, "show", "c1/a"); !strings.Contains(out, "cancelled by an operator: asked by mistake") {
		t.Error(out)
	}
	result := job.Result{Status: job.StatusOK, Content: "x", Delivery: policy.DeliveryRespond}
	if _, err := table.Change(t.Context(), "c2/b", job.Complete(time.Now(), result)); err != nil {
		t.Fatal(err)
	}
	fails("cannot cancel the job: it has already finished: on its way", "cancel", "c2/b")
	// A result that is on its way is listed, too.
	out, _ = jobs(0, "list")
	for _, row := range []string{
		`c2/b  approval  on its way +2`, `c1/a  approval  cancelled, on its way +2`,
	} {
		if !regexp.MustCompile(row).MatchString(out) {
			t.Error(out)
		}
	}
	if _, err := table.Change(t.Context(), "c2/b", job.Settle(time.Now(), job.StateDelivered, "")); err != nil {
		t.Fatal(err)
	}
	if out, _ := jobs(0, "list"); strings.Contains(out, "c2/b") {
		t.Errorf("a delivered result is listed:\n%s", out)
	}
	fails(`there is no job "c3/x"`, "cancel", "c3/x")
	a.outputs = nil
	fails("has no output JobsTableName", "list")
}

// TestOperatorSeesNoCallID runs all commands for the jobs of two calls. The ids of the calls are shown only to an
// operator who asks for the content of a job.
func TestOperatorSeesNoCallID(t *testing.T) {
	_, table := inAccount(t)
	const call, next = "planted-call-1", "planted-call-2"
	waits, parked := job.ID(call, "a", "approval", nil), job.ID(call, "b", "approval", nil)
	waitingAs(t, table, waits, call, "a")
	waitingAs(t, table, parked, call, "b")
	for _, rule := range []job.Rule{
		job.Complete(time.Now(), job.Result{Status: job.StatusOK, Content: "planted", Delivery: policy.DeliveryRespond}),
		job.ClaimDelivery(time.Now(), time.Minute),
		job.Settle(time.Now(), job.StateParked, "parked for the customer's next call"),
		job.Unpark(time.Now(), next, time.Now().Add(time.Hour)),
	} {
		if _, err := table.Change(t.Context(), parked, rule); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		arguments []string
		code      int
		shows     []string // the names of the calls in the logs
		ids       []string
	}{
		{arguments: []string{"list"}},
		{arguments: []string{"list", "--json"}},
		{arguments: []string{"list", "--call", call}, shows: []string{"call=" + job.CallHash(call)}},
		{arguments: []string{"list", "--call", call, "--json"}, shows: []string{job.CallHash(call)}},
		{arguments: []string{"list", "--call", "unknown"}, shows: []string{"call=" + job.CallHash("unknown")}},
		{arguments: []string{"show", waits}, shows: []string{job.CallHash(call)}},
		{arguments: []string{"show", parked}, shows: []string{job.CallHash(call), job.CallHash(next)}},
		{arguments: []string{"show", parked, "--json"}, shows: []string{job.CallHash(call), job.CallHash(next)}},
		{arguments: []string{"show", parked, "--data"}, shows: []string{job.CallHash(call)}, ids: []string{call, next}},
		{arguments: []string{"show", parked, "--data", "--json"}, ids: []string{call, next}},
		{arguments: []string{"show", "j_unknown"}, code: 1},
		{arguments: []string{"cancel", waits}},
		{arguments: []string{"cancel", parked}, code: 1},
	} {
		out, errOut := runs(t, append(append([]string{"jobs"}, row.arguments...), "--stack", "Ringback"), row.code)
		all := out + errOut
		for _, part := range append(row.shows, row.ids...) {
			if !strings.Contains(all, part) {
				t.Errorf("%q does not show %s:\n%s", row.arguments, part, all)
			}
		}
		never := []string{"5550100", "/control"}
		if len(row.ids) == 0 {
			never = append(never, "planted")
		}
		for _, part := range never {
			if strings.Contains(all, part) {
				t.Errorf("%q shows %s:\n%s", row.arguments, part, all)
			}
		}
	}
}

// TestJobsOfALocalRun cancels a waiting job.
func TestJobsOfALocalRun(t *testing.T) {
	withoutSettings(t)
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: shop.All, ShopDelay: time.Hour})
	addr := strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/vapi")
	// Both commands find the token of the run by themselves.
	if code, out, errOut := run(t, "send", "../../events/vapi/notify-when-ready.json", "--url", at); code != 0 {
		t.Fatalf("code %d, %s%s", code, out, errOut)
	}
	jobs := func(code int, more ...string) (out, errOut string) {
		t.Helper()
		return runs(t, append(append([]string{"jobs"}, more...), "--local", "--addr", addr), code)
	}
	waits := regexp.MustCompile(`(?m)^(j_\S+)  notify_when_ready  waiting  2`)
	id := ""
	for end := time.Now().Add(patience); id == ""; time.Sleep(5 * time.Millisecond) {
		out, errOut := jobs(0, "list")
		if m := waits.FindStringSubmatch(out); m != nil {
			id = m[1]
		} else if time.Now().After(end) {
			t.Fatalf("no job waits:\n%s%s", out, errOut)
		}
	}
	if out, errOut := jobs(0, "cancel", id); out != "Cancelled. The caller hears of it now.\n" {
		t.Fatalf("%q, %s", out, errOut)
	}
	for delivered := false; !delivered; time.Sleep(20 * time.Millisecond) {
		out, errOut := jobs(0, "show", id, "--json", "--data")
		var d struct {
			State string
			Data  struct{ Result string }
		}
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			t.Fatalf("%v, %s%s", err, out, errOut)
		}
		delivered = d.State == "delivered" && strings.Contains(d.Data.Result, "that request was cancelled")
	}
	if _, errOut := jobs(1, "cancel", id); !strings.Contains(errOut, "has already finished: delivered") {
		t.Error(errOut)
	}
}

func TestJobsRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		arguments []string
		code      int
		err       string
	}{
		"nothing":         {[]string{"list"}, 1, "no deployment is selected; use --stack or --local"},
		"both":            {[]string{"list", "--stack", "Ringback", "--local"}, 80, "can't be used together"},
		"an address only": {[]string{"list", "--addr", "127.0.0.1:1"}, 1, "--addr requires --local"},
		"another machine": {[]string{"list", "--local", "--addr", "192.0.2.1:80"}, 1, "is not an address of this machine"},
		"no local run": {[]string{"list", "--local", "--addr", "127.0.0.1:1"}, 1,
			"cannot reach a local run on 127.0.0.1:1"},
		"no job": {[]string{"cancel", "--local"}, 80, "expected \"<id>\""},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errOut := run(t, append([]string{"jobs"}, row.arguments...)...)
			if code != row.code || out != "" || !strings.Contains(errOut, row.err) {
				t.Errorf("code %d, %q, %q", code, out, errOut)
			}
		})
	}
}
