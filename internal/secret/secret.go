// Package secret reads secrets and keeps them for some minutes.
package secret

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	// MaxAge is the age at which a value is read again.
	MaxAge = 5 * time.Minute
	// MaxStale is the age at which a value ends, if it cannot be read again. A value that was revoked
	// must not stay in use because its service fails.
	MaxStale = time.Hour
	// MinAge is the minimum time between two reads. It keeps attackers, whose requests ask for newer
	// values, from causing a read each, and a failing service from being asked all the time.
	MinAge = 10 * time.Second
	// refreshTimeout bounds a read if there is a cached value, since a caller waits meanwhile.
	refreshTimeout = 2 * time.Second
)

// ErrRevoked is wrapped by the error of a read if the secret is gone, or if it must no longer be read.
// The cached value then ends at once.
var ErrRevoked = errors.New("the secret is revoked")

// Secret is one secret. It is safe for use by several goroutines.
type Secret struct {
	read func(context.Context) (string, error)
	now  func() time.Time
	log  *slog.Logger

	mu     sync.Mutex
	value  string
	readAt time.Time // when the value was read; zero means never
	tried  time.Time // when a read was last tried
}

// New returns a secret that is read with a function. A nil now means [time.Now], and a nil log means
// [slog.Default].
func New(read func(context.Context) (string, error), now func() time.Time, log *slog.Logger) *Secret {
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.Default()
	}
	return &Secret{read: read, now: now, log: log}
}

// Get returns the value, and reads it again if it is older than [MaxAge]. If that fails, Get returns
// the cached value until it is as old as [MaxStale], unless the error wraps [ErrRevoked]. An error means
// that there is no value.
func (s *Secret) Get(ctx context.Context) (string, error) { return s.get(ctx, MaxAge) }

// Refresh returns the value, and reads it again unless a read was tried in the last ten seconds.
func (s *Secret) Refresh(ctx context.Context) (string, error) { return s.get(ctx, MinAge) }

var errUnread = errors.New("cannot read the secret; it was tried a moment ago")

func (s *Secret) get(ctx context.Context, age time.Duration) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.readAt) >= MaxStale {
		s.value, s.readAt = "", time.Time{}
	}
	if s.readAt.IsZero() {
		if !s.tried.IsZero() && now.Sub(s.tried) < time.Second {
			return "", errUnread
		}
	} else if now.Sub(s.readAt) < age || now.Sub(s.tried) < MinAge {
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
	case errors.Is(err, ErrRevoked):
		s.value, s.readAt = "", time.Time{}
		s.log.ErrorContext(ctx, "secret is revoked; its cached value ends", "error", err)
		return "", err
	default:
		s.log.WarnContext(ctx, "cannot refresh secret; using cached value", "error", err)
	}
	return s.value, nil
}
