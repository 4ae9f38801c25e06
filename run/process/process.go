// Package process is the Lambda function that runs the tools. It takes jobs from the jobs queues, and
// sends their outcomes to the results queue.
//
//	func main() { process.Run(tools.All) }
package process

import (
	_ "time/tzdata" // the image of a function may have no time zones

	"github.com/caarlos0/env/v11"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/aws/function"
	"github.com/ringback/ringback/internal/aws/processing"
	"github.com/ringback/ringback/internal/aws/secretsmanager"
	"github.com/ringback/ringback/internal/deployment"
	"github.com/ringback/ringback/internal/process"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/internal/tracing/otlp"
)

// Run runs the function with the tools that all returns. It does not return. The construct of
// infra/ringback sets its environment, with the settings of the tools. If all fails, the function does
// not start, and the log has the reason.
func Run(all func() ([]asynctool.Definition, error)) {
	function.Start(func() (otlp.Flushed, error) { return build(all) })
}

func build(all func() ([]asynctool.Definition, error)) (f otlp.Flushed, err error) {
	e, err := env.ParseAs[deployment.Process]()
	if err == nil {
		err = e.Check()
	}
	if err != nil {
		return f, err
	}
	aws, err := function.Load()
	if err != nil {
		return f, err
	}
	// A connection takes longer than all that follows, and each event needs both. On Lambda, a function has more CPU at
	// its start than in its calls.
	defer function.Connecting(aws.ConnectSQS, aws.ConnectDynamoDB)() // waits for them at the end
	definitions, err := all()
	if err != nil {
		return f, err
	}
	set, err := asynctool.NewSet(definitions...)
	if err != nil {
		return f, err
	}
	cfg, err := processing.Config(e, set, processing.Clients{
		SQS: aws.SQS(), DynamoDB: aws.DynamoDB(), SecretsManager: aws.SecretsManager(), Scheduler: aws.Scheduler(),
		KMS: aws.KMS(),
	}, nil)
	if err != nil {
		return f, err
	}
	secrets := secretsmanager.New(aws.SecretsManager())
	stored := func(id string) secret.Source { return secrets.Secret(id) }
	if f.Spans, err = otlp.ForLambda(e.Tracing, stored); err != nil {
		return f, err
	}
	cfg.Tracer = f.Spans.Tracer()
	f.Handler, err = process.New(cfg)
	return f, err
}
