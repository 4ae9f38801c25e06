// Package otlp exports spans in OpenTelemetry's protocol: to a collector, or to AWS X-Ray's daemon. Only assemblers
// import it, as it links OpenTelemetry's SDK.
//
// An export may get lost, and must not delay a tool call: it is not repeated, and is bounded by [Timeout].
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/tracing"
)

// Timeout bounds an export, and [Provider.Flush].
const Timeout = time.Second

// Config configures a [Provider].
type Config struct {
	deployment.Tracing

	// StoredHeaders returns the headers in the form of Headers, which is then empty. It is called for each export. It
	// may be nil.
	StoredHeaders func(context.Context) (string, error)

	Service  string               // the name of the service, unless OTEL_SERVICE_NAME is set
	Resource []attribute.KeyValue // further attributes of it

	Log *slog.Logger // nil means slog.Default()
}

// Provider makes the tracer whose spans are exported. A nil *Provider is valid, and exports nothing.
type Provider struct{ provider *sdk.TracerProvider }

// New returns a provider. It is nil if nothing is configured.
func New(cfg Config) (*Provider, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	var client otlptrace.Client
	var processor func(sdk.SpanExporter) sdk.SpanProcessor
	sampler := sdk.AlwaysSample()
	var err error
	switch {
	case cfg.XRay():
		// A datagram takes no time, and need not wait for others. X-Ray keeps no part of a trace that it does not sample.
		client, err = newDaemon(cfg.DaemonAddress)
		processor, sampler = sdk.NewSimpleSpanProcessor, sdk.ParentBased(sdk.AlwaysSample())
	case cfg.Endpoint != "":
		client, err = newCollector(cfg)
		processor = func(e sdk.SpanExporter) sdk.SpanProcessor {
			return sdk.NewBatchSpanProcessor(e, sdk.WithExportTimeout(Timeout))
		}
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, err
	}
	// The environment has OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES. It takes precedence.
	attributes := append([]attribute.KeyValue{attribute.String("service.name", cfg.Service)}, cfg.Resource...)
	described, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attributes...),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return &Provider{sdk.NewTracerProvider(
		sdk.WithResource(described), sdk.WithSampler(sampler), sdk.WithSpanProcessor(processor(logged{exporter, cfg.Log})),
	)}, nil
}

// Tracer returns the tracer. It is nil if nothing is exported.
func (p *Provider) Tracer() trace.Tracer {
	if p == nil {
		return nil
	}
	return p.provider.Tracer(tracing.Scope)
}

// Flush exports what has ended. It takes no longer than [Timeout], and ends a moment before the deadline of ctx.
func (p *Provider) Flush(ctx context.Context) {
	if p == nil {
		return
	}
	bounded, cancel := bound(ctx)
	defer cancel()
	_ = p.provider.ForceFlush(bounded) // the exporter logs the error
}

// Shutdown exports what has ended, and stops. It takes no longer than [Timeout].
func (p *Provider) Shutdown(ctx context.Context) {
	if p == nil {
		return
	}
	bounded, cancel := bound(ctx)
	defer cancel()
	_ = p.provider.Shutdown(bounded)
}

// bound bounds a flush. It does not end with ctx, but leaves the caller a part of its time.
func bound(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := Timeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/2)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), timeout)
}

// logged logs why spans cannot be exported.
type logged struct {
	sdk.SpanExporter
	log *slog.Logger
}

func (l logged) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := l.SpanExporter.ExportSpans(ctx, spans)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	if err != nil {
		l.log.WarnContext(ctx, "cannot export spans; dropping them", "spans", len(spans), "error", err)
	}
	return nil
}
