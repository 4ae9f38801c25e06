package ringback

import (
	"encoding/json"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2authorizers"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2integrations"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/deployment"
)

const (
	// WebhookPath is where Vapi posts its webhooks to.
	WebhookPath = deployment.WebhookPath
	// CompletionPath, and a job's token after it, is where whoever a job
	// waits for posts its result to.
	CompletionPath = deployment.CompletionPath
)

// api makes the HTTP API. The functions know its address, so that its routes,
// which know a function, come later.
func (r *Ringback) api() {
	r.API = awsapigatewayv2.NewHttpApi(r.Construct, jsii.String("Api"), &awsapigatewayv2.HttpApiProps{
		ApiName:            jsii.String(r.name),
		Description:        jsii.String("Takes Vapi's webhooks, and the results of jobs that wait for somebody outside."),
		CreateDefaultStage: jsii.Bool(false),
	})
	awsapigatewayv2.NewHttpStage(r.Construct, jsii.String("Stage"), &awsapigatewayv2.HttpStageProps{
		HttpApi:                r.API,
		StageName:              jsii.String("$default"),
		AutoDeploy:             jsii.Bool(true),
		DetailedMetricsEnabled: jsii.Bool(true),
		Throttle: &awsapigatewayv2.ThrottleSettings{
			RateLimit:  jsii.Number(r.props.RateLimit),
			BurstLimit: jsii.Number(r.props.BurstLimit),
		},
		AccessLogSettings: &accessLog{
			destination: awsapigatewayv2.NewLogGroupLogDestination(r.logGroup("AccessLogs")),
			format:      awsapigateway.AccessLogFormat_Custom(jsii.String(accessLogFormat())),
		},
	})
	r.WebhookURL = *r.API.ApiEndpoint() + WebhookPath
	r.CompletionURL = *r.API.ApiEndpoint() + CompletionPath
}

// routes makes the API's two routes, both to the ack function.
func (r *Ringback) routes() {
	ack := awsapigatewayv2integrations.NewHttpLambdaIntegration(jsii.String("Ack"), r.Ack,
		&awsapigatewayv2integrations.HttpLambdaIntegrationProps{
			// A little longer than the function's, whose end is the
			// better error.
			Timeout: seconds(ackTimeout + 1e9),
		})
	route := func(path string) *awsapigatewayv2.AddRoutesOptions {
		return &awsapigatewayv2.AddRoutesOptions{
			Path: jsii.String(path), Methods: &[]awsapigatewayv2.HttpMethod{awsapigatewayv2.HttpMethod_POST}, Integration: ack,
		}
	}
	webhook := route(WebhookPath)
	if jwt := r.props.JWT; jwt != nil {
		webhook.Authorizer = awsapigatewayv2authorizers.NewHttpJwtAuthorizer(jsii.String("Jwt"), jsii.String(jwt.Issuer),
			&awsapigatewayv2authorizers.HttpJwtAuthorizerProps{JwtAudience: jsii.Strings(jwt.Audience...)})
	}
	r.API.AddRoutes(webhook)
	// No authorizer: who completes a job has no token but the one in the path,
	// which the ack function checks.
	r.API.AddRoutes(route(CompletionPath + "{token}"))
}

// accessLog implements [awsapigatewayv2.IAccessLogSettings].
type accessLog struct {
	destination awsapigatewayv2.IAccessLogDestination
	format      awsapigateway.AccessLogFormat
}

func (a *accessLog) Destination() awsapigatewayv2.IAccessLogDestination { return a.destination }
func (a *accessLog) Format() awsapigateway.AccessLogFormat              { return a.format }

// accessLogFormat names no header, no query and no part of the path that a
// sender chooses: a secret could be in each of them.
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
		panic(err) // strings alone
	}
	return string(format)
}
