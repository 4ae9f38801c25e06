package wiring_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/secret"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// noQueue fails the test if it receives a message. The probes must queue no job.
type noQueue struct{ t testing.TB }

func (q noQueue) Send(_ context.Context, messages []queue.Message) []error {
	q.t.Errorf("%d jobs were queued", len(messages))
	return make([]error, len(messages))
}

// deployment returns a server with the real ack handler at its route.
func deployment(t testing.TB, auth string) *httptest.Server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	h, err := ack.New(ack.Config{Queue: noQueue{t}, Credential: secret.Fixed(auth), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	routes := http.NewServeMux()
	routes.Handle("POST /vapi", h)
	server := httptest.NewServer(routes)
	t.Cleanup(server.Close)
	return server
}

// healthy returns an organisation without mistakes, and an examination of it.
func healthy(t testing.TB) (*org, wiring.Examination) {
	t.Helper()
	o := newOrg(t)
	o.Add("assistant", `{"id":"a-1","name":"Shop","maxDurationSeconds":1800,"silenceTimeoutSeconds":600,`+
		`"serverMessages":["tool-calls","hang"],"monitorPlan":{"controlEnabled":true,`+
		`"controlAuthenticationEnabled":true},"model":{"provider":"openai",`+
		`"messages":[{"role":"system","content":"Use slow_one for it."}]}}`)
	url := deployment(t, bearer).URL + "/vapi"
	x := wiring.Examination{
		API: o.api, Tools: slowOne(t, false), Assistants: []string{"a-1"}, URL: url,
		Plans: []vapiauth.Plan{plan(t, bearer)}, PublicKey: new(true),
	}
	mustSync(t, wiring.Config{
		API: o.api, Tools: x.Tools, URL: url, Credential: wiring.Credential{Plan: x.Plans[0]}, Assistants: x.Assistants,
	})
	return o, x
}

// slowOne returns the tool of a healthy organisation. With stopWithCall, it needs to learn
// of the end of its call.
func slowOne(t testing.TB, stopWithCall bool) *asynctool.Set {
	return set(t, tool("slow_one", func(x *asynctool.Tool[empty]) {
		x.Timeout, x.Attempts, x.StopWithCall = 5*time.Minute, 2, stopWithCall
	}))
}

// verdicts returns the checks that are not ok, one per line.
func verdicts(checks []wiring.Check) []string {
	var lines []string
	for _, c := range checks {
		if c.Verdict != wiring.VerdictOK {
			lines = append(lines, fmt.Sprintf("%s %s: %s: %s", c.Name, c.About, c.Verdict, c.Detail))
		}
	}
	return lines
}

// expect compares the checks that are not ok with the prefixes of their lines.
func expect(t *testing.T, want []string, checks []wiring.Check) {
	t.Helper()
	got := verdicts(checks)
	if len(got) != len(want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
	for i := range got {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got  %s\nwant %s", got[i], want[i])
		}
	}
}

// TestDoctorChecksTheSecret checks the organisation and the length of the stored credential.
func TestDoctorChecksTheSecret(t *testing.T) {
	short := vapiauth.Plan{Type: "secret", Secret: "s3cret"}
	for name, row := range map[string]struct {
		stored wiring.Stored
		want   []string
	}{
		"bound":   {wiring.Stored{Organisations: []string{"org-0", fakevapi.OrgID}}, nil},
		"unbound": {wiring.Stored{}, []string{"organisation : warning: the secret is not bound"}},
		"bound to another": {wiring.Stored{Organisations: []string{"org-0"}},
			[]string{"organisation : failed: the webhooks of this organisation (" + fakevapi.OrgID + ") are refused"}},
		"bound, with a short one": {wiring.Stored{Plans: []vapiauth.Plan{short}, Organisations: []string{fakevapi.OrgID}},
			[]string{"credential length : failed: webhook credential: secret has fewer than 24 characters"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, x := healthy(t)
			x.Stored = &row.stored
			x.Plans = append(x.Plans, row.stored.Plans...)
			var checks []wiring.Check
			for _, c := range wiring.Examine(t.Context(), x) {
				if c.Name == "organisation" || c.Name == "credential length" {
					checks = append(checks, c)
				}
			}
			if len(checks) == 0 {
				t.Error("nothing was checked")
			}
			expect(t, row.want, checks)
		})
	}
}

func TestDoctorFindsNothing(t *testing.T) {
	_, x := healthy(t)
	checks := wiring.Examine(t.Context(), x)
	if lines := verdicts(checks); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
	var names []string
	for _, c := range checks {
		names = append(names, c.Name)
	}
	want := []string{
		"tool", "credential", "control", "control authentication", "server messages", "attached", "call length",
		"silence", "prompt", "webhook, unsigned", "clock", "webhook, signed",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// TestDoctorQuickAnswers tests whether the account's concurrency is enough for the answers that wait.
func TestDoctorQuickAnswers(t *testing.T) {
	const async = "quick answers a-1: warning: Vapi does not use the answers of one, as they are async at Vapi"
	for name, row := range map[string]struct {
		quick       time.Duration
		async       bool
		rate        float64
		concurrency int
		want        []string
	}{
		"none":                     {rate: 1000},
		"by default":               {quick: 10 * time.Second},
		"too slow":                 {quick: 12 * time.Second, want: []string{"1 webhooks a second need up to 12 of 10"}},
		"too often":                {quick: 12 * time.Second, rate: 2, want: []string{"2 webhooks a second need up to 24"}},
		"an account with more":     {quick: 6 * time.Second, rate: 100, concurrency: 1000},
		"async at Vapi":            {quick: time.Second, async: true, want: []string{async}},
		"async, and not even once": {async: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, x := healthy(t)
			x.Tools = set(t, tool("one", func(x *asynctool.Tool[empty]) { x.Quick, x.SyncAck = row.quick, !row.async }))
			x.Rate, x.Concurrency = row.rate, row.concurrency
			var found []string
			for _, line := range verdicts(wiring.Examine(t.Context(), x)) {
				if strings.HasPrefix(line, "quick answers") {
					found = append(found, line)
				}
			}
			if len(found) != len(row.want) || len(found) > 0 && !strings.Contains(found[0], row.want[0]) {
				t.Errorf("%q, want %q", found, row.want)
			}
		})
	}
}

// breakage changes a healthy organisation or its examination.
type breakage func(t *testing.T, o *org, x *wiring.Examination)

// both applies breakages in order.
func both(all ...breakage) breakage {
	return func(t *testing.T, o *org, x *wiring.Examination) {
		for _, b := range all {
			b(t, o, x)
		}
	}
}

// assistant changes a member of the assistant. TOOL stands for the tool's id, and URL for
// the URL of the webhook.
func assistant(name, value string) breakage {
	return func(t *testing.T, o *org, x *wiring.Examination) {
		id := o.byName(t, "tool", "slow_one")["id"].(string)
		o.Change("assistant", "a-1", name, strings.NewReplacer("TOOL", id, "URL", x.URL).Replace(value))
	}
}

// examine changes the examination.
func examine(change func(x *wiring.Examination)) breakage {
	return func(_ *testing.T, _ *org, x *wiring.Examination) { change(x) }
}

// webhookOnly checks only the webhook, at another URL.
func webhookOnly(url func(t *testing.T, x *wiring.Examination) string) breakage {
	return func(t *testing.T, _ *org, x *wiring.Examination) {
		x.URL, x.Tools, x.Assistants = url(t, x), set(t), nil
	}
}

func at(url string) breakage {
	return webhookOnly(func(*testing.T, *wiring.Examination) string { return url })
}

// TestDoctorFinds makes one mistake at a time. The doctor must find this one only.
func TestDoctorFinds(t *testing.T) {
	const (
		credential = "00000002-0000-4000-8000-000000000000"
		noTools    = "tools : warning: there are no tools here"
		notSent    = "webhook, signed : unchecked: the credential is not sent"
		refused    = "the deployment's credential is refused with 401"
	)
	redirect := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusMovedPermanently))
	defer redirect.Close()
	publicKey := func(has *bool) breakage { return examine(func(x *wiring.Examination) { x.PublicKey = has }) }
	stopsWithCall := func(t *testing.T, _ *org, x *wiring.Examination) { x.Tools = slowOne(t, true) }
	statusUpdates := assistant("serverMessages", `["tool-calls","status-update"]`)
	newSecret := func(t *testing.T) vapiauth.Plan {
		return plan(t, `{"type":"bearer","token":"new-token-of-the-webhook"}`)
	}
	skew := func(d time.Duration) breakage {
		return examine(func(x *wiring.Examination) { x.Now = func() time.Time { return time.Now().Add(-d) } })
	}
	for name, row := range map[string]struct {
		change breakage
		want   []string // prefixes of the verdicts
	}{
		"control off": {assistant("monitorPlan", `{"controlEnabled":false}`),
			[]string{"control a-1: failed: live control is off"}},
		"control by default": {assistant("monitorPlan", `{"controlAuthenticationEnabled":true}`), nil},
		"no control authentication": {assistant("monitorPlan", `{"controlAuthenticationEnabled":false}`),
			[]string{"control authentication a-1: failed: off, so the id of a call is enough to speak in it"}},
		"no monitor plan": {both(assistant("monitorPlan", ""), publicKey(nil)),
			[]string{"control authentication a-1: failed: off, so the id of a call is enough to speak in it"}},
		"unknown public key": {publicKey(nil),
			[]string{"control authentication a-1: warning: on: the callback must send"}},
		"no public key": {publicKey(new(false)),
			[]string{"control authentication a-1: failed: on, but the deployment has no public key"}},
		"server messages": {assistant("serverMessages", `["hang"]`),
			[]string{"server messages a-1: failed: tool-calls is missing"}},
		"default server messages": {assistant("serverMessages", ""), nil},
		"no status updates": {stopsWithCall, []string{
			"status updates a-1: warning: the server messages do not include status-update, so slow_one may"}},
		"status updates without a server": {both(assistant("serverMessages", ""), stopsWithCall),
			[]string{"status updates a-1: warning: the assistant has no server"}},
		"status updates elsewhere": {
			both(statusUpdates, assistant("server", `{"url":"https://elsewhere.example/vapi"}`), stopsWithCall),
			[]string{"status updates a-1: warning: the assistant's server is not the webhook"}},
		"status updates": {both(statusUpdates, assistant("server", `{"url":"URL"}`), stopsWithCall), nil},
		"short calls": {assistant("maxDurationSeconds", "300"),
			[]string{"call length a-1: failed: a call ends after 5m0s, and a tool may take 5m0s"}},
		"default length": {assistant("maxDurationSeconds", ""), []string{
			"call length a-1: warning: a call ends after 10m0s, and all attempts of slow_one may take 10m0s"}},
		"default silence": {assistant("silenceTimeoutSeconds", ""), []string{
			"silence a-1: warning: a call may end after 30s of silence (Vapi's default), and a tool may take 5m0s"}},
		"short silence": {assistant("silenceTimeoutSeconds", "60"),
			[]string{"silence a-1: warning: a call may end after 1m0s of silence (silenceTimeoutSeconds)"}},
		"a hook on silence": {
			assistant("hooks", `[{"on":"customer.speech.timeout[x=1]","options":{"timeoutSeconds":20},`+
				`"do":[{"type":"tool","tool":{"type":"endCall"}}]}]`),
			[]string{"silence a-1: warning: a call may end after 20s of silence (a hook"}},
		"a hook with a stored tool": {both(
			func(_ *testing.T, o *org, _ *wiring.Examination) { o.Add("tool", `{"id":"end","type":"endCall"}`) },
			assistant("hooks", `[{"on":"customer.speech.timeout","options":{"timeoutSeconds":25},`+
				`"do":[{"type":"tool","toolId":"end"}]}]`)),
			[]string{"silence a-1: warning: a call may end after 25s of silence (a hook"}},
		"a hook with another stored tool": {
			assistant("hooks", `[{"on":"customer.speech.timeout","options":{"timeoutSeconds":25},`+
				`"do":[{"type":"tool","toolId":"TOOL"}]}]`), nil},
		"a hook without a time": {
			assistant("hooks", `[{"on":"customer.speech.timeout","do":[{"type":"tool","tool":{"type":"endCall"}}]}]`),
			[]string{"silence a-1: warning: a call may end after 7.5s of silence (a hook"}},
		"a harmless hook": {
			assistant("hooks", `[{"on":"customer.speech.timeout","options":{"timeoutSeconds":20},`+
				`"do":[{"type":"say","exact":"Hello?"}]}]`), nil},
		"prompt": {
			assistant("model", `{"provider":"openai","toolIds":[],"messages":[`+
				`{"role":"system","content":"slow_one_more, slow-slow_one"},{"role":"user","content":"slow_one"}]}`),
			[]string{"attached a-1 slow_one: failed: the assistant does not have the tool",
				"prompt a-1: failed: the system prompt does not mention slow_one"}},
		"prompt in parts": {
			assistant("model", `{"toolIds":["TOOL"],"messages":[`+
				`{"role":"system","content":[{"type":"text","text":"Use \"slow_one\"."}]}]}`), nil},
		"its own tool": {
			assistant("model", `{"tools":[{"type":"function","function":{"name":"slow_one"}}],`+
				`"messages":[{"role":"system","content":"slow_one"}]}`),
			[]string{"attached a-1 slow_one: failed: the assistant has its own tool slow_one"}},
		"pinned": {
			assistant("model", `{"toolRefs":[{"toolId":"TOOL","version":"v2"}],`+
				`"messages":[{"role":"system","content":"slow_one"}]}`),
			[]string{"attached a-1 slow_one: warning: pinned to version v2"}},
		"unknown assistant": {examine(func(x *wiring.Examination) { x.Assistants = []string{"a-0"} }),
			[]string{"assistant a-0: failed: cannot read the assistant"}},
		"odd assistant": {assistant("maxDurationSeconds", `"long"`),
			[]string{"assistant a-1: failed: a setting has an unexpected type"}},

		"not async": {func(t *testing.T, o *org, _ *wiring.Examination) {
			o.Change("tool", o.byName(t, "tool", "slow_one")["id"].(string), "async", "false")
		}, []string{"tool slow_one: failed: it differs at Vapi: async: false → true"}},
		"elsewhere": {examine(func(x *wiring.Examination) {
			x.URL = strings.Replace(x.URL, "127.0.0.1", "localhost", 1)
		}), []string{"tool slow_one: failed: it differs at Vapi: server.url",
			"credential " + credential + ": unchecked: sync did not create it for this URL"}},
		"no tool": {both(assistant("silenceTimeoutSeconds", "300"),
			func(t *testing.T, _ *org, x *wiring.Examination) {
				x.Tools = set(t, tool[empty]("slow_one"), tool[empty]("another"))
			}), []string{"tool another: failed: Vapi has no tool with this name",
			"attached a-1 another: failed: Vapi has no tool with this name, or several",
			"prompt a-1: failed: the system prompt does not mention another"}},
		"two tools": {func(_ *testing.T, o *org, _ *wiring.Examination) {
			o.Add("tool", `{"type":"function","function":{"name":"slow_one"}}`)
		}, []string{"tool slow_one: failed: 2 tools at Vapi are named slow_one",
			"attached a-1 slow_one: failed: Vapi has no tool with this name, or several"}},
		"attached twice": {assistant("model", `{"toolIds":["TOOL","x","TOOL"],`+
			`"messages":[{"role":"system","content":"slow_one"}]}`),
			[]string{"attached a-1 slow_one: warning: the assistant has the tool in several places " +
				"(model.toolIds, model.toolIds)"}},
		"similar names": {func(_ *testing.T, o *org, _ *wiring.Examination) {
			for _, name := range []string{"slow-one", "functions.slow_one", "slow_one_more", "slowest_one", ""} {
				o.Add("tool", `{"id":"id of `+name+`","type":"function","function":{"name":"`+name+`"}}`)
			}
		}, []string{
			"similar name id of functions.slow_one: warning: the name of the tool functions.slow_one at Vapi differs from ",
			"similar name id of slow-one: warning: the name of the tool slow-one at Vapi differs from slow_one only in"}},
		"a similar name in the assistant": {assistant("model", `{"toolIds":["TOOL"],"tools":[{"type":"endCall"},`+
			`{"type":"function","function":{"name":"SlowOne"}}],"messages":[{"role":"system","content":"slow_one"}]}`),
			[]string{"similar name a-1: warning: the name of the tool SlowOne in model.tools differs from slow_one only in"}},
		"no credential": {func(t *testing.T, o *org, x *wiring.Examination) {
			stored := o.byName(t, "tool", "slow_one")
			server := stored["server"].(map[string]any)
			delete(server, "credentialId")
			text, _ := json.Marshal(server)
			o.Change("tool", stored["id"].(string), "server", string(text))
		}, []string{"tool slow_one: failed: its webhooks have no credential"}},
		"credential is gone": {func(t *testing.T, o *org, x *wiring.Examination) {
			if err := o.api.Delete(t.Context(), vapiclient.Credentials, credential); err != nil {
				t.Fatal(err)
			}
		}, []string{"credential " + credential + ": failed: tools have this credential, but it is not in Vapi's list"}},
		"a tool that Vapi does not accept": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.Tools, x.Assistants = set(t, tool[struct{ A any }]("x")), nil
		}, []string{"tools : failed: tool x: the argument A has no type"}},
		"no tools": {func(t *testing.T, _ *org, x *wiring.Examination) { x.Tools = set(t) }, []string{noTools}},
		"wrong key": {func(_ *testing.T, o *org, _ *wiring.Examination) { o.Key = "another" }, []string{
			"tools : unchecked: not checked: cannot read the tools at Vapi",
			"assistant a-1: failed: cannot read the assistant"}},
		// What depends on the tools is neither wrong nor right.
		"tools that cannot be read": {func(_ *testing.T, o *org, x *wiring.Examination) {
			o.Fail(1, fakevapi.FailureForbidden, false)
			x.URL = ""
		}, []string{
			"tools : unchecked: not checked: cannot read the tools at Vapi",
			"attached a-1: unchecked: not checked: the tools at Vapi cannot be read",
			"webhook : unchecked: not checked: its URL is unknown",
		}},

		"new secret": {func(t *testing.T, _ *org, x *wiring.Examination) { x.Plans = []vapiauth.Plan{newSecret(t)} },
			[]string{"credential " + credential + ": failed: ringback ", "webhook, signed : failed: " + refused}},
		"rotation": {func(t *testing.T, _ *org, x *wiring.Examination) { x.Plans = append(x.Plans, newSecret(t)) },
			[]string{"webhook, signed credential 2: failed: " + refused}},
		"unknown secret": {examine(func(x *wiring.Examination) { x.Plans = nil }),
			[]string{"credential " + credential + ": unchecked: the deployment's credential is unknown",
				"webhook, signed : unchecked"}},
		"no URL given": {examine(func(x *wiring.Examination) { x.URL = "" }), nil},
		"no URL at all": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.URL, x.Tools, x.Assistants = "", set(t, tool[empty]("new")), nil
		}, []string{"tool new: failed", "webhook : failed: the URL of the webhook is unknown"}},
		"not encrypted": {at("http://example.com/vapi"),
			[]string{noTools, "webhook : failed: the credential would reach http://example.com/vapi without encryption"}},
		"no server": {at("http://127.0.0.1:1/vapi?key=" + token),
			[]string{noTools, "webhook, unsigned : failed: http://127.0.0.1:1/vapi?… does not answer: the connection was refused"}},
		"an answer that is not HTTP": {webhookOnly(func(_ *testing.T, x *wiring.Examination) string {
			x.Do = func(r *http.Request) (*http.Response, error) {
				return http.ReadResponse(bufio.NewReader(strings.NewReader("HTTP/1.1 "+token+"\r\n\r\n")), r)
			}
			return "http://127.0.0.1/vapi"
		}), []string{noTools, "webhook, unsigned : failed: http://127.0.0.1/vapi does not answer: the answer is malformed"}},
		"wrong path": {webhookOnly(func(_ *testing.T, x *wiring.Examination) string { return x.URL + "/" }),
			[]string{noTools, "webhook, unsigned : failed: answered with 404, not 401", notSent}},
		"redirected": {at(redirect.URL),
			[]string{noTools, "webhook, unsigned : failed: answered with 301, not 401", notSent}},
		"open": {webhookOnly(func(t *testing.T, x *wiring.Examination) string {
			x.Plans = []vapiauth.Plan{{Type: "none"}}
			return deployment(t, `{"type":"none"}`).URL + "/vapi"
		}), []string{noTools, "webhook, unsigned : failed: accepted with 200: everyone", "webhook, signed : unchecked"}},
		"unreadable secret": {webhookOnly(func(t *testing.T, _ *wiring.Examination) string {
			return deployment(t, `broken`).URL + "/vapi"
		}), []string{noTools, "webhook, unsigned : failed: answered with 503, not 401", notSent}},
		"clock is off": {skew(10 * time.Minute),
			[]string{"clock : failed: the webhook's clock and this one differ by 10m"}},
		"clock is slightly off": {skew(-time.Minute),
			[]string{"clock : warning: the webhook's clock and this one differ by "}},
		"unknown clock": {examine(func(x *wiring.Examination) {
			x.Do = func(r *http.Request) (*http.Response, error) {
				answer, err := http.DefaultClient.Do(r)
				answer.Header.Del("Date")
				return answer, err
			}
		}), []string{"clock : unchecked"}},
		"fails with a credential": {webhookOnly(func(t *testing.T, _ *wiring.Examination) string {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				status := http.StatusUnauthorized
				if r.Header.Get("Authorization") != "" {
					status = http.StatusServiceUnavailable
				}
				w.WriteHeader(status)
			}))
			t.Cleanup(server.Close)
			return server.URL
		}), []string{noTools, "webhook, signed : failed: answered with 503, not 200"}},
		"answers once": {examine(func(x *wiring.Examination) {
			requests := 0
			x.Do = func(r *http.Request) (*http.Response, error) {
				if requests++; requests > 1 {
					return nil, errors.New("broken")
				}
				return http.DefaultClient.Do(r)
			}
		}), []string{"webhook, signed : failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, x := healthy(t)
			row.change(t, o, &x)
			checks := wiring.Examine(t.Context(), x)
			expect(t, row.want, checks)
			for _, c := range checks {
				if c.Verdict == wiring.VerdictFailed && c.Remedy == "" {
					t.Errorf("no remedy in %+v", c)
				}
				if text := c.Detail + c.Remedy; strings.Contains(text, token) || strings.Contains(text, key) {
					t.Errorf("it contains a secret: %s", text)
				}
			}
		})
	}
}

// TestDoctorSquads examines assistants that are members of squads.
func TestDoctorSquads(t *testing.T) {
	const (
		name = "control authentication of the squad s-1: "
		on   = `{"monitorPlan":{"controlAuthenticationEnabled":true}}`
		off  = `{"monitorPlan":{"controlAuthenticationEnabled":false}}`
	)
	for about, row := range map[string]struct {
		squad   string // empty: none
		missing bool
		want    []string
		detail  string // of the check; empty: there is none
	}{
		"no squads":    {},
		"an older API": {missing: true},
		"another's":    {squad: `"members":[{"assistantId":"a-2","assistantOverrides":` + off + `}]`},
		"alone":        {squad: `"members":[{"assistantId":"a-1"}]`, detail: "on for all members"},
		"overridden, on": {squad: `"membersOverrides":` + on + `,"members":[{"assistantId":"a-1","assistantOverrides":` + on +
			`}]`, detail: "on for all members"},
		"other overrides": {squad: `"members":[{"assistantId":"a-1","assistantOverrides":{"voice":{}}}]`,
			detail: "on for all members"},
		"with a transient member": {squad: `"members":[{"assistantId":"a-1"},{"assistant":` + on + `}]`,
			detail: "on for all members"},
		"a member's overrides": {squad: `"members":[{"assistantId":"a-1","assistantOverrides":` + off + `}]`,
			want: []string{name + "failed: off in its members[0].assistantOverrides"}},
		"incomplete overrides": {squad: `"members":[{"assistantId":"a-1"}],"membersOverrides":{"monitorPlan":{}}`,
			want: []string{name + "failed: off in its membersOverrides"}},
		"another transient member": {squad: `"members":[{"assistantId":"a-1"},{"assistant":{}},{"assistant":` + off + `}]`,
			want: []string{name + "failed: off in its members[1].assistant, members[2].assistant"}},
		"a member that is not checked": {squad: `"members":[{"assistantId":"a-1"},{"assistantId":"a-2"}]`,
			want: []string{name + "unchecked: not checked for its members a-2"}},
		"another shape": {squad: `"members":"a-1"`, want: []string{"squads s-1: unchecked: not checked: a setting has"}},
	} {
		t.Run(about, func(t *testing.T) {
			o, x := healthy(t)
			if row.squad != "" {
				o.Add("squad", `{"id":"s-1",`+row.squad+`}`)
			}
			if row.missing {
				x.API = clientOf(t, func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, "/squad") {
						http.NotFound(w, r)
						return
					}
					o.ServeHTTP(w, r)
				})
			}
			checks := wiring.Examine(t.Context(), x)
			expect(t, row.want, checks)
			detail := ""
			for _, c := range checks {
				if c.Name+" "+c.About+": " == name && c.Verdict == wiring.VerdictOK {
					detail = c.Detail
				}
			}
			if detail != row.detail {
				t.Errorf("the check says %q, want %q", detail, row.detail)
			}
		})
	}
}

// TestDoctorVersions splits the calls of an assistant between its published versions. v3 is
// the latest one. v2 and v1 lack the tool, and v1 is not on the first page of the list.
func TestDoctorVersions(t *testing.T) {
	const (
		split = `{"assistantId":"a-1","allocationIntent":"explicit","targets":[TARGETS]}`
		v2    = `{"assistantVersion":"v2","percentage":90}`
		v3    = `{"assistantVersion":"v3","percentage":10}`
		v1    = `{"assistantVersion":"v1","percentage":0}`
	)
	lacks := func(version string) string {
		return "attached a-1 " + version + " slow_one: failed: the assistant does not have the tool"
	}
	latest := func(o *org, version string) { o.Change("assistant", "a-1", "latestVersion", version) }
	targets := func(targets ...string) string {
		return strings.Replace(split, "TARGETS", strings.Join(targets, ","), 1)
	}
	for name, row := range map[string]struct {
		allocation string // empty: none
		change     func(*org)
		missing    string // a route that the API does not have
		want       []string
		split      string // the detail of the check of the split; empty: no such check
		named      bool   // the findings name the latest version
	}{
		"no split": {},
		"a split": {allocation: targets(v2, v3, v1), want: []string{lacks("v2")},
			split: "its calls are split between v2 (90%), v3 (10%)", named: true},
		"the latest only": {allocation: targets(v3), split: "its calls are split between v3 (10%)", named: true},
		"an old version": {allocation: targets(strings.ReplaceAll(v2, "v2", "v1"), v3),
			want: []string{lacks("v1")}, split: "its calls are split between v1 (90%), v3 (10%)", named: true},
		"without the latest": {allocation: targets(v2), want: []string{
			"versions a-1: warning: its calls are split between v2 (90%). The latest version, v3, which", lacks("v2")},
			split: "its calls are split between v2 (90%). The latest version, v3, which sync changes, receives none",
			named: true},
		"of another assistant": {allocation: strings.Replace(targets(v2), "a-1", "a-2", 1)},
		"followed again":       {allocation: `{"assistantId":"a-1","allocationIntent":"follow-latest","targets":[]}`},
		"only empty":           {allocation: targets(v1)},
		"unlabelled": {allocation: targets(v2, v3), change: func(o *org) { latest(o, "null") },
			want:  []string{lacks("v2"), "assistant a-1 v3: unchecked: not checked: cannot read the version"},
			split: "its calls are split between v2 (90%), v3 (10%)"},
		"a version that is gone": {allocation: targets(v2, strings.ReplaceAll(v3, "v3", "v0")),
			change: func(o *org) { latest(o, `"v2"`) },
			want:   []string{"assistant a-1 v0: unchecked: not checked: cannot read the version"},
			split:  "its calls are split between v2 (90%), v0 (10%)", named: true},
		"a version of another shape": {allocation: targets(v2, v3), change: func(o *org) {
			o.Change("versions", "id-2", "maxDurationSeconds", `"long"`)
		}, want: []string{"assistant a-1 v2: failed: a setting has an unexpected type"},
			split: "its calls are split between v2 (90%), v3 (10%)", named: true},
		"no beta":      {allocation: targets(v2, v3), change: func(o *org) { o.Splitting = false }},
		"an older API": {allocation: targets(v2, v3), missing: "/traffic-allocations/"},
		"no versions": {allocation: targets(v2, v3), missing: "/assistant/a-1/versions",
			want:  []string{"assistant a-1 v2: unchecked: not checked: cannot read the version"},
			split: "its calls are split between v2 (90%), v3 (10%)", named: true},
		"a server error": {allocation: targets(v2, v3), change: func(o *org) {
			// The fourth request, after those for the tools, the credentials and the assistant.
			o.Fail(4, fakevapi.FailureRefusedBefore, true)
		}, want: []string{"versions a-1: unchecked: not checked: cannot read how its calls are split",
			"squads : unchecked: not checked: cannot list the squads"}},
		"an answer of another shape": {allocation: `{"assistantId":"a-1","targets":"v2"}`,
			want: []string{"versions a-1: unchecked: not checked: cannot read how its calls are split"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, x := healthy(t)
			o.Splitting = true
			latest(o, `"v3"`)
			member := func(name string) string {
				var object map[string]json.RawMessage
				if err := json.Unmarshal(o.Objects("assistant")[0], &object); err != nil {
					t.Fatal(err)
				}
				return string(object[name])
			}
			settings := `"maxDurationSeconds":1800,"silenceTimeoutSeconds":600,"serverMessages":` + member("serverMessages") +
				`,"monitorPlan":` + member("monitorPlan") + `,"model":{"messages":[{"role":"system","content":"slow_one"}]}`
			for i, version := range []string{"v1", "v2", "v2.1"} {
				o.Add("versions", fmt.Sprintf(`{"id":"id-%d","assistantId":"a-1","version":%q,%s}`, i+1, version, settings))
			}
			if row.allocation != "" {
				o.Add("traffic-allocations", row.allocation)
			}
			if row.change != nil {
				row.change(o)
			}
			if row.missing != "" {
				x.API = clientOf(t, func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, row.missing) {
						http.NotFound(w, r)
						return
					}
					o.ServeHTTP(w, r)
				})
			}
			checks := wiring.Examine(t.Context(), x)
			expect(t, row.want, checks)
			split, named := "", false
			for _, c := range checks {
				if c.Name == "versions" && c.Verdict != wiring.VerdictUnchecked {
					split = c.Detail
				}
				named = named || c.Name == "control" && c.About == "a-1 "+strings.Trim(member("latestVersion"), `"`)
				old := strings.HasPrefix(c.About, "a-1 v1") || strings.HasPrefix(c.About, "a-1 v2")
				if remedy := "then send its calls to the new version."; c.Verdict == wiring.VerdictFailed &&
					strings.HasSuffix(c.Remedy, remedy) != old {
					t.Errorf("the remedy of %+v", c)
				}
			}
			if split != row.split || named != row.named {
				t.Errorf("split %q, latest version named: %t", split, named)
			}
		})
	}
}

// TestDoctorGPTLive examines assistants with a speaker and a reasoner.
func TestDoctorGPTLive(t *testing.T) {
	const (
		prompts = `"speaker":{"instructions":"slow_one"},"reasoner":{"instructions":"slow_one, task_status"`
		inIDs   = `{"model":"gpt-live-1","toolIds":["TOOL","STATUS"],` + prompts + `}}`
		actions = "GPT-Live a-1: unchecked: a tool decides while it runs whether it returns an action. Handoff and Control"
	)
	hook := func(do string) breakage {
		return assistant("hooks", `[{"on":"customer.speech.timeout","options":{"timeoutSeconds":20},"do":[`+do+`]}]`)
	}
	tools := func(withStatus bool, change func(*asynctool.Tool[empty])) breakage {
		return func(t *testing.T, o *org, x *wiring.Examination) {
			all := []asynctool.Definition{tool("slow_one", func(x *asynctool.Tool[empty]) {
				x.Timeout, x.Attempts = 5*time.Minute, 2
				change(x)
			})}
			if withStatus {
				all = append(all, asynctool.TaskStatus())
			}
			x.Tools = set(t, all...)
			mustSync(t, wiring.Config{
				API: o.api, Tools: x.Tools, URL: x.URL, Credential: wiring.Credential{Plan: x.Plans[0]},
			})
		}
	}
	same := func(*asynctool.Tool[empty]) {}
	for name, row := range map[string]struct {
		model  string // TOOL and STATUS stand for the tools' ids
		change breakage
		want   []string
	}{
		"model.toolIds": {model: inIDs, want: []string{actions}},
		"skills": {model: `{"model":"gpt-live-2",` + prompts + `,"skills":[{"name":"a","toolIds":["TOOL"]},` +
			`{"name":"b","toolIds":["STATUS"],"tools":[{"type":"endCall"}]}]}}`, want: []string{actions}},
		"prompts elsewhere": {model: `{"toolIds":["TOOL","STATUS"],"messages":[{"role":"system","content":"slow_one"}],` +
			`"reasoner":{"skills":[{"name":"a","content":"slow_one"},{"name":"b","content":"task_status"}]}}`,
			want: []string{actions}},
		"speaker only": {model: `{"toolIds":["TOOL","STATUS"],"speaker":{"instructions":"Use slow_one."}}`, want: []string{
			"prompt a-1: failed: the reasoner's prompt does not mention slow_one, task_status", actions}},
		"no prompts": {model: `{"model":"gpt-live-1","toolIds":["TOOL","STATUS"],"speaker":{"instructions":""},` +
			`"messages":[{"role":"system","content":"slow_one task_status"}]}`, want: []string{
			"prompt a-1: failed: the speaker's prompt does not mention slow_one",
			"prompt a-1: failed: the reasoner's prompt does not mention slow_one, task_status", actions}},
		"not attached": {model: `{"model":"gpt-live-1","toolIds":["STATUS"],` + prompts + `,"skills":[{"name":"a"}]}}`,
			want: []string{"attached a-1 slow_one: failed: the assistant does not have the tool", actions}},
		"in two skills": {model: `{"model":"gpt-live-1","toolIds":["STATUS"],` + prompts +
			`,"skills":[{"name":"a","toolIds":["TOOL"]},{"name":"b","toolIds":["TOOL"]}]}}`,
			want: []string{"attached a-1 slow_one: warning: the assistant has the tool in several places " +
				`(model.reasoner.skills[0] ("a"), model.reasoner.skills[1] ("b"))`, actions}},
		"inline in a skill": {model: `{"model":"gpt-live-1","toolIds":["TOOL","STATUS"],` + prompts +
			`,"skills":[{"name":"a","tools":[{"function":{"name":"slow_one"}},{"function":{"name":"task-status"}}]}]}}`,
			want: []string{"attached a-1 slow_one: failed: the assistant has its own tool slow_one",
				"similar name a-1: warning: the name of the tool task-status in model.reasoner.skills[0]", actions}},
		"not skills": {model: `{"model":"gpt-live-1","reasoner":{"skills":[7]}}`,
			want: []string{"assistant a-1: failed: its model.reasoner.skills[0] is not a skill"}},
		"an idle hook": {model: inIDs, change: hook(`{"type":"tool","tool":{"type":"endCall"}}`), want: []string{
			"silence a-1: warning: a call may end after 20s of silence (a hook", actions}},
		"a hook with a stored tool": {model: inIDs, change: both(
			func(_ *testing.T, o *org, _ *wiring.Examination) { o.Add("tool", `{"id":"end","type":"endCall"}`) },
			hook(`{"type":"tool","toolId":"end"}`)), want: []string{actions}},
		"a harmless hook": {model: inIDs, change: hook(`{"type":"say","prompt":"Ask."}`), want: []string{actions}},
		"what is not spoken as it is": {model: inIDs, change: tools(true, func(x *asynctool.Tool[empty]) {
			x.Delivery, x.Hold, x.HoldAfter = asynctool.Say, "One moment.", time.Minute
		}), want: []string{"GPT-Live a-1 slow_one: warning: the assistant is asked to say its result, and may change the " +
			"words (Delivery), and its hold message is conveyed in the assistant's own words (Hold)", actions}},
		"no task_status": {model: inIDs, change: tools(false, same), want: []string{
			"GPT-Live a-1: warning: the reasoner takes the answer to the webhook of slow_one for the final result", actions}},
	} {
		t.Run(name, func(t *testing.T) {
			o, x := healthy(t)
			assistant("silenceTimeoutSeconds", "")(t, o, &x)
			tools(true, same)(t, o, &x)
			status := o.byName(t, "tool", "task_status")["id"].(string)
			assistant("model", strings.ReplaceAll(row.model, "STATUS", status))(t, o, &x)
			if row.change != nil {
				row.change(t, o, &x)
			}
			expect(t, row.want, wiring.Examine(t.Context(), x))
		})
	}
}
