package kmskey_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/aws/kmskey"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/encryption/encryptiontest"
)

const arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

// newKey returns the key in a KMS that answer simulates.
func newKey(t *testing.T, answer func(in kms.DecryptInput) (status int, body any)) *kmskey.Key {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in kms.DecryptInput
		body, _ := io.ReadAll(r.Body)
		if target := r.Header.Get("X-Amz-Target"); json.Unmarshal(body, &in) != nil || target != "TrentService.Decrypt" {
			t.Errorf("asked for %s: %s", target, body)
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		status, out := answer(in)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(out)
	}))
	t.Cleanup(server.Close)
	cloud := functiontest.Load(t, "KMS", server.URL)
	return kmskey.New(kms.NewFromConfig(cloud.KMS(), func(o *kms.Options) { o.Retryer = aws.NopRetryer{} }), arn)
}

type failure struct {
	Type    string `json:"__type"`
	Message string `json:"message"`
}

func TestKey(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t, func(in kms.DecryptInput) (int, any) {
		if aws.ToString(in.KeyId) != arn || in.EncryptionAlgorithm != "RSAES_OAEP_SHA_256" {
			t.Errorf("asked for the key %s and the algorithm %s", aws.ToString(in.KeyId), in.EncryptionAlgorithm)
		}
		plaintext, err := rsa.DecryptOAEP(sha256.New(), nil, private, in.CiphertextBlob, nil)
		if err != nil {
			return http.StatusBadRequest, failure{"InvalidCiphertextException", ""}
		}
		return http.StatusOK, kms.DecryptOutput{KeyId: aws.String(arn), Plaintext: plaintext}
	})
	encryptiontest.Test(t, key, &private.PublicKey)
}

func TestFailures(t *testing.T) {
	for code, row := range map[string]struct {
		status int
		final  bool
	}{
		"InvalidCiphertextException": {400, true},
		"ValidationException":        {400, true},
		"AccessDeniedException":      {400, false},
		"DisabledException":          {400, false},
		"KMSInvalidStateException":   {400, false}, // scheduled for deletion
		"NotFoundException":          {400, false},
		"ThrottlingException":        {400, false},
		"DependencyTimeoutException": {503, false},
		"KMSInternalException":       {500, false},
		"ExpiredTokenException":      {400, false},
	} {
		t.Run(code, func(t *testing.T) {
			key := newKey(t, func(kms.DecryptInput) (int, any) { return row.status, failure{code, "no"} })
			_, err := key.Decrypt(t.Context(), make([]byte, 256))
			if err == nil || errors.Is(err, encryption.ErrUndecryptable) != row.final {
				t.Errorf("%v; want a final error: %v", err, row.final)
			}
			if !row.final && (!strings.Contains(err.Error(), code) || !strings.Contains(err.Error(), arn)) {
				t.Errorf("the error does not name its cause and the key: %v", err)
			}
		})
	}
}
