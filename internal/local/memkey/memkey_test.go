package memkey_test

import (
	"testing"

	"github.com/ringback/ringback/internal/encryption/encryptiontest"
	"github.com/ringback/ringback/internal/local/memkey"
)

func TestKey(t *testing.T) {
	key, err := memkey.New()
	if err != nil {
		t.Fatal(err)
	}
	encryptiontest.Test(t, key, key.Public())
}
