package encryption

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
)

// Envelope is a text that is encrypted with a data key of its own: AES-256 in Galois/Counter Mode. The data key is
// encrypted with another key, which never leaves its place.
type Envelope struct {
	Key  []byte `json:"key"`  // the encrypted data key
	Data []byte `json:"data"` // the nonce, the ciphertext and its tag
}

// errEnvelope has no detail, like [ErrUndecryptable].
var errEnvelope = errors.New("the envelope is damaged, or of another name")

// Seal encrypts a text for a name with a data key, and returns the envelope with the encrypted data key. Only the same
// name opens it.
func Seal(dataKey, encryptedKey, plaintext []byte, name string) ([]byte, error) {
	gcm, err := newGCM(dataKey)
	if err != nil {
		return nil, err
	}
	return json.Marshal(Envelope{Key: encryptedKey, Data: gcm.Seal(nil, nil, plaintext, []byte(name))})
}

// ParseEnvelope parses what [Seal] returned.
func ParseEnvelope(sealed []byte) (e Envelope, err error) {
	if json.Unmarshal(sealed, &e) != nil || len(e.Key) == 0 {
		return Envelope{}, errEnvelope
	}
	return e, nil
}

// Open decrypts the text for a name with the data key.
func (e Envelope) Open(dataKey []byte, name string) ([]byte, error) {
	gcm, err := newGCM(dataKey)
	if err != nil {
		return nil, err
	}
	plaintext, err := gcm.Open(nil, nil, e.Data, []byte(name))
	if err != nil {
		return nil, errEnvelope
	}
	return plaintext, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errors.New("the data key has the wrong length")
	}
	return cipher.NewGCMWithRandomNonce(block)
}
