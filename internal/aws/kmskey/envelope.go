package kmskey

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ringback/ringback/internal/encryption"
)

// EnvelopeClient is the part of a KMS client that an [Envelope] needs.
type EnvelopeClient interface {
	Client
	GenerateDataKey(context.Context, *kms.GenerateDataKeyInput, ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error)
}

// nameContext names a text in the encryption context of its data key. So the log of the account (CloudTrail) has the
// name of each text that was decrypted.
const nameContext = "ringback:job"

// Envelope encrypts texts with data keys of a symmetric key in KMS. Those who encrypt need no permission to decrypt.
type Envelope struct {
	client EnvelopeClient
	arn    string
}

// NewEnvelope returns the envelopes of the symmetric key with an ARN.
func NewEnvelope(client EnvelopeClient, arn string) *Envelope {
	return &Envelope{client: client, arn: arn}
}

// Seal encrypts a text for a name with a new data key.
func (e *Envelope) Seal(ctx context.Context, name string, plaintext []byte) ([]byte, error) {
	out, err := e.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: aws.String(e.arn), KeySpec: types.DataKeySpecAes256, EncryptionContext: map[string]string{nameContext: name},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot generate a data key with the key %s: %w", e.arn, err)
	}
	return encryption.Seal(out.Plaintext, out.CiphertextBlob, plaintext, name)
}

// Open decrypts what Seal returned for the same name.
func (e *Envelope) Open(ctx context.Context, name string, sealed []byte) ([]byte, error) {
	envelope, err := encryption.ParseEnvelope(sealed)
	if err != nil {
		return nil, err
	}
	out, err := e.client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: aws.String(e.arn), CiphertextBlob: envelope.Key, EncryptionContext: map[string]string{nameContext: name},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot decrypt with the key %s: %w", e.arn, err)
	}
	return envelope.Open(out.Plaintext, name)
}
