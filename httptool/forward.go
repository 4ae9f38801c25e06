package httptool

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/ringback/ringback/asynctool"
)

// Tools returns the tools that the files http.yaml, http.yml and http.json of a folder declare,
// in this order. A file that is absent declares none. See [Parse].
func Tools(folder fs.FS, getenv func(string) string) ([]asynctool.Definition, error) {
	var all []asynctool.Definition
	for _, name := range []string{"http.yaml", "http.yml", "http.json"} {
		file, err := fs.ReadFile(folder, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		tools, err := Parse(file, getenv)
		if wrong, ok := errors.AsType[*fileError](err); ok {
			return nil, wrong.in(name)
		}
		for _, tool := range tools {
			tool := tool.(declaration)
			tool.file = name
			all = append(all, tool)
		}
	}
	return all, nil
}

// forwarded is a tool that sends an HTTP request. docs/tools.md and the http.yaml of examples/shop explain
// the fields.
type forwarded struct {
	Name        string              `json:"name"`
	Description string              `json:"description"`
	Schema      *jsonschema.Schema  `json:"schema"`
	URL         string              `json:"url"`
	Method      string              `json:"method"` // empty: POST
	Headers     map[string]string   `json:"headers"`
	OAuth2      *login              `json:"oauth2"`
	Timeout     string              `json:"timeout"`
	Attempts    int                 `json:"attempts"`
	NotStarted  []Status            `json:"not_started"`
	Deadline    string              `json:"deadline"`
	AfterCall   asynctool.AfterCall `json:"after_call"`
	Delivery    asynctool.Delivery  `json:"delivery"`
	Answer      string              `json:"answer"`
	Text        string              `json:"text"`
	Texts       map[string]string   `json:"texts"` // by status
	ErrorAnswer string              `json:"error_answer"`
	FailureText string              `json:"failure_text"`
	Poll        *poll               `json:"poll"`
	Static      map[string]string   `json:"static"`
	SyncAck     bool                `json:"sync_ack"`
	Cancellable bool                `json:"cancellable"`
	Quick       string              `json:"quick"`
	HideArgs    bool                `json:"hide_arguments"`
	Encrypted   []string            `json:"encrypted"`

	text *textTemplate // nil: Answer applies

	settings
	names []string // of the settings
	unset error    // names settings that are missing or invalid; may be nil
}

// settings are what a declaration makes of values from the environment.
type settings struct {
	target *target
	header http.Header // of every request
	login  *session    // nil: none
	job    *target     // the address of the job, from fields; nil: see poll
}

// Parse returns the tools that a YAML or JSON file declares as HTTP requests.
// getenv returns the values for ${NAME} in addresses, headers and credentials. A tool
// with a missing or invalid value fails when it is called, and says that the service
// isn't available. [asynctool.Set.Invalid] returns what is wrong with values. The error
// names the line and the tool that are invalid, with the reason.
func Parse(file []byte, getenv func(string) string) ([]asynctool.Definition, error) {
	var declared struct {
		Tools []json.RawMessage `json:"tools"`
	}
	root, nodes, begun := lines(file)
	if line := secondDocument(file); line > 0 {
		return nil, &fileError{line, errors.New("the file has a second YAML document, which is not read: remove the ---")}
	}
	if key := unknownField(root, reflect.TypeOf(declared)); key != nil {
		return nil, &fileError{key.Line, fmt.Errorf("unknown field %q", key.Value)}
	}
	for i, node := range nodes {
		if key := repeatedKey(node); key != nil {
			return nil, placeOf(nodes, i, key).wrong(fmt.Errorf("the field %q is set twice", key.Value))
		}
		if key := unknownField(node, reflect.TypeFor[forwarded]()); key != nil {
			return nil, placeOf(nodes, i, key).wrong(fmt.Errorf("unknown field %q", key.Value))
		}
	}
	if key := repeatedKey(root); key != nil {
		return nil, &fileError{key.Line, fmt.Errorf("the field %q is set twice", key.Value)}
	}
	if err := yaml.UnmarshalStrict(file, &declared); err != nil && begun != nil {
		return nil, syntaxError(file, err, begun)
	} else if err != nil {
		return nil, valueError(root, nodes, err)
	}
	var definitions []asynctool.Definition
	names := make(map[string]bool)
	for i, raw := range declared.Tools {
		var node *yamlv3.Node
		if i < len(nodes) {
			node = nodes[i]
		}
		f := &forwarded{}
		tool, err := f.declare(raw, getenv)
		if err == nil && names[f.Name] {
			err = at(errors.New("two tools have this name"), "name")
		}
		if err != nil {
			return nil, place{lineOf(node, err), i + 1, f.Name}.wrong(err)
		}
		names[f.Name] = true
		definitions = append(definitions, declaration{Tool: tool, line: lineOf(node, at(nil, "name"))})
	}
	return definitions, nil
}

// declaration is a tool with its place in a file.
type declaration struct {
	asynctool.Tool[json.RawMessage]
	file string // empty: unknown
	line int    // 0: unknown
}

// Source names the place in the errors of [asynctool.NewSet].
func (d declaration) Source() string {
	switch {
	case d.line == 0:
		return d.file
	case d.file == "":
		return fmt.Sprintf("line %d", d.line)
	default:
		return fmt.Sprintf("%s:%d", d.file, d.line)
	}
}

// declare decodes and checks one declaration.
func (f *forwarded) declare(
	raw json.RawMessage, getenv func(string) string,
) (tool asynctool.Tool[json.RawMessage], err error) {
	// Each tool is decoded alone, so that the error names its tool, if it has a name.
	if err := yaml.UnmarshalStrict(raw, f); err != nil {
		return tool, declarationError(err)
	}
	if err := f.prepare(getenv); err != nil {
		return tool, err
	}
	tool = asynctool.Tool[json.RawMessage]{
		Name:        f.Name,
		Description: f.Description,
		Schema:      f.Schema,
		Run:         f.run,
		Attempts:    f.Attempts,
		Delivery:    f.Delivery,
		AfterCall:   f.AfterCall,
		FailureText: f.FailureText,
		Static:      f.Static,
		SyncAck:     f.SyncAck,
		Cancellable: f.Cancellable,
		Settings:    f.names,
		Getenv:      getenv,

		CheckSettings: f.checkSettings,
		HideArguments: f.HideArgs,
		Encrypted:     f.Encrypted,
	}
	for _, d := range []struct {
		field, name, text, like string
		to                      *time.Duration
	}{
		{"timeout", "timeout", f.Timeout, "90s or 2m", &tool.Timeout},
		{"quick", "quick time", f.Quick, "6s", &tool.Quick},
		{"deadline", "deadline", f.Deadline, "30m or 24h", &tool.Deadline},
	} {
		if *d.to, err = duration(d.name, d.text, d.like); err != nil {
			return tool, at(err, d.field)
		}
	}
	// Apply the rules for every tool here, so that the error names the file.
	if _, err := asynctool.NewSet(tool); err != nil {
		return tool, errors.New(strings.TrimPrefix(err.Error(), "tool "+f.Name+": "))
	}
	return tool, nil
}

// duration parses a field. It may be empty.
func duration(field, text, like string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("the %s is %q; write it like %s", field, text, like)
	}
	return d, nil
}

// keyToCall matches a template of a static argument that renders the call's id, its URLs, or the whole call. With them,
// a service could speak in the call.
var keyToCall = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\{[{%][^}]*\bcall\b\s*(\.\s*(id|monitor)\b|[|\[}%])`)
})

// ownHeaders are set here or by net/http, so a file cannot set them.
var ownHeaders = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Host", "Idempotency-Key", "Trailer", "Transfer-Encoding",
}

// prepare checks a declaration and fills in the environment. It returns the errors
// of the file. What is wrong with values goes to unset.
func (f *forwarded) prepare(getenv func(string) string) error {
	if f.Schema == nil {
		return errors.New("the schema is missing; for a tool without arguments, write {type: object}")
	}
	if err := checkSchema("schema", f.Schema); err != nil {
		return at(err, "schema")
	}
	if f.Method = strings.ToUpper(f.Method); f.Method == "" {
		f.Method = http.MethodPost
	}
	if !f.sendsBody() && f.Method != http.MethodGet && f.Method != http.MethodDelete {
		return at(fmt.Errorf("the method is %q; it must be GET, POST, PUT, PATCH or DELETE", f.Method), "method")
	}
	if err := f.checkEncrypted(); err != nil {
		return at(err, "encrypted")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Static)) {
		if keyToCall().MatchString(f.Static[name]) {
			return at(fmt.Errorf("the static argument %s would give the service the key to the call; "+
				"to recognise a tool call, it gets an Idempotency-Key", name), "static", name)
		}
	}
	if err := f.prepareTexts(); err != nil {
		return err
	}
	if f.Poll != nil {
		if err := f.Poll.prepare(); err != nil {
			return at(err, "poll")
		}
	}
	for _, status := range f.NotStarted {
		if status < 400 || status > 599 {
			return at(fmt.Errorf("not_started has %d; it must be a status from 400 to 599", int(status)), "not_started")
		}
	}

	e := &environment{lookup: variables(getenv)}
	var err error
	if f.settings, err = f.fill(e); err != nil {
		return err
	}
	f.names, f.unset = e.names, cmp.Or(e.invalid, e.missing())
	return nil
}

// fill fills in the environment. It returns the errors of the file. What is wrong with values is in e.
func (f *forwarded) fill(e *environment) (s settings, err error) {
	if s.target, err = e.target("url", f.URL); err == nil {
		err = f.checkArguments(s.target)
	}
	if err != nil {
		return s, at(err, "url")
	}
	if s.header, err = f.fillHeader(e); err != nil {
		return s, at(err, "headers")
	}
	if f.OAuth2 != nil {
		if _, given := s.header["Authorization"]; given {
			return s, at(errors.New("oauth2 sets the header Authorization; remove one of them"), "oauth2")
		}
		if s.login, err = f.OAuth2.fill(e); err != nil {
			return s, at(err, "oauth2")
		}
	}
	if f.Poll != nil {
		if s.job, err = f.Poll.fill(e); err != nil {
			return s, at(err, "poll")
		}
	}
	return s, nil
}

// checkSettings returns what is wrong with the values of settings.
func (f *forwarded) checkSettings(lookup func(string) (string, bool)) error {
	e := &environment{lookup: lookup}
	if _, err := f.fill(e); err != nil {
		return err
	}
	return e.invalid
}

// prepareTexts checks where the texts come from.
func (f *forwarded) prepareTexts() error {
	for _, path := range []struct{ name, field, value string }{
		{"answer", "answer", f.Answer}, {"error_answer", "error_answer", f.ErrorAnswer},
	} {
		if path.value == "" {
			continue
		}
		if err := checkField(path.value); err != nil {
			return at(fmt.Errorf("the %s is %q; it %w", path.name, path.value, err), path.field)
		}
	}
	if f.Text != "" {
		if f.Answer != "" {
			return at(errors.New("both text and answer are set; name the field in the text, as in {message}"), "text")
		}
		var err error
		if f.text, err = parseText(f.Text); err != nil {
			return at(err, "text")
		}
	}
	for _, status := range slices.Sorted(maps.Keys(f.Texts)) {
		if n, err := strconv.Atoi(status); err != nil || n < 300 || n > 599 {
			return at(fmt.Errorf("texts has %q; it must be a status from 300 to 599", status), "texts", status)
		}
		if strings.TrimSpace(f.Texts[status]) == "" {
			return at(fmt.Errorf("the text for the status %s is empty", status), "texts", status)
		}
	}
	return nil
}

// fillHeader returns the header of every request.
func (f *forwarded) fillHeader(e *environment) (http.Header, error) {
	header := http.Header{}
	if f.sendsBody() {
		header.Set("Content-Type", "application/json")
	}
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	given := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(f.Headers)) {
		canonical, text := http.CanonicalHeaderKey(name), f.Headers[name]
		problem := fmt.Errorf("the header %s contains a line break or another control character", name)
		switch {
		case !consistsOf(name, "!#$%&'*+-.^_`|~"): // RFC 9110's token
			return nil, at(fmt.Errorf("%q is not the name of a header", name), name)
		case slices.Contains(ownHeaders, canonical):
			return nil, at(fmt.Errorf("the header %s cannot be set", name), name)
		case given[canonical]:
			return nil, at(fmt.Errorf("the header %s occurs twice", name), name)
		case strings.ContainsFunc(text, isControl):
			return nil, at(problem, name)
		}
		if err := checkVariables("header "+name, text); err != nil {
			return nil, at(err, name)
		}
		given[canonical] = true
		value := e.fill(text)
		for n, variable := range value.names {
			if strings.ContainsFunc(value.values[n], isControl) {
				e.object(problem, variable)
			}
		}
		header.Set(name, value.text)
	}
	return header, nil
}

// checkArguments checks the arguments in the address. Those in the path are required, and texts or
// integers. Those in the query may be missing, and are no objects or lists.
func (f *forwarded) checkArguments(t *target) error {
	for _, name := range slices.Concat(t.path, t.query) {
		property := f.Schema.Properties[name]
		switch {
		case property == nil:
			return fmt.Errorf("the url has {%s}, which is not an argument in the schema", name)
		case slices.Contains(t.path, name) && property.Type != "string" && property.Type != "integer":
			return fmt.Errorf("the argument %s in the url must have the type string or integer", name)
		case slices.Contains(t.path, name) && !slices.Contains(f.Schema.Required, name):
			return fmt.Errorf("the argument %s in the url must be required", name)
		case !slices.Contains([]string{"string", "integer", "number", "boolean"}, property.Type):
			return fmt.Errorf("the argument %s in the url must have the type string, integer, number or boolean", name)
		}
	}
	return nil
}

// checkEncrypted keeps plain values of encrypted arguments out of addresses, which
// servers log.
func (f *forwarded) checkEncrypted() error {
	if len(f.Encrypted) == 0 {
		return nil
	}
	if !f.sendsBody() {
		return fmt.Errorf("%s sends the encrypted arguments in the url, which servers log; use POST, PUT or PATCH", f.Method)
	}
	for _, name := range namesIn(withoutVariables(f.URL)) {
		if slices.Contains(f.Encrypted, name) {
			return fmt.Errorf("the url has the encrypted argument {%s}, and servers log it; send it in the body", name)
		}
	}
	return nil
}

// checkSchema finds mistakes that would otherwise have no error. One is a keyword
// that JSON Schema does not have: a misspelt "required" makes every argument
// optional. The other is a text that YAML 1.1 reads as a boolean, such as y and no.
func checkSchema(where string, s *jsonschema.Schema) error {
	if s == nil {
		return fmt.Errorf("%s is empty", where)
	}
	if unknown := slices.Sorted(maps.Keys(s.Extra)); len(unknown) > 0 {
		return fmt.Errorf("%s: JSON Schema has no keyword %q", where, unknown[0])
	}
	for _, value := range s.Enum {
		if _, ok := value.(string); s.Type == "string" && !ok {
			return fmt.Errorf("%s: the value %v of the enum is not a text; put it in quotation marks", where, value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if name == "true" || name == "false" {
			return fmt.Errorf(
				"%s: the name of an argument was read as %s; put names like y and no in quotation marks", where, name)
		}
		if err := checkSchema(where+"."+name, s.Properties[name]); err != nil {
			return at(err, "properties", name)
		}
	}
	if s.Items != nil {
		if err := checkSchema(where+"[]", s.Items); err != nil {
			return at(err, "items")
		}
	}
	return nil
}

func (f *forwarded) sendsBody() bool {
	return slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch}, f.Method)
}

func (f *forwarded) run(ctx context.Context, call asynctool.Call, arguments json.RawMessage) (asynctool.Result, error) {
	if f.unset != nil {
		return asynctool.Result{}, asynctool.NotSetUp(f.unset)
	}
	if f.Poll != nil {
		s, err := asynctool.State[polled](call)
		if err != nil {
			return asynctool.Result{}, err
		}
		if s.URL != "" {
			return f.resume(ctx, s)
		}
	}
	u, err := f.address(arguments)
	if err != nil {
		return asynctool.Result{}, err
	}
	first := request{method: f.Method, url: u, key: call.IdempotencyKey()}
	if f.sendsBody() {
		first.body = arguments
	}
	a, err := f.ask(ctx, first)
	if err == nil {
		err = f.failure(a)
	}
	if err != nil && len(f.NotStarted) > 0 {
		err = NotStarted(err, f.NotStarted...)
	}
	switch {
	case err != nil:
		return asynctool.Result{}, err
	case f.Poll != nil:
		return f.follow(a, "")
	}
	return f.result(a)
}

// request is a request of a tool.
type request struct {
	method string
	url    *url.URL
	body   []byte // nil: none
	key    string // the Idempotency-Key; empty: none
}

// ask sends a request. If the service rejects the access token, ask gets another one, and sends the
// request again, once: a service that rejects a token has not begun.
func (f *forwarded) ask(ctx context.Context, q request) (answer, error) {
	rejected := ""
	for {
		var body io.Reader
		if q.body != nil {
			body = bytes.NewReader(q.body)
		}
		r, err := NewRequest(ctx, q.method, q.url, body)
		if err != nil {
			return answer{}, err
		}
		r.Header = f.header.Clone()
		if q.body == nil && f.sendsBody() { // a poll
			r.Header.Del("Content-Type")
		}
		if q.key != "" {
			r.Header.Set("Idempotency-Key", q.key)
		}
		if f.login == nil {
			return exchange(r, f.ErrorAnswer != "")
		}
		token, err := f.login.token(ctx, rejected)
		if err != nil {
			return answer{}, err
		}
		r.Header.Set("Authorization", "Bearer "+token)
		a, err := exchange(r, f.ErrorAnswer != "")
		if err != nil || a.status != http.StatusUnauthorized || a.redirected || rejected != "" {
			return a, err
		}
		rejected = token
	}
}

// failure returns the error that an answer reports with its status, or in its field for errors. It returns
// nil if there is none.
func (f *forwarded) failure(a answer) error {
	err := a.failure()
	if err == nil && f.ErrorAnswer != "" && textIn(a.body, f.ErrorAnswer) != "" {
		err = asynctool.Fail("", fmt.Errorf("the service reported an error in the field %s", f.ErrorAnswer))
	}
	return f.worded(err, a)
}

// worded adds a text for the caller to an error: that of the file for the status, or the one in the answer.
func (f *forwarded) worded(err error, a answer) error {
	said, ok := errors.AsType[*asynctool.Error](err)
	if !ok {
		return err
	}
	if said.Spoken = f.Texts[strconv.Itoa(a.status)]; said.Spoken == "" && f.ErrorAnswer != "" {
		said.Spoken = textIn(a.body, f.ErrorAnswer)
		said.External = said.Spoken != ""
	}
	return said
}

// result returns the result of an answer. A text is the tool's own only if nothing of it comes from the
// answer.
func (f *forwarded) result(a answer) (asynctool.Result, error) {
	text, external := string(a.body), true
	var err error
	switch {
	case f.text != nil:
		external = len(f.text.fields) > 0
		text, err = f.text.of(a.body)
	case f.Answer != "":
		text, err = field(a.body, f.Answer)
	}
	if text = clean(text); err == nil && text == "" {
		err = errors.New(malformed + ": it has no text")
	}
	if err != nil {
		return asynctool.Result{}, asynctool.Fail("", err)
	}
	return asynctool.Result{Text: text, External: external}, nil
}

// address returns the address of the first request: with the arguments in their places, and with the
// others in its query if the request has no body.
func (f *forwarded) address(arguments json.RawMessage) (*url.URL, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(arguments, &members); err != nil {
		return nil, asynctool.Fail("", errors.New("the arguments are not a JSON object"))
	}
	texts := make(map[string]string)
	for name, value := range members {
		if string(value) == "null" {
			continue
		}
		text, err := plain(value)
		if err != nil {
			return nil, err
		}
		texts[name] = text
	}
	u, err := f.target.with(func(name string) (string, bool) {
		text, ok := texts[name]
		return text, ok
	})
	if name, bad := errors.AsType[notIdentifier](err); bad {
		if _, static := f.Static[string(name)]; static {
			return nil, asynctool.Fail("", fmt.Errorf("the static argument %w", err))
		}
		return nil, &asynctool.ArgumentError{Message: fmt.Sprintf("The tool %s was not run: %s must consist of letters "+
			"from A to Z and digits, with -, _ and . between them. Check it with the caller, then call %s again.",
			f.Name, string(name), f.Name)}
	}
	if f.sendsBody() {
		return u, nil
	}
	query, own := u.Query(), f.target.url.Query()
	for name, text := range texts {
		if !own.Has(name) && !slices.Contains(f.target.path, name) && !slices.Contains(f.target.query, name) {
			query.Set(name, text)
		}
	}
	u.RawQuery = query.Encode()
	return u, nil
}

// plain returns a text unchanged, and everything else as JSON.
func plain(value json.RawMessage) (string, error) {
	if !bytes.HasPrefix(value, []byte(`"`)) {
		return string(value), nil
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return "", asynctool.Fail("", errors.New("cannot decode an argument"))
	}
	return text, nil
}
