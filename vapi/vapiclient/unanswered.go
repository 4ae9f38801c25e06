package vapiclient

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// Unanswered returns why a request got no complete answer. err is the error of an
// [http.RoundTripper], of an [http.Client] or of a body. Unanswered does not quote it, because
// it may contain the URL, addresses, the peer's certificate or the peer's answer.
func Unanswered(ctx context.Context, err error) string {
	var timeout net.Error
	switch {
	// net/http has no type for some errors. The texts are those of HTTP/1 and HTTP/2.
	case ctx.Err() == nil && strings.Contains(err.Error(), "TLS handshake timeout"):
		return "the TLS handshake took too long"
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case is[*net.DNSError](err):
		return "the host name cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	case is[*tls.CertificateVerificationError](err):
		return "the certificate is not valid for the host"
	case is[tls.RecordHeaderError](err), errors.Is(err, http.ErrSchemeMismatch):
		return "the port does not use TLS"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was closed before the answer was complete"
	case is[*net.OpError](err):
		return "there is no connection to the host"
	case strings.Contains(err.Error(), "response headers exceeded"),
		strings.Contains(err.Error(), "response header list larger"):
		return "the header of the answer is too large"
	}
	return "the answer is malformed"
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
