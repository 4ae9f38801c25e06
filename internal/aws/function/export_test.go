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
