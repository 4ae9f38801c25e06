// Package encryption decrypts the arguments that Vapi encrypts, and encrypts arguments as Vapi does.
//
// Vapi encrypts each argument that a tool's server.encryptedPaths names by itself, with the public
// key of the tool's credential: RSA-OAEP with SHA-256 for both hashes and without a label. The
// result is a text in base64, in the place of the value (Vapi's documentation: "Tool argument
// encryption"). A path consists of the names of members, with dots between them.
package encryption

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

var (
	// ErrPlain means that an argument is not encrypted.
	ErrPlain = errors.New("is not encrypted: the tool or its credential at Vapi differs from this deployment; " +
		"run ringback sync")

	// ErrUndecryptable means that an argument was not encrypted with the key, or is damaged. A
	// Decrypt function returns it without any detail, which could help to guess a value.
	ErrUndecryptable = errors.New("cannot be decrypted: it was not encrypted with the key of this deployment; " +
		"run ringback sync")
)

// sizes are the sizes of encrypted values in bytes: those of keys of 2048, 3072 and 4096 bits.
var sizes = []int{256, 384, 512}

// maxText is the length of the longest encrypted value in base64.
var maxText = base64.StdEncoding.EncodedLen(slices.Max(sizes))

// Parse returns the bytes of an encrypted value. It returns ErrPlain if the text is not one.
func Parse(text string) ([]byte, error) {
	if len(text) > maxText {
		return nil, ErrPlain
	}
	ciphertext, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || !slices.Contains(sizes, len(ciphertext)) || strings.ContainsAny(text, "\r\n") {
		return nil, ErrPlain
	}
	return ciphertext, nil
}

// Decrypt returns a copy of arguments, a JSON object, in which the values at the paths are decrypted. It
// leaves a value that is missing, null or empty. A plain value is an error, unless allowPlain is set.
// Arguments that are not an object are returned unchanged, because no tool runs with them.
//
// No error quotes a value.
func Decrypt(
	ctx context.Context, arguments json.RawMessage, paths []string, allowPlain bool,
	decrypt func(ctx context.Context, ciphertext []byte) ([]byte, error),
) (json.RawMessage, error) {
	return replace(arguments, paths, func(value any) (any, error) {
		text, _ := value.(string)
		ciphertext, err := Parse(text)
		if err != nil {
			if allowPlain {
				return value, nil
			}
			return nil, err
		}
		plaintext, err := decrypt(ctx, ciphertext)
		if err == nil && !utf8.Valid(plaintext) {
			err = ErrUndecryptable
		}
		return string(plaintext), err
	})
}

// Encrypt returns a copy of arguments, a JSON object, in which the texts at the paths are encrypted with the
// key that key returns. It leaves a value that is missing, null, empty or already encrypted, and
// calls key only if there is another one.
func Encrypt(
	arguments json.RawMessage, paths []string, key func() (*rsa.PublicKey, error),
) (json.RawMessage, error) {
	return replace(arguments, paths, func(value any) (any, error) {
		text, ok := value.(string)
		if _, err := Parse(text); err == nil {
			return value, nil
		}
		if !ok {
			return nil, errors.New("is not a text, so it cannot be encrypted")
		}
		public, err := key()
		if err != nil {
			return nil, err
		}
		ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, []byte(text), nil)
		if errors.Is(err, rsa.ErrMessageTooLong) {
			return nil, fmt.Errorf("is longer than the %d bytes that the key can encrypt", public.Size()-2*sha256.Size-2)
		}
		return base64.StdEncoding.EncodeToString(ciphertext), err
	})
}

// replace replaces the values at the paths in a JSON object.
func replace(
	arguments json.RawMessage, paths []string, by func(value any) (any, error),
) (json.RawMessage, error) {
	var object map[string]any
	d := json.NewDecoder(bytes.NewReader(arguments))
	d.UseNumber() // so that a long number keeps its digits
	if len(paths) == 0 || !json.Valid(arguments) || d.Decode(&object) != nil || object == nil {
		return arguments, nil
	}
	for _, path := range paths {
		if err := replaceOne(object, path, by); err != nil {
			return nil, fmt.Errorf("the argument %s %w", path, err)
		}
	}
	return json.Marshal(object)
}

func replaceOne(object map[string]any, path string, by func(value any) (any, error)) (err error) {
	name, rest, inside := strings.Cut(path, ".")
	switch value := object[name].(type) {
	case nil:
	case map[string]any:
		if inside {
			return replaceOne(value, rest, by)
		}
		object[name], err = by(value)
	default:
		// A model may write an object as a text, in which Vapi finds no path to encrypt.
		if value != "" && inside {
			_, err = by(nil)
		} else if value != "" {
			object[name], err = by(value)
		}
	}
	return err
}

// ParsePublicKey parses a public key: SPKI in PEM, as Vapi takes it, or only its base64, as
// "aws kms get-public-key" prints it.
func ParsePublicKey(text []byte) (*rsa.PublicKey, error) {
	der := []byte(nil)
	if block, _ := pem.Decode(text); block != nil {
		der = block.Bytes
	} else if decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text))); err == nil {
		der = decoded
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	public, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, errors.New("this is not the public key of an RSA key: use SPKI in PEM, " +
			"which begins with -----BEGIN PUBLIC KEY-----")
	}
	if !slices.Contains(sizes, public.Size()) {
		return nil, fmt.Errorf("the public key has %d bits; it must have 2048, 3072 or 4096", public.Size()*8)
	}
	return public, nil
}

// FormatPublicKey returns a public key as SPKI in PEM.
func FormatPublicKey(key *rsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err
}
