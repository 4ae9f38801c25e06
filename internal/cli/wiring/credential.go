package wiring

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Credential is the credential that Vapi must send with a webhook.
type Credential struct {
	// ID selects a credential that exists at Vapi. Empty means one that is
	// created from Plan.
	ID string
	// Plan is the deployment's credential. If its Type is "none" or empty,
	// webhooks carry no credential.
	Plan vapiauth.Plan
	// ArgumentKey is the public key with which Vapi encrypts the arguments of
	// tools, in PEM. Empty means that no tool has encrypted arguments, or that the
	// key is unknown.
	ArgumentKey string
}

func (c Credential) none() bool { return c.ID == "" && (c.Plan.Type == "" || c.Plan.Type == "none") }

// Choose returns the plan for Vapi from those of a deployment. It is the first one,
// because the newer of two is first during a rotation. With hmac, it is the first one
// of type hmac.
func Choose(plans []vapiauth.Plan, hmac bool) (vapiauth.Plan, error) {
	for _, p := range plans {
		if !hmac || p.Type == "hmac" {
			return p, nil
		}
	}
	if hmac {
		return vapiauth.Plan{}, errors.New("the deployment's credential is not of type hmac, " +
			"so the deployment would refuse signed webhooks; ringback sync --stack with --rotate hmac replaces it " +
			"without refusing a webhook")
	}
	return vapiauth.Plan{}, errors.New(
		"the deployment has no credential; use --credential with the id of a credential at Vapi")
}

// plan returns the authentication plan for Vapi (Vapi's OpenAPI:
// BearerAuthenticationPlan, HMACAuthenticationPlan). The legacy server.secret is a
// bearer token in another header.
func (c Credential) plan() vapiauth.Plan {
	if c.Plan.Type != "secret" {
		return c.Plan
	}
	prefix := false
	return vapiauth.Plan{Type: "bearer", Token: c.Plan.Secret, HeaderName: "X-Vapi-Secret", BearerPrefixEnabled: &prefix}
}

// namePrefix returns the prefix of the names of the credentials that sync creates for
// a deployment. The URL distinguishes deployments in the same organisation.
func namePrefix(url string) string {
	sum := sha256.Sum256([]byte(url))
	return fmt.Sprintf("ringback %x ", sum[:4])
}

// fingerprintIterations is OWASP's recommendation for PBKDF2 with SHA-256. Tests use
// less, because they make a thousand fingerprints.
var fingerprintIterations = 600_000

// name returns the name of the credential at Vapi. It has 26 of the 40 allowed
// characters. Vapi never shows the content of a credential, so its name contains a
// fingerprint: a changed secret has another name. The fingerprint is slow to compute
// and short, so that it does not help to guess even a weak secret.
func (c Credential) name(url string) (string, error) {
	content, err := json.Marshal(c.plan())
	if err != nil {
		return "", err
	}
	sum, err := pbkdf2.Key(sha256.New, string(content)+c.ArgumentKey, []byte("ringback "+url), fingerprintIterations, 4)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%x", namePrefix(url), sum), nil
}

// body returns the request body that creates the credential or replaces its content
// (Vapi's OpenAPI: CreateCustomCredentialDTO).
func (c Credential) body(name string) credentialBody {
	body := credentialBody{Provider: "custom-credential", Name: name, Plan: c.plan()}
	if c.ArgumentKey != "" {
		body.Encryption = &encryptionPlan{Type: "public-key", Algorithm: "RSA-OAEP-256"}
		body.Encryption.PublicKey.Format, body.Encryption.PublicKey.PEM = "spki-pem", c.ArgumentKey
	}
	return body
}

type credentialBody struct {
	Provider   string          `json:"provider,omitempty"` // cannot change
	Name       string          `json:"name"`
	Plan       vapiauth.Plan   `json:"authenticationPlan"`
	Encryption *encryptionPlan `json:"encryptionPlan,omitempty"`
}

// encryptionPlan makes Vapi encrypt arguments (Vapi's OpenAPI: PublicKeyEncryptionPlan,
// SpkiPemPublicKeyConfig).
type encryptionPlan struct {
	Type      string `json:"type"`
	Algorithm string `json:"algorithm"`
	PublicKey struct {
		Format string `json:"format"`
		PEM    string `json:"pem"`
	} `json:"publicKey"`
}

// Secrets returns what no error may quote. Vapi may quote what it refuses.
func (b credentialBody) Secrets() []string {
	return []string{b.Plan.Secret, b.Plan.Token, b.Plan.SecretKey}
}

// storedCredential is a credential in Vapi's list.
type storedCredential struct {
	ID, Name, Provider string

	EncryptionPlan *encryptionPlan // nil if there is none, or if Vapi does not show it

	raw json.RawMessage
}

// encryptsWith reports whether Vapi encrypts arguments with a key, as far as Vapi shows it.
func (c storedCredential) encryptsWith(key string) (yes, known bool) {
	if c.EncryptionPlan == nil {
		return false, false
	}
	return strings.TrimSpace(c.EncryptionPlan.PublicKey.PEM) == strings.TrimSpace(key), true
}

// listCredentials returns the credentials of the organisation that a webhook can carry.
func listCredentials(ctx context.Context, api *vapiclient.API) ([]storedCredential, error) {
	list, err := api.List(ctx, vapiclient.Credentials)
	if failed, ok := errors.AsType[*vapiclient.APIError](err); ok && failed.Status >= 400 && failed.Status < 500 &&
		failed.Status != http.StatusUnauthorized && failed.Status != http.StatusTooManyRequests {
		return nil, fmt.Errorf("cannot list the credentials at Vapi (%w): "+
			"create one in the dashboard, and use --credential with its id", err)
	}
	if err != nil {
		return nil, err
	}
	var found []storedCredential
	for _, raw := range list {
		var c storedCredential
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, errors.New("GET /credential at Vapi: the answer contains something other than a credential")
		}
		if c.raw = raw; c.Provider == "custom-credential" {
			found = append(found, c)
		}
	}
	return found, nil
}
