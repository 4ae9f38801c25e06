// Package encryptiontest contains the contract of the keys that decrypt arguments. The implementations on AWS and
// on this machine pass it.
package encryptiontest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"hash"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/encryption"
)

// Key is a key that decrypts arguments.
type Key interface {
	Decrypt(ctx context.Context, ciphertext []byte) ([]byte, error)
}

// Test checks that a key of 2048 bits with a public key keeps the contract.
func Test(t *testing.T, key Key, public *rsa.PublicKey) {
	encrypt := func(h hash.Hash, public *rsa.PublicKey, text, label string) []byte {
		t.Helper()
		ciphertext, err := rsa.EncryptOAEP(h, rand.Reader, public, []byte(text), []byte(label))
		if err != nil {
			t.Fatal(err)
		}
		return ciphertext
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	larger, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	const card = "4111 1111 1111 1111 – ü"
	for name, text := range map[string]string{
		"a value": card, "an empty value": "", "the longest value": strings.Repeat("x", 190),
	} {
		got, err := key.Decrypt(t.Context(), encrypt(sha256.New(), public, text, ""))
		if err != nil || string(got) != text {
			t.Errorf("%s: %q and %v", name, got, err)
		}
	}
	damaged := encrypt(sha256.New(), public, card, "")
	damaged[100] ^= 1
	for name, ciphertext := range map[string][]byte{
		"another key":      encrypt(sha256.New(), &other.PublicKey, card, ""),
		"a larger key":     encrypt(sha256.New(), &larger.PublicKey, card, ""),
		"SHA-1":            encrypt(sha1.New(), public, card, ""),
		"a label":          encrypt(sha256.New(), public, card, "label"),
		"damaged":          damaged,
		"zeros":            make([]byte, 256),
		"above modulus":    []byte(strings.Repeat("\xff", 256)),
		"a part of a text": encrypt(sha256.New(), public, card, "")[:255],
	} {
		got, err := key.Decrypt(t.Context(), ciphertext)
		// The same error for each: how a value fails must not help to guess another one.
		if err == nil || err.Error() != encryption.ErrUndecryptable.Error() || len(got) > 0 {
			t.Errorf("%s: %q and %v, want %v", name, got, err, encryption.ErrUndecryptable)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = key.Decrypt(ended, encrypt(sha256.New(), public, card, ""))
	if err == nil || errors.Is(err, encryption.ErrUndecryptable) {
		t.Errorf("after the end of the context: %v", err)
	}
}
