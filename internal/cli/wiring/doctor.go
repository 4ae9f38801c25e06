package wiring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/vapi"
	"github.com/ringback/ringback/vapi/vapiauth"
	"github.com/ringback/ringback/vapi/vapiclient"
)

// Verdict is what came of a check.
type Verdict string

const (
	OK        Verdict = "ok"
	Warning   Verdict = "warning"   // it works, or may; somebody should look
	Failed    Verdict = "failed"    // it does not work
	Unchecked Verdict = "unchecked" // it cannot be known from here
)

// Check is one thing that was looked at.
type Check struct {
	Name    string  `json:"check"`
	About   string  `json:"about,omitempty"` // a tool's name, or an assistant's id
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`           // what was found
	Remedy  string  `json:"remedy,omitempty"` // what to do; never empty with Failed
}

// Examination is what is to be checked.
type Examination struct {
	API        *vapiclient.API // required
	Tools      *asynctool.Set  // required
	Assistants []string        // ids

	// URL is where the webhooks are to go. Empty means where the tools at
	// Vapi send them.
	URL string

	// Plans are the deployment's credential: any of them signs a webhook. Nil
	// means that it is not known, so that what needs it is not checked.
	Plans []vapiauth.Plan

	// PublicKey says whether the deployment has Vapi's public key, which
	// control authentication needs. Nil means that it is not known.
	PublicKey *bool

	Progress func(what string)                             // nil: nobody is told
	Now      func() time.Time                              // nil means time.Now
	Do       func(r *http.Request) (*http.Response, error) // sends the probes; nil means net/http, which follows no redirect
}

// sync is what the remedies name.
const runSync = "Run ringback sync."

// Examine makes the checks. It writes nothing, and its probes of the webhook
// queue nothing.
func Examine(ctx context.Context, cfg Examination) []Check {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Do == nil {
		client := &http.Client{
			Timeout:       20 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		cfg.Do = client.Do
	}
	e := &examination{Examination: cfg, ids: map[string]string{}}
	e.tools(ctx)
	for _, id := range cfg.Assistants {
		e.assistant(ctx, id)
	}
	e.webhook(ctx)
	return e.checks
}

type examination struct {
	Examination
	checks []Check
	ids    map[string]string // of the tools at Vapi, by name
}

func (e *examination) progress(format string, a ...any) {
	if e.Progress != nil {
		e.Progress(fmt.Sprintf(format, a...))
	}
}

func (e *examination) add(name, about string, verdict Verdict, remedy, detail string, a ...any) {
	e.checks = append(e.checks, Check{Name: name, About: about, Verdict: verdict, Detail: fmt.Sprintf(detail, a...), Remedy: remedy})
}

const reachAPI = "Check the private key, --region and the network."

// tools checks each tool at Vapi, and the credential that they have.
func (e *examination) tools(ctx context.Context) {
	e.progress("asking Vapi for its tools")
	stored, err := listTools(ctx, e.API)
	if err != nil {
		e.add("tools", "", Failed, reachAPI, "the tools at Vapi cannot be listed: %v", err)
		return
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
		e.add("tools", "", Failed, "Change the tool.", "%v", err)
		return
	}
	if len(bodies) == 0 {
		e.add("tools", "", Warning, "Add a tool to tools/tools.go.", "there are no tools here")
	}
	credentials := map[string]bool{}
	for _, body := range bodies {
		name := body.Function.Name
		there := named(stored, name)
		if why := conflict(name, there); why != "" {
			e.add("tool", name, Failed, "Delete or rename all but the one that is meant, then run ringback sync.", "%s", why)
			continue
		}
		if len(there) == 0 {
			e.add("tool", name, Failed, runSync, "Vapi has no tool of this name")
			continue
		}
		e.ids[name] = there[0].ID
		credential := there[0].Server.CredentialID
		credentials[credential] = true
		body.Server.CredentialID = credential
		found := differences(body, there[0].members)
		switch {
		case len(found) > 0:
			var said []string
			for _, d := range found {
				said = append(said, d.String())
			}
			e.add("tool", name, Failed, runSync, "it differs at Vapi: %s", strings.Join(said, "; "))
		case credential == "" && !e.open():
			e.add("tool", name, Failed, runSync, "its webhooks carry no credential, so they are refused")
		default:
			mode := "async"
			if !body.Async {
				mode = "sync-acked"
			}
			e.add("tool", name, OK, "", "%s, as it is here, and sends its webhooks to %s", mode, e.URL)
		}
	}
	delete(credentials, "")
	if len(credentials) > 0 {
		e.credential(ctx, credentials)
	}
}

// open reports whether the deployment is known to take any webhook.
func (e *examination) open() bool { return len(e.Plans) > 0 && e.Plans[0].Type == "none" }

// credential compares the credential at Vapi with the deployment's as far as
// that can be done: by the name that sync gives it.
func (e *examination) credential(ctx context.Context, used map[string]bool) {
	const name = "credential"
	e.progress("asking Vapi for its credentials")
	stored, err := listCredentials(ctx, e.API)
	if err != nil {
		e.add(name, "", Unchecked, "", "%v", err)
		return
	}
	for _, id := range slices.Sorted(maps.Keys(used)) {
		at := slices.IndexFunc(stored, func(c storedCredential) bool { return c.ID == id })
		if at < 0 {
			e.add(name, id, Failed, runSync, "tools have this credential, and Vapi does not list it as one for webhooks")
			continue
		}
		credential := stored[at]
		switch {
		case !strings.HasPrefix(credential.Name, namePrefix(e.URL)):
			e.add(name, id, Unchecked, "", "sync did not make it for this URL, and Vapi does not show what a credential holds")
		case e.Plans == nil:
			e.add(name, id, Unchecked, "", "the deployment's own is not known; give --stack, or --auth")
		case slices.ContainsFunc(e.Plans, func(p vapiauth.Plan) bool {
			made, err := Credential{Plan: p}.name(e.URL)
			return err == nil && made == credential.Name
		}):
			e.add(name, id, OK, "", "%s was made of the deployment's", credential.Name)
		default:
			e.add(name, id, Failed, runSync, "%s was made of another secret than the deployment's", credential.Name)
		}
	}
}

// settings are those of an assistant that matter here (Vapi's OpenAPI:
// Assistant). silenceTimeoutSeconds is gone from the description, and still
// there in older assistants; a hook takes its place.
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
		Do      []struct{ Tool struct{ Type string } }
	}
	Model struct {
		Messages []struct {
			Role    string
			Content json.RawMessage
		}
	}
}

const (
	defaultDuration = 600 * time.Second // Vapi's OpenAPI: Assistant.maxDurationSeconds
	defaultSilence  = 30 * time.Second  // Vapi's OpenAPI: TransferAssistant.silenceTimeoutSeconds
)

func (e *examination) assistant(ctx context.Context, id string) {
	e.progress("asking Vapi for the assistant %s", id)
	raw, err := e.API.Get(ctx, vapiclient.Assistants, id)
	if err != nil {
		remedy := reachAPI
		if failed, ok := errors.AsType[*vapiclient.APIError](err); ok && failed.Status == http.StatusNotFound {
			remedy = "Copy the assistant's id from the dashboard."
		}
		e.add("assistant", id, Failed, remedy, "it cannot be read: %v", err)
		return
	}
	a, err := parseAssistant(raw)
	if err != nil {
		e.add("assistant", id, Failed, "Open and save the assistant in the dashboard.", "%v", err)
		return
	}
	var s settings
	if err := json.Unmarshal(raw, &s); err != nil {
		e.add("assistant", id, Failed, "Open and save the assistant in the dashboard.", "a setting is of an unexpected type: %v", err)
		return
	}
	e.control(id, s)
	e.serverMessages(id, s)
	e.attached(id, a)
	e.callLength(id, s)
	e.silence(id, s)
	e.prompt(id, s)
}

func (e *examination) control(id string, s settings) {
	if on := s.MonitorPlan.ControlEnabled; on != nil && !*on {
		e.add("control", id, Failed, "Set monitorPlan.controlEnabled of the assistant to true.", "live control is off, so no result can reach the call")
		return
	}
	e.add("control", id, OK, "", "live control is on")
	const name = "control authentication"
	switch {
	case !s.MonitorPlan.ControlAuthenticationEnabled:
		e.add(name, id, OK, "", "off: the control URL is the key to the call")
	case e.PublicKey == nil:
		e.add(name, id, Warning, "Make sure that the deployment has the public key (VAPI_PUBLIC_KEY_SECRET_ID); with --stack this is checked.", "on: the callback must send Vapi's public key")
	case *e.PublicKey:
		e.add(name, id, OK, "", "on, and the deployment has a public key")
	default:
		e.add(name, id, Failed, "Deploy with -c publicKeySecretArn=…, or set monitorPlan.controlAuthenticationEnabled to false.", "on, and the deployment has no public key to send")
	}
}

func (e *examination) serverMessages(id string, s settings) {
	const name = "server messages"
	switch {
	case s.ServerMessages == nil:
		e.add(name, id, OK, "", "Vapi's default, which has tool-calls")
	case slices.Contains(s.ServerMessages, vapi.TypeToolCalls):
		e.add(name, id, OK, "", "tool-calls is among them")
	default:
		e.add(name, id, Failed, "Add tool-calls to the assistant's serverMessages.", "tool-calls is not among them, so no tool call is sent")
	}
	e.statusUpdates(id, s)
}

// statusUpdates looks whether the webhook learns of calls that begin and end,
// where a tool wants that. Vapi sends these messages to the assistant's server
// and not to the tools' (Vapi's documentation, "Server URLs").
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
	const remedy = "Set the assistant's server to the webhook, with the same credential as the tools, and have status-update among its serverMessages."
	tools := strings.Join(wanted, ", ")
	switch {
	case s.ServerMessages != nil && !slices.Contains(s.ServerMessages, vapi.TypeStatusUpdate):
		e.add(name, id, Warning, remedy, "status-update is not among the server messages, so that %s may learn late of a call's begin or end", tools)
	case s.Server.URL == "":
		e.add(name, id, Warning, remedy, "the assistant has no server of its own, so that %s may learn late of a call's begin or end", tools)
	case e.URL != "" && s.Server.URL != e.URL:
		e.add(name, id, Warning, remedy, "the assistant's server is another one than the webhook, so that %s may learn late of a call's begin or end", tools)
	default:
		e.add(name, id, OK, "", "the webhook learns of calls that begin and end")
	}
}

func (e *examination) attached(id string, a *assistant) {
	for _, entry := range e.Tools.Entries() {
		const name = "attached"
		tool, there := e.ids[entry.Name]
		about := id + " " + entry.Name
		switch {
		case slices.Contains(a.inline, entry.Name):
			e.add(name, about, Failed, "Remove it from the assistant's model.tools, then run ringback sync.", "the assistant has a tool %s of its own, which takes the place of this one", entry.Name)
		case !there:
			e.add(name, about, Failed, runSync, "there is no one tool of this name at Vapi to attach")
		case a.pinned[tool] != "":
			e.add(name, about, Warning, "Remove it from the assistant's model.toolRefs, unless that is meant.", "pinned to version %s: changes of the tool do not reach the assistant", a.pinned[tool])
		case !slices.Contains(a.toolIDs, tool):
			e.add(name, about, Failed, "Run ringback sync --assistant "+id+".", "the assistant does not have the tool")
		default:
			e.add(name, about, OK, "", "the assistant has the tool")
		}
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
		e.add(name, id, Failed, remedy, "a call ends after %s, and a tool may take %s", limit, longest)
	case worst >= limit:
		e.add(name, id, Warning, remedy, "a call ends after %s, and all attempts of %s may take %s", limit, slowest, worst)
	default:
		e.add(name, id, OK, "", "a call ends after %s, and a tool takes %s at most", limit, worst)
	}
}

func (e *examination) silence(id string, s settings) {
	limit, source := defaultSilence, "Vapi's default"
	if s.SilenceTimeoutSeconds > 0 {
		limit, source = seconds(s.SilenceTimeoutSeconds), "silenceTimeoutSeconds"
	}
	for _, hook := range s.Hooks {
		ends := false
		for _, do := range hook.Do {
			ends = ends || do.Tool.Type == "endCall"
		}
		if after := seconds(hook.Options.TimeoutSeconds); ends && strings.HasPrefix(hook.On, "customer.speech.timeout") && after < limit {
			limit, source = after, "a hook on "+hook.On
		}
	}
	if longest := e.Tools.MaxTimeout(); longest > limit {
		e.add("silence", id, Warning, "Raise it beyond the tools' timeouts, or tell the assistant in its prompt to keep the conversation going.",
			"a call may end after %s of silence (%s), and a tool may take %s", limit, source, longest)
		return
	}
	e.add("silence", id, OK, "", "a call may end after %s of silence (%s), and no tool takes longer", limit, source)
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func (e *examination) prompt(id string, s settings) {
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
	var missing []string
	for _, entry := range e.Tools.Entries() {
		whole := regexp.MustCompile(`(^|[^A-Za-z0-9_-])` + regexp.QuoteMeta(entry.Name) + `($|[^A-Za-z0-9_-])`)
		if !whole.MatchString(prompt.String()) {
			missing = append(missing, entry.Name)
		}
	}
	if len(missing) > 0 {
		e.add("prompt", id, Failed, "Paste what ringback prompt prints into the assistant's system prompt.", "the system prompt does not mention %s", strings.Join(missing, ", "))
		return
	}
	e.add("prompt", id, OK, "", "the system prompt mentions every tool by its name")
}

const (
	// maxSkew is how far a signed timestamp may lie from the webhook's clock.
	maxSkew = 5 * time.Minute
	// someSkew is more than a network's delays make.
	someSkew = 30 * time.Second
)

// webhook posts a harmless server message, with the credential and without.
func (e *examination) webhook(ctx context.Context) {
	const unsigned, signed = "webhook, unsigned", "webhook, signed"
	u, err := url.Parse(e.URL)
	switch {
	case e.URL == "":
		e.add("webhook", "", Failed, "Run ringback sync, or give --stack or --url.", "where the webhooks go is not known, as no tool at Vapi says it")
		return
	case err != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		e.add("webhook", "", Failed, "Give the tools a URL that begins with https://.", "%s would be sent the credential without encryption", e.URL)
		return
	}
	e.progress("posting to %s", e.URL)
	answer, at, err := e.probe(ctx, nil)
	if err != nil {
		e.add(unsigned, "", Failed, "Check the URL, and that it is deployed.", "%s does not answer: %v", e.URL, err)
		return
	}
	switch status := answer.StatusCode; {
	case status == http.StatusUnauthorized:
		e.add(unsigned, "", OK, "", "refused with 401")
	case status == http.StatusOK:
		e.add(unsigned, "", Failed, `Give the deployment a credential, or a JWT authorizer.`, "taken with 200: anybody can queue tool calls")
	default:
		e.add(unsigned, "", Failed, remedyOf(status), "answered with %d, not 401", status)
	}
	e.clock(answer, at)

	switch {
	case len(e.Plans) == 0:
		e.add(signed, "", Unchecked, "Give --stack, or --auth, so that this can be checked.", "the deployment's credential is not known")
		return
	case e.open():
		e.add(signed, "", Unchecked, "", "the deployment checks no credential itself")
		return
	case answer.StatusCode != http.StatusUnauthorized && answer.StatusCode != http.StatusOK:
		e.add(signed, "", Unchecked, "", "the credential is not sent to something that does not answer as a webhook")
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
			e.add(signed, about, Failed, "Try again.", "%s does not answer: %v", e.URL, err)
		case answer.StatusCode == http.StatusOK:
			e.add(signed, about, OK, "", "taken with 200")
		case answer.StatusCode == http.StatusUnauthorized:
			e.add(signed, about, Failed, "If the secret was changed a moment ago, wait five minutes. Else make sure that this is the deployment's, and this its URL.", "the deployment's own credential is refused with 401")
		default:
			e.add(signed, about, Failed, remedyOf(answer.StatusCode), "answered with %d, not 200", answer.StatusCode)
		}
	}
}

func loopback(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

func remedyOf(status int) string {
	switch {
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		return "Check the URL's path: a deployment's is /vapi."
	case status >= 300 && status < 400:
		return "Give the URL that it redirects to, as webhooks do not follow."
	case status == http.StatusTooManyRequests:
		return "Try again; if it stays, raise rateLimit and burstLimit of the deployment."
	case status >= 500:
		return "Look into the logs of the ack function: it cannot read its secret, or fails."
	}
	return "Check that the URL is the deployment's."
}

// probe posts a message that Vapi sends all the time and that queues nothing.
// at is the time here at which the answer was made.
func (e *examination) probe(ctx context.Context, plan *vapiauth.Plan) (answer *http.Response, at time.Time, err error) {
	sent := e.Now()
	body := fmt.Appendf(nil, `{"message":{"type":"status-update","status":"in-progress","timestamp":%d}}`, sent.UnixMilli())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(body))
	if err != nil {
		return nil, time.Time{}, errors.New("it cannot be requested")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "ringback doctor")
	if plan != nil {
		if err := plan.Sign(&vapiauth.Request{Method: request.Method, URL: e.URL, Header: request.Header, Body: body}, sent); err != nil {
			return nil, time.Time{}, err
		}
	}
	answer, err = e.Do(request)
	if err != nil {
		return nil, time.Time{}, err
	}
	answer.Body.Close()
	return answer, sent.Add(e.Now().Sub(sent) / 2), nil
}

func (e *examination) clock(answer *http.Response, at time.Time) {
	const name = "clock"
	theirs, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		e.add(name, "", Unchecked, "", "the webhook's answer has no Date")
		return
	}
	// A Date has whole seconds: on average half a second is missing.
	skew := theirs.Add(500 * time.Millisecond).Sub(at).Round(time.Second)
	const remedy = "Set the clock of this machine, or of the server, by NTP."
	switch {
	case skew.Abs() >= maxSkew:
		e.add(name, "", Failed, remedy, "the webhook's clock and this one differ by %s; signatures are refused from %s", skew.Abs(), maxSkew)
	case skew.Abs() >= someSkew:
		e.add(name, "", Warning, remedy, "the webhook's clock and this one differ by %s", skew.Abs())
	default:
		e.add(name, "", OK, "", "the webhook's clock and this one agree within %s", max(skew.Abs(), time.Second))
	}
}
