package wiring

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// ReadAgain is how long a rotation waits after it has stored the new credential. A
// function that does not know the credential of a webhook reads the secret again, but
// not within ten seconds of the last time.
const ReadAgain = secret.MinAge + 5*time.Second

// Rotation replaces the deployment's credential by a new one of type hmac. At each of
// its steps, the deployment accepts what Vapi sends. What is stored shows which steps
// were done, so a run that died is continued by the next one.
type Rotation struct {
	Secret  Secret
	Stored  Stored        // before this run
	New     vapiauth.Plan // the credential that remains
	Resumed bool          // an earlier run has stored New
}

// NewRotation returns the rotation of a stored credential. Its error says in which state
// it is, if that is not one of a rotation.
func NewRotation(secret Secret, stored Stored) (*Rotation, error) {
	r := &Rotation{Secret: secret, Stored: stored}
	switch {
	case len(stored.Plans) == 1 && stored.Plans[0].Type == "none":
		return nil, errors.New(`the deployment accepts every webhook, as its secret is {"type":"none"}, ` +
			"so there is nothing to rotate; store a credential in its secret, and run ringback sync")
	case len(stored.Plans) == 1:
		r.New = newHMAC()
	case len(stored.Plans) == 2 && stored.Plans[0].Type == "hmac":
		r.New, r.Resumed = stored.Plans[0], true
	case len(stored.Plans) == 2:
		return nil, fmt.Errorf("the secret holds two credentials, of types %s and %s, and the first one is not "+
			"of type hmac, so another rotation is under way; finish it by hand, and store one credential",
			stored.Plans[0].Type, stored.Plans[1].Type)
	default:
		return nil, errors.New("the deployment has no credential in a secret, so there is nothing to rotate")
	}
	return r, nil
}

// newHMAC returns a random credential. It has the members that Vapi's defaults have, so
// that nothing depends on these (Vapi's OpenAPI: HMACAuthenticationPlan).
func newHMAC() vapiauth.Plan {
	return vapiauth.Plan{
		Type: "hmac", SecretKey: rand.Text() + rand.Text(), Algorithm: "sha256", SignatureHeader: "x-signature",
		TimestampHeader: "x-timestamp", IncludeTimestamp: new(true), PayloadFormat: "{timestamp}.{body}",
		SignatureEncoding: "hex",
	}
}

// InFlight returns for how long Vapi may still send a webhook with the credential that it
// had when it began: for all attempts of a webhook that is not answered.
func InFlight(tools *asynctool.Set) time.Duration {
	longest := webhookTimeout
	for _, e := range tools.Entries() {
		longest = max(longest, timeoutSeconds(e))
	}
	seconds := longest
	for n := range webhookRetries {
		seconds += longest + webhookRetryDelay<<n
	}
	return time.Duration(seconds) * time.Second
}

// Steps returns what Run will do, besides the changes at Vapi.
func (r *Rotation) Steps(cfg Config, changes *ChangeSet) []string {
	var steps []string
	if r.Resumed {
		vapi := "Vapi already sends the first one"
		if changes.Credential.Action != "" {
			vapi = "Vapi does not send the first one yet"
		}
		steps = append(steps, fmt.Sprintf("a rotation is under way: the secret holds two credentials, "+
			"of types %s and %s, and %s", r.Stored.Plans[0].Type, r.Stored.Plans[1].Type, vapi))
	} else {
		steps = append(steps, fmt.Sprintf("store a new credential of type hmac beside the old one of type %s",
			r.Stored.Plans[0].Type))
	}
	if changes.Credential.Action != "" {
		steps = append(steps, fmt.Sprintf("wait %s, until functions read it, and make the changes at Vapi", ReadAgain))
	}
	return append(steps, fmt.Sprintf("wait %s, until no webhook with the old one is in flight, and remove the old one "+
		"from the secret", InFlight(cfg.Tools)))
}

// Run rotates the credential and makes the changes of a change set, whose credential is
// New. After an error, it can be repeated with a new Rotation and change set. done is
// called for each change.
func (r *Rotation) Run(ctx context.Context, cfg Config, changes *ChangeSet, done func(what string)) error {
	if !r.Resumed {
		if err := r.replace(ctx, r.Stored, []vapiauth.Plan{r.New, r.Stored.Plans[0]}); err != nil {
			return err
		}
		done("stored the new credential beside the old one")
	}
	if changes.Credential.Action != "" {
		cfg.progress("waiting until functions read the new credential")
		if err := cfg.API.Sleep(ctx, ReadAgain); err != nil {
			return err
		}
	}
	// Vapi must not get a credential that another client has removed meanwhile.
	if _, err := r.both(ctx); err != nil {
		return err
	}
	if err := Apply(ctx, cfg, changes, done); err != nil {
		return err
	}
	cfg.progress("waiting until no webhook with the old credential is in flight")
	if err := cfg.API.Sleep(ctx, InFlight(cfg.Tools)); err != nil {
		return err
	}
	stored, err := r.both(ctx)
	if err != nil {
		return err
	}
	if err := r.replace(ctx, stored, []vapiauth.Plan{r.New}); err != nil {
		return err
	}
	done(fmt.Sprintf("removed the old credential; every function refuses it within %v", secret.MaxAge))
	return nil
}

// both returns the stored credential, which must be the new one beside the old one.
func (r *Rotation) both(ctx context.Context) (Stored, error) {
	stored, err := r.Secret.Read(ctx)
	if err == nil && (len(stored.Plans) != 2 || !reflect.DeepEqual(stored.Plans[0], r.New)) {
		err = ErrChanged
	}
	return stored, err
}

// replace stores plans. If the answer is lost, it checks whether they are stored.
func (r *Rotation) replace(ctx context.Context, old Stored, plans []vapiauth.Plan) error {
	err := r.Secret.Replace(ctx, old, plans)
	if err == nil || errors.Is(err, ErrChanged) {
		return err
	}
	if stored, again := r.Secret.Read(ctx); again == nil && reflect.DeepEqual(stored.Plans, plans) {
		return nil
	}
	return err
}

// prepareRotation finds what the new credential does not reach: tools and assistants that
// post to this URL with another credential. Their webhooks would be refused.
func (s *state) prepareRotation(ctx context.Context, changes *ChangeSet) error {
	reached := func(credential string) bool { return credential == "" || credential == s.credential.ID }
	for _, t := range s.tools {
		changed := slices.ContainsFunc(changes.Tools, func(c ToolChange) bool { return c.ID == t.ID })
		pruned := slices.ContainsFunc(changes.Prune, func(p Pruned) bool { return p.ID == t.ID })
		if t.Server.URL == s.URL && !reached(t.Server.CredentialID) && !changed && !pruned {
			changes.Stranded = append(changes.Stranded, fmt.Sprintf(
				"the tool %s at Vapi (%s) posts to this URL with the credential %q, which is not rotated.",
				t.Function.Name, t.ID, t.Server.CredentialID))
		}
	}
	s.progress("asking Vapi for the credentials of its assistants")
	list, err := s.API.List(ctx, vapiclient.Assistants)
	if err != nil {
		return err
	}
	for _, raw := range list {
		var a struct {
			ID     string
			Server target
		}
		_ = json.Unmarshal(raw, &a) // null or absent: the assistant has no server
		if a.Server.URL == s.URL && !reached(a.Server.CredentialID) {
			changes.Stranded = append(changes.Stranded, fmt.Sprintf(
				"the assistant %s posts to this URL with the credential %q, which is not rotated.", a.ID, a.Server.CredentialID))
		}
	}
	return nil
}
