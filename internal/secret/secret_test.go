package secret_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/internal/secret"
)

// TestSecret reads a secret at several times. Its value is the number of times that the service was asked.
func TestSecret(t *testing.T) {
	type step struct {
		at      time.Duration // since the start
		refresh bool          // Refresh, not Get
		service error         // of the service
		want    string        // the value; empty means an error
		reads   int           // how often the service was asked so far
	}
	const get, refresh = false, true
	var up error
	down := errors.New("the service is down")
	revoked := fmt.Errorf("AccessDenied: %w", secret.ErrRevoked)
	for name, steps := range map[string][]step{
		"Get reads once, and again after MaxAge": {
			{0, get, up, "1", 1},
			{secret.MaxAge - 1, get, up, "1", 1},
			{secret.MaxAge, get, up, "2", 2},
			{secret.MaxAge + time.Second, get, up, "2", 2},
			{2*secret.MaxAge - 1, get, up, "2", 2},
			{2 * secret.MaxAge, get, up, "3", 3},
		},
		"Refresh reads every 10 seconds at most": {
			{0, refresh, up, "1", 1},
			{1, refresh, up, "1", 1},
			{10*time.Second - 1, refresh, up, "1", 1},
			{10 * time.Second, refresh, up, "2", 2},
			{19 * time.Second, refresh, up, "2", 2},
			{20 * time.Second, refresh, up, "3", 3},
			{21 * time.Second, get, up, "3", 3},
		},
		"Refresh does not read what Get has just read": {
			{0, get, up, "1", 1},
			{9 * time.Second, refresh, up, "1", 1},
			{10 * time.Second, refresh, up, "2", 2},
			{10*time.Second + secret.MaxAge - 1, get, up, "2", 2},
		},
		"the cached value is used for an hour while the service fails": {
			{0, get, up, "1", 1},
			{secret.MaxAge, get, down, "1", 2},
			{secret.MaxAge + 10*time.Second, get, down, "1", 3},
			{time.Hour - 1, get, down, "1", 4},
			{time.Hour, get, down, "", 4}, // not every caller asks a failing service
			{time.Hour + time.Second, refresh, down, "", 5},
			{24 * time.Hour, get, down, "", 6},
			{25 * time.Hour, get, up, "7", 7},
			{25*time.Hour + time.Minute, get, up, "7", 7},
		},
		"an hour begins anew with each read": {
			{0, get, up, "1", 1},
			{50 * time.Minute, get, up, "2", 2},
			{100 * time.Minute, get, down, "2", 3},
			{110 * time.Minute, get, down, "", 4},
		},
		"a value that was not used for hours": {
			{0, get, up, "1", 1},
			{3 * time.Hour, get, down, "", 2},
		},
		"a revoked value ends at once, and does not come back": {
			{0, get, up, "1", 1},
			{secret.MaxAge, get, revoked, "", 2},
			{secret.MaxAge + 1, refresh, down, "", 2},
			{secret.MaxAge + time.Second, get, down, "", 3},
			{secret.MaxAge + 2*time.Second, get, up, "4", 4},
		},
		"a value is revoked when a caller asks for a newer one": {
			{0, get, up, "1", 1},
			{10 * time.Second, refresh, revoked, "", 2},
			{12 * time.Second, get, down, "", 3},
		},
		"a failing service is asked every 10 seconds at most": {
			{0, get, up, "1", 1},
			{secret.MaxAge, get, down, "1", 2},
			{secret.MaxAge + 1, get, down, "1", 2},
			{secret.MaxAge + 5*time.Second, refresh, down, "1", 2},
			{secret.MaxAge + 10*time.Second - 1, refresh, up, "1", 2},
			{secret.MaxAge + 10*time.Second, refresh, down, "1", 3},
			{secret.MaxAge + 15*time.Second, get, up, "1", 3},
			{secret.MaxAge + 20*time.Second, get, up, "4", 4},
		},
		"Refresh during an outage": {
			{0, get, up, "1", 1},
			{time.Minute, refresh, down, "1", 2},
			{time.Minute + 9*time.Second, refresh, up, "1", 2},
			{time.Minute + 10*time.Second, refresh, up, "3", 3},
		},
		"there never was a value": {
			{0, get, down, "", 1},
			{1, get, up, "", 1}, // not every caller asks a failing service
			{time.Second - 1, refresh, up, "", 1},
			{time.Second, get, down, "", 2},
			{2 * time.Second, get, up, "3", 3},
			{3 * time.Second, get, down, "3", 3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var clock time.Duration
			var service error
			reads := 0
			s := secret.New(func(context.Context) (string, error) {
				reads++
				if service != nil {
					return "half a value", service
				}
				return fmt.Sprint(reads), nil
			}, func() time.Time { return time.Unix(0, 0).Add(clock) }, slog.New(slog.DiscardHandler))
			for i, step := range steps {
				clock, service = step.at, step.service
				ask := s.Get
				if step.refresh {
					ask = s.Refresh
				}
				got, err := ask(t.Context())
				if got != step.want || (err == nil) != (step.want != "") {
					t.Errorf("step %d, at %s: %q and %v, want %q", i, step.at, got, err, step.want)
				}
				if reads != step.reads {
					t.Errorf("step %d, at %s: %d reads, want %d", i, step.at, reads, step.reads)
				}
			}
		})
	}
}

func TestOutageIsLogged(t *testing.T) {
	var log bytes.Buffer
	down := false
	now := time.Unix(0, 0)
	s := secret.New(func(context.Context) (string, error) {
		if down {
			return "", errors.New("throttled")
		}
		return "the value", nil
	}, func() time.Time { return now }, slog.New(slog.NewTextHandler(&log, nil)))
	for range 2 {
		if _, err := s.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		down, now = true, now.Add(secret.MaxAge)
	}
	logged := log.String()
	if !strings.Contains(logged, "level=WARN") || !strings.Contains(logged, "throttled") ||
		strings.Contains(logged, "the value") {
		t.Errorf("log:\n%s", logged)
	}
}

// TestHangingService checks that no caller waits long for a newer value if there is a cached one.
func TestHangingService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := false
		s := secret.New(func(ctx context.Context) (string, error) {
			if hangs {
				<-ctx.Done()
				return "", ctx.Err()
			}
			return "old", nil
		}, nil, slog.New(slog.DiscardHandler))
		if _, err := s.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		hangs = true
		time.Sleep(secret.MaxAge)
		asked := time.Now()
		if got, err := s.Get(t.Context()); got != "old" || err != nil {
			t.Errorf("%q and %v, want the old value", got, err)
		}
		if waited := time.Since(asked); waited > 2*time.Second {
			t.Errorf("waited for %s", waited)
		}
	})
}

func TestConcurrentGetsReadOnce(t *testing.T) {
	const callers = 32
	var reads atomic.Int32
	var all sync.WaitGroup
	all.Add(callers)
	s := secret.New(func(context.Context) (string, error) {
		reads.Add(1)
		all.Wait() // until all callers ask
		return "value", nil
	}, nil, nil)
	var asking sync.WaitGroup
	for range callers {
		asking.Go(func() {
			all.Done()
			if got, err := s.Get(t.Context()); got != "value" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	asking.Wait()
	if n := reads.Load(); n != 1 {
		t.Errorf("%d reads", n)
	}
}
