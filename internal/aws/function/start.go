package function

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// Start runs a Lambda function with the handler that build returns. It does not return. It makes
// [slog.Default] log in Lambda's format. If build fails, Start logs the error and exits.
func Start[In, Out any, H interface {
	Handle(context.Context, In) (Out, error)
}](build func() (H, error)) {
	StartRaw(func() (lambda.Handler, error) {
		handler, err := build()
		if err != nil {
			return nil, err
		}
		return lambda.NewHandler(handler.Handle), nil
	})
}

// StartRaw is like [Start], for a handler of the JSON itself.
func StartRaw(build func() (lambda.Handler, error)) {
	slog.SetDefault(slog.New(durations{lambdacontext.NewLogHandler()}))
	handler, err := build()
	if err != nil {
		slog.Error("cannot start the function", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler)
}
