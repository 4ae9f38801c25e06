// Package vapiauth verifies that a webhook comes from Vapi, and signs webhooks as Vapi does.
package vapiauth

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// ErrUnauthorized is wrapped by every refusal of [Verifier.Verify]; the answer to it is HTTP 401.
var ErrUnauthorized = errors.New("webhook is not authenticated")

const (
	// replayWindow is how far a signed timestamp may lie from the receiver's clock, either way. Svix's libraries use the same.
	replayWindow = 5 * time.Minute

	// maxPlansBytes is the size limit of a value in AWS Secrets Manager.
	maxPlansBytes = 64 << 10

	// maxSignatures bounds the signatures looked at in one header.
	maxSignatures = 16
)

// Plan is one webhook credential. Its JSON form is that of Vapi's authenticationPlan (Vapi's OpenAPI:
// BearerAuthenticationPlan, HMACAuthenticationPlan), with two types of our own: "secret" for the legacy server.secret,
// and "none". Members of another type than the plan's own are refused.
type Plan struct {
	// Type is "bearer", "hmac", "secret" or "none". Empty is an error.
	Type string `json:"type"`

	// Secret is what Vapi sends in the header X-Vapi-Secret. Type "secret" only, required there.
	Secret string `json:"secret,omitempty"`

	// Token is the bearer token. Type "bearer" only, required there.
	Token string `json:"token,omitempty"`
	// HeaderName is the header that holds the token. Empty means Authorization.
	HeaderName string `json:"headerName,omitempty"`
	// BearerPrefixEnabled says whether "Bearer " stands before the token. Nil means true.
	BearerPrefixEnabled *bool `json:"bearerPrefixEnabled,omitempty"`

	// SecretKey is the key of the HMAC. Type "hmac" only, required there.
	SecretKey string `json:"secretKey,omitempty"`
	// Algorithm is "sha256", "sha512" or "sha1". Required for type "hmac".
	Algorithm string `json:"algorithm,omitempty"`
	// SignatureHeader is the header that holds the signature. Empty means x-signature.
	SignatureHeader string `json:"signatureHeader,omitempty"`
	// TimestampHeader is the header that holds the timestamp. Empty means x-timestamp.
	TimestampHeader string `json:"timestampHeader,omitempty"`
	// SignaturePrefix stands before the signature, e.g. "sha256=" in GitHub's style, "v1," in Svix's. Empty means none.
	SignaturePrefix string `json:"signaturePrefix,omitempty"`
	// IncludeTimestamp says whether the default payload format signs a timestamp. Nil means true. False with a
	// PayloadFormat that has {timestamp} is an error. Without a signed timestamp nothing holds a replay off.
	IncludeTimestamp *bool `json:"includeTimestamp,omitempty"`
	// PayloadFormat is what gets signed, with the placeholders {body}, {timestamp}, {method}, {url} and {svix-id}, each
	// at most once. Empty means "{timestamp}.{body}", or "{body}" where IncludeTimestamp is false. {body} is required.
	PayloadFormat string `json:"payloadFormat,omitempty"`
	// MessageIDHeader is the header that holds the value of {svix-id}. Required where PayloadFormat has {svix-id}:
	// Vapi documents no default.
	MessageIDHeader string `json:"messageIdHeader,omitempty"`
	// SignatureEncoding is "hex" (either case) or "base64" (standard alphabet, padded or not). Empty means hex.
	SignatureEncoding string `json:"signatureEncoding,omitempty"`
	// SecretIsBase64 says that SecretKey is base64 (standard alphabet) and gets decoded first. Svix's "whsec_" before
	// it is taken off, as Svix's documentation says ("Verifying webhooks manually").
	SecretIsBase64 bool `json:"secretIsBase64,omitempty"`
}

// String gives the plan's type alone, so that a plan that is printed shows no secret.
func (p Plan) String() string { return "webhook credential of type " + strconv.Quote(p.Type) }

// GoString is String, for %#v.
func (p Plan) GoString() string { return p.String() }

// LogValue is String, for slog.
func (p Plan) LogValue() slog.Value { return slog.StringValue(p.String()) }

// ParsePlans reads a credential: one plan, or an array of one or two. Two are for the time of a rotation: a webhook that
// satisfies either is let in. What it returns is fit for [NewVerifier]; its errors hold no secret.
func ParsePlans(data []byte) ([]Plan, error) {
	if len(data) > maxPlansBytes {
		return nil, fmt.Errorf("webhook credential: %d bytes are more than the %d allowed", len(data), maxPlansBytes)
	}
	items := []json.RawMessage{data}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("[")) {
		if err := json.Unmarshal(data, &items); err != nil {
			return nil, planError(err)
		}
	}
	plans := make([]Plan, len(items))
	for i, item := range items {
		// The type comes first: an oauth2 plan shall hear of itself, not of a member that is unknown here.
		var kind struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(item, &kind); err != nil {
			return nil, planError(err)
		}
		if kind.Type == "oauth2" {
			return nil, errOAuth2
		}
		decoder := json.NewDecoder(bytes.NewReader(item))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&plans[i]); err != nil {
			return nil, planError(err)
		}
	}
	if _, err := NewVerifier(plans...); err != nil {
		return nil, err
	}
	return plans, nil
}

var errOAuth2 = errors.New(`webhook credential: type "oauth2" is not checked here: let API Gateway's JWT authorizer check those tokens, and put {"type":"none"} behind it`)

// planError says what is wrong with a plan's JSON without quoting from it: a syntax error of encoding/json quotes a byte,
// which may be one of a secret that was given bare.
func planError(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf(`webhook credential: not JSON (at byte %d): write it like {"type":"bearer","token":"..."}`, syntax.Offset)
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf(`webhook credential: is a JSON %s: write an object like {"type":"bearer","token":"..."}, or an array of one or two`, kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("webhook credential: member %s is a %s and must be a %s", kind.Field, kind.Value, kind.Type)
	}
	return fmt.Errorf("webhook credential: %w: check its spelling against Vapi's authenticationPlan", err)
}

// Request is a webhook as it was received.
type Request struct {
	Method string
	// URL is the server URL as it stands in Vapi. Only a payload format with {url} reads it.
	URL string
	// Header's names may be in any case.
	Header http.Header
	// Body is the raw body, after any transport encoding (API Gateway's base64) is undone.
	Body []byte
}

// Verifier says whether a webhook comes from someone who knows the credential. It is safe for concurrent use. The zero
// Verifier refuses everything; build one with [NewVerifier].
type Verifier struct {
	credentials []webhookCredential
	off         bool
}

// webhookCredential is a Plan made ready for use.
type webhookCredential interface {
	verify(r *Request, now time.Time) error
	sign(r *Request, now time.Time)
}

// NewVerifier makes a Verifier of one plan or two. Its errors say which member is wrong and hold no secret.
func NewVerifier(plans ...Plan) (*Verifier, error) {
	if len(plans) < 1 || len(plans) > 2 {
		return nil, fmt.Errorf("webhook credential: %d plans: give one, or two while a credential is rotated", len(plans))
	}
	v := new(Verifier)
	for _, p := range plans {
		credential, err := p.compile()
		if err != nil {
			return nil, err
		}
		if credential == nil {
			v.off = true
			continue
		}
		v.credentials = append(v.credentials, credential)
	}
	if v.off && len(plans) > 1 {
		return nil, errors.New(`webhook credential: {"type":"none"} beside another plan would let everybody in: remove one of the two`)
	}
	return v, nil
}

// Off reports whether verification is switched off (type "none").
func (v *Verifier) Off() bool { return v.off }

// Verify returns nil for an authentic webhook, else an error that wraps [ErrUnauthorized] and says for the operator's log
// why, without any secret or header value. Every plan is tried, whatever the earlier ones said.
func (v *Verifier) Verify(r Request, now time.Time) error {
	if v.off {
		return nil
	}
	accepted := false
	reasons := make([]string, 0, len(v.credentials))
	for _, credential := range v.credentials {
		if err := credential.verify(&r, now); err != nil {
			reasons = append(reasons, err.Error())
			continue
		}
		accepted = true
	}
	if accepted {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnauthorized, strings.Join(reasons, "; "))
}

// Sign sets the headers that Vapi would send with r under this plan, for senders that stand in for Vapi. A message id
// that is already there is kept; the timestamp is written in seconds. It returns an error for a plan that [NewVerifier]
// would refuse.
func (p Plan) Sign(r *Request, now time.Time) error {
	credential, err := p.compile()
	if err != nil || credential == nil {
		return err
	}
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	credential.sign(r, now)
	return nil
}

// compile checks the plan. Type "none" gives nil.
func (p Plan) compile() (webhookCredential, error) {
	switch p.Type {
	case "none":
		if p != (Plan{Type: p.Type}) {
			return nil, errors.New(`webhook credential: type "none" has no further members: remove them, or name the type that they belong to`)
		}
		return nil, nil
	case "secret":
		if p != (Plan{Type: p.Type, Secret: p.Secret}) {
			return nil, errors.New(`webhook credential: type "secret" has the member secret and no other`)
		}
		return newTokenCredential("secret", p.Secret, "X-Vapi-Secret", "")
	case "bearer":
		if p != (Plan{Type: p.Type, Token: p.Token, HeaderName: p.HeaderName, BearerPrefixEnabled: p.BearerPrefixEnabled}) {
			return nil, errors.New(`webhook credential: type "bearer" has the members token, headerName and bearerPrefixEnabled and no other`)
		}
		scheme := "Bearer"
		if p.BearerPrefixEnabled != nil && !*p.BearerPrefixEnabled {
			scheme = ""
		}
		return newTokenCredential("token", p.Token, cmp.Or(p.HeaderName, "Authorization"), scheme)
	case "hmac":
		if p.Secret != "" || p.Token != "" || p.HeaderName != "" || p.BearerPrefixEnabled != nil {
			return nil, errors.New(`webhook credential: type "hmac" has none of the members secret, token, headerName and bearerPrefixEnabled: remove them`)
		}
		return newHMACCredential(p)
	case "oauth2":
		return nil, errOAuth2
	case "":
		return nil, errors.New(`webhook credential: the member type is missing: add "bearer", "hmac", "secret" or "none"`)
	}
	return nil, errors.New(`webhook credential: type must be "bearer", "hmac", "secret" or "none"`)
}

// tokenCredential is a value that is sent as it is: the legacy secret and the bearer token.
type tokenCredential struct {
	header string
	scheme string // "" where the value stands alone
	token  string
	// digest is the token's SHA-256. Digests are compared instead of tokens so that the time does not tell their length.
	digest [sha256.Size]byte
}

func newTokenCredential(member, token, header, scheme string) (*tokenCredential, error) {
	switch {
	case token == "":
		return nil, fmt.Errorf("webhook credential: %s is empty: give the value that Vapi has", member)
	case !fitsHeader(token):
		return nil, fmt.Errorf("webhook credential: %s has a line break, a control character or a space at an end, which no header can carry: remove it", member)
	case !headerNameValid(header):
		return nil, errors.New("webhook credential: headerName is not a header name")
	}
	return &tokenCredential{header, scheme, token, sha256.Sum256([]byte(token))}, nil
}

func (c *tokenCredential) verify(r *Request, _ time.Time) error {
	value, err := soleHeader(r.Header, c.header)
	if err != nil {
		return err
	}
	if c.scheme != "" {
		scheme, rest, found := strings.Cut(value, " ")
		if !found || !strings.EqualFold(scheme, c.scheme) {
			return fmt.Errorf("header %s does not begin with %q", c.header, c.scheme+" ")
		}
		value = strings.TrimLeft(rest, " ")
	}
	digest := sha256.Sum256([]byte(value))
	if subtle.ConstantTimeCompare(digest[:], c.digest[:]) != 1 {
		return fmt.Errorf("header %s does not hold the expected value", c.header)
	}
	return nil
}

func (c *tokenCredential) sign(r *Request, _ time.Time) {
	value := c.token
	if c.scheme != "" {
		value = c.scheme + " " + value
	}
	r.Header.Set(c.header, value)
}

// hmacCredential is a signature over a formatted payload.
type hmacCredential struct {
	newHash                                           func() hash.Hash
	key                                               []byte
	base64                                            bool // else hex
	prefix                                            string
	signatureHeader, timestampHeader, messageIDHeader string
	payload                                           []payloadPart
	timestamped, identified                           bool // whether the payload has {timestamp}, {svix-id}
}

// payloadPart is a literal, or a placeholder with its braces.
type payloadPart struct {
	literal     []byte
	placeholder string
}

func newHMACCredential(p Plan) (*hmacCredential, error) {
	c := &hmacCredential{
		key:             []byte(p.SecretKey),
		prefix:          p.SignaturePrefix,
		signatureHeader: cmp.Or(p.SignatureHeader, "x-signature"),
		timestampHeader: cmp.Or(p.TimestampHeader, "x-timestamp"),
		messageIDHeader: p.MessageIDHeader,
	}
	if p.SecretIsBase64 {
		// '_' is not in the standard alphabet, so a prefix can't be taken for a part of the key.
		secret := strings.TrimRight(strings.TrimPrefix(p.SecretKey, "whsec_"), "=")
		key, err := base64.RawStdEncoding.Strict().DecodeString(secret)
		if err != nil || strings.ContainsAny(secret, "\r\n") {
			return nil, errors.New("webhook credential: secretKey is not base64 in the standard alphabet: correct it, or set secretIsBase64 to false")
		}
		c.key = key
	}
	if len(c.key) == 0 {
		return nil, errors.New("webhook credential: secretKey is empty: give the value that Vapi has")
	}
	switch p.Algorithm {
	case "sha256":
		c.newHash = sha256.New
	case "sha512":
		c.newHash = sha512.New
	case "sha1":
		c.newHash = sha1.New
	default:
		return nil, errors.New(`webhook credential: algorithm must be "sha256", "sha512" or "sha1"`)
	}
	switch p.SignatureEncoding {
	case "", "hex":
	case "base64":
		c.base64 = true
	default:
		return nil, errors.New(`webhook credential: signatureEncoding must be "hex" or "base64"`)
	}
	if !fitsHeader(p.SignaturePrefix + "x") {
		return nil, errors.New("webhook credential: signaturePrefix has a line break, a control character or a space at its beginning, which no header can carry: remove it")
	}

	withTimestamp := p.IncludeTimestamp == nil || *p.IncludeTimestamp
	format := p.PayloadFormat
	switch {
	case format == "" && withTimestamp:
		format = "{timestamp}.{body}"
	case format == "":
		format = "{body}"
	}
	parts, err := parsePayloadFormat(format)
	if err != nil {
		return nil, fmt.Errorf("webhook credential: %w", err)
	}
	c.payload = parts
	for _, part := range parts {
		c.timestamped = c.timestamped || part.placeholder == "{timestamp}"
		c.identified = c.identified || part.placeholder == "{svix-id}"
	}
	if c.timestamped && !withTimestamp {
		return nil, errors.New("webhook credential: includeTimestamp is false and payloadFormat has {timestamp}: change one of the two to what Vapi has")
	}
	if c.identified && c.messageIDHeader == "" {
		return nil, errors.New("webhook credential: payloadFormat has {svix-id}: set messageIdHeader to the header that holds it (svix-id in Svix's style)")
	}

	headers := []string{c.signatureHeader}
	if c.timestamped {
		headers = append(headers, c.timestampHeader)
	}
	if c.identified {
		headers = append(headers, c.messageIDHeader)
	}
	for i, name := range headers {
		if !headerNameValid(name) {
			return nil, errors.New("webhook credential: signatureHeader, timestampHeader or messageIdHeader is not a header name")
		}
		for _, other := range headers[:i] {
			if strings.EqualFold(name, other) {
				return nil, errors.New("webhook credential: signatureHeader, timestampHeader and messageIdHeader must be different headers")
			}
		}
	}
	return c, nil
}

// parsePayloadFormat splits a payload format. A placeholder that stands there twice is refused, since Vapi does not
// document whether it fills in the second one.
func parsePayloadFormat(format string) ([]payloadPart, error) {
	var parts []payloadPart
	seen := make(map[string]bool)
	for rest := format; rest != ""; {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			parts = append(parts, payloadPart{literal: []byte(rest)})
			break
		}
		if open > 0 {
			parts = append(parts, payloadPart{literal: []byte(rest[:open])})
		}
		length := strings.IndexByte(rest[open:], '}') + 1
		if length == 0 {
			return nil, errors.New("payloadFormat has a { without its }")
		}
		placeholder := rest[open : open+length]
		switch placeholder {
		case "{body}", "{timestamp}", "{method}", "{url}", "{svix-id}":
		default:
			return nil, fmt.Errorf("payloadFormat has the unknown placeholder %q: there are {body}, {timestamp}, {method}, {url} and {svix-id}", placeholder)
		}
		if seen[placeholder] {
			return nil, fmt.Errorf("payloadFormat has %s twice", placeholder)
		}
		seen[placeholder] = true
		parts = append(parts, payloadPart{placeholder: placeholder})
		rest = rest[open+length:]
	}
	if !seen["{body}"] {
		return nil, errors.New("payloadFormat has no {body}, so nothing would protect the body: add it")
	}
	return parts, nil
}

func (c *hmacCredential) verify(r *Request, now time.Time) error {
	value, err := soleHeader(r.Header, c.signatureHeader)
	if err != nil {
		return err
	}
	// Everything cheap comes before the body is hashed.
	candidates := c.candidates(value)
	if len(candidates) == 0 {
		return fmt.Errorf("header %s holds no signature with the credential's prefix, encoding and algorithm", c.signatureHeader)
	}
	var timestamp, messageID string
	if c.timestamped {
		if timestamp, err = soleHeader(r.Header, c.timestampHeader); err != nil {
			return err
		}
		at, ok := parseSignedTimestamp(timestamp)
		if !ok {
			return fmt.Errorf("header %s holds no timestamp (seconds, milliseconds or ISO 8601)", c.timestampHeader)
		}
		if age := now.Sub(at); age.Abs() > replayWindow {
			return fmt.Errorf("header %s is more than %v off the clock here: a replay, or a clock that is wrong", c.timestampHeader, replayWindow)
		}
	}
	if c.identified {
		if messageID, err = soleHeader(r.Header, c.messageIDHeader); err != nil {
			return err
		}
		if messageID == "" {
			return fmt.Errorf("header %s is empty", c.messageIDHeader)
		}
	}
	want := []byte(c.signature(r, timestamp, messageID))
	fits := 0
	for _, candidate := range candidates {
		fits |= subtle.ConstantTimeCompare([]byte(candidate), want)
	}
	if fits != 1 {
		return fmt.Errorf("the signature in header %s does not fit the request: another secret, another payload format, or a changed body", c.signatureHeader)
	}
	return nil
}

func (c *hmacCredential) sign(r *Request, now time.Time) {
	var timestamp, messageID string
	if c.timestamped {
		timestamp = strconv.FormatInt(now.Unix(), 10)
		r.Header.Set(c.timestampHeader, timestamp)
	}
	if c.identified {
		if messageID = r.Header.Get(c.messageIDHeader); messageID == "" {
			messageID = "msg_" + rand.Text()
			r.Header.Set(c.messageIDHeader, messageID)
		}
	}
	r.Header.Set(c.signatureHeader, c.prefix+c.signature(r, timestamp, messageID))
}

// signature is the encoded HMAC: hex in lower case, or padded base64. The parts are written one by one, so that a large
// body is not copied.
func (c *hmacCredential) signature(r *Request, timestamp, messageID string) string {
	mac := hmac.New(c.newHash, c.key)
	for _, part := range c.payload {
		switch part.placeholder {
		case "{body}":
			mac.Write(r.Body)
		case "{timestamp}":
			io.WriteString(mac, timestamp)
		case "{svix-id}":
			io.WriteString(mac, messageID)
		case "{method}":
			io.WriteString(mac, r.Method)
		case "{url}":
			io.WriteString(mac, r.URL)
		default:
			mac.Write(part.literal)
		}
	}
	if c.base64 {
		return base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// candidates are the signatures in a header value, without the prefix and in the form that signature gives. Svix's style
// has several of them with spaces between; the value as a whole counts too, for a prefix that has a space in it.
func (c *hmacCredential) candidates(value string) []string {
	if strings.Count(value, " ") >= maxSignatures {
		return nil
	}
	fields := strings.Split(value, " ")
	if len(fields) > 1 {
		fields = append(fields, value)
	}
	size := c.newHash().Size()
	var found []string
	for _, field := range fields {
		signature, ok := strings.CutPrefix(field, c.prefix)
		switch {
		case !ok:
		case !c.base64 && len(signature) == hex.EncodedLen(size):
			found = append(found, strings.ToLower(signature))
		case c.base64 && len(signature) == base64.StdEncoding.EncodedLen(size):
			found = append(found, signature)
		case c.base64 && len(signature) == base64.RawStdEncoding.EncodedLen(size):
			padding := base64.StdEncoding.EncodedLen(size) - len(signature)
			found = append(found, signature+strings.Repeat("=", padding))
		}
	}
	return found
}

// parseSignedTimestamp reads seconds, milliseconds or ISO 8601. Vapi does not document which it sends.
func parseSignedTimestamp(s string) (time.Time, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		switch {
		case n < 0:
			return time.Time{}, false
		case n < 1e11: // as milliseconds this would be in 1973, as seconds it reaches the year 5138
			return time.Unix(n, 0), true
		}
		return time.UnixMilli(n), true
	}
	at, err := time.Parse(time.RFC3339, s)
	return at, err == nil
}

// soleHeader is the value of a header that was sent once. Names are compared in any case, since not every sender or
// gateway makes them canonical.
func soleHeader(header http.Header, name string) (string, error) {
	var value string
	times := 0
	for key, values := range header {
		if strings.EqualFold(key, name) {
			for _, value = range values {
				times++
			}
		}
	}
	switch times {
	case 0:
		return "", fmt.Errorf("header %s is missing", name)
	case 1:
		return value, nil
	}
	return "", fmt.Errorf("header %s was sent more than once", name)
}

// fitsHeader reports whether a header can carry the value unchanged.
func fitsHeader(value string) bool {
	return value == strings.TrimSpace(value) && !strings.ContainsFunc(value, unicode.IsControl)
}

// headerNameValid reports whether name is a token (RFC 9110, section 5.1).
func headerNameValid(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return false
		}
		return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
