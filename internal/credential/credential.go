// Package credential gives the verifier of webhooks from the credential as it
// is stored, and another one when that changes.
package credential

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/ringback/ringback/vapi/vapiauth"
)

// Source is where the credential is stored: JSON, as [vapiauth.ParsePlans] takes.
type Source interface {
	Get(ctx context.Context) (string, error)     // may be some minutes old
	Refresh(ctx context.Context) (string, error) // as new as possible
}

// Fixed is a credential that does not change.
type Fixed string

// Get gives the credential.
func (f Fixed) Get(context.Context) (string, error) { return string(f), nil }

// Refresh gives the credential.
func (f Fixed) Refresh(context.Context) (string, error) { return string(f), nil }

// Choose gives the source that the environment names: an inline credential, or
// a stored one by its id. Exactly one of them must be there.
func Choose(inline, id string, stored func(id string) Source) (Source, error) {
	switch {
	case inline != "" && id != "":
		return nil, errors.New("both WEBHOOK_AUTH and WEBHOOK_SECRET_ID are set; unset one of them")
	case inline != "":
		return Fixed(inline), nil
	case id != "":
		return stored(id), nil
	default:
		return nil, errors.New(`neither WEBHOOK_SECRET_ID nor WEBHOOK_AUTH is set; set one of them ({"type":"none"} switches verification off)`)
	}
}

// Credentials makes verifiers. It is safe for use by several goroutines.
type Credentials struct {
	source Source
	log    *slog.Logger

	mu       sync.Mutex
	made     string // what verifier was made of, or could not be
	verifier *vapiauth.Verifier
}

// New makes credentials. log may be nil and then is [slog.Default].
func New(source Source, log *slog.Logger) *Credentials {
	if log == nil {
		log = slog.Default()
	}
	return &Credentials{source: source, log: log}
}

// Verifier gives the current verifier. Its error says what is wrong with the
// credential, or with reading it, and nothing of its content.
func (c *Credentials) Verifier(ctx context.Context) (*vapiauth.Verifier, error) {
	text, err := c.source.Get(ctx)
	if err != nil {
		return nil, err
	}
	return c.make(ctx, text)
}

// Newer gives the verifier of a credential that was changed a moment ago, or
// stale where there is none.
func (c *Credentials) Newer(ctx context.Context, stale *vapiauth.Verifier) *vapiauth.Verifier {
	text, err := c.source.Refresh(ctx)
	if err != nil {
		return stale
	}
	v, err := c.make(ctx, text)
	if err != nil {
		return stale
	}
	return v
}

func (c *Credentials) make(ctx context.Context, text string) (*vapiauth.Verifier, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.verifier != nil && c.made == text {
		return c.verifier, nil
	}
	v, err := parse(text)
	switch {
	case err == nil:
		c.verifier = v
	case c.verifier == nil:
		return nil, err
	default:
		// Somebody stored a broken credential: the one before still lets
		// genuine webhooks in. This is said once, and not to every stranger.
		c.log.ErrorContext(ctx, "the webhook credential was changed to one that cannot be used; the old one goes on", "error", err)
	}
	c.made = text
	return c.verifier, nil
}

func parse(text string) (*vapiauth.Verifier, error) {
	plans, err := vapiauth.ParsePlans([]byte(text))
	if err != nil {
		return nil, err
	}
	return vapiauth.NewVerifier(plans...)
}
