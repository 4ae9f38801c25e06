// Package vapiclient sends requests to Vapi.
//
// [ControlClient] posts control messages to a live call. [Outbound] makes phone calls and continues
// chats. [API] sets tools up.
package vapiclient

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"code.dny.dev/ssrf"

	"github.com/ringback/ringback/vapi"
)

const maxControlURLBytes = 2048

// ControlConfig configures a [ControlClient].
type ControlConfig struct {
	// Hosts are further hosts that a control URL can have, as host or host:port. Without a port the
	// scheme's default port is meant. A host matches as a whole. Only for these hosts, http and
	// private addresses are allowed. Empty means Vapi's own hosts only.
	Hosts []string
	// AllowLoopback allows http to every port of this machine's loopback addresses. For local runs
	// only.
	AllowLoopback bool
	// PublicKey returns the organisation's public key, which is sent as a bearer token. Vapi
	// requires it if the assistant's monitorPlan.controlAuthenticationEnabled is true (Vapi's
	// documentation). Nil means no Authorization header.
	PublicKey func(ctx context.Context) (string, error)
	// ConnectTimeout limits the connection and the TLS handshake, each. 0 means 3 s.
	ConnectTimeout time.Duration
	// Timeout limits a whole post, including PublicKey. 0 means 10 s.
	Timeout time.Duration
	// Now is the clock for a Retry-After that is a date. Nil means time.Now.
	Now func() time.Time

	// For tests: further options of the guard, and changes to each transport. The guard still sees
	// every dialled address.
	guardOptions    []ssrf.Option
	adjustTransport func(*http.Transport)
}

// ControlClient posts control messages to control URLs. It is safe for concurrent use and keeps its
// connections.
//
// A control URL is untrusted input, so ControlClient checks it twice. The URL must be https with
// port 443 and the host vapi.ai or a subdomain, or have a configured host. And the address that
// Vapi's host name resolves to must be public. Proxies from the environment are not used, and
// redirects are not followed.
type ControlClient struct {
	hosts         map[string]bool // "scheme://host:port"
	allowLoopback bool
	publicKey     func(ctx context.Context) (string, error)
	timeout       time.Duration
	answers       answerReader

	// One transport per rule, so that no connection made under one rule is used under another.
	vapi, configured, loopback *http.Transport
}

// NewControlClient returns a client, or an error if a host is malformed or a timeout is negative.
func NewControlClient(cfg ControlConfig) (*ControlClient, error) {
	if cfg.ConnectTimeout < 0 || cfg.Timeout < 0 {
		return nil, errors.New("control client: a timeout is negative: use 0 for the default")
	}
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, defaultConnectTimeout)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &ControlClient{
		hosts:         make(map[string]bool),
		allowLoopback: cfg.AllowLoopback,
		publicKey:     cfg.PublicKey,
		timeout:       cmp.Or(cfg.Timeout, 10*time.Second),
		answers: answerReader{
			from: "the control URL", now: cfg.Now,
			gone:      "the call is over",
			refused:   "this message was refused, which does not mean that the call is over",
			forbidden: "check the public key and the assistant's monitorPlan.controlAuthenticationEnabled",
		},
	}
	for _, host := range cfg.Hosts {
		for _, scheme := range []string{"http", "https"} {
			u, err := url.Parse(scheme + "://" + host)
			if err != nil || u.Host != host || u.Hostname() == "" || strings.HasSuffix(host, ":") ||
				!isPrintableASCII(host) {
				return nil, fmt.Errorf("control client: %q is not a host: "+
					"write host or host:port, without a scheme or a path", host)
			}
			c.hosts[hostKey(u)] = true
		}
	}
	guard := ssrf.New(append([]ssrf.Option{ssrf.WithPorts(443)}, cfg.guardOptions...)...)
	c.vapi = newTransport(cfg.ConnectTimeout, guard.Safe)
	c.configured = newTransport(cfg.ConnectTimeout, nil)
	c.loopback = newTransport(cfg.ConnectTimeout, loopbackOnly)
	if cfg.adjustTransport != nil {
		for _, transport := range []*http.Transport{c.vapi, c.configured, c.loopback} {
			cfg.adjustTransport(transport)
		}
	}
	return c, nil
}

// Post posts m to a control URL once. It never repeats a post that may have reached Vapi.
func (c *ControlClient) Post(ctx context.Context, controlURL string, m vapi.ControlMessage) Receipt {
	u, transport, err := c.route(controlURL)
	if err != nil {
		return Receipt{Verdict: Misconfigured, Err: fmt.Errorf("control URL not allowed: %w", err)}
	}
	body, err := json.Marshal(m)
	if err != nil {
		return Receipt{Verdict: Misconfigured, Err: fmt.Errorf("malformed control message: %w", err)}
	}
	if string(body) == "null" {
		return Receipt{Verdict: Misconfigured, Err: errors.New("malformed control message: it is nil")}
	}

	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		// The text of err may quote the URL.
		return Receipt{Verdict: Misconfigured, Err: errors.New("control URL not allowed: it cannot be requested")}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "ringback")
	if c.publicKey != nil {
		if failed := authorize(request, "public", c.publicKey); failed.Err != nil {
			return failed
		}
	}
	answers := c.answers
	if _, appends := m.(vapi.AppendContext); appends {
		answers.unconfirmed = "it is unknown whether the call got the message"
	}
	return answers.roundTrip(transport, request)
}

// route returns the URL to post to and the transport to use, or an error if the control URL is not
// allowed. Errors do not quote the URL.
func (c *ControlClient) route(controlURL string) (*url.URL, *http.Transport, error) {
	switch {
	case controlURL == "":
		return nil, nil, errors.New("it is empty: the assistant's monitorPlan.controlEnabled is off, or this is a chat")
	case len(controlURL) > maxControlURLBytes:
		return nil, nil, fmt.Errorf("it is longer than %d bytes", maxControlURLBytes)
	case !isPrintableASCII(controlURL), strings.ContainsAny(controlURL, `\#`):
		// Parsers disagree about these. Vapi's control URLs have none of them.
		return nil, nil, errors.New("it has a space, a backslash, a fragment or a character beyond ASCII")
	}
	u, err := url.Parse(controlURL)
	switch {
	case err != nil: // whose text quotes the URL
		return nil, nil, errors.New("it is not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, nil, errors.New("its scheme is neither https nor http")
	case u.User != nil:
		return nil, nil, errors.New("it has user information")
	case u.Hostname() == "" || strings.HasSuffix(u.Host, ":"):
		return nil, nil, errors.New("it has no host, or an empty port")
	}
	host := hostName(u)
	switch {
	case c.hosts[hostKey(u)]:
		return u, c.configured, nil
	case c.allowLoopback && u.Scheme == "http" && isLoopbackHost(host):
		u.Host = net.JoinHostPort(host, portOf(u)) // resolvers may not know "LOCALHOST."
		return u, c.loopback, nil
	case !isVapiHost(host):
		return nil, nil, errors.New("its host is neither Vapi's nor configured")
	case u.Scheme != "https":
		return nil, nil, errors.New("its scheme is not https")
	case u.Port() != "" && u.Port() != "443":
		return nil, nil, errors.New("its port is not 443")
	}
	u.Host = host // in one form, so that one host has one pool of connections and the certificate matches
	return u, c.vapi, nil
}

// NamesCall reports whether the path of a control URL contains the ID of its call, as Vapi's control URLs do.
// The ID must be a whole segment.
func NamesCall(controlURL, callID string) bool {
	u, err := url.Parse(controlURL)
	if err != nil || strings.Trim(callID, ".") == "" {
		return false
	}
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if id, err := url.PathUnescape(segment); err == nil && id == callID {
			return true
		}
	}
	return false
}

// hostName returns a URL's host name in lower case, without a trailing dot.
func hostName(u *url.URL) string {
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

// hostKey returns scheme, host and port in one form, for comparison.
func hostKey(u *url.URL) string {
	return u.Scheme + "://" + net.JoinHostPort(hostName(u), portOf(u))
}

// portOf returns a URL's port, or its scheme's default port.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// isVapiHost reports whether host, in lower case, is vapi.ai or a subdomain of it. Recorded control
// URLs have such hosts. Vapi documents none, hence [ControlConfig.Hosts].
func isVapiHost(host string) bool {
	if len(host) > 253 || host != "vapi.ai" && !strings.HasSuffix(host, ".vapi.ai") {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// isLoopbackHost reports whether host, in lower case, names this machine (RFC 6761, section 6.3).
func isLoopbackHost(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	at, err := netip.ParseAddr(host)
	return err == nil && at.Unmap().IsLoopback()
}

func isPrintableASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
