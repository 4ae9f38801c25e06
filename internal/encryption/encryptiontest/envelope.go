package encryptiontest

import (
	"bytes"
	"context"
	"slices"
	"testing"
)

// Sealer encrypts texts, each for a name.
type Sealer interface {
	Seal(ctx context.Context, name string, plaintext []byte) ([]byte, error)
	Open(ctx context.Context, name string, sealed []byte) ([]byte, error)
}

// TestSealer checks that a sealer keeps the contract.
func TestSealer(t *testing.T, s, other Sealer) {
	for _, text := range []string{"", "planted text", string(bytes.Repeat([]byte("x"), 200<<10))} {
		sealed, err := s.Seal(t.Context(), "name", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 && bytes.Contains(sealed, []byte(text)) {
			t.Error("the text is not encrypted")
		}
		if got, err := s.Open(t.Context(), "name", sealed); err != nil || string(got) != text {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		again, err := s.Seal(t.Context(), "name", []byte(text))
		if err != nil || bytes.Equal(sealed, again) {
			t.Errorf("a text is encrypted twice in the same way, %v", err)
		}
		damaged := slices.Clone(sealed)
		damaged[len(damaged)-8] ^= 1
		for what, open := range map[string]func() ([]byte, error){
			"another name": func() ([]byte, error) { return s.Open(t.Context(), "other", sealed) },
			"another key":  func() ([]byte, error) { return other.Open(t.Context(), "name", sealed) },
			"damaged":      func() ([]byte, error) { return s.Open(t.Context(), "name", damaged) },
			"no envelope":  func() ([]byte, error) { return s.Open(t.Context(), "name", []byte("{}")) },
			"cut":          func() ([]byte, error) { return s.Open(t.Context(), "name", sealed[:len(sealed)/2]) },
		} {
			if got, err := open(); err == nil {
				t.Errorf("%s: %d bytes without an error", what, len(got))
			}
		}
	}
}
