// Package memqueue provides a queue in memory that behaves like a standard Amazon
// SQS queue with an AWS Lambda event source mapping: visibility timeout, receive
// count, delays, batching window, partial batch responses and a dead-letter queue.
// It calls a handler with the events that Lambda would pass, so that a handler
// cannot tell the difference. A [Scheduler] sends to it at a later time, as
// EventBridge Scheduler does. Both are for local runs and tests.
package memqueue

import (
	"container/heap"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ringback/ringback/internal/queue"
)

// Config configures a [Queue].
type Config struct {
	// Name is the last part of the queue's ARN. Required.
	Name string

	// VisibilityTimeout is how long a received message stays hidden. 0 means
	// 30 s, as with SQS.
	VisibilityTimeout time.Duration

	// HandlerTimeout bounds one call of the handler, as a Lambda function's
	// timeout does: the handler's context ends, and a later response is ignored.
	// 0 means VisibilityTimeout.
	HandlerTimeout time.Duration

	// MaxReceives is how often a message is received before it moves to
	// DeadLetters. Required with DeadLetters, and ignored without.
	MaxReceives int

	// DeadLetters takes the messages that were received too often. Nil means that
	// there is no limit.
	DeadLetters *Queue

	// BatchSize is the maximum number of messages in an event. 0 means 10.
	BatchSize int

	// Window is how long messages are collected for an event, from the first one
	// that is received for it (MaximumBatchingWindowInSeconds of a Lambda event
	// source mapping). An event is handled at once when it holds BatchSize
	// messages. A collected message has been received: its visibility timeout has
	// begun, so Window must be shorter. 0 means that an event holds what is
	// visible at once.
	Window time.Duration

	// Concurrency is how many events are handled at the same time. 0 means 10.
	Concurrency int

	// Log logs the handler's errors, as Lambda does, and a warning for each message
	// that moves to DeadLetters. Nil means slog.Default().
	Log *slog.Logger
}

// Handler is a Lambda handler of SQS events that answers with a partial batch
// response.
type Handler func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)

// Queue is a queue in memory.
type Queue struct {
	cfg Config
	arn string

	mu       sync.Mutex
	ready    line // visible messages, in the order in which they were sent
	hidden   line // messages that were hidden when last checked, the first to become visible first
	inFlight map[string]*message
	serial   int
	changed  chan struct{} // closed and replaced at every change
}

type message struct {
	id            string
	place         int   // its number in the order of sending
	in            *line // ready or hidden; nil once the message is deleted
	index         int   // in that line
	body          string
	group         string
	sent          time.Time
	firstReceived time.Time
	visible       time.Time
	receives      int
	receipt       string // the last receipt handle; earlier ones are invalid
	source        string // the ARN of the queue that gave the message up; empty for others
}

// ErrNoSuchReceipt means that a receipt handle is unknown or not the message's last
// one, or that the message is visible again.
var ErrNoSuchReceipt = errors.New("no message is in flight under this receipt handle")

// New returns an empty queue.
func New(cfg Config) (*Queue, error) {
	if cfg.Name == "" {
		return nil, errors.New("a queue needs a name")
	}
	if cfg.DeadLetters != nil && cfg.MaxReceives < 1 {
		return nil, fmt.Errorf("queue %s: a dead-letter queue needs a number of receives of at least 1", cfg.Name)
	}
	for _, setting := range []struct {
		name string
		n    int64
	}{
		{"visibility timeout", int64(cfg.VisibilityTimeout)},
		{"handler timeout", int64(cfg.HandlerTimeout)},
		{"window", int64(cfg.Window)},
		{"batch size", int64(cfg.BatchSize)},
		{"concurrency", int64(cfg.Concurrency)},
	} {
		if setting.n < 0 {
			return nil, fmt.Errorf("queue %s: the %s is negative", cfg.Name, setting.name)
		}
	}
	if cfg.VisibilityTimeout == 0 {
		cfg.VisibilityTimeout = 30 * time.Second
	}
	if cfg.Window >= cfg.VisibilityTimeout {
		return nil, fmt.Errorf("queue %s: the window of %s is not shorter than the visibility timeout of %s",
			cfg.Name, cfg.Window, cfg.VisibilityTimeout)
	}
	if cfg.HandlerTimeout == 0 {
		cfg.HandlerTimeout = cfg.VisibilityTimeout
	}
	if cfg.BatchSize == 0 {
		cfg.BatchSize = 10
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 10
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Queue{
		cfg:      cfg,
		arn:      "arn:aws:sqs:local:000000000000:" + cfg.Name,
		ready:    line{before: func(a, b *message) bool { return a.place < b.place }},
		hidden:   line{before: func(a, b *message) bool { return a.visible.Before(b.visible) }},
		inFlight: make(map[string]*message),
		changed:  make(chan struct{}),
	}, nil
}

// Send queues messages. It returns an error for each message, nil if the message
// was queued.
func (q *Queue) Send(ctx context.Context, messages []queue.Message) []error {
	errs := make([]error, len(messages))
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for i, m := range messages {
		if err := ctx.Err(); err != nil {
			errs[i] = fmt.Errorf("queue %s: %w", q.cfg.Name, err)
			continue
		}
		if err := m.Check(); err != nil {
			errs[i] = fmt.Errorf("queue %s: %w", q.cfg.Name, err)
			continue
		}
		q.serial++
		q.hidden.add(&message{
			id: fmt.Sprintf("%s-%d", q.cfg.Name, q.serial), place: q.serial,
			body: m.Body, group: m.Group, sent: now,
			visible: now.Add(time.Duration(m.DelaySeconds()) * time.Second),
		})
	}
	q.signal()
	return errs
}

// maxVisibility is the longest visibility timeout (Amazon SQS quotas).
const maxVisibility = 12 * time.Hour

// ChangeVisibility hides a received message for d from now on. After 0 or less, it
// can be received again at once. d is rounded up to whole seconds, since SQS knows
// no others, and is at most 12 hours. ChangeVisibility fails with
// [ErrNoSuchReceipt] if the message is no longer in flight.
func (q *Queue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	m := q.inFlight[receipt]
	if m == nil || !m.visible.After(now) {
		return fmt.Errorf("queue %s: %w", q.cfg.Name, ErrNoSuchReceipt)
	}
	d = min(max(d, 0), maxVisibility)
	m.visible = now.Add((d + time.Second - 1).Truncate(time.Second))
	heap.Fix(m.in, m.index)
	q.signal()
	return nil
}

// Name returns the queue's name, the last part of its ARN.
func (q *Queue) Name() string { return q.cfg.Name }

// ARN returns the queue's ARN, which its events contain.
func (q *Queue) ARN() string { return q.arn }

// Len returns the number of messages on the queue, hidden ones included.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.len()
}

func (q *Queue) len() int { return q.ready.Len() + q.hidden.Len() }

// Undelayed returns the number of messages on the queue whose delay is over: those
// that are visible, and those that were received.
func (q *Queue) Undelayed() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.undelayed()
}

func (q *Queue) undelayed() int {
	n, now := q.ready.Len(), time.Now()
	for _, m := range q.hidden.messages {
		if m.receives > 0 || !m.visible.After(now) {
			n++
		}
	}
	return n
}

// Drained waits until the queue is empty, hidden messages included. It fails with
// ctx's error if ctx ends before.
func (q *Queue) Drained(ctx context.Context) error { return q.until(ctx, q.len) }

// Idle waits until nothing can be done now: the queue holds only messages whose
// delay is not over. It fails with ctx's error if ctx ends before.
func (q *Queue) Idle(ctx context.Context) error { return q.until(ctx, q.undelayed) }

// until waits until number returns 0, which only a change of the queue can cause.
func (q *Queue) until(ctx context.Context, number func() int) error {
	for {
		q.mu.Lock()
		held, changed := number(), q.changed
		q.mu.Unlock()
		if held == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("queue %s still holds %d messages: %w", q.cfg.Name, held, ctx.Err())
		case <-changed:
		}
	}
}

// Bodies returns the bodies of the messages on the queue, oldest first.
func (q *Queue) Bodies() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	messages := slices.Concat(q.ready.messages, q.hidden.messages)
	slices.SortFunc(messages, func(a, b *message) int { return a.place - b.place })
	bodies := make([]string, len(messages))
	for i, m := range messages {
		bodies[i] = m.body
	}
	return bodies
}

// Run receives messages and calls the handler until ctx ends. It then waits until
// everything that was received is handled. The handler's context does not end with
// ctx, but at [Config.HandlerTimeout], as in Lambda.
func (q *Queue) Run(ctx context.Context, handler Handler) {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, q.cfg.Concurrency)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		batch, ok := q.receive(ctx, q.cfg.BatchSize, q.cfg.Window)
		if !ok {
			return
		}
		running.Go(func() {
			defer func() { <-slots }()
			q.handle(context.WithoutCancel(ctx), handler, batch)
		})
	}
}

// pollWait is the longest wait of [Queue.Receive], as of a ReceiveMessage of SQS.
const pollWait = 20 * time.Second

// Receive waits for up to 20 seconds, and returns up to most messages. Its caller handles them: see
// [Queue.Delete]. A queue has either such callers, or [Queue.Run].
func (q *Queue) Receive(ctx context.Context, most int) ([]events.SQSMessage, error) {
	waiting, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	event, _ := q.receive(waiting, most, 0)
	if len(event.Records) == 0 && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return event.Records, nil
}

// Delete deletes a received message. A receipt handle that is not the message's last one deletes nothing.
func (q *Queue) Delete(ctx context.Context, receipt string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remove(receipt)
	q.signal()
	return nil
}

// receive waits for up to most messages, and collects them for a window. It returns false if ctx ended before there
// were any.
func (q *Queue) receive(
	ctx context.Context, most int, window time.Duration,
) (event events.SQSEvent, ok bool) {
	var closes time.Time // when the window closes
	for ctx.Err() == nil {
		q.mu.Lock()
		now := time.Now()
		next := q.take(&event, most, now)
		changed := q.changed
		q.mu.Unlock()
		if len(event.Records) > 0 {
			if closes.IsZero() {
				closes = now.Add(window)
			}
			if len(event.Records) == most || !closes.After(now) {
				return event, true
			}
			if closes.Before(next) {
				next = closes
			}
		}
		var wake <-chan time.Time
		if !next.IsZero() {
			wake = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-wake:
		}
	}
	return event, len(event.Records) > 0
}

// take adds visible messages to an event, until it has most. It returns when the next
// message will be visible; zero means that the queue is empty. Messages that were
// received too often move to the dead-letter queue.
func (q *Queue) take(event *events.SQSEvent, most int, now time.Time) (next time.Time) {
	for q.hidden.Len() > 0 && !q.hidden.messages[0].visible.After(now) {
		m := q.hidden.messages[0]
		q.hidden.drop(m)
		q.ready.add(m)
	}
	moved := false
	for q.ready.Len() > 0 && len(event.Records) < most {
		m := q.ready.messages[0]
		q.ready.drop(m)
		if q.cfg.DeadLetters != nil && m.receives >= q.cfg.MaxReceives {
			delete(q.inFlight, m.receipt)
			q.cfg.Log.Warn("message moves to the dead-letter queue",
				"queue", q.cfg.Name, "message_id", m.id, "receives", m.receives)
			q.cfg.DeadLetters.accept(m, q.arn)
			moved = true
			continue
		}
		event.Records = append(event.Records, q.record(m, now))
		q.hidden.add(m)
	}
	if moved {
		q.signal()
	}
	if q.hidden.Len() > 0 {
		next = q.hidden.messages[0].visible
	}
	return next
}

func (q *Queue) record(m *message, now time.Time) events.SQSMessage {
	delete(q.inFlight, m.receipt)
	m.receives++
	if m.firstReceived.IsZero() {
		m.firstReceived = now
	}
	m.visible = now.Add(q.cfg.VisibilityTimeout)
	m.receipt = fmt.Sprintf("%s#%d", m.id, m.receives)
	q.inFlight[m.receipt] = m
	sum := md5.Sum([]byte(m.body))
	attributes := map[string]string{
		"ApproximateReceiveCount":          strconv.Itoa(m.receives),
		"SentTimestamp":                    strconv.FormatInt(m.sent.UnixMilli(), 10),
		"SenderId":                         "local",
		"ApproximateFirstReceiveTimestamp": strconv.FormatInt(m.firstReceived.UnixMilli(), 10),
	}
	if m.group != "" {
		attributes["MessageGroupId"] = m.group
	}
	return events.SQSMessage{
		MessageId: m.id, ReceiptHandle: m.receipt, Body: m.body, Md5OfBody: hex.EncodeToString(sum[:]),
		Attributes: attributes, MessageAttributes: map[string]events.SQSMessageAttribute{},
		EventSourceARN: q.arn, EventSource: "aws:sqs", AWSRegion: "local",
	}
}

// handle calls the handler and deletes the messages that it does not report as
// failed. If it fails, panics or responds too late, its whole batch has failed.
func (q *Queue) handle(ctx context.Context, handler Handler, event events.SQSEvent) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.HandlerTimeout)
	defer cancel()
	response, err := call(ctx, handler, event)
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("it took longer than %s", q.cfg.HandlerTimeout)
	}
	if err != nil {
		q.cfg.Log.Error("handler failed", "queue", q.cfg.Name, "error", err)
		return
	}
	failed := make(map[string]bool)
	for _, f := range response.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	// An identifier that is not in the batch fails the whole batch, since the
	// event source mapping cannot know which message was meant.
	for id := range failed {
		if !holds(event, id) {
			q.cfg.Log.Error("handler reported a message that is not in its batch",
				"queue", q.cfg.Name, "message_id", id)
			return
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range event.Records {
		if !failed[r.MessageId] {
			q.remove(r.ReceiptHandle)
		}
	}
	q.signal()
}

func call(ctx context.Context, handler Handler, event events.SQSEvent) (response events.SQSEventResponse, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return handler(ctx, event)
}

func holds(event events.SQSEvent, id string) bool {
	for _, r := range event.Records {
		if r.MessageId == id {
			return true
		}
	}
	return false
}

// remove deletes a message by its last receipt handle. An older one deletes
// nothing, since the message has been received again.
func (q *Queue) remove(receipt string) {
	m := q.inFlight[receipt]
	if m == nil {
		return
	}
	delete(q.inFlight, receipt)
	m.in.drop(m)
}

// accept adds a message that another queue moves here as a dead letter. The message keeps its number of receives, as
// with SQS.
func (q *Queue) accept(m *message, source string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.serial++
	m.receipt, m.source, m.visible, m.place = "", source, time.Now(), q.serial
	q.hidden.add(m)
	q.signal()
}

// signal wakes everything that waits for messages, or for their end.
func (q *Queue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// line is a heap of messages.
type line struct {
	messages []*message
	before   func(a, b *message) bool
}

func (l *line) add(m *message) {
	m.in = l
	heap.Push(l, m)
}

func (l *line) drop(m *message) {
	heap.Remove(l, m.index)
	m.in = nil
}

// Len implements [heap.Interface].
func (l *line) Len() int { return len(l.messages) }

// Less implements [heap.Interface].
func (l *line) Less(i, j int) bool { return l.before(l.messages[i], l.messages[j]) }

// Swap implements [heap.Interface].
func (l *line) Swap(i, j int) {
	l.messages[i], l.messages[j] = l.messages[j], l.messages[i]
	l.messages[i].index, l.messages[j].index = i, j
}

// Push implements [heap.Interface].
func (l *line) Push(m any) {
	added := m.(*message)
	added.index = len(l.messages)
	l.messages = append(l.messages, added)
}

// Pop implements [heap.Interface].
func (l *line) Pop() any {
	last := len(l.messages) - 1
	m := l.messages[last]
	l.messages[last] = nil
	l.messages = l.messages[:last]
	return m
}
