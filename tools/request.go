package tools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
)

const (
	// maxAnswer bounds what is read of a service's answer, in bytes.
	maxAnswer = 256 << 10

	// maxRetryAfter bounds the wait that a service may ask for: somebody is
	// on the telephone.
	maxRetryAfter = 2 * time.Minute
)

// client has no timeout of its own: the tool's ends each request.
var client = &http.Client{
	// Headers and arguments are meant for the host they were sent to.
	CheckRedirect: func(r *http.Request, via []*http.Request) error {
		first := via[0].URL
		if r.URL.Scheme != first.Scheme || r.URL.Host != first.Host || len(via) > 3 {
			return http.ErrUseLastResponse
		}
		return nil
	},
}

// statusError is the status of an answer that was not 2xx. The answer's text
// is left out, as it may repeat what the caller said.
type statusError int

func (e statusError) Error() string {
	text := fmt.Sprintf("the service answered %d %s", int(e), http.StatusText(int(e)))
	if e >= 300 && e < 400 {
		text += "; redirects are only followed on the same host, so set the address they lead to"
	}
	return text
}

// ask sends a request and gives the text of a 2xx answer. Its errors say
// whether another attempt makes sense, and have no spoken text: the tool's
// FailureText is told.
func ask(r *http.Request) ([]byte, error) {
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "ringback")
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, asynctool.TryAgain(0, "", fmt.Errorf("the service was not reached: %w", withoutURL(err)))
	}
	defer answer.Body.Close()
	status := answer.StatusCode
	switch {
	case status >= 200 && status < 300:
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		return nil, asynctool.TryAgain(retryAfter(answer.Header), "", statusError(status))
	default:
		return nil, asynctool.Fail("", statusError(status))
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, asynctool.TryAgain(0, "", fmt.Errorf("the service's answer broke off: %w", err))
	}
	if len(body) > maxAnswer {
		return nil, asynctool.Fail("", fmt.Errorf("the service's answer is longer than %d bytes", maxAnswer))
	}
	return body, nil
}

// withoutURL takes the address out of a client's error: it may hold a key or
// an argument.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// retryAfter is how long an answer asks to wait (RFC 9110, 10.2.3): seconds or
// a date. 0 where it does not say.
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

// webAddress reads an http or https address. Its errors do not repeat it.
func webAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, errors.New("is not an address like https://shop.example.com/api")
	}
	return u, nil
}

// notSetUp is how a tool fails that lacks a setting.
func notSetUp(cause error) error {
	return asynctool.Fail("I am sorry, this service is not available at the moment.", cause)
}

// newRequest is http.NewRequestWithContext for an address that was read
// already.
func newRequest(ctx context.Context, method string, u *url.URL, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, asynctool.Fail("", fmt.Errorf("the request cannot be made: %w", withoutURL(err)))
	}
	return r, nil
}

// oneLine makes every run of white space one space.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
