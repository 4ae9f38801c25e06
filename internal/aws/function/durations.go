package function

import (
	"context"
	"log/slog"
	"time"
)

// durations is a handler that logs durations in milliseconds, and puts the unit into their names: took becomes
// took_ms. slog's JSON has nanoseconds without a unit.
type durations struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h durations) Handle(ctx context.Context, r slog.Record) error {
	converted := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		converted.AddAttrs(inMilliseconds(a))
		return true
	})
	return h.Handler.Handle(ctx, converted)
}

// WithAttrs implements [slog.Handler].
func (h durations) WithAttrs(attrs []slog.Attr) slog.Handler {
	converted := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		converted[i] = inMilliseconds(a)
	}
	return durations{h.Handler.WithAttrs(converted)}
}

// WithGroup implements [slog.Handler].
func (h durations) WithGroup(name string) slog.Handler { return durations{h.Handler.WithGroup(name)} }

func inMilliseconds(a slog.Attr) slog.Attr {
	if a.Value = a.Value.Resolve(); a.Value.Kind() != slog.KindDuration {
		return a
	}
	return slog.Float64(a.Key+"_ms", float64(a.Value.Duration())/float64(time.Millisecond))
}
