// Package httptool makes tools out of HTTP requests. A file declares simple ones (see [Parse]). A
// tool in Go sends its requests with [Do] or [JSON], which bound and classify the answers:
//
//	r, err := httptool.NewRequest(ctx, http.MethodGet, base.JoinPath("orders", id), nil)
//	if err != nil {
//		return asynctool.Result{}, err
//	}
//	order, err := httptool.JSON[order](r)
package httptool

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// malformed is how the errors about an answer begin that is not as it must be.
const malformed = "the service's answer is malformed"

// client has no timeout: the tool's timeout ends each request.
var client = sync.OnceValue(func() *http.Client {
	return &http.Client{
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
})

func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = maxHeader
	// If a connection that was used before breaks, net/http sends a request with an Idempotency-Key again
	// by itself. A service that does not know the key would begin twice. A function that was frozen
	// between two requests would also find its connections closed.
	t.DisableKeepAlives = true
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
// text, so the caller hears the tool's FailureText. The cause after another status is a [Status].
//
// Do sends the request once. For a request that must not be repeated, see [NotStarted].
func Do(r *http.Request) ([]byte, error) {
	a, err := exchange(r, false)
	if err == nil {
		err = a.failure()
	}
	return a.body, err
}

// JSON is [Do] for an answer in JSON, which it decodes into a T. Its error does not quote the answer.
func JSON[T any](r *http.Request) (T, error) {
	var decoded T
	body, err := Do(r)
	if err == nil && json.Unmarshal(body, &decoded) != nil {
		err = asynctool.Fail("", fmt.Errorf("%s: it is not the JSON that the tool expects", malformed))
	}
	return decoded, err
}

// NotStarted returns an error of [Do] as an [asynctool.NotStarted] if the service has certainly not begun
// what the request asks for. That is so if there was no connection to it, or if it answered with one of
// the statuses. Pass those with which the service refuses a request before it begins, usually 429 and
// 503. NotStarted returns all other errors unchanged, nil included.
func NotStarted(err error, refusals ...Status) error {
	said, ok := errors.AsType[*asynctool.Error](err)
	if !ok {
		return err
	}
	status, answered := errors.AsType[Status](err)
	if !(answered && slices.Contains(refusals, status) && !isType[redirected](err)) &&
		!(said.Retry && isType[notSent](err)) {
		return err
	}
	free := *said
	free.Retry, free.NotStarted = true, true
	return &free
}

// notSent is the cause of an error if no connection was made, so that the service has seen nothing.
type notSent struct{ error }

func (e notSent) Unwrap() error { return e.error }

// redirected is the cause of an error that a service answered after a redirect. The service that
// redirected the request may have begun.
type redirected struct{ error }

func (e redirected) Unwrap() error { return e.error }

// answer is the complete answer of a service.
type answer struct {
	status     int
	header     http.Header
	body       []byte   // in UTF-8
	from       *url.URL // where it came from
	redirected bool
}

// ok reports whether the status is 2xx.
func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// failure returns the error for the status of the answer, and nil for 2xx.
func (a answer) failure() error {
	var cause error = Status(a.status)
	if a.redirected {
		cause = redirected{cause}
	}
	switch {
	case a.ok():
		return nil
	case a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly,
		a.status == http.StatusTooManyRequests, a.status >= 500:
		return asynctool.TryAgain(retryAfter(a.header, maxRetryAfter), "", cause)
	default:
		return asynctool.Fail("", cause)
	}
}

// exchange sends a request, and returns an answer of any status. It reads the body of an answer that is
// not 2xx only if failures is set, and only if it is complete, not too large, and has a known charset.
func exchange(r *http.Request, failures bool) (answer, error) {
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "ringback")
	}
	// After the first byte of an answer, an error may quote what the service sent.
	var connected, answering atomic.Bool
	trace := &httptrace.ClientTrace{
		GetConn:              func(string) { answering.Store(false) },
		GotConn:              func(httptrace.GotConnInfo) { connected.Store(true) },
		GotFirstResponseByte: func() { answering.Store(true) },
	}
	response, err := client().Do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		cause, again := classify(r.Context(), err, answering.Load())
		if !connected.Load() {
			cause = notSent{cause}
		}
		return answer{}, &asynctool.Error{Cause: cause, Retry: again}
	}
	defer response.Body.Close()
	a := answer{
		status: response.StatusCode, header: response.Header, from: response.Request.URL,
		redirected: response.Request.Response != nil,
	}
	if !a.ok() && !failures {
		return a, nil
	}
	a.body, err = read(r.Context(), response)
	if !a.ok() && err != nil {
		a.body, err = nil, nil
	}
	return a, err
}

// read reads the body of an answer, and converts it to UTF-8.
func read(ctx context.Context, response *http.Response) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		cause, again := classify(ctx, err, true)
		return nil, &asynctool.Error{Cause: cause, Retry: again}
	}
	if len(body) > maxAnswer {
		return nil, asynctool.Fail("", tooLarge("it", maxAnswer))
	}
	if body, err = inUTF8(body, response.Header.Get("Content-Type")); err != nil {
		return nil, asynctool.Fail("", err)
	}
	return body, nil
}

// classify returns the cause of a request without a complete answer, and whether another attempt may
// succeed. It does not repeat the client's error, because that error may quote the address, the service's
// certificate or its answer.
func classify(ctx context.Context, err error, answering bool) (cause error, again bool) {
	const none = "the service did not respond"
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s in time: %w", none, ctx.Err()), true
	case isType[*net.DNSError](err):
		return errors.New(none + ": its host name cannot be resolved"), true
	case isType[*tls.CertificateVerificationError](err):
		return errors.New(none + ": its certificate is not valid for its address"), true
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New(none + ": it refused the connection"), true
	case !answering:
		return errors.New(none + ": there is no connection to it, or it closed the connection"), true
	// net/http has no type for these. The texts are those of HTTP/1 and HTTP/2.
	case strings.Contains(err.Error(), "response headers exceeded"),
		strings.Contains(err.Error(), "response header list larger"):
		return tooLarge("its header", maxHeader), false
	default:
		return errors.New(malformed + ": it is incomplete, or not HTTP"), true
	}
}

func tooLarge(what string, most int) error {
	return fmt.Errorf("the service's answer is too large: %s is longer than %d bytes", what, most)
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
			return nil, errors.New(malformed + ": it is not UTF-8, and the charset of its Content-Type is unknown")
		}
		if name, _ := htmlindex.Name(known); name != "utf-8" {
			fallback = known.NewDecoder()
		}
	}
	text, _, err := transform.Bytes(unicode.BOMOverride(fallback), body)
	if err != nil {
		return nil, errors.New(malformed + ": it does not have the charset of its Content-Type")
	}
	return text, nil
}

// retryAfter returns the delay that an answer asks for in seconds or as a date (RFC
// 9110, section 10.2.3), but no more than most. It returns 0 if it asks for none.
func retryAfter(h http.Header, most time.Duration) time.Duration {
	value := h.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), most)
}

// Address parses an http or https address, such as one from a setting. Its error does not repeat the
// address, and completes a sentence such as "ORDERS_API_URL is not an address".
func Address(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !isHost(u) {
		return nil, errors.New("is not an address like https://shop.example.com/api")
	}
	return u, nil
}

// isHost reports whether there can be a host with the name and the port of an address. [url.Parse] also accepts
// ports that do not exist, and the brackets of a name that was not filled in.
func isHost(u *url.URL) bool {
	if strings.ContainsAny(u.Hostname(), `<>"`) {
		return false
	}
	if u.Port() == "" {
		return u.Hostname() != ""
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0 && u.Hostname() != ""
}

// CheckAddresses returns a function for the field CheckSettings of a tool in Go: the settings with these names must
// have an [Address].
func CheckAddresses(names ...string) func(lookup func(name string) (value string, known bool)) error {
	return func(lookup func(string) (string, bool)) error {
		var errs []error
		for _, name := range names {
			value, _ := lookup(name)
			if _, err := Address(value); err != nil {
				errs = append(errs, asynctool.InvalidSetting(fmt.Errorf("it %w", err), name))
			}
		}
		return errors.Join(errs...)
	}
}

// NewRequest is [http.NewRequestWithContext] for a parsed address. Its error does not quote the address.
func NewRequest(ctx context.Context, method string, u *url.URL, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, asynctool.Fail("", errors.New("cannot make the request: the address is not valid"))
	}
	return r, nil
}

// NewJSONRequest is [NewRequest] with a body in JSON.
func NewJSONRequest(ctx context.Context, method string, u *url.URL, body any) (*http.Request, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, asynctool.Fail("", errors.New("cannot make the request: its body does not marshal to JSON"))
	}
	r, err := NewRequest(ctx, method, u, bytes.NewReader(encoded))
	if err == nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, err
}
