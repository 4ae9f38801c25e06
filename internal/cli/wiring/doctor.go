package wiring

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/operator"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Verdict is the result of a check.
type Verdict string

const (
	VerdictOK        Verdict = "ok"
	VerdictWarning   Verdict = "warning"   // it works, or may work, but a person should look at it
	VerdictFailed    Verdict = "failed"    // it does not work
	VerdictUnchecked Verdict = "unchecked" // it cannot be determined from here
)

// Check is a check with its result.
type Check struct {
	Name    string  `json:"check"`
	About   string  `json:"about,omitempty"` // a tool's name, or an assistant's id and version
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`           // the finding
	Remedy  string  `json:"remedy,omitempty"` // what to do; not empty if VerdictFailed
}

// Examination is the configuration of [Examine].
type Examination struct {
	API        *vapiclient.API // required
	Tools      *asynctool.Set  // required
	Assistants []string        // ids

	// URL is the destination of the webhooks. Empty means the URL of the
	// tools at Vapi.
	URL string

	// Plans are the deployment's credential. Each of them is valid. Nil means
	// unknown, and skips the checks that need it.
	Plans []vapiauth.Plan

	// Stored is what was read of the deployment's secret. Nil means that there
	// is none, or that it is unknown.
	Stored *Stored

	// ArgumentKey is the public key of encrypted arguments, in PEM. Empty means
	// unknown.
	ArgumentKey string

	// PublicKey reports whether the deployment has Vapi's public key, which
	// control authentication requires. Nil means unknown.
	PublicKey *bool

	// Missing are the settings that tools lack in the deployment, by tool. Nil means
	// unknown.
	Missing map[string][]string

	// Listen is the command that runs the tools of the deployment, if no function does. Empty means that a function does,
	// or that it is unknown.
	Listen string

	// Rate is how many webhooks of quick tools may come in a second, and
	// Concurrency how many executions the AWS account may run at the same time. 0
	// means 1 and 10.
	Rate        float64
	Concurrency int

	Progress func(step string) // called with each step; may be nil
	Now      func() time.Time  // nil means time.Now

	// Do sends the probes. Nil means Transport without redirects.
	Do func(r *http.Request) (*http.Response, error)

	// Transport is for the probes. Nil means [http.DefaultTransport].
	Transport http.RoundTripper
}

const runSync = "Run ringback sync."

// takeOver is the remedy for tools that sync does not change by itself.
const takeOver = "Run ringback sync --take-over with the name of the tool, if it belongs to this deployment."

// Examine runs the checks. It changes nothing at Vapi, and its probes of the webhook
// queue no job.
func Examine(ctx context.Context, cfg Examination) []Check {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Do == nil {
		client := &http.Client{
			Transport:     cfg.Transport,
			Timeout:       20 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		cfg.Do = client.Do
	}
	e := &examination{Examination: cfg, ids: map[string]string{}, endCalls: map[string]bool{}}
	e.tools(ctx)
	e.listener()
	e.settings()
	e.secret()
	e.quick()
	for _, id := range cfg.Assistants {
		e.assistant(ctx, id)
	}
	e.squads(ctx)
	e.webhook(ctx)
	return e.checks
}

type examination struct {
	Examination
	checks   []Check
	ids      map[string]string // of the tools at Vapi, by name
	endCalls map[string]bool   // ids of the tools at Vapi that end a call

	organisation string // at Vapi; empty means unknown
	unread       bool   // the tools at Vapi cannot be read
}

func (e *examination) progress(format string, a ...any) {
	if e.Progress != nil {
		e.Progress(fmt.Sprintf(format, a...))
	}
}

func (e *examination) add(name, about string, verdict Verdict, remedy, detail string, a ...any) {
	check := Check{Name: name, About: about, Verdict: verdict, Detail: fmt.Sprintf(detail, a...), Remedy: remedy}
	e.checks = append(e.checks, check)
}

const reachAPI = "Check the private key, --region and the network."

// tools checks each tool at Vapi, and their credential.
func (e *examination) tools(ctx context.Context) {
	e.progress("asking Vapi for its tools")
	stored, err := listTools(ctx, e.API)
	if err != nil {
		e.unread = true
		e.add("tools", "", VerdictUnchecked, reachAPI, "not checked: cannot read the tools at Vapi: %v", err)
		return
	}
	for _, t := range stored {
		if t.Type == endCall {
			e.endCalls[t.ID] = true
		}
		e.organisation = cmp.Or(e.organisation, organisationOf(t.raw))
	}
	if e.URL == "" {
		for _, entry := range e.Tools.Entries() {
			for _, t := range named(stored, entry.Name) {
				if e.URL == "" {
					e.URL = t.Server.URL
				}
			}
		}
	}
	bodies, err := Bodies(e.Tools, Endpoint{URL: e.URL})
	if err != nil {
		e.add("tools", "", VerdictFailed, "Change the tool.", "%v", err)
		return
	}
	if len(bodies) == 0 {
		e.add("tools", "", VerdictWarning, "Add a tool to tools/tools.go.", "there are no tools here")
	}
	for _, t := range stored {
		e.similar(t.Function.Name, t.ID, "at Vapi")
	}
	credentials := map[string]bool{} // whether Vapi must encrypt arguments with its key
	for _, body := range bodies {
		name := body.Function.Name
		there := named(stored, name)
		if why := conflict(name, there); why != "" {
			if len(there) > 1 {
				// Vapi's documentation: duplicate tools of one name.
				why += " Vapi uses only one of them in a call, which may be another than this project's."
			}
			e.add("tool", name, VerdictFailed, "Delete or rename the other tools, then run ringback sync.", "%s", why)
			continue
		}
		if len(there) == 0 && e.Missing[name] != nil {
			continue // sync leaves it out
		}
		if len(there) == 0 {
			e.add("tool", name, VerdictFailed, runSync, "Vapi has no tool with this name")
			continue
		}
		e.ids[name] = there[0].ID
		credential := there[0].Server.CredentialID
		encrypts := len(body.Server.EncryptedPaths) > 0
		credentials[credential] = credentials[credential] || encrypts
		body.Server.CredentialID = credential
		found := differences(body, there[0].members)
		switch {
		case len(found) > 0:
			var said []string
			for _, d := range found {
				said = append(said, d.String())
			}
			remedy := runSync
			if there[0].Server.URL != body.Server.URL {
				remedy = takeOver
			}
			e.add("tool", name, VerdictFailed, remedy, "it differs at Vapi: %s", strings.Join(said, "; "))
		case credential == "" && encrypts:
			e.add("tool", name, VerdictFailed, "Run ringback sync with a credential.",
				"it has no credential, so Vapi has no key to encrypt its arguments, and they are refused")
		case credential == "" && !e.open():
			e.add("tool", name, VerdictFailed, runSync, "its webhooks have no credential, so they are refused")
		default:
			mode := "async"
			if !body.Async {
				mode = "sync-acked"
			}
			e.add("tool", name, VerdictOK, "", "%s, the same as here, and sends its webhooks to %s", mode, shownURL(e.URL))
		}
	}
	delete(credentials, "")
	if len(credentials) > 0 {
		e.credential(ctx, credentials)
	}
}

// listener says that no function runs the tools.
func (e *examination) listener() {
	if e.Listen != "" {
		e.add("listener", "", VerdictWarning, "Run "+e.Listen+". To run the tools in a function, deploy without listen=true.",
			"no function runs the tools of the deployment; their jobs wait for a listener")
	}
}

// settings names the settings that the tools lack in the deployment. A listener names its own.
func (e *examination) settings() {
	if e.Listen != "" {
		return
	}
	const name = "settings"
	var needed []string
	for _, entry := range e.Tools.Entries() {
		missing := strings.Join(e.Missing[entry.Name], " and ")
		switch {
		case len(entry.Settings) == 0:
			continue
		case missing == "":
		case e.ids[entry.Name] != "":
			e.add(name, entry.Name, VerdictFailed, "Set it as context, and deploy. Or remove the tool from the assistants.",
				"the deployment lacks %s, so callers hear that the service isn't available", missing)
		default:
			e.add(name, entry.Name, VerdictWarning, "Set it as context, deploy, and run ringback sync.",
				"the deployment lacks %s, so sync leaves the tool out", missing)
		}
		needed = append(needed, entry.Name)
	}
	switch {
	case len(needed) == 0:
	case e.Missing == nil:
		e.add(name, "", VerdictUnchecked, "Use --stack, with a stack that this version has deployed.",
			"not checked: it is unknown whether the deployment has the settings of %s", strings.Join(needed, ", "))
	case len(e.Missing) == 0:
		e.add(name, "", VerdictOK, "", "the deployment has the settings of %s", strings.Join(needed, ", "))
	}
}

// leftOut reports whether sync leaves a tool out, because the deployment lacks its settings.
func (e *examination) leftOut(tool string) bool { return e.ids[tool] == "" && e.Missing[tool] != nil }

// secret checks the deployment's credential itself.
func (e *examination) secret() {
	for _, p := range e.Plans {
		if err := p.CheckLength(); err != nil {
			e.add("credential length", "", VerdictFailed, "Run ringback sync --rotate hmac.", "%v", err)
		}
	}
	const name = "organisation"
	switch {
	case e.Stored == nil || len(e.Plans) == 0:
	case len(e.Stored.Organisations) == 0:
		e.add(name, "", VerdictWarning, runSync, "the secret is not bound to an organisation, so the credential "+
			"also works in another one")
	case e.organisation == "":
		e.add(name, "", VerdictUnchecked, "", "no tool at Vapi names the organisation")
	case !slices.Contains(e.Stored.Organisations, e.organisation):
		e.add(name, "", VerdictFailed, "Run ringback sync --add-organisation, if the organisation is yours.",
			"the webhooks of this organisation (%s) are refused, because the secret is bound to %s", e.organisation,
			strings.Join(e.Stored.Organisations, ", "))
	default:
		e.add(name, "", VerdictOK, "", "only the webhooks of %s are accepted", strings.Join(e.Stored.Organisations, ", "))
	}
}

// similar warns of a tool whose name a model may confuse with one of the tools.
func (e *examination) similar(name, about, where string) {
	if _, ok := e.Tools.Lookup(name); ok || name == "" {
		return
	}
	if known, ok := e.Tools.Similar(name); ok {
		e.add("similar name", about, VerdictWarning, "Delete the tool if it is a leftover, or rename one of the two.",
			"the name of the tool %s %s differs from %s only in a prefix, a hyphen, an underscore or case. "+
				"If %[1]s posts to this webhook, its tool calls are refused", name, where, known.Name)
	}
}

// open reports whether the deployment is known to accept every webhook.
func (e *examination) open() bool { return len(e.Plans) > 0 && e.Plans[0].Type == "none" }

// credential compares the credential at Vapi with the deployment's. It can compare only
// the name, which contains a fingerprint.
func (e *examination) credential(ctx context.Context, used map[string]bool) {
	const name = "credential"
	e.progress("asking Vapi for its credentials")
	stored, err := listCredentials(ctx, e.API)
	if err != nil {
		e.add(name, "", VerdictUnchecked, "", "%v", err)
		return
	}
	for _, id := range slices.Sorted(maps.Keys(used)) {
		at := slices.IndexFunc(stored, func(c storedCredential) bool { return c.ID == id })
		if at < 0 {
			e.add(name, id, VerdictFailed, takeOver,
				"tools have this credential, but it is not in Vapi's list of webhook credentials")
			continue
		}
		credential := stored[at]
		key := ""
		if len(e.Tools.Encrypted()) > 0 {
			key = e.ArgumentKey
			e.encryption(credential, used[id])
		}
		switch {
		case !strings.HasPrefix(credential.Name, namePrefix(e.URL)):
			e.add(name, id, VerdictUnchecked, "",
				"sync did not create it for this URL, and Vapi does not show the content of a credential")
		case e.Plans == nil:
			e.add(name, id, VerdictUnchecked, "", "the deployment's credential is unknown; use --stack or --auth")
		case key == "" && len(e.Tools.Encrypted()) > 0:
			e.add(name, id, VerdictUnchecked, "", "its name depends on the public key of encrypted arguments, which is unknown")
		case slices.ContainsFunc(e.Plans, func(p vapiauth.Plan) bool {
			made, err := Credential{Plan: p, ArgumentKey: key}.name(e.URL)
			return err == nil && made == credential.Name
		}):
			e.add(name, id, VerdictOK, "", "%s has the secret of the deployment", credential.Name)
		case key != "":
			e.add(name, id, VerdictFailed, runSync, "%s has another secret or public key than the deployment",
				credential.Name)
		default:
			e.add(name, id, VerdictFailed, runSync, "%s has another secret than the deployment", credential.Name)
		}
	}
}

// encryption compares the public key of a credential at Vapi with the deployment's.
func (e *examination) encryption(c storedCredential, used bool) {
	const name = "encryption"
	same, known := c.encryptsWith(e.ArgumentKey)
	switch {
	case !used:
	case e.ArgumentKey == "":
		e.add(name, c.ID, VerdictUnchecked, "Use --stack or --argument-key to check this.",
			"the deployment's public key is unknown")
	case !known && strings.HasPrefix(c.Name, namePrefix(e.URL)):
		e.add(name, c.ID, VerdictUnchecked, "", "Vapi does not show the key. sync has set it if the name of the "+
			"credential is right")
	case !known:
		e.add(name, c.ID, VerdictUnchecked, "Compare the key in the dashboard.",
			"Vapi does not show whether the credential has the public key of the deployment")
	case same:
		e.add(name, c.ID, VerdictOK, "", "Vapi encrypts with the public key of the deployment")
	default:
		e.add(name, c.ID, VerdictFailed, runSync, "Vapi encrypts with another key than the deployment's")
	}
}

// settings are the settings of an assistant that matter here (Vapi's OpenAPI:
// Assistant). silenceTimeoutSeconds is no longer in the description, but older
// assistants have it. A hook has replaced it.
type settings struct {
	MonitorPlan struct {
		ControlEnabled               *bool
		ControlAuthenticationEnabled bool
	}
	ServerMessages        []string
	Server                struct{ URL string }
	MaxDurationSeconds    float64
	SilenceTimeoutSeconds float64
	Hooks                 []struct {
		On      string
		Options struct{ TimeoutSeconds float64 }
		Do      []struct {
			Tool   struct{ Type string }
			ToolID string // of a tool that is not part of the hook
		}
	}
	Model struct {
		SystemPrompt string
		Messages     []struct {
			Role    string
			Content json.RawMessage
		}
		Speaker  struct{ Instructions *string } // nil: as for other assistants
		Reasoner struct {
			Instructions string
			Skills       []struct{ Content string }
		}
	}
}

const (
	defaultDuration = 600 * time.Second // Vapi's OpenAPI: Assistant.maxDurationSeconds
	defaultSilence  = 30 * time.Second  // Vapi's OpenAPI: TransferAssistant.silenceTimeoutSeconds

	// defaultHookSeconds: Vapi's OpenAPI, CustomerSpeechTimeoutOptions.timeoutSeconds.
	defaultHookSeconds = 7.5

	unlimited = time.Duration(math.MaxInt64)

	endCall = "endCall" // the type of a tool that ends the call
)

func (e *examination) assistant(ctx context.Context, id string) {
	e.progress("asking Vapi for the assistant %s", id)
	raw, err := e.API.Get(ctx, vapiclient.Assistants, id)
	if err != nil {
		remedy := reachAPI
		if failed, ok := errors.AsType[*vapiclient.APIError](err); ok && failed.Status == http.StatusNotFound {
			remedy = "Copy the assistant's id from the dashboard."
		}
		e.add("assistant", id, VerdictFailed, remedy, "cannot read the assistant: %v", err)
		return
	}
	var latest struct{ LatestVersion string }
	_ = json.Unmarshal(raw, &latest) // null or absent: no versions
	live := e.liveVersions(ctx, id, latest.LatestVersion)
	about := id
	if len(live) > 0 && latest.LatestVersion != "" {
		about += " " + latest.LatestVersion
	}
	e.version(id, about, raw)
	for _, version := range live {
		if version == latest.LatestVersion {
			continue
		}
		e.progress("asking Vapi for version %s of the assistant %s", version, id)
		about := id + " " + version
		raw, err := e.API.AssistantVersion(ctx, id, version)
		if err != nil {
			e.add("assistant", about, VerdictUnchecked, "Check it in the dashboard.",
				"not checked: cannot read the version: %v", err)
			continue
		}
		first := len(e.checks)
		e.version(id, about, raw)
		for i := first; i < len(e.checks); i++ {
			if remedy := &e.checks[i].Remedy; *remedy != "" {
				*remedy += " A published version does not change, so then send its calls to the new version."
			}
		}
	}
}

// version checks a version of an assistant.
func (e *examination) version(id, about string, raw json.RawMessage) {
	a, err := parseAssistant(raw)
	if err != nil {
		e.add("assistant", about, VerdictFailed, "Open and save the assistant in the dashboard.", "%v", err)
		return
	}
	var s settings
	if err := json.Unmarshal(raw, &s); err != nil {
		e.add("assistant", about, VerdictFailed, "Open and save the assistant in the dashboard.",
			"a setting has an unexpected type: %v", err)
		return
	}
	e.control(about, s)
	e.serverMessages(about, s)
	e.attached(id, about, a)
	e.callLength(about, s)
	e.silence(about, s, a.gptLive)
	if a.gptLive {
		e.gptLivePrompts(about, s)
		e.gptLive(about)
	} else {
		e.prompt(about, s)
		e.ignoredQuick(about)
	}
}

// liveVersions returns the versions that the calls of an assistant are split between. None
// means that all calls use the latest version. So does 403 (Vapi's documentation, "Get
// latest traffic allocation": no access to the beta) and 404 (an API without the beta).
func (e *examination) liveVersions(ctx context.Context, id, latest string) []string {
	const name = "versions"
	raw, err := e.API.TrafficAllocation(ctx, id)
	failed, ok := errors.AsType[*vapiclient.APIError](err)
	if ok && (failed.Status == http.StatusForbidden || failed.Status == http.StatusNotFound) {
		return nil
	}
	var answer struct {
		Allocation struct {
			Targets []struct { // empty: the calls follow the latest version
				AssistantVersion string
				Percentage       float64
			}
		}
	}
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	if err != nil {
		e.add(name, id, VerdictUnchecked, "Look at the assistant's traffic in the dashboard.",
			"not checked: cannot read how its calls are split between versions. Only its latest version is checked: %v", err)
		return nil
	}
	var live, shares []string
	for _, target := range answer.Allocation.Targets {
		if target.Percentage > 0 && target.AssistantVersion != "" {
			live = append(live, target.AssistantVersion)
			shares = append(shares, fmt.Sprintf("%s (%g%%)", target.AssistantVersion, target.Percentage))
		}
	}
	split := strings.Join(shares, ", ")
	switch {
	case len(live) == 0:
	case latest == "" || slices.Contains(live, latest):
		e.add(name, id, VerdictOK, "", "its calls are split between %s", split)
	default:
		e.add(name, id, VerdictWarning, "Give the latest version a share of the calls in the dashboard.",
			"its calls are split between %s. The latest version, %s, which sync changes, receives none", split, latest)
	}
	return live
}

func (e *examination) control(id string, s settings) {
	if on := s.MonitorPlan.ControlEnabled; on != nil && !*on {
		e.add("control", id, VerdictFailed, "Set monitorPlan.controlEnabled of the assistant to true.",
			"live control is off, so no result can reach the call")
		return
	}
	e.add("control", id, VerdictOK, "", "live control is on")
	const name = "control authentication"
	switch {
	case !s.MonitorPlan.ControlAuthenticationEnabled:
		remedy := "Set monitorPlan.controlAuthenticationEnabled of the assistant to true."
		if e.PublicKey == nil || !*e.PublicKey {
			remedy = "Deploy with -c publicKeySecretArn=… first. " + remedy
		}
		e.add(name, id, VerdictFailed, remedy,
			"off, so the id of a call is enough to speak in it, to transfer it and to end it")
	case e.PublicKey == nil:
		e.add(name, id, VerdictWarning, "Make sure that the deployment has the public key (VAPI_PUBLIC_KEY_SECRET_ID). "+
			"Use --stack to check this.", "on: the callback must send Vapi's public key")
	case *e.PublicKey:
		e.add(name, id, VerdictOK, "", "on, and the deployment has a public key")
	default:
		e.add(name, id, VerdictFailed,
			"Deploy with -c publicKeySecretArn=….",
			"on, but the deployment has no public key to send")
	}
}

func (e *examination) serverMessages(id string, s settings) {
	const name = "server messages"
	switch {
	case s.ServerMessages == nil:
		e.add(name, id, VerdictOK, "", "Vapi's default, which includes tool-calls")
	case slices.Contains(s.ServerMessages, vapi.TypeToolCalls):
		e.add(name, id, VerdictOK, "", "tool-calls is included")
	default:
		e.add(name, id, VerdictFailed, "Add tool-calls to the assistant's serverMessages.",
			"tool-calls is missing, so Vapi sends no tool calls")
	}
	e.statusUpdates(id, s)
}

// statusUpdates checks whether the webhook learns of the begin and end of calls, if a
// tool needs that. Vapi sends these messages to the assistant's server and not to the
// tools' (Vapi's documentation, "Server URLs").
func (e *examination) statusUpdates(id string, s settings) {
	var wanted []string
	for _, entry := range e.Tools.Entries() {
		if entry.StopWithCall || entry.AfterCall == asynctool.NextCall {
			wanted = append(wanted, entry.Name)
		}
	}
	if len(wanted) == 0 {
		return
	}
	const name = "status updates"
	var problem string
	switch {
	case s.ServerMessages != nil && !slices.Contains(s.ServerMessages, vapi.TypeStatusUpdate):
		problem = "the server messages do not include status-update"
	case s.Server.URL == "":
		problem = "the assistant has no server"
	case e.URL != "" && s.Server.URL != e.URL:
		problem = "the assistant's server is not the webhook"
	default:
		e.add(name, id, VerdictOK, "", "the webhook learns of the begin and end of calls")
		return
	}
	e.add(name, id, VerdictWarning, "Set the assistant's server to the webhook, with the same credential as the tools, "+
		"and add status-update to its serverMessages.",
		"%s, so %s may learn late of the begin or end of a call", problem, strings.Join(wanted, ", "))
}

func (e *examination) attached(id, version string, a *assistant) {
	const name = "attached"
	if e.unread {
		e.add(name, version, VerdictUnchecked, "", "not checked: the tools at Vapi cannot be read")
		return
	}
	for _, entry := range e.Tools.Entries() {
		tool, there := e.ids[entry.Name]
		about := version + " " + entry.Name
		places := a.places(tool)
		switch own := a.own(entry.Name); {
		case own != "":
			e.add(name, about, VerdictFailed, "Remove it from the assistant's "+own+", then run ringback sync.",
				"the assistant has its own tool %s, which replaces this one", entry.Name)
		case e.leftOut(entry.Name):
		case !there:
			e.add(name, about, VerdictFailed, runSync, "Vapi has no tool with this name, or several")
		case a.pinned[tool] != "":
			e.add(name, about, VerdictWarning, "Remove it from the assistant's model.toolRefs, unless that is intended.",
				"pinned to version %s: changes of the tool do not reach the assistant", a.pinned[tool])
		case len(places) == 0:
			e.add(name, about, VerdictFailed, "Run ringback sync --assistant "+id+".", "the assistant does not have the tool")
		case len(places) > 1:
			e.add(name, about, VerdictWarning, "Keep one of them.",
				"the assistant has the tool in several places (%s)", strings.Join(places, ", "))
		default:
			e.add(name, about, VerdictOK, "", "the assistant has the tool in %s", places[0])
		}
	}
	for _, own := range a.ownNames() {
		e.similar(own, version, "in "+a.own(own))
	}
}

func (e *examination) callLength(id string, s settings) {
	const name = "call length"
	limit := defaultDuration
	if s.MaxDurationSeconds > 0 {
		limit = seconds(s.MaxDurationSeconds)
	}
	var worst time.Duration
	slowest := ""
	for _, entry := range e.Tools.Entries() {
		if all := entry.Timeout * time.Duration(entry.Attempts); all > worst {
			worst, slowest = all, entry.Name
		}
	}
	remedy := "Raise maxDurationSeconds of the assistant, or lower the tool's timeout or attempts."
	switch longest := e.Tools.MaxTimeout(); {
	case longest >= limit:
		e.add(name, id, VerdictFailed, remedy, "a call ends after %s, and a tool may take %s", limit, longest)
	case worst >= limit:
		e.add(name, id, VerdictWarning, remedy,
			"a call ends after %s, and all attempts of %s may take %s", limit, slowest, worst)
	default:
		e.add(name, id, VerdictOK, "", "a call ends after %s, and a tool takes at most %s", limit, worst)
	}
}

// silence checks how long a caller may be silent while a tool runs. In a GPT-Live call,
// idle hooks wait only while the reasoner works, and Ringback answers it at once. Only
// hooks are documented to end such a call, and not those with a stored tool (Vapi's
// documentation, "GPT-Live settings and compatibility": idle messages).
func (e *examination) silence(id string, s settings, gptLive bool) {
	limit, source := defaultSilence, "Vapi's default"
	if gptLive {
		limit = unlimited
	}
	if s.SilenceTimeoutSeconds > 0 {
		limit, source = seconds(s.SilenceTimeoutSeconds), "silenceTimeoutSeconds"
	}
	for _, hook := range s.Hooks {
		ends := false
		for _, do := range hook.Do {
			ends = ends || do.Tool.Type == endCall || e.endCalls[do.ToolID] && !gptLive
		}
		after := seconds(cmp.Or(hook.Options.TimeoutSeconds, defaultHookSeconds))
		if ends && strings.HasPrefix(hook.On, "customer.speech.timeout") && after < limit {
			limit, source = after, "a hook on "+hook.On
		}
	}
	switch longest := e.Tools.MaxTimeout(); {
	case limit == unlimited:
		e.add("silence", id, VerdictOK, "", "no hook ends a call in which the caller is silent")
	case longest > limit:
		e.add("silence", id, VerdictWarning, "Raise this time above the tools' timeouts, "+
			"or tell the assistant in its prompt to keep the conversation going.",
			"a call may end after %s of silence (%s), and a tool may take %s", limit, source, longest)
	default:
		e.add("silence", id, VerdictOK, "",
			"a call may end after %s of silence (%s), and no tool takes longer", limit, source)
	}
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func (e *examination) prompt(id string, s settings) {
	e.mentions(id, "system prompt", s.systemPrompt(), e.Tools.Entries(),
		"Paste the output of ringback prompt into the assistant's system prompt.")
}

// systemPrompt returns the prompt of an assistant that has one.
func (s *settings) systemPrompt() string {
	var prompt strings.Builder
	for _, m := range s.Model.Messages {
		var text string
		if json.Unmarshal(m.Content, &text) != nil {
			text = string(m.Content)
		}
		if m.Role == "system" {
			prompt.WriteString(text + "\n")
		}
	}
	return prompt.String()
}

// mentions checks that a prompt has the name of each tool.
func (e *examination) mentions(about, what, prompt string, entries []*asynctool.Entry, remedy string) {
	var missing []string
	for _, entry := range entries {
		if e.leftOut(entry.Name) {
			continue
		}
		whole := regexp.MustCompile(`(^|[^A-Za-z0-9_-])` + regexp.QuoteMeta(entry.Name) + `($|[^A-Za-z0-9_-])`)
		if !whole.MatchString(prompt) {
			missing = append(missing, entry.Name)
		}
	}
	if len(missing) > 0 {
		e.add("prompt", about, VerdictFailed, remedy, "the %s does not mention %s", what, strings.Join(missing, ", "))
		return
	}
	e.add("prompt", about, VerdictOK, "", "the %s mentions every tool by name", what)
}

const (
	// maxSkew is the tolerance of the webhook for signed timestamps.
	maxSkew = 5 * time.Minute
	// someSkew is more than the delays of a network.
	someSkew = 30 * time.Second
)

// webhook posts a harmless server message, without the credential and with it.
func (e *examination) webhook(ctx context.Context) {
	const unsigned, signed = "webhook, unsigned", "webhook, signed"
	u, err := url.Parse(e.URL)
	switch {
	case e.URL == "" && e.unread:
		e.add("webhook", "", VerdictUnchecked, "Use --stack or --url.",
			"not checked: its URL is unknown, because the tools at Vapi cannot be read")
		return
	case e.URL == "":
		e.add("webhook", "", VerdictFailed, "Run ringback sync, or use --stack or --url.",
			"the URL of the webhook is unknown, because no tool at Vapi has one")
		return
	case err != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		e.add("webhook", "", VerdictFailed, "Use a URL that begins with https://.",
			"the credential would reach %s without encryption", shownURL(e.URL))
		return
	}
	e.progress("posting to %s", shownURL(e.URL))
	answer, at, err := e.probe(ctx, nil)
	if err != nil {
		e.add(unsigned, "", VerdictFailed, "Check the URL and the deployment.",
			"%s does not answer: %v", shownURL(e.URL), err)
		return
	}
	switch status := answer.StatusCode; {
	case status == http.StatusUnauthorized:
		e.add(unsigned, "", VerdictOK, "", "refused with 401")
	case status == http.StatusOK:
		e.add(unsigned, "", VerdictFailed, "Configure a credential or a JWT authorizer for the deployment.",
			"accepted with 200: everyone can queue tool calls")
	default:
		e.add(unsigned, "", VerdictFailed, remedyOf(status), "answered with %d, not 401", status)
	}
	e.clock(answer, at)

	switch {
	case len(e.Plans) == 0:
		e.add(signed, "", VerdictUnchecked, "Use --stack or --auth to check this.", "the deployment's credential is unknown")
		return
	case e.open():
		e.add(signed, "", VerdictUnchecked, "", "the deployment verifies no credential itself")
		return
	case answer.StatusCode != http.StatusUnauthorized && answer.StatusCode != http.StatusOK:
		e.add(signed, "", VerdictUnchecked, "",
			"the credential is not sent, because the URL does not answer like the webhook")
		return
	}
	for i, plan := range e.Plans {
		about := ""
		if len(e.Plans) > 1 {
			about = fmt.Sprintf("credential %d", i+1)
		}
		answer, _, err := e.probe(ctx, &plan)
		switch {
		case err != nil:
			e.add(signed, about, VerdictFailed, "Try again.", "%s does not answer: %v", shownURL(e.URL), err)
		case answer.StatusCode == http.StatusOK:
			e.add(signed, about, VerdictOK, "", "accepted with 200")
		case answer.StatusCode == http.StatusUnauthorized:
			e.add(signed, about, VerdictFailed, "If the secret has just changed, wait five minutes. "+
				"Otherwise, check that the credential and the URL are the deployment's.",
				"the deployment's credential is refused with 401")
		default:
			e.add(signed, about, VerdictFailed, remedyOf(answer.StatusCode), "answered with %d, not 200", answer.StatusCode)
		}
	}
}

func loopback(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

func remedyOf(status int) string {
	switch {
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		return "Check the URL's path: a deployment's is /vapi."
	case status >= 300 && status < 400:
		return "Use the URL that it redirects to, because Vapi does not follow redirects."
	case status == http.StatusTooManyRequests:
		return "Try again. If that does not help, raise rateLimit and burstLimit of the deployment."
	case status >= 500:
		return "Read the log of the ack function. It cannot read its secret, or fails."
	}
	return "Check that the URL is the deployment's."
}

// probe posts a message that Vapi often sends and that queues nothing. at is the local
// time of the answer.
func (e *examination) probe(ctx context.Context, plan *vapiauth.Plan) (answer *http.Response, at time.Time, err error) {
	sent := e.Now()
	const message = `{"message":{"type":"status-update","status":"in-progress","timestamp":%d}}`
	body := fmt.Appendf(nil, message, sent.UnixMilli())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(body))
	if err != nil {
		return nil, time.Time{}, errors.New("cannot make a request for it")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "ringback doctor")
	if plan != nil {
		signed := &vapiauth.Request{Method: request.Method, URL: e.URL, Header: request.Header, Body: body}
		if err := plan.Sign(signed, sent); err != nil {
			return nil, time.Time{}, err
		}
	}
	answer, err = e.Do(request)
	if errors.Is(err, operator.ErrUnproven) {
		return nil, time.Time{}, operator.ErrUnproven
	}
	if err != nil {
		return nil, time.Time{}, errors.New(vapiclient.Unanswered(ctx, err))
	}
	answer.Body.Close()
	return answer, sent.Add(e.Now().Sub(sent) / 2), nil
}

func (e *examination) clock(answer *http.Response, at time.Time) {
	const name = "clock"
	theirs, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		e.add(name, "", VerdictUnchecked, "", "the webhook's answer has no Date")
		return
	}
	// A Date has whole seconds, so it is half a second early on average.
	skew := theirs.Add(500 * time.Millisecond).Sub(at).Round(time.Second)
	const remedy = "Synchronise the clock of this machine, or of the server, with NTP."
	switch {
	case skew.Abs() >= maxSkew:
		e.add(name, "", VerdictFailed, remedy,
			"the webhook's clock and this one differ by %s; signatures are refused from %s on", skew.Abs(), maxSkew)
	case skew.Abs() >= someSkew:
		e.add(name, "", VerdictWarning, remedy, "the webhook's clock and this one differ by %s", skew.Abs())
	default:
		e.add(name, "", VerdictOK, "", "the webhook's clock and this one agree within %s", max(skew.Abs(), time.Second))
	}
}
