package process

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ringback/ringback/internal/encryption"
)

// Decrypter decrypts the arguments that Vapi encrypted.
type Decrypter interface {
	// Decrypt decrypts one value. It fails with [encryption.ErrUndecryptable] if a repetition cannot
	// succeed.
	Decrypt(ctx context.Context, ciphertext []byte) ([]byte, error)
}

// decrypt returns the arguments with which the tool runs. Only the tool gets them. The job keeps the
// encrypted ones, so a suspended job and a further attempt decrypt them again.
func (e *execution) decrypt(ctx context.Context, startBy time.Time) (json.RawMessage, error) {
	if len(e.tool.Encrypted) == 0 {
		return e.job.Arguments, nil
	}
	ctx, cancel := context.WithTimeout(ctx, startBy.Sub(e.cfg.Now()))
	defer cancel()
	return encryption.Decrypt(ctx, e.job.Arguments, e.tool.Encrypted, e.cfg.PlainArguments, e.cfg.Decrypter.Decrypt)
}
