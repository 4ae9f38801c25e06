// Package secret reads secrets and keeps them for a while.
package secret

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	// MaxAge is how old a value may become before it is read again.
	MaxAge = 5 * time.Minute
	// minAge keeps strangers, whose requests ask for newer values, from
	// causing a request each; and a failing service from being asked every
	// time.
	minAge = 10 * time.Second
	// refreshTimeout bounds a read that an old value can stand in for, as
	// somebody waits meanwhile.
	refreshTimeout = 2 * time.Second
)

// Secret is one secret. It is safe for use by several goroutines.
type Secret struct {
	read func(context.Context) (string, error)
	now  func() time.Time
	log  *slog.Logger

	mu     sync.Mutex
	value  string
	readAt time.Time // when the value was read; zero means never
	tried  time.Time // when it was last tried to be read
}

// New makes a secret of the function that reads it. now and log may be nil
// and then are [time.Now] and [slog.Default].
func New(read func(context.Context) (string, error), now func() time.Time, log *slog.Logger) *Secret {
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.Default()
	}
	return &Secret{read: read, now: now, log: log}
}

// Get gives the value, read again where it is older than [MaxAge]. While it
// cannot be read, the old value goes on; the error means that there never was
// one.
func (s *Secret) Get(ctx context.Context) (string, error) { return s.get(ctx, MaxAge) }

// Refresh gives the value, read again unless that was tried a few seconds ago.
func (s *Secret) Refresh(ctx context.Context) (string, error) { return s.get(ctx, minAge) }

var errUnread = errors.New("the secret could not be read a moment ago")

func (s *Secret) get(ctx context.Context, age time.Duration) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.readAt.IsZero() {
		if !s.tried.IsZero() && now.Sub(s.tried) < time.Second {
			return "", errUnread
		}
	} else if now.Sub(s.readAt) < age || now.Sub(s.tried) < minAge {
		return s.value, nil
	}
	s.tried = now
	if !s.readAt.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
	}
	value, err := s.read(ctx)
	switch {
	case err == nil:
		s.value, s.readAt = value, now
	case s.readAt.IsZero():
		return "", err
	default:
		s.log.WarnContext(ctx, "a secret cannot be read again; its old value goes on", "error", err)
	}
	return s.value, nil
}
