package memkey_test

import (
	"testing"

	"github.com/ringback/ringback/internal/encryption/encryptiontest"
	"github.com/ringback/ringback/internal/local/memkey"
)

func TestEnvelope(t *testing.T) {
	e, err := memkey.NewEnvelope(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := memkey.NewEnvelope(nil)
	if err != nil {
		t.Fatal(err)
	}
	encryptiontest.TestSealer(t, e, other)
	again, err := memkey.NewEnvelope(e.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := e.Seal(t.Context(), "name", []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open(t.Context(), "name", sealed); err != nil || string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := memkey.NewEnvelope([]byte("short")); err == nil {
		t.Error("a short key is accepted")
	}
}
