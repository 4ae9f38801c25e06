package function

import (
	"context"
	"net"
)

// LoadAuthorities is what ConnectSQS does beside an encrypted connection.
var LoadAuthorities = loadAuthorities

// NewDialer returns a dialer that opens connections in a test.
func NewDialer(dial func(ctx context.Context, network, address string) (net.Conn, error)) *dialer {
	return &dialer{dial: dial}
}

// Open opens a connection before its first request.
func (d *dialer) Open(ctx context.Context, address string) error { return d.open(ctx, address) }

// Dial lets a test open the connections to AWS that are not encrypted. The function it returns closes those that are
// kept.
func (a *AWS) Dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) (closeKept func()) {
	a.dialers["http"].dial = dial
	return a.config.HTTPClient.(client).transport.CloseIdleConnections
}
