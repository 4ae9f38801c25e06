package page_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ringback/ringback/internal/page"
)

// TestSession tests that a link works once, and that only the browser that opened it is admitted, from this machine.
func TestSession(t *testing.T) {
	const addr = "127.0.0.1:8787"
	session := page.NewSession(addr, "secret", "Ask again.")
	inside := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	protected := session.Handler(inside)
	request := func(path string, change func(*http.Request)) *http.Response {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host, r.RemoteAddr = addr, "127.0.0.1:5000"
		if change != nil {
			change(r)
		}
		answer := httptest.NewRecorder()
		protected.ServeHTTP(answer, r)
		return answer.Result()
	}
	for _, path := range []string{"/", "/ui/tools", "/?link=", "/?link=another"} {
		answer := request(path, nil)
		text, _ := io.ReadAll(answer.Body)
		if answer.StatusCode != http.StatusUnauthorized || !strings.Contains(string(text), "Ask again.") ||
			len(answer.Cookies()) > 0 {
			t.Errorf("%s: %s %s", path, answer.Status, text)
		}
	}
	link := session.Link()
	for name, change := range map[string]func(*http.Request){
		"another host":    func(r *http.Request) { r.Host = "evil.example" },
		"another machine": func(r *http.Request) { r.RemoteAddr = "192.0.2.1:5000" },
		"a tunnel":        func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") },
		"a proxy":         func(r *http.Request) { r.Header.Set("Via", "1.1 proxy") },
	} {
		if answer := request(link, change); answer.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", name, answer.Status)
		}
	}
	answer := request(link, func(r *http.Request) { r.Method = http.MethodPost })
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a post opens the link: %s", answer.Status)
	}
	answer = request(link, nil)
	cookies := answer.Cookies()
	if answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != "/" || len(cookies) != 1 {
		t.Fatalf("%s %v", answer.Status, answer.Header)
	}
	cookie := cookies[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Name != "ringback-8787" ||
		cookie.MaxAge != 0 || strings.Contains(cookie.Value, "secret") {
		t.Errorf("%+v", cookie)
	}
	if answer := request(link, nil); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("the link works twice: %s", answer.Status)
	}
	with := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: name, Value: value}) }
	}
	for name, row := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"the cookie":     {with(cookie.Name, cookie.Value), 200},
		"a second one":   {func(r *http.Request) { with(cookie.Name, "x")(r); with(cookie.Name, cookie.Value)(r) }, 200},
		"another value":  {with(cookie.Name, "x"), 401},
		"an empty value": {with(cookie.Name, ""), 401},
		"another name":   {with("ringback-8788", cookie.Value), 401},
		"through a tunnel": {func(r *http.Request) {
			with(cookie.Name, cookie.Value)(r)
			r.Header.Set("Forwarded", "for=x")
		}, 404},
	} {
		if answer := request("/ui/tools", row.change); answer.StatusCode != row.want {
			t.Errorf("%s: %s", name, answer.Status)
		}
	}
	// A run that continues another one has its secret, and its links that were not opened.
	unopened := session.Link()
	again := page.NewSession(addr, "secret", "")
	again.Admit(session.Links()...)
	protected = again.Handler(inside)
	if answer := request("/", with(cookie.Name, cookie.Value)); answer.StatusCode != 200 {
		t.Errorf("after a restart: %s", answer.Status)
	}
	if answer := request(unopened, nil); answer.StatusCode != http.StatusSeeOther {
		t.Errorf("an earlier link after a restart: %s", answer.Status)
	}
	protected = page.NewSession(addr, "another", "").Handler(protected)
	if answer := request("/", with(cookie.Name, cookie.Value)); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("the cookie of another run: %s", answer.Status)
	}
}
