package guard_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/local/guard"
)

func TestGuard(t *testing.T) {
	public, err := url.Parse("https://tunnel.example")
	if err != nil {
		t.Fatal(err)
	}
	const json = "application/json"
	const form = "application/x-www-form-urlencoded"
	headers := func(name string, values ...string) http.Header { return http.Header{name: values} }
	and := func(h http.Header, name, value string) http.Header {
		h.Set(name, value)
		return h
	}
	known := func(name string, values ...string) http.Header {
		return and(headers(name, values...), "X-Known", "yes")
	}
	for name, row := range map[string]struct {
		host   string // empty means the listener's own
		header http.Header
		body   string
		public *url.URL
		want   int
	}{
		"a program on this machine":   {want: 200},
		"with JSON":                   {header: headers("Content-Type", json), body: "{}", want: 200},
		"with JSON and a charset":     {header: headers("Content-Type", json+"; charset=utf-8"), body: "{}", want: 200},
		"localhost":                   {host: "localhost:1", want: 200},
		"another loopback address":    {host: "127.8.8.8", want: 200},
		"IPv6":                        {host: "[::1]:8787", want: 200},
		"a page of the listener":      {host: "127.0.0.1:80", header: headers("Origin", "http://127.0.0.1:80"), want: 200},
		"a script of the listener":    {header: headers("Sec-Fetch-Site", "same-origin"), want: 200},
		"a URL that a person entered": {header: headers("Sec-Fetch-Site", "none"), want: 200},
		"the tunnel":                  {host: "Tunnel.example", public: public, want: 200},
		"a page of the tunnel": {host: "tunnel.example", public: public,
			header: headers("Origin", "https://tunnel.example"), want: 200},

		"a rebound name":          {host: "evil.example:8787", want: 403},
		"a rebound look-alike":    {host: "127.0.0.1.evil.example", want: 403},
		"a rebound localhost":     {host: "localhost.evil.example", want: 403},
		"a name below localhost":  {host: "evil.localhost", want: 403},
		"a host that is no host":  {host: "127.0.0.1@evil.example", want: 403},
		"another machine":         {host: "192.0.2.1:8787", want: 403},
		"every address":           {host: "0.0.0.0", want: 403},
		"an undeclared tunnel":    {host: "tunnel.example", want: 403},
		"another tunnel":          {host: "other.example", public: public, want: 403},
		"another port":            {host: "tunnel.example:8787", public: public, want: 403},
		"a page elsewhere":        {header: headers("Origin", "https://evil.example"), want: 403},
		"a page without origin":   {header: headers("Origin", "null"), want: 403},
		"a page on another port":  {host: "127.0.0.1:80", header: headers("Origin", "http://127.0.0.1:81"), want: 403},
		"a page by another name":  {host: "127.0.0.1:80", header: headers("Origin", "http://localhost:80"), want: 403},
		"two origins":             {host: "localhost", header: headers("Origin", "http://localhost", "null"), want: 403},
		"an image elsewhere":      {header: headers("Sec-Fetch-Site", "cross-site"), want: 403},
		"an image on this site":   {header: headers("Sec-Fetch-Site", "same-site"), want: 403},
		"a page that uses a host": {host: "tunnel.example", public: public, header: headers("Origin", "https://evil.example"), want: 403},

		"a form with a credential":     {header: known("Content-Type", form), body: "x=1", want: 200},
		"XML with a credential":        {header: known("Content-Type", "text/xml"), body: "<x/>", want: 200},
		"no type, with a credential":   {header: known("X", "y"), body: "x", want: 200},
		"two types, with a credential": {header: known("Content-Type", form, json), body: "x=1", want: 200},

		"a form of a page, with a credential": {
			header: and(known("Content-Type", form), "Origin", "https://evil.example"), body: "x=1", want: 403,
		},
		"a form without origin, with a credential": {
			header: and(known("Content-Type", form), "Origin", "null"), body: "x=1", want: 403,
		},
		"a form of another site, with a credential": {
			header: and(known("Content-Type", form), "Sec-Fetch-Site", "cross-site"), body: "x=1", want: 403,
		},
		"a form for a rebound name, with a credential": {
			host: "evil.example", header: known("Content-Type", form), body: "x=1", want: 403,
		},

		"a form of a page of the listener": {
			host: "127.0.0.1:80", header: and(headers("Content-Type", form), "Origin", "http://127.0.0.1:80"),
			body: "x=1", want: 200,
		},
		"a form of another page": {
			host: "127.0.0.1:80", header: and(headers("Content-Type", form), "Origin", "http://127.0.0.1:81"),
			body: "x=1", want: 403,
		},

		"a form":             {header: headers("Content-Type", "application/x-www-form-urlencoded"), body: "{}", want: 415},
		"a form with a file": {header: headers("Content-Type", "multipart/form-data; boundary=x"), body: "{}", want: 415},
		"a form with text":   {header: headers("Content-Type", "text/plain"), body: "{}", want: 415},
		"no type":            {body: "{}", want: 415},
		"two types":          {header: headers("Content-Type", json, "text/plain"), body: "{}", want: 415},
		"two types in one":   {header: headers("Content-Type", "text/plain, "+json), body: "{}", want: 415},
		"a parameter":        {header: headers("Content-Type", "text/plain; x="+json), body: "{}", want: 415},
	} {
		t.Run(name, func(t *testing.T) {
			reached, refused := false, ""
			anyType := func(r *http.Request) bool { return r.Header.Get("X-Known") == "yes" }
			refuses := func(_ *http.Request, why error) { refused = why.Error() }
			g := guard.Guard{Public: row.public, AnyType: anyType, Refused: refuses}
			server := httptest.NewServer(g.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				reached = true
			})))
			defer server.Close()
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
				for _, chunked := range []bool{false, true} {
					reached, refused = false, ""
					request, err := http.NewRequest(method, server.URL, strings.NewReader(row.body))
					if err != nil {
						t.Fatal(err)
					}
					if row.body == "" {
						request.Body = nil
					} else if chunked {
						request.ContentLength = -1
					}
					request.Host = row.host
					for header, values := range row.header {
						request.Header[header] = values
					}
					response, err := http.DefaultClient.Do(request)
					if err != nil {
						t.Fatal(err)
					}
					response.Body.Close()
					if response.StatusCode != row.want || reached != (row.want == 200) || (refused == "") != reached {
						t.Errorf("%s, chunked %t: %s, reached %t, refused %q", method, chunked, response.Status, reached, refused)
					}
					if response.Header.Get("Access-Control-Allow-Origin") != "" {
						t.Errorf("%s: a page can read the answer", method)
					}
				}
			}
		})
	}
}

func TestToken(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	read := func(addr, want string) {
		t.Helper()
		if got, err := guard.Token(addr); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", addr, got, err, want)
		}
	}
	read("127.0.0.1:8787", "")
	token, other := guard.NewToken(), guard.NewToken()
	if len(token) < 24 || token == other {
		t.Errorf("%q and %q", token, other)
	}
	// An earlier file with another mode is replaced.
	remove, err := guard.Store("127.0.0.1:8787", other)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	walk := func() {
		files = nil
		_ = filepath.WalkDir(cache, func(name string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				files = append(files, name)
			}
			return err
		})
	}
	if walk(); len(files) != 1 || os.Chmod(files[0], 0o644) != nil {
		t.Fatal(files)
	}
	if _, err := guard.Store("127.0.0.1:8787", token); err != nil {
		t.Fatal(err)
	}
	if _, err := guard.Store("[::1]:8788", other); err != nil {
		t.Fatal(err)
	}
	read("127.0.0.1:8787", token)
	read("localhost:8787", token)
	read("localhost:8788", other)
	read("127.0.0.1:8788", "")
	read("127.0.0.2:8787", "")
	read("192.0.2.1:8787", "")
	read("no address", "")
	for walk(); len(files) > 0; files = files[1:] {
		info, err := os.Stat(files[0])
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", files[0], info.Mode(), err)
		}
	}
	remove()
	read("127.0.0.1:8787", "")
}
