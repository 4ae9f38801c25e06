package vapiclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// errRefusedAddress is wrapped by the error of a connection whose address a [dialGuard] refused.
var errRefusedAddress = errors.New("address refused")

// defaultConnectTimeout limits a connection and its TLS handshake, each.
const defaultConnectTimeout = 3 * time.Second

// dialGuard is a Control function of [net.Dialer]. It sees the resolved address and returns an
// error if no connection to it is allowed.
type dialGuard func(network, address string, _ syscall.RawConn) error

// newTransport returns a transport that asks guard about each connection. A nil guard allows all of
// them.
func newTransport(connectTimeout time.Duration, guard dialGuard) *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout}
	if guard != nil {
		dialer.Control = func(network, address string, conn syscall.RawConn) error {
			if err := guard(network, address, conn); err != nil {
				return fmt.Errorf("%w: %w", errRefusedAddress, err)
			}
			return nil
		}
	}
	return &http.Transport{ // Proxy is nil, so that the environment's is not used
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: connectTimeout,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64, // posts are concurrent, mostly to one host
		// Less than the 60 s after which AWS load balancers close connections by default. This also
		// works after a function was frozen, because net/http compares by the wall clock.
		IdleConnTimeout: 50 * time.Second,
		// Find and drop a dead HTTP/2 connection, on which every post would time out.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: connectTimeout, PingTimeout: connectTimeout},
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

// authorize sets the request's Authorization header. If it fails, the receipt has an Err.
func authorize(request *http.Request, kind string, read func(ctx context.Context) (string, error)) Receipt {
	key, err := read(request.Context())
	if err != nil {
		return Receipt{Verdict: TryAgain, Err: fmt.Errorf("cannot read Vapi's %s key: %w", kind, err)}
	}
	if !validKey(key) {
		return Receipt{Verdict: Misconfigured, Err: fmt.Errorf("the %s key is empty or has a line break or a "+
			"space at an end: correct the stored value", kind)}
	}
	request.Header.Set("Authorization", "Bearer "+key)
	return Receipt{}
}

// validKey reports whether a header can carry the key unchanged.
func validKey(key string) bool {
	return key != "" && key == strings.TrimSpace(key) && !strings.ContainsFunc(key, unicode.IsControl)
}
