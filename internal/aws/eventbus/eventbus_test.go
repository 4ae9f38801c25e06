package eventbus_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/eventbus"
	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
)

// inMemory is an HTTP client whose requests a handler answers, without a network, in simulated time.
type inMemory struct{ http.Handler }

func (m inMemory) Do(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	return w.Result(), nil
}

// answering returns a bus whose service answers like that, and stores the request in asked.
func answering(t *testing.T, status int, answer string, asked *[]byte) *eventbus.Bus {
	t.Helper()
	service := inMemory{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if target := r.Header.Get("X-Amz-Target"); target != "AWSEvents.PutEvents" {
			t.Errorf("the target is %s", target)
		}
		*asked, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	})}
	cloud := functiontest.Load(t, "EVENTBRIDGE", "http://127.0.0.1:1")
	return eventbus.New(
		eventbridge.NewFromConfig(cloud.EventBridge(), func(o *eventbridge.Options) {
			o.Retryer, o.HTTPClient = aws.NopRetryer{}, service
		}),
		"ringback-bus",
	)
}

var undelivered = job.Undelivered{
	JobID: "call/tool-call", ToolCallID: "tool-call", Tool: "weather", CallID: "call", OrgID: "org",
	AssistantID:    "assistant",
	CustomerNumber: "+4930123456", Reason: job.ReasonCallGone, Detail: "404", Status: job.StatusOK,
	Delivery: policy.DeliveryRespond,
	Content:  "<b>Grüße</b> & \"日本\"\n", At: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC),
}

func TestAnnounce(t *testing.T) {
	var asked []byte
	bus := answering(t, http.StatusOK, `{"FailedEntryCount":0,"Entries":[{"EventId":"e"}]}`, &asked)
	if err := bus.SendUndelivered(t.Context(), undelivered); err != nil {
		t.Fatal(err)
	}
	type entry struct {
		EventBusName, Source, DetailType, Detail string
		Time                                     float64 // seconds since 1970
	}
	var in struct{ Entries []entry }
	if err := json.Unmarshal(asked, &in); err != nil || len(in.Entries) != 1 {
		t.Fatalf("%v: %s", err, asked)
	}
	got := in.Entries[0]
	var detail job.Undelivered
	if err := json.Unmarshal([]byte(got.Detail), &detail); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(undelivered, detail); diff != "" {
		t.Errorf("detail (-want +got):\n%s", diff)
	}
	got.Detail = ""
	want := entry{
		EventBusName: "ringback-bus", Source: "ringback", DetailType: "undelivered", Time: float64(undelivered.At.Unix()),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
}

// TestDetailNames tests the names in the detail, which users' rules and targets depend on.
func TestDetailNames(t *testing.T) {
	var asked []byte
	bus := answering(t, http.StatusOK, `{"FailedEntryCount":0,"Entries":[{"EventId":"e"}]}`, &asked)
	if err := bus.SendUndelivered(t.Context(), undelivered); err != nil {
		t.Fatal(err)
	}
	var in struct{ Entries []struct{ Detail string } }
	var got map[string]any
	if err := json.Unmarshal(asked, &in); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(in.Entries[0].Detail), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"jobId": "call/tool-call", "toolCallId": "tool-call", "tool": "weather", "callId": "call", "orgId": "org",
		"assistantId":    "assistant",
		"customerNumber": "+4930123456", "why": "call_gone", "detail": "404", "status": "ok", "delivery": "respond",
		"content": "<b>Grüße</b> & \"日本\"\n", "at": "2026-07-01T12:00:00Z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("detail (-want +got):\n%s", diff)
	}
}

func TestSendUndeliveredFails(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		answer string
		says   string
	}{
		"the entry is refused": {
			answer: `{"FailedEntryCount":1,"Entries":[{"ErrorCode":"ThrottlingException","ErrorMessage":"slow down"}]}`,
			says:   "ThrottlingException: slow down",
		},
		"without a message": {
			answer: `{"FailedEntryCount":1,"Entries":[{"ErrorCode":"InternalFailure"}]}`, says: "InternalFailure",
		},
		"without a reason": {answer: `{"FailedEntryCount":1,"Entries":[{}]}`, says: "without a reason"},
		"the bus is missing": {
			status: http.StatusBadRequest, answer: `{"__type":"ResourceNotFoundException","message":"no such bus"}`,
			says: "ResourceNotFoundException",
		},
		"the service is down": {status: http.StatusServiceUnavailable, answer: `down`, says: "503"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []byte
			status := row.status
			if status == 0 {
				status = http.StatusOK
			}
			err := answering(t, status, row.answer, &asked).SendUndelivered(t.Context(), undelivered)
			if err == nil || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), "ringback-bus") {
				t.Fatalf("error %v, want one that names the bus and says %q", err, row.says)
			}
			if strings.Contains(err.Error(), undelivered.CustomerNumber) || strings.Contains(err.Error(), "Grüße") {
				t.Errorf("the error quotes the event: %v", err)
			}
		})
	}
}
