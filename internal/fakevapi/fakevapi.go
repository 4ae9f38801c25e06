// Package fakevapi simulates Vapi's API for tests. It keeps tools, assistants,
// credentials, calls and chats, checks bodies against the parts of Vapi's OpenAPI
// description that Ringback uses, and fails on demand.
package fakevapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

//go:embed testdata/vapi.schema.json
var schemaFile []byte

// schemas returns the resolved definitions of the schema file.
var schemas = sync.OnceValues(func() (map[string]*jsonschema.Resolved, error) {
	var root jsonschema.Schema
	if err := json.Unmarshal(schemaFile, &root); err != nil {
		return nil, err
	}
	resolved := map[string]*jsonschema.Resolved{}
	for name := range root.Defs {
		one := root.CloneSchemas()
		one.Ref = "#/$defs/" + name
		var err error
		if resolved[name], err = one.Resolve(nil); err != nil {
			return nil, err
		}
	}
	return resolved, nil
})

// Check checks a body against a definition of the schema, such as
// CreateFunctionToolDTO.
func Check(definition string, body []byte) error {
	all, err := schemas()
	if err != nil {
		return err
	}
	if all[definition] == nil {
		return fmt.Errorf("the schema defines no %s", definition)
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return all[definition].Validate(value)
}

// Failure describes how a request fails.
type Failure int

const (
	FailureNone          Failure = iota // no failure
	FailureRefusedBefore                // 500 without an effect
	FailureRefusedAfter                 // 500 after the effect
	FailureDroppedBefore                // the connection breaks, without an effect
	FailureDroppedAfter                 // the connection breaks after the effect
	FailureLimited                      // 429 with a Retry-After
	FailureForbidden                    // 403, which a repetition does not help
	FailureWriteConflict                // 409, as if another client had written at the same time
)

func (f Failure) after() bool   { return f == FailureRefusedAfter || f == FailureDroppedAfter }
func (f Failure) dropped() bool { return f == FailureDroppedBefore || f == FailureDroppedAfter }

// Request is a request that was received.
type Request struct {
	Method, Path string // with the query
	Body         string
}

// OrgID is the id of the organisation, which every object names. Vapi's OpenAPI description
// has no route that returns the organisation's name.
const OrgID = "0f3c1f6e-52a4-4f0e-9a47-7a1c6f9f1c11"

// Account is an organisation's account at Vapi. It serves the API. The zero value is
// an empty account that accepts any key.
type Account struct {
	Key string // the private key; empty means any

	// Splitting is whether the organisation has access to the beta of traffic splitting. Add
	// adds an assistant's "traffic-allocations" and its earlier published "versions", which
	// have an assistantId.
	Splitting bool

	// Strict refuses tools whose schemas have additionalProperties, which Vapi's OpenAPI description does not have.
	Strict bool

	mu       sync.Mutex
	objects  map[string][]*object       // by resource, the newest first
	others   map[string]json.RawMessage // other calls than those that were started, by id
	requests []Request
	made     int
	failAt   int // counts down to the request that fails
	failure  Failure
	outage   bool // all later requests fail, too
}

// object keeps its members in their order, byte for byte.
type object struct{ members []member }

type member struct {
	name  string
	value json.RawMessage
}

func (o *object) get(name string) string {
	var text string
	_ = json.Unmarshal(o.raw(name), &text)
	return text
}

// raw returns a member's value, nil if there is none.
func (o *object) raw(name string) json.RawMessage {
	for _, m := range o.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

func (o *object) set(name string, value json.RawMessage) {
	for i, m := range o.members {
		if m.name == name {
			o.members[i].value = value
			return
		}
	}
	o.members = append(o.members, member{name, value})
}

func (o *object) json() json.RawMessage {
	var b bytes.Buffer
	for i, m := range o.members {
		b.WriteByte("{,"[min(i, 1)])
		name, _ := json.Marshal(m.name)
		b.Write(name)
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

func parse(raw []byte) (*object, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil, fmt.Errorf("not an object")
	}
	o := &object{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		o.members = append(o.members, member{name.(string), value})
	}
	return o, nil
}

// Add adds an object to the account, as another client of the API would, and returns
// its id. Missing members that Vapi sets, such as the id, are added.
func (a *Account) Add(resource string, raw string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, err := parse([]byte(raw))
	if err != nil {
		panic(err)
	}
	a.add(resource, o)
	return o.get("id")
}

func (a *Account) add(resource string, o *object) {
	a.made++
	created := time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC).Add(time.Duration(a.made) * time.Second)
	createdAt := created.Format("2006-01-02T15:04:05.000Z")
	for name, value := range map[string]string{
		"id":        fmt.Sprintf("%08x-0000-4000-8000-000000000000", a.made),
		"orgId":     OrgID,
		"createdAt": createdAt,
		"updatedAt": createdAt,
	} {
		if o.get(name) == "" {
			o.set(name, json.RawMessage(strconv.Quote(value)))
		}
	}
	if a.objects == nil {
		a.objects = map[string][]*object{}
	}
	a.objects[resource] = slices.Insert(a.objects[resource], 0, o)
}

// Objects returns the objects of a resource, oldest first.
func (a *Account) Objects(resource string) []json.RawMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []json.RawMessage
	for _, o := range slices.Backward(a.objects[resource]) {
		all = append(all, o.json())
	}
	return all
}

// Calls returns the calls that were started, oldest first: what was posted, with the
// members that Vapi adds.
func (a *Account) Calls() []json.RawMessage { return a.Objects("call") }

// SetCall makes the account know a telephone call of a customer that it did not start, with a status such as
// "ended".
func (a *Account) SetCall(id, status, customer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.others == nil {
		a.others = make(map[string]json.RawMessage)
	}
	a.others[id] = json.RawMessage(fmt.Sprintf(
		`{"id":%q,"type":"inboundPhoneCall","status":%q,"customer":{"number":%q}}`, id, status, customer))
}

// Chats returns the chats that were posted, oldest first.
func (a *Account) Chats() []json.RawMessage { return a.Objects("chat") }

// Change replaces a member of an object, as another client of the API would. An empty
// value removes the member.
func (a *Account) Change(resource, id, name, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.objects[resource] {
		if o.get("id") != id {
			continue
		}
		if value == "" {
			o.members = slices.DeleteFunc(o.members, func(m member) bool { return m.name == name })
		} else {
			o.set(name, json.RawMessage(value))
		}
	}
}

// Requests returns the requests since the last call of Requests.
func (a *Account) Requests() []Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := a.requests
	a.requests = nil
	return taken
}

// Writes returns those of the requests that change something.
func Writes(requests []Request) []Request {
	return slices.DeleteFunc(slices.Clone(requests), func(r Request) bool { return r.Method == http.MethodGet })
}

// Fail makes the n-th request from now fail; 1 is the next one. With outage, all later
// requests fail, too, without an effect.
func (a *Account) Fail(n int, f Failure, outage bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failAt, a.failure, a.outage = n, f, outage
}

// next returns how this request fails.
func (a *Account) next() Failure {
	if a.failAt == 0 {
		return FailureNone
	}
	if a.failAt--; a.failAt > 0 {
		return FailureNone
	}
	f := a.failure
	if a.outage {
		a.failAt, a.failure = 1, FailureRefusedBefore
	}
	return f
}

// ServeHTTP serves the API.
func (a *Account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, Request{r.Method, r.URL.RequestURI(), string(body)})
	failure := a.next()
	status, answer := 0, json.RawMessage(nil)
	if failure == FailureNone || failure.after() {
		status, answer = a.handle(r, body)
	}
	switch {
	case failure.dropped():
		panic(http.ErrAbortHandler) // breaks the connection
	case failure == FailureLimited:
		w.Header().Set("Retry-After", "7")
		status, answer = refuse(http.StatusTooManyRequests, "Rate limit exceeded")
	case failure == FailureForbidden:
		status, answer = refuse(http.StatusForbidden, "Forbidden resource")
	case failure == FailureWriteConflict:
		status, answer = refuse(http.StatusConflict, "tool_write_conflict")
	case failure != FailureNone:
		status, answer = refuse(http.StatusInternalServerError, "Internal server error")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

func refuse(status int, messages ...string) (int, json.RawMessage) {
	body, _ := json.Marshal(map[string]any{"message": messages, "error": http.StatusText(status), "statusCode": status})
	return status, body
}

// definitions are the definitions that bodies must match, by method and resource.
var definitions = map[string]string{
	"POST tool": "CreateFunctionToolDTO", "PATCH tool": "UpdateFunctionToolDTO",
	"POST credential": "CreateCustomCredentialDTO", "PATCH credential": "UpdateCustomCredentialDTO",
	"PATCH assistant": "UpdateAssistantDTO",
	"POST call":       "CreateCallDTO", "POST chat": "CreateChatDTO",
}

// e164 matches the customers' numbers that Vapi accepts by default (Vapi's OpenAPI:
// CreateCustomerDTO.numberE164CheckEnabled).
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{1,14}$`)

// begin checks the rules for calls and chats that are not in the schema, and adds the
// members that Vapi adds.
func begin(resource string, o *object) error {
	switch resource {
	case "call":
		var customer struct{ Number string }
		_ = json.Unmarshal(o.raw("customer"), &customer)
		switch {
		case o.get("assistantId") == "":
			return errors.New("a call needs an assistant")
		case o.get("phoneNumberId") == "":
			return errors.New("a call needs a phone number")
		case !e164.MatchString(customer.Number):
			return errors.New("customer.number must be a valid phone number in the E.164 format")
		}
		status := `"queued"`
		if o.raw("schedulePlan") != nil {
			status = `"scheduled"`
		}
		o.set("type", json.RawMessage(`"outboundPhoneCall"`))
		o.set("status", json.RawMessage(status))
	case "chat":
		switch session, previous := o.get("sessionId"), o.get("previousChatId"); {
		case session != "" && previous != "":
			return errors.New("sessionId and previousChatId are mutually exclusive")
		case session == "" && previous == "" && o.get("assistantId") == "":
			return errors.New("a chat needs an assistantId, a sessionId or a previousChatId")
		}
		if err := checkTransport(o.raw("transport"), o.get("sessionId") != ""); err != nil {
			return err
		}
		o.set("output", json.RawMessage(`[{"role":"assistant","content":"Good news."}]`))
	}
	return nil
}

// checkTransport checks the numbers of a chat over text messages.
func checkTransport(raw json.RawMessage, session bool) error {
	if raw == nil {
		return nil
	}
	var t struct {
		PhoneNumberID string
		Customer      struct{ Number string }
	}
	_ = json.Unmarshal(raw, &t)
	switch {
	case session && (t.PhoneNumberID != "" || t.Customer.Number != ""):
		return errors.New("sessionId and the transport's phoneNumberId and customer are mutually exclusive")
	case !session && (t.PhoneNumberID == "" || !e164.MatchString(t.Customer.Number)):
		return errors.New("a transport without a session needs a phoneNumberId and a customer")
	}
	return nil
}

func (a *Account) handle(r *http.Request, body []byte) (int, json.RawMessage) {
	key, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer || a.Key != "" && key != a.Key {
		return refuse(http.StatusUnauthorized,
			"Invalid Key. Hot tip, you may be using the public key instead of the private key, or vice versa.")
	}
	if r.URL.Path == "/traffic-allocations/latest" && r.Method == http.MethodGet {
		return a.allocation(r.URL.Query().Get("assistantId"))
	}
	resource, id, one := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if of, version, ok := strings.Cut(id, "/versions"); ok && resource == "assistant" && r.Method == http.MethodGet {
		return a.versions(of, strings.TrimPrefix(version, "/"))
	}
	if !slices.Contains([]string{"tool", "assistant", "credential", "call", "chat", "squad"}, resource) {
		return refuse(http.StatusNotFound, "Cannot "+r.Method+" "+r.URL.Path)
	}
	if r.Method == http.MethodPost || r.Method == http.MethodPatch {
		definition := definitions[r.Method+" "+resource]
		if definition == "" || r.Header.Get("Content-Type") != "application/json" {
			return refuse(http.StatusNotFound, "Cannot "+r.Method+" "+r.URL.Path)
		}
		if err := Check(definition, body); err != nil {
			return refuse(http.StatusBadRequest, err.Error())
		}
		if a.Strict && resource == "tool" && bytes.Contains(body, []byte(`"additionalProperties":`)) {
			return refuse(http.StatusBadRequest, "function.parameters.property additionalProperties should not exist")
		}
	}
	if !one {
		switch r.Method {
		case http.MethodGet:
			return a.list(resource, r.URL.Query())
		case http.MethodPost:
			o, err := parse(body)
			if err == nil {
				err = begin(resource, o)
			}
			if err != nil {
				return refuse(http.StatusBadRequest, err.Error())
			}
			a.add(resource, o)
			return http.StatusCreated, shown(resource, o)
		}
		return refuse(http.StatusNotFound, "Cannot "+r.Method+" "+r.URL.Path)
	}
	if call, known := a.others[id]; resource == "call" && known && r.Method == http.MethodGet {
		return http.StatusOK, call
	}
	at := slices.IndexFunc(a.objects[resource], func(o *object) bool { return o.get("id") == id })
	if at < 0 {
		return refuse(http.StatusNotFound, "Couldn't get "+resource+". "+id+" does not exist.")
	}
	o := a.objects[resource][at]
	switch r.Method {
	case http.MethodPatch:
		changes, err := parse(body)
		if err != nil {
			return refuse(http.StatusBadRequest, err.Error())
		}
		for _, m := range changes.members {
			o.set(m.name, m.value)
		}
	case http.MethodDelete:
		a.objects[resource] = slices.Delete(a.objects[resource], at, at+1)
	}
	return http.StatusOK, shown(resource, o)
}

// allocation returns the newest allocation of an assistant's calls (Vapi's documentation:
// "Get latest traffic allocation").
func (a *Account) allocation(assistant string) (int, json.RawMessage) {
	switch {
	case !a.Splitting:
		return refuse(http.StatusForbidden, "Forbidden resource")
	case assistant == "":
		return refuse(http.StatusBadRequest, "assistantId must be a UUID")
	}
	for _, o := range a.objects["traffic-allocations"] {
		if o.get("assistantId") == assistant {
			return http.StatusOK, slices.Concat(json.RawMessage(`{"allocation":`), o.json(), json.RawMessage("}"))
		}
	}
	return http.StatusOK, json.RawMessage("{}")
}

// versions returns one published version of an assistant, or the newest ones, of which
// there are two on a page. Vapi's pages are longer.
func (a *Account) versions(assistant, version string) (int, json.RawMessage) {
	page := []json.RawMessage{}
	for _, o := range a.objects["versions"] {
		switch {
		case o.get("assistantId") != assistant:
		case version == o.get("version"):
			return http.StatusOK, o.json()
		case len(page) < 2:
			page = append(page, o.json())
		}
	}
	if version != "" || len(page) == 0 {
		return refuse(http.StatusNotFound, "Couldn't get the version "+version+".")
	}
	body, err := json.Marshal(map[string]any{"results": page, "metadata": map[string]any{"hasNextPage": false}})
	if err != nil {
		return refuse(http.StatusInternalServerError, err.Error())
	}
	return http.StatusOK, body
}

func (a *Account) list(resource string, query url.Values) (int, json.RawMessage) {
	limit := 100
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 0 || limit > 1000 {
			return refuse(http.StatusBadRequest, "limit must not be greater than 1000")
		}
	}
	page := []json.RawMessage{}
	for _, o := range a.objects[resource] {
		if until := query.Get("createdAtLe"); until != "" && o.get("createdAt") > until {
			continue
		}
		if len(page) < limit {
			page = append(page, shown(resource, o))
		}
	}
	body, err := json.Marshal(page)
	if err != nil {
		return refuse(http.StatusInternalServerError, err.Error())
	}
	return http.StatusOK, body
}

// shown returns an object as the API returns it: without the secrets of a credential.
func shown(resource string, o *object) json.RawMessage {
	if resource != "credential" {
		return o.json()
	}
	hidden := func(m member) bool { return m.name == "authenticationPlan" }
	visible := &object{members: slices.DeleteFunc(slices.Clone(o.members), hidden)}
	return visible.json()
}
