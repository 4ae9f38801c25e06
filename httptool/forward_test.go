package httptool_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
	"github.com/ringback/ringback/internal/tooltest"
)

type want = tooltest.Want

// declared returns the only tool of a file.
func declared(t testing.TB, file string, env map[string]string) asynctool.Definition {
	t.Helper()
	all, err := httptool.Parse([]byte(file), func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d tools", len(all))
	}
	return all[0]
}

// declaration declares a tool at ${URL} with more fields, one per line.
func declaration(fields ...string) string {
	lines := append([]string{"name: x", "description: d", "url: ${URL}", "schema: {type: object}"}, fields...)
	return "tools:\n  - " + strings.Join(lines, "\n    ") + "\n"
}

type request struct {
	Method, URI, Body string
	Header            map[string]string
}

func TestForwardedRequest(t *testing.T) {
	const arguments = `{"b":12345678901234567890,"a":"x & y","list":[1,{"c":null}],"no":null,"yes":true}`
	const query = "a=x+%26+y&b=12345678901234567890&list=%5B1%2C%7B%22c%22%3Anull%7D%5D&yes=true"
	key := map[string]string{"Idempotency-Key": "call-1/call_51kj"}
	withBody := map[string]string{"Idempotency-Key": "call-1/call_51kj", "Content-Type": "application/json"}
	body := `{"a":"x \u0026 y","b":12345678901234567890,"list":[1,{"c":null}],"no":null,"yes":true}`
	for name, row := range map[string]struct {
		fields []string
		want   request
	}{
		"POST by default": {nil, request{"POST", "/", body, withBody}},
		"PUT":             {[]string{"method: put"}, request{"PUT", "/", body, withBody}},
		"PATCH":           {[]string{"method: PATCH"}, request{"PATCH", "/", body, withBody}},
		"GET":             {[]string{"method: GET"}, request{"GET", "/?" + query, "", key}},
		"DELETE":          {[]string{"method: DELETE"}, request{"DELETE", "/?" + query, "", key}},
		"headers": {
			[]string{"headers: {Authorization: 'Bearer ${TOKEN}', X-Version: 2, content-type: application/vnd.shop+json}"},
			request{"POST", "/", body, map[string]string{
				"Idempotency-Key": "call-1/call_51kj", "Authorization": "Bearer s3cret", "X-Version": "2",
				"Content-Type": "application/vnd.shop+json",
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got request
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sent, _ := io.ReadAll(r.Body)
				got = request{r.Method, r.RequestURI, string(sent), map[string]string{}}
				for name := range r.Header {
					if !slices.Contains([]string{"Accept-Encoding", "User-Agent", "Content-Length", "Connection"}, name) {
						got.Header[name] = r.Header.Get(name)
					}
				}
				_, _ = w.Write([]byte("done"))
			}))
			defer service.Close()
			tool := declared(t, declaration(row.fields...), map[string]string{"URL": service.URL, "TOKEN": "s3cret\n"})
			result, err := tooltest.Call(t, t.Context(), tool, arguments)
			want{Text: "done"}.Check(t, result, err)
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An argument cannot replace a parameter of the address in the file.
func TestForwardedQueryKeepsTheFilesParameters(t *testing.T) {
	var got string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.Query().Encode()
		_, _ = w.Write([]byte("done"))
	}))
	defer service.Close()
	tool := declared(t, declaration("method: GET"), map[string]string{"URL": service.URL + "/?key=mine"})
	if _, err := tooltest.Call(t, t.Context(), tool, `{"key":"theirs","other":"1"}`); err != nil {
		t.Fatal(err)
	}
	if want := "key=mine&other=1"; got != want {
		t.Errorf("query %q, want %q", got, want)
	}
}

// The arguments in a path are identifiers, so they cannot lead elsewhere.
func TestForwardedPath(t *testing.T) {
	const refused = "The tool x was not run: id must consist of letters from A to Z and digits, with -, _ and . between " +
		"them. Check it with the caller, then call x again."
	for name, row := range map[string]struct {
		path, method, arguments string
		want                    string // the request; empty: none
		err                     string
	}{
		"POST":           {"/orders/{id}", "POST", `{"id":"A-1","no":2}`, `POST /orders/A-1 {"id":"A-1","no":2}`, ""},
		"GET":            {"/orders/{id}", "GET", `{"id":" A-1 ","no":2}`, `GET /orders/A-1?no=2 `, ""},
		"integer":        {"/{no}/{id}", "GET", `{"id":"a","no":1042}`, `GET /1042/a `, ""},
		"part":           {"/v1/order-{id}.json", "GET", `{"id":"7"}`, `GET /v1/order-7.json `, ""},
		"twice":          {"/{id}/{id}", "DELETE", `{"id":"7"}`, `DELETE /7/7 `, ""},
		"escapes":        {"/a%2Fb/{id}?k=1", "GET", `{"id":"7"}`, `GET /a%2Fb/7?k=1 `, ""},
		"escaped braces": {"/{id}?k=%7Bno%7D", "GET", `{"id":"7"}`, `GET /7?k=%7Bno%7D `, ""},
		"in the query":   {"/{id}?k={id}&n={no}&l=5", "GET", `{"id":"7","no":2,"a":"b"}`, `GET /7?a=b&k=7&l=5&n=2 `, ""},
		"query of a POST": {"/?k=x-{k}", "POST", `{"id":"7","k":"a&l=6 #"}`,
			`POST /?k=x-a%26l%3D6+%23 {"id":"7","k":"a\u0026l=6 #"}`, ""},
		"left out":         {"/?k={k}&l=5&k=0", "GET", `{"id":"7"}`, `GET /?id=7&k=0&l=5 `, ""},
		"null":             {"/?k={k}", "POST", `{"id":"7","k":null}`, `POST / {"id":"7"}`, ""},
		"not filled twice": {"/?k={k}&n={id}", "DELETE", `{"id":"7","k":"{id}"}`, `DELETE /?k=%7Bid%7D&n=7 `, ""},
		"traversal":        {"/orders/{id}", "GET", `{"id":"../admin"}`, "", refused},
		"escaped":          {"/orders/{id}", "POST", `{"id":"..%2fadmin"}`, "", refused},
		"dots":             {"/orders/{id}", "GET", `{"id":".."}`, "", refused},
		"query":            {"/orders/{id}", "GET", `{"id":"1?key=2"}`, "", refused},
		"another's brace":  {"/{id}/{no}", "GET", `{"id":"{no}","no":1}`, "", refused},
		"empty":            {"/orders/{id}", "DELETE", `{"id":""}`, "", refused},
		"negative":         {"/{no}", "GET", `{"id":"a","no":-1}`, "", strings.Replace(refused, "run: id", "run: no", 1)},
		"static":           {"/{s}", "GET", `{"id":"a","s":"+49"}`, "", "the static argument s is not an identifier"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sent, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.RequestURI + " " + string(sent)
				_, _ = w.Write([]byte("done"))
			}))
			defer service.Close()
			required := "[id]"
			for _, name := range []string{"no", "s"} {
				if strings.Contains(row.path, "{"+name+"}") {
					required = "[id, '" + name + "']"
				}
			}
			file := strings.NewReplacer("${URL}", "'${URL}"+row.path+"'", "{type: object}", "{type: object, required: "+
				required+", properties: {id: {type: string}, 'no': {type: integer}, s: {type: string}, k: {type: string}}}").
				Replace(declaration("method: "+row.method, "static: {s: '{{customer.number}}'}"))
			_, err := tooltest.Call(t, t.Context(), declared(t, file, map[string]string{"URL": service.URL}), row.arguments)
			if got != row.want || (err != nil) != (row.err != "") || err != nil && err.Error() != row.err {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
}

func TestForwardedAnswer(t *testing.T) {
	for name, row := range map[string]struct {
		field, body string
		status      int
		want        want
	}{
		"text":                {"", " It's done.\n", 200, want{Text: "It's done."}},
		"text of 201":         {"", "made", 201, want{Text: "made"}},
		"JSON as text":        {"", `{"a":1}`, 200, want{Text: `{"a":1}`}},
		"not UTF-8":           {"", "caf\xe9", 200, want{Text: "caf"}},
		"nothing":             {"", "\n", 200, want{Log: "has no text"}},
		"no content":          {"", "", 204, want{Log: "has no text"}},
		"too long":            {"", strings.Repeat("x", 256<<10+1), 200, want{Log: "longer than 262144 bytes"}},
		"as long as it may":   {"", strings.Repeat("x", 256<<10), 200, want{Text: strings.Repeat("x", 256<<10)}},
		"field":               {"a", `{"a":"é\n","b":2}`, 200, want{Text: "é"}},
		"dotted field":        {"a.b.c", `{"a":{"b":{"c":"deep"}}}`, 200, want{Text: "deep"}},
		"number":              {"a", `{"a":12345678901234567890.10}`, 200, want{Text: "12345678901234567890.10"}},
		"object":              {"a", `{"a":{"b":[1]}}`, 200, want{Text: `{"b":[1]}`}},
		"boolean":             {"a", `{"a":false}`, 200, want{Text: "false"}},
		"field is missing":    {"a.b", `{"a":{}}`, 200, want{Log: "with the field a.b"}},
		"field below a text":  {"a.b", `{"a":"b"}`, 200, want{Log: "with the field a.b"}},
		"field is null":       {"a", `{"a":null}`, 200, want{Log: "null in the field a"}},
		"field is empty":      {"a", `{"a":""}`, 200, want{Log: "has no text"}},
		"not JSON":            {"a", `<html>`, 200, want{Log: "not JSON"}},
		"list":                {"a", `[{"a":1}]`, 200, want{Log: "not JSON"}},
		"item of a list":      {"items.1.name", `{"items":[{"name":"a"},{"name":"b"}]}`, 200, want{Text: "b"}},
		"list at the top":     {"0.a", `[{"a":1}]`, 200, want{Text: "1"}},
		"list of lists":       {"'1.0'", `[[1],["x"]]`, 200, want{Text: "x"}},
		"number as a name":    {"a.0", `{"a":{"0":"b"}}`, 200, want{Text: "b"}},
		"beyond the list":     {"a.2", `{"a":[1,2]}`, 200, want{Log: "with the field a.2"}},
		"before the list":     {"a.-1", `{"a":[1,2]}`, 200, want{Log: "with the field a.-1"}},
		"name in a list":      {"a.b", `{"a":[{"b":1}]}`, 200, want{Log: "with the field a.b"}},
		"item of a text":      {"a.0", `{"a":"text"}`, 200, want{Log: "with the field a.0"}},
		"item is null":        {"a.0", `{"a":[null]}`, 200, want{Log: "null in the field a.0"}},
		"not found":           {"a", `{"a":"b"}`, 404, want{Log: "404 Not Found"}},
		"unauthorised":        {"", "no", 401, want{Log: "401 Unauthorized"}},
		"too many":            {"", "no", 429, want{Retry: true, After: 3 * time.Second}},
		"broken":              {"", "no", 502, want{Retry: true, After: 3 * time.Second}},
		"unprocessable":       {"", "secret answer", 422, want{Log: "422 Unprocessable Entity"}},
		"a status of its own": {"", "no", 299, want{Text: "no"}},
	} {
		t.Run(name, func(t *testing.T) {
			service := tooltest.Answering(t, row.status, row.body, "Retry-After", "3")
			fields := []string{"headers: {X-Key: k3y}"}
			if row.field != "" {
				fields = append(fields, "answer: "+row.field)
			}
			tool := declared(t, declaration(fields...), map[string]string{"URL": service.URL})
			result, err := tooltest.Call(t, t.Context(), tool, `{"said":"4711"}`)
			row.want.Check(t, result, err)
			if result.External != (err == nil) {
				t.Errorf("%+v does not say whose text it is", result)
			}
			if err != nil {
				for _, private := range []string{"k3y", "4711", "secret", service.URL} {
					if strings.Contains(err.Error(), private) {
						t.Errorf("the error holds %q: %v", private, err)
					}
				}
			}
		})
	}
}

func TestForwardedTexts(t *testing.T) {
	const template = "text: The plate is {plate}, at gate {gates.0.name}."
	const failures = "texts: {404: There is no such booking., 503: We are closed.}"
	const reported = "error_answer: error.message"
	for name, row := range map[string]struct {
		fields []string
		status int
		body   string
		want   want
		// whether it is the service's text
		external bool
	}{
		"template": {[]string{template}, 200, `{"plate":" B-1 ","gates":[{"name":7}]}`,
			want{Text: "The plate is B-1, at gate 7."}, true},
		"a field with braces": {[]string{template}, 200, `{"plate":"{gates}","gates":[{"name":7}]}`,
			want{Text: "The plate is {gates}, at gate 7."}, true},
		"no field": {[]string{template}, 200, `{"plate":"B-1"}`, want{Log: "with the field gates.0.name"}, false},
		"an empty field": {[]string{template}, 200, `{"plate":"","gates":[{"name":7}]}`, want{Log: "plate is empty"},
			false},
		"without fields": {[]string{"text: It's cancelled."}, 204, "", want{Text: "It's cancelled."}, false},
		"by status":      {[]string{failures}, 404, "", want{Spoken: "There is no such booking.", Log: "404"}, false},
		"of another":     {[]string{failures}, 409, "", want{Log: "409 Conflict"}, false},
		"of a retry": {[]string{failures}, 503, "", want{Spoken: "We are closed.", Retry: true,
			After: 3 * time.Second}, false},
		"not an error": {[]string{failures, "answer: a"}, 200, `{"a":"b"}`, want{Text: "b"}, true},
		"reported":     {[]string{reported}, 409, `{"error":{"message":" Sold out. "}}`, want{Spoken: "Sold out."}, true},
		"reported with OK": {[]string{reported}, 200, `{"error":{"message":"Sold out."}}`,
			want{Spoken: "Sold out.", Log: "reported an error in the field error.message"}, true},
		"nothing reported": {[]string{reported}, 200, `{"error":null}`, want{Text: `{"error":null}`}, true},
		"not a text": {[]string{reported}, 400, `{"error":{"message":{"a":1}}}`, want{Log: "400 Bad Request"},
			false},
		"not JSON":            {[]string{reported}, 500, `<html>`, want{Retry: true, After: 3 * time.Second}, false},
		"too long to be read": {[]string{reported}, 400, strings.Repeat(" ", 300<<10), want{Log: "400 Bad Request"}, false},
		"by status first": {[]string{reported, failures}, 404, `{"error":{"message":"x"}}`,
			want{Spoken: "There is no such booking."}, false},
	} {
		t.Run(name, func(t *testing.T) {
			service := tooltest.Answering(t, row.status, row.body, "Retry-After", "3")
			tool := declared(t, declaration(row.fields...), map[string]string{"URL": service.URL})
			result, err := tooltest.Call(t, t.Context(), tool, `{}`)
			row.want.Check(t, result, err)
			said, failed := errors.AsType[*asynctool.Error](err)
			if result.External != (row.external && !failed) || failed && said.External != row.external {
				t.Errorf("%+v, %+v do not say whose text it is", result, said)
			}
		})
	}
}

// Services answer in the encodings of their countries and systems.
func TestForwardedEncoding(t *testing.T) {
	for name, row := range map[string]struct {
		field, contentType, body string
		want                     want
	}{
		"UTF-8":           {"", "text/plain; charset=utf-8", "Größe", want{Text: "Größe"}},
		"no charset":      {"a", "application/json", `{"a":"Größe"}`, want{Text: "Größe"}},
		"no Content-Type": {"", "", "Größe", want{Text: "Größe"}},
		"ISO 8859-1":      {"", "text/plain; charset=ISO-8859-1", "Gr\xf6\xdfe", want{Text: "Größe"}},
		"ISO 8859-1, JSON": {"a", `application/json;charset="iso-8859-1"`, "{\"a\":\"Gr\xf6\xdfe\"}",
			want{Text: "Größe"}},
		"Windows 1252":        {"", "text/plain; charset=windows-1252", "9 \x80", want{Text: "9 €"}},
		"Shift JIS":           {"", "text/plain; charset=Shift_JIS", "\x93\xfa\x96\x7b", want{Text: "日本"}},
		"UTF-16":              {"a", "x/json; charset=utf-16le", "{\x00\"\x00a\x00\"\x00:\x001\x00}\x00", want{Text: "1"}},
		"BOM of UTF-8":        {"a", "application/json", "\xef\xbb\xbf" + `{"a":"é"}`, want{Text: "é"}},
		"BOM before a text":   {"", "", "\xef\xbb\xbfdone", want{Text: "done"}},
		"BOM of UTF-16":       {"a", "application/json", "\xfe\xff\x00{\x00\"\x00a\x00\"\x00:\x001\x00}", want{Text: "1"}},
		"BOM against charset": {"", "text/plain; charset=iso-8859-1", "\xef\xbb\xbfé", want{Text: "é"}},
		"BOM alone":           {"", "", "\xef\xbb\xbf", want{Log: "has no text"}},
		"unknown charset":     {"", "text/plain; charset=klingon", "Größe", want{Text: "Größe"}},
		"unknown, not UTF-8":  {"", "text/plain; charset=klingon", "Gr\xf6", want{Log: "Content-Type is unknown"}},
		"with a mistake":      {"", "text/plain; charset=iso-8859-1; x", "é", want{Text: "é"}},
		"not a Content-Type":  {"", ";;;", "é", want{Text: "é"}},
	} {
		t.Run(name, func(t *testing.T) {
			service := tooltest.Answering(t, 200, row.body, "Content-Type", row.contentType)
			var fields []string
			if row.field != "" {
				fields = append(fields, "answer: "+row.field)
			}
			tool := declared(t, declaration(fields...), map[string]string{"URL": service.URL})
			result, err := tooltest.Call(t, t.Context(), tool, `{}`)
			row.want.Check(t, result, err)
		})
	}
}

func TestForwardedUnreachable(t *testing.T) {
	address := tooltest.ClosedAddress(t) + "/?key=k3y"
	result, err := tooltest.Call(t, t.Context(), declared(t, declaration(), map[string]string{"URL": address}), `{}`)
	want{Retry: true, Log: "did not respond: it refused the connection"}.Check(t, result, err)
	if strings.Contains(err.Error(), "k3y") {
		t.Errorf("the error holds the address: %v", err)
	}
}

// A redirect must not carry headers and arguments to another host.
func TestForwardedRedirects(t *testing.T) {
	elsewhere, requests := tooltest.Counting(t)
	service := tooltest.Answering(t, http.StatusTemporaryRedirect, "", "Location", elsewhere.URL)
	result, err := tooltest.Call(t, t.Context(), declared(t, declaration(), map[string]string{"URL": service.URL}), `{}`)
	want{Log: "307 Temporary Redirect"}.Check(t, result, err)
	if n := requests.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
}

func TestForwardedIsNotSetUp(t *testing.T) {
	service, requests := tooltest.Counting(t)
	file := strings.NewReplacer("${URL}", "'${URL}/{id}'",
		"{type: object}", "{type: object, required: [id], properties: {id: {type: string}}}").
		Replace(declaration("headers: {X-Key: '${KEY}', X-Both: '${KEY}${OTHER}'}"))
	complete := map[string]string{"URL": service.URL, "KEY": "k3y", "OTHER": "0ther"}
	for name, row := range map[string]struct{ set, to, log string }{
		"no address":           {"URL", "", "not set in the environment: URL"},
		"no header":            {"KEY", " ", "not set in the environment: KEY"},
		"one of two":           {"OTHER", "", "not set in the environment: OTHER"},
		"not an address":       {"URL", "k3y", "is not an address"},
		"path in the query":    {"URL", service.URL + "/?a=", "has {id} outside its path"},
		"line break in header": {"KEY", "a\nk3y", "control character"},
	} {
		t.Run(name, func(t *testing.T) {
			env := maps.Clone(complete)
			env[row.set] = row.to
			result, err := tooltest.Call(t, t.Context(), declared(t, file, env), `{"id":"1"}`)
			want{Spoken: "I'm sorry, this service isn't available right now.", Log: row.log}.Check(t, result, err)
			if strings.Contains(err.Error(), "k3y") || strings.Contains(err.Error(), "0ther") {
				t.Errorf("the error holds a setting: %v", err)
			}
		})
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestForwardedLimits(t *testing.T) {
	file := declaration("timeout: 90s", "attempts: 4", "delivery: say", "failure_text: Sorry.")
	set, err := asynctool.NewSet(declared(t, file, nil))
	if err != nil {
		t.Fatal(err)
	}
	e := set.Entries()[0]
	got := []any{e.Name, e.Description, e.Timeout, e.Attempts, e.Delivery, e.FailureText}
	if diff := cmp.Diff([]any{"x", "d", 90 * time.Second, 4, asynctool.Say, "Sorry."}, got); diff != "" {
		t.Error(diff)
	}
	set, err = asynctool.NewSet(declared(t, declaration("sync_ack: true", "quick: 6s"), nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]time.Duration{"x": 6 * time.Second}, set.Quick()); diff != "" {
		t.Error(diff)
	}
	// The schema is checked before a request is sent.
	service, requests := tooltest.Counting(t)
	tool := declared(t, `{"tools": [{"name": "x", "description": "d", "url": "`+service.URL+`",
		"schema": {"type": "object", "required": ["n"],
			"properties": {"n": {"type": "integer", "description": "how many"}}}}]}`, nil)
	_, err = tooltest.Call(t, t.Context(), tool, `{"n":"many"}`)
	const want = "The tool x was not run: n (how many) must be a whole number. " +
		"Ask the caller for what you do not know, then call x again."
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestForwardedAtVapi(t *testing.T) {
	set, err := asynctool.NewSet(declared(t, `{"tools": [{"name": "x", "description": "d", "url": "${URL}",
		"sync_ack": true, "hide_arguments": true, "cancellable": true,
		"static": {"caller": "{{customer.number}}"}, "schema": {"type": "object", "properties":
		{"caller": {"type": "string"}, "city": {"type": "string"}}, "required": ["caller", "city"]}}]}`, nil))
	if err != nil {
		t.Fatal(err)
	}
	e := set.Entries()[0]
	if !e.SyncAck || !e.HideArguments || !e.Cancellable || e.Static["caller"] != "{{customer.number}}" {
		t.Errorf("sync_ack %t, hide_arguments %t, cancellable %t, static %v",
			e.SyncAck, e.HideArguments, e.Cancellable, e.Static)
	}
	if shown := e.ModelSchema(); shown.Properties["caller"] != nil || shown.Properties["city"] == nil {
		t.Errorf("the model sees %v", shown.Properties)
	}
}

// TestForwardedKeyToTheCall declares static arguments. None of them may give a service the id or the control URL of the
// call.
func TestForwardedKeyToTheCall(t *testing.T) {
	for template, refused := range map[string]bool{
		"{{call.id}}": true, "{{ call . id }}": true, "{{-call.id-}}": true, "{{call.id | upcase}}": true,
		"{{call.monitor.controlUrl}}": true, "{{ call['id'] }}": true, "{{ call }}": true, "{{ call | json }}": true,
		"shop-1 {{ customer.name }} {{call.id}}": true, "{% assign c = call %}{{ c.id }}": true,

		"{{customer.number}}": false, "{{call.type}}": false, "{{ call.customer.number }}": false, "call.id": false,
		"{{ recall.id }}": false, "{{ 'a call centre' }}": false, "{{ call_id }}": false, "{{call.idle}}": false,
	} {
		file, err := json.Marshal(map[string]any{"tools": []any{map[string]any{
			"name": "x", "description": "d", "url": "https://a.example", "static": map[string]string{"s": template},
			"schema": map[string]any{"type": "object", "properties": map[string]any{"s": map[string]string{"type": "string"}}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = httptool.Parse(file, func(string) string { return "" })
		if (err != nil) != refused || refused && !strings.Contains(err.Error(), "the key to the call") {
			t.Errorf("%s: %v, want an error: %t", template, err, refused)
		}
	}
}

// TestForwardedEncrypted: the plain values are in the body, and never in an address.
func TestForwardedEncrypted(t *testing.T) {
	const encrypted = "encrypted: [card, pay.iban]"
	schema := func(fields ...string) string {
		return strings.Replace(declaration(fields...), "{type: object}", "{type: object, required: [card], properties: "+
			"{card: {type: string}, pay: {type: object, properties: {iban: {type: string}}}}}", 1)
	}
	for name, row := range map[string]struct {
		file string
		want string // the error; empty means that the file is valid
	}{
		"in the body":      {schema(encrypted), ""},
		"GET":              {schema(encrypted, "method: GET"), "GET sends the encrypted arguments in the url"},
		"DELETE":           {schema(encrypted, "method: delete"), "DELETE sends the encrypted arguments in the url"},
		"in the path":      {strings.Replace(schema(encrypted), "${URL}", "'${URL}/{card}'", 1), "argument {card}"},
		"not in the path":  {strings.Replace(schema("encrypted: [pay.iban]"), "${URL}", "'${URL}/{card}'", 1), ""},
		"not an argument":  {schema("encrypted: [cvc]"), `tool 1, "x": the encrypted argument cvc is not an argument`},
		"not a list":       {schema("encrypted: card"), "encrypted"},
		"an object":        {schema("encrypted: [pay]"), "must be a string"},
		"GET without some": {schema("encrypted: []", "method: GET"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			definitions, err := httptool.Parse([]byte(row.file), func(string) string { return "http://127.0.0.1" })
			if row.want != "" {
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("%v, want %s", err, row.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			set, err := asynctool.NewSet(definitions...)
			if err != nil {
				t.Fatal(err)
			}
			if name == "in the body" && strings.Join(set.Encrypted()["x"], " ") != "card pay.iban" {
				t.Errorf("encrypted: %q", set.Encrypted())
			}
		})
	}
}

// login and polling declare a tool with oauth2 and with poll.
func login(fields ...string) string {
	return declaration("oauth2:", "  "+strings.Join(fields, "\n      "))
}

func polling(fields ...string) string {
	return declaration("poll:", "  "+strings.Join(fields, "\n      "))
}

const credentials = "token_url: '${LOGIN}'\n      client_id: '${ID}'\n      client_secret: '${SECRET}'"

func TestForwardedFileErrors(t *testing.T) {
	const none = "schema: {type: object}"
	schema := func(schema string) string { return strings.Replace(declaration(), "{type: object}", schema, 1) }
	properties := func(properties string) string { return schema("{type: object, properties: {" + properties + "}}") }
	url := func(url string) string { return strings.Replace(declaration(), "${URL}", url, 1) }
	for name, row := range map[string]struct{ file, want string }{
		"not YAML":              {"tools: [", "line 1: did not find expected node content"},
		"unknown field outside": {"\ntool: []", `line 2: unknown field "tool"`},
		"tools is no list":      {"# tools\ntools: {a: b}", "line 2: the field tools has the wrong type (object)"},
		"a tool is no object":   {"tools: [x]", `tool 1, "": `},
		"unknown field": {declaration("retries: 3"),
			`line 6: tool 1, "x": unknown field "retries"`},
		"repeated field": {declaration("url: https://a.example"), `line 6: tool 1, "x": the field "url" is set twice`},
		"second tool":    {declaration() + "  - {name: z, colour: red}", `tool 2, "z": `},
		"two of one name": {declaration() + "  - {name: x, description: d, url: 'https://a.example', " + none + "}",
			`line 6: tool 2, "x": two tools have this name`},
		"no name": {"tools: [{description: d, url: 'https://a.example', " + none + "}]",
			`tool "": the name must be`},
		"no description": {"tools: [{name: x, url: 'https://a.example', " + none + "}]",
			`line 1: tool 1, "x": the description is empty`},
		"no schema": {"tools: [{name: x, description: d, url: 'https://a.example'}]",
			`tool 1, "x": the schema is missing`},
		"schema of a text": {schema("{type: string}"), `tool 1, "x": the input must be`},
		"schema with a typo": {schema("{type: object, requierd: [a]}"),
			`tool 1, "x": schema: JSON Schema has no keyword "requierd"`},
		"typo in a property": {properties("a: {items: {minimun: 1}}"),
			`schema.a[]: JSON Schema has no keyword "minimun"`},
		"property without schema": {properties("a: "), `tool 1, "x": schema.a is empty`},
		"argument called y":       {properties("y: {type: number}"), "schema: the name of an argument was read as true"},
		"enum of yes and no": {properties("a: {type: string, enum: [yes, no]}"),
			"schema.a: the value true of the enum is not a text"},
		"wrong pattern":              {properties("a: {pattern: '('}"), `tool 1, "x": the JSON schema is not valid`},
		"argument that is not there": {url("https://a.example/{id}"), "the url has {id}, which is not an argument"},
		"argument without a name":    {url("https://a.example/{}"), "the url has {}, which is not an argument"},
		"optional in the path": {strings.Replace(properties("id: {type: string}"), "${URL}", "https://a.example/{id}", 1),
			"the argument id in the url must be required"},
		"list in the path": {strings.Replace(properties("id: {type: array}"), "${URL}", "'${URL}/{id}'", 1),
			"the argument id in the url must have the type string or integer"},
		"argument as the host": {strings.Replace(schema("{type: object, required: [id], properties: {id: {type: string}}}"),
			"${URL}", "https://{id}.example/", 1), "the url is not an address"},
		"unknown in the query": {url("https://a.example/?a={id}"), "the url has {id}, which is not an argument"},
		"list in the query": {strings.Replace(properties("id: {type: array}"), "${URL}", "'${URL}?a={id}'", 1),
			"the argument id in the url must have the type string, integer, number or boolean"},
		"argument as a parameter": {strings.Replace(properties("id: {type: string}"), "${URL}", "'${URL}?{id}=a'", 1),
			"the url has {id} in the name of a parameter"},
		"text and answer":       {declaration("answer: a", "text: a"), "line 7: tool 1, \"x\": both text and answer"},
		"text with a brace":     {declaration("text: a {b"), "the text has a brace without its counterpart"},
		"text without a field":  {declaration("text: 'a {}'"), "the text has {}, which must be a field's name"},
		"texts of a success":    {declaration("texts: {200: a}"), `texts has "200"; it must be a status from 300 to 599`},
		"empty text":            {declaration("texts:", "  404: ''"), `line 7: tool 1, "x": the text for the status 404`},
		"error_answer":          {declaration("error_answer: .a"), `the error_answer is ".a"`},
		"not_started":           {declaration("not_started: [202]"), "not_started has 202"},
		"deadline without unit": {declaration("deadline: 90"), `line 6: tool 1, "x": the deadline is "90"`},
		"after_call":            {declaration("after_call: never"), `the after-call policy is "never"`},
		"wrong type": {declaration("attempts: many"),
			`line 6: tool 1, "x": the field attempts has the wrong type`},
		"in the schema":        {declaration() + "    static: {a: b}", "the static parameter a is not"},
		"oauth2 without a URL": {login("client_id: a", "client_secret: b"), "oauth2: the token_url is missing"},
		"oauth2 with a slip": {login("token_url: '${A-B}'", "client_id: a", "client_secret: b"),
			"oauth2.token_url has a ${"},
		"oauth2 with a path": {login("token_url: /token", "client_id: a", "client_secret: b"),
			"the oauth2.token_url is not an address"},
		"oauth2, unknown field": {login("token_uri: a"), `line 7: tool 1, "x": unknown field "token_uri"`},
		"a second document":     {declaration() + "---\ntools: []", "line 6: the file has a second YAML document"},
		"oauth2, setting in a scope": {
			login(credentials, "scopes: ['${S}']"), `oauth2: the scope "${S}" has a setting`,
		},
		"oauth2, two scopes": {login(credentials, "scopes: ['a b']"), `oauth2: the scope "a b" is not one word`},
		"oauth2, grant": {login(credentials, "params: {grant_type: password}"),
			"the parameter grant_type cannot be set"},
		"oauth2, credentials_in": {login(credentials, "credentials_in: cookie"),
			`line 10: tool 1, "x": oauth2: credentials_in is "cookie"`},
		"oauth2 and a header": {login(credentials) + "    headers: {authorization: a}",
			"oauth2 sets the header Authorization"},
		"poll too often": {polling("every: 10ms"),
			`line 7: tool 1, "x": poll.every is 10ms; it must be between 1s and 1h`},
		"poll without a unit":    {polling("every: 10"), `the poll.every is "10"`},
		"poll without status":    {polling("done: [a]"), "done and failed are values of the field status"},
		"poll without done":      {polling("status: a"), "the values of status that mean done are missing"},
		"poll done and failed":   {polling("status: a", "done: [a]", "failed: [a]"), `poll: "a" means both`},
		"poll, status":           {polling("status: a..b", "done: [a]"), `poll.status is "a..b"`},
		"poll, link":             {polling("url: '{}'"), "the poll.url has {}"},
		"poll, no job":           {polling("url: https://a.example/jobs"), "the poll.url has no {field} of the answer"},
		"poll, not an address":   {polling("url: /jobs/{id}"), "the poll.url is not an address"},
		"no url":                 {"tools: [{name: x, description: d, " + none + "}]", "the url is not an address"},
		"url of a file":          {url("file:///etc/passwd"), "the url is not an address"},
		"url with a slip":        {url("${URL/x"), "the url has a ${"},
		"method":                 {declaration("method: TRACE"), `the method is "TRACE"`},
		"timeout without a unit": {declaration("timeout: 90"), `the timeout is "90"; write it like 90s`},
		"quick without a unit":   {declaration("quick: 6"), `the quick time is "6"; write it like 6s`},
		"quick too long":         {declaration("quick: 26s"), `tool 1, "x": Quick is 26s`},
		"timeout too long":       {declaration("timeout: 1h"), `tool 1, "x": the timeout is 1h0m0s`},
		"attempts":               {declaration("attempts: 11"), `tool 1, "x": the number of attempts is 11`},
		"delivery":               {declaration("delivery: shout"), `tool 1, "x": the delivery is "shout"`},
		"answer":                 {declaration("answer: a..b"), `the answer is "a..b"`},
		"header's name":          {declaration("headers: {'a b': c}"), `"a b" is not the name of a header`},
		"header of ours": {declaration("headers: {idempotency-key: c}"),
			"the header idempotency-key cannot be set"},
		"header that is ignored": {declaration("headers: {Host: c}"), "the header Host cannot be set"},
		"header twice":           {declaration("headers: {X-A: c, x-a: d}"), "the header x-a occurs twice"},
		"header with a slip":     {declaration("headers: {X-A: '${A-B}'}"), "the header X-A has a ${"},
		"header with line break": {declaration(`headers: {X-A: "a\nb"}`), "the header X-A contains a line break"},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := httptool.Parse([]byte(row.file), func(string) string { return "" })
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %d tools, %v\nwant %q", len(all), err, row.want)
			}
		})
	}
}

// The error of a file is as editors read it.
func TestForwardedFileErrorsNameTheFile(t *testing.T) {
	second := strings.Replace(declaration(), "tools:\n", "", 1)
	for name, row := range map[string]struct{ file, content, want string }{
		"YAML": {"http.yaml", declaration("colour: red"), `http.yaml:6: tool 1, "x": unknown field "colour"`},
		"second tool": {"http.yml", declaration() + strings.Replace(second, "name: x", "name: z", 1) + "    method: GOT\n",
			`http.yml:10: tool 2, "z": the method is "GOT"; it must be GET, POST, PUT, PATCH or DELETE`},
		"JSON": {"http.json", "{\"tools\": [\n  {\"name\": \"x\",\n   \"timeout\": 3}]}",
			`http.json:2: tool 1, "x": the schema is missing; for a tool without arguments, write {type: object}`},
		"tabs": {"http.json",
			"{\n\t\"tools\": [\n\t\t{\"name\": \"x\",\n\t\t\"schema\": {\"type\": \"object\"}, \"method\": \"GOT\"}]}",
			`http.json:4: tool 1, "x": the method is "GOT"; it must be GET, POST, PUT, PATCH or DELETE`},
		"syntax": {"http.yaml", "tools:\n  - name: [x\n    url: a\n",
			"http.yaml:2: tool 1, \"\": did not find expected ',' or ']'"},
		"repeated": {"http.yaml", declaration("url: a"), `http.yaml:6: tool 1, "x": the field "url" is set twice`},
	} {
		t.Run(name, func(t *testing.T) {
			folder := fstest.MapFS{row.file: &fstest.MapFile{Data: []byte(row.content)}}
			if _, err := httptool.Tools(folder, func(string) string { return "" }); err == nil || err.Error() != row.want {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}

func TestForwardedEmptyFiles(t *testing.T) {
	for _, file := range []string{
		"", "# nothing yet\n", "tools:", "tools: []", `{"tools": []}`, "{\n\t\"tools\": [\n\t]\n}\n",
	} {
		if all, err := httptool.Parse([]byte(file), func(string) string { return "" }); err != nil || len(all) != 0 {
			t.Errorf("%q: %d tools, %v", file, len(all), err)
		}
	}
}

func FuzzForwarded(f *testing.F) {
	f.Add([]byte(declaration("method: GET", "headers: {X-A: '${A}'}", "timeout: 2m", "answer: a.b")),
		"https://shop.example")
	f.Add([]byte(`{"tools":[{"name":"x","description":"d","url":"https://a.example",`+
		`"schema":{"type":"object","properties":{"a":{"items":{}}}}}]}`), "")
	f.Add([]byte(polling("url: '${A}/{job.id}?a={b}'", "every: 5s", "status: a", "done: [b]")+
		"    text: 'a {b.0}'\n    texts: {404: c}\n    not_started: [429]\n"), "https://shop.example")
	f.Add([]byte(login(credentials, "scopes: [a]", "params: {b: '${C}'}")), "https://shop.example")
	f.Add([]byte("tools: [{schema: {properties: {a: null}}}]"), "x")
	f.Add([]byte("tools: [null]"), "\n")
	f.Add([]byte("a: &a [*a]\ntools: *a"), "")
	f.Fuzz(func(t *testing.T, file []byte, value string) {
		all, err := httptool.Parse(file, func(string) string { return value })
		if err != nil {
			if len(all) != 0 {
				t.Fatalf("%d tools with the error %v", len(all), err)
			}
			return
		}
		// Accepted tools can be deployed.
		if _, err := asynctool.NewSet(all...); err != nil {
			t.Fatal(err)
		}
	})
}
