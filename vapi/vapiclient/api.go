package vapiclient

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Addresses of Vapi's API.
const (
	APIURL   = "https://api.vapi.ai"
	APIURLEU = "https://api.eu.vapi.ai"
)

const (
	// apiAttempts is how often a request that may be repeated is sent: with the delays between them, over about half a
	// minute, which outlasts a deployment or a full minute's rate limit of Vapi's mostly.
	apiAttempts = 6
	apiBackoff  = time.Second
	apiTimeout  = 30 * time.Second
	// maxAPIRetryAfter bounds how long a Retry-After lets a person wait.
	maxAPIRetryAfter = time.Minute
	maxAPIAnswer     = 64 << 20
	// apiPage is the largest limit of a list (Vapi's OpenAPI: GET /tool, GET /assistant).
	apiPage = 1000
	// credentialPage is what one answer lists at most where no limit is given, as far as Vapi's other lists tell.
	credentialPage = 100
)

// Resource is a kind of object that Vapi's API keeps.
type Resource string

const (
	Tools      Resource = "tool"
	Assistants Resource = "assistant"
	// Credentials are not in Vapi's OpenAPI description. Vapi's own tools list them (GET /credential); providers'
	// instructions create them (POST /credential).
	Credentials Resource = "credential"
)

// Tool is the body that creates a function tool (Vapi's OpenAPI: CreateFunctionToolDTO).
type Tool struct {
	Type       string            `json:"type"` // "function"
	Async      bool              `json:"async"`
	Function   Function          `json:"function"`
	Server     Server            `json:"server"`
	Messages   []ToolMessage     `json:"messages"`
	Parameters []StaticParameter `json:"parameters"`
}

// Function is what the model sees of a tool (Vapi's OpenAPI: OpenAIFunction).
type Function struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters"` // a JSON schema of type object
	Strict      bool            `json:"strict"`
}

// Server is where a tool's webhooks go (Vapi's OpenAPI: Server).
type Server struct {
	URL            string      `json:"url,omitempty"`
	CredentialID   string      `json:"credentialId,omitempty"` // empty: webhooks carry no credential
	TimeoutSeconds int         `json:"timeoutSeconds"`         // 1 to 300
	BackoffPlan    BackoffPlan `json:"backoffPlan"`
}

// BackoffPlan says how a webhook that was not answered with 2xx is repeated (Vapi's OpenAPI: BackoffPlan).
type BackoffPlan struct {
	Type                string `json:"type"`             // "fixed" or "exponential"
	MaxRetries          int    `json:"maxRetries"`       // 0 to 10
	BaseDelaySeconds    int    `json:"baseDelaySeconds"` // 0 to 10
	ExcludedStatusCodes []int  `json:"excludedStatusCodes"`
}

// ToolMessage is put into the conversation while a tool runs (Vapi's OpenAPI: ToolMessageComplete and others).
type ToolMessage struct {
	Type    string `json:"type"`    // e.g. "request-complete"
	Role    string `json:"role"`    // "assistant": spoken; "system": a hint to the model
	Content string `json:"content"` // 1000 characters at most
}

// StaticParameter is an argument that Vapi fills in (Vapi's OpenAPI: ToolParameter).
type StaticParameter struct {
	Key   string `json:"key"`
	Value string `json:"value"` // may be a Liquid template
}

// APIConfig configures an [API].
type APIConfig struct {
	// Key is the organisation's private key. Required.
	Key string
	// URL is the API's address, https, or http on this machine. Empty means [APIURL].
	URL string
	// Sleep waits between the attempts of a request. Nil means for real.
	Sleep func(ctx context.Context, d time.Duration) error
	// Now is the clock for a Retry-After that is a date. Nil means time.Now.
	Now func() time.Time
}

// API is a client of Vapi's API, as far as setting up tools needs it. It is safe for concurrent use. What it gets and
// sends is JSON as it is, so that nothing is lost that this program does not know.
//
// A request that may be repeated is repeated on 408, 429, 5xx and on a broken connection, with a growing delay or the one
// that Retry-After asks for. A Create is repeated on 429 only: see [APIError.Lost].
type API struct {
	key, url string
	client   *http.Client
	sleep    func(ctx context.Context, d time.Duration) error
	now      func() time.Time
}

// NewAPI returns an error for a key that no header can carry and for an address that would give the key away.
func NewAPI(cfg APIConfig) (*API, error) {
	if !validKey(cfg.Key) {
		return nil, errors.New("the private key is empty, or has a line break or a space at an end: copy it again from https://dashboard.vapi.ai/org/api-keys")
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
			// The key goes nowhere but to the address that was given.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// apiURL checks an address of Vapi's API, empty meaning [APIURL]. It is https, or http on this machine, and ends in no slash.
func apiURL(address string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(cmp.Or(address, APIURL), "/"))
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil ||
		u.Scheme != "https" && (u.Scheme != "http" || !isLoopbackHost(controlHost(u))) {
		return nil, errors.New("the address of Vapi's API must be an https URL without a query, as it is sent the private key")
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

// Sleep waits as between the attempts of a request.
func (a *API) Sleep(ctx context.Context, d time.Duration) error { return a.sleep(ctx, d) }

// APIError is a request that was not answered with 2xx, after all attempts.
type APIError struct {
	Method string
	Path   string // below the API's address
	Status int    // 0 where there was no answer
	// Message is what the answer says, or why there was none: on one line, bounded, and without the private key.
	Message string
	cause   error
}

func (e *APIError) Error() string {
	said := e.Message
	if e.Status != 0 {
		said = strings.TrimSpace("answered " + strconv.Itoa(e.Status) + " " + e.Message)
	}
	switch {
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		said += " (is it the private key, and of this region?)"
	case e.Status == http.StatusNotFound:
		said += " (is the id right, and the key's organisation?)"
	}
	return fmt.Sprintf("the Vapi API: %s %s: %s", e.Method, e.Path, said)
}

func (e *APIError) Unwrap() error { return e.cause }

// Lost reports whether the request may have taken effect all the same. A Create that is lost must not be repeated before
// a List shows that nothing was created.
func (e *APIError) Lost() bool { return e.Status == 0 || e.Status >= 500 }

// List gives every object of a kind, as JSON objects.
func (a *API) List(ctx context.Context, r Resource) ([]json.RawMessage, error) {
	if r == Credentials {
		// Which parameters this list takes is not documented.
		page, err := a.page(ctx, r, nil)
		if err == nil && len(page) >= credentialPage {
			return nil, fmt.Errorf("the organisation has %d credentials or more at Vapi, and Vapi lists no more at once: make the credential in the dashboard, and give its id with --credential", credentialPage)
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
				return nil, fmt.Errorf("the Vapi API: GET /%s: entry %d has no id", r, i+1)
			}
			// RFC 3339 in UTC with a fixed number of digits: in the order of time.
			if oldest == "" || object.CreatedAt < oldest {
				oldest = object.CreatedAt
			} else if object.CreatedAt > oldest && len(page) == apiPage {
				return nil, fmt.Errorf("the Vapi API: GET /%s does not list the newest first any more, so that more than %d cannot be listed", r, apiPage)
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
			return nil, fmt.Errorf("the Vapi API: GET /%s gives the same %d again and again", r, apiPage)
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
		return nil, fmt.Errorf("the Vapi API: GET /%s was not answered with a list", r)
	}
	return page, nil
}

// Get gives one object.
func (a *API) Get(ctx context.Context, r Resource, id string) (json.RawMessage, error) {
	return a.do(ctx, http.MethodGet, path(r, id), nil)
}

// Create makes an object and gives it as Vapi keeps it. A body that is a [json.RawMessage] is sent byte for byte, here and
// in Update.
func (a *API) Create(ctx context.Context, r Resource, body any) (json.RawMessage, error) {
	return a.do(ctx, http.MethodPost, "/"+string(r), body)
}

// Update replaces the top-level members that body has, and gives the object as Vapi keeps it.
func (a *API) Update(ctx context.Context, r Resource, id string, body any) (json.RawMessage, error) {
	return a.do(ctx, http.MethodPatch, path(r, id), body)
}

// Delete removes an object. One that is not there is no error.
func (a *API) Delete(ctx context.Context, r Resource, id string) error {
	_, err := a.do(ctx, http.MethodDelete, path(r, id), nil)
	if failed, ok := errors.AsType[*APIError](err); ok && failed.Status == http.StatusNotFound {
		return nil
	}
	return err
}

func path(r Resource, id string) string { return "/" + string(r) + "/" + url.PathEscape(id) }

func (a *API) do(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	sent, isJSON := body.(json.RawMessage) // which json.Marshal would reformat
	if body != nil && !isJSON {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("the Vapi API: %s %s: %w", method, path, err)
		}
	}
	for attempt := 1; ; attempt++ {
		answer, wait, err := a.try(ctx, method, path, sent)
		failed, ok := errors.AsType[*APIError](err)
		if !ok || ctx.Err() != nil || attempt == apiAttempts {
			return answer, err
		}
		again := failed.Status == http.StatusTooManyRequests || method != http.MethodPost && (failed.Lost() || failed.Status == http.StatusRequestTimeout)
		if !again {
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

// try sends a request once. wait is what a Retry-After asks for, 0 where there is none.
func (a *API) try(ctx context.Context, method, path string, body []byte) (answer json.RawMessage, wait time.Duration, err error) {
	failed := &APIError{Method: method, Path: path}
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, fmt.Errorf("the Vapi API: %s %s cannot be requested", method, path)
	}
	request.Header.Set("Authorization", "Bearer "+a.key)
	request.Header.Set("User-Agent", "ringback")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.client.Do(request)
	if err != nil {
		failed.Message, failed.cause = "no answer: "+a.quotable([]byte(err.Error())), err
		return nil, 0, failed
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAPIAnswer+1))
	switch {
	case err != nil:
		failed.Message, failed.cause = "the answer broke off", err
		return nil, 0, failed
	case response.StatusCode < 200 || response.StatusCode > 299:
		failed.Status, failed.Message = response.StatusCode, a.quotable(answer)
		if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
			wait = time.Duration(min(seconds, 3600)) * time.Second
		} else if at, err := http.ParseTime(response.Header.Get("Retry-After")); err == nil {
			wait = max(at.Sub(a.now()), 0)
		}
		return nil, min(wait, maxAPIRetryAfter), failed
	case len(answer) > maxAPIAnswer:
		return nil, 0, fmt.Errorf("the Vapi API: %s %s: the answer is larger than %d MiB", method, path, maxAPIAnswer>>20)
	case !json.Valid(answer) && method != http.MethodDelete:
		return nil, 0, fmt.Errorf("the Vapi API: %s %s: the answer is not JSON", method, path)
	}
	return answer, 0, nil
}

// quotable is what an answer says, fit for a terminal: its message, which is a string or a list of them, where it has one.
func (a *API) quotable(answer []byte) string {
	var body struct{ Message any }
	text := string(answer)
	if json.Unmarshal(answer, &body) == nil {
		switch message := body.Message.(type) {
		case string:
			text = message
		case []any:
			parts := make([]string, len(message))
			for i, part := range message {
				parts[i] = fmt.Sprint(part)
			}
			text = strings.Join(parts, "; ")
		}
	}
	text = strings.ToValidUTF8(strings.ReplaceAll(text, a.key, "…"), "\uFFFD")
	text = strings.TrimSpace(strings.Join(strings.FieldsFunc(text, unicode.IsControl), " "))
	if runes := []rune(text); len(runes) > 500 {
		text = string(runes[:500]) + "…"
	}
	return text
}
