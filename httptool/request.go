// Package httptool makes tools out of HTTP requests. A file declares simple ones (see [Parse]). A
// tool in Go sends its requests with [Do], which bounds and classifies the answers.
package httptool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/ringback/ringback/asynctool"
)

const (
	// maxAnswer bounds a service's answer, in bytes.
	maxAnswer = 256 << 10

	// maxHeader bounds the header of a service's answer, in bytes.
	maxHeader = 64 << 10

	// maxRetryAfter bounds the delay that a service may ask for, because a
	// caller is waiting.
	maxRetryAfter = 2 * time.Minute
)

// client has no timeout: the tool's timeout ends each request.
var client = &http.Client{
	Transport: transport(),
	// Headers and arguments must not reach another host.
	CheckRedirect: func(r *http.Request, via []*http.Request) error {
		first := via[0].URL
		if r.URL.Scheme != first.Scheme || r.URL.Host != first.Host || len(via) > 3 {
			return http.ErrUseLastResponse
		}
		return nil
	},
}

func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = maxHeader
	return t
}

// A Status is the status of an answer that is not 2xx. It is the cause of an error of [Do]. It omits
// the body, which may repeat what the caller said.
type Status int

func (e Status) Error() string {
	text := fmt.Sprintf("the service answered %d %s", int(e), http.StatusText(int(e)))
	if e >= 300 && e < 400 {
		text += "; redirects to another host are not followed, so set the address that they lead to"
	}
	return text
}

// Do sends a request and returns the body of a 2xx answer, in UTF-8. The body may have 256 KiB, and
// the header 64 KiB. Redirects are followed only to the same host, because headers and arguments must
// not reach another one.
//
// Do has no timeout of its own: the request's context ends it. Its errors are [asynctool.Error]s. Those
// after the status 408, 425, 429 or 5xx, or without an answer, allow another attempt, after the
// Retry-After of the answer, but two minutes at most. They never quote the service, and have no Spoken
// text, so the caller hears the tool's FailureText.
func Do(r *http.Request) ([]byte, error) {
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "ringback")
	}
	// After the first byte of an answer, an error may quote what the service sent.
	var answering atomic.Bool
	trace := &httptrace.ClientTrace{
		GetConn:              func(string) { answering.Store(false) },
		GotFirstResponseByte: func() { answering.Store(true) },
	}
	answer, err := client.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		return nil, failure(r.Context(), err, answering.Load())
	}
	defer answer.Body.Close()
	status := answer.StatusCode
	switch {
	case status >= 200 && status < 300:
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly,
		status == http.StatusTooManyRequests, status >= 500:
		return nil, asynctool.TryAgain(retryAfter(answer.Header), "", Status(status))
	default:
		return nil, asynctool.Fail("", Status(status))
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, failure(r.Context(), err, true)
	}
	if len(body) > maxAnswer {
		return nil, tooLarge("it", maxAnswer)
	}
	if body, err = inUTF8(body, answer.Header.Get("Content-Type")); err != nil {
		return nil, asynctool.Fail("", err)
	}
	return body, nil
}

// failure returns the error of a request without a complete answer. It classifies the
// client's error and does not repeat it, because that error may quote the address, the
// service's certificate or its answer.
func failure(ctx context.Context, err error, answering bool) error {
	const none = "the service did not respond"
	switch {
	case ctx.Err() != nil:
		return asynctool.TryAgain(0, "", fmt.Errorf("%s in time: %w", none, ctx.Err()))
	case isType[*net.DNSError](err):
		return asynctool.TryAgain(0, "", errors.New(none+": its host name cannot be resolved"))
	case isType[*tls.CertificateVerificationError](err):
		return asynctool.TryAgain(0, "", errors.New(none+": its certificate is not valid for its address"))
	case errors.Is(err, syscall.ECONNREFUSED):
		return asynctool.TryAgain(0, "", errors.New(none+": it refused the connection"))
	case !answering:
		return asynctool.TryAgain(0, "", errors.New(none+": there is no connection to it, or it closed the connection"))
	// net/http has no type for these. The texts are those of HTTP/1 and HTTP/2.
	case strings.Contains(err.Error(), "response headers exceeded"),
		strings.Contains(err.Error(), "response header list larger"):
		return tooLarge("its header", maxHeader)
	default:
		return asynctool.TryAgain(0, "", errors.New("the service's answer is malformed: it is incomplete, or not HTTP"))
	}
}

func tooLarge(what string, most int) error {
	return asynctool.Fail("", fmt.Errorf("the service's answer is too large: %s is longer than %d bytes", what, most))
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// inUTF8 converts a body to UTF-8. A byte order mark says how the body is encoded, and
// is removed. Without one, the charset of its Content-Type does, and UTF-8 is the
// default.
func inUTF8(body []byte, contentType string) ([]byte, error) {
	fallback := encoding.Nop.NewDecoder()
	_, parameters, _ := mime.ParseMediaType(contentType) // one that cannot be read names no charset
	if charset := parameters["charset"]; charset != "" {
		known, err := htmlindex.Get(charset)
		if err != nil {
			if utf8.Valid(body) {
				return body, nil
			}
			return nil, errors.New("the service's answer is malformed: " +
				"it is not UTF-8, and the charset of its Content-Type is unknown")
		}
		if name, _ := htmlindex.Name(known); name != "utf-8" {
			fallback = known.NewDecoder()
		}
	}
	text, _, err := transform.Bytes(unicode.BOMOverride(fallback), body)
	if err != nil {
		return nil, errors.New("the service's answer is malformed: it does not have the charset of its Content-Type")
	}
	return text, nil
}

// retryAfter returns the delay that an answer asks for in seconds or as a date (RFC
// 9110, section 10.2.3), or 0 if it asks for none.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// Address parses an http or https address, such as one from a setting. Its errors do not repeat it.
func Address(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, errors.New("is not an address like https://shop.example.com/api")
	}
	return u, nil
}

// NotSetUp returns the failure of a tool that lacks a setting.
func NotSetUp(cause error) error {
	return asynctool.Fail("I'm sorry, this service isn't available right now.", cause)
}

// NewRequest is http.NewRequestWithContext for a parsed address.
func NewRequest(ctx context.Context, method string, u *url.URL, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, asynctool.Fail("", errors.New("cannot make the request: the address is not valid"))
	}
	return r, nil
}
