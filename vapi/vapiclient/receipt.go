package vapiclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter bounds what a Retry-After can ask for.
const maxRetryAfter = time.Hour

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
