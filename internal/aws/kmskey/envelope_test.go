package kmskey_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ringback/ringback/internal/aws/kmskey"
	"github.com/ringback/ringback/internal/encryption/encryptiontest"
)

// symmetric is a symmetric key in KMS. An encrypted data key is the key itself, behind the key's name and the context.
type symmetric struct{ arn string }

func (s symmetric) head(in map[string]string) []byte {
	return []byte(s.arn + " " + in["ringback:job"] + " ")
}

func (s symmetric) GenerateDataKey(
	_ context.Context, in *kms.GenerateDataKeyInput, _ ...func(*kms.Options),
) (*kms.GenerateDataKeyOutput, error) {
	if *in.KeyId != s.arn || in.KeySpec != types.DataKeySpecAes256 {
		return nil, errors.New("AccessDeniedException")
	}
	key := make([]byte, 32)
	rand.Read(key)
	return &kms.GenerateDataKeyOutput{
		Plaintext: key, CiphertextBlob: append(s.head(in.EncryptionContext), key...),
	}, nil
}

func (s symmetric) Decrypt(
	_ context.Context, in *kms.DecryptInput, _ ...func(*kms.Options),
) (*kms.DecryptOutput, error) {
	key, ok := bytes.CutPrefix(in.CiphertextBlob, s.head(in.EncryptionContext))
	if *in.KeyId != s.arn || !ok {
		return nil, errors.New("InvalidCiphertextException")
	}
	return &kms.DecryptOutput{Plaintext: key}, nil
}

func TestEnvelope(t *testing.T) {
	encryptiontest.TestSealer(t,
		kmskey.NewEnvelope(symmetric{"arn"}, "arn"), kmskey.NewEnvelope(symmetric{"other"}, "other"))
	if _, err := kmskey.NewEnvelope(symmetric{"arn"}, "other").Seal(t.Context(), "name", nil); err == nil {
		t.Error("a key without a permission encrypts")
	}
}
