package function

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDurations(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(durations{slog.NewJSONHandler(&log, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})})
	logger.With("took", 1500*time.Millisecond, "tool", "weather").WithGroup("next").
		Info("tool finished", "in", 2*time.Minute, "attempt", 2)
	var got map[string]any
	if err := json.Unmarshal(log.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"level": "INFO", "msg": "tool finished", "took_ms": 1500.0, "tool": "weather",
		"next": map[string]any{"in_ms": 120000.0, "attempt": 2.0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
