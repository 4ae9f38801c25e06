package page

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/ringback/ringback/internal/operator"
)

// Session admits the browser that opens a link. A link works once, and the browser then has a cookie. It refuses all
// requests that do not come from this machine.
type Session struct {
	cookie, value string
	again         string // how the operator gets another link
	links         tickets
}

// NewSession returns the session of a program that listens at an address, host:port, and has a secret. A browser sends
// its cookies to all ports, so the port is in the name of the cookie. again says how the operator gets another link.
func NewSession(addr, secret, again string) *Session {
	_, port, _ := net.SplitHostPort(addr)
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, "ringback page")
	return &Session{cookie: "ringback-" + port, value: hex.EncodeToString(mac.Sum(nil)), again: again}
}

// Link returns the path and the query of a new link.
func (s *Session) Link() string {
	link := rand.Text()
	s.Admit(link)
	return "/?link=" + link
}

// Admit makes a link work, as that of a run before. Of more than ten, the oldest do not work any more.
func (s *Session) Admit(links ...string) { s.links.admit(links...) }

// Links returns the links that were not opened.
func (s *Session) Links() []string { return s.links.unused() }

// maxTickets bounds the tickets that were not used.
const maxTickets = 10

// tickets are texts that work once. The zero value has none.
type tickets struct {
	mu  sync.Mutex
	all []string // that were not used
}

// admit makes texts work. Of more than [maxTickets], the oldest do not work any more.
func (t *tickets) admit(texts ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, texts...)
	t.all = t.all[max(0, len(t.all)-maxTickets):]
}

func (t *tickets) unused() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.all)
}

// use reports whether a text was not used yet. From now on, it was.
func (t *tickets) use(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := slices.IndexFunc(t.all, func(other string) bool { return equal(text, other) })
	if at >= 0 {
		t.all = slices.Delete(t.all, at, at+1)
	}
	return at >= 0
}

func equal(a, b string) bool {
	first, second := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(first[:], second[:]) == 1
}

// Handler returns a handler that passes on the requests of the operator's browser.
func (s *Session) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !operator.Direct(r) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		link := r.URL.Query().Get("link")
		if link != "" && r.URL.Path == "/" && r.Method == http.MethodGet && s.links.use(link) {
			http.SetCookie(w, &http.Cookie{
				Name: s.cookie, Value: s.value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
			})
			w.Header().Set("Referrer-Policy", "no-referrer")
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		// A browser can have several cookies of this name, for other paths.
		if !slices.ContainsFunc(r.CookiesNamed(s.cookie), func(c *http.Cookie) bool { return equal(c.Value, s.value) }) {
			w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
			http.Error(w, "This page opens with the link that ringback printed. Each link works once, in one browser.\n"+s.again,
				http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
