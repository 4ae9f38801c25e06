package ringback

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/deployment"
)

// tracing returns where the functions send their spans.
func (p *Props) tracing() deployment.Tracing {
	return deployment.Tracing{
		Exporter: deployment.Exporter(p.OTEL), Endpoint: p.OTELEndpoint, HeadersSecretID: arnOf(p.OTELHeadersSecret),
	}
}

func (p *Props) checkTracing() error {
	endpoint := p.written("OTELEndpoint")
	switch {
	case p.OTEL != "" && p.OTEL != string(deployment.ExporterXRay):
		return fmt.Errorf("%s is %q; it must be %s", p.written("OTEL"), p.OTEL, deployment.ExporterXRay)
	case p.OTEL != "" && p.OTELEndpoint != "":
		return fmt.Errorf("%s and %s exclude each other: spans go to X-Ray, or to a collector", p.written("OTEL"), endpoint)
	case p.OTELHeadersSecret != nil && p.OTELEndpoint == "":
		return fmt.Errorf("%s needs %s, to which the headers are sent", p.written("OTELHeadersSecret"), endpoint)
	case p.OTELEndpoint == "" || *awscdk.Token_IsUnresolved(p.OTELEndpoint):
		return nil
	}
	if err := deployment.CheckEndpoint(p.OTELEndpoint); err != nil {
		return fmt.Errorf("%s is %q; it %w", endpoint, p.OTELEndpoint, err)
	}
	return nil
}

// queries saves queries of the functions' logs. Their placeholders are replaced by hand.
func (r *Ringback) queries() {
	groups := []any{r.ackLogs.LogGroupName(), r.processLogs.LogGroupName(), r.callbackLogs.LogGroupName()}
	for _, q := range []struct{ id, name, filter string }{
		{"CallQuery", "what happened to this call", `call = "the name of the call: ringback jobs list --call ID"`},
		{"JobQuery", "what happened to this job", `job = "j_…"`},
		{"ToolQuery", "what happened to this tool", `tool = "order_status"`},
	} {
		awslogs.NewCfnQueryDefinition(r.Construct, jsii.String(q.id), &awslogs.CfnQueryDefinitionProps{
			Name:          jsii.String(r.name + "/" + q.name),
			LogGroupNames: &groups,
			QueryString:   jsii.String(deployment.LogQuery(q.filter)),
		})
	}
}
