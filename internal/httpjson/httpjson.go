// Package httpjson holds what the handlers of HTTP requests have in common: they read a bounded
// body, answer with JSON, and map errors to answers by a table. A request's context shows when it was
// received.
package httpjson

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/ringback/ringback/internal/jsonscan"
)

var (
	// ErrMethod means that a request is not a POST.
	ErrMethod = errors.New("the method is not POST")
	// ErrTooLarge means that a body is larger than allowed.
	ErrTooLarge = errors.New("the body is too large")
	// ErrEncoding means that a body that API Gateway encodes in base64 cannot be decoded.
	ErrEncoding = errors.New("the body is not valid base64")
	// ErrUnreadable means that a body could not be read, since the connection broke.
	ErrUnreadable = errors.New("cannot read the body")
)

// Body returns the body of a request as it was sent, if it has at most limit bytes. An error wraps one
// of the errors above. Body neither copies nor checks a body that has a method
//
//	Document() (jsonscan.Document, error)
func Body(r *http.Request, limit int64) (jsonscan.Document, error) {
	if r.ContentLength > limit {
		return jsonscan.Document{}, fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, limit)
	}
	var body jsonscan.Document
	var err error
	if whole, ok := r.Body.(interface {
		Document() (jsonscan.Document, error)
	}); ok {
		body, err = whole.Document()
	} else {
		body.Text, err = io.ReadAll(io.LimitReader(r.Body, limit+1))
	}
	switch _, encoding := errors.AsType[base64.CorruptInputError](err); {
	case encoding:
		return jsonscan.Document{}, ErrEncoding
	case err != nil:
		return jsonscan.Document{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	case int64(len(body.Text)) > limit:
		return jsonscan.Document{}, fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, limit)
	}
	return body, nil
}

type receivedKey struct{}

// WithReceived returns a context for a request that was received at a time, before its function began.
func WithReceived(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, receivedKey{}, at)
}

// maxHeld is how long API Gateway holds a request at most (Amazon API Gateway quotas).
const maxHeld = 30 * time.Second

// Received returns when a request was received. If its context does not show a time that is possible
// now, it returns now.
func Received(ctx context.Context, now time.Time) time.Time {
	at, ok := ctx.Value(receivedKey{}).(time.Time)
	if !ok || at.After(now) || now.Sub(at) > maxHeld {
		return now
	}
	return at
}

// A Refusal is the answer to an error.
type Refusal struct {
	Err    error // nil matches every error
	Status int
	Text   string // for the sender; empty means the text of the error
}

// Refuse returns the first refusal that matches an error, with the text of the error if it has none.
// The last refusal must match every error.
func Refuse(err error, refusals []Refusal) Refusal {
	for _, r := range refusals {
		if r.Err == nil || errors.Is(err, r.Err) {
			return Refusal{err, r.Status, cmp.Or(r.Text, err.Error())}
		}
	}
	panic("no refusal matches every error")
}

// Level is the level at which the refusal is logged.
func (r Refusal) Level() slog.Level {
	if r.Status >= http.StatusInternalServerError {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// Write answers with the refusal. After 503, a sender can try again in a second.
func (r Refusal) Write(w http.ResponseWriter) {
	if r.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	Write(w, r.Status, Object("error", r.Text))
}

// RefusalLog logs refusals by sample, because an attacker can cause any number of them. The zero value is
// ready. It is safe for use by several goroutines.
type RefusalLog struct {
	mu     sync.Mutex
	minute time.Time
	counts map[int]int // refusals in that minute, by status
}

// Log logs the first refusal of each status in a minute, and then the tenth, the hundredth, and so on.
// The attribute "count" says how many there were in the minute so far. So a flood of one status hides no
// other, and its size shows also if it ends.
func (l *RefusalLog) Log(
	ctx context.Context, log *slog.Logger, now time.Time, message string, r Refusal,
) {
	count := l.count(r.Status, now)
	for n := count; n > 1; n /= 10 {
		if n%10 != 0 {
			return
		}
	}
	log.LogAttrs(ctx, r.Level(), message,
		slog.Int("status", r.Status), slog.Int("count", count), slog.Any("error", r.Err))
}

func (l *RefusalLog) count(status int, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if minute := now.Truncate(time.Minute); l.counts == nil || !minute.Equal(l.minute) {
		l.minute, l.counts = minute, map[int]int{}
	}
	l.counts[status]++
	return l.counts[status]
}

// Object returns a JSON object with one member, a string.
func Object(member, text string) []byte {
	object, _ := json.Marshal(map[string]string{member: text}) // strings always encode
	return object
}

// Write answers with a JSON text.
func Write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // if the sender is gone, no one needs the answer
}
