package sqsqueue_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/queue"
)

// TestDeadLetters compares the requests and answers of a dead-letter queue with those of SQS.
func TestDeadLetters(t *testing.T) {
	answers := map[string]string{
		"ReceiveMessage": `{"Messages":[{"MessageId":"m1","ReceiptHandle":"r1","Body":"x",
			"MD5OfBody":"9dd4e461268c8034f5c8564e155c67a6","Attributes":{
			"SentTimestamp":"1750000000123","ApproximateReceiveCount":"18","MessageGroupId":"g",
			"DeadLetterQueueSourceArn":"arn:aws:sqs:eu-central-1:123456789012:long"}},
			{"MessageId":"m2","ReceiptHandle":"r2","Body":"x","MD5OfBody":"9dd4e461268c8034f5c8564e155c67a6",
			"Attributes":{"SentTimestamp":"1750000000000","ApproximateReceiveCount":"1"},"MessageAttributes":{
			"SCHEDULE_ARN":{"DataType":"String","StringValue":"arn:schedule"},
			"ERROR_CODE":{"DataType":"String","StringValue":"AccessDenied"},
			"TARGET_ARN":{"DataType":"String","StringValue":"arn:aws:sqs:eu-central-1:123456789012:jobs"},
			"IS_PAYLOAD_TRUNCATED":{"DataType":"String","StringValue":"false"}}}]}`,
		"DeleteMessage": `{}`,
		"GetQueueAttributes": `{"Attributes":{"ApproximateNumberOfMessages":"3",
			"ApproximateNumberOfMessagesNotVisible":"2"}}`,
	}
	asked := map[string]map[string]any{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		in := map[string]any{}
		_ = json.NewDecoder(r.Body).Decode(&in)
		asked[action] = in
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = io.WriteString(w, answers[action])
	}))
	defer server.Close()
	cloud := functiontest.Load(t, "SQS", server.URL)
	d := sqsqueue.NewDeadLetters(sqs.NewFromConfig(cloud.SQS()), queueURL)

	got, err := d.Receive(t.Context(), 100, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	want := []queue.DeadLetter{{
		ID: "m1", Receipt: "r1", Body: "x", Group: "g", Sent: time.UnixMilli(1750000000123).UTC(), Receives: 18,
		Source: "arn:aws:sqs:eu-central-1:123456789012:long",
	}, {
		ID: "m2", Receipt: "r2", Body: "x", Sent: time.UnixMilli(1750000000000).UTC(), Receives: 1,
		Attributes: map[string]string{
			"SCHEDULE_ARN": "arn:schedule", "ERROR_CODE": "AccessDenied", "IS_PAYLOAD_TRUNCATED": "false",
			"TARGET_ARN": "arn:aws:sqs:eu-central-1:123456789012:jobs",
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
	if code, ok := got[1].Scheduled(); code != "AccessDenied" || !ok || got[1].Truncated() {
		t.Errorf("%q, %t, truncated: %t", code, ok, got[1].Truncated())
	}
	if got[0].From() != want[0].Source || got[1].From() != "arn:aws:sqs:eu-central-1:123456789012:jobs" {
		t.Errorf("from %s and %s", got[0].From(), got[1].From())
	}
	// Without a wait, SQS may miss messages. More than 10 are an error.
	if diff := cmp.Diff(map[string]any{
		"QueueUrl": queueURL, "MaxNumberOfMessages": 10.0, "VisibilityTimeout": 30.0, "WaitTimeSeconds": 1.0,
		"MessageAttributeNames": []any{"All"}, "MessageSystemAttributeNames": []any{"All"},
	}, asked["ReceiveMessage"]); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if err := d.Delete(t.Context(), "r1"); err != nil || asked["DeleteMessage"]["ReceiptHandle"] != "r1" {
		t.Errorf("%v, %v", err, asked["DeleteMessage"])
	}
	if n, err := d.Count(t.Context()); err != nil || n != 5 {
		t.Errorf("%d, %v", n, err)
	}
}
