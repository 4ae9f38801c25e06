package vapiclient

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"

	"code.dny.dev/ssrf"
)

// WithTestServer returns cfg, changed so that every connection goes to address, whatever the URL's
// host, and so that certificates of roots are trusted. The guard sees the address and refuses it
// unless the options allow it.
func (cfg ControlConfig) WithTestServer(
	address string, roots *x509.CertPool, guardOptions ...ssrf.Option,
) ControlConfig {
	cfg.adjustTransport = func(transport *http.Transport) {
		transport.TLSClientConfig.RootCAs = roots
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, address)
		}
	}
	cfg.guardOptions = guardOptions
	return cfg
}

// CheckControlURL returns the URL that Post would request, or the error of the check that Post
// makes before it connects.
func (c *ControlClient) CheckControlURL(controlURL string) (string, error) {
	u, _, err := c.route(controlURL)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}
