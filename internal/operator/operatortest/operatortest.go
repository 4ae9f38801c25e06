// Package operatortest contains a program that listens in place of a local run.
package operatortest

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// A Spy is a program that listens in place of a local run. It records all that it receives.
type Spy struct {
	// Addr is where it listens.
	Addr string

	mu   sync.Mutex
	seen strings.Builder
}

// Listen starts a spy at an address, until the test ends. handle answers to what a connection brings, which it reads
// from in. Listen skips the test if this machine does not have the address.
func Listen(t *testing.T, addr string, handle func(conn net.Conn, in io.Reader)) *Spy {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skip("no such address on this machine: ", err)
	}
	s := &Spy{Addr: listener.Addr().String()}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				defer context.AfterFunc(t.Context(), func() { _ = conn.Close() })()
				handle(conn, io.TeeReader(conn, record{s}))
			})
		}
	})
	return s
}

// Received returns what the spy has received since the last call.
func (s *Spy) Received() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.seen.Reset()
	return s.seen.String()
}

// record writes what a spy receives.
type record struct{ *Spy }

func (r record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen.Write(p)
}
