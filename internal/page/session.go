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

	mu    sync.Mutex
	links []string // that were not opened
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

// maxLinks bounds the links that were not opened.
const maxLinks = 10

// Admit makes a link work, as that of a run before. Of more than ten, the oldest do not work any more.
func (s *Session) Admit(links ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links = append(s.links, links...)
	s.links = s.links[max(0, len(s.links)-maxLinks):]
}

// Links returns the links that were not opened.
func (s *Session) Links() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.links)
}

// open reports whether a link was not opened yet. From now on, it was.
func (s *Session) open(link string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(s.links, func(other string) bool { return equal(link, other) })
	if at >= 0 {
		s.links = slices.Delete(s.links, at, at+1)
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
		if link := r.URL.Query().Get("link"); link != "" && r.URL.Path == "/" && r.Method == http.MethodGet && s.open(link) {
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
