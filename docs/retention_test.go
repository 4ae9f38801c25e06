package docs_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/job"
)

// TestCopiesOfPersonalData compares the table of copies with the template and the code: the figures, and that
// each kind of resource which stores data has its rows.
func TestCopiesOfPersonalData(t *testing.T) {
	_, section, found := strings.Cut(read(t, "security.md"), "\n## Copies of personal data\n")
	section, _, ends := strings.Cut(section, "\n### ")
	if !found || !ends {
		t.Fatal("security.md has no table of copies")
	}
	rows := make(map[string]string)
	for line := range strings.Lines(section) {
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | "); len(cells) == 3 {
			rows[strings.TrimSpace(cells[0])] = cells[2]
		}
	}
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(read(t, "../infra/ringback/testdata/template.json")), &template); err != nil {
		t.Fatal(err)
	}
	// An empty list means that such a resource stores no data of calls.
	stores := map[string][]string{
		"AWS::SQS::Queue":                 {"jobs queues, results queue (SQS)", "dead-letter queues (SQS)"},
		"AWS::DynamoDB::Table":            {"records of unsettled jobs (DynamoDB)", "records of settled jobs (DynamoDB)"},
		"AWS::Events::EventBus":           {"event bus (EventBridge)"},
		"AWS::SNS::Topic":                 {"e-mails (SNS), with `undeliveredEmail`"},
		"AWS::Logs::LogGroup":             {"logs of the functions (CloudWatch)", "access log of the API (CloudWatch)"},
		"AWS::Lambda::Function":           {"memory of the functions (Lambda)", "traces (X-Ray)"},
		"AWS::Scheduler::ScheduleGroup":   {"schedules (EventBridge Scheduler)"},
		"AWS::Scheduler::Schedule":        nil, // the daily sweep
		"AWS::ApiGatewayV2::Api":          nil,
		"AWS::ApiGatewayV2::Authorizer":   nil,
		"AWS::ApiGatewayV2::Integration":  nil,
		"AWS::ApiGatewayV2::Route":        nil,
		"AWS::ApiGatewayV2::Stage":        nil,
		"AWS::CloudWatch::Alarm":          nil,
		"AWS::CloudWatch::Dashboard":      nil,
		"AWS::Events::Rule":               nil,
		"AWS::IAM::Policy":                nil,
		"AWS::IAM::Role":                  nil,
		"AWS::KMS::Alias":                 nil,
		"AWS::KMS::Key":                   nil,
		"AWS::Lambda::EventSourceMapping": nil,
		"AWS::Lambda::Permission":         nil,
		"AWS::Logs::MetricFilter":         nil,
		"AWS::Logs::QueryDefinition":      nil,
		"AWS::SNS::Subscription":          nil,
		"AWS::SNS::TopicPolicy":           nil,
		"AWS::SQS::QueuePolicy":           nil,
		"AWS::SecretsManager::Secret":     nil,
	}
	want := map[string]string{
		"records of settled jobs (DynamoDB)":                     fmt.Sprintf("%d days", job.Retention/(24*time.Hour)),
		"records of calls and customers (DynamoDB)":              fmt.Sprintf("%d days", job.Retention/(24*time.Hour)),
		"records of unsettled jobs (DynamoDB)":                   fmt.Sprintf("%d days", job.ParkedTime/(24*time.Hour)),
		"backups of the table (DynamoDB point-in-time recovery)": "35 days", // AWS's default
		"event bus (EventBridge)":                                "The stack makes no archive",
	}
	for name, r := range template.Resources {
		kinds, known := stores[r.Type]
		if !known {
			t.Errorf("%s: does a %s store data of calls? If so, it needs a row in security.md", name, r.Type)
		}
		for _, kind := range kinds {
			if rows[kind] == "" {
				t.Errorf("security.md has no row %q", kind)
			}
		}
		var p struct {
			MessageRetentionPeriod           int
			RetentionInDays                  int
			PointInTimeRecoverySpecification struct {
				PointInTimeRecoveryEnabled bool
				RecoveryPeriodInDays       int
			}
		}
		if slices.Contains([]string{"AWS::SQS::Queue", "AWS::Logs::LogGroup", "AWS::DynamoDB::Table"}, r.Type) {
			if err := json.Unmarshal(r.Properties, &p); err != nil {
				t.Fatal(err)
			}
		}
		switch r.Type {
		case "AWS::SQS::Queue":
			kind := kinds[0]
			if strings.Contains(name, "DeadLetters") {
				kind = kinds[1]
			}
			want[kind] = fmt.Sprintf("%d days at the longest", p.MessageRetentionPeriod/(24*60*60))
		case "AWS::Logs::LogGroup":
			for _, kind := range kinds {
				want[kind] = fmt.Sprintf("%d days", p.RetentionInDays)
			}
		case "AWS::DynamoDB::Table":
			pitr := p.PointInTimeRecoverySpecification
			if !pitr.PointInTimeRecoveryEnabled || pitr.RecoveryPeriodInDays != 0 {
				t.Errorf("the backups are not AWS's default: %+v", pitr)
			}
		}
	}
	for row, text := range want {
		if !strings.Contains(rows[row], text) {
			t.Errorf("the row %q says %q, want %q", row, rows[row], text)
		}
	}
}
