package credential_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/credential"
	"github.com/ringback/ringback/vapi/vapiauth"
)

// source is a stored credential. Get may give an older one than Refresh.
type source struct {
	old, new string
	err      error
}

func (s *source) Get(context.Context) (string, error)     { return s.old, s.err }
func (s *source) Refresh(context.Context) (string, error) { return s.new, s.err }

// store stores a credential, and lets everybody see it.
func (s *source) store(text string) { s.old, s.new = text, text }

func bearer(token string) string { return `{"type":"bearer","token":"` + token + `"}` }

// lets says whether a verifier lets a webhook in.
func lets(t *testing.T, v *vapiauth.Verifier, token string) bool {
	t.Helper()
	err := v.Verify(vapiauth.Request{
		Method: http.MethodPost, URL: "https://example.com/vapi", Header: http.Header{"Authorization": {"Bearer " + token}}, Body: []byte("{}"),
	}, time.Now())
	if err != nil && !errors.Is(err, vapiauth.ErrUnauthorized) {
		t.Fatal(err)
	}
	return err == nil
}

func verifier(t *testing.T, c *credential.Credentials) *vapiauth.Verifier {
	t.Helper()
	v, err := c.Verifier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestChoose(t *testing.T) {
	for name, row := range map[string]struct {
		inline, id string
		want       string // the credential
		says       string // what the error names
	}{
		"inline":  {inline: bearer("inline"), want: bearer("inline")},
		"stored":  {id: "webhook", want: bearer("stored as webhook")},
		"both":    {inline: bearer("inline"), id: "webhook", says: "both WEBHOOK_AUTH and WEBHOOK_SECRET_ID"},
		"neither": {says: "neither WEBHOOK_SECRET_ID nor WEBHOOK_AUTH"},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := credential.Choose(row.inline, row.id, func(id string) credential.Source {
				return credential.Fixed(bearer("stored as " + id))
			})
			if row.says != "" {
				if err == nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "inline\"}") {
					t.Errorf("error %v, want one that says %q and no secret", err, row.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for name, ask := range map[string]func(context.Context) (string, error){"Get": source.Get, "Refresh": source.Refresh} {
				if got, err := ask(t.Context()); got != row.want || err != nil {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
		})
	}
}

func TestVerifierIsMadeOnce(t *testing.T) {
	c := credential.New(credential.Fixed(bearer("a")), nil)
	first := verifier(t, c)
	if second := verifier(t, c); second != first {
		t.Error("the same credential made another verifier")
	}
	// Who was refused by the newest one must see that there is no other.
	if newer := c.Newer(t.Context(), first); newer != first {
		t.Error("the same credential made a newer verifier")
	}
}

func TestRotation(t *testing.T) {
	s := new(source)
	s.store(bearer("a"))
	c := credential.New(s, nil)
	a := verifier(t, c)
	if !lets(t, a, "a") || lets(t, a, "b") {
		t.Error("the first credential")
	}

	// A webhook with the new one comes while what is kept is the old one.
	s.new = bearer("b")
	if v := verifier(t, c); v != a {
		t.Error("a credential that nobody has read yet changed something")
	}
	b := c.Newer(t.Context(), a)
	if b == a || !lets(t, b, "b") || lets(t, b, "a") {
		t.Error("the second credential, newer")
	}

	s.store(bearer("b"))
	if v := verifier(t, c); !lets(t, v, "b") || lets(t, v, "a") {
		t.Error("the second credential")
	}

	s.store(`[` + bearer("b") + `,` + bearer("c") + `]`)
	if v := verifier(t, c); !lets(t, v, "b") || !lets(t, v, "c") || lets(t, v, "a") {
		t.Error("two credentials")
	}

	s.store(bearer("a"))
	if v := verifier(t, c); !lets(t, v, "a") || lets(t, v, "b") {
		t.Error("the first credential, again")
	}
}

func TestBrokenCredential(t *testing.T) {
	var log bytes.Buffer
	s := new(source)
	s.store(bearer("good"))
	c := credential.New(s, slog.New(slog.NewTextHandler(&log, nil)))
	good := verifier(t, c)
	for _, broken := range []string{"s3cr3t", `{"type":"bearer"}`, `{"type":"other"}`, "", "[]"} {
		log.Reset()
		s.store(broken)
		for range 3 {
			if v := verifier(t, c); v != good {
				t.Errorf("%q took the old credential's place", broken)
			}
			if v := c.Newer(t.Context(), good); v != good {
				t.Errorf("%q is newer", broken)
			}
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%q: %d errors in the log, want 1 for every change:\n%s", broken, n, log.String())
		}
		if strings.Contains(log.String(), "s3cr3t") {
			t.Errorf("the log shows the secret:\n%s", log.String())
		}
	}
	s.store(bearer("mended"))
	if v := verifier(t, c); !lets(t, v, "mended") || lets(t, v, "good") {
		t.Error("the mended credential")
	}
}

func TestNoCredential(t *testing.T) {
	s := new(source)
	c := credential.New(s, slog.New(slog.DiscardHandler))
	s.store("s3cr3t")
	for range 2 {
		if v, err := c.Verifier(t.Context()); err == nil || v != nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("a broken credential: %v, %v; want an error without the secret", v, err)
		}
	}
	down := errors.New("the service is down")
	s.err = down
	if v, err := c.Verifier(t.Context()); !errors.Is(err, down) || v != nil {
		t.Errorf("a credential that cannot be read: %v, %v", v, err)
	}
	s.err = nil
	s.store(bearer("a"))
	v := verifier(t, c)
	s.err = down
	if newer := c.Newer(t.Context(), v); newer != v {
		t.Error("a credential that cannot be read is newer")
	}
}

func TestConcurrentUse(t *testing.T) {
	c := credential.New(credential.Fixed(bearer("a")), nil)
	first := verifier(t, c)
	var using sync.WaitGroup
	for range 16 {
		using.Go(func() {
			if v, err := c.Verifier(t.Context()); v != first || err != nil {
				t.Errorf("another verifier, %v", err)
			}
			if c.Newer(t.Context(), first) != first {
				t.Error("a newer verifier")
			}
		})
	}
	using.Wait()
}
