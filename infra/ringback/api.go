package ringback

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2authorizers"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2integrations"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/deployment"
)

const (
	// WebhookPath is the path that receives Vapi's webhooks.
	WebhookPath = deployment.WebhookPath
	// CompletionPath, followed by a job's completion token, is the path to
	// which an external system posts the job's result.
	CompletionPath = deployment.CompletionPath
)

// api creates the HTTP API without its routes. The functions need the API's
// address, and the routes need a function: see routes.
func (r *Ringback) api() {
	custom := r.props.DomainName != ""
	props := awsapigatewayv2.HttpApiProps{
		ApiName:            jsii.String(r.name),
		Description:        jsii.String("Receives Vapi's webhooks, and the results that external systems post."),
		CreateDefaultStage: jsii.Bool(false),
	}
	if custom && !r.props.KeepExecuteAPIEndpoint {
		props.DisableExecuteApiEndpoint = jsii.Bool(true)
	}
	r.API = awsapigatewayv2.NewHttpApi(r.Construct, jsii.String("Api"), &props)
	accessLogs := ""
	if r.props.VendedLogs {
		accessLogs = "/aws/vendedlogs/" + r.name + "/access"
	}
	r.accessLogs = r.logGroup("AccessLogs", accessLogs)
	r.stage = awsapigatewayv2.NewHttpStage(r.Construct, jsii.String("Stage"), &awsapigatewayv2.HttpStageProps{
		HttpApi:                r.API,
		StageName:              jsii.String("$default"),
		AutoDeploy:             jsii.Bool(true),
		DetailedMetricsEnabled: jsii.Bool(true),
		// For routes that an operator adds.
		Throttle: &awsapigatewayv2.ThrottleSettings{
			RateLimit:  jsii.Number(r.props.RateLimit),
			BurstLimit: jsii.Number(r.props.BurstLimit),
		},
		AccessLogSettings: &accessLog{
			destination: awsapigatewayv2.NewLogGroupLogDestination(r.accessLogs),
			format:      awsapigateway.AccessLogFormat_Custom(jsii.String(accessLogFormat())),
		},
	})
	var address string
	if custom {
		domain := awsapigatewayv2.NewDomainName(r.Construct, jsii.String("Domain"), &awsapigatewayv2.DomainNameProps{
			DomainName: jsii.String(r.props.DomainName), Certificate: r.props.Certificate,
			SecurityPolicy: awsapigatewayv2.SecurityPolicy_TLS_1_2,
		})
		awsapigatewayv2.NewApiMapping(r.Construct, jsii.String("DomainMapping"), &awsapigatewayv2.ApiMappingProps{
			Api: r.API, DomainName: domain, Stage: r.stage,
		})
		r.DomainTarget = *domain.RegionalDomainName()
		address = "https://" + r.props.DomainName
	} else {
		address = *r.API.ApiEndpoint()
	}
	r.WebhookURL = address + WebhookPath
	r.CompletionURL = address + CompletionPath
}

var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkDomain returns an error if the custom domain is incomplete or invalid.
// CloudFormation would notice only in the middle of a deployment.
func (p *Props) checkDomain() error {
	name, certificate := p.written("DomainName"), p.written("Certificate")
	if p.Certificate != nil {
		if err := certificateKind.check(certificate, *p.Certificate.CertificateArn()); err != nil {
			return err
		}
	}
	switch {
	case p.DomainName == "" && p.Certificate != nil:
		return fmt.Errorf("%s needs %s; set both, or none", certificate, name)
	case p.DomainName == "" && p.KeepExecuteAPIEndpoint:
		return fmt.Errorf("%s needs %s, without which that endpoint is the only one",
			p.written("KeepExecuteAPIEndpoint"), name)
	case p.DomainName == "":
		return nil
	case len(p.DomainName) > 253 || !hostName.MatchString(p.DomainName):
		return fmt.Errorf("%s is %q; it must be a host name in lower case, such as ringback.example.com", name, p.DomainName)
	case p.Certificate == nil:
		return fmt.Errorf("%s needs %s; set both, or none", name, certificate)
	}
	return nil
}

// routes creates the API's two routes, both to the ack function.
func (r *Ringback) routes() {
	ack := awsapigatewayv2integrations.NewHttpLambdaIntegration(jsii.String("Ack"), r.Ack,
		&awsapigatewayv2integrations.HttpLambdaIntegrationProps{
			// The function's own timeout is the better error, so it comes first.
			Timeout: seconds(r.ackTimeout() + time.Second),
		})
	route := func(path string) *awsapigatewayv2.AddRoutesOptions {
		return &awsapigatewayv2.AddRoutesOptions{
			Path:        jsii.String(path),
			Methods:     &[]awsapigatewayv2.HttpMethod{awsapigatewayv2.HttpMethod_POST},
			Integration: ack,
		}
	}
	webhook := route(WebhookPath)
	if jwt := r.props.JWT; jwt != nil {
		webhook.Authorizer = awsapigatewayv2authorizers.NewHttpJwtAuthorizer(
			jsii.String("Jwt"), jsii.String(jwt.Issuer),
			&awsapigatewayv2authorizers.HttpJwtAuthorizerProps{JwtAudience: jsii.Strings(jwt.Audience...)},
		)
		if len(jwt.Scopes) > 0 {
			webhook.AuthorizationScopes = jsii.Strings(jwt.Scopes...)
		}
	}
	made := *r.API.AddRoutes(webhook)
	// No authorizer: the only token of an external completion is the one in the
	// path, which the ack function verifies.
	made = append(made, *r.API.AddRoutes(route(CompletionPath + "{token}"))...)

	// Each route has a throttle of its own, so that a flood of one does not stop the
	// other.
	stage := r.stage.Node().DefaultChild().(awsapigatewayv2.CfnStage)
	limits := func(rate float64, burst int) map[string]any {
		return map[string]any{
			"ThrottlingRateLimit": rate, "ThrottlingBurstLimit": burst, "DetailedMetricsEnabled": true,
		}
	}
	stage.SetRouteSettings(map[string]any{
		deployment.WebhookRoute:    limits(r.props.RateLimit, r.props.BurstLimit),
		deployment.CompletionRoute: limits(r.props.CompletionRateLimit, r.props.CompletionBurstLimit),
	})
	for _, route := range made {
		// API Gateway refuses the settings of a route that does not exist yet.
		stage.AddResourceDependency(route.Node().DefaultChild().(awsapigatewayv2.CfnRoute), nil)
	}
}

// accessLog implements [awsapigatewayv2.IAccessLogSettings].
type accessLog struct {
	destination awsapigatewayv2.IAccessLogDestination
	format      awsapigateway.AccessLogFormat
}

func (a *accessLog) Destination() awsapigatewayv2.IAccessLogDestination { return a.destination }
func (a *accessLog) Format() awsapigateway.AccessLogFormat              { return a.format }

// accessLogFormat contains no header, no query and no part of the path that a
// sender chooses, because each of them could contain a secret.
func accessLogFormat() string {
	format, err := json.Marshal(map[string]string{
		"time":               "$context.requestTime",
		"requestId":          "$context.requestId",
		"sourceIp":           "$context.identity.sourceIp",
		"route":              "$context.routeKey",
		"status":             "$context.status",
		"protocol":           "$context.protocol",
		"responseLength":     "$context.responseLength",
		"responseLatency":    "$context.responseLatency",
		"integrationLatency": "$context.integrationLatency",
		"integrationStatus":  "$context.integrationStatus",
		"integrationError":   "$context.integrationErrorMessage",
		"authorizerError":    "$context.authorizer.error",
	})
	if err != nil {
		panic(err) // impossible: only strings
	}
	return string(format)
}
