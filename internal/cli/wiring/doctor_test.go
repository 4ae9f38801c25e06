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
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/ack"
	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/internal/credential"
	"github.com/ringback/ringback/internal/gateway"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// noQueue takes nothing: the probes must not get as far.
type noQueue struct{ t testing.TB }

func (q noQueue) Send(_ context.Context, messages []queue.Message) []error {
	q.t.Errorf("%d jobs were queued", len(messages))
	return make([]error, len(messages))
}

// deployment is the real ack function behind a gateway.
func deployment(t testing.TB, auth string) *httptest.Server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	h, err := ack.New(ack.Config{Queue: noQueue{t}, Credentials: credential.New(credential.Fixed(auth), log), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gateway.Handler(h.Handle, log, "POST /vapi"))
	t.Cleanup(server.Close)
	return server
}

// healthy is an organisation in which all is well, an examination of it, and
// the id of the one tool's credential.
func healthy(t testing.TB) (*org, wiring.Examination) {
	t.Helper()
	o := newOrg(t)
	o.Add("assistant", `{"id":"a-1","name":"Shop","maxDurationSeconds":1800,"silenceTimeoutSeconds":600,"serverMessages":["tool-calls","hang"],`+
		`"monitorPlan":{"controlEnabled":true},"model":{"provider":"openai","messages":[{"role":"system","content":"Use slow_one for it."}]}}`)
	url := deployment(t, bearer).URL + "/vapi"
	tools := set(t, tool("slow_one", func(x *asynctool.Tool[empty]) { x.Timeout, x.Attempts = 5*time.Minute, 2 }))
	mustSync(t, wiring.Config{API: o.api, Tools: tools, URL: url, Credential: wiring.Credential{Plan: plan(t, bearer)}, Assistants: []string{"a-1"}})
	return o, wiring.Examination{API: o.api, Tools: tools, Assistants: []string{"a-1"}, URL: url, Plans: []vapiauth.Plan{plan(t, bearer)}}
}

// stopsWithCall has the one tool want to know of its call's end.
func stopsWithCall(t *testing.T, x *wiring.Examination) {
	x.Tools = set(t, tool("slow_one", func(x *asynctool.Tool[empty]) { x.Timeout, x.Attempts, x.StopWithCall = 5*time.Minute, 2, true }))
}

// verdicts are the checks that are not ok, on a line each.
func verdicts(checks []wiring.Check) []string {
	var lines []string
	for _, c := range checks {
		if c.Verdict != wiring.OK {
			lines = append(lines, fmt.Sprintf("%s %s: %s: %s", c.Name, c.About, c.Verdict, c.Detail))
		}
	}
	return lines
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
	want := []string{"tool", "credential", "control", "control authentication", "server messages", "attached", "call length", "silence", "prompt", "webhook, unsigned", "clock", "webhook, signed"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// TestDoctorFinds breaks one thing at a time, and expects that to be found and
// nothing else.
func TestDoctorFinds(t *testing.T) {
	yes, no := true, false
	redirect := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusMovedPermanently))
	defer redirect.Close()
	change := func(name, value string) func(*testing.T, *org, *wiring.Examination) {
		return func(_ *testing.T, o *org, _ *wiring.Examination) { o.Change("assistant", "a-1", name, value) }
	}
	changeTool := func(name, value string) func(*testing.T, *org, *wiring.Examination) {
		return func(t *testing.T, o *org, _ *wiring.Examination) {
			o.Change("tool", o.byName(t, "tool", "slow_one")["id"].(string), name, value)
		}
	}
	for name, row := range map[string]struct {
		break_ func(*testing.T, *org, *wiring.Examination)
		want   []string // beginnings of the lines, IDs as they are
	}{
		"control off":     {change("monitorPlan", `{"controlEnabled":false}`), []string{"control a-1: failed: live control is off"}},
		"control default": {change("monitorPlan", ""), nil},
		"control auth":    {change("monitorPlan", `{"controlAuthenticationEnabled":true}`), []string{"control authentication a-1: warning: on: the callback must send"}},
		"public key there": {func(t *testing.T, o *org, x *wiring.Examination) {
			change("monitorPlan", `{"controlAuthenticationEnabled":true}`)(t, o, x)
			x.PublicKey = &yes
		}, nil},
		"no public key": {func(t *testing.T, o *org, x *wiring.Examination) {
			change("monitorPlan", `{"controlAuthenticationEnabled":true}`)(t, o, x)
			x.PublicKey = &no
		}, []string{"control authentication a-1: failed: on, and the deployment has no public key"}},
		"server messages":  {change("serverMessages", `["hang"]`), []string{"server messages a-1: failed: tool-calls is not among them"}},
		"default messages": {change("serverMessages", ""), nil},
		"no status updates": {func(t *testing.T, o *org, x *wiring.Examination) { stopsWithCall(t, x) },
			[]string{"status updates a-1: warning: status-update is not among the server messages, so that slow_one may"}},
		"status updates to nobody": {func(t *testing.T, o *org, x *wiring.Examination) {
			change("serverMessages", "")(t, o, x)
			stopsWithCall(t, x)
		}, []string{"status updates a-1: warning: the assistant has no server of its own"}},
		"status updates elsewhere": {func(t *testing.T, o *org, x *wiring.Examination) {
			change("serverMessages", `["tool-calls","status-update"]`)(t, o, x)
			change("server", `{"url":"https://elsewhere.example/vapi"}`)(t, o, x)
			stopsWithCall(t, x)
		}, []string{"status updates a-1: warning: the assistant's server is another one"}},
		"status updates": {func(t *testing.T, o *org, x *wiring.Examination) {
			change("serverMessages", `["tool-calls","status-update"]`)(t, o, x)
			change("server", fmt.Sprintf(`{"url":%q}`, x.URL))(t, o, x)
			stopsWithCall(t, x)
		}, nil},
		"short calls":       {change("maxDurationSeconds", "300"), []string{"call length a-1: failed: a call ends after 5m0s, and a tool may take 5m0s"}},
		"default length":    {change("maxDurationSeconds", ""), []string{"call length a-1: warning: a call ends after 10m0s, and all attempts of slow_one may take 10m0s"}},
		"default silence":   {change("silenceTimeoutSeconds", ""), []string{"silence a-1: warning: a call may end after 30s of silence (Vapi's default), and a tool may take 5m0s"}},
		"short silence":     {change("silenceTimeoutSeconds", "60"), []string{"silence a-1: warning: a call may end after 1m0s of silence (silenceTimeoutSeconds)"}},
		"a hook on silence": {change("hooks", `[{"on":"customer.speech.timeout[x=1]","options":{"timeoutSeconds":20},"do":[{"type":"tool","tool":{"type":"endCall"}}]}]`), []string{"silence a-1: warning: a call may end after 20s of silence (a hook"}},
		"a harmless hook":   {change("hooks", `[{"on":"customer.speech.timeout","options":{"timeoutSeconds":20},"do":[{"type":"say","exact":"Hello?"}]}]`), nil},
		"prompt": {change("model", `{"provider":"openai","toolIds":[],"messages":[{"role":"system","content":"slow_one_more, slow-slow_one"},{"role":"user","content":"slow_one"}]}`),
			[]string{"attached a-1 slow_one: failed: the assistant does not have the tool", "prompt a-1: failed: the system prompt does not mention slow_one"}},
		"prompt in parts": {func(t *testing.T, o *org, x *wiring.Examination) {
			change("model", fmt.Sprintf(`{"toolIds":[%q],"messages":[{"role":"system","content":[{"type":"text","text":"Use \"slow_one\"."}]}]}`, o.byName(t, "tool", "slow_one")["id"]))(t, o, x)
		}, nil},
		"its own tool": {func(t *testing.T, o *org, x *wiring.Examination) {
			change("model", `{"tools":[{"type":"function","function":{"name":"slow_one"}}],"messages":[{"role":"system","content":"slow_one"}]}`)(t, o, x)
		}, []string{"attached a-1 slow_one: failed: the assistant has a tool slow_one of its own"}},
		"pinned": {func(t *testing.T, o *org, x *wiring.Examination) {
			change("model", fmt.Sprintf(`{"toolRefs":[{"toolId":%q,"version":"v2"}],"messages":[{"role":"system","content":"slow_one"}]}`, o.byName(t, "tool", "slow_one")["id"]))(t, o, x)
		}, []string{"attached a-1 slow_one: warning: pinned to version v2"}},
		"no such assistant": {func(_ *testing.T, _ *org, x *wiring.Examination) { x.Assistants = []string{"nobody"} }, []string{"assistant nobody: failed: it cannot be read"}},
		"odd assistant":     {change("maxDurationSeconds", `"long"`), []string{"assistant a-1: failed: a setting is of an unexpected type"}},

		"not async": {changeTool("async", "false"), []string{"tool slow_one: failed: it differs at Vapi: async: false → true"}},
		"elsewhere": {func(t *testing.T, o *org, x *wiring.Examination) {
			x.URL = strings.Replace(x.URL, "127.0.0.1", "localhost", 1)
		}, []string{
			"tool slow_one: failed: it differs at Vapi: server.url", "credential 00000002-0000-4000-8000-000000000000: unchecked: sync did not make it for this URL"}},
		"no tool": {func(t *testing.T, o *org, x *wiring.Examination) {
			x.Tools = set(t, tool[empty]("slow_one"), tool[empty]("another"))
			change("silenceTimeoutSeconds", "300")(t, o, x)
		}, []string{
			"tool another: failed: Vapi has no tool of this name", "attached a-1 another: failed: there is no one tool", "prompt a-1: failed: the system prompt does not mention another"}},
		"two tools": {func(_ *testing.T, o *org, _ *wiring.Examination) {
			o.Add("tool", `{"type":"function","function":{"name":"slow_one"}}`)
		}, []string{
			"tool slow_one: failed: 2 tools at Vapi are named slow_one", "attached a-1 slow_one: failed: there is no one tool"}},
		"no credential": {func(t *testing.T, o *org, x *wiring.Examination) {
			server := o.byName(t, "tool", "slow_one")["server"].(map[string]any)
			delete(server, "credentialId")
			text, _ := json.Marshal(server)
			changeTool("server", string(text))(t, o, x)
		}, []string{"tool slow_one: failed: its webhooks carry no credential"}},
		"credential is gone": {func(t *testing.T, o *org, x *wiring.Examination) {
			if err := o.api.Delete(t.Context(), vapiclient.Credentials, "00000002-0000-4000-8000-000000000000"); err != nil {
				t.Fatal(err)
			}
		}, []string{"credential 00000002-0000-4000-8000-000000000000: failed: tools have this credential, and Vapi does not list it"}},
		"tools that Vapi cannot take": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.Tools = set(t, tool[struct{ A any }]("x"))
			x.Assistants = nil
		}, []string{
			"tools : failed: tool x: the argument A has no type"}},
		"no tools": {func(t *testing.T, _ *org, x *wiring.Examination) { x.Tools = set(t) }, []string{"tools : warning: there are no tools here"}},
		"wrong key": {func(_ *testing.T, o *org, x *wiring.Examination) { o.Key = "another" }, []string{
			"tools : failed: the tools at Vapi cannot be listed", "assistant a-1: failed: it cannot be read"}},

		"secret was changed": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.Plans = []vapiauth.Plan{plan(t, `{"type":"bearer","token":"new"}`)}
		}, []string{
			"credential 00000002-0000-4000-8000-000000000000: failed: ringback ", "webhook, signed : failed: the deployment's own credential is refused with 401"}},
		"rotation": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.Plans = append(x.Plans, plan(t, `{"type":"bearer","token":"new"}`))
		}, []string{
			"webhook, signed credential 2: failed: the deployment's own credential is refused with 401"}},
		"secret not known": {func(_ *testing.T, _ *org, x *wiring.Examination) { x.Plans = nil }, []string{
			"credential 00000002-0000-4000-8000-000000000000: unchecked: the deployment's own is not known", "webhook, signed : unchecked"}},
		"URL not given": {func(_ *testing.T, _ *org, x *wiring.Examination) { x.URL = "" }, nil},
		"URL known nowhere": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.URL, x.Tools, x.Assistants = "", set(t, tool[empty]("new")), nil
		}, []string{"tool new: failed", "webhook : failed: where the webhooks go is not known"}},
		"not encrypted": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.URL, x.Tools, x.Assistants = "http://example.com/vapi", set(t), nil
		}, []string{"tools : warning", "webhook : failed: http://example.com/vapi would be sent the credential"}},
		"nobody there": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.URL, x.Tools, x.Assistants = "http://127.0.0.1:1/vapi", set(t), nil
		}, []string{"tools : warning", "webhook, unsigned : failed: http://127.0.0.1:1/vapi does not answer"}},
		"wrong path": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.URL, x.Tools, x.Assistants = x.URL+"/", set(t), nil
		}, []string{"tools : warning", "webhook, unsigned : failed: answered with 404, not 401", "webhook, signed : unchecked: the credential is not sent"}},
		"redirected": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.URL, x.Tools, x.Assistants = redirect.URL, set(t), nil
		}, []string{"tools : warning", "webhook, unsigned : failed: answered with 301, not 401", "webhook, signed : unchecked: the credential is not sent"}},
		"open to everybody": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.URL, x.Tools, x.Assistants, x.Plans = deployment(t, `{"type":"none"}`).URL+"/vapi", set(t), nil, []vapiauth.Plan{{Type: "none"}}
		}, []string{"tools : warning", "webhook, unsigned : failed: taken with 200: anybody", "webhook, signed : unchecked"}},
		"cannot read secret": {func(t *testing.T, _ *org, x *wiring.Examination) {
			x.URL, x.Tools, x.Assistants = deployment(t, `broken`).URL+"/vapi", set(t), nil
		}, []string{"tools : warning", "webhook, unsigned : failed: answered with 503, not 401", "webhook, signed : unchecked: the credential is not sent"}},
		"clock is off": {func(_ *testing.T, _ *org, x *wiring.Examination) {
			x.Now = func() time.Time { return time.Now().Add(-10 * time.Minute) }
		}, []string{"clock : failed: the webhook's clock and this one differ by 10m"}},
		"clock is off a bit": {func(_ *testing.T, _ *org, x *wiring.Examination) {
			x.Now = func() time.Time { return time.Now().Add(time.Minute) }
		}, []string{"clock : warning: the webhook's clock and this one differ by "}},
		"clock is not known": {func(_ *testing.T, _ *org, x *wiring.Examination) {
			x.Do = func(r *http.Request) (*http.Response, error) {
				answer, err := http.DefaultClient.Do(r)
				answer.Header.Del("Date")
				return answer, err
			}
		}, []string{"clock : unchecked"}},
		"refuses all but strangers": {func(t *testing.T, _ *org, x *wiring.Examination) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				status := http.StatusUnauthorized
				if r.Header.Get("Authorization") != "" {
					status = http.StatusServiceUnavailable
				}
				w.WriteHeader(status)
			}))
			t.Cleanup(server.Close)
			x.URL, x.Tools, x.Assistants = server.URL, set(t), nil
		}, []string{"tools : warning", "webhook, signed : failed: answered with 503, not 200"}},
		"answers once": {func(_ *testing.T, _ *org, x *wiring.Examination) {
			asked := 0
			x.Do = func(r *http.Request) (*http.Response, error) {
				if asked++; asked > 1 {
					return nil, errors.New("broken")
				}
				return http.DefaultClient.Do(r)
			}
		}, []string{"webhook, signed : failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, x := healthy(t)
			row.break_(t, o, &x)
			checks := wiring.Examine(t.Context(), x)
			got := verdicts(checks)
			if len(got) != len(row.want) {
				t.Fatalf("got  %q\nwant %q", got, row.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], row.want[i]) {
					t.Errorf("got  %s\nwant %s", got[i], row.want[i])
				}
			}
			for _, c := range checks {
				if c.Verdict == wiring.Failed && c.Remedy == "" {
					t.Errorf("nothing to do about %+v", c)
				}
				if text := c.Detail + c.Remedy; strings.Contains(text, token) || strings.Contains(text, key) {
					t.Errorf("a secret is told: %s", text)
				}
			}
		})
	}
}
