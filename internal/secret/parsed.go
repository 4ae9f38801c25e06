package secret

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Source reads a stored secret.
type Source interface {
	Get(ctx context.Context) (string, error)     // may be some minutes old
	Refresh(ctx context.Context) (string, error) // as new as possible
}

// Fixed is a secret that does not change.
type Fixed string

// Get returns the secret.
func (f Fixed) Get(context.Context) (string, error) { return string(f), nil }

// Refresh returns the secret.
func (f Fixed) Refresh(context.Context) (string, error) { return string(f), nil }

// Parsed is a secret in the form in which it is used. It parses each value of its source once. It
// reads nothing before it is used, and is safe for use by several goroutines.
type Parsed[T any] struct {
	source Source
	parse  func(text string) (*T, error)
	name   string
	log    *slog.Logger

	mu     sync.Mutex
	text   string    // what was parsed last, successfully or not
	err    error     // why text is unusable; nil if it is usable, or if nothing was parsed
	parsed *T        // the last usable value; nil means there is none
	usable time.Time // when the source last held the value of parsed
}

// NewParsed returns the secret of a source. name identifies it in the log. An error of parse must not
// contain any part of the text. A nil log means [slog.Default].
func NewParsed[T any](source Source, name string, parse func(text string) (*T, error), log *slog.Logger) *Parsed[T] {
	if log == nil {
		log = slog.Default()
	}
	return &Parsed[T]{source: source, parse: parse, name: name, log: log}
}

// Get returns the current value. If the source holds an unusable value, Get returns the last usable
// one, for [MaxStale] at most. An error means that there is none; it contains nothing of the secret.
func (p *Parsed[T]) Get(ctx context.Context) (*T, error) {
	text, err := p.source.Get(ctx)
	return p.of(ctx, text, err)
}

// Newer returns the value that was stored since stale was read, or stale if there is none. The source
// decides how often it is read (see [Secret.Refresh]).
func (p *Parsed[T]) Newer(ctx context.Context, stale *T) *T {
	text, err := p.source.Refresh(ctx)
	value, err := p.of(ctx, text, err)
	if err != nil {
		return stale
	}
	return value
}

// of returns the value of what the source returned.
func (p *Parsed[T]) of(ctx context.Context, text string, err error) (*T, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.text, p.err, p.parsed = "", nil, nil // what has ended must not come back
		return nil, err
	}
	now := time.Now()
	if p.text != text || p.parsed == nil && p.err == nil {
		value, err := p.parse(text)
		switch {
		case err == nil:
			p.parsed = value
		case p.parsed != nil:
			// An operator stored a broken secret. The last usable one still serves genuine requests.
			// This is logged once, not for each request.
			p.log.ErrorContext(ctx, "cannot use changed secret; using the last usable value for an hour",
				"secret", p.name, "error", err)
		}
		p.text, p.err = text, err
	}
	switch {
	case p.err == nil:
		p.usable = now
	case now.Sub(p.usable) >= MaxStale:
		p.parsed = nil
	}
	if p.parsed == nil {
		return nil, p.err
	}
	return p.parsed, nil
}
