// Package memkey decrypts arguments with a key in memory. It is the local counterpart of a KMS key.
package memkey

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"

	"github.com/ringback/ringback/internal/encryption"
)

// bits is the size of the key that a deployment has.
const bits = 2048

// Key is a key pair. It is stored only while a local run restarts.
type Key struct{ private *rsa.PrivateKey }

// New returns a new key.
func New() (*Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, bits)
	return &Key{private: private}, err
}

// Parse returns the key that [Key.Marshal] has encoded.
func Parse(encoded []byte) (*Key, error) {
	private, err := x509.ParsePKCS1PrivateKey(encoded)
	if err != nil {
		return nil, errors.New("cannot parse the key of encrypted arguments")
	}
	return &Key{private: private}, nil
}

// Marshal encodes the private key.
func (k *Key) Marshal() []byte { return x509.MarshalPKCS1PrivateKey(k.private) }

// Public returns the public key.
func (k *Key) Public() *rsa.PublicKey { return &k.private.PublicKey }

// Decrypt decrypts a value that was encrypted with the public key.
func (k *Key) Decrypt(ctx context.Context, ciphertext []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	plaintext, err := rsa.DecryptOAEP(sha256.New(), nil, k.private, ciphertext, nil)
	if err != nil {
		return nil, encryption.ErrUndecryptable
	}
	return plaintext, nil
}
