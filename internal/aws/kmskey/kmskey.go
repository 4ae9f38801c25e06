// Package kmskey decrypts arguments with an asymmetric key of AWS Key Management Service (KMS). The
// private key never leaves KMS.
package kmskey

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/ringback/ringback/internal/encryption"
)

// Client is the part of a KMS client that a key needs.
type Client interface {
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
}

// Key is a key in KMS.
type Key struct {
	client Client
	arn    string
}

// New returns the key with an ARN. Its usage must be ENCRYPT_DECRYPT.
func New(client Client, arn string) *Key { return &Key{client: client, arn: arn} }

// Decrypt decrypts a value that was encrypted with the public key.
func (k *Key) Decrypt(ctx context.Context, ciphertext []byte) ([]byte, error) {
	out, err := k.client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: aws.String(k.arn), CiphertextBlob: ciphertext,
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256,
	})
	if invalid(err) {
		return nil, encryption.ErrUndecryptable
	}
	if err != nil {
		return nil, fmt.Errorf("cannot decrypt with the key %s: %w", k.arn, err)
	}
	return out.Plaintext, nil
}

// invalid reports whether KMS refuses the value itself, so that a repetition does not help (AWS KMS API
// reference, Decrypt).
func invalid(err error) bool {
	failure, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	code := failure.ErrorCode()
	return code == "InvalidCiphertextException" || code == "ValidationException"
}
