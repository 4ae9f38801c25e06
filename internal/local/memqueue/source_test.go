package memqueue_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/internal/local/memqueue"
	"github.com/ringback/ringback/internal/queue"
)

// TestReceive receives messages as a caller of SQS does. A message that is not deleted returns.
func TestReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, err := memqueue.New(memqueue.Config{Name: "q", VisibilityTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if messages, err := q.Receive(t.Context(), 10); len(messages) > 0 || err != nil ||
			time.Since(start) != 20*time.Second {
			t.Errorf("an empty queue: %v, %v after %s", messages, err, time.Since(start))
		}
		q.Send(t.Context(), []queue.Message{{Body: "a"}, {Body: "b"}, {Body: "c", Delay: 5 * time.Second}})
		first, err := q.Receive(t.Context(), 1)
		if err != nil || len(first) != 1 || first[0].Body != "a" {
			t.Fatalf("%v, %v", first, err)
		}
		second, err := q.Receive(t.Context(), 10)
		if err != nil || len(second) != 1 || second[0].Body != "b" {
			t.Fatalf("%v, %v", second, err)
		}
		if third, err := q.Receive(t.Context(), 10); err != nil || len(third) != 1 || third[0].Body != "c" {
			t.Fatalf("%v, %v", third, err)
		}
		if err := q.Delete(t.Context(), first[0].ReceiptHandle); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		again, err := q.Receive(t.Context(), 10)
		if err != nil || len(again) != 2 || again[0].Body != "b" || again[0].Attributes["ApproximateReceiveCount"] != "2" {
			t.Fatalf("%v, %v", again, err)
		}
		// An earlier receipt handle deletes nothing.
		if err := q.Delete(t.Context(), second[0].ReceiptHandle); err != nil || q.Len() != 2 {
			t.Errorf("%d messages, %v", q.Len(), err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := q.Receive(ended, 10); err == nil {
			t.Error("no error after the end of the context")
		}
		if err := q.Delete(ended, again[0].ReceiptHandle); err == nil || q.Len() != 2 {
			t.Errorf("%d messages, %v", q.Len(), err)
		}
	})
}
