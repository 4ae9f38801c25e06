// Package guard protects the listeners of a local run. A web page in a browser on this machine can send requests to
// them, and so can a page whose host name resolves to this machine (DNS rebinding).
package guard

import (
	"errors"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/ringback/ringback/internal/httpjson"
)

// Guard refuses requests that a web page sends, and requests for another host. The zero Guard is for a listener that
// only programs on this machine use.
type Guard struct {
	// Public is the URL at which a tunnel serves the listener. Nil means none.
	Public *url.URL

	// AnyType reports whether the body of a request may have any type, because the request has a credential that no web
	// page knows. Nil means never.
	AnyType func(r *http.Request) bool

	// Refused is called with the reason of each refusal, which contains nothing of the request. It may be nil.
	Refused func(r *http.Request, reason error)
}

var (
	errHost = errors.New("the Host is neither an address of this listener nor that of --public-url")
	errPage = errors.New("the request comes from a web page")
	errBody = errors.New("the Content-Type is not application/json")
)

// refusals are the answers to refused requests.
var refusals = []httpjson.Refusal{
	{Err: errBody, Status: http.StatusUnsupportedMediaType},
	{Status: http.StatusForbidden},
}

// Handler returns a handler that passes on the requests that are not refused.
func (g Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.check(r); err != nil {
			if g.Refused != nil {
				g.Refused(r, err)
			}
			httpjson.Refuse(err, refusals).Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// check returns the reason to refuse a request, or nil. Unlike [http.CrossOriginProtection], it also refuses GET, which
// images and WebSockets use.
func (g Guard) check(r *http.Request) error {
	public := g.Public != nil && strings.EqualFold(r.Host, g.Public.Host)
	if !public && !isOwn(r) {
		return errHost
	}
	origins := r.Header.Values("Origin")
	for _, origin := range origins {
		if origin != "http://"+r.Host && !(public && strings.EqualFold(origin, g.Public.Scheme+"://"+g.Public.Host)) {
			return errPage
		}
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" { // none: a person has entered the URL
			return errPage
		}
	}
	// A form, and a fetch without the listener's consent, can send other types and none (Fetch standard,
	// "CORS-safelisted request-header"). A form with an Origin is one of the listener's own pages.
	if r.ContentLength != 0 && len(origins) == 0 && (g.AnyType == nil || !g.AnyType(r)) {
		types := r.Header.Values("Content-Type")
		if len(types) != 1 {
			return errBody
		}
		if kind, _, err := mime.ParseMediaType(types[0]); err != nil || kind != "application/json" {
			return errBody
		}
	}
	return nil
}

// isOwn reports whether a request's Host is a loopback address, or the address of the listener. No name but localhost
// is, since the owner of a name can make it resolve to any address.
func isOwn(r *http.Request) bool {
	host := (&url.URL{Host: r.Host}).Hostname()
	if IsLoopback(host) {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.Equal(net.ParseIP(host))
}

// IsLoopback reports whether a host, without a port, is a loopback address or localhost.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
