package httptool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
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
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, tools...)
	}
	return all, nil
}

// forwarded is a tool that sends an HTTP request. http.yaml explains the fields.
type forwarded struct {
	Name        string             `json:"name"`
	Description string             `json:"description"`
	Schema      *jsonschema.Schema `json:"schema"`
	URL         string             `json:"url"`
	Method      string             `json:"method"` // empty: POST
	Headers     map[string]string  `json:"headers"`
	Timeout     string             `json:"timeout"`
	Attempts    int                `json:"attempts"`
	Delivery    asynctool.Delivery `json:"delivery"`
	Answer      string             `json:"answer"`
	FailureText string             `json:"failure_text"`
	Static      map[string]string  `json:"static"`
	SyncAck     bool               `json:"sync_ack"`
	Cancellable bool               `json:"cancellable"`
	Quick       string             `json:"quick"`
	HideArgs    bool               `json:"hide_arguments"`
	Encrypted   []string           `json:"encrypted"`

	address *url.URL    // nil if unset is not nil
	header  http.Header // of every request
	inPath  []string    // the arguments in the path of the address
	unset   error       // names the settings that are missing or invalid; may be nil
}

// Parse returns the tools that a YAML or JSON file declares as HTTP requests.
// getenv returns the values for ${NAME} in addresses and headers. A tool with a
// missing value fails when it is called, and says that the service isn't available.
// The error names the tool that is invalid, with the reason.
func Parse(file []byte, getenv func(string) string) ([]asynctool.Definition, error) {
	var declared struct {
		Tools []json.RawMessage `json:"tools"`
	}
	if err := yaml.UnmarshalStrict(file, &declared); err != nil {
		return nil, err
	}
	var definitions []asynctool.Definition
	for i, raw := range declared.Tools {
		var f forwarded
		// Each tool is decoded alone, so that the error for a misspelt field
		// names its tool.
		err := yaml.UnmarshalStrict(raw, &f)
		if err == nil {
			err = f.prepare(getenv)
		}
		if err != nil {
			return nil, fmt.Errorf("tool %d, %q: %w", i+1, f.Name, err)
		}
		timeout, err := duration("timeout", f.Timeout, "90s or 2m")
		if err != nil {
			return nil, fmt.Errorf("tool %d, %q: %w", i+1, f.Name, err)
		}
		quick, err := duration("quick time", f.Quick, "6s")
		if err != nil {
			return nil, fmt.Errorf("tool %d, %q: %w", i+1, f.Name, err)
		}
		definitions = append(definitions, asynctool.Tool[json.RawMessage]{
			Name:        f.Name,
			Description: f.Description,
			Schema:      f.Schema,
			Run:         f.run,
			Timeout:     timeout,
			Attempts:    f.Attempts,
			Delivery:    f.Delivery,
			FailureText: f.FailureText,
			Static:      f.Static,
			SyncAck:     f.SyncAck,
			Cancellable: f.Cancellable,
			Quick:       quick,

			HideArguments: f.HideArgs,
			Encrypted:     f.Encrypted,
		})
	}
	// Apply the rules for every tool here, so that the error names the file.
	if _, err := asynctool.NewSet(definitions...); err != nil {
		return nil, err
	}
	return definitions, nil
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

// variable matches a part of an address or a header that comes from the environment.
var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// argument matches a part of an address's path that comes from an argument.
var argument = regexp.MustCompile(`\{([^{}]*)\}`)

// headerName is RFC 9110's token.
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// keyToCall matches a template of a static argument that renders the call's id, its URLs, or the whole call. With them,
// a service could speak in the call.
var keyToCall = regexp.MustCompile(`\{[{%][^}]*\bcall\b\s*(\.\s*(id|monitor)\b|[|\[}%])`)

// ownHeaders are set here or by net/http, so a file cannot set them.
var ownHeaders = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Host", "Idempotency-Key", "Trailer", "Transfer-Encoding",
}

// prepare checks a declaration and fills in the environment. It returns the errors
// of the file. Errors of the environment go to unset.
func (f *forwarded) prepare(getenv func(string) string) error {
	if f.Schema == nil {
		return errors.New("the schema is missing; for a tool without arguments, write {type: object}")
	}
	if err := checkSchema("schema", f.Schema); err != nil {
		return err
	}
	if f.Method = strings.ToUpper(f.Method); f.Method == "" {
		f.Method = http.MethodPost
	}
	if !f.sendsBody() && f.Method != http.MethodGet && f.Method != http.MethodDelete {
		return fmt.Errorf("the method is %q; it must be GET, POST, PUT, PATCH or DELETE", f.Method)
	}
	if err := f.checkEncrypted(); err != nil {
		return err
	}
	if f.Answer != "" && slices.Contains(strings.Split(f.Answer, "."), "") {
		return fmt.Errorf("the answer is %q; it must be a field's name, or names with dots between them", f.Answer)
	}

	for _, name := range slices.Sorted(maps.Keys(f.Static)) {
		if keyToCall.MatchString(f.Static[name]) {
			return fmt.Errorf("the static argument %s would give the service the key to the call; "+
				"to recognise a tool call, it gets an Idempotency-Key", name)
		}
	}

	var missing []string
	fill := func(text string) string {
		return variable.ReplaceAllStringFunc(text, func(v string) string {
			name := variable.FindStringSubmatch(v)[1]
			// A secret from a file often ends with a line break.
			value := strings.TrimSpace(getenv(name))
			if value == "" && !slices.Contains(missing, name) {
				missing = append(missing, name)
			}
			return value
		})
	}
	unfinished := func(text string) bool {
		return strings.Contains(variable.ReplaceAllString(text, ""), "${")
	}

	if unfinished(f.URL) {
		return errors.New("the url has a ${ that is not a variable; write ${NAME}")
	}
	if err := f.findInPath(); err != nil {
		return err
	}
	address, err := Address(fill(f.URL))
	if err != nil && !variable.MatchString(f.URL) {
		return fmt.Errorf("the url %w", err)
	}
	f.address = address
	if err != nil {
		f.unset = fmt.Errorf("the url, filled in from the environment, %w", err)
	}
	for _, name := range f.inPath {
		if err == nil && !strings.Contains(address.Path, "{"+name+"}") {
			f.unset = fmt.Errorf("the url, filled in from the environment, has {%s} outside its path", name)
		}
	}

	f.header = http.Header{}
	if f.sendsBody() {
		f.header.Set("Content-Type", "application/json")
	}
	given := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(f.Headers)) {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !headerName.MatchString(name):
			return fmt.Errorf("%q is not the name of a header", name)
		case slices.Contains(ownHeaders, canonical):
			return fmt.Errorf("the header %s cannot be set", name)
		case given[canonical]:
			return fmt.Errorf("the header %s occurs twice", name)
		case unfinished(f.Headers[name]):
			return fmt.Errorf("the header %s has a ${ that is not a variable; write ${NAME}", name)
		}
		given[canonical] = true
		value := fill(f.Headers[name])
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			err := fmt.Errorf("the header %s contains a line break or another control character", name)
			if !variable.MatchString(f.Headers[name]) {
				return err
			}
			f.unset = err
		}
		f.header.Set(name, value)
	}
	if len(missing) > 0 {
		f.unset = fmt.Errorf("not set in the environment: %s", strings.Join(missing, ", "))
	}
	return nil
}

// findInPath finds the arguments in the path of the address. They are required, and
// texts or integers.
func (f *forwarded) findInPath() error {
	address := variable.ReplaceAllString(f.URL, "")
	if end := strings.IndexAny(address, "?#"); end >= 0 {
		address = address[:end]
	}
	for _, match := range argument.FindAllStringSubmatch(address, -1) {
		name := match[1]
		property := f.Schema.Properties[name]
		switch {
		case property == nil:
			return fmt.Errorf("the url has {%s}, which is not an argument in the schema", name)
		case property.Type != "string" && property.Type != "integer":
			return fmt.Errorf("the argument %s in the url must have the type string or integer", name)
		case !slices.Contains(f.Schema.Required, name):
			return fmt.Errorf("the argument %s in the url must be required", name)
		}
		f.inPath = append(f.inPath, name)
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
	for _, match := range argument.FindAllStringSubmatch(variable.ReplaceAllString(f.URL, ""), -1) {
		if slices.Contains(f.Encrypted, match[1]) {
			return fmt.Errorf("the url has the encrypted argument {%s}, and servers log it; send it in the body", match[1])
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
			return err
		}
	}
	if s.Items != nil {
		return checkSchema(where+"[]", s.Items)
	}
	return nil
}

func (f *forwarded) sendsBody() bool {
	return slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch}, f.Method)
}

func (f *forwarded) run(ctx context.Context, call asynctool.Call, arguments json.RawMessage) (asynctool.Result, error) {
	if f.unset != nil {
		return asynctool.Result{}, NotSetUp(f.unset)
	}
	address, err := f.target(arguments)
	if err != nil {
		return asynctool.Result{}, err
	}
	var body io.Reader
	if f.sendsBody() {
		body = bytes.NewReader(arguments)
	}
	r, err := NewRequest(ctx, f.Method, address, body)
	if err != nil {
		return asynctool.Result{}, err
	}
	r.Header = f.header.Clone()
	r.Header.Set("Idempotency-Key", call.IdempotencyKey())
	answer, err := Do(r)
	if err != nil {
		return asynctool.Result{}, err
	}
	text := string(answer)
	if f.Answer != "" {
		if text, err = field(answer, f.Answer); err != nil {
			return asynctool.Result{}, asynctool.Fail("", err)
		}
	}
	if text = strings.TrimSpace(strings.ToValidUTF8(text, "")); text == "" {
		return asynctool.Result{}, asynctool.Fail("", errors.New("the service's answer is malformed: it has no text"))
	}
	return asynctool.Result{Text: text, External: true}, nil
}

// target returns the address of a request: with the arguments in its path, and with the
// others in its query if the request has no body.
func (f *forwarded) target(arguments json.RawMessage) (*url.URL, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(arguments, &members); err != nil {
		return nil, asynctool.Fail("", errors.New("the arguments are not a JSON object"))
	}
	address := *f.address
	for _, name := range f.inPath {
		text, err := plain(members[name])
		if err != nil {
			return nil, err
		}
		id, ok := asynctool.Identifier(text)
		if _, static := f.Static[name]; !ok && static {
			return nil, asynctool.Fail("", fmt.Errorf("the static argument %s is not an identifier", name))
		}
		if !ok {
			return nil, &asynctool.ArgumentError{Message: fmt.Sprintf("The tool %s was not run: %s must consist of letters "+
				"from A to Z and digits, with -, _ and . between them. Check it with the caller, then call %s again.",
				f.Name, name, f.Name)}
		}
		// An identifier is the same with and without escapes.
		address.Path = strings.ReplaceAll(address.Path, "{"+name+"}", id)
		address.RawPath = strings.ReplaceAll(address.RawPath, "{"+name+"}", id)
	}
	if f.sendsBody() {
		return &address, nil
	}
	query := address.Query()
	for name, value := range members {
		if slices.Contains(f.inPath, name) || query.Has(name) || string(value) == "null" {
			continue
		}
		text, err := plain(value)
		if err != nil {
			return nil, err
		}
		query.Set(name, text)
	}
	address.RawQuery = query.Encode()
	return &address, nil
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

// field returns a field of a JSON answer. The path consists of the names of fields and
// the positions in lists, counted from 0, with dots between them. It returns a text
// unchanged, and everything else as JSON.
func field(answer []byte, path string) (string, error) {
	value := json.RawMessage(answer)
	for part := range strings.SplitSeq(path, ".") {
		if value = member(value, part); value == nil {
			return "", fmt.Errorf("the service's answer is malformed: it is not JSON with the field %s", path)
		}
	}
	var text *string
	switch err := json.Unmarshal(value, &text); {
	case err != nil:
		return string(value), nil
	case text == nil:
		return "", fmt.Errorf("the service's answer is malformed: it has null in the field %s", path)
	default:
		return *text, nil
	}
}

// member returns the field of an object, or the item of a list. It returns nil if there
// is none.
func member(value json.RawMessage, part string) json.RawMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(value, &object) == nil {
		return object[part]
	}
	var list []json.RawMessage
	position, err := strconv.ParseUint(part, 10, 31)
	if err != nil || json.Unmarshal(value, &list) != nil || position >= uint64(len(list)) {
		return nil
	}
	return list[position]
}
