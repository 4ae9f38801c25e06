package vapiclient

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Addresses of Vapi's API.
const (
	APIURL   = "https://api.vapi.ai"
	APIURLEU = "https://api.eu.vapi.ai"
)

const (
	// apiAttempts limits how often a repeatable request is sent. With the delays in between, the
	// attempts take about half a minute, which usually outlasts a deployment of Vapi or the minute
	// of a rate limit.
	apiAttempts = 6
	apiBackoff  = time.Second
	apiTimeout  = 30 * time.Second
	// maxAPIRetryAfter limits how long a Retry-After makes an operator wait.
	maxAPIRetryAfter = time.Minute
	maxAPIAnswer     = 64 << 20
	// maxQuoted limits what an error quotes of an answer, in characters.
	maxQuoted = 500
	// apiPage is the largest limit of a list (Vapi's OpenAPI: GET /tool, GET /assistant).
	apiPage = 1000
	// credentialPage is the assumed size of a list without a limit. Vapi's other lists have it.
	credentialPage = 100
)

// Resource is a kind of object in Vapi's API.
type Resource string

const (
	Tools      Resource = "tool"
	Assistants Resource = "assistant"
	Squads     Resource = "squad"
	// Credentials are not in Vapi's OpenAPI description. Vapi's own tools list them (GET
	// /credential), and providers' instructions create them (POST /credential).
	Credentials Resource = "credential"
)

// Tool is the body that creates a function tool (Vapi's OpenAPI: CreateFunctionToolDTO).
type Tool struct {
	Type       string            `json:"type"`  // "function"
	Async      bool              `json:"async"` // the assistant does not wait for the answer
	Function   Function          `json:"function"`
	Server     Server            `json:"server"`
	Messages   []ToolMessage     `json:"messages"`
	Parameters []StaticParameter `json:"parameters"`
}

// Function is the part of a tool that the model sees (Vapi's OpenAPI: OpenAIFunction).
type Function struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters"` // a JSON schema of type object
	Strict      bool            `json:"strict"`     // the model must follow the schema
}

// Server is the receiver of a tool's webhooks (Vapi's OpenAPI: Server).
type Server struct {
	URL            string      `json:"url,omitempty"`
	CredentialID   string      `json:"credentialId,omitempty"` // empty: webhooks have no credential
	TimeoutSeconds int         `json:"timeoutSeconds"`         // 1 to 300
	BackoffPlan    BackoffPlan `json:"backoffPlan"`

	// EncryptedPaths are the arguments that Vapi encrypts with the public key of the credential.
	// Empty means none.
	EncryptedPaths []string `json:"encryptedPaths,omitempty"`
}

// BackoffPlan defines how Vapi repeats a webhook that was not answered with 2xx (Vapi's OpenAPI:
// BackoffPlan).
type BackoffPlan struct {
	Type                string `json:"type"`                // "fixed" or "exponential"
	MaxRetries          int    `json:"maxRetries"`          // 0 to 10
	BaseDelaySeconds    int    `json:"baseDelaySeconds"`    // 0 to 10
	ExcludedStatusCodes []int  `json:"excludedStatusCodes"` // are not repeated; empty means none
}

// ToolMessage is added to the conversation while a tool runs (Vapi's OpenAPI: ToolMessageComplete
// and others).
type ToolMessage struct {
	Type    string `json:"type"`    // for example "request-complete"
	Role    string `json:"role"`    // "assistant": spoken; "system": a hint to the model
	Content string `json:"content"` // at most 1000 characters
}

// StaticParameter is an argument that Vapi sets (Vapi's OpenAPI: ToolParameter).
type StaticParameter struct {
	Key   string `json:"key"`   // the argument's name
	Value string `json:"value"` // can be a Liquid template
}

// APIConfig configures an [API].
type APIConfig struct {
	// Key is the organisation's private key. Required.
	Key string
	// URL is the API's address, with https, or with http on this machine. Empty means [APIURL].
	URL string
	// Sleep waits between the attempts of a request. Nil means that it waits in real time.
	Sleep func(ctx context.Context, d time.Duration) error
	// Now is the clock for a Retry-After that is a date. Nil means time.Now.
	Now func() time.Time
}

// API is a client of Vapi's API, for the requests that set tools up. It is safe for concurrent use.
// It returns and sends raw JSON, so that members unknown to it are kept.
//
// API repeats a request after 408, 429, 5xx and a broken connection, with a growing delay or the
// one that Retry-After asks for. It repeats a Create after 429 only: see [APIError.Lost].
type API struct {
	key, url string
	client   *http.Client
	sleep    func(ctx context.Context, d time.Duration) error
	now      func() time.Time
}

// NewAPI returns an error if no header can carry the key, or if the address would expose the key.
func NewAPI(cfg APIConfig) (*API, error) {
	if !validKey(cfg.Key) {
		return nil, errors.New("the private key is empty, or has a line break or a space at an end: " +
			"copy it again from https://dashboard.vapi.ai/org/api-keys")
	}
	u, err := apiURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &API{
		key: cfg.Key, url: u.String(), sleep: cfg.Sleep, now: cfg.Now,
		client: &http.Client{
			Timeout: apiTimeout,
			// The key must go to the given address only.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// apiURL validates an address of Vapi's API and removes its last slash. Empty means [APIURL].
func apiURL(address string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(cmp.Or(address, APIURL), "/"))
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil ||
		u.Scheme != "https" && (u.Scheme != "http" || !isLoopbackHost(hostName(u))) {
		return nil, errors.New("the address of Vapi's API must be an https URL without a query, " +
			"because the private key is sent to it")
	}
	return u, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sleep waits in the same way as between the attempts of a request.
func (a *API) Sleep(ctx context.Context, d time.Duration) error { return a.sleep(ctx, d) }

// APIError means that no attempt of a request was answered with 2xx.
type APIError struct {
	Method string // of the request
	Path   string // below the API's address
	Status int    // 0 means that there was no answer
	// Message is the message in the answer, or the reason why there was no answer. It is one line
	// of limited length, without the private key.
	Message string
	cause   error
}

func (e *APIError) Error() string {
	text := e.Message
	if e.Status != 0 {
		text = strings.TrimSpace("answered " + strconv.Itoa(e.Status) + " " + e.Message)
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		text += " (check that the key is the private key of this region)"
	case http.StatusNotFound:
		text += " (check the ID and the key's organisation)"
	}
	return fmt.Sprintf("%s %s at Vapi: %s", e.Method, e.Path, text)
}

func (e *APIError) Unwrap() error { return e.cause }

// Lost reports whether the request may have taken effect nevertheless. After a lost Create, call
// List before you repeat it, to check that nothing was created.
func (e *APIError) Lost() bool { return e.Status == 0 || e.Status >= 500 }

// List returns all objects of a resource as JSON objects.
func (a *API) List(ctx context.Context, r Resource) ([]json.RawMessage, error) {
	if r == Credentials {
		// The parameters of this list are not documented.
		page, err := a.page(ctx, r, nil)
		if err == nil && len(page) >= credentialPage {
			return nil, fmt.Errorf("the organisation has %d or more credentials, and Vapi lists no more at once: "+
				"create the credential in the dashboard and pass its ID with --credential", credentialPage)
		}
		return page, err
	}
	query := url.Values{"limit": {strconv.Itoa(apiPage)}}
	var all []json.RawMessage
	seen := map[string]bool{}
	for {
		page, err := a.page(ctx, r, query)
		if err != nil {
			return nil, err
		}
		before := len(all)
		oldest := ""
		for i, raw := range page {
			var object struct{ ID, CreatedAt string }
			if err := json.Unmarshal(raw, &object); err != nil || object.ID == "" {
				return nil, fmt.Errorf("GET /%s at Vapi: object %d has no ID", r, i+1)
			}
			// Times compare as text: they are RFC 3339 in UTC with a fixed number of digits.
			if oldest == "" || object.CreatedAt < oldest {
				oldest = object.CreatedAt
			} else if object.CreatedAt > oldest && len(page) == apiPage {
				return nil, fmt.Errorf("GET /%s at Vapi: the objects are not listed newest first, "+
					"so no more than %d can be listed", r, apiPage)
			}
			if !seen[object.ID] {
				seen[object.ID] = true
				all = append(all, raw)
			}
		}
		if len(page) < apiPage {
			return all, nil
		}
		if len(all) == before || oldest == "" {
			return nil, fmt.Errorf("GET /%s at Vapi: every page lists the same %d objects", r, apiPage)
		}
		query.Set("createdAtLe", oldest)
	}
}

func (a *API) page(ctx context.Context, r Resource, query url.Values) ([]json.RawMessage, error) {
	path := "/" + string(r)
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	answer, err := a.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	var page []json.RawMessage
	if err := json.Unmarshal(answer, &page); err != nil {
		return nil, fmt.Errorf("GET /%s at Vapi: the answer is not a list", r)
	}
	return page, nil
}

// Get returns one object.
func (a *API) Get(ctx context.Context, r Resource, id string) (json.RawMessage, error) {
	return a.do(ctx, http.MethodGet, path(r, id), nil)
}

// TrafficAllocation returns how Vapi distributes the calls of an assistant over its published
// versions (Vapi's documentation, "Traffic splitting", a beta). Vapi answers 403 to organisations
// without access to the beta.
func (a *API) TrafficAllocation(ctx context.Context, assistantID string) (json.RawMessage, error) {
	query := url.Values{"assistantId": {assistantID}}
	return a.do(ctx, http.MethodGet, "/traffic-allocations/latest?"+query.Encode(), nil)
}

// AssistantVersion returns a published version of an assistant, such as v7 (Vapi's OpenAPI:
// AssistantVersion). The description has the answers of these routes, but not the routes. The list
// was measured by third parties. Its first page has the newest versions. The route of one version
// is an assumption: Vapi documents it for PATCH only ("Patch Assistant Id Versions Version").
func (a *API) AssistantVersion(ctx context.Context, assistantID, version string) (json.RawMessage, error) {
	versions := path(Assistants, assistantID) + "/versions"
	answer, err := a.do(ctx, http.MethodGet, versions, nil)
	failed, ok := errors.AsType[*APIError](err)
	if err != nil && (!ok || failed.Status != http.StatusNotFound) {
		return nil, err
	}
	var page struct{ Results []json.RawMessage }
	_ = json.Unmarshal(answer, &page) // nothing if there is no list
	for _, raw := range page.Results {
		var object struct{ Version string }
		if json.Unmarshal(raw, &object) == nil && object.Version == version {
			return raw, nil
		}
	}
	return a.do(ctx, http.MethodGet, versions+"/"+url.PathEscape(version), nil)
}

// Create creates an object and returns it as Vapi stored it. Create and Update send a
// [json.RawMessage] byte for byte. No error quotes what the method Secrets() []string of a body
// returns, if there is one.
func (a *API) Create(ctx context.Context, r Resource, body any) (json.RawMessage, error) {
	return a.do(ctx, http.MethodPost, "/"+string(r), body)
}

// Update replaces the top-level members that body has, and returns the object as Vapi stored it.
func (a *API) Update(ctx context.Context, r Resource, id string, body any) (json.RawMessage, error) {
	return a.do(ctx, http.MethodPatch, path(r, id), body)
}

// Delete deletes an object. It returns nil if the object does not exist.
func (a *API) Delete(ctx context.Context, r Resource, id string) error {
	_, err := a.do(ctx, http.MethodDelete, path(r, id), nil)
	if failed, ok := errors.AsType[*APIError](err); ok && failed.Status == http.StatusNotFound {
		return nil
	}
	return err
}

func path(r Resource, id string) string { return "/" + string(r) + "/" + url.PathEscape(id) }

func (a *API) do(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	sent, isJSON := body.(json.RawMessage) // json.Marshal would reformat it
	if body != nil && !isJSON {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("%s %s at Vapi: cannot encode the body: %w", method, path, err)
		}
	}
	secrets := []string{a.key}
	if body, ok := body.(interface{ Secrets() []string }); ok {
		secrets = append(secrets, body.Secrets()...)
	}
	for attempt := 1; ; attempt++ {
		answer, wait, err := a.try(ctx, method, path, sent, secrets)
		failed, ok := errors.AsType[*APIError](err)
		if !ok || ctx.Err() != nil || attempt == apiAttempts {
			return answer, err
		}
		repeatable := method != http.MethodPost && (failed.Lost() || failed.Status == http.StatusRequestTimeout)
		if !repeatable && failed.Status != http.StatusTooManyRequests {
			return nil, err
		}
		if wait == 0 {
			wait = apiBackoff << (attempt - 1)
		}
		if err := a.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// try sends a request once. It returns the wait that a Retry-After asks for; 0 means that there is
// none.
func (a *API) try(
	ctx context.Context, method, path string, body []byte, secrets []string,
) (answer json.RawMessage, wait time.Duration, err error) {
	failed := &APIError{Method: method, Path: path}
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, fmt.Errorf("%s %s at Vapi: not a valid request", method, path)
	}
	request.Header.Set("Authorization", "Bearer "+a.key)
	request.Header.Set("User-Agent", "ringback")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.client.Do(request)
	if err != nil {
		failed.Message, failed.cause = Unanswered(ctx, err), err
		return nil, 0, failed
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAPIAnswer+1))
	switch {
	case err != nil:
		failed.Message, failed.cause = Unanswered(ctx, err), err
		return nil, 0, failed
	case response.StatusCode < 200 || response.StatusCode > 299:
		failed.Status, failed.Message = response.StatusCode, quotable(answer, secrets)
		return nil, min(retryAfter(response, a.now()), maxAPIRetryAfter), failed
	case len(answer) > maxAPIAnswer:
		return nil, 0, fmt.Errorf("%s %s at Vapi: the answer is larger than %d MiB", method, path, maxAPIAnswer>>20)
	case !json.Valid(answer) && method != http.MethodDelete:
		return nil, 0, fmt.Errorf("%s %s at Vapi: the answer is not JSON", method, path)
	}
	return answer, 0, nil
}

// quotable returns the message in an answer, which is a string or a list of strings, or else the
// whole JSON. The result is one line of limited length, without the secrets. It is empty if the
// answer is not JSON: the text of a proxy may have them in any form.
func quotable(answer []byte, secrets []string) string {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return ""
	}
	value = without(value, concealing(secrets))
	if object, ok := value.(map[string]any); ok {
		if text := messageText(object["message"]); text != "" {
			return oneLine(text, maxQuoted)
		}
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return ""
	}
	return oneLine(text.String(), maxQuoted)
}

// concealing replaces secrets in a text. A text may quote a body, so it also replaces a secret that
// is escaped for JSON, a URL or HTML.
func concealing(secrets []string) *strings.Replacer {
	var forms []string
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		var inJSON strings.Builder
		encoder := json.NewEncoder(&inJSON)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(secret) // a string always encodes
		escaped, _ := json.Marshal(secret)
		forms = append(forms,
			secret, strings.Trim(inJSON.String(), "\"\n"), strings.Trim(string(escaped), `"`),
			url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret))
	}
	// The longest first: a secret may begin like another one.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, form := range forms {
		pairs = append(pairs, form, "…")
	}
	return strings.NewReplacer(pairs...)
}

// without replaces secrets in all texts of a decoded JSON value.
func without(value any, secrets *strings.Replacer) any {
	switch value := value.(type) {
	case string:
		return secrets.Replace(value)
	case []any:
		for i := range value {
			value[i] = without(value[i], secrets)
		}
	case map[string]any:
		shown := make(map[string]any, len(value))
		for name, member := range value {
			shown[secrets.Replace(name)] = without(member, secrets)
		}
		return shown
	}
	return value
}
