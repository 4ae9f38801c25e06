package encryption_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/local/memkey"
)

var newKey = sync.OnceValues(memkey.New)

func key(t testing.TB) *memkey.Key {
	t.Helper()
	k, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicOf(k *memkey.Key) func() (*rsa.PublicKey, error) {
	return func() (*rsa.PublicKey, error) { return k.Public(), nil }
}

func TestRoundTrip(t *testing.T) {
	k := key(t)
	paths := []string{"card", "payment.iban", "payment.holder.name"}
	for name, row := range map[string]struct {
		arguments string
		encrypted int
	}{
		"all": {`{"card":"4111-planted","order":"A-1042","n":12345678901234567890,` +
			`"payment":{"iban":"DE-planted","amount":1.50,"holder":{"name":"ü planted","city":"Rome"}}}`, 3},
		"without an object": {`{"card":"4111-planted"}`, 1},
		"null":              {`{"card":null,"payment":null}`, 0},
		"empty":             {`{"card":"","payment":{"iban":"","holder":{}}}`, 0},
		"none":              {`{"order":"A-1042"}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			sent, err := encryption.Encrypt([]byte(row.arguments), paths, publicOf(k))
			if err != nil || bytes.Contains(sent, []byte("planted")) {
				t.Fatalf("%s and %v", sent, err)
			}
			again, err := encryption.Encrypt(sent, paths, func() (*rsa.PublicKey, error) {
				t.Error("a key was needed")
				return nil, nil
			})
			if err != nil || !bytes.Equal(again, sent) {
				t.Errorf("encrypted again: %s and %v", again, err)
			}
			n := 0
			got, err := encryption.Decrypt(t.Context(), sent, paths, false, func(ctx context.Context, c []byte) ([]byte, error) {
				n++
				return k.Decrypt(ctx, c)
			})
			if err != nil || n != row.encrypted {
				t.Errorf("%d values were decrypted, and the error is %v", n, err)
			}
			if diff := cmp.Diff(exact(t, []byte(row.arguments)), exact(t, got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// exact decodes an object, and keeps the digits of numbers.
func exact(t *testing.T, text []byte) (object map[string]any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&object); err != nil {
		t.Fatal(err)
	}
	return object
}

func TestDecryptRefuses(t *testing.T) {
	k := key(t)
	encrypted := func(text string) string {
		t.Helper()
		in, _ := json.Marshal(map[string]string{"x": text})
		out, err := encryption.Encrypt(in, []string{"x"}, publicOf(k))
		if err != nil {
			t.Fatal(err)
		}
		var object struct{ X string }
		if err := json.Unmarshal(out, &object); err != nil {
			t.Fatal(err)
		}
		return object.X
	}
	good := encrypted("4111-planted")
	coded := base64.StdEncoding.EncodeToString
	random := make([]byte, 512)
	rand.Read(random)
	for name, row := range map[string]struct {
		arguments string
		want      error
	}{
		"a plain text":           {`{"card":"4111-planted"}`, encryption.ErrPlain},
		"a number":               {`{"card":4111}`, encryption.ErrPlain},
		"a boolean":              {`{"card":false}`, encryption.ErrPlain},
		"an object":              {`{"card":{"planted":1}}`, encryption.ErrPlain},
		"a list":                 {`{"card":["` + good + `"]}`, encryption.ErrPlain},
		"a plain part":           {`{"payment":{"iban":"planted"}}`, encryption.ErrPlain},
		"an object in a text":    {`{"payment":"{\"iban\":\"planted\"}"}`, encryption.ErrPlain},
		"a list of objects":      {`{"payment":[{"iban":"planted"}]}`, encryption.ErrPlain},
		"a plain one beside one": {`{"card":"` + good + `","payment":{"iban":"planted"}}`, encryption.ErrPlain},
		"the last of two":        {`{"card":"` + good + `","card":"planted"}`, encryption.ErrPlain},
		"no padding":             {`{"card":"` + strings.TrimRight(good, "=") + `"}`, encryption.ErrPlain},
		"with a line break":      {`{"card":"` + good[:64] + `\n` + good[64:] + `"}`, encryption.ErrPlain},
		"base64 for URLs":        {`{"card":"` + strings.Repeat("-_", 171) + `=="}`, encryption.ErrPlain},
		"too short":              {`{"card":"` + coded(random[:255]) + `"}`, encryption.ErrPlain},
		"much too long":          {`{"card":"` + strings.Repeat("A", 4<<20) + `"}`, encryption.ErrPlain},
		"another key":            {`{"card":"` + coded(random[:256]) + `"}`, encryption.ErrUndecryptable},
		"a larger key":           {`{"card":"` + coded(random) + `"}`, encryption.ErrUndecryptable},
		"not UTF-8":              {`{"card":"` + encrypted("planted") + `"}`, encryption.ErrUndecryptable},
	} {
		t.Run(name, func(t *testing.T) {
			decrypt := k.Decrypt
			if name == "not UTF-8" {
				decrypt = func(context.Context, []byte) ([]byte, error) { return []byte("\xffplanted"), nil }
			}
			got, err := encryption.Decrypt(t.Context(), []byte(row.arguments), []string{"card", "payment.iban"}, false, decrypt)
			if !errors.Is(err, row.want) || got != nil || strings.Contains(err.Error(), "planted") {
				t.Errorf("%s and %v, want %v", got, err, row.want)
			}
		})
	}
}

// TestPlainArguments: a run without Vapi accepts plain values, but no damaged ones.
func TestPlainArguments(t *testing.T) {
	k, paths := key(t), []string{"card", "payment.iban"}
	for _, plain := range []string{
		`{"card":"4111"}`, `{"card":4111}`, `{"payment":"x"}`, `{"card":["x"]}`, `{"payment":{"iban":"x"}}`,
	} {
		got, err := encryption.Decrypt(t.Context(), []byte(plain), paths, true, k.Decrypt)
		if err != nil || string(got) != plain {
			t.Errorf("%s: %s and %v", plain, got, err)
		}
	}
	foreign := `{"card":"` + base64.StdEncoding.EncodeToString(make([]byte, 256)) + `"}`
	if _, err := encryption.Decrypt(t.Context(), []byte(foreign), paths, true, k.Decrypt); err == nil {
		t.Error("a damaged value was accepted")
	}
}

// TestNoObject: the check of the arguments refuses what is not an object, and names the mistake.
func TestNoObject(t *testing.T) {
	for _, arguments := range []string{"", "null", "[]", `"text"`, "4111", `{"card":`, `{"card":"x"} {}`} {
		got, err := encryption.Decrypt(t.Context(), []byte(arguments), []string{"card"}, false, key(t).Decrypt)
		if err != nil || string(got) != arguments {
			t.Errorf("%q: %q and %v", arguments, got, err)
		}
	}
}

func TestEncryptRefuses(t *testing.T) {
	for arguments, want := range map[string]string{
		`{"card":4111}`: "the argument card is not a text",
		`{"card":"` + strings.Repeat("x", 191) + `"}`: "the argument card is longer than the 190 bytes",
		`{"payment":"x"}`: "the argument payment.iban is not a text",
	} {
		_, err := encryption.Encrypt([]byte(arguments), []string{"card", "payment.iban"}, publicOf(key(t)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", arguments, err, want)
		}
	}
	broken := errors.New("there is no key")
	_, err := encryption.Encrypt([]byte(`{"card":"x"}`), []string{"card"},
		func() (*rsa.PublicKey, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("without a key: %v", err)
	}
}

func TestPublicKeys(t *testing.T) {
	text, err := encryption.FormatPublicKey(key(t).Public())
	if err != nil || !strings.HasPrefix(text, "-----BEGIN PUBLIC KEY-----\n") {
		t.Fatalf("%s and %v", text, err)
	}
	block, _ := pem.Decode([]byte(text))
	bare := base64.StdEncoding.EncodeToString(block.Bytes)
	for _, accepted := range []string{text, "a comment\n" + text, bare, bare + "\n"} {
		got, err := encryption.ParsePublicKey([]byte(accepted))
		if err != nil || !got.Equal(key(t).Public()) {
			t.Errorf("%q: %v", accepted, err)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	short, err := encryption.FormatPublicKey(&weak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(weak)}))
	for name, refused := range map[string]string{
		"nothing": "", "text": "key", "1024 bits": short, "a private key": private,
		"cut": text[:200], "cut base64": bare[:200],
	} {
		if _, err := encryption.ParsePublicKey([]byte(refused)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// FuzzDecrypt: arguments of any form never make a plain value pass, never cost more requests than there are paths,
// and no error quotes them.
func FuzzDecrypt(f *testing.F) {
	k := key(f)
	paths := []string{"card", "payment.iban"}
	good, err := encryption.Encrypt([]byte(`{"card":"4111","payment":{"iban":"x"}}`), paths, publicOf(k))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(good))
	f.Add([]byte(`{"card":"4111"}`))
	f.Add([]byte(`{"payment":{"iban":{"iban":1}},"card":null}`))
	f.Add([]byte(`{"card":"","card":"plain"}`))
	f.Add([]byte(`{"payment":"{\"iban\":1}"}`))
	f.Fuzz(func(t *testing.T, arguments []byte) {
		asked := 0
		decrypt := func(_ context.Context, c []byte) ([]byte, error) {
			asked++
			if len(c) > 512 {
				t.Errorf("a value has %d bytes", len(c))
			}
			return []byte("decrypted"), nil
		}
		got, err := encryption.Decrypt(t.Context(), arguments, paths, false, decrypt)
		if asked > len(paths) {
			t.Errorf("%d requests", asked)
		}
		if err != nil {
			if !errors.Is(err, encryption.ErrPlain) || got != nil {
				t.Errorf("%s and %v", got, err)
			}
			for _, path := range paths {
				if err.Error() == "the argument "+path+" "+encryption.ErrPlain.Error() {
					return
				}
			}
			t.Errorf("the error quotes something: %v", err)
			return
		}
		var object map[string]any
		if json.Unmarshal(got, &object) != nil {
			if !bytes.Equal(got, arguments) {
				t.Errorf("%q became %q", arguments, got)
			}
			return
		}
		payment, isObject := object["payment"].(map[string]any)
		for _, value := range []any{object["card"], payment["iban"]} {
			if value != nil && value != "" && value != "decrypted" {
				t.Errorf("%v passed as it was", value)
			}
		}
		if object["payment"] != nil && object["payment"] != "" && !isObject {
			t.Errorf("%v passed as it was", object["payment"])
		}
	})
}
