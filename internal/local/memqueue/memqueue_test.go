package memqueue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/queue/queuetest"
)

func TestContract(t *testing.T) {
	queuetest.Run(t, func(t *testing.T, test func(t *testing.T, s queuetest.Subject)) {
		synctest.Test(t, func(t *testing.T) {
			q := open(t, memqueue.Config{BatchSize: 1000, VisibilityTimeout: time.Hour})
			// receive receives each message that becomes visible within d, once. It
			// also returns when that was.
			receive := func(d time.Duration) (all []events.SQSMessage, at []time.Time) {
				var mu sync.Mutex
				stop := run(q, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
					mu.Lock()
					defer mu.Unlock()
					for _, r := range event.Records {
						all = append(all, r)
						at = append(at, time.Now())
					}
					return events.SQSEventResponse{}, errors.New("kept")
				})
				time.Sleep(d)
				synctest.Wait()
				stop()
				return all, at
			}
			started := time.Now()
			test(t, queuetest.Subject{
				Queue: q,
				Queued: func() []queue.Message {
					var queued []queue.Message
					records, at := receive(queue.MaxDelay + time.Second)
					for i, r := range records {
						queued = append(queued, queue.Message{
							Body: r.Body, Group: r.Attributes["MessageGroupId"], Delay: at[i].Sub(started),
						})
					}
					return queued
				},
				Receive: func() string {
					records, _ := receive(0)
					return records[0].ReceiptHandle
				},
				Hidden: q.Hidden,
			})
		})
	})
}

func TestNewRefuses(t *testing.T) {
	dead := open(t, memqueue.Config{Name: "dead"})
	for name, cfg := range map[string]memqueue.Config{
		"no name":                        {},
		"dead letters after no receive":  {Name: "q", DeadLetters: dead},
		"negative visibility timeout":    {Name: "q", VisibilityTimeout: -1},
		"negative handler timeout":       {Name: "q", HandlerTimeout: -1},
		"negative window":                {Name: "q", Window: -1},
		"no visibility after the window": {Name: "q", VisibilityTimeout: time.Minute, Window: time.Minute},
		"nor by default":                 {Name: "q", Window: 30 * time.Second},
		"negative batch size":            {Name: "q", BatchSize: -1},
		"negative concurrency":           {Name: "q", Concurrency: -1},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := memqueue.New(cfg); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{Name: "jobs", VisibilityTimeout: 4 * time.Second})
		send(t, q, queue.Message{Body: "hello", Group: "call-1"}, queue.Message{Body: "world"})
		time.Sleep(250 * time.Millisecond)
		var got []events.SQSEvent
		stop := run(q, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			got = append(got, event)
			return failed(event.Records[1:]...), nil
		})
		time.Sleep(5 * time.Second)
		stop()
		// The fields are those of AWS's example of an SQS event (AWS Lambda
		// developer guide, "Using Lambda with Amazon SQS"). The clock of a
		// synctest bubble starts at midnight UTC 2000-01-01.
		record := func(id, receipt, body, md5, receives, group string) events.SQSMessage {
			attributes := map[string]string{
				"ApproximateReceiveCount": receives, "SentTimestamp": "946684800000",
				"SenderId": "local", "ApproximateFirstReceiveTimestamp": "946684800250",
			}
			if group != "" {
				attributes["MessageGroupId"] = group
			}
			return events.SQSMessage{
				MessageId: id, ReceiptHandle: receipt, Body: body, Md5OfBody: md5, Attributes: attributes,
				MessageAttributes: map[string]events.SQSMessageAttribute{},
				EventSourceARN:    "arn:aws:sqs:local:000000000000:jobs", EventSource: "aws:sqs", AWSRegion: "local",
			}
		}
		want := []events.SQSEvent{
			{Records: []events.SQSMessage{
				record("jobs-1", "jobs-1#1", "hello", "5d41402abc4b2a76b9719d911017c592", "1", "call-1"),
				record("jobs-2", "jobs-2#1", "world", "7d793037a0760186574b0282f2f435e7", "1", ""),
			}},
			{Records: []events.SQSMessage{
				record("jobs-2", "jobs-2#2", "world", "7d793037a0760186574b0282f2f435e7", "2", ""),
			}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestComeBack tests when messages come back that the handler did not finish.
func TestComeBack(t *testing.T) {
	const visibility = 10 * time.Second
	sleep := func(d time.Duration) handler {
		return func(context.Context, *memqueue.Queue, events.SQSEvent) (events.SQSEventResponse, error) {
			time.Sleep(d)
			return events.SQSEventResponse{}, nil
		}
	}
	change := func(d time.Duration) handler {
		return func(ctx context.Context, q *memqueue.Queue, event events.SQSEvent) (events.SQSEventResponse, error) {
			err := q.ChangeVisibility(ctx, event.Records[0].ReceiptHandle, d)
			return failed(event.Records...), err
		}
	}
	for name, row := range map[string]struct {
		cfg   memqueue.Config
		delay time.Duration
		first handler         // handles the first event; the later ones succeed
		want  []time.Duration // when each event was handled
	}{
		"it does not": {
			first: func(context.Context, *memqueue.Queue, events.SQSEvent) (events.SQSEventResponse, error) {
				return events.SQSEventResponse{}, nil
			},
			want: []time.Duration{0},
		},
		"delay": {delay: 2*time.Second + 1, first: change(0), want: []time.Duration{3 * time.Second, 3 * time.Second}},
		"reported as failed": {
			first: func(_ context.Context, _ *memqueue.Queue, event events.SQSEvent) (events.SQSEventResponse, error) {
				return failed(event.Records...), nil
			},
			want: []time.Duration{0, visibility},
		},
		"error": {
			first: func(context.Context, *memqueue.Queue, events.SQSEvent) (events.SQSEventResponse, error) {
				return events.SQSEventResponse{}, errors.New("broken")
			},
			want: []time.Duration{0, visibility},
		},
		"panic": {
			first: func(context.Context, *memqueue.Queue, events.SQSEvent) (events.SQSEventResponse, error) {
				panic("broken")
			},
			want: []time.Duration{0, visibility},
		},
		"unknown identifier": {
			first: func(context.Context, *memqueue.Queue, events.SQSEvent) (events.SQSEventResponse, error) {
				return failed(events.SQSMessage{MessageId: "another batch's"}), nil
			},
			want: []time.Duration{0, visibility},
		},
		"empty identifier": {
			first: func(context.Context, *memqueue.Queue, events.SQSEvent) (events.SQSEventResponse, error) {
				return failed(events.SQSMessage{}), nil
			},
			want: []time.Duration{0, visibility},
		},
		"at once":       {first: change(0), want: []time.Duration{0, 0}},
		"sooner":        {first: change(2 * time.Second), want: []time.Duration{0, 2 * time.Second}},
		"whole seconds": {first: change(1100 * time.Millisecond), want: []time.Duration{0, 2 * time.Second}},
		"later":         {first: change(time.Minute), want: []time.Duration{0, time.Minute}},
		"success after visibility was changed": {
			first: func(ctx context.Context, q *memqueue.Queue, event events.SQSEvent) (events.SQSEventResponse, error) {
				return events.SQSEventResponse{}, q.ChangeVisibility(ctx, event.Records[0].ReceiptHandle, time.Hour)
			},
			want: []time.Duration{0},
		},
		// The handler still runs when its message comes back. Its late success
		// must not delete the message, which is in flight again.
		"slower than the visibility timeout": {
			cfg: memqueue.Config{HandlerTimeout: time.Minute}, first: sleep(visibility + time.Second),
			want: []time.Duration{0, visibility},
		},
		"slower than the handler's timeout": {
			cfg: memqueue.Config{HandlerTimeout: 4 * time.Second}, first: sleep(5 * time.Second),
			want: []time.Duration{0, visibility},
		},
		"not slower than the handler's timeout": {
			cfg: memqueue.Config{HandlerTimeout: 4 * time.Second}, first: sleep(4*time.Second - 1),
			want: []time.Duration{0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				row.cfg.VisibilityTimeout = visibility
				q := open(t, row.cfg)
				send(t, q, queue.Message{Body: "x", Delay: row.delay})
				started := time.Now()
				var mu sync.Mutex
				var got []time.Duration
				stop := run(q, func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
					mu.Lock()
					got = append(got, time.Since(started))
					first := len(got) == 1
					mu.Unlock()
					if first {
						return row.first(ctx, q, event)
					}
					return events.SQSEventResponse{}, nil
				})
				defer stop()
				if err := q.Drained(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				mu.Lock()
				defer mu.Unlock()
				if diff := cmp.Diff(row.want, got); diff != "" {
					t.Errorf("handled at (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestLateSuccessDoesNotDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{VisibilityTimeout: 10 * time.Second, HandlerTimeout: time.Minute})
		send(t, q, queue.Message{Body: "x"})
		var mu sync.Mutex
		receives := 0
		stop := run(q, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			mu.Lock()
			receives++
			first := receives == 1
			mu.Unlock()
			if first {
				time.Sleep(12 * time.Second) // succeeds while the second one works
				return events.SQSEventResponse{}, nil
			}
			time.Sleep(5 * time.Second)
			return failed(event.Records...), nil
		})
		time.Sleep(16 * time.Second)
		if q.Len() != 1 {
			t.Errorf("the queue holds %d messages: a success under an old receipt handle "+
				"deleted the message that is in flight again", q.Len())
		}
		stop()
	})
}

func TestPartialBatchResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{})
		send(t, q, bodies("a", "b", "c", "d")...)
		stop := run(q, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			// One of them is reported twice, which fails it once and no other.
			return failed(event.Records[1], event.Records[3], event.Records[1]), nil
		})
		synctest.Wait()
		stop()
		if diff := cmp.Diff([]string{"b", "d"}, q.Bodies()); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
	})
}

func TestUnknownIdentifierFailsTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{})
		send(t, q, bodies("a", "b")...)
		stop := run(q, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			return failed(event.Records[0], events.SQSMessage{MessageId: "x"}), nil
		})
		synctest.Wait()
		stop()
		if diff := cmp.Diff([]string{"a", "b"}, q.Bodies()); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
	})
}

func TestStaleReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{VisibilityTimeout: 10 * time.Second})
		send(t, q, queue.Message{Body: "x"})
		var receipts []string
		stop := run(q, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			receipts = append(receipts, event.Records[0].ReceiptHandle)
			return failed(event.Records...), nil
		})
		change := func(receipt string, d time.Duration, ok bool) {
			t.Helper()
			err := q.ChangeVisibility(t.Context(), receipt, d)
			if errors.Is(err, memqueue.ErrNoSuchReceipt) == ok || (err == nil) != ok {
				t.Errorf("error %v, want one: %t", err, !ok)
			}
		}
		time.Sleep(11 * time.Second)
		stop()
		if len(receipts) != 2 {
			t.Fatalf("received %d times", len(receipts))
		}
		change(receipts[0], 0, false) // it has been received again
		change(receipts[1], time.Minute, true)
		change(receipts[1], 0, true)
		change(receipts[1], time.Minute, false) // it is visible
	})
}

func TestDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		dead := open(t, memqueue.Config{Name: "dead"})
		q := open(t, memqueue.Config{
			Name: "jobs", VisibilityTimeout: 10 * time.Second, MaxReceives: 3, DeadLetters: dead,
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		send(t, q, bodies("good", "bad")...)
		handled := map[string]int{}
		stop := run(q, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			var bad []events.SQSMessage
			for _, r := range event.Records {
				handled[r.Body]++
				if r.Body == "bad" {
					bad = append(bad, r)
				}
			}
			return failed(bad...), nil
		})
		started := time.Now()
		if err := q.Drained(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took != 30*time.Second {
			t.Errorf("drained after %s, want 30s", took)
		}
		stop()
		if diff := cmp.Diff(map[string]int{"good": 1, "bad": 3}, handled); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"bad"}, dead.Bodies()); diff != "" {
			t.Errorf("in the dead-letter queue (-want +got):\n%s", diff)
		}
		for _, want := range []string{"level=WARN", "queue=jobs", "message_id=jobs-2", "receives=3"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log does not have %s:\n%s", want, log.String())
			}
		}
		// A dead-letter queue is a queue: the message can be handled there at once.
		stop = run(dead, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			if id := event.Records[0].MessageId; id != "jobs-2" {
				t.Errorf("the dead letter is message %s, want jobs-2", id)
			}
			return events.SQSEventResponse{}, nil
		})
		synctest.Wait()
		stop()
		if dead.Len() != 0 {
			t.Errorf("%d dead letters are left", dead.Len())
		}
	})
}

func TestBatchesAndConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{BatchSize: 3, Concurrency: 2})
		var want []string
		for i := range 14 {
			want = append(want, fmt.Sprintf("%02d", i))
		}
		send(t, q, bodies(want...)...)
		var mu sync.Mutex
		var sizes []int
		var got []string
		running, most := 0, 0
		stop := run(q, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			mu.Lock()
			running++
			most = max(most, running)
			sizes = append(sizes, len(event.Records))
			for _, r := range event.Records {
				got = append(got, r.Body)
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return events.SQSEventResponse{}, nil
		})
		started := time.Now()
		if err := q.Drained(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took != 3*time.Second {
			t.Errorf("5 events, 2 at a time, took %s, want 3s", took)
		}
		stop()
		if most != 2 {
			t.Errorf("%d events at a time, want 2", most)
		}
		slices.Sort(sizes)
		if diff := cmp.Diff([]int{2, 3, 3, 3, 3}, sizes); diff != "" {
			t.Errorf("batch sizes (-want +got):\n%s", diff)
		}
		// Two handlers that start at the same time may record their batches in
		// either order. Older pairs of batches still come first.
		slices.Sort(got[:6])
		slices.Sort(got[6:12])
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

// TestWindow tests which messages come in one event, and when.
func TestWindow(t *testing.T) {
	const window, visibility = 5 * time.Second, time.Minute
	type event struct {
		At     time.Duration
		Bodies []string
	}
	for name, row := range map[string]struct {
		messages []queue.Message // the bodies, each visible after its delay
		fail     string          // this one fails at its first receive
		endAt    time.Duration   // 0 means after everything is handled
		want     []event
	}{
		"one": {messages: []queue.Message{{Body: "a"}}, want: []event{{window, []string{"a"}}}},
		"the window begins with the first": {
			messages: []queue.Message{
				{Body: "a", Delay: 10 * time.Second}, {Body: "b", Delay: 14 * time.Second}, {Body: "c", Delay: 16 * time.Second},
			},
			want: []event{{15 * time.Second, []string{"a", "b"}}, {21 * time.Second, []string{"c"}}},
		},
		"a full batch at once": {messages: bodies("a", "b", "c"), want: []event{{0, []string{"a", "b", "c"}}}},
		"the rest has a window of its own": {
			messages: bodies("a", "b", "c", "d"),
			want:     []event{{0, []string{"a", "b", "c"}}, {window, []string{"d"}}},
		},
		"a batch that becomes full": {
			messages: []queue.Message{
				{Body: "a"}, {Body: "b", Delay: time.Second},
				{Body: "c", Delay: 3 * time.Second}, {Body: "d", Delay: 4 * time.Second},
			},
			want: []event{{3 * time.Second, []string{"a", "b", "c"}}, {9 * time.Second, []string{"d"}}},
		},
		// The message was received at 0, not when its event was handled.
		"the visibility timeout begins before": {
			messages: bodies("a"), fail: "a",
			want: []event{{window, []string{"a"}}, {visibility + window, []string{"a"}}},
		},
		"a message that comes back": {
			messages: []queue.Message{{Body: "a"}, {Body: "b", Delay: visibility - time.Second}}, fail: "a",
			want: []event{{window, []string{"a"}}, {visibility + 4*time.Second, []string{"b", "a"}}},
		},
		"what is collected at the end is handled": {
			messages: []queue.Message{{Body: "a"}, {Body: "b", Delay: time.Second}, {Body: "c", Delay: 3 * time.Second}},
			endAt:    2 * time.Second,
			want:     []event{{2 * time.Second, []string{"a", "b"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := open(t, memqueue.Config{BatchSize: 3, Window: window, VisibilityTimeout: visibility})
				started := time.Now()
				send(t, q, row.messages...)
				var mu sync.Mutex
				var got []event
				stop := run(q, func(_ context.Context, e events.SQSEvent) (response events.SQSEventResponse, _ error) {
					mu.Lock()
					defer mu.Unlock()
					happened := event{At: time.Since(started)}
					for _, r := range e.Records {
						happened.Bodies = append(happened.Bodies, r.Body)
						if r.Body == row.fail && r.Attributes["ApproximateReceiveCount"] == "1" {
							response = failed(r)
						}
					}
					got = append(got, happened)
					return response, nil
				})
				if row.endAt > 0 {
					time.Sleep(row.endAt)
				} else if err := q.Drained(t.Context()); err != nil {
					t.Error(err)
				}
				stop()
				if diff := cmp.Diff(row.want, got); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestRunDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{VisibilityTimeout: 10 * time.Second, BatchSize: 1, Concurrency: 1})
		send(t, q, bodies("running", "waiting")...)
		ctx, cancel := context.WithCancel(t.Context())
		started := time.Now()
		var ended error
		var deadline time.Time
		handled := 0
		go func() {
			time.Sleep(time.Second)
			cancel()
		}()
		q.Run(ctx, func(ctx context.Context, _ events.SQSEvent) (events.SQSEventResponse, error) {
			handled++
			deadline, _ = ctx.Deadline()
			time.Sleep(5 * time.Second)
			ended = ctx.Err()
			return events.SQSEventResponse{}, nil
		})
		if took := time.Since(started); took != 5*time.Second {
			t.Errorf("Run returned after %s, want 5s: once the last event was handled", took)
		}
		if ended != nil {
			t.Errorf("the handler's context ended with Run's: %v", ended)
		}
		if want := started.Add(10 * time.Second); !deadline.Equal(want) {
			t.Errorf("the handler's deadline is %s, want %s", deadline, want)
		}
		if handled != 1 {
			t.Errorf("%d events were handled, want the one that was running", handled)
		}
		if diff := cmp.Diff([]string{"waiting"}, q.Bodies()); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
	})
}

func TestRunWithEndedContextReceivesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // a select could choose either case
		q := open(t, memqueue.Config{})
		send(t, q, queue.Message{Body: "x"})
		q.Run(ctx, func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
			t.Error("received after the end")
			return events.SQSEventResponse{}, nil
		})
	}
}

func TestHandlerTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{VisibilityTimeout: time.Minute, HandlerTimeout: 7 * time.Second})
		send(t, q, queue.Message{Body: "x"})
		started := time.Now()
		var took time.Duration
		stop := run(q, func(ctx context.Context, _ events.SQSEvent) (events.SQSEventResponse, error) {
			<-ctx.Done()
			took = time.Since(started)
			return events.SQSEventResponse{}, nil
		})
		time.Sleep(10 * time.Second)
		stop()
		if took != 7*time.Second {
			t.Errorf("the handler's context ended after %s, want 7s", took)
		}
		if q.Len() != 1 {
			t.Error("a response that came too late counted")
		}
	})
}

func TestDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{})
		if err := q.Drained(t.Context()); err != nil {
			t.Errorf("an empty queue: %v", err)
		}
		send(t, q, queue.Message{Body: "x"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := q.Drained(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a queue that does not run: %v", err)
		}
	})
}

// TestIdle tests that a queue with a delayed message is idle, and one with a
// message that is visible, or was received, is not.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{VisibilityTimeout: time.Hour})
		idle := func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return q.Idle(ctx) == nil
		}
		if !idle() {
			t.Error("an empty queue is not idle")
		}
		send(t, q, queue.Message{Body: "later", Delay: 10 * time.Minute})
		if !idle() || q.Undelayed() != 0 || q.Len() != 1 {
			t.Error("a queue with a delayed message is not idle")
		}
		send(t, q, queue.Message{Body: "now"})
		if idle() || q.Undelayed() != 1 {
			t.Error("a queue with a message is idle")
		}
		fail := true
		stop := run(q, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			time.Sleep(time.Minute)
			if fail {
				return failed(event.Records...), nil
			}
			return events.SQSEventResponse{}, nil
		})
		defer stop()
		time.Sleep(2 * time.Minute)
		if idle() || q.Undelayed() != 1 {
			t.Error("a queue with a message that is tried again later is idle")
		}
		fail = false
		// The delayed message comes 10 minutes after the start, and the one that
		// failed an hour after it.
		if err := q.Idle(t.Context()); err != nil || q.Len() != 0 {
			t.Errorf("%v, with %d messages", err, q.Len())
		}
	})
}

// TestSendWakes tests that Run receives a new message at once, while another one
// is hidden for long.
func TestSendWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, memqueue.Config{VisibilityTimeout: time.Hour})
		send(t, q, queue.Message{Body: "stuck"})
		var got []string
		stop := run(q, func(_ context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
			got = append(got, event.Records[0].Body)
			return failed(event.Records...), nil
		})
		time.Sleep(time.Minute)
		send(t, q, queue.Message{Body: "new"})
		synctest.Wait()
		stop()
		if diff := cmp.Diff([]string{"stuck", "new"}, got); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
	})
}

// TestNothingVanishes tests that every message is deleted, on the queue or in the
// dead-letter queue, whatever handlers do. No message is handled after it was
// deleted.
func TestNothingVanishes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			cfg := memqueue.Config{
				Name: "q", VisibilityTimeout: 10 * time.Second, HandlerTimeout: 25 * time.Second,
				MaxReceives: rapid.IntRange(1, 4).Draw(t, "max receives"),
				BatchSize:   rapid.IntRange(1, 4).Draw(t, "batch size"),
				Concurrency: rapid.IntRange(1, 4).Draw(t, "concurrency"),
				Window:      time.Duration(rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "window")) * time.Second,
				Log:         slog.New(slog.DiscardHandler),
			}
			var err error
			if cfg.DeadLetters, err = memqueue.New(memqueue.Config{Name: "dead"}); err != nil {
				t.Fatal(err)
			}
			q, err := memqueue.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			n := rapid.IntRange(1, 12).Draw(t, "messages")
			// What the handler does with each message at each receive. Everything
			// is drawn before, since the handlers run concurrently.
			type deed struct {
				Slow time.Duration // how long it takes
				Fail bool          // reports the message as failed
				Hide int           // changes the visibility to these seconds; -1 does not
				Die  bool          // fails the whole batch
				// odd keeps two things from happening at the same instant, in an
				// unknown order.
				odd time.Duration
			}
			odd := rand.New(rand.NewPCG(1, 2))
			deeds := make(map[string][]deed)
			for i := range n {
				deeds[fmt.Sprint(i)] = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) deed {
					return deed{
						Slow: time.Duration(rapid.SampledFrom([]int{0, 0, 1, 9, 10, 11, 26}).Draw(t, "slow")) * time.Second,
						Fail: rapid.Bool().Draw(t, "fail"),
						Hide: rapid.SampledFrom([]int{-1, -1, 0, 1, 15}).Draw(t, "hide"),
						Die:  rapid.IntRange(0, 9).Draw(t, "die") == 0,
					}
				}), cfg.MaxReceives, cfg.MaxReceives).Draw(t, "deeds of "+fmt.Sprint(i))
				for j := range deeds[fmt.Sprint(i)] {
					deeds[fmt.Sprint(i)][j].odd = time.Duration(1 + odd.IntN(1e6))
				}
				if err := q.Send(t.Context(), []queue.Message{{Body: fmt.Sprint(i)}})[0]; err != nil {
					t.Fatal(err)
				}
			}

			var mu sync.Mutex
			receives := make(map[string]int)
			last := make(map[string]string) // body -> the valid receipt handle
			deleted := make(map[string]bool)
			stop := run(q, func(ctx context.Context, event events.SQSEvent) (response events.SQSEventResponse, err error) {
				mu.Lock()
				var todo []deed
				for _, r := range event.Records {
					receives[r.Body]++
					last[r.Body] = r.ReceiptHandle
					if deleted[r.Body] {
						t.Errorf("message %s is handled after it was deleted", r.Body)
					}
					if got := r.Attributes["ApproximateReceiveCount"]; got != fmt.Sprint(receives[r.Body]) {
						t.Errorf("message %s was received %d times, and its receive count is %s", r.Body, receives[r.Body], got)
					}
					if receives[r.Body] > cfg.MaxReceives {
						t.Errorf("message %s was received %d times", r.Body, receives[r.Body])
						mu.Unlock()
						return response, errors.New("too often")
					}
					todo = append(todo, deeds[r.Body][receives[r.Body]-1])
				}
				mu.Unlock()
				for i, d := range todo {
					time.Sleep(d.Slow + d.odd)
					if d.Hide >= 0 {
						// Without effect if the message has come back already.
						_ = q.ChangeVisibility(ctx, event.Records[i].ReceiptHandle, time.Duration(d.Hide)*time.Second)
					}
				}
				time.Sleep(time.Nanosecond)
				mu.Lock()
				defer mu.Unlock()
				for i, d := range todo {
					if d.Die {
						return response, errors.New("broken")
					}
					if d.Fail {
						response.BatchItemFailures = append(response.BatchItemFailures,
							failed(event.Records[i]).BatchItemFailures...)
					}
				}
				if ctx.Err() != nil {
					return response, nil // too late to count
				}
				for i, d := range todo {
					r := event.Records[i]
					// With a window, the message may have been received again and
					// wait for its event.
					collected := cfg.Window > 0 && !q.InFlight(r.ReceiptHandle)
					if !d.Fail && last[r.Body] == r.ReceiptHandle && !moved(cfg.DeadLetters, r.Body) && !collected {
						deleted[r.Body] = true
					}
				}
				return response, nil
			})
			time.Sleep(time.Duration(rapid.SampledFrom([]int{0, 5, 20, 60, 3600}).Draw(t, "run for")) * time.Second)
			stop()

			where := make(map[string]int)
			for _, body := range slices.Concat(q.Bodies(), cfg.DeadLetters.Bodies()) {
				where[body]++
			}
			for i := range n {
				body := fmt.Sprint(i)
				if deleted[body] {
					where[body]++
				}
				if where[body] != 1 {
					t.Errorf("message %s is in %d places: deleted %t, on the queue %t, in the dead-letter queue %t",
						body, where[body], deleted[body], slices.Contains(q.Bodies(), body), moved(cfg.DeadLetters, body))
				}
				if moved(cfg.DeadLetters, body) && receives[body] != cfg.MaxReceives {
					t.Errorf("message %s is a dead letter after %d receives, want %d", body, receives[body], cfg.MaxReceives)
				}
			}
		})
	})
}

func moved(dead *memqueue.Queue, body string) bool { return slices.Contains(dead.Bodies(), body) }

// handler is a [memqueue.Handler] that is also passed its queue.
type handler func(context.Context, *memqueue.Queue, events.SQSEvent) (events.SQSEventResponse, error)

func open(t *testing.T, cfg memqueue.Config) *memqueue.Queue {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "q"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	q, err := memqueue.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// run starts the queue. stop ends it and waits until everything is handled.
func run(q *memqueue.Queue, h memqueue.Handler) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { q.Run(ctx, h) })
	return func() {
		cancel()
		running.Wait()
	}
}

func send(t *testing.T, q *memqueue.Queue, messages ...queue.Message) {
	t.Helper()
	if err := errors.Join(q.Send(t.Context(), messages)...); err != nil {
		t.Fatal(err)
	}
}

func bodies(all ...string) []queue.Message {
	messages := make([]queue.Message, len(all))
	for i, body := range all {
		messages[i].Body = body
	}
	return messages
}

func failed(messages ...events.SQSMessage) (response events.SQSEventResponse) {
	for _, m := range messages {
		response.BatchItemFailures = append(response.BatchItemFailures,
			events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
	}
	return response
}
