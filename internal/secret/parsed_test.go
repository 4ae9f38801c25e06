package secret_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/internal/secret"
)

// source is a stored secret. Get may return an older value than Refresh.
type source struct {
	old, new string
	err      error
}

func (s *source) Get(context.Context) (string, error)     { return s.old, s.err }
func (s *source) Refresh(context.Context) (string, error) { return s.new, s.err }

// store stores a value that Get returns at once.
func (s *source) store(text string) { s.old, s.new = text, text }

type password struct{ text string }

// parse takes every text that begins with "good".
func parse(text string) (*password, error) {
	if !strings.HasPrefix(text, "good") {
		return nil, errors.New("it is not good")
	}
	return &password{text}, nil
}

func newParsed(s secret.Source, log *slog.Logger) *secret.Parsed[password] {
	return secret.NewParsed(s, "password", parse, log)
}

func get(t *testing.T, p *secret.Parsed[password]) *password {
	t.Helper()
	value, err := p.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestParsedOnce(t *testing.T) {
	p := newParsed(secret.Fixed("good"), nil)
	first := get(t, p)
	var using sync.WaitGroup
	for range 16 {
		using.Go(func() {
			if got, err := p.Get(t.Context()); got != first || err != nil {
				t.Errorf("the same text was parsed again, %v", err)
			}
			// A caller whom the newest value refused must see that there is no other.
			if p.Newer(t.Context(), first) != first {
				t.Error("the same text is newer")
			}
		})
	}
	using.Wait()
}

func TestRotation(t *testing.T) {
	s := new(source)
	s.store("good a")
	p := newParsed(s, nil)
	a := get(t, p)

	s.new = "good b"
	if get(t, p) != a {
		t.Error("a value that was not read yet changed something")
	}
	b := p.Newer(t.Context(), a)
	if b.text != "good b" {
		t.Errorf("the newer value is %q", b.text)
	}
	s.store("good b")
	if get(t, p) != b {
		t.Error("the newer value was parsed again")
	}
	s.store("good a")
	if got := get(t, p); got.text != "good a" {
		t.Errorf("after a rotation back, the value is %q", got.text)
	}
}

func TestBrokenValue(t *testing.T) {
	var log bytes.Buffer
	s := new(source)
	s.store("good")
	p := newParsed(s, slog.New(slog.NewTextHandler(&log, nil)))
	good := get(t, p)
	for _, broken := range []string{"s3cr3t", "", "{"} {
		log.Reset()
		s.store(broken)
		for range 3 {
			if get(t, p) != good || p.Newer(t.Context(), good) != good {
				t.Errorf("%q replaced the value before", broken)
			}
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%q: %d errors in the log, want 1 for each change:\n%s", broken, n, log.String())
		}
		if strings.Contains(log.String(), "s3cr3t") || !strings.Contains(log.String(), "secret=password") {
			t.Errorf("the log has the secret, or no name:\n%s", log.String())
		}
	}
	s.store("good again")
	if got := get(t, p); got.text != "good again" {
		t.Errorf("after a repair, the value is %q", got.text)
	}
}

// TestBrokenValueEnds stores a broken value in the place of one that leaked. The leaked one must not stay in
// use for longer than a value that cannot be read.
func TestBrokenValueEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(source)
		s.store("good")
		p := newParsed(s, slog.New(slog.DiscardHandler))
		good := get(t, p)
		s.store("broken")
		time.Sleep(secret.MaxStale - time.Nanosecond)
		if get(t, p) != good {
			t.Error("the last usable value ended too soon")
		}
		time.Sleep(time.Nanosecond)
		for range 2 {
			if value, err := p.Get(t.Context()); err == nil {
				t.Errorf("after an hour, the value is %q", value.text)
			}
		}
		s.store("good again")
		if got := get(t, p); got.text != "good again" {
			t.Errorf("after a repair, the value is %q", got.text)
		}
	})
}

// TestRevokedValueStaysRevoked checks that a value that has ended does not serve again as the last usable
// one, when a broken one is stored.
func TestRevokedValueStaysRevoked(t *testing.T) {
	s := new(source)
	s.store("good")
	p := newParsed(s, slog.New(slog.DiscardHandler))
	get(t, p)
	s.err = secret.ErrRevoked
	if value, err := p.Get(t.Context()); !errors.Is(err, secret.ErrRevoked) {
		t.Errorf("a revoked value: %v, %v", value, err)
	}
	s.err = nil
	s.store("broken")
	if value, err := p.Get(t.Context()); err == nil {
		t.Errorf("the revoked value is back: %q", value.text)
	}
}

func TestNoValue(t *testing.T) {
	s := new(source)
	p := newParsed(s, slog.New(slog.DiscardHandler))
	s.store("s3cr3t")
	for range 2 {
		if got, err := p.Get(t.Context()); err == nil || got != nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("a broken value: %v, %v; want an error without the secret", got, err)
		}
	}
	s.err = errors.New("the service is down")
	if got, err := p.Get(t.Context()); !errors.Is(err, s.err) || got != nil {
		t.Errorf("a value that cannot be read: %v, %v", got, err)
	}
	down := s.err
	s.err = nil
	s.store("good")
	value := get(t, p)
	s.err = down
	if p.Newer(t.Context(), value) != value {
		t.Error("a value that cannot be read is newer")
	}
}
