package tools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
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

	// maxRetryAfter bounds the delay that a service may ask for, because a
	// caller is waiting.
	maxRetryAfter = 2 * time.Minute
)

// client has no timeout: the tool's timeout ends each request.
var client = &http.Client{
	// Headers and arguments must not reach another host.
	CheckRedirect: func(r *http.Request, via []*http.Request) error {
		first := via[0].URL
		if r.URL.Scheme != first.Scheme || r.URL.Host != first.Host || len(via) > 3 {
			return http.ErrUseLastResponse
		}
		return nil
	},
}

// statusError is the status of an answer that is not 2xx. It omits the body, which
// may repeat what the caller said.
type statusError int

func (e statusError) Error() string {
	text := fmt.Sprintf("the service answered %d %s", int(e), http.StatusText(int(e)))
	if e >= 300 && e < 400 {
		text += "; redirects to another host are not followed, so set the address that they lead to"
	}
	return text
}

// ask sends a request and returns the body of a 2xx answer, in UTF-8. Its errors are
// [asynctool.Error]s that may allow another attempt. They have no Spoken text, so
// the caller hears the tool's FailureText.
func ask(r *http.Request) ([]byte, error) {
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "ringback")
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, asynctool.TryAgain(0, "", fmt.Errorf("cannot reach the service: %w", withoutURL(err)))
	}
	defer answer.Body.Close()
	status := answer.StatusCode
	switch {
	case status >= 200 && status < 300:
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly,
		status == http.StatusTooManyRequests, status >= 500:
		return nil, asynctool.TryAgain(retryAfter(answer.Header), "", statusError(status))
	default:
		return nil, asynctool.Fail("", statusError(status))
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, asynctool.TryAgain(0, "", fmt.Errorf("cannot read the service's answer: %w", err))
	}
	if len(body) > maxAnswer {
		return nil, asynctool.Fail("", fmt.Errorf("the service's answer is longer than %d bytes", maxAnswer))
	}
	if body, err = inUTF8(body, answer.Header.Get("Content-Type")); err != nil {
		return nil, asynctool.Fail("", err)
	}
	return body, nil
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
			return nil, errors.New("the service's answer is not UTF-8, and the charset of its Content-Type is unknown")
		}
		if name, _ := htmlindex.Name(known); name != "utf-8" {
			fallback = known.NewDecoder()
		}
	}
	text, _, err := transform.Bytes(unicode.BOMOverride(fallback), body)
	if err != nil {
		return nil, fmt.Errorf("cannot decode the service's answer: %w", err)
	}
	return text, nil
}

// withoutURL removes the address from a client's error. It may contain a key or an
// argument.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
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

// webAddress parses an http or https address. Its errors do not repeat it.
func webAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, errors.New("is not an address like https://shop.example.com/api")
	}
	return u, nil
}

// notSetUp returns the failure of a tool that lacks a setting.
func notSetUp(cause error) error {
	return asynctool.Fail("I'm sorry, this service isn't available right now.", cause)
}

// newRequest is http.NewRequestWithContext for a parsed address.
func newRequest(ctx context.Context, method string, u *url.URL, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, asynctool.Fail("", fmt.Errorf("cannot make the request: %w", withoutURL(err)))
	}
	return r, nil
}

// oneLine replaces every run of white space with one space.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
