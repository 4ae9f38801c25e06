// Package queuetest is the contract of the queues that handlers use. Every queue passes
// it.
package queuetest

import (
	stdcmp "cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/queue"
)

// Queue is the part of a queue that handlers use.
type Queue interface {
	Send(ctx context.Context, messages []queue.Message) []error
	ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error
}

// Subject is a queue under test, and its receiving side.
type Subject struct {
	Queue Queue
	// Queued returns the messages in the queue. Their delays are in whole seconds, as
	// the queue keeps them.
	Queued func() []queue.Message
	// Receive receives the only message in the queue and returns its receipt handle.
	Receive func() string
	// Hidden returns for how long a received message was hidden last, in whole
	// seconds, as the queue keeps it.
	Hidden func(receipt string) time.Duration
}

// With calls test with a new, empty queue.
type With func(t *testing.T, test func(t *testing.T, s Subject))

// Run tests the queues that with passes to its tests.
func Run(t *testing.T, with With) {
	t.Run("Send", func(t *testing.T) { testSend(t, with) })
	t.Run("Send concurrently", func(t *testing.T) { with(t, testSendConcurrently) })
	t.Run("Send with an ended context", func(t *testing.T) { with(t, testSendEnded) })
	t.Run("ChangeVisibility", func(t *testing.T) { testChangeVisibility(t, with) })
}

func testSend(t *testing.T, with With) {
	many := func(n, size int) []queue.Message {
		messages := make([]queue.Message, n)
		for i := range messages {
			messages[i] = queue.Message{Body: fmt.Sprintf("%0*d", size, i)}
		}
		return messages
	}
	const good = "good"
	for name, row := range map[string]struct {
		messages []queue.Message
		refused  []int
	}{
		"nothing":                    {},
		"one":                        {messages: many(1, 1)},
		"a full batch":               {messages: many(queue.MaxBatch, 3)},
		"more than a batch":          {messages: many(2*queue.MaxBatch+5, 3)},
		"the largest message":        {messages: many(1, queue.MaxMessage)},
		"a batch of the largest":     {messages: many(3, queue.MaxMessage)},
		"a batch of 1 MiB exactly":   {messages: many(4, queue.MaxMessage/4)},
		"a batch of more than 1 MiB": {messages: many(queue.MaxBatch, 300<<10)},
		"groups": {
			messages: []queue.Message{{Body: "1", Group: "a"}, {Body: "2", Group: "b"}, {Body: "3"}, {Body: "4", Group: "a"}},
		},
		"a hashed group": {
			messages: []queue.Message{{Body: "1", Group: queue.Group("a call\nwith an odd id")}},
		},
		"the same body twice":            {messages: []queue.Message{{Body: good}, {Body: good}}},
		"other scripts":                  {messages: []queue.Message{{Body: `{"text":"Grüße, 日本語, 😀, <&>"}`}}},
		"an empty one between good ones": {messages: []queue.Message{{Body: good}, {}, {Body: good}}, refused: []int{1}},
		"one that is too large": {
			messages: []queue.Message{{Body: strings.Repeat("x", queue.MaxMessage+1)}, {Body: good}}, refused: []int{0},
		},
		"one that is not UTF-8":        {messages: []queue.Message{{Body: good}, {Body: "\xff"}}, refused: []int{1}},
		"one with a control character": {messages: []queue.Message{{Body: good}, {Body: "\x00"}}, refused: []int{1}},
		"one with a non-character":     {messages: []queue.Message{{Body: "a\uFFFFb"}, {Body: good}}, refused: []int{0}},
		"no good one":                  {messages: []queue.Message{{}, {}}, refused: []int{0, 1}},
		"delays": {messages: []queue.Message{
			{Body: "1", Delay: time.Second}, {Body: "2"}, {Body: "3", Delay: 90 * time.Second, Group: "a"},
			{Body: "4", Delay: queue.MaxDelay},
		}},
		"delays of less than a second": {messages: []queue.Message{
			{Body: "1", Delay: 1}, {Body: "2", Delay: time.Second + 1}, {Body: "3", Delay: queue.MaxDelay - 1},
		}},
		"one whose delay is too long": {
			messages: []queue.Message{{Body: good}, {Body: "late", Delay: queue.MaxDelay + 1}, {Body: good, Delay: time.Minute}},
			refused:  []int{1},
		},
		"one whose delay is negative": {
			messages: []queue.Message{{Body: "early", Delay: -1}, {Body: good}}, refused: []int{0},
		},
		"bad ones across several batches": {
			messages: slices.Concat(many(9, 3), []queue.Message{{}}, many(9, 4), []queue.Message{{}}, many(3, 5)),
			refused:  []int{9, 19},
		},
	} {
		t.Run(name, func(t *testing.T) {
			with(t, func(t *testing.T, s Subject) {
				errs := s.Queue.Send(t.Context(), row.messages)
				if len(errs) != len(row.messages) {
					t.Fatalf("%d errors for %d messages", len(errs), len(row.messages))
				}
				var want []queue.Message
				for i, err := range errs {
					bad := slices.Contains(row.refused, i)
					if (err != nil) != bad {
						t.Errorf("message %d: error %v, want an error: %t", i, err, bad)
					}
					if !bad {
						m := row.messages[i]
						m.Delay = (m.Delay + time.Second - 1).Truncate(time.Second)
						want = append(want, m)
					}
				}
				if diff := cmp.Diff(sorted(want), sorted(s.Queued())); diff != "" {
					t.Errorf("queued messages (-want +got):\n%s", cut(diff))
				}
			})
		})
	}
}

func testSendConcurrently(t *testing.T, s Subject) {
	var sending sync.WaitGroup
	var want []queue.Message
	for i := range 8 {
		messages := make([]queue.Message, 12)
		for j := range messages {
			messages[j] = queue.Message{Body: fmt.Sprintf("%d/%d", i, j), Group: fmt.Sprint(i)}
		}
		want = append(want, messages...)
		sending.Go(func() {
			for j, err := range s.Queue.Send(t.Context(), messages) {
				if err != nil {
					t.Errorf("message %d/%d: %v", i, j, err)
				}
			}
		})
	}
	sending.Wait()
	if diff := cmp.Diff(sorted(want), sorted(s.Queued())); diff != "" {
		t.Errorf("queued messages (-want +got):\n%s", cut(diff))
	}
}

func testSendEnded(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i, err := range s.Queue.Send(ctx, []queue.Message{{Body: "a"}, {Body: "b"}}) {
		if err == nil {
			t.Errorf("message %d: no error", i)
		}
	}
	if queued := s.Queued(); len(queued) > 0 {
		t.Errorf("queued %v", queued)
	}
}

func testChangeVisibility(t *testing.T, with With) {
	for _, row := range []struct {
		d        time.Duration
		min, max time.Duration
	}{
		{d: 0},
		{d: -time.Nanosecond},
		{d: -5 * time.Second},
		{d: math.MinInt64},
		{d: 1, min: time.Second, max: time.Second},
		{d: 999 * time.Millisecond, min: time.Second, max: time.Second},
		{d: time.Second, min: time.Second, max: time.Second},
		{d: time.Second + 1, min: 2 * time.Second, max: 2 * time.Second},
		{d: 90 * time.Second, min: 90 * time.Second, max: 90 * time.Second},
		// SQS hides a message for at most 12 hours after it was received.
		{d: 24 * time.Hour, min: 11 * time.Hour, max: 12 * time.Hour},
		{d: math.MaxInt64, min: 11 * time.Hour, max: 12 * time.Hour},
	} {
		t.Run(row.d.String(), func(t *testing.T) {
			with(t, func(t *testing.T, s Subject) {
				if err := s.Queue.Send(t.Context(), []queue.Message{{Body: "x"}})[0]; err != nil {
					t.Fatal(err)
				}
				receipt := s.Receive()
				if err := s.Queue.ChangeVisibility(t.Context(), receipt, row.d); err != nil {
					t.Fatal(err)
				}
				if got := s.Hidden(receipt); got < row.min || got > row.max {
					t.Errorf("hidden for %s, want %s to %s", got, row.min, row.max)
				}
			})
		})
	}
	for _, receipt := range []string{"", "no such receipt handle"} {
		t.Run(fmt.Sprintf("receipt %q", receipt), func(t *testing.T) {
			with(t, func(t *testing.T, s Subject) {
				if err := s.Queue.ChangeVisibility(t.Context(), receipt, time.Second); err == nil {
					t.Error("no error")
				}
			})
		})
	}
}

func sorted(messages []queue.Message) []queue.Message {
	return slices.SortedFunc(slices.Values(messages), func(a, b queue.Message) int {
		return stdcmp.Or(strings.Compare(a.Body, b.Body), strings.Compare(a.Group, b.Group), stdcmp.Compare(a.Delay, b.Delay))
	})
}

// cut keeps the difference between large messages readable.
func cut(s string) string { return s[:min(len(s), 2000)] }
