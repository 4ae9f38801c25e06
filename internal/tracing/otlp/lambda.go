package otlp

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"go.opentelemetry.io/otel/attribute"

	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/secret"
)

// ForLambda returns the provider of a Lambda function. stored opens a stored secret.
func ForLambda(e deployment.Tracing, stored func(id string) secret.Source) (*Provider, error) {
	var headers func(context.Context) (string, error)
	if e.HeadersSecretID != "" {
		headers = stored(e.HeadersSecretID).Get
	}
	return New(Config{
		Tracing: e, StoredHeaders: headers, Service: lambdacontext.FunctionName, Log: slog.Default(),
		Resource: []attribute.KeyValue{
			attribute.String("cloud.provider", "aws"),
			attribute.String("cloud.platform", "aws_lambda"),
			attribute.String("cloud.region", os.Getenv("AWS_REGION")),
			attribute.String("faas.name", lambdacontext.FunctionName),
			attribute.String("faas.version", lambdacontext.FunctionVersion),
		},
	})
}

// Handler handles the messages of a queue.
type Handler interface {
	Handle(context.Context, events.SQSEvent) (events.SQSEventResponse, error)
}

// Flushed is a handler whose spans are exported before it returns, since Lambda freezes a function then.
type Flushed struct {
	Handler Handler
	Spans   *Provider
}

// Handle handles the messages.
func (f Flushed) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	defer f.Spans.Flush(ctx)
	return f.Handler.Handle(ctx, event)
}
