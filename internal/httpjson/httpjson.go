// Package httpjson holds what the handlers of HTTP requests have in common:
// they read a bounded body, answer with JSON, and answer each error as a table
// says.
package httpjson

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
)

var (
	// ErrMethod means that a request is not a POST.
	ErrMethod = errors.New("the method is not POST")
	// ErrTooLarge means that a body is larger than allowed.
	ErrTooLarge = errors.New("the body is too large")
	// ErrEncoding means that API Gateway's base64 could not be undone.
	ErrEncoding = errors.New("the body is not valid base64")
	// ErrUnreadable means that the connection broke while a body was read.
	ErrUnreadable = errors.New("cannot read the body")
)

// Body returns the body of a request as it was sent, of at most limit bytes. An
// error wraps one of the errors above. A body that has a method
//
//	Bytes() ([]byte, error)
//
// is not copied.
func Body(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, limit)
	}
	var body []byte
	var err error
	if whole, ok := r.Body.(interface{ Bytes() ([]byte, error) }); ok {
		body, err = whole.Bytes()
	} else {
		body, err = io.ReadAll(io.LimitReader(r.Body, limit+1))
	}
	switch _, encoding := errors.AsType[base64.CorruptInputError](err); {
	case encoding:
		return nil, ErrEncoding
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, limit)
	}
	return body, nil
}

// A Refusal is the answer to an error.
type Refusal struct {
	Err    error // nil matches every error
	Status int
	Text   string // what the sender is told; empty means the error's own text
}

// Refuse returns the first refusal that matches an error. If its text is empty,
// it gets the error's. The last refusal must match every error.
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

// Write answers with the refusal. A sender may repeat what was answered with
// 503 after a second.
func (r Refusal) Write(w http.ResponseWriter) {
	if r.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	Write(w, r.Status, Object("error", r.Text))
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
	_, _ = w.Write(body) // a sender that has gone away needs no answer
}
