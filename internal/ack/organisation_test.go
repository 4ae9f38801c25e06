package ack_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/secret"
)

// bound returns the stored credential, bound to organisations.
func bound(organisations ...string) string {
	return secret.WithOrganisations(secretPlan, organisations)
}

// TestOrganisations sends webhooks with the right credential from several organisations.
func TestOrganisations(t *testing.T) {
	job := toolCall("tool-1", "order_status", "{}")
	other := strings.Replace(call, "org-1", "org-2", 1)
	from := func(organisation string) string {
		return webhook(fmt.Sprintf(`"call":{"id":"call-1","orgId":%q}`, organisation), job)
	}
	for name, row := range map[string]struct {
		stored string
		body   string
		want   int
	}{
		"not bound":                     {bound(), from("org-2"), http.StatusOK},
		"its own":                       {bound("org-1"), from("org-1"), http.StatusOK},
		"one of several":                {bound("org-1", "org-2"), from("org-2"), http.StatusOK},
		"another":                       {bound("org-1"), from("org-2"), http.StatusForbidden},
		"another beside several":        {bound("org-1", "org-2"), from("org-3"), http.StatusForbidden},
		"the beginning of its own":      {bound("org-1"), from("org-"), http.StatusForbidden},
		"its own in another case":       {bound("org-1"), from("ORG-1"), http.StatusForbidden},
		"none":                          {bound("org-1"), webhook(`"call":{"id":"call-1"}`, job), http.StatusOK},
		"another, in a chat":            {bound("org-1"), webhook(`"chat":{"id":"chat-1","orgId":"org-2"}`, job), 403},
		"its own, in a chat":            {bound("org-1"), webhook(`"chat":{"id":"chat-1","orgId":"org-1"}`, job), 200},
		"another, without a wrapper":    {bound("org-1"), `{"toolCalls":[` + job + `],"call":{"orgId":"org-2"}}`, 403},
		"another, the call beside":      {bound("org-1"), `{"message":{"type":"hang"},"call":{"orgId":"org-2"}}`, 403},
		"another, the end of a call":    {bound("org-1"), message("status-update", "ended", other), http.StatusForbidden},
		"another, the start of a call":  {bound("org-1"), message("status-update", "in-progress", other), 403},
		"another, twice in one message": {bound("org-1"), `{"type":"hang","call":{"orgId":"org-1","orgId":"org-2"}}`, 403},
	} {
		t.Run(name, func(t *testing.T) {
			e := new(tracker)
			response, q := receive(t, row.body, credential(secret.Fixed(row.stored)),
				func(cfg *ack.Config) { cfg.CallTracker, cfg.NextCall = e, true })
			if response.Code != row.want {
				t.Errorf("status %d, want %d: %s", response.Code, row.want, response.Body)
			}
			if row.want != http.StatusOK && (len(q.Take()) > 0 || len(e.ended) > 0) {
				t.Error("a refused webhook had an effect")
			}
		})
	}
}

// TestOrganisationAdded adds an organisation while a function has cached the credential.
func TestOrganisationAdded(t *testing.T) {
	s := &source{value: bound("org-0"), fresh: bound("org-0")}
	h, q := newHandler(t, credential(s))
	if response := serve(t, h, post(oneCall)); response.Code != http.StatusForbidden {
		t.Errorf("another organisation's webhook: %d", response.Code)
	}
	s.fresh = bound("org-0", "org-1")
	if response := serve(t, h, post(oneCall)); response.Code != http.StatusOK || len(q.Take()) != 1 {
		t.Errorf("the organisation was added, and its webhook got %d", response.Code)
	}
}

// TestShortCredential stores credentials that an earlier version accepted. They are still accepted, with an error in
// the log for each short one.
func TestShortCredential(t *testing.T) {
	const short = `{"type":"secret","secret":"planted-short"}`
	for name, row := range map[string]struct {
		stored string
		errors int
	}{
		"long":               {secretPlan, 0},
		"short":              {short, 1},
		"short, and bound":   {secret.WithOrganisations(short, []string{"org-1"}), 1},
		"long, before short": {"[" + secretPlan + "," + short + "]", 1},
		"none":               {`{"type":"none"}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			h, err := ack.New(ack.Config{Queue: new(recorder), Credential: secret.Fixed(row.stored),
				Log: slog.New(slog.NewTextHandler(&logged, nil))})
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				r := post(oneCall)
				if strings.Contains(row.stored, "short") {
					r.Header.Set("X-Vapi-Secret", "planted-short")
				}
				if response := serve(t, h, r); response.Code != http.StatusOK {
					t.Errorf("status %d", response.Code)
				}
			}
			if n := strings.Count(logged.String(), "level=ERROR msg=\"webhook credential is too short"); n != row.errors {
				t.Errorf("%d errors, want %d for all webhooks:\n%s", n, row.errors, logged.String())
			}
			if strings.Contains(logged.String(), "planted") {
				t.Errorf("the log has the secret:\n%s", logged.String())
			}
		})
	}
}
