// Package queue defines the messages of the queues, the names of the schedules that send
// messages later, and the limits of the functions behind the queues. The packages
// sqsqueue, scheduler and memqueue implement queues and schedules; queuetest and
// scheduletest are their contracts.
package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxMessage is the largest message, in bytes: 1 MiB (Amazon SQS quotas).
	MaxMessage = 1 << 20
	// MaxBatch is how many messages one SendMessageBatch accepts (Amazon SQS quotas).
	// The sum of their sizes must not exceed MaxMessage either.
	MaxBatch = 10
	// MaxDelay is the longest [Message.Delay]: 15 minutes (Amazon SQS quotas).
	MaxDelay = 15 * time.Minute
)

// Message is one message to send.
type Message struct {
	Body string
	// Group keeps the messages of one sender from delaying those of others (SQS fair
	// queues). Empty means no group. See [Group].
	Group string
	// Delay is how long the message is hidden at first, rounded up to whole seconds. 0
	// means that it is visible at once. More than [MaxDelay] is an error.
	Delay time.Duration
}

// DelaySeconds returns Delay in whole seconds, rounded up, as SQS needs it.
func (m Message) DelaySeconds() int32 {
	return int32((m.Delay + time.Second - 1) / time.Second)
}

// Check fails if SQS would refuse or change the message. A body has 1 to [MaxMessage]
// bytes of UTF-8, without U+FFFE, U+FFFF and control characters other than tab, line
// feed and carriage return (Amazon SQS API reference, SendMessageBatch and SendMessage).
// A delay is between 0 and [MaxDelay].
func (m Message) Check() error {
	if m.Delay < 0 || m.Delay > MaxDelay {
		return fmt.Errorf("message with a delay of %s; SQS accepts 0 to %s", m.Delay, MaxDelay)
	}
	if len(m.Body) == 0 || len(m.Body) > MaxMessage {
		return fmt.Errorf("message of %d bytes; SQS accepts 1 to %d", len(m.Body), MaxMessage)
	}
	if !utf8.ValidString(m.Body) {
		return errors.New("message is not UTF-8")
	}
	refused := func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\ufffe' || r == '\uffff'
	}
	if i := strings.IndexFunc(m.Body, refused); i >= 0 {
		r, _ := utf8.DecodeRuneInString(m.Body[i:])
		return fmt.Errorf("message with the character %U, which SQS refuses", r)
	}
	return nil
}

// Group returns a message group id for any string. It hashes a string that SQS would
// refuse, together with its message: an id has 1 to 128 ASCII letters, digits and
// punctuation characters (Amazon SQS API reference, SendMessage).
func Group(s string) string {
	valid := len(s) >= 1 && len(s) <= 128
	for i := 0; valid && i < len(s); i++ {
		valid = s[i] > ' ' && s[i] < 0x7f
	}
	if valid || s == "" {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// LongTool is the longest timeout of a short tool. The jobs of long tools have a queue of
// their own, so that a short tool does not wait until a long one has ended. Callers arrive
// one at a time, so nearly every job takes an invocation of its own, and the number of
// invocations is limited for each queue. The timeout decides, because it is known before
// the tool runs.
const LongTool = time.Minute

const (
	// processWrapUp is the time that the process function needs beside its longest
	// tool, to claim a job, and to store and send its outcome.
	processWrapUp = 30 * time.Second

	// visibilityMargin is how much longer than its function's timeout a message stays
	// hidden. If it returned earlier, its job would still be leased.
	visibilityMargin = 30 * time.Second

	// spareReceives is how often a job may be received without an attempt that counts,
	// because another message owns it, the table does not answer, or its tool could not
	// begin (five times at most: see asynctool.MaxNotStarted). With their backoff, so many receives
	// outlast an outage of some minutes.
	spareReceives = 16
)

// Limits bound how long the functions behind the queues may run, and how the queues
// treat their messages. They follow from the tools' own timeouts and attempts.
type Limits struct {
	ProcessTimeout   time.Duration // of the process function
	JobsVisibility   time.Duration // of both jobs queues, which have the same function
	JobsMaxReceives  int           // before a job moves to the dead-letter queue
	CallbackTimeout  time.Duration // of the callback function
	ResultVisibility time.Duration // of the results queue
	// ResultMaxReceives exceeds the callback function's own limit. It can therefore
	// send an undelivered event before the message moves to the dead-letter queue.
	ResultMaxReceives int
}

// LimitsFor returns the limits for tools with at most this timeout and this number of
// attempts. The local run and the deployment both use it, so that they agree.
func LimitsFor(maxTimeout time.Duration, maxAttempts int) Limits {
	l := Limits{
		ProcessTimeout:    maxTimeout + processWrapUp,
		JobsMaxReceives:   maxAttempts + spareReceives,
		CallbackTimeout:   time.Minute,
		ResultMaxReceives: 30,
	}
	l.JobsVisibility = l.ProcessTimeout + visibilityMargin
	l.ResultVisibility = l.CallbackTimeout + visibilityMargin
	return l
}
