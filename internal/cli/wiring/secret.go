package wiring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ringback/ringback/vapi/vapiauth"
)

// Stored is a version of the deployment's stored credential.
type Stored struct {
	Plans         []vapiauth.Plan // one, or two during a rotation: the new one first
	Organisations []string        // ids of those at Vapi whose webhooks are accepted; empty means all
	Version       string
}

// Secret is the deployment's stored credential.
type Secret interface {
	Read(ctx context.Context) (Stored, error)

	// Replace stores other plans for the same organisations. It returns an error that
	// wraps [ErrChanged] if the current version is no longer old.
	Replace(ctx context.Context, old Stored, plans []vapiauth.Plan) error

	// Bind adds an organisation to those of a version.
	Bind(ctx context.Context, to Stored, organisation string) error
}

// ErrChanged is wrapped by the error of [Secret.Replace] if another client has changed
// the secret.
var ErrChanged = errors.New("another client has changed the secret in the meantime")

// CheckLengths returns an error if a plan is too short to be used. remedy is what to do.
func CheckLengths(plans []vapiauth.Plan, remedy string) error {
	for _, p := range plans {
		if err := p.CheckLength(); err != nil {
			return fmt.Errorf("%w; %s", err, remedy)
		}
	}
	return nil
}

// prepareBinding decides whether to bind the secret to the organisation. It returns an
// error if the secret is bound to others, because the private key may be a wrong one.
func (s *state) prepareBinding(changes *ChangeSet) error {
	bound := s.Stored.Organisations
	switch {
	case s.Secret == nil || slices.Contains(bound, s.organisation):
		return nil
	case len(bound) > 0 && !s.AddOrganisation:
		is := "it is unknown, because it has no objects"
		if s.organisation != "" {
			is = "it is " + s.organisation
		}
		return fmt.Errorf("the private key belongs to another organisation at Vapi (%s) than the deployment's secret (%s); "+
			"use the key of that organisation, or --add-organisation to accept the webhooks of both",
			is, strings.Join(bound, ", "))
	}
	created := func(t ToolChange) bool { return t.Action == ActionCreate }
	if s.organisation == "" && changes.Credential.Action == "" && !slices.ContainsFunc(changes.Tools, created) {
		changes.Notes = append(changes.Notes, "the organisation is unknown, so webhooks of others are not refused.")
		return nil
	}
	changes.Bind, changes.Bound = true, bound
	return nil
}

// bind binds the secret to the organisation.
func (s *applying) bind(ctx context.Context, changes *ChangeSet) error {
	organisation := changes.Organisation
	if organisation == "" {
		organisation = s.organisation
	}
	if organisation == "" {
		s.done("Vapi did not name the organisation, so webhooks of others are not refused")
		return nil
	}
	s.progress("binding the secret to the organisation")
	// A rotation has stored another version since the secret was read.
	stored, err := s.Secret.Read(ctx)
	if err != nil {
		return err
	}
	if err := s.Secret.Bind(ctx, stored, organisation); err != nil {
		return err
	}
	s.done("bound the secret to the organisation " + organisation)
	return nil
}
