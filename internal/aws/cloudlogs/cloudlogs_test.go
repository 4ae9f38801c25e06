package cloudlogs_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/cloudlogs"
	"github.com/ringback/ringback/internal/operator"
)

// TestPage compares requests and answers with those of CloudWatch Logs.
func TestPage(t *testing.T) {
	var asked []map[string]any
	answers := []string{
		`{"events":[],"nextToken":"token"}`,
		`{"events":[{"eventId":"e1","timestamp":1750000000123,"message":"line\n","logStreamName":"s"}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") != "Logs_20140328.FilterLogEvents" || len(answers) == 0 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type":"ResourceNotFoundException","message":"no such group"}`)
			return
		}
		in := map[string]any{}
		_ = json.NewDecoder(r.Body).Decode(&in)
		asked = append(asked, in)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = io.WriteString(w, answers[0])
		answers = answers[1:]
	}))
	defer server.Close()
	l := cloudlogs.New(cloudwatchlogs.NewFromConfig(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	}))
	since := time.UnixMilli(1749000000000)
	events, next, err := l.Page(t.Context(), "group", `?"a"`, since, "")
	if err != nil || len(events) != 0 || next != "token" {
		t.Errorf("%v, %q, %v", events, next, err)
	}
	events, next, err = l.Page(t.Context(), "group", `?"a"`, since, next)
	want := []operator.LogEvent{{ID: "e1", At: time.UnixMilli(1750000000123).UTC(), Text: "line\n"}}
	if diff := cmp.Diff(want, events); diff != "" || next != "" || err != nil {
		t.Errorf("%s, %q, %v", diff, next, err)
	}
	first := map[string]any{"logGroupName": "group", "filterPattern": `?"a"`, "startTime": 1749000000000.0}
	second := map[string]any{
		"logGroupName": "group", "filterPattern": `?"a"`, "startTime": 1749000000000.0, "nextToken": "token",
	}
	if diff := cmp.Diff([]map[string]any{first, second}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	_, _, err = l.Page(t.Context(), "group", "", since, "")
	if err == nil || !strings.Contains(err.Error(), "log group group") {
		t.Errorf("%v", err)
	}
}
