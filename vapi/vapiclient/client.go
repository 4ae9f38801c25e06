// Package vapiclient sends what Ringback sends to Vapi: control messages to a live call, outbound calls and chats, and
// the requests that set tools up.
package vapiclient

import (
	"bytes"
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

const (
	maxControlURLBytes      = 2048
	maxControlResponseBytes = 4 << 10
)

// ControlConfig configures a [ControlClient].
type ControlConfig struct {
	// Hosts are further hosts that a control URL may have, as host or host:port, compared as a whole; without a port the
	// scheme's own is meant. For these alone http and private addresses are allowed. Empty: Vapi's own hosts only.
	Hosts []string
	// AllowLoopback allows http to any port of this machine's loopback addresses. For local runs only.
	AllowLoopback bool
	// PublicKey gives the organisation's public key, which is sent as a bearer token. An assistant whose
	// monitorPlan.controlAuthenticationEnabled is true asks for it. Nil: no Authorization header.
	PublicKey func(ctx context.Context) (string, error)
	// ConnectTimeout bounds the connection and the TLS handshake, each. 0 means 3 s.
	ConnectTimeout time.Duration
	// Timeout bounds a whole post, PublicKey included. 0 means 10 s.
	Timeout time.Duration
	// Now is the clock for a Retry-After that is a date. Nil means time.Now.
	Now func() time.Time

	// For tests: further options of the guard, and changes to each transport. The guard still sees
	// every dialled address.
	guardOptions    []ssrf.Option
	adjustTransport func(*http.Transport)
}

// ControlClient posts control messages to control URLs. It is safe for concurrent use and keeps its connections.
//
// A control URL comes from outside, so it is checked twice: the URL itself must be one of Vapi's (https, port 443, host
// vapi.ai or one below it) or have a configured host, and the address that a name of Vapi's resolves to must be public.
// Proxies from the environment are not used and redirects are not followed.
type ControlClient struct {
	hosts         map[string]bool // "scheme://host:port"
	allowLoopback bool
	publicKey     func(ctx context.Context) (string, error)
	timeout       time.Duration
	answers       answerReader

	// A transport each, so that no connection made under one rule is used under another.
	vapi, configured, loopback *http.Transport
}

// NewControlClient returns an error for a malformed host or a negative timeout.
func NewControlClient(cfg ControlConfig) (*ControlClient, error) {
	if cfg.ConnectTimeout < 0 || cfg.Timeout < 0 {
		return nil, errors.New("control client: a timeout is negative: use 0 for the default")
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 3 * time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &ControlClient{
		hosts:         make(map[string]bool),
		allowLoopback: cfg.AllowLoopback,
		publicKey:     cfg.PublicKey,
		timeout:       cfg.Timeout,
		answers: answerReader{
			from: "the control URL", gone: "the call is over", now: cfg.Now,
			forbidden: "check whether the assistant's monitorPlan.controlAuthenticationEnabled is on and the public key is right",
		},
	}
	for _, host := range cfg.Hosts {
		for _, scheme := range []string{"http", "https"} {
			u, err := url.Parse(scheme + "://" + host)
			if err != nil || u.Host != host || u.Hostname() == "" || strings.HasSuffix(host, ":") || !isPrintableASCII(host) {
				return nil, fmt.Errorf("control client: %q is not a host: write host or host:port, without a scheme or a path", host)
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
		return Receipt{Verdict: Misconfigured, Err: fmt.Errorf("control URL refused: %w", err)}
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
		// Its text may quote the URL.
		return Receipt{Verdict: Misconfigured, Err: errors.New("control URL refused: it cannot be requested")}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "ringback")
	if c.publicKey != nil {
		if failed := authorize(request, "public", c.publicKey); failed.Err != nil {
			return failed
		}
	}
	return c.answers.roundTrip(transport, request)
}

// route decides whether a control URL may be posted to, and over which transport. Its errors do not quote the URL.
func (c *ControlClient) route(controlURL string) (*url.URL, *http.Transport, error) {
	switch {
	case controlURL == "":
		return nil, nil, errors.New("it is empty: is the assistant's monitorPlan.controlEnabled off, or is this a chat?")
	case len(controlURL) > maxControlURLBytes:
		return nil, nil, fmt.Errorf("it is longer than %d bytes", maxControlURLBytes)
	case !isPrintableASCII(controlURL), strings.ContainsAny(controlURL, `\#`):
		// Parsers differ about these; a URL of Vapi's has none.
		return nil, nil, errors.New("it has a space, a backslash, a fragment or a character beyond ASCII")
	}
	u, err := url.Parse(controlURL)
	switch {
	case err != nil: // url.Error quotes the URL
		return nil, nil, errors.New("it is not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, nil, errors.New("its scheme is neither https nor http")
	case u.User != nil:
		return nil, nil, errors.New("it has user information")
	case u.Hostname() == "" || strings.HasSuffix(u.Host, ":"):
		return nil, nil, errors.New("it has no host, or an empty port")
	}
	host := controlHost(u)
	switch {
	case c.hosts[hostKey(u)]:
		return u, c.configured, nil
	case c.allowLoopback && u.Scheme == "http" && isLoopbackHost(host):
		u.Host = net.JoinHostPort(host, controlPort(u)) // resolvers may not know "LOCALHOST."
		return u, c.loopback, nil
	case !isVapiHost(host):
		return nil, nil, errors.New("its host is neither Vapi's nor a configured one")
	case u.Scheme != "https":
		return nil, nil, errors.New("its scheme is not https")
	case u.Port() != "" && u.Port() != "443":
		return nil, nil, errors.New("its port is not 443")
	}
	u.Host = host // in one form, so that one host has one set of connections and certificates fit
	return u, c.vapi, nil
}

// controlHost is a URL's host name without a trailing dot, in lower case.
func controlHost(u *url.URL) string {
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

// hostKey is scheme, host and port in one form, for comparison.
func hostKey(u *url.URL) string {
	return u.Scheme + "://" + net.JoinHostPort(controlHost(u), controlPort(u))
}

// controlPort is a URL's port, or its scheme's.
func controlPort(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// isVapiHost reports whether host, in lower case, is vapi.ai or a name below it.
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
