package cli_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
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

	"github.com/ringback/ringback/internal/aws/dynamotable"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
	"github.com/ringback/ringback/internal/local/dev"
	"github.com/ringback/ringback/tools"
)

// account is an AWS account with a stack, its table and its results queue.
type account struct {
	table   *minidyn.Server
	outputs string

	mu   sync.Mutex
	sent []string // bodies on the results queue
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := r.Header.Get("X-Amz-Target")
	if strings.HasPrefix(target, "DynamoDB_") {
		// Without the checksum that the server does not compute.
		answer := httptest.NewRecorder()
		a.table.ServeHTTP(answer, r)
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
		return
	}
	body, _ := io.ReadAll(r.Body)
	switch {
	case target == "AmazonSQS.SendMessageBatch":
		var in struct {
			Entries []struct{ Id, MessageBody string }
		}
		_ = json.Unmarshal(body, &in)
		var successful []map[string]string
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, e := range in.Entries {
			a.sent = append(a.sent, e.MessageBody)
			sum := md5.Sum([]byte(e.MessageBody))
			successful = append(successful, map[string]string{"Id": e.Id, "MessageId": e.Id, "MD5OfMessageBody": hex.EncodeToString(sum[:])})
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_ = json.NewEncoder(w).Encode(map[string]any{"Successful": successful})
	case bytes.Contains(body, []byte("Action=DescribeStacks")):
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<DescribeStacksResponse><DescribeStacksResult><Stacks><member><Outputs>%s</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>`, a.outputs)
	default:
		w.WriteHeader(http.StatusBadRequest)
	}
}

// inAccount points the command line to an account, and gives its jobs.
func inAccount(t *testing.T) (*account, *jobtable.Table) {
	t.Helper()
	a := &account{table: minidyn.NewServer()}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	for key, value := range map[string]string{"JobsTableName": "jobs", "ResultsQueueUrl": server.URL + "/111122223333/results"} {
		a.outputs += fmt.Sprintf("<member><OutputKey>%s</OutputKey><OutputValue>%s</OutputValue></member>", key, value)
	}
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_PROFILE": "", "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	client := dynamodb.NewFromConfig(aws.Config{Region: "eu-central-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")})
	if _, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("jobs"), BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("call"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("created"), AttributeType: types.ScalarAttributeTypeN},
		},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName: aws.String(dynamotable.Index),
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String("call"), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String("created"), KeyType: types.KeyTypeRange},
			},
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeInclude, NonKeyAttributes: []string{"state", "tool", "progress", "wake", "updated"}},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	return a, jobtable.New(dynamotable.New(client, "jobs"))
}

// waiting makes a job that waits for somebody outside.
func waiting(t *testing.T, table *jobtable.Table, callID, toolCallID string) {
	t.Helper()
	j := job.Job{
		ID: job.ID(callID, toolCallID), ToolCallID: toolCallID, Tool: "approval", Arguments: json.RawMessage(`{"subject":"planted argument"}`),
		Call:       job.Call{ID: callID, CustomerNumber: "+15550100100", ControlURL: "https://x.vapi.ai/planted/control"},
		ReceivedAt: time.Now(), CallEnds: time.Now().Add(time.Hour),
	}
	r, err := table.Claim(t.Context(), job.NewRecord(j, job.Policy{}, time.Now().Add(48*time.Hour), "m", time.Now(), time.Minute))
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
	jobs := func(more ...string) (int, string, string) {
		t.Helper()
		code, out, errOut := run(t, append(append([]string{"jobs"}, more...), "--stack", "Ringback")...)
		for _, never := range []string{"/control", "5550100", "\x1b"} {
			if strings.Contains(out+errOut, never) {
				t.Errorf("%q is shown:\n%s%s", never, out, errOut)
			}
		}
		return code, out, errOut
	}
	if code, out, errOut := jobs("list"); code != 0 || out != "" || !strings.Contains(errOut, "There are none.") {
		t.Errorf("code %d, %q, %q", code, out, errOut)
	}
	waiting(t, table, "c1", "a")
	waiting(t, table, "c2", "b")

	code, out, errOut := jobs("list")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 3 || !strings.HasPrefix(lines[0], "ID ") || !strings.HasPrefix(lines[1], "c1/a  approval  waiting  2") || !strings.HasSuffix(lines[1], "half [31mway there") {
		t.Errorf("code %d\n%s%s", code, out, errOut)
	}
	code, out, _ = jobs("list", "--call", "c2", "--json")
	var list struct {
		Jobs []struct{ ID, State string }
		All  bool
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list.Jobs) != 1 || list.Jobs[0].ID != "c2/b" || list.Jobs[0].State != "waiting" || !list.All {
		t.Errorf("code %d, %v, %s", code, err, out)
	}

	for _, data := range []bool{false, true} {
		more := []string{"show", "c1/a"}
		if data {
			more = append(more, "--data")
		}
		code, out, errOut := jobs(more...)
		if code != 0 || !strings.Contains(out, "waits for somebody outside  yes\n") || strings.Contains(out, "planted argument") != data {
			t.Errorf("code %d\n%s%s", code, out, errOut)
		}
	}
	if code, _, errOut := jobs("show", "c1"); code != 1 || !strings.Contains(errOut, `there is no job "c1", or it was forgotten; a job's id is the call's, a slash, and the tool call's`) {
		t.Errorf("code %d, %s", code, errOut)
	}

	if code, out, errOut := jobs("cancel", "c1/a", "--reason", "asked by mistake"); code != 0 || out != "Cancelled. The caller is told now.\n" {
		t.Errorf("code %d, %q, %s", code, out, errOut)
	}
	if len(a.sent) != 1 {
		t.Fatalf("%d messages are on the results queue", len(a.sent))
	}
	if o, err := job.DecodeOutcome(a.sent[0]); err != nil || o.JobID != "c1/a" || o.Result.Status != job.StatusError || o.Call.ControlURL == "" {
		t.Errorf("%+v, %v", o, err)
	}
	if code, out, _ := jobs("show", "c1/a"); code != 0 || !strings.Contains(out, "cancelled by an operator: asked by mistake") {
		t.Errorf("code %d\n%s", code, out)
	}
	if _, err := table.Change(t.Context(), "c2/b", job.Complete(time.Now(), job.Result{Status: job.StatusOK, Content: "x", Delivery: job.DeliveryRespond})); err != nil {
		t.Fatal(err)
	}
	if code, out, errOut := jobs("cancel", "c2/b"); code != 1 || out != "" || !strings.Contains(errOut, "nothing was cancelled: the job is over already, its state is done") {
		t.Errorf("code %d, %q, %s", code, out, errOut)
	}
	if code, _, errOut := jobs("cancel", "c3/x"); code != 1 || !strings.Contains(errOut, `there is no job "c3/x"`) {
		t.Errorf("code %d, %s", code, errOut)
	}
	a.outputs = ""
	if code, _, errOut := jobs("list"); code != 1 || !strings.Contains(errOut, "has no output JobsTableName") {
		t.Errorf("code %d, %s", code, errOut)
	}
}

// TestJobsOfALocalRun cancels a job that waits.
func TestJobsOfALocalRun(t *testing.T) {
	for _, name := range []string{"ORDERS_API_URL", "STOCK_API_URL", "STOCK_API_TOKEN", "REQUESTS_API_URL"} {
		t.Setenv(name, "")
	}
	at := startDev(t, dev.Config{Addr: "127.0.0.1:0", Tools: tools.All, ShopDelay: time.Hour})
	addr := strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/vapi")
	webhook, err := os.ReadFile("../../events/vapi/notify-when-ready.json")
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(at, "application/json", bytes.NewReader(webhook))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	id := ""
	for end := time.Now().Add(patience); id == "" && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		code, out, errOut := run(t, "jobs", "list", "--local", "--addr", addr)
		if code != 0 {
			t.Fatalf("code %d, %s", code, errOut)
		}
		if m := regexp.MustCompile(`(?m)^(\S+/\S+)  notify_when_ready  waiting  2`).FindStringSubmatch(out); m != nil {
			id = m[1]
		}
	}
	if code, out, errOut := run(t, "jobs", "cancel", id, "--local", "--addr", addr); code != 0 || out != "Cancelled. The caller is told now.\n" {
		t.Fatalf("code %d, %q, %s", code, out, errOut)
	}
	for {
		code, out, errOut := run(t, "jobs", "show", id, "--local", "--addr", addr, "--json", "--data")
		var d struct {
			State string
			Data  struct{ Result string }
		}
		if err := json.Unmarshal([]byte(out), &d); err != nil || code != 0 {
			t.Fatalf("code %d, %v, %s%s", code, err, out, errOut)
		}
		if d.State == "delivered" && strings.Contains(d.Data.Result, "this was cancelled") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if code, _, errOut := run(t, "jobs", "cancel", id, "--local", "--addr", addr); code != 1 || !strings.Contains(errOut, "its state is delivered") {
		t.Errorf("code %d, %s", code, errOut)
	}
}

func TestJobsRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		arguments []string
		code      int
		err       string
	}{
		"nowhere":         {[]string{"list"}, 1, "whose jobs? give --stack, or --local"},
		"both":            {[]string{"list", "--stack", "Ringback", "--local"}, 80, "can't be used together"},
		"an address only": {[]string{"list", "--addr", "127.0.0.1:1"}, 1, "--addr goes with --local"},
		"another machine": {[]string{"list", "--local", "--addr", "192.0.2.1:80"}, 1, "is not an address of this machine"},
		"nobody there":    {[]string{"list", "--local", "--addr", "127.0.0.1:1"}, 1, "no local run answers on 127.0.0.1:1"},
		"no job":          {[]string{"cancel", "--local"}, 80, "expected \"<id>\""},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errOut := run(t, append([]string{"jobs"}, row.arguments...)...)
			if code != row.code || out != "" || !strings.Contains(errOut, row.err) {
				t.Errorf("code %d, %q, %q", code, out, errOut)
			}
		})
	}
}
