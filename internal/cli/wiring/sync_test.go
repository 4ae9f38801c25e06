package wiring_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/cli/wiring"
	"github.com/ringback/ringback/internal/fakevapi"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

const (
	key    = "private-key-of-the-organisation"
	token  = "token-of-the-webhook-of-Ringback"
	bearer = `{"type":"bearer","token":"` + token + `"}`
)

// org is an organisation at Vapi, with a client that never sleeps.
type org struct {
	*fakevapi.Account
	api *vapiclient.API
}

func newOrg(t testing.TB) *org {
	t.Helper()
	o := &org{Account: &fakevapi.Account{Key: key}}
	o.api = clientOf(t, o.ServeHTTP)
	return o
}

// clientOf returns a client of an API that never sleeps.
func clientOf(t testing.TB, handler http.HandlerFunc) *vapiclient.API {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	// net/http must not repeat a request on a broken connection.
	server.Config.SetKeepAlivesEnabled(false)
	api, err := vapiclient.NewAPI(vapiclient.APIConfig{
		Key: key, URL: server.URL, Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func plan(t testing.TB, text string) vapiauth.Plan {
	t.Helper()
	plans, err := vapiauth.ParsePlans([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return plans[0]
}

// config returns a configuration with three tools.
func (o *org) config(t testing.TB, assistants ...string) wiring.Config {
	return wiring.Config{
		API: o.api, URL: hook, Credential: wiring.Credential{Plan: plan(t, bearer)}, Assistants: assistants,
		Tools: set(t, tool[empty]("one"), richTool(), syncAcked("three")),
	}
}

func syncAcked(name string) asynctool.Definition {
	return tool(name, func(x *asynctool.Tool[empty]) { x.SyncAck = true })
}

// sync prepares and applies a change set. done are the changes that Apply reported.
func sync(t testing.TB, cfg wiring.Config) (changes *wiring.ChangeSet, done []string, err error) {
	t.Helper()
	changes, err = wiring.Prepare(t.Context(), cfg)
	if err != nil {
		return nil, nil, err
	}
	err = wiring.Apply(t.Context(), cfg, changes, func(what string) { done = append(done, what) })
	return changes, done, err
}

func mustSync(t testing.TB, cfg wiring.Config) (*wiring.ChangeSet, []string) {
	t.Helper()
	changes, done, err := sync(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return changes, done
}

// settled syncs again, which must change nothing.
func (o *org) settled(t testing.TB, cfg wiring.Config) {
	t.Helper()
	o.Requests()
	mustSync(t, cfg)
	if writes := fakevapi.Writes(o.Requests()); len(writes) > 0 {
		t.Errorf("another sync wrote %v", writes)
	}
}

// state returns the content of the account without ids and times, which depend on the
// number of attempts.
func (o *org) state(t testing.TB) string {
	t.Helper()
	names := map[string]string{}
	var b strings.Builder
	for _, resource := range []string{"credential", "tool", "assistant"} {
		var texts []string
		for _, raw := range o.Objects(resource) {
			var object map[string]any
			if err := json.Unmarshal(raw, &object); err != nil {
				t.Fatal(err)
			}
			id := object["id"].(string)
			name, _ := object["name"].(string)
			if function, ok := object["function"].(map[string]any); ok {
				name = function["name"].(string)
			}
			if resource != "assistant" {
				if _, taken := names[name]; taken {
					t.Fatalf("two objects are named %s", name)
				}
				names[name] = id
				delete(object, "id")
			}
			delete(object, "createdAt")
			delete(object, "updatedAt")
			text, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
		}
		slices.Sort(texts)
		fmt.Fprintf(&b, "%s\n%s\n", resource, strings.Join(texts, "\n"))
	}
	state := b.String()
	for name, id := range names {
		state = strings.ReplaceAll(state, id, "id of "+name)
	}
	return state
}

// byName returns the only object with a name.
func (o *org) byName(t testing.TB, resource, name string) map[string]any {
	t.Helper()
	var found map[string]any
	for _, raw := range o.Objects(resource) {
		var object map[string]any
		if err := json.Unmarshal(raw, &object); err != nil {
			t.Fatal(err)
		}
		function, _ := object["function"].(map[string]any)
		if object["name"] == name || function["name"] == name {
			if found != nil {
				t.Fatalf("two objects (%s) are named %s", resource, name)
			}
			found = object
		}
	}
	return found
}

const plainAssistant = `{"id":"a-1","name":"Shop","model":{"provider":"openai","model":"gpt-4o","toolIds":["other"]}}`

func TestSync(t *testing.T) {
	o := newOrg(t)
	a := o.Add("assistant", plainAssistant)
	cfg := o.config(t, a)
	var progress []string
	cfg.Progress = func(step string) { progress = append(progress, step) }

	changes, err := wiring.Prepare(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if writes := fakevapi.Writes(o.Requests()); len(writes) > 0 || changes.Changes() != 5 {
		t.Fatalf("Prepare wrote %v; %d changes, want 5", writes, changes.Changes())
	}
	first, done := mustSync(t, cfg)
	credential := first.Credential.Name
	want := []string{
		"created the credential " + credential, "created the tool one", "created the tool rich",
		"created the tool three", `attached one, rich, three to the assistant a-1 ("Shop")`,
	}
	if !slices.Equal(done, want) {
		t.Errorf("done: %q", done)
	}
	if len(progress) == 0 {
		t.Error("no progress")
	}
	writes := fakevapi.Writes(o.Requests())
	if len(writes) != 5 {
		t.Errorf("%d writes: %v", len(writes), writes)
	}
	for _, w := range writes {
		if strings.Contains(w.Body, key) || strings.Contains(w.Body, token) != strings.HasPrefix(w.Path, "/credential") {
			t.Errorf("a secret is in the wrong request: %v", w)
		}
	}
	// The three ids follow the existing one, in the order of the tools.
	ids := []any{"other"}
	for _, name := range []string{"one", "rich", "three"} {
		stored := o.byName(t, "tool", name)
		ids = append(ids, stored["id"])
		if id := stored["server"].(map[string]any)["credentialId"]; id != o.byName(t, "credential", credential)["id"] {
			t.Errorf("%s has the credential %v", name, id)
		}
	}
	if diff := cmp.Diff(ids, o.byName(t, "assistant", "Shop")["model"].(map[string]any)["toolIds"]); diff != "" {
		t.Error(diff)
	}

	// Nothing differs, so nothing is written.
	before := o.state(t)
	changes, done = mustSync(t, cfg)
	writes = fakevapi.Writes(o.Requests())
	if len(writes) > 0 || len(done) > 0 || changes.Changes() > 0 || len(changes.Conflicts)+len(changes.Notes) > 0 {
		t.Errorf("the second sync wrote %v, did %q, prepared %+v", writes, done, changes)
	}
	if diff := cmp.Diff(before, o.state(t)); diff != "" {
		t.Error(diff)
	}
}

func TestSyncPatchesWhatChanged(t *testing.T) {
	tools := func(one asynctool.Definition) func(*wiring.Config) {
		return func(c *wiring.Config) { c.Tools = set(t, richTool(), syncAcked("three"), one) }
	}
	for name, row := range map[string]struct {
		change func(*wiring.Config)
		path   string // of the tool one; empty means every tool
		want   []string
		fields []string
	}{
		"a description": {
			tools(tool("one", func(x *asynctool.Tool[empty]) { x.Description = "does something else" })), "one",
			[]string{`function.description: "does something" → "does something else"`}, []string{"function"}},
		"the ack": {tools(syncAcked("one")), "one",
			[]string{"async: true → false", `messages: […] → []`}, []string{"async", "messages"}},
		"the arguments": {
			tools(tool[struct {
				City string `json:"city"`
			}]("one")), "one",
			[]string{
				`function.parameters.properties.city: (missing) → {"type":"string"}`,
				`function.parameters.required: (missing) → ["city"]`, "function.strict: false → true",
			}, []string{"function"}},
		"the URL": {func(c *wiring.Config) {
			c.URL = "https://other.example.com/vapi"
			c.Credential = wiring.Credential{ID: "cred-x"}
			c.TakeOver = []string{"one", "rich", "three"}
		}, "",
			[]string{
				`server.credentialId: "…" → "cred-x"`, `server.url: "` + hook + `" → "https://other.example.com/vapi"`,
				`server.headers: "…" → (missing)`, // they were for the other URL
			}, []string{"server"}},
		"no credential": {func(c *wiring.Config) { c.Credential = wiring.Credential{} }, "",
			[]string{`server.credentialId: "…" → (missing)`}, []string{"server"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrg(t)
			o.Add("credential", `{"id":"cred-x","provider":"custom-credential","name":"by hand"}`)
			cfg := o.config(t)
			mustSync(t, cfg)
			// Members from Vapi or other programs remain.
			for _, raw := range o.Objects("tool") {
				var stored struct {
					ID     string
					Server map[string]any
				}
				if err := json.Unmarshal(raw, &stored); err != nil {
					t.Fatal(err)
				}
				stored.Server["headers"] = map[string]any{"X-Theirs": "1"}
				server, _ := json.Marshal(stored.Server)
				o.Change("tool", stored.ID, "server", string(server))
				o.Change("tool", stored.ID, "latestVersion", `"v3"`)
			}
			o.Requests()
			row.change(&cfg)
			changes, _ := mustSync(t, cfg)
			patched := 1
			if row.path == "" {
				patched = 3
			}
			writes := fakevapi.Writes(o.Requests())
			if len(writes) != patched {
				t.Fatalf("%d writes: %v", len(writes), writes)
			}
			for _, w := range writes {
				var body map[string]any
				if err := json.Unmarshal([]byte(w.Body), &body); err != nil {
					t.Fatal(err)
				}
				if fields := slices.Sorted(maps.Keys(body)); w.Method != "PATCH" || !slices.Equal(fields, row.fields) {
					t.Errorf("%s %s with %q", w.Method, w.Path, fields)
				}
			}
			var said []string
			for _, c := range changes.Tools {
				if c.Name == "one" {
					for _, d := range c.Differences {
						said = append(said, abridge(d.String()))
					}
				} else if (c.Action != "") != (row.path == "") {
					t.Errorf("%s: %q", c.Name, c.Action)
				}
			}
			if diff := cmp.Diff(row.want, said); diff != "" {
				t.Error(diff)
			}
			for _, name := range []string{"one", "rich", "three"} {
				stored := o.byName(t, "tool", name)
				_, headers := stored["server"].(map[string]any)["headers"]
				if stored["latestVersion"] != "v3" || headers != (len(cfg.TakeOver) == 0) {
					t.Errorf("another's member is missing, or an earlier server's is left: %v", stored)
				}
			}
			o.settled(t, cfg)
		})
	}
}

// abridge removes what a test does not know: ids, and the text of the message.
func abridge(text string) string {
	if before, after, ok := strings.Cut(text, ` → `); ok && strings.HasPrefix(before, "server.credentialId") {
		return `server.credentialId: "…" → ` + after
	}
	if strings.HasPrefix(text, "messages: [{") {
		return text[:len("messages: [")] + "…]" + text[strings.LastIndex(text, " → "):]
	}
	return text
}

// Members that Vapi omits or adds are no difference.
func TestSyncToleratesVapisMembers(t *testing.T) {
	o := newOrg(t)
	cfg := o.config(t)
	mustSync(t, cfg)
	three := o.byName(t, "tool", "three")
	id := three["id"].(string)
	o.Change("tool", id, "async", "")
	o.Change("tool", id, "messages", "")
	o.Change("tool", id, "parameters", "null")
	o.Change("tool", id, "rejectionPlan", `{"conditions":[]}`)
	function := three["function"].(map[string]any)
	delete(function, "strict")
	function["async"] = false
	text, _ := json.Marshal(function)
	o.Change("tool", id, "function", string(text))
	server := three["server"].(map[string]any)
	server["staticIpAddressesEnabled"] = false
	backoff := server["backoffPlan"].(map[string]any)
	slices.Reverse(backoff["excludedStatusCodes"].([]any))
	text, _ = json.Marshal(server)
	o.Change("tool", id, "server", string(text))
	o.settled(t, cfg)
}

// All bytes of an assistant remain, except its toolIds.
func TestSyncKeepsAssistants(t *testing.T) {
	model := func(toolIDs string) string {
		return `{ "provider" : "openai","model":"gpt-4o",` + "\n" +
			`	"messages":[{"role":"system","content":"\u00fcber <b>&amp;</b> 🙂 \/ \u2028"}],` + toolIDs +
			`"temperature":0.70,"maxTokens":1e3,"seed":12345678901234567890123,"nested":{"toolIds":["not","mine"]},` +
			`"b":{},"a":[ ],"nothing":null}`
	}
	const around = `{"id":"a-1","name":"Shop","unknown1":1.0,"unknown2":[1,2 , 3],"unknown3":{"z":1,"a":2},` +
		`"unknown4":null,"unknown5":"\u00e9é","unknown6":true,"unknown7":1e-7,"unknown8":"","unknown9":{},` +
		`"unknown10":[],"unknown11":"<>&","unknown12":-0,"unknown13":"x","unknown14":{"model":{}},"unknown15":0,` +
		`"unknown16":[[]],"unknown17":"a\tb","unknown18":12345678901234567890,"unknown19":{"a":{"b":{"c":1}}},` +
		`"unknown20":false,"model":MODEL,"createdAt":"2026-01-01T00:00:00.000Z",` +
		`"updatedAt":"2026-01-01T00:00:00.000Z","orgId":"o"}`
	for name, row := range map[string]struct{ before, after string }{
		"with others":    {`"toolIds" : [ "x","y" ] ,`, `"toolIds" : ["x","y",IDS] ,`},
		"none":           {`"toolIds":[],`, `"toolIds":[IDS],`},
		"null":           {`"toolIds":null,`, `"toolIds":[IDS],`},
		"some of ours":   {`"toolIds":["SECOND","x"],`, `"toolIds":["SECOND","x",REST],`},
		"no such member": {``, `APPEND`},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrg(t)
			cfg := o.config(t)
			mustSync(t, cfg)
			var ids []string
			for _, name := range []string{"one", "rich", "three"} {
				ids = append(ids, o.byName(t, "tool", name)["id"].(string))
			}
			quoted := func(ids ...string) string { return `"` + strings.Join(ids, `","`) + `"` }
			before := strings.ReplaceAll(model(row.before), "SECOND", ids[1])
			after := model(row.after)
			if row.after == "APPEND" {
				after = strings.Replace(model(""), `"nothing":null}`, `"nothing":null,"toolIds":[`+quoted(ids...)+`]}`, 1)
			}
			after = strings.NewReplacer(
				"IDS", quoted(ids...), "REST", quoted(ids[0], ids[2]), "SECOND", ids[1]).Replace(after)
			o.Add("assistant", strings.Replace(around, "MODEL", before, 1))
			o.Requests()
			cfg.Assistants = []string{"a-1"}
			mustSync(t, cfg)
			want := strings.Replace(around, "MODEL", after, 1)
			// The request contains exactly the model.
			if writes := fakevapi.Writes(o.Requests()); len(writes) != 1 || writes[0].Body != `{"model":`+after+`}` {
				t.Errorf("wrote %v\nwant %s", writes, after)
			}
			if got := string(o.Objects("assistant")[0]); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			o.settled(t, cfg)
		})
	}
}

// TestSyncGPTLive syncs assistants with a speaker and a reasoner. ONE, RICH and THREE stand
// for the tools' ids. A tool that a skill has counts as attached, and all other members
// remain as they are.
func TestSyncGPTLive(t *testing.T) {
	const (
		speaker = `"speaker":{"instructions":"\u00fc & <b>","personalityPacks":["unhurried"],"new":[1.0, 2]}`
		head    = `{"provider":"openai","model":"gpt-live-1",` + speaker
	)
	skills := func(ids string) string {
		return head + `,"toolIds" : ["x"],"reasoner":{ "instructions":"\/" ,"skills":[ {"name":"orders",` +
			`"content":"c\u00e9","toolIds": [` + ids + `],"unknown":{"b":1,"a":[ ]},"tools":[{"type":"endCall"}]},` +
			` {"name":"none"} ],"odd":-0},"z":null}`
	}
	for name, row := range map[string]struct {
		before, after string   // models; empty after: no change
		attached      string   // what sync says
		note          string   // empty: none
		conflict      string   // empty: none
		prune         []string // tools that no longer exist here
	}{
		"speaker only": {
			before: head + `}`, after: head + `,"toolIds":["ONE","RICH","THREE"]}`,
			attached: `attached one, rich, three to the assistant a-1`},
		"a skill with some": {
			before: skills(`"ONE","y","THREE"`), attached: `attached rich to the assistant a-1`,
			after: strings.Replace(skills(`"ONE","y","THREE"`), `["x"]`, `["x","RICH"]`, 1)},
		"a skill with all": {before: skills(`"ONE","RICH","THREE"`)},
		"in several places": {
			before: strings.Replace(skills(`"ONE","RICH","THREE"`), `["x"]`, `["ONE"]`, 1),
			note:   `the assistant a-1 has the tool one in several places (model.toolIds, model.reasoner.skills[0] ("orders"))`},
		"inline in a skill": {
			before: strings.Replace(skills(`"RICH","THREE"`), `{"type":"endCall"}`,
				`{"type":"function","function":{"name":"one"}}`, 1),
			conflict: `the assistant a-1 has its own tool one (in model.reasoner.skills[0] ("orders"))`},
		"removed from a skill": {
			before: skills(`"ONE", "RICH","THREE"`), prune: []string{"three"}, attached: `detached 1 from the assistant a-1`,
			after: strings.NewReplacer(`[ {"name"`, `[{"name"`, `}, {"name":"none"} ]`, `},{"name":"none"}]`).
				Replace(skills(`"ONE","RICH"`))},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrg(t)
			cfg := o.config(t)
			mustSync(t, cfg)
			var names []string
			for _, name := range []string{"one", "rich", "three"} {
				names = append(names, strings.ToUpper(name), o.byName(t, "tool", name)["id"].(string))
			}
			ids := strings.NewReplacer(names...)
			o.Add("assistant", `{"id":"a-1","model":`+ids.Replace(row.before)+`}`)
			if row.prune != nil {
				cfg.Tools, cfg.Prune = set(t, tool[empty]("one"), richTool()), true
			}
			cfg.Assistants = []string{"a-1"}
			o.Requests()
			changes, done := mustSync(t, cfg)
			if len(row.prune) > 0 {
				row.attached += ", removed the tool " + strings.Join(row.prune, ", ")
			}
			if said := strings.Join(done, ", "); said != row.attached {
				t.Errorf("done: %s", said)
			}
			var wrote []string
			for _, w := range fakevapi.Writes(o.Requests()) {
				if w.Method == "PATCH" {
					wrote = append(wrote, w.Body)
				}
			}
			var want []string
			if row.after != "" {
				want = []string{`{"model":` + ids.Replace(row.after) + `}`}
			}
			if diff := cmp.Diff(want, wrote); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for what, texts := range map[string][2]string{
				"notes":     {strings.Join(changes.Notes, "\n"), row.note},
				"conflicts": {strings.Join(changes.Conflicts, "\n"), row.conflict},
			} {
				if got, want := texts[0], texts[1]; !strings.HasPrefix(got, want) || (got == "") != (want == "") {
					t.Errorf("%s: %q, want %q", what, got, want)
				}
			}
			o.settled(t, cfg)
		})
	}
}

// TestSyncMeetsAnotherClient attaches nothing that another client has attached since the
// change set was prepared.
func TestSyncMeetsAnotherClient(t *testing.T) {
	o := newOrg(t)
	cfg := o.config(t)
	mustSync(t, cfg)
	one, rich := o.byName(t, "tool", "one")["id"].(string), o.byName(t, "tool", "rich")["id"].(string)
	three := o.byName(t, "tool", "three")["id"].(string)
	o.Add("assistant", `{"id":"a-1","model":{"provider":"openai","model":"gpt-live-1"}}`)
	const model = `{"provider":"openai","model":"gpt-live-1","toolIds":[%s],"reasoner":{"skills":[{"toolIds":[%q]}]}}`
	cfg.Assistants = []string{"a-1"}
	cfg.Progress = func(step string) {
		if step == "attaching tools to the assistant a-1" {
			o.Change("assistant", "a-1", "model", fmt.Sprintf(model, strconv.Quote(one), rich))
		}
	}
	changes, _ := mustSync(t, cfg)
	if diff := cmp.Diff([]string{"one", "rich", "three"}, changes.Assistants[0].Attach); diff != "" {
		t.Error(diff)
	}
	want := fmt.Sprintf(model, strconv.Quote(one)+","+strconv.Quote(three), rich)
	if got := string(o.Objects("assistant")[0]); !strings.Contains(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestPruneKeepsSkills keeps a tool that a skill of another assistant has. Vapi may not start
// the calls of an assistant whose tool does not exist.
func TestPruneKeepsSkills(t *testing.T) {
	o := newOrg(t)
	cfg := o.config(t)
	mustSync(t, cfg)
	three := o.byName(t, "tool", "three")["id"].(string)
	o.Add("assistant", fmt.Sprintf(
		`{"id":"a-9","model":{"model":"gpt-live-1","reasoner":{"skills":[{"name":"s","toolIds":[%q]}]}}}`, three))
	cfg.Tools, cfg.Prune = set(t, tool[empty]("one"), richTool()), true
	changes, _ := mustSync(t, cfg)
	want := `the tool three (` + three + `) is not removed, because the assistant a-9 has it`
	if len(changes.Conflicts) != 1 || !strings.Contains(changes.Conflicts[0], want) ||
		o.byName(t, "tool", "three") == nil {
		t.Errorf("%q", changes.Conflicts)
	}
	o.Change("assistant", "a-9", "model", `{"model":"gpt-live-1","reasoner":{"skills":[7]}}`)
	if _, _, err := sync(t, cfg); err == nil || !strings.Contains(err.Error(), "so none is removed") {
		t.Errorf("an assistant that cannot be read: %v", err)
	}
}

// TestSyncRecovers makes every request fail in turn, in every way. The same run recovers
// from a short failure. After a longer one, it returns an error, and the next run
// completes the changes. No object ever exists twice.
func TestSyncRecovers(t *testing.T) {
	const second = `{"id":"a-2","model":{"provider":"openai"}}`
	failures := []fakevapi.Failure{
		fakevapi.FailureRefusedBefore, fakevapi.FailureRefusedAfter,
		fakevapi.FailureDroppedBefore, fakevapi.FailureDroppedAfter, fakevapi.FailureLimited,
		fakevapi.FailureForbidden,
	}
	later := func(t *testing.T, o *org) wiring.Config {
		t.Helper()
		a := o.Add("assistant", plainAssistant)
		b := o.Add("assistant", second)
		cfg := o.config(t, a, b)
		// An earlier sync had another secret and two tools: one that no longer
		// exists, and one that has changed.
		old := cfg
		old.Credential.Plan.Token = "the old one"
		old.Tools = set(t, tool[empty]("gone"),
			tool("one", func(x *asynctool.Tool[empty]) { x.Description = "once" }))
		old.Assistants = []string{a}
		mustSync(t, old)
		o.Requests()
		cfg.Prune = true
		return cfg
	}
	fresh := func(t *testing.T, o *org) wiring.Config {
		return o.config(t, o.Add("assistant", plainAssistant), o.Add("assistant", second))
	}
	for name, prepare := range map[string]func(*testing.T, *org) wiring.Config{"first": fresh, "later": later} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reference := newOrg(t)
			cfg := prepare(t, reference)
			mustSync(t, cfg)
			requests := len(reference.Requests())
			want := reference.state(t)
			if requests < 8 {
				t.Fatalf("only %d requests", requests)
			}
			for n := 1; n <= requests; n++ {
				for _, failure := range failures {
					for _, outage := range []bool{false, true} {
						label := fmt.Sprintf("request %d, failure %d, outage %t", n, failure, outage)
						o := newOrg(t)
						cfg := prepare(t, o)
						o.Fail(n, failure, outage)
						_, _, err := sync(t, cfg)
						if wantErr := outage || failure == fakevapi.FailureForbidden; (err != nil) != wantErr {
							t.Fatalf("%s: %v", label, err)
						}
						if err != nil && (strings.Contains(err.Error(), token) || strings.Contains(err.Error(), key)) {
							t.Errorf("%s: the error contains a secret: %v", label, err)
						}
						o.Fail(0, fakevapi.FailureNone, false)
						mustSync(t, cfg)
						if diff := cmp.Diff(want, o.state(t)); diff != "" {
							t.Fatalf("%s: %s", label, diff)
						}
						o.settled(t, cfg)
						if t.Failed() {
							t.Fatal(label)
						}
					}
				}
			}
		})
	}
}

// TestSyncWriteConflict lets another client change a tool between the reading and the
// writing.
func TestSyncWriteConflict(t *testing.T) {
	const message = "PATCH /tool/%s at Vapi: answered 409 tool_write_conflict"
	for name, row := range map[string]struct {
		timeout   int // that the other client writes; 0: none
		conflicts int
		patches   int
		wantErr   bool
	}{
		"none":              {conflicts: 0, patches: 1},
		"one":               {conflicts: 1, patches: 2},
		"two":               {conflicts: 2, patches: 3},
		"too many":          {conflicts: 9, patches: 3, wantErr: true},
		"of the same field": {timeout: 8, conflicts: 2, patches: 3},
		"by another sync":   {timeout: 20, conflicts: 1, patches: 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrg(t)
			cfg := o.config(t)
			mustSync(t, cfg)
			id := o.byName(t, "tool", "one")["id"].(string)
			server := func() map[string]any { return o.byName(t, "tool", "one")["server"].(map[string]any) }
			set := func(name string, value any) {
				changed := server()
				changed[name] = value
				text, _ := json.Marshal(changed)
				o.Change("tool", id, "server", string(text))
			}
			set("timeoutSeconds", 7)
			conflicts := 0
			cfg.Progress = func(step string) {
				if step != "updating the tool one" || conflicts == row.conflicts {
					return
				}
				conflicts++
				set("headers", map[string]any{"X-Theirs": fmt.Sprint(conflicts)})
				if row.timeout > 0 {
					set("timeoutSeconds", row.timeout)
				}
				o.Fail(1, fakevapi.FailureWriteConflict, false)
			}
			o.Requests()
			_, done, err := sync(t, cfg)
			if (err != nil) != row.wantErr {
				t.Fatal(err)
			}
			if err != nil && (!strings.Contains(err.Error(), fmt.Sprintf(message, id)) ||
				!strings.Contains(err.Error(), "run ringback sync again")) {
				t.Errorf("the error is %q", err)
			}
			if writes := fakevapi.Writes(o.Requests()); len(writes) != row.patches {
				t.Errorf("%d writes, want %d: %v", len(writes), row.patches, writes)
			}
			if want := !row.wantErr && row.timeout != 20; slices.Contains(done, "updated the tool one") != want {
				t.Errorf("done: %q", done)
			}
			cfg.Progress = nil
			if row.wantErr {
				mustSync(t, cfg)
			}
			if timeout := server()["timeoutSeconds"]; timeout != 20.0 {
				t.Errorf("the timeout is %v", timeout)
			}
			if conflicts > 0 {
				want := map[string]any{"X-Theirs": fmt.Sprint(conflicts)}
				if diff := cmp.Diff(want, server()["headers"]); diff != "" {
					t.Errorf("the other client's member: %s", diff)
				}
			}
			o.settled(t, cfg)
		})
	}
}

func TestSyncConflicts(t *testing.T) {
	for name, row := range map[string]struct {
		before   func(*org)
		conflict string
		writes   int // of five
	}{
		"two with one name": {func(o *org) {
			for range 2 {
				o.Add("tool", `{"type":"function","function":{"name":"one","description":"by hand"}}`)
			}
		}, "2 tools at Vapi are named one " +
			"(00000003-0000-4000-8000-000000000000, 00000002-0000-4000-8000-000000000000)", 4},
		"of another type": {func(o *org) { o.Add("tool", `{"type":"apiRequest","function":{"name":"one"}}`) },
			"has the type apiRequest", 4},
		"in the assistant": {func(o *org) {
			o.Change("assistant", "a-1", "model",
				`{"provider":"openai","tools":[{"type":"endCall"},{"type":"function","function":{"name":"one"}}]}`)
		}, `the assistant a-1 ("Shop") has its own tool one`, 5},
		"no model": {func(o *org) { o.Change("assistant", "a-1", "model", "") },
			`the assistant a-1 ("Shop") has no model yet`, 4},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrg(t)
			cfg := o.config(t, o.Add("assistant", plainAssistant))
			row.before(o)
			before := o.Objects("tool")
			changes, _ := mustSync(t, cfg)
			if len(changes.Conflicts) != 1 || !strings.Contains(changes.Conflicts[0], row.conflict) {
				t.Errorf("%q", changes.Conflicts)
			}
			requests := o.Requests()
			if writes := fakevapi.Writes(requests); len(writes) != row.writes {
				t.Errorf("%d writes: %v", len(writes), writes)
			}
			// The existing objects are unchanged, and in the same order.
			after := o.Objects("tool")[:len(before)]
			for i := range before {
				if string(before[i]) != string(after[i]) {
					t.Errorf("changed: %s", after[i])
				}
			}
			o.settled(t, cfg)
		})
	}
}

// TestSyncAsksBeforeItTakesOver meets tools whose URL or credential sync did not set for
// this URL. OWN is the id of the credential that sync created.
func TestSyncAsksBeforeItTakesOver(t *testing.T) {
	const other = "https://user:s3cret@old.example.com/vapi?key=s3cret"
	for name, row := range map[string]struct {
		server     string            // of the tool one; empty: none
		credential wiring.Credential // zero: from bearer
		conflict   string            // empty: none
	}{
		"another URL": {`{"url":"` + other + `","credentialId":"OWN"}`, wiring.Credential{}, "posts to https://old.example.com/vapi?…"},
		"no URL":      {`{"credentialId":"OWN"}`, wiring.Credential{}, "has no URL of its own"},
		"no server":   {``, wiring.Credential{}, "has no URL of its own"},
		"another credential": {`{"url":"` + hook + `","credentialId":"theirs"}`, wiring.Credential{},
			`has the credential "theirs"`},
		"theirs is not selected": {`{"url":"` + hook + `","credentialId":"theirs"}`, wiring.Credential{ID: "mine"},
			`has the credential "theirs"`},
		"its own":            {`{"url":"` + hook + `","credentialId":"OWN"}`, wiring.Credential{}, ""},
		"from the selected":  {`{"url":"` + hook + `","credentialId":"mine"}`, wiring.Credential{ID: "mine"}, ""},
		"to the selected":    {`{"url":"` + hook + `","credentialId":"OWN"}`, wiring.Credential{ID: "mine"}, ""},
		"without credential": {`{"url":"` + hook + `"}`, wiring.Credential{}, ""},
		"to none": {`{"url":"` + hook + `","credentialId":"OWN"}`,
			wiring.Credential{Plan: plan(t, `{"type":"none"}`)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrg(t)
			o.Add("credential", `{"id":"mine","provider":"custom-credential","name":"by hand"}`)
			cfg := o.config(t, o.Add("assistant", plainAssistant))
			cfg.Tools = set(t)
			first, _ := mustSync(t, cfg)
			own := o.byName(t, "credential", first.Credential.Name)["id"].(string)
			body := `{"type":"function","function":{"name":"one","description":"by hand"}}`
			if row.server != "" {
				more := `,"headers":{"Authorization":"Bearer s3cret"},"staticIpAddressesEnabled":false}`
				if row.conflict != "" {
					more = `,"secret":"s3cret"` + more // a member that Vapi accepts no longer
				}
				server := strings.TrimSuffix(strings.ReplaceAll(row.server, "OWN", own), "}") + more
				body = strings.Replace(body, `}}`, `},"server":`+server+`}`, 1)
			}
			id := o.Add("tool", body)
			before := string(o.Objects("tool")[0])
			cfg.Tools = set(t, tool[empty]("one"), tool[empty]("two"))
			if row.credential != (wiring.Credential{}) {
				cfg.Credential = row.credential
			}

			changes, _ := mustSync(t, cfg)
			if row.conflict == "" {
				stored := o.byName(t, "tool", "one")
				if len(changes.Conflicts) != 0 || stored["async"] != true {
					t.Errorf("%q, %v", changes.Conflicts, stored)
				}
				if server := stored["server"].(map[string]any); server["headers"] == nil {
					t.Errorf("a header of the same owner is gone: %v", server)
				}
				o.settled(t, cfg)
				return
			}
			want := "the tool one at Vapi (" + id + ") " + row.conflict + ", which sync did not set for this URL. It may " +
				"belong to another deployment. To change it all the same, use --take-over one."
			if diff := cmp.Diff([]string{want}, changes.Conflicts); diff != "" {
				t.Error(diff)
			}
			if after := string(o.Objects("tool")[0]); after != before {
				t.Errorf("changed: %s", after)
			}
			two := o.byName(t, "tool", "two")["id"].(string)
			if model := o.byName(t, "assistant", "Shop")["model"].(map[string]any); !slices.Equal(
				model["toolIds"].([]any), []any{"other", two}) {
				t.Errorf("attached %v", model["toolIds"])
			}

			cfg.TakeOver = []string{"one"}
			changes, _ = mustSync(t, cfg)
			stored := o.byName(t, "tool", "one")
			if len(changes.Conflicts) != 0 || stored["id"] != id || stored["async"] != true ||
				stored["server"].(map[string]any)["url"] != hook {
				t.Errorf("%q, %v", changes.Conflicts, stored)
			}
			// Nothing of the other owner's server is left, and its secrets are not shown.
			if text := fmt.Sprint(stored["server"]); strings.Contains(text, "s3cret") || strings.Contains(text, "theirs") {
				t.Errorf("the server is %s", text)
			}
			for _, c := range changes.Tools {
				if text := fmt.Sprint(c.Differences); strings.Contains(text, "s3cret") {
					t.Errorf("it shows a secret: %s", text)
				}
			}
			cfg.TakeOver = nil
			o.settled(t, cfg)
		})
	}
	o := newOrg(t)
	cfg := o.config(t)
	cfg.TakeOver = []string{"on"}
	_, err := wiring.Prepare(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "no tool on to take over") {
		t.Errorf("a name that no tool has: %v", err)
	}
}

// TestSyncMeetsAnotherOwner lets another client move or create a tool after the changes
// were prepared.
func TestSyncMeetsAnotherOwner(t *testing.T) {
	const theirs = `{"url":"https://theirs.example.com","timeoutSeconds":5}`
	t.Run("moved", func(t *testing.T) {
		o := newOrg(t)
		cfg := o.config(t)
		mustSync(t, cfg)
		id := o.byName(t, "tool", "one")["id"].(string)
		o.Change("tool", id, "async", "false")
		changes, err := wiring.Prepare(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		o.Change("tool", id, "server", theirs)
		err = wiring.Apply(t.Context(), cfg, changes, nil)
		if err == nil || !strings.Contains(err.Error(), "the URL or the credential of the tool one in the meantime") ||
			o.byName(t, "tool", "one")["async"] != false {
			t.Errorf("%v", err)
		}
	})
	t.Run("created", func(t *testing.T) {
		o := newOrg(t)
		cfg := o.config(t)
		changes, err := wiring.Prepare(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		o.Add("tool", `{"type":"function","function":{"name":"one"},"server":`+theirs+`}`)
		o.Fail(2, fakevapi.FailureRefusedBefore, false) // the request that creates the tool one
		err = wiring.Apply(t.Context(), cfg, changes, nil)
		if err == nil || !strings.Contains(err.Error(), "another client has created a tool one in the meantime") ||
			o.byName(t, "tool", "one")["server"].(map[string]any)["url"] != "https://theirs.example.com" {
			t.Errorf("%v", err)
		}
	})
}

// TestSyncReturnsPreviousBodies compares them with the objects before the changes.
func TestSyncReturnsPreviousBodies(t *testing.T) {
	o := newOrg(t)
	cfg := o.config(t)
	if changes, _ := mustSync(t, cfg); len(changes.Previous) > 0 || changes.Organisation != "" {
		t.Errorf("in an empty organisation: %q, %v", changes.Organisation, changes.Previous)
	}
	cfg.Assistants = []string{o.Add("assistant", plainAssistant)}
	o.Change("tool", o.byName(t, "tool", "one")["id"].(string), "async", "false")
	cfg.Tools, cfg.Prune = set(t, tool[empty]("one"), syncAcked("three"), tool[empty]("new")), true // without rich
	cfg.Credential.Plan.Token = "another one"
	want := map[string]bool{}
	for _, resource := range []string{"tool", "assistant"} {
		for _, raw := range o.Objects(resource) {
			if !strings.Contains(string(raw), `"name":"three"`) {
				want[resource+string(raw)] = true
			}
		}
	}
	changes, _ := mustSync(t, cfg)
	got := map[string]bool{}
	for _, previous := range changes.Previous {
		if previous.Resource == vapiclient.Credentials {
			if text := string(previous.Body); !strings.Contains(text, `"name":"ringback `) || strings.Contains(text, token) {
				t.Error(text)
			}
			continue
		}
		got[string(previous.Resource)+string(previous.Body)] = true
	}
	if diff := cmp.Diff(want, got); diff != "" || len(changes.Previous) != len(want)+1 {
		t.Errorf("%d objects: %s", len(changes.Previous), diff)
	}
	if changes.Organisation != fakevapi.OrgID {
		t.Errorf("organisation %q", changes.Organisation)
	}
}

func TestSyncRespectsPins(t *testing.T) {
	o := newOrg(t)
	cfg := o.config(t)
	mustSync(t, cfg)
	id := o.byName(t, "tool", "one")["id"]
	o.Add("assistant", fmt.Sprintf(
		`{"id":"a-1","model":{"provider":"openai","toolRefs":[{"toolId":%q,"version":"v3"}]}}`, id))
	cfg.Assistants = []string{"a-1"}
	changes, _ := mustSync(t, cfg)
	if len(changes.Notes) != 1 || !strings.Contains(changes.Notes[0], "pinned to version v3 of the tool one") {
		t.Errorf("%q", changes.Notes)
	}
	if ids := o.Objects("assistant")[0]; strings.Count(string(ids), id.(string)) != 1 {
		t.Errorf("attached in addition to the pin: %s", ids)
	}
}

func TestPrune(t *testing.T) {
	o := newOrg(t)
	a := o.Add("assistant", plainAssistant)
	cfg := o.config(t, a)
	cfg.Tools = set(t, tool[empty]("one"), tool[empty]("two"), tool[empty]("used"))
	mustSync(t, cfg)
	two, used := o.byName(t, "tool", "two")["id"].(string), o.byName(t, "tool", "used")["id"].(string)
	o.Add("assistant", fmt.Sprintf(`{"id":"a-9","name":"Other","model":{"provider":"openai","toolIds":[%q]}}`, used))
	// Not from sync: another URL, another credential, another type.
	o.Add("tool", `{"type":"function","function":{"name":"elsewhere"},"server":{"url":"https://other.example.com/vapi"}}`)
	o.Add("tool", `{"type":"function","function":{"name":"by_hand"},"server":{"url":"`+hook+`","credentialId":"theirs"}}`)
	o.Add("tool", `{"type":"apiRequest","function":{"name":"request"},"server":{"url":"`+hook+`"}}`)
	o.Add("tool", `{"type":"endCall"}`)
	cfg.Tools = set(t, tool[empty]("one"))

	o.Requests()
	changes, _ := mustSync(t, cfg)
	if writes := fakevapi.Writes(o.Requests()); len(writes) > 0 || len(changes.Notes) != 3 {
		t.Errorf("without --prune: %v, %q", writes, changes.Notes)
	}

	cfg.Prune = true
	changes, done := mustSync(t, cfg)
	conflict := `the tool used (` + used + `) is not removed, because the assistant a-9 ("Other") has it`
	if len(changes.Conflicts) != 1 || !strings.Contains(changes.Conflicts[0], conflict) {
		t.Errorf("conflicts: %q", changes.Conflicts)
	}
	if want := []string{`detached 1 from the assistant a-1 ("Shop")`, "removed the tool two"}; !slices.Equal(done, want) {
		t.Errorf("done: %q", done)
	}
	if o.byName(t, "tool", "two") != nil || strings.Contains(string(o.Objects("assistant")[0]), two) {
		t.Error("the tool two still exists")
	}
	for _, name := range []string{"one", "used", "elsewhere", "by_hand", "request"} {
		if o.byName(t, "tool", name) == nil {
			t.Errorf("%s no longer exists", name)
		}
	}

	cfg.Assistants = append(cfg.Assistants, "a-9")
	mustSync(t, cfg)
	if o.byName(t, "tool", "used") != nil || strings.Contains(string(o.Objects("assistant")[1]), used) {
		t.Error("the tool used still exists")
	}
	o.settled(t, cfg)
}

func TestCredentials(t *testing.T) {
	const hmac = `{"type":"hmac","secretKey":"k3y","algorithm":"sha256"}`
	for name, row := range map[string]struct {
		credential wiring.Credential
		want       string // the authentication plan at Vapi; empty: no credential is created
	}{
		"bearer": {wiring.Credential{Plan: plan(t, bearer)}, bearer},
		"hmac":   {wiring.Credential{Plan: plan(t, hmac)}, hmac},
		"the legacy secret": {wiring.Credential{Plan: plan(t, `{"type":"secret","secret":"s"}`)},
			`{"type":"bearer","token":"s","headerName":"X-Vapi-Secret","bearerPrefixEnabled":false}`},
		"none":      {wiring.Credential{Plan: plan(t, `{"type":"none"}`)}, ""},
		"by its id": {wiring.Credential{ID: "theirs"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrg(t)
			// The credentials of another deployment and of another program remain.
			other := o.config(t)
			other.URL = "https://other.example.com/vapi"
			other.Tools = set(t)
			mustSync(t, other)
			o.Add("credential", `{"provider":"openai","name":"ringback"}`)
			o.Add("credential", `{"id":"theirs","provider":"webhook"}`)
			before := len(o.Objects("credential"))

			cfg := o.config(t)
			cfg.Credential = row.credential
			changes, _ := mustSync(t, cfg)
			created := o.Objects("credential")[before:]
			if row.want == "" {
				if len(created) != 0 || changes.Credential.Action != "" {
					t.Errorf("created %s", created)
				}
				server := o.byName(t, "tool", "one")["server"].(map[string]any)
				if server["credentialId"] != nilOr(row.credential.ID) {
					t.Errorf("credential %v", server["credentialId"])
				}
				return
			}
			if len(created) != 1 {
				t.Fatalf("created %s", created)
			}
			var stored struct {
				Name, Provider     string
				AuthenticationPlan any
			}
			if err := json.Unmarshal(created[0], &stored); err != nil {
				t.Fatal(err)
			}
			var want any
			if err := json.Unmarshal([]byte(row.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, stored.AuthenticationPlan); diff != "" {
				t.Error(diff)
			}
			if len(stored.Name) > 40 || !strings.HasPrefix(stored.Name, "ringback ") ||
				stored.Provider != "custom-credential" {
				t.Errorf("%+v", stored)
			}

			// A new secret has another name, and replaces the old one.
			id := changes.Credential.ID
			cfg.Credential.Plan = plan(t, `{"type":"bearer","token":"a new one"}`)
			changes, done := mustSync(t, cfg)
			if len(o.Objects("credential")) != before+1 || changes.Credential.Action != wiring.ActionUpdate ||
				id != "" && changes.Credential.ID != id {
				t.Errorf("%+v", changes.Credential)
			}
			replaced := "replaced the credential, which is now " + changes.Credential.Name
			if !slices.Equal(done, []string{replaced}) {
				t.Errorf("done: %q", done)
			}
			o.settled(t, cfg)
		})
	}
}

func nilOr(id string) any {
	if id == "" {
		return nil
	}
	return id
}

func TestChoose(t *testing.T) {
	plans := []vapiauth.Plan{plan(t, bearer), plan(t, `{"type":"hmac","secretKey":"k3y","algorithm":"sha256"}`)}
	for name, row := range map[string]struct {
		plans []vapiauth.Plan
		hmac  bool
		want  string
		err   string
	}{
		"the first":   {plans, false, "bearer", ""},
		"hmac":        {plans, true, "hmac", ""},
		"hmac anyway": {plans[1:], false, "hmac", ""},
		"no hmac":     {plans[:1], true, "", "the deployment's credential is not of type hmac"},
		"none at all": {nil, false, "", "use --credential with the id of a credential at Vapi"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := wiring.Choose(row.plans, row.hmac)
			if got.Type != row.want || (err != nil) != (row.err != "") ||
				err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}

// Vapi's answer may quote a credential that it refuses.
func TestSyncRemovesSecretsFromErrors(t *testing.T) {
	o := newOrg(t)
	cfg := o.config(t)
	const secret = "the secret itself"
	cfg.Credential.Plan = vapiauth.Plan{Type: "hmac", SecretKey: secret, Algorithm: "md5 " + secret}
	_, _, err := sync(t, cfg)
	if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "400") {
		t.Errorf("%v", err)
	}
}

func TestSyncErrors(t *testing.T) {
	o := newOrg(t)
	if _, _, err := sync(t, o.config(t, "a-0")); err == nil || !strings.Contains(err.Error(), "a-0 does not exist") {
		t.Errorf("%v", err)
	}
	if writes := fakevapi.Writes(o.Requests()); len(writes) > 0 {
		t.Errorf("wrote %v", writes)
	}
	o.Key = "another"
	_, _, err := sync(t, o.config(t))
	failed, ok := errors.AsType[*vapiclient.APIError](err)
	if !ok || failed.Status != 401 || strings.Contains(err.Error(), key) {
		t.Errorf("%v", err)
	}
}
