package wiring_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// vault is a stored credential. It can fail.
type vault struct {
	stored  wiring.Stored
	version int
	failAt  int  // counts down to the request that fails, and after which all fail
	after   bool // it fails after its effect
	watch   func()
}

func newVault(plans ...vapiauth.Plan) *vault { return &vault{stored: wiring.Stored{Plans: plans}} }

var errDown = errors.New("down")

// do performs a request.
func (v *vault) do(effect func() error) error {
	fails := v.failAt == 1
	if v.failAt > 1 {
		v.failAt--
	}
	if fails && !v.after {
		return errDown
	}
	if fails {
		v.after = false
	}
	err := effect()
	if v.watch != nil {
		v.watch()
	}
	if fails {
		return errDown
	}
	return err
}

func (v *vault) Read(context.Context) (stored wiring.Stored, err error) {
	return v.stored, v.do(func() error { return nil })
}

func (v *vault) Replace(_ context.Context, old wiring.Stored, plans []vapiauth.Plan) error {
	return v.do(func() error {
		if old.Version != v.stored.Version {
			return wiring.ErrChanged
		}
		v.put(plans...)
		return nil
	})
}

func (v *vault) put(plans ...vapiauth.Plan) {
	v.version++
	v.stored.Plans, v.stored.Version = plans, fmt.Sprint(v.version)
}

func (v *vault) Bind(_ context.Context, to wiring.Stored, organisation string) error {
	return v.do(func() error {
		if to.Version == v.stored.Version {
			v.stored.Organisations = append(slices.Clone(v.stored.Organisations), organisation)
		}
		return nil
	})
}

// text returns what a function reads.
func (v *vault) text(t testing.TB) string {
	t.Helper()
	text, err := json.Marshal(v.stored.Plans)
	if err != nil {
		t.Fatal(err)
	}
	return secret.WithOrganisations(string(text), v.stored.Organisations)
}

// discard is a queue.
type discard struct{}

func (discard) Send(_ context.Context, messages []queue.Message) []error {
	return make([]error, len(messages))
}

// rotating is a deployment with simulated time, whose credential is rotated while Vapi sends webhooks.
type rotating struct {
	t      testing.TB
	org    *org
	vault  *vault
	cfg    wiring.Config
	now    time.Time
	warm   http.Handler  // a function that has read the secret, and is flooded with forged webhooks
	before vapiauth.Plan // that Vapi sent before
	sends  vapiauth.Plan // that Vapi sends
	since  time.Time     // when Vapi began to send it

	sleeps, failAt int // the sleep that fails
}

func newRotating(t testing.TB, old vapiauth.Plan) *rotating {
	r := &rotating{t: t, org: newOrg(t), vault: newVault(old), now: time.Now()}
	r.cfg = r.org.config(t)
	r.cfg.Credential.Plan, r.cfg.Secret = old, r.vault
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		defer r.check() // also if the connection breaks
		r.org.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	server.Config.SetKeepAlivesEnabled(false)
	var err error
	r.cfg.API, err = vapiclient.NewAPI(vapiclient.APIConfig{Key: key, URL: server.URL, Sleep: r.sleep})
	if err != nil {
		t.Fatal(err)
	}
	mustSync(t, r.cfg)
	r.before, r.sends, r.warm = old, old, r.function()
	r.vault.watch = r.check
	r.check()
	return r
}

// function returns an ack function that has just started.
func (r *rotating) function() http.Handler {
	log := slog.New(slog.DiscardHandler)
	clock := func() time.Time { return r.now }
	h, err := ack.New(ack.Config{Queue: discard{}, Log: log, Now: clock,
		Credential: secret.New(func(context.Context) (string, error) { return r.vault.text(r.t), nil }, clock, log)})
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

// post posts a webhook with a credential to a function, and returns the status.
func (r *rotating) post(to http.Handler, plan vapiauth.Plan) int {
	body := fmt.Sprintf(`{"message":{"type":"tool-calls","toolCallList":[{"id":"t","function":{"name":"one"}}],`+
		`"call":{"id":"c","orgId":%q}}}`, fakevapi.OrgID)
	signed := vapiauth.Request{Method: http.MethodPost, Body: []byte(body), Header: http.Header{}}
	if err := plan.Sign(&signed, r.now); err != nil {
		r.t.Error(err)
	}
	request := httptest.NewRequest(http.MethodPost, "/vapi", strings.NewReader(body))
	request.Header = signed.Header
	response := httptest.NewRecorder()
	to.ServeHTTP(response, request)
	io.Copy(io.Discard, response.Body)
	return response.Code
}

// check checks that no webhook is refused that Vapi sends now, or that it began to send before its
// credential was changed.
func (r *rotating) check() {
	objects := r.org.Objects("credential")
	if len(objects) != 1 || r.warm == nil {
		return
	}
	var at struct {
		AuthenticationPlan vapiauth.Plan
	}
	if err := json.Unmarshal(objects[0], &at); err != nil {
		r.t.Error(err)
	}
	if !reflect.DeepEqual(at.AuthenticationPlan, r.sends) {
		r.before, r.sends, r.since = r.sends, at.AuthenticationPlan, r.now
	}
	cold := r.function()
	if status := r.post(cold, r.sends); status != http.StatusOK {
		r.t.Errorf("a new function refuses what Vapi sends: %d", status)
	}
	if status := r.post(r.warm, r.sends); status != http.StatusOK {
		r.t.Errorf("a running function refuses what Vapi sends: %d", status)
	}
	if r.now.Sub(r.since) < 80*time.Second {
		if status := r.post(cold, r.before); status != http.StatusOK {
			r.t.Errorf("%v after the change at Vapi, a webhook in flight is refused: %d", r.now.Sub(r.since), status)
		}
	}
	if status := r.post(r.warm, vapiauth.Plan{Type: "bearer", Token: "guessed"}); status != http.StatusUnauthorized {
		r.t.Errorf("a forged webhook got %d", status)
	}
}

func (r *rotating) sleep(_ context.Context, d time.Duration) error {
	if d < 10*time.Second { // between the attempts of a request
		return nil
	}
	if r.sleeps++; r.sleeps == r.failAt {
		return context.Canceled
	}
	for range int(d / time.Second) {
		r.now = r.now.Add(time.Second)
		r.check()
	}
	return nil
}

// run rotates once. steps is what it shows before.
func (r *rotating) run() (steps string, err error) {
	stored, err := r.vault.Read(r.t.Context())
	if err != nil {
		return "", err
	}
	rotation, err := wiring.NewRotation(r.vault, stored)
	if err != nil {
		return "", err
	}
	cfg := r.cfg
	cfg.Rotating, cfg.Stored, cfg.Credential.Plan = true, stored, rotation.New
	changes, err := wiring.Prepare(r.t.Context(), cfg)
	if err != nil {
		return "", err
	}
	if len(changes.Stranded) > 0 {
		r.t.Errorf("stranded: %q", changes.Stranded)
	}
	steps = strings.Join(rotation.Steps(cfg, changes), "\n")
	return steps, rotation.Run(r.t.Context(), cfg, changes, func(string) {})
}

// finished checks the state after a rotation: the replay of an old webhook's credential is refused, by every
// function after five minutes.
func (r *rotating) finished(old vapiauth.Plan) {
	r.t.Helper()
	plans := r.vault.stored.Plans
	if len(plans) != 1 || plans[0].Type != "hmac" || plans[0].CheckLength() != nil || reflect.DeepEqual(plans[0], old) {
		r.t.Fatalf("stored: %v", plans)
	}
	if !slices.Equal(r.vault.stored.Organisations, []string{fakevapi.OrgID}) {
		r.t.Errorf("bound to %q", r.vault.stored.Organisations)
	}
	r.now = r.now.Add(secret.MaxAge)
	for name, function := range map[string]http.Handler{"new": r.function(), "running": r.warm} {
		if status := r.post(function, old); status != http.StatusUnauthorized {
			r.t.Errorf("a %s function accepts the old credential: %d", name, status)
		}
		if status := r.post(function, plans[0]); status != http.StatusOK {
			r.t.Errorf("a %s function refuses the new credential: %d", name, status)
		}
	}
}

var oldPlans = map[string]vapiauth.Plan{
	"bearer":       {Type: "bearer", Token: token},
	"short bearer": {Type: "bearer", Token: "t0ken"},
	"hmac":         {Type: "hmac", SecretKey: token, Algorithm: "sha256"},
	"secret":       {Type: "bearer", Token: token, HeaderName: "X-Vapi-Secret", BearerPrefixEnabled: new(false)},
}

func TestRotation(t *testing.T) {
	for name, old := range oldPlans {
		t.Run(name, func(t *testing.T) {
			r := newRotating(t, old)
			steps, err := r.run()
			if err != nil {
				t.Fatal(err)
			}
			want := "store a new credential of type hmac beside the old one of type " + old.Type
			if !strings.HasPrefix(steps, want) {
				t.Errorf("it shows %q", steps)
			}
			r.finished(old)
		})
	}
}

// TestRotationInterrupted lets each request and each wait of a rotation fail, before and after its effect, and runs
// it again. No run leaves a state in which a webhook is refused.
func TestRotationInterrupted(t *testing.T) {
	old := oldPlans["bearer"]
	interrupt := map[string]func(r *rotating, n int){
		"the secret, before":  func(r *rotating, n int) { r.vault.failAt = n },
		"the secret, after":   func(r *rotating, n int) { r.vault.failAt, r.vault.after = n, true },
		"Vapi, before":        func(r *rotating, n int) { r.org.Fail(n, fakevapi.FailureForbidden, true) },
		"Vapi, after":         func(r *rotating, n int) { r.org.Fail(n, fakevapi.FailureRefusedAfter, true) },
		"a wait, by the user": func(r *rotating, n int) { r.failAt = n },
	}
	for name, fail := range interrupt {
		t.Run(name, func(t *testing.T) {
			interrupted, states := 0, map[string]bool{}
			for n := 1; ; n++ {
				if n > 30 || t.Failed() {
					t.Fatalf("no rotation is right after %d interruptions", interrupted)
				}
				r := newRotating(t, old)
				fail(r, n)
				if _, err := r.run(); err == nil {
					r.finished(old)
					break
				}
				interrupted++
				r.vault.failAt, r.failAt = 0, 0
				r.org.Fail(0, fakevapi.FailureNone, false)
				r.now = r.now.Add(time.Second)
				r.check()
				// The last step may have had its effect. Another run would be another rotation.
				if len(r.vault.stored.Plans) == 1 && r.vault.stored.Plans[0].Type == "hmac" {
					r.finished(old)
					continue
				}
				steps, err := r.run()
				if err != nil {
					t.Fatalf("after a failure of request %d: %v", n, err)
				}
				states[strings.Split(steps, "\n")[0]] = true
				r.finished(old)
			}
			if interrupted == 0 {
				t.Error("nothing was interrupted")
			}
			says := "does not send the first one yet"
			if name == "Vapi, after" {
				says = "already sends the first one"
			}
			if !states["a rotation is under way: the secret holds two credentials, of types hmac and bearer, and Vapi "+says] {
				t.Errorf("no run says that it continues: %v", states)
			}
		})
	}
}

// TestRotationMeetsAnother changes the secret while a rotation waits.
func TestRotationMeetsAnother(t *testing.T) {
	other := vapiauth.Plan{Type: "hmac", SecretKey: "another-key-of-somebody-else", Algorithm: "sha256"}
	for _, wait := range []int{1, 2} {
		t.Run(fmt.Sprint("wait ", wait), func(t *testing.T) {
			r := newRotating(t, oldPlans["bearer"])
			change := func(context.Context, time.Duration) error {
				if r.sleeps++; r.sleeps == wait {
					r.vault.put(other, oldPlans["bearer"])
				}
				return nil
			}
			api, err := vapiclient.NewAPI(vapiclient.APIConfig{Key: key, URL: r.url(t), Sleep: change})
			if err != nil {
				t.Fatal(err)
			}
			r.cfg.API, r.warm = api, nil // nothing is checked
			if _, err := r.run(); !errors.Is(err, wiring.ErrChanged) {
				t.Errorf("%v", err)
			}
			if got := r.vault.stored.Plans; !reflect.DeepEqual(got[0], other) || len(got) != 2 {
				t.Errorf("the other run's credential is gone: %v", got)
			}
			if stored := string(r.org.Objects("credential")[0]); wait == 1 && !strings.Contains(stored, token) {
				t.Errorf("Vapi got a credential that the deployment refuses: %s", stored)
			}
		})
	}
}

// url returns the address of the organisation's API.
func (r *rotating) url(t testing.TB) string {
	server := httptest.NewServer(r.org)
	t.Cleanup(server.Close)
	return server.URL
}

func TestNewRotationRefuses(t *testing.T) {
	bearer, hmac := oldPlans["bearer"], oldPlans["hmac"]
	for name, row := range map[string]struct {
		plans []vapiauth.Plan
		err   string
	}{
		"none":             {[]vapiauth.Plan{{Type: "none"}}, "there is nothing to rotate"},
		"no secret":        {nil, "there is nothing to rotate"},
		"another rotation": {[]vapiauth.Plan{bearer, hmac}, "two credentials, of types bearer and hmac"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := wiring.NewRotation(newVault(row.plans...), wiring.Stored{Plans: row.plans})
			if err == nil || !strings.Contains(err.Error(), row.err) || strings.Contains(err.Error(), token) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestStranded rotates while others post to the URL with a credential of their own.
func TestStranded(t *testing.T) {
	o := newOrg(t)
	cfg := o.config(t)
	mustSync(t, cfg)
	own := o.byName(t, "tool", "one")["server"].(map[string]any)["credentialId"].(string)
	server := func(url, credential string) string {
		return fmt.Sprintf(`"server":{"url":%q,"credentialId":%q}`, url, credential)
	}
	theirs := o.Add("tool", `{"type":"function","function":{"name":"theirs"},`+server(hook, "c-1")+`}`)
	o.Add("tool", `{"type":"function","function":{"name":"elsewhere"},`+server("https://a.example/", "c-1")+`}`)
	o.Add("tool", `{"type":"function","function":{"name":"ours"},`+server(hook, own)+`}`)
	o.Add("tool", `{"type":"function","function":{"name":"open"},"server":{"url":"`+hook+`"}}`)
	o.Add("assistant", `{"id":"a-1",`+server(hook, "c-2")+`}`)
	o.Add("assistant", `{"id":"a-2",`+server(hook, own)+`}`)
	o.Add("assistant", `{"id":"a-3","server":null}`)
	stored := wiring.Stored{Plans: []vapiauth.Plan{cfg.Credential.Plan}}
	rotation, err := wiring.NewRotation(newVault(stored.Plans...), stored)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Rotating, cfg.Credential.Plan = true, rotation.New
	changes, err := wiring.Prepare(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"the tool theirs at Vapi (" + theirs + `) posts to this URL with the credential "c-1", which is not rotated.`,
		`the assistant a-1 posts to this URL with the credential "c-2", which is not rotated.`,
	}
	if !slices.Equal(changes.Stranded, want) {
		t.Errorf("%q", changes.Stranded)
	}
}

func TestInFlight(t *testing.T) {
	if got := wiring.InFlight(set(t, tool[empty]("one"))); got != 87*time.Second {
		t.Errorf("%v, want four attempts of 20 s, and 7 s between them", got)
	}
}

// TestBindFails runs sync while the secret cannot be changed. The next run binds it.
func TestBindFails(t *testing.T) {
	o, v := newOrg(t), newVault(oldPlans["bearer"])
	cfg := o.config(t)
	cfg.Secret, cfg.Stored = v, v.stored
	v.failAt = 1
	if _, done, err := sync(t, cfg); !errors.Is(err, errDown) || len(done) != 4 {
		t.Errorf("%q, %v", done, err)
	}
	v.failAt = 0
	changes, done := mustSync(t, cfg)
	if !slices.Equal(v.stored.Organisations, []string{fakevapi.OrgID}) || changes.Changes() != 1 || len(done) != 1 {
		t.Errorf("%d changes, %q, bound to %q", changes.Changes(), done, v.stored.Organisations)
	}
	cfg.Stored = v.stored
	o.settled(t, cfg)
}
