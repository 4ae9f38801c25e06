package memkey

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/ringback/ringback/internal/encryption"
)

// Envelope encrypts texts with a key in memory. It is the local counterpart of a symmetric KMS key.
type Envelope struct{ key []byte }

// dataKey is the length of a key, in bytes.
const dataKey = 32

// NewEnvelope returns an envelope with a key that [Envelope.Marshal] returned, or with a new one if that is nil.
func NewEnvelope(key []byte) (*Envelope, error) {
	if key == nil {
		key = make([]byte, dataKey)
		rand.Read(key)
	}
	if len(key) != dataKey {
		return nil, errors.New("the key has the wrong length")
	}
	return &Envelope{key}, nil
}

// Marshal returns the key.
func (e *Envelope) Marshal() []byte { return e.key }

// Seal encrypts a text for a name with a new data key.
func (e *Envelope) Seal(ctx context.Context, name string, plaintext []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key := make([]byte, dataKey)
	rand.Read(key)
	encrypted, err := encryption.Seal(e.key, []byte("-"), key, name)
	if err != nil {
		return nil, err
	}
	return encryption.Seal(key, encrypted, plaintext, name)
}

// Open decrypts what Seal returned for the same name.
func (e *Envelope) Open(ctx context.Context, name string, sealed []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	outer, err := encryption.ParseEnvelope(sealed)
	if err != nil {
		return nil, err
	}
	inner, err := encryption.ParseEnvelope(outer.Key)
	if err != nil {
		return nil, err
	}
	key, err := inner.Open(e.key, name)
	if err != nil {
		return nil, err
	}
	return outer.Open(key, name)
}
