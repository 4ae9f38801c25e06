package vapiclient

import (
	"crypto/x509"

	"code.dny.dev/ssrf"
)

// WithTestServer returns cfg changed so that every address dialled becomes the one given, whatever the URL's host, and
// certificates of roots are trusted. The guard sees the address and refuses it unless the options allow it.
func (cfg ControlConfig) WithTestServer(address string, roots *x509.CertPool, guardOptions ...ssrf.Option) ControlConfig {
	cfg.redirectDial = func(string) string { return address }
	cfg.rootCAs = roots
	cfg.guardOptions = guardOptions
	return cfg
}

// CheckControlURL is the check that Post makes before it connects; it returns the URL that would be requested.
func (c *ControlClient) CheckControlURL(controlURL string) (string, error) {
	u, _, err := c.route(controlURL)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}
