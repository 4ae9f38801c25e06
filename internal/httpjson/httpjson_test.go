package httpjson_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ringback/ringback/internal/httpjson"
	"github.com/ringback/ringback/internal/jsonscan"
)

// whole is a body that returns all of itself.
type whole struct {
	io.ReadCloser
	text string
	err  error
}

func (w whole) Document() (jsonscan.Document, error) {
	return jsonscan.Document{Text: []byte(w.text)}, w.err
}

func TestBody(t *testing.T) {
	reader := func(text string) io.ReadCloser { return io.NopCloser(iotest.OneByteReader(strings.NewReader(text))) }
	broken := func(err error) io.ReadCloser { return io.NopCloser(iotest.ErrReader(err)) }
	for name, row := range map[string]struct {
		body   io.ReadCloser
		length int64
		want   string
		err    error
	}{
		"of a known length":    {body: reader("12345678"), length: 8, want: "12345678"},
		"chunked":              {body: reader("12345678"), length: -1, want: "12345678"},
		"empty":                {body: http.NoBody},
		"whole":                {body: whole{text: "\x00\xff"}, length: 2, want: "\x00\xff"},
		"too large, known":     {body: broken(errors.New("it was read")), length: 9, err: httpjson.ErrTooLarge},
		"too large, chunked":   {body: reader("123456789"), length: -1, err: httpjson.ErrTooLarge},
		"too large, whole":     {body: whole{text: "123456789"}, length: -1, err: httpjson.ErrTooLarge},
		"a broken connection":  {body: broken(io.ErrUnexpectedEOF), length: -1, err: httpjson.ErrUnreadable},
		"broken base64":        {body: broken(base64.CorruptInputError(1)), err: httpjson.ErrEncoding},
		"broken base64, whole": {body: whole{err: base64.CorruptInputError(1)}, err: httpjson.ErrEncoding},
	} {
		r := &http.Request{Body: row.body, ContentLength: row.length}
		if got, err := httpjson.Body(r, 8); string(got.Text) != row.want || !errors.Is(err, row.err) {
			t.Errorf("%s: %q, %v", name, got.Text, err)
		}
	}
}

func TestRefuse(t *testing.T) {
	known, other := errors.New("known"), errors.New("other")
	refusals := []httpjson.Refusal{
		{Err: io.EOF, Status: 503, Text: "try again"},
		{Err: known, Status: 400},
		{Status: 500, Text: "the <rest>"},
	}
	for _, row := range []struct {
		err        error
		status     int
		level      slog.Level
		retryAfter string
		body       string
	}{
		{fmt.Errorf("wrapped: %w", io.EOF), 503, slog.LevelError, "1", `{"error":"try again"}`},
		{fmt.Errorf("%w: \"x\"", known), 400, slog.LevelWarn, "", `{"error":"known: \"x\""}`},
		{other, 500, slog.LevelError, "", `{"error":"the \u003crest\u003e"}`},
	} {
		refusal := httpjson.Refuse(row.err, refusals)
		w := httptest.NewRecorder()
		refusal.Write(w)
		if refusal.Status != row.status || refusal.Level() != row.level || !errors.Is(refusal.Err, row.err) {
			t.Errorf("%v: %+v, %s", row.err, refusal, refusal.Level())
		}
		if w.Code != row.status || w.Header().Get("Retry-After") != row.retryAfter ||
			w.Header().Get("Content-Type") != "application/json" || w.Body.String() != row.body {
			t.Errorf("%v: %d %v %s", row.err, w.Code, w.Header(), w.Body)
		}
	}
}

func TestReceived(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	if got := httpjson.Received(t.Context(), now); !got.Equal(now) {
		t.Errorf("without a time: %s", got)
	}
	for ago, want := range map[time.Duration]time.Duration{
		0: 0, 7 * time.Second: 7 * time.Second, 30 * time.Second: 30 * time.Second,
		-time.Second: 0, 31 * time.Second: 0, // the clocks differ, or the event is a sample
	} {
		got := httpjson.Received(httpjson.WithReceived(t.Context(), now.Add(-ago)), now)
		if now.Sub(got) != want {
			t.Errorf("received %s ago: %s ago, want %s", ago, now.Sub(got), want)
		}
	}
}
