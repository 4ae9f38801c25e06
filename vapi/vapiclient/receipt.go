package vapiclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// maxRetryAfter limits a Retry-After.
	maxRetryAfter = time.Hour
	// maxAnswerBytes limits how much of an answer is read: to keep its connection, and for the error that
	// it reports.
	maxAnswerBytes = 4 << 10
	// maxReported limits the characters of Receipt.Reported.
	maxReported = 300
)

// Verdict is the outcome of a post, in words for logs.
type Verdict string

const (
	// Delivered means that Vapi accepted the message (2xx). It does not mean that it was spoken.
	Delivered Verdict = "delivered"
	// Gone means that the call is over or never existed (404, 410). It is final.
	Gone Verdict = "gone"
	// MessageRefused means that Vapi does not accept this message (400, 409, 422). It is final for the
	// message, and says nothing about the call: other messages may be accepted.
	MessageRefused Verdict = "refused"
	// Misconfigured means that no repeat can help and that an operator must act. The URL or its
	// address is not allowed, the message or the key is malformed, or the status is 401, 403, a
	// redirect or any other.
	Misconfigured Verdict = "misconfigured"
	// Unconfirmed means that Vapi does not know whether the call got the message (502 for an
	// append-context). It is final: a repeat could be a second delivery.
	Unconfirmed Verdict = "unconfirmed"
	// TryAgain means that a repeat may help: 408, 425, 429, 5xx, a broken connection, a timeout, or
	// a key that cannot be read.
	TryAgain Verdict = "try again"
)

// verdicts has the meaning of the statuses that Vapi answers with, on control URLs and for chats.
// [verdictOf] knows the classes of all others. Vapi documents no status for an ended call, and was seen
// to answer 400 to a call ID that does not exist. But its validator also answers 400 to one message of
// a live call that it dislikes, such as a transfer to a number that is not E.164. So only 404 and 410
// mean that the call is over.
//
// On a GPT-Live call, 502 means that the outcome of the post is unknown, and 503 that nothing happened
// (Vapi's documentation: "GPT-Live settings and compatibility"). See [Unconfirmed].
var verdicts = map[int]Verdict{
	http.StatusBadRequest:          MessageRefused,
	http.StatusConflict:            MessageRefused,
	http.StatusUnprocessableEntity: MessageRefused,
	http.StatusNotFound:            Gone,
	http.StatusGone:                Gone,
	http.StatusUnauthorized:        Misconfigured,
	http.StatusForbidden:           Misconfigured,
	http.StatusRequestTimeout:      TryAgain,
	http.StatusTooEarly:            TryAgain,
	http.StatusTooManyRequests:     TryAgain,
}

func verdictOf(status int) Verdict {
	verdict, known := verdicts[status]
	switch {
	case known:
		return verdict
	case status >= 200 && status <= 299:
		return Delivered
	case status >= 500 && status <= 599:
		return TryAgain
	}
	return Misconfigured // a redirect, or a status that is not expected
}

// Receipt is the outcome of a post with its details.
type Receipt struct {
	// Verdict is never empty.
	Verdict Verdict
	// RetryAfter is the wait that the Retry-After of a TryAgain asks for, at most one hour. 0 means
	// that it asks for none.
	RetryAfter time.Duration
	// Status is the HTTP status. 0 means that there was no answer.
	Status int
	// Err is the reason, for the operator's log. It is nil for Delivered. It does not hold the
	// control URL, its path or the call's ID.
	Err error
	// Reported is the error that the answer to a MessageRefused, or to a Delivered, reports in its
	// JSON: one line, without the control URL and the key. It may quote the message, so do not log it.
	// Empty means none.
	Reported string
}

// answerReader turns answers into receipts.
type answerReader struct {
	from                     string // the sender of the answers
	gone, refused, forbidden string // the meaning of Gone, of MessageRefused, and of 401 and 403
	unconfirmed              string // the meaning of a 502 that is Unconfirmed; empty if it is TryAgain
	now                      func() time.Time
}

// roundTrip posts a request whose answer matters only by its status, and by the error that it reports.
func (a answerReader) roundTrip(transport *http.Transport, request *http.Request) Receipt {
	// Use the transport without an http.Client, so that no redirect is followed and no error quotes
	// the URL.
	response, err := transport.RoundTrip(request)
	if err != nil {
		return a.failedReceipt(request.Context(), err)
	}
	defer response.Body.Close()
	// Read to the end, so that the connection is kept. The status counts even if the body breaks off.
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	r := a.answeredReceipt(response)
	if r.Verdict == Delivered || r.Verdict == MessageRefused {
		r.Reported = reported(body, r.Verdict != Delivered, secretsOf(request))
	}
	return r
}

func (a answerReader) failedReceipt(ctx context.Context, err error) Receipt {
	if errors.Is(err, errRefusedAddress) {
		return Receipt{Verdict: Misconfigured,
			Err: fmt.Errorf("the host of %s resolves to an address that is not allowed", a.from)}
	}
	why := Unanswered(ctx, err)
	if ctx.Err() != nil {
		return Receipt{Verdict: TryAgain, Err: fmt.Errorf("%s: %s: %w", a.from, why, ctx.Err())}
	}
	return Receipt{Verdict: TryAgain, Err: fmt.Errorf("%s: %s", a.from, why)}
}

func (a answerReader) answeredReceipt(response *http.Response) Receipt {
	r := Receipt{Status: response.StatusCode, Verdict: verdictOf(response.StatusCode)}
	if r.Status == http.StatusBadGateway && a.unconfirmed != "" {
		r.Verdict = Unconfirmed
	}
	var meaning string
	switch r.Verdict {
	case Delivered:
		return r
	case Gone:
		meaning = a.gone
	case MessageRefused:
		meaning = a.refused
	case Unconfirmed:
		meaning = a.unconfirmed
	case TryAgain:
		meaning = "a repeat may help"
		r.RetryAfter = retryAfter(response, a.now())
	case Misconfigured:
		switch status := r.Status; {
		case status == http.StatusUnauthorized, status == http.StatusForbidden:
			meaning = a.forbidden
		case status >= 300 && status <= 399:
			meaning = "redirects are not followed"
		default:
			meaning = "unexpected status"
		}
	}
	r.Err = fmt.Errorf("%s answered %d: %s", a.from, r.Status, meaning)
	return r
}

// reported returns the error that an answer reports, or "" if it reports none. failed means that the
// status says that there is one.
func reported(body []byte, failed bool, secrets []string) string {
	var answer map[string]any
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	code, _ := answer["statusCode"].(float64)
	if !failed && code < 400 && answer["success"] != false && answer["status"] != "error" &&
		!isReported(answer["error"]) && !isReported(answer["errors"]) {
		return ""
	}
	for _, name := range []string{"message", "error", "errors"} {
		if text := oneLine(messageText(answer[name]), maxReported, secrets...); text != "" {
			return text
		}
	}
	if failed {
		return ""
	}
	return "an error without a message"
}

// isReported reports whether the value of a member named "error" says that there is one.
func isReported(value any) bool {
	switch value := value.(type) {
	case nil:
		return false
	case bool:
		return value
	case string:
		return value != ""
	case []any:
		return len(value) > 0
	case map[string]any:
		return len(value) > 0
	}
	return true
}

// messageText returns the text of a message in an answer, which is a string, a list of strings, or an
// object with a message. It returns "" for anything else.
func messageText(message any) string {
	switch message := message.(type) {
	case string:
		return message
	case []any:
		parts := make([]string, len(message))
		for i, part := range message {
			parts[i] = fmt.Sprint(part)
		}
		return strings.Join(parts, "; ")
	case map[string]any:
		text, _ := message["message"].(string)
		return text
	}
	return ""
}

// oneLine returns a text in one line of limited length, without the secrets.
func oneLine(text string, most int, secrets ...string) string {
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "…")
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	invisible := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
	text = strings.TrimSpace(strings.Join(strings.FieldsFunc(text, invisible), " "))
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}

// secretsOf returns the parts of a request that no error may quote: its key, its host, and the longer
// parts of its path, such as the call's ID.
func secretsOf(request *http.Request) []string {
	secrets := []string{request.URL.Host}
	if _, key, found := strings.Cut(request.Header.Get("Authorization"), " "); found {
		secrets = append(secrets, key)
	}
	for part := range strings.SplitSeq(request.URL.Path, "/") {
		if len(part) >= 8 {
			secrets = append(secrets, part)
		}
	}
	return secrets
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
