package wiring_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/internal/encryption"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/local/memkey"
	"github.com/ringback/ringback/vapi/vapiauth"
)

type payment struct {
	Card    string `json:"card"`
	Payment struct {
		IBAN string `json:"iban"`
	} `json:"payment"`
}

func payments(t testing.TB, paths ...string) *asynctool.Set {
	t.Helper()
	return set(t, tool[empty]("one"), tool("pay", func(x *asynctool.Tool[payment]) { x.Encrypted = paths }))
}

func argumentKey(t testing.TB) string {
	t.Helper()
	key, err := memkey.New()
	if err != nil {
		t.Fatal(err)
	}
	pem, err := encryption.FormatPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem
}

// paying returns a configuration with a tool whose arguments Vapi encrypts.
func (o *org) paying(t testing.TB, key string) wiring.Config {
	t.Helper()
	cfg := o.config(t)
	cfg.Tools, cfg.Credential.ArgumentKey = payments(t, "card", "payment.iban"), key
	return cfg
}

// server returns the server of a tool at Vapi.
func (o *org) server(t testing.TB, name string) map[string]any {
	t.Helper()
	return o.byName(t, "tool", name)["server"].(map[string]any)
}

// TestSyncEncrypted: the key is at Vapi before a tool needs it, and follows the deployment's.
func TestSyncEncrypted(t *testing.T) {
	o := newOrg(t)
	first, second := argumentKey(t), argumentKey(t)
	cfg := o.paying(t, first)
	changes, _ := mustSync(t, cfg)
	writes := fakevapi.Writes(o.Requests())
	if len(writes) != 3 || !strings.HasPrefix(writes[0].Path, "/credential") {
		t.Errorf("the writes are %v", writes)
	}
	plan := func(key string) any {
		return map[string]any{
			"type": "public-key", "algorithm": "RSA-OAEP-256", "publicKey": map[string]any{"format": "spki-pem", "pem": key},
		}
	}
	stored := func() map[string]any {
		t.Helper()
		var all []map[string]any
		for _, raw := range o.Objects("credential") {
			var object map[string]any
			if err := json.Unmarshal(raw, &object); err != nil {
				t.Fatal(err)
			}
			all = append(all, object)
		}
		if len(all) != 1 {
			t.Fatalf("the credentials are %v", all)
		}
		return all[0]
	}
	if diff := cmp.Diff(plan(first), stored()["encryptionPlan"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{"card", "payment.iban"}, o.server(t, "pay")["encryptedPaths"]); diff != "" {
		t.Error(diff)
	}
	if paths, ok := o.server(t, "one")["encryptedPaths"]; ok {
		t.Errorf("the other tool has %v", paths)
	}
	o.settled(t, cfg)

	// The order of the paths means nothing.
	cfg.Tools = payments(t, "payment.iban", "card")
	o.settled(t, cfg)

	// A new key of the deployment replaces the old one with a single request.
	cfg.Credential.ArgumentKey = second
	changed, _ := mustSync(t, cfg)
	if c := changed.Credential; c.Action != wiring.ActionUpdate || c.ID != stored()["id"] || changed.Changes() != 1 ||
		c.Name == changes.Credential.Name {
		t.Errorf("the changes are %+v", changed)
	}
	if diff := cmp.Diff(plan(second), stored()["encryptionPlan"]); diff != "" {
		t.Error(diff)
	}
	o.settled(t, cfg)

	// Another client changes the key in the dashboard.
	other, _ := json.Marshal(plan(first))
	o.Change("credential", stored()["id"].(string), "encryptionPlan", string(other))
	mustSync(t, cfg)
	if diff := cmp.Diff(plan(second), stored()["encryptionPlan"]); diff != "" {
		t.Error(diff)
	}
	o.settled(t, cfg)

	// Vapi may not show the plan.
	o.Change("credential", stored()["id"].(string), "encryptionPlan", "null")
	o.settled(t, cfg)

	// The tool no longer has encrypted arguments: it must not get encrypted ones.
	cfg.Tools, cfg.Credential.ArgumentKey = payments(t), ""
	mustSync(t, cfg)
	if paths, ok := o.server(t, "pay")["encryptedPaths"]; ok {
		t.Errorf("the tool still has %v", paths)
	}
	o.settled(t, cfg)
}

func TestSyncNeedsTheArgumentKey(t *testing.T) {
	own := func(c *wiring.Config) {
		c.Credential = wiring.Credential{ID: "own", ArgumentKey: c.Credential.ArgumentKey}
	}
	for name, row := range map[string]struct {
		change func(*wiring.Config)
		stored string // the encryption plan of the credential "own"; empty means none
		err    string
		note   string
	}{
		"with everything": {change: func(*wiring.Config) {}},
		"without the key": {change: func(c *wiring.Config) { c.Credential.ArgumentKey = "" },
			err: "pay: the tool has encrypted arguments, and the public key is unknown"},
		"without a credential": {change: func(c *wiring.Config) { c.Credential.Plan.Type = "none" },
			err: "Vapi reads the key from a credential"},
		"another credential": {change: own, note: "pay, and they are refused"},
		"it has the key":     {change: own, stored: "KEY"},
		"it has another key": {change: own, stored: argumentKey(t), note: "pay, and they are refused"},
		"key unknown": {change: func(c *wiring.Config) { c.Credential = wiring.Credential{ID: "own"} },
			note: "pay, and they are refused"},
	} {
		t.Run(name, func(t *testing.T) {
			o, key := newOrg(t), argumentKey(t)
			credential := `{"id":"own","provider":"custom-credential","name":"mine"}`
			if row.stored != "" {
				pem, _ := json.Marshal(strings.Replace(row.stored, "KEY", key, 1))
				credential = `{"id":"own","provider":"custom-credential","name":"mine","encryptionPlan":{"type":"public-key",` +
					`"algorithm":"RSA-OAEP-256","publicKey":{"format":"spki-pem","pem":` + string(pem) + `}}}`
			}
			o.Add("credential", credential)
			cfg := o.paying(t, key)
			row.change(&cfg)
			changes, err := wiring.Prepare(t.Context(), cfg)
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("%v, want %s", err, row.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			noted := slices.ContainsFunc(changes.Notes, func(n string) bool { return strings.Contains(n, "encryptionPlan") })
			if noted != (row.note != "") || noted && !strings.Contains(changes.Notes[0], row.note) {
				t.Errorf("the notes are %q", changes.Notes)
			}
		})
	}
}

// TestDoctorEncrypted makes one mistake at a time.
func TestDoctorEncrypted(t *testing.T) {
	const (
		none     = "tool pay: failed: it has no credential, so Vapi has no key"
		pathless = "tool pay: failed: it differs at Vapi: server.encryptedPaths: (missing)"
	)
	for name, row := range map[string]struct {
		breaks func(t *testing.T, o *org, x *wiring.Examination)
		want   []string
	}{
		"nothing": {breaks: func(*testing.T, *org, *wiring.Examination) {}},
		"no paths": {func(t *testing.T, o *org, x *wiring.Examination) {
			id, server := o.byName(t, "tool", "pay")["id"].(string), o.server(t, "pay")
			delete(server, "encryptedPaths")
			text, _ := json.Marshal(server)
			o.Change("tool", id, "server", string(text))
		}, []string{pathless}},
		"another tool has paths": {func(t *testing.T, o *org, x *wiring.Examination) {
			id, server := o.byName(t, "tool", "one")["id"].(string), o.server(t, "one")
			server["encryptedPaths"] = []string{"card"}
			text, _ := json.Marshal(server)
			o.Change("tool", id, "server", string(text))
		}, []string{`tool one: failed: it differs at Vapi: server.encryptedPaths: ["card"] → (missing)`}},
		"no credential": {func(t *testing.T, o *org, x *wiring.Examination) {
			id, server := o.byName(t, "tool", "pay")["id"].(string), o.server(t, "pay")
			delete(server, "credentialId")
			text, _ := json.Marshal(server)
			o.Change("tool", id, "server", string(text))
		}, []string{none}},
		"another key here": {func(t *testing.T, o *org, x *wiring.Examination) { x.ArgumentKey = argumentKey(t) },
			[]string{"encryption ID: failed: Vapi encrypts with another key", "credential ID: failed: ringback "}},
		"the key is unknown": {func(t *testing.T, o *org, x *wiring.Examination) { x.ArgumentKey = "" },
			[]string{"encryption ID: unchecked: the deployment's public key", "credential ID: unchecked: its name depends"}},
		"Vapi does not show it": {func(t *testing.T, o *org, x *wiring.Examination) {
			for _, raw := range o.Objects("credential") {
				var c struct{ ID string }
				if err := json.Unmarshal(raw, &c); err != nil {
					t.Fatal(err)
				}
				o.Change("credential", c.ID, "encryptionPlan", "null")
			}
		}, []string{"encryption ID: unchecked: Vapi does not show the key"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrg(t)
			cfg := o.paying(t, argumentKey(t))
			cfg.URL = deployment(t, bearer).URL + "/vapi"
			mustSync(t, cfg)
			id := o.server(t, "one")["credentialId"].(string)
			x := wiring.Examination{
				API: o.api, Tools: cfg.Tools, URL: cfg.URL, Plans: []vapiauth.Plan{cfg.Credential.Plan},
				ArgumentKey: cfg.Credential.ArgumentKey,
			}
			row.breaks(t, o, &x)
			for i := range row.want {
				row.want[i] = strings.Replace(row.want[i], "ID", id, 1)
			}
			expect(t, row.want, wiring.Examine(t.Context(), x))
		})
	}
}

// TestRotationKeepsTheArgumentKey: the new credential has the key, too. Otherwise, Vapi would stop encrypting.
func TestRotationKeepsTheArgumentKey(t *testing.T) {
	r := newRotating(t, oldPlans["bearer"])
	r.cfg.Tools, r.cfg.Credential.ArgumentKey = payments(t, "card"), argumentKey(t)
	if _, err := r.run(); err != nil {
		t.Fatal(err)
	}
	r.finished(oldPlans["bearer"])
	for _, raw := range r.org.Objects("credential") {
		var c struct {
			EncryptionPlan struct {
				PublicKey struct{ PEM string }
			}
		}
		if err := json.Unmarshal(raw, &c); err != nil || c.EncryptionPlan.PublicKey.PEM != r.cfg.Credential.ArgumentKey {
			t.Errorf("%s, %v", raw, err)
		}
	}
}
