package ringback_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/infra/ringback"
)

// TestTracing tests which variables of which functions say where spans go.
func TestTracing(t *testing.T) {
	names := []string{"OTEL", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_HEADERS_SECRET_ID"}
	stack := newStack(t, "Ringback")
	for name, row := range map[string]struct {
		made template
		want string
	}{
		"nowhere": {synthesise(t, ringback.Props{}), ""},
		"X-Ray":   {synthesise(t, ringback.Props{OTEL: "xray"}), "OTEL=xray"},
		"a collector": {
			synthesiseIn(t, stack, ringback.Props{
				OTELEndpoint: "https://collector.example.com",
				OTELHeadersSecret: awssecretsmanager.Secret_FromSecretCompleteArn(
					stack, jsii.String("headers"), jsii.String(secretARN("headers"))),
			}),
			"OTEL_EXPORTER_OTLP_ENDPOINT=https://collector.example.com OTEL_HEADERS_SECRET_ID=" + secretARN("headers"),
		},
	} {
		for function, want := range map[string]string{
			"RingbackAck": "", "RingbackProcess": row.want, "RingbackCallback": row.want,
		} {
			var got []string
			variables := row.made.variables(t, function)
			for _, variable := range names {
				if value, ok := variables[variable]; ok {
					got = append(got, variable+"="+strings.Join(texts(value), ""))
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: %s has %q, want %q", name, function, got, want)
			}
		}
	}
}

// TestQueries tests that the saved queries cover the logs of all functions.
func TestQueries(t *testing.T) {
	made := synthesise(t, ringback.Props{})
	var filters []string
	for id, r := range made.Resources {
		if r.Type != "AWS::Logs::QueryDefinition" {
			continue
		}
		if groups, _ := r.Properties["LogGroupNames"].([]any); len(groups) != 3 {
			t.Errorf("%s reads %v", id, groups)
		}
		filter, _, _ := strings.Cut(r.Properties["QueryString"].(string), " =")
		filters = append(filters, filter)
	}
	slices.Sort(filters)
	if want := []string{"filter call", "filter job", "filter tool"}; !slices.Equal(filters, want) {
		t.Errorf("the queries begin with %q, want %q", filters, want)
	}
}
