package wiring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/vapi/vapiclient"
)

// Difference is a field of a tool whose value at Vapi is wrong.
type Difference struct {
	Path string // for example function.description
	Have any    // nil: missing
	Want any    // nil: must be absent
}

// differences compares the fields that Ringback owns. It ignores members that Vapi
// adds, except in the schema of the arguments, which Ringback owns completely.
func differences(want vapiclient.Tool, have map[string]any) []Difference {
	if !isClosed(have) {
		want = open(want)
	}
	wanted := object(want)
	for _, name := range optional {
		if server := wanted["server"].(map[string]any); server[name] == nil {
			server[name] = nil
		}
	}
	var found []Difference
	for _, field := range slices.Sorted(maps.Keys(wanted)) {
		if field != "type" { // cannot differ
			compare(field, wanted[field], have[field], &found)
		}
	}
	return found
}

// isClosed reports whether the schema of a tool at Vapi says which other arguments it allows. Vapi's OpenAPI
// description does not have this keyword, so Vapi may refuse or drop it (OpenAIFunctionParameters, JsonSchema). A
// tool without it is therefore as good as one with it.
func isClosed(have map[string]any) bool {
	function, _ := have["function"].(map[string]any)
	schema, isObject := function["parameters"].(map[string]any)
	_, closed := schema["additionalProperties"]
	return !isObject || closed
}

// open returns a tool whose schema does not say which other arguments it allows. The tool itself checks its
// arguments in any case.
func open(t vapiclient.Tool) vapiclient.Tool {
	var schema jsonschema.Schema
	if err := json.Unmarshal(t.Function.Parameters, &schema); err != nil {
		panic(err) // Ringback has encoded it
	}
	openSchema(&schema)
	parameters, err := json.Marshal(&schema)
	if err != nil {
		panic(err)
	}
	t.Function.Parameters, t.Function.Strict = parameters, strict(parameters)
	return t
}

func openSchema(s *jsonschema.Schema) {
	s.AdditionalProperties = nil
	for _, property := range s.Properties {
		openSchema(property)
	}
	if s.Items != nil {
		openSchema(s.Items)
	}
}

// leftovers returns the members of a tool's server that Ringback does not set, such as headers. A
// former owner's headers would reach this deployment, and its Authorization would replace the
// credential (Vapi's OpenAPI: Server.headers). The values may be secrets, so they are not in the
// differences.
func leftovers(want vapiclient.Tool, have map[string]any) []Difference {
	ours := object(want.Server)
	theirs, _ := have["server"].(map[string]any)
	var found []Difference
	for _, name := range slices.Sorted(maps.Keys(theirs)) {
		members, isObject := theirs[name].(map[string]any)
		empty := theirs[name] == false || isObject && len(members) == 0
		path := "server." + name
		if ours[name] == nil && !slices.Contains(optional, name) && !empty && !nothing(path, theirs[name]) {
			found = append(found, Difference{Path: path, Have: "…"})
		}
	}
	return found
}

// optional are the members of a tool's server that must be absent unless they are set. A
// tool would otherwise get values that are still encrypted.
var optional = []string{"credentialId", "encryptedPaths"}

// object returns a value as encoding/json decodes its JSON.
func object(v any) map[string]any {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // Ringback's own types always encode
	}
	var decoded map[string]any
	if err := json.Unmarshal(text, &decoded); err != nil {
		panic(err)
	}
	return decoded
}

const schemaPath = "function.parameters"

// isSet reports whether the order of a list has no meaning.
func isSet(path string) bool {
	return strings.HasSuffix(path, ".excludedStatusCodes") || path == "server.encryptedPaths" ||
		strings.HasPrefix(path, schemaPath) && strings.HasSuffix(path, ".required")
}

func compare(path string, want, have any, found *[]Difference) {
	differ := func() { *found = append(*found, Difference{Path: path, Have: have, Want: want}) }
	if nothing(path, want) && nothing(path, have) {
		return
	}
	switch want := want.(type) {
	case map[string]any:
		had, ok := have.(map[string]any)
		if !ok {
			differ()
			return
		}
		names := slices.Collect(maps.Keys(want))
		if path == schemaPath || strings.HasPrefix(path, schemaPath+".") {
			for name := range had {
				if _, ok := want[name]; !ok {
					names = append(names, name)
				}
			}
		}
		slices.Sort(names)
		for _, name := range names {
			compare(path+"."+name, want[name], had[name], found)
		}
	case []any:
		had, ok := have.([]any)
		if !ok || len(had) != len(want) {
			differ()
			return
		}
		if isSet(path) {
			want, had = slices.Clone(want), slices.Clone(had)
			for _, list := range [][]any{want, had} {
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
		}
		var inside []Difference
		for i := range want {
			compare(fmt.Sprintf("%s.%d", path, i), want[i], had[i], &inside)
		}
		if len(inside) > 0 {
			differ()
		}
	default:
		if !reflect.DeepEqual(want, have) {
			differ()
		}
	}
}

// nothing reports whether a value means the same to Vapi as an absent one (Vapi's
// OpenAPI: async and function.strict are false by default).
func nothing(path string, v any) bool {
	if list, ok := v.([]any); ok {
		return len(list) == 0
	}
	return v == nil || v == false && (path == "async" || path == "function.strict")
}

// patch returns the request body that corrects the differences. It has complete
// top-level fields, because Vapi replaces nested objects completely. It keeps the
// other members of such an object, except those of a former owner's server.
func (c ToolChange) patch(have map[string]any, found []Difference) map[string]any {
	wanted := object(c.Body)
	body := map[string]any{}
	for _, d := range found {
		field, _, _ := strings.Cut(d.Path, ".")
		ours, isObject := wanted[field].(map[string]any)
		theirs, wasObject := have[field].(map[string]any)
		if !isObject || !wasObject || field == "server" && c.takesOver {
			body[field] = wanted[field]
			continue
		}
		merged := maps.Clone(theirs)
		if field == "server" {
			maps.DeleteFunc(merged, func(name string, _ any) bool { return slices.Contains(optional, name) })
		}
		maps.Copy(merged, ours)
		body[field] = merged
	}
	return body
}

// decode decodes a JSON object from Vapi.
func decode(raw json.RawMessage) (map[string]any, error) {
	var decoded map[string]any
	if err := json.Unmarshal(raw, &decoded); err != nil || decoded == nil {
		return nil, fmt.Errorf("the Vapi API returned something other than a JSON object")
	}
	return decoded, nil
}

// String returns the difference on one line: path: have → want. It shortens long texts
// to the part that differs.
func (d Difference) String() string {
	have, want := d.Have, d.Want
	if d.Path == "server.url" {
		if address, ok := have.(string); ok {
			have = shownURL(address)
		}
	}
	if h, ok := have.(string); ok {
		if w, ok := want.(string); ok {
			have, want = cutAlike([]rune(h), []rune(w))
		}
	}
	return d.Path + ": " + short(have) + " → " + short(want)
}

// shownURL returns a URL from Vapi, for people: without user information and the values of
// its query, which may be secrets.
func shownURL(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "an unreadable URL"
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.RawQuery != "" {
		return shown.String() + "?…"
	}
	return shown.String()
}

// cutAlike cuts the common beginning of two texts to a few characters.
func cutAlike(a, b []rune) (string, string) {
	const kept = 20
	same := 0
	for same < min(len(a), len(b)) && a[same] == b[same] {
		same++
	}
	if same <= 2*kept {
		return string(a), string(b)
	}
	return "…" + string(a[same-kept:]), "…" + string(b[same-kept:])
}

// short returns a value on one line, for people.
func short(v any) string {
	if v == nil {
		return "(missing)"
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	const most = 160
	text := []rune(strings.TrimSpace(b.String()))
	if len(text) > most {
		text = append(text[:most], '…')
	}
	return string(text)
}
