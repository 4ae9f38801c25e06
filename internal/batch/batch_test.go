package batch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/batch"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/queue"
)

// visibility records the changes of visibility.
type visibility struct {
	mu      sync.Mutex
	changes map[string]time.Duration
	err     error
}

func (v *visibility) ChangeVisibility(_ context.Context, receipt string, d time.Duration) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.changes == nil {
		v.changes = make(map[string]time.Duration)
	}
	v.changes[receipt] = d
	return v.err
}

// from returns the source of messages that come from one queue.
func from(v *visibility) func(events.SQSMessage) batch.Queue {
	return func(events.SQSMessage) batch.Queue { return v }
}

func newEvent(bodies ...string) (event events.SQSEvent) {
	for _, body := range bodies {
		event.Records = append(event.Records, events.SQSMessage{
			MessageId: "m-" + body, ReceiptHandle: "r-" + body, Body: body,
		})
	}
	return event
}

// handle does what the message's body says, which is "good", "panic" or the delay of
// its retry.
func handle(_ context.Context, m events.SQSMessage) *batch.Retry {
	switch {
	case strings.HasPrefix(m.Body, "panic"):
		panic("poison message")
	case strings.HasPrefix(m.Body, "good"):
		return nil
	}
	d, err := time.ParseDuration(m.Body)
	if err != nil {
		panic(err)
	}
	return &batch.Retry{After: d}
}

func TestHandle(t *testing.T) {
	for name, row := range map[string]struct {
		bodies  []string
		err     error // of ChangeVisibility
		failed  []string
		changes map[string]time.Duration
		logged  string
	}{
		"nothing":  {},
		"all good": {bodies: []string{"good-1", "good-2"}},
		"one alone": {
			bodies: []string{"3s"}, failed: []string{"m-3s"}, changes: map[string]time.Duration{"r-3s": 3 * time.Second},
		},
		"each its own": {
			bodies: []string{"0s", "good", "7s", "1m"}, failed: []string{"m-0s", "m-7s", "m-1m"},
			changes: map[string]time.Duration{"r-0s": 0, "r-7s": 7 * time.Second, "r-1m": time.Minute},
		},
		"visibility cannot be changed": {
			bodies: []string{"3s", "good"}, err: errors.New("throttled"), failed: []string{"m-3s"},
			changes: map[string]time.Duration{"r-3s": 3 * time.Second}, logged: "throttled",
		},
		"a panic": {
			bodies: []string{"good", "panic", "3s"}, failed: []string{"m-panic", "m-3s"},
			changes: map[string]time.Duration{"r-panic": time.Second, "r-3s": 3 * time.Second}, logged: "poison message",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			queue := &visibility{err: row.err}
			response := batch.Handle(
				t.Context(), newEvent(row.bodies...), from(queue), slog.New(slog.NewTextHandler(&log, nil)), handle,
			)
			var failed []string
			for _, f := range response.BatchItemFailures {
				failed = append(failed, f.ItemIdentifier)
			}
			if diff := cmp.Diff(row.failed, failed); diff != "" {
				t.Errorf("failures (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(row.changes, queue.changes); diff != "" {
				t.Errorf("visibility (-want +got):\n%s", diff)
			}
			if (log.Len() > 0) != (row.logged != "") || !strings.Contains(log.String(), row.logged) {
				t.Errorf("the log lacks %q:\n%s", row.logged, log.String())
			}
		})
	}
}

// TestHandleConcurrently tests that no message waits for another one. Each handler ends
// only after all have begun.
func TestHandleConcurrently(t *testing.T) {
	var begun sync.WaitGroup
	begun.Add(10)
	bodies := make([]string, 10)
	for i := range bodies {
		bodies[i] = fmt.Sprint(i)
	}
	response := batch.Handle(t.Context(), newEvent(bodies...), from(new(visibility)), slog.New(slog.DiscardHandler), func(
		context.Context, events.SQSMessage,
	) *batch.Retry {
		begun.Done()
		begun.Wait()
		return &batch.Retry{}
	})
	for i, f := range response.BatchItemFailures {
		if want := "m-" + bodies[i]; f.ItemIdentifier != want {
			t.Errorf("failure %d is of %s, want %s", i, f.ItemIdentifier, want)
		}
	}
	if len(response.BatchItemFailures) != 10 {
		t.Errorf("%d failures, want 10", len(response.BatchItemFailures))
	}
}

func TestReceives(t *testing.T) {
	for value, want := range map[string]int{"1": 1, "7": 7, "": 1, "0": 1, "-3": 1, "x": 1, "99999999999999999999": 1} {
		m := events.SQSMessage{Attributes: map[string]string{"ApproximateReceiveCount": value}}
		if got := batch.Receives(m); got != want {
			t.Errorf("%q: %d, want %d", value, got, want)
		}
	}
	if got := batch.Receives(events.SQSMessage{}); got != 1 {
		t.Errorf("without attributes: %d, want 1", got)
	}
}

func TestBackoff(t *testing.T) {
	for _, row := range []struct {
		first time.Duration
		n     int
		want  time.Duration
	}{
		{2 * time.Second, -1, 2 * time.Second},
		{2 * time.Second, 0, 2 * time.Second},
		{2 * time.Second, 1, 2 * time.Second},
		{2 * time.Second, 2, 4 * time.Second},
		{2 * time.Second, 4, 16 * time.Second},
		{2 * time.Second, 5, batch.MaxBackoff},
		{2 * time.Second, 1 << 62, batch.MaxBackoff},
		{time.Second, 5, 16 * time.Second},
		{time.Second, 6, batch.MaxBackoff},
		{1, 64, batch.MaxBackoff},
		{time.Hour, 1, batch.MaxBackoff},
		{time.Hour, 2, batch.MaxBackoff},
	} {
		if got := batch.Backoff(row.first, row.n); got != row.want {
			t.Errorf("Backoff(%s, %d) = %s, want %s", row.first, row.n, got, row.want)
		}
	}
}

// TestRetryAfter tests that the retries of an unreadable message outlast a deployment, in as many receives
// as its queue allows.
func TestRetryAfter(t *testing.T) {
	limits := queue.LimitsFor(time.Second, 1)
	for _, row := range []struct {
		err         error
		receives    int
		least, most time.Duration
	}{
		{fmt.Errorf("decode: %w", job.ErrUnreadable), limits.JobsMaxReceives, 30 * time.Minute, 2 * time.Hour},
		{fmt.Errorf("decode: %w", job.ErrUnreadable), limits.ResultMaxReceives, 30 * time.Minute, 4 * time.Hour},
		{errors.New("throttled"), limits.JobsMaxReceives, 5 * time.Minute, 10 * time.Minute},
	} {
		var sum, last time.Duration
		for n := 1; n < row.receives; n++ { // the last receive is followed by the dead-letter queue
			after := batch.RetryAfter(row.err, 2*time.Second, n).After
			if after < last || after > 5*time.Minute {
				t.Errorf("%v: the delay after receive %d is %s, and that before it was %s", row.err, n, after, last)
			}
			sum, last = sum+after, after
		}
		if sum < row.least || sum > row.most {
			t.Errorf("%v: %d receives take %s", row.err, row.receives, sum)
		}
	}
}
