package secret_test

import (
	"slices"
	"testing"

	"github.com/ringback/ringback/internal/secret"
)

func TestOrganisations(t *testing.T) {
	for _, text := range []string{"", "{}", "{\n}", "t0ken", "organisations", "two\nlines"} {
		for _, want := range [][]string{nil, {"org-1"}, {"org-1", "org-2"}} {
			got, ids := secret.Organisations(secret.WithOrganisations(text, want))
			if got != text || !slices.Equal(ids, want) {
				t.Errorf("%q and %q became %q and %q", text, want, got, ids)
			}
		}
	}
}
