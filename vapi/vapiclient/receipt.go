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

const (
	// maxRetryAfter limits a Retry-After.
	maxRetryAfter = time.Hour
	// maxAnswerBytes limits how much of an answer is read to keep its connection.
	maxAnswerBytes = 4 << 10
)

// Verdict is the outcome of a post, in words for logs.
type Verdict string

const (
	// Delivered means that Vapi accepted the message (2xx). It does not mean that it was spoken.
	Delivered Verdict = "delivered"
	// Gone means that the call is over or never existed (400, 404, 409, 410). It is final. Vapi
	// does not document the status for an ended call.
	Gone Verdict = "gone"
	// Misconfigured means that no repeat can help and that an operator must act. The URL or its
	// address is not allowed, the message or the key is malformed, or the status is 401, 403, a
	// redirect or any other.
	Misconfigured Verdict = "misconfigured"
	// TryAgain means that a repeat may help: 408, 425, 429, 5xx, a broken connection, a timeout, or
	// a key that cannot be read.
	TryAgain Verdict = "try again"
)

// Receipt is the outcome of a post with its details.
type Receipt struct {
	Verdict Verdict
	// RetryAfter is the wait that the Retry-After of a TryAgain asks for, at most one hour. 0 means
	// that it asks for none.
	RetryAfter time.Duration
	// Status is the HTTP status. 0 means that there was no answer.
	Status int
	// Err is the reason, for the operator's log. It is nil for Delivered. It does not hold the
	// control URL, its path or the call's ID.
	Err error
}

// answerReader turns answers into receipts.
type answerReader struct {
	from            string // the sender of the answers
	gone, forbidden string // the meaning of Gone, and of 401 and 403
	now             func() time.Time
}

// roundTrip posts a request whose answer matters only by its status.
func (a answerReader) roundTrip(transport *http.Transport, request *http.Request) Receipt {
	// Use the transport without an http.Client, so that no redirect is followed and no error quotes
	// the URL.
	response, err := transport.RoundTrip(request)
	if err != nil {
		return a.failedReceipt(request.Context(), err)
	}
	defer response.Body.Close()
	// Read to the end, so that the connection is kept.
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswerBytes)
	return a.answeredReceipt(response)
}

func (a answerReader) failedReceipt(ctx context.Context, err error) Receipt {
	if errors.Is(err, errRefusedAddress) {
		return Receipt{Verdict: Misconfigured,
			Err: fmt.Errorf("the host of %s resolves to an address that is not allowed: %w", a.from, err)}
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
		// Other errors of net/http may quote the answer, which may quote the URL.
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
		r.Verdict, meaning = TryAgain, "a repeat may help"
		r.RetryAfter = retryAfter(response, a.now())
	default:
		r.Verdict, meaning = Misconfigured, "unexpected status"
	}
	r.Err = fmt.Errorf("%s answered %d: %s", a.from, r.Status, meaning)
	return r
}

// retryAfter returns the wait that the Retry-After of an answer asks for, at most maxRetryAfter. It
// accepts seconds and an HTTP date (RFC 9110, section 10.2.3). Any other value, or a date in the
// past, asks for no wait.
func retryAfter(response *http.Response, now time.Time) time.Duration {
	value := response.Header.Get("Retry-After")
	// If the value is out of range, ParseUint returns the largest number.
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil || errors.Is(err, strconv.ErrRange) {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, min(at.Sub(now), maxRetryAfter))
	}
	return 0
}
