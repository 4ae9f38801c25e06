package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/vapi/vapiauth"
)

func TestWrite(t *testing.T) {
	const template = "../../infra/sam.json"
	file := filepath.Join(t.TempDir(), "env.json")
	if err := os.WriteFile(file+".old", []byte(`{"Parameters":{"COMPLETION_KEYS":"planted"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	var tokens, keys []string
	for _, name := range []string{file, file, file + ".old"} {
		token, err := write(template, name)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		env, err := read(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := read(template)
		if err != nil {
			t.Fatal(err)
		}
		got := maps.Clone(env.Parameters)
		keys = append(keys, got["COMPLETION_KEYS"])
		for _, random := range []string{"WEBHOOK_AUTH", "COMPLETION_KEYS"} {
			if got[random] == want.Parameters[random] {
				t.Errorf("%s is publicly known", random)
			}
			got[random] = want.Parameters[random]
		}
		if diff := cmp.Diff(want.Parameters, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		plans, err := vapiauth.ParsePlans([]byte(env.Parameters["WEBHOOK_AUTH"]))
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := vapiauth.NewVerifier(plans...)
		if err != nil {
			t.Fatal(err)
		}
		sent := http.Header{"Authorization": {"Bearer " + token}}
		if err := verifier.Verify(vapiauth.Request{Header: sent}, time.Now()); err != nil || verifier.Off() {
			t.Error(err)
		}
	}
	if tokens[0] == tokens[1] || len(tokens[0]) < 24 {
		t.Errorf("the tokens are %q", tokens)
	}
	var first struct{ Current string }
	if err := json.Unmarshal([]byte(keys[0]), &first); err != nil || len(first.Current) < 32 {
		t.Errorf("%q, %v", keys[0], err)
	}
	if keys[0] != keys[1] || keys[2] != "planted" {
		t.Errorf("the keys are %q", keys)
	}
}
