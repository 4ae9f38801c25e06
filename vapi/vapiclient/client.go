// Package vapiclient sends what Ringback sends to Vapi: control messages to a live call, outbound calls and chats, and
// the requests that set tools up.
package vapiclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"code.dny.dev/ssrf"

	"github.com/ringback/ringback/vapi"
)

const (
	maxControlURLBytes      = 2048
	maxControlResponseBytes = 4 << 10

	// maxRetryAfter bounds what a Retry-After can ask for.
	maxRetryAfter = time.Hour
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

	// For tests: the certificate authorities, further options of the guard, and another address for a dialled one. The
	// guard still sees every address that is dialled.
	rootCAs      *x509.CertPool
	guardOptions []ssrf.Option
	redirectDial func(address string) string
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
	c.vapi = controlTransport(cfg, guard.Safe)
	c.configured = controlTransport(cfg, nil)
	c.loopback = controlTransport(cfg, loopbackOnly)
	return c, nil
}

// errRefusedAddress marks an address that a dial-time guard refused.
var errRefusedAddress = errors.New("address refused")

// controlTransport makes a transport whose every connection passes the guard, which sees the resolved address.
func controlTransport(cfg ControlConfig, guard func(network, address string, _ syscall.RawConn) error) *http.Transport {
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout}
	if guard != nil {
		dialer.Control = func(network, address string, conn syscall.RawConn) error {
			if err := guard(network, address, conn); err != nil {
				return fmt.Errorf("%w: %w", errRefusedAddress, err)
			}
			return nil
		}
	}
	return &http.Transport{ // Proxy stays nil
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if cfg.redirectDial != nil {
				address = cfg.redirectDial(address)
			}
			return dialer.DialContext(ctx, network, address)
		},
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.rootCAs},
		TLSHandshakeTimeout: cfg.ConnectTimeout,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64, // posts go out side by side, mostly to one host
		// Below the 60 s after which AWS load balancers close by default. A function that was frozen meanwhile is covered:
		// net/http compares by the wall clock.
		IdleConnTimeout: 50 * time.Second,
		// A dead HTTP/2 connection, on which every post would time out, is found and dropped.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: cfg.ConnectTimeout, PingTimeout: cfg.ConnectTimeout},
		MaxResponseHeaderBytes: 64 << 10,
	}
}

func loopbackOnly(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !at.Addr().Unmap().IsLoopback() {
		return errors.New("not a loopback address")
	}
	return nil
}

// Verdict is what became of a post.
type Verdict int

const (
	// Delivered means that Vapi took the message (2xx), not that it was spoken.
	Delivered Verdict = iota + 1
	// Gone means that the call is over or never was (400, 404, 409, 410): final. Vapi documents no status for an ended call.
	Gone
	// Misconfigured means that no repeat can help and that somebody should look: a URL or an address that is not allowed, a
	// malformed message, 401 or 403, a redirect, any other status.
	Misconfigured
	// TryAgain means that a repeat may help: 408, 425, 429, 5xx, a broken connection, a timeout.
	TryAgain
)

// String is the verdict in words, for logs.
func (v Verdict) String() string {
	switch v {
	case Delivered:
		return "delivered"
	case Gone:
		return "gone"
	case Misconfigured:
		return "misconfigured"
	case TryAgain:
		return "try again"
	}
	return "verdict " + strconv.Itoa(int(v))
}

// Receipt is the outcome of a post.
type Receipt struct {
	Verdict Verdict
	// RetryAfter is how long the Retry-After of a TryAgain asks to wait, at most an hour; 0 where it does not say.
	RetryAfter time.Duration
	// Status is the HTTP status, 0 where there was none.
	Status int
	// Err says why it was not delivered, for the operator's log: without the control URL, its path or the call's id. Nil for
	// Delivered.
	Err error
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

// authorize puts a key into the request. Where that fails, the receipt has an Err.
func authorize(request *http.Request, kind string, read func(ctx context.Context) (string, error)) Receipt {
	key, err := read(request.Context())
	if err != nil {
		return Receipt{Verdict: TryAgain, Err: fmt.Errorf("reading Vapi's %s key: %w", kind, err)}
	}
	if !validKey(key) {
		return Receipt{Verdict: Misconfigured, Err: fmt.Errorf("the %s key is empty or has a line break or a space at an end: correct the stored value", kind)}
	}
	request.Header.Set("Authorization", "Bearer "+key)
	return Receipt{}
}

// validKey reports whether a header can carry the key unchanged.
func validKey(key string) bool {
	return key != "" && key == strings.TrimSpace(key) && !strings.ContainsFunc(key, unicode.IsControl)
}

// answerReader makes receipts of answers, in the words for where they come from.
type answerReader struct {
	from            string
	gone, forbidden string // what 404 and the like mean there, and 403
	now             func() time.Time
}

// roundTrip posts a request of which only the answer's status counts.
func (a answerReader) roundTrip(transport *http.Transport, request *http.Request) Receipt {
	// The transport alone, without http.Client: nothing follows a redirect, and no error quotes the URL.
	response, err := transport.RoundTrip(request)
	if err != nil {
		return a.failedReceipt(request.Context(), err)
	}
	defer response.Body.Close()
	// Read to the end, so that the connection is kept; what the body says does not count.
	_, _ = io.CopyN(io.Discard, response.Body, maxControlResponseBytes)
	return a.answeredReceipt(response)
}

func (a answerReader) failedReceipt(ctx context.Context, err error) Receipt {
	if errors.Is(err, errRefusedAddress) {
		return Receipt{Verdict: Misconfigured, Err: fmt.Errorf("the host of %s resolves to an address that is not allowed: %w", a.from, err)}
	}
	var operation *net.OpError
	var timeout net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("no answer from %s in time: %w", a.from, ctx.Err())
	case errors.As(err, &operation): // dialling, name resolution, reading, writing
		err = fmt.Errorf("no answer from %s: %w", a.from, operation)
	case errors.As(err, &certificate):
		err = fmt.Errorf("no answer from %s: %w", a.from, certificate)
	case errors.As(err, &timeout) && timeout.Timeout():
		err = fmt.Errorf("no answer from %s: the TLS handshake timed out", a.from)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("the connection was closed before %s answered", a.from)
	default:
		// Other errors of net/http may quote what was received, which may quote the URL.
		err = fmt.Errorf("no usable answer from %s (%T)", a.from, err)
	}
	return Receipt{Verdict: TryAgain, Err: err}
}

func (a answerReader) answeredReceipt(response *http.Response) Receipt {
	r := Receipt{Status: response.StatusCode}
	var meaning string
	switch status := response.StatusCode; {
	case status >= 200 && status <= 299:
		r.Verdict = Delivered
		return r
	case status == 400, status == 404, status == 409, status == 410:
		r.Verdict, meaning = Gone, a.gone
	case status == 401, status == 403:
		r.Verdict, meaning = Misconfigured, a.forbidden
	case status >= 300 && status <= 399:
		r.Verdict, meaning = Misconfigured, "redirects are not followed"
	case status == 408, status == 425, status == 429, status >= 500 && status <= 599:
		r.Verdict, meaning = TryAgain, "try again"
		r.RetryAfter = a.retryAfter(response.Header.Get("Retry-After"))
	default:
		r.Verdict, meaning = Misconfigured, "not an answer that is known of Vapi"
	}
	r.Err = fmt.Errorf("%s answered %d: %s", a.from, r.Status, meaning)
	return r
}

// retryAfter reads seconds or an HTTP date (RFC 9110, section 10.2.3); what is neither, or past, asks for nothing.
func (a answerReader) retryAfter(value string) time.Duration {
	// Beyond its range ParseUint gives the largest number.
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil || errors.Is(err, strconv.ErrRange) {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, min(at.Sub(a.now()), maxRetryAfter))
	}
	return 0
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
