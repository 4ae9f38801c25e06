package httptool_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
	"github.com/ringback/ringback/internal/tooltest"
)

// fields declares a tool with exactly these fields, besides its name and description, and an optional schema.
func fields(lines ...string) string {
	if !strings.Contains(strings.Join(lines, "\n"), "schema: ") {
		lines = append(lines, "schema: {type: object}")
	}
	return "tools:\n  - name: x\n    description: d\n    " + strings.Join(lines, "\n    ") + "\n"
}

const withID = "schema: {type: object, required: [id], properties: {id: {type: string}}}"

// TestInvalidSettings checks values as a deployment does: some of them are unknown until then. Whatever is refused
// would fail in each call, and no error has a value.
func TestInvalidSettings(t *testing.T) {
	const (
		unknown    = "(unknown)"
		notAddress = " is not an address like https://shop.example.com/api"
		notURL     = "the url" + notAddress
		control    = "contains a line break or another control character"
	)
	base := []string{"url: '${BASE}/a'"}
	path := []string{"url: '${BASE}/a/{id}'", withID}
	header := []string{"url: https://shop.example.com", "headers: {X-A: 'a ${A}', X-B: '${B}${A}'}"}
	login := []string{"url: https://shop.example.com", "oauth2:", "  token_url: '${BASE}'", "  client_id: '${A}'",
		"  client_secret: '${B}'"}
	job := []string{"url: https://shop.example.com", "poll: {url: '${BASE}/jobs/{id}'}"}
	one := func(what string) []string { return []string{"BASE: the " + what} }
	for name, row := range map[string]struct {
		file []string
		env  string   // NAME=value, with commas between them
		want []string // NAME: reason
	}{
		"valid":                   {base, "BASE=https://shop.example.com", nil},
		"http":                    {base, "BASE=http://127.0.0.1:8080", nil},
		"with a line break":       {base, "BASE=https://shop.example.com\n", nil},
		"missing":                 {base, "", nil},
		"unknown":                 {base, "BASE=" + unknown, nil},
		"without a scheme":        {base, "BASE=tables.example.com", []string{"BASE: " + notURL}},
		"a port without a scheme": {base, "BASE=localhost:8080", []string{"BASE: " + notURL}},
		"another scheme":          {base, "BASE=ftp://shop.example.com", []string{"BASE: " + notURL}},
		"one slash":               {base, "BASE=https:/shop.example.com", []string{"BASE: " + notURL}},
		"without a host":          {base, "BASE=https://", []string{"BASE: " + notURL}},
		"a port out of range":     {base, "BASE=https://shop.example.com:99999", []string{"BASE: " + notURL}},
		"port 0":                  {base, "BASE=https://shop.example.com:0", []string{"BASE: " + notURL}},
		"a port that is a word":   {base, "BASE=https://shop.example.com:port", []string{"BASE: " + notURL}},
		"not filled in":           {base, "BASE=https://<your shop>", []string{"BASE: " + notURL}},
		"brackets":                {base, "BASE=https://<shop>.example.com", []string{"BASE: " + notURL}},
		"a secret's ARN": {base, "BASE=arn:aws:secretsmanager:eu-west-1:111122223333:secret:s-AbCdEf",
			[]string{"BASE: " + notURL}},

		"a secret in the query": {[]string{"url: '${BASE}/a?key=${A}'"}, "BASE=tables.example.com,A=" + unknown,
			[]string{"BASE: " + notURL}},
		"a secret in the path": {[]string{"url: '${BASE}/${A}/b'"}, "BASE=tables.example.com,A=" + unknown,
			[]string{"BASE: " + notURL}},
		"a wrong port before a secret": {[]string{"url: '${BASE}/${A}'"}, "BASE=https://a.example:port,A=" + unknown,
			[]string{"BASE: " + notURL}},
		"both in the query": {[]string{"url: '${BASE}/a?key=${A}'"}, "BASE=tables.example.com,A=k3y",
			[]string{"BASE: " + notURL}},
		"the host is unknown":   {[]string{"url: '${A}://${BASE}/a'"}, "A=https,BASE=" + unknown, nil},
		"the scheme is wrong":   {[]string{"url: '${A}://${BASE}/a'"}, "A=ftp,BASE=" + unknown, []string{"A: " + notURL}},
		"the scheme is unknown": {[]string{"url: '${A}://${BASE}/a'"}, "A=" + unknown + ",BASE=shop.example.com", nil},
		"the port is unknown":   {[]string{"url: '${A}:${B}/a'"}, "A=https://a.example,B=" + unknown, nil},
		"a password is unknown": {[]string{"url: 'https://${A}:${B}@a.example'"}, "A=me,B=" + unknown, nil},
		"a scheme in two parts": {[]string{"url: 'http${A}'"}, "A=" + unknown, nil},
		"a slash is unknown":    {[]string{"url: 'https:/${A}'"}, "A=" + unknown, nil},
		"two values": {[]string{"url: 'https://${A}:${B}/a'"}, "A=a.example:80,B=80",
			[]string{"A and B: " + notURL}},
		"one value twice":       {[]string{"url: 'https://${A}:${A}/a'"}, "A=a.example", []string{"A: " + notURL}},
		"an escape in the path": {[]string{"url: 'https://a.example/%4${A}'"}, "A=" + unknown, nil},

		"the path":          {path, "BASE=https://shop.example.com/v1", nil},
		"a query before it": {path, "BASE=https://shop.example.com?a=", one("url has {id} outside its path")},
		"a mark before it":  {path, "BASE=https://shop.example.com#", one("url has {id} outside its path")},
		"an unknown path":   {path, "BASE=" + unknown, nil},
		"the query":         {[]string{"url: '${BASE}?a={id}'", withID}, "BASE=https://shop.example.com", nil},
		"a mark before a name": {[]string{"url: '${BASE}?a={id}'", withID}, "BASE=https://shop.example.com#",
			one("url has {id} outside its query")},

		"headers": {header, "A=s3cret\n,B=s3cret", nil},
		"a line break in a header": {header, "A=s3cret\nX: y,B=s3cret",
			[]string{"A: the header X-A " + control, "A: the header X-B " + control}},
		"a control character after a secret": {header, "A=" + unknown + ",B=a\x00s3cret",
			[]string{"B: the header X-B " + control}},

		"login":              {login, "BASE=https://login.example.com/token,A=a\nb,B=s3cret\x00", nil},
		"a login's address":  {login, "BASE=login.example.com,A=a,B=" + unknown, one("oauth2.token_url" + notAddress)},
		"a job":              {job, "BASE=https://jobs.example.com", nil},
		"a job's address":    {job, "BASE=jobs.example.com", one("poll.url" + notAddress)},
		"a job in the query": {job, "BASE=https://jobs.example.com?a=", one("poll.url has {id} outside its path")},
		"everything is wrong": {append(login, "headers: {X-A: '${A}'}"), "BASE=s3cret,A=a\nb,B=s3cret",
			[]string{"A: the header X-A " + control, "BASE: the oauth2.token_url" + notAddress}},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{}
			for pair := range strings.SplitSeq(row.env, ",") {
				name, value, _ := strings.Cut(pair, "=")
				env[name] = value
			}
			// The environment of the machine that deploys is not the function's.
			set, err := asynctool.NewSet(declared(t, fields(row.file...), map[string]string{"BASE": "nonsense"}))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, wrong := range set.Invalid(func(name string) (string, bool) { return env[name], env[name] != unknown }) {
				if wrong.Tool != "x" {
					t.Errorf("the tool is %q", wrong.Tool)
				}
				got = append(got, strings.Join(wrong.Names, " and ")+": "+wrong.Reason.Error())
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(row.env, unknown) || len(row.want) == 0 {
				return
			}
			for _, name := range []string{"A", "B", "BASE"} { // the tool lacks nothing
				if env[name] == "" {
					env[name] = "a"
				}
			}
			result, err := tooltest.Call(t, t.Context(), declared(t, fields(row.file...), env), `{"id":"1"}`)
			_, reason, _ := strings.Cut(row.want[0], ": ")
			want{Spoken: "I'm sorry, this service isn't available right now.", Log: reason}.Check(t, result, err)
			if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "k3y") {
				t.Errorf("the error has a value: %v", err)
			}
		})
	}
}

// A value that is set only after the file was read is not used halfway.
func TestSettingsAreReadWithTheFile(t *testing.T) {
	service, requests := tooltest.Counting(t)
	for _, before := range []string{"", "shop"} {
		env := map[string]string{"URL": before}
		tool := declared(t, declaration(), env)
		env["URL"] = service.URL
		result, err := tooltest.Call(t, t.Context(), tool, `{}`)
		want{Spoken: "I'm sorry, this service isn't available right now.", Log: "URL"}.Check(t, result, err)
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// What is wrong in a file whatever the values are is an error of the file, and not only once they are set.
func TestFileErrorsDoNotDependOnValues(t *testing.T) {
	for name, row := range map[string]struct {
		file []string
		want string
	}{
		"a scheme":        {[]string{"url: 'ftp://${A}/a'"}, "the url is not an address"},
		"no scheme":       {[]string{"url: '/a/${A}'"}, "the url is not an address"},
		"a port":          {[]string{"url: 'https://a.example:port/${A}'"}, "the url is not an address"},
		"a header's text": {[]string{"url: https://a.example", `headers: {X-A: "a\n${A}"}`}, "the header X-A contains"},
		"a header and oauth2": {[]string{"url: https://a.example", "headers: {Authorization: '${A}'}",
			"oauth2: {token_url: 'https://a.example', client_id: a, client_secret: b}"}, "oauth2 sets the header"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, value := range []string{"", "a"} {
				_, err := httptool.Parse([]byte(fields(row.file...)), func(string) string { return value })
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("with %q: %v\nwant %s", value, err, row.want)
				}
			}
		})
	}
}

func TestCheckAddresses(t *testing.T) {
	check := httptool.CheckAddresses("A", "B")
	env := map[string]string{"A": "https://shop.example.com", "B": "http://127.0.0.1:1/api"}
	lookup := func(name string) (string, bool) { return env[name], true }
	if err := check(lookup); err != nil {
		t.Error(err)
	}
	env["A"], env["B"] = "shop.example.com", "s3cret"
	const wanted = "A cannot be used: it is not an address"
	err := check(lookup)
	if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), wanted) {
		t.Errorf("got %v", err)
	}
}
