package listen_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/deployment/listen"
)

type input struct {
	Card string `json:"card"`
}

type tool = asynctool.Tool[input]

func set(t *testing.T, tools ...tool) *asynctool.Set {
	t.Helper()
	all := []asynctool.Definition{asynctool.TaskStatus()}
	for _, x := range tools {
		x.Description = "Does it."
		x.Run = func(context.Context, asynctool.Call, input) (asynctool.Result, error) {
			return asynctool.Text("Done."), nil
		}
		all = append(all, x)
	}
	made, err := asynctool.NewSet(all...)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestStage describes a stage, and reads it again: its environment, and the tools that differ from those of a listener.
func TestStage(t *testing.T) {
	want := deployment.Process{
		JobsQueueURL: "https://sqs/jobs", ResultsQueueURL: "https://sqs/results", JobsTable: "jobs", ScheduleGroup: "group",
		ScheduleRoleARN: "arn:role", JobsQueueARN: "arn:jobs", JobsDLQARN: "arn:dead", CompletionURL: "https://x/results/",
		Completion: deployment.CompletionSecret{ID: "arn:secret"}, MaxJobsPerCall: 50, NextCallAcrossAssistants: true,
	}
	changed := tool{Name: "changed", Timeout: time.Minute, Attempts: 2, Quick: 5 * time.Second}
	changed.AfterCall = asynctool.NextCall
	encoded, err := listen.Describe(want, set(t, tool{Name: "same"}, tool{Name: "gone"}, changed)).Encode()
	if err != nil {
		t.Fatal(err)
	}
	stage, err := listen.Parse(encoded)
	if err != nil {
		t.Fatal(err)
	}
	got, err := stage.Process()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	texts := stage.Differences(set(t, tool{Name: "same"}, tool{Name: "new"},
		tool{Name: "changed", Timeout: 2 * time.Minute, Attempts: 2, Quick: 2 * time.Second, Encrypted: []string{"card"}}))
	wantTexts := []string{
		"AfterCall of changed was next_call, and is not set", "Encrypted of changed was not set, and is card",
		"Quick of changed was 5s, and is 2s", "Timeout of changed was 1m0s, and is 2m0s", "new is new", "gone is gone",
	}
	if diff := cmp.Diff(wantTexts, texts); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}

// TestInvalidStage reads what another version may have written.
func TestInvalidStage(t *testing.T) {
	if _, err := listen.Parse("none"); err == nil {
		t.Error("it is no JSON, and is accepted")
	}
	stage, err := listen.Parse(`{"later":1,"environment":{"JOBS_TABLE":"jobs","LATER":"x"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stage.Process(); err == nil || !strings.Contains(err.Error(), "JOBS_QUEUE_URL") {
		t.Errorf("the error is %v, and a variable is missing", err)
	}
}
