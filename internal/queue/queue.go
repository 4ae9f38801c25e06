// Package queue says what the queues carry. The packages below it are the
// queues.
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
	// MaxBatch is how many messages one SendMessageBatch takes (Amazon SQS
	// quotas). Their sizes together may not exceed MaxMessage either.
	MaxBatch = 10
	// MaxDelay is the longest [Message.Delay]: 15 minutes (Amazon SQS quotas).
	MaxDelay = 15 * time.Minute
)

// Message is one message to send.
type Message struct {
	Body string
	// Group keeps messages of one kind of sender from delaying the others
	// (SQS fair queues). Empty means no group. See [Group].
	Group string
	// Delay is how long the message stays hidden at first, rounded up to whole
	// seconds. 0 means not at all; more than [MaxDelay] is an error.
	Delay time.Duration
}

// DelaySeconds is Delay as SQS counts it: in whole seconds, rounded up.
func (m Message) DelaySeconds() int32 {
	return int32((m.Delay + time.Second - 1) / time.Second)
}

// Check says what of the message SQS would not take as it is. Of a body it takes 1
// to [MaxMessage] bytes of UTF-8, without control characters other than tab,
// line feed and carriage return, and without U+FFFE and U+FFFF. It refuses
// others or replaces them (Amazon SQS API reference, SendMessageBatch and
// SendMessage). A delay is between 0 and [MaxDelay]. Nil means that it takes the
// message.
func (m Message) Check() error {
	if m.Delay < 0 || m.Delay > MaxDelay {
		return fmt.Errorf("a message with a delay of %s; SQS takes between 0 and %s", m.Delay, MaxDelay)
	}
	if len(m.Body) == 0 || len(m.Body) > MaxMessage {
		return fmt.Errorf("a message of %d bytes; SQS takes between 1 and %d", len(m.Body), MaxMessage)
	}
	if !utf8.ValidString(m.Body) {
		return errors.New("a message that is not UTF-8")
	}
	refused := func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\ufffe' || r == '\uffff'
	}
	if i := strings.IndexFunc(m.Body, refused); i >= 0 {
		r, _ := utf8.DecodeRuneInString(m.Body[i:])
		return fmt.Errorf("a message with the character %U, which SQS does not take", r)
	}
	return nil
}

// Group makes a message group id of any string: SQS takes 1 to 128
// alphanumeric characters and punctuation there, and refuses the whole
// message otherwise.
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
