package sqsqueue_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/sqsqueue"
)

const queueARN = "arn:aws:sqs:eu-central-1:123456789012:jobs"

// TestSource receives a message and deletes it. The message is as Lambda passes it to a function.
func TestSource(t *testing.T) {
	var requests []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests = append(requests, strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")+" "+string(body))
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		if len(requests) > 2 {
			fail(w, http.StatusForbidden, "AccessDenied")
			return
		}
		if !strings.HasPrefix(requests[len(requests)-1], "ReceiveMessage") {
			io.WriteString(w, "{}")
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"Messages": []any{map[string]any{
			"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": "x", "MD5OfBody": "9dd4e461268c8034f5c8564e155c67a6",
			"Attributes": map[string]string{"ApproximateReceiveCount": "2", "SentTimestamp": "1"},
		}}})
	}))
	defer server.Close()
	s := sqsqueue.NewSource(sqs.NewFromConfig(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	}), queueURL, queueARN)
	messages, err := s.Receive(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	want := []events.SQSMessage{{
		MessageId: "m-1", ReceiptHandle: "r-1", Body: "x", Md5OfBody: "9dd4e461268c8034f5c8564e155c67a6",
		Attributes:     map[string]string{"ApproximateReceiveCount": "2", "SentTimestamp": "1"},
		EventSourceARN: queueARN, EventSource: "aws:sqs", AWSRegion: "eu-central-1",
	}}
	if diff := cmp.Diff(want, messages); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	if err := s.Delete(t.Context(), "r-1"); err != nil {
		t.Error(err)
	}
	wantRequests := []string{
		`ReceiveMessage {"MaxNumberOfMessages":10,"MessageSystemAttributeNames":["All"],"QueueUrl":"` + queueURL +
			`","WaitTimeSeconds":20}`,
		`DeleteMessage {"QueueUrl":"` + queueURL + `","ReceiptHandle":"r-1"}`,
	}
	if diff := cmp.Diff(wantRequests, requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if _, err := s.Receive(t.Context(), 1); err == nil || !strings.Contains(err.Error(), queueURL) {
		t.Errorf("the error is %v", err)
	}
	if err := s.Delete(t.Context(), "r-1"); err == nil || !strings.Contains(err.Error(), queueURL) {
		t.Errorf("the error is %v", err)
	}
}
