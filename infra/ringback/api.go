package ringback

import (
	"encoding/json"
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
	r.API = awsapigatewayv2.NewHttpApi(r.Construct, jsii.String("Api"), &awsapigatewayv2.HttpApiProps{
		ApiName:            jsii.String(r.name),
		Description:        jsii.String("Receives Vapi's webhooks, and the results that external systems post."),
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
	}
	r.API.AddRoutes(webhook)
	// No authorizer: the only token of an external completion is the one in the
	// path, which the ack function verifies.
	r.API.AddRoutes(route(CompletionPath + "{token}"))
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
