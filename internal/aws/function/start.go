package function

import (
	"context"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// Start runs a Lambda function with the handler that build returns. It does not return. It makes
// [slog.Default] log in Lambda's format. If build fails, Start logs the error and exits.
//
// The garbage collector lets the memory in use grow threefold, and not twofold, unless the environment sets GOGC: a
// batch of ten messages allocates 2 MB, and little stays in use. It collects sooner near GOMEMLIMIT, whose default is
// three quarters of the function's memory.
func Start[In, Out any, H interface {
	Handle(context.Context, In) (Out, error)
}](build func() (H, error)) {
	memory := lambdacontext.MemoryLimitInMB
	if memory > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(memory) << 20 / 4 * 3)
	}
	if memory > 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	StartRaw(func() (lambda.Handler, error) {
		handler, err := build()
		if err != nil {
			return nil, err
		}
		return lambda.NewHandler(handler.Handle), nil
	})
}

// StartRaw is like [Start], for a handler of the JSON itself.
//
// After the start, the Go runtime uses no more processors than the function's memory pays for, unless the
// environment sets GOMAXPROCS. A function of 512 MB sees two, but has 0.29 of one's time, and would spend a
// quarter of that on handing work from one thread to the other.
func StartRaw(build func() (lambda.Handler, error)) {
	slog.SetDefault(slog.New(durations{lambdacontext.NewLogHandler()}))
	handler, err := build()
	if err != nil {
		slog.Error("cannot start the function", "error", err)
		os.Exit(1)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), processors(lambdacontext.MemoryLimitInMB)))
	}
	lambda.Start(handler)
}

// perProcessor is the memory in MB that comes with the time of one processor (AWS Lambda developer guide, "Memory").
const perProcessor = 1769

// processors returns how many processors a function with this memory in MB can keep busy. Without a memory, as outside
// of Lambda, nothing limits them.
func processors(memory int) int {
	if memory <= 0 {
		return math.MaxInt
	}
	return (memory-1)/perProcessor + 1
}
