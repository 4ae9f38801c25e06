package function

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// Start starts the function whose handler build makes, and does not come
// back. What is logged goes where Lambda takes it, as it wants it. A function
// that cannot be built says why, and ends.
func Start[In, Out any, H interface {
	Handle(context.Context, In) (Out, error)
}](build func() (H, error)) {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	handler, err := build()
	if err != nil {
		slog.Error("the function cannot start", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler.Handle)
}
