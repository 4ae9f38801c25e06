package function

import (
	"context"
	"net"
	"sync"
	"time"
)

// dialer opens connections. It can open them before a request needs one, which then does not wait for it.
type dialer struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	ready map[string]opened // by address
}

// opened is a connection that no request has used yet.
type opened struct {
	connection net.Conn
	at         time.Time
}

// maxReady is how long a connection waits for its first request. The server may close it, which only that request would
// notice.
const maxReady = 5 * time.Second

// open opens a connection to an address for the first request to it.
func (d *dialer) open(ctx context.Context, address string) error {
	connection, err := d.dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready == nil {
		d.ready = make(map[string]opened)
	}
	// Lambda may freeze the process until the first request. The monotonic clock may stand still meanwhile.
	d.ready[address] = opened{connection, time.Now().Round(0)}
	return nil
}

// DialContext is the DialContext of an HTTP transport. It returns the connection that was opened to the address before,
// if there is one.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	o, ok := d.ready[address]
	delete(d.ready, address)
	d.mu.Unlock()
	if ok {
		if age := time.Since(o.at); age >= 0 && age < maxReady {
			return o.connection, nil
		}
		_ = o.connection.Close()
	}
	return d.dial(ctx, network, address)
}
