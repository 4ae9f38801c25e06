package asynctool

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// DefaultTolerance is how old a signed timestamp may be, and how far in the future.
const DefaultTolerance = 5 * time.Minute

// ErrSignature means that a post is not signed with the secret, or is too old. A tool whose OnPost
// returns it ignores the post, also if [Fail] or [TryAgain] wraps it.
var ErrSignature = errors.New("the signature cannot be verified")

// HMAC verifies posts that are signed with HMAC-SHA256 and a shared secret.
//
//	asynctool.HMAC{Secret: secret, Header: "X-Hub-Signature-256", Prefix: "sha256="} // GitHub
//	asynctool.HMAC{Secret: secret, Header: "X-Shopify-Hmac-Sha256", Base64: true}    // Shopify
//	asynctool.HMAC{ // Slack
//		Secret: secret, Header: "X-Slack-Signature", Prefix: "v0=",
//		TimestampHeader: "X-Slack-Request-Timestamp", Signed: "v0:{timestamp}:{body}",
//	}
type HMAC struct {
	// Secret is the shared secret. It must not be empty: set it from a secret store, or from the
	// environment.
	Secret string

	// Header is the header with the signature. If it has several, separated by commas, one must
	// be right.
	Header string

	// Prefix comes before the signature, such as "sha256=". Empty means none.
	Prefix string

	// Base64 means that the signature is in standard base64. False means hexadecimal.
	Base64 bool

	// TimestampHeader is the header with the time of signing, in seconds since 1970. Empty means
	// that there is none, and that an old post can be sent again.
	TimestampHeader string

	// Signed is the text that is signed, with {body} and {timestamp} in it. Empty means "{body}",
	// or "{timestamp}.{body}" with a TimestampHeader.
	Signed string

	// Tolerance is how old the timestamp may be, and how far in the future. 0 means
	// [DefaultTolerance].
	Tolerance time.Duration
}

// Verify verifies a post. Its error wraps [ErrSignature], and contains nothing of the post and of
// the secret.
func (h HMAC) Verify(p Post) error {
	signed := h.Signed
	if signed == "" {
		signed = "{body}"
		if h.TimestampHeader != "" {
			signed = "{timestamp}.{body}"
		}
	}
	before, after, ok := strings.Cut(signed, "{body}")
	switch timed := strings.Contains(signed, "{timestamp}"); {
	case h.Secret == "":
		return refuse("the HMAC has no Secret")
	case h.Header == "":
		return refuse("the HMAC has no Header")
	case !ok || timed != (h.TimestampHeader != ""):
		return refuse("Signed must contain {body}, and {timestamp} if there is a TimestampHeader, and only then")
	}
	if h.TimestampHeader != "" {
		timestamp := p.Header.Get(h.TimestampHeader)
		if err := checkTimestamp(timestamp, p.Received, h.Tolerance); err != nil {
			return err
		}
		before = strings.ReplaceAll(before, "{timestamp}", timestamp)
		after = strings.ReplaceAll(after, "{timestamp}", timestamp)
	}
	want := sum([]byte(h.Secret), before, p.Body, after)
	decode := hex.DecodeString
	if h.Base64 {
		decode = base64.StdEncoding.DecodeString
	}
	for signature := range strings.SplitSeq(strings.Join(p.Header.Values(h.Header), ","), ",") {
		signature, ok := strings.CutPrefix(strings.TrimSpace(signature), h.Prefix)
		if got, err := decode(signature); ok && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return refuse("no signature in the header " + http.CanonicalHeaderKey(h.Header) + " is right")
}

// StandardWebhooks verifies posts that are signed as in the Standard Webhooks specification, with a
// symmetric secret (https://www.standardwebhooks.com). It accepts the headers webhook-id,
// webhook-timestamp and webhook-signature, and the same ones of Svix.
type StandardWebhooks struct {
	// Secret is the secret of the endpoint, in base64, with or without "whsec_".
	Secret string

	// Tolerance is how old the timestamp may be, and how far in the future. 0 means
	// [DefaultTolerance].
	Tolerance time.Duration
}

// Verify verifies a post. Its error wraps [ErrSignature], and contains nothing of the post and of
// the secret.
func (s StandardWebhooks) Verify(p Post) error {
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Secret, "whsec_"))
	if err != nil || len(secret) == 0 {
		return refuse("the secret is not like whsec_ with base64 after it")
	}
	prefix := "Webhook-"
	if p.Header.Get("Webhook-Id") == "" {
		prefix = "Svix-"
	}
	id, timestamp := p.Header.Get(prefix+"Id"), p.Header.Get(prefix+"Timestamp")
	// The parts that are signed are joined by full stops. One in the id would make a different
	// division of the same text valid.
	if id == "" || strings.Contains(id, ".") {
		return refuse("the post has no usable webhook-id")
	}
	if err := checkTimestamp(timestamp, p.Received, s.Tolerance); err != nil {
		return err
	}
	want := sum(secret, id+"."+timestamp+".", p.Body, "")
	for signature := range strings.FieldsSeq(strings.Join(p.Header.Values(prefix+"Signature"), " ")) {
		version, text, _ := strings.Cut(signature, ",")
		got, err := base64.StdEncoding.DecodeString(text)
		if version == "v1" && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return refuse("no signature of version v1 is right")
}

func refuse(reason string) error { return fmt.Errorf("%w: %s", ErrSignature, reason) }

func sum(secret []byte, before string, body []byte, after string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(before))
	mac.Write(body)
	mac.Write([]byte(after))
	return mac.Sum(nil)
}

// checkTimestamp checks that a post was signed shortly before it was received.
func checkTimestamp(timestamp string, received time.Time, tolerance time.Duration) error {
	if tolerance == 0 {
		tolerance = DefaultTolerance
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != timestamp {
		return refuse("the timestamp is not a number of seconds")
	}
	if age := received.Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return refuse("the timestamp is too far from the time at which the post was received")
	}
	return nil
}
