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

// Credential is what Vapi must send with a webhook.
type Credential struct {
	// ID is a credential that is at Vapi already, and is used as it is. Empty
	// means one that is made of Plan.
	ID string
	// Plan is the deployment's own credential. Type "none", or an empty one,
	// means that webhooks carry no credential.
	Plan vapiauth.Plan
}

func (c Credential) none() bool { return c.ID == "" && (c.Plan.Type == "" || c.Plan.Type == "none") }

// Choose picks the plan that Vapi gets out of a deployment's: the first, as
// the newest of two comes first while they are rotated, or the first of type
// hmac where that is asked for.
func Choose(plans []vapiauth.Plan, hmac bool) (vapiauth.Plan, error) {
	for _, p := range plans {
		if !hmac || p.Type == "hmac" {
			return p, nil
		}
	}
	if hmac {
		return vapiauth.Plan{}, errors.New(`the deployment's credential is not of type hmac, so it would refuse what Vapi signs; store {"type":"hmac","secretKey":"…","algorithm":"sha256"} in its secret first, alone or in a list with the old one`)
	}
	return vapiauth.Plan{}, errors.New("the deployment has no credential of its own; give the id of the one at Vapi with --credential")
}

// plan is the credential as Vapi takes it (Vapi's OpenAPI:
// BearerAuthenticationPlan, HMACAuthenticationPlan). The older server.secret
// is a bearer token in a header of its own.
func (c Credential) plan() vapiauth.Plan {
	if c.Plan.Type != "secret" {
		return c.Plan
	}
	prefix := false
	return vapiauth.Plan{Type: "bearer", Token: c.Plan.Secret, HeaderName: "X-Vapi-Secret", BearerPrefixEnabled: &prefix}
}

// namePrefix begins the names of the credentials that sync makes for a
// deployment, which its URL tells apart from others in the same organisation.
func namePrefix(url string) string {
	sum := sha256.Sum256([]byte(url))
	return fmt.Sprintf("ringback %x ", sum[:4])
}

// fingerprintIterations is OWASP's figure for PBKDF2 with SHA-256. Tests, which
// make a thousand fingerprints, lower it.
var fingerprintIterations = 600_000

// name is the name of the credential at Vapi, 26 of the 40 characters that a
// name may have. Vapi never shows what a credential holds, so its name says
// that, by a fingerprint: a secret that was changed has another name. The
// fingerprint is slow to compute and short, so that it helps nobody to guess
// even a weak secret.
func (c Credential) name(url string) (string, error) {
	content, err := json.Marshal(c.plan())
	if err != nil {
		return "", err
	}
	sum, err := pbkdf2.Key(sha256.New, string(content), []byte("ringback "+url), fingerprintIterations, 4)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%x", namePrefix(url), sum), nil
}

// body is what creates the credential or replaces what it holds (Vapi's
// OpenAPI: CreateCustomCredentialDTO).
func (c Credential) body(name string) map[string]any {
	return map[string]any{"provider": "custom-credential", "name": name, "authenticationPlan": c.plan()}
}

// storedCredential is a credential as Vapi lists it.
type storedCredential struct {
	ID, Name, Provider string
}

// listCredentials gives the credentials of the organisation that a webhook can
// carry.
func listCredentials(ctx context.Context, api *vapiclient.API) ([]storedCredential, error) {
	list, err := api.List(ctx, vapiclient.Credentials)
	if failed, ok := errors.AsType[*vapiclient.APIError](err); ok && failed.Status >= 400 && failed.Status < 500 &&
		failed.Status != http.StatusUnauthorized && failed.Status != http.StatusTooManyRequests {
		return nil, fmt.Errorf("the credentials at Vapi cannot be listed (%w): make one in the dashboard, and give its id with --credential", err)
	}
	if err != nil {
		return nil, err
	}
	var found []storedCredential
	for _, raw := range list {
		var c storedCredential
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, errors.New("the Vapi API: GET /credential gave something that is not a credential")
		}
		if c.Provider == "custom-credential" {
			found = append(found, c)
		}
	}
	return found, nil
}

// quiet takes a plan's secrets out of an error: Vapi may quote what it refuses.
func (c Credential) quiet(err error) error {
	failed, ok := errors.AsType[*vapiclient.APIError](err)
	if !ok {
		return err
	}
	for _, secret := range []string{c.Plan.Secret, c.Plan.Token, c.Plan.SecretKey} {
		if secret != "" {
			failed.Message = strings.ReplaceAll(failed.Message, secret, "…")
		}
	}
	return err
}
