package deployment_test

import (
	"context"
	"encoding"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/secret"
)

var _ encoding.TextUnmarshaler = new(deployment.OnOff)

// TestVariables sets every field, and reads the variables as a function does.
func TestVariables(t *testing.T) {
	ack := deployment.Ack{
		JobsQueueURL: "1", ResultsQueueURL: "2", JobsTable: "3",
		Webhook:    deployment.WebhookSecret{Inline: "4", ID: "5"},
		Completion: deployment.CompletionSecret{Inline: "6", ID: "7"},
		AckText:    "8", NextCall: true,
		QuickTools:       deployment.QuickTools{"stock": 2500 * time.Millisecond, "order_status": 6 * time.Second},
		LongJobsQueueURL: "9", LongTools: []string{"10", "11"},
	}
	traces := deployment.Tracing{
		Exporter: deployment.ExporterXRay, Endpoint: "16", Headers: "17", HeadersSecretID: "18", DaemonAddress: "19",
	}
	process := deployment.Process{
		JobsQueueURL: "1", ResultsQueueURL: "2", JobsTable: "3", ScheduleGroup: "4", ScheduleRoleARN: "5",
		JobsQueueARN: "6", JobsDLQARN: "7", CompletionURL: "8", LongJobsQueueURL: "13", LongJobsQueueARN: "14",
		Completion:     deployment.CompletionSecret{Inline: "9", ID: "10"},
		MaxJobsPerCall: 11, MaxConcurrentJobsPerCall: 12, NextCallAcrossAssistants: true,
		ArgumentKeyARN: "15", ArgumentRetentionDays: 16, ReplayKeyARN: "17", Tracing: traces,
	}
	callback := deployment.Callback{
		ResultsQueueURL: "1", JobsTable: "2", EventBusName: "3", ControlHosts: []string{"4", "5"}, ControlAnyPath: true,
		CallBackPrefixes: []string{"+1", "+49"}, CallBackPerDay: 13,
		PublicKeySecretID: "6",
		ResultText:        "7", PrivateKeySecretID: "8", APIURL: "9", CallBackHours: "10", CallBackZone: "11",
		CallBackAssistantID: "12", CallBackPhoneNumberID: "13",
		Completion: deployment.CompletionSecret{Inline: "14", ID: "15"}, Tracing: traces,
	}
	reads(t, ack)
	reads(t, process)
	reads(t, callback)
}

func reads[E any](t *testing.T, want E) {
	t.Helper()
	variables := deployment.Variables(want, false)
	got, err := env.ParseAsWithOptions[E](env.Options{Environment: variables})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%T (-want +got):\n%s", want, diff)
	}
	// This test must set every field.
	names := deployment.VariableNames(want)
	slices.Sort(names)
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(variables))); diff != "" {
		t.Errorf("%T (-names +variables):\n%s", want, diff)
	}
}

func TestVariablesOfZeroValues(t *testing.T) {
	for _, row := range []struct {
		environment any
		local       []string
	}{
		{deployment.Ack{}, []string{"COMPLETION_KEYS", "WEBHOOK_AUTH"}},
		{deployment.Process{}, []string{"COMPLETION_KEYS"}},
		{deployment.Callback{}, []string{"COMPLETION_KEYS"}},
		{deployment.AWS{}, []string{"AWS_ENDPOINT_URL"}},
	} {
		if got := deployment.Variables(row.environment, false); len(got) > 0 {
			t.Errorf("%T sets %v", row.environment, got)
		}
		got := deployment.Variables(row.environment, true)
		want := make(map[string]string)
		for _, name := range row.local {
			want[name] = ""
		}
		if !maps.Equal(got, want) {
			t.Errorf("%T declares %v, want %v", row.environment, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	callback := func(hours, key string) deployment.Callback {
		return deployment.Callback{
			CallBackHours: hours, PrivateKeySecretID: key, Completion: deployment.CompletionSecret{ID: key},
		}
	}
	ack := func(url string, tools ...string) deployment.Ack {
		return deployment.Ack{LongJobsQueueURL: url, LongTools: tools}
	}
	process := func(url, arn string) deployment.Process {
		return deployment.Process{LongJobsQueueURL: url, LongJobsQueueARN: arn}
	}
	replays := func(days uint16, key string) deployment.Process {
		return deployment.Process{ArgumentRetentionDays: days, ReplayKeyARN: key}
	}
	const onlyOne = "of LONG_JOBS_QUEUE_URL and LONG_JOBS_QUEUE_ARN, only one is set"
	const half = "of ARGUMENT_RETENTION_DAYS and REPLAY_KEY_ARN, only one is set"
	for _, row := range []struct {
		environment interface{ Check() error }
		says        string // what the error names
	}{
		{callback("", ""), ""}, {callback("", "key"), ""}, {callback("09:00-18:00", "key"), ""},
		{callback("09:00-18:00", ""), "CALL_BACK_HOURS is set, and VAPI_PRIVATE_KEY_SECRET_ID is not"},
		{ack(""), ""}, {ack("url"), ""}, {ack("url", "tool"), ""},
		{ack("", "tool"), "LONG_TOOLS is set, and LONG_JOBS_QUEUE_URL is not"},
		{process("", ""), ""}, {process("url", "arn"), ""}, {process("url", ""), onlyOne}, {process("", "arn"), onlyOne},
		{replays(7, "arn"), ""}, {replays(7, ""), half}, {replays(0, "arn"), half},
	} {
		err := row.environment.Check()
		if (err != nil) != (row.says != "") || err != nil && !strings.Contains(err.Error(), row.says) {
			t.Errorf("%+v: %v", row, err)
		}
	}
}

func TestOnOff(t *testing.T) {
	for text, want := range map[string]deployment.OnOff{"on": true, "off": false} {
		got := !want
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want || want.String() != text {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "true", "ON"} {
		if new(deployment.OnOff).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestQuickTools(t *testing.T) {
	for _, text := range []string{"order_status=6s", "a-1=25s,order_status=6s,stock=2.5s"} {
		var got deployment.QuickTools
		if err := got.UnmarshalText([]byte(text)); err != nil || got.String() != text {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "order_status", "order_status=6", "=6s", "a=6s,", "a=0s", "a=-1s"} {
		if new(deployment.QuickTools).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestSource(t *testing.T) {
	stored := func(id string) secret.Source { return secret.Fixed("stored as " + id) }
	for name, row := range map[string]struct {
		inline, id string
		want       string // the secret
		says       string // what the error names
	}{
		"inline":  {inline: "planted", want: "planted"},
		"stored":  {id: "x", want: "stored as x"},
		"both":    {inline: "planted", id: "x", says: "both INLINE and ID are set"},
		"neither": {says: "neither ID nor INLINE is set"},
	} {
		t.Run(name, func(t *testing.T) {
			webhook, webhookErr := deployment.WebhookSecret{Inline: row.inline, ID: row.id}.Source(stored)
			completion, completionErr := deployment.CompletionSecret{Inline: row.inline, ID: row.id}.Source(stored)
			named := strings.NewReplacer("INLINE", "WEBHOOK_AUTH", "ID", "WEBHOOK_SECRET_ID")
			check(t, webhook, webhookErr, row.want, named.Replace(row.says))
			named = strings.NewReplacer("INLINE", "COMPLETION_KEYS", "ID", "COMPLETION_SECRET_ID")
			check(t, completion, completionErr, row.want, named.Replace(row.says))
		})
	}
}

func check(t *testing.T, source secret.Source, err error, want, says string) {
	t.Helper()
	if says != "" {
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "planted") {
			t.Errorf("error %v, want one that says %q and no secret", err, says)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, read := range []func(context.Context) (string, error){source.Get, source.Refresh} {
		if got, err := read(t.Context()); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}
